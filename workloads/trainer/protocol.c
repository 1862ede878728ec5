#include "workloads/trainer/protocol.h"

#include "lib/process.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>

static const char magic[4] = {'F', 'L', 'T', '1'};

const char *fl_frame_type_name(unsigned type)
{
    static const char *const names[] = {
        [FL_FRAME_HELLO] = "HELLO",     [FL_FRAME_INIT] = "INIT",
        [FL_FRAME_FIT] = "FIT",         [FL_FRAME_EVALUATE] = "EVALUATE",
        [FL_FRAME_EXPORT] = "EXPORT",   [FL_FRAME_CANCEL] = "CANCEL",
        [FL_FRAME_STOP] = "STOP",       [FL_FRAME_LOAD] = "LOAD",
        [FL_FRAME_PREDICT] = "PREDICT", [FL_FRAME_PROGRESS] = "PROGRESS",
        [FL_FRAME_LEARNER] = "LEARNER", [FL_FRAME_RESULT] = "RESULT",
        [FL_FRAME_ERROR] = "ERROR",
    };

    return type < FL_COUNT_OF(names) ? names[type] : NULL;
}

void fl_frame_finish(struct fl_frame *frame)
{
    json_decref(frame->head);
    free(frame->body);
    fl_fd_closep(&frame->fd);
    *frame = (struct fl_frame){.fd = -1};
}

/* The header's fields, in its order; without holes. */
struct wire {
    char magic[4];
    uint16_t type, flags;
    uint32_t id, head_size;
    uint64_t body_size;
};
_Static_assert(sizeof(struct wire) == FL_TRAINER_HEADER_SIZE, "no holes");

void fl_frame_header(const struct fl_frame *frame, size_t head_size,
                     unsigned char out[FL_TRAINER_HEADER_SIZE])
{
    struct wire wire = {.type = htole16((uint16_t)frame->type),
                        .flags = htole16((uint16_t)frame->flags),
                        .id = htole32(frame->id),
                        .head_size = htole32((uint32_t)head_size),
                        .body_size = htole64(frame->body_size)};

    memcpy(wire.magic, magic, sizeof(magic));
    memcpy(out, &wire, sizeof(wire));
}

enum part { PART_HEADER, PART_HEAD, PART_BODY };

struct fl_frame_reader {
    uint64_t body_max;
    enum part part;
    size_t used; /* of the part */
    unsigned char header[FL_TRAINER_HEADER_SIZE];
    char *head;
    size_t head_size;
    struct fl_frame frame;
};

struct fl_frame_reader *fl_frame_reader_create(uint64_t body_max)
{
    struct fl_frame_reader *reader = fl_calloc(1, sizeof(*reader));

    reader->body_max = body_max < FL_TRAINER_BODY_MAX ? body_max : FL_TRAINER_BODY_MAX;
    reader->frame.fd = -1;
    return reader;
}

void fl_frame_reader_destroy(struct fl_frame_reader *reader)
{
    if (!reader)
        return;
    fl_frame_finish(&reader->frame);
    free(reader->head);
    free(reader);
}

bool fl_frame_reader_is_within(const struct fl_frame_reader *reader)
{
    return reader->part != PART_HEADER || reader->used > 0;
}

static size_t part_size(const struct fl_frame_reader *reader)
{
    switch (reader->part) {
    case PART_HEADER:
        return FL_TRAINER_HEADER_SIZE;
    case PART_HEAD:
        return reader->head_size;
    default:
        return reader->frame.flags & FL_FRAME_DESCRIPTOR ? 0 : (size_t)reader->frame.body_size;
    }
}

void *fl_frame_reader_room(struct fl_frame_reader *reader, size_t *ret_size)
{
    unsigned char *start = reader->part == PART_HEADER ? reader->header
                           : reader->part == PART_HEAD ? (unsigned char *)reader->head
                                                       : reader->frame.body;

    *ret_size = part_size(reader) - reader->used;
    return start + reader->used;
}

/* What can be told of the header alone, before anything is allocated for it. */
static int check_header(const struct fl_frame_reader *reader, const struct wire *wire,
                        struct fl_error *err)
{
    const struct fl_frame *frame = &reader->frame;

