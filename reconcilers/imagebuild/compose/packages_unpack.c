/* Debian's packages into trees, and what both kinds begin with. */
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/oci/unpack.h"
#include "lib/process.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PACKAGE_BYTES_MAX ((int64_t)4 * 1024 * 1024 * 1024)

struct unpacking {
    struct fl_packages *packages;
    struct fl_tree *tree;
    struct fl_arena *arena;
    const char *scratch;
};

static bool is_going_on(void *user)
{
    const struct fl_packages *packages = user;

    return fl_packages_left_ms(packages) > 0 && fl_packages_tell(packages, "unpacking", 0, 0);
}

int fl_packages_unpack_one(struct fl_packages *packages, const struct fl_package *package,
                           enum fl_archive_format format, const char *folder, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_unpack options = {.format = format,
                                .folder = folder,
                                .max_bytes = PACKAGE_BYTES_MAX,
                                .max_entries = PACKAGE_ENTRIES_MAX,
                                .keep_going = is_going_on,
                                .user = packages};
    struct fl_unpacked unpacked;
    int r = fl_blobs_get(packages->options.blobs, package->digest, &fd, &options.in_bytes, err);

    options.fd = fd;
    if (r == 0)
        r = fl_unpack(&options, &unpacked, err);
    return r < 0 ? fl_error_wrap(err, "%s", package->file) : 0;
}

const char *fl_packages_scratch(struct fl_packages *packages, struct fl_arena *arena)
{
    return fl_arena_printf(arena, "%s/scratch-%" PRId64, packages->options.folder,
                           ++packages->scratches);
}

/* Debian. */

/* Of a folder with '/' at its end: itself, too. */
static bool is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder) - 1;

    return strncmp(path, folder, len) == 0 && (!path[len] || path[len] == '/');
}

/* What nobody needs in an image. Copyright notes stay: the packages' licences ask for that. */
static bool is_left_out(void *user, const char *path)
{
    static const char *const prefixes[] = {
        "usr/share/man/",
        "usr/share/info/",
        "usr/share/locale/",
        "usr/share/lintian/",
        "usr/share/bug/",
        "usr/share/doc-base/",
        "usr/share/menu/",
        "usr/share/pixmaps/",
        "usr/share/applications/",
        "var/cache/",
        "var/lib/dpkg/",
        "usr/lib/systemd/",
        "lib/systemd/",
        "etc/init.d/",
        "etc/cron.daily/",
        "usr/share/bash-completion/",
        "usr/share/gdb/",
    };

    const struct fl_package *package = user;

    for (size_t i = 0; i < FL_COUNT_OF(prefixes); i++)
        if (is_below(path, prefixes[i]))
            return true;
    /* Of packages that are there to compile with, the headers are what is wanted. */
    if (is_below(path, "usr/include/") && !fl_str_has_suffix(package->name, "-dev"))
        return true;
    return fl_str_has_prefix(path, "usr/share/doc/") && !fl_str_has_suffix(path, "/copyright") &&
           strchr(path + strlen("usr/share/doc/"), '/');
}

static int add_debian(struct unpacking *unpacking, const struct fl_package *package,
                      struct fl_error *err)
{
    const char *folder =
        fl_arena_printf(unpacking->arena, "%s/%s", unpacking->scratch, package->name);
    int r = fl_packages_unpack_one(unpacking->packages, package, FL_ARCHIVE_DEBIAN, folder, err);

    if (r == 0)
        r = fl_tree_add_tree(unpacking->tree, "", folder, is_left_out, (void *)package, err);
    return r;
}

/* The merged /usr, which Debian 12 has, and its packages do not bring. */
static int add_merged(struct fl_tree *tree, struct fl_error *err)
{
    static const char *const names[] = {"bin", "lib", "lib32", "lib64", "libx32", "sbin"};
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(names); i++) {
        char target[16];

        (void)snprintf(target, sizeof(target), "usr/%s", names[i]);
        r = fl_tree_add_folder(tree, target, err);
        if (r == 0)
            r = fl_tree_add_link(tree, names[i], target, err);
    }
    return r;
}

static int add_text(struct fl_tree *tree, const char *path, const char *text, struct fl_error *err)
{
    return fl_tree_add_text(tree, path, text, strlen(text), false, err);
}

static int fix_users(struct fl_tree *tree, struct fl_error *err)
{
    int r = add_text(tree, "etc/passwd",
                     "root:x:0:0:root:/root:/bin/sh\n"
                     "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
                     "flops:x:65532:65532:flops:/tmp:/usr/sbin/nologin\n",
                     err);

    if (r == 0)
        r = add_text(tree, "etc/group", "root:x:0:\nnogroup:x:65534:\nflops:x:65532:\n", err);
    if (r == 0)
        r = add_text(tree, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n",
                     err);
    return r;
}

