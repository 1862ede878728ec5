#include "api/field.h"

#include "api/gen/crds_embedded.h"
#include "api/gen/flops_types.h"
#include "api/schema.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A table with one field of each type. */

enum color { COLOR_UNSET, COLOR_RED, COLOR_GREEN };

struct part {
    const char *name;
    int64_t size;
};

struct part_list {
    struct part *items;
    size_t count;
};

struct color_list {
    enum color *items;
    size_t count;
};

struct thing {
    const char *text, *decimal, *duration, *quantity, *time;
    int64_t number, other;
    bool has_other;
    bool flag, maybe;
    bool has_maybe;
    enum color color;
    struct part part, optional;
    bool has_optional;
    struct part_list parts;
    struct fl_string_list words;
    struct fl_int_list numbers;
    struct color_list colors;
    struct fl_string_map labels;
    const json_t *free_form;
};

static const char *const colors[] = {"Red", "Green", NULL};

static const struct fl_field part_fields[] = {
    {"name", FL_F_STRING, .offset = offsetof(struct part, name), .required = true},
    {"size", FL_F_INT, .offset = offsetof(struct part, size), .max = 9, .def = "3"},
    {.name = NULL},
};

#define AT(member)  .offset = offsetof(struct thing, member)
#define HAS(member) .has_offset = offsetof(struct thing, member)
#define PART        .fields = part_fields, .size = sizeof(struct part)

static const struct fl_field thing_fields[] = {
    {"text", FL_F_STRING, AT(text), .min = 2, .max = 4},
    {"decimal", FL_F_DECIMAL, AT(decimal), .def = "0.50"},
    {"duration", FL_F_DURATION, AT(duration)},
    {"quantity", FL_F_QUANTITY, AT(quantity)},
    {"time", FL_F_TIME, AT(time)},
    {"number", FL_F_INT, AT(number), .required = true, .min = 1, .max = 100},
    {"other", FL_F_INT, AT(other), HAS(has_other), .min = INT64_MIN},
    {"flag", FL_F_BOOL, AT(flag), .def = "true"},
    {"maybe", FL_F_BOOL, AT(maybe), HAS(has_maybe)},
    {"color", FL_F_ENUM, AT(color), .values = colors},
    {"part", FL_F_OBJECT, AT(part), .def = "{\"name\":\"made\"}", PART},
    {"optional", FL_F_OBJECT, AT(optional), HAS(has_optional), PART},
    {"parts", FL_F_LIST, AT(parts), .max = 3, .element = FL_F_OBJECT, PART},
    {"words", FL_F_LIST, AT(words), .min = 1, .element = FL_F_STRING, .def = "[\"a\",\"b\"]"},
    {"numbers", FL_F_LIST, AT(numbers), .element = FL_F_INT},
    {"colors", FL_F_LIST, AT(colors), .element = FL_F_ENUM, .values = colors},
    {"labels", FL_F_MAP, AT(labels), .max = 2},
    {"freeForm", FL_F_JSON, AT(free_form)},
    {.name = NULL},
};

static json_t *parsed(const char *yaml)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_yaml_parse(yaml, strlen(yaml), NULL, &value, &err) < 0)
        fail_msg("%s: %s", yaml, err.msg);
    return value;
}

static int decode(const char *yaml, struct fl_arena *arena, struct thing *ret_thing,
                  struct fl_error *err)
{
    FL_JSON json = parsed(yaml);

    return fl_fields_decode(thing_fields, sizeof(*ret_thing), json, "spec", arena, ret_thing, err);
}

static void decodes_with_defaults(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct thing thing;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(decode("{number: 5, unknown: {a: 1}, text: null}", arena, &thing, &err), 0);
    assert_int_equal(thing.number, 5);
    assert_null(thing.text);
    assert_string_equal(thing.decimal, "0.50");
    assert_true(thing.flag);
    assert_false(thing.has_other || thing.has_maybe || thing.has_optional);
    assert_int_equal(thing.color, COLOR_UNSET);
    assert_string_equal(thing.part.name, "made");
    assert_int_equal(thing.part.size, 3);
    assert_int_equal(thing.words.count, 2);
    assert_string_equal(thing.words.items[1], "b");
    assert_null(thing.parts.items);
    assert_null(thing.labels.items);
    assert_null(thing.free_form);
}

