/* Rules that need all updates at once. They wait in a spill and are read back in blocks of
 * coordinates, so that memory is bounded whatever their number; what compares whole updates does so
 * block by block. Updates are taken in the order of their learners' names: nothing depends on when
 * they came. With f the number of learners that may lie, n that of updates. */
#include "workloads/strategy/strategy_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A block: `count` coordinates of each of n updates, update after update. */
struct block {
    const struct fl_tensor *tensor;
    size_t index; /* of the tensor */
    size_t from, count;
    double *values;
    size_t updates;
};

typedef int block_fn(void *user, const struct block *block, struct fl_error *err);

static int read_block(struct fl_strategy *strategy, struct block *block, struct fl_error *err)
{
    for (size_t u = 0; u < block->updates; u++) {
        int r = fl_spill_read(strategy->spill, u, block->tensor, block->from, block->count,
                              block->values + u * block->count, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int each_block(struct fl_strategy *strategy, block_fn *fn, void *user, struct fl_error *err)
{
    struct block block = {.updates = fl_spill_count(strategy->spill)};
    size_t most = strategy->options.block_bytes / sizeof(double) / block.updates;
    FL_CLEANUP(fl_freep) double *values = NULL;

    if (most < 64)
        most = 64;
    if (most > strategy->base->parameters)
        most = strategy->base->parameters + 1;
    block.values = values = fl_calloc(most * block.updates, sizeof(double));
    for (block.index = 0; block.index < strategy->base->count; block.index++) {
        block.tensor = &strategy->base->tensors[block.index];
        if (!fl_dtype_is_float(block.tensor->dtype))
            continue;
        for (block.from = 0; block.from < block.tensor->count; block.from += block.count) {
            size_t left = block.tensor->count - block.from;
            int r;

            block.count = left < most ? left : most;
            r = read_block(strategy, &block, err);
            if (r == 0)
                r = fn(user, &block, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Rules that look at each coordinate by itself. */
typedef double coordinate_fn(const struct fl_strategy *strategy, double *sorted, size_t n);

struct coordinates {
    const struct fl_strategy *strategy;
    coordinate_fn *fn;
    const bool *chosen; /* NULL: all updates */
    struct fl_model *out;
    double *line; /* one coordinate of all updates */
};

static int reduce_coordinates(void *user, const struct block *block, struct fl_error *err)
{
    struct coordinates *coordinates = user;
    struct fl_tensor *out = &coordinates->out->tensors[block->index];

    (void)err;
    for (size_t i = 0; i < block->count; i++) {
        size_t n = 0;

        for (size_t u = 0; u < block->updates; u++)
            if (!coordinates->chosen || coordinates->chosen[u])
                coordinates->line[n++] = block->values[u * block->count + i];
        qsort(coordinates->line, n, sizeof(double), compare_numbers);
        fl_tensor_set(out, block->from + i,
                      coordinates->fn(coordinates->strategy, coordinates->line, n));
    }
    return 0;
}

static int by_coordinate(struct fl_strategy *strategy, coordinate_fn *fn, const bool *chosen,
                         struct fl_model *out, struct fl_error *err)
{
    FL_CLEANUP(fl_freep)
    double *line = fl_calloc(fl_spill_count(strategy->spill), sizeof(double));
    struct coordinates coordinates = {strategy, fn, chosen, out, line};

    return each_block(strategy, reduce_coordinates, &coordinates, err);
}

/* Median of each coordinate; of an even number the mean of the middle two. Yin et al.,
 * Byzantine-Robust Distributed Learning, ICML 2018, definition 1. */
static double median(const struct fl_strategy *strategy, double *sorted, size_t n)
{
    (void)strategy;
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static int reduce_median(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return by_coordinate(strategy, median, NULL, out, err);
}

/* TrimmedMean: the mean of each coordinate without the floor(fraction * n) lowest and highest. Yin
 * et al. 2018, definition 2. */
static double trimmed(const struct fl_strategy *strategy, double *sorted, size_t n)
{
    size_t cut = (size_t)(strategy->options.trim_fraction * (double)n);
    double sum = 0;

    for (size_t i = cut; i < n - cut; i++)
        sum += sorted[i];
    return sum / (double)(n - 2 * cut);
}

static int reduce_trimmed(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return by_coordinate(strategy, trimmed, NULL, out, err);
}

/* Krum and what is built on it: squared distances between all pairs, one block after the other. */
struct distances {
    double *table; /* n x n */
};

static int add_distances(void *user, const struct block *block, struct fl_error *err)
{
    struct distances *distances = user;
    size_t n = block->updates;

    (void)err;
    for (size_t a = 0; a < n; a++) {
        for (size_t b = a + 1; b < n; b++) {
            const double *x = block->values + a * block->count;
            const double *y = block->values + b * block->count;
            double sum = 0;

            for (size_t i = 0; i < block->count; i++)
                sum += (x[i] - y[i]) * (x[i] - y[i]);
            distances->table[a * n + b] += sum;
            distances->table[b * n + a] += sum;
        }
    }
    return 0;
}

/* The sum of the distances to the n - f - 2 nearest (one at least) of those that are left. */
static double krum_score(const double *table, size_t n, const bool *gone, size_t who, int64_t f,
                         double *line)
{
    size_t count = 0, nearest;
    double score = 0;

    for (size_t other = 0; other < n; other++)
        if (other != who && !gone[other])
            line[count++] = table[who * n + other];
    qsort(line, count, sizeof(double), compare_numbers);
    nearest = count + 1 > (size_t)f + 2 ? count + 1 - (size_t)f - 2 : 0;
    if (nearest < 1)
        nearest = 1;
    for (size_t i = 0; i < nearest && i < count; i++)
        score += line[i];
    return score;
}

/* The one with the lowest score; of equal ones the first by name. */
static size_t krum_best(const double *table, size_t n, const bool *gone, int64_t f, double *line)
{
    size_t best = n;
    double lowest = 0;

    for (size_t i = 0; i < n; i++) {
        double score;

        if (gone[i])
            continue;
        score = krum_score(table, n, gone, i, f, line);
        if (best == n || score < lowest) {
            best = i;
            lowest = score;
        }
    }
    return best;
}

/* Chooses `count`: by the scores of all (Multi-Krum), or each among those that the ones before left
 * (Bulyan). */
static int choose(struct fl_strategy *strategy, size_t count, bool again, bool *chosen,
                  struct fl_error *err)
{
    size_t n = fl_spill_count(strategy->spill);
    FL_CLEANUP(fl_freep) double *table = fl_calloc(n * n, sizeof(double));
    FL_CLEANUP(fl_freep) double *line = fl_calloc(n, sizeof(double));
    FL_CLEANUP(fl_freep) double *scores = fl_calloc(n, sizeof(double));
    FL_CLEANUP(fl_freep) bool *none = fl_calloc(n, sizeof(bool));
    struct distances distances = {table};
    int64_t f = strategy->options.byzantine_learners;
    int r = each_block(strategy, add_distances, &distances, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        scores[i] = krum_score(table, n, none, i, f, line);
    for (size_t taken = 0; taken < count; taken++) {
        size_t best = n;

        if (again)
            best = krum_best(table, n, chosen, f, line);
        for (size_t i = 0; i < n && !again; i++)
            if (!chosen[i] && (best == n || scores[i] < scores[best]))
                best = i;
        chosen[best] = true;
    }
    return 0;
}

/* The mean of the chosen ones, weighted by their examples. */
struct weighted {
    const struct fl_strategy *strategy;
    const double *weights;
    struct fl_model *out;
};

static int add_weighted(void *user, const struct block *block, struct fl_error *err)
{
    const struct weighted *weighted = user;
    struct fl_tensor *out = &weighted->out->tensors[block->index];

    (void)err;
    for (size_t i = 0; i < block->count; i++) {
        double sum = 0, weight = 0;

        for (size_t u = 0; u < block->updates; u++) {
            if (weighted->weights[u] <= 0)
                continue;
            sum += weighted->weights[u] * block->values[u * block->count + i];
            weight += weighted->weights[u];
        }
        fl_tensor_set(out, block->from + i, sum / weight);
    }
    return 0;
}

static int mean_of_chosen(struct fl_strategy *strategy, const bool *chosen, struct fl_model *out,
                          struct fl_error *err)
{
    size_t n = fl_spill_count(strategy->spill);
    FL_CLEANUP(fl_freep) double *weights = fl_calloc(n, sizeof(double));
    struct weighted weighted = {strategy, weights, out};

    for (size_t i = 0; i < n; i++)
        weights[i] = chosen[i] ? (double)fl_spill_get(strategy->spill, i)->examples : 0;
    return each_block(strategy, add_weighted, &weighted, err);
}

/* Krum: the update with the lowest score. Blanchard et al., Machine Learning with Adversaries,
 * NIPS 2017, section 4; Multi-Krum: the mean of the m best (there, section 6). */
static int reduce_krum(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) bool *chosen = fl_calloc(fl_spill_count(strategy->spill), sizeof(bool));
    int r = choose(strategy, 1, false, chosen, err);

    return r < 0 ? r : mean_of_chosen(strategy, chosen, out, err);
}

static int reduce_multi_krum(struct fl_strategy *strategy, struct fl_model *out,
                             struct fl_error *err)
{
    int64_t n = (int64_t)fl_spill_count(strategy->spill);
    int64_t count = strategy->options.select_updates;
    FL_CLEANUP(fl_freep) bool *chosen = fl_calloc((size_t)n, sizeof(bool));
    int r;

    if (count < 1)
        count = n - strategy->options.byzantine_learners;
    r = choose(strategy, (size_t)(count < n ? count : n), false, chosen, err);
    return r < 0 ? r : mean_of_chosen(strategy, chosen, out, err);
}

/* Bulyan: theta = n - 2f updates chosen by repeated Krum, then in each coordinate the mean of the
 * theta - 2f values nearest to the median. El Mhamdi et al., The Hidden Vulnerability of
 * Distributed Learning in Byzantium, ICML 2018, section 4. */
static double near_median(const struct fl_strategy *strategy, double *sorted, size_t n)
{
    size_t cut = 2 * (size_t)strategy->options.byzantine_learners, low = 0;
    size_t count = n > cut ? n - cut : n;
    double middle = median(strategy, sorted, n), sum = 0;

    /* The nearest ones lie side by side: drop the farther end until they are as few. */
    for (size_t high = n; high - low > count;)
        if (fabs(sorted[low] - middle) > fabs(sorted[high - 1] - middle))
            low++;
        else
            high--;
    for (size_t i = low; i < low + count; i++)
        sum += sorted[i];
    return sum / (double)count;
}

static int reduce_bulyan(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    size_t n = fl_spill_count(strategy->spill);
    size_t cut = 2 * (size_t)strategy->options.byzantine_learners;
    size_t theta = n > 2 * cut ? n - cut : n; /* with fewer there is nothing left to choose */
    FL_CLEANUP(fl_freep) bool *chosen = fl_calloc(n, sizeof(bool));
    int r = choose(strategy, theta, true, chosen, err);

    return r < 0 ? r : by_coordinate(strategy, near_median, chosen, out, err);
}

/* GeometricMedian: the point with the least sum of distances, by the smoothed Weiszfeld algorithm:
 * z' = sum b_k w_k / sum b_k with b_k = n_k / max(nu, |z - w_k|), from z = the weighted mean.
 * Pillutla, Kakade, Harchaoui, Robust Aggregation for Federated Learning, 2019, algorithm 2. */
#define SMOOTHING 1e-6

struct reach {
    const struct fl_model *from;
    double *distances; /* squared, of each update */
};

static int add_reach(void *user, const struct block *block, struct fl_error *err)
{
    struct reach *reach = user;
    const struct fl_tensor *from = &reach->from->tensors[block->index];

    (void)err;
    for (size_t u = 0; u < block->updates; u++)
        for (size_t i = 0; i < block->count; i++) {
            double d = block->values[u * block->count + i] - fl_tensor_get(from, block->from + i);

            reach->distances[u] += d * d;
        }
    return 0;
}

static int weiszfeld(struct fl_strategy *strategy, double *weights, double *distances,
                     struct fl_model *out, struct fl_error *err)
{
    size_t n = fl_spill_count(strategy->spill);
    struct reach reach = {out, distances};
    struct weighted weighted = {strategy, weights, out};
    int r;

    memset(distances, 0, n * sizeof(double));
    r = each_block(strategy, add_reach, &reach, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        weights[i] = (double)fl_spill_get(strategy->spill, i)->examples /
                     fmax(SMOOTHING, sqrt(distances[i]));
    return each_block(strategy, add_weighted, &weighted, err);
}

static int reduce_geometric(struct fl_strategy *strategy, struct fl_model *out,
                            struct fl_error *err)
{
    size_t n = fl_spill_count(strategy->spill);
    FL_CLEANUP(fl_freep) bool *all = fl_calloc(n, sizeof(bool));
    FL_CLEANUP(fl_freep) double *weights = fl_calloc(n, sizeof(double));
    FL_CLEANUP(fl_freep) double *distances = fl_calloc(n, sizeof(double));
    int r;

    memset(all, true, n);
    r = mean_of_chosen(strategy, all, out, err);
    for (int64_t i = 0; r == 0 && i < strategy->options.max_iterations; i++)
        r = weiszfeld(strategy, weights, distances, out, err);
    return r;
}

/* What they need to hold what they promise. */
static int64_t krum_needs(const struct fl_strategy_options *options)
{
    return 2 * options->byzantine_learners + 3;
}

static int64_t bulyan_needs(const struct fl_strategy_options *options)
{
    return 4 * options->byzantine_learners + 3;
}

const struct fl_rule fl_robust_rules[] = {
    {.name = "Median", .reduce = reduce_median},
    {.name = "TrimmedMean", .reduce = reduce_trimmed},
    {.name = "Krum", .reduce = reduce_krum, .min_updates = krum_needs},
    {.name = "MultiKrum", .reduce = reduce_multi_krum, .min_updates = krum_needs},
    {.name = "Bulyan", .reduce = reduce_bulyan, .min_updates = bulyan_needs},
    {.name = "GeometricMedian", .reduce = reduce_geometric},
    {0},
};
