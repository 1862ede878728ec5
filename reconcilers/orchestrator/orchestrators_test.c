/* The registry: drivers by name, and how long they live. */
#include "lib/str.h"
#include "reconcilers/orchestrator/orchestrators.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the two above first */
#include <cmocka.h>

/* A driver that only counts. */
struct counted {
    struct fl_orchestrator_driver base;
    fl_run_changed_fn *changed;
    void *changed_user;
};

static int made, destroyed, configured, fail_configure;
static struct counted *last;

static void destroy(struct fl_orchestrator_driver *self)
{
    destroyed++;
    free(self);
}

static int configure(struct fl_orchestrator_driver *self, const struct fl_orchestrator_spec *spec,
                     struct fl_error *err)
{
    (void)self;
    (void)spec;
    configured++;
    return fail_configure ? fl_error_set(err, FL_E_UNAVAILABLE, "not now") : 0;
}

static int nodes(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                 struct fl_node_list *ret_nodes, struct fl_error *err)
{
    (void)self;
    (void)arena;
    (void)ret_nodes;
    return fl_error_set(err, FL_E_UNAVAILABLE, "none");
}

static int observe(struct fl_orchestrator_driver *self, const char *uid, struct fl_arena *arena,
                   struct fl_run_list *ret_runs, struct fl_error *err)
{
    (void)self;
    (void)uid;
    (void)arena;
    (void)ret_runs;
    return fl_error_set(err, FL_E_UNAVAILABLE, "none");
}

static int start(struct fl_orchestrator_driver *self, const struct fl_run_spec *spec,
                 struct fl_error *err)
{
    (void)self;
    (void)spec;
    return fl_error_set(err, FL_E_UNAVAILABLE, "none");
}

static int stop(struct fl_orchestrator_driver *self, const struct fl_run_id *id, int64_t grace_ms,
                const char *reason, struct fl_error *err)
{
    (void)self;
    (void)id;
    (void)grace_ms;
    (void)reason;
    return fl_error_set(err, FL_E_UNAVAILABLE, "none");
}

static int remove_run(struct fl_orchestrator_driver *self, const struct fl_run_id *id,
                      struct fl_error *err)
{
    (void)self;
    (void)id;
    return fl_error_set(err, FL_E_UNAVAILABLE, "none");
}

static int workloads(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                     struct fl_string_list *ret_uids, struct fl_error *err)
{
    (void)self;
    (void)arena;
    (void)ret_uids;
    return fl_error_set(err, FL_E_UNAVAILABLE, "none");
}

static const struct fl_orchestrator_ops ops = {
    .type = "Counted",
    .destroy = destroy,
    .configure = configure,
    .nodes = nodes,
    .observe = observe,
    .start = start,
    .stop = stop,
    .remove = remove_run,
    .workloads = workloads,
};

static int make(void *user, const char *name, fl_run_changed_fn *changed, void *changed_user,
                struct fl_orchestrator_driver **ret_driver, struct fl_error *err)
{
    (void)user;
    (void)name;
    (void)err;
    last = fl_calloc(1, sizeof(*last));
    *last = (struct counted){{&ops}, changed, changed_user};
    made++;
    *ret_driver = &last->base;
    return 0;
}

/* Half a table. */
static const struct fl_orchestrator_ops half = {.type = "Half", .destroy = destroy};

static int make_half(void *user, const char *name, fl_run_changed_fn *changed, void *changed_user,
                     struct fl_orchestrator_driver **ret_driver, struct fl_error *err)
{
    int r = make(user, name, changed, changed_user, ret_driver, err);

    last->base.ops = &half;
    return r;
}

struct heard {
    int count;
    char ns[16], name[16];
};

static void hear(void *user, const char *ns, const char *name)
{
    struct heard *heard = user;

    heard->count++;
    (void)strncpy(heard->ns, fl_str_or(ns, "-"), sizeof(heard->ns) - 1);
    (void)strncpy(heard->name, name, sizeof(heard->name) - 1);
}

static int setup(void **state)
{
    struct fl_orchestrators *all = fl_orchestrators_create();

    made = destroyed = configured = fail_configure = 0;
    fl_orchestrators_register(all, "Counted", make, NULL);
    fl_orchestrators_register(all, "Half", make_half, NULL);
    *state = all;
    return 0;
}

static int teardown(void **state)
{
    fl_orchestrators_destroy(*state);
    assert_int_equal(made, destroyed);
    return 0;
}

static const struct fl_orchestrator_spec plain = {.type = FL_ORCHESTRATOR_TYPE_LOCAL};
static const struct fl_orchestrator_spec other = {.type = FL_ORCHESTRATOR_TYPE_LOCAL,
                                                  .suspend = true};

