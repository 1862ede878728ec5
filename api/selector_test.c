#include "api/selector.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Labels are written "a=1;b=2". */
static const char *get(void *user, const char *key)
{
    static char value[64];
    const char *at = user;

    while (at && *at) {
        size_t len = strcspn(at, "=");

        if (strlen(key) == len && strncmp(at, key, len) == 0) {
            (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(at + len + 1, ";"),
                           at + len + 1);
            return value;
        }
        at = strchr(at, ';');
        at = at ? at + 1 : NULL;
    }
    return NULL;
}

static const struct match {
    const char *selector, *labels;
    bool matches;
} label_matches[] = {
    {"a=1", "a=1", true},
    {"a=1", "a=2", false},
    {"a=1", "", false},
    {"a==1", "a=1", true},
    {"a = 1 , b = 2", "a=1;b=2", true},
    {"a=1,b=2", "a=1", false},
    {"a!=1", "a=2", true},
    {"a!=1", "", true},
    {"a!=1", "a=1", false},
    {"a=", "a=", true},
    {"a=", "", false},
    {"a", "a=", true},
    {"a", "b=1", false},
    {"!a", "b=1", true},
    {"!a", "a=", false},
    {"! a", "a=", false},
    {"a in (1,2)", "a=2", true},
    {"a in (1, 2)", "a=3", false},
    {"a in (1)", "", false},
    {"a in ()", "a=", true},
    {"a notin (1,2)", "a=3", true},
    {"a notin (1,2)", "a=1", false},
    {"a notin (1,2)", "", true},
    {"a>1", "a=2", true},
    {"a>1", "a=1", false},
    {"a<10", "a=9", true},
    {"a<10", "a=x", false},
    {"a>1", "", false},
    {"a in (1),!b,c", "a=1;c=", true},
    {"in in (in)", "in=in", true},
    {"notin", "notin=x", true},
    {"x.dev/a=1", "x.dev/a=1", true},
    {"", "a=1", true},
    {"  ", "a=1", true},
};

static void test_labels(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(label_matches); i++) {
        const struct match *match = &label_matches[i];
        struct fl_selector *selector = NULL;
        struct fl_error err = {0};

        if (fl_label_selector_parse(arena, match->selector, &selector, &err) < 0)
            fail_msg("%s: %s", match->selector, err.msg);
        if (fl_selector_matches(selector, get, (void *)match->labels) != match->matches)
            fail_msg("%s on %s", match->selector, match->labels);
    }
}

static const struct match field_matches[] = {
    {"metadata.name=a", "metadata.name=a", true},
    {"metadata.name=a", "metadata.name=b", false},
    {"metadata.name==a", "metadata.name=a", true},
    {"metadata.name!=a", "metadata.name=b", true},
    {"metadata.name!=a", "metadata.name=a", false},
    {"spec.x=", "", true},
    {"spec.x!=", "", false},
    {"spec.x!=a", "", true},
    {"spec.x=a b,spec.y=1", "spec.x=a b;spec.y=1", true},
    {"spec.x=a b,spec.y=1", "spec.x=a b;spec.y=2", false},
    {"spec.x=a\\,b", "spec.x=a,b", true},
    {"spec.x=a\\=b", "spec.x=a=b", true},
    {"spec.x=a\\\\b", "spec.x=a\\b", true},
    {"", "spec.x=a", true},
};

static void test_fields(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(field_matches); i++) {
        const struct match *match = &field_matches[i];
        struct fl_selector *selector = NULL;

        assert_int_equal(fl_field_selector_parse(arena, match->selector, &selector, NULL), 0);
        if (fl_selector_matches(selector, get, (void *)match->labels) != match->matches)
            fail_msg("%s on %s", match->selector, match->labels);
    }
}

