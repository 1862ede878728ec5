#include "lib/oci/reference.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define HEX64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX64

static const struct {
    const char *text, *registry, *repository, *tag, *digest;
} good[] = {
    {"debian", NULL, "debian", NULL, NULL},
    {"team/name", NULL, "team/name", NULL, NULL},
    {"team/name:1.0_b-2", NULL, "team/name", "1.0_b-2", NULL},
    {"localhost/a", "localhost", "a", NULL, NULL},
    {"127.0.0.1:5000/a/b:t", "127.0.0.1:5000", "a/b", "t", NULL},
    {"[::1]:5000/a", "[::1]:5000", "a", NULL, NULL},
    {"[::1]/a.b", "[::1]", "a.b", NULL, NULL},
    {"registry.example/a@" DIGEST, "registry.example", "a", NULL, DIGEST},
    {"registry.example/a:t@" DIGEST, "registry.example", "a", "t", DIGEST},
    {"x/a--b__c.d_e/f", NULL, "x/a--b__c.d_e/f", NULL, NULL},
};

static void reads_what_is_right(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(good); i++) {
        struct fl_image_reference ref;

        assert_int_equal(fl_image_reference_parse(arena, good[i].text, &ref, NULL), 0);
        assert_true(fl_streq(ref.registry, good[i].registry));
        assert_string_equal(ref.repository, good[i].repository);
        assert_true(fl_streq(ref.tag, good[i].tag));
        assert_true(fl_streq(ref.digest, good[i].digest));
        assert_string_equal(fl_image_reference_text(arena, &ref), good[i].text);
    }
}

static const char *const bad[] = {
    "",     "/",      "a/",    "/a",         "A",           "a b",
    "a:",   "a:-x",   "a@",    "a@sha256:0", "a..b",        "a.-b",
    "a_",   "-a",     "../a",  "h.x:0/a",    "h.x:99999/a", "h.x:p/a",
    ".h/a", "[::1/a", "a___b", "h.x/a/../b", "a:t:u",       "a@" DIGEST "0",
};

static void refuses_what_is_not(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_image_reference ref;
    char longest[FL_OCI_REPOSITORY_MAX + 2];

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        struct fl_error err = {0};

        if (fl_image_reference_parse(arena, bad[i], &ref, &err) != FL_E_INVALID)
            fail_msg("\"%s\" was let by", bad[i]);
        assert_non_null(strstr(err.msg, "image \""));
    }
    memset(longest, 'a', sizeof(longest));
    longest[FL_OCI_REPOSITORY_MAX] = '\0';
    assert_int_equal(fl_image_reference_parse(arena, longest, &ref, NULL), 0);
    longest[FL_OCI_REPOSITORY_MAX] = 'a', longest[FL_OCI_REPOSITORY_MAX + 1] = '\0';
    assert_int_equal(fl_image_reference_parse(arena, longest, &ref, NULL), FL_E_INVALID);
}

static const struct {
    const char *image, *wanted;
    bool fits;
} pairs[] = {
    {"linux/amd64", "linux/amd64", true},    {"linux/amd64", "linux/arm64", false},
    {"linux/arm64/v8", "linux/arm64", true}, {"linux/arm64/v8", "linux/arm64/v9", true},
    {"linux/arm/v7", "linux/arm/v6", false}, {"linux/arm/v7", "linux/arm", true},
    {"windows/amd64", "linux/amd64", false},
};

static void knows_platforms(void **state)
{
    static const char *const wrong[] = {"", "linux", "linux/", "linux//v7", "a/b/c/d", "linux/a b"};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_platform image, wanted, here = fl_platform_of_machine();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(pairs); i++) {
        assert_int_equal(fl_platform_parse(arena, pairs[i].image, &image, NULL), 0);
        assert_int_equal(fl_platform_parse(arena, pairs[i].wanted, &wanted, NULL), 0);
        assert_int_equal(fl_platform_fits(&image, &wanted), pairs[i].fits);
        assert_string_equal(fl_platform_text(arena, &image), pairs[i].image);
    }
    for (size_t i = 0; i < FL_COUNT_OF(wrong); i++)
        assert_int_equal(fl_platform_parse(arena, wrong[i], &image, NULL), FL_E_INVALID);
    assert_int_equal(fl_platform_parse(arena, "linux/arm/v7", &image, NULL), 0);
    assert_string_equal(fl_platform_debian(&image), "armhf");
    assert_non_null(fl_platform_debian(&here));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_right),
        cmocka_unit_test(refuses_what_is_not),
        cmocka_unit_test(knows_platforms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
