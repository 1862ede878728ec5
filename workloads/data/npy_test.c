/* NPY and safetensors: what other programs write. */
#include "lib/buf.h"
#include "lib/file.h"
#include "lib/str.h"
#include "workloads/data/dataset_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

struct text {
    const char *data;
    size_t len;
};
#define TEXT(literal) ((struct text){literal, sizeof(literal) - 1})

static void put_npy(struct fl_buf *file, char version, const char *dict, struct text data)
{
    size_t len = strlen(dict);

    fl_buf_clear(file);
    fl_buf_append(file, "\x93NUMPY", 6);
    fl_buf_putc(file, version);
    fl_buf_putc(file, 0);
    fl_buf_putc(file, (char)(len & 0xff));
    fl_buf_putc(file, (char)(len >> 8));
    if (version > 1)
        fl_buf_append(file, "\0\0", 2);
    fl_buf_append(file, dict, len);
    fl_buf_append(file, data.data, data.len);
}

struct pair {
    struct fl_buf features, labels;
};

static void pair_finish(struct pair *pair)
{
    fl_buf_finish(&pair->features);
    fl_buf_finish(&pair->labels);
}

static void put_labels(struct pair *pair, const char *type, const char *shape, struct text data)
{
    FL_CLEANUP(fl_freep)
    char *dict =
        fl_asprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", type, shape);

    put_npy(&pair->labels, 1, dict, data);
}

static int parse(const struct pair *pair, struct fl_dataset **ret_dataset, struct fl_error *err)
{
    struct fl_input features = fl_input_of(pair->features.data, pair->features.len);
    struct fl_input labels = fl_input_of(pair->labels.data, pair->labels.len);

    return fl_npy_parse(&features, &labels, NULL, ret_dataset, err);
}

#define DICT(type, order, shape)                                                                   \
    "{'descr': '" type "', 'fortran_order': " order ", 'shape': " shape ", }    \n"

