#include "reconcilers/imagebuild/build_kept.h"

#include "lib/oci/closure.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/compose/kept.h"

#include <string.h>

#define KIND "images"

/* --- the key --- */

static int add_file(struct fl_tree *tree, const char *name, const char *path, struct fl_error *err)
{
    return path ? fl_tree_add_file(tree, name, path, false, err) : 0;
}

/* All files that go in, or decide what does. */
static int digest_files(const struct fl_build *build, const struct fl_compose_program *programs,
                        size_t program_count, struct fl_arena *arena, char digest[FL_DIGEST_SIZE],
                        struct fl_error *err)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    int r = add_file(tree, "builder", build->program, err);

    for (size_t i = 0; r == 0 && i < program_count; i++)
        r = add_file(
            tree,
            fl_arena_printf(arena, "programs/%s", fl_platform_text(arena, &programs[i].platform)),
            programs[i].path, err);
    if (r == 0)
        r = add_file(tree, "model", build->model, err);
    if (r == 0)
        r = add_file(tree, "apt-sources", build->apt_sources, err);
    if (r == 0 && build->target == FL_IMAGEBUILD_TARGET_LEARNER && build->adapter)
        r = fl_tree_add_tree(tree, "adapter", build->adapter, fl_compose_leaves_out, NULL, err);
    if (r == 0 && build->target == FL_IMAGEBUILD_TARGET_LEARNER && build->code)
        r = fl_tree_add_tree(tree, "code", build->code, fl_compose_leaves_out, NULL, err);
    return r < 0 ? r : fl_tree_digest(tree, digest, err);
}

static json_t *texts(const char *const *items, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_string(items[i]));
    return list;
}

int fl_build_key(const struct fl_build *build, const struct fl_compose_program *programs,
                 size_t program_count, struct fl_arena *arena, const char **ret_key,
                 struct fl_error *err)
{
    FL_JSON words = NULL;
    size_t args = 0;
    char files[FL_DIGEST_SIZE];
    int r = digest_files(build, programs, program_count, arena, files, err);

    if (r < 0)
        return fl_error_wrap(err, "the build's key");
    words = json_pack("{s:i, s:i, s:i, s:o, s:s}", "target", (int)build->target, "backend",
                      (int)build->backend, "lockPolicy", (int)build->lock_policy, "platforms",
                      texts(build->platforms, build->platform_count), "files", files);
    fl_json_set_str(words, "url", build->url);
    fl_json_set_str(words, "commit", build->commit);
    fl_json_set_str(words, "path", build->path);
    fl_json_set_str(words, "containerfile", build->containerfile);
    fl_json_set_str(words, "baseImage", build->base_image);
    while (build->args && build->args[args])
        args++;
    (void)json_object_set_new(words, "args", texts(build->args, args));
    fl_json_set_str(words, "version", build->version);
    fl_json_set_str(words, "builderVersion", build->builder_version);
    *ret_key = fl_arena_printf(arena, "sha256:%s", fl_kept_key(arena, words));
    return 0;
}

/* Who asks, and where packages come from. */
static const char *name_of(const struct fl_build *build, const char *key, struct fl_arena *arena)
{
    size_t count = 0;
    FL_JSON words = NULL;

    while (build->packages_env && build->packages_env[count])
        count++;
    words = json_pack("{s:s, s:o}", "key", key, "env", texts(build->packages_env, count));
    fl_json_set_str(words, "username", build->username);
    fl_json_set_str(words, "password", build->password);
    fl_json_set_str(words, "identity", build->identity);
    if (build->base_image) { /* which is pulled with these */
        fl_json_set_str(words, "registryUsername", build->registry_username);
        fl_json_set_str(words, "registryPassword", build->registry_password);
    }
    return fl_kept_key(arena, words);
}

/* --- what was built --- */

static json_t *platform_json(const struct fl_composed_platform *item, struct fl_arena *arena)
{
    json_t *value = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:o, s:o}", "platform", fl_platform_text(arena, &item->platform),
        "digest", item->digest, "size", (json_int_t)item->size, "unpackedSize",
        (json_int_t)item->unpacked_size, "layers", (json_int_t)item->layers, "debian",
        fl_package_lock_json(&item->debian), "python", fl_package_lock_json(&item->python));

    fl_json_set_str(value, "base", item->base);
    return value;
}

