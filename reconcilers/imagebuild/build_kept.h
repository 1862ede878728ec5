/* Whole builds that were done before: what has the same key has the same result, so it is there at
 * once.
 *
 * The key is a digest over all that the result follows from: commit and folder (or the code
 * itself), platforms, target, backend, lock policy, arguments, model, and the builder, which is
 * this program byte by byte. It may be shown. What was built is kept in a file of the builder's
 * folder, under a name that also follows from the credentials that the code was fetched with: who
 * cannot fetch it does not get it from here either. Blocking; one thread. */
#ifndef FL_RECONCILERS_BUILD_KEPT_H
#define FL_RECONCILERS_BUILD_KEPT_H

#include "reconcilers/imagebuild/build.h"

/* "sha256:…". `programs` are those that go into the image. */
int fl_build_key(const struct fl_build *build, const struct fl_compose_program *programs,
                 size_t program_count, struct fl_arena *arena, const char **ret_key,
                 struct fl_error *err);

struct fl_build_kept {
    struct fl_composed composed;
    const char *backend, *lock_file; /* as in fl_built; in which dependencies stood: NULL */
    int64_t epoch_s;
};
/* False where it was not built, or not all of it is here any more. All content is pinned. */
bool fl_build_kept_get(const struct fl_build *build, const char *key, struct fl_blobs *blobs,
                       struct fl_arena *arena, struct fl_build_kept *ret_kept);
int fl_build_kept_put(const struct fl_build *build, const char *key,
                      const struct fl_build_kept *kept, struct fl_blobs *blobs,
                      struct fl_error *err);

#endif
