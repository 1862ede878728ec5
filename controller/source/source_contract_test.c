/* What every source promises, on every driver. A driver here is a small world: files are put into
 * the remote and published, and the remote can be taken away. */
#include "controller/source/source.h"

#include "controller/source/git.h"
#include "controller/source/source_fake.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define PATIENCE_MS 30000
#define FILES_MAX   32

struct world;

struct driver {
    const char *name;
    void (*open)(struct world *w);
    void (*put)(struct world *w, const char *path, const char *text); /* NULL: remove */
    void (*publish)(struct world *w); /* what was put is the remote's state now */
    void (*reach)(struct world *w, bool reachable);
    void (*step)(struct world *w); /* a moment passes */
    void (*close)(struct world *w);
};

struct world {
    const struct driver *driver;
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_source *source;
    const char *url;
    char base[64], remote[96];
    const char *directories[1];
    struct fl_lock *lock;
    struct fl_signal *signal;
    size_t told;
    char told_key[64];
    /* of the fake */
    struct fl_fake_env clock;
    struct fl_source_fake *fake;
    struct fl_source_fake_file files[FILES_MAX + 1];
};

static void on_change(void *user, const char *key)
{
    struct world *w = user;
    FL_LOCKED(w->lock);

    w->told++;
    (void)snprintf(w->told_key, sizeof(w->told_key), "%s", key);
    fl_signal_all(w->signal);
}

/* The driver `dir` */

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
    char command[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(command, sizeof(command), fmt, ap);
    va_end(ap);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test's own words */
}

static void dir_open(struct world *w)
{
    struct fl_error err = {0};
    struct fl_source_options options = {.env = &w->env,
                                        .data_dir = w->base,
                                        .directories = w->directories,
                                        .directory_count = 1,
                                        .changed = on_change,
                                        .user = w};

    (void)snprintf(w->remote, sizeof(w->remote), "%s/remote", w->base);
    w->directories[0] = w->remote;
    run("mkdir -p %s", w->remote);
    w->url = fl_arena_printf(w->arena, "dir://%s", w->remote);
    if (fl_source_dir_create(&options, &w->source, &err) < 0)
        fail_msg("%s", err.msg);
}

static void dir_put(struct world *w, const char *path, const char *text)
{
    const char *full = fl_arena_printf(w->arena, "%s/%s", w->remote, path);
    const char *slash = strrchr(full, '/');

    if (!text) {
        assert_int_equal(unlink(full), 0);
        return;
    }
    run("mkdir -p %.*s", (int)(slash - full), full);
    assert_int_equal(fl_file_write(full, text, strlen(text), 0644, NULL), 0);
}

static void nothing(struct world *w)
{
    (void)w;
}

static void dir_reach(struct world *w, bool reachable)
{
    if (reachable)
        run("mv %s.away %s", w->remote, w->remote);
    else
        run("mv %s %s.away", w->remote, w->remote);
}

static void dir_close(struct world *w)
{
    w->source->ops->destroy(w->source);
}

/* The driver `fake` */

static void fake_open(struct world *w)
{
    fl_fake_env_init(&w->clock, 1, NULL);
    w->env = w->clock.env;
    w->fake = fl_source_fake_create(&w->clock.env);
    w->source = fl_source_fake_source(w->fake);
    w->url = "https://remote.test/repo";
    fl_source_fake_on_change(w->fake, on_change, w);
    fl_source_fake_slow(w->fake, w->url, 10);
}

static void fake_put(struct world *w, const char *path, const char *text)
{
    size_t i = 0;

    while (w->files[i].path && strcmp(w->files[i].path, path) != 0)
        i++;
    assert_true(i < FILES_MAX);
    w->files[i].path = path;
    w->files[i].text = text;
    if (!text)
        for (; w->files[i].path; i++)
            w->files[i] = w->files[i + 1];
}

static void fake_publish(struct world *w)
{
    (void)fl_source_fake_commit(w->fake, w->url, NULL, w->files);
}

static void fake_reach(struct world *w, bool reachable)
{
    fl_source_fake_reach(w->fake, w->url, reachable);
}

static void fake_step(struct world *w)
{
    fl_fake_env_advance(&w->clock, 5);
    (void)fl_source_fake_step(w->fake);
}

static void fake_close(struct world *w)
{
    w->source->ops->destroy(w->source);
    fl_source_fake_destroy(w->fake);
}

