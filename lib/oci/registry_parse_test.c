#include "lib/oci/registry_parse.h"

#include "lib/str.h"

/* cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

static void test_challenges(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        const char *realm, *service, *scope; /* of bearer */
        bool basic;
    } cases[] = {
        {"Bearer realm=\"https://a/t\",service=\"r\",scope=\"repository:x:pull,push\"", 1,
         "https://a/t", "r", "repository:x:pull,push", false},
        {"bearer realm=x , service = \"a \\\"b\\\\ c\"", 1, "x", "a \"b\\ c", NULL, false},
        {"Basic realm=\"x, Bearer realm=y\", Bearer realm=z", 2, "z", NULL, NULL, true},
        {"Basic realm=a, charset=\"UTF-8\",,, Bearer realm=z,error=\"e\"", 2, "z", NULL, NULL,
         true},
        {"Negotiate YWJj==, Bearer realm=z", 2, "z", NULL, NULL, false},
        {"Negotiate, Bearer realm=z", 2, "z", NULL, NULL, false},
        {"Bearer realm=first, realm=second", 1, "first", NULL, NULL, false},
        {"Bearer realm=\"not closed", 1, NULL, NULL, NULL, false},
        {"Bearer realm=\"ends in \\", 1, NULL, NULL, NULL, false},
        {"realm=x, Bearer realm=y", 0, NULL, NULL, NULL, false},
        {"Bearer realm=", 1, NULL, NULL, NULL, false},
        {"", 0, NULL, NULL, NULL, false},
        {"(((", 0, NULL, NULL, NULL, false},
    };

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_challenges found = {0};
        const struct fl_challenge *bearer;

        fl_challenges_add(*state, cases[i].text, &found);
        bearer = fl_challenge_of(&found, "bearer");
        assert_int_equal(found.count, cases[i].count);
        assert_int_equal(fl_challenge_of(&found, "basic") != NULL, cases[i].basic);
        assert_true(fl_streq(bearer ? bearer->realm : NULL, cases[i].realm));
        assert_true(fl_streq(bearer ? bearer->service : NULL, cases[i].service));
        assert_true(fl_streq(bearer ? bearer->scope : NULL, cases[i].scope));
    }
}

static void test_challenges_in_several_headers_and_too_many(void **state)
{
    struct fl_challenges found;

    fl_challenges_find(*state,
                       "Date: x\nwww-authenticate: Basic realm=\"a\"\nX: y\n"
                       "WWW-Authenticate: Bearer realm=\"b\"\n",
                       &found);
    assert_int_equal(found.count, 2);
    assert_string_equal(fl_challenge_of(&found, "bearer")->realm, "b");
    fl_challenges_find(*state, "WWW-Authenticate: a, b, c, d, e, f, g, h, i, j\n", &found);
    assert_int_equal(found.count, FL_CHALLENGES_MAX);
    fl_challenges_find(*state, NULL, &found);
    assert_int_equal(found.count, 0);
}

static void test_addresses(void **state)
{
    static const struct {
        const char *text, *origin, *target; /* NULL: refused */
    } cases[] = {
        {"https://Example.ORG/a?b=c#d", "https://example.org:443", "/a?b=c"},
        {"http://h", "http://h:80", "/"},
        {"http://h?x", "http://h:80", "/?x"},
        {"HTTP://[::1]:5000/v2/", "http://[::1]:5000", "/v2/"},
        {"http://127.0.0.1:65536/", NULL, NULL},
        {"http://127.0.0.1:0/", NULL, NULL},
        {"http://127.0.0.1:/", NULL, NULL},
        {"ftp://h/", NULL, NULL},
        {"file:///etc/passwd", NULL, NULL},
        {"http://user@h/", NULL, NULL},
        {"http://user:pass@h/", NULL, NULL},
        {"http://h/a b", NULL, NULL},
        {"http://h\\@evil/", NULL, NULL},
        {"http://h/\r\nX: y", NULL, NULL},
        {"http://", NULL, NULL},
        {"http:///x", NULL, NULL},
        {"/v2/", NULL, NULL},
        {"", NULL, NULL},
    };

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_registry_url url;
        bool good = fl_registry_url_parse(*state, cases[i].text, &url);

        assert_int_equal(good, cases[i].origin != NULL);
        if (!good)
            continue;
        assert_string_equal(fl_registry_url_origin(*state, &url), cases[i].origin);
        assert_string_equal(url.target, cases[i].target);
    }
}

