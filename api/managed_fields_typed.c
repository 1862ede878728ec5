/* Values seen through the schema: which paths they have, how two of them differ, how they merge.
 *
 * A value has one of three shapes. Where the schema fixes it, null is an empty one of that shape;
 * where anything may stand, the value decides, and null passes for an object that is no object
 * yet. Objects are granular and lists atomic unless the schema says otherwise. */
#include "api/managed_fields_internal.h"

#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

enum shape { SHAPE_SCALAR, SHAPE_LIST, SHAPE_MAP, SHAPE_ANY };

/* Types */

static const struct fl_typed deduced = {FL_TYPED_DEDUCED, NULL};
static const struct fl_typed scalar = {FL_TYPED_SCALAR, NULL};
static const char *const owner_keys[] = {"uid"};

struct fl_typed fl_typed_root(const struct fl_schema *schema)
{
    return (struct fl_typed){FL_TYPED_ROOT, schema ? fl_schema_root(schema) : NULL};
}

static struct fl_typed meta_member(const char *name, bool *ret_is_declared)
{
    static const struct {
        const char *name;
        enum fl_typed_kind kind;
    } members[] = {
        {"annotations", FL_TYPED_TEXT_MAP},
        {"creationTimestamp", FL_TYPED_SCALAR},
        {"deletionGracePeriodSeconds", FL_TYPED_SCALAR},
        {"deletionTimestamp", FL_TYPED_SCALAR},
        {"finalizers", FL_TYPED_TEXT_SET},
        {"generateName", FL_TYPED_SCALAR},
        {"generation", FL_TYPED_SCALAR},
        {"labels", FL_TYPED_TEXT_MAP},
        {"managedFields", FL_TYPED_DEDUCED},
        {"name", FL_TYPED_SCALAR},
        {"namespace", FL_TYPED_SCALAR},
        {"ownerReferences", FL_TYPED_OWNERS},
        {"resourceVersion", FL_TYPED_SCALAR},
        {"selfLink", FL_TYPED_SCALAR},
        {"uid", FL_TYPED_SCALAR},
    };

    for (size_t i = 0; i < FL_COUNT_OF(members); i++) {
        if (strcmp(members[i].name, name) == 0) {
            *ret_is_declared = true;
            return (struct fl_typed){members[i].kind, NULL};
        }
    }
    *ret_is_declared = false;
    return deduced;
}

static struct fl_typed node_member(const struct fl_schema_node *node, const char *name,
                                   bool *ret_is_declared)
{
    const struct fl_schema_node *member = fl_schema_node_member(node, name);

    /* What any other name would get is additionalProperties, not a property of this name. */
    *ret_is_declared = member && member != fl_schema_node_member(node, "");
    return member ? (struct fl_typed){FL_TYPED_NODE, member} : deduced;
}

/* The type of an object's member; `*ret_is_declared`: a property, not just one of many entries. */
static struct fl_typed member_type(struct fl_typed type, const char *name, bool *ret_is_declared)
{
    *ret_is_declared = false;
    switch (type.kind) {
    case FL_TYPED_ROOT:
        *ret_is_declared = true;
        if (strcmp(name, "metadata") == 0)
            return (struct fl_typed){FL_TYPED_META, NULL};
        if (strcmp(name, "apiVersion") == 0 || strcmp(name, "kind") == 0)
            return scalar;
        return node_member(type.node, name, ret_is_declared);
    case FL_TYPED_NODE:
        return node_member(type.node, name, ret_is_declared);
    case FL_TYPED_META:
        return meta_member(name, ret_is_declared);
    case FL_TYPED_TEXT_MAP:
        return scalar;
    default:
        return deduced;
    }
}

static struct fl_typed item_type(struct fl_typed type)
{
    const struct fl_schema_node *items;

    if (type.kind == FL_TYPED_TEXT_SET)
        return scalar;
    if (type.kind == FL_TYPED_OWNERS)
        return (struct fl_typed){FL_TYPED_ATOMIC, NULL};
    items = type.kind == FL_TYPED_NODE ? fl_schema_node_items(type.node) : NULL;
    return items ? (struct fl_typed){FL_TYPED_NODE, items} : deduced;
}

