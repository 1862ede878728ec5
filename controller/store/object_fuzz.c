/* Stored objects are found their way in by skipping, not by parsing. Any text: no crash. A value
 * that can be stored: the same as what a parser makes of it. */
#include "controller/store/store_internal.h"

#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fl_key key = {"flprojects.flops.dev", "ns", "name"};

static void check_labels(const struct fl_object *object, json_t *metadata)
{
    json_t *labels = json_object_get(metadata, "labels"), *value;
    const char *label;
    size_t strings = 0;

    json_object_foreach(labels, label, value)
        strings += json_is_string(value);
    if (strings != object->label_count)
        abort();
    for (size_t i = 0; i < object->label_count; i++) {
        const char *text = json_string_value(json_object_get(labels, object->labels[i].key));

        if (!fl_streq(text, object->labels[i].value) ||
            (i > 0 && strcmp(object->labels[i - 1].key, object->labels[i].key) >= 0))
            abort();
    }
}

static void check_value(json_t *value)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(value), *again = NULL;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    json_t *metadata = json_object_get(value, "metadata");
    struct fl_content content;

    if (fl_content_scan(text->data, text->len, &content, NULL) < 0) {
        if (json_is_object(metadata))
            abort();
        return;
    }
    object = fl_object_create(&key, 42, &content);
    (void)json_object_set_new(metadata, "resourceVersion", json_string("42"));
    again = fl_json_to_bytes(value);
    if (again->len != object->json->len || memcmp(again->data, object->json->data, again->len) != 0)
        abort();
    if (!fl_streq(object->uid, fl_str_or(json_string_value(json_object_get(metadata, "uid")), "")))
        abort();
    check_labels(object, metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fl_content content;
    FL_JSON value = NULL;

    if (fl_content_scan((const char *)data, size, &content, NULL) == 0)
        fl_object_unref(fl_object_create(&key, 7, &content));
    if (fl_json_parse((const char *)data, size, NULL, NULL, NULL, &value, NULL) == 0)
        check_value(value);
    return 0;
}
