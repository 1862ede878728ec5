/* Frames from a stranger, in pieces. What is whole is written again and must read back the same. */
#include "workloads/trainer/protocol.h"

#include <string.h>

#define BODY_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int feed(struct fl_frame_reader *reader, const uint8_t *data, size_t size, size_t step,
                size_t *at, struct fl_frame *ret_frame)
{
    int r = 0;

    while (r == 0 && *at < size) {
        size_t len;
        void *room = fl_frame_reader_room(reader, &len);

        if (len == 0)
            __builtin_trap();
        len = len < step ? len : step;
        len = len < size - *at ? len : size - *at;
        memcpy(room, data + *at, len);
        *at += len;
        r = fl_frame_reader_got(reader, len, -1, ret_frame, NULL);
    }
    return r;
}

/* As text: 1.0 is written as 1 and read as an integer. */
static bool is_same(const json_t *value, const struct fl_bytes *text)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *own = fl_json_to_bytes(value);

    return own->len == text->len && memcmp(own->data, text->data, own->len) == 0;
}

static void check_again(const struct fl_frame *frame)
{
    FL_CLEANUP(fl_frame_reader_destroyp)
    struct fl_frame_reader *reader = fl_frame_reader_create(BODY_MAX);
    FL_CLEANUP(fl_frame_finish) struct fl_frame back = {.fd = -1};
    FL_CLEANUP(fl_buf_finish) struct fl_buf wire;
    unsigned char header[FL_TRAINER_HEADER_SIZE];
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *head = fl_json_to_bytes(frame->head);
    size_t at = 0;

    fl_buf_init(&wire, 0);
    fl_frame_header(frame, head->len, header);
    fl_buf_append(&wire, header, sizeof(header));
    fl_buf_append(&wire, head->data, head->len);
    if (frame->body)
        fl_buf_append(&wire, frame->body, (size_t)frame->body_size);
    if (feed(reader, (const uint8_t *)wire.data, wire.len, wire.len, &at, &back) != 1 ||
        back.type != frame->type || back.id != frame->id || back.body_size != frame->body_size ||
        !is_same(back.head, head) ||
        (frame->body && memcmp(back.body, frame->body, (size_t)frame->body_size) != 0))
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_frame_reader_destroyp)
    struct fl_frame_reader *reader = fl_frame_reader_create(BODY_MAX);
    size_t at = 1;

    if (size == 0)
        return 0;
    for (;;) {
        FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};

        if (feed(reader, data, size, data[0] + 1u, &at, &frame) != 1)
            return 0;
        check_again(&frame);
    }
}
