/* The local orchestrator in tests: real processes, in a folder of their own. The test's program is
 * the shim's, too: its main asks local_is_shim first. */
#ifndef FL_RECONCILERS_LOCAL_TESTING_H
#define FL_RECONCILERS_LOCAL_TESTING_H

#include "reconcilers/workload/local/local.h"
#include "reconcilers/workload/orchestrator_testing.h"

#include "lib/file.h"
#include "lib/log.h"
#include "lib/process.h"
#include "lib/shim.h"

#include <signal.h>
#include <unistd.h>

struct local_world {
    struct fl_env env;
    char folder[64], program[1024];
    const char *cgroup_root;
    int64_t hung_ms;
    const struct fl_image_source *images;
    const char *first;
    bool no_overlay;
};

static inline bool local_is_shim(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], "shim") == 0;
}

static inline void local_begin_in(struct local_world *world)
{
    ssize_t n = readlink("/proc/self/exe", world->program, sizeof(world->program) - 1);

    assert_true(n > 0);
    world->env = fl_env_real(NULL);
    (void)snprintf(world->folder, sizeof(world->folder), "/tmp/flops-local-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
}

static inline void *local_begin(void)
{
    struct local_world *world = test_calloc(1, sizeof(*world));

    local_begin_in(world);
    return world;
}

static inline struct fl_orchestrator_driver *local_open(void *user, fl_run_changed_fn *changed,
                                                        void *changed_user)
{
    struct local_world *world = user;
    struct fl_local_options options = {
        .env = &world->env,
        .data_dir = world->folder,
        .program = world->program,
        .cgroup_root = world->cgroup_root,
        .hung_ms = world->hung_ms,
        .images = world->images,
        .first = world->first,
        .no_overlay = world->no_overlay,
        .changed = changed,
        .changed_user = changed_user,
    };
    struct fl_orchestrator_driver *driver = NULL;
    struct fl_error err = {0};

    if (fl_local_create(&options, &driver, &err) < 0)
        fail_msg("create: %s", err.msg);
    return driver;
}

/* All that still lives is ended by a driver of its own, then the folder goes. */
static inline void local_end_in(struct local_world *world)
{
    struct fl_orchestrator_driver *driver = local_open(world, NULL, NULL);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_string_list uids = {0};
    bool more = true;

    for (unsigned i = 0; more && i < 20000; i++) {
        more = false;
        assert_int_equal(driver->ops->workloads(driver, arena, &uids, NULL), 0);
        for (size_t w = 0; w < uids.count; w++) {
            struct fl_run_list runs = {0};

            assert_int_equal(driver->ops->observe(driver, uids.items[w], arena, &runs, NULL), 0);
            for (size_t r = 0; r < runs.count; r++) {
                struct fl_run_id id = {uids.items[w], runs.items[r].index};

                (void)driver->ops->stop(driver, &id, 0, "Stopped", NULL);
                more |= driver->ops->remove(driver, &id, NULL) < 0;
            }
        }
        if (more)
            (void)usleep(1000);
        fl_arena_reset(arena);
    }
    assert_false(more);
    driver->ops->destroy(driver);
    assert_int_equal(fl_dir_remove(world->folder, NULL), 0);
}

static inline void local_end(void *user)
{
    local_end_in(user);
    test_free(user);
}

static inline void local_script(struct fl_arena *arena, const char *script,
                                struct fl_workload_spec *spec)
{
    spec->has_process = true;
    spec->process.program = "/bin/sh";
    spec->args.items = fl_new_array(arena, const char *, 2);
    spec->args.items[0] = "-c";
    spec->args.items[1] = script;
    spec->args.count = 2;
}

/* A shell is up before it has heard of its traps. */
static inline void local_is_ready_once_up(struct fl_arena *arena, struct fl_workload_spec *spec)
{
    struct fl_probe *probe = &spec->probes.readiness;

    spec->has_probes = spec->probes.has_readiness = true;
    *probe = (struct fl_probe){.has_exec = true,
                               .period = "20ms",
                               .timeout = "30s",
                               .failure_threshold = 1,
                               .success_threshold = 1};
    probe->exec.command.items = fl_new_array(arena, const char *, 3);
    probe->exec.command.items[0] = "test";
    probe->exec.command.items[1] = "-e";
    probe->exec.command.items[2] = "up";
    probe->exec.command.count = 3;
}

static inline void local_behave(void *world, struct fl_arena *arena, enum behaviour behaviour,
                                struct fl_workload_spec *spec)
{
    static const char *const scripts[] = {
        [RUNS] = "trap 'exit 0' TERM; touch up; while :; do sleep 1000 & wait; done",
        [EXITS_0] = "exit 0",
        [EXITS_7] = "exit 7",
        [CRASHES] = "kill -SEGV $$",
        [IGNORES] = "trap '' TERM; touch up; while :; do sleep 1000; done",
        [PRINTS] = "i=1; while [ $i -le 20 ]; do echo line $i; i=$((i + 1)); done; exec sleep 1000",
    };

    (void)world;
    if (behaviour == CANNOT_BE) {
        spec->has_process = true;
        spec->process.program = "/there/is/no/such/program";
        return;
    }
    local_script(arena, scripts[behaviour], spec);
    if (behaviour == RUNS || behaviour == IGNORES)
        local_is_ready_once_up(arena, spec);
}

static inline void local_let_pass(void *world)
{
    (void)world;
    (void)usleep(2000);
}

static const struct harness local_harness = {
    .name = "local",
    .begin = local_begin,
    .end = local_end,
    .open = local_open,
    .behave = local_behave,
    .let_pass = local_let_pass,
    .patience = 15000,
};

#endif
