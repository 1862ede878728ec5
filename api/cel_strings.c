#include "api/cel_internal.h"
#include "lib/str.h"

/* Functions on strings. Positions count characters, not bytes. */

static bool all_strings(const struct cel_value *args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (args[i].kind != CEL_STRING)
            return false;
    }
    return true;
}

/* Byte position of character `index`; SIZE_MAX beyond the end (the end itself is allowed). */
static size_t offset_of(const struct cel_value *text, int64_t index)
{
    size_t at = 0;

    for (; index > 0 && at < text->text.len; index--) {
        size_t width = fl_utf8_width(text->text.data + at, text->text.len - at);

        at += width ? width : 1;
    }
    return index == 0 ? at : SIZE_MAX;
}

static struct cel_value out_of_range(struct cel_eval *eval, int64_t index)
{
    return fl_cel_error(eval, "index out of range: %lld", (long long)index);
}

static struct cel_value slice(const struct cel_value *text, size_t start, size_t end)
{
    return cel_string(text->text.data + start, end - start);
}

/* The first (or last) place of `part` at or behind (before) byte `from`; SIZE_MAX if none. */
static size_t find_bytes(const struct cel_value *text, const struct cel_value *part, size_t from)
{
    const char *found;

    if (part->text.len == 0)
        return from;
    if (from > text->text.len)
        return SIZE_MAX;
    found = memmem(text->text.data + from, text->text.len - from, part->text.data, part->text.len);
    return found ? (size_t)(found - text->text.data) : SIZE_MAX;
}

static size_t find_last(const struct cel_value *text, const struct cel_value *part, size_t from)
{
    if (part->text.len > text->text.len)
        return SIZE_MAX;
    if (from > text->text.len - part->text.len)
        from = text->text.len - part->text.len;
    for (size_t at = from + 1; at-- > 0;) {
        if (!part->text.len || !memcmp(text->text.data + at, part->text.data, part->text.len))
            return at;
    }
    return SIZE_MAX;
}

static struct cel_value contains(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    if (!all_strings(args, count))
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10 + args[1].text.len / 10);
    return cel_bool(find_bytes(&args[0], &args[1], 0) != SIZE_MAX);
}

static struct cel_value starts_with(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    if (!all_strings(args, count))
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[1].text.len / 10);
    return cel_bool(
        args[0].text.len >= args[1].text.len &&
        (args[1].text.len == 0 || !memcmp(args[0].text.data, args[1].text.data, args[1].text.len)));
}

static struct cel_value ends_with(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    size_t rest;

    if (!all_strings(args, count))
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[1].text.len / 10);
    if (args[0].text.len < args[1].text.len)
        return cel_bool(false);
    rest = args[0].text.len - args[1].text.len;
    return cel_bool(args[1].text.len == 0 ||
                    !memcmp(args[0].text.data + rest, args[1].text.data, args[1].text.len));
}

static struct cel_value index_of(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    size_t from = 0, found;

    if (args[0].kind == CEL_LIST && count == 2)
        return fl_cel_list_index(eval, &args[0], &args[1], false);
    if (!all_strings(args, 2) || (count > 2 && args[2].kind != CEL_INT))
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, args[0].text.len / 10))
        return fl_cel_too_costly();
    if (count > 2) {
        if (args[1].text.len == 0)
            return args[2];
        if (args[2].integer < 0)
            return out_of_range(eval, args[2].integer);
        from = offset_of(&args[0], args[2].integer);
        if (from >= args[0].text.len)
            return cel_int(-1);
    }
    found = find_bytes(&args[0], &args[1], from);
    return cel_int(found == SIZE_MAX ? -1 : (int64_t)fl_utf8_count(args[0].text.data, found));
}

static struct cel_value last_index_of(struct cel_eval *eval, const struct cel_value *args,
                                      size_t count)
{
    size_t from = SIZE_MAX, found;

    if (args[0].kind == CEL_LIST && count == 2)
        return fl_cel_list_index(eval, &args[0], &args[1], true);
    if (!all_strings(args, 2) || (count > 2 && args[2].kind != CEL_INT))
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, args[0].text.len / 10 * (1 + args[1].text.len / 10)))
        return fl_cel_too_costly();
    if (count > 2) {
        if (args[1].text.len == 0)
            return args[2];
        if (args[2].integer < 0)
            return out_of_range(eval, args[2].integer);
        from = offset_of(&args[0], args[2].integer);
        if (from >= args[0].text.len)
            return cel_int(-1);
    }
    found = find_last(&args[0], &args[1], from);
    return cel_int(found == SIZE_MAX ? -1 : (int64_t)fl_utf8_count(args[0].text.data, found));
}

