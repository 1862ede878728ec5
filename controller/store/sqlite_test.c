/* What only the durable driver promises: its file, and what may have happened to it. */
#include "controller/store/store_testing.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <zlib.h>

static bool is_secret(const char *resource)
{
    return fl_streq(resource, SECRETS);
}

static const unsigned char seal_key[32] = "0123456789abcdef0123456789abcde";

static int setup(void **state)
{
    struct fixture *f = test_malloc(sizeof(*f));

    fixture_init(f, "sqlite");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_finish(*state);
    test_free(*state);
    return 0;
}

/* Opening fails with that code and a text that has these words. */
static void assert_refused(struct fixture *f, int code, const char *words)
{
    struct fl_store *store = NULL;
    struct fl_error err = {0};

    assert_int_equal(fl_store_open(&f->options, &store, &err), code);
    assert_null(store);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
}

static void run_sql(const struct fixture *f, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int64_t query_number(const struct fixture *f, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    sqlite3 *db;
    int64_t value;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    value = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return value;
}

static void write_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    (void)close(fd);
}

static char *read_file(const char *path, size_t *ret_len)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *data;

    assert_true(fd >= 0 && fstat(fd, &status) == 0);
    data = fl_malloc((size_t)status.st_size);
    assert_int_equal(read(fd, data, (size_t)status.st_size), status.st_size);
    (void)close(fd);
    *ret_len = (size_t)status.st_size;
    return data;
}

