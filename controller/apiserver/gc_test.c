/* What the server does by itself: garbage collection, deletion of namespaces, expiry of events. */
#include "controller/apiserver/apiserver_testing.h"

static const char *owned(struct rig *rig, const char *name, const char *owners,
                         const char *finalizer)
{
    return format(rig,
                  "{\"metadata\":{\"name\":\"%s\",\"ownerReferences\":[%s],\"finalizers\":[%s]}}",
                  name, owners, finalizer);
}

static const char *owner(struct rig *rig, const char *api_version, const char *kind,
                         const char *name, const char *uid, bool blocks)
{
    return format(rig,
                  "{\"apiVersion\":\"%s\",\"kind\":\"%s\",\"name\":\"%s\",\"uid\":\"%s\","
                  "\"blockOwnerDeletion\":%s}",
                  api_version, kind, name, uid, blocks ? "true" : "false");
}

/* A widget, and the reference to it. */
static const char *add_owner(struct rig *rig, const char *name, bool blocks)
{
    struct answer made = do_post(rig, WIDGETS, widget(rig, name, ""));

    assert_answer(made, 201);
    return owner(rig, "test.dev/v1", "Widget", name, text_in(made, "metadata.uid"), blocks);
}

static void add_owned(struct rig *rig, const char *name, const char *owners, const char *finalizer)
{
    assert_answer(do_post(rig, CONFIGMAPS, owned(rig, name, owners, finalizer)), 201);
}

static const char *config(struct rig *rig, const char *name)
{
    return format(rig, CONFIGMAPS "/%s", name);
}

/* Stays for as long as it would take to go. */
static void assert_stays(struct rig *rig, const char *target)
{
    for (int i = 0; i < 5; i++) {
        rig_on_loop(rig, rig_run_chores);
        rig_pause(30);
        assert_answer(do_get(rig, target), 200);
    }
}

static void test_background(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", true);

    add_owned(rig, "a", ref, "");
    add_owned(rig, "b", ref, "");
    assert_stays(rig, config(rig, "a"));
    assert_answer(do_delete(rig, WIDGETS "/o"), 200);
    assert_true(is_gone(rig, WIDGETS "/o"));
    WAIT_FOR(is_gone(rig, config(rig, "a")));
    WAIT_FOR(is_gone(rig, config(rig, "b")));
}

static void test_chain(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", false);
    struct answer middle = do_post(rig, CONFIGMAPS, owned(rig, "middle", ref, ""));

    add_owned(rig, "leaf",
              owner(rig, "v1", "ConfigMap", "middle", text_in(middle, "metadata.uid"), true), "");
    assert_answer(do_delete(rig, WIDGETS "/o?propagationPolicy=Background"), 200);
    WAIT_FOR(is_gone(rig, config(rig, "leaf")));
    WAIT_FOR(is_gone(rig, config(rig, "middle")));
}

static void test_foreground(void **state)
{
    struct rig *rig = *state;
    const char *blocking = add_owner(rig, "o", true);
    const char *free_ref = owner(rig, "test.dev/v1", "Widget", "o",
                                 text_in(do_get(rig, WIDGETS "/o"), "metadata.uid"), false);
    struct answer answer;

    add_owned(rig, "blocks", blocking, "\"x.dev/y\"");
    add_owned(rig, "free", free_ref, "\"x.dev/y\"");
    answer = do_delete(rig, WIDGETS "/o?propagationPolicy=Foreground");
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "kind"), "Widget");
    WAIT_FOR(*text_in(do_get(rig, config(rig, "blocks")), "metadata.deletionTimestamp"));
    WAIT_FOR(*text_in(do_get(rig, config(rig, "free")), "metadata.deletionTimestamp"));
    assert_stays(rig, WIDGETS "/o");
    assert_answer(do_patch(rig, config(rig, "blocks"), "{\"metadata\":{\"finalizers\":null}}"),
                  200);
    WAIT_FOR(is_gone(rig, WIDGETS "/o"));
    assert_answer(do_get(rig, config(rig, "free")), 200);
}

