/* The local orchestrator with real processes: what they do to it, and what it does to them. */
#include "reconcilers/workload/local/local_testing.h"

#include "lib/cgroup.h"
#include "lib/folder.h"
#include "lib/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

static int setup(void **state)
{
    struct fixture *f = test_malloc(sizeof(*f));

    fixture_init(f, &local_harness);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_finish(*state);
    test_free(*state);
    return 0;
}

static struct fl_workload_spec *spec_of(struct fl_run_spec *run)
{
    return (struct fl_workload_spec *)run->spec;
}

static struct fl_run_spec a_script(struct fixture *f, int64_t index, const char *script)
{
    struct fl_run_spec run = a_run(f, RUNS, index, 1);

    local_script(f->arena, script, spec_of(&run));
    spec_of(&run)->has_probes = spec_of(&run)->probes.has_readiness = false;
    return run;
}

static const char *world_folder(struct fixture *f)
{
    return ((struct local_world *)f->world)->folder;
}

static const char *run_path(struct fixture *f, int64_t index, int64_t number, const char *name)
{
    return fl_arena_printf(f->arena, "%s/local/uid-1/%" PRId64 "/run-%" PRId64 "/%s",
                           world_folder(f), index, number, name);
}

static const char *text_of(struct fixture *f, const char *path)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    if (fl_file_read(path, 1 << 20, &bytes, NULL) < 0)
        return "";
    return fl_arena_strdup(f->arena, bytes->data);
}

static void begin(struct fixture *f, const struct fl_run_spec *run)
{
    struct fl_error err = {0};

    if (f->driver->ops->start(f->driver, run, &err) < 0)
        fail_msg("start: %s", err.msg);
}

static struct fl_run run_to_end(struct fixture *f, const struct fl_run_spec *run)
{
    begin(f, run);
    return wait_for_state(f, &run->id, FL_RUN_ENDED);
}

static size_t marked(struct fixture *f, int64_t index, int64_t number)
{
    const char *mark =
        fl_arena_printf(f->arena, "FLOPS_RUN=uid-1/%" PRId64 "/%" PRId64, index, number);
    pid_t pids[16];

    return fl_process_marked(mark, pids, FL_COUNT_OF(pids));
}

/* How many processes have the number in their command line: those that hid their environment. */
static size_t sleepers(const char *argument)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list = {0};
    size_t count = 0;

    assert_int_equal(fl_folder_list(arena, "/proc", true, 100000, &list, NULL), 0);
    for (size_t i = 0; i < list.count; i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
        const char *path = fl_arena_printf(arena, "/proc/%s/cmdline", list.names[i]);

        if (fl_file_read(path, 65536, &bytes, NULL) == 0 && bytes->len > 0 &&
            memmem(bytes->data, bytes->len, argument, strlen(argument) + 1))
            count++;
    }
    return count;
}

static pid_t parent_of(pid_t pid)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("/proc/%d/status", (int)pid);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    const char *line;

    assert_int_equal(fl_file_read(path, 65536, &bytes, NULL), 0);
    line = strstr(bytes->data, "PPid:");
    assert_non_null(line);
    return (pid_t)strtol(line + 5, NULL, 10);
}

static pid_t pid_of(const struct fl_run *run)
{
    return (pid_t)strtol(run->id, NULL, 10);
}

static void wait_for_file(struct fixture *f, const char *path)
{
    for (unsigned i = 0; i < f->harness->patience; i++) {
        if (fl_path_exists(path))
            return;
        f->harness->let_pass(f->world);
    }
    fail_msg("%s does not come", path);
}

/* What is left when something dies. */

static const char daemons[] = "(setsid sh -c '(sleep 717171 &) ; touch up ; sleep 727272' &) ; "
                              "while :; do sleep 737373; done";

static void a_killed_shim_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0, daemons), next = a_run(f, RUNS, 0, 2);
    struct fl_run run;

    begin(f, &spec);
    run = wait_until_ready(f, &spec.id);
    wait_for_file(f, run_path(f, 0, 1, "work/up"));
    assert_true(marked(f, 0, 1) >= 2);
    assert_int_equal(kill(parent_of(pid_of(&run)), SIGKILL), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Lost");
    assert_false(run.exit.has_code);
    assert_int_equal(marked(f, 0, 1), 0);
    begin(f, &next);
    run = wait_until_ready(f, &next.id);
    assert_string_equal(run.last_exit.reason, "Lost");
}

/* Shim and control plane die together: the next control plane finds what they left. */
static void a_restart_clears_away_after_a_killed_shim(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0, daemons);
    struct fl_run run;
    pid_t shim;

    begin(f, &spec);
    run = wait_until_ready(f, &spec.id);
    wait_for_file(f, run_path(f, 0, 1, "work/up"));
    shim = parent_of(pid_of(&run));
    f->driver->ops->destroy(f->driver);
    assert_int_equal(kill(shim, SIGKILL), 0);
    fixture_open(f);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Lost");
    assert_int_equal(marked(f, 0, 1), 0);
}

static void the_end_takes_daemons_along(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(
        f, 0, "(setsid env -i sh -c '(sleep 747474 &) ; sleep 757575' &) ; sleep 0.1; exit 3");
    struct fl_run run = run_to_end(f, &spec);

    assert_int_equal(run.exit.code, 3);
    assert_int_equal(sleepers("747474"), 0);
    assert_int_equal(sleepers("757575"), 0);
}

static void a_stopped_program_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec hears = a_run(f, RUNS, 0, 1), deaf = a_run(f, IGNORES, 1, 1);
    struct fl_run run;

    begin(f, &hears);
    begin(f, &deaf);
    run = wait_until_ready(f, &hears.id);
    assert_int_equal(kill(pid_of(&run), SIGSTOP), 0);
    run = wait_until_ready(f, &deaf.id);
    assert_int_equal(kill(pid_of(&run), SIGSTOP), 0);
    assert_int_equal(stop(f, &hears.id, 600000, "Stopped"), 0);
    assert_int_equal(stop(f, &deaf.id, 20, "Stopped"), 0);
    run = wait_for_state(f, &hears.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Stopped");
    run = wait_for_state(f, &deaf.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.signal, "SIGKILL");
}

