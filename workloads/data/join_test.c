#include "workloads/data/dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const float numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};
static const int32_t labels[4] = {0, 1, 2, 1};

static struct fl_dataset *make(const struct fl_dataset *form)
{
    struct fl_dataset *made = NULL;
    struct fl_error err = {0};

    if (fl_dataset_create(form, &made, &err) < 0)
        fail_msg("%s", err.msg);
    return made;
}

static struct fl_dataset pairs(size_t count, int64_t classes)
{
    return (struct fl_dataset){.count = count,
                               .rank = 1,
                               .shape = {2},
                               .classes = classes,
                               .features = numbers,
                               .labels = classes ? labels : NULL,
                               .targets = classes ? NULL : numbers};
}

static struct fl_dataset *join(struct fl_dataset *a, struct fl_dataset *b, struct fl_error *err)
{
    const struct fl_dataset_part parts[] = {{a, "a"}, {b, "b"}};
    struct fl_dataset *joined = NULL;

    (void)fl_dataset_join(parts, 2, &joined, err);
    return joined;
}

/* Rows follow one another, those of a view too; the larger number of classes is that of both. */
static void test_rows(void **state)
{
    const struct fl_dataset form = pairs(4, 3), other = pairs(2, 9);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *whole = make(&form);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *b = make(&other);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *view = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *joined = NULL;
    static const uint32_t rows[] = {3, 2};
    static const float want[] = {6, 7, 4, 5, 0, 1, 2, 3};
    static const int32_t want_labels[] = {1, 2, 0, 1};
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_dataset_view(whole, rows, 2, &view, &err), 0);
    joined = join(view, b, &err);
    assert_non_null(joined);
    assert_int_equal(joined->count, 4);
    assert_int_equal(joined->classes, 9);
    assert_memory_equal(joined->features, want, sizeof(want));
    assert_memory_equal(joined->labels, want_labels, sizeof(want_labels));
}

static void test_targets(void **state)
{
    const struct fl_dataset form = pairs(2, 0);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *a = make(&form);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *joined = join(a, a, NULL);
    static const float want[] = {0, 1, 0, 1};

    (void)state;
    assert_int_equal(joined->classes, 0);
    assert_memory_equal(joined->targets, want, sizeof(want));
}

static void test_one_is_itself(void **state)
{
    const struct fl_dataset form = pairs(2, 3);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *a = make(&form);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *joined = NULL;
    const struct fl_dataset_part part = {a, "a"};

    (void)state;
    assert_int_equal(fl_dataset_join(&part, 1, &joined, NULL), 0);
    assert_ptr_equal(joined, a);
}

/* What does not fit is named. */
static void test_misfits(void **state)
{
    static const char *const cats[] = {"cat", "dog", "emu"}, *const dogs[] = {"ant", "dog", "emu"};
    struct fl_dataset named = pairs(4, 3),
                      others[4] = {pairs(4, 3), pairs(4, 0), pairs(4, 3), pairs(4, 3)};

    (void)state;
    named.class_names = cats;
    others[0].class_names = dogs;
    others[2].shape[0] = 1;
    others[2].class_names = cats;
    for (size_t i = 0; i < 4; i++) { /* the last has no names */
        FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *a = make(&named);
        FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *b = make(&others[i]);
        struct fl_error err = {0};

        assert_null(join(a, b, &err));
        assert_int_equal(err.code, FL_E_INVALID);
        assert_non_null(strstr(err.msg, "a and b cannot be trained on together"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_one_is_itself),
        cmocka_unit_test(test_misfits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
