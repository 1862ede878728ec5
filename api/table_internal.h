/* Between table.c and table_builtin.c only. */
#ifndef FL_API_TABLE_INTERNAL_H
#define FL_API_TABLE_INTERNAL_H

#include "api/jsonpath.h"
#include "api/table.h"

/* A cell's value, new and the caller's. */
typedef json_t *table_cell_fn(const json_t *object, int64_t now_us);

struct table_column {
    const char *name, *type, *format, *description;
    int64_t priority;
    table_cell_fn *cell;      /* of a built-in kind */
    struct fl_jsonpath *path; /* of a custom one */
};

struct fl_table_columns {
    const struct table_column *columns;
    size_t count;
    struct table_column *owned; /* the same, where they end with this */
    struct fl_arena *arena;
};

json_t *fl_table_name_cell(const json_t *object, int64_t now_us);
/* The age of an RFC 3339 time: "<unknown>" of none. */
json_t *fl_table_age_cell(const char *time, int64_t now_us);

#endif
