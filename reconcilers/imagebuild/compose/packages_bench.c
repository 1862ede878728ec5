/* What an image's packages cost: found, fetched, unpacked, packed as layers, and the layers
 * unpacked again into a folder that programs can be started in.
 *
 *   packages_bench FOLDER PLATFORM PACKAGE… [-- REQUIREMENT…]
 *
 * FOLDER keeps what was fetched; a second run is a warm one. Prints one JSON object. The
 * environment is handed on to apt and pip. */
#include "lib/blobs.h"
#include "lib/digest.h"
#include "lib/env.h"
#include "lib/file.h"
#include "lib/oci/unpack.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/compose/packages.h"

#include <stdio.h>
#include <string.h>

#define DEADLINE_MS (30 * 60 * 1000)

extern char **environ;

struct bench {
    const char *folder, *platform_text;
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_blobs *blobs;
    struct fl_packages *packages;
    struct fl_platform platform;
    const char *root;
    json_t *report;
};

static const char *below(const struct bench *bench, const char *name)
{
    return fl_arena_printf(bench->arena, "%s/%s", bench->folder, name);
}

static void note(json_t *part, const char *name, int64_t value)
{
    (void)json_object_set_new(part, name, json_integer(value));
}

/* How long it took since `*began`, which becomes now. */
static void note_time(json_t *part, const char *name, int64_t *began)
{
    int64_t now = fl_machine_monotonic_us();

    note(part, name, (now - *began) / 1000);
    *began = now;
}

static int unpack_layer(const struct bench *bench, const struct fl_layer *layer,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_unpack unpack = {.format = FL_ARCHIVE_LAYER, .folder = bench->root};
    struct fl_unpacked unpacked;
    int r = fl_blobs_get(bench->blobs, layer->descriptor.digest, &fd, &unpack.in_bytes, err);

    unpack.fd = fd;
    if (r == 0)
        r = fl_unpack(&unpack, &unpacked, err);
    if (r == 0 && !fl_streq(unpacked.diff_id, layer->diff_id))
        r = fl_error_set(err, FL_E_INVALID, "the layer is another one when it is read");
    return r;
}

static int write_layer(const struct bench *bench, const struct fl_tree *tree, json_t *part,
                       int64_t *began, struct fl_error *err)
{
    struct fl_layer layer;
    int r = fl_tree_write_layer(tree, FL_LAYER_GZIP, 0, bench->blobs, NULL, NULL, bench->arena,
                                &layer, err);

    if (r < 0)
        return r;
    note_time(part, "layer_ms", began);
    note(part, "entries", (int64_t)fl_tree_count(tree));
    note(part, "unpacked_bytes", layer.unpacked_bytes);
    note(part, "gzip_bytes", layer.descriptor.size);
    fl_json_set_str(part, "digest", layer.descriptor.digest);
    return unpack_layer(bench, &layer, err);
}

static int fetch(const struct bench *bench, const struct fl_package_lock *lock, json_t *part,
                 int64_t *began, struct fl_error *err)
{
    struct fl_packages_fetched fetched;
    int r = fl_packages_fetch(bench->packages, lock, &fetched, err);

    if (r < 0)
        return r;
    note_time(part, "fetch_ms", began);
    note(part, "packages", (int64_t)lock->count);
    note(part, "fetched", (int64_t)fetched.fetched);
    note(part, "fetched_bytes", fetched.bytes_fetched);
    return 0;
}

static int run_debian(const struct bench *bench, const char *const *names, size_t count,
                      const char **ret_python, struct fl_error *err)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    json_t *part = json_object();
    struct fl_package_lock lock = {0};
    const char *scratch = NULL;
    int64_t began = fl_machine_monotonic_us();
    int r;

    (void)json_object_set_new(bench->report, "debian", part);
    r = fl_packages_resolve_debian(bench->packages, &bench->platform, names, count, bench->arena,
                                   &lock, err);
    note_time(part, "resolve_ms", &began);
    if (r == 0)
        r = fetch(bench, &lock, part, &began, err);
    if (r == 0)
        r = fl_packages_unpack_debian(bench->packages, &lock, tree, bench->arena, &scratch, err);
    note_time(part, "unpack_ms", &began);
    if (r == 0)
        r = write_layer(bench, tree, part, &began, err);
    for (size_t i = 0; i < lock.count; i++)
        if (fl_str_has_prefix(lock.items[i].name, "libpython3.") &&
            fl_str_has_suffix(lock.items[i].name, "-minimal"))
            *ret_python = fl_arena_strndup(bench->arena, lock.items[i].name + strlen("libpython"),
                                           strcspn(lock.items[i].name + strlen("libpython"), "-"));
    if (scratch)
        (void)fl_dir_remove(scratch, NULL);
    return r;
}

