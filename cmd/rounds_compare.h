/* One metric of several projects beside each other, round by round. Pure. */
#ifndef FL_CMD_ROUNDS_COMPARE_H
#define FL_CMD_ROUNDS_COMPARE_H

#include "cmd/rounds_show.h"

#define FL_ROUNDS_COMPARED_MAX 8

struct fl_rounds_compared {
    const char *project;
    struct fl_rounds rounds; /* sorted */
};

/* A line a round that any of them has, after one of names; a cell is empty where it has none. The
 * last column of the table is the second's less the first's, where there are two. */
void fl_rounds_compare_table(const struct fl_rounds_compared *items, size_t count,
                             struct fl_buf *out);
void fl_rounds_compare_csv(const struct fl_rounds_compared *items, size_t count,
                           struct fl_buf *out);
/* {"metric": …, "projects": [{"project", "rounds": [FLRound, …]}]}; the caller's. */
json_t *fl_rounds_compare_json(const struct fl_rounds_compared *items, size_t count);

#endif
