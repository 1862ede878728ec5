#define FL_ALLOW_BANNED
#include "lib/http_server_internal.h"

#include "lib/net.h"
#include "lib/str.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG         1024
#define ACCEPT_ROUNDS   64
#define HONEST_HEAD_MS  1000
#define ACCEPT_PAUSE_MS 100
#define LINGER_MS       2000
#define REFUSED_MAX     64 /* connections over the bound that get a 503; more are closed unheard */

int64_t fl_http_now_ms(const struct fl_http_server *server)
{
    return fl_monotonic_ms(server->options.env);
}

/* Arenas: a request takes a warm one, an idle connection has none. */

struct fl_arena *fl_http_take_arena(struct fl_http_server *server)
{
    return server->spare_count > 0 ? server->spare[--server->spare_count] : fl_arena_create();
}

void fl_http_return_arena(struct fl_http_server *server, struct fl_arena *arena)
{
    if (server->spare_count == FL_HTTP_SPARE_ARENAS) {
        fl_arena_destroy(arena);
        return;
    }
    fl_arena_reset(arena);
    server->spare[server->spare_count++] = arena;
}

/* Deadlines. Each list has one time-out, so it is ordered by itself and its first is the next. The
 * timer is set for the earliest and never moved back: when it comes too early, it is set anew. */

static void arm(struct fl_http_server *server, int64_t deadline_ms)
{
    int64_t now = fl_http_now_ms(server);

    if (server->timer_due_ms && server->timer_due_ms <= deadline_ms)
        return;
    server->timer_due_ms = deadline_ms;
    fl_timer_arm(server->timer, deadline_ms > now ? deadline_ms - now : 0);
}

void fl_http_wait(struct fl_http_conn *conn, enum fl_http_wait wait)
{
    struct fl_http_server *server = conn->server;

    if (conn->wait != FL_HTTP_WAIT_NONE)
        TAILQ_REMOVE(&server->waiting[conn->wait], conn, wait_link);
    conn->wait = wait;
    if (wait == FL_HTTP_WAIT_NONE)
        return;
    conn->deadline_ms = fl_http_now_ms(server) + server->timeouts_ms[wait];
    TAILQ_INSERT_TAIL(&server->waiting[wait], conn, wait_link);
    if (!server->timer_due_ms || conn->deadline_ms < server->timer_due_ms)
        arm(server, conn->deadline_ms);
}

static void on_timer(void *user)
{
    struct fl_http_server *server = user;
    int64_t now = fl_http_now_ms(server);
    struct fl_http_conn *conn;

    server->timer_due_ms = 0;
    for (int wait = 0; wait < FL_HTTP_WAITS; wait++) {
        while ((conn = TAILQ_FIRST(&server->waiting[wait])) && conn->deadline_ms <= now)
            fl_http_conn_expire(conn);
        if (conn)
            arm(server, conn->deadline_ms);
    }
}

/* The dead, and those with something left to do. */

void fl_http_bury(struct fl_http_conn *conn)
{
    struct fl_http_server *server = conn->server;

    if (conn->ready)
        TAILQ_REMOVE(&server->ready, conn, ready_link);
    conn->ready = false;
    if (conn->buried)
        return;
    conn->buried = true;
    TAILQ_INSERT_TAIL(&server->closed, conn, closed_link);
    fl_timer_fire(server->reaper);
}

void fl_http_settle_later(struct fl_http_conn *conn)
{
    struct fl_http_server *server = conn->server;

    if (conn->processing || conn->ready || conn->state == FL_HTTP_CLOSED)
        return;
    conn->ready = true;
    TAILQ_INSERT_TAIL(&server->ready, conn, ready_link);
    fl_timer_fire(server->settler);
}

static void on_ready(void *user)
{
    struct fl_http_server *server = user;
    struct fl_http_conn *conn;

    while ((conn = TAILQ_FIRST(&server->ready))) {
        TAILQ_REMOVE(&server->ready, conn, ready_link);
        conn->ready = false;
        fl_http_conn_settle(conn);
    }
}

/* The handler has it and will answer, not knowing that nobody listens any more. */
static bool still_held(const struct fl_http_conn *conn)
{
    const struct fl_http_request *request = conn->request;

    return request && request->handed && !request->answered && !request->gone;
}

