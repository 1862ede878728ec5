/* What every client promises, on every driver: in threads, and turning a simulated loop. */
#include "controller/client/client_testing.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define PATIENCE_MS 20000

static const char widget_definition[] =
    "{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"kind\":\"CustomResourceDefinition\","
    "\"metadata\":{\"name\":\"widgets.test.dev\"},\"spec\":{\"group\":\"test.dev\","
    "\"scope\":\"Namespaced\",\"names\":{\"plural\":\"widgets\",\"kind\":\"Widget\"},"
    "\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,"
    "\"subresources\":{\"status\":{}},\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\","
    "\"properties\":{\"spec\":{\"type\":\"object\",\"properties\":{\"size\":{\"type\":\"integer\","
    "\"minimum\":0}}},\"status\":{\"type\":\"object\",\"properties\":{\"ready\":{\"type\":"
    "\"boolean\"}}}}}}}]}}";
static const char *const definitions[] = {widget_definition};

static const struct fl_gvr widgets = {"test.dev", "v1", "widgets", true};

struct driver {
    const char *name;
    bool simulated;
    const char *store;
    bool faulty;
};

static const struct driver drivers[] = {
    {"local, threads, memory", false, "memory", false},
    {"local, threads, sqlite", false, "sqlite", false},
    {"local, simulated", true, "memory", false},
    {"faulty, without faults", true, "memory", true},
};

struct fixture {
    const struct driver *driver;
    struct fl_plane *plane;
    struct fl_apiclient *client;
    struct fl_client_faults faults;
    char folder[64], path[96];
};

static struct fixture *open_fixture(const struct driver *driver)
{
    struct fixture *f = fl_calloc(1, sizeof(*f));
    struct fl_plane_options options = {
        .simulated = driver->simulated,
        .seed = 7,
        .driver = driver->store,
        .path = f->path,
        .definitions = definitions,
        .definition_count = 1,
    };
    struct fl_error err = {0};

    print_message("  %s\n", driver->name);
    f->driver = driver;
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/flops-client-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->folder);
    if (fl_plane_create(&options, &f->plane, &err) < 0)
        fail_msg("%s", err.msg);
    f->client = f->plane->client;
    if (driver->faulty)
        f->client = fl_apiclient_create_faulty(&f->plane->env, f->client, &f->faults);
    return f;
}

static void close_fixture(struct fixture *f)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char path[128];

    if (f->driver->faulty)
        fl_apiclient_destroy(f->client);
    fl_plane_destroy(f->plane);
    for (size_t i = 0; i < FL_COUNT_OF(suffixes); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(f->folder), 0);
    free(f);
}

typedef void check_fn(struct fixture *f);

static void on_every_driver(check_fn *check)
{
    for (size_t i = 0; i < FL_COUNT_OF(drivers); i++) {
        struct fixture *f = open_fixture(&drivers[i]);

        check(f);
        close_fixture(f);
    }
}

#define CONTRACT(name)                                                                             \
    static void check_##name(struct fixture *f);                                                   \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        on_every_driver(check_##name);                                                             \
    }                                                                                              \
    static void check_##name(struct fixture *f)

/* Short forms */

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct fl_error err = {0};                                                                 \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, err.msg);                                                    \
    } while (0)

static json_t *widget(const char *name, int size)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:i}}", "apiVersion", "test.dev/v1", "kind",
                     "Widget", "metadata", "name", name, "namespace", "default", "spec", "size",
                     size);
}

static void create(struct fl_apiclient *client, const char *name, int size)
{
    FL_JSON object = widget(name, size);

    OK(fl_apiclient_create_object(client, &widgets, "default", object, NULL, &err));
}

static json_t *get(struct fl_apiclient *client, const char *name)
{
    json_t *object = NULL;

    OK(fl_apiclient_get(client, &widgets, "default", name, &object, &err));
    return object;
}

