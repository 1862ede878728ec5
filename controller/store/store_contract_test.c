/* What every store promises, whatever its driver: the same table of tests for each.
 *
 * Generation, status apart from spec and finalizers are rules of the objects (api/meta.h), not of
 * the store; their contract on a store belongs into store_lifecycle_contract_test.c. */
#include "controller/store/store_testing.h"

#include "controller/store/store_faulty.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

static const struct subject {
    const char *driver;
    bool durable, faulty;
} subjects[] = {
    {"memory", false, false},
    {"sqlite", true, false},
    {"faulty-memory", false, true},
    {"faulty-sqlite", true, true},
};
static const struct subject *subject;

static int setup(void **state)
{
    struct fixture *f = test_malloc(sizeof(*f));

    fixture_init(f, subject->driver);
    fl_store_faults = (struct fl_store_faults){0};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_finish(*state);
    test_free(*state);
    return 0;
}

static void test_revisions_grow(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    int64_t a, b, c;

    fixture_open(f);
    assert_int_equal(fl_store_revision(f->store), 0);
    a = put(f->store, FL_STORE_CREATE, PROJECTS, "ns", "one", "1", 0);
    b = put(f->store, FL_STORE_CREATE, SECRETS, "ns", "one", "2", 0);
    c = put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "one", "3", (uint64_t)a);
    assert_true(0 < a && a < b && b < c);
    assert_int_equal(fl_store_revision(f->store), c);
    object = get(f->store, "ns", "one");
    assert_object(object, (uint64_t)c, "3");
    assert_string_equal(object->resource, PROJECTS);
    assert_string_equal(object->ns, "ns");
    assert_string_equal(object->uid, "one");
    assert_int_equal(fl_store_count(f->store, PROJECTS), 1);
    assert_int_equal(fl_store_count(f->store, "none"), 0);
    assert_int_equal(fl_store_stats(f->store).objects, 2);
    assert_null(get(f->store, "other", "one"));
}

static void test_create_refuses_what_exists(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    uint64_t first, again;

    fixture_open(f);
    first = create(f->store, "ns", "a", "1");
    assert_int_equal(put(f->store, FL_STORE_CREATE, PROJECTS, "ns", "a", "2", 0),
                     FL_E_ALREADY_EXISTS);
    (void)create(f->store, "other", "a", "3");
    (void)create(f->store, "", "a", "4");
    object = get(f->store, "ns", "a");
    assert_object(object, first, "1");
    (void)erase(f->store, "ns", "a");
    again = create(f->store, "ns", "a", "5");
    assert_true(again > first);
}

static void test_stale_update_conflicts(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    uint64_t first, second;

    fixture_open(f);
    assert_int_equal(put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "a", "1", 0), FL_E_NOT_FOUND);
    first = create(f->store, "ns", "a", "1");
    second = (uint64_t)put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "a", "2", first);
    assert_true(second > first);
    assert_int_equal(put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "a", "3", first),
                     FL_E_CONFLICT);
    assert_int_equal(put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "a", "3", second + 1),
                     FL_E_CONFLICT);
    object = get(f->store, "ns", "a");
    assert_object(object, second, "2");
    assert_true(update(f->store, "ns", "a", "4") > second);
}

static void test_delete(void **state)
{
    struct fixture *f = *state;
    FL_JSON last_words = content("ns", "b", "gone");
    FL_CLEANUP(fl_object_unrefp) struct fl_object *final = NULL, *other = NULL;
    struct fl_store_write write = {FL_STORE_DELETE, {PROJECTS, "ns", "a"}, NULL, 0};
    struct fl_error err;
    uint64_t revision;

    fixture_open(f);
    assert_int_equal(put(f->store, FL_STORE_DELETE, PROJECTS, "ns", "a", NULL, 0), FL_E_NOT_FOUND);
    revision = create(f->store, "ns", "a", "1");
    (void)create(f->store, "ns", "b", "2");
    assert_int_equal(put(f->store, FL_STORE_DELETE, PROJECTS, "ns", "a", NULL, revision + 1),
                     FL_E_CONFLICT);
    write.expect_revision = revision;
    assert_int_equal(fl_store_write_wait(f->store, &write, &final, &err), 0);
    assert_object(final, revision + 2, "1");
    assert_null(get(f->store, "ns", "a"));
    write = (struct fl_store_write){FL_STORE_DELETE, {PROJECTS, "ns", "b"}, last_words, 0};
    assert_int_equal(fl_store_write_wait(f->store, &write, &other, &err), 0);
    assert_object(other, revision + 3, "gone");
    assert_int_equal(fl_store_count(f->store, PROJECTS), 0);
    assert_int_equal(fl_store_revision(f->store), revision + 3);
}

static void test_invalid_writes(void **state)
{
    struct fixture *f = *state;
    FL_JSON no_metadata = json_pack("{s:{}}", "spec");
    FL_JSON not_an_object = json_array();
    FL_JSON big = NULL;
    char *text = fl_calloc(1, 5000);
    struct fl_store_write write = {FL_STORE_CREATE, {PROJECTS, "ns", "a"}, no_metadata, 0};
    struct fl_error err;

    f->options.max_object_bytes = 4096;
    fixture_open(f);
    assert_int_equal(fl_store_write_wait(f->store, &write, NULL, &err), FL_E_INVALID);
    write.object = not_an_object;
    assert_int_equal(fl_store_write_wait(f->store, &write, NULL, &err), FL_E_INVALID);
    memset(text, 'x', 4999);
    write.object = big = content("ns", "a", text);
    assert_int_equal(fl_store_write_wait(f->store, &write, NULL, &err), FL_E_TOO_LARGE);
    write.key.name = "";
    assert_int_equal(fl_store_write_wait(f->store, &write, NULL, &err), FL_E_INVALID);
    write.key.name = text;
    assert_int_equal(fl_store_write_wait(f->store, &write, NULL, &err), FL_E_INVALID);
    text[3900] = '\0';
    (void)create(f->store, "ns", "a", text);
    assert_int_equal(fl_store_count(f->store, PROJECTS), 1);
    free(text);
}

