/* Properties that every division has, and those of each kind. */
#include "lib/str.h"
#include "workloads/data/dataset.h"
#include "workloads/data/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#define KINDS 5

/* One feature that is the row's number, labels by a fixed pattern. */
static struct fl_dataset *sample(size_t count, int32_t classes)
{
    FL_CLEANUP(fl_freep) float *features = fl_malloc(count * sizeof(*features));
    FL_CLEANUP(fl_freep) int32_t *labels = fl_malloc(count * sizeof(*labels));
    struct fl_random random = fl_random_from(count, 99);
    struct fl_dataset form = {
        .count = count, .classes = classes, .features = features, .labels = labels};
    struct fl_dataset *dataset = NULL;

    for (size_t i = 0; i < count; i++) {
        features[i] = (float)i;
        labels[i] = (int32_t)(i < (size_t)classes ? i : fl_random_index(&random, classes));
    }
    assert_int_equal(fl_dataset_create(&form, &dataset, NULL), 0);
    return dataset;
}

static int32_t label_of(const struct fl_dataset *dataset, uint32_t row)
{
    return dataset->labels[fl_dataset_row(dataset, row)];
}

static void assert_every_row_once(const struct fl_dataset *dataset,
                                  const struct fl_partition_rows *rows, size_t least)
{
    FL_CLEANUP(fl_freep) unsigned char *seen = fl_calloc(dataset->count, 1);

    assert_int_equal(rows->starts[0], 0);
    assert_int_equal(rows->starts[rows->learners], dataset->count);
    for (size_t k = 0; k < rows->learners; k++) {
        assert_true(rows->starts[k] + least <= rows->starts[k + 1]);
        for (size_t i = rows->starts[k]; i < rows->starts[k + 1]; i++) {
            assert_true(i == rows->starts[k] || rows->items[i - 1] < rows->items[i]);
            assert_true(rows->items[i] < dataset->count);
            assert_int_equal(seen[rows->items[i]]++, 0);
        }
    }
}

static void every_row_once_in_every_kind(void **state)
{
    static const struct {
        size_t count, learners, per_learner, min_examples;
        int32_t classes;
        double alpha;
    } cases[] = {
        {1000, 10, 2, 1, 10, 0.5},    {1000, 1, 10, 1, 10, 0.1}, {997, 100, 2, 1, 7, 0.01},
        {200, 100, 1, 2, 10, 100},    {100, 100, 1, 1, 3, 0.05}, {5000, 333, 3, 5, 10, 1},
        {5000, 333, 3, 15, 10, 1e-3}, {64, 7, 3, 1, 64, 3},
    };

    (void)state;
    for (size_t c = 0; c < FL_COUNT_OF(cases); c++) {
        FL_CLEANUP(fl_dataset_unrefp)
        struct fl_dataset *dataset = sample(cases[c].count, cases[c].classes);

        for (unsigned kind = 0; kind < KINDS; kind++)
            for (uint64_t seed = 0; seed < 20; seed++) {
                struct fl_partition asked = {
                    (enum fl_partition_kind)kind, cases[c].learners, cases[c].per_learner,
                    cases[c].min_examples,        cases[c].alpha,    seed};
                FL_CLEANUP(fl_partition_rows_finish) struct fl_partition_rows rows = {0};
                struct fl_error err = {0};

                /* These two cannot promise a minimum; they say so. */
                if (fl_partition_divide(dataset, &asked, &rows, &err) < 0) {
                    assert_true(kind == FL_PARTITION_LABELS || kind == FL_PARTITION_SHARDS);
                    assert_int_equal(err.code, FL_E_INVALID);
                    assert_null(rows.items);
                    continue;
                }
                assert_every_row_once(dataset, &rows, cases[c].min_examples);
            }
    }
}

static struct fl_partition_rows divide(const struct fl_dataset *dataset,
                                       struct fl_partition partition)
{
    struct fl_partition_rows rows = {0};
    struct fl_error err = {0};

    if (fl_partition_divide(dataset, &partition, &rows, &err) < 0)
        fail_msg("%s", err.msg);
    return rows;
}

static void a_function_of_the_seed(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(1000, 10);

    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct fl_partition asked = {.kind = (enum fl_partition_kind)kind, .learners = 10};
        struct fl_partition_rows one = divide(dataset, asked), same = divide(dataset, asked), other;

        asked.seed = 1;
        other = divide(dataset, asked);
        assert_memory_equal(one.starts, same.starts, 11 * sizeof(*one.starts));
        assert_memory_equal(one.items, same.items, 1000 * sizeof(*one.items));
        assert_memory_not_equal(one.items, other.items, 1000 * sizeof(*one.items));
        fl_partition_rows_finish(&one);
        fl_partition_rows_finish(&same);
        fl_partition_rows_finish(&other);
    }
}

