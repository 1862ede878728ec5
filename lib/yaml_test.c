#include "lib/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The expectations here were obtained from sigs.k8s.io/yaml, the library behind kubectl. */

static void assert_yaml_reads(const char *yaml, const char *want)
{
    FL_JSON value = NULL;
    FL_JSON wanted = NULL;
    struct fl_error err = {0};
    struct fl_buf got;

    if (fl_yaml_parse(yaml, strlen(yaml), NULL, &value, &err) < 0)
        fail_msg("%s: %s", yaml, err.msg);
    assert_int_equal(fl_json_parse(want, strlen(want), NULL, NULL, NULL, &wanted, &err), 0);
    fl_buf_init(&got, 0);
    fl_json_write(&got, value);
    if (!json_equal(value, wanted))
        fail_msg("%s: read as %s, not %s", yaml, fl_buf_text(&got), want);
    fl_buf_finish(&got);
}

static void assert_yaml_refused(const char *yaml, size_t len, const struct fl_yaml_limits *limits,
                                int code, const char *message)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    assert_int_equal(fl_yaml_parse(yaml, len, limits, &value, &err), code);
    assert_null(value);
    if (!strstr(err.msg, message))
        fail_msg("%.60s: \"%s\", not \"%s\"", yaml, err.msg, message);
}

/* What stands behind "a: ", and the JSON of the value. */
static const struct {
    const char *yaml, *json;
} values[] = {
    {"yes", "true"},
    {"No", "false"},
    {"ON", "true"},
    {"off", "false"},
    {"y", "true"},
    {"N", "false"},
    {"true", "true"},
    {"TRUE", "true"},
    {"tRUE", "\"tRUE\""},
    {"~", "null"},
    {"null", "null"},
    {"Null", "null"},
    {"nULL", "\"nULL\""},
    {"", "null"},
    {"0", "0"},
    {"-0", "0"},
    {"+7", "7"},
    {"007", "7"},
    {"08", "8"},
    {"0777", "511"},
    {"0o777", "511"},
    {"0O17", "15"},
    {"0o8", "\"0o8\""},
    {"0x1F", "31"},
    {"-0x1f", "-31"},
    {"0x", "\"0x\""},
    {"0xg", "\"0xg\""},
    {"0b101", "5"},
    {"-0b11", "-3"},
    {"0b2", "\"0b2\""},
    {"1_000", "1000"},
    {"1_", "1"},
    {"0x_F", "15"},
    {"_1", "\"_1\""},
    {"9223372036854775807", "9223372036854775807"},
    {"-9223372036854775808", "-9223372036854775808"},
    {"9223372036854775808", "9.223372036854776e+18"},
    {"18446744073709551616", "1.8446744073709552e+19"},
    {"1e3", "1000"},
    {"1E+3", "1000"},
    {"1e-3", "0.001"},
    {"1.", "1"},
    {".5", "0.5"},
    {".5e3", "500"},
    {".1_0", "0.1"},
    {"._1", "\"._1\""},
    {"1_0.5", "10.5"},
    {"1.5e", "\"1.5e\""},
    {"1e999", "\"1e999\""},
    {"1e-999", "0"},
    {"1:30", "\"1:30\""},
    {"190:20:30", "\"190:20:30\""},
    {"1.2.3", "\"1.2.3\""},
    {"..", "\"..\""},
    {"+", "\"+\""},
    {"-.", "\"-.\""},
    {"=", "\"=\""},
    {"2001-01-01", "\"2001-01-01\""},
    {"2001-12-14T21:59:43Z", "\"2001-12-14T21:59:43Z\""},
    {"2001-12-14 21:59:43", "\"2001-12-14 21:59:43\""},
    {"30s", "\"30s\""},
    {"256Mi", "\"256Mi\""},
    {"0.1", "0.1"},
    {"!!str 123", "\"123\""},
    {"!!str yes", "\"yes\""},
    {"!!str", "\"\""},
    {"!!int \"12\"", "12"},
    {"!!float 3", "3"},
    {"!!bool \"yes\"", "true"},
    {"!!null \"\"", "null"},
    {"!!timestamp 2001-01-01", "\"2001-01-01\""},
    {"!!binary aGVsbG8=", "\"hello\""},
    {"!foo 12", "\"12\""},
    {"!foo bar", "\"bar\""},
    {"! 12", "\"12\""},
    {"! \"12\"", "\"12\""},
    {"!!set x", "\"x\""},
    {"\"12\"", "\"12\""},
    {"'yes'", "\"yes\""},
    {"\"null\"", "\"null\""},
    {"\"a\\tb\\u00e9\\x41\\U0001F600\\n\"", "\"a\\tbéA😀\\n\""},
    {"'it''s'", "\"it's\""},
    {"\"x\n  y\"", "\"x y\""},
    {"x\n  y", "\"x y\""},
    {"x #y", "\"x\""},
    {"x#y", "\"x#y\""},
    {"|\n  x\n  y\n", "\"x\\ny\\n\""},
    {"|-\n  x\n", "\"x\""},
    {"|+\n  x\n\n", "\"x\\n\\n\""},
    {">\n  x\n  y\n\n  z\n", "\"x y\\nz\\n\""},
    {"|2\n    x\n", "\"  x\\n\""},
    {"[1, two, [3]]", "[1,\"two\",[3]]"},
    {"{b: 1, c: {d: }}", "{\"b\":1,\"c\":{\"d\":null}}"},
    {"[b: c]", "[{\"b\":\"c\"}]"},
    {"{x, y}", "{\"true\":null,\"x\":null}"},
    {"\n- 1\n- 2", "[1,2]"},
    {"\n  - a: 1\n    b: 2", "[{\"a\":1,\"b\":2}]"},
    {"é", "\"é\""},
};

