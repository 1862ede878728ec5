/* From runs to SLAs, and Oakestra's rules for them. */
#include "reconcilers/workload/oakestra/sla.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants these first */
#include <cmocka.h>

struct fixture {
    struct fl_arena *arena;
    struct fl_workload_spec spec;
    struct fl_run_spec run;
    struct oak_cluster cluster;
    struct oak_sla_input input;
};

static const char *const csi[] = {"driver"};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    f->arena = fl_arena_create();
    f->spec.image = "example.org/a:1";
    f->run = (struct fl_run_spec){.id = {"5f0c4c0e-1111-2222-3333-444455556666", 2},
                                  .number = 3,
                                  .spec_hash = "hash",
                                  .ns = "default",
                                  .name = "one",
                                  .cluster = "munich",
                                  .node = "munich",
                                  .spec = &f->spec};
    f->cluster = (struct oak_cluster){.id = "c1", .name = "Munich"};
    f->input = (struct oak_sla_input){.run = &f->run, .ns = "flops", .cluster = &f->cluster};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fl_arena_destroy(f->arena);
    test_free(f);
    return 0;
}

static const json_t *make(struct fixture *f, struct oak_sla *sla)
{
    struct fl_error err = {0};

    if (oak_sla_make(&f->input, f->arena, sla, &err) < 0)
        fail_msg("%s", err.msg);
    return sla->service;
}

static void words(struct fixture *f, struct fl_string_list *list, size_t count, ...)
{
    va_list ap;

    list->items = fl_new_array(f->arena, const char *, count);
    va_start(ap, count);
    for (list->count = 0; list->count < count; list->count++)
        list->items[list->count] = va_arg(ap, const char *);
    va_end(ap);
}

static const char *joined(struct fixture *f, const json_t *service, const char *key)
{
    return fl_json_to_string(f->arena, json_object_get(service, key));
}

static bool has_env(const json_t *service, const char *text)
{
    const json_t *list = json_object_get(service, "environment");

    for (size_t i = 0; i < json_array_size(list); i++)
        if (fl_str_has_prefix(json_string_value(json_array_get(list, i)), text))
            return true;
    return false;
}

static json_t *wrap(const json_t *service)
{
    const struct oak_sla_frame frame = {"Admin", "a1", "flabc", "flops", "text"};

    return oak_sla_wrap(&frame, json_pack("[O]", service));
}

static void puts_resources_in(void **state)
{
    static const struct {
        const char *cpu, *memory, *storage;
        int64_t gpus, vcpus, memory_mb, storage_mb;
    } rows[] = {
        {NULL, NULL, NULL, 0, 0, 0, 0},           {"100m", "1Mi", "1", 0, 1, 1, 1},
        {"1", "256Mi", "1Gi", 2, 1, 256, 1024},   {"1001m", "100M", NULL, 0, 2, 96, 0},
        {"3500m", "2Gi", "10Mi", 0, 4, 2048, 10},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct oak_sla sla;
        const json_t *service;

        f->spec.has_resources = true;
        f->spec.resources = (struct fl_resources){.cpu = rows[i].cpu,
                                                  .memory = rows[i].memory,
                                                  .storage = rows[i].storage,
                                                  .gpus = rows[i].gpus,
                                                  .has_gpus = rows[i].gpus > 0};
        service = make(f, &sla);
        assert_int_equal(fl_json_int(service, "vcpus", -1), rows[i].vcpus);
        assert_int_equal(fl_json_int(service, "memory", -1), rows[i].memory_mb);
        assert_int_equal(fl_json_int(service, "storage", -1), rows[i].storage_mb);
        assert_int_equal(fl_json_int(service, "vgpus", -1), rows[i].gpus);
    }
}

