#include "workloads/trainer/link.h"

#include "lib/process.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <string.h>

#define INLINE_MAX ((uint64_t)64 * 1024) /* more is worth a descriptor */

void fl_link_init(struct fl_link *link, int fd, uint64_t body_max)
{
    *link = (struct fl_link){.fd = fd,
                             .reader = fl_frame_reader_create(body_max),
                             .body_max = FL_TRAINER_BODY_MAX,
                             .own_body_max = body_max};
}

void fl_link_finish(struct fl_link *link)
{
    fl_frame_reader_destroy(FL_TAKE(link->reader));
}

int fl_link_pull(struct fl_link *link, struct fl_frame *ret_frame, struct fl_error *err)
{
    int r = 0;

    while (r == 0) {
        size_t size, len;
        void *room = fl_frame_reader_room(link->reader, &size);
        int fd, end = fl_channel_receive(link->fd, room, size, &len, &fd, err);

        if (end < 0)
            return end;
        if (end > 0)
            return fl_error_set(err, FL_E_UNAVAILABLE, "the other side closed the connection%s",
                                fl_frame_reader_is_within(link->reader) ? " within a frame" : "");
        if (len == 0)
            return 0;
        r = fl_frame_reader_got(link->reader, len, fd, ret_frame, err);
    }
    return r;
}

/* Sending */

static void add_part(struct fl_outgoing *outgoing, const void *data, size_t size)
{
    if (size > 0)
        outgoing->parts[outgoing->count++] =
            (struct iovec){.iov_base = (void *)data, .iov_len = size};
}

/* The body's parts, and its size. */
static uint64_t describe_body(struct fl_outgoing *outgoing, const struct fl_body *body)
{
    size_t size = body ? body->size : 0;

    if (body && body->model) {
        outgoing->form = fl_safetensors_header(body->model, &size);
        add_part(outgoing, outgoing->form->data, outgoing->form->len);
        add_part(outgoing, body->model->data, body->model->size);
    } else if (body) {
        add_part(outgoing, body->data, size);
    }
    return size;
}

static int seal_body(struct fl_outgoing *outgoing, size_t first, struct fl_error *err)
{
    int r = fl_sealed_create("trainer", outgoing->parts + first, outgoing->count - first,
                             &outgoing->fd, err);

    outgoing->count = first;
    return r;
}

int fl_link_prepare(const struct fl_link *link, unsigned type, uint32_t id, json_t *head,
                    const struct fl_body *body, struct fl_outgoing *ret_outgoing,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_json_decrefp) json_t *owned = head;
    FL_CLEANUP(fl_outgoing_finish) struct fl_outgoing outgoing = {.fd = -1};
    struct fl_frame frame = {.type = type, .id = id};
    size_t head_size = 0;
    int r = 0;

    if (head) {
        outgoing.head = fl_json_to_bytes(owned);
        head_size = outgoing.head->len;
        add_part(&outgoing, outgoing.head->data, head_size);
    }
    frame.body_size = describe_body(&outgoing, body);
    if (head_size > FL_TRAINER_HEAD_MAX || frame.body_size > link->body_max)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "a frame with a head of %zu and a body of %" PRIu64
                            " bytes is more than the other side takes",
                            head_size, frame.body_size);
    if (link->descriptors && frame.body_size > INLINE_MAX) {
        frame.flags = FL_FRAME_DESCRIPTOR;
        r = seal_body(&outgoing, head ? 1 : 0, err);
    }
    if (r < 0)
        return r;
    fl_frame_header(&frame, head_size, outgoing.header);
    *ret_outgoing = outgoing;
    outgoing = (struct fl_outgoing){.fd = -1};
    return 0;
}

/* The header goes alone: so it is whole, and its descriptor with it, whatever comes behind. */
static int push_header(const struct fl_link *link, struct fl_outgoing *outgoing,
                       struct fl_error *err)
{
    struct iovec part = {outgoing->header, sizeof(outgoing->header)};
    size_t sent;
    int r = fl_channel_send(link->fd, &part, 1, outgoing->fd, &sent, err);

    if (r < 0 || sent == 0)
        return r;
    if (sent < sizeof(outgoing->header)) /* a stream socket has room for a page or for nothing */
        return fl_error_set(err, FL_E_UNAVAILABLE, "a header was sent in part");
    outgoing->sent = true;
    return 0;
}

int fl_link_push(const struct fl_link *link, struct fl_outgoing *outgoing, struct fl_error *err)
{
    size_t left = 0, sent = 1;
    int r = 0;

    if (!outgoing->sent)
        r = push_header(link, outgoing, err);
    if (r < 0 || !outgoing->sent)
        return r;
    for (size_t i = 0; i < outgoing->count; i++)
        left += outgoing->parts[i].iov_len;
    while (left > 0 && sent > 0) {
        r = fl_channel_send(link->fd, outgoing->parts, outgoing->count, -1, &sent, err);
        if (r < 0)
            return r;
        left -= sent;
    }
    return left == 0;
}

void fl_outgoing_finish(struct fl_outgoing *outgoing)
{
    fl_bytes_unref(outgoing->head);
    fl_bytes_unref(outgoing->form);
    fl_fd_closep(&outgoing->fd);
    *outgoing = (struct fl_outgoing){.fd = -1};
}

/* Models */

int fl_link_model(const struct fl_link *link, const struct fl_frame *frame,
                  struct fl_model **ret_model, struct fl_error *err)
{
    const struct fl_model_limits limits = {.max_bytes = (size_t)link->own_body_max};
    int r;

    if (frame->body_size == 0)
        return fl_error_set(err, FL_E_INVALID, "a model is missing");
    if (frame->fd < 0)
        return fl_safetensors_read(frame->body, (size_t)frame->body_size, &limits, ret_model, err);
    r = fl_sealed_check(frame->fd, frame->body_size, err);
    return r < 0 ? r : fl_safetensors_open_fd(frame->fd, &limits, ret_model, err);
}
