#include "cmd/rounds_show.h"

#include "cmd/chart.h"
#include "cmd/condition.h"
#include "lib/str.h"
#include "lib/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHART_HEIGHT 8
#define CHART_MIN    20
#define MARGIN       14 /* of the scale */
#define CELLS        9
#define GAP          3
#define DIGITS       12 /* of a digest */

int64_t fl_round_number(const json_t *round)
{
    return fl_json_int(round, "status.index", fl_json_int(round, "spec.index", 0));
}

static int compare(const void *a, const void *b)
{
    const int64_t x = fl_round_number(*(const json_t *const *)a),
                  y = fl_round_number(*(const json_t *const *)b);

    return (x > y) - (x < y);
}

void fl_rounds_sort(struct fl_rounds *rounds)
{
    qsort(rounds->items, rounds->count, sizeof(*rounds->items), compare);
}

bool fl_round_is_over(const json_t *round)
{
    return fl_condition_is_true(round, "Ready") || fl_condition_is_true(round, "Stalled");
}

static const char *metric_of(const json_t *round, const char *kind, const char *name)
{
    const json_t *metrics = json_object_get(fl_json_path(round, "status.metrics"), kind);

    return json_string_value(json_object_get(metrics, name));
}

/* Cells */

static const char *const names[CELLS] = {"round", "attempt",  "learners", "examples", "loss",
                                         NULL,    "duration", "model",    "status"};

static const char *name_of(const struct fl_rounds *rounds, size_t i)
{
    return names[i] ? names[i] : rounds->metric;
}

static void fill(const struct fl_rounds *rounds, const json_t *round, const char *cells[CELLS])
{
    struct fl_arena *arena = rounds->arena;
    const char *model = fl_json_str(round, "status.model.digest");

    cells[0] = fl_arena_printf(arena, "%" PRId64, fl_round_number(round));
    cells[1] = fl_arena_printf(arena, "%" PRId64, fl_json_int(round, "status.attempt", 0));
    cells[2] = fl_json_str(round, "status.participants.summary");
    cells[3] = fl_arena_printf(arena, "%" PRId64, fl_json_int(round, "status.examples", 0));
    cells[4] = metric_of(round, "train", "loss");
    cells[5] = metric_of(round, "evaluation", rounds->metric);
    cells[6] = fl_json_str(round, "status.durations.total");
    cells[7] = model && fl_str_has_prefix(model, "sha256:")
                   ? fl_arena_strndup(arena, model + strlen("sha256:"), DIGITS)
                   : NULL;
    cells[8] = fl_condition(round, "Ready", "reason");
    for (size_t i = 0; i < CELLS; i++)
        cells[i] = fl_str_or(cells[i], "");
}

void fl_rounds_csv(const struct fl_rounds *rounds, struct fl_buf *out)
{
    for (size_t c = 0; c < CELLS; c++)
        fl_buf_printf(out, "%s%s", c > 0 ? "," : "", name_of(rounds, c));
    for (size_t i = 0; i < rounds->count; i++) {
        const char *cells[CELLS];

        fill(rounds, rounds->items[i], cells);
        for (size_t c = 0; c < CELLS; c++)
            fl_buf_printf(out, "%s%s", c > 0 ? "," : "\n", cells[c]);
    }
    fl_buf_putc(out, '\n');
}

static void put_row(struct fl_buf *out, const char *const cells[CELLS], const size_t widths[CELLS])
{
    for (size_t c = 0; c < CELLS; c++) {
        const size_t columns = fl_text_put(out, cells[c], SIZE_MAX, true);

        for (size_t i = columns; c + 1 < CELLS && i < widths[c] + GAP; i++)
            fl_buf_putc(out, ' ');
    }
    fl_buf_putc(out, '\n');
}

void fl_rounds_table(const struct fl_rounds *rounds, bool newest_first, struct fl_buf *out)
{
    const char *(*rows)[CELLS] =
        (void *)fl_new_array(rounds->arena, const char *, (rounds->count + 1) * CELLS);
    size_t widths[CELLS] = {0};

    for (size_t c = 0; c < CELLS; c++)
        rows[0][c] = name_of(rounds, c);
    for (size_t i = 0; i < rounds->count; i++)
        fill(rounds, rounds->items[newest_first ? rounds->count - 1 - i : i], rows[i + 1]);
    for (size_t i = 0; i <= rounds->count; i++)
        for (size_t c = 0; c < CELLS; c++) {
            const size_t width = fl_text_columns(rows[i][c]);

            widths[c] = width > widths[c] ? width : widths[c];
        }
    for (size_t i = 0; i <= rounds->count; i++)
        put_row(out, rows[i], widths);
}

/* Others */

void fl_rounds_chart(const struct fl_rounds *rounds, size_t columns, bool utf8, struct fl_buf *out)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf curve = {0};
    double *values = fl_new_array(rounds->arena, double, rounds->count + 1);
    struct fl_chart chart = {.values = values,
                             .count = rounds->count,
                             .width = columns > CHART_MIN + MARGIN ? columns - MARGIN : CHART_MIN,
                             .height = CHART_HEIGHT,
                             .plain = !utf8};

    if (rounds->count == 0)
        return;
    for (size_t i = 0; i < rounds->count; i++) {
        const char *value = metric_of(rounds->items[i], "evaluation", rounds->metric);

        values[i] = value ? strtod(value, NULL) : NAN;
    }
    chart.first =
        fl_arena_printf(rounds->arena, "round %" PRId64, fl_round_number(rounds->items[0]));
    chart.last = fl_arena_printf(rounds->arena, "%" PRId64,
                                 fl_round_number(rounds->items[rounds->count - 1]));
    fl_chart_draw(&curve, &chart);
    if (curve.len == 0)
        return;
    (void)fl_text_put(out, rounds->metric, columns, utf8);
    fl_buf_printf(out, "\n%s", fl_buf_text(&curve));
}

static void add(struct fl_buf *line, const char *name, const char *value)
{
    if (value && *value)
        fl_buf_printf(line, "  %s%s%s", name, *name ? " " : "", value);
}

void fl_rounds_line(const struct fl_rounds *rounds, const json_t *round, int64_t total,
                    struct fl_buf *out)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf line = {0};
    const char *cells[CELLS];

    fill(rounds, round, cells);
    fl_buf_printf(&line, "round %s", cells[0]);
    if (total > 0)
        fl_buf_printf(&line, "/%" PRId64, total);
    add(&line, rounds->metric, cells[5]);
    add(&line, "loss", cells[4]);
    add(&line, "learners", cells[2]);
    add(&line, "", cells[6]);
    add(&line, "", cells[8]);
    if (fl_condition_is_true(round, "Stalled"))
        fl_buf_printf(&line, ": %s", fl_str_or(fl_condition(round, "Ready", "message"), ""));
    (void)fl_text_put(out, fl_buf_text(&line), SIZE_MAX, true);
}
