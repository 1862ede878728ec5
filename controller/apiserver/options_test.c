/* What answers say of wrong options and of refused preconditions, as a cluster says it. */
#include "controller/apiserver/apiserver_testing.h"

#define CUT(text) "Unsupported value: " text ": supported values: "

static void test_options_and_their_causes(void **state)
{
    static const struct {
        const char *method, *query, *body; /* of widget "a"; a create where the query has no name */
        const char *kind, *field, *reason, *message;
    } cases[] = {
        {"POST", "?fieldValidation=Odd", "{}", "CreateOptions", "fieldValidation",
         "FieldValueNotSupported", CUT("\"Odd\"") "\"\", \"Ignore\", \"Strict\", \"Warn\""},
        {"POST", "?dryRun=Some", "{}", "CreateOptions", "dryRun", "FieldValueNotSupported",
         CUT("[]string{\"Some\"}") "\"All\""},
        {"PUT", "/a?dryRun=Some", "{}", "UpdateOptions", "dryRun", "FieldValueNotSupported",
         CUT("[]string{\"Some\"}") "\"All\""},
        {"PATCH", "/a?force=true", "{}", "PatchOptions", "force", "FieldValueForbidden",
         "Forbidden: may not be specified for non-apply patch"},
        {"GET", "?resourceVersionMatch=Exact", NULL, "ListOptions", "resourceVersionMatch",
         "FieldValueForbidden",
         "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"},
        {"GET", "?resourceVersion=1&resourceVersionMatch=Near", NULL, "ListOptions",
         "resourceVersionMatch", "FieldValueNotSupported",
         CUT("\"Near\"") "\"Exact\", \"NotOlderThan\", \"\""},
        {"GET", "?sendInitialEvents=true", NULL, "ListOptions", "sendInitialEvents",
         "FieldValueForbidden", "Forbidden: sendInitialEvents is forbidden for list"},
        {"GET", "?watch=true&resourceVersionMatch=Exact", NULL, "ListOptions",
         "resourceVersionMatch", "FieldValueForbidden",
         "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is "
         "provided"},
        {"GET", "?watch=true&sendInitialEvents=true", NULL, "ListOptions", "resourceVersionMatch",
         "FieldValueForbidden",
         "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"},
        {"DELETE", "/a?propagationPolicy=Odd", NULL, "DeleteOptions", "propagationPolicy",
         "FieldValueNotSupported",
         CUT("\"Odd\"") "\"Foreground\", \"Background\", \"Orphan\", \"nil\""},
        {"DELETE", "/a", "{\"propagationPolicy\":\"Orphan\",\"orphanDependents\":true}",
         "DeleteOptions", "propagationPolicy", "FieldValueInvalid",
         "Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set"},
        {"DELETE", "?dryRun=Some", NULL, "DeleteOptions", "dryRun", "FieldValueNotSupported",
         CUT("[]string{\"Some\"}") "\"All\""},
    };
    struct rig *rig = *state;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct answer answer = do_as(rig, ADMIN, cases[i].method,
                                     format(rig, WIDGETS "%s", cases[i].query), cases[i].body);
        FL_JSON details = json_pack("{s:s, s:s, s:[{s:s, s:s, s:s}]}", "group", "meta.k8s.io",
                                    "kind", cases[i].kind, "causes", "reason", cases[i].reason,
                                    "message", cases[i].message, "field", cases[i].field);

        assert_refused(answer, 422, "Invalid", "");
        assert_string_equal(text_in(answer, "message"),
                            format(rig, "%s.meta.k8s.io \"\" is invalid: %s: %s", cases[i].kind,
                                   cases[i].field, cases[i].message));
        if (!json_equal(json_object_get(answer.body, "details"), details))
            fail_msg("%s %s: %s", cases[i].method, cases[i].query, answer.text);
    }
}

