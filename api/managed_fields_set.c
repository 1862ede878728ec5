/* Sets of field paths, as trees whose levels are sorted arrays. */
#include "api/managed_fields_internal.h"

#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INSERTION_SORT_MAX 24
/* From this ratio of sizes on, looking up each of the smaller set beats walking through both. */
#define SKEW 8

/* Values */

static int compare_numbers(const json_t *a, const json_t *b)
{
    double x, y;

    if (json_is_integer(a) && json_is_integer(b))
        return json_integer_value(a) < json_integer_value(b)
                   ? -1
                   : json_integer_value(a) > json_integer_value(b);
    x = json_number_value(a);
    y = json_number_value(b);
    return x < y ? -1 : x > y;
}

/* Numbers, strings, booleans, lists, objects, null: the order in which kinds sort. */
static int rank(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_INTEGER:
    case JSON_REAL:
        return 0;
    case JSON_STRING:
        return 1;
    case JSON_FALSE:
    case JSON_TRUE:
        return 2;
    case JSON_ARRAY:
        return 3;
    case JSON_OBJECT:
        return 4;
    default:
        return 5;
    }
}

static int compare_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

    if (c != 0)
        return c;
    return a_len < b_len ? -1 : a_len > b_len;
}

static int compare_values(const json_t *a, const json_t *b);

