/* InferenceServers in the simulation: what is shared by users and oracles (serving.c,
 * serving_oracles.c) and by routers and requests (serving_routers.c). */
#ifndef FL_E2E_SIM_SERVING_H
#define FL_E2E_SIM_SERVING_H

#include "e2e/sim/sim.h"
#include "reconcilers/inferenceserver/router_driver.h"
#include "reconcilers/workload/orchestrator_fake.h"
#include "workloads/route/routes.h"

#define SERVING_NS      "default"
#define SERVING_NAMES   2
#define SERVING_PROJECT "p"

extern const struct fl_gvr serving_servers, serving_models, serving_workloads;
extern const char *const serving_names[SERVING_NAMES];

/* What the oracles must know of what users and the outside did to a server's object. */
struct serving_past {
    char uid[64];
    int64_t empty_generation;   /* the last at which nobody may serve: none asked for, Recreate */
    int64_t suspend_generation; /* the last at which all are stopped at once */
    int64_t canary_generation;  /* from this one on the strategy has been Canary; 0: it is not */
    bool meddled;               /* somebody took away what the reconciler made */
};

struct serving {
    struct sim *sim;
    struct fl_fake_world *world;
    struct fl_contents *contents;
    char folder[64];
    struct fl_map *routers; /* uid of a router's Workload → struct serving_router */
    struct fl_map *sets;    /* uid of a set's Workload → "stable", "other", as it was last seen */
    uint64_t seen_revision; /* then */
    struct fl_map *stopping; /* runs that were seen stopping */
    struct serving_past past[SERVING_NAMES];
    struct fl_router_driver *driver; /* of the process that lives */
    unsigned kills_left, killed;
    enum sim_fault fault; /* of the call of the orchestrator under way */
    int64_t last_round;
    uint64_t puts;     /* tables that came into force */
    int64_t mended_ms; /* when what is broken comes up after all */
    bool cut;          /* routers cannot be reached */
};

/* serving_models.c: what models are like, by their name ("sha256:…" or an image). */
/* Its servers do not become ready before the end. */
bool serving_is_broken(const char *model);
bool serving_is_bad(const char *model); /* it fails all requests */

/* What is of an InferenceServer. Borrowed of `list`, all Workloads. */
const char *serving_owner_of(const json_t *object); /* its uid; NULL */
const char *serving_revision_of(const json_t *workload);
const char *serving_model_of(const json_t *workload);

/* serving_routers.c */
struct serving_router {
    struct serving *serving;
    struct fl_routes *routes; /* NULL: it does not live */
    json_t *kept;             /* the table on its disk */
    int64_t number;           /* of the run */
    int64_t port;             /* of its admin */
    struct serving_request *requests;
    size_t request_count;
};
void serving_router_free(void *router);
struct fl_router_driver *serving_driver_create(struct serving *serving, struct sim_process *process,
                                               fl_router_changed_fn *changed, void *user);
/* What routers do by themselves: begin and end, answer requests, hear of tables. True: something
 * happened that others may want to know. */
bool serving_routers_step(struct serving *serving, bool calm);
int64_t serving_routers_due_ms(const struct serving *serving);
/* Whether a router that lives may send something to this address just now. */
bool serving_is_called(const struct serving *serving, int64_t port);

/* serving_oracles.c */
bool serving_watchful(struct sim *sim);
void serving_check_table(struct serving *serving, const struct fl_router_at *at,
                         const struct serving_router *router, const json_t *table);
bool serving_converged(struct sim *sim, struct fl_buf *why);

#endif