static bool is_atomic_map(struct fl_typed type)
{
    return type.kind == FL_TYPED_ATOMIC ||
           (type.kind == FL_TYPED_NODE && fl_schema_node_is_atomic(type.node));
}

static enum fl_list_type list_type(struct fl_typed type)
{
    if (type.kind == FL_TYPED_TEXT_SET)
        return FL_LIST_SET;
    if (type.kind == FL_TYPED_OWNERS)
        return FL_LIST_MAP;
    return type.kind == FL_TYPED_NODE ? fl_schema_node_list_type(type.node) : FL_LIST_ATOMIC;
}

static enum shape declared_shape(struct fl_typed type)
{
    switch (type.kind) {
    case FL_TYPED_ROOT:
    case FL_TYPED_META:
    case FL_TYPED_TEXT_MAP:
    case FL_TYPED_ATOMIC:
        return SHAPE_MAP;
    case FL_TYPED_TEXT_SET:
    case FL_TYPED_OWNERS:
        return SHAPE_LIST;
    case FL_TYPED_SCALAR:
        return SHAPE_SCALAR;
    case FL_TYPED_DEDUCED:
        return SHAPE_ANY;
    case FL_TYPED_NODE:
        break;
    }
    switch (fl_schema_node_type(type.node)) {
    case FL_SCHEMA_OBJECT:
        return SHAPE_MAP;
    case FL_SCHEMA_ARRAY:
        return SHAPE_LIST;
    case FL_SCHEMA_ANY:
    case FL_SCHEMA_INT_OR_STRING:
        return SHAPE_ANY;
    default:
        return SHAPE_SCALAR;
    }
}

static enum shape shape_of(struct fl_typed type, const json_t *value)
{
    enum shape shape = declared_shape(type);

    if (shape != SHAPE_ANY || !value)
        return shape;
    if (json_is_object(value))
        return SHAPE_MAP;
    if (json_is_array(value))
        return SHAPE_LIST;
    return json_is_null(value) ? SHAPE_ANY : SHAPE_SCALAR;
}

/* Items of lists that are no atoms */

struct item {
    struct fl_element element;
    json_t *value;
    size_t at;
    bool is_merged;
};

static bool keyed_element(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                          struct fl_element *ret_element)
{
    const struct fl_schema_node *items = type.node ? fl_schema_node_items(type.node) : NULL;
    const char *const *names = owner_keys;
    size_t count = 1;
    struct fl_element_key *keys;

    if (type.kind == FL_TYPED_NODE)
        count = fl_schema_node_list_keys(type.node, &names);
    if (!json_is_object(value) || count == 0)
        return false;
    keys = fl_new_array(arena, struct fl_element_key, count);
    for (size_t i = 0; i < count; i++) {
        const json_t *part = json_object_get(value, names[i]);
        size_t at = i;

        if (!part)
            part = fl_schema_node_default(fl_schema_node_member(items, names[i]));
        if (!part)
            return false;
        for (; at > 0 && strcmp(keys[at - 1].name, names[i]) > 0; at--)
            keys[at] = keys[at - 1];
        keys[at] = (struct fl_element_key){names[i], part};
    }
    *ret_element =
        (struct fl_element){.kind = FL_ELEMENT_KEY, .key_count = (uint32_t)count, .keys = keys};
    return true;
}

/* What the item is called in its list; false where it cannot be called anything. */
static bool item_element(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                         struct fl_element *ret_element)
{
    if (list_type(type) == FL_LIST_MAP)
        return keyed_element(arena, type, value, ret_element);
    if (json_is_object(value) || json_is_array(value) || json_is_null(value))
        return false;
    *ret_element = (struct fl_element){.kind = FL_ELEMENT_VALUE, .value = value};
    return true;
}

static int compare_items(const void *a, const void *b)
{
    const struct item *left = a, *right = b;
    int c = fl_element_compare(&left->element, &right->element);

    if (c != 0)
        return c;
    return left->at < right->at ? -1 : left->at > right->at;
}