static void a_program_that_was_killed_says_so(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_run run;

    begin(f, &spec);
    run = wait_until_ready(f, &spec.id);
    assert_int_equal(kill(pid_of(&run), SIGKILL), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Signal");
    assert_string_equal(run.exit.signal, "SIGKILL");
    assert_false(run.exit.oom_killed);
}

/* Limits: only where the machine permits them; a test that could not be made says so by name. */

static bool has_limit(struct fixture *f, const char *name)
{
    if (strstr(fl_local_limits(f->driver), name))
        return true;
    print_message("not tried here, %s cannot be limited: %s\n", name, fl_local_limits(f->driver));
    skip();
    return false;
}

static void a_fork_bomb_stays_within_its_limit_and_dies(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec =
        a_script(f, 0, "bomb() { while :; do bomb & done; }; touch up; bomb 2>/dev/null");
    struct fl_workload_spec *workload = spec_of(&spec);

    if (!has_limit(f, "pids"))
        return;
    workload->has_resources = workload->resources.has_pids = true;
    workload->resources.pids = 60;
    begin(f, &spec);
    wait_for_file(f, run_path(f, 0, 1, "work/up"));
    for (unsigned i = 0; i < 50; i++)
        f->harness->let_pass(f->world);
    assert_true(marked(f, 0, 1) <= 60);
    assert_int_equal(stop(f, &spec.id, 0, "Stopped"), 0);
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_int_equal(marked(f, 0, 1), 0);
}

static void too_much_memory_is_told_as_such(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0, "x=0123456789abcdef; while :; do x=$x$x$x$x; done");
    struct fl_workload_spec *workload = spec_of(&spec);
    struct fl_run run;

    if (!has_limit(f, "memory"))
        return;
    workload->has_resources = true;
    workload->resources.memory = "32Mi";
    run = run_to_end(f, &spec);
    assert_string_equal(run.exit.reason, "OOMKilled");
    assert_true(run.exit.oom_killed);
    assert_null(run.message);
}

static void a_limit_that_does_not_hold_is_told(void **state)
{
    struct fixture *f = *state;
    struct local_world *world = f->world;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *workload = spec_of(&spec);
    struct fl_run run;

    world->cgroup_root = "-";
    fixture_restart(f);
    workload->has_resources = true;
    workload->resources.memory = "32Mi";
    workload->resources.cpu = "500m";
    begin(f, &spec);
    run = wait_until_ready(f, &spec.id);
    assert_string_equal(run.message, "not enforced here: cpu limit, memory limit");
}

/* Without control groups everything still dies: by descent, and by the mark. */
static void nothing_is_left_without_groups_too(void **state)
{
    struct fixture *f = *state;
    struct local_world *world = f->world;
    struct fl_run_spec ends = a_script(
        f, 0, "(setsid env -i sh -c '(sleep 767676 &) ; sleep 777777' &) ; sleep 0.1; exit 3");
    struct fl_run_spec killed = a_script(f, 1, daemons);
    struct fl_run run;

    world->cgroup_root = "-";
    fixture_restart(f);
    run = run_to_end(f, &ends);
    assert_int_equal(run.exit.code, 3);
    assert_int_equal(sleepers("767676"), 0);
    assert_int_equal(sleepers("777777"), 0);
    begin(f, &killed);
    run = wait_until_ready(f, &killed.id);
    wait_for_file(f, run_path(f, 1, 1, "work/up"));
    assert_int_equal(kill(parent_of(pid_of(&run)), SIGKILL), 0);
    run = wait_for_state(f, &killed.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Lost");
    assert_int_equal(marked(f, 1, 1), 0);
}

/* What a program gets. */

static const char *const *lines_of(struct fixture *f, const char *text)
{
    const char **lines = fl_new_array(f->arena, const char *, 1000);
    size_t count = 0;

    while (text && count < 999 && (lines[count] = fl_str_next(f->arena, &text, '\n')))
        count++;
    lines[count] = NULL;
    return lines;
}

static bool has_line(struct fixture *f, const char *text, const char *line)
{
    for (const char *const *at = lines_of(f, text); *at; at++)
        if (strcmp(*at, line) == 0)
            return true;
    print_message("no line \"%s\" in:\n%s\n", line, text);
    return false;
}

static void gets_its_environment_and_no_other(void **state)
{
    static const struct fl_run_env env[] = {
        {"TOKEN", "s3cret-value"}, {"LANG", "de_DE"}, {"FLOPS_NODE", "a-lie"}};
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 3, "env > env; umask > umask; ls -l /proc/self/fd > fds");
    const char *text;

    spec.env = env;
    spec.env_count = FL_COUNT_OF(env);
    assert_int_equal(run_to_end(f, &spec).exit.code, 0);
    text = text_of(f, run_path(f, 3, 1, "work/env"));
    assert_true(has_line(f, text, "TOKEN=s3cret-value"));
    assert_true(has_line(f, text, "LANG=de_DE"));
    assert_true(has_line(f, text, "FLOPS_NODE=node"));
    assert_true(has_line(f, text, "FLOPS_CLUSTER=local"));
    assert_true(has_line(f, text, "FLOPS_WORKLOAD=one"));
    assert_true(has_line(f, text, "FLOPS_NAMESPACE=default"));
    assert_true(has_line(f, text, "FLOPS_INSTANCE=3"));
    assert_true(has_line(f, text, fl_arena_printf(f->arena, "HOME=%s", run_path(f, 3, 1, "work"))));
    assert_null(strstr(text, "OLDPWD="));
    assert_null(strstr(text, "USER="));
    assert_string_equal(text_of(f, run_path(f, 3, 1, "work/umask")), "0077\n");
    assert_null(strstr(text_of(f, run_path(f, 3, 1, "work/fds")), "socket:"));
}

