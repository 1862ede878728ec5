/* What aggregators' cores ask for: journals, strategies, uploads, parents. */
#include "workloads/aggregator/sim/rig.h"

#include "lib/str.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- journals --- */

/* The audit reads what was durable; BEGIN adds to the record of its attempt. */
static void to_ledger(struct rig_world *world, struct rig_node *node, const char *text, size_t len)
{
    const char *end = text + len;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        json_t *record = NULL;

        if (!newline)
            return;
        if (fl_json_parse(text + 9, (size_t)(newline - text) - 9, NULL, NULL, NULL, &record, NULL) <
            0)
            rig_fail(world, "%s writes what cannot be read", node->id);
        else
            json_array_append_new(node->ledger, record);
        text = newline + 1;
    }
}

static void write_journal(struct rig_world *world, struct rig_node *node,
                          const struct fl_bytes *lines)
{
    node->journal_synced = node->journal.len;
    node->ledger_synced = json_array_size(node->ledger);
    fl_buf_append(&node->journal, lines->data, lines->len);
    to_ledger(world, node, lines->data, lines->len);
    rig_say(world, node, "journal %.*s", (int)lines->len - 1, lines->data);
}

static void copy_without_counted(struct fl_buf *out, const struct fl_bytes *text)
{
    const char *line = text->data, *end = line + text->len;

    while (line < end) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t len = (size_t)(newline + 1 - line);

        if (!memmem(line, len, "\"Counted\"", 9))
            fl_buf_append(out, line, len);
        line = newline + 1;
    }
}

/* What replaces the journal must mean the same. */
static void replace_journal(struct rig_world *world, struct rig_node *node,
                            const struct fl_bytes *text, bool torn)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state old, new;
    struct fl_error err = {0};
    struct fl_buf content;

    fl_buf_init(&content, 0);
    if (world->bug == RIG_BUG_REPLACE_FORGETS)
        copy_without_counted(&content, text);
    else
        fl_buf_append(&content, text->data, torn ? text->len / 2 : text->len);
    if (fl_journal_replay(arena, node->journal.data, node->journal.len, &old, &err) < 0 ||
        fl_journal_replay(arena, content.data, content.len, &new, &err) < 0)
        rig_fail(world, "%s: replaced: %s", node->id, err.msg);
    else if (!torn)
        rig_compare_journals(world, node, &old, &new);
    fl_buf_finish(&node->journal);
    node->journal = content;
    node->journal_synced = content.len;
    node->ledger_synced = json_array_size(node->ledger);
    world->totals.replacements++;
    rig_say(world, node, "journal replaced: %zu bytes", content.len);
}

/* Death in the middle of it: before, torn, or just done. */
static void die_writing(struct rig_world *world, struct rig_node *node,
                        const struct fl_aggregator_action *action)
{
    const struct fl_bytes *body = action->body;

    if (action->kind == FL_AGGREGATOR_JOURNAL && rig_chance(world, 500)) {
        size_t torn = (size_t)rig_below(world, (int64_t)body->len);

        node->journal_synced = node->journal.len;
        fl_buf_append(&node->journal, body->data, torn);
        to_ledger(world, node, body->data, torn); /* its whole lines are there */
    } else if (action->kind == FL_AGGREGATOR_JOURNAL && rig_chance(world, 500)) {
        write_journal(world, node, body);
    } else if (action->kind == FL_AGGREGATOR_JOURNAL_REPLACE && rig_chance(world, 500)) {
        replace_journal(world, node, body, world->bug == RIG_BUG_REPLACE_TORN);
    }
    rig_crash(world, node);
}

/* --- blobs that two cores need, as the program has them --- */

void rig_hold(struct rig_node *node, const char *digest, uintptr_t who)
{
    fl_map_put(node->held, digest, (void *)((uintptr_t)fl_map_get(node->held, digest) | who));
}

void rig_release(struct rig_node *node, const char *digest, uintptr_t who)
{
    uintptr_t left = (uintptr_t)fl_map_get(node->held, digest) & ~who;

    (void)fl_map_remove(node->held, digest);
    if (left)
        fl_map_put(node->held, digest, (void *)left);
    else if (who == RIG_HELD_BY_CORE || !fl_aggregator_needs(node->aggregator, digest))
        (void)fl_map_remove(node->files, digest);
}

static bool is_needed(const struct rig_node *node, const char *digest)
{
    return fl_map_get(node->held, digest) || fl_aggregator_needs(node->aggregator, digest);
}