/* The items that can be named, in the list's order. */
static struct item *list_items(struct fl_arena *arena, struct fl_typed type, const json_t *list,
                               size_t *ret_count)
{
    struct item *items = fl_new_array(arena, struct item, json_array_size(list) + 1);
    size_t count = 0, i;
    json_t *value;

    json_array_foreach(list, i, value) {
        if (item_element(arena, type, value, &items[count].element)) {
            items[count].value = value;
            items[count].at = i;
            count++;
        }
    }
    *ret_count = count;
    return items;
}

static struct item *sorted_items(struct fl_arena *arena, struct fl_typed type, const json_t *list,
                                 size_t *ret_count)
{
    struct item *items = list_items(arena, type, list, ret_count);

    qsort(items, *ret_count, sizeof(*items), compare_items);
    return items;
}

/* How many items from `at` on have the same name. */
static size_t run_length(const struct item *items, size_t count, size_t at)
{
    size_t end = at;

    while (end < count && fl_element_compare(&items[end].element, &items[at].element) == 0)
        end++;
    return end - at;
}

/* The first item of this name in a sorted array. */
static struct item *find_item(struct item *items, size_t count, const struct fl_element *element)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (fl_element_compare(&items[middle].element, element) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || fl_element_compare(&items[low].element, element) != 0)
        return NULL;
    return &items[low];
}

/* The paths of a value */

static bool fields_of(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                      struct fl_fields *ret_below);

static struct fl_fields map_fields(struct fl_arena *arena, struct fl_typed type,
                                   const json_t *value)
{
    struct fl_fields_builder builder = {.arena = arena};
    const char *name;
    json_t *member;

    json_object_foreach((json_t *)value, name, member) {
        struct fl_field_node node = {.element = fl_element_field(name)};
        bool is_declared;
        struct fl_typed below = member_type(type, name, &is_declared);
        bool is_member = fields_of(arena, below, member, &node.children);

        if (is_member || !is_declared || json_is_null(member) ||
            (json_is_object(member) && json_object_size(member) == 0))
            node.marks = FL_MARK_MEMBER;
        if (node.marks || node.children.count)
            fl_fields_add(&builder, &node);
    }
    return fl_fields_build(&builder);
}

static struct fl_fields list_fields(struct fl_arena *arena, struct fl_typed type,
                                    const json_t *value)
{
    struct fl_fields_builder builder = {.arena = arena};
    size_t count, run;
    const struct item *items = sorted_items(arena, type, value, &count);

    for (size_t i = 0; i < count; i += run) {
        struct fl_field_node node = {.element = items[i].element, .marks = FL_MARK_MEMBER};

        run = run_length(items, count, i);
        if (run == 1)
            (void)fields_of(arena, item_type(type), items[i].value, &node.children);
        fl_fields_add(&builder, &node);
    }
    return fl_fields_build(&builder);
}

/* True where the value's own path is one: scalars and atoms. */
static bool fields_of(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                      struct fl_fields *ret_below)
{
    switch (shape_of(type, value)) {
    case SHAPE_SCALAR:
        return true;
    case SHAPE_LIST:
        if (list_type(type) == FL_LIST_ATOMIC)
            return true;
        *ret_below = list_fields(arena, type, value);
        return false;
    default:
        if (is_atomic_map(type))
            return true;
        *ret_below = map_fields(arena, type, value);
        return false;
    }
}

struct fl_fields fl_typed_fields(struct fl_arena *arena, struct fl_typed type, const json_t *value)
{
    struct fl_fields fields = {0};

    (void)fields_of(arena, type, value, &fields);
    return fields;
}

/* Differences */

static void compare_values(struct fl_arena *arena, struct fl_typed type, const json_t *before,
                           const json_t *after, struct fl_field_node *node);

static unsigned leaf_marks(const json_t *before, const json_t *after)
{
    if (!before)
        return FL_MARK_ADDED;
    if (!after)
        return FL_MARK_REMOVED;
    return fl_value_equal(before, after) ? 0 : FL_MARK_MODIFIED;
}

