/* What a world is like. */
#include "workloads/aggregator/sim/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARAMETERS 3

int64_t rig_project_seed(const struct rig_world *world)
{
    return (int64_t)(world->seed & 0xffff);
}

/* A number below `bound` that depends on the round and on nothing that happens. */
static int64_t of_round(const struct rig_world *world, int64_t round, const char *what,
                        int64_t bound)
{
    return (int64_t)(fl_protocol_hash(rig_project_seed(world), round, 0, what) % (uint64_t)bound);
}

static void vary(const struct rig_world *world, int64_t round, struct fl_round_order *spec)
{
    static const char *const rules[] = {"FedAvg", "FedAvgM", "FedAdam", "FedYogi"};

    spec->strategy.name = rules[of_round(world, round, "rule", 4)];
    spec->strategy.server_learning_rate = of_round(world, round / 2, "rate", 2) ? 0.5 : -1;
    if (of_round(world, round / 2, "rate", 2) == 0)
        spec->strategy.server_learning_rate = (double)__builtin_nan("");
    spec->local.learning_rate = 0.1 / (double)round;
    spec->participation.selection =
        (enum fl_selection)(FL_SELECTION_ALL + of_round(world, round, "selection", 4));
    spec->participation.fraction =
        spec->participation.selection == FL_SELECTION_ALL || of_round(world, round, "fraction", 3)
            ? 1
            : 0.5;
    spec->participation.max_example_share = of_round(world, round, "share", 2) ? 1 : 0.6;
    if (world->depth == 0)
        spec->mode = of_round(world, round, "mode", 2) ? FL_MODE_SYNC : FL_MODE_SEMISYNC;
}

/* Each tier gives a part of its time to the one below, in as many steps as that has. */
static int64_t deadline_for(const struct rig_world *world)
{
    int64_t ms = 120000;

    for (int level = 0; level < world->depth; level++)
        ms = ms * 4 / 3 * world->inner;
    return ms;
}

struct fl_round_order rig_spec(const struct rig_world *world, int64_t round)
{
    struct fl_round_order spec;

    fl_message_init(&fl_form_round_order, &spec);
    spec.project = "p";
    spec.round = round;
    spec.mode = world->mode;
    spec.seed = rig_project_seed(world);
    spec.strategy.name = world->strategy;
    spec.strategy.buffer_size = world->mode == FL_MODE_ASYNC ? 3 : -1;
    spec.strategy.byzantine_learners = 0;
    spec.strategy.norm_bound = 0.7;
    spec.participation.quorum = world->quorum;
    spec.participation.min_available = world->depth ? 1 : world->quorum > 2 ? world->quorum : 2;
    spec.participation.fraction = world->seed % 3 == 0 && world->quorum <= 2 ? 0.6 : 1;
    spec.participation.over_selection = world->seed % 5 == 0 ? 1.5 : 1;
    spec.participation.selection = (enum fl_selection)(FL_SELECTION_RANDOM + world->seed % 3);
    spec.participation.max_example_share = world->share;
    spec.participation.deadline_ms = deadline_for(world);
    spec.participation.available_within_ms = 120000;
    spec.participation.retry_limit = 2;
    spec.evaluation.enabled = world->evaluate;
    spec.evaluation.deadline_ms = 60000;
    spec.rounds_per_parent_round = world->inner;
    spec.max_weight = world->max_weight;
    if (world->varies)
        vary(world, round, &spec);
    return spec;
}

/* --- the parties --- */

static struct rig_node *add_node(struct rig_world *world, enum rig_role role, const char *name,
                                 int number)
{
    struct rig_node *node = &world->nodes[world->node_count++];

    *node = (struct rig_node){.role = role, .tick_at = RIG_NEVER};
    (void)snprintf(node->id, sizeof(node->id), number < 0 ? "%s" : "%s-%d", name, number);
    memcpy(node->address, node->id, sizeof(node->id));
    fl_buf_init(&node->journal, 0);
    node->files = fl_map_create((void (*)(void *))fl_model_unref);
    node->found = fl_map_create(NULL);
    node->held = fl_map_create(NULL);
    node->staged = fl_map_create(rig_staged_destroy);
    node->ledger = json_array();
    return node;
}

static void place_below(struct rig_node *node, const struct rig_node *home)
{
    memcpy(node->home, home->id, sizeof(node->home));
    memcpy(node->above, home->home, sizeof(node->above));
}

/* `tiers` aggregators in each of `depth` levels. */
static void make_tiers(struct rig_world *world)
{
    for (int level = 1; level <= world->depth; level++)
        for (int i = 0; i < world->tiers; i++) {
            char name[16];
            struct rig_node *node;
            int above = level == 1 ? 0 : 1 + (level - 2) * world->tiers + i % world->tiers;

            (void)snprintf(name, sizeof(name), "t%d", level);
            node = add_node(world, RIG_TIER, name, i);
            node->level = level;
            place_below(node, &world->nodes[above]);
        }
}