static void release(struct rig_world *world, struct rig_node *node, const char *digest)
{
    if (world->bug == RIG_BUG_NEVER_RELEASED)
        return;
    rig_say(world, node, "releases %s", digest);
    rig_release(node, digest, RIG_HELD_BY_CORE);
    if (world->bug == RIG_BUG_RELEASED_EARLY)
        (void)fl_map_remove(node->files, node->fresh);
}

/* --- strategies, as folding.c has them --- */

void rig_use_rule(struct fl_strategy_options *options, const struct fl_strategy_spec *spec)
{
    fl_strategy_options_init(options, spec->name);
    options->server_learning_rate = spec->server_learning_rate;
    options->byzantine_learners = spec->byzantine_learners;
    options->norm_bound = 0.7;
    options->local_learning_rate = 0.01;
}

static void use_strategy(struct rig_world *world, struct rig_node *node,
                         const struct fl_aggregator_begin *begin)
{
    const char *state = fl_str_or(begin->state, "");
    bool fresh = !node->strategy;
    struct fl_strategy_options options;
    struct fl_error err = {0};
    char rule[64];

    (void)snprintf(rule, sizeof(rule), "%s %g", begin->strategy->name,
                   begin->strategy->server_learning_rate);
    if (!fresh && fl_streq(rule, node->rule) &&
        (world->bug == RIG_BUG_STATE_RUNS_ON || fl_streq(state, node->state)))
        return;
    fl_strategy_destroy(FL_TAKE(node->strategy));
    rig_use_rule(&options, begin->strategy);
    memcpy(node->rule, rule, sizeof(rule));
    (void)snprintf(node->state, sizeof(node->state), "%s", state);
    if (fl_strategy_create(&options, &node->strategy, &err) < 0)
        rig_fail(world, "strategy: %s", err.msg);
    if (!*state || (fresh && world->bug == RIG_BUG_STATE_LOST))
        return;
    if (!fl_map_get(node->files, state))
        rig_fail(world, "%s: the strategy's state is not there", node->id);
    else if (fl_strategy_restore(node->strategy, fl_map_get(node->files, state), &err) < 0)
        rig_fail(world, "%s: %s", node->id, err.msg);
}

/* Records that wait together are written together: others may follow it already. */
static json_t *last_attempt(const struct rig_node *node)
{
    for (size_t i = json_array_size(node->ledger); i-- > 0;)
        if (!fl_streq(fl_json_str(json_array_get(node->ledger, i), "kind"), "Attempt"))
            continue;
        else if (!json_object_get(json_array_get(node->ledger, i), "begin"))
            return json_array_get(node->ledger, i);
        else
            break;
    return NULL;
}

static void note_begin(struct rig_node *node, const struct fl_aggregator_begin *begin)
{
    json_t *attempt = last_attempt(node);
    json_t *facts = json_object();

    json_object_set_new(facts, "rangeBits", json_integer(begin->precision.range_bits));
    json_object_set_new(facts, "bits", json_integer(begin->precision.bits));
    json_object_set_new(facts, "maxWeight", json_integer(begin->precision.max_weight));
    json_object_set_new(facts, "maxExamples", json_integer(begin->max_examples));
    json_object_set_new(facts, "base", json_string(begin->base));
    json_object_set_new(facts, "partial", json_boolean(begin->partial));
    json_object_set_new(attempt, "begin", facts);
}

static struct fl_model *base_of(struct rig_world *world, struct rig_node *node,
                                const struct fl_aggregator_begin *begin, int64_t round)
{
    const char *base = begin->base;

    if (world->bug == RIG_BUG_STEP_LEFT_OUT && begin->partial && world->inner > 1) {
        if (round % 2 == 1)
            (void)snprintf(node->first_base, sizeof(node->first_base), "%s", base);
        else if (fl_map_get(node->files, node->first_base))
            base = node->first_base;
    }
    return fl_map_get(node->files, base);
}

static int begin_sum(struct rig_world *world, struct rig_node *node,
                     const struct fl_aggregator_begin *begin, struct fl_model *base,
                     struct fl_error *err)
{
    struct fl_exact_precision precision = {(unsigned)begin->precision.range_bits,
                                           (unsigned)begin->precision.bits,
                                           begin->precision.max_weight};
    int64_t most = world->bug == RIG_BUG_SHARE_IGNORED ? 0 : begin->max_examples;

    if (world->bug == RIG_BUG_OWN_PRECISION && node->role == RIG_TIER)
        precision.bits -= 2;
    use_strategy(world, node, begin);
    if (!node->strategy)
        return fl_error_set(err, FL_E_INVALID, "no such strategy");
    if (node->outlived && fl_strategy_update_count(node->outlived) > 0) {
        fl_strategy_destroy(node->strategy);
        node->strategy = FL_TAKE(node->outlived);
        return 0;
    }
    return fl_strategy_begin(node->strategy, base, &precision, most, err);
}