static void test_apply_needs_a_manager(void **state)
{
    struct rig *rig = *state;
    struct answer answer =
        do_patch_as(rig, WIDGETS "/a", "application/apply-patch+yaml", widget(rig, "a", ""));

    assert_refused(answer, 422, "Invalid",
                   "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is "
                   "required for apply patch");
    assert_string_equal(text_in(answer, "details.kind"), "PatchOptions");
    assert_int_equal(json_array_size(fl_json_path(answer.body, "details.causes")), 1);
}

static void test_an_apply_conflict_is_its_causes(void **state)
{
    static const char apply[] = "application/apply-patch+yaml";
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(do_patch_as(rig, WIDGETS "/a?fieldManager=one", apply,
                              widget(rig, "a", "\"color\":\"red\"")),
                  201);
    answer = do_patch_as(rig, WIDGETS "/a?fieldManager=two", apply,
                         widget(rig, "a", "\"color\":\"blue\""));
    assert_refused(answer, 409, "Conflict", "Apply failed with 1 conflict: conflict with \"one\"");
    assert_int_equal(json_array_size(fl_json_path(answer.body, "details.causes")), 1);
    assert_int_equal(json_object_size(json_object_get(answer.body, "details")), 1);
}

static void test_preconditions_name_the_kind(void **state)
{
    static const char *const bodies[] = {
        "{\"preconditions\":{\"uid\":\"nope\"}}",
        "{\"preconditions\":{\"resourceVersion\":\"1\"}}",
    };
    struct rig *rig = *state;
    FL_JSON widget_details =
        json_pack("{s:s, s:s, s:s}", "name", "a", "group", "test.dev", "kind", "Widget");
    FL_JSON map_details = json_pack("{s:s, s:s}", "name", "a", "kind", "ConfigMap");

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "a", "b")), 201);
    for (size_t i = 0; i < FL_COUNT_OF(bodies); i++) {
        struct answer answer = do_as(rig, ADMIN, "DELETE", WIDGETS "/a", bodies[i]);

        assert_refused(answer, 409, "Conflict",
                       "Operation cannot be fulfilled on Widget.test.dev \"a\": the ");
        assert_true(json_equal(json_object_get(answer.body, "details"), widget_details));
        answer = do_as(rig, ADMIN, "DELETE", CONFIGMAPS "/a", bodies[i]);
        assert_refused(answer, 409, "Conflict",
                       "Operation cannot be fulfilled on ConfigMap \"a\": the ");
        assert_true(json_equal(json_object_get(answer.body, "details"), map_details));
    }
}

/* Who is told of a conflict tries again, for ever where the text is wrong. */
static void test_a_revision_that_is_no_number(void **state)
{
    static const char body[] = "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":"
                               "{\"name\":\"a\",\"resourceVersion\":\"abc\"},\"spec\":{}}";
    static const char words[] =
        "metadata.resourceVersion: Invalid value: \"abc\": must be a decimal number";
    struct rig *rig = *state;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_refused(do_put(rig, WIDGETS "/a", body), 400, "BadRequest", words);
    assert_refused(do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"resourceVersion\":\"abc\"}}"), 400,
                   "BadRequest", words);
    assert_refused(
        do_patch_as(rig, WIDGETS "/a?fieldManager=m", "application/apply-patch+yaml", body), 400,
        "BadRequest", words);
    assert_refused(
        do_put(rig, WIDGETS "/a/scale",
               "{\"apiVersion\":\"autoscaling/v1\",\"kind\":\"Scale\",\"metadata\":"
               "{\"name\":\"a\",\"resourceVersion\":\"abc\"},\"spec\":{\"replicas\":2}}"),
        400, "BadRequest", words);
    assert_refused(do_get(rig, WIDGETS "?resourceVersion=abc"), 400, "BadRequest",
                   "resourceVersion: Invalid value: \"abc\"");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_options_and_their_causes),        TEST(test_apply_needs_a_manager),
        TEST(test_an_apply_conflict_is_its_causes), TEST(test_preconditions_name_the_kind),
        TEST(test_a_revision_that_is_no_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
