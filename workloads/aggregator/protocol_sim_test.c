/* The round protocol, simulated: a controller, a root, tiers and learners in one thread and virtual
 * time, with messages lost, late, doubled and reordered and every party crashing at any action.
 *
 * Models are tiny and real: what the root commits must have the same bits as a flat recomputation
 * from the contributions that its journal says were accepted in that attempt. A seed is a world.
 * `protocol_sim_test COUNT [FIRST]` runs many seeds (make sim-protocol SEEDS=…). */
#include "lib/env.h"
#include "lib/map.h"
#include "lib/str.h"
#include "workloads/aggregator/aggregator_core.h"
#include "workloads/aggregator/journal.h"
#include "workloads/learner/learner_core.h"
#include "workloads/strategy/strategy.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define NODES_MAX  32
#define HOUR_MS    ((int64_t)3600 * 1000)
#define EVENTS_MAX 400000
#define ROUNDS_MAX 8
#define DEAD       INT64_MAX
#define PARAMETERS 3

enum event_kind {
    EV_TICK,       /* of a node's core */
    EV_START,      /* of a node */
    EV_REQUEST,    /* arrives at a node */
    EV_REPLY,      /* arrives at a node: ticket, status, body */
    EV_GONE,       /* a request's connection is seen to be gone */
    EV_DOWNLOAD,   /* is looked for at a node */
    EV_DOWNLOADED, /* arrives */
    EV_UPLOAD,
    EV_UPLOADED,
    EV_STAGED,
    EV_TRAINED,
    EV_BEGUN,
    EV_FOLDED,
    EV_FINISHED,
    EV_ADOPTED,
    EV_KILL,
    EV_CONTROL, /* the controller's next step */
};

struct event {
    int64_t at;
    uint64_t order;
    enum event_kind kind;
    int node, from;
    int64_t life; /* of the node it is for: others ignore it */
    uint64_t ticket, request, upload;
    int status;
    char method[8], *target;
    struct fl_bytes *body;
    char digest[FL_DIGEST_SIZE], state[FL_DIGEST_SIZE];
    bool failed, poll;
    struct fl_error err;
    char reason[32];
    struct fl_bytes *offer; /* EV_TRAINED: the facts */
    bool evaluation;
};

enum role { ROLE_ROOT, ROLE_TIER, ROLE_LEARNER, ROLE_CONTROLLER };

struct node {
    enum role role;
    char id[16], address[16], home[16];
    int64_t life;  /* grows with each start */
    bool up, gone; /* gone: for ever */
    bool ended;
    int64_t tick_at;
    /* disk */
    struct fl_buf journal;
    struct fl_buf ledger; /* all that ever was durable in it, for the audit */
    struct fl_map *files; /* digest -> struct fl_model */
    struct fl_bytes *kept;
    /* a process' memory */
    struct fl_aggregator_core *aggregator;
    struct fl_learner_core *learner;
    struct fl_strategy *strategy;
    char strategy_name[24];
    struct fl_model *restore;
    struct fl_map *staged;  /* upload id -> struct staged */
    uint64_t parent_ticket; /* of a tier's learner core */
    uint64_t download;      /* that is under way */
    struct fl_precision_spec precision;
    /* of a learner */
    int64_t examples;
    int nature; /* 0 honest; 1 sends NaN; 2 fails; 3 slow */
};

struct staged {
    char digest[FL_DIGEST_SIZE];
    int64_t size;
    struct fl_model *model;
};

/* Who asked what: where a reply goes. */
struct asked {
    int node;
    int64_t life;
    uint64_t ticket;
};

struct world {
    uint64_t seed, random, order, requests;
    int64_t stop_at;
    int64_t now, quiet_at; /* no more faults from then on */
    struct event *heap;
    size_t count, cap, steps;
    struct node nodes[NODES_MAX];
    int node_count, tiers, learners;
    struct fl_map *asked; /* request -> struct asked */
    /* chances in 1/1000 */
    unsigned loss, doubling, crash;
    enum fl_mode mode;
    const char *strategy;
    int64_t rounds, inner;
    bool evaluate;
    bool from_nothing; /* a learner makes the first model */
    /* controller */
    int64_t round, run, failed;
    bool put_done, stop_sent, all_done;
    uint64_t control_ticket;
    int64_t control_version;
    char model[FL_DIGEST_SIZE];
    int64_t model_size;
    struct fl_precision_spec precisions[ROUNDS_MAX + 1][64]; /* [round][attempt] of the root */
    int64_t max_examples[ROUNDS_MAX + 1][64];
    char bases[ROUNDS_MAX + 1][FL_DIGEST_SIZE];
    int64_t quorum;
    size_t crashes, commits, lost, refused, replacements, adopted;
    char failure[400];
};

