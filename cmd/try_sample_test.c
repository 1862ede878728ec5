#include "cmd/try_sample.h"

#include "lib/file.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void test_shapes(void **state)
{
    static const struct {
        const char *text;
        unsigned rank; /* 0: none */
        int64_t last;
    } cases[] = {
        {"28x28", 2, 28},     {"32x32x3", 3, 3},
        {"64", 1, 64},        {"2x2x2x2", 4, 2},
        {"", 0, 0},           {"28x", 0, 0},
        {"x", 0, 0},          {"0x3", 0, 0},
        {"-1", 0, 0},         {"2x2x2x2x2", 0, 0},
        {"28 28", 0, 0},      {"1e3", 0, 0},
        {"16777216x2", 0, 0}, {"99999999999999999999", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_sample sample = {0};

        assert_int_equal(fl_sample_read_shape(cases[i].text, &sample), cases[i].rank > 0);
        if (cases[i].rank == 0)
            continue;
        assert_int_equal(sample.rank, cases[i].rank);
        assert_int_equal(sample.shape[sample.rank - 1], cases[i].last);
    }
}

static void test_push(void **state)
{
    char folder[] = "/tmp/try-sample.XXXXXX";
    const struct fl_env env = fl_env_real(NULL);
    const struct fl_data_store store = {folder, &env};
    const struct fl_sample sample = {.shape = {3, 2}, .rank = 2, .classes = 4, .examples = 20};
    struct fl_dataset *parts[2] = {NULL};
    bool seen[4] = {false};
    struct fl_error err = {0};

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(fl_sample_push(&sample, &store, "sample", 2, &err), 0);
    for (int p = 0; p < 2; p++) {
        assert_int_equal(
            fl_data_store_open(&store, p ? "sample.1" : "sample.0", NULL, &parts[p], &err), 0);
        assert_int_equal(parts[p]->count, 10);
        assert_int_equal(parts[p]->width, 6);
        for (size_t i = 0; i < parts[p]->count; i++)
            seen[parts[p]->labels[fl_dataset_row(parts[p], i)]] = true;
        fl_dataset_unref(parts[p]);
    }
    for (size_t i = 0; i < FL_COUNT_OF(seen); i++)
        assert_true(seen[i]);
    (void)fl_dir_remove(folder, NULL);
}

static void test_too_large(void **state)
{
    const struct fl_env env = fl_env_real(NULL);
    const struct fl_data_store store = {"/nowhere", &env};
    const struct fl_sample sample = {
        .shape = {4096, 4096}, .rank = 2, .classes = 10, .examples = INT64_C(1) << 40};
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_sample_push(&sample, &store, "sample", 2, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "too large"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_push),
        cmocka_unit_test(test_too_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