static void reads_values_as_kubectl_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(values); i++) {
        FL_CLEANUP(fl_freep) char *text = fl_asprintf("a: %s", values[i].yaml);
        FL_CLEANUP(fl_freep) char *want = fl_asprintf("{\"a\":%s}", values[i].json);

        assert_yaml_reads(text, want);
    }
}

static const struct {
    const char *yaml, *json;
} documents[] = {
    {"a: 1", "{\"a\":1}"},
    {"\xEF\xBB\xBF"
     "a: 1",
     "{\"a\":1}"},
    {"# comment\n---\n# more\na: 1\n...\n# end\n", "{\"a\":1}"},
    {"%YAML 1.1\n---\na: 1\n", "{\"a\":1}"},
    {"a: 1\r\nb: 2\r\n", "{\"a\":1,\"b\":2}"},
    {"a:\n- 1\n- b: 2\n  c: 3\n", "{\"a\":[1,{\"b\":2,\"c\":3}]}"},
    {"[]", "[]"},
    {"{}", "{}"},
    {"~", "null"},
    {"- - 1\n  - 2\n", "[[1,2]]"},
    /* JSON, with what only JSON has */
    {" \n{\"a\":\"\\/\\ud83d\\ude00\",\"b\":[1,2.5,true,null]}",
     "{\"a\":\"/😀\",\"b\":[1,2.5,true,null]}"},
    {"{a: yes}", "{\"a\":true}"},
    /* keys become text */
    {"1: a\ntrue: b\n0x10: c\n1.5: d\n2001-01-01: e\n",
     "{\"1\":\"a\",\"1.5\":\"d\",\"16\":\"c\",\"2001-01-01\":\"e\",\"true\":\"b\"}"},
    {"on: a\n1e20: b\n", "{\"1e+20\":\"b\",\"true\":\"a\"}"},
    {"? |\n  two\n  lines\n: b\n", "{\"two\\nlines\\n\":\"b\"}"},
    /* anchors, aliases, merges */
    {"a: &x {b: 1}\nc: *x\n", "{\"a\":{\"b\":1},\"c\":{\"b\":1}}"},
    {"a: &x 1\nb: &x 2\nc: *x\n", "{\"a\":1,\"b\":2,\"c\":2}"},
    {"a: &x [&x 1, *x]\nb: *x\n", "{\"a\":[1,1],\"b\":1}"},
    {"a: &x [&x [1], 2]\nb: *x\n", "{\"a\":[[1],2],\"b\":[1]}"},
    {"&k a: 1\nb: {*k : 2}\n", "{\"a\":1,\"b\":{\"a\":2}}"},
    {"<<: {a: 1}\na: 2\n", "{\"a\":2}"},
    {"a: 2\n<<: {a: 1, b: 3}\n", "{\"a\":1,\"b\":3}"},
    {"x: &x {a: 1}\nw: &y {a: 2, b: 3}\nz:\n  <<: [*x, *y]\n  c: 4\n",
     "{\"x\":{\"a\":1},\"w\":{\"a\":2,\"b\":3},\"z\":{\"a\":1,\"b\":3,\"c\":4}}"},
    {"\"<<\": {a: 1}", "{\"<<\":{\"a\":1}}"},
    {"a: {<<: {b: 1}, b: 2}", "{\"a\":{\"b\":2}}"},
    {"a: !!map {b: 1}\nc: !local [1]\n", "{\"a\":{\"b\":1},\"c\":[1]}"},
};

