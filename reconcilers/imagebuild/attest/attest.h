/* What an image says of itself besides running: the list of its parts (SPDX 2.3), how it was made
 * (an in-toto statement with SLSA's provenance v1) and who vouches for it (signatures), as
 * documents that refer to the image's index in a registry (OCI 1.1 referrers).
 *
 * Documents follow from what was put together and nothing else: there is no clock in them (what an
 * image is does not depend on when somebody made it; when a build ran is in the ImageBuild), and
 * Ed25519 gives the same signature for the same words. So whoever builds the same again attaches
 * the same documents, which are there already.
 *
 * fl_attest_sbom and fl_attest_provenance are pure. The rest reads and writes content; blocking.
 * Results are in the caller's arena, JSON values the caller's. */
#ifndef FL_RECONCILERS_ATTEST_H
#define FL_RECONCILERS_ATTEST_H

#include "lib/oci/registry.h"
#include "reconcilers/imagebuild/attest/sign.h"
#include "reconcilers/imagebuild/compose/compose.h"

#define FL_SPDX_TYPE         "application/spdx+json"
#define FL_INTOTO_TYPE       "application/vnd.in-toto+json"
#define FL_DSSE_TYPE         "application/vnd.dsse.envelope.v1+json"
#define FL_COSIGN_TYPE       "application/vnd.dev.cosign.artifact.sig.v1+json" /* of the referrer */
#define FL_COSIGN_PAYLOAD    "application/vnd.dev.cosign.simplesigning.v1+json"
#define FL_COSIGN_ANNOTATION "dev.cosignproject.cosign/signature"
#define FL_PROVENANCE_TYPE   "https://slsa.dev/provenance/v1"
#define FL_STATEMENT_TYPE    "https://in-toto.io/Statement/v1"

/* Texts may be NULL where nothing is said. */
struct fl_attest {
    const char *name;    /* of the image, without tag: "host:port/team/name" */
    const char *version; /* of this program */
    const char *backend, *target, *lock_policy;
    const char *url, *commit, *path; /* where the code comes from */
    const char *lock_file;           /* in which dependencies were written down */
    const char *containerfile, *base_image;
    const char *const *args; /* "NAME=value", ended by NULL: names are told, values are not */
    const char *key;         /* of the build: all that its result follows from */
    int64_t epoch_s;         /* the code's time */
    const struct fl_composed *composed;
};

json_t *fl_attest_sbom(const struct fl_attest *attest);
/* `sbom_digest`: of the document, which is vouched for along with it. */
json_t *fl_attest_provenance(const struct fl_attest *attest, const char *sbom_digest);

/* "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64". */
const char *fl_attest_purl(struct fl_arena *arena, const struct fl_package *package);
/* "git+https://host/x.git@COMMIT", without who asks; NULL: nothing that others could fetch. */
const char *fl_attest_source(struct fl_arena *arena, const char *url, const char *commit);

/* Manifests whose subject is the index, with digests as objects tell them. Without a key there is
 * no signature, and the provenance is a plain statement instead of an envelope. */
struct fl_attestations {
    struct fl_oci_descriptor sbom, provenance, signature; /* the last without a digest: none */
    const char *subject;                                  /* digest of the index */
};
/* Into `blobs`, pinned. */
int fl_attest_put(const struct fl_attest *attest, const struct fl_signing_key *key,
                  struct fl_blobs *blobs, struct fl_arena *arena,
                  struct fl_attestations *ret_attestations, struct fl_error *err);
/* Behind the image. Besides as referrers they can be found by the tags that cosign goes by
 * (sha256-….sig, .att, .sbom); with the tags a push that was broken off is made whole by the next.
 */
int fl_attest_push(const struct fl_attestations *attestations, struct fl_registry *registry,
                   const char *repository, struct fl_blobs *blobs, struct fl_error *err);

/* Whether the image that `reference` names is vouched for: each document from the index down is
 * what its digest says (layers are checked by whoever pulls them), the SBOM is one of this image,
 * and provenance and signature are of this key over this digest. INVALID says what is not so;
 * NOT_FOUND, what is not there. */
struct fl_attest_verified {
    const char *digest;
    size_t manifests;
    size_t packages;           /* that the SBOM lists */
    const char *sbom_document; /* digest of it, as the provenance says */
    const char *builder, *source, *commit;
    const char *sbom, *provenance, *signature; /* digests of the manifests */
};
int fl_attest_verify(struct fl_registry *registry, const struct fl_image_reference *reference,
                     const struct fl_public_key *key, struct fl_arena *arena,
                     struct fl_attest_verified *ret_verified, struct fl_error *err);

/* The two that look at strangers' documents: a statement over `digest`, and a list of the parts of
 * `digest`. INVALID. */
int fl_attest_check_statement(const char *text, size_t len, const char *digest,
                              struct fl_arena *arena, struct fl_attest_verified *verified,
                              struct fl_error *err);
int fl_attest_check_sbom(const char *text, size_t len, const char *digest,
                         struct fl_attest_verified *verified, struct fl_error *err);

#endif
