#include "workloads/serve/request.h"

#include "lib/str.h"
#include "workloads/data/number.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX  65536
#define SHAPE_TEXT   128
#define BINARY_WHOLE (-1) /* of binary_data_size: not said */

/* One request on its way in. */
struct reading {
    struct fl_arena *arena;
    const struct fl_signature *signature;
    struct fl_scan scan;
    struct fl_ask *ask;
};

/* Shapes */

static const char *show_shape(char out[SHAPE_TEXT], const int64_t *shape, unsigned rank)
{
    size_t len = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < rank && len < SHAPE_TEXT; i++)
        len +=
            (size_t)snprintf(out + len, SHAPE_TEXT - len, "%s%" PRId64, i > 0 ? "," : "", shape[i]);
    return out;
}

static bool is_row(const struct fl_signature *signature, const int64_t *shape, unsigned rank)
{
    if (rank == 1 && shape[0] == (int64_t)signature->width)
        return true;
    return rank == signature->rank && memcmp(shape, signature->shape, rank * sizeof(*shape)) == 0;
}

/* Rows of this shape, or one row: how many; < 0: neither. */
static int64_t rows_in(const struct fl_signature *signature, const int64_t *shape, unsigned rank)
{
    if (rank > 1 && is_row(signature, shape + 1, rank - 1))
        return shape[0];
    return is_row(signature, shape, rank) ? 1 : -1;
}

static bool wrong_shape(struct reading *reading, const char *path, const int64_t *shape,
                        unsigned rank)
{
    char got[SHAPE_TEXT], wanted[SHAPE_TEXT];

    return fl_scan_fail(&reading->scan, FL_E_INVALID, "%s has the shape [%s]; [-1,%s] is expected",
                        path, show_shape(got, shape, rank),
                        show_shape(wanted, reading->signature->shape, reading->signature->rank));
}

/* What was just read is rows, or one row. */
static bool take_rows(struct reading *reading, const char *path)
{
    struct fl_numbers *numbers = &reading->ask->rows;
    int64_t count;

    if (!fl_scan_numbers(&reading->scan, numbers))
        return false;
    count = rows_in(reading->signature, numbers->shape, numbers->rank);
    if (count < 1)
        return wrong_shape(reading, path, numbers->shape, numbers->rank);
    reading->ask->count += (size_t)count;
    return true;
}

static int ended(struct reading *reading, bool good, struct fl_error *err)
{
    if (good && reading->ask->count == 0)
        (void)fl_scan_fail(&reading->scan, FL_E_INVALID, "there are no rows");
    if (!reading->scan.err.code)
        return 0;
    return fl_error_set(err, reading->scan.err.code, "%s", reading->scan.err.msg);
}

static struct reading begin(struct fl_arena *arena, const struct fl_signature *signature,
                            const char *text, size_t len, struct fl_ask *ask)
{
    struct reading reading = {.arena = arena, .signature = signature, .ask = ask};

    fl_scan_init(&reading.scan, text, len);
    return reading;
}

/* Version 2 */

struct v2_input {
    const char *name, *datatype;
    int64_t shape[FL_SCAN_RANK_MAX];
    unsigned rank;
    bool has_shape, has_data;
    int64_t binary_size;
};

static bool read_shape(struct reading *reading, struct v2_input *input)
{
    bool first = true;

    input->has_shape = true;
    if (!fl_scan_open(&reading->scan, '['))
        return false;
    while (fl_scan_more(&reading->scan, ']', &first)) {
        int64_t size = 0;

        if (!fl_scan_int(&reading->scan, &size))
            return false;
        if (input->rank == FL_SCAN_RANK_MAX || size < 0)
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "inputs[0].shape: must be at most %d sizes, none below 0",
                                FL_SCAN_RANK_MAX);
        input->shape[input->rank++] = size;
    }
    return !reading->scan.err.code;
}

/* One parameter of interest among others; `flag` or `number` may be NULL. */
static bool read_parameters(struct reading *reading, const char *wanted, bool *flag,
                            int64_t *number)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len;

        if (!fl_scan_name(&reading->scan, &name, &len))
            return false;
        if (!fl_scan_is(name, len, wanted)) {
            if (!fl_scan_skip(&reading->scan))
                return false;
        } else if (flag ? !fl_scan_bool(&reading->scan, flag)
                        : !fl_scan_int(&reading->scan, number)) {
            return false;
        }
    }
    return !reading->scan.err.code;
}

