/* How far something is, on standard error: one line that moves on a terminal, else a line now and
 * then; nothing where it is done within a second. One thread. */
#ifndef FL_CMD_PROGRESS_H
#define FL_CMD_PROGRESS_H

#include "lib/env.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_progress {
    const struct fl_env *env;
    const char *what;  /* "fetching" */
    int64_t done, all; /* bytes; all < 0: not known */
    int64_t began_ms, shown_ms;
    bool live, shown;
};

struct fl_progress fl_progress_begin(const struct fl_env *env, const char *what, int64_t all);
void fl_progress_tell(struct fl_progress *progress, int64_t done);
void fl_progress_end(struct fl_progress *progress);

#endif
