#include "api/cel_internal.h"
#include "lib/str.h"

/* Regular expressions as RE2 means them, run by PCRE2: what RE2 does not know (look-around,
 * references, possessive and atomic groups, verbs, recursion) is refused when a pattern is
 * compiled, and steps and memory of a match are bounded. */

#define MAX_PATTERN_BYTES 4096
#define MATCH_LIMIT       1000000u
#define DEPTH_LIMIT       5000u
#define HEAP_LIMIT_KIB    8192u

/* What follows "(?": a flag group, a name, or something RE2 refuses. */
static bool group_allowed(const char *at)
{
    if (*at == 'P')
        return at[1] == '<';
    if (*at == '<')
        return at[1] != '=' && at[1] != '!';
    at += strspn(at, "imsU-");
    return *at == ':' || *at == ')';
}

static bool escape_allowed(char c)
{
    if (c >= '1' && c <= '9')
        return false;
    return !strchr("KGRXZkghHNCoeVcLlu", c);
}

/* Where the class that begins at `at` ends; NULL where it does not. */
static const char *skip_class(const char *at)
{
    at++;
    if (*at == '^')
        at++;
    if (*at == ']')
        at++;
    for (; *at && *at != ']'; at++) {
        if (*at == '[' && at[1] == ':') {
            const char *end = strstr(at + 2, ":]");

            if (end)
                at = end + 1;
        } else if (*at == '\\') {
            if (!at[1] || !escape_allowed(at[1]))
                return NULL;
            at++;
        }
    }
    return *at ? at : NULL;
}

/* A repetition "{n}", "{n,}", "{n,m}" with at most 1000; its last byte, or NULL where it is not
 * one (a literal brace). */
static const char *repetition(const char *at, bool *ret_too_many)
{
    const char *end = at + 1;
    long numbers[2] = {0, 0};
    int n = 0;

    for (;; end++) {
        if (*end >= '0' && *end <= '9')
            numbers[n] = numbers[n] > 1000 ? 1001 : numbers[n] * 10 + (*end - '0');
        else if (*end == ',' && n == 0 && end > at + 1)
            n = 1;
        else
            break;
    }
    if (*end != '}' || end == at + 1)
        return NULL;
    *ret_too_many = numbers[0] > 1000 || numbers[1] > 1000;
    return end;
}

static const char *refuse(const char *pattern)
{
    bool after_repeat = false;

    for (const char *at = pattern; *at; at++) {
        bool repeat = false, too_many = false;
        const char *end;

        if (*at == '\\') {
            if (!at[1])
                return "trailing backslash";
            if (!escape_allowed(at[1]))
                return "invalid escape sequence";
            if (at[1] == 'Q') {
                end = strstr(at, "\\E");
                if (!end)
                    return NULL;
                at = end;
            }
            at++;
        } else if (*at == '[') {
            at = skip_class(at);
            if (!at)
                return "invalid character class";
        } else if (*at == '(' && at[1] == '*') {
            return "missing argument to repetition operator";
        } else if (*at == '(' && at[1] == '?') {
            if (!group_allowed(at + 2))
                return "invalid or unsupported Perl syntax";
            at++;
        } else if (*at == '*' || *at == '+' || *at == '?') {
            repeat = true;
        } else if (*at == '{' && (end = repetition(at, &too_many))) {
            if (too_many)
                return "invalid repeat count";
            at = end;
            repeat = true;
        }
        /* one '?' may follow to make it lazy; anything more RE2 refuses */
        if (repeat && after_repeat)
            return "invalid nested repetition operator";
        after_repeat = repeat;
        if (repeat && at[1] == '?')
            at++;
    }
    return NULL;
}

int fl_cel_regex_compile(const char *pattern, size_t len, pcre2_code **ret_code,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *copy = NULL;
    PCRE2_UCHAR message[120];
    PCRE2_SIZE offset;
    const char *refused;
    pcre2_code *code;
    int number;

    if (len > MAX_PATTERN_BYTES)
        return fl_error_set(err, FL_E_BAD_REQUEST, "pattern is longer than %d bytes",
                            MAX_PATTERN_BYTES);
    copy = fl_strndup(pattern, len);
    refused = refuse(copy);
    if (refused)
        return fl_error_set(err, FL_E_BAD_REQUEST, "error parsing regexp: %s", refused);
    code =
        pcre2_compile((PCRE2_SPTR)copy, len,
                      PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C | PCRE2_NEVER_UCP,
                      &number, &offset, NULL);
    if (!code) {
        (void)pcre2_get_error_message(number, message, sizeof(message));
        return fl_error_set(err, FL_E_BAD_REQUEST, "error parsing regexp: %s at %zu",
                            (const char *)message, (size_t)offset);
    }
    *ret_code = code;
    return 0;
}

