#include "api/cel_internal.h"
#include "lib/str.h"

#include <assert.h>

/* The tree walk. An error is a value: `&&`, `||`, all and exists may outvote it, everything else
 * passes it on. Past the cost limit nothing goes on, and the error is outvoted by nobody. */

static struct cel_value no_key(struct cel_eval *eval, const struct cel_value *key)
{
    struct cel_value text = fl_cel_to_string(eval, key);

    if (text.kind != CEL_STRING)
        return fl_cel_error(eval, "unsupported index type '%s'", fl_cel_type_name(key));
    return fl_cel_error(eval, "no such key: %.*s", (int)(text.text.len > 256 ? 256 : text.text.len),
                        text.text.data);
}

static struct cel_value eval_chain(struct cel_eval *eval, const struct cel_node *node)
{
    bool decisive = node->op == CEL_OR; /* the value that ends it */
    struct cel_value error = {0};
    bool failed = false;

    for (size_t i = 0; i < node->count; i++) {
        struct cel_value value = fl_cel_evaluate(eval, node->args[i]);

        if (eval->exceeded)
            return fl_cel_too_costly();
        if (value.kind == CEL_BOOL) {
            if (value.boolean == decisive)
                return value;
        } else if (!failed) {
            failed = true;
            error = value.kind == CEL_ERROR ? value : fl_cel_no_overload();
        }
    }
    return failed ? error : cel_bool(!decisive);
}

static struct cel_value eval_ternary(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value condition = fl_cel_evaluate(eval, node->args[0]);

    if (condition.kind == CEL_ERROR)
        return condition;
    if (condition.kind != CEL_BOOL)
        return fl_cel_no_overload();
    return fl_cel_evaluate(eval, node->args[condition.boolean ? 1 : 2]);
}

static struct cel_value index_list(struct cel_eval *eval, const struct cel_value *list,
                                   const struct cel_value *key, bool *ret_found)
{
    int64_t index;

    *ret_found = false;
    if (key->kind == CEL_INT) {
        index = key->integer;
    } else if (key->kind == CEL_UINT && key->uinteger <= INT64_MAX) {
        index = (int64_t)key->uinteger;
    } else if (key->kind == CEL_DOUBLE && key->real > -1e15 && key->real < 1e15 &&
               (double)(int64_t)key->real == key->real) {
        index = (int64_t)key->real;
    } else {
        return fl_cel_error(eval, "unsupported index type '%s' in list", fl_cel_type_name(key));
    }
    if (index < 0 || (uint64_t)index >= list->many.count)
        return fl_cel_error(eval, "index out of bounds: %lld", (long long)index);
    *ret_found = true;
    return fl_cel_item(eval, list, (size_t)index);
}

/* One step into `base` by a key, or by a field's name. Through an optional, or with the optional
 * form, the result is optional. */
static struct cel_value step(struct cel_eval *eval, const struct cel_value *base,
                             const struct cel_value *key, const char *field, bool optional)
{
    struct cel_value value;
    bool found;

    if (base->kind == CEL_OPTIONAL) {
        if (!base->inner)
            return *base;
        base = base->inner;
        optional = true;
    }
    if (base->kind == CEL_MAP) {
        found =
            field ? fl_cel_field(eval, base, field, &value) : fl_cel_find(eval, base, key, &value);
    } else if (base->kind == CEL_LIST && key) {
        value = index_list(eval, base, key, &found);
        if (!found && !optional)
            return value;
    } else if (base->kind == CEL_ERROR) {
        return *base;
    } else {
        return fl_cel_no_overload();
    }
    if (found && value.kind == CEL_ERROR)
        return value;
    if (optional)
        return fl_cel_optional(eval, found ? &value : NULL);
    if (found)
        return value;
    return field ? fl_cel_error(eval, "no such key: %s", field) : no_key(eval, key);
}

static struct cel_value eval_select(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value base = fl_cel_evaluate(eval, node->args[0]);

    if (base.kind == CEL_ERROR)
        return base;
    return step(eval, &base, NULL, node->name, node->optional);
}