static bool read_input_member(struct reading *reading, struct v2_input *input, const char *name,
                              size_t len)
{
    struct fl_scan *scan = &reading->scan;

    if (fl_scan_is(name, len, "name"))
        return fl_scan_text(scan, reading->arena, &input->name);
    if (fl_scan_is(name, len, "datatype"))
        return fl_scan_text(scan, reading->arena, &input->datatype);
    if (fl_scan_is(name, len, "shape"))
        return read_shape(reading, input);
    if (fl_scan_is(name, len, "parameters"))
        return read_parameters(reading, "binary_data_size", NULL, &input->binary_size);
    if (!fl_scan_is(name, len, "data"))
        return fl_scan_skip(scan);
    input->has_data = true;
    return fl_scan_numbers(scan, &reading->ask->rows);
}

static bool read_input(struct reading *reading, struct v2_input *input)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len;

        if (!fl_scan_name(&reading->scan, &name, &len) ||
            !read_input_member(reading, input, name, len))
            return false;
    }
    return !reading->scan.err.code;
}

static bool read_inputs(struct reading *reading, struct v2_input *input, size_t *count)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '['))
        return false;
    while (fl_scan_more(&reading->scan, ']', &first)) {
        if (++*count > 1)
            return fl_scan_fail(&reading->scan, FL_E_INVALID, "inputs: the model takes one, \"%s\"",
                                reading->signature->input);
        if (!read_input(reading, input))
            return false;
    }
    return !reading->scan.err.code;
}

static bool read_output(struct reading *reading)
{
    const char *named = NULL;
    bool first = true;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len;

        if (!fl_scan_name(&reading->scan, &name, &len))
            return false;
        if (fl_scan_is(name, len, "name") ? !fl_scan_text(&reading->scan, reading->arena, &named)
            : fl_scan_is(name, len, "parameters")
                ? !read_parameters(reading, "binary_data", &reading->ask->binary, NULL)
                : !fl_scan_skip(&reading->scan))
            return false;
    }
    if (!reading->scan.err.code && !fl_streq(named, reading->signature->output))
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "outputs: there is no \"%s\"; the model gives \"%s\"",
                            fl_str_or(named, ""), reading->signature->output);
    return !reading->scan.err.code;
}

static bool read_outputs(struct reading *reading)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '['))
        return false;
    while (fl_scan_more(&reading->scan, ']', &first))
        if (!read_output(reading))
            return false;
    return !reading->scan.err.code;
}

static bool read_v2_member(struct reading *reading, struct v2_input *input, size_t *count,
                           bool *binary, const char *name, size_t len)
{
    if (fl_scan_is(name, len, "id"))
        return fl_scan_text(&reading->scan, reading->arena, &reading->ask->id);
    if (fl_scan_is(name, len, "inputs"))
        return read_inputs(reading, input, count);
    if (fl_scan_is(name, len, "parameters"))
        return read_parameters(reading, "binary_data_output", binary, NULL);
    if (fl_scan_is(name, len, "outputs"))
        return read_outputs(reading);
    return fl_scan_skip(&reading->scan);
}

static bool check_input(struct reading *reading, const struct v2_input *input, size_t count)
{
    const struct fl_signature *signature = reading->signature;
    struct fl_scan *scan = &reading->scan;
    int64_t rows;

    if (count == 0)
        return fl_scan_fail(scan, FL_E_INVALID, "inputs: is missing");
    if (!fl_streq(input->name, signature->input))
        return fl_scan_fail(scan, FL_E_INVALID, "inputs[0].name: is \"%s\"; the model takes \"%s\"",
                            fl_str_or(input->name, ""), signature->input);
    if (!fl_streq(input->datatype, "FP32") && !fl_streq(input->datatype, "FP64"))
        return fl_scan_fail(scan, FL_E_INVALID, "inputs[0].datatype: is \"%s\"; FP32 is expected",
                            fl_str_or(input->datatype, ""));
    rows = input->has_shape ? rows_in(signature, input->shape, input->rank) : -1;
    if (rows < 1)
        return wrong_shape(reading, "inputs[0]", input->shape, input->rank);
    if ((uint64_t)rows > reading->ask->rows.max / signature->width)
        return fl_scan_fail(scan, FL_E_TOO_LARGE, "inputs[0].shape: more than %zu rows",
                            reading->ask->rows.max / signature->width);
    reading->ask->count = (size_t)rows;
    return true;
}

