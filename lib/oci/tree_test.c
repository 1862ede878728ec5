#include "lib/oci/tree.h"

#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    struct fl_fake_env fake;
    char path[64];
    struct fl_blobs *blobs;
    struct fl_arena *arena;
    struct fl_tree *tree;
};

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_blobs_options options;

    fl_fake_env_init(&rig->fake, 1, NULL);
    (void)snprintf(rig->path, sizeof(rig->path), "/tmp/flops-tree-XXXXXX");
    assert_non_null(mkdtemp(rig->path));
    rig->arena = fl_arena_create();
    options = (struct fl_blobs_options){.env = &rig->fake.env,
                                        .path = fl_arena_printf(rig->arena, "%s/blobs", rig->path)};
    assert_int_equal(fl_blobs_open(&options, &rig->blobs, NULL), 0);
    rig->tree = fl_tree_create();
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_tree_destroy(rig->tree);
    fl_blobs_close(rig->blobs);
    fl_arena_destroy(rig->arena);
    assert_int_equal(fl_dir_remove(rig->path, NULL), 0);
    free(rig);
    return 0;
}

static void text(struct rig *rig, const char *path, const char *data)
{
    assert_int_equal(fl_tree_add_text(rig->tree, path, data, strlen(data), false, NULL), 0);
}

static void start_anew(struct rig *rig)
{
    fl_tree_destroy(rig->tree);
    rig->tree = fl_tree_create();
}

/* All paths in order, with what they are. */
static const char *listing(struct rig *rig)
{
    struct fl_tree_entry entry;
    void *cursor = NULL;
    const char *all = "";

    while (fl_tree_next(rig->tree, &cursor, &entry))
        all = fl_arena_printf(rig->arena, "%s%s%s%s ", all, entry.path,
                              entry.type == FL_TREE_FOLDER ? "/" : "",
                              entry.target ? fl_arena_printf(rig->arena, ">%s", entry.target) : "");
    return all;
}

static void folders_come_by_themselves(void **state)
{
    struct rig *rig = *state;

    text(rig, "b/c/d", "1");
    text(rig, "a", "2");
    assert_int_equal(fl_tree_add_folder(rig->tree, "b/empty", NULL), 0);
    assert_int_equal(fl_tree_add_link(rig->tree, "b/c/l", "../x", NULL), 0);
    assert_string_equal(listing(rig), "a b/ b/c/ b/c/d b/c/l>../x b/empty/ ");
    assert_int_equal(fl_tree_count(rig->tree), 6);
    fl_tree_remove(rig->tree, "b/c");
    assert_string_equal(listing(rig), "a b/ b/empty/ ");
    assert_int_equal(fl_tree_count(rig->tree), 3);
    fl_tree_remove(rig->tree, "nothing/there");
}

static void links_lead_on(void **state)
{
    struct rig *rig = *state;
    struct fl_tree_entry entry;

    assert_int_equal(fl_tree_add_link(rig->tree, "lib", "usr/lib", NULL), 0);
    assert_int_equal(fl_tree_add_link(rig->tree, "usr/lib64", "../lib", NULL), 0);
    assert_int_equal(fl_tree_add_link(rig->tree, "abs", "/usr", NULL), 0);
    text(rig, "lib/x", "1");
    text(rig, "usr/lib64/y", "2");
    text(rig, "abs/z", "3");
    assert_int_equal(fl_tree_add_folder(rig->tree, "lib", NULL), 0);
    assert_string_equal(listing(rig),
                        "abs>/usr lib>usr/lib usr/ usr/lib/ usr/lib/x usr/lib/y usr/lib64>../lib "
                        "usr/z ");
    assert_true(fl_tree_has(rig->tree, "abs/lib64/x"));
    assert_false(fl_tree_has(rig->tree, "abs/lib64/z"));
    assert_true(fl_tree_get(rig->tree, "abs/lib64", &entry));
    assert_string_equal(entry.target, "../lib");
    assert_true(fl_tree_get(rig->tree, "abs/lib64/y", &entry));
    assert_memory_equal(entry.data, "2", 1);
    assert_false(fl_tree_get(rig->tree, "abs/nothing", &entry));
}

static void what_comes_later_stands(void **state)
{
    struct rig *rig = *state;

    text(rig, "f", "1");
    assert_int_equal(fl_tree_add_link(rig->tree, "f", "g", NULL), 0);
    assert_string_equal(listing(rig), "f>g ");
    text(rig, "f", "2");
    assert_string_equal(listing(rig), "f ");
    assert_int_equal(fl_tree_count(rig->tree), 1);
}