struct matcher {
    pcre2_code *code;
    bool owned;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static void finish(struct matcher *matcher)
{
    if (matcher->owned)
        pcre2_code_free(matcher->code);
    pcre2_match_data_free(matcher->data);
    pcre2_match_context_free(matcher->context);
}

/* An error value where the pattern is none. */
static struct cel_value begin(struct cel_eval *eval, const struct cel_value *args,
                              struct matcher *matcher)
{
    struct fl_error err = {0};

    *matcher = (struct matcher){0};
    if (args[0].kind != CEL_STRING || args[1].kind != CEL_STRING)
        return fl_cel_no_overload();
    /* RE2 is linear in text times pattern, and so is the price */
    if (!fl_cel_charge(eval, 1 + args[0].text.len / 10 * (1 + args[1].text.len / 4)))
        return fl_cel_too_costly();
    matcher->code = eval->call->regex;
    if (!matcher->code) {
        if (!fl_cel_charge(eval, 50))
            return fl_cel_too_costly();
        if (fl_cel_regex_compile(args[1].text.data, args[1].text.len, &matcher->code, &err) < 0)
            return fl_cel_error(eval, "%s", err.msg);
        matcher->owned = true;
    }
    matcher->data = pcre2_match_data_create_from_pattern(matcher->code, NULL);
    matcher->context = pcre2_match_context_create(NULL);
    if (!matcher->data || !matcher->context)
        abort();
    (void)pcre2_set_match_limit(matcher->context, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(matcher->context, DEPTH_LIMIT);
    (void)pcre2_set_heap_limit(matcher->context, HEAP_LIMIT_KIB);
    return cel_null();
}

/* 1: found, between *ret_start and *ret_end; 0: not; < 0: too much work. */
static int match(struct matcher *matcher, const struct cel_value *text, size_t from,
                 size_t *ret_start, size_t *ret_end)
{
    const PCRE2_SIZE *offsets;
    int r = pcre2_match(matcher->code, (PCRE2_SPTR)text->text.data, text->text.len, from, 0,
                        matcher->data, matcher->context);

    if (r == PCRE2_ERROR_NOMATCH)
        return 0;
    if (r < 0)
        return -1;
    offsets = pcre2_get_ovector_pointer(matcher->data);
    *ret_start = offsets[0];
    *ret_end = offsets[1];
    return 1;
}

static struct cel_value too_much(struct cel_eval *eval)
{
    return fl_cel_error(eval, "regular expression takes too many steps on this text");
}

static struct cel_value matches(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct matcher matcher;
    struct cel_value value = begin(eval, args, &matcher);
    size_t start, end;

    (void)count;
    if (value.kind != CEL_ERROR) {
        int r = match(&matcher, &args[0], 0, &start, &end);

        value = r < 0 ? too_much(eval) : cel_bool(r > 0);
    }
    finish(&matcher);
    return value;
}

static struct cel_value find(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct matcher matcher;
    struct cel_value value = begin(eval, args, &matcher);
    size_t start = 0, end = 0;

    (void)count;
    if (value.kind != CEL_ERROR) {
        int r = match(&matcher, &args[0], 0, &start, &end);

        if (r < 0)
            value = too_much(eval);
        else
            value = r ? cel_string(args[0].text.data + start, end - start) : cel_string("", 0);
    }
    finish(&matcher);
    return value;
}

/* Every match, from left to right; an empty one right behind a match does not count. */
static struct cel_value collect(struct cel_eval *eval, struct matcher *matcher,
                                const struct cel_value *text, int64_t max)
{
    struct cel_items items = {0};
    size_t at = 0, last = SIZE_MAX;

    while (at <= text->text.len && (max < 0 || items.count < (uint64_t)max)) {
        size_t start, end;
        int r = match(matcher, text, at, &start, &end);

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
    struct matcher matcher;
    struct cel_value value;

    if (count > 2 && args[2].kind != CEL_INT)
        return fl_cel_no_overload();
    value = begin(eval, args, &matcher);
    if (value.kind != CEL_ERROR)
        value = collect(eval, &matcher, &args[0], count > 2 ? args[2].integer : -1);
    finish(&matcher);
    return value;
}

const struct cel_function fl_cel_regex_functions[] = {
    {"matches", true, "ss>b", matches},
    {"matches", false, "ss>b", matches},
    {"find", true, "ss>s", find},
    {"findAll", true, "ss>S|ssi>S", find_all},
    {0},
};
