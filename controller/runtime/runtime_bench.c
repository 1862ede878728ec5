/* What the runtime does on this machine, beside an API server in the same process over a store in
 * memory: first passes (two writes each), passes with nothing to do, time from an edit to its
 * status, memory, and processor time at rest.
 *
 *     runtime_bench [OBJECTS]     10,000 Workloads, suspended */
#include "controller/client/client_testing.h"
#include "controller/runtime/internal.h"

#include "api/gen/crds_embedded.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define EDITS   500
#define REST_MS 5000

static struct fl_plane *plane;
static struct fl_manager *manager;
static struct fl_metric_registry *metrics;

static double now_s(void)
{
    return (double)fl_machine_monotonic_us() / 1e6;
}

static double cpu_s(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) < 0)
        abort();
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double resident_mb(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    size_t size = 0, resident = 0;

    (void)malloc_trim(0);
    if (!file || fscanf(file, "%zu %zu", &size, &resident) != 2)
        abort();
    (void)fclose(file);
    return (double)(resident * (size_t)sysconf(_SC_PAGESIZE)) / 1e6;
}

static void must(int r, const struct fl_error *err)
{
    if (r >= 0)
        return;
    (void)fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

static bool is_suspended(const void *object)
{
    return ((const struct fl_workload *)object)->spec.suspend;
}

static int nothing(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    (void)rc;
    (void)object;
    (void)err;
    return FL_STEP_DONE;
}

static const struct fl_kind_ops ops = {
    .controller = "workload",
    .type = &fl_workload_type,
    FL_STATUS_OF(struct fl_workload),
    .finalizer = "flops.dev/workload",
    .is_suspended = is_suspended,
    .steps = {nothing},
    .finalize = nothing,
};

static json_t *workload(int i)
{
    char name[32];

    (void)snprintf(name, sizeof(name), "workload-%d", i);
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:b, s:s, s:{s:s}}}", "apiVersion",
                     "flops.dev/v1alpha1", "kind", "Workload", "metadata", "name", name,
                     "namespace", "default", "spec", "suspend", 1, "orchestrator", "local",
                     "process", "program", "/bin/sleep");
}

static void create_objects(int count)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_workload_type);
    struct fl_error err = {0};

    for (int i = 0; i < count; i++) {
        FL_JSON object = workload(i);

        must(fl_apiclient_create_object(plane->client, &gvr, "default", object, NULL, &err), &err);
    }
}

static double passes_done(void)
{
    const char *want =
        "controller_runtime_reconcile_total{controller=\"workload\",result=\"success\"} ";
    struct fl_buf text;
    const char *line;
    double count;

    fl_buf_init(&text, 0);
    fl_metrics_registry_write(metrics, &text);
    line = strstr(fl_buf_text(&text), want);
    count = line ? strtod(line + strlen(want), NULL) : 0;
    fl_buf_finish(&text);
    return count;
}

/* Seconds until so many passes are done. */
static double wait_for_passes(double count)
{
    double start = now_s();

    while (passes_done() < count)
        (void)usleep(1000);
    return now_s() - start;
}

static void start(void)
{
    struct fl_manager_options options = {
        .env = &plane->env, .client = plane->client, .metrics = metrics};
    struct fl_error err = {0};

    must(fl_manager_create(&options, &manager, &err), &err);
    must(fl_manager_add(manager, &ops, NULL, &err), &err);
    must(fl_manager_start(manager, &err), &err);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* From the call that edits to the answer that has the status of it. */
static double time_edit(int i)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_workload_type);
    FL_JSON patch = json_pack("{s:{s:s}}", "spec", "gracePeriod", i % 2 ? "1s" : "2s");
    struct fl_error err = {0};
    double start_s = now_s();

    must(fl_apiclient_patch(plane->client, &gvr, "default", "workload-0", NULL, patch, NULL, &err),
         &err);
    for (;;) {
        FL_JSON object = NULL;

        must(fl_apiclient_get(plane->client, &gvr, "default", "workload-0", &object, &err), &err);
        if (fl_json_int(object, "status.observedGeneration", -1) == i + 2)
            return now_s() - start_s;
    }
}

static void time_edits(void)
{
    static double times[EDITS];

    for (int i = 0; i < EDITS; i++)
        times[i] = time_edit(i);
    qsort(times, EDITS, sizeof(times[0]), compare);
    (void)printf("edit to status: median %.2f ms, p99 %.2f ms\n", times[EDITS / 2] * 1e3,
                 times[EDITS * 99 / 100] * 1e3);
}

static void time_rest(void)
{
    double before = cpu_s();

    (void)usleep(REST_MS * 1000);
    (void)printf("at rest: %.3f %% of a core\n", (cpu_s() - before) * 1e5 / REST_MS);
}

static void make_plane(void)
{
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_plane_options options = {.definitions = definitions,
                                       .definition_count = FL_EMBEDDED_CRD_COUNT};
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    must(fl_plane_create(&options, &plane, &err), &err);
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 10000;
    double took;

    make_plane();
    metrics = fl_metrics_registry_create();
    create_objects(count);
    (void)printf("%d objects, before: %.1f MB\n", count, resident_mb());
    start();
    took = wait_for_passes(count);
    (void)printf("first passes: %.0f/s\n", count / took);
    (void)sleep(1);
    (void)printf("managed: %.1f MB\n", resident_mb());
    for (int i = 0; i < count; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "workload-%d", i);
        fl_manager_enqueue(manager, "workload", "default", name);
    }
    took = wait_for_passes(2.0 * count);
    (void)printf("passes with nothing to do: %.0f/s\n", count / took);
    time_rest();
    time_edits();
    fl_manager_stop(manager);
    fl_manager_destroy(manager);
    fl_metrics_registry_destroy(metrics);
    fl_plane_destroy(plane);
    return 0;
}
