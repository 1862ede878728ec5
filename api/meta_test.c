#include "api/meta.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct fl_traits custom = {
    .namespaced = true, .has_status = true, .has_generation = true};
static const struct fl_traits plain = {.namespaced = true};
static const struct fl_traits namespace_like = {.namespace_like = true, .has_status = true};
static const struct fl_traits loose = {.loose_names = true};

static json_t *json(const char *text)
{
    json_t *value = json_loads(text, 0, NULL);

    if (!value)
        fail_msg("no JSON: %s", text);
    return value;
}

/* Names */

static void test_names(void **state)
{
    static const struct {
        bool (*is)(const char *name, const char **ret_why);
        const char *name;
        bool good;
    } cases[] = {
        {fl_name_is_subdomain, "a", true},
        {fl_name_is_subdomain, "a.b-c.0", true},
        {fl_name_is_subdomain, "", false},
        {fl_name_is_subdomain, "A", false},
        {fl_name_is_subdomain, "a..b", false},
        {fl_name_is_subdomain, ".a", false},
        {fl_name_is_subdomain, "a.", false},
        {fl_name_is_subdomain, "a-", false},
        {fl_name_is_subdomain, "a_b", false},
        {fl_name_is_subdomain, "a/b", false},
        {fl_name_is_subdomain, "\xc3\xa4", false},
        {fl_name_is_label, "a-b", true},
        {fl_name_is_label, "a.b", false},
        {fl_name_is_label, "-a", false},
        {fl_name_is_path_segment, "system:node x", true},
        {fl_name_is_path_segment, "..", false},
        {fl_name_is_path_segment, ".", false},
        {fl_name_is_path_segment, "a/b", false},
        {fl_name_is_path_segment, "a%2fb", false},
        {fl_name_is_path_segment, "", false},
        {fl_name_is_qualified, "a", true},
        {fl_name_is_qualified, "A_b.c", true},
        {fl_name_is_qualified, "x.dev/A", true},
        {fl_name_is_qualified, "X.dev/a", false},
        {fl_name_is_qualified, "/a", false},
        {fl_name_is_qualified, "x.dev/", false},
        {fl_name_is_qualified, "a/b/c", false},
        {fl_name_is_qualified, "", false},
        {fl_name_is_label_value, "", true},
        {fl_name_is_label_value, "A.b_c-1", true},
        {fl_name_is_label_value, "a b", false},
        {fl_name_is_label_value, "-a", false},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        const char *why = NULL;

        if (cases[i].is(cases[i].name, &why) != cases[i].good)
            fail_msg("%zu: %s", i, cases[i].name);
        if (!cases[i].good)
            assert_non_null(why);
    }
}

static void test_lengths_of_names(void **state)
{
    char name[260];
    const char *why;

    (void)state;
    memset(name, 'a', sizeof(name));
    name[253] = '\0';
    assert_true(fl_name_is_subdomain(name, &why));
    assert_true(fl_name_is_path_segment(name, &why));
    name[253] = 'a', name[254] = '\0';
    assert_false(fl_name_is_subdomain(name, &why));
    assert_string_equal(why, "must be no more than 253 characters");
    assert_false(fl_name_is_path_segment(name, &why));
    name[63] = '\0';
    assert_true(fl_name_is_label(name, &why));
    assert_true(fl_name_is_label_value(name, &why));
    assert_true(fl_name_is_qualified(name, &why));
    name[63] = 'a', name[64] = '\0';
    assert_false(fl_name_is_label(name, &why));
    assert_false(fl_name_is_label_value(name, &why));
    assert_false(fl_name_is_qualified(name, &why));
}

/* Validation */

static void note_unknown(void *user, const char *path)
{
    (void)snprintf(user, 64, "%s", path);
}

