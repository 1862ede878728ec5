#include "hack/bench/crowd/http.h"

#include "lib/net.h"
#include "lib/str.h"
#include "workloads/transfer/bulk_parse.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEAD_MAX 4096

struct bench_http {
    struct fl_loop *loop;
    struct sockaddr_in server;
    bench_answered_fn *answered;
    void *user;
    int fd;
    struct fl_loop_fd *watched;
    unsigned wanted;

    bool busy; /* a request has no answer yet */
    char head[HEAD_MAX];
    size_t head_len, sent;
    const char *body; /* lent */
    size_t body_len;

    char reply[HEAD_MAX]; /* its header, while it comes */
    size_t reply_len, received;
    struct bench_answer answer;
    struct fl_hash *hash; /* of the body; NULL: none is wanted */
};

static void on_ready(void *user, unsigned what);

struct bench_http *bench_http_create(struct fl_loop *loop, const struct sockaddr_in *server,
                                     bench_answered_fn *answered, void *user)
{
    struct bench_http *http = fl_calloc(1, sizeof(*http));

    http->loop = loop;
    http->server = *server;
    http->answered = answered;
    http->user = user;
    http->fd = -1;
    return http;
}

void bench_http_drop(struct bench_http *http)
{
    fl_loop_unwatch_fd(FL_TAKE(http->watched));
    if (http->fd >= 0)
        (void)close(http->fd);
    http->fd = -1;
    http->wanted = 0;
    http->busy = false;
    http->reply_len = 0;
    fl_bytes_unref(FL_TAKE(http->answer.body));
    fl_hash_destroy(FL_TAKE(http->hash));
}

void bench_http_destroy(struct bench_http *http)
{
    if (!http)
        return;
    bench_http_drop(http);
    free(http);
}

/* --- what goes wrong is told as an answer without a status --- */

static void broke(struct bench_http *http)
{
    const bool was_busy = http->busy;

    bench_http_drop(http);
    if (was_busy)
        http->answered(http->user, &(struct bench_answer){.upload_offset = -1});
}

static void broke_later(void *user)
{
    broke(user);
}

static bool want(struct bench_http *http, unsigned what)
{
    if (http->wanted == what)
        return true;
    fl_loop_unwatch_fd(FL_TAKE(http->watched));
    http->wanted = what;
    return fl_loop_watch_fd(http->loop, http->fd, what, on_ready, http, &http->watched, NULL) == 0;
}

/* --- sending --- */

