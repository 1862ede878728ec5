/* What must be true at the end, by other means than the cores' own: every sum of every aggregator
 * is made again from the records that say what was accepted, the root's also flat. */
#include "workloads/aggregator/sim/rig.h"

#include "lib/str.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- journals --- */

static bool has_counted(const struct fl_journal_state *state, const struct fl_counted *counted)
{
    for (size_t i = 0; i < state->counted_count; i++)
        if (state->counted[i].work_round == counted->work_round &&
            fl_streq(state->counted[i].learner, counted->learner))
            return true;
    return false;
}

static bool has_text(const struct fl_texts *texts, const char *text)
{
    for (size_t i = 0; i < texts->count; i++)
        if (fl_streq(texts->items[i], text))
            return true;
    return false;
}

static bool has_lists(const struct fl_journal_state *a, const struct fl_journal_state *b)
{
    bool has = true;

    for (size_t i = 0; has && i < b->counted_count; i++)
        has = has_counted(a, &b->counted[i]);
    for (size_t i = 0; has && i < b->holders.count; i++)
        has = has_text(&a->holders, b->holders.items[i]);
    for (size_t i = 0; has && i < b->contributors.count; i++)
        has = has_text(&a->contributors, b->contributors.items[i]);
    return has;
}

void rig_compare_journals(struct rig_world *world, struct rig_node *node,
                          const struct fl_journal_state *old, const struct fl_journal_state *new)
{
    if (new->life != old->life || new->committed != old->committed ||
        !fl_streq(new->model, old->model) || !fl_streq(new->state, old->state) ||
        !fl_streq(new->rule, old->rule) || new->has_round != old->has_round ||
        new->spec.round != old->spec.round || new->spec.run != old->spec.run ||
        !fl_streq(new->spec.model, old->spec.model) || !fl_streq(new->origin, old->origin) ||
        !fl_streq(new->work, old->work) || new->attempt != old->attempt || new->done != old->done ||
        new->evaluated != old->evaluated || new->failed != old->failed ||
        !fl_streq(new->base, old->base) || new->base_size != old->base_size ||
        new->stopped != old->stopped || new->status.phase != old->status.phase ||
        !fl_streq(new->status.model, old->status.model))
        rig_fail(world, "%s: a replaced journal says something else", node->id);
    else if (!has_lists(old, new) || !has_lists(new, old))
        rig_fail(world, "%s: a replaced journal forgets whom it knew", node->id);
}

static void audit_journal(struct rig_world *world, struct rig_node *node)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state state, again;
    struct fl_error err = {0};
    struct fl_buf compact;

    if (fl_journal_replay(arena, node->journal.data, node->journal.len, &state, &err) < 0) {
        rig_fail(world, "%s: %s", node->id, err.msg);
        return;
    }
    if (state.committed > 0 && !fl_map_get(node->files, state.model))
        rig_fail(world, "%s: a committed model is not there", node->id);
    if (state.state && !fl_map_get(node->files, state.state))
        rig_fail(world, "%s: a committed state is not there", node->id);
    fl_buf_init(&compact, 0);
    fl_journal_compact(&compact, &state);
    if (fl_journal_replay(arena, compact.data, compact.len, &again, &err) < 0)
        rig_fail(world, "%s: compacted: %s", node->id, err.msg);
    else
        rig_compare_journals(world, node, &state, &again);
    fl_buf_finish(&compact);
}

/* --- one aggregator's sums --- */

struct audit {
    struct rig_world *world;
    struct rig_node *node;
    const json_t *spec, *attempt; /* records */
    size_t attempt_at;
    json_t *accepts; /* of the attempt */
    struct fl_model *state;
    char rule[64];
    int64_t committed;
    char bases[RIG_ROUNDS_MAX * 2 + 2][FL_DIGEST_SIZE];
};

static struct rig_node *node_named(struct rig_world *world, const char *id)
{
    for (int i = 0; i < world->node_count; i++)
        if (fl_streq(world->nodes[i].id, id))
            return &world->nodes[i];
    return NULL;
}