static void test_foreground_without_dependents(void **state)
{
    struct rig *rig = *state;

    (void)add_owner(rig, "o", true);
    assert_answer(do_delete(rig, WIDGETS "/o?propagationPolicy=Foreground"), 200);
    WAIT_FOR(is_gone(rig, WIDGETS "/o"));
}

static void set_owner(struct rig *rig, const char *name, const char *of)
{
    const char *uid = text_in(do_get(rig, config(rig, of)), "metadata.uid");

    assert_answer(do_patch(rig, config(rig, name),
                           format(rig, "{\"metadata\":{\"ownerReferences\":[%s]}}",
                                  owner(rig, "v1", "ConfigMap", of, uid, true))),
                  200);
}

static void add_circle(struct rig *rig, int size)
{
    for (int i = 0; i < size; i++)
        add_owned(rig, format(rig, "c%d", i), "", "");
    for (int i = 0; i < size; i++)
        set_owner(rig, format(rig, "c%d", i), format(rig, "c%d", (i + 1) % size));
}

/* Objects that own each other, or themselves, do not wait for each other for ever. */
static void test_foreground_in_a_circle(void **state)
{
    struct rig *rig = *state;

    for (int size = 1; size <= 4; size++) {
        add_circle(rig, size);
        assert_answer(do_delete(rig, CONFIGMAPS "/c0?propagationPolicy=Foreground"), 200);
        for (int i = 0; i < size; i++)
            WAIT_FOR(is_gone(rig, config(rig, format(rig, "c%d", i))));
    }
    add_circle(rig, 2);
    assert_answer(do_delete(rig, CONFIGMAPS "/c0?propagationPolicy=Foreground"), 200);
    (void)do_delete(rig, CONFIGMAPS "/c1?propagationPolicy=Foreground");
    WAIT_FOR(is_gone(rig, CONFIGMAPS "/c0"));
    WAIT_FOR(is_gone(rig, CONFIGMAPS "/c1"));
}

/* A chain is no circle: the last goes first. */
static void test_foreground_chain_keeps_its_order(void **state)
{
    struct rig *rig = *state;

    add_owned(rig, "a", "", "");
    add_owned(rig, "b", "", "");
    add_owned(rig, "c", "", "\"x.dev/y\"");
    set_owner(rig, "b", "a");
    set_owner(rig, "c", "b");
    assert_answer(do_delete(rig, CONFIGMAPS "/a?propagationPolicy=Foreground"), 200);
    WAIT_FOR(*text_in(do_get(rig, config(rig, "c")), "metadata.deletionTimestamp"));
    assert_stays(rig, config(rig, "a"));
    assert_stays(rig, config(rig, "b"));
    assert_answer(do_patch(rig, config(rig, "c"), "{\"metadata\":{\"finalizers\":null}}"), 200);
    WAIT_FOR(is_gone(rig, config(rig, "a")));
    assert_true(is_gone(rig, config(rig, "b")));
}

/* More than one run takes on. */
static void test_many_dependents(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", true);

    for (int i = 0; i < 500; i++)
        add_owned(rig, format(rig, "d%d", i), ref, "");
    assert_answer(do_delete(rig, WIDGETS "/o?propagationPolicy=Orphan"), 200);
    WAIT_FOR(is_gone(rig, WIDGETS "/o"));
    assert_int_equal(items_in(do_get(rig, CONFIGMAPS)), 500);
    assert_null(strstr(do_get(rig, CONFIGMAPS).text, "\"ownerReferences\""));
    ref = add_owner(rig, "o", true);
    for (int i = 0; i < 500; i++)
        assert_answer(do_patch(rig, config(rig, format(rig, "d%d", i)),
                               format(rig, "{\"metadata\":{\"ownerReferences\":[%s]}}", ref)),
                      200);
    assert_answer(do_delete(rig, WIDGETS "/o?propagationPolicy=Foreground"), 200);
    WAIT_FOR(is_gone(rig, WIDGETS "/o"));
    assert_int_equal(items_in(do_get(rig, CONFIGMAPS)), 0);
}

