#include "reconcilers/orchestrator/orchestrators.h"

#include "lib/json.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <assert.h>

struct entry {
    struct fl_orchestrators *owner;
    char *name, *type;
    char *configured; /* the spec it was configured with, as canonical JSON */
    struct fl_orchestrator_driver *driver;
    int users;       /* got and not yet given back */
    bool is_dropped; /* out of the registry; ends with its last user */
    struct entry *next_dropped;
};

struct maker {
    fl_orchestrator_make_fn *make;
    void *user;
};

struct fl_orchestrators {
    struct fl_lock *lock;
    struct fl_map *makers;  /* by type; complete before anything else is called */
    struct fl_map *entries; /* by name */
    struct entry *dropped;  /* those that still have users */
    fl_run_changed_fn *changed;
    void *changed_user;
};

static void destroy_entry(struct entry *entry)
{
    if (entry->driver)
        entry->driver->ops->destroy(entry->driver);
    free(entry->name);
    free(entry->type);
    free(entry->configured);
    free(entry);
}

struct fl_orchestrators *fl_orchestrators_create(void)
{
    struct fl_orchestrators *orchestrators = fl_calloc(1, sizeof(*orchestrators));

    orchestrators->lock = fl_lock_create();
    orchestrators->makers = fl_map_create(free);
    orchestrators->entries = fl_map_create(NULL);
    return orchestrators;
}

void fl_orchestrators_destroy(struct fl_orchestrators *orchestrators)
{
    void *cursor = NULL, *value;

    if (!orchestrators)
        return;
    assert(!orchestrators->dropped);
    while (fl_map_next(orchestrators->entries, &cursor, NULL, &value)) {
        assert(((struct entry *)value)->users == 0);
        destroy_entry(value);
    }
    fl_map_destroy(orchestrators->entries);
    fl_map_destroy(orchestrators->makers);
    fl_lock_destroy(orchestrators->lock);
    free(orchestrators);
}

void fl_orchestrators_register(struct fl_orchestrators *orchestrators, const char *type,
                               fl_orchestrator_make_fn *make, void *user)
{
    struct maker *maker = fl_calloc(1, sizeof(*maker));

    *maker = (struct maker){make, user};
    fl_map_put(orchestrators->makers, type, maker);
}

void fl_orchestrators_on_changed(struct fl_orchestrators *orchestrators, fl_run_changed_fn *changed,
                                 void *user)
{
    FL_LOCKED(orchestrators->lock);

    orchestrators->changed = changed;
    orchestrators->changed_user = user;
}

/* Without the lock while others are told. */
static void pass_on(struct fl_orchestrators *orchestrators, const char *ns, const char *name)
{
    fl_run_changed_fn *changed;
    void *user;

    fl_lock_take(orchestrators->lock);
    changed = orchestrators->changed;
    user = orchestrators->changed_user;
    fl_lock_release(orchestrators->lock);
    if (changed)
        changed(user, ns, name);
}

/* A fl_run_changed_fn. */
static void tell(void *user, const char *ns, const char *name)
{
    const struct entry *entry = user;

    pass_on(entry->owner, ns, ns ? name : entry->name);
}

static char *spec_text(const struct fl_orchestrator_spec *spec)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_orchestrator object = {.spec = *spec};
    FL_JSON json = fl_orchestrator_encode(&object);

    return fl_strdup(fl_json_to_string(arena, json_object_get(json, "spec")));
}

/* A driver that is configured, and in nobody's sight yet. */
static int make_entry(struct fl_orchestrators *orchestrators, const char *name, const char *type,
                      const struct fl_orchestrator_spec *spec, struct entry **ret_entry,
                      struct fl_error *err)
{
    const struct maker *maker = fl_map_get(orchestrators->makers, type);
    struct entry *entry;
    int r;

    if (!maker)
        return fl_error_set(err, FL_E_INVALID, "this program has no driver for type %s", type);
    entry = fl_calloc(1, sizeof(*entry));
    *entry = (struct entry){.owner = orchestrators,
                            .name = fl_strdup(name),
                            .type = fl_strdup(type),
                            .configured = spec_text(spec)};
    r = maker->make(maker->user, name, tell, entry, &entry->driver, err);
    if (r == 0)
        r = fl_orchestrator_check(entry->driver->ops, err);
    if (r == 0)
        r = entry->driver->ops->configure(entry->driver, spec, err);
    if (r < 0) {
        destroy_entry(entry);
        return r;
    }
    *ret_entry = entry;
    return 0;
}

