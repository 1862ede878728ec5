#include "workloads/serve/request.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

/* Rows of 2 by 2; four at most. */
static const struct fl_signature signature = {
    .input = "x", .output = "y", .shape = {2, 2}, .rank = 2, .width = 4, .classes = 3};
#define ROWS_MAX 4

enum reader { V2, INVOCATIONS, CSV, V1 };

static int read_as(enum reader reader, struct fl_arena *arena, const char *body, size_t len,
                   int64_t header_len, struct fl_ask *ask, struct fl_error *err)
{
    switch (reader) {
    case V2:
        return fl_ask_read_v2(arena, &signature, body, len, header_len, ask, err);
    case INVOCATIONS:
        return fl_ask_read_invocations(arena, &signature, body, len, ask, err);
    case CSV:
        return fl_ask_read_csv(arena, &signature, body, len, ask, err);
    default:
        return fl_ask_read_instances(arena, &signature, body, len, ask, err);
    }
}

#define ONE_V2(rest) "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\"," rest "}]}"

/* All of them say 1, 2, 3, 4, and then 5, 6, 7, 8 where there are two rows. */
static const struct {
    enum reader reader;
    size_t rows;
    const char *body;
} good[] = {
    {V2, 1, ONE_V2("\"shape\":[1,2,2],\"data\":[1,2,3,4]")},
    {V2, 1, ONE_V2("\"data\":[1,2,3,4],\"shape\":[1,2,2]")},
    {V2, 1, ONE_V2("\"shape\":[1,4],\"data\":[[1, 2,3 ,4.0]]")},
    {V2, 1, ONE_V2("\"shape\":[2,2],\"data\":[[1,2],[3,4]]")},
    {V2, 2, ONE_V2("\"shape\":[2,2,2],\"data\":[[[1,2],[3,4]],[[5,6],[7,8]]]")},
    {V2, 2, ONE_V2("\"shape\":[2,2,2],\"data\":[1e0,0.2e1,30e-1,4,5,6,7,8]")},
    {V2, 1,
     " {\"id\":\"a\",\"parameters\":{\"priority\":{\"a\":[null,true]}},\"extra\":[],"
     "\"inputs\":[{\"name\":\"\\u0078\",\"shape\":[1,4],\"datatype\":\"FP64\","
     "\"parameters\":{},\"data\":[1,2,3,4]}],\"outputs\":[{\"name\":\"y\"}]}\n"},
    {INVOCATIONS, 2, "{\"instances\":[[1,2,3,4],[5,6,7,8]]}"},
    {INVOCATIONS, 2, "{\"instances\":[[[1,2],[3,4]],[[5,6],[7,8]]]}"},
    {INVOCATIONS, 2, "{\"instances\": [ {\"x\":[1,2,3,4]}, {\"x\":[[5,6],[7,8]]}]}"},
    {INVOCATIONS, 1, "{\"inputs\":[1,2,3,4]}"},
    {INVOCATIONS, 2, "{\"inputs\":{\"x\":[[1,2,3,4],[5,6,7,8]]},\"params\":{\"t\":1}}"},
    {INVOCATIONS, 2,
     "{\"dataframe_split\":{\"columns\":[\"a\",\"b\",\"c\",\"d\"],\"index\":[0,1],"
     "\"data\":[[1,2,3,4],[5,6,7,8]]}}"},
    {INVOCATIONS, 1, "{\"dataframe_split\":{\"data\":[[true,2,3,4]]}}"},
    {INVOCATIONS, 2,
     "{\"dataframe_records\":[{\"a\":1,\"b\":2,\"c\":3,\"d\":4},"
     "{\"d\":8,\"b\":6,\"c\":7,\"a\":5}]}"},
    {CSV, 2, "a,b,c,d\n1,2,3,4\n5,6,7,8\n"},
    {CSV, 2, "\"a,a\",b,c,d\r\n1, 2 ,3.0,4\r\n\r\n5,6,7e0,8"},
    {V1, 2, "{\"signature_name\":\"s\",\"instances\":[[1,2,3,4],[5,6,7,8]]}"},
};