static const char everything[] =
    "{text: éé, decimal: '1e-3', duration: 1h30m, quantity: 500m, time: '2026-01-02T03:04:05Z',"
    " number: 7.0, other: -3, flag: false, maybe: false, color: Green, part: {name: p, size: 0},"
    " optional: {name: o}, parts: [{name: a}, {name: b, size: 9}], words: [x], numbers: [-1, 2],"
    " colors: [Red, Green], labels: {k: v, l: ''}, freeForm: {a: [1, {b: null}]}}";

static void decodes_every_type(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct thing thing;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(decode(everything, arena, &thing, &err), 0);
    assert_string_equal(thing.text, "éé");
    assert_string_equal(thing.quantity, "500m");
    assert_int_equal(thing.number, 7);
    assert_true(thing.has_other && thing.other == -3);
    assert_true(thing.has_maybe && !thing.maybe && !thing.flag);
    assert_int_equal(thing.color, COLOR_GREEN);
    assert_int_equal(thing.part.size, 0);
    assert_true(thing.has_optional && thing.optional.size == 3);
    assert_int_equal(thing.parts.count, 2);
    assert_int_equal(thing.parts.items[1].size, 9);
    assert_int_equal(thing.numbers.items[0], -1);
    assert_int_equal(thing.colors.items[1], COLOR_GREEN);
    assert_string_equal(fl_string_map_get(&thing.labels, "k"), "v");
    assert_string_equal(fl_string_map_get(&thing.labels, "l"), "");
    assert_null(fl_string_map_get(&thing.labels, "m"));
    assert_int_equal(json_array_size(json_object_get(thing.free_form, "a")), 2);
}

static const struct {
    const char *yaml, *message;
} refused[] = {
    {"{}", "spec.number: is required"},
    {"{number: 0}", "spec.number: 0 is less than 1"},
    {"{number: 101}", "spec.number: 101 is more than 100"},
    {"{number: 1.5}", "spec.number: must be an integer, not a number"},
    {"{number: '1'}", "spec.number: must be an integer, not a string"},
    {"{number: 1, text: x}", "spec.text: has 1 characters, fewer than 2"},
    {"{number: 1, text: ééééé}", "spec.text: has 5 characters, more than 4"},
    {"{number: 1, text: 5}", "spec.text: must be a string, not a number"},
    {"{number: 1, decimal: 1.}", "spec.decimal: must be a string, not a number"},
    {"{number: 1, decimal: 0x1}", "spec.decimal: must be a string, not a number"},
    {"{number: 1, decimal: '0x1'}", "spec.decimal: \"0x1\" is not a decimal number"},
    {"{number: 1, decimal: nan}", "spec.decimal: \"nan\" is not a decimal number"},
    {"{number: 1, decimal: '1e999'}", "spec.decimal: \"1e999\" is not a decimal number"},
    {"{number: 1, decimal: ''}", "spec.decimal: \"\" is not a decimal number"},
    {"{number: 1, duration: 5x}", "spec.duration: \"5x\" is not a duration such as 30s or 1h30m"},
    {"{number: 1, quantity: 1.5}", "spec.quantity: must be a string, not a number"},
    {"{number: 1, flag: 1}", "spec.flag: must be a boolean, not a number"},
    {"{number: 1, color: Blue}", "spec.color: \"Blue\" is none of Red, Green"},
    {"{number: 1, color: [Red]}", "spec.color: must be a string, not a list"},
    {"{number: 1, part: {}}", "spec.part.name: is required"},
    {"{number: 1, optional: []}", "spec.optional: must be an object, not a list"},
    {"{number: 1, parts: [{name: a}, {size: 1}]}", "spec.parts[1].name: is required"},
    {"{number: 1, parts: [{name: a, size: 10}]}", "spec.parts[0].size: 10 is more than 9"},
    {"{number: 1, parts: [{name: a}, null]}", "spec.parts[1]: must be an object, not null"},
    {"{number: 1, parts: [1, 2, 3, 4]}", "spec.parts: has 4 items, more than 3"},
    {"{number: 1, words: []}", "spec.words: has 0 items, fewer than 1"},
    {"{number: 1, words: [a, 1]}", "spec.words[1]: must be a string, not a number"},
    {"{number: 1, words: {a: b}}", "spec.words: must be a list, not an object"},
    {"{number: 1, colors: [Red, Blue]}", "spec.colors[1]: \"Blue\" is none of Red, Green"},
    {"{number: 1, labels: {a: 1}}", "spec.labels.a: must be a string, not a number"},
    {"{number: 1, labels: {a: a, b: b, c: c}}", "spec.labels: has 3 members, more than 2"},
    {"[]", "spec: must be an object, not a list"},
};

