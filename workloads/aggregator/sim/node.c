/* Processes, their disks, and the network between them. */
#include "workloads/aggregator/sim/rig.h"

#include "lib/str.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Who asked what: where a reply goes. */
struct asked {
    int node;
    int64_t life;
    uint64_t ticket;
};

int rig_index(const struct rig_world *world, const struct rig_node *node)
{
    return (int)(node - world->nodes);
}

struct rig_node *rig_node_at(struct rig_world *world, const char *address)
{
    for (int i = 0; i < world->node_count; i++)
        if (fl_streq(world->nodes[i].address, address))
            return &world->nodes[i];
    return NULL;
}

/* --- disks --- */

void rig_archive(struct rig_world *world, struct fl_model *model, enum fl_digest_kind kind,
                 char digest[FL_DIGEST_SIZE])
{
    fl_model_digest_by(model, kind, digest);
    if (!fl_map_get(world->archive, digest))
        fl_map_put(world->archive, digest, fl_model_ref(model));
}

void rig_put_file(struct rig_world *world, struct rig_node *node, struct fl_model *model,
                  enum fl_digest_kind kind, char digest[FL_DIGEST_SIZE])
{
    rig_archive(world, model, kind, digest);
    if (!fl_map_get(node->files, digest))
        fl_map_put(node->files, digest, fl_model_ref(model));
}

int64_t rig_file_size(const struct fl_model *model)
{
    size_t size;

    fl_bytes_unref(fl_safetensors_header(model, &size));
    return (int64_t)size;
}

/* What was there at the start and is not needed. */
void rig_sweep(struct rig_node *node, bool (*needs)(const struct rig_node *, const char *))
{
    void *cursor = NULL, *value;
    const char *digest;

    while (fl_map_next(node->found, &cursor, &digest, &value))
        if (!needs(node, digest))
            (void)fl_map_remove(node->files, digest);
    node->swept = true;
}

/* --- processes --- */

void rig_staged_destroy(void *value)
{
    struct rig_staged *staged = value;

    fl_model_unref(staged->model);
    free(staged);
}

/* What was written and not synced is gone with the machine. */
static void lose_unsynced(struct rig_world *world, struct rig_node *node)
{
    if (world->bug == RIG_BUG_UNSYNCED_JOURNAL && node->ledger) {
        node->journal.len = node->journal_synced;
        while (json_array_size(node->ledger) > node->ledger_synced)
            json_array_remove(node->ledger, json_array_size(node->ledger) - 1);
    }
    if (world->bug == RIG_BUG_HALF_COMMIT && *node->fresh)
        (void)fl_map_remove(node->files, node->fresh);
}

void rig_crash(struct rig_world *world, struct rig_node *node)
{
    rig_say(world, node, "crashes");
    lose_unsynced(world, node);
    fl_aggregator_destroy(FL_TAKE(node->aggregator));
    fl_learner_destroy(FL_TAKE(node->learner));
    fl_strategy_destroy(FL_TAKE(node->outlived));
    if (world->bug == RIG_BUG_SUM_OUTLIVES && node->role == RIG_ROOT)
        node->outlived = FL_TAKE(node->strategy);
    fl_strategy_destroy(FL_TAKE(node->strategy));
    fl_map_destroy(node->staged);
    node->staged = fl_map_create(rig_staged_destroy);
    fl_map_destroy(node->held);
    node->held = fl_map_create(NULL);
    node->up = node->leaving = false;
    node->parent_ticket = node->hanging = 0;
    node->life++;
    node->began = false;
    world->totals.crashes++;
    if (!node->gone && !(node->ended && node->role == RIG_LEARNER))
        rig_push(world,
                 rig_event_for(world, RIG_START, rig_index(world, node),
                               100 + rig_below(world, rig_chance(world, 200) ? 120000 : 5000)));
}

static void remember_found(struct rig_node *node)
{
    void *cursor = NULL, *value;
    const char *digest;

    fl_map_destroy(node->found);
    node->found = fl_map_create(NULL);
    node->swept = false;
    while (fl_map_next(node->files, &cursor, &digest, &value))
        fl_map_put(node->found, digest, node);
}

static void start_aggregator(struct rig_world *world, struct rig_node *node)
{
    struct fl_aggregator_options options = {
        .id = node->id,
        .has_parent = node->role == RIG_TIER,
        .parent = node->role == RIG_TIER ? node->home : NULL,
        .poll_ms = 20000,
        .silence_ms = 50000,
        .progress_ms = 8000,
        .upload_ms = 60000,
        .max_uploads = 3,
        .keep_models = RIG_KEEP,
        .journal_bytes = 2000 + (int64_t)(world->seed % 4) * 3000,
    };
    struct fl_error err = {0};

    if (fl_aggregator_create(&options, world->now, node->journal.data, node->journal.len,
                             &node->aggregator, &err) < 0)
        rig_fail(world, "%s does not start: %s", node->id, err.msg);
}

