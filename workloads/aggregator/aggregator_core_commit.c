/* The commit: a round's model, and what is remembered of it. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <stdio.h>
#include <string.h>

static int by_int(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int64_t median(int64_t *values, size_t count)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof(*values), by_int);
    return values[count / 2];
}

static void fill_status(struct fl_aggregator_core *core, const struct fl_finished *finished)
{
    struct fl_round_report *status = &core->status;
    struct attempt *attempt = &core->attempt;

    status->model = fl_arena_strdup(core->round_arena, finished->model);
    status->model_size = finished->size;
    status->train = metrics_of(core->round_arena, core->train_metrics);
    status->download_ms = median(attempt->download_ms, attempt->times);
    status->train_ms = median(attempt->train_ms, attempt->times);
    status->upload_ms = median(attempt->upload_ms, attempt->times);
    status->aggregate_ms = core->now_ms - attempt->last_fold_ms;
    status->total_ms = core->now_ms - core->round_start_ms;
    if (status->reported > 0)
        status->staleness_mean = (double)attempt->staleness_sum / (double)status->reported;
    status->phase = core->spec.evaluation.enabled && !core->tier.present ? FL_ROUND_EVALUATING
                                                                         : FL_ROUND_COMMITTED;
}

static void release(struct fl_aggregator_core *core, const char *digest)
{
    if (digest && *digest)
        act(core, FL_AGGREGATOR_RELEASE)->model = act_text(core, digest);
}

bool is_kept(const struct fl_aggregator_core *core, const char *digest)
{
    for (size_t i = 0; i < core->kept_count; i++)
        if (fl_streq(core->kept[i], digest))
            return true;
    return false;
}

/* By whatever else than that it was kept. */
static bool is_in_use(const struct fl_aggregator_core *core, const char *digest)
{
    return fl_streq(digest, core->model) || fl_streq(digest, core->state) ||
           (core->has_round && fl_streq(digest, core->spec.model)) ||
           (core->evaluation.deadline_ms > 0 && fl_streq(digest, core->evaluation.model));
}

static void drop_kept(struct fl_aggregator_core *core, size_t at)
{
    memmove(core->kept + at, core->kept + at + 1, (--core->kept_count - at) * sizeof(*core->kept));
}

/* Whatever this core begins with or makes goes through here, and leaves as the oldest of more than
 * are wanted; what is used just now stays. */