static void secrets_are_in_no_record_and_no_argument(void **state)
{
    static const struct fl_run_env env[] = {{"TOKEN", "s3cret-value"}};
    static const struct fl_run_file files[] = {
        {.path = "conf/key", .data = "s3cret\0file", .len = 11, .mode = 0400}};
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0,
                                       "stat -c %a conf/key > mode; wc -c < conf/key > size; "
                                       "touch up; while :; do sleep 1000; done");
    const char *key = run_path(f, 0, 1, "work/conf/key"), *record;
    struct fl_run run;

    spec.env = env;
    spec.env_count = FL_COUNT_OF(env);
    spec.files = files;
    spec.file_count = FL_COUNT_OF(files);
    begin(f, &spec);
    run = wait_until_ready(f, &spec.id);
    wait_for_file(f, run_path(f, 0, 1, "work/up"));
    assert_string_equal(text_of(f, run_path(f, 0, 1, "work/mode")), "400\n");
    assert_string_equal(text_of(f, run_path(f, 0, 1, "work/size")), "11\n");
    record =
        text_of(f, fl_arena_printf(f->arena, "%s/local/uid-1/0/instance.json", world_folder(f)));
    assert_non_null(strstr(record, "conf/key"));
    assert_null(strstr(record, "s3cret"));
    assert_null(strstr(text_of(f, run_path(f, 0, 1, "status")), "s3cret"));
    assert_int_equal(sleepers("s3cret-value"), 0);
    assert_true(fl_path_exists(key));
    assert_int_equal(kill(parent_of(pid_of(&run)), SIGKILL), 0); /* even then */
    (void)wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_false(fl_path_exists(key));
}

static void keeps_state_and_empties_scratch(void **state)
{
    static struct fl_workload_mount mounts[] = {
        {.path = "var/state", .type = FL_WORKLOAD_MOUNT_TYPE_STATE},
        {.path = "scratch", .type = FL_WORKLOAD_MOUNT_TYPE_SCRATCH},
        {.path = "data", .type = FL_WORKLOAD_MOUNT_TYPE_DATA}};
    static const char script[] = "echo x >> var/state/file; echo x >> scratch/file; "
                                 "cat var/state/file scratch/file data/set/one > out";
    struct fixture *f = *state;
    const char *set = fl_arena_printf(f->arena, "%s/data/set", world_folder(f));

    assert_int_equal(fl_dir_ensure(set, 0700, NULL), 0);
    assert_int_equal(fl_file_write(fl_arena_printf(f->arena, "%s/one", set), "1\n", 2, 0600, NULL),
                     0);
    for (int64_t number = 1; number <= 3; number++) {
        struct fl_run_spec spec = a_script(f, 0, script);

        spec.number = number;
        spec_of(&spec)->mounts = (struct fl_workload_mount_list){mounts, FL_COUNT_OF(mounts)};
        assert_int_equal(run_to_end(f, &spec).exit.code, 0);
    }
    assert_string_equal(text_of(f, run_path(f, 0, 3, "work/out")), "x\nx\nx\nx\n1\n");
    assert_false(fl_path_exists(run_path(f, 0, 1, "status"))); /* of the runs before, the last */
    assert_true(fl_path_exists(run_path(f, 0, 2, "status")));
    assert_false(fl_path_exists(run_path(f, 0, 2, "work")));
}

static void what_cannot_be_is_refused(void **state)
{
    static struct fl_workload_mount up[] = {{.path = "../x", .type = FL_WORKLOAD_MOUNT_TYPE_STATE}},
                                    top[] = {{.path = "/etc",
                                              .type = FL_WORKLOAD_MOUNT_TYPE_STATE}},
                                    good[] = {{.path = "a", .type = FL_WORKLOAD_MOUNT_TYPE_STATE}};
    static const struct fl_run_file out[] = {{.path = "a/../../x", .data = "", .mode = 0400}},
                                    in[] = {{.path = "a/x", .data = "", .mode = 0400}};
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *workload = spec_of(&spec);

    workload->mounts = (struct fl_workload_mount_list){up, 1};
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    workload->mounts = (struct fl_workload_mount_list){top, 1};
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    workload->mounts = (struct fl_workload_mount_list){good, 1};
    spec.files = in, spec.file_count = 1;
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    workload->mounts.count = 0;
    spec.files = out;
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    spec.file_count = 0;
    spec.id.workload_uid = "../uid";
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    spec.id.workload_uid = "uid-1";
    workload->has_security = true;
    workload->security.network = FL_WORKLOAD_SECURITY_NETWORK_NONE;
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    workload->has_security = false;
    workload->probes.readiness.failure_threshold = 1000000; /* a record that could not be read */
    assert_int_equal(start(f, &spec), FL_E_INVALID);
    assert_false(knows(f, "uid-1"));
}

/* And said by the node, so that nothing is placed there. */
static void images_need_a_runtime(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *workload = (struct fl_workload_spec *)spec.spec;
    struct fl_node_list nodes = {0};
    struct fl_error err = {0};

    ((struct local_world *)f->world)->no_images = true;
    fixture_restart(f);
    workload->has_process = false;
    workload->image = "example.org/image";
    assert_int_equal(f->driver->ops->start(f->driver, &spec, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "images are not run on this machine"));
    assert_int_equal(f->driver->ops->nodes(f->driver, f->arena, &nodes, NULL), 0);
    assert_false(nodes.items[0].runs_images);
    assert_true(nodes.items[0].runs_processes);
}

