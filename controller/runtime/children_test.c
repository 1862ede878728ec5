/* Names of children, merge patches, and whether an apply would change anything: pure functions. */
#include "controller/runtime/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#include "api/meta.h"

#define LONG63 "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz1"

static void test_names(void **state)
{
    static const struct {
        const char *owner, *uid, *role, *beginning;
    } cases[] = {
        {"mnist", "u1", "learner-0", "mnist-learner-0-"},
        {"a.b", "u1", "root", "a-b-root-"},
        {LONG63, "u1", "learner-0", "abcdefghijklmnopqrstuvwxyz0123456789abcdef-learner-0-"},
        {"x", "u1", LONG63, "x-abcdefghijklmnopqrstuvwxyz0123456789abcd-"},
        {LONG63, "u1", LONG63, "abcdefghi"},
        {"mnist", "u1", "Tier_2 East", "mnist-tier-2-east-"},
        {"ends-in.", "u1", "r", "ends-in-r-"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *why;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        char *name = fl_child_name(arena, cases[i].owner, cases[i].uid, cases[i].role);

        if (!fl_str_has_prefix(name, cases[i].beginning))
            fail_msg("%s does not begin with %s", name, cases[i].beginning);
        assert_true(strlen(name) <= 63);
        assert_true(fl_name_is_label(name, &why));
        assert_string_equal(name,
                            fl_child_name(arena, cases[i].owner, cases[i].uid, cases[i].role));
    }
}

/* Owners, uids and roles that look alike do not share a child. */
static void test_names_differ(void **state)
{
    static const struct {
        const char *owner, *uid, *role;
    } cases[] = {
        {"m", "u1", "a-b"}, {"m", "u2", "a-b"},  {"m", "u1", "a.b"},  {"m", "u1", "A-b"},
        {"m", "u1a", "-b"}, {"m", "u1", "a-b-"}, {"m", "u1", LONG63}, {"m", "u1", LONG63 "x"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(
                fl_child_name(arena, cases[i].owner, cases[i].uid, cases[i].role),
                fl_child_name(arena, cases[j].owner, cases[j].uid, cases[j].role));
}

static json_t *parse(struct fl_arena *arena, const char *text)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return fl_json_in_arena(arena, value);
}

static void test_merge_diff(void **state)
{
    static const struct {
        const char *before, *after, *patch; /* NULL: none */
    } cases[] = {
        {"{}", "{}", NULL},
        {"{\"a\":1}", "{\"a\":1}", NULL},
        {"{\"a\":1}", "{\"a\":2}", "{\"a\":2}"},
        {"{\"a\":1}", "{}", "{\"a\":null}"},
        {"{}", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"},
        {"{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"b\":1,\"c\":3}}", "{\"a\":{\"c\":3}}"},
        {"{\"a\":{\"b\":1}}", "{\"a\":{}}", "{\"a\":{\"b\":null}}"},
        {"{\"a\":[1,2]}", "{\"a\":[2,1]}", "{\"a\":[2,1]}"},
        {"{\"a\":1}", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"},
        {"{\"a\":{\"b\":1}}", "{\"a\":1}", "{\"a\":1}"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_JSON patch = fl_merge_diff(parse(arena, cases[i].before), parse(arena, cases[i].after));

        if (!cases[i].patch)
            assert_null(patch);
        else
            assert_string_equal(fl_json_to_string(arena, patch), cases[i].patch);
    }
}

/* Each object is what one manager, "m", applied; then something is different. */

#define OWNED(fields)                                                                              \
    "\"metadata\":{\"name\":\"x\",\"labels\":{\"l\":\"1\"},\"managedFields\":[{\"manager\":\"m\"," \
    "\"operation\":\"Apply\",\"fieldsV1\":{\"f:metadata\":{\"f:labels\":{\"f:l\":{}}},"            \
    "\"f:spec\":" fields "}}]}"
#define LIVE(fields, spec)                                                                         \
    "{\"apiVersion\":\"t/v1\",\"kind\":\"T\"," OWNED(fields) ",\"spec\":" spec "}"
#define APPLIED(spec)                                                                              \
    "{\"apiVersion\":\"t/v1\",\"kind\":\"T\",\"metadata\":{\"name\":\"x\",\"labels\":"             \
    "{\"l\":\"1\"}},\"spec\":" spec "}"

static void test_is_applied(void **state)
{
    static const struct {
        const char *live, *applied;
        bool is;
    } cases[] = {
        {LIVE("{\"f:a\":{}}", "{\"a\":1}"), APPLIED("{\"a\":1}"), true},
        /* others have more */
        {LIVE("{\"f:a\":{}}", "{\"a\":1,\"b\":2}"), APPLIED("{\"a\":1}"), true},
        /* drift */
        {LIVE("{\"f:a\":{}}", "{\"a\":2}"), APPLIED("{\"a\":1}"), false},
        {LIVE("{\"f:a\":{}}", "{}"), APPLIED("{\"a\":1}"), false},
        /* a field more, a field less */
        {LIVE("{\"f:a\":{}}", "{\"a\":1,\"b\":2}"), APPLIED("{\"a\":1,\"b\":2}"), false},
        {LIVE("{\"f:a\":{},\"f:b\":{}}", "{\"a\":1,\"b\":2}"), APPLIED("{\"a\":1}"), false},
        /* below */
        {LIVE("{\"f:a\":{\"f:b\":{}}}", "{\"a\":{\"b\":1,\"c\":2}}"), APPLIED("{\"a\":{\"b\":1}}"),
         true},
        {LIVE("{\"f:a\":{\"f:b\":{},\"f:c\":{}}}", "{\"a\":{\"b\":1,\"c\":2}}"),
         APPLIED("{\"a\":{\"b\":1}}"), false},
        /* an atomic list */
        {LIVE("{\"f:a\":{}}", "{\"a\":[1,2]}"), APPLIED("{\"a\":[1,2]}"), true},
        {LIVE("{\"f:a\":{}}", "{\"a\":[1,2,3]}"), APPLIED("{\"a\":[1,2]}"), false},
        /* a keyed list */
        {LIVE("{\"f:a\":{\"k:{\\\"n\\\":\\\"x\\\"}\":{\".\":{},\"f:n\":{},\"f:v\":{}}}}",
              "{\"a\":[{\"n\":\"y\"},{\"n\":\"x\",\"v\":1}]}"),
         APPLIED("{\"a\":[{\"n\":\"x\",\"v\":1}]}"), true},
        {LIVE("{\"f:a\":{\"k:{\\\"n\\\":\\\"x\\\"}\":{\".\":{},\"f:n\":{},\"f:v\":{}}}}",
              "{\"a\":[{\"n\":\"x\",\"v\":2}]}"),
         APPLIED("{\"a\":[{\"n\":\"x\",\"v\":1}]}"), false},
        {LIVE("{\"f:a\":{\"k:{\\\"n\\\":\\\"x\\\"}\":{\".\":{},\"f:n\":{}}}}",
              "{\"a\":[{\"n\":\"x\"},{\"n\":\"y\"}]}"),
         APPLIED("{\"a\":[{\"n\":\"x\"},{\"n\":\"y\"}]}"), false},
        {LIVE("{\"f:a\":{\"k:{\\\"n\\\":\\\"x\\\"}\":{\".\":{},\"f:n\":{}},"
              "\"k:{\\\"n\\\":\\\"y\\\"}\":{\".\":{},\"f:n\":{}}}}",
              "{\"a\":[{\"n\":\"x\"},{\"n\":\"y\"}]}"),
         APPLIED("{\"a\":[{\"n\":\"x\"}]}"), false},
        /* a set */
        {LIVE("{\"f:a\":{\"v:\\\"x\\\"\":{}}}", "{\"a\":[\"x\",\"y\"]}"),
         APPLIED("{\"a\":[\"x\"]}"), true},
        {LIVE("{\"f:a\":{\"v:\\\"x\\\"\":{}}}", "{\"a\":[\"y\"]}"), APPLIED("{\"a\":[\"x\"]}"),
         false},
        /* an empty map of ours, in which others put something */
        {LIVE("{\"f:a\":{}}", "{\"a\":{\"b\":1}}"), APPLIED("{\"a\":{}}"), true},
        /* a broken key says no */
        {LIVE("{\"f:a\":{\"k:{\":{}}}", "{\"a\":[{}]}"), APPLIED("{\"a\":[{}]}"), false},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        json_t *live = parse(arena, cases[i].live), *applied = parse(arena, cases[i].applied);

        if (fl_is_applied(live, applied, "m") != cases[i].is)
            fail_msg("%s over %s: not %d", cases[i].applied, cases[i].live, cases[i].is);
        assert_false(fl_is_applied(live, applied, "another"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_names_differ),
        cmocka_unit_test(test_merge_diff),
        cmocka_unit_test(test_is_applied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
