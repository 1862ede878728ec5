#include "api/patch.h"

#include "lib/str.h"

#include <string.h>

#define MAX_OPERATIONS 10000
/* Measuring values costs time; what a patch may have measured in all, in multiples of its limit. */
#define MAX_EFFORT 64

/* A JSON pointer, taken apart. No value nests deeper than FL_JSON_MAX_DEPTH, so a longer pointer
 * leads nowhere. */
struct pointer {
    const char *text;
    size_t count;
    struct token {
        const char *text;
        size_t len;
    } tokens[FL_JSON_MAX_DEPTH];
};

struct json_patch {
    struct fl_arena *arena;
    json_t *document; /* owned */
    size_t max_bytes, copied, effort;
    size_t index; /* of the operation at hand, for messages */
    const char *op;
};

static int refuse(const struct json_patch *patch, int code, struct fl_error *err, const char *what,
                  const char *where)
{
    return fl_error_set(err, code, "operation %zu (%s): %s%s%s%s", patch->index, patch->op, what,
                        where ? " \"" : "", where ? where : "", where ? "\"" : "");
}

/* Pointers */

static int unescape(char *text, struct token *ret_token)
{
    char *to = text;

    for (const char *from = text; *from; from++) {
        if (*from != '~') {
            *to++ = *from;
            continue;
        }
        from++;
        if (*from != '0' && *from != '1')
            return -1;
        *to++ = *from == '0' ? '~' : '/';
    }
    *to = '\0';
    *ret_token = (struct token){text, (size_t)(to - text)};
    return 0;
}

static int parse_pointer(const struct json_patch *patch, const json_t *value, const char *field,
                         struct pointer *ret_pointer, struct fl_error *err)
{
    const char *text = json_string_value(value), *rest;

    if (!text)
        return refuse(patch, FL_E_BAD_REQUEST, err, "a string is required at", field);
    ret_pointer->text = text;
    ret_pointer->count = 0;
    if (*text == '\0')
        return 0;
    if (*text != '/')
        return refuse(patch, FL_E_BAD_REQUEST, err, "a pointer must begin with '/':", text);
    rest = text + 1;
    while (rest) {
        if (ret_pointer->count == FL_COUNT_OF(ret_pointer->tokens))
            return refuse(patch, FL_E_INVALID, err, "the pointer is too long at", field);
        if (unescape(fl_str_next(patch->arena, &rest, '/'),
                     &ret_pointer->tokens[ret_pointer->count++]) < 0)
            return refuse(patch, FL_E_BAD_REQUEST, err, "a bad escape in", text);
    }
    return 0;
}

/* An index without sign, spaces or leading zeros, at most `max`. */
static bool parse_index(const struct token *token, size_t max, size_t *ret_index)
{
    uint64_t value;

    if (token->len > 1 && token->text[0] == '0')
        return false;
    if (strlen(token->text) != token->len || !fl_str_to_uint64(token->text, max, &value))
        return false;
    *ret_index = (size_t)value;
    return true;
}

static json_t *step(const json_t *container, const struct token *token)
{
    size_t index;

    if (json_is_object(container))
        return json_object_getn(container, token->text, token->len);
    if (json_is_array(container) && json_array_size(container) > 0 &&
        parse_index(token, json_array_size(container) - 1, &index))
        return json_array_get(container, index);
    return NULL;
}

/* Follows the first `count` tokens. Borrowed; NULL where there is nothing. */
static json_t *follow(json_t *document, const struct pointer *pointer, size_t count)
{
    for (size_t i = 0; document && i < count; i++)
        document = step(document, &pointer->tokens[i]);
    return document;
}

/* Growth */

/* Adds up what `value` takes as text, roughly, and its depth, until one passes its limit. */
static void measure(const json_t *value, unsigned depth, size_t limit, size_t *size,
                    unsigned *max_depth)
{
    const char *key;
    json_t *member;
    size_t i;

    if (depth > *max_depth)
        *max_depth = depth;
    *size += json_is_string(value) ? json_string_length(value) + 3 : 4;
    if (*size > limit || depth > FL_JSON_MAX_DEPTH)
        return;
    json_object_foreach((json_t *)value, key, member) {
        *size += strlen(key) + 4;
        measure(member, depth + 1, limit, size, max_depth);
        if (*size > limit || *max_depth > FL_JSON_MAX_DEPTH)
            return;
    }
    json_array_foreach(value, i, member) {
        measure(member, depth + 1, limit, size, max_depth);
        if (*size > limit || *max_depth > FL_JSON_MAX_DEPTH)
            return;
    }
}