static bool verbose;
/* The first thing that is wrong is the one to look at. */
static void fail_world(struct world *world, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void fail_world(struct world *world, const char *fmt, ...)
{
    va_list ap;

    if (*world->failure)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(world->failure, sizeof(world->failure), fmt, ap);
    va_end(ap);
}

#define SAY(...)                                                                                   \
    do {                                                                                           \
        if (verbose)                                                                               \
            printf(__VA_ARGS__);                                                                   \
    } while (0)

/* --- chance and time ------------------------------------------------------------------------ */

static uint64_t draw(struct world *world)
{
    uint64_t x = world->random += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static int64_t below(struct world *world, int64_t bound)
{
    return (int64_t)(draw(world) % (uint64_t)bound);
}

static bool chance(struct world *world, unsigned per_mille)
{
    return world->now < world->quiet_at && below(world, 1000) < (int64_t)per_mille;
}

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct world *world, struct event event)
{
    size_t i = world->count++;

    if (world->count > world->cap) {
        world->cap = world->cap ? world->cap * 2 : 256;
        world->heap = fl_realloc(world->heap, world->cap * sizeof(event));
    }
    event.order = ++world->order;
    while (i > 0 && sooner(&event, &world->heap[(i - 1) / 2])) {
        world->heap[i] = world->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    world->heap[i] = event;
}

static struct event pop(struct world *world)
{
    struct event first = world->heap[0], last = world->heap[--world->count];
    size_t i = 0;

    for (;;) {
        size_t child = i * 2 + 1;

        if (child >= world->count)
            break;
        if (child + 1 < world->count && sooner(&world->heap[child + 1], &world->heap[child]))
            child++;
        if (!sooner(&world->heap[child], &last))
            break;
        world->heap[i] = world->heap[child];
        i = child;
    }
    world->heap[i] = last;
    return first;
}

static void event_finish(struct event *event)
{
    free(event->target);
    fl_bytes_unref(event->body);
    fl_bytes_unref(event->offer);
}

/* How long a message takes: mostly short, sometimes so long that it overtakes nothing any more. */
static int64_t latency(struct world *world)
{
    int64_t ms = 1 + below(world, 60);

    return chance(world, 60) ? ms + below(world, 40000) : ms;
}

static struct event event_for(struct world *world, enum event_kind kind, int node, int64_t delay)
{
    return (struct event){
        .at = world->now + delay, .kind = kind, .node = node, .life = world->nodes[node].life};
}

/* --- models --------------------------------------------------------------------------------- */

static void unref_model(void *model)
{
    fl_model_unref(model);
}

static void put_file(struct node *node, struct fl_model *model, char digest[FL_DIGEST_SIZE])
{
    fl_model_digest(model, digest);
    if (!fl_map_get(node->files, digest))
        fl_map_put(node->files, digest, fl_model_ref(model));
}

static int64_t file_size(const struct fl_model *model)
{
    size_t size;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = fl_safetensors_header(model, &size);

    return (int64_t)size;
}

static struct fl_model *first_model(uint64_t seed)
{
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

/* What a learner makes of a base: a function of its own seed, as a trainer is. */
static struct fl_model *train(const struct fl_model *base, int64_t seed)
{
    struct fl_model *model = NULL;
    struct fl_tensor *w;

    if (fl_model_like(base, true, &model, NULL) < 0)
        abort();
    w = (struct fl_tensor *)fl_model_find(model, "w");
    for (size_t i = 0; i < w->count; i++)
        fl_tensor_set(w, i,
                      fl_tensor_get(w, i) * 0.9 +
                          (double)(fl_protocol_hash(seed, (int64_t)i, 0, "t") % 1000) / 999 - 0.5);
    return model;
}

static int64_t steps_of(int64_t examples)
{
    return 1 + examples / 4;
}

static double loss_of(int64_t seed)
{
    return 0.1 + (double)(fl_protocol_hash(seed, 0, 0, "loss") % 100) / 50;
}

/* --- processes ------------------------------------------------------------------------------ */

static void staged_destroy(void *value)
{
    struct staged *staged = value;

    fl_model_unref(staged->model);
    free(staged);
}

static void crash(struct world *world, struct node *node)
{
    SAY("%8" PRId64 " %s crashes\n", world->now, node->id);
    fl_aggregator_destroy(FL_TAKE(node->aggregator));
    fl_learner_destroy(FL_TAKE(node->learner));
    fl_strategy_destroy(FL_TAKE(node->strategy));
    fl_model_unref(FL_TAKE(node->restore));
    fl_map_destroy(node->staged);
    node->staged = fl_map_create(staged_destroy);
    node->up = false;
    node->parent_ticket = node->download = 0;
    node->life++;
    world->crashes++;
    if (!node->gone && !(node->ended && node->role == ROLE_LEARNER))
        push(world, event_for(world, EV_START, (int)(node - world->nodes),
                              100 + below(world, chance(world, 200) ? 120000 : 5000)));
}

static void start(struct world *world, struct node *node)
{
    struct fl_error err = {0};
    bool tier = node->role == ROLE_TIER;

    node->up = true;
    node->tick_at = DEAD;
    if (node->role == ROLE_ROOT || tier) {
        struct fl_aggregator_options options = {.id = node->id,
                                                .has_parent = tier,
                                                .parent = tier ? "root" : NULL,
                                                .poll_ms = 20000,
                                                .silence_ms = 50000,
                                                .progress_ms = 8000,
                                                .upload_ms = 60000,
                                                .max_uploads = 3,
                                                .keep_models = 100,
                                                .journal_bytes = 4000};

        if (fl_aggregator_create(&options, world->now, node->journal.data, node->journal.len,
                                 &node->aggregator, &err) < 0)
            fail_world(world, "%s does not start: %s", node->id, err.msg);
    }
    if (node->role == ROLE_LEARNER || tier) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_kept kept;
        struct fl_learner_options options = {.address = tier ? "root" : node->home,
                                             .parent = tier || world->tiers == 0 ? NULL : "root",
                                             .lost_ms = 40000,
                                             .request_ms = 10000,
                                             .transfer_ms = 20000,
                                             .seed = draw(world)};

        fl_message_init(&fl_form_join, &options.join);
        options.join.protocol = FL_PROTOCOL_VERSION;
        options.join.learner = node->id;
        options.join.examples = tier ? 0 : node->examples;
        options.join.aggregator = tier;
        if (node->kept && fl_kept_decode(arena, node->kept->data, node->kept->len, &kept, &err) < 0)
            fail_world(world, "%s: %s", node->id, err.msg);
        else if (node->kept && fl_map_get(node->files, kept.offer.digest))
            options.kept = &kept;
        if (fl_learner_create(&options, world->now, &node->learner, &err) < 0)
            fail_world(world, "%s does not start: %s", node->id, err.msg);
    }
}

static struct node *node_at(struct world *world, const char *address)
{
    for (int i = 0; i < world->node_count; i++)
        if (fl_streq(world->nodes[i].address, address))
            return &world->nodes[i];
    return NULL;
}

/* --- the network ---------------------------------------------------------------------------- */

static void send_request(struct world *world, int from, uint64_t ticket, const char *address,
                         const char *method, const char *target, struct fl_bytes *body)
{
    struct node *to = node_at(world, address);
    int copies = chance(world, world->doubling) ? 2 : 1;

    if (!to) {
        fail_world(world, "no such address: %s", address);
        return;
    }
    for (int i = 0; i < copies; i++) {
        struct event event = event_for(world, EV_REQUEST, (int)(to - world->nodes), latency(world));
        struct asked *asked = fl_calloc(1, sizeof(*asked));
        char key[24];

        event.life = -1; /* whoever is there then */
        event.from = from;
        event.ticket = ticket;
        event.request = ++world->requests;
        (void)snprintf(event.method, sizeof(event.method), "%s", method);
        event.target = fl_strdup(target);
        event.body = body ? fl_bytes_ref(body) : NULL;
        *asked = (struct asked){from, world->nodes[from].life, ticket};
        (void)snprintf(key, sizeof(key), "%" PRIu64, event.request);
        fl_map_put(world->asked, key, asked);
        if (chance(world, world->loss)) {
            world->lost++;
            event_finish(&event);
        } else {
            push(world, event);
        }
    }
}

static void send_reply(struct world *world, uint64_t request, int status, struct fl_bytes *body)
{
    char key[24];
    struct asked *asked;

    (void)snprintf(key, sizeof(key), "%" PRIu64, request);
    asked = fl_map_get(world->asked, key);
    if (!asked) {
        fail_world(world, "a request is answered twice");
        return;
    }
    if (!chance(world, world->loss)) {
        struct event event = event_for(world, EV_REPLY, asked->node, latency(world));

        event.life = asked->life;
        event.ticket = asked->ticket;
        event.status = status;
        event.body = fl_bytes_ref(body);
        push(world, event);
    }
    fl_map_remove(world->asked, key);
}

/* Nobody listens there: the connection is refused, sometimes nothing is heard. */
static void refuse_connection(struct world *world, const struct event *event)
{
    char key[24];

    (void)snprintf(key, sizeof(key), "%" PRIu64, event->request);
    fl_map_remove(world->asked, key);
    if (!chance(world, 500)) {
        struct event reply = event_for(world, EV_REPLY, event->from, latency(world));

        reply.ticket = event->ticket;
        reply.failed = true;
        push(world, reply);
    }
}

/* --- the aggregator's actions --------------------------------------------------------------- */

static void use_strategy(struct world *world, struct node *node, const char *name)
{
    struct fl_strategy_options options;
    struct fl_error err = {0};

    if (node->strategy && fl_streq(node->strategy_name, name))
        return;
    fl_strategy_destroy(FL_TAKE(node->strategy));
    fl_strategy_options_init(&options, name);
    options.local_learning_rate = 0.01;
    (void)snprintf(node->strategy_name, sizeof(node->strategy_name), "%s", name);
    if (fl_strategy_create(&options, &node->strategy, &err) < 0 ||
        (node->restore && fl_strategy_restore(node->strategy, node->restore, &err) < 0))
        fail_world(world, "strategy: %s", err.msg);
}

static struct fl_exact_precision exact_of(const struct fl_precision_spec *spec)
{
    return (struct fl_exact_precision){(unsigned)spec->range_bits, (unsigned)spec->bits,
                                       spec->max_weight};
}

static void do_begin(struct world *world, struct node *node,
                     const struct fl_aggregator_action *action)
{
    int index = (int)(node - world->nodes);
    struct event done = event_for(world, EV_BEGUN, index, 1 + below(world, 50));
    struct fl_model *base = fl_map_get(node->files, action->begin.base);
    struct fl_exact_precision precision = exact_of(&action->begin.precision);

    use_strategy(world, node, action->begin.strategy->name);
    node->precision = action->begin.precision;
    done.ticket = action->ticket;
    if (!base)
        (void)fl_error_set(&done.err, FL_E_NOT_FOUND, "no model %s", action->begin.base);
    else
        (void)fl_strategy_begin(node->strategy, base, &precision, action->begin.max_examples,
                                &done.err);
    done.failed = done.err.code != 0;
    if (node->role == ROLE_ROOT && base) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_journal_state state;

        if (fl_journal_replay(arena, node->journal.data, node->journal.len, &state, NULL) == 0 &&
            state.spec.round <= ROUNDS_MAX && state.attempt < 64) {
            world->precisions[state.spec.round][state.attempt] = action->begin.precision;
            world->max_examples[state.spec.round][state.attempt] = action->begin.max_examples;
            (void)snprintf(world->bases[state.spec.round], FL_DIGEST_SIZE, "%s",
                           action->begin.base);
        }
    }
    push(world, done);
}

static void do_fold(struct world *world, struct node *node,
                    const struct fl_aggregator_action *action)
{
    struct event done =
        event_for(world, EV_FOLDED, (int)(node - world->nodes), 1 + below(world, 50));
    const struct fl_aggregator_fold *fold = &action->fold;
    struct fl_update_facts facts = {.learner = fold->learner,
                                    .examples = fold->examples,
                                    .steps = fold->steps,
                                    .loss = fold->loss_before,
                                    .staleness = fold->staleness,
                                    .base = fl_map_get(node->files, fold->base)};
    char key[24];
    struct staged *staged;

    (void)snprintf(key, sizeof(key), "%" PRIu64, action->upload);
    staged = fl_map_get(node->staged, key);
    done.ticket = action->ticket;
    if (!staged || !staged->model) {
        fail_world(world, "%s folds what is not there", node->id);
        return;
    }
    if (!fl_streq(staged->digest, fold->digest))
        fail_world(world, "%s folds another upload", node->id);
    if (fold->partial)
        (void)fl_strategy_add_partial(node->strategy, staged->model, &done.err);
    else
        (void)fl_strategy_add(node->strategy, staged->model, &facts, &done.err);
    done.failed = done.err.code != 0;
    (void)snprintf(done.reason, sizeof(done.reason), "NotFinite");
    push(world, done);
}

static void do_adopt(struct world *world, struct node *node,
                     const struct fl_aggregator_action *action)
{
    struct event done =
        event_for(world, EV_ADOPTED, (int)(node - world->nodes), 1 + below(world, 100));
    FL_CLEANUP(fl_model_unrefp)
    struct fl_model *wanted = first_model(world->seed & 0xffff);
    char key[24], digest[FL_DIGEST_SIZE];
    struct staged *staged;

    (void)snprintf(key, sizeof(key), "%" PRIu64, action->upload);
    staged = fl_map_get(node->staged, key);
    fl_model_digest(wanted, digest);
    done.ticket = action->ticket;
    if (!staged || !staged->model || !fl_streq(staged->digest, action->digest))
        fail_world(world, "%s adopts what is not there", node->id);
    else if (!fl_streq(digest, action->digest) || action->size != file_size(wanted))
        fail_world(world, "%s adopts another model than the seed's", node->id);
    else if (chance(world, 100))
        done.failed = fl_error_set(&done.err, FL_E_INVALID, "it is none") < 0;
    else
        put_file(node, staged->model, done.digest);
    push(world, done);
}

static void do_finish(struct world *world, struct node *node,
                      const struct fl_aggregator_action *action)
{
    struct event done =
        event_for(world, EV_FINISHED, (int)(node - world->nodes), 1 + below(world, 100));
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *state = NULL;
    int r;

    done.ticket = action->ticket;
    r = action->kind == FL_AGGREGATOR_FINISH
            ? fl_strategy_finish(node->strategy, &model, &done.err)
            : fl_strategy_partial(node->strategy, &model, &done.err);
    done.failed = r < 0;
    if (r == 0) {
        put_file(node, model, done.digest);
        done.upload = (uint64_t)file_size(model);
        state = fl_strategy_state(node->strategy);
        if (state)
            put_file(node, state, done.state);
    }
    push(world, done);
}

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

static bool same_lists(const struct fl_journal_state *a, const struct fl_journal_state *b)
{
    bool same = a->counted_count == b->counted_count && a->holders.count == b->holders.count &&
                a->contributors.count == b->contributors.count;

    for (size_t i = 0; same && i < a->counted_count; i++)
        same = has_counted(b, &a->counted[i]);
    for (size_t i = 0; same && i < a->holders.count; i++)
        same = has_text(&b->holders, a->holders.items[i]);
    for (size_t i = 0; same && i < a->contributors.count; i++)
        same = has_text(&b->contributors, a->contributors.items[i]);
    return same;
}

static void compare_states(struct world *world, struct node *node,
                           const struct fl_journal_state *old, const struct fl_journal_state *new)
{
    if (new->life != old->life || new->committed != old->committed ||
        !fl_streq(new->model, old->model) || !fl_streq(new->state, old->state) ||
        new->has_round != old->has_round || new->spec.round != old->spec.round ||
        new->spec.run != old->spec.run || !fl_streq(new->spec.model, old->spec.model) ||
        !fl_streq(new->origin, old->origin) || !fl_streq(new->work, old->work) ||
        new->attempt != old->attempt || new->done != old->done ||
        new->evaluated != old->evaluated || new->failed != old->failed ||
        new->stopped != old->stopped || new->status.phase != old->status.phase ||
        !fl_streq(new->status.model, old->status.model) || !fl_streq(new->base, old->base) ||
        new->base_size != old->base_size)
        fail_world(world, "%s: a replaced journal says something else", node->id);
    else if (!same_lists(old, new))
        fail_world(world, "%s: a replaced journal forgets whom it knew", node->id);
}

static void check_journal(struct world *world, struct node *node)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state state, again;
    struct fl_error err = {0};
    struct fl_buf compact;

    if (fl_journal_replay(arena, node->journal.data, node->journal.len, &state, &err) < 0) {
        fail_world(world, "%s: %s", node->id, err.msg);
        return;
    }
    if (state.committed > 0 && !fl_map_get(node->files, state.model))
        fail_world(world, "%s: a committed model is not there", node->id);
    fl_buf_init(&compact, 0);
    fl_journal_compact(&compact, &state);
    if (fl_journal_replay(arena, compact.data, compact.len, &again, &err) < 0)
        fail_world(world, "%s: compacted: %s", node->id, err.msg);
    else
        compare_states(world, node, &state, &again);
    fl_buf_finish(&compact);
}

