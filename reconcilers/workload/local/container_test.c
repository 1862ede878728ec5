/* Runs that are images: real containers by the machine's runtime. */
#include "reconcilers/workload/local/container_testing.h"

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

static void is_confined(void **state)
{
    struct fixture *f = *state;
    struct fl_run run = ended(f, "id; echo pid $$; touch /x; touch /tmp/x && echo tmp; unshare -m "
                                 "true; mount -t tmpfs x /tmp; "
                                 "grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; exit 3");

    print_message("%s %s: %s\n", run.exit.reason, fl_str_or(run.exit.message, ""),
                  fl_str_or(run.exit.log_tail, "-"));
    assert_true(run.exit.has_code && run.exit.code == 3);
    assert_non_null(strstr(run.exit.log_tail, "uid=0"));
    assert_non_null(strstr(run.exit.log_tail, "/x: Read-only file system"));
    assert_non_null(strstr(run.exit.log_tail, "tmp\n"));
    assert_non_null(strstr(run.exit.log_tail, "unshare"));
    assert_non_null(strstr(run.exit.log_tail, "NoNewPrivs:\t1"));
    assert_non_null(strstr(run.exit.log_tail, "Seccomp:\t2"));
    assert_non_null(strstr(run.exit.log_tail, "CapBnd:\t0000000000000000"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define COPIED(f)                                                                                  \
    {                                                                                              \
#f " (copied)", f, set_up_copies, tear_down, NULL                                          \
    }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(is_confined),
        COPIED(is_confined),
    };

    if (local_is_shim(argc, argv))
        return fl_shim_main();
    if (container_why_not()) {
        print_message("NOT RUN: %s\n", container_why_not());
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
