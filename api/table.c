#include "api/table_internal.h"
#include "lib/env.h"
#include "lib/str.h"

#include <math.h>
#include <stdlib.h>

void fl_duration_human(int64_t duration_us, char out[FL_DURATION_TEXT_SIZE])
{
    const size_t size = FL_DURATION_TEXT_SIZE;
    long long seconds = duration_us / 1000000, minutes = seconds / 60, hours = minutes / 60;
    long long days = hours / 24;

    /* clocks differ: a little in the future is now */
    if (seconds < -1)
        (void)snprintf(out, size, "<invalid>");
    else if (seconds < 0)
        (void)snprintf(out, size, "0s");
    else if (seconds < 120)
        (void)snprintf(out, size, "%llds", seconds);
    else if (minutes < 10 && seconds % 60)
        (void)snprintf(out, size, "%lldm%llds", minutes, seconds % 60);
    else if (minutes < 180)
        (void)snprintf(out, size, "%lldm", minutes);
    else if (hours < 8 && minutes % 60)
        (void)snprintf(out, size, "%lldh%lldm", hours, minutes % 60);
    else if (hours < 48)
        (void)snprintf(out, size, "%lldh", hours);
    else if (hours < 192 && hours % 24)
        (void)snprintf(out, size, "%lldd%lldh", days, hours % 24);
    else if (days < 2 * 365)
        (void)snprintf(out, size, "%lldd", days);
    else if (days < 8 * 365 && days % 365)
        (void)snprintf(out, size, "%lldy%lldd", days / 365, days % 365);
    else
        (void)snprintf(out, size, "%lldy", days / 365);
}

json_t *fl_table_name_cell(const json_t *object, int64_t now_us)
{
    (void)now_us;
    return json_string(fl_str_or(fl_json_str(object, "metadata.name"), ""));
}

json_t *fl_table_age_cell(const char *time, int64_t now_us)
{
    char text[FL_DURATION_TEXT_SIZE];
    int64_t time_us;

    if (!time || !*time || !strcmp(time, "null"))
        return json_string("<unknown>");
    if (!fl_time_parse(time, &time_us))
        return json_string("<invalid>");
    fl_duration_human(now_us - time_us, text);
    return json_string(text);
}

bool fl_table_include_parse(const char *text, enum fl_table_include *ret_include)
{
    if (!*text || !strcmp(text, "Metadata"))
        *ret_include = FL_TABLE_METADATA;
    else if (!strcmp(text, "Object"))
        *ret_include = FL_TABLE_OBJECT;
    else if (!strcmp(text, "None"))
        *ret_include = FL_TABLE_NONE;
    else
        return false;
    return true;
}

/* Custom columns */

static const struct table_column name_column = {
    .name = "Name",
    .type = "string",
    .format = "name",
    .description = "Name of the object, unique within its namespace and kind.",
    .cell = fl_table_name_cell,
};

static const char *member(struct fl_arena *arena, const json_t *column, const char *key)
{
    return fl_arena_strdup(arena, fl_str_or(fl_json_str(column, key), ""));
}

static int compile_column(struct fl_arena *arena, const json_t *json, struct table_column *column,
                          struct fl_error *err)
{
    const struct fl_jsonpath_options options = {.allow_missing = true};
    const char *path = fl_str_or(fl_json_str(json, "jsonPath"), "");
    int r;

    column->name = member(arena, json, "name");
    column->type = member(arena, json, "type");
    column->format = member(arena, json, "format");
    column->description = member(arena, json, "description");
    column->priority = fl_json_int(json, "priority", 0);
    if (!*column->description)
        column->description = fl_arena_printf(
            arena, "Custom resource definition column (in JSONPath format): %s", path);
    r = fl_jsonpath_compile(path, &options, &column->path, err);
    return r < 0 ? fl_error_wrap(err, "unrecognized column definition \"%.200s\"", path) : 0;
}

int fl_table_columns_create(const json_t *printer_columns, struct fl_table_columns **ret_columns,
                            struct fl_error *err)
{
    FL_CLEANUP(fl_table_columns_destroyp)
    struct fl_table_columns *columns = fl_calloc(1, sizeof(*columns));
    FL_JSON age = NULL;
    size_t count = json_array_size(printer_columns);

    if (count == 0) {
        age = json_pack("[{s:s, s:s, s:s, s:s}]", "name", "Age", "type", "date", "jsonPath",
                        ".metadata.creationTimestamp", "description",
                        "How long ago the object was created.");
        printer_columns = age;
        count = 1;
    }
    columns->arena = fl_arena_create();
    columns->owned = fl_new_array(columns->arena, struct table_column, count + 1);
    columns->columns = columns->owned;
    columns->owned[columns->count++] = name_column;
    for (size_t i = 0; i < count; i++) {
        int r = compile_column(columns->arena, json_array_get(printer_columns, i),
                               &columns->owned[columns->count++], err);

        if (r < 0)
            return r;
    }
    *ret_columns = FL_TAKE(columns);
    return 0;
}