static void rule_of(const json_t *record, struct fl_strategy_options *options, char text[64])
{
    const json_t *strategy = json_object_get(json_object_get(record, "spec"), "strategy");
    const json_t *rate = json_object_get(strategy, "serverLearningRate");
    struct fl_strategy_spec rule = {
        .name = fl_json_str(strategy, "name"),
        .server_learning_rate = rate ? json_number_value(rate) : (double)NAN,
        .byzantine_learners = fl_json_int(strategy, "byzantineLearners", -1)};

    rig_use_rule(options, &rule);
    (void)snprintf(text, 64, "%s %g", rule.name, rule.server_learning_rate);
}

static struct fl_strategy *begin_again(struct audit *audit, const struct fl_model *state)
{
    const json_t *facts = json_object_get(audit->attempt, "begin");
    const struct fl_exact_precision precision = {(unsigned)fl_json_int(facts, "rangeBits", 0),
                                                 (unsigned)fl_json_int(facts, "bits", 0),
                                                 fl_json_int(facts, "maxWeight", 0)};
    struct fl_model *base = fl_map_get(audit->world->archive, fl_json_str(facts, "base"));
    struct fl_strategy_options options;
    struct fl_strategy *strategy = NULL;
    struct fl_error err = {0};
    char rule[64];

    rule_of(audit->spec, &options, rule);
    if (!base || fl_strategy_create(&options, &strategy, &err) < 0 ||
        (state && fl_streq(rule, audit->rule) && fl_strategy_restore(strategy, state, &err) < 0) ||
        fl_strategy_begin(strategy, base, &precision, fl_json_int(facts, "maxExamples", 0), &err) <
            0)
        rig_fail(audit->world, "recomputed: %s", err.msg);
    return strategy;
}

static int64_t weighed(const json_t *spec, int64_t examples, int64_t staleness)
{
    if (staleness == 0 || !fl_streq(fl_json_str(spec, "spec.mode"), "SemiSync"))
        return examples;
    return (int64_t)fmax(1, floor((double)examples * pow(1.0 + (double)staleness, -0.5)));
}

/* A contribution, made anew. */
static void add_again(struct audit *audit, struct fl_strategy *strategy, const char *learner,
                      int64_t work_round)
{
    struct rig_world *world = audit->world;
    const struct rig_node *node = node_named(world, learner);
    int64_t round = fl_json_int(audit->spec, "round", 0);
    const char *now = fl_json_str(audit->attempt, "begin.base");
    struct fl_model *base =
        fl_map_get(world->archive, work_round == round ? now : audit->bases[work_round]);
    int64_t seed = fl_protocol_seed(rig_project_seed(world), work_round, learner);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *update = NULL;
    struct fl_update_facts facts;
    struct fl_error err = {0};

    if (!node || !base) {
        rig_fail(world, "%s or the base of its round is not known", learner);
        return;
    }
    facts = (struct fl_update_facts){.learner = learner,
                                     .examples =
                                         weighed(audit->spec, node->examples, round - work_round),
                                     .steps = rig_steps(node->examples),
                                     .loss = rig_loss(seed),
                                     .staleness = round - work_round,
                                     .base = base};
    if (node->nature == RIG_NOT_FINITE)
        rig_fail(world, "NaN of %s is counted", learner);
    update = rig_train(base, seed);
    if (fl_strategy_add(strategy, update, &facts, &err) < 0)
        rig_fail(world, "recomputed: %s of %s", err.msg, learner);
}

static void add_accepted(struct audit *audit, struct fl_strategy *strategy, const json_t *accept)
{
    struct fl_error err = {0};

    if (!json_object_get(accept, "contributors"))
        add_again(audit, strategy, fl_json_str(accept, "learner"),
                  fl_json_int(accept, "workRound", 0));
    else if (fl_strategy_add_partial(
                 strategy, fl_map_get(audit->world->archive, fl_json_str(accept, "digest")), &err) <
             0)
        rig_fail(audit->world, "recomputed: %s", err.msg);
}

static bool is_last_step(const json_t *spec)
{
    int64_t steps = fl_json_int(spec, "tier.roundsPerParentRound", 1);

    return json_object_get(spec, "tier") && fl_json_int(spec, "round", 0) % steps == 0;
}

