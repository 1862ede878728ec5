/* apibench MODE --server HOST:PORT [options]: loads a Kubernetes-style API server and prints one
 * line of figures as "mode key=value ...".
 *
 *   create   POST objects                                   --count N or --seconds S, --parallel P
 *   get      GET one object after another                   --seconds S, --parallel P, --objects N
 *   list     GET the whole collection                       --count N
 *   watch    N watchers see M creates                       --watchers N --count M --pace-ms T
 *   ready    waits until /readyz answers 200                --seconds S (limit)
 *   disk     fdatasync of 1 KiB writes in --dir             --count N
 *
 * It is made to cost little, since it runs on the cores it measures: blocking sockets and a thread
 * for each request in flight, one thread and epoll for the watchers, nothing of a body looked at
 * but what is counted.  Connections are kept alive; each has its own TLS session.  Any answer that
 * is not success counts as an error, and a run with errors fails.  Times are of the client: from
 * the first byte written to the last byte read.  With --pid the processor time of the server is
 * given too. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum {
    BUFFER_BYTES = 64 * 1024,
    LINE_BYTES = 16 * 1024, /* the longest watch frame taken */
    MAX_PARALLEL = 256,
    MAX_WATCHERS = 20000,
    MAX_BODY_BYTES = 1024 * 1024,
    MAX_PIDS = 8,
    IO_TIMEOUT_S = 60,
};

struct options {
    const char *host, *port, *token, *ca, *cert, *key, *path, *api_version, *kind, *prefix, *dir;
    int count, parallel, objects, watchers, pace_ms, size_bytes;
    double seconds;
    pid_t pids[MAX_PIDS];
    int npids;
};

static struct options opt = {
    .port = "443",
    .api_version = "interop.flops.dev/v1",
    .kind = "Widget",
    .prefix = "b",
    .dir = ".",
    .parallel = 1,
    .watchers = 100,
    .size_bytes = 900,
};
static SSL_CTX *tls;
static struct addrinfo *address;
static char credentials[4096];

static _Noreturn void fatal(const char *format, ...)
{
    va_list ap;

    fputs("apibench: ", stderr);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *allocate(size_t bytes)
{
    void *p = calloc(1, bytes);

    if (!p)
        fatal("out of memory");
    return p;
}

/* ---- connections --------------------------------------------------------------------------------
 */

struct conn {
    int fd;
    SSL *ssl;
    char *buf;
    size_t pos, have; /* unread bytes are buf[pos..have) */
};

struct reply {
    int status;
    size_t body_bytes;
    char start[1024]; /* the first bytes of the body, for error texts and a list's revision */
    size_t nstart;
    bool close;
};

static void conn_close(struct conn *c)
{
    if (c->ssl)
        SSL_free(c->ssl);
    if (c->fd >= 0)
        close(c->fd);
    c->ssl = NULL;
    c->fd = -1;
    c->pos = c->have = 0;
}

/* Returns 0, or -1 when there is no connection to be had. */
static int conn_open(struct conn *c)
{
    int one = 1;
    struct timeval limit = {.tv_sec = IO_TIMEOUT_S};

    c->pos = c->have = 0;
    c->ssl = NULL;
    c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fatal("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(c->fd, address->ai_addr, address->ai_addrlen) < 0)
        goto fail;
    c->ssl = SSL_new(tls);
    if (!c->ssl || !SSL_set_fd(c->ssl, c->fd))
        fatal("cannot make a TLS session");
    if (SSL_connect(c->ssl) != 1)
        goto fail;
    return 0;
fail:
    ERR_clear_error();
    conn_close(c);
    return -1;
}

static void conn_init(struct conn *c)
{
    *c = (struct conn){.fd = -1, .buf = allocate(BUFFER_BYTES)};
}

static void conn_connect(struct conn *c)
{
    conn_init(c);
    if (conn_open(c) < 0)
        fatal("cannot connect to %s:%s", opt.host, opt.port);
}

/* Reads more behind what is unread. Returns 0, or -1 at the end or on an error. */
static int conn_fill(struct conn *c)
{
    int n;

    if (c->pos == c->have)
        c->pos = c->have = 0;
    if (c->have == BUFFER_BYTES) {
        if (c->pos == 0)
            return -1;
        memmove(c->buf, c->buf + c->pos, c->have - c->pos);
        c->have -= c->pos;
        c->pos = 0;
    }
    n = SSL_read(c->ssl, c->buf + c->have, (int)(BUFFER_BYTES - c->have));
    if (n <= 0)
        return -1;
    c->have += (size_t)n;
    return 0;
}

/* Takes a line, up to and without its CR LF. */
static char *conn_line(struct conn *c)
{
    for (;;) {
        char *start = c->buf + c->pos;
        char *end = memchr(start, '\n', c->have - c->pos);

        if (end) {
            c->pos = (size_t)(end - c->buf) + 1;
            *end = '\0';
            if (end > start && end[-1] == '\r')
                end[-1] = '\0';
            return start;
        }
        if (conn_fill(c) < 0)
            return NULL;
    }
}

static int conn_body(struct conn *c, size_t bytes, struct reply *ret)
{
    ret->body_bytes += bytes;
    while (bytes > 0) {
        size_t here = c->have - c->pos;

        if (here == 0) {
            if (conn_fill(c) < 0)
                return -1;
            continue;
        }
        if (here > bytes)
            here = bytes;
        if (ret->nstart < sizeof ret->start - 1) {
            size_t keep = sizeof ret->start - 1 - ret->nstart;

            keep = keep < here ? keep : here;
            memcpy(ret->start + ret->nstart, c->buf + c->pos, keep);
            ret->nstart += keep;
        }
        c->pos += here;
        bytes -= here;
    }
    return 0;
}

/* Reads status line and headers. Body length, or -1 when it is chunked, goes to *ret_length. */
static int read_head(struct conn *c, struct reply *ret, long *ret_length)
{
    char *line = conn_line(c);

    if (!line || strncmp(line, "HTTP/1.1 ", 9) != 0)
        return -1;
    ret->status = atoi(line + 9);
    *ret_length = 0;
    while ((line = conn_line(c)) && *line) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            *ret_length = atol(line + 15);
        else if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0)
            *ret_length = -1;
        else if (strncasecmp(line, "connection: close", 17) == 0)
            ret->close = true;
    }
    return line ? 0 : -1;
}