static int check_growth(struct json_patch *patch, const struct pointer *to, const json_t *value,
                        bool is_copy, struct fl_error *err)
{
    size_t size = 0;
    unsigned depth = 0;
    bool is_container = json_is_object(value) || json_is_array(value);

    measure(value, (unsigned)to->count + is_container, patch->max_bytes, &size, &depth);
    if (depth > FL_JSON_MAX_DEPTH)
        return refuse(patch, FL_E_INVALID, err, "the result nests too deep at", to->text);
    patch->effort += size;
    if (is_copy)
        patch->copied += size;
    if (patch->copied > patch->max_bytes)
        return refuse(patch, FL_E_TOO_LARGE, err, "copies grow the object too much at", to->text);
    if (patch->effort / MAX_EFFORT > patch->max_bytes)
        return refuse(patch, FL_E_TOO_LARGE, err, "the patch moves too much at", to->text);
    return 0;
}

/* Operations */

/* Puts `value` (stolen in every case) at the pointer. */
static int add(struct json_patch *patch, const struct pointer *to, json_t *value,
               struct fl_error *err)
{
    FL_JSON owned = value;
    const struct token *last;
    json_t *parent;
    size_t index;

    if (to->count == 0) {
        json_decref(patch->document);
        patch->document = FL_TAKE(owned);
        return 0;
    }
    last = &to->tokens[to->count - 1];
    parent = follow(patch->document, to, to->count - 1);
    if (json_is_object(parent)) {
        (void)json_object_setn_new_nocheck(parent, last->text, last->len, FL_TAKE(owned));
        return 0;
    }
    if (!json_is_array(parent))
        return refuse(patch, FL_E_INVALID, err, "nothing to add to at", to->text);
    if (last->len == 1 && last->text[0] == '-')
        index = json_array_size(parent);
    else if (!parse_index(last, json_array_size(parent), &index))
        return refuse(patch, FL_E_INVALID, err, "no such index:", to->text);
    (void)json_array_insert_new(parent, index, FL_TAKE(owned));
    return 0;
}

/* Takes the value at the pointer out; *ret_value is the caller's. */
static int take_out(struct json_patch *patch, const struct pointer *from, json_t **ret_value,
                    struct fl_error *err)
{
    const struct token *last;
    json_t *parent, *value;
    size_t index;

    if (from->count == 0) {
        *ret_value = patch->document;
        patch->document = json_null();
        return 0;
    }
    last = &from->tokens[from->count - 1];
    parent = follow(patch->document, from, from->count - 1);
    value = step(parent, last);
    if (!value)
        return refuse(patch, FL_E_INVALID, err, "there is nothing at", from->text);
    *ret_value = json_incref(value);
    if (json_is_object(parent))
        (void)json_object_deln(parent, last->text, last->len);
    else if (parse_index(last, json_array_size(parent), &index))
        (void)json_array_remove(parent, index);
    return 0;
}

static int replace(struct json_patch *patch, const struct pointer *at, json_t *value,
                   struct fl_error *err)
{
    FL_JSON owned = value;
    json_t *parent;
    size_t index;

    if (at->count > 0) {
        parent = follow(patch->document, at, at->count - 1);
        if (json_is_array(parent) && step(parent, &at->tokens[at->count - 1]) &&
            parse_index(&at->tokens[at->count - 1], json_array_size(parent), &index)) {
            (void)json_array_set_new(parent, index, FL_TAKE(owned));
            return 0;
        }
        if (!follow(patch->document, at, at->count))
            return refuse(patch, FL_E_INVALID, err, "there is nothing at", at->text);
    }
    return add(patch, at, FL_TAKE(owned), err);
}

/* Numbers are equal by value, whatever their form: 1 is 1.0. */
static bool same_value(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_number(a) && json_is_number(b))
        return json_is_integer(a) == json_is_integer(b)
                   ? json_equal(a, b)
                   : json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b) || json_object_size(a) != json_object_size(b) ||
        json_array_size(a) != json_array_size(b))
        return false;
    if (!json_is_object(a) && !json_is_array(a))
        return json_equal(a, b);
    json_object_foreach((json_t *)a, key, member) {
        const json_t *other = json_object_get(b, key);

        if (!other || !same_value(member, other))
            return false;
    }
    json_array_foreach(a, i, member) {
        if (!same_value(member, json_array_get(b, i)))
            return false;
    }
    return true;
}

static bool is_inside(const struct pointer *inner, const struct pointer *outer)
{
    if (inner->count <= outer->count)
        return false;
    for (size_t i = 0; i < outer->count; i++) {
        if (inner->tokens[i].len != outer->tokens[i].len ||
            memcmp(inner->tokens[i].text, outer->tokens[i].text, inner->tokens[i].len) != 0)
            return false;
    }
    return true;
}

