/* The parts of a build among themselves. */
#ifndef FL_RECONCILERS_BUILD_INTERNAL_H
#define FL_RECONCILERS_BUILD_INTERNAL_H

#include "reconcilers/imagebuild/build.h"
#include "reconcilers/imagebuild/buildah/buildah.h"

struct fl_building {
    const struct fl_build *build;
    struct fl_arena *arena;
    struct fl_blobs *blobs;
    int lock;
    int64_t deadline_ms;
    struct fl_platform platforms[FL_BUILD_PLATFORMS_MAX];
    struct fl_compose_program programs[FL_BUILD_PLATFORMS_MAX];
    size_t program_count;
    const char *code; /* where it is on disk */
    int64_t epoch_s;
    struct fl_recipe recipe;
    const char *stage;
    /* What the image stands on, where that is not composed: one for each platform. */
    struct fl_oci_descriptor bases[FL_BUILD_PLATFORMS_MAX];
    bool has_bases;
    /* Images whose layers are the dependencies, where these were compiled. */
    struct fl_oci_descriptor dependencies[FL_BUILD_PLATFORMS_MAX];
    bool has_dependencies;
    struct fl_built built;
};

void fl_build_begin(struct fl_building *building, const char *stage, const char *message);
void fl_build_end(struct fl_building *building, const char *stage, int r,
                  const struct fl_error *err);
void fl_build_log(const struct fl_building *building, const char *line);
bool fl_build_keep_going(void *user); /* of a struct fl_building */

/* build_bases.c: the images to stand on, where a Containerfile makes them or spec.baseImage names
 * them; nothing where all is composed. */
int fl_build_make_bases(struct fl_building *building, struct fl_error *err);

/* Of an index the platform's image; the image itself otherwise. */
int fl_build_choose(struct fl_building *building, const struct fl_oci_descriptor *root,
                    const struct fl_platform *platform, struct fl_oci_descriptor *ret_manifest,
                    struct fl_error *err);
int fl_build_open_buildah(struct fl_building *building, struct fl_buildah **ret_buildah,
                          struct fl_error *err);
const char *fl_build_cache_name(const struct fl_building *building);
/* What is asked of compose; the caller may change it. */
struct fl_compose fl_build_composing(struct fl_building *building);

/* build_generated.c: dependencies where nothing but running their own build will do: into the base
 * image, or compiled in a base with compilers. */
#define FL_BUILD_BASE_NAME "flops-base"
int fl_build_install(struct fl_building *building, struct fl_buildah *buildah,
                     struct fl_error *err);
int fl_build_compile(struct fl_building *building, struct fl_error *err);
/* Whether compose failed because something must be compiled. */
bool fl_build_must_compile(const struct fl_building *building, int r, const struct fl_error *err);

#endif