static int read_body(struct conn *c, struct reply *ret, long length)
{
    if (length >= 0)
        return conn_body(c, (size_t)length, ret);
    for (;;) {
        char *line = conn_line(c);
        size_t bytes;

        if (!line)
            return -1;
        bytes = strtoul(line, NULL, 16);
        if (conn_body(c, bytes, ret) < 0)
            return -1;
        if (!conn_line(c))
            return -1;
        if (bytes == 0)
            return 0;
    }
}

static int read_reply(struct conn *c, struct reply *ret)
{
    long length;
    int r;

    if (read_head(c, ret, &length) < 0)
        return -1;
    r = read_body(c, ret, length);
    ret->start[ret->nstart] = '\0';
    return r;
}

static int send_request(struct conn *c, const char *request, size_t bytes)
{
    return SSL_write(c->ssl, request, (int)bytes) == (int)bytes ? 0 : -1;
}

static size_t format_get(char *out, size_t size, const char *path)
{
    int n = snprintf(out, size,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: apibench\r\n"
                     "Accept: application/json\r\n%s\r\n",
                     path, opt.host, credentials);

    if (n < 0 || (size_t)n >= size)
        fatal("path too long");
    return (size_t)n;
}

/* One request and its whole reply; reconnects when the server asked for it. */
static bool exchange(struct conn *c, const char *request, size_t bytes, struct reply *ret)
{
    ret->status = 0;
    ret->body_bytes = ret->nstart = 0;
    ret->start[0] = '\0';
    ret->close = false;
    if (c->fd < 0 && conn_open(c) < 0)
        return false;
    if (send_request(c, request, bytes) < 0 || read_reply(c, ret) < 0) {
        conn_close(c);
        return false;
    }
    if (ret->close)
        conn_close(c);
    return true;
}

/* ---- what is measured ---------------------------------------------------------------------------
 */

struct samples {
    uint32_t *us;
    size_t n, cap;
};

static void samples_add(struct samples *s, uint64_t ns)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 4096;
        s->us = realloc(s->us, s->cap * sizeof *s->us);
        if (!s->us)
            fatal("out of memory");
    }
    s->us[s->n++] = (uint32_t)(ns / 1000);
}

