#include "api/managed_fields_internal.h"

#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

#define MANAGER_BEFORE_APPLY  "before-first-apply"
#define KUBECTL               "kubectl"
#define LAST_APPLIED          "kubectl.kubernetes.io/last-applied-configuration"
#define MAX_ANNOTATIONS_BYTES ((size_t)256 * 1024)

struct ownership {
    struct fl_arena *arena;
    const struct fl_managed_write *write;
    struct fl_typed root;
    struct fl_entries entries;
};

/* What nobody owns */

static struct fl_field_node *copy_nodes(struct fl_arena *arena, const struct fl_fields *set)
{
    struct fl_field_node *nodes = fl_new_array(arena, struct fl_field_node, set->count + 1);

    if (set->count)
        memcpy(nodes, set->nodes, set->count * sizeof(*nodes));
    return nodes;
}

/* Without what identifies the object and what the server alone writes. */
static struct fl_fields strip(struct fl_arena *arena, const struct fl_fields *set)
{
    static const char *const top[] = {"apiVersion", "kind"};
    static const char *const meta[] = {"name",
                                       "namespace",
                                       "creationTimestamp",
                                       "selfLink",
                                       "uid",
                                       "clusterName",
                                       "generation",
                                       "managedFields",
                                       "resourceVersion",
                                       "deletionTimestamp",
                                       "deletionGracePeriodSeconds"};
    struct fl_fields result = fl_fields_without(arena, set, top, FL_COUNT_OF(top));
    struct fl_element element = fl_element_field("metadata");
    const struct fl_field_node *found = fl_fields_find(&result, &element);
    size_t at;

    if (!found)
        return result;
    at = (size_t)(found - result.nodes);
    result.nodes = copy_nodes(arena, &result);
    result.nodes[at].marks = 0;
    result.nodes[at].children = fl_fields_without(arena, &found->children, meta, FL_COUNT_OF(meta));
    if (result.nodes[at].children.count == 0) {
        result.count--;
        memmove(&result.nodes[at], &result.nodes[at + 1],
                (result.count - at) * sizeof(*result.nodes));
    }
    return result;
}

/* Without what a write through this endpoint cannot change. */
static struct fl_fields filter(const struct ownership *ownership, const struct fl_fields *set)
{
    static const char *const all_but_status[] = {"metadata", "spec"};
    static const char *const status[] = {"status"};

    if (strcmp(ownership->write->subresource, "status") == 0)
        return fl_fields_without(ownership->arena, set, all_but_status,
                                 FL_COUNT_OF(all_but_status));
    if (ownership->write->has_status)
        return fl_fields_without(ownership->arena, set, status, FL_COUNT_OF(status));
    return *set;
}

/* Entries */

static struct fl_entry entry_of(const struct fl_managed_write *write, const char *manager,
                                bool is_apply)
{
    return (struct fl_entry){
        .manager = manager && manager[0] ? manager : "unknown",
        .api_version = write->api_version,
        .subresource = write->subresource,
        .is_apply = is_apply,
    };
}

static void read_or_forget(struct ownership *ownership, const json_t *managed_fields)
{
    if (fl_entries_read(ownership->arena, managed_fields, &ownership->entries, NULL) < 0)
        ownership->entries.count = 0;
    for (size_t i = 0; i < ownership->entries.count; i++) {
        struct fl_entry *entry = &ownership->entries.items[i];
        struct fl_fields set = fl_typed_reconcile(ownership->arena, ownership->root, &entry->set);

        if (set.nodes != entry->set.nodes)
            fl_entries_set(entry, set);
    }
}

/* Takes what changed away from all entries but `keep`. */
static void take_from_others(struct ownership *ownership, const struct fl_fields *changes,
                             const struct fl_entry *keep)
{
    for (size_t i = 0; i < ownership->entries.count; i++) {
        struct fl_entry *entry = &ownership->entries.items[i];

        if (entry != keep && fl_fields_intersect(&entry->set, changes))
            fl_entries_set(entry, fl_fields_difference(ownership->arena, &entry->set, changes));
    }
}

