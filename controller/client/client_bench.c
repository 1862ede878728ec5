/* What a call of the local client costs on this machine: all the way through authentication, RBAC,
 * validation and the store, from some threads at once, or turning a simulated loop.
 *
 *     client_bench [DIRECTORY [CALLS [THREADS]]]
 *
 * DIRECTORY is for the databases. Objects are Workloads of this program's own definitions. */
#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 64

static const struct fl_gvr workloads = {"flops.dev", "v1alpha1", "workloads", true};

struct bench {
    struct fl_plane *plane;
    const char *name;
    int calls, threads;
};

struct worker;
typedef void call_fn(struct worker *worker, int i);

struct worker {
    struct fl_thread *thread;
    struct bench *bench;
    call_fn *call;
    int number, count;
    float *took_us;
};

static void die(const char *what, const struct fl_error *err)
{
    (void)fprintf(stderr, "%s: %s\n", what, err->msg);
    exit(1);
}

static int64_t now_us(void)
{
    return fl_machine_monotonic_us();
}

/* The calls. */

static void name_of(const struct worker *worker, int i, char out[64])
{
    (void)snprintf(out, 64, "learner-%d-%d", worker->number, i);
}

static json_t *workload(const char *name)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:s, s:{s:s}, s:[s,s,s]}}", "apiVersion",
                     "flops.dev/v1alpha1", "kind", "Workload", "metadata", "name", name,
                     "namespace", "default", "labels", "flops.dev/project", "bench", "spec", "role",
                     "Learner", "process", "program", "flops", "args", "learner", "--server",
                     "http://127.0.0.1:8080");
}

static void create(struct worker *worker, int i)
{
    struct fl_error err = {0};
    char name[64];

    name_of(worker, i, name);
    FL_JSON object = workload(name);

    if (fl_apiclient_create_object(worker->bench->plane->client, &workloads, "default", object,
                                   NULL, &err) < 0)
        die("create", &err);
}

static void get(struct worker *worker, int i)
{
    struct fl_error err = {0};
    FL_JSON object = NULL;
    char name[64];

    name_of(worker, i, name);
    if (fl_apiclient_get(worker->bench->plane->client, &workloads, "default", name, &object, &err) <
        0)
        die("get", &err);
}

static void patch_status(struct worker *worker, int i)
{
    FL_JSON patch =
        json_pack("{s:{s:i, s:[{s:s, s:s, s:s, s:s, s:s}]}}", "status", "observedGeneration", 1,
                  "conditions", "type", "Ready", "status", "True", "reason", "Running", "message",
                  "1/1", "lastTransitionTime", "2026-01-02T03:04:05Z");
    struct fl_error err = {0};
    char name[64];

    name_of(worker, i, name);
    if (fl_apiclient_patch(worker->bench->plane->client, &workloads, "default", name, "status",
                           patch, NULL, &err) < 0)
        die("patch", &err);
}

static void apply_again(struct worker *worker, int i)
{
    const struct fl_apply_options options = {.manager = "bench", .force = true};
    struct fl_error err = {0};
    char name[64];

    name_of(worker, i, name);
    FL_JSON object = workload(name);

    if (fl_apiclient_apply(worker->bench->plane->client, &workloads, object, &options, NULL, &err) <
        0)
        die("apply", &err);
}

static void erase(struct worker *worker, int i)
{
    struct fl_error err = {0};
    char name[64];

    name_of(worker, i, name);
    if (fl_apiclient_delete(worker->bench->plane->client, &workloads, "default", name, NULL, &err) <
        0)
        die("delete", &err);
}

/* Running them. */

static void work(void *user)
{
    struct worker *worker = user;

    for (int i = 0; i < worker->count; i++) {
        int64_t start = now_us();

        worker->call(worker, i);
        worker->took_us[i] = (float)(now_us() - start);
    }
}

static int compare_floats(const void *left, const void *right)
{
    const float *a = left, *b = right;

    return (*a > *b) - (*a < *b);
}

static void run(struct bench *bench, const char *what, call_fn *call)
{
    int share = bench->calls / bench->threads, total = share * bench->threads;
    FL_CLEANUP(fl_freep) float *took_us = fl_calloc((size_t)total, sizeof(*took_us));
    struct worker workers[THREADS_MAX];
    struct fl_error err = {0};
    int64_t start = now_us(), took;

    for (int i = 0; i < bench->threads; i++) {
        workers[i] = (struct worker){.bench = bench,
                                     .call = call,
                                     .number = i,
                                     .count = share,
                                     .took_us = took_us + i * share};
        if (bench->threads == 1)
            work(&workers[i]);
        else if (fl_thread_start("bench", work, &workers[i], &workers[i].thread, &err) < 0)
            die("thread", &err);
    }
    for (int i = 0; i < bench->threads; i++)
        fl_thread_join(workers[i].thread);
    took = now_us() - start;
    qsort(took_us, (size_t)total, sizeof(*took_us), compare_floats);
    printf("%-10s %-14s %2d threads %8.0f/s   p50 %7.0f us   p99 %7.0f us\n", bench->name, what,
           bench->threads, total * 1e6 / (double)took, took_us[total / 2],
           took_us[total * 99 / 100]);
}

