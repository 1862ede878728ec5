/* Starting a shim and finding one again. */
#include "lib/process.h"
#include "lib/shim.h"
#include "lib/shim_internal.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME    "socket"
#define LISTEN_TRIES   200
#define LISTEN_WAIT_MS 10

static int open_folder(const char *folder, struct fl_error *err)
{
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 ? fd : fl_error_errno(err, errno, "open %s", folder);
}

/* An address has room for a hundred characters only: the folder is named by its descriptor. */
static struct sockaddr_un address_in(int folder)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" SOCKET_NAME,
                   folder);
    return address;
}

int fl_shim_lock(const char *path, int *ret_fd, struct fl_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return fl_error_errno(err, errno, "open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int errnum = errno;

        (void)close(fd);
        return errnum == EWOULDBLOCK ? fl_error_set(err, FL_E_CONFLICT, "a run lives: %s", path)
                                     : fl_error_errno(err, errnum, "lock %s", path);
    }
    *ret_fd = fd;
    return 0;
}

/* Listens before the shim is there, so that there is no time in which a shim cannot be found. */
static int listen_in(const char *folder, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int at = open_folder(folder, err);
    struct sockaddr_un address;
    int fd, errnum;

    if (at < 0)
        return at;
    address = address_in(at);
    (void)unlinkat(at, SOCKET_NAME, 0);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        listen(fd, FL_SHIM_BACKLOG) == 0)
        return fd;
    errnum = errno;
    fl_fd_closep(&fd);
    return fl_error_errno(err, errnum, "listen in %s", folder);
}

/* Sealed: what the shim reads is what was written here. */
static int spec_in_memory(const struct fl_shim_spec *spec, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = fl_shim_spec_encode(spec);
    int fd = memfd_create("flops-run", MFD_CLOEXEC | MFD_ALLOW_SEALING), r = 0;
    size_t done = 0;

    if (fd < 0)
        return fl_error_errno(err, errno, "take memory for a spec");
    while (done < bytes->len && r == 0) {
        ssize_t n = write(fd, bytes->data + done, bytes->len - done);

        if (n < 0 && errno != EINTR)
            r = errno;
        done += n > 0 ? (size_t)n : 0;
    }
    explicit_bzero(bytes->data, bytes->len);
    if (r == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
        r = errno;
    if (r) {
        (void)close(fd);
        return fl_error_errno(err, r, "write a spec into memory");
    }
    return fd;
}

static int connect_in(const char *folder, int *ret_socket, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int at = open_folder(folder, err);
    struct sockaddr_un address;
    int fd, errnum;

    if (at < 0)
        return at;
    address = address_in(at);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fl_error_errno(err, errno, "make a socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        *ret_socket = fd;
        return 0;
    }
    errnum = errno;
    (void)close(fd);
    if (errnum == ENOENT || errnum == ECONNREFUSED)
        return fl_error_set(err, FL_E_NOT_FOUND, "no shim lives in %s", folder);
    return fl_error_errno(err, errnum, "connect to the shim in %s", folder);
}

static int start(const char *const *argv, const struct fl_shim_spec *spec, int lock,
                 struct fl_shim *ret_shim, struct fl_error *err)
{
    static const char *const no_env[] = {NULL};
    FL_CLEANUP(fl_fd_closep) int memory = spec_in_memory(spec, err);
    FL_CLEANUP(fl_fd_closep) int listener = -1;
    struct fl_process_start process = {.argv = argv, .env = no_env, .fd_count = 3};
    struct fl_shim shim = {.socket = -1, .pidfd = -1};
    int fds[3], r;

    if (memory < 0)
        return memory;
    listener = listen_in(spec->folder, err);
    if (listener < 0)
        return listener;
    fds[0] = memory, fds[1] = listener, fds[2] = lock;
    process.fds = fds;
    r = connect_in(spec->folder, &shim.socket, err);
    if (r == 0)
        r = fl_process_start(&process, &shim.pidfd, err);
    if (r < 0) {
        fl_fd_closep(&shim.socket);
        return r;
    }
    *ret_shim = shim;
    return 0;
}

int fl_shim_launch(const char *const *argv, const struct fl_shim_spec *spec, int lock,
                   struct fl_shim *ret_shim, struct fl_error *err)
{
    int r = start(argv, spec, lock, ret_shim, err);

    (void)close(lock);
    return r;
}

/* Who listens is asked of the kernel: a pid in a file could be somebody else's by now. > 0: the
 * shim was only just started and does not listen by itself yet. */
static int hold_peer(int socket, int *ret_pidfd, struct fl_error *err)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    int r;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return fl_error_errno(err, errno, "ask who the shim is");
    if (peer.pid == getpid())
        return 1;
    r = fl_process_open(peer.pid, ret_pidfd, err);
    return r == FL_E_NOT_FOUND ? 1 : r;
}

static int connect_once(const char *folder, struct fl_shim *ret_shim, struct fl_error *err)
{
    struct fl_shim shim = {.socket = -1, .pidfd = -1};
    int r = connect_in(folder, &shim.socket, err);

    if (r == 0)
        r = hold_peer(shim.socket, &shim.pidfd, err);
    if (r == 0)
        *ret_shim = shim;
    else
        fl_fd_closep(&shim.socket);
    return r;
}

int fl_shim_connect(const char *folder, struct fl_shim *ret_shim, struct fl_error *err)
{
    for (unsigned i = 0; i < LISTEN_TRIES; i++) {
        int r = connect_once(folder, ret_shim, err);

        if (r <= 0)
            return r;
        (void)poll(NULL, 0, LISTEN_WAIT_MS);
    }
    return fl_error_set(err, FL_E_UNAVAILABLE, "the shim in %s does not come up", folder);
}

void fl_shim_close(struct fl_shim *shim)
{
    fl_fd_closep(&shim->socket);
    fl_fd_closep(&shim->pidfd);
    shim->socket = shim->pidfd = -1;
}
