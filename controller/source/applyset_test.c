#include "controller/source/applyset.h"

#include "controller/client/client_testing.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#define MANAGER "flops-gitsync"
#define SOURCE  "default/sync/uid-1"
#define OTHER   "default/other/uid-2"
#define HOUR_MS 3600000

#define WIDGETS_DEFINITION                                                                         \
    "apiVersion: apiextensions.k8s.io/v1\n"                                                        \
    "kind: CustomResourceDefinition\n"                                                             \
    "metadata: {name: widgets.test.dev}\n"                                                         \
    "spec:\n"                                                                                      \
    "  group: test.dev\n"                                                                          \
    "  scope: Namespaced\n"                                                                        \
    "  names: {plural: widgets, kind: Widget}\n"                                                   \
    "  versions:\n"                                                                                \
    "  - name: v1\n"                                                                               \
    "    served: true\n"                                                                           \
    "    storage: true\n"                                                                          \
    "    schema:\n"                                                                                \
    "      openAPIV3Schema:\n"                                                                     \
    "        type: object\n"                                                                       \
    "        properties:\n"                                                                        \
    "          spec: {type: object, properties: {size: {type: integer, minimum: 0}}}\n"

/* A world with one source's past. */
struct world {
    struct fl_plane *plane;
    struct fl_client_faults faults;
    struct fl_apiclient *client; /* may fail */
    struct fl_arena *arena;
    struct fl_applyset_options options;
    struct fl_inventory inventory;
    struct fl_applyset_result result;
    const char *held_by; /* the mark of another source that holds all it is asked for */
};

static const struct fl_gvr widgets = {"test.dev", "v1", "widgets", true};
static const struct fl_gvr configmaps = {"", "v1", "configmaps", true};
static const struct fl_gvr namespaces = {"", "v1", "namespaces", false};
static const struct fl_gvr secrets = {"", "v1", "secrets", true};

static bool is_held(void *user, const char *source, const struct fl_inventory_item *item)
{
    (void)item;
    return fl_streq(((struct world *)user)->held_by, source);
}

static int setup(void **state)
{
    struct world *w = fl_calloc(1, sizeof(*w));
    struct fl_error err = {0};

    if (fl_plane_create(&(struct fl_plane_options){.simulated = true, .seed = 3}, &w->plane, &err) <
        0)
        fail_msg("%s", err.msg);
    w->client = fl_apiclient_create_faulty(&w->plane->env, w->plane->client, &w->faults);
    w->arena = fl_arena_create();
    w->options = (struct fl_applyset_options){
        .env = &w->plane->env,
        .client = w->client,
        .manager = MANAGER,
        .source = SOURCE,
        .ns = "default",
        .prune = true,
        .deadline_ms = HOUR_MS,
        .is_held = is_held,
        .user = w,
    };
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    fl_applyset_memo_destroy(w->options.memo);
    fl_arena_destroy(w->arena);
    fl_apiclient_destroy(w->client);
    fl_plane_destroy(w->plane);
    free(w);
    return 0;
}

static void sync_snapshot(struct world *w, const struct fl_snapshot *snapshot)
{
    struct fl_manifests manifests;
    struct fl_error err = {0};

    fl_manifests_read(snapshot, w->arena, &manifests);
    if (fl_applyset_plan(&manifests, &w->inventory, w->options.ns, w->arena, &w->inventory, &err) <
        0)
        fail_msg("%s", err.msg);
    w->options.deadline_ms = fl_monotonic_ms(&w->plane->env) + HOUR_MS;
    fl_applyset_apply(&w->options, &manifests, &w->inventory, w->arena, &w->result);
    w->inventory = w->result.inventory;
}

/* Applying what a.yaml and b.yaml say; NULL: there is none. */
static void sync_files(struct world *w, const char *a, const char *b)
{
    const char *const texts[] = {a, b}, *const paths[] = {"a.yaml", "b.yaml"};
    struct fl_source_file *files = fl_new_array(w->arena, struct fl_source_file, 2);
    struct fl_snapshot snapshot = {.files = files};

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        if (texts[i])
            files[snapshot.file_count++] = (struct fl_source_file){
                .path = paths[i], .data = texts[i], .len = strlen(texts[i])};
    sync_snapshot(w, &snapshot);
}

static void sync_file(struct world *w, const char *text)
{
    sync_files(w, text, NULL);
}

static const char *counts(const struct world *w)
{
    const struct fl_applyset_result *r = &w->result;

    return fl_arena_printf(w->arena, "%zu: +%zu ~%zu =%zu -%zu !%zu", r->total, r->created,
                           r->changed, r->unchanged, r->pruned, r->failed);
}

static const char *faults(const struct world *w)
{
    const char *text = "";

    for (size_t i = 0; i < w->result.fault_count; i++) {
        const struct fl_fault *fault = &w->result.faults[i];

        text = fl_arena_printf(w->arena, "%s%s:%zu %s: %s\n", text, fl_str_or(fault->file, "-"),
                               fault->line, fl_str_or(fault->object, "-"), fault->message);
    }
    return text;
}

static void expect_counts(const struct world *w, const char *wanted)
{
    if (strcmp(counts(w), wanted) != 0)
        fail_msg("%s instead of %s\n%s", counts(w), wanted, faults(w));
}

