#include "lib/run.h"

#include "lib/buf.h"
#include "lib/env.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG_MS 120000

static struct fl_run_options shell_options(const char *const *argv)
{
    return (struct fl_run_options){.program = "/bin/sh",
                                   .argv = argv,
                                   .output_max = 100000,
                                   .errors_max = 1000,
                                   .timeout_ms = LONG_MS};
}

#define SHELL(script) ((const char *const[]){"sh", "-c", script, NULL})

static void what_goes_in_comes_out(void **state)
{
    static char input[90000]; /* more than a pipe holds */
    struct fl_run_options options = shell_options(SHELL("cat; echo bad >&2; exit 3"));
    struct fl_run_result result;

    (void)state;
    memset(input, 'x', sizeof(input));
    options.input = input;
    options.input_len = sizeof(input);
    assert_int_equal(fl_run(&options, &result, NULL), 0);
    assert_int_equal(result.output->len, sizeof(input));
    assert_memory_equal(result.output->data, input, sizeof(input));
    assert_string_equal(result.errors->data, "bad\n");
    assert_int_equal(result.status, 3);
    assert_int_equal(result.signum, 0);
    fl_run_result_finish(&result);
}

static void collect(void *user, const char *data, size_t len)
{
    fl_buf_append(user, data, len);
}

static void output_is_heard_as_it_comes(void **state)
{
    struct fl_run_options options = shell_options(SHELL("echo one; read -r x; echo two $x"));
    struct fl_run_result result;
    struct fl_buf heard;

    (void)state;
    fl_buf_init(&heard, 0);
    options.input = "in\n";
    options.input_len = 3;
    options.heard = collect;
    options.user = &heard;
    assert_int_equal(fl_run(&options, &result, NULL), 0);
    assert_int_equal(result.output->len, 0);
    assert_string_equal(fl_buf_text(&heard), "one\ntwo in\n");
    fl_run_result_finish(&result);

    /* In pieces that are each within the bound. */
    options = shell_options(SHELL("for i in 1 2 3 4 5 6; do echo $i; sleep 0.02; done"));
    options.output_max = 10;
    options.heard = collect;
    options.user = &heard;
    assert_int_equal(fl_run(&options, &result, NULL), FL_E_TOO_LARGE);
    fl_run_result_finish(&result);
    fl_buf_finish(&heard);
}

static void errors_come_with_the_output(void **state)
{
    struct fl_run_options options = shell_options(SHELL("echo a; echo b >&2; echo c"));
    struct fl_run_result result;

    (void)state;
    options.together = true;
    assert_int_equal(fl_run(&options, &result, NULL), 0);
    assert_string_equal(result.output->data, "a\nb\nc\n");
    assert_string_equal(result.errors->data, "");
    fl_run_result_finish(&result);
}

static bool ask_twice(void *user)
{
    return ++*(int *)user < 2;
}

static void who_waits_is_asked(void **state)
{
    struct fl_run_options options = shell_options(SHELL("sleep 1000"));
    struct fl_run_result result;
    int asked = 0;

    (void)state;
    options.keep_going = ask_twice;
    options.user = &asked;
    assert_int_equal(fl_run(&options, &result, NULL), FL_E_CONFLICT);
    assert_int_equal(asked, 2);
    assert_int_equal(result.signum, SIGKILL);
    fl_run_result_finish(&result);
}

static void input_that_nobody_reads_is_no_failure(void **state)
{
    static char input[300000];
    struct fl_run_options options = shell_options(SHELL("exec <&-; echo done"));
    struct fl_run_result result;

    (void)state;
    options.input = input;
    options.input_len = sizeof(input);
    assert_int_equal(fl_run(&options, &result, NULL), 0);
    assert_string_equal(result.output->data, "done\n");
    fl_run_result_finish(&result);
}

static void a_signal_is_told(void **state)
{
    struct fl_run_options options = shell_options(SHELL("kill -TERM $$"));
    struct fl_run_result result;

    (void)state;
    assert_int_equal(fl_run(&options, &result, NULL), 0);
    assert_int_equal(result.status, -1);
    assert_int_equal(result.signum, SIGTERM);
    fl_run_result_finish(&result);
}

