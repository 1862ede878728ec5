#include "workloads/model/description.h"

#include "workloads/tensor/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static struct fl_model *empty_model(void)
{
    const struct fl_tensor tensor = {.name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {1}};
    struct fl_model *model = NULL;

    assert_int_equal(fl_model_create(&tensor, 1, &model, NULL), 0);
    return model;
}

static const char *const animals[] = {"cat", "dog \"x\"", "Mäuse"};

static void what_is_written_is_read(void **state)
{
    FL_JSON options = json_pack("{s:[i,i], s:s}", "hiddenUnits", 3, 4, "activation", "Tanh");
    const struct fl_description written = {.trainer = "MLP",
                                           .options = options,
                                           .input_name = "input",
                                           .output_name = "probabilities",
                                           .input_dtype = FL_DTYPE_F32,
                                           .shape = {5, 6},
                                           .rank = 2,
                                           .classes = 3,
                                           .class_names = animals};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = empty_model();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *read = NULL;
    char path[] = "/tmp/description-XXXXXX";
    int fd = mkstemp(path);
    struct fl_description back;

    (void)state;
    assert_true(fd >= 0);
    (void)close(fd);
    fl_description_write(&written, model);
    assert_int_equal(fl_safetensors_write(model, path, NULL), 0);
    assert_int_equal(fl_safetensors_open(path, NULL, &read, NULL), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(fl_description_read(read, arena, &back, NULL), 0);
    assert_string_equal(back.trainer, "MLP");
    assert_true(json_equal(back.options, options));
    assert_string_equal(back.input_name, "input");
    assert_string_equal(back.output_name, "probabilities");
    assert_int_equal(back.input_dtype, FL_DTYPE_F32);
    assert_int_equal(back.rank, 2);
    assert_int_equal(back.shape[0], 5);
    assert_int_equal(back.shape[1], 6);
    assert_int_equal(fl_description_width(&back), 30);
    assert_int_equal(back.classes, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(back.class_names[i], animals[i]);
}

/* Canonical: what is equal has the same notes, so the same digest. */
static void the_notes_are_these(void **state)
{
    FL_JSON options = json_pack("{s:i, s:s}", "kernelSize", 3, "activation", "ReLU");
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = empty_model();
    static const char *const notes[][2] = {
        {"flops.format", "1"},
        {"flops.input", "{\"dtype\":\"F32\",\"name\":\"x\",\"shape\":[]}"},
        {"flops.options", "{\"activation\":\"ReLU\",\"kernelSize\":3}"},
        {"flops.output", "{\"classes\":2,\"name\":\"y\"}"},
        {"flops.trainer", "CNN"},
    };

    (void)state;
    fl_description_write(&(struct fl_description){.trainer = "CNN",
                                                  .options = options,
                                                  .input_name = "x",
                                                  .output_name = "y",
                                                  .input_dtype = FL_DTYPE_F32,
                                                  .classes = 2},
                         model);
    assert_int_equal(model->note_count, FL_COUNT_OF(notes));
    for (size_t i = 0; i < FL_COUNT_OF(notes); i++) {
        assert_string_equal(model->notes[i].key, notes[i][0]);
        assert_string_equal(model->notes[i].value, notes[i][1]);
    }
}

/* A bad name among them must not make the model one that says what cannot be read. */
static void names_that_cannot_be_read_are_left_out(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON options = json_object();
    char long_name[300] = {0};
    const char *const bad[] = {"\xff\xfe", long_name};

    (void)state;
    memset(long_name, 'a', sizeof(long_name) - 1);
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = empty_model();
        const char *const names[] = {"fine", bad[i]};
        struct fl_description back;

        fl_description_write(&(struct fl_description){.trainer = "MLP",
                                                      .options = options,
                                                      .input_name = "x",
                                                      .output_name = "y",
                                                      .input_dtype = FL_DTYPE_F32,
                                                      .classes = 2,
                                                      .class_names = names},
                             model);
        assert_int_equal(fl_description_read(model, arena, &back, NULL), 0);
        assert_null(back.class_names);
        assert_int_equal(back.classes, 2);
    }
}

#define INPUT  "{\"name\":\"x\",\"dtype\":\"F32\",\"shape\":[2]}"
#define OUTPUT "{\"name\":\"y\",\"classes\":2}"

static const struct {
    const char *format, *trainer, *options, *input, *output;
    int code;
    const char *says;
} wrong[] = {
    {NULL, "MLP", "{}", INPUT, OUTPUT, FL_E_NOT_FOUND, "does not say what it is"},
    {"2", "MLP", "{}", INPUT, OUTPUT, FL_E_INVALID, "flops.format 2 is not known"},
    {"1", NULL, "{}", INPUT, OUTPUT, FL_E_INVALID, "flops.trainer is missing"},
    {"1", "MLP", NULL, INPUT, OUTPUT, FL_E_INVALID, "flops.options is missing"},
    {"1", "MLP", "[]", INPUT, OUTPUT, FL_E_INVALID, "flops.options: must be an object, not array"},
    {"1", "MLP", "{", INPUT, OUTPUT, FL_E_INVALID, "flops.options: "},
    {"1", "MLP", "{}", NULL, OUTPUT, FL_E_INVALID, "flops.input is missing"},
    {"1", "MLP", "{}", "{\"name\":\"\",\"dtype\":\"F32\",\"shape\":[2]}", OUTPUT, FL_E_INVALID,
     "name must be"},
    {"1", "MLP", "{}", "{\"name\":\"x\",\"dtype\":\"F64\",\"shape\":[2]}", OUTPUT, FL_E_INVALID,
     "dtype F64"},
    {"1", "MLP", "{}", "{\"name\":\"x\",\"shape\":[2]}", OUTPUT, FL_E_INVALID, "dtype none"},
    {"1", "MLP", "{}", "{\"name\":\"x\",\"dtype\":\"F32\"}", OUTPUT, FL_E_INVALID, "shape must"},
    {"1", "MLP", "{}", "{\"name\":\"x\",\"dtype\":\"F32\",\"shape\":[2,0]}", OUTPUT, FL_E_INVALID,
     "shape[1]"},
    {"1", "MLP", "{}", "{\"name\":\"x\",\"dtype\":\"F32\",\"shape\":[1,1,1,1,1]}", OUTPUT,
     FL_E_INVALID, "at most 4"},
    {"1", "MLP", "{}", "{\"name\":\"x\",\"dtype\":\"F32\",\"shape\":[65536,65536]}", OUTPUT,
     FL_E_INVALID, "shape[1]"},
    {"1", "MLP", "{}", INPUT, NULL, FL_E_INVALID, "flops.output is missing"},
    {"1", "MLP", "{}", INPUT, "{\"classes\":2}", FL_E_INVALID, "name must be"},
    {"1", "MLP", "{}", INPUT, "{\"name\":\"y\",\"classes\":1}", FL_E_INVALID, "classes must be"},
    {"1", "MLP", "{}", INPUT, "{\"name\":\"y\",\"classes\":65537}", FL_E_INVALID,
     "classes must be"},
    {"1", "MLP", "{}", INPUT, "{\"name\":\"y\",\"classes\":2,\"names\":[\"a\"]}", FL_E_INVALID,
     "names must be a list of 2"},
    {"1", "MLP", "{}", INPUT, "{\"name\":\"y\",\"classes\":2,\"names\":[\"a\",1]}", FL_E_INVALID,
     "names[1]"},
};

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(wrong); i++) {
        const char *const notes[][2] = {{"flops.format", wrong[i].format},
                                        {"flops.trainer", wrong[i].trainer},
                                        {"flops.options", wrong[i].options},
                                        {"flops.input", wrong[i].input},
                                        {"flops.output", wrong[i].output}};
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = empty_model();
        struct fl_description description;
        struct fl_error err = {0};

        for (size_t k = 0; k < FL_COUNT_OF(notes); k++)
            if (notes[k][1])
                fl_model_note(model, notes[k][0], notes[k][1]);
        assert_int_equal(fl_description_read(model, arena, &description, &err), wrong[i].code);
        if (!strstr(err.msg, wrong[i].says))
            fail_msg("%zu: \"%s\" does not say \"%s\"", i, err.msg, wrong[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_notes_are_these),
        cmocka_unit_test(names_that_cannot_be_read_are_left_out),
        cmocka_unit_test(what_is_wrong_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