static void finds_programs_by_name_and_itself(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec named = a_run(f, RUNS, 0, 1), missing = a_run(f, RUNS, 1, 1),
                       itself = a_run(f, RUNS, 2, 1);
    static const char *print[] = {"print-program"};
    struct fl_run run;

    spec_of(&named)->process.program = "true";
    spec_of(&named)->args.count = 0;
    assert_int_equal(run_to_end(f, &named).exit.code, 0);
    spec_of(&missing)->process.program = "no-such-program-here";
    run = run_to_end(f, &missing);
    assert_string_equal(run.exit.reason, "StartFailed");
    assert_non_null(strstr(run.exit.message, "no-such-program-here"));
    spec_of(&itself)->process.program = "flops";
    spec_of(&itself)->args = (struct fl_string_list){print, 1};
    run = run_to_end(f, &itself);
    assert_int_equal(run.exit.code, 42);
}

static void becomes_another_user(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0,
                                       "id -u > uid; id -G > groups; grep NoNewPrivs "
                                       "/proc/self/status > privileges; echo > $TMPDIR/x");
    struct fl_workload_spec *workload = spec_of(&spec);

    workload->has_security = workload->security.has_run_as_user = true;
    workload->security.run_as_user = 12345;
    if (!fl_process_is_root()) {
        assert_int_equal(start(f, &spec), FL_E_INVALID);
        return;
    }
    assert_int_equal(chmod(world_folder(f), 0711), 0);
    assert_int_equal(run_to_end(f, &spec).exit.code, 0);
    assert_string_equal(text_of(f, run_path(f, 0, 1, "work/uid")), "12345\n");
    assert_string_equal(text_of(f, run_path(f, 0, 1, "work/groups")), "12345\n");
    assert_string_equal(text_of(f, run_path(f, 0, 1, "work/privileges")), "NoNewPrivs:\t1\n");
}

/* Ports. */

static struct fl_workload_port a_port(const char *name, int64_t port)
{
    return (struct fl_workload_port){.name = name,
                                     .port = port,
                                     .protocol = FL_WORKLOAD_PORT_PROTOCOL_TCP,
                                     .expose = FL_WORKLOAD_PORT_EXPOSE_LOCAL};
}

static void set_ports(struct fixture *f, struct fl_run_spec *run,
                      const struct fl_workload_port *from, size_t count)
{
    struct fl_workload_port_list *ports = &spec_of(run)->ports;

    ports->items = fl_new_array(f->arena, struct fl_workload_port, count);
    memcpy(ports->items, from, count * sizeof(*from));
    ports->count = count;
}

static int listen_on(int64_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static void never_gives_a_port_twice(void **state)
{
    const struct fl_workload_port ports[] = {a_port("http", 0), a_port("grpc-web", 0)};
    struct fixture *f = *state;
    bool seen[65536] = {0};
    int64_t first = 0;

    for (int64_t i = 0; i < 8; i++) {
        struct fl_run_spec spec =
            a_script(f, i, "echo $PORT_HTTP $PORT_GRPC_WEB > ports; touch up; exec sleep 1000");
        struct fl_run run;

        set_ports(f, &spec, ports, 2);
        begin(f, &spec);
        run = wait_until_ready(f, &spec.id);
        assert_int_equal(run.port_count, 2);
        for (size_t p = 0; p < 2; p++) {
            assert_true(run.ports[p].port >= 30000 && run.ports[p].port <= 32767);
            assert_false(seen[run.ports[p].port]);
            seen[run.ports[p].port] = true;
        }
        wait_for_file(f, run_path(f, i, 1, "work/up"));
        assert_string_equal(text_of(f, run_path(f, i, 1, "work/ports")),
                            fl_arena_printf(f->arena, "%" PRId64 " %" PRId64 "\n",
                                            run.ports[0].port, run.ports[1].port));
        if (i == 0)
            first = run.ports[0].port;
        if (i == 3)
            fixture_restart(f);
    }
    assert_true(seen[first]);
}

static void an_address_stays_over_runs(void **state)
{
    const struct fl_workload_port ports[] = {a_port("http", 0)};
    struct fixture *f = *state;
    struct fl_run_spec first = a_run(f, EXITS_7, 0, 1), second = a_run(f, RUNS, 0, 2);
    int64_t port;

    set_ports(f, &first, ports, 1);
    set_ports(f, &second, ports, 1);
    port = run_to_end(f, &first).ports[0].port;
    begin(f, &second);
    assert_int_equal(wait_until_ready(f, &second.id).ports[0].port, port);
}

static void a_taken_port_is_named_with_its_holder(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec holder = a_run(f, RUNS, 0, 1), ours = a_run(f, RUNS, 1, 1),
                       foreign = a_run(f, RUNS, 2, 1);
    struct fl_workload_port port = a_port("http", 31999);
    struct fl_run run;
    int fd;

    set_ports(f, &holder, &port, 1);
    set_ports(f, &ours, &port, 1);
    ours.name = "two";
    begin(f, &holder);
    (void)wait_until_ready(f, &holder.id);
    run = run_to_end(f, &ours);
    assert_string_equal(run.exit.reason, "PortTaken");
    assert_non_null(strstr(run.exit.message, "31999"));
    assert_non_null(strstr(run.exit.message, "default/one"));
    port.port = 31998;
    fd = listen_on(31998);
    set_ports(f, &foreign, &port, 1);
    run = run_to_end(f, &foreign);
    assert_string_equal(run.exit.reason, "PortTaken");
    assert_non_null(strstr(run.exit.message, "31998"));
    (void)close(fd);
    foreign.number = 2;
    begin(f, &foreign);
    assert_int_equal(wait_until_ready(f, &foreign.id).ports[0].port, 31998);
    assert_int_equal(stop(f, &holder.id, 0, "Stopped"), 0);
    (void)wait_for_state(f, &holder.id, FL_RUN_ENDED);
    ours.number = 2;
    begin(f, &ours);
    assert_int_equal(wait_until_ready(f, &ours.id).ports[0].port, 31999);
}

/* Probes. */

static struct fl_probe exec_probe(struct fixture *f, const char *script, int64_t failures)
{
    struct fl_probe probe = {.has_exec = true,
                             .period = "20ms",
                             .timeout = "10s",
                             .initial_delay = "0s",
                             .failure_threshold = failures,
                             .success_threshold = 1};

    probe.exec.command.items = fl_new_array(f->arena, const char *, 3);
    probe.exec.command.items[0] = "sh";
    probe.exec.command.items[1] = "-c";
    probe.exec.command.items[2] = script;
    probe.exec.command.count = 3;
    return probe;
}

static void wait_for_unready(struct fixture *f, const struct fl_run_id *id)
{
    for (unsigned i = 0; i < f->harness->patience && look(f, id).ready; i++)
        f->harness->let_pass(f->world);
    assert_false(look(f, id).ready);
}

static void readiness_comes_and_goes(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0, "touch up; while :; do sleep 1000; done");
    struct fl_workload_spec *workload = spec_of(&spec);
    struct fl_run run;
    const char *file = run_path(f, 0, 1, "work/ready");

    workload->has_probes = workload->probes.has_readiness = true;
    workload->probes.readiness = exec_probe(f, "test -e ready", 1);
    begin(f, &spec);
    wait_for_file(f, run_path(f, 0, 1, "work/up"));
    run = wait_for_state(f, &spec.id, FL_RUN_RUNNING);
    assert_false(run.ready);
    assert_int_equal(run.ready_us, 0);
    assert_int_equal(fl_file_write(file, "", 0, 0600, NULL), 0);
    run = wait_until_ready(f, &spec.id);
    assert_true(run.ready_us > 0);
    fixture_restart(f);
    assert_true(look(f, &spec.id).ready);
    fl_path_remove(file);
    wait_for_unready(f, &spec.id);
    run = look(f, &spec.id);
    assert_int_equal(run.state, FL_RUN_RUNNING);
    assert_string_equal(run.message, "readiness probe: the command ended with 1");
}

