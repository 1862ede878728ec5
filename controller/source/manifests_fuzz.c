/* Any files (pieces of the input between NULs): no crash, every item has an identity of its own
 * within bounds, every fault says what is wrong, and what is left out is said. */
#include "controller/source/manifests.h"

#include "lib/map.h"

#include <stdlib.h>
#include <string.h>

#define FILES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_items(const struct fl_manifests *read, struct fl_arena *arena)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *seen = fl_map_create(NULL);

    for (size_t i = 0; i < read->count; i++) {
        const struct fl_manifest *item = &read->items[i];
        const char *identity =
            fl_arena_printf(arena, "%s/%s/%s/%s", item->group, item->kind, item->ns, item->name);

        must(*item->kind && *item->name && *item->api_version && item->line > 0 && item->file);
        must(strlen(item->name) <= 253 && strlen(item->kind) <= 63 && strlen(item->ns) <= 63);
        must(strlen(item->group) <= 253 && strlen(item->version) <= 63);
        must(json_is_object(item->object));
        must(!fl_map_get(seen, identity));
        fl_map_put(seen, identity, seen);
    }
}

static void check_faults(const struct fl_manifests *read)
{
    must(!read->incomplete || read->fault_count > 0);
    for (size_t i = 0; i < read->fault_count; i++)
        must(*read->faults[i].message && (read->faults[i].file || read->count == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_source_file files[FILES];
    struct fl_snapshot snapshot = {.files = files};
    struct fl_manifests read;
    const char *at = (const char *)data, *end = at + size;

    if (size > 65536)
        return 0;
    while (snapshot.file_count < FILES) {
        const char *nul = at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
        size_t len = (size_t)((nul ? nul : end) - at);

        files[snapshot.file_count++] = (struct fl_source_file){
            .path = "f.yaml", .data = fl_arena_strndup(arena, at, len), .len = len};
        if (!nul)
            break;
        at = nul + 1;
    }
    fl_manifests_read(&snapshot, arena, &read);
    check_items(&read, arena);
    check_faults(&read);
    return 0;
}
