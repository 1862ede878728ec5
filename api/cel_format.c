#include "api/cel_internal.h"
#include "lib/str.h"

#include <math.h>
#include <stdlib.h>

/* `"…".format([…])`: %s %d %f %e %b %x %X %o and %%. */

struct formatter {
    struct cel_eval *eval;
    struct fl_buf out;
    struct cel_value error; /* CEL_ERROR once something is wrong */
    bool failed;
};

static void fail(struct formatter *f, struct cel_value error)
{
    if (!f->failed) {
        f->failed = true;
        f->error = error;
    }
}

static void put(struct formatter *f, const char *data, size_t len)
{
    if (fl_cel_charge(f->eval, len / 10))
        fl_buf_append(&f->out, data, len);
}

static void put_text(struct formatter *f, const struct cel_value *value)
{
    struct cel_value text = fl_cel_to_string(f->eval, value);

    if (text.kind == CEL_ERROR)
        fail(f, text);
    else
        put(f, text.text.data, text.text.len);
}

/* A string as an expression would write it. */
static void put_quoted(struct formatter *f, const struct cel_value *text)
{
    static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";

    put(f, "\"", 1);
    for (size_t i = 0; i < text->text.len; i++) {
        const char *special = strchr(from, text->text.data[i]);

        if (special && *special) {
            put(f, "\\", 1);
            put(f, &to[special - from], 1);
        } else {
            put(f, &text->text.data[i], 1);
        }
    }
    put(f, "\"", 1);
}

static void put_string(struct formatter *f, const struct cel_value *value);

/* An element of a list or map: as a literal. */
static void put_element(struct formatter *f, const struct cel_value *value)
{
    char real[400];

    switch (value->kind) {
    case CEL_STRING:
        put_quoted(f, value);
        break;
    case CEL_BYTES:
        put(f, "b", 1);
        put_quoted(f, value);
        break;
    case CEL_DOUBLE:
        (void)snprintf(real, sizeof(real), "%.6f", value->real);
        put(f, real, strlen(real));
        break;
    case CEL_TIMESTAMP:
    case CEL_DURATION:
        put(f, value->kind == CEL_DURATION ? "duration(\"" : "timestamp(\"",
            value->kind == CEL_DURATION ? 10 : 11);
        put_text(f, value);
        put(f, "\")", 2);
        break;
    default:
        put_string(f, value);
        break;
    }
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct cel_pair *)a)->key.text.data,
                  ((const struct cel_pair *)b)->key.text.data);
}

/* A value's literal text in the arena. */
static struct cel_value literal_text(struct formatter *f, const struct cel_value *value)
{
    struct formatter inner = {.eval = f->eval};
    struct cel_value text;

    fl_buf_init(&inner.out, 0);
    put_element(&inner, value);
    if (inner.failed)
        fail(f, inner.error);
    text = fl_cel_cstring(fl_arena_strdup(f->eval->arena, fl_buf_text(&inner.out)));
    fl_buf_finish(&inner.out);
    return text;
}

static void put_map(struct formatter *f, const struct cel_value *map)
{
    const struct cel_pair *pairs = fl_cel_pairs(f->eval, map);
    size_t count = map->many.count;
    struct cel_pair *texts;

    if (!fl_cel_charge(f->eval, count))
        return;
    texts = fl_new_array(f->eval->arena, struct cel_pair, count + 1);
    for (size_t i = 0; i < count; i++)
        texts[i] = (struct cel_pair){literal_text(f, &pairs[i].key), pairs[i].value};
    qsort(texts, count, sizeof(*texts), compare_keys);
    put(f, "{", 1);
    for (size_t i = 0; i < count && !f->eval->exceeded; i++) {
        if (i)
            put(f, ", ", 2);
        put(f, texts[i].key.text.data, texts[i].key.text.len);
        put(f, ":", 1);
        put_element(f, &texts[i].value);
    }
    put(f, "}", 1);
}

