/* Says what kind of training code a folder holds, and whether an image can be built of it. */
#ifndef FL_CMD_TRY_CODE_H
#define FL_CMD_TRY_CODE_H

#include "lib/mem.h"

void fl_try_look_at(struct fl_arena *arena, const char *folder);

#endif
