/* Strategic merge patch: a merge patch in which some lists merge by key (or as sets), with
 * directives inside the patch. Lists are matched through an index, so that a hostile patch costs
 * no more than its length times a logarithm. */
#include "api/patch.h"

#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

#define DIRECTIVE   "$patch"
#define RETAIN_KEYS "$retainKeys"
#define SET_ORDER   "$setElementOrder/"
#define DELETE_FROM "$deleteFromPrimitiveList/"

struct strategic {
    const struct fl_strategic_list *lists;
    size_t list_count;
    struct fl_buf path; /* of the value at hand, "a.b.c" */
};

static size_t enter(struct strategic *strategic, const char *key)
{
    size_t before = strategic->path.len;

    if (before)
        fl_buf_putc(&strategic->path, '.');
    fl_buf_puts(&strategic->path, key);
    return before;
}

static void leave(struct strategic *strategic, size_t before)
{
    strategic->path.len = before;
    strategic->path.data[before] = '\0';
}

static const struct fl_strategic_list *list_here(const struct strategic *strategic)
{
    for (size_t i = 0; i < strategic->list_count; i++) {
        if (fl_streq(strategic->lists[i].path, fl_buf_text(&strategic->path)))
            return &strategic->lists[i];
    }
    return NULL;
}

static bool is_directive(const char *key)
{
    return key[0] == '$' &&
           (strcmp(key, DIRECTIVE) == 0 || strcmp(key, RETAIN_KEYS) == 0 ||
            fl_str_has_prefix(key, SET_ORDER) || fl_str_has_prefix(key, DELETE_FROM));
}

/* A patch value where the original has none: without nulls and directives. NULL where the value is
 * itself a directive. */
static json_t *take_value(const json_t *value);

static void take_members(const json_t *object, json_t *result)
{
    const char *key;
    json_t *member, *taken;

    json_object_foreach((json_t *)object, key, member) {
        taken = json_is_null(member) || is_directive(key) ? NULL : take_value(member);
        if (taken)
            (void)json_object_set_new_nocheck(result, key, taken);
    }
}

static json_t *take_value(const json_t *value)
{
    json_t *result, *member, *taken;
    size_t i;

    if (json_is_array(value)) {
        result = json_array();
        json_array_foreach(value, i, member) {
            taken = take_value(member);
            if (taken)
                (void)json_array_append_new(result, taken);
        }
        return result;
    }
    if (!json_is_object(value))
        return json_deep_copy(value);
    if (json_object_get(value, DIRECTIVE))
        return NULL;
    result = json_object();
    take_members(value, result);
    return result;
}

/* Items */

/* What an item is known by: its merge key's value, or itself in a set. NULL where it has none. */
static const json_t *identity(const json_t *item, const struct fl_strategic_list *list)
{
    const json_t *key;

    if (!list->merge_key)
        return item;
    key = json_object_get(item, list->merge_key);
    return json_is_null(key) ? NULL : key;
}

static void identity_text(struct fl_buf *buf, const json_t *id)
{
    fl_buf_clear(buf);
    fl_json_write(buf, id);
}

/* Maps each identity in `items` to the place of the first item that has it. Items without one are
 * an error. */
static int make_index(const json_t *items, const struct fl_strategic_list *list, json_t **ret_index,
                      struct fl_error *err)
{
    FL_JSON index = json_object();
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    json_t *item;
    size_t i;

    json_array_foreach(items, i, item) {
        const json_t *id = identity(item, list);

        if (!id && list->merge_key)
            return fl_error_set(err, FL_E_BAD_REQUEST, "%s: item %zu has no merge key \"%s\"",
                                list->path, i, list->merge_key);
        identity_text(&text, id);
        if (!json_object_getn(index, text.data, text.len))
            (void)json_object_setn_new_nocheck(index, text.data, text.len,
                                               json_integer((json_int_t)i));
    }
    *ret_index = FL_TAKE(index);
    return 0;
}

static int64_t index_of(const json_t *index, const json_t *id, struct fl_buf *text)
{
    const json_t *place;

    if (!id)
        return -1;
    identity_text(text, id);
    place = json_object_getn(index, text->data, text->len);
    return place ? json_integer_value(place) : -1;
}

/* Order */

struct ranked {
    json_t *item;
    int64_t wanted; /* its place in the wanted order, -1 where that does not name it */
    int64_t live;   /* its place in the live list, -1 where it is new */
    size_t at;
};

static int compare_wanted(const void *a, const void *b)
{
    const struct ranked *left = a, *right = b;

    if (left->wanted != right->wanted)
        return left->wanted < right->wanted ? -1 : 1;
    return left->at < right->at ? -1 : left->at > right->at;
}

