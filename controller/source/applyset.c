#include "controller/source/applyset_internal.h"

#include "controller/source/seal.h"
#include "lib/str.h"

#include <stdlib.h>

enum progress {
    TO_DO,
    FAILED, /* may be tried again in this run */
    DONE,
};

/* One object of the set. */
struct target {
    const struct fl_manifest *manifest;
    struct fl_inventory_item item; /* ns as the API has it, once it is mapped */
    bool mapped;
    int rank;
    size_t index;
    enum progress progress;
    bool again;          /* it failed for want of something that may come with the set */
    bool doubled;        /* another of the set is the same object */
    const char *message; /* why it failed */
};

struct run {
    const struct fl_applyset_options *options;
    const struct fl_manifests *manifests;
    struct fl_arena *arena;
    struct fl_mapper mapper;
    struct target *targets; /* in the order of applying */
    size_t count;
    struct fl_map *brought; /* "Namespace/x", "CustomResourceDefinition/GROUP/KIND": of the set */
    struct fl_map *taken;   /* by key as the API has it: the target that is this object */
    struct fl_applyset_result *result;
};

static bool is_over(struct run *run)
{
    if (fl_monotonic_ms(run->options->env) >= run->options->deadline_ms)
        run->result->out_of_time = true;
    return run->result->out_of_time;
}

/* The set, in order */

static int compare_targets(const void *a, const void *b)
{
    const struct target *left = a, *right = b;

    if (left->rank != right->rank)
        return left->rank < right->rank ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

/* What others of the set may be waiting for. */
static void note_brought(struct run *run, const struct fl_manifest *manifest)
{
    const char *key = NULL;

    if (!*manifest->group && strcmp(manifest->kind, "Namespace") == 0)
        key = fl_arena_printf(run->arena, "Namespace/%s", manifest->name);
    else if (strcmp(manifest->kind, "CustomResourceDefinition") == 0)
        key = fl_arena_printf(run->arena, "CustomResourceDefinition/%s/%s",
                              fl_str_or(fl_json_str(manifest->object, "spec.group"), ""),
                              fl_str_or(fl_json_str(manifest->object, "spec.names.kind"), ""));
    if (key)
        fl_map_put(run->brought, key, run);
}

static void make_targets(struct run *run)
{
    const struct fl_manifests *manifests = run->manifests;

    run->targets = fl_new_array(run->arena, struct target, manifests->count);
    run->count = manifests->count;
    for (size_t i = 0; i < manifests->count; i++) {
        const struct fl_manifest *manifest = &manifests->items[i];

        note_brought(run, manifest);
        run->targets[i] = (struct target){
            .manifest = manifest,
            .item = {manifest->group, manifest->version, manifest->kind,
                     *manifest->ns ? manifest->ns : run->options->ns, manifest->name,
                     fl_inventory_file(manifest->file)},
            .rank = fl_apply_rank(manifest->group, manifest->kind),
            .index = i,
        };
    }
    if (run->count)
        qsort(run->targets, run->count, sizeof(*run->targets), compare_targets);
}

/* The object as it is sent: in its namespace, with the source's mark, without what the server alone
 * sets (a manifest that was exported from a server has it). */

static void drop_server_fields(json_t *metadata)
{
    static const char *const fields[] = {"managedFields", "resourceVersion",   "uid",
                                         "generation",    "creationTimestamp", "selfLink"};

    for (size_t i = 0; i < FL_COUNT_OF(fields); i++)
        (void)json_object_del(metadata, fields[i]);
}

static int set_mark(struct run *run, json_t *metadata, struct fl_error *err)
{
    const json_t *annotations = json_object_get(metadata, "annotations");

    if (annotations && !json_is_object(annotations) && !json_is_null(annotations))
        return fl_error_set(err, FL_E_INVALID, "metadata.annotations is of type %s",
                            fl_json_type_name(annotations));
    fl_json_set_str(fl_json_ensure_object(metadata, "annotations"), FL_ANNOTATION_SOURCE,
                    run->options->source);
    return 0;
}

static bool is_secret(const struct target *target)
{
    return !*target->item.group && strcmp(target->item.kind, "Secret") == 0;
}

static int open_secret(struct run *run, const struct target *target, json_t *config,
                       struct fl_error *err)
{
    const struct fl_applyset_options *options = run->options;

    if (!is_secret(target) || !fl_seal_is_sealed(config))
        return 0;
    if (!options->unseal)
        return fl_error_set(err, FL_E_INVALID, "is sealed, and there is no key to open it with");
    return options->unseal(options->user, config, target->item.ns, err);
}

static int make_config(struct run *run, const struct target *target, json_t **ret_config,
                       struct fl_error *err)
{
    FL_JSON config = is_secret(target) ? json_deep_copy(target->manifest->object)
                                       : json_copy(target->manifest->object);
    json_t *metadata = json_deep_copy(json_object_get(config, "metadata"));
    int r;

    (void)json_object_set_new(config, "metadata", metadata);
    drop_server_fields(metadata);
    fl_json_set_str(metadata, "namespace", *target->item.ns ? target->item.ns : NULL);
    r = set_mark(run, metadata, err);
    if (r == 0)
        r = open_secret(run, target, config, err);
    if (r == 0)
        *ret_config = FL_TAKE(config);
    return r;
}

/* Whose it is */

static const char *annotation_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(fl_json_path(object, "metadata.annotations"), key));
}

