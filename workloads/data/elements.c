/* Numbers of files, as floats. */
#include "workloads/data/dataset_internal.h"

#include <math.h>
#include <string.h>

#define PIECE_BYTES ((size_t)64 * 1024)

static void swap_bytes(unsigned char *data, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++, data += size)
        for (size_t low = 0, high = size - 1; low < high; low++, high--) {
            unsigned char byte = data[low];

            data[low] = data[high];
            data[high] = byte;
        }
}

#define CONVERT_AS(type)                                                                           \
    for (size_t i = 0; i < count; i++) {                                                           \
        type value;                                                                                \
        memcpy(&value, (const char *)data + i * sizeof(value), sizeof(value));                     \
        out[i] = (float)value;                                                                     \
    }                                                                                              \
    break

static void convert_pixels(const unsigned char *data, size_t count, float *out)
{
    float table[256];

    for (unsigned i = 0; i < 256; i++)
        table[i] = (float)i / 255.0f;
    for (size_t i = 0; i < count; i++)
        out[i] = table[data[i]];
}

static void convert_rare(enum fl_dtype dtype, const void *data, size_t count, float *out)
{
    const struct fl_tensor tensor = {.dtype = dtype, .count = count, .data = (void *)data};

    for (size_t i = 0; i < count; i++)
        out[i] = (float)fl_tensor_get(&tensor, i);
}

void fl_elements_convert(const struct fl_elements *elements, const void *data, size_t count,
                         float *out)
{
    switch (elements->dtype) {
    case FL_DTYPE_U8:
        if (elements->pixels) {
            convert_pixels(data, count, out);
            break;
        }
        CONVERT_AS(uint8_t);
    case FL_DTYPE_I8:
        CONVERT_AS(int8_t);
    case FL_DTYPE_U16:
        CONVERT_AS(uint16_t);
    case FL_DTYPE_I16:
        CONVERT_AS(int16_t);
    case FL_DTYPE_U32:
        CONVERT_AS(uint32_t);
    case FL_DTYPE_I32:
        CONVERT_AS(int32_t);
    case FL_DTYPE_U64:
        CONVERT_AS(uint64_t);
    case FL_DTYPE_I64:
        CONVERT_AS(int64_t);
    case FL_DTYPE_F32:
        memcpy(out, data, count * sizeof(float));
        break;
    case FL_DTYPE_F64:
        CONVERT_AS(double);
    default:
        convert_rare(elements->dtype, data, count, out);
    }
}

int fl_elements_check(const struct fl_elements *elements, const float *values, size_t count,
                      size_t first, struct fl_error *err)
{
    float sum = 0;

    /* Zero times a finite number is zero, and times anything else is not: no branch a number. */
    for (size_t i = 0; i < count; i++)
        sum += values[i] * 0.0f;
    if (sum == 0.0f)
        return 0;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return fl_error_set(err, FL_E_INVALID, "row %zu, column %zu: not a finite number",
                                (first + i) / elements->width, (first + i) % elements->width);
    return 0;
}

int fl_elements_read(const struct fl_elements *elements, struct fl_input *input, size_t count,
                     float *out, struct fl_error *err)
{
    size_t size = fl_dtype_size(elements->dtype);
    unsigned char piece[PIECE_BYTES] __attribute__((aligned(8)));

    for (size_t done = 0; done < count;) {
        size_t n = count - done < sizeof(piece) / size ? count - done : sizeof(piece) / size;
        int r = fl_input_exactly(input, piece, n * size, err);

        if (r < 0)
            return r;
        if (elements->big_endian && size > 1)
            swap_bytes(piece, n, size);
        fl_elements_convert(elements, piece, n, out + done);
        if (!elements->unchecked)
            r = fl_elements_check(elements, out + done, n, done, err);
        if (r < 0)
            return r;
        done += n;
    }
    return 0;
}
