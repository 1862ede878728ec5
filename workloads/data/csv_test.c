#include "lib/buf.h"
#include "lib/str.h"
#include "workloads/data/dataset_internal.h"
#include "workloads/data/number.h"
#include "workloads/data/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

static int parse_len(const char *text, size_t len, const struct fl_csv_options *options,
                     const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                     struct fl_error *err)
{
    struct fl_input input = fl_input_of(text, len);

    return fl_csv_parse(&input, options, limits, ret_dataset, err);
}

static struct fl_dataset *parse(const char *text, const struct fl_csv_options *options)
{
    struct fl_dataset *dataset = NULL;
    struct fl_error err = {0};

    if (parse_len(text, strlen(text), options, NULL, &dataset, &err) < 0)
        fail_msg("%s", err.msg);
    return dataset;
}

static void assert_floats(const float *have, size_t count, const float *want)
{
    for (size_t i = 0; i < count; i++)
        assert_true(have[i] == want[i]);
}

static void numbers_as_strtod_reads_them(void **state)
{
    static const char *const good[] = {
        "0",
        "-0",
        "1",
        "+7",
        "12.5",
        ".5",
        "5.",
        "1e3",
        "1E-3",
        "1e+22",
        "1e23",
        "-2.5e7",
        "0.1",
        "123456789012345678901234567890",
        "1e308",
        "4.9e-324",
        "1e400",
        "1e-9999",
        "00012",
        "0.0000",
        "9007199254740993",
    };
    static const char *const bad[] = {"",    "-",    ".",   "e5", "1e", "1e+", "nan",
                                      "inf", "0x10", "1,5", " 1", "1 ", "--1", "1.2.3"};
    struct fl_random random = fl_random_from(1, 1);
    double value = 0;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(good); i++) {
        const char *end = good[i] + strlen(good[i]);
        double expected = strtod(good[i], NULL);

        assert_ptr_equal(fl_number_read(good[i], end, &value), end);
        assert_memory_equal(&value, &expected, sizeof(value));
    }
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        const char *end = bad[i] + strlen(bad[i]);

        const char *after = fl_number_read(bad[i], end, &value);

        assert_true(!after || after != end);
    }
    for (int i = 0; i < 100000; i++) {
        char text[64];
        double expected =
            (fl_random_uniform(&random) - 0.5) * pow(10, (double)fl_random_index(&random, 60) - 30);

        (void)snprintf(text, sizeof(text), "%.*g", 1 + (int)fl_random_index(&random, 17), expected);
        expected = strtod(text, NULL);
        assert_non_null(fl_number_read(text, text + strlen(text), &value));
        assert_memory_equal(&value, &expected, sizeof(value));
    }
}

static void whole_numbers_are_classes(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp)
    struct fl_dataset *dataset = parse("1,2.5,0\n-3,4e1,2\n", NULL);

    (void)state;
    assert_int_equal(dataset->count, 2);
    assert_int_equal(dataset->rank, 1);
    assert_int_equal(dataset->shape[0], 2);
    assert_int_equal(dataset->classes, 3);
    assert_null(dataset->class_names);
    assert_floats(dataset->features, 4, (float[]){1, 2.5f, -3, 40});
    assert_int_equal(dataset->labels[0], 0);
    assert_int_equal(dataset->labels[1], 2);
}

static void texts_are_classes_in_order(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp)
    struct fl_dataset *dataset =
        parse("w,h,kind\n1,2,pear\n3,4,apple\n5,6,\"pear\"\n7,8,3\n", NULL);

    (void)state;
    assert_int_equal(dataset->count, 4);
    assert_int_equal(dataset->classes, 3);
    assert_string_equal(dataset->class_names[0], "3");
    assert_string_equal(dataset->class_names[1], "apple");
    assert_string_equal(dataset->class_names[2], "pear");
    assert_memory_equal(dataset->labels, ((int32_t[]){2, 1, 2, 0}), 16);
}

static void other_numbers_are_targets(void **state)
{
    const struct fl_csv_options targets = {.labels = FL_CSV_LABELS_TARGETS};
    const struct fl_csv_options classes = {.labels = FL_CSV_LABELS_CLASSES};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = parse("1,0.5\n2,3\n", NULL);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *whole = parse("1,5\n2,3\n", &targets);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *signs = parse("1,-1\n2,1\n", &classes);

    (void)state;
    assert_int_equal(dataset->classes, 0);
    assert_floats(dataset->targets, 2, (float[]){0.5f, 3});
    assert_int_equal(whole->classes, 0);
    assert_floats(whole->targets, 2, (float[]){5, 3});
    assert_int_equal(signs->classes, 2);
    assert_string_equal(signs->class_names[0], "-1");
    assert_int_equal(signs->labels[1], 1);
}