static int check_mark(struct run *run, const struct fl_inventory_item *item, const json_t *live,
                      struct fl_error *err)
{
    const struct fl_applyset_options *options = run->options;
    const char *mark = annotation_of(live, FL_ANNOTATION_SOURCE), *uid;

    if (!mark || strcmp(mark, options->source) == 0 || options->force)
        return 0;
    if (options->is_held && !options->is_held(options->user, mark, item))
        return 0;
    uid = strrchr(mark, '/');
    return fl_error_set(err, FL_E_CONFLICT,
                        "is applied by GitSync %.*s already; force would take it over",
                        uid ? (int)(uid - mark) : (int)strlen(mark), mark);
}

static bool is_owned(const struct run *run, const json_t *live)
{
    size_t i;
    const json_t *entry;

    json_array_foreach(fl_json_path(live, "metadata.managedFields"), i, entry)
        if (fl_streq(fl_json_str(entry, "manager"), run->options->manager) &&
            fl_streq(fl_json_str(entry, "operation"), "Apply"))
            return true;
    return false;
}

static const char *ns_or_null(const struct fl_inventory_item *item)
{
    return *item->ns ? item->ns : NULL;
}

/* *ret_live is NULL where there is none. */
static int get_with(struct fl_apiclient *client, const struct fl_gvr *gvr,
                    const struct fl_inventory_item *item, json_t **ret_live, struct fl_error *err)
{
    int r = fl_apiclient_get(client, gvr, ns_or_null(item), item->name, ret_live, err);

    if (r != FL_E_NOT_FOUND)
        return r;
    *ret_live = NULL;
    return 0;
}

static int get_live(struct run *run, const struct fl_gvr *gvr, const struct fl_inventory_item *item,
                    json_t **ret_live, struct fl_error *err)
{
    return get_with(run->options->client, gvr, item, ret_live, err);
}

/* Applying one */

static const char *key_of(struct run *run, const struct fl_inventory_item *item)
{
    return fl_inventory_key(run->arena, item->group, item->kind, item->ns, item->name);
}

/* One that names its namespace and one that is put into the same are one object, and so are two of
 * a cluster-scoped kind whatever they name: to apply both would be to write for ever. */
static int take_key(struct run *run, struct target *target, struct fl_error *err)
{
    const char *key = key_of(run, &target->item);
    const struct target *first = fl_map_get(run->taken, key);

    if (!first)
        fl_map_put(run->taken, key, target);
    target->doubled = first && first != target;
    return target->doubled
               ? fl_error_set(err, FL_E_INVALID, "is in %.120s, line %zu, already; that one counts",
                              first->manifest->file, first->manifest->line)
               : 0;
}

