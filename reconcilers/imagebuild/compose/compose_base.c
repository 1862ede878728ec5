/* Images on top of one that somebody else made: what it says and holds, and what it lacks of what
 * this program needs. */
#include "reconcilers/imagebuild/compose/compose_internal.h"

#include "lib/file.h"
#include "lib/oci/closure.h"
#include "lib/oci/unpack.h"
#include "lib/process.h"
#include "lib/str.h"

#include <string.h>
#include <unistd.h>

/* Reading it. */

static int read_documents(struct compose_image *image, const struct fl_oci_descriptor *root,
                          struct fl_oci_manifest *ret_manifest, struct fl_oci_config *ret_config,
                          struct fl_error *err)
{
    struct compose_work *work = image->work;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL, *config = NULL;
    int r = fl_oci_load_blob(work->compose->blobs, root, &text, err);

    if (r == 0)
        r = fl_oci_manifest_parse(work->arena, text->data, text->len, NULL, ret_manifest, err);
    if (r == 0 && ret_manifest->is_index)
        r = fl_error_set(err, FL_E_INVALID, "it is an index, not the image of one platform");
    if (r == 0)
        r = fl_oci_load_blob(work->compose->blobs, &ret_manifest->config, &config, err);
    if (r == 0)
        r = fl_oci_config_parse(work->arena, config->data, config->len, ret_config, err);
    return r;
}

/* How large a layer becomes: the last four bytes of a gzip file say it, up to 4 GiB. */
static int64_t unpacked_bytes(const struct compose_image *image,
                              const struct fl_oci_descriptor *layer)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    unsigned char last[4];
    int64_t size;

    if (!fl_str_has_suffix(layer->media_type, "gzip"))
        return layer->size;
    if (fl_blobs_get(image->work->compose->blobs, layer->digest, &fd, &size, NULL) < 0 ||
        size < 4 || pread(fd, last, sizeof(last), size - 4) != 4)
        return layer->size;
    return (int64_t)last[0] | (int64_t)last[1] << 8 | (int64_t)last[2] << 16 |
           (int64_t)last[3] << 24;
}

static int take_layers(struct compose_image *image, const struct fl_oci_descriptors *layers,
                       const struct fl_oci_texts *diff_ids, const char *purpose,
                       struct fl_error *err)
{
    if (layers->count != diff_ids->count ||
        image->count + layers->count > COMPOSE_LAYERS_MAX - COMPOSE_OWN_LAYERS)
        return fl_error_set(err, FL_E_INVALID, "it has %zu layers, and names %zu", layers->count,
                            diff_ids->count);
    for (size_t i = 0; i < layers->count; i++) {
        image->purposes[image->count] = purpose;
        image->layers[image->count++] =
            (struct fl_layer){.descriptor = layers->items[i],
                              .diff_id = diff_ids->items[i],
                              .unpacked_bytes = unpacked_bytes(image, &layers->items[i])};
    }
    return 0;
}

int compose_take_layers(struct compose_image *image, const struct fl_oci_descriptor *root,
                        const char *purpose, struct fl_error *err)
{
    struct fl_oci_manifest manifest = {0};
    struct fl_oci_config config = {0};
    int r = read_documents(image, root, &manifest, &config, err);

    if (r == 0)
        r = take_layers(image, &manifest.layers, &config.diff_ids, purpose, err);
    return r < 0 ? fl_error_wrap(err, "%s", purpose) : 0;
}

int compose_base_read(struct compose_image *image, const struct fl_oci_descriptor *root,
                      struct fl_error *err)
{
    const struct fl_oci_config *config = &image->base.config;
    struct fl_oci_manifest manifest = {0};
    int r = read_documents(image, root, &manifest, &image->base.config, err);

    if (r == 0 && !fl_platform_fits(&config->platform, image->platform))
        r = fl_error_set(err, FL_E_INVALID, "it is for %s, not for %s",
                         fl_platform_text(image->work->arena, &config->platform),
                         fl_platform_text(image->work->arena, image->platform));
    if (r == 0)
        r = take_layers(image, &manifest.layers, &config->diff_ids, "base image", err);
    if (r < 0)
        return fl_error_wrap(err, "the base image");
    image->base.digest = root->digest;
    return 0;
}

/* What is in it. */

static void forget_below(struct fl_map *paths, const char *folder, size_t len, bool itself)
{
    void *cursor = NULL;
    const char *path;

    while (fl_map_next(paths, &cursor, &path, NULL))
        if (strncmp(path, folder, len) == 0 &&
            (len == 0 || path[len] == '/' || (itself && !path[len])))
            (void)fl_map_remove(paths, path);
}

/* Nothing is unpacked: all is left out, and remembered by its name. */
static bool list_entry(void *user, const char *path)
{
    const struct compose_image *image = user;
    struct fl_map *paths = image->base.paths;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t folder = slash ? (size_t)(slash - path) : 0;
    char hidden[4096];

    if (fl_streq(name, ".wh..wh..opq")) {
        forget_below(paths, path, folder, false);
    } else if (fl_str_has_prefix(name, ".wh.")) {
        int len = snprintf(hidden, sizeof(hidden), "%.*s%s%s", (int)folder, path, slash ? "/" : "",
                           name + 4);

        if (len > 0 && (size_t)len < sizeof(hidden))
            forget_below(paths, hidden, (size_t)len, true);
    } else {
        fl_map_put(paths, path, paths);
    }
    return true;
}

