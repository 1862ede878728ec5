#include "workloads/tensor/tensor.h"

#include "lib/str.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/tensor_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#define LARGE_PAGE ((size_t)2 << 20)

static const struct {
    const char *name;
    unsigned bits;
} dtypes[FL_DTYPE_COUNT] = {
#define FL_DTYPE_ROW_(id, name_, bits_) [FL_DTYPE_##id] = {name_, bits_},
    FL_DTYPES(FL_DTYPE_ROW_)
#undef FL_DTYPE_ROW_
};

const char *fl_dtype_name(enum fl_dtype dtype)
{
    return dtypes[dtype].name;
}

enum fl_dtype fl_dtype_from_name(const char *name)
{
    for (unsigned i = FL_DTYPE_NONE + 1; i < FL_DTYPE_COUNT; i++)
        if (fl_streq(name, dtypes[i].name))
            return (enum fl_dtype)i;
    return FL_DTYPE_NONE;
}

size_t fl_dtype_size(enum fl_dtype dtype)
{
    return dtypes[dtype].bits / 8;
}

bool fl_dtype_is_float(enum fl_dtype dtype)
{
    switch (dtype) {
    case FL_DTYPE_F8_E5M2:
    case FL_DTYPE_F8_E4M3:
    case FL_DTYPE_F16:
    case FL_DTYPE_BF16:
    case FL_DTYPE_F32:
    case FL_DTYPE_F64:
        return true;
    default:
        return false;
    }
}

/* Models */

struct fl_model *fl_model_ref(struct fl_model *model)
{
    (void)__atomic_fetch_add(&model->refs, 1, __ATOMIC_RELAXED);
    return model;
}

void fl_model_unref(struct fl_model *model)
{
    struct fl_model_memory *memory;

    if (!model || __atomic_sub_fetch(&model->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    memory = model->memory;
    if (memory->map)
        (void)munmap(memory->map, memory->map_size);
    free(memory->block);
    fl_arena_destroy(memory->arena); /* has the model itself */
}

int fl_tensor_measure(struct fl_tensor *tensor, struct fl_error *err)
{
    size_t count = 1;

    if (tensor->rank > FL_TENSOR_RANK_MAX)
        return fl_error_set(err, FL_E_INVALID, "tensor \"%s\": more than %d dimensions",
                            tensor->name, FL_TENSOR_RANK_MAX);
    for (unsigned i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0 || __builtin_mul_overflow(count, (size_t)tensor->shape[i], &count))
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\": dimension %u is %" PRId64,
                                tensor->name, i, tensor->shape[i]);
    tensor->count = count;
    if (__builtin_mul_overflow(count, fl_dtype_size(tensor->dtype), &tensor->size))
        return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" is too large", tensor->name);
    return 0;
}

/* The order of a canonical file: alignment falling (the types' own order, as the format's
 * implementation has it), then names. */
