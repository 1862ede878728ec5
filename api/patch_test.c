#include "api/patch.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MAX_BYTES ((size_t)64 * 1024)

static json_t *parse(const char *text)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return value;
}

static void assert_json(const json_t *value, const char *expected, const char *what)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON wanted = parse(expected);

    if (!json_equal(value, wanted))
        fail_msg("%s: got %s, wanted %s", what, fl_json_to_string(arena, value), expected);
}

struct patch_case {
    const char *original, *patch, *expected; /* expected NULL: an error with this code */
    int code;
};

static const struct patch_case json_cases[] = {
    /* add */
    {"{}", "[]", "{}", 0},
    {"[]", "[]", "[]", 0},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b\",\"value\":2}]", "{\"a\":1,\"b\":2}", 0},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":[2]}]", "{\"a\":[2]}", 0},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"\",\"value\":[2]}]", "[2]", 0},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/\",\"value\":2}]", "{\"a\":1,\"\":2}", 0},
    {"{\"a\":{}}", "[{\"op\":\"add\",\"path\":\"/a/\",\"value\":2}]", "{\"a\":{\"\":2}}", 0},
    {"{\"a\":[1,3]}", "[{\"op\":\"add\",\"path\":\"/a/1\",\"value\":2}]", "{\"a\":[1,2,3]}", 0},
    {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/1\",\"value\":2}]", "{\"a\":[1,2]}", 0},
    {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/-\",\"value\":[2]}]", "{\"a\":[1,[2]]}", 0},
    {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/2\",\"value\":2}]", NULL, FL_E_INVALID},
    {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/-1\",\"value\":2}]", NULL, FL_E_INVALID},
    {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/01\",\"value\":2}]", NULL, FL_E_INVALID},
    {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/1e0\",\"value\":2}]", NULL, FL_E_INVALID},
    {"{\"a\":[1]}", "[{\"op\":\"add\",\"path\":\"/a/b\",\"value\":2}]", NULL, FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/a/b\",\"value\":2}]", NULL, FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b/c\",\"value\":2}]", NULL, FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"b\",\"value\":2}]", NULL, FL_E_BAD_REQUEST},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b\"}]", NULL, FL_E_BAD_REQUEST},
    {"{\"a\":1}", "[{\"op\":\"add\",\"value\":1}]", NULL, FL_E_BAD_REQUEST},
    {"{\"a\":1}", "[{\"op\":\"add\",\"path\":\"/b\",\"value\":null}]", "{\"a\":1,\"b\":null}", 0},
    {"{\"a\":[]}", "[{\"op\":\"add\",\"path\":\"/a/0\",\"value\":1}]", "{\"a\":[1]}", 0},
    {"[1,2]", "[{\"op\":\"add\",\"path\":\"/0\",\"value\":0}]", "[0,1,2]", 0},
    /* escapes */
    {"{\"a/b\":1}", "[{\"op\":\"replace\",\"path\":\"/a~1b\",\"value\":2}]", "{\"a/b\":2}", 0},
    {"{\"a~b\":1}", "[{\"op\":\"remove\",\"path\":\"/a~0b\"}]", "{}", 0},
    {"{\"~1\":1}", "[{\"op\":\"test\",\"path\":\"/~01\",\"value\":1}]", "{\"~1\":1}", 0},
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/a~2\"}]", NULL, FL_E_BAD_REQUEST},
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/a~\"}]", NULL, FL_E_BAD_REQUEST},
    /* remove and replace */
    {"{\"a\":1,\"b\":2}", "[{\"op\":\"remove\",\"path\":\"/a\"}]", "{\"b\":2}", 0},
    {"{\"a\":[1,2,3]}", "[{\"op\":\"remove\",\"path\":\"/a/1\"}]", "{\"a\":[1,3]}", 0},
    {"{\"a\":[1]}", "[{\"op\":\"remove\",\"path\":\"/a/1\"}]", NULL, FL_E_INVALID},
    {"{\"a\":[1]}", "[{\"op\":\"remove\",\"path\":\"/a/-\"}]", NULL, FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/b\"}]", NULL, FL_E_INVALID},
    {"{\"a\":null}", "[{\"op\":\"remove\",\"path\":\"/a\"}]", "{}", 0},
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"\"}]", "null", 0},
    {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":{}}]", "{\"a\":{}}", 0},
    {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"/b\",\"value\":{}}]", NULL, FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"replace\",\"path\":\"\",\"value\":{}}]", "{}", 0},
    {"[1,2,3]", "[{\"op\":\"replace\",\"path\":\"/1\",\"value\":[]}]", "[1,[],3]", 0},
    {"[1,2,3]", "[{\"op\":\"replace\",\"path\":\"/3\",\"value\":[]}]", NULL, FL_E_INVALID},
    {"[1,2,3]", "[{\"op\":\"replace\",\"path\":\"/-\",\"value\":[]}]", NULL, FL_E_INVALID},
    {"{\"a\":null}", "[{\"op\":\"replace\",\"path\":\"/a\",\"value\":1}]", "{\"a\":1}", 0},
    /* move and copy */
    {"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/b\"}]", "{\"b\":1}", 0},
    {"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a\"}]", "{\"a\":1}", 0},
    {"{\"a\":[1,2,3]}", "[{\"op\":\"move\",\"from\":\"/a/0\",\"path\":\"/a/2\"}]",
     "{\"a\":[2,3,1]}", 0},
    {"{\"a\":{\"b\":1}}", "[{\"op\":\"move\",\"from\":\"/a/b\",\"path\":\"\"}]", "1", 0},
    {"{\"a\":{\"b\":1}}", "[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b\"}]", NULL,
     FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"move\",\"from\":\"/b\",\"path\":\"/a\"}]", NULL, FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"move\",\"path\":\"/a\"}]", NULL, FL_E_BAD_REQUEST},
    {"{\"a\":[1]}", "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/-\"}]", "{\"a\":[1,[1]]}", 0},
    {"{\"a\":{}}",
     "[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/b\"},"
     "{\"op\":\"add\",\"path\":\"/b/c\",\"value\":1}]",
     "{\"a\":{},\"b\":{\"c\":1}}", 0},
    {"{\"a\":1}", "[{\"op\":\"copy\",\"from\":\"/b\",\"path\":\"/a\"}]", NULL, FL_E_INVALID},
    /* test */
    {"{\"a\":{\"b\":[1,\"x\"]}}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":{\"b\":[1,\"x\"]}}]",
     "{\"a\":{\"b\":[1,\"x\"]}}", 0},
    {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":1.0}]", "{\"a\":1}", 0},
    {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":\"1\"}]", NULL, FL_E_INVALID},
    {"{\"a\":[1,2]}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":[1]}]", NULL, FL_E_INVALID},
    {"{\"a\":{\"b\":1}}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":{\"c\":1}}]", NULL,
     FL_E_INVALID},
    {"{\"a\":null}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":null}]", "{\"a\":null}", 0},
    {"{}", "[{\"op\":\"test\",\"path\":\"/a\",\"value\":null}]", NULL, FL_E_INVALID},
    {"{\"a\":1}", "[{\"op\":\"test\",\"path\":\"\",\"value\":{\"a\":1}}]", "{\"a\":1}", 0},
    /* the whole patch or nothing, and what is no patch */
    {"{\"a\":1}", "[{\"op\":\"remove\",\"path\":\"/a\"},{\"op\":\"remove\",\"path\":\"/a\"}]", NULL,
     FL_E_INVALID},
    {"{}", "{}", NULL, FL_E_BAD_REQUEST},
    {"{}", "[1]", NULL, FL_E_BAD_REQUEST},
    {"{}", "[{\"op\":\"spam\",\"path\":\"/a\"}]", NULL, FL_E_BAD_REQUEST},
    {"{}", "[{\"path\":\"/a\"}]", NULL, FL_E_BAD_REQUEST},
    {"{}", "[{\"op\":1,\"path\":\"/a\"}]", NULL, FL_E_BAD_REQUEST},
    {"{}", "[{\"op\":\"remove\",\"path\":1}]", NULL, FL_E_BAD_REQUEST},
};