static void test_orphan(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", true);

    add_owned(rig, "a", ref, "");
    assert_answer(do_delete(rig, WIDGETS "/o?propagationPolicy=Orphan"), 200);
    WAIT_FOR(is_gone(rig, WIDGETS "/o"));
    assert_null(fl_json_path(do_get(rig, config(rig, "a")).body, "metadata.ownerReferences"));
    assert_stays(rig, config(rig, "a"));
}

static void test_options_in_the_body(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", true);

    add_owned(rig, "a", ref, "");
    assert_refused(do_as(rig, ADMIN, "DELETE", WIDGETS "/o",
                         "{\"orphanDependents\":true,\"propagationPolicy\":\"Orphan\"}"),
                   422, "Invalid", "cannot be both set");
    assert_answer(do_as(rig, ADMIN, "DELETE", WIDGETS "/o", "{\"orphanDependents\":true}"), 200);
    WAIT_FOR(is_gone(rig, WIDGETS "/o"));
    assert_stays(rig, config(rig, "a"));
}

static void test_owner_that_never_was(void **state)
{
    struct rig *rig = *state;

    (void)add_owner(rig, "o", true);
    add_owned(rig, "a", owner(rig, "test.dev/v1", "Widget", "none", "no-such-uid", true), "");
    add_owned(rig, "b", owner(rig, "test.dev/v1", "Widget", "o", "another-uid", true), "");
    WAIT_FOR(is_gone(rig, config(rig, "a")));
    WAIT_FOR(is_gone(rig, config(rig, "b")));
}

static void test_several_owners(void **state)
{
    struct rig *rig = *state;
    const char *one = add_owner(rig, "one", true), *two = add_owner(rig, "two", true);
    struct answer answer;

    add_owned(rig, "a", format(rig, "%s,%s", one, two), "");
    assert_answer(do_delete(rig, WIDGETS "/one"), 200);
    WAIT_FOR(json_array_size(fl_json_path(do_get(rig, config(rig, "a")).body,
                                          "metadata.ownerReferences")) == 1);
    answer = do_get(rig, config(rig, "a"));
    assert_string_equal(
        fl_json_str(json_array_get(fl_json_path(answer.body, "metadata.ownerReferences"), 0),
                    "name"),
        "two");
    assert_stays(rig, config(rig, "a"));
    /* In the foreground too: it has another owner, so it need not go and does not block. */
    answer = do_post(rig, WIDGETS, widget(rig, "three", ""));
    assert_answer(do_patch(rig, config(rig, "a"),
                           format(rig, "{\"metadata\":{\"ownerReferences\":[%s,%s]}}", two,
                                  owner(rig, "test.dev/v1", "Widget", "three",
                                        text_in(answer, "metadata.uid"), true))),
                  200);
    assert_answer(do_delete(rig, WIDGETS "/two?propagationPolicy=Foreground"), 200);
    WAIT_FOR(is_gone(rig, WIDGETS "/two"));
    assert_stays(rig, config(rig, "a"));
    assert_answer(do_delete(rig, WIDGETS "/three"), 200);
    WAIT_FOR(is_gone(rig, config(rig, "a")));
}

static void test_cluster_scoped_owner(void **state)
{
    struct rig *rig = *state;
    struct answer made = do_post(rig, GADGETS,
                                 "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Gadget\","
                                 "\"metadata\":{\"name\":\"g\"}}");

    assert_answer(made, 201);
    add_owned(rig, "a",
              owner(rig, "test.dev/v1", "Gadget", "g", text_in(made, "metadata.uid"), true), "");
    assert_stays(rig, config(rig, "a"));
    assert_answer(do_delete(rig, GADGETS "/g"), 200);
    WAIT_FOR(is_gone(rig, config(rig, "a")));
}

