/* What an administrator may send to the API, in a row: requests separated by a line "---", each
 * "METHOD target [content type]" and, below it, the body. They go through a real server over a
 * store in memory that lives from one input to the next. Each request is answered, and at the end
 * nothing is left of them but objects. */
#define FL_ALLOW_BANNED
#include "controller/apiserver/auth_internal.h"
#include "controller/apiserver/internal.h"

#include "lib/file.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* SHA-256 of "t" */
#define TOKENS                                                                                     \
    "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8,fuzz,1,system:masters\n"
#define OBJECTS_MAX 500
#define TURNS       400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char definition[] =
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","
    "\"metadata\":{\"name\":\"widgets.test.dev\"},\"spec\":{\"group\":\"test.dev\",\"scope\":"
    "\"Namespaced\",\"names\":{\"plural\":\"widgets\",\"kind\":\"Widget\"},\"versions\":[{\"name\":"
    "\"v1\",\"served\":true,\"storage\":true,\"subresources\":{\"status\":{},\"scale\":{"
    "\"specReplicasPath\":\".spec.replicas\",\"statusReplicasPath\":\".status.replicas\"}},"
    "\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":"
    "\"object\",\"x-kubernetes-preserve-unknown-fields\":true,\"properties\":{\"replicas\":{"
    "\"type\":\"integer\"},\"color\":{\"type\":\"string\",\"default\":\"red\"}}},\"status\":{"
    "\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}}}}}]}}";

static struct fl_env env;
static struct fl_loop *loop;
static struct fl_store *store;
static struct fl_apiserver *server;

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void turn(void)
{
    fl_loop_post(loop, (fl_loop_fn *)fl_loop_stop, loop);
    fl_loop_run(loop);
}

/* A log that says what it was asked for, and stays where it is followed. */
static void forget_stream(void *user)
{
    (void)user;
}

static void get_log(void *user, struct fl_api_stream *stream)
{
    const char *lines = fl_api_stream_param(stream, "lines");
    struct fl_error err = {0};

    (void)user;
    check(*fl_api_stream_object(stream)->name != '\0');
    if (lines && !*lines) {
        (void)fl_error_set(&err, FL_E_BAD_REQUEST, "lines: empty");
        fl_api_stream_fail(stream, &err);
        return;
    }
    fl_api_stream_on_gone(stream, forget_stream, NULL);
    fl_api_stream_begin(stream, "text/plain");
    if (lines)
        (void)fl_api_stream_write(stream, lines, strlen(lines));
    if (!fl_api_stream_flag(stream, "follow"))
        fl_api_stream_end(stream);
}

static const struct fl_apiserver_subresource subresources[] = {
    {"widgets.test.dev", "log", get_log, NULL},
};

static void start(void)
{
    const char *definitions[] = {definition};
    char path[] = "/tmp/flops-request-fuzz-XXXXXX";
    struct fl_store_options store_options = {.env = &env, .driver = "memory"};
    struct fl_apiserver_options options = {.env = &env,
                                           .address = "127.0.0.1",
                                           .token_file = path,
                                           .version = "fuzz",
                                           .definitions = definitions,
                                           .definition_count = 1,
                                           .subresources = subresources,
                                           .subresource_count = FL_COUNT_OF(subresources)};
    int fd = mkstemp(path);

    env = fl_env_real(NULL);
    check(fd >= 0 && write(fd, TOKENS, sizeof(TOKENS) - 1) == sizeof(TOKENS) - 1);
    (void)close(fd);
    check(fl_loop_create(&loop, NULL) == 0);
    check(fl_store_open(&store_options, &store, NULL) == 0);
    options.loop = loop;
    options.store = store;
    check(fl_apiserver_create(&options, &server, NULL) == 0);
    {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

        /* Read once, it stays known. */
        check(fl_tokens_find(server->auth->tokens, arena, "t") != NULL);
    }
    (void)unlink(path);
}

static void stop(void)
{
    fl_store_close(store);
    fl_loop_run_for(loop, 1);
    fl_apiserver_destroy(server);
    fl_loop_destroy(loop);
    server = NULL;
}

static int connect_to_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fl_apiserver_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* Lets the server work until it closes the connection; false where it has not (a watch, a wait). */
static bool take_answer(int fd)
{
    size_t received = 0;
    char reply[65536];

    for (int i = 0; i < TURNS; i++) {
        ssize_t n;

        turn();
        while ((n = recv(fd, reply, sizeof(reply), MSG_DONTWAIT)) > 0) {
            check(received > 0 || (n > 12 && memcmp(reply, "HTTP/1.1 ", 9) == 0));
            check(received > 0 || memcmp(reply, "HTTP/1.1 500", 12) != 0);
            received += (size_t)n;
        }
        if (n == 0) {
            check(received > 0);
            return true;
        }
    }
    return false;
}

static void send_request(const char *text, size_t len)
{
    const char *line_end = memchr(text, '\n', len);
    size_t line_len = line_end ? (size_t)(line_end - text) : len;
    size_t body_len = line_end ? len - line_len - 1 : 0;
    FL_CLEANUP(fl_freep) char *line = fl_strndup(text, line_len);
    char *target = strchr(line, ' '), *type;
    struct fl_buf out;
    int fd;

    if (!target)
        return;
    *target++ = '\0';
    type = strchr(target, ' ');
    if (type)
        *type++ = '\0';
    fl_buf_init(&out, 0);
    fl_buf_printf(&out,
                  "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer t\r\n"
                  "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                  line, target, type ? type : "application/json", body_len);
    if (body_len > 0)
        fl_buf_append(&out, line_end + 1, body_len);
    fd = connect_to_server();
    if (send(fd, out.data, out.len, MSG_NOSIGNAL) == (ssize_t)out.len)
        (void)take_answer(fd);
    (void)close(fd);
    fl_buf_finish(&out);
}

static bool is_quiet(void)
{
    struct fl_http_server_stats stats = fl_http_server_stats(server->http);

    return stats.connections_open == 0 && stats.bytes_queued == 0 &&
           server->writes_in_flight == 0 && fl_watchers_count(server) == 0 &&
           TAILQ_EMPTY(&server->streams);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_freep) char *text = fl_strndup((const char *)data, size);
    const char *at = text, *end;

    if (size > 32 * 1024)
        return 0;
    if (server && fl_store_stats(store).objects > OBJECTS_MAX)
        stop();
    if (!server)
        start();
    while ((end = strstr(at, "\n---\n"))) {
        send_request(at, (size_t)(end - at));
        at = end + 5;
    }
    send_request(at, strlen(at));
    for (int i = 0; i < 1000 && !is_quiet(); i++)
        turn();
    check(is_quiet());
    return 0;
}
