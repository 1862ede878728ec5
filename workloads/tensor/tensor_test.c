#include "lib/file.h"
#include "lib/str.h"
#include "workloads/tensor/safetensors.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

static struct fl_tensor form(const char *name, enum fl_dtype dtype, unsigned rank, int64_t a,
                             int64_t b)
{
    return (struct fl_tensor){.name = name, .dtype = dtype, .rank = rank, .shape = {a, b}};
}

static struct fl_model *sample(void)
{
    const struct fl_tensor tensors[] = {
        form("b", FL_DTYPE_F32, 1, 3, 0),     form("a", FL_DTYPE_F32, 2, 2, 2),
        form("count", FL_DTYPE_I64, 0, 0, 0), form("flags", FL_DTYPE_BOOL, 1, 5, 0),
        form("none", FL_DTYPE_F64, 1, 0, 0),  form("half", FL_DTYPE_F16, 1, 3, 0),
    };
    struct fl_model *model = NULL;

    assert_int_equal(fl_model_create(tensors, FL_COUNT_OF(tensors), &model, NULL), 0);
    for (size_t t = 0; t < model->count; t++)
        for (size_t i = 0; i < model->tensors[t].count; i++)
            fl_tensor_set(&model->tensors[t], i, (double)(i + 1));
    fl_model_note(model, "round", "3");
    return model;
}

static void in_the_order_of_a_file(void **state)
{
    static const char *const order[] = {"count", "none", "a", "b", "half", "flags"};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = sample();

    (void)state;
    assert_int_equal(model->count, FL_COUNT_OF(order));
    for (size_t i = 0; i < model->count; i++)
        assert_string_equal(model->tensors[i].name, order[i]);
    assert_int_equal(model->size, 8 + 0 + 16 + 12 + 6 + 5);
    assert_int_equal(model->parameters, 1 + 0 + 4 + 3 + 3 + 5);
    assert_true(fl_tensor_get(fl_model_find(model, "b"), 2) == 3.0);
    assert_null(fl_model_find(model, "c"));
}

static void what_cannot_be_a_model(void **state)
{
    const struct fl_tensor twice[] = {form("a", FL_DTYPE_F32, 1, 1, 0),
                                      form("a", FL_DTYPE_I8, 1, 1, 0)};
    const struct fl_tensor negative = form("n", FL_DTYPE_F32, 1, -1, 0);
    const struct fl_tensor vast = form("v", FL_DTYPE_F64, 2, INT64_MAX, 2);
    struct fl_model *model = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_model_create(twice, 2, &model, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "\"a\" stands twice"));
    assert_int_equal(fl_model_create(&negative, 1, &model, &err), FL_E_INVALID);
    assert_int_equal(fl_model_create(&vast, 1, &model, &err), FL_E_INVALID);
    assert_null(model);
}

/* Every value of the small types goes to a double and back; what lies between two is rounded to the
 * even one. */
static void elements_of_every_type(void **state)
{
    static const enum fl_dtype small[] = {FL_DTYPE_F8_E5M2, FL_DTYPE_F8_E4M3, FL_DTYPE_F16,
                                          FL_DTYPE_BF16};
    unsigned char bytes[8];

    (void)state;
    for (size_t t = 0; t < FL_COUNT_OF(small); t++) {
        struct fl_tensor tensor = {.dtype = small[t], .data = bytes};
        unsigned all = fl_dtype_size(small[t]) == 1 ? 0x100 : 0x10000;

        for (unsigned bits = 0; bits < all; bits++) {
            uint16_t back = 0;
            double value;

            memcpy(bytes, &bits, 2);
            value = fl_tensor_get(&tensor, 0);
            fl_tensor_set(&tensor, 0, value);
            memcpy(&back, bytes, fl_dtype_size(small[t]));
            if (isnan(value))
                assert_true(isnan(fl_tensor_get(&tensor, 0)));
            else
                assert_int_equal(back, bits);
        }
    }
}

