#include "workloads/route/routes.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define STABLE "{'name':'old','percent':90,'epoch':'1'}"
#define CANARY "{'name':'new','percent':10,'epoch':'1'}"
#define A      "{'id':'a','group':'old','url':'http://h:1'}"
#define B      "{'id':'b','group':'old','url':'http://h:2'}"
#define C      "{'id':'c','group':'new','url':'http://h:3'}"
#define TABLE(version, groups, backends)                                                           \
    "{'version':" version ",'groups':[" groups "],'backends':[" backends "]}"

static int apply(struct fl_routes *routes, const char *text, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *json = fl_strdup(text);
    FL_JSON table = NULL;

    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    table = json_loads(json, 0, NULL);
    assert_non_null(table);
    return fl_routes_apply(routes, table, 0, err);
}

static struct fl_routes *with(const char *text)
{
    struct fl_routes *routes = fl_routes_create();
    struct fl_error err = {0};

    assert_int_equal(apply(routes, text, &err), 0);
    return routes;
}

static struct fl_route_backend *begin(struct fl_routes *routes, int64_t now_ms)
{
    return fl_routes_choose(routes, now_ms, NULL, 0);
}

static const char *one(struct fl_routes *routes, int64_t now_ms, enum fl_route_result result)
{
    struct fl_route_backend *backend = begin(routes, now_ms);
    static char id[8];

    if (!backend)
        return "";
    (void)strcpy(id, fl_route_id(backend));
    (void)fl_routes_ended(routes, backend, result, 1000, now_ms);
    return id;
}

static void count(struct fl_routes *routes, int n, int64_t now_ms, int *a, int *b, int *c)
{
    *a = *b = *c = 0;
    for (int i = 0; i < n; i++) {
        const char *id = one(routes, now_ms, FL_ROUTE_ANSWERED);

        *a += strcmp(id, "a") == 0;
        *b += strcmp(id, "b") == 0;
        *c += strcmp(id, "c") == 0;
    }
}

static void test_shares(void **state)
{
    FL_CLEANUP(fl_routes_destroyp)
    struct fl_routes *routes = with(TABLE("1", STABLE "," CANARY, A "," B "," C));
    int a, b, c;

    (void)state;
    count(routes, 100, 0, &a, &b, &c);
    assert_int_equal(a, 45);
    assert_int_equal(b, 45);
    assert_int_equal(c, 10);
}

static void test_fewest_under_way(void **state)
{
    FL_CLEANUP(fl_routes_destroyp)
    struct fl_routes *routes = with(TABLE("1", STABLE, A "," B));
    struct fl_route_backend *held = begin(routes, 0);

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_string_not_equal(one(routes, 0, FL_ROUTE_ANSWERED), fl_route_id(held));
    (void)fl_routes_ended(routes, held, FL_ROUTE_ANSWERED, 5, 0);
}

static void test_unreachable(void **state)
{
    FL_CLEANUP(fl_routes_destroyp)
    struct fl_routes *routes = with(TABLE("1", STABLE "," CANARY, A "," B "," C));
    struct fl_route_backend *tried[3];
    int a, b, c;

    (void)state;
    tried[0] = begin(routes, 0);
    assert_true(fl_routes_ended(routes, tried[0], FL_ROUTE_UNREACHABLE, 10, 0));
    tried[1] = fl_routes_choose(routes, 0, tried, 1);
    assert_ptr_not_equal(tried[1], tried[0]);
    (void)fl_routes_ended(routes, tried[1], FL_ROUTE_UNREACHABLE, 10, 0);
    tried[2] = fl_routes_choose(routes, 0, tried, 2);
    assert_string_equal(fl_route_id(tried[2]), "c"); /* the group's share goes to the others */
    (void)fl_routes_ended(routes, tried[2], FL_ROUTE_ANSWERED, 10, 0);
    assert_null(fl_routes_choose(routes, 0, tried, 3));
    count(routes, 10, 500, &a, &b, &c);
    assert_int_equal(c, 10);
    /* After a while they are tried again. */
    count(routes, 100, 1001, &a, &b, &c);
    assert_true(a > 0 && b > 0);
    assert_int_equal(a + b, 90);
}

/* Where all are down, waiting helps nobody. */
static void test_all_down(void **state)
{
    FL_CLEANUP(fl_routes_destroyp) struct fl_routes *routes = with(TABLE("1", STABLE, A));

    (void)state;
    assert_string_equal(one(routes, 0, FL_ROUTE_UNREACHABLE), "a");
    assert_string_equal(one(routes, 1, FL_ROUTE_ANSWERED), "a");
}