static void put_string(struct formatter *f, const struct cel_value *value)
{
    switch (value->kind) {
    case CEL_NULL:
        put(f, "null", 4);
        break;
    case CEL_TYPE:
        put(f, value->text.data, value->text.len);
        break;
    case CEL_LIST:
        put(f, "[", 1);
        for (size_t i = 0; i < value->many.count && fl_cel_charge(f->eval, 1); i++) {
            struct cel_value item = fl_cel_item(f->eval, value, i);

            if (i)
                put(f, ", ", 2);
            put_element(f, &item);
        }
        put(f, "]", 1);
        break;
    case CEL_MAP:
        put_map(f, value);
        break;
    case CEL_BOOL:
    case CEL_INT:
    case CEL_UINT:
    case CEL_DOUBLE:
    case CEL_STRING:
    case CEL_BYTES:
    case CEL_TIMESTAMP:
    case CEL_DURATION:
        put_text(f, value);
        break;
    default:
        fail(f, fl_cel_error(f->eval,
                             "string clause can only be used on strings, bools, bytes, ints, "
                             "doubles, maps, lists, types, durations, and timestamps, was given "
                             "%s",
                             fl_cel_type_name(value)));
        break;
    }
}

static void put_binary(struct formatter *f, uint64_t value)
{
    char digits[65];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + (value & 1));
        value >>= 1;
    } while (value);
    put(f, digits + at, sizeof(digits) - at);
}

/* %d %b %o %x %X of a number. */
static void put_integer(struct formatter *f, char verb, const struct cel_value *value)
{
    bool negative = value->kind == CEL_INT && value->integer < 0;
    uint64_t size = negative ? 0 - value->uinteger : value->uinteger;
    unsigned long long printed = size;
    char text[40];

    if (negative)
        put(f, "-", 1);
    if (verb == 'b') {
        put_binary(f, size);
        return;
    }
    if (verb == 'd')
        (void)snprintf(text, sizeof(text), "%llu", printed);
    else if (verb == 'o')
        (void)snprintf(text, sizeof(text), "%llo", printed);
    else
        (void)snprintf(text, sizeof(text), verb == 'x' ? "%llx" : "%llX", printed);
    put(f, text, strlen(text));
}

static void put_hex_bytes(struct formatter *f, char verb, const struct cel_value *value)
{
    char hex[3];

    for (size_t i = 0; i < value->text.len; i++) {
        (void)snprintf(hex, sizeof(hex), verb == 'x' ? "%02x" : "%02X",
                       (unsigned char)value->text.data[i]);
        put(f, hex, 2);
    }
}

/* %f groups thousands, as cel-go's printer for English does. */
static void put_fixed(struct formatter *f, int precision, double value)
{
    char text[400];
    size_t digits;

    (void)snprintf(text, sizeof(text), "%.*f", precision, fabs(value));
    if (value < 0)
        put(f, "-", 1);
    if (isnan(value) || isinf(value)) {
        put(f, isnan(value) ? "NaN" : "\xE2\x88\x9E", 3);
        return;
    }
    digits = strcspn(text, ".");
    for (size_t i = 0; i < digits; i++) {
        if (i > 0 && (digits - i) % 3 == 0)
            put(f, ",", 1);
        put(f, &text[i], 1);
    }
    put(f, text + digits, strlen(text + digits));
}

/* %e prints 1.5 × 10², as cel-go's printer does. */
static void put_scientific(struct formatter *f, int precision, double value)
{
    static const char *const superscripts[] = {
        "\xE2\x81\xB0", "\xC2\xB9",     "\xC2\xB2",     "\xC2\xB3",     "\xE2\x81\xB4",
        "\xE2\x81\xB5", "\xE2\x81\xB6", "\xE2\x81\xB7", "\xE2\x81\xB8", "\xE2\x81\xB9"};
    char text[400], *exponent;

    if (isnan(value) || isinf(value)) {
        put_fixed(f, 0, value);
        return;
    }
    (void)snprintf(text, sizeof(text), "%.*e", precision, value);
    exponent = strchr(text, 'e');
    put(f, text, (size_t)(exponent - text));
    put(f,
        "\xE2\x80\xAF\xC3\x97\xE2\x80\xAF"
        "10",
        10);
    exponent++;
    if (*exponent == '-')
        put(f, "\xE2\x81\xBB", 3);
    for (exponent++; *exponent; exponent++)
        put(f, superscripts[*exponent - '0'], strlen(superscripts[*exponent - '0']));
}