static unsigned changes(struct fixture *f)
{
    FL_LOCKED(f->change.lock);

    return f->change.count;
}

static size_t size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

/* What one probe lacks is not hidden by another one that is well, and the same answer again and
 * again wakes nobody. */
static void probes_have_their_own_say(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *workload = spec_of(&spec);
    const char *count = run_path(f, 0, 1, "work/count");
    struct fl_run run = {0};
    unsigned told;

    workload->has_probes = workload->probes.has_readiness = workload->probes.has_liveness = true;
    workload->probes.readiness = exec_probe(f, "exit 3", 1);
    workload->probes.liveness = exec_probe(f, "echo >> count; test ! -e enough", 1);
    begin(f, &spec);
    for (unsigned i = 0; i < f->harness->patience && !run.message; i++) {
        f->harness->let_pass(f->world);
        run = look(f, &spec.id);
    }
    told = changes(f);
    for (unsigned i = 0; i < f->harness->patience && size_of(count) < 20; i++) {
        f->harness->let_pass(f->world);
        run = look(f, &spec.id);
        assert_string_equal(run.message, "readiness probe: the command ended with 3");
    }
    assert_true(size_of(count) >= 20);
    assert_in_range(changes(f) - told, 0, 2);
}

static void a_failed_liveness_ends_the_run(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, IGNORES, 0, 1);
    struct fl_workload_spec *workload = spec_of(&spec);
    struct fl_run run;

    workload->grace_period = "10ms";
    workload->has_probes = workload->probes.has_liveness = true;
    workload->probes.liveness = exec_probe(f, "exit 9", 3);
    run = run_to_end(f, &spec);
    assert_string_equal(run.exit.reason, "ProbeFailed");
    assert_string_equal(run.exit.message,
                        "liveness probe failed 3 times: the command ended with 9");
}

static void startup_holds_the_others_back(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1), fails = a_run(f, RUNS, 1, 1);
    struct fl_workload_spec *workload = spec_of(&spec);
    struct fl_run run;

    workload->has_probes = workload->probes.has_startup = workload->probes.has_liveness = true;
    workload->probes.startup = exec_probe(f, "test -e started", 10000);
    workload->probes.liveness = exec_probe(f, "test -e started", 1);
    begin(f, &spec);
    for (unsigned i = 0; i < 50; i++) {
        f->harness->let_pass(f->world);
        run = look(f, &spec.id);
        assert_int_equal(run.state, FL_RUN_STARTING);
    }
    assert_int_equal(fl_file_write(run_path(f, 0, 1, "work/started"), "", 0, 0600, NULL), 0);
    run = wait_until_ready(f, &spec.id);
    assert_int_equal(run.state, FL_RUN_RUNNING);
    workload = spec_of(&fails);
    workload->has_probes = workload->probes.has_startup = true;
    workload->probes.startup = exec_probe(f, "exit 1", 2);
    run = run_to_end(f, &fails);
    assert_string_equal(run.exit.reason, "ProbeFailed");
    assert_non_null(strstr(run.exit.message, "startup probe failed 2 times"));
}

static void a_hung_check_is_killed_whole(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *workload = spec_of(&spec);
    struct fl_run run = {0};

    workload->has_probes = workload->probes.has_readiness = true;
    workload->probes.readiness = exec_probe(f, "sleep 787878 & sleep 797979", 1);
    workload->probes.readiness.timeout = "100ms";
    workload->probes.readiness.period = "1h";
    begin(f, &spec);
    for (unsigned i = 0; i < f->harness->patience && !run.message; i++) {
        f->harness->let_pass(f->world);
        run = look(f, &spec.id);
    }
    assert_string_equal(run.message, "readiness probe: the command did not end in time");
    for (unsigned i = 0; i < f->harness->patience && sleepers("787878") + sleepers("797979") > 0;
         i++)
        f->harness->let_pass(f->world);
    assert_int_equal(sleepers("787878"), 0);
    assert_int_equal(sleepers("797979"), 0);
    assert_int_equal(look(f, &spec.id).state, FL_RUN_RUNNING);
}

