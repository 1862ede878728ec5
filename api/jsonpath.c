#include "api/jsonpath_internal.h"
#include "lib/str.h"

#include <stdlib.h>

struct values {
    const json_t **items;
    size_t count, cap;
};

struct walk {
    const struct fl_jsonpath *path;
    struct fl_arena *arena;
    struct fl_error *err;
};

static int eval_steps(struct walk *walk, const struct jsonpath_steps *steps,
                      const struct values *input, struct values *ret_values);

static int push(struct walk *walk, struct values *values, const json_t *value)
{
    if (values->count == JSONPATH_MAX_RESULTS)
        return fl_error_set(walk->err, FL_E_TOO_LARGE, "path has more than %zu results",
                            JSONPATH_MAX_RESULTS);
    if (values->count == values->cap) {
        size_t cap = values->cap ? values->cap * 2 : 4;
        const json_t **items = fl_new_array(walk->arena, const json_t *, cap);

        if (values->count)
            memcpy(items, values->items, values->count * sizeof(*items));
        values->items = items;
        values->cap = cap;
    }
    values->items[values->count++] = value;
    return 0;
}

static int eval_field(struct walk *walk, const struct jsonpath_step *step,
                      const struct values *input, struct values *output)
{
    for (size_t i = 0; i < input->count; i++) {
        const json_t *value = json_object_get(input->items[i], step->name);
        int r = value ? push(walk, output, value) : 0;

        if (r < 0)
            return r;
    }
    if (input->count && !output->count && !walk->path->allow_missing)
        return fl_error_set(walk->err, FL_E_NOT_FOUND, "%s is not found", step->name);
    return 0;
}

static int out_of_bounds(struct walk *walk, int64_t index, int64_t count)
{
    return fl_error_set(walk->err, FL_E_INVALID,
                        "array index out of bounds: index %lld, length %lld", (long long)index,
                        (long long)count);
}

static int slice_list(struct walk *walk, const struct jsonpath_step *step, const json_t *list,
                      struct values *output)
{
    int64_t count = (int64_t)json_array_size(list);
    int64_t start = step->bounds[0].known ? step->bounds[0].value : 0;
    int64_t end = step->bounds[1].known ? step->bounds[1].value : count;
    int64_t stride = step->bounds[2].known ? step->bounds[2].value : 1;
    int r = 0;

    if (start < 0)
        start += count;
    if (end < 0 || (end == 0 && step->bounds[1].derived))
        end += count;
    if (start == end)
        return 0;
    if (start < 0 || start >= count)
        return out_of_bounds(walk, start, count);
    if (end < 0 || end > count)
        return out_of_bounds(walk, end - 1, count);
    if (start > end)
        return fl_error_set(walk->err, FL_E_INVALID,
                            "starting index %lld is greater than ending index %lld",
                            (long long)start, (long long)end);
    if (stride <= 0)
        return fl_error_set(walk->err, FL_E_INVALID, "step must be > 0");
    for (int64_t i = start; i < end && r >= 0; i += stride)
        r = push(walk, output, json_array_get(list, (size_t)i));
    return r;
}

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "object",   [JSON_ARRAY] = "array", [JSON_STRING] = "string",
        [JSON_INTEGER] = "integer", [JSON_REAL] = "number", [JSON_TRUE] = "boolean",
        [JSON_FALSE] = "boolean",   [JSON_NULL] = "null",
    };

    return names[json_typeof(value)];
}

static int eval_slice(struct walk *walk, const struct jsonpath_step *step,
                      const struct values *input, struct values *output)
{
    for (size_t i = 0; i < input->count; i++) {
        int r;

        if (json_is_null(input->items[i]))
            continue;
        if (!json_is_array(input->items[i]))
            return fl_error_set(walk->err, FL_E_INVALID, "%s is not array or slice",
                                type_name(input->items[i]));
        r = slice_list(walk, step, input->items[i], output);
        if (r < 0)
            return r;
    }
    return 0;
}

static int push_children(struct walk *walk, const json_t *value, struct values *output)
{
    const char *key;
    json_t *child;
    size_t i;
    int r;

    if (json_is_array(value)) {
        json_array_foreach((json_t *)value, i, child) {
            r = push(walk, output, child);
            if (r < 0)
                return r;
        }
    }
    json_object_foreach((json_t *)value, key, child) {
        r = push(walk, output, child);
        if (r < 0)
            return r;
    }
    return 0;
}

