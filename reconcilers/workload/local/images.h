/* The images of a machine: what was pulled, by digest, and unpacked layers that containers share.
 *
 * An image is asked for and comes later: threads of the store's pull it from a source (a registry,
 * or whatever else fills a folder of content), check it, and unpack it. What is there already is
 * not pulled again; an image that was asked for by digest needs no source then, and neither does
 * one by tag whose source cannot be reached, where it was pulled before. Layers are a folder each,
 * by the digest of what is in them, unpacked once. Where overlays cannot be mounted, an image is
 * unpacked whole into a folder of the caller's instead.
 *
 * Content and layers are caches: what is not in use goes when room is needed, what was used longest
 * ago first, and layers of before a restart of the machine go at once, because they were not
 * synced. Any thread. */
#ifndef FL_RECONCILERS_LOCAL_IMAGES_H
#define FL_RECONCILERS_LOCAL_IMAGES_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/oci/closure.h"
#include "lib/oci/registry.h"

#include <stdbool.h>
#include <stdint.h>

/* Where images come from. */
struct fl_image_request {
    struct fl_image_reference reference;
    const struct fl_platform *platforms; /* one, of the machine */
    size_t platform_count;
    const char *username, *password; /* NULL: none; secret */
    int64_t timeout_ms;
};
struct fl_image_source {
    /* As fl_registry_pull: what the reference names, for these platforms, into `blobs`, pinned.
     * Blocks; any thread, several at a time. */
    int (*pull)(void *user, const struct fl_image_request *request, struct fl_blobs *blobs,
                const struct fl_registry_progress *progress, struct fl_arena *arena,
                struct fl_oci_taken *ret_taken, struct fl_error *err);
    void *user;
};

struct fl_images_options {
    const struct fl_env *env;
    const char *path;                     /* made where it is not there */
    const struct fl_image_source *source; /* NULL: only what is there */
    bool overlay;                         /* layers as overlayfs wants them */
    bool keep_owners;
    int64_t max_blob_bytes, max_layer_bytes; /* 0: 20 GiB each */
    int64_t unpacked_max_bytes;              /* of one layer; 0: 16 GiB */
};
struct fl_images;
int fl_images_open(const struct fl_images_options *options, struct fl_images **ret_images,
                   struct fl_error *err);
void fl_images_stop(struct fl_images *images);  /* breaks off and waits; jobs are done after it */
void fl_images_close(struct fl_images *images); /* images that were given must have been released */
FL_DEFINE_CLEANUP(struct fl_images, fl_images_close)
struct fl_blobs *fl_images_blobs(struct fl_images *images);
const char *fl_images_layers_folder(const struct fl_images *images);

/* One that is there, and stays until it is released. */
struct fl_image {
    const char *digest; /* of the manifest */
    struct fl_platform platform;
    struct fl_oci_config config;
    const char **layers; /* folders in fl_images_layers_folder, the highest first; or none */
    size_t layer_count;
};
void fl_image_release(struct fl_image *image);
FL_DEFINE_CLEANUP(struct fl_image, fl_image_release)

/* Asking. */
struct fl_image_wish {
    const char *reference;
    const struct fl_platform *platforms; /* that will do, the best first */
    size_t platform_count;
    const char *pull_secret; /* .dockerconfigjson; NULL: none; secret */
    const char *unpack_to;   /* without overlay: the folder for all of it */
    int64_t timeout_ms;
};
struct fl_image_job;
/* Called once, on a thread of the store's, never before fl_images_want has returned its job: either
 * with an image, which is the callee's to release, or with the error. NOT_FOUND: there is no such
 * image, or none for these platforms. INVALID: it is damaged, or no image. FORBIDDEN, UNAUTHORIZED:
 * not for these credentials. UNAVAILABLE, TIMEOUT: another time perhaps. */
typedef void fl_image_done_fn(void *user, struct fl_image *image, const struct fl_error *err);
/* `moved` (may be NULL) is called now and then while it comes, on a thread of the store's. */
struct fl_image_job *fl_images_want(struct fl_images *images, const struct fl_image_wish *wish,
                                    fl_image_done_fn *done, void (*moved)(void *user), void *user);
void fl_image_job_cancel(struct fl_image_job *job); /* it is still done, with an error */
/* "pulling NAME: 12/80 MB" */
void fl_image_job_describe(struct fl_image_job *job, char *out, size_t size);
void fl_image_job_unref(struct fl_image_job *job);

/* After a restart: holds layers by name for a container that lives; false where one is not there.
 * With fl_images_unhold. */
bool fl_images_hold(struct fl_images *images, const char *const *layers, size_t count);
void fl_images_unhold(struct fl_images *images, const char *const *layers, size_t count);

/* What a pull secret says for a registry. False: nothing. Texts are in the arena. */
bool fl_pull_secret_find(struct fl_arena *arena, const char *secret, const char *registry,
                         const char **ret_username, const char **ret_password);

#endif
