#include "api/cel_internal.h"
#include "lib/str.h"

#include <math.h>

/* Operators. Numbers of different types compare by value, as Kubernetes' environment allows;
 * arithmetic wants one type and checks for overflow. */

static bool compare_reals(double a, double b, int *ret_order)
{
    if (isnan(a) || isnan(b))
        return false;
    *ret_order = (a > b) - (a < b);
    return true;
}

static bool compare_int_real(int64_t a, double b, int *ret_order)
{
    if (isnan(b))
        return false;
    if (b >= 0x1p63)
        *ret_order = -1;
    else if (b < -0x1p63)
        *ret_order = 1;
    else if (a != (int64_t)b)
        *ret_order = a < (int64_t)b ? -1 : 1;
    else
        *ret_order = (b < trunc(b)) - (b > trunc(b));
    return true;
}

static bool compare_uint_real(uint64_t a, double b, int *ret_order)
{
    if (isnan(b))
        return false;
    if (b >= 0x1p64)
        *ret_order = -1;
    else if (b < 0)
        *ret_order = 1;
    else if (a != (uint64_t)b)
        *ret_order = a < (uint64_t)b ? -1 : 1;
    else
        *ret_order = (b < trunc(b)) - (b > trunc(b));
    return true;
}

/* False where one is NaN. */
static bool compare_numbers(const struct cel_value *a, const struct cel_value *b, int *ret_order)
{
    if (a->kind > b->kind) {
        int order = 0;
        bool ordered = compare_numbers(b, a, &order);

        *ret_order = -order;
        return ordered;
    }
    if (a->kind == CEL_DOUBLE)
        return compare_reals(a->real, b->real, ret_order);
    if (b->kind == CEL_DOUBLE)
        return a->kind == CEL_INT ? compare_int_real(a->integer, b->real, ret_order)
                                  : compare_uint_real(a->uinteger, b->real, ret_order);
    if (a->kind == CEL_INT && b->kind == CEL_INT)
        *ret_order = (a->integer > b->integer) - (a->integer < b->integer);
    else if (a->kind == CEL_INT && a->integer < 0)
        *ret_order = -1;
    else
        *ret_order = (a->uinteger > b->uinteger) - (a->uinteger < b->uinteger);
    return true;
}

static int compare_texts(const struct cel_value *a, const struct cel_value *b)
{
    size_t min = a->text.len < b->text.len ? a->text.len : b->text.len;
    int order = min ? memcmp(a->text.data, b->text.data, min) : 0;

    if (order == 0)
        order = (a->text.len > b->text.len) - (a->text.len < b->text.len);
    return order;
}

bool fl_cel_compare(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b,
                    int *ret_order, struct cel_value *ret_error)
{
    *ret_order = 0;
    if (cel_is_number(a) && cel_is_number(b)) {
        if (compare_numbers(a, b, ret_order))
            return true;
        *ret_error = fl_cel_error(eval, "NaN values cannot be ordered");
        return false;
    }
    *ret_error = fl_cel_no_overload();
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case CEL_BOOL:
        *ret_order = a->boolean - b->boolean;
        return true;
    case CEL_STRING:
    case CEL_BYTES:
        fl_cel_charge(eval, (a->text.len < b->text.len ? a->text.len : b->text.len) / 10);
        *ret_order = compare_texts(a, b);
        return true;
    case CEL_DURATION:
        *ret_order = (a->integer > b->integer) - (a->integer < b->integer);
        return true;
    case CEL_TIMESTAMP:
        *ret_order = (a->time.seconds > b->time.seconds) - (a->time.seconds < b->time.seconds);
        if (*ret_order == 0)
            *ret_order = (a->time.nanos > b->time.nanos) - (a->time.nanos < b->time.nanos);
        return true;
    default:
        return false;
    }
}

static bool equal_lists(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b)
{
    if (a->many.count != b->many.count)
        return false;
    if (a->node && fl_schema_node_list_type(a->node) != FL_LIST_ATOMIC)
        return fl_cel_keyed_equal(eval, a, b);
    if (!fl_cel_charge(eval, a->many.count))
        return false;
    for (size_t i = 0; i < a->many.count; i++) {
        struct cel_value x = fl_cel_item(eval, a, i), y = fl_cel_item(eval, b, i);

        if (!fl_cel_equal(eval, &x, &y))
            return false;
    }
    return true;
}

static bool equal_maps(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b)
{
    const struct cel_pair *pairs;

    if (a->many.count != b->many.count || !fl_cel_charge(eval, a->many.count))
        return false;
    pairs = fl_cel_pairs(eval, a);
    for (size_t i = 0; i < a->many.count; i++) {
        struct cel_value other;

        if (!fl_cel_find(eval, b, &pairs[i].key, &other) ||
            !fl_cel_equal(eval, &pairs[i].value, &other))
            return false;
    }
    return true;
}

static bool equal_urls(const struct cel_url *a, const struct cel_url *b)
{
    return fl_streq(a->scheme, b->scheme) && fl_streq(a->host, b->host) &&
           fl_streq(a->path, b->path) && fl_streq(a->query, b->query);
}