/* The store sets the revision in the text itself, wherever metadata has or lacks it. */
static void test_content_is_kept(void **state)
{
    static const char *const texts[] = {
        "{\"metadata\":{}}",
        "{\"metadata\":{\"name\":\"x\"}}",
        "{\"metadata\":{\"uid\":\"x\"}}",
        "{\"metadata\":{\"name\":\"x\",\"resourceVersion\":\"77\",\"uid\":\"u\"}}",
        "{\"metadata\":{\"name\":\"x\",\"resourceVersion\":5}}",
        "{\"metadata\":{\"resourceVersio\":1,\"resourceVersionX\":2}}",
        "{\"data\":{\"metadata\":{\"resourceVersion\":\"1\"}},\"metadata\":{\"annotations\":"
        "{\"resourceVersion\":\"no\"},\"labels\":{}},\"z\":[[],{},\"}]\\\\\\\"\",1.5,null]}",
        "{\"a\\\"b\":\"\\\\\",\"metadata\":{\"a\":[{\"uid\":\"no\"}],\"uid\":\"\\u00e4\\n\"}}",
    };
    struct fixture *f = *state;

    fixture_open(f);
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        FL_JSON object = json_loads(texts[i], 0, NULL);
        FL_JSON stored_value = NULL;
        FL_CLEANUP(fl_object_unrefp) struct fl_object *stored = NULL;
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *canonical = NULL;
        char name[16], digits[24];
        struct fl_store_write write = {FL_STORE_CREATE, {PROJECTS, "ns", name}, object, 0};
        json_t *metadata = json_object_get(object, "metadata");
        struct fl_error err;

        (void)snprintf(name, sizeof(name), "t%zu", i);
        assert_int_equal(fl_store_write_wait(f->store, &write, &stored, &err), 0);
        (void)snprintf(digits, sizeof(digits), "%" PRIu64, stored->revision);
        fl_json_set_str(metadata, "resourceVersion", digits);
        canonical = fl_json_to_bytes(object);
        assert_string_equal(stored->json->data, canonical->data);
        assert_int_equal(stored->json->len, canonical->len);
        stored_value = fl_object_parse(stored);
        assert_true(json_equal(stored_value, object));
        assert_string_equal(stored->uid, fl_str_or(fl_json_str(object, "metadata.uid"), ""));
    }
}

static void test_labels(void **state)
{
    struct fixture *f = *state;
    FL_JSON object = json_pack("{s:{s:{s:s, s:s, s:s}}}", "metadata", "labels", "tier", "edge",
                               "app", "", "quo\"te", "tab\t");
    FL_CLEANUP(fl_object_unrefp) struct fl_object *stored = NULL;
    struct fl_store_write write = {FL_STORE_CREATE, {PROJECTS, NULL, "a"}, object, 0};
    struct fl_error err;

    fixture_open(f);
    assert_int_equal(fl_store_write_wait(f->store, &write, &stored, &err), 0);
    assert_int_equal(stored->label_count, 3);
    assert_string_equal(stored->labels[0].key, "app");
    assert_string_equal(stored->labels[0].value, "");
    assert_string_equal(stored->labels[1].key, "quo\"te");
    assert_string_equal(stored->labels[1].value, "tab\t");
    assert_string_equal(stored->labels[2].key, "tier");
    assert_string_equal(stored->labels[2].value, "edge");
    assert_string_equal(stored->ns, "");
    assert_string_equal(stored->uid, "");
}

/* "ns/name ns/name …", and "+N" where the limit cut off that there are N more. */
static void assert_list(struct fl_store *store, const struct fl_list_query *query,
                        const char *expected)
{
    struct fl_list list;
    struct fl_error err = {0};
    struct fl_buf text;

    fl_buf_init(&text, 0);
    if (fl_store_list(store, query, &list, &err) < 0)
        fail_msg("list: %s", err.msg);
    for (size_t i = 0; i < list.count; i++)
        fl_buf_printf(&text, "%s%s/%s", i ? " " : "", list.objects[i]->ns, list.objects[i]->name);
    if (list.more)
        fl_buf_printf(&text, " +%zu", list.remaining);
    assert_string_equal(fl_buf_text(&text), expected);
    assert_int_equal(list.revision, query->revision ?: fl_store_revision(store));
    fl_list_finish(&list);
    fl_buf_finish(&text);
}

static bool name_is_short(void *user, const struct fl_object *object)
{
    return strlen(object->name) <= *(size_t *)user;
}

