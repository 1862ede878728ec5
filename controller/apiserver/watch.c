/* Watches: a cursor into the store's history for each client, moved on when something was committed
 * and when the client has read what it was sent. Nothing is queued for a client beyond what is on
 * its way; one that stays behind until history is forgotten gets "too old" and starts anew. */
#include "controller/apiserver/options.h"

#define QUEUED_MAX_BYTES       ((size_t)1024 * 1024)
#define BOOKMARK_EVERY_MS      (60 * 1000)
#define BOOKMARK_BEFORE_END_MS 2000
#define TIMEOUT_MIN_S          1800
#define INITIAL_FRAMES         500 /* of what is there already, at a time */

enum fl_watch_phase { INITIAL, CHANGES, ENDED };

struct fl_watcher {
    TAILQ_ENTRY(fl_watcher) link;
    struct fl_request *request;
    struct fl_selection selection;
    struct fl_watch *cursor;
    struct fl_list initial; /* what is there already, sent before changes */
    size_t initial_at;
    enum fl_watch_phase phase;
    uint64_t sent_revision; /* of the last bookmark */
    bool wants_bookmarks, wants_initial_end, table_started;
    bool again; /* more of what is there waits for the next turn of the loop */
    struct fl_timer *timer;
    int64_t bookmark_ms, end_ms;
};

static const char *const type_names[] = {"ADDED", "MODIFIED", "DELETED"};

static void watcher_release(struct fl_watcher *watcher)
{
    TAILQ_REMOVE(&watcher->request->server->watchers, watcher, link);
    fl_timer_destroy(watcher->timer);
    fl_list_finish(&watcher->initial);
    if (watcher->cursor)
        fl_watch_close(watcher->cursor);
    watcher->phase = ENDED;
}

static void watcher_gone(void *user)
{
    struct fl_watcher *watcher = user;

    fl_respond_done(watcher->request, 200);
    watcher_release(watcher);
}

static void watcher_end(struct fl_watcher *watcher)
{
    struct fl_http_request *http = watcher->request->http;

    fl_respond_done(watcher->request, 200);
    watcher_release(watcher);
    fl_http_on_gone(http, NULL, NULL);
    fl_http_stream_end(http);
}

/* Frames */

/* Only the first frame of a watch describes the columns. */
static json_t *event_table(struct fl_watcher *watcher, const json_t *object)
{
    struct fl_table_options options = {
        .no_headers = watcher->table_started,
        .resource_version = fl_json_str(object, "metadata.resourceVersion"),
    };

    watcher->table_started = true;
    return fl_make_table(watcher->request, &object, 1, &options);
}

static json_t *bookmark_table(const struct fl_watcher *watcher, const char *revision)
{
    struct fl_table_options options = {.no_headers = true, .resource_version = revision};

    return fl_make_table(watcher->request, NULL, 0, &options);
}

static struct fl_bytes *frame_of_value(const char *type, const json_t *value)
{
    struct fl_bytes *frame;
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_buf_printf(&buf, "{\"type\":\"%s\",\"object\":", type);
    fl_json_write(&buf, value);
    fl_buf_puts(&buf, "}\n");
    frame = fl_buf_to_bytes(&buf);
    fl_buf_finish(&buf);
    return frame;
}

static struct fl_bytes *frame_of_object(struct fl_watcher *watcher, const char *type,
                                        const struct fl_object *object, uint64_t revision)
{
    const struct fl_resource *resource = watcher->request->resource;
    FL_JSON value = NULL;
    FL_JSON shown = NULL;
    struct fl_bytes *frame;
    struct fl_buf buf;
    char text[32];

    if (watcher->request->view == FL_VIEW_OBJECT && object->revision == revision) {
        fl_buf_init(&buf, 0);
        fl_buf_reserve(&buf, object->json->len + 64);
        fl_buf_printf(&buf, "{\"type\":\"%s\",\"object\":", type);
        fl_write_object(&buf, resource, object);
        fl_buf_puts(&buf, "}\n");
        frame = fl_buf_to_bytes(&buf);
        fl_buf_finish(&buf);
        return frame;
    }
    value = fl_read_object(resource, object);
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)revision);
    fl_json_set_str(json_object_get(value, "metadata"), "resourceVersion", text);
    if (watcher->request->view == FL_VIEW_TABLE)
        shown = event_table(watcher, value);
    else if (watcher->request->view == FL_VIEW_PARTIAL)
        shown = fl_make_partial(value);
    return frame_of_value(type, shown ? shown : value);
}