static int map_target(struct run *run, struct target *target, struct fl_gvr *ret_gvr,
                      struct fl_error *err)
{
    struct fl_inventory_item *item = &target->item;
    int r = fl_mapper_find(&run->mapper, item->group, item->version, item->kind, ret_gvr, err);

    if (r < 0)
        return r;
    target->mapped = true;
    if (!ret_gvr->namespaced)
        item->ns = "";
    return take_key(run, target, err);
}

static const char *version_of(const json_t *object)
{
    return fl_str_or(fl_json_str(object, "metadata.resourceVersion"), "");
}

static void count_applied(struct fl_applyset_result *result, const json_t *live,
                          const json_t *applied)
{
    if (!live)
        result->created++;
    else if (strcmp(version_of(live), version_of(applied)) == 0)
        result->unchanged++;
    else
        result->changed++;
}

/* Another than this source that declares fields of the object itself by applying them. */
static bool is_other_applier(const struct run *run, const json_t *entry)
{
    return fl_streq(fl_json_str(entry, "operation"), "Apply") &&
           !fl_streq(fl_json_str(entry, "manager"), run->options->manager) &&
           !fl_json_str(entry, "subresource");
}

static bool has_other_appliers(const struct run *run, const json_t *live)
{
    size_t i;
    const json_t *entry;

    json_array_foreach(fl_json_path(live, "metadata.managedFields"), i, entry)
        if (is_other_applier(run, entry))
            return true;
    return false;
}

/* This source has applied it, also where the mark was taken off by hand, or all was replaced. */
static bool is_ours(const struct run *run, const char *key, const json_t *live)
{
    const char *mark = live ? annotation_of(live, FL_ANNOTATION_SOURCE) : NULL;

    if (!live || (mark && strcmp(mark, run->options->source) != 0))
        return false;
    return is_owned(run, live) || fl_applyset_memo_made(run->options->memo, key, live);
}

/* Somebody may write between reading and writing on the server's side; that is no conflict of
 * fields, and over in a moment. */
#define STALE_TRIES 3

static int send_as(struct run *run, const struct fl_gvr *gvr, const json_t *config,
                   const struct fl_apply_options *options, json_t **ret_applied,
                   struct fl_error *err)
{
    int r = 0;

    for (int i = 0; i < STALE_TRIES; i++) {
        r = fl_apiclient_apply(run->options->client, gvr, config, options, ret_applied, err);
        if (r != FL_E_CONFLICT || strstr(err->msg, "Apply failed"))
            break;
    }
    return r;
}

static bool has_entry(const json_t *object, const json_t *wanted)
{
    static const char *const keys[] = {"manager", "operation", "apiVersion", "fieldsV1"};
    size_t i, same;
    const json_t *entry;

    json_array_foreach(fl_json_path(object, "metadata.managedFields"), i, entry) {
        for (same = 0; same < FL_COUNT_OF(keys); same++)
            if (!json_equal(json_object_get(entry, keys[same]),
                            json_object_get(wanted, keys[same])))
                break;
        if (same == FL_COUNT_OF(keys) && !fl_json_str(entry, "subresource"))
            return true;
    }
    return false;
}

/* Whether to force it would take a field from nobody who has applied it: it is tried. */
static bool robs_no_applier(struct run *run, const struct fl_gvr *gvr, const json_t *config,
                            const json_t *live)
{
    const struct fl_apply_options options = {run->options->manager, true, true};
    FL_JSON tried = NULL;
    struct fl_error err = {0};
    size_t i;
    const json_t *entry;

    if (send_as(run, gvr, config, &options, &tried, &err) < 0)
        return false;
    json_array_foreach(fl_json_path(live, "metadata.managedFields"), i, entry)
        if (is_other_applier(run, entry) && !has_entry(tried, entry))
            return false;
    return true;
}