static void test_metadata(void **state)
{
    static const struct {
        const struct fl_traits *traits;
        const char *meta, *path; /* of the first error; NULL: none */
    } cases[] = {
        {&custom, "{\"name\":\"a\"}", NULL},
        {&custom, "{\"generateName\":\"a-\"}", NULL},
        {&custom, "{\"generateName\":\"A-\"}", "metadata.generateName"},
        {&custom, "{}", "metadata.name"},
        {&custom, "{\"name\":\"\"}", "metadata.name"},
        {&custom, "{\"name\":5}", "metadata.name"},
        {&custom, "{\"name\":\"a:b\"}", "metadata.name"},
        {&loose, "{\"name\":\"a:b\"}", NULL},
        {&namespace_like, "{\"name\":\"a.b\"}", "metadata.name"},
        {&custom,
         "{\"name\":\"a\",\"labels\":{\"x\":\"y\"},\"annotations\":{\"X/y\":\"any thing\"}}", NULL},
        {&custom, "{\"name\":\"a\",\"labels\":{\"x\":1}}", "metadata.labels.x"},
        {&custom, "{\"name\":\"a\",\"labels\":[]}", NULL},
        {&custom, "{\"name\":\"a\",\"labels\":[1]}", "metadata.labels"},
        {&custom, "{\"name\":\"a\",\"labels\":{\"-\":\"y\"}}", "metadata.labels"},
        {&custom, "{\"name\":\"a\",\"annotations\":{\"-\":\"y\"}}", "metadata.annotations"},
        {&custom, "{\"name\":\"a\",\"finalizers\":[\"x.dev/y\"]}", NULL},
        {&custom, "{\"name\":\"a\",\"finalizers\":[5]}", "metadata.finalizers[0]"},
        {&custom, "{\"name\":\"a\",\"finalizers\":[\"/\"]}", "metadata.finalizers"},
        {&custom, "{\"name\":\"a\",\"generation\":\"1\"}", "metadata.generation"},
        {&custom, "{\"name\":\"a\",\"creationTimestamp\":null}", NULL},
        {&custom, "{\"name\":\"a\",\"creationTimestamp\":\"now\"}", "metadata.creationTimestamp"},
        {&custom, "{\"name\":\"a\",\"ownerReferences\":[{}]}",
         "metadata.ownerReferences[0].apiVersion"},
        {&custom,
         "{\"name\":\"a\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"A\",\"name\":"
         "\"b\","
         "\"uid\":\"c\"}]}",
         NULL},
        {&custom,
         "{\"name\":\"a\",\"ownerReferences\":[{\"apiVersion\":\"v1\",\"kind\":\"A\",\"name\":"
         "\"b\","
         "\"uid\":\"c\",\"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"A\",\"name\":\"d\","
         "\"uid\":\"e\",\"controller\":true}]}",
         "metadata.ownerReferences"},
        {&custom, "{\"name\":\"a\",\"ownerReferences\":[5]}", "metadata.ownerReferences[0]"},
        {&custom, "{\"name\":\"a\",\"managedFields\":5}", "metadata.managedFields"},
        {&custom, "5", "metadata"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        FL_JSON object =
            json_pack("{s:o}", "metadata", json_loads(cases[i].meta, JSON_DECODE_ANY, NULL));
        struct fl_field_errors errors;

        fl_field_errors_init(&errors, arena);
        fl_meta_validate(cases[i].traits, object, NULL, NULL, &errors);
        if ((errors.count > 0) != (cases[i].path != NULL) ||
            (cases[i].path && strcmp(errors.items[0].path, cases[i].path) != 0))
            fail_msg("%s: %s", cases[i].meta, errors.count ? errors.items[0].path : "no error");
    }
}

static void test_metadata_is_cut(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON object = json("{\"metadata\":{\"name\":\"a\",\"clusterName\":\"x\",\"labels\":{},"
                          "\"creationTimestamp\":\"2026-01-02T03:04:05.6+01:00\"}}");
    struct fl_field_errors errors;
    char unknown[64] = "";

    (void)state;
    fl_field_errors_init(&errors, arena);
    fl_meta_validate(&custom, object, note_unknown, unknown, &errors);
    assert_int_equal(errors.count, 0);
    assert_string_equal(unknown, "metadata.clusterName");
    assert_int_equal(json_object_size(json_object_get(object, "metadata")), 2);
    assert_string_equal(fl_json_str(object, "metadata.creationTimestamp"), "2026-01-02T02:04:05Z");
}

static void test_annotations_are_bounded(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    size_t size = 256 * 1024;
    char *text = fl_alloc(arena, size + 1);
    FL_JSON object = NULL;
    struct fl_field_errors errors;

    (void)state;
    memset(text, 'x', size);
    fl_field_errors_init(&errors, arena);
    object = json_pack("{s:{s:s, s:{s:s}}}", "metadata", "name", "a", "annotations", "k", text + 1);
    fl_meta_validate(&custom, object, NULL, NULL, &errors);
    assert_int_equal(errors.count, 0);
    (void)json_object_set_new(fl_json_path(object, "metadata.annotations"), "k", json_string(text));
    fl_meta_validate(&custom, object, NULL, NULL, &errors);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].path, "metadata.annotations");
}

