/* Debian packages of somebody who signs well and means ill: whatever is in them, nothing appears
 * beside the folder they are unpacked in, and nothing in an image's tree but folders, files and
 * links without privileges. */
#include "reconcilers/imagebuild/compose/packages.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define OUTSIDE   "/tmp/flops-debs-evil"
#define ITEMS_MAX 4
#define SIZE_MAX_ ((size_t)1024 * 1024)

struct item {
    const char *path;
    mode_t type; /* AE_IF…; 0: a file */
    const char *text, *link, *hard_link;
    mode_t mode;
    int64_t size; /* declared; 0: that of the text */
};

struct world {
    char folder[64];
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_blobs *blobs;
    struct fl_packages *packages;
};

static struct world *open_world(void)
{
    struct world *world = fl_calloc(1, sizeof(*world));
    struct fl_blobs_options blobs = {.env = &world->env};
    struct fl_packages_options options = {.env = &world->env};

    world->arena = fl_arena_create();
    world->env = fl_env_real(NULL);
    (void)snprintf(world->folder, sizeof(world->folder), "/tmp/flops-debs-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    blobs.path = fl_arena_printf(world->arena, "%s/blobs", world->folder);
    assert_int_equal(fl_blobs_open(&blobs, &world->blobs, NULL), 0);
    options.folder = fl_arena_printf(world->arena, "%s/state", world->folder);
    options.blobs = world->blobs;
    options.deadline_ms = fl_monotonic_ms(&world->env) + 120000;
    assert_int_equal(fl_packages_open(&options, &world->packages, NULL), 0);
    return world;
}

static void close_world(struct world *world)
{
    fl_packages_close(world->packages);
    fl_blobs_close(world->blobs);
    assert_int_equal(fl_dir_remove(world->folder, NULL), 0);
    fl_arena_destroy(world->arena);
    free(world);
}

/* Archives. */

static void add_item(struct archive *archive, const struct item *item)
{
    struct archive_entry *entry = archive_entry_new();
    size_t len = item->text ? strlen(item->text) : 0;

    archive_entry_set_pathname(entry, item->path);
    archive_entry_set_filetype(entry, item->type ? item->type : AE_IFREG);
    archive_entry_set_perm(entry, item->mode ? item->mode : 0644);
    archive_entry_set_size(entry, item->size ? item->size : (la_int64_t)len);
    if (item->link)
        archive_entry_set_symlink(entry, item->link);
    if (item->hard_link)
        archive_entry_set_hardlink(entry, item->hard_link);
    archive_entry_set_rdev(entry, 0x103); /* /dev/null */
    assert_true(archive_write_header(archive, entry) >= ARCHIVE_WARN);
    if (len > 0)
        (void)archive_write_data(archive, item->text, len);
    archive_entry_free(entry);
}

static struct fl_bytes *make_archive(int (*format)(struct archive *), const struct item *items,
                                     size_t count)
{
    char *out = fl_malloc(SIZE_MAX_);
    struct archive *archive = archive_write_new();
    struct fl_bytes *bytes;
    size_t len = 0;

    assert_int_equal(format(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_in_last_block(archive, 1), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(archive, out, SIZE_MAX_, &len), ARCHIVE_OK);
    for (size_t i = 0; i < count && items[i].path; i++)
        add_item(archive, &items[i]);
    assert_true(archive_write_close(archive) >= ARCHIVE_WARN);
    assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
    bytes = fl_bytes_new(out, len);
    free(out);
    return bytes;
}

/* An ar member may hold any bytes, so it is written by hand. */
static void add_member(struct fl_buf *out, const char *name, const void *data, size_t len)
{
    fl_buf_printf(out, "%-16s%-12d%-6d%-6d%-8s%-10zu`\n", name, 0, 0, 0, "100644", len);
    fl_buf_append(out, data, len);
    if (len % 2)
        fl_buf_putc(out, '\n');
}

static struct fl_bytes *make_deb(const struct item *items, const char *data_name, int times)
{
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *tar = make_archive(archive_write_set_format_pax_restricted, items, ITEMS_MAX);
    struct fl_bytes *deb;
    struct fl_buf out;

    fl_buf_init(&out, 0);
    fl_buf_puts(&out, "!<arch>\n");
    add_member(&out, "debian-binary", "2.0\n", 4);
    for (int i = 0; i < times; i++)
        add_member(&out, data_name, tar->data, tar->len);
    deb = fl_buf_to_bytes(&out);
    fl_buf_finish(&out);
    return deb;
}

/* Unpacking. */

static int unpack(struct world *world, struct fl_bytes **debs, size_t count, struct fl_tree *tree,
                  struct fl_error *err)
{
    static const char *const names[] = {"a", "b"};
    struct fl_package *packages = fl_new_array(world->arena, struct fl_package, count);
    const struct fl_package_lock lock = {packages, count};
    const char *scratch;

    for (size_t i = 0; i < count; i++) {
        char digest[FL_DIGEST_SIZE];

        assert_int_equal(
            fl_blobs_put(world->blobs, debs[i]->data, debs[i]->len, false, digest, NULL), 0);
        packages[i] = (struct fl_package){.kind = FL_PACKAGE_DEBIAN,
                                          .name = names[i],
                                          .version = "1",
                                          .architecture = "amd64",
                                          .file = fl_arena_printf(world->arena, "%s.deb", names[i]),
                                          .digest = fl_arena_strdup(world->arena, digest)};
    }
    return fl_packages_unpack_debian(world->packages, &lock, tree, world->arena, &scratch, err);
}

/* What an image would get. */
static void check_tree(const char *what, const struct fl_tree *tree)
{
    struct fl_tree_entry entry;
    void *cursor = NULL;

    while (fl_tree_next(tree, &cursor, &entry)) {
        struct stat about;

        if (!fl_path_is_below(entry.path))
            fail_msg("%s: %s", what, entry.path);
        if (entry.mode & 06000)
            fail_msg("%s: %s may become another", what, entry.path);
        if (entry.type == FL_TREE_FILE && entry.source &&
            (lstat(entry.source, &about) != 0 || !S_ISREG(about.st_mode)))
            fail_msg("%s: %s is no file", what, entry.path);
        if (entry.type == FL_TREE_FILE && entry.source && about.st_size < 100) {
            FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

            assert_int_equal(fl_file_read(entry.source, 100, &text, NULL), 0);
            if (strstr(text->data, "secret"))
                fail_msg("%s: %s is what it links to", what, entry.path);
        }
    }
}

static void test_contents(void **state)
{
    static const struct {
        const char *what;
        struct item items[ITEMS_MAX];
        bool is_taken; /* without what is bad in it */
    } rows[] = {
        {"as they should be", {{.path = "./usr/bin/x", .text = "x", .mode = 0755}}, true},
        {"climbs", {{.path = "../evil", .text = "x"}}, false},
        {"climbs later", {{.path = "./usr/../../../evil", .text = "x"}}, false},
        {"absolute", {{.path = OUTSIDE, .text = "x"}}, false},
        {"through a link",
         {{.path = "./out", .type = AE_IFLNK, .link = "/tmp"},
          {.path = "./out/flops-debs-evil", .text = "x"}},
         false},
        {"a link to a secret",
         {{.path = "./etc/x", .type = AE_IFLNK, .link = OUTSIDE "-secret"}},
         true},
        {"a hard link out", {{.path = "./etc/x", .hard_link = OUTSIDE "-secret"}}, false},
        {"a hard link up", {{.path = "./etc/x", .hard_link = "../../../../secret"}}, false},
        {"a hard link through a link",
         {{.path = "./l", .type = AE_IFLNK, .link = OUTSIDE "-secret"},
          {.path = "./etc/x", .hard_link = "./l"}},
         false},
        {"a device", {{.path = "./dev/x", .type = AE_IFCHR}}, false},
        {"a disk", {{.path = "./dev/x", .type = AE_IFBLK}}, false},
        {"a pipe", {{.path = "./x", .type = AE_IFIFO}}, false},
        {"set-uid", {{.path = "./usr/bin/su", .text = "x", .mode = 04755}}, true},
        {"set-gid", {{.path = "./usr/bin/wall", .text = "x", .mode = 02755}}, true},
        {"a file where a folder is",
         {{.path = "./a/b", .text = "x"}, {.path = "./a", .text = "y"}},
         true},
    };

    (void)state;
    assert_int_equal(fl_file_write(OUTSIDE "-secret", "secret", 6, 0600, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct world *world = open_world();
        FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
        FL_CLEANUP(fl_bytes_unrefp)
        struct fl_bytes *deb = make_deb(rows[i].items, "data.tar", 1);
        struct fl_error err = {0};
        int r = unpack(world, &deb, 1, tree, &err);

        if ((r == 0) != rows[i].is_taken || (r != 0 && r != FL_E_INVALID))
            fail_msg("%s: %s", rows[i].what, r == 0 ? "taken" : err.msg);
        if (r == 0)
            check_tree(rows[i].what, tree);
        assert_false(fl_path_exists(OUTSIDE));
        assert_false(fl_path_exists(fl_arena_printf(world->arena, "%s/evil", world->folder)));
        assert_false(fl_path_exists(fl_arena_printf(world->arena, "%s/state/evil", world->folder)));
        close_world(world);
    }
    assert_int_equal(unlink(OUTSIDE "-secret"), 0);
}

/* One package's link, another's file behind it: each has a folder of its own on the disk. */
static void test_two_that_conspire(void **state)
{
    static const struct item one[ITEMS_MAX] = {
        {.path = "./usr/lib/x", .type = AE_IFLNK, .link = "/tmp"}};
    static const struct item other[ITEMS_MAX] = {
        {.path = "./usr/lib/x/flops-debs-evil", .text = "x"}};
    struct world *world = open_world();
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_bytes *debs[] = {make_deb(one, "data.tar", 1), make_deb(other, "data.tar", 1)};
    struct fl_error err = {0};

    (void)state;
    if (unpack(world, debs, 2, tree, &err) == 0)
        check_tree("two", tree);
    assert_false(fl_path_exists(OUTSIDE));
    for (size_t i = 0; i < FL_COUNT_OF(debs); i++)
        fl_bytes_unref(debs[i]);
    close_world(world);
}

static void test_packages_that_are_none(void **state)
{
    static const struct item items[ITEMS_MAX] = {{.path = "./x", .text = "x"}};
    struct world *world = open_world();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *whole = make_deb(items, "data.tar", 1);
    struct fl_bytes *rows[] = {
        make_deb(items, "data.tar", 0),
        make_deb(items, "../data.tar", 1),
        make_deb(items, "control.tar", 1),
        fl_bytes_new("", 0),
        fl_bytes_new("!<arch>\n", 8),
        fl_bytes_new("PK\3\4", 4),
        fl_bytes_new(whole->data, 100),
        fl_bytes_new(whole->data, whole->len / 2),
        fl_bytes_new(whole->data, whole->len - 1500),
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
        struct fl_error err = {0};

        if (unpack(world, &rows[i], 1, tree, &err) != FL_E_INVALID)
            fail_msg("row %zu: %s", i, err.msg);
        fl_bytes_unref(rows[i]);
    }
    close_world(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_two_that_conspire),
        cmocka_unit_test(test_packages_that_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