static void own_changes(struct ownership *ownership, const json_t *before, const json_t *after,
                        const char *manager)
{
    struct fl_fields changes = fl_typed_compare(ownership->arena, ownership->root, before, after);
    struct fl_entry own = entry_of(ownership->write, manager, false);
    struct fl_entry *have;
    struct fl_fields set;

    changes = filter(ownership, &changes);
    take_from_others(ownership, &changes, NULL);
    set = fl_fields_select(ownership->arena, &changes, FL_MARK_ADDED | FL_MARK_MODIFIED);
    set = strip(ownership->arena, &set);
    if (set.count) {
        have = fl_entries_find(&ownership->entries, &own);
        own.set = have ? fl_fields_union(ownership->arena, &set, &have->set) : set;
        own.time = ownership->write->time;
        fl_entries_put(&ownership->entries, &own);
    }
    fl_entries_drop_empty(&ownership->entries);
    fl_entries_cap(&ownership->entries);
}

static json_t *managed_fields_of(const json_t *object)
{
    return json_object_get(json_object_get(object, "metadata"), "managedFields");
}

static bool is_reset(const json_t *managed_fields)
{
    return json_is_array(managed_fields) &&
           (json_array_size(managed_fields) == 0 ||
            (json_array_size(managed_fields) == 1 &&
             json_is_object(json_array_get(managed_fields, 0)) &&
             json_object_size(json_array_get(managed_fields, 0)) == 0));
}

/* Puts the entries into the object. `steal`: their JSON was the object's own. */
static void write_entries(const struct ownership *ownership, json_t *object, bool steal)
{
    json_t *managed_fields = fl_entries_write(&ownership->entries, steal);

    if (managed_fields)
        (void)json_object_set_new_nocheck(fl_json_ensure_object(object, "metadata"),
                                          "managedFields", managed_fields);
    else
        (void)json_object_del(json_object_get(object, "metadata"), "managedFields");
}

/* Updates */

int fl_managed_update(const struct fl_managed_write *write, const json_t *live, json_t *object,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON nothing = live ? NULL : json_object();
    FL_JSON sent = json_incref(managed_fields_of(object));
    struct ownership ownership = {
        .arena = arena, .write = write, .root = fl_typed_root(write->schema)};
    const json_t *kept = managed_fields_of(live);
    /* Through a subresource nobody rewrites entries; what comes back as it was is as good. */
    bool is_own = write->subresource[0] == '\0' || (sent && kept && json_equal(sent, kept));

    (void)err;
    if (is_own && !is_reset(sent))
        read_or_forget(&ownership, sent);
    if (!is_own || (!is_reset(sent) && ownership.entries.count == 0)) {
        is_own = false;
        read_or_forget(&ownership, kept);
    }
    ownership.entries.arena = arena;
    (void)json_object_del(json_object_get(object, "metadata"), "managedFields");
    /* An object that nobody tracks yet stays so until it is first applied. */
    if (ownership.entries.count || !fl_json_str(live, "metadata.uid"))
        own_changes(&ownership, live ? live : nothing, object, write->manager);
    write_entries(&ownership, object, is_own);
    return 0;
}

/* Applying: pruning what is no longer applied */

static struct fl_fields named_fields(const struct ownership *ownership, const json_t *object)
{
    struct fl_fields set = fl_typed_fields(ownership->arena, ownership->root, object);

    return fl_typed_with_named(ownership->arena, ownership->root, &set);
}

/* Removes from `merged` what the manager applied last time (`last`) and does not now, unless
 * somebody else owns it. Three steps: without all it applied last; with what anybody owns back;
 * and of what is then missing only that which it had applied. */