/* Nothing is deleted on account of what cannot be judged. */
static void test_what_cannot_be_judged_is_left_alone(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", true);

    add_owned(rig, "a", owner(rig, "none.dev/v1", "Thing", "x", "some-uid", true), "");
    add_owned(rig, "b", owner(rig, "test.dev/v1", "Thing", "x", "some-uid", true), "");
    /* A cluster-scoped object whose owner would have to be in some namespace. */
    assert_answer(do_post(rig, GADGETS,
                          format(rig,
                                 "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Gadget\","
                                 "\"metadata\":{\"name\":\"g\",\"ownerReferences\":[%s]}}",
                                 ref)),
                  201);
    assert_stays(rig, config(rig, "a"));
    assert_stays(rig, config(rig, "b"));
    assert_stays(rig, GADGETS "/g");
}

/* References made later count, those taken back do not. */
static void test_references_change(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", true);

    add_owned(rig, "a", ref, "");
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "b", "1")), 201);
    assert_answer(do_patch(rig, config(rig, "a"), "{\"metadata\":{\"ownerReferences\":null}}"),
                  200);
    assert_answer(do_patch(rig, config(rig, "b"),
                           format(rig, "{\"metadata\":{\"ownerReferences\":[%s]}}", ref)),
                  200);
    assert_answer(do_delete(rig, WIDGETS "/o"), 200);
    WAIT_FOR(is_gone(rig, config(rig, "b")));
    assert_stays(rig, config(rig, "a"));
}

/* What was not finished is finished after a restart. */
static void test_restart(void **state)
{
    struct rig *rig = rig_create("faulty-sqlite");
    const char *ref;

    *state = rig;
    rig_open(rig);
    ref = add_owner(rig, "o", true);
    add_owned(rig, "a", ref, "\"x.dev/y\"");
    assert_answer(do_delete(rig, WIDGETS "/o?propagationPolicy=Foreground"), 200);
    WAIT_FOR(*text_in(do_get(rig, config(rig, "a")), "metadata.deletionTimestamp"));
    rig_close(rig);
    rig_open(rig);
    assert_answer(do_get(rig, WIDGETS "/o"), 200);
    assert_answer(do_patch(rig, config(rig, "a"), "{\"metadata\":{\"finalizers\":null}}"), 200);
    WAIT_FOR(is_gone(rig, WIDGETS "/o"));
}

/* A disk that refuses delays the collector and does not make it forget. */
static void test_disk_refuses(void **state)
{
    struct rig *rig = *state;
    const char *ref = add_owner(rig, "o", true);

    add_owned(rig, "a", ref, "");
    atomic_store(&fl_store_faults.commit_delay_ms, 30);
    {
        /* The deletion itself succeeds, what follows from it fails for a while. */
        int fd = rig_connect(rig);

        rig_send_ask(fd, &(struct ask){.who = ADMIN, .method = "DELETE", .target = WIDGETS "/o"});
        assert_answer(rig_take_answer(rig, fd), 200);
        atomic_store(&fl_store_faults.fail_commits, 3);
    }
    WAIT_FOR(is_gone(rig, config(rig, "a")));
    assert_int_equal(atomic_load(&fl_store_faults.fail_commits), 0);
}

/* Namespaces */

#define NAMESPACE "/api/v1/namespaces/zone"

static void add_zone(struct rig *rig)
{
    struct answer made =
        do_post(rig, "/api/v1/namespaces",
                "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"zone\"}}");

    assert_answer(made, 201);
    assert_string_equal(text_in(made, "status.phase"), "Active");
}

static void test_namespace_goes_with_its_content(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    add_zone(rig);
    for (int i = 0; i < 20; i++)
        assert_answer(
            do_post(rig, NAMESPACE "/configmaps", configmap(rig, format(rig, "c%d", i), "")), 201);
    assert_answer(do_post(rig, "/apis/test.dev/v1/namespaces/zone/widgets", widget(rig, "w", "")),
                  201);
    assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, "stays", "")), 201);
    answer = do_delete(rig, NAMESPACE);
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "status.phase"), "Terminating");
    WAIT_FOR(is_gone(rig, NAMESPACE));
    assert_int_equal(items_in(do_get(rig, NAMESPACE "/configmaps")), 0);
    assert_int_equal(items_in(do_get(rig, ALL_WIDGETS)), 0);
    assert_answer(do_get(rig, CONFIGMAPS "/stays"), 200);
}

