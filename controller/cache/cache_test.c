#include "controller/cache/cache.h"

#include "controller/cache/cache_testing.h"
#include "controller/client/client_testing.h"
#include "controller/runtime/metrics.h"
#include "lib/map.h"
#include "lib/str.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants them above */
#include <cmocka.h>

#define RESYNC_MS 3600000

/* What the handlers were told, object by object. `old` must always be what was told last. */
struct told {
    struct fl_map *known;     /* "namespace/name" → struct fl_object, a reference */
    struct fl_map *revisions; /* the newest told, also of what went → uint64_t */
    unsigned added, changed, removed, again;
};

struct rig {
    struct fl_fake_env fake;
    struct world world;
    struct fl_apiclient *client;
    struct fl_metric_registry *metrics;
    struct fl_cache *cache;
    struct told told;
    unsigned parsed; /* how often the index "group" was asked for values */
    atomic_uint woken;
    uint64_t uids;
};

static void unref_object(void *object)
{
    fl_object_unref(object);
}

static void must_be_newer(struct told *told, const char *key, const struct fl_object *object)
{
    uint64_t *revision = fl_map_get(told->revisions, key);

    if (revision && object->revision <= *revision)
        fail_msg("%s goes back from %" PRIu64 " to %" PRIu64, key, *revision, object->revision);
    revision = fl_malloc(sizeof(*revision));
    *revision = object->revision;
    fl_map_put(told->revisions, key, revision);
}

static void hear(void *user, struct fl_object *old, struct fl_object *object)
{
    struct told *told = &((struct rig *)user)->told;
    const struct fl_object *either = object ? object : old;
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%s", either->ns, either->name);

    assert_ptr_equal(fl_map_get(told->known, key), old);
    if (old == object) {
        told->again++;
        return;
    }
    *(!old ? &told->added : object ? &told->changed : &told->removed) += 1;
    if (object) {
        must_be_newer(told, key, object);
        assert_true(!old || strcmp(old->uid, object->uid) == 0);
        fl_map_put(told->known, key, fl_object_ref(object));
    } else {
        (void)fl_map_remove(told->known, key);
    }
}

static unsigned *count_parsed; /* an index has no user of its own */

static void emit_group(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    const json_t *group;
    size_t i;

    (*count_parsed)++;
    json_array_foreach(fl_json_path(object, "spec.groups"), i, group)
        emit(user, json_string_value(group));
}

static void emit_name(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    emit(user, fl_json_str(object, "metadata.name"));
    emit(user, "any");
    emit(user, "any");
    emit(user, NULL);
}

static const struct fl_cache_index indexes[] = {{"group", emit_group}, {"name", emit_name}};

static void note_woken(void *user)
{
    atomic_fetch_add(&((struct rig *)user)->woken, 1);
}

static struct fl_cache *new_cache(struct rig *rig, const char *ns, size_t index_count)
{
    struct fl_cache *cache = fl_cache_create(&(struct fl_cache_options){
        .env = &rig->fake.env,
        .client = rig->client,
        .gvr = workloads,
        .ns = ns,
        .resync_ms = RESYNC_MS,
        .indexes = indexes,
        .index_count = index_count,
        .wake = note_woken,
        .wake_user = rig,
        .metrics = rig->metrics,
    });

    return cache;
}

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    fl_fake_env_init(&rig->fake, 1, NULL);
    world_init(&rig->world, &rig->fake.env);
    rig->client = fl_apiclient_create(&rig->fake.env, &world_ops, &rig->world);
    rig->metrics = fl_metrics_registry_create();
    rig->told.known = fl_map_create(unref_object);
    rig->told.revisions = fl_map_create(free);
    count_parsed = &rig->parsed;
    rig->cache = new_cache(rig, NULL, FL_COUNT_OF(indexes));
    fl_cache_on_change(rig->cache, hear, rig);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_cache_destroy(rig->cache);
    fl_metrics_registry_destroy(rig->metrics);
    fl_apiclient_destroy(rig->client);
    fl_map_destroy(rig->told.known);
    fl_map_destroy(rig->told.revisions);
    world_finish(&rig->world);
    free(rig);
    return 0;
}

