/* Images as folders that other tools read and write: OCI image layouts (oci-layout, index.json,
 * blobs/sha256/…).
 *
 * What is read comes from strangers: bounded, every digest and size checked, no link followed
 * inside the folder, nothing but regular files read. What is written is there in the end: blobs
 * first, each under a temporary name until it is whole, index.json last and at once; a folder that
 * is a layout already keeps the images that it has. One process writes a layout at a time. Any
 * thread. */
#ifndef FL_LIB_OCI_LAYOUT_H
#define FL_LIB_OCI_LAYOUT_H

#include "lib/blobs.h"
#include "lib/oci/closure.h"

/* All that `root` in `blobs` names, and `tag` for it (NULL: none), which another image that had it
 * loses. The folder is made where it is not there; CONFLICT where it is something else. */
int fl_layout_write(const char *path, struct fl_blobs *blobs, const struct fl_oci_descriptor *root,
                    const char *tag, struct fl_error *err);

/* The image of that tag, or of that digest (NULL: the only one), into `blobs`, each part with one
 * pin. NOT_FOUND, with what there is; INVALID. */
int fl_layout_read(const char *path, const char *tag, struct fl_blobs *blobs,
                   struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err);

/* What index.json lists. */
int fl_layout_list(const char *path, struct fl_arena *arena, struct fl_oci_descriptors *ret_images,
                   struct fl_error *err);

#endif
