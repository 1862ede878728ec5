/* A whole connection as a stranger may use it: the input is sent to a real server, cut into pieces
 * of a size that its first byte names; handlers answer at once, later, in parts or early. When the
 * sender has ended its side, the connection must end, and nothing may be left of it. */
#define FL_ALLOW_BANNED
#include "lib/http_server.h"

#include "lib/str.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fl_env env;
static struct fl_loop *loop;
static struct fl_http_server *server;
static struct fl_http_request *held;

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void forget_held(void *user)
{
    (void)user;
    held = NULL;
}

static void answer_held(void *user)
{
    (void)user;
    if (held)
        fl_http_respond(FL_TAKE(held), 200, "text/plain", "later", 5);
}

static int take_piece(void *user, const void *data, size_t len)
{
    struct fl_http_request *request = user;

    if (len > 0 && *(const char *)data != '!')
        return 0;
    fl_http_respond(request, 403, "text/plain", "no", 2);
    return -1;
}

static void begin(void *user, struct fl_http_request *request)
{
    (void)user;
    if (strcmp(fl_http_path(request), "/e") == 0)
        fl_http_respond(request, 401, NULL, "early", 5);
    else if (strcmp(fl_http_path(request), "/p") == 0)
        fl_http_stream_body(request, take_piece, request);
}

static void handler(void *user, struct fl_http_request *request)
{
    size_t len;
    const char *body = fl_http_body(request, &len);

    (void)user;
    check(strlen(body) <= len && len <= 1000);
    if (strcmp(fl_http_path(request), "/l") == 0) {
        held = request;
        fl_http_on_gone(request, forget_held, NULL);
        fl_loop_post(loop, answer_held, NULL);
    } else if (strcmp(fl_http_path(request), "/s") == 0) {
        fl_http_stream_begin(request, 200, "text/plain");
        check(fl_http_stream_write(request, body, len));
        check(fl_http_stream_write(request, "end", 3));
        fl_http_stream_end(request);
    } else if (strcmp(fl_http_path(request), "/a") == 0) {
        fl_http_abort(request);
    } else {
        fl_http_set_header(request, "X", fl_str_or(fl_http_header(request, "x"), "none"));
        fl_http_respond(request, len > 0 ? 200 : 204, "text/plain", body, len);
    }
}

static void start(void)
{
    struct fl_http_server_options options = {.address = "127.0.0.1",
                                             .handler = handler,
                                             .begin = begin,
                                             .max_header_bytes = 2000,
                                             .max_headers = 10,
                                             .max_body_bytes = 1000};

    env = fl_env_real(NULL);
    check(fl_loop_create(&loop, NULL) == 0);
    options.env = &env;
    options.loop = loop;
    check(fl_http_server_create(&options, &server, NULL) == 0);
}

static int connect_to_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fl_http_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* Lets the loop do what is there to do; takes what was answered. */
static void turn(int fd)
{
    char reply[65536];

    fl_loop_post(loop, (fl_loop_fn *)fl_loop_stop, loop);
    fl_loop_run(loop);
    while (recv(fd, reply, sizeof(reply), MSG_DONTWAIT) > 0)
        continue;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t step = size > 0 && data[0] % 4 ? (size_t)data[0] : 65536;
    struct fl_http_server_stats stats;
    uint64_t before;
    int fd;

    if (!server)
        start();
    before = fl_http_server_stats(server).connections_total;
    fd = connect_to_server();
    for (size_t at = 1, n; at < size; at += n) {
        n = size - at < step ? size - at : step;
        if (send(fd, data + at, n, MSG_NOSIGNAL) < 0)
            break;
        turn(fd);
    }
    (void)shutdown(fd, SHUT_WR);
    for (int i = 0; i < 1000; i++) {
        turn(fd);
        stats = fl_http_server_stats(server);
        if (stats.connections_open == 0 && stats.connections_total > before)
            break;
    }
    check(stats.connections_total == before + 1);
    check(stats.connections_open == 0 && stats.bytes_queued == 0 && !held);
    (void)close(fd);
    return 0;
}