/* `groups` and `owner` as "a,b"; NULL: none. */
static json_t *make(const char *ns, const char *name, const char *uid, const char *groups,
                    const char *owner)
{
    json_t *object = json_pack("{s:{s:s, s:s, s:s}, s:{s:[]}}", "metadata", "name", name,
                               "namespace", ns, "uid", uid, "spec", "groups");
    json_t *list = fl_json_path(object, "spec.groups");

    for (; groups && *groups; groups += strcspn(groups, ","), groups += *groups == ',')
        json_array_append_new(list, json_stringn(groups, strcspn(groups, ",")));
    if (owner)
        json_object_set_new(json_object_get(object, "metadata"), "ownerReferences",
                            json_pack("[{s:s, s:s}]", "uid", owner, "name", "x"));
    return object;
}

static void create(struct rig *rig, const char *ns, const char *name, const char *groups,
                   const char *owner)
{
    FL_CLEANUP(fl_freep) char *uid = fl_asprintf("uid-%" PRIu64, ++rig->uids);
    FL_JSON object = make(ns, name, uid, groups, owner);

    world_write(&rig->world, FL_STORE_CREATE, ns, name, object);
}

static void update(struct rig *rig, const char *ns, const char *name, const char *groups,
                   const char *owner)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *old = fl_store_get(rig->world.store, &(struct fl_key){WORKLOADS, ns, name});
    FL_JSON object = make(ns, name, old->uid, groups, owner);

    world_write(&rig->world, FL_STORE_UPDATE, ns, name, object);
}

static void erase(struct rig *rig, const char *ns, const char *name)
{
    world_write(&rig->world, FL_STORE_DELETE, ns, name, NULL);
}

static void pump(struct rig *rig)
{
    (void)fl_cache_pump(rig->cache, 0);
}

/* "ns/name ns/name …" of what is found; cache and index as given. */
static void assert_found(struct rig *rig, const char *index, const char *value,
                         const char *expected)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    FL_CLEANUP(fl_buf_finish) struct fl_buf names;

    if (index)
        fl_cache_list_by(rig->cache, index, value, &list);
    else
        fl_cache_list(rig->cache, value, &list);
    fl_buf_init(&names, 0);
    for (size_t i = 0; i < list.count; i++)
        fl_buf_printf(&names, "%s%s/%s", i ? " " : "", list.objects[i]->ns, list.objects[i]->name);
    assert_string_equal(fl_buf_text(&names), expected);
}

static void assert_same(const struct fl_list *a, const struct fl_list *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        assert_ptr_equal(a->objects[i], b->objects[i]);
}

static void assert_equals_store(struct rig *rig)
{
    FL_CLEANUP(fl_list_finish) struct fl_list cached = {0}, stored = {0};
    struct fl_error err = {0};

    fl_cache_list(rig->cache, NULL, &cached);
    assert_int_equal(fl_store_list(rig->world.store, &(struct fl_list_query){.resource = WORKLOADS},
                                   &stored, &err),
                     0);
    assert_same(&cached, &stored);
}

static void follows_the_store(void **state)
{
    struct rig *rig = *state;
    struct fl_object *object;

    create(rig, "b", "one", NULL, NULL);
    create(rig, "a", "two", NULL, NULL);
    assert_false(fl_cache_synced(rig->cache));
    assert_int_equal(fl_cache_next_due_ms(rig->cache), 0);
    assert_int_equal(fl_cache_pump(rig->cache, 0), 2);
    assert_true(fl_cache_synced(rig->cache));
    assert_true(fl_cache_next_due_ms(rig->cache) > rig->fake.monotonic_ms + RESYNC_MS / 2);
    assert_int_equal(fl_cache_pump(rig->cache, 0), 0);
    create(rig, "a", "three", NULL, NULL);
    assert_int_equal(fl_cache_next_due_ms(rig->cache), 0);
    update(rig, "b", "one", "x", NULL);
    erase(rig, "a", "two");
    assert_int_equal(fl_cache_pump(rig->cache, 0), 3);
    assert_found(rig, NULL, NULL, "a/three b/one");
    assert_found(rig, NULL, "a", "a/three");
    assert_found(rig, NULL, "aa", "");
    assert_int_equal(fl_cache_count(rig->cache), 2);
    assert_int_equal(fl_cache_revision(rig->cache), fl_store_revision(rig->world.store));
    assert_null(fl_cache_get(rig->cache, "a", "two"));
    object = fl_cache_get(rig->cache, "b", "one");
    assert_string_equal(object->name, "one");
    fl_object_unref(object);
    assert_equals_store(rig);
    assert_int_equal(rig->told.added, 3);
    assert_int_equal(rig->told.changed, 1);
    assert_int_equal(rig->told.removed, 1);
    assert_int_equal(rig->world.lists, 1);
}