static bool keep_going(void *user)
{
    const struct compose_image *image = user;
    const struct fl_compose_hooks *hooks = &image->work->compose->hooks;

    return !hooks->keep_going || hooks->keep_going(hooks->user);
}

static int list_layer(struct compose_image *image, const struct fl_layer *layer, const char *folder,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_unpack unpack = {.format = FL_ARCHIVE_LAYER,
                               .folder = folder,
                               .skip = list_entry,
                               .keep_going = keep_going,
                               .user = image};
    struct fl_unpacked unpacked;
    int r = fl_blobs_get(image->work->compose->blobs, layer->descriptor.digest, &fd,
                         &unpack.in_bytes, err);

    if (r < 0)
        return r;
    unpack.fd = fd;
    r = fl_unpack(&unpack, &unpacked, err);
    if (r == 0 && !fl_streq(unpacked.diff_id, layer->diff_id))
        r = fl_error_set(err, FL_E_INVALID, "layer %s is not what the image says",
                         layer->descriptor.digest);
    return r;
}

static int list_layers(struct compose_image *image, struct fl_error *err)
{
    struct compose_work *work = image->work;
    const char *folder = fl_arena_printf(work->arena, "%s/listing", work->compose->folder);
    int r = 0;

    image->base.paths = fl_map_create(NULL);
    for (size_t i = 0; r == 0 && i < image->base.config.diff_ids.count; i++)
        r = list_layer(image, &image->layers[i], folder, err);
    (void)fl_dir_remove(folder, NULL);
    return r < 0 ? fl_error_wrap(err, "the base image") : 0;
}

int compose_base_list(struct compose_image *image, struct fl_error *err)
{
    return image->base.paths ? 0 : list_layers(image, err);
}

bool compose_base_has(const struct compose_image *image, const char *path)
{
    static const char usr[] = "usr/";
    const struct fl_map *paths = image->base.paths;

    /* /lib and /usr/lib are one in some images, and two in others. */
    return fl_map_get(paths, path) ||
           (fl_str_has_prefix(path, usr) && fl_map_get(paths, path + sizeof(usr) - 1));
}

/* What it lacks. */

static bool has_below(const struct compose_image *image, const char *folder)
{
    size_t len = strlen(folder);
    void *cursor = NULL;
    const char *path;

    while (fl_map_next(image->base.paths, &cursor, &path, NULL))
        if (strncmp(path, folder, len) == 0 && path[len] == '/')
            return true;
    return false;
}

static int add_missing(struct compose_image *image, struct fl_tree *tree,
                       const struct fl_tree_entry *entry, struct fl_error *err)
{
    int r;

    if (compose_base_has(image, entry->path))
        return 0;
    if (entry->type == FL_TREE_FOLDER)
        return 0; /* comes with what is in it */
    if (entry->type == FL_TREE_LINK)
        return has_below(image, entry->path)
                   ? 0
                   : fl_tree_add_link(tree, entry->path, entry->target, err);
    r = entry->source
            ? fl_tree_add_file(tree, entry->path, entry->source, (entry->mode & 0111) != 0, err)
            : fl_tree_add_text(tree, entry->path, entry->data, entry->len,
                               (entry->mode & 0111) != 0, err);
    return r;
}

/* The loader is called by its path, below /lib or /lib64, which are folders in images whose /usr is
 * not merged. */
static int link_loader(const struct compose_image *image, struct fl_tree *tree,
                       const struct fl_tree_entry *entry, struct fl_error *err)
{
    static const char usr[] = "usr/";
    const char *name = strrchr(entry->path, '/'), *path = entry->path + sizeof(usr) - 1;
    const char *folder;

    if (!name || !fl_str_has_prefix(entry->path, usr) || !fl_str_has_prefix(name + 1, "ld-linux"))
        return 0;
    folder = fl_arena_strndup(image->work->arena, path, (size_t)(strrchr(path, '/') - path));
    if (strchr(folder, '/') || !has_below(image, folder) || compose_base_has(image, path))
        return 0;
    return fl_tree_add_link(tree, path, fl_arena_printf(image->work->arena, "/%s", entry->path),
                            err);
}

int compose_base_add_missing(struct compose_image *image, struct fl_tree *tree,
                             const struct fl_tree *needs, struct fl_error *err)
{
    struct fl_tree_entry entry;
    void *cursor = NULL;
    int r = compose_base_list(image, err);

    while (r == 0 && fl_tree_next(needs, &cursor, &entry)) {
        r = add_missing(image, tree, &entry, err);
        if (r == 0)
            r = link_loader(image, tree, &entry, err);
    }
    return r;
}

void compose_base_finish(struct compose_image *image)
{
    fl_map_destroy(image->base.paths);
    image->base.paths = NULL;
}