static void nonsense_is_refused(void **state)
{
    static const char *const paths[] = {"", "/a", "a//b", "../a", "a/../b", "a/.", "a\n", "a/"};
    struct rig *rig = *state;
    char longest[5000];

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++)
        assert_int_equal(fl_tree_add_text(rig->tree, paths[i], "", 0, false, NULL), FL_E_INVALID);
    memset(longest, 'a', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(fl_tree_add_folder(rig->tree, longest, NULL), FL_E_INVALID);
    text(rig, "f", "1");
    assert_int_equal(fl_tree_add_text(rig->tree, "f/below", "", 0, false, NULL), FL_E_INVALID);
    assert_int_equal(fl_tree_add_folder(rig->tree, "f", NULL), FL_E_INVALID);
    assert_int_equal(fl_tree_add_folder(rig->tree, "d", NULL), 0);
    assert_int_equal(fl_tree_add_text(rig->tree, "d", "", 0, false, NULL), FL_E_INVALID);
    assert_int_equal(fl_tree_add_link(rig->tree, "out", "../..", NULL), 0);
    assert_int_equal(fl_tree_add_text(rig->tree, "out/x", "", 0, false, NULL), FL_E_INVALID);
    assert_int_equal(fl_tree_add_link(rig->tree, "loop", "loop", NULL), 0);
    assert_int_equal(fl_tree_add_text(rig->tree, "loop/x", "", 0, false, NULL), FL_E_INVALID);
    assert_int_equal(fl_tree_add_link(rig->tree, "d/link", "", NULL), FL_E_INVALID);
    assert_string_equal(listing(rig), "d/ f loop>loop out>../.. ");
}

/* Layers. */

static struct fl_layer layer(struct rig *rig, enum fl_layer_compression compression)
{
    struct fl_layer made;
    struct fl_error err = {0};

    if (fl_tree_write_layer(rig->tree, compression, 1600000000, rig->blobs, NULL, NULL, rig->arena,
                            &made, &err) < 0)
        fail_msg("%s", err.msg);
    return made;
}

static void fill(struct rig *rig, bool backwards)
{
    static const char *const paths[] = {"usr/bin/tool", "etc/conf", "usr/a-b", "usr/a/b", "zz"};

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++) {
        size_t at = backwards ? FL_COUNT_OF(paths) - 1 - i : i;

        text(rig, paths[at], paths[at]);
    }
    fl_tree_set_mode(rig->tree, "usr/bin/tool", 04755);
    fl_tree_set_mode(rig->tree, "zz", 0600);
}

static void the_same_is_the_same_bytes(void **state)
{
    static const enum fl_layer_compression all[] = {FL_LAYER_PLAIN, FL_LAYER_GZIP, FL_LAYER_ZSTD};
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(all); i++) {
        struct fl_layer first, second;

        start_anew(rig);
        fill(rig, false);
        first = layer(rig, all[i]);
        start_anew(rig);
        fill(rig, true);
        second = layer(rig, all[i]);
        assert_string_equal(first.descriptor.digest, second.descriptor.digest);
        assert_string_equal(first.diff_id, second.diff_id);
        assert_int_equal(first.unpacked_bytes % 512, 0);
        text(rig, "zz", "other");
        assert_string_not_equal(layer(rig, all[i]).diff_id, first.diff_id);
    }
}

static void digests_tell_trees_apart(void **state)
{
    struct rig *rig = *state;
    const char *path = fl_arena_printf(rig->arena, "%s/file", rig->path);
    char first[FL_DIGEST_SIZE], second[FL_DIGEST_SIZE];

    assert_int_equal(fl_file_write(path, "zz", 2, 0600, NULL), 0);
    fill(rig, false);
    assert_int_equal(fl_tree_digest(rig->tree, first, NULL), 0);
    start_anew(rig);
    fill(rig, true);
    assert_int_equal(fl_tree_add_file(rig->tree, "zz", path, false, NULL), 0); /* the same bytes */
    fl_tree_set_mode(rig->tree, "zz", 0600);
    assert_int_equal(fl_tree_digest(rig->tree, second, NULL), 0);
    assert_string_equal(first, second);
    fl_tree_set_mode(rig->tree, "zz", 0644);
    assert_int_equal(fl_tree_digest(rig->tree, second, NULL), 0);
    assert_string_not_equal(first, second);
    assert_int_equal(fl_tree_add_link(rig->tree, "zz", "zz", NULL), 0);
    assert_int_equal(fl_tree_digest(rig->tree, first, NULL), 0);
    assert_string_not_equal(first, second);
}

static struct archive *open_layer(struct rig *rig, const struct fl_layer *made, int *ret_fd)
{
    struct archive *archive = archive_read_new();
    int64_t size;

    assert_int_equal(fl_blobs_get(rig->blobs, made->descriptor.digest, ret_fd, &size, NULL), 0);
    assert_int_equal(size, made->descriptor.size);
    (void)archive_read_support_format_tar(archive);
    (void)archive_read_support_filter_gzip(archive);
    (void)archive_read_support_filter_zstd(archive);
    assert_int_equal(archive_read_open_fd(archive, *ret_fd, 65536), ARCHIVE_OK);
    return archive;
}