static void test_namespace_is_held_by_what_is_held(void **state)
{
    struct rig *rig = *state;
    struct answer answer;
    const char *message;

    add_zone(rig);
    assert_answer(do_post(rig, "/apis/test.dev/v1/namespaces/zone/widgets",
                          "{\"apiVersion\":\"test.dev/v1\",\"kind\":\"Widget\",\"metadata\":"
                          "{\"name\":\"w\",\"finalizers\":[\"x.dev/y\"]}}"),
                  201);
    assert_answer(do_delete(rig, NAMESPACE), 200);
    assert_refused(do_post(rig, NAMESPACE "/configmaps", configmap(rig, "a", "")), 403, "Forbidden",
                   "because it is being terminated");
    WAIT_FOR(json_array_size(fl_json_path(do_get(rig, NAMESPACE).body, "status.conditions")) == 1);
    answer = do_get(rig, NAMESPACE);
    message =
        fl_json_str(json_array_get(fl_json_path(answer.body, "status.conditions"), 0), "message");
    assert_string_equal(message,
                        "Some resources are remaining: widgets.test.dev has 1 resource instances");
    assert_answer(do_patch(rig, "/apis/test.dev/v1/namespaces/zone/widgets/w",
                           "{\"metadata\":{\"finalizers\":null}}"),
                  200);
    WAIT_FOR(is_gone(rig, NAMESPACE));
}

static uint64_t content_looks; /* as the loop's thread saw it */

static void count_looks(struct rig *rig)
{
    content_looks = rig->server->content_looks;
}

/* What is held costs a look when it changes, and nothing when others do. */
static void test_held_content_does_not_slow_others(void **state)
{
    struct rig *rig = *state;
    uint64_t looks;

    add_zone(rig);
    for (int i = 0; i < 700; i++) /* more than a run takes on; the key in the data is no mark */
        assert_answer(do_post(rig, NAMESPACE "/configmaps",
                              format(rig,
                                     "{\"metadata\":{\"name\":\"h%d\",\"finalizers\":"
                                     "[\"x.dev/y\"]},\"data\":{\"deletionTimestamp\":\"no\"}}",
                                     i)),
                      201);
    assert_answer(do_delete(rig, NAMESPACE), 200);
    WAIT_FOR(json_array_size(fl_json_path(do_get(rig, NAMESPACE).body, "status.conditions")) == 1);
    assert_string_equal(
        fl_json_str(
            json_array_get(fl_json_path(do_get(rig, NAMESPACE).body, "status.conditions"), 0),
            "message"),
        "Some resources are remaining: configmaps has 700 resource instances");
    rig_pause(300);
    rig_on_loop(rig, count_looks);
    looks = content_looks;
    for (int i = 0; i < 200; i++)
        assert_answer(do_post(rig, CONFIGMAPS, configmap(rig, format(rig, "c%d", i), "")), 201);
    rig_pause(300);
    rig_on_loop(rig, count_looks);
    assert_int_equal(content_looks, looks);
    for (int i = 0; i < 700; i++)
        assert_answer(do_patch(rig, format(rig, NAMESPACE "/configmaps/h%d", i),
                               "{\"metadata\":{\"finalizers\":null}}"),
                      200);
    WAIT_FOR(is_gone(rig, NAMESPACE));
    assert_int_equal(items_in(do_get(rig, CONFIGMAPS)), 200);
}

