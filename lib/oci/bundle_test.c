/* What a runtime is told. The golden text is what was agreed with runc and crun; `GOLDEN=1` in the
 * test's environment writes it anew. */
#include "lib/oci/bundle.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define GOLDEN "lib/oci/testdata/bundle.json"

static const char *image_env[] = {"PATH=/opt/bin:/bin", "LANG=C.UTF-8"};
static const char *entrypoint[] = {"/usr/bin/python3", "-u"};
static const char *cmd[] = {"-m", "learner"};
static const struct fl_oci_config image = {
    .working_folder = "/app",
    .env = {image_env, 2},
    .entrypoint = {entrypoint, 2},
    .cmd = {cmd, 2},
};

static struct fl_bundle a_bundle(void)
{
    static const char *env[] = {"FLOPS_RUN=x/0", "LANG=de_DE.UTF-8"};
    static const struct fl_bundle_mount mounts[] = {{"/data", "/srv/data", true},
                                                    {"state", "/srv/state", false}};

    return (struct fl_bundle){
        .image = &image,
        .root = "/srv/run/rootfs",
        .env = {env, 2},
        .user = {.user = 1000, .group = 1000, .groups = {44}, .group_count = 1, .home = "/home/a"},
        .hostname = "learner-0",
        .mounts = mounts,
        .mount_count = 2,
        .read_only_root = true,
        .architecture = "amd64",
        .limits = {.cpu_milli = 1500, .memory_bytes = 1 << 28, .pids = 100},
        .cgroup_path = "flops-1/uid-0",
    };
}

static json_t *encode(const struct fl_bundle *bundle)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_bundle_encode(bundle, &text, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(fl_json_parse(text->data, text->len, NULL, NULL, NULL, &value, NULL), 0);
    return value;
}

static void is_the_golden_text(void **state)
{
    struct fl_bundle bundle = a_bundle();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *golden = NULL;
    FL_JSON value = encode(&bundle);
    struct fl_buf text;

    (void)state;
    fl_buf_init(&text, 0);
    fl_json_write_pretty(&text, value);
    if (getenv("GOLDEN"))
        assert_int_equal(fl_file_write(GOLDEN, text.data, text.len, 0644, NULL), 0);
    assert_int_equal(fl_file_read(GOLDEN, 1 << 20, &golden, NULL), 0);
    assert_string_equal(text.data, golden->data);
    fl_buf_finish(&text);
}

static void assert_args(const struct fl_bundle *bundle, const char *expected)
{
    FL_JSON value = encode(bundle);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    assert_string_equal(fl_json_to_string(arena, fl_json_path(value, "process.args")), expected);
}

static void command_and_args_take_places(void **state)
{
    static const char *other[] = {"/bin/sh"}, *args[] = {"-c", "true"};
    struct fl_bundle bundle = a_bundle();
    struct fl_oci_config empty = {0};

    (void)state;
    assert_args(&bundle, "[\"/usr/bin/python3\",\"-u\",\"-m\",\"learner\"]");
    bundle.args = (struct fl_oci_texts){args, 2};
    assert_args(&bundle, "[\"/usr/bin/python3\",\"-u\",\"-c\",\"true\"]");
    bundle.command = (struct fl_oci_texts){other, 1};
    assert_args(&bundle, "[\"/bin/sh\",\"-c\",\"true\"]");
    bundle.args.count = 0;
    assert_args(&bundle, "[\"/bin/sh\"]");
    bundle.command.count = 0;
    bundle.image = &empty;
    assert_int_equal(fl_bundle_encode(&bundle, NULL, NULL), FL_E_INVALID);
    bundle.command.count = 1;
    bundle.working_folder = "relative";
    assert_int_equal(fl_bundle_encode(&bundle, NULL, NULL), FL_E_INVALID);
    bundle.working_folder = NULL;
    other[0] = "\xff";
    assert_int_equal(fl_bundle_encode(&bundle, NULL, NULL), FL_E_INVALID);
    other[0] = "/bin/sh";
}

static void privileged_gives_back(void **state)
{
    struct fl_bundle bundle = a_bundle();
    FL_JSON plain = encode(&bundle);

    (void)state;
    bundle.privileged = true;
    bundle.capabilities = 1 << 21 | 1;
    {
        FL_JSON value = encode(&bundle);

        assert_true(fl_json_bool(plain, "process.noNewPrivileges", false));
        assert_false(fl_json_bool(value, "process.noNewPrivileges", true));
        assert_null(fl_json_path(value, "linux.seccomp"));
        assert_null(fl_json_path(value, "linux.maskedPaths"));
        assert_int_equal(json_array_size(fl_json_path(value, "process.capabilities.effective")), 2);
        assert_int_equal(json_array_size(fl_json_path(plain, "process.capabilities.bounding")), 0);
    }
}

