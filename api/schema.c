/* The door: life of a schema, its nodes for others, and the order in which a value is checked. */
#include "api/schema.h"

#include "api/schema_internal.h"
#include "lib/str.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *fl_schema_path_text(struct fl_arena *arena, const struct fl_schema_path *path)
{
    const struct fl_schema_path *frames[FL_JSON_MAX_DEPTH * 3];
    size_t count = 0;
    struct fl_buf buf;
    char *text;

    for (; path && count < FL_COUNT_OF(frames); path = path->parent)
        frames[count++] = path;
    fl_buf_init(&buf, 0);
    while (count-- > 0) {
        const struct fl_schema_path *frame = frames[count];

        if (frame->kind == FL_PATH_INDEX)
            fl_buf_printf(&buf, "[%zu]", frame->index);
        else if (frame->kind == FL_PATH_KEY)
            fl_buf_printf(&buf, "[%s]", frame->text);
        else
            fl_buf_printf(&buf, "%s%s", buf.len > 0 ? "." : "", frame->text);
    }
    text = fl_arena_strndup(arena, fl_buf_text(&buf), buf.len);
    fl_buf_finish(&buf);
    return text;
}

void fl_schema_add(struct fl_field_errors *errors, enum fl_field_error_type type,
                   const struct fl_schema_path *path, const json_t *value, const char *fmt, ...)
{
    char *detail = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&detail, fmt, ap) < 0)
        abort();
    va_end(ap);
    fl_field_error_add(errors, type, fl_schema_path_text(errors->arena, path), value, "%s", detail);
    free(detail);
}

int fl_schema_compile(const json_t *openapi, const char *path, struct fl_schema **ret_schema,
                      struct fl_field_errors *errors, struct fl_error *err)
{
    struct fl_schema_path root = {NULL, FL_PATH_ROOT, path, 0};
    size_t before = errors->count + errors->dropped;
    FL_CLEANUP(fl_schema_unrefp) struct fl_schema *schema = NULL;

    assert(openapi && path && ret_schema);

    if (fl_schema_check_structural(openapi, &root, errors)) {
        schema = fl_calloc(1, sizeof(*schema));
        schema->refs = 1;
        schema->arena = fl_arena_create();
        schema->root = fl_schema_build(schema, openapi, &root, errors);
        if (errors->count + errors->dropped == before)
            fl_schema_check_defaults(schema, &root, errors);
    }
    if (errors->count + errors->dropped > before) {
        const struct fl_field_error *first =
            before < FL_FIELD_ERRORS_MAX ? &errors->items[before] : NULL;

        return fl_error_set(err, FL_E_INVALID, "%s: %s", first ? first->path : path,
                            first ? first->message : "invalid schema");
    }
    *ret_schema = FL_TAKE(schema);
    return 0;
}

struct fl_schema *fl_schema_ref(struct fl_schema *schema)
{
    __atomic_add_fetch(&schema->refs, 1, __ATOMIC_RELAXED);
    return schema;
}

