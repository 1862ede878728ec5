#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"
#include "workloads/data/store_manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define EXAMPLES 120

struct rig {
    char folder[64];
    struct fl_fake_env fake;
    struct fl_data_store store;
    struct fl_arena *arena;
};

static int setup(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flops-data-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    fl_fake_env_init(&rig->fake, 1, NULL);
    rig->store = (struct fl_data_store){rig->folder, &rig->fake.env};
    rig->arena = fl_arena_create();
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(fl_dir_remove(rig->folder, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

/* Features are row * 2 and row * 2 + 1 (plus `shift`), labels row % 3. */
static struct fl_dataset *sample(float shift)
{
    float features[2 * EXAMPLES];
    int32_t labels[EXAMPLES];
    struct fl_dataset form = {.count = EXAMPLES,
                              .rank = 1,
                              .shape = {2},
                              .classes = 3,
                              .features = features,
                              .labels = labels};
    struct fl_dataset *dataset = NULL;

    for (int i = 0; i < 2 * EXAMPLES; i++)
        features[i] = (float)i + shift;
    for (int i = 0; i < EXAMPLES; i++)
        labels[i] = i % 3;
    assert_int_equal(fl_dataset_create(&form, &dataset, NULL), 0);
    return dataset;
}

static int push(struct rig *rig, const char *tag, float shift, bool replace, struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = sample(shift);
    const struct fl_data_info info = {.format = "idx"};

    return fl_data_store_push(&rig->store, tag, dataset, &info, replace, err);
}

static const char *path(struct rig *rig, const char *name)
{
    return fl_arena_printf(rig->arena, "%s/%s", rig->folder, name);
}

static float first_feature(struct rig *rig, const char *tag)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

    assert_int_equal(fl_data_store_open(&rig->store, tag, NULL, &dataset, NULL), 0);
    return fl_dataset_example(dataset, 0)[0];
}

static void pushed_listed_opened_removed(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    struct fl_data_list list;

    assert_int_equal(fl_data_store_list(&rig->store, rig->arena, &list, NULL), 0);
    assert_int_equal(list.count, 0);
    assert_int_equal(push(rig, "train", 0, false, NULL), 0);
    assert_int_equal(push(rig, "Test_2", 1, false, NULL), 0);
    assert_int_equal(fl_data_store_list(&rig->store, rig->arena, &list, NULL), 0);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0].name, "Test_2");
    assert_string_equal(list.items[1].name, "train");
    assert_string_equal(list.items[1].created, "2026-01-02T03:04:05Z");
    assert_string_equal(list.items[1].format, "idx");
    assert_int_equal(list.items[1].examples, EXAMPLES);
    assert_int_equal(list.items[1].classes, 3);
    assert_int_equal(fl_data_store_verify(&rig->store, "train", NULL), 0);
    assert_int_equal(fl_data_store_open(&rig->store, "train", NULL, &dataset, NULL), 0);
    assert_int_equal(fl_data_store_remove(&rig->store, "train", NULL), 0);
    assert_false(fl_path_exists(path(rig, "train")));
    /* What is open stays whole. */
    assert_true(fl_dataset_example(dataset, EXAMPLES - 1)[1] == 2 * EXAMPLES - 1);
    assert_int_equal(dataset->labels[4], 1);
    assert_int_equal(fl_data_store_remove(&rig->store, "train", NULL), FL_E_NOT_FOUND);
}

static void the_same_again_or_other_data(void **state)
{
    struct rig *rig = *state;
    struct fl_error err = {0};

    assert_int_equal(push(rig, "train", 0, false, NULL), 0);
    assert_int_equal(push(rig, "train", 0, false, NULL), 1);
    assert_int_equal(push(rig, "train", 5, false, &err), FL_E_ALREADY_EXISTS);
    assert_true(first_feature(rig, "train") == 0);
    assert_int_equal(push(rig, "train", 5, true, NULL), 0);
    assert_true(first_feature(rig, "train") == 5);
    assert_false(fl_path_exists(path(rig, ".new")));
    assert_false(fl_path_exists(path(rig, ".gone")));
}

