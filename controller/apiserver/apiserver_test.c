/* The life of objects through the API: creation, changes, subresources, deletion. */
#include "controller/apiserver/apiserver_testing.h"

static void test_create_and_get(void **state)
{
    struct rig *rig = *state;
    struct answer made = do_post(rig, WIDGETS, widget(rig, "a", "\"size\":3,\"unknown\":1")), got;

    assert_answer(made, 201);
    assert_string_equal(text_in(made, "metadata.namespace"), "default");
    assert_int_equal(strlen(text_in(made, "metadata.uid")), 36);
    assert_int_equal(fl_json_int(made.body, "metadata.generation", 0), 1);
    assert_string_equal(text_in(made, "spec.color"), "red");
    assert_int_equal(fl_json_int(made.body, "spec.size", 0), 3);
    assert_null(fl_json_path(made.body, "spec.unknown"));
    assert_non_null(strstr(made.headers, "Warning: 299 - \"unknown field \\\"spec.unknown\\\"\""));
    got = do_get(rig, WIDGETS "/a");
    assert_answer(got, 200);
    assert_true(json_equal(got.body, made.body));
    assert_refused(do_get(rig, WIDGETS "/b"), 404, "NotFound", "widgets.test.dev \"b\" not found");
    assert_refused(do_post(rig, WIDGETS, widget(rig, "a", "")), 409, "AlreadyExists",
                   "widgets.test.dev \"a\" already exists");
    assert_refused(do_post(rig, "/apis/test.dev/v1/namespaces/none/widgets", widget(rig, "a", "")),
                   404, "NotFound", "namespaces \"none\" not found");
}

static void test_create_refuses(void **state)
{
    static const struct {
        const char *target, *body;
        int status;
        const char *reason, *words;
    } cases[] = {
        {WIDGETS, "{", 400, "BadRequest", "cannot be read"},
        {WIDGETS, "[]", 400, "BadRequest", "not a JSON object"},
        {WIDGETS, "{\"kind\":\"Widget\"}", 400, "BadRequest", "API version"},
        {WIDGETS, "{\"apiVersion\":\"test.dev/v1\"}", 400, "BadRequest", "'Kind' is missing"},
        {WIDGETS,
         "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Gadget\",\"metadata\":{\"name\":"
         "\"x\"}}",
         422, "Invalid", "must be Widget"},
        {WIDGETS, "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\"}", 422, "Invalid",
         "name or generateName is required"},
        {WIDGETS,
         "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"A\"}}", 422,
         "Invalid", "metadata.name: Invalid value: \"A\""},
        {WIDGETS,
         "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\","
         "\"namespace\":\"other\"}}",
         400, "BadRequest", "namespace of the provided object does not match"},
        {WIDGETS,
         "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\"},"
         "\"spec\":{\"size\":-1}}",
         422, "Invalid", "spec.size"},
        {WIDGETS,
         "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\","
         "\"labels\":{\"a\":\"!\"}}}",
         422, "Invalid", "metadata.labels"},
        {WIDGETS "?fieldValidation=Strict",
         "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\"},"
         "\"spec\":{\"size\":1,\"size\":2,\"x\":1}}",
         400, "BadRequest",
         "strict decoding error: duplicate field \"spec.size\", unknown field \"spec.x\""},
        {WIDGETS "?fieldValidation=Maybe", "{}", 422, "Invalid", "fieldValidation"},
        {WIDGETS "?dryRun=Some", "{}", 422, "Invalid", "dryRun"},
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_refused(do_post(rig, cases[i].target, cases[i].body), cases[i].status,
                       cases[i].reason, cases[i].words);
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 0);
}

static void test_invalid_names_its_fields(void **state)
{
    struct rig *rig = *state;
    struct answer answer = do_post(rig, WIDGETS, widget(rig, "a", "\"size\":\"x\",\"color\":1"));
    const json_t *causes;

    assert_refused(answer, 422, "Invalid", "Widget.test.dev \"a\" is invalid");
    assert_string_equal(text_in(answer, "details.name"), "a");
    assert_string_equal(text_in(answer, "details.group"), "test.dev");
    assert_string_equal(text_in(answer, "details.kind"), "Widget");
    causes = fl_json_path(answer.body, "details.causes");
    assert_int_equal(json_array_size(causes), 2);
    assert_string_equal(fl_json_str(json_array_get(causes, 0), "reason"), "FieldValueTypeInvalid");
}

