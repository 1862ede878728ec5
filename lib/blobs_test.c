#include "lib/blobs.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    struct fl_fake_env fake;
    char path[64];
    struct fl_blobs_options options;
    struct fl_blobs *blobs;
};

static void open_again(struct rig *rig)
{
    struct fl_error err = {0};

    fl_blobs_close(rig->blobs);
    rig->blobs = NULL;
    if (fl_blobs_open(&rig->options, &rig->blobs, &err) < 0)
        fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    fl_fake_env_init(&rig->fake, 1, NULL);
    (void)snprintf(rig->path, sizeof(rig->path), "/tmp/flops-blobs-XXXXXX");
    assert_non_null(mkdtemp(rig->path));
    rig->options = (struct fl_blobs_options){.env = &rig->fake.env, .path = rig->path};
    open_again(rig);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_blobs_close(rig->blobs);
    assert_int_equal(fl_dir_remove(rig->path, NULL), 0);
    free(rig);
    return 0;
}

static void put(struct rig *rig, const char *text, bool pin, char digest[FL_DIGEST_SIZE])
{
    struct fl_error err = {0};

    fl_fake_env_advance(&rig->fake, 1000);
    if (fl_blobs_put(rig->blobs, text, strlen(text), pin, digest, &err) < 0)
        fail_msg("%s", err.msg);
}

static void assert_is(struct rig *rig, const char *digest, const char *text)
{
    struct fl_blob_map map;

    assert_int_equal(fl_blobs_map(rig->blobs, digest, &map, NULL), 0);
    assert_int_equal(map.size, strlen(text));
    if (map.size > 0)
        assert_memory_equal(map.data, text, map.size);
    fl_blob_unmap(&map);
}

static void test_what_is_put_is_there(void **state)
{
    struct rig *rig = *state;
    char digest[FL_DIGEST_SIZE], empty[FL_DIGEST_SIZE], expected[FL_DIGEST_SIZE];
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    const char *path;

    put(rig, "hello", false, digest);
    put(rig, "", false, empty);
    fl_digest_of("hello", 5, expected);
    assert_string_equal(digest, expected);
    put(rig, "hello", false, digest); /* once more is the same */
    for (int life = 0; life < 2; life++) {
        assert_is(rig, digest, "hello");
        assert_is(rig, empty, "");
        assert_int_equal(fl_blobs_stats(rig->blobs).count, 2);
        assert_int_equal(fl_blobs_stats(rig->blobs).bytes, 5);
        open_again(rig);
    }
    assert_int_equal(fl_blobs_path(rig->blobs, digest, arena, &path, NULL), 0);
    assert_int_equal(fl_file_read(path, 10, &bytes, NULL), 0);
    assert_string_equal(bytes->data, "hello");
    assert_int_equal(fl_blobs_remove(rig->blobs, digest, NULL), 0);
    assert_int_equal(fl_blobs_remove(rig->blobs, digest, NULL), 0);
    assert_false(fl_blobs_has(rig->blobs, digest));
    assert_false(fl_path_exists(path));
}

static bool is_needed(void *user, const char *digest)
{
    return strcmp(user, digest) == 0;
}

static void test_a_sweep_takes_what_was_found(void **state)
{
    struct rig *rig = *state;
    char wanted[FL_DIGEST_SIZE], left[FL_DIGEST_SIZE], pinned[FL_DIGEST_SIZE],
        fresh[FL_DIGEST_SIZE];

    put(rig, "wanted", false, wanted);
    put(rig, "left", false, left);
    put(rig, "pinned", false, pinned);
    open_again(rig);
    put(rig, "fresh", false, fresh);
    assert_int_equal(fl_blobs_pin(rig->blobs, pinned, NULL), 0);
    assert_int_equal(fl_blobs_sweep(rig->blobs, is_needed, wanted, NULL), 0);
    assert_is(rig, wanted, "wanted");
    assert_is(rig, pinned, "pinned");
    assert_is(rig, fresh, "fresh");
    assert_false(fl_blobs_has(rig->blobs, left));
    fl_blobs_unpin(rig->blobs, pinned);
    assert_int_equal(fl_blobs_stats(rig->blobs).count, 3);
    assert_int_equal(fl_blobs_bytes(rig->blobs), fl_blobs_stats(rig->blobs).bytes);
}

