/* CustomResourceDefinitions at run time, and the built-in kinds' own rules. */
#include "controller/apiserver/apiserver_testing.h"

#define THINGS "/apis/test.dev/v1/things"
#define THING(name)                                                                                \
    "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"" name "\"}}"

static const json_t *condition(struct answer answer, const char *type)
{
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(answer.body, "status.conditions"), i, item)
        if (fl_streq(fl_json_str(item, "type"), type))
            return item;
    return NULL;
}

static void test_served_at_once(void **state)
{
    struct rig *rig = *state;
    struct answer made;

    assert_answer(do_post(rig, THINGS, THING("a")), 404);
    made = do_post(rig, CRDS, SMALL_DEFINITION("things", "Thing", "Cluster"));
    assert_answer(made, 201);
    assert_string_equal(text_in(made, "status.acceptedNames.kind"), "Thing");
    assert_string_equal(fl_json_str(condition(made, "Established"), "status"), "True");
    assert_answer(do_post(rig, THINGS, THING("a")), 201);
    assert_non_null(strstr(do_get(rig, "/apis/test.dev/v1").text, "\"things\""));
    assert_non_null(strstr(do_get(rig, "/openapi/v3/apis/test.dev/v1").text, "things"));
}

static void test_refused_definitions(void **state)
{
    static const struct {
        const char *body, *words;
    } cases[] = {
        {"{\"metadata\":{\"name\":\"x.test.dev\"}}", "spec"},
        {SMALL_DEFINITION("things", "thing", "Somewhere"), "spec.scope"},
        {"{\"metadata\":{\"name\":\"wrong.test.dev\"},\"spec\":{\"group\":\"test.dev\",\"scope\":"
         "\"Cluster\",\"names\":{\"plural\":\"things\",\"kind\":\"Thing\"},\"versions\":[{\"name\":"
         "\"v1\",\"served\":true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":"
         "\"object\"}}}]}}",
         "metadata.name"},
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_refused(do_post(rig, CRDS, cases[i].body), 422, "Invalid", cases[i].words);
}

static void test_names_conflict(void **state)
{
    struct rig *rig = *state;
    struct answer made = do_post(rig, CRDS, SMALL_DEFINITION("fidgets", "Widget", "Namespaced")),
                  answer;

    assert_answer(made, 201);
    assert_string_equal(fl_json_str(condition(made, "NamesAccepted"), "status"), "False");
    assert_true(
        fl_str_has_suffix(fl_json_str(condition(made, "NamesAccepted"), "reason"), "Conflict"));
    assert_string_equal(fl_json_str(condition(made, "Established"), "status"), "False");
    assert_answer(do_get(rig, "/apis/test.dev/v1/fidgets"), 404);
    assert_answer(do_get(rig, ALL_WIDGETS), 200);
    /* When the name is free again, the waiting one has it. */
    assert_answer(do_delete(rig, CRDS "/widgets.test.dev"), 200);
    WAIT_FOR(is_gone(rig, CRDS "/widgets.test.dev"));
    WAIT_FOR(do_get(rig, "/apis/test.dev/v1/fidgets").status == 200);
    answer = do_get(rig, CRDS "/fidgets.test.dev");
    assert_string_equal(fl_json_str(condition(answer, "Established"), "status"), "True");
}

/* A definition cannot take the place of what the server itself is made of. */
static void test_builtin_names_are_taken(void **state)
{
    static const char *const bodies[] = {
        "{\"metadata\":{\"name\":\"roles.rbac.authorization.k8s.io\",\"annotations\":{"
        "\"api-approved.kubernetes.io\":\"https://github.com/kubernetes/kubernetes/pull/1\"}},"
        "\"spec\":{\"group\":\"rbac.authorization.k8s.io\",\"scope\":\"Cluster\",\"names\":{"
        "\"plural\":\"roles\",\"kind\":\"Role\"},\"versions\":[{\"name\":\"v1\",\"served\":true,"
        "\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\"}}}]}}",
        "{\"metadata\":{\"name\":\"leases.coordination.k8s.io\",\"annotations\":{"
        "\"api-approved.kubernetes.io\":\"https://github.com/kubernetes/kubernetes/pull/1\"}},"
        "\"spec\":{\"group\":\"coordination.k8s.io\",\"scope\":\"Namespaced\",\"names\":{"
        "\"plural\":\"leases\",\"kind\":\"Lease\"},\"versions\":[{\"name\":\"v1\",\"served\":true,"
        "\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\"}}}]}}",
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(bodies); i++) {
        struct answer made = do_post(rig, CRDS, bodies[i]);

        if (made.status == 201)
            assert_string_equal(fl_json_str(condition(made, "NamesAccepted"), "status"), "False");
        else
            assert_refused(made, 422, "Invalid", "");
    }
    assert_refused(do_post(rig, RBAC "/namespaces/default/roles",
                           "{\"metadata\":{\"name\":\"x\"},\"rules\":5}"),
                   422, "Invalid", "rules");
    assert_answer(do_post(rig, RBAC "/namespaces/default/roles",
                          "{\"metadata\":{\"name\":\"x\"},\"rules\":[]}"),
                  201);
}

static void test_schema_changes(void **state)
{
    struct rig *rig = *state;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "\"size\":50")), 201);
    assert_answer(do_patch_as(rig, CRDS "/widgets.test.dev", "application/json-patch+json",
                              "[{\"op\":\"add\",\"path\":\"/spec/versions/0/schema/openAPIV3Schema/"
                              "properties/spec/properties/size/maximum\",\"value\":10}]"),
                  200);
    assert_refused(do_post(rig, WIDGETS, widget(rig, "b", "\"size\":50")), 422, "Invalid",
                   "spec.size");
    assert_answer(do_get(rig, WIDGETS "/a"), 200);
    assert_answer(do_post(rig, WIDGETS, widget(rig, "b", "\"size\":5")), 201);
    /* A version that is no longer served is not found, and the other one is. */
    assert_answer(do_patch_as(rig, CRDS "/widgets.test.dev", "application/json-patch+json",
                              "[{\"op\":\"replace\",\"path\":\"/spec/versions/1/served\",\"value\":"
                              "false}]"),
                  200);
    assert_answer(do_get(rig, "/apis/test.dev/v2/widgets"), 404);
    assert_answer(do_get(rig, ALL_WIDGETS), 200);
}

