/* MLflow's scoring protocol and KServe's version 1, in JSON. */
#include "workloads/serve/request_internal.h"

#include <math.h>
#include <string.h>

#define COLUMNS_MAX 65536

struct columns {
    const char **names;
    size_t *lens;
    size_t count;
    float *row; /* the record being read */
};

static bool read_column_names(struct fl_reading *reading, size_t *ret_count)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '['))
        return false;
    for (*ret_count = 0; fl_scan_more(&reading->scan, ']', &first); ++*ret_count)
        if (!fl_scan_skip(&reading->scan))
            return false;
    return !reading->scan.err.code;
}

static bool wrong_columns(struct fl_reading *reading, size_t count)
{
    return fl_scan_fail(&reading->scan, FL_E_INVALID, "there are %zu columns; %zu are expected",
                        count, reading->signature->width);
}

static bool read_split(struct fl_reading *reading)
{
    bool first = true, has_data = false;
    size_t columns = reading->signature->width;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len;
        bool good;

        if (!fl_scan_name(&reading->scan, &name, &len))
            return false;
        if (fl_scan_is(name, len, "data")) {
            has_data = true;
            good = fl_reading_take_rows(reading, "dataframe_split.data");
        } else if (fl_scan_is(name, len, "columns")) {
            good = read_column_names(reading, &columns);
        } else {
            good = fl_scan_skip(&reading->scan);
        }
        if (!good)
            return false;
    }
    if (reading->scan.err.code)
        return false;
    if (!has_data)
        return fl_scan_fail(&reading->scan, FL_E_INVALID, "dataframe_split.data: is missing");
    return columns == reading->signature->width || wrong_columns(reading, columns);
}

/* The place of a column in the first record; most records have the same order. */
static size_t place_of(const struct columns *columns, size_t guess, const char *name, size_t len)
{
    if (guess < columns->count && columns->lens[guess] == len &&
        memcmp(columns->names[guess], name, len) == 0)
        return guess;
    for (size_t i = 0; i < columns->count; i++)
        if (columns->lens[i] == len && memcmp(columns->names[i], name, len) == 0)
            return i;
    return SIZE_MAX;
}

/* One number of a record. */
static bool read_cell(struct fl_reading *reading, float *cell, const char *name, size_t len)
{
    if (fl_scan_number(&reading->scan, cell))
        return true;
    (void)fl_error_wrap(&reading->scan.err, "dataframe_records: column \"%.*s\"",
                        len < 64 ? (int)len : 64, name);
    return false;
}

static bool read_record(struct fl_reading *reading, struct columns *columns, bool is_first)
{
    const size_t width = reading->signature->width;
    bool first = true;
    size_t seen = 0;

    for (size_t i = 0; i < width; i++)
        columns->row[i] = NAN;
    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len, place;

        if (!fl_scan_name(&reading->scan, &name, &len))
            return false;
        if (is_first && columns->count < width) {
            columns->names[columns->count] = name;
            columns->lens[columns->count++] = len;
        }
        place = place_of(columns, seen, name, len);
        if (place == SIZE_MAX || seen == width)
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "dataframe_records: column \"%.*s\" is not expected",
                                len < 64 ? (int)len : 64, name);
        if (!read_cell(reading, &columns->row[place], name, len))
            return false;
        seen++;
    }
    if (reading->scan.err.code)
        return false;
    for (size_t i = 0; i < width && seen == width; i++)
        if (isnan(columns->row[i])) /* and another one stands there twice */
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "dataframe_records: a column is missing");
    return seen == width || wrong_columns(reading, seen);
}

static bool add_row(struct fl_reading *reading, const float *row)
{
    for (size_t i = 0; i < reading->signature->width; i++)
        if (!fl_numbers_add(&reading->ask->rows, row[i]))
            return fl_reading_too_many(reading);
    reading->ask->count++;
    return true;
}

static bool read_records(struct fl_reading *reading)
{
    const size_t width = reading->signature->width;
    struct columns columns = {.names = fl_new_array(reading->scan.arena, const char *, width),
                              .lens = fl_new_array(reading->scan.arena, size_t, width),
                              .row = fl_new_array(reading->scan.arena, float, width)};
    bool first = true, is_first = true;

    if (width > COLUMNS_MAX)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "dataframe_records: the model has too many columns for it");
    if (!fl_scan_open(&reading->scan, '['))
        return false;
    while (fl_scan_more(&reading->scan, ']', &first)) {
        if (!read_record(reading, &columns, is_first) || !add_row(reading, columns.row))
            return false;
        is_first = false;
    }
    return !reading->scan.err.code;
}