static void takes_so_many_at_a_time(void **state)
{
    struct rig *rig = *state;

    pump(rig);
    for (int i = 0; i < 5; i++) {
        FL_CLEANUP(fl_freep) char *name = fl_asprintf("w%d", i);

        create(rig, "a", name, NULL, NULL);
    }
    assert_int_equal(fl_cache_pump(rig->cache, 2), 2);
    assert_int_equal(fl_cache_next_due_ms(rig->cache), 0);
    assert_int_equal(fl_cache_pump(rig->cache, 2), 2);
    assert_found(rig, NULL, NULL, "a/w0 a/w1 a/w2 a/w3");
    assert_int_equal(fl_cache_pump(rig->cache, 2), 1);
    assert_true(fl_cache_next_due_ms(rig->cache) > 0);
}

static void finds_by_owner_and_index(void **state)
{
    struct rig *rig = *state;

    create(rig, "a", "1", "red,blue,red", "u1");
    create(rig, "b", "2", "blue", "u1");
    pump(rig);
    create(rig, "a", "3", NULL, "u2");
    pump(rig);
    assert_found(rig, FL_INDEX_OWNER, "u1", "a/1 b/2");
    assert_found(rig, "group", "blue", "a/1 b/2");
    assert_found(rig, "group", "red", "a/1");
    assert_found(rig, "name", "any", "a/1 a/3 b/2");
    update(rig, "a", "1", "green", "u2");
    pump(rig);
    assert_found(rig, "group", "red", "");
    assert_found(rig, "group", "blue", "b/2");
    assert_found(rig, "group", "green", "a/1");
    assert_found(rig, FL_INDEX_OWNER, "u1", "b/2");
    assert_found(rig, FL_INDEX_OWNER, "u2", "a/1 a/3");
    erase(rig, "b", "2");
    pump(rig);
    assert_found(rig, "group", "blue", "");
    assert_found(rig, FL_INDEX_OWNER, "u1", "");
    assert_int_equal(rig->parsed, 4); /* once a change, not for what went */
    rig->fake.monotonic_ms = fl_cache_next_due_ms(rig->cache);
    pump(rig);
    assert_int_equal(rig->parsed, 4); /* a resync changes nothing */
}

static void has_owners_without_other_indexes(void **state)
{
    struct rig *rig = *state;
    FL_JSON elsewhere = json_pack("{s:{s:s}, s:{s:[{s:s}]}}", "metadata", "name", "elsewhere",
                                  "spec", "ownerReferences", "uid", "u1");

    fl_cache_destroy(rig->cache);
    rig->cache = new_cache(rig, NULL, 0);
    create(rig, "a", "owned", NULL, "u1");
    create(rig, "a", "not", "\"ownerReferences\":", NULL); /* the words in a text */
    world_write(&rig->world, FL_STORE_CREATE, "a", "elsewhere", elsewhere);
    pump(rig);
    assert_found(rig, FL_INDEX_OWNER, "u1", "a/owned");
    update(rig, "a", "owned", NULL, NULL);
    update(rig, "a", "not", NULL, "u1");
    pump(rig);
    assert_found(rig, FL_INDEX_OWNER, "u1", "a/not");
}

static void may_look_at_one_namespace(void **state)
{
    struct rig *rig = *state;

    fl_cache_destroy(rig->cache);
    rig->cache = new_cache(rig, "a", 0);
    fl_cache_on_change(rig->cache, hear, rig);
    create(rig, "a", "1", NULL, NULL);
    create(rig, "b", "2", NULL, NULL);
    pump(rig);
    create(rig, "b", "3", NULL, NULL);
    create(rig, "a", "4", NULL, NULL);
    pump(rig);
    assert_found(rig, NULL, NULL, "a/1 a/4");
}

