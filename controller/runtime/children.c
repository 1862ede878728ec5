/* Children, and reading. */
#include "controller/runtime/internal.h"

#include "api/meta.h"

#include <assert.h>
#include <sodium.h>

#define CHILD_NAME_MAX 63
#define HASH_BYTES     5
#define ROLE_MAX       40
#define ROLE_LABEL     "flops.dev/role"

/* Names. */

/* Lower-case letters, digits and dashes, within `max`; it does not end in a dash. */
static size_t put_label(char *out, const char *text, size_t max)
{
    size_t len = 0;

    for (; *text && len < max; text++) {
        char c = *text;

        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        out[len++] = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '-';
    }
    while (len > 0 && out[len - 1] == '-')
        len--;
    return len;
}

static void hash_child(const char *uid, const char *role, char out[2 * HASH_BYTES + 1])
{
    unsigned char hash[crypto_generichash_BYTES_MIN];
    crypto_generichash_state state;

    (void)crypto_generichash_init(&state, NULL, 0, sizeof(hash));
    (void)crypto_generichash_update(&state, (const unsigned char *)uid, strlen(uid) + 1);
    (void)crypto_generichash_update(&state, (const unsigned char *)role, strlen(role));
    (void)crypto_generichash_final(&state, hash, sizeof(hash));
    fl_hex_encode(hash, HASH_BYTES, out);
}

char *fl_child_name(struct fl_arena *arena, const char *owner_name, const char *owner_uid,
                    const char *role)
{
    char name[CHILD_NAME_MAX + 1], role_part[ROLE_MAX + 1], hash[2 * HASH_BYTES + 1];
    size_t role_len = put_label(role_part, role, ROLE_MAX);
    size_t rest = CHILD_NAME_MAX - 1 - role_len - 1 - 2 * HASH_BYTES;
    size_t len = put_label(name, owner_name, rest);

    assert(role_len > 0);

    hash_child(owner_uid, role, hash);
    return fl_arena_printf(arena, "%.*s-%.*s-%s", (int)len, name, (int)role_len, role_part, hash);
}

/* Reading. */

static struct fl_cache *cache_of(struct fl_reconcile *rc, const struct fl_kind_type *type)
{
    struct fl_gvr gvr = fl_gvr_of(type);

    return fl_manager_cache(rc->manager, &gvr);
}

static int decode_cached(struct fl_reconcile *rc, const struct fl_kind_type *type,
                         const struct fl_object *object, json_t **ret_json, void **ret_object,
                         struct fl_error *err)
{
    json_t *json = fl_json_in_arena(rc->arena, fl_object_parse(object));
    int r;

    r = fl_object_decode(type, json, rc->arena, ret_object, err);
    if (r < 0)
        return fl_error_wrap(err, "%s %s", type->kind, object->name);
    if (ret_json)
        *ret_json = json;
    return 0;
}

int fl_read_cached(struct fl_reconcile *rc, const struct fl_kind_type *type, const char *ns,
                   const char *name, void **ret_object, struct fl_error *err)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_cache_get(cache_of(rc, type), ns, name);

    if (!object)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s.%s \"%s\" not found", type->plural,
                            type->group, name);
    return decode_cached(rc, type, object, NULL, ret_object, err);
}

int fl_read_live(struct fl_reconcile *rc, const struct fl_kind_type *type, const char *ns,
                 const char *name, void **ret_object, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(type);
    json_t *json = NULL;
    int r;

    r = fl_apiclient_get(rc->client, &gvr, ns, name, &json, err);
    if (r < 0)
        return r;
    r = fl_object_decode(type, fl_json_in_arena(rc->arena, json), rc->arena, ret_object, err);
    return r < 0 ? fl_error_wrap(err, "%s %s", type->kind, name) : 0;
}

/* Applying. */

static json_t *owner_reference(const struct fl_reconcile *rc)
{
    return json_pack("[{s:o, s:s, s:s, s:s, s:b, s:b}]", "apiVersion",
                     json_sprintf("%s/%s", rc->type->group, rc->type->version), "kind",
                     rc->type->kind, "name", rc->pass->meta->name, "uid", rc->pass->meta->uid,
                     "controller", 1, "blockOwnerDeletion", 1);
}

/* A label's value: the role, cut where it is long. */
static json_t *role_label(const char *role)
{
    char value[CHILD_NAME_MAX + 1];

    return json_stringn(value, put_label(value, role, CHILD_NAME_MAX));
}

