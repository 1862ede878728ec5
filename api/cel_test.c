/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "api/cel.h"
#include "api/schema.h"
#include "lib/str.h"

/* What the expression gives for `self` (and `oldSelf`), as text: true, false, the string in
 * quotes, "other", "!message" of an evaluation that failed, "?message" of a compilation. */
static const char *run(struct fl_arena *arena, const char *expression, const char *self,
                       const char *old, const struct fl_schema_node *node)
{
    static const char *const names[] = {"self", "oldSelf"};
    const struct fl_schema_node *nodes[] = {node, node};
    struct fl_cel_options options = {.variables = names, .variable_count = 2, .nodes = nodes};
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *program = NULL;
    FL_JSON self_json = NULL;
    FL_JSON old_json = NULL;
    struct fl_error err = {0};
    struct fl_cel_result result;
    uint64_t cost = 0;

    if (fl_cel_compile(expression, &options, &program, &err) < 0)
        return fl_arena_printf(arena, "?%s", err.msg);
    if (self)
        assert_int_equal(fl_json_parse(self, strlen(self), NULL, NULL, NULL, &self_json, &err), 0);
    if (old)
        assert_int_equal(fl_json_parse(old, strlen(old), NULL, NULL, NULL, &old_json, &err), 0);
    struct fl_cel_binding bindings[] = {
        {"self", self_json, node, false},
        {"oldSelf", old_json, node, !old},
    };
    if (fl_cel_eval(program, bindings, 2, arena, &cost, 100000, &result, &err) < 0)
        return fl_arena_printf(arena, "!%s", err.msg);
    if (result.type == FL_CEL_BOOL)
        return result.boolean ? "true" : "false";
    return result.type == FL_CEL_STRING ? fl_arena_printf(arena, "'%s'", result.string) : "other";
}

struct sample {
    const char *expression, *self, *expected;
};

static void check(const struct sample *samples, size_t count)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    for (size_t i = 0; i < count; i++) {
        const char *got = run(arena, samples[i].expression, samples[i].self, NULL, NULL);

        if (strcmp(got, samples[i].expected) != 0)
            fail_msg("%s\n  on %s\n  gives %s\n  not   %s", samples[i].expression,
                     fl_str_or(samples[i].self, "nothing"), got, samples[i].expected);
    }
}

