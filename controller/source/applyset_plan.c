#include "controller/source/applyset_internal.h"

#include "lib/str.h"

char *fl_inventory_key(struct fl_arena *arena, const char *group, const char *kind, const char *ns,
                       const char *name)
{
    return fl_arena_printf(arena, "%s/%s/%s/%s", group, kind, ns, name);
}

const char *fl_inventory_file(const char *path)
{
    size_t len = path ? strlen(path) : 0;

    return len > 0 && len <= FL_INVENTORY_FILE_MAX && fl_utf8_valid(path, len) ? path : NULL;
}

static struct fl_inventory_item item_of(const struct fl_manifest *manifest, const char *ns)
{
    return (struct fl_inventory_item){
        .group = manifest->group,
        .version = manifest->version,
        .kind = manifest->kind,
        .ns = *manifest->ns ? manifest->ns : ns,
        .name = manifest->name,
        .file = fl_inventory_file(manifest->file),
    };
}

static const char *key_of(struct fl_arena *arena, const struct fl_inventory_item *item)
{
    return fl_inventory_key(arena, item->group, item->kind, item->ns, item->name);
}

/* An item without a namespace was found to be of a cluster-scoped kind, so it is the same object as
 * one that names none now. */
static void mark_wanted(struct fl_map *wanted, struct fl_arena *arena,
                        const struct fl_manifest *manifest, const struct fl_inventory_item *item)
{
    fl_map_put(wanted, key_of(arena, item), wanted);
    if (!*manifest->ns)
        fl_map_put(wanted, fl_inventory_key(arena, item->group, item->kind, "", item->name),
                   wanted);
}

/* What was found to be cluster-scoped stays so, whatever namespace its manifest names or would
 * have: a plan that had it in one would be another than what is remembered, each time anew. */
static void unplace(struct fl_map *cluster, struct fl_arena *arena, struct fl_inventory_item *item)
{
    if (fl_map_get(cluster, fl_inventory_key(arena, item->group, item->kind, "", item->name)))
        item->ns = "";
}

static struct fl_map *find_cluster_scoped(const struct fl_inventory *inventory,
                                          struct fl_arena *arena)
{
    struct fl_map *cluster = fl_map_create(NULL);

    for (size_t i = 0; i < inventory->count; i++)
        if (!*inventory->items[i].ns)
            fl_map_put(cluster, key_of(arena, &inventory->items[i]), cluster);
    return cluster;
}

static size_t bytes_of(const struct fl_inventory *inventory)
{
    size_t bytes = 0;

    for (size_t i = 0; i < inventory->count; i++) {
        const struct fl_inventory_item *item = &inventory->items[i];

        bytes += strlen(item->group) + strlen(item->version) + strlen(item->kind) +
                 strlen(item->ns) + strlen(item->name) + (item->file ? strlen(item->file) : 0);
    }
    return bytes;
}

void fl_inventory_fit(struct fl_inventory *inventory)
{
    if (bytes_of(inventory) <= FL_INVENTORY_BYTES_MAX)
        return;
    for (size_t i = 0; i < inventory->count; i++)
        inventory->items[i].file = NULL;
}

static int check_size(const struct fl_inventory *inventory, struct fl_error *err)
{
    if (inventory->count > FL_INVENTORY_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "%zu objects would have to be remembered, with those that are still to "
                            "be pruned; %d is the most",
                            inventory->count, FL_INVENTORY_MAX);
    if (bytes_of(inventory) > FL_INVENTORY_BYTES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "the names of %zu objects are too long to be remembered all",
                            inventory->count);
    return 0;
}

int fl_applyset_plan(const struct fl_manifests *manifests, const struct fl_inventory *old,
                     const char *ns, struct fl_arena *arena, struct fl_inventory *ret_inventory,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *wanted = fl_map_create(NULL);
    FL_CLEANUP(fl_map_destroyp) struct fl_map *cluster = find_cluster_scoped(old, arena);
    struct fl_inventory plan = {
        fl_new_array(arena, struct fl_inventory_item, manifests->count + old->count), 0};
    int r;

    for (size_t i = 0; i < manifests->count; i++) {
        struct fl_inventory_item item = item_of(&manifests->items[i], ns);

        unplace(cluster, arena, &item);
        if (fl_map_get(wanted, key_of(arena, &item)))
            continue;
        mark_wanted(wanted, arena, &manifests->items[i], &item);
        plan.items[plan.count++] = item;
    }
    for (size_t i = 0; i < old->count; i++)
        if (!fl_map_get(wanted, key_of(arena, &old->items[i])))
            plan.items[plan.count++] = old->items[i];
    fl_inventory_fit(&plan);
    r = check_size(&plan, err);
    if (r == 0)
        *ret_inventory = plan;
    return r;
}

bool fl_inventory_covers(const struct fl_inventory *have, const struct fl_inventory *want)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_map_destroyp) struct fl_map *known = fl_map_create(NULL);

    for (size_t i = 0; i < have->count; i++)
        fl_map_put(known, key_of(arena, &have->items[i]), &have->items[i]);
    for (size_t i = 0; i < want->count; i++) {
        const struct fl_inventory_item *item = &want->items[i],
                                       *found = fl_map_get(known, key_of(arena, item));

        if (!found || (item->file && !fl_streq(item->file, found->file)))
            return false;
    }
    return true;
}
