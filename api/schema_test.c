/* The schema engine against what an API server answered (api/testdata/schema.yaml), and what that
 * file cannot say: bounds, sharing, nodes. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/schema.h"
#include "lib/file.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fl_arena *arena;
static size_t differences; /* told as they are found; the test fails at its end */

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

static struct fl_field_errors *new_errors(void)
{
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);

    fl_field_errors_init(errors, arena);
    return errors;
}

static json_t *read_json(const char *text)
{
    json_t *value = NULL;
    struct fl_error err;

    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return fl_json_in_arena(arena, value);
}

static struct fl_schema *compile(const char *text)
{
    struct fl_field_errors *errors = new_errors();
    struct fl_schema *schema = NULL;

    if (fl_schema_compile(read_json(text), "schema", &schema, errors, NULL) < 0)
        fail_msg("%s", fl_field_errors_text(errors));
    return schema;
}

/* The cases of the file. */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, without repetitions, one a line. */
static const char *joined(const char **texts, size_t count)
{
    struct fl_buf buf;
    const char *text;

    qsort(texts, count, sizeof(*texts), compare_texts);
    fl_buf_init(&buf, 0);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !fl_streq(texts[i], texts[i - 1]))
            fl_buf_printf(&buf, "    %s\n", texts[i]);
    }
    text = fl_arena_strdup(arena, fl_buf_text(&buf));
    fl_buf_finish(&buf);
    return text;
}

static const char *error_lines(const struct fl_field_errors *errors)
{
    const char *lines[FL_FIELD_ERRORS_MAX];

    for (size_t i = 0; i < errors->count; i++)
        lines[i] =
            fl_arena_printf(arena, "%s: %s", errors->items[i].path, errors->items[i].message);
    return joined(lines, errors->count);
}

static const char *expected_lines(const json_t *list)
{
    const char *lines[FL_FIELD_ERRORS_MAX];
    size_t count = json_array_size(list);

    assert_true(count <= FL_FIELD_ERRORS_MAX);
    for (size_t i = 0; i < count; i++)
        lines[i] = json_string_value(json_array_get(list, i));
    return joined(lines, count);
}

static void same_text(const json_t *group, const json_t *test, const char *what, const char *got,
                      const char *wanted)
{
    if (strcmp(got, wanted) == 0)
        return;
    differences++;
    print_error(
        "%s: %s\n  %s expected:\n%s\n  got:\n%s\n", fl_json_str(group, "name"),
        fl_json_to_string(arena, json_object_get(test ? test : group, test ? "object" : "schema")),
        what, wanted, got);
}

static json_t *whole_object(const json_t *spec)
{
    json_t *object = read_json("{\"apiVersion\":\"a.b/v1\",\"kind\":\"K\","
                               "\"metadata\":{\"name\":\"x\"}}");

    (void)json_object_update(object, (json_t *)spec);
    return object;
}

struct seen {
    const char *paths[FL_FIELD_ERRORS_MAX];
    size_t count;
};

static void note(void *user, const char *path)
{
    struct seen *seen = user;

    assert_true(seen->count < FL_FIELD_ERRORS_MAX);
    seen->paths[seen->count++] = fl_arena_strdup(arena, path);
}

static void run_case(const json_t *group, const json_t *test, const struct fl_schema *schema)
{
    json_t *object = json_deep_copy(whole_object(json_object_get(test, "object")));
    const json_t *old = json_object_get(test, "old"), *result = json_object_get(test, "result");
    struct fl_field_errors *errors = new_errors();
    struct seen seen = {.count = 0};

    fl_schema_prune(schema, object, note, &seen);
    fl_schema_default(schema, object);
    same_text(group, test, "unknown", joined(seen.paths, seen.count),
              expected_lines(json_object_get(test, "unknown")));
    same_text(
        group, test, "result", fl_json_to_string(arena, object),
        fl_json_to_string(arena, whole_object(result ? result : json_object_get(test, "object"))));
    fl_schema_validate(schema, object, old ? whole_object(old) : NULL, errors);
    same_text(group, test, "errors", error_lines(errors),
              expected_lines(json_object_get(test, "errors")));
    json_decref(object);
}

static int run_group(void *user, json_t *group, size_t line, struct fl_error *err)
{
    struct fl_field_errors *errors = new_errors();
    struct fl_schema *schema = NULL;
    const json_t *test;
    size_t i;

    (void)line;
    (void)fl_schema_compile(json_object_get(group, "schema"), "schema", &schema, errors, err);
    same_text(group, NULL, "errors", error_lines(errors),
              expected_lines(json_object_get(group, "errors")));
    json_array_foreach(json_object_get(group, "cases"), i, test) {
        run_case(group, test, schema);
        ++*(size_t *)user;
    }
    fl_schema_unref(schema);
    return 0;
}

