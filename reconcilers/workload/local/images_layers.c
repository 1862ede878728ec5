/* Unpacked layers: a folder each beside a note of what it is. A folder is moved to its name when it
 * is whole; what has no note, or one of before the machine's last start, is removed. */
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/json.h"
#include "lib/oci/unpack.h"
#include "lib/process.h"
#include "lib/str.h"
#include "reconcilers/workload/local/images_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#define LAYERS_MAX   100000
#define NOTE_MAX     4096
#define BOOT_FILE    "/proc/sys/kernel/random/boot_id"
#define WAIT_STEP_MS 1000

static void name_of(const char *diff_id, char out[LAYER_NAME_SIZE])
{
    assert(fl_digest_is_valid(diff_id));
    memcpy(out, diff_id + strlen("sha256:"), LAYER_NAME_SIZE - 1);
    out[LAYER_NAME_SIZE - 1] = '\0';
}

static const char *boot_id(struct fl_arena *arena)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    if (fl_file_read(BOOT_FILE, 128, &bytes, NULL) < 0)
        return "unknown";
    return fl_arena_strndup(arena, bytes->data, strcspn(bytes->data, "\n"));
}

/* Notes. */

static const char *note_path(const struct fl_images *images, struct fl_arena *arena,
                             const char *name)
{
    return fl_arena_printf(arena, "%s/%s.json", images->layers_folder, name);
}

static int write_note(const struct fl_images *images, const char *diff_id, const char *name,
                      int64_t bytes, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON note = json_pack("{s:s, s:I, s:s, s:b}", "diffID", diff_id, "bytes", (json_int_t)bytes,
                             "boot", boot_id(arena), "overlay", images->overlay);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(note);

    return fl_file_write(note_path(images, arena, name), text->data, text->len, 0600, err);
}

static bool read_note(const struct fl_images *images, struct fl_arena *arena, const char *name,
                      int64_t *ret_bytes)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    FL_JSON note = NULL;
    const char *diff_id;

    if (fl_file_read(note_path(images, arena, name), NOTE_MAX, &text, NULL) < 0 ||
        fl_json_parse(text->data, text->len, NULL, NULL, NULL, &note, NULL) < 0)
        return false;
    diff_id = fl_json_str(note, "diffID");
    *ret_bytes = fl_json_int(note, "bytes", -1);
    return diff_id && fl_digest_is_valid(diff_id) && *ret_bytes >= 0 &&
           strncmp(diff_id + strlen("sha256:"), name, LAYER_NAME_SIZE - 1) == 0 &&
           fl_json_bool(note, "overlay", false) == images->overlay &&
           fl_streq(fl_json_str(note, "boot"), boot_id(arena));
}

/* The table. */

static struct layer *add_layer(struct fl_images *images, const char *name)
{
    struct layer *layer = fl_calloc(1, sizeof(*layer));

    memcpy(layer->name, name, LAYER_NAME_SIZE);
    layer->used_us = fl_realtime_us(images->env);
    fl_map_put(images->layers, name, layer);
    return layer;
}

static void remove_files(const struct fl_images *images, const char *name)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    fl_path_remove(note_path(images, arena, name)); /* first: then the folder is none of ours */
    (void)fl_dir_remove(fl_arena_printf(arena, "%s/%s", images->layers_folder, name), NULL);
}

int layers_open(struct fl_images *images, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list = {0};
    int r = fl_dir_ensure(images->layers_folder, 0711, err);

    if (r == 0)
        r = fl_folder_list(arena, images->layers_folder, true, LAYERS_MAX, &list, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < list.count; i++) {
        int64_t bytes = 0;

        if (strlen(list.names[i]) == LAYER_NAME_SIZE - 1 &&
            read_note(images, arena, list.names[i], &bytes)) {
            add_layer(images, list.names[i])->bytes = bytes;
            images->layer_bytes += bytes;
        } else {
            remove_files(images, list.names[i]);
        }
    }
    return 0;
}

bool layers_have(struct fl_images *images, const char *diff_id)
{
    char name[LAYER_NAME_SIZE];
    const struct layer *layer;

    name_of(diff_id, name);
    {
        FL_LOCKED(images->lock);
        layer = fl_map_get(images->layers, name);
        return layer && !layer->making;
    }
}

bool fl_images_hold(struct fl_images *images, const char *const *layers, size_t count)
{
    bool all = true;
    FL_LOCKED(images->lock);

    for (size_t i = 0; i < count; i++) {
        struct layer *layer = fl_map_get(images->layers, layers[i]);

        if (layer && !layer->making)
            layer->holds++;
        else
            all = false;
    }
    return all;
}

void fl_images_unhold(struct fl_images *images, const char *const *layers, size_t count)
{
    FL_LOCKED(images->lock);

    for (size_t i = 0; i < count; i++) {
        struct layer *layer = fl_map_get(images->layers, layers[i]);

        if (!layer || layer->holds == 0)
            continue;
        layer->holds--;
        layer->used_us = fl_realtime_us(images->env);
    }
}