static void every_form_gives_the_same_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(good); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_ask ask = {.rows.max = ROWS_MAX * 4};
        struct fl_error err = {0};

        if (read_as(good[i].reader, arena, good[i].body, strlen(good[i].body), -1, &ask, &err) < 0)
            fail_msg("%zu: %s", i, err.msg);
        assert_int_equal(ask.count, good[i].rows);
        assert_int_equal(ask.rows.count, good[i].rows * 4);
        for (size_t n = 0; n < ask.rows.count; n++)
            if (ask.rows.items[n] != (float)(n + 1))
                fail_msg("%zu: number %zu is %g", i, n, (double)ask.rows.items[n]);
        fl_numbers_finish(&ask.rows);
    }
}

static const struct {
    enum reader reader;
    int code;
    const char *body, *says;
} wrong[] = {
    {V2, FL_E_BAD_REQUEST, "", "byte 0: an object is expected"},
    {V2, FL_E_BAD_REQUEST, "[]", "byte 0: an object is expected"},
    {V2, FL_E_BAD_REQUEST, "{\"inputs\":[", "ends too early"},
    {V2, FL_E_INVALID, "{}", "inputs: is missing; the model takes \"x\""},
    {V2, FL_E_INVALID, "{\"inputs\":[{},{}]}", "the model takes one, \"x\""},
    {V2, FL_E_INVALID, "{\"inputs\":[{}]}", "inputs[0].name: is \"\"; \"x\" is expected"},
    {V2, FL_E_INVALID, "{\"inputs\":[{\"name\":\"z\"}]}", "is \"z\"; \"x\" is expected"},
    {V2, FL_E_BAD_REQUEST, "{\"inputs\":[{\"name\":3}]}", "inputs[0].name: byte 19: a text"},
    {V2, FL_E_BAD_REQUEST, "{\"inputs\":[7]}", "inputs[0]: byte 11: an object"},
    {V2, FL_E_BAD_REQUEST, "{\"inputs\":{}}", "inputs: byte 10: an array"},
    {V2, FL_E_BAD_REQUEST, "{\"id\":3}", "id: byte 6: a text"},
    {V2, FL_E_INVALID, "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"INT64\"}]}",
     "inputs[0].datatype: is \"INT64\"; FP32 is expected"},
    {V2, FL_E_INVALID, "{\"inputs\":[{\"name\":\"x\"}]}", "inputs[0].datatype: is \"\""},
    {V2, FL_E_INVALID, ONE_V2("\"data\":[1,2,3,4]"),
     "inputs[0].shape: has the shape []; [-1,2,2] is expected"},
    {V2, FL_E_INVALID, ONE_V2("\"shape\":[1,3],\"data\":[1,2,3]"), "has the shape [1,3]; [-1,2,2]"},
    {V2, FL_E_INVALID, ONE_V2("\"shape\":[0,4],\"data\":[]"), "has the shape [0,4]"},
    {V2, FL_E_INVALID, ONE_V2("\"shape\":[-1,4],\"data\":[]"), "inputs[0].shape: must be"},
    {V2, FL_E_INVALID, ONE_V2("\"shape\":[1,1,1,1,1,1,1,1,1],\"data\":[]"), "at most 8 sizes"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1.5]"), "inputs[0].shape: byte"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":4"), "inputs[0].shape: byte"},
    {V2, FL_E_TOO_LARGE, ONE_V2("\"shape\":[5,4],\"data\":[]"), "there are more than 4 rows"},
    {V2, FL_E_TOO_LARGE, ONE_V2("\"shape\":[9007199254740991,4],\"data\":[]"), "more than 4 rows"},
    {V2, FL_E_TOO_LARGE,
     ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"),
     "more than 4 rows"},
    {V2, FL_E_INVALID, ONE_V2("\"shape\":[1,4]"), "inputs[0].data: is missing"},
    {V2, FL_E_INVALID, ONE_V2("\"shape\":[1,4],\"data\":[1,2,3]"),
     "has 3 numbers; its shape needs 4"},
    {V2, FL_E_INVALID, ONE_V2("\"shape\":[2,4],\"data\":[[1,2],[3,4],[5,6],[7,8]]"),
     "nested otherwise"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1,2,\"3\",4]"),
     "inputs[0].data: byte 67: a number is expected"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1,2,NaN,4]"), "a number is expected"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1,2,null,4]"), "a number is expected"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,01]"), "that is no number"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,1e39]"), "too large for FP32"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,4,]"), "a number is expected"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1 2 3 4]"), "a comma or"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[[1,2],[3]]"), "different length"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[[1,2],3]"), "different depth"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[[],[[]]]"), "different depth"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[[[[[[[[[1]]]]]]]]]"), "too deep"},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"data\":[1],\"data\":[1]"), "stands there twice"},
    {V2, FL_E_BAD_REQUEST, "{\"parameters\":{\"binary_data_output\":1}}",
     "binary_data_output: byte 36: true or false"},
    {V2, FL_E_INVALID, "{\"outputs\":[{\"name\":\"z\"}]}",
     "there is no \"z\"; the model gives \"y\""},
    {V2, FL_E_BAD_REQUEST, ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,4]") "x", "behind the value"},
    {V2, FL_E_BAD_REQUEST, "{\"a\":\"\x01\"}", "a control character"},
    {V2, FL_E_BAD_REQUEST, "{\"id\":\"\\x\"}", "wrong escape"},
    {V2, FL_E_BAD_REQUEST, "{\"id\":\"\xff\"}", "no UTF-8"},
    {INVOCATIONS, FL_E_BAD_REQUEST, "[[1,2,3,4]]", "an object is expected"},
    {INVOCATIONS, FL_E_INVALID, "{}", "one of dataframe_split, dataframe_records"},
    {INVOCATIONS, FL_E_INVALID, "{\"inputs\":[1,2,3,4],\"instances\":[1,2,3,4]}", "only one of"},
    {INVOCATIONS, FL_E_INVALID, "{\"instances\":[]}", "instances has the shape [0]; [-1,2,2]"},
    {INVOCATIONS, FL_E_INVALID, "{\"instances\":[[1,2,3]]}", "instances has the shape [1,3]"},
    {INVOCATIONS, FL_E_INVALID, "{\"instances\":[{\"x\":[1,2,3]}]}", "instances has the shape [3]"},
    {INVOCATIONS, FL_E_INVALID, "{\"instances\":[{\"x\":[[1,2,3,4],[1,2,3,4]]}]}",
     "one row, not 2"},
    {INVOCATIONS, FL_E_INVALID, "{\"instances\":[{\"z\":[1]}]}",
     "there is no \"z\"; the model takes"},
    {INVOCATIONS, FL_E_INVALID, "{\"inputs\":{}}", "inputs: \"x\" is missing"},
    {INVOCATIONS, FL_E_BAD_REQUEST, "{\"inputs\":\"a\"}", "inputs: byte 10: a number is expected"},
    {INVOCATIONS, FL_E_INVALID, "{\"dataframe_split\":{}}", "dataframe_split.data: is missing"},
    {INVOCATIONS, FL_E_INVALID, "{\"dataframe_split\":{\"columns\":[1,2],\"data\":[[1,2,3,4]]}}",
     "there are 2 columns; 4 are expected"},
    {INVOCATIONS, FL_E_INVALID, "{\"dataframe_records\":[]}", "there are no rows"},
    {INVOCATIONS, FL_E_INVALID, "{\"dataframe_records\":[{\"a\":1}]}", "there are 1 columns"},
    {INVOCATIONS, FL_E_INVALID,
     "{\"dataframe_records\":[{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1}]}",
     "\"e\" is not expected"},
    {INVOCATIONS, FL_E_INVALID,
     "{\"dataframe_records\":[{\"a\":1,\"b\":1,\"c\":1,\"d\":1},{\"a\":1,\"b\":1,\"c\":1,\"z\":1}]"
     "}",
     "\"z\" is not expected"},
    {INVOCATIONS, FL_E_INVALID,
     "{\"dataframe_records\":[{\"a\":1,\"b\":1,\"c\":1,\"d\":1},{\"a\":1,\"b\":1,\"c\":1,\"a\":1}]"
     "}",
     "a column is missing"},
    {INVOCATIONS, FL_E_BAD_REQUEST, "{\"dataframe_records\":[{\"a\":\"1\"}]}",
     "column \"a\": byte 27: a number is expected"},
    {CSV, FL_E_INVALID, "", "there are no rows"},
    {CSV, FL_E_INVALID, "a,b,c,d\n", "there are no rows"},
    {CSV, FL_E_INVALID, "a,b,c\n1,2,3\n", "the first line names 3 columns; 4 are expected"},
    {CSV, FL_E_INVALID, "a,b,c,d\n1,2,3\n", "line 2 has 3 columns; 4 are expected"},
    {CSV, FL_E_INVALID, "a,b,c,d\n1,2,3,4\n1,2,3,4,5\n", "line 3 has more than 4 columns"},
    {CSV, FL_E_BAD_REQUEST, "a,b,c,d\n1,2,x,4\n", "line 2, column 3: a number is expected"},
    {CSV, FL_E_BAD_REQUEST, "a,b,c,d\n1,2,3,\n", "line 2, column 4: a number is expected"},
    {CSV, FL_E_BAD_REQUEST, "a,b,c,d\n1,2,3,4 5\n", "line 2, column 4"},
    {CSV, FL_E_BAD_REQUEST, "a,b,c,d\n1,2,3,1e39\n", "line 2, column 4"},
    {CSV, FL_E_TOO_LARGE, "a,b,c,d\n1,2,3,4\n1,2,3,4\n1,2,3,4\n1,2,3,4\n1,2,3,4\n",
     "more than 4 rows"},
    {V1, FL_E_INVALID, "{\"inputs\":[1,2,3,4]}", "instances: is missing"},
};

