/* For the tests of bulk transfer: a bulk server on a loop in a thread of its own that can be
 * stopped and started over the same folders, and a proxy that does what bad networks do. */
#ifndef FL_WORKLOADS_BULK_TESTING_H
#define FL_WORKLOADS_BULK_TESTING_H

#include "lib/file.h"
#include "lib/log.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/transfer/bulk_client.h"
#include "workloads/transfer/bulk_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    struct fl_env env;
    char folder[64], uploads[96], served[96], fetched[96];
    struct fl_blobs *blobs;
    struct fl_bulk_server_options options;
    struct fl_loop *loop;
    struct fl_bulk_server *server;
    struct fl_thread *thread;
    uint16_t port;
    atomic_int completed;
    bool refuse_complete, refuse_all;
    char authorization[64]; /* that `allow` wants; empty: anything */
};

static inline int rig_allow(void *user, const struct fl_bulk_ask *ask, struct fl_error *err)
{
    struct rig *rig = user;

    if (rig->refuse_all ||
        (*rig->authorization && !fl_streq(ask->authorization, rig->authorization)))
        return fl_error_set(err, FL_E_FORBIDDEN, "not you");
    return 0;
}

static inline int rig_complete(void *user, const struct fl_bulk_upload *upload,
                               struct fl_error *err)
{
    struct rig *rig = user;

    assert_true(upload->complete);
    if (rig->refuse_complete)
        return fl_error_set(err, FL_E_EXPIRED, "too late");
    rig->completed++;
    return 0;
}

static inline void rig_run(void *user)
{
    fl_loop_run(((struct rig *)user)->loop);
}

static inline void rig_serve(struct rig *rig)
{
    struct fl_error err = {0};

    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    rig->options.env = &rig->env;
    rig->options.loop = rig->loop;
    rig->options.address = "127.0.0.1";
    rig->options.port = rig->port;
    rig->options.blobs = rig->blobs;
    rig->options.uploads_dir = rig->uploads;
    rig->options.allow = rig_allow;
    rig->options.complete = rig_complete;
    rig->options.user = rig;
    if (fl_bulk_server_create(&rig->options, &rig->server, &err) < 0)
        fail_msg("%s", err.msg);
    rig->port = fl_bulk_server_port(rig->server);
    assert_int_equal(fl_thread_start("bulk", rig_run, rig, &rig->thread, &err), 0);
}

/* As abruptly as a process that is killed, as far as files and sockets can tell. */
static inline void rig_halt(struct rig *rig)
{
    fl_loop_stop(rig->loop);
    fl_thread_join(rig->thread);
    fl_bulk_server_destroy(rig->server);
    fl_loop_destroy(rig->loop);
}

static inline struct rig *rig_start_with(const struct fl_bulk_server_options *options, bool checks)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_error err = {0};

    rig->env = fl_env_real(NULL);
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flops-bulk-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    (void)snprintf(rig->uploads, sizeof(rig->uploads), "%s/uploads", rig->folder);
    (void)snprintf(rig->served, sizeof(rig->served), "%s/served", rig->folder);
    (void)snprintf(rig->fetched, sizeof(rig->fetched), "%s/fetched", rig->folder);
    assert_int_equal(fl_blobs_open(&(struct fl_blobs_options){.env = &rig->env,
                                                              .path = rig->served,
                                                              .fleeting = true,
                                                              .checks = checks},
                                   &rig->blobs, &err),
                     0);
    if (options)
        rig->options = *options;
    rig_serve(rig);
    return rig;
}

static inline struct rig *rig_start(const struct fl_bulk_server_options *options)
{
    return rig_start_with(options, false);
}

static inline void rig_stop(struct rig *rig)
{
    rig_halt(rig);
    fl_blobs_close(rig->blobs);
    assert_int_equal(fl_dir_remove(rig->folder, NULL), 0);
    free(rig);
}

/* Runs on the loop while the test waits. */
struct rig_call {
    void (*fn)(struct rig *rig, void *user);
    struct rig *rig;
    void *user;
    sem_t done;
};