static int compare_arrays(const json_t *a, const json_t *b)
{
    size_t count =
        json_array_size(a) < json_array_size(b) ? json_array_size(a) : json_array_size(b);

    for (size_t i = 0; i < count; i++) {
        int c = compare_values(json_array_get(a, i), json_array_get(b, i));

        if (c != 0)
            return c;
    }
    return json_array_size(a) < json_array_size(b) ? -1 : json_array_size(a) > json_array_size(b);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char **sorted_names(const json_t *object)
{
    const char **names = fl_calloc(json_object_size(object) + 1, sizeof(*names)), *name;
    json_t *member;
    size_t count = 0;

    json_object_foreach((json_t *)object, name, member)
        names[count++] = name;
    qsort(names, count, sizeof(*names), compare_names);
    return names;
}

static int compare_objects(const json_t *a, const json_t *b)
{
    FL_CLEANUP(fl_freep) const char **left = sorted_names(a);
    FL_CLEANUP(fl_freep) const char **right = sorted_names(b);

    for (size_t i = 0; left[i] && right[i]; i++) {
        int c = strcmp(left[i], right[i]);

        if (c == 0)
            c = compare_values(json_object_get(a, left[i]), json_object_get(b, right[i]));
        if (c != 0)
            return c;
    }
    return json_object_size(a) < json_object_size(b) ? -1
                                                     : json_object_size(a) > json_object_size(b);
}

static int compare_values(const json_t *a, const json_t *b)
{
    int kind = rank(a);

    if (kind != rank(b))
        return kind < rank(b) ? -1 : 1;
    switch (kind) {
    case 0:
        return compare_numbers(a, b);
    case 1:
        return compare_text(json_string_value(a), json_string_length(a), json_string_value(b),
                            json_string_length(b));
    case 2:
        return json_is_true(a) - json_is_true(b);
    case 3:
        return compare_arrays(a, b);
    case 4:
        return compare_objects(a, b);
    default:
        return 0;
    }
}

bool fl_value_equal(const json_t *a, const json_t *b)
{
    const char *name;
    json_t *member;

    if (a == b)
        return true;
    if (!json_is_object(a) || !json_is_object(b)) {
        size_t i;

        if (!json_is_array(a) || !json_is_array(b))
            return compare_values(a, b) == 0;
        if (json_array_size(a) != json_array_size(b))
            return false;
        json_array_foreach(a, i, member) {
            if (!fl_value_equal(member, json_array_get(b, i)))
                return false;
        }
        return true;
    }
    if (json_object_size(a) != json_object_size(b))
        return false;
    json_object_foreach((json_t *)a, name, member) {
        const json_t *other = json_object_get(b, name);

        if (!other || !fl_value_equal(member, other))
            return false;
    }
    return true;
}

/* Elements */

struct fl_element fl_element_field(const char *name)
{
    return (struct fl_element){.kind = FL_ELEMENT_FIELD, .name = name};
}

static int compare_keys(const struct fl_element *a, const struct fl_element *b)
{
    for (size_t i = 0; i < a->key_count && i < b->key_count; i++) {
        int c = strcmp(a->keys[i].name, b->keys[i].name);

        if (c == 0)
            c = compare_values(a->keys[i].value, b->keys[i].value);
        if (c != 0)
            return c;
    }
    return a->key_count < b->key_count ? -1 : a->key_count > b->key_count;
}

int fl_element_compare(const struct fl_element *a, const struct fl_element *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    switch (a->kind) {
    case FL_ELEMENT_FIELD:
        return a->name == b->name ? 0 : strcmp(a->name, b->name);
    case FL_ELEMENT_KEY:
        return compare_keys(a, b);
    case FL_ELEMENT_VALUE:
        return compare_values(a->value, b->value);
    default:
        return a->index < b->index ? -1 : a->index > b->index;
    }
}

void fl_element_print(struct fl_buf *buf, const struct fl_element *element)
{
    switch (element->kind) {
    case FL_ELEMENT_FIELD:
        fl_buf_putc(buf, '.');
        fl_buf_puts(buf, element->name);
        break;
    case FL_ELEMENT_KEY:
        for (size_t i = 0; i < element->key_count; i++) {
            fl_buf_putc(buf, i ? ',' : '[');
            fl_buf_puts(buf, element->keys[i].name);
            fl_buf_putc(buf, '=');
            fl_json_write(buf, element->keys[i].value);
        }
        fl_buf_putc(buf, ']');
        break;
    case FL_ELEMENT_VALUE:
        fl_buf_puts(buf, "[=");
        fl_json_write(buf, element->value);
        fl_buf_putc(buf, ']');
        break;
    default:
        fl_buf_printf(buf, "[%lld]", (long long)element->index);
    }
}

/* Building */

void fl_fields_add(struct fl_fields_builder *builder, const struct fl_field_node *node)
{
    if (builder->count == builder->capacity) {
        size_t capacity = builder->capacity ? builder->capacity * 2 : 8;
        struct fl_field_node *nodes = fl_new_array(builder->arena, struct fl_field_node, capacity);

        if (builder->count)
            memcpy(nodes, builder->nodes, builder->count * sizeof(*nodes));
        builder->nodes = nodes;
        builder->capacity = capacity;
    }
    if (builder->count &&
        fl_element_compare(&builder->nodes[builder->count - 1].element, &node->element) >= 0)
        builder->is_unsorted = true;
    builder->nodes[builder->count++] = *node;
}

static int compare_nodes(const void *a, const void *b)
{
    return fl_element_compare(&((const struct fl_field_node *)a)->element,
                              &((const struct fl_field_node *)b)->element);
}

static void sort_nodes(struct fl_field_node *nodes, size_t count)
{
    if (count > INSERTION_SORT_MAX) {
        qsort(nodes, count, sizeof(*nodes), compare_nodes);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        struct fl_field_node node = nodes[i];
        size_t at = i;

        for (; at > 0 && compare_nodes(&nodes[at - 1], &node) > 0; at--)
            nodes[at] = nodes[at - 1];
        nodes[at] = node;
    }
}

struct fl_fields fl_fields_build(struct fl_fields_builder *builder)
{
    size_t kept = 0;

    if (builder->is_unsorted) {
        sort_nodes(builder->nodes, builder->count);
        for (size_t i = 0; i < builder->count; i++) {
            struct fl_field_node *last = kept ? &builder->nodes[kept - 1] : NULL;
            const struct fl_field_node *node = &builder->nodes[i];

            if (!last || fl_element_compare(&last->element, &node->element) != 0) {
                builder->nodes[kept++] = *node;
                continue;
            }
            last->marks |= node->marks;
            if (last->children.count == 0)
                last->children = node->children;
        }
        builder->count = kept;
        builder->is_unsorted = false;
    }
    return (struct fl_fields){builder->nodes, builder->count};
}

/* Sets */

bool fl_fields_is_empty(const struct fl_fields *set)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->nodes[i].marks || !fl_fields_is_empty(&set->nodes[i].children))
            return false;
    }
    return true;
}

bool fl_fields_same(const struct fl_fields *a, const struct fl_fields *b)
{
    if (a->nodes == b->nodes && a->count == b->count)
        return true;
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (a->nodes[i].marks != b->nodes[i].marks ||
            fl_element_compare(&a->nodes[i].element, &b->nodes[i].element) != 0 ||
            !fl_fields_same(&a->nodes[i].children, &b->nodes[i].children))
            return false;
    }
    return true;
}