/* Room. */

static struct layer *oldest(struct fl_images *images)
{
    struct layer *found = NULL;
    void *cursor = NULL, *value;

    while (fl_map_next(images->layers, &cursor, NULL, &value)) {
        struct layer *layer = value;

        if (layer->holds == 0 && !layer->making && (!found || layer->used_us < found->used_us))
            found = layer;
    }
    return found;
}

/* Held by `making` while its folder is removed without the lock. */
static void make_room(struct fl_images *images)
{
    for (;;) {
        char name[LAYER_NAME_SIZE];

        {
            FL_LOCKED(images->lock);
            struct layer *layer =
                images->layer_bytes > images->max_layer_bytes ? oldest(images) : NULL;

            if (!layer)
                return;
            layer->making = true;
            images->layer_bytes -= layer->bytes;
            memcpy(name, layer->name, sizeof(name));
        }
        remove_files(images, name);
        {
            FL_LOCKED(images->lock);
            (void)fl_map_remove(images->layers, name);
            fl_signal_all(images->changed);
        }
    }
}

/* Unpacking. */

int layer_unpack(struct fl_image_job *job, const char *diff_id,
                 const struct fl_oci_descriptor *blob, const char *folder, bool for_overlay,
                 int64_t *ret_bytes, struct fl_error *err)
{
    struct fl_images *images = job->images;
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct fl_unpack unpack = {
        .format = FL_ARCHIVE_LAYER,
        .in_bytes = blob->size,
        .folder = folder,
        .max_bytes = images->unpacked_max_bytes,
        .for_overlay = for_overlay,
        .keep_owners = images->keep_owners,
        .keep_going = job_goes_on,
        .user = job,
    };
    struct fl_unpacked unpacked;
    int64_t size;
    int r = fl_blobs_get(images->blobs, blob->digest, &fd, &size, err);

    if (r < 0)
        return r;
    unpack.fd = fd;
    r = fl_unpack(&unpack, &unpacked, err);
    if (r == 0 && strcmp(unpacked.diff_id, diff_id) != 0)
        r = fl_error_set(err, FL_E_INVALID, "it holds %s and should hold %s", unpacked.diff_id,
                         diff_id);
    if (r < 0)
        return fl_error_wrap(err, "layer %s", blob->digest);
    *ret_bytes = unpacked.bytes;
    return 0;
}

static int unpack_new(struct fl_image_job *job, const char *diff_id, const char *name,
                      const struct fl_oci_descriptor *blob, int64_t *ret_bytes,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_images *images = job->images;
    const char *folder = fl_arena_printf(arena, "%s/new-%s", images->layers_folder, name);
    const char *to = fl_arena_printf(arena, "%s/%s", images->layers_folder, name);
    int r;

    (void)fl_dir_remove(folder, NULL);
    (void)fl_dir_remove(to, NULL);
    r = layer_unpack(job, diff_id, blob, folder, true, ret_bytes, err);
    if (r == 0)
        r = fl_folder_move(folder, to, err);
    if (r == 0)
        r = write_note(images, diff_id, name, *ret_bytes, err);
    if (r < 0)
        (void)fl_dir_remove(folder, NULL);
    return r;
}

/* 1: it is there and held. 0: the caller is to make it. */
static int claim(struct fl_image_job *job, const char *name, struct fl_error *err)
{
    struct fl_images *images = job->images;

    for (;;) {
        {
            FL_LOCKED(images->lock);
            struct layer *layer = fl_map_get(images->layers, name);

            if (!layer) {
                add_layer(images, name)->making = true;
                return 0;
            }
            if (!layer->making) {
                layer->holds++;
                return 1;
            }
            (void)fl_signal_wait(images->changed, images->lock, WAIT_STEP_MS);
        }
        if (!job_goes_on(job))
            return fl_error_set(err, FL_E_UNAVAILABLE, "waiting for a layer was broken off");
    }
}

int layers_take(struct fl_image_job *job, const char *diff_id, const struct fl_oci_descriptor *blob,
                char name[LAYER_NAME_SIZE], struct fl_error *err)
{
    struct fl_images *images = job->images;
    int64_t bytes = 0;
    int r;

    name_of(diff_id, name);
    r = claim(job, name, err);
    if (r != 0)
        return r < 0 ? r : 0;
    r = unpack_new(job, diff_id, name, blob, &bytes, err);
    {
        FL_LOCKED(images->lock);
        struct layer *layer = fl_map_get(images->layers, name);

        if (r == 0) {
            layer->making = false;
            layer->holds = 1;
            layer->bytes = bytes;
            images->layer_bytes += bytes;
        } else {
            (void)fl_map_remove(images->layers, name);
        }
        fl_signal_all(images->changed);
    }
    if (r == 0)
        make_room(images);
    return r;
}
