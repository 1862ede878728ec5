#include "lib/oci/image.h"

#include "lib/str.h"

#include <string.h>

#define TEXT_MAX 512

static const char *text_or_null(struct fl_arena *arena, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text && *text ? fl_arena_strdup(arena, text) : NULL;
}

/* Pairs: annotations and labels. */

const char *fl_oci_pair(const struct fl_oci_pairs *pairs, const char *name)
{
    for (size_t i = 0; i < pairs->count; i++)
        if (fl_streq(pairs->items[i].name, name))
            return pairs->items[i].value;
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct fl_oci_pair *)a)->name, ((const struct fl_oci_pair *)b)->name);
}

static int parse_pairs(struct fl_arena *arena, json_t *object, const char *field,
                       struct fl_oci_pairs *ret_pairs, struct fl_error *err)
{
    struct fl_oci_pairs pairs = {0};
    const char *name;
    json_t *value;

    *ret_pairs = pairs;
    if (!object || json_is_null(object))
        return 0;
    if (!json_is_object(object) || json_object_size(object) > FL_OCI_ANNOTATIONS_MAX)
        return fl_error_set(err, FL_E_INVALID, "%s must be an object of at most %d texts", field,
                            FL_OCI_ANNOTATIONS_MAX);
    pairs.items = fl_new_array(arena, struct fl_oci_pair, json_object_size(object) + 1);
    json_object_foreach(object, name, value) {
        if (!json_is_string(value))
            return fl_error_set(err, FL_E_INVALID, "%s.%.100s must be a text", field, name);
        pairs.items[pairs.count++] = (struct fl_oci_pair){
            fl_arena_strdup(arena, name), fl_arena_strdup(arena, json_string_value(value))};
    }
    qsort(pairs.items, pairs.count, sizeof(pairs.items[0]), by_name);
    *ret_pairs = pairs;
    return 0;
}

static void set_pairs(json_t *object, const char *key, const struct fl_oci_pairs *pairs)
{
    json_t *value;

    if (pairs->count == 0)
        return;
    value = json_object();
    for (size_t i = 0; i < pairs->count; i++)
        fl_json_set_str(value, pairs->items[i].name, pairs->items[i].value);
    (void)json_object_set_new(object, key, value);
}

/* Descriptors. */

