#include "workloads/data/random.h"

#include <assert.h>
#include <math.h>

#define STEP UINT64_C(0x9E3779B97F4A7C15)

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t fl_random_next(struct fl_random *random)
{
    random->state += STEP;
    return mix(random->state);
}

struct fl_random fl_random_from(uint64_t seed, uint64_t stream)
{
    return (struct fl_random){.state = mix(mix(seed + STEP) ^ (stream * STEP))};
}

uint64_t fl_random_index(struct fl_random *random, uint64_t bound)
{
    uint64_t limit, value;

    assert(bound > 0);
    limit = UINT64_MAX - UINT64_MAX % bound;
    do
        value = fl_random_next(random);
    while (value >= limit);
    return value % bound;
}

double fl_random_uniform(struct fl_random *random)
{
    return (double)(fl_random_next(random) >> 11) * 0x1p-53;
}

double fl_random_normal(struct fl_random *random)
{
    double x, y, square;

    do {
        x = 2 * fl_random_uniform(random) - 1;
        y = 2 * fl_random_uniform(random) - 1;
        square = x * x + y * y;
    } while (square >= 1 || square <= 0);
    return x * sqrt(-2 * log(square) / square);
}

/* Of a shape of at least 1. */
static double log_gamma_from_one(struct fl_random *random, double shape)
{
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);

    for (;;) {
        double x = fl_random_normal(random), v = 1 + c * x, u;

        if (v <= 0)
            continue;
        v = v * v * v;
        u = 1 - fl_random_uniform(random); /* (0, 1] */
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return log(d) + log(v);
    }
}

double fl_random_log_gamma(struct fl_random *random, double shape)
{
    assert(shape > 0);

    if (shape >= 1)
        return log_gamma_from_one(random, shape);
    return log_gamma_from_one(random, shape + 1) + log(1 - fl_random_uniform(random)) / shape;
}

void fl_random_dirichlet(struct fl_random *random, double alpha, size_t count, double *out)
{
    double largest = -INFINITY, sum = 0;

    for (size_t i = 0; i < count; i++) {
        out[i] = fl_random_log_gamma(random, alpha);
        largest = fmax(largest, out[i]);
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = exp(out[i] - largest); /* the largest is 1, so the sum is never 0 */
        sum += out[i];
    }
    for (size_t i = 0; i < count; i++)
        out[i] /= sum;
}

void fl_random_shuffle(struct fl_random *random, uint32_t *items, size_t count)
{
    for (size_t left = count; left > 1; left--) {
        size_t i = fl_random_index(random, left);
        uint32_t item = items[i];

        items[i] = items[left - 1];
        items[left - 1] = item;
    }
}
