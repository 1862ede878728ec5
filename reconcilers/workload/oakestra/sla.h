/* From a run to a service level agreement ("SLA") of Oakestra's, and Oakestra's rules for one.
 *
 * Pure functions: the same run is the same SLA. What a container in Oakestra cannot have is said
 * (INVALID) and not left out. Values of Secrets are in its environment, since Oakestra has no other
 * place for them: an SLA is never logged.
 *
 * Oakestra knows neither files nor the node's folders. A program that is `flops` gets them from its
 * environment: `flops unpack` (FL_SLA_UNPACK) puts in place what OAK_PARCEL holds and becomes the
 * program. Any thread. */
#ifndef FL_RECONCILERS_OAKESTRA_SLA_H
#define FL_RECONCILERS_OAKESTRA_SLA_H

#include "lib/json.h"
#include "reconcilers/workload/oakestra/names.h"
#include "reconcilers/workload/oakestra/root.h"
#include "reconcilers/workload/orchestrator_driver.h"

#define OAK_MARK       "FLOPS_RUN" /* whose it is, and what an adoption needs to know */
#define OAK_PARCEL     "FLOPS_PARCEL"
#define OAK_DATA       "/var/lib/flops/data" /* where a node's data sets are in a container */
#define OAK_PORTS_MAX  32
#define OAK_PORT_FIRST 20000 /* of those that we choose */
#define OAK_PORT_LAST  29999

struct oak_port {
    const char *name;
    int64_t port, host_port; /* host_port 0: reached by the service address only */
    bool udp;
};

struct oak_sla_input {
    const struct fl_run_spec *run;
    const char *ns;            /* of applications and services */
    const char *program_image; /* what runs processes that are `flops`; NULL: nothing does */
    const struct oak_cluster *cluster; /* where it shall run; NULL: anywhere */
    bool legacy;                       /* `clusters` and `addons` in place of `direct` */
    bool addons;                       /* the `addons` constraint does no harm here */
};

struct oak_sla {
    json_t *service; /* one microservice, without addresses; the arena's */
    struct oak_port ports[OAK_PORTS_MAX];
    size_t port_count;
    struct fl_node_capacity requested;
};

/* INVALID for what cannot be on Oakestra. */
int oak_sla_make(const struct oak_sla_input *input, struct fl_arena *arena, struct oak_sla *ret_sla,
                 struct fl_error *err);
/* A service address for the microservice. */
void oak_sla_put_address(json_t *service, const char *rr_ip);
/* One SLA around microservices (stolen; NULL: none yet). `app_id` NULL: of a new application. The
 * caller owns it. */
struct oak_sla_frame {
    const char *customer, *app_id, *app, *ns, *desc;
};
json_t *oak_sla_wrap(const struct oak_sla_frame *frame, json_t *services);
/* INVALID, with the path of what is wrong: what a root refuses with 422. */
int oak_sla_check(const json_t *sla, struct fl_error *err);

/* The mark in an environment. */
struct oak_mark {
    const char *uid, *spec_hash;
    int64_t index, number, restarts, failures, first_us;
};
const char *oak_mark_write(struct fl_arena *arena, const struct oak_mark *mark);
bool oak_mark_read(struct fl_arena *arena, const char *text, struct oak_mark *ret_mark);

#endif