static void test_what_is_not_there(void **state)
{
    struct rig *rig = *state;
    char absent[FL_DIGEST_SIZE];
    int64_t size;
    int fd;

    fl_digest_of("absent", 6, absent);
    assert_false(fl_blobs_has(rig->blobs, absent));
    assert_false(fl_blobs_has(rig->blobs, NULL));
    assert_int_equal(fl_blobs_get(rig->blobs, absent, &fd, &size, NULL), FL_E_NOT_FOUND);
    assert_int_equal(fl_blobs_pin(rig->blobs, absent, NULL), FL_E_NOT_FOUND);
    assert_int_equal(fl_blobs_get(rig->blobs, "../../etc/passwd", &fd, &size, NULL),
                     FL_E_BAD_REQUEST);
    fl_blobs_unpin(rig->blobs, absent);
}

static void test_pieces_and_files(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    char digest[FL_DIGEST_SIZE], expected[FL_DIGEST_SIZE], copy[FL_DIGEST_SIZE];
    int64_t size;

    fl_digest_of("hello", 5, expected);
    assert_int_equal(fl_blob_writer_open(rig->blobs, &writer, NULL), 0);
    assert_int_equal(fl_blob_writer_add(writer, "he", 2, NULL), 0);
    assert_int_equal(fl_blob_writer_add(writer, "xx", 2, NULL), 0);
    assert_int_equal(fl_blob_writer_finish(writer, expected, false, digest, NULL), FL_E_INVALID);
    assert_int_equal(fl_blob_writer_size(writer), 0); /* it begins anew */
    assert_int_equal(fl_blob_writer_add(writer, "he", 2, NULL), 0);
    assert_int_equal(fl_blob_writer_restart(writer, NULL), 0);
    assert_int_equal(fl_blob_writer_add(writer, "hel", 3, NULL), 0);
    assert_int_equal(fl_blob_writer_add(writer, "lo", 2, NULL), 0);
    assert_int_equal(fl_blob_writer_finish(writer, expected, true, digest, NULL), 0);
    assert_is(rig, digest, "hello");
    assert_int_equal(fl_blobs_stats(rig->blobs).pinned, 1);
    assert_int_equal(fl_blobs_get(rig->blobs, digest, &fd, &size, NULL), 0);
    assert_int_equal(size, 5);
    assert_int_equal(fl_blobs_put_fd(rig->blobs, fd, expected, true, copy, NULL), 0);
    assert_int_equal(fl_blobs_remove(rig->blobs, digest, NULL), FL_E_CONFLICT);
    fl_blobs_unpin(rig->blobs, digest);
    assert_int_equal(fl_blobs_remove(rig->blobs, digest, NULL), FL_E_CONFLICT);
    fl_blobs_unpin(rig->blobs, digest);
    assert_int_equal(fl_blobs_remove(rig->blobs, digest, NULL), 0);
    /* who has it open keeps it */
    assert_int_equal(pread(fd, copy, 5, 0), 5);
    assert_memory_equal(copy, "hello", 5);
}