static void known_small_floats(void **state)
{
    static const struct {
        enum fl_dtype dtype;
        double value;
        unsigned bits;
    } cases[] = {
        {FL_DTYPE_F16, 1.0, 0x3c00},       {FL_DTYPE_F16, -2.0, 0xc000},
        {FL_DTYPE_F16, 65504.0, 0x7bff},   {FL_DTYPE_F16, 65520.0, 0x7c00},
        {FL_DTYPE_F16, 0x1p-24, 0x0001},   {FL_DTYPE_F16, 0x1p-25, 0x0000},
        {FL_DTYPE_F16, 2049.0, 0x6800},    {FL_DTYPE_F16, 2051.0, 0x6802},
        {FL_DTYPE_BF16, 3.140625, 0x4049}, {FL_DTYPE_BF16, 1.0 + 0x1p-8, 0x3f80},
        {FL_DTYPE_F8_E4M3, 448.0, 0x7e},   {FL_DTYPE_F8_E4M3, 1000.0, 0x7f},
        {FL_DTYPE_F8_E5M2, 57344.0, 0x7b}, {FL_DTYPE_F8_E5M2, 1e6, 0x7c},
        {FL_DTYPE_F16, -0.0, 0x8000},
    };
    uint16_t bits;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_tensor tensor = {.dtype = cases[i].dtype, .data = &bits};

        bits = 0;
        fl_tensor_set(&tensor, 0, cases[i].value);
        assert_int_equal(bits, cases[i].bits);
    }
}

static void whole_numbers_saturate(void **state)
{
    static const struct {
        enum fl_dtype dtype;
        double value, back;
    } cases[] = {
        {FL_DTYPE_I8, 1000, 127},
        {FL_DTYPE_I8, -1000, -128},
        {FL_DTYPE_U8, -1, 0},
        {FL_DTYPE_U8, 2.5, 2},
        {FL_DTYPE_I32, 1e12, 2147483647},
        {FL_DTYPE_U64, 1e30, 18446744073709551615.0},
        {FL_DTYPE_I64, -1e30, -9223372036854775808.0},
        {FL_DTYPE_BOOL, 0.1, 1},
        {FL_DTYPE_I64, 0x1p53, 0x1p53},
        {FL_DTYPE_I16, (double)NAN, 0},
    };
    uint64_t cell;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_tensor tensor = {.dtype = cases[i].dtype, .data = &cell};

        fl_tensor_set(&tensor, 0, cases[i].value);
        assert_true(fl_tensor_get(&tensor, 0) == cases[i].back);
    }
}

static void differences_are_named(void **state)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = sample();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *same = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *other = NULL;
    const struct fl_tensor shape = form("count", FL_DTYPE_I64, 1, 1, 0);
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_model_like(model, true, &same, &err), 0);
    assert_int_equal(fl_model_check_like(model, same, &err), 0);
    assert_memory_equal(model->data, same->data, model->size);
    assert_int_equal(fl_model_create(&shape, 1, &other, &err), 0);
    assert_int_equal(fl_model_check_like(model, other, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "\"count\" has another shape"));
    assert_int_equal(fl_model_check_finite(same, &err), 0);
    fl_tensor_set(&same->tensors[2], 1, (double)NAN);
    assert_int_equal(fl_model_check_finite(same, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "tensor \"a\" has a NaN at index 1"));
}

static struct fl_bytes *file_of(const struct fl_model *model)
{
    size_t size;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = fl_safetensors_header(model, &size);
    struct fl_bytes *file = fl_bytes_new(NULL, size);

    memcpy(file->data, header->data, header->len);
    memcpy(file->data + header->len, model->data, model->size);
    return file;
}

static void there_and_back(void **state)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = sample();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *back = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = file_of(model);
    char digest[FL_DIGEST_SIZE], again[FL_DIGEST_SIZE];

    (void)state;
    assert_int_equal(fl_safetensors_read(file->data, file->len, NULL, &back, NULL), 0);
    assert_int_equal(fl_model_check_like(model, back, NULL), 0);
    assert_memory_equal(model->data, back->data, model->size);
    assert_string_equal(fl_model_get_note(back, "round"), "3");
    fl_model_digest(model, digest);
    fl_digest_of(file->data, file->len, again);
    assert_string_equal(digest, again);
}