/* Somebody changed by hand (or by a program that updates) what this source has applied: that is
 * drift, and what keeping it right is for. A field that another applier has declared is another
 * matter. */
static int send_config(struct run *run, const struct fl_gvr *gvr, const char *key,
                       const json_t *config, const json_t *live, bool dry_run, json_t **ret_applied,
                       struct fl_error *err)
{
    const bool ours = is_ours(run, key, live);
    struct fl_apply_options options = {
        run->options->manager, run->options->force || (ours && !has_other_appliers(run, live)),
        dry_run};
    int r = send_as(run, gvr, config, &options, ret_applied, err);

    if (r != FL_E_CONFLICT || options.force || !ours || !robs_no_applier(run, gvr, config, live))
        return r;
    options.force = true;
    return send_as(run, gvr, config, &options, ret_applied, err);
}

/* A definition that changes says that its objects cannot be judged by a dry run. */
static void note_definition(struct run *run, const struct target *target, const json_t *live,
                            const json_t *applied)
{
    const json_t *object = target->manifest->object;

    if (strcmp(target->item.kind, "CustomResourceDefinition") == 0 && live &&
        json_equal(json_object_get(live, "spec"), json_object_get(applied, "spec")))
        (void)fl_map_remove(run->brought,
                            fl_arena_printf(run->arena, "CustomResourceDefinition/%s/%s",
                                            fl_str_or(fl_json_str(object, "spec.group"), ""),
                                            fl_str_or(fl_json_str(object, "spec.names.kind"), "")));
}

/* The server quotes what it refuses, and a Secret's values are for nobody who reads a status. */
static int hide_values(const struct target *target, struct fl_error *err)
{
    bool is_plain = err->code == FL_E_FORBIDDEN || err->code == FL_E_NOT_FOUND ||
                    fl_error_is_retryable(err->code);

    if (!is_secret(target) || (is_plain && err->code != FL_E_INTERNAL))
        return err->code;
    return fl_error_set(err, err->code,
                        "is refused (%s); the API's words are not shown, since they may quote a "
                        "value",
                        fl_error_reason(err->code));
}

static int write_target(struct run *run, struct target *target, const struct fl_gvr *gvr,
                        bool dry_run, struct fl_error *err)
{
    struct fl_applyset_memo *memo = run->options->memo;
    const char *key = key_of(run, &target->item);
    FL_JSON config = NULL;
    FL_JSON live = NULL;
    FL_JSON applied = NULL;
    int r = make_config(run, target, &config, err);

    if (r == 0)
        r = get_live(run, gvr, &target->item, &live, err);
    if (r == 0 && live)
        r = check_mark(run, &target->item, live, err);
    if (r < 0)
        return r;
    if (fl_json_str(live, "metadata.deletionTimestamp"))
        return fl_error_set(err, FL_E_UNAVAILABLE,
                            "is being deleted; it is made anew once it is gone");
    if (live && fl_applyset_memo_knows(memo, key, config, version_of(live)))
        applied = json_incref(live);
    else
        r = send_config(run, gvr, key, config, live, dry_run, &applied, err);
    if (r < 0)
        return hide_values(target, err);
    if (dry_run) {
        note_definition(run, target, live, applied);
        return 0;
    }
    fl_applyset_memo_note(memo, key, config, applied);
    count_applied(run->result, live, applied);
    return 0;
}

/* What the set itself may bring, or a moment's trouble. */
static bool is_worth_another_round(int code)
{
    return code == FL_E_NOT_FOUND || (code != FL_E_CONFLICT && fl_error_is_retryable(code));
}

static const char *say(struct run *run, const struct fl_error *err)
{
    const char *hint = run->options->forbidden_hint;

    if (err->code == FL_E_FORBIDDEN && hint)
        return fl_arena_printf(run->arena, "%s; %s", err->msg, hint);
    return fl_arena_strdup(run->arena, err->msg);
}

