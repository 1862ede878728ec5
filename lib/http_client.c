#define FL_ALLOW_BANNED
#include "lib/http_client_internal.h"

#include "lib/buf.h"
#include "lib/net.h"
#include "lib/str.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define HEADERS_MAX_BYTES  ((size_t)256 * 1024)
#define DEFAULT_TIMEOUT_MS 60000
#define TRANSFER_BYTES     512L * 1024 /* libcurl's buffers, while bulk is moved */

/* One exchange. */
struct exchange {
    CURL *easy;
    struct curl_slist *headers;
    struct fl_buf body, answer_headers;
    char error_text[CURL_ERROR_SIZE];

    fl_http_line_fn *line; /* of a stream */
    bool as_it_comes;
    void *line_user;
    struct fl_error line_error;
    int line_result;
    int64_t quiet_ms, last_byte_ms; /* 0: no bound on silence */
    bool too_quiet;

    const struct fl_http_transfer *transfer; /* results in line_result, line_error */
    bool begun;
    curl_off_t moved;
    int64_t file_read; /* of the body that is in a file */
};

FL_DEFINE_CLEANUP(CURL, curl_easy_cleanup)

/* The handle may outlive the exchange, and must not write into it. */
static void exchange_finish(struct exchange *exchange)
{
    if (exchange->easy)
        curl_easy_reset(exchange->easy);
    curl_slist_free_all(exchange->headers);
    fl_buf_finish(&exchange->body);
    fl_buf_finish(&exchange->answer_headers);
}

static int64_t now_ms(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static char *copy_or_null(const char *text)
{
    return text ? fl_strdup(text) : NULL;
}

static bool is_loopback(const char *url)
{
    static const char *const hosts[] = {"localhost", "127.", "[::1]"};
    const char *host = strstr(url, "://");

    for (size_t i = 0; host && i < FL_COUNT_OF(hosts); i++)
        if (fl_str_has_prefix(host + 3, hosts[i]))
            return true;
    return false;
}

bool fl_http_has_control(const char *text)
{
    for (; text && *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7F)
            return true;
    return false;
}

int fl_http_client_create(const struct fl_http_client_options *options,
                          struct fl_http_client **ret_client, struct fl_error *err)
{
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;

    assert(options->base_url);

    if (fl_http_has_control(options->bearer_token))
        return fl_error_set(err, FL_E_BAD_REQUEST, "the token has control characters");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return fl_error_set(err, FL_E_INTERNAL, "libcurl does not start");
    client = fl_calloc(1, sizeof(*client));
    client->base_url = fl_strdup(options->base_url);
    client->ca_file = copy_or_null(options->ca_file);
    client->cert_file = copy_or_null(options->cert_file);
    client->key_file = copy_or_null(options->key_file);
    client->ca_pem = copy_or_null(options->ca_pem);
    client->cert_pem = copy_or_null(options->cert_pem);
    client->key_pem = copy_or_null(options->key_pem);
    client->user_agent = fl_strdup(fl_str_or(options->user_agent, "flops"));
    if (options->bearer_token)
        client->authorization = fl_asprintf("Authorization: Bearer %s", options->bearer_token);
    client->insecure = options->insecure;
    client->loopback = is_loopback(options->base_url);
    client->connect_timeout_ms =
        options->connect_timeout_ms > 0 ? (long)options->connect_timeout_ms : 10000;
    client->max_response_bytes =
        options->max_response_bytes ? options->max_response_bytes : (size_t)256 * 1024 * 1024;
    client->calls = curl_easy_init();
    client->shared = curl_share_init();
    if (!client->calls || !client->shared ||
        curl_share_setopt(client->shared, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) !=
            CURLSHE_OK)
        return fl_error_set(err, FL_E_INTERNAL, "libcurl gives no handle");
    *ret_client = FL_TAKE(client);
    return 0;
}

void fl_http_client_destroy(struct fl_http_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->calls);
    if (client->shared)
        (void)curl_share_cleanup(client->shared);
    free(client->base_url);
    free(client->ca_file);
    free(client->cert_file);
    free(client->key_file);
    free(client->ca_pem);
    free(client->cert_pem);
    if (client->key_pem)
        explicit_bzero(client->key_pem, strlen(client->key_pem));
    free(client->key_pem);
    free(client->authorization);
    free(client->user_agent);
    free(client);
}

