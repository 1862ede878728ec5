/* Within the images of a machine. */
#ifndef FL_RECONCILERS_LOCAL_IMAGES_INTERNAL_H
#define FL_RECONCILERS_LOCAL_IMAGES_INTERNAL_H

#include "reconcilers/workload/local/images.h"

#include "lib/map.h"
#include "lib/thread.h"

#define LAYER_NAME_SIZE 25 /* 24 hex digits: short enough for 128 of them in one mount */

struct layer {
    char name[LAYER_NAME_SIZE];
    int64_t bytes, used_us;
    unsigned holds;
    bool making; /* not there yet */
};

struct fl_images {
    const struct fl_env *env;
    char *path, *layers_folder;
    struct fl_image_source source;
    bool overlay, keep_owners, closing;
    int64_t max_layer_bytes, unpacked_max_bytes;
    struct fl_blobs *blobs;
    struct fl_lock *lock;
    struct fl_signal *changed; /* of jobs and layers */
    struct fl_map *layers;     /* name → struct layer */
    int64_t layer_bytes, next_number;
    struct fl_image_job *first, *last; /* that wait */
    struct fl_thread **threads;
    size_t thread_count;
    struct fl_map *busy; /* references that are being pulled */
};

struct fl_image_job {
    struct fl_images *images;
    struct fl_image_job *next;
    unsigned refs;
    bool cancelled;
    struct fl_arena *arena;
    struct fl_image_wish wish;
    fl_image_done_fn *done;
    void (*moved)(void *user);
    void *user;
    int64_t deadline_ms;
    const char *stage; /* "waiting", "pulling", "unpacking" */
    int64_t bytes, total, told_ms;
};

/* What an image is made of, in memory. */
struct made_image {
    struct fl_image image; /* first: what others have */
    struct fl_images *images;
    struct fl_arena *arena;
};

/* images_layers.c */
int layers_open(struct fl_images *images, struct fl_error *err);
/* Unpacks it where it is not there, and holds it. */
int layers_take(struct fl_image_job *job, const char *diff_id, const struct fl_oci_descriptor *blob,
                char name[LAYER_NAME_SIZE], struct fl_error *err);
bool layers_have(struct fl_images *images, const char *diff_id);
int layer_unpack(struct fl_image_job *job, const char *diff_id,
                 const struct fl_oci_descriptor *blob, const char *folder, bool for_overlay,
                 int64_t *ret_bytes, struct fl_error *err);

/* images_pull.c */
int image_fetch(struct fl_image_job *job, struct made_image *made, struct fl_error *err);

/* images.c */
bool job_goes_on(void *job); /* any thread */
void job_stage(struct fl_image_job *job, const char *stage, int64_t bytes, int64_t total);

#endif