/* update-ca-certificates: all of them in one file. */
static int append_certificate(struct fl_buf *all, const struct fl_tree_entry *entry,
                              struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r;

    if (entry->type != FL_TREE_FILE || !entry->source ||
        !fl_str_has_prefix(entry->path, "usr/share/ca-certificates/") ||
        !fl_str_has_suffix(entry->path, ".crt"))
        return 0;
    r = fl_file_read(entry->source, (size_t)1024 * 1024, &text, err);
    if (r == 0)
        fl_buf_append(all, text->data, text->len);
    return r;
}

static int fix_certificates(struct fl_tree *tree, struct fl_error *err)
{
    struct fl_tree_entry entry;
    struct fl_buf all;
    void *cursor = NULL;
    int r = 0;

    fl_buf_init(&all, 0);
    while (r == 0 && fl_tree_next(tree, &cursor, &entry))
        r = append_certificate(&all, &entry, err);
    if (r == 0 && all.len > 0)
        r = fl_tree_add_text(tree, "etc/ssl/certs/ca-certificates.crt", all.data, all.len, false,
                             err);
    fl_buf_finish(&all);
    return r;
}

/* update-alternatives: the link is made where its target came. %s: the machine's triplet. */
static const struct {
    const char *link, *target;
} alternatives[] = {
    {"usr/bin/awk", "usr/bin/mawk"},
    {"usr/lib/%s/libblas.so.3", "usr/lib/%s/openblas-pthread/libblas.so.3"},
    {"usr/lib/%s/liblapack.so.3", "usr/lib/%s/openblas-pthread/liblapack.so.3"},
    {"usr/lib/%s/libopenblas.so.0", "usr/lib/%s/openblas-pthread/libopenblas.so.0"},
    {"usr/lib/%s/libblas.so.3", "usr/lib/%s/blas/libblas.so.3"},
    {"usr/lib/%s/liblapack.so.3", "usr/lib/%s/lapack/liblapack.so.3"},
};
static const char *const triplets[] = {"x86_64-linux-gnu",      "aarch64-linux-gnu",
                                       "arm-linux-gnueabihf",   "riscv64-linux-gnu",
                                       "powerpc64le-linux-gnu", "s390x-linux-gnu"};

static const char *with_triplet(struct fl_arena *arena, const char *path, const char *triplet)
{
    const char *mark = strstr(path, "%s");

    return mark ? fl_arena_printf(arena, "%.*s%s%s", (int)(mark - path), path, triplet, mark + 2)
                : path;
}

static int fix_alternatives(struct fl_tree *tree, struct fl_arena *arena, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(alternatives); i++) {
        for (size_t k = 0; r == 0 && k < FL_COUNT_OF(triplets); k++) {
            const char *link = with_triplet(arena, alternatives[i].link, triplets[k]);
            const char *target = with_triplet(arena, alternatives[i].target, triplets[k]);

            if (fl_tree_has(tree, target) && !fl_tree_has(tree, link))
                r = fl_tree_add_link(tree, link, fl_arena_printf(arena, "/%s", target), err);
        }
    }
    return r;
}

static int fix_folders(struct fl_tree *tree, struct fl_error *err)
{
    static const char *const folders[] = {"tmp", "var/tmp", "root", "proc", "sys", "dev", "run"};
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(folders); i++)
        r = fl_tree_add_folder(tree, folders[i], err);
    fl_tree_set_mode(tree, "tmp", 01777);
    fl_tree_set_mode(tree, "var/tmp", 01777);
    fl_tree_set_mode(tree, "root", 0700);
    return r;
}

int fl_packages_unpack_debian(struct fl_packages *packages, const struct fl_package_lock *lock,
                              struct fl_tree *tree, struct fl_arena *arena,
                              const char **ret_scratch, struct fl_error *err)
{
    struct unpacking unpacking = {.packages = packages, .tree = tree, .arena = arena};
    int r;

    *ret_scratch = unpacking.scratch = fl_packages_scratch(packages, arena);
    r = fl_dir_remove(unpacking.scratch, err);
    if (r == 0)
        r = add_merged(tree, err);
    for (size_t i = 0; r == 0 && i < lock->count; i++)
        r = add_debian(&unpacking, &lock->items[i], err);
    if (r == 0)
        r = fix_users(tree, err);
    if (r == 0)
        r = fix_certificates(tree, err);
    if (r == 0)
        r = fix_alternatives(tree, arena, err);
    return r == 0 ? fix_folders(tree, err) : r;
}