static void over_a_file(void **state)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = sample();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *mapped = NULL;
    char path[] = "/tmp/flops-tensor-XXXXXX";
    struct fl_error err = {0};
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(fl_safetensors_write(model, path, &err), 0);
    assert_int_equal(fl_safetensors_open(path, NULL, &mapped, &err), 0);
    assert_memory_equal(model->data, mapped->data, model->size);
    assert_int_equal((uintptr_t)mapped->data % 8, 0);
    (void)unlink(path);
    assert_int_equal(fl_safetensors_open(path, NULL, &mapped, &err), FL_E_NOT_FOUND);
}

/* A file of another writer: other order, no padding. */
static struct fl_bytes *foreign(const char *header, const void *data, size_t len)
{
    uint64_t size = strlen(header);
    struct fl_bytes *file = fl_bytes_new(NULL, 8 + size + len);

    memcpy(file->data, &size, 8);
    memcpy(file->data + 8, header, size);
    if (len > 0)
        memcpy(file->data + 8 + size, data, len);
    return file;
}

static void files_of_others(void **state)
{
    const unsigned char data[] = {7, 0, 0, 0x80, 0x3f, 9, 0, 0, 0, 0, 0, 0, 0};
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *file =
        foreign("{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                "\"z\":{\"shape\":[],\"dtype\":\"F32\",\"data_offsets\":[1,5]},"
                "\"i\":{\"dtype\":\"I64\",\"shape\":[1,1],\"data_offsets\":[5,13]}}",
                data, sizeof(data));
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

    (void)state;
    assert_int_equal(fl_safetensors_read(file->data, file->len, NULL, &model, NULL), 0);
    assert_true(fl_tensor_get(fl_model_find(model, "x"), 0) == 7);
    assert_true(fl_tensor_get(fl_model_find(model, "z"), 0) == 1);
    assert_true(fl_tensor_get(fl_model_find(model, "i"), 0) == 9);
    assert_int_equal((uintptr_t)fl_model_find(model, "i")->data % 8, 0);
}

static void hostile_files(void **state)
{
    static const struct {
        const char *header, *says;
        size_t len;
    } cases[] = {
        {"[]", "no object", 0},
        {"{", "header", 0},
        {"{\"a\":1}", "must have dtype", 0},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", "unknown dtype", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "need 8", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "instead of 0", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "belong to no", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "data_offsets", 2},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         "instead of 2", 3},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         "stands twice", 2},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", "bad size", 1},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}",
         "dimension 1", 0},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
         "at most 8", 1},
        {"{\"__metadata__\":{\"a\":1}}", "no text", 0},
        {"{\"__metadata__\":[]}", "__metadata__", 0},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":1}}", "must have",
         1},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_bytes_unrefp)
        struct fl_bytes *file = foreign(cases[i].header, "12345678", cases[i].len);
        struct fl_model *model = NULL;
        struct fl_error err = {0};

        assert_int_equal(fl_safetensors_read(file->data, file->len, NULL, &model, &err),
                         FL_E_INVALID);
        if (!strstr(err.msg, cases[i].says))
            fail_msg("case %zu: %s", i, err.msg);
    }
}

static void bounds_come_first(void **state)
{
    const uint64_t vast = UINT64_MAX;
    const struct fl_model_limits limits = {.max_bytes = 10, .max_tensors = 1};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = sample();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = file_of(model);
    struct fl_model *back = NULL;

    (void)state;
    assert_int_equal(fl_safetensors_read(&vast, 8, NULL, &back, NULL), FL_E_TOO_LARGE);
    assert_int_equal(fl_safetensors_read(&vast, 7, NULL, &back, NULL), FL_E_INVALID);
    assert_int_equal(fl_safetensors_read(file->data, file->len, &limits, &back, NULL),
                     FL_E_TOO_LARGE);
    for (size_t len = 0; len < file->len; len++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *part = fl_bytes_new(file->data, len);

        assert_true(fl_safetensors_read(part->data, len, NULL, &back, NULL) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_the_order_of_a_file), cmocka_unit_test(what_cannot_be_a_model),
        cmocka_unit_test(elements_of_every_type), cmocka_unit_test(known_small_floats),
        cmocka_unit_test(whole_numbers_saturate), cmocka_unit_test(differences_are_named),
        cmocka_unit_test(there_and_back),         cmocka_unit_test(over_a_file),
        cmocka_unit_test(files_of_others),        cmocka_unit_test(hostile_files),
        cmocka_unit_test(bounds_come_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
