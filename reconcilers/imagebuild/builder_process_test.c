/* What the builder makes of a child that does not keep to the rules: it reads what strangers made.
 * The child is this program again; what it says is the whole of the build's repository. */
#include "reconcilers/imagebuild/build_child.h"

#include "lib/file.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define DIGEST   "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define GOOD     "{\"result\":{\"digest\":\"" DIGEST "\",\"size\":7}}\n"
#define PATIENCE 12000 /* of 5 ms */

/* The child. */

static void repeat(const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)fputs(text, stdout);
}

static void number_lines(size_t count)
{
    for (size_t i = 1; i <= count; i++)
        (void)printf("{\"log\":\"line %zu\"}\n", i);
}

static void number_stages(size_t count)
{
    for (size_t i = 1; i <= count; i++)
        (void)printf("{\"stage\":\"S%zu\",\"state\":\"Done\"}\n", i);
}

/* The answer, but not the end. */
static void linger(void)
{
    (void)fputs("{\"log\":\"said\"}\n{\"error\":{\"code\":\"ServiceUnavailable\"}}\n" GOOD, stdout);
    (void)fflush(stdout);
    (void)usleep(300000);
}

/* "text" is said as it is; "@name" is what a table would be too long for. */
static void speak(const char *what)
{
    if (strcmp(what, "@long-line") == 0) {
        repeat("xxxxxxxxxxxxxxxx", FL_BUILD_LINE_MAX / 16 + 1);
        (void)fputs("\n" GOOD, stdout);
    } else if (strcmp(what, "@linger") == 0) {
        linger();
    } else if (strcmp(what, "@flood") == 0) {
        repeat("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", 1100000);
    } else if (strcmp(what, "@lines") == 0) {
        number_lines(3000);
        (void)fputs(GOOD, stdout);
    } else if (strcmp(what, "@wide-log") == 0) {
        (void)fputs("{\"log\":\"", stdout);
        repeat("\xc3\xa4", 50000);
        (void)fputs("\"}\n{\"log\":\"last\"}\n" GOOD, stdout);
    } else if (strcmp(what, "@stages") == 0) {
        number_stages(100);
        (void)fputs(GOOD, stdout);
    } else if (strcmp(what, "@long-message") == 0) {
        (void)fputs("{\"stage\":\"Base\",\"state\":\"Running\",\"message\":\"", stdout);
        repeat("\xc3\xa4", 3000);
        (void)fputs("\"}\n" GOOD, stdout);
    } else {
        (void)fputs(what, stdout);
    }
    (void)fflush(stdout);
}

static int play_child(void)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_build build;
    json_t *value = NULL;

    if (fl_json_read_secret(STDIN_FILENO, FL_BUILD_REQUEST_MAX, &value, NULL) < 0 ||
        fl_build_decode(fl_json_in_arena(arena, value), arena, &build, NULL) < 0)
        abort();
    if (build.repository)
        speak(build.repository);
    if (build.path) { /* says who it is, and stays */
        char pid[32];

        (void)snprintf(pid, sizeof(pid), "{\"log\":\"%ld\"}\n", (long)getpid());
        speak(pid);
        (void)pause();
    }
    if (build.containerfile) {
        (void)fputs("it was a dark night", stderr);
        (void)kill(getpid(), SIGKILL);
    }
    fl_arena_destroy(arena);
    return 0;
}

/* The builder. */

struct fixture {
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_builder *builder;
};

static void on_changed(void *user, const char *key)
{
    (void)user, (void)key;
}