static void names_the_path_of_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(refused); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct thing thing;
        struct fl_error err = {0};

        assert_int_equal(decode(refused[i].yaml, arena, &thing, &err), FL_E_INVALID);
        assert_string_equal(err.msg, refused[i].message);
        assert_int_equal(decode(refused[i].yaml, arena, &thing, NULL), FL_E_INVALID);
    }
}

static void encodes_what_is_there(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON want = parsed("{number: 5, decimal: '0.50', flag: true, part: {name: made, size: 3},"
                          " words: [a, b]}");
    FL_JSON got = NULL;
    FL_JSON all = NULL;
    FL_JSON given = parsed(everything);
    struct thing thing;

    (void)state;
    assert_int_equal(decode("{number: 5}", arena, &thing, NULL), 0);
    got = fl_fields_encode(thing_fields, &thing);
    assert_true(json_equal(got, want));

    /* With everything given, what comes out is what went in, and the one default. */
    assert_int_equal(decode(everything, arena, &thing, NULL), 0);
    all = fl_fields_encode(thing_fields, &thing);
    json_object_set_new(json_object_get(given, "optional"), "size", json_integer(3));
    json_object_set_new(json_array_get(json_object_get(given, "parts"), 0), "size",
                        json_integer(3));
    assert_true(json_equal(all, given));
}

static void an_empty_list_is_not_an_absent_one(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = NULL;
    struct thing with, without;

    (void)state;
    assert_int_equal(decode("{number: 1, parts: [], labels: {}}", arena, &with, NULL), 0);
    assert_int_equal(decode("{number: 1}", arena, &without, NULL), 0);
    assert_non_null(with.parts.items);
    assert_false(fl_fields_equal(thing_fields, &with, &without));
    json = fl_fields_encode(thing_fields, &with);
    assert_int_equal(json_array_size(json_object_get(json, "parts")), 0);
    assert_non_null(json_object_get(json, "parts"));
    assert_non_null(json_object_get(json, "labels"));
}

static void clones_do_not_share(void **state)
{
    struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *other = fl_arena_create();
    FL_JSON want = NULL;
    FL_JSON got = NULL;
    struct thing thing, clone;

    (void)state;
    assert_int_equal(decode(everything, arena, &thing, NULL), 0);
    want = fl_fields_encode(thing_fields, &thing);
    fl_fields_clone(thing_fields, sizeof(thing), &thing, other, &clone);
    assert_true(fl_fields_equal(thing_fields, &thing, &clone));
    clone.parts.items[0].size = 8;
    assert_int_equal(thing.parts.items[0].size, 3);
    assert_false(fl_fields_equal(thing_fields, &thing, &clone));
    clone.parts.items[0].size = 3;
    fl_arena_destroy(arena); /* with all that the original had */
    got = fl_fields_encode(thing_fields, &clone);
    assert_true(json_equal(got, want));
}