static void test_json_patch(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(json_cases); i++) {
        const struct patch_case *c = &json_cases[i];
        struct fl_error err = {0};
        FL_JSON original = parse(c->original);
        FL_JSON patch = parse(c->patch);
        FL_JSON result = NULL;
        int r = fl_patch_json(original, patch, MAX_BYTES, &result, &err);

        if (r != c->code)
            fail_msg("%s on %s: %d (%s)", c->patch, c->original, r, err.msg);
        if (c->expected)
            assert_json(result, c->expected, c->patch);
        else
            assert_null(result);
        assert_json(original, c->original, "the original");
    }
}

static void test_json_patch_error_names_operation(void **state)
{
    struct fl_error err = {0};
    FL_JSON original = parse("{\"a\":1}");
    FL_JSON patch = parse("[{\"op\":\"test\",\"path\":\"/a\",\"value\":1},"
                          "{\"op\":\"test\",\"path\":\"/a\",\"value\":2}]");
    FL_JSON result = NULL;

    (void)state;
    assert_int_equal(fl_patch_json(original, patch, MAX_BYTES, &result, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "operation 1 (test): test failed at \"/a\"");
}

/* Each copy doubles the object; sixteen of them are already sixty-five thousand times as much. */
static void test_copy_bomb(void **state)
{
    struct fl_error err = {0};
    FL_JSON original = parse("{\"a\":[\"0123456789\"]}");
    FL_JSON patch = json_array();
    FL_JSON result = NULL;

    (void)state;
    for (int i = 0; i < 9999; i++)
        (void)json_array_append_new(
            patch, json_pack("{ssssss}", "op", "copy", "from", "/a", "path", "/a/-"));
    assert_int_equal(fl_patch_json(original, patch, MAX_BYTES, &result, &err), FL_E_TOO_LARGE);
    (void)json_array_append_new(patch, json_object());
    (void)json_array_append_new(patch, json_object());
    assert_int_equal(fl_patch_json(original, patch, MAX_BYTES, &result, &err), FL_E_TOO_LARGE);
}

/* Moves cost nothing in size, but each may nest deeper than a reader of JSON accepts. */
static void test_nesting(void **state)
{
    struct fl_error err = {0};
    FL_JSON original = parse("{\"a\":{},\"b\":{}}");
    FL_JSON patch = json_array();
    FL_JSON result = NULL;

    (void)state;
    for (int i = 0; i < 500; i++) {
        (void)json_array_append_new(
            patch, json_pack("{ssssss}", "op", "move", "from", "/a", "path", "/b/a"));
        (void)json_array_append_new(
            patch, json_pack("{ssssss}", "op", "move", "from", "/b", "path", "/a"));
        (void)json_array_append_new(
            patch, json_pack("{ssssso}", "op", "add", "path", "/b", "value", json_object()));
    }
    assert_int_equal(fl_patch_json(original, patch, MAX_BYTES, &result, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "nests too deep"));
}

static const struct patch_case merge_cases[] = {
    {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}", 0},
    {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}", 0},
    {"{\"a\":\"b\"}", "{\"a\":null}", "{}", 0},
    {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}", 0},
    {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}", 0},
    {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}", 0},
    {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}", 0},
    {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}", 0},
    {"[\"a\",\"b\"]", "{\"a\":1}", "{\"a\":1}", 0},
    {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}", 0},
    {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}", 0},
    {"{\"a\":1}", "{\"a\":{\"b\":{\"c\":null,\"d\":[null]}}}", "{\"a\":{\"b\":{\"d\":[null]}}}", 0},
    {"{\"a\":1}", "[1]", NULL, FL_E_BAD_REQUEST},
    {"{\"a\":1}", "null", NULL, FL_E_BAD_REQUEST},
};

static void test_merge_patch(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(merge_cases); i++) {
        const struct patch_case *c = &merge_cases[i];
        struct fl_error err = {0};
        FL_JSON original = parse(c->original);
        FL_JSON patch = parse(c->patch);
        FL_JSON result = NULL;

        assert_int_equal(fl_patch_merge(original, patch, &result, &err), c->code);
        if (c->expected)
            assert_json(result, c->expected, c->patch);
        assert_json(original, c->original, "the original");
    }
}

