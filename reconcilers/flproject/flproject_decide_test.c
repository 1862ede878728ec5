/* The decision, as a table: a project and a world in, one line of what should happen out. */
#include "reconcilers/flproject/flproject_decide.h"

#include "controller/runtime/reconcile.h"
#include "lib/buf.h"
#include "lib/str.h"
#include "lib/yaml.h"
#include "reconcilers/federation/where.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define NOW_S INT64_C(1000000)
#define GIT   "git: {url: 'https://x/y'}"
#define UID   "0a1b"

/* A world, in few words (YAML):
 *   spec:    of the project, over a small default; `status` its conditions
 *   nodes:   [[cluster, name, {labels}, [tags], closed, gone]]; unset: a1, a2 in a, and b1, b2 in b
 *   up:      false: no Workload is there yet; unset: all are up for long, and learners have joined
 *   young:   all came up just now
 *   fallen:  true: the first learner has ended, and is to be started again
 *   down:    tier, root: so has the first aggregator of a tier, or the root
 *   joined:  how many learners
 *   rounds:  [{i, state: open|committed|evaluating|failed, m: {metrics}, hand, tally, by, attempt,
 *              start}]
 *   models:  [{i, m, aliases, keep}]
 *   root:    known|unknown|unreachable; committed: what it says
 *   orchestrator: there|gone|down
 *   fetch:   of source.git: none|failed|final|done
 *   server:  none|starting|ready */
struct world {
    struct fl_arena *arena;
    json_t *json; /* the case */
    struct fl_flproject_input input;
    struct fl_flproject_decision out;
};

static json_t *parse(struct fl_arena *arena, const char *yaml)
{
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_yaml_parse(yaml, strlen(yaml), NULL, &value, &err) < 0)
        fail_msg("%s: %s", yaml, err.msg);
    return fl_json_in_arena(arena, value);
}

static void *typed(struct world *world, const struct fl_kind_type *type, json_t *json)
{
    struct fl_error err = {0};
    void *object = NULL;

    if (fl_object_decode(type, fl_json_in_arena(world->arena, json), world->arena, &object, &err) <
        0)
        fail_msg("%s: %s", type->kind, err.msg);
    return object;
}

static void merge(json_t *to, json_t *from)
{
    const char *key;
    json_t *value;

    json_object_foreach(from, key, value) {
        if (json_is_object(value) && json_is_object(json_object_get(to, key)))
            merge(json_object_get(to, key), value);
        else
            (void)json_object_set(to, key, value);
    }
}

static const char *time_text(struct world *world, int64_t s)
{
    char text[FL_TIME_SIZE];

    fl_time_format(s * 1000000, text);
    return fl_arena_strdup(world->arena, text);
}

/* With the defaults filled in, as the server has it. */
static void make_project(struct world *world)
{
    json_t *json =
        parse(world->arena, "{apiVersion: flops.dev/v1alpha1, kind: FLProject,"
                            " metadata: {name: p, namespace: default, uid: " UID "},"
                            " spec: {source: {builtin: {trainer: MLP}}, training: {rounds: 3},"
                            " learners: {count: 4}}}");
    json_t *spec = json_object_get(world->json, "spec");
    struct fl_project *project;

    if (spec)
        merge(json_object_get(json, "spec"), spec);
    if (json_object_get(world->json, "status"))
        (void)json_object_set(json, "status", json_object_get(world->json, "status"));
    if (json_is_null(fl_json_path(json, "spec.learners.count")))
        (void)json_object_del(fl_json_path(json, "spec.learners"), "count");
    project = typed(world, &fl_project_type, json_incref(json));
    world->input.project = project;
    world->input.json = fl_json_in_arena(world->arena, fl_project_encode(project));
    world->input.suspend = project->spec.suspend;
}

static void make_nodes(struct world *world)
{
    json_t *list = json_object_get(world->json, "nodes"), *item;
    struct fl_flproject_node *nodes;
    size_t i;

    if (!list)
        list = parse(world->arena, "[[b, b1], [a, a1], [b, b2], [a, a2]]");
    nodes = fl_new_array(world->arena, struct fl_flproject_node, json_array_size(list) + 1);
    json_array_foreach(list, i, item) {
        struct fl_flproject_node *node = &nodes[i];
        const char *key;
        json_t *value;
        size_t n;

        node->cluster = json_string_value(json_array_get(item, 0));
        node->name = json_string_value(json_array_get(item, 1));
        node->labels.items = fl_new_array(world->arena, struct fl_string_pair, 8);
        json_object_foreach(json_array_get(item, 2), key, value)
            node->labels.items[node->labels.count++] =
                (struct fl_string_pair){key, json_string_value(value)};
        node->data_tags.items = fl_new_array(world->arena, const char *, 8);
        json_array_foreach(json_array_get(item, 3), n, value)
            node->data_tags.items[node->data_tags.count++] = json_string_value(value);
        node->closed = json_is_true(json_array_get(item, 4));
        node->ready = !json_is_true(json_array_get(item, 5));
    }
    world->input.nodes = nodes;
    world->input.node_count = json_array_size(list);
}