void fl_table_columns_destroy(struct fl_table_columns *columns)
{
    if (!columns)
        return;
    for (size_t i = 0; columns->owned && i < columns->count; i++)
        fl_jsonpath_destroy(columns->owned[i].path);
    fl_arena_destroy(columns->arena);
    free(columns);
}

static json_t *text_cell(const json_t *value)
{
    struct fl_buf text;
    json_t *cell;

    if (json_is_string(value))
        return json_incref((json_t *)value);
    if (json_is_null(value))
        return json_string("<no value>");
    fl_buf_init(&text, 0);
    fl_jsonpath_print_value(&text, value);
    cell = json_string(fl_buf_text(&text));
    fl_buf_finish(&text);
    return cell;
}

static json_t *typed_cell(const char *type, const json_t *value, int64_t now_us)
{
    if (!strcmp(type, "string"))
        return text_cell(value);
    if (!strcmp(type, "integer")) {
        if (json_is_integer(value))
            return json_incref((json_t *)value);
        if (json_is_real(value) && fabs(json_real_value(value)) < 0x1p63)
            return json_integer((json_int_t)json_real_value(value));
    } else if (!strcmp(type, "number")) {
        if (json_is_number(value))
            return json_incref((json_t *)value);
    } else if (!strcmp(type, "boolean")) {
        if (json_is_boolean(value))
            return json_incref((json_t *)value);
    } else if (!strcmp(type, "date")) {
        if (json_is_string(value))
            return fl_table_age_cell(json_string_value(value), now_us);
    }
    return json_null();
}

/* One value by a path; what the data does not fit is an empty cell. */
static json_t *custom_cell(const struct table_column *column, const json_t *object,
                           struct fl_arena *arena, int64_t now_us)
{
    const json_t *const *values;
    size_t count;

    if (fl_jsonpath_eval(column->path, object, arena, &values, &count, NULL) < 0 || count == 0)
        return json_null();
    return typed_cell(column->type, values[0], now_us);
}

/* Tables */

static json_t *row_object(const json_t *object, const struct fl_table_options *options)
{
    json_t *metadata = json_object_get(object, "metadata");

    if (options->include == FL_TABLE_OBJECT)
        return json_incref((json_t *)object);
    return json_pack("{s:s, s:s, s:O?}", "kind", "PartialObjectMetadata", "apiVersion",
                     options->v1beta1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1", "metadata",
                     metadata);
}

static json_t *make_row(const struct fl_table_columns *columns, const json_t *object,
                        struct fl_arena *arena, const struct fl_table_options *options)
{
    json_t *row = json_object(), *cells = json_array();

    for (size_t i = 0; i < columns->count; i++) {
        const struct table_column *column = &columns->columns[i];

        json_array_append_new(cells, column->cell
                                         ? column->cell(object, options->now_us)
                                         : custom_cell(column, object, arena, options->now_us));
    }
    json_object_set_new(row, "cells", cells);
    if (options->include != FL_TABLE_NONE)
        json_object_set_new(row, "object", row_object(object, options));
    return row;
}

static json_t *definitions(const struct fl_table_columns *columns)
{
    json_t *list = json_array();

    for (size_t i = 0; i < columns->count; i++) {
        const struct table_column *column = &columns->columns[i];

        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:I}", "name", column->name, "type", column->type,
                            "format", fl_str_or(column->format, ""), "description",
                            column->description, "priority", (json_int_t)column->priority));
    }
    return list;
}

static json_t *list_metadata(const struct fl_table_options *options)
{
    json_t *metadata = json_object();

    fl_json_set_str(metadata, "resourceVersion", options->resource_version);
    fl_json_set_str(metadata, "continue", options->continue_token);
    if (options->remaining > 0)
        json_object_set_new(metadata, "remainingItemCount", json_integer(options->remaining));
    return metadata;
}

json_t *fl_table_create(const struct fl_table_columns *columns, const json_t *const *objects,
                        size_t count, const struct fl_table_options *options)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    json_t *table = json_object(), *rows = json_array();

    for (size_t i = 0; i < count; i++) {
        json_array_append_new(rows, make_row(columns, objects[i], arena, options));
        fl_arena_reset(arena);
    }
    fl_json_set_str(table, "kind", "Table");
    fl_json_set_str(table, "apiVersion",
                    options->v1beta1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1");
    json_object_set_new(table, "metadata", list_metadata(options));
    json_object_set_new(table, "columnDefinitions",
                        options->no_headers ? json_null() : definitions(columns));
    json_object_set_new(table, "rows", rows);
    return table;
}
