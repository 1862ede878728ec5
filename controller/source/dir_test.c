/* A watched folder under the hands of editors, copiers, mounts and slow writers. */
#include "controller/source/dir.h"

#include "controller/source/manifests.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define PATIENCE_MS 60000
#define KEY         "k"

struct world {
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_source *source;
    char base[64], root[96];
    const char *directories[1];
    struct fl_lock *lock;
    struct fl_signal *signal;
    size_t told;
    struct fl_fetch_result seen; /* what was looked at last */
};

static void on_change(void *user, const char *key)
{
    struct world *w = user;
    FL_LOCKED(w->lock);

    assert_string_equal(key, KEY);
    w->told++;
    fl_signal_all(w->signal);
}

static int setup(void **state)
{
    struct world *w = fl_calloc(1, sizeof(*w));
    struct fl_source_options options = {.env = &w->env,
                                        .directories = w->directories,
                                        .directory_count = 1,
                                        .changed = on_change,
                                        .user = w};
    struct fl_error err = {0};

    w->env = fl_env_real(NULL);
    w->arena = fl_arena_create();
    w->lock = fl_lock_create();
    w->signal = fl_signal_create();
    (void)snprintf(w->base, sizeof(w->base), "/tmp/flops-dir-XXXXXX");
    assert_non_null(mkdtemp(w->base));
    (void)snprintf(w->root, sizeof(w->root), "%s/root", w->base);
    assert_int_equal(mkdir(w->root, 0700), 0);
    w->directories[0] = w->root;
    if (fl_source_dir_create(&options, &w->source, &err) < 0)
        fail_msg("%s", err.msg);
    *state = w;
    return 0;
}

static void run(struct world *w, const char *command)
{
    /* NOLINTNEXTLINE(cert-env33-c): a test's own words */
    assert_int_equal(system(fl_arena_printf(w->arena, "cd %s && %s", w->root, command)), 0);
}

static int teardown(void **state)
{
    struct world *w = *state;

    fl_fetch_result_finish(&w->seen);
    w->source->ops->destroy(w->source);
    run(w, "cd .. && rm -rf root other outside moved");
    assert_int_equal(rmdir(w->base), 0);
    fl_signal_destroy(w->signal);
    fl_lock_destroy(w->lock);
    fl_arena_destroy(w->arena);
    free(w);
    return 0;
}