static void remove_widget(struct fl_apiclient *client, const char *name)
{
    OK(fl_apiclient_delete(client, &widgets, "default", name, NULL, &err));
}

static int64_t size_of(struct fl_apiclient *client, const char *name)
{
    FL_JSON object = get(client, name);

    return json_integer_value(fl_json_path(object, "spec.size"));
}

/* Objects */

CONTRACT(objects_are_written_and_read)
{
    FL_JSON object = widget("a", 1);
    FL_JSON created = NULL;
    FL_JSON patched = NULL;
    FL_JSON status = NULL;
    FL_JSON patch = json_pack("{s:{s:i}}", "spec", "size", 5);
    FL_JSON ready = json_pack("{s:{s:b}}", "status", "ready", 1);

    OK(fl_apiclient_create_object(f->client, &widgets, "default", object, &created, &err));
    assert_non_null(fl_json_str(created, "metadata.uid"));
    assert_int_equal(size_of(f->client, "a"), 1);
    OK(fl_apiclient_patch(f->client, &widgets, "default", "a", NULL, patch, &patched, &err));
    assert_int_equal(json_integer_value(fl_json_path(patched, "spec.size")), 5);
    OK(fl_apiclient_patch(f->client, &widgets, "default", "a", "status", ready, &status, &err));
    assert_true(json_is_true(fl_json_path(status, "status.ready")));
    assert_int_equal(json_integer_value(fl_json_path(status, "metadata.generation")), 2);
}

static void expect(int r, const struct fl_error *err, int code, const char *text)
{
    assert_int_equal(r, code);
    assert_int_equal(err->code, code);
    if (!strstr(err->msg, text))
        fail_msg("\"%s\" does not say \"%s\"", err->msg, text);
}

CONTRACT(errors_have_the_code_and_the_words_of_the_status)
{
    FL_JSON bad = widget("bad", -1);
    FL_JSON twice = widget("a", 1);
    FL_JSON stale =
        json_pack("{s:{s:s}, s:{s:i}}", "metadata", "resourceVersion", "1", "spec", "size", 3);
    FL_JSON got = NULL;
    struct fl_error failure = {0};

    create(f->client, "a", 1);
    expect(fl_apiclient_get(f->client, &widgets, "default", "none", &got, &failure), &failure,
           FL_E_NOT_FOUND, "widgets.test.dev \"none\" not found");
    assert_null(got);
    expect(fl_apiclient_create_object(f->client, &widgets, "default", twice, &got, &failure),
           &failure, FL_E_ALREADY_EXISTS, "already exists");
    expect(fl_apiclient_create_object(f->client, &widgets, "default", bad, &got, &failure),
           &failure, FL_E_INVALID, "spec.size");
    expect(fl_apiclient_patch(f->client, &widgets, "default", "a", NULL, stale, &got, &failure),
           &failure, FL_E_CONFLICT, "the object has been modified");
    assert_int_equal(size_of(f->client, "a"), 1);
    expect(fl_apiclient_get(f->client, &widgets, "default", "", &got, &failure), &failure,
           FL_E_INVALID, "name");
    expect(fl_apiclient_get(f->client, &widgets, NULL, "a", &got, &failure), &failure, FL_E_INVALID,
           "namespace");
    assert_null(got);
}

CONTRACT(names_are_escaped)
{
    struct fl_error failure = {0};

    create(f->client, "a", 1);
    expect(fl_apiclient_get(f->client, &widgets, "default", "x/../a", NULL, &failure), &failure,
           FL_E_NOT_FOUND, "");
    expect(fl_apiclient_get(f->client, &widgets, "default", "a?watch=true", NULL, &failure),
           &failure, FL_E_NOT_FOUND, "");
}