static int eval_wildcard(struct walk *walk, const struct values *input, struct values *output)
{
    int r = 0;

    for (size_t i = 0; i < input->count && r >= 0; i++)
        r = push_children(walk, input->items[i], output);
    return r;
}

/* Every object, list and text within that is not empty, each before what it holds; so kubectl sees
 * them. JSON's own depth is bounded. */
static int eval_recursive(struct walk *walk, const struct values *input, struct values *output)
{
    for (size_t i = 0; i < input->count; i++) {
        struct values children = {0};
        int r = push_children(walk, input->items[i], &children);

        if (r >= 0 && (children.count || json_string_length(input->items[i])))
            r = push(walk, output, input->items[i]);
        if (r >= 0)
            r = eval_recursive(walk, &children, output);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Order of two scalars of a kind; INVALID where they have none. */
static int compare(struct walk *walk, const json_t *a, const json_t *b, int *ret_order)
{
    if (json_is_integer(a) && json_is_integer(b)) {
        json_int_t x = json_integer_value(a), y = json_integer_value(b);

        *ret_order = (x > y) - (x < y);
    } else if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);

        *ret_order = (x > y) - (x < y);
    } else if (json_is_string(a) && json_is_string(b)) {
        *ret_order = strcmp(json_string_value(a), json_string_value(b));
    } else if (json_is_boolean(a) && json_is_boolean(b)) {
        *ret_order = json_is_true(a) - json_is_true(b);
    } else {
        return fl_error_set(walk->err, FL_E_INVALID, "incompatible types for comparison");
    }
    return 0;
}

static int passes(struct walk *walk, const struct jsonpath_step *step, const json_t *item,
                  bool *ret_passes)
{
    struct values here = {&item, 1, 1}, left = {0}, right = {0};
    int order = 0, r = eval_steps(walk, &step->left, &here, &left);

    *ret_passes = false;
    if (step->compare == JSONPATH_EXISTS) {
        *ret_passes = r >= 0 && left.count > 0;
        return 0;
    }
    if (r >= 0)
        r = eval_steps(walk, &step->right, &here, &right);
    if (r < 0 || left.count == 0 || right.count == 0)
        return r;
    if (left.count > 1 || right.count > 1)
        return fl_error_set(walk->err, FL_E_INVALID, "can only compare one element at a time");
    r = compare(walk, left.items[0], right.items[0], &order);
    if (r < 0)
        return r;
    switch (step->compare) {
    case JSONPATH_EQUAL:
        *ret_passes = order == 0;
        break;
    case JSONPATH_NOT_EQUAL:
        *ret_passes = order != 0;
        break;
    case JSONPATH_LESS:
        *ret_passes = order < 0;
        break;
    case JSONPATH_LESS_EQUAL:
        *ret_passes = order <= 0;
        break;
    case JSONPATH_GREATER:
        *ret_passes = order > 0;
        break;
    default:
        *ret_passes = order >= 0;
        break;
    }
    return 0;
}

