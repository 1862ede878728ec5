/* A builder for tests and the simulation: builds by plan, one after the other, in the virtual time
 * of env.
 *
 * What becomes of a build is asked of the test when it begins; what it makes has a digest of its
 * own each time, so that who builds twice is seen. Nothing happens by itself: the owner moves the
 * clock and steps. Builds and all that is known of them are the process': a crash takes both away,
 * as the real builder's children end with it. One thread. */
#ifndef FL_RECONCILERS_BUILDER_FAKE_H
#define FL_RECONCILERS_BUILDER_FAKE_H

#include "reconcilers/imagebuild/builder.h"

struct fl_builder_fake;

/* All zero: it succeeds at once. */
struct fl_builder_fake_plan {
    int64_t run_ms;       /* -1: for ever, so until its deadline */
    int code;             /* how it fails; 0: it does not */
    const char *stage;    /* the stage it fails in; NULL: "Base" */
    const char *message;  /* of the failure */
    const char *log_tail; /* may be NULL */
};
/* A build begins: what becomes of it. Texts are copied. */
typedef void fl_builder_fake_plan_fn(void *user, const char *key, const struct fl_build *build,
                                     struct fl_builder_fake_plan *plan);

/* `env` is lent. */
struct fl_builder_fake *fl_builder_fake_create(const struct fl_env *env);
void fl_builder_fake_destroy(struct fl_builder_fake *fake);
/* Lent; its `destroy` does nothing. */
struct fl_builder *fl_builder_fake_builder(struct fl_builder_fake *fake);
void fl_builder_fake_on_change(struct fl_builder_fake *fake, fl_builder_changed_fn *changed,
                               void *user);
void fl_builder_fake_on_plan(struct fl_builder_fake *fake, fl_builder_fake_plan_fn *plan,
                             void *user);

/* Begins and ends what is due, and tells; how many. */
size_t fl_builder_fake_step(struct fl_builder_fake *fake);
int64_t fl_builder_fake_next_due_ms(const struct fl_builder_fake *fake); /* INT64_MAX: nothing */
void fl_builder_fake_crash(struct fl_builder_fake *fake);

size_t fl_builder_fake_begun(const struct fl_builder_fake *fake); /* builds, so far */
size_t fl_builder_fake_known(const struct fl_builder_fake *fake); /* keys, in whatever state */
/* The keys that begin with `prefix` (an object's uid), and how many of them are not ended. */
size_t fl_builder_fake_live(const struct fl_builder_fake *fake, const char *prefix,
                            size_t *ret_live);
/* What was asked for under a key, of what is known: "registry/repository user password tags…,
 * model"; NULL: nothing. In the arena. */
const char *fl_builder_fake_asked(const struct fl_builder_fake *fake, const char *key,
                                  struct fl_arena *arena);

#endif