static int setup(void **state)
{
    struct fixture *f = fl_calloc(1, sizeof(*f));
    const struct fl_builder_options options = {.env = &f->env, .changed = on_changed};

    f->env = fl_env_real(NULL);
    f->arena = fl_arena_create();
    assert_int_equal(fl_builder_process_create(&options, &f->builder, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->builder)
        f->builder->ops->destroy(f->builder);
    fl_arena_destroy(f->arena);
    free(f);
    return 0;
}

static struct fl_builder_known look(struct fixture *f)
{
    struct fl_builder_known known;

    assert_int_equal(f->builder->ops->observe(f->builder, "a", f->arena, &known, NULL), 0);
    return known;
}

static struct fl_builder_known run(struct fixture *f, const struct fl_build *build)
{
    struct fl_builder_known known = {0};

    assert_int_equal(f->builder->ops->forget(f->builder, "a", NULL), 0);
    assert_int_equal(f->builder->ops->start(f->builder, "a", build, NULL), 0);
    for (unsigned i = 0; i < PATIENCE; i++) {
        known = look(f);
        if (known.state == FL_BUILDER_DONE || known.state == FL_BUILDER_FAILED)
            return known;
        (void)usleep(5000);
    }
    fail_msg("it never ends");
    return known;
}

static struct fl_builder_known hear(struct fixture *f, const char *what)
{
    const struct fl_build build = {.folder = "/", .program = "/", .repository = what};

    return run(f, &build);
}

#define PLATFORM(more) "{\"platform\":\"linux/amd64\",\"digest\":\"" DIGEST "\"" more "}"
#define RESULT(more)   "{\"result\":{\"digest\":\"" DIGEST "\"" more "}}\n"

static void answers(void **state)
{
    static const char misunderstood[] = "the builder's answer is not understood",
                      lacks[] = "the builder's answer lacks a platform",
                      none[] = "the builder ended without an answer (status 0, signal 0): ";
    static const struct {
        const char *what;
        int code; /* 0: it is believed */
        const char *message;
    } rows[] = {
        {GOOD, 0, NULL},
        {"no JSON\n[1,2\n{}\n[]\n17\n\n" GOOD, 0, NULL},
        {"@long-line", 0, NULL},
        {"", FL_E_INTERNAL, none},
        {"{\"result\":{\"digest\":\"" DIGEST "\"}}", FL_E_INTERNAL, none}, /* no whole line */
        {"{\"result\":null}\n", FL_E_INTERNAL, misunderstood},
        {"{\"result\":{}}\n", FL_E_INTERNAL, misunderstood},
        {"{\"result\":{\"digest\":\"sha256:12\"}}\n", FL_E_INTERNAL, misunderstood},
        {"{\"result\":{\"digest\":\"" DIGEST "\",\"size\":-1}}\n", FL_E_INTERNAL, misunderstood},
        {RESULT(",\"cacheHits\":2147483648"), FL_E_INTERNAL, misunderstood},
        {RESULT(",\"bytesPushed\":9007199254740992"), FL_E_INTERNAL, misunderstood},
        {RESULT(",\"platforms\":[" PLATFORM("") "]"), 0, NULL},
        {RESULT(",\"platforms\":[" PLATFORM("") "," PLATFORM("") "]"), FL_E_INTERNAL, lacks},
        {RESULT(",\"platforms\":[" PLATFORM(",\"layers\":-3") "]"), FL_E_INTERNAL, lacks},
        {RESULT(",\"platforms\":[{\"platform\":\"linux/amd64\",\"digest\":\"sha256:1\"}]"),
         FL_E_INTERNAL, lacks},
        {RESULT(",\"platforms\":[{\"platform\":\"a platform\",\"digest\":\"" DIGEST "\"}]"),
         FL_E_INTERNAL, lacks},
        {RESULT(",\"platforms\":[1,2,3,4,5,6,7,8,9]"), FL_E_INTERNAL, misunderstood},
        {"{\"error\":{\"code\":\"ServiceUnavailable\",\"message\":\"away\"}}\n", FL_E_UNAVAILABLE,
         "away"},
        {"{\"error\":{\"code\":\"Nonsense\"}}\n", FL_E_INTERNAL, "no message"},
        {"{\"error\":[]}\n", FL_E_INTERNAL, "no message"},
        {"@flood", FL_E_TOO_LARGE, ""},
    };

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_builder_known known = hear(*state, rows[i].what);

        if (known.err.code != rows[i].code ||
            (rows[i].message && !fl_str_has_prefix(known.err.msg, rows[i].message)))
            fail_msg("%.100s: %d, %s", rows[i].what, known.err.code, known.err.msg);
        assert_int_equal(known.state, rows[i].code ? FL_BUILDER_FAILED : FL_BUILDER_DONE);
        if (rows[i].code == 0)
            assert_string_equal(known.result.digest, DIGEST);
    }
}

/* Whoever sees that it is over sees when: delays count from there. And the first answer counts. */
static void an_answer_is_not_the_end(void **state)
{
    struct fixture *f = *state;
    const struct fl_build build = {.folder = "/", .program = "/", .repository = "@linger"};
    struct fl_builder_known known = {0};

    assert_int_equal(f->builder->ops->start(f->builder, "a", &build, NULL), 0);
    for (unsigned i = 0; i < PATIENCE && known.state != FL_BUILDER_FAILED; i++) {
        known = look(f);
        assert_int_not_equal(known.state, FL_BUILDER_DONE);
        if (known.state != FL_BUILDER_FAILED) {
            assert_int_equal(known.err.code, 0);
            (void)usleep(1000);
        }
    }
    assert_int_equal(known.err.code, FL_E_UNAVAILABLE);
    assert_true(known.ended_us > known.started_us);
}

static void a_death_is_told(void **state)
{
    const struct fl_build build = {.folder = "/", .program = "/", .containerfile = "dies"};
    struct fl_builder_known known = run(*state, &build);

    assert_int_equal(known.state, FL_BUILDER_FAILED);
    assert_int_equal(known.err.code, FL_E_INTERNAL);
    assert_string_equal(known.err.msg, "the builder ended without an answer (status -1, signal 9): "
                                       "it was a dark night");
}