/* A disk that takes a part of a piece has taken nothing of it; later it goes on. */
static void test_a_full_disk_takes_all_or_nothing(void **state)
{
    struct rig *rig = *state;
    struct fl_blob_writer *writer;
    struct fl_error err = {0};
    char digest[FL_DIGEST_SIZE], expected[FL_DIGEST_SIZE];
    struct rlimit saved, limit;

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
    limit = saved;
    limit.rlim_cur = 8;
    fl_digest_of("01234a", 6, expected);
    assert_int_equal(fl_blob_writer_open(rig->blobs, &writer, NULL), 0);
    assert_int_equal(fl_blob_writer_add(writer, "01234", 5, NULL), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_true(fl_blob_writer_add(writer, "56789", 5, &err) < 0);
    assert_int_equal(fl_blob_writer_size(writer), 5);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
    assert_int_equal(fl_blob_writer_add(writer, "a", 1, NULL), 0); /* less than the part had */
    assert_int_equal(fl_blob_writer_finish(writer, expected, false, digest, NULL), 0);
    fl_blob_writer_close(writer);
    assert_is(rig, digest, "01234a");
}

static void test_a_crash_leaves_nothing(void **state)
{
    struct rig *rig = *state;
    char path[128];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/new/17", rig->path);
    assert_int_equal(fl_file_write(path, "half", 4, 0600, NULL), 0);
    open_again(rig);
    assert_int_not_equal(stat(path, &st), 0);
    assert_int_equal(fl_blobs_stats(rig->blobs).count, 0);
}

static void test_one_process_at_a_time(void **state)
{
    struct rig *rig = *state;
    struct fl_blobs *second = NULL;

    assert_int_equal(fl_blobs_open(&rig->options, &second, NULL), FL_E_UNAVAILABLE);
}

static void test_the_oldest_goes_first(void **state)
{
    struct rig *rig = *state;
    char a[FL_DIGEST_SIZE], b[FL_DIGEST_SIZE], c[FL_DIGEST_SIZE], d[FL_DIGEST_SIZE];
    char unused[FL_DIGEST_SIZE];

    rig->options.max_bytes = 10;
    open_again(rig);
    put(rig, "aaaa", true, a);
    put(rig, "bbb", false, b);
    put(rig, "ccc", false, c);
    fl_fake_env_advance(&rig->fake, 1000);
    assert_true(fl_blobs_has(rig->blobs, b)); /* a use: now c is older */
    put(rig, "ddd", false, d);
    assert_true(fl_blobs_has(rig->blobs, a));
    assert_true(fl_blobs_has(rig->blobs, b));
    assert_false(fl_blobs_has(rig->blobs, c));
    assert_true(fl_blobs_has(rig->blobs, d));
    assert_int_equal(fl_blobs_put(rig->blobs, "1234567", 7, false, unused, NULL), FL_E_TOO_LARGE);
    assert_int_equal(fl_blobs_put(rig->blobs, "12345678901", 11, false, unused, NULL),
                     FL_E_TOO_LARGE);
    fl_blobs_unpin(rig->blobs, a);
    put(rig, "1234567890", false, unused);
    assert_int_equal(fl_blobs_stats(rig->blobs).count, 1);
    assert_int_equal(fl_blobs_stats(rig->blobs).bytes, 10);
}

static void test_what_keeps_refuses(void **state)
{
    struct rig *rig = *state;
    char first[FL_DIGEST_SIZE], second[FL_DIGEST_SIZE];
    struct fl_error err = {0};

    rig->options.max_bytes = 10;
    rig->options.keeps = true;
    open_again(rig);
    put(rig, "123456", false, first);
    assert_int_equal(fl_blobs_put(rig->blobs, "78901", 5, false, second, &err), FL_E_TOO_LARGE);
    assert_non_null(strstr(err.msg, "6 of 10 are in use"));
    assert_is(rig, first, "123456");
    put(rig, "7890", false, second);
    assert_int_equal(fl_blobs_stats(rig->blobs).bytes, 10);
}

static void test_what_is_used_meanwhile_stays(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct rig *rig = *state;
    struct fl_blob_entry *entries;
    char digests[2][FL_DIGEST_SIZE];
    int64_t seen_us;

    put(rig, "one", false, digests[0]);
    put(rig, "three", false, digests[1]);
    assert_int_equal(fl_blobs_list(rig->blobs, arena, &entries), 2);
    assert_true(strcmp(entries[0].digest, entries[1].digest) < 0);
    assert_int_equal(entries[0].size + entries[1].size, 8);
    seen_us = entries[0].used_us;
    fl_fake_env_advance(&rig->fake, 1000);
    assert_true(fl_blobs_has(rig->blobs, entries[0].digest));
    assert_int_equal(fl_blobs_remove_unused(rig->blobs, entries[0].digest, seen_us, NULL),
                     FL_E_CONFLICT);
    assert_int_equal(
        fl_blobs_remove_unused(rig->blobs, entries[1].digest, entries[1].used_us, NULL), 0);
    assert_int_equal(
        fl_blobs_remove_unused(rig->blobs, entries[1].digest, entries[1].used_us, NULL), 0);
    assert_int_equal(fl_blobs_list(rig->blobs, arena, &entries), 1);
}

static void test_damage_is_found(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char digest[FL_DIGEST_SIZE];
    const char *path;
    int fd;

    put(rig, "hello", false, digest);
    assert_int_equal(fl_blobs_verify(rig->blobs, digest, NULL), 0);
    assert_int_equal(fl_blobs_path(rig->blobs, digest, arena, &path, NULL), 0);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "j", 1, 0), 1);
    (void)close(fd);
    assert_int_equal(fl_blobs_verify(rig->blobs, digest, NULL), FL_E_INVALID);
    assert_int_equal(fl_blobs_verify(rig->blobs, digest, NULL), FL_E_NOT_FOUND);
    put(rig, "hello", false, digest);
    assert_is(rig, digest, "hello");
    assert_int_equal(unlink(path), 0); /* behind our back */
    assert_int_equal(fl_blobs_verify(rig->blobs, digest, NULL), FL_E_NOT_FOUND);
    put(rig, "hello", false, digest);
    assert_is(rig, digest, "hello");
}

