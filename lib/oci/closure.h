/* All that a manifest or an index names, children before parents, so that whoever copies it in
 * this order never leaves a document whose parts are missing.
 *
 * Documents are loaded by the caller's function, from a registry or from blobs; digest, size, form
 * and bounds (depth, number and size of documents) are checked here, so that an index that nests
 * for ever ends. Everything is in the caller's arena. One thread. */
#ifndef FL_LIB_OCI_CLOSURE_H
#define FL_LIB_OCI_CLOSURE_H

#include "lib/blobs.h"
#include "lib/oci/image.h"

#define FL_OCI_NESTING_MAX       4                          /* indexes in indexes */
#define FL_OCI_DOCUMENTS_MAX     2048                       /* manifests and indexes of one image */
#define FL_OCI_DOCUMENTS_BYTES   ((size_t)64 * 1024 * 1024) /* all of them together */
#define FL_OCI_CLOSURE_BLOBS_MAX 65536

struct fl_oci_part {
    struct fl_oci_descriptor descriptor;
    struct fl_bytes *document;              /* of a manifest or an index; NULL: a blob */
    const struct fl_oci_manifest *manifest; /* the same, read */
};
struct fl_oci_closure {
    struct fl_oci_part *parts; /* the root is the last; a digest comes twice only
                                * where it is named both as a blob and as a document */
    size_t count;
    int64_t bytes; /* of all parts */
};

/* The document's bytes, for the descriptor's digest; a reference that becomes the closure's. At
 * most FL_OCI_MANIFEST_MAX bytes, or TOO_LARGE. */
typedef int fl_oci_load_fn(void *user, const struct fl_oci_descriptor *descriptor,
                           struct fl_bytes **ret_document, struct fl_error *err);

struct fl_oci_closing {
    fl_oci_load_fn *load;
    void *user;
    const struct fl_platform *platforms; /* of an index only these; none: all */
    size_t platform_count;
    /* Whether a manifest that an index names is where the parts go already: then it is left out
     * with all that it names. NULL: none is. The root is not asked for. */
    bool (*is_there)(void *there_user, const struct fl_oci_descriptor *descriptor);
    void *there_user;
};

/* INVALID where a document is not what its descriptor says; NOT_FOUND where an index has none of
 * the platforms. */
int fl_oci_closure(struct fl_arena *arena, const struct fl_oci_descriptor *root,
                   const struct fl_oci_closing *closing, struct fl_oci_closure *ret_closure,
                   struct fl_error *err);

/* Taking a closure into blobs: each part gets one pin, in the closure's order. */
struct fl_oci_taken {
    struct fl_oci_descriptor root;
    struct fl_oci_texts pinned; /* digests, one entry a pin */
    int64_t bytes_taken, bytes_there;
    size_t parts_taken, parts_there;
};
/* Called for each part before it is taken: brings a blob that is not there, and pins it; of
 * documents and of what is there it is only told. */
typedef int fl_oci_bring_fn(void *user, const struct fl_oci_part *part, bool is_there,
                            struct fl_error *err);
/* After a failure nothing is pinned, and what came whole is there. Results are in the arena. */
int fl_oci_take(const struct fl_oci_closure *closure, struct fl_blobs *blobs,
                fl_oci_bring_fn *bring, void *user, struct fl_arena *arena,
                struct fl_oci_taken *ret_taken, struct fl_error *err);
void fl_oci_unpin(struct fl_blobs *blobs, const struct fl_oci_taken *taken);

/* A loader from blobs (`user`: struct fl_blobs). */
int fl_oci_load_blob(void *user, const struct fl_oci_descriptor *descriptor,
                     struct fl_bytes **ret_document, struct fl_error *err);

#endif