static int compare_us(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double quantile_ms(const struct samples *s, double q)
{
    return s->n ? s->us[(size_t)(q * (double)(s->n - 1))] / 1000.0 : 0;
}

static void print_samples(struct samples *s)
{
    qsort(s->us, s->n, sizeof *s->us, compare_us);
    printf(" p50_ms=%.3f p99_ms=%.3f max_ms=%.3f", quantile_ms(s, 0.5), quantile_ms(s, 0.99),
           quantile_ms(s, 1));
}

/* Processor time of the servers, all threads, in seconds. */
static double server_cpu_s(void)
{
    double sum = 0;

    for (int i = 0; i < opt.npids; i++) {
        char name[64], text[1024], *p;
        unsigned long user, system;
        FILE *f;

        snprintf(name, sizeof name, "/proc/%d/stat", (int)opt.pids[i]);
        f = fopen(name, "r");
        if (!f || !fgets(text, sizeof text, f))
            fatal("no process %d", (int)opt.pids[i]);
        fclose(f);
        p = strrchr(text, ')');
        if (!p || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                         &system) != 2)
            fatal("cannot read %s", name);
        sum += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    return sum;
}

static double own_cpu_s(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static struct {
    double server_s, own_s;
} cpu_before;

static void cpu_start(void)
{
    cpu_before.server_s = server_cpu_s();
    cpu_before.own_s = own_cpu_s();
}

static void print_cpu(size_t operations)
{
    double per = operations ? 1e6 / (double)operations : 0;

    if (opt.npids > 0)
        printf(" server_cpu_us=%.1f", (server_cpu_s() - cpu_before.server_s) * per);
    printf(" tool_cpu_us=%.1f", (own_cpu_s() - cpu_before.own_s) * per);
}

/* ---- create and get
 * ------------------------------------------------------------------------------ */

struct worker {
    pthread_t thread;
    int index;
    struct conn conn;
    struct samples samples;
    long errors;
    char first_error[256];
};

static atomic_long next_number;
static uint64_t deadline_ns;

static void worker_error(struct worker *w, const struct reply *r, bool answered)
{
    if (w->errors++ == 0) {
        if (answered)
            snprintf(w->first_error, sizeof w->first_error, "%d %.200s", r->status, r->start);
        else
            snprintf(w->first_error, sizeof w->first_error, "connection lost");
    }
}

/* An object of exactly opt.size_bytes as the body of a POST, its number in the name. */
static size_t format_create(char *out, size_t size, long number, uint64_t stamp)
{
    char head[512], *body = allocate((size_t)opt.size_bytes + 1);
    int n, pad, m;

    n = snprintf(
        head, sizeof head,
        "{\"apiVersion\":\"%s\",\"kind\":\"%s\",\"metadata\":{\"name\":\"%s-%06ld\","
        "\"labels\":{\"app\":\"bench\"}},\"spec\":{\"size\":5,\"color\":\"Red\",\"replicas\":2,"
        "\"settings\":{\"t0\":\"%020" PRIu64 "\",\"pad\":\"",
        opt.api_version, opt.kind, opt.prefix, number, stamp);
    pad = opt.size_bytes - n - 4;
    if (pad < 0)
        fatal("--size is too small, %d bytes are the least", n + 4);
    memcpy(body, head, (size_t)n);
    memset(body + n, 'x', (size_t)pad);
    memcpy(body + n + pad, "\"}}}", 4);
    m = snprintf(
        out, size,
        "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: apibench\r\nAccept: application/json\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s",
        opt.path, opt.host, opt.size_bytes, credentials, body);
    free(body);
    if (m < 0 || (size_t)m >= size)
        fatal("request too long");
    return (size_t)m;
}

static bool more(long number)
{
    return opt.count > 0 ? number < opt.count : now_ns() < deadline_ns;
}

static void *create_worker(void *user)
{
    struct worker *w = user;
    size_t size = (size_t)opt.size_bytes + 8192;
    char *request = allocate(size);
    long number;

    while (more(number = atomic_fetch_add(&next_number, 1))) {
        size_t bytes = format_create(request, size, number, 0);
        uint64_t start = now_ns();
        struct reply r;
        bool answered = exchange(&w->conn, request, bytes, &r);

        if (answered && r.status == 201)
            samples_add(&w->samples, now_ns() - start);
        else
            worker_error(w, &r, answered);
        if (w->errors > 100)
            break;
    }
    free(request);
    return NULL;
}

static void *get_worker(void *user)
{
    struct worker *w = user;
    uint32_t random = 2654435761u * (uint32_t)(w->index + 1);
    long number;

    while (more(number = atomic_fetch_add_explicit(&next_number, 1, memory_order_relaxed))) {
        char path[1024], request[8192];
        size_t bytes;
        uint64_t start;
        struct reply r;
        bool answered;

        random = random * 1664525u + 1013904223u;
        snprintf(path, sizeof path, "%s/%s-%06u", opt.path, opt.prefix,
                 (random >> 8) % (uint32_t)opt.objects);
        bytes = format_get(request, sizeof request, path);
        start = now_ns();
        answered = exchange(&w->conn, request, bytes, &r);
        if (answered && r.status == 200 && r.body_bytes > (size_t)opt.size_bytes)
            samples_add(&w->samples, now_ns() - start);
        else
            worker_error(w, &r, answered);
        if (w->errors > 100)
            break;
    }
    return NULL;
}

static int run_workers(const char *name, void *(*work)(void *))
{
    struct worker *workers = allocate((size_t)opt.parallel * sizeof *workers);
    struct samples all = {0};
    long errors = 0;
    uint64_t start, took;

    if (opt.count <= 0 && opt.seconds <= 0)
        fatal("%s needs --count or --seconds", name);
    for (int i = 0; i < opt.parallel; i++) {
        workers[i].index = i;
        conn_connect(&workers[i].conn);
    }
    cpu_start();
    start = now_ns();
    deadline_ns = start + (uint64_t)(opt.seconds * 1e9);
    for (int i = 0; i < opt.parallel; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            fatal("cannot start a thread");
    for (int i = 0; i < opt.parallel; i++)
        pthread_join(workers[i].thread, NULL);
    took = now_ns() - start;

    for (int i = 0; i < opt.parallel; i++) {
        struct worker *w = &workers[i];

        for (size_t k = 0; k < w->samples.n; k++)
            samples_add(&all, (uint64_t)w->samples.us[k] * 1000);
        errors += w->errors;
        if (w->errors)
            fprintf(stderr, "apibench: %ld errors, the first: %s\n", w->errors, w->first_error);
    }
    printf("%s parallel=%d n=%zu seconds=%.3f rate=%.1f", name, opt.parallel, all.n,
           (double)took / 1e9, (double)all.n * 1e9 / (double)took);
    print_samples(&all);
    print_cpu(all.n);
    printf(" errors=%ld\n", errors);
    return errors || all.n == 0;
}

static int run_list(void)
{
    struct conn c;
    struct samples s = {0};
    struct reply r = {0};
    char request[8192];
    size_t bytes = format_get(request, sizeof request, opt.path);
    size_t least = (size_t)opt.objects * (size_t)opt.size_bytes;

    conn_connect(&c);
    cpu_start();
    for (int i = 0; i < opt.count; i++) {
        uint64_t start = now_ns();

        if (!exchange(&c, request, bytes, &r))
            fatal("list: connection lost");
        if (r.status != 200 || r.body_bytes < least)
            fatal("list: status %d, %zu bytes: %.200s", r.status, r.body_bytes, r.start);
        samples_add(&s, now_ns() - start);
    }
    printf("list n=%d bytes=%zu", opt.count, r.body_bytes);
    print_samples(&s);
    print_cpu((size_t)opt.count);
    printf(" min_ms=%.3f errors=0\n", s.us[0] / 1000.0);
    return 0;
}

/* ---- watch fan-out
 * ------------------------------------------------------------------------------- */

/* Takes a watch apart as it comes: chunk sizes, then frames, one a line. */
struct watcher {
    struct conn conn;
    size_t chunk_left;
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END } state;
    char number[16];
    size_t nnumber;
    char *line;
    size_t nline;
};

static struct samples lags;
static uint64_t last_event_ns;
static long bad_frames;

static void watcher_frame(const char *line, size_t bytes)
{
    static const char mark[] = "\"t0\":\"";
    const char *p = memmem(line, bytes, mark, sizeof mark - 1);
    uint64_t at = now_ns(), sent;

    if (!p || strncmp(line, "{\"type\":\"ADDED\"", 15) != 0) {
        if (bad_frames++ == 0)
            fprintf(stderr, "apibench: unexpected frame: %.200s\n", line);
        return;
    }
    sent = strtoull(p + sizeof mark - 1, NULL, 10);
    samples_add(&lags, at > sent ? at - sent : 0);
    last_event_ns = at;
}

static void watcher_payload(struct watcher *w, const char *p, size_t n)
{
    while (n > 0) {
        const char *end = memchr(p, '\n', n);
        size_t take = end ? (size_t)(end - p) : n;

        if (w->nline + take >= LINE_BYTES)
            fatal("watch: frame too long");
        memcpy(w->line + w->nline, p, take);
        w->nline += take;
        if (end) {
            w->line[w->nline] = '\0';
            if (w->nline > 0)
                watcher_frame(w->line, w->nline);
            w->nline = 0;
            take++;
        }
        p += take;
        n -= take;
    }
}

static void watcher_bytes(struct watcher *w, const char *p, size_t n)
{
    while (n > 0) {
        size_t take = 1;

        switch (w->state) {
        case CHUNK_SIZE:
            if (*p == '\n') {
                w->number[w->nnumber] = '\0';
                w->chunk_left = strtoul(w->number, NULL, 16);
                w->nnumber = 0;
                w->state = CHUNK_DATA;
                if (w->chunk_left == 0)
                    fatal("watch: the server ended a watch");
            } else if (w->nnumber < sizeof w->number - 1) {
                w->number[w->nnumber++] = *p;
            }
            break;
        case CHUNK_DATA:
            take = n < w->chunk_left ? n : w->chunk_left;
            watcher_payload(w, p, take);
            w->chunk_left -= take;
            if (w->chunk_left == 0)
                w->state = CHUNK_END;
            break;
        case CHUNK_END:
            if (*p == '\n')
                w->state = CHUNK_SIZE;
            break;
        }
        p += take;
        n -= take;
    }
}

static void watcher_start(struct watcher *w, const char *revision)
{
    char path[2048], request[8192];
    struct reply r = {0};
    long length;
    size_t bytes;

    snprintf(path, sizeof path, "%s?watch=true&timeoutSeconds=600&resourceVersion=%s", opt.path,
             revision);
    bytes = format_get(request, sizeof request, path);
    conn_connect(&w->conn);
    w->line = allocate(LINE_BYTES);
    if (send_request(&w->conn, request, bytes) < 0 || read_head(&w->conn, &r, &length) < 0)
        fatal("watch: connection lost");
    if (r.status != 200 || length != -1)
        fatal("watch: status %d", r.status);
    watcher_bytes(w, w->conn.buf + w->conn.pos, w->conn.have - w->conn.pos);
    fcntl(w->conn.fd, F_SETFL, fcntl(w->conn.fd, F_GETFL) | O_NONBLOCK);
}

static void watcher_read(struct watcher *w)
{
    for (;;) {
        int n = SSL_read(w->conn.ssl, w->conn.buf, BUFFER_BYTES);

        if (n <= 0) {
            if (SSL_get_error(w->conn.ssl, n) == SSL_ERROR_WANT_READ)
                return;
            fatal("watch: connection lost");
        }
        watcher_bytes(w, w->conn.buf, (size_t)n);
    }
}

static atomic_ulong first_create_ns;

static void *watch_creator(void *user)
{
    struct worker *w = user;
    size_t size = (size_t)opt.size_bytes + 8192;
    char *request = allocate(size);

    for (int i = 0; i < opt.count; i++) {
        uint64_t stamp = now_ns();
        size_t bytes = format_create(request, size, i, stamp);
        struct reply r;
        bool answered = exchange(&w->conn, request, bytes, &r);

        if (i == 0)
            atomic_store(&first_create_ns, stamp);
        if (!answered || r.status != 201)
            worker_error(w, &r, answered);
        if (opt.pace_ms > 0)
            usleep((useconds_t)opt.pace_ms * 1000);
    }
    free(request);
    return NULL;
}

/* The collection's revision, so that the watchers see what is created and nothing else. */
static void list_revision(struct conn *c, char *out, size_t size)
{
    static const char mark[] = "\"resourceVersion\":\"";
    char path[1024], request[8192];
    struct reply r = {0};
    char *p;

    snprintf(path, sizeof path, "%s?limit=1", opt.path);
    if (!exchange(c, request, format_get(request, sizeof request, path), &r) || r.status != 200)
        fatal("list: status %d", r.status);
    p = strstr(r.start, mark);
    if (!p || strstr(r.start, "\"items\":[{"))
        fatal("the watched namespace must be empty: %.200s", r.start);
    snprintf(out, size, "%.*s", (int)strspn(p + sizeof mark - 1, "0123456789"),
             p + sizeof mark - 1);
}

static int run_watch(void)
{
    struct watcher *watchers = allocate((size_t)opt.watchers * sizeof *watchers);
    struct worker creator = {0};
    struct rlimit files = {.rlim_cur = MAX_WATCHERS + 100, .rlim_max = MAX_WATCHERS + 100};
    struct epoll_event events[256];
    size_t expected = (size_t)opt.watchers * (size_t)opt.count;
    char revision[32];
    int poll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t limit, start;
    double connect_s;

    setrlimit(RLIMIT_NOFILE, &files);
    conn_connect(&creator.conn);
    list_revision(&creator.conn, revision, sizeof revision);
    start = now_ns();
    for (int i = 0; i < opt.watchers; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &watchers[i]};

        watcher_start(&watchers[i], revision);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, watchers[i].conn.fd, &e) < 0)
            fatal("epoll: %s", strerror(errno));
    }
    connect_s = (double)(now_ns() - start) / 1e9;

    cpu_start();
    if (pthread_create(&creator.thread, NULL, watch_creator, &creator))
        fatal("cannot start a thread");
    limit = now_ns() + (uint64_t)(opt.seconds > 0 ? opt.seconds : IO_TIMEOUT_S) * 1000000000u;
    while (lags.n < expected && now_ns() < limit) {
        int n = epoll_wait(poll, events, 256, 100);

        for (int i = 0; i < n; i++)
            watcher_read(events[i].data.ptr);
    }
    pthread_join(creator.thread, NULL);
    if (creator.errors)
        fprintf(stderr, "apibench: %ld creates failed, the first: %s\n", creator.errors,
                creator.first_error);
    start = atomic_load(&first_create_ns);
    printf("watch watchers=%d creates=%d events=%zu lost=%zu connect_s=%.3f rate=%.1f",
           opt.watchers, opt.count, lags.n, expected - lags.n, connect_s,
           lags.n ? (double)lags.n * 1e9 / (double)(last_event_ns - start) : 0);
    print_samples(&lags);
    print_cpu(lags.n);
    printf(" errors=%ld\n", creator.errors + bad_frames);
    return creator.errors || bad_frames || lags.n != expected;
}

