#include "lib/http_async.h"

#include "lib/buf.h"
#include "lib/http_client_internal.h"
#include "lib/str.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SET FL_CURL_SET

#define MAX_CONNECTIONS    1024
#define KEPT_CONNECTIONS   256
#define SPARE_HANDLES      64
#define HEADERS_MAX        100
#define HEADERS_MAX_BYTES  ((size_t)64 * 1024)
#define DEFAULT_TIMEOUT_MS 60000
#define KEEP_ALIVE_S       10L

struct fl_http_async_request {
    struct fl_http_async *async;
    struct fl_http_async_request *next, *previous; /* under way; or spare */
    const struct fl_http_client *to;
    CURL *easy;
    struct curl_slist *headers;
    struct fl_bytes *request_body;
    struct fl_buf body, answer_headers;
    size_t max_bytes;
    char error_text[CURL_ERROR_SIZE];
    struct fl_error refused; /* found wrong before it was begun */
    fl_http_async_piece_fn *piece;
    struct fl_error broken_off; /* by `piece` */
    fl_http_answered_fn *done;
    void *user;
};

struct fl_http_async {
    struct fl_loop *loop;
    CURLM *multi;
    struct fl_timer *timer, *reaper; /* libcurl's deadlines; what has ended without a socket */
    struct fl_http_async_request *open, *spares, *refused;
    size_t open_count, spare_count;
};

/* A socket that libcurl wants watched. */
struct watched {
    struct fl_http_async *async;
    curl_socket_t socket;
    struct fl_loop_fd *fd;
};

/* Requests */

static void unlink_request(struct fl_http_async_request **list,
                           struct fl_http_async_request *request)
{
    if (request->previous)
        request->previous->next = request->next;
    else
        *list = request->next;
    if (request->next)
        request->next->previous = request->previous;
    request->next = request->previous = NULL;
}

static void link_request(struct fl_http_async_request **list, struct fl_http_async_request *request)
{
    request->previous = NULL;
    request->next = *list;
    if (*list)
        (*list)->previous = request;
    *list = request;
}

static void request_free(struct fl_http_async_request *request)
{
    curl_easy_cleanup(request->easy);
    fl_buf_finish(&request->body);
    fl_buf_finish(&request->answer_headers);
    free(request);
}

/* Handles are worth keeping: making one costs more than a call over a kept connection. */
static void request_put_away(struct fl_http_async_request *request)
{
    struct fl_http_async *async = request->async;

    curl_slist_free_all(FL_TAKE(request->headers));
    fl_bytes_unref(FL_TAKE(request->request_body));
    if (async->spare_count >= SPARE_HANDLES) {
        request_free(request);
        return;
    }
    fl_buf_clear(&request->body);
    fl_buf_clear(&request->answer_headers);
    link_request(&async->spares, request);
    async->spare_count++;
}

static struct fl_http_async_request *request_take(struct fl_http_async *async)
{
    struct fl_http_async_request *request = async->spares;

    if (request) {
        unlink_request(&async->spares, request);
        async->spare_count--;
        return request;
    }
    request = fl_calloc(1, sizeof(*request));
    request->async = async;
    request->easy = curl_easy_init();
    if (!request->easy)
        abort(); /* as where memory is out */
    return request;
}

static void request_end(struct fl_http_async_request *request)
{
    struct fl_http_async *async = request->async;

    (void)curl_multi_remove_handle(async->multi, request->easy);
    SET(request->easy, CURLOPT_SHARE, NULL); /* which is its client's, and may go before it */
    unlink_request(&async->open, request);
    async->open_count--;
}

/* Answers */

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct fl_http_async_request *request = user;

    if (request->piece && fl_http_curl_status(request->easy) == 200)
        return request->piece(request->user, data, size * count, &request->broken_off) < 0
                   ? 0
                   : size * count;
    fl_buf_append(&request->body, data, size * count);
    return request->body.overflow ? 0 : size * count;
}

/* Kept as NAME\0VALUE\0…; a new status line (after 100 Continue) begins anew. */
static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct fl_http_async_request *request = user;
    size_t len = size * count;
    const char *colon;

    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        fl_buf_clear(&request->answer_headers);
        return len;
    }
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
        len--;
    colon = memchr(data, ':', len);
    if (colon) {
        const char *value = colon + 1, *end = data + len;

        while (value < end && (*value == ' ' || *value == '\t'))
            value++;
        fl_buf_append(&request->answer_headers, data, (size_t)(colon - data));
        fl_buf_putc(&request->answer_headers, '\0');
        fl_buf_append(&request->answer_headers, value, (size_t)(end - value));
        fl_buf_putc(&request->answer_headers, '\0');
    }
    return request->answer_headers.overflow ? 0 : size * count;
}

static size_t read_headers(const struct fl_buf *text, struct fl_http_pair pairs[HEADERS_MAX])
{
    const char *at = text->data, *end = text->data + text->len;
    size_t count = 0;

    while (at < end && count < HEADERS_MAX) {
        pairs[count].name = at;
        at += strlen(at) + 1;
        pairs[count++].value = at;
        at += strlen(at) + 1;
    }
    return count;
}

