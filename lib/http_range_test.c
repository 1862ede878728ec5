#include "lib/http_range.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

static void test_ranges(void **state)
{
    static const struct {
        const char *header;
        uint64_t size;
        enum fl_http_range range;
        uint64_t offset, len;
    } cases[] = {
        {NULL, 10, FL_HTTP_WHOLE, 0, 0},
        {"", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=0-", 10, FL_HTTP_PART, 0, 10},
        {"bytes=0-0", 10, FL_HTTP_PART, 0, 1},
        {"Bytes= 3-5 ", 10, FL_HTTP_PART, 3, 3},
        {"bytes=3-99999", 10, FL_HTTP_PART, 3, 7},
        {"bytes=9-", 10, FL_HTTP_PART, 9, 1},
        {"bytes=-3", 10, FL_HTTP_PART, 7, 3},
        {"bytes=-30", 10, FL_HTTP_PART, 0, 10},
        {"bytes=10-", 10, FL_HTTP_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 10, FL_HTTP_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, FL_HTTP_UNSATISFIABLE, 0, 0},
        {"bytes=-1", 0, FL_HTTP_UNSATISFIABLE, 0, 0},
        {"bytes=5-3", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=1-2,4-5", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=a-", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=-", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=--1", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=1", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=+1-2", 10, FL_HTTP_WHOLE, 0, 0},
        {"lines=1-2", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=99999999999999999999-", 10, FL_HTTP_WHOLE, 0, 0},
        {"bytes=9223372036854775807-9223372036854775807", 10, FL_HTTP_UNSATISFIABLE, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_http_part part = {0, 0};
        enum fl_http_range range = fl_http_range_parse(cases[i].header, cases[i].size, &part);

        if (range != cases[i].range || part.offset != cases[i].offset || part.len != cases[i].len)
            fail_msg("\"%s\": %d, %" PRIu64 "+%" PRIu64, cases[i].header, range, part.offset,
                     part.len);
    }
}

static void test_etags(void **state)
{
    static const struct {
        const char *header;
        bool matches;
    } cases[] = {{NULL, false},       {"", false},        {"\"a\"", true},
                 {"W/\"a\"", true},   {"*", true},        {"\"b\", \"a\"", true},
                 {"\"b\" , *", true}, {"\"ab\"", false},  {"\"a", false},
                 {",,,", false},      {" \"a\"\t", true}, {"\"b\",W/\"c\"", false}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++)
        if (fl_http_etag_matches(cases[i].header, "\"a\"") != cases[i].matches)
            fail_msg("%s", cases[i].header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranges), cmocka_unit_test(test_etags)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
