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

static const char *write_text(struct fl_arena *arena, const char *folder, const char *name,
                              const char *text)
{
    const char *path = fl_arena_printf(arena, "%s/%s", folder, name);

    assert_int_equal(fl_file_write(path, text, strlen(text), 0644, NULL), 0);
    return path;
}

static const char *read_text(struct fl_arena *arena, const char *folder, const char *name)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *path = fl_arena_printf(arena, "%s/%s", folder, name);

    return fl_file_read(path, 1 << 20, &text, NULL) < 0 ? NULL : fl_arena_strdup(arena, text->data);
}

static const char *make_folder(struct fl_arena *arena, const char *in, const char *name)
{
    const char *path = fl_arena_printf(arena, "%s/%s", in, name);

    assert_int_equal(fl_dir_ensure(path, 0755, NULL), 0);
    return path;
}

/* A repository with a package, an adapter, and a model's file. */
static struct fl_mlflow_python make_python(struct fl_arena *arena, const char *in)
{
    struct fl_mlflow_python python = {.code = make_folder(arena, in, "repository"),
                                      .adapter = make_folder(arena, in, "adapter"),
                                      .content = write_text(arena, in, "content", "a model"),
                                      .entry = "trainer:Trainer"};

    (void)write_text(arena, python.code, "trainer.py", "import parts.one\n");
    (void)write_text(arena, python.code, ".hidden", "stays");
    (void)write_text(arena, make_folder(arena, python.code, "parts"), "one.py", "one = 1\n");
    (void)write_text(arena, make_folder(arena, python.code, "__pycache__"), "x.pyc", "stays");
    (void)write_text(arena, make_folder(arena, python.adapter, "flops_trainer"), "a.py", "#\n");
    return python;
}

static void code_goes_with_its_model(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_mlflow_python python = make_python(arena, *state);
    const char *m = fl_arena_printf(arena, "%s/m", (char *)*state);
    const struct fl_mlflow_options options = {.path = m,
                                              .model_uuid = "0123456789abcdef0123456789abcdef"};
    struct fl_error err = {0};
    const json_t *mlmodel;

    if (fl_mlflow_write_python(&python, &options, &err) < 0)
        fail_msg("%s", err.msg);
    mlmodel = read_yaml(arena, m, "MLmodel");
    assert_string_equal(fl_json_str(mlmodel, "flavors.python_function.loader_module"),
                        "flops_trainer.mlflow_model");
    assert_int_equal(fl_json_int(mlmodel, "model_size_bytes", 0), strlen("a model"));
    assert_string_equal(read_text(arena, m, "data/model.safetensors"), "a model");
    assert_string_equal(read_text(arena, m, "data/flops.json"), "{\"entry\":\"trainer:Trainer\"}");
    assert_string_equal(read_text(arena, m, "data/repository/parts/one.py"), "one = 1\n");
    assert_string_equal(read_text(arena, m, "code/flops_trainer/a.py"), "#\n");
    assert_null(read_text(arena, m, "data/repository/.hidden"));
    assert_null(read_text(arena, m, "data/repository/__pycache__/x.pyc"));
    assert_int_equal(fl_mlflow_write_python(&python, &options, &err), FL_E_ALREADY_EXISTS);
}

static void what_code_needs_is_what_it_says(void **state)
{
    static const struct {
        const char *file, *text, *wanted;
    } rows[] = {
        {NULL, NULL, "numpy\nmlflow>=2.9\n"},
        {"requirements.txt", "torch==2.1", "torch==2.1\nmlflow>=2.9\n"},
        {"requirements.txt", "a==1 --hash=sha256:00\n", "a==1 --hash=sha256:00\n"},
        {"conda.yaml", "dependencies:\n- python=3.11\n- pip:\n  - torch==2.1\n",
         "torch==2.1\nnumpy\nmlflow>=2.9\n"},
        {"conda.yaml", "[", "numpy\nmlflow>=2.9\n"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        const char *in = make_folder(arena, *state, fl_arena_printf(arena, "%zu", i));
        const struct fl_mlflow_python python = make_python(arena, in);
        const char *m = fl_arena_printf(arena, "%s/m", in);
        const struct fl_mlflow_options options = {.path = m,
                                                  .model_uuid = "0123456789abcdef0123456789abcdef"};

        if (rows[i].file)
            (void)write_text(arena, python.code, rows[i].file, rows[i].text);
        assert_int_equal(fl_mlflow_write_python(&python, &options, NULL), 0);
        assert_string_equal(read_text(arena, m, "requirements.txt"), rows[i].wanted);
        assert_non_null(read_text(arena, m, "conda.yaml"));
    }
}

static void without_code_its_file_is_kept(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *content = write_text(arena, *state, "content", "a model");
    const char *m = fl_arena_printf(arena, "%s/m", (char *)*state);
    const struct fl_mlflow_options options = {.path = m,
                                              .model_uuid = "0123456789abcdef0123456789abcdef"};
    const json_t *mlmodel;

    assert_int_equal(fl_mlflow_write_content(content, &options, NULL), 0);
    mlmodel = read_yaml(arena, m, "MLmodel");
    assert_string_equal(fl_json_str(mlmodel, "flavors.safetensors.data"), "model.safetensors");
    assert_null(fl_json_path(mlmodel, "flavors.python_function"));
    assert_string_equal(read_text(arena, m, "model.safetensors"), "a model");
    assert_int_equal(fl_mlflow_write_content(content, &options, NULL), FL_E_ALREADY_EXISTS);
}

static void code_that_fails_leaves_nothing(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *in = make_folder(arena, *state, "in"), *out = make_folder(arena, *state, "out");
    const struct fl_mlflow_options options = {.path = fl_arena_printf(arena, "%s/m", out),
                                              .model_uuid = "0123456789abcdef0123456789abcdef"};
    struct fl_mlflow_python python = make_python(arena, in);
    struct fl_folder_list list;

    python.content = fl_arena_printf(arena, "%s/nothing", in);
    assert_int_equal(fl_mlflow_write_python(&python, &options, NULL), FL_E_NOT_FOUND);
    python.code = fl_arena_printf(arena, "%s/nowhere", in);
    assert_int_equal(fl_mlflow_write_python(&python, &options, NULL), FL_E_NOT_FOUND);
    assert_int_equal(fl_folder_list(arena, out, false, 100, &list, NULL), 0);
    assert_int_equal(list.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_directory_says_it_all),       TEST(what_fails_leaves_nothing),
        TEST(code_goes_with_its_model),      TEST(what_code_needs_is_what_it_says),
        TEST(without_code_its_file_is_kept), TEST(code_that_fails_leaves_nothing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
