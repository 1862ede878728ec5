/* What a cache costs: objects of 2 KiB, half of them owned, one index beside that of owners.
 *
 *     cache_bench [OBJECTS] */
#include "controller/cache/cache.h"

#include "controller/cache/cache_testing.h"

#include <malloc.h>
#include <string.h>

#define GROUPS 100

static struct fl_env env;

static double now_s(void)
{
    return (double)fl_machine_monotonic_us() / 1e6;
}

static size_t allocated_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static json_t *make(size_t number, size_t padding)
{
    FL_CLEANUP(fl_freep) char *text = fl_malloc(padding + 1);
    json_t *object;

    memset(text, 'x', padding);
    text[padding] = '\0';
    object =
        json_pack("{s:s, s:s, s:{s:s+, s:s}, s:{s:s+, s:s, s:{s:i, s:s}}}", "apiVersion",
                  "flops.dev/v1", "kind", "Workload", "metadata", "uid", "0b5c6cb7-53ad-4b2e-9a9c-",
                  "0d6f1a2b3c4d", "namespace", "default", "spec", "group", "group-", "x", "padding",
                  text, "training", "rounds", 3, "mode", "Sync");
    json_object_set_new(json_object_get(object, "spec"), "group",
                        json_sprintf("group-%zu", number % GROUPS));
    if (number % 2)
        json_object_set_new(json_object_get(object, "metadata"), "ownerReferences",
                            json_pack("[{s:o, s:s}]", "uid",
                                      json_sprintf("0b5c6cb7-53ad-4b2e-9a9c-%012zu", number / 20),
                                      "name", "owner"));
    return object;
}

static void write_some(struct world *world, enum fl_store_op op, size_t first, size_t count)
{
    char name[48];

    for (size_t i = first; i < first + count; i++) {
        FL_JSON object = make(i, 1700);

        (void)snprintf(name, sizeof(name), "workload-%zu", i);
        world_write(world, op, "default", name, object);
    }
}

static void emit_group(const json_t *object, fl_index_emit_fn *emit, void *user)
{
    emit(user, fl_json_str(object, "spec.group"));
}

static const struct fl_cache_index by_group = {"group", emit_group};

static struct fl_cache *create(struct fl_apiclient *client, size_t index_count)
{
    return fl_cache_create(&(struct fl_cache_options){.env = &env,
                                                      .client = client,
                                                      .gvr = workloads,
                                                      .indexes = &by_group,
                                                      .index_count = index_count});
}

static void time_reads(struct fl_cache *cache)
{
    struct fl_list list;
    double start = now_s();
    size_t found = 0;

    for (int i = 0; i < 10000; i++) {
        char group[24];

        (void)snprintf(group, sizeof(group), "group-%d", i % GROUPS);
        fl_cache_list_by(cache, "group", group, &list);
        found = list.count;
        fl_list_finish(&list);
    }
    printf("list_by, %zu found: %.1f us", found, (now_s() - start) * 1e6 / 10000);
    start = now_s();
    for (int i = 0; i < 100000; i++)
        fl_object_unref(fl_cache_get(cache, "default", "workload-77"));
    printf("; get: %.2f us", (now_s() - start) * 1e6 / 100000);
    start = now_s();
    for (int i = 0; i < 100; i++) {
        fl_cache_list(cache, NULL, &list);
        found = list.count;
        fl_list_finish(&list);
    }
    printf("; list of all %zu: %.0f us\n", found, (now_s() - start) * 1e6 / 100);
}

/* In parts, because the store's history is bounded. */
static void time_changes(struct world *world, struct fl_cache *cache, size_t objects)
{
    size_t part = 500, count = 0;
    double took = 0;

    for (size_t i = 0; i + part <= objects; i += part) {
        double start;

        write_some(world, FL_STORE_UPDATE, i, part);
        start = now_s();
        count += fl_cache_pump(cache, 0);
        took += now_s() - start;
    }
    printf("  %zu changes: %.0f/s\n", count, (double)count / took);
}

static void run(struct world *world, struct fl_apiclient *client, size_t objects,
                size_t index_count)
{
    size_t before = allocated_bytes(), count;
    struct fl_cache *cache = create(client, index_count);
    double start = now_s(), took;

    count = fl_cache_pump(cache, 0);
    took = now_s() - start;
    printf("%zu indexes beside owners: first list of %zu in %.1f ms, %zu bytes an object\n",
           index_count, count, took * 1e3, (allocated_bytes() - before) / count);
    time_changes(world, cache, objects);
    if (index_count > 0)
        time_reads(cache);
    fl_cache_destroy(cache);
}

int main(int argc, char **argv)
{
    size_t objects = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    struct fl_apiclient *client;
    struct world world;

    env = fl_env_real(NULL);
    world_init(&world, &env);
    client = fl_apiclient_create(&env, &world_ops, &world);
    write_some(&world, FL_STORE_CREATE, 0, objects);
    run(&world, client, objects, 0);
    run(&world, client, objects, 1);
    fl_apiclient_destroy(client);
    world_finish(&world);
    return 0;
}
