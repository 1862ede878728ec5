/* Folders that belong to this installation, beside the program: installed they are in
 * ../lib/flops, in a build tree where they are made. Texts are in the arena; NULL: not there. */
#ifndef FL_CMD_PARTS_H
#define FL_CMD_PARTS_H

#include "lib/mem.h"

const char *fl_part_programs(struct fl_arena *arena); /* of other platforms */
const char *fl_part_adapter(struct fl_arena *arena); /* for Python: a tree, usr/bin/flops-trainer */
const char *fl_part_modules(struct fl_arena *arena); /* of it: what Python imports */
const char *fl_part_template(struct fl_arena *arena); /* the code that `flops init` writes */

#endif