static void remember_state(struct audit *audit, const struct fl_strategy *strategy, bool partial)
{
    struct fl_strategy_options options;

    fl_model_unref(audit->state);
    audit->state = partial ? NULL : fl_strategy_state(strategy);
    rule_of(audit->spec, &options, audit->rule);
}

static void check_sum(struct audit *audit, struct fl_strategy *strategy, const json_t *commit)
{
    bool partial = is_last_step(audit->spec);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_error err = {0};
    char digest[FL_DIGEST_SIZE];
    int r = partial ? fl_strategy_partial(strategy, &model, &err)
                    : fl_strategy_finish(strategy, &model, &err);

    if (r < 0) {
        rig_fail(audit->world, "recomputed: %s", err.msg);
        return;
    }
    fl_model_digest_by(model, partial ? FL_DIGEST_XXH128 : FL_DIGEST_SHA256, digest);
    if (!fl_streq(digest, fl_json_str(commit, "model")))
        rig_fail(audit->world, "%s: round %" PRId64 " committed other bits than its sum",
                 audit->node->id, fl_json_int(commit, "round", 0));
    remember_state(audit, strategy, partial);
}

/* --- who is in it --- */

/* The attempt of `node` that ended with this partial sum, and the records before it. */
static bool find_commit(const struct rig_node *node, const char *digest, size_t *ret_at)
{
    for (size_t i = json_array_size(node->ledger); i-- > 0;) {
        const json_t *record = json_array_get(node->ledger, i);

        if (fl_streq(fl_json_str(record, "kind"), "Commit") &&
            fl_streq(fl_json_str(record, "model"), digest)) {
            *ret_at = i;
            return true;
        }
    }
    return false;
}

static bool is_kind(const json_t *record, const char *kind)
{
    return fl_streq(fl_json_str(record, "kind"), kind);
}

/* A walk from a commit of the root's down to the learners in it. */
struct walk {
    struct rig_world *world;
    int64_t round; /* of who committed */
    size_t item;   /* of what it summed up, from 1 */
    struct fl_map *seen;
    struct audit *flat; /* with `strategy`: where each is added again */
    struct fl_strategy *strategy;
};

static void walk_down(const struct walk *walk, const json_t *accept, const struct rig_node *to);

/* The records of an attempt lie between it and its commit; a new life's begins another. */
static void walk_attempt(const struct walk *walk, const struct rig_node *node, size_t at)
{
    while (at-- > 0 && !is_kind(json_array_get(node->ledger, at), "Attempt")) {
        const json_t *record = json_array_get(node->ledger, at);

        if (is_kind(record, "Accept"))
            walk_down(walk, record, node);
    }
}

static const json_t *spec_before(const struct rig_node *node, size_t at)
{
    while (at-- > 0)
        if (is_kind(json_array_get(node->ledger, at), "Spec"))
            return json_array_get(node->ledger, at);
    return NULL;
}

/* A tier's steps for one work of its parent, the last first. */
static void walk_commit(const struct walk *walk, const struct rig_node *node, size_t at)
{
    const char *work = fl_json_str(spec_before(node, at), "work");
    int64_t round = fl_json_int(json_array_get(node->ledger, at), "round", 0) + 1;

    for (size_t i = at + 1; i-- > 0;) {
        const json_t *record = json_array_get(node->ledger, i);

        if (!is_kind(record, "Commit") || fl_json_int(record, "round", 0) != round - 1 ||
            !fl_streq(fl_json_str(spec_before(node, i), "work"), work))
            continue;
        walk_attempt(walk, node, i);
        round--;
    }
}

/* Once in a sum. Where tiers have several steps for one of their parent, whoever is in some of them
 * is so below one item only. */
static void see(const struct walk *walk, const char *learner, int64_t round)
{
    uintptr_t before;
    char key[48];

    (void)snprintf(key, sizeof(key), "%" PRId64 ":%s", round, learner);
    before = (uintptr_t)fl_map_get(walk->seen, key);
    if (before && !(walk->world->inner > 1 && before == walk->item))
        rig_fail(walk->world, "%s counts twice", key);
    fl_map_put(walk->seen, key, (void *)walk->item);
}