static void test_list(void **state)
{
    struct fixture *f = *state;
    struct fl_list_query q = {.resource = PROJECTS};
    size_t max = 1;

    fixture_open(f);
    assert_list(f->store, &q, "");
    (void)create(f->store, "b", "z", "");
    (void)create(f->store, "b", "a", "");
    (void)create(f->store, "a", "long", "");
    (void)create(f->store, "a-b", "c", "");
    (void)create(f->store, "", "d", "");
    (void)create(f->store, "a", "B", "");
    (void)put(f->store, FL_STORE_CREATE, SECRETS, "a", "B", "", 0);
    assert_list(f->store, &q, "/d a/B a/long a-b/c b/a b/z");
    q.limit = 2;
    assert_list(f->store, &q, "/d a/B +4");
    q.after_ns = "a";
    q.after_name = "B";
    assert_list(f->store, &q, "a/long a-b/c +2");
    q.after_ns = "a-b";
    q.after_name = "c";
    assert_list(f->store, &q, "b/a b/z");
    q.after_name = "cc";
    assert_list(f->store, &q, "b/a b/z");
    q = (struct fl_list_query){.resource = PROJECTS, .ns = "a"};
    assert_list(f->store, &q, "a/B a/long");
    q.limit = 1;
    assert_list(f->store, &q, "a/B +1");
    q.after_ns = "a";
    q.after_name = "B";
    assert_list(f->store, &q, "a/long");
    q.after_ns = "b";
    assert_list(f->store, &q, "");
    q = (struct fl_list_query){.resource = PROJECTS, .ns = ""};
    assert_list(f->store, &q, "/d");
    q = (struct fl_list_query){
        .resource = PROJECTS, .match = name_is_short, .user = &max, .limit = 4};
    assert_list(f->store, &q, "/d a/B a-b/c b/a +0");
}

/* A plain model beside the store: what is there after each revision. */
#define MODEL_KEYS  12
#define MODEL_STEPS 300

struct model {
    uint64_t revisions[MODEL_KEYS]; /* of each object; 0: not there */
    uint64_t at;
};

static void model_key(int key, char ns[8], char name[16])
{
    (void)snprintf(ns, 16, "ns%d", key / 6);
    (void)snprintf(name, 16, "k%d", key % 6);
}

static void model_step(struct fl_store *store, struct model *model, unsigned *seed)
{
    int key = rand_r(seed) % MODEL_KEYS;
    bool there = model->revisions[key] != 0, drop = there && rand_r(seed) % 3 == 0;
    char ns[16], name[16];

    model_key(key, ns, name);
    if (!there)
        model->at = model->revisions[key] = create(store, ns, name, "c");
    else if (!drop)
        model->at = model->revisions[key] = update(store, ns, name, "u");
    else
        model->at = erase(store, ns, name);
    if (drop)
        model->revisions[key] = 0;
}

static void assert_model_at(struct fl_store *store, const struct model *model, size_t limit)
{
    struct fl_list_query query = {.resource = PROJECTS, .limit = limit, .revision = model->at};
    size_t key = 0, there = 0, seen = 0;
    struct fl_list list;
    char ns[16], name[16];
    bool more = true;

    for (key = 0; key < MODEL_KEYS; key++)
        there += model->revisions[key] != 0;
    for (key = 0; more;) {
        assert_int_equal(fl_store_list(store, &query, &list, NULL), 0);
        for (size_t i = 0; i < list.count; i++, key++, seen++) {
            while (key < MODEL_KEYS && !model->revisions[key])
                key++;
            assert_true(key < MODEL_KEYS);
            assert_int_equal(list.objects[i]->revision, model->revisions[key]);
        }
        if (key > 0)
            model_key((int)key - 1, ns, name);
        assert_int_equal(list.revision, model->at);
        assert_int_equal(list.remaining, there - seen);
        query.after_ns = ns;
        query.after_name = name;
        more = list.more;
        assert_true(more == (seen < there));
        fl_list_finish(&list);
    }
    assert_int_equal(seen, there);
}

static void test_list_at_old_revision(void **state)
{
    struct fixture *f = *state;
    static struct model models[MODEL_STEPS];
    struct fl_list_query query = {.resource = PROJECTS};
    struct fl_list list;
    unsigned seed = 7;

    fixture_open(f);
    memset(models, 0, sizeof(models));
    for (int i = 0; i < MODEL_STEPS; i++) {
        if (i)
            models[i] = models[i - 1];
        model_step(f->store, &models[i], &seed);
    }
    for (int i = 0; i < MODEL_STEPS; i++)
        assert_model_at(f->store, &models[i], (size_t)i % 5);
    query.revision = models[MODEL_STEPS - 1].at + 1;
    assert_int_equal(fl_store_list(f->store, &query, &list, NULL), FL_E_INVALID);
    assert_int_equal(fl_store_compact(f->store, models[100].at, NULL), 0);
    query.revision = models[99].at;
    assert_int_equal(fl_store_list(f->store, &query, &list, NULL), FL_E_EXPIRED);
    for (int i = 100; i < MODEL_STEPS; i += 20)
        assert_model_at(f->store, &models[i], 3);
}

static struct fl_watch *watch_from(struct fl_store *store, const char *ns, uint64_t revision)
{
    struct fl_watch *watch = NULL;
    struct fl_error err = {0};

    if (fl_store_watch(store, PROJECTS, ns, revision, &watch, &err) < 0)
        fail_msg("watch: %s", err.msg);
    return watch;
}

static void assert_next(struct fl_watch *watch, enum fl_event_type type, uint64_t revision,
                        uint64_t previous, const char *text)
{
    struct fl_event event;

    assert_int_equal(fl_watch_next(watch, &event, NULL), 1);
    assert_int_equal(event.type, type);
    assert_int_equal(event.revision, revision);
    assert_object(event.object, revision, text);
    if (previous)
        assert_int_equal(event.previous->revision, previous);
    else
        assert_null(event.previous);
}