int fl_tensor_order(const void *a, const void *b)
{
    const struct fl_tensor *x = a, *y = b;

    if (x->dtype != y->dtype)
        return x->dtype > y->dtype ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_names(const void *a, const void *b)
{
    const struct fl_tensor *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int check_names(const struct fl_model *model, struct fl_error *err)
{
    FL_CLEANUP(fl_freep)
    const struct fl_tensor **sorted = fl_calloc(model->count + 1, sizeof(*sorted));

    for (size_t i = 0; i < model->count; i++)
        sorted[i] = &model->tensors[i];
    qsort(sorted, model->count, sizeof(*sorted), compare_names);
    for (size_t i = 1; i < model->count; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" stands twice", sorted[i]->name);
    return 0;
}

static int copy_tensors(struct fl_model *model, struct fl_arena *arena,
                        const struct fl_tensor *tensors, struct fl_error *err)
{
    for (size_t i = 0; i < model->count; i++) {
        struct fl_tensor *tensor = &model->tensors[i];
        int r;

        *tensor = tensors[i];
        tensor->name = fl_arena_strdup(arena, tensors[i].name);
        tensor->data = NULL;
        r = fl_tensor_measure(tensor, err);
        if (r < 0)
            return r;
        if (__builtin_add_overflow(model->size, tensor->size, &model->size))
            return fl_error_set(err, FL_E_INVALID, "the model is too large");
        model->parameters += tensor->count;
    }
    return check_names(model, err);
}

int fl_model_prepare(const struct fl_tensor *tensors, size_t count, struct fl_model **ret_model,
                     struct fl_error *err)
{
    struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = fl_new(arena, struct fl_model);
    struct fl_model_memory *memory = fl_new(arena, struct fl_model_memory);
    int r;

    memory->arena = arena;
    model->memory = memory;
    model->refs = 1;
    model->count = count;
    model->tensors = fl_new_array(arena, struct fl_tensor, count + 1);
    r = copy_tensors(model, arena, tensors, err);
    if (r < 0)
        return r;
    qsort(model->tensors, count, sizeof(*model->tensors), fl_tensor_order);
    *ret_model = FL_TAKE(model);
    return 0;
}

void fl_model_place(struct fl_model *model, unsigned char *data)
{
    model->data = data;
    for (size_t i = 0; i < model->count; i++) {
        model->tensors[i].data = data;
        data += model->tensors[i].size;
    }
}

/* Large ones in large pages, where the kernel gives some away: sums run through all of it again and
 * again, and each page costs a fault and a place in the processor's table. They are zeros, and are
 * there as they are used. */
static void *map_block(struct fl_model_memory *memory, size_t size)
{
    const size_t all = size + LARGE_PAGE;
    void *map = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t block = ((uintptr_t)map + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1);

    if (map == MAP_FAILED)
        return NULL;
    memory->map = map;
    memory->map_size = all;
    (void)madvise((void *)block, size, MADV_HUGEPAGE);
    return (void *)block;
}

static void *allocate_block(struct fl_model_memory *memory, size_t size)
{
    if (size >= 4 * LARGE_PAGE)
        return map_block(memory, size);
    memory->block = aligned_alloc(64, size);
    return memory->block ? memset(memory->block, 0, size) : NULL;
}

/* Aligned for the widest vector loads; a size that is chosen by a peer was bounded before, and may
 * still be more than there is. */
int fl_model_allocate(struct fl_model *model, struct fl_error *err)
{
    struct fl_model_memory *memory = model->memory;
    size_t size = (model->size + 127) & ~(size_t)63;

    void *block = allocate_block(memory, size);

    if (!block)
        return fl_error_set(err, FL_E_UNAVAILABLE, "no memory for a model of %zu bytes",
                            model->size);
    fl_model_place(model, block);
    return 0;
}

int fl_model_create(const struct fl_tensor *tensors, size_t count, struct fl_model **ret_model,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = fl_model_prepare(tensors, count, &model, err);

    if (r == 0)
        r = fl_model_allocate(model, err);
    if (r < 0)
        return r;
    *ret_model = FL_TAKE(model);
    return 0;
}

int fl_model_like(const struct fl_model *model, bool copy, struct fl_model **ret_model,
                  struct fl_error *err)
{
    int r = fl_model_create(model->tensors, model->count, ret_model, err);

    if (r < 0)
        return r;
    if (copy)
        memcpy((*ret_model)->data, model->data, model->size);
    return 0;
}

static int compare_notes(const void *a, const void *b)
{
    const struct fl_model_note *x = a, *y = b;

    return strcmp(x->key, y->key);
}

void fl_model_note(struct fl_model *model, const char *key, const char *value)
{
    struct fl_model_memory *memory = model->memory;
    struct fl_model_note *notes =
        fl_new_array(memory->arena, struct fl_model_note, model->note_count + 1);

    for (size_t i = 0; i < model->note_count; i++)
        if (strcmp(model->notes[i].key, key) == 0) {
            model->notes[i].value = fl_arena_strdup(memory->arena, value);
            return;
        }
    if (model->note_count > 0)
        memcpy(notes, model->notes, model->note_count * sizeof(*notes));
    notes[model->note_count++] = (struct fl_model_note){fl_arena_strdup(memory->arena, key),
                                                        fl_arena_strdup(memory->arena, value)};
    qsort(notes, model->note_count, sizeof(*notes), compare_notes);
    model->notes = notes;
}

void fl_model_note_all(struct fl_model *model, const struct fl_model *from)
{
    for (size_t i = 0; i < from->note_count; i++)
        fl_model_note(model, from->notes[i].key, from->notes[i].value);
}

const char *fl_model_get_note(const struct fl_model *model, const char *key)
{
    for (size_t i = 0; i < model->note_count; i++)
        if (strcmp(model->notes[i].key, key) == 0)
            return model->notes[i].value;
    return NULL;
}

const struct fl_tensor *fl_model_find(const struct fl_model *model, const char *name)
{
    for (size_t i = 0; i < model->count; i++)
        if (strcmp(model->tensors[i].name, name) == 0)
            return &model->tensors[i];
    return NULL;
}

static bool same_shape(const struct fl_tensor *a, const struct fl_tensor *b)
{
    return a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0])) == 0);
}

