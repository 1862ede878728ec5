#include "controller/source/applyset_internal.h"

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
                     *manifest->ns ? manifest->ns : run->options->ns, manifest->name},
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

static bool has_sealed_value(const json_t *values)
{
    const char *key;
    const json_t *value;

    json_object_foreach((json_t *)values, key, value)
        if (json_is_string(value) &&
            fl_str_has_prefix(json_string_value(value), "flops-sealed-v1:"))
            return true;
    return false;
}

static int open_secret(struct run *run, const struct target *target, json_t *config,
                       struct fl_error *err)
{
    const struct fl_applyset_options *options = run->options;

    if (!is_secret(target) || !(has_sealed_value(json_object_get(config, "stringData")) ||
                                has_sealed_value(json_object_get(config, "data"))))
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
    return 0;
}

static const char *key_of(struct run *run, const struct fl_inventory_item *item)
{
    return fl_inventory_key(run->arena, item->group, item->kind, item->ns, item->name);
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

/* Somebody changed by hand (or by a program that updates) what this source has applied: that is
 * what keeping it right is for. A field that another applier has declared is another matter. */
static bool is_drift(const struct run *run, const json_t *live)
{
    const char *mark = live ? annotation_of(live, FL_ANNOTATION_SOURCE) : NULL;
    size_t i;
    const json_t *entry;

    if (!fl_streq(mark, run->options->source) || !is_owned(run, live))
        return false;
    json_array_foreach(fl_json_path(live, "metadata.managedFields"), i, entry)
        if (fl_streq(fl_json_str(entry, "operation"), "Apply") &&
            !fl_streq(fl_json_str(entry, "manager"), run->options->manager))
            return false;
    return true;
}

/* Somebody may write between reading and writing on the server's side; that is no conflict of
 * fields, and over in a moment. */
#define STALE_TRIES 3

static int send_config(struct run *run, const struct fl_gvr *gvr, const json_t *config,
                       const json_t *live, bool dry_run, json_t **ret_applied, struct fl_error *err)
{
    const struct fl_apply_options options = {run->options->manager,
                                             run->options->force || is_drift(run, live), dry_run};
    int r = 0;

    for (int i = 0; i < STALE_TRIES; i++) {
        r = fl_apiclient_apply(run->options->client, gvr, config, &options, ret_applied, err);
        if (r != FL_E_CONFLICT || strstr(err->msg, "Apply failed"))
            break;
    }
    return r;
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
        r = send_config(run, gvr, config, live, dry_run, &applied, err);
    if (r < 0)
        return hide_values(target, err);
    if (dry_run) {
        note_definition(run, target, live, applied);
        return 0;
    }
    fl_applyset_memo_note(memo, key, config, version_of(applied));
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

static int prune_item(struct run *run, struct fl_inventory_item *item, struct fl_error *err)
{
    struct fl_gvr gvr;
    int r = fl_mapper_find_any(&run->mapper, item->group, item->version, item->kind, &gvr, err);

    if (r == FL_E_NOT_FOUND)
        return 0; /* objects end with their kind */
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

/* By the namespace it has and by the one it would have: an inventory that was planned before its
 * kind was known has the second. */
static struct fl_map *wanted_keys(struct run *run)
{
    struct fl_map *wanted = fl_map_create(NULL);

    for (size_t i = 0; i < run->count; i++) {
        const struct fl_inventory_item *item = &run->targets[i].item;
        const char *ns = run->targets[i].manifest->ns;

        fl_map_put(wanted, key_of(run, item), run);
        fl_map_put(wanted,
                   fl_inventory_key(run->arena, item->group, item->kind,
                                    *ns ? ns : run->options->ns, item->name),
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

static void prune_all(struct run *run, struct leftover *leftovers, size_t count)
{
    if (count == 0 || !run->options->prune || run->manifests->incomplete)
        return;
    qsort(leftovers, count, sizeof(*leftovers), compare_leftovers);
    for (size_t i = 0; i < count; i++)
        prune_or_keep(run, &leftovers[i].item, &leftovers[i].stays);
    qsort(leftovers, count, sizeof(*leftovers), compare_indexes);
}

/* The report */

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

        if (target->progress == FAILED || (target->progress == TO_DO && !run->result->refused))
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

static void remember(struct run *run, const struct leftover *leftovers, size_t leftover_count)
{
    struct fl_inventory *inventory = &run->result->inventory;

    inventory->items =
        fl_new_array(run->arena, struct fl_inventory_item, run->count + leftover_count);
    for (size_t i = 0; i < run->count; i++)
        inventory->items[inventory->count++] = run->targets[i].item;
    for (size_t i = 0; i < leftover_count; i++)
        if (leftovers[i].stays)
            inventory->items[inventory->count++] = leftovers[i].item;
}

static void begin(struct run *run, const struct fl_inventory *inventory)
{
    const struct fl_manifests *manifests = run->manifests;
    struct fl_applyset_result *result = run->result;

    fl_mapper_init(&run->mapper, run->options->client, run->arena);
    run->brought = fl_map_create(NULL);
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
    fl_mapper_finish(&run->mapper);
}

void fl_applyset_apply(const struct fl_applyset_options *options,
                       const struct fl_manifests *manifests, const struct fl_inventory *inventory,
                       struct fl_arena *arena, struct fl_applyset_result *ret_result)
{
    struct run run = {
        .options = options, .manifests = manifests, .arena = arena, .result = ret_result};
    struct leftover *leftovers;
    size_t leftover_count;

    *ret_result = (struct fl_applyset_result){0};
    begin(&run, inventory);
    ret_result->refused = options->all_or_nothing && !try_all(&run);
    if (!ret_result->refused)
        apply_all(&run);
    leftovers = find_leftovers(&run, inventory, &leftover_count);
    if (!ret_result->refused)
        prune_all(&run, leftovers, leftover_count);
    report_targets(&run);
    report_time(&run);
    remember(&run, leftovers, leftover_count);
    ret_result->complete = !ret_result->refused && ret_result->failed == 0 &&
                           !ret_result->prune_failed && !ret_result->out_of_time;
    finish(&run);
}
