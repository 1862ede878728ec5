#include "controller/runtime/events.h"

#include "controller/runtime/events_internal.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <stdio.h>

#define TRIES_MAX       12
#define RETRY_MS        10000
#define CALL_TIMEOUT_MS 2000
#define MESSAGE_MAX     1024
#define NAME_MAX_BYTES  253
#define TARGET_MAX      768

static const struct fl_metric_about written = {"flops_events_written_total",
                                               "Events that were created or counted up",
                                               FL_METRIC_COUNTER, NULL, 0},
                                    dropped = {"flops_events_dropped_total",
                                               "Events that were not written, by reason",
                                               FL_METRIC_COUNTER, NULL, 0};

struct fl_events {
    struct fl_events_options options;
    struct fl_correlator *correlator; /* the writer's */

    struct fl_lock *lock; /* of what follows */
    struct fl_event_note *first, **end;
    size_t count;
    uint64_t sequence; /* makes names differ within a microsecond */
};

struct fl_events *fl_events_create(const struct fl_events_options *options)
{
    struct fl_events *events = fl_calloc(1, sizeof(*events));

    events->options = *options;
    events->lock = fl_lock_create();
    events->end = &events->first;
    events->correlator = fl_correlator_create();
    return events;
}

static void free_note(struct fl_event_note *note)
{
    fl_arena_destroy(note->arena); /* it is in there itself */
}

void fl_events_destroy(struct fl_events *events)
{
    if (!events)
        return;
    while (events->first) {
        struct fl_event_note *note = events->first;

        events->first = note->next;
        free_note(note);
    }
    fl_correlator_destroy(events->correlator);
    fl_lock_destroy(events->lock);
    free(events);
}

static void count_dropped(const struct fl_events *events, const char *why)
{
    char labels[64];

    (void)snprintf(labels, sizeof(labels), "reason=\"%s\"", why);
    fl_metric_add(events->options.metrics, &dropped, labels, 1);
}

/* Noting. */

static const char *copy(struct fl_arena *arena, const char *text)
{
    return fl_arena_strdup(arena, fl_str_or(text, ""));
}

static struct fl_event_note *make_note(const struct fl_events *events,
                                       const struct fl_event_about *about)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_event_note *note = fl_new(arena, struct fl_event_note);
    const char *message = fl_str_or(about->message, "");

    note->arena = arena;
    note->about = (struct fl_event_about){
        .api_version = copy(arena, about->api_version),
        .kind = copy(arena, about->kind),
        .ns = copy(arena, about->ns),
        .name = copy(arena, about->name),
        .uid = copy(arena, about->uid),
        .resource_version = copy(arena, about->resource_version),
        .component = copy(arena, about->component),
        .severity = about->severity,
        .reason = copy(arena, about->reason),
        .message =
            fl_arena_strndup(arena, message, fl_utf8_cut(message, strlen(message), MESSAGE_MAX)),
    };
    note->time_us = fl_realtime_us(events->options.env);
    note->monotonic_ms = fl_monotonic_ms(events->options.env);
    return note;
}

/* As client-go makes it: the object's name and the time in hex. */
static const char *make_name(const struct fl_event_note *note, uint64_t sequence)
{
    char suffix[24];
    int suffix_len = snprintf(suffix, sizeof(suffix), ".%llx",
                              (unsigned long long)note->time_us * 1000 + sequence % 1000);
    size_t len = strlen(note->about.name), room = NAME_MAX_BYTES - (size_t)suffix_len;

    return fl_arena_printf(note->arena, "%.*s%s", (int)(len < room ? len : room), note->about.name,
                           suffix);
}

static bool append(struct fl_events *events, struct fl_event_note *note)
{
    FL_LOCKED(events->lock);

    if (events->count >= FL_EVENTS_QUEUE_MAX)
        return false;
    note->name = make_name(note, events->sequence++);
    *events->end = note;
    events->end = &note->next;
    events->count++;
    return true;
}

void fl_events_note(struct fl_events *events, const struct fl_event_about *about)
{
    struct fl_event_note *note = make_note(events, about);

    if (!append(events, note)) {
        free_note(note);
        count_dropped(events, "queue_full");
        return;
    }
    if (events->options.wake)
        events->options.wake(events->options.wake_user);
}

/* Writing. */

static const char *namespace_of(const struct fl_event_note *note)
{
    return note->about.ns[0] ? note->about.ns : "default";
}

static const char *severity_name(enum fl_event_severity severity)
{
    return severity == FL_WARNING ? "Warning" : "Normal";
}

static json_t *time_text(int64_t time_us)
{
    char text[FL_TIME_SIZE];

    fl_time_format(time_us, text);
    return json_string(text);
}

static json_t *involved_object(const struct fl_event_about *about)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "apiVersion", about->api_version, "kind",
                               about->kind, "name", about->name, "uid", about->uid);

    if (about->ns[0])
        fl_json_set_str(object, "namespace", about->ns);
    if (about->resource_version[0])
        fl_json_set_str(object, "resourceVersion", about->resource_version);
    return object;
}

