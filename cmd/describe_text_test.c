#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cmd/describe_text.h"
#include "cmd/event_list.h"
#include "lib/env.h"
#include "lib/yaml.h"

#include <string.h>

static json_t *read(const char *text)
{
    json_t *value = NULL;
    struct fl_error err = {0};

    if (fl_yaml_parse(text, strlen(text), NULL, &value, &err) < 0)
        fail_msg("%s", err.msg);
    return value;
}

static void assert_page(const char *object_text, const char *events_text, const char *expected)
{
    FL_JSON object = read(object_text);
    FL_JSON events = events_text ? read(events_text) : NULL;
    int64_t now = 0;
    struct fl_buf out;

    assert_true(fl_time_parse("2026-01-01T01:00:00Z", &now));
    if (events)
        fl_events_sort(events);
    fl_buf_init(&out, 0);
    fl_describe_write(&out, object, events, now);
    assert_string_equal(fl_buf_text(&out), expected);
    fl_buf_finish(&out);
}

static void test_object(void **state)
{
    (void)state;
    assert_page(
        "apiVersion: flops.dev/v1\n"
        "kind: FLProject\n"
        "metadata:\n"
        "  name: a\n"
        "  namespace: team\n"
        "  labels: {x: q, z: w}\n"
        "  annotations: {note: hello}\n"
        "  creationTimestamp: '2026-01-01T00:00:00Z'\n"
        "  deletionTimestamp: '2026-01-01T00:58:00Z'\n"
        "  finalizers: [f/one, f/two]\n"
        "  ownerReferences:\n"
        "  - {kind: GitSync, name: g, controller: true}\n"
        "  - {kind: Other, name: o}\n"
        "spec: {rounds: 3, list: [1, 2]}\n"
        "status:\n"
        "  round: 2\n"
        "  conditions:\n"
        "  - {type: Ready, status: 'False', reason: Slow, message: wait,\n"
        "     lastTransitionTime: '2026-01-01T00:59:30Z'}\n",
        "- {lastTimestamp: '2026-01-01T00:59:00Z', type: Normal, reason: Second, message: two,"
        " count: 4, firstTimestamp: '2026-01-01T00:30:00Z'}\n"
        "- {eventTime: '2026-01-01T00:50:00.123456Z', type: Warning, reason: First,"
        " message: one}\n",
        "Name:          a\n"
        "Namespace:     team\n"
        "Labels:        x=q\n"
        "               z=w\n"
        "Annotations:   note: hello\n"
        "API Version:   flops.dev/v1\n"
        "Kind:          FLProject\n"
        "Created:       2026-01-01T00:00:00Z (60m ago)\n"
        "Deleting:      2026-01-01T00:58:00Z (2m ago)\n"
        "Finalizers:    f/one, f/two\n"
        "Controlled By: GitSync/g\n"
        "Owned By:      Other/o\n"
        "\n"
        "Spec:\n"
        "  list:\n"
        "  - 1\n"
        "  - 2\n"
        "  rounds: 3\n"
        "\n"
        "Status:\n"
        "  round: 2\n"
        "\n"
        "Conditions:\n"
        "  TYPE    STATUS   SINCE   REASON   MESSAGE\n"
        "  Ready   False    30s     Slow     wait\n"
        "\n"
        "Events:\n"
        "  LAST SEEN           TYPE      REASON   MESSAGE\n"
        "  9m59s               Warning   First    one\n"
        "  60s (x4 over 30m)   Normal    Second   two\n");
}

/* Neither the values nor what kubectl notes of them. */
static void test_secret(void **state)
{
    (void)state;
    assert_page("apiVersion: v1\n"
                "kind: Secret\n"
                "metadata:\n"
                "  name: s\n"
                "  annotations:\n"
                "    kubectl.kubernetes.io/last-applied-configuration: '{\"data\":\"hunter2\"}'\n"
                "data: {password: aHVudGVyMg==, empty: '', odd: '*'}\n"
                "type: Opaque\n",
                "[]",
                "Name:          s\n"
                "Labels:        <none>\n"
                "Annotations:   <none>\n"
                "API Version:   v1\n"
                "Kind:          Secret\n"
                "Type:          Opaque\n"
                "\n"
                "Data:\n"
                "  empty: 0 bytes\n"
                "  odd: 0 bytes\n"
                "  password: 7 bytes\n"
                "\n"
                "Events:        <none>\n");
}

static void test_little(void **state)
{
    (void)state;
    assert_page("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, annotations: "
                "{a: \"one\\ntwo\\e[31m\"}}\nimmutable: true\ndata: {}\n",
                NULL,
                "Name:          c\n"
                "Labels:        <none>\n"
                "Annotations:   a: one\n"
                "               two^[[31m\n"
                "API Version:   v1\n"
                "Kind:          ConfigMap\n"
                "Immutable:     true\n"
                "\n"
                "Events:        <unknown>\n");
}

static void test_event_times(void **state)
{
    static const struct {
        const char *event, *age;
    } cases[] = {
        {"{}", "<unknown>"},
        {"{eventTime: null, metadata: {creationTimestamp: '2026-01-01T00:59:00Z'}}", "60s"},
        {"{lastTimestamp: '2026-01-01T00:59:00Z', count: 1}", "60s"},
        {"{eventTime: '2026-01-01T00:30:00.000000Z', series: {count: 9, lastObservedTime: "
         "'2026-01-01T00:59:00.000000Z'}}",
         "60s (x9 over 30m)"},
        {"{lastTimestamp: rubbish}", "<unknown>"},
    };
    int64_t now = 0;

    (void)state;
    assert_true(fl_time_parse("2026-01-01T01:00:00Z", &now));
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_JSON event = read(cases[i].event);
        struct fl_buf out;

        fl_buf_init(&out, 0);
        fl_event_age(event, now, &out);
        assert_string_equal(fl_buf_text(&out), cases[i].age);
        fl_buf_finish(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_object),
        cmocka_unit_test(test_secret),
        cmocka_unit_test(test_little),
        cmocka_unit_test(test_event_times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