static void do_expect(struct node *node, const struct fl_aggregator_action *action)
{
    struct staged *staged = fl_calloc(1, sizeof(*staged));
    char key[24];

    (void)snprintf(key, sizeof(key), "%" PRIu64, action->upload);
    (void)snprintf(staged->digest, sizeof(staged->digest), "%s", action->digest);
    staged->size = action->size;
    fl_map_put(node->staged, key, staged);
}

static void do_parent_result(struct world *world, struct node *node,
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
        fl_learner_trained(node->learner, world->now, node->parent_ticket, &result->offer);
    }
}

static void write_journal(struct node *node, const struct fl_bytes *lines)
{
    fl_buf_append(&node->journal, lines->data, lines->len);
    fl_buf_append(&node->ledger, lines->data, lines->len);
}

/* What replaces the journal must mean the same. */
static void replace_journal(struct world *world, struct node *node, const struct fl_bytes *text)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state old, new;
    struct fl_error err = {0};

    if (fl_journal_replay(arena, node->journal.data, node->journal.len, &old, &err) < 0 ||
        fl_journal_replay(arena, text->data, text->len, &new, &err) < 0)
        fail_world(world, "%s: replaced: %s", node->id, err.msg);
    else
        compare_states(world, node, &old, &new);
    fl_buf_clear(&node->journal);
    fl_buf_append(&node->journal, text->data, text->len);
    world->replacements++;
}