void keep_model(struct fl_aggregator_core *core, const char *digest)
{
    bool late = core->has_round && core->spec.mode != FL_MODE_SYNC;
    int64_t rounds = late ? core->spec.staleness.max_rounds : 0;
    size_t most = (size_t)(core->options.keep_models + (rounds < PAST_MAX ? rounds : PAST_MAX));

    most *= *core->state ? 2 : 1; /* each with its state */

    for (size_t i = 0; i < core->kept_count; i++)
        if (fl_streq(core->kept[i], digest))
            drop_kept(core, i--); /* it becomes the newest */
    core->kept = fl_realloc(core->kept, (core->kept_count + 1) * sizeof(*core->kept));
    (void)snprintf(core->kept[core->kept_count++], FL_DIGEST_SIZE, "%s", digest);
    if (core->finishing > 0) /* what is being made may be one that was made before */
        return;
    for (size_t i = 0; core->kept_count > most && i + 1 < core->kept_count;) {
        if (is_in_use(core, core->kept[i])) {
            i++;
            continue;
        }
        release(core, core->kept[i]);
        drop_kept(core, i);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What late updates could otherwise repeat. */
static void remember_counted(struct fl_aggregator_core *core)
{
    int64_t oldest = core->spec.round - core->spec.staleness.max_rounds;
    void *cursor = NULL, *value;
    const char *key;

    while (fl_map_next(core->counted, &cursor, &key, &value))
        if (strtoll(key, NULL, 10) < oldest)
            fl_map_remove(core->counted, key);
    if (core->spec.mode == FL_MODE_SYNC)
        return;
    cursor = NULL;
    while (fl_map_next(core->attempt.counted, &cursor, &key, &value))
        fl_map_put(core->counted, key, core);
}

static void remember_commit(struct fl_aggregator_core *core, const struct fl_finished *finished,
                            const char *rule)
{
    struct attempt *attempt = &core->attempt;
    size_t contributors = core->tier.present ? attempt->contributor_count : 0; /* for the parent */
    struct fl_arena *arena = fl_arena_create();
    struct past_base *past;

    core->committed = core->spec.round;
    (void)snprintf(core->model, sizeof(core->model), "%s", finished->model);
    if (*core->state)
        keep_model(core, core->state); /* as one that leaves in its turn */
    (void)snprintf(core->state, sizeof(core->state), "%s", fl_str_or(finished->state, ""));
    (void)snprintf(core->rule, sizeof(core->rule), "%s", finished->state ? rule : "");
    core->model_size = finished->size;
    core->contributors =
        (struct fl_texts){fl_new_array(arena, const char *, contributors + 1), contributors};
    for (size_t i = 0; i < contributors; i++)
        core->contributors.items[i] = fl_arena_strdup(arena, attempt->contributors[i]);
    fl_arena_destroy(core->committed_arena);
    core->committed_arena = arena;
    remember_counted(core);
    if (core->past_count == PAST_MAX)
        memmove(core->past, core->past + 1, --core->past_count * sizeof(*core->past));
    past = &core->past[core->past_count++];
    past->round = core->spec.round;
    (void)snprintf(past->digest, sizeof(past->digest), "%s", core->spec.model);
}

/* Who is in the sum of a parent's round is who was in any step of it: counted here, they are not
 * counted elsewhere. Sorted, each once. */
static void add_earlier_steps(struct fl_aggregator_core *core)
{
    struct attempt *attempt = &core->attempt;
    bool first =
        !core->tier.present || (core->spec.round - 1) % core->tier.rounds_per_parent_round == 0;
    size_t earlier = first ? 0 : core->contributors.count, all = 0;
    size_t count = attempt->contributor_count + earlier;
    const char **names = fl_new_array(attempt->arena, const char *, count + 1);

    for (size_t i = 0; i < attempt->contributor_count; i++)
        names[i] = attempt->contributors[i];
    for (size_t i = 0; i < earlier; i++)
        names[attempt->contributor_count + i] =
            fl_arena_strdup(attempt->arena, core->contributors.items[i]);
    if (count > 1)
        qsort(names, count, sizeof(char *), by_text);
    for (size_t i = 0; i < count; i++)
        if (all == 0 || !fl_streq(names[all - 1], names[i]))
            names[all++] = names[i];
    attempt->contributors = names;
    attempt->contributor_count = attempt->contributor_cap = all;
}

static void commit(struct fl_aggregator_core *core, const struct fl_finished *finished)
{
    struct attempt *attempt = &core->attempt;
    struct fl_record record = {.kind = FL_RECORD_COMMIT,
                               .round = core->spec.round,
                               .attempt = core->attempt_number,
                               .model = finished->model,
                               .state = finished->state,
                               .model_size = finished->size};
    char rule[FL_DIGEST_SIZE];

    add_earlier_steps(core);
    fill_status(core, finished);
    touch(core);
    digest_rule(core, rule);
    record.rule = finished->state ? rule : NULL;
    record.status = core->status;
    if (core->tier.present)
        record.contributors = (struct fl_texts){attempt->contributors, attempt->contributor_count};
    journal(core, &record);
    remember_commit(core, finished, rule);
    keep_model(core, finished->model);
    fl_oort_round_done(&core->oort, attempt->utility);
    attempt->ticket = 0;
    if (core->tier.present)
        next_parent_step(core);
    else if (core->spec.evaluation.enabled)
        start_evaluation(core, core->model, core->model_size, core->spec.round,
                         core->spec.evaluation.deadline_ms, false);
}

/* Of an attempt that is over. It may well be what the next one makes: it leaves in its turn. */
static void keep_unwanted(struct fl_aggregator_core *core, const struct fl_finished *finished)
{
    if (!finished)
        return;
    keep_model(core, finished->model);
    if (finished->state)
        keep_model(core, finished->state);
}

void fl_aggregator_finished(struct fl_aggregator_core *core, int64_t now_ms, uint64_t ticket,
                            const struct fl_finished *finished, const struct fl_error *err)
{
    core->now_ms = now_ms;
    core->finishing--;
    if (ticket != core->attempt.ticket || core->status.phase != FL_ROUND_AGGREGATING) {
        keep_unwanted(core, finished);
        return;
    }
    if (err)
        fail_attempt(core, "AggregationFailed", err->msg, true);
    else
        commit(core, finished);
    advance(core);
}
