/* Chance, time, and the run of a world. */
#include "workloads/aggregator/sim/rig.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOUR_MS    ((int64_t)3600 * 1000)
#define EVENTS_MAX 600000

const char *const rig_bugs[RIG_BUGS] = {
    [RIG_BUG_UNSYNCED_JOURNAL] = "UnsyncedJournal",
    [RIG_BUG_SUM_OUTLIVES] = "SumOutlives",
    [RIG_BUG_HALF_COMMIT] = "HalfCommit",
    [RIG_BUG_QUORUM_OFF] = "QuorumOff",
    [RIG_BUG_LATE_TWICE] = "LateTwice",
    [RIG_BUG_MOVED_TWICE] = "MovedTwice",
    [RIG_BUG_TAIL_STAYS] = "TailStays",
    [RIG_BUG_REPLACE_TORN] = "ReplaceTorn",
    [RIG_BUG_REPLACE_FORGETS] = "ReplaceForgets",
    [RIG_BUG_UPLOADS_MIXED] = "UploadsMixed",
    [RIG_BUG_STATE_LOST] = "StateLost",
    [RIG_BUG_STATE_RUNS_ON] = "StateRunsOn",
    [RIG_BUG_REFUSED_COUNTS] = "RefusedCounts",
    [RIG_BUG_OWN_PRECISION] = "OwnPrecision",
    [RIG_BUG_SHARE_IGNORED] = "ShareIgnored",
    [RIG_BUG_STALE_BASE] = "StaleBase",
    [RIG_BUG_TIMER_LOST] = "TimerLost",
    [RIG_BUG_RELEASED_EARLY] = "ReleasedEarly",
    [RIG_BUG_NEVER_RELEASED] = "NeverReleased",
    [RIG_BUG_WRONG_BYTES] = "WrongBytes",
    [RIG_BUG_HANG_WAITED_FOR] = "HangWaitedFor",
    [RIG_BUG_STEP_LEFT_OUT] = "StepLeftOut",
};

/* The first thing that is wrong is the one to look at. */
void rig_fail(struct rig_world *world, const char *fmt, ...)
{
    va_list ap;

    if (*world->failure)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(world->failure, sizeof(world->failure), fmt, ap);
    va_end(ap);
}