static void reads_documents(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(documents); i++)
        assert_yaml_reads(documents[i].yaml, documents[i].json);
}

static const struct {
    const char *yaml, *message;
} refused[] = {
    {"a: .inf", "line 1, column 4: infinity and NaN have no JSON form"},
    {"a: .nan", "line 1, column 4: infinity and NaN have no JSON form"},
    {"a: !!int abc", "line 1, column 4: cannot read str \"abc\" as int"},
    {"a: !!null x", "line 1, column 4: cannot read str \"x\" as null"},
    {"a: !!bool 1", "line 1, column 4: cannot read int \"1\" as bool"},
    {"a: !!int 1.5", "line 1, column 4: cannot read float \"1.5\" as int"},
    {"a: !!timestamp foo", "line 1, column 4: cannot read str \"foo\" as timestamp"},
    {"a: !!binary a", "line 1, column 4: !!binary value is not base64"},
    {"a: !!binary /w==", "line 1, column 4: text that is not UTF-8"},
    {"a: \"\\0\"", "line 1, column 4: a NUL character in text"},
    {"a: @x", "line 1, column 4: found character that cannot start any token"},
    {"a: b: c", "line 1, column 5: mapping values are not allowed in this context"},
    {"a: [1, 2", "did not find expected ',' or ']', while parsing a flow sequence"},
    {"a: \"x", "found unexpected end of stream, while scanning a quoted scalar"},
    {"a:\n\tb: 1", "line 2, column 1: found character that cannot start any token"},
    {"a: |\n\tx", "line 2, column 1: found a tab character"},
    {"a: 1\nb: \x01", "line 2, column 4: control characters are not allowed"},
    {"a: 1\nb: \xff", "line 2, column 4: invalid leading UTF-8 octet"},
    {"a: 1\nb: 2\na: 3", "line 3, column 1: key \"a\" is already set in this mapping"},
    {"1: a\n\"1\": b", "line 2, column 1: key \"1\" is already set in this mapping"},
    {"{\"a\":1,\"a\":2}", "line 1, column 8: key \"a\" is already set in this mapping"},
    {"<<: {a: 1}\nb: 1\nb: 2", "line 3, column 1: key \"b\" is already set in this mapping"},
    {"a: *x", "line 1, column 4: unknown anchor \"x\""},
    {"a: &x [*x]", "line 1, column 8: anchor \"x\" contains itself"},
    {"&x a: *x\nb: &y\n  c: *y\n", "line 3, column 6: anchor \"y\" contains itself"},
    {"<<: 1", "a merge needs a mapping or a list of mappings"},
    {"<<: [{a: 1}, 1]", "a merge needs mappings"},
    {"~: a", "a key that is not text, number or boolean"},
    {"? [a]\n: b", "a key that is not text, number or boolean"},
    {"", "no document, where one is expected"},
    {"# only a comment\n---\n", "no document, where one is expected"},
    {"a: 1\n---\nb: 2\n", "line 3: a second document, where one is expected"},
};

static void refuses_with_position(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(refused); i++)
        assert_yaml_refused(refused[i].yaml, strlen(refused[i].yaml), NULL, FL_E_BAD_REQUEST,
                            refused[i].message);
}

/* Several documents. */

struct seen {
    struct fl_buf text;
    size_t stop_at; /* line */
};

static int see(void *user, json_t *value, size_t line, struct fl_error *err)
{
    struct seen *seen = user;

    if (line == seen->stop_at)
        return fl_error_set(err, FL_E_CONFLICT, "stop");
    fl_buf_printf(&seen->text, "%zu:", line);
    fl_json_write(&seen->text, value);
    fl_buf_putc(&seen->text, ' ');
    return 0;
}