/* The driver `git`: a bare repository over file, and a work tree to fill it from. */

static void git_open(struct world *w)
{
    struct fl_error err = {0};
    struct fl_source_options options = {.env = &w->env,
                                        .data_dir = fl_arena_printf(w->arena, "%s/data", w->base),
                                        .changed = on_change,
                                        .user = w};

    (void)snprintf(w->remote, sizeof(w->remote), "%s/remote", w->base);
    run("cd %s && git init -q --bare -b main remote && git init -q -b main work", w->base);
    w->url = fl_arena_printf(w->arena, "file://%s", w->remote);
    if (fl_source_git_create(&options, &w->source, &err) < 0)
        fail_msg("%s", err.msg);
}

static void git_put(struct world *w, const char *path, const char *text)
{
    const char *full = fl_arena_printf(w->arena, "%s/work/%s", w->base, path);
    const char *slash = strrchr(full, '/');

    if (!text) {
        assert_int_equal(unlink(full), 0);
        return;
    }
    run("mkdir -p %.*s", (int)(slash - full), full);
    assert_int_equal(fl_file_write(full, text, strlen(text), 0644, NULL), 0);
}

static void git_publish(struct world *w)
{
    run("cd %s/work && git add -A && git -c user.name=a -c user.email=a@b commit -qm x "
        "--allow-empty && git push -q %s main",
        w->base, w->remote);
}

static const struct driver drivers[] = {
    {"git", git_open, git_put, git_publish, dir_reach, nothing, dir_close},
    {"dir", dir_open, dir_put, nothing, dir_reach, nothing, dir_close},
    {"fake", fake_open, fake_put, fake_publish, fake_reach, fake_step, fake_close},
};

/* The world */

static struct world *open_world(const struct driver *driver)
{
    struct world *w = fl_calloc(1, sizeof(*w));

    print_message("  %s\n", driver->name);
    w->driver = driver;
    w->env = fl_env_real(NULL);
    w->arena = fl_arena_create();
    w->lock = fl_lock_create();
    w->signal = fl_signal_create();
    (void)snprintf(w->base, sizeof(w->base), "/tmp/flops-source-XXXXXX");
    assert_non_null(mkdtemp(w->base));
    driver->open(w);
    return w;
}

static void close_world(struct world *w)
{
    w->driver->close(w);
    run("rm -rf %s", w->base);
    fl_signal_destroy(w->signal);
    fl_lock_destroy(w->lock);
    fl_arena_destroy(w->arena);
    free(w);
}

typedef void check_fn(struct world *w);

static void on_every_driver(check_fn *check)
{
    for (size_t i = 0; i < FL_COUNT_OF(drivers); i++) {
        struct world *w = open_world(&drivers[i]);

        check(w);
        close_world(w);
    }
}

#define CONTRACT(name)                                                                             \
    static void check_##name(struct world *w);                                                     \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        on_every_driver(check_##name);                                                             \
    }                                                                                              \
    static void check_##name(struct world *w)

static struct fl_source_request request_of(const struct world *w)
{
    return (struct fl_source_request){.url = w->url, .path = ".", .timeout_ms = PATIENCE_MS};
}