static void assert_none(struct fl_watch *watch)
{
    struct fl_event event;

    assert_int_equal(fl_watch_next(watch, &event, NULL), 0);
}

static void test_watch(void **state)
{
    struct fixture *f = *state;
    struct fl_watch *all, *one, *late, *future;
    uint64_t r[6];

    fixture_open(f);
    all = watch_from(f->store, NULL, 0);
    assert_none(all);
    r[0] = create(f->store, "a", "x", "1");
    one = watch_from(f->store, "b", 0);
    assert_none(one);
    r[1] = create(f->store, "b", "x", "2");
    r[2] = update(f->store, "a", "x", "3");
    (void)put(f->store, FL_STORE_CREATE, SECRETS, "a", "x", "not ours", 0);
    r[3] = erase(f->store, "b", "x");
    late = watch_from(f->store, NULL, r[1]);
    future = watch_from(f->store, NULL, r[3] + 1);
    assert_int_equal(fl_watch_revision(all), 0);
    assert_next(all, FL_EVENT_ADDED, r[0], 0, "1");
    assert_int_equal(fl_watch_revision(all), r[0]);
    assert_next(all, FL_EVENT_ADDED, r[1], 0, "2");
    assert_next(all, FL_EVENT_MODIFIED, r[2], r[0], "3");
    assert_next(all, FL_EVENT_DELETED, r[3], r[1], "2");
    assert_none(all);
    assert_next(one, FL_EVENT_ADDED, r[1], 0, "2");
    assert_next(one, FL_EVENT_DELETED, r[3], r[1], "2");
    assert_none(one);
    assert_next(late, FL_EVENT_MODIFIED, r[2], r[0], "3");
    assert_next(late, FL_EVENT_DELETED, r[3], r[1], "2");
    assert_none(late);
    assert_none(future);
    r[4] = create(f->store, "b", "x", "4");
    assert_int_equal(r[4], r[3] + 1);
    r[5] = update(f->store, "a", "x", "5");
    assert_next(late, FL_EVENT_ADDED, r[4], 0, "4");
    assert_next(future, FL_EVENT_MODIFIED, r[5], r[2], "5");
    assert_next(one, FL_EVENT_ADDED, r[4], 0, "4");
    assert_none(one);
    assert_none(one);
    assert_int_equal(fl_watch_revision(one), r[5]);
    fl_watch_close(all);
    fl_watch_close(one);
    fl_watch_close(late);
    fl_watch_close(future);
}

static void test_watch_bookmarks_other_changes(void **state)
{
    struct fixture *f = *state;
    struct fl_watch *watch;
    int64_t revision;

    fixture_open(f);
    watch = watch_from(f->store, NULL, 0);
    revision = put(f->store, FL_STORE_CREATE, SECRETS, "a", "x", "1", 0);
    assert_none(watch);
    assert_int_equal(fl_watch_revision(watch), revision);
    fl_watch_close(watch);
}

static void test_watch_falls_behind(void **state)
{
    struct fixture *f = *state;
    struct fl_watch *slow, *quick, *quiet, *refused = NULL;
    struct fl_event event;
    struct fl_error err;
    uint64_t last = 0;
    int64_t secret;

    f->options.max_history_events = 4;
    fixture_open(f);
    secret = put(f->store, FL_STORE_CREATE, SECRETS, "a", "x", "1", 0);
    assert_int_equal(fl_store_watch(f->store, SECRETS, NULL, (uint64_t)secret, &quiet, NULL), 0);
    slow = watch_from(f->store, NULL, 0);
    quick = watch_from(f->store, NULL, 0);
    (void)create(f->store, "a", "x", "1");
    assert_next(slow, FL_EVENT_ADDED, 2, 0, "1");
    for (int i = 0; i < 10; i++) {
        last = update(f->store, "a", "x", "2");
        while (fl_watch_next(quick, &event, NULL) == 1)
            assert_true(event.revision == last || event.revision == last - 1);
    }
    assert_int_equal(fl_store_stats(f->store).history_events, 4);
    assert_int_equal(fl_watch_next(slow, &event, &err), FL_E_EXPIRED);
    assert_int_equal(fl_watch_next(slow, &event, &err), FL_E_EXPIRED);
    assert_int_equal(fl_store_compacted_revision(f->store), last - 4);
    assert_int_equal(fl_store_watch(f->store, PROJECTS, NULL, last - 5, &refused, &err),
                     FL_E_EXPIRED);
    assert_null(refused);
    fl_watch_close(slow);
    slow = watch_from(f->store, NULL, last - 4);
    assert_int_equal(fl_watch_next(slow, &event, NULL), 1);
    assert_int_equal(event.revision, last - 3);
    /* A flood elsewhere makes no watch of a quiet resource start over. */
    assert_none(quiet);
    assert_int_equal(put(f->store, FL_STORE_UPDATE, SECRETS, "a", "x", "2", 0), (int64_t)last + 1);
    assert_int_equal(fl_watch_next(quiet, &event, NULL), 1);
    assert_int_equal(event.revision, last + 1);
    fl_watch_close(slow);
    fl_watch_close(quick);
    fl_watch_close(quiet);
}