/* Down to the learners, by the tiers' own records and not by what they said of them. */
static void walk_down(const struct walk *walk, const json_t *accept, const struct rig_node *to)
{
    const char *from = fl_json_str(accept, "learner");
    const struct rig_node *node = node_named(walk->world, from);
    int64_t work_round = fl_json_int(accept, "workRound", 0);
    size_t at;

    if (node && node->role == RIG_LEARNER) {
        see(walk, from, to->role == RIG_ROOT ? work_round : walk->round);
        if (walk->strategy)
            add_again(walk->flat, walk->strategy, from, work_round);
    } else if (!node || !find_commit(node, fl_json_str(accept, "digest"), &at)) {
        rig_fail(walk->world, "%s handed up what it did not commit", from);
    } else {
        walk_commit(walk, node, at);
    }
}

/* Each learner once; at the root, where tiers only pass on, the bits of a flat sum. */
static void audit_flat(struct audit *audit, struct fl_map *seen, const json_t *commit,
                       const struct fl_model *state)
{
    struct rig_world *world = audit->world;
    bool plain = world->inner == 1 && audit->node->role == RIG_ROOT;
    FL_CLEANUP(fl_strategy_destroyp)
    struct fl_strategy *strategy = plain ? begin_again(audit, state) : NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    char digest[FL_DIGEST_SIZE];
    struct walk walk;
    json_t *accept;
    size_t i;

    walk = (struct walk){.world = world,
                         .round = fl_json_int(commit, "round", 0),
                         .seen = seen,
                         .flat = audit,
                         .strategy = strategy};
    json_array_foreach(audit->accepts, i, accept) {
        walk.item = i + 1;
        if (!*world->failure)
            walk_down(&walk, accept, audit->node);
    }
    if (!strategy || *world->failure || fl_strategy_finish(strategy, &model, NULL) < 0)
        return;
    fl_model_digest(model, digest);
    if (!fl_streq(digest, fl_json_str(commit, "model")))
        rig_fail(world, "round %" PRId64 " committed other bits than a flat sum",
                 fl_json_int(commit, "round", 0));
}

/* --- records --- */

static void audit_order(struct audit *audit, const json_t *commit)
{
    struct rig_world *world = audit->world;
    int64_t round = fl_json_int(commit, "round", 0);
    struct fl_round_order spec = rig_spec(world, round);
    int64_t reported = (int64_t)json_array_size(audit->accepts);

    if (round != audit->committed + 1)
        rig_fail(world, "round %" PRId64 " is committed after %" PRId64, round, audit->committed);
    audit->committed = round;
    if (reported < spec.participation.quorum)
        rig_fail(world, "round %" PRId64 " is committed without its quorum", round);
    if (fl_json_int(commit, "status.reported", 0) != reported)
        rig_fail(world, "round %" PRId64 " reports another number of updates", round);
    if (fl_json_int(commit, "status.learners", 0) < reported)
        rig_fail(world, "round %" PRId64 " reports fewer learners than updates", round);
    if (fl_json_int(commit, "status.asked", 0) < fl_json_int(commit, "status.selected", 0))
        rig_fail(world, "round %" PRId64 " asked fewer learners than members", round);
}

static void audit_commit(struct audit *audit, struct fl_map *seen, const json_t *commit)
{
    bool root = audit->node->role == RIG_ROOT;
    FL_CLEANUP(fl_model_unrefp)
    struct fl_model *state = audit->state ? fl_model_ref(audit->state) : NULL;
    FL_CLEANUP(fl_map_destroyp) struct fl_map *fresh = fl_map_create(NULL);
    FL_CLEANUP(fl_strategy_destroyp) struct fl_strategy *strategy = NULL;
    json_t *accept;
    size_t i;

    if (!audit->attempt || !json_object_get(audit->attempt, "begin")) {
        rig_fail(audit->world, "%s commits what it did not begin", audit->node->id);
        return;
    }
    if (root)
        audit_order(audit, commit);
    if (!*audit->world->failure)
        audit_flat(audit, root ? seen : fresh, commit, state);
    strategy = begin_again(audit, state);
    json_array_foreach(audit->accepts, i, accept)
        if (!*audit->world->failure)
            add_accepted(audit, strategy, accept);
    if (!*audit->world->failure)
        check_sum(audit, strategy, commit);
}