static void test_update(void **state)
{
    struct rig *rig = *state;
    struct answer made = do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1")), changed, same;
    const char *body =
        format(rig,
               "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"a\","
               "\"resourceVersion\":\"%" PRIu64 "\"},\"spec\":{\"size\":2}}",
               revision_in(made));

    assert_refused(do_put(rig, WIDGETS "/a", widget(rig, "a", "\"size\":2")), 422, "Invalid",
                   "metadata.resourceVersion: Invalid value: 0x0: must be specified");
    assert_refused(do_put(rig, WIDGETS "/b", widget(rig, "b", "")), 404, "NotFound", "not found");
    assert_refused(do_put(rig, WIDGETS "/a", widget(rig, "b", "")), 400, "BadRequest",
                   "does not match the name on the URL");
    changed = do_put(rig, WIDGETS "/a", body);
    assert_answer(changed, 200);
    assert_true(revision_in(changed) > revision_in(made));
    assert_int_equal(fl_json_int(changed.body, "spec.size", 0), 2);
    assert_int_equal(fl_json_int(changed.body, "metadata.generation", 0), 2);
    assert_string_equal(text_in(changed, "metadata.uid"), text_in(made, "metadata.uid"));
    assert_string_equal(text_in(changed, "metadata.creationTimestamp"),
                        text_in(made, "metadata.creationTimestamp"));
    assert_refused(do_put(rig, WIDGETS "/a", body), 409, "Conflict",
                   "the object has been modified; please apply your changes to the latest version");
    /* What changes nothing writes nothing. */
    same = do_put(rig, WIDGETS "/a", fl_json_to_string(rig->arena, changed.body));
    assert_answer(same, 200);
    assert_int_equal(revision_in(same), revision_in(changed));
    assert_int_equal(fl_store_revision(rig->store), revision_in(changed));
}

static void test_another_uid_conflicts(void **state)
{
    struct rig *rig = *state;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_refused(do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"uid\":\"other\"}}"), 409,
                   "Conflict", "UID in precondition: other");
}

static void test_patches(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1,\"text\":\"x\"")), 201);
    answer = do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":2,\"text\":null}}");
    assert_answer(answer, 200);
    assert_int_equal(fl_json_int(answer.body, "spec.size", 0), 2);
    assert_null(fl_json_path(answer.body, "spec.text"));
    answer = do_patch_as(rig, WIDGETS "/a", "application/json-patch+json",
                         "[{\"op\":\"test\",\"path\":\"/spec/size\",\"value\":2},"
                         "{\"op\":\"replace\",\"path\":\"/spec/size\",\"value\":3}]");
    assert_answer(answer, 200);
    assert_int_equal(fl_json_int(answer.body, "spec.size", 0), 3);
    assert_refused(do_patch_as(rig, WIDGETS "/a", "application/json-patch+json",
                               "[{\"op\":\"test\",\"path\":\"/spec/size\",\"value\":2}]"),
                   422, "Invalid", "");
    assert_refused(do_patch_as(rig, WIDGETS "/a", "application/strategic-merge-patch+json", "{}"),
                   415, "UnsupportedMediaType", "accepted media types include");
    assert_refused(do_patch_as(rig, WIDGETS "/a", "application/json", "{}"), 415,
                   "UnsupportedMediaType", "accepted media types include");
    assert_refused(do_patch(rig, WIDGETS "/b", "{}"), 404, "NotFound", "not found");
    assert_refused(do_patch(rig, WIDGETS "/a?force=true", "{}"), 422, "Invalid", "force");
    assert_refused(do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"name\":\"b\"}}"), 400,
                   "BadRequest", "does not match the name on the URL");
    assert_refused(do_patch(rig, WIDGETS "/a?fieldValidation=Strict", "{\"spec\":{\"x\":1}}"), 422,
                   "Invalid", "strict decoding error: unknown field \"spec.x\"");
}

static void test_strategic_patch(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "a", "1")), 201);
    answer = do_patch_as(rig, CONFIGMAPS "/a", "application/strategic-merge-patch+json",
                         "{\"data\":{\"more\":\"2\"},\"metadata\":{\"finalizers\":[\"x.dev/y\"]}}");
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "data.key"), "1");
    assert_string_equal(text_in(answer, "data.more"), "2");
    answer = do_patch_as(rig, CONFIGMAPS "/a", "application/strategic-merge-patch+json",
                         "{\"metadata\":{\"finalizers\":[\"x.dev/z\"]}}");
    assert_int_equal(json_array_size(fl_json_path(answer.body, "metadata.finalizers")), 2);
}