/* False: the process died of it. */
static bool do_aggregator(struct world *world, struct node *node,
                          const struct fl_aggregator_action *action)
{
    char key[24];

    if (chance(world, world->crash)) {
        if (action->kind == FL_AGGREGATOR_JOURNAL && chance(world, 500)) /* torn */
            fl_buf_append(&node->journal, action->body->data,
                          (size_t)below(world, (int64_t)action->body->len));
        else if (action->kind == FL_AGGREGATOR_JOURNAL && chance(world, 500)) /* just written */
            write_journal(node, action->body);
        else if (action->kind == FL_AGGREGATOR_JOURNAL_REPLACE && chance(world, 500))
            replace_journal(world, node, action->body);
        crash(world, node);
        return false;
    }
    (void)snprintf(key, sizeof(key), "%" PRIu64, action->upload);
    switch (action->kind) {
    case FL_AGGREGATOR_REPLY:
        send_reply(world, action->request, action->http_status, action->body);
        break;
    case FL_AGGREGATOR_JOURNAL:
        write_journal(node, action->body);
        SAY("%8" PRId64 " %s journal %.*s\n", world->now, node->id, (int)action->body->len - 1,
            action->body->data);
        break;
    case FL_AGGREGATOR_JOURNAL_REPLACE:
        replace_journal(world, node, action->body);
        break;
    case FL_AGGREGATOR_SWEEP:
        break;
    case FL_AGGREGATOR_CUT:
        node->journal.len = (size_t)action->size;
        break;
    case FL_AGGREGATOR_RESTORE:
        fl_model_unref(node->restore);
        node->restore = fl_map_get(node->files, action->model);
        if (!node->restore)
            fail_world(world, "%s: the strategy's state is not there", node->id);
        else
            (void)fl_model_ref(node->restore);
        break;
    case FL_AGGREGATOR_BEGIN:
        do_begin(world, node, action);
        break;
    case FL_AGGREGATOR_EXPECT:
        do_expect(node, action);
        break;
    case FL_AGGREGATOR_DISCARD:
        fl_map_remove(node->staged, key);
        break;
    case FL_AGGREGATOR_FOLD:
        do_fold(world, node, action);
        break;
    case FL_AGGREGATOR_ADOPT:
        do_adopt(world, node, action);
        break;
    case FL_AGGREGATOR_FINISH:
    case FL_AGGREGATOR_PARTIAL:
        do_finish(world, node, action);
        break;
    case FL_AGGREGATOR_ABANDON:
        fl_strategy_abandon(node->strategy);
        break;
    case FL_AGGREGATOR_RELEASE: /* states only: the oracle wants the models */
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
    return true;
}

/* --- the learner's actions ------------------------------------------------------------------ */

static void do_download(struct world *world, struct node *node,
                        const struct fl_learner_action *action)
{
    struct node *to = node_at(world, action->address);
    struct event event = event_for(world, EV_DOWNLOAD, (int)(to - world->nodes), latency(world));

    if (fl_map_get(node->files, action->digest)) {
        event = event_for(world, EV_DOWNLOADED, (int)(node - world->nodes), 1);
        event.ticket = action->ticket;
        push(world, event);
        return;
    }
    node->download = action->ticket;
    event.life = node->life; /* the asker's, kept for the way back */
    event.from = (int)(node - world->nodes);
    event.ticket = action->ticket;
    (void)snprintf(event.digest, sizeof(event.digest), "%s", action->digest);
    if (!chance(world, world->loss))
        push(world, event);
}

static void do_upload(struct world *world, struct node *node,
                      const struct fl_learner_action *action)
{
    struct node *to = node_at(world, action->address);
    struct event event =
        event_for(world, EV_UPLOAD, (int)(to - world->nodes), latency(world) + below(world, 2000));

    event.life = node->life;
    event.from = (int)(node - world->nodes);
    event.ticket = action->ticket;
    event.upload = strtoull(strrchr(action->target, '/') + 1, NULL, 10);
    (void)snprintf(event.digest, sizeof(event.digest), "%s", action->digest);
    if (!fl_map_get(node->files, action->digest))
        fail_world(world, "%s uploads what it has not", node->id);
    if (!chance(world, world->loss))
        push(world, event);
}

static void do_train(struct world *world, struct node *node, const struct fl_learner_action *action)
{
    const struct fl_task *task = action->task;
    bool init = task->kind == FL_TASK_INIT;
    struct fl_model *base = init ? NULL : fl_map_get(node->files, task->model);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *made = NULL;
    int64_t span = node->nature == 3 ? 20000 + below(world, 60000) : 500 + below(world, 8000);
    struct event done = event_for(world, EV_TRAINED, (int)(node - world->nodes), span);
    struct fl_offer facts;

    if (!base && !init) {
        fail_world(world, "%s trains without a model", node->id);
        return;
    }
    done.ticket = action->ticket;
    done.evaluation = action->kind == FL_LEARNER_EVALUATE;
    done.failed = node->nature == 2 && chance(world, 500);
    if (!done.evaluation && !done.failed) {
        fl_message_init(&fl_form_offer, &facts);
        made = init ? first_model((uint64_t)task->seed) : train(base, task->seed);
        if (node->nature == 1 && !init)
            fl_tensor_set((struct fl_tensor *)fl_model_find(made, "w"), 0, NAN);
        put_file(node, made, done.digest);
        facts.learner = node->id;
        facts.project = facts.work = "p";
        facts.base = facts.digest = done.digest;
        facts.round = facts.attempt = 1;
        facts.size = file_size(made);
        facts.examples = node->examples;
        facts.steps = steps_of(node->examples);
        facts.loss = facts.loss_before = loss_of(task->seed);
        done.offer = fl_message_encode(&fl_form_offer, &facts);
    }
    push(world, done);
}

static bool do_learner(struct world *world, struct node *node,
                       const struct fl_learner_action *action)
{
    int index = (int)(node - world->nodes);

    if (chance(world, world->crash)) {
        if (node->role == ROLE_LEARNER && chance(world, 300)) { /* its disk is gone, too */
            fl_bytes_unref(FL_TAKE(node->kept));
        }
        crash(world, node);
        return false;
    }
    switch (action->kind) {
    case FL_LEARNER_POLL:
    case FL_LEARNER_CALL:
        send_request(world, index, action->ticket, action->address, action->method, action->target,
                     action->body);
        break;
    case FL_LEARNER_DOWNLOAD:
        do_download(world, node, action);
        break;
    case FL_LEARNER_UPLOAD:
        do_upload(world, node, action);
        break;
    case FL_LEARNER_TRAIN:
        if (node->role == ROLE_TIER) {
            node->parent_ticket = action->ticket;
            if (action->task->kind == FL_TASK_INIT)
                fl_aggregator_parent_init(node->aggregator, world->now, action->task);
            else
                fl_aggregator_parent_fit(node->aggregator, world->now, action->task);
        } else {
            do_train(world, node, action);
        }
        break;
    case FL_LEARNER_EVALUATE:
        if (node->role == ROLE_TIER) {
            node->parent_ticket = action->ticket;
            fl_aggregator_parent_evaluate(node->aggregator, world->now, action->task);
        } else {
            do_train(world, node, action);
        }
        break;
    case FL_LEARNER_CANCEL:
        if (action->ticket == node->download)
            node->download = 0;
        if (node->role == ROLE_TIER && action->ticket == node->parent_ticket) {
            node->parent_ticket = 0;
            fl_aggregator_parent_cancel(node->aggregator, world->now);
        }
        break;
    case FL_LEARNER_KEEP:
        fl_bytes_unref(node->kept);
        node->kept = fl_kept_encode(action->kept);
        break;
    case FL_LEARNER_RELEASE: /* a tier's are its aggregator's, too */
        if (node->role == ROLE_LEARNER)
            (void)fl_map_remove(node->files, action->digest);
        break;
    case FL_LEARNER_ENDED:
        if (node->role == ROLE_TIER)
            fl_aggregator_stop(node->aggregator, world->now, action->message);
        else
            node->ended = true;
        break;
    }
    return true;
}

/* Until both cores have nothing left to ask for. */
static void drain(struct world *world, struct node *node)
{
    const struct fl_aggregator_action *aggregator;
    const struct fl_learner_action *learner;
    int64_t next = DEAD, at;
    int loops = 0;

    while (node->up && !*world->failure) {
        aggregator = node->aggregator ? fl_aggregator_next(node->aggregator) : NULL;
        if (aggregator) {
            if (!do_aggregator(world, node, aggregator))
                return;
        } else {
            learner = node->learner ? fl_learner_next(node->learner) : NULL;
            if (!learner)
                break;
            if (!do_learner(world, node, learner))
                return;
        }
        if (++loops > 20000)
            fail_world(world, "%s does not come to rest", node->id);
    }
    if (!node->up)
        return;
    /* The model it works on and its update, not one more a round; a death, and training that was
     * cancelled just when it was done, leave some behind. */
    if (node->role == ROLE_LEARNER && fl_map_count(node->files) > 2 * (size_t)(node->life + 1) + 10)
        fail_world(world, "%s keeps %zu models", node->id, fl_map_count(node->files));
    if (node->aggregator)
        next = fl_aggregator_deadline(node->aggregator);
    at = node->learner ? fl_learner_deadline(node->learner) : DEAD;
    next = at < next ? at : next;
    if (next == DEAD || next == node->tick_at)
        return;
    node->tick_at = next;
    push(world, event_for(world, EV_TICK, (int)(node - world->nodes),
                          next > world->now ? next - world->now : 0));
}

/* --- the controller ------------------------------------------------------------------------- */

static struct fl_round_order spec_of(struct world *world)
{
    struct fl_round_order spec;

    fl_message_init(&fl_form_round_order, &spec);
    spec.project = "p";
    spec.round = world->round;
    spec.run = world->run;
    if (world->round > 1 || !world->from_nothing) {
        spec.model = world->model;
        spec.model_size = world->model_size;
    }
    spec.mode = world->mode;
    spec.seed = (int64_t)(world->seed & 0xffff);
    spec.strategy.name = world->strategy;
    spec.strategy.buffer_size = world->mode == FL_MODE_ASYNC ? 3 : -1;
    spec.participation.min_available = world->tiers ? 1 : 2;
    spec.participation.quorum = world->quorum;
    spec.participation.fraction = world->seed % 3 == 0 ? 0.6 : 1;
    spec.participation.over_selection = world->seed % 5 == 0 ? 1.5 : 1;
    spec.participation.selection = (enum fl_selection)(FL_SELECTION_RANDOM + world->seed % 3);
    spec.participation.deadline_ms = 120000;
    spec.participation.available_within_ms = 120000;
    spec.participation.retry_limit = 2;
    spec.evaluation.enabled = world->evaluate;
    spec.evaluation.deadline_ms = 60000;
    spec.rounds_per_parent_round = world->inner;
    spec.max_weight = 1 << 16;
    return spec;
}

static void control(struct world *world, int index, const char *method, const char *target,
                    struct fl_bytes *body)
{
    struct event again = event_for(world, EV_CONTROL, index, 25000);

    world->control_ticket = ++world->order;
    again.ticket = world->control_ticket; /* if nothing is heard until then */
    push(world, again);
    send_request(world, index, world->control_ticket, "root", method, target, body);
}

static void control_step(struct world *world, int index)
{
    struct fl_round_order spec = spec_of(world);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    char target[80];

    if (world->all_done)
        return;
    if (world->round > world->rounds && world->nodes[0].ended) { /* its answer was lost */
        world->all_done = true;
        world->stop_at = world->now;
        return;
    }
    if (world->round > world->rounds) {
        struct fl_stop stop = {.message = "done"};

        body = fl_message_encode(&fl_form_stop, &stop);
        control(world, index, "POST", "/v1/stop", body);
    } else if (!world->put_done) {
        (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64, world->round);
        body = fl_message_encode(&fl_form_round_order, &spec);
        control(world, index, "PUT", target, body);
    } else {
        (void)snprintf(target, sizeof(target), "/v1/rounds/%" PRId64 "?after=%" PRId64,
                       world->round, world->control_version);
        control(world, index, "GET", target, NULL);
    }
}

static void tell_children(struct world *world, int index)
{
    struct fl_pair pairs[NODES_MAX];
    struct fl_children children = {{pairs, 0}};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;

    for (int i = 0; i < world->node_count; i++)
        if (world->nodes[i].role == ROLE_TIER && !world->nodes[i].gone)
            pairs[children.children.count++] =
                (struct fl_pair){world->nodes[i].id, world->nodes[i].address};
    body = fl_message_encode(&fl_form_children, &children);
    send_request(world, index, ++world->order, "root", "PUT", "/v1/children", body);
}

static void watched(struct world *world, const struct fl_round_report *status)
{
    if (status->round != world->round || status->version < world->control_version)
        return;
    world->control_version = status->version;
    if (status->run != world->run)
        fail_world(world, "round %" PRId64 " tells of another run", world->round);
    if (status->phase == FL_ROUND_COMMITTED && !fl_streq(status->base, world->bases[world->round]))
        fail_world(world, "round %" PRId64 " tells of another base", world->round);
    if (status->phase == FL_ROUND_COMMITTED) {
        SAY("%8" PRId64 " round %" PRId64 " is committed: %s\n", world->now, world->round,
            status->model);
        (void)snprintf(world->model, sizeof(world->model), "%s", status->model);
        world->model_size = status->model_size;
        world->round++;
        world->run = 0;
        world->put_done = false;
        world->control_version = 0;
    } else if (status->phase == FL_ROUND_FAILED || status->phase == FL_ROUND_ABORTED) {
        SAY("%8" PRId64 " round %" PRId64 " failed: %s: %s\n", world->now, world->round,
            status->reason, fl_str_or(status->message, ""));
        if (!status->reason || !status->message)
            fail_world(world, "a round failed without a reason");
        if (world->now > world->quiet_at + 20 * 60000)
            fail_world(world, "round %" PRId64 " fails in quiet: %s", world->round,
                       status->message);
        if (++world->failed > 60)
            fail_world(world, "round %" PRId64 " fails for ever", world->round);
        world->run++;
        world->put_done = false;
        world->control_version = 0;
    }
}

static void controlled(struct world *world, int index, const struct event *event)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_report status;
    struct fl_error err = {0};

    if (event->ticket != world->control_ticket)
        return;
    world->control_ticket = 0;
    if (event->failed || event->status == 503) {
        push(world, event_for(world, EV_CONTROL, index, 2000));
        return;
    }
    if (world->round > world->rounds && event->status == 200) {
        world->all_done = true;
        world->stop_at = world->now;
        return;
    }
    if (event->status != 200) {
        /* what was started may be lost with a crash before it was written */
        if (event->status != 404 || !world->put_done)
            fail_world(world, "the controller is refused: %d %.200s", event->status,
                       event->body->data);
        world->put_done = false;
        world->control_version = 0;
    } else if (fl_message_decode(arena, &fl_form_round_report, event->body->data, event->body->len,
                                 &status, &err) < 0) {
        fail_world(world, "status: %s", err.msg);
    } else {
        world->put_done = true;
        watched(world, &status);
    }
    control_step(world, index);
}