static void lost_events_are_found_by_a_resync(void **state)
{
    struct rig *rig = *state;
    int64_t due;

    create(rig, "a", "stays", NULL, NULL);
    create(rig, "a", "changes", NULL, NULL);
    create(rig, "a", "goes", NULL, NULL);
    pump(rig);
    rig->world.drop_next = 3;
    create(rig, "a", "comes", NULL, NULL);
    update(rig, "a", "changes", "x", NULL);
    erase(rig, "a", "goes");
    pump(rig);
    assert_found(rig, NULL, NULL, "a/changes a/goes a/stays");
    due = fl_cache_next_due_ms(rig->cache);
    assert_in_range(due - rig->fake.monotonic_ms, RESYNC_MS * 9 / 10, RESYNC_MS * 11 / 10);
    rig->fake.monotonic_ms = due - 1;
    assert_int_equal(fl_cache_pump(rig->cache, 0), 0);
    rig->fake.monotonic_ms = due;
    assert_int_equal(fl_cache_next_due_ms(rig->cache), 0);
    assert_int_equal(fl_cache_pump(rig->cache, 0), 3 + 3); /* what was missed, then all */
    assert_equals_store(rig);
    assert_int_equal(rig->told.again, 3);
    assert_int_equal(rig->told.removed, 1);
    assert_int_equal(rig->told.changed, 1);
    assert_int_equal(rig->world.watches_opened, 2);
    assert_true(fl_cache_next_due_ms(rig->cache) > due);
}

static void a_refresh_finds_what_was_missed(void **state)
{
    struct rig *rig = *state;

    create(rig, "a", "stays", NULL, NULL);
    pump(rig);
    rig->world.drop_next = 1;
    create(rig, "a", "comes", NULL, NULL);
    pump(rig);
    fl_cache_refresh(rig->cache);
    assert_false(fl_cache_synced(rig->cache));
    assert_int_equal(fl_cache_next_due_ms(rig->cache), 0);
    rig->world.refuse_lists = 1;
    (void)fl_cache_pump(rig->cache, 0);
    assert_false(fl_cache_synced(rig->cache));
    assert_true(fl_cache_next_due_ms(rig->cache) >
                rig->fake.monotonic_ms); /* no faster than that */
    rig->fake.monotonic_ms = fl_cache_next_due_ms(rig->cache);
    (void)fl_cache_pump(rig->cache, 0);
    assert_true(fl_cache_synced(rig->cache));
    assert_equals_store(rig);
}

static void another_object_of_the_same_name_is_told_as_one(void **state)
{
    struct rig *rig = *state;

    create(rig, "a", "x", "old", NULL);
    pump(rig);
    rig->world.drop_next = 1;
    erase(rig, "a", "x");
    create(rig, "a", "x", "new", NULL);
    pump(rig);
    assert_int_equal(rig->told.added, 2);
    assert_int_equal(rig->told.removed, 1);
    assert_int_equal(rig->told.changed, 0);
    assert_found(rig, "group", "new", "a/x");
}

static void an_ended_watch_is_listed_anew(void **state)
{
    struct rig *rig = *state;

    create(rig, "a", "1", NULL, NULL);
    pump(rig);
    fl_fake_env_advance(&rig->fake, 5000);
    rig->world.end_watches = true;
    create(rig, "a", "2", NULL, NULL);
    erase(rig, "a", "1");
    pump(rig); /* lists at once; the new watch ends before it says anything */
    assert_equals_store(rig);
    assert_int_equal(rig->told.removed, 1);
    assert_int_equal(rig->told.again, 0);
    rig->world.end_watches = false;
    for (unsigned lists = rig->world.lists; lists < 5; lists++) {
        assert_int_equal(rig->world.lists, lists);
        rig->world.end_watches = lists < 4;
        assert_true(fl_cache_next_due_ms(rig->cache) >= rig->fake.monotonic_ms + 800);
        rig->fake.monotonic_ms = fl_cache_next_due_ms(rig->cache);
        pump(rig);
    }
    create(rig, "a", "3", NULL, NULL);
    pump(rig);
    assert_equals_store(rig);
    assert_int_equal(rig->world.lists, 5);
}

