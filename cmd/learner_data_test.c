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

/* What is opened, and its examples: "toy.1+other 8"; or why not. */
static const char *open_sets(struct node *node, const char **tags, size_t count, int64_t number)
{
    const struct fl_words words = {tags, count};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *data = NULL;
    struct fl_words opened = {0};
    const char *text = "";
    struct fl_error err = {0};

    if (fl_learner_open_data(&node->store, node->arena, &words, number, &opened, &data, &err) < 0)
        return fl_arena_strdup(node->arena, err.msg);
    for (size_t i = 0; i < opened.count; i++)
        text = fl_arena_printf(node->arena, "%s%s%s", text, i > 0 ? "+" : "", opened.items[i]);
    return fl_arena_printf(node->arena, "%s %zu", text, data->count);
}

static const char *open_data(struct node *node, const char *tag, int64_t number)
{
    return open_sets(node, &tag, tag ? 1 : 0, number);
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

/* Each by its own division. */
static void test_several(void **state)
{
    struct node *node = *state;

    push(node, "one", 0);
    push(node, "two", 3);
    push(node, "six", 6);
    assert_string_equal(open_sets(node, (const char *[]){"two", "one"}, 2, 1), "two.1+one 8");
    assert_string_equal(open_sets(node, (const char *[]){"two", "six"}, 2, 5), "two.2+six.5 3");
    assert_string_equal(open_data(node, NULL, 0), "one+six.0+two.0 9"); /* all */
    assert_non_null(
        strstr(open_sets(node, (const char *[]){"two", "none"}, 2, 0), "data set none"));
}

static void test_known_as(void **state)
{
    struct node *node = *state;
    const struct fl_words opened = {(const char *[]){"two.1", "one"}, 2};
    const struct fl_words tags = fl_learner_tags(node->arena, &opened);

    assert_int_equal(tags.count, 3);
    assert_string_equal(tags.items[0], "two.1");
    assert_string_equal(tags.items[1], "two");
    assert_string_equal(tags.items[2], "one");
}

static void test_lacks(void **state)
{
    struct node *node = *state;

    assert_non_null(strstr(open_data(node, NULL, 0), "flops data push"));
    assert_non_null(strstr(open_data(node, "none", 0), "none"));
    push(node, "one", 0);
    assert_string_equal(open_data(node, "one", 7), "one 6");
}

static const char *find_data(struct node *node, const char **tags, size_t count, int64_t number)
{
    const struct fl_words words = {tags, count};
    struct fl_words opened = {0};
    FL_JSON data = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_error err = {0};

    if (fl_learner_find_data(&node->store, node->arena, &words, number, &opened, &data, &err) < 0)
        return fl_arena_strdup(node->arena, err.msg);
    assert_int_equal(opened.count, json_array_size(data));
    for (size_t i = 0; i < opened.count; i++)
        assert_string_equal(opened.items[i], fl_json_str(json_array_get(data, i), "name"));
    text = fl_json_to_bytes(data);
    return fl_arena_strndup(node->arena, (const char *)text->data, text->len);
}

static void test_for_programs(void **state)
{
    struct node *node = *state;
    const char *expected;

    assert_string_equal(find_data(node, NULL, 0, 0), "[]"); /* it may have data of its own */
    push(node, "one", 0);
    push(node, "two", 3);
    expected = fl_arena_printf(node->arena,
                               "[{\"examples\":2,\"file\":\"%s/two.parts/data.safetensors\","
                               "\"name\":\"two.1\",\"rows\":{\"file\":\"%s/two.parts/"
                               "rows.safetensors\",\"part\":1}},{\"name\":\"my data\"},"
                               "{\"examples\":6,\"file\":\"%s/one/data.safetensors\","
                               "\"name\":\"one\"}]",
                               node->folder, node->folder, node->folder);
    assert_string_equal(find_data(node, (const char *[]){"two", "my data", "one"}, 3, 4), expected);
    assert_non_null(strstr(find_data(node, NULL, 0, 0), "two.0"));
    assert_int_equal(
        fl_file_write(fl_arena_printf(node->arena, "%s/one/data.safetensors", node->folder), "x", 1,
                      0600, NULL),
        0);
    assert_non_null(strstr(find_data(node, (const char *[]){"one"}, 1, 0), "data set one: "));
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
        cmocka_unit_test_setup_teardown(test_several, setup, teardown),
        cmocka_unit_test_setup_teardown(test_known_as, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_for_programs, setup, teardown),
        cmocka_unit_test(test_number),
        cmocka_unit_test(test_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
