#include "lib/file.h"
#include "lib/gzip.h"
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

/* --- from arrays --- */

static const float four_by_two[] = {1, 2, 3, 4, 5, 6, 7, 8};
static const int32_t four_labels[] = {0, 2, 1, 2};

static struct fl_dataset four(void)
{
    return (struct fl_dataset){.count = 4,
                               .rank = 1,
                               .shape = {2},
                               .classes = 3,
                               .features = four_by_two,
                               .labels = four_labels};
}

static struct fl_dataset *make_four(void)
{
    const struct fl_dataset form = four();
    struct fl_dataset *dataset = NULL;

    assert_int_equal(fl_dataset_create(&form, &dataset, NULL), 0);
    return dataset;
}

static void from_arrays(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = make_four();

    (void)state;
    assert_int_equal(dataset->count, 4);
    assert_int_equal(dataset->width, 2);
    assert_int_equal(dataset->classes, 3);
    assert_ptr_not_equal(dataset->features, four_by_two);
    assert_memory_equal(dataset->features, four_by_two, sizeof(four_by_two));
    assert_memory_equal(dataset->labels, four_labels, sizeof(four_labels));
    assert_null(dataset->targets);
}

static void targets_from_arrays(void **state)
{
    static const float targets[] = {0.5f, -1, 2, 3};
    struct fl_dataset form = four();
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

    (void)state;
    form.classes = 0;
    form.labels = NULL;
    form.targets = targets;
    assert_int_equal(fl_dataset_create(&form, &dataset, NULL), 0);
    assert_memory_equal(dataset->targets, targets, sizeof(targets));
    assert_null(dataset->labels);
}

static void arrays_that_are_refused(void **state)
{
    static const int32_t beyond[] = {0, 1, 3, 2};
    static const float infinite[] = {1, 2, 3, 4, 5, INFINITY, 7, 8};
    struct fl_dataset form = four();
    struct fl_dataset *dataset = NULL;
    struct fl_error err = {0};

    (void)state;
    form.labels = beyond;
    assert_int_equal(fl_dataset_create(&form, &dataset, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "row 2: label 3 is none of 3");
    form = four();
    form.features = infinite;
    assert_int_equal(fl_dataset_create(&form, &dataset, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "row 2, column 1: not a finite number");
    form = four();
    form.count = 0;
    assert_int_equal(fl_dataset_create(&form, &dataset, &err), FL_E_INVALID);
    form = four();
    form.shape[0] = -2;
    assert_int_equal(fl_dataset_create(&form, &dataset, &err), FL_E_INVALID);
    form = four();
    form.count = (size_t)1 << 40;
    assert_int_equal(fl_dataset_create(&form, &dataset, &err), FL_E_TOO_LARGE);
    form = four();
    form.labels = NULL;
    assert_int_equal(fl_dataset_create(&form, &dataset, &err), FL_E_INVALID);
    assert_null(dataset);
}

static void views(void **state)
{
    static const uint32_t rows[] = {3, 1}, second[] = {1}, outside[] = {2};
    struct fl_dataset *whole = make_four();
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *view = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *of_view = NULL;
    struct fl_dataset *none = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_dataset_view(whole, rows, 2, &view, NULL), 0);
    assert_int_equal(fl_dataset_view(view, second, 1, &of_view, NULL), 0);
    assert_int_equal(fl_dataset_view(view, outside, 1, &none, &err), FL_E_INVALID);
    assert_int_equal(fl_dataset_view(view, outside, 0, &none, &err), FL_E_INVALID);
    assert_null(none);
    fl_dataset_unref(whole); /* views keep it */
    assert_int_equal(view->count, 2);
    assert_true(fl_dataset_example(view, 0)[1] == 8);
    assert_int_equal(view->labels[fl_dataset_row(view, 0)], 2);
    assert_int_equal(of_view->count, 1);
    assert_int_equal(fl_dataset_row(of_view, 0), 1);
    assert_true(fl_dataset_example(of_view, 0)[0] == 3);
    assert_int_equal(of_view->classes, 3);
}

/* --- IDX --- */

struct text {
    const char *data;
    size_t len;
};
#define TEXT(literal) ((struct text){literal, sizeof(literal) - 1})

static int parse_idx(struct text images, struct text labels, struct fl_dataset **ret_dataset,
                     struct fl_error *err)
{
    struct fl_input first = fl_input_of(images.data, images.len);
    struct fl_input second = fl_input_of(labels.data, labels.len);

    return fl_idx_parse(&first, &second, NULL, ret_dataset, err);
}

#define IMAGES "\0\0\x08\3\0\0\0\2\0\0\0\1\0\0\0\3\x00\x33\xff\x66\x99\xcc"
#define LABELS "\0\0\x08\1\0\0\0\2\4\1"

static void idx_images(void **state)
{
    static const float pixels[] = {0, 0.2f, 1, 0.4f, 0.6f, 0.8f};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

    (void)state;
    assert_int_equal(parse_idx(TEXT(IMAGES), TEXT(LABELS), &dataset, NULL), 0);
    assert_int_equal(dataset->count, 2);
    assert_int_equal(dataset->rank, 2);
    assert_int_equal(dataset->shape[0], 1);
    assert_int_equal(dataset->shape[1], 3);
    assert_int_equal(dataset->classes, 5);
    assert_memory_equal(dataset->features, pixels, sizeof(pixels));
    assert_int_equal(dataset->labels[0], 4);
    assert_int_equal(dataset->labels[1], 1);
}

static void idx_of_every_type(void **state)
{
    static const struct {
        struct text images;
        float value;
    } cases[] = {
        {TEXT("\0\0\x08\1\0\0\0\1\x33"), 0.2f},
        {TEXT("\0\0\x09\1\0\0\0\1\xfe"), -2},
        {TEXT("\0\0\x0b\1\0\0\0\1\xff\x00"), -256},
        {TEXT("\0\0\x0c\1\0\0\0\1\x00\x01\x00\x02"), 65538},
        {TEXT("\0\0\x0d\1\0\0\0\1\xc0\x20\x00\x00"), -2.5f},
        {TEXT("\0\0\x0e\1\0\0\0\1\x40\x09\x21\xfb\x54\x44\x2d\x18"), (float)M_PI},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

        assert_int_equal(parse_idx(cases[i].images, TEXT("\0\0\x08\1\0\0\0\1\0"), &dataset, NULL),
                         0);
        assert_int_equal(dataset->rank, 0);
        assert_int_equal(dataset->width, 1);
        assert_true(dataset->features[0] == cases[i].value);
    }
}

static void idx_float_labels_are_targets(void **state)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

    (void)state;
    assert_int_equal(parse_idx(TEXT("\0\0\x09\1\0\0\0\1\x01"),
                               TEXT("\0\0\x0d\1\0\0\0\1\xc0\x20\x00\x00"), &dataset, NULL),
                     0);
    assert_int_equal(dataset->classes, 0);
    assert_null(dataset->labels);
    assert_true(dataset->targets[0] == -2.5f);
}