static void says_what_is_started(void **state)
{
    struct fixture *f = *state;
    struct oak_sla sla;

    assert_string_equal(joined(f, make(f, &sla), "cmd"), "[]");
    words(f, &f->spec.command, 2, "/bin/a", "-x");
    words(f, &f->spec.args, 1, "b c");
    assert_string_equal(joined(f, make(f, &sla), "cmd"), "[\"/bin/a\",\"-x\",\"b c\"]");
    f->spec.command.count = 0;
    f->spec.role = FL_WORKLOAD_ROLE_LEARNER; /* its entry point is this program */
    assert_string_equal(joined(f, make(f, &sla), "cmd"), "[\"flops\",\"b c\"]");
    f->spec.image = NULL;
    f->spec.has_process = true;
    f->spec.process.program = "flops";
    f->input.program_image = "example.org/flops:2";
    assert_string_equal(joined(f, make(f, &sla), "cmd"), "[\"flops\",\"b c\"]");
    assert_string_equal(fl_json_str(sla.service, "code"), "example.org/flops:2");
    assert_true(has_env(sla.service, "FLOPS_LISTEN=0.0.0.0"));
}

static void packs_files_for_flops(void **state)
{
    const struct fl_run_file file = {"token", "hello", 5, 0400};
    struct fl_workload_mount mounts[] = {{.path = "state", .type = FL_WORKLOAD_MOUNT_TYPE_STATE},
                                         {.path = "data", .type = FL_WORKLOAD_MOUNT_TYPE_DATA}};
    struct fixture *f = *state;
    struct oak_sla sla;

    f->spec.image = NULL;
    f->spec.has_process = true;
    f->spec.process.program = "flops";
    f->spec.mounts.items = mounts;
    f->spec.mounts.count = 2;
    f->input.program_image = "example.org/flops:2";
    f->run.files = &file;
    f->run.file_count = 1;
    words(f, &f->spec.args, 1, "aggregator");
    assert_string_equal(joined(f, make(f, &sla), "cmd"),
                        "[\"flops\",\"unpack\",\"--\",\"flops\",\"aggregator\"]");
    assert_true(has_env(sla.service,
                        "FLOPS_PARCEL={\"data\":[\"data\"],\"files\":[{\"data\":\"aGVsbG8=\","
                        "\"mode\":256,\"path\":\"token\"}],\"folders\":[\"state\"]}"));
    assert_null(json_object_get(sla.service, "volumes"));
    f->cluster.csi_drivers = csi;
    f->cluster.csi_count = 1;
    (void)make(f, &sla);
    assert_string_equal(joined(f, sla.service, "volumes"),
                        "[{\"csi_driver\":\"driver\",\"mount_path\":\"" OAK_DATA
                        "\",\"volume_id\":\"flops-data\"}]");
}

static void places_by_what_the_root_understands(void **state)
{
    static const struct {
        bool cluster, legacy, addons;
        const char *expected;
    } rows[] = {
        {false, false, false, "[]"},
        {true, false, false, "[{\"cluster\":\"Munich\",\"type\":\"direct\"}]"},
        {true, false, true,
         "[{\"cluster\":\"Munich\",\"type\":\"direct\"},"
         "{\"needs\":[\"FLOps-learner\"],\"type\":\"addons\"}]"},
        {true, true, false,
         "[{\"allowed\":[\"Munich\"],\"type\":\"clusters\"},"
         "{\"needs\":[\"FLOps-learner\"],\"type\":\"addons\"}]"},
    };
    struct fixture *f = *state;

    f->spec.has_placement = true;
    words(f, &f->spec.placement.addons, 1, "FLOps-learner");
    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct oak_sla sla;

        f->input.cluster = rows[i].cluster ? &f->cluster : NULL;
        f->input.legacy = rows[i].legacy;
        f->input.addons = rows[i].addons;
        assert_string_equal(joined(f, make(f, &sla), "constraints"), rows[i].expected);
    }
}

