/* Rounds whose FLRounds are gone: what FLHistories keep of them, in the form of FLRounds, so that
 * all that shows rounds shows them, too. Pure. */
#ifndef FL_CMD_ROUNDS_HISTORY_H
#define FL_CMD_ROUNDS_HISTORY_H

#include "cmd/rounds_show.h"

/* `histories`: a list's items. Those that are there as FLRounds already are left out. Adds to
 * rounds->items, which is made anew in the arena, and sorts. */
void fl_rounds_add_history(struct fl_rounds *rounds, const json_t *histories);

#endif
