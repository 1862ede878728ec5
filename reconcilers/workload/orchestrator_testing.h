/* For tests of orchestrators: what a driver must give so that the contract can be tried on it, and
 * a fixture that plays one control plane after another in front of one world. */
#ifndef FL_RECONCILERS_ORCHESTRATOR_TESTING_H
#define FL_RECONCILERS_ORCHESTRATOR_TESTING_H

#include "reconcilers/workload/orchestrator_driver.h"

#include "lib/str.h"
#include "lib/thread.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
/* cmocka wants the four above first */
#include <cmocka.h>

/* Runs are known by a mark in the environment that follows from the Workload's uid, and what is
 * left of one is killed by it. Tests have the same uids, so programs of them take turns. Before the
 * first test; held until the program ends. */
static inline void take_turn(void)
{
    int fd = open("/tmp/flops-orchestrator-tests.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        perror("/tmp/flops-orchestrator-tests.lock");
        exit(1);
    }
}

/* What the test's programs do. */
enum behaviour {
    RUNS,      /* until it is told to end: with 0 */
    EXITS_0,   /* at once */
    EXITS_7,   /* at once */
    CRASHES,   /* at once, with SIGSEGV */
    IGNORES,   /* the stop signal, for ever */
    PRINTS,    /* "line 1" … "line 20", and runs */
    CANNOT_BE, /* it does not come up */
};

struct harness {
    const char *name;
    /* A new world without runs, and its end: nothing of it is left after that. */
    void *(*begin)(void);
    void (*end)(void *world);
    /* A control plane begins; it ends by the driver's destroy. */
    struct fl_orchestrator_driver *(*open)(void *world, fl_run_changed_fn *changed, void *user);
    /* The Orchestrator's spec, where it has more to it than its type. May be NULL. */
    void (*settle)(void *world, struct fl_orchestrator_spec *spec);
    /* Fills in image or process. */
    void (*behave)(void *world, struct fl_arena *arena, enum behaviour behaviour,
                   struct fl_workload_spec *spec);
    void (*let_pass)(void *world); /* a moment */
    unsigned patience;             /* how many moments anything may take */
    bool tells_no_codes;           /* only whether it ended well: no exit codes, no signals */
    bool fetches; /* starts come to nothing where the control plane ends before it has an image */
};

struct change {
    struct fl_lock *lock;
    unsigned count;
    char ns[64], name[64];
};

struct fixture {
    const struct harness *harness;
    void *world;
    struct fl_arena *arena;
    struct fl_orchestrator_driver *driver;
    struct change change;
};

static inline void on_change(void *user, const char *ns, const char *name)
{
    struct change *change = user;
    FL_LOCKED(change->lock);

    if (!name)
        return;
    change->count++;
    (void)snprintf(change->ns, sizeof(change->ns), "%s", ns);
    (void)snprintf(change->name, sizeof(change->name), "%s", name);
}

/* Some have to be asked over a network first. */
static inline void wait_until_reached(struct fixture *f)
{
    struct fl_node_list nodes = {0};
    struct fl_error err = {0};
    int r = FL_E_UNAVAILABLE;

    for (unsigned i = 0; r == FL_E_UNAVAILABLE && i < f->harness->patience; i++) {
        r = f->driver->ops->nodes(f->driver, f->arena, &nodes, &err);
        if (r == FL_E_UNAVAILABLE)
            f->harness->let_pass(f->world);
    }
    if (r < 0)
        fail_msg("nodes: %s", err.msg);
}

static inline void fixture_configure(struct fixture *f)
{
    struct fl_orchestrator_spec spec = {.type = FL_ORCHESTRATOR_TYPE_LOCAL};
    struct fl_error err = {0};

    if (f->harness->settle)
        f->harness->settle(f->world, &spec);
    if (f->driver->ops->configure(f->driver, &spec, &err) < 0)
        fail_msg("configure: %s", err.msg);
}

static inline void fixture_open(struct fixture *f)
{
    f->driver = f->harness->open(f->world, on_change, &f->change);
    assert_non_null(f->driver);
    fixture_configure(f);
    wait_until_reached(f);
}

static inline void fixture_init(struct fixture *f, const struct harness *harness)
{
    *f = (struct fixture){.harness = harness, .arena = fl_arena_create()};
    f->change.lock = fl_lock_create();
    f->world = harness->begin();
    fixture_open(f);
}