static void chooses_ports_that_stay(void **state)
{
    struct fl_workload_port ports[] = {
        {.name = "a"},
        {.name = "b", .expose = FL_WORKLOAD_PORT_EXPOSE_NETWORK},
        {.name = "c", .port = 53, .host_port = 5353, .protocol = FL_WORKLOAD_PORT_PROTOCOL_UDP},
    };
    struct fixture *f = *state;
    struct oak_sla one, other;

    f->spec.ports.items = ports;
    f->spec.ports.count = 3;
    (void)make(f, &one);
    (void)make(f, &other);
    assert_int_equal(one.port_count, 3);
    for (size_t i = 0; i < 2; i++) {
        assert_in_range(one.ports[i].port, OAK_PORT_FIRST, OAK_PORT_LAST);
        assert_int_equal(one.ports[i].port, other.ports[i].port);
    }
    assert_int_not_equal(one.ports[0].port, one.ports[1].port);
    assert_int_equal(one.ports[0].host_port, 0);
    assert_int_equal(one.ports[1].host_port, one.ports[1].port);
    assert_string_equal(fl_json_str(one.service, "port"),
                        fl_arena_printf(f->arena, "%d:%d;5353:53/udp", (int)one.ports[1].port,
                                        (int)one.ports[1].port));
    f->run.number++;
    (void)make(f, &other);
    assert_int_not_equal(one.ports[0].port, other.ports[0].port);
}

static void refuses_what_cannot_be(void **state)
{
    struct fl_workload_mount mount = {.path = "/data", .type = FL_WORKLOAD_MOUNT_TYPE_STATE};
    const struct fl_run_file file = {"/a", "b", 1, 0400};
    struct fixture *f = *state;
    struct oak_sla sla;
    struct fl_error err = {0};

#define REFUSED(word)                                                                              \
    assert_int_equal(oak_sla_make(&f->input, f->arena, &sla, &err), FL_E_INVALID);                 \
    assert_non_null(strstr(err.msg, word))
    words(f, &f->spec.args, 1, "x");
    REFUSED("entry point");
    f->spec.args.count = 0;
    f->spec.has_image_pull_secret = true;
    REFUSED("imagePullSecret");
    f->spec.has_image_pull_secret = false;
    f->spec.mounts.items = &mount;
    f->spec.mounts.count = 1;
    REFUSED("CSI");
    f->spec.mounts.count = 0;
    f->run.files = &file;
    f->run.file_count = 1;
    REFUSED("files");
    f->run.file_count = 0;
    f->spec.image = NULL;
    f->spec.has_process = true;
    f->spec.process.program = "/bin/sh";
    REFUSED("images only");
    f->spec.process.program = "flops";
    REFUSED("programImage");
#undef REFUSED
}

static void checks_as_the_root_does(void **state)
{
    static const struct {
        const char *path, *value, *expected;
    } rows[] = {
        {"microservice_name", "\"a-b\"", "microservice_name: must be 1 to 30 letters and digits"},
        {"microservice_name", "\"\"", "microservice_name"},
        {"microservice_name", "\"a234567890b234567890c234567890d\"", "microservice_name"},
        {"microservice_namespace", "\"\\u00e4\"", "microservice_namespace"},
        {"microserviceID", "\"x\"", "microserviceID: must be empty"},
        {"memory", "\"100\"", "memory: must be a whole number"},
        {"memory", "1.5", "memory: must be a whole number"},
        {"one_shot", "1", "one_shot: must be true or false"},
        {"cmd", "\"a\"", "cmd: must be a list"},
        {"cmd", "[1]", "cmd[0]: must be text"},
        {"environment", "[\"A=1\", null]", "environment[1]: must be text"},
        {"constraints", "[{}]", "constraints[0].type: is missing"},
        {"volumes", "[{\"volume_id\": \"v\"}]", "csi_driver: is missing"},
        {"addresses", "{\"rr_ip\": 1}", "addresses.rr_ip: must be text"},
        {"connectivity", "[{\"target_microservice_id\": \"x\"}]", "con_constraints: is missing"},
        {"code", NULL, "code: is missing"},
        {"virtualization", NULL, "virtualization: is missing"},
    };
    struct fixture *f = *state;
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct oak_sla made;
        FL_JSON service = json_deep_copy(make(f, &made));
        FL_JSON whole = NULL;

        if (rows[i].value)
            json_object_set_new(service, rows[i].path,
                                json_loads(rows[i].value, JSON_DECODE_ANY, NULL));
        else
            json_object_del(service, rows[i].path);
        whole = wrap(service);
        assert_int_equal(oak_sla_check(whole, &err), FL_E_INVALID);
        if (!strstr(err.msg, rows[i].expected))
            fail_msg("%s", err.msg);
    }
    {
        struct oak_sla made;
        FL_JSON whole = wrap(make(f, &made));

        assert_int_equal(oak_sla_check(whole, &err), 0);
        fl_json_set_str(whole, "sla_version", "v3.0");
        assert_int_equal(oak_sla_check(whole, &err), FL_E_INVALID);
    }
}