/* Conditions of a round in this state. */
static json_t *round_conditions(const char *state, const char *by)
{
    bool is_committed = fl_streq(state, "committed");
    json_t *list = json_array();
    const struct {
        const char *type;
        bool holds;
        const char *reason;
    } all[] = {
        {"Aggregated", is_committed || fl_streq(state, "evaluating"), "Committed"},
        {"Succeeded", is_committed, "Committed"},
        {"Stalled", fl_streq(state, "failed"), "QuorumNotReached"},
        {"Ready", is_committed, is_committed ? "Committed" : fl_str_or(by, "Training")},
    };

    for (size_t i = 0; i < FL_COUNT_OF(all); i++)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", all[i].type, "status",
                            all[i].holds ? "True" : "False", "reason", all[i].reason, "message",
                            "words", "lastTransitionTime", "2020-01-01T00:00:00Z"));
    return list;
}

static json_t *training_part(struct world *world, const json_t *item, const char *name)
{
    json_t *own = json_object_get(item, name);

    return own ? own : json_object_get(fl_json_path(world->input.json, "spec.training"), name);
}

static void *make_round(struct world *world, json_t *item)
{
    int64_t number = fl_json_int(item, "i", 0);
    const char *role = fl_flproject_round_role(world->arena, number);
    bool by_hand = fl_json_bool(item, "hand", false);
    const char *name = by_hand ? "by-hand" : fl_child_name(world->arena, "p", UID, role);
    const char *state = fl_json_str(item, "state"), *tally = fl_json_str(item, "tally");
    json_t *json = json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:{s:{s:s}, s:b, s:O?, s:O?, s:O?}, s:{s:o, s:I, s:s, "
        "s:{s:O?}, s:{s:s, s:I}}}",
        "apiVersion", "flops.dev/v1alpha1", "kind", "FLRound", "metadata", "name", name,
        "namespace", "default", "spec", "project", "name", "p", "suspend",
        (int)fl_json_bool(item, "suspend", false), "local", training_part(world, item, "local"),
        "strategy", training_part(world, item, "strategy"), "participation",
        training_part(world, item, "participation"), "status", "conditions",
        round_conditions(state, fl_json_str(item, "by")), "attempt",
        (json_int_t)fl_json_int(item, "attempt", 1), "startTime",
        time_text(world, NOW_S - fl_json_int(item, "start", 100)), "metrics", "evaluation",
        json_object_get(item, "m"), "model", "digest",
        fl_arena_printf(world->arena, "sha256:%064" PRId64, number), "size", (json_int_t)10);

    if (json_object_get(item, "run"))
        (void)json_object_set(json_object_get(json, "status"), "run", json_object_get(item, "run"));
    if (number > 0)
        (void)json_object_set_new(json_object_get(json, "spec"), "index", json_integer(number));
    if (tally)
        (void)json_object_set_new(json_object_get(json, "metadata"), "annotations",
                                  json_pack("{s:s}", FL_FLPROJECT_TALLY, tally));
    return typed(world, &fl_round_type, json);
}

static void *make_model(struct world *world, json_t *item)
{
    int64_t number = fl_json_int(item, "i", 0);

    return typed(world, &fl_modelversion_type,
                 json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:{s:s}, s:I, s:s, s:O?, s:O?, s:b}}",
                           "apiVersion", "flops.dev/v1alpha1", "kind", "ModelVersion", "metadata",
                           "name", fl_arena_printf(world->arena, "m%" PRId64, number), "namespace",
                           "default", "spec", "project", "name", "p", "round", (json_int_t)number,
                           "digest", fl_arena_printf(world->arena, "sha256:%064" PRId64, number),
                           "metrics", json_object_get(item, "m"), "aliases",
                           json_object_get(item, "aliases"), "keep",
                           (int)fl_json_bool(item, "keep", false)));
}

static void *const *make_all(struct world *world, const char *key,
                             void *(*make)(struct world *world, json_t *item), size_t *ret_count)
{
    json_t *list = json_object_get(world->json, key), *item;
    void **items = fl_new_array(world->arena, void *, json_array_size(list) + 1);
    size_t i;

    json_array_foreach(list, i, item)
        items[i] = make(world, item);
    *ret_count = json_array_size(list);
    return items;
}

static bool falls(const struct world *world, const struct fl_flproject_service *service,
                  int64_t number)
{
    if (number != 0 || service->first != 0)
        return false;
    if (!service->id)
        return fl_json_bool(world->json, "fallen", false);
    return fl_streq(fl_json_str(world->json, "down"), service->parent ? "tier" : "root");
}

static void fall(struct fl_workload_status_instance *instance)
{
    instance->state = FL_WORKLOAD_STATUS_INSTANCE_STATE_WAITING;
    instance->ready = false;
    instance->has_last_exit = true;
    instance->last_exit.reason = "Error";
    instance->last_exit.log_tail = "the data are bad";
}

