/* A wheel's own words. The input is its WHEEL, RECORD, entry_points.txt and one path, with a NUL
 * after each; the digests of what RECORD needs are put in front of it. Whatever they say, nothing
 * is installed outside of where wheels go. */
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SITE "usr/local/lib/python3.11/dist-packages"
#define INFO "x-1.dist-info"
#define NONE "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU" /* of an empty file */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct words {
    const char *part[4];
    size_t len[4];
};

static struct words split(const char *data, size_t size)
{
    struct words words = {0};

    for (size_t i = 0; i < 4; i++) {
        const char *end = memchr(data, 0, size);

        words.part[i] = data;
        words.len[i] = end ? (size_t)(end - data) : size;
        data += end ? words.len[i] + 1 : size;
        size -= end ? words.len[i] + 1 : size;
    }
    return words;
}

static void write_file(struct fl_arena *arena, const char *folder, const char *name,
                       const void *data, size_t len)
{
    const char *path = fl_arena_printf(arena, "%s/%s", folder, name);
    char *slash = strrchr(fl_arena_strdup(arena, path), '/');

    if (!slash)
        abort();
    (void)fl_dir_ensure(fl_arena_strndup(arena, path, strlen(path) - strlen(slash)), 0700, NULL);
    (void)fl_file_write(path, data, len, 0600, NULL);
}

static const char *hash_row(struct fl_arena *arena, const char *path, const void *data, size_t len)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    unsigned char bytes[FL_SHA256_SIZE];
    char *text;

    fl_sha256_add(hash, data, len);
    fl_sha256_end(hash, bytes);
    text = fl_base64_encode(arena, bytes, sizeof(bytes));
    for (char *at = text; *at; at++)
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    return fl_arena_printf(arena, "%s,sha256=%s,\n", path, text);
}

static void make_wheel(struct fl_arena *arena, const char *folder, const struct words *words)
{
    const char *path = fl_arena_strndup(arena, words->part[3], words->len[3]);
    const char *rows =
        fl_arena_printf(arena, "%s%s" INFO "/RECORD,,\n%.*s",
                        hash_row(arena, INFO "/WHEEL", words->part[0], words->len[0]),
                        hash_row(arena, INFO "/entry_points.txt", words->part[2], words->len[2]),
                        (int)words->len[1], words->part[1]);

    write_file(arena, folder, INFO "/WHEEL", words->part[0], words->len[0]);
    write_file(arena, folder, INFO "/entry_points.txt", words->part[2], words->len[2]);
    if (*path && strlen(path) < 200 && fl_path_is_below(path) &&
        !fl_str_has_prefix(path, INFO "/")) {
        write_file(arena, folder, path, "", 0);
        rows = fl_arena_printf(arena, "\"%s\"," NONE ",0\n%s", path, rows);
    }
    write_file(arena, folder, INFO "/RECORD", rows, strlen(rows));
}

static void check_tree(const struct fl_tree *tree)
{
    struct fl_tree_entry entry;
    void *cursor = NULL;

    while (fl_tree_next(tree, &cursor, &entry))
        if (!fl_path_is_below(entry.path) || entry.type == FL_TREE_LINK ||
            !(fl_str_has_prefix("usr/local/", entry.path) || fl_streq(entry.path, "usr") ||
              fl_streq(entry.path, "usr/local") || fl_str_has_prefix(entry.path, "usr/local/")))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct words words = split((const char *)data, size);
    char folder[] = "/dev/shm/flops-fuzz-XXXXXX";
    struct fl_tree *tree = fl_tree_create();

    if (!mkdtemp(folder))
        abort();
    make_wheel(arena, folder, &words);
    if (fl_wheel_install(folder, "x", SITE, tree, NULL) == 0)
        check_tree(tree);
    fl_tree_destroy(tree);
    if (fl_dir_remove(folder, NULL) < 0)
        abort();
    return 0;
}
