#include "lib/env.h"
#include "workloads/strategy/exact.h"
#include "workloads/tensor/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define UPDATES 24

static struct fl_fake_env fake;
static struct fl_model *updates[UPDATES];
static int64_t weights[UPDATES];

static struct fl_model *blank(void)
{
    const struct fl_tensor tensors[] = {
        {.name = "w", .dtype = FL_DTYPE_F32, .rank = 2, .shape = {70, 80}},
        {.name = "a.bias", .dtype = FL_DTYPE_F32, .rank = 0},
        {.name = "half", .dtype = FL_DTYPE_F16, .rank = 1, .shape = {5000}},
        {.name = "double", .dtype = FL_DTYPE_F64, .rank = 1, .shape = {3}},
        {.name = "steps", .dtype = FL_DTYPE_I64, .rank = 1, .shape = {1}},
    };
    struct fl_model *model = NULL;

    assert_int_equal(fl_model_create(tensors, FL_COUNT_OF(tensors), &model, NULL), 0);
    return model;
}

static void fill(struct fl_model *model)
{
    for (size_t t = 0; t < model->count; t++)
        for (size_t i = 0; i < model->tensors[t].count; i++)
            fl_tensor_set(&model->tensors[t], i,
                          (double)fl_random_below(&fake.env, 1 << 24) / (1 << 21) - 4.0);
}