static void test_empty(void **state)
{
    FL_CLEANUP(fl_routes_destroyp) struct fl_routes *routes = fl_routes_create();
    struct fl_error err = {0};

    (void)state;
    assert_null(begin(routes, 0));
    assert_int_equal(apply(routes, TABLE("1", STABLE, ""), &err), 0);
    assert_null(begin(routes, 0));
}

static int64_t at(const json_t *status, const char *list, size_t i, const char *member)
{
    return fl_json_int(json_array_get(json_object_get(status, list), i), member, -1);
}

static void test_leaving(void **state)
{
    FL_CLEANUP(fl_routes_destroyp)
    struct fl_routes *routes = with(TABLE("1", STABLE, A "," B));
    struct fl_route_backend *first = begin(routes, 0), *second = begin(routes, 0);
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(apply(routes, TABLE("2", STABLE, B), &err), 0);
    if (strcmp(fl_route_id(first), "b") == 0) {
        struct fl_route_backend *other = first;

        first = second;
        second = other;
    }
    {
        FL_JSON status = fl_routes_status(routes, 0);
        const json_t *backends = json_object_get(status, "backends");

        assert_int_equal(json_array_size(backends), 2);
        assert_true(fl_json_bool(json_array_get(backends, 0), "removed", false));
        assert_int_equal(at(status, "backends", 0, "inFlight"), 1);
    }
    for (int i = 0; i < 3; i++)
        assert_string_equal(one(routes, 0, FL_ROUTE_ANSWERED), "b");
    assert_true(fl_routes_ended(routes, first, FL_ROUTE_ANSWERED, 5, 0));
    (void)fl_routes_ended(routes, second, FL_ROUTE_ANSWERED, 5, 0);
    {
        FL_JSON status = fl_routes_status(routes, 0);

        assert_int_equal(json_array_size(json_object_get(status, "backends")), 1);
    }
}

static int dropped;

static void drop(void *user)
{
    (void)user;
    dropped++;
}

static void test_moved(void **state)
{
    FL_CLEANUP(fl_routes_destroyp) struct fl_routes *routes = with(TABLE("1", STABLE, A));
    struct fl_route_backend *old = begin(routes, 0), *new;
    struct fl_error err = {0};

    (void)state;
    dropped = 0;
    fl_routes_on_drop(routes, drop);
    *fl_route_user(old) = &dropped;
    assert_int_equal(
        apply(routes, TABLE("2", STABLE, "{'id':'a','group':'old','url':'http://h:9'}"), &err), 0);
    new = begin(routes, 0);
    assert_ptr_not_equal(new, old);
    assert_string_equal(fl_route_url(new), "http://h:9");
    assert_int_equal(dropped, 0);
    (void)fl_routes_ended(routes, old, FL_ROUTE_ANSWERED, 5, 0);
    assert_int_equal(dropped, 1);
    (void)fl_routes_ended(routes, new, FL_ROUTE_ANSWERED, 5, 0);
}

static void test_counts(void **state)
{
    FL_CLEANUP(fl_routes_destroyp) struct fl_routes *routes = with(TABLE("1", STABLE, A));
    struct fl_error err = {0};

    (void)state;
    (void)one(routes, 0, FL_ROUTE_ANSWERED);
    (void)one(routes, 0, FL_ROUTE_FAILED);
    (void)one(routes, 0, FL_ROUTE_BUSY);
    (void)one(routes, 0, FL_ROUTE_CANCELLED);
    {
        FL_JSON status = fl_routes_status(routes, 0);

        assert_int_equal(at(status, "groups", 0, "requests"), 2);
        assert_int_equal(at(status, "groups", 0, "errors"), 1);
        assert_true(at(status, "groups", 0, "p99Us") >= 1000);
        assert_int_equal(at(status, "backends", 0, "requests"), 2);
    }
    /* The same epoch goes on counting, another one begins anew. */
    assert_int_equal(apply(routes, TABLE("2", STABLE, A), &err), 0);
    {
        FL_JSON status = fl_routes_status(routes, 0);

        assert_int_equal(at(status, "groups", 0, "requests"), 2);
    }
    assert_int_equal(apply(routes, TABLE("3", "{'name':'old','percent':90,'epoch':'2'}", A), &err),
                     0);
    {
        FL_JSON status = fl_routes_status(routes, 0);

        assert_int_equal(at(status, "groups", 0, "requests"), 0);
        assert_int_equal(fl_json_int(status, "version", 0), 3);
    }
}