static void put_verb(struct formatter *f, char verb, int precision, const struct cel_value *value)
{
    bool integer = value->kind == CEL_INT || value->kind == CEL_UINT;
    struct cel_value number;

    switch (verb) {
    case 's':
        put_string(f, value);
        return;
    case 'd':
    case 'o':
        if (integer)
            put_integer(f, verb, value);
        else
            fail(f, fl_cel_error(f->eval, "%s clause can only be used on integers, was given %s",
                                 verb == 'd' ? "decimal" : "octal", fl_cel_type_name(value)));
        return;
    case 'b':
        number = value->kind == CEL_BOOL ? cel_int(value->boolean) : *value;
        if (integer || value->kind == CEL_BOOL)
            put_integer(f, verb, &number);
        else
            fail(f, fl_cel_error(f->eval,
                                 "only integers and bools can be formatted as binary, was given "
                                 "%s",
                                 fl_cel_type_name(value)));
        return;
    case 'x':
    case 'X':
        if (integer)
            put_integer(f, verb, value);
        else if (value->kind == CEL_STRING || value->kind == CEL_BYTES)
            put_hex_bytes(f, verb, value);
        else
            fail(f, fl_cel_error(f->eval,
                                 "only integers, byte buffers, and strings can be formatted as "
                                 "hex, was given %s",
                                 fl_cel_type_name(value)));
        return;
    case 'f':
    case 'e':
        if (value->kind != CEL_DOUBLE)
            fail(f,
                 fl_cel_error(f->eval, "%s clause can only be used on doubles, was given %s",
                              verb == 'f' ? "fixed-point" : "scientific", fl_cel_type_name(value)));
        else if (verb == 'f')
            put_fixed(f, precision, value->real);
        else
            put_scientific(f, precision, value->real);
        return;
    default:
        fail(f, fl_cel_error(f->eval, "unrecognized formatting clause \"%c\"",
                             verb >= ' ' && verb < 127 ? verb : '?'));
    }
}

/* ".12" of "%.12f"; 6 where there is none. */
static int read_precision(const char **at, const char *end)
{
    int precision = 0;

    if (*at >= end || **at != '.')
        return 6;
    for ((*at)++; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
        if (precision < 1000)
            precision = precision * 10 + (**at - '0');
    }
    return precision > 60 ? 60 : precision;
}

static void run(struct formatter *f, const struct cel_value *format, const struct cel_value *list)
{
    const char *at = format->text.data, *end = at + format->text.len;
    size_t used = 0;

    while (at < end && !f->failed && !f->eval->exceeded) {
        const char *percent = memchr(at, '%', (size_t)(end - at));
        struct cel_value value;
        int precision;

        put(f, at, (size_t)((percent ? percent : end) - at));
        if (!percent)
            return;
        at = percent + 1;
        if (at < end && *at == '%') {
            put(f, at++, 1);
            continue;
        }
        precision = read_precision(&at, end);
        if (at >= end) {
            fail(f, fl_cel_error(f->eval, "unexpected end of string"));
            return;
        }
        if (used >= list->many.count) {
            fail(f, fl_cel_error(f->eval, "index %zu out of range", used));
            return;
        }
        value = fl_cel_item(f->eval, list, used++);
        put_verb(f, *at++, precision, &value);
    }
}

static struct cel_value format(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct formatter f = {.eval = eval};
    struct cel_value value;

    (void)count;
    if (args[0].kind != CEL_STRING || args[1].kind != CEL_LIST)
        return fl_cel_no_overload();
    fl_buf_init(&f.out, 0);
    run(&f, &args[0], &args[1]);
    value = f.failed ? f.error
                     : cel_string(fl_arena_strndup(eval->arena, fl_buf_text(&f.out), f.out.len),
                                  f.out.len);
    fl_buf_finish(&f.out);
    return value;
}

static struct cel_value quote(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct formatter f = {.eval = eval};

    (void)count;
    return args[0].kind == CEL_STRING ? literal_text(&f, &args[0]) : fl_cel_no_overload();
}

const struct cel_function fl_cel_format_functions[] = {
    {"format", true, "sl>s", format},
    {"strings.quote", false, "s>s", quote},
    {0},
};