const struct fl_field_node *fl_fields_find(const struct fl_fields *set,
                                           const struct fl_element *element)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = fl_element_compare(&set->nodes[middle].element, element);

        if (c == 0)
            return &set->nodes[middle];
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Which of two sorted levels has the next element: < 0 the first, > 0 the second, 0 both. */
static int next_side(const struct fl_fields *a, size_t i, const struct fl_fields *b, size_t j)
{
    if (i == a->count)
        return 1;
    if (j == b->count)
        return -1;
    return fl_element_compare(&a->nodes[i].element, &b->nodes[j].element);
}

struct fl_fields fl_fields_union(struct fl_arena *arena, const struct fl_fields *a,
                                 const struct fl_fields *b)
{
    struct fl_fields result = {0};
    size_t i = 0, j = 0;

    if (a->count == 0)
        return *b;
    if (b->count == 0)
        return *a;
    result.nodes = fl_new_array(arena, struct fl_field_node, a->count + b->count);
    while (i < a->count || j < b->count) {
        int side = next_side(a, i, b, j);
        struct fl_field_node *node = &result.nodes[result.count++];

        *node = side <= 0 ? a->nodes[i] : b->nodes[j];
        if (side == 0) {
            node->marks |= b->nodes[j].marks;
            node->children = fl_fields_union(arena, &a->nodes[i].children, &b->nodes[j].children);
        }
        i += side <= 0;
        j += side >= 0;
    }
    return result;
}

struct fl_fields fl_fields_union_all(struct fl_arena *arena, const struct fl_fields *sets,
                                     size_t count)
{
    struct fl_fields left, right;

    if (count <= 1)
        return count ? sets[0] : (struct fl_fields){0};
    left = fl_fields_union_all(arena, sets, count / 2);
    right = fl_fields_union_all(arena, sets + count / 2, count - count / 2);
    return fl_fields_union(arena, &left, &right);
}

struct fl_fields fl_fields_difference(struct fl_arena *arena, const struct fl_fields *a,
                                      const struct fl_fields *b)
{
    struct fl_fields result = {0};

    if (a->count == 0 || b->count == 0)
        return *a;
    result.nodes = fl_new_array(arena, struct fl_field_node, a->count);
    for (size_t i = 0, j = 0; i < a->count;) {
        int side = next_side(a, i, b, j);
        struct fl_field_node node;

        if (side > 0) {
            j++;
            continue;
        }
        node = a->nodes[i++];
        if (side == 0) {
            if (b->nodes[j].marks)
                node.marks = 0;
            node.children = fl_fields_difference(arena, &node.children, &b->nodes[j].children);
            j++;
        }
        if (node.marks || node.children.count)
            result.nodes[result.count++] = node;
    }
    return result;
}

struct fl_fields fl_fields_intersection(struct fl_arena *arena, const struct fl_fields *a,
                                        const struct fl_fields *b)
{
    struct fl_fields result = {0};

    if (a->count == 0 || b->count == 0)
        return result;
    result.nodes =
        fl_new_array(arena, struct fl_field_node, a->count < b->count ? a->count : b->count);
    for (size_t i = 0, j = 0; i < a->count && j < b->count;) {
        int side = next_side(a, i, b, j);
        struct fl_field_node node;

        if (side == 0) {
            node = a->nodes[i];
            if (!b->nodes[j].marks)
                node.marks = 0;
            node.children = fl_fields_intersection(arena, &node.children, &b->nodes[j].children);
            if (node.marks || node.children.count)
                result.nodes[result.count++] = node;
        }
        i += side <= 0;
        j += side >= 0;
    }
    return result;
}

static bool nodes_intersect(const struct fl_field_node *a, const struct fl_field_node *b)
{
    return (a->marks && b->marks) || fl_fields_intersect(&a->children, &b->children);
}

bool fl_fields_intersect(const struct fl_fields *a, const struct fl_fields *b)
{
    if (a->count > b->count) {
        const struct fl_fields *larger = a;

        a = b;
        b = larger;
    }
    if (b->count / SKEW > a->count) {
        for (size_t i = 0; i < a->count; i++) {
            const struct fl_field_node *other = fl_fields_find(b, &a->nodes[i].element);

            if (other && nodes_intersect(&a->nodes[i], other))
                return true;
        }
        return false;
    }
    for (size_t i = 0, j = 0; i < a->count && j < b->count;) {
        int side = next_side(a, i, b, j);

        if (side == 0 && nodes_intersect(&a->nodes[i], &b->nodes[j]))
            return true;
        i += side <= 0;
        j += side >= 0;
    }
    return false;
}

