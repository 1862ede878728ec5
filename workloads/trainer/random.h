/* Chance for training: a small generator whose numbers are a function of its seed on every machine.
 *
 * xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), its
 * state filled by splitmix64 as its authors advise. Not for secrets: those come from env. Owned by
 * whoever has the struct; one thread at a time; cannot fail. */
#ifndef FL_WORKLOADS_TRAINER_RANDOM_H
#define FL_WORKLOADS_TRAINER_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct fl_random {
    uint64_t state[4];
};

/* Streams of one seed are independent of each other: what is drawn for one purpose does not move
 * what another gets. */
void fl_random_init(struct fl_random *random, uint64_t seed, uint64_t stream);
uint64_t fl_random_next(struct fl_random *random);
uint32_t fl_random_index(struct fl_random *random, uint32_t bound); /* 0 … bound - 1, unbiased */
float fl_random_uniform(struct fl_random *random, float low, float high); /* 24 bits of it */
/* Fisher and Yates, from the last item down. */
void fl_random_shuffle(struct fl_random *random, uint32_t *items, size_t count);

#endif
