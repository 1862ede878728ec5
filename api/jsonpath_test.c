/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/jsonpath.h"
#include "lib/str.h"

static const char data_text[] =
    "{\"kind\":\"List\",\"i\":42,\"f\":2.5,\"big\":20000000000.5,\"t\":true,\"n\":null,\"e\":[],"
    "\"list\":[{\"name\":\"a\",\"v\":1,\"labels\":{\"app.io/x\":\"1\"},\"conditions\":["
    "{\"type\":\"Ready\",\"status\":\"True\"},{\"type\":\"Other\",\"status\":\"False\"}]},"
    "{\"name\":\"b\",\"v\":20,\"labels\":{},\"conditions\":[]}]}";

/* What the text prints: as kubectl prints it. An error is "!message", one of the text "?message".
 */
static const char *print(struct fl_arena *arena, const char *text,
                         const struct fl_jsonpath_options *options)
{
    FL_CLEANUP(fl_jsonpath_destroyp) struct fl_jsonpath *path = NULL;
    FL_JSON data = NULL;
    struct fl_error err = {0};
    struct fl_buf out;
    const char *printed;

    assert_int_equal(fl_json_parse(data_text, strlen(data_text), NULL, NULL, NULL, &data, &err), 0);
    if (fl_jsonpath_compile(text, options, &path, &err) < 0)
        return fl_arena_printf(arena, "?%s", err.msg);
    fl_buf_init(&out, 0);
    printed = fl_jsonpath_print(path, data, &out, &err) < 0
                  ? fl_arena_printf(arena, "!%s", err.msg)
                  : fl_arena_strdup(arena, fl_buf_text(&out));
    fl_buf_finish(&out);
    return printed;
}

static void test_templates(void **state)
{
    static const struct {
        const char *text, *expected;
    } samples[] = {
        {"{.kind}", "List"},
        {"kind={.kind}, i={.i}", "kind=List, i=42"},
        {"{.f} {.big} {.t} {.n}", "2.5 2.00000000005e+10 true null"},
        {"{.list[0].name}{.list[-1].name}", "ab"},
        {"{.list[*].name}", "a b"},
        {"{.list[0:1].name}{.list[:].v}{.list[::2].v}", "a1 201"},
        {"{$.list[1].name}{@.i}", "b42"},
        {"{.list[0].labels}", "{\"app.io/x\":\"1\"}"},
        {"{.list[0].labels.app\\.io/x}{.list[0]['labels']['app\\.io/x']}", "11"},
        {"{..name}", "a b"},
        {"{.list[*]['name','v']}", "a b 1 20"},
        {"{.list[0,1].v}", "1 20"},
        {"{.list[?(@.name==\"b\")].v}", "20"},
        {"{.list[?(@.name=='b')].v}{.list[?(@.v>1)].name}{.list[?(@.v<=1)].name}", "20ba"},
        {"{.list[?(@.v!=1.5)].name}", "a b"},
        {"{.list[?(@.labels)].name}", "a b"},
        {"{.list[0].conditions[?(@.type==\"Ready\")].status}", "True"},
        {"{range .list[*]}{.name}={.v}{\"\\n\"}{end}", "a=1\nb=20\n"},
        {"{range .list[*]}{range .conditions[*]}{.type},{end};{end}", "Ready,Other,;;"},
        {"{range .e[*]}x{end}y", "y"},
        {"{'a b'}{\"c\\td\"}{5}{true}", "a bc\td5true"},
        {"{.list[0].name .i}", "!i is not found"},
        {"{.missing}", "!missing is not found"},
        {"{.list[5]}", "!array index out of bounds: index 5, length 2"},
        {"{.i[0]}", "!integer is not array or slice"},
        {"{.i[?(@.x==1)]}", "!integer is not array or slice and cannot be filtered"},
        {"{.list[?(@.name==1)]}", "!incompatible types for comparison"},
        {"{.list[::0].v}", "!step must be > 0"},
        {"{.list", "?unclosed action"},
        {"{.list[0}", "?unterminated array"},
        {"{.list[a]}", "?invalid array index a"},
        {"{.list[?(@.x}", "?unterminated filter"},
        {"{.list[?(@.x=!1)]}", "?unrecognized filter operator =!"},
        {"{'a}", "?unterminated quoted string"},
        {"{foo}", "?unrecognized identifier foo"},
        {"{end}", "?not in range, nothing to end"},
        {"{.a....b}", "?invalid multiple recursive descent"},
        {"{#}", "?unrecognized character in action at 1"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_jsonpath_options options = {.is_template = true};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(samples); i++) {
        const char *got = print(arena, samples[i].text, &options);

        if (strcmp(got, samples[i].expected) != 0)
            fail_msg("%s gives %s, not %s", samples[i].text, got, samples[i].expected);
    }
}

static void test_paths(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_jsonpath_options strict = {0}, lax = {.allow_missing = true};

    (void)state;
    assert_string_equal(print(arena, ".i", &strict), "42");
    assert_string_equal(print(arena, "i", &strict), "42");
    assert_string_equal(print(arena, "{.i}", &strict), "42");
    assert_string_equal(print(arena, "list[0].name", &strict), "a");
    assert_string_equal(print(arena, ".nope.deeper", &strict), "!nope is not found");
    assert_string_equal(print(arena, ".nope.deeper", &lax), "");
    assert_string_equal(print(arena, ".list[*].conditions[?(@.nope==1)].type", &lax), "");
}

static void test_eval_lends(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_jsonpath_destroyp) struct fl_jsonpath *path = NULL;
    const struct fl_jsonpath_options options = {0};
    FL_JSON data = NULL;
    const json_t *const *values;
    size_t count;

    (void)state;
    assert_int_equal(fl_json_parse(data_text, strlen(data_text), NULL, NULL, NULL, &data, NULL), 0);
    assert_int_equal(fl_jsonpath_compile(".list[*].name", &options, &path, NULL), 0);
    assert_int_equal(fl_jsonpath_eval(path, data, arena, &values, &count, NULL), 0);
    assert_int_equal(count, 2);
    assert_ptr_equal(values[1],
                     json_object_get(json_array_get(json_object_get(data, "list"), 1), "name"));
}

