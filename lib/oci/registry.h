/* A client for OCI registries (distribution-spec 1.1.1): our own and any other one.
 *
 * Images go from a folder of content (lib/blobs.h) to a registry and back. A push asks what is
 * there, mounts what another repository of the same registry has, sends the rest in chunks that are
 * resumed where they broke, children before parents, the tag last: so nobody finds a half image. A
 * pull checks digest and size of all that it takes and puts it whole, or not at all; a range is
 * asked for where a transfer broke. Answers 429 and 5xx, and broken connections are tried again, a
 * bounded number of times, with the delay that the registry asks for.
 *
 * Tokens (Bearer, from the realm that the registry names) and passwords are sent to that host only
 * and never logged; a redirect to another host is followed without them, at most five of them, and
 * from https to http never. Blocking; one client is used by one thread. */
#ifndef FL_LIB_OCI_REGISTRY_H
#define FL_LIB_OCI_REGISTRY_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/oci/image.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_registry;

struct fl_registry_options {
    const struct fl_env *env;
    const char *host;                /* "host" or "host:port" */
    bool plain_http;                 /* no TLS */
    bool insecure;                   /* TLS without a check of the certificate */
    const char *ca_pem;              /* NULL: the system's */
    const char *cert_pem, *key_pem;  /* client certificate; may be NULL */
    const char *username, *password; /* may be NULL */
    const char *bearer_token;        /* instead: sent as it is; may be NULL */
    int64_t total_ms;                /* deadline of each call below; 0: 30 min */
    int64_t chunk_bytes;             /* 0: 16 MiB */
    unsigned tries;                  /* of one request; 0: 5 */
};
int fl_registry_open(const struct fl_registry_options *options, struct fl_registry **ret_registry,
                     struct fl_error *err);
void fl_registry_close(struct fl_registry *registry);
FL_DEFINE_CLEANUP(struct fl_registry, fl_registry_close)

/* Bytes so far and in all; false breaks off (UNAVAILABLE). */
struct fl_registry_progress {
    bool (*moved)(void *user, const char *what, int64_t done, int64_t total); /* may be NULL */
    void *user;
};

/* A manifest by tag or digest, and whatever it names: into `blobs`, each pinned. `platforms` (may
 * be empty: all): of an index only these. *ret_manifest: what the reference names. NOT_FOUND. */
int fl_registry_pull(struct fl_registry *registry, const struct fl_image_reference *reference,
                     const struct fl_platform *platforms, size_t platform_count,
                     struct fl_blobs *blobs, const struct fl_registry_progress *progress,
                     struct fl_arena *arena, struct fl_oci_descriptor *ret_manifest,
                     struct fl_error *err);

/* All that `root` (a manifest or an index in `blobs`) names, then `root` itself, then the tags.
 * `from` (may be NULL): a repository of the same registry to mount from. */
struct fl_registry_pushed {
    int64_t bytes_sent, bytes_there;
    size_t blobs_sent, blobs_mounted, blobs_there;
};
int fl_registry_push(struct fl_registry *registry, const char *repository, const char *from,
                     const struct fl_oci_descriptor *root, const char *const *tags,
                     size_t tag_count, struct fl_blobs *blobs,
                     const struct fl_registry_progress *progress,
                     struct fl_registry_pushed *ret_pushed, struct fl_error *err);

/* What `reference` names, without taking its content. NOT_FOUND. */
int fl_registry_resolve(struct fl_registry *registry, const struct fl_image_reference *reference,
                        struct fl_arena *arena, struct fl_oci_descriptor *ret_manifest,
                        struct fl_error *err);

/* Documents whose subject is `digest` (artifact type may be NULL: all), by the referrers API or,
 * where the registry has none (404), by the tag "sha256-<hex>". A pushed manifest with a subject is
 * added to that tag by fl_registry_push where the registry does not say OCI-Subject. */
int fl_registry_referrers(struct fl_registry *registry, const char *repository, const char *digest,
                          const char *artifact_type, struct fl_arena *arena,
                          struct fl_oci_descriptors *ret_referrers, struct fl_error *err);
int fl_registry_tags(struct fl_registry *registry, const char *repository, struct fl_arena *arena,
                     struct fl_oci_texts *ret_tags, struct fl_error *err);
/* Gone already is fine. `reference`: tag or digest. */
int fl_registry_delete(struct fl_registry *registry, const char *repository, const char *reference,
                       struct fl_error *err);

#endif
