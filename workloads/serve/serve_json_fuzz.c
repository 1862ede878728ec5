/* Bodies of MLflow's protocol and of KServe's version 1: whatever comes, the readers stay within
 * it, and what they take is rows. The first byte says which. */
#include "workloads/serve/request_testing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_freep) char *body = NULL;
    struct fl_ask ask = {.rows.max = FUZZ_ROWS_MAX * 4};
    struct fl_error err = {0};
    int r;

    if (size == 0)
        return 0;
    body = fl_malloc(size); /* just as long, so that a step beyond the NUL is seen */
    memcpy(body, data + 1, size - 1);
    body[size - 1] = '\0';
    r = data[0] == '1'
            ? fl_ask_read_instances(arena, &fuzz_signature, body, size - 1, &ask, &err)
            : fl_ask_read_invocations(arena, &fuzz_signature, body, size - 1, &ask, &err);
    fuzz_check(r, &ask, &err);
    fl_numbers_finish(&ask.rows);
    return 0;
}