/* Nothing that an object's status could not hold. */
static void what_is_told_is_bounded(void **state)
{
    struct fl_builder_known known = hear(*state, "@lines");

    assert_true(strlen(known.log_tail) <= FL_BUILD_TAIL_MAX);
    assert_true(strlen(known.log_tail) > FL_BUILD_TAIL_MAX / 2);
    assert_true(fl_str_has_prefix(known.log_tail, "line "));
    assert_true(fl_str_has_suffix(known.log_tail, "\nline 2999\nline 3000\n"));

    known = hear(*state, "@wide-log");
    assert_true(strlen(known.log_tail) <= FL_BUILD_TAIL_MAX);
    assert_true(fl_utf8_valid(known.log_tail, strlen(known.log_tail)));
    assert_true(fl_str_has_suffix(known.log_tail, "\xc3\xa4\nlast\n"));

    known = hear(*state, "@stages");
    assert_int_equal(known.stage_count, FL_BUILD_STAGES_MAX);
    assert_string_equal(known.stages[0].name, "S1");

    known = hear(*state, "@long-message");
    assert_int_equal(known.stage_count, 1);
    assert_int_equal(strlen(known.stages[0].message), 1000);
    assert_true(fl_utf8_valid(known.stages[0].message, 1000));
}

static void stages_that_are_none(void **state)
{
    static const char *const rows[] = {
        "{\"stage\":\"Base\"}\n", "{\"stage\":\"Base\",\"state\":\"Waiting\"}\n",
        "{\"stage\":\"\",\"state\":\"Done\"}\n", "{\"stage\":7,\"state\":\"Done\"}\n",
        "{\"stage\":\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg\","
        "\"state\":\"Done\"}\n"};

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_builder_known known =
            hear(*state, fl_arena_printf(((struct fixture *)*state)->arena, "%s" GOOD, rows[i]));

        assert_int_equal(known.state, FL_BUILDER_DONE);
        assert_int_equal(known.stage_count, 0);
    }
}

/* Once a platform: what was made for one is not said to have been there. */
static void a_stage_of_several_platforms(void **state)
{
    static const struct {
        const char *states[2];
        enum fl_stage_state state;
    } rows[] = {{{"Done", "Cached"}, FL_STAGE_DONE},
                {{"Cached", "Cached"}, FL_STAGE_CACHED},
                {{"Cached", "Done"}, FL_STAGE_DONE},
                {{"Done", "Running"}, FL_STAGE_RUNNING},
                {{"Done", "Failed"}, FL_STAGE_FAILED}};

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_builder_known known =
            hear(*state, fl_arena_printf(((struct fixture *)*state)->arena,
                                         "{\"stage\":\"Base\",\"state\":\"%s\"}\n"
                                         "{\"stage\":\"Base\",\"state\":\"%s\"}\n" GOOD,
                                         rows[i].states[0], rows[i].states[1]));

        assert_int_equal(known.stage_count, 1);
        assert_int_equal(known.stages[0].state, rows[i].state);
    }
}

static void a_request_has_a_bound(void **state)
{
    struct fixture *f = *state;
    char *text = fl_arena_printf(f->arena, "%*s", (int)FL_BUILD_REQUEST_MAX, "x");
    const struct fl_build build = {.folder = "/", .program = "/", .ca_pem = text};
    struct fl_error err = {0};

    assert_int_equal(f->builder->ops->start(f->builder, "a", &build, &err), FL_E_TOO_LARGE);
    assert_int_equal(look(f).state, FL_BUILDER_NONE);
    assert_int_equal(hear(f, GOOD).state, FL_BUILDER_DONE);
}

/* Ending. */

static pid_t start_one_that_stays(struct fixture *f)
{
    const struct fl_build build = {.folder = "/", .program = "/", .path = "stays"};
    int64_t pid;

    assert_int_equal(f->builder->ops->start(f->builder, "a", &build, NULL), 0);
    for (unsigned i = 0; i < PATIENCE; i++) {
        const char *tail = look(f).log_tail;

        if (tail && fl_str_to_int64(fl_arena_strndup(f->arena, tail, strcspn(tail, "\n")), 2,
                                    INT32_MAX, &pid))
            return (pid_t)pid;
        (void)usleep(5000);
    }
    fail_msg("it does not begin");
    return 0;
}

static void wait_until_gone(pid_t pid)
{
    for (unsigned i = 0; i < PATIENCE; i++) {
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return;
        (void)usleep(5000);
    }
    fail_msg("%ld lives", (long)pid);
}

static void forgetting_ends_the_child(void **state)
{
    struct fixture *f = *state;
    pid_t pid = start_one_that_stays(f);

    assert_int_equal(f->builder->ops->forget(f->builder, "a", NULL), 0);
    wait_until_gone(pid);
}

static void the_child_ends_with_the_builder(void **state)
{
    struct fixture *f = *state;
    pid_t pid = start_one_that_stays(f);

    f->builder->ops->destroy(FL_TAKE(f->builder));
    wait_until_gone(pid);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(answers),
        TEST(an_answer_is_not_the_end),
        TEST(a_death_is_told),
        TEST(what_is_told_is_bounded),
        TEST(stages_that_are_none),
        TEST(a_stage_of_several_platforms),
        TEST(a_request_has_a_bound),
        TEST(forgetting_ends_the_child),
        TEST(the_child_ends_with_the_builder),
#undef TEST
    };

    if (fl_build_is_child(argc, argv))
        return play_child();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
