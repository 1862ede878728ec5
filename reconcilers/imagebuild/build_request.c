#include "reconcilers/imagebuild/build_child.h"

#include "lib/str.h"

#include <sodium.h>
#include <string.h>

#define TEXT_MAX  512
#define SIZE_MOST ((int64_t)9007199254740991) /* what all readers of JSON agree on */

/* The texts of a build and their names in JSON, in one table for both directions. */
static const struct text_field {
    const char *name;
    size_t offset;
    bool secret;
} texts[] = {
#define TEXT(name, field, secret)                                                                  \
    {                                                                                              \
        name, offsetof(struct fl_build, field), secret                                             \
    }
    TEXT("folder", folder, false),
    TEXT("containerfile", containerfile, false),
    TEXT("baseImage", base_image, false),
    TEXT("group", group, false),
    TEXT("code", code, false),
    TEXT("url", url, false),
    TEXT("commit", commit, false),
    TEXT("path", path, false),
    TEXT("username", username, true),
    TEXT("password", password, true),
    TEXT("identity", identity, true),
    TEXT("knownHosts", known_hosts, false),
    TEXT("ca", ca_pem, false),
    TEXT("dataDir", data_dir, false),
    TEXT("model", model, false),
    TEXT("programs", programs, false),
    TEXT("program", program, false),
    TEXT("adapter", adapter, false),
    TEXT("version", version, false),
    TEXT("builderVersion", builder_version, false),
    TEXT("signingKey", signing_key, false),
    TEXT("logFile", log_file, false),
    TEXT("layout", layout, false),
    TEXT("registry", registry, false),
    TEXT("repository", repository, false),
    TEXT("registryUsername", registry_username, true),
    TEXT("registryPassword", registry_password, true),
    TEXT("registryCa", registry_ca_pem, false),
    TEXT("aptSources", apt_sources, false),
#undef TEXT
};

static const char **text_at(struct fl_build *build, size_t i)
{
    return (const char **)((char *)build + texts[i].offset);
}

static json_t *list_json(const char *const *items, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_string(items[i]));
    return list;
}

static json_t *ended_list_json(const char *const *items)
{
    size_t count = 0;

    while (items && items[count])
        count++;
    return list_json(items, count);
}

static void set_int(json_t *object, const char *name, int64_t value)
{
    (void)json_object_set_new(object, name, json_integer(value));
}

json_t *fl_build_encode(const struct fl_build *build)
{
    struct fl_build copy = *build;
    json_t *value = json_object();

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        fl_json_set_str(value, texts[i].name, *text_at(&copy, i));
    (void)json_object_set_new(value, "platforms",
                              list_json(build->platforms, build->platform_count));
    (void)json_object_set_new(value, "tags", list_json(build->tags, build->tag_count));
    (void)json_object_set_new(value, "env", ended_list_json(build->packages_env));
    (void)json_object_set_new(value, "args", ended_list_json(build->args));
    set_int(value, "target", (int)build->target);
    set_int(value, "backend", (int)build->backend);
    set_int(value, "lockPolicy", (int)build->lock_policy);
    set_int(value, "keptBytes", build->kept_bytes);
    set_int(value, "fetchTimeoutMs", build->fetch_timeout_ms);
    set_int(value, "timeoutMs", build->timeout_ms);
    set_int(value, "cpuMilli", build->cpu_milli);
    set_int(value, "memoryBytes", build->memory_bytes);
    (void)json_object_set_new(value, "plainHttp", json_boolean(build->registry_plain_http));
    (void)json_object_set_new(value, "insecure", json_boolean(build->registry_insecure));
    return value;
}

static void wipe_text(json_t *text)
{
    if (json_is_string(text))
        sodium_memzero((char *)json_string_value(text), json_string_length(text));
}

/* The environment may hold an index's password, and arguments what nobody should put there. */
void fl_build_wipe(json_t *value)
{
    json_t *item;
    size_t i;

    for (i = 0; i < FL_COUNT_OF(texts); i++)
        if (texts[i].secret)
            wipe_text(json_object_get(value, texts[i].name));
    json_array_foreach(json_object_get(value, "env"), i, item)
        wipe_text(item);
    json_array_foreach(json_object_get(value, "args"), i, item)
        wipe_text(item);
}