/* Lists that fail are tried again later and later, and the watch goes on meanwhile. */
static void lists_are_tried_again(void **state)
{
    struct rig *rig = *state;
    int64_t ideal = 800;

    rig->world.refuse_lists = 8;
    for (int i = 0; i < 8; i++, ideal *= 2) {
        int64_t delay;

        pump(rig);
        assert_false(fl_cache_synced(rig->cache));
        delay = fl_cache_next_due_ms(rig->cache) - rig->fake.monotonic_ms;
        assert_true(ideal < 30000 ? delay >= ideal && delay <= ideal * 11 / 10
                                  : delay >= 27000 && delay <= 30000);
        assert_int_equal(fl_cache_pump(rig->cache, 0), 0);
        assert_int_equal(rig->world.lists, i + 1);
        rig->fake.monotonic_ms += delay;
    }
    pump(rig);
    assert_true(fl_cache_synced(rig->cache));
    rig->world.refuse_lists = 3;
    for (int i = 0; i < 3; i++) {
        FL_CLEANUP(fl_freep) char *name = fl_asprintf("w%d", i);

        rig->fake.monotonic_ms = fl_cache_next_due_ms(rig->cache);
        create(rig, "a", name, NULL, NULL);
        pump(rig);
        assert_equals_store(rig);
        assert_true(fl_cache_next_due_ms(rig->cache) >= rig->fake.monotonic_ms + (800 << i));
    }
    rig->fake.monotonic_ms = fl_cache_next_due_ms(rig->cache);
    assert_int_equal(fl_cache_pump(rig->cache, 0), 3); /* told again, late */
    assert_int_equal(rig->told.again, 3);
}

static void a_watch_that_cannot_begin_is_tried_again(void **state)
{
    struct rig *rig = *state;

    rig->world.refuse_watches = 3;
    create(rig, "a", "1", NULL, NULL);
    for (int i = 0; i < 3; i++) {
        pump(rig);
        assert_equals_store(rig); /* the list is in */
        assert_true(fl_cache_next_due_ms(rig->cache) >= rig->fake.monotonic_ms + (800 << i));
        rig->fake.monotonic_ms = fl_cache_next_due_ms(rig->cache);
        create(rig, "b", i == 0 ? "x" : i == 1 ? "y" : "z", NULL, NULL);
    }
    pump(rig);
    create(rig, "a", "2", NULL, NULL);
    pump(rig);
    assert_equals_store(rig);
    assert_int_equal(rig->world.lists, 4);
}

static void wakes_when_there_is_something(void **state)
{
    struct rig *rig = *state;
    unsigned before;

    pump(rig);
    before = atomic_load(&rig->woken);
    create(rig, "a", "1", NULL, NULL);
    assert_true(atomic_load(&rig->woken) > before);
    assert_int_equal(fl_cache_next_due_ms(rig->cache), 0);
    pump(rig);
    assert_true(fl_cache_next_due_ms(rig->cache) > 0);
    fl_cache_destroy(FL_TAKE(rig->cache));
    before = atomic_load(&rig->woken);
    create(rig, "a", "2", NULL, NULL);
    assert_int_equal(atomic_load(&rig->woken), before);
}

static void counts_what_it_does(void **state)
{
    static const char *const lines[] = {
        "\nflops_cache_objects{namespace=\"\",resource=\"workloads.flops.dev\"} 1\n",
        "\nflops_cache_changes_total{namespace=\"\",resource=\"workloads.flops.dev\"} 2\n",
        "\nflops_cache_lists_total{namespace=\"\",resource=\"workloads.flops.dev\","
        "result=\"success\"} 1\n",
        "\nflops_cache_lists_total{namespace=\"\",resource=\"workloads.flops.dev\","
        "result=\"error\"} 1\n",
    };
    struct rig *rig = *state;
    struct fl_buf text;

    create(rig, "a", "1", NULL, NULL);
    rig->world.refuse_lists = 1;
    pump(rig);
    fl_fake_env_advance(&rig->fake, 1000);
    pump(rig);
    update(rig, "a", "1", NULL, NULL);
    pump(rig);
    fl_buf_init(&text, 0);
    fl_metrics_registry_write(rig->metrics, &text);
    for (size_t i = 0; i < FL_COUNT_OF(lines); i++)
        if (!strstr(fl_buf_text(&text), lines[i]))
            fail_msg("no %s in %s", lines[i], fl_buf_text(&text));
    fl_buf_finish(&text);
}

