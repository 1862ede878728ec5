/* Bodies of the Open Inference Protocol, with and without binary tensors: the first two bytes are
 * the header's length (0xFFFF: there is none). Whatever comes, the reader stays within it, and what
 * it takes is rows. */
#include "workloads/serve/request_testing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_freep) char *body = NULL;
    struct fl_ask ask = {.rows.max = FUZZ_ROWS_MAX * 4};
    struct fl_error err = {0};
    int64_t header_len;

    if (size < 2)
        return 0;
    header_len = data[0] * 256 + data[1];
    if (header_len == 0xFFFF)
        header_len = -1;
    size -= 2;
    body = fl_malloc(size + 1);
    if (size > 0)
        memcpy(body, data + 2, size);
    body[size] = '\0';
    fuzz_check(fl_ask_read_v2(arena, &fuzz_signature, body, size, header_len, &ask, &err), &ask,
               &err);
    fl_numbers_finish(&ask.rows);
    return 0;
}
