#include "api/cel_internal.h"
#include "lib/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* Conversions, and the other functions of the language itself: size, type, dyn. */

static struct cel_value no_conversion(struct cel_eval *eval, const struct cel_value *value,
                                      const char *to)
{
    return fl_cel_error(eval, "type conversion error from '%s' to '%s'", fl_cel_type_name(value),
                        to);
}

static struct cel_value net_text(struct cel_eval *eval, const struct cel_value *value)
{
    char text[INET6_ADDRSTRLEN] = "";

    (void)inet_ntop(value->net->size == 4 ? AF_INET : AF_INET6, value->net->bytes, text,
                    sizeof(text));
    if (value->kind == CEL_IP)
        return fl_cel_cstring(fl_arena_strdup(eval->arena, text));
    return fl_cel_cstring(fl_arena_printf(eval->arena, "%s/%d", text, value->net->prefix));
}

struct cel_value fl_cel_to_string(struct cel_eval *eval, const struct cel_value *value)
{
    char real[FL_DOUBLE_TEXT_SIZE];

    switch (value->kind) {
    case CEL_STRING:
        return *value;
    case CEL_BOOL:
        return fl_cel_cstring(value->boolean ? "true" : "false");
    case CEL_INT:
        return fl_cel_cstring(fl_arena_printf(eval->arena, "%lld", (long long)value->integer));
    case CEL_UINT:
        return fl_cel_cstring(
            fl_arena_printf(eval->arena, "%llu", (unsigned long long)value->uinteger));
    case CEL_DOUBLE:
        fl_str_from_double(value->real, real);
        return fl_cel_cstring(fl_arena_strdup(eval->arena, real));
    case CEL_BYTES:
        if (!fl_utf8_valid(value->text.data, value->text.len) ||
            memchr(value->text.data, '\0', value->text.len))
            return fl_cel_error(eval, "invalid UTF-8 in bytes, cannot convert to string");
        return cel_string(value->text.data, value->text.len);
    case CEL_TIMESTAMP:
        return fl_cel_timestamp_text(eval, value);
    case CEL_DURATION:
        return fl_cel_duration_text(eval, value->integer);
    case CEL_IP:
    case CEL_CIDR:
        return net_text(eval, value);
    default:
        return no_conversion(eval, value, "string");
    }
}

static struct cel_value to_string(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    return fl_cel_to_string(eval, &args[0]);
}

/* Digits with an optional sign, as Go's ParseInt and ParseUint read them in base 10. */
static bool parse_integer(struct cel_eval *eval, const struct cel_value *text, bool is_unsigned,
                          uint64_t *ret_value)
{
    const char *start = fl_cel_strdup(eval, text), *digits = start;
    char *end;

    if (!is_unsigned && (*digits == '-' || *digits == '+'))
        digits++;
    if (*digits < '0' || *digits > '9')
        return false;
    errno = 0;
    *ret_value = is_unsigned ? strtoull(start, &end, 10) : (uint64_t)strtoll(start, &end, 10);
    return errno == 0 && end == start + text->text.len;
}

static struct cel_value to_int(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    const struct cel_value *value = &args[0];
    uint64_t parsed;

    (void)count;
    switch (value->kind) {
    case CEL_INT:
        return *value;
    case CEL_UINT:
        if (value->uinteger > INT64_MAX)
            return fl_cel_error(eval, "integer overflow");
        return cel_int((int64_t)value->uinteger);
    case CEL_DOUBLE:
        // cppcheck-suppress incorrectLogicOperator ; it does not read the exponent of 0x1p63
        if (!(value->real > -0x1p63 && value->real < 0x1p63))
            return fl_cel_error(eval, "integer overflow");
        return cel_int((int64_t)value->real);
    case CEL_STRING:
        if (!parse_integer(eval, value, false, &parsed))
            return fl_cel_error(eval, "strconv.ParseInt: parsing \"%.100s\": invalid syntax",
                                fl_cel_strdup(eval, value));
        return cel_int((int64_t)parsed);
    case CEL_TIMESTAMP:
        return cel_int(value->time.seconds);
    case CEL_DURATION:
        return cel_int(value->integer);
    default:
        return no_conversion(eval, value, "int");
    }
}

static struct cel_value to_uint(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    const struct cel_value *value = &args[0];
    uint64_t parsed;

    (void)count;
    switch (value->kind) {
    case CEL_UINT:
        return *value;
    case CEL_INT:
        if (value->integer < 0)
            return fl_cel_error(eval, "unsigned integer overflow");
        return cel_uint((uint64_t)value->integer);
    case CEL_DOUBLE:
        if (!(value->real >= 0 && value->real < 0x1p64))
            return fl_cel_error(eval, "unsigned integer overflow");
        return cel_uint((uint64_t)value->real);
    case CEL_STRING:
        if (!parse_integer(eval, value, true, &parsed))
            return fl_cel_error(eval, "strconv.ParseUint: parsing \"%.100s\": invalid syntax",
                                fl_cel_strdup(eval, value));
        return cel_uint(parsed);
    default:
        return no_conversion(eval, value, "uint");
    }
}