static bool equal_optionals(struct cel_eval *eval, const struct cel_value *a,
                            const struct cel_value *b)
{
    if (!a->inner || !b->inner)
        return a->inner == b->inner;
    return fl_cel_equal(eval, a->inner, b->inner);
}

bool fl_cel_equal(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b)
{
    struct cel_value error;
    int order;

    if (cel_is_number(a) && cel_is_number(b))
        return compare_numbers(a, b, &order) && order == 0;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case CEL_NULL:
        return true;
    case CEL_TYPE:
        return compare_texts(a, b) == 0;
    case CEL_LIST:
        return equal_lists(eval, a, b);
    case CEL_MAP:
        return equal_maps(eval, a, b);
    case CEL_OPTIONAL:
        return equal_optionals(eval, a, b);
    case CEL_QUANTITY:
        return a->quantity->nano == b->quantity->nano;
    case CEL_URL:
        return equal_urls(a->url, b->url);
    case CEL_IP:
    case CEL_CIDR:
        return a->net->size == b->net->size && a->net->prefix == b->net->prefix &&
               memcmp(a->net->bytes, b->net->bytes, a->net->size) == 0;
    default:
        return fl_cel_compare(eval, a, b, &order, &error) && order == 0;
    }
}

bool fl_cel_contains(struct cel_eval *eval, const struct cel_value *list,
                     const struct cel_value *value)
{
    for (size_t i = 0; i < list->many.count && fl_cel_charge(eval, 1); i++) {
        struct cel_value item = fl_cel_item(eval, list, i);

        if (fl_cel_equal(eval, value, &item))
            return true;
    }
    return false;
}

static struct cel_value in(struct cel_eval *eval, const struct cel_value *a,
                           const struct cel_value *b)
{
    struct cel_value found;

    if (b->kind == CEL_LIST)
        return cel_bool(fl_cel_contains(eval, b, a));
    if (b->kind == CEL_MAP)
        return cel_bool(fl_cel_find(eval, b, a, &found));
    return fl_cel_no_overload();
}

static struct cel_value int_arithmetic(struct cel_eval *eval, enum cel_binary op, int64_t a,
                                       int64_t b)
{
    int64_t result = 0;
    bool overflow = false;

    if ((op == CEL_DIVIDE || op == CEL_MODULO) && b == 0)
        return fl_cel_error(eval, op == CEL_DIVIDE ? "division by zero" : "modulus by zero");
    switch (op) {
    case CEL_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case CEL_SUBTRACT:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case CEL_MULTIPLY:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    default:
        overflow = a == INT64_MIN && b == -1;
        if (!overflow)
            result = op == CEL_DIVIDE ? a / b : a % b;
        break;
    }
    return overflow ? fl_cel_error(eval, "integer overflow") : cel_int(result);
}

static struct cel_value uint_arithmetic(struct cel_eval *eval, enum cel_binary op, uint64_t a,
                                        uint64_t b)
{
    uint64_t result = 0;
    bool overflow = false;

    if ((op == CEL_DIVIDE || op == CEL_MODULO) && b == 0)
        return fl_cel_error(eval, op == CEL_DIVIDE ? "division by zero" : "modulus by zero");
    switch (op) {
    case CEL_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case CEL_SUBTRACT:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case CEL_MULTIPLY:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    default:
        result = op == CEL_DIVIDE ? a / b : a % b;
        break;
    }
    return overflow ? fl_cel_error(eval, "unsigned integer overflow") : cel_uint(result);
}

static struct cel_value real_arithmetic(enum cel_binary op, double a, double b)
{
    switch (op) {
    case CEL_ADD:
        return cel_double(a + b);
    case CEL_SUBTRACT:
        return cel_double(a - b);
    case CEL_MULTIPLY:
        return cel_double(a * b);
    case CEL_DIVIDE:
        return cel_double(a / b);
    default:
        return fl_cel_no_overload();
    }
}

static struct cel_value concatenate(struct cel_eval *eval, const struct cel_value *a,
                                    const struct cel_value *b)
{
    size_t len = a->text.len + b->text.len;
    char *data;

    if (!fl_cel_charge(eval, len / 10))
        return fl_cel_too_costly();
    data = fl_alloc(eval->arena, len + 1);
    if (a->text.len)
        memcpy(data, a->text.data, a->text.len);
    if (b->text.len)
        memcpy(data + a->text.len, b->text.data, b->text.len);
    return cel_text(a->kind, data, len);
}

static struct cel_value add_lists(struct cel_eval *eval, const struct cel_value *a,
                                  const struct cel_value *b)
{
    size_t count = a->many.count + b->many.count;
    struct cel_value *items;

    if (a->node && fl_schema_node_list_type(a->node) != FL_LIST_ATOMIC)
        return fl_cel_keyed_add(eval, a, b);
    if (!fl_cel_charge(eval, count))
        return fl_cel_too_costly();
    items = fl_new_array(eval->arena, struct cel_value, count + 1);
    for (size_t i = 0; i < count; i++)
        items[i] =
            i < a->many.count ? fl_cel_item(eval, a, i) : fl_cel_item(eval, b, i - a->many.count);
    return cel_list(items, count);
}

