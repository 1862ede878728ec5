#include "workloads/strategy/strategy_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

void fl_strategy_options_init(struct fl_strategy_options *options, const char *name)
{
    *options = (struct fl_strategy_options){
        .name = name,
        .server_learning_rate = NAN,
        .server_momentum = NAN,
        .beta1 = NAN,
        .beta2 = NAN,
        .tau = NAN,
        .q = NAN,
        .trim_fraction = NAN,
        .norm_bound = NAN,
        .local_learning_rate = NAN,
        .byzantine_learners = -1,
        .select_updates = -1,
        .max_iterations = -1,
        .buffer_size = -1,
    };
}

static const struct fl_rule *find_rule(const char *name)
{
    for (const struct fl_rule *rule = fl_sum_rules; rule->name; rule++)
        if (fl_streq(rule->name, name))
            return rule;
    for (const struct fl_rule *rule = fl_robust_rules; rule->name; rule++)
        if (fl_streq(rule->name, name))
            return rule;
    return NULL;
}

static void or_default(double *value, double fallback)
{
    if (isnan(*value))
        *value = fallback;
}

static void fill_in(struct fl_strategy_options *options, const struct fl_rule *rule)
{
    or_default(&options->server_learning_rate, rule->server_learning_rate);
    or_default(&options->server_momentum, rule->server_momentum);
    or_default(&options->beta1, rule->beta1);
    or_default(&options->beta2, rule->beta2);
    or_default(&options->tau, 1e-3);
    or_default(&options->q, 0.1);
    or_default(&options->trim_fraction, 0.2);
    if (options->byzantine_learners < 0)
        options->byzantine_learners = 0;
    if (options->max_iterations < 0)
        options->max_iterations = 8;
    if (options->buffer_size < 0)
        options->buffer_size = 10;
    if (options->block_bytes == 0)
        options->block_bytes = (size_t)32 << 20;
}

static int check_range(const char *name, double value, double low, double high,
                       struct fl_error *err)
{
    if (value >= low && value <= high)
        return 0;
    return fl_error_set(err, FL_E_INVALID, "%s: %g is not within %g and %g", name, value, low,
                        high);
}

#define BELOW_1 (1.0 - 1e-9)

static int check_options(const struct fl_strategy_options *options, struct fl_error *err)
{
    int r = check_range("serverLearningRate", options->server_learning_rate, 0, 1e6, err);

    if (r == 0)
        r = check_range("serverMomentum", options->server_momentum, 0, BELOW_1, err);
    if (r == 0)
        r = check_range("beta1", options->beta1, 0, BELOW_1, err);
    if (r == 0)
        r = check_range("beta2", options->beta2, 0, BELOW_1, err);
    if (r == 0)
        r = check_range("tau", options->tau, 1e-12, 1e6, err);
    if (r == 0)
        r = check_range("q", options->q, 0, 100, err);
    if (r == 0)
        r = check_range("trimFraction", options->trim_fraction, 0, 0.5 - 1e-9, err);
    if (r == 0)
        r = check_range("byzantineLearners", (double)options->byzantine_learners, 0, 1e6, err);
    if (r == 0)
        r = check_range("maxIterations", (double)options->max_iterations, 1, 1000, err);
    if (r == 0)
        r = check_range("bufferSize", (double)options->buffer_size, 1, 1e6, err);
    if (r == 0 && !isnan(options->norm_bound))
        r = check_range("normBound", options->norm_bound, 1e-12, 1e12, err);
    if (r == 0 && !isnan(options->local_learning_rate))
        r = check_range("learningRate", options->local_learning_rate, 1e-12, 1e6, err);
    return r;
}

/* What a rule cannot do without. */
static int check_needs(const struct fl_strategy_options *options, struct fl_error *err)
{
    if (fl_streq(options->name, "NormBound") && isnan(options->norm_bound))
        return fl_error_set(err, FL_E_INVALID, "NormBound needs normBound");
    if (fl_streq(options->name, "QFedAvg") && isnan(options->local_learning_rate))
        return fl_error_set(err, FL_E_INVALID, "QFedAvg needs the learners' learningRate");
    return 0;
}

