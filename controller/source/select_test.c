#include "controller/source/select.h"

#include "lib/env.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void manifests_are_told_by_their_end(void **state)
{
    static const char *const good[] = {"a.yaml", "x/a.yml", "a.json", ".yaml", "a.b.yaml"};
    static const char *const bad[] = {"", "a", "yaml", "a.yaml.bak", "a.YAML", "x.yaml/readme"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(good); i++)
        assert_true(fl_select_is_manifest(good[i]));
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        assert_false(fl_select_is_manifest(bad[i]));
}

static void patterns_match_as_told(void **state)
{
    static const struct {
        const char *pattern, *path;
        bool match;
    } rows[] = {
        {"a.yaml", "a.yaml", true},
        {"a.yaml", "x/a.yaml", false},
        {"*.yaml", "a.yaml", true},
        {"*.yaml", "x/a.yaml", false},
        {"*", "x/a", false},
        {"*/*", "x/a", true},
        {"**", "x/y/z", true},
        {"**/a", "a", true},
        {"**/a", "x/y/a", true},
        {"**/a", "xa", false},
        {"x/**", "x/y/z", true},
        {"x/**", "x", false},
        {"x/**/z", "x/z", true},
        {"x/**/z", "x/y/w/z", true},
        {"x/**/z", "xz", false},
        {"x**z", "x/y/z", true},
        {"*a*b*", "xaybz", true},
        {"*a*b*", "xbya", false},
        {"**/*.yaml", "a.yaml", true},
        {"**/*.yaml", "x/a.yml", false},
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"a?", "ab", false},
        {"[ab]", "a", false},
        {"**/b/**", "a/b/c", true},
        {"**/b/**", "b", false},
        {"***", "a/b", true},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++)
        if (fl_select_matches(rows[i].pattern, rows[i].path) != rows[i].match)
            fail_msg("%s, %s", rows[i].pattern, rows[i].path);
}

/* The same in the plainest words, of exponential cost. */
static bool plainly(const char *start, const char *pattern, const char *path, bool name_begins)
{
    bool begins = pattern == start || pattern[-1] == '/';

    if (!*pattern)
        return !*path;
    if (pattern[0] == '*' && pattern[1] == '*')
        return (begins && name_begins && pattern[2] == '/' &&
                plainly(start, pattern + 3, path, true)) ||
               plainly(start, pattern + 2, path, name_begins) ||
               (*path && plainly(start, pattern, path + 1, *path == '/'));
    if (*pattern == '*')
        return plainly(start, pattern + 1, path, name_begins) ||
               (*path && *path != '/' && plainly(start, pattern, path + 1, false));
    return *pattern == *path && plainly(start, pattern + 1, path + 1, *path == '/');
}

static void fill(const struct fl_env *env, const char *letters, char *out, size_t max)
{
    size_t len = fl_random_below(env, max);

    for (size_t i = 0; i < len; i++)
        out[i] = letters[fl_random_below(env, strlen(letters))];
    out[len] = '\0';
}

static void chance_finds_no_difference_to_the_plain_form(void **state)
{
    struct fl_fake_env fake;
    size_t matches = 0;

    (void)state;
    fl_fake_env_init(&fake, 1, NULL);
    for (int i = 0; i < 200000; i++) {
        char pattern[10], path[10];

        fill(&fake.env, "a/**", pattern, sizeof(pattern));
        fill(&fake.env, "ab/", path, sizeof(path));
        matches += fl_select_matches(pattern, path);
        if (fl_select_matches(pattern, path) != plainly(pattern, pattern, path, true))
            fail_msg("%s, %s", pattern, path);
    }
    assert_true(matches > 1000);
}

static void a_hostile_pattern_takes_no_time(void **state)
{
    char pattern[FL_SELECT_PATTERN_MAX + 2], path[1025];

    (void)state;
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = "**/*a"[i % 5];
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    pattern[FL_SELECT_PATTERN_MAX] = '\0';
    assert_false(fl_select_matches(pattern, path));
    memset(pattern, '*', sizeof(pattern) - 1);
    pattern[sizeof(pattern) - 1] = '\0';
    assert_false(fl_select_matches(pattern, "a")); /* too long */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests_are_told_by_their_end),
        cmocka_unit_test(patterns_match_as_told),
        cmocka_unit_test(chance_finds_no_difference_to_the_plain_form),
        cmocka_unit_test(a_hostile_pattern_takes_no_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
