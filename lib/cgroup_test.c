/* Control groups on trees that look like those of machines, and on this machine where it permits.
 */
#include "lib/cgroup.h"

#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants some of the above first */
#include <cmocka.h>

struct tree {
    struct fl_arena *arena;
    char root[64];
};

static int setup(void **state)
{
    struct tree *tree = test_calloc(1, sizeof(*tree));

    tree->arena = fl_arena_create();
    (void)snprintf(tree->root, sizeof(tree->root), "/tmp/flops-cgroup-XXXXXX");
    assert_non_null(mkdtemp(tree->root));
    *state = tree;
    return 0;
}

static int teardown(void **state)
{
    struct tree *tree = *state;

    assert_int_equal(fl_dir_remove(tree->root, NULL), 0);
    fl_arena_destroy(tree->arena);
    test_free(tree);
    return 0;
}

/* A file with the folders that lead to it. */
static void put(struct tree *tree, const char *path, const char *text)
{
    char *whole = fl_arena_printf(tree->arena, "%s%s", tree->root, path), *slash;

    slash = strrchr(whole, '/');
    *slash = '\0';
    assert_int_equal(fl_dir_ensure(whole, 0755, NULL), 0);
    *slash = '/';
    assert_int_equal(fl_file_write(whole, text, strlen(text), 0644, NULL), 0);
}

static const char *get(struct tree *tree, const char *path)
{
    const char *whole = fl_arena_printf(tree->arena, "%s%s", tree->root, path);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    if (fl_file_read(whole, 4096, &bytes, NULL) < 0)
        return NULL;
    return fl_arena_strdup(tree->arena, bytes->data);
}

/* The kernel would put these files into a new group. */
static void put_files(struct tree *tree, const char *folder, const char *const *names)
{
    for (; *names; names++)
        put(tree, fl_arena_printf(tree->arena, "%s/%s", folder, *names), "");
}

static const char *const v1_files[] = {"cgroup.procs",
                                       "cpu.cfs_period_us",
                                       "cpu.cfs_quota_us",
                                       "memory.limit_in_bytes",
                                       "memory.memsw.limit_in_bytes",
                                       "pids.max",
                                       "freezer.state",
                                       NULL};
static const char *const v2_files[] = {"cgroup.procs",    "cpu.max",  "memory.max",
                                       "memory.swap.max", "pids.max", NULL};
static const struct fl_cgroup_limits limits = {1500, 64 << 20, 100};

static void version_1_has_a_hierarchy_for_each(void **state)
{
    struct tree *tree = *state;
    FL_CLEANUP(fl_cgroups_destroyp) struct fl_cgroups *cgroups = NULL;
    struct fl_cgroup group = {0};
    unsigned missing = 0;
    bool relative = false;

    put(tree, "/proc/self/mountinfo",
        "30 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "31 23 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
        "32 23 0:29 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
        "33 23 0:30 / /proc rw - proc proc rw\n");
    put(tree, "/proc/self/cgroup",
        "4:memory:/own\n3:cpu,cpuacct:/\n2:devices:/\n1:name=systemd:/\n");
    put(tree, "/sys/fs/cgroup/cpu,cpuacct/tasks", "");
    put(tree, "/sys/fs/cgroup/memory/own/tasks", "");
    put_files(tree, "/sys/fs/cgroup/cpu,cpuacct/flops/a", v1_files);
    put_files(tree, "/sys/fs/cgroup/memory/own/flops/a", v1_files);
    cgroups = fl_cgroups_detect(tree->root, "flops");
    assert_true(fl_cgroups_usable(cgroups));
    assert_string_equal(fl_cgroups_describe(cgroups), "cpu (v1), memory (v1)");
    assert_int_equal(fl_cgroups_make(cgroups, "a", &limits, tree->arena, &group, &missing, NULL),
                     0);
    assert_int_equal(group.count, 2);
    assert_int_equal(missing, FL_LIMIT_PIDS);
    assert_string_equal(get(tree, "/sys/fs/cgroup/cpu,cpuacct/flops/a/cpu.cfs_quota_us"), "150000");
    assert_string_equal(get(tree, "/sys/fs/cgroup/memory/own/flops/a/memory.limit_in_bytes"),
                        "67108864");
    /* The own group is another one in each hierarchy. */
    assert_string_equal(fl_cgroups_path(cgroups, "a", tree->arena, &relative), "flops/a");
    assert_true(relative);
    assert_false(fl_cgroups_hybrid(cgroups));
}

