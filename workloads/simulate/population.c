#include "lib/str.h"
#include "workloads/data/random.h"
#include "workloads/simulate/simulate_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

/* One stream of chance for each thing that is drawn. */
enum stream {
    STREAM_ATTACKERS = 101,
    STREAM_SLOWNESS,
    STREAM_JITTER,
    STREAM_DROPOUT,
    STREAM_NOISE
};

#define ID_PREFIX    "learner-"
#define DELAY_MAX_MS ((int64_t)1000 * 3600 * 24)

/* --- names ---------------------------------------------------------------------------------- */

static const char *const attack_names[] = {"None", "SignFlip", "Noise", "LabelFlip", "Scaled"};

const char *fl_attack_name(enum fl_attack_kind kind)
{
    return attack_names[kind];
}

bool fl_attack_find(const char *name, enum fl_attack_kind *ret_kind)
{
    for (size_t i = 0; i < FL_COUNT_OF(attack_names); i++) {
        if (strcasecmp(name, attack_names[i]) == 0) {
            *ret_kind = (enum fl_attack_kind)i;
            return true;
        }
    }
    return false;
}

void learner_id(size_t learner, char out[LEARNER_ID_SIZE])
{
    (void)snprintf(out, LEARNER_ID_SIZE, ID_PREFIX "%06zu", learner);
}

size_t learner_index(const char *id)
{
    return (size_t)strtoull(id + strlen(ID_PREFIX), NULL, 10);
}

/* --- who they are --------------------------------------------------------------------------- */

static void choose_attackers(struct population *population)
{
    const struct fl_simulation *simulation = population->simulation;
    struct fl_random random = fl_random_from((uint64_t)simulation->spec.seed, STREAM_ATTACKERS);
    FL_CLEANUP(fl_freep) uint32_t *order = fl_calloc(population->count, sizeof(*order));

    for (size_t i = 0; i < population->count; i++)
        order[i] = (uint32_t)i;
    fl_random_shuffle(&random, order, population->count);
    if (simulation->attack.kind != FL_ATTACK_NONE)
        for (size_t i = 0; i < simulation->attack.learners; i++)
            population->attacks[order[i]] = true;
}

static void choose_slowness(struct population *population)
{
    const struct fl_simulation *simulation = population->simulation;
    struct fl_random random = fl_random_from((uint64_t)simulation->spec.seed, STREAM_SLOWNESS);

    for (size_t i = 0; i < population->count; i++)
        population->slowness[i] = exp(simulation->delays.spread * fl_random_normal(&random));
}

/* A copy of the part with its labels turned round. */
static int flip_labels(struct fl_dataset **part, struct fl_error *err)
{
    const struct fl_dataset *own = *part;
    struct fl_dataset form = *own, *flipped;
    FL_CLEANUP(fl_freep) float *features = fl_calloc(own->count * own->width, sizeof(float));
    FL_CLEANUP(fl_freep) int32_t *labels = fl_calloc(own->count, sizeof(*labels));
    int r;

    for (size_t i = 0; i < own->count; i++) {
        memcpy(features + i * own->width, fl_dataset_example(own, i), own->width * sizeof(float));
        labels[i] = (int32_t)(own->classes - 1) - own->labels[fl_dataset_row(own, i)];
    }
    form.features = features;
    form.labels = labels;
    form.rows = NULL;
    r = fl_dataset_create(&form, &flipped, err);
    if (r < 0)
        return r;
    fl_dataset_unref(*part);
    *part = flipped;
    return 0;
}

static int divide(struct population *population, struct fl_error *err)
{
    const struct fl_simulation *simulation = population->simulation;
    int r = fl_dataset_partition(simulation->train, &simulation->partition, population->data, err);

    for (size_t i = 0; i < population->count && r == 0; i++) {
        population->examples += (int64_t)population->data[i]->count;
        if (population->attacks[i] && (simulation->attack.kind == FL_ATTACK_LABEL_FLIP ||
                                       simulation->attack.kind == FL_ATTACK_SCALED))
            r = flip_labels(&population->data[i], err);
    }
    return r;
}