static int read_list(const json_t *value, const char *name, const char **items, size_t max,
                     size_t *ret_count, struct fl_error *err)
{
    const json_t *list = json_object_get(value, name);

    *ret_count = json_array_size(list);
    if (*ret_count > max)
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s: more than %zu", name, max);
    for (size_t i = 0; i < *ret_count; i++) {
        items[i] = json_string_value(json_array_get(list, i));
        if (!items[i])
            return fl_error_set(err, FL_E_BAD_REQUEST, "%s: item %zu is no text", name, i);
    }
    return 0;
}

/* Ended by NULL. */
static int read_ended_list(const json_t *value, const char *name, struct fl_arena *arena,
                           const char *const **ret_items, struct fl_error *err)
{
    size_t count = json_array_size(json_object_get(value, name));
    const char **items = fl_new_array(arena, const char *, count + 1);

    *ret_items = items;
    return read_list(value, name, items, count, &count, err);
}

int fl_build_decode(const json_t *value, struct fl_arena *arena, struct fl_build *ret_build,
                    struct fl_error *err)
{
    struct fl_build build = {
        .target = (enum fl_imagebuild_target)fl_json_int(value, "target", 0),
        .backend = (enum fl_imagebuild_backend)fl_json_int(value, "backend", 0),
        .lock_policy = (enum fl_imagebuild_lock_policy)fl_json_int(value, "lockPolicy", 0),
        .kept_bytes = fl_json_int(value, "keptBytes", 0),
        .fetch_timeout_ms = fl_json_int(value, "fetchTimeoutMs", 0),
        .timeout_ms = fl_json_int(value, "timeoutMs", 0),
        .registry_plain_http = fl_json_bool(value, "plainHttp", false),
        .registry_insecure = fl_json_bool(value, "insecure", false),
        .cpu_milli = fl_json_int(value, "cpuMilli", 0),
        .memory_bytes = fl_json_int(value, "memoryBytes", 0),
    };
    int r;

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        *text_at(&build, i) = fl_json_str(value, texts[i].name);
    if (!build.folder || !build.program)
        return fl_error_set(err, FL_E_BAD_REQUEST, "folder and program are required");
    r = read_list(value, "platforms", build.platforms, FL_BUILD_PLATFORMS_MAX,
                  &build.platform_count, err);
    if (r == 0)
        r = read_list(value, "tags", build.tags, FL_BUILD_TAGS_MAX, &build.tag_count, err);
    if (r == 0)
        r = read_ended_list(value, "env", arena, &build.packages_env, err);
    if (r == 0)
        r = read_ended_list(value, "args", arena, &build.args, err);
    if (r == 0)
        *ret_build = build;
    return r;
}

/* Results. */

json_t *fl_builder_result_json(const struct fl_builder_result *result)
{
    json_t *value = json_object(), *platforms = json_array();

    fl_json_set_str(value, "commit", result->commit);
    fl_json_set_str(value, "backend", result->backend);
    fl_json_set_str(value, "digest", result->digest);
    fl_json_set_str(value, "key", result->key);
    fl_json_set_str(value, "sbom", result->sbom);
    fl_json_set_str(value, "provenance", result->provenance);
    fl_json_set_str(value, "signature", result->signature);
    set_int(value, "size", result->size);
    set_int(value, "cacheHits", result->cache_hits);
    set_int(value, "cacheMisses", result->cache_misses);
    set_int(value, "bytesFetched", result->bytes_fetched);
    set_int(value, "bytesPushed", result->bytes_pushed);
    for (size_t i = 0; i < result->platform_count; i++) {
        const struct fl_builder_platform *item = &result->platforms[i];
        json_t *platform = json_object();

        fl_json_set_str(platform, "platform", item->platform);
        fl_json_set_str(platform, "digest", item->digest);
        set_int(platform, "size", item->size);
        set_int(platform, "unpackedSize", item->unpacked_size);
        set_int(platform, "layers", item->layers);
        set_int(platform, "cachedLayers", item->cached_layers);
        (void)json_array_append_new(platforms, platform);
    }
    (void)json_object_set_new(value, "platforms", platforms);
    return value;
}

/* What is read here was said by a process that has read strangers' archives, and becomes status:
 * what the API would refuse there is refused here, where it can be told. */