static bool send_frame(struct fl_watcher *watcher, struct fl_bytes *frame)
{
    bool sent = fl_http_stream_write_bytes(watcher->request->http, frame);

    fl_bytes_unref(frame);
    if (sent)
        fl_metrics_watch_event(watcher->request->server->metrics, watcher->request->resource);
    return sent;
}

static bool send_bookmark(struct fl_watcher *watcher, bool initial_end)
{
    const struct fl_request *request = watcher->request;
    uint64_t revision = fl_watch_revision(watcher->cursor);
    FL_JSON value = NULL;
    char text[32];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)revision);
    if (request->view == FL_VIEW_TABLE)
        value = bookmark_table(watcher, text);
    else
        value = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", request->resource->api_version,
                          "kind", request->resource->kind, "metadata", "resourceVersion", text);
    if (initial_end)
        (void)json_object_set_new(json_object_get(value, "metadata"), "annotations",
                                  json_pack("{s:s}", "k8s.io/initial-events-end", "true"));
    watcher->sent_revision = revision;
    return send_frame(watcher, frame_of_value("BOOKMARK", value));
}

static void send_error(struct fl_watcher *watcher, const struct fl_error *err)
{
    FL_JSON status = fl_status_failure(err, NULL);

    (void)send_frame(watcher, frame_of_value("ERROR", status));
}

/* An event as this watcher sees it: with a selector, entering it is an addition and leaving it a
 * deletion. False where it sees nothing. */
static bool event_type_for(const struct fl_watcher *watcher, const struct fl_event *event,
                           enum fl_event_type *ret_type)
{
    bool is, was;

    *ret_type = event->type;
    if (fl_selection_is_all(&watcher->selection))
        return true;
    is =
        event->type != FL_EVENT_DELETED && fl_selection_matches(&watcher->selection, event->object);
    was = event->previous && fl_selection_matches(&watcher->selection, event->previous);
    if (is)
        *ret_type = was ? FL_EVENT_MODIFIED : FL_EVENT_ADDED;
    else
        *ret_type = FL_EVENT_DELETED;
    return is || was;
}

static struct fl_bytes *event_frame(struct fl_watcher *watcher, const struct fl_event *event,
                                    enum fl_event_type type)
{
    const struct fl_object *object = event->object;
    /* What is kept for all who watch must be the same for all: others may ask for another version.
     */
    bool plain = watcher->request->view == FL_VIEW_OBJECT && type == event->type &&
                 fl_stored_as(watcher->request->resource, object);
    struct fl_bytes *frame;

    if (plain && *event->cache)
        return fl_bytes_ref(*event->cache);
    if (type == FL_EVENT_DELETED && event->type == FL_EVENT_MODIFIED)
        object = event->previous; /* what it was when it was last seen */
    frame = frame_of_object(watcher, type_names[type], object, event->revision);
    if (plain)
        fl_event_cache_put(watcher->cursor, event, fl_bytes_ref(frame));
    return frame;
}

static void arm_timer(struct fl_watcher *watcher);

static bool send_initial(struct fl_watcher *watcher)
{
    size_t until = watcher->initial_at + INITIAL_FRAMES;

    while (watcher->initial_at < watcher->initial.count) {
        const struct fl_object *object = watcher->initial.objects[watcher->initial_at];

        if (watcher->initial_at == until) { /* others' turn */
            watcher->again = true;
            arm_timer(watcher);
            return false;
        }

        if (fl_http_stream_queued(watcher->request->http) > QUEUED_MAX_BYTES)
            return false;
        if (!send_frame(watcher, frame_of_object(watcher, "ADDED", object, object->revision)))
            return false;
        watcher->initial_at++;
    }
    fl_list_finish(&watcher->initial);
    if (watcher->wants_initial_end && !send_bookmark(watcher, true))
        return false;
    watcher->phase = CHANGES;
    return true;
}

