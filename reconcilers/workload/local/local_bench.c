/* What a run costs: from start() until its program is up, memory of its shim, and the processor
 * time of all when nothing happens. usage: local_bench RUNS [PROGRAM-OF-THE-SHIM] The yardstick is
 * the same program, started by fork and exec alone. */
#include "lib/file.h"
#include "lib/process.h"
#include "lib/shim.h"
#include "lib/str.h"
#include "reconcilers/workload/local/local.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IDLE_S 10

static const struct fl_workload_spec *a_spec(struct fl_arena *arena)
{
    struct fl_workload_spec *spec = fl_new(arena, struct fl_workload_spec);

    spec->stop_signal = FL_WORKLOAD_STOP_SIGNAL_SIGTERM;
    spec->has_process = true;
    spec->process.program = "/bin/sleep";
    spec->args.items = fl_new_array(arena, const char *, 1);
    spec->args.items[spec->args.count++] = "100000";
    return spec;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static void print_times(const char *what, int64_t *us, size_t count)
{
    qsort(us, count, sizeof(*us), compare);
    (void)printf("%s: median %" PRId64 " us, p99 %" PRId64 " us\n", what, us[count / 2],
                 us[count * 99 / 100]);
}

static pid_t wait_up(struct fl_orchestrator_driver *driver, int64_t index)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    for (;;) {
        struct fl_run_list list = {0};

        (void)driver->ops->observe(driver, "bench", arena, &list, NULL);
        if (list.count > (size_t)index && list.items[index].state == FL_RUN_RUNNING)
            return (pid_t)strtol(list.items[index].id, NULL, 10);
        if (list.count > (size_t)index && list.items[index].state == FL_RUN_ENDED) {
            (void)fprintf(stderr, "ended: %s\n", fl_str_or(list.items[index].exit.message, ""));
            exit(1);
        }
        (void)usleep(100);
        fl_arena_reset(arena);
    }
}

static pid_t parent_of(pid_t pid)
{
    char path[64], line[256];
    FILE *file;
    int parent = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "PPid: %d", &parent) == 1)
            break;
    if (file)
        (void)fclose(file);
    return parent;
}

static int64_t pss_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "Pss: %ld", &kib) == 1)
            break;
    if (file)
        (void)fclose(file);
    return kib;
}

/* Context switches: a process that sleeps for good has none. */
static int64_t wakes_of(pid_t pid)
{
    char path[64], line[256];
    long switches = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &switches) == 1)
            break;
    if (file)
        (void)fclose(file);
    return switches;
}

static int64_t own_cpu_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void bare(int64_t *us, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        static const char *const argv[] = {"/bin/true", NULL}, *const env[] = {NULL};
        struct fl_process_start process = {.argv = argv, .env = env};
        int64_t before = fl_machine_monotonic_us();
        int pidfd;

        if (fl_process_start(&process, &pidfd, NULL) < 0)
            exit(1);
        us[i] = fl_machine_monotonic_us() - before;
        while (!fl_process_reap(pidfd))
            (void)usleep(100);
        (void)close(pidfd);
    }
    print_times("fork and exec alone", us, count);
}

static void idle(const pid_t *shims, size_t count)
{
    int64_t wakes = 0, cpu = own_cpu_us();

    for (size_t i = 0; i < count; i++)
        wakes -= wakes_of(shims[i]);
    (void)sleep(IDLE_S);
    for (size_t i = 0; i < count; i++)
        wakes += wakes_of(shims[i]);
    (void)printf("idle for %d s: %" PRId64 " wake-ups of %zu shims, %" PRId64
                 " us of the driver's processor time\n",
                 IDLE_S, wakes, count, own_cpu_us() - cpu);
}

static void end_all(struct fl_orchestrator_driver *driver, size_t count)
{
    int64_t before = fl_machine_monotonic_us();

    for (size_t i = 0; i < count; i++)
        (void)driver->ops->stop(driver, &(struct fl_run_id){"bench", (int64_t)i}, 1000, "Stopped",
                                NULL);
    for (size_t i = 0; i < count; i++)
        while (driver->ops->remove(driver, &(struct fl_run_id){"bench", (int64_t)i}, NULL) < 0)
            (void)usleep(500);
    (void)printf("stop and remove all: %" PRId64 " ms\n",
                 (fl_machine_monotonic_us() - before) / 1000);
}

static void measure(struct fl_orchestrator_driver *driver, size_t count)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    int64_t *handed = fl_calloc(count, sizeof(*handed)), *up = fl_calloc(count, sizeof(*up)),
            pss = 0;
    pid_t *shims = fl_calloc(count, sizeof(*shims));
    struct fl_run_spec run = {.id = {.workload_uid = "bench"},
                              .number = 1,
                              .spec_hash = "h",
                              .ns = "default",
                              .name = "bench",
                              .spec = a_spec(arena)};

    bare(up, count);
    for (size_t i = 0; i < count; i++) {
        int64_t before = fl_machine_monotonic_us();
        struct fl_error err = {0};

        run.id.index = (int64_t)i;
        if (driver->ops->start(driver, &run, &err) < 0) {
            (void)fprintf(stderr, "start: %s\n", err.msg);
            exit(1);
        }
        handed[i] = fl_machine_monotonic_us() - before;
        shims[i] = parent_of(wait_up(driver, run.id.index));
        up[i] = fl_machine_monotonic_us() - before;
    }
    print_times("start() returns", handed, count);
    print_times("start() until the program is up", up, count);
    for (size_t i = 0; i < count; i++)
        pss += pss_kib(shims[i]);
    (void)printf("memory of a shim: %" PRId64 " KiB PSS\n", pss / (int64_t)count);
    idle(shims, count);
    end_all(driver, count);
    free(handed);
    free(up);
    free(shims);
}

int main(int argc, char **argv)
{
    struct fl_env env = fl_env_real(NULL);
    char folder[] = "/tmp/flops-local-bench-XXXXXX", program[1024] = {0};
    struct fl_local_options options = {.env = &env, .data_dir = folder, .program = program};
    struct fl_orchestrator_driver *driver;
    struct fl_error err = {0};

    if (argc > 1 && strcmp(argv[1], "shim") == 0)
        return fl_shim_main();
    if (argc < 2 || !mkdtemp(folder) || readlink("/proc/self/exe", program, 1023) < 0)
        return 2;
    options.shim = argc > 2 ? argv[2] : NULL;
    if (fl_local_create(&options, &driver, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    measure(driver, (size_t)strtol(argv[1], NULL, 10));
    driver->ops->destroy(driver);
    return fl_dir_remove(folder, NULL) < 0;
}
