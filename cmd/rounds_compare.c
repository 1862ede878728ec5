#include "cmd/rounds_compare.h"

#include "lib/str.h"
#include "lib/text.h"

#include <inttypes.h>
#include <stdlib.h>

#define COLUMNS_MAX (FL_ROUNDS_COMPARED_MAX + 2)
#define GAP         3

static const json_t *find_round(const struct fl_rounds *rounds, int64_t number)
{
    for (size_t i = 0; i < rounds->count; i++)
        if (fl_round_number(rounds->items[i]) == number)
            return rounds->items[i];
    return NULL;
}

static const char *value_of(const struct fl_rounds *rounds, int64_t number)
{
    const json_t *metrics = fl_json_path(find_round(rounds, number), "status.metrics");
    const char *text =
        json_string_value(json_object_get(json_object_get(metrics, "evaluation"), rounds->metric));

    if (!text)
        text =
            json_string_value(json_object_get(json_object_get(metrics, "train"), rounds->metric));
    return fl_str_or(text, "");
}

/* The lowest number above `after` that one of them has; 0: none. */
static int64_t next_number(const struct fl_rounds_compared *items, size_t count, int64_t after)
{
    int64_t next = 0;

    for (size_t i = 0; i < count; i++)
        for (size_t n = 0; n < items[i].rounds.count; n++) {
            int64_t number = fl_round_number(items[i].rounds.items[n]);

            if (number > after && (next == 0 || number < next))
                next = number;
        }
    return next;
}

static const char *difference(struct fl_arena *arena, const char *a, const char *b)
{
    char *end_a = NULL, *end_b = NULL;
    double x = strtod(a, &end_a), y = strtod(b, &end_b);

    return *a && *b && !*end_a && !*end_b ? fl_arena_printf(arena, "%+.6g", y - x) : "";
}

static size_t put_cells(const struct fl_rounds_compared *items, size_t count, int64_t number,
                        bool with_difference, const char *cells[COLUMNS_MAX])
{
    struct fl_arena *arena = items[0].rounds.arena;
    size_t columns = 0;

    cells[columns++] = number ? fl_arena_printf(arena, "%" PRId64, number) : "round";
    for (size_t i = 0; i < count; i++)
        cells[columns++] = number ? value_of(&items[i].rounds, number) : items[i].project;
    if (with_difference && count == 2)
        cells[columns++] = number ? difference(arena, cells[1], cells[2]) : "difference";
    return columns;
}

static void widen(size_t widths[COLUMNS_MAX], const char *const cells[COLUMNS_MAX], size_t columns)
{
    for (size_t i = 0; i < columns; i++) {
        size_t width = fl_text_columns(cells[i]);

        widths[i] = width > widths[i] ? width : widths[i];
    }
}

static void put_row(struct fl_buf *out, const char *const cells[COLUMNS_MAX], size_t columns,
                    const size_t widths[COLUMNS_MAX])
{
    for (size_t i = 0; i < columns; i++) {
        size_t put = fl_text_put(out, cells[i], SIZE_MAX, true);

        for (; i + 1 < columns && put < widths[i] + GAP; put++)
            fl_buf_putc(out, ' ');
    }
    fl_buf_putc(out, '\n');
}

void fl_rounds_compare_table(const struct fl_rounds_compared *items, size_t count,
                             struct fl_buf *out)
{
    const char *cells[COLUMNS_MAX];
    size_t widths[COLUMNS_MAX] = {0}, columns = put_cells(items, count, 0, true, cells);

    widen(widths, cells, columns);
    for (int64_t n = 0; (n = next_number(items, count, n)) > 0;) {
        (void)put_cells(items, count, n, true, cells);
        widen(widths, cells, columns);
    }
    (void)put_cells(items, count, 0, true, cells);
    put_row(out, cells, columns, widths);
    for (int64_t n = 0; (n = next_number(items, count, n)) > 0;) {
        (void)put_cells(items, count, n, true, cells);
        put_row(out, cells, columns, widths);
    }
}

void fl_rounds_compare_csv(const struct fl_rounds_compared *items, size_t count, struct fl_buf *out)
{
    const char *cells[COLUMNS_MAX];
    int64_t n = 0;

    do {
        size_t columns = put_cells(items, count, n, false, cells);

        for (size_t i = 0; i < columns; i++)
            fl_buf_printf(out, "%s%s", i > 0 ? "," : "", cells[i]);
        fl_buf_putc(out, '\n');
    } while ((n = next_number(items, count, n)) > 0);
}

json_t *fl_rounds_compare_json(const struct fl_rounds_compared *items, size_t count)
{
    json_t *projects = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *rounds = json_array();

        for (size_t n = 0; n < items[i].rounds.count; n++)
            (void)json_array_append(rounds, (json_t *)items[i].rounds.items[n]);
        (void)json_array_append_new(
            projects, json_pack("{s:s, s:o}", "project", items[i].project, "rounds", rounds));
    }
    return json_pack("{s:s, s:o}", "metric", items[0].rounds.metric, "projects", projects);
}
