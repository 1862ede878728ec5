/* Rules that need exact sums only.
 *
 * With w the round's base, w_k an update, n_k its examples: each rule says how an update enters the
 * sum, weight_k * factor_k * w_k, and makes the next model from it. All steps of the server work on
 * the pseudo-gradient D = mean - w. Sums and these steps do not depend on the order of arrival. */
#include "workloads/strategy/strategy_internal.h"

#include "workloads/tensor/kernels.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* FedAvg: w' = sum n_k w_k / sum n_k. McMahan et al., Communication-Efficient Learning of Deep
 * Networks from Decentralized Data, AISTATS 2017, Algorithm 1. FedProx is the same on the server;
 * the learner adds mu/2 |w - w_t|^2 (Li et al., MLSys 2020, Algorithm 2). */

static int weigh_examples(const struct fl_strategy *strategy, const struct fl_model *update,
                          const struct fl_update_facts *facts, struct fl_share *ret_share,
                          struct fl_error *err)
{
    (void)update, (void)err;
    *ret_share = (struct fl_share){.weight = fl_strategy_examples(strategy, facts), .factor = 1};
    return 0;
}

static int step_mean(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return fl_exact_mean(strategy->sum, 0, out, err);
}

/* Steps of the server, parameter by parameter: given D, the state, and the base's value, the next
 * value. Arithmetic is in double; the state is kept as float. */
typedef double fl_server_step(const struct fl_strategy_options *options, double base, double delta,
                              float *m, float *v);

/* The state that follows: nobody's but ours until the round is finished. */
static int make_state(struct fl_strategy *strategy, double initial_v, struct fl_error *err)
{
    const struct fl_model *base = strategy->base;
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_tensor *tensors = fl_new_array(arena, struct fl_tensor, base->count * 2 + 1);
    static const char *const prefixes[] = {"m/", "v/"};
    size_t count = 0;
    int r;

    assert(strategy->rule->states <= FL_COUNT_OF(prefixes));
    for (size_t i = 0; i < base->count; i++) {
        for (unsigned p = 0;
             p < strategy->rule->states && fl_dtype_is_float(base->tensors[i].dtype); p++) {
            tensors[count] = base->tensors[i];
            tensors[count].dtype = FL_DTYPE_F32;
            tensors[count++].name =
                fl_arena_printf(arena, "%s%s", prefixes[p], base->tensors[i].name);
        }
    }
    r = fl_model_create(tensors, count, &strategy->next_state, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < strategy->next_state->count; i++)
        if (strategy->next_state->tensors[i].name[0] == 'v')
            for (size_t e = 0; e < strategy->next_state->tensors[i].count; e++)
                ((float *)strategy->next_state->tensors[i].data)[e] = (float)initial_v;
    return 0;
}

static float *state_of(const struct fl_strategy *strategy, const char *prefix,
                       const struct fl_tensor *tensor)
{
    FL_CLEANUP(fl_freep) char *name = fl_asprintf("%s/%s", prefix, tensor->name);
    const struct fl_tensor *found = fl_model_find(strategy->next_state, name);

    return found && found->dtype == FL_DTYPE_F32 && found->count == tensor->count ? found->data
                                                                                  : NULL;
}

static int step_tensor(struct fl_strategy *strategy, fl_server_step *step,
                       const struct fl_tensor *base, struct fl_tensor *out, struct fl_error *err)
{
    float *m = state_of(strategy, "m", base), *v = state_of(strategy, "v", base), none = 0;

    if (!m || (strategy->rule->states > 1 && !v))
        return fl_error_set(err, FL_E_INVALID, "the server's state has no place for tensor \"%s\"",
                            base->name);
    for (size_t i = 0; i < base->count; i++) {
        double before = fl_tensor_get(base, i);

        fl_tensor_set(out, i,
                      step(&strategy->options, before, fl_tensor_get(out, i) - before, &m[i],
                           v ? &v[i] : &none));
    }
    return 0;
}

static int step_all(struct fl_strategy *strategy, fl_server_step *step, double initial_v,
                    struct fl_model *out, struct fl_error *err)
{
    int r = fl_exact_mean(strategy->sum, 0, out, err);

    if (r == 0)
        r = strategy->state ? fl_model_like(strategy->state, true, &strategy->next_state, err)
                            : make_state(strategy, initial_v, err);
    for (size_t i = 0; r == 0 && i < out->count; i++)
        if (fl_dtype_is_float(out->tensors[i].dtype))
            r = step_tensor(strategy, step, &strategy->base->tensors[i], &out->tensors[i], err);
    return r;
}

