/* Events: what happened to an object, for people, as client-go's recorder writes them.
 *
 * The same (object, type, reason, message) is one Event whose count and lastTimestamp move; from
 * the tenth different message of one (object, type, reason) within ten minutes they are combined
 * into one; an object has a budget of 25 and one more each five minutes. Noting never blocks: the
 * queue is bounded, what does not fit is dropped and counted, as is what could not be written in
 * twelve tries. fl_events_note: any thread; the rest: one thread at a time, the manager's own. */
#ifndef FL_CONTROLLER_EVENTS_H
#define FL_CONTROLLER_EVENTS_H

#include "controller/client/client.h"
#include "controller/runtime/metrics.h"
#include "controller/runtime/reconcile.h"

struct fl_events;

struct fl_events_options {
    const struct fl_env *env;
    struct fl_apiclient *client;
    struct fl_metric_registry *metrics; /* may be NULL */
    void (*wake)(void *user);           /* there is something to write: any thread; may be NULL */
    void *wake_user;
};

/* What is told. Texts are copied; messages are cut at 1,024 bytes. */
struct fl_event_about {
    const char *api_version, *kind, *ns, *name, *uid, *resource_version; /* ns NULL or "": none */
    const char *component;                                               /* the controller */
    enum fl_event_severity severity;
    const char *reason, *message;
};

#define FL_EVENTS_QUEUE_MAX 1000

struct fl_events *fl_events_create(const struct fl_events_options *options);
void fl_events_destroy(struct fl_events *events);
FL_DEFINE_CLEANUP(struct fl_events, fl_events_destroy)

void fl_events_note(struct fl_events *events, const struct fl_event_about *about);
/* Writes the next one that is due: true; false: none is. */
bool fl_events_write_next(struct fl_events *events);
/* Monotonic time of the next one; 0: now; INT64_MAX: none. Any thread. */
int64_t fl_events_next_due_ms(struct fl_events *events);

#endif