static void test_deletion_takes_objects_along(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_post(rig, WIDGETS,
                          "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":"
                          "{\"name\":\"held\",\"finalizers\":[\"x.dev/y\"]}}"),
                  201);
    answer = do_delete(rig, CRDS "/widgets.test.dev");
    assert_answer(answer, 200);
    assert_string_equal(fl_json_str(condition(answer, "Terminating"), "status"), "True");
    WAIT_FOR(is_gone(rig, WIDGETS "/a"));
    assert_refused(do_post(rig, WIDGETS, widget(rig, "b", "")), 405, "MethodNotAllowed",
                   "terminating");
    rig_pause(60);
    assert_answer(do_get(rig, CRDS "/widgets.test.dev"), 200);
    assert_answer(do_patch(rig, WIDGETS "/held", "{\"metadata\":{\"finalizers\":null}}"), 200);
    WAIT_FOR(is_gone(rig, CRDS "/widgets.test.dev"));
    assert_answer(do_get(rig, WIDGETS), 404);
    assert_int_equal(fl_store_count(rig->store, "widgets.test.dev"), 0);
    assert_answer(do_post(rig, CRDS, WIDGET_DEFINITION), 201);
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 0);
}

/* The objects of a kind that is not served go with its definition as well. */
static void test_deletion_of_what_is_not_served(void **state)
{
    struct rig *rig = *state;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_patch_as(rig, CRDS "/widgets.test.dev", "application/json-patch+json",
                              "[{\"op\":\"replace\",\"path\":\"/spec/versions/0/served\","
                              "\"value\":false},{\"op\":\"replace\",\"path\":"
                              "\"/spec/versions/1/served\",\"value\":false}]"),
                  200);
    assert_answer(do_get(rig, WIDGETS), 404);
    assert_answer(do_delete(rig, CRDS "/widgets.test.dev"), 200);
    WAIT_FOR(is_gone(rig, CRDS "/widgets.test.dev"));
    assert_int_equal(fl_store_count(rig->store, "widgets.test.dev"), 0);
    assert_answer(do_post(rig, CRDS, WIDGET_DEFINITION), 201);
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 0);
}

