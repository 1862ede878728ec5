#include "cmd/describe_text.h"

#include "api/table.h"
#include "cmd/event_list.h"
#include "cmd/output.h"
#include "lib/env.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <stdlib.h>

#define VALUE_COLUMN 15
#define LAST_APPLIED "kubectl.kubernetes.io/last-applied-configuration"

static void put_key(struct fl_buf *out, const char *key)
{
    size_t width = strlen(key) + 1;

    fl_buf_printf(out, "%s:", key);
    for (; width < VALUE_COLUMN; width++)
        fl_buf_putc(out, ' ');
}

/* More lines are indented to the value's column; what a terminal would obey is made visible. */
static void put_value(struct fl_buf *out, const char *value)
{
    for (; *value; value++) {
        if (*value == '\n' && value[1])
            fl_buf_printf(out, "\n%*s", VALUE_COLUMN, "");
        else if ((unsigned char)*value >= ' ' && *value != 0x7F)
            fl_buf_putc(out, *value);
        else if (*value == 0x1B)
            fl_buf_puts(out, "^[");
        else
            fl_buf_putc(out, ' ');
    }
    fl_buf_putc(out, '\n');
}

static void put_line(struct fl_buf *out, const char *key, const char *value)
{
    if (!value || !*value)
        return;
    put_key(out, key);
    put_value(out, value);
}

static void put_map(struct fl_buf *out, const char *title, const json_t *map, const char *between)
{
    const char *key;
    json_t *value;
    bool first = true;

    put_key(out, title);
    json_object_foreach((json_t *)map, key, value) {
        if (strcmp(key, LAST_APPLIED) == 0)
            continue;
        if (!first)
            fl_buf_printf(out, "%*s", VALUE_COLUMN, "");
        first = false;
        fl_buf_printf(out, "%s%s", key, between);
        put_value(out, fl_str_or(json_string_value(value), ""));
    }
    if (first)
        fl_buf_puts(out, "<none>\n");
}

static void put_time(struct fl_buf *out, const char *key, const char *time, int64_t now_us)
{
    char age[FL_DURATION_TEXT_SIZE];
    int64_t then;

    if (!time || !fl_time_parse(time, &then))
        return;
    fl_duration_human(now_us - then, age);
    put_key(out, key);
    fl_buf_printf(out, "%s (%s ago)\n", time, age);
}

static void put_list(struct fl_buf *out, const char *key, const json_t *list)
{
    json_t *item;
    size_t i;

    if (json_array_size(list) == 0)
        return;
    put_key(out, key);
    json_array_foreach((json_t *)list, i, item)
        fl_buf_printf(out, "%s%s", i ? ", " : "", fl_str_or(json_string_value(item), "?"));
    fl_buf_putc(out, '\n');
}

static void put_owners(struct fl_buf *out, const json_t *owners)
{
    json_t *owner;
    size_t i;

    json_array_foreach((json_t *)owners, i, owner) {
        put_key(out, fl_json_bool(owner, "controller", false) ? "Controlled By" : "Owned By");
        fl_buf_printf(out, "%s/%s\n", fl_str_or(fl_json_str(owner, "kind"), "?"),
                      fl_str_or(fl_json_str(owner, "name"), "?"));
    }
}

static void put_metadata(struct fl_buf *out, const json_t *object, int64_t now_us)
{
    const json_t *metadata = json_object_get(object, "metadata");

    put_line(out, "Name", fl_json_str(metadata, "name"));
    put_line(out, "Namespace", fl_json_str(metadata, "namespace"));
    put_map(out, "Labels", json_object_get(metadata, "labels"), "=");
    put_map(out, "Annotations", json_object_get(metadata, "annotations"), ": ");
    put_line(out, "API Version", fl_json_str(object, "apiVersion"));
    put_line(out, "Kind", fl_json_str(object, "kind"));
    put_time(out, "Created", fl_json_str(metadata, "creationTimestamp"), now_us);
    put_time(out, "Deleting", fl_json_str(metadata, "deletionTimestamp"), now_us);
    put_list(out, "Finalizers", json_object_get(metadata, "finalizers"));
    put_owners(out, json_object_get(metadata, "ownerReferences"));
}

static void put_indented(struct fl_buf *out, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        if (len > 0)
            fl_buf_puts(out, "  ");
        fl_buf_append(out, text, len);
        fl_buf_putc(out, '\n');
        text += len + (text[len] == '\n');
    }
}