static void check_stream(const char *text, size_t stop_at, int want_code, const char *want)
{
    struct seen seen = {.stop_at = stop_at};
    struct fl_error err = {0};

    assert_int_equal(fl_yaml_parse_all(text, strlen(text), NULL, see, &seen, &err), want_code);
    assert_string_equal(fl_buf_text(&seen.text), want);
    fl_buf_finish(&seen.text);
}

static void delivers_each_document(void **state)
{
    (void)state;
    check_stream("a: 1\n---\nb: 2\n", 0, 0, "1:{\"a\":1} 3:{\"b\":2} ");
    check_stream("# c\n---\n# c\n---\na: 1\n...\n---\n...\n", 0, 0, "5:{\"a\":1} ");
    check_stream("", 0, 0, "");
    check_stream("---\n---\n", 0, 0, "");
    check_stream("---\n{\"a\":1}\n---\n[2]\n", 0, 0, "2:{\"a\":1} 4:[2] ");
    check_stream("\n\n{\"a\":1}", 0, 0, "3:{\"a\":1} ");
    check_stream("a: 1\n---\nb: [\n", 0, FL_E_BAD_REQUEST, "1:{\"a\":1} ");
    check_stream("a: 1\n---\nb: 2\n---\nc: 3\n", 3, FL_E_CONFLICT, "1:{\"a\":1} ");
    /* an anchor ends with its document */
    check_stream("a: &x 1\n---\nb: *x\n", 0, FL_E_BAD_REQUEST, "1:{\"a\":1} ");
}

/* Bounds. */

static void bounds_size_depth_values_documents(void **state)
{
    const struct fl_yaml_limits bytes = {.max_bytes = 4}, depth = {.max_depth = 2};
    const struct fl_yaml_limits nodes = {.max_nodes = 4}, documents_2 = {.max_documents = 2};
    struct seen seen = {0};
    struct fl_error err;

    (void)state;
    assert_yaml_refused("a: 12", 5, &bytes, FL_E_TOO_LARGE, "YAML of 5 bytes, the limit is 4");
    assert_yaml_refused("[[[1]]]", 7, &depth, FL_E_BAD_REQUEST,
                        "line 1, column 3: nesting deeper than 2 levels");
    assert_yaml_refused("{\"a\":[[1]]}", 11, &depth, FL_E_BAD_REQUEST, "nesting deeper");
    assert_yaml_refused("[1,2,3,4]", 9, &nodes, FL_E_TOO_LARGE, "more than 4 values");
    assert_int_equal(fl_yaml_parse_all("--- 1\n--- 2\n--- 3\n", 18, &documents_2, see, &seen, &err),
                     FL_E_TOO_LARGE);
    assert_string_equal(fl_buf_text(&seen.text), "1:1 2:2 ");
    fl_buf_finish(&seen.text);
}