static void test_history_bytes_are_bounded(void **state)
{
    struct fixture *f = *state;
    char text[1001];

    memset(text, 'x', 1000);
    text[1000] = '\0';
    f->options.max_history_bytes = 10 * 1024;
    fixture_open(f);
    /* What also the index holds costs nothing. */
    for (int i = 0; i < 50; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i);
        (void)create(f->store, "a", name, text);
    }
    assert_int_equal(fl_store_compacted_revision(f->store), 0);
    for (int i = 0; i < 50; i++)
        (void)update(f->store, "a", "n0", text);
    assert_true(fl_store_stats(f->store).history_events < 10);
    assert_true(fl_store_compacted_revision(f->store) >= 90);
    (void)erase(f->store, "a", "n1");
    assert_true(fl_store_stats(f->store).history_events < 9);
}

/* A clock that the test moves and the committer reads. */
static atomic_llong clock_us;

static int64_t read_clock(void *user)
{
    (void)user;
    return atomic_load(&clock_us);
}

static void test_history_ages(void **state)
{
    struct fixture *f = *state;
    struct fl_watch *refused;
    uint64_t second;

    atomic_store(&clock_us, 1000000);
    f->env.realtime_us = read_clock;
    f->options.history_ms = 1000;
    fixture_open(f);
    (void)create(f->store, "a", "x", "1");
    atomic_fetch_add(&clock_us, 900000);
    second = create(f->store, "a", "y", "1");
    fl_watch_close(watch_from(f->store, NULL, 0));
    atomic_fetch_add(&clock_us, 900000);
    (void)create(f->store, "a", "z", "1");
    assert_int_equal(fl_store_watch(f->store, PROJECTS, NULL, 0, &refused, NULL), FL_E_EXPIRED);
    fl_watch_close(watch_from(f->store, NULL, second - 1));
    assert_int_equal(fl_store_stats(f->store).history_events, 2);
    assert_int_equal(fl_store_count(f->store, PROJECTS), 3);
}

static void test_compaction(void **state)
{
    struct fixture *f = *state;
    struct fl_watch *open_one, *at_end, *refused;
    struct fl_event event;
    uint64_t first, last;

    fixture_open(f);
    first = create(f->store, "a", "x", "1");
    open_one = watch_from(f->store, NULL, 0);
    last = update(f->store, "a", "x", "2");
    assert_int_equal(fl_store_compact(f->store, last + 1, NULL), FL_E_INVALID);
    assert_int_equal(fl_store_compact(f->store, first, NULL), 0);
    assert_int_equal(fl_store_compacted_revision(f->store), first);
    assert_int_equal(fl_watch_next(open_one, &event, NULL), FL_E_EXPIRED);
    fl_watch_close(open_one);
    open_one = watch_from(f->store, NULL, first);
    assert_next(open_one, FL_EVENT_MODIFIED, last, first, "2");
    assert_int_equal(fl_store_compact(f->store, last, NULL), 0);
    /* It has seen all there was. */
    assert_none(open_one);
    assert_int_equal(fl_store_watch(f->store, PROJECTS, NULL, first, &refused, NULL), FL_E_EXPIRED);
    at_end = watch_from(f->store, NULL, last);
    assert_none(at_end);
    last = erase(f->store, "a", "x");
    assert_next(at_end, FL_EVENT_DELETED, last, last - 1, "2");
    assert_next(open_one, FL_EVENT_DELETED, last, last - 1, "2");
    fl_watch_close(open_one);
    fl_watch_close(at_end);
}

static void test_frames_are_shared(void **state)
{
    struct fixture *f = *state;
    struct fl_watch *one, *two;
    struct fl_event event, same;

    fixture_open(f);
    one = watch_from(f->store, NULL, 0);
    two = watch_from(f->store, NULL, 0);
    for (int i = 0; i < 3000; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i);
        (void)create(f->store, "a", name, "1");
        assert_int_equal(fl_watch_next(one, &event, NULL), 1);
        assert_null(*event.cache);
        fl_event_cache_put(one, &event, fl_bytes_new(name, strlen(name)));
        assert_string_equal((*event.cache)->data, name);
        if (i % 3)
            continue;
        while (fl_watch_next(two, &same, NULL) == 1 && same.revision < event.revision)
            ;
        assert_string_equal((*same.cache)->data, name);
        /* A second one is not needed, and given back. */
        fl_event_cache_put(two, &same, fl_bytes_new("other", 5));
        assert_string_equal((*same.cache)->data, name);
    }
    fl_watch_close(one);
    fl_watch_close(two);
}

/* Callbacks and completions as they come; only one thread commits, and joins order the rest. */
#define SEEN_MAX 4096

struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t committed[SEEN_MAX], done[SEEN_MAX];
    int codes[SEEN_MAX];
    size_t committed_count, done_count;
};

static void seen_init(struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    (void)pthread_mutex_init(&seen->lock, NULL);
    (void)pthread_cond_init(&seen->changed, NULL);
}

static void on_commit(void *user, const struct fl_event *events, size_t count)
{
    struct seen *seen = user;

    pthread_mutex_lock(&seen->lock);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(events[i].object->json);
        seen->committed[seen->committed_count++] = events[i].revision;
    }
    pthread_mutex_unlock(&seen->lock);
}

static void on_done(void *user, int code, struct fl_object *object, const struct fl_error *err)
{
    struct seen *seen = user;

    pthread_mutex_lock(&seen->lock);
    assert_true((code < 0) == (err != NULL) && (code < 0) == (object == NULL));
    seen->codes[seen->done_count] = code;
    seen->done[seen->done_count++] = object ? object->revision : 0;
    pthread_cond_signal(&seen->changed);
    pthread_mutex_unlock(&seen->lock);
}