struct fl_fields fl_fields_select(struct fl_arena *arena, const struct fl_fields *set,
                                  unsigned marks)
{
    struct fl_fields result = {0};

    if (set->count == 0)
        return result;
    result.nodes = fl_new_array(arena, struct fl_field_node, set->count);
    for (size_t i = 0; i < set->count; i++) {
        struct fl_field_node node = set->nodes[i];

        node.marks = node.marks & marks ? FL_MARK_MEMBER : 0;
        node.children = fl_fields_select(arena, &node.children, marks);
        if (node.marks || node.children.count)
            result.nodes[result.count++] = node;
    }
    return result;
}

static bool is_one_of(const struct fl_element *element, const char *const *names, size_t count)
{
    for (size_t i = 0; element->kind == FL_ELEMENT_FIELD && i < count; i++) {
        if (strcmp(element->name, names[i]) == 0)
            return true;
    }
    return false;
}

struct fl_fields fl_fields_without(struct fl_arena *arena, const struct fl_fields *set,
                                   const char *const *names, size_t count)
{
    struct fl_fields result = {0};

    if (set->count == 0 || count == 0)
        return *set;
    result.nodes = fl_new_array(arena, struct fl_field_node, set->count);
    for (size_t i = 0; i < set->count; i++) {
        if (!is_one_of(&set->nodes[i].element, names, count))
            result.nodes[result.count++] = set->nodes[i];
    }
    return result;
}

static void each_below(const struct fl_fields *set, struct fl_buf *path, fl_fields_path_fn *fn,
                       void *user)
{
    size_t before = path->len;

    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < set->count; i++) {
            const struct fl_field_node *node = &set->nodes[i];

            if (pass == 0 ? !node->marks : node->children.count == 0)
                continue;
            fl_element_print(path, &node->element);
            if (pass == 0)
                fn(user, fl_buf_text(path));
            else
                each_below(&node->children, path, fn, user);
            path->len = before;
            path->data[before] = '\0';
        }
    }
}

void fl_fields_each(const struct fl_fields *set, fl_fields_path_fn *fn, void *user)
{
    struct fl_buf path;

    fl_buf_init(&path, 0);
    each_below(set, &path, fn, user);
    fl_buf_finish(&path);
}

/* Reading */

static int read_value(struct fl_arena *arena, const char *text, const json_t **ret_value,
                      struct fl_error *err)
{
    json_t *value;
    int r = fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, err);

    if (r < 0)
        return fl_error_wrap(err, "path element");
    *ret_value = fl_json_in_arena(arena, value);
    return 0;
}

static int compare_key_names(const void *a, const void *b)
{
    return strcmp(((const struct fl_element_key *)a)->name,
                  ((const struct fl_element_key *)b)->name);
}

static int read_keys(struct fl_arena *arena, const char *text, struct fl_element *ret_element,
                     struct fl_error *err)
{
    const json_t *object;
    struct fl_element_key *keys;
    size_t count = 0;
    const char *name;
    json_t *value;
    int r;

    r = read_value(arena, text, &object, err);
    if (r < 0)
        return r;
    if (!json_is_object(object))
        return fl_error_set(err, FL_E_INVALID, "path element \"k:%s\" has no keys", text);
    keys = fl_new_array(arena, struct fl_element_key, json_object_size(object));
    json_object_foreach((json_t *)object, name, value)
        keys[count++] = (struct fl_element_key){name, value};
    qsort(keys, count, sizeof(*keys), compare_key_names);
    *ret_element =
        (struct fl_element){.kind = FL_ELEMENT_KEY, .key_count = (uint32_t)count, .keys = keys};
    return 0;
}

/* > 0: a kind of element that a later version may know; it is dropped. */
static int read_element(struct fl_arena *arena, const char *text, struct fl_element *ret_element,
                        struct fl_error *err)
{
    *ret_element = (struct fl_element){0};
    if (text[0] == '\0' || text[1] != ':')
        return fl_error_set(err, FL_E_INVALID, "\"%.64s\" is no path element", text);
    switch (text[0]) {
    case 'f':
        *ret_element = fl_element_field(text + 2);
        return 0;
    case 'v':
        ret_element->kind = FL_ELEMENT_VALUE;
        return read_value(arena, text + 2, &ret_element->value, err);
    case 'k':
        return read_keys(arena, text + 2, ret_element, err);
    case 'i':
        ret_element->kind = FL_ELEMENT_INDEX;
        if (!fl_str_to_int64(text + 2, INT32_MIN, INT32_MAX, &ret_element->index))
            return fl_error_set(err, FL_E_INVALID, "\"%.64s\" is no index", text);
        return 0;
    default:
        return 1;
    }
}

