/* Images as documents: descriptors, manifests, indexes and configurations (OCI image-spec 1.1.1),
 * read with bounds and written canonically, so that equal images have equal digests.
 *
 * What is read comes from strangers: sizes, counts, digests and media types are checked, unknown
 * fields are let by. Docker's schema 2 manifests and lists are read as what they correspond to.
 * Structs point into the caller's arena. Pure functions; any thread. */
#ifndef FL_LIB_OCI_IMAGE_H
#define FL_LIB_OCI_IMAGE_H

#include "lib/digest.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/oci/reference.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define FL_OCI_INDEX       "application/vnd.oci.image.index.v1+json"
#define FL_OCI_CONFIG      "application/vnd.oci.image.config.v1+json"
#define FL_OCI_LAYER_TAR   "application/vnd.oci.image.layer.v1.tar"
#define FL_OCI_LAYER_GZIP  "application/vnd.oci.image.layer.v1.tar+gzip"
#define FL_OCI_LAYER_ZSTD  "application/vnd.oci.image.layer.v1.tar+zstd"
#define FL_OCI_EMPTY       "application/vnd.oci.empty.v1+json" /* the two bytes {} */
#define FL_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define FL_DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"

#define FL_OCI_MANIFEST_MAX    ((size_t)4 * 1024 * 1024)
#define FL_OCI_LAYERS_MAX      128
#define FL_OCI_MANIFESTS_MAX   1024 /* in one index */
#define FL_OCI_BLOB_MAX        ((int64_t)64 * 1024 * 1024 * 1024)
#define FL_OCI_ANNOTATIONS_MAX 1024

struct fl_oci_pair {
    const char *name, *value;
};
struct fl_oci_pairs {
    struct fl_oci_pair *items; /* by name */
    size_t count;
};
const char *fl_oci_pair(const struct fl_oci_pairs *pairs, const char *name); /* NULL: none */

struct fl_oci_descriptor {
    const char *media_type, *digest;
    int64_t size;
    bool has_platform;
    struct fl_platform platform;
    const char *artifact_type; /* NULL: none */
    struct fl_oci_pairs annotations;
};
struct fl_oci_descriptors {
    struct fl_oci_descriptor *items;
    size_t count;
};

/* A manifest or an index. */
struct fl_oci_manifest {
    bool is_index;
    const char *media_type, *artifact_type; /* the latter NULL: none */
    struct fl_oci_descriptor config;        /* of a manifest */
    struct fl_oci_descriptors layers;       /* of a manifest; of an index its manifests */
    bool has_subject;
    struct fl_oci_descriptor subject;
    struct fl_oci_pairs annotations;
};

/* `media_type` (of the request or the descriptor; NULL: what the text says itself) must agree with
 * the text's own. INVALID with the field that is wrong; UNSUPPORTED_MEDIA for what is neither. */
int fl_oci_manifest_parse(struct fl_arena *arena, const void *text, size_t len,
                          const char *media_type, struct fl_oci_manifest *ret_manifest,
                          struct fl_error *err);
struct fl_bytes *fl_oci_manifest_encode(const struct fl_oci_manifest *manifest);
/* What a manifest is for when it is found among others: its artifactType, or its config's type. */
const char *fl_oci_manifest_artifact_type(const struct fl_oci_manifest *manifest);

/* The manifest of an index that fits best: one for exactly this platform before one that merely
 * fits. NULL: none, and `err` names what there is (NOT_FOUND). */
const struct fl_oci_descriptor *fl_oci_index_choose(const struct fl_oci_manifest *index,
                                                    const struct fl_platform *wanted,
                                                    struct fl_error *err);

struct fl_oci_texts {
    const char **items;
    size_t count;
};

/* What an image says of how it is run. */
struct fl_oci_config {
    struct fl_platform platform;
    const char *created, *author;        /* NULL: not said */
    const char *user, *working_folder;   /* NULL: not said */
    const char *stop_signal;             /* "SIGTERM"; NULL: not said */
    struct fl_oci_texts env;             /* "NAME=value" */
    struct fl_oci_texts entrypoint, cmd; /* arguments */
    struct fl_oci_texts ports, volumes;  /* "8080/tcp"; "/data" */
    struct fl_oci_pairs labels;
    struct fl_oci_texts diff_ids; /* of the uncompressed layers, lowest first */
    /* One a layer; NULL or empty: none is written. */
    struct fl_oci_texts history; /* created_by */
};
int fl_oci_config_parse(struct fl_arena *arena, const void *text, size_t len,
                        struct fl_oci_config *ret_config, struct fl_error *err);
struct fl_bytes *fl_oci_config_encode(const struct fl_oci_config *config);

/* The descriptor of a document that was just encoded; the digest is in the arena. */
struct fl_oci_descriptor fl_oci_describe(struct fl_arena *arena, const char *media_type,
                                         const struct fl_bytes *document);
/* One descriptor as JSON, as in manifests. The caller owns it. */
json_t *fl_oci_descriptor_json(const struct fl_oci_descriptor *descriptor);
int fl_oci_descriptor_parse(struct fl_arena *arena, const json_t *value, const char *field,
                            struct fl_oci_descriptor *ret_descriptor, struct fl_error *err);

#endif
