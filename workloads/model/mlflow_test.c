#include "workloads/model/mlflow.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/yaml.h"
#include "workloads/model/model_testing.h"
#include "workloads/model/onnx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static int setup(void **state)
{
    *state = fl_strdup("/tmp/flops-mlflow-XXXXXX");
    return mkdtemp(*state) ? 0 : -1;
}

static int teardown(void **state)
{
    assert_int_equal(fl_dir_remove(*state, NULL), 0);
    free(*state);
    return 0;
}

static json_t *read_yaml(struct fl_arena *arena, const char *folder, const char *name)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    json_t *value = NULL;

    assert_int_equal(
        fl_file_read(fl_arena_printf(arena, "%s/%s", folder, name), 1 << 20, &text, NULL), 0);
    assert_int_equal(fl_yaml_parse(text->data, text->len, NULL, &value, NULL), 0);
    return fl_json_in_arena(arena, value);
}

static void a_directory_says_it_all(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = testing_model(&testing_forms[4]);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *back = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *onnx = NULL;
    const struct fl_model_note lineage = {FL_ONNX_LINEAGE "project", "default/colours"};
    const struct fl_mlflow_options options = {.path =
                                                  fl_arena_printf(arena, "%s/m", (char *)*state),
                                              .made_us = 1500000,
                                              .model_uuid = "0123456789abcdef0123456789abcdef",
                                              .lineage = &lineage,
                                              .lineage_count = 1};
    struct fl_folder_list list;
    struct fl_error err = {0};
    const json_t *mlmodel;

    if (fl_mlflow_write(model, &options, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(fl_folder_list(arena, options.path, false, 100, &list, NULL), 0);
    assert_int_equal(list.count, 5);
    mlmodel = read_yaml(arena, options.path, "MLmodel");
    assert_string_equal(fl_json_str(mlmodel, "flavors.python_function.loader_module"),
                        "mlflow.onnx");
    assert_string_equal(fl_json_str(mlmodel, "signature.inputs"),
                        "[{\"name\":\"input\",\"tensor-spec\":{\"dtype\":\"float32\",\"shape\":[-1,"
                        "6,11,3]},\"type\":\"tensor\"}]");
    assert_string_equal(fl_json_str(mlmodel, "utc_time_created"), "1970-01-01 00:00:01.500000");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(mlmodel, "metadata"), "lineage.project")),
        "default/colours");
    assert_int_equal(
        fl_file_read(fl_arena_printf(arena, "%s/model.onnx", options.path), 1 << 24, &onnx, NULL),
        0);
    assert_int_equal(fl_json_int(mlmodel, "model_size_bytes", 0), (int64_t)onnx->len);
    assert_int_equal(fl_onnx_read(onnx->data, onnx->len, NULL, &back, NULL), 0);
    assert_int_equal(fl_mlflow_write(model, &options, &err), FL_E_ALREADY_EXISTS);
}

static void what_fails_leaves_nothing(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = testing_model(&testing_forms[0]);
    const struct fl_mlflow_options options = {.path =
                                                  fl_arena_printf(arena, "%s/m", (char *)*state),
                                              .model_uuid = "0123456789abcdef0123456789abcdef"};
    struct fl_folder_list list;
    struct fl_error err = {0};

    fl_model_note(model, "flops.options", "{\"depth\":1}");
    assert_int_equal(fl_mlflow_write(model, &options, &err), FL_E_INVALID);
    assert_int_equal(fl_folder_list(arena, *state, false, 100, &list, NULL), 0);
    assert_int_equal(list.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(a_directory_says_it_all),
                                       TEST(what_fails_leaves_nothing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