/* Many more deletions than are remembered one by one; an event that comes after all of them still
 * brings nothing back. */
static void forgets_old_deletions(void **state)
{
    struct rig *rig = *state;

    pump(rig);
    rig->world.keep_next = 1;
    create(rig, "a", "late", NULL, NULL);
    erase(rig, "a", "late");
    pump(rig);
    for (int i = 0; i < 3000; i++) {
        FL_CLEANUP(fl_freep) char *name = fl_asprintf("w%d", i % 2000);

        create(rig, "a", name, NULL, NULL);
        erase(rig, "a", name);
        pump(rig);
    }
    rig->world.give_kept = true;
    create(rig, "a", "w1", NULL, NULL);
    pump(rig);
    assert_equals_store(rig);
    assert_int_equal(rig->told.added, 3001);
}

/* Random operations and faults. After each pump the handlers know what the cache has, the indexes
 * say what a walk over all objects says, and nothing went back; in quiet, a resync heals all. */
static const char *const groups[] = {"", "red", "blue", "red,blue", "blue,green,blue"};
static const char *const owners[] = {NULL, "u1", "u2"};

static void do_something(struct rig *rig, const struct fl_env *chance)
{
    const char *ns = fl_random_below(chance, 2) ? "a" : "b";
    const char *group = groups[fl_random_below(chance, FL_COUNT_OF(groups))];
    const char *owner = owners[fl_random_below(chance, FL_COUNT_OF(owners))];
    char name[16];

    (void)snprintf(name, sizeof(name), "w%d", (int)fl_random_below(chance, 8));
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *there = fl_store_get(rig->world.store, &(struct fl_key){WORKLOADS, ns, name});
    if (!there)
        create(rig, ns, name, group, owner);
    else if (fl_random_below(chance, 3) == 0)
        erase(rig, ns, name);
    else
        update(rig, ns, name, group, owner);
}

static bool has_value(const struct fl_object *object, const char *index, const char *value)
{
    FL_JSON content = fl_object_parse(object);
    const json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(content, "metadata.ownerReferences"), i, item)
        if (strcmp(index, FL_INDEX_OWNER) == 0 && fl_streq(fl_json_str(item, "uid"), value))
            return true;
    json_array_foreach(fl_json_path(content, "spec.groups"), i, item)
        if (strcmp(index, "group") == 0 && fl_streq(json_string_value(item), value))
            return true;
    return false;
}

static void check_index(struct rig *rig, const struct fl_list *all, const char *index,
                        const char *value)
{
    FL_CLEANUP(fl_list_finish) struct fl_list found = {0};
    size_t at = 0;

    fl_cache_list_by(rig->cache, index, value, &found);
    for (size_t i = 0; i < all->count; i++) {
        if (!has_value(all->objects[i], index, value))
            continue;
        assert_true(at < found.count);
        assert_ptr_equal(all->objects[i], found.objects[at++]);
    }
    assert_int_equal(at, found.count);
}

static void check_invariants(struct rig *rig)
{
    FL_CLEANUP(fl_list_finish) struct fl_list all = {0};

    fl_cache_list(rig->cache, NULL, &all);
    assert_int_equal(all.count, fl_map_count(rig->told.known));
    assert_int_equal(all.count, fl_cache_count(rig->cache));
    for (size_t i = 0; i < all.count; i++) {
        FL_CLEANUP(fl_freep)
        char *key = fl_asprintf("%s/%s", all.objects[i]->ns, all.objects[i]->name);

        assert_ptr_equal(fl_map_get(rig->told.known, key), all.objects[i]);
    }
    check_index(rig, &all, FL_INDEX_OWNER, "u1");
    check_index(rig, &all, FL_INDEX_OWNER, "u2");
    check_index(rig, &all, "group", "red");
    check_index(rig, &all, "group", "blue");
    check_index(rig, &all, "group", "green");
}

