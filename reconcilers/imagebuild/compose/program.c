#include "reconcilers/imagebuild/compose/program.h"

#include "lib/map.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/compose/elf.h"

#include <string.h>

#define LINKS_MAX 16

const char *const fl_program_packages[] = {
    "ca-certificates", "libbz2-1.0",
    "libc6",           "libcurl4",
    "libevent-2.1-7",  "libevent-core-2.1-7",
    "libgcc-s1",       "libgit2-1.5",
    "libjansson4",     "libevent-openssl-2.1-7",
    "liblzma5",        "libnettle8",
    "libpcre2-8-0",    "libevent-pthreads-2.1-7",
    "libsodium23",     "libsqlite3-0",
    "libssl3",         "libyaml-0-2",
    "libzstd1",        "zlib1g",
};
const size_t fl_program_package_count = FL_COUNT_OF(fl_program_packages);

const char *const fl_program_serving_packages[] = {"libopenblas0-pthread"};
const size_t fl_program_serving_package_count = FL_COUNT_OF(fl_program_serving_packages);
static const char *const serving_libraries[] = {"libopenblas.so.0"};

/* Where the loader looks, most likely first. %s: as Debian calls the machine's libraries. */
static const char *const library_folders[] = {"usr/lib/%s", "usr/lib", "usr/lib64"};
static const struct {
    const char *architecture, *triplet;
} triplets[] = {{"amd64", "x86_64-linux-gnu"},
                {"arm64", "aarch64-linux-gnu"},
                {"riscv64", "riscv64-linux-gnu"},
                {"ppc64le", "powerpc64le-linux-gnu"}};

/* What a program expects besides its libraries; taken where the packages have it. */
static const char *const files[] = {"etc/passwd", "etc/group", "etc/nsswitch.conf",
                                    "etc/ssl/certs/ca-certificates.crt", "usr/lib/ssl/cert.pem"};
static const char *const merged[] = {"bin", "lib", "lib64", "sbin"};

struct closure {
    struct fl_tree *tree;
    const struct fl_tree *packages;
    const struct fl_platform *platform;
    const char *triplet;
    struct fl_arena *arena;
    struct fl_map *seen; /* names of libraries */
};

static int add_needs(struct closure *closure, const char *path, struct fl_error *err);

static int add_entry(struct fl_tree *tree, const struct fl_tree_entry *entry, struct fl_error *err)
{
    bool executable = (entry->mode & 0111) != 0;

    switch (entry->type) {
    case FL_TREE_LINK:
        return fl_tree_add_link(tree, entry->path, entry->target, err);
    case FL_TREE_FOLDER:
        return fl_tree_add_folder(tree, entry->path, err);
    case FL_TREE_FILE:
        return entry->source
                   ? fl_tree_add_file(tree, entry->path, entry->source, executable, err)
                   : fl_tree_add_text(tree, entry->path, entry->data, entry->len, executable, err);
    }
    return 0;
}

/* Where a link at `path` leads. */
static const char *beside(struct fl_arena *arena, const char *path, const char *target)
{
    const char *slash = strrchr(path, '/');

    if (*target == '/')
        return target + 1;
    return slash ? fl_arena_printf(arena, "%.*s/%s", (int)(slash - path), path, target) : target;
}

/* The entry and, through links, the file that it is in the end. Links may have ".." in them: only
 * those within one folder are followed here, which is how libraries are linked. */
static int add_with_links(struct closure *closure, const char *path, struct fl_tree_entry *ret_file,
                          struct fl_error *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < LINKS_MAX; i++) {
        if (!fl_tree_get(closure->packages, path, ret_file))
            return fl_error_set(err, FL_E_NOT_FOUND, "%s is in no package", path);
        r = add_entry(closure->tree, ret_file, err);
        if (r < 0 || ret_file->type != FL_TREE_LINK)
            return r;
        path = beside(closure->arena, path, ret_file->target);
    }
    return fl_error_set(err, FL_E_INVALID, "%s is a chain of links", path);
}

static const char *find_library(const struct closure *closure, const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(library_folders); i++) {
        const char *folder = strchr(library_folders[i], '%')
                                 ? fl_arena_printf(closure->arena, "usr/lib/%s", closure->triplet)
                                 : library_folders[i];
        const char *path = fl_arena_printf(closure->arena, "%s/%s", folder, name);

        if (fl_tree_has(closure->packages, path))
            return path;
    }
    return NULL;
}

static int add_library(struct closure *closure, const char *name, struct fl_error *err)
{
    struct fl_tree_entry file;
    const char *path;
    int r;

    if (fl_map_get(closure->seen, name))
        return 0;
    fl_map_put(closure->seen, name, closure);
    path = find_library(closure, name);
    if (!path)
        return fl_error_set(err, FL_E_INVALID, "the library %s is in none of the packages", name);
    r = add_with_links(closure, path, &file, err);
    return r == 0 && file.source ? add_needs(closure, file.source, err) : r;
}

/* The loader is asked for by its path, which may lead through the links of the merged /usr. */
static int add_loader(struct closure *closure, const char *loader, struct fl_error *err)
{
    struct fl_tree_entry file;
    const char *path = fl_arena_printf(closure->arena, "usr%s", loader);

    if (!fl_tree_has(closure->packages, path))
        path = loader + 1;
    int r = add_with_links(closure, path, &file, err);

    return r < 0 ? fl_error_wrap(err, "the loader") : 0;
}

static int add_needs(struct closure *closure, const char *path, struct fl_error *err)
{
    struct fl_elf elf;
    int r = fl_elf_read(closure->arena, path, &elf, err);

    if (r < 0)
        return r;
    if (!fl_streq(elf.architecture, closure->platform->architecture))
        return fl_error_set(err, FL_E_INVALID, "%s is made for %s, not for %s", path,
                            elf.architecture, closure->platform->architecture);
    if (elf.loader)
        r = add_loader(closure, elf.loader, err);
    for (size_t i = 0; r == 0 && i < elf.needed_count; i++)
        r = add_library(closure, elf.needed[i], err);
    return r;
}

static int add_surroundings(struct closure *closure, struct fl_error *err)
{
    struct fl_tree_entry entry;
    int r = fl_tree_add_folder(closure->tree, "tmp", err);

    fl_tree_set_mode(closure->tree, "tmp", 01777);
    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(merged); i++)
        if (fl_tree_get(closure->packages, merged[i], &entry) && entry.type == FL_TREE_LINK)
            r = fl_tree_add_link(closure->tree, merged[i], entry.target, err);
    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(files); i++)
        if (fl_tree_get(closure->packages, files[i], &entry))
            r = add_entry(closure->tree, &entry, err);
    return r;
}

int fl_program_add_needs(struct fl_tree *tree, const struct fl_tree *packages,
                         const struct fl_platform *platform, const char *program, bool serves,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_map_destroyp) struct fl_map *seen = fl_map_create(NULL);
    struct closure closure = {
        .tree = tree, .packages = packages, .platform = platform, .arena = arena, .seen = seen};
    int r;

    for (size_t i = 0; i < FL_COUNT_OF(triplets); i++)
        if (fl_streq(triplets[i].architecture, platform->architecture))
            closure.triplet = triplets[i].triplet;
    if (!closure.triplet)
        return fl_error_set(err, FL_E_INVALID, "there is no program for %s",
                            fl_platform_text(arena, platform));
    r = add_surroundings(&closure, err);
    if (r == 0)
        r = add_needs(&closure, program, err);
    for (size_t i = 0; serves && r == 0 && i < FL_COUNT_OF(serving_libraries); i++)
        r = add_library(&closure, serving_libraries[i], err);
    return r;
}
