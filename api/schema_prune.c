/* Pruning, defaulting and number forms: the walks that change an object. Each goes only where the
 * schema goes, so its depth is bounded by the schema's. */
#include "api/schema_internal.h"
#include "lib/str.h"

#include <math.h>
#include <string.h>

struct pruner {
    const struct fl_schema_node *metadata;
    fl_schema_path_fn *unknown; /* may be NULL */
    void *user;
    struct fl_arena *arena; /* for paths; made with the first one */
};

/* One place of the walk. `is_resource`: it has apiVersion, kind and metadata whatever the node
 * says; `keeps`: fields that the node does not know stay. */
struct spot {
    const struct fl_schema_node *node; /* NULL: nothing is known here, every field goes */
    bool is_resource, keeps;
    unsigned depth;
};

static void prune(struct pruner *p, struct spot spot, json_t *value,
                  const struct fl_schema_path *path);

static void report(struct pruner *p, const struct fl_schema_path *path)
{
    if (!p->unknown)
        return;
    if (!p->arena)
        p->arena = fl_arena_create();
    p->unknown(p->user, fl_schema_path_text(p->arena, path));
}

static struct spot spot_of(const struct fl_schema_node *node, unsigned depth)
{
    return (struct spot){node, node && node->embedded, node && node->preserve_unknown, depth};
}

/* Keeps a member and prunes inside it, or says that the schema does not know it. */
static bool prune_member(struct pruner *p, struct spot spot, const char *key, size_t len,
                         json_t *member, const struct fl_schema_path *path)
{
    const struct fl_schema_node *node = spot.node;
    const struct fl_schema_property *property;

    if (spot.is_resource && (fl_streq(key, "apiVersion") || fl_streq(key, "kind")))
        return true;
    if (spot.is_resource && fl_streq(key, "metadata")) {
        prune(p, spot_of(p->metadata, spot.depth + 1), member, path);
        return true;
    }
    property = node ? fl_schema_find_property(node, key, len) : NULL;
    if (property) {
        prune(p, spot_of(property->node, spot.depth + 1), member, path);
        return true;
    }
    if (!node || node->additional == FL_ADDITIONAL_UNSET)
        return spot.keeps;
    prune(p, spot_of(node->additional_node, spot.depth + 1), member, path);
    return true;
}

static void prune_object(struct pruner *p, struct spot spot, json_t *object,
                         const struct fl_schema_path *path)
{
    void *iter = json_object_iter(object);

    while (iter) {
        const char *key = json_object_iter_key(iter);
        size_t len = json_object_iter_key_len(iter);
        json_t *member = json_object_iter_value(iter);
        struct fl_schema_path at = {path, FL_PATH_FIELD, key, 0};

        iter = json_object_iter_next(object, iter);
        if (prune_member(p, spot, key, len, member, &at))
            continue;
        report(p, &at);
        (void)json_object_deln(object, key, len);
    }
}

/* A list that keeps unknown fields keeps them in its elements too. */
static void prune(struct pruner *p, struct spot spot, json_t *value,
                  const struct fl_schema_path *path)
{
    const struct fl_schema_node *items = spot.node ? spot.node->items : NULL;
    json_t *item;
    size_t i;

    if (spot.depth > FL_JSON_MAX_DEPTH)
        return;
    if (json_is_object(value)) {
        prune_object(p, spot, value, path);
    } else if (json_is_array(value) && (items || !spot.keeps)) {
        json_array_foreach(value, i, item) {
            struct spot below = spot_of(items, spot.depth + 1);

            below.keeps |= spot.keeps;
            prune(p, below, item, FL_PATH_AT(path, i));
        }
    }
}

void fl_schema_prune_part(const struct fl_schema_node *node, json_t *value, bool is_root,
                          const struct fl_schema_node *metadata, fl_schema_path_fn *unknown,
                          void *user)
{
    struct pruner pruner = {metadata, unknown, user, NULL};
    struct fl_schema_path root = {NULL, FL_PATH_ROOT, "", 0};

    prune(&pruner, (struct spot){node, is_root || node->embedded, node->preserve_unknown, 0}, value,
          &root);
    fl_arena_destroy(pruner.arena);
}

