/* An in-toto statement: these digests came from this source, by this builder, with these packages.
 */
#include "reconcilers/imagebuild/attest/attest_internal.h"

#include "lib/map.h"
#include "lib/str.h"

#include <string.h>

#define BUILD_TYPE "https://flops.dev/build/v1"
#define BUILDER_ID "https://flops.dev/builder/v1"

static json_t *subject(const char *name, const char *digest)
{
    return json_pack("{s:s, s:{s:s}}", "name", name, "digest", "sha256", attest_hex(digest));
}

/* The index, and each image in it: whoever has pulled one platform finds it here. */
static json_t *subjects(const struct fl_attest *attest, struct fl_arena *arena)
{
    const struct fl_composed *composed = attest->composed;
    const char *name = fl_str_or(attest->name, "image");
    json_t *list = json_pack("[o]", subject(name, composed->root.digest));

    for (size_t i = 0; i < composed->platform_count; i++)
        (void)json_array_append_new(
            list,
            subject(fl_arena_printf(arena, "%s (%s)", name,
                                    fl_platform_text(arena, &composed->platforms[i].platform)),
                    composed->platforms[i].digest));
    return list;
}

static json_t *platforms(const struct fl_attest *attest, struct fl_arena *arena)
{
    json_t *list = json_array();

    for (size_t i = 0; i < attest->composed->platform_count; i++)
        (void)json_array_append_new(
            list, json_string(fl_platform_text(arena, &attest->composed->platforms[i].platform)));
    return list;
}

static json_t *names_of(const char *const *args)
{
    json_t *list = json_array();

    for (; *args; args++)
        (void)json_array_append_new(list, json_stringn(*args, strcspn(*args, "=")));
    return list;
}

/* What the user has said. */
static json_t *external(const struct fl_attest *attest, struct fl_arena *arena)
{
    json_t *value = json_pack("{s:o}", "platforms", platforms(attest, arena));

    fl_json_set_str(value, "target", attest->target);
    fl_json_set_str(value, "lockPolicy", attest->lock_policy);
    fl_json_set_str(value, "source", fl_attest_source(arena, attest->url, attest->commit));
    fl_json_set_str(value, "commit", attest->commit);
    fl_json_set_str(value, "path", attest->path);
    fl_json_set_str(value, "containerfile", attest->containerfile);
    fl_json_set_str(value, "baseImage", attest->base_image);
    if (attest->args && *attest->args)
        (void)json_object_set_new(value, "args", names_of(attest->args));
    return value;
}

/* What follows from that. */
static json_t *internal(const struct fl_attest *attest)
{
    json_t *value = json_object();

    fl_json_set_str(value, "backend", attest->backend);
    fl_json_set_str(value, "lockFile", attest->lock_file);
    fl_json_set_str(value, "key", attest->key);
    return value;
}

struct dependencies {
    struct fl_arena *arena;
    struct fl_map *listed; /* digests */
    json_t *list;
};

static void add_package(void *user, size_t platform, const struct fl_package *package)
{
    struct dependencies *dependencies = user;

    (void)platform;
    if (fl_map_get(dependencies->listed, package->digest))
        return;
    fl_map_put(dependencies->listed, package->digest, dependencies);
    (void)json_array_append_new(dependencies->list,
                                json_pack("{s:s, s:s, s:{s:s}}", "uri",
                                          fl_attest_purl(dependencies->arena, package), "name",
                                          fl_str_or(package->file, package->name), "digest",
                                          "sha256", attest_hex(package->digest)));
}

/* What a Containerfile has made is there by its digest only. */
static void add_bases(const struct fl_attest *attest, struct dependencies *dependencies)
{
    const char *uri = attest->base_image
                          ? fl_arena_printf(dependencies->arena, "oci:%s", attest->base_image)
                          : "oci:containerfile";

    for (size_t i = 0; i < attest->composed->platform_count; i++) {
        const struct fl_composed_platform *platform = &attest->composed->platforms[i];

        if (!platform->base || fl_map_get(dependencies->listed, platform->base))
            continue;
        fl_map_put(dependencies->listed, platform->base, dependencies);
        (void)json_array_append_new(
            dependencies->list,
            json_pack("{s:s, s:s, s:{s:s}}", "uri", uri, "name",
                      fl_platform_text(dependencies->arena, &platform->platform), "digest",
                      "sha256", attest_hex(platform->base)));
    }
}

static json_t *resolved(const struct fl_attest *attest, struct fl_arena *arena)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *listed = fl_map_create(NULL);
    struct dependencies dependencies = {arena, listed, json_array()};
    const char *source = fl_attest_source(arena, attest->url, attest->commit);

    if (attest->commit)
        (void)json_array_append_new(
            dependencies.list, json_pack("{s:s, s:{s:s}}", "uri", fl_str_or(source, "git+local"),
                                         "digest", "gitCommit", attest->commit));
    add_bases(attest, &dependencies);
    attest_each_package(attest->composed, add_package, &dependencies);
    return dependencies.list;
}

json_t *fl_attest_provenance(const struct fl_attest *attest, const char *sbom_digest)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    json_t *definition =
        json_pack("{s:s, s:o, s:o, s:o}", "buildType", BUILD_TYPE, "externalParameters",
                  external(attest, arena), "internalParameters", internal(attest),
                  "resolvedDependencies", resolved(attest, arena));
    json_t *details =
        json_pack("{s:{s:s, s:{s:s}}, s:[{s:s, s:s, s:{s:s}}]}", "builder", "id", BUILDER_ID,
                  "version", "flops", fl_str_or(attest->version, "unknown"), "byproducts", "name",
                  "sbom", "mediaType", FL_SPDX_TYPE, "digest", "sha256", attest_hex(sbom_digest));

    return json_pack("{s:s, s:o, s:s, s:{s:o, s:o}}", "_type", FL_STATEMENT_TYPE, "subject",
                     subjects(attest, arena), "predicateType", FL_PROVENANCE_TYPE, "predicate",
                     "buildDefinition", definition, "runDetails", details);
}