static const char *text_of(struct fl_arena *arena, const json_t *value, const char *name)
{
    const char *text = fl_json_str(value, name);

    return text && strlen(text) <= TEXT_MAX ? fl_arena_strdup(arena, text) : NULL;
}

static const char *digest_of(struct fl_arena *arena, const json_t *value, const char *name)
{
    const char *digest = text_of(arena, value, name);

    return digest && fl_digest_is_valid(digest) ? digest : NULL;
}

static bool is_amount(int64_t amount, int64_t most)
{
    return amount >= 0 && amount <= most;
}

static bool parse_platform(const json_t *value, struct fl_arena *arena,
                           struct fl_builder_platform *ret_platform)
{
    struct fl_platform platform;
    struct fl_builder_platform item = {
        .platform = text_of(arena, value, "platform"),
        .digest = digest_of(arena, value, "digest"),
        .size = fl_json_int(value, "size", 0),
        .unpacked_size = fl_json_int(value, "unpackedSize", 0),
        .layers = fl_json_int(value, "layers", 0),
        .cached_layers = fl_json_int(value, "cachedLayers", 0),
    };

    *ret_platform = item;
    return item.platform && strlen(item.platform) <= 20 &&
           fl_platform_parse(arena, item.platform, &platform, NULL) == 0 && item.digest &&
           is_amount(item.size, SIZE_MOST) && is_amount(item.unpacked_size, SIZE_MOST) &&
           is_amount(item.layers, INT32_MAX) && is_amount(item.cached_layers, INT32_MAX);
}

static bool has_platform(const struct fl_builder_result *result, size_t count, const char *platform)
{
    for (size_t i = 0; i < count; i++)
        if (fl_streq(result->platforms[i].platform, platform))
            return true;
    return false;
}

static bool are_amounts(const struct fl_builder_result *result)
{
    return is_amount(result->size, SIZE_MOST) && is_amount(result->cache_hits, INT32_MAX) &&
           is_amount(result->cache_misses, INT32_MAX) &&
           is_amount(result->bytes_fetched, SIZE_MOST) &&
           is_amount(result->bytes_pushed, SIZE_MOST);
}

int fl_builder_result_parse(const json_t *value, struct fl_arena *arena,
                            struct fl_builder_result *ret_result, struct fl_error *err)
{
    const json_t *platforms = json_object_get(value, "platforms");
    struct fl_builder_result result = {
        .commit = text_of(arena, value, "commit"),
        .backend = text_of(arena, value, "backend"),
        .digest = digest_of(arena, value, "digest"),
        .key = digest_of(arena, value, "key"),
        .sbom = digest_of(arena, value, "sbom"),
        .provenance = digest_of(arena, value, "provenance"),
        .signature = digest_of(arena, value, "signature"),
        .size = fl_json_int(value, "size", 0),
        .cache_hits = fl_json_int(value, "cacheHits", 0),
        .cache_misses = fl_json_int(value, "cacheMisses", 0),
        .bytes_fetched = fl_json_int(value, "bytesFetched", 0),
        .bytes_pushed = fl_json_int(value, "bytesPushed", 0),
        .platform_count = json_array_size(platforms),
    };

    if (!result.digest || !are_amounts(&result) || result.platform_count > FL_BUILD_PLATFORMS_MAX)
        return fl_error_set(err, FL_E_INTERNAL, "the builder's answer is not understood");
    for (size_t i = 0; i < result.platform_count; i++)
        if (!parse_platform(json_array_get(platforms, i), arena, &result.platforms[i]) ||
            has_platform(&result, i, result.platforms[i].platform))
            return fl_error_set(err, FL_E_INTERNAL, "the builder's answer lacks a platform");
    *ret_result = result;
    return 0;
}

/* Stages. */

static const char *const states[] = {[FL_STAGE_RUNNING] = "Running",
                                     [FL_STAGE_DONE] = "Done",
                                     [FL_STAGE_CACHED] = "Cached",
                                     [FL_STAGE_FAILED] = "Failed"};

const char *fl_stage_state_text(enum fl_stage_state state)
{
    return states[state];
}

enum fl_stage_state fl_stage_state_parse(const char *text)
{
    for (size_t i = 1; i < FL_COUNT_OF(states); i++)
        if (fl_streq(text, states[i]))
            return (enum fl_stage_state)i;
    return (enum fl_stage_state)0;
}
