/* Chance that is a function of a seed: for dividing data, shuffling and first weights.
 *
 * The generator is SplitMix64 (Steele, Lea, Flood 2014): state += 0x9E3779B97F4A7C15, then two
 * xor-shift-multiplies; every seed is a good one. What is drawn from it is said at each function,
 * so that the same seed gives the same result in any program that follows it. Not for secrets.
 * The caller's memory; one thread. */
#ifndef FL_WORKLOADS_RANDOM_H
#define FL_WORKLOADS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct fl_random {
    uint64_t state;
};

/* Seeds that differ in `seed` or in `stream` give sequences that have nothing to do with each
 * other: one stream for each thing that is drawn. */
struct fl_random fl_random_from(uint64_t seed, uint64_t stream);

uint64_t fl_random_next(struct fl_random *random);
/* 0 … bound-1 without bias: numbers from the incomplete last stretch are drawn again. */
uint64_t fl_random_index(struct fl_random *random, uint64_t bound);
/* [0, 1): the upper 53 bits. */
double fl_random_uniform(struct fl_random *random);
/* Mean 0, variance 1: the polar method (Marsaglia, Bray 1964), the second number left unused. */
double fl_random_normal(struct fl_random *random);
/* The logarithm of a Gamma(shape, 1) variate (Marsaglia, Tsang 2000; for shapes below 1 with their
 * boost): as a logarithm, so that tiny shapes do not become zero. */
double fl_random_log_gamma(struct fl_random *random, double shape);
/* Shares of Dir(alpha, …, alpha) into `out`; they add up to 1. */
void fl_random_dirichlet(struct fl_random *random, double alpha, size_t count, double *out);
/* Fisher-Yates, from the end. */
void fl_random_shuffle(struct fl_random *random, uint32_t *items, size_t count);

#endif
