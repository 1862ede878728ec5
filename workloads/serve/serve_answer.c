/* Answers and errors in the words of each protocol. */
#include "workloads/serve/decimal.h"
#include "workloads/serve/serve_internal.h"

#include <string.h>

static void write_text(struct fl_buf *out, const char *text)
{
    fl_buf_json_string(out, text, strlen(text));
}

static void write_size(struct fl_buf *out, size_t size)
{
    char text[FL_DECIMAL_TEXT_SIZE];

    fl_buf_append(out, text, fl_decimal_write_int((int64_t)size, text));
}

static void write_row(struct fl_buf *out, const float *row, size_t count)
{
    fl_buf_reserve(out, count * (FL_DECIMAL_TEXT_SIZE / 2));
    for (size_t i = 0; i < count; i++) {
        char text[FL_DECIMAL_TEXT_SIZE + 1];
        size_t len = 0;

        if (i > 0)
            text[len++] = ',';
        len += fl_decimal_write_float(row[i], text + len);
        fl_buf_append(out, text, len);
    }
}

static void write_rows(struct fl_buf *out, const float *rows, size_t count, size_t width)
{
    fl_buf_putc(out, '[');
    for (size_t i = 0; i < count; i++) {
        fl_buf_puts(out, i > 0 ? ",[" : "[");
        write_row(out, rows + i * width, width);
        fl_buf_putc(out, ']');
    }
    fl_buf_putc(out, ']');
}

static void write_v2(struct fl_buf *out, const char *model, const struct fl_servable *served,
                     const struct fl_ask *ask, const float *answers, size_t *ret_header_len)
{
    const struct fl_signature *signature = fl_servable_signature(served);
    const size_t numbers = ask->count * signature->classes;

    fl_buf_puts(out, "{\"model_name\":");
    write_text(out, model);
    fl_buf_puts(out, ",\"model_version\":\"");
    fl_buf_puts(out, fl_servable_digest(served));
    fl_buf_putc(out, '"');
    if (ask->id) {
        fl_buf_puts(out, ",\"id\":");
        write_text(out, ask->id);
    }
    fl_buf_puts(out, ",\"outputs\":[{\"name\":");
    write_text(out, signature->output);
    fl_buf_puts(out, ",\"datatype\":\"FP32\",\"shape\":[");
    write_size(out, ask->count);
    fl_buf_putc(out, ',');
    write_size(out, signature->classes);
    fl_buf_puts(out, "],");
    if (ask->binary) {
        fl_buf_printf(out, "\"parameters\":{\"binary_data_size\":%zu}}]}", numbers * sizeof(float));
        *ret_header_len = out->len;
        fl_buf_append(out, answers, numbers * sizeof(float));
        return;
    }
    fl_buf_puts(out, "\"data\":[");
    write_row(out, answers, numbers);
    fl_buf_puts(out, "]}]}");
}

void fl_serve_write_answer(struct fl_buf *out, enum protocol protocol, const char *model,
                           const struct fl_servable *served, const struct fl_ask *ask,
                           const float *answers, size_t *ret_header_len)
{
    *ret_header_len = 0;
    if (protocol == PROTOCOL_OPEN_INFERENCE) {
        write_v2(out, model, served, ask, answers, ret_header_len);
        return;
    }
    fl_buf_puts(out, "{\"predictions\":");
    write_rows(out, answers, ask->count, fl_servable_signature(served)->classes);
    fl_buf_putc(out, '}');
}

static const char *mlflow_code(int status)
{
    switch (status) {
    case 400:
    case 415:
        return "BAD_REQUEST";
    case 401:
        return "UNAUTHENTICATED";
    case 404:
    case 405:
        return "ENDPOINT_NOT_FOUND";
    case 413:
        return "INVALID_PARAMETER_VALUE";
    case 429:
        return "REQUEST_LIMIT_EXCEEDED";
    case 503:
        return "TEMPORARILY_UNAVAILABLE";
    default:
        return "INTERNAL_ERROR";
    }
}

void fl_serve_write_error(struct fl_buf *out, enum protocol protocol, int status,
                          const char *message)
{
    fl_buf_putc(out, '{');
    if (protocol != PROTOCOL_MLFLOW) {
        fl_buf_puts(out, "\"error\":");
        write_text(out, message);
    }
    if (protocol == PROTOCOL_COUNT)
        fl_buf_putc(out, ',');
    if (protocol == PROTOCOL_MLFLOW || protocol == PROTOCOL_COUNT) {
        fl_buf_printf(out, "\"error_code\":\"%s\",\"message\":", mlflow_code(status));
        write_text(out, message);
    }
    fl_buf_putc(out, '}');
}
