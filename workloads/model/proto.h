/* Protocol buffers' wire format, as much of it as an ONNX file needs.
 *
 * Writing appends fields to a buffer; a nested message is written to a buffer of its own and put in
 * as bytes. Reading walks the fields of a message where it lies, copies nothing and goes nowhere
 * beyond its end. Groups, which nobody has written for long, are refused. Any thread. Source: the
 * encoding as protobuf.dev describes it. */
#ifndef FL_WORKLOADS_MODEL_PROTO_H
#define FL_WORKLOADS_MODEL_PROTO_H

#include "lib/buf.h"
#include "lib/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void fl_proto_put_int(struct fl_buf *buf, unsigned field, int64_t value);
void fl_proto_put_text(struct fl_buf *buf, unsigned field, const char *text);
void fl_proto_put_bytes(struct fl_buf *buf, unsigned field, const void *data, size_t len);
/* The message in `part`, which is emptied. */
void fl_proto_put_message(struct fl_buf *buf, unsigned field, struct fl_buf *part);
/* What stands before `len` bytes that follow by another way. */
void fl_proto_put_head(struct fl_buf *buf, unsigned field, size_t len);

struct fl_proto_span { /* a message, or what is left of it */
    const unsigned char *at, *end;
};

enum fl_proto_wire { FL_PROTO_VARINT = 0, FL_PROTO_64 = 1, FL_PROTO_BYTES = 2, FL_PROTO_32 = 5 };

struct fl_proto_field {
    uint64_t number;
    enum fl_proto_wire wire;
    uint64_t value;             /* of all but BYTES */
    struct fl_proto_span bytes; /* of BYTES */
};

static inline size_t fl_proto_len(struct fl_proto_span span)
{
    return (size_t)(span.end - span.at);
}
/* 1: a field; 0: the end; INVALID. */
int fl_proto_next(struct fl_proto_span *span, struct fl_proto_field *ret_field,
                  struct fl_error *err);
bool fl_proto_is(struct fl_proto_span span, const char *text);

#endif
