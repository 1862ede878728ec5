#include "workloads/serve/request_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SHAPE_TEXT 192

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

int64_t fl_reading_rows_in(const struct fl_signature *signature, const int64_t *shape,
                           unsigned rank)
{
    if (rank > 1 && is_row(signature, shape + 1, rank - 1))
        return shape[0];
    return is_row(signature, shape, rank) ? 1 : -1;
}

bool fl_reading_wrong_shape(struct fl_reading *reading, const char *path, const int64_t *shape,
                            unsigned rank)
{
    char got[SHAPE_TEXT], wanted[SHAPE_TEXT];

    return fl_scan_fail(&reading->scan, FL_E_INVALID, "%s has the shape [%s]; [-1,%s] is expected",
                        path, show_shape(got, shape, rank),
                        show_shape(wanted, reading->signature->shape, reading->signature->rank));
}

bool fl_reading_too_many(struct fl_reading *reading)
{
    return fl_scan_fail(&reading->scan, FL_E_TOO_LARGE, "there are more than %zu rows",
                        reading->ask->rows.max / reading->signature->width);
}

bool fl_reading_at(struct fl_reading *reading, const char *path)
{
    struct fl_error *err = &reading->scan.err;

    if (err->code == FL_E_TOO_LARGE) {
        err->code = 0;
        return fl_reading_too_many(reading);
    }
    (void)fl_error_wrap(err, "%s", path);
    return false;
}

bool fl_reading_take_rows(struct fl_reading *reading, const char *path)
{
    struct fl_numbers *numbers = &reading->ask->rows;
    int64_t count;

    if (!fl_scan_numbers(&reading->scan, numbers))
        return fl_reading_at(reading, path);
    count = fl_reading_rows_in(reading->signature, numbers->shape, numbers->rank);
    if (count < 1)
        return fl_reading_wrong_shape(reading, path, numbers->shape, numbers->rank);
    reading->ask->count += (size_t)count;
    return true;
}

struct fl_reading fl_reading_begin(struct fl_arena *arena, const struct fl_signature *signature,
                                   const char *text, size_t len, struct fl_ask *ask)
{
    struct fl_reading reading = {.signature = signature, .ask = ask};

    fl_scan_init(&reading.scan, arena, text, len);
    return reading;
}

int fl_reading_end(struct fl_reading *reading, bool good, struct fl_error *err)
{
    if (good && reading->ask->count == 0)
        (void)fl_scan_fail(&reading->scan, FL_E_INVALID, "there are no rows");
    if (!reading->scan.err.code)
        return 0;
    return fl_error_set(err, reading->scan.err.code, "%s", reading->scan.err.msg);
}