static void version_2_hands_controllers_down(void **state)
{
    struct tree *tree = *state;
    FL_CLEANUP(fl_cgroups_destroyp) struct fl_cgroups *cgroups = NULL;
    struct fl_cgroup group = {0};
    unsigned missing = 0;
    bool relative = false;

    put(tree, "/proc/self/mountinfo", "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put(tree, "/proc/self/cgroup", "0::/own.service\n");
    put(tree, "/sys/fs/cgroup/own.service/cgroup.controllers", "cpuset cpu memory pids\n");
    put(tree, "/sys/fs/cgroup/own.service/cgroup.subtree_control", "");
    put(tree, "/sys/fs/cgroup/own.service/flops/cgroup.subtree_control", "");
    put_files(tree, "/sys/fs/cgroup/own.service/flops/a", v2_files);
    cgroups = fl_cgroups_detect(tree->root, "flops");
    assert_string_equal(fl_cgroups_describe(cgroups),
                        "cpu (v2), memory (v2), pids (v2), kill (v2)");
    assert_int_equal(fl_cgroups_make(cgroups, "a", &limits, tree->arena, &group, &missing, NULL),
                     0);
    assert_int_equal(group.count, 1);
    assert_int_equal(missing, 0);
    assert_string_equal(get(tree, "/sys/fs/cgroup/own.service/flops/a/cpu.max"), "150000 100000");
    assert_string_equal(get(tree, "/sys/fs/cgroup/own.service/flops/a/memory.max"), "67108864");
    assert_string_equal(get(tree, "/sys/fs/cgroup/own.service/flops/a/pids.max"), "100");
    assert_string_equal(fl_cgroups_path(cgroups, "a", tree->arena, &relative),
                        "/own.service/flops/a");
    assert_false(relative);
}

/* systemd's hybrid mode: limits by version 1, and version 2 beside it, with no controllers. */
static void hybrid_has_both_side_by_side(void **state)
{
    struct tree *tree = *state;
    FL_CLEANUP(fl_cgroups_destroyp) struct fl_cgroups *cgroups = NULL;
    struct fl_cgroup group = {0};
    unsigned missing = 0;
    bool relative = true;

    put(tree, "/proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
        "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
        "32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "34 30 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
        "35 30 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n");
    put(tree, "/proc/self/cgroup",
        "5:freezer:/own\n4:memory:/own\n3:pids:/own\n1:name=systemd:/own\n0::/own\n");
    put(tree, "/sys/fs/cgroup/unified/own/cgroup.controllers", "\n");
    put(tree, "/sys/fs/cgroup/systemd/own/tasks", "");
    put_files(tree, "/sys/fs/cgroup/unified/own/flops/a", v2_files);
    put_files(tree, "/sys/fs/cgroup/memory/own/flops/a", v1_files);
    put_files(tree, "/sys/fs/cgroup/pids/own/flops/a", v1_files);
    put_files(tree, "/sys/fs/cgroup/freezer/own/flops/a", v1_files);
    cgroups = fl_cgroups_detect(tree->root, "flops");
    assert_true(fl_cgroups_hybrid(cgroups));
    assert_string_equal(fl_cgroups_describe(cgroups),
                        "kill (v2), memory (v1), pids (v1), freezer (v1)");
    assert_int_equal(fl_cgroups_make(cgroups, "a", &limits, tree->arena, &group, &missing, NULL),
                     0);
    assert_int_equal(group.count, 4);
    assert_int_equal(missing, FL_LIMIT_CPU);
    assert_string_equal(get(tree, "/sys/fs/cgroup/memory/own/flops/a/memory.limit_in_bytes"),
                        "67108864");
    assert_string_equal(get(tree, "/sys/fs/cgroup/pids/own/flops/a/pids.max"), "100");
    assert_string_equal(get(tree, "/sys/fs/cgroup/unified/own/flops/a/memory.max"), "");
    assert_string_equal(fl_cgroups_path(cgroups, "a", tree->arena, &relative), "/own/flops/a");
    assert_false(relative);
}

static void a_container_sees_its_part_only(void **state)
{
    struct tree *tree = *state;
    FL_CLEANUP(fl_cgroups_destroyp) struct fl_cgroups *cgroups = NULL;
    struct fl_cgroup group = {0};
    unsigned missing = 0;

    put(tree, "/proc/self/mountinfo",
        "31 23 0:28 /docker/1234 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 23 0:29 /../.. /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n");
    put(tree, "/proc/self/cgroup", "4:memory:/docker/1234/inner\n3:pids:/elsewhere\n");
    put(tree, "/sys/fs/cgroup/memory/inner/tasks", "");
    put(tree, "/sys/fs/cgroup/pids/tasks", "");
    put_files(tree, "/sys/fs/cgroup/memory/inner/flops/a", v1_files);
    put_files(tree, "/sys/fs/cgroup/pids/flops/a", v1_files);
    cgroups = fl_cgroups_detect(tree->root, "flops");
    assert_string_equal(fl_cgroups_describe(cgroups), "memory (v1), pids (v1)");
    assert_int_equal(fl_cgroups_make(cgroups, "a", &limits, tree->arena, &group, &missing, NULL),
                     0);
    assert_int_equal(missing, FL_LIMIT_CPU);
    assert_string_equal(get(tree, "/sys/fs/cgroup/pids/flops/a/pids.max"), "100");
}

static void what_is_not_there_is_said(void **state)
{
    static const char *const mounts[] = {
        "",
        "\n\n",
        "garbage",
        "1 2 3",
        " - cgroup",
        "1 2 3 4 5 - cgroup2",
        "1 2 0:1 / /x rw - ",
        "30 23 0:27 / /not/there rw - cgroup2 cgroup2 rw\n",
    };
    struct tree *tree = *state;

    for (size_t i = 0; i < FL_COUNT_OF(mounts); i++) {
        FL_CLEANUP(fl_cgroups_destroyp) struct fl_cgroups *cgroups = NULL;
        struct fl_cgroup group = {0};
        unsigned missing = 0;

        put(tree, "/proc/self/mountinfo", mounts[i]);
        put(tree, "/proc/self/cgroup", i % 2 ? "0::/\n" : "::::\n0:\n");
        cgroups = fl_cgroups_detect(tree->root, "flops");
        assert_false(fl_cgroups_usable(cgroups));
        assert_true(fl_str_has_prefix(fl_cgroups_describe(cgroups), "none: "));
        assert_int_equal(
            fl_cgroups_make(cgroups, "a", &limits, tree->arena, &group, &missing, NULL), 0);
        assert_int_equal(group.count, 0);
        assert_int_equal(missing, FL_LIMIT_CPU | FL_LIMIT_MEMORY | FL_LIMIT_PIDS);
    }
}

static void counts_what_the_kernel_killed(void **state)
{
    struct tree *tree = *state;
    struct fl_cgroup group = {.count = 2};

    put(tree, "/v1/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    put(tree, "/v2/memory.events", "low 0\noom 7\noom_kill 3\noom_group_kill 9\n");
    group.folders[0] = fl_arena_printf(tree->arena, "%s/v1", tree->root);
    group.folders[1] = fl_arena_printf(tree->arena, "%s/v2", tree->root);
    assert_int_equal(fl_cgroup_oom_kills(&group), 5);
}

/* With the real thing, where there is one. */
static void kills_and_removes_a_real_group(void **state)
{
    struct tree *tree = *state;
    FL_CLEANUP(fl_cgroups_destroyp)
    struct fl_cgroups *cgroups =
        fl_cgroups_detect("", fl_arena_printf(tree->arena, "flops-test-%d", (int)getpid()));
    struct fl_cgroup_limits none = {0};
    struct fl_cgroup group = {0};
    unsigned missing = 0;
    pid_t pid;

    if (!fl_cgroups_usable(cgroups)) {
        print_message("not tried: control groups are not permitted here: %s\n",
                      fl_cgroups_describe(cgroups));
        skip();
    }
    assert_int_equal(fl_cgroups_make(cgroups, "a", &none, tree->arena, &group, &missing, NULL), 0);
    assert_false(fl_cgroup_kill(&group));
    pid = fork();
    if (pid == 0) {
        if (fl_cgroup_enter(&group) != 0)
            _exit(9);
        for (;;)
            (void)pause();
    }
    while (!fl_cgroup_kill(&group))
        (void)usleep(1000);
    for (int how = 0; waitpid(pid, &how, 0) == pid;)
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    for (unsigned i = 0; i < 5000 && !fl_cgroup_remove(&group); i++)
        (void)usleep(1000);
    assert_int_not_equal(access(group.folders[0], F_OK), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(version_1_has_a_hierarchy_for_each), TEST(version_2_hands_controllers_down),
        TEST(hybrid_has_both_side_by_side),       TEST(a_container_sees_its_part_only),
        TEST(what_is_not_there_is_said),          TEST(counts_what_the_kernel_killed),
        TEST(kills_and_removes_a_real_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