static void expect_fault(const struct world *w, const char *words)
{
    if (!strstr(faults(w), words))
        fail_msg("\"%s\" is not in: %s", words, faults(w));
}

static const char *inventory(const struct world *w)
{
    const char *text = "";

    for (size_t i = 0; i < w->inventory.count; i++) {
        const struct fl_inventory_item *item = &w->inventory.items[i];

        text = fl_arena_printf(w->arena, "%s%s%s/%s/%s", text, *text ? " " : "", item->kind,
                               item->ns, item->name);
    }
    return text;
}

/* What is there; NULL: nothing. */
static json_t *get(struct world *w, const struct fl_gvr *gvr, const char *name)
{
    json_t *object = NULL;

    if (fl_apiclient_get(w->plane->client, gvr, gvr->namespaced ? "default" : NULL, name, &object,
                         NULL) < 0)
        return NULL;
    return fl_json_in_arena(w->arena, object);
}

static const char *value_of(struct world *w, const char *name)
{
    return fl_json_str(get(w, &configmaps, name), "data.key");
}

static void edit(struct world *w, const struct fl_gvr *gvr, const char *name, const char *patch)
{
    FL_JSON value = NULL;
    struct fl_error err = {0};

    assert_int_equal(fl_json_parse(patch, strlen(patch), NULL, NULL, NULL, &value, NULL), 0);
    if (fl_apiclient_patch(w->plane->client, gvr, gvr->namespaced ? "default" : NULL, name, NULL,
                           value, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void apply_as(struct world *w, const char *manager, bool force, const char *name,
                     const char *value)
{
    const struct fl_apply_options options = {manager, force, false};
    FL_JSON object =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                  "metadata", "name", name, "namespace", "default", "data", "key", value);
    struct fl_error err = {0};

    if (fl_apiclient_apply(w->plane->client, &configmaps, object, &options, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

#define CM(name, value)                                                                            \
    "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: " name "}, data: {key: '" value "'}}" \
    "\n"
#define WIDGET(name, size)                                                                         \
    "---\n{apiVersion: test.dev/v1, kind: Widget, metadata: {name: " name "}, spec: {size: " size  \
    "}}\n"

static void test_follows_a_set(void **state)
{
    struct world *w = *state;

    sync_file(w, CM("a", "1") CM("b", "1"));
    expect_counts(w, "2: +2 ~0 =0 -0 !0");
    assert_true(w->result.complete);
    assert_string_equal(value_of(w, "a"), "1");
    assert_string_equal(
        json_string_value(json_object_get(
            fl_json_path(get(w, &configmaps, "a"), "metadata.annotations"), FL_ANNOTATION_SOURCE)),
        SOURCE);
    assert_string_equal(inventory(w), "ConfigMap/default/a ConfigMap/default/b");

    sync_file(w, CM("a", "2") CM("b", "1"));
    expect_counts(w, "2: +0 ~1 =1 -0 !0");
    assert_string_equal(value_of(w, "a"), "2");

    sync_file(w, CM("b", "1") CM("c", "1"));
    expect_counts(w, "2: +1 ~0 =1 -1 !0");
    assert_null(get(w, &configmaps, "a"));
    assert_string_equal(inventory(w), "ConfigMap/default/b ConfigMap/default/c");

    sync_file(w, "");
    expect_counts(w, "0: +0 ~0 =0 -2 !0");
    assert_true(w->result.complete);
    assert_null(get(w, &configmaps, "b"));
    assert_int_equal(w->inventory.count, 0);
}

static void test_corrects_drift_and_writes_nothing_where_there_is_none(void **state)
{
    struct world *w = *state;
    uint64_t revision;

    for (int with_memo = 0; with_memo <= 1; with_memo++) {
        if (with_memo)
            w->options.memo = fl_applyset_memo_create();
        sync_file(w, CM("a", "1") CM("b", "1"));
        revision = fl_store_revision(w->plane->store);
        sync_file(w, CM("a", "1") CM("b", "1"));
        expect_counts(w, "2: +0 ~0 =2 -0 !0");
        assert_int_equal(fl_store_revision(w->plane->store), revision);

        edit(w, &configmaps, "a", "{\"data\":{\"key\":\"drifted\"}}");
        sync_file(w, CM("a", "1") CM("b", "1"));
        expect_counts(w, "2: +0 ~1 =1 -0 !0");
        assert_string_equal(value_of(w, "a"), "1");

        assert_int_equal(
            fl_apiclient_delete(w->plane->client, &configmaps, "default", "b", NULL, NULL), 0);
        sync_file(w, CM("a", "1") CM("b", "1"));
        expect_counts(w, "2: +1 ~0 =1 -0 !0");
    }
}

/* The memo must not hide a change of what is wanted. */
static void test_memo_knows_contents(void **state)
{
    struct world *w = *state;

    w->options.memo = fl_applyset_memo_create();
    sync_file(w, CM("a", "1"));
    sync_file(w, CM("a", "2"));
    expect_counts(w, "1: +0 ~1 =0 -0 !0");
    assert_string_equal(value_of(w, "a"), "2");
    sync_file(w, CM("a", "1"));
    expect_counts(w, "1: +0 ~1 =0 -0 !0");
    sync_file(w, "");
    sync_file(w, CM("a", "1"));
    expect_counts(w, "1: +1 ~0 =0 -0 !0");
}

/* Named and implied are one namespace, and where a kind has none what is named does not count. To
 * apply both would write for ever. */
static void test_one_object_twice(void **state)
{
    static const char twice[] = CM(
        "a", "1") "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: "
                  "default}, data: {key: '2'}}\n"
                  "---\n{apiVersion: v1, kind: Namespace, metadata: {name: one}}\n"
                  "---\n{apiVersion: v1, kind: Namespace, metadata: {name: one, namespace: x}}\n";
    struct world *w = *state;
    uint64_t revision;

    sync_file(w, twice);
    expect_counts(w, "4: +2 ~0 =0 -0 !2");
    expect_fault(w, "a.yaml:4 ConfigMap/a: is in a.yaml, line 2, already");
    expect_fault(w, "a.yaml:8 Namespace/one: is in a.yaml, line 6, already");
    assert_string_equal(inventory(w), "ConfigMap/default/a Namespace//one");
    revision = fl_store_revision(w->plane->store);
    sync_file(w, twice);
    expect_counts(w, "4: +0 ~0 =2 -0 !2");
    assert_int_equal(fl_store_revision(w->plane->store), revision);
    assert_string_equal(value_of(w, "a"), "1");
}

/* What was found to be of the whole cluster is remembered so, and nothing is to be recorded anew.
 */
static void test_plan_knows_cluster_scoped_ones_again(void **state)
{
    struct world *w = *state;
    struct fl_manifest items[] = {
        {.group = "", .version = "v1", .kind = "Namespace", .ns = "", .name = "a"},
        {.group = "", .version = "v1", .kind = "Namespace", .ns = "x", .name = "b"}};
    struct fl_manifests manifests = {.items = items, .count = 2};
    struct fl_inventory_item old[] = {
        {.group = "", .version = "v1", .kind = "Namespace", .ns = "", .name = "a"},
        {.group = "", .version = "v1", .kind = "Namespace", .ns = "", .name = "b"}};
    struct fl_inventory had = {old, 2}, plan = {0};
    struct fl_error err = {0};

    assert_int_equal(fl_applyset_plan(&manifests, &had, "default", w->arena, &plan, &err), 0);
    assert_int_equal(plan.count, 2);
    assert_true(fl_inventory_covers(&had, &plan));
}

/* In one file in the worst order: each needs the one behind it. */
static const char in_dependency[] = WIDGET("w", "1") //
    "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: made}}\n"
    "---\n{apiVersion: v1, kind: Namespace, metadata: {name: made}}\n"
    "---\n" WIDGETS_DEFINITION;

static void test_orders_by_dependency(void **state)
{
    struct world *w = *state;

    sync_file(w, in_dependency);
    expect_counts(w, "4: +4 ~0 =0 -0 !0");
    assert_non_null(get(w, &widgets, "w"));
    assert_string_equal(inventory(w), "Widget/default/w ConfigMap/made/c Namespace//made "
                                      "CustomResourceDefinition//widgets.test.dev");
    /* What was planned with a namespace and is found to have none is the same object. */
    sync_file(w, in_dependency);
    expect_counts(w, "4: +0 ~0 =4 -0 !0");
    assert_int_equal(w->inventory.count, 4);

    sync_file(w, "");
    expect_counts(w, "0: +0 ~0 =0 -4 !0");
    assert_true(w->result.complete);
    assert_true(fl_plane_settle(w->plane));
    assert_int_equal(w->inventory.count, 0);
    assert_null(get(w, &widgets, "w"));
}

/* All or nothing has the same set, of which most cannot be dry-run. */
static void test_dry_run_knows_what_the_set_brings(void **state)
{
    struct world *w = *state;

    w->options.all_or_nothing = true;
    sync_file(w, in_dependency);
    expect_counts(w, "4: +4 ~0 =0 -0 !0");
    assert_true(w->result.complete);
    sync_file(w, in_dependency);
    expect_counts(w, "4: +0 ~0 =4 -0 !0");
}

static void test_dry_run_refuses_the_whole(void **state)
{
    struct world *w = *state;

    sync_file(w, WIDGETS_DEFINITION);
    w->options.all_or_nothing = true;
    sync_file(w, WIDGETS_DEFINITION CM("a", "1") WIDGET("w", "-1"));
    assert_true(w->result.refused);
    assert_false(w->result.complete);
    expect_fault(w, "Widget/w: ");
    expect_fault(w, "spec.size");
    assert_null(get(w, &configmaps, "a"));
    assert_int_equal(w->result.failed, 1);

    w->options.all_or_nothing = false;
    sync_file(w, WIDGETS_DEFINITION CM("a", "1") WIDGET("w", "-1"));
    assert_false(w->result.refused);
    expect_counts(w, "3: +1 ~0 =1 -0 !1");
    assert_non_null(get(w, &configmaps, "a"));
}

static void test_broken_file_prunes_nothing(void **state)
{
    struct world *w = *state;

    sync_file(w, CM("a", "1") CM("b", "1"));
    sync_file(w, CM("a", "2") "---\nkind: [\n");
    expect_counts(w, "1: +0 ~1 =0 -0 !1");
    assert_false(w->result.complete);
    expect_fault(w, "a.yaml:5");
    assert_string_equal(value_of(w, "b"), "1");
    assert_string_equal(inventory(w), "ConfigMap/default/a ConfigMap/default/b");

    w->options.all_or_nothing = true;
    sync_file(w, CM("a", "3") "---\nkind: [\n");
    assert_true(w->result.refused);
    assert_string_equal(value_of(w, "a"), "2");
    assert_string_equal(inventory(w), "ConfigMap/default/a ConfigMap/default/b");

    sync_file(w, CM("a", "3"));
    expect_counts(w, "1: +0 ~1 =0 -1 !0");
    assert_null(get(w, &configmaps, "b"));
}

#define BROKEN "---\nkind: [\n"

/* A broken file holds back what was in it and what may have been moved into it, and no more. */
static void test_broken_file_holds_back_its_own(void **state)
{
    struct world *w = *state;

    sync_files(w, CM("alone", "1") CM("moved", "1"), CM("b", "1") CM("c", "1"));
    assert_string_equal(w->inventory.items[1].file, "a.yaml");
    sync_files(w, "", CM("c", "1") BROKEN "# moved: \n");
    expect_counts(w, "1: +0 ~0 =1 -1 !1");
    assert_null(get(w, &configmaps, "alone"));
    assert_non_null(get(w, &configmaps, "moved"));
    assert_non_null(get(w, &configmaps, "b"));
    sync_files(w, "", CM("c", "1") BROKEN "\"\\x6doved\"");
    assert_non_null(get(w, &configmaps, "moved"));
    sync_files(w, "", CM("c", "1") BROKEN);
    assert_null(get(w, &configmaps, "moved"));
    assert_non_null(get(w, &configmaps, "b"));
    sync_files(w, "", NULL);
    assert_true(w->result.complete);
    assert_null(get(w, &configmaps, "b"));
    assert_int_equal(w->inventory.count, 0);
}

/* An inventory of before files were remembered, or one that has no room for them. */
static void test_broken_file_holds_back_what_has_none(void **state)
{
    struct world *w = *state;

    sync_files(w, CM("a", "1"), CM("b", "1"));
    w->inventory.items[0].file = NULL;
    sync_files(w, NULL, BROKEN);
    assert_non_null(get(w, &configmaps, "a"));
    assert_non_null(get(w, &configmaps, "b"));
    sync_files(w, NULL, NULL);
    assert_null(get(w, &configmaps, "a"));
}

#define IN_MADE(name)                                                                              \
    "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: " name ", namespace: made}}\n"
#define MADE "---\n{apiVersion: v1, kind: Namespace, metadata: {name: made}}\n"

/* A namespace and a definition take along what is in them. */
static void test_what_others_need_is_not_pruned(void **state)
{
    struct world *w = *state;

    sync_files(w, MADE "---\n" WIDGETS_DEFINITION, IN_MADE("c") WIDGET("w", "1"));
    assert_true(w->result.complete);
    sync_files(w, "", IN_MADE("c") WIDGET("w", "1"));
    assert_true(w->result.prune_failed);
    expect_fault(w, "b.yaml:2 Namespace/made: has left the set, and is not pruned as long as "
                    "ConfigMap/c needs it");
    expect_fault(w, "CustomResourceDefinition/widgets.test.dev: has left the set");
    assert_non_null(get(w, &widgets, "w"));
    assert_null(fl_json_path(get(w, &namespaces, "made"), "metadata.deletionTimestamp"));

    sync_files(w, "", BROKEN);
    assert_non_null(get(w, &widgets, "w"));
    assert_null(fl_json_path(get(w, &namespaces, "made"), "metadata.deletionTimestamp"));

    sync_files(w, "", "");
    assert_true(w->result.complete);
    assert_true(fl_plane_settle(w->plane));
    assert_null(get(w, &widgets, "w"));
}

/* What was all read, and yet may be nothing but a folder that is not mounted. */
static void test_a_snapshot_may_forbid_pruning(void **state)
{
    const struct fl_snapshot nothing = {.hold = "the folder is empty"};
    struct world *w = *state;

    sync_snapshot(w, &nothing);
    assert_true(w->result.complete);
    sync_file(w, CM("a", "1"));
    sync_snapshot(w, &nothing);
    assert_non_null(get(w, &configmaps, "a"));
    expect_fault(w, "1 objects are not pruned: the folder is empty");
    assert_int_equal(w->inventory.count, 1);
}

static void test_names_who_else_owns_a_field(void **state)
{
    struct world *w = *state;

    apply_as(w, "somebody", false, "a", "theirs");
    sync_file(w, CM("a", "ours") CM("b", "1"));
    expect_counts(w, "2: +1 ~0 =0 -0 !1");
    expect_fault(w, "a.yaml:2 ConfigMap/a: ");
    expect_fault(w, "\"somebody\"");
    assert_string_equal(value_of(w, "a"), "theirs");

    w->options.force = true;
    sync_file(w, CM("a", "ours") CM("b", "1"));
    expect_counts(w, "2: +0 ~1 =1 -0 !0");
    assert_string_equal(value_of(w, "a"), "ours");
}

static void apply_label_as(struct world *w, const char *manager)
{
    const struct fl_apply_options options = {manager, false, false};
    FL_JSON object =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}}", "apiVersion", "v1", "kind", "ConfigMap",
                  "metadata", "name", "a", "namespace", "default", "labels", "team", "red");

    assert_int_equal(
        fl_apiclient_apply(w->plane->client, &configmaps, object, &options, NULL, NULL), 0);
}

/* That another applier has a field of its own in the object makes no edit by hand right. */
static void test_drift_beside_another_applier(void **state)
{
    struct world *w = *state;

    sync_file(w, CM("a", "1"));
    apply_label_as(w, "teams");
    edit(w, &configmaps, "a", "{\"data\":{\"key\":\"by hand\"}}");
    sync_file(w, CM("a", "1"));
    expect_counts(w, "1: +0 ~1 =0 -0 !0");
    assert_string_equal(value_of(w, "a"), "1");
    assert_string_equal(fl_json_str(get(w, &configmaps, "a"), "metadata.labels.team"), "red");

    apply_as(w, "teams", true, "a", "declared");
    sync_file(w, CM("a", "1"));
    expect_counts(w, "1: +0 ~0 =0 -0 !1");
    expect_fault(w, "teams");
    assert_string_equal(value_of(w, "a"), "declared");
}

/* Whoever edits an object by hand may take the mark off with the rest. */
static void test_drift_takes_the_mark_along(void **state)
{
    static const char two[] = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {key: "
                              "'1', other: '1'}}\n";
    struct world *w = *state;

    sync_file(w, two);
    edit(w, &configmaps, "a",
         "{\"metadata\":{\"annotations\":null},\"data\":{\"key\":\"by hand\"}}");
    sync_file(w, two);
    expect_counts(w, "1: +0 ~1 =0 -0 !0");
    assert_string_equal(value_of(w, "a"), "1");
    sync_file(w, "");
    assert_null(get(w, &configmaps, "a"));
}

static void replace_map(struct world *w, const char *name, const char *value)
{
    FL_JSON object = json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "v1", "kind",
                               "ConfigMap", "metadata", "name", name, "data", "key", value);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_json_to_bytes(object);
    const struct fl_api_call call = {
        .method = "PUT",
        .target = fl_arena_printf(w->arena, "/api/v1/namespaces/default/configmaps/%s", name),
        .content_type = "application/json",
        .body = body->data,
        .body_len = body->len};
    struct fl_error err = {0};

    if (fl_apiclient_call(w->plane->client, &call, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

/* The same object with all of it replaced is drift; another object under the name is another's. */
static void test_drift_replaces_all(void **state)
{
    struct world *w = *state;

    w->options.memo = fl_applyset_memo_create();
    sync_file(w, CM("a", "1"));
    replace_map(w, "a", "by hand");
    sync_file(w, CM("a", "1"));
    expect_counts(w, "1: +0 ~1 =0 -0 !0");
    assert_string_equal(value_of(w, "a"), "1");

    assert_int_equal(fl_apiclient_delete(w->plane->client, &configmaps, "default", "a", NULL, NULL),
                     0);
    apply_as(w, "somebody", false, "a", "theirs");
    sync_file(w, CM("a", "1"));
    expect_counts(w, "1: +0 ~0 =0 -0 !1");
    assert_string_equal(value_of(w, "a"), "theirs");
}

static void test_leaves_another_sources_objects(void **state)
{
    struct world *w = *state;

    w->options.source = OTHER;
    sync_file(w, CM("a", "theirs"));
    w->options.source = SOURCE;
    w->inventory = (struct fl_inventory){0};

    w->held_by = OTHER;
    sync_file(w, CM("a", "ours"));
    expect_counts(w, "1: +0 ~0 =0 -0 !1");
    expect_fault(w, "is applied by GitSync default/other already");
    assert_string_equal(value_of(w, "a"), "theirs");

    sync_file(w, ""); /* it is in the inventory by now, and not ours */
    expect_counts(w, "0: +0 ~0 =0 -0 !0");
    assert_string_equal(value_of(w, "a"), "theirs");
    assert_int_equal(w->inventory.count, 0);

    w->held_by = NULL; /* the other one is gone, or has let go of it */
    sync_file(w, CM("a", "ours"));
    expect_counts(w, "1: +0 ~1 =0 -0 !0");
    assert_string_equal(value_of(w, "a"), "ours");
}

static void test_force_takes_over_from_another_source(void **state)
{
    struct world *w = *state;

    w->options.source = OTHER;
    sync_file(w, CM("a", "theirs"));
    w->options.source = SOURCE;
    w->held_by = OTHER;
    w->options.force = true;
    sync_file(w, CM("a", "ours"));
    expect_counts(w, "1: +0 ~1 =0 -0 !0");

    w->options.source = OTHER; /* which now prunes what is not its any more */
    sync_file(w, "");
    expect_counts(w, "0: +0 ~0 =0 -0 !0");
    assert_string_equal(value_of(w, "a"), "ours");
}

/* What stays, though it left the set. */
static void test_prunes_only_what_is_ours(void **state)
{
    static const char *const releases[] = {
        "{\"metadata\":{\"annotations\":{\"flops.dev/prune\":\"disabled\"}}}",
        "{\"metadata\":{\"annotations\":{\"flops.dev/source\":null}}}",
        "{\"metadata\":{\"annotations\":{\"flops.dev/source\":\"" OTHER "\"}}}",
        "{\"metadata\":{\"managedFields\":[{}]}}",
    };
    struct world *w = *state;

    for (size_t i = 0; i < FL_COUNT_OF(releases); i++) {
        w->options.force = true;
        sync_file(w, CM("a", "1"));
        edit(w, &configmaps, "a", releases[i]);
        sync_file(w, "");
        assert_int_equal(w->result.pruned, 0);
        assert_true(w->result.complete);
        assert_int_equal(w->inventory.count, 0);
        assert_non_null(get(w, &configmaps, "a"));
        assert_int_equal(
            fl_apiclient_delete(w->plane->client, &configmaps, "default", "a", NULL, NULL), 0);
    }
}

static void test_remembers_while_told_not_to_prune(void **state)
{
    struct world *w = *state;

    sync_file(w, CM("a", "1"));
    w->options.prune = false;
    sync_file(w, "");
    assert_non_null(get(w, &configmaps, "a"));
    assert_string_equal(inventory(w), "ConfigMap/default/a");
    w->options.prune = true;
    sync_file(w, "");
    assert_null(get(w, &configmaps, "a"));
}

/* A world in which deleting fails. */
static int fail_deletes(void *user, const struct fl_client_moment *moment)
{
    (void)user;
    return moment->use == FL_CLIENT_CALL && !moment->after &&
                   strcmp(moment->call->method, "DELETE") == 0
               ? FL_E_UNAVAILABLE
               : 0;
}

static void test_failed_prune_stays_in_the_inventory(void **state)
{
    struct world *w = *state;

    sync_file(w, CM("a", "1") CM("b", "1"));
    w->faults.moment = fail_deletes;
    sync_file(w, CM("b", "1"));
    assert_true(w->result.prune_failed);
    assert_false(w->result.complete);
    expect_fault(w, "ConfigMap/a: cannot be pruned");
    assert_string_equal(inventory(w), "ConfigMap/default/b ConfigMap/default/a");
    w->faults.moment = NULL;
    sync_file(w, CM("b", "1"));
    assert_int_equal(w->result.pruned, 1);
    assert_true(w->result.complete);
    assert_string_equal(inventory(w), "ConfigMap/default/b");
}

static int fail_first_call(void *user, const struct fl_client_moment *moment)
{
    struct world *w = user;

    if (moment->use != FL_CLIENT_CALL || moment->after)
        return 0;
    w->faults.moment = NULL;
    return FL_E_UNAVAILABLE;
}

/* The API cannot say for a moment what a Namespace is: then it seems to be one of a namespace, and
 * what is in the inventory has none. It is wanted nevertheless. */
static void test_what_could_not_be_looked_up_is_not_pruned(void **state)
{
    struct world *w = *state;

    sync_file(w, "{apiVersion: v1, kind: Namespace, metadata: {name: made}}\n");
    assert_string_equal(inventory(w), "Namespace//made");
    for (int i = 0; i < 2; i++) {
        w->faults.moment = fail_first_call;
        w->faults.user = w;
        sync_file(w,
                  i ? "{apiVersion: v1, kind: Namespace, metadata: {name: made}}\n"
                    : "{apiVersion: v1, kind: Namespace, metadata: {name: made, namespace: x}}\n");
        assert_int_equal(w->result.pruned, 0);
        assert_int_equal(w->result.failed, 1);
        assert_null(fl_json_str(get(w, &namespaces, "made"), "metadata.deletionTimestamp"));
        sync_file(w, "{apiVersion: v1, kind: Namespace, metadata: {name: made}}\n");
        assert_string_equal(inventory(w), "Namespace//made");
    }
}

static int hide_widgets(void *user, const struct fl_client_moment *moment)
{
    (void)user;
    return moment->use == FL_CLIENT_CALL && !moment->after &&
                   fl_str_has_prefix(moment->call->target, "/apis/test.dev")
               ? FL_E_NOT_FOUND
               : 0;
}

/* A kind that is not served for a moment, as while an API server begins, has not ended. */
static void test_a_kind_that_is_hidden_is_not_gone(void **state)
{
    struct world *w = *state;

    w->options.witness = w->plane->client;
    sync_file(w, WIDGETS_DEFINITION WIDGET("w", "1"));
    w->faults.moment = hide_widgets;
    sync_file(w, WIDGETS_DEFINITION);
    expect_fault(w, "Widget/w: cannot be pruned: the API defines kind Widget, but does not serve");
    assert_int_equal(w->inventory.count, 2);
    w->faults.moment = NULL;
    sync_file(w, WIDGETS_DEFINITION);
    assert_true(w->result.complete);
    assert_null(get(w, &widgets, "w"));
}

static void test_objects_end_with_their_kind(void **state)
{
    struct world *w = *state;

    w->options.witness = w->plane->client;
    sync_file(w, WIDGETS_DEFINITION WIDGET("w", "1"));
    assert_int_equal(w->inventory.count, 2);
    edit(w, &(struct fl_gvr){"apiextensions.k8s.io", "v1", "customresourcedefinitions", false},
         "widgets.test.dev", "{\"metadata\":{\"annotations\":{\"flops.dev/prune\":\"disabled\"}}}");
    assert_int_equal(fl_apiclient_delete(w->plane->client,
                                         &(struct fl_gvr){"apiextensions.k8s.io", "v1",
                                                          "customresourcedefinitions", false},
                                         NULL, "widgets.test.dev", NULL, NULL),
                     0);
    assert_true(fl_plane_settle(w->plane));
    sync_file(w, "");
    assert_true(w->result.complete);
    assert_int_equal(w->inventory.count, 0);
}

static void test_unknown_kinds_and_namespaces(void **state)
{
    struct world *w = *state;

    sync_file(w, WIDGET("w", "1") CM("a", "1") //
              "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: nowhere}}\n");
    expect_counts(w, "3: +1 ~0 =0 -0 !2");
    expect_fault(w, "Widget/w: the API has no kind Widget in test.dev/v1");
    expect_fault(w, "namespaces \"nowhere\" not found");
}

static void test_takes_what_a_server_exported(void **state)
{
    struct world *w = *state;

    sync_file(w, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  uid: x-y\n"
                 "  resourceVersion: '5'\n  generation: 3\n  creationTimestamp: null\n"
                 "  selfLink: /api/v1\n  managedFields: []\n  annotations: null\ndata: {key: k}\n");
    expect_counts(w, "1: +1 ~0 =0 -0 !0");
    sync_file(w, "apiVersion: v1\nkind: Namespace\nmetadata: {name: made, namespace: default}\n");
    assert_non_null(get(w, &namespaces, "made"));
    sync_file(w, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, annotations: 4}\n");
    expect_fault(w, "metadata.annotations is of type integer");
}

static int open_box(void *user, json_t *secret, const char *ns, struct fl_error *err)
{
    (void)user;
    if (strcmp(ns, "default") != 0)
        return fl_error_set(err, FL_E_FORBIDDEN, "made for another place");
    return json_object_set_new(json_object_get(secret, "stringData"), "password",
                               json_string("opened"));
}

#define SEALED                                                                                     \
    "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: "                  \
    "'flops-sealed-v1:AAAA'}}\n"

static void test_opens_sealed_secrets(void **state)
{
    struct world *w = *state;

    sync_file(w, SEALED);
    expect_fault(w, "is sealed, and there is no key");
    assert_null(get(w, &secrets, "s"));

    w->options.unseal = open_box;
    sync_file(w, SEALED);
    expect_counts(w, "1: +1 ~0 =0 -0 !0");
    assert_string_equal(fl_json_str(get(w, &secrets, "s"), "data.password"), "b3BlbmVk");
    sync_file(w, SEALED);
    expect_counts(w, "1: +0 ~0 =1 -0 !0");
}

/* Who may read a GitSync's status need not be allowed to read Secrets. */
static void test_shows_no_values_of_secrets(void **state)
{
    static const char *const bad[] = {
        "data: {password: hunter2-is-mine}", "data: {password: 771177}",
        "stringData: {password: {hunter2-is-mine: 771177}}", "data: hunter2-is-mine"};
    struct world *w = *state;

    for (size_t i = 0; i < FL_COUNT_OF(bad); i++) {
        sync_file(w, fl_arena_printf(w->arena,
                                     "{apiVersion: v1, kind: Secret, metadata: {name: s}, %s}\n",
                                     bad[i]));
        assert_int_equal(w->result.failed, 1);
        expect_fault(w, "Secret/s");
        if (strstr(faults(w), "hunter2") || strstr(faults(w), "771177"))
            fail_msg("%s", faults(w));
    }
}

static int spend_time(void *user, const struct fl_client_moment *moment)
{
    struct world *w = user;

    if (moment->use == FL_CLIENT_CALL && moment->after)
        fl_fake_env_advance(&w->plane->fake, HOUR_MS / 5);
    return 0;
}

static void test_stops_at_the_deadline_and_goes_on_the_next_time(void **state)
{
    struct world *w = *state;

    w->faults.moment = spend_time;
    w->faults.user = w;
    sync_file(w, CM("a", "1") CM("b", "1") CM("c", "1"));
    assert_true(w->result.out_of_time);
    assert_false(w->result.complete);
    expect_fault(w, "the time allowed was over");
    assert_true(w->result.created < 3);
    assert_int_equal(w->inventory.count, 3);
    assert_int_equal(w->result.failed, 3 - w->result.created);

    w->faults.moment = NULL;
    sync_file(w, CM("a", "1") CM("b", "1") CM("c", "1"));
    assert_true(w->result.complete);
}

/* Each call of the driver fails once, before and after it took place; the next try mends it. */
struct hitch {
    int at, count, code;
    bool after;
};

static int hitch_once(void *user, const struct fl_client_moment *moment)
{
    struct hitch *hitch = user;

    if (moment->use != FL_CLIENT_CALL || moment->after != hitch->after)
        return 0;
    return hitch->count++ == hitch->at ? hitch->code : 0;
}

static bool run_with_hitch(struct world *w, struct hitch *hitch)
{
    w->inventory = (struct fl_inventory){0};
    sync_file(w, WIDGETS_DEFINITION WIDGET("w", "1") CM("a", "1"));
    w->faults.moment = hitch_once;
    w->faults.user = hitch;
    sync_file(w, WIDGETS_DEFINITION CM("a", "2") CM("b", "1"));
    w->faults.moment = NULL;
    sync_file(w, WIDGETS_DEFINITION CM("a", "2") CM("b", "1"));
    if (!w->result.complete)
        fail_msg("%s", faults(w));
    assert_string_equal(value_of(w, "a"), "2");
    assert_string_equal(value_of(w, "b"), "1");
    assert_null(get(w, &widgets, "w"));
    sync_file(w, "");
    if (!w->result.complete)
        fail_msg("%s", faults(w));
    assert_null(get(w, &configmaps, "b"));
    assert_true(fl_plane_advance(w->plane, 60000));
    return hitch->count > hitch->at;
}

static void test_survives_each_call_failing(void **state)
{
    static const int codes[] = {FL_E_UNAVAILABLE, FL_E_TIMEOUT, FL_E_CONFLICT, FL_E_INTERNAL,
                                FL_E_FORBIDDEN};
    struct world *w = *state;
    int places = 0;

    for (size_t i = 0; i < FL_COUNT_OF(codes); i++)
        for (int after = 0; after <= 1; after++)
            for (int at = 0;; at++) {
                struct hitch hitch = {.at = at, .code = codes[i], .after = after};

                if (!run_with_hitch(w, &hitch))
                    break;
                places++;
            }
    assert_true(places > 60);
}

static void test_hints_whom_to_allow(void **state)
{
    struct world *w = *state;
    static const char *const groups[] = {"system:authenticated"};
    struct fl_apiclient *nobody =
        fl_apiclient_as(w->plane->client, &(struct fl_api_user){"nobody", groups, 1});

    w->options.client = nobody;
    w->options.forbidden_hint = "bind user nobody";
    sync_file(w, CM("a", "1"));
    expect_counts(w, "1: +0 ~0 =0 -0 !1");
    expect_fault(w, "nobody");
    expect_fault(w, "; bind user nobody");
    assert_null(get(w, &configmaps, "a"));
    fl_apiclient_destroy(nobody);
}

static void test_plan_is_bounded(void **state)
{
    struct world *w = *state;
    struct fl_manifest *items = fl_new_array(w->arena, struct fl_manifest, FL_INVENTORY_MAX);
    struct fl_manifests manifests = {.items = items, .count = FL_INVENTORY_MAX};
    struct fl_inventory_item old = {"", "v1", "ConfigMap", "default", "old", NULL};
    struct fl_inventory had = {&old, 0}, plan = {0};
    struct fl_error err = {0};
    char *name = fl_arena_printf(w->arena, "%0250d", 1);

    for (size_t i = 0; i < FL_INVENTORY_MAX; i++)
        items[i] = (struct fl_manifest){.group = "",
                                        .version = "v1",
                                        .kind = "ConfigMap",
                                        .ns = "",
                                        .name = fl_arena_printf(w->arena, "c%zu", i)};
    assert_int_equal(fl_applyset_plan(&manifests, &had, "default", w->arena, &plan, &err), 0);
    assert_int_equal(plan.count, FL_INVENTORY_MAX);
    assert_true(fl_inventory_covers(&plan, &plan));
    had.count = 1;
    assert_false(fl_inventory_covers(&plan, &had));
    assert_int_equal(fl_applyset_plan(&manifests, &had, "default", w->arena, &plan, &err),
                     FL_E_TOO_LARGE);
    had.count = 0;
    for (size_t i = 0; i < FL_INVENTORY_MAX; i++)
        items[i].file = name;
    assert_int_equal(fl_applyset_plan(&manifests, &had, "default", w->arena, &plan, &err), 0);
    assert_null(plan.items[0].file);
    for (size_t i = 0; i < FL_INVENTORY_MAX; i++)
        items[i].name = fl_arena_printf(w->arena, "%s%zu", name, i);
    assert_int_equal(fl_applyset_plan(&manifests, &had, "default", w->arena, &plan, &err),
                     FL_E_TOO_LARGE);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_follows_a_set),
        T(test_corrects_drift_and_writes_nothing_where_there_is_none),
        T(test_memo_knows_contents),
        T(test_one_object_twice),
        T(test_plan_knows_cluster_scoped_ones_again),
        T(test_orders_by_dependency),
        T(test_dry_run_knows_what_the_set_brings),
        T(test_dry_run_refuses_the_whole),
        T(test_broken_file_prunes_nothing),
        T(test_broken_file_holds_back_its_own),
        T(test_broken_file_holds_back_what_has_none),
        T(test_what_others_need_is_not_pruned),
        T(test_a_snapshot_may_forbid_pruning),
        T(test_names_who_else_owns_a_field),
        T(test_drift_beside_another_applier),
        T(test_drift_takes_the_mark_along),
        T(test_drift_replaces_all),
        T(test_leaves_another_sources_objects),
        T(test_force_takes_over_from_another_source),
        T(test_prunes_only_what_is_ours),
        T(test_remembers_while_told_not_to_prune),
        T(test_failed_prune_stays_in_the_inventory),
        T(test_what_could_not_be_looked_up_is_not_pruned),
        T(test_a_kind_that_is_hidden_is_not_gone),
        T(test_objects_end_with_their_kind),
        T(test_unknown_kinds_and_namespaces),
        T(test_takes_what_a_server_exported),
        T(test_opens_sealed_secrets),
        T(test_shows_no_values_of_secrets),
        T(test_stops_at_the_deadline_and_goes_on_the_next_time),
        T(test_survives_each_call_failing),
        T(test_hints_whom_to_allow),
        T(test_plan_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
