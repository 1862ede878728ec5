#include "api/resource.h"

#include "api/crd.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct fl_resource *builtin(const char *group, const char *kind)
{
    struct fl_resource *resource = NULL;
    FL_JSON entries = NULL;
    json_t *entry;
    size_t i;

    assert_int_equal(fl_builtin_load(&entries, NULL), 0);
    json_array_foreach(entries, i, entry)
        if (fl_streq(fl_json_str(entry, "group"), group) &&
            fl_streq(fl_json_str(entry, "names.kind"), kind))
            assert_int_equal(fl_resource_from_builtin(entry, &resource, NULL), 0);
    assert_non_null(resource);
    return resource;
}

/* Every entry of the table can be served: it has names, verbs and a schema that compiles. */
static void test_all_builtins(void **state)
{
    FL_JSON entries = NULL;
    json_t *entry;
    size_t i;

    (void)state;
    assert_int_equal(fl_builtin_load(&entries, NULL), 0);
    assert_true(json_array_size(entries) > 10);
    json_array_foreach(entries, i, entry) {
        FL_CLEANUP(fl_resource_unrefp) struct fl_resource *resource = NULL;
        struct fl_error err = {0};

        if (fl_resource_from_builtin(entry, &resource, &err) < 0)
            fail_msg("%s", err.msg);
        assert_true(resource->builtin);
        assert_true(*resource->plural && *resource->kind && *resource->version);
        assert_true(resource->verbs != 0);
        assert_true(!fl_resource_allows(resource, FL_VERB_LIST) || *resource->list_kind);
    }
}

static void test_builtin_names(void **state)
{
    FL_CLEANUP(fl_resource_unrefp) struct fl_resource *secret = builtin("", "Secret");
    FL_CLEANUP(fl_resource_unrefp)
    struct fl_resource *role = builtin("rbac.authorization.k8s.io", "ClusterRole");
    FL_CLEANUP(fl_resource_unrefp) struct fl_resource *ns = builtin("", "Namespace");

    (void)state;
    assert_string_equal(secret->storage, "secrets");
    assert_string_equal(secret->api_version, "v1");
    assert_true(secret->traits.namespaced && !secret->traits.has_generation);
    assert_string_equal(role->storage, "clusterroles.rbac.authorization.k8s.io");
    assert_string_equal(role->api_version, "rbac.authorization.k8s.io/v1");
    assert_true(role->traits.loose_names && !role->traits.namespaced);
    assert_true(ns->traits.namespace_like && ns->has_finalize);
    assert_false(fl_resource_allows(ns, FL_VERB_DELETE_COLLECTION));
    assert_string_equal(fl_verb_name(FL_VERB_DELETE_COLLECTION), "deletecollection");
}

/* Events of both groups are one object; what one form holds comes back from the other. */
static void test_converted(void **state)
{
    FL_CLEANUP(fl_resource_unrefp)
    struct fl_resource *event = builtin("events.k8s.io", "Event");
    FL_JSON shown = json_pack("{s:s, s:s, s:{s:s}, s:s, s:i}", "apiVersion", "events.k8s.io/v1",
                              "note", "words", "regarding", "name", "a", "reportingController", "c",
                              "deprecatedCount", 3);
    FL_JSON value = json_deep_copy(shown);

    (void)state;
    assert_true(event->converted);
    assert_string_equal(event->storage, "events");
    fl_resource_to_stored(event, value);
    assert_string_equal(fl_json_str(value, "apiVersion"), "v1");
    assert_string_equal(fl_json_str(value, "message"), "words");
    assert_string_equal(fl_json_str(value, "involvedObject.name"), "a");
    assert_string_equal(fl_json_str(value, "reportingComponent"), "c");
    assert_int_equal(fl_json_int(value, "count", 0), 3);
    assert_null(json_object_get(value, "note"));
    fl_resource_from_stored(event, value);
    assert_true(json_equal(value, shown));
}

static void test_definition(void **state)
{
    FL_JSON crd = json_loads(
        "{\"metadata\":{\"name\":\"widgets.test.dev\"},\"spec\":{\"group\":\"test.dev\",\"scope\":"
        "\"Namespaced\",\"names\":{\"plural\":\"widgets\",\"kind\":\"Widget\",\"shortNames\":"
        "[\"w\"],\"categories\":[\"all\"]},\"versions\":[{\"name\":\"v1\",\"served\":true,"
        "\"storage\":true,\"deprecated\":true,\"subresources\":{\"status\":{},\"scale\":{"
        "\"specReplicasPath\":\".spec.replicas\",\"statusReplicasPath\":\".status.replicas\"}},"
        "\"selectableFields\":[{\"jsonPath\":\".spec.color\"}],\"schema\":{\"openAPIV3Schema\":{"
        "\"type\":\"object\"}}}]}}",
        0, NULL);
    FL_CLEANUP(fl_resource_unrefp) struct fl_resource *resource = NULL;

    (void)state;
    assert_non_null(crd);
    fl_crd_default(crd);
    assert_int_equal(fl_resource_from_crd(crd,
                                          json_array_get(fl_json_path(crd, "spec.versions"), 0),
                                          &resource, NULL),
                     0);
    assert_string_equal(resource->storage, "widgets.test.dev");
    assert_string_equal(resource->api_version, "test.dev/v1");
    assert_string_equal(resource->singular, "widget");
    assert_string_equal(resource->list_kind, "WidgetList");
    assert_string_equal(resource->short_names.items[0], "w");
    assert_string_equal(resource->categories.items[0], "all");
    assert_true(resource->traits.namespaced && resource->traits.has_status &&
                resource->traits.has_generation && resource->has_scale);
    assert_string_equal(resource->scale_spec_path, ".spec.replicas");
    assert_null(resource->scale_selector_path);
    assert_int_equal(resource->selectable.count, 1);
    assert_true(resource->deprecated);
    assert_non_null(strstr(resource->deprecation_warning, "test.dev/v1 Widget is deprecated"));
    for (int verb = 0; verb < FL_VERB_COUNT; verb++)
        assert_true(fl_resource_allows(resource, (enum fl_verb)verb));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_builtins),
        cmocka_unit_test(test_builtin_names),
        cmocka_unit_test(test_converted),
        cmocka_unit_test(test_definition),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