/* --- events --------------------------------------------------------------------------------- */

static void arrive_request(struct world *world, struct node *node, const struct event *event)
{
    struct fl_aggregator_request request = {.request = event->request,
                                            .method = event->method,
                                            .target = event->target,
                                            .control_plane =
                                                world->nodes[event->from].role == ROLE_CONTROLLER};

    if (!node->up || node->ended) {
        refuse_connection(world, event);
        return;
    }
    SAY("%8" PRId64 " %s <- %s %s %s %.200s\n", world->now, node->id, world->nodes[event->from].id,
        event->method, event->target, event->body ? event->body->data : "");
    request.body = event->body ? event->body->data : "";
    request.body_len = event->body ? event->body->len : 0;
    request.peer = request.control_plane ? NULL : world->nodes[event->from].id;
    fl_aggregator_request(node->aggregator, world->now, &request);
}

static void arrive_download(struct world *world, struct node *node, const struct event *event)
{
    struct event back = event_for(world, EV_DOWNLOADED, event->from, latency(world));
    struct fl_model *model = node->up ? fl_map_get(node->files, event->digest) : NULL;

    back.life = event->life;
    back.ticket = event->ticket;
    if (!model || !fl_aggregator_serves(node->aggregator, event->digest)) {
        back.failed = true;
        (void)fl_error_set(&back.err, FL_E_UNAVAILABLE, "no such model there");
    } else if (world->nodes[event->from].life == event->life &&
               world->nodes[event->from].download == event->ticket) {
        if (!fl_map_get(world->nodes[event->from].files, event->digest))
            fl_map_put(world->nodes[event->from].files, event->digest, fl_model_ref(model));
        fl_aggregator_moved_bytes(node->aggregator, world->now, world->nodes[event->from].id, 0,
                                  file_size(model));
    }
    if (!chance(world, world->loss))
        push(world, back);
}