static void do_begin(struct rig_world *world, struct rig_node *node,
                     const struct fl_aggregator_action *action)
{
    struct rig_event done =
        rig_event_for(world, RIG_BEGUN, rig_index(world, node), 1 + rig_below(world, 50));
    const json_t *attempt = last_attempt(node);
    struct fl_model *base = base_of(world, node, &action->begin, fl_json_int(attempt, "round", 0));

    done.ticket = action->ticket;
    note_begin(node, &action->begin);
    node->began = true;
    if (!base)
        rig_fail(world, "%s begins with a model that is not there", node->id);
    else
        done.failed = begin_sum(world, node, &action->begin, base, &done.err) < 0;
    rig_push(world, done);
}

static void do_fold(struct rig_world *world, struct rig_node *node,
                    const struct fl_aggregator_action *action, const char *key)
{
    struct rig_event done =
        rig_event_for(world, RIG_FOLDED, rig_index(world, node), 1 + rig_below(world, 50));
    const struct fl_aggregator_fold *fold = &action->fold;
    const struct rig_staged *staged = fl_map_get(node->staged, key);
    struct fl_update_facts facts = {.learner = fold->learner,
                                    .examples = fold->examples,
                                    .steps = fold->steps,
                                    .loss = fold->loss_before,
                                    .staleness = fold->staleness,
                                    .base = fl_map_get(node->files, fold->base)};
    int times = world->bug == RIG_BUG_LATE_TWICE && fold->staleness > 0 ? 2 : 1;

    done.ticket = action->ticket;
    if (!staged || !staged->model || !facts.base) {
        rig_fail(world, "%s folds what is not there", node->id);
        return;
    }
    if (!fl_streq(staged->digest, fold->digest))
        rig_fail(world, "%s folds another upload", node->id);
    world->totals.late += fold->staleness > 0;
    for (int i = 0; i < times; i++)
        if (fold->partial)
            (void)fl_strategy_add_partial(node->strategy, staged->model, &done.err);
        else
            (void)fl_strategy_add(node->strategy, staged->model, &facts, &done.err);
    done.failed = done.err.code != 0;
    rig_push(world, done);
}

static void save_state(struct rig_world *world, struct rig_node *node, struct rig_event *done)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *state = fl_strategy_state(node->strategy);

    if (state)
        rig_put_file(world, node, state, FL_DIGEST_SHA256, done->state);
    memcpy(node->state, done->state, sizeof(node->state));
}

static void do_finish(struct rig_world *world, struct rig_node *node,
                      const struct fl_aggregator_action *action)
{
    struct rig_event done =
        rig_event_for(world, RIG_FINISHED, rig_index(world, node), 1 + rig_below(world, 3000));
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    bool partial = action->kind == FL_AGGREGATOR_PARTIAL;
    int r = partial ? fl_strategy_partial(node->strategy, &model, &done.err)
                    : fl_strategy_finish(node->strategy, &model, &done.err);

    done.ticket = action->ticket;
    done.failed = r < 0;
    if (!partial)
        (void)snprintf(node->state, sizeof(node->state), "?");
    if (r == 0) {
        rig_put_file(world, node, model, partial ? FL_DIGEST_XXH128 : FL_DIGEST_SHA256,
                     done.digest);
        memcpy(node->fresh, done.digest, sizeof(node->fresh));
        done.upload = (uint64_t)rig_file_size(model);
    }
    if (r == 0 && !partial)
        save_state(world, node, &done);
    rig_push(world, done);
}

/* --- the rest --- */

static void do_adopt(struct rig_world *world, struct rig_node *node,
                     const struct fl_aggregator_action *action, const char *key)
{
    struct rig_event done =
        rig_event_for(world, RIG_ADOPTED, rig_index(world, node), 1 + rig_below(world, 100));
    FL_CLEANUP(fl_model_unrefp) struct fl_model *wanted = rig_first_model(world);
    const struct rig_staged *staged = fl_map_get(node->staged, key);
    char digest[FL_DIGEST_SIZE];

    fl_model_digest(wanted, digest);
    done.ticket = action->ticket;
    if (!staged || !staged->model || !fl_streq(staged->digest, action->digest))
        rig_fail(world, "%s adopts what is not there", node->id);
    else if (!fl_streq(digest, action->digest) || action->size != rig_file_size(wanted))
        rig_fail(world, "%s adopts another model than the seed's", node->id);
    else if (rig_chance(world, 100))
        done.failed = fl_error_set(&done.err, FL_E_INVALID, "it is none") < 0;
    else
        rig_put_file(world, node, staged->model, FL_DIGEST_SHA256, done.digest);
    rig_push(world, done);
}

