/* How fast bulk goes, and what it costs.
 *
 *     bulk_bench [MIB [PARALLEL [UPLOAD_MIB]]]
 *
 * The server is a process of its own, so that its memory can be told apart. Beside each figure
 * stands the loopback's own: the same bytes by send and recv between two plain threads. */
#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/transfer/bulk_client.h"
#include "workloads/transfer/bulk_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1024 * 1024)

struct bench {
    struct fl_env env;
    char folder[64], ca[96], ca_key[96], cert[96], key[96], served[96], uploads[96];
    char digest[FL_DIGEST_SIZE];
    size_t model_bytes;
};

static void die(const char *what, const struct fl_error *err)
{
    (void)fprintf(stderr, "bulk_bench: %s: %s\n", what, err->msg);
    exit(1);
}

static void make_folder(struct bench *bench)
{
    static const char *const names[] = {"127.0.0.1"};
    const struct fl_cert_request request = {.common_name = "bench",
                                            .names = names,
                                            .name_count = 1,
                                            .server = true,
                                            .valid_seconds = 86400};
    struct fl_error err = {0};

    (void)snprintf(bench->folder, sizeof(bench->folder), "/tmp/flops-bench-XXXXXX");
    if (!mkdtemp(bench->folder))
        exit(1);
    (void)snprintf(bench->ca, sizeof(bench->ca), "%s/ca.crt", bench->folder);
    (void)snprintf(bench->ca_key, sizeof(bench->ca_key), "%s/ca.key", bench->folder);
    (void)snprintf(bench->cert, sizeof(bench->cert), "%s/tls.crt", bench->folder);
    (void)snprintf(bench->key, sizeof(bench->key), "%s/tls.key", bench->folder);
    (void)snprintf(bench->served, sizeof(bench->served), "%s/served", bench->folder);
    (void)snprintf(bench->uploads, sizeof(bench->uploads), "%s/uploads", bench->folder);
    if (fl_ca_ensure(&bench->env, bench->ca, bench->ca_key, "bench", 864000, &err) < 0 ||
        fl_cert_ensure(&bench->env, bench->ca, bench->ca_key, &request, bench->cert, bench->key,
                       &err) < 0)
        die("certificates", &err);
}

static void make_model(struct bench *bench)
{
    FL_CLEANUP(fl_freep) char *data = fl_malloc(bench->model_bytes);
    struct fl_blobs *blobs = NULL;
    struct fl_error err = {0};

    for (size_t i = 0; i < bench->model_bytes; i++)
        data[i] = (char)(i * 31 + i / 4099);
    if (fl_blobs_open(&(struct fl_blobs_options){.env = &bench->env, .path = bench->served}, &blobs,
                      &err) < 0 ||
        fl_blobs_put(blobs, data, bench->model_bytes, false, bench->digest, &err) < 0)
        die("model", &err);
    fl_blobs_close(blobs);
}

/* --- the server's process --- */

static int forget_it(void *user, const struct fl_bulk_upload *upload, struct fl_error *err)
{
    (void)err;
    fl_bulk_server_forget(*(struct fl_bulk_server **)user, upload->key);
    return 0;
}

static void serve(struct bench *bench, bool tls, int port_fd)
{
    struct fl_bulk_server *server = NULL;
    struct fl_blobs *blobs = NULL;
    struct fl_loop *loop = NULL;
    struct fl_tls *context = NULL;
    struct fl_error err = {0};
    struct fl_bulk_server_options options = {.env = &bench->env,
                                             .address = "127.0.0.1",
                                             .uploads_dir = bench->uploads,
                                             .complete = forget_it,
                                             .user = &server};
    uint16_t port;

    if (tls && fl_tls_server_create(&(struct fl_tls_files){.cert = bench->cert, .key = bench->key},
                                    &context, &err))
        die("tls", &err);
    if (fl_loop_create(&loop, &err) < 0 ||
        fl_blobs_open(&(struct fl_blobs_options){.env = &bench->env, .path = bench->served}, &blobs,
                      &err) < 0)
        die("server", &err);
    options.loop = loop;
    options.blobs = blobs;
    options.tls = context;
    if (fl_bulk_server_create(&options, &server, &err) < 0)
        die("server", &err);
    port = fl_bulk_server_port(server);
    if (write(port_fd, &port, sizeof(port)) != sizeof(port))
        exit(1);
    fl_loop_run(loop);
}

