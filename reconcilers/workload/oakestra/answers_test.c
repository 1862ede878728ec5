/* What a root answers, in all its forms. */
#include "reconcilers/workload/oakestra/root.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants these first */
#include <cmocka.h>

static struct fl_arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = fl_arena_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fl_arena_destroy(arena);
    return 0;
}

static json_t *answer(const char *text)
{
    json_t *value = NULL;
    struct fl_error err = {0};

    if (oak_read_answer(text, strlen(text), &value, &err) < 0)
        fail_msg("%s", err.msg);
    return value;
}

static void reads_json_in_a_string(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"{\"a\":1}", "{\"a\":1}"},
        {"\"{\\\"a\\\":1}\"", "{\"a\":1}"},
        {"\"[]\"", "[]"},
        {"\"ok\"", "\"ok\""},
        {"\"\"", "\"\""},
        {"null", "null"},
        {"\"\\\"[1]\\\"\"", "\"[1]\""},
    };
    json_t *value = NULL;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        FL_JSON read = answer(rows[i].text);

        assert_string_equal(fl_json_to_string(arena, read), rows[i].expected);
    }
    assert_true(oak_read_answer("<html>", 6, &value, NULL) < 0);
    assert_null(value);
}

static void reads_clusters_old_and_new(void **state)
{
    static const char *const forms[] = {
        "[{\"_id\":{\"$oid\":\"c1\"},\"candidate_name\":\"Munich\",\"candidate_location\":"
        "\"Bavaria\","
        "\"active\":true,\"active_nodes\":2,\"vcpus\":8,\"memory\":16000,"
        "\"supported_addons\":[\"FLOps-learner\"],\"virtualization\":[\"docker\"],"
        "\"csi_drivers\":[\"d\"]}]",
        "\"[{\\\"_id\\\":\\\"c1\\\",\\\"cluster_name\\\":\\\"Munich\\\",\\\"cluster_location\\\":"
        "\\\"Bavaria\\\",\\\"active\\\":true,\\\"active_nodes\\\":\\\"2\\\",\\\"total_cpu_"
        "cores\\\":"
        "8.0,\\\"memory_in_mb\\\":{\\\"$numberLong\\\":\\\"16000\\\"},\\\"supported_addons\\\":"
        "[\\\"FLOps-learner\\\"]}]\"",
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++) {
        FL_JSON read = answer(forms[i]);
        struct oak_clusters list;

        assert_int_equal(oak_read_clusters(read, arena, &list, NULL), 0);
        assert_int_equal(list.count, 1);
        assert_string_equal(list.items[0].id, "c1");
        assert_string_equal(list.items[0].name, "Munich");
        assert_string_equal(list.items[0].location, "Bavaria");
        assert_true(list.items[0].active);
        assert_int_equal(list.items[0].nodes, 2);
        assert_int_equal(list.items[0].vcpus, 8);
        assert_int_equal(list.items[0].memory_mb, 16000);
        assert_string_equal(list.items[0].addons[0], "FLOps-learner");
        assert_int_equal(list.items[0].is_new, i == 0);
        assert_int_equal(list.items[0].csi_count, i == 0);
    }
}

static void takes_only_what_is_ours(void **state)
{
    FL_JSON read = answer(
        "[{\"_id\":{\"$oid\":\"s1\"},\"applicationID\":\"a1\",\"app_name\":\"flaaaaaaX\","
        "\"app_ns\":\"flops\",\"microservice_name\":\"i0r1\",\"status\":\"RUNNING\","
        "\"environment\":[\"A=1\"],\"RR_ip\":\"10.30.0.1\","
        "\"instance_list\":[{\"instance_number\":0,\"cluster_id\":{\"$oid\":\"c1\"},"
        "\"status\":\"NODE_SCHEDULED\",\"status_detail\":null,\"publicip\":\"1.2.3.4\"},5]},"
        "{\"_id\":\"s2\",\"app_name\":\"other\"},{\"_id\":\"../s3\",\"app_name\":\"flaaaaaaY\"},"
        "7,null,{}]");
    struct oak_services list;

    (void)state;
    assert_int_equal(oak_read_services(read, "flaaaaaa", arena, &list, NULL), 0);
    assert_int_equal(list.count, 1);
    assert_string_equal(list.items[0].id, "s1");
    assert_string_equal(list.items[0].name, "i0r1");
    assert_string_equal(list.items[0].rr_ip, "10.30.0.1");
    assert_int_equal(list.items[0].status, OAK_RUNNING);
    assert_int_equal(list.items[0].instance_count, 2);
    assert_int_equal(list.items[0].instances[0].status, OAK_NODE_SCHEDULED);
    assert_string_equal(list.items[0].instances[0].cluster_id, "c1");
    assert_string_equal(list.items[0].instances[0].detail, "");
}

static void no_list_is_no_answer(void **state)
{
    static const char *const forms[] = {"{}", "\"not found\"", "null", "{\"message\":\"x\"}"};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++) {
        FL_JSON read = answer(forms[i]);
        struct oak_services services;
        struct oak_clusters clusters;
        struct oak_apps apps;

        assert_int_equal(oak_read_services(read, "f", arena, &services, NULL), FL_E_UNAVAILABLE);
        assert_int_equal(oak_read_clusters(read, arena, &clusters, NULL), FL_E_UNAVAILABLE);
        assert_int_equal(oak_read_apps(read, "f", arena, &apps, NULL), FL_E_UNAVAILABLE);
    }
}

static void a_200_may_be_a_failure(void **state)
{
    static const struct {
        const char *text;
        const char *id; /* NULL: a failure */
    } rows[] = {
        {"{\"job_id\":\"s1\",\"deployed_services\":[{}],\"failed_services\":[]}", "s1"},
        {"{\"job_id\":\"s1\"}", "s1"},
        {"{\"job_id\":\"s1\",\"failed_services\":[{\"service_name\":\"i0r1\",\"status\":500}]}",
         NULL},
        {"{\"job_id\":\"s1\",\"failed_services\":[{\"message\":\"failed\"}]}", NULL},
        {"{\"job_id\":\"None\"}", NULL},
        {"{\"job_id\":\"a/b\"}", NULL},
        {"{}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        FL_JSON read = answer(rows[i].text);
        const char *id = NULL;
        int r = oak_read_created(read, "i0r1", arena, &id, NULL);

        assert_int_equal(r, rows[i].id ? 0 : FL_E_UNAVAILABLE);
        assert_true(fl_streq(id, rows[i].id));
    }
}

static void takes_the_first_address(void **state)
{
    FL_JSON good =
        answer("{\"available_service_ips\":[{\"Address\":null},{\"Address\":\"fd00::1\"},"
               "{\"Address\":\"10.30.0.7\",\"IpType\":\"RR\"}]}");
    FL_JSON bad = answer("{\"available_service_ips\":[{\"Address\":\"10.30.0.777\"}]}");
    const char *ip = NULL;

    (void)state;
    assert_int_equal(oak_read_free_ip(good, arena, &ip, NULL), 0);
    assert_string_equal(ip, "10.30.0.7");
    assert_int_equal(oak_read_free_ip(bad, arena, &ip, NULL), FL_E_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_json_in_a_string, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_clusters_old_and_new, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_only_what_is_ours, setup, teardown),
        cmocka_unit_test_setup_teardown(no_list_is_no_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_200_may_be_a_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_the_first_address, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