static json_t *prune(const struct ownership *ownership, json_t *merged,
                     const struct fl_fields *last)
{
    struct fl_arena *arena = ownership->arena;
    FL_JSON trial = json_deep_copy(merged);
    struct fl_fields last_named = fl_typed_with_named(arena, ownership->root, last);
    struct fl_fields merged_named = named_fields(ownership, merged);
    struct fl_fields *sets = fl_new_array(arena, struct fl_fields, ownership->entries.count);
    struct fl_fields owned, kept, removed;

    fl_typed_remove(arena, ownership->root, trial, &last_named, false);
    for (size_t i = 0; i < ownership->entries.count; i++)
        sets[i] = ownership->entries.items[i].set;
    owned = fl_fields_union_all(arena, sets, ownership->entries.count);
    owned = fl_typed_with_named(arena, ownership->root, &owned);
    kept = named_fields(ownership, trial);
    kept = fl_fields_union(arena, &kept, &owned);
    removed = fl_fields_difference(arena, &merged_named, &kept);
    json_decref(trial);
    trial = json_deep_copy(merged);
    fl_typed_remove(arena, ownership->root, trial, &removed, false);
    kept = named_fields(ownership, trial);
    removed = fl_fields_difference(arena, &merged_named, &kept);
    removed = fl_fields_intersection(arena, &removed, &last_named);
    if (!fl_fields_is_empty(&removed))
        fl_typed_remove(arena, ownership->root, merged, &removed, true);
    return merged;
}

/* Applying: conflicts */

struct conflict_list {
    struct fl_arena *arena;
    const struct fl_entry *entry;
    struct fl_managed_conflict *items;
    size_t count, capacity;
};

static void add_conflict(void *user, const char *path)
{
    struct conflict_list *list = user;

    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;
        struct fl_managed_conflict *items =
            fl_new_array(list->arena, struct fl_managed_conflict, capacity);

        if (list->count)
            memcpy(items, list->items, list->count * sizeof(*items));
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = (struct fl_managed_conflict){
        .manager = fl_arena_strdup(list->arena, list->entry->manager),
        .api_version = fl_arena_strdup(list->arena, list->entry->api_version),
        .time = list->entry->time ? fl_arena_strdup(list->arena, list->entry->time) : NULL,
        .subresource = fl_arena_strdup(list->arena, list->entry->subresource),
        .operation = list->entry->is_apply ? "Apply" : "Update",
        .path = fl_arena_strdup(list->arena, path),
    };
}

static int compare_conflict_entries(const void *a, const void *b)
{
    const struct fl_entry *left = *(const struct fl_entry *const *)a;
    const struct fl_entry *right = *(const struct fl_entry *const *)b;
    int c = strcmp(left->manager, right->manager);

    if (c == 0 && left->is_apply != right->is_apply)
        return left->is_apply ? -1 : 1;
    if (c == 0)
        c = strcmp(left->api_version, right->api_version);
    if (c == 0 && !left->subresource[0] != !right->subresource[0])
        return left->subresource[0] ? -1 : 1;
    return c ? c : strcmp(left->subresource, right->subresource);
}

/* What others own of `changes`; `allowed` (may be NULL) may be taken from them. */
static void list_conflicts(const struct ownership *ownership, const struct fl_entry *own,
                           const struct fl_fields *changes, const struct fl_fields *allowed,
                           struct conflict_list *list)
{
    const struct fl_entry **others =
        fl_new_array(ownership->arena, const struct fl_entry *, ownership->entries.count + 1);
    size_t count = 0;

    for (size_t i = 0; i < ownership->entries.count; i++) {
        if (&ownership->entries.items[i] != own)
            others[count++] = &ownership->entries.items[i];
    }
    qsort(others, count, sizeof(*others), compare_conflict_entries);
    for (size_t i = 0; i < count; i++) {
        struct fl_fields taken = fl_fields_intersection(ownership->arena, &others[i]->set, changes);

        if (allowed)
            taken = fl_fields_difference(ownership->arena, &taken, allowed);
        list->entry = others[i];
        fl_fields_each(&taken, add_conflict, list);
    }
}

/* Applying: what kubectl's client-side apply left behind */