/* What is created while the definition's deletion is on its way to the disk does not stay behind.
 */
static void test_creation_races_with_deletion(void **state)
{
    struct rig *rig = *state;
    int doomed, late;

    assert_answer(do_get(rig, WIDGETS), 200);
    atomic_store(&fl_store_faults.hold_commits, true);
    atomic_store(&fl_store_faults.commit_delay_ms, 50);
    doomed = rig_connect(rig);
    rig_send_ask(doomed, &(struct ask){
                             .who = ADMIN, .method = "DELETE", .target = CRDS "/widgets.test.dev"});
    WAIT_FOR(atomic_load(&fl_store_faults.held) == 1);
    late = rig_connect(rig);
    rig_send_ask(late, &(struct ask){.who = ADMIN,
                                     .method = "POST",
                                     .target = WIDGETS,
                                     .body = widget(rig, "late", "")});
    rig_pause(50);
    atomic_store(&fl_store_faults.hold_commits, false);
    assert_answer(rig_take_answer(rig, doomed), 200);
    (void)rig_take_answer(rig, late);
    WAIT_FOR(is_gone(rig, CRDS "/widgets.test.dev"));
    assert_int_equal(fl_store_count(rig->store, "widgets.test.dev"), 0);
}

/* Built-in kinds */

static void test_secrets(void **state)
{
    struct rig *rig = *state;
    struct answer answer =
        do_post(rig, SECRETS,
                "{\"metadata\":{\"name\":\"s\"},\"stringData\":{\"a\":\"plain\",\"e\":\"\"},"
                "\"data\":{\"b\":\"aG\\nk=\\n\",\"c\":\"\"}}");

    assert_answer(answer, 201);
    assert_string_equal(text_in(answer, "type"), "Opaque");
    assert_string_equal(text_in(answer, "data.a"), "cGxhaW4=");
    assert_string_equal(text_in(answer, "data.b"), "aGk=");
    assert_string_equal(fl_json_str(answer.body, "data.c"), "");
    assert_string_equal(fl_json_str(answer.body, "data.e"), "");
    assert_null(json_object_get(answer.body, "stringData"));
    assert_refused(do_post(rig, SECRETS, "{\"metadata\":{\"name\":\"x\"},\"data\":{\"b\":\"!\"}}"),
                   400, "BadRequest", "illegal base64 data at input byte 0");
    assert_answer(do_post(rig, SECRETS, "{\"metadata\":{\"name\":\"x\"},\"stringData\":{\"b\":5}}"),
                  422);
    assert_answer(
        do_post(rig, SECRETS, "{\"metadata\":{\"name\":\"x\"},\"stringData\":[],\"data\":\"x\"}"),
        422);
    assert_answer(do_post(rig, SECRETS,
                          "{\"metadata\":{\"name\":\"x\"},\"stringData\":{\"a\":\"b\"},\"data\":"
                          "\"x\"}"),
                  422);
    assert_refused(
        do_post(rig, SECRETS, "{\"metadata\":{\"name\":\"x\"},\"stringData\":{\"a/b\":\"x\"}}"),
        422, "Invalid", "a valid config key");
    assert_refused(
        do_post(rig, SECRETS, "{\"metadata\":{\"name\":\"x\"},\"type\":\"kubernetes.io/tls\"}"),
        422, "Invalid", "data[tls.crt]: Required value");
    assert_refused(do_patch(rig, SECRETS "/s", "{\"type\":\"other\"}"), 422, "Invalid",
                   "field is immutable");
    assert_answer(do_patch(rig, SECRETS "/s", "{\"immutable\":true}"), 200);
    assert_refused(do_patch(rig, SECRETS "/s", "{\"stringData\":{\"a\":\"new\"}}"), 422, "Invalid",
                   "field is immutable when `immutable` is set");
    assert_refused(do_patch(rig, SECRETS "/s", "{\"immutable\":false}"), 422, "Invalid",
                   "field is immutable when `immutable` is set");
    assert_answer(do_patch(rig, SECRETS "/s", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}"), 200);
    assert_answer(do_delete(rig, SECRETS "/s"), 200);
}

static void test_configmaps(void **state)
{
    struct rig *rig = *state;

    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "a", "b")), 201);
    assert_refused(do_patch(rig, CONFIGMAPS "/a", "{\"binaryData\":{\"key\":\"aGk=\"}}"), 422,
                   "Invalid", "duplicate of key present in binaryData");
    assert_answer(do_patch(rig, CONFIGMAPS "/a", "{\"immutable\":true}"), 200);
    assert_refused(do_patch(rig, CONFIGMAPS "/a", "{\"data\":{\"key\":\"c\"}}"), 422, "Invalid",
                   "field is immutable");
    assert_answer(do_post(rig, CONFIGMAPS, "{\"metadata\":{\"name\":\"x\"},\"data\":{\"a\":1}}"),
                  422);
}

