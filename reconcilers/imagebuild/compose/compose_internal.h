/* The parts of compose among themselves. */
#ifndef FL_RECONCILERS_COMPOSE_INTERNAL_H
#define FL_RECONCILERS_COMPOSE_INTERNAL_H

#include "lib/map.h"
#include "reconcilers/imagebuild/compose/compose.h"
#include "reconcilers/imagebuild/compose/kept.h"

#define COMPOSE_LAYERS_MAX FL_OCI_LAYERS_MAX
#define COMPOSE_OWN_LAYERS 8 /* at most, of those */

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

/* What an image stands on that was made elsewhere. */
struct compose_base {
    const char *digest; /* of its manifest; NULL: there is none */
    struct fl_oci_config config;
    struct fl_map *paths; /* all that is in it; NULL: not listed yet */
};

/* One image: what its layers are. */
struct compose_image {
    struct compose_work *work;
    size_t index; /* of the platform */
    const struct fl_platform *platform;
    const char *program;
    struct fl_composed_platform *result;
    struct fl_layer layers[COMPOSE_LAYERS_MAX];
    const char *purposes[COMPOSE_LAYERS_MAX];
    size_t count;
    const char *python; /* "3.11" */
    struct compose_base base;
};

/* compose_documents.c: configuration and manifest of an image whose layers are there, and the index
 * over all of them, into the content store. */
int compose_put_manifest(struct compose_image *image, struct fl_oci_descriptor *ret_manifest,
                         struct fl_error *err);
int compose_put_index(struct compose_work *work, struct fl_oci_descriptor *manifests,
                      struct fl_error *err);

/* compose_base.c: the layers and the configuration of the base into `image`; what is in it (reads
 * all of it, once); and of what a program needs that which the base has not. */
int compose_base_read(struct compose_image *image, const struct fl_oci_descriptor *root,
                      struct fl_error *err);
/* The layers of an image that was made elsewhere, on top of what is there. */
int compose_take_layers(struct compose_image *image, const struct fl_oci_descriptor *root,
                        const char *purpose, struct fl_error *err);
int compose_base_list(struct compose_image *image, struct fl_error *err);
bool compose_base_has(const struct compose_image *image, const char *path);
int compose_base_add_missing(struct compose_image *image, struct fl_tree *tree,
                             const struct fl_tree *needs, struct fl_error *err);
void compose_base_finish(struct compose_image *image);

#endif