static void test_bounds(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_jsonpath_options options = {.is_template = true, .allow_missing = true};
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    for (int i = 0; i < 20; i++)
        fl_buf_puts(&text, "{range .e}");
    assert_string_equal(print(arena, fl_buf_text(&text), &options), "?ranges nest deeper than 16");
    fl_buf_clear(&text);
    fl_buf_puts(&text, "{");
    for (int i = 0; i < 20; i++)
        fl_buf_puts(&text, "[?(@");
    assert_int_equal(*print(arena, fl_buf_text(&text), &options), '?');
    fl_buf_clear(&text);
    fl_buf_puts(&text, "{");
    for (int i = 0; i < 12; i++)
        fl_buf_puts(&text, "..['list','list','list','list','list'][*]");
    fl_buf_puts(&text, "}");
    assert_int_equal(*print(arena, fl_buf_text(&text), &options), '\0');
    fl_buf_clear(&text);
    fl_buf_puts(&text, "{");
    for (int i = 0; i < 300; i++)
        fl_buf_puts(&text, "[$,$]"); /* no index, so refused and not doubled 300 times */
    assert_int_equal(*print(arena, fl_buf_text(&text), &options), '?');
    fl_buf_clear(&text);
    fl_buf_puts(&text, "{.list");
    for (int i = 0; i < 150; i++)
        fl_buf_puts(&text, "['name','v','list']..['labels','name']");
    fl_buf_puts(&text, "}");
    assert_int_not_equal(*print(arena, fl_buf_text(&text), &options), '?');
    fl_buf_clear(&text);
    for (int i = 0; i < 9000; i++)
        fl_buf_putc(&text, 'x');
    assert_string_equal(print(arena, fl_buf_text(&text), &options),
                        "?path is longer than 8192 bytes");
    fl_buf_finish(&text);
}

static void test_too_many_results(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_jsonpath_destroyp) struct fl_jsonpath *path = NULL;
    const struct fl_jsonpath_options options = {0};
    FL_JSON data = json_pack("[[]]");
    const json_t *const *values;
    struct fl_error err = {0};
    size_t count;

    (void)state;
    /* each union names the whole list ten times over */
    assert_int_equal(
        fl_jsonpath_compile("$[0,0,0,0,0,0,0,0,0,0][:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,"
                            ":,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:"
                            ",:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,"
                            ":,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:,:]"
                            "..",
                            &options, &path, NULL),
        0);
    for (int i = 0; i < 1000; i++)
        json_array_append_new(json_array_get(data, 0), json_string("x"));
    assert_int_equal(fl_jsonpath_eval(path, data, arena, &values, &count, &err), FL_E_TOO_LARGE);
    assert_string_equal(err.msg, "path has more than 100000 results");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates),        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_eval_lends),       cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_too_many_results),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
