/* For the tests of the HTTP server: a server on a loop in a thread of its own, and a blocking
 * client made of a bare socket, so that a test can send what no library would. */
#ifndef FL_LIB_HTTP_TEST_RIG_H
#define FL_LIB_HTTP_TEST_RIG_H

#include "lib/file.h"
#include "lib/http_server.h"
#include "lib/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
/* cmocka wants these first */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RIG_TIMEOUT_SECONDS 20

struct rig {
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_http_server *server;
    struct fl_tls *tls;
    struct fl_timer *timer;
    struct fl_http_request *held;
    pthread_t thread;
    int gone, handled, answered;
    size_t streamed;
    void *owner; /* whatever the test's handler needs; set on the loop */
    char folder[64], ca[96], ca_key[96], cert[96], key[96], client_cert[96], client_key[96];
};

/* Runs on the loop's thread while the test waits. */
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
    *(struct fl_http_server_stats *)user = fl_http_server_stats(rig->server);
}

static inline struct fl_http_server_stats rig_stats(struct rig *rig)
{
    struct fl_http_server_stats stats;

    rig_on_loop(rig, rig_copy_stats, &stats);
    return stats;
}

struct rig_counts {
    int gone, handled, answered;
    size_t streamed;
};

static inline void rig_copy_counts(struct rig *rig, void *user)
{
    *(struct rig_counts *)user =
        (struct rig_counts){rig->gone, rig->handled, rig->answered, rig->streamed};
}

static inline struct rig_counts rig_counts(struct rig *rig)
{
    struct rig_counts counts;

    rig_on_loop(rig, rig_copy_counts, &counts);
    return counts;
}

/* Until the condition holds; the test fails where it never does. */
#define RIG_WAIT_FOR(condition)                                                                    \
    do {                                                                                           \
        int tries_ = RIG_TIMEOUT_SECONDS * 200;                                                    \
        while (!(condition) && --tries_ > 0)                                                       \
            (void)usleep(5000);                                                                    \
        assert_true(tries_ > 0);                                                                   \
    } while (0)

static inline void *rig_main(void *user)
{
    fl_loop_run(((struct rig *)user)->loop);
    return NULL;
}

static inline void rig_make_certificates(struct rig *rig)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "::1"};
    static const char *const groups[] = {"system:masters", "developers"};
    const struct fl_cert_request server = {.common_name = "flops",
                                           .names = names,
                                           .name_count = FL_COUNT_OF(names),
                                           .server = true,
                                           .valid_seconds = 86400};
    const struct fl_cert_request client = {.common_name = "admin",
                                           .organizations = groups,
                                           .organization_count = FL_COUNT_OF(groups),
                                           .client = true,
                                           .valid_seconds = 86400};

    assert_int_equal(fl_ca_ensure(&rig->env, rig->ca, rig->ca_key, "test CA", 864000, NULL), 0);
    assert_int_equal(
        fl_cert_ensure(&rig->env, rig->ca, rig->ca_key, &server, rig->cert, rig->key, NULL), 0);
    assert_int_equal(fl_cert_ensure(&rig->env, rig->ca, rig->ca_key, &client, rig->client_cert,
                                    rig->client_key, NULL),
                     0);
}

static inline void rig_make_folder(struct rig *rig)
{
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flops-test-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    (void)snprintf(rig->ca, sizeof(rig->ca), "%s/ca.crt", rig->folder);
    (void)snprintf(rig->ca_key, sizeof(rig->ca_key), "%s/ca.key", rig->folder);
    (void)snprintf(rig->cert, sizeof(rig->cert), "%s/server.crt", rig->folder);
    (void)snprintf(rig->key, sizeof(rig->key), "%s/server.key", rig->folder);
    (void)snprintf(rig->client_cert, sizeof(rig->client_cert), "%s/client.crt", rig->folder);
    (void)snprintf(rig->client_key, sizeof(rig->client_key), "%s/client.key", rig->folder);
}

static inline void rig_remove_folder(struct rig *rig)
{
    const char *const files[] = {rig->ca,  rig->ca_key,      rig->cert,
                                 rig->key, rig->client_cert, rig->client_key};

    for (size_t i = 0; i < FL_COUNT_OF(files); i++)
        (void)unlink(files[i]);
    (void)rmdir(rig->folder);
}

/* Fills in what every test needs; the rest of the options is the test's. */
static inline struct rig *rig_start(struct fl_http_server_options *options, bool tls)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_error err = {0};

    rig->env = fl_env_real(NULL);
    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    if (tls) {
        rig_make_folder(rig);
        rig_make_certificates(rig);
        assert_int_equal(
            fl_tls_server_create(
                &(struct fl_tls_files){.cert = rig->cert, .key = rig->key, .client_ca = rig->ca},
                &rig->tls, &err),
            0);
    }
    options->env = &rig->env;
    options->loop = rig->loop;
    options->tls = rig->tls;
    options->address = "127.0.0.1";
    options->user = rig;
    assert_int_equal(fl_http_server_create(options, &rig->server, &err), 0);
    assert_int_equal(pthread_create(&rig->thread, NULL, rig_main, rig), 0);
    return rig;
}

static inline void rig_stop(struct rig *rig)
{
    fl_loop_stop(rig->loop);
    (void)pthread_join(rig->thread, NULL);
    fl_http_server_destroy(rig->server);
    fl_timer_destroy(rig->timer);
    fl_loop_destroy(rig->loop);
    if (rig->tls)
        rig_remove_folder(rig);
    fl_tls_destroy(rig->tls);
    free(rig);
}

/* The client. */

static inline int rig_connect(struct rig *rig)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fl_http_server_port(rig->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_sec = RIG_TIMEOUT_SECONDS};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
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

static inline void rig_puts(int fd, const char *text)
{
    assert_true(rig_send(fd, text, strlen(text)));
}

/* All that comes until the end; the text is the caller's. */
static inline char *rig_read_all(int fd)
{
    struct fl_buf buf;
    char piece[4096];
    ssize_t n;

    fl_buf_init(&buf, 0);
    while ((n = recv(fd, piece, sizeof(piece), 0)) > 0)
        fl_buf_append(&buf, piece, (size_t)n);
    assert_true(n == 0 || errno == ECONNRESET);
    return fl_buf_steal(&buf);
}

/* Until `text` has come. */
static inline char *rig_read_until(int fd, const char *text)
{
    struct fl_buf buf;
    char c;

    fl_buf_init(&buf, 0);
    while (!strstr(fl_buf_text(&buf), text)) {
        if (recv(fd, &c, 1, 0) != 1)
            fail_msg("\"%s\" did not come, but \"%s\"", text, fl_buf_text(&buf));
        fl_buf_append(&buf, &c, 1);
    }
    return fl_buf_steal(&buf);
}

/* Is the connection closed by the server (without anything more)? Waits for it. */
static inline bool rig_is_closed(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static inline int rig_status(const char *reply)
{
    return strncmp(reply, "HTTP/1.1 ", 9) == 0 ? (int)strtol(reply + 9, NULL, 10) : 0;
}

/* Sends, reads until the server closes, returns the status (0: closed without an answer). */
static inline int rig_ask(struct rig *rig, const char *data, size_t len)
{
    int fd = rig_connect(rig), status;
    char *reply;

    (void)rig_send(fd, data, len);
    reply = rig_read_all(fd);
    status = rig_status(reply);
    free(reply);
    (void)close(fd);
    return status;
}

#endif