static void every_form_of_the_same(void **state)
{
    static const char *const forms[] = {
        "a,b,label\n1,2,x\n3,4,y\n",
        "a,b,label\r\n1,2,x\r\n3,4,y\r\n",
        "a,b,label\n1,2,x\n3,4,y",
        "\xEF\xBB\xBF"
        "a,b,label\n1,2,x\n3,4,y\n",
        "\"a\",\"b\",\"label\"\n\"1\",\"2\",\"x\"\n\"3\",\"4\",\"y\"\n",
        "\n\na,b,label\n\n1,2,x\r\n\r\n3,4,y\n\n",
        " a , b , label \n 1 ,2\t, x\n3 , 4,y \n",
        "\"a,\n\"\"b\",b,label\n1,2,x\n3,4,y\n",
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++)
        for (unsigned named = 0; named < 2; named++) {
            const struct fl_csv_options options = {.label = named ? "label" : ""};
            FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = parse(forms[i], &options);

            assert_int_equal(dataset->count, 2);
            assert_floats(dataset->features, 4, (float[]){1, 2, 3, 4});
            assert_memory_equal(dataset->labels, ((int32_t[]){0, 1}), 8);
            assert_string_equal(dataset->class_names[1], "y");
        }
}

static void label_in_another_column(void **state)
{
    const struct fl_csv_options options = {.label = "kind"};
    FL_CLEANUP(fl_dataset_unrefp)
    struct fl_dataset *dataset = parse("a,kind,b\n1,7,2\n3,0,4\n", &options);

    (void)state;
    assert_floats(dataset->features, 4, (float[]){1, 2, 3, 4});
    assert_int_equal(dataset->labels[0], 7);
    assert_int_equal(dataset->classes, 8);
}

