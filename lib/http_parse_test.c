#include "lib/http_parse.h"

#include "lib/buf.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

/* The status a head is refused with; 0: it is good; -1: it is not complete. */
static int judge(const char *text, size_t len, struct fl_arena *arena, struct fl_http_head *head)
{
    struct fl_http_fault fault;
    size_t scanned = 0, end = fl_http_head_end(text, len, &scanned, &fault);

    if (fault.status)
        return fault.status;
    if (end == 0)
        return -1;
    return fl_http_head_parse(arena, fl_arena_strndup(arena, text, end), end, 5, head, &fault)
               ? 0
               : fault.status;
}

#define H "Host: a\r\n"

static const struct {
    const char *text;
    int status;
} verdicts[] = {
    {"GET / HTTP/1.1\r\n" H "\r\n", 0},
    {"GET / HTTP/1.0\r\n\r\n", 0},
    {"M-SEARCH /x HTTP/1.1\r\n" H "\r\n", 0},
    {"GET /\xC3\xBC HTTP/1.1\r\n" H "\r\n", 0},
    {"GET / HTTP/1.2\r\n" H "\r\n", 0},
    {"GET / HTTP/1.1\r\n" H "X:\r\nY: \t \r\n\r\n", 0},
    {"GET / HTTP/1.1\r\n" H "X: \xFF\r\n\r\n", 0},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", 0},
    {"GET HTTPS://a:1 HTTP/1.1\r\n" H "\r\n", 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 007\r\n\r\n", 0},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n", 0},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775807\r\n\r\n", 0},
    /* not complete */
    {"", -1},
    {"G", -1},
    {"\r", -1},
    {"GET / HTTP/1.1\r\n" H, -1},
    {"GET / HTTP/1.1\r\n" H "\r", -1},
    /* malformed request lines */
    {"GET /\r\n\r\n", 400},
    {"GET  / HTTP/1.1\r\n" H "\r\n", 400},
    {"GET / HTTP/1.1 \r\n" H "\r\n", 400},
    {"GET / HTTP/1.1\tx\r\n" H "\r\n", 400},
    {" GET / HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /a b HTTP/1.1\r\n" H "\r\n", 400},
    {"GET x HTTP/1.1\r\n" H "\r\n", 400},
    {"GET * HTTP/1.1\r\n" H "\r\n", 400},
    {"GET /#f HTTP/1.1\r\n" H "\r\n", 400},
    {"GET http:///x HTTP/1.1\r\n" H "\r\n", 400},
    {"GET ftp://a/x HTTP/1.1\r\n" H "\r\n", 400},
    {"G(T / HTTP/1.1\r\n" H "\r\n", 400},
    {"GET / http/1.1\r\n" H "\r\n", 400},
    {"GET / HTTP/11\r\n" H "\r\n", 400},
    {"GET / HTTP/1.\r\n" H "\r\n", 400},
    {"GET / HTTP/1.1\r\r\n" H "\r\n", 400},
    {"\x16\x03\x01", 400},
    {"\x80\x01", 400},
    {"GET / HTTP/2.0\r\n" H "\r\n", 505},
    {"PRI * HTTP/2.0\r\n\r\n", 505},
    {"CONNECT a:1 HTTP/1.1\r\n" H "\r\n", 501},
    /* line ends */
    {"GET / HTTP/1.1\n" H "\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400},
    {"\nGET / HTTP/1.1\r\n" H "\r\n", 400},
    /* fields */
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H H "\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "X : a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H " folded\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "X: a\r\n\tfolded\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H ": a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "X\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "X: a\x7F\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" H "A:\r\nB:\r\nC:\r\nD:\r\nE:\r\n\r\n", 431},
    {"GET / HTTP/1.1\r\n" H "Expect: 200-maybe\r\n\r\n", 417},
    /* lengths: the stuff of smuggling */
    {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: -0\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 1 1\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 501},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", 501},
    {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
     400},
    {"POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400},
};

static void test_heads_are_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(verdicts); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_http_head head;
        int status = judge(verdicts[i].text, strlen(verdicts[i].text), arena, &head);

        if (status != verdicts[i].status)
            fail_msg("%d instead of %d for \"%s\"", status, verdicts[i].status, verdicts[i].text);
    }
}

