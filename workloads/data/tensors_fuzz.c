/* Data sets in safetensors files. */
#include "workloads/data/fuzz_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fl_model_limits limits = {.max_bytes = 1 << 20, .max_tensors = 64};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

    if (fl_safetensors_read(data, size, &limits, &model, NULL) == 0 &&
        fl_dataset_from_model(model, &fuzz_limits, false, &dataset, NULL) == 0)
        fuzz_check(dataset);
    return 0;
}
