/* Manifests of data sets. What is read is written again and must read back the same. */
#include "workloads/data/store_manifest.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON once = NULL;
    FL_JSON twice = NULL;
    struct fl_data_info info, back;
    const char *text;

    if (fl_data_manifest_read(arena, (const char *)data, size, &info, NULL) < 0)
        return 0;
    once = fl_data_manifest_write(&info);
    text = fl_json_to_string(arena, once);
    if (fl_data_manifest_read(arena, text, strlen(text), &back, NULL) < 0)
        __builtin_trap();
    twice = fl_data_manifest_write(&back);
    if (!json_equal(once, twice))
        __builtin_trap();
    return 0;
}