static void answer(struct fl_http_async_request *request)
{
    struct fl_http_pair pairs[HEADERS_MAX];
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_buf_to_bytes(&request->body);
    struct fl_http_answer ended = {.status = fl_http_curl_status(request->easy),
                                   .headers = pairs,
                                   .header_count = read_headers(&request->answer_headers, pairs),
                                   .body = body};

    ended.content_type = fl_http_answer_header(&ended, "Content-Type");
    request->done(request->user, &ended, NULL);
}

static void fail(struct fl_http_async_request *request, CURLcode result)
{
    const char *url = request->to->base_url, *text = request->error_text;
    struct fl_error err = {0};

    if (request->broken_off.code)
        err = request->broken_off;
    else if (request->body.overflow || request->answer_headers.overflow)
        (void)fl_error_set(&err, FL_E_TOO_LARGE, "%s answered with more than %zu bytes", url,
                           request->max_bytes);
    else
        (void)fl_error_set(&err, fl_http_curl_code(result), "%s: %s", url,
                           *text ? text : curl_easy_strerror(result));
    request->done(request->user, NULL, &err);
}

static void finish_ended(struct fl_http_async *async)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(async->multi, &left))) {
        struct fl_http_async_request *request = NULL;
        CURLcode result = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request);
        request_end(request);
        if (result == CURLE_OK)
            answer(request);
        else
            fail(request, result);
        request_put_away(request);
    }
}

static void finish_refused(void *user)
{
    struct fl_http_async *async = user;

    while (async->refused) {
        struct fl_http_async_request *request = async->refused;

        unlink_request(&async->refused, request);
        async->open_count--;
        request->done(request->user, NULL, &request->refused);
        request_put_away(request);
    }
}

/* Sockets and deadlines */

static void on_ready(void *user, unsigned what)
{
    struct watched *watched = user;
    struct fl_http_async *async = watched->async;
    int running, mask = 0;

    if (what & FL_LOOP_READ)
        mask |= CURL_CSELECT_IN;
    if (what & FL_LOOP_WRITE)
        mask |= CURL_CSELECT_OUT;
    (void)curl_multi_socket_action(async->multi, watched->socket, mask, &running);
    finish_ended(async);
}

static void on_deadline(void *user)
{
    struct fl_http_async *async = user;
    int running;

    (void)curl_multi_socket_action(async->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    finish_ended(async);
}

static void unwatch(struct watched *watched)
{
    fl_loop_unwatch_fd(watched->fd);
    free(watched);
}

static int on_socket(CURL *easy, curl_socket_t socket, int what, void *user, void *of_socket)
{
    struct fl_http_async *async = user;
    struct watched *watched = of_socket;
    unsigned wanted = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watched)
            unwatch(watched);
        return 0;
    }
    if (what & CURL_POLL_IN)
        wanted |= FL_LOOP_READ;
    if (what & CURL_POLL_OUT)
        wanted |= FL_LOOP_WRITE;
    if (!watched) {
        watched = fl_calloc(1, sizeof(*watched));
        *watched = (struct watched){.async = async, .socket = socket};
        (void)curl_multi_assign(async->multi, socket, watched);
    }
    fl_loop_unwatch_fd(FL_TAKE(watched->fd));
    return fl_loop_watch_fd(async->loop, socket, wanted, on_ready, watched, &watched->fd, NULL);
}

static int on_timer(CURLM *multi, long timeout_ms, void *user)
{
    struct fl_http_async *async = user;

    (void)multi;
    if (timeout_ms < 0)
        fl_timer_cancel(async->timer);
    else if (timeout_ms == 0)
        fl_timer_fire(async->timer);
    else
        fl_timer_arm(async->timer, timeout_ms);
    return 0;
}

/* The front door */

int fl_http_async_create(const struct fl_http_async_options *options,
                         struct fl_http_async **ret_async, struct fl_error *err)
{
    struct fl_http_async *async;