#define APPLY "application/apply-patch+yaml"

static void test_apply(void **state)
{
    struct rig *rig = *state;
    const char *body = widget(rig, "a", "\"size\":1");
    struct answer made, answer;

    assert_refused(do_patch_as(rig, WIDGETS "/a", APPLY, body), 422, "Invalid",
                   "fieldManager: Required value");
    made = do_patch_as(rig, WIDGETS "/a?fieldManager=one", APPLY, body);
    assert_answer(made, 201);
    answer = do_patch_as(rig, WIDGETS "/a?fieldManager=one", APPLY, body);
    assert_answer(answer, 200);
    assert_int_equal(revision_in(answer), revision_in(made));
    answer = do_patch_as(rig, WIDGETS "/a?fieldManager=two", APPLY, widget(rig, "a", "\"size\":2"));
    assert_refused(answer, 409, "Conflict", "conflict with \"one\"");
    assert_string_equal(
        fl_json_str(json_array_get(fl_json_path(answer.body, "details.causes"), 0), "field"),
        ".spec.size");
    answer = do_patch_as(rig, WIDGETS "/a?fieldManager=two&force=true", APPLY,
                         widget(rig, "a", "\"size\":2"));
    assert_answer(answer, 200);
    assert_int_equal(fl_json_int(answer.body, "spec.size", 0), 2);
}

static void test_generation_follows_desire(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1")), 201);
    answer = do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
    assert_int_equal(fl_json_int(answer.body, "metadata.generation", 0), 1);
    answer = do_patch(rig, WIDGETS "/a/status", "{\"status\":{\"ready\":true}}");
    assert_answer(answer, 200);
    assert_int_equal(fl_json_int(answer.body, "metadata.generation", 0), 1);
    answer = do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"generation\":9},\"spec\":{\"size\":2}}");
    assert_int_equal(fl_json_int(answer.body, "metadata.generation", 0), 2);
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "a", "1")), 201);
    assert_null(fl_json_path(do_get(rig, CONFIGMAPS "/a").body, "metadata.generation"));
}

static void test_status_and_spec_are_apart(void **state)
{
    struct rig *rig = *state;
    struct answer answer = do_post(rig, WIDGETS,
                                   "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\","
                                   "\"metadata\":{\"name\":\"a\"},\"spec\":{\"size\":1},"
                                   "\"status\":{\"ready\":true}}");

    assert_answer(answer, 201);
    assert_null(json_object_get(answer.body, "status"));
    answer = do_patch(rig, WIDGETS "/a/status",
                      "{\"spec\":{\"size\":9},\"status\":{\"ready\":true},"
                      "\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
    assert_answer(answer, 200);
    assert_int_equal(fl_json_int(answer.body, "spec.size", 0), 1);
    assert_null(fl_json_path(answer.body, "metadata.labels"));
    assert_true(fl_json_bool(answer.body, "status.ready", false));
    answer = do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":2},\"status\":{\"ready\":false}}");
    assert_true(fl_json_bool(answer.body, "status.ready", false));
    assert_int_equal(fl_json_int(answer.body, "spec.size", 0), 2);
    assert_refused(do_patch(rig, WIDGETS "/a/status", "{\"status\":{\"ready\":\"x\"}}"), 422,
                   "Invalid", "status.ready");
    assert_refused(do_post(rig, WIDGETS "/a/status", widget(rig, "a", "")), 405, "MethodNotAllowed",
                   "does not allow this method");
    assert_answer(do_get(rig, WIDGETS "/a/status"), 200);
}