/* What comes in. */

/* Returning less than was offered makes libcurl end the transfer. */
static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct exchange *exchange = user;

    fl_buf_append(&exchange->body, data, size * count);
    return exchange->body.overflow ? 0 : size * count;
}

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct exchange *exchange = user;
    size_t len = size * count;

    /* A new status line (after 100 Continue) begins anew. */
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        fl_buf_clear(&exchange->answer_headers);
        return len;
    }
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
        len--;
    if (len > 0) {
        fl_buf_append(&exchange->answer_headers, data, len);
        fl_buf_putc(&exchange->answer_headers, '\n');
    }
    return exchange->answer_headers.overflow ? 0 : size * count;
}

/* Hands out the complete lines of the buffer and keeps the rest. False: the caller has enough. */
static bool give_lines(struct exchange *exchange)
{
    struct fl_buf *buf = &exchange->body;
    size_t start = 0;
    char *newline;

    while (start < buf->len && (newline = memchr(buf->data + start, '\n', buf->len - start))) {
        size_t end = (size_t)(newline - buf->data);

        *newline = '\0';
        exchange->line_result = exchange->line(exchange->line_user, buf->data + start, end - start,
                                               &exchange->line_error);
        if (exchange->line_result != 0)
            return false;
        start = end + 1;
    }
    if (start > 0) {
        memmove(buf->data, buf->data + start, buf->len - start);
        buf->len -= start;
        buf->data[buf->len] = '\0';
    }
    return true;
}

static bool give_all(struct exchange *exchange)
{
    struct fl_buf *buf = &exchange->body;

    exchange->line_result =
        exchange->line(exchange->line_user, buf->data, buf->len, &exchange->line_error);
    fl_buf_clear(buf);
    return exchange->line_result == 0;
}

static bool give(struct exchange *exchange)
{
    return exchange->as_it_comes ? give_all(exchange) : give_lines(exchange);
}

static size_t on_stream(char *data, size_t size, size_t count, void *user)
{
    struct exchange *exchange = user;
    long status = 0;

    exchange->last_byte_ms = now_ms();
    if (on_body(data, size, count, exchange) == 0)
        return 0;
    (void)curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 && !give(exchange))
        return 0;
    return size * count;
}

/* Called now and then, also while nothing comes. */
static int on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    struct exchange *exchange = user;

    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    if (exchange->quiet_ms == 0 || now_ms() - exchange->last_byte_ms < exchange->quiet_ms)
        return 0;
    exchange->too_quiet = true;
    return 1;
}

/* What goes out. */

static void add_header(struct exchange *exchange, const char *text)
{
    struct curl_slist *more = curl_slist_append(exchange->headers, text);

    if (!more)
        abort();
    exchange->headers = more;
}

static void add_named_header(struct exchange *exchange, const char *name, const char *value)
{
    FL_CLEANUP(fl_freep) char *text = fl_asprintf("%s: %s", name, value);

    add_header(exchange, text);
}

#define SET FL_CURL_SET

static void set_blob(CURL *easy, CURLoption option, char *pem)
{
    /* The client outlives the handle's use of it. */
    struct curl_blob blob = {.data = pem, .len = strlen(pem), .flags = CURL_BLOB_NOCOPY};

    SET(easy, option, &blob);
}