static int move_or_copy(struct json_patch *patch, const json_t *operation, const struct pointer *to,
                        struct fl_error *err)
{
    bool is_copy = strcmp(patch->op, "copy") == 0;
    FL_JSON value = NULL;
    struct pointer from;
    json_t *found;
    int r;

    r = parse_pointer(patch, json_object_get(operation, "from"), "from", &from, err);
    if (r < 0)
        return r;
    found = follow(patch->document, &from, from.count);
    if (!found)
        return refuse(patch, FL_E_INVALID, err, "there is nothing at", from.text);
    if (!is_copy && is_inside(to, &from))
        return refuse(patch, FL_E_INVALID, err, "cannot move a value into itself:", to->text);
    r = check_growth(patch, to, found, is_copy, err);
    if (r < 0)
        return r;
    if (is_copy)
        value = json_deep_copy(found);
    else
        r = take_out(patch, &from, &value, err);
    return r < 0 ? r : add(patch, to, FL_TAKE(value), err);
}

static int with_value(struct json_patch *patch, const json_t *operation, const struct pointer *at,
                      struct fl_error *err)
{
    json_t *value = json_object_get(operation, "value"), *found;
    int r;

    if (!value)
        return refuse(patch, FL_E_BAD_REQUEST, err, "a value is required for", at->text);
    if (strcmp(patch->op, "test") == 0) {
        found = follow(patch->document, at, at->count);
        if (!found || !same_value(found, value))
            return refuse(patch, FL_E_INVALID, err, "test failed at", at->text);
        return 0;
    }
    r = check_growth(patch, at, value, false, err);
    if (r < 0)
        return r;
    value = json_deep_copy(value);
    return strcmp(patch->op, "add") == 0 ? add(patch, at, value, err)
                                         : replace(patch, at, value, err);
}

static int apply_operation(struct json_patch *patch, const json_t *operation, struct fl_error *err)
{
    FL_JSON removed = NULL;
    struct pointer path;
    int r;

    patch->op = fl_str_or(json_string_value(json_object_get(operation, "op")), "?");
    r = parse_pointer(patch, json_object_get(operation, "path"), "path", &path, err);
    if (r < 0)
        return r;
    if (strcmp(patch->op, "remove") == 0)
        return take_out(patch, &path, &removed, err);
    if (strcmp(patch->op, "move") == 0 || strcmp(patch->op, "copy") == 0)
        return move_or_copy(patch, operation, &path, err);
    if (strcmp(patch->op, "add") == 0 || strcmp(patch->op, "replace") == 0 ||
        strcmp(patch->op, "test") == 0)
        return with_value(patch, operation, &path, err);
    return fl_error_set(err, FL_E_BAD_REQUEST,
                        "operation %zu: op must be add, remove, replace, move, copy or test",
                        patch->index);
}

int fl_patch_json(const json_t *original, const json_t *patch, size_t max_bytes,
                  json_t **ret_result, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = NULL;
    FL_JSON document = NULL;
    struct json_patch state = {.max_bytes = max_bytes};
    json_t *operation;
    int r = 0;

    if (!json_is_array(patch))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a JSON patch is a list of operations");
    if (json_array_size(patch) > MAX_OPERATIONS)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "the patch has %zu operations, at most %d are allowed",
                            json_array_size(patch), MAX_OPERATIONS);
    state.arena = arena = fl_arena_create();
    state.document = json_deep_copy(original);
    json_array_foreach(patch, state.index, operation) {
        r = json_is_object(operation)
                ? apply_operation(&state, operation, err)
                : fl_error_set(err, FL_E_BAD_REQUEST, "operation %zu is no object", state.index);
        if (r < 0)
            break;
    }
    document = state.document;
    if (r == 0)
        *ret_result = FL_TAKE(document);
    return r;
}

/* Merge patch */

static json_t *merge(const json_t *original, const json_t *patch)
{
    json_t *result, *member;
    const char *key;

    if (!json_is_object(patch))
        return json_deep_copy(patch);
    result = json_object();
    json_object_foreach((json_t *)original, key, member) {
        const json_t *change = json_object_get(patch, key);

        if (!change)
            (void)json_object_set_new_nocheck(result, key, json_deep_copy(member));
        else if (!json_is_null(change))
            (void)json_object_set_new_nocheck(result, key, merge(member, change));
    }
    json_object_foreach((json_t *)patch, key, member) {
        if (!json_is_null(member) && !json_object_get(original, key))
            (void)json_object_set_new_nocheck(result, key, merge(NULL, member));
    }
    return result;
}

int fl_patch_merge(const json_t *original, const json_t *patch, json_t **ret_result,
                   struct fl_error *err)
{
    if (!json_is_object(patch))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a merge patch is an object");
    *ret_result = merge(original, patch);
    return 0;
}