static struct cel_value char_at(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    size_t at;

    (void)count;
    if (args[0].kind != CEL_STRING || args[1].kind != CEL_INT)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    at = args[1].integer < 0 ? SIZE_MAX : offset_of(&args[0], args[1].integer);
    if (at == SIZE_MAX)
        return out_of_range(eval, args[1].integer);
    return slice(&args[0], at, at + fl_utf8_width(args[0].text.data + at, args[0].text.len - at));
}

static struct cel_value substring(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    size_t start, end = args[0].text.len;

    if (args[0].kind != CEL_STRING || args[1].kind != CEL_INT ||
        (count > 2 && args[2].kind != CEL_INT))
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    if (count > 2 && args[1].integer > args[2].integer)
        return fl_cel_error(eval, "invalid substring range. start: %lld, end: %lld",
                            (long long)args[1].integer, (long long)args[2].integer);
    start = args[1].integer < 0 ? SIZE_MAX : offset_of(&args[0], args[1].integer);
    if (start == SIZE_MAX)
        return out_of_range(eval, args[1].integer);
    if (count > 2)
        end = args[2].integer < 0 ? SIZE_MAX : offset_of(&args[0], args[2].integer);
    if (end == SIZE_MAX)
        return out_of_range(eval, args[2].integer);
    return slice(&args[0], start, end);
}

static struct cel_value change_case(struct cel_eval *eval, const struct cel_value *text, char from,
                                    char to)
{
    char *data;

    if (text->kind != CEL_STRING)
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, text->text.len / 10))
        return fl_cel_too_costly();
    data = fl_cel_strdup(eval, text);
    for (size_t i = 0; i < text->text.len; i++) {
        if (data[i] >= from && data[i] <= from + 25)
            data[i] = (char)(data[i] - from + to);
    }
    return cel_string(data, text->text.len);
}

static struct cel_value lower_ascii(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    (void)count;
    return change_case(eval, &args[0], 'A', 'a');
}

static struct cel_value upper_ascii(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    (void)count;
    return change_case(eval, &args[0], 'a', 'A');
}

/* Unicode's White_Space, as trim() uses it: the width of one at `at`, or 0. */
static size_t space_width(const char *at, size_t len)
{
    static const char *const wide[] = {
        "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
        "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
        "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
        "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80",
    };

    if (len > 0 && (*at == ' ' || (*at >= '\t' && *at <= '\r')))
        return 1;
    for (size_t i = 0; i < FL_COUNT_OF(wide); i++) {
        size_t width = strlen(wide[i]);

        if (len >= width && !memcmp(at, wide[i], width))
            return width;
    }
    return 0;
}

static struct cel_value trim(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    size_t start = 0, end = args[0].text.len, width;

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    while ((width = space_width(args[0].text.data + start, end - start)) > 0)
        start += width;
    while (end > start) {
        size_t at = end - 1;

        while (at > start && ((unsigned char)args[0].text.data[at] & 0xC0) == 0x80)
            at--;
        if (space_width(args[0].text.data + at, end - at) != end - at)
            break;
        end = at;
    }
    return slice(&args[0], start, end);
}

static struct cel_value replace(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    const struct cel_value *text = &args[0];
    int64_t left = count > 3 ? args[3].integer : -1;
    size_t at = 0, max;
    struct fl_buf out;
    struct cel_value value;

    if (!all_strings(args, 3) || (count > 3 && args[3].kind != CEL_INT))
        return fl_cel_no_overload();
    max = text->text.len + (text->text.len + 1) * args[2].text.len;
    if (!fl_cel_charge(eval, text->text.len / 10))
        return fl_cel_too_costly();
    fl_buf_init(&out, max + 1);
    while (left != 0) {
        size_t found = find_bytes(text, &args[1], at), from = found;

        /* nothing is before each character, and at the end */
        if (args[1].text.len == 0 && found < text->text.len)
            from += fl_utf8_width(text->text.data + found, text->text.len - found);
        if (found == SIZE_MAX || !fl_cel_charge(eval, 1 + args[2].text.len / 10))
            break;
        fl_buf_append(&out, text->text.data + at, found - at);
        fl_buf_append(&out, args[2].text.data, args[2].text.len);
        left--;
        at = found + args[1].text.len;
        if (args[1].text.len == 0) {
            if (at >= text->text.len)
                break;
            fl_buf_append(&out, text->text.data + at, from - at);
            at = from;
        }
    }
    fl_buf_append(&out, text->text.data + at, text->text.len - at);
    value = cel_string(fl_arena_strndup(eval->arena, fl_buf_text(&out), out.len), out.len);
    fl_buf_finish(&out);
    return value;
}