static void asks_ports(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_workload_spec *workload = spec_of(&spec);
    int listener = listen_on(0), r;
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    char port[8];

    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(port, sizeof(port), "%d", ntohs(address.sin_port));
    workload->has_probes = workload->probes.has_readiness = workload->probes.has_startup = true;
    workload->probes.startup = (struct fl_probe){.has_tcp = true,
                                                 .tcp = {.port = port},
                                                 .period = "20ms",
                                                 .timeout = "10s",
                                                 .failure_threshold = 100,
                                                 .success_threshold = 1};
    workload->probes.readiness = (struct fl_probe){.has_http = true,
                                                   .http = {.port = port, .path = "/up"},
                                                   .period = "20ms",
                                                   .timeout = "10s",
                                                   .failure_threshold = 1,
                                                   .success_threshold = 1};
    begin(f, &spec);
    for (bool bad = true;;) {
        static const char *const answers[] = {"HTTP/1.1 204 No Content\r\n\r\n",
                                              "HTTP/1.1 503 No\r\n\r\n"};
        char request[512] = {0};
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        assert_true(fd >= 0);
        r = (int)read(fd, request, sizeof(request) - 1);
        if (r <= 0) { /* the startup's: a connection is all */
            (void)close(fd);
            continue;
        }
        assert_int_equal(strncmp(request, "GET /up HTTP/1.1\r\n", 18), 0);
        assert_true(write(fd, answers[bad], strlen(answers[bad])) > 0);
        (void)close(fd);
        if (!bad)
            break;
        for (unsigned i = 0; i < f->harness->patience && !look(f, &spec.id).message; i++)
            f->harness->let_pass(f->world);
        assert_string_equal(look(f, &spec.id).message, "readiness probe: HTTP status 503");
        bad = false;
    }
    (void)wait_until_ready(f, &spec.id);
    (void)close(listener);
    wait_for_unready(f, &spec.id);
    assert_true(fl_str_has_prefix(look(f, &spec.id).message, "readiness probe: "));
}

/* Restarts of the control plane. */

static void sets_broken_folders_aside(void **state)
{
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{\"version\":2}",
                                        "{\"version\":1,\"number\":0}",
                                        "{\"version\":1,\"number\":1,\"stopSignal\":15}"};
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct fl_run before, after;

    begin(f, &spec);
    before = wait_until_ready(f, &spec.id);
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        const char *folder = fl_arena_printf(f->arena, "%s/local/uid-2/%zu", world_folder(f), i);

        assert_int_equal(fl_dir_ensure(folder, 0700, NULL), 0);
        assert_int_equal(fl_file_write(fl_arena_printf(f->arena, "%s/instance.json", folder),
                                       texts[i], strlen(texts[i]), 0600, NULL),
                         0);
    }
    assert_int_equal(
        fl_dir_ensure(fl_arena_printf(f->arena, "%s/local/uid-2/x", world_folder(f)), 0700, NULL),
        0);
    fixture_restart(f);
    after = look(f, &spec.id);
    assert_string_equal(after.id, before.id);
    assert_false(knows(f, "uid-2"));
}

/* A record that cannot be read must not hide a program that runs. */
static void a_broken_record_leaves_no_orphan(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    const char *path = fl_arena_printf(f->arena, "%s/local/uid-1/0/instance.json", world_folder(f));

    begin(f, &spec);
    (void)wait_until_ready(f, &spec.id);
    assert_true(marked(f, 0, 1) > 0);
    f->driver->ops->destroy(f->driver);
    assert_int_equal(fl_file_write(path, "{", 1, 0600, NULL), 0);
    fixture_open(f);
    assert_false(knows(f, "uid-1"));
    for (unsigned i = 0; i < f->harness->patience && marked(f, 0, 1) > 0; i++)
        f->harness->let_pass(f->world);
    assert_int_equal(marked(f, 0, 1), 0);
}

/* A start that was written down, and then the control plane died before it had a shim. */
static void a_start_without_a_shim_is_lost(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, EXITS_0, 0, 1);
    struct fl_run run = run_to_end(f, &spec);

    f->driver->ops->destroy(f->driver);
    assert_int_equal(fl_dir_remove(run_path(f, 0, 1, "."), NULL) < 0, 1);
    fl_path_remove(run_path(f, 0, 1, "status"));
    fixture_open(f);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Lost");
    fixture_restart(f);
    assert_string_equal(look(f, &spec.id).exit.reason, "Lost");
}

static void many_restarts_lose_nothing(void **state)
{
    struct fixture *f = *state;
    int64_t alive = 0;

    for (int64_t i = 0; i < 12; i++) {
        struct fl_run_spec spec = a_run(f, i % 3 ? RUNS : EXITS_7, i, 1);

        begin(f, &spec);
        alive += i % 3 != 0;
        fixture_restart(f);
    }
    for (int64_t i = 0; i < 12; i++) {
        struct fl_run_id id = {"uid-1", i};

        if (i % 3) {
            (void)wait_until_ready(f, &id);
            assert_int_equal(marked(f, i, 1) >= 1, 1);
        } else {
            assert_int_equal(wait_for_state(f, &id, FL_RUN_ENDED).exit.code, 7);
        }
    }
    assert_int_equal(alive, 8);
}

/* Scarcity. */