static struct cel_value shift_time(struct cel_eval *eval, const struct cel_value *time,
                                   int64_t nanos, int sign)
{
    struct cel_value value;
    int64_t total = time->time.nanos + sign * (nanos % CEL_NANOS);

    if (!fl_cel_timestamp_make(time->time.seconds + sign * (nanos / CEL_NANOS), total,
                               time->time.offset_minutes, &value))
        return fl_cel_error(eval, "timestamp overflow");
    return value;
}

static struct cel_value time_difference(struct cel_eval *eval, const struct cel_value *a,
                                        const struct cel_value *b)
{
    int64_t nanos;

    if (__builtin_mul_overflow(a->time.seconds - b->time.seconds, CEL_NANOS, &nanos) ||
        __builtin_add_overflow(nanos, (int64_t)a->time.nanos - b->time.nanos, &nanos))
        return fl_cel_error(eval, "integer overflow");
    return cel_duration(nanos);
}

static struct cel_value add(struct cel_eval *eval, const struct cel_value *a,
                            const struct cel_value *b)
{
    int64_t nanos;

    if (a->kind == CEL_TIMESTAMP && b->kind == CEL_DURATION)
        return shift_time(eval, a, b->integer, 1);
    if (a->kind == CEL_DURATION && b->kind == CEL_TIMESTAMP)
        return shift_time(eval, b, a->integer, 1);
    if (a->kind != b->kind)
        return fl_cel_no_overload();
    if (a->kind == CEL_STRING || a->kind == CEL_BYTES)
        return concatenate(eval, a, b);
    if (a->kind == CEL_LIST)
        return add_lists(eval, a, b);
    if (a->kind != CEL_DURATION)
        return fl_cel_no_overload();
    if (__builtin_add_overflow(a->integer, b->integer, &nanos))
        return fl_cel_error(eval, "integer overflow");
    return cel_duration(nanos);
}

static struct cel_value subtract(struct cel_eval *eval, const struct cel_value *a,
                                 const struct cel_value *b)
{
    int64_t nanos;

    if (a->kind == CEL_TIMESTAMP && b->kind == CEL_TIMESTAMP)
        return time_difference(eval, a, b);
    if (a->kind == CEL_TIMESTAMP && b->kind == CEL_DURATION)
        return shift_time(eval, a, b->integer, -1);
    if (a->kind != CEL_DURATION || b->kind != CEL_DURATION)
        return fl_cel_no_overload();
    if (__builtin_sub_overflow(a->integer, b->integer, &nanos))
        return fl_cel_error(eval, "integer overflow");
    return cel_duration(nanos);
}

static struct cel_value order(struct cel_eval *eval, enum cel_binary op, const struct cel_value *a,
                              const struct cel_value *b)
{
    struct cel_value error;
    int result;

    if (!fl_cel_compare(eval, a, b, &result, &error))
        return error;
    switch (op) {
    case CEL_LESS:
        return cel_bool(result < 0);
    case CEL_LESS_EQUAL:
        return cel_bool(result <= 0);
    case CEL_GREATER:
        return cel_bool(result > 0);
    default:
        return cel_bool(result >= 0);
    }
}

struct cel_value fl_cel_binary(struct cel_eval *eval, enum cel_binary op, const struct cel_value *a,
                               const struct cel_value *b)
{
    switch (op) {
    case CEL_EQUAL:
        return cel_bool(fl_cel_equal(eval, a, b));
    case CEL_NOT_EQUAL:
        return cel_bool(!fl_cel_equal(eval, a, b));
    case CEL_IN:
        return in(eval, a, b);
    case CEL_LESS:
    case CEL_LESS_EQUAL:
    case CEL_GREATER:
    case CEL_GREATER_EQUAL:
        return order(eval, op, a, b);
    default:
        break;
    }
    if (a->kind == b->kind && a->kind == CEL_INT)
        return int_arithmetic(eval, op, a->integer, b->integer);
    if (a->kind == b->kind && a->kind == CEL_UINT)
        return uint_arithmetic(eval, op, a->uinteger, b->uinteger);
    if (a->kind == b->kind && a->kind == CEL_DOUBLE)
        return real_arithmetic(op, a->real, b->real);
    if (op == CEL_ADD)
        return add(eval, a, b);
    return op == CEL_SUBTRACT ? subtract(eval, a, b) : fl_cel_no_overload();
}

struct cel_value fl_cel_negate(struct cel_eval *eval, const struct cel_value *a)
{
    if (a->kind == CEL_DOUBLE)
        return cel_double(-a->real);
    if (a->kind != CEL_INT && a->kind != CEL_DURATION)
        return fl_cel_no_overload();
    if (a->integer == INT64_MIN)
        return fl_cel_error(eval, "integer overflow");
    return a->kind == CEL_INT ? cel_int(-a->integer) : cel_duration(-a->integer);
}
