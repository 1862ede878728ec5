#include "lib/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void grows_and_terminates(void **state)
{
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 0);
    assert_string_equal(fl_buf_text(&buf), "");
    for (int i = 0; i < 1000; i++)
        fl_buf_printf(&buf, "%03d", i);
    fl_buf_append(&buf, NULL, 0);
    assert_int_equal(buf.len, 3000);
    assert_int_equal(strlen(buf.data), 3000);
    assert_memory_equal(buf.data + 2991, "997998999", 10);
    fl_buf_clear(&buf);
    assert_string_equal(fl_buf_text(&buf), "");
    fl_buf_puts(&buf, "again");
    assert_string_equal(fl_buf_text(&buf), "again");
    fl_buf_finish(&buf);
    assert_string_equal(fl_buf_text(&buf), "");
}

static void stops_at_its_bound(void **state)
{
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 5);
    fl_buf_puts(&buf, "12345");
    assert_false(buf.overflow);
    fl_buf_putc(&buf, '6');
    assert_true(buf.overflow);
    assert_string_equal(buf.data, "12345");
    fl_buf_append(&buf, "", 0);
    fl_buf_printf(&buf, "x");
    assert_string_equal(buf.data, "12345");
    fl_buf_clear(&buf);
    fl_buf_printf(&buf, "%d", 123456);
    assert_true(buf.overflow);
    assert_int_equal(buf.len, 0);
    fl_buf_finish(&buf);
    assert_int_equal(buf.max, 5);
    assert_false(buf.overflow);
}

static void a_reserve_is_only_a_hint(void **state)
{
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 5);
    fl_buf_reserve(&buf, 1000);
    assert_false(buf.overflow);
    fl_buf_puts(&buf, "12345");
    assert_string_equal(fl_buf_text(&buf), "12345");
    fl_buf_finish(&buf);
}

static void hands_its_memory_over(void **state)
{
    FL_CLEANUP(fl_freep) char *text = NULL;
    FL_CLEANUP(fl_freep) char *empty = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 0);
    fl_buf_append(&buf, "a\0b", 3);
    bytes = fl_buf_to_bytes(&buf);
    assert_int_equal(bytes->len, 3);
    assert_memory_equal(bytes->data, "a\0b", 4);
    text = fl_buf_steal(&buf);
    empty = fl_buf_steal(&buf);
    assert_memory_equal(text, "a\0b", 4);
    assert_string_equal(empty, "");
}

static const struct {
    const char *text;
    size_t len;
    const char *json;
} strings[] = {
    {"", 0, "\"\""},
    {"plain", 5, "\"plain\""},
    {"a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\""},
    {"\n\r\t\b\f\x01\x1f\x7f", 8, "\"\\n\\r\\t\\u0008\\u000c\\u0001\\u001f\x7f\""},
    {"a\0b", 3, "\"a\\u0000b\""},
    {"é日😀", 9, "\"é日😀\""},
    {"\xff", 1, "\"\xEF\xBF\xBD\""},
    {"a\xC3", 2, "\"a\xEF\xBF\xBD\""},
    {"\xC3(", 2, "\"\xEF\xBF\xBD(\""},
    {"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
};

static void escapes_json_strings(void **state)
{
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 0);
    for (size_t i = 0; i < FL_COUNT_OF(strings); i++) {
        fl_buf_clear(&buf);
        fl_buf_json_string(&buf, strings[i].text, strings[i].len);
        assert_string_equal(fl_buf_text(&buf), strings[i].json);
    }
    fl_buf_finish(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_terminates),     cmocka_unit_test(stops_at_its_bound),
        cmocka_unit_test(a_reserve_is_only_a_hint), cmocka_unit_test(hands_its_memory_over),
        cmocka_unit_test(escapes_json_strings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