static void every_type(void **state)
{
    static const struct {
        const char *dict;
        struct text data;
        float first, second;
    } cases[] = {
        {DICT("|b1", "False", "(2,)"), TEXT("\0\1"), 0, 1},
        {DICT("|u1", "False", "(2,)"), TEXT("\xff\x33"), 1, 0.2f},
        {DICT("|i1", "False", "(2,)"), TEXT("\xff\x7f"), -1, 127},
        {DICT("<u2", "False", "(2,)"), TEXT("\1\2\xff\xff"), 513, 65535},
        {DICT(">u2", "False", "(2,)"), TEXT("\1\2\xff\xff"), 258, 65535},
        {DICT("<i2", "False", "(2,)"), TEXT("\xfe\xff\1\0"), -2, 1},
        {DICT(">i2", "False", "(2,)"), TEXT("\xff\xfe\0\1"), -2, 1},
        {DICT("<u4", "False", "(2,)"), TEXT("\0\0\0\x80\1\0\0\0"), 2147483648.0f, 1},
        {DICT("=i4", "False", "(2,)"), TEXT("\xff\xff\xff\xff\1\0\0\0"), -1, 1},
        {DICT(">i4", "False", "(2,)"), TEXT("\xff\xff\xff\xfd\0\0\0\1"), -3, 1},
        {DICT("<u8", "False", "(2,)"), TEXT("\0\0\0\0\0\0\0\x80\1\0\0\0\0\0\0\0"), 0x1p63f, 1},
        {DICT(">i8", "False", "(2,)"), TEXT("\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\0\0\0\0\1"), -2,
         1},
        {DICT("<f2", "False", "(2,)"), TEXT("\0\x3c\0\xc1"), 1, -2.5f},
        {DICT(">f2", "False", "(2,)"), TEXT("\x3c\0\xc1\0"), 1, -2.5f},
        {DICT("<f4", "False", "(2,)"), TEXT("\0\0\x80\x3f\0\0\x20\xc0"), 1, -2.5f},
        {DICT(">f4", "False", "(2,)"), TEXT("\x3f\x80\0\0\xc0\x20\0\0"), 1, -2.5f},
        {DICT("<f8", "False", "(2,)"), TEXT("\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\4\xc0"), 1, -2.5f},
        {DICT(">f8", "False", "(2,)"), TEXT("\x3f\xf0\0\0\0\0\0\0\xc0\4\0\0\0\0\0\0"), 1, -2.5f},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        for (char version = 1; version <= 3; version++) {
            FL_CLEANUP(pair_finish) struct pair pair = {0};
            FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
            struct fl_error err = {0};

            put_npy(&pair.features, version, cases[i].dict, cases[i].data);
            put_labels(&pair, "|u1", "(2,)", TEXT("\3\0"));
            if (parse(&pair, &dataset, &err) < 0)
                fail_msg("case %zu: %s", i, err.msg);
            assert_int_equal(dataset->count, 2);
            assert_int_equal(dataset->rank, 0);
            assert_int_equal(dataset->classes, 4);
            assert_true(dataset->features[0] == cases[i].first);
            assert_true(dataset->features[1] == cases[i].second);
        }
}

static void headers_that_are_read(void **state)
{
    static const char *const dicts[] = {
        "{'descr':'|i1','fortran_order':False,'shape':(2,3)}",
        "{\"shape\": (2L, 3L), \"fortran_order\": False, \"descr\": \"|i1\"}\n",
        " { 'shape' : ( 2 , 3 , ) , 'descr' : '|i1' , 'fortran_order' : False , } \n",
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(dicts); i++) {
        FL_CLEANUP(pair_finish) struct pair pair = {0};
        FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

        put_npy(&pair.features, 1, dicts[i], TEXT("\1\2\3\4\5\6"));
        put_labels(&pair, "<f4", "(2, 1)", TEXT("\0\0\x80\x3f\0\0\x20\xc0"));
        assert_int_equal(parse(&pair, &dataset, NULL), 0);
        assert_int_equal(dataset->width, 3);
        assert_true(dataset->features[5] == 6);
        assert_int_equal(dataset->classes, 0);
        assert_true(dataset->targets[1] == -2.5f);
    }
}

/* The same array of 3 x 2 x 4 in both orders; and one that is read in more than one piece. */
static void fortran_order(void **state)
{
    FL_CLEANUP(pair_finish) struct pair pair = {0};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *large = NULL;
    struct fl_buf data;

    (void)state;
    fl_buf_init(&data, 0);
    for (int k = 0; k < 4; k++)
        for (int j = 0; j < 2; j++)
            for (int i = 0; i < 3; i++)
                fl_buf_putc(&data, (char)(i * 8 + j * 4 + k));
    put_npy(&pair.features, 1, DICT("|i1", "True", "(3, 2, 4)"),
            (struct text){data.data, data.len});
    put_labels(&pair, "|u1", "(3,)", TEXT("\0\1\2"));
    assert_int_equal(parse(&pair, &dataset, NULL), 0);
    for (int i = 0; i < 24; i++)
        assert_true(dataset->features[i] == (float)i);
    fl_buf_clear(&data);
    for (int j = 0; j < 20000; j++)
        for (int i = 0; i < 3; i++)
            fl_buf_putc(&data, (char)((i * 20000 + j) % 101));
    put_npy(&pair.features, 1, DICT("|i1", "True", "(3, 20000)"),
            (struct text){data.data, data.len});
    assert_int_equal(parse(&pair, &large, NULL), 0);
    for (int i = 0; i < 60000; i++)
        assert_true(large->features[i] == (float)(i % 101));
    fl_buf_finish(&data);
}

static void npy_that_is_refused(void **state)
{
    static const struct {
        const char *dict;
        struct text data;
        const char *msg;
    } cases[] = {
        {"", TEXT(""), "header, byte 0: no dict"},
        {"{}", TEXT(""), "'descr', 'fortran_order' and 'shape' are needed"},
        {"{'descr': '|i1'", TEXT(""), "the dict is not closed"},
        {"{'descr': '|i1', 'descr': '|i1'}", TEXT(""), "byte 25: a key stands twice"},
        {"{'eval': __import__('os')}", TEXT(""), "unknown key"},
        {"{'descr': [('a', '<f4')]}", TEXT(""), "records cannot be used"},
        {"{'descr': '<c8'}", TEXT(""), "no boolean, integer or float"},
        {"{'descr': '<U8'}", TEXT(""), "no boolean, integer or float"},
        {"{'descr': 'f4'}", TEXT(""), "no boolean, integer or float"},
        {"{'descr': '|i1", TEXT(""), "must be one type"},
        {"{'fortran_order': 1}", TEXT(""), "True or False"},
        {"{'shape': 3}", TEXT(""), "must be a tuple"},
        {"{'shape': (3", TEXT(""), "is not closed"},
        {"{'shape': (-3,)}", TEXT(""), "bad size"},
        {"{'shape': (1,,)}", TEXT(""), "bad size"},
        {"{'shape': (99999999999999999999,)}", TEXT(""), "bad size"},
        {"{'shape': (1,1,1,1,1,1)}", TEXT(""), "more than 5 dimensions"},
        {DICT("|i1", "False", "()"), TEXT("\1"), "one number is no set"},
        {DICT("|i1", "False", "(0,)"), TEXT(""), "there are no examples"},
        {DICT("|i1", "False", "(2, 0)"), TEXT(""), "dimension 0 of an example is 0"},
        {DICT("|i1", "False", "(2, 9223372036854775807)"), TEXT(""), "dimension 0 of an example"},
        {DICT("|i1", "False", "(9223372036854775807,)"), TEXT(""), "need more than"},
        {DICT("|i1", "False", "(2,)"), TEXT("\1"), "ends at byte"},
        {DICT("|i1", "True", "(2, 2)"), TEXT("\1\2\3"), "ends at byte"},
        {DICT("|i1", "False", "(2,)"), TEXT("\1\2\3"), "more data than announced"},
        {DICT("|i1", "False", "(2,)") "x", TEXT("\1\2"), "something behind the dict"},
        {DICT("<f4", "True", "(2, 2)"), TEXT("\0\0\0\0\0\0\0\0\0\0\x80\x7f\0\0\0\0"),
         "row 0, column 1: not a finite number"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(pair_finish) struct pair pair = {0};
        struct fl_dataset *dataset = NULL;
        struct fl_error err = {0};

        put_npy(&pair.features, 1, cases[i].dict, cases[i].data);
        put_labels(&pair, "|u1", "(2,)", TEXT("\3\0"));
        assert_true(parse(&pair, &dataset, &err) < 0);
        if (!strstr(err.msg, cases[i].msg))
            fail_msg("case %zu: %s", i, err.msg);
        assert_null(dataset);
    }
}

static void files_and_labels_that_are_refused(void **state)
{
    static const struct {
        const char *type, *shape;
        struct text data;
        const char *msg;
    } cases[] = {
        {"|u1", "(3,)", TEXT("\1\2\3"), "3 labels, where 2 examples"},
        {"|u1", "(2, 2)", TEXT("\1\2\3\4"), "2 dimensions"},
        {"<i8", "(2,)", TEXT("\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
         "row 1: label -1"},
        {"<f4", "(2,)", TEXT("\0\0\xc0\x7f\0\0\0\0"), "row 0, column 0: not a finite"},
    };
    FL_CLEANUP(pair_finish) struct pair pair = {0};
    struct fl_dataset *dataset = NULL;
    struct fl_error err = {0};

    (void)state;
    put_npy(&pair.features, 1, DICT("|i1", "False", "(2,)"), TEXT("\1\2"));
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        put_labels(&pair, cases[i].type, cases[i].shape, cases[i].data);
        assert_int_equal(parse(&pair, &dataset, &err), FL_E_INVALID);
        if (!strstr(err.msg, cases[i].msg))
            fail_msg("case %zu: %s", i, err.msg);
    }
    pair.features.data[6] = 4;
    assert_int_equal(parse(&pair, &dataset, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "version 4.0"));
    pair.features.data[0] = 0;
    assert_int_equal(parse(&pair, &dataset, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "no NPY file"));
    put_npy(&pair.features, 2, "", TEXT(""));
    pair.features.data[11] = 1;
    assert_int_equal(parse(&pair, &dataset, &err), FL_E_TOO_LARGE);
    assert_null(dataset);
}

/* --- safetensors --- */

static char folder[] = "/tmp/flops-tensors-XXXXXX";

static void written_and_read_back(void **state)
{
    static const char *const names[] = {"ape", "b\"e", "cat"};
    static const float features[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int32_t labels[] = {0, 1, 0, 1};
    static const uint32_t rows[] = {3, 0};
    const struct fl_dataset form = {.count = 4,
                                    .rank = 2,
                                    .shape = {1, 2},
                                    .classes = 3,
                                    .class_names = names,
                                    .features = features,
                                    .labels = labels};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *view = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *back = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *part = NULL;
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/set.safetensors", folder);

    (void)state;
    assert_int_equal(fl_dataset_create(&form, &dataset, NULL), 0);
    assert_int_equal(fl_dataset_write_safetensors(dataset, path, NULL), 0);
    assert_int_equal(fl_dataset_read_safetensors(path, NULL, &back, NULL), 0);
    assert_int_equal(back->count, 4);
    assert_int_equal(back->rank, 2);
    assert_int_equal(back->shape[1], 2);
    assert_int_equal(back->classes, 3);
    assert_string_equal(back->class_names[1], "b\"e");
    assert_memory_equal(back->features, features, sizeof(features));
    assert_memory_equal(back->labels, labels, sizeof(labels));
    assert_null(fl_dataset_memory(back)->features); /* used as it lies in the file */
    assert_int_equal(fl_dataset_view(back, rows, 2, &view, NULL), 0);
    assert_int_equal(fl_dataset_write_safetensors(view, path, NULL), 0);
    assert_int_equal(fl_dataset_read_safetensors(path, NULL, &part, NULL), 0);
    assert_memory_equal(part->features, ((float[]){7, 8, 1, 2}), 16);
    assert_memory_equal(part->labels, ((int32_t[]){1, 0}), 8);
    assert_int_equal(part->classes, 3);
}

struct tensor {
    const char *name;
    enum fl_dtype dtype;
    unsigned rank;
    int64_t shape[2];
    struct text data;
};

static struct fl_model *make_model(const struct tensor *tensors, size_t count)
{
    struct fl_tensor forms[4] = {0};
    struct fl_model *model = NULL;

    for (size_t i = 0; i < count; i++)
        forms[i] = (struct fl_tensor){.name = tensors[i].name,
                                      .dtype = tensors[i].dtype,
                                      .rank = tensors[i].rank,
                                      .shape = {tensors[i].shape[0], tensors[i].shape[1]}};
    assert_int_equal(fl_model_create(forms, count, &model, NULL), 0);
    for (size_t i = 0; i < count; i++)
        if (tensors[i].data.len > 0)
            memcpy(fl_model_find(model, tensors[i].name)->data, tensors[i].data.data,
                   tensors[i].data.len);
    return model;
}

static void types_of_tensors(void **state)
{
    static const struct tensor tensors[] = {
        {"features", FL_DTYPE_U8, 2, {2, 2}, TEXT("\x00\x33\xff\x66")},
        {"targets", FL_DTYPE_F64, 1, {2}, TEXT("\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\4\xc0")},
    };
    static const struct tensor labelled[] = {
        {"features", FL_DTYPE_BF16, 1, {2}, TEXT("\x80\x3f\x20\xc0")},
        {"labels", FL_DTYPE_I64, 2, {2, 1}, TEXT("\7\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0")},
    };
    FL_CLEANUP(fl_model_unrefp) struct fl_model *first = make_model(tensors, 2);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *second = make_model(labelled, 2);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *pixels = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *classes = NULL;

    (void)state;
    fl_model_note(second, "classes", "10");
    assert_int_equal(fl_dataset_from_model(first, NULL, false, &pixels, NULL), 0);
    assert_true(pixels->features[1] == 0.2f && pixels->features[2] == 1);
    assert_true(pixels->targets[1] == -2.5f);
    assert_int_equal(fl_dataset_from_model(second, NULL, false, &classes, NULL), 0);
    assert_true(classes->features[1] == -2.5f);
    assert_int_equal(classes->labels[0], 7);
    assert_int_equal(classes->classes, 10);
}

static void tensors_that_are_refused(void **state)
{
#define FEATURES                                                                                   \
    {                                                                                              \
        "features", FL_DTYPE_I8, 1, {2}, TEXT("\1\2")                                              \
    }
    static const struct {
        struct tensor tensors[3];
        const char *note, *value, *msg;
    } cases[] = {
        {{{"labels", FL_DTYPE_I8, 1, {2}, TEXT("")}}, NULL, NULL, "\"features\" is needed"},
        {{FEATURES}, NULL, NULL, "\"labels\" or \"targets\" is needed"},
        {{FEATURES,
          {"labels", FL_DTYPE_I8, 1, {2}, TEXT("")},
          {"targets", FL_DTYPE_F32, 1, {2}, TEXT("")}},
         NULL,
         NULL,
         "and not both"},
        {{FEATURES, {"targets", FL_DTYPE_I8, 1, {2}, TEXT("")}}, NULL, NULL, "must be floats"},
        {{FEATURES, {"labels", FL_DTYPE_I8, 1, {3}, TEXT("")}}, NULL, NULL, "3, where 2 examples"},
        {{FEATURES, {"labels", FL_DTYPE_I8, 1, {2}, TEXT("\0\xff")}}, NULL, NULL, "label -1"},
        {{FEATURES, {"labels", FL_DTYPE_I32, 1, {2}, TEXT("\0\0\0\0\0\0\1\0")}},
         NULL,
         NULL,
         "row 1: label 65536"},
        {{{"features", FL_DTYPE_F32, 0, {0}, TEXT("")}, {"labels", FL_DTYPE_I8, 1, {1}, TEXT("")}},
         NULL,
         NULL,
         "0 dimensions"},
        {{{"features", FL_DTYPE_F32, 1, {0}, TEXT("")}, {"labels", FL_DTYPE_I8, 1, {0}, TEXT("")}},
         NULL,
         NULL,
         "there are no examples"},
        {{{"features", FL_DTYPE_F32, 2, {1, 2}, TEXT("\0\0\0\0\0\0\xc0\x7f")},
          {"labels", FL_DTYPE_I8, 1, {1}, TEXT("")}},
         NULL,
         NULL,
         "row 0, column 1: not a finite number"},
        {{FEATURES, {"labels", FL_DTYPE_I8, 1, {2}, TEXT("\2\0")}}, "classes", "2", "of 3 … 65536"},
        {{FEATURES, {"labels", FL_DTYPE_I8, 1, {2}, TEXT("\1\0")}},
         "classNames",
         "[\"a\"]",
         "a list of 2 texts"},
        {{FEATURES, {"labels", FL_DTYPE_I8, 1, {2}, TEXT("\1\0")}},
         "classNames",
         "[\"a\",1]",
         "item 1 is no text"},
        {{FEATURES, {"labels", FL_DTYPE_I8, 1, {2}, TEXT("\1\0")}},
         "classNames",
         "[",
         "classNames: "},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        size_t count = cases[i].tensors[2].name ? 3 : cases[i].tensors[1].name ? 2 : 1;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = make_model(cases[i].tensors, count);
        struct fl_dataset *dataset = NULL;
        struct fl_error err = {0};

        if (cases[i].note)
            fl_model_note(model, cases[i].note, cases[i].value);
        assert_true(fl_dataset_from_model(model, NULL, false, &dataset, &err) < 0);
        if (!strstr(err.msg, cases[i].msg))
            fail_msg("case %zu: %s", i, err.msg);
        assert_null(dataset);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return fl_dir_remove(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type),
        cmocka_unit_test(headers_that_are_read),
        cmocka_unit_test(fortran_order),
        cmocka_unit_test(npy_that_is_refused),
        cmocka_unit_test(files_and_labels_that_are_refused),
        cmocka_unit_test(written_and_read_back),
        cmocka_unit_test(types_of_tensors),
        cmocka_unit_test(tensors_that_are_refused),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