/* Life */

static void test_create(void **state)
{
    struct fl_fake_env fake;
    FL_JSON object = json("{\"metadata\":{\"name\":\"a\",\"namespace\":\"other\",\"uid\":\"mine\","
                          "\"generation\":7,\"resourceVersion\":\"5\",\"deletionTimestamp\":\"x\","
                          "\"selfLink\":\"/\"},\"spec\":{},\"status\":{\"x\":1}}");
    FL_JSON config = json("{\"metadata\":{\"generateName\":\"c-\"},\"status\":{\"x\":1}}");

    (void)state;
    fl_fake_env_init(&fake, 1, NULL);
    fl_meta_prepare_create(&fake.env, &custom, "ns", object);
    assert_string_equal(fl_json_str(object, "metadata.namespace"), "ns");
    assert_int_equal(strlen(fl_json_str(object, "metadata.uid")), 36);
    assert_int_equal(fl_json_int(object, "metadata.generation", 0), 1);
    assert_non_null(fl_json_str(object, "metadata.creationTimestamp"));
    assert_null(fl_json_path(object, "metadata.resourceVersion"));
    assert_null(fl_json_path(object, "metadata.deletionTimestamp"));
    assert_null(fl_json_path(object, "metadata.selfLink"));
    assert_null(json_object_get(object, "status"));
    fl_meta_prepare_create(&fake.env, &plain, "ns", config);
    assert_int_equal(strlen(fl_json_str(config, "metadata.name")), 7);
    assert_memory_equal(fl_json_str(config, "metadata.name"), "c-", 2);
    assert_null(fl_json_path(config, "metadata.generation"));
    assert_non_null(json_object_get(config, "status"));
}

static void test_long_generated_names(void **state)
{
    FL_JSON object = json("{\"metadata\":{}}");
    struct fl_fake_env fake;
    char prefix[300];

    (void)state;
    fl_fake_env_init(&fake, 1, NULL);
    memset(prefix, 'p', sizeof(prefix));
    prefix[299] = '\0';
    fl_json_set_str(json_object_get(object, "metadata"), "generateName", prefix);
    fl_meta_prepare_create(&fake.env, &custom, "ns", object);
    assert_int_equal(strlen(fl_json_str(object, "metadata.name")), 63);
}

#define LIVE                                                                                       \
    "{\"metadata\":{\"name\":\"a\",\"namespace\":\"ns\",\"uid\":\"u\",\"generation\":3,"           \
    "\"creationTimestamp\":\"2026-01-02T03:04:05Z\",\"resourceVersion\":\"9\"},"                   \
    "\"spec\":{\"x\":1},\"status\":{\"y\":1}}"

