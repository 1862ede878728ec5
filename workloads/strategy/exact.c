#include "workloads/strategy/exact.h"

#include "workloads/tensor/kernels.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SUM_BITS   62 /* of 63: two sums within it can be added without wrapping */
#define VALUE_BITS 50 /* of one value, see fl_k_fold */
#define BITS_MIN   20
#define BITS_MAX   48

struct fl_exact {
    struct fl_exact_precision precision;
    int64_t limit;        /* of one value, in units of 2^-bits */
    struct fl_model *sum; /* I64 tensors with the names of the float tensors */
    int64_t weight;
    float *line; /* for tensors of other float types */
};

#define LINE 4096

static unsigned bits_of(int64_t value) /* the least b with value <= 2^b */
{
    unsigned bits = 0;

    while (((uint64_t)1 << bits) < (uint64_t)value)
        bits++;
    return bits;
}

int fl_exact_plan(unsigned range_bits, int64_t max_weight, struct fl_exact_precision *ret_precision,
                  struct fl_error *err)
{
    unsigned weight_bits, bits;

    if (range_bits < 1 || range_bits > VALUE_BITS || max_weight < 1)
        return fl_error_set(err, FL_E_INVALID, "no exact sum of values below 2^%u by %" PRId64,
                            range_bits, max_weight);
    weight_bits = bits_of(max_weight);
    bits = VALUE_BITS - range_bits;
    if (range_bits + weight_bits >= SUM_BITS)
        bits = 0;
    else if (SUM_BITS - range_bits - weight_bits < bits)
        bits = SUM_BITS - range_bits - weight_bits;
    if (bits < BITS_MIN)
        return fl_error_set(err, FL_E_INVALID,
                            "values below 2^%u with weights of %" PRId64
                            " leave %u bits behind the point, and %d are needed",
                            range_bits, max_weight, bits, BITS_MIN);
    *ret_precision = (struct fl_exact_precision){.range_bits = range_bits,
                                                 .bits = bits > BITS_MAX ? BITS_MAX : bits,
                                                 .max_weight = max_weight};
    return 0;
}

static int make_sum(struct fl_exact *exact, const struct fl_model *like, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) struct fl_tensor *tensors = fl_calloc(like->count + 1, sizeof(*tensors));
    size_t count = 0;

    for (size_t i = 0; i < like->count; i++) {
        if (!fl_dtype_is_float(like->tensors[i].dtype))
            continue;
        tensors[count] = like->tensors[i];
        tensors[count++].dtype = FL_DTYPE_I64;
    }
    return fl_model_create(tensors, count, &exact->sum, err);
}

int fl_exact_create(const struct fl_model *like, const struct fl_exact_precision *precision,
                    struct fl_exact **ret_exact, struct fl_error *err)
{
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = fl_calloc(1, sizeof(*exact));
    struct fl_exact_precision best;
    int r = fl_exact_plan(precision->range_bits, precision->max_weight, &best, err);

    if (r == 0 && precision->bits > best.bits)
        r = fl_error_set(err, FL_E_INVALID, "%u bits behind the point are more than fit",
                         precision->bits);
    if (r == 0)
        r = make_sum(exact, like, err);
    if (r < 0)
        return r;
    exact->precision = *precision;
    exact->limit = (int64_t)1 << (precision->range_bits + precision->bits);
    exact->line = fl_calloc(LINE, sizeof(float));
    *ret_exact = FL_TAKE(exact);
    return 0;
}

void fl_exact_destroy(struct fl_exact *exact)
{
    if (!exact)
        return;
    fl_model_unref(exact->sum);
    free(exact->line);
    free(exact);
}

void fl_exact_reset(struct fl_exact *exact)
{
    memset(exact->sum->data, 0, exact->sum->size);
    exact->weight = 0;
}

int64_t fl_exact_weight(const struct fl_exact *exact)
{
    return exact->weight;
}

/* One tensor, forth or (weight negative) back. False where it does not fit; nothing is added then.
 */