static void arrive_upload(struct world *world, struct node *node, const struct event *event)
{
    struct event back = event_for(world, EV_UPLOADED, event->from, latency(world));
    char key[24];
    struct staged *staged;

    (void)snprintf(key, sizeof(key), "%" PRIu64, event->upload);
    staged = node->up ? fl_map_get(node->staged, key) : NULL;
    back.life = event->life;
    back.ticket = event->ticket;
    back.failed = !staged;
    if (!staged)
        (void)fl_error_set(&back.err, FL_E_NOT_FOUND, "no such upload");
    else if (!staged->model) {
        struct event ready = event_for(world, EV_STAGED, (int)(node - world->nodes), 1);

        if (!fl_streq(staged->digest, event->digest))
            fail_world(world, "%s gets another upload than it expects", node->id);
        staged->model = fl_model_ref(fl_map_get(world->nodes[event->from].files, event->digest));
        ready.upload = event->upload;
        push(world, ready);
    }
    if (!chance(world, world->loss))
        push(world, back);
}

static void arrive_trained(struct world *world, struct node *node, const struct event *event)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_result result = {.examples = node->examples, .loss = 0.5};
    struct fl_offer facts;
    struct fl_error err = {0};

    if (event->failed) {
        (void)fl_error_set(&err, FL_E_INVALID, "the trainer fails");
        fl_learner_failed(node->learner, world->now, event->ticket, "ProcessFailed", &err);
    } else if (event->evaluation) {
        fl_learner_evaluated(node->learner, world->now, event->ticket, &result);
    } else if (fl_message_decode(arena, &fl_form_offer, event->offer->data, event->offer->len,
                                 &facts, &err) < 0) {
        fail_world(world, "offer: %s", err.msg);
    } else {
        fl_learner_trained(node->learner, world->now, event->ticket, &facts);
    }
}

static void tick(struct world *world, struct node *node, const struct event *event)
{
    if (event->at != node->tick_at)
        return;
    node->tick_at = DEAD;
    if (node->aggregator)
        fl_aggregator_tick(node->aggregator, world->now);
    if (node->learner)
        fl_learner_tick(node->learner, world->now);
}

static void finished(struct world *world, struct node *node, const struct event *event)
{
    struct fl_finished done = {event->digest, *event->state ? event->state : NULL,
                               (int64_t)event->upload};

    fl_aggregator_finished(node->aggregator, world->now, event->ticket,
                           event->failed ? NULL : &done, event->failed ? &event->err : NULL);
    world->commits += !event->failed;
}

static void replied(struct world *world, struct node *node, const struct event *event)
{
    if (node->role == ROLE_CONTROLLER)
        controlled(world, (int)(node - world->nodes), event);
    else if (event->failed)
        fl_learner_unanswered(node->learner, world->now, event->ticket, NULL);
    else
        fl_learner_answered(node->learner, world->now, event->ticket, event->status,
                            event->body->data, event->body->len);
}

static void handle(struct world *world, struct event *event)
{
    struct node *node = &world->nodes[event->node];
    const struct fl_error *err = event->failed ? &event->err : NULL;

    switch (event->kind) { /* those that are for whoever is there */
    case EV_REQUEST:
        arrive_request(world, node, event);
        return;
    case EV_DOWNLOAD:
        arrive_download(world, node, event);
        return;
    case EV_UPLOAD:
        arrive_upload(world, node, event);
        return;
    case EV_KILL:
        node->gone = true;
        if (node->up)
            crash(world, node);
        for (int i = 0; i < world->node_count; i++)
            if (world->nodes[i].role == ROLE_CONTROLLER)
                tell_children(world, i);
        return;
    case EV_START:
        if (!node->up && !node->gone && event->life == node->life)
            start(world, node);
        return;
    default:
        break;
    }
    if (node->role != ROLE_CONTROLLER && (!node->up || event->life != node->life))
        return;
    switch (event->kind) {
    case EV_TICK:
        tick(world, node, event);
        break;
    case EV_REPLY:
        replied(world, node, event);
        break;
    case EV_DOWNLOADED:
        fl_learner_downloaded(node->learner, world->now, event->ticket, err);
        break;
    case EV_UPLOADED:
        fl_learner_uploaded(node->learner, world->now, event->ticket, err);
        break;
    case EV_STAGED:
        fl_aggregator_uploaded(node->aggregator, world->now, event->upload, NULL);
        break;
    case EV_TRAINED:
        arrive_trained(world, node, event);
        break;
    case EV_BEGUN:
        fl_aggregator_begun(node->aggregator, world->now, event->ticket, err);
        break;
    case EV_FOLDED:
        fl_aggregator_folded(node->aggregator, world->now, event->ticket, event->reason, err);
        world->refused += err != NULL;
        break;
    case EV_FINISHED:
        finished(world, node, event);
        break;
    case EV_ADOPTED:
        fl_aggregator_adopted(node->aggregator, world->now, event->ticket, err);
        world->adopted += err == NULL;
        break;
    case EV_CONTROL:
        if (event->ticket == 0 || event->ticket == world->control_ticket)
            control_step(world, event->node);
        break;
    default:
        break;
    }
}

