/* What should happen to a Workload's instances: all of the policy, as one pure function.
 *
 * From the spec, the nodes, the last run of each instance and the time follow what to do now, what
 * to show, and when to look again. Nothing is remembered between calls but what runs carry, so it
 * may be asked at any time, twice, or after a crash. It is safe against clocks that jump: a time in
 * the future counts as now for deadlines, and as long ago for delays.
 *
 * Everything is in the arena or lent by the input. Any thread. */
#ifndef FL_RECONCILERS_DECIDE_H
#define FL_RECONCILERS_DECIDE_H

#include "reconcilers/workload/orchestrator_driver.h"

/* What is done with a Workload as a whole. */
enum fl_workload_intent {
    FL_INTENT_RUN = 0,
    FL_INTENT_SUSPEND, /* stop all, keep the records */
    FL_INTENT_DELETE,  /* stop all, remove what has ended */
};

struct fl_decide_input {
    enum fl_workload_intent intent;
    const struct fl_workload_spec *spec; /* with the orchestrator's defaults */
    const char *spec_hash;
    const struct fl_node_list *nodes;
    /* By node: nothing new may be started there. NULL: may be everywhere. An instance that has its
     * place there keeps it. */
    const bool *cordoned;
    const struct fl_run_list *runs;
    int64_t now_us;        /* realtime */
    int64_t node_grace_ms; /* how long a node may be not ready before its instances move */
};

enum fl_action_type { FL_ACTION_START = 1, FL_ACTION_STOP, FL_ACTION_REMOVE };

struct fl_action {
    enum fl_action_type type;
    int64_t index;
    /* Of a start. */
    int64_t number, restarts, failures, first_us;
    const char *cluster, *node;
    /* Of a stop. */
    const char *reason;
    int64_t grace_ms;
};

enum fl_verdict_type {
    FL_VERDICT_READY = 1, /* all is as it should be: `reason` is Ready's */
    FL_VERDICT_NOT_YET,   /* something will change by itself, or at look_again_ms */
    FL_VERDICT_STALLED,   /* only a new spec helps */
};

struct fl_decision {
    struct fl_action *actions; /* at most one an instance */
    size_t action_count;

    /* What to show, as if nothing had been done yet. */
    enum fl_verdict_type verdict;
    const char *reason, *message; /* in the words of the CRD */
    const char *no_place;         /* why an instance has none; NULL: all have one */
    size_t living;                /* runs of all indexes, also of those to go */
    size_t left;                  /* and with records that have ended */
    struct fl_workload_status_replicas replicas;
    struct fl_workload_status_instance_list instances; /* by index, all */

    int64_t look_again_ms; /* in so long, if nothing happens before; < 0: need not */
};

void fl_decide(const struct fl_decide_input *input, struct fl_arena *arena,
               struct fl_decision *ret_decision);

/* Of what needs a new run when it changes: not of instances, restart policy, suspend, deadlines or
 * placement. Arena. */
const char *fl_workload_spec_hash(const struct fl_workload *workload, struct fl_arena *arena);

#endif