static void header_or_not(void **state)
{
    const struct fl_csv_options yes = {.header = FL_CSV_HEADER_YES};
    const struct fl_csv_options no = {.header = FL_CSV_HEADER_NO};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *skipped = parse("1,2\n3,4\n", &yes);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *kept = parse("1,2\n3,4\n", NULL);
    struct fl_dataset *none = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(skipped->count, 1);
    assert_int_equal(kept->count, 2);
    assert_int_equal(parse_len("a,b\n1,2\n", 8, &no, NULL, &none, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "row 1, column 1: \"a\" is no number");
}

static void classes_of_another_set(void **state)
{
    static const char *const names[] = {"apple", "fig", "pear"};
    const struct fl_dataset_limits like = {.classes = 3, .class_names = names};
    const struct fl_dataset_limits more = {.classes = 10};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *texts = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *numbers = NULL;
    struct fl_dataset *none = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(parse_len("1,pear\n2,fig\n", 13, NULL, &like, &texts, NULL), 0);
    assert_int_equal(texts->classes, 3);
    assert_memory_equal(texts->labels, ((int32_t[]){2, 1}), 8);
    assert_int_equal(parse_len("1,3\n2,1\n", 8, NULL, &more, &numbers, NULL), 0);
    assert_int_equal(numbers->classes, 10);
    assert_int_equal(parse_len("1,pear\n2,figs\n", 14, NULL, &like, &none, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "row 2, column 2: \"figs\" is none of the known labels");
    assert_int_equal(parse_len("1,pear\n2,fi\n", 12, NULL, &like, &none, &err), FL_E_INVALID);
}

static void what_is_refused_by_row_and_column(void **state)
{
    static const struct fl_csv_options named = {.label = "kind"};
    static const struct fl_csv_options targets = {.labels = FL_CSV_LABELS_TARGETS};
    static const struct {
        const char *text;
        const struct fl_csv_options *options;
        const char *msg;
    } cases[] = {
        {"", NULL, "there are no examples"},
        {"\n\r\n\n", NULL, "there are no examples"},
        {"a,b\n", NULL, "there are no examples"},
        {"1\n2\n", NULL, "row 1: a feature and a label are needed"},
        {"1,2,3\n4,5\n", NULL, "row 2: 2 columns, where the first has 3"},
        {"1,2,3\n4,5,6,7\n", NULL, "row 2: more than the 3 columns of the first"},
        {"1,2,3\n4,5,6,\n", NULL, "row 2: more than the 3 columns"},
        {"a,b,c\n1,x,3\n", NULL, "row 2, column 2 (b): \"x\" is no number"},
        {"a,b,c\n\n1,,3\n", NULL, "row 3, column 2 (b): \"\" is no number"},
        {"1,2\nnan,3\n", NULL, "row 2, column 1: \"nan\" is no number"},
        {"1,2\n1e39,3\n", NULL, "row 2, column 1: \"1e39\" does not fit a float"},
        {"1,2\n3,\n", NULL, "row 2, column 2: \"\" is no label"},
        {"1,2\n3,\x01\n", NULL, "row 2, column 2: \"?\" is no label"},
        {"1,2\n3,\xff\n", NULL, "row 2, column 2: \"?\" is no label"},
        {"1,2\n3,\"a\nb\"\n", NULL, "row 2, column 2: \"a?b\" is no label"},
        {"1,2\n3,x\n", &targets, "row 2, column 2: \"x\" is no number"},
        {"1,2\n3,1e39\n", &targets, "row 2, column 2: \"1e39\" is no number"},
        {"1,2\n\"3,4\n5,6\n", NULL, "row 2: a quote is never closed"},
        {"1,2\n\"3\"x,4\n", NULL, "row 2, column 1: text behind the closing quote"},
        {"1,2\n3\"\",4\n", NULL, "row 2, column 1: a quote within a field"},
        {"a,b\n1,2\n", &named, "row 1: 0 columns are named \"kind\""},
        {"kind,kind\n1,2\n", &named, "row 1: 2 columns are named \"kind\""},
        {"1,2\n12345678901234567890123456789012345x,3\n", NULL,
         "\"12345678901234567890123456789012...\" is no number"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_dataset *dataset = NULL;
        struct fl_error err = {0};

        assert_int_equal(
            parse_len(cases[i].text, strlen(cases[i].text), cases[i].options, NULL, &dataset, &err),
            FL_E_INVALID);
        if (!strstr(err.msg, cases[i].msg))
            fail_msg("case %zu: %s", i, err.msg);
        assert_null(dataset);
        assert_int_equal(
            parse_len(cases[i].text, strlen(cases[i].text), cases[i].options, NULL, &dataset, NULL),
            FL_E_INVALID);
    }
}

static void bounds(void **state)
{
    const struct fl_dataset_limits tight = {.max_bytes = 1000 * 2 * sizeof(float)};
    struct fl_dataset *dataset = NULL;
    struct fl_error err = {0};
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    for (int i = 0; i < 1001; i++)
        fl_buf_printf(&text, "%d,%d\n", i, i % 7);
    assert_int_equal(parse_len(text.data, text.len, NULL, &tight, &dataset, &err), FL_E_TOO_LARGE);
    assert_string_equal(err.msg, "row 1001: more than 8000 bytes of data");
    fl_buf_clear(&text);
    for (int i = 0; i <= FL_DATASET_CLASSES_MAX; i++)
        fl_buf_printf(&text, "1,x%d\n", i);
    assert_int_equal(parse_len(text.data, text.len, NULL, NULL, &dataset, &err), FL_E_TOO_LARGE);
    assert_string_equal(err.msg, "column 2: more than 65536 different labels");
    fl_buf_clear(&text);
    for (int i = 0; i <= FL_DATASET_CLASSES_MAX; i++)
        fl_buf_printf(&text, "1,%d.5\n", i);
    assert_int_equal(parse_len(text.data, text.len, NULL, NULL, &dataset, &err), 0);
    assert_int_equal(dataset->classes, 0);
    fl_dataset_unref(FL_TAKE(dataset));
    fl_buf_clear(&text);
    fl_buf_puts(&text, "1,2\n\"");
    for (int i = 0; i < 2 * 1024 * 1024; i++)
        fl_buf_puts(&text, "no end,\n");
    assert_int_equal(parse_len(text.data, text.len, NULL, NULL, &dataset, &err), FL_E_TOO_LARGE);
    assert_string_equal(err.msg, "row 2: longer than 16777216 bytes; is a quote never closed?");
    fl_buf_finish(&text);
    assert_null(dataset);
}

/* Records that lie across the ends of what is read at once. */
static void long_files(void **state)
{
    const int rows = 50000;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    for (int i = 0; i < rows; i++)
        fl_buf_printf(&text, i % 3 ? "%d.25,-%d,\"a,\"\"%d\"\r\n" : "\"%d.25\",-%d,\"a,\"\"%d\"\n",
                      i, i, i % 10);
    assert_int_equal(parse_len(text.data, text.len, NULL, NULL, &dataset, NULL), 0);
    assert_int_equal(dataset->count, rows);
    assert_int_equal(dataset->classes, 10);
    assert_string_equal(dataset->class_names[9], "a,\"9");
    for (int i = 0; i < rows; i++) {
        assert_true(dataset->features[2 * i] == (float)i + 0.25f);
        assert_true(dataset->features[2 * i + 1] == -(float)i);
        assert_int_equal(dataset->labels[i], i % 10);
    }
    fl_buf_finish(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_as_strtod_reads_them),
        cmocka_unit_test(whole_numbers_are_classes),
        cmocka_unit_test(texts_are_classes_in_order),
        cmocka_unit_test(other_numbers_are_targets),
        cmocka_unit_test(every_form_of_the_same),
        cmocka_unit_test(label_in_another_column),
        cmocka_unit_test(header_or_not),
        cmocka_unit_test(classes_of_another_set),
        cmocka_unit_test(what_is_refused_by_row_and_column),
        cmocka_unit_test(bounds),
        cmocka_unit_test(long_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