/* Each change of one field is seen, and the order of a map's members is not. */
static void equality_sees_each_field(void **state)
{
    static const char *const other[] = {
        "text: ab",
        "decimal: '1'",
        "duration: 5s",
        "quantity: 1",
        "time: x",
        "number: 6",
        "other: 4",
        "flag: true",
        "maybe: true",
        "color: Red",
        "part: {name: q}",
        "optional: {name: o, size: 1}",
        "parts: [{name: a}]",
        "words: [x, z]",
        "numbers: [2]",
        "colors: [Green, Red]",
        "labels: {k: w, l: ''}",
        "freeForm: 1",
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct thing thing, changed;

    (void)state;
    assert_int_equal(decode(everything, arena, &thing, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(other); i++) {
        FL_JSON json = parsed(everything);
        FL_JSON change = parsed(other[i]);

        json_object_update(json, change);
        assert_int_equal(
            fl_fields_decode(thing_fields, sizeof(changed), json, "", arena, &changed, NULL), 0);
        if (fl_fields_equal(thing_fields, &thing, &changed))
            fail_msg("%s is not seen", other[i]);
    }
    assert_int_equal(decode("{number: 1, labels: {a: x, b: z}}", arena, &thing, NULL), 0);
    assert_int_equal(decode("{number: 1, labels: {b: z, a: x}}", arena, &changed, NULL), 0);
    assert_true(fl_fields_equal(thing_fields, &thing, &changed));
}

static void parses_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"0s", 0},          {"30s", 30000},
                {"1h30m", 5400000}, {"1.5s", 1500},
                {"250ms", 250},     {"0.001s", 1},
                {"1m0.5s", 60500},  {"2h", 7200000},
                {"1.25h", 4500000}, {"999999h", INT64_C(3599996400000)}};
    static const char *const bad[] = {"",
                                      "5",
                                      "s",
                                      "1.5",
                                      "-1s",
                                      "1 s",
                                      "1s ",
                                      "5d",
                                      "1h-1m",
                                      ".5s",
                                      "99999999999999999999s",
                                      "9999999999999h",
                                      "1e3s"};
    int64_t ms = -1;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(good); i++) {
        assert_true(fl_duration_parse(good[i].text, &ms));
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        if (fl_duration_parse(bad[i], &ms))
            fail_msg("\"%s\" was read as a duration", bad[i]);
}

/* The generated kinds. */

static json_t *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    static char text[1 << 20];
    struct fl_error err = {0};
    json_t *value = NULL;
    size_t len;

    assert_non_null(file);
    len = fread(text, 1, sizeof(text), file);
    assert_int_equal(fclose(file), 0);
    if (fl_yaml_parse(text, len, NULL, &value, &err) < 0)
        fail_msg("%s: %s", path, err.msg);
    return value;
}

/* Everything in `part` is in `whole` too. A quantity may have become text. */
static void assert_contains(const char *file, const json_t *whole, const json_t *part)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_integer(part) && json_is_string(whole))
        return;
    if (!json_is_object(part) && !json_is_array(part)) {
        if (!json_equal(whole, part))
            fail_msg("%s: a value was lost or changed", file);
        return;
    }
    json_object_foreach((json_t *)part, key, member) {
        if (!json_object_get(whole, key))
            fail_msg("%s: %s was lost", file, key);
        assert_contains(file, json_object_get(whole, key), member);
    }
    assert_int_equal(json_array_size(part), json_array_size(whole));
    json_array_foreach(part, i, member)
        assert_contains(file, json_array_get(whole, i), member);
}

static void check_example(const char *file)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = read_file(file);
    FL_JSON encoded = NULL;
    FL_JSON printed = NULL;
    const struct fl_kind_type *type = fl_kind_type_find(fl_json_str(json, "kind"));
    struct fl_error err = {0};
    struct fl_buf text;
    void *object, *again, *clone;

    assert_non_null(type);
    if (fl_object_decode(type, json, arena, &object, &err) < 0)
        fail_msg("%s: %s", file, err.msg);
    encoded = fl_object_encode(type, object);
    assert_contains(file, encoded, json);
    assert_int_equal(fl_object_decode(type, encoded, arena, &again, &err), 0);
    assert_true(fl_object_equal(type, object, again));
    clone = fl_object_clone(type, object, arena);
    assert_true(fl_object_equal(type, object, clone));
    fl_buf_init(&text, 0);
    fl_object_print(type, object, &text);
    assert_int_equal(fl_yaml_parse(text.data, text.len, NULL, &printed, &err), 0);
    assert_true(json_equal(printed, encoded));
    fl_buf_finish(&text);
}