/* `*ret_is_member`: the level says "." of itself, or has nothing below it. */
static int read_level(struct fl_arena *arena, const json_t *fields, unsigned depth,
                      struct fl_fields *ret_set, bool *ret_is_member, struct fl_error *err)
{
    struct fl_fields_builder builder = {.arena = arena};
    bool is_member = false;
    const char *text;
    json_t *below;
    int r;

    if (!json_is_object(fields))
        return fl_error_set(err, FL_E_INVALID, "fields must be objects");
    if (depth > FL_JSON_MAX_DEPTH)
        return fl_error_set(err, FL_E_INVALID, "fields nest too deep");
    json_object_foreach((json_t *)fields, text, below) {
        struct fl_field_node node = {0};
        bool is_child_member;

        if (strcmp(text, ".") == 0) {
            is_member = true;
            continue;
        }
        r = read_element(arena, text, &node.element, err);
        if (r < 0)
            return r;
        if (r > 0)
            continue;
        r = read_level(arena, below, depth + 1, &node.children, &is_child_member, err);
        if (r < 0)
            return r;
        node.marks = is_child_member ? FL_MARK_MEMBER : 0;
        fl_fields_add(&builder, &node);
    }
    *ret_set = fl_fields_build(&builder);
    *ret_is_member = is_member || ret_set->count == 0;
    return 0;
}

int fl_fields_from_json(struct fl_arena *arena, const json_t *fields, struct fl_fields *ret_set,
                        struct fl_error *err)
{
    bool is_member;

    *ret_set = (struct fl_fields){0};
    return fields ? read_level(arena, fields, 0, ret_set, &is_member, err) : 0;
}

/* Writing */

void fl_value_write(struct fl_buf *buf, const json_t *value)
{
    size_t start = buf->len;
    FL_CLEANUP(fl_freep) char *plain = NULL;

    fl_json_write(buf, value);
    if (!strpbrk(buf->data + start, "<>&\xe2"))
        return;
    plain = fl_strdup(buf->data + start);
    buf->len = start;
    for (const char *at = plain; *at; at++) {
        if (strchr("<>&", *at)) {
            fl_buf_printf(buf, "\\u%04x", (unsigned)*at);
        } else if (strncmp(at, "\xe2\x80\xa8", 3) == 0 || strncmp(at, "\xe2\x80\xa9", 3) == 0) {
            fl_buf_puts(buf, at[2] == '\xa8' ? "\\u2028" : "\\u2029");
            at += 2;
        } else {
            fl_buf_putc(buf, *at);
        }
    }
}

static void write_element(struct fl_buf *buf, const struct fl_element *element)
{
    fl_buf_clear(buf);
    switch (element->kind) {
    case FL_ELEMENT_FIELD:
        fl_buf_append(buf, "f:", 2);
        fl_buf_puts(buf, element->name);
        break;
    case FL_ELEMENT_KEY:
        fl_buf_puts(buf, "k:{");
        for (size_t i = 0; i < element->key_count; i++) {
            if (i)
                fl_buf_putc(buf, ',');
            fl_buf_json_string(buf, element->keys[i].name, strlen(element->keys[i].name));
            fl_buf_putc(buf, ':');
            fl_value_write(buf, element->keys[i].value);
        }
        fl_buf_putc(buf, '}');
        break;
    case FL_ELEMENT_VALUE:
        fl_buf_append(buf, "v:", 2);
        fl_value_write(buf, element->value);
        break;
    default:
        fl_buf_printf(buf, "i:%lld", (long long)element->index);
    }
}

/* Most paths have nothing below them: they share one empty object. */
struct fields_writer {
    struct fl_buf text;
    json_t *leaf;
};

static json_t *write_level(struct fields_writer *writer, const struct fl_fields *set,
                           bool is_member)
{
    json_t *level = json_object();

    if (is_member)
        (void)json_object_setn_nocheck(level, ".", 1, writer->leaf);
    for (size_t i = 0; i < set->count; i++) {
        const struct fl_field_node *node = &set->nodes[i];
        json_t *below = node->children.count
                            ? write_level(writer, &node->children, node->marks != 0)
                            : json_incref(writer->leaf);

        write_element(&writer->text, &node->element);
        (void)json_object_setn_new_nocheck(level, writer->text.data, writer->text.len, below);
    }
    return level;
}

json_t *fl_fields_to_json(const struct fl_fields *set)
{
    struct fields_writer writer = {.leaf = json_object()};
    json_t *fields;

    fields = write_level(&writer, set, false);
    fl_buf_finish(&writer.text);
    json_decref(writer.leaf);
    return fields;
}
