/* Events for people: the newest last. */
#ifndef FL_CMD_EVENT_LIST_H
#define FL_CMD_EVENT_LIST_H

#include "cmd/discovery.h"

/* Sorts a JSON array of events by when each was seen last. */
void fl_events_sort(json_t *events);
/* "5m", or "5m (x3 over 1h)". */
void fl_event_age(const json_t *event, int64_t now_us, struct fl_buf *out);

/* A field selector for the events of one object; name, kind and uid may be NULL. In the arena. */
const char *fl_events_selector(struct fl_arena *arena, const char *kind, const char *name,
                               const char *uid);
/* A sorted array, the caller's. `ns` NULL: all namespaces. */
int fl_events_get(struct fl_client *client, const char *ns, const char *field_selector,
                  json_t **ret_events, struct fl_error *err);

/* Columns LAST SEEN, TYPE, REASON, OBJECT, MESSAGE (without OBJECT where they are of one object).
 */
json_t *fl_events_table(const json_t *events, bool with_namespace, bool with_object,
                        int64_t now_us);

#endif
