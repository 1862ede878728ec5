/* One end of the trainer protocol on a socket: whole frames in, whole frames out, never waiting.
 * Shared by the learner's side and the trainer's. One thread. */
#ifndef FL_WORKLOADS_TRAINER_LINK_H
#define FL_WORKLOADS_TRAINER_LINK_H

#include "lib/channel.h"
#include "workloads/tensor/tensor.h"
#include "workloads/trainer/protocol.h"

struct fl_link {
    int fd; /* lent */
    struct fl_frame_reader *reader;
    bool descriptors;  /* the other side takes them */
    uint64_t body_max; /* of the other side */
    uint64_t own_body_max;
};
void fl_link_init(struct fl_link *link, int fd, uint64_t body_max);
void fl_link_finish(struct fl_link *link);

/* 1: a frame (the caller's); 0: none yet; < 0: UNAVAILABLE where the socket has ended, INVALID
 * where the protocol is broken. */
int fl_link_pull(struct fl_link *link, struct fl_frame *ret_frame, struct fl_error *err);

/* A frame on its way out; model and data are lent until it is sent. */
struct fl_outgoing {
    unsigned char header[FL_TRAINER_HEADER_SIZE];
    struct fl_bytes *head, *form;
    struct iovec parts[4];
    size_t count;
    int fd;
    bool sent;
};
struct fl_body {
    const struct fl_model *model; /* or bytes, or nothing */
    const void *data;
    size_t size;
};
/* Steals `head` (NULL: empty). TOO_LARGE for what the other side does not take. */
int fl_link_prepare(const struct fl_link *link, unsigned type, uint32_t id, json_t *head,
                    const struct fl_body *body, struct fl_outgoing *ret_outgoing,
                    struct fl_error *err);
/* 1: all of it is sent; 0: wait until the socket can be written. */
int fl_link_push(const struct fl_link *link, struct fl_outgoing *outgoing, struct fl_error *err);
void fl_outgoing_finish(struct fl_outgoing *outgoing);

/* The model in a frame's body. INVALID where there is none, or it is not what it should be. */
int fl_link_model(const struct fl_link *link, const struct fl_frame *frame,
                  struct fl_model **ret_model, struct fl_error *err);

#endif
