/* Runs that are images: real containers by the machine's runtime. */
#include "reconcilers/workload/local/container_testing.h"

#include "lib/run.h"

static void set_up_with(void **state, bool no_overlay)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    fixture_init(f, &container_harness);
    if (no_overlay) {
        ((struct local_world *)f->world)->no_overlay = true;
        fixture_restart(f);
    }
    *state = f;
}

static int set_up(void **state)
{
    set_up_with(state, false);
    return 0;
}

static int set_up_copies(void **state)
{
    set_up_with(state, true);
    return 0;
}

static int tear_down(void **state)
{
    fixture_finish(*state);
    test_free(*state);
    return 0;
}

static struct fl_run_spec a_script(struct fixture *f, const char *script)
{
    struct fl_run_spec run = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *spec = (struct fl_workload_spec *)run.spec;

    spec->has_probes = false;
    container_script(f->arena, script, spec);
    return run;
}

static struct fl_run ended(struct fixture *f, const char *script)
{
    struct fl_run_spec spec = a_script(f, script);

    assert_int_equal(start(f, &spec), 0);
    return wait_for_state(f, &spec.id, FL_RUN_ENDED);
}

static bool says(const struct fl_run *run, const char *text)
{
    return run->exit.log_tail && strstr(run->exit.log_tail, text);
}

static void is_confined(void **state)
{
    struct fixture *f = *state;
    struct fl_run run = ended(f, "id; touch /x; touch /tmp/x && echo tmp; unshare -m true; "
                                 "mount -t tmpfs x /tmp; "
                                 "grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; exit 3");

    if (!run.exit.has_code || run.exit.code != 3)
        fail_msg("%s %s", run.exit.reason, fl_str_or(run.exit.message, ""));
    assert_true(says(&run, "uid=0"));
    assert_true(says(&run, "/x: Read-only file system"));
    assert_true(says(&run, "tmp\n"));
    assert_true(says(&run, "unshare(0x20000): Operation not permitted"));
    assert_true(says(&run, "mount: permission denied"));
    assert_true(says(&run, "NoNewPrivs:\t1"));
    assert_true(says(&run, "Seccomp:\t2"));
    assert_true(says(&run, "CapBnd:\t0000000000000000"));
    assert_non_null(run.image_digest);
}

static void root_may_be_written(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, "touch /x && echo written; exit 0");
    struct fl_workload_spec *workload = (struct fl_workload_spec *)spec.spec;
    struct fl_run run;

    workload->has_security = true;
    workload->security.read_only_root = false;
    workload->security.run_as_user = 1000;
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_true(says(&run, "written"));
    assert_int_equal(forget(f, &spec.id), 0);
    spec.number = 2; /* the next one begins with the image as it was */
    workload->args.items[1] = "test -e /x && echo kept; id; exit 0";
    workload->security.has_run_as_user = true;
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_false(says(&run, "kept"));
    assert_true(says(&run, "uid=1000"));
}

static void none_is_no_network(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, "cat /proc/net/dev; exit 0");
    struct fl_workload_spec *workload = (struct fl_workload_spec *)spec.spec;
    struct fl_run run;

    workload->has_security = workload->security.read_only_root = true;
    workload->security.network = FL_WORKLOAD_SECURITY_NETWORK_PRIVATE;
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    workload->security.network = FL_WORKLOAD_SECURITY_NETWORK_NONE;
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_true(says(&run, "lo:"));
    assert_false(says(&run, "eth"));
}

static void privileged_may(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, "mount -t tmpfs x /tmp && echo mounted; exit 0");
    struct fl_workload_spec *workload = (struct fl_workload_spec *)spec.spec;
    struct fl_run run;

    workload->has_security = workload->security.read_only_root = true;
    workload->security.privileged = true;
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_true(says(&run, "mounted"));
}

/* The image, and how it comes. */

static struct image_world *world_of(struct fixture *f)
{
    return f->world;
}