static inline void rig_run_call(void *user)
{
    struct rig_call *call = user;

    call->fn(call->rig, call->user);
    (void)sem_post(&call->done);
}

static inline void rig_on_loop(struct rig *rig, void (*fn)(struct rig *, void *), void *user)
{
    struct rig_call call = {.fn = fn, .rig = rig, .user = user};

    (void)sem_init(&call.done, 0, 0);
    fl_loop_post(rig->loop, rig_run_call, &call);
    while (sem_wait(&call.done) != 0)
        continue;
    (void)sem_destroy(&call.done);
}

static inline void rig_copy_stats(struct rig *rig, void *user)
{
    *(struct fl_bulk_server_stats *)user = fl_bulk_server_stats(rig->server);
}

static inline struct fl_bulk_server_stats rig_stats(struct rig *rig)
{
    struct fl_bulk_server_stats stats;

    rig_on_loop(rig, rig_copy_stats, &stats);
    return stats;
}

#define RIG_WAIT_FOR(condition)                                                                    \
    do {                                                                                           \
        int tries_ = 60 * 200;                                                                     \
        while (!(condition) && --tries_ > 0)                                                       \
            (void)usleep(5000);                                                                    \
        assert_true(tries_ > 0);                                                                   \
    } while (0)

/* `len` bytes that are a function of the seed. */
static inline char *rig_noise(uint64_t seed, size_t len)
{
    char *data = fl_malloc(len + 8);
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

    for (size_t i = 0; i < len; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(data + i, &x, 8);
    }
    return data;
}

static inline struct fl_bulk_client *rig_client(struct rig *rig, uint16_t port)
{
    char url[64];
    struct fl_bulk_client_options options = {.env = &rig->env,
                                             .http.base_url = url,
                                             .chunk_bytes = 256 * 1024,
                                             .quiet_ms = 1500,
                                             .max_failures = 40,
                                             .backoff_ms = 5,
                                             .backoff_max_ms = 50};
    struct fl_bulk_client *client = NULL;

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", port ? port : rig->port);
    assert_int_equal(fl_bulk_client_create(&options, &client, NULL), 0);
    return client;
}