static void answers_are_those_of_an_api_server(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_error err;
    size_t count = 0;

    (void)state;
    if (fl_file_read("api/testdata/schema.yaml", 1 << 20, &bytes, &err) < 0 ||
        fl_yaml_parse_all(bytes->data, bytes->len, NULL, run_group, &count, &err) < 0)
        fail_msg("%s", err.msg);
    print_message("%zu cases\n", count);
    assert_int_equal(differences, 0);
    assert_true(count > 90);
}

/* Bounds. */

static void a_schema_has_bounds(void **state)
{
    struct fl_field_errors *errors = new_errors();
    struct fl_schema *schema = NULL;
    json_t *deep = json_pack("{s:s}", "type", "string");
    FL_JSON wide = read_json("{\"type\":\"object\",\"properties\":{}}");

    (void)state;
    json_incref(wide);
    for (int i = 0; i < 70; i++)
        deep = json_pack("{s:s,s:{s:o}}", "type", "object", "properties", "p", deep);
    assert_int_equal(fl_schema_compile(deep, "s", &schema, errors, NULL), FL_E_INVALID);
    assert_non_null(strstr(errors->items[0].message, "nests deeper than 64 levels"));
    json_decref(deep);
    errors = new_errors();
    for (int i = 0; i < 20001; i++)
        (void)json_object_set_new(json_object_get(wide, "properties"),
                                  fl_arena_printf(arena, "p%d", i),
                                  json_pack("{s:s}", "type", "string"));
    assert_int_equal(fl_schema_compile(wide, "s", &schema, errors, NULL), FL_E_INVALID);
    assert_non_null(strstr(errors->items[0].message, "has more than 20000 parts"));
}

static void keywords_of_the_wrong_shape_are_refused(void **state)
{
    static const char *const schemas[] = {
        "[]",
        "{\"type\":1}",
        "{\"type\":\"object\",\"properties\":[]}",
        "{\"type\":\"object\",\"properties\":{\"a\":1}}",
        "{\"type\":\"object\",\"required\":\"a\"}",
        "{\"type\":\"object\",\"required\":[1]}",
        "{\"type\":\"object\",\"maximum\":\"1\"}",
        "{\"type\":\"object\",\"maxLength\":1.5}",
        "{\"type\":\"object\",\"anyOf\":{}}",
        "{\"type\":\"object\",\"anyOf\":[1]}",
        "{\"type\":\"object\",\"not\":[]}",
        "{\"type\":\"object\",\"items\":[]}",
        "{\"type\":\"object\",\"x-kubernetes-validations\":[1]}",
        "{\"type\":\"object\",\"x-kubernetes-validations\":[{\"rule\":1}]}",
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(schemas); i++) {
        struct fl_schema *schema = NULL;
        struct fl_error err;

        assert_int_equal(fl_schema_compile(read_json(schemas[i]), "s", &schema, new_errors(), &err),
                         FL_E_INVALID);
        assert_null(schema);
        assert_true(fl_str_has_prefix(err.msg, "s"));
    }
}

static void a_rule_that_cannot_be_compiled_refuses_the_schema(void **state)
{
    struct fl_field_errors *errors = new_errors();
    struct fl_schema *schema = NULL;

    (void)state;
    assert_int_equal(fl_schema_compile(read_json("{\"type\":\"object\",\"properties\":{\"a\":"
                                                 "{\"type\":\"string\"}},"
                                                 "\"x-kubernetes-validations\":"
                                                 "[{\"rule\":\"nosuch(self.a)\"}]}"),
                                       "s", &schema, errors, NULL),
                     FL_E_INVALID);
    assert_string_equal(errors->items[0].path, "s.x-kubernetes-validations[0].rule");
    assert_non_null(strstr(errors->items[0].message, "compilation failed"));
}

static void patterns_cannot_hold_the_engine(void **state)
{
    struct fl_schema *schema =
        compile("{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"array\",\"items\":"
                "{\"type\":\"string\",\"pattern\":\"^(a+)+$\"}}}}");
    struct fl_field_errors *errors = new_errors();
    json_t *list = json_array(), *object = json_pack("{s:o}", "spec", list);

    (void)state;
    for (int i = 0; i < 5000; i++)
        (void)json_array_append_new(
            list, json_string("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"));
    fl_schema_validate(schema, object, NULL, errors);
    assert_int_equal(errors->count + errors->dropped, 5000);
    json_decref(object);
    fl_schema_unref(schema);
}

static void long_lists_are_quick(void **state)
{
    struct fl_schema *schema =
        compile("{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"array\","
                "\"x-kubernetes-list-type\":\"map\",\"x-kubernetes-list-map-keys\":[\"k\"],"
                "\"items\":{\"type\":\"object\",\"required\":[\"k\"],\"properties\":"
                "{\"k\":{\"type\":\"integer\"},\"v\":{\"type\":\"integer\",\"maximum\":1}}}}}}");
    json_t *list = json_array(), *reversed = json_array();
    json_t *object = json_pack("{s:o}", "spec", list), *old = json_pack("{s:o}", "spec", reversed);
    struct fl_field_errors *errors = new_errors();

    (void)state;
    for (int i = 0; i < 50000; i++) {
        (void)json_array_append_new(list, json_pack("{s:i,s:i}", "k", i, "v", 2));
        (void)json_array_append_new(reversed, json_pack("{s:i,s:i}", "k", 49999 - i, "v", 2));
    }
    fl_schema_validate(schema, object, NULL, errors);
    assert_int_equal(errors->count + errors->dropped, 50000);
    errors = new_errors();
    fl_schema_validate(schema, object, old, errors);
    assert_int_equal(errors->count, 0);
    json_decref(object);
    json_decref(old);
    fl_schema_unref(schema);
}

