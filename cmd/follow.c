#include "cmd/follow.h"

#include "cmd/discovery.h"
#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>

#define STREAM_SECONDS 240 /* after this the server ends it and we begin another */
#define QUIET_MS       300000
#define LOOK_MS        1000
#define PAUSE_MIN_MS   100
#define PAUSE_MAX_MS   5000

struct following {
    struct fl_client *client;
    const struct fl_follow *follow;
    fl_follow_fn *fn;
    void *user;
    char *version;      /* to go on from; NULL: a list is due */
    bool began;         /* the first list was given */
    bool told;          /* `fn` failed: not the transport */
    bool heard;         /* something came since the last failure */
    int64_t failing_ms; /* since when; 0: not */
    int64_t pause_ms;
};

static void following_finish(struct following *following)
{
    free(following->version);
}

const char *fl_follow_name(struct fl_client *client, const char *name, const char *more)
{
    return fl_arena_printf(client->arena, "metadata.name=%s%s%s", name, more ? "," : "",
                           fl_str_or(more, ""));
}

static int64_t now_ms(const struct following *following)
{
    return fl_monotonic_ms(&following->client->env);
}

/* Until the deadline; far away where there is none. */
static int64_t left_ms(const struct following *following)
{
    int64_t deadline = following->follow->deadline_ms;

    return deadline > 0 ? deadline - now_ms(following) : INT64_MAX;
}

static void set_version(struct following *following, const char *version)
{
    if (!version || !*version)
        return;
    free(following->version);
    following->version = fl_strdup(version);
}

static int tell(struct following *following, const char *event, json_t *object,
                struct fl_error *err)
{
    int r = following->fn(following->user, event, object, err);

    following->told = r < 0;
    return r;
}

static int on_line(void *user, const char *line, size_t len, struct fl_error *err)
{
    struct following *following = user;
    struct fl_json_limits limits = {.max_bytes = FL_ANSWER_MAX_BYTES};
    FL_JSON frame = NULL;
    json_t *object;
    const char *event, *version;
    int r;

    if (len == 0)
        return 0;
    r = fl_json_parse(line, len, &limits, NULL, NULL, &frame, err);
    if (r < 0) /* a connection that broke in the middle of a line */
        return fl_error_set(err, FL_E_UNAVAILABLE, "watch: what came is no JSON");
    following->heard = true;
    event = fl_str_or(fl_json_str(frame, "type"), "");
    object = json_object_get(frame, "object");
    if (strcmp(event, "ERROR") == 0)
        return fl_error_set(err,
                            fl_error_from_status(fl_json_str(object, "reason"),
                                                 (int)fl_json_int(object, "code", 500)),
                            "watch: %s", fl_str_or(fl_json_str(object, "message"), "?"));
    version = fl_json_str(object, "metadata.resourceVersion");
    if (!version)
        version = fl_json_str(json_array_get(json_object_get(object, "rows"), 0),
                              "object.metadata.resourceVersion");
    set_version(following, version);
    return strcmp(event, "BOOKMARK") == 0 ? 0 : tell(following, event, object, err);
}

static int give_list(struct following *following, struct fl_error *err)
{
    struct fl_client *client = following->client;
    int64_t timeout_ms = client->request_timeout_ms, left = left_ms(following);
    FL_JSON list = NULL;
    int r;

    if (left < timeout_ms) /* one look is due, however late it is */
        client->request_timeout_ms = left > LOOK_MS ? left : LOOK_MS;
    r = fl_client_list(client, following->follow->resource, &following->follow->query, &list, err);
    client->request_timeout_ms = timeout_ms;
    if (r < 0)
        return r;
    following->heard = true;
    set_version(following, fl_str_or(fl_json_str(list, "metadata.resourceVersion"), "0"));
    r = tell(following, "LIST", list, err);
    following->began = true;
    return r;
}

static int watch(struct following *following, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_client *client = following->client;
    const struct fl_list_query *query = &following->follow->query;
    int64_t left = left_ms(following);
    struct fl_http_call call = {.method = "GET", .timeout_ms = QUIET_MS};
    const char *target;
    int http = 0, r;

    if (left <= 0)
        return fl_error_set(err, FL_E_TIMEOUT, "timed out");
    target = fl_client_path(client, following->follow->resource, query->ns, NULL);
    target = fl_client_query(client, target, "watch", "true");
    target = fl_client_query(client, target, "allowWatchBookmarks", "true");
    target = fl_client_query(client, target, "resourceVersion", following->version);
    target = fl_client_query(client, target, "timeoutSeconds",
                             fl_arena_printf(client->arena, "%d", STREAM_SECONDS));
    target = fl_client_query(client, target, "labelSelector", query->label_selector);
    target = fl_client_query(client, target, "fieldSelector", query->field_selector);
    target = fl_client_query(client, target, "includeObject", query->include_object);
    call.target = target;
    call.accept = fl_str_or(query->accept, "application/json");
    call.total_ms = left < INT64_MAX ? left : 0;
    r = fl_http_stream(client->http, &call, on_line, following, &http, &body, err);
    if (r != 0)
        return r;
    return http >= 300 ? fl_client_refused(client, http, body, err) : 0;
}

static bool may_pass(int r)
{
    return r == FL_E_UNAVAILABLE || r == FL_E_TIMEOUT || r == FL_E_TOO_MANY_REQUESTS ||
           r == FL_E_INTERNAL;
}

/* Before another try: each time twice as long, but not beyond the deadline. */
static void pause_before(struct following *following)
{
    int64_t left = left_ms(following);

    fl_client_pause(left < following->pause_ms ? left : following->pause_ms);
    following->pause_ms *= 2;
    if (following->pause_ms > PAUSE_MAX_MS)
        following->pause_ms = PAUSE_MAX_MS;
}

/* Whether to go on after a failure (0); waits a little if so. */
static int recover(struct following *following, int r, struct fl_error *err)
{
    int64_t now = now_ms(following), failing_ms;

    if (following->told || !following->began)
        return r;
    if (left_ms(following) <= 0)
        return FL_E_TIMEOUT;
    if (r == FL_E_EXPIRED) {
        free(FL_TAKE(following->version));
        return 0;
    }
    if (!may_pass(r))
        return r;
    if (following->heard) {
        following->failing_ms = 0;
        following->pause_ms = PAUSE_MIN_MS;
        following->heard = false;
    }
    if (following->failing_ms == 0) {
        following->failing_ms = now;
        (void)fprintf(stderr, "flops %s: connection lost, trying again\n",
                      following->client->command);
    }
    failing_ms = now - following->failing_ms;
    if (failing_ms > following->client->request_timeout_ms)
        return fl_error_wrap(err, "gave up after %llds", (long long)(failing_ms / 1000));
    pause_before(following);
    return 0;
}

int fl_follow(struct fl_client *client, const struct fl_follow *follow, fl_follow_fn *fn,
              void *user, struct fl_error *err)
{
    FL_CLEANUP(following_finish)
    struct following following = {
        .client = client, .follow = follow, .fn = fn, .user = user, .pause_ms = PAUSE_MIN_MS};

    for (;;) {
        int r = following.version ? watch(&following, err) : give_list(&following, err);

        if (r > 0)
            return r;
        if (r < 0)
            r = recover(&following, r, err);
        else if (following.version && !following.heard)
            fl_client_pause(PAUSE_MIN_MS); /* a stream that ends at once is no reason to race */
        if (r < 0)
            return r;
    }
}