static void what_is_wrong_is_told_with_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(wrong); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_ask ask = {.rows.max = ROWS_MAX * 4};
        struct fl_error err = {0};
        int r =
            read_as(wrong[i].reader, arena, wrong[i].body, strlen(wrong[i].body), -1, &ask, &err);

        if (r != wrong[i].code || !strstr(err.msg, wrong[i].says))
            fail_msg("%zu: %s\n%d: %s", i, wrong[i].body, r, err.msg);
        fl_numbers_finish(&ask.rows);
    }
}

static void a_nul_does_not_end_a_body(void **state)
{
    static const char body[] = ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,4]") "\0{}";
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_ask ask = {.rows.max = ROWS_MAX * 4};

    (void)state;
    assert_int_equal(fl_ask_read_v2(arena, &signature, body, sizeof(body) - 1, -1, &ask, NULL),
                     FL_E_BAD_REQUEST);
    fl_numbers_finish(&ask.rows);
}

/* Binary tensors */

static const float four[] = {1, 2, 3, 4};

static int read_binary(const char *json, const void *tensor, size_t size, struct fl_ask *ask,
                       struct fl_arena *arena, struct fl_error *err)
{
    char body[1024];
    const size_t len = strlen(json);

    memcpy(body, json, len);
    memcpy(body + len, tensor, size);
    body[len + size] = '\0';
    return fl_ask_read_v2(arena, &signature, body, len + size, (int64_t)len, ask, err);
}

