/* Shared by the API server's tests: a server on loopback with a loop in a thread of its own, over a
 * store that fails when told to; a bare-socket client, so that a test can send and read what no
 * library would; and checks.
 *
 * There are three users: admin may do all, alice and bob what RBAC gives them. Answers belong to
 * the rig and end with it. */
#ifndef FL_CONTROLLER_APISERVER_TESTING_H
#define FL_CONTROLLER_APISERVER_TESTING_H

#include "controller/apiserver/internal.h"
#include "controller/store/store_faulty.h"
#include "lib/file.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define TEST_TIMEOUT_MS 20000
#define WIDGETS         "/apis/test.dev/v1/namespaces/default/widgets"
#define ALL_WIDGETS     "/apis/test.dev/v1/widgets"
#define GADGETS         "/apis/test.dev/v1/gadgets"
#define CONFIGMAPS      "/api/v1/namespaces/default/configmaps"
#define SECRETS         "/api/v1/namespaces/default/secrets"
#define CRDS            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
#define RBAC            "/apis/rbac.authorization.k8s.io/v1"

enum who { NOBODY, ADMIN, ALICE, BOB };

struct rig {
    struct fl_env env;
    const unsigned char *capability_key; /* NULL: none */
    atomic_llong shift_ms;               /* how far the test has moved time */
    struct fl_env real;
    struct fl_store_options store_options;
    struct fl_store *store;
    struct fl_loop *loop;
    struct fl_apiserver *server;
    struct fl_arena *arena;
    pthread_t thread;
    bool running;
    size_t queued_bytes, writes_in_flight;               /* when last counted */
    const struct fl_apiserver_subresource *subresources; /* before it is opened */
    size_t subresource_count;
    const struct fl_apiserver_raw *raws;
    size_t raw_count;
    void (*metrics)(void *user, struct fl_buf *text);
    char folder[64], tokens[96], audit[96], database[96];
};

/* A definition with everything a kind can have: two versions, a schema with defaults and rules,
 * status, scale, columns, a selectable field. */
#define VERSION_OF_WIDGET(name, storage)                                                           \
    "{\"name\":\"" name "\",\"served\":true,\"storage\":" storage ","                              \
    "\"subresources\":{\"status\":{},\"scale\":{\"specReplicasPath\":\".spec.replicas\","          \
    "\"statusReplicasPath\":\".status.replicas\",\"labelSelectorPath\":\".status.selector\"}},"    \
    "\"selectableFields\":[{\"jsonPath\":\".spec.color\"}],"                                       \
    "\"additionalPrinterColumns\":[{\"name\":\"Size\",\"type\":\"integer\","                       \
    "\"jsonPath\":\".spec.size\"}],"                                                               \
    "\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"properties\":{"                        \
    "\"spec\":{\"type\":\"object\",\"properties\":{"                                               \
    "\"size\":{\"type\":\"integer\",\"minimum\":0},"                                               \
    "\"color\":{\"type\":\"string\",\"default\":\"red\"},"                                         \
    "\"text\":{\"type\":\"string\"},"                                                              \
    "\"replicas\":{\"type\":\"integer\"}}},"                                                       \
    "\"status\":{\"type\":\"object\",\"properties\":{\"ready\":{\"type\":\"boolean\"},"            \
    "\"selector\":{\"type\":\"string\"},\"replicas\":{\"type\":\"integer\"}}}}}}}"

#define WIDGET_DEFINITION                                                                          \
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","           \
    "\"metadata\":{\"name\":\"widgets.test.dev\"},\"spec\":{\"group\":\"test.dev\","               \
    "\"scope\":\"Namespaced\",\"names\":{\"plural\":\"widgets\",\"singular\":\"widget\","          \
    "\"kind\":\"Widget\",\"listKind\":\"WidgetList\",\"shortNames\":[\"wd\"]},"                    \
    "\"versions\":[" VERSION_OF_WIDGET("v1", "true") "," VERSION_OF_WIDGET("v2", "false") "]}}"