static void names_are_letters_and_digits(void **state)
{
    struct fixture *f = *state;
    char prefix[OAK_PREFIX_SIZE], other[OAK_PREFIX_SIZE], app[OAK_NAME_SIZE], name[OAK_NAME_SIZE];
    int64_t index = 0, number = 0;
    const char *desc = oak_app_desc(f->arena, "uid/with strange \xc3\xa4");

    oak_prefix("host_1", "edge", prefix);
    oak_prefix("host_1", "edge2", other);
    assert_string_not_equal(prefix, other);
    oak_app_name(prefix, "uid/with strange \xc3\xa4", app);
    assert_true(oak_name_is_valid(app));
    assert_int_equal(strlen(app), 30);
    assert_string_equal(oak_app_uid(f->arena, prefix, app, desc), "uid/with strange \xc3\xa4");
    assert_null(oak_app_uid(f->arena, other, app, desc));
    assert_null(oak_app_uid(f->arena, prefix, app, oak_app_desc(f->arena, "another")));
    assert_null(oak_app_uid(f->arena, prefix, app, "something"));
    oak_service_name(INT64_MAX, 7, name);
    assert_true(oak_name_is_valid(name));
    assert_true(oak_service_parse(name, &index, &number));
    assert_true(index == INT64_MAX && number == 7);
    for (size_t i = 0; i < 8; i++) {
        static const char *const bad[] = {"", "i0", "i0r", "ir1", "i0r0", "i00r1", "x0r1", "i0r1r"};

        assert_false(oak_service_parse(bad[i], &index, &number));
    }
}

static void clusters_have_names_that_objects_may_have(void **state)
{
    struct fixture *f = *state;
    const char *one = oak_safe_name(f->arena, "My Cluster"),
               *other = oak_safe_name(f->arena, "my_cluster");

    assert_string_equal(oak_safe_name(f->arena, "munich-1"), "munich-1");
    assert_string_not_equal(one, other);
    assert_true(fl_str_has_prefix(one, "c-my-cluster-") &&
                fl_str_has_prefix(other, "c-my-cluster-"));
    assert_true(strlen(oak_safe_name(f->arena,
                                     "x123456789012345678901234567890123456789012345678901234567890"
                                     "123456789")) <= 63);
}

static void marks_are_read_as_they_were_written(void **state)
{
    static const char *const bad[] = {"",
                                      "u",
                                      "u/1",
                                      "/0/1/0/0/0/h",
                                      "u/-1/1/0/0/0/h",
                                      "u/0/0/0/0/0/h",
                                      "u/0/1/0/0/0",
                                      "u/x/1/0/0/0/h"};
    struct fixture *f = *state;
    const struct oak_mark mark = {"uid-1", "hash", 3, 4, 5, 6, 7};
    struct oak_mark read;

    assert_true(oak_mark_read(f->arena, oak_mark_write(f->arena, &mark), &read));
    assert_string_equal(read.uid, "uid-1");
    assert_string_equal(read.spec_hash, "hash");
    assert_true(read.index == 3 && read.number == 4 && read.restarts == 5 && read.failures == 6 &&
                read.first_us == 7);
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        assert_false(oak_mark_read(f->arena, bad[i], &read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(puts_resources_in, setup, teardown),
        cmocka_unit_test_setup_teardown(says_what_is_started, setup, teardown),
        cmocka_unit_test_setup_teardown(packs_files_for_flops, setup, teardown),
        cmocka_unit_test_setup_teardown(places_by_what_the_root_understands, setup, teardown),
        cmocka_unit_test_setup_teardown(chooses_ports_that_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_cannot_be, setup, teardown),
        cmocka_unit_test_setup_teardown(checks_as_the_root_does, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_letters_and_digits, setup, teardown),
        cmocka_unit_test_setup_teardown(clusters_have_names_that_objects_may_have, setup, teardown),
        cmocka_unit_test_setup_teardown(marks_are_read_as_they_were_written, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