static void add_changed(struct fl_fields_builder *builder, const struct fl_field_node *node)
{
    if (node->marks || node->children.count)
        fl_fields_add(builder, node);
}

static void compare_maps(struct fl_fields_builder *builder, struct fl_typed type,
                         const json_t *before, const json_t *after)
{
    size_t shared = 0;
    const char *name;
    json_t *member;

    json_object_foreach((json_t *)after, name, member) {
        struct fl_field_node node = {.element = fl_element_field(name)};
        const json_t *old = json_object_get(before, name);
        bool is_declared;

        shared += old != NULL;
        if (old != member)
            compare_values(builder->arena, member_type(type, name, &is_declared), old, member,
                           &node);
        add_changed(builder, &node);
    }
    if (shared == json_object_size(before))
        return;
    json_object_foreach((json_t *)before, name, member) {
        struct fl_field_node node = {.element = fl_element_field(name)};
        bool is_declared;

        if (json_object_get(after, name))
            continue;
        compare_values(builder->arena, member_type(type, name, &is_declared), member, NULL, &node);
        add_changed(builder, &node);
    }
}

static bool runs_equal(const struct item *a, size_t a_count, const struct item *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        if (!fl_value_equal(a[i].value, b[i].value))
            return false;
    }
    return true;
}

/* Items that have one name, on both sides. Doubled items are owned as a whole. */
static void compare_runs(struct fl_fields_builder *builder, struct fl_typed type,
                         const struct item *before, size_t before_count, const struct item *after,
                         size_t after_count)
{
    struct fl_field_node node = {.element = before_count ? before->element : after->element};

    if (before_count <= 1 && after_count <= 1) {
        compare_values(builder->arena, type, before_count ? before->value : NULL,
                       after_count ? after->value : NULL, &node);
    } else if (before_count >= 2 && after_count >= 2) {
        if (!runs_equal(before, before_count, after, after_count))
            node.marks = FL_MARK_MODIFIED;
    } else if (before_count >= 2) {
        if (after_count)
            compare_values(builder->arena, type, NULL, after->value, &node);
        node.marks |= FL_MARK_REMOVED;
    } else {
        if (before_count)
            compare_values(builder->arena, type, before->value, NULL, &node);
        node.marks |= FL_MARK_ADDED;
    }
    add_changed(builder, &node);
}

static void compare_lists(struct fl_fields_builder *builder, struct fl_typed type,
                          const json_t *before, const json_t *after)
{
    size_t left_count, right_count, i = 0, j = 0;
    const struct item *left = sorted_items(builder->arena, type, before, &left_count);
    const struct item *right = sorted_items(builder->arena, type, after, &right_count);

    while (i < left_count || j < right_count) {
        size_t left_run = 0, right_run = 0;
        int side;

        if (i == left_count || j == right_count)
            side = i == left_count ? 1 : -1;
        else
            side = fl_element_compare(&left[i].element, &right[j].element);
        if (side <= 0)
            left_run = run_length(left, left_count, i);
        if (side >= 0)
            right_run = run_length(right, right_count, j);
        compare_runs(builder, item_type(type), &left[i], left_run, &right[j], right_run);
        i += left_run;
        j += right_run;
    }
}

/* True where the pair was compared as one leaf; `*marks` then says how it differs. */
static bool compare_shaped(struct fl_fields_builder *builder, struct fl_typed type,
                           enum shape shape, const json_t *before, const json_t *after,
                           unsigned *marks)
{
    bool is_map = shape == SHAPE_MAP || shape == SHAPE_ANY, is_leaf;
    size_t sizes = is_map ? json_object_size(before) + json_object_size(after)
                          : json_array_size(before) + json_array_size(after);

    is_leaf = shape == SHAPE_SCALAR || sizes == 0 ||
              (is_map ? is_atomic_map(type) : list_type(type) == FL_LIST_ATOMIC);
    if (is_leaf)
        *marks |= leaf_marks(before, after);
    else if (is_map)
        compare_maps(builder, type, json_is_object(before) ? before : NULL,
                     json_is_object(after) ? after : NULL);
    else
        compare_lists(builder, type, json_is_array(before) ? before : NULL,
                      json_is_array(after) ? after : NULL);
    return is_leaf;
}