int fl_model_check_like(const struct fl_model *model, const struct fl_model *other,
                        struct fl_error *err)
{
    for (size_t i = 0; i < model->count && i < other->count; i++) {
        const struct fl_tensor *want = &model->tensors[i], *have = &other->tensors[i];

        if (strcmp(want->name, have->name) != 0 || want->dtype != have->dtype)
            return fl_error_set(
                err, FL_E_INVALID, "tensor \"%s\" of type %s where \"%s\" of type %s is expected",
                have->name, fl_dtype_name(have->dtype), want->name, fl_dtype_name(want->dtype));
        if (!same_shape(want, have))
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" has another shape", have->name);
    }
    if (model->count != other->count)
        return fl_error_set(err, FL_E_INVALID, "%zu tensors where %zu are expected", other->count,
                            model->count);
    return 0;
}

static bool is_finite_f32(const struct fl_tensor *tensor)
{
    return fl_k_find_bad(tensor->count, tensor->data) == tensor->count;
}

int fl_model_check_finite(const struct fl_model *model, struct fl_error *err)
{
    for (size_t t = 0; t < model->count; t++) {
        const struct fl_tensor *tensor = &model->tensors[t];

        if (!fl_dtype_is_float(tensor->dtype) ||
            (tensor->dtype == FL_DTYPE_F32 && is_finite_f32(tensor)))
            continue;
        for (size_t i = 0; i < tensor->count; i++)
            if (!isfinite(fl_tensor_get(tensor, i)))
                return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" has %s at index %zu",
                                    tensor->name,
                                    isnan(fl_tensor_get(tensor, i)) ? "a NaN" : "an infinity", i);
    }
    return 0;
}

/* Elements. The small floats are sign, exponent, mantissa; E4M3 has no infinities (its last
 * exponent counts on, all ones being NaN), as in the OCP 8-bit floating point specification. */

struct small_float {
    unsigned exponent_bits, mantissa_bits;
    bool finite_only;
};

static const struct small_float e5m2 = {5, 2, false}, e4m3 = {4, 3, true}, half = {5, 10, false},
                                brain = {8, 7, false};

static double from_small(unsigned bits, const struct small_float *form)
{
    unsigned mantissa_mask = (1u << form->mantissa_bits) - 1;
    unsigned exponent_mask = (1u << form->exponent_bits) - 1;
    unsigned mantissa = bits & mantissa_mask;
    unsigned exponent = bits >> form->mantissa_bits & exponent_mask;
    bool negative = bits >> (form->mantissa_bits + form->exponent_bits) & 1u;
    int bias = (int)(exponent_mask >> 1);
    double value;

    if (exponent == exponent_mask && !form->finite_only)
        value = mantissa ? (double)NAN : (double)INFINITY;
    else if (exponent == exponent_mask && mantissa == mantissa_mask)
        value = (double)NAN;
    else if (exponent == 0)
        value = ldexp(mantissa, 1 - bias - (int)form->mantissa_bits);
    else
        value =
            ldexp(mantissa + mantissa_mask + 1, (int)exponent - bias - (int)form->mantissa_bits);
    return negative ? -value : value;
}

static double largest(const struct small_float *form)
{
    unsigned exponent_mask = (1u << form->exponent_bits) - 1;
    unsigned top = (form->finite_only ? exponent_mask : exponent_mask - 1) << form->mantissa_bits;
    unsigned mantissa = ((1u << form->mantissa_bits) - 1) - (form->finite_only ? 1 : 0);

    return from_small(top | mantissa, form);
}

/* Rounded to nearest, ties to even (the machine's default rounding of rint). */
static unsigned to_small(double value, const struct small_float *form)
{
    unsigned exponent_mask = (1u << form->exponent_bits) - 1;
    unsigned sign = signbit(value) ? 1u << (form->mantissa_bits + form->exponent_bits) : 0;
    int bias = (int)(exponent_mask >> 1), exponent;
    unsigned all = exponent_mask << form->mantissa_bits;
    double scaled;

    if (isnan(value))
        return sign | all | ((1u << form->mantissa_bits) - 1);
    value = fabs(value);
    if (value == 0.0)
        return sign;
    (void)frexp(value, &exponent);
    exponent = exponent - 1 < 1 - bias ? 1 - bias : exponent - 1;
    scaled = rint(ldexp(value, (int)form->mantissa_bits - exponent));
    if (isinf(value) || ldexp(scaled, exponent - (int)form->mantissa_bits) > largest(form))
        return sign | all | (form->finite_only ? (1u << form->mantissa_bits) - 1 : 0);
    /* A denormal has exponent 0; a carry out of the mantissa counts the exponent up by itself. */
    return sign | (unsigned)((int)scaled + ((exponent + bias - 1) << form->mantissa_bits));
}