static bool media_type_is_valid(const char *text)
{
    const char *slash = text ? strchr(text, '/') : NULL;

    return slash && slash > text && slash[1] && strlen(text) <= 255 &&
           strspn(text,
                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&-^_.+/") ==
               strlen(text);
}

static int parse_platform(struct fl_arena *arena, const json_t *object, const char *field,
                          struct fl_platform *ret_platform, struct fl_error *err)
{
    struct fl_platform platform = {
        .os = text_or_null(arena, object, "os"),
        .architecture = text_or_null(arena, object, "architecture"),
        .variant = text_or_null(arena, object, "variant"),
    };

    if (!platform.os || !platform.architecture)
        return fl_error_set(err, FL_E_INVALID, "%s must have os and architecture", field);
    *ret_platform = platform;
    return 0;
}

static int check_size(const json_t *size, const char *field, struct fl_error *err)
{
    int64_t value = json_integer_value(size);

    if (!json_is_integer(size) || value < 0 || value > FL_OCI_BLOB_MAX)
        return fl_error_set(err, FL_E_INVALID, "%s.size must be a number of bytes", field);
    return 0;
}

int fl_oci_descriptor_parse(struct fl_arena *arena, const json_t *value, const char *field,
                            struct fl_oci_descriptor *ret_descriptor, struct fl_error *err)
{
    struct fl_oci_descriptor found = {
        .media_type = text_or_null(arena, value, "mediaType"),
        .digest = text_or_null(arena, value, "digest"),
        .size = json_integer_value(json_object_get(value, "size")),
        .artifact_type = text_or_null(arena, value, "artifactType"),
    };
    const json_t *platform = json_object_get(value, "platform");

    if (!media_type_is_valid(found.media_type))
        return fl_error_set(err, FL_E_INVALID, "%s.mediaType is missing or malformed", field);
    if (!found.digest || !fl_digest_is_valid(found.digest))
        return fl_error_set(err, FL_E_INVALID, "%s.digest must be sha256: and 64 hex digits",
                            field);
    int r = check_size(json_object_get(value, "size"), field, err);

    if (r == 0 && json_is_object(platform)) {
        found.has_platform = true;
        r = parse_platform(arena, platform, field, &found.platform, err);
    }
    if (r == 0)
        r = parse_pairs(arena, json_object_get(value, "annotations"), field, &found.annotations,
                        err);
    if (r == 0)
        *ret_descriptor = found;
    return r;
}

static void set_platform(json_t *object, const struct fl_platform *platform)
{
    fl_json_set_str(object, "os", platform->os);
    fl_json_set_str(object, "architecture", platform->architecture);
    fl_json_set_str(object, "variant", platform->variant);
}

json_t *fl_oci_descriptor_json(const struct fl_oci_descriptor *descriptor)
{
    json_t *object = json_object();

    fl_json_set_str(object, "mediaType", descriptor->media_type);
    fl_json_set_str(object, "digest", descriptor->digest);
    (void)json_object_set_new(object, "size", json_integer(descriptor->size));
    fl_json_set_str(object, "artifactType", descriptor->artifact_type);
    if (descriptor->has_platform)
        set_platform(fl_json_ensure_object(object, "platform"), &descriptor->platform);
    set_pairs(object, "annotations", &descriptor->annotations);
    return object;
}

struct fl_oci_descriptor fl_oci_describe(struct fl_arena *arena, const char *media_type,
                                         const struct fl_bytes *document)
{
    char *digest = fl_alloc(arena, FL_DIGEST_SIZE);

    fl_digest_of(document->data, document->len, digest);
    return (struct fl_oci_descriptor){
        .media_type = media_type, .digest = digest, .size = (int64_t)document->len};
}

/* Manifests and indexes. */

static int parse_descriptors(struct fl_arena *arena, const json_t *list, const char *field,
                             size_t max, struct fl_oci_descriptors *ret_list, struct fl_error *err)
{
    size_t count = json_array_size(list);
    struct fl_oci_descriptors found = {fl_new_array(arena, struct fl_oci_descriptor, count + 1), 0};
    int r = 0;

    if (!json_is_array(list) || count > max)
        return fl_error_set(err, FL_E_INVALID, "%s must be a list of at most %zu", field, max);
    for (; r == 0 && found.count < count; found.count++) {
        const char *item = fl_arena_printf(arena, "%s[%zu]", field, found.count);

        r = fl_oci_descriptor_parse(arena, json_array_get(list, found.count), item,
                                    &found.items[found.count], err);
    }
    if (r == 0)
        *ret_list = found;
    return r;
}

static bool is_manifest_type(const char *type)
{
    return fl_streq(type, FL_OCI_MANIFEST) || fl_streq(type, FL_DOCKER_MANIFEST);
}

static bool is_index_type(const char *type)
{
    return fl_streq(type, FL_OCI_INDEX) || fl_streq(type, FL_DOCKER_LIST);
}

/* The type may be said outside, inside or in both places; what says it nowhere is known by its
 * lists. */
static int find_type(const json_t *value, const char *outside, const char **ret_type,
                     struct fl_error *err)
{
    const char *inside = json_string_value(json_object_get(value, "mediaType"));
    const char *type = fl_str_or(outside, inside);

    if (outside && inside && !fl_streq(outside, inside))
        return fl_error_set(err, FL_E_INVALID, "it was sent as %.100s and says it is %.100s",
                            outside, inside);
    if (!type)
        type = json_object_get(value, "manifests") ? FL_OCI_INDEX : FL_OCI_MANIFEST;
    if (!is_manifest_type(type) && !is_index_type(type))
        return fl_error_set(err, FL_E_UNSUPPORTED_MEDIA,
                            "%.100s is neither an image manifest nor an index", type);
    if (json_integer_value(json_object_get(value, "schemaVersion")) != 2)
        return fl_error_set(err, FL_E_INVALID, "schemaVersion must be 2");
    if (is_index_type(type) ? json_object_get(value, "layers") != NULL
                            : json_object_get(value, "manifests") != NULL)
        return fl_error_set(err, FL_E_INVALID,
                            "it has both layers and manifests, or the wrong one");
    *ret_type = type;
    return 0;
}

static int parse_parts(struct fl_arena *arena, const json_t *value,
                       struct fl_oci_manifest *manifest, struct fl_error *err)
{
    const json_t *subject = json_object_get(value, "subject");
    int r;

    if (manifest->is_index)
        r = parse_descriptors(arena, json_object_get(value, "manifests"), "manifests",
                              FL_OCI_MANIFESTS_MAX, &manifest->layers, err);
    else
        r = fl_oci_descriptor_parse(arena, json_object_get(value, "config"), "config",
                                    &manifest->config, err);
    if (r == 0 && !manifest->is_index)
        r = parse_descriptors(arena, json_object_get(value, "layers"), "layers", FL_OCI_LAYERS_MAX,
                              &manifest->layers, err);
    if (r == 0 && json_is_object(subject)) {
        manifest->has_subject = true;
        r = fl_oci_descriptor_parse(arena, subject, "subject", &manifest->subject, err);
    }
    if (r == 0)
        r = parse_pairs(arena, json_object_get(value, "annotations"), "annotations",
                        &manifest->annotations, err);
    return r;
}

/* One JSON object; what it holds is checked later. */
static int parse_object(const void *text, size_t len, json_t **ret_value, struct fl_error *err)
{
    static const struct fl_json_limits limits = {.max_bytes = FL_OCI_MANIFEST_MAX, .max_depth = 16};
    FL_JSON value = NULL;
    int r = fl_json_parse(text, len, &limits, NULL, NULL, &value, err);

    if (r < 0)
        return r == FL_E_TOO_LARGE ? r : fl_error_set(err, FL_E_INVALID, "it is not JSON");
    if (!json_is_object(value))
        return fl_error_set(err, FL_E_INVALID, "it is no JSON object");
    *ret_value = FL_TAKE(value);
    return 0;
}

int fl_oci_manifest_parse(struct fl_arena *arena, const void *text, size_t len,
                          const char *media_type, struct fl_oci_manifest *ret_manifest,
                          struct fl_error *err)
{
    struct fl_oci_manifest manifest = {0};
    FL_JSON value = NULL;
    int r = parse_object(text, len, &value, err);

    if (r == 0)
        r = find_type(value, media_type, &manifest.media_type, err);
    if (r < 0)
        return r;
    manifest.media_type = fl_arena_strdup(arena, manifest.media_type);
    manifest.is_index = is_index_type(manifest.media_type);
    manifest.artifact_type = text_or_null(arena, value, "artifactType");
    r = parse_parts(arena, value, &manifest, err);
    if (r == 0)
        *ret_manifest = manifest;
    return r;
}

static json_t *descriptors_json(const struct fl_oci_descriptors *list)
{
    json_t *array = json_array();

    for (size_t i = 0; i < list->count; i++)
        (void)json_array_append_new(array, fl_oci_descriptor_json(&list->items[i]));
    return array;
}

struct fl_bytes *fl_oci_manifest_encode(const struct fl_oci_manifest *manifest)
{
    FL_JSON value = json_object();

    (void)json_object_set_new(value, "schemaVersion", json_integer(2));
    fl_json_set_str(value, "mediaType", manifest->media_type);
    fl_json_set_str(value, "artifactType", manifest->artifact_type);
    if (!manifest->is_index)
        (void)json_object_set_new(value, "config", fl_oci_descriptor_json(&manifest->config));
    (void)json_object_set_new(value, manifest->is_index ? "manifests" : "layers",
                              descriptors_json(&manifest->layers));
    if (manifest->has_subject)
        (void)json_object_set_new(value, "subject", fl_oci_descriptor_json(&manifest->subject));
    set_pairs(value, "annotations", &manifest->annotations);
    return fl_json_to_bytes(value);
}

const char *fl_oci_manifest_artifact_type(const struct fl_oci_manifest *manifest)
{
    if (manifest->artifact_type || manifest->is_index)
        return manifest->artifact_type;
    return manifest->config.media_type;
}

/* Choosing. */

static bool is_same(const struct fl_platform *a, const struct fl_platform *b)
{
    return fl_platform_fits(a, b) && fl_streq(a->variant, b->variant);
}

/* For people: "linux/amd64, linux/arm64". */
static const char *platforms_text(struct fl_arena *arena, const struct fl_oci_manifest *index)
{
    const char *text = "";

    for (size_t i = 0; i < index->layers.count && strlen(text) < TEXT_MAX; i++)
        if (index->layers.items[i].has_platform)
            text = fl_arena_printf(arena, "%s%s%s", text, *text ? ", " : "",
                                   fl_platform_text(arena, &index->layers.items[i].platform));
    return *text ? text : "no platform";
}

const struct fl_oci_descriptor *fl_oci_index_choose(const struct fl_oci_manifest *index,
                                                    const struct fl_platform *wanted,
                                                    struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = NULL;
    const struct fl_oci_descriptor *fitting = NULL;

    for (size_t i = 0; i < index->layers.count; i++) {
        const struct fl_oci_descriptor *item = &index->layers.items[i];

        if (!item->has_platform || !fl_platform_fits(&item->platform, wanted))
            continue;
        if (is_same(&item->platform, wanted))
            return item;
        if (!fitting)
            fitting = item;
    }
    if (fitting)
        return fitting;
    arena = fl_arena_create();
    (void)fl_error_set(err, FL_E_NOT_FOUND, "the image is not made for %s; it has %s",
                       fl_platform_text(arena, wanted), platforms_text(arena, index));
    return NULL;
}