static void do_expect(struct rig_node *node, const struct fl_aggregator_action *action,
                      const char *key)
{
    struct rig_staged *staged = fl_calloc(1, sizeof(*staged));

    (void)snprintf(staged->digest, sizeof(staged->digest), "%s", action->digest);
    fl_map_put(node->staged, key, staged);
}

static void parent_trained(struct rig_world *world, struct rig_node *node,
                           const struct fl_offer *offer)
{
    struct fl_offer told = *offer;
    const char *name = node->id;

    if (world->bug == RIG_BUG_MOVED_TWICE) /* nobody above sees who is in it */
        told.contributors = (struct fl_texts){&name, 1};
    rig_hold(node, offer->digest, RIG_HELD_BY_UPLINK);
    fl_learner_trained(node->learner, world->now, node->parent_ticket, &told);
}

static void do_parent_result(struct rig_world *world, struct rig_node *node,
                             const struct fl_parent_result *result)
{
    struct fl_error err;

    if (!node->parent_ticket)
        return;
    if (!result->ok) {
        (void)fl_error_set(&err, FL_E_UNAVAILABLE, "%s", fl_str_or(result->message, "failed"));
        fl_learner_failed(node->learner, world->now, node->parent_ticket, result->reason, &err);
    } else if (result->evaluation) {
        fl_learner_evaluated(node->learner, world->now, node->parent_ticket, &result->result);
    } else {
        parent_trained(world, node, &result->offer);
    }
}

static void do_action(struct rig_world *world, struct rig_node *node,
                      const struct fl_aggregator_action *action, const char *key)
{
    switch (action->kind) {
    case FL_AGGREGATOR_REPLY:
        rig_send_reply(world, action->request, action->http_status, action->body);
        break;
    case FL_AGGREGATOR_JOURNAL:
        write_journal(world, node, action->body);
        break;
    case FL_AGGREGATOR_JOURNAL_REPLACE:
        replace_journal(world, node, action->body, false);
        break;
    case FL_AGGREGATOR_CUT:
        if (world->bug != RIG_BUG_TAIL_STAYS)
            node->journal.len = (size_t)action->size;
        break;
    case FL_AGGREGATOR_BEGIN:
        do_begin(world, node, action);
        break;
    case FL_AGGREGATOR_EXPECT:
        do_expect(node, action, key);
        break;
    case FL_AGGREGATOR_DISCARD:
        (void)fl_map_remove(node->staged, key);
        break;
    case FL_AGGREGATOR_FOLD:
        do_fold(world, node, action, key);
        break;
    case FL_AGGREGATOR_ADOPT:
        do_adopt(world, node, action, key);
        break;
    case FL_AGGREGATOR_FINISH:
    case FL_AGGREGATOR_PARTIAL:
        do_finish(world, node, action);
        break;
    case FL_AGGREGATOR_ABANDON:
        if (node->strategy)
            fl_strategy_abandon(node->strategy);
        break;
    case FL_AGGREGATOR_RELEASE:
        release(world, node, action->model);
        break;
    case FL_AGGREGATOR_SWEEP:
        if (world->bug != RIG_BUG_NEVER_RELEASED)
            rig_sweep(node, is_needed);
        break;
    case FL_AGGREGATOR_PARENT_RESULT:
        do_parent_result(world, node, &action->parent);
        break;
    case FL_AGGREGATOR_MEMBERS:
        fl_learner_declare(node->learner, world->now, action->examples, action->learners);
        break;
    case FL_AGGREGATOR_STOPPED:
        node->ended = true;
        break;
    }
}

/* Where deaths are worth most. */
static unsigned dangerous(enum fl_aggregator_action_kind kind)
{
    return kind == FL_AGGREGATOR_JOURNAL_REPLACE ? 8 : kind == FL_AGGREGATOR_EXPECT ? 3 : 1;
}

bool rig_do_aggregator(struct rig_world *world, struct rig_node *node,
                       const struct fl_aggregator_action *action)
{
    char key[24];

    if (rig_chance(world, world->crash * dangerous(action->kind))) {
        die_writing(world, node, action);
        return false;
    }
    (void)snprintf(key, sizeof(key), "%" PRIu64,
                   world->bug == RIG_BUG_UPLOADS_MIXED ? action->upload & 0xffff : action->upload);
    do_action(world, node, action, key);
    return true;
}