void fl_http_forget(struct fl_http_conn *conn)
{
    struct fl_http_server *server = conn->server;

    if (conn->asked) {
        TAILQ_REMOVE(&server->asks, conn, all_link);
        server->ask_count--;
    } else {
        TAILQ_REMOVE(&server->conns, conn, all_link);
        server->conn_count--;
        server->refused_count -= conn->refused;
    }
    fl_http_conn_free(conn);
}

static void reap(struct fl_http_server *server)
{
    struct fl_http_conn *conn;

    while ((conn = TAILQ_FIRST(&server->closed))) {
        TAILQ_REMOVE(&server->closed, conn, closed_link);
        conn->buried = false;
        if (!still_held(conn))
            fl_http_forget(conn);
    }
}

/* May destroy the server: nothing after it. */
static void finish_drain(struct fl_http_server *server)
{
    fl_loop_fn *drained = server->drained;

    server->drained = NULL;
    fl_timer_cancel(server->drain_timer);
    if (drained)
        drained(server->drained_user);
}

static void on_reap(void *user)
{
    struct fl_http_server *server = user;

    reap(server);
    if (server->draining && server->conn_count == 0 && server->ask_count == 0)
        finish_drain(server);
}

/* Accepting. */

static void describe_peer(const struct sockaddr_storage *address, char out[INET6_ADDRSTRLEN])
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;

    out[0] = '\0';
    if (address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        (void)inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, out, INET6_ADDRSTRLEN);
    else if (address->ss_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &six->sin6_addr, out, INET6_ADDRSTRLEN);
    else if (address->ss_family == AF_INET)
        (void)inet_ntop(AF_INET, &four->sin_addr, out, INET6_ADDRSTRLEN);
}

/* The connection that is missed least: one that has its answer; one that has been at its handshake
 * or header for longer than an honest client needs; the longest idle one; the longest at its
 * header. Those over the bound do not count: ending them would make no room, and they are few. */
static struct fl_http_conn *least_missed(struct fl_http_server *server)
{
    static const enum fl_http_wait order[] = {FL_HTTP_WAIT_LINGER, FL_HTTP_WAIT_HEAD,
                                              FL_HTTP_WAIT_IDLE, FL_HTTP_WAIT_HEAD};
    int64_t patience_ms = HONEST_HEAD_MS;

    for (size_t i = 0; i < FL_COUNT_OF(order); i++) {
        struct fl_http_conn *conn = TAILQ_FIRST(&server->waiting[order[i]]);
        int64_t since_ms;

        while (conn && conn->refused)
            conn = TAILQ_NEXT(conn, wait_link);
        if (!conn)
            continue;
        since_ms = fl_http_now_ms(server) - (conn->deadline_ms - server->timeouts_ms[order[i]]);
        if (order[i] != FL_HTTP_WAIT_HEAD || since_ms >= patience_ms)
            return conn;
        patience_ms = 0; /* the second time any will do */
    }
    return NULL;
}

static bool evict(struct fl_http_server *server)
{
    struct fl_http_conn *conn = least_missed(server);

    if (!conn)
        return false;
    fl_http_conn_close(conn);
    reap(server);
    return true;
}

static SSL *create_ssl(struct fl_http_server *server, int fd)
{
    SSL *ssl = SSL_new(fl_tls_context(server->options.tls));

    if (ssl && SSL_set_fd(ssl, fd) == 1) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_free(ssl);
    return NULL;
}

static void add_connection(struct fl_http_server *server, int fd,
                           const struct sockaddr_storage *address, bool refused)
{
    struct fl_http_conn *conn = fl_calloc(1, sizeof(*conn));

    conn->server = server;
    conn->fd = fd;
    conn->wait = FL_HTTP_WAIT_NONE;
    conn->refused = refused;
    TAILQ_INIT(&conn->out);
    fl_buf_init(&conn->in, 0);
    describe_peer(address, conn->address);
    if (server->options.tls) {
        conn->ssl = create_ssl(server, fd);
        if (!conn->ssl) {
            (void)close(fd);
            free(conn);
            return;
        }
    }
    TAILQ_INSERT_TAIL(&server->conns, conn, all_link);
    server->conn_count++;
    server->refused_count += refused;
    fl_http_conn_start(conn);
}

static void admit(struct fl_http_server *server, int fd, const struct sockaddr_storage *address)
{
    bool over = server->conn_count - server->refused_count >= server->options.max_connections &&
                !evict(server);

    server->connections_total++;
    server->refused_total += over;
    if (over && server->refused_count >= REFUSED_MAX)
        (void)close(fd);
    else
        add_connection(server, fd, address, over);
}

