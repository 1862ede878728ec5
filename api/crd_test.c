/* CustomResourceDefinitions against what an API server answered (api/testdata/crd.yaml), their
 * defaults, pruning and status. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/crd.h"
#include "lib/file.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fl_arena *arena;
static size_t differences;

static int set_up(void **state)
{
    (void)state;
    arena = fl_arena_create();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fl_arena_destroy(arena);
    return 0;
}

static json_t *read_json(const char *text)
{
    json_t *value = NULL;
    struct fl_error err;

    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return fl_json_in_arena(arena, value);
}

/* "..." in the pattern stands for any text. */
static bool matches(const char *pattern, const char *text)
{
    const char *dots = strstr(pattern, "...");
    size_t head = dots ? (size_t)(dots - pattern) : strlen(pattern);

    if (strncmp(pattern, text, head) != 0)
        return false;
    return dots ? fl_str_has_suffix(text + head, dots + 3) : text[head] == '\0';
}

static bool is_expected(const json_t *list, const char *line)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        if (matches(json_string_value(item), line))
            return true;
    }
    return false;
}

static void compare(const json_t *test, const struct fl_field_errors *errors)
{
    const json_t *expected = json_object_get(test, "errors"), *item;
    const char *lines[FL_FIELD_ERRORS_MAX], *name = fl_json_str(test, "name");
    size_t i;

    for (i = 0; i < errors->count; i++) {
        lines[i] =
            fl_arena_printf(arena, "%s: %s", errors->items[i].path, errors->items[i].message);
        if (!is_expected(expected, lines[i])) {
            print_error("%s: not expected: %s\n", name, lines[i]);
            differences++;
        }
    }
    json_array_foreach(expected, i, item) {
        size_t j = 0;

        while (j < errors->count && !matches(json_string_value(item), lines[j]))
            j++;
        if (j == errors->count) {
            print_error("%s: missing: %s\n", name, json_string_value(item));
            differences++;
        }
    }
}

static int run_case(void *user, json_t *test, size_t line, struct fl_error *err)
{
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);
    json_t *crd = json_object_get(test, "crd"), *old = json_object_get(test, "old");

    (void)line;
    (void)err;
    fl_field_errors_init(errors, arena);
    fl_crd_default(crd);
    if (old)
        fl_crd_default(old);
    fl_crd_validate(crd, old, errors);
    compare(test, errors);
    ++*(size_t *)user;
    return 0;
}

static void answers_are_those_of_an_api_server(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_error err;
    size_t count = 0;

    (void)state;
    if (fl_file_read("api/testdata/crd.yaml", 1 << 20, &bytes, &err) < 0 ||
        fl_yaml_parse_all(bytes->data, bytes->len, NULL, run_case, &count, &err) < 0)
        fail_msg("%s", err.msg);
    print_message("%zu definitions\n", count);
    assert_int_equal(differences, 0);
    assert_true(count > 30);
}

#define SMALL                                                                                      \
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","           \
    "\"metadata\":{\"name\":\"foos.a.b\"},\"spec\":{\"group\":\"a.b\",\"scope\":\"Cluster\","      \
    "\"names\":{\"plural\":\"foos\",\"kind\":\"Foo\"},\"versions\":[{\"name\":\"v1\",\"served\":"  \
    "true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"properties\":{"  \
    "\"spec\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}}}}}}}]}}"

static void defaults_are_filled_in(void **state)
{
    json_t *crd = read_json(SMALL);

    (void)state;
    fl_crd_default(crd);
    assert_string_equal(fl_json_str(crd, "spec.names.singular"), "foo");
    assert_string_equal(fl_json_str(crd, "spec.names.listKind"), "FooList");
    assert_string_equal(fl_json_str(crd, "spec.conversion.strategy"), "None");
    assert_string_equal(
        json_string_value(json_array_get(fl_json_path(crd, "status.storedVersions"), 0)), "v1");
    assert_ptr_equal(fl_crd_version(crd, "v1"), fl_crd_storage_version(crd));
    assert_null(fl_crd_version(crd, "v2"));
}

static void conversion_by_webhook_is_refused(void **state)
{
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);
    json_t *crd = read_json(SMALL);

    (void)state;
    fl_field_errors_init(errors, arena);
    (void)json_object_set_new(json_object_get(crd, "spec"), "conversion",
                              json_pack("{s:s}", "strategy", "Webhook"));
    fl_crd_default(crd);
    fl_crd_validate(crd, NULL, errors);
    assert_int_equal(errors->count, 1);
    assert_string_equal(errors->items[0].path, "spec.conversion.strategy");
}

static void what_has_the_wrong_shape_is_told(void **state)
{
    static const char *const bodies[] = {
        "{}",
        "{\"spec\":1}",
        "{\"spec\":{\"versions\":{}}}",
        "{\"spec\":{\"versions\":[1]}}",
        "{\"spec\":{\"names\":[]}}",
        "{\"spec\":{\"names\":{\"shortNames\":\"x\",\"plural\":1}}}",
        "{\"spec\":{\"versions\":[{\"name\":1,\"schema\":1,\"subresources\":1,"
        "\"additionalPrinterColumns\":{},\"selectableFields\":1}]}}",
        "{\"spec\":{\"versions\":[{\"schema\":{\"openAPIV3Schema\":[]},\"subresources\":"
        "{\"scale\":1,\"status\":{}},\"additionalPrinterColumns\":[1],\"selectableFields\":[1]}]}}",
        "{\"spec\":{},\"status\":{\"storedVersions\":[1],\"conditions\":[1]}}",
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(bodies); i++) {
        struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);

        fl_field_errors_init(errors, arena);
        fl_crd_validate(read_json(bodies[i]), read_json(SMALL), errors);
        assert_true(errors->count > 0);
        fl_crd_prune(read_json(bodies[i]), NULL, NULL);
    }
}