static void idx_that_is_refused(void **state)
{
    static const struct {
        struct text images, labels;
        int code;
        const char *msg;
    } cases[] = {
        {TEXT(""), TEXT(LABELS), FL_E_INVALID, "images: ends at byte 0"},
        {TEXT("\0\1\x08\1"), TEXT(LABELS), FL_E_INVALID, "images: no IDX file"},
        {TEXT("\0\0\x0a\1"), TEXT(LABELS), FL_E_INVALID, "images: byte 2: unknown type 0x0a"},
        {TEXT("\0\0\x08\0"), TEXT(LABELS), FL_E_INVALID, "images: byte 3: 0 dimensions"},
        {TEXT("\0\0\x08\6"), TEXT(LABELS), FL_E_INVALID, "images: byte 3: 6 dimensions"},
        {TEXT("\0\0\x08\3\0\0\0\2\0\0"), TEXT(LABELS), FL_E_INVALID, "images: ends at byte 10"},
        {TEXT("\0\0\x08\1\0\0\0\0"), TEXT(LABELS), FL_E_INVALID, "images: there are no examples"},
        {TEXT("\0\0\x08\2\0\0\0\1\0\0\0\0"), TEXT(LABELS), FL_E_INVALID, "dimension 0 of an"},
        {TEXT("\0\0\x08\2\0\0\0\1\xff\xff\xff\xff"), TEXT(LABELS), FL_E_INVALID, "dimension 0"},
        {TEXT("\0\0\x08\3\0\0\0\1\0\1\0\0\0\1\0\0"), TEXT(LABELS), FL_E_TOO_LARGE, "numbers"},
        {TEXT("\0\0\x08\2\xff\xff\xff\xff\0\0\1\0"), TEXT(LABELS), FL_E_TOO_LARGE, "need more"},
        {TEXT("\0\0\x08\1\0\0\0\2\1"), TEXT(LABELS), FL_E_INVALID, "images: ends at byte 9"},
        {TEXT(IMAGES "\0"), TEXT(LABELS), FL_E_INVALID, "images: more data than announced"},
        {TEXT("\0\0\x0d\1\0\0\0\1\x7f\xc0\0\0"), TEXT(LABELS), FL_E_INVALID,
         "images: row 0, column 0: not a finite number"},
        {TEXT("\0\0\x0e\2\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\0\x7f\xdf\0\0\0\0\0\0"), TEXT(LABELS),
         FL_E_INVALID, "images: row 0, column 1: not a finite number"},
        {TEXT(IMAGES), TEXT("\0\0\x08\1\0\0\0\3\1\1\1"), FL_E_INVALID, "3 labels, where 2 images"},
        {TEXT(IMAGES), TEXT("\0\0\x08\2\0\0\0\2\0\0\0\1\1\1"), FL_E_INVALID, "labels: 2 dimen"},
        {TEXT(IMAGES), TEXT("\0\0\x08\1\0\0\0\2\1"), FL_E_INVALID, "labels: ends at byte 9"},
        {TEXT(IMAGES), TEXT(LABELS "\0"), FL_E_INVALID, "labels: more data than announced"},
        {TEXT(IMAGES), TEXT("\0\0\x09\1\0\0\0\2\0\xff"), FL_E_INVALID, "row 1: label -1 is no"},
        {TEXT(IMAGES), TEXT("\0\0\x0c\1\0\0\0\2\0\0\0\0\0\1\0\0"), FL_E_INVALID, "label 65536 is"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_dataset *dataset = NULL;
        struct fl_error err = {0};

        assert_int_equal(parse_idx(cases[i].images, cases[i].labels, &dataset, &err),
                         cases[i].code);
        if (!strstr(err.msg, cases[i].msg))
            fail_msg("case %zu: %s", i, err.msg);
        assert_null(dataset);
    }
}

/* --- files --- */

static char folder[] = "/tmp/flops-dataset-XXXXXX";

static const char *put(const char *name, struct text text)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % FL_COUNT_OF(paths)];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    assert_int_equal(fl_file_write(path, text.data, text.len, 0600, NULL), 0);
    return path;
}