static void on_accept_pause(void *user)
{
    struct fl_http_server *server = user;

    if (server->fd >= 0)
        (void)event_add(&server->accept_event, NULL);
}

/* No descriptors or memory left: what waits in the backlog would wake us for ever. */
static bool accept_failed(struct fl_http_server *server, int errnum)
{
    if (errnum == EINTR || errnum == ECONNABORTED)
        return true;
    if (errnum != EMFILE && errnum != ENFILE && errnum != ENOBUFS && errnum != ENOMEM)
        return false; /* EAGAIN, and what the network did to one connection */
    if (evict(server))
        return true;
    (void)event_del(&server->accept_event);
    fl_timer_arm(server->accept_pause, ACCEPT_PAUSE_MS);
    return false;
}

static void on_acceptable(evutil_socket_t fd, short what, void *user)
{
    struct fl_http_server *server = user;

    (void)what;
    for (int i = 0; i < ACCEPT_ROUNDS; i++) {
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof(address);
        int peer = accept4(fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (peer >= 0)
            admit(server, peer, &address);
        else if (!accept_failed(server, errno))
            return;
    }
}

/* Listening. */

static int parse_address(const char *text, uint16_t port, struct sockaddr_storage *ret_address,
                         socklen_t *ret_len, struct fl_error *err)
{
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret_address;
    struct sockaddr_in *four = (struct sockaddr_in *)ret_address;

    *ret_address = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        *ret_len = sizeof(*four);
    } else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        *ret_len = sizeof(*six);
    } else {
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s is not a numeric IP address", text);
    }
    return 0;
}

/* Accepted sockets inherit these. Without TCP_NODELAY each TLS answer waits for a delayed ACK;
 * without probes a peer that vanished would be watched for ever. */
static void set_options(int fd, bool loopback)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, 1},    {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},    {IPPROTO_TCP, TCP_KEEPIDLE, 30},
        {IPPROTO_TCP, TCP_KEEPINTVL, 10}, {IPPROTO_TCP, TCP_KEEPCNT, 3},
    };

    for (size_t i = 0; i < FL_COUNT_OF(options); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                         sizeof(options[i].value));
    if (loopback)
        fl_net_set_loopback(fd);
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static int open_socket(struct fl_http_server *server, const struct sockaddr_storage *address,
                       socklen_t len, struct fl_error *err)
{
    struct sockaddr_storage bound = {0};
    socklen_t bound_len = sizeof(bound);

    server->fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->fd < 0)
        return fl_error_errno(err, errno, "make a socket");
    set_options(server->fd, is_loopback(address));
    if (bind(server->fd, (const struct sockaddr *)address, len) != 0 ||
        listen(server->fd, BACKLOG) != 0 ||
        getsockname(server->fd, (struct sockaddr *)&bound, &bound_len) != 0)
        return fl_error_errno(err, errno, "listen on %s port %u", server->options.address,
                              server->options.port);
    /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): getsockname has written it */
    server->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                     : ((struct sockaddr_in *)&bound)->sin_port);
    return 0;
}

