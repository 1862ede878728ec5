/* Images put together natively: no root, no emulation, nothing of anybody's is run.
 *
 *   base          Debian packages: for learners Python and what this program needs, all of them;
 * for aggregators and inference servers of these only the libraries that are needed dependencies
 * wheels, from a lock or solved program       usr/bin/flops; for learners the adapter that runs the
 * user's Python code, too code          the user's folder, at opt/flops/code model         at
 * opt/flops/model/model.safetensors
 *
 * Layers are kept by a key made of all that goes into them, so what has not changed is not made
 * again, nor asked for: a lock that was solved for the same words stays for good, what Debian has
 * is asked for once a day. The same inputs give the same bytes, hence the same digests.
 *
 * Blocking; one thread a call; one process a folder at a time. */
#ifndef FL_RECONCILERS_COMPOSE_H
#define FL_RECONCILERS_COMPOSE_H

#include "api/gen/flops_types.h"
#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/oci/tree.h"
#include "reconcilers/imagebuild/compose/packages.h"
#include "reconcilers/imagebuild/recipe.h"

#define FL_IMAGE_CODE_FOLDER "opt/flops/code"
#define FL_IMAGE_MODEL_FILE  "opt/flops/model/model.safetensors"

/* This program, built for a platform. */
struct fl_compose_program {
    struct fl_platform platform;
    const char *path;
};

enum fl_stage_state { FL_STAGE_RUNNING = 1, FL_STAGE_DONE, FL_STAGE_CACHED, FL_STAGE_FAILED };

struct fl_compose_hooks {
    /* A part of the work begins, goes on (`message` says how far) or ends. May be NULL. */
    void (*stage)(void *user, const char *name, enum fl_stage_state state, const char *message);
    bool (*keep_going)(void *user); /* false breaks off: UNAVAILABLE. May be NULL. */
    void *user;
};

struct fl_compose {
    const struct fl_env *env;
    const char *folder;     /* state: keys of layers, locks, apt's; made where it is not there */
    struct fl_blobs *blobs; /* layers, packages, documents */
    enum fl_imagebuild_target target;
    const struct fl_platform *platforms;
    size_t platform_count;
    const struct fl_compose_program *programs; /* one for each platform at least */
    size_t program_count;
    const char *code;               /* of a learner: the user's folder */
    const struct fl_recipe *recipe; /* of a learner */
    const char *adapter;            /* of a learner: folder of the Python adapter; NULL: none */
    const char *model;              /* of an inference server: the file; NULL: it fetches its own */
    /* Images that were made elsewhere, one for each platform (manifests, in the blobs), which take
     * the place of base and dependencies: of program, libraries and adapter they get what they
     * lack. NULL: none. */
    const struct fl_oci_descriptor *bases;
    /* Images of which the layers take the place of dependencies, one for each platform. NULL: they
     * are composed. */
    const struct fl_oci_descriptor *dependencies;
    /* The base alone, with these packages of Debian's, too, ended by NULL: to build in. NULL: all.
     */
    const char *const *only_base_with;
    int64_t epoch_s;                     /* the time of all there is; since 1970 */
    const char *url, *revision;          /* where the code comes from; for annotations; NULL */
    struct fl_packages_options packages; /* sources, programs, deadline; the rest is filled in */
    struct fl_compose_hooks hooks;
};

struct fl_composed_platform {
    struct fl_platform platform;
    const char *digest; /* of its manifest */
    const char *base;   /* digest of the image it stands on; NULL: all of it is composed */
    int64_t size, unpacked_size;
    size_t layers, cached_layers;
    struct fl_package_lock debian, python; /* what is in it */
};
struct fl_composed {
    struct fl_oci_descriptor root; /* the index over all platforms; pinned, with all it names */
    int64_t size;                  /* each layer counted once */
    struct fl_composed_platform *platforms;
    size_t platform_count;
    size_t cache_hits, cache_misses;
    int64_t bytes_fetched;
};
/* What of a user's folder never goes into an image: .git, byte code, environments. As a `skip` of
 * fl_tree_add_tree. */
bool fl_compose_leaves_out(void *user, const char *path);

int fl_compose(const struct fl_compose *compose, struct fl_arena *arena,
               struct fl_composed *ret_composed, struct fl_error *err);

#endif
