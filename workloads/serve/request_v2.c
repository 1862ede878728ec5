/* Open Inference Protocol, version 2, with the extension for binary tensors. */
#include "workloads/serve/request_internal.h"

#include "lib/str.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/tensor.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define NOT_SAID (-1) /* of binary_data_size */

struct input {
    const char *name, *datatype;
    int64_t shape[FL_SCAN_RANK_MAX];
    unsigned rank;
    bool has_shape, has_data;
    int64_t data_shape[FL_SCAN_RANK_MAX]; /* as the numbers are nested */
    unsigned data_rank;
    int64_t binary_size;
};

/* Types that become FP32 without a loss, and FP64, which is rounded as the decimals in JSON are. */
static const struct {
    const char *name;
    enum fl_dtype dtype;
} datatypes[] = {
    {"FP32", FL_DTYPE_F32},  {"FP64", FL_DTYPE_F64},   {"FP16", FL_DTYPE_F16},
    {"BF16", FL_DTYPE_BF16}, {"INT8", FL_DTYPE_I8},    {"UINT8", FL_DTYPE_U8},
    {"INT16", FL_DTYPE_I16}, {"UINT16", FL_DTYPE_U16},
};

static enum fl_dtype dtype_of(const char *name)
{
    for (size_t i = 0; name && i < FL_COUNT_OF(datatypes); i++)
        if (strcmp(datatypes[i].name, name) == 0)
            return datatypes[i].dtype;
    return FL_DTYPE_NONE;
}

/* The JSON */

static bool read_shape(struct fl_reading *reading, struct input *input)
{
    bool first = true;

    input->has_shape = true;
    input->rank = 0;
    if (!fl_scan_open(&reading->scan, '['))
        return fl_reading_at(reading, "inputs[0].shape");
    while (fl_scan_more(&reading->scan, ']', &first)) {
        int64_t size = 0;

        if (!fl_scan_int(&reading->scan, &size))
            return fl_reading_at(reading, "inputs[0].shape");
        if (input->rank == FL_SCAN_RANK_MAX || size < 0)
            return fl_scan_fail(&reading->scan, FL_E_INVALID,
                                "inputs[0].shape: must be at most %d sizes, none below 0",
                                FL_SCAN_RANK_MAX);
        input->shape[input->rank++] = size;
    }
    return !reading->scan.err.code;
}

/* How an answer is to come: what an output says of itself counts more than what is said of all. */
enum form { UNSAID, AS_JSON, AS_BYTES };

static bool read_form(struct fl_reading *reading, enum form *form)
{
    bool binary = false;

    if (!fl_scan_bool(&reading->scan, &binary))
        return false;
    *form = binary ? AS_BYTES : AS_JSON;
    return true;
}

/* One parameter of interest among others: a form or, where that is NULL, a number. */
static bool read_parameters(struct fl_reading *reading, const char *wanted, enum form *form,
                            int64_t *number)
{
    struct fl_scan *scan = &reading->scan;
    bool first = true;

    if (!fl_scan_open(scan, '{'))
        return fl_reading_at(reading, "parameters");
    while (fl_scan_more(scan, '}', &first)) {
        const char *name;
        size_t len;

        if (!fl_scan_name(scan, &name, &len))
            return false;
        if (!fl_scan_is(name, len, wanted)) {
            if (!fl_scan_skip(scan))
                return false;
        } else if (form ? !read_form(reading, form) : !fl_scan_int(scan, number)) {
            return fl_reading_at(reading, wanted);
        }
    }
    return !scan->err.code;
}

static bool read_data(struct fl_reading *reading, struct input *input)
{
    struct fl_numbers *numbers = &reading->ask->rows;

    if (input->has_data)
        return fl_scan_fail(&reading->scan, FL_E_BAD_REQUEST, "inputs[0].data: stands there twice");
    input->has_data = true;
    if (!fl_scan_numbers(&reading->scan, numbers))
        return fl_reading_at(reading, "inputs[0].data");
    memcpy(input->data_shape, numbers->shape, sizeof(input->data_shape));
    input->data_rank = numbers->rank;
    return true;
}

static bool read_input_member(struct fl_reading *reading, struct input *input, const char *name,
                              size_t len)
{
    struct fl_scan *scan = &reading->scan;

    if (fl_scan_is(name, len, "name"))
        return fl_scan_text(scan, &input->name) || fl_reading_at(reading, "inputs[0].name");
    if (fl_scan_is(name, len, "datatype"))
        return fl_scan_text(scan, &input->datatype) || fl_reading_at(reading, "inputs[0].datatype");
    if (fl_scan_is(name, len, "shape"))
        return read_shape(reading, input);
    if (fl_scan_is(name, len, "parameters"))
        return read_parameters(reading, "binary_data_size", NULL, &input->binary_size);
    return fl_scan_is(name, len, "data") ? read_data(reading, input) : fl_scan_skip(scan);
}

