/* Rounds of a project as a table, a curve, or comma-separated values. Pure; rounds are lent,
 * strings live in the arena. */
#ifndef FL_CMD_ROUNDS_SHOW_H
#define FL_CMD_ROUNDS_SHOW_H

#include "lib/json.h"

struct fl_rounds {
    struct fl_arena *arena;
    const char *metric;
    const json_t **items; /* by number */
    size_t count;
};

int64_t fl_round_number(const json_t *round);
/* Whether it has come to its end: its model is stored, or it has failed for good. */
bool fl_round_is_over(const json_t *round);
void fl_rounds_sort(struct fl_rounds *rounds);

/* Lines; a table's begin with one of names. */
void fl_rounds_table(const struct fl_rounds *rounds, bool newest_first, struct fl_buf *out);
void fl_rounds_csv(const struct fl_rounds *rounds, struct fl_buf *out);
/* At most `columns` wide, with the metric's name above it. Nothing where nothing was measured. */
void fl_rounds_chart(const struct fl_rounds *rounds, size_t columns, bool utf8, struct fl_buf *out);
/* One that is over in one line, without its newline; `total`: how many are wanted, 0: not known. */
void fl_rounds_line(const struct fl_rounds *rounds, const json_t *round, int64_t total,
                    struct fl_buf *out);

#endif