/* The least there can be: PLURAL and KIND in test.dev, SCOPE, anything goes. */
#define SMALL_DEFINITION(plural, kind, scope)                                                      \
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","           \
    "\"metadata\":{\"name\":\"" plural ".test.dev\"},\"spec\":{\"group\":\"test.dev\","            \
    "\"scope\":\"" scope "\",\"names\":{\"plural\":\"" plural "\",\"kind\":\"" kind "\"},"         \
    "\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":"                  \
    "{\"openAPIV3Schema\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}}}]}" \
    "}"

static const char *const rig_definitions[] = {
    WIDGET_DEFINITION,
    SMALL_DEFINITION("gadgets", "Gadget", "Cluster"),
};

/* Time */

static inline int64_t rig_realtime(void *user)
{
    struct rig *rig = user;

    return fl_realtime_us(&rig->real) + atomic_load(&rig->shift_ms) * 1000;
}

static inline int64_t rig_monotonic(void *user)
{
    struct rig *rig = user;

    return fl_monotonic_ms(&rig->real) + atomic_load(&rig->shift_ms);
}

static inline void rig_random(void *user, void *out, size_t len)
{
    struct rig *rig = user;

    rig->real.random(rig->real.user, out, len);
}

static inline void rig_pause(int ms)
{
    (void)usleep((useconds_t)ms * 1000);
}

/* Until the condition holds; the test fails where it never does. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        int tries_ = TEST_TIMEOUT_MS / 5;                                                          \
        while (!(condition) && --tries_ > 0)                                                       \
            rig_pause(5);                                                                          \
        if (tries_ <= 0)                                                                           \
            fail_msg("never: %s", #condition);                                                     \
    } while (0)

/* Calls on the loop's thread */

struct rig_call {
    void (*fn)(struct rig *rig);
    struct rig *rig;
    sem_t done;
};

static inline void rig_run_call(void *user)
{
    struct rig_call *call = user;

    call->fn(call->rig);
    (void)sem_post(&call->done);
}

static inline void rig_on_loop(struct rig *rig, void (*fn)(struct rig *rig))
{
    struct rig_call call = {.fn = fn, .rig = rig};

    (void)sem_init(&call.done, 0, 0);
    fl_loop_post(rig->loop, rig_run_call, &call);
    (void)sem_wait(&call.done);
    (void)sem_destroy(&call.done);
}

static inline void rig_run_chores(struct rig *rig)
{
    fl_apiserver_run_soon(rig->server);
}

static inline void rig_count(struct rig *rig)
{
    rig->queued_bytes = fl_http_server_stats(rig->server->http).bytes_queued;
    rig->writes_in_flight = rig->server->writes_in_flight;
}

static inline size_t rig_queued_bytes(struct rig *rig)
{
    rig_on_loop(rig, rig_count);
    return rig->queued_bytes;
}

static inline size_t rig_writes_in_flight(struct rig *rig)
{
    rig_on_loop(rig, rig_count);
    return rig->writes_in_flight;
}

/* Start and end */

static inline const char *rig_token(enum who who)
{
    static const char *const tokens[] = {NULL, "admin-token", "alice-token", "bob-token"};

    return tokens[who];
}

static inline void rig_write_tokens(struct rig *rig, const char *more)
{
    static const char *const rest[] = {"", "admin,1,system:masters", "alice,2,\"makers,testers\"",
                                       "bob,3,"};
    struct fl_buf text;

    fl_buf_init(&text, 0);
    fl_buf_puts(&text, "# who may come in\n");
    for (int who = ADMIN; who <= BOB; who++) {
        unsigned char hash[crypto_hash_sha256_BYTES];
        char hex[2 * sizeof(hash) + 1];

        (void)crypto_hash_sha256(hash, (const unsigned char *)rig_token(who),
                                 strlen(rig_token(who)));
        fl_hex_encode(hash, sizeof(hash), hex);
        fl_buf_printf(&text, "%s,%s\n", hex, rest[who]);
    }
    fl_buf_puts(&text, more);
    assert_int_equal(fl_file_write(rig->tokens, text.data, text.len, 0600, NULL), 0);
    fl_buf_finish(&text);
}

static inline void *rig_main(void *user)
{
    fl_loop_run(((struct rig *)user)->loop);
    return NULL;
}

static inline void rig_open(struct rig *rig)
{
    struct fl_error err = {0};
    struct fl_apiserver_options options = {
        .env = &rig->env,
        .address = "127.0.0.1",
        .token_file = rig->tokens,
        .capability_key = rig->capability_key,
        .audit_file = rig->audit,
        .version = "test",
        .definitions = rig_definitions,
        .definition_count = FL_COUNT_OF(rig_definitions),
        .subresources = rig->subresources,
        .subresource_count = rig->subresource_count,
        .raws = rig->raws,
        .raw_count = rig->raw_count,
        .metrics = rig->metrics,
        .metrics_user = rig,
    };

    if (fl_store_open(&rig->store_options, &rig->store, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(fl_loop_create(&rig->loop, &err), 0);
    options.loop = rig->loop;
    options.store = rig->store;
    if (fl_apiserver_create(&options, &rig->server, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(pthread_create(&rig->thread, NULL, rig_main, rig), 0);
    rig->running = true;
}

static inline void rig_drained(void *user)
{
    fl_loop_stop(((struct rig *)user)->loop);
}

static inline void rig_drain(struct rig *rig)
{
    fl_apiserver_drain(rig->server, 2000, rig_drained, rig);
}

/* As the program ends: what is under way is answered, watches are ended. */
static inline void rig_close(struct rig *rig)
{
    if (rig->running) {
        rig_on_loop(rig, rig_drain);
        assert_int_equal(pthread_join(rig->thread, NULL), 0);
        rig->running = false;
    }
    fl_store_close(FL_TAKE(rig->store));
    fl_loop_run_for(rig->loop, 1);
    fl_apiserver_destroy(FL_TAKE(rig->server));
    fl_loop_destroy(FL_TAKE(rig->loop));
}

static inline struct rig *rig_create(const char *driver)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    rig->real = fl_env_real(NULL);
    rig->env = (struct fl_env){.realtime_us = rig_realtime,
                               .monotonic_ms = rig_monotonic,
                               .random = rig_random,
                               .user = rig};
    rig->arena = fl_arena_create();
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flops-api-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    (void)snprintf(rig->tokens, sizeof(rig->tokens), "%s/tokens", rig->folder);
    (void)snprintf(rig->audit, sizeof(rig->audit), "%s/audit.log", rig->folder);
    (void)snprintf(rig->database, sizeof(rig->database), "%s/store.db", rig->folder);
    rig_write_tokens(rig, "");
    fl_store_faults = (struct fl_store_faults){0};
    if (!fl_store_driver_find("faulty-memory"))
        assert_int_equal(fl_store_faulty_register(NULL), 0);
    rig->store_options =
        (struct fl_store_options){.env = &rig->env, .driver = driver, .path = rig->database};
    return rig;
}

static inline int rig_setup(void **state)
{
    struct rig *rig = rig_create("faulty-memory");

    rig_open(rig);
    *state = rig;
    return 0;
}

static inline int rig_teardown(void **state)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    struct rig *rig = *state;
    char path[128];

    atomic_store(&fl_store_faults.hold_commits, false);
    rig_close(rig);
    (void)unlink(rig->tokens);
    (void)unlink(rig->audit);
    for (size_t i = 0; i < FL_COUNT_OF(suffixes); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", rig->database, suffixes[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(rig->folder), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

/* The client */

static inline int rig_connect(const struct rig *rig)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fl_apiserver_port(rig->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static inline void rig_send(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        assert_true(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

struct ask {
    enum who who;
    const char *method, *target;
    const char *type;    /* Content-Type; NULL: what fits the method */
    const char *headers; /* more lines, each with its CRLF; may be NULL */
    const char *body;    /* may be NULL */
    bool keep;           /* no "Connection: close" */
};

static inline void rig_send_ask(int fd, const struct ask *ask)
{
    const char *type = ask->type;
    size_t len = ask->body ? strlen(ask->body) : 0;
    struct fl_buf text;

    if (!type)
        type =
            strcmp(ask->method, "PATCH") == 0 ? "application/merge-patch+json" : "application/json";
    fl_buf_init(&text, 0);
    fl_buf_printf(&text, "%s %s HTTP/1.1\r\nHost: test\r\nUser-Agent: tester/1\r\n", ask->method,
                  ask->target);
    if (!ask->keep)
        fl_buf_puts(&text, "Connection: close\r\n");
    if (rig_token(ask->who))
        fl_buf_printf(&text, "Authorization: Bearer %s\r\n", rig_token(ask->who));
    if (ask->body)
        fl_buf_printf(&text, "Content-Type: %s\r\nContent-Length: %zu\r\n", type, len);
    if (ask->headers)
        fl_buf_puts(&text, ask->headers);
    fl_buf_puts(&text, "\r\n");
    if (ask->body)
        fl_buf_append(&text, ask->body, len);
    rig_send(fd, text.data, text.len);
    fl_buf_finish(&text);
}

struct answer {
    int status;
    const char *headers; /* with the status line */
    const char *text;    /* the body */
    size_t len;
    json_t *body; /* NULL where it is no JSON */
};

/* Reads until the server closes. */
static inline struct answer rig_take_answer(struct rig *rig, int fd)
{
    struct answer answer = {0};
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    struct fl_buf text;
    char piece[65536];
    const char *end;
    ssize_t n;

    fl_buf_init(&text, 0);
    for (;;) {
        if (poll(&ready, 1, TEST_TIMEOUT_MS) <= 0)
            fail_msg("no answer");
        n = recv(fd, piece, sizeof(piece), 0);
        if (n <= 0)
            break;
        fl_buf_append(&text, piece, (size_t)n);
    }
    (void)close(fd);
    end = text.data ? strstr(text.data, "\r\n\r\n") : NULL;
    if (!end)
        fail_msg("no answer but the end: %s", fl_buf_text(&text));
    answer.headers = fl_arena_strndup(rig->arena, text.data, (size_t)(end - text.data) + 2);
    answer.status = atoi(answer.headers + strlen("HTTP/1.1 "));
    answer.len = text.len - (size_t)(end + 4 - text.data);
    answer.text = memcpy(fl_alloc(rig->arena, answer.len + 1), end + 4, answer.len);
    if (fl_json_parse(answer.text, answer.len, &(struct fl_json_limits){.max_bytes = SIZE_MAX},
                      NULL, NULL, &answer.body, NULL) == 0)
        fl_json_in_arena(rig->arena, answer.body);
    fl_buf_finish(&text);
    return answer;
}

static inline struct answer rig_ask(struct rig *rig, const struct ask *ask)
{
    int fd = rig_connect(rig);

    rig_send_ask(fd, ask);
    return rig_take_answer(rig, fd);
}

/* Short forms, for the administrator */

static inline struct answer do_as(struct rig *rig, enum who who, const char *method,
                                  const char *target, const char *body)
{
    return rig_ask(rig,
                   &(struct ask){.who = who, .method = method, .target = target, .body = body});
}

static inline struct answer do_get(struct rig *rig, const char *target)
{
    return do_as(rig, ADMIN, "GET", target, NULL);
}

static inline struct answer do_post(struct rig *rig, const char *target, const char *body)
{
    return do_as(rig, ADMIN, "POST", target, body);
}

static inline struct answer do_put(struct rig *rig, const char *target, const char *body)
{
    return do_as(rig, ADMIN, "PUT", target, body);
}

static inline struct answer do_patch(struct rig *rig, const char *target, const char *body)
{
    return do_as(rig, ADMIN, "PATCH", target, body);
}

static inline struct answer do_patch_as(struct rig *rig, const char *target, const char *type,
                                        const char *body)
{
    return rig_ask(
        rig, &(struct ask){
                 .who = ADMIN, .method = "PATCH", .target = target, .type = type, .body = body});
}

static inline struct answer do_delete(struct rig *rig, const char *target)
{
    return do_as(rig, ADMIN, "DELETE", target, NULL);
}

static inline const char *format(struct rig *rig, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static inline const char *format(struct rig *rig, const char *fmt, ...)
{
    char text[8192];
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    assert_true(len >= 0 && (size_t)len < sizeof(text));
    return fl_arena_strdup(rig->arena, text);
}

static inline const char *widget(struct rig *rig, const char *name, const char *spec)
{
    return format(rig,
                  "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":"
                  "\"%s\"},\"spec\":{%s}}",
                  name, spec);
}

static inline const char *configmap(struct rig *rig, const char *name, const char *value)
{
    return format(rig,
                  "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"%s\"},"
                  "\"data\":{\"key\":\"%s\"}}",
                  name, value);
}

/* Checks */

static inline void assert_answer(struct answer answer, int status)
{
    if (answer.status != status)
        fail_msg("%d instead of %d: %s", answer.status, status, answer.text);
}

/* A Status with this code and reason and, somewhere in its message, these words. */
static inline void assert_refused(struct answer answer, int status, const char *reason,
                                  const char *words)
{
    assert_answer(answer, status);
    assert_non_null(answer.body);
    assert_string_equal(fl_str_or(fl_json_str(answer.body, "kind"), ""), "Status");
    assert_string_equal(fl_str_or(fl_json_str(answer.body, "apiVersion"), ""), "v1");
    assert_string_equal(fl_str_or(fl_json_str(answer.body, "status"), ""), "Failure");
    assert_int_equal(fl_json_int(answer.body, "code", 0), status);
    assert_string_equal(fl_str_or(fl_json_str(answer.body, "reason"), ""), reason);
    if (!strstr(fl_str_or(fl_json_str(answer.body, "message"), ""), words))
        fail_msg("\"%s\" is not in: %s", words, answer.text);
}

static inline const char *text_in(struct answer answer, const char *path)
{
    return fl_str_or(fl_json_str(answer.body, path), "");
}

static inline uint64_t revision_in(struct answer answer)
{
    uint64_t revision;

    assert_true(
        fl_str_to_uint64(text_in(answer, "metadata.resourceVersion"), INT64_MAX, &revision));
    return revision;
}

static inline size_t items_in(struct answer answer)
{
    assert_answer(answer, 200);
    return json_array_size(json_object_get(answer.body, "items"));
}

static inline const char *item_name(struct answer answer, size_t i)
{
    return fl_str_or(
        fl_json_str(json_array_get(json_object_get(answer.body, "items"), i), "metadata.name"), "");
}

static inline bool is_gone(struct rig *rig, const char *target)
{
    return do_get(rig, target).status == 404;
}

/* Watching */

struct frames {
    struct rig *rig;
    int fd;
    int status;
    struct fl_buf raw; /* as it comes */
    size_t at;         /* of the next chunk */
    struct fl_buf text;
    size_t text_at;
    bool ended;
};

static inline bool frames_receive(struct frames *frames, int timeout_ms)
{
    struct pollfd ready = {.fd = frames->fd, .events = POLLIN};
    char piece[65536];
    ssize_t n;

    if (poll(&ready, 1, timeout_ms) <= 0)
        return false;
    n = recv(frames->fd, piece, sizeof(piece), 0);
    if (n <= 0)
        return false;
    fl_buf_append(&frames->raw, piece, (size_t)n);
    return true;
}

/* Moves whole chunks over to the text. */
static inline void frames_unchunk(struct frames *frames)
{
    while (frames->at < frames->raw.len) {
        const char *start = frames->raw.data + frames->at, *line = strstr(start, "\r\n");
        size_t size, head;

        if (!line)
            return;
        size = strtoul(start, NULL, 16);
        head = (size_t)(line + 2 - start);
        if (frames->raw.len - frames->at < head + size + 2)
            return;
        frames->ended = frames->ended || size == 0;
        fl_buf_append(&frames->text, line + 2, size);
        frames->at += head + size + 2;
    }
}

static inline struct frames *frames_open_as(struct rig *rig, const struct ask *ask)
{
    struct frames *frames = fl_new(rig->arena, struct frames);
    const char *end;

    frames->rig = rig;
    frames->fd = rig_connect(rig);
    fl_buf_init(&frames->raw, 0);
    fl_buf_init(&frames->text, 0);
    rig_send_ask(frames->fd, ask);
    while (!frames->raw.data || !(end = strstr(frames->raw.data, "\r\n\r\n")))
        assert_true(frames_receive(frames, TEST_TIMEOUT_MS));
    frames->status = atoi(frames->raw.data + strlen("HTTP/1.1 "));
    frames->at = (size_t)(end + 4 - frames->raw.data);
    return frames;
}

static inline struct frames *frames_open(struct rig *rig, const char *target)
{
    struct frames *frames =
        frames_open_as(rig, &(struct ask){.who = ADMIN, .method = "GET", .target = target});

    assert_int_equal(frames->status, 200);
    return frames;
}

static inline void frames_close(struct frames *frames)
{
    (void)close(frames->fd);
    fl_buf_finish(&frames->raw);
    fl_buf_finish(&frames->text);
}

/* The next frame within the time, or NULL. */
static inline json_t *frames_next_within(struct frames *frames, int timeout_ms)
{
    for (;;) {
        const char *start, *line;
        json_t *value;

        frames_unchunk(frames);
        start = fl_buf_text(&frames->text) + frames->text_at;
        line = strchr(start, '\n');
        if (line) {
            assert_int_equal(
                fl_json_parse(start, (size_t)(line - start), NULL, NULL, NULL, &value, NULL), 0);
            frames->text_at += (size_t)(line + 1 - start);
            return fl_json_in_arena(frames->rig->arena, value);
        }
        if (frames->ended || !frames_receive(frames, timeout_ms))
            return NULL;
    }
}

static inline json_t *frames_next(struct frames *frames)
{
    json_t *frame = frames_next_within(frames, TEST_TIMEOUT_MS);

    if (!frame)
        fail_msg("no frame");
    return frame;
}

/* The next frame is of this type and about this object. */
static inline json_t *expect_frame(struct frames *frames, const char *type, const char *name)
{
    json_t *frame = frames_next(frames);

    assert_string_equal(fl_str_or(fl_json_str(frame, "type"), ""), type);
    if (name)
        assert_string_equal(fl_str_or(fl_json_str(frame, "object.metadata.name"), ""), name);
    return frame;
}

static inline void expect_silence(struct frames *frames)
{
    assert_null(frames_next_within(frames, 60));
    assert_false(frames->ended);
}

static inline void expect_end(struct frames *frames)
{
    assert_null(frames_next_within(frames, TEST_TIMEOUT_MS));
    assert_true(frames->ended);
}

#endif