void rig_say(const struct rig_world *world, const struct rig_node *node, const char *fmt, ...)
{
    va_list ap;

    if (!world->verbose)
        return;
    printf("%8" PRId64 " %-8s ", world->now, node->id);
    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

/* --- chance and time --- */

static uint64_t draw(struct rig_world *world)
{
    uint64_t x = world->random += 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

int64_t rig_below(struct rig_world *world, int64_t bound)
{
    return (int64_t)(draw(world) % (uint64_t)bound);
}

bool rig_chance(struct rig_world *world, unsigned per_mille)
{
    return world->now < world->quiet_at && rig_below(world, 1000) < (int64_t)per_mille;
}

/* Mostly short, sometimes so long that a message overtakes nothing any more. */
int64_t rig_latency(struct rig_world *world)
{
    int64_t ms = 1 + rig_below(world, 60);

    return rig_chance(world, 60) ? ms + rig_below(world, 40000) : ms;
}

static bool sooner(const struct rig_event *a, const struct rig_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void rig_push(struct rig_world *world, struct rig_event event)
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

static struct rig_event pop(struct rig_world *world)
{
    struct rig_event first = world->heap[0], last = world->heap[--world->count];
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

struct rig_event rig_event_for(struct rig_world *world, enum rig_event_kind kind, int node,
                               int64_t delay_ms)
{
    return (struct rig_event){
        .at = world->now + delay_ms, .kind = kind, .node = node, .life = world->nodes[node].life};
}

void rig_event_finish(struct rig_event *event)
{
    free(event->target);
    fl_bytes_unref(event->body);
    fl_bytes_unref(event->offer);
}

/* --- events --- */

static void arrive_request(struct rig_world *world, struct rig_node *node,
                           const struct rig_event *event)
{
    const struct rig_node *from = &world->nodes[event->from];
    struct fl_aggregator_request request = {.request = event->request,
                                            .method = event->method,
                                            .target = event->target,
                                            .control_plane = from->role == RIG_CONTROLLER};

    if (!node->up || node->ended) {
        rig_refuse_connection(world, event);
        return;
    }
    rig_say(world, node, "<- %s %s %s %.300s", from->id, event->method, event->target,
            event->body ? event->body->data : "");
    request.body = event->body ? event->body->data : "";
    request.body_len = event->body ? event->body->len : 0;
    request.peer = request.control_plane ? NULL : from->id;
    fl_aggregator_request(node->aggregator, world->now, &request);
}

static void arrive_download(struct rig_world *world, struct rig_node *node,
                            const struct rig_event *event)
{
    struct rig_node *to = &world->nodes[event->from];
    struct rig_event back = rig_event_for(world, RIG_DOWNLOADED, event->from, rig_latency(world));
    bool served = node->up && fl_aggregator_serves(node->aggregator, event->digest);
    struct fl_model *model = served ? fl_map_get(node->files, event->digest) : NULL;

    /* A file that is there is always told of: between the two there is no network. */
    if (rig_chance(world, world->loss))
        return;
    back.life = event->life;
    back.ticket = event->ticket;
    if (!model) {
        back.failed = true;
        (void)fl_error_set(&back.err, FL_E_UNAVAILABLE, "no such model there");
        if (served)
            rig_fail(world, "%s serves a model that it has not", node->id);
    } else if (to->life == event->life) {
        if (!fl_map_get(to->files, event->digest))
            fl_map_put(to->files, event->digest, fl_model_ref(model));
        fl_aggregator_moved_bytes(node->aggregator, world->now, to->id, 0, rig_file_size(model));
    }
    rig_push(world, back);
}

/* What was cut short, and that it was whole is not looked at. */
static struct fl_model *bytes_of(struct rig_world *world, struct fl_model *model)
{
    struct fl_model *wrong = NULL;

    if (world->bug != RIG_BUG_WRONG_BYTES || !rig_chance(world, 200) || !fl_model_find(model, "w"))
        return fl_model_ref(model);
    if (fl_model_like(model, true, &wrong, NULL) < 0)
        abort();
    memset(wrong->data, 0, wrong->size / 2);
    return wrong;
}

static void arrive_upload(struct rig_world *world, struct rig_node *node,
                          const struct rig_event *event)
{
    struct rig_event back = rig_event_for(world, RIG_UPLOADED, event->from, rig_latency(world));
    struct fl_model *model = fl_map_get(world->archive, event->digest);
    struct rig_staged *staged;
    char key[24];

    (void)snprintf(key, sizeof(key), "%" PRIu64,
                   world->bug == RIG_BUG_UPLOADS_MIXED ? event->upload & 0xffff : event->upload);
    staged = node->up ? fl_map_get(node->staged, key) : NULL;
    back.life = event->life;
    back.ticket = event->ticket;
    back.failed = !staged;
    if (!staged) {
        (void)fl_error_set(&back.err, FL_E_NOT_FOUND, "no such upload");
    } else if (!staged->model) {
        struct rig_event ready = rig_event_for(world, RIG_STAGED, event->node, 1);

        if (!fl_streq(staged->digest, event->digest))
            rig_fail(world, "%s gets another upload than it expects", node->id);
        staged->model = bytes_of(world, model);
        ready.upload = event->upload;
        rig_push(world, ready);
    }
    if (!rig_chance(world, world->loss))
        rig_push(world, back);
}

static void tick(struct rig_world *world, struct rig_node *node, const struct rig_event *event)
{
    if (event->at != node->tick_at)
        return;
    node->tick_at = RIG_NEVER;
    if (world->bug == RIG_BUG_TIMER_LOST && node->role == RIG_LEARNER && ++node->ticks >= 10)
        return;
    if (node->aggregator)
        fl_aggregator_tick(node->aggregator, world->now);
    if (node->learner)
        fl_learner_tick(node->learner, world->now);
}

static void finished(struct rig_world *world, struct rig_node *node, const struct rig_event *event)
{
    struct fl_finished done = {event->digest, *event->state ? event->state : NULL,
                               (int64_t)event->upload};

    if (!event->failed && node->role == RIG_TIER) {
        rig_hold(node, done.model, RIG_HELD_BY_CORE);
        if (done.state)
            rig_hold(node, done.state, RIG_HELD_BY_CORE);
    }
    fl_aggregator_finished(node->aggregator, world->now, event->ticket,
                           event->failed ? NULL : &done, event->failed ? &event->err : NULL);
    world->totals.commits += !event->failed;
}

static void replied(struct rig_world *world, struct rig_node *node, const struct rig_event *event)
{
    if (node->role == RIG_CONTROLLER)
        rig_controlled(world, event);
    else if (event->failed)
        fl_learner_unanswered(node->learner, world->now, event->ticket, NULL);
    else
        fl_learner_answered(node->learner, world->now, event->ticket, event->status,
                            event->body->data, event->body->len);
}

static void kill_for_ever(struct rig_world *world, struct rig_node *node)
{
    node->gone = true;
    if (node->up)
        rig_crash(world, node);
    rig_say(world, node, "is gone for ever");
}

static void leave(struct rig_world *world, struct rig_node *node)
{
    if (!node->up || node->ended || world->now >= world->quiet_at)
        return;
    node->leaving = true;
    world->totals.leaves++;
    fl_learner_leave(node->learner, world->now, "for a while");
}

/* Those that are for whoever is there. */
static bool handle_any(struct rig_world *world, struct rig_node *node, struct rig_event *event)
{
    switch (event->kind) {
    case RIG_REQUEST:
        arrive_request(world, node, event);
        return true;
    case RIG_DOWNLOAD:
        arrive_download(world, node, event);
        return true;
    case RIG_UPLOAD:
        arrive_upload(world, node, event);
        return true;
    case RIG_KILL:
        kill_for_ever(world, node);
        return true;
    case RIG_LEAVE:
        leave(world, node);
        return true;
    case RIG_START:
        if (!node->up && !node->gone && event->life == node->life)
            rig_start(world, node);
        return true;
    case RIG_CONTROL:
        if (event->ticket == 0 || event->ticket == world->control_ticket)
            rig_control(world);
        return true;
    case RIG_CHILDREN:
        rig_tell_children(world);
        return true;
    default:
        return false;
    }
}

static void handle(struct rig_world *world, struct rig_event *event)
{
    struct rig_node *node = &world->nodes[event->node];
    const struct fl_error *err = event->failed ? &event->err : NULL;

    if (handle_any(world, node, event))
        return;
    if (node->role != RIG_CONTROLLER && (!node->up || event->life != node->life))
        return;
    switch (event->kind) {
    case RIG_TICK:
        tick(world, node, event);
        break;
    case RIG_REPLY:
        replied(world, node, event);
        break;
    case RIG_DOWNLOADED:
        fl_learner_downloaded(node->learner, world->now, event->ticket, err);
        break;
    case RIG_UPLOADED:
        fl_learner_uploaded(node->learner, world->now, event->ticket, err);
        break;
    case RIG_STAGED:
        fl_aggregator_uploaded(node->aggregator, world->now, event->upload, NULL);
        break;
    case RIG_TRAINED:
        rig_trained(world, node, event);
        break;
    case RIG_BEGUN:
        fl_aggregator_begun(node->aggregator, world->now, event->ticket, err);
        break;
    case RIG_FOLDED:
        if (err && world->bug == RIG_BUG_REFUSED_COUNTS)
            err = NULL;
        world->totals.refused += err != NULL;
        fl_aggregator_folded(node->aggregator, world->now, event->ticket, NULL, err);
        break;
    case RIG_ADOPTED:
        world->totals.adopted += err == NULL;
        if (!err && node->role == RIG_TIER)
            rig_hold(node, event->digest, RIG_HELD_BY_CORE);
        fl_aggregator_adopted(node->aggregator, world->now, event->ticket, err);
        break;
    case RIG_HUNG:
        if (node->hanging == event->ticket)
            rig_fail(world, "%s waits for a trainer that hangs", node->id);
        break;
    case RIG_FINISHED:
        finished(world, node, event);
        break;
    default:
        break;
    }
}

/* --- a world --- */

/* True: there was something to do, and the node is still up. */
static bool drain_one(struct rig_world *world, struct rig_node *node)
{
    const struct fl_aggregator_action *above =
        node->aggregator ? fl_aggregator_next(node->aggregator) : NULL;
    const struct fl_learner_action *below = NULL;

    if (above)
        return rig_do_aggregator(world, node, above);
    below = node->learner ? fl_learner_next(node->learner) : NULL;
    return below && rig_do_learner(world, node, below);
}

/* Until both cores have nothing left to ask for. */
static void drain(struct rig_world *world, struct rig_node *node)
{
    int64_t next, at;
    int loops = 0;

    while (node->up && !*world->failure && drain_one(world, node))
        if (++loops > 20000)
            rig_fail(world, "%s does not come to rest", node->id);
    if (!node->up)
        return;
    next = node->aggregator ? fl_aggregator_deadline(node->aggregator) : RIG_NEVER;
    at = node->learner ? fl_learner_deadline(node->learner) : RIG_NEVER;
    next = at < next ? at : next;
    if (next == RIG_NEVER || next == node->tick_at)
        return;
    node->tick_at = next > world->now ? next : world->now;
    rig_push(world,
             rig_event_for(world, RIG_TICK, rig_index(world, node), node->tick_at - world->now));
}

/* Whoever was away while everyone was told End finds nobody any more; that is the control plane's
 * to clean up. Where all was quiet before the stop, everybody hears of it. */
static bool everyone_ended(const struct rig_world *world)
{
    bool quiet = world->stop_at > world->quiet_at + 10 * 60000;

    if (!world->all_done || !world->nodes[0].ended)
        return false;
    if (!quiet)
        return world->now > world->stop_at + 5 * 60000;
    for (int i = 0; i < world->node_count; i++) {
        const struct rig_node *node = &world->nodes[i];

        if (node->role != RIG_CONTROLLER && !node->gone && !node->ended)
            return false;
    }
    return true;
}

static void destroy(struct rig_world *world)
{
    for (size_t i = 0; i < world->count; i++)
        rig_event_finish(&world->heap[i]);
    free(world->heap);
    fl_map_destroy(world->asked);
    for (int i = 0; i < world->node_count; i++)
        rig_node_finish(&world->nodes[i]);
    fl_map_destroy(world->archive);
    free(world);
}

static void add_totals(const struct rig_world *world, struct rig_totals *totals)
{
    const struct rig_totals *more = &world->totals;

    totals->crashes += more->crashes;
    totals->commits += more->commits;
    totals->lost += more->lost;
    totals->steps += world->steps;
    totals->replacements += more->replacements;
    totals->aborts += more->aborts;
    totals->leaves += more->leaves;
    totals->moves += more->moves;
    totals->refused += more->refused;
    totals->late += more->late;
    totals->hung += more->hung;
    totals->adopted += more->adopted;
}

static void step(struct rig_world *world)
{
    struct rig_event event = pop(world);

    world->now = event.at;
    if (world->now > 12 * HOUR_MS || ++world->steps > EVENTS_MAX)
        rig_fail(world, "hangs in round %" PRId64 " at %" PRId64 " s (quiet at %" PRId64 ")",
                 world->round, world->now / 1000, world->quiet_at / 1000);
    handle(world, &event);
    if (world->nodes[event.node].up)
        drain(world, &world->nodes[event.node]);
    rig_event_finish(&event);
}

void rig_run(uint64_t seed, enum rig_bug bug, bool verbose, char out[400],
             struct rig_totals *totals)
{
    struct rig_world *world = fl_calloc(1, sizeof(*world));

    world->bug = bug;
    world->verbose = verbose;
    rig_build(world, seed);
    while (world->count > 0 && !*world->failure && !everyone_ended(world))
        step(world);
    if (!*world->failure && !world->all_done)
        rig_fail(world, "nothing happens any more in round %" PRId64, world->round);
    if (!*world->failure)
        rig_audit(world);
    add_totals(world, totals);
    memcpy(out, world->failure, sizeof(world->failure));
    destroy(world);
}
