/* A pair of connected sockets between a process and its child, for bytes and descriptors; and
 * sealed memory, which can be handed over such a socket instead of being copied through it.
 *
 * Sockets are close-on-exec and non-blocking on our side; waiting is the caller's, with fl_channel_
 * wait. A descriptor goes with the first byte of what it is sent with, and arrives with that byte.
 * Any thread, one at a time for each end. */
#ifndef FL_LIB_CHANNEL_H
#define FL_LIB_CHANNEL_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* [0] is ours; [1] is the child's, and blocks as a plain program expects. */
int fl_channel_pair(int ret_fds[2], struct fl_error *err);
/* An end that this process was started with: from now on it does not block and is close-on-exec.
 * INVALID where it is no socket. */
int fl_channel_adopt(int fd, struct fl_error *err);

/* Sends what can be sent now and moves the parts on; `fd` (-1: none) goes with the first byte.
 * Returns the bytes sent, 0 where the other side has to read first; UNAVAILABLE where it is gone.
 */
int fl_channel_send(int channel, struct iovec *parts, size_t count, int fd, size_t *ret_sent,
                    struct fl_error *err);
/* Reads at most `size` bytes that are there. *ret_len 0 and result 0: none now; 1: the end. A
 * descriptor that came is *ret_fd (the caller's; several at once: all but the first are closed), -1
 * otherwise. */
int fl_channel_receive(int channel, void *data, size_t size, size_t *ret_len, int *ret_fd,
                       struct fl_error *err);

/* Waits until one of the descriptors can be read (or, where `write`, written) or ended; negative
 * ones are left out. Sets `ready` of each. Returns how many are; 0 at the deadline. */
struct fl_channel_wait {
    int fd;
    bool write;
    bool ready;
};
int fl_channel_wait(struct fl_channel_wait *waits, size_t count, int64_t timeout_ms);

/* Memory with these parts, which nobody can change any more; to be sent and mapped. The caller
 * closes it. */
int fl_sealed_create(const char *name, const struct iovec *parts, size_t count, int *ret_fd,
                     struct fl_error *err);
/* INVALID unless it is memory of just this size that nobody can change: what a stranger sent may
 * otherwise shrink while it is read. */
int fl_sealed_check(int fd, uint64_t size, struct fl_error *err);

/* Both ends close-on-exec; [0] is read without blocking. */
int fl_pipe_create(int ret_fds[2], struct fl_error *err);
/* Like fl_channel_receive, from a pipe. */
int fl_pipe_read(int fd, void *data, size_t size, size_t *ret_len);

#endif