static void bounds_what_aliases_expand_to(void **state)
{
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    fl_buf_puts(&text, "a0: &a0 [lol]\n");
    for (int i = 1; i < 10; i++)
        fl_buf_printf(&text, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
                      i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    assert_yaml_refused(text.data, text.len, NULL, FL_E_TOO_LARGE, "more than 1000000 values");

    /* Few values, but each of them long. */
    fl_buf_clear(&text);
    fl_buf_puts(&text, "a: &a ");
    for (int i = 0; i < 100000; i++)
        fl_buf_puts(&text, "long text ");
    fl_buf_puts(&text, "\nb: [*a, *a, *a, *a]\n");
    assert_yaml_refused(text.data, text.len, NULL, FL_E_TOO_LARGE, "aliases expand to too much");

    fl_buf_clear(&text);
    for (int i = 0; i < 101; i++)
        fl_buf_printf(&text, "%%TAG !a%d! b\n", i);
    fl_buf_puts(&text, "---\na: 1\n");
    assert_yaml_refused(text.data, text.len, NULL, FL_E_TOO_LARGE, "more than 100 %TAG");

    /* An alias below the bound on depth, to something that passes it. */
    assert_yaml_refused("a: &a [[1]]\nb: [*a]\n", 20, &(struct fl_yaml_limits){.max_depth = 3},
                        FL_E_BAD_REQUEST, "nesting deeper than 3 levels");
    fl_buf_finish(&text);
}

static void aliases_are_copies(void **state)
{
    FL_JSON value = NULL;

    (void)state;
    assert_int_equal(fl_yaml_parse("a: &x {b: 1}\nc: *x\n", 19, NULL, &value, NULL), 0);
    (void)json_object_set_new(json_object_get(value, "a"), "b", json_integer(2));
    assert_int_equal(fl_json_int(value, "c.b", 0), 1);
}

/* Writing. */

static const struct {
    const char *json, *yaml;
} written[] = {
    {"{\"k\": \"a b\"}", "k: a b\n"},
    {"{\"k\": \"a: b\"}", "k: 'a: b'\n"},
    {"{\"k\": \"a #b\"}", "k: 'a #b'\n"},
    {"{\"k\": \"a#b\"}", "k: a#b\n"},
    {"{\"k\": \"- a\"}", "k: '- a'\n"},
    {"{\"k\": \"-a\"}", "k: -a\n"},
    {"{\"k\": \"-\"}", "k: '-'\n"},
    {"{\"k\": \"@a\"}", "k: '@a'\n"},
    {"{\"k\": \"%a\"}", "k: '%a'\n"},
    {"{\"k\": \"it's\"}", "k: it's\n"},
    {"{\"k\": \"it's: x\"}", "k: 'it''s: x'\n"},
    {"{\"k\": \"a\\\"b\"}", "k: a\"b\n"},
    {"{\"k\": \"\\\\\"}", "k: \\\n"},
    {"{\"k\": \" a\"}", "k: ' a'\n"},
    {"{\"k\": \"a \"}", "k: 'a '\n"},
    {"{\"k\": \"a\\tb\"}", "k: \"a\\tb\"\n"},
    {"{\"k\": \"true\"}", "k: \"true\"\n"},
    {"{\"k\": \"y\"}", "k: \"y\"\n"},
    {"{\"k\": \"~\"}", "k: \"~\"\n"},
    {"{\"k\": \"\"}", "k: \"\"\n"},
    {"{\"k\": \"1\"}", "k: \"1\"\n"},
    {"{\"k\": \"0x1\"}", "k: \"0x1\"\n"},
    {"{\"k\": \"1_000\"}", "k: \"1_000\"\n"},
    {"{\"k\": \"1e3\"}", "k: \"1e3\"\n"},
    {"{\"k\": \"0o8\"}", "k: 0o8\n"},
    {"{\"k\": \"30s\"}", "k: 30s\n"},
    {"{\"k\": \".5\"}", "k: \".5\"\n"},
    {"{\"k\": \".inf\"}", "k: \".inf\"\n"},
    {"{\"k\": \"<<\"}", "k: <<\n"},
    {"{\"k\": \"=\"}", "k: =\n"},
    {"{\"k\": \"1:30\"}", "k: \"1:30\"\n"},
    {"{\"k\": \"1:60\"}", "k: 1:60\n"},
    {"{\"k\": \"2001-01-01\"}", "k: \"2001-01-01\"\n"},
    {"{\"k\": \"2026-01-02T03:04:05Z\"}", "k: \"2026-01-02T03:04:05Z\"\n"},
    {"{\"k\": \"2001-02-29\"}", "k: 2001-02-29\n"},
    {"{\"k\": \"{}\"}", "k: '{}'\n"},
    {"{\"k\": \"[x\"}", "k: '[x'\n"},
    {"{\"k\": \"é\"}", "k: é\n"},
    {"{\"k\": \"😀\"}", "k: \"\\U0001F600\"\n"},
    {"{\"k\": \"\\u0007\"}", "k: \"\\a\"\n"},
    {"{\"k\": \"---\"}", "k: '---'\n"},
    {"{\"k\": \"a\\nb\"}", "k: |-\n  a\n  b\n"},
    {"{\"k\": \"a\\nb\\n\"}", "k: |\n  a\n  b\n"},
    {"{\"k\": \"a\\n\\n\"}", "k: |+\n  a\n\n"},
    {"{\"k\": \"\\n\"}", "k: |2+\n\n"},
    {"{\"k\": \" a\\nb\"}", "k: |2-\n   a\n  b\n"},
    {"{\"k\": \"a \\nb\"}", "k: \"a \\nb\"\n"},
    {"{\"k\": \"a\\n  b\\n\"}", "k: |\n  a\n    b\n"},
    {"{\"k\": \"#!/bin/sh\\necho\\n\"}", "k: |\n  #!/bin/sh\n  echo\n"},
    {"{\"k\": \"\\ttab\\nx\\n\"}", "k: \"\\ttab\\nx\\n\"\n"},
    {"{}", "{}\n"},
    {"[]", "[]\n"},
    {"{\"a\": {}, \"b\": []}", "a: {}\nb: []\n"},
    {"{\"a\": [{\"b\": 1, \"c\": [1, 2]}, {\"d\": null}]}",
     "a:\n- b: 1\n  c:\n  - 1\n  - 2\n- d: null\n"},
    {"{\"a\": [[1], []]}", "a:\n- - 1\n- []\n"},
    {"[[1, [2]]]", "- - 1\n  - - 2\n"},
    {"{\"a2\": 1, \"a10\": 2, \"a1\": 3, \"A\": 6, \"_\": 8, \"1\": 9, \"y\": 1, \"aB\": 2, "
     "\"a-b\": 3}",
     "_: 8\n\"1\": 9\nA: 6\na-b: 3\na1: 3\na2: 1\na10: 2\naB: 2\n\"y\": 1\n"},
    {"{\"a0\": 1, \"a00\": 2, \"a100\": 3, \"a01\": 4}", "a0: 1\na00: 2\na01: 4\na100: 3\n"},
    {"{\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\": 1}",
     "? "
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n: 1\n"},
    {"{\"k\\nl\": 1}", "? |-\n  k\n  l\n: 1\n"},
    {"\"x\"", "x\n"},
    {"\"a\\nb\\n\"", "|\n  a\n  b\n"},
    {"null", "null\n"},
    {"1.5", "1.5\n"},
    {"123456.5", "123456.5\n"},
    {"1234567.5", "1.2345675e+06\n"},
    {"1e-05", "1e-05\n"},
    {"1e+21", "1e+21\n"},
    {"-1.25e-07", "-1.25e-07\n"},
    {"1000000", "1000000\n"},
    {"{\"m\": \"The node was low on resource: ephemeral-storage. Container x was using 123Ki, "
     "which exceeds its request of 0.\"}",
     "m: 'The node was low on resource: ephemeral-storage. Container x was using 123Ki,\n  which "
     "exceeds its request of 0.'\n"},
    {"{\"m\": \"word word word word word word word word word word word word word word word word "
     "word word word word word word word word\"}",
     "m: word word word word word word word word word word word word word word word word\n  word "
     "word word word word word word word\n"},
    /* kubectl prints these bare, and could not read them back */
    {"{\"<<\":1}", "\"<<\": 1\n"},
    {"{\"k\":\"\\u007f\"}", "k: \"\\x7F\"\n"},
};

static void writes_as_kubectl_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(written); i++) {
        FL_JSON value = NULL;
        struct fl_buf out;

        assert_int_equal(
            fl_json_parse(written[i].json, strlen(written[i].json), NULL, NULL, NULL, &value, NULL),
            0);
        fl_buf_init(&out, 0);
        fl_yaml_write(&out, value);
        assert_string_equal(fl_buf_text(&out), written[i].yaml);
        assert_yaml_reads(fl_buf_text(&out), written[i].json);
        fl_buf_finish(&out);
    }
}

static void writes_broken_text_as_replacement(void **state)
{
    FL_JSON value = json_pack("{s:o}", "k",
                              json_stringn_nocheck("a\xff"
                                                   "b",
                                                   3));
    struct fl_buf out;

    (void)state;
    fl_buf_init(&out, 0);
    fl_yaml_write(&out, value);
    assert_string_equal(fl_buf_text(&out), "k: a\xEF\xBF\xBD"
                                           "b\n");
    fl_buf_finish(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values_as_kubectl_does),
        cmocka_unit_test(reads_documents),
        cmocka_unit_test(refuses_with_position),
        cmocka_unit_test(delivers_each_document),
        cmocka_unit_test(bounds_size_depth_values_documents),
        cmocka_unit_test(bounds_what_aliases_expand_to),
        cmocka_unit_test(aliases_are_copies),
        cmocka_unit_test(writes_as_kubectl_does),
        cmocka_unit_test(writes_broken_text_as_replacement),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
