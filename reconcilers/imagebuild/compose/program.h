/* This program and what it needs to run, for any platform: all there is in the images of
 * aggregators and inference servers.
 *
 * The libraries come from Debian packages; of these only what the program's ELF file needs, and
 * what that needs in turn, is taken, together with the loader, certificates, and the few files that
 * programs expect (passwd, group, /tmp). Blocking; one thread. */
#ifndef FL_RECONCILERS_PROGRAM_H
#define FL_RECONCILERS_PROGRAM_H

#include "reconcilers/imagebuild/compose/packages.h"

#define FL_PROGRAM_PATH "usr/bin/flops"
#define FL_PROGRAM_USER 65532 /* named "flops" in passwd */

/* Debian packages that hold what the program is linked with, and certificates. */
extern const char *const fl_program_packages[];
extern const size_t fl_program_package_count;

/* What `flops serve` loads when it begins, and the Debian packages that hold it: of images that
 * serve only. */
extern const char *const fl_program_serving_packages[];
extern const size_t fl_program_serving_package_count;

/* Of a tree of unpacked packages, into `tree`: all that the file at `program` (on disk) needs, and
 * not the program itself, so that it can be a layer of its own; with `serves` what serving loads,
 * too. INVALID: it is made for another platform, or a library is in none of the packages. */
int fl_program_add_needs(struct fl_tree *tree, const struct fl_tree *packages,
                         const struct fl_platform *platform, const char *program, bool serves,
                         struct fl_error *err);

#endif