/* C reads more than Go does: spaces, "nan(…)", hexadecimal digits without an exponent. */
static bool parse_real(const char *text, double *ret_value)
{
    char *end;

    if (*text == '\0' ||
        strspn(text, "0123456789+-.eExXpPabcdfABCDFinfINFtyTYnaNA") != strlen(text))
        return false;
    if (strpbrk(text, "xX") && !strpbrk(text, "pP"))
        return false;
    *ret_value = strtod(text, &end);
    return *end == '\0' && !(isinf(*ret_value) && !strpbrk(text, "nN"));
}

static struct cel_value to_double(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    const struct cel_value *value = &args[0];
    double parsed;

    (void)count;
    switch (value->kind) {
    case CEL_DOUBLE:
        return *value;
    case CEL_INT:
        return cel_double((double)value->integer);
    case CEL_UINT:
        return cel_double((double)value->uinteger);
    case CEL_STRING:
        if (!parse_real(fl_cel_strdup(eval, value), &parsed))
            return no_conversion(eval, value, "double");
        return cel_double(parsed);
    default:
        return no_conversion(eval, value, "double");
    }
}

static struct cel_value to_bool(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    static const char *const words[] = {"1", "t", "T", "true",  "TRUE",  "True",
                                        "0", "f", "F", "false", "FALSE", "False"};
    const char *text;

    (void)count;
    if (args[0].kind == CEL_BOOL)
        return args[0];
    if (args[0].kind != CEL_STRING)
        return no_conversion(eval, &args[0], "bool");
    text = fl_cel_strdup(eval, &args[0]);
    for (size_t i = 0; i < FL_COUNT_OF(words); i++) {
        if (!strcmp(text, words[i]))
            return cel_bool(i < FL_COUNT_OF(words) / 2);
    }
    return no_conversion(eval, &args[0], "bool");
}

static struct cel_value to_bytes(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    if (args[0].kind != CEL_STRING && args[0].kind != CEL_BYTES)
        return no_conversion(eval, &args[0], "bytes");
    return cel_text(CEL_BYTES, args[0].text.data, args[0].text.len);
}

static struct cel_value to_duration(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    int64_t nanos;

    (void)count;
    if (args[0].kind == CEL_DURATION)
        return args[0];
    if (args[0].kind == CEL_INT)
        return cel_duration(args[0].integer);
    if (args[0].kind != CEL_STRING)
        return no_conversion(eval, &args[0], "google.protobuf.Duration");
    if (!fl_cel_duration_parse(args[0].text.data, args[0].text.len, &nanos))
        return no_conversion(eval, &args[0], "google.protobuf.Duration");
    return cel_duration(nanos);
}

static struct cel_value to_timestamp(struct cel_eval *eval, const struct cel_value *args,
                                     size_t count)
{
    struct cel_value value;

    (void)count;
    if (args[0].kind == CEL_TIMESTAMP)
        return args[0];
    if (args[0].kind == CEL_INT) {
        if (args[0].integer > INT64_C(1) << 40 || args[0].integer < -(INT64_C(1) << 40) ||
            !fl_cel_timestamp_make(args[0].integer, 0, 0, &value))
            return fl_cel_error(eval, "timestamp overflow");
        return value;
    }
    if (args[0].kind != CEL_STRING)
        return no_conversion(eval, &args[0], "google.protobuf.Timestamp");
    if (!fl_cel_timestamp_parse(args[0].text.data, args[0].text.len, &value))
        return no_conversion(eval, &args[0], "google.protobuf.Timestamp");
    return value;
}

static struct cel_value to_dyn(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)eval;
    (void)count;
    return args[0];
}

static struct cel_value type_of(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    const char *name = fl_cel_type_name(&args[0]);

    (void)eval;
    (void)count;
    return cel_text(CEL_TYPE, name, strlen(name));
}

static struct cel_value size_of(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    switch (args[0].kind) {
    case CEL_STRING:
        fl_cel_charge(eval, args[0].text.len / 10);
        return cel_int((int64_t)fl_utf8_count(args[0].text.data, args[0].text.len));
    case CEL_BYTES:
        return cel_int((int64_t)args[0].text.len);
    case CEL_LIST:
    case CEL_MAP:
        return cel_int((int64_t)args[0].many.count);
    default:
        return fl_cel_no_overload();
    }
}

const struct cel_function fl_cel_standard_functions[] = {
    {"size", false, "s>i|y>i|l>i|m>i", size_of},
    {"size", true, "s>i|y>i|l>i|m>i", size_of},
    {"type", false, "*>T", type_of},
    {"dyn", false, "*>*", to_dyn},
    {"int", false, "i>i|u>i|d>i|s>i|t>i|D>i", to_int},
    {"uint", false, "u>u|i>u|d>u|s>u", to_uint},
    {"double", false, "d>d|i>d|u>d|s>d", to_double},
    {"string", false, "s>s|b>s|i>s|u>s|d>s|y>s|t>s|D>s|p>s|c>s", to_string},
    {"bool", false, "b>b|s>b", to_bool},
    {"bytes", false, "y>y|s>y", to_bytes},
    {"duration", false, "D>D|s>D|i>D", to_duration},
    {"timestamp", false, "t>t|s>t|i>t", to_timestamp},
    {0},
};