static uint64_t fetch(struct world *w, const char *key, const struct fl_source_request *request)
{
    struct fl_error err = {0};
    uint64_t ticket = 0;

    if (w->source->ops->fetch(w->source, key, request, &ticket, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(ticket > 0);
    return ticket;
}

static struct fl_fetch_result observe(struct world *w, const char *key)
{
    struct fl_fetch_result result = {0};
    struct fl_error err = {0};

    if (w->source->ops->observe(w->source, key, w->arena, &result, &err) < 0)
        fail_msg("%s", err.msg);
    return result;
}

static void wait_a_moment(struct world *w)
{
    w->driver->step(w);
    fl_lock_take(w->lock);
    (void)fl_signal_wait(w->signal, w->lock, w->fake ? 0 : 20);
    fl_lock_release(w->lock);
}

/* The end of that fetch, or of a later one. */
static struct fl_fetch_result await(struct world *w, const char *key, uint64_t ticket)
{
    int64_t end = fl_machine_monotonic_us() + PATIENCE_MS * 1000;

    for (;;) {
        struct fl_fetch_result result = observe(w, key);

        if (result.ticket >= ticket && result.state != FL_FETCH_RUNNING)
            return result;
        fl_fetch_result_finish(&result);
        if (fl_machine_monotonic_us() > end)
            fail_msg("the fetch never ended");
        wait_a_moment(w);
    }
}

static struct fl_fetch_result fetch_and_wait(struct world *w, const char *key,
                                             const struct fl_source_request *request)
{
    return await(w, key, fetch(w, key, request));
}

static const char *names_of(struct world *w, const struct fl_snapshot *snapshot)
{
    const char *text = "";

    for (size_t i = 0; i < snapshot->file_count; i++)
        text = fl_arena_printf(w->arena, "%s%s%s", text, i ? " " : "", snapshot->files[i].path);
    return text;
}

static void put(struct world *w, const char *path, const char *text)
{
    w->driver->put(w, path, text);
}

CONTRACT(knows_nothing_at_first)
{
    struct fl_fetch_result result = observe(w, "k");

    assert_int_equal(result.state, FL_FETCH_NONE);
    assert_null(result.snapshot);
    assert_int_equal(w->source->ops->forget(w->source, "k", NULL), 0);
}

CONTRACT(fetches_manifests_by_path)
{
    const struct fl_source_request request = request_of(w);
    struct fl_fetch_result result;

    put(w, "b.yml", "b");
    put(w, "a.yaml", "a");
    put(w, "sub/deep/c.json", "{}");
    put(w, "sub-a.yaml", "s");
    put(w, "README.md", "no");
    w->driver->publish(w);
    result = fetch_and_wait(w, "k", &request);
    assert_int_equal(result.state, FL_FETCH_DONE);
    assert_string_equal(names_of(w, result.snapshot), "a.yaml b.yml sub-a.yaml sub/deep/c.json");
    assert_int_equal(result.snapshot->files[0].len, 1);
    assert_memory_equal(result.snapshot->files[0].data, "a", 1);
    assert_null(result.snapshot->files[0].fault);
    assert_false(result.snapshot->files[0].unfinished);
    assert_true(strlen(result.snapshot->revision) > 0);
    assert_string_equal(result.attempted, result.snapshot->revision);
    assert_null(result.snapshot->signer);
    assert_true(result.finished_ms <= fl_monotonic_ms(&w->env));
    fl_fetch_result_finish(&result);
}

CONTRACT(tells_when_a_fetch_ended)
{
    const struct fl_source_request request = request_of(w);
    struct fl_fetch_result result;

    put(w, "a.yaml", "a");
    w->driver->publish(w);
    result = fetch_and_wait(w, "the-key", &request);
    fl_fetch_result_finish(&result);
    for (int64_t end = fl_machine_monotonic_us() + PATIENCE_MS * 1000;;) {
        {
            FL_LOCKED(w->lock);
            if (w->told > 0)
                break;
        }
        assert_true(fl_machine_monotonic_us() < end);
        wait_a_moment(w);
    }
    assert_string_equal(w->told_key, "the-key");
}

CONTRACT(minds_folder_and_patterns)
{
    static const char *const exclude[] = {"drafts/**", "**/skip.yaml"};
    struct fl_source_request request = request_of(w);
    struct fl_fetch_result result;

    put(w, "a.yaml", "a");
    put(w, "apps/b.yaml", "b");
    put(w, "apps/drafts/c.yaml", "c");
    put(w, "apps/x/skip.yaml", "d");
    put(w, "apps2/e.yaml", "e");
    w->driver->publish(w);
    request.path = "apps";
    request.exclude = exclude;
    request.exclude_count = FL_COUNT_OF(exclude);
    result = fetch_and_wait(w, "k", &request);
    assert_int_equal(result.state, FL_FETCH_DONE);
    assert_string_equal(names_of(w, result.snapshot), "apps/b.yaml");
    fl_fetch_result_finish(&result);
}

CONTRACT(revisions_say_what_changed)
{
    const struct fl_source_request request = request_of(w);
    struct fl_fetch_result first, again, changed;

    put(w, "a.yaml", "1");
    w->driver->publish(w);
    first = fetch_and_wait(w, "k", &request);
    again = fetch_and_wait(w, "k", &request);
    assert_true(again.ticket > first.ticket);
    assert_string_equal(again.snapshot->revision, first.snapshot->revision);
    put(w, "a.yaml", "2");
    w->driver->publish(w);
    changed = fetch_and_wait(w, "k", &request);
    assert_int_equal(changed.state, FL_FETCH_DONE);
    assert_string_not_equal(changed.snapshot->revision, first.snapshot->revision);
    assert_memory_equal(changed.snapshot->files[0].data, "2", 1);
    assert_memory_equal(first.snapshot->files[0].data, "1", 1); /* snapshots never change */
    fl_fetch_result_finish(&first);
    fl_fetch_result_finish(&again);
    fl_fetch_result_finish(&changed);
}

CONTRACT(one_fetch_of_a_key_at_a_time)
{
    const struct fl_source_request request = request_of(w);
    struct fl_fetch_result result;
    uint64_t first, last = 0;

    put(w, "a.yaml", "1");
    w->driver->publish(w);
    first = fetch(w, "k", &request);
    for (int i = 0; i < 20; i++) {
        uint64_t ticket = fetch(w, "k", &request);

        assert_true(ticket >= first && ticket >= last);
        last = ticket;
    }
    result = await(w, "k", last);
    assert_int_equal(result.state, FL_FETCH_DONE);
    fl_fetch_result_finish(&result);
}

CONTRACT(says_that_it_cannot_reach_the_remote)
{
    const struct fl_source_request request = request_of(w);
    struct fl_fetch_result result;

    put(w, "a.yaml", "1");
    w->driver->publish(w);
    w->driver->reach(w, false);
    result = fetch_and_wait(w, "k", &request);
    assert_int_equal(result.state, FL_FETCH_FAILED);
    assert_string_equal(result.reason, "FetchFailed");
    if (result.snapshot) /* what was good before */
        assert_int_equal(result.snapshot->file_count, 1);
    assert_true(result.err.code < 0 && strlen(result.err.msg) > 0);
    fl_fetch_result_finish(&result);

    w->driver->reach(w, true);
    result = fetch_and_wait(w, "k", &request);
    assert_int_equal(result.state, FL_FETCH_DONE);
    assert_int_equal(result.err.code, 0);
    fl_fetch_result_finish(&result);
}

CONTRACT(keys_are_apart_and_can_be_forgotten)
{
    struct fl_source_request whole = request_of(w), part = request_of(w);
    struct fl_fetch_result one, other;

    put(w, "a.yaml", "1");
    put(w, "sub/b.yaml", "1");
    w->driver->publish(w);
    part.path = "sub";
    one = fetch_and_wait(w, "one", &whole);
    other = fetch_and_wait(w, "other", &part);
    assert_int_equal(one.snapshot->file_count, 2);
    assert_int_equal(other.snapshot->file_count, 1);
    assert_int_equal(w->source->ops->forget(w->source, "one", NULL), 0);
    assert_int_equal(observe(w, "one").state, FL_FETCH_NONE);
    fl_fetch_result_finish(&other);
    other = observe(w, "other");
    assert_int_equal(other.state, FL_FETCH_DONE);
    assert_string_equal(one.snapshot->files[0].path, "a.yaml"); /* a snapshot is its holder's */
    fl_fetch_result_finish(&one);
    fl_fetch_result_finish(&other);
    one = fetch_and_wait(w, "one", &whole);
    assert_int_equal(one.state, FL_FETCH_DONE);
    fl_fetch_result_finish(&one);
}

CONTRACT(can_be_destroyed_at_work)
{
    const struct fl_source_request request = request_of(w);

    put(w, "a.yaml", "1");
    w->driver->publish(w);
    for (int i = 0; i < 8; i++)
        (void)fetch(w, fl_arena_printf(w->arena, "key-%d", i), &request);
    assert_int_equal(w->source->ops->forget(w->source, "key-3", NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_knows_nothing_at_first),
        cmocka_unit_test(test_fetches_manifests_by_path),
        cmocka_unit_test(test_tells_when_a_fetch_ended),
        cmocka_unit_test(test_minds_folder_and_patterns),
        cmocka_unit_test(test_revisions_say_what_changed),
        cmocka_unit_test(test_one_fetch_of_a_key_at_a_time),
        cmocka_unit_test(test_says_that_it_cannot_reach_the_remote),
        cmocka_unit_test(test_keys_are_apart_and_can_be_forgotten),
        cmocka_unit_test(test_can_be_destroyed_at_work),
    };

    if (fl_git_is_fetch(argc, argv))
        return fl_git_fetch_main(STDIN_FILENO, STDOUT_FILENO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