CONTRACT(an_apply_owns_its_fields)
{
    const struct fl_apply_options git = {.manager = "git one"}, other = {.manager = "other"},
                                  force = {.manager = "other", .force = true},
                                  dry = {.manager = "git one", .dry_run = true};
    FL_JSON one = widget("a", 1);
    FL_JSON two = widget("a", 2);
    FL_JSON first = NULL;
    FL_JSON again = NULL;
    struct fl_error failure = {0};

    OK(fl_apiclient_apply(f->client, &widgets, one, &dry, NULL, &err));
    assert_int_equal(fl_apiclient_get(f->client, &widgets, "default", "a", NULL, NULL),
                     FL_E_NOT_FOUND);
    OK(fl_apiclient_apply(f->client, &widgets, one, &git, &first, &err));
    OK(fl_apiclient_apply(f->client, &widgets, one, &git, &again, &err));
    assert_string_equal(fl_json_str(first, "metadata.resourceVersion"),
                        fl_json_str(again, "metadata.resourceVersion"));
    expect(fl_apiclient_apply(f->client, &widgets, two, &other, NULL, &failure), &failure,
           FL_E_CONFLICT, "git one");
    OK(fl_apiclient_apply(f->client, &widgets, two, &force, NULL, &err));
    assert_int_equal(size_of(f->client, "a"), 2);
}

CONTRACT(a_deletion_of_what_is_gone_succeeds)
{
    FL_JSON first = NULL;

    remove_widget(f->client, "none");
    create(f->client, "a", 1);
    first = get(f->client, "a");
    remove_widget(f->client, "a");
    assert_int_equal(fl_apiclient_get(f->client, &widgets, "default", "a", NULL, NULL),
                     FL_E_NOT_FOUND);
    create(f->client, "a", 2); /* another one under the name stays */
    OK(fl_apiclient_delete(f->client, &widgets, "default", "a", fl_json_str(first, "metadata.uid"),
                           &err));
    assert_int_equal(size_of(f->client, "a"), 2);
}

CONTRACT(a_list_selects_by_label)
{
    FL_JSON all = NULL;
    FL_JSON some = NULL;
    FL_JSON everywhere = NULL;
    FL_JSON patch = json_pack("{s:{s:{s:s}}}", "metadata", "labels", "app/x", "y z");
    FL_JSON label = json_pack("{s:{s:{s:s}}}", "metadata", "labels", "app/x", "yz");
    struct fl_error failure = {0};

    create(f->client, "a", 1);
    create(f->client, "b", 1);
    expect(fl_apiclient_patch(f->client, &widgets, "default", "b", NULL, patch, NULL, &failure),
           &failure, FL_E_INVALID, "labels");
    OK(fl_apiclient_patch(f->client, &widgets, "default", "b", NULL, label, NULL, &err));
    OK(fl_apiclient_list(f->client, &widgets, "default", NULL, &all, &err));
    OK(fl_apiclient_list(f->client, &widgets, "default", "app/x in (yz,q)", &some, &err));
    OK(fl_apiclient_list(f->client, &widgets, NULL, NULL, &everywhere, &err));
    assert_int_equal(json_array_size(all), 2);
    assert_int_equal(json_array_size(some), 1);
    assert_string_equal(fl_json_str(json_array_get(some, 0), "metadata.name"), "b");
    assert_int_equal(json_array_size(everywhere), 2);
}

/* An answer may be larger than any request. */
CONTRACT(a_list_may_be_long)
{
    FL_CLEANUP(fl_freep) char *text = fl_malloc(900001);
    FL_JSON all = NULL;

    memset(text, 'x', 900000);
    text[900000] = '\0';
    for (int i = 0; i < 5; i++) {
        FL_CLEANUP(fl_freep) char *name = fl_asprintf("m%d", i);
        FL_JSON map = json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "v1", "kind",
                                "ConfigMap", "metadata", "name", name, "data", "text", text);

        OK(fl_apiclient_create_object(f->client, &fl_gvr_configmaps, "default", map, NULL, &err));
    }
    OK(fl_apiclient_list(f->client, &fl_gvr_configmaps, "default", NULL, &all, &err));
    assert_int_equal(json_array_size(all), 5);
}