/* ---- ready and disk
 * ------------------------------------------------------------------------------ */

static int run_ready(void)
{
    char request[8192];
    size_t bytes = format_get(request, sizeof request, "/readyz");
    uint64_t start = now_ns(), limit = start + (uint64_t)(opt.seconds * 1e9);
    struct conn c;
    struct reply r;

    conn_init(&c);
    while (now_ns() < limit) {
        if (exchange(&c, request, bytes, &r) && r.status == 200) {
            printf("ready seconds=%.4f\n", (double)(now_ns() - start) / 1e9);
            return 0;
        }
        usleep(1000);
    }
    fatal("not ready after %.0f s", opt.seconds);
}

static int run_disk(void)
{
    char name[4096], block[1024];
    struct samples s = {0};
    int fd;

    memset(block, 'x', sizeof block);
    snprintf(name, sizeof name, "%s/apibench.disk", opt.dir);
    fd = open(name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        fatal("%s: %s", name, strerror(errno));
    for (int i = 0; i < opt.count; i++) {
        uint64_t start = now_ns();

        if (write(fd, block, sizeof block) != sizeof block || fdatasync(fd) < 0)
            fatal("%s: %s", name, strerror(errno));
        samples_add(&s, now_ns() - start);
    }
    close(fd);
    unlink(name);
    printf("disk n=%d", opt.count);
    print_samples(&s);
    printf("\n");
    return 0;
}

/* ---- command line
 * -------------------------------------------------------------------------------- */

static void set_up(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int n = 0;

    if (!opt.host)
        fatal("--server is needed");
    if (getaddrinfo(opt.host, opt.port, &hints, &address))
        fatal("no such address: %s:%s", opt.host, opt.port);
    tls = SSL_CTX_new(TLS_client_method());
    if (!tls)
        fatal("no TLS");
    SSL_CTX_set_mode(tls, SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
    if (opt.ca) {
        if (SSL_CTX_load_verify_locations(tls, opt.ca, NULL) != 1)
            fatal("cannot read %s", opt.ca);
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    }
    if (opt.cert && (SSL_CTX_use_certificate_chain_file(tls, opt.cert) != 1 || !opt.key ||
                     SSL_CTX_use_PrivateKey_file(tls, opt.key, SSL_FILETYPE_PEM) != 1))
        fatal("cannot use %s with its key", opt.cert);
    if (opt.token)
        n = snprintf(credentials, sizeof credentials, "Authorization: Bearer %s\r\n", opt.token);
    if (n < 0 || (size_t)n >= sizeof credentials)
        fatal("token too long");
}

static int number(const char *name, const char *text, int least, int most)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*end || n < least || n > most)
        fatal("--%s must be from %d to %d, not %s", name, least, most, text);
    return (int)n;
}

