#include "cmd/event_list.h"

#include "api/table.h"
#include "cmd/output.h"
#include "lib/str.h"

#include <ctype.h>
#include <stdlib.h>

/* When an event was seen last, as RFC 3339; "" where it does not say. Borrowed. */
static const char *last_seen(const json_t *event)
{
    static const char *const paths[] = {"series.lastObservedTime", "lastTimestamp", "eventTime",
                                        "firstTimestamp", "metadata.creationTimestamp"};

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++) {
        const char *time = fl_json_str(event, paths[i]);

        if (time && *time)
            return time;
    }
    return "";
}

static int64_t seen_us(const json_t *event)
{
    int64_t time = 0;

    return fl_time_parse(last_seen(event), &time) ? time : 0;
}

struct sort_item {
    int64_t seen;
    size_t index;
    json_t *event;
};

static int compare(const void *a, const void *b)
{
    const struct sort_item *x = a, *y = b;

    if (x->seen != y->seen)
        return x->seen < y->seen ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

void fl_events_sort(json_t *events)
{
    size_t count = json_array_size(events);
    FL_CLEANUP(fl_freep) struct sort_item *items = fl_calloc(count + 1, sizeof(*items));

    for (size_t i = 0; i < count; i++) {
        json_t *event = json_array_get(events, i);

        items[i] = (struct sort_item){seen_us(event), i, json_incref(event)};
    }
    qsort(items, count, sizeof(*items), compare);
    for (size_t i = 0; i < count; i++)
        (void)json_array_set_new(events, i, items[i].event);
}

void fl_event_age(const json_t *event, int64_t now_us, struct fl_buf *out)
{
    const char *first = fl_json_str(event, "firstTimestamp");
    int64_t count = fl_json_int(event, "series.count", fl_json_int(event, "count", 1));
    int64_t since = seen_us(event), from;
    char text[FL_DURATION_TEXT_SIZE];

    if (since == 0) {
        fl_buf_puts(out, "<unknown>");
        return;
    }
    fl_duration_human(now_us - since, text);
    fl_buf_puts(out, text);
    if (count <= 1)
        return;
    if (!first || !*first)
        first = fl_json_str(event, "eventTime");
    if (!first || !fl_time_parse(first, &from))
        from = since;
    fl_duration_human(now_us - from, text);
    fl_buf_printf(out, " (x%lld over %s)", (long long)count, text);
}

const char *fl_events_selector(struct fl_arena *arena, const char *kind, const char *name,
                               const char *uid)
{
    const char *const parts[][2] = {{"kind", kind}, {"name", name}, {"uid", uid}};
    const char *all = "";

    for (size_t i = 0; i < FL_COUNT_OF(parts); i++)
        if (parts[i][1])
            all = fl_arena_printf(arena, "%s%sinvolvedObject.%s=%s", all, *all ? "," : "",
                                  parts[i][0], parts[i][1]);
    return all;
}

int fl_events_get(struct fl_client *client, const char *ns, const char *field_selector,
                  json_t **ret_events, struct fl_error *err)
{
    const struct fl_api_resource events = {
        .group = "", .version = "v1", .plural = "events", .kind = "Event", .namespaced = true};
    struct fl_list_query query = {.ns = ns, .field_selector = field_selector, .chunk_size = 500};
    FL_JSON list = NULL;
    json_t *items, *item;
    size_t i;
    int r = fl_client_list(client, &events, &query, &list, err);

    if (r < 0)
        return r;
    items = json_object_get(list, "items");
    items = json_is_array(items) ? json_incref(items) : json_array();
    json_array_foreach(items, i, item)
        fl_discovery_complete(&events, item);
    fl_events_sort(items);
    *ret_events = items;
    return 0;
}

static const char *object_of(struct fl_arena *arena, const json_t *event)
{
    char *text =
        fl_arena_printf(arena, "%s/%s", fl_str_or(fl_json_str(event, "involvedObject.kind"), "?"),
                        fl_str_or(fl_json_str(event, "involvedObject.name"), "?"));

    for (char *c = text; *c && *c != '/'; c++)
        *c = (char)tolower((unsigned char)*c);
    return text;
}

json_t *fl_events_table(const json_t *events, bool with_namespace, bool with_object, int64_t now_us)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *columns[6] = {0};
    json_t *table, *event;
    size_t count = 0, i;

    if (with_namespace)
        columns[count++] = "Namespace";
    columns[count++] = "Last Seen";
    columns[count++] = "Type";
    columns[count++] = "Reason";
    if (with_object)
        columns[count++] = "Object";
    columns[count++] = "Message";
    table = fl_output_table(columns, count);
    json_array_foreach((json_t *)events, i, event) {
        const char *cells[6] = {0};
        struct fl_buf age;

        count = 0;
        fl_buf_init(&age, 0);
        fl_event_age(event, now_us, &age);
        if (with_namespace)
            cells[count++] = fl_json_str(event, "metadata.namespace");
        cells[count++] = fl_buf_text(&age);
        cells[count++] = fl_json_str(event, "type");
        cells[count++] = fl_json_str(event, "reason");
        if (with_object)
            cells[count++] = object_of(arena, event);
        cells[count++] = fl_json_str(event, "message");
        fl_output_table_row(table, cells, count);
        fl_buf_finish(&age);
    }
    return table;
}