static void others_read_it(void **state)
{
    static const char *const long_name =
        "a/very/long/path/that/does/not/fit/into/a/hundred/bytes/of/a/plain/tar/header/so/that/"
        "it/needs/another/one/0123456789012345678901234567890123456789012345678901234567890123456/"
        "n\xc3\xa4me";
    static const enum fl_layer_compression all[] = {FL_LAYER_PLAIN, FL_LAYER_GZIP, FL_LAYER_ZSTD};
    struct rig *rig = *state;

    fill(rig, false);
    text(rig, long_name, "deep");
    assert_int_equal(fl_tree_add_link(rig->tree, "link", "usr/bin/tool", NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(all); i++) {
        FL_CLEANUP(fl_fd_closep) int fd = -1;
        struct fl_layer made = layer(rig, all[i]);
        struct archive *archive = open_layer(rig, &made, &fd);
        struct archive_entry *entry;
        struct fl_tree_entry wanted;
        void *cursor = NULL;
        char data[256];

        while (fl_tree_next(rig->tree, &cursor, &wanted)) {
            assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
            assert_int_equal(
                strncmp(archive_entry_pathname(entry), wanted.path, strlen(wanted.path)), 0);
            assert_int_equal(archive_entry_perm(entry), wanted.mode);
            assert_int_equal(archive_entry_uid(entry), 0);
            assert_int_equal(archive_entry_mtime(entry), 1600000000);
            assert_true(fl_streq(archive_entry_symlink(entry), wanted.target));
            if (wanted.type == FL_TREE_FILE) {
                assert_int_equal(archive_read_data(archive, data, sizeof(data)), wanted.len);
                assert_memory_equal(data, wanted.data, wanted.len);
            }
        }
        assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_EOF);
        (void)archive_read_free(archive);
    }
}

static void an_empty_tree_is_a_layer(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(layer(rig, FL_LAYER_GZIP).unpacked_bytes, 1024);
}

static bool skips(void *user, const char *path)
{
    (void)user;
    return fl_streq(path, "at/.git");
}

static void a_folder_of_the_disk_is_taken(void **state)
{
    struct rig *rig = *state;
    const char *base = fl_arena_printf(rig->arena, "%s/in", rig->path);

    assert_int_equal(fl_dir_ensure(fl_arena_printf(rig->arena, "%s/.git/x", base), 0700, NULL), 0);
    assert_int_equal(fl_dir_ensure(fl_arena_printf(rig->arena, "%s/sub", base), 0700, NULL), 0);
    assert_int_equal(
        fl_file_write(fl_arena_printf(rig->arena, "%s/sub/run", base), "hi", 2, 0700, NULL), 0);
    assert_int_equal(symlink("sub/run", fl_arena_printf(rig->arena, "%s/ln", base)), 0);
    assert_int_equal(fl_tree_add_tree(rig->tree, "at", base, skips, NULL, NULL), 0);
    assert_string_equal(listing(rig), "at/ at/ln>sub/run at/sub/ at/sub/run ");
    assert_true(layer(rig, FL_LAYER_GZIP).descriptor.size > 0);

    assert_int_equal(mkfifo(fl_arena_printf(rig->arena, "%s/pipe", base), 0600), 0);
    assert_int_equal(fl_tree_add_tree(rig->tree, "", base, NULL, NULL, NULL), FL_E_INVALID);
}

static void what_vanished_is_an_error(void **state)
{
    struct rig *rig = *state;
    struct fl_layer made;
    struct fl_error err = {0};

    assert_int_equal(fl_tree_add_file(rig->tree, "x", "/nowhere/at/all", false, NULL), 0);
    assert_int_equal(fl_tree_write_layer(rig->tree, FL_LAYER_GZIP, 0, rig->blobs, NULL, NULL,
                                         rig->arena, &made, &err),
                     FL_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nowhere/at/all"));
    assert_int_equal(fl_blobs_stats(rig->blobs).count, 0);
}

static bool once(void *user)
{
    int *left = user;

    return (*left)-- > 0;
}

static void it_can_be_broken_off(void **state)
{
    struct rig *rig = *state;
    struct fl_layer made;
    int left = 3;

    fill(rig, false);
    assert_int_equal(fl_tree_write_layer(rig->tree, FL_LAYER_ZSTD, 0, rig->blobs, once, &left,
                                         rig->arena, &made, NULL),
                     FL_E_UNAVAILABLE);
    assert_int_equal(fl_blobs_stats(rig->blobs).count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(folders_come_by_themselves),    TEST(links_lead_on),
        TEST(what_comes_later_stands),       TEST(nonsense_is_refused),
        TEST(the_same_is_the_same_bytes),    TEST(others_read_it),
        TEST(digests_tell_trees_apart),      TEST(an_empty_tree_is_a_layer),
        TEST(a_folder_of_the_disk_is_taken), TEST(what_vanished_is_an_error),
        TEST(it_can_be_broken_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