static void compare_values(struct fl_arena *arena, struct fl_typed type, const json_t *before,
                           const json_t *after, struct fl_field_node *node)
{
    struct fl_fields_builder builder = {.arena = arena};
    enum shape old_shape = shape_of(type, before), new_shape = shape_of(type, after);
    unsigned marks = 0;
    bool is_leaf;

    if (before && after && old_shape != new_shape)
        (void)compare_shaped(&builder, type, old_shape, before, after, &marks);
    is_leaf = compare_shaped(&builder, type, after ? new_shape : old_shape, before, after, &marks);
    if (!is_leaf && !before)
        marks |= FL_MARK_ADDED;
    if (!is_leaf && !after)
        marks |= FL_MARK_REMOVED;
    node->marks |= marks;
    node->children = fl_fields_build(&builder);
}

struct fl_fields fl_typed_compare(struct fl_arena *arena, struct fl_typed type,
                                  const json_t *before, const json_t *after)
{
    struct fl_field_node node = {0};

    compare_values(arena, type, before, after, &node);
    return node.children;
}

/* Merging. Functions give NULL where nothing is left to stand in the result. */

static json_t *merge_maps(struct fl_arena *arena, struct fl_typed type, const json_t *live,
                          const json_t *applied)
{
    json_t *result = json_object(), *member, *merged;
    const char *name;
    bool is_declared;

    json_object_foreach((json_t *)live, name, member) {
        const json_t *change = json_object_get(applied, name);

        merged = change
                     ? fl_typed_merge(arena, member_type(type, name, &is_declared), member, change)
                     : json_deep_copy(member);
        if (merged)
            (void)json_object_set_new_nocheck(result, name, merged);
    }
    json_object_foreach((json_t *)applied, name, member) {
        if (!json_object_get(live, name))
            (void)json_object_set_new_nocheck(result, name, json_deep_copy(member));
    }
    if (json_object_size(result) > 0)
        return result;
    json_decref(result);
    return NULL;
}

struct list_merge {
    struct fl_arena *arena;
    struct fl_typed item_type;
    struct item *live, *applied;               /* in the list's order */
    struct item *live_sorted, *applied_sorted; /* by name */
    size_t live_count, applied_count;
    size_t next_shared; /* index in `applied` of the shared item that comes next */
    json_t *result;
};

static struct item *in_live(const struct list_merge *merge, const struct fl_element *element)
{
    return find_item(merge->live_sorted, merge->live_count, element);
}

static struct item *in_applied(const struct list_merge *merge, const struct fl_element *element)
{
    return find_item(merge->applied_sorted, merge->applied_count, element);
}

static void skip_to_shared(struct list_merge *merge)
{
    while (merge->next_shared < merge->applied_count &&
           !in_live(merge, &merge->applied[merge->next_shared].element))
        merge->next_shared++;
}

/* The applied item, merged into the live one of its name; a doubled live item is replaced. */
static void take_applied(struct list_merge *merge, size_t at)
{
    const struct item *item = &merge->applied[at];
    struct item *live = in_live(merge, &item->element);
    json_t *merged;

    in_applied(merge, &item->element)->is_merged = true;
    if (live &&
        run_length(merge->live_sorted, merge->live_count, (size_t)(live - merge->live_sorted)) > 1)
        live = NULL;
    merged = live ? fl_typed_merge(merge->arena, merge->item_type, live->value, item->value)
                  : json_deep_copy(item->value);
    if (merged)
        (void)json_array_append_new(merge->result, merged);
    if (merge->next_shared == at) {
        merge->next_shared++;
        skip_to_shared(merge);
    }
}