static void test_nul_is_refused_wherever_it_is(void **state)
{
    static const char text[] = "GET /abc HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_http_head head;
        char copy[sizeof(text)];

        memcpy(copy, text, sizeof(text));
        copy[i] = '\0';
        assert_int_equal(judge(copy, sizeof(text) - 1, arena, &head), 400);
    }
}

static void test_a_head_is_taken_apart(void **state)
{
    static const char text[] = "PATCH /a/b?x=1?y HTTP/1.1\r\nhOST:a\r\nX-Y: 1 , 2\t\r\nx-y:3\r\n"
                               "Content-Length: 12\r\nConnection: x, Close ,y\r\n\r\nrest";
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_http_head head;
    size_t at = 0;

    (void)state;
    assert_int_equal(judge(text, sizeof(text) - 1, arena, &head), 0);
    assert_string_equal(head.method, "PATCH");
    assert_string_equal(head.target, "/a/b?x=1?y");
    assert_string_equal(head.path, "/a/b");
    assert_string_equal(head.query, "x=1?y");
    assert_int_equal(head.minor, 1);
    assert_int_equal(head.field_count, 5);
    assert_int_equal(head.content_length, 12);
    assert_false(head.keep_alive || head.chunked || head.expect_continue);
    assert_string_equal(fl_http_head_find(&head, "x-Y", &at), "1 , 2");
    assert_string_equal(fl_http_head_find(&head, "x-Y", &at), "3");
    assert_null(fl_http_head_find(&head, "x-Y", &at));
    at = 0;
    assert_null(fl_http_head_find(&head, "x-", &at));
}

static const struct {
    const char *target, *path, *query;
} absolute[] = {
    {"http://a/x?y", "/x", "y"},     {"http://a", "/", ""}, {"https://a?q", "/", "q"},
    {"HTTP://a:80/", "/", ""},       {"/?", "/", ""},       {"//a/b", "//a/b", ""},
    {"/?http://b", "/", "http://b"},
};

static void test_targets_of_each_form(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(absolute); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_http_head head;
        char text[128];

        (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: b\r\n\r\n",
                       absolute[i].target);
        assert_int_equal(judge(text, strlen(text), arena, &head), 0);
        assert_string_equal(head.path, absolute[i].path);
        assert_string_equal(head.query, absolute[i].query);
    }
}

static void test_the_end_is_found_byte_by_byte(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    struct fl_http_fault fault;
    size_t scanned = 0;

    (void)state;
    for (size_t len = 1; len < sizeof(text) - 1; len++) {
        assert_int_equal(fl_http_head_end(text, len, &scanned, &fault), 0);
        assert_int_equal(fault.status, 0);
    }
    assert_int_equal(fl_http_head_end(text, sizeof(text) - 1, &scanned, &fault), sizeof(text) - 1);
    assert_int_equal(fl_http_blank_prefix("\r\n\r\nG", 5), 4);
    assert_int_equal(fl_http_blank_prefix("\r", 1), 0);
    assert_int_equal(fl_http_blank_prefix("\n", 1), 0);
}

static void test_lists_of_tokens(void **state)
{
    (void)state;
    assert_true(fl_http_list_has("close", "close"));
    assert_true(fl_http_list_has(" , a ,CLOSE\t", "close"));
    assert_false(fl_http_list_has("closed, clos", "close"));
    assert_false(fl_http_list_has("", "close"));
    assert_false(fl_http_list_has(",,, ,", "close"));
}

/* Decodes `text` in pieces of `step` bytes. Returns the bytes taken, or -1: refused, -2: the body
 * goes on. */