static void step(struct rig *rig, const struct fl_env *chance)
{
    int64_t due;

    switch (fl_random_below(chance, 10)) {
    case 0:
        fl_fake_env_advance(&rig->fake, (int64_t)fl_random_below(chance, 2000));
        break;
    case 1:
        due = fl_cache_next_due_ms(rig->cache);
        if (due > rig->fake.monotonic_ms && fl_random_below(chance, 3) == 0)
            rig->fake.monotonic_ms = due;
        break;
    case 2:
    case 3:
    case 4:
        (void)fl_cache_pump(rig->cache, fl_random_below(chance, 4));
        check_invariants(rig);
        break;
    default:
        do_something(rig, chance);
        break;
    }
}

static void resync_in_quiet(struct rig *rig)
{
    rig->world.chance = NULL;
    fl_fake_env_advance(&rig->fake, 2 * (int64_t)RESYNC_MS);
    while (fl_cache_next_due_ms(rig->cache) == 0)
        pump(rig);
    check_invariants(rig);
    assert_equals_store(rig);
    assert_int_equal(fl_cache_revision(rig->cache), fl_store_revision(rig->world.store));
}

static void heals_whatever_happens(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fl_fake_env chance;
        void *user;
        struct rig *rig;

        fl_fake_env_init(&chance, seed, NULL);
        (void)set_up(&user);
        rig = user;
        for (int round = 0; round < 3; round++) {
            rig->world.chance = &chance.env;
            rig->world.faults = (struct faults){
                .drop = (unsigned)fl_random_below(&chance.env, 200),
                .twice = (unsigned)fl_random_below(&chance.env, 300),
                .delay = (unsigned)fl_random_below(&chance.env, 400),
                .end_watch = (unsigned)fl_random_below(&chance.env, 30),
                .refuse_list = (unsigned)fl_random_below(&chance.env, 300),
                .refuse_watch = (unsigned)fl_random_below(&chance.env, 300),
                .old_list = (unsigned)fl_random_below(&chance.env, 500),
            };
            for (int i = 0; i < 300; i++)
                step(rig, &chance.env);
            resync_in_quiet(rig);
        }
        (void)tear_down(&user);
    }
}

/* Real threads: one writes, one pumps when woken, others read all the time. */
#define THREAD_NAMES 20

struct busy {
    struct rig *rig;
    struct fl_env env;
    struct fl_cache *cache;
    struct fl_lock *lock;
    struct fl_signal *woken;
    bool due, writing;
    atomic_bool stop;
    atomic_int wrong;
};

static void wake_pump(void *user)
{
    struct busy *busy = user;

    FL_LOCKED(busy->lock);
    busy->due = true;
    fl_signal_all(busy->woken);
}

static void write_much(void *user)
{
    struct busy *busy = user;

    for (int i = 0; i < 1500; i++)
        do_something(busy->rig, &busy->env);
    FL_LOCKED(busy->lock);
    busy->writing = false;
    fl_signal_all(busy->woken);
}

static bool wait_for_work(struct busy *busy)
{
    FL_LOCKED(busy->lock);
    while (!busy->due && busy->writing)
        (void)fl_signal_wait(busy->woken, busy->lock, -1);
    if (!busy->due)
        return false;
    busy->due = false;
    return true;
}

static void pump_much(void *user)
{
    struct busy *busy = user;

    do
        (void)fl_cache_pump(busy->cache, 0);
    while (wait_for_work(busy));
    atomic_store(&busy->stop, true);
}

static void read_much(void *user)
{
    struct busy *busy = user;

    while (!atomic_load(&busy->stop)) {
        FL_CLEANUP(fl_list_finish) struct fl_list red = {0};
        FL_CLEANUP(fl_list_finish) struct fl_list all = {0};
        FL_CLEANUP(fl_object_unrefp) struct fl_object *one = fl_cache_get(busy->cache, "a", "w1");

        fl_cache_list_by(busy->cache, "group", "red", &red);
        for (size_t i = 0; i < red.count; i++)
            if (!has_value(red.objects[i], "group", "red"))
                atomic_fetch_add(&busy->wrong, 1);
        fl_cache_list(busy->cache, NULL, &all);
        for (size_t i = 1; i < all.count; i++)
            if (all.objects[i - 1]->revision == all.objects[i]->revision)
                atomic_fetch_add(&busy->wrong, 1);
        if (one && strcmp(one->name, "w1") != 0)
            atomic_fetch_add(&busy->wrong, 1);
    }
}

