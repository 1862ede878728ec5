/* What the store does on this machine, with the disk's own speed beside it.
 *
 *     store_bench [DIRECTORY [OBJECTS]]
 *     store_bench open FILE       what an open store takes, in a process of its own
 *
 * Objects have about 2 KB of JSON: a spec and managedFields. */
#include "controller/store/store.h"

#include "lib/json.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROJECTS "flprojects.flops.dev"

static struct fl_env env;

static double now_s(void)
{
    return (double)fl_realtime_us(&env) / 1e6;
}

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    size_t size = 0, resident = 0;

    if (!file || fscanf(file, "%zu %zu", &size, &resident) != 2)
        abort();
    (void)fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void die(const char *what, const struct fl_error *err)
{
    (void)fprintf(stderr, "%s: %s\n", what, err->msg);
    exit(1);
}

static json_t *make_object(const char *name, size_t padding)
{
    char *text = fl_malloc(padding + 1);
    json_t *object;

    memset(text, 'x', padding);
    text[padding] = '\0';
    object = json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:{s:s, s:{s:i, s:s}}}",
                       "apiVersion", "flops.dev/v1", "kind", "FLProject", "metadata", "name", name,
                       "namespace", "default", "uid", "0b5c6cb7-53ad-4b2e-9a9c-0d6f1a2b3c4d",
                       "labels", "app", "bench", "tier", "edge", "spec", "padding", text,
                       "training", "rounds", 3, "mode", "Sync");
    free(text);
    return object;
}

static struct fl_store *open_store(const char *driver, const char *path)
{
    const struct fl_store_options options = {.env = &env, .driver = driver, .path = path};
    struct fl_error err;
    struct fl_store *store;

    if (fl_store_open(&options, &store, &err) < 0)
        die("open", &err);
    return store;
}

struct worker {
    pthread_t thread;
    float *took_us; /* of each write */
    struct fl_store *store;
    size_t count;
    unsigned series, number;
};

static void *create_some(void *user)
{
    struct worker *worker = user;
    char name[64];

    for (size_t i = 0; i < worker->count; i++) {
        (void)snprintf(name, sizeof(name), "project-%u-%u-%zu", worker->series, worker->number, i);
        FL_JSON object = make_object(name, 1700);
        struct fl_store_write write = {FL_STORE_CREATE, {PROJECTS, "default", name}, object, 0};
        double start = now_s();
        struct fl_error err;

        if (fl_store_write_wait(worker->store, &write, NULL, &err) < 0)
            die("create", &err);
        worker->took_us[i] = (float)((now_s() - start) * 1e6);
    }
    return NULL;
}

static unsigned series;

static int compare_floats(const void *left, const void *right)
{
    const float *a = left, *b = right;

    return (*a > *b) - (*a < *b);
}