static void set_up_certificates(const struct fl_http_client *client, CURL *easy)
{
    if (client->ca_pem) {
        set_blob(easy, CURLOPT_CAINFO_BLOB, client->ca_pem);
        SET(easy, CURLOPT_CAPATH, NULL);
    } else if (client->ca_file) {
        SET(easy, CURLOPT_CAINFO, client->ca_file);
        SET(easy, CURLOPT_CAPATH, NULL);
    }
    if (client->cert_pem)
        set_blob(easy, CURLOPT_SSLCERT_BLOB, client->cert_pem);
    else if (client->cert_file)
        SET(easy, CURLOPT_SSLCERT, client->cert_file);
    if (client->key_pem)
        set_blob(easy, CURLOPT_SSLKEY_BLOB, client->key_pem);
    else if (client->key_file)
        SET(easy, CURLOPT_SSLKEY, client->key_file);
}

static int set_socket(void *user, curl_socket_t fd, curlsocktype purpose)
{
    (void)user, (void)purpose;
    fl_net_set_loopback(fd);
    return CURL_SOCKOPT_OK;
}

void fl_http_client_set_up(const struct fl_http_client *client, CURL *easy)
{
    SET(easy, CURLOPT_NOSIGNAL, 1L);
    SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
    SET(easy, CURLOPT_CONNECTTIMEOUT_MS, client->connect_timeout_ms);
    SET(easy, CURLOPT_TCP_NODELAY, 1L);
    SET(easy, CURLOPT_SHARE, client->shared);
    SET(easy, CURLOPT_USERAGENT, client->user_agent);
    if (client->loopback) {
        SET(easy, CURLOPT_PROXY, ""); /* whatever proxy the environment names */
        SET(easy, CURLOPT_SOCKOPTFUNCTION, set_socket);
    }
    set_up_certificates(client, easy);
    if (client->insecure) {
        SET(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        SET(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

void fl_http_curl_method(CURL *easy, const char *method, const void *body, size_t body_len)
{
    SET(easy, CURLOPT_HTTPGET, 1L);
    if (strcmp(method, "HEAD") == 0) {
        SET(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (body || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
        SET(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_len);
        SET(easy, CURLOPT_POSTFIELDS, body ? body : "");
    }
    SET(easy, CURLOPT_CUSTOMREQUEST, method);
}

static void set_up_headers(const struct fl_http_client *client, struct exchange *exchange,
                           const struct fl_http_call *call)
{
    add_header(exchange, "Expect:"); /* an extra round trip for nothing */
    if (call->content_type)
        add_named_header(exchange, "Content-Type", call->content_type);
    else
        add_header(exchange, "Content-Type:");
    if (call->accept)
        add_named_header(exchange, "Accept", call->accept);
    if (client->authorization)
        add_header(exchange, client->authorization);
    SET(exchange->easy, CURLOPT_HTTPHEADER, exchange->headers);
}

static int set_up(const struct fl_http_client *client, struct exchange *exchange, CURL *easy,
                  const struct fl_http_call *call, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *url = fl_asprintf("%s%s", client->base_url, call->target);

    if (fl_http_has_control(call->target) || fl_http_has_control(call->content_type) ||
        fl_http_has_control(call->accept))
        return fl_error_set(err, FL_E_BAD_REQUEST, "control character in a request");
    fl_buf_init(&exchange->body, client->max_response_bytes);
    fl_buf_init(&exchange->answer_headers, HEADERS_MAX_BYTES);
    exchange->easy = easy;
    curl_easy_reset(easy);
    fl_http_client_set_up(client, easy);
    fl_http_curl_method(easy, call->method, call->body, call->body_len);
    set_up_headers(client, exchange, call);
    SET(easy, CURLOPT_URL, url);
    SET(easy, CURLOPT_PATH_AS_IS, 1L);
    SET(easy, CURLOPT_ERRORBUFFER, exchange->error_text);
    SET(easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(easy, CURLOPT_WRITEDATA, exchange);
    SET(easy, CURLOPT_HEADERFUNCTION, on_header);
    SET(easy, CURLOPT_HEADERDATA, exchange);
    return 0;
}

int fl_http_curl_code(CURLcode result)
{
    switch (result) {
    case CURLE_OPERATION_TIMEDOUT:
        return FL_E_TIMEOUT;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return FL_E_BAD_REQUEST;
    default:
        return FL_E_UNAVAILABLE;
    }
}

static int exchange_error(const struct fl_http_client *client, const struct exchange *exchange,
                          CURLcode result, struct fl_error *err)
{
    const char *text = exchange->error_text;

    if (exchange->body.overflow || exchange->answer_headers.overflow)
        return fl_error_set(err, FL_E_TOO_LARGE, "%s answered with more than %zu bytes",
                            client->base_url, client->max_response_bytes);
    if (exchange->too_quiet)
        return fl_error_set(err, FL_E_TIMEOUT, "%s: nothing came for %lld ms", client->base_url,
                            (long long)exchange->quiet_ms);
    return fl_error_set(err, fl_http_curl_code(result), "%s: %s", client->base_url,
                        *text ? text : curl_easy_strerror(result));
}

int fl_http_curl_status(CURL *easy)
{
    long status = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

int fl_http_call(struct fl_http_client *client, const struct fl_http_call *call, int *ret_status,
                 struct fl_bytes **ret_body, char **ret_headers, struct fl_error *err)
{
    FL_CLEANUP(exchange_finish) struct exchange exchange = {0};
    CURLcode result;
    int r;

    assert(call->method && call->target && call->target[0] == '/');

    r = set_up(client, &exchange, client->calls, call, err);
    if (r < 0)
        return r;
    SET(client->calls, CURLOPT_TIMEOUT_MS,
        (long)(call->timeout_ms > 0 ? call->timeout_ms : DEFAULT_TIMEOUT_MS));
    result = curl_easy_perform(client->calls);
    if (result != CURLE_OK)
        return exchange_error(client, &exchange, result, err);
    *ret_status = fl_http_curl_status(client->calls);
    if (ret_body)
        *ret_body = fl_buf_to_bytes(&exchange.body);
    if (ret_headers)
        *ret_headers = fl_buf_steal(&exchange.answer_headers);
    return 0;
}

/* The last line may come without its newline. */
static void give_last_line(struct exchange *exchange)
{
    if (exchange->line_result == 0 && exchange->body.len > 0)
        exchange->line_result = exchange->line(exchange->line_user, exchange->body.data,
                                               exchange->body.len, &exchange->line_error);
    fl_buf_clear(&exchange->body);
}

int fl_http_stream(struct fl_http_client *client, const struct fl_http_call *call,
                   fl_http_line_fn *line, void *user, int *ret_status, struct fl_bytes **ret_body,
                   struct fl_error *err)
{
    FL_CLEANUP(curl_easy_cleanupp) CURL *easy = curl_easy_init();
    FL_CLEANUP(exchange_finish)
    struct exchange exchange = {.line = line,
                                .as_it_comes = call->as_it_comes,
                                .line_user = user,
                                .quiet_ms = call->timeout_ms};
    CURLcode result;
    int r;

    assert(call->method && call->target && call->target[0] == '/' && line);

    if (!easy)
        return fl_error_set(err, FL_E_INTERNAL, "libcurl gives no handle");
    r = set_up(client, &exchange, easy, call, err);
    if (r < 0)
        return r;
    exchange.last_byte_ms = now_ms();
    if (call->total_ms > 0)
        SET(easy, CURLOPT_TIMEOUT_MS, (long)call->total_ms);
    SET(easy, CURLOPT_WRITEFUNCTION, on_stream);
    SET(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(easy, CURLOPT_XFERINFODATA, &exchange);
    SET(easy, CURLOPT_NOPROGRESS, 0L);
    result = curl_easy_perform(easy);
    if (exchange.line_result == 0 && result != CURLE_OK)
        return exchange_error(client, &exchange, result, err);
    *ret_status = fl_http_curl_status(easy);
    if (*ret_status == 200)
        give_last_line(&exchange);
    if (exchange.line_result < 0 && err)
        *err = exchange.line_error;
    if (exchange.line_result == 0 && ret_body)
        *ret_body = fl_buf_to_bytes(&exchange.body);
    return exchange.line_result;
}

/* Transfers. */

bool fl_http_find_header(const char *headers, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    bool found = false;

    while (headers && *headers) {
        size_t len = strcspn(headers, "\n");

        if (len > name_len && headers[name_len] == ':' &&
            strncasecmp(headers, name, name_len) == 0) {
            const char *value = headers + name_len + 1;
            size_t space = strspn(value, " \t");
            size_t value_len = len - name_len - 1 - space;

            found = value_len < size;
            if (found)
                (void)snprintf(out, size, "%.*s", (int)value_len, value + space);
        }
        headers += len + (headers[len] == '\n');
    }
    return found;
}

#define RETRY_AFTER_MAX_S INT64_C(86400)

int64_t fl_http_retry_after_ms(const char *headers, int64_t now_us)
{
    char text[64];
    int64_t seconds;

    if (!fl_http_find_header(headers, "Retry-After", text, sizeof(text)))
        return 0;
    if (!fl_str_to_int64(text, 0, INT64_MAX, &seconds)) {
        time_t date = curl_getdate(text, NULL);

        seconds = date > 0 ? date - now_us / 1000000 : 0;
    }
    if (seconds > RETRY_AFTER_MAX_S)
        seconds = RETRY_AFTER_MAX_S;
    return seconds > 0 ? seconds * 1000 : 0;
}

/* Of a body that is in a file. */
static size_t on_read(char *buffer, size_t size, size_t count, void *user)
{
    struct exchange *exchange = user;
    const struct fl_http_transfer *transfer = exchange->transfer;
    const size_t left = transfer->body_len - (size_t)exchange->file_read;
    ssize_t n;

    do
        n = pread(transfer->file, buffer, size * count < left ? size * count : left,
                  (off_t)(transfer->file_offset + exchange->file_read));
    while (n < 0 && errno == EINTR);
    if (n < 0 || (n == 0 && left > 0)) {
        exchange->line_result =
            n < 0 ? fl_error_errno(&exchange->line_error, errno, "read what is to be sent")
                  : fl_error_set(&exchange->line_error, FL_E_INTERNAL,
                                 "what is to be sent has become shorter");
        return CURL_READFUNC_ABORT;
    }
    exchange->file_read += n;
    return (size_t)n;
}

/* A connection that was kept open may turn out to be closed: then the body is sent anew. */
static int on_seek(void *user, curl_off_t offset, int origin)
{
    struct exchange *exchange = user;

    if (origin != SEEK_SET || offset < 0 || (size_t)offset > exchange->transfer->body_len)
        return CURL_SEEKFUNC_CANTSEEK;
    exchange->file_read = offset;
    return CURL_SEEKFUNC_OK;
}

static void send_from_file(struct exchange *exchange)
{
    CURL *easy = exchange->easy;

    SET(easy, CURLOPT_POSTFIELDS, NULL); /* or libcurl would not go back where it sends anew */
    SET(easy, CURLOPT_UPLOAD, 1L);
    SET(easy, CURLOPT_CUSTOMREQUEST, exchange->transfer->method);
    SET(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)exchange->transfer->body_len);
    SET(easy, CURLOPT_READFUNCTION, on_read);
    SET(easy, CURLOPT_READDATA, exchange);
    SET(easy, CURLOPT_SEEKFUNCTION, on_seek);
    SET(easy, CURLOPT_SEEKDATA, exchange);
}

static bool begin_once(struct exchange *exchange, int status)
{
    const struct fl_http_transfer *transfer = exchange->transfer;

    if (exchange->begun || !transfer->begin)
        return true;
    exchange->begun = true;
    exchange->line_result = transfer->begin(
        transfer->user, status, fl_buf_text(&exchange->answer_headers), &exchange->line_error);
    return exchange->line_result >= 0;
}

static size_t on_transfer(char *data, size_t size, size_t count, void *user)
{
    struct exchange *exchange = user;
    const struct fl_http_transfer *transfer = exchange->transfer;
    const int status = fl_http_curl_status(exchange->easy);

    if (!begin_once(exchange, status))
        return 0;
    if (!transfer->piece || (status != 200 && status != 206))
        return on_body(data, size, count, exchange);
    exchange->line_result =
        transfer->piece(transfer->user, data, size * count, &exchange->line_error);
    return exchange->line_result < 0 ? 0 : size * count;
}

static int on_beat(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                   curl_off_t up)
{
    struct exchange *exchange = user;
    const struct fl_http_transfer *transfer = exchange->transfer;

    if (down + up != exchange->moved) {
        exchange->moved = down + up;
        exchange->last_byte_ms = now_ms();
    }
    if (transfer->beat && !transfer->beat(transfer->user, up, down)) {
        exchange->line_result =
            fl_error_set(&exchange->line_error, FL_E_UNAVAILABLE, "the transfer was broken off");
        return 1;
    }
    return on_progress(user, down_total, down, up_total, up);
}

static int set_up_transfer(struct exchange *exchange, const struct fl_http_transfer *transfer,
                           struct fl_error *err)
{
    CURL *easy = exchange->easy;

    for (size_t i = 0; i < transfer->header_count; i++) {
        if (fl_http_has_control(transfer->headers[i]))
            return fl_error_set(err, FL_E_BAD_REQUEST, "control character in a request");
        add_header(exchange, transfer->headers[i]);
    }
    SET(easy, CURLOPT_HTTPHEADER, exchange->headers);
    SET(easy, CURLOPT_BUFFERSIZE, TRANSFER_BYTES);
    SET(easy, CURLOPT_UPLOAD_BUFFERSIZE, TRANSFER_BYTES);
    SET(easy, CURLOPT_WRITEFUNCTION, on_transfer);
    SET(easy, CURLOPT_XFERINFOFUNCTION, on_beat);
    SET(easy, CURLOPT_XFERINFODATA, exchange);
    SET(easy, CURLOPT_NOPROGRESS, 0L);
    if (transfer->total_ms > 0)
        SET(easy, CURLOPT_TIMEOUT_MS, (long)transfer->total_ms);
    if (transfer->from_file)
        send_from_file(exchange);
    return 0;
}

static int transfer_result(const struct fl_http_client *client, struct exchange *exchange,
                           CURLcode result, struct fl_error *err)
{
    if (exchange->line_result >= 0 && result != CURLE_OK)
        return exchange_error(client, exchange, result, err);
    if (exchange->line_result >= 0)
        (void)begin_once(exchange, fl_http_curl_status(exchange->easy)); /* there was no body */
    if (exchange->line_result < 0 && err)
        *err = exchange->line_error;
    return exchange->line_result < 0 ? exchange->line_result : 0;
}

int fl_http_transfer(struct fl_http_client *client, const struct fl_http_transfer *transfer,
                     int *ret_status, struct fl_bytes **ret_body, char **ret_headers,
                     struct fl_error *err)
{
    const struct fl_http_call call = {.method = transfer->method,
                                      .target = transfer->target,
                                      .body = transfer->body,
                                      .body_len = transfer->body_len};
    FL_CLEANUP(exchange_finish)
    struct exchange exchange = {.transfer = transfer,
                                .quiet_ms = transfer->quiet_ms > 0 ? transfer->quiet_ms
                                                                   : DEFAULT_TIMEOUT_MS};
    int r;

    assert(call.method && call.target && call.target[0] == '/');

    r = set_up(client, &exchange, client->calls, &call, err);
    if (r == 0)
        r = set_up_transfer(&exchange, transfer, err);
    if (r < 0)
        return r;
    exchange.last_byte_ms = now_ms();
    r = transfer_result(client, &exchange, curl_easy_perform(client->calls), err);
    if (r < 0)
        return r;
    *ret_status = fl_http_curl_status(client->calls);
    if (ret_body)
        *ret_body = fl_buf_to_bytes(&exchange.body);
    if (ret_headers)
        *ret_headers = fl_buf_steal(&exchange.answer_headers);
    return 0;
}