/* FedAvgM: v = momentum * v + (w - mean); w' = w - rate * v. Hsu, Qi, Brown, Measuring the Effects
 * of Non-Identical Data Distribution for Federated Visual Classification, 2019, section 4.3. */
static double momentum_step(const struct fl_strategy_options *options, double base, double delta,
                            float *m, float *v)
{
    (void)v;
    *m = (float)(options->server_momentum * *m - delta);
    return base - options->server_learning_rate * *m;
}

static int step_momentum(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return step_all(strategy, momentum_step, 0, out, err);
}

/* FedAdagrad, FedAdam, FedYogi: m = beta1 m + (1 - beta1) D; v by the rule, from tau^2 at first;
 * w' = w + rate * m / (sqrt(v) + tau). Reddi et al., Adaptive Federated Optimization, ICLR 2021,
 * Algorithm 2 (no bias correction there). */
static double adapt(const struct fl_strategy_options *options, double base, double delta, float *m,
                    float *v, double next_v)
{
    *m = (float)(options->beta1 * *m + (1 - options->beta1) * delta);
    *v = (float)next_v;
    return base + options->server_learning_rate * *m / (sqrt(*v) + options->tau);
}

static double adagrad_step(const struct fl_strategy_options *options, double base, double delta,
                           float *m, float *v)
{
    return adapt(options, base, delta, m, v, *v + delta * delta);
}

static double adam_step(const struct fl_strategy_options *options, double base, double delta,
                        float *m, float *v)
{
    return adapt(options, base, delta, m, v,
                 options->beta2 * *v + (1 - options->beta2) * delta * delta);
}

static double yogi_step(const struct fl_strategy_options *options, double base, double delta,
                        float *m, float *v)
{
    double square = delta * delta, sign = (*v > square) - (*v < square);

    return adapt(options, base, delta, m, v, *v - (1 - options->beta2) * square * sign);
}

static double initial_v(const struct fl_strategy *strategy)
{
    return strategy->options.tau * strategy->options.tau;
}

static int step_adagrad(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return step_all(strategy, adagrad_step, initial_v(strategy), out, err);
}

static int step_adam(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return step_all(strategy, adam_step, initial_v(strategy), out, err);
}

static int step_yogi(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return step_all(strategy, yogi_step, initial_v(strategy), out, err);
}

/* What is added up may be scaled per update, so that the sum S of weight * factor * w_k has no
 * mean: w' = w + scale * (S - F w), F being the sum of weight * factor. */
static int step_scaled(struct fl_strategy *strategy, double scale, struct fl_model *out,
                       struct fl_error *err)
{
    return fl_exact_move(strategy->sum, strategy->base,
                         fl_exact_scalar_get(&strategy->sums.factors), scale, out, err);
}

/* FedNova: updates are divided by their number of local steps t_k, and their mean is multiplied by
 * the mean number: w' = w + t sum p_k (w_k - w) / t_k with p_k = n_k / sum n and t = sum p_k t_k.
 * Wang et al., Tackling the Objective Inconsistency Problem, NeurIPS 2020, equation 9 (plain SGD:
 * |a|_1 = t_k). */
static int weigh_steps(const struct fl_strategy *strategy, const struct fl_model *update,
                       const struct fl_update_facts *facts, struct fl_share *ret_share,
                       struct fl_error *err)
{
    int64_t examples = fl_strategy_examples(strategy, facts);

    (void)update;
    if (facts->steps < 1)
        return fl_error_set(err, FL_E_INVALID, "FedNova needs the number of local steps");
    *ret_share = (struct fl_share){.weight = examples,
                                   .factor = 1.0 / (double)facts->steps,
                                   .extra = (double)examples * (double)facts->steps};
    return 0;
}

static int step_nova(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    double weight = (double)fl_exact_weight(strategy->sum);
    double steps = fl_exact_scalar_get(&strategy->sums.extra) / weight;

    return step_scaled(strategy, steps / weight, out, err);
}

/* q-FedAvg: with F_k the loss before training and L = 1 / learning rate: d_k = F_k^q L (w - w_k),
 * h_k = q F_k^(q-1) |L (w - w_k)|^2 + L F_k^q, w' = w - sum d_k / sum h_k. Li et al., Fair Resource
 * Allocation in Federated Learning, ICLR 2020, Algorithm 2. */
static double distance2(const struct fl_model *a, const struct fl_model *b)
{
    double sum = 0;

    for (size_t t = 0; t < a->count; t++) {
        const struct fl_tensor *x = &a->tensors[t], *y = &b->tensors[t];

        if (x->dtype == FL_DTYPE_F32) {
            sum += fl_k_distance2(x->count, x->data, y->data);
        } else if (fl_dtype_is_float(x->dtype)) {
            for (size_t i = 0; i < x->count; i++) {
                double d = fl_tensor_get(x, i) - fl_tensor_get(y, i);

                sum += d * d;
            }
        }
    }
    return sum;
}

