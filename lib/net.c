#include "lib/net.h"

#include "lib/loop.h"
#include "lib/process.h"
#include "lib/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/util.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STATUS_LINE_MAX 1024
#define PROBLEM_SIZE    256

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

static bool parse_address(const char *text, int64_t port, struct address *ret_address)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&ret_address->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret_address->storage;

    memset(ret_address, 0, sizeof(*ret_address));
    if (port < 0 || port > 65535)
        return false;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        ret_address->len = sizeof(*v4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
        return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    ret_address->len = sizeof(*v6);
    return true;
}

/* Connections of earlier owners that still fade away do not count; one who listens does. */
void fl_net_set_loopback(int fd)
{
    static const char name[] = "reno";

    (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, sizeof(name) - 1);
}

bool fl_net_port_is_free(const char *address, int64_t port, bool udp, int *ret_errnum)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct address where;
    int one = 1, errnum = 0;

    if (!parse_address(address, port, &where)) {
        errnum = EADDRNOTAVAIL;
    } else {
        fd = socket(where.storage.ss_family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
        if (fd >= 0 && !udp)
            (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (fd < 0 || bind(fd, (struct sockaddr *)&where.storage, where.len) != 0)
            errnum = errno;
    }
    if (ret_errnum)
        *ret_errnum = errnum;
    return errnum == 0;
}

struct fl_net_check {
    struct bufferevent *stream;
    SSL_CTX *tls;
    struct fl_timer *deadline;
    fl_net_answer_fn *answer;
    void *user;
    char *request; /* NULL: a connection is enough */
    int64_t timeout_ms;
    char problem[PROBLEM_SIZE]; /* found before the first turn of the loop */
};

void fl_net_cancel(struct fl_net_check *check)
{
    if (!check)
        return;
    if (check->stream)
        bufferevent_free(check->stream);
    SSL_CTX_free(check->tls);
    fl_timer_destroy(check->deadline);
    free(check->request);
    free(check);
}

static void answer(struct fl_net_check *check, const char *problem)
{
    fl_net_answer_fn *fn = check->answer;
    void *user = check->user;
    char text[PROBLEM_SIZE];

    (void)snprintf(text, sizeof(text), "%s", fl_str_or(problem, ""));
    fl_net_cancel(check);
    fn(user, problem ? text : NULL);
}

static void on_deadline(void *user)
{
    struct fl_net_check *check = user;
    char text[64];

    if (*check->problem) {
        answer(check, check->problem);
        return;
    }
    (void)snprintf(text, sizeof(text), "no answer within %" PRId64 " ms", check->timeout_ms);
    answer(check, text);
}

/* "HTTP/1.1 200 OK" */
static void judge(struct fl_net_check *check, const char *line)
{
    char text[64];
    long status = 0;

    if (strncmp(line, "HTTP/1.", 7) == 0 && strlen(line) >= 12 && line[8] == ' ')
        status = strtol(line + 9, NULL, 10);
    if (status >= 200 && status < 400) {
        answer(check, NULL);
        return;
    }
    if (status >= 100 && status < 1000)
        (void)snprintf(text, sizeof(text), "HTTP status %ld", status);
    else
        (void)snprintf(text, sizeof(text), "the answer is not HTTP");
    answer(check, text);
}

static void on_read(struct bufferevent *stream, void *user)
{
    struct evbuffer *input = bufferevent_get_input(stream);
    struct fl_net_check *check = user;
    char line[STATUS_LINE_MAX];
    ev_ssize_t n = evbuffer_copyout(input, line, sizeof(line) - 1);
    char *end;

    if (n <= 0)
        return;
    line[n] = '\0';
    end = strchr(line, '\n');
    if (!end && (size_t)n < sizeof(line) - 1)
        return; /* more may come */
    if (end)
        *end = '\0';
    judge(check, line);
}

static void on_event(struct bufferevent *stream, short what, void *user)
{
    struct fl_net_check *check = user;
    int errnum = EVUTIL_SOCKET_ERROR();

    if (what & BEV_EVENT_CONNECTED) {
        if (!check->request)
            answer(check, NULL);
        else
            (void)bufferevent_write(stream, check->request, strlen(check->request));
        return;
    }
    if (what & BEV_EVENT_EOF)
        answer(check, "the connection was closed without an answer");
    else
        answer(check, errnum ? strerror(errnum) : "the connection failed");
}

static struct bufferevent *make_stream(struct fl_net_check *check, struct event_base *base,
                                       bool tls)
{
    SSL *ssl;

    if (!tls)
        return bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    check->tls = SSL_CTX_new(TLS_client_method());
    ssl = check->tls ? SSL_new(check->tls) : NULL;
    return ssl ? bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_CONNECTING,
                                                BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS)
               : NULL;
}

static const char *begin(struct fl_net_check *check, struct event_base *base,
                         const struct fl_net_question *question)
{
    struct address where;

    if (!parse_address(question->address, question->port, &where))
        return "the address cannot be used";
    check->stream = make_stream(check, base, question->tls);
    if (!check->stream)
        return "out of connections";
    bufferevent_setcb(check->stream, on_read, NULL, on_event, check);
    (void)bufferevent_enable(check->stream, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(check->stream, (struct sockaddr *)&where.storage,
                                   (int)where.len) != 0)
        return strerror(EVUTIL_SOCKET_ERROR());
    return NULL;
}

struct fl_net_check *fl_net_ask(struct fl_loop *loop, const struct fl_net_question *question,
                                fl_net_answer_fn *fn, void *user)
{
    struct fl_net_check *check = fl_calloc(1, sizeof(*check));
    const char *problem;

    check->answer = fn;
    check->user = user;
    check->timeout_ms = question->timeout_ms;
    check->deadline = fl_timer_create(loop, on_deadline, check);
    if (question->http)
        check->request = fl_asprintf(
            "GET %s HTTP/1.1\r\nHost: %s:%" PRId64 "\r\nUser-Agent: flops-probe\r\nAccept: */*\r\n"
            "Connection: close\r\n\r\n",
            fl_str_or(question->path, "/"), question->address, question->port);
    problem = begin(check, fl_loop_base(loop), question);
    if (problem)
        (void)snprintf(check->problem, sizeof(check->problem), "%s", problem);
    fl_timer_arm(check->deadline, problem ? 0 : question->timeout_ms);
    return check;
}