CONTRACT(cluster_scoped_objects_have_no_namespace)
{
    FL_JSON object = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Namespace",
                               "metadata", "name", "team");
    FL_JSON got = NULL;

    OK(fl_apiclient_create_object(f->client, &fl_gvr_namespaces, NULL, object, NULL, &err));
    OK(fl_apiclient_get(f->client, &fl_gvr_namespaces, NULL, "team", &got, &err));
    assert_string_equal(fl_json_str(got, "status.phase"), "Active");
}

/* Users */

CONTRACT(another_user_has_only_their_own_rights)
{
    static const char *const groups[] = {"makers"};
    struct fl_apiclient *alice = fl_apiclient_as(
        f->client, &(struct fl_api_user){.name = "alice", .groups = groups, .group_count = 1});
    FL_JSON binding =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s, s:s}, s:[{s:s, s:s, s:s}]}", "apiVersion",
                  "rbac.authorization.k8s.io/v1", "kind", "RoleBinding", "metadata", "name",
                  "makers", "namespace", "default", "roleRef", "apiGroup",
                  "rbac.authorization.k8s.io", "kind", "ClusterRole", "name", "edit", "subjects",
                  "kind", "Group", "apiGroup", "rbac.authorization.k8s.io", "name", "makers");
    FL_JSON secrets = NULL;
    struct fl_error failure = {0};

    expect(fl_apiclient_list(alice, &fl_gvr_secrets, "default", NULL, &secrets, &failure), &failure,
           FL_E_FORBIDDEN, "User \"alice\" cannot list");
    OK(fl_apiclient_create_object(f->client, &fl_gvr_rolebindings, "default", binding, NULL, &err));
    OK(fl_apiclient_list(alice, &fl_gvr_secrets, "default", NULL, &secrets, &err));
    fl_apiclient_destroy(alice);
}

CONTRACT(a_user_that_cannot_be_is_refused)
{
    char name[300];
    struct fl_apiclient *client;
    struct fl_error failure = {0};

    (void)memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    client = fl_apiclient_as(f->client, &(struct fl_api_user){.name = name});
    expect(fl_apiclient_list(client, &widgets, "default", NULL, NULL, &failure), &failure,
           FL_E_BAD_REQUEST, "the name of a user");
    fl_apiclient_destroy(client);
}

/* Calls */

CONTRACT(a_call_that_is_never_answered_times_out)
{
    struct fl_api_call call = {
        .method = "GET", .target = "/apis/test.dev/v1/widgets?watch=true", .timeout_ms = 50};
    struct fl_error failure = {0};

    expect(fl_apiclient_call(f->client, &call, NULL, &failure), &failure, FL_E_TIMEOUT,
           "no answer to GET");
    create(f->client, "a", 1); /* and the next call works */
    assert_int_equal(size_of(f->client, "a"), 1);
}

CONTRACT(documents_are_served)
{
    struct fl_api_call call = {.method = "GET", .target = "/apis/test.dev/v1"};
    FL_JSON value = NULL;

    OK(fl_apiclient_call(f->client, &call, &value, &err));
    assert_string_equal(fl_json_str(value, "kind"), "APIResourceList");
}

/* Lists and watches */

struct watcher {
    struct fl_apiclient_watch *watch;
    atomic_int woken;
};

static void wake(void *user)
{
    (void)atomic_fetch_add(&((struct watcher *)user)->woken, 1);
}

static void watch_from(struct fixture *f, struct watcher *watcher, const char *ns,
                       uint64_t revision)
{
    OK(fl_apiclient_watch(f->client, &widgets, ns, revision, wake, watcher, &watcher->watch, &err));
}

static void wait_for_wakes(const struct watcher *watcher, int count)
{
    for (int i = 0; i < PATIENCE_MS && atomic_load(&watcher->woken) < count; i++)
        (void)usleep(1000);
    assert_int_equal(atomic_load(&watcher->woken), count);
}