static void wait_done(struct seen *seen, size_t count)
{
    pthread_mutex_lock(&seen->lock);
    while (seen->done_count < count)
        (void)pthread_cond_wait(&seen->changed, &seen->lock);
    pthread_mutex_unlock(&seen->lock);
}

static int write_async(struct fl_store *store, enum fl_store_op op, const char *name,
                       const char *text, uint64_t expect, struct seen *seen)
{
    FL_JSON object = text ? content("ns", name, text) : NULL;
    struct fl_store_write write = {op, {PROJECTS, "ns", name}, object, expect};

    return fl_store_write(store, &write, on_done, seen, NULL);
}

static void test_commit_callbacks_in_order(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;

    seen_init(&seen);
    fixture_open(f);
    fl_store_on_commit(f->store, on_commit, &seen);
    for (int i = 0; i < 1000; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(write_async(f->store, FL_STORE_CREATE, name, "1", 0, &seen), 0);
    }
    wait_done(&seen, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(seen.committed[i], i + 1);
        assert_int_equal(seen.done[i], i + 1);
    }
    assert_int_equal(seen.committed_count, 1000);
}

static void hold_commits(bool hold)
{
    atomic_store(&fl_store_faults.hold_commits, hold);
}

/* Until a commit is under way that does not end. */
static void wait_held(void)
{
    while (atomic_load(&fl_store_faults.held) == 0)
        (void)nanosleep(&(struct timespec){0, 100000}, NULL);
}

static uint64_t newest_revision(struct fl_store *store, const char *name)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_store_get_newest(store, &(struct fl_key){PROJECTS, "ns", name});

    return object ? object->revision : 0;
}

static void build_on_writes_in_flight(struct fl_store *store, struct seen *seen)
{
    assert_int_equal(write_async(store, FL_STORE_CREATE, "a", "1", 0, seen), 0);
    if (subject->faulty)
        wait_held();
    assert_int_equal(write_async(store, FL_STORE_CREATE, "a", "1", 0, seen), FL_E_ALREADY_EXISTS);
    assert_int_equal(newest_revision(store, "a"), 1);
    assert_int_equal(write_async(store, FL_STORE_UPDATE, "a", "2", 1, seen), 0);
    assert_int_equal(write_async(store, FL_STORE_UPDATE, "a", "3", 1, seen), FL_E_CONFLICT);
    assert_int_equal(newest_revision(store, "a"), 2);
    assert_int_equal(write_async(store, FL_STORE_DELETE, "a", NULL, 2, seen), 0);
    assert_int_equal(newest_revision(store, "a"), 0);
    assert_int_equal(write_async(store, FL_STORE_DELETE, "a", NULL, 0, seen), FL_E_NOT_FOUND);
    assert_int_equal(write_async(store, FL_STORE_CREATE, "a", "4", 0, seen), 0);
    assert_int_equal(newest_revision(store, "a"), 4);
}

static void test_writes_build_on_one_another(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    struct fl_watch *watch;
    static struct seen seen;

    seen_init(&seen);
    fixture_open(f);
    hold_commits(subject->faulty);
    build_on_writes_in_flight(f->store, &seen);
    watch = watch_from(f->store, NULL, 0);
    if (subject->faulty) {
        assert_null(get(f->store, "ns", "a"));
        assert_int_equal(fl_store_revision(f->store), 0);
        assert_int_equal(fl_store_stats(f->store).pending_writes, 4);
        assert_none(watch);
    }
    hold_commits(false);
    wait_done(&seen, 4);
    object = get(f->store, "ns", "a");
    assert_object(object, 4, "4");
    assert_next(watch, FL_EVENT_ADDED, 1, 0, "1");
    assert_next(watch, FL_EVENT_MODIFIED, 2, 1, "2");
    assert_next(watch, FL_EVENT_DELETED, 3, 2, "2");
    assert_next(watch, FL_EVENT_ADDED, 4, 0, "4");
    fl_watch_close(watch);
}

static void test_failed_commit_undoes_all_under_way(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *kept = NULL, *after = NULL;
    struct fl_watch *watch;
    static struct seen seen;
    uint64_t revision;

    seen_init(&seen);
    fixture_open(f);
    fl_store_on_commit(f->store, on_commit, &seen);
    revision = create(f->store, "ns", "kept", "1");
    watch = watch_from(f->store, NULL, revision);
    hold_commits(true);
    atomic_store(&fl_store_faults.fail_commits, 1);
    assert_int_equal(write_async(f->store, FL_STORE_UPDATE, "kept", "2", revision, &seen), 0);
    wait_held();
    assert_int_equal(write_async(f->store, FL_STORE_DELETE, "kept", NULL, 0, &seen), 0);
    assert_int_equal(write_async(f->store, FL_STORE_CREATE, "kept", "3", 0, &seen), 0);
    assert_int_equal(write_async(f->store, FL_STORE_CREATE, "new", "1", 0, &seen), 0);
    assert_int_equal(write_async(f->store, FL_STORE_UPDATE, "new", "2", 0, &seen), 0);
    hold_commits(false);
    wait_done(&seen, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(seen.codes[i], FL_E_UNAVAILABLE);
    kept = get(f->store, "ns", "kept");
    assert_object(kept, revision, "1");
    assert_int_equal(newest_revision(f->store, "kept"), revision);
    assert_int_equal(newest_revision(f->store, "new"), 0);
    assert_int_equal(fl_store_revision(f->store), revision);
    assert_int_equal(fl_store_stats(f->store).pending_writes, 0);
    assert_none(watch);
    assert_true(create(f->store, "ns", "new", "3") > revision + 5);
    revision = (uint64_t)put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "kept", "4", revision);
    after = get(f->store, "ns", "kept");
    assert_object(after, revision, "4");
    assert_next(watch, FL_EVENT_ADDED, revision - 1, 0, "3");
    assert_next(watch, FL_EVENT_MODIFIED, revision, 1, "4");
    assert_int_equal(seen.committed_count, 3);
    fl_watch_close(watch);
}