static bool read_input(struct fl_reading *reading, struct input *input)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '{'))
        return fl_reading_at(reading, "inputs[0]");
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t len;

        if (!fl_scan_name(&reading->scan, &name, &len) ||
            !read_input_member(reading, input, name, len))
            return false;
    }
    return !reading->scan.err.code;
}

static bool read_inputs(struct fl_reading *reading, struct input *input, size_t *count)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '['))
        return fl_reading_at(reading, "inputs");
    while (fl_scan_more(&reading->scan, ']', &first)) {
        if (++*count > 1)
            return fl_scan_fail(&reading->scan, FL_E_INVALID, "inputs: the model takes one, \"%s\"",
                                reading->signature->input);
        if (!read_input(reading, input))
            return false;
    }
    return !reading->scan.err.code;
}

static bool read_output(struct fl_reading *reading, enum form *form)
{
    struct fl_scan *scan = &reading->scan;
    const char *named = NULL;
    bool first = true;

    if (!fl_scan_open(scan, '{'))
        return fl_reading_at(reading, "outputs");
    while (fl_scan_more(scan, '}', &first)) {
        const char *name;
        size_t len;
        bool good;

        if (!fl_scan_name(scan, &name, &len))
            return false;
        if (fl_scan_is(name, len, "name"))
            good = fl_scan_text(scan, &named) || fl_reading_at(reading, "outputs.name");
        else if (fl_scan_is(name, len, "parameters"))
            good = read_parameters(reading, "binary_data", form, NULL);
        else
            good = fl_scan_skip(scan);
        if (!good)
            return false;
    }
    if (!scan->err.code && !fl_streq(named, reading->signature->output))
        return fl_scan_fail(scan, FL_E_INVALID,
                            "outputs: there is no \"%.64s\"; the model gives \"%s\"",
                            fl_str_or(named, ""), reading->signature->output);
    return !scan->err.code;
}

static bool read_outputs(struct fl_reading *reading, enum form *form)
{
    bool first = true;

    if (!fl_scan_open(&reading->scan, '['))
        return fl_reading_at(reading, "outputs");
    while (fl_scan_more(&reading->scan, ']', &first))
        if (!read_output(reading, form))
            return false;
    return !reading->scan.err.code;
}

/* What a request says beside its tensor. */
struct request {
    struct input input;
    size_t input_count;
    enum form output, all;
};

static bool read_member(struct fl_reading *reading, struct request *request, const char *name,
                        size_t len)
{
    if (fl_scan_is(name, len, "id"))
        return fl_scan_text(&reading->scan, &reading->ask->id) || fl_reading_at(reading, "id");
    if (fl_scan_is(name, len, "inputs"))
        return read_inputs(reading, &request->input, &request->input_count);
    if (fl_scan_is(name, len, "parameters"))
        return read_parameters(reading, "binary_data_output", &request->all, NULL);
    if (fl_scan_is(name, len, "outputs"))
        return read_outputs(reading, &request->output);
    return fl_scan_skip(&reading->scan);
}

/* The tensor */

static bool check_input(struct fl_reading *reading, const struct input *input, size_t count)
{
    const struct fl_signature *signature = reading->signature;
    struct fl_scan *scan = &reading->scan;
    int64_t rows;

    if (count == 0)
        return fl_scan_fail(scan, FL_E_INVALID, "inputs: is missing; the model takes \"%s\"",
                            signature->input);
    if (!fl_streq(input->name, signature->input))
        return fl_scan_fail(scan, FL_E_INVALID, "inputs[0].name: is \"%.64s\"; \"%s\" is expected",
                            fl_str_or(input->name, ""), signature->input);
    if (!dtype_of(input->datatype))
        return fl_scan_fail(scan, FL_E_INVALID,
                            "inputs[0].datatype: is \"%.64s\"; FP32 is expected (FP64, FP16, BF16, "
                            "INT16, INT8, UINT16 and UINT8 are converted)",
                            fl_str_or(input->datatype, ""));
    rows = input->has_shape ? fl_reading_rows_in(signature, input->shape, input->rank) : -1;
    if (rows < 1)
        return fl_reading_wrong_shape(reading, "inputs[0].shape:", input->shape, input->rank);
    if ((uint64_t)rows > reading->ask->rows.max / signature->width)
        return fl_reading_too_many(reading);
    reading->ask->count = (size_t)rows;
    return true;
}

/* Any type: one element at a time, from wherever it lies. */
static void convert(struct fl_numbers *numbers, const char *bytes, size_t count,
                    enum fl_dtype dtype)
{
    const size_t size = fl_dtype_size(dtype);
    uint64_t aligned = 0;
    const struct fl_tensor element = {.dtype = dtype, .count = 1, .size = size, .data = &aligned};

    for (size_t i = 0; i < count; i++) {
        memcpy(&aligned, bytes + i * size, size);
        numbers->items[numbers->count++] = (float)fl_tensor_get(&element, 0);
    }
}