static long decode(const char *text, size_t len, size_t step, struct fl_buf *out)
{
    struct fl_http_chunks chunks = {0};
    struct fl_http_fault fault = {0};
    size_t taken = 0;

    fl_buf_clear(out);
    while (taken < len) {
        const char *at = text + taken, *piece;
        size_t left = len - taken < step ? len - taken : step, piece_len;
        enum fl_http_chunk_event event;

        while ((event = fl_http_chunks_next(&chunks, &at, &left, &piece, &piece_len, &fault)) ==
               FL_HTTP_CHUNK_DATA)
            fl_buf_append(out, piece, piece_len);
        taken = (size_t)(at - text);
        if (event == FL_HTTP_CHUNK_FAULT)
            return fault.status == 400 ? -1 : -3;
        if (event == FL_HTTP_CHUNK_END)
            return (long)taken;
    }
    return -2;
}

static const struct {
    const char *text;
    long taken;
    const char *body;
} bodies[] = {
    {"0\r\n\r\n", 5, ""},
    {"0\r\n\r\nGET", 5, ""},
    {"3\r\nabc\r\n0\r\n\r\n", 13, "abc"},
    {"0003;a=\"b\"\r\nabc\r\n00\r\nX: y\r\nZ\r\n\r\n", 32, "abc"},
    {"3 \r\nabc\r\n0\r\n\r\n", 14, "abc"},
    {"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", 35, "01234567890123456789"},
    {"1\r\n\n\r\n0\r\n\r\n", 11, "\n"},
    {"3\r\nab", -2, "ab"},
    {"0\r\n", -2, ""},
    {"0\r\nX: y\r\n", -2, ""},
    {"\r\n", -1, ""},
    {";x\r\n", -1, ""},
    {"g\r\n", -1, ""},
    {"-1\r\n", -1, ""},
    {"+1\r\n", -1, ""},
    {"0x1\r\n", -1, ""},
    {" 1\r\n", -1, ""},
    {"1\na", -1, ""},
    {"1\r\r\na", -1, ""},
    {"1\r\nab\r\n", -1, "a"},
    {"1\r\na\n0\r\n\r\n", -1, "a"},
    {"1\r\na\r0\r\n\r\n", -1, "a"},
    {"1;a\x01\r\n", -1, ""},
    {"0\r\nX\n\r\n", -1, ""},
    {"0\r\nX: \x01\r\n", -1, ""},
    {"fffffffffffffff\r\na", -2, "a"},
    {"ffffffffffffffff\r\na", -1, ""},
    {"0000000000000000000001\r\na", -1, ""},
};

static void test_chunks_in_pieces_of_any_size(void **state)
{
    struct fl_buf out;

    (void)state;
    fl_buf_init(&out, 0);
    for (size_t i = 0; i < FL_COUNT_OF(bodies); i++) {
        size_t len = strlen(bodies[i].text);

        for (size_t step = 1; step <= len; step++) {
            long taken = decode(bodies[i].text, len, step, &out);

            if (taken != bodies[i].taken || !fl_streq(fl_buf_text(&out), bodies[i].body))
                fail_msg("%ld and \"%s\" for \"%s\"", taken, fl_buf_text(&out), bodies[i].text);
        }
    }
    fl_buf_finish(&out);
}

static void test_chunk_overhead_is_bounded(void **state)
{
    struct fl_buf out, text;

    (void)state;
    fl_buf_init(&out, 0);
    fl_buf_init(&text, 0);
    fl_buf_puts(&text, "1;");
    for (int i = 0; i < 300; i++)
        fl_buf_putc(&text, 'x');
    assert_int_equal(decode(text.data, text.len, text.len, &out), -1);
    fl_buf_clear(&text);
    fl_buf_puts(&text, "0\r\n");
    for (int i = 0; i < 2000; i++)
        fl_buf_puts(&text, "X: y\r\n");
    assert_int_equal(decode(text.data, text.len, text.len, &out), -1);
    fl_buf_finish(&out);
    fl_buf_finish(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads_are_judged),
        cmocka_unit_test(test_nul_is_refused_wherever_it_is),
        cmocka_unit_test(test_a_head_is_taken_apart),
        cmocka_unit_test(test_targets_of_each_form),
        cmocka_unit_test(test_the_end_is_found_byte_by_byte),
        cmocka_unit_test(test_lists_of_tokens),
        cmocka_unit_test(test_chunks_in_pieces_of_any_size),
        cmocka_unit_test(test_chunk_overhead_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