static int ensure(struct fl_orchestrators *all, const char *type,
                  const struct fl_orchestrator_spec *spec)
{
    struct fl_error err = {0};
    int r = fl_orchestrators_ensure(all, "one", type, spec, &err);

    assert_true(r == 0 || (r == err.code && err.msg[0]));
    return r;
}

static void makes_one_and_configures_what_is_new(void **state)
{
    struct fl_orchestrators *all = *state;
    struct heard heard = {0};

    fl_orchestrators_on_changed(all, hear, &heard);
    assert_null(fl_orchestrators_get(all, "one"));
    assert_int_equal(ensure(all, "Counted", &plain), 0);
    assert_int_equal(ensure(all, "Counted", &plain), 0);
    assert_int_equal(made, 1);
    assert_int_equal(configured, 1);
    assert_int_equal(heard.count, 1);
    assert_string_equal(heard.name, "one");
    assert_int_equal(ensure(all, "Counted", &other), 0);
    assert_int_equal(made, 1);
    assert_int_equal(configured, 2);
    assert_int_equal(heard.count, 2);
}

static void tries_settings_again_that_failed(void **state)
{
    struct fl_orchestrators *all = *state;

    fail_configure = 1;
    assert_int_equal(ensure(all, "Counted", &plain), FL_E_UNAVAILABLE);
    assert_null(fl_orchestrators_get(all, "one")); /* nobody gets one that is not ready */
    fail_configure = 0;
    assert_int_equal(ensure(all, "Counted", &plain), 0);
    fail_configure = 1;
    assert_int_equal(ensure(all, "Counted", &other), FL_E_UNAVAILABLE);
    fail_configure = 0;
    configured = 0;
    assert_int_equal(ensure(all, "Counted", &other), 0);
    assert_int_equal(configured, 1);
}

static void refuses_what_is_no_driver(void **state)
{
    assert_int_equal(ensure(*state, "Unheard", &plain), FL_E_INVALID);
    assert_int_equal(ensure(*state, "Half", &plain), FL_E_INVALID);
    assert_null(fl_orchestrators_get(*state, "one"));
}

static void a_driver_in_use_outlives_its_drop(void **state)
{
    struct fl_orchestrators *all = *state;
    struct fl_orchestrator_driver *a, *b;

    assert_int_equal(ensure(all, "Counted", &plain), 0);
    a = fl_orchestrators_get(all, "one");
    b = fl_orchestrators_get(all, "one");
    assert_ptr_equal(a, b);
    fl_orchestrators_drop(all, "one");
    fl_orchestrators_drop(all, "one");
    assert_null(fl_orchestrators_get(all, "one"));
    fl_orchestrators_put(all, a);
    assert_int_equal(destroyed, 0);
    assert_int_equal(ensure(all, "Counted", &plain), 0); /* a new one beside it */
    fl_orchestrators_put(all, b);
    assert_int_equal(destroyed, 1);
    assert_int_equal(made, 2);
}

static void passes_changes_on(void **state)
{
    struct fl_orchestrators *all = *state;
    struct heard heard = {0};

    assert_int_equal(ensure(all, "Counted", &plain), 0);
    last->changed(last->changed_user, "ns", "w"); /* nobody listens */
    fl_orchestrators_on_changed(all, hear, &heard);
    last->changed(last->changed_user, "ns", "w");
    assert_string_equal(heard.ns, "ns");
    assert_string_equal(heard.name, "w");
    last->changed(last->changed_user, NULL, NULL);
    assert_string_equal(heard.ns, "-");
    assert_string_equal(heard.name, "one");
    assert_int_equal(heard.count, 2);
}

static void names_of_nodes_are_told_apart(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_node items[] = {{.cluster = "c", .name = "a"},
                              {.cluster = "d", .name = "a"},
                              {.cluster = "d", .name = "b"}};
    struct fl_node_list list = {items, FL_COUNT_OF(items)};

    (void)state;
    assert_string_equal(fl_edgenode_name(arena, &list, 0), "c.a");
    assert_string_equal(fl_edgenode_name(arena, &list, 1), "d.a");
    assert_string_equal(fl_edgenode_name(arena, &list, 2), "b");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(makes_one_and_configures_what_is_new),
        TEST(tries_settings_again_that_failed),
        TEST(refuses_what_is_no_driver),
        TEST(a_driver_in_use_outlives_its_drop),
        TEST(passes_changes_on),
        cmocka_unit_test(names_of_nodes_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