static bool take_bytes(struct reading *reading, const char *bytes, size_t len, bool is_double)
{
    const size_t size = is_double ? sizeof(double) : sizeof(float);

    for (size_t i = 0; i + size <= len; i += size) {
        double wide;
        float number;

        if (is_double) {
            (void)memcpy(&wide, bytes + i, size);
            number = (float)wide;
        } else {
            (void)memcpy(&number, bytes + i, size);
        }
        if (!isfinite(number))
            return fl_scan_fail(&reading->scan, FL_E_INVALID, "inputs[0]: number %zu is not finite",
                                i / size);
        if (!fl_numbers_add(&reading->ask->rows, number))
            return fl_scan_fail(&reading->scan, FL_E_TOO_LARGE, "more than %zu numbers",
                                reading->ask->rows.max);
    }
    return true;
}

/* The tensor behind the JSON, or the numbers within it: as many as the shape says. */
static bool take_tensor(struct reading *reading, const struct v2_input *input, const char *bytes,
                        size_t len)
{
    const size_t wanted = reading->ask->count * reading->signature->width;
    const bool is_double = fl_streq(input->datatype, "FP64");
    const size_t size = wanted * (is_double ? sizeof(double) : sizeof(float));

    if (input->binary_size != BINARY_WHOLE && input->has_data)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "inputs[0]: has data and binary_data_size, which exclude each other");
    if (input->binary_size != BINARY_WHOLE) {
        if (input->binary_size != (int64_t)size || len != size)
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "inputs[0]: its shape needs %zu bytes; binary_data_size is %" PRId64
                                ", and %zu came",
                                size, input->binary_size, len);
        return take_bytes(reading, bytes, len, is_double);
    }
    if (len > 0)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "%zu bytes stand behind the JSON, and no input has binary_data_size",
                            len);
    if (reading->ask->rows.count != wanted)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "inputs[0].data: has %zu numbers; its shape needs %zu",
                            reading->ask->rows.count, wanted);
    return true;
}

/* Nothing but the tensor's bytes: as many rows as there are. */
static bool read_raw(struct reading *reading, const char *body, size_t len)
{
    const size_t row = reading->signature->width * sizeof(float);

    if (len == 0 || len % row != 0)
        return fl_scan_fail(&reading->scan, FL_E_INVALID, "%zu bytes came; a row has %zu (FP32)",
                            len, row);
    reading->ask->count = len / row;
    reading->ask->binary = true;
    return take_bytes(reading, body, len, false);
}

static bool read_v2(struct reading *reading, const char *bytes, size_t len)
{
    struct v2_input input = {.binary_size = BINARY_WHOLE};
    bool first = true, all_binary = false;
    size_t count = 0;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t name_len;

        if (!fl_scan_name(&reading->scan, &name, &name_len) ||
            !read_v2_member(reading, &input, &count, &all_binary, name, name_len))
            return false;
    }
    reading->ask->binary |= all_binary;
    return fl_scan_end(&reading->scan) && check_input(reading, &input, count) &&
           take_tensor(reading, &input, bytes, len);
}

int fl_ask_read_v2(struct fl_arena *arena, const struct fl_signature *signature, const char *body,
                   size_t len, int64_t header_len, struct fl_ask *ask, struct fl_error *err)
{
    const size_t json_len = header_len < 0 ? len : (size_t)header_len;
    struct reading reading = begin(arena, signature, body, json_len <= len ? json_len : len, ask);
    bool good;

    if (json_len > len)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "Inference-Header-Content-Length is %zu, and the body has %zu bytes",
                            json_len, len);
    good = header_len == 0 ? read_raw(&reading, body, len)
                           : read_v2(&reading, body + json_len, len - json_len);
    return ended(&reading, good, err);
}

/* MLflow and version 1 */

struct columns {
    const char **names;
    size_t *lens;
    size_t count;
    float *row; /* the record being read */
};

static bool read_column_names(struct reading *reading, size_t *ret_count)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '['))
        return false;
    for (*ret_count = 0; fl_scan_more(&reading->scan, ']', &first); ++*ret_count)
        if (!fl_scan_skip(&reading->scan))
            return false;
    return !reading->scan.err.code;
}

static bool wrong_columns(struct reading *reading, size_t count)
{
    return fl_scan_fail(&reading->scan, FL_E_INVALID, "there are %zu columns; %zu are expected",
                        count, reading->signature->width);
}

static bool read_split(struct reading *reading)
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
            good = take_rows(reading, "dataframe_split.data");
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

/* One number of a record, at its place of the row. */
static bool read_cell(struct reading *reading, float *row, const char *name, size_t len)
{
    struct fl_numbers *rows = &reading->ask->rows;

    if (!fl_scan_numbers(&reading->scan, rows))
        return false;
    if (rows->rank != 0)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "dataframe_records: column \"%.*s\" must hold a number",
                            len < 64 ? (int)len : 64, name);
    *row = rows->items[--rows->count];
    return true;
}

