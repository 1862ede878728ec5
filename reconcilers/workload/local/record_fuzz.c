/* Records of instances: what was read is written and read back the same. */
#include "reconcilers/workload/local/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *first = NULL, *second = NULL;
    FL_JSON one = NULL;
    FL_JSON two = NULL;
    struct record record;

    if (record_decode(arena, (const char *)data, size, &record, NULL) < 0)
        return 0;
    one = record_encode(&record);
    first = fl_json_to_bytes(one);
    if (record_decode(arena, first->data, first->len, &record, NULL) < 0)
        abort();
    two = record_encode(&record);
    second = fl_json_to_bytes(two);
    if (first->len != second->len || memcmp(first->data, second->data, first->len) != 0)
        abort();
    return 0;
}
