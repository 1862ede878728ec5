#include "api/cel_internal.h"
#include "api/schema_internal.h"
#include "lib/str.h"

/* matches, find and findAll. Patterns are read and run as those of schemas are: RE2's language, and
 * a bound on the steps of a match. */

#define MAX_PATTERN_BYTES 4096
#define COMPILE_COST      500

const struct fl_schema_pattern *fl_cel_regex_compile(struct fl_arena *arena,
                                                     const struct cel_value *pattern,
                                                     const char **ret_problem)
{
    if (pattern->text.len > MAX_PATTERN_BYTES) {
        *ret_problem = "expression is too large";
        return NULL;
    }
    return fl_schema_pattern_compile(
        arena, fl_arena_strndup(arena, pattern->text.data, pattern->text.len), ret_problem);
}

/* What the call compiled before, or the pattern of its second argument; NULL with *ret_error. */
static const struct fl_schema_pattern *begin(struct cel_eval *eval, const struct cel_value *args,
                                             struct cel_value *ret_error)
{
    const struct fl_schema_pattern *pattern = eval->call->regex;
    const char *problem;

    *ret_error = fl_cel_no_overload();
    if (args[0].kind != CEL_STRING || args[1].kind != CEL_STRING)
        return NULL;
    /* RE2 is linear in text times pattern, and so is the price */
    *ret_error = fl_cel_too_costly();
    if (!fl_cel_charge(eval, 1 + args[0].text.len / 10 * (1 + args[1].text.len / 4)) || pattern)
        return eval->exceeded ? NULL : pattern;
    if (!fl_cel_charge(eval, COMPILE_COST))
        return NULL;
    pattern = fl_cel_regex_compile(eval->arena, &args[1], &problem);
    if (!pattern)
        *ret_error = fl_cel_error(eval, "%s", problem);
    return pattern;
}

static struct cel_value too_much(struct cel_eval *eval)
{
    return fl_cel_error(eval, "regular expression takes too many steps on this text");
}

static struct cel_value matches(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value error;
    const struct fl_schema_pattern *pattern = begin(eval, args, &error);
    int r;

    (void)count;
    if (!pattern)
        return error;
    r = fl_schema_pattern_match(pattern, args[0].text.data, args[0].text.len);
    return r < 0 ? too_much(eval) : cel_bool(r > 0);
}

static struct cel_value find(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value error;
    const struct fl_schema_pattern *pattern = begin(eval, args, &error);
    size_t start = 0, end = 0;

    (void)count;
    if (!pattern)
        return error;
    if (fl_schema_pattern_find(pattern, args[0].text.data, args[0].text.len, 0, &start, &end) < 0)
        return too_much(eval);
    return cel_string(args[0].text.data + start, end - start);
}

/* Every match, from left to right; an empty one right behind a match does not count. */
static struct cel_value collect(struct cel_eval *eval, const struct fl_schema_pattern *pattern,
                                const struct cel_value *text, int64_t max)
{
    struct cel_items items = {0};
    size_t at = 0, last = SIZE_MAX;

    while (at <= text->text.len && (max < 0 || items.count < (uint64_t)max)) {
        size_t start, end;
        int r = fl_schema_pattern_find(pattern, text->text.data, text->text.len, at, &start, &end);

        if (r < 0)
            return too_much(eval);
        if (r == 0)
            break;
        if (start != end || start != last) {
            struct cel_value found = cel_string(text->text.data + start, end - start);

            fl_cel_push(eval, &items, &found);
            if (!fl_cel_charge(eval, 1 + (end - at) / 10))
                return fl_cel_too_costly();
        }
        last = end;
        at = end;
        if (start == end) {
            size_t width = fl_utf8_width(text->text.data + at, text->text.len - at);

            at += width ? width : 1;
        }
    }
    return cel_list(items.items, items.count);
}

static struct cel_value find_all(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    const struct fl_schema_pattern *pattern;
    struct cel_value error;

    if (count > 2 && args[2].kind != CEL_INT)
        return fl_cel_no_overload();
    pattern = begin(eval, args, &error);
    if (!pattern)
        return error;
    return collect(eval, pattern, &args[0], count > 2 ? args[2].integer : -1);
}

const struct cel_function fl_cel_regex_functions[] = {
    {"matches", true, "ss>b", matches},
    {"matches", false, "ss>b", matches},
    {"find", true, "ss>s", find},
    {"findAll", true, "ss>S|ssi>S", find_all},
    {0},
};
