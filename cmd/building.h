/* What builds take from this installation and its surroundings: programs of other platforms, the
 * adapter for Python, and of the environment what apt, pip and uv go by. */
#ifndef FL_CMD_BUILDING_H
#define FL_CMD_BUILDING_H

#include "reconcilers/imagebuild/build.h"

/* Fills in env, folder (below `data_dir`), program, programs, adapter, version, signing_key (which
 * is made where it is not there) and packages_env; texts are in the arena. */
int fl_building_prepare(const struct fl_env *env, const char *data_dir, struct fl_arena *arena,
                        struct fl_build *build, struct fl_error *err);

#endif
