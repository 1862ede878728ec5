#include "workloads/transfer/bulk_parse.h"

#include "lib/str.h"
#include "workloads/transfer/crc32c.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* RFC 3720, B.4, and the usual check value. */
static void test_crc32c(void **state)
{
    unsigned char zeros[32] = {0}, ones[32], rising[32], long_one[10000];
    char text[FL_BULK_CHECK_TEXT_SIZE];

    (void)state;
    memset(ones, 0xFF, sizeof(ones));
    for (unsigned i = 0; i < 32; i++)
        rising[i] = (unsigned char)i;
    assert_int_equal(fl_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(fl_crc32c(0, zeros, 32), 0x8A9136AA);
    assert_int_equal(fl_crc32c(0, ones, 32), 0x62A8AB43);
    assert_int_equal(fl_crc32c(0, rising, 32), 0x46DD794E);
    for (size_t i = 0; i < sizeof(long_one); i++)
        long_one[i] = (unsigned char)(i * 37 + i / 3);
    for (size_t cut = 0; cut <= sizeof(long_one); cut += 77) {
        uint32_t crc =
            fl_crc32c(fl_crc32c(0, long_one, cut), long_one + cut, sizeof(long_one) - cut);

        assert_int_equal(crc, fl_ref_crc32c(0, long_one, sizeof(long_one)));
    }
    fl_bulk_check_crc32c_text(0xE3069283, text);
    assert_string_equal(text, "crc32c=:4waSgw==:");
}

static void test_checks(void **state)
{
    static const struct {
        const char *header;
        int result;
        enum fl_bulk_check_kind kind;
        unsigned char first, last;
    } cases[] = {
        {"crc32c=:4waSgw==:", 0, FL_BULK_CHECK_CRC32C, 0xE3, 0x83},
        {"sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", 0, FL_BULK_CHECK_SHA256, 0xE3,
         0x55},
        {"crc32c=:4waSgw==:, sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", 0,
         FL_BULK_CHECK_SHA256, 0xE3, 0x55},
        {"md5=:xyz:, crc32c=:4waSgw==:", 0, FL_BULK_CHECK_CRC32C, 0xE3, 0x83},
        {NULL, FL_E_BAD_REQUEST, 0, 0, 0},
        {"", FL_E_BAD_REQUEST, 0, 0, 0},
        {"md5=:xyz:", FL_E_BAD_REQUEST, 0, 0, 0},
        {"crc32c=:4waSgw=:", FL_E_BAD_REQUEST, 0, 0, 0},
        {"crc32c=:4waSg===:", FL_E_BAD_REQUEST, 0, 0, 0},
        {"crc32c=:4waSgw==", FL_E_BAD_REQUEST, 0, 0, 0},
        {"crc32c=:4wa gw==:", FL_E_BAD_REQUEST, 0, 0, 0},
        {"crc32c=:", FL_E_BAD_REQUEST, 0, 0, 0},
        {"sha-256=:4waSgw==:", FL_E_BAD_REQUEST, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_bulk_check check = {0};
        int r = fl_bulk_check_parse(cases[i].header, &check, NULL);
        size_t last = check.kind == FL_BULK_CHECK_SHA256 ? 31 : 3;

        if (r != cases[i].result ||
            (r == 0 && (check.kind != cases[i].kind || check.value[0] != cases[i].first ||
                        check.value[last] != cases[i].last)))
            fail_msg("\"%s\": %d, %d", cases[i].header, r, check.kind);
    }
}

#define D "sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"

/* Of "abc", as `xxhsum -H2` has it. */
#define X      "xxh128:06b05ab6733a618578af5f94892f3950"
#define X_TEXT "xxh128=:BrBatnM6YYV4r1+UiS85UA==:"

static void test_parameters(void **state)
{
    static const struct {
        const char *query;
        int64_t offset, size; /* < 0: refused */
    } cases[] = {
        {"offset=0&size=0&digest=" D, 0, 0},
        {"digest=" D "&size=20&offset=10", 10, 20},
        {"digest=sha256%3A84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"
         "&size=20&offset=20",
         20, 20},
        {"", -1, -1},
        {"offset=0&size=1", -1, -1},
        {"offset=2&size=1&digest=" D, -1, -1},
        {"offset=-1&size=1&digest=" D, -1, -1},
        {"offset=0&offset=0&size=1&digest=" D, -1, -1},
        {"offset=0&size=1&digest=" D "&digest=" D, -1, -1},
        {"offset=0&size=1&digest=" D "&x=y", -1, -1},
        {"offset=0&size=1&digest=" D "&", -1, -1},
        {"offset=0&size=1&digest=sha256:0", -1, -1},
        {"offset=0&size=99999999999999999999&digest=" D, -1, -1},
        {"offset=%&size=1&digest=" D, -1, -1},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_bulk_put put = {0};
        int r = fl_bulk_put_parse(cases[i].query, &put, NULL);

        if (cases[i].offset < 0 ? r != FL_E_BAD_REQUEST
                                : r != 0 || put.offset != cases[i].offset ||
                                      put.size != cases[i].size || strcmp(put.digest, D) != 0)
            fail_msg("\"%s\": %d, %" PRId64 " of %" PRId64, cases[i].query, r, put.offset,
                     put.size);
    }
}

static void test_an_update_may_be_named_by_xxh128(void **state)
{
    struct fl_bulk_put put = {0};

    (void)state;
    assert_int_equal(fl_bulk_put_parse("offset=0&size=1&digest=" X, &put, NULL), 0);
    assert_string_equal(put.digest, X);
    assert_int_equal(fl_bulk_put_parse("offset=0&size=1&digest=" X "0", &put, NULL),
                     FL_E_BAD_REQUEST);
}

static void test_the_digest_of_a_whole(void **state)
{
    static const struct {
        const char *header, *digest; /* NULL: none */
    } cases[] = {
        {X_TEXT, X},
        {"sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:, " X_TEXT, X},
        {X_TEXT ",md5=:xyz:", X},
        {"", NULL},
        {"crc32c=:4waSgw==:", NULL},
        {"xxh128=:BrBatnM6YYV4r1+UiS85:", NULL},
        {"xxh128=:BrBatnM6YYV4r1+UiS85UA=:", NULL},
        {"xxh128=:BrBatnM6YYV4r1+UiS85UA==", NULL},
        {"xxh128=:", NULL},
    };
    char text[FL_BULK_CHECK_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        char digest[FL_DIGEST_SIZE] = "";

        if (fl_bulk_whole_parse(cases[i].header, digest) != (cases[i].digest != NULL) ||
            !fl_streq(digest, fl_str_or(cases[i].digest, "")))
            fail_msg("\"%s\": %s", cases[i].header, digest);
    }
    assert_true(fl_bulk_whole_text(X, text));
    assert_string_equal(text, X_TEXT);
    assert_false(fl_bulk_whole_text(D, text));
}

static void test_states_survive(void **state)
{
    struct fl_bulk_state from = {.safe = 5, .size = INT64_MAX, .digest = D}, to;
    char text[FL_BULK_STATE_MAX + 1];
    size_t len;

    (void)state;
    for (int round = 0; round < 3; round++) {
        from.complete = round == 1;
        if (round == 2)
            memset(from.digest, 0, sizeof(from.digest)), memcpy(from.digest, X, strlen(X));
        memset(from.key, 'k', round == 1 ? FL_BULK_KEY_MAX : 1);
        fl_bulk_state_format(&from, text);
        len = strlen(text);
        assert_true(len <= FL_BULK_STATE_MAX);
        assert_true(fl_bulk_state_parse(text, len, &to));
        assert_memory_equal(&from, &to, sizeof(from));
        for (size_t cut = 0; cut < len; cut++) /* what is torn is not taken for whole */
            assert_false(fl_bulk_state_parse(text, cut, &to));
    }
    from.safe = 3;
    from.size = 2;
    fl_bulk_state_format(&from, text);
    assert_false(fl_bulk_state_parse(text, strlen(text), &to));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_an_update_may_be_named_by_xxh128),
        cmocka_unit_test(test_the_digest_of_a_whole),
        cmocka_unit_test(test_states_survive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