/* --- what must be true at the end ----------------------------------------------------------- */

struct accepted {
    char learner[16];
    int64_t work_round, examples;
    char **contributors;
    size_t contributor_count;
};

static struct node *node_named(struct world *world, const char *id)
{
    for (int i = 0; i < world->node_count; i++)
        if (fl_streq(world->nodes[i].id, id))
            return &world->nodes[i];
    return NULL;
}

/* A contribution, made anew. */
static void add_again(struct world *world, struct fl_strategy *strategy, const char *learner,
                      int64_t round, int64_t work_round)
{
    struct node *node = node_named(world, learner);
    struct fl_model *base = fl_map_get(world->nodes[0].files, world->bases[work_round]);
    int64_t seed = fl_protocol_seed((int64_t)(world->seed & 0xffff), work_round, learner);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *update = NULL;
    struct fl_update_facts facts;
    struct fl_error err = {0};

    if (!node || !base) {
        fail_world(world, "%s or the base of its round is not known", learner);
        return;
    }
    facts = (struct fl_update_facts){.learner = learner,
                                     .examples = node->examples,
                                     .steps = steps_of(node->examples),
                                     .loss = loss_of(seed),
                                     .staleness = round - work_round,
                                     .base = base};

    if (world->mode == FL_MODE_SEMISYNC && facts.staleness > 0)
        facts.examples = (int64_t)fmax(
            1, floor((double)facts.examples * pow(1.0 + (double)facts.staleness, -0.5)));
    update = train(base, seed);
    if (fl_strategy_add(strategy, update, &facts, &err) < 0)
        fail_world(world, "recomputed: %s of %s", err.msg, learner);
}

static void count_once(struct world *world, struct fl_map *seen, const char *learner, int64_t round)
{
    char key[40];

    (void)snprintf(key, sizeof(key), "%" PRId64 ":%s", round, learner);
    if (fl_map_get(seen, key))
        fail_world(world, "%s counts twice", key);
    fl_map_put(seen, key, world);
}

struct audit {
    struct fl_map *seen;
    struct fl_strategy *strategy; /* with the server's state, from round to round */
    json_t *accepts;              /* of the attempt */
    int64_t committed;
};

static void audit_commit(struct world *world, struct audit *audit, const json_t *commit)
{
    int64_t round = fl_json_int(commit, "round", 0), attempt = fl_json_int(commit, "attempt", 0);
    struct fl_exact_precision precision = exact_of(&world->precisions[round][attempt]);
    struct fl_model *base = fl_map_get(world->nodes[0].files, world->bases[round]);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_error err = {0};
    char digest[FL_DIGEST_SIZE];
    json_t *accept, *leaf;
    size_t i, j;

    if (round != audit->committed + 1)
        fail_world(world, "round %" PRId64 " is committed after %" PRId64, round, audit->committed);
    audit->committed = round;
    if ((int64_t)json_array_size(audit->accepts) < world->quorum)
        fail_world(world, "round %" PRId64 " is committed without its quorum", round);
    if (fl_json_int(commit, "status.reported", 0) != (int64_t)json_array_size(audit->accepts))
        fail_world(world, "round %" PRId64 " reports another number of updates", round);
    if (fl_strategy_begin(audit->strategy, base, &precision, world->max_examples[round][attempt],
                          &err) < 0)
        fail_world(world, "recomputed: %s", err.msg);
    json_array_foreach(audit->accepts, i, accept) {
        int64_t work_round = fl_json_int(accept, "workRound", 0);
        json_t *leaves = json_object_get(accept, "contributors");

        if (leaves) {
            json_array_foreach(leaves, j, leaf) {
                count_once(world, audit->seen, json_string_value(leaf), work_round);
                if (world->inner == 1)
                    add_again(world, audit->strategy, json_string_value(leaf), round, work_round);
            }
        } else {
            count_once(world, audit->seen, fl_json_str(accept, "learner"), work_round);
            add_again(world, audit->strategy, fl_json_str(accept, "learner"), round, work_round);
        }
    }
    if (world->inner > 1)
        return;
    if (fl_strategy_finish(audit->strategy, &model, &err) < 0) {
        fail_world(world, "recomputed: %s", err.msg);
        return;
    }
    fl_model_digest(model, digest);
    if (!fl_streq(digest, fl_json_str(commit, "model")))
        fail_world(world, "round %" PRId64 " committed other bits than the flat sum", round);
}

static void audit_status(struct world *world, const json_t *record)
{
    const json_t *status = json_object_get(record, "status"), *excluded, *one;
    int64_t late = fl_json_int(status, "late", 0), dropped = fl_json_int(status, "dropped", 0);
    int64_t rejected = fl_json_int(status, "rejected", 0);
    size_t i;

    excluded = json_object_get(status, "excluded");
    json_array_foreach(excluded, i, one)
        if (!fl_json_str(one, "reason"))
            fail_world(world, "someone is excluded without a reason");
    if ((int64_t)json_array_size(excluded) + fl_json_int(status, "excludedOmitted", 0) !=
        late + dropped + rejected)
        fail_world(world, "exclusions are not those that are listed");
    if (world->mode == FL_MODE_SYNC && fl_streq(fl_json_str(record, "kind"), "Commit") &&
        fl_json_int(status, "selected", 0) !=
            fl_json_int(status, "reported", 0) + late + dropped + rejected)
        fail_world(world, "of %" PRId64 " learners that were asked, some are unaccounted for",
                   fl_json_int(status, "selected", 0));
}

/* The root's journal, read by other means than its own. */
static void audit_root(struct world *world)
{
    const struct fl_buf *journal = &world->nodes[0].ledger;
    struct audit audit = {.seen = fl_map_create(NULL), .accepts = json_array()};
    struct fl_strategy_options options;
    const char *line = journal->data, *end = line + journal->len;

    fl_strategy_options_init(&options, world->strategy);
    if (fl_strategy_create(&options, &audit.strategy, NULL) < 0)
        abort();
    while (line < end && !*world->failure) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        FL_JSON record = NULL;
        const char *kind;

        if (!newline || fl_json_parse(line + 9, (size_t)(newline - line) - 9, NULL, NULL, NULL,
                                      &record, NULL) < 0)
            break;
        line = newline + 1;
        kind = fl_json_str(record, "kind");
        if (fl_streq(kind, "Attempt") || fl_streq(kind, "Spec"))
            json_array_clear(audit.accepts);
        else if (fl_streq(kind, "Accept"))
            json_array_append(audit.accepts, record);
        else if (fl_streq(kind, "Commit"))
            audit_commit(world, &audit, record);
        if (json_object_get(record, "status"))
            audit_status(world, record);
    }
    if (audit.committed != world->rounds)
        fail_world(world, "%" PRId64 " of %" PRId64 " rounds were committed", audit.committed,
                   world->rounds);
    json_decref(audit.accepts);
    fl_map_destroy(audit.seen);
    fl_strategy_destroy(audit.strategy);
}

/* --- a world -------------------------------------------------------------------------------- */

static struct node *add_node(struct world *world, enum role role, const char *name, int number)
{
    struct node *node = &world->nodes[world->node_count++];

    *node = (struct node){.role = role, .tick_at = DEAD};
    (void)snprintf(node->id, sizeof(node->id), number < 0 ? "%s" : "%s-%d", name, number);
    memcpy(node->address, node->id, sizeof(node->id));
    fl_buf_init(&node->journal, 0);
    fl_buf_init(&node->ledger, 0);
    node->files = fl_map_create(unref_model);
    node->staged = fl_map_create(staged_destroy);
    return node;
}

