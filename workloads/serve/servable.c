#include "workloads/serve/servable.h"

#include "lib/env.h"
#include "lib/str.h"
#include "workloads/serve/program.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEATS          2
#define MAX_BATCH      32
#define WARM_RUNS      10
#define WARM_ENOUGH_US 100000 /* a slow model is not run more often than needed */
#define WARM_TOTAL_US  5000000

static const struct fl_predictor_ops *const drivers[] = {&fl_native_predictor};

struct fl_servable {
    int refs;
    const struct fl_predictor_ops *ops;
    void *state;
    const struct fl_signature *signature;
    char digest[FL_DIGEST_SIZE];
    size_t max_batch;
    double one_us, batch_us;
};

static void destroy(struct fl_servable *served)
{
    if (!served)
        return;
    if (served->state)
        served->ops->destroy(served->state);
    free(served);
}
FL_DEFINE_CLEANUP(struct fl_servable, destroy)

static const struct fl_predictor_ops *find_driver(const void *data, size_t len,
                                                  struct fl_error *err)
{
    for (size_t i = 0; i < FL_COUNT_OF(drivers); i++)
        if (drivers[i]->knows(data, len))
            return drivers[i];
    (void)fl_error_set(err, FL_E_INVALID, "these are no safetensors");
    return NULL;
}

/* Warming up */

struct warm {
    struct fl_servable *served;
    float *rows, *answers;
    int64_t began_us;
};

static void warm_finish(struct warm *warm)
{
    free(warm->rows);
    free(warm->answers);
}

/* The fastest run counts, whatever else the machine did. */
static int time_runs(const struct warm *warm, unsigned seat, size_t rows, double *best_us,
                     struct fl_error *err)
{
    const int64_t began_us = fl_machine_monotonic_us();
    int64_t last_us = began_us;

    for (int i = 0; i < WARM_RUNS && last_us - began_us < WARM_ENOUGH_US; i++) {
        int r = fl_servable_predict(warm->served, seat, warm->rows, rows, warm->answers, err);
        const int64_t now_us = fl_machine_monotonic_us();

        if (r < 0)
            return r;
        if ((double)(now_us - last_us) < *best_us)
            *best_us = (double)(now_us - last_us);
        last_us = now_us;
    }
    return 0;
}

/* Pages are touched and caches filled. */
static int warm_up(struct fl_servable *served, unsigned seats, struct fl_error *err)
{
    FL_CLEANUP(warm_finish)
    struct warm warm = {
        .served = served,
        .rows = fl_calloc(served->max_batch, served->signature->width * sizeof(float)),
        .answers = fl_calloc(served->max_batch, served->signature->classes * sizeof(float)),
        .began_us = fl_machine_monotonic_us()};
    int r = 0;

    served->one_us = served->batch_us = 1e12;
    for (unsigned seat = 0; seat < seats && r == 0; seat++) {
        if (seat > 0 && fl_machine_monotonic_us() - warm.began_us > WARM_TOTAL_US)
            break;
        r = time_runs(&warm, seat, 1, &served->one_us, err);
        if (r == 0)
            r = time_runs(&warm, seat, served->max_batch, &served->batch_us, err);
    }
    return r < 0 ? fl_error_wrap(err, "warming up") : 0;
}

uint64_t fl_servable_restarts(const struct fl_servable *served)
{
    return served->ops->restarts ? served->ops->restarts(served->state) : 0;
}

double fl_servable_run_us(const struct fl_servable *served, size_t rows)
{
    const double more = served->batch_us > served->one_us ? served->batch_us - served->one_us : 0;
    const double steps = served->max_batch > 1 ? (double)served->max_batch - 1 : 1;

    if (served->ops->waits)
        return INFINITY;
    return served->one_us + more * ((double)rows - 1) / steps;
}

/* Loading */

static int load_state(struct fl_servable *served, const struct fl_servable_options *options,
                      const void *data, size_t len, struct fl_error *err)
{
    const struct fl_predictor_source source = {.data = data,
                                               .len = len,
                                               .seats = options->seats ? options->seats : SEATS,
                                               .max_batch = served->max_batch,
                                               .program = options->program,
                                               .env = options->env};
    int r;

    served->ops = options->ops ? options->ops : find_driver(data, len, err);
    if (!served->ops)
        return FL_E_INVALID;
    r = served->ops->load(&source, &served->state, err);
    if (r == FL_E_NOT_FOUND && options->program) {
        served->ops = &fl_program_predictor;
        r = served->ops->load(&source, &served->state, err);
    }
    if (r < 0)
        return r;
    served->signature = served->ops->signature(served->state);
    return warm_up(served, source.seats, err);
}

int fl_servable_load(const struct fl_servable_options *options, const void *data, size_t len,
                     struct fl_servable **ret_servable, struct fl_error *err)
{
    FL_CLEANUP(destroyp) struct fl_servable *served = fl_calloc(1, sizeof(*served));
    int r;

    served->refs = 1;
    served->max_batch = options->max_batch ? options->max_batch : MAX_BATCH;
    fl_digest_of(data, len, served->digest);
    if (options->expected_digest && strcmp(served->digest, options->expected_digest) != 0)
        return fl_error_set(err, FL_E_INVALID, "the model has the digest %s; %s is expected",
                            served->digest, options->expected_digest);
    r = load_state(served, options, data, len, err);
    if (r < 0)
        return fl_error_wrap(err, "the model cannot be served");
    *ret_servable = FL_TAKE(served);
    return 0;
}

struct fl_servable *fl_servable_ref(struct fl_servable *served)
{
    served->refs++;
    return served;
}

void fl_servable_unref(struct fl_servable *served)
{
    if (served && --served->refs == 0)
        destroy(served);
}

const struct fl_signature *fl_servable_signature(const struct fl_servable *served)
{
    return served->signature;
}

const char *fl_servable_digest(const struct fl_servable *served)
{
    return served->digest;
}

const char *fl_servable_platform(const struct fl_servable *served)
{
    return served->ops->platform(served->state);
}

int fl_servable_predict(struct fl_servable *served, unsigned seat, const float *rows, size_t count,
                        float *ret_answers, struct fl_error *err)
{
    return served->ops->predict(served->state, seat, rows, count, ret_answers, err);
}