static void fail(struct run *run, struct target *target, const struct fl_error *err)
{
    target->progress = FAILED;
    target->again = is_worth_another_round(err->code);
    target->message = say(run, err);
}

static void apply_target(struct run *run, struct target *target)
{
    struct fl_error err = {0};
    struct fl_gvr gvr;
    int r = map_target(run, target, &gvr, &err);

    if (r == 0)
        r = write_target(run, target, &gvr, false, &err);
    if (r < 0)
        fail(run, target, &err);
    else
        target->progress = DONE;
}

/* Returns how many more are done. */
static size_t apply_round(struct run *run)
{
    size_t done = 0;

    for (size_t i = 0; i < run->count && !is_over(run); i++) {
        struct target *target = &run->targets[i];

        if (target->progress == DONE || (target->progress == FAILED && !target->again))
            continue;
        apply_target(run, target);
        done += target->progress == DONE;
    }
    return done;
}

static bool has_another_chance(const struct run *run)
{
    for (size_t i = 0; i < run->count; i++)
        if (run->targets[i].progress == FAILED && run->targets[i].again)
            return true;
    return false;
}

static void apply_all(struct run *run)
{
    while (apply_round(run) > 0 && has_another_chance(run) && !is_over(run))
        fl_mapper_refresh(&run->mapper);
}

/* The dry run */

static bool brings(const struct run *run, const char *key)
{
    return fl_map_get(run->brought, key) != NULL;
}

static bool is_binding(const struct target *target)
{
    return strcmp(target->item.kind, "RoleBinding") == 0 ||
           strcmp(target->item.kind, "ClusterRoleBinding") == 0;
}

static bool has_own_definition(struct run *run, const struct target *target)
{
    return brings(run, fl_arena_printf(run->arena, "CustomResourceDefinition/%s/%s",
                                       target->item.group, target->item.kind));
}

static bool needs_the_set(struct run *run, const struct target *target, const struct fl_error *err)
{
    if (err->code != FL_E_NOT_FOUND)
        return false;
    return is_binding(target) ||
           brings(run, fl_arena_printf(run->arena, "Namespace/%s", target->item.ns));
}

static void try_target(struct run *run, struct target *target)
{
    struct fl_error err = {0};
    struct fl_gvr gvr;
    int r;

    if (has_own_definition(run, target))
        return;
    r = map_target(run, target, &gvr, &err);
    if (r == 0)
        r = write_target(run, target, &gvr, true, &err);
    if (r < 0 && !needs_the_set(run, target, &err))
        fail(run, target, &err);
}

static bool try_all(struct run *run)
{
    bool good = run->manifests->fault_count == 0;

    for (size_t i = 0; i < run->count && !is_over(run); i++) {
        try_target(run, &run->targets[i]);
        good = good && run->targets[i].progress != FAILED;
    }
    return good && !run->result->out_of_time;
}

/* Pruning */

enum verdict { GONE, LET_GO, PRUNE, STAYS };

static enum verdict judge(const struct run *run, const json_t *live)
{
    if (!live || fl_json_str(live, "metadata.deletionTimestamp"))
        return GONE;
    if (!fl_streq(annotation_of(live, FL_ANNOTATION_SOURCE), run->options->source) ||
        !is_owned(run, live))
        return LET_GO;
    return fl_streq(annotation_of(live, FL_ANNOTATION_PRUNE), "disabled") ? LET_GO : PRUNE;
}

/* What this source may not even read: whether there is anything to prune. */
static bool is_prunable(const struct run *run, const struct fl_gvr *gvr,
                        const struct fl_inventory_item *item)
{
    FL_JSON live = NULL;

    return !run->options->witness || get_with(run->options->witness, gvr, item, &live, NULL) < 0 ||
           judge(run, live) == PRUNE;
}

