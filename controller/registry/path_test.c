/* What requests to a registry say, in tables. */
#include "controller/registry/path.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define D "sha256:0123456789012345678901234567890123456789012345678901234567890123"

static const struct {
    const char *path;
    enum fl_repos_route route;
    const char *repository, *reference;
} good[] = {
    {"/v2/", FL_REPOS_BASE, NULL, NULL},
    {"/v2/_catalog", FL_REPOS_CATALOG, NULL, NULL},
    {"/v2/a/tags/list", FL_REPOS_TAGS, "a", NULL},
    {"/v2/a/b/c/tags/list", FL_REPOS_TAGS, "a/b/c", NULL},
    {"/v2/a/manifests/latest", FL_REPOS_MANIFEST, "a", "latest"},
    {"/v2/a/b/manifests/" D, FL_REPOS_MANIFEST, "a/b", D},
    {"/v2/a/manifests/sha256%3A01", FL_REPOS_MANIFEST, "a", "sha256:01"},
    {"/v2/a/manifests/.INVALID", FL_REPOS_MANIFEST, "a", ".INVALID"},
    {"/v2/manifests/manifests/manifests", FL_REPOS_MANIFEST, "manifests", "manifests"},
    {"/v2/tags/tags/list", FL_REPOS_TAGS, "tags", NULL},
    {"/v2/a/blobs/" D, FL_REPOS_BLOB, "a", D},
    {"/v2/a/blobs/b/blobs/" D, FL_REPOS_BLOB, "a/blobs/b", D},
    {"/v2/a/blobs/uploads/", FL_REPOS_UPLOADS, "a", NULL},
    {"/v2/a/blobs/uploads", FL_REPOS_UPLOADS, "a", NULL},
    {"/v2/a/blobs/uploads/12-34", FL_REPOS_UPLOAD, "a", "12-34"},
    {"/v2/a/blobs/uploads/blobs/uploads/1", FL_REPOS_UPLOAD, "a/blobs/uploads", "1"},
    {"/v2/a/referrers/" D, FL_REPOS_REFERRERS, "a", D},
};

static void test_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(good); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_repos_path path;
        struct fl_error err = {0};

        if (fl_repos_path_parse(arena, good[i].path, &path, &err) < 0)
            fail_msg("%s: %s", good[i].path, err.msg);
        if (path.route != good[i].route || !fl_streq(path.repository, good[i].repository) ||
            !fl_streq(path.reference, good[i].reference))
            fail_msg("%s: %d %s %s", good[i].path, path.route, fl_str_or(path.repository, "-"),
                     fl_str_or(path.reference, "-"));
    }
}

static const struct {
    const char *path;
    int code;
} bad[] = {
    {"/v1/", FL_E_NOT_FOUND},
    {"/v2", FL_E_NOT_FOUND},
    {"/v2/a", FL_E_NOT_FOUND},
    {"/v2/a/b", FL_E_NOT_FOUND},
    {"/v2/a/tags", FL_E_NOT_FOUND},
    {"/v2/a/tags/list/", FL_E_NOT_FOUND},
    {"/v2/_catalog/", FL_E_NOT_FOUND},
    {"/v2/tags/list", FL_E_NOT_FOUND},
    {"/v2//tags/list", FL_E_BAD_REQUEST},
    {"/v2/manifests/x", FL_E_NOT_FOUND},
    {"/v2//manifests/x", FL_E_BAD_REQUEST},
    {"/v2/../manifests/x", FL_E_BAD_REQUEST},
    {"/v2/a/../b/manifests/x", FL_E_BAD_REQUEST},
    {"/v2/a/./b/manifests/x", FL_E_BAD_REQUEST},
    {"/v2/%2e%2e/manifests/x", FL_E_BAD_REQUEST},
    {"/v2/a%2fb/manifests/x", FL_E_BAD_REQUEST},
    {"/v2/A/manifests/x", FL_E_BAD_REQUEST},
    {"/v2/a//b/manifests/x", FL_E_BAD_REQUEST},
    {"/v2/a/-b/manifests/x", FL_E_BAD_REQUEST},
    {"/v2/a/manifests/%zz", FL_E_BAD_REQUEST},
    {"/v2/a/manifests/%00", FL_E_BAD_REQUEST},
};

static void test_bad_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_repos_path path;
        int r = fl_repos_path_parse(arena, bad[i].path, &path, NULL);

        if (r != bad[i].code)
            fail_msg("%s: %d, not %d", bad[i].path, r, bad[i].code);
    }
}

static void test_params(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    assert_string_equal(fl_repos_param(arena, "a=1&b=2&ab=3", "b"), "2");
    assert_string_equal(fl_repos_param(arena, "&&b=%3A+x", "b"), ": x");
    assert_string_equal(fl_repos_param(arena, "b=&b=2", "b"), "");
    assert_null(fl_repos_param(arena, "", "b"));
    assert_null(fl_repos_param(arena, "b&bb=2", "b"));
    assert_null(fl_repos_param(arena, "b=%z", "b"));
    assert_null(fl_repos_param(arena, "b=%00", "b"));
}

static void test_ranges(void **state)
{
    static const char *const wrong[] = {
        "",
        "-",
        "0",
        "0-",
        "-0",
        "1-0",
        "a-b",
        "0-1x",
        "0 - 1",
        "0-1,3-4",
        "bytes",
        "+0-1",
        "0--1",
        "bytes 0-",
        "0-1 ",
        "--1",
        "0x0-1",
        "99999999999999999999-1",
        "0-9223372036854775807",
    };
    int64_t first, last;

    (void)state;
    assert_true(fl_repos_range_parse("0-0", &first, &last));
    assert_int_equal(first + last, 0);
    assert_true(fl_repos_range_parse("10-9223372036854775806", &first, &last));
    assert_int_equal(first, 10);
    assert_true(last == INT64_MAX - 1);
    assert_true(fl_repos_range_parse("bytes 5-7/10", &first, &last));
    assert_int_equal(last, 7);
    assert_true(fl_repos_range_parse("bytes=5-8", &first, &last));
    assert_int_equal(last, 8);
    for (size_t i = 0; i < FL_COUNT_OF(wrong); i++)
        if (fl_repos_range_parse(wrong[i], &first, &last))
            fail_msg("\"%s\" is taken", wrong[i]);
}

static void test_accept(void **state)
{
    static const char type[] = "application/vnd.oci.image.index.v1+json";

    (void)state;
    assert_true(fl_repos_accepts(NULL, type));
    assert_true(fl_repos_accepts("", type));
    assert_true(fl_repos_accepts("*/*", type));
    assert_true(fl_repos_accepts("text/html, application/*;q=0.8", type));
    assert_true(fl_repos_accepts("text/html,APPLICATION/vnd.oci.image.index.v1+json", type));
    assert_false(fl_repos_accepts("application/vnd.oci.image.manifest.v1+json", type));
    assert_false(fl_repos_accepts("application/vnd.oci.image.index.v1", type));
    assert_false(fl_repos_accepts("text/*, , ;", type));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),  cmocka_unit_test(test_bad_paths),
        cmocka_unit_test(test_params), cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_accept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