/* Fixed for good: who repeats an experiment with another version gets the same parts. */
static void the_generator_stays(void **state)
{
    static const uint32_t known[] = {1, 9, 4, 6, 0, 7, 2, 5, 3, 8};
    struct fl_random random = {.state = 1234567};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(10, 2);
    struct fl_partition_rows rows = divide(dataset, (struct fl_partition){.learners = 5});

    (void)state;
    /* The generator's published first numbers for this seed. */
    assert_true(fl_random_next(&random) == UINT64_C(6457827717110365317));
    assert_true(fl_random_next(&random) == UINT64_C(3203168211198807973));
    assert_true(fl_random_from(7, 1).state != fl_random_from(7, 2).state);
    assert_true(fl_random_from(7, 1).state != fl_random_from(8, 1).state);
    assert_memory_equal(rows.items, known, sizeof(known));
    fl_partition_rows_finish(&rows);
}

static void iid_parts_are_equal_and_mixed(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(60000, 10);
    struct fl_partition_rows rows = divide(dataset, (struct fl_partition){.learners = 100});
    double chi = 0;

    (void)state;
    for (size_t k = 0; k < 100; k++) {
        double counts[10] = {0};

        assert_int_equal(rows.starts[k + 1] - rows.starts[k], 600);
        for (size_t i = rows.starts[k]; i < rows.starts[k + 1]; i++)
            counts[label_of(dataset, rows.items[i])]++;
        for (size_t c = 0; c < 10; c++)
            chi += (counts[c] - 60) * (counts[c] - 60) / 60;
    }
    /* 900 degrees of freedom: mean 900, deviation 42. */
    assert_true(chi > 900 - 6 * 42 && chi < 900 + 6 * 42);
    fl_partition_rows_finish(&rows);
}

static void shards_have_few_labels(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(60000, 10);
    struct fl_partition_rows rows = divide(
        dataset,
        (struct fl_partition){.kind = FL_PARTITION_SHARDS, .learners = 100, .per_learner = 2});
    size_t all = 0;

    (void)state;
    for (size_t k = 0; k < 100; k++) {
        size_t counts[10] = {0}, labels = 0;

        assert_int_equal(rows.starts[k + 1] - rows.starts[k], 600);
        for (size_t i = rows.starts[k]; i < rows.starts[k + 1]; i++)
            labels += counts[label_of(dataset, rows.items[i])]++ == 0;
        assert_in_range(labels, 1, 4); /* a shard may lie across a border */
        all += labels;
    }
    assert_in_range(all, 150, 260);
    fl_partition_rows_finish(&rows);
}

static void labels_as_many_as_asked(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(20000, 10);

    (void)state;
    for (size_t each = 1; each <= 10; each++) {
        struct fl_partition_rows rows = divide(
            dataset,
            (struct fl_partition){
                .kind = FL_PARTITION_LABELS, .learners = 37, .per_learner = each, .seed = each});

        for (size_t k = 0; k < 37; k++) {
            size_t counts[10] = {0}, labels = 0;

            for (size_t i = rows.starts[k]; i < rows.starts[k + 1]; i++)
                labels += counts[label_of(dataset, rows.items[i])]++ == 0;
            assert_int_equal(labels, each);
        }
        fl_partition_rows_finish(&rows);
    }
}

/* Of each class a learner's share is Beta(alpha, (n - 1) alpha): mean 1/n, and a variance that is
 * (1/n)(1 - 1/n) / (n alpha + 1). */
static void dirichlet_moments(void **state)
{
    static const double alphas[] = {0.1, 0.5, 1, 10, 1000};
    const size_t learners = 10, count = 50000, classes = 10, seeds = 40;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(count, (int32_t)classes);

    (void)state;
    for (size_t a = 0; a < FL_COUNT_OF(alphas); a++) {
        double squares = 0, mean = 1.0 / (double)learners, expected, of_class[10] = {0};

        for (size_t i = 0; i < count; i++)
            of_class[dataset->labels[i]]++;
        for (uint64_t seed = 0; seed < seeds; seed++) {
            struct fl_partition_rows rows =
                divide(dataset, (struct fl_partition){.kind = FL_PARTITION_DIRICHLET,
                                                      .learners = learners,
                                                      .alpha = alphas[a],
                                                      .seed = seed});

            for (size_t k = 0; k < learners; k++) {
                double counts[10] = {0};

                for (size_t i = rows.starts[k]; i < rows.starts[k + 1]; i++)
                    counts[label_of(dataset, rows.items[i])]++;
                for (size_t c = 0; c < classes; c++)
                    squares += pow(counts[c] / of_class[c] - mean, 2);
            }
            fl_partition_rows_finish(&rows);
        }
        squares /= (double)(seeds * learners * classes);
        expected = mean * (1 - mean) / ((double)learners * alphas[a] + 1);
        assert_true(squares > expected * 0.85 && squares < expected * 1.15);
    }
}

static void quantities_follow_the_power_law(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(100000, 10);
    struct fl_partition_rows rows =
        divide(dataset,
               (struct fl_partition){.kind = FL_PARTITION_QUANTITY, .learners = 50, .alpha = 1.5});
    size_t sizes[50] = {0};
    double all = 0;

    (void)state;
    for (size_t k = 0; k < 50; k++) {
        size_t size = rows.starts[k + 1] - rows.starts[k], at = k;

        for (; at > 0 && sizes[at - 1] < size; at--)
            sizes[at] = sizes[at - 1];
        sizes[at] = size;
        all += pow((double)(k + 1), -1.5);
    }
    for (size_t r = 0; r < 50; r++)
        assert_true(fabs((double)sizes[r] - (1 + pow((double)(r + 1), -1.5) / all * 99950)) <= 1.5);
    fl_partition_rows_finish(&rows);
}