/* Merges the two runs of `ranked`: first those nobody named (in live order), then those that are
 * named. An unnamed one goes before a named one that stood behind it. */
static json_t *interleave(const struct ranked *ranked, size_t unnamed, size_t count)
{
    json_t *result = json_array();
    size_t i = 0, j = unnamed;

    while (i < unnamed || j < count) {
        bool take_unnamed;

        if (i == unnamed || j == count)
            take_unnamed = j == count;
        else
            take_unnamed =
                ranked[i].live >= 0 && ranked[j].live >= 0 && ranked[i].live < ranked[j].live;
        (void)json_array_append(result, ranked[take_unnamed ? i++ : j++].item);
    }
    return result;
}

/* The items in the order that `wanted` gives; those it does not name keep their place among them
 * as the live list had it, as far as that can be. */
static int reorder(const json_t *items, const json_t *wanted, const json_t *live,
                   const struct fl_strategic_list *list, json_t **ret_items, struct fl_error *err)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON wanted_index = NULL;
    FL_JSON live_index = NULL;
    struct ranked *ranked;
    size_t count = json_array_size(items), unnamed = 0;
    int r;

    r = make_index(wanted, list, &wanted_index, err);
    if (r == 0)
        r = make_index(live, list, &live_index, err);
    if (r < 0)
        return r;
    ranked = fl_calloc(count ? count : 1, sizeof(*ranked));
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(items, i);
        const json_t *id = identity(item, list);

        ranked[i] = (struct ranked){item, index_of(wanted_index, id, &text),
                                    index_of(live_index, id, &text), i};
        unnamed += ranked[i].wanted < 0;
    }
    qsort(ranked, count, sizeof(*ranked), compare_wanted);
    *ret_items = interleave(ranked, unnamed, count);
    free(ranked);
    return 0;
}

/* Lists */

static int merge_object(struct strategic *strategic, const json_t *original, const json_t *patch,
                        json_t **ret_result, struct fl_error *err);

static int check_items(const json_t *items, const struct fl_strategic_list *list,
                       struct fl_error *err)
{
    json_t *item;
    size_t i;

    json_array_foreach(items, i, item) {
        bool fits =
            list->merge_key ? json_is_object(item) : !json_is_object(item) && !json_is_array(item);

        if (!fits)
            return fl_error_set(err, FL_E_BAD_REQUEST, "%s: item %zu must be %s", list->path, i,
                                list->merge_key ? "an object" : "a scalar");
    }
    return 0;
}

/* Splits a patch list: plain items, and what its directives say. */
static int read_directives(const json_t *patch, const struct fl_strategic_list *list, json_t *plain,
                           json_t *deleted, bool *ret_replace, struct fl_error *err)
{
    json_t *item;
    size_t i;

    json_array_foreach(patch, i, item) {
        const json_t *directive = json_object_get(item, DIRECTIVE);
        const char *what = fl_str_or(json_string_value(directive), "");

        if (!directive)
            (void)json_array_append(plain, item);
        else if (strcmp(what, "delete") == 0)
            (void)json_array_append(deleted, item);
        else if (strcmp(what, "replace") == 0)
            *ret_replace = true;
        else
            return fl_error_set(err, FL_E_BAD_REQUEST, "%s: item %zu: unknown $patch: %s",
                                list->path, i, what);
    }
    return 0;
}

/* The original's items without the deleted ones, each merged with the patch's item of the same
 * identity; then the patch's new items. */
static int merge_items(struct strategic *strategic, const struct fl_strategic_list *list,
                       const json_t *original, const json_t *plain, const json_t *deleted,
                       json_t *result, struct fl_error *err)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON plain_index = NULL;
    FL_JSON deleted_index = NULL;
    FL_JSON done = json_object();
    json_t *item;
    size_t i;
    int r;

    r = make_index(plain, list, &plain_index, err);
    if (r == 0)
        r = make_index(deleted, list, &deleted_index, err);
    json_array_foreach(original, i, item) {
        const json_t *id = identity(item, list);
        FL_JSON merged = NULL;
        int64_t at;

        if (r < 0)
            return r;
        if (index_of(deleted_index, id, &text) >= 0)
            continue;
        at = index_of(plain_index, id, &text);
        if (at >= 0 && json_object_getn(done, text.data, text.len)) {
            if (!list->merge_key)
                continue;
            at = -1;
        }
        if (at >= 0)
            (void)json_object_setn_new_nocheck(done, text.data, text.len, json_true());
        if (at >= 0 && list->merge_key)
            r = merge_object(strategic, item, json_array_get(plain, (size_t)at), &merged, err);
        else
            merged = json_deep_copy(item);
        if (merged)
            (void)json_array_append(result, merged);
    }
    json_array_foreach(plain, i, item) {
        const json_t *id = identity(item, list);

        if (index_of(plain_index, id, &text) != (int64_t)i ||
            json_object_getn(done, text.data, text.len))
            continue;
        (void)json_array_append_new(result, take_value(item));
    }
    return r;
}