/* Fields keep the names under which `flops explain` knows them; only the sections have titles. */
static void put_section(struct fl_buf *out, const char *key, const json_t *value)
{
    struct fl_buf text;
    char *title = fl_strdup(key);

    if (*title >= 'a' && *title <= 'z')
        *title = (char)(*title - 'a' + 'A');
    if (!json_is_object(value) && !json_is_array(value)) {
        fl_buf_init(&text, 0);
        fl_yaml_write(&text, value);
        put_key(out, title);
        fl_buf_puts(out, fl_buf_text(&text));
        fl_buf_finish(&text);
    } else if (json_object_size(value) + json_array_size(value) > 0) {
        fl_buf_init(&text, 0);
        fl_yaml_write(&text, value);
        fl_buf_printf(out, "\n%s:\n", title);
        put_indented(out, fl_buf_text(&text));
        fl_buf_finish(&text);
    }
    free(title);
}

static void put_table(struct fl_buf *out, const json_t *table)
{
    struct fl_table_print_options options = {0};
    struct fl_buf text;

    fl_buf_init(&text, 0);
    fl_table_print(table, &options, &text);
    put_indented(out, fl_buf_text(&text));
    fl_buf_finish(&text);
}

static void put_conditions(struct fl_buf *out, const json_t *conditions, int64_t now_us)
{
    static const char *const columns[] = {"Type", "Status", "Since", "Reason", "Message"};
    FL_JSON table = fl_output_table(columns, FL_COUNT_OF(columns));
    json_t *condition;
    size_t i;

    if (json_array_size(conditions) == 0)
        return;
    json_array_foreach((json_t *)conditions, i, condition) {
        const char *time = fl_json_str(condition, "lastTransitionTime");
        char age[FL_DURATION_TEXT_SIZE] = "<unknown>";
        int64_t then;

        if (time && fl_time_parse(time, &then))
            fl_duration_human(now_us - then, age);
        fl_output_table_row(table,
                            (const char *const[]){fl_json_str(condition, "type"),
                                                  fl_json_str(condition, "status"), age,
                                                  fl_json_str(condition, "reason"),
                                                  fl_json_str(condition, "message")},
                            FL_COUNT_OF(columns));
    }
    fl_buf_puts(out, "\nConditions:\n");
    put_table(out, table);
}

static void put_events(struct fl_buf *out, const json_t *events, int64_t now_us)
{
    FL_JSON table = fl_events_table(events, false, false, now_us);

    if (!events) {
        fl_buf_puts(out, "\nEvents:        <unknown>\n");
    } else if (json_array_size(events) == 0) {
        fl_buf_puts(out, "\nEvents:        <none>\n");
    } else {
        fl_buf_puts(out, "\nEvents:\n");
        put_table(out, table);
    }
}

/* {"password": "aGVsbG8="} becomes {"password": "5 bytes"}. */
static json_t *sizes_of(const json_t *data, bool is_base64)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    json_t *sizes = json_object(), *value;
    const char *key;

    json_object_foreach((json_t *)data, key, value) {
        const char *text = fl_str_or(json_string_value(value), "");
        size_t len = strlen(text);
        char *decoded;

        if (is_base64 && !fl_base64_decode(arena, text, len, &decoded, &len))
            len = 0;
        fl_json_set_str(sizes, key, fl_arena_printf(arena, "%zu byte%s", len, len == 1 ? "" : "s"));
    }
    return sizes;
}

static bool is_secret(const json_t *object)
{
    return fl_streq(fl_json_str(object, "kind"), "Secret") &&
           fl_streq(fl_json_str(object, "apiVersion"), "v1");
}

static bool is_elsewhere(const char *key)
{
    static const char *const keys[] = {"apiVersion", "kind", "metadata", "status"};

    for (size_t i = 0; i < FL_COUNT_OF(keys); i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

void fl_describe_write(struct fl_buf *out, const json_t *object, const json_t *events,
                       int64_t now_us)
{
    FL_JSON status = json_copy(json_object_get(object, "status"));
    bool secret = is_secret(object);
    const char *key;
    json_t *value;

    put_metadata(out, object, now_us);
    for (int whole = 0; whole < 2; whole++) /* single values first, then what has parts */
        json_object_foreach((json_t *)object, key, value) {
            bool hidden = secret && (strcmp(key, "data") == 0 || strcmp(key, "stringData") == 0);
            FL_JSON sizes = hidden ? sizes_of(value, strcmp(key, "data") == 0) : NULL;
            bool has_parts = json_is_object(value) || json_is_array(value);

            if (!is_elsewhere(key) && has_parts == (whole > 0))
                put_section(out, key, sizes ? sizes : value);
        }
    (void)json_object_del(status, "conditions");
    if (status)
        put_section(out, "status", status);
    put_conditions(out, fl_json_path(object, "status.conditions"), now_us);
    put_events(out, events, now_us);
}
