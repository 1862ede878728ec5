#include "api/cel_internal.h"
#include "lib/str.h"

/* Functions on lists, and sets.… */

struct cel_value fl_cel_list_index(struct cel_eval *eval, const struct cel_value *list,
                                   const struct cel_value *value, bool last)
{
    for (size_t n = 0; n < list->many.count && fl_cel_charge(eval, 1); n++) {
        size_t i = last ? list->many.count - 1 - n : n;
        struct cel_value item = fl_cel_item(eval, list, i);

        if (fl_cel_equal(eval, &item, value))
            return cel_int((int64_t)i);
    }
    return cel_int(-1);
}

static struct cel_value is_sorted(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value error, before;
    int order;

    (void)count;
    if (args[0].kind != CEL_LIST)
        return fl_cel_no_overload();
    for (size_t i = 0; i < args[0].many.count && fl_cel_charge(eval, 1); i++) {
        struct cel_value item = fl_cel_item(eval, &args[0], i);

        if (i > 0) {
            if (!fl_cel_compare(eval, &before, &item, &order, &error))
                return error;
            if (order > 0)
                return cel_bool(false);
        }
        before = item;
    }
    return cel_bool(true);
}

/* What the sum of no elements is: 0, of the type that the schema says. */
static struct cel_value empty_sum(const struct cel_value *list)
{
    const struct fl_schema_node *items =
        list->kind == CEL_LIST && list->node ? fl_schema_node_items(list->node) : NULL;

    return fl_streq(fl_schema_node_format(items), "duration") ? cel_duration(0) : cel_int(0);
}

static struct cel_value sum(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value total = empty_sum(&args[0]);

    (void)count;
    if (args[0].kind != CEL_LIST)
        return fl_cel_no_overload();
    for (size_t i = 0; i < args[0].many.count && fl_cel_charge(eval, 1); i++) {
        struct cel_value item = fl_cel_item(eval, &args[0], i);

        if (!cel_is_number(&item) && item.kind != CEL_DURATION)
            return fl_cel_no_overload();
        total = i == 0 ? item : fl_cel_binary(eval, CEL_ADD, &total, &item);
        if (total.kind == CEL_ERROR)
            return total;
    }
    return total;
}

static struct cel_value extreme(struct cel_eval *eval, const struct cel_value *list, int sign,
                                const char *name)
{
    struct cel_value best = cel_null(), error;
    int order;

    if (list->kind != CEL_LIST)
        return fl_cel_no_overload();
    if (list->many.count == 0)
        return fl_cel_error(eval, "%s called on empty list", name);
    for (size_t i = 0; i < list->many.count && fl_cel_charge(eval, 1); i++) {
        struct cel_value item = fl_cel_item(eval, list, i);

        if (i == 0) {
            best = item;
            continue;
        }
        if (!fl_cel_compare(eval, &item, &best, &order, &error))
            return error;
        if (order * sign > 0)
            best = item;
    }
    return best;
}

static struct cel_value min(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    return extreme(eval, &args[0], -1, "min");
}

static struct cel_value max(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    return extreme(eval, &args[0], 1, "max");
}

/* Whether all (or any) of `b` are in `a`. */
static bool includes(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b,
                     bool any)
{
    for (size_t i = 0; i < b->many.count && fl_cel_charge(eval, 1); i++) {
        struct cel_value item = fl_cel_item(eval, b, i);

        if (fl_cel_contains(eval, a, &item) == any)
            return any;
    }
    return !any;
}

static bool two_lists(const struct cel_value *args)
{
    return args[0].kind == CEL_LIST && args[1].kind == CEL_LIST;
}

static struct cel_value sets_contains(struct cel_eval *eval, const struct cel_value *args,
                                      size_t count)
{
    (void)count;
    if (!two_lists(args))
        return fl_cel_no_overload();
    return cel_bool(includes(eval, &args[0], &args[1], false));
}

static struct cel_value sets_equivalent(struct cel_eval *eval, const struct cel_value *args,
                                        size_t count)
{
    (void)count;
    if (!two_lists(args))
        return fl_cel_no_overload();
    return cel_bool(includes(eval, &args[0], &args[1], false) &&
                    includes(eval, &args[1], &args[0], false));
}

static struct cel_value sets_intersects(struct cel_eval *eval, const struct cel_value *args,
                                        size_t count)
{
    (void)count;
    if (!two_lists(args))
        return fl_cel_no_overload();
    return cel_bool(includes(eval, &args[0], &args[1], true));
}

const struct cel_function fl_cel_list_functions[] = {
    {"isSorted", true, "B>b", is_sorted},
    {"sum", true, "N>e", sum},
    {"min", true, "B>e", min},
    {"max", true, "B>e", max},
    {"sets.contains", false, "ll>b", sets_contains},
    {"sets.equivalent", false, "ll>b", sets_equivalent},
    {"sets.intersects", false, "ll>b", sets_intersects},
    {0},
};

/* Optional values. `or` and `orValue` of one that is there do not look at their argument; the
 * evaluator sees to that. */

static struct cel_value optional_of(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    (void)count;
    return fl_cel_optional(eval, &args[0]);
}

static struct cel_value optional_none(struct cel_eval *eval, const struct cel_value *args,
                                      size_t count)
{
    (void)args;
    (void)count;
    return fl_cel_optional(eval, NULL);
}

static bool is_zero(const struct cel_value *value)
{
    switch (value->kind) {
    case CEL_NULL:
        return true;
    case CEL_BOOL:
        return !value->boolean;
    case CEL_INT:
    case CEL_UINT:
    case CEL_DURATION:
        return value->integer == 0;
    case CEL_DOUBLE:
        return value->real == 0;
    case CEL_STRING:
    case CEL_BYTES:
        return value->text.len == 0;
    case CEL_LIST:
    case CEL_MAP:
        return value->many.count == 0;
    case CEL_TIMESTAMP:
        return value->time.seconds == INT64_C(-62135596800) && value->time.nanos == 0;
    default:
        return false;
    }
}

static struct cel_value optional_of_non_zero(struct cel_eval *eval, const struct cel_value *args,
                                             size_t count)
{
    (void)count;
    return fl_cel_optional(eval, is_zero(&args[0]) ? NULL : &args[0]);
}

static struct cel_value has_value(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)eval;
    (void)count;
    return args[0].kind == CEL_OPTIONAL ? cel_bool(args[0].inner) : fl_cel_no_overload();
}

static struct cel_value value_of(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)count;
    if (args[0].kind != CEL_OPTIONAL)
        return fl_cel_no_overload();
    if (!args[0].inner)
        return fl_cel_error(eval, "optional.none() dereference");
    return *args[0].inner;
}

static struct cel_value or_value(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    (void)eval;
    (void)count;
    return args[0].kind == CEL_OPTIONAL ? args[1] : fl_cel_no_overload();
}

static struct cel_value or_optional(struct cel_eval *eval, const struct cel_value *args,
                                    size_t count)
{
    (void)eval;
    (void)count;
    if (args[0].kind != CEL_OPTIONAL || args[1].kind != CEL_OPTIONAL)
        return fl_cel_no_overload();
    return args[1];
}

const struct cel_function fl_cel_optional_functions[] = {
    {"optional.of", false, "*>O", optional_of},
    {"optional.none", false, ">o", optional_none},
    {"optional.ofNonZeroValue", false, "*>O", optional_of_non_zero},
    {"hasValue", true, "o>b", has_value},
    {"value", true, "o>x", value_of},
    {"orValue", true, "o*>x", or_value},
    {"or", true, "oo>0", or_optional},
    {0},
};