static void test_update(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON live = json(LIVE);
    FL_JSON object =
        json("{\"metadata\":{\"name\":\"a\",\"generation\":99,\"labels\":{\"l\":\"m\"},"
             "\"creationTimestamp\":\"2000-01-01T00:00:00Z\",\"deletionTimestamp\":"
             "\"2000-01-01T00:00:00Z\"},\"spec\":{\"x\":1},\"status\":{\"y\":2}}");
    FL_JSON status =
        json("{\"metadata\":{\"name\":\"a\",\"labels\":{\"l\":\"m\"}},\"spec\":{\"x\":5},"
             "\"status\":{\"y\":2}}");
    FL_JSON other = json("{\"metadata\":{\"uid\":\"v\"}}");
    struct fl_field_errors errors;
    struct fl_error err;

    (void)state;
    fl_field_errors_init(&errors, arena);
    assert_int_equal(fl_meta_prepare_update(&custom, FL_PART_MAIN, live, object, &errors, &err), 0);
    assert_int_equal(errors.count, 0);
    assert_string_equal(fl_json_str(object, "metadata.uid"), "u");
    assert_string_equal(fl_json_str(object, "metadata.creationTimestamp"), "2026-01-02T03:04:05Z");
    assert_null(fl_json_path(object, "metadata.deletionTimestamp"));
    assert_int_equal(fl_json_int(object, "status.y", 0), 1);
    /* Labels alone leave the generation. */
    assert_int_equal(fl_meta_finish_update(&custom, live, object), FL_OUTCOME_CHANGED);
    assert_int_equal(fl_json_int(object, "metadata.generation", 0), 3);
    (void)json_object_set_new(json_object_get(object, "spec"), "x", json_integer(2));
    assert_int_equal(fl_meta_finish_update(&custom, live, object), FL_OUTCOME_CHANGED);
    assert_int_equal(fl_json_int(object, "metadata.generation", 0), 4);
    assert_int_equal(fl_meta_prepare_update(&custom, FL_PART_STATUS, live, status, &errors, &err),
                     0);
    assert_int_equal(fl_json_int(status, "spec.x", 0), 1);
    assert_int_equal(fl_json_int(status, "status.y", 0), 2);
    assert_null(fl_json_path(status, "metadata.labels"));
    assert_int_equal(fl_meta_finish_update(&custom, live, status), FL_OUTCOME_CHANGED);
    assert_int_equal(fl_json_int(status, "metadata.generation", 0), 3);
    assert_int_equal(fl_meta_prepare_update(&custom, FL_PART_MAIN, live, other, &errors, &err),
                     FL_E_CONFLICT);
}

static void test_unchanged(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON live = json(LIVE);
    FL_JSON object = json("{\"metadata\":{\"name\":\"a\"},\"spec\":{\"x\":1}}");
    struct fl_field_errors errors;
    struct fl_error err;

    (void)state;
    fl_field_errors_init(&errors, arena);
    assert_int_equal(fl_meta_prepare_update(&custom, FL_PART_MAIN, live, object, &errors, &err), 0);
    assert_int_equal(fl_meta_finish_update(&custom, live, object), FL_OUTCOME_UNCHANGED);
}

/* A member that takes another's place is a change, though there are as many as before. */
static void test_members_count(void **state)
{
    FL_JSON live = json("{\"metadata\":{\"generation\":1},\"a\":1}");
    FL_JSON object = json("{\"metadata\":{\"generation\":1},\"b\":1}");
    FL_JSON less = json("{\"metadata\":{\"generation\":1}}");

    (void)state;
    assert_int_equal(fl_meta_finish_update(&custom, live, object), FL_OUTCOME_CHANGED);
    assert_int_equal(fl_json_int(object, "metadata.generation", 0), 2);
    assert_int_equal(fl_meta_finish_update(&custom, live, less), FL_OUTCOME_CHANGED);
    assert_int_equal(fl_json_int(less, "metadata.generation", 0), 2);
}

