/* What tensors and their file format share. */
#ifndef FL_WORKLOADS_TENSOR_INTERNAL_H
#define FL_WORKLOADS_TENSOR_INTERNAL_H

#include "workloads/tensor/tensor.h"

struct fl_model_memory {
    struct fl_arena *arena; /* the model itself, names, notes */
    void *block;            /* heap, or NULL */
    void *map;              /* a mapped file, or large zeros; or NULL */
    size_t map_size;
};

/* count and size from type and shape; INVALID where they overflow. */
int fl_tensor_measure(struct fl_tensor *tensor, struct fl_error *err);
/* For qsort: the canonical order. */
int fl_tensor_order(const void *a, const void *b);
/* A model without a block, its tensors copied and in order. */
int fl_model_prepare(const struct fl_tensor *tensors, size_t count, struct fl_model **ret_model,
                     struct fl_error *err);
int fl_model_allocate(struct fl_model *model, struct fl_error *err); /* zeroed */
void fl_model_place(struct fl_model *model, unsigned char *data);    /* tensors' data within it */

#endif
