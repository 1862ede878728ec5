#include "reconcilers/modelversion/code.h"

#include "lib/folder.h"
#include "lib/oci/closure.h"
#include "lib/oci/unpack.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/compose/compose.h"

#include <string.h>

/* Code is small, and lies near the top: other layers are not worth the reading. */
#define LAYER_MAX  ((int64_t)64 << 20)
#define CODE_MAX   ((int64_t)512 << 20)
#define LAYERS_MAX 4

static int read_manifest(struct fl_blobs *blobs, const char *digest, struct fl_arena *arena,
                         struct fl_oci_manifest *ret_manifest, struct fl_error *err)
{
    const struct fl_oci_descriptor descriptor = {.digest = digest};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_oci_load_blob(blobs, &descriptor, &text, err);

    return r < 0 ? r : fl_oci_manifest_parse(arena, text->data, text->len, NULL, ret_manifest, err);
}

static int find_manifest(struct fl_blobs *blobs, const char *image, struct fl_arena *arena,
                         struct fl_oci_manifest *ret_manifest, struct fl_error *err)
{
    int r = read_manifest(blobs, image, arena, ret_manifest, err);

    if (r < 0 || !ret_manifest->is_index)
        return r;
    if (ret_manifest->layers.count == 0)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s names no image", image);
    r = read_manifest(blobs, ret_manifest->layers.items[0].digest, arena, ret_manifest, err);
    if (r == 0 && ret_manifest->is_index)
        r = fl_error_set(err, FL_E_INVALID, "an index within an index");
    return r;
}

static bool is_other(void *user, const char *path)
{
    const size_t len = strlen(FL_IMAGE_CODE_FOLDER);

    (void)user;
    return strncmp(path, FL_IMAGE_CODE_FOLDER, len) != 0 || (path[len] != '/' && path[len]);
}

static int unpack_layer(struct fl_blobs *blobs, const struct fl_oci_descriptor *layer,
                        const char *folder, struct fl_error *err)
{
    struct fl_unpack unpack = {
        .format = FL_ARCHIVE_LAYER, .folder = folder, .max_bytes = CODE_MAX, .skip = is_other};
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_unpacked unpacked;
    int r = fl_blobs_get(blobs, layer->digest, &fd, &unpack.in_bytes, err);

    unpack.fd = fd;
    return r < 0 ? r : fl_unpack(&unpack, &unpacked, err);
}

int fl_model_code_unpack(struct fl_blobs *blobs, const char *image, const char *folder,
                         struct fl_arena *arena, const char **ret_code, struct fl_error *err)
{
    const char *code = fl_arena_printf(arena, "%s/" FL_IMAGE_CODE_FOLDER, folder);
    struct fl_oci_manifest manifest = {0};
    int r = find_manifest(blobs, image, arena, &manifest, err);
    size_t looked = 0;

    for (size_t i = manifest.layers.count; r == 0 && i-- > 0 && looked < LAYERS_MAX;) {
        if (manifest.layers.items[i].size > LAYER_MAX)
            continue;
        looked++;
        r = unpack_layer(blobs, &manifest.layers.items[i], folder, err);
        if (r == 0 && fl_path_exists(code)) {
            *ret_code = code;
            return 0;
        }
    }
    return r < 0 ? r : fl_error_set(err, FL_E_NOT_FOUND, "%s has no code in it", image);
}