static struct cel_value eval_has(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value base = fl_cel_evaluate(eval, node->args[0]), value;

    if (base.kind == CEL_ERROR)
        return base;
    if (base.kind == CEL_OPTIONAL) {
        if (!base.inner)
            return cel_bool(false);
        base = *base.inner;
    }
    /* nothing else has fields: not an error, as in cel-go */
    return cel_bool(base.kind == CEL_MAP && fl_cel_field(eval, &base, node->name, &value));
}

static struct cel_value eval_index(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value base = fl_cel_evaluate(eval, node->args[0]), key;

    if (base.kind == CEL_ERROR)
        return base;
    key = fl_cel_evaluate(eval, node->args[1]);
    if (key.kind == CEL_ERROR)
        return key;
    return step(eval, &base, &key, NULL, node->optional);
}

static struct cel_value eval_list(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value *items = fl_new_array(eval->arena, struct cel_value, node->count + 1);
    size_t count = 0;

    for (size_t i = 0; i < node->count; i++) {
        struct cel_value value = fl_cel_evaluate(eval, node->args[i]);

        if (value.kind == CEL_ERROR)
            return value;
        if (node->optional_args && node->optional_args[i]) {
            if (value.kind != CEL_OPTIONAL)
                return fl_cel_no_overload();
            if (!value.inner)
                continue;
            value = *value.inner;
        }
        items[count++] = value;
    }
    fl_cel_charge(eval, 10 + count);
    return cel_list(items, count);
}

/* A map being made. Keys are bool, int, uint or string, and there once. */
struct map_builder {
    struct cel_pair *pairs;
    size_t count, cap;
};

/* A key that is there already takes the new value in a literal, as in cel-go, and is an error in a
 * macro. */
static struct cel_value put_pair(struct cel_eval *eval, struct map_builder *map, bool literal,
                                 const struct cel_value *key, const struct cel_value *value)
{
    if (key->kind != CEL_BOOL && key->kind != CEL_INT && key->kind != CEL_UINT &&
        key->kind != CEL_STRING)
        return fl_cel_error(eval, "unsupported key type: %s", fl_cel_type_name(key));
    if (!fl_cel_charge(eval, 1 + map->count / 10))
        return fl_cel_too_costly();
    for (size_t i = 0; i < map->count; i++) {
        if (!fl_cel_equal(eval, &map->pairs[i].key, key))
            continue;
        if (!literal)
            return fl_cel_error(eval, "insert failed: key already exists");
        map->pairs[i].value = *value;
        return cel_null();
    }
    if (map->count == map->cap) {
        size_t cap = map->cap ? map->cap * 2 : 8;
        struct cel_pair *pairs = fl_new_array(eval->arena, struct cel_pair, cap);

        if (map->count)
            memcpy(pairs, map->pairs, map->count * sizeof(*pairs));
        map->pairs = pairs;
        map->cap = cap;
    }
    map->pairs[map->count++] = (struct cel_pair){*key, *value};
    return cel_null();
}

static struct cel_value finish_map(const struct map_builder *map)
{
    struct cel_value value = {.kind = CEL_MAP};

    value.many.pairs = map->pairs;
    value.many.count = map->count;
    return value;
}

static struct cel_value eval_map(struct cel_eval *eval, const struct cel_node *node)
{
    struct map_builder map = {0};

    for (size_t i = 0; i < node->count; i += 2) {
        struct cel_value key = fl_cel_evaluate(eval, node->args[i]), value, put;

        if (key.kind == CEL_ERROR)
            return key;
        value = fl_cel_evaluate(eval, node->args[i + 1]);
        if (value.kind == CEL_ERROR)
            return value;
        if (node->optional_args[i + 1]) {
            if (value.kind != CEL_OPTIONAL)
                return fl_cel_no_overload();
            if (!value.inner)
                continue;
            value = *value.inner;
        }
        put = put_pair(eval, &map, true, &key, &value);
        if (put.kind == CEL_ERROR)
            return put;
    }
    fl_cel_charge(eval, 30);
    return finish_map(&map);
}