static int begin(void **state)
{
    (void)state;
    fl_fake_env_init(&fake, 11, NULL);
    for (size_t i = 0; i < UPDATES; i++) {
        updates[i] = blank();
        fill(updates[i]);
        weights[i] = 1 + (int64_t)fl_random_below(&fake.env, 999);
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (size_t i = 0; i < UPDATES; i++)
        fl_model_unref(updates[i]);
    return 0;
}

static struct fl_exact *start(void)
{
    struct fl_exact_precision precision;
    struct fl_exact *exact = NULL;

    assert_int_equal(fl_exact_plan(4, 1 << 20, &precision, NULL), 0);
    assert_int_equal(fl_exact_create(updates[0], &precision, &exact, NULL), 0);
    return exact;
}

static void add(struct fl_exact *exact, size_t i)
{
    assert_int_equal(fl_exact_fold(exact, updates[i], 1.0, weights[i], NULL), 0);
}

static struct fl_model *mean(const struct fl_exact *exact)
{
    struct fl_model *out = blank();

    assert_int_equal(fl_exact_mean(exact, 0, out, NULL), 0);
    return out;
}

static void the_weighted_mean(void **state)
{
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = start();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *out = NULL;

    (void)state;
    for (size_t i = 0; i < UPDATES; i++)
        add(exact, i);
    out = mean(exact);
    for (size_t t = 0; t < out->count; t++) {
        double tolerance = out->tensors[t].dtype == FL_DTYPE_F16 ? 2e-3 : 1e-6;

        for (size_t e = 0; e < out->tensors[t].count; e++) {
            double sum = 0, weight = 0;

            for (size_t i = 0; i < UPDATES; i++) {
                sum += (double)weights[i] * fl_tensor_get(&updates[i]->tensors[t], e);
                weight += (double)weights[i];
            }
            if (fl_dtype_is_float(out->tensors[t].dtype))
                assert_true(fabs(fl_tensor_get(&out->tensors[t], e) - sum / weight) < tolerance);
            else
                assert_true(fl_tensor_get(&out->tensors[t], e) == 0); /* left as it was */
        }
    }
}

static void any_order_is_the_same_bits(void **state)
{
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = start();
    char first[FL_DIGEST_SIZE], digest[FL_DIGEST_SIZE];
    size_t order[UPDATES];

    (void)state;
    for (size_t i = 0; i < UPDATES; i++)
        order[i] = i;
    for (int again = 0; again < 100; again++) {
        FL_CLEANUP(fl_model_unrefp) struct fl_model *out = NULL;

        fl_exact_reset(exact);
        for (size_t i = UPDATES; i > 0; i--) {
            size_t j = fl_random_below(&fake.env, i), kept = order[i - 1];

            order[i - 1] = order[j], order[j] = kept;
            add(exact, order[i - 1]);
        }
        out = mean(exact);
        fl_model_digest(out, again ? digest : first);
        if (again)
            assert_string_equal(digest, first);
    }
}

/* Sums of any part of the updates, added up in a tree of random shape. */
static struct fl_exact *tree(size_t from, size_t to)
{
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = start();

    while (from < to) {
        size_t count = 1 + fl_random_below(&fake.env, to - from);

        if (count == 1 || count == to - from) {
            add(exact, from++);
            continue;
        }
        FL_CLEANUP(fl_exact_destroyp) struct fl_exact *child = tree(from, from + count);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *partial = NULL;

        assert_int_equal(fl_exact_partial(child, &partial, NULL), 0);
        assert_int_equal(fl_exact_fold_partial(exact, partial, fl_exact_weight(child), NULL), 0);
        from += count;
    }
    return FL_TAKE(exact);
}

static void any_tiers_are_the_same_bits(void **state)
{
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *flat = start();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *want = NULL;

    (void)state;
    for (size_t i = 0; i < UPDATES; i++)
        add(flat, i);
    want = mean(flat);
    for (int again = 0; again < 50; again++) {
        FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = tree(0, UPDATES);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *out = mean(exact);

        assert_int_equal(fl_exact_weight(exact), fl_exact_weight(flat));
        assert_memory_equal(out->data, want->data, want->size);
    }
}

static void what_is_refused_leaves_no_trace(void **state)
{
    static const struct {
        const char *tensor, *says;
        size_t index;
        double value;
    } cases[] = {
        {"w", "\"w\" has a NaN at index 5599", 5599, NAN},
        {"a.bias", "\"a.bias\" has an infinity at index 0", 0, INFINITY},
        {"half", "\"half\" has 17 at index 4999, more than 16", 4999, 17},
        {"double", "\"double\" has 1e+09 at index 1", 1, 1e9},
    };
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = start();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *before = NULL;

    (void)state;
    add(exact, 0);
    assert_int_equal(fl_exact_partial(exact, &before, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_model_unrefp) struct fl_model *bad = NULL;
        FL_CLEANUP(fl_model_unrefp) struct fl_model *after = NULL;
        struct fl_error err = {0};

        assert_int_equal(fl_model_like(updates[1], true, &bad, NULL), 0);
        fl_tensor_set((struct fl_tensor *)fl_model_find(bad, cases[i].tensor), cases[i].index,
                      cases[i].value);
        assert_int_equal(fl_exact_fold(exact, bad, 1.0, 3, &err), FL_E_INVALID);
        if (!strstr(err.msg, cases[i].says))
            fail_msg("case %zu: %s", i, err.msg);
        assert_int_equal(fl_exact_partial(exact, &after, NULL), 0);
        assert_memory_equal(before->data, after->data, before->size);
        assert_int_equal(fl_exact_weight(exact), weights[0]);
    }
    assert_int_equal(fl_exact_fold(exact, updates[1], 1.0, 1 << 20, NULL), FL_E_TOO_LARGE);
    assert_int_equal(fl_exact_fold(exact, updates[1], 1.0, 0, NULL), FL_E_INVALID);
    assert_int_equal(fl_exact_fold(exact, updates[1], NAN, 1, NULL), FL_E_INVALID);
}

/* --- large tensors and several updates, by a crew --- */

static struct fl_model *large(void)
{
    const struct fl_tensor tensors[] = {
        {.name = "a", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {700001}},
        {.name = "b", .dtype = FL_DTYPE_F16, .rank = 1, .shape = {9000}},
        {.name = "c", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {300}},
        {.name = "n", .dtype = FL_DTYPE_I64, .rank = 1, .shape = {2}},
    };
    struct fl_model *model = NULL;

    assert_int_equal(fl_model_create(tensors, FL_COUNT_OF(tensors), &model, NULL), 0);
    for (size_t t = 0; t < model->count; t++)
        for (size_t i = 0; i < model->tensors[t].count; i++)
            fl_tensor_set(&model->tensors[t], i, (double)((i * 7919 + t) % 4001) / 1000 - 2);
    return model;
}

static void spoil(struct fl_model *model)
{
    static const double bad[] = {1e6, NAN, -INFINITY, -17};
    const struct fl_tensor *tensor;

    do {
        tensor = &model->tensors[fl_random_below(&fake.env, model->count)];
    } while (!fl_dtype_is_float(tensor->dtype));
    fl_tensor_set((struct fl_tensor *)tensor, fl_random_below(&fake.env, tensor->count),
                  bad[fl_random_below(&fake.env, FL_COUNT_OF(bad))]);
}

static void assert_same_sum(const struct fl_exact *a, const struct fl_exact *b)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *of_a = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *of_b = NULL;

    assert_int_equal(fl_exact_weight(a), fl_exact_weight(b));
    assert_int_equal(fl_exact_partial(a, &of_a, NULL), 0);
    assert_int_equal(fl_exact_partial(b, &of_b, NULL), 0);
    assert_memory_equal(of_a->data, of_b->data, of_a->size);
}

/* One after the other on one thread is what it must come to; also where some do not fit, and where
 * the weights are too much for some. */