static void test_mirrors(void **state)
{
    FL_CLEANUP(fl_routes_destroyp)
    struct fl_routes *routes =
        with(TABLE("1", STABLE ",{'name':'new','percent':0,'mirror':true}", A "," C));
    struct fl_route_backend *copies[4];

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_string_equal(one(routes, 0, FL_ROUTE_ANSWERED), "a");
    assert_int_equal(fl_routes_mirrors(routes, 0, copies, 4), 1);
    assert_string_equal(fl_route_id(copies[0]), "c");
    (void)fl_routes_ended(routes, copies[0], FL_ROUTE_ANSWERED, 5, 0);
}

#define WITH_LOAD(version, load) "{'version':" version ",'groups':[],'backends':[],'load':" load "}"

static void test_load(void **state)
{
    FL_CLEANUP(fl_routes_destroyp)
    struct fl_routes *routes =
        with(WITH_LOAD("5", "{'metric':'RequestRate','windowMs':2000,'delayMs':3000}"));
    FL_JSON status = NULL;
    const json_t *load;

    (void)state;
    for (int64_t at_ms = 0; at_ms < 2000; at_ms += 20) {
        fl_routes_request_came(routes, at_ms);
        fl_routes_request_left(routes, at_ms + 5);
    }
    status = fl_routes_status(routes, 2000);
    load = json_object_get(status, "load");
    assert_string_equal(fl_json_str(load, "metric"), "RequestRate");
    assert_int_equal(fl_json_int(load, "delayMs", 0), 3000);
    assert_int_equal(fl_json_int(load, "coveredMs", 0), 2000);
    assert_int_equal(json_real_value(json_object_get(load, "average")) + 0.5, 50);
    json_decref(FL_TAKE(status));
    assert_int_equal(apply(routes, TABLE("6", STABLE, A), NULL), 0);
    status = fl_routes_status(routes, 2000);
    assert_null(json_object_get(status, "load"));
}

static void test_refused(void **state)
{
    static const struct {
        const char *table;
        int code;
        const char *says;
    } cases[] = {
        {"{}", FL_E_INVALID, "version"},
        {"{'version':9}", FL_E_INVALID, "groups"},
        {"{'version':9,'groups':[]}", FL_E_INVALID, "backends"},
        {TABLE("9", "{'name':'','percent':1}", ""), FL_E_INVALID, "groups[0].name"},
        {TABLE("9", "{'name':'x','percent':101}", ""), FL_E_INVALID, "groups[0].percent"},
        {TABLE("9", STABLE "," STABLE, ""), FL_E_INVALID, "groups[1].name"},
        {TABLE("9", STABLE, C), FL_E_INVALID, "backends[0].group"},
        {TABLE("9", STABLE, A "," A), FL_E_INVALID, "backends[1].id"},
        {TABLE("9", STABLE, "{'id':'a','group':'old','url':'ftp://h'}"), FL_E_INVALID,
         "backends[0].url"},
        {TABLE("4", STABLE, A), FL_E_CONFLICT, "version 5"},
        {WITH_LOAD("9", "{'metric':'CPU','windowMs':1000,'delayMs':0}"), FL_E_INVALID,
         "load.metric"},
        {WITH_LOAD("9", "{'metric':'Concurrency','windowMs':9,'delayMs':0}"), FL_E_INVALID,
         "load.windowMs"},
        {WITH_LOAD("9", "{'metric':'Concurrency','windowMs':1000}"), FL_E_INVALID, "load.delayMs"},
    };
    FL_CLEANUP(fl_routes_destroyp) struct fl_routes *routes = with(TABLE("5", STABLE, A));

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_error err = {0};

        assert_int_equal(apply(routes, cases[i].table, &err), cases[i].code);
        assert_non_null(strstr(err.msg, cases[i].says));
    }
    assert_int_equal(fl_routes_version(routes), 5);
    assert_string_equal(one(routes, 0, FL_ROUTE_ANSWERED), "a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),      cmocka_unit_test(test_fewest_under_way),
        cmocka_unit_test(test_unreachable), cmocka_unit_test(test_all_down),
        cmocka_unit_test(test_empty),       cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_moved),       cmocka_unit_test(test_counts),
        cmocka_unit_test(test_mirrors),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
