/* What becomes of a run on an Oakestra root: a pure decision.
 *
 * oak_judge looks at what is known of a run (its record) and at what the root said last (a sight),
 * brings the record up to date, and says the one call that is due. Whoever calls it keeps the
 * record durably before the call, makes the call, tells the result by oak_acted, and comes again
 * with a new sight. It never sleeps, asks nobody, and may be asked at any time, twice, or after a
 * crash.
 *
 * A run's way: asked → created → deployed → scheduled → running, and from anywhere → ending → gone.
 * Ending is when its instance is deleted, then its service, and `gone` when a list has neither. So
 * of two runs of an instance only one can be at the root. How it ended is decided when the ending
 * begins; the rules:
 *
 * - A sight from before the last call says nothing. Nothing is created that may be there already.
 * - What is lost is only believed when two lists in a row, some time apart, say so.
 * - The instance's own state counts, not the job's; the job's only for refusals.
 * - Each waiting state has a deadline of its own, which begins anew after the root was out of
 * reach.
 * - A program that ended is not started again by the cluster: FAILED is an end, and so is a waiting
 *   state after RUNNING.
 *
 * Texts are lent or in the record's arena. Any thread. */
#ifndef FL_RECONCILERS_OAKESTRA_CORE_H
#define FL_RECONCILERS_OAKESTRA_CORE_H

#include "reconcilers/workload/oakestra/root.h"
#include "reconcilers/workload/oakestra/sla.h"
#include "reconcilers/workload/orchestrator_driver.h"

/* The last run of an instance; on disk, but for `trouble`. Times are realtime. */
struct oak_record {
    const char *uid;
    int64_t index, number, restarts, failures;
    int64_t first_us, requested_us, started_us, ready_us;
    const char *spec_hash, *ns, *name, *cluster, *node;
    struct oak_port ports[OAK_PORTS_MAX];
    size_t port_count;
    struct fl_node_capacity requested;
    struct fl_run_exit previous; /* of the run before; reason NULL: none */

    /* At the root. */
    const char *service_id; /* NULL: not known to be there */
    const char *rr_ip, *public_ip, *image;
    const char *cluster_id;                       /* where it must come to; NULL: anywhere */
    int64_t instance;                             /* its number; -1: none seen */
    enum oak_status status;                       /* last seen, of the instance */
    int64_t status_us;                            /* since when */
    int64_t creates, deploys, undeploys, deletes; /* calls sent */
    int64_t acted_us;                             /* when the last was over */
    int64_t acted_turn; /* the same, counted by who calls; not kept over a restart */
    int64_t missing_us; /* since when lists do not have it; 0: they do */

    /* The end. */
    struct fl_run_exit exit; /* reason NULL: it shall run */
    bool gone;               /* and nothing of it is at the root */
    const char *trouble;     /* of the last call; for people; NULL */
};

struct oak_settings {
    int64_t schedule_ms; /* spec.oakestra.scheduleDeadline */
};

/* What the root said, as far as it is of this run. */
struct oak_sight {
    int64_t now_us;
    int64_t asked_us;  /* when the list was asked for, */
    int64_t turn;      /* and the same, counted: clocks can be set */
    int64_t silent_us; /* before which the root was out of reach; waiting is counted from then */
    const struct oak_service *service; /* NULL: it is not in the list */
    bool has_sla; /* it could be created: false for one from before a restart */
};

enum oak_act_type {
    OAK_NOTHING = 0,
    OAK_CREATE,
    OAK_DEPLOY,
    OAK_UNDEPLOY, /* `instance` */
    OAK_DELETE,   /* the service */
};
struct oak_act {
    enum oak_act_type type;
    int64_t instance;
    /* When to look again, realtime; 0: with the next list. */
    int64_t again_us;
    bool changed; /* the record did */
};

void oak_judge(struct oak_record *record, struct fl_arena *arena, const struct oak_sight *sight,
               const struct oak_settings *settings, struct oak_act *ret_act);
/* The call is about to be made: counts it. */
void oak_acting(struct oak_record *record, const struct oak_act *act, int64_t now_us);
/* It is over. `problem` NULL: it was received; else why not. */
void oak_acted(struct oak_record *record, struct fl_arena *arena, const char *problem,
               int64_t now_us, int64_t turn);
/* It shall end, as `reason` says; nothing where it is ending already. */
void oak_call_back(struct oak_record *record, struct fl_arena *arena, const char *reason,
                   int64_t now_us);

/* Whether the root must be asked soon, not only with the others. */
bool oak_is_settled(const struct oak_record *record);

#endif