static void few_descriptors_are_an_error(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_run(f, RUNS, 0, 1);
    struct rlimit before, few;
    struct fl_run run;
    int r;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (rlim_t limit = 3; limit < 40; limit++) {
        few = (struct rlimit){limit, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        spec.number = (int64_t)limit;
        r = f->driver->ops->start(f->driver, &spec, NULL);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        run = look(f, &spec.id);
        if (run.number != spec.number) {
            assert_true(r < 0);
            continue;
        }
        if (run.state != FL_RUN_ENDED)
            assert_int_equal(stop(f, &spec.id, 0, "Stopped"), 0);
        run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
        assert_non_null(run.exit.reason);
    }
    spec.number = 100;
    begin(f, &spec);
    (void)wait_until_ready(f, &spec.id);
}

static const char *log_text(struct fixture *f, int64_t index, bool previous, int64_t tail);

static size_t fill_disk(const char *path)
{
    char zeros[4096] = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    size_t done = 0;
    ssize_t n = sizeof(zeros);

    assert_true(fd >= 0);
    for (size_t size = sizeof(zeros); size > 0; size = n > 0 ? size : size / 2) {
        n = write(fd, zeros, size);
        done += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    return done;
}

/* What cannot be written down is not begun, and how a run ended is known all the same. */
static void a_full_disk_loses_no_exit(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec =
        a_script(f, 0, "echo begin; while ! test -e go; do sleep 0.01; done; echo end; exit 7");
    struct fl_run_spec other = a_run(f, RUNS, 1, 1);
    const char *filler = fl_arena_printf(f->arena, "%s/filler", world_folder(f));
    struct fl_run run;

    f->driver->ops->destroy(f->driver);
    if (mount("flops-test", world_folder(f), "tmpfs", 0, "size=1m") != 0) {
        fixture_open(f);
        print_message("not tried: a small disk cannot be mounted here\n");
        skip();
    }
    fixture_open(f);
    begin(f, &spec);
    (void)wait_until_ready(f, &spec.id);
    assert_int_equal(fl_file_write(run_path(f, 0, 1, "work/here"), "", 0, 0600, NULL), 0);
    for (unsigned i = 0; i < f->harness->patience && !*fl_str_or(log_text(f, 0, false, -1), "");
         i++)
        f->harness->let_pass(f->world);
    assert_true(fill_disk(filler) > 0);
    assert_int_equal(start(f, &other), FL_E_UNAVAILABLE);
    assert_int_equal(look(f, &other.id).state, 0);
    assert_int_equal(
        fl_folder_move(run_path(f, 0, 1, "work/here"), run_path(f, 0, 1, "work/go"), NULL), 0);
    run = wait_for_state(f, &spec.id, FL_RUN_ENDED);
    assert_string_equal(run.exit.reason, "Error");
    assert_int_equal(run.exit.code, 7);
    fixture_restart(f);
    assert_int_equal(look(f, &spec.id).exit.code, 7);
    fl_path_remove(filler);
    begin(f, &other);
    (void)wait_until_ready(f, &other.id);
    assert_int_equal(stop(f, &other.id, 0, "Stopped"), 0);
    (void)wait_for_state(f, &other.id, FL_RUN_ENDED);
    f->driver->ops->destroy(f->driver);
    assert_int_equal(umount2(world_folder(f), MNT_DETACH), 0);
    fixture_open(f);
}

/* Output. */

static void count_call(void *user)
{
    __atomic_add_fetch((unsigned *)user, 1, __ATOMIC_SEQ_CST);
}

static const char *read_all(struct fixture *f, struct fl_log_reader *reader, bool to_the_end)
{
    struct fl_buf text;
    const char *copy;
    bool ended = false;

    fl_buf_init(&text, 0);
    for (unsigned i = 0; i < f->harness->patience; i++) {
        char data[777];
        int64_t n = f->driver->ops->log_read(reader, data, sizeof(data), &ended, NULL);

        assert_true(n >= 0);
        fl_buf_append(&text, data, (size_t)n);
        if (ended || (n == 0 && !to_the_end))
            break;
        if (n == 0)
            f->harness->let_pass(f->world);
    }
    assert_true(ended || !to_the_end);
    copy = fl_arena_strdup(f->arena, fl_buf_text(&text));
    fl_buf_finish(&text);
    return copy;
}

static const char *log_text(struct fixture *f, int64_t index, bool previous, int64_t tail)
{
    struct fl_log_query query = {{"uid-1", index}, previous, tail, false};
    struct fl_log_reader *reader = NULL;
    unsigned calls = 0;
    const char *text;

    if (f->driver->ops->log_open(f->driver, &query, count_call, &calls, &reader, NULL) < 0)
        return NULL;
    text = read_all(f, reader, false);
    f->driver->ops->log_close(reader);
    return text;
}

static void output_is_kept(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec first = a_script(f, 0, "echo one; echo two >&2; printf three"),
                       second = a_script(f, 0, "echo again");
    struct fl_run run;

    assert_null(log_text(f, 0, false, -1));
    run = run_to_end(f, &first);
    assert_non_null(strstr(run.exit.log_tail, "three"));
    assert_null(log_text(f, 0, true, -1));
    second.number = 2;
    (void)run_to_end(f, &second);
    assert_string_equal(log_text(f, 0, false, -1), "again\n");
    assert_int_equal(strlen(log_text(f, 0, true, -1)), strlen("one\ntwo\nthree"));
    assert_string_equal(log_text(f, 0, false, 0), "");
}

/* Each line behind its time, however small the pieces are in which it is read. */
static void output_has_its_times(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0, "echo one two three four; head -c 40000 /dev/zero");
    struct fl_log_query query = {{"uid-1", 0}, false, -1, true};
    struct fl_log_reader *reader = NULL;
    struct tm unused;
    bool ended = false;
    char piece[1], text[64] = {0};
    size_t len = 0;
    unsigned calls = 0;

    (void)run_to_end(f, &spec);
    assert_int_equal(f->driver->ops->log_open(f->driver, &query, count_call, &calls, &reader, NULL),
                     0);
    for (; !ended; len++)
        if (f->driver->ops->log_read(reader, piece, 1, &ended, NULL) == 1 && len < sizeof(text) - 1)
            text[len] = piece[0];
    f->driver->ops->log_close(reader);
    assert_true(
        fl_str_has_prefix(strptime(text, "%Y-%m-%dT%H:%M:%S.", &unused) + strlen("123456789"),
                          "Z one two three four\n20"));
    assert_int_equal(len - 1, 31 + strlen("one two three four\n") + 31 + 40000);
}

static void output_is_followed(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec = a_script(f, 0,
                                       "echo one; while ! test -e go; do sleep 0.01; done; "
                                       "echo two; echo three");
    struct fl_log_query query = {{"uid-1", 0}, false, -1, false};
    struct fl_log_reader *reader = NULL;
    unsigned calls = 0;

    begin(f, &spec);
    (void)wait_until_ready(f, &spec.id);
    assert_int_equal(f->driver->ops->log_open(f->driver, &query, count_call, &calls, &reader, NULL),
                     0);
    for (unsigned i = 0; i < f->harness->patience && !*log_text(f, 0, false, -1); i++)
        f->harness->let_pass(f->world);
    assert_string_equal(read_all(f, reader, false), "one\n");
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
    assert_int_equal(fl_file_write(run_path(f, 0, 1, "work/go"), "", 0, 0600, NULL), 0);
    for (unsigned i = 0; i < f->harness->patience && !__atomic_load_n(&calls, __ATOMIC_SEQ_CST);
         i++)
        f->harness->let_pass(f->world);
    assert_true(__atomic_load_n(&calls, __ATOMIC_SEQ_CST) > 0);
    assert_string_equal(read_all(f, reader, true), "two\nthree\n");
    f->driver->ops->log_close(reader);
}

static void output_is_bounded_and_its_end_is_kept(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec =
        a_script(f, 0, "i=1; while [ $i -le 5000 ]; do echo line $i; i=$((i + 1)); done");
    struct fl_workload_spec *workload = spec_of(&spec);
    struct fl_folder_list files = {0};
    struct fl_run run;
    size_t logs = 0;

    workload->log.max_size = "16Ki";
    workload->log.max_files = 3;
    run = run_to_end(f, &spec);
    assert_true(fl_str_has_suffix(run.exit.log_tail, "line 4999\nline 5000\n"));
    assert_true(fl_str_has_prefix(run.exit.log_tail, "line "));
    assert_true(strlen(run.exit.log_tail) <= 2048);
    assert_int_equal(fl_folder_list(f->arena, run_path(f, 0, 1, "."), false, 1000, &files, NULL),
                     0);
    for (size_t i = 0; i < files.count; i++)
        logs += fl_str_has_prefix(files.names[i], "log");
    assert_int_equal(logs, 3);
    assert_string_equal(log_text(f, 0, false, 2), "line 4999\nline 5000\n");
    assert_true(fl_str_has_suffix(log_text(f, 0, false, 700), "line 4999\nline 5000\n"));
    assert_true(fl_str_has_prefix(log_text(f, 0, false, 700), "line 4301\n"));
}

static void one_log_file_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec =
        a_script(f, 0, "i=1; while [ $i -le 5000 ]; do echo line $i; i=$((i + 1)); done");
    struct fl_workload_spec *workload = spec_of(&spec);

    workload->log.max_size = "16Ki";
    workload->log.max_files = 1;
    (void)run_to_end(f, &spec);
    assert_in_range(size_of(run_path(f, 0, 1, "log")), 1, 16384);
    assert_false(fl_path_exists(run_path(f, 0, 1, "log.1")));
    assert_true(fl_str_has_suffix(log_text(f, 0, false, -1), "line 4999\nline 5000\n"));
}