static int merge_list(struct strategic *strategic, const struct fl_strategic_list *list,
                      const json_t *original, const json_t *patch, json_t **ret_result,
                      struct fl_error *err)
{
    FL_JSON plain = json_array();
    FL_JSON deleted = json_array();
    FL_JSON merged = json_array();
    bool is_replaced = false;
    int r;

    if (!list) {
        *ret_result = take_value(patch);
        return 0;
    }
    r = check_items(original, list, err);
    if (r == 0)
        r = check_items(patch, list, err);
    if (r == 0)
        r = read_directives(patch, list, plain, deleted, &is_replaced, err);
    if (r < 0)
        return r;
    if (is_replaced) {
        *ret_result = take_value(plain);
        return 0;
    }
    r = merge_items(strategic, list, original, plain, deleted, merged, err);
    return r < 0 ? r : reorder(merged, plain, original, list, ret_result, err);
}

/* $deleteFromPrimitiveList/x: the scalars to remove from x. */
static int delete_from_list(json_t *result, const char *key, const json_t *scalars,
                            struct fl_error *err)
{
    static const struct fl_strategic_list set = {.path = DELETE_FROM};
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON index = NULL;
    json_t *kept, *item;
    const json_t *list = json_object_get(result, key);
    size_t i;
    int r;

    if (!json_is_array(scalars))
        return fl_error_set(err, FL_E_BAD_REQUEST, DELETE_FROM "%s must be a list", key);
    if (!json_is_array(list))
        return 0;
    r = make_index(scalars, &set, &index, err);
    if (r < 0)
        return r;
    kept = json_array();
    json_array_foreach(list, i, item) {
        if (index_of(index, item, &text) < 0)
            (void)json_array_append(kept, item);
    }
    (void)json_object_set_new_nocheck(result, key, kept);
    return 0;
}

/* The patch's own items must be named by the order it asks for, and in that order. */
static int check_order(const json_t *patch_items, const json_t *wanted, const char *key,
                       const struct fl_strategic_list *list, struct fl_error *err)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON index = NULL;
    int64_t last = -1;
    json_t *item;
    size_t i;
    int r;

    if (json_array_size(wanted) == 0)
        return 0;
    r = make_index(wanted, list, &index, err);
    if (r < 0)
        return r;
    json_array_foreach(patch_items, i, item) {
        const json_t *id = identity(item, list);
        int64_t at;

        if (!id || json_object_get(item, DIRECTIVE))
            continue;
        at = index_of(index, id, &text);
        if (at <= last)
            return fl_error_set(err, FL_E_BAD_REQUEST,
                                "the order of %s does not match " SET_ORDER "%s", key, key);
        last = at;
    }
    return 0;
}

/* $setElementOrder/x: the order in which x's items shall stand. */
static int set_order(struct strategic *strategic, json_t *result, const char *key,
                     const json_t *wanted, const json_t *original, const json_t *patch,
                     struct fl_error *err)
{
    size_t before = enter(strategic, key);
    const struct fl_strategic_list *list = list_here(strategic);
    json_t *items = json_object_get(result, key), *ordered = NULL;
    int r = 0;

    leave(strategic, before);
    if (!json_is_array(wanted))
        return fl_error_set(err, FL_E_BAD_REQUEST, SET_ORDER "%s must be a list", key);
    if (!list || !json_is_array(items))
        return 0;
    r = check_items(wanted, list, err);
    if (r == 0)
        r = check_items(items, list, err);
    if (r == 0)
        r = check_order(json_object_get(patch, key), wanted, key, list, err);
    if (r == 0)
        r = reorder(items, wanted, json_object_get(original, key), list, &ordered, err);
    if (r < 0)
        return r;
    (void)json_object_set_new_nocheck(result, key, ordered);
    return 0;
}

/* Objects */