static bool fold_tensor(struct fl_exact *exact, const struct fl_tensor *tensor, double factor,
                        int64_t weight, int64_t *sum)
{
    unsigned bits = exact->precision.bits;

    if (tensor->dtype == FL_DTYPE_F32)
        return fl_k_fold(tensor->count, tensor->data, factor, bits, exact->limit, weight, sum);
    for (size_t at = 0; at < tensor->count; at += LINE) {
        size_t count = tensor->count - at < LINE ? tensor->count - at : LINE;

        for (size_t i = 0; i < count; i++)
            exact->line[i] = (float)fl_tensor_get(tensor, at + i);
        if (!fl_k_fold(count, exact->line, factor, bits, exact->limit, weight, sum + at)) {
            for (size_t back = 0; back < at; back += LINE) {
                for (size_t i = 0; i < LINE; i++)
                    exact->line[i] = (float)fl_tensor_get(tensor, back + i);
                (void)fl_k_fold(LINE, exact->line, factor, bits, exact->limit, -weight, sum + back);
            }
            return false;
        }
    }
    return true;
}

/* What did not fit, in words. */
static int misfit(const struct fl_exact *exact, const struct fl_tensor *tensor, double factor,
                  struct fl_error *err)
{
    double most = ldexp(1.0, (int)exact->precision.range_bits);

    for (size_t i = 0; i < tensor->count; i++) {
        double value = fl_tensor_get(tensor, i);

        if (!isfinite(value))
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" has %s at index %zu",
                                tensor->name, isnan(value) ? "a NaN" : "an infinity", i);
        if (fabs(value * factor) > most)
            return fl_error_set(err, FL_E_INVALID,
                                "tensor \"%s\" has %g at index %zu, more than %g can be added up",
                                tensor->name, value * factor, i, most);
    }
    return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" has values that cannot be added up",
                        tensor->name);
}

static int check_weight(const struct fl_exact *exact, int64_t weight, struct fl_error *err)
{
    if (weight < 1)
        return fl_error_set(err, FL_E_INVALID, "a weight of %" PRId64, weight);
    if (weight > exact->precision.max_weight - exact->weight)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "a weight of %" PRId64 " on top of %" PRId64 " is more than %" PRId64,
                            weight, exact->weight, exact->precision.max_weight);
    return 0;
}

/* The float tensors of an update are those of the sum, in an order of their own. */
static const struct fl_tensor *counterpart(const struct fl_exact *exact,
                                           const struct fl_tensor *tensor)
{
    const struct fl_tensor key = {.name = tensor->name, .dtype = FL_DTYPE_I64};
    size_t low = 0, high = exact->sum->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key.name, exact->sum->tensors[middle].name);

        if (order == 0)
            return &exact->sum->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int check_form(const struct fl_exact *exact, const struct fl_model *update,
                      struct fl_error *err)
{
    size_t floats = 0;

    for (size_t i = 0; i < update->count; i++) {
        const struct fl_tensor *tensor = &update->tensors[i], *sum;

        if (!fl_dtype_is_float(tensor->dtype))
            continue;
        floats++;
        sum = counterpart(exact, tensor);
        if (!sum || sum->count != tensor->count)
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" is not expected, or not so large",
                                tensor->name);
    }
    if (floats != exact->sum->count)
        return fl_error_set(err, FL_E_INVALID, "%zu float tensors where %zu are expected", floats,
                            exact->sum->count);
    return 0;
}

int fl_exact_fold(struct fl_exact *exact, const struct fl_model *update, double factor,
                  int64_t weight, struct fl_error *err)
{
    int r = check_weight(exact, weight, err);

    if (r == 0)
        r = check_form(exact, update, err);
    if (r == 0 && !isfinite(factor))
        r = fl_error_set(err, FL_E_INVALID, "a factor of %g", factor);
    if (r < 0)
        return r;
    for (size_t i = 0; i < update->count; i++) {
        const struct fl_tensor *tensor = &update->tensors[i];

        if (!fl_dtype_is_float(tensor->dtype) ||
            fold_tensor(exact, tensor, factor, weight, counterpart(exact, tensor)->data))
            continue;
        for (size_t back = 0; back < i; back++)
            if (fl_dtype_is_float(update->tensors[back].dtype))
                (void)fold_tensor(exact, &update->tensors[back], factor, -weight,
                                  counterpart(exact, &update->tensors[back])->data);
        return misfit(exact, tensor, factor, err);
    }
    exact->weight += weight;
    return 0;
}

int fl_exact_partial(const struct fl_exact *exact, struct fl_model **ret_partial,
                     struct fl_error *err)
{
    return fl_model_like(exact->sum, true, ret_partial, err);
}

int fl_exact_fold_partial(struct fl_exact *exact, const struct fl_model *partial, int64_t weight,
                          struct fl_error *err)
{
    /* A sum's bound follows from its weight: a tier cannot claim more than its share may hold. */
    int64_t limit = (int64_t)1 << SUM_BITS;
    int r = check_weight(exact, weight, err);