static bool is_next_shared(const struct list_merge *merge, const struct fl_element *element)
{
    return merge->next_shared == merge->applied_count ||
           fl_element_compare(&merge->applied[merge->next_shared].element, element) == 0;
}

/* Applied items keep their order among themselves and live ones theirs; a live item that is not
 * applied stays behind the shared item that it followed. */
static void merge_in_order(struct list_merge *merge)
{
    size_t i = 0, j = 0;

    while (i < merge->live_count || j < merge->applied_count) {
        const struct item *item = i < merge->live_count ? &merge->live[i] : NULL, *other = NULL;

        if (item && j < merge->applied_count) {
            if (fl_element_compare(&item->element, &merge->applied[j].element) == 0) {
                take_applied(merge, j++);
                i++;
                continue;
            }
            if (in_applied(merge, &item->element) && !is_next_shared(merge, &item->element)) {
                i++;
                continue;
            }
        }
        if (item) {
            other = in_applied(merge, &item->element);
            if (!other) {
                (void)json_array_append_new(merge->result, json_deep_copy(item->value));
                i++;
                continue;
            }
            if (other->is_merged)
                i++;
        }
        if (j < merge->applied_count)
            take_applied(merge, j++);
    }
}

static json_t *merge_lists(struct fl_arena *arena, struct fl_typed type, const json_t *live,
                           const json_t *applied)
{
    struct list_merge merge = {
        .arena = arena, .item_type = item_type(type), .result = json_array()};

    merge.live = list_items(arena, type, live, &merge.live_count);
    merge.applied = list_items(arena, type, applied, &merge.applied_count);
    merge.live_sorted = sorted_items(arena, type, live, &merge.live_count);
    merge.applied_sorted = sorted_items(arena, type, applied, &merge.applied_count);
    skip_to_shared(&merge);
    merge_in_order(&merge);
    if (json_array_size(merge.result) > 0)
        return merge.result;
    json_decref(merge.result);
    return NULL;
}

json_t *fl_typed_merge(struct fl_arena *arena, struct fl_typed type, const json_t *live,
                       const json_t *applied)
{
    enum shape shape = shape_of(type, applied);
    bool is_list = shape == SHAPE_LIST;
    size_t sizes = is_list ? json_array_size(live) + json_array_size(applied)
                           : json_object_size(live) + json_object_size(applied);

    if (shape == SHAPE_SCALAR || sizes == 0 ||
        (is_list ? list_type(type) == FL_LIST_ATOMIC : is_atomic_map(type)))
        return json_deep_copy(applied);
    if (is_list)
        return merge_lists(arena, type, json_is_array(live) ? live : NULL,
                           json_is_array(applied) ? applied : NULL);
    return merge_maps(arena, type, json_is_object(live) ? live : NULL,
                      json_is_object(applied) ? applied : NULL);
}

/* Removing. A container that loses all it had counts as gone: it becomes null, which still says
 * that it was there, or stays as an empty one where the result is for people to see. */

struct removal {
    struct fl_arena *arena;
    bool keep_empty;
};

static bool remove_below(const struct removal *removal, struct fl_typed type, json_t *value,
                         const struct fl_fields *set);

static bool remove_members(const struct removal *removal, struct fl_typed type, json_t *value,
                           const struct fl_fields *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct fl_field_node *node = &set->nodes[i];
        json_t *member;
        bool is_declared;

        if (node->element.kind != FL_ELEMENT_FIELD)
            continue;
        member = json_object_get(value, node->element.name);
        if (member && node->marks)
            (void)json_object_del(value, node->element.name);
        else if (member && !fl_fields_is_empty(&node->children) &&
                 !remove_below(removal, member_type(type, node->element.name, &is_declared), member,
                               &node->children) &&
                 !removal->keep_empty)
            (void)json_object_set_new_nocheck(value, node->element.name, json_null());
    }
    return json_object_size(value) > 0;
}