static bool read_record(struct reading *reading, struct columns *columns, bool is_first)
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

static bool add_row(struct reading *reading, const float *row)
{
    for (size_t i = 0; i < reading->signature->width; i++)
        if (!fl_numbers_add(&reading->ask->rows, row[i]))
            return fl_scan_fail(&reading->scan, FL_E_TOO_LARGE, "more than %zu numbers",
                                reading->ask->rows.max);
    reading->ask->count++;
    return true;
}

static bool read_records(struct reading *reading)
{
    const size_t width = reading->signature->width;
    struct columns columns = {.names = fl_new_array(reading->arena, const char *, width),
                              .lens = fl_new_array(reading->arena, size_t, width),
                              .row = fl_new_array(reading->arena, float, width)};
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
static bool read_named(struct reading *reading, const char *path)
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
        if (!take_rows(reading, path))
            return false;
    }
    if (!reading->scan.err.code && !found)
        return fl_scan_fail(&reading->scan, FL_E_INVALID, "%s: \"%s\" is missing", path,
                            reading->signature->input);
    return !reading->scan.err.code;
}

static bool read_tensor_or_named(struct reading *reading, const char *path)
{
    return fl_scan_peek(&reading->scan) == '{' ? read_named(reading, path)
                                               : take_rows(reading, path);
}

/* Rows, or objects with a row each. */
static bool read_instances(struct reading *reading)
{
    const char *at;
    bool first = true;

    if (fl_scan_peek(&reading->scan) != '[')
        return read_tensor_or_named(reading, "instances");
    for (at = reading->scan.at + 1; at < reading->scan.end && strchr(" \t\r\n", *at); at++)
        continue;
    if (at == reading->scan.end || *at != '{')
        return take_rows(reading, "instances");
    if (!fl_scan_open(&reading->scan, '['))
        return false;
    while (fl_scan_more(&reading->scan, ']', &first))
        if (!read_named(reading, "instances"))
            return false;
    return !reading->scan.err.code;
}

static bool read_form(struct reading *reading, const char *name, size_t len, bool *ret_known)
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

static bool read_forms(struct reading *reading, bool only_instances)
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
    struct reading reading = begin(arena, signature, body, len, ask);

    return ended(&reading, read_forms(&reading, false), err);
}

int fl_ask_read_instances(struct fl_arena *arena, const struct fl_signature *signature,
                          const char *body, size_t len, struct fl_ask *ask, struct fl_error *err)
{
    struct reading reading = begin(arena, signature, body, len, ask);

    return ended(&reading, read_forms(&reading, true), err);
}

/* CSV: a line with the columns' names, then a row a line. */

static bool read_csv_row(struct reading *reading, const char *line, const char *end, size_t number)
{
    const size_t width = reading->signature->width;
    size_t seen = 0;

    for (const char *at = line; at <= end; seen++) {
        double value = 0;
        const char *behind = fl_number_read(at, end, &value);

        if (!behind || (behind < end && *behind != ',') || !isfinite((float)value))
            return fl_scan_fail(&reading->scan, FL_E_BAD_REQUEST,
                                "line %zu, column %zu: a number is expected", number, seen + 1);
        if (seen == width)
            break;
        if (!fl_numbers_add(&reading->ask->rows, (float)value))
            return fl_scan_fail(&reading->scan, FL_E_TOO_LARGE, "more than %zu numbers",
                                reading->ask->rows.max);
        at = behind + 1;
    }
    if (seen != width)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "line %zu has %zu columns; %zu are expected", number, seen, width);
    reading->ask->count++;
    return true;
}

static bool read_csv(struct reading *reading, const char *body, size_t len)
{
    const char *at = body, *end = body + len;
    size_t number = 0;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)),
                   *line_end = newline ? newline : end;
        const char *stop = line_end > at && line_end[-1] == '\r' ? line_end - 1 : line_end;

        number++;
        if (number > 1 && stop > at && !read_csv_row(reading, at, stop, number))
            return false;
        at = line_end + 1;
    }
    return true;
}

int fl_ask_read_csv(struct fl_arena *arena, const struct fl_signature *signature, const char *body,
                    size_t len, struct fl_ask *ask, struct fl_error *err)
{
    struct reading reading = begin(arena, signature, body, len, ask);

    return ended(&reading, read_csv(&reading, body, len), err);
}
