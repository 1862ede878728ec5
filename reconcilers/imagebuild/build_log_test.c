/* Logs of builds: written line by line, bounded, shown, followed. */
#include "reconcilers/imagebuild/build_log.h"

#include "controller/apiserver/apiserver_testing.h"

#include <sys/stat.h>

#define LOG  WIDGETS "/a/log"
#define LONG " ............................................"

struct builder {
    struct fl_builder base;
    atomic_int state;
};

static struct test {
    struct rig *rig;
    struct builder builder;
    struct fl_build_logs *logs;
    char folder[64];
    char *path;
} test;

/* The first attempt's state; nothing is known of others. */
static int observe(struct fl_builder *self, const char *key, struct fl_arena *arena,
                   struct fl_builder_known *ret_known, struct fl_error *err)
{
    (void)arena, (void)err;
    *ret_known = (struct fl_builder_known){0};
    if (fl_str_has_suffix(key, "-1"))
        ret_known->state = (enum fl_builder_state)atomic_load(&((struct builder *)self)->state);
    return 0;
}

/* The loop is made with the server. */
static void get_log(void *user, struct fl_api_stream *stream)
{
    struct fl_apiserver_subresource served;

    (void)user;
    if (!test.logs) {
        test.logs = fl_build_logs_create(&test.rig->env, test.rig->loop, test.folder);
        fl_build_logs_attach(test.logs, &test.builder.base);
    }
    served = fl_build_logs_subresource(test.logs);
    assert_string_equal(served.name, "log");
    served.get(served.user, stream);
}

static const struct fl_apiserver_subresource table[] = {{"widgets.test.dev", "log", get_log, NULL}};
static const struct fl_builder_ops ops = {.observe = observe};

static int setup(void **state)
{
    struct rig *rig = rig_create("faulty-memory");
    struct answer answer;

    test = (struct test){.rig = rig, .builder.base.ops = &ops};
    (void)snprintf(test.folder, sizeof(test.folder), "/tmp/flops-logs-XXXXXX");
    assert_non_null(mkdtemp(test.folder));
    rig->subresources = table;
    rig->subresource_count = FL_COUNT_OF(table);
    rig_open(rig);
    answer = do_post(rig, WIDGETS, widget(rig, "a", ""));
    assert_answer(answer, 201);
    test.path = fl_strdup(
        fl_build_log_path(rig->arena, test.folder, fl_json_str(answer.body, "metadata.uid")));
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    int r = rig_teardown(state);

    fl_build_logs_destroy(test.logs);
    free(test.path);
    (void)fl_dir_remove(test.folder, NULL);
    return r;
}

static struct fl_build_log *open_log(void)
{
    struct fl_build_log *log = NULL;
    struct fl_error err = {0};

    if (fl_build_log_open(&test.rig->real, test.path, &log, &err) < 0)
        fail_msg("%s", err.msg);
    return log;
}

/* "WORD 000001REST" and so on. */
static void write_lines(const char *word, const char *rest, int from, int to)
{
    struct fl_build_log *log = open_log();

    for (int i = from; i <= to; i++) {
        char text[128];

        (void)snprintf(text, sizeof(text), "%s %06d%s", word, i, rest);
        fl_build_log_line(log, text);
    }
    fl_build_log_close(log);
}

static void receive_all(struct frames *frames)
{
    while (!frames->ended) {
        assert_true(frames_receive(frames, TEST_TIMEOUT_MS));
        frames_unchunk(frames);
    }
}

/* All of it, in the rig's arena. */
static const char *shown(struct rig *rig, const char *query)
{
    struct frames *frames = frames_open(rig, fl_arena_printf(rig->arena, LOG "%s", query));
    const char *text;

    frames_unchunk(frames);
    receive_all(frames);
    text = fl_arena_strdup(rig->arena, fl_buf_text(&frames->text));
    frames_close(frames);
    return text;
}