static json_t *event_object(const struct fl_event_note *note)
{
    const struct fl_event_about *about = &note->about;

    return json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:o, s:s, s:s, s:s, s:{s:s}, s:s, s:s, s:I, s:o, s:o}",
        "apiVersion", "v1", "kind", "Event", "metadata", "name", note->write.name, "namespace",
        namespace_of(note), "involvedObject", involved_object(about), "type",
        severity_name(about->severity), "reason", about->reason, "message", note->write.message,
        "source", "component", about->component, "reportingComponent", about->component,
        "reportingInstance", "", "count", (json_int_t)note->write.count, "firstTimestamp",
        time_text(note->write.first_us), "lastTimestamp", time_text(note->time_us));
}

static json_t *event_patch(const struct fl_event_note *note)
{
    return json_pack("{s:I, s:o, s:s}", "count", (json_int_t)note->write.count, "lastTimestamp",
                     time_text(note->time_us), "message", note->write.message);
}

static int call(struct fl_events *events, const struct fl_event_note *note, const char *method,
                const char *type, const char *name, const json_t *body, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(body);
    char target[TARGET_MAX];

    (void)snprintf(target, sizeof(target), "/api/v1/namespaces/%s/events%s%s", namespace_of(note),
                   name ? "/" : "", fl_str_or(name, ""));
    return fl_apiclient_call(events->options.client,
                             &(struct fl_api_call){.method = method,
                                                   .target = target,
                                                   .content_type = type,
                                                   .body = text->data,
                                                   .body_len = text->len,
                                                   .timeout_ms = CALL_TIMEOUT_MS},
                             NULL, err);
}

static int create(struct fl_events *events, const struct fl_event_note *note, struct fl_error *err)
{
    FL_JSON object = event_object(note);

    return call(events, note, "POST", "application/json", NULL, object, err);
}

/* One that is counted up may have expired since. */
static int write(struct fl_events *events, const struct fl_event_note *note, struct fl_error *err)
{
    FL_JSON patch = NULL;
    int r;

    if (note->write.count == 1)
        return create(events, note, err);
    patch = event_patch(note);
    r = call(events, note, "PATCH", "application/merge-patch+json", note->write.name, patch, err);
    return r == FL_E_NOT_FOUND ? create(events, note, err) : r;
}

/* The queue's first note, which stays there until it is done with. */
static struct fl_event_note *peek(struct fl_events *events)
{
    FL_LOCKED(events->lock);
    struct fl_event_note *note = events->first;

    return note && note->due_ms <= fl_monotonic_ms(events->options.env) ? note : NULL;
}

static void drop_first(struct fl_events *events)
{
    struct fl_event_note *note;
    FL_LOCKED(events->lock);

    note = events->first;
    events->first = note->next;
    if (!events->first)
        events->end = &events->first;
    events->count--;
    free_note(note);
}

static void put_off(struct fl_events *events, struct fl_event_note *note)
{
    FL_LOCKED(events->lock);

    note->due_ms = fl_monotonic_ms(events->options.env) + RETRY_MS / 2 +
                   (int64_t)fl_random_below(events->options.env, RETRY_MS);
}

/* Whether it shall be tried again. What the server refuses it will refuse again. */
static bool is_worth_a_try(struct fl_events *events, struct fl_event_note *note,
                           const struct fl_error *err)
{
    bool again = fl_error_is_retryable(err->code) && ++note->tries < TRIES_MAX;

    if (!again)
        fl_log_warn(events->options.env->log, "event dropped", FL_STR("object", note->about.name),
                    FL_STR("reason", note->about.reason), FL_STR("error", err->msg));
    return again;
}

static bool correlate(struct fl_events *events, struct fl_event_note *note)
{
    if (note->correlated)
        return true;
    note->correlated = true;
    return fl_correlate(events->correlator, note);
}

bool fl_events_write_next(struct fl_events *events)
{
    struct fl_event_note *note = peek(events);
    struct fl_error err = {0};

    if (!note)
        return false;
    if (!correlate(events, note)) {
        count_dropped(events, "budget");
    } else if (write(events, note, &err) == 0) {
        fl_metric_add(events->options.metrics, &written, "", 1);
    } else if (is_worth_a_try(events, note, &err)) {
        put_off(events, note);
        return false;
    } else {
        count_dropped(events, fl_error_is_retryable(err.code) ? "tries" : "refused");
    }
    drop_first(events);
    return true;
}

int64_t fl_events_next_due_ms(struct fl_events *events)
{
    FL_LOCKED(events->lock);

    if (!events->first)
        return INT64_MAX;
    return events->first->due_ms <= fl_monotonic_ms(events->options.env) ? 0
                                                                         : events->first->due_ms;
}