static void what_a_crash_left_is_cleared(void **state)
{
    struct rig *rig = *state;
    struct fl_data_list list;

    assert_int_equal(fl_dir_ensure(path(rig, ".new/deep"), 0700, NULL), 0);
    assert_int_equal(fl_dir_ensure(path(rig, ".gone/deep"), 0700, NULL), 0);
    assert_int_equal(fl_data_store_list(&rig->store, rig->arena, &list, NULL), 0);
    assert_int_equal(list.count, 0);
    assert_int_equal(push(rig, "train", 0, false, NULL), 0);
    assert_false(fl_path_exists(path(rig, ".new")));
    assert_false(fl_path_exists(path(rig, ".gone")));
}

static void one_change_at_a_time(void **state)
{
    struct rig *rig = *state;
    FL_CLEANUP(fl_file_unlockp) int lock = -1;
    struct fl_error err = {0};

    assert_int_equal(fl_file_lock(path(rig, ".lock"), &lock, NULL), 0);
    assert_int_equal(push(rig, "train", 0, false, &err), FL_E_CONFLICT);
    fl_file_unlockp(&lock);
    lock = -1;
    assert_int_equal(push(rig, "train", 0, false, &err), 0);
}

static void parts_share_one_file(void **state)
{
    struct rig *rig = *state;
    const struct fl_partition asked = {
        .kind = FL_PARTITION_DIRICHLET, .learners = 7, .seed = UINT64_MAX};
    unsigned char seen[EXAMPLES] = {0};
    struct stat one, other;
    struct fl_data_info info;
    struct fl_dataset *none = NULL;
    struct fl_error err = {0};

    assert_int_equal(push(rig, "train", 0, false, NULL), 0);
    assert_int_equal(fl_data_store_partition(&rig->store, "train", NULL, &asked, false, NULL), 0);
    assert_int_equal(fl_data_store_partition(&rig->store, "train", NULL, &asked, false, NULL), 1);
    assert_int_equal(stat(path(rig, "train/data.safetensors"), &one), 0);
    assert_int_equal(stat(path(rig, "train.parts/data.safetensors"), &other), 0);
    assert_int_equal(one.st_ino, other.st_ino);
    assert_int_equal(fl_data_store_get(&rig->store, rig->arena, "train.parts", &info, NULL), 0);
    assert_string_equal(info.of, "train");
    assert_int_equal(info.partition.learners, 7);
    assert_true(info.partition.alpha == 0.5);
    assert_true(info.partition.seed == UINT64_MAX);
    assert_int_equal(fl_data_store_verify(&rig->store, "train.parts", NULL), 0);
    assert_int_equal(fl_data_store_remove(&rig->store, "train", NULL), 0);
    for (int k = 0; k < 7; k++) {
        FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *part = NULL;
        const char *tag = fl_arena_printf(rig->arena, "train.%d", k);

        assert_int_equal(fl_data_store_open(&rig->store, tag, NULL, &part, NULL), 0);
        assert_int_equal(part->classes, 3);
        for (size_t i = 0; i < part->count; i++) {
            size_t row = fl_dataset_row(part, i);

            assert_true(fl_dataset_example(part, i)[0] == (float)row * 2);
            assert_int_equal(seen[row]++, 0);
        }
    }
    for (int i = 0; i < EXAMPLES; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(fl_data_store_open(&rig->store, "train.7", NULL, &none, &err), FL_E_NOT_FOUND);
    assert_string_equal(err.msg, "\"train\" has parts 0 to 6, not 7");
}

static void several_divisions_of_one_set(void **state)
{
    struct rig *rig = *state;
    struct fl_partition asked = {.learners = 4, .seed = 1};
    struct fl_error err = {0};

    assert_int_equal(push(rig, "train", 0, false, NULL), 0);
    assert_int_equal(fl_data_store_partition(&rig->store, "train", "four", &asked, false, NULL), 0);
    asked.seed = 2;
    assert_int_equal(fl_data_store_partition(&rig->store, "train", "four", &asked, false, &err),
                     FL_E_ALREADY_EXISTS);
    assert_int_equal(fl_data_store_partition(&rig->store, "train", "four", &asked, true, NULL), 0);
    assert_int_equal(fl_data_store_verify(&rig->store, "four.parts", NULL), 0);
    asked.learners = 1000;
    assert_int_equal(fl_data_store_partition(&rig->store, "train", NULL, &asked, false, &err),
                     FL_E_INVALID);
    assert_int_equal(fl_data_store_partition(&rig->store, "none", NULL, &asked, false, &err),
                     FL_E_NOT_FOUND);
    assert_false(fl_path_exists(path(rig, "train.parts")));
    assert_int_equal(fl_data_store_remove(&rig->store, "four.parts", NULL), 0);
}

static void damage(struct rig *rig, const char *name, long at)
{
    FILE *file = fopen(path(rig, name), "r+b");
    int byte;

    assert_non_null(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    byte = fgetc(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    assert_int_equal(fclose(file), 0);
}

static void damage_is_found(void **state)
{
    struct rig *rig = *state;
    const struct fl_partition asked = {.learners = 3};
    struct fl_dataset *dataset = NULL;
    struct fl_error err = {0};

    assert_int_equal(push(rig, "train", 0, false, NULL), 0);
    assert_int_equal(fl_data_store_partition(&rig->store, "train", NULL, &asked, false, NULL), 0);
    damage(rig, "train.parts/rows.safetensors", -1);
    assert_int_equal(fl_data_store_verify(&rig->store, "train.parts", &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "rows.safetensors is sha256:"));
    assert_int_equal(fl_data_store_verify(&rig->store, "train", NULL), 0);
    damage(rig, "train/data.safetensors", 400);
    assert_int_equal(fl_data_store_verify(&rig->store, "train", &err), FL_E_INVALID);
    assert_int_equal(truncate(path(rig, "train/data.safetensors"), 300), 0);
    assert_int_equal(fl_data_store_open(&rig->store, "train", NULL, &dataset, &err), FL_E_INVALID);
    assert_int_equal(fl_file_write(path(rig, "train/manifest.json"), "{}", 2, 0600, NULL), 0);
    assert_int_equal(fl_data_store_open(&rig->store, "train", NULL, &dataset, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "version is missing"));
    assert_int_equal(push(rig, "train", 0, false, &err), FL_E_INVALID);
    assert_int_equal(push(rig, "train", 0, true, &err), 0);
    assert_int_equal(fl_data_store_verify(&rig->store, "train", NULL), 0);
    assert_null(dataset);
}

static void names(void **state)
{
    static const char *const bad[] = {"",    ".",  "..", "../x", "a/b",
                                      "a.b", "-a", "_a", "a b",  ".new"};
    struct rig *rig = *state;
    char longest[FL_DATA_TAG_MAX + 2];
    struct fl_dataset *dataset = NULL;
    const struct fl_partition asked = {.learners = 3};

    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        assert_int_equal(push(rig, bad[i], 0, false, NULL), FL_E_BAD_REQUEST);
        assert_int_equal(fl_data_store_open(&rig->store, bad[i], NULL, &dataset, NULL),
                         FL_E_BAD_REQUEST);
        assert_int_equal(fl_data_store_remove(&rig->store, bad[i], NULL), FL_E_BAD_REQUEST);
        assert_int_equal(fl_data_store_partition(&rig->store, bad[i], NULL, &asked, false, NULL),
                         FL_E_BAD_REQUEST);
    }
    assert_int_equal(fl_data_store_open(&rig->store, "../x.1", NULL, &dataset, NULL),
                     FL_E_BAD_REQUEST);
    memset(longest, 'a', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_false(fl_data_tag_is_valid(longest));
    assert_true(fl_data_tag_is_valid(longest + 1));
    assert_null(dataset);
}

static void source_files(void **state)
{
    struct rig *rig = *state;
    const char *paths[] = {path(rig, "a.csv"), path(rig, "none")};
    const struct fl_data_file *files = NULL;
    struct fl_error err = {0};

    assert_int_equal(fl_file_write(paths[0], "abc", 3, 0600, NULL), 0);
    assert_int_equal(fl_data_source_read(rig->arena, paths, 1, &files, NULL), 0);
    assert_string_equal(files[0].name, "a.csv");
    assert_int_equal(files[0].size, 3);
    assert_string_equal(files[0].digest,
                        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(fl_data_source_read(rig->arena, paths, 2, &files, &err), FL_E_NOT_FOUND);
    fl_path_remove(paths[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pushed_listed_opened_removed),
        TEST(the_same_again_or_other_data),
        TEST(what_a_crash_left_is_cleared),
        TEST(one_change_at_a_time),
        TEST(parts_share_one_file),
        TEST(several_divisions_of_one_set),
        TEST(damage_is_found),
        TEST(names),
        TEST(source_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
