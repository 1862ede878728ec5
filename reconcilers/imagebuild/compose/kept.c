#include "reconcilers/imagebuild/compose/kept.h"

#include "lib/file.h"
#include "lib/str.h"

#include <string.h>

#define FILE_MAX ((size_t)8 * 1024 * 1024)
#define VERSION  1

const char *fl_kept_key(struct fl_arena *arena, const json_t *value)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(value);
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(text->data, text->len, digest);
    return fl_arena_strdup(arena, strchr(digest, ':') + 1);
}

static const char *path_of(const struct fl_kept *kept, struct fl_arena *arena, const char *kind,
                           const char *key)
{
    return fl_arena_printf(arena, "%s/%s/%s.json", kept->folder, kind, key);
}

json_t *fl_kept_read(const struct fl_kept *kept, struct fl_arena *arena, const char *kind,
                     const char *key)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const struct fl_json_limits limits = {.max_bytes = FILE_MAX};
    FL_JSON value = NULL;

    if (fl_file_read(path_of(kept, arena, kind, key), FILE_MAX, &text, NULL) < 0 ||
        fl_json_parse(text->data, text->len, &limits, NULL, NULL, &value, NULL) < 0 ||
        fl_json_int(value, "version", 0) != VERSION)
        return NULL;
    return FL_TAKE(value);
}

int fl_kept_write(const struct fl_kept *kept, const char *kind, const char *key, json_t *value,
                  struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_dir_ensure(fl_arena_printf(arena, "%s/%s", kept->folder, kind), 0700, err);

    (void)json_object_set_new(value, "version", json_integer(VERSION));
    text = fl_json_to_bytes(value);
    if (r == 0)
        r = fl_file_write(path_of(kept, arena, kind, key), text->data, text->len, 0600, err);
    return r;
}

bool fl_kept_layer(const struct fl_kept *kept, const char *key, struct fl_arena *arena,
                   struct fl_layer *ret_layer)
{
    FL_JSON value = fl_kept_read(kept, arena, "layers", key);
    const char *diff_id = fl_json_str(value, "diffId");
    struct fl_layer layer;

    if (!value || !diff_id || !fl_digest_is_valid(diff_id) ||
        fl_oci_descriptor_parse(arena, json_object_get(value, "descriptor"), "layer",
                                &layer.descriptor, NULL) < 0 ||
        fl_blobs_pin(kept->blobs, layer.descriptor.digest, NULL) < 0)
        return false;
    layer.diff_id = fl_arena_strdup(arena, diff_id);
    layer.unpacked_bytes = fl_json_int(value, "unpackedBytes", 0);
    *ret_layer = layer;
    return true;
}

int fl_kept_put_layer(const struct fl_kept *kept, const char *key, const struct fl_layer *layer,
                      struct fl_error *err)
{
    FL_JSON value = json_object();

    (void)json_object_set_new(value, "descriptor", fl_oci_descriptor_json(&layer->descriptor));
    fl_json_set_str(value, "diffId", layer->diff_id);
    (void)json_object_set_new(value, "unpackedBytes", json_integer(layer->unpacked_bytes));
    return fl_kept_write(kept, "layers", key, value, err);
}

/* A lock's own form has no addresses: they say nothing of what is in the files. */
static json_t *urls_json(const struct fl_package_lock *lock)
{
    json_t *urls = json_array();

    for (size_t i = 0; i < lock->count; i++)
        (void)json_array_append_new(urls, json_string(fl_str_or(lock->items[i].url, "")));
    return urls;
}

bool fl_kept_lock(const struct fl_kept *kept, const char *key, int64_t now_s, int64_t max_age_s,
                  struct fl_arena *arena, struct fl_package_lock *ret_lock)
{
    json_t *value = fl_kept_read(kept, arena, "locks", key);
    int64_t age_s;

    if (!value)
        return false;
    age_s = now_s - fl_json_int(fl_json_in_arena(arena, value), "madeAt", 0);
    if (max_age_s >= 0 && (age_s < 0 || age_s > max_age_s))
        return false;
    if (fl_package_lock_parse(arena, json_object_get(value, "lock"), ret_lock, NULL) < 0)
        return false;
    for (size_t i = 0; i < ret_lock->count; i++)
        ret_lock->items[i].url =
            json_string_value(json_array_get(json_object_get(value, "urls"), i));
    return true;
}

int fl_kept_put_lock(const struct fl_kept *kept, const char *key, int64_t now_s,
                     const struct fl_package_lock *lock, struct fl_error *err)
{
    FL_JSON value = json_object();

    (void)json_object_set_new(value, "madeAt", json_integer(now_s));
    (void)json_object_set_new(value, "lock", fl_package_lock_json(lock));
    (void)json_object_set_new(value, "urls", urls_json(lock));
    return fl_kept_write(kept, "locks", key, value, err);
}
