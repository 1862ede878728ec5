/* SPDX 2.3: the index contains images, an image contains packages and comes from a source. */
#include "reconcilers/imagebuild/attest/attest_internal.h"

#include "lib/map.h"
#include "lib/str.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#define NO_ASSERTION  "NOASSERTION"
#define DOCUMENT      "SPDXRef-DOCUMENT"
#define INDEX         "SPDXRef-index"
#define SOURCE        "SPDXRef-source"
#define PROGRAM       "SPDXRef-flops"
#define NAMESPACE     "https://flops.dev/spdx/"
#define TIME_SIZE     32
#define HEX_OF_SHA256 64

struct listing {
    const struct fl_attest *attest;
    struct fl_arena *arena;
    json_t *packages, *relations;
    struct fl_map *listed; /* SPDX ids of packages */
};

const char *attest_hex(const char *digest)
{
    const char *colon = strchr(digest, ':');

    return colon ? colon + 1 : digest;
}

void attest_each_package(const struct fl_composed *composed, attest_package_fn *each, void *user)
{
    for (size_t i = 0; i < composed->platform_count; i++) {
        const struct fl_composed_platform *platform = &composed->platforms[i];

        for (size_t k = 0; k < platform->debian.count; k++)
            each(user, i, &platform->debian.items[k]);
        for (size_t k = 0; k < platform->python.count; k++)
            each(user, i, &platform->python.items[k]);
    }
}

/* PyPI's names know neither case nor the difference of '_', '.' and '-'. */
static const char *pypi_name(struct fl_arena *arena, const char *name)
{
    char *text = fl_arena_strdup(arena, name);

    for (char *c = text; *c; c++)
        *c = (char)(*c == '_' || *c == '.' ? '-' : tolower((unsigned char)*c));
    return text;
}

const char *fl_attest_purl(struct fl_arena *arena, const struct fl_package *package)
{
    const char *version = fl_url_encode(arena, package->version);

    if (package->kind == FL_PACKAGE_PYTHON)
        return fl_arena_printf(arena, "pkg:pypi/%s@%s",
                               fl_url_encode(arena, pypi_name(arena, package->name)), version);
    return fl_arena_printf(arena, "pkg:deb/debian/%s@%s?arch=%s",
                           fl_url_encode(arena, package->name), version,
                           fl_url_encode(arena, fl_str_or(package->architecture, "all")));
}

const char *fl_attest_source(struct fl_arena *arena, const char *url, const char *commit)
{
    static const char *const schemes[] = {"https://", "http://", "ssh://", "git://"};
    const char *rest, *slash, *at;

    for (size_t i = 0; url && commit && i < FL_COUNT_OF(schemes); i++) {
        if (!fl_str_has_prefix(url, schemes[i]))
            continue;
        rest = url + strlen(schemes[i]);
        slash = strchr(rest, '/');
        at = slash ? memrchr(rest, '@', (size_t)(slash - rest)) : strrchr(rest, '@');
        return fl_arena_printf(arena, "git+%s%s@%s", schemes[i], at ? at + 1 : rest, commit);
    }
    return NULL;
}

static const char *time_text(struct fl_arena *arena, int64_t epoch_s)
{
    time_t seconds = (time_t)epoch_s;
    struct tm parts;
    char text[TIME_SIZE];

    if (!gmtime_r(&seconds, &parts) || parts.tm_year > 9999 - 1900 || parts.tm_year < 70 ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        return "1970-01-01T00:00:00Z";
    return fl_arena_strdup(arena, text);
}

static json_t *package_json(const char *id, const char *name, const char *version,
                            const char *digest)
{
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:s}", "SPDXID", id, "name", name,
                  "downloadLocation", NO_ASSERTION, "filesAnalyzed", 0, "licenseConcluded",
                  NO_ASSERTION, "licenseDeclared", NO_ASSERTION, "copyrightText", NO_ASSERTION);

    fl_json_set_str(value, "versionInfo", version);
    if (digest && strlen(attest_hex(digest)) == HEX_OF_SHA256)
        (void)json_object_set_new(
            value, "checksums",
            json_pack("[{s:s, s:s}]", "algorithm", "SHA256", "checksumValue", attest_hex(digest)));
    return value;
}

static void add_purl(json_t *package, const char *purl)
{
    (void)json_object_set_new(package, "externalRefs",
                              json_pack("[{s:s, s:s, s:s}]", "referenceCategory", "PACKAGE-MANAGER",
                                        "referenceType", "purl", "referenceLocator", purl));
}

static void relate(const struct listing *listing, const char *from, const char *how, const char *to)
{
    (void)json_array_append_new(listing->relations,
                                json_pack("{s:s, s:s, s:s}", "spdxElementId", from,
                                          "relationshipType", how, "relatedSpdxElement", to));
}

static void add_index(const struct listing *listing)
{
    const struct fl_attest *attest = listing->attest;
    json_t *index =
        package_json(INDEX, "image", attest->composed->root.digest, attest->composed->root.digest);

    fl_json_set_str(index, "primaryPackagePurpose", "CONTAINER");
    (void)json_array_append_new(listing->packages, index);
    relate(listing, DOCUMENT, "DESCRIBES", INDEX);
}