static const struct fl_strategic_list lists[] = {
    {"metadata.finalizers", NULL},
    {"metadata.ownerReferences", "uid"},
};

#define META(text) "{\"metadata\":{" text "}}"
static const struct patch_case strategic_cases[] = {
    {"{\"data\":{\"a\":\"1\",\"b\":\"2\"}}", "{\"data\":{\"a\":null,\"c\":\"3\"}}",
     "{\"data\":{\"b\":\"2\",\"c\":\"3\"}}", 0},
    {"{\"data\":{\"a\":\"1\"}}", "{\"data\":{\"$patch\":\"replace\",\"b\":\"2\"}}",
     "{\"data\":{\"b\":\"2\"}}", 0},
    {"{\"data\":{\"a\":\"1\"}}", "{\"data\":{\"$patch\":\"delete\"}}", "{\"data\":{}}", 0},
    {"{\"data\":{\"a\":\"1\"}}", "{\"data\":{\"$patch\":\"spam\"}}", NULL, FL_E_BAD_REQUEST},
    {"{\"data\":{\"a\":\"1\",\"b\":\"2\"}}", "{\"data\":{\"$retainKeys\":[\"a\"],\"a\":\"3\"}}",
     "{\"data\":{\"a\":\"3\"}}", 0},
    {"{\"data\":{\"a\":\"1\",\"b\":\"2\"}}", "{\"data\":{\"$retainKeys\":[\"a\"],\"b\":\"3\"}}",
     NULL, FL_E_BAD_REQUEST},
    {META("\"finalizers\":[\"a\",\"b\"]"), META("\"finalizers\":[\"c\",\"b\"]"),
     META("\"finalizers\":[\"c\",\"a\",\"b\"]"), 0},
    {META("\"finalizers\":[\"a\",\"b\",\"c\"]"),
     META("\"$deleteFromPrimitiveList/finalizers\":[\"b\"]"), META("\"finalizers\":[\"a\",\"c\"]"),
     0},
    {META("\"finalizers\":[\"a\",\"b\",\"c\"]"),
     META("\"$setElementOrder/finalizers\":[\"c\",\"a\"]"),
     META("\"finalizers\":[\"b\",\"c\",\"a\"]"), 0},
    {META("\"finalizers\":[\"a\",\"b\"]"),
     META("\"$deleteFromPrimitiveList/finalizers\":[\"a\"],"
          "\"$setElementOrder/finalizers\":[\"b\",\"c\"],\"finalizers\":[\"c\"]"),
     META("\"finalizers\":[\"b\",\"c\"]"), 0},
    {META("\"finalizers\":[\"a\"]"),
     META("\"$setElementOrder/finalizers\":[\"b\",\"a\"],\"finalizers\":[\"a\",\"b\"]"), NULL,
     FL_E_BAD_REQUEST},
    {META("\"ownerReferences\":[{\"uid\":\"1\",\"name\":\"a\"},{\"uid\":\"2\",\"name\":\"b\"}]"),
     META("\"ownerReferences\":[{\"uid\":\"2\",\"kind\":\"K\"},{\"uid\":\"3\"}]"),
     META("\"ownerReferences\":[{\"uid\":\"1\",\"name\":\"a\"},"
          "{\"uid\":\"2\",\"name\":\"b\",\"kind\":\"K\"},{\"uid\":\"3\"}]"),
     0},
    {META("\"ownerReferences\":[{\"uid\":\"1\"},{\"uid\":\"2\"}]"),
     META("\"ownerReferences\":[{\"uid\":\"1\",\"$patch\":\"delete\"}]"),
     META("\"ownerReferences\":[{\"uid\":\"2\"}]"), 0},
    {META("\"ownerReferences\":[{\"uid\":\"1\"},{\"uid\":\"2\"}]"),
     META("\"ownerReferences\":[{\"uid\":\"3\"},{\"$patch\":\"replace\"}]"),
     META("\"ownerReferences\":[{\"uid\":\"3\"}]"), 0},
    {META("\"ownerReferences\":[{\"uid\":\"1\"}]"), META("\"ownerReferences\":[{\"name\":\"1\"}]"),
     NULL, FL_E_BAD_REQUEST},
    {META("\"ownerReferences\":[{\"uid\":\"1\"}]"), META("\"ownerReferences\":[7]"), NULL,
     FL_E_BAD_REQUEST},
    {META("\"ownerReferences\":[{\"uid\":\"1\"}]"), META("\"ownerReferences\":null"), META(""), 0},
    {META("\"ownerReferences\":[{\"uid\":\"1\"}]"),
     META("\"ownerReferences\":[{\"uid\":null,\"name\":\"x\"}]"), NULL, FL_E_BAD_REQUEST},
    {META("\"ownerReferences\":[{\"uid\":\"1\"}]"),
     META("\"ownerReferences\":[{\"uid\":\"2\",\"a\":{\"b\":null,\"$retainKeys\":[]}}]"),
     META("\"ownerReferences\":[{\"uid\":\"2\",\"a\":{}},{\"uid\":\"1\"}]"), 0},
    {META(""),
     META("\"$setElementOrder/ownerReferences\":[{\"uid\":null}],"
          "\"ownerReferences\":[{\"uid\":null}]"),
     NULL, FL_E_BAD_REQUEST},
    {"{\"data\":{}}", "{\"data\":{\"$patch\":\"replace\",\"a\":null,\"$retainKeys\":[\"a\"]}}",
     "{\"data\":{}}", 0},
    {"{\"items\":[1,2]}", "{\"items\":[3]}", "{\"items\":[3]}", 0},
    {"{}", "{\"metadata\":{\"labels\":{\"a\":null,\"b\":\"1\"},\"finalizers\":[\"x\"]}}",
     "{\"metadata\":{\"labels\":{\"b\":\"1\"},\"finalizers\":[\"x\"]}}", 0},
    {"{}", "[]", NULL, FL_E_BAD_REQUEST},
};

static void test_strategic_patch(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(strategic_cases); i++) {
        const struct patch_case *c = &strategic_cases[i];
        struct fl_error err = {0};
        FL_JSON original = parse(c->original);
        FL_JSON patch = parse(c->patch);
        FL_JSON result = NULL;
        int r = fl_patch_strategic(original, patch, lists, FL_COUNT_OF(lists), &result, &err);

        if (r != c->code)
            fail_msg("%s on %s: %d (%s)", c->patch, c->original, r, err.msg);
        if (c->expected)
            assert_json(result, c->expected, c->patch);
        assert_json(original, c->original, "the original");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_patch),  cmocka_unit_test(test_json_patch_error_names_operation),
        cmocka_unit_test(test_copy_bomb),   cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_merge_patch), cmocka_unit_test(test_strategic_patch),
    };

    return cmocka_run_group_tests_name("patch", tests, NULL, NULL);
}