static void who_is_not_root_has_a_namespace(void **state)
{
    struct fl_bundle bundle = a_bundle();

    (void)state;
    bundle.rootless = bundle.no_network = true;
    bundle.users[0] = (struct fl_bundle_ids){0, 1000, 1};
    bundle.groups[0] = (struct fl_bundle_ids){0, 1000, 1};
    bundle.user_count = bundle.group_count = 1;
    {
        FL_JSON value = encode(&bundle);
        const json_t *mapping = json_array_get(fl_json_path(value, "linux.uidMappings"), 0);

        assert_int_equal(fl_json_int(mapping, "hostID", 0), 1000);
        assert_int_equal(json_array_size(fl_json_path(value, "linux.namespaces")), 7);
        assert_null(fl_json_path(value, "linux.resources.devices"));
    }
}

/* Users. */

static void put(const char *folder, const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/etc", folder);
    assert_int_equal(fl_dir_ensure(path, 0755, NULL), 0);
    (void)snprintf(path, sizeof(path), "%s/etc/%s", folder, name);
    assert_int_equal(fl_file_write(path, text, strlen(text), 0644, NULL), 0);
}

static void users_are_looked_up(void **state)
{
    static const struct {
        const char *text;
        int64_t user, group;
        size_t groups;
        const char *home;
    } cases[] = {
        {NULL, 0, 0, 0, "/root"},      {"", 0, 0, 0, "/root"},
        {"1000", 1000, 1001, 2, "/h"}, {"app", 1000, 1001, 2, "/h"},
        {"app:44", 1000, 44, 0, "/h"}, {"app:video", 1000, 44, 0, "/h"},
        {"77", 77, 0, 0, "/"},         {"77:88", 77, 88, 0, "/"},
        {"bad", -1, 0, 0, ""},         {"app:nobody", -1, 0, 0, ""},
        {"-1", -1, 0, 0, ""},          {"99999999999", -1, 0, 0, ""},
        {"huge", -1, 0, 0, ""},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char upper[] = "/tmp/flops-user-XXXXXX", lower[] = "/tmp/flops-user-XXXXXX";
    const char *folders[] = {upper, lower};

    (void)state;
    assert_non_null(mkdtemp(upper));
    assert_non_null(mkdtemp(lower));
    put(lower, "passwd",
        "root:x:0:0:root:/root:/bin/sh\nbroken\n:::\n"
        "huge:x:99999999999:0::/:\napp:x:1000:1001::/h:/bin/sh");
    put(lower, "group", "root:x:0:\nvideo:x:44:app\naudio:x:29:other,app\nnone:x:5:");
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct fl_bundle_user user;
        int r = fl_bundle_find_user(arena, folders, 2, cases[i].text, &user, NULL);

        if (cases[i].user < 0) {
            assert_int_equal(r, FL_E_INVALID);
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(user.user, cases[i].user);
        assert_int_equal(user.group, cases[i].group);
        assert_int_equal(user.group_count, cases[i].groups);
        assert_string_equal(user.home, cases[i].home);
    }
    put(upper, "passwd", "app:x:5:6::/up:/bin/sh\n"); /* the higher layer counts */
    {
        struct fl_bundle_user user;
        char link[64];

        assert_int_equal(fl_bundle_find_user(arena, folders, 2, "app", &user, NULL), 0);
        assert_int_equal(user.user, 5);
        (void)snprintf(link, sizeof(link), "%s/etc/passwd", upper);
        assert_int_equal(unlink(link), 0);
        assert_int_equal(symlink("/etc/passwd", link), 0); /* is not followed out */
        assert_int_equal(fl_bundle_find_user(arena, folders, 2, "daemon", &user, NULL),
                         FL_E_INVALID);
    }
    assert_int_equal(fl_dir_remove(upper, NULL), 0);
    assert_int_equal(fl_dir_remove(lower, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_golden_text),    cmocka_unit_test(command_and_args_take_places),
        cmocka_unit_test(privileged_gives_back), cmocka_unit_test(who_is_not_root_has_a_namespace),
        cmocka_unit_test(users_are_looked_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
