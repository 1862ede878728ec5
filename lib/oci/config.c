/* Image configurations. */
#include "lib/oci/image.h"

#include "lib/str.h"

#include <string.h>

#define TEXTS_MAX 4096

static const char *text_of(struct fl_arena *arena, const json_t *object, const char *path)
{
    const char *text = fl_json_str(object, path);

    return text && *text ? fl_arena_strdup(arena, text) : NULL;
}

/* A list of texts; absent and null are an empty one. */
static int parse_texts(struct fl_arena *arena, const json_t *value, const char *path,
                       struct fl_oci_texts *ret_texts, struct fl_error *err)
{
    const json_t *list = fl_json_path(value, path), *item;
    struct fl_oci_texts texts = {0};
    size_t i;

    *ret_texts = texts;
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list) || json_array_size(list) > TEXTS_MAX)
        return fl_error_set(err, FL_E_INVALID, "%s must be a list of at most %d texts", path,
                            TEXTS_MAX);
    texts.items = fl_new_array(arena, const char *, json_array_size(list) + 1);
    json_array_foreach(list, i, item) {
        if (!json_is_string(item))
            return fl_error_set(err, FL_E_INVALID, "%s[%zu] must be a text", path, i);
        texts.items[texts.count++] = fl_arena_strdup(arena, json_string_value(item));
    }
    *ret_texts = texts;
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The keys of an object, which is how the format has sets. */
static int parse_set(struct fl_arena *arena, const json_t *value, const char *path,
                     struct fl_oci_texts *ret_texts, struct fl_error *err)
{
    json_t *set = fl_json_path(value, path), *ignored;
    struct fl_oci_texts texts = {0};
    const char *key;

    *ret_texts = texts;
    if (!set || json_is_null(set))
        return 0;
    if (!json_is_object(set) || json_object_size(set) > TEXTS_MAX)
        return fl_error_set(err, FL_E_INVALID, "%s must be an object of at most %d keys", path,
                            TEXTS_MAX);
    texts.items = fl_new_array(arena, const char *, json_object_size(set) + 1);
    json_object_foreach(set, key, ignored)
        texts.items[texts.count++] = fl_arena_strdup(arena, key);
    qsort(texts.items, texts.count, sizeof(texts.items[0]), by_text);
    *ret_texts = texts;
    return 0;
}

static int parse_labels(struct fl_arena *arena, const json_t *value, struct fl_oci_pairs *ret_pairs,
                        struct fl_error *err)
{
    struct fl_oci_texts names;
    int r = parse_set(arena, value, "config.Labels", &names, err);

    if (r < 0)
        return r;
    ret_pairs->items = fl_new_array(arena, struct fl_oci_pair, names.count + 1);
    ret_pairs->count = names.count;
    for (size_t i = 0; i < names.count; i++) {
        const json_t *label = json_object_get(fl_json_path(value, "config.Labels"), names.items[i]);

        if (!json_is_string(label))
            return fl_error_set(err, FL_E_INVALID, "config.Labels must hold texts");
        ret_pairs->items[i] =
            (struct fl_oci_pair){names.items[i], fl_arena_strdup(arena, json_string_value(label))};
    }
    return 0;
}

static int check_layers(const struct fl_oci_config *config, struct fl_error *err)
{
    if (config->diff_ids.count > FL_OCI_LAYERS_MAX)
        return fl_error_set(err, FL_E_INVALID, "an image has at most %d layers", FL_OCI_LAYERS_MAX);
    for (size_t i = 0; i < config->diff_ids.count; i++)
        if (!fl_digest_is_valid(config->diff_ids.items[i]))
            return fl_error_set(err, FL_E_INVALID, "rootfs.diff_ids[%zu] is no digest", i);
    for (size_t i = 0; i < config->env.count; i++)
        if (!strchr(config->env.items[i], '='))
            return fl_error_set(err, FL_E_INVALID, "config.Env[%zu] must be NAME=value", i);
    return 0;
}

