/* What applying a set costs: made, found right, changed, pruned.
 *
 *     applyset_bench [OBJECTS]
 *
 * Objects are ConfigMaps of about 200 bytes, and Workloads; the API server is in the process, over
 * the memory store, with its loop in a thread of its own. */
#include "controller/source/applyset.h"

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fl_plane *plane;
static struct fl_inventory inventory;

static void die(const struct fl_error *err)
{
    (void)fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

static void make_plane(void)
{
    const char *definitions[FL_EMBEDDED_CRD_COUNT];
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    if (fl_plane_create(&(struct fl_plane_options){.definitions = definitions,
                                                   .definition_count = FL_EMBEDDED_CRD_COUNT},
                        &plane, &err) < 0)
        die(&err);
}

/* Every second one a Workload. */
static const char *make_text(int objects, const char *value, struct fl_arena *arena)
{
    struct fl_buf text;
    const char *copy;

    fl_buf_init(&text, 0);
    for (int i = 0; i < objects; i++)
        if (i % 2)
            fl_buf_printf(
                &text,
                "---\napiVersion: flops.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: "
                "w%d\n  labels: {app: bench}\nspec:\n  suspend: true\n  process: {program: "
                "sleep}\n  args: ['%s']\n",
                i, value);
        else
            fl_buf_printf(&text,
                          "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m%d\n  labels: "
                          "{app: bench}\ndata:\n  key: '%s'\n  other: some more words\n",
                          i, value);
    copy = fl_arena_strdup(arena, text.data ? text.data : "");
    fl_buf_finish(&text);
    return copy;
}

static void measure(const char *what, const char *text, struct fl_applyset_memo *memo,
                    struct fl_arena *arena)
{
    struct fl_source_file file = {.path = "a.yaml", .data = text, .len = strlen(text)};
    const struct fl_snapshot snapshot = {.files = &file, .file_count = 1};
    const struct fl_applyset_options options = {
        .env = &plane->env,
        .client = plane->client,
        .manager = "flops-gitsync",
        .source = "default/bench/uid",
        .ns = "default",
        .prune = true,
        .deadline_ms = INT64_MAX,
        .memo = memo,
    };
    struct fl_applyset_result result;
    struct fl_manifests manifests;
    int64_t start = fl_machine_monotonic_us(), read;
    double took;

    fl_manifests_read(&snapshot, arena, &manifests);
    read = fl_machine_monotonic_us() - start;
    fl_applyset_apply(&options, &manifests, &inventory, arena, &result);
    took = (double)(fl_machine_monotonic_us() - start - read) / 1e6;
    inventory = result.inventory;
    (void)printf(
        "%-22s %7.3f s %8.0f objects/s  (+%zu ~%zu =%zu -%zu !%zu; reading files %.3f s)\n", what,
        took, (double)(result.total + result.pruned) / took, result.created, result.changed,
        result.unchanged, result.pruned, result.failed, (double)read / 1e6);
}

int main(int argc, char **argv)
{
    int objects = argc > 1 ? atoi(argv[1]) : 1000; /* NOLINT(cert-err34-c): for who runs it */
    struct fl_arena *arena = fl_arena_create();
    struct fl_applyset_memo *memo = fl_applyset_memo_create();
    const char *first, *second;

    make_plane();
    first = make_text(objects, "1", arena);
    second = make_text(objects, "2", arena);
    measure("made", first, NULL, arena);
    measure("right already", first, NULL, arena);
    measure("right, being noted", first, memo, arena);
    for (int i = 0; i < 3; i++)
        measure("right, noted", first, memo, arena);
    measure("changed", second, memo, arena);
    measure("pruned", "", memo, arena);
    fl_applyset_memo_destroy(memo);
    fl_plane_destroy(plane);
    fl_arena_destroy(arena);
    return 0;
}