static bool remove_items(const struct removal *removal, struct fl_typed type, json_t *value,
                         const struct fl_fields *set)
{
    FL_JSON kept = json_array();
    json_t *item;
    size_t i;

    json_array_foreach(value, i, item) {
        const struct fl_field_node *node = NULL;
        struct fl_element element;

        if (item_element(removal->arena, type, item, &element))
            node = fl_fields_find(set, &element);
        if (node && node->marks)
            continue;
        if (node && !fl_fields_is_empty(&node->children) &&
            !remove_below(removal, item_type(type), item, &node->children) && !removal->keep_empty)
            (void)json_array_append_new(kept, json_null());
        else
            (void)json_array_append(kept, item);
    }
    (void)json_array_clear(value);
    (void)json_array_extend(value, kept);
    return json_array_size(value) > 0;
}

/* False where nothing of the value is left. */
static bool remove_below(const struct removal *removal, struct fl_typed type, json_t *value,
                         const struct fl_fields *set)
{
    enum shape shape = shape_of(type, value);

    if (shape == SHAPE_SCALAR)
        return true;
    if (shape == SHAPE_LIST)
        return json_array_size(value) > 0 && list_type(type) != FL_LIST_ATOMIC &&
               remove_items(removal, type, value, set);
    return json_object_size(value) > 0 && !is_atomic_map(type) &&
           remove_members(removal, type, value, set);
}

void fl_typed_remove(struct fl_arena *arena, struct fl_typed type, json_t *value,
                     const struct fl_fields *set, bool keep_empty)
{
    (void)remove_below(&(struct removal){arena, keep_empty}, type, value, set);
}

/* Sets seen through the schema */

static bool may_be_map(struct fl_typed type)
{
    enum shape shape = declared_shape(type);

    return shape == SHAPE_MAP || shape == SHAPE_ANY;
}

/* The type below a path element; nothing is declared below what does not fit the schema. */
static struct fl_typed element_type(struct fl_typed type, const struct fl_element *element,
                                    bool *ret_is_declared)
{
    *ret_is_declared = false;
    if (element->kind == FL_ELEMENT_FIELD && may_be_map(type))
        return member_type(type, element->name, ret_is_declared);
    if (element->kind == FL_ELEMENT_KEY && declared_shape(type) != SHAPE_SCALAR)
        return item_type(type);
    return deduced;
}

struct fl_fields fl_typed_with_named(struct fl_arena *arena, struct fl_typed type,
                                     const struct fl_fields *set)
{
    struct fl_fields result = {0};

    if (set->count == 0)
        return result;
    result.nodes = fl_new_array(arena, struct fl_field_node, set->count);
    result.count = set->count;
    for (size_t i = 0; i < set->count; i++) {
        struct fl_field_node *node = &result.nodes[i];
        bool is_declared;
        struct fl_typed below;

        *node = set->nodes[i];
        if (node->children.count == 0)
            continue;
        below = element_type(type, &node->element, &is_declared);
        if (is_declared)
            node->marks = FL_MARK_MEMBER;
        node->children = fl_typed_with_named(arena, below, &node->children);
    }
    return result;
}

static bool reconcile_node(struct fl_arena *arena, struct fl_typed type,
                           const struct fl_field_node *node, struct fl_field_node *ret_node);

/* True where anything changed; then `*ret_set` is the new set. */
static bool reconcile_below(struct fl_arena *arena, struct fl_typed type,
                            const struct fl_fields *set, struct fl_fields *ret_set)
{
    struct fl_fields result = {0};
    bool is_list = declared_shape(type) == SHAPE_LIST;

    for (size_t i = 0; i < set->count; i++) {
        bool is_declared;
        struct fl_typed below = is_list ? item_type(type) : deduced;
        struct fl_field_node changed;

        if (!is_list && set->nodes[i].element.kind == FL_ELEMENT_FIELD)
            below = member_type(type, set->nodes[i].element.name, &is_declared);
        if (!reconcile_node(arena, below, &set->nodes[i], &changed))
            continue;
        if (!result.nodes) {
            result = (struct fl_fields){fl_new_array(arena, struct fl_field_node, set->count),
                                        set->count};
            memcpy(result.nodes, set->nodes, set->count * sizeof(*set->nodes));
        }
        result.nodes[i] = changed;
    }
    if (!result.nodes)
        return false;
    *ret_set = result;
    return true;
}