/* The bound on rows was checked. */
static bool take_bytes(struct fl_reading *reading, const char *bytes, size_t count,
                       enum fl_dtype dtype)
{
    struct fl_numbers *numbers = &reading->ask->rows;
    size_t bad;

    fl_numbers_reserve(numbers, count);
    if (dtype == FL_DTYPE_F32) {
        memcpy(numbers->items, bytes, count * sizeof(float));
        numbers->count = count;
    } else {
        convert(numbers, bytes, count, dtype);
    }
    bad = fl_k_find_bad(count, numbers->items);
    return bad == count || fl_scan_fail(&reading->scan, FL_E_INVALID,
                                        "inputs[0]: number %zu is not finite in FP32", bad);
}

static bool take_binary(struct fl_reading *reading, const struct input *input, const char *bytes,
                        size_t len)
{
    const size_t count = reading->ask->count * reading->signature->width;
    const enum fl_dtype dtype = dtype_of(input->datatype);
    const size_t size = count * fl_dtype_size(dtype);

    if (input->has_data)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "inputs[0]: has data and binary_data_size, which exclude each other");
    if (input->binary_size != (int64_t)size || len != size)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "inputs[0]: its shape needs %zu bytes of %s; binary_data_size is "
                            "%" PRId64 ", and %zu came",
                            size, input->datatype, input->binary_size, len);
    return take_bytes(reading, bytes, count, dtype);
}

/* The numbers within the JSON: flat, or nested as the shape says. */
static bool check_data(struct fl_reading *reading, const struct input *input)
{
    const size_t wanted = reading->ask->count * reading->signature->width;

    if (!input->has_data)
        return fl_scan_fail(&reading->scan, FL_E_INVALID, "inputs[0].data: is missing");
    if (reading->ask->rows.count != wanted)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "inputs[0].data: has %zu numbers; its shape needs %zu",
                            reading->ask->rows.count, wanted);
    if (input->data_rank > 1 &&
        (input->data_rank != input->rank ||
         memcmp(input->data_shape, input->shape, input->rank * sizeof(input->shape[0])) != 0))
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "inputs[0].data: is nested otherwise than its shape says");
    return true;
}

static bool take_tensor(struct fl_reading *reading, const struct input *input, const char *bytes,
                        size_t len)
{
    if (input->binary_size != NOT_SAID)
        return take_binary(reading, input, bytes, len);
    if (len > 0)
        return fl_scan_fail(&reading->scan, FL_E_INVALID,
                            "%zu bytes stand behind the JSON, and no input has binary_data_size",
                            len);
    return check_data(reading, input);
}

/* Nothing but the tensor's bytes: as many rows as there are. */
static bool read_raw(struct fl_reading *reading, const char *body, size_t len)
{
    const size_t row = reading->signature->width * sizeof(float);

    if (len == 0 || len % row != 0)
        return fl_scan_fail(&reading->scan, FL_E_INVALID, "%zu bytes came; a row has %zu (FP32)",
                            len, row);
    if (len / row > reading->ask->rows.max / reading->signature->width)
        return fl_reading_too_many(reading);
    reading->ask->count = len / row;
    reading->ask->binary = true;
    return take_bytes(reading, body, len / sizeof(float), FL_DTYPE_F32);
}

static bool read_json(struct fl_reading *reading, const char *bytes, size_t len)
{
    struct request request = {.input.binary_size = NOT_SAID};
    bool first = true;

    if (!fl_scan_open(&reading->scan, '{'))
        return false;
    while (fl_scan_more(&reading->scan, '}', &first)) {
        const char *name;
        size_t name_len;

        if (!fl_scan_name(&reading->scan, &name, &name_len) ||
            !read_member(reading, &request, name, name_len))
            return false;
    }
    reading->ask->binary = (request.output == UNSAID ? request.all : request.output) == AS_BYTES;
    return fl_scan_end(&reading->scan) &&
           check_input(reading, &request.input, request.input_count) &&
           take_tensor(reading, &request.input, bytes, len);
}

int fl_ask_read_v2(struct fl_arena *arena, const struct fl_signature *signature, const char *body,
                   size_t len, int64_t header_len, struct fl_ask *ask, struct fl_error *err)
{
    const size_t json_len = header_len < 0 ? len : (size_t)header_len;
    const char *json = body;
    struct fl_reading reading;
    bool good;

    if (json_len > len)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "Inference-Header-Content-Length is %zu, and the body has %zu bytes",
                            json_len, len);
    if (json_len < len) /* a NUL behind it */
        json = fl_arena_strndup(arena, body, json_len);
    reading = fl_reading_begin(arena, signature, json, json_len, ask);
    good = header_len == 0 ? read_raw(&reading, body, len)
                           : read_json(&reading, body + json_len, len - json_len);
    return fl_reading_end(&reading, good, err);
}
