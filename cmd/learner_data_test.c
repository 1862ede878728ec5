#include "cmd/learner_data.h"

#include "lib/file.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define EXAMPLES 6

struct node {
    char folder[64];
    struct fl_arena *arena;
    struct fl_env env;
    struct fl_data_store store;
};

static int setup(void **state)
{
    struct node *node = fl_calloc(1, sizeof(*node));

    (void)snprintf(node->folder, sizeof(node->folder), "/tmp/learner-data.XXXXXX");
    assert_non_null(mkdtemp(node->folder));
    node->arena = fl_arena_create();
    node->env = fl_env_real(NULL);
    node->store = (struct fl_data_store){node->folder, &node->env};
    *state = node;
    return 0;
}

static int teardown(void **state)
{
    struct node *node = *state;

    (void)fl_dir_remove(node->folder, NULL);
    fl_arena_destroy(node->arena);
    free(node);
    return 0;
}

static void push(struct node *node, const char *tag, size_t parts)
{
    static const float features[EXAMPLES] = {0, 1, 2, 3, 4, 5};
    static const int32_t labels[EXAMPLES] = {0, 1, 0, 1, 0, 1};
    const struct fl_dataset form = {.count = EXAMPLES,
                                    .width = 1,
                                    .rank = 1,
                                    .shape = {1},
                                    .classes = 2,
                                    .features = features,
                                    .labels = labels};
    const struct fl_partition partition = {.learners = parts};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *data = NULL;
    struct fl_error err = {0};

    if (fl_dataset_create(&form, &data, &err) < 0 ||
        fl_data_store_push(&node->store, tag, data, &(struct fl_data_info){.format = "csv"}, false,
                           &err) < 0 ||
        (parts > 0 &&
         fl_data_store_partition(&node->store, tag, NULL, &partition, false, &err) < 0))
        fail_msg("%s", err.msg);
}

/* What is opened: "toy.1 2"; or why not. */
static const char *open_data(struct node *node, const char *tag, int64_t number)
{
    const struct fl_words tags = {&tag, tag ? 1 : 0};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *data = NULL;
    const char *opened = NULL;
    struct fl_error err = {0};

    if (fl_learner_open_data(&node->store, node->arena, &tags, number, &opened, &data, &err) < 0)
        return fl_arena_strdup(node->arena, err.msg);
    return fl_arena_printf(node->arena, "%s %zu", opened, data->count);
}

static void test_parts(void **state)
{
    struct node *node = *state;

    push(node, "toy", 3);
    assert_string_equal(open_data(node, "toy", 0), "toy.0 2");
    assert_string_equal(open_data(node, "toy", 5), "toy.2 2");
    assert_string_equal(open_data(node, "toy.1", 0), "toy.1 2");
    assert_string_equal(open_data(node, "toy", -1), "toy 6");
    assert_string_equal(open_data(node, NULL, 4), "toy.1 2"); /* the node's only one */
}

static void test_lacks(void **state)
{
    struct node *node = *state;

    assert_non_null(strstr(open_data(node, NULL, 0), "flops data push"));
    assert_non_null(strstr(open_data(node, "none", 0), "none"));
    push(node, "one", 0);
    push(node, "two", 0);
    assert_string_equal(open_data(node, "one", 7), "one 6");
    assert_non_null(strstr(open_data(node, NULL, 0), "one, two"));
}

static void test_number(void **state)
{
    (void)state;
    (void)unsetenv("FLOPS_INSTANCE");
    assert_int_equal(fl_learner_number(3), 3);
    (void)setenv("FLOPS_INSTANCE", "4", 1);
    assert_int_equal(fl_learner_number(3), 7);
    (void)setenv("FLOPS_INSTANCE", "x", 1);
    assert_int_equal(fl_learner_number(3), 3);
}

static void test_share(void **state)
{
    static const struct {
        const char *text;
        bool good;
        double share;
    } cases[] = {{NULL, true, 0},  {"0.2", true, 0.2}, {"0", true, 0},     {"1", false, 0},
                 {"-1", false, 0}, {"x", false, 0},    {"0.2x", false, 0}, {"nan", false, 0}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        double share = -1;

        assert_int_equal(fl_learner_read_share(cases[i].text, &share), cases[i].good);
        if (cases[i].good)
            assert_true(share == cases[i].share);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lacks, setup, teardown),
        cmocka_unit_test(test_number),
        cmocka_unit_test(test_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