static void make_learners(struct world *world)
{
    for (int i = 0; i < world->learners; i++) {
        struct node *node = add_node(world, ROLE_LEARNER, "l", i);

        node->examples = 1 + below(world, 50);
        node->nature = below(world, 100) < 12 ? (int)(1 + below(world, 3)) : 0;
        if (i < 2) /* the quorum is honest */
            node->nature = 0;
        if (world->tiers)
            (void)snprintf(node->home, sizeof(node->home), "t-%d", i % world->tiers);
        else
            (void)snprintf(node->home, sizeof(node->home), "root");
    }
}

static void make_plan(struct world *world)
{
    static const char *const strategies[] = {"FedAvg", "FedAvgM", "FedAdam", "FedNova"};

    world->loss = (unsigned)below(world, 3) * 40;
    world->doubling = (unsigned)below(world, 3) * 50;
    world->crash = (unsigned)below(world, 4) * 4;
    world->quiet_at = 60000 + below(world, 20 * 60000);
    world->rounds = 2 + below(world, 3);
    world->round = 1;
    world->tiers = below(world, 2) ? (int)(1 + below(world, 3)) : 0;
    world->learners = (int)(3 + below(world, 8));
    world->inner = world->tiers && below(world, 4) == 0 ? 2 : 1;
    world->mode = FL_MODE_SYNC;
    if (!world->tiers && below(world, 3) == 0)
        world->mode = below(world, 2) ? FL_MODE_SEMISYNC : FL_MODE_ASYNC;
    world->strategy = world->mode == FL_MODE_ASYNC ? "FedBuff" : strategies[below(world, 4)];
    world->quorum = world->tiers ? 1 : 1 + below(world, 2);
    world->evaluate = below(world, 2);
    world->from_nothing = below(world, 2);
}

static void build(struct world *world, uint64_t seed)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = first_model(seed & 0xffff);
    struct node *root;
    int controller;

    world->seed = seed;
    world->random = seed * 7919 + 17;
    world->asked = fl_map_create(free);
    make_plan(world);
    root = add_node(world, ROLE_ROOT, "root", -1);
    if (!world->from_nothing) {
        put_file(root, model, world->model);
        world->model_size = file_size(model);
    }
    for (int i = 0; i < world->tiers; i++)
        (void)add_node(world, ROLE_TIER, "t", i);
    make_learners(world);
    controller = world->node_count;
    (void)add_node(world, ROLE_CONTROLLER, "control", -1);
    for (int i = 0; i < controller; i++)
        push(world, event_for(world, EV_START, i, below(world, 5000)));
    push(world, event_for(world, EV_CONTROL, controller, 10));
    if (world->tiers > 0)
        tell_children(world, controller);
    if (world->tiers > 1 && below(world, 3) == 0)
        push(world, event_for(world, EV_KILL, 1, below(world, 10 * 60000)));
}

static void destroy(struct world *world)
{
    for (size_t i = 0; i < world->count; i++)
        event_finish(&world->heap[i]);
    free(world->heap);
    fl_map_destroy(world->asked);
    for (int i = 0; i < world->node_count; i++) {
        struct node *node = &world->nodes[i];

        fl_aggregator_destroy(node->aggregator);
        fl_learner_destroy(node->learner);
        fl_strategy_destroy(node->strategy);
        fl_model_unref(node->restore);
        fl_map_destroy(node->files);
        fl_map_destroy(node->staged);
        fl_buf_finish(&node->journal);
        fl_buf_finish(&node->ledger);
        fl_bytes_unref(node->kept);
    }
    free(world);
}

/* Whoever was away while everyone was told End finds nobody any more; that is the control plane's
 * to clean up. Where all was quiet before the stop, everybody hears of it. */
static void say_who_waits(const struct world *world)
{
    for (int i = 0; i < world->node_count; i++) {
        const struct node *node = &world->nodes[i];

        SAY("%s: %s%s%s %s\n", node->id, node->up ? "up" : "down", node->gone ? ", gone" : "",
            node->ended ? ", ended" : "", node->learner ? fl_learner_doing(node->learner) : "");
    }
}

static bool everyone_ended(const struct world *world)
{
    bool quiet = world->stop_at > world->quiet_at + 5 * 60000;

    if (!world->all_done || !world->nodes[0].ended)
        return false;
    if (!quiet)
        return world->now > world->stop_at + 5 * 60000;
    for (int i = 0; i < world->node_count; i++) {
        const struct node *node = &world->nodes[i];

        if (node->role != ROLE_CONTROLLER && !node->gone && !node->ended)
            return false;
    }
    return true;
}

struct totals {
    size_t crashes, commits, lost, steps, replacements, adopted;
};

/* The failure's text in `out`, empty where all is well. */
static void run_seed(uint64_t seed, char out[400], struct totals *totals)
{
    struct world *world = fl_calloc(1, sizeof(*world));

    build(world, seed);
    while (world->count > 0 && !*world->failure && !everyone_ended(world)) {
        struct event event = pop(world);

        world->now = event.at;
        if (world->now > 12 * HOUR_MS || ++world->steps > EVENTS_MAX)
            fail_world(world,
                       "hangs in round %" PRId64 " at %" PRId64
                       " s after %zu events (quiet at %" PRId64 ")",
                       world->round, world->now / 1000, world->steps, world->quiet_at / 1000);
        handle(world, &event);
        if (world->nodes[event.node].up)
            drain(world, &world->nodes[event.node]);
        event_finish(&event);
    }
    for (int i = 0; i < world->node_count && !*world->failure; i++)
        if (world->nodes[i].role == ROLE_ROOT || world->nodes[i].role == ROLE_TIER)
            check_journal(world, &world->nodes[i]);
    if (!*world->failure && !world->all_done && world->count == 0)
        fail_world(world, "nothing happens any more in round %" PRId64, world->round);
    if (!*world->failure)
        audit_root(world);
    say_who_waits(world);
    totals->crashes += world->crashes;
    totals->commits += world->commits;
    totals->lost += world->lost;
    totals->steps += world->steps;
    totals->replacements += world->replacements;
    totals->adopted += world->adopted;
    memcpy(out, world->failure, sizeof(world->failure));
    destroy(world);
}

static int run_many(uint64_t first, uint64_t count)
{
    struct totals totals = {0};
    int64_t begin = fl_machine_monotonic_us();
    uint64_t failures = 0;
    char failure[400];

    for (uint64_t seed = first; seed < first + count; seed++) {
        run_seed(seed, failure, &totals);
        if (*failure && ++failures <= 20)
            printf("seed %" PRIu64 ": %s\n", seed, failure);
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " failures; %zu events, %zu crashes, %zu messages lost, "
           "%zu sums finished, %zu journals replaced, %zu first models made; %.1f s\n",
           count, failures, totals.steps, totals.crashes, totals.lost, totals.commits,
           totals.replacements, totals.adopted, (double)(fl_machine_monotonic_us() - begin) / 1e6);
    return failures > 0;
}

static void test_worlds(void **state)
{
    (void)state;
    assert_int_equal(run_many(1, 300), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_worlds)};
    int64_t count = 0, first = 1;

    if (argc > 1) {
        if (!fl_str_to_int64(argv[1], 1, INT32_MAX, &count) ||
            (argc > 2 && !fl_str_to_int64(argv[2], 1, INT32_MAX, &first))) {
            (void)fprintf(stderr, "usage: %s [COUNT [FIRST [-v]]]\n", argv[0]);
            return 2;
        }
        verbose = argc > 3;
        return run_many((uint64_t)first, (uint64_t)count);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
