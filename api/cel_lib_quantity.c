#include "api/cel_internal.h"
#include "lib/str.h"

/* Kubernetes quantities ("500m", "1.5Gi", "2e3") as exact decimals in units of 10^-9, rounded up
 * (away from zero) below that and capped at 2^63-1 as Kubernetes caps them. */

#define NANO ((__int128)1000000000)
#define CAP  ((__int128)INT64_MAX * NANO)

/* What a suffix multiplies by: base^exponent. */
struct suffix {
    int base, exponent;
};

static bool read_suffix(const char *text, struct suffix *ret_suffix)
{
    static const struct {
        const char *text;
        struct suffix suffix;
    } suffixes[] = {
        {"", {10, 0}},   {"n", {10, -9}}, {"u", {10, -6}}, {"m", {10, -3}},
        {"k", {10, 3}},  {"M", {10, 6}},  {"G", {10, 9}},  {"T", {10, 12}},
        {"P", {10, 15}}, {"E", {10, 18}}, {"Ki", {2, 10}}, {"Mi", {2, 20}},
        {"Gi", {2, 30}}, {"Ti", {2, 40}}, {"Pi", {2, 50}}, {"Ei", {2, 60}},
    };
    int64_t exponent;

    for (size_t i = 0; i < FL_COUNT_OF(suffixes); i++) {
        if (!strcmp(text, suffixes[i].text)) {
            *ret_suffix = suffixes[i].suffix;
            return true;
        }
    }
    if ((*text != 'e' && *text != 'E') ||
        !fl_str_to_int64(text + (text[1] == '+' ? 2 : 1), -1000, 1000, &exponent))
        return false;
    *ret_suffix = (struct suffix){10, (int)exponent};
    return true;
}

/* value * factor, no further than the cap. */
static __int128 scale_up(__int128 value, int base, int exponent)
{
    for (; exponent > 0 && value != 0; exponent--) {
        if (value > CAP / base)
            return CAP;
        value *= base;
    }
    return value;
}

static __int128 scale_down(__int128 value, int exponent)
{
    for (; exponent > 0 && value != 0; exponent--)
        value = value / 10 + (value % 10 != 0);
    return value;
}

static bool parse(const char *text, __int128 *ret_nano)
{
    bool negative = *text == '-', more = false;
    __int128 value = 0;
    struct suffix suffix;
    int fraction = 0;

    if (!*text)
        return false;
    if (*text == '-' || *text == '+')
        text++;
    /* no digits are 0: Kubernetes takes "Gi", and "." */
    for (; *text >= '0' && *text <= '9'; text++)
        value = value > CAP ? CAP : value * 10 + (*text - '0');
    if (*text == '.') {
        for (text++; *text >= '0' && *text <= '9'; text++) {
            if (fraction < 18 && value < CAP / 100) {
                value = value * 10 + (*text - '0');
                fraction++;
            } else {
                more |= *text != '0';
            }
        }
    }
    if (!read_suffix(text, &suffix))
        return false;
    value += more; /* rounds up in the end */
    if (suffix.base == 2) {
        /* few enough digits that the product fits: value < 2^125 / 2^60 or it is capped */
        value = scale_up(value, 2, suffix.exponent);
        suffix.exponent = 0;
    }
    suffix.exponent += 9 - fraction;
    value = suffix.exponent >= 0 ? scale_up(value, 10, suffix.exponent)
                                 : scale_down(value, -suffix.exponent);
    if (value > CAP)
        value = CAP;
    *ret_nano = negative ? -value : value;
    return true;
}

static struct cel_value make(struct cel_eval *eval, __int128 nano)
{
    struct cel_quantity *quantity = fl_new(eval->arena, struct cel_quantity);

    quantity->nano = nano;
    return (struct cel_value){.kind = CEL_QUANTITY, .quantity = quantity};
}

