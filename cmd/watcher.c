#include "cmd/watcher.h"

#include "cmd/discovery.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

#define PAGE           "500"
#define STREAM_SECONDS "50" /* after this the server ends it and we begin another */
#define STREAM_MS      60000
#define LINE_MAX_BYTES ((size_t)32 * 1024 * 1024)
#define PAUSE_MIN_MS   100
#define PAUSE_MAX_MS   5000

struct fl_watcher {
    struct fl_watcher_options options;
    struct fl_arena *arena; /* of one call */
    struct fl_timer *turn;
    struct fl_http_async_request *call; /* NULL: none is under way */
    char *version;                      /* to watch from; NULL: a list is due */
    char *more;                         /* of a list: the next page */
    struct fl_buf line;                 /* what came of the next one */
    int64_t pause_ms;
};

static void set(char **text, const char *value)
{
    free(*text);
    *text = value && *value ? fl_strdup(value) : NULL;
}

static void tell_state(struct fl_watcher *watcher, enum fl_watcher_state state,
                       const struct fl_error *why)
{
    watcher->options.events->state(watcher->options.user, state, why);
}

/* Failures */

static bool may_pass(int code)
{
    return code == FL_E_UNAVAILABLE || code == FL_E_TIMEOUT || code == FL_E_TOO_MANY_REQUESTS ||
           code == FL_E_INTERNAL || code == FL_E_EXPIRED;
}

/* All begins anew with a list: whatever was missed is found, and a server whose past is another one
 * is no trouble. */
static void failed(struct fl_watcher *watcher, const struct fl_error *err)
{
    set(&watcher->version, NULL);
    set(&watcher->more, NULL);
    if (!may_pass(err->code)) {
        tell_state(watcher, FL_WATCHER_REFUSED, err);
        return;
    }
    if (err->code != FL_E_EXPIRED) /* which is no trouble but a matter of course */
        tell_state(watcher, FL_WATCHER_LOST, err);
    fl_timer_arm(watcher->turn, watcher->pause_ms);
    watcher->pause_ms *= 2;
    if (watcher->pause_ms > PAUSE_MAX_MS)
        watcher->pause_ms = PAUSE_MAX_MS;
}

/* Whether an answer is what was asked for; `err` says why not. */
static bool is_answered(struct fl_watcher *watcher, const struct fl_http_answer *answer,
                        const struct fl_error *why, struct fl_error *err)
{
    struct fl_client client = *watcher->options.client;

    client.arena = watcher->arena;
    if (!answer)
        *err = *why;
    else if (answer->status >= 300)
        (void)fl_client_refused(&client, answer->status, answer->body, err);
    return answer && answer->status < 300;
}

/* Calls */

static const char *target_of(struct fl_watcher *watcher, const char *const (*query)[2],
                             size_t count)
{
    const struct fl_watcher_options *options = &watcher->options;
    struct fl_client client = *options->client; /* whose strings live no longer than the call */
    const char *target;

    fl_arena_reset(watcher->arena);
    client.arena = watcher->arena;
    target = fl_client_path(&client, options->resource, options->ns, NULL);
    target = fl_client_query(&client, target, "fieldSelector", options->field_selector);
    for (size_t i = 0; i < count; i++)
        target = fl_client_query(&client, target, query[i][0], query[i][1]);
    return target;
}

static void start(struct fl_watcher *watcher, const char *target, int64_t timeout_ms,
                  fl_http_async_piece_fn *piece, fl_http_answered_fn *done)
{
    static const struct fl_http_pair accept = {.name = "Accept", .value = "application/json"};
    const struct fl_http_async_call call = {.method = "GET",
                                            .target = target,
                                            .headers = &accept,
                                            .header_count = 1,
                                            .timeout_ms = timeout_ms,
                                            .piece = piece};

    watcher->call = fl_http_async_start(watcher->options.async, watcher->options.client->http,
                                        &call, done, watcher);
}

/* The list */

static int read_page(struct fl_watcher *watcher, const struct fl_bytes *body, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_ANSWER_MAX_BYTES};
    const struct fl_watcher_options *options = &watcher->options;
    FL_JSON list = NULL;
    json_t *item;
    size_t i;

    if (fl_json_parse(body->data, body->len, &limits, NULL, NULL, &list, err) < 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the server's list is no JSON");
    if (!watcher->more)
        options->events->begin(options->user);
    json_array_foreach(json_object_get(list, "items"), i, item)
        options->events->object(options->user, item);
    set(&watcher->more, fl_json_str(list, "metadata.continue"));
    if (!watcher->more) {
        options->events->end(options->user);
        set(&watcher->version, fl_str_or(fl_json_str(list, "metadata.resourceVersion"), "0"));
    }
    return 0;
}