static void expect_event(struct watcher *watcher, enum fl_event_type type, const char *name)
{
    struct fl_event event;
    struct fl_error err = {0};

    assert_int_equal(fl_apiclient_watch_next(watcher->watch, &event, &err), 1);
    assert_int_equal(event.type, type);
    assert_string_equal(event.object->name, name);
}

static void expect_nothing(struct watcher *watcher)
{
    struct fl_event event;
    struct fl_error err = {0};

    assert_int_equal(fl_apiclient_watch_next(watcher->watch, &event, &err), 0);
}

CONTRACT(a_watch_follows_a_list)
{
    struct watcher watcher = {0};
    struct fl_list list = {0};

    create(f->client, "a", 1);
    OK(fl_apiclient_list_objects(f->client, &widgets, NULL, &list, &err));
    assert_int_equal(list.count, 1);
    assert_string_equal(list.objects[0]->name, "a");
    watch_from(f, &watcher, NULL, list.revision);
    fl_list_finish(&list);
    expect_nothing(&watcher);
    create(f->client, "b", 1);
    remove_widget(f->client, "a");
    wait_for_wakes(&watcher, 1); /* once, until it was read to its end */
    expect_event(&watcher, FL_EVENT_ADDED, "b");
    expect_event(&watcher, FL_EVENT_DELETED, "a");
    expect_nothing(&watcher);
    create(f->client, "c", 1);
    wait_for_wakes(&watcher, 2);
    expect_event(&watcher, FL_EVENT_ADDED, "c");
    fl_apiclient_watch_close(watcher.watch);
    create(f->client, "d", 1);
    assert_int_equal(atomic_load(&watcher.woken), 2);
}

CONTRACT(a_watch_wakes_only_for_what_is_its_own)
{
    struct watcher here = {0}, there = {0};
    FL_JSON map = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                            "metadata", "name", "m");

    watch_from(f, &here, "default", fl_store_revision(f->plane->store));
    watch_from(f, &there, "kube-system", fl_store_revision(f->plane->store));
    OK(fl_apiclient_create_object(f->client, &fl_gvr_configmaps, "default", map, NULL, &err));
    create(f->client, "a", 1);
    wait_for_wakes(&here, 1);
    expect_event(&here, FL_EVENT_ADDED, "a");
    expect_nothing(&here);
    expect_nothing(&there);
    assert_int_equal(atomic_load(&there.woken), 0);
    fl_apiclient_watch_close(here.watch);
    fl_apiclient_watch_close(there.watch);
}

CONTRACT(a_watch_from_forgotten_times_expires)
{
    struct watcher watcher = {0};
    struct fl_error failure = {0};

    create(f->client, "a", 1);
    create(f->client, "b", 1);
    OK(fl_store_compact(f->plane->store, fl_store_revision(f->plane->store), &err));
    assert_int_equal(
        fl_apiclient_watch(f->client, &widgets, NULL, 1, wake, &watcher, &watcher.watch, &failure),
        FL_E_EXPIRED);
    assert_null(watcher.watch);
}

/* Many threads: each change is seen once and in order, however they interleave. */

#define WRITERS 4
#define WRITES  60

struct writer {
    struct fl_apiclient *client;
    struct fl_thread *thread;
    int id, failed;
};

static void write_many(void *user)
{
    struct writer *writer = user;
    char name[32];

    for (int i = 0; i < WRITES; i++) {
        FL_JSON object = NULL;

        (void)snprintf(name, sizeof(name), "w%d-%d", writer->id, i);
        object = widget(name, i);
        writer->failed +=
            fl_apiclient_create_object(writer->client, &widgets, "default", object, NULL, NULL) < 0;
        writer->failed += fl_apiclient_get(writer->client, &widgets, "default", name, NULL, NULL) <
                          0; /* what was answered can be read */
    }
}