static int weigh_fair(const struct fl_strategy *strategy, const struct fl_model *update,
                      const struct fl_update_facts *facts, struct fl_share *ret_share,
                      struct fl_error *err)
{
    double q = strategy->options.q, rate = 1 / strategy->options.local_learning_rate;
    double loss = facts->loss + 1e-10, power;

    if (!isfinite(facts->loss) || facts->loss < 0)
        return fl_error_set(err, FL_E_INVALID, "QFedAvg needs a loss, and has %g", facts->loss);
    power = pow(loss, q);
    *ret_share = (struct fl_share){
        .weight = 1,
        .factor = power,
        .extra =
            q * pow(loss, q - 1) * rate * rate * distance2(strategy->base, update) + rate * power,
    };
    return 0;
}

static int step_fair(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    double rate = 1 / strategy->options.local_learning_rate;

    return step_scaled(strategy, rate / fl_exact_scalar_get(&strategy->sums.extra), out, err);
}

/* NormBound: FedAvg of updates shortened to a norm, w_k' = w + min(1, bound / |w_k - w|) (w_k - w).
 * Sun et al., Can You Really Backdoor Federated Learning?, 2019, section 5. */
static int weigh_bounded(const struct fl_strategy *strategy, const struct fl_model *update,
                         const struct fl_update_facts *facts, struct fl_share *ret_share,
                         struct fl_error *err)
{
    double norm = sqrt(distance2(strategy->base, update));

    if (!isfinite(norm))
        return fl_model_check_finite(update, err) < 0
                   ? err ? err->code : FL_E_INVALID
                   : fl_error_set(err, FL_E_INVALID, "an update without a norm");
    *ret_share = (struct fl_share){.weight = fl_strategy_examples(strategy, facts), .factor = 1};
    if (norm > strategy->options.norm_bound)
        ret_share->factor = strategy->options.norm_bound / norm;
    return 0;
}

static int step_bounded(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return step_scaled(strategy, 1.0 / (double)fl_exact_weight(strategy->sum), out, err);
}

/* FedBuff: w' = w + rate / K sum s(t_k) (w_k - w), K updates in the buffer, each made t_k rounds
 * ago from a base of its own, s(t) = 1 / sqrt(1 + t). Nguyen et al., Federated Learning with
 * Buffered Asynchronous Aggregation, AISTATS 2022, Algorithm 1 and section 5. */
static int weigh_stale(const struct fl_strategy *strategy, const struct fl_model *update,
                       const struct fl_update_facts *facts, struct fl_share *ret_share,
                       struct fl_error *err)
{
    (void)strategy, (void)update;
    if (facts->staleness < 0)
        return fl_error_set(err, FL_E_INVALID, "an update from the future");
    *ret_share = (struct fl_share){.weight = 1, .factor = 1 / sqrt(1.0 + (double)facts->staleness)};
    return 0;
}

static int step_buffer(struct fl_strategy *strategy, struct fl_model *out, struct fl_error *err)
{
    return step_scaled(strategy,
                       strategy->options.server_learning_rate / (double)strategy->sums.updates, out,
                       err);
}

const struct fl_rule fl_sum_rules[] = {
    {.name = "FedAvg", .weigh = weigh_examples, .step = step_mean},
    {.name = "FedProx", .weigh = weigh_examples, .step = step_mean},
    {.name = "FedAvgM",
     .weigh = weigh_examples,
     .step = step_momentum,
     .states = 1,
     .server_learning_rate = 1,
     .server_momentum = 0.9},
    {.name = "FedAdagrad",
     .weigh = weigh_examples,
     .step = step_adagrad,
     .states = 2,
     .server_learning_rate = 0.1},
    {.name = "FedAdam",
     .weigh = weigh_examples,
     .step = step_adam,
     .states = 2,
     .server_learning_rate = 0.1,
     .beta1 = 0.9,
     .beta2 = 0.99},
    {.name = "FedYogi",
     .weigh = weigh_examples,
     .step = step_yogi,
     .states = 2,
     .server_learning_rate = 0.01,
     .beta1 = 0.9,
     .beta2 = 0.99},
    {.name = "FedNova", .weigh = weigh_steps, .step = step_nova},
    {.name = "QFedAvg", .weigh = weigh_fair, .step = step_fair},
    {.name = "NormBound", .weigh = weigh_bounded, .step = step_bounded},
    {.name = "FedBuff", .weigh = weigh_stale, .step = step_buffer, .server_learning_rate = 1},
    {0},
};