static void what_was_said_is_shown(void **state)
{
    const char *text;

    assert_string_equal(shown(*state, ""), ""); /* there is none yet */
    write_lines("attempt", "", 1, 1);
    write_lines("attempt", "", 2, 2);
    assert_string_equal(shown(*state, ""), "attempt 000001\nattempt 000002\n");
    assert_string_equal(shown(*state, "?tailLines=1"), "attempt 000002\n");
    assert_string_equal(shown(*state, "?tailLines=0"), "");
    assert_string_equal(shown(*state, "?tailLines=9"), "attempt 000001\nattempt 000002\n");
    text = shown(*state, "?timestamps=true&tailLines=1");
    assert_int_equal(text[4], '-');
    assert_string_equal(strchr(text, ' '), " attempt 000002\n");
    assert_refused(do_get(*state, LOG "?tailLines=x"), 400, "BadRequest", "tailLines");
    assert_refused(do_get(*state, LOG "?previous=true"), 400, "BadRequest", "all attempts");
}

static void a_line_is_one_line(void **state)
{
    struct fl_build_log *log = open_log();

    fl_build_log_line(log, "a\nb\x1b[2Jc\td");
    fl_build_log_close(log);
    assert_string_equal(shown(*state, ""), "a b [2Jc\td\n");
}

/* More than both files hold: the oldest lines are gone, the newest are there, in order. */
static void it_is_bounded(void **state)
{
    const char *text;
    struct stat about;
    int first;

    write_lines("line", LONG, 1, 40000);
    assert_int_equal(stat(test.path, &about), 0);
    assert_true(about.st_size <= (off_t)FL_BUILD_LOG_MAX);
    text = shown(*state, "");
    first = atoi(text + strlen("line "));
    assert_in_range(first, 2, 27000);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1)
        assert_int_equal(atoi(line + strlen("line ")), first++);
    assert_int_equal(first, 40001);
    assert_non_null(strstr(shown(*state, "?tailLines=13000"), "line 027001 "));
    assert_null(strstr(shown(*state, "?tailLines=13000"), "line 027000 "));
}

static void removed_is_gone(void **state)
{
    FL_CLEANUP(fl_freep) char *old = fl_asprintf("%s.1", test.path);
    struct stat about;

    write_lines("line", LONG, 1, 20000);
    assert_int_equal(stat(old, &about), 0);
    fl_build_log_remove(test.path);
    fl_build_log_remove(test.path);
    assert_int_not_equal(stat(old, &about), 0);
    assert_string_equal(shown(*state, ""), "");
}

static void receive_until(struct frames *frames, const char *text)
{
    while (!strstr(fl_buf_text(&frames->text), text)) {
        assert_true(frames_receive(frames, TEST_TIMEOUT_MS));
        frames_unchunk(frames);
    }
}

/* Also over a rotation, and until the attempt is over. */
static void a_follower_sees_it_come(void **state)
{
    struct frames *frames;

    atomic_store(&test.builder.state, FL_BUILDER_WAITING);
    frames = frames_open(*state, LOG "?follow=true");
    write_lines("early", "", 1, 1);
    receive_until(frames, "early 000001\n");
    atomic_store(&test.builder.state, FL_BUILDER_RUNNING);
    write_lines("line", LONG, 1, 15000);
    receive_until(frames, "line 015000");
    assert_false(frames->ended);
    write_lines("late", "", 1, 1);
    atomic_store(&test.builder.state, FL_BUILDER_DONE);
    receive_all(frames);
    assert_true(fl_str_has_suffix(fl_buf_text(&frames->text), "late 000001\n"));
    frames_close(frames);
}

/* Nothing has begun, and nothing does. */
static void a_follower_does_not_wait_for_ever(void **state)
{
    struct rig *rig = *state;
    struct frames *frames = frames_open(rig, LOG "?follow=true");

    write_lines("old", "", 1, 1);
    receive_until(frames, "old 000001\n");
    (void)atomic_fetch_add(&rig->shift_ms, 60000);
    receive_all(frames);
    frames_close(frames);
}

static void a_follower_may_leave(void **state)
{
    struct frames *frames;

    atomic_store(&test.builder.state, FL_BUILDER_RUNNING);
    frames = frames_open(*state, LOG "?follow=true");
    write_lines("line", "", 1, 1);
    receive_until(frames, "line 000001\n");
    frames_close(frames);
    write_lines("line", "", 2, 2);
    assert_string_equal(shown(*state, ""), "line 000001\nline 000002\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_said_is_shown),  TEST(a_line_is_one_line),
        TEST(it_is_bounded),           TEST(removed_is_gone),
        TEST(a_follower_sees_it_come), TEST(a_follower_does_not_wait_for_ever),
        TEST(a_follower_may_leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
