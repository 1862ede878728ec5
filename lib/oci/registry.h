/* A client for OCI registries (distribution-spec 1.1.1): our own and any other one.
 *
 * Images go from a folder of content (lib/blobs.h) to a registry and back. A push asks what is
 * there, mounts what another repository of the same registry has, sends the rest in chunks that are
 * resumed where they broke, children before parents, the tag last: so nobody finds a half image. A
 * pull checks digest and size of all that it takes and puts it whole, or not at all; a range is
 * asked for where a transfer broke. Answers 429 and 5xx, and broken connections are tried again, a
 * bounded number of times, with the delay that the registry asks for.
 *
 * Passwords are sent to the registry's own host (scheme, name and port) and to the one other host
 * that the caller names as its token service, tokens to the registry's only; neither is ever
 * logged. A redirect is followed without them where it leads elsewhere, at most five of them, and
 * from https to http never; content is sent nowhere but to the registry. Blocking; one client is
 * used by one thread. */
#ifndef FL_LIB_OCI_REGISTRY_H
#define FL_LIB_OCI_REGISTRY_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/oci/closure.h"
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
    /* "host" or "host:port" of the token service, where that is another one and may be given the
     * password; may be NULL: then it is asked without. */
    const char *token_host;
    const char *user_agent; /* may be NULL */
    int64_t total_ms;       /* deadline of each call below; 0: 30 min */
    int64_t quiet_ms;       /* a request without a byte either way has failed; 0: 60 s */
    int64_t chunk_bytes;    /* 0: 16 MiB */
    unsigned tries;         /* of one request, or in a row without progress of a blob; 0: 5 */
    int64_t backoff_ms;     /* before the second try, doubled for each more; 0: 250 ms */
};
int fl_registry_open(const struct fl_registry_options *options, struct fl_registry **ret_registry,
                     struct fl_error *err);
void fl_registry_close(struct fl_registry *registry);
FL_DEFINE_CLEANUP(struct fl_registry, fl_registry_close)

/* Bytes so far and in all, of the whole call: about every second and when something has moved.
 * `what` is the digest of what is on its way. False breaks off (UNAVAILABLE). */
struct fl_registry_progress {
    bool (*moved)(void *user, const char *what, int64_t done, int64_t total); /* may be NULL */
    void *user;
};

/* A manifest by tag or digest, and whatever it names: into `blobs`, each pinned, what is named
 * before what names it. `platforms` (may be empty: all): of an index only these. NOT_FOUND where
 * there is none, or not for a platform; INVALID where something is not what its digest says. After
 * a failure nothing is pinned; what came whole is there for the next try. fl_oci_unpin (closure.h)
 * takes the pins back. */
int fl_registry_pull(struct fl_registry *registry, const struct fl_image_reference *reference,
                     const struct fl_platform *platforms, size_t platform_count,
                     struct fl_blobs *blobs, const struct fl_registry_progress *progress,
                     struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err);

/* All that `root` (a manifest or an index in `blobs`) names, then `root` itself, then the tags.
 * `from` (may be NULL): a repository of the same registry to mount from. A manifest that is there
 * has its parts there. */
struct fl_registry_pushed {
    int64_t bytes_sent, bytes_there;
    size_t blobs_sent, blobs_mounted, blobs_there; /* manifests are counted too */
};
int fl_registry_push(struct fl_registry *registry, const char *repository, const char *from,
                     const struct fl_oci_descriptor *root, const char *const *tags,
                     size_t tag_count, struct fl_blobs *blobs,
                     const struct fl_registry_progress *progress,
                     struct fl_registry_pushed *ret_pushed, struct fl_error *err);

/* From one registry to another one (or within one: then it is mounted), a blob at a time by way of
 * `blobs`, where nothing stays; what is there already is not fetched. Each byte counts twice as
 * progress. */
int fl_registry_copy(struct fl_registry *from, const struct fl_image_reference *reference,
                     struct fl_registry *to, const char *repository, const char *const *tags,
                     size_t tag_count, struct fl_blobs *blobs,
                     const struct fl_registry_progress *progress, struct fl_arena *arena,
                     struct fl_oci_descriptor *ret_root, struct fl_registry_pushed *ret_pushed,
                     struct fl_error *err);

/* What `reference` names, without taking its content. NOT_FOUND. */
int fl_registry_resolve(struct fl_registry *registry, const struct fl_image_reference *reference,
                        struct fl_arena *arena, struct fl_oci_descriptor *ret_manifest,
                        struct fl_error *err);

/* The document itself. */
int fl_registry_manifest(struct fl_registry *registry, const struct fl_image_reference *reference,
                         struct fl_arena *arena, struct fl_oci_descriptor *ret_descriptor,
                         struct fl_oci_manifest *ret_manifest, struct fl_error *err);
/* A small blob in memory, checked: a configuration. At most FL_OCI_MANIFEST_MAX bytes. The caller
 * owns it. */
int fl_registry_small_blob(struct fl_registry *registry, const char *repository,
                           const struct fl_oci_descriptor *blob, struct fl_bytes **ret_content,
                           struct fl_error *err);
/* All repositories, where the registry lists them (it need not: NOT_FOUND, UNAUTHORIZED). */
int fl_registry_repositories(struct fl_registry *registry, struct fl_arena *arena,
                             struct fl_oci_texts *ret_names, struct fl_error *err);

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