static void what_cannot_be_divided(void **state)
{
    static const struct {
        struct fl_partition asked;
        const char *msg;
    } cases[] = {
        {{.learners = 0}, "0 learners"},
        {{.learners = 101}, "101 learners with at least 1 of 100 examples"},
        {{.learners = 50, .min_examples = 3}, "50 learners with at least 3 of 100 examples"},
        {{.learners = 5000000}, "5000000 learners"},
        {{.kind = FL_PARTITION_SHARDS, .learners = 100}, "Shards: 200 shards of 100 examples"},
        {{.kind = FL_PARTITION_LABELS, .learners = 2}, "leave some of 10 labels to nobody"},
        {{.kind = FL_PARTITION_LABELS, .learners = 5, .per_learner = 11}, "11 labels each, of 10"},
        {{.kind = FL_PARTITION_LABELS, .learners = 60}, "and only 100 examples"},
        {{.kind = FL_PARTITION_DIRICHLET, .learners = 2, .alpha = -1}, "alpha -1"},
        {{.kind = FL_PARTITION_DIRICHLET, .learners = 2, .alpha = NAN}, "alpha"},
        {{.kind = FL_PARTITION_QUANTITY, .learners = 2, .alpha = INFINITY}, "alpha inf"},
    };
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(100, 10);

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_partition_rows rows = {0};
        struct fl_error err = {0};

        assert_int_equal(fl_partition_divide(dataset, &cases[i].asked, &rows, &err), FL_E_INVALID);
        if (!strstr(err.msg, cases[i].msg))
            fail_msg("case %zu: %s", i, err.msg);
        assert_null(rows.items);
    }
}

static void numbers_to_predict_have_no_classes(void **state)
{
    static const float values[] = {1, 2, 3, 4};
    const struct fl_dataset form = {.count = 4, .features = values, .targets = values};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    FL_CLEANUP(fl_partition_rows_finish) struct fl_partition_rows rows = {0};
    struct fl_partition asked = {.kind = FL_PARTITION_DIRICHLET, .learners = 2};
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_dataset_create(&form, &dataset, NULL), 0);
    assert_int_equal(fl_partition_divide(dataset, &asked, &rows, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "divides by class"));
    asked.kind = FL_PARTITION_QUANTITY;
    assert_int_equal(fl_partition_divide(dataset, &asked, &rows, NULL), 0);
}

static void parts_and_splits_are_views(void **state)
{
    struct fl_dataset *dataset = sample(100, 10), *parts[4] = {NULL}, *first = NULL, *rest = NULL;
    const struct fl_partition asked = {.learners = 4};
    float sum = 0;

    (void)state;
    assert_int_equal(fl_dataset_partition(dataset, &asked, parts, NULL), 0);
    assert_int_equal(fl_dataset_split(parts[2], 0.2, 3, &first, &rest, NULL), 0);
    assert_int_equal(first->count, 5);
    assert_int_equal(rest->count, 20);
    assert_int_equal(fl_dataset_split(first, 0.01, 3, &first, &rest, NULL), FL_E_INVALID);
    fl_dataset_unref(dataset);
    for (size_t k = 0; k < 4; k++) {
        const struct fl_dataset *part = k == 2 ? first : parts[k];

        for (size_t i = 0; i < part->count; i++)
            sum += fl_dataset_example(part, i)[0];
        for (size_t i = 0; k == 2 && i < rest->count; i++)
            sum += fl_dataset_example(rest, i)[0];
        fl_dataset_unref(parts[k]);
    }
    assert_true(sum == 99 * 100 / 2);
    fl_dataset_unref(first);
    fl_dataset_unref(rest);
}

static void names_of_kinds(void **state)
{
    enum fl_partition_kind kind = FL_PARTITION_IID;

    (void)state;
    assert_true(fl_partition_kind_find("dirichlet", &kind));
    assert_int_equal(kind, FL_PARTITION_DIRICHLET);
    assert_string_equal(fl_partition_kind_name(FL_PARTITION_QUANTITY), "Quantity");
    assert_false(fl_partition_kind_find("none", &kind));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_once_in_every_kind),
        cmocka_unit_test(a_function_of_the_seed),
        cmocka_unit_test(the_generator_stays),
        cmocka_unit_test(iid_parts_are_equal_and_mixed),
        cmocka_unit_test(shards_have_few_labels),
        cmocka_unit_test(labels_as_many_as_asked),
        cmocka_unit_test(dirichlet_moments),
        cmocka_unit_test(quantities_follow_the_power_law),
        cmocka_unit_test(what_cannot_be_divided),
        cmocka_unit_test(numbers_to_predict_have_no_classes),
        cmocka_unit_test(parts_and_splits_are_views),
        cmocka_unit_test(names_of_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
