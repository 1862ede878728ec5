#include "api/jsonpath.h"
#include "api/table.h"
#include "lib/str.h"

#include <ctype.h>

/* Tables as aligned text. A cell is as wide as the widest of its column and three spaces, and at
 * least six; the last of a line is not padded. */

#define PADDING   3u
#define MIN_WIDTH 6u

struct grid {
    struct fl_arena *arena;
    const char **cells; /* row by row */
    size_t count, cap;
};

/* What a terminal would take as a command becomes visible; the text ends with its first line. */
static const char *clean(struct fl_arena *arena, const char *text)
{
    struct fl_buf out;
    const char *cleaned;
    size_t len = strcspn(text, "\f\n\r");

    if (!text[len] && !strpbrk(text, "\x1B\t\v"))
        return fl_arena_strdup(arena, text);
    fl_buf_init(&out, 0);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\x1B')
            fl_buf_puts(&out, "^[");
        else
            fl_buf_putc(&out, text[i] == '\t' || text[i] == '\v' ? ' ' : text[i]);
    }
    if (text[len])
        fl_buf_puts(&out, "...");
    cleaned = fl_arena_strdup(arena, fl_buf_text(&out));
    fl_buf_finish(&out);
    return cleaned;
}

static const char *cell_text(struct fl_arena *arena, const json_t *cell)
{
    struct fl_buf text;
    const char *copy;

    if (!cell || json_is_null(cell))
        return "";
    if (json_is_string(cell))
        return clean(arena, json_string_value(cell));
    fl_buf_init(&text, 0);
    fl_jsonpath_print_value(&text, cell);
    copy = clean(arena, fl_buf_text(&text));
    fl_buf_finish(&text);
    return copy;
}

static const char *upper(struct fl_arena *arena, const char *text)
{
    char *copy = fl_arena_strdup(arena, text);

    for (char *c = copy; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return copy;
}

static void put(struct grid *grid, const char *text)
{
    if (grid->count == grid->cap) {
        size_t cap = grid->cap ? grid->cap * 2 : 64;
        const char **cells = fl_new_array(grid->arena, const char *, cap);

        if (grid->count)
            memcpy(cells, grid->cells, grid->count * sizeof(*cells));
        grid->cells = cells;
        grid->cap = cap;
    }
    grid->cells[grid->count++] = text;
}

static const char *labels_text(struct fl_arena *arena, const json_t *object)
{
    const char *all = "", *key;
    json_t *value;

    json_object_foreach(fl_json_path(object, "metadata.labels"), key, value)
        all = fl_arena_printf(arena, "%s%s%s=%s", all, *all ? "," : "", key,
                              fl_str_or(json_string_value(value), ""));
    return *all ? clean(arena, all) : "<none>";
}

static bool shown(const json_t *column, const struct fl_table_print_options *options)
{
    return options->wide || fl_json_int(column, "priority", 0) == 0;
}

static void put_header(struct grid *grid, const json_t *columns,
                       const struct fl_table_print_options *options)
{
    json_t *column;
    size_t i;

    if (options->event)
        put(grid, "EVENT");
    if (options->with_namespace)
        put(grid, "NAMESPACE");
    json_array_foreach((json_t *)columns, i, column) {
        if (shown(column, options))
            put(grid, upper(grid->arena, fl_str_or(fl_json_str(column, "name"), "")));
    }
    if (options->show_labels)
        put(grid, "LABELS");
}

static void put_row(struct grid *grid, const json_t *columns, const json_t *row,
                    const struct fl_table_print_options *options)
{
    const json_t *cells = json_object_get(row, "cells"), *object = json_object_get(row, "object");
    bool named = false;
    json_t *column;
    size_t i;

    if (options->event)
        put(grid, options->event);
    if (options->with_namespace)
        put(grid, cell_text(grid->arena, fl_json_path(object, "metadata.namespace")));
    json_array_foreach((json_t *)columns, i, column) {
        const char *text = cell_text(grid->arena, json_array_get(cells, i));

        if (options->kind && !named && fl_streq(fl_json_str(column, "format"), "name")) {
            text = fl_arena_printf(grid->arena, "%s/%s", options->kind, text);
            named = true;
        }
        if (shown(column, options))
            put(grid, text);
    }
    if (options->show_labels)
        put(grid, labels_text(grid->arena, object));
}

static size_t width_of(const char *text)
{
    return fl_utf8_count(text, strlen(text));
}

static void write_grid(const struct grid *grid, size_t columns, size_t *kept_widths,
                       struct fl_buf *out)
{
    size_t *widths = kept_widths && columns <= FL_TABLE_WIDTHS_MAX
                         ? kept_widths
                         : fl_new_array(grid->arena, size_t, columns + 1);

    for (size_t i = 0; i < grid->count; i++) {
        size_t width = width_of(grid->cells[i]) + PADDING;

        if (width < MIN_WIDTH)
            width = MIN_WIDTH;
        if (width > widths[i % columns])
            widths[i % columns] = width;
    }
    for (size_t i = 0; i < grid->count; i++) {
        size_t column = i % columns;

        fl_buf_puts(out, grid->cells[i]);
        if (column + 1 == columns) {
            fl_buf_putc(out, '\n');
            continue;
        }
        for (size_t pad = width_of(grid->cells[i]); pad < widths[column]; pad++)
            fl_buf_putc(out, ' ');
    }
}

void fl_table_print(const json_t *table, const struct fl_table_print_options *options,
                    struct fl_buf *out)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const json_t *columns = json_object_get(table, "columnDefinitions");
    const json_t *rows = json_object_get(table, "rows");
    struct grid grid = {.arena = arena};
    size_t width = (options->event != NULL) + options->with_namespace + options->show_labels;
    json_t *item;
    size_t i;

    if (json_array_size(columns) == 0)
        columns = options->columns;
    if (json_array_size(rows) == 0)
        return;
    json_array_foreach((json_t *)columns, i, item)
        width += shown(item, options);
    if (width == 0)
        return;
    if (!options->no_headers)
        put_header(&grid, columns, options);
    json_array_foreach((json_t *)rows, i, item)
        put_row(&grid, columns, item, options);
    write_grid(&grid, width, options->widths, out);
}