static struct cel_value eval_call(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value args[8];
    const struct cel_node *outer = eval->call;
    struct cel_value result;
    bool lazy = node->member && (!strcmp(node->name, "or") || !strcmp(node->name, "orValue"));

    assert(node->count <= FL_COUNT_OF(args));
    for (size_t i = 0; i < node->count; i++) {
        args[i] = fl_cel_evaluate(eval, node->args[i]);
        if (args[i].kind == CEL_ERROR)
            return args[i];
        if (lazy && i == 0 && args[0].kind == CEL_OPTIONAL && args[0].inner)
            return !strcmp(node->name, "or") ? args[0] : *args[0].inner;
    }
    eval->call = node;
    result = node->function->fn(eval, args, node->count);
    eval->call = outer;
    return result;
}

/* Macros */

struct iteration {
    const struct cel_node *node;
    const struct cel_pair *pairs; /* of a map */
    struct cel_value range;
    struct cel_items items;
    struct map_builder map;
    struct cel_value error;
    size_t matches;
    bool failed;
};

/* Sets the macro's variables for element `i`. */
static void bind(struct cel_eval *eval, const struct iteration *it, size_t i)
{
    struct cel_value *slots = &eval->slots[it->node->slot];
    bool two = it->node->variables == 2;

    if (it->pairs) {
        slots[0] = it->pairs[i].key;
        if (two)
            slots[1] = it->pairs[i].value;
    } else {
        slots[two ? 1 : 0] = fl_cel_item(eval, &it->range, i);
        if (two)
            slots[0] = cel_int((int64_t)i);
    }
}

static void keep_error(struct iteration *it, struct cel_value error)
{
    if (!it->failed) {
        it->failed = true;
        it->error = error;
    }
}

/* Adds the pairs of a transformMapEntry's map. */
static void add_entry(struct cel_eval *eval, struct iteration *it, const struct cel_value *entry)
{
    const struct cel_pair *pairs;

    if (entry->kind != CEL_MAP) {
        keep_error(it, fl_cel_no_overload());
        return;
    }
    pairs = fl_cel_pairs(eval, entry);
    for (size_t i = 0; i < entry->many.count; i++) {
        struct cel_value put = put_pair(eval, &it->map, false, &pairs[i].key, &pairs[i].value);

        if (put.kind == CEL_ERROR)
            keep_error(it, put);
    }
}

/* One element of a macro that collects. */
static void collect(struct cel_eval *eval, struct iteration *it)
{
    const struct cel_node *node = it->node;
    struct cel_value value;

    if (node->filters) {
        value = fl_cel_evaluate(eval, node->args[2]);
        if (value.kind != CEL_BOOL) {
            keep_error(it, value.kind == CEL_ERROR ? value : fl_cel_no_overload());
            return;
        }
        if (!value.boolean)
            return;
    }
    value = fl_cel_evaluate(eval, node->args[1]);
    if (value.kind == CEL_ERROR) {
        keep_error(it, value);
    } else if (node->macro == CEL_TRANSFORM_LIST) {
        fl_cel_push(eval, &it->items, &value);
    } else if (node->macro == CEL_TRANSFORM_MAP) {
        struct cel_value put = put_pair(eval, &it->map, false, &eval->slots[node->slot], &value);

        if (put.kind == CEL_ERROR)
            keep_error(it, put);
    } else {
        add_entry(eval, it, &value);
    }
}

/* One element of a macro that asks; true where the answer is known. */
static bool ask(struct cel_eval *eval, struct iteration *it)
{
    enum cel_macro macro = it->node->macro;
    struct cel_value value = fl_cel_evaluate(eval, it->node->args[1]);

    if (value.kind != CEL_BOOL) {
        keep_error(it, value.kind == CEL_ERROR ? value : fl_cel_no_overload());
        return false;
    }
    it->matches += value.boolean;
    if (macro == CEL_EXISTS_ONE || value.boolean != (macro == CEL_EXISTS))
        return false;
    it->failed = false; /* outvoted */
    return true;
}