static void cannot_be_had(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, "true");
    struct fl_run run;

    ((struct fl_workload_spec *)spec.spec)->image = "registry.test/none:1";
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "ImageNotFound");
    assert_int_equal(run.started_us, 0);
    assert_int_equal(forget(f, &spec.id), 0);
    ((struct fl_workload_spec *)spec.spec)->image = "Not/An Image";
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "ImageNotFound");
    assert_int_equal(forget(f, &spec.id), 0);
    world_of(f)->platform = "linux/s390x";
    ((struct fl_workload_spec *)spec.spec)->image = "registry.test/busybox:1";
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "ImageNotFound");
    assert_non_null(strstr(run.exit.message, "install qemu-user-static"));
}

static void a_bad_moment_passes(void **state)
{
    struct fixture *f = *state;
    struct image_world *world = world_of(f);
    struct fl_run run;

    world->fails = 1;
    world->code = FL_E_UNAVAILABLE;
    run = ended(f, "exit 3");
    assert_true(run.exit.has_code && run.exit.code == 3);
    assert_int_equal(world->pulls, 2);
}

/* By tag the registry is asked each time, by digest never again. */
static void what_is_here_needs_no_registry(void **state)
{
    struct fixture *f = *state;
    struct image_world *world = world_of(f);
    struct fl_run_spec spec = a_script(f, "exit 3");
    struct fl_workload_spec *workload = (struct fl_workload_spec *)spec.spec;
    struct fl_run run;

    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    world->fails = -1;
    world->code = FL_E_NOT_FOUND;
    workload->image = fl_arena_printf(f->arena, "registry.test/busybox@%s", run.image_digest);
    fixture_restart(f); /* it is on disk */
    spec.number = 2;
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_true(run.exit.has_code && run.exit.code == 3);
    assert_int_equal(world->pulls, 1);
    workload->image = "registry.test/busybox:1";
    spec.number = 3; /* it is gone there: so it is here */
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "ImageNotFound");
    world->code = FL_E_UNAUTHORIZED;
    spec.number = 4;
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "ImageNotFound");
}

static void a_pull_is_told_and_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, "exit 3");
    struct fl_run run = {0};

    world_of(f)->stuck = true;
    assert_int_equal(start(f, &spec), 0);
    assert_int_equal(start(f, &spec), 0);
    for (unsigned i = 0; i < f->harness->patience && !(run.message && strstr(run.message, "/80"));
         i++) {
        run = look(f, &spec.id);
        f->harness->let_pass(f->world);
    }
    assert_string_equal(run.message, "pulling registry.test/busybox:1: 12/80 MB");
    assert_int_equal(run.state, FL_RUN_STARTING);
    assert_int_equal(forget(f, &spec.id), FL_E_CONFLICT);
    assert_int_equal(stop(f, &spec.id, 1000, "Stopped"), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Stopped");
    spec.number = 2;
    assert_int_equal(start(f, &spec), 0);
    fixture_restart(f); /* in the middle of it */
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Lost");
    assert_non_null(strstr(run.exit.message, "image"));
}

static void pull_secrets_are_found(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, "exit 3");

    spec.pull_secret = "{\"auths\":{\"https://registry.test/v1/\":{\"auth\":\"YWxpY2U6czNjcmV0\"},"
                       "\"other\":{\"username\":\"bob\",\"password\":\"x\"}}}";
    assert_int_equal(start(f, &spec), 0);
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(world_of(f)->username, "alice");
    assert_string_equal(world_of(f)->password, "s3cret");
}

/* Limits, and what is left. */

static void memory_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, "x=xxxxxxxx; while :; do x=$x$x; done");
    struct fl_workload_spec *workload = (struct fl_workload_spec *)spec.spec;
    struct fl_run run;

    workload->has_resources = true;
    workload->resources.memory = "32Mi";
    assert_int_equal(start(f, &spec), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    if (run.message && strstr(run.message, "not enforced here: memory"))
        return; /* the machine has no such limits, and says so */
    assert_string_equal(run.exit.reason, "OOMKilled");
    assert_true(run.exit.oom_killed);
}