static void readers_may_read_while_pumping(void **state)
{
    struct rig *rig = *state;
    struct busy busy = {.rig = rig, .env = fl_env_real(NULL), .writing = true};
    void (*const runs[])(void *) = {write_much, pump_much, read_much, read_much};
    struct fl_thread *threads[FL_COUNT_OF(runs)];
    struct fl_error err;

    fl_cache_destroy(rig->cache);
    busy.lock = fl_lock_create();
    busy.woken = fl_signal_create();
    busy.cache = rig->cache = fl_cache_create(&(struct fl_cache_options){
        .env = &busy.env,
        .client = rig->client,
        .gvr = workloads,
        .indexes = indexes,
        .index_count = FL_COUNT_OF(indexes),
        .wake = wake_pump,
        .wake_user = &busy,
    });
    fl_cache_on_change(rig->cache, hear, rig);
    for (size_t i = 0; i < FL_COUNT_OF(runs); i++)
        assert_int_equal(fl_thread_start("busy", runs[i], &busy, &threads[i], &err), 0);
    for (size_t i = 0; i < FL_COUNT_OF(runs); i++)
        fl_thread_join(threads[i]);
    assert_int_equal(atomic_load(&busy.wrong), 0);
    check_invariants(rig);
    assert_equals_store(rig);
    fl_cache_destroy(FL_TAKE(rig->cache));
    fl_signal_destroy(busy.woken);
    fl_lock_destroy(busy.lock);
}

/* The driver of the API server's own process, and an object that went through it. */
static void shares_the_objects_of_the_local_driver(void **state)
{
    FL_CLEANUP(fl_plane_destroyp) struct fl_plane *plane = NULL;
    FL_CLEANUP(fl_cache_destroyp) struct fl_cache *cache = NULL;
    FL_JSON object = json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "v1", "kind",
                               "ConfigMap", "metadata", "name", "settings", "data", "a", "b");
    struct fl_object *cached, *stored;
    struct fl_error err = {0};

    (void)state;
    if (fl_plane_create(&(struct fl_plane_options){.simulated = true, .seed = 1}, &plane, &err) < 0)
        fail_msg("plane: %s", err.msg);
    cache = fl_cache_create(&(struct fl_cache_options){
        .env = &plane->env, .client = plane->client, .gvr = fl_gvr_configmaps});
    (void)fl_cache_pump(cache, 0);
    assert_true(fl_cache_synced(cache));
    if (fl_apiclient_create_object(plane->client, &fl_gvr_configmaps, "default", object, NULL,
                                   &err) < 0)
        fail_msg("create: %s", err.msg);
    (void)fl_plane_settle(plane);
    assert_int_equal(fl_cache_next_due_ms(cache), 0);
    assert_true(fl_cache_pump(cache, 0) > 0);
    cached = fl_cache_get(cache, "default", "settings");
    stored = fl_store_get(plane->store, &(struct fl_key){"configmaps", "default", "settings"});
    assert_non_null(cached);
    assert_ptr_equal(cached, stored);
    fl_object_unref(cached);
    fl_object_unref(stored);
}

int main(void)
{
#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_RIG(follows_the_store),
        WITH_RIG(takes_so_many_at_a_time),
        WITH_RIG(finds_by_owner_and_index),
        WITH_RIG(has_owners_without_other_indexes),
        WITH_RIG(may_look_at_one_namespace),
        WITH_RIG(lost_events_are_found_by_a_resync),
        WITH_RIG(a_refresh_finds_what_was_missed),
        WITH_RIG(another_object_of_the_same_name_is_told_as_one),
        WITH_RIG(an_ended_watch_is_listed_anew),
        WITH_RIG(lists_are_tried_again),
        WITH_RIG(a_watch_that_cannot_begin_is_tried_again),
        WITH_RIG(wakes_when_there_is_something),
        WITH_RIG(counts_what_it_does),
        WITH_RIG(forgets_old_deletions),
        cmocka_unit_test(heals_whatever_happens),
        WITH_RIG(readers_may_read_while_pumping),
        cmocka_unit_test(shares_the_objects_of_the_local_driver),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