static const char *last_applied_of(const json_t *object)
{
    const json_t *annotations = json_object_get(json_object_get(object, "metadata"), "annotations");
    const char *text = json_string_value(json_object_get(annotations, LAST_APPLIED));

    return text && text[0] ? text : NULL;
}

/* The fields that client-side apply wrote and that are still as it wrote them: these kubectl may
 * take over without asking. */
static struct fl_fields last_applied_fields(const struct ownership *ownership, const json_t *live)
{
    const char *text = last_applied_of(live);
    struct fl_fields set = {0}, changes;
    json_t *last;

    if (!text || fl_json_parse(text, strlen(text), NULL, NULL, NULL, &last, NULL) < 0)
        return set;
    (void)fl_json_in_arena(ownership->arena, last);
    if (!json_is_object(last) || !fl_streq(json_string_value(json_object_get(last, "apiVersion")),
                                           ownership->write->api_version))
        return set;
    changes = fl_typed_compare(ownership->arena, ownership->root, last, live);
    set = fl_typed_fields(ownership->arena, ownership->root, last);
    return fl_fields_difference(ownership->arena, &set, &changes);
}

static size_t annotations_bytes(const json_t *annotations)
{
    size_t total = 0;
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)annotations, name, value)
        total += strlen(name) + json_string_length(value);
    return total;
}

/* Keeps the annotation in step, so that client-side apply can take over again. */
static void rewrite_last_applied(json_t *object, const json_t *applied)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON copy = json_deep_copy(applied);
    json_t *annotations = json_object_get(json_object_get(object, "metadata"), "annotations");

    (void)json_object_del(json_object_get(json_object_get(copy, "metadata"), "annotations"),
                          LAST_APPLIED);
    fl_value_write(&text, copy);
    fl_buf_putc(&text, '\n');
    fl_json_set_str(annotations, LAST_APPLIED, fl_buf_text(&text));
    if (annotations_bytes(annotations) > MAX_ANNOTATIONS_BYTES)
        (void)json_object_del(annotations, LAST_APPLIED);
}

/* Applying */

static int check_applied(struct fl_arena *arena, const struct fl_managed_write *write,
                         const json_t *applied, struct fl_error *err)
{
    const json_t *sent = managed_fields_of(applied);
    const char *version = json_string_value(json_object_get(applied, "apiVersion"));
    int r;

    if (!json_is_object(applied))
        return fl_error_set(err, FL_E_BAD_REQUEST, "an applied configuration is an object");
    if (sent && !json_is_null(sent))
        return fl_error_set(err, FL_E_BAD_REQUEST, "metadata.managedFields must be nil");
    if (version && strcmp(version, write->api_version) != 0)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "Incorrect version specified in apply patch. Specified patch version: "
                            "%s, expected: %s",
                            version, write->api_version);
    r = fl_typed_check(arena, fl_typed_root(write->schema), applied, err);
    return r < 0 ? fl_error_wrap(err, "failed to create typed patch object") : 0;
}

/* `merged` pruned, with the entries brought up to date; conflicts are in `list`. */
static json_t *own_applied(struct ownership *ownership, const json_t *live, const json_t *applied,
                           bool force, struct conflict_list *list)
{
    struct fl_entry own = entry_of(ownership->write, ownership->write->manager, true);
    struct fl_entry *have = fl_entries_find(&ownership->entries, &own);
    struct fl_fields last = have ? have->set : (struct fl_fields){0}, last_only, changes;
    struct fl_fields taken, set;
    json_t *merged = fl_typed_merge(ownership->arena, ownership->root, live, applied);

    if (!merged)
        merged = json_object();
    own.time = have ? have->time : NULL;
    set = fl_typed_fields(ownership->arena, ownership->root, applied);
    own.set = filter(ownership, &set);
    fl_entries_put(&ownership->entries, &own);
    have = fl_entries_find(&ownership->entries, &own);
    last_only = fl_fields_difference(ownership->arena, &last, &own.set);
    if (last_only.count)
        merged = prune(ownership, merged, &last);
    changes = fl_typed_compare(ownership->arena, ownership->root, live, merged);
    changes = filter(ownership, &changes);
    taken = fl_fields_select(ownership->arena, &changes, FL_MARK_ADDED | FL_MARK_MODIFIED);
    if (!force) {
        list_conflicts(ownership, have, &taken, NULL, list);
        if (list->count && strcmp(ownership->write->manager, KUBECTL) == 0 &&
            last_applied_of(live)) {
            struct fl_fields allowed = last_applied_fields(ownership, live);

            list->count = 0;
            list_conflicts(ownership, have, &taken, &allowed, list);
        }
    }
    take_from_others(ownership, &changes, have);
    fl_entries_set(have, strip(ownership->arena, &own.set));
    if (!fl_value_equal(live, merged))
        have->time = ownership->write->time;
    fl_entries_drop_empty(&ownership->entries);
    return merged;
}