/* "SPDXRef-image-linux-arm-v7": letters, digits, '.' and '-' may be in it. */
static const char *image_id(const struct listing *listing, size_t i)
{
    char *id = fl_arena_printf(
        listing->arena, "SPDXRef-image-%s",
        fl_platform_text(listing->arena, &listing->attest->composed->platforms[i].platform));

    for (char *c = id; *c; c++)
        *c = (char)(isalnum((unsigned char)*c) || *c == '.' ? *c : '-');
    return id;
}

/* What is in an image that others made is not known here, and that is said. */
static void add_base(const struct listing *listing, const char *image_id,
                     const struct fl_composed_platform *platform)
{
    const char *id;
    json_t *base;

    if (!platform->base)
        return;
    id = fl_arena_printf(listing->arena, "%s-base", image_id);
    base = package_json(id, fl_str_or(listing->attest->base_image, "containerfile"), platform->base,
                        platform->base);
    fl_json_set_str(base, "primaryPackagePurpose", "CONTAINER");
    fl_json_set_str(base, "comment", "What is in this image is not listed here.");
    (void)json_array_append_new(listing->packages, base);
    relate(listing, image_id, "DESCENDANT_OF", id);
}

static void add_images(const struct listing *listing)
{
    const struct fl_composed *composed = listing->attest->composed;

    for (size_t i = 0; i < composed->platform_count; i++) {
        const char *id = image_id(listing, i);
        const char *platform = fl_platform_text(listing->arena, &composed->platforms[i].platform);
        json_t *image = package_json(id, fl_arena_printf(listing->arena, "image for %s", platform),
                                     composed->platforms[i].digest, composed->platforms[i].digest);

        fl_json_set_str(image, "primaryPackagePurpose", "CONTAINER");
        (void)json_array_append_new(listing->packages, image);
        relate(listing, INDEX, "CONTAINS", id);
        relate(listing, id, "CONTAINS", PROGRAM);
        if (listing->attest->commit)
            relate(listing, id, "GENERATED_FROM", SOURCE);
        add_base(listing, id, &composed->platforms[i]);
    }
}

static void add_program(const struct listing *listing)
{
    const char *version = fl_str_or(listing->attest->version, "0");
    json_t *program = package_json(PROGRAM, "flops", version, NULL);

    fl_json_set_str(program, "primaryPackagePurpose", "APPLICATION");
    add_purl(program, fl_arena_printf(listing->arena, "pkg:generic/flops@%s",
                                      fl_url_encode(listing->arena, version)));
    (void)json_array_append_new(listing->packages, program);
}

static void add_source(const struct listing *listing)
{
    const struct fl_attest *attest = listing->attest;
    json_t *source;

    if (!attest->commit)
        return;
    source = package_json(SOURCE, "code", attest->commit, NULL);
    fl_json_set_str(source, "primaryPackagePurpose", "SOURCE");
    fl_json_set_str(
        source, "downloadLocation",
        fl_str_or(fl_attest_source(listing->arena, attest->url, attest->commit), NO_ASSERTION));
    (void)json_array_append_new(listing->packages, source);
}

/* What several platforms have is listed once. */
static void add_package(void *user, size_t platform, const struct fl_package *package)
{
    struct listing *listing = user;
    const char *id = fl_arena_printf(listing->arena, "SPDXRef-%s-%s",
                                     package->kind == FL_PACKAGE_PYTHON ? "pypi" : "deb",
                                     attest_hex(package->digest));
    json_t *value;

    if (!fl_map_get(listing->listed, id)) {
        fl_map_put(listing->listed, id, listing);
        value = package_json(id, package->name, package->version, package->digest);
        fl_json_set_str(value, "packageFileName", package->file);
        add_purl(value, fl_attest_purl(listing->arena, package));
        (void)json_array_append_new(listing->packages, value);
    }
    relate(listing, image_id(listing, platform), "CONTAINS", id);
}

json_t *fl_attest_sbom(const struct fl_attest *attest)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_map_destroyp) struct fl_map *listed = fl_map_create(NULL);
    struct listing listing = {.attest = attest,
                              .arena = arena,
                              .packages = json_array(),
                              .relations = json_array(),
                              .listed = listed};
    const char *digest = attest->composed->root.digest;
    const char *tool =
        fl_arena_printf(arena, "Tool: flops-%s", fl_str_or(attest->version, "unknown"));

    add_index(&listing);
    add_images(&listing);
    add_program(&listing);
    add_source(&listing);
    attest_each_package(attest->composed, add_package, &listing);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s, s:[s]}, s:o, s:o}", "spdxVersion",
                     "SPDX-2.3", "dataLicense", "CC0-1.0", "SPDXID", DOCUMENT, "name",
                     fl_arena_printf(arena, "image %s", digest), "documentNamespace",
                     fl_arena_printf(arena, NAMESPACE "%s", attest_hex(digest)), "creationInfo",
                     "created", time_text(arena, attest->epoch_s), "creators", tool, "packages",
                     listing.packages, "relationships", listing.relations);
}