static json_t *labels_with_role(const json_t *labels, const char *role)
{
    json_t *all = labels ? json_deep_copy(labels) : json_object();

    (void)json_object_set_new(all, ROLE_LABEL, role_label(role));
    return all;
}

json_t *fl_child_metadata(struct fl_reconcile *rc, const char *name, const char *role)
{
    return json_pack("{s:s, s:s*, s:o, s:o}", "name", name, "namespace", rc->pass->ns, "labels",
                     labels_with_role(NULL, role), "ownerReferences", owner_reference(rc));
}

/* What is applied of a typed child: what we want, and nothing that the server says. */
static json_t *configuration(struct fl_reconcile *rc, const struct fl_kind_type *type,
                             const char *role, const void *object)
{
    const struct fl_object_meta *meta = object;
    json_t *json = fl_object_encode(type, object);
    json_t *metadata =
        json_pack("{s:s, s:s?, s:o, s:o}", "name", meta->name, "namespace", rc->pass->ns, "labels",
                  labels_with_role(meta->labels, role), "ownerReferences", owner_reference(rc));

    if (!rc->pass->ns)
        (void)json_object_del(metadata, "namespace");
    if (meta->annotations)
        (void)json_object_set(metadata, "annotations", (json_t *)meta->annotations);
    (void)json_object_set_new(json, "metadata", metadata);
    (void)json_object_del(json, "status");
    return json;
}

/* The child as the cache has it, if applying would change nothing. */
static int unchanged(struct fl_reconcile *rc, const struct fl_kind_type *type, const char *name,
                     const json_t *wanted, void **ret_object, struct fl_error *err)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *cached = fl_cache_get(cache_of(rc, type), rc->pass->ns, name);
    json_t *json = NULL;
    int r;

    if (!cached)
        return 0;
    r = decode_cached(rc, type, cached, &json, ret_object, err);
    return r < 0 ? r : fl_is_applied(json, wanted, rc->manager_name);
}

int fl_apply_child(struct fl_reconcile *rc, const struct fl_kind_type *type, const char *role,
                   void *object, void **ret_object, struct fl_error *err)
{
    struct fl_apply_options options = {.manager = rc->manager_name, .force = true};
    struct fl_object_meta *meta = object;
    struct fl_gvr gvr = fl_gvr_of(type);
    FL_JSON wanted = NULL;
    json_t *answer = NULL;
    void *child = NULL;
    int r;

    meta->name = fl_child_name(rc->arena, rc->pass->meta->name, rc->pass->meta->uid, role);
    wanted = configuration(rc, type, role, object);
    r = unchanged(rc, type, meta->name, wanted, &child, err);
    if (r == 0) {
        r = fl_apiclient_apply(rc->client, &gvr, wanted, &options, &answer, err);
        if (r == 0)
            r = fl_object_decode(type, fl_json_in_arena(rc->arena, answer), rc->arena, &child, err);
    }
    if (r < 0)
        return fl_error_wrap(err, "%s %s", type->kind, meta->name);
    if (ret_object)
        *ret_object = child;
    return 0;
}

/* Listing and pruning. */

int fl_list_children(struct fl_reconcile *rc, const struct fl_kind_type *type,
                     struct fl_child_list *ret_list, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    struct fl_child_list children;
    int r = 0;

    fl_cache_list_by(cache_of(rc, type), FL_INDEX_OWNER, rc->pass->meta->uid, &list);
    children = (struct fl_child_list){
        .items = fl_new_array(rc->arena, void *, list.count),
        .names = fl_new_array(rc->arena, const char *, list.count),
        .count = list.count,
    };
    for (size_t i = 0; i < list.count && r == 0; i++) {
        children.names[i] = fl_arena_strdup(rc->arena, list.objects[i]->name);
        r = decode_cached(rc, type, list.objects[i], NULL, &children.items[i], err);
    }
    if (r < 0)
        return r;
    *ret_list = children;
    return 0;
}

int fl_prune_children(struct fl_reconcile *rc, const struct fl_kind_type *type,
                      bool (*keep)(void *user, const void *child), void *user, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(type);
    struct fl_child_list children;
    int left = 0, r;

    r = fl_list_children(rc, type, &children, err);
    for (size_t i = 0; r == 0 && i < children.count; i++) {
        const struct fl_object_meta *meta = children.items[i];

        if (keep(user, children.items[i]))
            continue;
        left++;
        if (!meta->deletion_timestamp)
            r = fl_apiclient_delete(rc->client, &gvr, rc->pass->ns, meta->name, meta->uid, err);
    }
    return r < 0 ? fl_error_wrap(err, "prune %s", type->plural) : left;
}