/* Whether this endpoint writes the member of the object at all. */
static bool writes_member(const struct fl_managed_write *write, const char *name)
{
    if (strcmp(write->subresource, "status") == 0)
        return strcmp(name, "status") == 0;
    return !write->has_status || strcmp(name, "status") != 0;
}

static bool written_equal(const struct fl_managed_write *write, const json_t *a, const json_t *b)
{
    const char *name;
    json_t *member;

    json_object_foreach((json_t *)a, name, member) {
        const json_t *other = json_object_get(b, name);

        if (writes_member(write, name) && (!other || !fl_value_equal(member, other)))
            return false;
    }
    json_object_foreach((json_t *)b, name, member) {
        if (writes_member(write, name) && !json_object_get(a, name))
            return false;
    }
    return true;
}

/* What the endpoint does not write, the server puts back: where nothing else changed, neither do
 * the times, lest an apply that does nothing is a change for that alone. */
static void keep_times(const struct ownership *ownership, const struct fl_entries *before,
                       const json_t *live, const json_t *merged)
{
    const struct fl_entries *entries = &ownership->entries;

    if (entries->count != before->count || !written_equal(ownership->write, live, merged))
        return;
    for (size_t i = 0; i < entries->count; i++) {
        const struct fl_entry *old = fl_entries_find(before, &entries->items[i]);

        if (!old || !old->json || strcmp(old->api_version, entries->items[i].api_version) != 0 ||
            !fl_fields_same(&old->set, &entries->items[i].set))
            return;
    }
    for (size_t i = 0; i < entries->count; i++)
        entries->items[i].time = fl_entries_find(before, &entries->items[i])->time;
}

/* Entries that say what they said before keep the words in which they said it. */
static void keep_unchanged(struct fl_entries *entries, const struct fl_entries *before)
{
    for (size_t i = 0; i < entries->count; i++) {
        struct fl_entry *entry = &entries->items[i];
        const struct fl_entry *old = fl_entries_find(before, entry);

        if (!entry->json && old && old->json && fl_streq(entry->time, old->time) &&
            strcmp(entry->api_version, old->api_version) == 0 &&
            fl_fields_same(&entry->set, &old->set))
            entry->json = old->json;
    }
}