static int prune_live(struct run *run, const struct fl_gvr *gvr,
                      const struct fl_inventory_item *item, struct fl_error *err)
{
    FL_JSON live = NULL;
    int r = get_live(run, gvr, item, &live, err);

    if (r < 0 || judge(run, live) != PRUNE)
        return r;
    r = fl_apiclient_delete(run->options->client, gvr, ns_or_null(item), item->name,
                            fl_json_str(live, "metadata.uid"), err);
    if (r == 0)
        run->result->pruned++;
    return r;
}

/* Objects end with their kind; but one that is not served for a moment has not ended. */
static int check_kind_gone(struct run *run, const struct fl_inventory_item *item,
                           struct fl_error *err)
{
    int r = fl_mapper_is_defined(&run->mapper, run->options->witness, item->group, item->kind, err);

    if (r > 0)
        r = fl_error_set(err, FL_E_UNAVAILABLE, "the API defines kind %s, but does not serve it",
                         item->kind);
    return r;
}

static int prune_item(struct run *run, struct fl_inventory_item *item, struct fl_error *err)
{
    struct fl_gvr gvr;
    int r = fl_mapper_find_any(&run->mapper, item->group, item->version, item->kind, &gvr, err);

    if (r == FL_E_NOT_FOUND)
        return check_kind_gone(run, item, err);
    if (r < 0)
        return r;
    if (!gvr.namespaced)
        item->ns = "";
    r = prune_live(run, &gvr, item, err);
    return r == FL_E_FORBIDDEN && !is_prunable(run, &gvr, item) ? 0 : r;
}

static void add_fault(struct run *run, struct fl_fault fault)
{
    run->result->faults[run->result->fault_count++] = fault;
}

static void prune_or_keep(struct run *run, struct fl_inventory_item *item, bool *ret_stays)
{
    struct fl_error err = {0};

    *ret_stays = true;
    if (is_over(run))
        return;
    if (prune_item(run, item, &err) == 0) {
        fl_applyset_memo_forget(run->options->memo, key_of(run, item));
        *ret_stays = false;
        return;
    }
    run->result->prune_failed = true;
    add_fault(run,
              (struct fl_fault){
                  .object = fl_arena_printf(run->arena, "%s/%s", item->kind, item->name),
                  .message = fl_arena_printf(run->arena, "cannot be pruned: %s", say(run, &err)),
              });
}

struct leftover {
    struct fl_inventory_item item;
    int rank;
    size_t index;
    bool stays;
};

/* The other way round: what acts on others goes first, and namespaces last. */
static int compare_leftovers(const void *a, const void *b)
{
    const struct leftover *left = a, *right = b;

    if (left->rank != right->rank)
        return left->rank > right->rank ? -1 : 1;
    return left->index > right->index ? -1 : left->index < right->index;
}

static int compare_indexes(const void *a, const void *b)
{
    const struct leftover *left = a, *right = b;

    return left->index < right->index ? -1 : left->index > right->index;
}

/* By the namespace it has, by the one it would have (an inventory that was planned before its kind
 * was known has that), and by none: that is how a cluster-scoped one is remembered, also when the
 * API cannot be asked just now whether it is one. */
static struct fl_map *wanted_keys(struct run *run)
{
    struct fl_map *wanted = fl_map_create(NULL);

    for (size_t i = 0; i < run->count; i++) {
        const struct fl_inventory_item *item = &run->targets[i].item;
        const char *named = run->targets[i].manifest->ns;
        const char *places[] = {item->ns, *named ? named : run->options->ns, ""};

        for (size_t p = 0; p < FL_COUNT_OF(places); p++)
            fl_map_put(wanted,
                       fl_inventory_key(run->arena, item->group, item->kind, places[p], item->name),
                       run);
    }
    return wanted;
}

static struct leftover *find_leftovers(struct run *run, const struct fl_inventory *inventory,
                                       size_t *ret_count)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *wanted = wanted_keys(run);
    struct leftover *leftovers = fl_new_array(run->arena, struct leftover, inventory->count);
    size_t count = 0;

    for (size_t i = 0; i < inventory->count; i++) {
        const struct fl_inventory_item *item = &inventory->items[i];

        if (!fl_map_get(wanted, key_of(run, item)))
            leftovers[count++] = (struct leftover){
                .item = *item,
                .rank = fl_apply_rank(item->group, item->kind),
                .index = i,
                .stays = true,
            };
    }
    *ret_count = count;
    return leftovers;
}