static int parse_lists(struct fl_arena *arena, const json_t *value, struct fl_oci_config *config,
                       struct fl_error *err)
{
    const struct {
        const char *path;
        struct fl_oci_texts *texts;
    } lists[] = {{"config.Env", &config->env},
                 {"config.Entrypoint", &config->entrypoint},
                 {"config.Cmd", &config->cmd},
                 {"rootfs.diff_ids", &config->diff_ids}};
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(lists); i++)
        r = parse_texts(arena, value, lists[i].path, lists[i].texts, err);
    if (r == 0)
        r = parse_set(arena, value, "config.ExposedPorts", &config->ports, err);
    if (r == 0)
        r = parse_set(arena, value, "config.Volumes", &config->volumes, err);
    if (r == 0)
        r = parse_labels(arena, value, &config->labels, err);
    return r < 0 ? r : check_layers(config, err);
}

int fl_oci_config_parse(struct fl_arena *arena, const void *text, size_t len,
                        struct fl_oci_config *ret_config, struct fl_error *err)
{
    static const struct fl_json_limits limits = {.max_bytes = FL_OCI_MANIFEST_MAX, .max_depth = 16};
    FL_JSON value = NULL;
    struct fl_oci_config config = {0};
    int r = fl_json_parse(text, len, &limits, NULL, NULL, &value, err);

    if (r < 0)
        return r == FL_E_TOO_LARGE ? r : fl_error_set(err, FL_E_INVALID, "it is not JSON");
    config.platform = (struct fl_platform){.os = text_of(arena, value, "os"),
                                           .architecture = text_of(arena, value, "architecture"),
                                           .variant = text_of(arena, value, "variant")};
    if (!config.platform.os || !config.platform.architecture)
        return fl_error_set(err, FL_E_INVALID, "an image must have os and architecture");
    config.created = text_of(arena, value, "created");
    config.author = text_of(arena, value, "author");
    config.user = text_of(arena, value, "config.User");
    config.working_folder = text_of(arena, value, "config.WorkingDir");
    config.stop_signal = text_of(arena, value, "config.StopSignal");
    r = parse_lists(arena, value, &config, err);
    if (r == 0)
        *ret_config = config;
    return r;
}

/* Writing. */

static json_t *texts_json(const struct fl_oci_texts *texts)
{
    json_t *list = json_array();

    for (size_t i = 0; i < texts->count; i++)
        (void)json_array_append_new(list, json_string(texts->items[i]));
    return list;
}

static void set_texts(json_t *object, const char *key, const struct fl_oci_texts *texts)
{
    if (texts->count > 0)
        (void)json_object_set_new(object, key, texts_json(texts));
}

static void set_set(json_t *object, const char *key, const struct fl_oci_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        (void)json_object_set_new(fl_json_ensure_object(object, key), texts->items[i],
                                  json_object());
}

static json_t *run_json(const struct fl_oci_config *config)
{
    json_t *run = json_object();

    fl_json_set_str(run, "User", config->user);
    fl_json_set_str(run, "WorkingDir", config->working_folder);
    fl_json_set_str(run, "StopSignal", config->stop_signal);
    set_texts(run, "Env", &config->env);
    set_texts(run, "Entrypoint", &config->entrypoint);
    set_texts(run, "Cmd", &config->cmd);
    set_set(run, "ExposedPorts", &config->ports);
    set_set(run, "Volumes", &config->volumes);
    for (size_t i = 0; i < config->labels.count; i++)
        fl_json_set_str(fl_json_ensure_object(run, "Labels"), config->labels.items[i].name,
                        config->labels.items[i].value);
    return run;
}

static json_t *history_json(const struct fl_oci_config *config)
{
    json_t *history = json_array();

    for (size_t i = 0; i < config->history.count; i++) {
        json_t *step = json_object();

        fl_json_set_str(step, "created", config->created);
        fl_json_set_str(step, "created_by", config->history.items[i]);
        (void)json_array_append_new(history, step);
    }
    return history;
}

struct fl_bytes *fl_oci_config_encode(const struct fl_oci_config *config)
{
    FL_JSON value = json_object();
    json_t *rootfs = fl_json_ensure_object(value, "rootfs");

    fl_json_set_str(value, "os", config->platform.os);
    fl_json_set_str(value, "architecture", config->platform.architecture);
    fl_json_set_str(value, "variant", config->platform.variant);
    fl_json_set_str(value, "created", config->created);
    fl_json_set_str(value, "author", config->author);
    (void)json_object_set_new(value, "config", run_json(config));
    fl_json_set_str(rootfs, "type", "layers");
    (void)json_object_set_new(rootfs, "diff_ids", texts_json(&config->diff_ids));
    if (config->history.count > 0)
        (void)json_object_set_new(value, "history", history_json(config));
    return fl_json_to_bytes(value);
}
