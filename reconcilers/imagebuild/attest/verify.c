/* Whether what is attached to an image is what it says. All of it comes from strangers. */
#include "reconcilers/imagebuild/attest/attest_internal.h"

#include "lib/str.h"

#include <string.h>

#define CANDIDATES_MAX 64 /* of one kind; who attaches more is not looked through */

static const struct fl_json_limits limits = {.max_bytes = FL_OCI_MANIFEST_MAX, .max_depth = 32};

/* --- documents --- */

static bool names_digest(const json_t *subjects, const char *digest)
{
    const json_t *item;
    size_t i;

    json_array_foreach(subjects, i, item)
        if (fl_streq(fl_json_str(item, "digest.sha256"), attest_hex(digest)))
            return true;
    return false;
}

static const char *copy(struct fl_arena *arena, const json_t *value, const char *path)
{
    const char *text = fl_json_str(value, path);

    return text ? fl_arena_strdup(arena, text) : NULL;
}

/* The list of parts that was signed along: hex digits. */
static const char *byproduct(const json_t *byproducts)
{
    const json_t *item;
    size_t i;

    json_array_foreach(byproducts, i, item)
        if (fl_streq(fl_json_str(item, "mediaType"), FL_SPDX_TYPE))
            return fl_json_str(item, "digest.sha256");
    return NULL;
}

int fl_attest_check_statement(const char *text, size_t len, const char *digest,
                              struct fl_arena *arena, struct fl_attest_verified *verified,
                              struct fl_error *err)
{
    static const char definition[] = "predicate.buildDefinition.externalParameters";
    FL_JSON value = NULL;
    const json_t *parameters;

    if (fl_json_parse(text, len, &limits, NULL, NULL, &value, NULL) < 0 ||
        !fl_streq(fl_json_str(value, "_type"), FL_STATEMENT_TYPE) ||
        !fl_streq(fl_json_str(value, "predicateType"), FL_PROVENANCE_TYPE))
        return fl_error_set(err, FL_E_INVALID, "the provenance is no statement of SLSA's kind");
    if (!names_digest(json_object_get(value, "subject"), digest))
        return fl_error_set(err, FL_E_INVALID, "the provenance is another image's");
    verified->sbom_document = byproduct(fl_json_path(value, "predicate.runDetails.byproducts"));
    if (verified->sbom_document)
        verified->sbom_document = fl_arena_printf(arena, "sha256:%s", verified->sbom_document);
    parameters = fl_json_path(value, definition);
    verified->builder = copy(arena, value, "predicate.runDetails.builder.id");
    verified->source = copy(arena, parameters, "source");
    verified->commit = copy(arena, parameters, "commit");
    return 0;
}

static const char *described(const json_t *relations)
{
    const json_t *item;
    size_t i;

    json_array_foreach(relations, i, item)
        if (fl_streq(fl_json_str(item, "relationshipType"), "DESCRIBES") &&
            fl_streq(fl_json_str(item, "spdxElementId"), "SPDXRef-DOCUMENT"))
            return fl_json_str(item, "relatedSpdxElement");
    return NULL;
}

static bool has_checksum(const json_t *package, const char *digest)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(package, "checksums"), i, item)
        if (fl_streq(fl_json_str(item, "algorithm"), "SHA256") &&
            fl_streq(fl_json_str(item, "checksumValue"), attest_hex(digest)))
            return true;
    return false;
}

int fl_attest_check_sbom(const char *text, size_t len, const char *digest,
                         struct fl_attest_verified *verified, struct fl_error *err)
{
    FL_JSON value = NULL;
    const json_t *package;
    const char *subject;
    size_t i, count = 0;
    bool is_of_image = false;

    if (fl_json_parse(text, len, &limits, NULL, NULL, &value, NULL) < 0 ||
        !fl_streq(fl_json_str(value, "spdxVersion"), "SPDX-2.3"))
        return fl_error_set(err, FL_E_INVALID, "the list of parts is no SPDX 2.3");
    subject = described(json_object_get(value, "relationships"));
    json_array_foreach(json_object_get(value, "packages"), i, package) {
        count += json_array_size(json_object_get(package, "externalRefs")) > 0;
        if (subject && fl_streq(fl_json_str(package, "SPDXID"), subject))
            is_of_image = is_of_image || has_checksum(package, digest);
    }
    if (!is_of_image)
        return fl_error_set(err, FL_E_INVALID, "the list of parts is another image's");
    verified->packages = count;
    return 0;
}

/* --- what is attached --- */

struct verifying {
    struct fl_registry *registry;
    const struct fl_image_reference *reference;
    const struct fl_public_key *key;
    struct fl_arena *arena;
    struct fl_attest_verified verified;
};

struct attached {
    const struct fl_oci_descriptor *layer;
    const struct fl_bytes *document;
};
typedef int check_fn(struct verifying *verifying, const struct attached *attached,
                     struct fl_error *err);

/* It has no signature of its own: the provenance that has one says which it is. */
static int check_sbom(struct verifying *verifying, const struct attached *attached,
                      struct fl_error *err)
{
    if (!fl_streq(attached->layer->digest, verifying->verified.sbom_document))
        return fl_error_set(err, FL_E_INVALID,
                            "the list of parts (SBOM) is not the one that the provenance names");
    return fl_attest_check_sbom(attached->document->data, attached->document->len,
                                verifying->verified.digest, &verifying->verified, err);
}