static void start_learner(struct rig_world *world, struct rig_node *node)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_learner_options options = {.address = node->home,
                                         .parent = *node->above ? node->above : NULL,
                                         .lost_ms = 40000,
                                         .request_ms = 10000,
                                         .transfer_ms = 20000,
                                         .grace_ms = 10000,
                                         .seed = world->random + (uint64_t)node->life};
    struct fl_error err = {0};
    struct fl_kept kept;

    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = node->id;
    options.join.examples = node->role == RIG_TIER ? 0 : node->examples;
    options.join.aggregator = node->role == RIG_TIER;
    if (node->kept && fl_kept_decode(arena, node->kept->data, node->kept->len, &kept, &err) < 0) {
        rig_fail(world, "%s: %s", node->id, err.msg);
    } else if (node->kept && fl_map_get(node->files, kept.offer.digest)) {
        options.kept = &kept;
        rig_hold(node, kept.offer.digest, RIG_HELD_BY_UPLINK);
    }
    if (fl_learner_create(&options, world->now, &node->learner, &err) < 0)
        rig_fail(world, "%s does not start: %s", node->id, err.msg);
}

void rig_start(struct rig_world *world, struct rig_node *node)
{
    node->up = true;
    node->tick_at = RIG_NEVER;
    remember_found(node);
    if (node->role != RIG_LEARNER)
        start_aggregator(world, node);
    if (node->role != RIG_ROOT)
        start_learner(world, node);
}

void rig_node_finish(struct rig_node *node)
{
    fl_aggregator_destroy(node->aggregator);
    fl_learner_destroy(node->learner);
    fl_strategy_destroy(node->strategy);
    fl_strategy_destroy(node->outlived);
    fl_map_destroy(node->files);
    fl_map_destroy(node->found);
    fl_map_destroy(node->held);
    fl_map_destroy(node->staged);
    fl_buf_finish(&node->journal);
    fl_bytes_unref(node->kept);
    json_decref(node->ledger);
}

/* --- the network --- */

static void key_of(uint64_t request, char key[24])
{
    (void)snprintf(key, 24, "%" PRIu64, request);
}

static void send_copy(struct rig_world *world, int from, uint64_t ticket, int to,
                      const char *method, const char *target, struct fl_bytes *body)
{
    struct rig_event event = rig_event_for(world, RIG_REQUEST, to, rig_latency(world));
    struct asked *asked = fl_calloc(1, sizeof(*asked));
    char key[24];

    event.from = from;
    event.ticket = ticket;
    event.request = ++world->requests;
    (void)snprintf(event.method, sizeof(event.method), "%s", method);
    event.target = fl_strdup(target);
    event.body = body ? fl_bytes_ref(body) : NULL;
    *asked = (struct asked){from, world->nodes[from].life, ticket};
    key_of(event.request, key);
    fl_map_put(world->asked, key, asked);
    if (!rig_chance(world, world->loss)) {
        rig_push(world, event);
        return;
    }
    world->totals.lost++;
    rig_event_finish(&event);
}

void rig_send_request(struct rig_world *world, int from, uint64_t ticket, const char *address,
                      const char *method, const char *target, struct fl_bytes *body)
{
    const struct rig_node *to = rig_node_at(world, address);
    int copies = rig_chance(world, world->doubling) ? 2 : 1;

    if (!to)
        rig_fail(world, "no such address: %s", address);
    for (int i = 0; to && i < copies; i++)
        send_copy(world, from, ticket, rig_index(world, to), method, target, body);
}

void rig_send_reply(struct rig_world *world, uint64_t request, int status, struct fl_bytes *body)
{
    struct asked *asked;
    char key[24];

    key_of(request, key);
    asked = fl_map_get(world->asked, key);
    if (!asked) {
        rig_fail(world, "a request is answered twice");
        return;
    }
    if (!rig_chance(world, world->loss)) {
        struct rig_event event = rig_event_for(world, RIG_REPLY, asked->node, rig_latency(world));

        event.life = asked->life;
        event.ticket = asked->ticket;
        event.status = status;
        event.body = fl_bytes_ref(body);
        rig_push(world, event);
    }
    (void)fl_map_remove(world->asked, key);
}

/* Nobody listens there: the connection is refused, sometimes nothing is heard. */
void rig_refuse_connection(struct rig_world *world, const struct rig_event *event)
{
    char key[24];

    key_of(event->request, key);
    (void)fl_map_remove(world->asked, key);
    if (!rig_chance(world, 500)) {
        struct rig_event reply = rig_event_for(world, RIG_REPLY, event->from, rig_latency(world));

        reply.ticket = event->ticket;
        reply.failed = true;
        rig_push(world, reply);
    }
}