int fl_managed_apply(const struct fl_managed_write *write, const json_t *live,
                     const json_t *applied, bool force, struct fl_arena *arena, json_t **ret_object,
                     struct fl_managed_conflict **ret_conflicts, size_t *ret_conflict_count,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *scratch = fl_arena_create();
    FL_JSON nothing = json_object();
    FL_JSON base = NULL;
    FL_JSON merged = NULL;
    struct ownership ownership = {
        .arena = scratch, .write = write, .root = fl_typed_root(write->schema)};
    struct conflict_list list = {.arena = arena};
    struct fl_entries before;
    int r;

    *ret_conflicts = NULL;
    *ret_conflict_count = 0;
    r = check_applied(scratch, write, applied, err);
    if (r < 0)
        return r;
    ownership.entries.arena = scratch;
    read_or_forget(&ownership, managed_fields_of(live));
    before = ownership.entries;
    before.items = fl_new_array(scratch, struct fl_entry, before.count + 1);
    if (before.count)
        memcpy(before.items, ownership.entries.items, before.count * sizeof(*before.items));
    base = live ? json_deep_copy(live) : json_object();
    (void)json_object_del(json_object_get(base, "metadata"), "managedFields");
    if (ownership.entries.count == 0)
        own_changes(&ownership, nothing, base, MANAGER_BEFORE_APPLY);
    merged = own_applied(&ownership, base, applied, force, &list);
    if (list.count) {
        *ret_conflicts = list.items;
        *ret_conflict_count = list.count;
        return fl_managed_conflict_error(list.items, list.count, NULL, err);
    }
    if (strcmp(write->manager, KUBECTL) == 0 && last_applied_of(merged))
        rewrite_last_applied(merged, applied);
    keep_times(&ownership, &before, base, merged);
    keep_unchanged(&ownership.entries, &before);
    write_entries(&ownership, merged, false);
    *ret_object = FL_TAKE(merged);
    return 0;
}

/* Words */

static void print_manager(struct fl_buf *buf, const struct fl_managed_conflict *conflict)
{
    fl_buf_json_string(buf, conflict->manager, strlen(conflict->manager));
    if (conflict->subresource[0]) {
        fl_buf_puts(buf, " with subresource ");
        fl_buf_json_string(buf, conflict->subresource, strlen(conflict->subresource));
    }
    if (strcmp(conflict->operation, "Update") == 0)
        fl_buf_printf(buf, " using %s", conflict->api_version);
}

static bool is_same_owner(const struct fl_managed_conflict *a, const struct fl_managed_conflict *b)
{
    return strcmp(a->manager, b->manager) == 0 && strcmp(a->operation, b->operation) == 0 &&
           strcmp(a->subresource, b->subresource) == 0 &&
           strcmp(a->api_version, b->api_version) == 0;
}

static void add_cause(struct fl_field_errors *causes, const struct fl_managed_conflict *conflict,
                      struct fl_buf *text)
{
    if (causes->count == FL_FIELD_ERRORS_MAX) {
        causes->dropped++;
        return;
    }
    fl_buf_clear(text);
    fl_buf_puts(text, "conflict with ");
    print_manager(text, conflict);
    causes->items[causes->count++] = (struct fl_field_error){
        .type = FL_FIELD_CONFLICT,
        .path = fl_arena_strdup(causes->arena, conflict->path),
        .message = fl_arena_strdup(causes->arena, fl_buf_text(text)),
    };
}

int fl_managed_conflict_error(const struct fl_managed_conflict *conflicts, size_t count,
                              struct fl_field_errors *causes, struct fl_error *err)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {.max = FL_ERROR_TEXT_MAX * 4};
    FL_CLEANUP(fl_buf_finish) struct fl_buf cause = {0};

    fl_buf_printf(&text, "Apply failed with %zu conflict%s: ", count, count == 1 ? "" : "s");
    for (size_t i = 0; i < count; i++) {
        if (count == 1) {
            fl_buf_puts(&text, "conflict with ");
            print_manager(&text, &conflicts[i]);
            fl_buf_printf(&text, ": %s", conflicts[i].path);
        } else {
            if (i == 0 || !is_same_owner(&conflicts[i - 1], &conflicts[i])) {
                fl_buf_puts(&text, i ? "\nconflicts with " : "conflicts with ");
                print_manager(&text, &conflicts[i]);
                fl_buf_putc(&text, ':');
            }
            fl_buf_printf(&text, "\n- %s", conflicts[i].path);
        }
        if (causes)
            add_cause(causes, &conflicts[i], &cause);
    }
    return fl_error_set(err, FL_E_CONFLICT, "%s", fl_buf_text(&text));
}

int fl_managed_validate(const json_t *managed_fields, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_entries entries;

    if (is_reset(managed_fields))
        return 0;
    return fl_entries_read(arena, managed_fields, &entries, err);
}
