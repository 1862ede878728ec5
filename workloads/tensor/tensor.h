/* Tensors and models: what is trained, in memory.
 *
 * A model is a set of named tensors in one block of memory, in the order of a safetensors file, so
 * that reading and writing one is a copy (or a map) and its digest is that of the file. Tensors are
 * dense, row-major, little-endian. A model is shared by threads once made and never changed then;
 * whoever changes one owns it alone. Sizes are checked before anything is allocated: a stranger's
 * model costs at most what fl_model_limits say. */
#ifndef FL_WORKLOADS_TENSOR_H
#define FL_WORKLOADS_TENSOR_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name in safetensors, bits of an element */
#define FL_DTYPES(X)                                                                               \
    X(BOOL, "BOOL", 8)                                                                             \
    X(U8, "U8", 8)                                                                                 \
    X(I8, "I8", 8)                                                                                 \
    X(F8_E5M2, "F8_E5M2", 8)                                                                       \
    X(F8_E4M3, "F8_E4M3", 8)                                                                       \
    X(I16, "I16", 16)                                                                              \
    X(U16, "U16", 16)                                                                              \
    X(F16, "F16", 16)                                                                              \
    X(BF16, "BF16", 16)                                                                            \
    X(I32, "I32", 32)                                                                              \
    X(U32, "U32", 32)                                                                              \
    X(F32, "F32", 32)                                                                              \
    X(F64, "F64", 64)                                                                              \
    X(I64, "I64", 64)                                                                              \
    X(U64, "U64", 64)

enum fl_dtype {
    FL_DTYPE_NONE = 0,
#define FL_DTYPE_ENUM_(id, name, bits) FL_DTYPE_##id,
    FL_DTYPES(FL_DTYPE_ENUM_)
#undef FL_DTYPE_ENUM_
        FL_DTYPE_COUNT
};

const char *fl_dtype_name(enum fl_dtype dtype);
enum fl_dtype fl_dtype_from_name(const char *name); /* FL_DTYPE_NONE for what is none */
size_t fl_dtype_size(enum fl_dtype dtype);          /* bytes of an element */
bool fl_dtype_is_float(enum fl_dtype dtype);

#define FL_TENSOR_RANK_MAX 8

struct fl_tensor {
    const char *name;
    enum fl_dtype dtype;
    unsigned rank; /* 0: one element */
    int64_t shape[FL_TENSOR_RANK_MAX];
    size_t count; /* elements */
    size_t size;  /* bytes */
    void *data;   /* aligned as its type asks, within the model's block */
};

struct fl_model_note { /* of "__metadata__" */
    const char *key, *value;
};

struct fl_model {
    int refs;
    struct fl_tensor *tensors; /* in the order of the block */
    size_t count;
    struct fl_model_note *notes; /* sorted by key */
    size_t note_count;
    unsigned char *data; /* the block of all tensors, 64-byte aligned */
    size_t size;
    size_t parameters; /* elements of all tensors */
    void *memory;      /* what owns all this; the implementation's */
};

struct fl_model *fl_model_ref(struct fl_model *model);
void fl_model_unref(struct fl_model *model);
FL_DEFINE_CLEANUP(struct fl_model, fl_model_unref)

/* A zeroed model with the names, types and shapes given (copied; their data is not looked at),
 * ordered as a file would be. INVALID for doubled names, negative sizes or what overflows. */
int fl_model_create(const struct fl_tensor *tensors, size_t count, struct fl_model **ret_model,
                    struct fl_error *err);
/* Of the same form: zeroed, or a copy. UNAVAILABLE where there is no memory for it. */
int fl_model_like(const struct fl_model *model, bool copy, struct fl_model **ret_model,
                  struct fl_error *err);
/* Notes, as long as one owns the model alone. */
void fl_model_note(struct fl_model *model, const char *key, const char *value);
void fl_model_note_all(struct fl_model *model, const struct fl_model *from);
const char *fl_model_get_note(const struct fl_model *model, const char *key);          /* or NULL */
const struct fl_tensor *fl_model_find(const struct fl_model *model, const char *name); /* or NULL */
/* Same names, types and shapes. INVALID says the first that differs: what a peer sent is named. */
int fl_model_check_like(const struct fl_model *model, const struct fl_model *other,
                        struct fl_error *err);
/* INVALID names the tensor and index of the first NaN or infinity of a float tensor. */
int fl_model_check_finite(const struct fl_model *model, struct fl_error *err);

/* Element i as a double, and back (rounded to nearest even, saturated for integers). */
double fl_tensor_get(const struct fl_tensor *tensor, size_t i);
void fl_tensor_set(struct fl_tensor *tensor, size_t i, double value);

#endif
