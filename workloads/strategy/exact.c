#include "workloads/strategy/exact.h"

#include "workloads/tensor/kernels.h"

#include <assert.h>
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
    struct fl_crew *crew;
};

#define LINE          4096
#define STRETCHES_MAX 8
#define STRETCH_MIN   ((size_t)256 * 1024) /* elements that are worth a thread's while */

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

void fl_exact_use(struct fl_exact *exact, struct fl_crew *crew)
{
    exact->crew = crew;
}

/* --- large tensors, by the crew --- */

/* A part of a tensor. */
struct stretch {
    struct fl_chore chore;
    void (*work)(void *user, const struct stretch *stretch);
    void *user;
    size_t index, from, count;
};

static void work_on(struct fl_chore *chore)
{
    const struct stretch *stretch = (struct stretch *)chore;

    stretch->work(stretch->user, stretch);
}

static size_t stretches_of(const struct fl_exact *exact, size_t count)
{
    size_t most = exact->crew ? fl_crew_jobs(exact->crew) : 1;

    if (most > STRETCHES_MAX)
        most = STRETCHES_MAX;
    return count / STRETCH_MIN < most ? count / STRETCH_MIN + (count < STRETCH_MIN) : most;
}

/* All of them, at once; how many there were. */
static size_t in_stretches(const struct fl_exact *exact, size_t count,
                           void (*work)(void *user, const struct stretch *stretch), void *user,
                           struct stretch stretches[STRETCHES_MAX])
{
    const size_t parts = stretches_of(exact, count), each = (count / parts + LINE) / LINE * LINE;

    for (size_t i = 0, from = 0; i < parts; i++, from += each) {
        stretches[i] = (struct stretch){.chore = {.run = work_on},
                                        .work = work,
                                        .user = user,
                                        .index = i,
                                        .from = from,
                                        .count = i + 1 < parts ? each : count - from};
        if (parts > 1)
            fl_crew_submit(exact->crew, &stretches[i].chore);
        else
            work_on(&stretches[i].chore);
    }
    for (size_t i = parts; parts > 1 && i-- > 0;) /* others take the first */
        fl_crew_wait(exact->crew, &stretches[i].chore);
    return parts;
}

/* --- folding --- */

/* A tensor of several updates, and what became of each stretch of each. */
struct floats {
    const struct fl_exact *exact;
    struct fl_fold *folds;
    size_t count;
    int64_t *sum;
    struct fl_fold outcomes[STRETCHES_MAX][FL_FOLDS_MAX];
};

static void fold_stretch(void *user, const struct stretch *stretch)
{
    struct floats *floats = user;
    struct fl_fold *folds = floats->outcomes[stretch->index];

    for (size_t f = 0; f < floats->count; f++) {
        folds[f] = floats->folds[f];
        folds[f].x += stretch->from;
    }
    fl_k_fold_all(stretch->count, folds, floats->count, floats->exact->precision.bits,
                  floats->exact->limit, floats->sum + stretch->from);
}

/* Of what does not fit somewhere, nothing stays anywhere. */
static void judge(struct floats *floats, size_t f, const struct stretch *stretches, size_t parts)
{
    struct fl_fold *fold = &floats->folds[f];
    const struct fl_exact *exact = floats->exact;

    fold->fits = true;
    for (size_t i = 0; i < parts; i++)
        fold->fits = fold->fits && floats->outcomes[i][f].fits;
    for (size_t i = 0; !fold->fits && i < parts; i++)
        if (floats->outcomes[i][f].fits)
            (void)fl_k_fold(stretches[i].count, floats->outcomes[i][f].x, fold->factor,
                            exact->precision.bits, exact->limit, -fold->weight,
                            floats->sum + stretches[i].from);
}

static void fold_floats(const struct fl_exact *exact, struct fl_fold *folds, size_t count,
                        size_t elements, int64_t *sum)
{
    struct floats floats = {.exact = exact, .folds = folds, .count = count, .sum = sum};
    struct stretch stretches[STRETCHES_MAX];
    const size_t parts = in_stretches(exact, elements, fold_stretch, &floats, stretches);

    for (size_t f = 0; f < count; f++)
        judge(&floats, f, stretches, parts);
}

/* A tensor of another float type, forth or (weight negative) back. False where it does not fit;
 * nothing is added then. */
