#include "api/cel_internal.h"
#include "lib/str.h"

#include <stdlib.h>

/* Lists whose schema makes them sets or maps: equal whatever the order, and `+` is a union. The
 * elements are sorted by what identifies them, so that large lists cost n log n. */

struct order {
    struct cel_eval *eval;
    const struct fl_schema_node *node;
};

/* A total order on values of any kinds, for look-up only. */
static int compare_any(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b)
{
    struct cel_value error;
    int order;

    if (fl_cel_compare(eval, a, b, &order, &error))
        return order;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return 0; /* objects among objects: told apart by fl_cel_equal afterwards */
}

static int compare_elements(const void *a, const void *b, void *user)
{
    const struct order *order = user;
    const struct cel_value *x = a, *y = b;
    const char *const *keys;
    size_t count;

    if (fl_schema_node_list_type(order->node) == FL_LIST_SET)
        return compare_any(order->eval, x, y);
    if (x->kind != CEL_MAP || y->kind != CEL_MAP)
        return compare_any(order->eval, x, y);
    count = fl_schema_node_list_keys(order->node, &keys);
    for (size_t i = 0; i < count; i++) {
        struct cel_value left = cel_null(), right = cel_null();
        struct cel_value key = fl_cel_cstring(keys[i]);
        int result;

        (void)fl_cel_find(order->eval, x, &key, &left);
        (void)fl_cel_find(order->eval, y, &key, &right);
        result = compare_any(order->eval, &left, &right);
        if (result != 0)
            return result;
    }
    return 0;
}

/* The elements in order of what identifies them; NULL past the cost limit. */
static struct cel_value *sorted(struct cel_eval *eval, const struct cel_value *list,
                                struct order *order)
{
    size_t count = list->many.count;
    struct cel_value *items;

    if (!fl_cel_charge(eval, count * 2))
        return NULL;
    items = fl_new_array(eval->arena, struct cel_value, count + 1);
    for (size_t i = 0; i < count; i++)
        items[i] = fl_cel_item(eval, list, i);
    qsort_r(items, count, sizeof(*items), compare_elements, order);
    return items;
}

/* An element identified as `item` is; NULL where there is none. */
static const struct cel_value *find(struct order *order, const struct cel_value *items,
                                    size_t count, const struct cel_value *item)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int result = compare_elements(item, &items[middle], order);

        if (result == 0)
            return &items[middle];
        if (result < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

bool fl_cel_keyed_equal(struct cel_eval *eval, const struct cel_value *a, const struct cel_value *b)
{
    struct order order = {eval, a->node};
    struct cel_value *items = sorted(eval, a, &order);

    for (size_t i = 0; items && i < b->many.count; i++) {
        struct cel_value item = fl_cel_item(eval, b, i);
        const struct cel_value *found = find(&order, items, a->many.count, &item);

        if (!found || !fl_cel_equal(eval, found, &item))
            return false;
    }
    return items && !eval->exceeded;
}

/* The elements of `a` in their order, those of `b` with the same key in their place, then what is
 * new in `b`. */
struct cel_value fl_cel_keyed_add(struct cel_eval *eval, const struct cel_value *a,
                                  const struct cel_value *b)
{
    struct order order = {eval, a->node};
    struct cel_value *old = sorted(eval, a, &order), *new = sorted(eval, b, &order), value;
    struct cel_items items = {0};

    if (!old || !new)
        return fl_cel_too_costly();
    for (size_t i = 0; i < a->many.count; i++) {
        struct cel_value item = fl_cel_item(eval, a, i);
        const struct cel_value *other = find(&order, new, b->many.count, &item);

        fl_cel_push(eval, &items, other ? other : &item);
    }
    for (size_t i = 0; i < b->many.count; i++) {
        struct cel_value item = fl_cel_item(eval, b, i);

        if (!find(&order, old, a->many.count, &item))
            fl_cel_push(eval, &items, &item);
    }
    value = cel_list(items.items, items.count);
    value.node = a->node;
    return value;
}