void fl_schema_unref(struct fl_schema *schema)
{
    if (!schema || __atomic_sub_fetch(&schema->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    fl_arena_destroy(schema->arena);
    free(schema);
}

/* Both ends of a key and its length tell the fields of one object apart well enough. */
static uint32_t hash_key(const char *key, size_t len)
{
    uint64_t head = 0, tail = 0, hash;

    if (len >= 8) {
        memcpy(&head, key, 8);
        memcpy(&tail, key + len - 8, 8);
    } else if (len >= 4) {
        memcpy(&head, key, 4);
        memcpy(&tail, key + len - 4, 4);
    } else if (len > 0) {
        head = (uint64_t)(unsigned char)key[0] << 16 | (uint64_t)(unsigned char)key[len / 2] << 8 |
               (unsigned char)key[len - 1];
    }
    hash = (head ^ tail << 21 ^ tail >> 43 ^ len) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

const struct fl_schema_property *fl_schema_find_property(const struct fl_schema_node *node,
                                                         const char *key, size_t len)
{
    if (node->property_count == 0)
        return NULL;
    for (uint32_t at = hash_key(key, len) & node->hash_mask; node->hash[at];
         at = (at + 1) & node->hash_mask) {
        const struct fl_schema_property *property = &node->properties[node->hash[at] - 1];

        if (property->key_len == len && memcmp(property->key, key, len) == 0)
            return property;
    }
    return NULL;
}

void fl_schema_index_properties(struct fl_arena *arena, struct fl_schema_node *node)
{
    uint32_t size = 4;

    while (size < node->property_count * 2)
        size *= 2;
    node->hash_mask = size - 1;
    node->hash = fl_new_array(arena, uint16_t, size);
    for (uint32_t i = 0; i < node->property_count; i++) {
        const struct fl_schema_property *property = &node->properties[i];
        uint32_t at = hash_key(property->key, property->key_len) & node->hash_mask;

        while (node->hash[at])
            at = (at + 1) & node->hash_mask;
        node->hash[at] = (uint16_t)(i + 1);
    }
}

void fl_schema_validate(const struct fl_schema *schema, const json_t *object, const json_t *old,
                        struct fl_field_errors *errors)
{
    struct fl_schema_path root = {NULL, FL_PATH_ROOT, "", 0};
    const struct fl_schema_node *node = schema->root;

    fl_schema_check_value(schema, node, object, old, &root, errors);
    if (node->below_embedded)
        fl_schema_check_embedded(node, object, &root, errors);
    if (node->below_lists) {
        struct fl_field_errors *ignored = NULL;

        /* A list that had doubled elements before may keep them. */
        if (old) {
            ignored = fl_new(errors->arena, struct fl_field_errors);
            fl_field_errors_init(ignored, errors->arena);
            fl_schema_check_lists(node, old, &root, ignored);
        }
        if (!ignored || ignored->count == 0)
            fl_schema_check_lists(node, object, &root, errors);
    }
    if (node->below_rules)
        fl_schema_check_rules(node, object, old, errors);
}

/* Nodes. */

const struct fl_schema_node *fl_schema_root(const struct fl_schema *schema)
{
    return schema ? schema->root : NULL;
}

enum fl_schema_type fl_schema_node_type(const struct fl_schema_node *node)
{
    return node ? node->type : FL_SCHEMA_ANY;
}

const struct fl_schema_node *fl_schema_node_member(const struct fl_schema_node *node,
                                                   const char *key)
{
    const struct fl_schema_property *property;

    if (!node)
        return NULL;
    property = fl_schema_find_property(node, key, strlen(key));
    return property ? property->node : node->additional_node;
}

bool fl_schema_node_is_struct(const struct fl_schema_node *node)
{
    return node && node->type == FL_SCHEMA_OBJECT && !node->additional_node && !node->embedded;
}

const struct fl_schema_node *fl_schema_node_items(const struct fl_schema_node *node)
{
    return node ? node->items : NULL;
}

enum fl_list_type fl_schema_node_list_type(const struct fl_schema_node *node)
{
    return node ? node->list_type : FL_LIST_ATOMIC;
}

size_t fl_schema_node_list_keys(const struct fl_schema_node *node, const char *const **ret_keys)
{
    *ret_keys = node ? node->list_keys : NULL;
    return node ? node->list_key_count : 0;
}

bool fl_schema_node_is_atomic(const struct fl_schema_node *node)
{
    return node && node->map_atomic;
}

bool fl_schema_node_preserves_unknown(const struct fl_schema_node *node)
{
    return node && node->preserve_unknown;
}

const json_t *fl_schema_node_default(const struct fl_schema_node *node)
{
    return node ? node->fallback : NULL;
}

const char *fl_schema_node_format(const struct fl_schema_node *node)
{
    return node ? node->format_name : NULL;
}