static bool fold_lines(struct fl_exact *exact, const struct fl_tensor *tensor, double factor,
                       int64_t weight, int64_t *sum)
{
    unsigned bits = exact->precision.bits;

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

static int check_addend(const struct fl_exact *exact, const struct fl_exact_addend *addend,
                        struct fl_error *err)
{
    int r = check_weight(exact, addend->weight, err);

    if (r == 0)
        r = check_form(exact, addend->update, err);
    if (r == 0 && !isfinite(addend->factor))
        r = fl_error_set(err, FL_E_INVALID, "a factor of %g", addend->factor);
    return r;
}

/* Tensor `at` does not fit: what was added before it is taken back. */
static void take_back(struct fl_exact *exact, struct fl_exact_addend *addend, size_t at)
{
    const struct fl_tensor *tensors = addend->update->tensors;

    for (size_t i = 0; i < at; i++) {
        int64_t *sum =
            fl_dtype_is_float(tensors[i].dtype) ? counterpart(exact, &tensors[i])->data : NULL;

        if (sum && tensors[i].dtype == FL_DTYPE_F32)
            (void)fl_k_fold(tensors[i].count, tensors[i].data, addend->factor,
                            exact->precision.bits, exact->limit, -addend->weight, sum);
        else if (sum)
            (void)fold_lines(exact, &tensors[i], addend->factor, -addend->weight, sum);
    }
    addend->result = misfit(exact, &tensors[at], addend->factor, &addend->err);
}

static void fold_tensor(struct fl_exact *exact, struct fl_exact_addend *addends, size_t count,
                        size_t at)
{
    const struct fl_tensor *like = &addends[0].update->tensors[at];
    struct fl_exact_addend *who[FL_FOLDS_MAX];
    struct fl_fold folds[FL_FOLDS_MAX];
    int64_t *sum = counterpart(exact, like)->data;
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        const struct fl_tensor *tensor = &addends[i].update->tensors[at];

        if (addends[i].result < 0)
            continue;
        if (tensor->dtype == FL_DTYPE_F32) {
            folds[used] = (struct fl_fold){
                .x = tensor->data, .factor = addends[i].factor, .weight = addends[i].weight};
            who[used++] = &addends[i];
        } else if (!fold_lines(exact, tensor, addends[i].factor, addends[i].weight, sum)) {
            take_back(exact, &addends[i], at);
        }
    }
    if (used > 0)
        fold_floats(exact, folds, used, like->count, sum);
    for (size_t f = 0; f < used; f++)
        if (!folds[f].fits)
            take_back(exact, who[f], at);
}

/* They are good by themselves, of one form, and their weights fit together. */
static bool may_go_together(const struct fl_exact *exact, const struct fl_exact_addend *addends,
                            size_t count)
{
    int64_t left = exact->precision.max_weight - exact->weight;

    for (size_t i = 0; i < count; i++) {
        if (check_addend(exact, &addends[i], NULL) < 0 || addends[i].weight > left ||
            fl_model_check_like(addends[0].update, addends[i].update, NULL) < 0)
            return false;
        left -= addends[i].weight;
    }
    return true;
}

void fl_exact_fold_all(struct fl_exact *exact, struct fl_exact_addend *addends, size_t count)
{
    const struct fl_model *like = addends[0].update;

    assert(count >= 1 && count <= FL_FOLDS_MAX);

    if (count > 1 && !may_go_together(exact, addends, count)) {
        for (size_t i = 0; i < count; i++)
            fl_exact_fold_all(exact, &addends[i], 1);
        return;
    }
    for (size_t i = 0; i < count; i++)
        addends[i].result = check_addend(exact, &addends[i], &addends[i].err);
    for (size_t at = 0; at < like->count && (count > 1 || addends[0].result == 0); at++)
        if (fl_dtype_is_float(like->tensors[at].dtype))
            fold_tensor(exact, addends, count, at);
    for (size_t i = 0; i < count; i++)
        if (addends[i].result == 0)
            exact->weight += addends[i].weight;
}

int fl_exact_fold(struct fl_exact *exact, const struct fl_model *update, double factor,
                  int64_t weight, struct fl_error *err)
{
    struct fl_exact_addend addend = {.update = update, .factor = factor, .weight = weight};

    fl_exact_fold_all(exact, &addend, 1);
    return addend.result < 0 ? fl_error_set(err, addend.result, "%s", addend.err.msg) : 0;
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

struct unfold {
    const int64_t *sum;
    double divisor;
    unsigned bits;
    float *out;
};

static void unfold_stretch(void *user, const struct stretch *stretch)
{
    const struct unfold *unfold = user;
    const size_t from = stretch->from;

    fl_k_unfold(stretch->count, unfold->sum + from, unfold->divisor, unfold->bits,
                unfold->out + from);
}

static void mean_of(const struct fl_exact *exact, const struct fl_tensor *sum, double divisor,
                    struct fl_tensor *out)
{
    const unsigned bits = exact->precision.bits;
    const int64_t *values = sum->data;
    double scale = ldexp(divisor, (int)bits);
    struct stretch stretches[STRETCHES_MAX];

    if (out->dtype == FL_DTYPE_F32) {
        (void)in_stretches(exact, sum->count, unfold_stretch,
                           &(struct unfold){values, divisor, bits, out->data}, stretches);
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
            mean_of(exact, counterpart(exact, &out->tensors[i]), divisor, &out->tensors[i]);
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