/* {"NAME": tensor}, NAME being the input's. */
static bool read_named(struct fl_reading *reading, const char *path)
{
    bool first = true, found = false;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len;

        if (!fl_scan_name(&reading->scan, &name, &len))
            return false;
        if (!fl_scan_is(name, len, reading->signature->input))
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "%s: there is no \"%.*s\"; the model takes \"%s\"", path,
                                len < 64 ? (int)len : 64, name, reading->signature->input);
        found = true;
        if (!fl_reading_take_rows(reading, path))
            return false;
    }
    if (!reading->scan.err.code && !found)
        return fl_scan_fail(&reading->scan, FL_E_INVALID, "%s: \"%s\" is missing", path,
                            reading->signature->input);
    return !reading->scan.err.code;
}

static bool read_tensor_or_named(struct fl_reading *reading, const char *path)
{
    return fl_scan_peek(&reading->scan) == '{' ? read_named(reading, path)
                                               : fl_reading_take_rows(reading, path);
}

/* Rows, or objects with a row each. */
static bool read_instances(struct fl_reading *reading)
{
    const char *at;
    bool first = true;

    if (fl_scan_peek(&reading->scan) != '[')
        return read_tensor_or_named(reading, "instances");
    for (at = reading->scan.at + 1; at < reading->scan.end && strchr(" \t\r\n", *at); at++)
        continue;
    if (at == reading->scan.end || *at != '{')
        return fl_reading_take_rows(reading, "instances");
    if (!fl_scan_open(&reading->scan, '['))
        return false;
    while (fl_scan_more(&reading->scan, ']', &first)) {
        const size_t before = reading->ask->count;

        if (!read_named(reading, "instances"))
            return false;
        if (reading->ask->count != before + 1)
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "instances: each must hold one row, not %zu",
                                reading->ask->count - before);
    }
    return !reading->scan.err.code;
}

static bool read_form(struct fl_reading *reading, const char *name, size_t len, bool *ret_known)
{
    *ret_known = true;
    if (fl_scan_is(name, len, "instances"))
        return read_instances(reading);
    if (fl_scan_is(name, len, "inputs"))
        return read_tensor_or_named(reading, "inputs");
    if (fl_scan_is(name, len, "dataframe_split"))
        return read_split(reading);
    if (fl_scan_is(name, len, "dataframe_records"))
        return read_records(reading);
    *ret_known = false;
    return fl_scan_skip(&reading->scan);
}

static bool read_forms(struct fl_reading *reading, bool only_instances)
{
    bool first = true;
    int forms = 0;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len;
        bool known = false;

        if (!fl_scan_name(&reading->scan, &name, &len))
            return false;
        if (only_instances && !fl_scan_is(name, len, "instances")) {
            if (!fl_scan_skip(&reading->scan))
                return false;
            continue;
        }
        if (!read_form(reading, name, len, &known))
            return false;
        forms += known;
        if (forms > 1)
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "only one of dataframe_split, dataframe_records, instances and "
                                "inputs may stand there");
    }
    if (!reading->scan.err.code && forms == 0)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            only_instances ? "instances: is missing"
                                           : "one of dataframe_split, dataframe_records, instances "
                                             "and inputs is needed");
    return fl_scan_end(&reading->scan);
}

int fl_ask_read_invocations(struct fl_arena *arena, const struct fl_signature *signature,
                            const char *body, size_t len, struct fl_ask *ask, struct fl_error *err)
{
    struct fl_reading reading = fl_reading_begin(arena, signature, body, len, ask);

    return fl_reading_end(&reading, read_forms(&reading, false), err);
}

int fl_ask_read_instances(struct fl_arena *arena, const struct fl_signature *signature,
                          const char *body, size_t len, struct fl_ask *ask, struct fl_error *err)
{
    struct fl_reading reading = fl_reading_begin(arena, signature, body, len, ask);

    return fl_reading_end(&reading, read_forms(&reading, true), err);
}