static void together_or_apart_the_same_bits(void **state)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *like = large();
    FL_CLEANUP(fl_crew_destroyp) struct fl_crew *crew = NULL;
    struct fl_exact_precision precision;
    size_t refused = 0, too_large = 0;

    (void)state;
    assert_int_equal(fl_crew_create("sum", 4, &crew, NULL), 0);
    assert_int_equal(fl_exact_plan(4, 64, &precision, NULL), 0);
    for (int round = 0; round < 20; round++) {
        FL_CLEANUP(fl_exact_destroyp) struct fl_exact *alone = NULL;
        FL_CLEANUP(fl_exact_destroyp) struct fl_exact *crewed = NULL;
        struct fl_exact_addend addends[FL_FOLDS_MAX] = {0};
        struct fl_model *models[FL_FOLDS_MAX];
        size_t count = 1 + fl_random_below(&fake.env, FL_FOLDS_MAX);

        assert_int_equal(fl_exact_create(like, &precision, &alone, NULL), 0);
        assert_int_equal(fl_exact_create(like, &precision, &crewed, NULL), 0);
        fl_exact_use(crewed, crew);
        for (size_t i = 0; i < count; i++) {
            models[i] = large();
            if (fl_random_below(&fake.env, 3) == 0)
                spoil(models[i]);
            addends[i] =
                (struct fl_exact_addend){.update = models[i],
                                         .factor = 0.5 + (double)i / 8,
                                         .weight = 1 + (int64_t)fl_random_below(&fake.env, 50)};
        }
        fl_exact_fold_all(crewed, addends, count);
        for (size_t i = 0; i < count; i++) {
            struct fl_error err = {0};

            assert_int_equal(
                fl_exact_fold(alone, models[i], addends[i].factor, addends[i].weight, &err),
                addends[i].result);
            assert_string_equal(addends[i].err.msg, err.msg);
            refused += addends[i].result == FL_E_INVALID;
            too_large += addends[i].result == FL_E_TOO_LARGE;
            fl_model_unref(models[i]);
        }
        assert_same_sum(alone, crewed);
        if (fl_exact_weight(crewed) > 0) {
            FL_CLEANUP(fl_model_unrefp) struct fl_model *mean_alone = large();
            FL_CLEANUP(fl_model_unrefp) struct fl_model *mean_crewed = large();

            assert_int_equal(fl_exact_mean(alone, 0, mean_alone, NULL), 0);
            assert_int_equal(fl_exact_mean(crewed, 0, mean_crewed, NULL), 0);
            assert_memory_equal(mean_alone->data, mean_crewed->data, mean_alone->size);
        }
    }
    assert_true(refused > 2 && too_large > 0);
}

/* A tier that claims a small weight cannot bring a large sum. */
static void a_tier_cannot_bring_more_than_its_weight(void **state)
{
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = start(), *child = start();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *partial = NULL;
    struct fl_error err = {0};

    (void)state;
    add(child, 0);
    assert_int_equal(fl_exact_partial(child, &partial, NULL), 0);
    ((int64_t *)partial->data)[7] = (int64_t)17 * weights[0] << 42;
    assert_int_equal(fl_exact_fold_partial(exact, partial, weights[0], &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "is more than its weight allows"));
    assert_int_equal(fl_exact_fold_partial(exact, updates[0], 1, &err), FL_E_INVALID);
}

static void precision_is_planned(void **state)
{
    static const struct {
        unsigned range;
        int64_t weight;
        unsigned bits; /* 0: refused */
    } cases[] = {
        {4, 1 << 16, 42}, {4, (int64_t)1 << 30, 28}, {1, 1, 48}, {30, 1 << 10, 20},
        {31, 1 << 10, 0}, {4, (int64_t)1 << 40, 0},  {0, 1, 0},  {4, 0, 0},
        {4, 60000, 42},   {60, INT64_MAX, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_exact_precision precision = {0};
        int r = fl_exact_plan(cases[i].range, cases[i].weight, &precision, NULL);

        assert_int_equal(r, cases[i].bits ? 0 : FL_E_INVALID);
        assert_int_equal(precision.bits, cases[i].bits);
    }
}

static void single_numbers(void **state)
{
    static const double values[] = {1e15, -1e15, 0.1, 1e-12, -3.25, 1e-19, 7};
    struct fl_exact_scalar forth = {0}, back = {0}, whole = {0};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(values); i++) {
        fl_exact_scalar_add(&forth, values[i]);
        fl_exact_scalar_add(&back, values[FL_COUNT_OF(values) - 1 - i]);
    }
    assert_true(fl_exact_scalar_get(&forth) == fl_exact_scalar_get(&back));
    assert_true(fabs(fl_exact_scalar_get(&forth) - 3.850000000001) < 1e-15 * 8);
    fl_exact_scalar_merge(&whole, &forth);
    fl_exact_scalar_merge(&whole, &back);
    assert_true(fl_exact_scalar_get(&whole) == 2 * fl_exact_scalar_get(&forth));
    fl_exact_scalar_add(&whole, NAN);
    assert_true(isnan(fl_exact_scalar_get(&whole)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_weighted_mean),
        cmocka_unit_test(any_order_is_the_same_bits),
        cmocka_unit_test(any_tiers_are_the_same_bits),
        cmocka_unit_test(what_is_refused_leaves_no_trace),
        cmocka_unit_test(together_or_apart_the_same_bits),
        cmocka_unit_test(a_tier_cannot_bring_more_than_its_weight),
        cmocka_unit_test(precision_is_planned),
        cmocka_unit_test(single_numbers),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
