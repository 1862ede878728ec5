/* Federations in memory and virtual time, for tests and the simulation.
 *
 * The world holds the roots, which outlive a control plane: what they were ordered, their rounds,
 * models and members. A driver is one control plane's door to it; a crash loses the driver, never
 * the world. A root is there from the first time it is asked for. Time passes only in
 * fl_fake_roots_step, which does what is due by env's monotonic clock: rounds progress by
 * themselves, questions are answered a moment later, models take their time. What becomes of a
 * round is planned when it is ordered: by a callback of the owner, else all goes well.
 *
 * Inside it is asserted that no round is committed twice. Models are small texts that follow from
 * what they were made of. One thread; `plan` and `changed` must not call back, `fault` may. */
#ifndef FL_RECONCILERS_FEDERATION_FAKE_H
#define FL_RECONCILERS_FEDERATION_FAKE_H

#include "lib/blobs.h"
#include "reconcilers/federation/federation.h"

struct fl_fake_roots;

struct fl_fake_roots *fl_fake_roots_create(const struct fl_env *env); /* env is lent */
void fl_fake_roots_destroy(struct fl_fake_roots *roots);              /* after its driver */
FL_DEFINE_CLEANUP(struct fl_fake_roots, fl_fake_roots_destroy)

/* A door; the one before it must have been destroyed. `content` is lent. */
struct fl_federation_driver *fl_federation_fake_create(struct fl_fake_roots *roots,
                                                       struct fl_blobs *content,
                                                       fl_federation_changed_fn *changed,
                                                       void *user);

/* What becomes of a round's attempts. */
struct fl_fake_round {
    int64_t wait_ms, train_ms, evaluate_ms;
    int64_t failing;    /* attempts that fail before one succeeds */
    const char *reason; /* of these; NULL: QuorumNotReached */
    int64_t examples;
    bool terse; /* it says nothing of learners below its members, as older ones do */
};
/* `plan` holds what is so by default: 10, 100 and 20 ms, none fails. */
typedef void fl_fake_round_fn(void *user, const struct fl_round_order *order,
                              struct fl_fake_round *plan);
void fl_fake_roots_on_plan(struct fl_fake_roots *roots, fl_fake_round_fn *plan, void *user);

/* Faults, asked for before and after each call of the driver. */
enum fl_fake_federation_op {
    FL_FAKE_FEDERATION_STATUS,
    FL_FAKE_FEDERATION_START,
    FL_FAKE_FEDERATION_OBSERVE,
    FL_FAKE_FEDERATION_ABORT,
    FL_FAKE_FEDERATION_PUT,
    FL_FAKE_FEDERATION_GET,
    FL_FAKE_FEDERATION_IMPORT,
    FL_FAKE_FEDERATION_CHILDREN,
};
enum fl_fake_federation_fault {
    FL_FAKE_FEDERATION_GOOD = 0,
    FL_FAKE_FEDERATION_ERROR,  /* UNAVAILABLE: before, and nothing was done; after, although it was
                                */
    FL_FAKE_FEDERATION_FORGET, /* before: says yes and does nothing */
    FL_FAKE_FEDERATION_CRASH,  /* this driver is dead from now on, and tells nobody */
};
typedef enum fl_fake_federation_fault
fl_fake_federation_fault_fn(void *user, enum fl_fake_federation_op op, bool after);
void fl_fake_roots_on_fault(struct fl_fake_roots *roots, fl_fake_federation_fault_fn *fault,
                            void *user);

/* From outside. Roots are named by their project's uid. */
void fl_fake_roots_set_members(struct fl_fake_roots *roots, const char *uid, int64_t members);
void fl_fake_roots_set_reachable(struct fl_fake_roots *roots, bool reachable);
/* It crashes and comes back; a round under way begins its next attempt. `lost`: its disk is new. */
void fl_fake_roots_restart(struct fl_fake_roots *roots, const char *uid, bool lost);
void fl_fake_roots_remove(struct fl_fake_roots *roots, const char *uid); /* with its project */
/* A model that imports find under this uri; NULL: no more. */
void fl_fake_roots_put_uri(struct fl_fake_roots *roots, const char *uri, const char *text);

int64_t fl_fake_roots_next_due_ms(const struct fl_fake_roots *roots); /* INT64_MAX: nothing */
size_t fl_fake_roots_step(struct fl_fake_roots *roots);               /* how much was due */

/* For oracles. */
struct fl_fake_committed {
    const char *uid, *base, *model;
    int64_t round, run;
};
/* Every commit that ever was, also of roots that lost their disk. */
void fl_fake_roots_each_commit(const struct fl_fake_roots *roots,
                               void (*each)(void *user, const struct fl_fake_committed *committed),
                               void *user);
/* The last round that this root knows to have committed; 0: none. */
int64_t fl_fake_roots_committed(const struct fl_fake_roots *roots, const char *uid);
/* Rounds that run now. */
size_t fl_fake_roots_running(const struct fl_fake_roots *roots);
struct fl_fake_roots_counts {
    size_t starts, aborts, transfers; /* that had an effect, so far */
};
struct fl_fake_roots_counts fl_fake_roots_count(const struct fl_fake_roots *roots);

#endif