static inline int rig_connect(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static inline bool rig_send(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* --- the bad network --- */

enum fault { PASS, CUT_UP, CUT_DOWN, STALL, CORRUPT_UP, CORRUPT_DOWN, REPEAT, FAULTS };
#define HEAD_BYTES                                                                                 \
    600 /* of each connection left alone: a request changed there is another request */

struct proxy {
    struct rig *rig;
    int listener;
    uint16_t port;
    struct fl_thread *thread;
    atomic_bool ending;
    atomic_uint done[FAULTS];
    uint64_t chance;
    size_t reach; /* faults come within so many bytes */
};

struct passage {
    struct proxy *proxy;
    enum fault fault;
    size_t at, passed[2]; /* up, down */
    int client, server;
    struct fl_buf record;
    struct fl_thread *thread;
};

static inline uint64_t proxy_chance(struct proxy *proxy)
{
    proxy->chance ^= proxy->chance << 13;
    proxy->chance ^= proxy->chance >> 7;
    proxy->chance ^= proxy->chance << 17;
    return proxy->chance;
}

/* False: the passage is over. */
static inline bool pass_some(struct passage *passage, bool down)
{
    enum fault cut = down ? CUT_DOWN : CUT_UP, corrupt = down ? CORRUPT_DOWN : CORRUPT_UP;
    size_t *passed = &passage->passed[down];
    char piece[16384];
    ssize_t n = recv(down ? passage->server : passage->client, piece, sizeof(piece), 0);
    bool here;

    if (n <= 0)
        return false;
    here = *passed <= passage->at && passage->at < *passed + (size_t)n;
    if (passage->fault == cut && here) {
        passage->proxy->done[cut]++;
        (void)rig_send(down ? passage->client : passage->server, piece, passage->at - *passed);
        return false;
    }
    if (passage->fault == corrupt && here) {
        passage->proxy->done[corrupt]++;
        piece[passage->at - *passed] ^= 0x10;
    }
    if (passage->fault == STALL && here) {
        passage->proxy->done[STALL]++;
        for (int i = 0; i < 300 && !passage->proxy->ending; i++)
            (void)usleep(10000);
        return false;
    }
    if (passage->fault == REPEAT && !down && passage->record.len < (1u << 20))
        fl_buf_append(&passage->record, piece, (size_t)n);
    *passed += (size_t)n;
    return rig_send(down ? passage->client : passage->server, piece, (size_t)n);
}

/* What a client has sent comes once more, and nobody reads the answers. */
static inline void repeat(struct passage *passage)
{
    int fd = rig_connect(passage->proxy->rig->port);
    char sink[4096];

    if (fd < 0)
        return;
    passage->proxy->done[REPEAT]++;
    if (rig_send(fd, fl_buf_text(&passage->record), passage->record.len)) {
        (void)shutdown(fd, SHUT_WR);
        while (recv(fd, sink, sizeof(sink), 0) > 0)
            continue;
    }
    (void)close(fd);
}

static inline void passage_run(void *user)
{
    struct passage *passage = user;
    bool open = passage->server >= 0;

    while (open && !passage->proxy->ending) {
        struct pollfd fds[] = {{.fd = passage->client, .events = POLLIN},
                               {.fd = passage->server, .events = POLLIN}};

        if (poll(fds, 2, 100) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            open = pass_some(passage, false);
        if (open && fds[1].revents)
            open = pass_some(passage, true);
    }
    (void)close(passage->client);
    if (passage->server >= 0)
        (void)close(passage->server);
    if (passage->fault == REPEAT && passage->record.len > 0)
        repeat(passage);
    fl_buf_finish(&passage->record);
}

static inline struct passage *passage_start(struct proxy *proxy, int client)
{
    struct passage *passage = fl_calloc(1, sizeof(*passage));

    passage->proxy = proxy;
    passage->client = client;
    passage->server = rig_connect(proxy->rig->port);
    passage->fault = (enum fault)(proxy_chance(proxy) % FAULTS);
    passage->at = HEAD_BYTES + proxy_chance(proxy) % proxy->reach;
    fl_buf_init(&passage->record, 0);
    assert_int_equal(fl_thread_start("passage", passage_run, passage, &passage->thread, NULL), 0);
    return passage;
}

#define PASSAGES_MAX 4096
static inline void proxy_run(void *user)
{
    struct passage **all = fl_calloc(PASSAGES_MAX, sizeof(struct passage *));
    struct proxy *proxy = user;
    size_t count = 0;

    while (!proxy->ending) {
        struct pollfd fd = {.fd = proxy->listener, .events = POLLIN};
        int client;

        if (poll(&fd, 1, 100) <= 0)
            continue;
        client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(count < PASSAGES_MAX);
        if (client >= 0)
            all[count++] = passage_start(proxy, client);
    }
    for (size_t i = 0; i < count; i++) {
        fl_thread_join(all[i]->thread);
        free(all[i]);
    }
    free(all);
}

static inline struct proxy *proxy_start(struct rig *rig, uint64_t seed, size_t reach)
{
    struct proxy *proxy = fl_calloc(1, sizeof(*proxy));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    proxy->rig = rig;
    proxy->chance = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    proxy->reach = reach;
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(proxy->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(proxy->listener, 128), 0);
    assert_int_equal(getsockname(proxy->listener, (struct sockaddr *)&address, &len), 0);
    proxy->port = ntohs(address.sin_port);
    assert_int_equal(fl_thread_start("proxy", proxy_run, proxy, &proxy->thread, NULL), 0);
    return proxy;
}

static inline void proxy_stop(struct proxy *proxy)
{
    proxy->ending = true;
    fl_thread_join(proxy->thread);
    (void)close(proxy->listener);
    free(proxy);
}

#endif