static void read_all(struct watcher *watcher, int count)
{
    uint64_t revision = 0;
    int woken = -1, seen = 0;
    struct fl_event event;

    for (int i = 0; i < PATIENCE_MS && seen < count; i++) {
        if (atomic_load(&watcher->woken) == woken) { /* only a wake may bring more */
            (void)usleep(1000);
            continue;
        }
        woken = atomic_load(&watcher->woken);
        while (fl_apiclient_watch_next(watcher->watch, &event, NULL) > 0) {
            assert_true(event.revision > revision);
            revision = event.revision;
            seen++;
        }
    }
    assert_int_equal(seen, count);
}

CONTRACT(threads_share_a_client)
{
    struct writer writers[WRITERS] = {0};
    struct watcher watcher = {0};

    watch_from(f, &watcher, NULL, fl_store_revision(f->plane->store));
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.client = f->client, .id = i};
        if (f->driver->simulated)
            write_many(&writers[i]);
        else
            OK(fl_thread_start("writer", write_many, &writers[i], &writers[i].thread, &err));
    }
    read_all(&watcher, WRITERS * WRITES);
    for (int i = 0; i < WRITERS; i++) {
        fl_thread_join(writers[i].thread);
        assert_int_equal(writers[i].failed, 0);
    }
    fl_apiclient_watch_close(watcher.watch);
}

/* Those who do not wait for their answers do no harm to anybody. */
static void leave_early(void *user)
{
    struct writer *writer = user;

    for (int i = 0; i < WRITES; i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        char *body =
            fl_arena_printf(arena,
                            "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":"
                            "{\"name\":\"e%d-%d\"}}",
                            writer->id, i);
        struct fl_api_call call = {.method = "POST",
                                   .target = "/apis/test.dev/v1/namespaces/default/widgets",
                                   .content_type = "application/json",
                                   .body = body,
                                   .body_len = strlen(body),
                                   .timeout_ms = 1};
        int r = fl_apiclient_call(writer->client, &call, NULL, NULL);

        writer->failed += r < 0 && r != FL_E_TIMEOUT;
    }
}

CONTRACT(abandoned_calls_do_no_harm)
{
    struct writer writers[WRITERS] = {0};

    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.client = f->client, .id = i};
        if (f->driver->simulated)
            leave_early(&writers[i]);
        else
            OK(fl_thread_start("leaver", leave_early, &writers[i], &writers[i].thread, &err));
    }
    for (int i = 0; i < WRITERS; i++) {
        fl_thread_join(writers[i].thread);
        assert_int_equal(writers[i].failed, 0);
    }
    create(f->client, "a", 1);
    assert_int_equal(size_of(f->client, "a"), 1);
} /* the fixture is closed with what may still be under way */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_are_written_and_read),
        cmocka_unit_test(test_errors_have_the_code_and_the_words_of_the_status),
        cmocka_unit_test(test_names_are_escaped),
        cmocka_unit_test(test_an_apply_owns_its_fields),
        cmocka_unit_test(test_a_deletion_of_what_is_gone_succeeds),
        cmocka_unit_test(test_a_list_selects_by_label),
        cmocka_unit_test(test_a_list_may_be_long),
        cmocka_unit_test(test_cluster_scoped_objects_have_no_namespace),
        cmocka_unit_test(test_another_user_has_only_their_own_rights),
        cmocka_unit_test(test_a_user_that_cannot_be_is_refused),
        cmocka_unit_test(test_a_call_that_is_never_answered_times_out),
        cmocka_unit_test(test_documents_are_served),
        cmocka_unit_test(test_a_watch_follows_a_list),
        cmocka_unit_test(test_a_watch_wakes_only_for_what_is_its_own),
        cmocka_unit_test(test_a_watch_from_forgotten_times_expires),
        cmocka_unit_test(test_threads_share_a_client),
        cmocka_unit_test(test_abandoned_calls_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