int population_create(const struct fl_simulation *simulation, struct population **ret_population,
                      struct fl_error *err)
{
    FL_CLEANUP(population_destroyp)
    struct population *population = fl_calloc(1, sizeof(*population));
    int r;

    population->simulation = simulation;
    population->count = simulation->partition.learners;
    population->data = fl_calloc(population->count, sizeof(struct fl_dataset *));
    population->attacks = fl_calloc(population->count, sizeof(bool));
    population->slowness = fl_calloc(population->count, sizeof(double));
    choose_attackers(population);
    choose_slowness(population);
    r = divide(population, err);
    if (r < 0)
        return r;
    *ret_population = FL_TAKE(population);
    return 0;
}

void population_destroy(struct population *population)
{
    if (!population)
        return;
    for (size_t i = 0; i < population->count; i++)
        fl_dataset_unref(population->data[i]);
    desks_destroy(population->desks);
    free(population->data);
    free(population->attacks);
    free(population->slowness);
    free(population);
}

int population_take_trainer(const struct population *population, size_t learner,
                            struct fl_trainer **ret_trainer, struct fl_error *err)
{
    const struct fl_simulation *simulation = population->simulation;

    if (population->desks)
        return desks_take(population->desks, learner, ret_trainer, err);
    return simulation->trainer->create(simulation->trainer_options, population->data[learner],
                                       ret_trainer, err);
}

void population_leave_trainer(const struct population *population, struct fl_trainer *trainer)
{
    if (population->desks)
        desks_leave(population->desks, trainer);
    else
        trainer->ops->destroy(trainer);
}

/* --- what happens to them ------------------------------------------------------------------- */

/* Chance that belongs to a learner and a round. */
static struct fl_random chance(const struct population *population, size_t learner, int64_t round,
                               enum stream stream)
{
    char id[LEARNER_ID_SIZE];

    learner_id(learner, id);
    return fl_random_from(fl_protocol_hash(population->simulation->spec.seed, round, stream, id),
                          stream);
}

int64_t population_delay_ms(const struct population *population, size_t learner, int64_t round)
{
    const struct fl_delays *delays = &population->simulation->delays;
    struct fl_random random = chance(population, learner, round, STREAM_JITTER);
    double ms = (double)delays->median_ms * population->slowness[learner] *
                exp(delays->jitter * fl_random_normal(&random));

    return ms < (double)DELAY_MAX_MS ? (int64_t)rint(ms) : DELAY_MAX_MS;
}

bool population_drops(const struct population *population, size_t learner, int64_t round)
{
    struct fl_random random = chance(population, learner, round, STREAM_DROPOUT);

    return fl_random_uniform(&random) < population->simulation->delays.dropout;
}

/* --- attacks -------------------------------------------------------------------------------- */

static double attack_scale(const struct fl_attack *attack)
{
    if (attack->scale > 0)
        return attack->scale;
    return attack->kind == FL_ATTACK_SCALED ? 10 : 1;
}

void population_attack(const struct population *population, size_t learner, uint64_t seed,
                       const struct fl_model *base, struct fl_model *update)
{
    const struct fl_attack *attack = &population->simulation->attack;
    struct fl_random random = fl_random_from(seed, STREAM_NOISE);
    double scale = attack_scale(attack);

    if (!population->attacks[learner] || attack->kind == FL_ATTACK_LABEL_FLIP)
        return;
    if (attack->kind == FL_ATTACK_SIGN_FLIP)
        scale = -scale;
    for (size_t t = 0; t < update->count; t++) {
        struct fl_tensor *tensor = &update->tensors[t];

        if (!fl_dtype_is_float(tensor->dtype))
            continue;
        for (size_t i = 0; i < tensor->count; i++) {
            double from = fl_tensor_get(&base->tensors[t], i), own = fl_tensor_get(tensor, i);
            double way = attack->kind == FL_ATTACK_NOISE ? fl_random_normal(&random) : own - from;

            fl_tensor_set(tensor, i, from + scale * way);
        }
    }
}