static const char *put_packed(const char *name, struct text text, size_t cut)
{
    struct fl_buf packed;
    const char *path;

    fl_buf_init(&packed, 0);
    assert_int_equal(fl_gzip(text.data, text.len, &packed), 0);
    path = put(name, (struct text){packed.data, packed.len - cut});
    fl_buf_finish(&packed);
    return path;
}

static void plain_and_packed_files(void **state)
{
    const char *images = put_packed("images.gz", TEXT(IMAGES), 0);
    const char *labels = put("labels", TEXT(LABELS));
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

    (void)state;
    assert_int_equal(fl_dataset_read_idx(images, labels, NULL, &dataset, NULL), 0);
    assert_int_equal(dataset->count, 2);
    assert_int_equal(dataset->labels[0], 4);
}

static void files_that_are_refused(void **state)
{
    const struct fl_dataset_limits tight = {.max_bytes = 20};
    const char *labels = put("labels", TEXT(LABELS));
    struct fl_dataset *dataset = NULL;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(fl_dataset_read_idx("/nowhere", labels, NULL, &dataset, &err), FL_E_NOT_FOUND);
    assert_int_equal(fl_dataset_read_idx(folder, labels, NULL, &dataset, &err), FL_E_BAD_REQUEST);
    assert_non_null(strstr(err.msg, folder));
    for (size_t cut = 1; cut < 20; cut++) {
        const char *images = put_packed("cut.gz", TEXT(IMAGES), cut);

        assert_int_equal(fl_dataset_read_idx(images, labels, NULL, &dataset, &err), FL_E_INVALID);
    }
    assert_int_equal(
        fl_dataset_read_idx(put("images", TEXT(IMAGES)), labels, &tight, &dataset, &err),
        FL_E_TOO_LARGE);
    assert_null(dataset);
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
        cmocka_unit_test(from_arrays),
        cmocka_unit_test(targets_from_arrays),
        cmocka_unit_test(arrays_that_are_refused),
        cmocka_unit_test(views),
        cmocka_unit_test(idx_images),
        cmocka_unit_test(idx_of_every_type),
        cmocka_unit_test(idx_float_labels_are_targets),
        cmocka_unit_test(idx_that_is_refused),
        cmocka_unit_test(plain_and_packed_files),
        cmocka_unit_test(files_that_are_refused),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