static void test_namespace_finalize(void **state)
{
    struct rig *rig = *state;
    struct answer answer;

    add_zone(rig);
    /* What holds a namespace changes through its own endpoint only. */
    answer = do_patch(rig, NAMESPACE, "{\"spec\":{\"finalizers\":[\"x.dev/y\"]}}");
    assert_answer(answer, 200);
    assert_string_equal(
        json_string_value(json_array_get(fl_json_path(answer.body, "spec.finalizers"), 0)),
        "kubernetes");
    assert_answer(do_put(rig, NAMESPACE "/finalize",
                         "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":"
                         "\"zone\"},\"spec\":{\"finalizers\":[\"kubernetes\",\"x.dev/y\"]}}"),
                  200);
    assert_answer(do_delete(rig, NAMESPACE), 200);
    assert_stays(rig, NAMESPACE);
    assert_answer(do_put(rig, NAMESPACE "/finalize",
                         "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":"
                         "\"zone\"},\"spec\":{\"finalizers\":[]}}"),
                  200);
    WAIT_FOR(is_gone(rig, NAMESPACE));
}

static void test_namespaces_that_stay(void **state)
{
    struct rig *rig = *state;

    assert_refused(do_delete(rig, "/api/v1/namespaces/default"), 403, "Forbidden",
                   "this namespace may not be deleted");
    assert_refused(do_delete(rig, "/api/v1/namespaces/kube-system"), 403, "Forbidden",
                   "this namespace may not be deleted");
    assert_answer(do_post(rig, "/api/v1/namespaces", "{\"metadata\":{\"name\":\"kube-mine\"}}"),
                  201);
    assert_answer(do_delete(rig, "/api/v1/namespaces/kube-mine"), 200);
    assert_refused(do_post(rig, "/api/v1/namespaces", "{\"metadata\":{\"name\":\"a.b\"}}"), 422,
                   "Invalid", "metadata.name");
}

/* Events */

static void test_events_expire(void **state)
{
    struct rig *rig = *state;

    assert_answer(do_post(rig, "/api/v1/namespaces/default/events",
                          "{\"metadata\":{\"name\":\"old\"},\"involvedObject\":{\"kind\":"
                          "\"Widget\",\"name\":\"a\",\"namespace\":\"default\"},\"reason\":"
                          "\"Made\"}"),
                  201);
    atomic_fetch_add(&rig->shift_ms, INT64_C(3600) * 1000 - 90000);
    assert_answer(do_post(rig, "/api/v1/namespaces/default/events",
                          "{\"metadata\":{\"name\":\"new\"},\"involvedObject\":{\"kind\":"
                          "\"Widget\",\"name\":\"a\",\"namespace\":\"default\"},\"reason\":"
                          "\"Made\"}"),
                  201);
    /* Events are looked into every five minutes. */
    for (int i = 0; i < 100 && !is_gone(rig, "/api/v1/namespaces/default/events/old"); i++) {
        atomic_fetch_add(&rig->shift_ms, 11000);
        rig_on_loop(rig, rig_run_chores);
        rig_pause(40);
    }
    assert_true(is_gone(rig, "/api/v1/namespaces/default/events/old"));
    assert_answer(do_get(rig, "/api/v1/namespaces/default/events/new"), 200);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_background),
        TEST(test_chain),
        TEST(test_foreground),
        TEST(test_foreground_without_dependents),
        TEST(test_foreground_in_a_circle),
        TEST(test_foreground_chain_keeps_its_order),
        TEST(test_many_dependents),
        TEST(test_orphan),
        TEST(test_options_in_the_body),
        TEST(test_owner_that_never_was),
        TEST(test_several_owners),
        TEST(test_cluster_scoped_owner),
        TEST(test_what_cannot_be_judged_is_left_alone),
        TEST(test_references_change),
        cmocka_unit_test_teardown(test_restart, rig_teardown),
        TEST(test_disk_refuses),
        TEST(test_namespace_goes_with_its_content),
        TEST(test_namespace_is_held_by_what_is_held),
        TEST(test_held_content_does_not_slow_others),
        TEST(test_namespace_finalize),
        TEST(test_namespaces_that_stay),
        TEST(test_events_expire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