#define BINARY(type, shape, size, rest)                                                            \
    "{" rest "\"inputs\":[{\"name\":\"x\",\"datatype\":\"" type "\",\"shape\":" shape              \
    ",\"parameters\":{\"binary_data_size\":" size "}}]}"

static const double doubles[] = {1, 2, 3, 4};
static const uint16_t halves[] = {0x3C00, 0x4000, 0x4200, 0x4400},
                      brains[] = {0x3F80, 0x4000, 0x4040, 0x4080};
static const uint16_t shorts[] = {1, 2, 3, 4};
static const uint8_t bytes[] = {1, 2, 3, 4};

static void tensors_come_as_bytes_of_many_types(void **state)
{
    static const struct {
        const char *json;
        const void *tensor;
        size_t size;
        bool binary;
    } cases[] = {
        {BINARY("FP32", "[1,4]", "16", ""), four, 16, false},
        {BINARY("FP32", "[1,2,2]", "16", "\"parameters\":{\"binary_data_output\":true},"), four, 16,
         true},
        {BINARY("FP32", "[1,4]", "16",
                "\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":true}}],"),
         four, 16, true},
        {BINARY("FP32", "[1,4]", "16",
                "\"parameters\":{\"binary_data_output\":true},\"outputs\":[{\"name\":\"y\","
                "\"parameters\":{\"binary_data\":false}}],"),
         four, 16, false},
        {BINARY("FP64", "[1,4]", "32", ""), doubles, 32, false},
        {BINARY("FP16", "[1,4]", "8", ""), halves, 8, false},
        {BINARY("BF16", "[1,4]", "8", ""), brains, 8, false},
        {BINARY("INT16", "[1,4]", "8", ""), shorts, 8, false},
        {BINARY("UINT8", "[1,4]", "4", ""), bytes, 4, false},
        {"", four, 16, true}, /* nothing but the tensor */
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_ask ask = {.rows.max = ROWS_MAX * 4};
        struct fl_error err = {0};

        if (read_binary(cases[i].json, cases[i].tensor, cases[i].size, &ask, arena, &err) < 0)
            fail_msg("%zu: %s", i, err.msg);
        assert_int_equal(ask.count, 1);
        assert_memory_equal(ask.rows.items, four, sizeof(four));
        assert_int_equal(ask.binary, cases[i].binary);
        fl_numbers_finish(&ask.rows);
    }
}

