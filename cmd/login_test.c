#include "cmd/login.h"
#include "lib/str.h"

/* cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char config[] =
    "{\"auths\": {"
    "  \"one.example:5000\": {\"auth\": \"bWU6c2VjcmV0OndvcmQ=\"},"
    "  \"https://two.example/v1/\": {\"username\": \"her\", \"password\": \"hers\"},"
    "  \"three.example\": {\"auth\": \"YTpi\"},"
    "  \"three.example/team\": {\"auth\": \"Yzpk\"},"
    "  \"four.example\": {},"
    "  \"five.example\": {\"auth\": \"not base64!\"},"
    "  \"six.example\": {\"auth\": \"bm90aGluZw==\"},"
    "  \"seven.example\": {\"identitytoken\": \"x\"}"
    " },"
    " \"credHelpers\": {\"eight.example\": \"pass\"},"
    " \"credsStore\": \"desktop\"}";

static void test_entries(void **state)
{
    static const struct {
        const char *host, *repository;
        int found; /* < 0: an error */
        const char *username, *password;
    } cases[] = {
        {"one.example:5000", "a/b", 1, "me", "secret:word"},
        {"one.example", "a/b", 0, NULL, NULL},
        {"two.example", "a", 1, "her", "hers"},
        {"three.example", "a", 1, "a", "b"},
        {"three.example", "team/x", 1, "c", "d"},
        {"three.example", "teams/x", 1, "a", "b"},
        {"four.example", "a", -1, NULL, NULL}, /* its password is in the store */
        {"five.example", "a", -1, NULL, NULL},
        {"six.example", "a", -1, NULL, NULL},
        {"seven.example", "a", -1, NULL, NULL},
        {"eight.example", "a", -1, NULL, NULL},
        {"nine.example", "a", 0, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_login login = {0};
        struct fl_error err = {0};
        int r = fl_login_parse(arena, config, strlen(config), "FILE", cases[i].host,
                               cases[i].repository, &login, &err);

        assert_int_equal(r < 0 ? -1 : r, cases[i].found);
        assert_true(fl_streq(login.username, cases[i].username));
        assert_true(fl_streq(login.password, cases[i].password));
        if (r < 0)
            assert_non_null(strstr(err.msg, "FILE"));
    }
}

static void test_helpers_are_named(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_login login;
    struct fl_error err = {0};

    (void)state;
    assert_true(fl_login_parse(arena, config, strlen(config), "FILE", "eight.example", "a", &login,
                               &err) < 0);
    assert_non_null(strstr(err.msg, "docker-credential-pass"));
    assert_true(fl_login_parse(arena, "[", 1, "FILE", "h", "a", &login, &err) < 0);
    assert_int_equal(fl_login_parse(arena, "{}", 2, "FILE", "h", "a", &login, &err), 0);
    assert_int_equal(fl_login_parse(arena, "[]", 2, "FILE", "h", "a", &login, &err), 0);
    assert_int_equal(fl_login_parse(arena, "{\"auths\":[]}", 12, "FILE", "h", "a", &login, &err),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_helpers_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