int fl_strategy_create(const struct fl_strategy_options *options, struct fl_strategy **ret_strategy,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = fl_calloc(1, sizeof(*strategy));
    int r;

    strategy->rule = find_rule(options->name);
    if (!strategy->rule)
        return fl_error_set(err, FL_E_INVALID, "there is no strategy \"%s\"",
                            fl_str_or(options->name, ""));
    strategy->options = *options;
    strategy->options.name = strategy->rule->name;
    strategy->spill_dir = options->spill_dir ? fl_strdup(options->spill_dir) : NULL;
    strategy->options.spill_dir = strategy->spill_dir;
    fill_in(&strategy->options, strategy->rule);
    r = check_options(&strategy->options, err);
    if (r == 0)
        r = check_needs(&strategy->options, err);
    if (r < 0)
        return fl_error_wrap(err, "strategy %s", strategy->rule->name);
    *ret_strategy = FL_TAKE(strategy);
    return 0;
}

void fl_strategy_abandon(struct fl_strategy *strategy)
{
    fl_model_unref(FL_TAKE(strategy->base));
    fl_exact_destroy(FL_TAKE(strategy->sum));
    fl_spill_destroy(FL_TAKE(strategy->spill));
    fl_model_unref(FL_TAKE(strategy->next_state));
    strategy->sums = (struct fl_round_sums){0};
}

void fl_strategy_destroy(struct fl_strategy *strategy)
{
    if (!strategy)
        return;
    fl_strategy_abandon(strategy);
    fl_model_unref(strategy->state);
    free(strategy->spill_dir);
    free(strategy);
}

const char *fl_strategy_name(const struct fl_strategy *strategy)
{
    return strategy->rule->name;
}

bool fl_strategy_is_sum(const struct fl_strategy *strategy)
{
    return strategy->rule->step != NULL;
}

int64_t fl_strategy_min_updates(const struct fl_strategy *strategy)
{
    if (!strategy->rule->min_updates || strategy->options.any_number)
        return 1;
    return strategy->rule->min_updates(&strategy->options);
}

size_t fl_strategy_update_count(const struct fl_strategy *strategy)
{
    return (size_t)strategy->sums.updates;
}

/* A round */

int fl_strategy_begin(struct fl_strategy *strategy, struct fl_model *base,
                      const struct fl_exact_precision *precision, int64_t max_examples,
                      struct fl_error *err)
{
    int r;

    fl_strategy_abandon(strategy);
    strategy->base = fl_model_ref(base);
    strategy->precision = *precision;
    strategy->max_examples = max_examples;
    if (fl_strategy_is_sum(strategy))
        r = fl_exact_create(base, precision, &strategy->sum, err);
    else
        r = fl_spill_create(strategy->options.spill_dir, base, &strategy->spill, err);
    if (r == 0 && strategy->sum)
        fl_exact_use(strategy->sum, strategy->options.crew);
    if (r < 0)
        fl_strategy_abandon(strategy);
    return r;
}

int64_t fl_strategy_examples(const struct fl_strategy *strategy,
                             const struct fl_update_facts *facts)
{
    if (strategy->max_examples > 0 && facts->examples > strategy->max_examples)
        return strategy->max_examples;
    return facts->examples;
}

/* An update that began elsewhere is taken as if it had made the same way from the round's base. */
static int rebase(const struct fl_strategy *strategy, const struct fl_model *update,
                  const struct fl_model *own, struct fl_model **ret_moved, struct fl_error *err)
{
    int r = fl_model_like(update, true, ret_moved, err);

    if (r < 0)
        return r;
    for (size_t t = 0; t < update->count; t++) {
        struct fl_tensor *moved = &(*ret_moved)->tensors[t];

        if (!fl_dtype_is_float(moved->dtype))
            continue;
        for (size_t i = 0; i < moved->count; i++)
            fl_tensor_set(moved, i,
                          fl_tensor_get(moved, i) - fl_tensor_get(&own->tensors[t], i) +
                              fl_tensor_get(&strategy->base->tensors[t], i));
    }
    return 0;
}

/* An update on its way into the sum. */
struct entry {
    struct fl_strategy_addend *addend;
    struct fl_model *moved; /* NULL: it enters as it is */
    struct fl_share share;
};

static int check_addend(const struct fl_strategy *strategy, struct fl_strategy_addend *addend)
{
    const struct fl_update_facts *facts = addend->facts;
    int r = fl_model_check_like(strategy->base, addend->update, &addend->err);

    if (r == 0 && facts->examples < 1)
        r = fl_error_set(&addend->err, FL_E_INVALID, "%" PRId64 " examples", facts->examples);
    if (r == 0 && facts->base)
        r = fl_model_check_like(strategy->base, facts->base, &addend->err);
    return r;
}