static int open_listener(struct fl_http_server *server, struct fl_error *err)
{
    struct sockaddr_storage address;
    socklen_t len = 0;
    int r;

    r = parse_address(server->options.address, server->options.port, &address, &len, err);
    if (r == 0)
        r = open_socket(server, &address, len, err);
    if (r < 0)
        return r;
    /* OpenSSL writes without MSG_NOSIGNAL. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)event_assign(&server->accept_event, server->base, server->fd, EV_READ | EV_PERSIST,
                       on_acceptable, server);
    (void)event_add(&server->accept_event, NULL);
    return 0;
}

static void fill_in_defaults(struct fl_http_server_options *options)
{
#define DEFAULT(field, value) options->field = options->field ? options->field : (value)
    DEFAULT(max_header_bytes, (size_t)64 * 1024);
    DEFAULT(max_headers, 100);
    DEFAULT(max_body_bytes, (size_t)3 * 1024 * 1024);
    DEFAULT(max_queued_bytes, (size_t)8 * 1024 * 1024);
    DEFAULT(max_buffered_bytes, (size_t)256 * 1024 * 1024);
    DEFAULT(max_connections, 8192);
    DEFAULT(header_timeout_ms, 10000);
    DEFAULT(body_timeout_ms, 30000);
    DEFAULT(idle_timeout_ms, 300000);
    DEFAULT(write_timeout_ms, 60000);
#undef DEFAULT
}

static void set_up(struct fl_http_server *server, const struct fl_http_server_options *options)
{
    server->options = *options;
    fill_in_defaults(&server->options);
    server->base = options->address ? fl_loop_base(options->loop) : NULL;
    server->fd = -1;
    TAILQ_INIT(&server->conns);
    TAILQ_INIT(&server->asks);
    TAILQ_INIT(&server->closed);
    TAILQ_INIT(&server->ready);
    for (int wait = 0; wait < FL_HTTP_WAITS; wait++)
        TAILQ_INIT(&server->waiting[wait]);
    server->timeouts_ms[FL_HTTP_WAIT_IDLE] = server->options.idle_timeout_ms;
    server->timeouts_ms[FL_HTTP_WAIT_HEAD] = server->options.header_timeout_ms;
    server->timeouts_ms[FL_HTTP_WAIT_BODY] = server->options.body_timeout_ms;
    server->timeouts_ms[FL_HTTP_WAIT_WRITE] = server->options.write_timeout_ms;
    server->timeouts_ms[FL_HTTP_WAIT_LINGER] = LINGER_MS;
    server->timer = fl_timer_create(options->loop, on_timer, server);
    server->accept_pause = fl_timer_create(options->loop, on_accept_pause, server);
    server->reaper = fl_timer_create(options->loop, on_reap, server);
    server->settler = fl_timer_create(options->loop, on_ready, server);
    fl_buf_init(&server->reply, 0);
}

FL_DEFINE_CLEANUP(struct fl_http_server, fl_http_server_destroy)

int fl_http_server_create(const struct fl_http_server_options *options,
                          struct fl_http_server **ret_server, struct fl_error *err)
{
    FL_CLEANUP(fl_http_server_destroyp) struct fl_http_server *server = NULL;
    int r;

    assert(options->env && options->loop && options->handler);

    server = fl_calloc(1, sizeof(*server));
    set_up(server, options);
    r = options->address ? open_listener(server, err) : 0;
    if (r < 0)
        return r;
    *ret_server = FL_TAKE(server);
    return 0;
}

static void stop_listening(struct fl_http_server *server)
{
    if (server->fd < 0)
        return;
    if (event_initialized(&server->accept_event))
        (void)event_del(&server->accept_event);
    (void)close(server->fd);
    server->fd = -1;
}

static void close_all(struct fl_http_server *server)
{
    struct fl_http_conn *conn;
    struct fl_error err = {0};

    (void)fl_error_set(&err, FL_E_UNAVAILABLE, "the server is closing");
    server->closing = true;
    TAILQ_FOREACH(conn, &server->conns, all_link) {
        fl_http_conn_close(conn);
    }
    TAILQ_FOREACH(conn, &server->asks, all_link) {
        fl_http_ask_fail(conn->asked, &err);
    }
}

void fl_http_server_destroy(struct fl_http_server *server)
{
    struct fl_http_conn *conn;

    if (!server)
        return;
    stop_listening(server);
    close_all(server);
    reap(server);
    while ((conn = TAILQ_FIRST(&server->conns))) /* those that a handler still holds */
        fl_http_forget(conn);
    while ((conn = TAILQ_FIRST(&server->asks)))
        fl_http_forget(conn);
    fl_timer_destroy(server->reaper);
    fl_timer_destroy(server->settler);
    fl_timer_destroy(server->timer);
    fl_timer_destroy(server->accept_pause);
    fl_timer_destroy(server->drain_timer);
    while (server->spare_count > 0)
        fl_arena_destroy(server->spare[--server->spare_count]);
    fl_buf_finish(&server->reply);
    free(server);
}

uint16_t fl_http_server_port(const struct fl_http_server *server)
{
    return server->port;
}

/* Draining. */

static void on_drain_deadline(void *user)
{
    struct fl_http_server *server = user;

    close_all(server);
    reap(server);
    finish_drain(server);
}

void fl_http_server_leave(struct fl_http_server *server)
{
    server->leaving = true;
    if (server->fd >= 0)
        for (int i = 0; i < BACKLOG / ACCEPT_ROUNDS; i++)
            on_acceptable(server->fd, EV_READ, server);
    stop_listening(server);
}

