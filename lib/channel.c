#include "lib/channel.h"

#include "lib/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS_AT_ONCE 8
#define WAITS_MAX   8
#define SEALS       (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int stop_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int fl_channel_pair(int ret_fds[2], struct fl_error *err)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return fl_error_errno(err, errno, "socket pair");
    if (stop_blocking(fds[0]) != 0) {
        int r = fl_error_errno(err, errno, "socket pair");

        (void)close(fds[0]);
        (void)close(fds[1]);
        return r;
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int fl_channel_adopt(int fd, struct fl_error *err)
{
    struct stat info;

    if (fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode))
        return fl_error_set(err, FL_E_INVALID, "descriptor %d is no socket", fd);
    if (stop_blocking(fd) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return fl_error_errno(err, errno, "descriptor %d", fd);
    return 0;
}

static void move_on(struct iovec *parts, size_t count, size_t sent)
{
    for (size_t i = 0; i < count && sent > 0; i++) {
        size_t step = sent < parts[i].iov_len ? sent : parts[i].iov_len;

        parts[i].iov_base = (char *)parts[i].iov_base + step;
        parts[i].iov_len -= step;
        sent -= step;
    }
}

/* The kernel wants it aligned. */
union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(FDS_AT_ONCE * sizeof(int))];
};

static void attach(struct msghdr *message, union control *control, int fd)
{
    struct cmsghdr *header;

    memset(control, 0, sizeof(*control));
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(sizeof(int));
    header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
}

int fl_channel_send(int channel, struct iovec *parts, size_t count, int fd, size_t *ret_sent,
                    struct fl_error *err)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    union control control;
    ssize_t sent;

    if (fd >= 0)
        attach(&message, &control, fd);
    do
        sent = sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno == EAGAIN)
        sent = 0;
    if (sent < 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "send: %s", strerror(errno));
    move_on(parts, count, (size_t)sent);
    *ret_sent = (size_t)sent;
    return 0;
}

/* The first that came is kept, the others are closed. */
static int take_fd(struct msghdr *message)
{
    int first = -1;

    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (first < 0)
                first = fd;
            else
                (void)close(fd);
        }
    }
    return first;
}

int fl_channel_receive(int channel, void *data, size_t size, size_t *ret_len, int *ret_fd,
                       struct fl_error *err)
{
    struct iovec part = {data, size};
    union control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t got;

    *ret_len = 0;
    *ret_fd = -1;
    do
        got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got < 0 && errno == ECONNRESET)
        return 1;
    if (got < 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "receive: %s", strerror(errno));
    *ret_len = (size_t)got;
    *ret_fd = take_fd(&message);
    return got == 0 ? 1 : 0;
}

int fl_channel_wait(struct fl_channel_wait *waits, size_t count, int64_t timeout_ms)
{
    struct pollfd polled[WAITS_MAX];
    int r, timeout = timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms;

    for (size_t i = 0; i < count && i < WAITS_MAX; i++)
        polled[i] = (struct pollfd){.fd = waits[i].fd, .events = waits[i].write ? POLLOUT : POLLIN};
    r = poll(polled, count < WAITS_MAX ? count : WAITS_MAX, timeout < 0 ? 0 : timeout);
    for (size_t i = 0; i < count && i < WAITS_MAX; i++)
        waits[i].ready = r > 0 && polled[i].revents != 0;
    return r > 0 ? r : 0;
}

/* Sealed memory */

static int write_parts(int fd, const struct iovec *parts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *data = parts[i].iov_base;
        size_t left = parts[i].iov_len;

        while (left > 0) {
            ssize_t n = write(fd, data, left);

            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return -1;
            data += n;
            left -= (size_t)n;
        }
    }
    return 0;
}

int fl_sealed_create(const char *name, const struct iovec *parts, size_t count, int *ret_fd,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return fl_error_errno(err, errno, "memory to share");
    if (write_parts(fd, parts, count) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0)
        return fl_error_errno(err, errno, "memory to share");
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int fl_sealed_check(int fd, uint64_t size, struct fl_error *err)
{
    int wanted = F_SEAL_SHRINK | F_SEAL_WRITE, seals = fcntl(fd, F_GET_SEALS);
    struct stat info;

    if (seals < 0 || fstat(fd, &info) != 0)
        return fl_error_set(err, FL_E_INVALID, "the descriptor is no memory that can be sealed");
    if ((seals & wanted) != wanted)
        return fl_error_set(err, FL_E_INVALID,
                            "the memory is not sealed against writing and shrinking");
    if ((uint64_t)info.st_size != size)
        return fl_error_set(err, FL_E_INVALID, "the memory has %lld bytes instead of %llu",
                            (long long)info.st_size, (unsigned long long)size);
    return 0;
}

/* Pipes */

int fl_pipe_create(int ret_fds[2], struct fl_error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        return fl_error_errno(err, errno, "pipe");
    if (stop_blocking(fds[0]) != 0) {
        int r = fl_error_errno(err, errno, "pipe");

        (void)close(fds[0]);
        (void)close(fds[1]);
        return r;
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int fl_pipe_read(int fd, void *data, size_t size, size_t *ret_len)
{
    ssize_t got;

    do
        got = read(fd, data, size);
    while (got < 0 && errno == EINTR);
    *ret_len = got > 0 ? (size_t)got : 0;
    if (got < 0)
        return errno == EAGAIN ? 0 : 1;
    return got == 0 ? 1 : 0;
}
