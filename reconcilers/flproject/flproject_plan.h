/* Which services a federation has: the root, the tiers' aggregators and the learners, as Workloads.
 *
 * A pure function of the project, the places and what runs already. Groups follow from the nodes
 * that match (tier by tier, by cluster, node or label), and names from the groups, so that nothing
 * is renamed when another group comes or goes. A service needs the address of the one above it:
 * while that is not known it keeps the one it has, and is not made yet where it has none. So a
 * restart or a pause above restarts nothing below, and another address only what depends on it.
 *
 * All is in the arena or lent by the input. Any thread. */
#ifndef FL_RECONCILERS_FLPROJECT_PLAN_H
#define FL_RECONCILERS_FLPROJECT_PLAN_H

#include "api/gen/flops_types.h"

#define FL_FLPROJECT_ROOT   "root" /* the role of the root's Workload */
#define FL_FLPROJECT_SECRET "federation"
#define FL_FLPROJECT_TOKEN  "token" /* key within the Secret, and the file's name */

/* A place as its EdgeNode shows it. */
struct fl_flproject_node {
    const char *cluster, *name;
    struct fl_string_map labels;
    struct fl_string_list data_tags;
    bool ready;
    bool closed; /* nothing new may be started there */
};

struct fl_flproject_services {
    struct fl_flproject_service *items; /* parents before their children; the root is the first */
    size_t count;
};

struct fl_flproject_plan_input {
    const json_t *json; /* the project, for what is handed on as it is */
    const struct fl_project *project;
    const struct fl_flproject_node *nodes;
    size_t node_count;
    struct fl_workload *const *workloads; /* the children there are */
    size_t workload_count;
    const char *learner_image, *aggregator_image; /* NULL: a program of the node */
    bool pause;                                   /* services are to be scaled down */
};

struct fl_flproject_service {
    const char *role; /* of the child: "root", "edge/c1", "learners/edge/c1" */
    const char *id;   /* of an aggregator, among its fellows; of learners NULL */
    const char *tier; /* its name; "root"; of learners NULL */
    const struct fl_flproject_service *parent;
    int64_t desired;                   /* instances */
    int64_t first;                     /* number of its first learner within the project */
    struct fl_workload *workload;      /* to be applied; NULL: the address above is not known yet */
    const struct fl_workload *current; /* the child as it is; NULL: there is none */
    const char *address;               /* "http://…"; NULL: not known now */
    int64_t ready;                     /* instances */
};

struct fl_flproject_plan {
    struct fl_flproject_services services;
    int64_t learners; /* that should run */
    size_t places;    /* nodes that learners may be on */
    const char *lack; /* why there are fewer learners than were asked for; NULL: there are not */
};

void fl_flproject_plan(const struct fl_flproject_plan_input *input, struct fl_arena *arena,
                       struct fl_flproject_plan *ret_plan);

#endif