/* No descriptor, no variable, no ignored signal of ours is there. */
static void it_has_nothing_of_ours(void **state)
{
    struct fl_run_options options =
        shell_options(SHELL("ls /proc/self/fd | wc -l; env | grep -c SECRET; kill -PIPE $$"));
    struct fl_run_result result;
    int fd = open("/dev/null", O_RDONLY);

    (void)state;
    assert_true(fd > 2);
    assert_int_equal(setenv("SECRET", "x", 1), 0);
    assert_true(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    assert_int_equal(fl_run(&options, &result, NULL), 0);
    assert_string_equal(result.output->data, "4\n0\n"); /* the three, and that of the folder */
    assert_int_equal(result.signum, SIGPIPE);
    fl_run_result_finish(&result);
    assert_int_equal(close(fd), 0);
}

/* What it says first is still there, and those whom it began end with it. */
static void a_deadline_ends_the_whole_group(void **state)
{
    struct fl_run_options options =
        shell_options(SHELL("trap '' TERM; sleep 1000 & echo $!; echo why >&2; wait"));
    struct fl_run_result result;
    struct fl_error err = {0};
    pid_t child;

    (void)state;
    options.timeout_ms = 1000;
    assert_int_equal(fl_run(&options, &result, &err), FL_E_TIMEOUT);
    assert_non_null(strstr(err.msg, "1000 ms"));
    assert_string_equal(result.errors->data, "why\n");
    assert_int_equal(result.signum, SIGKILL);
    child = (pid_t)atoi(result.output->data);
    assert_true(child > 0);
    while (kill(child, 0) == 0) { /* until whoever inherits it has reaped it */
        char path[64], state_of[512];
        FILE *file;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
        file = fopen(path, "r");
        if (!file || !fgets(state_of, sizeof(state_of), file) || strstr(state_of, ") Z")) {
            if (file)
                (void)fclose(file);
            break;
        }
        (void)fclose(file);
    }
    fl_run_result_finish(&result);
}

static void too_much_output_is_refused(void **state)
{
    struct fl_run_options options = shell_options(SHELL("yes"));
    struct fl_run_result result;

    (void)state;
    assert_int_equal(fl_run(&options, &result, NULL), FL_E_TOO_LARGE);
    assert_true(result.output->len <= options.output_max);
    fl_run_result_finish(&result);
    options = shell_options(SHELL("yes | head -c 500000 >&2; echo fine"));
    assert_int_equal(fl_run(&options, &result, NULL), 0);
    assert_string_equal(result.output->data, "fine\n");
    assert_int_equal(result.errors->len, options.errors_max);
    fl_run_result_finish(&result);
}

static void what_is_not_there_is_told(void **state)
{
    struct fl_run_options options = shell_options(SHELL("x"));
    struct fl_run_result result;
    struct fl_error err = {0};

    (void)state;
    options.program = "/nowhere";
    assert_int_equal(fl_run(&options, &result, &err), FL_E_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "/nowhere"));
    fl_run_result_finish(&result);
}

static void cancel_soon(void *user)
{
    fl_run_cancel(user);
}

static void it_can_be_cancelled(void **state)
{
    struct fl_run_options options = shell_options(SHELL("sleep 1000"));
    FL_CLEANUP(fl_run_cancel_destroyp) struct fl_run_cancel *cancel = NULL;
    struct fl_run_result result;
    struct fl_thread *thread;

    (void)state;
    assert_int_equal(fl_run_cancel_create(&cancel, NULL), 0);
    options.cancel = cancel;
    assert_int_equal(fl_thread_start("cancel", cancel_soon, cancel, &thread, NULL), 0);
    assert_int_equal(fl_run(&options, &result, NULL), FL_E_CONFLICT);
    fl_thread_join(thread);
    fl_run_result_finish(&result);
    assert_int_equal(fl_run(&options, &result, NULL), FL_E_CONFLICT); /* before it began, too */
    fl_run_result_finish(&result);
}

/* --- confinement, in a child that is this program --- */

static int confined(const char *what)
{
    const struct fl_run_confinement confinement = {
        .home = "/home/of/nobody",
        .memory_bytes = (size_t)256 * 1024 * 1024,
        .file_bytes = 4096,
        .timeout_ms = fl_streq(what, "time") ? 1 : LONG_MS,
    };
    struct rlimit core;
    struct fl_error err;
    volatile char *memory;
    char path[] = "/tmp/run_test.XXXXXX";
    int fd;

    if (fl_run_confine(&confinement, &err) < 0)
        return 9;
    if (fl_streq(what, "time"))
        for (;;)
            (void)pause();
    if (fl_streq(what, "home"))
        return puts(getenv("SECRET") ? "leaked" : getenv("HOME")) < 0;
    if (fl_streq(what, "core"))
        return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0 ? 0 : 8;
    if (fl_streq(what, "memory")) {
        memory = malloc((size_t)512 * 1024 * 1024);
        return memory ? 8 : 0;
    }
    fd = mkstemp(path);
    (void)unlink(path);
    return write(fd, path, 1) == 1 && lseek(fd, 8192, SEEK_SET) == 8192 && write(fd, path, 1) < 0
               ? 0
               : 8;
}

static void run_confined(const char *what, struct fl_run_result *result)
{
    const char *const argv[] = {"run_test", what, NULL}, *const env[] = {"SECRET=x", NULL};
    struct fl_run_options options = shell_options(argv);

    options.program = FL_RUN_SELF;
    options.env = env;
    assert_int_equal(fl_run(&options, result, NULL), 0);
}

static void confinement_holds(void **state)
{
    static const char *const rows[] = {
        "home",
        "core",
        "file",
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        "memory"
#endif
    };
    struct fl_run_result result;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        run_confined(rows[i], &result);
        if (result.status != 0)
            fail_msg("%s: %d %d %s", rows[i], result.status, result.signum, result.errors->data);
        if (i == 0)
            assert_string_equal(result.output->data, "/home/of/nobody\n");
        fl_run_result_finish(&result);
    }
    run_confined("time", &result);
    assert_int_equal(result.signum, SIGALRM);
    fl_run_result_finish(&result);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(output_is_heard_as_it_comes),
        cmocka_unit_test(errors_come_with_the_output),
        cmocka_unit_test(who_waits_is_asked),
        cmocka_unit_test(input_that_nobody_reads_is_no_failure),
        cmocka_unit_test(a_signal_is_told),
        cmocka_unit_test(it_has_nothing_of_ours),
        cmocka_unit_test(a_deadline_ends_the_whole_group),
        cmocka_unit_test(too_much_output_is_refused),
        cmocka_unit_test(what_is_not_there_is_told),
        cmocka_unit_test(it_can_be_cancelled),
        cmocka_unit_test(confinement_holds),
    };

    if (argc == 2)
        return confined(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
