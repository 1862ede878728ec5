/* CSV as MLflow's clients send it: whatever comes, the reader stays within it, and what it takes is
 * rows. */
#include "workloads/serve/request_testing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_freep) char *body = fl_malloc(size + 1);
    struct fl_ask ask = {.rows.max = FUZZ_ROWS_MAX * 4};
    struct fl_error err = {0};

    if (size > 0)
        memcpy(body, data, size);
    body[size] = '\0';
    fuzz_check(fl_ask_read_csv(arena, &fuzz_signature, body, size, &ask, &err), &ask, &err);
    fl_numbers_finish(&ask.rows);
    return 0;
}
