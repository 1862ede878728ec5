/* The parts of buildah among themselves. */
#ifndef FL_RECONCILERS_BUILDAH_INTERNAL_H
#define FL_RECONCILERS_BUILDAH_INTERNAL_H

#include "lib/buf.h"
#include "lib/run.h"
#include "reconcilers/imagebuild/buildah/buildah.h"

#define BUILDAH_ARGUMENTS_MAX 256

struct fl_buildah {
    struct fl_buildah_options options;
    struct fl_arena *arena;
    const char *program, *setpriv, *unshare;
    const char *driver;
    const char *const *env;
};

/* A command line that grows. */
struct buildah_words {
    struct fl_arena *arena;
    const char *argv[BUILDAH_ARGUMENTS_MAX + 1];
    size_t count;
};
void buildah_say(struct buildah_words *words, const char *word);
/* The program in namespaces of its own, and which store it works on. */
void buildah_begin(struct fl_buildah *buildah, struct fl_arena *arena, struct buildah_words *words);

/* buildah_run.c: to its end. Lines go to the log where `is_told`; how many there were is in
 * `*ret_lines` (may be NULL). INVALID with the last ones where the program fails. */
int buildah_run(struct fl_buildah *buildah, const struct buildah_words *words, bool is_told,
                size_t *ret_lines, struct fl_error *err);

#endif