static void examples_decode_and_come_back(void **state)
{
    glob_t files;

    (void)state;
    assert_int_equal(glob("crds/testdata/*/valid-*.yaml", 0, NULL, &files), 0);
    assert_int_equal(glob("crds/testdata/*/status-*.yaml", GLOB_APPEND, NULL, &files), 0);
    assert_true(files.gl_pathc >= 40);
    for (size_t i = 0; i < files.gl_pathc; i++)
        check_example(files.gl_pathv[i]);
    globfree(&files);
}

static struct fl_schema *schema_of(const struct fl_kind_type *type, struct fl_field_errors *errors)
{
    struct fl_error err = {0};
    struct fl_schema *schema = NULL;

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT && !schema; i++) {
        FL_JSON crd = NULL;
        const json_t *version;

        assert_int_equal(fl_json_parse(fl_embedded_crds[i].json, fl_embedded_crds[i].len, NULL,
                                       NULL, NULL, &crd, NULL),
                         0);
        version = json_array_get(fl_json_path(crd, "spec.versions"), 0);
        if (strcmp(fl_json_str(crd, "spec.names.kind"), type->kind) == 0 &&
            fl_schema_compile(fl_json_path(version, "schema.openAPIV3Schema"), "schema", &schema,
                              errors, &err) < 0)
            fail_msg("%s: %s", type->kind, err.msg);
    }
    assert_non_null(schema);
    return schema;
}

static void count_path(void *user, const char *path)
{
    (void)path;
    (*(size_t *)user)++;
}

/* Our defaults are the schema's, and what we encode is valid and known to it. */
static void check_against_schema(const char *file)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_schema_unrefp) struct fl_schema *schema = NULL;
    FL_JSON json = read_file(file);
    FL_JSON encoded = NULL;
    const struct fl_kind_type *type = fl_kind_type_find(fl_json_str(json, "kind"));
    struct fl_field_errors errors;
    void *object, *defaulted;
    size_t pruned = 0;

    fl_field_errors_init(&errors, arena);
    schema = schema_of(type, &errors);
    assert_int_equal(fl_object_decode(type, json, arena, &object, NULL), 0);
    fl_schema_default(schema, json);
    assert_int_equal(fl_object_decode(type, json, arena, &defaulted, NULL), 0);
    if (!fl_object_equal(type, object, defaulted))
        fail_msg("%s: the tables have other defaults than the schema", file);

    encoded = fl_object_encode(type, object);
    assert_contains(file, encoded, json);
    fl_schema_prune(schema, encoded, count_path, &pruned);
    assert_int_equal(pruned, 0);
    fl_schema_validate(schema, encoded, NULL, &errors);
    if (errors.count)
        fail_msg("%s: %s", file, fl_field_errors_text(&errors));
}