    if (memcmp(wire->magic, magic, sizeof(magic)) != 0)
        return fl_error_set(err, FL_E_INVALID,
                            "what came is no frame (it begins %02x %02x %02x "
                            "%02x)",
                            reader->header[0], reader->header[1], reader->header[2],
                            reader->header[3]);
    if (frame->flags & ~(unsigned)(FL_FRAME_DESCRIPTOR | FL_FRAME_SKIPPABLE))
        return fl_error_set(err, FL_E_INVALID, "a frame with the unknown flags %#x", frame->flags);
    if (!fl_frame_type_name(frame->type) && !(frame->flags & FL_FRAME_SKIPPABLE))
        return fl_error_set(err, FL_E_INVALID, "a frame of the unknown type %u", frame->type);
    if (reader->head_size > FL_TRAINER_HEAD_MAX)
        return fl_error_set(err, FL_E_INVALID, "a frame's head of %zu bytes, more than %zu",
                            reader->head_size, FL_TRAINER_HEAD_MAX);
    if (frame->body_size > reader->body_max)
        return fl_error_set(err, FL_E_INVALID,
                            "a frame's body of %" PRIu64 " bytes, more than %" PRIu64,
                            frame->body_size, reader->body_max);
    if (!!(frame->flags & FL_FRAME_DESCRIPTOR) != (frame->fd >= 0))
        return fl_error_set(err, FL_E_INVALID,
                            frame->fd >= 0 ? "a descriptor came with a frame that has none"
                                           : "a frame's descriptor did not come with it");
    return 0;
}

static int take_header(struct fl_frame_reader *reader, struct fl_error *err)
{
    struct fl_frame *frame = &reader->frame;
    struct wire wire;
    int r;

    memcpy(&wire, reader->header, sizeof(wire));
    frame->type = le16toh(wire.type);
    frame->flags = le16toh(wire.flags);
    frame->id = le32toh(wire.id);
    frame->body_size = le64toh(wire.body_size);
    reader->head_size = le32toh(wire.head_size);
    r = check_header(reader, &wire, err);
    if (r < 0)
        return r;
    reader->head = fl_malloc(reader->head_size + 1);
    if (frame->flags & FL_FRAME_DESCRIPTOR || frame->body_size == 0)
        return 0;
    frame->body = malloc((size_t)frame->body_size);
    return frame->body
               ? 0
               : fl_error_set(err, FL_E_TOO_LARGE, "no memory for a body of %" PRIu64 " bytes",
                              frame->body_size);
}

static int take_head(struct fl_frame_reader *reader, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_TRAINER_HEAD_MAX, .max_depth = 64};
    int r = 0;

    if (reader->head_size == 0)
        reader->frame.head = json_object();
    else
        r = fl_json_parse(reader->head, reader->head_size, &limits, NULL, NULL, &reader->frame.head,
                          err);
    if (r == 0 && !json_is_object(reader->frame.head))
        return fl_error_set(err, FL_E_INVALID, "a frame's head must be an object, not %s",
                            fl_json_type_name(reader->frame.head));
    if (r < 0)
        return fl_error_set(err, FL_E_INVALID, "a frame's head: %s", err ? err->msg : "");
    free(FL_TAKE(reader->head));
    return 0;
}

/* 1: the frame is to be given out. */
static int take_body(struct fl_frame_reader *reader, struct fl_frame *ret_frame)
{
    if (!fl_frame_type_name(reader->frame.type)) {
        fl_frame_finish(&reader->frame);
        return 0;
    }
    *ret_frame = reader->frame;
    reader->frame = (struct fl_frame){.fd = -1};
    return 1;
}

static int take_part(struct fl_frame_reader *reader, struct fl_frame *ret_frame,
                     struct fl_error *err)
{
    reader->used = 0;
    switch (reader->part) {
    case PART_HEADER:
        reader->part = PART_HEAD;
        return take_header(reader, err);
    case PART_HEAD:
        reader->part = PART_BODY;
        return take_head(reader, err);
    default:
        reader->part = PART_HEADER;
        return take_body(reader, ret_frame);
    }
}

int fl_frame_reader_got(struct fl_frame_reader *reader, size_t len, int fd,
                        struct fl_frame *ret_frame, struct fl_error *err)
{
    int r = 0;

    if (fd >= 0 && (reader->frame.fd >= 0 || reader->part != PART_HEADER || reader->used > 0)) {
        fl_fd_closep(&fd);
        return fl_error_set(err, FL_E_INVALID, "a descriptor came where no frame begins");
    }
    if (fd >= 0)
        reader->frame.fd = fd;
    reader->used += len;
    while (r == 0 && reader->used == part_size(reader)) {
        r = take_part(reader, ret_frame, err);
        if (r == 0 && reader->part == PART_HEADER)
            break; /* skipped: the next one has not begun */
    }
    return r;
}