static void write_file(struct world *w, const char *path, const char *text)
{
    FILE *file = fopen(fl_arena_printf(w->arena, "%s/%s", w->root, path), "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void look(struct world *w)
{
    struct fl_error err = {0};

    fl_fetch_result_finish(&w->seen);
    assert_int_equal(w->source->ops->observe(w->source, KEY, w->arena, &w->seen, &err), 0);
}

static void start(struct world *w)
{
    const char *url = fl_arena_printf(w->arena, "dir://%s", w->root);
    const struct fl_source_request request = {.url = url};
    struct fl_error err = {0};
    uint64_t ticket;

    if (w->source->ops->fetch(w->source, KEY, &request, &ticket, &err) < 0)
        fail_msg("%s", err.msg);
}

/* "PATH=TEXT …" of what is there, with ! for a fault and ? for what is unfinished. */
static const char *content(struct world *w)
{
    const struct fl_snapshot *snapshot = w->seen.snapshot;
    const char *text = "";

    if (!snapshot)
        return "nothing";
    for (size_t i = 0; i < snapshot->file_count; i++) {
        const struct fl_source_file *file = &snapshot->files[i];

        text = fl_arena_printf(w->arena, "%s%s%s%s%s=%.*s", text, i ? " " : "",
                               file->fault ? "!" : "", file->unfinished ? "?" : "", file->path,
                               (int)file->len, (const char *)file->data);
    }
    return text;
}

typedef bool check_fn(struct world *w, const void *wanted);

static void await(struct world *w, check_fn *check, const void *wanted)
{
    int64_t end = fl_machine_monotonic_us() + PATIENCE_MS * 1000;

    for (;;) {
        size_t told;

        {
            FL_LOCKED(w->lock);
            told = w->told;
        }
        look(w);
        if (w->seen.state != FL_FETCH_RUNNING && check(w, wanted))
            return;
        if (fl_machine_monotonic_us() > end)
            fail_msg("it stays \"%s\" instead of \"%s\"", content(w), (const char *)wanted);
        fl_lock_take(w->lock);
        if (told == w->told)
            (void)fl_signal_wait(w->signal, w->lock, 1000);
        fl_lock_release(w->lock);
    }
}

static bool has_content(struct world *w, const void *wanted)
{
    return strcmp(content(w), wanted) == 0;
}

static void expect(struct world *w, const char *wanted)
{
    await(w, has_content, wanted);
}

static bool has_failed(struct world *w, const void *wanted)
{
    return w->seen.state == FL_FETCH_FAILED && strstr(w->seen.err.msg, wanted);
}

static size_t told(struct world *w)
{
    FL_LOCKED(w->lock);

    return w->told;
}

static void test_hears_of_files(void **state)
{
    struct world *w = *state;
    const char *first;
    uint64_t ticket;

    write_file(w, "a.yaml", "1");
    start(w);
    expect(w, "a.yaml=1");
    first = fl_arena_strdup(w->arena, w->seen.snapshot->revision);
    assert_true(fl_str_has_prefix(first, "sha256:"));
    assert_int_equal(strlen(first), strlen("sha256:") + 64);
    ticket = w->seen.ticket;

    write_file(w, "b.json", "{}");
    expect(w, "a.yaml=1 b.json={}");
    assert_true(w->seen.ticket > ticket);
    assert_string_not_equal(w->seen.snapshot->revision, first);
    write_file(w, "a.yaml", "2");
    expect(w, "a.yaml=2 b.json={}");
    run(w, "rm b.json");
    expect(w, "a.yaml=2");
    write_file(w, "a.yaml", "1");
    expect(w, "a.yaml=1");
    assert_string_equal(w->seen.snapshot->revision, first); /* content alone counts */
}

static void test_hears_of_renames(void **state)
{
    struct world *w = *state;

    write_file(w, "a.yaml", "1");
    start(w);
    expect(w, "a.yaml=1");
    write_file(w, ".a.yaml.tmp", "2");
    run(w, "mv .a.yaml.tmp a.yaml");
    expect(w, "a.yaml=2");
    run(w, "mv a.yaml b.yaml");
    expect(w, "b.yaml=2");
    run(w, "mv b.yaml ../moved");
    expect(w, "");
    run(w, "mv ../moved c.yaml");
    expect(w, "c.yaml=2");
}

static void test_hears_of_folders(void **state)
{
    struct world *w = *state;

    start(w);
    expect(w, "");
    run(w, "mkdir -p deep/er/still && printf 1 >deep/er/still/a.yaml");
    expect(w, "deep/er/still/a.yaml=1");
    run(w, "printf 2 >deep/er/still/a.yaml");
    expect(w, "deep/er/still/a.yaml=2");
    run(w, "mv deep other && printf 3 >other/er/b.yaml");
    expect(w, "other/er/b.yaml=3 other/er/still/a.yaml=2");
    run(w, "mv other ../outside");
    expect(w, "");
    run(w, "mv ../outside back");
    expect(w, "back/er/b.yaml=3 back/er/still/a.yaml=2");
    run(w, "rm -r back/er");
    expect(w, "");
    run(w, "printf 4 >back/c.yaml");
    expect(w, "back/c.yaml=4");
}

/* A folder filled at once, deeper than the watches that there were. */
static void test_misses_nothing_of_a_storm(void **state)
{
    struct world *w = *state;
    static const char *const wanted = "last.yaml=end";

    start(w);
    expect(w, "");
    run(w, "for i in $(seq 300); do mkdir -p d$i/e && printf $i >d$i/e/f.yaml; done");
    run(w, "rm -r d* && printf end >last.yaml");
    expect(w, wanted);
    run(w, "for i in $(seq 300); do mkdir -p d$i/e && printf x >d$i/e/f.yaml; done; rm last.yaml");
    for (int64_t end = fl_machine_monotonic_us() + PATIENCE_MS * 1000;;) {
        look(w);
        if (w->seen.snapshot && w->seen.snapshot->file_count == 300)
            break;
        assert_true(fl_machine_monotonic_us() < end);
        fl_lock_take(w->lock);
        (void)fl_signal_wait(w->signal, w->lock, 100);
        fl_lock_release(w->lock);
    }
}

/* An inotify queue that overflowed lost the one event that mattered. */
static void test_an_overflow_is_read_again(void **state)
{
    struct world *w = *state;

    write_file(w, "a.yaml", "1");
    start(w);
    expect(w, "a.yaml=1");
    run(w,
        "i=0; while [ $i -lt 30000 ]; do : >x; : >y; i=$((i+1)); done; rm x y; printf 2 >a.yaml");
    expect(w, "a.yaml=2");
}

static void test_leaves_out_what_is_no_manifest(void **state)
{
    struct world *w = *state;
    size_t before;

    write_file(w, "a.yaml", "1");
    start(w);
    expect(w, "a.yaml=1");
    before = told(w);
    run(w, "printf x >.hidden.yaml; printf x >a.yaml~; printf x >.a.yaml.swp; printf x >4913; "
           "printf x >'#a.yaml#'; mkdir -p .git && printf x >.git/a.yaml; touch a.yaml; "
           "mkfifo pipe.yaml; rm 4913");
    write_file(w, "b.yaml", "1");
    expect(w, "a.yaml=1 b.yaml=1");
    assert_true(told(w) <= before + 2);
}

/* As a mounted ConfigMap changes: one rename of one link. */
static void test_follows_swapped_links(void **state)
{
    struct world *w = *state;

    run(w, "mkdir ..one ..one/sub && printf 1 >..one/a.yaml && printf s >..one/sub/b.yaml && "
           "ln -s ..one ..data && ln -s ..data/a.yaml a.yaml && ln -s ..data/sub sub");
    start(w);
    expect(w, "a.yaml=1 sub/b.yaml=s");
    run(w, "mkdir ..two ..two/sub && printf 2 >..two/a.yaml && printf t >..two/sub/b.yaml && "
           "ln -s ..two ..data_tmp && mv -T ..data_tmp ..data && rm -r ..one");
    expect(w, "a.yaml=2 sub/b.yaml=t");
}

static void test_links_do_not_lead_out(void **state)
{
    struct world *w = *state;

    run(w, "mkdir ../outside && printf secret >../outside/s.yaml && ln -s ../outside/s.yaml a.yaml "
           "&& ln -s ../outside out && ln -s /etc/passwd b.yaml && ln -s nowhere c.yaml && "
           "mkdir d && ln -s .. d/up && ln -s d e && printf 1 >d/f.yaml && ln -s self self && "
           "ln -s /proc/self/fd g.yaml");
    start(w);
    expect(w, "!a.yaml= !b.yaml= !c.yaml= d/f.yaml=1 e/f.yaml=1 !g.yaml=");
    assert_string_equal(w->seen.snapshot->files[0].fault, "is a link that leads out of the folder");
    assert_string_equal(w->seen.snapshot->files[2].fault, "is a link that leads nowhere");
}

/* What is half-written is marked, so that nothing is pruned for it. */
static void test_unfinished_files_are_marked(void **state)
{
    struct world *w = *state;
    const char *path = fl_arena_printf(w->arena, "%s/a.yaml", w->root);
    struct fl_manifests manifests;
    int fd;

    write_file(w, "a.yaml", "whole");
    start(w);
    expect(w, "a.yaml=whole");
    fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "ha", 2), 2);
    expect(w, "?a.yaml=ha");
    fl_manifests_read(w->seen.snapshot, w->arena, &manifests);
    assert_true(manifests.incomplete);
    assert_int_equal(write(fd, "lf", 2), 2);
    expect(w, "?a.yaml=half");
    assert_int_equal(close(fd), 0);
    expect(w, "a.yaml=half"); /* the same content, and news nevertheless */
}