/* Numbers and nodes. */

static void integral_reals_become_integers(void **state)
{
    struct fl_schema *schema = compile(
        "{\"type\":\"object\",\"properties\":{\"i\":{\"type\":\"integer\"},\"n\":{\"type\":"
        "\"number\"},\"p\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true},"
        "\"l\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}}}");
    json_t *object = json_pack("{s:f,s:f,s:{s:f,s:f},s:[f]}", "i", 2.0, "n", 2.0, "p", "a", 3.0,
                               "b", 3.5, "l", 4.0);

    (void)state;
    fl_schema_normalize(schema, object);
    assert_true(json_is_integer(json_object_get(object, "i")));
    assert_true(json_is_real(json_object_get(object, "n")));
    assert_true(json_is_integer(fl_json_path(object, "p.a")));
    assert_true(json_is_real(fl_json_path(object, "p.b")));
    assert_true(json_is_integer(json_array_get(json_object_get(object, "l"), 0)));
    json_decref(object);
    fl_schema_unref(schema);
}

static void metadata_is_known(void **state)
{
    struct fl_schema *schema = compile("{\"type\":\"object\"}");
    const struct fl_schema_node *metadata =
        fl_schema_node_member(fl_schema_root(schema), "metadata");
    json_t *object = json_pack("{s:{s:s,s:i,s:[{s:s,s:s}]}}", "metadata", "name", "x", "nope", 1,
                               "ownerReferences", "uid", "u", "zip", "z");
    struct seen seen = {.count = 0};
    const char *const *keys;

    (void)state;
    fl_schema_prune(schema, object, note, &seen);
    assert_string_equal(joined(seen.paths, seen.count),
                        "    metadata.nope\n    metadata.ownerReferences[0].zip\n");
    assert_int_equal(fl_schema_node_type(metadata), FL_SCHEMA_OBJECT);
    assert_int_equal(fl_schema_node_list_type(fl_schema_node_member(metadata, "finalizers")),
                     FL_LIST_SET);
    assert_int_equal(
        fl_schema_node_list_keys(fl_schema_node_member(metadata, "ownerReferences"), &keys), 1);
    assert_string_equal(keys[0], "uid");
    json_decref(object);
    fl_schema_unref(schema);
}

static void nodes_tell_what_they_are(void **state)
{
    struct fl_schema *schema =
        compile("{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"object\","
                "\"x-kubernetes-map-type\":\"atomic\",\"properties\":{\"t\":{\"type\":\"string\","
                "\"format\":\"date-time\",\"default\":\"2020-01-02T03:04:05Z\"}}},"
                "\"m\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}},"
                "\"f\":{\"x-kubernetes-preserve-unknown-fields\":true},"
                "\"l\":{\"type\":\"array\",\"items\":{\"x-kubernetes-int-or-string\":true}}}}");
    const struct fl_schema_node *root = fl_schema_root(schema), *spec, *t;

    (void)state;
    spec = fl_schema_node_member(root, "spec");
    t = fl_schema_node_member(spec, "t");
    assert_true(fl_schema_node_is_atomic(spec));
    assert_string_equal(fl_schema_node_format(t), "date-time");
    assert_string_equal(json_string_value(fl_schema_node_default(t)), "2020-01-02T03:04:05Z");
    assert_int_equal(
        fl_schema_node_type(fl_schema_node_member(fl_schema_node_member(root, "m"), "any")),
        FL_SCHEMA_INTEGER);
    assert_true(fl_schema_node_preserves_unknown(fl_schema_node_member(root, "f")));
    assert_int_equal(fl_schema_node_type(fl_schema_node_items(fl_schema_node_member(root, "l"))),
                     FL_SCHEMA_INT_OR_STRING);
    assert_null(fl_schema_node_member(spec, "nope"));
    assert_int_equal(fl_schema_node_type(NULL), FL_SCHEMA_ANY);
    assert_null(fl_schema_node_member(NULL, "x"));
    fl_schema_unref(fl_schema_ref(schema));
    fl_schema_unref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_are_those_of_an_api_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_schema_has_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keywords_of_the_wrong_shape_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rule_that_cannot_be_compiled_refuses_the_schema, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(patterns_cannot_hold_the_engine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_lists_are_quick, set_up, tear_down),
        cmocka_unit_test_setup_teardown(integral_reals_become_integers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(metadata_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nodes_tell_what_they_are, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
