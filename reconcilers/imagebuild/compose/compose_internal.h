/* The parts of compose among themselves. */
#ifndef FL_RECONCILERS_COMPOSE_INTERNAL_H
#define FL_RECONCILERS_COMPOSE_INTERNAL_H

#include "reconcilers/imagebuild/compose/compose.h"
#include "reconcilers/imagebuild/compose/kept.h"

#define COMPOSE_LAYERS_MAX 8

struct compose_work {
    const struct fl_compose *compose;
    struct fl_arena *arena;
    struct fl_kept kept;
    struct fl_packages *packages; /* opened when it is first needed */
    struct fl_composed composed;
    const char *stage;    /* under way */
    const char **scratch; /* folders to remove; NULL-ended */
    size_t scratch_count;
};

/* One image: what its layers are. */
struct compose_image {
    struct compose_work *work;
    const struct fl_platform *platform;
    const char *program;
    struct fl_composed_platform *result;
    struct fl_layer layers[COMPOSE_LAYERS_MAX];
    const char *purposes[COMPOSE_LAYERS_MAX];
    size_t count;
    const char *python; /* "3.11" */
};

/* compose_documents.c: configuration and manifest of an image whose layers are there, and the index
 * over all of them, into the content store. */
int compose_put_manifest(struct compose_image *image, struct fl_oci_descriptor *ret_manifest,
                         struct fl_error *err);
int compose_put_index(struct compose_work *work, struct fl_oci_descriptor *manifests,
                      struct fl_error *err);

#endif