static void test_disk_gone_for_good(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;

    fixture_open(f);
    (void)create(f->store, "ns", "a", "1");
    atomic_store(&fl_store_faults.fail_commits, -1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "a", "2", 1),
                         FL_E_UNAVAILABLE);
    object = get(f->store, "ns", "a");
    assert_object(object, 1, "1");
    atomic_store(&fl_store_faults.fail_commits, 0);
    assert_true(put(f->store, FL_STORE_UPDATE, PROJECTS, "ns", "a", "2", 1) > 1);
}

static void test_writes_under_way_are_bounded(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;

    seen_init(&seen);
    f->options.max_pending_writes = 3;
    fixture_open(f);
    hold_commits(true);
    assert_int_equal(write_async(f->store, FL_STORE_CREATE, "a", "1", 0, &seen), 0);
    wait_held();
    assert_int_equal(write_async(f->store, FL_STORE_CREATE, "b", "1", 0, &seen), 0);
    assert_int_equal(write_async(f->store, FL_STORE_CREATE, "c", "1", 0, &seen), 0);
    assert_int_equal(write_async(f->store, FL_STORE_CREATE, "d", "1", 0, &seen), FL_E_UNAVAILABLE);
    hold_commits(false);
    wait_done(&seen, 3);
    (void)create(f->store, "ns", "d", "1");
}

/* Closing waits for what was accepted. */
static void test_close_finishes_writes(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;

    seen_init(&seen);
    fixture_open(f);
    atomic_store(&fl_store_faults.commit_delay_ms, 5);
    for (int i = 0; i < 20; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(write_async(f->store, FL_STORE_CREATE, name, "1", 0, &seen), 0);
    }
    fixture_close(f);
    assert_int_equal(seen.done_count, 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(seen.codes[i], 0);
}

static void test_reopen(void **state)
{
    struct fixture *f = *state;
    static struct model models[MODEL_STEPS];
    struct fl_watch *watch;
    struct fl_event event;
    unsigned seed = 11;
    uint64_t last, expected = 0;

    fixture_open(f);
    memset(models, 0, sizeof(models));
    for (int i = 0; i < MODEL_STEPS; i++) {
        if (i)
            models[i] = models[i - 1];
        model_step(f->store, &models[i], &seed);
        if (i % 50 == 0) {
            fixture_close(f);
            fixture_open(f);
        }
    }
    last = models[MODEL_STEPS - 1].at;
    assert_int_equal(fl_store_revision(f->store), last);
    for (int i = 0; i < MODEL_STEPS; i += 10)
        assert_model_at(f->store, &models[i], 4);
    watch = watch_from(f->store, NULL, 0);
    while (fl_watch_next(watch, &event, NULL) == 1)
        assert_int_equal(event.revision, ++expected);
    assert_int_equal(expected, last);
    fl_watch_close(watch);
    assert_int_equal(fl_store_compact(f->store, models[150].at, NULL), 0);
    fixture_close(f);
    fixture_open(f);
    for (int i = MODEL_STEPS - 1; i > 150; i -= 10)
        assert_model_at(f->store, &models[i], 4);
    assert_true(create(f->store, "new", "new", "1") > last);
}

/* Not even the revision of a deletion that compaction has removed altogether. */
static void test_revisions_are_never_reused(void **state)
{
    struct fixture *f = *state;
    struct fl_watch *watch;
    uint64_t last;

    fixture_open(f);
    (void)create(f->store, "a", "x", "1");
    last = erase(f->store, "a", "x");
    for (long ms = 50; ms < 2000 && fl_store_compacted_revision(f->store) < last; ms += 50) {
        /* The committer compacts in its spare time. */
        assert_int_equal(fl_store_compact(f->store, last, NULL), 0);
        (void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
        fixture_close(f);
        fixture_open(f);
        assert_int_equal(fl_store_revision(f->store), last);
    }
    assert_int_equal(fl_store_compacted_revision(f->store), last);
    assert_int_equal(fl_store_watch(f->store, PROJECTS, NULL, last - 1, &watch, NULL),
                     FL_E_EXPIRED);
    assert_int_equal(create(f->store, "a", "x", "1"), last + 1);
}

/* Several threads count up shared objects by read, change and compare; one follows by a watch. */
#define COUNTERS 5
#define WRITERS  4
#define ROUNDS   150

struct race {
    struct fl_store *store;
    atomic_int running;
};

static bool count_up(struct fl_store *store, const char *name)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object = fl_store_get_newest(store, &(struct fl_key){PROJECTS, "ns", name});
    FL_JSON value = fl_object_parse(object);
    char text[16];

    (void)snprintf(text, sizeof(text), "%d", atoi(fl_json_str(value, "spec.text")) + 1);
    return put(store, FL_STORE_UPDATE, PROJECTS, "ns", name, text, object->revision) > 0;
}

static void *run_writer(void *user)
{
    struct race *race = user;
    unsigned seed = (unsigned)pthread_self();

    for (int i = 0; i < ROUNDS; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "c%d", rand_r(&seed) % COUNTERS);
        while (!count_up(race->store, name))
            ;
    }
    atomic_fetch_sub(&race->running, 1);
    return NULL;
}