static int prepare(const struct fl_strategy *strategy, struct entry *entry)
{
    struct fl_strategy_addend *addend = entry->addend;
    const struct fl_update_facts *facts = addend->facts;
    int r = 0;

    entry->share = (struct fl_share){.factor = 1};
    if (facts->base && facts->base != strategy->base)
        r = rebase(strategy, addend->update, facts->base, &entry->moved, &addend->err);
    return r < 0 ? r
                 : strategy->rule->weigh(strategy, entry->moved ? entry->moved : addend->update,
                                         facts, &entry->share, &addend->err);
}

static void count_in(struct fl_strategy *strategy, const struct fl_share *share)
{
    fl_exact_scalar_add(&strategy->sums.factors, (double)share->weight * share->factor);
    fl_exact_scalar_add(&strategy->sums.extra, share->extra);
    strategy->sums.updates++;
}

static void add_to_sum(struct fl_strategy *strategy, struct fl_strategy_addend *addends,
                       size_t count)
{
    struct fl_exact_addend exact[FL_FOLDS_MAX];
    struct entry entries[FL_FOLDS_MAX] = {0};
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        struct entry *entry = &entries[used];

        entry->addend = &addends[i];
        if (addends[i].result == 0)
            addends[i].result = prepare(strategy, entry);
        if (addends[i].result == 0)
            exact[used++] =
                (struct fl_exact_addend){.update = entry->moved ? entry->moved : addends[i].update,
                                         .factor = entry->share.factor,
                                         .weight = entry->share.weight};
        else
            fl_model_unref(FL_TAKE(entry->moved));
    }
    if (used > 0)
        fl_exact_fold_all(strategy->sum, exact, used);
    for (size_t i = 0; i < used; i++) {
        entries[i].addend->result = exact[i].result;
        entries[i].addend->err = exact[i].err;
        if (exact[i].result == 0)
            count_in(strategy, &entries[i].share);
        fl_model_unref(entries[i].moved);
    }
}

static void add_to_spill(struct fl_strategy *strategy, struct fl_strategy_addend *addend)
{
    if (addend->result == 0)
        addend->result = fl_model_check_finite(addend->update, &addend->err);
    if (addend->result == 0)
        addend->result = fl_spill_add(strategy->spill, addend->update, addend->facts->learner,
                                      fl_strategy_examples(strategy, addend->facts), &addend->err);
    strategy->sums.updates += addend->result == 0;
}

void fl_strategy_add_all(struct fl_strategy *strategy, struct fl_strategy_addend *addends,
                         size_t count)
{
    assert(count <= FL_FOLDS_MAX);

    for (size_t i = 0; i < count; i++)
        addends[i].result = check_addend(strategy, &addends[i]);
    if (fl_strategy_is_sum(strategy))
        add_to_sum(strategy, addends, count);
    for (size_t i = 0; !fl_strategy_is_sum(strategy) && i < count; i++)
        add_to_spill(strategy, &addends[i]);
}

int fl_strategy_add(struct fl_strategy *strategy, const struct fl_model *update,
                    const struct fl_update_facts *facts, struct fl_error *err)
{
    struct fl_strategy_addend addend = {.update = update, .facts = facts};

    fl_strategy_add_all(strategy, &addend, 1);
    return addend.result < 0 ? fl_error_set(err, addend.result, "%s", addend.err.msg) : 0;
}

/* Integers stay the base's; of the rest each rule makes all. */
static int begin_next(const struct fl_model *base, struct fl_model **ret_model,
                      struct fl_error *err)
{
    int r = fl_model_like(base, false, ret_model, err);

    for (size_t i = 0; r == 0 && i < base->count; i++)
        if (!fl_dtype_is_float(base->tensors[i].dtype) && base->tensors[i].size > 0)
            memcpy((*ret_model)->tensors[i].data, base->tensors[i].data, base->tensors[i].size);
    return r;
}

int fl_strategy_finish(struct fl_strategy *strategy, struct fl_model **ret_model,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *out = NULL;
    int64_t needed = fl_strategy_min_updates(strategy);
    int r;

    if (strategy->sums.updates < needed)
        return fl_error_set(err, FL_E_INVALID, "%s needs %" PRId64 " updates and has %" PRId64,
                            strategy->rule->name, needed, strategy->sums.updates);
    r = begin_next(strategy->base, &out, err);
    if (r == 0)
        r = fl_strategy_is_sum(strategy) ? strategy->rule->step(strategy, out, err)
                                         : strategy->rule->reduce(strategy, out, err);
    if (r == 0)
        r = fl_model_check_finite(out, err);
    if (r == 0)
        fl_model_note_all(out, strategy->base);
    if (r < 0) {
        fl_model_unref(FL_TAKE(strategy->next_state));
        return r;
    }
    if (strategy->next_state) {
        fl_model_unref(strategy->state);
        strategy->state = FL_TAKE(strategy->next_state);
    }
    fl_strategy_abandon(strategy);
    *ret_model = FL_TAKE(out);
    return 0;
}