static void test_what_is_fleeting_goes(void **state)
{
    struct rig *rig = *state;
    char digest[FL_DIGEST_SIZE];

    put(rig, "hello", false, digest);
    rig->options.fleeting = true;
    open_again(rig);
    assert_false(fl_blobs_has(rig->blobs, digest));
    put(rig, "hello", false, digest);
    assert_is(rig, digest, "hello");
}

struct putter {
    struct rig *rig;
    struct fl_thread *thread;
    unsigned number;
};

static void run_putter(void *user)
{
    struct putter *putter = user;
    char text[16], digest[FL_DIGEST_SIZE];

    for (int i = 0; i < 100; i++) { /* half of them are every thread's */
        (void)snprintf(text, sizeof(text), "%u-%d", i % 2 ? putter->number : 99, i);
        assert_int_equal(fl_blobs_put(putter->rig->blobs, text, strlen(text), true, digest, NULL),
                         0);
        assert_int_equal(fl_blobs_verify(putter->rig->blobs, digest, NULL), 0);
        fl_blobs_unpin(putter->rig->blobs, digest);
    }
}

static void test_threads_share(void **state)
{
    struct rig *rig = *state;
    struct putter putters[4];

    rig->options.fleeting = true;
    open_again(rig);
    for (unsigned i = 0; i < 4; i++) {
        putters[i] = (struct putter){.rig = rig, .number = i};
        assert_int_equal(
            fl_thread_start("putter", run_putter, &putters[i], &putters[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        fl_thread_join(putters[i].thread);
    assert_int_equal(fl_blobs_stats(rig->blobs).count, 4 * 50 + 50);
    assert_int_equal(fl_blobs_stats(rig->blobs).pinned, 0);
}

#define ABC_SHA256 "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABC_XXH128 "xxh128:06b05ab6733a618578af5f94892f3950"

static struct fl_blob_writer *write_abc(struct rig *rig, enum fl_digest_kind kind)
{
    struct fl_blob_writer *writer = NULL;

    assert_int_equal(fl_blob_writer_open(rig->blobs, &writer, NULL), 0);
    fl_blob_writer_hash_by(writer, kind);
    assert_int_equal(fl_blob_writer_add(writer, "ab", 2, NULL), 0);
    assert_int_equal(fl_blob_writer_add(writer, "c", 1, NULL), 0);
    return writer;
}

static void test_named_by_xxh128(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_blob_writer_closep)
    struct fl_blob_writer *writer = write_abc(rig, FL_DIGEST_XXH128);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char digest[FL_DIGEST_SIZE];
    struct fl_error err = {0};
    const char *path;

    assert_int_equal(fl_blob_writer_finish(writer, ABC_XXH128, false, digest, NULL), 0);
    assert_string_equal(digest, ABC_XXH128);
    open_again(rig);
    assert_true(fl_blobs_has(rig->blobs, ABC_XXH128));
    assert_false(fl_blobs_has(rig->blobs, ABC_SHA256));
    assert_int_equal(fl_blobs_verify(rig->blobs, ABC_XXH128, NULL), 0);
    assert_int_equal(fl_blobs_path(rig->blobs, ABC_XXH128, arena, &path, NULL), 0);
    assert_int_equal(fl_file_write(path, "abd", 3, 0600, NULL), 0);
    assert_int_equal(fl_blobs_verify(rig->blobs, ABC_XXH128, &err), FL_E_INVALID);
    assert_false(fl_blobs_has(rig->blobs, ABC_XXH128));
}

static void test_short_names_make_room(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_blob_writer_closep)
    struct fl_blob_writer *writer = write_abc(rig, FL_DIGEST_XXH128);
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(fl_blob_writer_finish(writer, NULL, false, digest, NULL), 0);
    rig->options.max_bytes = 4;
    open_again(rig);
    assert_int_equal(fl_blobs_put(rig->blobs, "defg", 4, false, digest, NULL), 0);
    assert_false(fl_blobs_has(rig->blobs, ABC_XXH128));
    assert_true(fl_blobs_has(rig->blobs, digest));
}

static void test_named_on_somebodys_word(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_blob_writer_closep)
    struct fl_blob_writer *writer = write_abc(rig, FL_DIGEST_XXH128);
    char check[FL_DIGEST_SIZE];

    assert_int_equal(fl_blob_writer_finish_as(writer, "xxh128:06b05ab6733a618578af5f94892f3951",
                                              ABC_SHA256, false, NULL),
                     FL_E_INVALID);
    assert_false(fl_blobs_has(rig->blobs, ABC_SHA256));
    assert_int_equal(fl_blob_writer_size(writer), 0); /* it begins anew, and hashes as before */
    assert_int_equal(fl_blob_writer_add(writer, "abc", 3, NULL), 0);
    assert_int_equal(fl_blob_writer_finish_as(writer, ABC_XXH128, ABC_SHA256, true, NULL), 0);
    assert_int_equal(fl_blobs_verify(rig->blobs, ABC_SHA256, NULL), 0);
    assert_true(fl_blobs_check(rig->blobs, ABC_SHA256, check));
    assert_string_equal(check, ABC_XXH128);
    assert_int_equal(fl_blobs_remove(rig->blobs, ABC_SHA256, NULL), FL_E_CONFLICT);
}

static void test_checks_of_what_was_written(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    char digest[FL_DIGEST_SIZE], check[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(rig->blobs, "abc", 3, false, digest, NULL), 0);
    assert_false(fl_blobs_check(rig->blobs, digest, check)); /* nobody asked for it */
    assert_int_equal(fl_blobs_remove(rig->blobs, digest, NULL), 0);
    rig->options.checks = true;
    open_again(rig);
    writer = write_abc(rig, FL_DIGEST_SHA256);
    assert_int_equal(fl_blob_writer_restart(writer, NULL), 0);
    assert_int_equal(fl_blob_writer_add(writer, "abc", 3, NULL), 0);
    assert_int_equal(fl_blob_writer_finish(writer, NULL, false, digest, NULL), 0);
    assert_string_equal(digest, ABC_SHA256);
    assert_true(fl_blobs_check(rig->blobs, digest, check));
    assert_string_equal(check, ABC_XXH128);
    open_again(rig);
    assert_false(fl_blobs_check(rig->blobs, digest, check));
    assert_false(fl_blobs_check(rig->blobs, ABC_XXH128, check));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_named_by_xxh128),
        TEST(test_short_names_make_room),
        TEST(test_named_on_somebodys_word),
        TEST(test_checks_of_what_was_written),
        TEST(test_what_is_put_is_there),
        TEST(test_what_is_not_there),
        TEST(test_pieces_and_files),
        TEST(test_a_full_disk_takes_all_or_nothing),
        TEST(test_a_crash_leaves_nothing),
        TEST(test_one_process_at_a_time),
        TEST(test_the_oldest_goes_first),
        TEST(test_what_keeps_refuses),
        TEST(test_what_is_used_meanwhile_stays),
        TEST(test_damage_is_found),
        TEST(test_what_is_fleeting_goes),
        TEST(test_threads_share),
        TEST(test_a_sweep_takes_what_was_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
