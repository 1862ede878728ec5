#include "workloads/model/onnx.h"

#include "workloads/model/model_testing.h"
#include "workloads/model/predictor.h"
#include "workloads/model/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

static struct fl_bytes *encode(struct fl_model *model)
{
    const struct fl_model_note lineage[] = {{FL_ONNX_LINEAGE "project", "mnist"}};
    struct fl_bytes *file = NULL;
    struct fl_error err = {0};

    if (fl_onnx_encode(model, lineage, 1, &file, &err) < 0)
        fail_msg("%s", err.msg);
    return file;
}

static void what_was_exported_reads_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(testing_forms); i++) {
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = testing_model(&testing_forms[i]);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *back = NULL;
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = encode(model), *again = encode(model);
        char digest[FL_DIGEST_SIZE], digest_back[FL_DIGEST_SIZE];
        struct fl_error err = {0};

        assert_int_equal(file->len, again->len);
        assert_memory_equal(file->data, again->data, file->len);
        if (fl_onnx_read(file->data, file->len, NULL, &back, &err) < 0)
            fail_msg("%s: %s", testing_forms[i].what, err.msg);
        fl_model_digest(model, digest);
        fl_model_digest(back, digest_back);
        assert_string_equal(digest, digest_back);
    }
}

/* Cut anywhere, a file is refused, or nothing is missing that matters. */
static void what_is_cut_is_refused(void **state)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = testing_model(&testing_forms[3]);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = encode(model);
    size_t read = 0;

    (void)state;
    for (size_t len = 0; len < file->len; len++) {
        FL_CLEANUP(fl_freep) char *copy = fl_malloc(len + 1); /* sanitizers see what is behind */
        struct fl_model *back = NULL;
        struct fl_error err = {0};

        memcpy(copy, file->data, len);
        if (fl_onnx_read(copy, len, NULL, &back, &err) < 0) {
            assert_non_null(strstr(err.msg, "ONNX file: "));
            continue;
        }
        assert_int_equal(fl_model_check_like(model, back, NULL), 0);
        fl_model_unref(back);
        read++;
    }
    assert_true(read <= 1); /* without its last property, the lineage */
}

/* Changes one text in the file to another of the same length. */
static struct fl_bytes *with(struct fl_model *model, const char *from, const char *to)
{
    struct fl_bytes *file = encode(model);
    char *at = memmem(file->data, file->len, from, strlen(from));

    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    return file;
}

static const struct {
    const char *from, *to, *says;
} changes[] = {
    {"Conv", "Evil", "operator Evil is none that flops exports"},
    {"Relu", "Tanh", "node "},
    {"value1", "value2", "node "},
    {"\"ReLU\"", "\"Tanh\"", "node "},
    {"[3,4]", "[4,3]", "parameters where"},
    {"flops.input", "flops.inpuT", "flops.input is missing"},
    {"flops.format", "flops.formaT", "does not say what it is"},
    {"flops.trainer\x12\x03"
     "CNN",
     "flops.trainer\x12\x03"
     "MLP",
     "no such option"},
    {"output.bias", "output.bIas", "node "},
};

static void what_is_changed_is_refused(void **state)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = testing_model(&testing_forms[3]);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(changes); i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = NULL;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *back = NULL;
        FL_CLEANUP(fl_predictor_destroyp) struct fl_predictor *predictor = NULL;
        struct fl_error err = {0};
        int r;

        file = with(model, changes[i].from, changes[i].to);
        r = fl_onnx_read(file->data, file->len, NULL, &back, &err);
        if (r == 0)
            r = fl_predictor_create(back, 1, &predictor, &err);
        assert_true(r < 0);
        if (!strstr(err.msg, changes[i].says))
            fail_msg("%s: %s", changes[i].to, err.msg);
    }
}

static void sizes_are_bounded(void **state)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = testing_model(&testing_forms[1]);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = encode(model);
    const struct fl_model_limits few = {.max_tensors = 5}, small = {.max_bytes = model->size - 1};
    struct fl_model *back = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_onnx_read(file->data, file->len, &few, &back, &err), FL_E_TOO_LARGE);
    assert_int_equal(fl_onnx_read(file->data, file->len, &small, &back, &err), FL_E_TOO_LARGE);
}

static void what_says_nothing_is_not_exported(void **state)
{
    const struct fl_tensor tensor = {.name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {1}};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_bytes *file = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_model_create(&tensor, 1, &model, NULL), 0);
    assert_int_equal(fl_onnx_encode(model, NULL, 0, &file, &err), FL_E_NOT_FOUND);
    assert_null(file);
}

static void numbers_are_read_to_their_bounds(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int result;
    } cases[] = {
        {"\x08\x96\x01", 3, 1},
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, 1},
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, FL_E_INVALID}, /* 65 bits */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, FL_E_INVALID},
        {"\x08", 1, FL_E_INVALID},
        {"\x0a\x02x", 3, FL_E_INVALID}, /* shorter than it says */
        {"\x0a\x01x", 3, 1},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, FL_E_INVALID},
        {"\x0d\x01\x02\x03", 4, FL_E_INVALID},
        {"\x0d\x01\x02\x03\x04", 5, 1},
        {"\x09\x01\x02\x03\x04\x05\x06\x07\x08", 9, 1},
        {"\x0b", 1, FL_E_INVALID}, /* a group */
        {"", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        const unsigned char *bytes = (const unsigned char *)cases[i].bytes;
        struct fl_proto_span span = {bytes, bytes + cases[i].len};
        struct fl_proto_field field = {0};

        assert_int_equal(fl_proto_next(&span, &field, NULL), cases[i].result);
        if (cases[i].result == 1)
            assert_int_equal(field.number, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_exported_reads_back),
        cmocka_unit_test(what_is_cut_is_refused),
        cmocka_unit_test(what_is_changed_is_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(what_says_nothing_is_not_exported),
        cmocka_unit_test(numbers_are_read_to_their_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