static void test_scale(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "\"replicas\":2")), 201);
    assert_answer(
        do_patch(rig, WIDGETS "/a/status", "{\"status\":{\"replicas\":1,\"selector\":\"a=b\"}}"),
        200);
    answer = do_get(rig, WIDGETS "/a/scale");
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "kind"), "Scale");
    assert_string_equal(text_in(answer, "apiVersion"), "autoscaling/v1");
    assert_int_equal(fl_json_int(answer.body, "spec.replicas", 0), 2);
    assert_int_equal(fl_json_int(answer.body, "status.replicas", 0), 1);
    assert_string_equal(text_in(answer, "status.selector"), "a=b");
    answer = do_patch(rig, WIDGETS "/a/scale", "{\"spec\":{\"replicas\":5}}");
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "kind"), "Scale");
    assert_int_equal(fl_json_int(answer.body, "spec.replicas", 0), 5);
    answer = do_put(rig, WIDGETS "/a/scale",
                    "{\"apiVersion\":\"autoscaling/v1\",\"kind\":\"Scale\",\"metadata\":{\"name\":"
                    "\"a\"},\"spec\":{\"replicas\":7}}");
    assert_answer(answer, 200);
    answer = do_get(rig, WIDGETS "/a");
    assert_int_equal(fl_json_int(answer.body, "spec.replicas", 0), 7);
    assert_int_equal(fl_json_int(answer.body, "metadata.generation", 0), 3);
    assert_refused(do_patch(rig, WIDGETS "/a/scale", "{\"spec\":{\"replicas\":-1}}"), 422,
                   "Invalid", "spec.replicas");
    assert_refused(do_patch(rig, WIDGETS "/a/scale",
                            "{\"metadata\":{\"resourceVersion\":\"1\"},\"spec\":{\"replicas\":1}}"),
                   409, "Conflict", "the object has been modified");
}

static void test_finalizers(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"finalizers\":[\"x.dev/y\"]}}"),
                  200);
    answer = do_delete(rig, WIDGETS "/a");
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "kind"), "Widget");
    assert_true(*text_in(answer, "metadata.deletionTimestamp"));
    answer = do_delete(rig, WIDGETS "/a");
    assert_answer(answer, 200);
    assert_refused(do_post(rig, WIDGETS, widget(rig, "a", "")), 409, "AlreadyExists",
                   "object is being deleted");
    assert_refused(
        do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"finalizers\":[\"x.dev/y\",\"x.dev/z\"]}}"),
        422, "Invalid", "no new finalizers can be added");
    answer = do_patch(rig, WIDGETS "/a", "{\"metadata\":{\"finalizers\":null}}");
    assert_answer(answer, 200);
    assert_true(is_gone(rig, WIDGETS "/a"));
}

static void test_delete(void **state)
{
    struct rig *rig = *state;
    struct answer made = do_post(rig, WIDGETS, widget(rig, "a", "")), answer;

    assert_refused(
        do_as(rig, ADMIN, "DELETE", WIDGETS "/a", "{\"preconditions\":{\"uid\":\"other\"}}"), 409,
        "Conflict", "the UID in the precondition (other)");
    assert_refused(do_as(rig, ADMIN, "DELETE", WIDGETS "/a",
                         "{\"preconditions\":{\"resourceVersion\":\"1\"}}"),
                   409, "Conflict", "the ResourceVersion in the precondition (1)");
    assert_refused(do_delete(rig, WIDGETS "/a?propagationPolicy=Never"), 422, "Invalid",
                   "propagationPolicy");
    assert_answer(do_delete(rig, WIDGETS "/a?dryRun=All"), 200);
    assert_answer(do_get(rig, WIDGETS "/a"), 200);
    answer =
        do_as(rig, ADMIN, "DELETE", WIDGETS "/a",
              format(rig, "{\"preconditions\":{\"uid\":\"%s\"}}", text_in(made, "metadata.uid")));
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "status"), "Success");
    assert_string_equal(text_in(answer, "details.name"), "a");
    assert_string_equal(text_in(answer, "details.uid"), text_in(made, "metadata.uid"));
    assert_refused(do_delete(rig, WIDGETS "/a"), 404, "NotFound", "not found");
}

static void test_delete_collection(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    for (int i = 0; i < 5; i++)
        assert_answer(do_post(rig, WIDGETS,
                              format(rig,
                                     "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\","
                                     "\"metadata\":{\"name\":\"w%d\",\"labels\":{\"n\":\"%d\"}}}",
                                     i, i)),
                      201);
    answer = do_delete(rig, WIDGETS "?labelSelector=n+in+(1,2)&dryRun=All");
    assert_int_equal(items_in(answer), 2);
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 5);
    answer = do_delete(rig, WIDGETS "?labelSelector=n+in+(1,2)");
    assert_int_equal(items_in(answer), 2);
    assert_string_equal(text_in(answer, "kind"), "WidgetList");
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 3);
    assert_int_equal(items_in(do_delete(rig, WIDGETS)), 3);
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 0);
}