/* Tiers: a partial sum is the exact sums, with the numbers beside them as notes. */

static void note_scalar(struct fl_model *model, const char *key, const struct fl_exact_scalar *sum)
{
    unsigned __int128 fixed = (unsigned __int128)sum->fixed;
    char text[40];

    (void)snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64, (uint64_t)(fixed >> 64),
                   (uint64_t)fixed);
    fl_model_note(model, key, sum->overflow ? "overflow" : text);
}

static bool read_hex(const char *text, uint64_t *ret_value)
{
    *ret_value = 0;
    for (size_t i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef", *digit = text[i] ? strchr(digits, text[i]) : NULL;

        if (!digit)
            return false;
        *ret_value = *ret_value << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

static bool read_scalar(const struct fl_model *model, const char *key, struct fl_exact_scalar *sum)
{
    const char *text = fl_model_get_note(model, key);
    uint64_t high, low;

    if (!text || strlen(text) != 32 || !read_hex(text, &high) || !read_hex(text + 16, &low))
        return false;
    sum->fixed = (__int128)((unsigned __int128)high << 64 | low);
    return true;
}

static void note_number(struct fl_model *model, const char *key, int64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    fl_model_note(model, key, text);
}

int fl_strategy_partial(struct fl_strategy *strategy, struct fl_model **ret_partial,
                        struct fl_error *err)
{
    int r;

    if (!strategy->sum)
        return fl_error_set(err, FL_E_INVALID, "%s has no partial sums", strategy->rule->name);
    r = fl_exact_partial(strategy->sum, ret_partial, err);
    if (r < 0)
        return r;
    fl_model_note(*ret_partial, "strategy", strategy->rule->name);
    note_number(*ret_partial, "bits", strategy->precision.bits);
    note_number(*ret_partial, "weight", fl_exact_weight(strategy->sum));
    note_number(*ret_partial, "updates", strategy->sums.updates);
    note_scalar(*ret_partial, "factors", &strategy->sums.factors);
    note_scalar(*ret_partial, "extra", &strategy->sums.extra);
    return 0;
}

static bool read_number(const struct fl_model *model, const char *key, int64_t *ret_value)
{
    const char *text = fl_model_get_note(model, key);

    return text && fl_str_to_int64(text, 0, INT64_MAX, ret_value);
}

int fl_strategy_add_partial(struct fl_strategy *strategy, const struct fl_model *partial,
                            struct fl_error *err)
{
    struct fl_round_sums sums = {0};
    int64_t bits, weight;
    int r;

    if (!strategy->sum)
        return fl_error_set(err, FL_E_INVALID, "%s takes no partial sums", strategy->rule->name);
    if (!fl_streq(fl_model_get_note(partial, "strategy"), strategy->rule->name) ||
        !read_number(partial, "bits", &bits) || bits != strategy->precision.bits)
        return fl_error_set(err, FL_E_INVALID, "a partial sum of another strategy or precision");
    if (!read_number(partial, "weight", &weight) ||
        !read_number(partial, "updates", &sums.updates) ||
        !read_scalar(partial, "factors", &sums.factors) ||
        !read_scalar(partial, "extra", &sums.extra) || sums.updates < 1 || sums.updates > weight)
        return fl_error_set(err, FL_E_INVALID, "a partial sum without its numbers");
    r = fl_exact_fold_partial(strategy->sum, partial, weight, err);
    if (r < 0)
        return r;
    fl_exact_scalar_merge(&strategy->sums.factors, &sums.factors);
    fl_exact_scalar_merge(&strategy->sums.extra, &sums.extra);
    strategy->sums.updates += sums.updates;
    return 0;
}

/* The server's own state */

struct fl_model *fl_strategy_state(const struct fl_strategy *strategy)
{
    return strategy->state ? fl_model_ref(strategy->state) : NULL;
}

int fl_strategy_restore(struct fl_strategy *strategy, const struct fl_model *state,
                        struct fl_error *err)
{
    struct fl_model *copy = NULL;
    int r = fl_model_check_finite(state, err);

    if (r == 0)
        r = fl_model_like(state, true, &copy, err);
    if (r < 0)
        return fl_error_wrap(err, "state of %s", strategy->rule->name);
    fl_model_unref(strategy->state);
    strategy->state = copy;
    return 0;
}
