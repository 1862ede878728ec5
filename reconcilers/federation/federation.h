/* The table through which reconcilers drive a federation: the second place where control plane and
 * data plane meet (the first are objects).
 *
 * A federation is what one FLProject trains with; its root aggregator is asked for everything. All
 * functions hand over or tell what is known, and return at once: connections, polls, retries and
 * transfers are the driver's, on a thread of its own; `changed` says when something new is known.
 * Nothing is remembered over a restart of the control plane: what is wanted is said again (it is
 * idempotent there), what is known is asked for again. So a caller asks in each pass, and waits to
 * be woken where it is told FL_FEDERATION_UNKNOWN.
 *
 * All functions: any thread; results are in the caller's arena. Every driver passes
 * federation_contract_test.c: `http` (the real one), `fake` (tests and the simulation). */
#ifndef FL_RECONCILERS_FEDERATION_H
#define FL_RECONCILERS_FEDERATION_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "workloads/protocol/protocol.h"

#include <stdbool.h>
#include <stdint.h>

/* Where the root is and who may drive it, as a pass finds it in status and Secret. Another address
 * or token than before replaces the former. Copied. */
struct fl_federation_at {
    const char *project_uid; /* the federation's key */
    const char *ns, *name;   /* of the FLProject: for `changed`, and for people */
    const char *address;     /* "http://…", no slash at the end */
    const char *token;       /* of the control interface; may be NULL; never logged */
    const char *ca;          /* PEM that its certificate must descend from; NULL: the system's */
};

enum fl_federation_known {
    FL_FEDERATION_UNKNOWN = 1, /* not asked yet, or the answer is under way */
    FL_FEDERATION_ABSENT,      /* the root answers, and has no such round */
    FL_FEDERATION_PAST,        /* the root has begun a later one, and forgotten it */
    FL_FEDERATION_KNOWN,
    FL_FEDERATION_UNREACHABLE, /* since when and why `message` says; the driver goes on trying */
};

struct fl_federation_round {
    enum fl_federation_known known;
    const char *message;           /* UNREACHABLE: why; or why the last start was refused */
    int refused;                   /* FL_E_…: the root refused the order when it was given last */
    bool starting;                 /* a start is on its way: what is known is from before it */
    struct fl_round_report report; /* KNOWN */
};

struct fl_federation_status {
    enum fl_federation_known known;
    const char *message;
    struct fl_status status; /* KNOWN: members, available, learners, committed, model … */
};

/* A model on its way between the root and the content store. */
enum fl_transfer_state { FL_TRANSFER_RUNNING = 1, FL_TRANSFER_DONE, FL_TRANSFER_FAILED };
struct fl_transfer {
    enum fl_transfer_state state;
    int64_t done, all;   /* bytes; all 0: not known. DONE: `all` is its size */
    int failed;          /* FAILED: FL_E_…, NOT_FOUND where there is no such model there; … */
    const char *message; /* … and why. Told once: the next call begins anew */
    const char *digest;  /* import_model, DONE: what it is */
};

/* Any thread; must not call back into the driver. */
typedef void fl_federation_changed_fn(void *user, const char *ns, const char *project);

struct fl_federation_driver;
struct fl_federation_ops {
    const char *name;
    void (*destroy)(struct fl_federation_driver *self);

    /* must: what the root says of itself and its members. */
    int (*status)(struct fl_federation_driver *self, const struct fl_federation_at *at,
                  struct fl_arena *arena, struct fl_federation_status *ret_status,
                  struct fl_error *err);
    /* must: begin this round (PUT /v1/rounds/N), once; the same order again does nothing while the
     * root has it or it is on its way. Its base model must be at the root (put_model), or
     * `order->model` is NULL: then a learner makes the first model from the seed. A refusal is told
     * by observe_round; an order that was refused is given again when it is said again, but not
     * more often than about once a second. INVALID: the order breaks the protocol's bounds. */
    int (*start_round)(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       const struct fl_round_order *order, struct fl_error *err);
    /* must: followed from the first call on until forget or a terminal phase; asked for again by
     * each call while it is ABSENT. */
    int (*observe_round)(struct fl_federation_driver *self, const struct fl_federation_at *at,
                         int64_t round, struct fl_arena *arena,
                         struct fl_federation_round *ret_round, struct fl_error *err);
    int (*abort_round)(struct fl_federation_driver *self, const struct fl_federation_at *at,
                       int64_t round, struct fl_error *err);
    /* must: bring a model from the content store to the root, or back. Both end at once where it is
     * there already. What the root said of a round counts no more once a model is NOT_FOUND there:
     * it is asked for again. `size` bounds what is taken; 0: the driver's own bound. */
    int (*put_model)(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, struct fl_arena *arena, struct fl_transfer *ret_transfer,
                     struct fl_error *err);
    int (*get_model)(struct fl_federation_driver *self, const struct fl_federation_at *at,
                     const char *digest, int64_t size, struct fl_arena *arena,
                     struct fl_transfer *ret_transfer, struct fl_error *err);
    /* must: bring a model from elsewhere ("https://…", "file:///…") into the content store.
     * Bounded; INVALID where it is no safetensors file. Apart from all federations. */
    int (*import_model)(struct fl_federation_driver *self, const char *uri, const char *ns,
                        const char *project, struct fl_arena *arena,
                        struct fl_transfer *ret_transfer, struct fl_error *err);
    /* must: where aggregators of the tiers below can be reached (PUT /v1/children). */
    int (*children)(struct fl_federation_driver *self, const struct fl_federation_at *at,
                    const struct fl_children *children, struct fl_error *err);
    /* must: drop all that is known and under way of this federation. What trains goes on. */
    void (*forget)(struct fl_federation_driver *self, const char *project_uid);
};

/* First member of each driver's own struct. */
struct fl_federation_driver {
    const struct fl_federation_ops *ops;
};

/* INVALID for a table that lacks a must. */
int fl_federation_check(const struct fl_federation_ops *ops, struct fl_error *err);

#endif