/* More than the store takes at a time: they go in waves. */
static void test_delete_large_collection(void **state)
{
    struct rig *rig = *state;
    FL_JSON object = json_loads(widget(rig, "a", ""), 0, NULL);
    struct fl_store_write write = {.op = FL_STORE_CREATE, .object = object};
    struct frames *frames;

    assert_non_null(object);
    fl_json_set_str(json_object_get(object, "metadata"), "namespace", "default");
    for (int i = 0; i < 5000; i++) {
        const char *name = format(rig, "w%d", i);

        fl_json_set_str(json_object_get(object, "metadata"), "name", name);
        write.key = (struct fl_key){"widgets.test.dev", "default", name};
        assert_int_equal(fl_store_write_wait(rig->store, &write, NULL, NULL), 0);
    }
    frames = frames_open(rig, format(rig, WIDGETS "?watch=true&resourceVersion=%" PRIu64,
                                     fl_store_revision(rig->store)));
    atomic_store(&fl_store_faults.commit_delay_ms, 20);
    assert_int_equal(items_in(do_delete(rig, WIDGETS)), 5000);
    assert_int_equal(items_in(do_get(rig, WIDGETS)), 0);
    for (int i = 0; i < 5000; i++)
        (void)expect_frame(frames, "DELETED", NULL);
    frames_close(frames);
}

static void test_dry_run_writes_nothing(void **state)
{
    struct rig *rig = *state;
    struct answer made = do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1")), answer;
    uint64_t before = fl_store_revision(rig->store);

    answer = do_post(rig, WIDGETS "?dryRun=All", widget(rig, "b", ""));
    assert_answer(answer, 201);
    assert_true(*text_in(answer, "metadata.uid"));
    assert_answer(do_patch(rig, WIDGETS "/a?dryRun=All", "{\"spec\":{\"size\":2}}"), 200);
    assert_answer(
        do_patch_as(rig, WIDGETS "/c?dryRun=All&fieldManager=x", APPLY, widget(rig, "c", "")), 201);
    assert_refused(do_post(rig, WIDGETS "?dryRun=All", widget(rig, "c", "\"size\":-1")), 422,
                   "Invalid", "spec.size");
    assert_int_equal(fl_store_revision(rig->store), before);
    assert_true(json_equal(do_get(rig, WIDGETS "/a").body, made.body));
    assert_true(is_gone(rig, WIDGETS "/b"));
}

static void test_generated_names(void **state)
{
    struct rig *rig = *state;
    const char *body = "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":"
                       "{\"generateName\":\"run-\"}}";
    struct answer a = do_post(rig, WIDGETS, body), b = do_post(rig, WIDGETS, body);

    assert_answer(a, 201);
    assert_answer(b, 201);
    assert_int_equal(strlen(text_in(a, "metadata.name")), strlen("run-") + 5);
    assert_memory_equal(text_in(a, "metadata.name"), "run-", 4);
    assert_string_not_equal(text_in(a, "metadata.name"), text_in(b, "metadata.name"));
}

/* A dry run of what exists already would not succeed either. */
static void test_dry_run_sees_what_exists(void **state)
{
    struct rig *rig = *state;

    assert_answer(do_post(rig, WIDGETS, widget(rig, "a", "")), 201);
    assert_refused(do_post(rig, WIDGETS "?dryRun=All", widget(rig, "a", "")), 409, "AlreadyExists",
                   "already exists");
}

static void test_restart(void **state)
{
    struct rig *rig = rig_create("sqlite");
    struct answer made, again;

    *state = rig;
    rig_open(rig);
    made = do_post(rig, WIDGETS, widget(rig, "a", "\"size\":1"));
    assert_answer(made, 201);
    assert_answer(do_patch(rig, WIDGETS "/a", "{\"spec\":{\"size\":2}}"), 200);
    made = do_get(rig, WIDGETS "/a");
    rig_close(rig);
    rig_open(rig);
    again = do_get(rig, WIDGETS "/a");
    assert_true(json_equal(made.body, again.body));
    assert_true(revision_in(do_post(rig, WIDGETS, widget(rig, "b", ""))) > revision_in(made));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create_and_get),
        TEST(test_create_refuses),
        TEST(test_invalid_names_its_fields),
        TEST(test_update),
        TEST(test_another_uid_conflicts),
        TEST(test_patches),
        TEST(test_strategic_patch),
        TEST(test_apply),
        TEST(test_generation_follows_desire),
        TEST(test_status_and_spec_are_apart),
        TEST(test_scale),
        TEST(test_finalizers),
        TEST(test_delete),
        TEST(test_delete_collection),
        TEST(test_delete_large_collection),
        TEST(test_dry_run_writes_nothing),
        TEST(test_dry_run_sees_what_exists),
        TEST(test_generated_names),
        cmocka_unit_test_teardown(test_restart, rig_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