static pid_t start_server(struct bench *bench, bool tls, uint16_t *ret_port)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) != 0 || (pid = fork()) < 0)
        exit(1);
    if (pid == 0) {
        serve(bench, tls, fds[1]);
        _exit(0);
    }
    (void)close(fds[1]);
    if (read(fds[0], ret_port, sizeof(*ret_port)) != sizeof(*ret_port))
        exit(1);
    (void)close(fds[0]);
    return pid;
}

/* "VmHWM:     1234 kB" */
static long status_kib(pid_t pid, const char *what)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    char path[64];
    const char *at;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (fl_file_read(path, 65536, &text, NULL) < 0 || !(at = strstr(text->data, what)))
        return -1;
    return strtol(at + strlen(what) + 1, NULL, 10);
}

static double cpu_seconds(pid_t pid)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    unsigned long user = 0, kernel = 0;
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (fl_file_read(path, 65536, &text, NULL) == 0)
        (void)sscanf(strrchr(text->data, ')') + 1,
                     " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

/* --- the loopback's own --- */

struct pump {
    int fd;
    size_t bytes;
};

static void pump_out(void *user)
{
    static char piece[256 * 1024];
    const struct pump *pump = user;

    for (size_t left = pump->bytes; left > 0;) {
        ssize_t n = send(pump->fd, piece, left < sizeof(piece) ? left : sizeof(piece), 0);

        if (n <= 0)
            return;
        left -= (size_t)n;
    }
}

static double loopback_seconds(size_t bytes)
{
    static char piece[256 * 1024];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), in;
    struct pump pump = {.fd = out, .bytes = bytes};
    struct fl_thread *thread = NULL;
    int64_t from;

    if (bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0 ||
        connect(out, (struct sockaddr *)&address, len) != 0 ||
        (in = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        exit(1);
    from = fl_machine_monotonic_us();
    if (fl_thread_start("pump", pump_out, &pump, &thread, NULL) < 0)
        exit(1);
    for (size_t got = 0; got < bytes;) {
        ssize_t n = recv(in, piece, sizeof(piece), 0);

        if (n <= 0)
            exit(1);
        got += (size_t)n;
    }
    fl_thread_join(thread);
    (void)close(in);
    (void)close(out);
    (void)close(listener);
    return (double)(fl_machine_monotonic_us() - from) / 1e6;
}

/* --- the measured --- */

struct sender {
    struct bench *bench;
    bool tls;
    uint16_t port;
    const char *data;
    size_t bytes;
    unsigned number;
    struct fl_thread *thread;
};

static struct fl_bulk_client *connect_to(struct bench *bench, bool tls, uint16_t port)
{
    char url[64];
    struct fl_bulk_client_options options = {
        .env = &bench->env, .http.base_url = url, .http.ca_file = tls ? bench->ca : NULL};
    struct fl_bulk_client *client = NULL;
    struct fl_error err = {0};

    (void)snprintf(url, sizeof(url), "http%s://127.0.0.1:%u", tls ? "s" : "", port);
    if (fl_bulk_client_create(&options, &client, &err) < 0)
        die("client", &err);
    return client;
}

static void send_one(void *user)
{
    struct sender *sender = user;
    FL_CLEANUP(fl_bulk_client_destroyp)
    struct fl_bulk_client *client = connect_to(sender->bench, sender->tls, sender->port);
    char target[64], digest[FL_DIGEST_SIZE];
    struct fl_bulk_send send = {
        .target = target, .data = sender->data, .size = (int64_t)sender->bytes, .digest = digest};
    struct fl_error err = {0};

    (void)snprintf(target, sizeof(target), "/v1/uploads/%u", sender->number);
    fl_digest_of(sender->data, sender->bytes, digest);
    if (fl_bulk_send(client, &send, &err) < 0)
        die("upload", &err);
}

static void report(const char *what, double bytes, double seconds, double loopback)
{
    (void)printf("%-34s %8.3f s %9.0f MiB/s   %5.1f %% of the loopback's\n", what, seconds,
                 bytes / seconds / (double)MIB, 100 * loopback / seconds);
}

static void measure_download(struct bench *bench, bool tls, uint16_t port)
{
    FL_CLEANUP(fl_bulk_client_destroyp)
    struct fl_bulk_client *client = connect_to(bench, tls, port);
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/fetched", bench->folder);
    const double loopback = loopback_seconds(bench->model_bytes);
    struct fl_blobs *blobs = NULL;
    struct fl_error err = {0};
    int64_t from;

    if (fl_blobs_open(
            &(struct fl_blobs_options){.env = &bench->env, .path = path, .fleeting = true}, &blobs,
            &err) < 0)
        die("client", &err);
    from = fl_machine_monotonic_us();
    if (fl_bulk_fetch(client, &(struct fl_bulk_fetch){.digest = bench->digest}, blobs, &err) < 0)
        die("download", &err);
    report(tls ? "download, TLS, written and hashed" : "download, written and hashed",
           (double)bench->model_bytes, (double)(fl_machine_monotonic_us() - from) / 1e6, loopback);
    fl_blobs_close(blobs);
}

/* The server alone: a reader that throws away what comes. */
static int throw_away(void *user, const void *data, size_t len, struct fl_error *err)
{
    (void)user;
    (void)data;
    (void)len;
    (void)err;
    return 0;
}

static void measure_server(struct bench *bench, bool tls, uint16_t port)
{
    char url[64], target[128];
    const struct fl_http_client_options options = {.base_url = url,
                                                   .ca_file = tls ? bench->ca : NULL};
    const struct fl_http_transfer transfer = {
        .method = "GET", .target = target, .piece = throw_away};
    const double loopback = loopback_seconds(bench->model_bytes);
    struct fl_http_client *client = NULL;
    struct fl_error err = {0};
    int64_t from;
    int status;

    (void)snprintf(url, sizeof(url), "http%s://127.0.0.1:%u", tls ? "s" : "", port);
    (void)snprintf(target, sizeof(target), "/v1/models/%s", bench->digest);
    if (fl_http_client_create(&options, &client, &err) < 0)
        die("client", &err);
    from = fl_machine_monotonic_us();
    if (fl_http_transfer(client, &transfer, &status, NULL, NULL, &err) < 0 || status != 200)
        die("download", &err);
    report(tls ? "download, TLS, thrown away" : "download, thrown away", (double)bench->model_bytes,
           (double)(fl_machine_monotonic_us() - from) / 1e6, loopback);
    fl_http_client_destroy(client);
}

static void measure_uploads(struct bench *bench, bool tls, uint16_t port, unsigned count,
                            size_t bytes)
{
    FL_CLEANUP(fl_freep) char *data = fl_malloc(bytes);
    struct sender *senders = fl_calloc(count, sizeof(*senders));
    const double loopback = loopback_seconds(bytes * count);
    char what[64];
    int64_t from;

    memset(data, 0x5A, bytes);
    from = fl_machine_monotonic_us();
    for (unsigned i = 0; i < count; i++) {
        senders[i] = (struct sender){
            .bench = bench, .tls = tls, .port = port, .data = data, .bytes = bytes, .number = i};
        if (fl_thread_start("sender", send_one, &senders[i], &senders[i].thread, NULL) < 0)
            exit(1);
    }
    for (unsigned i = 0; i < count; i++)
        fl_thread_join(senders[i].thread);
    (void)snprintf(what, sizeof(what), "%u uploads of %zu MiB%s", count, bytes / MIB,
                   tls ? ", TLS" : "");
    report(what, (double)(bytes * count), (double)(fl_machine_monotonic_us() - from) / 1e6,
           loopback);
    free(senders);
}

static void measure(struct bench *bench, bool tls, unsigned count, size_t upload_bytes)
{
    uint16_t port = 0;
    pid_t pid = start_server(bench, tls, &port);
    const long rest = status_kib(pid, "VmRSS:");

    measure_server(bench, tls, port);
    measure_download(bench, tls, port);
    measure_uploads(bench, tls, port, 1, bench->model_bytes);
    measure_uploads(bench, tls, port, count, upload_bytes);
    (void)printf("server: %ld KiB at rest, at most %ld KiB, %.2f s of CPU\n\n", rest,
                 status_kib(pid, "VmHWM:"), cpu_seconds(pid));
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

static size_t argument(int argc, char **argv, int i, size_t fallback)
{
    int64_t value;

    return i < argc && fl_str_to_int64(argv[i], 1, 1 << 20, &value) ? (size_t)value : fallback;
}

int main(int argc, char **argv)
{
    struct bench bench = {.env = fl_env_real(NULL),
                          .model_bytes = argument(argc, argv, 1, 256) * MIB};
    const unsigned count = (unsigned)argument(argc, argv, 2, 100);
    const size_t upload = argument(argc, argv, 3, 10) * MIB;

    make_folder(&bench);
    make_model(&bench);
    (void)loopback_seconds(bench.model_bytes);
    measure(&bench, false, count, upload);
    measure(&bench, true, count, upload);
    return fl_dir_remove(bench.folder, NULL) == 0 ? 0 : 1;
}