static int add(struct fl_orchestrators *orchestrators, const char *name, const char *type,
               const struct fl_orchestrator_spec *spec, struct fl_error *err)
{
    struct entry *entry = NULL;
    int r = make_entry(orchestrators, name, type, spec, &entry, err);

    if (r < 0)
        return r;
    fl_lock_take(orchestrators->lock);
    fl_map_put(orchestrators->entries, name, entry);
    fl_lock_release(orchestrators->lock);
    tell(entry, NULL, NULL);
    return 0;
}

/* With new settings, if they are new. The entry stays: only who calls this may drop it. */
static int reconfigure(struct entry *entry, const struct fl_orchestrator_spec *spec,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *text = spec_text(spec);
    int r;

    if (strcmp(text, entry->configured) == 0)
        return 0;
    r = entry->driver->ops->configure(entry->driver, spec, err);
    if (r < 0)
        return r;
    free(entry->configured);
    entry->configured = FL_TAKE(text);
    tell(entry, NULL, NULL);
    return 0;
}

int fl_orchestrators_ensure(struct fl_orchestrators *orchestrators, const char *name,
                            const char *type, const struct fl_orchestrator_spec *spec,
                            struct fl_error *err)
{
    struct entry *entry;

    fl_lock_take(orchestrators->lock);
    entry = fl_map_get(orchestrators->entries, name);
    fl_lock_release(orchestrators->lock);
    if (entry && strcmp(entry->type, type) == 0)
        return reconfigure(entry, spec, err);
    if (entry)
        fl_orchestrators_drop(orchestrators, name);
    return add(orchestrators, name, type, spec, err);
}

void fl_orchestrators_drop(struct fl_orchestrators *orchestrators, const char *name)
{
    struct entry *entry;

    fl_lock_take(orchestrators->lock);
    entry = fl_map_take(orchestrators->entries, name);
    if (entry && entry->users > 0) {
        entry->is_dropped = true;
        entry->next_dropped = orchestrators->dropped;
        orchestrators->dropped = entry;
        entry = NULL;
    }
    fl_lock_release(orchestrators->lock);
    if (entry)
        destroy_entry(entry);
}

struct fl_orchestrator_driver *fl_orchestrators_get(struct fl_orchestrators *orchestrators,
                                                    const char *name)
{
    FL_LOCKED(orchestrators->lock);
    struct entry *entry = fl_map_get(orchestrators->entries, name);

    if (!entry)
        return NULL;
    entry->users++;
    return entry->driver;
}

static struct entry *find_entry(const struct fl_orchestrators *orchestrators,
                                const struct fl_orchestrator_driver *driver)
{
    void *cursor = NULL, *value;

    while (fl_map_next(orchestrators->entries, &cursor, NULL, &value))
        if (((struct entry *)value)->driver == driver)
            return value;
    for (struct entry *entry = orchestrators->dropped; entry; entry = entry->next_dropped)
        if (entry->driver == driver)
            return entry;
    return NULL;
}

/* The entry, if it was dropped and this was its last user. */
static struct entry *take_unused(struct fl_orchestrators *orchestrators, struct entry *entry)
{
    struct entry **link = &orchestrators->dropped;

    if (!entry->is_dropped || entry->users > 0)
        return NULL;
    while (*link != entry)
        link = &(*link)->next_dropped;
    *link = entry->next_dropped;
    return entry;
}

void fl_orchestrators_put(struct fl_orchestrators *orchestrators,
                          struct fl_orchestrator_driver *driver)
{
    struct entry *entry;

    if (!driver)
        return;
    fl_lock_take(orchestrators->lock);
    entry = find_entry(orchestrators, driver);
    assert(entry && entry->users > 0);
    entry->users--;
    entry = take_unused(orchestrators, entry);
    fl_lock_release(orchestrators->lock);
    if (entry)
        destroy_entry(entry);
}

const char *fl_edgenode_name(struct fl_arena *arena, const struct fl_node_list *nodes, size_t i)
{
    const struct fl_node *node = &nodes->items[i];

    for (size_t other = 0; other < nodes->count; other++)
        if (other != i && strcmp(nodes->items[other].name, node->name) == 0)
            return fl_arena_printf(arena, "%s.%s", node->cluster, node->name);
    return node->name;
}
