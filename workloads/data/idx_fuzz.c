/* Pairs of IDX files. */
#include "workloads/data/fuzz_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_pair(data, size, fl_idx_parse);
    return 0;
}