static int parse_platform(const json_t *value, struct fl_arena *arena,
                          struct fl_composed_platform *ret_item, struct fl_error *err)
{
    const char *platform = fl_json_str(value, "platform"), *digest = fl_json_str(value, "digest");
    const char *base = fl_json_str(value, "base");
    struct fl_composed_platform item = {
        .size = fl_json_int(value, "size", 0),
        .unpacked_size = fl_json_int(value, "unpackedSize", 0),
        .layers = (size_t)fl_json_int(value, "layers", 0),
    };
    int r;

    if (!platform || !digest || !fl_digest_is_valid(digest))
        return fl_error_set(err, FL_E_INVALID, "a platform without name or digest");
    item.digest = fl_arena_strdup(arena, digest);
    if (base && fl_digest_is_valid(base))
        item.base = fl_arena_strdup(arena, base);
    item.cached_layers = item.layers;
    r = fl_platform_parse(arena, platform, &item.platform, err);
    if (r == 0)
        r = fl_package_lock_parse(arena, json_object_get(value, "debian"), &item.debian, err);
    if (r == 0)
        r = fl_package_lock_parse(arena, json_object_get(value, "python"), &item.python, err);
    *ret_item = item;
    return r;
}

static int parse(const json_t *value, struct fl_arena *arena, struct fl_build_kept *ret_kept,
                 struct fl_error *err)
{
    const json_t *platforms = json_object_get(value, "platforms");
    struct fl_build_kept kept = {.backend = fl_json_str(value, "backend"),
                                 .lock_file = fl_json_str(value, "lockFile"),
                                 .epoch_s = fl_json_int(value, "epoch", 0)};
    struct fl_composed *composed = &kept.composed;
    int r = fl_oci_descriptor_parse(arena, json_object_get(value, "root"), "root", &composed->root,
                                    err);

    if (!kept.backend || json_array_size(platforms) > FL_BUILD_PLATFORMS_MAX)
        return fl_error_set(err, FL_E_INVALID, "it is not understood");
    composed->size = fl_json_int(value, "size", 0);
    composed->platform_count = json_array_size(platforms);
    composed->platforms =
        fl_new_array(arena, struct fl_composed_platform, composed->platform_count + 1);
    for (size_t i = 0; r == 0 && i < composed->platform_count; i++) {
        r = parse_platform(json_array_get(platforms, i), arena, &composed->platforms[i], err);
        composed->cache_hits += composed->platforms[i].layers;
    }
    *ret_kept = kept;
    return r;
}

/* All that the index names is here, and stays while it is pushed. */
static bool pin_all(const struct fl_oci_descriptor *root, struct fl_blobs *blobs,
                    struct fl_arena *arena)
{
    const struct fl_oci_closing closing = {.load = fl_oci_load_blob, .user = blobs};
    struct fl_oci_closure closure;

    if (fl_oci_closure(arena, root, &closing, &closure, NULL) < 0)
        return false;
    for (size_t i = 0; i < closure.count; i++) {
        if (fl_blobs_pin(blobs, closure.parts[i].descriptor.digest, NULL) == 0)
            continue;
        while (i > 0)
            fl_blobs_unpin(blobs, closure.parts[--i].descriptor.digest);
        return false;
    }
    return true;
}

bool fl_build_kept_get(const struct fl_build *build, const char *key, struct fl_blobs *blobs,
                       struct fl_arena *arena, struct fl_build_kept *ret_kept)
{
    const struct fl_kept folder = {.folder = build->folder, .blobs = blobs};
    json_t *value = fl_kept_read(&folder, arena, KIND, name_of(build, key, arena));

    return value && parse(fl_json_in_arena(arena, value), arena, ret_kept, NULL) == 0 &&
           pin_all(&ret_kept->composed.root, blobs, arena);
}

int fl_build_kept_put(const struct fl_build *build, const char *key,
                      const struct fl_build_kept *kept, struct fl_blobs *blobs,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_kept folder = {.folder = build->folder, .blobs = blobs};
    const struct fl_composed *composed = &kept->composed;
    json_t *platforms = json_array();
    FL_JSON value = NULL;

    for (size_t i = 0; i < composed->platform_count; i++)
        (void)json_array_append_new(platforms, platform_json(&composed->platforms[i], arena));
    value = json_pack("{s:s, s:I, s:I, s:o, s:o}", "backend", kept->backend, "epoch",
                      (json_int_t)kept->epoch_s, "size", (json_int_t)composed->size, "root",
                      fl_oci_descriptor_json(&composed->root), "platforms", platforms);
    fl_json_set_str(value, "lockFile", kept->lock_file);
    return fl_kept_write(&folder, KIND, name_of(build, key, arena), value, err);
}