static void test_file_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat status;
    char log[128];

    fixture_open(f);
    (void)create(f->store, "ns", "a", "1");
    assert_int_equal(stat(f->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    (void)snprintf(log, sizeof(log), "%s-wal", f->path);
    assert_int_equal(stat(log, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    fixture_close(f);
    assert_int_equal(stat(log, &status), -1);
}

static void test_one_store_a_file(void **state)
{
    struct fixture *f = *state;
    int status;
    pid_t child;

    fixture_open(f);
    (void)create(f->store, "ns", "a", "1");
    assert_refused(f, FL_E_UNAVAILABLE, "is in use");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fl_store *store = NULL;

        _exit(fl_store_open(&f->options, &store, NULL) == FL_E_UNAVAILABLE ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* Neither attempt let go of the lock. */
    assert_refused(f, FL_E_UNAVAILABLE, "is in use");
    (void)create(f->store, "ns", "b", "1");
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(fl_store_count(f->store, PROJECTS), 2);
}

static void test_refuses_what_it_does_not_know(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    (void)create(f->store, "ns", "a", "1");
    fixture_close(f);
    run_sql(f, "PRAGMA user_version=99");
    assert_refused(f, FL_E_INVALID, "newer version (schema 99");
    run_sql(f, "PRAGMA user_version=1; PRAGMA application_id=7");
    assert_refused(f, FL_E_INVALID, "another program");
    run_sql(f, "PRAGMA application_id=0x464c4f50");
    fixture_open(f);
    assert_int_equal(fl_store_count(f->store, PROJECTS), 1);
    fixture_close(f);
    remove_files(f->path);
    run_sql(f, "CREATE TABLE theirs (x)");
    assert_refused(f, FL_E_INVALID, "another program");
    assert_int_equal(query_number(f, "SELECT count(*) FROM theirs"), 0);
}

static void test_refuses_paths(void **state)
{
    struct fixture *f = *state;

    f->options.path = NULL;
    assert_refused(f, FL_E_INVALID, "needs a path");
    f->options.path = "/nowhere/at/all/store.db";
    assert_refused(f, FL_E_NOT_FOUND, "/nowhere/at/all");
    f->options.path = f->folder;
    assert_refused(f, FL_E_UNAVAILABLE, f->folder);
}

static void test_refuses_garbage(void **state)
{
    struct fixture *f = *state;
    char garbage[8192];

    memset(garbage, 'g', sizeof(garbage));
    write_file(f->path, garbage, sizeof(garbage));
    assert_refused(f, FL_E_INTERNAL, "is not a store");
}

/* A bit flipped anywhere is noticed, or changes nothing. */
static void test_notices_damage(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_freep) char *data = NULL;
    size_t len, refused = 0, tried = 0;
    char text[900];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    fixture_open(f);
    for (int i = 0; i < 20; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i);
        (void)create(f->store, "ns", name, text);
    }
    fixture_close(f);
    data = read_file(f->path, &len);
    for (size_t at = 101; at < len; at += 199, tried++) {
        struct fl_store *store = NULL;
        struct fl_error err = {0};

        data[at] ^= 4;
        remove_files(f->path);
        write_file(f->path, data, len);
        data[at] ^= 4;
        if (fl_store_open(&f->options, &store, &err) < 0) {
            if (err.code != FL_E_INTERNAL && err.code != FL_E_INVALID)
                fail_msg("byte %zu: %s", at, err.msg);
            refused++;
            continue;
        }
        assert_int_equal(fl_store_count(store, PROJECTS), 20);
        fl_store_close(store);
    }
    /* The rest fell on free space. */
    assert_true(refused > tried / 2);
}

static void let_files_grow_to(rlim_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Whichever write meets the full disk: it fails whole, what was there stays, and there is life
 * after space returns. */
static void test_disk_full(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    uint64_t last = 0;
    char text[3000], name[32];
    int stored = 0;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 300000; bytes < 340000; bytes += 5000) {
        int64_t r;

        fixture_open(f);
        let_files_grow_to(bytes);
        do {
            (void)snprintf(name, sizeof(name), "n%d", stored);
            r = put(f->store, FL_STORE_CREATE, PROJECTS, "ns", name, text, 0);
            stored += r > 0;
        } while (r > 0);
        assert_int_equal(r, FL_E_UNAVAILABLE);
        last = fl_store_revision(f->store);
        assert_int_equal(put(f->store, FL_STORE_CREATE, PROJECTS, "ns", name, text, 0),
                         FL_E_UNAVAILABLE);
        assert_int_equal(fl_store_revision(f->store), last);
        assert_int_equal(fl_store_count(f->store, PROJECTS), stored);
        assert_null(get(f->store, "ns", name));
        let_files_grow_to(RLIM_INFINITY);
        stored++;
        last = create(f->store, "ns", name, text);
        fixture_close(f);
        fixture_open(f);
        assert_int_equal(fl_store_count(f->store, PROJECTS), stored);
        assert_int_equal(fl_store_revision(f->store), last);
        object = get(f->store, "ns", name);
        assert_object(object, last, text);
        fl_object_unref(FL_TAKE(object));
        for (; stored > 0; stored--) {
            (void)snprintf(name, sizeof(name), "n%d", stored - 1);
            (void)erase(f->store, "ns", name);
        }
        fixture_close(f);
        remove_files(f->path);
    }
}

/* The log is full and cannot be emptied either, because the file itself may not grow. */
static void test_disk_full_at_checkpoint(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_freep) char *text = fl_calloc(1, 200001);
    char name[32];
    int stored = 0;
    int64_t r;

    memset(text, 'x', 200000);
    (void)signal(SIGXFSZ, SIG_IGN);
    fixture_open(f);
    let_files_grow_to(6000000);
    do {
        (void)snprintf(name, sizeof(name), "n%d", stored);
        r = put(f->store, FL_STORE_CREATE, PROJECTS, "ns", name, text, 0);
        stored += r > 0;
    } while (r > 0);
    let_files_grow_to(RLIM_INFINITY);
    assert_int_equal(r, FL_E_UNAVAILABLE);
    /* More than the log alone could hold: it was emptied once, and then no more. */
    assert_true(stored > 35);
    (void)create(f->store, "ns", name, text);
    for (int i = 0; i < 30; i++)
        (void)update(f->store, "ns", name, text);
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(fl_store_count(f->store, PROJECTS), stored + 1);
}

/* The committer compacts in its spare time; what it did not come to, a closed store forgets. */
static void compact_and_close(struct fixture *f, uint64_t revision)
{
    char sql[96];

    (void)snprintf(sql, sizeof(sql), "SELECT value >= %" PRIu64 " FROM meta", revision);
    for (long ms = 50; ms < 2000; ms += 50) {
        assert_int_equal(fl_store_compact(f->store, revision, NULL), 0);
        (void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
        fixture_close(f);
        if (query_number(f, sql))
            return;
        fixture_open(f);
    }
    fail_msg("not compacted up to %" PRIu64, revision);
}

static void test_compaction_removes_rows(void **state)
{
    struct fixture *f = *state;
    uint64_t middle = 0, last = 0;

    fixture_open(f);
    (void)create(f->store, "ns", "a", "0");
    (void)create(f->store, "ns", "gone", "0");
    (void)erase(f->store, "ns", "gone");
    for (int i = 0; i < 400; i++) {
        last = update(f->store, "ns", "a", "1");
        if (i == 300)
            middle = last;
    }
    fixture_close(f);
    assert_int_equal(query_number(f, "SELECT count(*) FROM record"), 403);
    fixture_open(f);
    compact_and_close(f, middle);
    assert_int_equal(query_number(f, "SELECT count(*) FROM record"), 100);
    assert_int_equal(query_number(f, "SELECT min(revision) FROM record"), (int64_t)middle);
    fixture_open(f);
    assert_int_equal(fl_store_revision(f->store), last);
    assert_int_equal(fl_store_compacted_revision(f->store), middle);
    assert_int_equal(fl_store_stats(f->store).history_events, 99);
}

static void open_sealed(struct fixture *f)
{
    f->options.sealed = is_secret;
    f->options.seal_key = seal_key;
    fixture_open(f);
    assert_true(put(f->store, FL_STORE_CREATE, SECRETS, "ns", "a", "the eagle has landed", 0) > 0);
    assert_true(put(f->store, FL_STORE_CREATE, SECRETS, "ns", "b", "the eagle has landed", 0) > 0);
    (void)create(f->store, "ns", "open", "for all to read");
}

static bool file_has(const char *path, const char *text)
{
    size_t len;
    FL_CLEANUP(fl_freep) char *data = read_file(path, &len);

    return memmem(data, len, text, strlen(text)) != NULL;
}

static void test_sealed_content_is_unreadable(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    char log[128];

    open_sealed(f);
    (void)snprintf(log, sizeof(log), "%s-wal", f->path);
    /* The search itself works; reading another file of ours leaves the lock alone. */
    assert_true(file_has(log, "for all to read"));
    assert_false(file_has(log, "eagle"));
    fixture_close(f);
    assert_true(file_has(f->path, "for all to read"));
    assert_false(file_has(f->path, "eagle"));
    fixture_open(f);
    object = fl_store_get(f->store, &(struct fl_key){SECRETS, "ns", "a"});
    assert_object(object, 1, "the eagle has landed");
}

/* The row's own sum is no obstacle to one who can write the file: it is a plain CRC-32. */
static void sum_row(sqlite3_context *context, int count, sqlite3_value **values)
{
    uint64_t numbers[4] = {
        (uint64_t)sqlite3_value_int64(values[0]), (uint64_t)sqlite3_value_int64(values[1]),
        (uint64_t)sqlite3_value_int64(values[2]), (uint64_t)sqlite3_value_int64(values[3])};
    unsigned char bytes[32];
    uLong sum;

    (void)count;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(numbers[i / 8] >> (8 * (i % 8)));
    sum = crc32(0, bytes, sizeof(bytes));
    for (int i = 4; i < 7; i++) {
        const unsigned char *text = sqlite3_value_text(values[i]);

        sum = crc32(sum, text, (uInt)strlen((const char *)text) + 1);
    }
    sum = crc32(sum, sqlite3_value_blob(values[7]), (uInt)sqlite3_value_bytes(values[7]));
    sqlite3_result_int64(context, (int64_t)sum);
}

static void rewrite_sums(struct fixture *f)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_create_function(db, "row_sum", 8, SQLITE_UTF8, NULL, sum_row, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "UPDATE record SET sum = row_sum(revision, previous, op,"
                                  " time_us, resource, ns, name, data)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_sealed_rows_cannot_be_swapped(void **state)
{
    struct fixture *f = *state;

    open_sealed(f);
    fixture_close(f);
    run_sql(f, "UPDATE record SET data = (SELECT data FROM record AS other"
               " WHERE other.revision = 3 - record.revision) WHERE revision IN (1, 2)");
    rewrite_sums(f);
    assert_refused(f, FL_E_INTERNAL, "cannot be decrypted");
}

static void test_sealed_rows_cannot_be_renamed(void **state)
{
    struct fixture *f = *state;

    open_sealed(f);
    fixture_close(f);
    run_sql(f, "UPDATE record SET name = 'c' WHERE revision = 1");
    rewrite_sums(f);
    assert_refused(f, FL_E_INTERNAL, "cannot be decrypted");
}

static void test_plain_rows_cannot_pass_as_sealed(void **state)
{
    struct fixture *f = *state;

    open_sealed(f);
    fixture_close(f);
    run_sql(f, "UPDATE record SET data = CAST('{\"metadata\":{}}' AS BLOB) WHERE revision = 1");
    rewrite_sums(f);
    assert_refused(f, FL_E_INTERNAL, "is not encrypted");
}

static void test_another_key_does_not_open(void **state)
{
    struct fixture *f = *state;
    unsigned char other[32] = {1};

    open_sealed(f);
    fixture_close(f);
    f->options.seal_key = other;
    assert_refused(f, FL_E_INTERNAL, "cannot be decrypted");
    f->options.seal_key = NULL;
    assert_refused(f, FL_E_INVALID, "need a key");
    f->options.sealed = NULL;
    assert_refused(f, FL_E_INTERNAL, "there is no key");
    f->options.seal_key = seal_key;
    fixture_open(f);
    assert_int_equal(fl_store_count(f->store, SECRETS), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_file_is_private),
        TEST(test_one_store_a_file),
        TEST(test_refuses_what_it_does_not_know),
        TEST(test_refuses_paths),
        TEST(test_refuses_garbage),
        TEST(test_notices_damage),
        TEST(test_disk_full),
        TEST(test_disk_full_at_checkpoint),
        TEST(test_compaction_removes_rows),
        TEST(test_sealed_content_is_unreadable),
        TEST(test_sealed_rows_cannot_be_swapped),
        TEST(test_sealed_rows_cannot_be_renamed),
        TEST(test_plain_rows_cannot_pass_as_sealed),
        TEST(test_another_key_does_not_open),
#undef TEST
    };

    return cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
}