/* What goes takes along all that is in it, or is of it. */
static bool takes_others_along(const struct fl_inventory_item *item)
{
    return strcmp(item->kind, "CustomResourceDefinition") == 0 ||
           (!*item->group && strcmp(item->kind, "Namespace") == 0);
}

static bool is_in(struct run *run, const struct fl_inventory_item *item,
                  const struct fl_inventory_item *of)
{
    struct fl_gvr gvr;

    if (strcmp(of->kind, "Namespace") == 0)
        return strcmp(item->ns, of->name) == 0;
    return *item->group &&
           fl_mapper_find(&run->mapper, item->group, item->version, item->kind, &gvr, NULL) == 0 &&
           strcmp(of->name, fl_arena_printf(run->arena, "%s.%s", gvr.plural, gvr.group)) == 0;
}

/* Something of the set is in it: to delete it would be to undo what was applied. */
static const struct target *find_user(struct run *run, const struct fl_inventory_item *item)
{
    if (takes_others_along(item))
        for (size_t i = 0; i < run->count; i++)
            if (is_in(run, &run->targets[i].item, item))
                return &run->targets[i];
    return NULL;
}

static void report_used(struct run *run, const struct fl_inventory_item *item,
                        const struct target *by)
{
    run->result->prune_failed = true;
    add_fault(run, (struct fl_fault){
                       .file = by->manifest->file,
                       .line = by->manifest->line,
                       .object = fl_arena_printf(run->arena, "%s/%s", item->kind, item->name),
                       .message = fl_arena_printf(run->arena,
                                                  "has left the set, and is not pruned as long as "
                                                  "%s/%s needs it",
                                                  by->item.kind, by->item.name)});
}

static bool is_held_back(struct run *run, const struct fl_inventory_item *item)
{
    const struct target *by;

    if (fl_manifests_may_want(run->manifests, item->file, item->name) ||
        (run->manifests->incomplete && takes_others_along(item)))
        return true;
    by = find_user(run, item);
    if (by)
        report_used(run, item, by);
    return by != NULL;
}

/* All was read, and yet it may not be what is wanted. */
static void report_hold(struct run *run, size_t count)
{
    run->result->prune_failed = true;
    add_fault(run, (struct fl_fault){.message = fl_arena_printf(run->arena,
                                                                "%zu objects are not pruned: %s",
                                                                count, run->manifests->hold)});
}

static void prune_all(struct run *run, struct leftover *leftovers, size_t count)
{
    if (count == 0 || !run->options->prune)
        return;
    if (run->manifests->hold) {
        report_hold(run, count);
        return;
    }
    qsort(leftovers, count, sizeof(*leftovers), compare_leftovers);
    for (size_t i = 0; i < count; i++)
        if (!is_held_back(run, &leftovers[i].item))
            prune_or_keep(run, &leftovers[i].item, &leftovers[i].stays);
    qsort(leftovers, count, sizeof(*leftovers), compare_indexes);
}

/* The report */

static bool has_all_applied(const struct run *run)
{
    return run->options->part == FL_APPLYSET_WHOLE && !run->result->refused;
}

static int compare_by_index(const void *a, const void *b)
{
    const struct target *left = a, *right = b;

    return left->index < right->index ? -1 : left->index > right->index;
}

/* In the order of the files, so that the same set is told the same way. */
static void report_targets(struct run *run)
{
    if (run->count)
        qsort(run->targets, run->count, sizeof(*run->targets), compare_by_index);
    for (size_t i = 0; i < run->count; i++) {
        const struct target *target = &run->targets[i];

        if (target->progress == FAILED || (target->progress == TO_DO && has_all_applied(run)))
            run->result->failed++;
        if (target->progress == FAILED)
            add_fault(run, (struct fl_fault){
                               .file = target->manifest->file,
                               .line = target->manifest->line,
                               .object = fl_arena_printf(run->arena, "%s/%s", target->item.kind,
                                                         target->item.name),
                               .message = target->message,
                           });
    }
}