static void test_deletion(void **state)
{
    static const struct {
        const struct fl_traits *traits;
        enum fl_propagation propagation;
        const char *live;
        enum fl_outcome outcome;
        const char *finalizer; /* that it has then */
    } cases[] = {
        {&custom, FL_PROPAGATION_DEFAULT, "{\"metadata\":{}}", FL_OUTCOME_REMOVED, NULL},
        {&custom, FL_PROPAGATION_BACKGROUND, "{\"metadata\":{}}", FL_OUTCOME_REMOVED, NULL},
        {&custom, FL_PROPAGATION_FOREGROUND, "{\"metadata\":{}}", FL_OUTCOME_CHANGED,
         FL_FINALIZER_FOREGROUND},
        {&custom, FL_PROPAGATION_ORPHAN, "{\"metadata\":{}}", FL_OUTCOME_CHANGED,
         FL_FINALIZER_ORPHAN},
        {&custom, FL_PROPAGATION_DEFAULT, "{\"metadata\":{\"finalizers\":[\"a/b\"]}}",
         FL_OUTCOME_CHANGED, "a/b"},
        {&custom, FL_PROPAGATION_ORPHAN, "{\"metadata\":{\"finalizers\":[\"foregroundDeletion\"]}}",
         FL_OUTCOME_CHANGED, FL_FINALIZER_ORPHAN},
        {&custom, FL_PROPAGATION_BACKGROUND,
         "{\"metadata\":{\"finalizers\":[\"orphan\"],\"deletionTimestamp\":\"x\"}}",
         FL_OUTCOME_REMOVED, NULL},
        {&custom, FL_PROPAGATION_DEFAULT,
         "{\"metadata\":{\"finalizers\":[\"a/b\"],\"deletionTimestamp\":\"x\"}}",
         FL_OUTCOME_UNCHANGED, "a/b"},
        {&namespace_like, FL_PROPAGATION_DEFAULT,
         "{\"metadata\":{},\"spec\":{\"finalizers\":[\"kubernetes\"]}}", FL_OUTCOME_CHANGED, NULL},
        {&namespace_like, FL_PROPAGATION_DEFAULT, "{\"metadata\":{},\"spec\":{}}",
         FL_OUTCOME_REMOVED, NULL},
    };
    struct fl_fake_env fake;

    (void)state;
    fl_fake_env_init(&fake, 1, NULL);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_JSON live = json(cases[i].live);
        FL_JSON before = json_deep_copy(live);
        FL_JSON object = NULL;
        enum fl_outcome outcome =
            fl_meta_prepare_delete(&fake.env, cases[i].traits, cases[i].propagation, live, &object);

        if (outcome != cases[i].outcome)
            fail_msg("%zu: %d", i, outcome);
        assert_true(json_equal(live, before));
        if (cases[i].finalizer)
            assert_true(fl_meta_has_finalizer(object, cases[i].finalizer));
        if (outcome == FL_OUTCOME_CHANGED)
            assert_true(fl_meta_is_deleting(object));
    }
}

static void test_deletion_counts_as_a_change(void **state)
{
    FL_JSON live = json("{\"metadata\":{\"generation\":2,\"finalizers\":[\"a/b\"]}}");
    FL_JSON object = NULL;
    FL_JSON freed = NULL;
    struct fl_fake_env fake;

    (void)state;
    fl_fake_env_init(&fake, 1, NULL);
    (void)fl_meta_prepare_delete(&fake.env, &custom, FL_PROPAGATION_DEFAULT, live, &object);
    assert_int_equal(fl_json_int(object, "metadata.generation", 0), 3);
    assert_int_equal(fl_json_int(object, "metadata.deletionGracePeriodSeconds", -1), 0);
    freed = json_deep_copy(object);
    (void)json_object_del(json_object_get(freed, "metadata"), "finalizers");
    assert_int_equal(fl_meta_finish_update(&custom, object, freed), FL_OUTCOME_REMOVED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_lengths_of_names),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_metadata_is_cut),
        cmocka_unit_test(test_annotations_are_bounded),
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_long_generated_names),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_unchanged),
        cmocka_unit_test(test_members_count),
        cmocka_unit_test(test_deletion),
        cmocka_unit_test(test_deletion_counts_as_a_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
