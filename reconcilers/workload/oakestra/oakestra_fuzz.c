/* What a root answers, and records on disk: bytes from outside. What was read of a record is
 * written and read back the same. */
#include "reconcilers/workload/oakestra/internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_answers(struct fl_arena *arena, const char *text, size_t len)
{
    FL_JSON answer = NULL;
    struct oak_clusters clusters;
    struct oak_services services;
    struct oak_apps apps;
    struct oak_mark mark;
    const char *found = NULL;

    if (oak_read_answer(text, len, &answer, NULL) < 0)
        return;
    (void)oak_read_clusters(answer, arena, &clusters, NULL);
    (void)oak_read_apps(answer, "f", arena, &apps, NULL);
    (void)oak_read_created(answer, "i0r1", arena, &found, NULL);
    (void)oak_read_free_ip(answer, arena, &found, NULL);
    (void)oak_sla_check(answer, NULL);
    if (oak_read_services(answer, "f", arena, &services, NULL) < 0)
        return;
    for (size_t i = 0; i < services.count; i++)
        for (size_t at = 0; at < services.items[i].environment_count; at++)
            (void)oak_mark_read(arena, services.items[i].environment[at], &mark);
}

static void read_record(struct fl_arena *arena, const char *text, size_t len)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *first = NULL, *second = NULL;
    FL_JSON one = NULL;
    FL_JSON two = NULL;
    struct oak_record record;

    if (oak_record_decode(arena, text, len, &record, NULL) < 0)
        return;
    one = oak_record_encode(&record);
    first = fl_json_to_bytes(one);
    if (oak_record_decode(arena, first->data, first->len, &record, NULL) < 0)
        abort();
    two = oak_record_encode(&record);
    second = fl_json_to_bytes(two);
    if (first->len != second->len || memcmp(first->data, second->data, first->len) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    read_answers(arena, (const char *)data, size);
    read_record(arena, (const char *)data, size);
    return 0;
}