static int check_provenance(struct verifying *verifying, const struct attached *attached,
                            struct fl_error *err)
{
    const char *payload;
    size_t len;
    int r;

    if (!fl_streq(attached->layer->media_type, FL_DSSE_TYPE))
        return fl_error_set(err, FL_E_INVALID, "the provenance is not signed");
    r = fl_dsse_open(verifying->key, FL_INTOTO_TYPE, attached->document->data,
                     attached->document->len, verifying->arena, &payload, &len, err);
    return r < 0 ? fl_error_wrap(err, "provenance")
                 : fl_attest_check_statement(payload, len, verifying->verified.digest,
                                             verifying->arena, &verifying->verified, err);
}

static int check_signature(struct verifying *verifying, const struct attached *attached,
                           struct fl_error *err)
{
    const struct fl_bytes *document = attached->document;

    if (!fl_signature_is_good(verifying->key, document->data, document->len,
                              fl_oci_pair(&attached->layer->annotations, FL_COSIGN_ANNOTATION)))
        return fl_error_set(err, FL_E_INVALID, "the image is not signed with this key");
    return fl_simple_signing_check(document->data, document->len, verifying->verified.digest, err);
}

static int look_at(struct verifying *verifying, const char *digest, check_fn *check,
                   struct fl_error *err)
{
    struct fl_image_reference reference = {.registry = verifying->reference->registry,
                                           .repository = verifying->reference->repository,
                                           .digest = digest};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = NULL;
    struct fl_oci_descriptor descriptor;
    struct fl_oci_manifest manifest;
    struct attached attached;
    int r = fl_registry_manifest(verifying->registry, &reference, verifying->arena, &descriptor,
                                 &manifest, err);

    if (r < 0)
        return r;
    if (manifest.is_index || !manifest.has_subject || manifest.layers.count != 1 ||
        !fl_streq(manifest.subject.digest, verifying->verified.digest))
        return fl_error_set(err, FL_E_INVALID, "%s does not refer to the image as it should",
                            digest);
    r = fl_registry_small_blob(verifying->registry, reference.repository, &manifest.layers.items[0],
                               &document, err);
    attached = (struct attached){&manifest.layers.items[0], document};
    return r < 0 ? r : check(verifying, &attached, err);
}

/* One that is good is enough: others may have attached theirs. */
static int find(struct verifying *verifying, const char *artifact_type, const char *what,
                check_fn *check, const char **ret_digest, struct fl_error *err)
{
    const struct fl_image_reference *reference = verifying->reference;
    struct fl_oci_descriptors found = {0};
    int r = fl_registry_referrers(verifying->registry, reference->repository,
                                  verifying->verified.digest, artifact_type, verifying->arena,
                                  &found, err);

    if (r == 0 && found.count == 0)
        r = fl_error_set(err, FL_E_NOT_FOUND, "%s has no %s", verifying->verified.digest, what);
    if (r < 0)
        return r;
    for (size_t i = 0; i < found.count && i < CANDIDATES_MAX; i++) {
        r = look_at(verifying, found.items[i].digest, check, err);
        if (r == 0) {
            *ret_digest = found.items[i].digest;
            return 0;
        }
    }
    return r;
}

/* --- the image --- */

static int check_manifest(struct verifying *verifying, const struct fl_oci_manifest *manifest,
                          struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *config = NULL;

    verifying->verified.manifests++;
    return fl_registry_small_blob(verifying->registry, verifying->reference->repository,
                                  &manifest->config, &config, err);
}

static int check_chain(struct verifying *verifying, struct fl_error *err)
{
    struct fl_image_reference reference = *verifying->reference;
    struct fl_oci_descriptor descriptor;
    struct fl_oci_manifest root, manifest;
    int r = fl_registry_manifest(verifying->registry, &reference, verifying->arena, &descriptor,
                                 &root, err);

    if (r < 0)
        return r;
    verifying->verified.digest = descriptor.digest;
    if (!root.is_index)
        return check_manifest(verifying, &root, err);
    reference.tag = NULL;
    for (size_t i = 0; r == 0 && i < root.layers.count; i++) {
        reference.digest = root.layers.items[i].digest;
        r = fl_registry_manifest(verifying->registry, &reference, verifying->arena, &descriptor,
                                 &manifest, err);
        if (r == 0 && manifest.is_index)
            r = fl_error_set(err, FL_E_INVALID, "an index within the index");
        if (r == 0)
            r = check_manifest(verifying, &manifest, err);
    }
    return r;
}

int fl_attest_verify(struct fl_registry *registry, const struct fl_image_reference *reference,
                     const struct fl_public_key *key, struct fl_arena *arena,
                     struct fl_attest_verified *ret_verified, struct fl_error *err)
{
    struct verifying verifying = {
        .registry = registry, .reference = reference, .key = key, .arena = arena};
    struct fl_attest_verified *verified = &verifying.verified;
    int r = check_chain(&verifying, err);

    if (r == 0)
        r = find(&verifying, FL_COSIGN_TYPE, "signature", check_signature, &verified->signature,
                 err);
    if (r == 0)
        r = find(&verifying, FL_INTOTO_TYPE, "provenance", check_provenance, &verified->provenance,
                 err);
    if (r == 0)
        r = find(&verifying, FL_SPDX_TYPE, "list of parts (SBOM)", check_sbom, &verified->sbom,
                 err);
    if (r == 0)
        *ret_verified = *verified;
    return r;
}
