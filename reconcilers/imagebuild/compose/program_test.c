#include "reconcilers/imagebuild/compose/program.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The machine's own libraries, as if they had come from packages. */
static bool is_other(void *user, const char *path)
{
    (void)user;
    return !strstr(path, ".so");
}

static struct fl_tree *machine(bool with_links)
{
    static const char *const links[][2] = {{"lib", "usr/lib"}, {"lib64", "usr/lib64"}};
    struct fl_tree *tree = fl_tree_create();

    assert_int_equal(fl_tree_add_tree(tree, "usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu",
                                      is_other, NULL, NULL),
                     0);
    for (size_t i = 0; with_links && i < FL_COUNT_OF(links); i++)
        assert_int_equal(fl_tree_add_link(tree, links[i][0], links[i][1], NULL), 0);
    assert_int_equal(fl_tree_add_link(tree, "usr/lib64/ld-linux-x86-64.so.2",
                                      "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", NULL),
                     0);
    assert_int_equal(fl_tree_add_text(tree, "etc/passwd", "root", 4, false, NULL), 0);
    return tree;
}

static void what_is_needed_comes_and_no_more(void **state)
{
    const struct fl_platform here = fl_platform_of_machine();
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *packages = machine(true);
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_tree_entry entry;
    struct fl_error err = {0};

    (void)state;
    if (!fl_streq(here.architecture, "amd64"))
        fail_msg("this test knows the folders of amd64 only");
    if (fl_program_add_needs(tree, packages, &here, "/proc/self/exe", false, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(fl_tree_has(tree, "usr/lib/x86_64-linux-gnu/libc.so.6"));
    assert_true(fl_tree_has(tree, "lib64/ld-linux-x86-64.so.2"));
    assert_true(fl_tree_get(tree, "usr/lib/x86_64-linux-gnu/libcmocka.so.0", &entry));
    assert_int_equal(entry.type, FL_TREE_LINK);
    assert_true(
        fl_tree_has(tree, fl_arena_printf(*state, "usr/lib/x86_64-linux-gnu/%s", entry.target)));
    assert_false(fl_tree_has(tree, "usr/lib/x86_64-linux-gnu/libicudata.so.72"));
    assert_true(fl_tree_has(tree, "etc/passwd"));
    assert_true(fl_tree_has(tree, "tmp"));
    assert_false(fl_tree_has(tree, FL_PROGRAM_PATH));
    assert_true(fl_tree_count(tree) < 150);
}

static void what_is_missing_is_named(void **state)
{
    const struct fl_platform here = fl_platform_of_machine(), arm = {"linux", "arm64", NULL},
                             other = {"linux", "s390x", NULL};
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *packages = machine(true);
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_error err = {0};

    (void)state;
    fl_tree_remove(packages, "usr/lib/x86_64-linux-gnu/libcmocka.so.0");
    assert_int_equal(fl_program_add_needs(tree, packages, &here, "/proc/self/exe", false, &err),
                     FL_E_INVALID);
    assert_non_null(strstr(err.msg, "libcmocka.so.0"));
    assert_int_equal(fl_program_add_needs(tree, packages, &arm, "/proc/self/exe", false, &err),
                     FL_E_INVALID);
    assert_non_null(strstr(err.msg, "is made for amd64, not for arm64"));
    assert_int_equal(fl_program_add_needs(tree, packages, &other, "/proc/self/exe", false, &err),
                     FL_E_INVALID);
}

static int set_up(void **state)
{
    *state = fl_arena_create();
    return 0;
}

static int tear_down(void **state)
{
    fl_arena_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_needed_comes_and_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_missing_is_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