static void bench_creates(struct fl_store *store, unsigned in_flight, size_t total)
{
    FL_CLEANUP(fl_freep) float *took_us = fl_calloc(total, sizeof(*took_us));
    struct worker workers[64];
    struct fl_store_stats before = fl_store_stats(store), after;
    double start = now_s(), took;

    series++;
    total -= total % in_flight;
    for (unsigned i = 0; i < in_flight; i++) {
        size_t share = total / in_flight;

        workers[i] = (struct worker){0, took_us + i * share, store, share, series, i};
        if (pthread_create(&workers[i].thread, NULL, create_some, &workers[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < in_flight; i++)
        (void)pthread_join(workers[i].thread, NULL);
    took = now_s() - start;
    after = fl_store_stats(store);
    qsort(took_us, total, sizeof(*took_us), compare_floats);
    printf("creates, %2u in flight: %8.0f/s (%.1f writes a commit; a write takes %.0f us, 99%% at "
           "most %.0f, all %.0f)\n",
           in_flight, (double)total / took,
           (double)total / (double)(after.commits - before.commits), took_us[total / 2],
           took_us[total * 99 / 100], took_us[total - 1]);
}

static void *update_some(void *user)
{
    struct worker *worker = user;
    unsigned seed = worker->number;
    char name[64];

    for (size_t i = 0; i < worker->count; i++) {
        (void)snprintf(name, sizeof(name), "project-%u-%d-%d", worker->series, rand_r(&seed) % 8,
                       rand_r(&seed) % 500);
        FL_JSON object = make_object(name, 1700);
        struct fl_store_write write = {FL_STORE_UPDATE, {PROJECTS, "default", name}, object, 0};
        struct fl_error err;

        if (fl_store_write_wait(worker->store, &write, NULL, &err) < 0)
            die("update", &err);
    }
    return NULL;
}

/* Updates with a short history: each commit leaves something to compact. */
static void bench_updates(const char *path, size_t total)
{
    const struct fl_store_options options = {
        .env = &env, .driver = "sqlite", .path = path, .max_history_events = 1000};
    struct worker workers[8];
    struct fl_store *store;
    struct fl_error err;
    struct stat status;
    double start;

    if (fl_store_open(&options, &store, &err) < 0)
        die("open", &err);
    bench_creates(store, 8, 4000);
    start = now_s();
    for (unsigned i = 0; i < 8; i++) {
        workers[i] = (struct worker){0, NULL, store, total / 8, series, i};
        if (pthread_create(&workers[i].thread, NULL, update_some, &workers[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < 8; i++)
        (void)pthread_join(workers[i].thread, NULL);
    printf("updates,  8 in flight, compacting: %.0f/s", (double)total / (now_s() - start));
    fl_store_close(store);
    if (stat(path, &status) == 0)
        printf(", the file has %.1f MB for %.1f MB of objects\n", (double)status.st_size / 1e6,
               4000 * 2e-3);
}

static void bench_disk(const char *directory)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/fsync.dat", directory);
    static char page[4096];
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600), rounds = 500;
    double start;

    for (int i = 0; fd >= 0 && i < rounds; i++)
        if (write(fd, page, sizeof(page)) != sizeof(page))
            abort();
    if (fd < 0 || fsync(fd) != 0)
        abort();
    start = now_s();
    for (int i = 0; i < rounds; i++)
        if (pwrite(fd, page, sizeof(page), i * (off_t)sizeof(page)) < 0 || fdatasync(fd) != 0)
            abort();
    printf("yardstick: write of 4 KiB in place and fdatasync: %.0f us\n",
           (now_s() - start) / rounds * 1e6);
    (void)close(fd);
    (void)unlink(path);
}

static void remove_store(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < FL_COUNT_OF(suffixes); i++) {
        FL_CLEANUP(fl_freep) char *file = fl_asprintf("%s%s", path, suffixes[i]);

        (void)unlink(file);
    }
}

static void bench_reads(struct fl_store *store)
{
    struct fl_key key = {PROJECTS, "default", "project-1-0-7"};
    struct fl_list_query query = {.resource = PROJECTS};
    struct fl_list list;
    struct fl_error err;
    double start = now_s();
    int rounds = 1000000;

    for (int i = 0; i < rounds; i++)
        fl_object_unref(fl_store_get(store, &key));
    printf("get: %.0f ns\n", (now_s() - start) / rounds * 1e9);
    start = now_s();
    if (fl_store_list(store, &query, &list, &err) < 0)
        die("list", &err);
    printf("list of %zu: %.2f ms\n", list.count, (now_s() - start) * 1e3);
    fl_list_finish(&list);
}

static size_t allocated_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static size_t json_bytes(struct fl_store *store, size_t *ret_count)
{
    struct fl_list_query query = {.resource = PROJECTS};
    struct fl_list list;
    struct fl_error err;
    size_t bytes = 0;

    if (fl_store_list(store, &query, &list, &err) < 0)
        die("list", &err);
    for (size_t i = 0; i < list.count; i++)
        bytes += list.objects[i]->json->len;
    *ret_count = list.count;
    fl_list_finish(&list);
    return bytes;
}

static int report_open(const char *path)
{
    size_t before = allocated_bytes(), resident = resident_bytes(), count, json;
    double start = now_s(), took;
    struct fl_store *store = open_store("sqlite", path);

    took = now_s() - start;
    json = json_bytes(store, &count);
    printf("open with %zu objects of %zu bytes: %.1f ms, %zu bytes allocated beside an object's "
           "JSON (%zu events of history, SQLite's memory included), resident %.1f MB (%.1f MB "
           "before)\n",
           count, json / count, took * 1e3, (allocated_bytes() - before - json) / count,
           fl_store_stats(store).history_events, (double)resident_bytes() / 1e6,
           (double)resident / 1e6);
    bench_reads(store);
    fl_store_close(store);
    return 0;
}

static void bench_open(const char *program, const char *path, size_t objects)
{
    FL_CLEANUP(fl_freep) char *command = fl_asprintf("'%s' open '%s'", program, path);
    struct fl_store *store = open_store("sqlite", path);

    bench_creates(store, 64, objects);
    fl_store_close(store);
    (void)fflush(stdout);
    if (system(command) != 0)
        exit(1);
    remove_store(path);
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : "/var/tmp";
    size_t objects = argc > 2 ? strtoul(argv[2], NULL, 10) : 5400;
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/store-bench-%d.db", directory, (int)getpid());
    struct fl_store *store;

    env = fl_env_real(NULL);
    if (argc == 3 && strcmp(argv[1], "open") == 0)
        return report_open(argv[2]);
    bench_disk(directory);
    bench_open(argv[0], path, objects);
    store = open_store("sqlite", path);
    bench_creates(store, 1, 6000);
    bench_creates(store, 8, 24000);
    bench_creates(store, 64, 64000);
    fl_store_close(store);
    remove_store(path);
    bench_updates(path, 40000);
    remove_store(path);
    printf("without a disk:\n");
    store = open_store("memory", NULL);
    bench_creates(store, 1, 50000);
    bench_creates(store, 8, 50000);
    fl_store_close(store);
    return 0;
}