#define READ(type) ((double)((const type *)tensor->data)[i])

double fl_tensor_get(const struct fl_tensor *tensor, size_t i)
{
    switch (tensor->dtype) {
    case FL_DTYPE_BOOL:
    case FL_DTYPE_U8:
        return READ(uint8_t);
    case FL_DTYPE_I8:
        return READ(int8_t);
    case FL_DTYPE_F8_E5M2:
        return from_small(((const uint8_t *)tensor->data)[i], &e5m2);
    case FL_DTYPE_F8_E4M3:
        return from_small(((const uint8_t *)tensor->data)[i], &e4m3);
    case FL_DTYPE_I16:
        return READ(int16_t);
    case FL_DTYPE_U16:
        return READ(uint16_t);
    case FL_DTYPE_F16:
        return from_small(((const uint16_t *)tensor->data)[i], &half);
    case FL_DTYPE_BF16:
        return from_small(((const uint16_t *)tensor->data)[i], &brain);
    case FL_DTYPE_I32:
        return READ(int32_t);
    case FL_DTYPE_U32:
        return READ(uint32_t);
    case FL_DTYPE_F32:
        return READ(float);
    case FL_DTYPE_F64:
        return READ(double);
    case FL_DTYPE_I64:
        return READ(int64_t);
    case FL_DTYPE_U64:
        return READ(uint64_t);
    default:
        return (double)NAN;
    }
}

/* `top` is a power of two: the first value that does not fit. */
static int64_t to_signed(double value, double top)
{
    value = rint(value);
    if (isnan(value))
        return 0;
    if (value >= top)
        return top >= 0x1p63 ? INT64_MAX : (int64_t)top - 1;
    return value < -top ? (top >= 0x1p63 ? INT64_MIN : -(int64_t)top) : (int64_t)value;
}

static uint64_t to_unsigned(double value, double top)
{
    value = rint(value);
    if (!(value > 0))
        return 0;
    return value >= top ? (top >= 0x1p64 ? UINT64_MAX : (uint64_t)top - 1) : (uint64_t)value;
}

#define WRITE(type, value_) (((type *)tensor->data)[i] = (type)(value_))

void fl_tensor_set(struct fl_tensor *tensor, size_t i, double value)
{
    switch (tensor->dtype) {
    case FL_DTYPE_BOOL:
        WRITE(uint8_t, value != 0.0);
        break;
    case FL_DTYPE_U8:
        WRITE(uint8_t, to_unsigned(value, 0x1p8));
        break;
    case FL_DTYPE_I8:
        WRITE(int8_t, to_signed(value, 0x1p7));
        break;
    case FL_DTYPE_F8_E5M2:
        WRITE(uint8_t, to_small(value, &e5m2));
        break;
    case FL_DTYPE_F8_E4M3:
        WRITE(uint8_t, to_small(value, &e4m3));
        break;
    case FL_DTYPE_I16:
        WRITE(int16_t, to_signed(value, 0x1p15));
        break;
    case FL_DTYPE_U16:
        WRITE(uint16_t, to_unsigned(value, 0x1p16));
        break;
    case FL_DTYPE_F16:
        WRITE(uint16_t, to_small(value, &half));
        break;
    case FL_DTYPE_BF16:
        WRITE(uint16_t, to_small(value, &brain));
        break;
    case FL_DTYPE_I32:
        WRITE(int32_t, to_signed(value, 0x1p31));
        break;
    case FL_DTYPE_U32:
        WRITE(uint32_t, to_unsigned(value, 0x1p32));
        break;
    case FL_DTYPE_F32:
        WRITE(float, value);
        break;
    case FL_DTYPE_F64:
        WRITE(double, value);
        break;
    case FL_DTYPE_I64:
        WRITE(int64_t, to_signed(value, 0x1p63));
        break;
    case FL_DTYPE_U64:
        WRITE(uint64_t, to_unsigned(value, 0x1p64));
        break;
    default:
        break;
    }
}
