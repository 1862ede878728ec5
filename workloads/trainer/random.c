#include "workloads/trainer/random.h"

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t rotate(uint64_t x, unsigned by)
{
    return (x << by) | (x >> (64 - by));
}

void fl_random_init(struct fl_random *random, uint64_t seed, uint64_t stream)
{
    uint64_t mixed = stream;

    mixed = seed ^ splitmix(&mixed);
    for (size_t i = 0; i < 4; i++)
        random->state[i] = splitmix(&mixed);
}

uint64_t fl_random_next(struct fl_random *random)
{
    uint64_t *s = random->state, result = rotate(s[1] * 5, 7) * 9, shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

/* Lemire, "Fast random integer generation in an interval" (2019): the product's upper half is the
 * index; the few lower halves that would favour some of them are thrown away. */
uint32_t fl_random_index(struct fl_random *random, uint32_t bound)
{
    uint32_t threshold = -bound % bound;
    uint64_t product;

    do
        product = (fl_random_next(random) >> 32) * bound;
    while ((uint32_t)product < threshold);
    return (uint32_t)(product >> 32);
}

float fl_random_uniform(struct fl_random *random, float low, float high)
{
    return low + (high - low) * ((float)(fl_random_next(random) >> 40) * 0x1p-24f);
}

void fl_random_shuffle(struct fl_random *random, uint32_t *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = fl_random_index(random, (uint32_t)i);
        uint32_t kept = items[i - 1];

        items[i - 1] = items[j];
        items[j] = kept;
    }
}
