/* Documents as manifests that refer to an image. */
#include "reconcilers/imagebuild/attest/attest_internal.h"

#include "lib/str.h"

#include <string.h>

struct putting {
    const struct fl_attest *attest;
    struct fl_blobs *blobs;
    struct fl_arena *arena;
};

static int put(const struct putting *putting, const char *media_type, struct fl_bytes *document,
               struct fl_oci_descriptor *ret_descriptor, struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];

    *ret_descriptor = fl_oci_describe(putting->arena, media_type, document);
    return fl_blobs_put(putting->blobs, document->data, document->len, true, digest, err);
}

/* What cosign 2 reads is a manifest with a configuration of an image that has the payload as its
 * only layer; other documents have the empty one. */
static int put_config(const struct putting *putting, const char *config_type,
                      const struct fl_oci_descriptor *layer, struct fl_oci_descriptor *ret_config,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = NULL;
    FL_JSON value = json_object();

    if (!fl_streq(config_type, FL_OCI_EMPTY))
        (void)json_object_set_new(
            value, "rootfs",
            json_pack("{s:s, s:[s]}", "type", "layers", "diff_ids", layer->digest));
    if (!fl_streq(config_type, FL_OCI_EMPTY)) {
        fl_json_set_str(value, "architecture", "");
        fl_json_set_str(value, "os", "");
    }
    document = fl_json_to_bytes(value);
    return put(putting, config_type, document, ret_config, err);
}

struct referrer {
    const char *artifact_type, *config_type, *layer_type;
    struct fl_oci_pairs layer_annotations;
    struct fl_oci_pairs annotations;
};

static int put_referrer(const struct putting *putting, const struct referrer *referrer,
                        struct fl_bytes *document, struct fl_oci_descriptor *ret_manifest,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const struct fl_oci_descriptor *root = &putting->attest->composed->root;
    struct fl_oci_descriptor layer;
    struct fl_oci_manifest manifest = {
        .media_type = FL_OCI_MANIFEST,
        .artifact_type = referrer->artifact_type,
        .has_subject = true,
        .subject = {.media_type = root->media_type, .digest = root->digest, .size = root->size},
        .annotations = referrer->annotations,
    };
    int r = put(putting, referrer->layer_type, document, &layer, err);

    layer.annotations = referrer->layer_annotations;
    manifest.layers = (struct fl_oci_descriptors){&layer, 1};
    if (r == 0)
        r = put_config(putting, referrer->config_type, &layer, &manifest.config, err);
    if (r < 0)
        return r;
    text = fl_oci_manifest_encode(&manifest);
    r = put(putting, FL_OCI_MANIFEST, text, ret_manifest, err);
    ret_manifest->artifact_type = referrer->artifact_type;
    return r;
}

static int put_sbom(const struct putting *putting, char digest[FL_DIGEST_SIZE],
                    struct fl_oci_descriptor *ret_manifest, struct fl_error *err)
{
    FL_JSON value = fl_attest_sbom(putting->attest);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = fl_json_to_bytes(value);
    const struct referrer referrer = {FL_SPDX_TYPE, FL_OCI_EMPTY, FL_SPDX_TYPE, {0}, {0}};

    fl_digest_of(document->data, document->len, digest);
    return put_referrer(putting, &referrer, document, ret_manifest, err);
}

static int put_provenance(const struct putting *putting, const struct fl_signing_key *key,
                          const char *sbom_digest, struct fl_oci_descriptor *ret_manifest,
                          struct fl_error *err)
{
    /* cosign wants the first to be there: an envelope has its signatures within. */
    struct fl_oci_pair pairs[] = {{FL_COSIGN_ANNOTATION, ""},
                                  {"predicateType", FL_PROVENANCE_TYPE}};
    FL_JSON statement = fl_attest_provenance(putting->attest, sbom_digest);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *payload = fl_json_to_bytes(statement);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = NULL;
    FL_JSON envelope = NULL;
    struct referrer referrer = {
        FL_INTOTO_TYPE, FL_OCI_EMPTY, FL_INTOTO_TYPE, {&pairs[1], 1}, {&pairs[1], 1}};

    if (!key)
        return put_referrer(putting, &referrer, payload, ret_manifest, err);
    referrer.config_type = FL_OCI_CONFIG;
    referrer.layer_type = FL_DSSE_TYPE;
    referrer.layer_annotations = (struct fl_oci_pairs){pairs, FL_COUNT_OF(pairs)};
    envelope = fl_dsse_sign(key, FL_INTOTO_TYPE, payload, putting->arena);
    document = fl_json_to_bytes(envelope);
    return put_referrer(putting, &referrer, document, ret_manifest, err);
}

static int put_signature(const struct putting *putting, const struct fl_signing_key *key,
                         struct fl_oci_descriptor *ret_manifest, struct fl_error *err)
{
    const struct fl_attest *attest = putting->attest;
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *payload =
        fl_simple_signing(fl_str_or(attest->name, "image"), attest->composed->root.digest);
    struct fl_oci_pair signature = {FL_COSIGN_ANNOTATION,
                                    fl_sign_text(key, payload->data, payload->len, putting->arena)};
    const struct referrer referrer = {
        FL_COSIGN_TYPE, FL_OCI_CONFIG, FL_COSIGN_PAYLOAD, {&signature, 1}, {0}};

    return put_referrer(putting, &referrer, payload, ret_manifest, err);
}

int fl_attest_put(const struct fl_attest *attest, const struct fl_signing_key *key,
                  struct fl_blobs *blobs, struct fl_arena *arena,
                  struct fl_attestations *ret_attestations, struct fl_error *err)
{
    const struct putting putting = {attest, blobs, arena};
    struct fl_attestations all = {.subject = attest->composed->root.digest};
    char sbom_digest[FL_DIGEST_SIZE];
    int r = put_sbom(&putting, sbom_digest, &all.sbom, err);

    if (r == 0)
        r = put_provenance(&putting, key, sbom_digest, &all.provenance, err);
    if (r == 0 && key)
        r = put_signature(&putting, key, &all.signature, err);
    if (r < 0)
        return fl_error_wrap(err, "what is attached to the image");
    *ret_attestations = all;
    return 0;
}

static int push_one(struct fl_registry *registry, const char *repository, struct fl_blobs *blobs,
                    const struct fl_oci_descriptor *manifest, const char *subject,
                    const char *suffix, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *tag = NULL;
    const char *tags[1];
    struct fl_registry_pushed pushed;

    if (!manifest->digest)
        return 0;
    tag = fl_asprintf("sha256-%s.%s", attest_hex(subject), suffix);
    tags[0] = tag;
    return fl_registry_push(registry, repository, NULL, manifest, tags, 1, blobs, NULL, &pushed,
                            err);
}

int fl_attest_push(const struct fl_attestations *attestations, struct fl_registry *registry,
                   const char *repository, struct fl_blobs *blobs, struct fl_error *err)
{
    const struct fl_attestations *all = attestations;
    int r = push_one(registry, repository, blobs, &all->sbom, all->subject, "sbom", err);

    if (r == 0)
        r = push_one(registry, repository, blobs, &all->provenance, all->subject, "att", err);
    if (r == 0)
        r = push_one(registry, repository, blobs, &all->signature, all->subject, "sig", err);
    return r < 0 ? fl_error_wrap(err, "what is attached to the image") : 0;
}