static void report_time(struct run *run)
{
    if (run->result->out_of_time)
        add_fault(run, (struct fl_fault){
                           .message = "the time allowed was over before all of it was looked at"});
}

/* The set, and what is left besides. */
static void remember_set(struct run *run, const struct leftover *leftovers, size_t leftover_count)
{
    struct fl_inventory *inventory = &run->result->inventory;

    inventory->items =
        fl_new_array(run->arena, struct fl_inventory_item, run->count + leftover_count);
    for (size_t i = 0; i < run->count; i++)
        if (!run->targets[i].doubled)
            inventory->items[inventory->count++] = run->targets[i].item;
    for (size_t i = 0; i < leftover_count; i++)
        if (leftovers[i].stays)
            inventory->items[inventory->count++] = leftovers[i].item;
    fl_inventory_fit(inventory);
}

/* As it was, less what has gone. */
static void remember_rest(struct run *run, const struct fl_inventory *inventory,
                          const struct leftover *leftovers, size_t leftover_count)
{
    struct fl_inventory *rest = &run->result->inventory;
    size_t next = 0;

    rest->items = fl_new_array(run->arena, struct fl_inventory_item, inventory->count);
    for (size_t i = 0; i < inventory->count; i++) {
        bool is_leftover = next < leftover_count && leftovers[next].index == i;

        if (!is_leftover || leftovers[next].stays)
            rest->items[rest->count++] = inventory->items[i];
        next += is_leftover;
    }
}

static void begin(struct run *run, const struct fl_inventory *inventory)
{
    const struct fl_manifests *manifests = run->manifests;
    struct fl_applyset_result *result = run->result;

    fl_mapper_init(&run->mapper, run->options->client, run->arena);
    run->brought = fl_map_create(NULL);
    run->taken = fl_map_create(NULL);
    make_targets(run);
    result->total = manifests->count;
    result->faults = fl_new_array(run->arena, struct fl_fault,
                                  manifests->fault_count + manifests->count + inventory->count + 1);
    for (size_t i = 0; i < manifests->fault_count; i++)
        add_fault(run, manifests->faults[i]);
    result->failed = manifests->fault_count;
}

static void finish(struct run *run)
{
    fl_map_destroy(run->brought);
    fl_map_destroy(run->taken);
    fl_mapper_finish(&run->mapper);
}

static void prune_and_remember(struct run *run, const struct fl_inventory *inventory)
{
    size_t count;
    struct leftover *leftovers = find_leftovers(run, inventory, &count);

    if (run->options->part != FL_APPLYSET_TRY && !run->result->refused)
        prune_all(run, leftovers, count);
    if (has_all_applied(run))
        remember_set(run, leftovers, count);
    else
        remember_rest(run, inventory, leftovers, count);
}

void fl_applyset_apply(const struct fl_applyset_options *options,
                       const struct fl_manifests *manifests, const struct fl_inventory *inventory,
                       struct fl_arena *arena, struct fl_applyset_result *ret_result)
{
    struct run run = {
        .options = options, .manifests = manifests, .arena = arena, .result = ret_result};

    *ret_result = (struct fl_applyset_result){0};
    begin(&run, inventory);
    if (options->all_or_nothing && options->part != FL_APPLYSET_PRUNE)
        ret_result->refused = !try_all(&run);
    if (has_all_applied(&run))
        apply_all(&run);
    report_targets(&run);
    prune_and_remember(&run, inventory);
    report_time(&run);
    ret_result->complete = has_all_applied(&run) && ret_result->failed == 0 &&
                           !ret_result->prune_failed && !ret_result->out_of_time;
    finish(&run);
}