static void test_language(void **state)
{
    static const struct sample samples[] = {
        {"self.a + 1 == 3", "{\"a\":2}", "true"},
        {"self.a.b.c", "{\"a\":{\"b\":{\"c\":\"x\"}}}", "'x'"},
        {"self.missing", "{}", "!no such key: missing"},
        {"self['missing'] == 1", "{}", "!no such key: missing"},
        {"has(self.a) && !has(self.b)", "{\"a\":null}", "true"},
        {"self.missing || true", "{}", "true"},
        {"true || self.missing", "{}", "true"},
        {"self.missing && false", "{}", "false"},
        {"self.missing && true", "{}", "!no such key: missing"},
        {"dyn(1) || true", NULL, "true"},
        {"dyn(1) || false", NULL, "!no such overload"},
        {"true ? 'a' : string(1 / 0)", NULL, "'a'"},
        {"1/0 == 1", NULL, "!division by zero"},
        {"1 % 0 == 1", NULL, "!modulus by zero"},
        {"9223372036854775807 + 1 > 0", NULL, "!integer overflow"},
        {"-9223372036854775808 - 1 > 0", NULL, "!integer overflow"},
        {"-(-9223372036854775808) > 0", NULL, "!integer overflow"},
        {"-9223372036854775808 / -1 > 0", NULL, "!integer overflow"},
        {"1u - 2u > 0u", NULL, "!unsigned integer overflow"},
        {"1 < 1.5 && 2u > 1.5 && dyn(1) == 1.0 && dyn(1u) == 1", NULL, "true"},
        {"9223372036854775807 < 9223372036854775808.0", NULL, "true"},
        {"-1 < 1u", NULL, "true"},
        {"1.0 / 0.0 > 1e308", NULL, "true"},
        {"0.0 / 0.0 == 0.0 / 0.0", NULL, "false"},
        {"1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 - 2 - 1 == 4", NULL, "true"},
        {"0x10 == 16 && 1e2 == 100.0 && .5 == 0.5", NULL, "true"},
        {"'a' + \"b\" + r'\\n' + '\\x41\\u00e9\\101'", NULL,
         "'ab\\nA\xC3\xA9"
         "A'"},
        {"'''a\n'b'''", NULL, "'a\n'b'"},
        {"b'\\xff' == b'\\377'", NULL, "true"},
        {"[1, 2] + [3] == [1, 2, 3]", NULL, "true"},
        {"{'a': 1}['a'] == 1 && {1: 'x'}[dyn(1.0)] == 'x'", NULL, "true"},
        {"{'a': 1, 'a': 2} == {'a': 2}", NULL, "true"},
        {"[1, 2].transformMapEntry(i, v, {'a': i}) == {}", NULL,
         "!insert failed: key already exists"},
        {"[1, 2][2] == 1", NULL, "!index out of bounds: 2"},
        {"2 in [1, 2] && !('c' in {'a': 1}) && 'a' in self", "{\"a\":1}", "true"},
        {"dyn('a') == 1", NULL, "false"},
        {"'a' < 'b' && 'B' < 'a' && b'a' < b'b' && false < true", NULL, "true"},
        {"dyn([1]) < [2]", NULL,
         "?<input>:1:10: found no matching overload for '_<_' applied to "
         "'(dyn, list(int))'"},
        {"dyn([1]) < dyn([2])", NULL, "!no such overload"},
        {"!true", NULL, "false"},
        {"!!true", NULL, "true"},
        {"!dyn(1)", NULL, "!no such overload"},
        {"self", "\"x\"", "'x'"},
        {"self == {'a': [dyn(1), {'b': null}]}", "{\"a\":[1,{\"b\":null}]}", "true"},
        {"type(self.a) == int && type(1.0) == double && type(type(1)) == type", "{\"a\":1}",
         "true"},
        {"type(timestamp('2024-01-01T00:00:00Z')) == google.protobuf.Timestamp", NULL, "true"},
        {"dyn(1) == 1 // a comment", NULL, "true"},
        {"self.if", "{\"if\":\"x\"}", "'x'"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

static void test_macros(void **state)
{
    static const struct sample samples[] = {
        {"self.all(x, x > 1)", "[2,3]", "true"},
        {"self.all(x, x > 2)", "[2,3]", "false"},
        {"self.all(x, x / 0 > 1 || true)", "[1]", "true"},
        {"[0, 1].all(x, 1 / x > 1)", NULL, "false"},
        {"[0, 2].exists(x, 2 / x == 1)", NULL, "true"},
        {"[0, 2].exists(x, 2 / x == 3)", NULL, "!division by zero"},
        {"[1, 2, 2].exists_one(x, x == 2)", NULL, "false"},
        {"[1, 2].exists_one(x, x == 2)", NULL, "true"},
        {"[0, 1].exists_one(x, 1 / x == 1)", NULL, "!division by zero"},
        {"[1, 2].map(x, x * 2) == [2, 4]", NULL, "true"},
        {"[1, 2].map(x, x > 1, x * 2) == [4]", NULL, "true"},
        {"[1, 2].filter(x, x > 1) == [2]", NULL, "true"},
        {"self.all(k, k.startsWith('a'))", "{\"a\":1,\"ab\":2}", "true"},
        {"self.map(k, self[k]).sum() == 3", "{\"a\":1,\"b\":2}", "true"},
        {"[[1], [2]].all(x, x.all(y, y > 0 && x[0] == y))", NULL, "true"},
        {"[1].all(self, self == 1)", "{}", "true"},
        {"[5, 6].all(i, v, v == i + 5)", NULL, "true"},
        {"{'a': 1}.all(k, v, k == 'a' && v == 1)", NULL, "true"},
        {"{'a': 1}.transformMap(k, v, v + 1) == {'a': 2}", NULL, "true"},
        {"{'a': 1, 'b': 2}.transformMapEntry(k, v, v > 1, {v: k}) == {2: 'b'}", NULL, "true"},
        {"[3, 4].transformList(i, v, i > 0, i + v) == [5]", NULL, "true"},
        {"dyn(1).all(x, true)", NULL, "!no such overload"},
        {"self.all(x, y)", "[]", "?<input>:1:13: undeclared reference to 'y' (in container '')"},
        {"has(self)", NULL, "?<input>:1:5: invalid argument to has() macro"},
        {"[1].all(a.b, true)", NULL, "?<input>:1:10: argument must be a simple name"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

static void test_compile_errors(void **state)
{
    static const struct sample samples[] = {
        {"foo == 1", NULL, "?<input>:1:1: undeclared reference to 'foo' (in container '')"},
        {"self.foo()", NULL, "?<input>:1:9: undeclared reference to 'foo' (in container '')"},
        {"self ==\n  $", NULL, "?<input>:2:3: unexpected character"},
        {"'a", NULL, "?<input>:1:1: string without an end"},
        {"'\\q'", NULL, "?<input>:1:4: unknown escape"},
        {"9223372036854775808", NULL, "?<input>:1:1: invalid int literal"},
        {"1 +", NULL, "?<input>:1:4: unexpected 'end of expression'"},
        {"1 2", NULL, "?<input>:1:3: expected end of expression, got 'a number'"},
        {"(1", NULL, "?<input>:1:3: expected ')', got 'end of expression'"},
        {"size(1, 2)", NULL,
         "?<input>:1:5: found no matching overload for 'size' applied to '(int, int)'"},
        {"for", NULL, "?<input>:1:1: 'for' is no name"},
        {"'a'.matches('(')", NULL,
         "?<input>:1:13: invalid matches argument: error parsing regexp: missing closing "
         "): `(`"},
        {"'a'.matches('(?=a)')", NULL,
         "?<input>:1:13: invalid matches argument: error parsing regexp: invalid or unsupported "
         "Perl syntax: `(?=`"},
        {"duration('1x') == duration('1s')", NULL, "?<input>:1:10: invalid duration argument"},
        {"timestamp('today') < timestamp(0)", NULL, "?<input>:1:11: invalid timestamp argument"},
        {"Foo{a: 1}", NULL, "?<input>:1:4: message literals are not supported"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

static void test_strings(void **state)
{
    static const struct sample samples[] = {
        {"self.startsWith('ab') && self.endsWith('bc') && self.contains('b')", "\"abc\"", "true"},
        {"size(self) == 2 && self.size() == 2", "\"\xC3\xA9z\"", "true"},
        {"self.charAt(1)", "\"\xC3\xA9z\"", "'z'"},
        {"self.charAt(2)", "\"\xC3\xA9z\"", "''"},
        {"self.charAt(3)", "\"\xC3\xA9z\"", "!index out of range: 3"},
        {"'hello mellow'.indexOf('ello') == 1 && 'hello mellow'.lastIndexOf('ello') == 7 && "
         "'hello mellow'.indexOf('ello', 2) == 7 && 'a'.indexOf('z') == -1",
         NULL, "true"},
        {"'tacocat'.substring(4)", NULL, "'cat'"},
        {"'tacocat'.substring(0, 4)", NULL, "'taco'"},
        {"'tacocat'.substring(-1)", NULL, "!index out of range: -1"},
        {"'AbC'.lowerAscii() + 'AbC'.upperAscii()", NULL, "'abcABC'"},
        {"' \\t a b\\n'.trim()", NULL, "'a b'"},
        {"'hello hello'.replace('he', 'we')", NULL, "'wello wello'"},
        {"'hello hello'.replace('he', 'we', 1)", NULL, "'wello hello'"},
        {"'abc'.replace('', '-')", NULL, "'-a-b-c-'"},
        {"'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']", NULL,
         "true"},
        {"'ab'.split('') == ['a', 'b'] && ''.split(',') == ['']", NULL, "true"},
        {"['a', 'b'].join('-') + ['c'].join()", NULL, "'a-bc'"},
        {"'abc'.matches('^a.c$') && !'ab'.matches('^b')", NULL, "true"},
        {"'abc 123'.find('[0-9]+') + 'x'.find('[0-9]+')", NULL, "'123'"},
        {"'1 22 333'.findAll('[0-9]+') == ['1', '22', '333']", NULL, "true"},
        {"'1 22 333'.findAll('[0-9]+', 2) == ['1', '22']", NULL, "true"},
        {"'a'.matches(self)", "\"(\"", "!error parsing regexp: missing closing ): `(`"},
        {"'%s %d %x %o %b'.format(['a', 12, 255, 8, 5])", NULL, "'a 12 ff 10 101'"},
        {"'%.2f %s %%'.format([3.14159, [1, 'b', 2.5]])", NULL, "'3.14 [1, \"b\", 2.500000] %'"},
        {"'%s'.format([{'b': 1, 'a': true}])", NULL, "'{\"a\":true, \"b\":1}'"},
        {"'%d'.format(['a'])", NULL,
         "!decimal clause can only be used on integers, was given string"},
        {"string(base64.decode(base64.encode(b'hello')))", NULL, "'hello'"},
        {"strings.quote('a\"b\\n')", NULL, "'\"a\\\"b\\n\"'"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

static void test_conversions(void **state)
{
    static const struct sample samples[] = {
        {"int('12') == 12 && int(3.9) == 3 && int(-3.9) == -3 && int(5u) == 5", NULL, "true"},
        {"int('x') == 1", NULL, "!strconv.ParseInt: parsing \"x\": invalid syntax"},
        {"int(1e30) == 1", NULL, "!integer overflow"},
        {"uint(-1) == 1u", NULL, "!unsigned integer overflow"},
        {"double('0.1') == 0.1 && double(2) == 2.0", NULL, "true"},
        {"double('x') == 1.0", NULL, "!type conversion error from 'string' to 'double'"},
        {"string(1) + string(1.5) + string(1e6) + string(true) + string(0.00001)", NULL,
         "'11.51e+06true1e-05'"},
        {"bool('true') && !bool('f')", NULL, "true"},
        {"string(duration('1h30m')) + string(duration('-1.5s'))", NULL, "'5400s-1.5s'"},
        {"duration('1h') == duration('60m') && duration('1h').getMinutes() == 60", NULL, "true"},
        {"string(timestamp('2024-02-29T12:00:00.5+02:00'))", NULL, "'2024-02-29T12:00:00.5+02:00'"},
        {"timestamp('2024-03-01T00:00:00Z') - timestamp('2024-02-29T00:00:00Z') == "
         "duration('24h')",
         NULL, "true"},
        {"timestamp('2024-03-01T23:00:00Z').getDayOfWeek('+02:00') == 6 && "
         "timestamp('2024-03-01T00:00:00Z').getMonth() == 2",
         NULL, "true"},
        {"timestamp(0) + duration('1s') == timestamp(1) && int(timestamp(7)) == 7", NULL, "true"},
        {"timestamp('9999-12-31T23:59:59Z') + duration('1s') > timestamp(0)", NULL,
         "!timestamp overflow"},
        {"string(dyn([1]))", NULL, "!type conversion error from 'list' to 'string'"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

static void test_libraries(void **state)
{
    static const struct sample samples[] = {
        {"[1, 2, 2].isSorted() && ![2, 1].isSorted() && [1, 3].sum() == 4 && [].sum() == 0", NULL,
         "true"},
        {"['b', 'a'].min() == 'a' && [1, 3].max() == 3 && [1, 2, 1].lastIndexOf(1) == 2", NULL,
         "true"},
        {"self.min() == 1", "[]", "!min called on empty list"},
        {"sets.contains([1, 2], [2]) && sets.equivalent([1, 2, 2], [2, 1]) && "
         "!sets.intersects([1], [2])",
         NULL, "true"},
        {"quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1500m').compareTo("
         "quantity('1.5')) == 0 && isQuantity('2e3') && !isQuantity('2x')",
         NULL, "true"},
        {"quantity('2Ki').asInteger() == 2048 && quantity('500m').asApproximateFloat() == 0.5 && "
         "quantity('1').add(quantity('500m')).sub(1) == quantity('0.5') && sign(quantity('-1')) == "
         "-1 && !quantity('1m').isInteger()",
         NULL, "true"},
        {"quantity('1m').asInteger() == 1", NULL, "!cannot convert value to integer"},
        {"url('https://user@example.com:80/a%20b?x=1&x=2').getHost()", NULL, "'example.com:80'"},
        {"url('https://[::1]:80/').getHostname() == '::1' && "
         "url('https://h/p?a=b&a=c').getQuery()['a'] == ['b', 'c'] && !isURL('a b')",
         NULL, "true"},
        {"cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0."
         "1')) && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && ip('::1').isLoopback()",
         NULL, "true"},
        {"string(cidr('10.1.2.3/8').masked()) + string(ip('::1')) + string(ip.isCanonical("
         "'0:0::1'))",
         NULL, "'10.0.0.0/8::1false'"},
        {"isIP('1.2.3.256') || isIP('::ffff:1.2.3.4') || isCIDR('1.2.3.4/33')", NULL, "false"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

static void test_optionals(void **state)
{
    static const struct sample samples[] = {
        {"self.?a.orValue('none')", "{\"a\":\"x\"}", "'x'"},
        {"self.?b.c.orValue('none')", "{\"a\":\"x\"}", "'none'"},
        {"self[?'a'].hasValue() && !self.?b.hasValue()", "{\"a\":1}", "true"},
        {"optional.of(1).value() == 1 && optional.none().or(optional.of(2)).value() == 2", NULL,
         "true"},
        {"optional.none().value() == 1", NULL, "!optional.none() dereference"},
        {"optional.of(3).optMap(x, x + 1).value() == 4 && "
         "!optional.none().optFlatMap(x, optional.of(x)).hasValue()",
         NULL, "true"},
        {"[?self.?a, ?self.?b] == [1] && {?'x': self.?b} == {}", "{\"a\":1}", "true"},
        {"[1][?3].orValue(5) == 5 && [?optional.none(), 1].size() == 1", NULL, "true"},
        {"oldSelf.hasValue()", NULL, "false"},
        {"optional.of(1) == optional.of(1) && optional.none() != optional.of(1)", NULL, "true"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

static void test_escaped_names(void **state)
{
    static const struct sample samples[] = {
        {"self.a__dot__b__dash__c", "{\"a.b-c\":\"x\"}", "'x'"},
        {"self.__namespace__", "{\"namespace\":\"x\"}", "'x'"},
        {"self.a__slash__b + self.a__underscores__b", "{\"a/b\":\"x\",\"a__b\":\"y\"}", "'xy'"},
        {"has(self.x__dash__y) && !has(self.x__dot__y)", "{\"x-y\":1}", "true"},
    };

    (void)state;
    check(samples, FL_COUNT_OF(samples));
}

/* A schema with what rules treat in a way of their own. */
static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"spec\":{\"type\":\"object\",\"properties\":{"
    "\"n\":{\"type\":\"integer\"},\"f\":{\"type\":\"number\"},\"s\":{\"type\":\"string\"},"
    "\"nul\":{\"type\":\"string\",\"nullable\":true},"
    "\"a-b.c\":{\"type\":\"string\"},\"namespace\":{\"type\":\"string\"},"
    "\"port\":{\"x-kubernetes-int-or-string\":true},"
    "\"at\":{\"type\":\"string\",\"format\":\"date-time\"},"
    "\"day\":{\"type\":\"string\",\"format\":\"date\"},"
    "\"raw\":{\"type\":\"string\",\"format\":\"byte\"},"
    "\"for\":{\"type\":\"string\",\"format\":\"duration\"},"
    "\"m\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}},"
    "\"list\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"
    "\"set\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":"
    "{\"type\":\"string\"}},"
    "\"map\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"map\","
    "\"x-kubernetes-list-map-keys\":[\"k\"],\"items\":{\"type\":\"object\",\"required\":[\"k\"],"
    "\"properties\":{\"k\":{\"type\":\"string\"},\"v\":{\"type\":\"integer\"}}}}}}}}";

static const char spec_text[] =
    "{\"n\":1,\"f\":2,\"s\":\"x\",\"nul\":null,\"a-b.c\":\"abc\",\"namespace\":\"ns\","
    "\"port\":80,\"at\":\"2024-01-02T00:00:00Z\",\"day\":\"2024-01-02\",\"raw\":\"aGk=\","
    "\"for\":\"90s\",\"m\":{\"x\":1},\"list\":[\"a\",\"b\"],\"set\":[\"a\",\"b\"],"
    "\"map\":[{\"k\":\"p\",\"v\":1},{\"k\":\"q\",\"v\":2}]}";

static const char old_text[] = "{\"list\":[\"b\",\"a\"],\"set\":[\"b\",\"a\"],"
                               "\"map\":[{\"k\":\"q\",\"v\":2},{\"k\":\"p\",\"v\":1}]}";

static void test_schema(void **state)
{
    static const struct sample samples[] = {
        {"self.n + 1 == 2 && self.f > 1.5 && type(self.f) == double", NULL, "true"},
        {"self.at < timestamp('2024-01-03T00:00:00Z') && self.at == self.day", NULL, "true"},
        {"self['for'] == 1", NULL,
         "?<input>:1:5: found no matching overload for '_[_]' applied to '(object, string)'"},
        {"self.for == duration('1m30s') && self.__for__.getSeconds() == 90", NULL, "true"},
        {"self.raw == b'hi' && self.port == 80 && self.port != 'http'", NULL, "true"},
        {"has(self.nul)", NULL, "false"},
        {"self.nul", NULL, "!no such key: nul"},
        {"self.a__dash__b__dot__c + self.__namespace__ + self.namespace", NULL, "'abcnsns'"},
        {"self.list == oldSelf.list", NULL, "false"},
        {"self.set == oldSelf.set && self.map == oldSelf.map", NULL, "true"},
        {"self.set + ['b', 'c'] == ['c', 'b', 'a']", NULL, "true"},
        {"size(self.set + ['b', 'c']) == 3 && size(self.list + ['b', 'c']) == 4", NULL, "true"},
        {"(self.map + oldSelf.map)[0].k == 'p' && size(self.map + oldSelf.map) == 2", NULL, "true"},
        {"self.map != oldSelf.map.filter(e, e.k == 'p')", NULL, "true"},
        {"self.m.all(k, self.m[k] == 1) && self.m.x == 1", NULL, "true"},
        {"self.map.exists(e, e.k == 'q' && e.v == 2)", NULL, "true"},
        {"self.missing == 1", NULL, "?<input>:1:5: undefined field 'missing'"},
        {"has(self.m.y) || has(self.nn)", NULL, "?<input>:1:26: undefined field 'nn'"},
        {"self.map.all(e, e.x == 1)", NULL, "?<input>:1:18: undefined field 'x'"},
        {"self.n == 'a'", NULL,
         "?<input>:1:8: found no matching overload for '_==_' applied to '(int, string)'"},
        {"self.n + self.f > 1.0", NULL,
         "?<input>:1:8: found no matching overload for '_+_' applied to '(int, double)'"},
        {"self.n.startsWith('a')", NULL,
         "?<input>:1:18: found no matching overload for 'startsWith' applied to 'int.(string)'"},
        {"self.n && true", NULL,
         "?<input>:1:8: found no matching overload for '_&&_' applied to '(bool, int)'"},
        {"self.s.foo", NULL, "?<input>:1:7: type 'string' does not support field selection"},
        {"self.n.all(x, true)", NULL,
         "?<input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, "
         "map, or dynamic)"},
        {"self.list.exists(x, size(x))", NULL,
         "?<input>:1:25: expected type 'bool' but found 'int'"},
        {"1 in self.list", NULL,
         "?<input>:1:3: found no matching overload for '@in' applied to '(int, list(string))'"},
        {"self.?nul.orValue('none') + self.list[?9].orValue('!')", NULL, "'none!'"},
        {"self.?n.orValue('none') == 'none'", NULL,
         "?<input>:1:25: found no matching overload for '_==_' applied to '(int, string)'"},
        {"format.dns1123Label().validate(self.s) == optional.none() && "
         "format.named('dns1035Label').value().validate('1a').hasValue() && "
         "!format.named('nope').hasValue()",
         NULL, "true"},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_schema_unrefp) struct fl_schema *schema = NULL;
    FL_JSON openapi = NULL;
    struct fl_field_errors errors;
    struct fl_error err = {0};

    (void)state;
    fl_field_errors_init(&errors, arena);
    assert_int_equal(
        fl_json_parse(schema_text, strlen(schema_text), NULL, NULL, NULL, &openapi, &err), 0);
    assert_int_equal(fl_schema_compile(openapi, "s", &schema, &errors, &err), 0);
    for (size_t i = 0; i < FL_COUNT_OF(samples); i++) {
        const char *got = run(arena, samples[i].expression, spec_text, old_text,
                              fl_schema_node_member(fl_schema_root(schema), "spec"));

        if (strcmp(got, samples[i].expected) != 0)
            fail_msg("%s\n  gives %s\n  not   %s", samples[i].expression, got, samples[i].expected);
    }
}

static void test_returns(void **state)
{
    static const char *const names[] = {"self"};
    struct fl_cel_options options = {.variables = names, .variable_count = 1};
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *boolean = NULL;
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *dynamic = NULL;

    (void)state;
    assert_int_equal(fl_cel_compile("self > 1", &options, &boolean, NULL), 0);
    assert_true(fl_cel_may_return(boolean, FL_CEL_BOOL));
    assert_false(fl_cel_may_return(boolean, FL_CEL_STRING));
    assert_int_equal(fl_cel_compile("self.x", &options, &dynamic, NULL), 0);
    assert_true(fl_cel_may_return(dynamic, FL_CEL_BOOL));
    assert_true(fl_cel_may_return(dynamic, FL_CEL_STRING));
}

static void test_uses(void **state)
{
    static const char *const names[] = {"self", "oldSelf"};
    struct fl_cel_options options = {.variables = names, .variable_count = 2};
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *program = NULL;

    (void)state;
    assert_int_equal(fl_cel_compile("[1].all(oldSelf, self == oldSelf)", &options, &program, NULL),
                     0);
    assert_true(fl_cel_uses(program, "self"));
    assert_false(fl_cel_uses(program, "oldSelf"));
    assert_false(fl_cel_uses(program, "other"));
}

static int eval_cost(const char *expression, uint64_t limit, uint64_t *cost)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_cel_options options = {0};
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *program = NULL;
    struct fl_cel_result result;

    assert_int_equal(fl_cel_compile(expression, &options, &program, NULL), 0);
    return fl_cel_eval(program, NULL, 0, arena, cost, limit, &result, NULL);
}

static void test_cost(void **state)
{
    static const char loops[] = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, "
                                "[1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, "
                                "a + b + c + d > 0)))) || true";
    uint64_t cost = 5;

    (void)state;
    assert_int_equal(eval_cost("1 + 1 == 2", 100, &cost), 0);
    assert_in_range(cost, 6, 10);
    assert_int_equal(eval_cost(loops, 50000, &cost), FL_E_TOO_LARGE);
    assert_true(cost > 50000 && cost < 50100);
    cost = 0;
    assert_int_equal(eval_cost(loops, 1000000, &cost), 0);
}

static void test_bounds(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    for (int i = 0; i < 5000; i++)
        fl_buf_putc(&text, '(');
    assert_non_null(strstr(run(arena, fl_buf_text(&text), NULL, NULL, NULL), "nests deeper"));
    fl_buf_clear(&text);
    fl_buf_puts(&text, "1");
    for (int i = 0; i < 5000; i++)
        fl_buf_puts(&text, "+1");
    assert_non_null(strstr(run(arena, fl_buf_text(&text), NULL, NULL, NULL), "nests deeper"));
    fl_buf_clear(&text);
    fl_buf_puts(&text, "true");
    for (int i = 0; i < 1500; i++)
        fl_buf_puts(&text, " && true");
    assert_string_equal(run(arena, fl_buf_text(&text), NULL, NULL, NULL), "true");
    for (int i = 0; i < 1500; i++)
        fl_buf_puts(&text, " && true");
    assert_string_equal(run(arena, fl_buf_text(&text), NULL, NULL, NULL),
                        "?expression is longer than 16384 bytes");
    fl_buf_finish(&text);
    assert_string_equal(run(arena, "self.matches('^(a+)+$')",
                            "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"", NULL, NULL),
                        "!regular expression takes too many steps on this text");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language),       cmocka_unit_test(test_macros),
        cmocka_unit_test(test_compile_errors), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_conversions),    cmocka_unit_test(test_libraries),
        cmocka_unit_test(test_optionals),      cmocka_unit_test(test_escaped_names),
        cmocka_unit_test(test_uses),           cmocka_unit_test(test_schema),
        cmocka_unit_test(test_returns),        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