static void parse_pids(char *text)
{
    char *rest = NULL;

    for (char *p = strtok_r(text, ",", &rest); p; p = strtok_r(NULL, ",", &rest)) {
        if (opt.npids == MAX_PIDS)
            fatal("at most %d processes", MAX_PIDS);
        opt.pids[opt.npids++] = number("pid", p, 1, INT32_MAX);
    }
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"server", 1, NULL, 's'},
        {"ca", 1, NULL, 'a'},
        {"token", 1, NULL, 't'},
        {"cert", 1, NULL, 'c'},
        {"key", 1, NULL, 'k'},
        {"path", 1, NULL, 'u'},
        {"api-version", 1, NULL, 'v'},
        {"kind", 1, NULL, 'K'},
        {"prefix", 1, NULL, 'x'},
        {"count", 1, NULL, 'n'},
        {"parallel", 1, NULL, 'p'},
        {"objects", 1, NULL, 'o'},
        {"watchers", 1, NULL, 'w'},
        {"pace-ms", 1, NULL, 'P'},
        {"size", 1, NULL, 'z'},
        {"seconds", 1, NULL, 'd'},
        {"pid", 1, NULL, 'i'},
        {"dir", 1, NULL, 'D'},
        {0},
    };
    char *colon;
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 's':
            opt.host = optarg;
            colon = strrchr(optarg, ':');
            if (colon) {
                *colon = '\0';
                opt.port = colon + 1;
            }
            break;
        case 'a':
            opt.ca = optarg;
            break;
        case 't':
            opt.token = optarg;
            break;
        case 'c':
            opt.cert = optarg;
            break;
        case 'k':
            opt.key = optarg;
            break;
        case 'u':
            opt.path = optarg;
            break;
        case 'v':
            opt.api_version = optarg;
            break;
        case 'K':
            opt.kind = optarg;
            break;
        case 'x':
            opt.prefix = optarg;
            break;
        case 'D':
            opt.dir = optarg;
            break;
        case 'n':
            opt.count = number("count", optarg, 1, 10000000);
            break;
        case 'p':
            opt.parallel = number("parallel", optarg, 1, MAX_PARALLEL);
            break;
        case 'o':
            opt.objects = number("objects", optarg, 0, 10000000);
            break;
        case 'w':
            opt.watchers = number("watchers", optarg, 1, MAX_WATCHERS);
            break;
        case 'P':
            opt.pace_ms = number("pace-ms", optarg, 0, 60000);
            break;
        case 'z':
            opt.size_bytes = number("size", optarg, 100, MAX_BODY_BYTES);
            break;
        case 'd':
            opt.seconds = number("seconds", optarg, 1, 3600);
            break;
        case 'i':
            parse_pids(optarg);
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (argc < 2 || *mode == '-')
        fatal("usage: apibench create|get|list|watch|ready|disk [options], see the head of its "
              "source");
    parse(argc - 1, argv + 1);
    if (strcmp(mode, "disk") == 0)
        return opt.count > 0 ? run_disk() : (fatal("disk needs --count"), 1);
    set_up();
    if (strcmp(mode, "ready") == 0)
        return opt.seconds > 0 ? run_ready() : (fatal("ready needs --seconds"), 1);
    if (!opt.path)
        fatal("--path is needed");
    if (strcmp(mode, "create") == 0)
        return run_workers("create", create_worker);
    if (strcmp(mode, "get") == 0) {
        if (opt.objects <= 0)
            fatal("get needs --objects");
        return run_workers("get", get_worker);
    }
    if ((strcmp(mode, "list") == 0 || strcmp(mode, "watch") == 0) && opt.count <= 0)
        fatal("%s needs --count", mode);
    if (strcmp(mode, "list") == 0)
        return run_list();
    if (strcmp(mode, "watch") == 0)
        return run_watch();
    fatal("unknown mode %s", mode);
}