static void test_refused(void **state)
{
    static const char *const labels[] = {
        "=1",   "a=1,", ",a", "a=1 b", "a in 1", "a in (1", "a in",  "a===1",    "a=1=2", "a=!",
        "!a=1", "a>x",  "a<", "a b",   "a=-",    "/a",      "x/y/z", "a in (!)", "(a)",   "!",
    };
    static const char *const fields[] = {"a", "a,b=c", "a=b,c", ","};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_selector *selector;
    struct fl_error err;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(labels); i++)
        if (fl_label_selector_parse(arena, labels[i], &selector, &err) != FL_E_BAD_REQUEST)
            fail_msg("taken: %s", labels[i]);
    for (size_t i = 0; i < FL_COUNT_OF(fields); i++)
        if (fl_field_selector_parse(arena, fields[i], &selector, &err) != FL_E_BAD_REQUEST)
            fail_msg("taken: %s", fields[i]);
}

static void test_bounds(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_selector *selector;
    struct fl_error err;
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    for (int i = 0; i < 256; i++)
        fl_buf_printf(&text, "%sk%d", i ? "," : "", i);
    assert_int_equal(fl_label_selector_parse(arena, text.data, &selector, &err), 0);
    fl_buf_puts(&text, ",more");
    assert_int_equal(fl_label_selector_parse(arena, text.data, &selector, &err), FL_E_BAD_REQUEST);
    fl_buf_clear(&text);
    fl_buf_puts(&text, "k in (v");
    for (int i = 0; i < 256; i++)
        fl_buf_printf(&text, ",%d", i);
    fl_buf_puts(&text, ")");
    assert_int_equal(fl_label_selector_parse(arena, text.data, &selector, &err), FL_E_BAD_REQUEST);
    fl_buf_clear(&text);
    for (int i = 0; i < 16 * 1024 + 1; i++)
        fl_buf_putc(&text, 'k');
    assert_int_equal(fl_label_selector_parse(arena, text.data, &selector, &err), FL_E_BAD_REQUEST);
    assert_int_equal(fl_field_selector_parse(arena, text.data, &selector, &err), FL_E_BAD_REQUEST);
    fl_buf_finish(&text);
}

static void test_keys_and_exact_values(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_selector *selector = NULL;
    const char *const *keys;

    (void)state;
    assert_int_equal(fl_field_selector_parse(arena, "metadata.name=a,spec.x!=b", &selector, NULL),
                     0);
    assert_int_equal(fl_selector_keys(selector, &keys), 2);
    assert_string_equal(keys[0], "metadata.name");
    assert_string_equal(keys[1], "spec.x");
    assert_string_equal(fl_selector_exact(selector, "metadata.name"), "a");
    assert_null(fl_selector_exact(selector, "spec.x"));
    assert_null(fl_selector_exact(NULL, "spec.x"));
    assert_int_equal(fl_selector_keys(NULL, &keys), 0);
}

static void test_object_form(void **state)
{
    static const struct match cases[] = {
        {"{}", "a=1", true},
        {"{\"matchLabels\":{\"a\":\"1\"}}", "a=1", true},
        {"{\"matchLabels\":{\"a\":\"1\"}}", "a=2", false},
        {"{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\",\"values\":[\"1\",\"2\"]}]}",
         "a=2", true},
        {"{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"NotIn\",\"values\":[\"1\"]}]}",
         "a=1", false},
        {"{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]}", "", false},
        {"{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"DoesNotExist\"}]}", "", true},
    };
    static const char *const refused[] = {
        "{\"matchLabels\":{\"a\":1}}",
        "{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Like\"}]}",
        "{\"matchExpressions\":[{\"operator\":\"Exists\"}]}",
        "{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\"}]}",
        "{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\",\"values\":[1]}]}",
        "{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\",\"values\":[\"1\"]}]}",
        "{\"matchExpressions\":[5]}",
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_selector *selector;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_JSON value = json_loads(cases[i].selector, 0, NULL);

        selector = NULL;
        assert_int_equal(fl_label_selector_from_json(arena, value, &selector, NULL), 0);
        if (fl_selector_matches(selector, get, (void *)cases[i].labels) != cases[i].matches)
            fail_msg("%s on %s", cases[i].selector, cases[i].labels);
    }
    for (size_t i = 0; i < FL_COUNT_OF(refused); i++) {
        FL_JSON value = json_loads(refused[i], 0, NULL);

        if (fl_label_selector_from_json(arena, value, &selector, NULL) != FL_E_BAD_REQUEST)
            fail_msg("taken: %s", refused[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_keys_and_exact_values),
        cmocka_unit_test(test_object_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
