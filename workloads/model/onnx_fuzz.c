/* ONNX files. What is read is written again, and must read back as the same model. */
#include "workloads/model/onnx.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where one can be made of it at all: tensors may still not be the description's. */
static void write_again(struct fl_model *model)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *back = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = NULL;
    char digest[FL_DIGEST_SIZE], digest_back[FL_DIGEST_SIZE];
    struct fl_error err = {0};

    if (fl_onnx_encode(model, NULL, 0, &file, &err) < 0)
        return;
    if (fl_onnx_read(file->data, file->len, NULL, &back, &err) < 0)
        __builtin_trap();
    fl_model_digest(model, digest);
    fl_model_digest(back, digest_back);
    if (strcmp(digest, digest_back) != 0)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fl_model_limits limits = {.max_bytes = 1 << 20, .max_tensors = 64};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_error err = {0};

    if (fl_onnx_read(data, size, &limits, &model, &err) == 0)
        write_again(model);
    return 0;
}