/* A Workload as its own reconciler would show it, all instances up. */
static struct fl_workload *come_up(struct world *world, const struct fl_flproject_service *service,
                                   int64_t port)
{
    struct fl_workload *workload =
        fl_object_clone(&fl_workload_type, service->workload, world->arena);
    bool young = fl_json_bool(world->json, "young", false);
    struct fl_workload_status_instance *instance;

    workload->meta.name = fl_child_name(world->arena, "p", UID, service->role);
    workload->status.observed_generation = workload->meta.generation;
    workload->status.has_replicas = true;
    workload->status.replicas.ready = workload->status.replicas.current = service->desired;
    workload->status.instances.items =
        fl_new_array(world->arena, struct fl_workload_status_instance, (size_t)service->desired);
    for (int64_t i = 0; i < service->desired; i++) {
        instance = &workload->status.instances.items[workload->status.instances.count++];
        instance->index = i;
        instance->state = FL_WORKLOAD_STATUS_INSTANCE_STATE_RUNNING;
        instance->ready = instance->has_ready = true;
        instance->start_time = time_text(world, NOW_S - (young ? 1 : 1000));
        if (falls(world, service, i)) {
            fall(instance);
            workload->status.replicas.ready--;
        }
        if (!service->id)
            continue;
        instance->address = "10.0.0.1";
        instance->ports.items =
            fl_new_array(world->arena, struct fl_workload_status_instance_port, 1);
        instance->ports.items[instance->ports.count++] =
            (struct fl_workload_status_instance_port){.name = "http", .port = port};
    }
    return workload;
}

/* Tier by tier, since each needs the address above. */
static void bring_up(struct world *world)
{
    struct fl_workload **workloads = fl_new_array(world->arena, struct fl_workload *, 64);

    world->input.workloads = workloads;
    for (size_t turn = 0; turn < 12; turn++) {
        struct fl_flproject_services *services = &world->out.plan.services;
        size_t count = 0;

        fl_flproject_decide(&world->input, world->arena, &world->out);
        for (size_t i = 0; i < services->count && count < 64; i++)
            if (services->items[i].workload)
                workloads[count++] = come_up(world, &services->items[i], 100 + (int64_t)i);
        world->input.workload_count = count;
    }
}

static void make_federation(struct world *world)
{
    const char *root = fl_str_or(fl_json_str(world->json, "root"), "known");
    struct fl_flproject_federation *federation = &world->input.federation;

    federation->known = fl_streq(root, "known")         ? FL_FLPROJECT_KNOWN
                        : fl_streq(root, "unreachable") ? FL_FLPROJECT_UNREACHABLE
                                                        : FL_FLPROJECT_UNKNOWN;
    federation->message = "refused";
    federation->learners = fl_json_int(world->json, "joined", world->out.plan.learners);
    federation->committed = fl_json_int(world->json, "committed", 0);
    federation->model = "sha256:root";
}

static void make_fetch(struct world *world)
{
    const char *fetch = fl_str_or(fl_json_str(world->json, "fetch"), "none");
    struct fl_flproject_fetched *fetched = &world->input.fetched;

    fetched->state = fl_streq(fetch, "none")   ? FL_FLPROJECT_FETCH_NONE
                     : fl_streq(fetch, "done") ? FL_FLPROJECT_FETCH_DONE
                                               : FL_FLPROJECT_FETCH_FAILED;
    fetched->commit = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    fetched->final = fl_streq(fetch, "final");
    fetched->reason = "SourceInvalid";
    fetched->message = "no";
}

static void make_server(struct world *world)
{
    const char *server = fl_str_or(fl_json_str(world->json, "server"), "none");
    struct fl_inferenceserver *object = fl_object_new(&fl_inferenceserver_type, world->arena);
    static struct fl_condition ready = {
        .type = "Ready", .status = FL_CONDITION_STATUS_TRUE, .reason = "x", .message = "x"};

    if (fl_streq(server, "none"))
        return;
    object->meta.name = "p";
    object->status.url = "http://here";
    if (fl_streq(server, "ready"))
        object->status.conditions = (struct fl_condition_list){&ready, 1};
    world->input.server = object;
}

static void world_make(struct world *world, struct fl_arena *arena, const char *yaml)
{
    const char *orchestrator;

    *world = (struct world){.arena = arena, .json = parse(arena, yaml)};
    orchestrator = fl_str_or(fl_json_str(world->json, "orchestrator"), "there");
    world->input.now_us = NOW_S * 1000000;
    world->input.has_orchestrator = !fl_streq(orchestrator, "gone");
    world->input.orchestrator_ready = fl_streq(orchestrator, "there");
    world->input.initial_model = fl_json_str(world->json, "initial");
    world->input.initial_problem = fl_json_str(world->json, "problem");
    make_project(world);
    make_fetch(world);
    make_nodes(world);
    world->input.rounds =
        (struct fl_round *const *)make_all(world, "rounds", make_round, &world->input.round_count);
    world->input.models = (struct fl_modelversion *const *)make_all(world, "models", make_model,
                                                                    &world->input.model_count);
    make_server(world);
    if (fl_json_bool(world->json, "up", true))
        bring_up(world);
    make_federation(world);
    fl_flproject_decide(&world->input, arena, &world->out);
}

/* One line. */

static int64_t number_of(const struct fl_round *round)
{
    return round->spec.index;
}

static void print_rounds(const struct fl_flproject_decision *out, struct fl_buf *buf)
{
    for (size_t i = 0; i < out->drop_count; i++)
        fl_buf_printf(buf, " drop %" PRId64, number_of(out->drops[i]));
    for (size_t i = 0; i < out->pause_count; i++)
        fl_buf_printf(buf, " %s %" PRId64, out->pauses[i]->spec.suspend ? "pause" : "resume",
                      number_of(out->pauses[i]));
    if (out->start)
        fl_buf_printf(buf, " start %" PRId64, out->start_number);
}