/* From a write to the event in the hands of another thread. */

struct listener {
    struct fl_lock *lock;
    struct fl_signal *come;
    bool woken;
};

static void wake(void *user)
{
    struct listener *listener = user;

    FL_LOCKED(listener->lock);
    listener->woken = true;
    fl_signal_one(listener->come);
}

static void run_watch(struct bench *bench)
{
    struct listener listener = {.lock = fl_lock_create(), .come = fl_signal_create()};
    struct worker worker = {.bench = bench};
    struct fl_apiclient_watch *watch = NULL;
    struct fl_error err = {0};
    int64_t start, took = 0;
    struct fl_event event;

    if (fl_apiclient_watch(bench->plane->client, &workloads, NULL,
                           fl_store_revision(bench->plane->store), wake, &listener, &watch,
                           &err) < 0)
        die("watch", &err);
    for (int i = 0; i < bench->calls; i++) {
        start = now_us();
        create(&worker, i);
        fl_lock_take(listener.lock);
        while (!listener.woken)
            (void)fl_signal_wait(listener.come, listener.lock, 1000);
        listener.woken = false;
        fl_lock_release(listener.lock);
        while (fl_apiclient_watch_next(watch, &event, &err) > 0)
            took += now_us() - start;
    }
    printf("%-10s %-14s  1 thread  create to its event: %.0f us\n", bench->name, "watch",
           (double)took / bench->calls);
    fl_apiclient_watch_close(watch);
    fl_signal_destroy(listener.come);
    fl_lock_destroy(listener.lock);
}

static void run_lists(struct bench *bench)
{
    struct fl_error err = {0};
    struct fl_list list = {0};
    FL_JSON items = NULL;
    int64_t start = now_us(), shared;

    if (fl_apiclient_list_objects(bench->plane->client, &workloads, NULL, &list, &err) < 0)
        die("list", &err);
    shared = now_us() - start;
    start = now_us();
    if (fl_apiclient_list(bench->plane->client, &workloads, NULL, NULL, &items, &err) < 0)
        die("list", &err);
    printf("%-10s %-14s %zu objects: shared %.1f ms, through the API %.1f ms\n", bench->name,
           "list", list.count, (double)shared / 1e3, (double)(now_us() - start) / 1e3);
    fl_list_finish(&list);
}

static void run_all(const char *name, const struct fl_plane_options *options, int calls,
                    int threads)
{
    struct bench bench = {.name = name, .calls = calls, .threads = threads};
    struct fl_error err = {0};

    if (fl_plane_create(options, &bench.plane, &err) < 0)
        die("open", &err);
    run(&bench, "create", create);
    run(&bench, "get", get);
    run(&bench, "status patch", patch_status);
    run(&bench, "first apply", apply_again);
    run(&bench, "no-op apply", apply_again);
    run_lists(&bench);
    run(&bench, "delete", erase);
    if (threads == 1)
        run_watch(&bench);
    fl_plane_destroy(bench.plane);
}

static void remove_database(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char file[300];

    for (size_t i = 0; i < FL_COUNT_OF(suffixes); i++) {
        (void)snprintf(file, sizeof(file), "%s%s", path, suffixes[i]);
        (void)unlink(file);
    }
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    int calls = argc > 2 ? atoi(argv[2]) : 2000, threads = argc > 3 ? atoi(argv[3]) : 8;
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_plane_options options = {.definitions = definitions,
                                       .definition_count = FL_EMBEDDED_CRD_COUNT};
    char path[256];

    if (calls < THREADS_MAX || threads < 1 || threads > THREADS_MAX)
        return 2;
    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    (void)snprintf(path, sizeof(path), "%s/client-bench-%d.db", folder, (int)getpid());
    options.simulated = true;
    run_all("simulated", &options, calls, 1);
    options.simulated = false;
    run_all("memory", &options, calls, 1);
    run_all("memory", &options, calls, threads);
    options.driver = "sqlite";
    options.path = path;
    run_all("sqlite", &options, calls, 1);
    remove_database(path);
    run_all("sqlite", &options, calls, threads);
    remove_database(path);
    return 0;
}
