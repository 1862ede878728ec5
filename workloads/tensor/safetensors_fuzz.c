/* Safetensors files. What is read is written again and must read back the same. */
#include "workloads/tensor/safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fl_model_limits limits = {.max_bytes = 1 << 20, .max_tensors = 64};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *back = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = NULL, *file = NULL;
    size_t len;

    if (fl_safetensors_read(data, size, &limits, &model, NULL) < 0)
        return 0;
    header = fl_safetensors_header(model, &len);
    file = fl_bytes_new(NULL, len);
    memcpy(file->data, header->data, header->len);
    memcpy(file->data + header->len, model->data, model->size);
    if (fl_safetensors_read(file->data, len, &limits, &back, NULL) < 0 ||
        fl_model_check_like(model, back, NULL) < 0 ||
        memcmp(model->data, back->data, model->size) != 0)
        __builtin_trap();
    return 0;
}