static bool reconcile_node(struct fl_arena *arena, struct fl_typed type,
                           const struct fl_field_node *node, struct fl_field_node *ret_node)
{
    bool is_atom = node->marks && node->children.count == 0, became_atomic;

    switch (declared_shape(type)) {
    case SHAPE_LIST:
        became_atomic = !is_atom && list_type(type) == FL_LIST_ATOMIC;
        break;
    case SHAPE_MAP:
        became_atomic = !is_atom && is_atomic_map(type);
        break;
    default:
        return false;
    }
    *ret_node = *node;
    if (became_atomic) {
        ret_node->marks = FL_MARK_MEMBER;
        ret_node->children = (struct fl_fields){0};
        return true;
    }
    return node->children.count &&
           reconcile_below(arena, type, &node->children, &ret_node->children);
}

struct fl_fields fl_typed_reconcile(struct fl_arena *arena, struct fl_typed type,
                                    const struct fl_fields *set)
{
    struct fl_fields result = *set;

    (void)reconcile_below(arena, type, set, &result);
    return result;
}

/* Checking */

static int check_value(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                       struct fl_buf *path, struct fl_error *err);

static int check_below(struct fl_arena *arena, struct fl_typed type,
                       const struct fl_element *element, const json_t *value, struct fl_buf *path,
                       struct fl_error *err)
{
    size_t before = path->len;
    int r;

    fl_element_print(path, element);
    r = check_value(arena, type, value, path, err);
    path->len = before;
    path->data[before] = '\0';
    return r;
}

static int check_list(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                      struct fl_buf *path, struct fl_error *err)
{
    size_t count;
    const struct item *items = sorted_items(arena, type, value, &count);
    int r = 0;

    if (count < json_array_size(value))
        return fl_error_set(err, FL_E_INVALID, "%s: %s", fl_buf_text(path),
                            list_type(type) == FL_LIST_MAP ? "an item of the list omits a key field"
                                                           : "an item of the set is no scalar");
    for (size_t i = 0; r == 0 && i < count; i++) {
        if (i > 0 && fl_element_compare(&items[i].element, &items[i - 1].element) == 0) {
            fl_element_print(path, &items[i].element);
            return fl_error_set(err, FL_E_INVALID, "%s: duplicate entries for key",
                                fl_buf_text(path));
        }
        r = check_below(arena, item_type(type), &items[i].element, items[i].value, path, err);
    }
    return r;
}

static int check_value(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                       struct fl_buf *path, struct fl_error *err)
{
    enum shape shape = shape_of(type, value);
    const char *name;
    json_t *member;
    size_t i;
    int r = 0;

    if (shape == SHAPE_LIST && json_is_array(value) && list_type(type) != FL_LIST_ATOMIC)
        return check_list(arena, type, value, path, err);
    json_array_foreach(value, i, member) {
        struct fl_element element = {.kind = FL_ELEMENT_INDEX, .index = (int64_t)i};

        if (r == 0 && (json_is_object(member) || json_is_array(member)))
            r = check_below(arena, item_type(type), &element, member, path, err);
    }
    if (r < 0)
        return r;
    if (shape != SHAPE_MAP || !json_is_object(value))
        return 0;
    json_object_foreach((json_t *)value, name, member) {
        struct fl_element element = fl_element_field(name);
        bool is_declared;

        if (r == 0 && (json_is_object(member) || json_is_array(member)))
            r = check_below(arena, member_type(type, name, &is_declared), &element, member, path,
                            err);
    }
    return r;
}

int fl_typed_check(struct fl_arena *arena, struct fl_typed type, const json_t *value,
                   struct fl_error *err)
{
    struct fl_buf path;
    int r;

    fl_buf_init(&path, 0);
    fl_buf_puts(&path, "");
    r = check_value(arena, type, value, &path, err);
    fl_buf_finish(&path);
    return r;
}