/* The control plane ends and begins anew. */
static inline void fixture_restart(struct fixture *f)
{
    f->driver->ops->destroy(f->driver);
    fixture_open(f);
}

/* The same, while its world may be out of reach. */
static inline void fixture_begin_again(struct fixture *f)
{
    f->driver->ops->destroy(f->driver);
    f->driver = f->harness->open(f->world, on_change, &f->change);
    fixture_configure(f);
}

static inline void fixture_finish(struct fixture *f)
{
    f->driver->ops->destroy(f->driver);
    f->harness->end(f->world);
    fl_arena_destroy(f->arena);
    fl_lock_destroy(f->change.lock);
}

/* A spec with the defaults that matter. */
static inline struct fl_run_spec a_run(struct fixture *f, enum behaviour behaviour, int64_t index,
                                       int64_t number)
{
    struct fl_workload_spec *spec = fl_new(f->arena, struct fl_workload_spec);

    spec->stop_signal = FL_WORKLOAD_STOP_SIGNAL_SIGTERM;
    spec->grace_period = "30s";
    f->harness->behave(f->world, f->arena, behaviour, spec);
    return (struct fl_run_spec){
        .id = {.workload_uid = "uid-1", .index = index},
        .number = number,
        .spec_hash = "hash-1",
        .ns = "default",
        .name = "one",
        .cluster = "local",
        .node = "node",
        .spec = spec,
    };
}

/* What is known of the instance; state 0: nothing. */
static inline struct fl_run look(struct fixture *f, const struct fl_run_id *id)
{
    struct fl_run_list list = {0};
    struct fl_error err = {0};

    if (f->driver->ops->observe(f->driver, id->workload_uid, f->arena, &list, &err) < 0)
        fail_msg("observe: %s", err.msg);
    for (size_t i = 0; i < list.count; i++)
        if (list.items[i].index == id->index)
            return list.items[i];
    return (struct fl_run){0};
}

static inline struct fl_run wait_for_state(struct fixture *f, const struct fl_run_id *id,
                                           enum fl_run_state state)
{
    struct fl_run run = {0};

    for (unsigned i = 0; i < f->harness->patience; i++) {
        run = look(f, id);
        if (run.state == state)
            return run;
        f->harness->let_pass(f->world);
    }
    fail_msg("instance %" PRId64 " is in state %d (%s: %s), not %d", id->index, run.state,
             fl_str_or(run.exit.reason, ""), fl_str_or(run.exit.message, ""), state);
    return run;
}

/* Until it goes on without the control plane. */
static inline void wait_until_begun(struct fixture *f, const struct fl_run_id *id)
{
    for (unsigned i = 0; f->harness->fetches && i < f->harness->patience; i++) {
        struct fl_run run = look(f, id);

        if (run.started_us > 0 || run.state == FL_RUN_ENDED)
            return;
        f->harness->let_pass(f->world);
    }
}

static inline struct fl_run wait_until_ready(struct fixture *f, const struct fl_run_id *id)
{
    struct fl_run run = {0};

    for (unsigned i = 0; i < f->harness->patience; i++) {
        run = look(f, id);
        if (run.ready)
            return run;
        f->harness->let_pass(f->world);
    }
    fail_msg("instance %" PRId64 " is not ready, in state %d (%s: %s; %s)", id->index, run.state,
             fl_str_or(run.exit.reason, ""), fl_str_or(run.exit.message, ""),
             fl_str_or(run.message, ""));
    return run;
}

/* The result of the call, and its text where it failed. */
static inline int start(struct fixture *f, const struct fl_run_spec *run)
{
    struct fl_error err = {0};
    int r = f->driver->ops->start(f->driver, run, &err);

    assert_true(r <= 0);
    assert_true(r == 0 || (r == err.code && err.msg[0]));
    return r;
}

static inline int stop(struct fixture *f, const struct fl_run_id *id, int64_t grace_ms,
                       const char *reason)
{
    return f->driver->ops->stop(f->driver, id, grace_ms, reason, NULL);
}

static inline int forget(struct fixture *f, const struct fl_run_id *id)
{
    return f->driver->ops->remove(f->driver, id, NULL);
}

static inline bool knows(struct fixture *f, const char *uid)
{
    struct fl_string_list uids = {0};

    assert_int_equal(f->driver->ops->workloads(f->driver, f->arena, &uids, NULL), 0);
    for (size_t i = 0; i < uids.count; i++)
        if (strcmp(uids.items[i], uid) == 0)
            return true;
    return false;
}

#endif