static int run_python(const struct bench *bench, const char *python, const char *const *wanted,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    json_t *part = json_object();
    struct fl_package_lock lock;
    const char *scratch = NULL, *file = below(bench, "requirements.txt");
    const char *site =
        fl_arena_printf(bench->arena, "usr/local/lib/python%s/dist-packages", python);
    int64_t began;
    int r = fl_file_write(file, "", 0, 0600, err);

    (void)json_object_set_new(bench->report, "python", part);
    began = fl_machine_monotonic_us();
    if (r == 0)
        r = fl_packages_resolve_python(bench->packages, &bench->platform, python,
                                       FL_PYTHON_REQUIREMENTS, file, wanted, bench->arena, &lock,
                                       err);
    note_time(part, "resolve_ms", &began);
    if (r == 0)
        r = fetch(bench, &lock, part, &began, err);
    if (r == 0)
        r = fl_packages_unpack_python(bench->packages, &lock, site, tree, bench->arena, &scratch,
                                      err);
    note_time(part, "unpack_ms", &began);
    if (r == 0)
        r = write_layer(bench, tree, part, &began, err);
    if (scratch)
        (void)fl_dir_remove(scratch, NULL);
    return r;
}

static int open_all(struct bench *bench, struct fl_error *err)
{
    const struct fl_blobs_options store = {.env = &bench->env, .path = below(bench, "blobs")};
    struct fl_packages_options options = {.env = &bench->env,
                                          .folder = below(bench, "state"),
                                          .extra_env = (const char *const *)environ};
    int r = fl_platform_parse(bench->arena, bench->platform_text, &bench->platform, err);

    bench->root = below(bench, "root");
    if (r == 0)
        r = fl_dir_ensure(bench->folder, 0755, err);
    if (r == 0)
        r = fl_dir_remove(bench->root, err);
    if (r == 0)
        r = fl_blobs_open(&store, &bench->blobs, err);
    options.blobs = bench->blobs;
    options.deadline_ms = fl_monotonic_ms(&bench->env) + DEADLINE_MS;
    return r == 0 ? fl_packages_open(&options, &bench->packages, err) : r;
}

static int run(struct bench *bench, const char *const *names, struct fl_error *err)
{
    const char *python = NULL;
    size_t count = 0;
    int r = open_all(bench, err);

    while (names[count] && !fl_streq(names[count], "--"))
        count++;
    if (r == 0)
        r = run_debian(bench, names, count, &python, err);
    if (r == 0 && names[count] && !python)
        r = fl_error_set(err, FL_E_INVALID, "no python3 among the packages");
    if (r == 0 && names[count])
        r = run_python(bench, python, names + count + 1, err);
    return r;
}

int main(int argc, char **argv)
{
    struct bench bench = {.folder = argv[1],
                          .platform_text = argc > 2 ? argv[2] : NULL,
                          .env = fl_env_real(NULL),
                          .arena = fl_arena_create(),
                          .report = json_object()};
    struct fl_error err = {0};
    int r;

    if (argc < 4) {
        (void)fprintf(stderr, "usage: packages_bench FOLDER PLATFORM PACKAGE… [-- REQUIREMENT…]\n");
        return 2;
    }
    r = run(&bench, (const char *const *)argv + 3, &err);
    (void)json_dumpf(bench.report, stdout, JSON_INDENT(1));
    (void)putchar('\n');
    if (r < 0)
        (void)fprintf(stderr, "packages_bench: %s\n", err.msg);
    json_decref(bench.report);
    fl_packages_close(bench.packages);
    fl_blobs_close(bench.blobs);
    fl_arena_destroy(bench.arena);
    return r < 0;
}
