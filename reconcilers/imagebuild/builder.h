/* The table through which the ImageBuild reconciler builds: for people who add a builder of another
 * kind, and for tests.
 *
 * A build runs in the background under a key (the object's uid and generation of attempts), one at
 * a time, others wait; `changed` says when something new is known. Nothing is remembered over a
 * restart of the control plane: what is not known any more is begun anew, and finds its layers
 * made. All functions: any thread, at once; results are in the caller's arena.
 * builder_contract_test.c says the rest. */
#ifndef FL_RECONCILERS_BUILDER_H
#define FL_RECONCILERS_BUILDER_H

#include "reconcilers/imagebuild/build.h"

#define FL_BUILD_STAGES_MAX 16
#define FL_BUILD_TAIL_MAX   4096

enum fl_builder_state {
    FL_BUILDER_NONE = 0, /* nothing is known under this key */
    FL_BUILDER_WAITING,  /* for others */
    FL_BUILDER_RUNNING,
    FL_BUILDER_DONE,
    FL_BUILDER_FAILED,
};

struct fl_builder_stage {
    const char *name;
    enum fl_stage_state state;
    int64_t started_us, took_ms; /* realtime; 0 while it runs */
    const char *message;         /* NULL: nothing to say */
};

/* What was made, as far as objects tell it. */
struct fl_builder_platform {
    const char *platform, *digest;
    int64_t size, unpacked_size, layers, cached_layers;
};
struct fl_builder_result {
    const char *commit, *backend;
    const char *digest;                        /* of the index */
    const char *key;                           /* what it follows from; NULL: not said */
    const char *sbom, *provenance, *signature; /* digests of what is attached; NULL: nothing */
    int64_t size, cache_hits, cache_misses, bytes_fetched, bytes_pushed;
    struct fl_builder_platform platforms[FL_BUILD_PLATFORMS_MAX];
    size_t platform_count;
};

struct fl_builder_known {
    enum fl_builder_state state;
    struct fl_builder_stage stages[FL_BUILD_STAGES_MAX];
    size_t stage_count;
    int64_t started_us, ended_us;    /* realtime */
    const char *failed_stage;        /* FAILED: where */
    struct fl_error err;             /* FAILED: why */
    struct fl_builder_result result; /* DONE */
    const char *log_tail; /* the last lines, valid UTF-8, at most FL_BUILD_TAIL_MAX; NULL: none */
};

typedef void fl_builder_changed_fn(void *user, const char *key);

struct fl_builder;
struct fl_builder_ops {
    void (*destroy)(struct fl_builder *self);
    /* must: begin; where something is known under the key already, nothing. Everything in `build`
     * is copied; hooks are not used. */
    int (*start)(struct fl_builder *self, const char *key, const struct fl_build *build,
                 struct fl_error *err);
    int (*observe)(struct fl_builder *self, const char *key, struct fl_arena *arena,
                   struct fl_builder_known *ret_known, struct fl_error *err);
    /* must: break off what runs, and forget all about the key. */
    int (*forget)(struct fl_builder *self, const char *key, struct fl_error *err);
};
struct fl_builder {
    const struct fl_builder_ops *ops;
};

struct fl_builder_options {
    const struct fl_env *env;
    fl_builder_changed_fn *changed; /* any thread; must not call back */
    void *user;
    int64_t grace_ms; /* how long after its deadline a build may take to say so; 0: 10 s */
};
/* Each build in a process of its own (build_child.h). */
int fl_builder_process_create(const struct fl_builder_options *options,
                              struct fl_builder **ret_builder, struct fl_error *err);

#endif