static void long_lines_come_back_whole(void **state)
{
    struct fixture *f = *state;
    struct fl_run_spec spec =
        a_script(f, 0, "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end");
    const char *text;

    (void)run_to_end(f, &spec);
    text = log_text(f, 0, false, -1);
    assert_int_equal(strlen(text), 100001 + 4);
    assert_int_equal(strspn(text, "x"), 100000);
    assert_string_equal(log_text(f, 0, false, 1), "end\n");
    assert_int_equal(strlen(log_text(f, 0, false, 2)), 100001 + 4);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_killed_shim_leaves_nothing),
        TEST(a_restart_clears_away_after_a_killed_shim),
        TEST(the_end_takes_daemons_along),
        TEST(a_stopped_program_can_be_stopped),
        TEST(a_program_that_was_killed_says_so),
        TEST(a_fork_bomb_stays_within_its_limit_and_dies),
        TEST(too_much_memory_is_told_as_such),
        TEST(a_limit_that_does_not_hold_is_told),
        TEST(nothing_is_left_without_groups_too),
        TEST(gets_its_environment_and_no_other),
        TEST(secrets_are_in_no_record_and_no_argument),
        TEST(keeps_state_and_empties_scratch),
        TEST(what_cannot_be_is_refused),
        TEST(images_need_a_runtime),
        TEST(finds_programs_by_name_and_itself),
        TEST(becomes_another_user),
        TEST(never_gives_a_port_twice),
        TEST(an_address_stays_over_runs),
        TEST(a_taken_port_is_named_with_its_holder),
        TEST(readiness_comes_and_goes),
        TEST(probes_have_their_own_say),
        TEST(a_failed_liveness_ends_the_run),
        TEST(startup_holds_the_others_back),
        TEST(a_hung_check_is_killed_whole),
        TEST(asks_ports),
        TEST(sets_broken_folders_aside),
        TEST(a_broken_record_leaves_no_orphan),
        TEST(a_start_without_a_shim_is_lost),
        TEST(many_restarts_lose_nothing),
        TEST(few_descriptors_are_an_error),
        TEST(a_full_disk_loses_no_exit),
        TEST(output_is_kept),
        TEST(output_has_its_times),
        TEST(output_is_followed),
        TEST(output_is_bounded_and_its_end_is_kept),
        TEST(one_log_file_is_bounded),
        TEST(long_lines_come_back_whole),
    };

    if (local_is_shim(argc, argv))
        return fl_shim_main();
    if (argc > 1 && strcmp(argv[1], "print-program") == 0)
        return 42;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    take_turn();
    return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