/* The set of keys to retain, NULL where the patch does not say; each of its own keys must be in. */
static int read_retained(const json_t *patch, json_t **ret_keys, struct fl_error *err)
{
    const json_t *names = json_object_get(patch, RETAIN_KEYS);
    FL_JSON keys = NULL;
    json_t *name, *member;
    const char *key;
    size_t i;

    if (!names)
        return 0;
    if (!json_is_array(names))
        return fl_error_set(err, FL_E_BAD_REQUEST, RETAIN_KEYS " must be a list");
    keys = json_object();
    json_array_foreach(names, i, name) {
        if (json_is_string(name))
            (void)json_object_set_new_nocheck(keys, json_string_value(name), json_true());
    }
    json_object_foreach((json_t *)patch, key, member) {
        if (!json_is_null(member) && !is_directive(key) && !json_object_get(keys, key))
            return fl_error_set(err, FL_E_BAD_REQUEST, RETAIN_KEYS " does not name \"%s\"", key);
    }
    *ret_keys = FL_TAKE(keys);
    return 0;
}

static int merge_value(struct strategic *strategic, const json_t *original, const json_t *patch,
                       json_t **ret_result, struct fl_error *err)
{
    if (json_is_object(original) && json_is_object(patch))
        return merge_object(strategic, original, patch, ret_result, err);
    if (json_is_array(original) && json_is_array(patch))
        return merge_list(strategic, list_here(strategic), original, patch, ret_result, err);
    *ret_result = take_value(patch);
    return 0;
}

static int merge_members(struct strategic *strategic, const json_t *original, const json_t *patch,
                         const json_t *retained, json_t *result, struct fl_error *err)
{
    const char *key;
    json_t *member;
    int r = 0;

    json_object_foreach((json_t *)original, key, member) {
        const json_t *change = json_object_get(patch, key);
        json_t *merged = NULL;
        size_t before;

        if (r < 0)
            return r;
        if ((retained && !json_object_get(retained, key)) || json_is_null(change))
            continue;
        if (!change) {
            (void)json_object_set_new_nocheck(result, key, json_deep_copy(member));
            continue;
        }
        before = enter(strategic, key);
        r = merge_value(strategic, member, change, &merged, err);
        leave(strategic, before);
        if (merged)
            (void)json_object_set_new_nocheck(result, key, merged);
    }
    json_object_foreach((json_t *)patch, key, member) {
        json_t *taken;

        if (json_is_null(member) || is_directive(key) || json_object_get(original, key))
            continue;
        taken = take_value(member);
        if (taken)
            (void)json_object_set_new_nocheck(result, key, taken);
    }
    return r;
}

static int apply_list_directives(struct strategic *strategic, const json_t *original,
                                 const json_t *patch, json_t *result, struct fl_error *err)
{
    const char *key;
    json_t *member;
    int r = 0;

    json_object_foreach((json_t *)patch, key, member) {
        if (r == 0 && fl_str_has_prefix(key, DELETE_FROM))
            r = delete_from_list(result, key + strlen(DELETE_FROM), member, err);
        else if (r == 0 && fl_str_has_prefix(key, SET_ORDER))
            r = set_order(strategic, result, key + strlen(SET_ORDER), member, original, patch, err);
    }
    return r;
}

static int merge_object(struct strategic *strategic, const json_t *original, const json_t *patch,
                        json_t **ret_result, struct fl_error *err)
{
    const json_t *directive = json_object_get(patch, DIRECTIVE);
    const char *what = fl_str_or(json_string_value(directive), "");
    FL_JSON result = json_object();
    FL_JSON retained = NULL;
    int r;

    if (directive && strcmp(what, "replace") == 0) {
        take_members(patch, result);
        *ret_result = FL_TAKE(result);
        return 0;
    }
    if (directive && strcmp(what, "delete") == 0) {
        *ret_result = FL_TAKE(result);
        return 0;
    }
    if (directive && strcmp(what, "merge") != 0)
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s: unknown $patch: %s",
                            fl_buf_text(&strategic->path), what);
    r = read_retained(patch, &retained, err);
    if (r == 0)
        r = merge_members(strategic, original, patch, retained, result, err);
    if (r == 0)
        r = apply_list_directives(strategic, original, patch, result, err);
    if (r < 0)
        return r;
    *ret_result = FL_TAKE(result);
    return 0;
}

int fl_patch_strategic(const json_t *original, const json_t *patch,
                       const struct fl_strategic_list *lists, size_t list_count,
                       json_t **ret_result, struct fl_error *err)
{
    struct strategic strategic = {.lists = lists, .list_count = list_count};
    int r;

    if (!json_is_object(patch))
        return fl_error_set(err, FL_E_BAD_REQUEST, "a strategic merge patch is an object");
    fl_buf_init(&strategic.path, 0);
    fl_buf_puts(&strategic.path, "");
    r = merge_object(&strategic, original, patch, ret_result, err);
    fl_buf_finish(&strategic.path);
    return r;
}