    if (r == 0)
        r = fl_model_check_like(exact->sum, partial, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < partial->count; i++) {
        const int64_t *values = partial->tensors[i].data;
        __int128 most = (__int128)exact->limit * weight;

        for (size_t v = 0; v < partial->tensors[i].count; v++)
            if (values[v] > most || values[v] < -most)
                return fl_error_set(err, FL_E_INVALID,
                                    "tensor \"%s\": the sum at index %zu is more than its weight"
                                    " allows",
                                    partial->tensors[i].name, v);
    }
    if (!fl_k_add_sums(partial->parameters, (const int64_t *)partial->data, limit,
                       (int64_t *)exact->sum->data))
        return fl_error_set(err, FL_E_INVALID, "the sums overflow");
    exact->weight += weight;
    return 0;
}

static void mean_of(const struct fl_tensor *sum, double divisor, unsigned bits,
                    struct fl_tensor *out)
{
    const int64_t *values = sum->data;
    double scale = ldexp(divisor, (int)bits);

    if (out->dtype == FL_DTYPE_F32) {
        fl_k_unfold(sum->count, values, divisor, bits, out->data);
        return;
    }
    for (size_t i = 0; i < sum->count; i++)
        fl_tensor_set(out, i, (double)values[i] / scale);
}

int fl_exact_mean(const struct fl_exact *exact, double divisor, struct fl_model *out,
                  struct fl_error *err)
{
    int r = check_form(exact, out, err);

    if (divisor == 0.0)
        divisor = (double)exact->weight;
    if (r == 0 && (!isfinite(divisor) || divisor == 0.0))
        r = fl_error_set(err, FL_E_INVALID, "a mean over a weight of %g", divisor);
    if (r < 0)
        return r;
    for (size_t i = 0; i < out->count; i++)
        if (fl_dtype_is_float(out->tensors[i].dtype))
            mean_of(counterpart(exact, &out->tensors[i]), divisor, exact->precision.bits,
                    &out->tensors[i]);
    return 0;
}

static void move_tensor(const struct fl_tensor *sum, const struct fl_tensor *base, double unit,
                        double factors, double scale, struct fl_tensor *out)
{
    const int64_t *values = sum->data;

    for (size_t i = 0; i < sum->count; i++) {
        double before = fl_tensor_get(base, i);

        fl_tensor_set(out, i, before + scale * ((double)values[i] * unit - factors * before));
    }
}

int fl_exact_move(const struct fl_exact *exact, const struct fl_model *base, double factors,
                  double scale, struct fl_model *out, struct fl_error *err)
{
    double unit = ldexp(1.0, -(int)exact->precision.bits);
    int r = check_form(exact, out, err);

    if (r == 0)
        r = fl_model_check_like(base, out, err);
    if (r == 0 && (!isfinite(factors) || !isfinite(scale)))
        r = fl_error_set(err, FL_E_INVALID, "the updates' numbers cannot be added up");
    if (r < 0)
        return r;
    for (size_t i = 0; i < out->count; i++)
        if (fl_dtype_is_float(out->tensors[i].dtype))
            move_tensor(counterpart(exact, &out->tensors[i]), &base->tensors[i], unit, factors,
                        scale, &out->tensors[i]);
    return 0;
}

/* Single numbers: 64 bits behind the point, 62 before it. */

void fl_exact_scalar_add(struct fl_exact_scalar *sum, double value)
{
    if (!(fabs(value) < 0x1p61)) { /* a NaN, too */
        sum->overflow = true;
        return;
    }
    double whole = floor(value);
    __int128 fixed = (__int128)(int64_t)whole;

    fixed = fixed * ((__int128)1 << 64) + (__int128)rint((value - whole) * 0x1p64);
    if (__builtin_add_overflow(sum->fixed, fixed, &sum->fixed))
        sum->overflow = true;
}

void fl_exact_scalar_merge(struct fl_exact_scalar *sum, const struct fl_exact_scalar *other)
{
    if (__builtin_add_overflow(sum->fixed, other->fixed, &sum->fixed))
        sum->overflow = true;
    sum->overflow = sum->overflow || other->overflow;
}

double fl_exact_scalar_get(const struct fl_exact_scalar *sum)
{
    return sum->overflow ? (double)NAN : (double)sum->fixed * 0x1p-64;
}