static void on_page(void *user, const struct fl_http_answer *answer, const struct fl_error *why)
{
    struct fl_watcher *watcher = user;
    struct fl_error err = {0};

    watcher->call = NULL;
    if (!is_answered(watcher, answer, why, &err) || read_page(watcher, answer->body, &err) < 0) {
        failed(watcher, &err);
        return;
    }
    watcher->pause_ms = PAUSE_MIN_MS;
    if (watcher->version)
        tell_state(watcher, FL_WATCHER_LIVE, NULL);
    fl_timer_fire(watcher->turn);
}

static void ask_page(struct fl_watcher *watcher)
{
    const char *const query[][2] = {{"limit", PAGE}, {"continue", watcher->more}};

    start(watcher, target_of(watcher, query, FL_COUNT_OF(query)),
          watcher->options.client->request_timeout_ms, NULL, on_page);
}

/* The watch */

static int tell(struct fl_watcher *watcher, const char *event, const json_t *object,
                struct fl_error *err)
{
    const struct fl_watcher_options *options = &watcher->options;

    if (strcmp(event, "ERROR") == 0)
        return fl_error_set(err,
                            fl_error_from_status(fl_json_str(object, "reason"),
                                                 (int)fl_json_int(object, "code", 500)),
                            "watch: %s", fl_str_or(fl_json_str(object, "message"), "?"));
    if (fl_json_str(object, "metadata.resourceVersion"))
        set(&watcher->version, fl_json_str(object, "metadata.resourceVersion"));
    if (strcmp(event, "DELETED") == 0)
        options->events->gone(options->user, object);
    else if (strcmp(event, "BOOKMARK") != 0)
        options->events->object(options->user, object);
    return 0;
}

static int read_line(struct fl_watcher *watcher, const char *line, size_t len, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = LINE_MAX_BYTES};
    FL_JSON frame = NULL;

    if (len == 0)
        return 0;
    if (fl_json_parse(line, len, &limits, NULL, NULL, &frame, err) < 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "watch: what came is no JSON");
    return tell(watcher, fl_str_or(fl_json_str(frame, "type"), ""),
                json_object_get(frame, "object"), err);
}

static int on_piece(void *user, const char *data, size_t len, struct fl_error *err)
{
    struct fl_watcher *watcher = user;
    const char *end = data + len, *newline;

    while (data < end && (newline = memchr(data, '\n', (size_t)(end - data)))) {
        int r;

        fl_buf_append(&watcher->line, data, (size_t)(newline - data));
        if (watcher->line.overflow)
            break;
        r = read_line(watcher, fl_buf_text(&watcher->line), watcher->line.len, err);
        if (r < 0)
            return r;
        fl_buf_clear(&watcher->line);
        data = newline + 1;
    }
    if (data < end)
        fl_buf_append(&watcher->line, data, (size_t)(end - data));
    return watcher->line.overflow
               ? fl_error_set(err, FL_E_UNAVAILABLE, "watch: a line has more than %zu bytes",
                              LINE_MAX_BYTES)
               : 0;
}

/* A stream that ends is taken up where it ended; not at once, or one that always ends at once would
 * be a race. */
static void on_stream_end(void *user, const struct fl_http_answer *answer,
                          const struct fl_error *why)
{
    struct fl_watcher *watcher = user;
    struct fl_error err = {0};

    watcher->call = NULL;
    if (is_answered(watcher, answer, why, &err))
        fl_timer_arm(watcher->turn, PAUSE_MIN_MS);
    else
        failed(watcher, &err);
}

static void ask_watch(struct fl_watcher *watcher)
{
    const char *const query[][2] = {{"watch", "true"},
                                    {"allowWatchBookmarks", "true"},
                                    {"timeoutSeconds", STREAM_SECONDS},
                                    {"resourceVersion", watcher->version}};

    fl_buf_finish(&watcher->line);
    fl_buf_init(&watcher->line, LINE_MAX_BYTES);
    start(watcher, target_of(watcher, query, FL_COUNT_OF(query)), STREAM_MS, on_piece,
          on_stream_end);
}

static void on_turn(void *user)
{
    struct fl_watcher *watcher = user;

    if (watcher->version)
        ask_watch(watcher);
    else
        ask_page(watcher);
}

struct fl_watcher *fl_watcher_create(const struct fl_watcher_options *options)
{
    struct fl_watcher *watcher = fl_calloc(1, sizeof(*watcher));

    watcher->options = *options;
    watcher->arena = fl_arena_create();
    watcher->pause_ms = PAUSE_MIN_MS;
    watcher->turn = fl_timer_create(options->loop, on_turn, watcher);
    fl_timer_fire(watcher->turn);
    return watcher;
}

void fl_watcher_destroy(struct fl_watcher *watcher)
{
    if (!watcher)
        return;
    if (watcher->call)
        fl_http_async_cancel(watcher->call);
    fl_timer_destroy(watcher->turn);
    fl_buf_finish(&watcher->line);
    free(watcher->version);
    free(watcher->more);
    fl_arena_destroy(watcher->arena);
    free(watcher);
}