void fl_schema_prune(const struct fl_schema *schema, json_t *object, fl_schema_path_fn *unknown,
                     void *user)
{
    fl_schema_prune_part(schema->root, object, true, schema->object_meta, unknown, user);
}

/* Defaults. */

static const struct fl_schema_node *member_node(const struct fl_schema_node *node, const char *key,
                                                size_t len)
{
    const struct fl_schema_property *property = fl_schema_find_property(node, key, len);

    return property ? property->node : node->additional_node;
}

/* A null that may not be one and has no default is as if it were not there. */
static void drop_null(json_t *object, const struct fl_schema_node *child, const char *key,
                      size_t len)
{
    if (child->fallback)
        (void)json_object_setn_new_nocheck(object, key, len, json_deep_copy(child->fallback));
    else
        (void)json_object_deln(object, key, len);
}

static void fill(const struct fl_schema_node *node, json_t *value)
{
    void *iter;
    json_t *item;
    size_t i;

    if (json_is_array(value)) {
        if (!node->items)
            return;
        json_array_foreach(value, i, item) {
            if (json_is_null(item) && !node->items->nullable && node->items->fallback) {
                item = json_deep_copy(node->items->fallback);
                (void)json_array_set_new(value, i, item);
            }
            fill(node->items, item);
        }
        return;
    }
    if (!json_is_object(value))
        return;
    for (i = 0; i < node->defaulted_count; i++) {
        const struct fl_schema_property *property = node->defaulted[i];

        if (!json_object_getn(value, property->key, property->key_len))
            (void)json_object_setn_new_nocheck(value, property->key, property->key_len,
                                               json_deep_copy(property->node->fallback));
    }
    for (iter = json_object_iter(value); iter;) {
        const char *key = json_object_iter_key(iter);
        size_t len = json_object_iter_key_len(iter);
        const struct fl_schema_node *child = member_node(node, key, len);

        item = json_object_iter_value(iter);
        iter = json_object_iter_next(value, iter);
        if (!child)
            continue;
        if (json_is_null(item) && !child->nullable) {
            drop_null(value, child, key, len);
            item = child->fallback ? json_object_getn(value, key, len) : NULL;
        }
        if (item)
            fill(child, item);
    }
}

void fl_schema_default(const struct fl_schema *schema, json_t *object)
{
    fill(schema->root, object);
}

/* Numbers. */

static bool takes_integers(const struct fl_schema_node *node)
{
    return !node || node->type == FL_SCHEMA_ANY || node->type == FL_SCHEMA_INTEGER ||
           node->type == FL_SCHEMA_INT_OR_STRING;
}

static json_t *as_integer(const struct fl_schema_node *node, const json_t *value)
{
    double real;

    if (!json_is_real(value) || !takes_integers(node))
        return NULL;
    real = json_real_value(value);
    if (real != floor(real) || fabs(real) > 9007199254740991.0)
        return NULL;
    return json_integer((json_int_t)real);
}

static void normalize(const struct fl_schema_node *node, json_t *value, unsigned depth)
{
    json_t *item, *integer;
    const char *key;
    size_t i, len;

    if (depth > FL_JSON_MAX_DEPTH)
        return;
    if (json_is_array(value)) {
        const struct fl_schema_node *items = node ? node->items : NULL;

        json_array_foreach(value, i, item) {
            integer = as_integer(items, item);
            if (integer)
                (void)json_array_set_new(value, i, integer);
            else
                normalize(items, item, depth + 1);
        }
    } else if (json_is_object(value)) {
        json_object_keylen_foreach(value, key, len, item) {
            const struct fl_schema_node *child = node ? member_node(node, key, len) : NULL;

            integer = as_integer(child, item);
            if (integer)
                (void)json_object_setn_new_nocheck(value, key, len, integer);
            else
                normalize(child, item, depth + 1);
        }
    }
}

void fl_schema_normalize(const struct fl_schema *schema, json_t *object)
{
    normalize(schema->root, object, 0);
}