/* Sends what there is; false when the watch is over. */
static bool send_changes(struct fl_watcher *watcher)
{
    struct fl_error err = {0};
    struct fl_event event;
    enum fl_event_type type;
    int r = 0;

    while (fl_http_stream_queued(watcher->request->http) <= QUEUED_MAX_BYTES &&
           (r = fl_watch_next(watcher->cursor, &event, &err)) > 0) {
        if (!event_type_for(watcher, &event, &type))
            continue;
        if (!send_frame(watcher, event_frame(watcher, &event, type)))
            return false;
    }
    if (r < 0)
        send_error(watcher, &err);
    return r >= 0;
}

static void pump(void *user)
{
    struct fl_watcher *watcher = user;

    if (watcher->phase == INITIAL && !send_initial(watcher))
        return; /* goes on when the client has read some of it */
    if (watcher->phase == CHANGES && (!send_changes(watcher) || watcher->request->served->replaced))
        watcher_end(watcher); /* the client comes back to what is served now */
}

void fl_watchers_pump(struct fl_apiserver *server)
{
    struct fl_watcher *watcher, *next;

    for (watcher = TAILQ_FIRST(&server->watchers); watcher; watcher = next) {
        next = TAILQ_NEXT(watcher, link);
        pump(watcher);
    }
}

void fl_watchers_end(struct fl_apiserver *server)
{
    while (!TAILQ_EMPTY(&server->watchers))
        watcher_end(TAILQ_FIRST(&server->watchers));
}

size_t fl_watchers_count(const struct fl_apiserver *server)
{
    const struct fl_watcher *watcher;
    size_t count = 0;

    TAILQ_FOREACH(watcher, &server->watchers, link)
        count++;
    return count;
}

/* Time */

static void arm_timer(struct fl_watcher *watcher)
{
    int64_t now = fl_monotonic_ms(watcher->request->server->env), at = watcher->end_ms;

    if (watcher->wants_bookmarks && watcher->bookmark_ms < at)
        at = watcher->bookmark_ms;
    if (watcher->again)
        at = now;
    fl_timer_arm(watcher->timer, at > now ? at - now : 0);
}

static void on_time(void *user)
{
    struct fl_watcher *watcher = user;
    int64_t now = fl_monotonic_ms(watcher->request->server->env);

    if (now >= watcher->end_ms) {
        watcher_end(watcher);
        return;
    }
    if (watcher->again) {
        watcher->again = false;
        pump(watcher);
    }
    if (watcher->phase == ENDED)
        return;
    if (watcher->wants_bookmarks && now >= watcher->bookmark_ms) {
        if (watcher->phase == CHANGES)
            (void)send_bookmark(watcher, false);
        watcher->bookmark_ms = now + BOOKMARK_EVERY_MS;
        if (watcher->bookmark_ms > watcher->end_ms - BOOKMARK_BEFORE_END_MS &&
            now < watcher->end_ms - BOOKMARK_BEFORE_END_MS)
            watcher->bookmark_ms = watcher->end_ms - BOOKMARK_BEFORE_END_MS;
    }
    arm_timer(watcher);
}

static int read_timeout(struct fl_request *request, int64_t *ret_ms, struct fl_error *err)
{
    const char *text = fl_request_param(request, "timeoutSeconds");
    int64_t seconds = 0;

    if (text && *text && !fl_str_to_int64(text, 0, 86400, &seconds))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "strconv.ParseInt: parsing \"%s\": invalid syntax", text);
    if (seconds == 0) /* spread, so that clients do not all come back at once */
        seconds = TIMEOUT_MIN_S + (int64_t)fl_random_below(request->server->env, TIMEOUT_MIN_S);
    *ret_ms = seconds * 1000;
    return 0;
}

static void start_timer(struct fl_watcher *watcher, int64_t timeout_ms)
{
    struct fl_apiserver *server = watcher->request->server;
    int64_t now = fl_monotonic_ms(server->env);

    watcher->end_ms = now + timeout_ms;
    watcher->bookmark_ms = now + BOOKMARK_EVERY_MS;
    if (watcher->bookmark_ms > watcher->end_ms - BOOKMARK_BEFORE_END_MS)
        watcher->bookmark_ms = watcher->end_ms - BOOKMARK_BEFORE_END_MS;
    if (watcher->bookmark_ms < now + 1000)
        watcher->bookmark_ms = now + 1000;
    watcher->timer = fl_timer_create(server->loop, on_time, watcher);
    arm_timer(watcher);
}

