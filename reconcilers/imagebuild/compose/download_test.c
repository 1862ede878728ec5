/* Packages from servers that break off, stall, lie about lengths or never end: each is tried again
 * where that may help, and ends in a clear error else; in the content there is the whole file, or
 * nothing. The server speaks bytes: no real one would say these. */
#include "reconcilers/imagebuild/compose/packages.h"

#include "lib/file.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define TEXT        "0123456789"
#define HEAD        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
#define UNKNOWN     "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
#define CHUNKED     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define BUSY        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
#define ENDLESS     "@endless"
#define HANGS       "@hangs" /* after what was said */
#define ANSWERS_MAX 4

struct server {
    int fd;
    uint16_t port;
    struct fl_thread *thread;
    const char *answers[ANSWERS_MAX]; /* by connection; the last one again */
    const char *after;                /* HANGS, ENDLESS or NULL: the connection is closed */
    atomic_int connections;
    atomic_bool ends;
};

static void read_request(int fd)
{
    char text[4096];
    size_t len = 0;

    while (len < sizeof(text) - 1) {
        ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);

        if (n <= 0)
            return;
        len += (size_t)n;
        text[len] = '\0';
        if (strstr(text, "\r\n\r\n"))
            return;
    }
}

/* Until the other side has had enough. */
static void go_on(struct server *server, int fd)
{
    static const char piece[16384];

    if (server->after && strcmp(server->after, ENDLESS) == 0)
        while (!atomic_load(&server->ends) && send(fd, piece, sizeof(piece), MSG_NOSIGNAL) > 0)
            ;
    if (server->after && strcmp(server->after, HANGS) == 0) {
        char rest;

        (void)recv(fd, &rest, 1, 0);
    }
}

static void serve(void *user)
{
    struct server *server = user;

    while (!atomic_load(&server->ends)) {
        int fd = accept(server->fd, NULL, NULL), number;
        const char *text;

        if (fd < 0)
            return;
        number = atomic_fetch_add(&server->connections, 1);
        while (number > 0 && (number >= ANSWERS_MAX || !server->answers[number]))
            number--;
        text = server->answers[number];
        read_request(fd);
        (void)send(fd, text, strlen(text), MSG_NOSIGNAL);
        go_on(server, fd);
        (void)close(fd);
    }
}

static void start_server(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->fd >= 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server->fd, 16), 0);
    assert_int_equal(getsockname(server->fd, (struct sockaddr *)&address, &len), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(fl_thread_start("server", serve, server, &server->thread, NULL), 0);
}

static void stop_server(struct server *server)
{
    atomic_store(&server->ends, true);
    (void)shutdown(server->fd, SHUT_RDWR);
    fl_thread_join(server->thread);
    (void)close(server->fd);
}

struct world {
    char folder[64];
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_blobs *blobs;
    struct fl_packages *packages;
};

static struct world *open_world(int64_t deadline_ms, int64_t max_bytes)
{
    struct world *world = fl_calloc(1, sizeof(*world));
    struct fl_packages_options options = {0};
    struct fl_blobs_options blobs = {.env = &world->env, .max_bytes = max_bytes};

    world->arena = fl_arena_create();
    world->env = fl_env_real(NULL);
    (void)snprintf(world->folder, sizeof(world->folder), "/tmp/flops-download-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    blobs.path = fl_arena_printf(world->arena, "%s/blobs", world->folder);
    assert_int_equal(fl_blobs_open(&blobs, &world->blobs, NULL), 0);
    options = (struct fl_packages_options){
        .env = &world->env,
        .folder = fl_arena_printf(world->arena, "%s/state", world->folder),
        .blobs = world->blobs,
        .deadline_ms = fl_monotonic_ms(&world->env) + deadline_ms,
    };
    assert_int_equal(fl_packages_open(&options, &world->packages, NULL), 0);
    return world;
}

static void close_world(struct world *world)
{
    fl_packages_close(world->packages);
    fl_blobs_close(world->blobs);
    assert_int_equal(fl_dir_remove(world->folder, NULL), 0);
    fl_arena_destroy(world->arena);
    free(world);
}

/* Of what was begun and not finished. */
static size_t leftovers(struct world *world)
{
    DIR *list = opendir(fl_arena_printf(world->arena, "%s/blobs/new", world->folder));
    const struct dirent *item;
    size_t count = 0;

    while (list && (item = readdir(list)))
        count += item->d_name[0] != '.';
    if (list)
        (void)closedir(list);
    return count;
}

static int fetch(struct world *world, const char *url, int64_t size, const char *text,
                 struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];
    struct fl_package package = {.kind = FL_PACKAGE_DEBIAN,
                                 .name = "x",
                                 .version = "1",
                                 .architecture = "all",
                                 .file = "x_1_all.deb",
                                 .url = url,
                                 .digest = digest,
                                 .size = size};
    const struct fl_package_lock lock = {&package, 1};
    struct fl_packages_fetched fetched;
    int r;

    fl_digest_of(text, strlen(text), digest);
    r = fl_packages_fetch(world->packages, &lock, &fetched, err);
    assert_int_equal(fl_blobs_has(world->blobs, digest), r == 0);
    assert_int_equal(leftovers(world), 0);
    return r;
}