static void tensors_that_do_not_fit_are_refused(void **state)
{
    static const float odd[] = {1, NAN, 3, 4}, large[20] = {0};
    static const struct {
        const char *json;
        const void *tensor;
        size_t size;
        int code;
        const char *says;
    } cases[] = {
        {BINARY("FP32", "[1,4]", "12", ""), four, 12, FL_E_INVALID,
         "needs 16 bytes of FP32; binary_data_size is 12"},
        {BINARY("FP32", "[1,4]", "16", ""), four, 12, FL_E_INVALID, "and 12 came"},
        {BINARY("FP32", "[1,4]", "-1", ""), four, 16, FL_E_INVALID,
         "16 bytes stand behind the JSON"},
        {BINARY("FP32", "[1,4]", "16", ""), odd, 16, FL_E_INVALID, "number 1 is not finite"},
        {BINARY("BYTES", "[1,4]", "16", ""), four, 16, FL_E_INVALID, "is \"BYTES\"; FP32"},
        {ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,4],\"parameters\":{\"binary_data_size\":16}"),
         four, 16, FL_E_INVALID, "exclude each other"},
        {ONE_V2("\"shape\":[1,4],\"data\":[1,2,3,4]"), four, 16, FL_E_INVALID,
         "16 bytes stand behind the JSON"},
        {"", four, 15, FL_E_INVALID, "15 bytes came; a row has 16"},
        {"", four, 0, FL_E_INVALID, "0 bytes came"},
        {"", large, 80, FL_E_TOO_LARGE, "more than 4 rows"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_ask ask = {.rows.max = ROWS_MAX * 4};
        struct fl_error err = {0};
        int r = read_binary(cases[i].json, cases[i].tensor, cases[i].size, &ask, arena, &err);

        if (r != cases[i].code || !strstr(err.msg, cases[i].says))
            fail_msg("%zu: %d: %s", i, r, err.msg);
        fl_numbers_finish(&ask.rows);
    }
}

static void a_header_longer_than_the_body_is_refused(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_ask ask = {.rows.max = ROWS_MAX * 4};

    (void)state;
    assert_int_equal(fl_ask_read_v2(arena, &signature, "{}", 2, 3, &ask, NULL), FL_E_BAD_REQUEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_gives_the_same_rows),
        cmocka_unit_test(what_is_wrong_is_told_with_its_place),
        cmocka_unit_test(a_nul_does_not_end_a_body),
        cmocka_unit_test(tensors_come_as_bytes_of_many_types),
        cmocka_unit_test(tensors_that_do_not_fit_are_refused),
        cmocka_unit_test(a_header_longer_than_the_body_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