static void nothing_is_left(void **state)
{
    struct fixture *f = *state;
    const struct local_world *world = f->world;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *mounts = NULL;
    struct fl_folder_list list;
    struct fl_run run;
    int64_t pid = 0;

    assert_int_equal(start(f, &spec), 0);
    run = wait_until_ready(f, &spec.id);
    assert_true(fl_str_to_int64(run.id, 2, INT32_MAX, &pid));
    assert_int_equal(kill((pid_t)pid, 0), 0);
    assert_int_equal(stop(f, &spec.id, 600000, "Stopped"), 0);
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_int_equal(kill((pid_t)pid, 0), -1);
    assert_int_equal(forget(f, &spec.id), 0);
    assert_int_equal(fl_file_read("/proc/self/mountinfo", 1 << 20, &mounts, NULL), 0);
    assert_null(strstr(mounts->data, world->folder));
    assert_int_equal(fl_folder_list(arena,
                                    fl_arena_printf(arena, "%s/local/.runtime", world->folder),
                                    false, 100, &list, NULL),
                     0);
    assert_int_equal(list.count, 0);
}

/* Who holds the container is killed: it is ended, and what the runtime kept of it goes. */
static void a_killed_shim_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    const struct local_world *world = f->world;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list;
    struct fl_run run;
    struct fl_shim shim;
    pid_t left[4];

    assert_int_equal(start(f, &spec), 0);
    (void)wait_until_ready(f, &spec.id);
    assert_int_equal(
        fl_shim_connect(fl_arena_printf(arena, "%s/local/uid-1/0/run-1", world->folder), &shim,
                        NULL),
        0);
    assert_true(fl_process_signal(shim.pidfd, SIGKILL));
    fl_shim_close(&shim);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Lost");
    assert_int_equal(fl_process_marked("FLOPS_RUN=uid-1/0/1", left, 4), 0);
    assert_int_equal(fl_folder_list(arena,
                                    fl_arena_printf(arena, "%s/local/.runtime", world->folder),
                                    false, 100, &list, NULL),
                     0);
    assert_int_equal(list.count, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define COPIED(f)                                                                                  \
    {                                                                                              \
#f " (copied)", f, set_up_copies, tear_down, NULL                                          \
    }
#define NOBODY 65534

/* In a user namespace, each with a copy of the image. */
static int run_as_user(const char *program)
{
    const struct CMUnitTest tests[] = {
        TEST(is_confined),
        TEST(none_is_no_network),
        TEST(cannot_be_had),
        TEST(what_is_here_needs_no_registry),
        TEST(a_pull_is_told_and_can_be_stopped),
        TEST(nothing_is_left),
        TEST(a_killed_shim_leaves_nothing),
    };

    if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
        return 1;
    if (!fl_path_is_executable(program)) {
        print_message("NOT RUN as another user: %s is not readable for it\n", program);
        return 0;
    }
    return cmocka_run_group_tests_name("as another user", tests, NULL, NULL);
}

static int ask_for_run_as_user(void)
{
    const char *argv[] = {"container_test", "as-user", NULL};
    struct fl_run_options options = {.program = FL_RUN_SELF,
                                     .argv = argv,
                                     .output_max = 1 << 20,
                                     .errors_max = 1 << 20,
                                     .timeout_ms = 300000};
    struct fl_run_result result = {0};
    struct fl_error err = {0};
    int r = fl_run(&options, &result, &err);

    if (r < 0)
        print_message("%s\n", err.msg);
    if (result.output && result.errors)
        print_message("%s%s", result.output->data, result.errors->data);
    r = r < 0 || result.status != 0;
    fl_run_result_finish(&result);
    return r;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(is_confined),
        COPIED(is_confined),
        TEST(root_may_be_written),
        COPIED(root_may_be_written),
        TEST(none_is_no_network),
        TEST(privileged_may),
        TEST(cannot_be_had),
        TEST(a_bad_moment_passes),
        TEST(what_is_here_needs_no_registry),
        COPIED(what_is_here_needs_no_registry),
        TEST(a_pull_is_told_and_can_be_stopped),
        TEST(pull_secrets_are_found),
        TEST(memory_is_bounded),
        TEST(nothing_is_left),
        COPIED(nothing_is_left),
        TEST(a_killed_shim_leaves_nothing),
    };
    char program[1024] = {0};
    int failed;

    if (local_is_shim(argc, argv))
        return fl_shim_main();
    if (container_why_not()) {
        print_message("NOT RUN: %s\n", container_why_not());
        return 0;
    }
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
        return 1;
    if (argc > 1 && strcmp(argv[1], "as-user") == 0)
        return run_as_user(program);
    take_turn();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + ask_for_run_as_user();
}