static int eval_filter(struct walk *walk, const struct jsonpath_step *step,
                       const struct values *input, struct values *output)
{
    for (size_t i = 0; i < input->count; i++) {
        size_t index;
        json_t *item;

        if (!json_is_array(input->items[i]))
            return fl_error_set(walk->err, FL_E_INVALID,
                                "%s is not array or slice and cannot be filtered",
                                type_name(input->items[i]));
        json_array_foreach((json_t *)input->items[i], index, item) {
            bool pass;
            int r = passes(walk, step, item, &pass);

            if (r >= 0 && pass)
                r = push(walk, output, item);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int eval_union(struct walk *walk, const struct jsonpath_step *step,
                      const struct values *input, struct values *output)
{
    for (size_t i = 0; i < step->branch_count; i++) {
        struct values branch = {0};
        int r = eval_steps(walk, &step->branches[i], input, &branch);

        for (size_t j = 0; j < branch.count && r >= 0; j++)
            r = push(walk, output, branch.items[j]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int eval_literal(struct walk *walk, const struct jsonpath_step *step,
                        const struct values *input, struct values *output)
{
    int r = 0;

    /* a text stands for itself, whatever comes in; a number once for each */
    if (json_is_string(step->literal))
        return push(walk, output, step->literal);
    for (size_t i = 0; i < input->count && r >= 0; i++)
        r = push(walk, output, step->literal);
    return r;
}

static int eval_step(struct walk *walk, const struct jsonpath_step *step,
                     const struct values *input, struct values *output)
{
    switch (step->type) {
    case JSONPATH_FIELD:
        return eval_field(walk, step, input, output);
    case JSONPATH_SLICE:
        return eval_slice(walk, step, input, output);
    case JSONPATH_WILDCARD:
        return eval_wildcard(walk, input, output);
    case JSONPATH_RECURSIVE:
        return eval_recursive(walk, input, output);
    case JSONPATH_FILTER:
        return eval_filter(walk, step, input, output);
    case JSONPATH_UNION:
        return eval_union(walk, step, input, output);
    default:
        return eval_literal(walk, step, input, output);
    }
}

static int eval_steps(struct walk *walk, const struct jsonpath_steps *steps,
                      const struct values *input, struct values *ret_values)
{
    struct values current = *input;

    for (size_t i = 0; i < steps->count; i++) {
        struct values next = {0};
        int r = eval_step(walk, &steps->items[i], &current, &next);

        if (r < 0)
            return r;
        current = next;
    }
    *ret_values = current;
    return 0;
}

int fl_jsonpath_eval(const struct fl_jsonpath *path, const json_t *data, struct fl_arena *arena,
                     const json_t *const **ret_values, size_t *ret_count, struct fl_error *err)
{
    struct walk walk = {path, arena, err};
    struct values input = {&data, 1, 1}, output = {0};
    int r = 0;

    for (size_t i = 0; i < path->part_count; i++) {
        if (path->parts[i].type == JSONPATH_ACTION) {
            r = eval_steps(&walk, &path->parts[i].steps, &input, &output);
            break;
        }
    }
    if (r < 0)
        return r;
    if (output.items == &data) { /* an action without steps: the whole, in memory that stays */
        output = (struct values){0};
        (void)push(&walk, &output, data);
    }
    *ret_values = output.items;
    *ret_count = output.count;
    return 0;
}

void fl_jsonpath_print_value(struct fl_buf *out, const json_t *value)
{
    char text[FL_DOUBLE_TEXT_SIZE];

    switch (json_typeof(value)) {
    case JSON_STRING:
        fl_buf_append(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_REAL:
        fl_str_from_double(json_real_value(value), text);
        fl_buf_puts(out, text);
        break;
    default:
        fl_json_write(out, value);
        break;
    }
}

/* Parts [from, to) for one value. */
static int print_parts(struct walk *walk, size_t from, size_t to, const json_t *data,
                       struct fl_buf *out)
{
    struct values input = {&data, 1, 1};

    for (size_t i = from; i < to; i++) {
        const struct jsonpath_part *part = &walk->path->parts[i];
        struct values values = {0};
        int r = 0;

        if (part->type == JSONPATH_TEXT) {
            fl_buf_puts(out, part->text);
            continue;
        }
        if (part->type == JSONPATH_END)
            continue;
        r = eval_steps(walk, &part->steps, &input, &values);
        for (size_t v = 0; v < values.count && r >= 0; v++) {
            if (part->type == JSONPATH_RANGE) {
                r = print_parts(walk, i + 1, part->end, values.items[v], out);
                continue;
            }
            if (v)
                fl_buf_putc(out, ' ');
            fl_jsonpath_print_value(out, values.items[v]);
        }
        if (r < 0)
            return r;
        if (part->type == JSONPATH_RANGE)
            i = part->end - 1;
    }
    return out->overflow ? fl_error_set(walk->err, FL_E_TOO_LARGE, "the output is too large") : 0;
}

int fl_jsonpath_print(const struct fl_jsonpath *path, const json_t *data, struct fl_buf *out,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct walk walk = {path, arena, err};

    return print_parts(&walk, 0, path->part_count, data, out);
}

int fl_jsonpath_compile(const char *text, const struct fl_jsonpath_options *options,
                        struct fl_jsonpath **ret_path, struct fl_error *err)
{
    FL_CLEANUP(fl_jsonpath_destroyp) struct fl_jsonpath *path = fl_calloc(1, sizeof(*path));
    int r;

    path->arena = fl_arena_create();
    path->allow_missing = options->allow_missing;
    r = fl_jsonpath_parse(path, text, options->is_template, err);
    if (r < 0)
        return r;
    *ret_path = FL_TAKE(path);
    return 0;
}

void fl_jsonpath_destroy(struct fl_jsonpath *path)
{
    if (!path)
        return;
    fl_arena_destroy(path->arena);
    free(path);
}