void fl_http_server_drain(struct fl_http_server *server, int64_t deadline_ms, fl_loop_fn *done,
                          void *user)
{
    struct fl_http_conn *conn;

    assert(!server->draining);
    server->draining = server->leaving = true;
    server->drained = done;
    server->drained_user = user;
    server->drain_timer = fl_timer_create(server->options.loop, on_drain_deadline, server);
    fl_timer_arm(server->drain_timer, deadline_ms);
    stop_listening(server);
    TAILQ_FOREACH(conn, &server->conns, all_link) {
        conn->close_after = true;
        if (conn->state == FL_HTTP_IDLE || conn->state == FL_HTTP_HANDSHAKE)
            fl_http_conn_close(conn);
    }
    fl_timer_fire(server->reaper); /* also where there was no connection */
}

struct fl_http_server_stats fl_http_server_stats(const struct fl_http_server *server)
{
    return (struct fl_http_server_stats){
        .connections_total = server->connections_total,
        .connections_open = server->conn_count,
        .requests_total = server->requests_total,
        .refused_total = server->refused_total,
        .bytes_queued = server->bytes_queued,
        .asks_open = server->ask_count,
    };
}

/* The request, seen by the handler. */

const char *fl_http_method(const struct fl_http_request *request)
{
    return request->head.method;
}

const char *fl_http_target(const struct fl_http_request *request)
{
    return request->head.target;
}

const char *fl_http_path(const struct fl_http_request *request)
{
    return request->head.path;
}

const char *fl_http_query(const struct fl_http_request *request)
{
    return request->head.query;
}

const char *fl_http_header(const struct fl_http_request *request, const char *name)
{
    size_t at = 0;
    const char *value = fl_http_head_find(&request->head, name, &at), *more;

    while (value && (more = fl_http_head_find(&request->head, name, &at)))
        value = fl_arena_printf(request->arena, "%s, %s", value, more);
    return value;
}

const char *fl_http_header_beginning(const struct fl_http_request *request, const char *prefix)
{
    size_t len = strlen(prefix);

    for (size_t i = 0; i < request->head.field_count; i++) {
        const struct fl_http_field *field = &request->head.fields[i];

        if (field->name_len >= len && strncasecmp(field->name, prefix, len) == 0)
            return fl_arena_strndup(request->arena, field->name, field->name_len);
    }
    return NULL;
}

const struct fl_http_pair *fl_http_headers(const struct fl_http_request *request, size_t *ret_count)
{
    const size_t count = request->head.field_count;
    struct fl_http_pair *pairs = fl_new_array(request->arena, struct fl_http_pair, count);

    for (size_t i = 0; i < count; i++) {
        const struct fl_http_field *field = &request->head.fields[i];

        pairs[i].name = fl_arena_strndup(request->arena, field->name, field->name_len);
        pairs[i].value = field->value;
    }
    *ret_count = count;
    return pairs;
}

const char *fl_http_body(const struct fl_http_request *request, size_t *ret_len)
{
    if (ret_len)
        *ret_len = request->body.len;
    return fl_buf_text(&request->body);
}

const char *fl_http_peer_address(const struct fl_http_request *request)
{
    return request->conn->address;
}

const struct fl_tls_peer *fl_http_peer(const struct fl_http_request *request)
{
    static const struct fl_tls_peer nobody;
    struct fl_http_conn *conn = request->conn;

    if (conn->peer)
        return conn->peer;
    if (!conn->ssl || !fl_tls_has_peer(conn->ssl))
        return &nobody;
    conn->peer = fl_malloc(sizeof(*conn->peer));
    fl_tls_peer_read(conn->ssl, conn->peer);
    return conn->peer;
}

struct fl_arena *fl_http_arena(struct fl_http_request *request)
{
    return request->arena;
}

int64_t fl_http_started_ms(const struct fl_http_request *request)
{
    return request->started_ms;
}

void fl_http_limit_body(struct fl_http_request *request, size_t max_bytes)
{
    assert(request->beginning);
    request->max_body_bytes = max_bytes;
}

void fl_http_stream_body(struct fl_http_request *request, fl_http_data_fn *data, void *user)
{
    assert(request->beginning && data);
    request->data = data;
    request->data_user = user;
}

void fl_http_on_drained(struct fl_http_request *request, fl_loop_fn *drained, void *user)
{
    request->drained = drained;
    request->drained_user = user;
}

void fl_http_on_gone(struct fl_http_request *request, fl_loop_fn *gone, void *user)
{
    request->gone = gone;
    request->gone_user = user;
}