static void note(void *user, const char *path)
{
    fl_buf_printf(user, "%s\n", path);
}

static void unknown_fields_are_pruned_at_any_depth(void **state)
{
    json_t *crd = read_json(SMALL), *version, *spec;
    struct fl_buf seen;

    (void)state;
    version = json_array_get(fl_json_path(crd, "spec.versions"), 0);
    spec = fl_json_path(version, "schema.openAPIV3Schema.properties.spec");
    (void)json_object_set_new(crd, "more", json_true());
    (void)json_object_set_new(version, "srved", json_true());
    (void)json_object_set_new(spec, "minimun", json_integer(1));
    (void)json_object_set_new(fl_json_path(spec, "properties.n"), "anyOf",
                              json_pack("[{s:i}]", "maximun", 1));
    (void)json_object_set_new(spec, "default", json_pack("{s:i}", "any", 1));
    fl_buf_init(&seen, 0);
    fl_crd_prune(crd, note, &seen);
    assert_string_equal(
        fl_buf_text(&seen),
        "more\nspec.versions[0].srved\n"
        "spec.versions[0].schema.openAPIV3Schema.properties.spec.minimun\n"
        "spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.n.anyOf[0].maximun\n");
    assert_non_null(fl_json_path(spec, "default.any"));
    fl_buf_finish(&seen);
}

static const char *condition(const json_t *crd, const char *type, const char *key)
{
    const json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(crd, "status.conditions"), i, item) {
        if (fl_streq(fl_json_str(item, "type"), type))
            return fl_json_str(item, key);
    }
    return NULL;
}

static void status_follows_the_names(void **state)
{
    json_t *crd = read_json(SMALL);

    (void)state;
    fl_crd_default(crd);
    fl_crd_set_status(crd, false, "PluralConflict", "\"foos\" is already in use", "t1");
    assert_false(fl_crd_is_established(crd));
    assert_string_equal(condition(crd, "NamesAccepted", "status"), "False");
    assert_string_equal(condition(crd, "NamesAccepted", "reason"), "PluralConflict");
    assert_string_equal(condition(crd, "Established", "reason"), "NotAccepted");
    assert_string_equal(fl_json_str(crd, "status.acceptedNames.plural"), "");

    fl_crd_set_status(crd, true, NULL, NULL, "t2");
    assert_true(fl_crd_is_established(crd));
    assert_string_equal(condition(crd, "NamesAccepted", "lastTransitionTime"), "t2");
    assert_string_equal(condition(crd, "Established", "reason"), "InitialNamesAccepted");
    assert_string_equal(fl_json_str(crd, "status.acceptedNames.listKind"), "FooList");

    fl_crd_set_status(crd, true, NULL, NULL, "t3");
    assert_string_equal(condition(crd, "NamesAccepted", "lastTransitionTime"), "t2");
    fl_crd_set_status(crd, false, "KindConflict", "taken", "t4");
    assert_true(fl_crd_is_established(crd));
    assert_string_equal(condition(crd, "NamesAccepted", "lastTransitionTime"), "t4");
    assert_int_equal(json_array_size(fl_json_path(crd, "status.storedVersions")), 1);
}

static void a_new_storage_version_is_stored_too(void **state)
{
    json_t *crd = read_json(SMALL), *versions = fl_json_path(crd, "spec.versions"), *second;

    (void)state;
    fl_crd_default(crd);
    second = json_deep_copy(json_array_get(versions, 0));
    (void)json_object_set_new(second, "name", json_string("v2"));
    (void)json_object_set_new(json_array_get(versions, 0), "storage", json_false());
    (void)json_array_append_new(versions, second);
    fl_crd_default(crd);
    assert_int_equal(json_array_size(fl_json_path(crd, "status.storedVersions")), 2);
}

static void a_schema_is_compiled_from_a_version(void **state)
{
    FL_CLEANUP(fl_schema_unrefp) struct fl_schema *schema = NULL;
    FL_CLEANUP(fl_schema_unrefp) struct fl_schema *none = NULL;
    struct fl_error err;

    (void)state;
    assert_int_equal(fl_crd_compile_schema(fl_crd_version(read_json(SMALL), "v1"), &schema, &err),
                     0);
    assert_int_equal(fl_schema_node_type(fl_schema_node_member(fl_schema_root(schema), "spec")),
                     FL_SCHEMA_OBJECT);
    assert_int_equal(fl_crd_compile_schema(read_json("{\"name\":\"v1\"}"), &none, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_are_those_of_an_api_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(defaults_are_filled_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(conversion_by_webhook_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_has_the_wrong_shape_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unknown_fields_are_pruned_at_any_depth, set_up, tear_down),
        cmocka_unit_test_setup_teardown(status_follows_the_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_storage_version_is_stored_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_schema_is_compiled_from_a_version, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
