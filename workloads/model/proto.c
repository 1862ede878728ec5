#include "workloads/model/proto.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>

static void put_varint(struct fl_buf *buf, uint64_t value)
{
    while (value >= 0x80) {
        fl_buf_putc(buf, (char)(value | 0x80));
        value >>= 7;
    }
    fl_buf_putc(buf, (char)value);
}

static void put_tag(struct fl_buf *buf, unsigned field, enum fl_proto_wire wire)
{
    put_varint(buf, (uint64_t)field << 3 | wire);
}

void fl_proto_put_int(struct fl_buf *buf, unsigned field, int64_t value)
{
    put_tag(buf, field, FL_PROTO_VARINT);
    put_varint(buf, (uint64_t)value);
}

void fl_proto_put_head(struct fl_buf *buf, unsigned field, size_t len)
{
    put_tag(buf, field, FL_PROTO_BYTES);
    put_varint(buf, len);
}

void fl_proto_put_bytes(struct fl_buf *buf, unsigned field, const void *data, size_t len)
{
    fl_proto_put_head(buf, field, len);
    if (len > 0)
        fl_buf_append(buf, data, len);
}

void fl_proto_put_text(struct fl_buf *buf, unsigned field, const char *text)
{
    fl_proto_put_bytes(buf, field, text, strlen(text));
}

void fl_proto_put_message(struct fl_buf *buf, unsigned field, struct fl_buf *part)
{
    fl_proto_put_bytes(buf, field, fl_buf_text(part), part->len);
    fl_buf_finish(part);
}

/* Reading */

static int cut_off(struct fl_error *err)
{
    return fl_error_set(err, FL_E_INVALID, "it is cut off, or damaged");
}

static int take_varint(struct fl_proto_span *span, uint64_t *ret_value, struct fl_error *err)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        unsigned char byte;

        if (span->at == span->end)
            return cut_off(err);
        byte = *span->at++;
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return 0;
        }
    }
    return fl_error_set(err, FL_E_INVALID, "a number of more than 64 bits");
}

static int take_fixed(struct fl_proto_span *span, size_t size, uint64_t *ret_value,
                      struct fl_error *err)
{
    uint64_t value = 0;

    if (fl_proto_len(*span) < size)
        return cut_off(err);
    memcpy(&value, span->at, size);
    span->at += size;
    *ret_value = le64toh(value);
    return 0;
}

static int take_bytes(struct fl_proto_span *span, struct fl_proto_span *ret_bytes,
                      struct fl_error *err)
{
    uint64_t len;
    int r = take_varint(span, &len, err);

    if (r < 0)
        return r;
    if (len > fl_proto_len(*span))
        return cut_off(err);
    *ret_bytes = (struct fl_proto_span){span->at, span->at + len};
    span->at += len;
    return 0;
}

int fl_proto_next(struct fl_proto_span *span, struct fl_proto_field *ret_field,
                  struct fl_error *err)
{
    struct fl_proto_field field = {0};
    uint64_t tag;
    int r;

    if (span->at == span->end)
        return 0;
    r = take_varint(span, &tag, err);
    if (r < 0)
        return r;
    field.number = tag >> 3;
    field.wire = (enum fl_proto_wire)(tag & 7);
    switch (field.wire) {
    case FL_PROTO_VARINT:
        r = take_varint(span, &field.value, err);
        break;
    case FL_PROTO_64:
        r = take_fixed(span, 8, &field.value, err);
        break;
    case FL_PROTO_32:
        r = take_fixed(span, 4, &field.value, err);
        break;
    case FL_PROTO_BYTES:
        r = take_bytes(span, &field.bytes, err);
        break;
    default:
        r = fl_error_set(err, FL_E_INVALID, "field %" PRIu64 " has the unknown form %u",
                         field.number, (unsigned)field.wire);
    }
    if (r < 0)
        return r;
    *ret_field = field;
    return 1;
}

bool fl_proto_is(struct fl_proto_span span, const char *text)
{
    size_t len = strlen(text);

    return fl_proto_len(span) == len && memcmp(span.at, text, len) == 0;
}