static struct cel_value eval_comprehension(struct cel_eval *eval, const struct cel_node *node,
                                           const struct cel_value *range)
{
    struct iteration it = {.node = node, .range = *range};
    bool asks = node->macro <= CEL_EXISTS_ONE;

    if (range->kind != CEL_LIST && range->kind != CEL_MAP)
        return fl_cel_no_overload();
    if (range->kind == CEL_MAP)
        it.pairs = fl_cel_pairs(eval, range);
    for (size_t i = 0; i < range->many.count; i++) {
        if (!fl_cel_charge(eval, 1))
            return fl_cel_too_costly();
        bind(eval, &it, i);
        if (asks && ask(eval, &it))
            return cel_bool(node->macro == CEL_EXISTS);
        if (!asks)
            collect(eval, &it);
        if (eval->exceeded)
            return fl_cel_too_costly();
    }
    if (it.failed)
        return it.error;
    if (node->macro == CEL_TRANSFORM_LIST)
        return cel_list(it.items.items, it.items.count);
    if (!asks)
        return finish_map(&it.map);
    if (node->macro == CEL_EXISTS_ONE)
        return cel_bool(it.matches == 1);
    return cel_bool(node->macro == CEL_ALL);
}

static struct cel_value eval_macro(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value range = fl_cel_evaluate(eval, node->args[0]), value;

    if (range.kind == CEL_ERROR)
        return range;
    if (node->macro != CEL_OPT_MAP && node->macro != CEL_OPT_FLAT_MAP)
        return eval_comprehension(eval, node, &range);
    if (range.kind != CEL_OPTIONAL)
        return fl_cel_no_overload();
    if (!range.inner)
        return range;
    eval->slots[node->slot] = *range.inner;
    value = fl_cel_evaluate(eval, node->args[1]);
    if (value.kind == CEL_ERROR)
        return value;
    if (node->macro == CEL_OPT_MAP)
        return fl_cel_optional(eval, &value);
    return value.kind == CEL_OPTIONAL ? value : fl_cel_no_overload();
}

static struct cel_value eval_operator(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value a = fl_cel_evaluate(eval, node->args[0]), b;

    if (a.kind == CEL_ERROR)
        return a;
    if (node->op == CEL_NOT)
        return a.kind == CEL_BOOL ? cel_bool(!a.boolean) : fl_cel_no_overload();
    if (node->op == CEL_NEGATE)
        return fl_cel_negate(eval, &a);
    b = fl_cel_evaluate(eval, node->args[1]);
    if (b.kind == CEL_ERROR)
        return b;
    return fl_cel_binary(eval, node->binary, &a, &b);
}

struct cel_value fl_cel_evaluate(struct cel_eval *eval, const struct cel_node *node)
{
    struct cel_value value;

    if (node->op == CEL_LITERAL)
        return node->literal;
    if (!fl_cel_charge(eval, 1))
        return fl_cel_too_costly();
    switch (node->op) {
    case CEL_VARIABLE:
        return eval->slots[node->slot];
    case CEL_SELECT:
        return eval_select(eval, node);
    case CEL_HAS:
        return eval_has(eval, node);
    case CEL_INDEX:
        return eval_index(eval, node);
    case CEL_CALL:
        value = eval_call(eval, node);
        break;
    case CEL_MAKE_LIST:
        value = eval_list(eval, node);
        break;
    case CEL_MAKE_MAP:
        value = eval_map(eval, node);
        break;
    case CEL_AND:
    case CEL_OR:
        return eval_chain(eval, node);
    case CEL_TERNARY:
        return eval_ternary(eval, node);
    case CEL_MACRO:
        value = eval_macro(eval, node);
        break;
    default:
        value = eval_operator(eval, node);
        break;
    }
    return eval->exceeded ? fl_cel_too_costly() : value;
}