static void audit_status(struct rig_world *world, const json_t *spec, const json_t *record)
{
    const json_t *status = json_object_get(record, "status"), *excluded, *one;
    int64_t late = fl_json_int(status, "late", 0), dropped = fl_json_int(status, "dropped", 0);
    int64_t rejected = fl_json_int(status, "rejected", 0);
    size_t i;

    excluded = json_object_get(status, "excluded");
    json_array_foreach(excluded, i, one)
        if (!fl_json_str(one, "reason"))
            rig_fail(world, "someone is excluded without a reason");
    if ((int64_t)json_array_size(excluded) + fl_json_int(status, "excludedOmitted", 0) !=
        late + dropped + rejected)
        rig_fail(world, "exclusions are not those that are listed");
    if (fl_streq(fl_str_or(fl_json_str(spec, "spec.mode"), "Sync"), "Sync") &&
        is_kind(record, "Commit") &&
        fl_json_int(status, "selected", 0) !=
            fl_json_int(status, "reported", 0) + late + dropped + rejected)
        rig_fail(world, "of %" PRId64 " learners that were asked, some are unaccounted for",
                 fl_json_int(status, "selected", 0));
}

static void take_spec(struct audit *audit, const json_t *record)
{
    audit->spec = record;
    audit->attempt = NULL;
    json_array_clear(audit->accepts);
}

static void take_attempt(struct audit *audit, const json_t *record)
{
    int64_t round = fl_json_int(record, "round", 0);
    const char *base = fl_json_str(record, "begin.base");

    audit->attempt = record;
    json_array_clear(audit->accepts);
    if (base && round < (int64_t)FL_COUNT_OF(audit->bases))
        (void)snprintf(audit->bases[round], FL_DIGEST_SIZE, "%s", base);
}

static void take_record(struct audit *audit, struct fl_map *seen, json_t *record)
{
    if (is_kind(record, "Spec")) {
        take_spec(audit, record);
    } else if (is_kind(record, "Attempt")) {
        take_attempt(audit, record);
    } else if (is_kind(record, "Accept")) {
        json_array_append(audit->accepts, record);
    } else if (is_kind(record, "Commit")) {
        audit_commit(audit, seen, record);
    }
    if (json_object_get(record, "status"))
        audit_status(audit->world, audit->spec, record);
}

static void audit_node(struct rig_world *world, struct rig_node *node)
{
    struct audit audit = {.world = world, .node = node, .accepts = json_array()};
    FL_CLEANUP(fl_map_destroyp) struct fl_map *seen = fl_map_create(NULL);
    json_t *record;
    size_t i;

    json_array_foreach(node->ledger, i, record)
        if (!*world->failure)
            take_record(&audit, seen, record);
    if (node->role == RIG_ROOT && audit.committed != world->rounds)
        rig_fail(world, "%" PRId64 " of %" PRId64 " rounds were committed", audit.committed,
                 world->rounds);
    json_decref(audit.accepts);
    fl_model_unref(audit.state);
}

/* --- what must not pile up --- */

static void audit_disk(struct rig_world *world, const struct rig_node *node)
{
    size_t count = fl_map_count(node->files), most = 3;

    if (node->role != RIG_LEARNER) /* bases, results, a state, one that is on its way */
        most = 2 * RIG_KEEP + 4 + (world->mode == FL_MODE_SYNC && !world->varies ? 0 : 12);
    if (count > most && (node->role == RIG_LEARNER ? node->swept : node->began))
        rig_fail(world, "%s keeps %zu models", node->id, count);
    if (node->journal.len > 60000)
        rig_fail(world, "%s has a journal of %zu bytes", node->id, node->journal.len);
}

void rig_audit(struct rig_world *world)
{
    for (int i = 0; i < world->node_count && !*world->failure; i++) {
        struct rig_node *node = &world->nodes[i];

        if (node->role == RIG_CONTROLLER)
            continue;
        audit_disk(world, node);
        if (node->role == RIG_LEARNER)
            continue;
        audit_journal(world, node);
        audit_node(world, node);
    }
}