static void tables_agree_with_the_schemas(void **state)
{
    glob_t files;

    (void)state;
    assert_int_equal(glob("crds/testdata/*/valid-*.yaml", 0, NULL, &files), 0);
    assert_int_equal(glob("crds/testdata/*/status-*.yaml", GLOB_APPEND, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++)
        check_against_schema(files.gl_pathv[i]);
    globfree(&files);
}

static void a_project_is_a_struct(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = read_file("crds/testdata/flproject/valid-git-everything.yaml");
    struct fl_project *project;
    struct fl_error err = {0};

    (void)state;
    json_object_set_new(json_object_get(json, "metadata"), "generation", json_integer(4));
    json_object_set_new(json_object_get(json, "metadata"), "labels", json_pack("{s:s}", "a", "b"));
    if (fl_project_decode(json, arena, &project, &err) < 0) {
        fail_msg("%s", err.msg);
        return;
    }
    assert_string_equal(project->meta.name, "git-everything");
    assert_int_equal(project->meta.generation, 4);
    assert_string_equal(fl_json_str(project->meta.labels, "a"), "b");
    assert_null(project->meta.deletion_timestamp);
    assert_int_equal(project->spec.training.rounds, 10);
    assert_int_equal(project->spec.training.mode, FL_PROJECT_TRAINING_MODE_SYNC);
    assert_int_equal(project->spec.training.strategy.name,
                     FL_PROJECT_TRAINING_STRATEGY_NAME_FED_ADAM);
    assert_string_equal(project->spec.training.local.learning_rate, "0.1");
    assert_true(project->spec.has_resources && project->spec.resources.has_learner);
    assert_string_equal(project->spec.resources.learner.cpu, "2");
    assert_int_equal(project->spec.topology.tiers.count, 2);
    assert_int_equal(project->spec.topology.tiers.items[1].rounds_per_parent_round, 3);
    assert_true(json_is_array(fl_json_path(project->spec.training.local.config, "layers")));
    assert_int_equal(project->status.observed_generation, -1);
}

static void errors_of_kinds_name_the_path(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON json = read_file("crds/testdata/flproject/valid-minimal.yaml");
    struct fl_project *project = NULL;
    struct fl_round *round = NULL;
    struct fl_error err = {0};

    (void)state;
    json_object_set_new(fl_json_path(json, "spec.training"), "rounds", json_integer(0));
    assert_int_equal(fl_project_decode(json, arena, &project, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "spec.training.rounds: 0 is less than 1");
    assert_null(project);
    assert_int_equal(fl_round_decode(json, arena, &round, &err), FL_E_BAD_REQUEST);
    assert_string_equal(err.msg, "kind is FLProject, not FLRound");
    json_object_set_new(json, "metadata", json_pack("{s:i}", "name", 5));
    assert_int_equal(fl_project_decode(json, arena, &project, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "metadata.name: must be a string, not a number");
}

/* Also: no default in any table breaks the table's own bounds. */
static void every_kind_has_a_new_object(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_workload *workload = fl_workload_new(arena);

    (void)state;
    assert_int_equal(workload->spec.role, FL_WORKLOAD_ROLE_SERVICE);
    assert_string_equal(workload->spec.orchestrator, "local");
    for (size_t i = 0; fl_kind_types[i]; i++) {
        const struct fl_kind_type *type = fl_kind_types[i];
        FL_JSON json = fl_object_encode(type, fl_object_new(type, arena));

        assert_string_equal(fl_json_str(json, "kind"), type->kind);
        assert_string_equal(fl_json_str(json, "apiVersion"), "flops.dev/v1alpha1");
        assert_null(fl_json_path(json, "metadata.generation"));
        assert_ptr_equal(fl_kind_type_find(type->kind), type);
    }
    assert_null(fl_kind_type_find("Pod"));
    assert_false(fl_orchestrator_type.namespaced);
    assert_true(fl_project_type.namespaced);
    assert_string_equal(fl_project_type.short_names[0], "flp");
}

static void embedded_definitions_are_the_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++) {
        const struct fl_embedded_crd *crd = &fl_embedded_crds[i];
        FL_CLEANUP(fl_freep) char *path = NULL;
        FL_JSON file = NULL;
        FL_JSON json = NULL;

        assert_int_equal(fl_json_parse(crd->json, crd->len, NULL, NULL, NULL, &json, NULL), 0);
        assert_string_equal(fl_json_str(json, "metadata.name"), crd->name);
        path = fl_asprintf("crds/flops.dev_%s.yaml", fl_json_str(json, "spec.names.plural"));
        file = read_file(path);
        assert_true(json_equal(file, json));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_with_defaults),
        cmocka_unit_test(decodes_every_type),
        cmocka_unit_test(names_the_path_of_what_is_wrong),
        cmocka_unit_test(encodes_what_is_there),
        cmocka_unit_test(an_empty_list_is_not_an_absent_one),
        cmocka_unit_test(clones_do_not_share),
        cmocka_unit_test(equality_sees_each_field),
        cmocka_unit_test(parses_durations),
        cmocka_unit_test(examples_decode_and_come_back),
        cmocka_unit_test(tables_agree_with_the_schemas),
        cmocka_unit_test(a_project_is_a_struct),
        cmocka_unit_test(errors_of_kinds_name_the_path),
        cmocka_unit_test(every_kind_has_a_new_object),
        cmocka_unit_test(embedded_definitions_are_the_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
