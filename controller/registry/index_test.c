/* The index itself: files that are none, bounds, and threads. */
#include "controller/registry/index.h"

#include "lib/file.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define D3 "sha256:3333333333333333333333333333333333333333333333333333333333333333"

struct rig {
    struct fl_env env;
    struct fl_arena *arena;
    char folder[64], path[96];
    struct fl_repos_index *index;
};

static void reopen(struct rig *rig)
{
    struct fl_error err = {0};

    fl_repos_index_close(FL_TAKE(rig->index));
    if (fl_repos_index_open(&rig->env, rig->path, &rig->index, &err) < 0)
        fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    rig->env = fl_env_real(NULL);
    rig->arena = fl_arena_create();
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flops-index-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    (void)snprintf(rig->path, sizeof(rig->path), "%s/registry.db", rig->folder);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_repos_index_close(rig->index);
    assert_int_equal(fl_dir_remove(rig->folder, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

/* A manifest with this digest, of a config and a layer. */
static int put(struct rig *rig, const char *repository, const char *digest, const char *config,
               const char *layer, const char *tag, struct fl_error *err)
{
    struct fl_oci_descriptor part = {.media_type = FL_OCI_LAYER_TAR, .digest = layer, .size = 5};
    const struct fl_oci_manifest content = {
        .media_type = FL_OCI_MANIFEST,
        .config = {.media_type = FL_OCI_CONFIG, .digest = config, .size = 5},
        .layers = {&part, 1}};
    const struct fl_repos_manifest manifest = {
        .digest = digest, .media_type = FL_OCI_MANIFEST, .size = 100};

    return fl_repos_index_put(rig->index, repository, &manifest, &content, tag, err);
}

static void write_sql(struct rig *rig, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(rig->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void what_is_no_index_is_refused(void **state)
{
    static const char text[] = "this is a text, which is no database of anybody's at all; it goes "
                               "on for longer than the header that a database has, so that it is "
                               "looked at";
    struct rig *rig = *state;
    struct fl_error err = {0};

    assert_int_equal(fl_file_write(rig->path, text, sizeof(text), 0600, NULL), 0);
    assert_true(fl_repos_index_open(&rig->env, rig->path, &rig->index, &err) < 0);
    assert_non_null(strstr(err.msg, "is no index"));
    assert_int_equal(unlink(rig->path), 0);
    write_sql(rig, "CREATE TABLE other (x)");
    assert_int_equal(fl_repos_index_open(&rig->env, rig->path, &rig->index, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "another program"));
    assert_int_equal(unlink(rig->path), 0);
    reopen(rig);
    fl_repos_index_close(FL_TAKE(rig->index));
    write_sql(rig, "PRAGMA user_version=99");
    assert_int_equal(fl_repos_index_open(&rig->env, rig->path, &rig->index, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "newer version"));
}

static void what_fails_has_not_happened(void **state)
{
    struct rig *rig = *state;
    struct fl_repos_manifest found;
    struct fl_repos_names names;
    struct fl_error err = {0};
    int64_t size;

    reopen(rig);
    assert_int_equal(fl_repos_index_add_blob(rig->index, "a", D1, 5, &err), 0);
    assert_int_equal(put(rig, "a", D3, D1, D2, "v", &err), FL_E_NOT_FOUND);
    assert_int_equal(put(rig, "new", D3, D1, D2, "v", &err), FL_E_NOT_FOUND);
    reopen(rig);
    assert_int_equal(fl_repos_index_manifest(rig->index, rig->arena, "a", "v", &found, NULL),
                     FL_E_NOT_FOUND);
    assert_int_equal(fl_repos_index_drop_blob(rig->index, "a", D1, &err), 0); /* nothing names it */
    assert_int_equal(fl_repos_index_blob(rig->index, "a", D1, &size, NULL), FL_E_NOT_FOUND);
    assert_int_equal(fl_repos_index_repositories(rig->index, rig->arena, "", 10, &names, &err), 0);
    assert_int_equal(names.count, 1); /* "new" is none */
}

/* A disk that takes no more refuses, and when it does again all goes on. */
static void a_full_disk_refuses(void **state)
{
    struct rig *rig = *state;
    struct fl_error err = {0};
    struct rlimit saved, limit;
    char name[FL_OCI_REPOSITORY_MAX];
    int64_t size;
    int r = 0, count = 0;

    reopen(rig);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
    limit = saved;
    limit.rlim_cur = 1000000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    while (r == 0 && count < 10000) {
        (void)snprintf(name, sizeof(name), "a/%0200d", count++);
        r = fl_repos_index_add_blob(rig->index, name, D1, 5, &err);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
    assert_int_equal(r, FL_E_UNAVAILABLE);
    assert_int_equal(fl_repos_index_blob(rig->index, name, D1, &size, NULL), FL_E_NOT_FOUND);
    assert_int_equal(fl_repos_index_add_blob(rig->index, name, D1, 5, &err), 0);
    reopen(rig);
    while (count-- > 0) {
        (void)snprintf(name, sizeof(name), "a/%0200d", count);
        assert_int_equal(fl_repos_index_blob(rig->index, name, D1, &size, NULL), 0);
    }
}

/* While a writer has all to itself, readers read what was there before. */
struct looking {
    struct rig *rig;
    int looked;
};

static bool look_around(void *user, const char *digest)
{
    struct looking *looking = user;
    struct fl_repos_manifest found;

    assert_string_equal(digest, D3);
    assert_int_equal(
        fl_repos_index_manifest(looking->rig->index, looking->rig->arena, "a", "v", &found, NULL),
        0);
    looking->looked++;
    return false;
}

static bool always(void *user, const char *key, const char *digest, int64_t time_us)
{
    (void)user;
    (void)key;
    (void)digest;
    (void)time_us;
    return true;
}

static void count_staying(void *user, const char *repository, const char *digest)
{
    struct looking *looking = user;

    (void)repository;
    (void)digest;
    looking->looked += 100;
}

static void readers_wait_for_nobody(void **state)
{
    struct rig *rig = *state;
    struct looking looking = {.rig = rig};
    const struct fl_repos_judge judge = {look_around, always, count_staying, &looking};
    size_t manifests, blobs, repositories;
    struct fl_error err = {0};

    reopen(rig);
    assert_int_equal(fl_repos_index_add_blob(rig->index, "a", D1, 5, &err), 0);
    assert_int_equal(fl_repos_index_add_blob(rig->index, "a", D2, 5, &err), 0);
    assert_int_equal(put(rig, "a", D3, D1, D2, "v", &err), 0);
    assert_int_equal(
        fl_repos_index_forget(rig->index, &judge, &manifests, &blobs, &repositories, &err), 0);
    assert_int_equal(looking.looked, 301); /* it was asked once; all three parts stay */
    assert_int_equal(manifests + blobs + repositories, 0);
}

#define ROUNDS 50

struct worker {
    struct rig *rig;
    struct fl_thread *thread;
    int number, failures;
};

static void work(void *user)
{
    struct worker *worker = user;
    struct fl_repos_index *index = worker->rig->index;
    char digest[FL_DIGEST_SIZE], tag[32], text[32];

    for (int i = 0; i < ROUNDS; i++) {
        struct fl_repos_manifest found;
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

        (void)snprintf(text, sizeof(text), "%d %d", worker->number, i);
        (void)snprintf(tag, sizeof(tag), "t%d-%d", worker->number, i % 3);
        fl_digest_of(text, strlen(text), digest);
        worker->failures += put(worker->rig, "a", digest, D1, D2, tag, NULL) < 0 ||
                            fl_repos_index_manifest(index, arena, "a", tag, &found, NULL) < 0 ||
                            strcmp(found.digest, digest) != 0;
        if (i % 5 == 4)
            worker->failures += fl_repos_index_drop_tag(index, "a", tag, NULL) < 0;
    }
}

static void threads_share_it(void **state)
{
    struct rig *rig = *state;
    struct worker workers[4] = {0};

    reopen(rig);
    assert_int_equal(fl_repos_index_add_blob(rig->index, "a", D1, 5, NULL), 0);
    assert_int_equal(fl_repos_index_add_blob(rig->index, "a", D2, 5, NULL), 0);
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){.rig = rig, .number = i};
        assert_int_equal(fl_thread_start("worker", work, &workers[i], &workers[i].thread, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        fl_thread_join(workers[i].thread);
        assert_int_equal(workers[i].failures, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_index_is_refused),
        TEST(what_fails_has_not_happened),
        TEST(a_full_disk_refuses),
        TEST(readers_wait_for_nobody),
        TEST(threads_share_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