/* Start */

struct start {
    uint64_t revision; /* changes after this one */
    bool initial;      /* first everything that is there */
    bool initial_end;  /* and say where that ends */
};

static int read_start(struct fl_request *request, struct start *start, struct fl_error *err)
{
    const char *match = fl_request_param(request, "resourceVersionMatch");
    const char *send = fl_request_param(request, "sendInitialEvents");
    int r;

    *start = (struct start){0};
    r = fl_option_revision("resourceVersion", fl_request_param(request, "resourceVersion"),
                           &start->revision, err);
    if (r < 0)
        return r;
    start->initial = start->revision == 0;
    if (!send || !*send)
        return match && *match
                   ? fl_option_forbid(request, "resourceVersionMatch",
                                      "resourceVersionMatch is forbidden for watch unless "
                                      "sendInitialEvents is provided",
                                      err)
                   : 0;
    if (!match || strcmp(match, "NotOlderThan") != 0)
        return fl_option_forbid(
            request, "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan", err);
    start->initial = fl_request_flag(request, "sendInitialEvents");
    if (!start->initial && start->revision == 0)
        start->revision = fl_store_revision(request->server->store);
    start->initial_end = start->initial && fl_request_flag(request, "allowWatchBookmarks");
    return 0;
}

static int load_initial(struct fl_watcher *watcher, struct start *start, struct fl_error *err)
{
    struct fl_request *request = watcher->request;
    struct fl_list_query query = {
        .resource = request->resource->storage,
        .ns = *request->ns ? request->ns : NULL,
    };
    struct fl_list all = {0};
    size_t kept = 0;
    int r;

    r = fl_store_list(request->server->store, &query, &all, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < all.count; i++) {
        if (fl_selection_matches(&watcher->selection, all.objects[i]))
            all.objects[kept++] = all.objects[i];
        else
            fl_object_unref(all.objects[i]);
    }
    all.count = kept;
    watcher->initial = all;
    start->revision = all.revision;
    return 0;
}

static int open_cursor(struct fl_watcher *watcher, const struct start *start, struct fl_error *err)
{
    struct fl_request *request = watcher->request;
    uint64_t newest = fl_store_revision(request->server->store);

    return fl_store_watch(
        request->server->store, request->resource->storage, *request->ns ? request->ns : NULL,
        start->revision < newest ? start->revision : newest, &watcher->cursor, err);
}

/* "Too old" is told inside the stream, as on a cluster: informers look for it there. */
static void refuse_in_stream(struct fl_watcher *watcher, const struct fl_error *err)
{
    struct fl_http_request *http = watcher->request->http;

    fl_http_stream_begin(http, 200, "application/json");
    send_error(watcher, err);
    fl_respond_done(watcher->request, 200);
    fl_http_stream_end(http);
}

void fl_handle_watch(struct fl_request *request)
{
    struct fl_watcher *watcher = fl_new(request->arena, struct fl_watcher);
    struct fl_error err = {0};
    struct start start;
    int64_t timeout_ms = 0;
    int r;

    watcher->request = request;
    watcher->wants_bookmarks = fl_request_flag(request, "allowWatchBookmarks");
    if (request->server->draining) /* nobody would end it */
        r = fl_error_set(&err, FL_E_UNAVAILABLE, "the server is shutting down");
    else
        r = read_start(request, &start, &err);
    if (r == 0)
        r = read_timeout(request, &timeout_ms, &err);
    if (r == 0)
        r = fl_selection_parse(request, &watcher->selection, &err);
    if (r == 0 && start.initial)
        r = load_initial(watcher, &start, &err);
    if (r < 0) {
        fl_respond_failure(request, &err, NULL);
        return;
    }
    watcher->wants_initial_end = start.initial_end;
    if (open_cursor(watcher, &start, &err) < 0) {
        refuse_in_stream(watcher, &err);
        fl_list_finish(&watcher->initial);
        return;
    }
    start_timer(watcher, timeout_ms);
    TAILQ_INSERT_TAIL(&request->server->watchers, watcher, link);
    fl_http_on_gone(request->http, watcher_gone, watcher);
    fl_http_stream_begin(request->http, 200, "application/json");
    fl_http_on_drained(request->http, pump, watcher);
    pump(watcher);
}