static void test_addresses_beside_another(void **state)
{
    static const struct {
        const char *text, *origin, *target;
    } cases[] = {
        {"/x?y", "https://h:5000", "/x?y"},       {"x", "https://h:5000", "/a/x"},
        {"../x", "https://h:5000", "/a/../x"},    {"?z", "https://h:5000", "/a/b?z"},
        {"//other/x", "https://other:443", "/x"}, {"http://other:1/x", "http://other:1", "/x"},
        {"javascript:alert(1)", NULL, NULL},      {"", NULL, NULL},
    };
    struct fl_registry_url base, url;

    assert_true(fl_registry_url_parse(*state, "https://h:5000/a/b?c", &base));
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        bool good = fl_registry_url_resolve(*state, &base, cases[i].text, &url);

        assert_int_equal(good, cases[i].origin != NULL);
        if (!good)
            continue;
        assert_string_equal(fl_registry_url_origin(*state, &url), cases[i].origin);
        assert_string_equal(url.target, cases[i].target);
    }
    assert_string_equal(fl_registry_query(*state, "/t", "scope", "repository:a/b:pull,push"),
                        "/t?scope=repository:a/b:pull%2Cpush");
    assert_string_equal(fl_registry_query(*state, "/t?x", "service", "a b&c"),
                        "/t?x&service=a%20b%26c");
}

static void test_links(void **state)
{
    static const struct {
        const char *text, *next;
    } cases[] = {
        {"</v2/a/tags/list?n=1&last=b>; rel=\"next\"", "/v2/a/tags/list?n=1&last=b"},
        {"<a>; rel=prev, <b>; rel=next", "b"},
        {"<a>; rel=\"nextish\"", NULL},
        {"<a", NULL},
        {"", NULL},
    };

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        assert_true(fl_streq(fl_registry_next_link(*state, cases[i].text), cases[i].next));
}

static void test_ranges(void **state)
{
    int64_t first, last, size;

    (void)state;
    assert_true(fl_registry_kept_parse("0-1023", &size));
    assert_int_equal(size, 1024);
    assert_true(fl_registry_kept_parse("bytes=0-0", &size));
    assert_int_equal(size, 1);
    assert_false(fl_registry_kept_parse("1-5", &size));
    assert_false(fl_registry_kept_parse("0-", &size));
    assert_false(fl_registry_kept_parse("0--1", &size));
    assert_false(fl_registry_kept_parse("0-99999999999999999999", &size));
    assert_true(fl_registry_content_range_parse("bytes 5-9/20", &first, &last, &size));
    assert_int_equal(first + last * 10 + size * 100, 5 + 90 + 2000);
    assert_true(fl_registry_content_range_parse("bytes 5-9/*", &first, &last, &size));
    assert_true(size < 0);
    assert_false(fl_registry_content_range_parse("bytes 9-5/20", &first, &last, &size));
    assert_false(fl_registry_content_range_parse("bytes 5-20/20", &first, &last, &size));
    assert_false(fl_registry_content_range_parse("5-9/20", &first, &last, &size));
}

static int parse_token(struct fl_arena *arena, const char *text, struct fl_registry_token *token)
{
    return fl_registry_token_parse(arena, text, strlen(text), token, NULL);
}

static void test_documents(void **state)
{
    struct fl_registry_token token;
    const char *text;

    assert_int_equal(parse_token(*state, "{\"token\":\"a.b\",\"expires_in\":300}", &token), 0);
    assert_string_equal(token.text, "a.b");
    assert_int_equal(token.valid_seconds, 300);
    assert_int_equal(parse_token(*state, "{\"token\":\"\",\"access_token\":\"c\"}", &token), 0);
    assert_string_equal(token.text, "c");
    assert_int_equal(token.valid_seconds, 60);
    assert_int_equal(parse_token(*state, "{\"token\":\"c\",\"expires_in\":-1}", &token), 0);
    assert_int_equal(token.valid_seconds, 0);
    assert_true(parse_token(*state, "{\"token\":\"a\\r\\nX: y\"}", &token) < 0);
    assert_true(parse_token(*state, "{\"token\":7}", &token) < 0);
    assert_true(parse_token(*state, "[]", &token) < 0);
    assert_true(parse_token(*state, "", &token) < 0);

    text = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[2J\\nway\"}]}";
    assert_string_equal(fl_registry_error_text(*state, text, strlen(text)), "no [2J way, DENIED");
    assert_null(fl_registry_error_text(*state, "<html>", 6));
    assert_null(fl_registry_error_text(*state, "{}", 2));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_challenges), TEST(test_challenges_in_several_headers_and_too_many),
        TEST(test_addresses),  TEST(test_addresses_beside_another),
        TEST(test_links),      TEST(test_ranges),
        TEST(test_documents),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