static bool send_some(struct bench_http *http)
{
    while (http->sent < http->head_len + http->body_len) {
        const bool in_head = http->sent < http->head_len;
        const size_t at = in_head ? 0 : http->sent - http->head_len;
        struct iovec parts[2] = {
            {http->head + http->sent, in_head ? http->head_len - http->sent : 0},
            {(char *)http->body + at, http->body_len - at}};
        const struct msghdr message = {.msg_iov = in_head ? parts : parts + 1,
                                       .msg_iovlen = in_head ? 1 + (http->body_len > 0) : 1};
        ssize_t n = sendmsg(http->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return (errno == EAGAIN || errno == EINPROGRESS || errno == ENOTCONN) &&
                   want(http, FL_LOOP_READ | FL_LOOP_WRITE);
        http->sent += (size_t)n;
    }
    return want(http, FL_LOOP_READ);
}

static bool open_socket(struct bench_http *http)
{
    const int on = 1;

    if (http->fd >= 0)
        return true;
    http->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (http->fd < 0)
        return false;
    (void)setsockopt(http->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fl_net_set_loopback(http->fd);
    return connect(http->fd, (const struct sockaddr *)&http->server, sizeof(http->server)) == 0 ||
           errno == EINPROGRESS;
}

void bench_http_send(struct bench_http *http, const struct bench_request *request)
{
    int n;

    assert(!http->busy);

    n = snprintf(http->head, sizeof(http->head),
                 "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                 "Content-Length: %zu\r\n%s%s\r\n",
                 request->method, request->target, request->body ? request->body_len : 0,
                 fl_str_or(request->header, ""), request->header ? "\r\n" : "");
    assert(n > 0 && (size_t)n < sizeof(http->head));
    http->head_len = (size_t)n;
    http->body = request->body;
    http->body_len = request->body ? request->body_len : 0;
    http->sent = 0;
    http->busy = true;
    if (!open_socket(http) || !send_some(http))
        fl_loop_post(http->loop, broke_later, http);
}

/* --- receiving --- */

static bool header_number(const char *head, const char *name, int64_t *ret_value)
{
    const char *at = strcasestr(head, name);

    return at && sscanf(at + strlen(name), ": %" SCNd64, ret_value) == 1;
}

static void note_whole_digest(struct bench_http *http)
{
    const char *at = strcasestr(http->reply, "\nRepr-Digest:");
    char text[128];

    http->answer.whole[0] = '\0';
    if (at && sscanf(at, "%*[^:]: %127[^\r]", text) == 1)
        (void)fl_bulk_whole_parse(text, http->answer.whole);
    http->hash = *http->answer.whole ? fl_hash_create(FL_DIGEST_XXH128) : NULL;
}

/* While they are in the cache. */
static void took(struct bench_http *http, size_t n)
{
    if (http->hash)
        fl_hash_add(http->hash, http->answer.body->data + http->received, n);
    http->received += n;
}

/* The header is there: what follows it goes into the body. */
static bool begin_answer(struct bench_http *http, const char *end)
{
    const size_t head_len = (size_t)(end - http->reply) + 4;
    const size_t rest = http->reply_len - head_len;
    int64_t length = 0;

    http->reply[head_len - 1] = '\0';
    if (sscanf(http->reply, "HTTP/1.1 %d", &http->answer.status) != 1)
        return false;
    http->answer.upload_offset = -1;
    (void)header_number(http->reply, "\nUpload-Offset", &http->answer.upload_offset);
    note_whole_digest(http);
    (void)header_number(http->reply, "\nContent-Length", &length);
    if (length < 0 || rest > (size_t)length)
        return false;
    http->answer.body = fl_bytes_new(NULL, (size_t)length);
    memcpy(http->answer.body->data, http->reply + head_len, rest);
    http->received = 0;
    took(http, rest);
    return true;
}

static ssize_t receive(struct bench_http *http)
{
    struct fl_bytes *body = http->answer.body;

    return body ? recv(http->fd, body->data + http->received, body->len - http->received, 0)
                : recv(http->fd, http->reply + http->reply_len,
                       sizeof(http->reply) - 1 - http->reply_len, 0);
}

/* False: broken. */
static bool take_bytes(struct bench_http *http, size_t n)
{
    const char *end;

    if (http->answer.body) {
        took(http, n);
        return true;
    }
    http->reply_len += n;
    http->reply[http->reply_len] = '\0';
    end = strstr(http->reply, "\r\n\r\n");
    return end ? begin_answer(http, end) : http->reply_len < sizeof(http->reply) - 1;
}

static bool is_whole(const struct bench_http *http)
{
    return http->answer.body && http->received == http->answer.body->len;
}

/* The callback may send the next request, or drop or destroy this. */
static void tell(struct bench_http *http)
{
    struct bench_answer answer = http->answer;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = answer.body;

    if (http->hash)
        fl_hash_end(http->hash, answer.found);
    fl_hash_destroy(FL_TAKE(http->hash));
    http->answer = (struct bench_answer){0};
    http->busy = false;
    http->reply_len = 0;
    http->answered(http->user, &answer);
}

static void receive_some(struct bench_http *http)
{
    do {
        ssize_t n = receive(http);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0 || !http->busy || !take_bytes(http, (size_t)n)) {
            broke(http);
            return;
        }
    } while (!is_whole(http));
    tell(http);
}

static void on_ready(void *user, unsigned what)
{
    struct bench_http *http = user;

    if (what & FL_LOOP_WRITE && http->busy && !send_some(http)) {
        broke(http);
        return;
    }
    if (what & FL_LOOP_READ)
        receive_some(http);
}