static void print_models(const struct fl_flproject_decision *out, struct fl_buf *buf)
{
    for (size_t i = 0; i < out->alias_count; i++)
        fl_buf_printf(buf, " %s=%s%s", out->aliases[i].model->meta.name,
                      out->aliases[i].best ? "best" : "", out->aliases[i].latest ? "latest" : "");
}

static const char *print(struct world *world)
{
    static const char *const verdicts[] = {
        [FL_FLPROJECT_DONE] = "done",
        [FL_FLPROJECT_NOT_YET] = "wait",
        [FL_FLPROJECT_STALLED] = "stalled",
    };
    const struct fl_flproject_decision *out = &world->out;
    FL_CLEANUP(fl_buf_finish) struct fl_buf buf = {0};

    fl_buf_printf(&buf, "%s %s %s", verdicts[out->verdict],
                  fl_str_or(out->cause.reason, "Complete"), out->status.rounds.summary);
    print_rounds(out, &buf);
    print_models(out, &buf);
    return fl_arena_strndup(world->arena, buf.data, buf.len);
}

struct example {
    const char *what, *world, *expected;
};

static void check(const struct example *examples, size_t count, const char *(*show)(struct world *))
{
    for (size_t i = 0; i < count; i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct world world;
        const char *is;

        world_make(&world, arena, examples[i].world);
        is = show(&world);
        if (!fl_streq(is, examples[i].expected))
            fail_msg("%s: %s\n  is        %s\n  should be %s\n  (%s)", examples[i].what,
                     examples[i].world, is, examples[i].expected,
                     fl_str_or(world.out.cause.message, ""));
    }
}

#define M1 "m: {accuracy: '0.5'}"
#define M2 "m: {accuracy: '0.7'}"
#define M3 "m: {accuracy: '0.6'}"

