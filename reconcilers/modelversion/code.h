/* The code that a model is for, out of the image that its learners ran in. Any thread. */
#ifndef FL_RECONCILERS_MODELVERSION_CODE_H
#define FL_RECONCILERS_MODELVERSION_CODE_H

#include "lib/blobs.h"

/* Unpacks it below `folder`, which is made and the caller's to remove, also after a failure.
 * *ret_code, in the arena, is where in there it begins. `image` is the digest of a manifest or an
 * index, of which any platform will do: code is the same on all. NOT_FOUND: the image is not among
 * the blobs, or has no code where images that are built here have theirs. */
int fl_model_code_unpack(struct fl_blobs *blobs, const char *image, const char *folder,
                         struct fl_arena *arena, const char **ret_code, struct fl_error *err);

#endif