static struct cel_value quantity(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    __int128 nano;

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    if (!parse(fl_cel_strdup(eval, &args[0]), &nano))
        return fl_cel_error(eval, "quantities must match the regular expression "
                                  "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
    return make(eval, nano);
}

static struct cel_value is_quantity(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    __int128 nano;

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    return cel_bool(parse(fl_cel_strdup(eval, &args[0]), &nano));
}

static bool whole(__int128 nano)
{
    return nano % NANO == 0;
}

static struct cel_value is_integer(struct cel_eval *eval, const struct cel_value *args,
                                   size_t count)
{
    (void)eval;
    (void)count;
    if (args[0].kind != CEL_QUANTITY)
        return fl_cel_no_overload();
    return cel_bool(whole(args[0].quantity->nano));
}

static struct cel_value as_integer(struct cel_eval *eval, const struct cel_value *args,
                                   size_t count)
{
    __int128 nano;

    (void)count;
    if (args[0].kind != CEL_QUANTITY)
        return fl_cel_no_overload();
    nano = args[0].quantity->nano;
    if (!whole(nano) || nano > CAP || nano < -CAP - NANO)
        return fl_cel_error(eval, "cannot convert value to integer");
    return cel_int((int64_t)(nano / NANO));
}

static struct cel_value as_float(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)eval;
    (void)count;
    if (args[0].kind != CEL_QUANTITY)
        return fl_cel_no_overload();
    return cel_double((double)args[0].quantity->nano / 1e9);
}

static struct cel_value sign(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    __int128 nano;

    (void)eval;
    (void)count;
    if (args[0].kind != CEL_QUANTITY)
        return fl_cel_no_overload();
    nano = args[0].quantity->nano;
    return cel_int((nano > 0) - (nano < 0));
}

static struct cel_value compare_to(struct cel_eval *eval, const struct cel_value *args,
                                   size_t count)
{
    __int128 a, b;

    (void)eval;
    (void)count;
    if (args[0].kind != CEL_QUANTITY || args[1].kind != CEL_QUANTITY)
        return fl_cel_no_overload();
    a = args[0].quantity->nano;
    b = args[1].quantity->nano;
    return cel_int((a > b) - (a < b));
}

static struct cel_value is_greater(struct cel_eval *eval, const struct cel_value *args,
                                   size_t count)
{
    struct cel_value order = compare_to(eval, args, count);

    return order.kind == CEL_INT ? cel_bool(order.integer > 0) : order;
}

static struct cel_value is_less(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value order = compare_to(eval, args, count);

    return order.kind == CEL_INT ? cel_bool(order.integer < 0) : order;
}

static struct cel_value add(struct cel_eval *eval, const struct cel_value *args, bool subtract)
{
    const __int128 bound = (__int128)1 << 125;
    __int128 other, result;

    if (args[0].kind != CEL_QUANTITY)
        return fl_cel_no_overload();
    if (args[1].kind == CEL_QUANTITY)
        other = args[1].quantity->nano;
    else if (args[1].kind == CEL_INT)
        other = args[1].integer * NANO;
    else
        return fl_cel_no_overload();
    result = subtract ? args[0].quantity->nano - other : args[0].quantity->nano + other;
    if (result > bound || result < -bound)
        return fl_cel_error(eval, "quantity out of range");
    return make(eval, result);
}

static struct cel_value plus(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    return add(eval, args, false);
}

static struct cel_value minus(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    return add(eval, args, true);
}

const struct cel_function fl_cel_quantity_functions[] = {
    {"quantity", false, "s>q", quantity},
    {"isQuantity", false, "s>b", is_quantity},
    {"isInteger", true, "q>b", is_integer},
    {"asInteger", true, "q>i", as_integer},
    {"asApproximateFloat", true, "q>d", as_float},
    {"sign", true, "q>i", sign},
    {"sign", false, "q>i", sign},
    {"compareTo", true, "qq>i", compare_to},
    {"isGreaterThan", true, "qq>b", is_greater},
    {"isLessThan", true, "qq>b", is_less},
    {"add", true, "qq>q|qi>q", plus},
    {"sub", true, "qq>q|qi>q", minus},
    {0},
};