static void test_servers_that_misbehave(void **state)
{
    static const struct {
        const char *what;
        const char *answers[ANSWERS_MAX];
        const char *after;
        int64_t size, deadline_ms, max_bytes;
        int result, connections; /* at most; 0: it does not matter */
    } rows[] = {
        {"it is as it should be", {HEAD TEXT}, NULL, 10, 60000, 0, 0, 1},
        {"broken off once", {HEAD "01234", HEAD TEXT}, NULL, 10, 60000, 0, 0, 2},
        {"broken off before its head", {"HTTP/1.1 2", HEAD TEXT}, NULL, 10, 60000, 0, 0, 2},
        {"broken off within a chunk",
         {CHUNKED "a\r\n01234", CHUNKED "a\r\n" TEXT "\r\n0\r\n\r\n"},
         NULL,
         10,
         60000,
         0,
         0,
         2},
        {"busy once", {BUSY, HEAD TEXT}, NULL, 10, 60000, 0, 0, 2},
        {"always broken off", {HEAD "01234"}, NULL, 10, 60000, 0, FL_E_UNAVAILABLE, 3},
        {"always busy", {BUSY}, NULL, 10, 60000, 0, FL_E_UNAVAILABLE, 3},
        {"too short, and says it is all", {UNKNOWN "01234"}, NULL, 10, 60000, 0, FL_E_INVALID, 3},
        {"other bytes", {HEAD "9876543210"}, NULL, 10, 60000, 0, FL_E_INVALID, 3},
        {"longer than the lock says", {UNKNOWN TEXT "x"}, NULL, 10, 60000, 0, FL_E_INVALID, 3},
        {"without end", {UNKNOWN}, ENDLESS, 10, 60000, 0, FL_E_INVALID, 3},
        {"without end, of a size nobody knows",
         {UNKNOWN},
         ENDLESS,
         0,
         60000,
         1 << 20,
         FL_E_TOO_LARGE,
         3},
        {"stalled in the middle", {HEAD "01234"}, HANGS, 10, 1500, 0, FL_E_TIMEOUT, 0},
        {"stalled before it began", {""}, HANGS, 10, 1500, 0, FL_E_TIMEOUT, 0},
        {"no HTTP", {"SSH-2.0-x\r\n\r\n"}, NULL, 10, 60000, 0, FL_E_BAD_REQUEST, 3},
        {"no room for it", {HEAD TEXT}, NULL, 10, 60000, 5, FL_E_TOO_LARGE, 3},
        {"sent to a file of this machine",
         {"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"},
         NULL,
         10,
         60000,
         0,
         FL_E_INVALID,
         3},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct world *world = open_world(rows[i].deadline_ms, rows[i].max_bytes);
        struct server server = {.after = rows[i].after};
        struct fl_error err = {0};
        int r;

        memcpy(server.answers, rows[i].answers, sizeof(server.answers));
        start_server(&server);
        r = fetch(world,
                  fl_arena_printf(world->arena, "http://127.0.0.1:%u/x_1_all.deb", server.port),
                  rows[i].size, TEXT, &err);
        if (r != rows[i].result)
            fail_msg("%s: %s (%s)", rows[i].what, r == 0 ? "taken" : err.msg, fl_error_reason(r));
        if (rows[i].connections && atomic_load(&server.connections) > rows[i].connections)
            fail_msg("%s: %d connections", rows[i].what, atomic_load(&server.connections));
        close_world(world); /* hangs up */
        stop_server(&server);
    }
}

/* What apt-get may name: files of the machine, and nothing that is none. */
static void test_files(void **state)
{
    struct world *world = open_world(60000, 0);
    const char *file = fl_arena_printf(world->arena, "%s/file %%", world->folder);
    const char *pipe_path = fl_arena_printf(world->arena, "%s/pipe", world->folder);
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_file_write(file, TEXT, 10, 0600, NULL), 0);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(fetch(world,
                           fl_arena_printf(world->arena, "file:%s/file%%20%%25", world->folder), 9,
                           TEXT, &err),
                     FL_E_INVALID);
    assert_int_equal(
        fetch(world, fl_arena_printf(world->arena, "file:%s", pipe_path), 0, TEXT, &err),
        FL_E_INVALID);
    assert_int_equal(
        fetch(world, fl_arena_printf(world->arena, "file:%s", world->folder), 0, TEXT, &err),
        FL_E_INVALID);
    assert_int_equal(fetch(world, "file:/not/there", 10, TEXT, &err), FL_E_NOT_FOUND);
    assert_int_equal(fetch(world, "file:/dev/zero", 0, TEXT, &err), FL_E_INVALID);
    assert_int_equal(fetch(world, "ftp://127.0.0.1/x", 10, TEXT, &err), FL_E_INVALID);
    assert_int_equal(fetch(world, "", 10, TEXT, &err), FL_E_INVALID);
    assert_int_equal(fetch(world,
                           fl_arena_printf(world->arena, "file://%s/file%%20%%25", world->folder),
                           10, TEXT, &err),
                     0);
    close_world(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_servers_that_misbehave),
        cmocka_unit_test(test_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