static void make_learners(struct rig_world *world)
{
    for (int i = 0; i < world->learners; i++) {
        struct rig_node *node = add_node(world, RIG_LEARNER, "l", world->twins && i == 1 ? 0 : i);
        int last = 1 + (world->depth - 1) * world->tiers;

        node->examples = 1 + rig_below(world, 50);
        node->nature = rig_below(world, 100) < 15 ? (int)(1 + rig_below(world, 5)) : RIG_HONEST;
        if (i < (world->quorum > 2 ? world->quorum + 1 : 2)) /* the quorum is honest */
            node->nature = RIG_HONEST;
        if (node->nature == RIG_BOASTING)
            node->examples = FL_PROTOCOL_NUMBER_MAX;
        if (world->twins && i == 1)
            node->examples = node[-1].examples;
        place_below(node, &world->nodes[world->depth ? last + i % world->tiers : 0]);
    }
}

static void make_robust(struct rig_world *world)
{
    static const char *const rules[] = {"Median",    "TrimmedMean", "Krum",
                                        "MultiKrum", "Bulyan",      "GeometricMedian"};

    world->strategy = rules[rig_below(world, 6)];
    world->depth = 0;
    world->inner = 1;
    world->twins = false;
    world->mode = FL_MODE_SYNC;
    world->quorum = 3;
    world->learners += 3;
    world->varies = false;
}

static void make_plan(struct rig_world *world)
{
    static const char *const rules[] = {"FedAvg",     "FedAvgM", "FedAdam", "FedNova",  "FedProx",
                                        "FedAdagrad", "FedYogi", "QFedAvg", "NormBound"};

    world->loss = (unsigned)rig_below(world, 3) * 40;
    world->doubling = (unsigned)rig_below(world, 3) * 50;
    world->crash = (unsigned)rig_below(world, 4) * 4;
    world->quiet_at = 60000 + rig_below(world, 20 * 60000);
    world->rounds = 2 + rig_below(world, 3);
    world->round = 1;
    world->depth = rig_below(world, 2) ? (int)(1 + rig_below(world, 3)) : 0;
    world->tiers = (int)(1 + rig_below(world, world->depth > 1 ? 2 : 3));
    world->learners = (int)(3 + rig_below(world, 8));
    world->inner = world->depth && rig_below(world, 3) == 0 ? 2 : 1;
    world->mode = FL_MODE_SYNC;
    if (rig_below(world, 3) == 0)
        world->mode = rig_below(world, 2) ? FL_MODE_SEMISYNC : FL_MODE_ASYNC;
    world->strategy = world->mode == FL_MODE_ASYNC ? "FedBuff" : rules[rig_below(world, 9)];
    world->quorum = world->depth ? 1 : 1 + rig_below(world, 2);
    world->evaluate = rig_below(world, 2);
    world->share = rig_below(world, 3) ? 1 : 0.5;
    world->max_weight = rig_below(world, 2) ? 1 << 16 : 0;
    world->varies = world->mode != FL_MODE_ASYNC && rig_below(world, 4) == 0;
    world->aborts = rig_below(world, 4) == 0;
    world->twins = world->depth && world->tiers > 1 && rig_below(world, 4) == 0;
    world->from_nothing = rig_below(world, 2);
    if (rig_below(world, 6) == 0)
        make_robust(world);
}

static void schedule(struct rig_world *world)
{
    int tiers = world->depth * world->tiers;

    for (int i = 0; i < world->controller; i++)
        rig_push(world, rig_event_for(world, RIG_START, i, rig_below(world, 5000)));
    rig_push(world, rig_event_for(world, RIG_CONTROL, world->controller, 10));
    rig_push(world, rig_event_for(world, RIG_CHILDREN, world->controller, 5000));
    if (world->tiers > 1 && tiers > 0 && rig_below(world, 3) == 0)
        rig_push(world, rig_event_for(world, RIG_KILL, (int)(1 + rig_below(world, tiers)),
                                      rig_below(world, 10 * 60000)));
    for (int i = 0; i < world->learners && rig_below(world, 2); i++)
        rig_push(world,
                 rig_event_for(world, RIG_LEAVE, 1 + tiers + i, rig_below(world, 15 * 60000)));
}

struct fl_model *rig_first_model(const struct rig_world *world)
{
    uint64_t seed = (uint64_t)rig_project_seed(world);
    const struct fl_tensor tensors[] = {
        {.name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {PARAMETERS}},
        {.name = "steps", .dtype = FL_DTYPE_I64},
    };
    struct fl_model *model = NULL;

    if (fl_model_create(tensors, 2, &model, NULL) < 0)
        abort();
    for (size_t i = 0; i < PARAMETERS; i++)
        fl_tensor_set((struct fl_tensor *)fl_model_find(model, "w"), i,
                      (double)((seed >> (8 * i)) % 64) / 7);
    return model;
}

void rig_build(struct rig_world *world, uint64_t seed)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct rig_node *root;

    world->seed = seed;
    model = rig_first_model(world);
    world->random = seed * 7919 + 17;
    world->asked = fl_map_create(free);
    world->archive = fl_map_create((void (*)(void *))fl_model_unref);
    make_plan(world);
    root = add_node(world, RIG_ROOT, "root", -1);
    if (!world->from_nothing) {
        rig_put_file(world, root, model, FL_DIGEST_SHA256, world->model);
        world->model_size = rig_file_size(model);
    }
    make_tiers(world);
    make_learners(world);
    world->controller = world->node_count;
    (void)add_node(world, RIG_CONTROLLER, "control", -1);
    schedule(world);
}