static void test_leases(void **state)
{
    struct rig *rig = *state;
    struct answer answer =
        do_post(rig, "/apis/coordination.k8s.io/v1/namespaces/default/leases",
                "{\"metadata\":{\"name\":\"l\"},\"spec\":{\"holderIdentity\":\"me\","
                "\"leaseDurationSeconds\":15,\"acquireTime\":\"2026-01-02T03:04:05Z\","
                "\"renewTime\":\"2026-01-02T03:04:05.123456Z\"}}");

    assert_answer(answer, 201);
    assert_string_equal(text_in(answer, "spec.acquireTime"), "2026-01-02T03:04:05.000000Z");
    assert_string_equal(text_in(answer, "spec.renewTime"), "2026-01-02T03:04:05.123456Z");
    assert_answer(do_put(rig, "/apis/coordination.k8s.io/v1/namespaces/default/leases/l",
                         "{\"metadata\":{\"name\":\"l\"},\"spec\":{\"holderIdentity\":\"you\","
                         "\"renewTime\":\"soon\"}}"),
                  422);
}

static void test_events_of_both_groups(void **state)
{
    struct rig *rig = *state;
    struct answer answer =
        do_post(rig, "/apis/events.k8s.io/v1/namespaces/default/events",
                "{\"metadata\":{\"name\":\"e\"},\"eventTime\":\"2026-01-02T03:04:05.123456Z\","
                "\"reportingController\":\"test.dev/c\",\"reportingInstance\":\"c-1\",\"action\":"
                "\"Making\",\"reason\":\"Made\",\"type\":\"Normal\",\"note\":\"words\","
                "\"regarding\":{\"kind\":\"Widget\",\"name\":\"a\",\"namespace\":\"default\"}}");

    assert_answer(answer, 201);
    answer = do_get(rig, "/api/v1/namespaces/default/events/e");
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "apiVersion"), "v1");
    assert_string_equal(text_in(answer, "message"), "words");
    assert_string_equal(text_in(answer, "involvedObject.name"), "a");
    assert_string_equal(text_in(answer, "reportingComponent"), "test.dev/c");
    answer = do_get(rig, "/apis/events.k8s.io/v1/namespaces/default/events/e");
    assert_string_equal(text_in(answer, "note"), "words");
    assert_string_equal(text_in(answer, "reportingController"), "test.dev/c");
    assert_int_equal(
        items_in(do_get(rig, "/api/v1/events?fieldSelector=involvedObject.name%3Da,reason%3DMade")),
        1);
    assert_int_equal(items_in(do_get(rig, "/apis/events.k8s.io/v1/events?fieldSelector="
                                          "regarding.name%3Db")),
                     0);
    assert_refused(do_post(rig, "/apis/events.k8s.io/v1/namespaces/default/events",
                           "{\"metadata\":{\"name\":\"f\"},\"type\":\"Normal\",\"regarding\":{"
                           "\"namespace\":\"default\"}}"),
                   422, "Invalid", "reportingController: Required value");
    assert_refused(do_post(rig, "/api/v1/namespaces/default/events",
                           "{\"metadata\":{\"name\":\"f\"},\"involvedObject\":{\"namespace\":"
                           "\"other\"}}"),
                   422, "Invalid", "does not match event.namespace");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_served_at_once),
        TEST(test_refused_definitions),
        TEST(test_names_conflict),
        TEST(test_builtin_names_are_taken),
        TEST(test_schema_changes),
        TEST(test_deletion_takes_objects_along),
        TEST(test_deletion_of_what_is_not_served),
        TEST(test_creation_races_with_deletion),
        TEST(test_secrets),
        TEST(test_configmaps),
        TEST(test_leases),
        TEST(test_events_of_both_groups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