    assert(!fl_loop_is_simulated(options->loop));

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return fl_error_set(err, FL_E_INTERNAL, "libcurl does not start");
    async = fl_calloc(1, sizeof(*async));
    async->loop = options->loop;
    async->multi = curl_multi_init();
    if (!async->multi) {
        free(async);
        return fl_error_set(err, FL_E_INTERNAL, "libcurl gives no handle");
    }
    async->timer = fl_timer_create(options->loop, on_deadline, async);
    async->reaper = fl_timer_create(options->loop, finish_refused, async);
    (void)curl_multi_setopt(async->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(async->multi, CURLMOPT_SOCKETDATA, async);
    (void)curl_multi_setopt(async->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    (void)curl_multi_setopt(async->multi, CURLMOPT_TIMERDATA, async);
    (void)curl_multi_setopt(
        async->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
        (long)(options->max_connections ? options->max_connections : MAX_CONNECTIONS));
    (void)curl_multi_setopt(
        async->multi, CURLMOPT_MAXCONNECTS,
        (long)(options->kept_connections ? options->kept_connections : KEPT_CONNECTIONS));
    *ret_async = async;
    return 0;
}

void fl_http_async_destroy(struct fl_http_async *async)
{
    struct fl_http_async_request *request;

    if (!async)
        return;
    while (async->open)
        fl_http_async_cancel(async->open);
    while (async->refused)
        fl_http_async_cancel(async->refused);
    while ((request = async->spares)) {
        unlink_request(&async->spares, request);
        request_free(request);
    }
    (void)curl_multi_cleanup(async->multi); /* which has its sockets unwatched */
    fl_timer_destroy(async->timer);
    fl_timer_destroy(async->reaper);
    free(async);
}

static void add_header(struct fl_http_async_request *request, const char *text)
{
    struct curl_slist *more = curl_slist_append(request->headers, text);

    if (!more)
        abort();
    request->headers = more;
}

static bool has_header(const struct fl_http_async_call *call, const char *name)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (strcasecmp(call->headers[i].name, name) == 0)
            return true;
    return false;
}

static int set_up_headers(struct fl_http_async_request *request,
                          const struct fl_http_async_call *call, struct fl_error *err)
{
    add_header(request, "Expect:"); /* an extra round trip for nothing */
    if (!has_header(call, "Content-Type"))
        add_header(request, "Content-Type:");
    for (size_t i = 0; i < call->header_count; i++) {
        const struct fl_http_pair *header = &call->headers[i];
        /* libcurl takes "Name:" for "leave it out". */
        FL_CLEANUP(fl_freep)
        char *text = *header->value ? fl_asprintf("%s: %s", header->name, header->value)
                                    : fl_asprintf("%s;", header->name);

        if (fl_http_has_control(header->name) || fl_http_has_control(header->value))
            return fl_error_set(err, FL_E_BAD_REQUEST, "control character in a request");
        add_header(request, text);
    }
    if (request->to->authorization)
        add_header(request, request->to->authorization);
    SET(request->easy, CURLOPT_HTTPHEADER, request->headers);
    return 0;
}

static int set_up(struct fl_http_async_request *request, const struct fl_http_async_call *call,
                  struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *url = fl_asprintf("%s%s", request->to->base_url, call->target);
    CURL *easy = request->easy;

    if (fl_http_has_control(call->target))
        return fl_error_set(err, FL_E_BAD_REQUEST, "control character in a request");
    curl_easy_reset(easy);
    fl_http_client_set_up(request->to, easy);
    fl_http_curl_method(easy, call->method, call->body ? call->body->data : NULL,
                        call->body ? call->body->len : 0);
    SET(easy, CURLOPT_URL, url);
    SET(easy, CURLOPT_PATH_AS_IS, 1L);
    SET(easy, CURLOPT_TIMEOUT_MS,
        (long)(call->timeout_ms > 0 ? call->timeout_ms : DEFAULT_TIMEOUT_MS));
    SET(easy, CURLOPT_ERRORBUFFER, request->error_text);
    SET(easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(easy, CURLOPT_WRITEDATA, request);
    SET(easy, CURLOPT_HEADERFUNCTION, on_header);
    SET(easy, CURLOPT_HEADERDATA, request);
    SET(easy, CURLOPT_PRIVATE, request);
    if (call->piece) { /* which may be silent for long: a peer that is gone shall be noticed */
        SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
        SET(easy, CURLOPT_TCP_KEEPIDLE, KEEP_ALIVE_S);
        SET(easy, CURLOPT_TCP_KEEPINTVL, KEEP_ALIVE_S);
    }
    return set_up_headers(request, call, err);
}

struct fl_http_async_request *fl_http_async_start(struct fl_http_async *async,
                                                  const struct fl_http_client *to,
                                                  const struct fl_http_async_call *call,
                                                  fl_http_answered_fn *done, void *user)
{
    struct fl_http_async_request *request = request_take(async);

    assert(call->method && call->target && call->target[0] == '/');

    request->to = to;
    request->done = done;
    request->user = user;
    request->request_body = call->body ? fl_bytes_ref(call->body) : NULL;
    request->max_bytes =
        call->max_response_bytes ? call->max_response_bytes : to->max_response_bytes;
    request->error_text[0] = '\0';
    request->refused = (struct fl_error){0};
    request->piece = call->piece;
    request->broken_off = (struct fl_error){0};
    request->body.max = request->max_bytes;
    request->answer_headers.max = HEADERS_MAX_BYTES;
    async->open_count++;
    if (set_up(request, call, &request->refused) < 0) {
        SET(request->easy, CURLOPT_SHARE, NULL);
        link_request(&async->refused, request);
        fl_timer_fire(async->reaper);
        return request;
    }
    link_request(&async->open, request);
    (void)curl_multi_add_handle(async->multi, request->easy);
    return request;
}

void fl_http_async_cancel(struct fl_http_async_request *request)
{
    struct fl_http_async *async = request->async;

    if (request->refused.code) {
        unlink_request(&async->refused, request);
        async->open_count--;
    } else {
        request_end(request);
    }
    request_put_away(request);
}

size_t fl_http_async_open(const struct fl_http_async *async)
{
    return async->open_count;
}