static void test_a_folder_that_is_gone_is_a_failure(void **state)
{
    struct world *w = *state;

    write_file(w, "a.yaml", "1");
    start(w);
    expect(w, "a.yaml=1");
    run(w, "cd .. && mv root moved");
    await(w, has_failed, "No such file");
    assert_string_equal(w->seen.reason, "FetchFailed");
    assert_null(w->seen.snapshot);
    assert_int_equal(rename(fl_arena_printf(w->arena, "%s/moved", w->base), w->root), 0);
    start(w);
    expect(w, "a.yaml=1");
    write_file(w, "a.yaml", "2");
    expect(w, "a.yaml=2");
}

static void expect_refused(struct world *w, const char *url, const char *path, const char *words)
{
    const struct fl_source_request request = {.url = url, .path = path};
    struct fl_error err = {0};
    uint64_t ticket;

    if (w->source->ops->fetch(w->source, KEY, &request, &ticket, &err) < 0) {
        if (!strstr(err.msg, words))
            fail_msg("\"%s\" is not in %s", words, err.msg);
        return;
    }
    await(w, has_failed, words);
}

static void test_reads_only_where_it_may(void **state)
{
    struct world *w = *state;
    const char *url = fl_arena_printf(w->arena, "dir://%s", w->root);

    run(w, "mkdir ../outside ../rooted sub && ln -s ../outside link && printf 1 >sub/a.yaml");
    expect_refused(w, "dir:///etc", NULL, "is not within a folder");
    expect_refused(w, "dir:///", NULL, "is not within a folder");
    expect_refused(w, fl_arena_printf(w->arena, "%s/../outside", url), NULL,
                   "is not within a folder");
    expect_refused(w, fl_arena_printf(w->arena, "%sed", url), NULL, "is not within a folder");
    expect_refused(w, url, "../outside", "leaves the folder");
    expect_refused(w, url, "link", "is not within a folder");
    expect_refused(w, url, "missing", "No such file");
    expect_refused(w, "dir://host/folder", NULL, "dir:///FOLDER");
    expect_refused(w, "dir:///a%zz", NULL, "escaped");
    run(w, "rmdir ../rooted");
    {
        const struct fl_source_request request = {.url = url, .path = "sub"};
        struct fl_error err = {0};
        uint64_t ticket;

        assert_int_equal(w->source->ops->fetch(w->source, KEY, &request, &ticket, &err), 0);
        expect(w, "sub/a.yaml=1");
    }
}

static void test_is_bounded(void **state)
{
    struct world *w = *state;

    run(w, "head -c 3145729 /dev/zero >big.yaml");
    start(w);
    await(w, has_failed, "big.yaml");
    run(w,
        "head -c 3145728 /dev/zero >big.yaml && for i in $(seq 21); do cp big.yaml b$i.yaml; done");
    await(w, has_failed, "more than 64 MiB");
    run(w, "rm b*.yaml");
    expect(w, "");
    run(w, "p=.; for i in $(seq 70); do p=$p/d; done; mkdir -p $p");
    await(w, has_failed, "folders within folders");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_hears_of_files),
        T(test_hears_of_renames),
        T(test_hears_of_folders),
        T(test_misses_nothing_of_a_storm),
        T(test_an_overflow_is_read_again),
        T(test_leaves_out_what_is_no_manifest),
        T(test_follows_swapped_links),
        T(test_links_do_not_lead_out),
        T(test_unfinished_files_are_marked),
        T(test_a_folder_that_is_gone_is_a_failure),
        T(test_reads_only_where_it_may),
        T(test_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