static void *run_reader(void *user)
{
    struct race *race = user;
    struct fl_list_query query = {.resource = PROJECTS};
    struct fl_list list;
    uint64_t before = 0;

    while (atomic_load(&race->running) > 0) {
        assert_int_equal(fl_store_list(race->store, &query, &list, NULL), 0);
        assert_true(list.revision >= before && list.count == COUNTERS);
        before = list.revision;
        query.revision = before > 3 + COUNTERS ? before - 3 : 0;
        fl_list_finish(&list);
        assert_int_equal(fl_store_list(race->store, &query, &list, NULL), 0);
        fl_list_finish(&list);
        query.revision = 0;
    }
    return NULL;
}

static void follow(struct race *race, struct fl_watch *watch, int counts[COUNTERS])
{
    uint64_t last = COUNTERS;
    struct fl_event event;
    int r;

    for (bool again = true; again;) {
        again = atomic_load(&race->running) > 0;
        while ((r = fl_watch_next(watch, &event, NULL)) == 1) {
            FL_JSON value = fl_object_parse(event.object);
            int *count = &counts[event.object->name[1] - '0'];

            assert_int_equal(event.revision, ++last);
            assert_int_equal(atoi(fl_json_str(value, "spec.text")), ++*count);
            if (!*event.cache)
                fl_event_cache_put(watch, &event, fl_bytes_ref(event.object->json));
        }
        assert_int_equal(r, 0);
    }
}

static void test_threads(void **state)
{
    struct fixture *f = *state;
    struct race race;
    pthread_t threads[WRITERS + 2];
    struct fl_watch *watch;
    int counts[COUNTERS] = {0}, total = 0;

    fixture_open(f);
    for (int i = 0; i < COUNTERS; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "c%d", i);
        (void)create(f->store, "ns", name, "0");
    }
    watch = watch_from(f->store, "ns", COUNTERS);
    race = (struct race){.store = f->store, .running = WRITERS};
    for (int i = 0; i < WRITERS + 2; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < WRITERS ? run_writer : run_reader, &race), 0);
    follow(&race, watch, counts);
    for (int i = 0; i < WRITERS + 2; i++)
        (void)pthread_join(threads[i], NULL);
    for (int i = 0; i < COUNTERS; i++)
        total += counts[i];
    assert_int_equal(total, WRITERS * ROUNDS);
    assert_int_equal(fl_store_revision(f->store), COUNTERS + WRITERS * ROUNDS);
    fl_watch_close(watch);
}

static void test_open_refuses(void **state)
{
    struct fixture *f = *state;
    struct fl_store_options options = f->options;
    struct fl_store *store = NULL;
    struct fl_error err;

    options.driver = "stone";
    assert_int_equal(fl_store_open(&options, &store, &err), FL_E_INVALID);
    assert_null(store);
}

enum needs { ANY, DURABLE, FAULTY };

struct row {
    struct CMUnitTest test;
    enum needs needs;
};

#define ROW(name, needs)                                                                           \
    {                                                                                              \
        cmocka_unit_test_setup_teardown(name, setup, teardown), needs                              \
    }

static const struct row rows[] = {
    ROW(test_revisions_grow, ANY),
    ROW(test_create_refuses_what_exists, ANY),
    ROW(test_stale_update_conflicts, ANY),
    ROW(test_delete, ANY),
    ROW(test_invalid_writes, ANY),
    ROW(test_content_is_kept, ANY),
    ROW(test_labels, ANY),
    ROW(test_list, ANY),
    ROW(test_list_at_old_revision, ANY),
    ROW(test_watch, ANY),
    ROW(test_watch_bookmarks_other_changes, ANY),
    ROW(test_watch_falls_behind, ANY),
    ROW(test_history_bytes_are_bounded, ANY),
    ROW(test_history_ages, ANY),
    ROW(test_compaction, ANY),
    ROW(test_frames_are_shared, ANY),
    ROW(test_commit_callbacks_in_order, ANY),
    ROW(test_writes_build_on_one_another, ANY),
    ROW(test_failed_commit_undoes_all_under_way, FAULTY),
    ROW(test_disk_gone_for_good, FAULTY),
    ROW(test_writes_under_way_are_bounded, FAULTY),
    ROW(test_close_finishes_writes, ANY),
    ROW(test_reopen, DURABLE),
    ROW(test_revisions_are_never_reused, DURABLE),
    ROW(test_threads, ANY),
    ROW(test_open_refuses, ANY),
};

static int run_on(const struct subject *on)
{
    struct CMUnitTest tests[FL_COUNT_OF(rows)];
    size_t count = 0;

    subject = on;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++)
        if ((rows[i].needs != DURABLE || on->durable) && (rows[i].needs != FAULTY || on->faulty))
            tests[count++] = rows[i].test;
    return _cmocka_run_group_tests(on->driver, tests, count, NULL, NULL);
}

int main(void)
{
    struct fl_error err;
    int failed = 0;

    if (fl_store_faulty_register(&err) < 0)
        return 1;
    for (size_t i = 0; i < FL_COUNT_OF(subjects); i++)
        failed += run_on(&subjects[i]);
    return failed != 0;
}