static struct cel_value split(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    const struct cel_value *text = &args[0], *separator = &args[1];
    int64_t left = count > 2 ? args[2].integer : -1;
    struct cel_items items = {0};
    size_t at = 0;

    if (!all_strings(args, 2) || (count > 2 && args[2].kind != CEL_INT))
        return fl_cel_no_overload();
    fl_cel_charge(eval, text->text.len / 10);
    if (left == 0 || (separator->text.len == 0 && text->text.len == 0))
        return cel_list(NULL, 0);
    while (left != 1 && fl_cel_charge(eval, 1)) {
        size_t found = find_bytes(text, separator, at);
        struct cel_value piece;

        if (separator->text.len == 0) {
            found = at + fl_utf8_width(text->text.data + at, text->text.len - at);
            if (found >= text->text.len)
                break;
        }
        if (found == SIZE_MAX)
            break;
        piece = slice(text, at, found);
        fl_cel_push(eval, &items, &piece);
        at = found + separator->text.len;
        left--;
    }
    fl_cel_push(eval, &items,
                &(struct cel_value){.kind = CEL_STRING,
                                    .text = {text->text.data + at, text->text.len - at}});
    return cel_list(items.items, items.count);
}

static struct cel_value join(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value value = {0};
    struct fl_buf out;

    if (args[0].kind != CEL_LIST || (count > 1 && args[1].kind != CEL_STRING))
        return fl_cel_no_overload();
    fl_buf_init(&out, 0);
    for (size_t i = 0; i < args[0].many.count; i++) {
        struct cel_value item = fl_cel_item(eval, &args[0], i);
        size_t separator = count > 1 && i > 0 ? args[1].text.len : 0;

        if (item.kind != CEL_STRING) {
            value = fl_cel_no_overload();
            break;
        }
        if (!fl_cel_charge(eval, 1 + (item.text.len + separator) / 10))
            break;
        if (separator)
            fl_buf_append(&out, args[1].text.data, separator);
        fl_buf_append(&out, item.text.data, item.text.len);
    }
    if (!value.text.data)
        value = cel_string(fl_arena_strndup(eval->arena, fl_buf_text(&out), out.len), out.len);
    fl_buf_finish(&out);
    return value;
}

static struct cel_value reverse(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    size_t len = args[0].text.len;
    char *data;

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, len / 10))
        return fl_cel_too_costly();
    data = fl_alloc(eval->arena, len + 1);
    for (size_t at = 0; at < len;) {
        size_t width = fl_utf8_width(args[0].text.data + at, len - at);

        if (width == 0)
            width = 1;
        memcpy(data + len - at - width, args[0].text.data + at, width);
        at += width;
    }
    return cel_string(data, len);
}

static struct cel_value base64_encode(struct cel_eval *eval, const struct cel_value *args,
                                      size_t count)
{
    (void)count;
    if (args[0].kind != CEL_BYTES)
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, args[0].text.len / 5))
        return fl_cel_too_costly();
    return fl_cel_cstring(fl_base64_encode(eval->arena, args[0].text.data, args[0].text.len));
}

static struct cel_value base64_decode(struct cel_eval *eval, const struct cel_value *args,
                                      size_t count)
{
    char *data;
    size_t len;

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, args[0].text.len / 5))
        return fl_cel_too_costly();
    if (!fl_base64_decode(eval->arena, args[0].text.data, args[0].text.len, &data, &len))
        return fl_cel_error(eval, "illegal base64 data");
    return cel_text(CEL_BYTES, data, len);
}

const struct cel_function fl_cel_string_functions[] = {
    {"contains", true, "ss>b", contains},
    {"startsWith", true, "ss>b", starts_with},
    {"endsWith", true, "ss>b", ends_with},
    {"indexOf", true, "ss>i|ssi>i|l*>i", index_of},
    {"lastIndexOf", true, "ss>i|ssi>i|l*>i", last_index_of},
    {"charAt", true, "si>s", char_at},
    {"substring", true, "si>s|sii>s", substring},
    {"lowerAscii", true, "s>s", lower_ascii},
    {"upperAscii", true, "s>s", upper_ascii},
    {"trim", true, "s>s", trim},
    {"replace", true, "sss>s|sssi>s", replace},
    {"split", true, "ss>S|ssi>S", split},
    {"join", true, "S>s|Ss>s", join},
    {"reverse", true, "s>s", reverse},
    {"base64.encode", false, "y>s", base64_encode},
    {"base64.decode", false, "s>y", base64_decode},
    {0},
};