static void test_rounds(void **state)
{
    static const struct example examples[] = {
        {"the first", "{}", "wait Training 0/3 start 1"},
        {"while one is open", "{rounds: [{i: 1, state: open}]}", "wait Training 0/3"},
        {"evaluation is part of it", "{rounds: [{i: 1, state: evaluating, by: Evaluating}]}",
         "wait Evaluating 0/3"},
        {"what an open one waits for is shown",
         "{rounds: [{i: 1, state: open, by: WaitingForLearners}]}", "wait WaitingForLearners 0/3"},
        {"the next", "{rounds: [{i: 1, state: committed, " M1 "}]}", "wait Training 1/3 start 2"},
        {"the last", "{rounds: [{i: 2, state: committed}, {i: 1, state: committed}]}",
         "wait Training 2/3 start 3"},
        {"all", "{rounds: [{i: 3, state: committed}, {i: 2, state: committed}]}",
         "done Complete 3/3"},
        {"raised afterwards", "{spec: {training: {rounds: 9}}, rounds: [{i: 3, state: committed}]}",
         "wait Training 3/9 start 4"},
        {"lowered below what runs: it is broken off",
         "{spec: {training: {rounds: 1}}, rounds: [{i: 1, state: committed}, {i: 2, state: open}]}",
         "done Complete 1/1 drop 2"},
        {"lowered, but its model is committed",
         "{spec: {training: {rounds: 1}}, rounds: [{i: 1, state: committed}, {i: 2, state: "
         "evaluating, by: Evaluating}]}",
         "wait Evaluating 1/1"},
        {"lowered, and the root has committed it already",
         "{spec: {training: {rounds: 1}}, committed: 2, rounds: [{i: 1, state: committed}, {i: 2, "
         "state: open}]}",
         "wait Training 1/1"},
        {"what was committed when nobody wanted it any more does not count",
         "{spec: {training: {rounds: 1}}, committed: 2, rounds: [{i: 1, state: committed}]}",
         "done Complete 1/1"},
        {"rounds are gone, models tell", "{models: [{i: 2, aliases: [latest, best]}]}",
         "wait Training 2/3 start 3 m2=bestlatest"},
        {"all is gone, the root tells", "{committed: 2}", "wait Training 2/3 start 3"},
        {"the root counts for nothing while one is open",
         "{committed: 2, rounds: [{i: 2, state: open}]}", "wait Training 0/3"},
        {"by hand, under way: it is waited for", "{rounds: [{i: 1, state: open, hand: true}]}",
         "wait Training 0/3"},
        {"by hand, without a number yet", "{rounds: [{state: open, hand: true}]}",
         "wait Training 0/3"},
        {"by hand, suspended: nobody waits",
         "{rounds: [{i: 7, state: open, hand: true, suspend: true}]}", "wait Training 0/3 start 1"},
        {"by hand, failed: nobody minds", "{rounds: [{i: 1, state: failed, hand: true}]}",
         "wait Training 0/3 start 1"},
        {"by hand, committed: counts", "{rounds: [{i: 1, state: committed, hand: true}]}",
         "wait Training 1/3 start 2"},
        {"by hand, after the end: it runs",
         "{rounds: [{i: 3, state: committed}, {i: 4, state: open, hand: true}]}",
         "wait Training 3/3"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print);
}

static void test_failure(void **state)
{
    static const struct example examples[] = {
        {"it stands in the way", "{rounds: [{i: 1, state: failed}]}", "stalled Training 0/3"},
        {"another spec: once more",
         "{rounds: [{i: 1, state: failed, participation: {minAvailable: 3, quorum: 3}}]}",
         "wait Training 0/3 drop 1"},
        {"begun anew by its own rules, but of what it was made of",
         "{rounds: [{i: 1, state: open, run: 1, participation: {minAvailable: 3, quorum: 3}}]}",
         "wait Training 0/3 drop 1"},
        {"begun anew as the spec says", "{rounds: [{i: 1, state: open, run: 1}]}",
         "wait Training 0/3"},
        {"one behind us is history",
         "{rounds: [{i: 1, state: failed}, {i: 1, state: committed, hand: true}]}",
         "wait Training 1/3 start 2"},
        {"not wanted any more",
         "{spec: {training: {rounds: 1}}, rounds: [{i: 1, state: committed}, {i: 2, state: "
         "failed}]}",
         "done Complete 1/1 drop 2"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print);
}

static void test_end(void **state)
{
    static const struct example examples[] = {
        {"target",
         "{spec: {training: {bestModel: {stopWhen: {target: '0.7'}}}}, rounds: [{i: 1, "
         "state: committed, " M2 "}]}",
         "done Complete 1/3"},
        {"target not reached",
         "{spec: {training: {bestModel: {stopWhen: {target: '0.71'}}}}, rounds: [{i: 1, state: "
         "committed, " M2 "}]}",
         "wait Training 1/3 start 2"},
        {"target of a loss",
         "{spec: {training: {bestModel: {metric: loss, direction: Minimize, stopWhen: {target: "
         "'0.3'}}}}, rounds: [{i: 1, state: committed, m: {loss: '0.2'}}]}",
         "done Complete 1/3"},
        {"no number",
         "{spec: {training: {bestModel: {stopWhen: {target: '0.1'}}}}, rounds: [{i: "
         "1, state: committed, m: {accuracy: NaN}}]}",
         "wait Training 1/3 start 2"},
        {"patience",
         "{spec: {training: {bestModel: {stopWhen: {patience: 1}}}}, rounds: [{i: 1, state: "
         "committed, " M2 "}, {i: 2, state: committed, " M3 "}]}",
         "done Complete 2/3"},
        {"patience left",
         "{spec: {training: {bestModel: {stopWhen: {patience: 2}}}}, rounds: [{i: 1, state: "
         "committed, " M2 "}, {i: 2, state: committed, " M3 "}]}",
         "wait Training 2/3 start 3"},
        {"too small a gain",
         "{spec: {training: {bestModel: {stopWhen: {patience: 1, minDelta: '0.3'}}}}, rounds: [{i: "
         "1, state: committed, " M1 "}, {i: 2, state: committed, " M2 "}]}",
         "done Complete 2/3"},
        {"patience is carried on by the tally",
         "{spec: {training: {bestModel: {stopWhen: {patience: 2}}}}, rounds: [{i: 2, state: "
         "committed, " M3 ", tally: '{\"mark\":0.7,\"sinceMark\":1,\"measure\":\"most "
         "accuracy\"}'}]}",
         "done Complete 2/3"},
        {"another measure: counted anew",
         "{spec: {training: {bestModel: {stopWhen: {patience: 2}}}}, rounds: [{i: 2, state: "
         "committed, " M3 ", tally: '{\"mark\":0.7,\"sinceMark\":1,\"measure\":\"least "
         "loss\"}'}]}",
         "wait Training 2/3 start 3"},
        {"a broken tally", "{rounds: [{i: 2, state: committed, tally: '{{'}]}",
         "wait Training 2/3 start 3"},
        {"deadline", "{spec: {training: {deadline: 50s}}, rounds: [{i: 1, state: committed}]}",
         "done Complete 1/3"},
        {"deadline with one open: it is broken off",
         "{spec: {training: {deadline: 50s}}, rounds: [{i: 1, state: committed}, {i: 2, state: "
         "open}]}",
         "done Complete 1/3 drop 2"},
        {"deadline without a model",
         "{spec: {training: {deadline: 50s}}, rounds: [{i: 1, state: open}]}",
         "stalled DeadlineExceeded 0/3 drop 1"},
        {"deadline to come", "{spec: {training: {deadline: 200s}}, rounds: [{i: 1, state: open}]}",
         "wait Training 0/3"},
        {"deadline since a round long gone",
         "{spec: {training: {deadline: 1h}}, rounds: [{i: 2, state: committed, tally: "
         "'{\"started\":\"1970-01-01T00:00:01Z\"}'}]}",
         "done Complete 2/3"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print);
}

static void test_waits(void **state)
{
    static const struct example examples[] = {
        {"nothing is there", "{up: false}", "wait StartingAggregators 0/3"},
        {"the root is asked", "{root: unknown}", "wait StartingAggregators 0/3"},
        {"the root is silent", "{root: unreachable}", "wait StartingAggregators 0/3"},
        {"silent for too long",
         "{root: unreachable, status: {conditions: [{type: TiersReady, status: 'False', reason: "
         "x, message: x, lastTransitionTime: '1970-01-01T00:00:00Z'}]}}",
         "stalled StartingAggregators 0/3"},
        {"a tier may be back at once", "{down: tier, spec: {topology: {tiers: [{name: e}]}}}",
         "wait StartingAggregators 0/3"},
        {"one that stays away is a dropout",
         "{down: tier, spec: {topology: {tiers: [{name: e}]}}, status: {conditions: [{type: "
         "TiersReady, status: 'False', reason: x, message: x, lastTransitionTime: "
         "'1970-01-01T00:00:00Z'}]}}",
         "wait Training 0/3 start 1"},
        {"the root is not one",
         "{down: root, root: unknown, spec: {topology: {tiers: [{name: e}]}}, status: {conditions: "
         "[{type: TiersReady, status: 'False', reason: x, message: x, lastTransitionTime: "
         "'1970-01-01T00:00:00Z'}]}}",
         "stalled StartingAggregators 0/3"},
        {"nobody has joined", "{joined: 0}", "wait WaitingForLearners 0/3"},
        {"some may still come", "{joined: 2, young: true}", "wait WaitingForLearners 0/3"},
        {"nobody more is alive", "{joined: 3, young: true, fallen: true}",
         "wait Training 0/3 start 1"},
        {"one of those alive may still come", "{joined: 2, young: true, fallen: true}",
         "wait WaitingForLearners 0/3"},
        {"who has not come is a dropout", "{joined: 2}", "wait Training 0/3 start 1"},
        {"not enough", "{joined: 2, spec: {training: {participation: {minAvailable: 3}}}}",
         "wait WaitingForLearners 0/3"},
        {"there cannot be enough",
         "{spec: {learners: {count: null}, training: {participation: {minAvailable: 9}}}}",
         "wait QuorumNotReached 0/3"},
        {"no node", "{nodes: []}", "wait WaitingForLearners 0/3"},
        {"no node matches", "{spec: {learners: {nodeSelector: {gpu: 'yes'}}}}",
         "wait WaitingForLearners 0/3"},
        {"no node has the data", "{spec: {data: {tags: [toy]}}}", "wait WaitingForLearners 0/3"},
        {"no orchestrator", "{orchestrator: gone, up: false}", "wait OrchestratorNotReady 0/3"},
        {"an orchestrator that is down", "{orchestrator: down}", "wait OrchestratorNotReady 0/3"},
        {"the commit is asked for", "{spec: {source: {" GIT ", builtin: null}}, up: false}",
         "wait SourceNotReady 0/3"},
        {"it cannot be had", "{spec: {source: {" GIT ", builtin: null}}, up: false, fetch: failed}",
         "wait SourceNotReady 0/3"},
        {"it may not be had", "{spec: {source: {" GIT ", builtin: null}}, up: false, fetch: final}",
         "stalled SourceInvalid 0/3"},
        {"it is known", "{spec: {source: {" GIT ", builtin: null}}, up: false, fetch: done}",
         "wait BuildingImage 0/3"},
        {"an image needs no build", "{spec: {source: {image: i, builtin: null}}}",
         "wait Training 0/3 start 1"},
        {"privacy is not left out in silence",
         "{spec: {privacy: {secureAggregation: {}}}, up: false}", "stalled NotSupported 0/3"},
        {"no model to begin with yet",
         "{spec: {training: {initialModel: {project: {name: q}}}}, problem: none}",
         "wait BaseModelNotFound 0/3"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print);
}

static void test_suspend(void **state)
{
    static const struct example examples[] = {
        {"between rounds", "{spec: {suspend: true}, rounds: [{i: 1, state: committed}]}",
         "done Complete 1/3"},
        {"in a round", "{spec: {suspend: true}, rounds: [{i: 1, state: open}]}",
         "done Complete 0/3 pause 1"},
        {"and on", "{rounds: [{i: 1, state: open, suspend: true}]}", "wait Training 0/3 resume 1"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print);
}

static void test_history(void **state)
{
    static const struct example examples[] = {
        {"the oldest go",
         "{spec: {roundHistoryLimit: 1}, rounds: [{i: 1, state: committed}, {i: 2, state: "
         "committed}, {i: 3, state: committed}]}",
         "done Complete 3/3 drop 2 drop 1"},
        {"the newest stays: it has the tally",
         "{spec: {roundHistoryLimit: 0}, rounds: [{i: 3, state: committed}]}", "done Complete 3/3"},
        {"one by hand stays",
         "{spec: {roundHistoryLimit: 0}, rounds: [{i: 1, state: committed, hand: true}, {i: 3, "
         "state: committed}]}",
         "done Complete 3/3"},
        {"best and latest", "{models: [{i: 1, " M1 "}, {i: 2, " M2 "}, {i: 3, " M3 "}]}",
         "done Complete 3/3 m2=best m3=latest"},
        {"aliases move",
         "{spec: {training: {rounds: 2}}, models: [{i: 1, " M1 ", aliases: [best, latest]}, {i: 2, "
         "" M2 "}]}",
         "done Complete 2/2 m1= m2=bestlatest"},
        {"the least is the best",
         "{spec: {training: {bestModel: {direction: Minimize}}}, models: [{i: 1, " M1 "}, {i: 3, "
         "" M2 "}]}",
         "done Complete 3/3 m1=best m3=latest"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print);
}

static void test_serving(void **state)
{
    static const struct example examples[] = {
        {"no model yet", "{spec: {serve: {}}}", "wait Training 0/3 start 1"},
        {"complete, but it does not serve",
         "{spec: {serve: {}}, rounds: [{i: 3, state: committed}], server: starting}",
         "wait WaitingForServer 3/3"},
        {"serves", "{spec: {serve: {}}, rounds: [{i: 3, state: committed}], server: ready}",
         "done Complete 3/3"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print);
}

/* Services */

static const char *print_services(struct world *world)
{
    const struct fl_flproject_services *services = &world->out.plan.services;
    FL_CLEANUP(fl_buf_finish) struct fl_buf buf = {0};

    for (size_t i = 0; i < services->count; i++) {
        const struct fl_flproject_service *service = &services->items[i];
        const struct fl_workload_placement *where =
            service->workload ? &service->workload->spec.placement : NULL;

        fl_buf_printf(&buf, "%s%s", i > 0 ? " " : "", service->role);
        if (!service->id)
            fl_buf_printf(&buf, "*%" PRId64 "@%" PRId64, service->desired, service->first);
        if (!where) {
            fl_buf_printf(&buf, "(waits)");
            continue;
        }
        if (where->cluster)
            fl_buf_printf(&buf, "[%s%s%s]", where->cluster, where->node ? "/" : "",
                          fl_str_or(where->node, ""));
        for (size_t n = 0; n < where->node_selector.count; n++)
            fl_buf_printf(&buf, "{%s=%s}", where->node_selector.items[n].key,
                          where->node_selector.items[n].value);
        if (where->one_per_node)
            fl_buf_printf(&buf, "(each)");
        if (service->workload->spec.suspend)
            fl_buf_printf(&buf, "(off)");
    }
    return fl_arena_strndup(world->arena, buf.data, buf.len);
}

static void test_services(void **state)
{
    static const struct example examples[] = {
        {"no tiers", "{}", "root learners*4@0"},
        {"nothing runs yet", "{up: false}", "root learners*4@0(waits)"},
        {"one on each node", "{spec: {learners: {count: null}}}", "root learners*4@0(each)"},
        {"by cluster", "{spec: {topology: {tiers: [{name: edge}]}}}",
         "root edge/a[a] edge/b[b] learners/edge/a*2@0[a] learners/edge/b*2@2[b]"},
        {"few are spread over clusters",
         "{spec: {learners: {count: 2}, topology: {tiers: [{name: edge}]}}}",
         "root edge/a[a] edge/b[b] learners/edge/a*1@0[a] learners/edge/b*1@1[b]"},
        {"a cluster without a learner needs no aggregator",
         "{spec: {learners: {count: 1}, topology: {tiers: [{name: edge}]}}}",
         "root edge/a[a] learners/edge/a*1@0[a]"},
        {"by node",
         "{nodes: [[a, x], [b, x]], spec: {topology: {tiers: [{name: m, groupBy: Node}]}}}",
         "root m/a.x[a/x] m/b.x[b/x] learners/m/a.x*2@0[a/x] learners/m/b.x*2@2[b/x]"},
        {"by label; a node without it is left out",
         "{nodes: [[a, x, {site: s}], [b, w, {site: t}], [b, z]], spec: {learners: {count: 3}, "
         "topology: {tiers: [{name: e, groupBy: site}]}}}",
         "root e/s{site=s} e/t{site=t} learners/e/s*1@0{site=s} learners/e/t*1@1{site=t}"},
        {"two tiers", "{spec: {topology: {tiers: [{name: r}, {name: m, groupBy: Node}]}}}",
         "root r/a[a] r/b[b] r/a/m/a.a1[a/a1] r/a/m/a.a2[a/a2] r/b/m/b.b1[b/b1] r/b/m/b.b2[b/b2] "
         "learners/r/a/m/a.a1*1@0[a/a1] learners/r/a/m/a.a2*1@1[a/a2] "
         "learners/r/b/m/b.b1*1@2[b/b1] learners/r/b/m/b.b2*1@3[b/b2]"},
        {"a large group gets two",
         "{nodes: [[a, w], [a, x]], spec: {topology: {tiers: [{name: e, maxChildren: 2}]}}}",
         "root e/a[a] e/a/1[a] learners/e/a/a.w*2@0[a/w] learners/e/a/1/a.x*2@2[a/x]"},
        {"a node's learners of two aggregators",
         "{nodes: [[a, x]], spec: {topology: {tiers: [{name: e, maxChildren: 3}]}}}",
         "root e/a[a] e/a/1[a] learners/e/a/a.x*2@0[a/x] learners/e/a/1/a.x*2@2[a/x]"},
        {"selected nodes",
         "{nodes: [[a, x, {gpu: u}], [b, z]], spec: {learners: {nodeSelector: {gpu: u}}}}",
         "root learners*4@0{gpu=u}"},
        {"at most so many", "{spec: {learners: {count: 9, maxPerNode: 2}}}", "root learners*8@0"},
        {"a closed node is left out",
         "{nodes: [[a, x], [b, z, {}, [], true]], spec: {topology: {tiers: [{name: e}]}}}",
         "root e/a[a] learners/e/a*4@0[a]"},
        {"nothing new is begun on one that is gone",
         "{nodes: [[a, x], [b, z, {}, [], false, true]],"
         " spec: {learners: {count: null}, topology: {tiers: [{name: e}]}}}",
         "root e/a[a] learners/e/a*1@0[a](each)"},
        {"scaled down, learners first", "{spec: {suspend: true}}", "root learners*4@0(off)"},
        {"at the end, too", "{rounds: [{i: 3, state: committed}]}", "root learners*4@0(off)"},
        {"a failed round starves nobody", "{rounds: [{i: 1, state: failed}]}",
         "root learners*4@0(off)"},
        {"one by hand wakes them",
         "{rounds: [{i: 3, state: committed}, {i: 4, state: open, hand: true}]}",
         "root learners*4@0"},
    };

    (void)state;
    check(examples, FL_COUNT_OF(examples), print_services);
}

/* Above, an address that is not known just now does not change what runs below. */
static void test_address_is_kept(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct world world;
    const struct fl_flproject_service *learners;

    (void)state;
    world_make(&world, arena, "{}");
    world.input.workloads[0]->status.instances.count = 0;
    fl_flproject_decide(&world.input, arena, &world.out);
    learners = &world.out.plan.services.items[1];
    assert_null(world.out.plan.services.items[0].address);
    assert_non_null(learners->workload);
    assert_string_equal(learners->workload->spec.args.items[2], "http://10.0.0.1:100");
}

static const char *told(const struct fl_flproject_service *service, const char *option)
{
    const struct fl_string_list *args = &service->workload->spec.args;

    for (size_t i = 0; i + 1 < args->count; i++)
        if (strcmp(args->items[i], option) == 0)
            return args->items[i + 1];
    return NULL;
}

/* So that nobody trains for a stranger who has an address that was ours. */
static void test_services_know_their_project(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_flproject_services *services;
    struct world world;

    (void)state;
    world_make(&world, arena, "{}");
    services = &world.out.plan.services;
    assert_true(services->count >= 2);
    for (size_t i = 0; i < services->count; i++)
        assert_string_equal(told(&services->items[i], "--project"),
                            fl_federation_name(arena, &world.input.project->meta));
}

static const struct fl_flproject_told *told_of(const struct world *world, const char *type)
{
    for (size_t i = 0; i < world->out.told_count; i++)
        if (strcmp(world->out.told[i].type, type) == 0)
            return &world->out.told[i];
    return NULL;
}

/* What only records does not hold up training, but is not left out in silence. */
static void test_tracking_is_told(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_flproject_told *tracked;
    struct world world;

    (void)state;
    world_make(&world, arena, "{spec: {tracking: {mlflow: {url: 'http://x'}}}}");
    tracked = told_of(&world, "Tracked");
    assert_true(tracked && !tracked->holds && strcmp(tracked->reason, "NotSupported") == 0);
    assert_int_equal(world.out.start_number, 1);
    world_make(&world, arena, "{}");
    assert_null(told_of(&world, "Tracked"));
}

/* What a round carries on is read back as it was. */
static void test_tally_goes_round(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct world world, next;
    const char *tally;

    (void)state;
    world_make(&world, arena,
               "{rounds: [{i: 1, state: committed, " M2
               ", attempt: 3}, {i: 2, state: committed, " M3 "}]}");
    assert_int_equal(world.out.start_number, 3);
    tally =
        json_string_value(json_object_get(world.out.start->meta.annotations, FL_FLPROJECT_TALLY));
    assert_non_null(tally);
    world_make(&next, arena,
               fl_arena_printf(arena, "{rounds: [{i: 3, state: open, tally: '%s'}]}", tally));
    assert_string_equal(next.out.status.rounds.summary, "2/3");
    assert_int_equal(next.out.status.rounds.failed, 2);
    assert_int_equal(next.out.status.metrics.best.round, 1);
    assert_int_equal(next.out.status.metrics.last.round, 2);
    assert_string_equal(next.out.status.best_model.digest, world.out.status.best_model.digest);
    assert_string_equal(next.out.status.start_time, world.out.status.start_time);
}

static void test_base_model(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct world world;

    (void)state;
    world_make(&world, arena, "{}");
    assert_false(world.out.start->spec.has_base_model);
    world_make(&world, arena,
               "{spec: {training: {initialModel: {project: {name: q}}}}, initial: 'sha256:q'}");
    assert_string_equal(world.out.start->spec.base_model.digest, "sha256:q");
    world_make(&world, arena,
               "{spec: {training: {initialModel: {project: {name: q}}}}, initial: 'sha256:q', "
               "rounds: [{i: 1, state: committed}]}");
    assert_false(world.out.start->spec.has_base_model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_suspend),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_serving),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_address_is_kept),
        cmocka_unit_test(test_services_know_their_project),
        cmocka_unit_test(test_tracking_is_told),
        cmocka_unit_test(test_tally_goes_round),
        cmocka_unit_test(test_base_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
