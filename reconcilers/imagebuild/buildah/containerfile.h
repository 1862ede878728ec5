/* Containerfiles of strangers as texts: what must be known of one before it is built, and what is
 * refused because the builder would let it out of its folder. A pure function. */
#ifndef FL_RECONCILERS_CONTAINERFILE_H
#define FL_RECONCILERS_CONTAINERFILE_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>

#define FL_CONTAINERFILE_MAX ((size_t)1024 * 1024)

struct fl_containerfile {
    size_t stages; /* lines FROM */
    bool runs;     /* a line RUN: something is executed for the platform */
};
/* INVALID, with the line: there is no FROM; an image is named by a path of this machine ("oci:/…");
 * RUN mounts a folder (bind, or a cache under a name with '/' or ".."), which older builders do not
 * keep within the context; the character that continues lines is changed. All else is the
 * builder's to refuse. */
int fl_containerfile_read(const char *text, size_t len, struct fl_containerfile *ret_containerfile,
                          struct fl_error *err);

#endif
