#include "reconcilers/workload/orchestrator_fake.h"

#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>

#define NEVER      INT64_MAX
#define FIRST_PORT 30000
#define LAST_PORT  60999

/* The last run of an instance. Texts are in its arena. */
struct run {
    struct fl_arena *arena;
    struct fl_run seen; /* what observe says of it */
    struct fl_node_capacity requested;
    struct fl_run_exit planned;
    const char *stop_reason;
    int64_t up_ms, ready_ms, end_ms; /* monotonic; NEVER */
    int64_t run_ms, ready_after_ms, stop_ms;
    bool has_stop_failed; /* the signal had no effect: the end is a kill */
};

struct workload {
    char *ns, *name;
    struct run **runs; /* by index */
    size_t count;
};

struct node {
    struct fl_arena *arena;
    struct fl_node node;
};

struct fl_fake_world {
    struct fl_lock *lock; /* of all that follows; held while changes are told */
    const struct fl_env *env;
    struct fl_map *workloads; /* by uid */
    struct fl_map *nodes;     /* by name */
    struct driver *driver;    /* the one that is told of changes */
    fl_fake_plan_fn *plan;
    void *plan_user;
    fl_fake_fault_fn *fault;
    void *fault_user;
    bool unreachable;
    int64_t next_port;
    size_t starts, stops;
};

struct driver {
    struct fl_orchestrator_driver base;
    struct fl_fake_world *world;
    fl_run_changed_fn *changed;
    void *changed_user;
    bool crashed;
};

static int64_t now_ms(const struct fl_fake_world *world)
{
    return fl_monotonic_ms(world->env);
}

static int64_t now_us(const struct fl_fake_world *world)
{
    return fl_realtime_us(world->env);
}

static int64_t after(int64_t from_ms, int64_t delay_ms)
{
    return delay_ms < 0 ? NEVER : from_ms + delay_ms;
}

/* The world and its records. */

static void destroy_run(struct run *run)
{
    if (run)
        fl_arena_destroy(run->arena);
}

static void destroy_workload(void *value)
{
    struct workload *workload = value;

    for (size_t i = 0; i < workload->count; i++)
        destroy_run(workload->runs[i]);
    free(workload->runs);
    free(workload->ns);
    free(workload->name);
    free(workload);
}

static void destroy_node(void *value)
{
    fl_arena_destroy(((struct node *)value)->arena);
}

struct fl_fake_world *fl_fake_world_create(const struct fl_env *env)
{
    struct fl_fake_world *world = fl_calloc(1, sizeof(*world));

    world->lock = fl_lock_create();
    world->env = env;
    world->workloads = fl_map_create(destroy_workload);
    world->nodes = fl_map_create(destroy_node);
    world->next_port = FIRST_PORT;
    return world;
}

void fl_fake_world_destroy(struct fl_fake_world *world)
{
    if (!world)
        return;
    assert(!world->driver);
    fl_map_destroy(world->workloads);
    fl_map_destroy(world->nodes);
    fl_lock_destroy(world->lock);
    free(world);
}

void fl_fake_world_on_plan(struct fl_fake_world *world, fl_fake_plan_fn *plan, void *user)
{
    world->plan = plan;
    world->plan_user = user;
}

void fl_fake_world_on_fault(struct fl_fake_world *world, fl_fake_fault_fn *fault, void *user)
{
    world->fault = fault;
    world->fault_user = user;
}

static bool lives(const struct run *run)
{
    return run->seen.state != FL_RUN_ENDED;
}

/* Where the instance's run is, or would be put. */
static size_t place_of(const struct workload *workload, int64_t index)
{
    size_t i = 0;

    while (i < workload->count && workload->runs[i]->seen.index < index)
        i++;
    return i;
}

static struct run *find_run(const struct fl_fake_world *world, const struct fl_run_id *id)
{
    const struct workload *workload = fl_map_get(world->workloads, id->workload_uid);
    size_t i;

    if (!workload)
        return NULL;
    i = place_of(workload, id->index);
    return i < workload->count && workload->runs[i]->seen.index == id->index ? workload->runs[i]
                                                                             : NULL;
}

static void tell(const struct fl_fake_world *world, const char *ns, const char *name)
{
    const struct driver *driver = world->driver;

    if (driver && driver->changed && !driver->crashed)
        driver->changed(driver->changed_user, ns, name);
}

/* Exits are copied deeply: they go from the owner to a run, and from a run to an observer. */
static struct fl_run_exit copy_exit(struct fl_arena *arena, const struct fl_run_exit *exit)
{
    struct fl_run_exit copy = *exit;

    copy.signal = exit->signal ? fl_arena_strdup(arena, exit->signal) : NULL;
    copy.reason = exit->reason ? fl_arena_strdup(arena, exit->reason) : NULL;
    copy.message = exit->message ? fl_arena_strdup(arena, exit->message) : NULL;
    copy.log_tail = exit->log_tail ? fl_arena_strdup(arena, exit->log_tail) : NULL;
    return copy;
}

static void end_run(const struct fl_fake_world *world, struct run *run,
                    const struct fl_run_exit *exit)
{
    run->seen.exit = copy_exit(run->arena, exit);
    run->seen.exit.ended_us = now_us(world);
    run->seen.state = FL_RUN_ENDED;
    run->seen.ready = false;
    run->seen.message = NULL;
}

/* Time. */

static int64_t run_due_ms(const struct run *run)
{
    switch (run->seen.state) {
    case FL_RUN_STARTING:
        return run->up_ms;
    case FL_RUN_RUNNING:
        return run->ready_ms < run->end_ms ? run->ready_ms : run->end_ms;
    case FL_RUN_STOPPING:
        return run->end_ms;
    case FL_RUN_ENDED:
    case FL_RUN_UNKNOWN:
        break;
    }
    return NEVER;
}

static bool fails_to_start(const struct run *run)
{
    const char *reason = run->planned.reason;

    return fl_streq(reason, "StartFailed") || fl_streq(reason, "ImageNotFound") ||
           fl_streq(reason, "PortTaken");
}

static void come_up(const struct fl_fake_world *world, struct run *run)
{
    if (fails_to_start(run)) {
        end_run(world, run, &run->planned);
        return;
    }
    run->seen.state = FL_RUN_RUNNING;
    run->seen.started_us = now_us(world);
    run->ready_ms = after(now_ms(world), run->ready_after_ms);
    run->end_ms = after(now_ms(world), run->run_ms);
}

static void become_ready(const struct fl_fake_world *world, struct run *run, bool ready)
{
    run->ready_ms = NEVER;
    run->seen.ready = ready;
    run->seen.message = ready ? NULL : "readiness probe: not good";
    if (ready && run->seen.ready_us == 0)
        run->seen.ready_us = now_us(world);
}

static void end_stopped(const struct fl_fake_world *world, struct run *run)
{
    end_run(world, run,
            &(struct fl_run_exit){.signal = run->has_stop_failed ? "SIGKILL" : "SIGTERM",
                                  .reason = run->stop_reason});
}

static void advance_run(const struct fl_fake_world *world, struct run *run)
{
    if (run->seen.state == FL_RUN_STARTING)
        come_up(world, run);
    else if (run->seen.state == FL_RUN_STOPPING)
        end_stopped(world, run);
    else if (run->end_ms <= now_ms(world))
        end_run(world, run, &run->planned);
    else
        become_ready(world, run, true);
}

int64_t fl_fake_world_next_due_ms(const struct fl_fake_world *world)
{
    FL_LOCKED(world->lock);
    int64_t due = NEVER;
    void *cursor = NULL, *value;

    while (fl_map_next(world->workloads, &cursor, NULL, &value)) {
        const struct workload *workload = value;

        for (size_t i = 0; i < workload->count; i++)
            if (run_due_ms(workload->runs[i]) < due)
                due = run_due_ms(workload->runs[i]);
    }
    return due;
}

size_t fl_fake_world_step(struct fl_fake_world *world)
{
    FL_LOCKED(world->lock);
    size_t done = 0;
    void *cursor = NULL, *value;

    while (fl_map_next(world->workloads, &cursor, NULL, &value)) {
        const struct workload *workload = value;

        for (size_t i = 0; i < workload->count; i++)
            while (run_due_ms(workload->runs[i]) <= now_ms(world)) {
                advance_run(world, workload->runs[i]);
                tell(world, workload->ns, workload->name);
                done++;
            }
    }
    return done;
}

/* Nodes. */

static void copy_list(struct fl_arena *arena, struct fl_string_list *list)
{
    const char **items = fl_new_array(arena, const char *, list->count);

    for (size_t i = 0; i < list->count; i++)
        items[i] = fl_arena_strdup(arena, list->items[i]);
    list->items = items;
}

static void copy_map(struct fl_arena *arena, struct fl_string_map *map)
{
    struct fl_string_pair *items = fl_new_array(arena, struct fl_string_pair, map->count);

    for (size_t i = 0; i < map->count; i++) {
        items[i].key = fl_arena_strdup(arena, map->items[i].key);
        items[i].value = fl_arena_strdup(arena, map->items[i].value);
    }
    map->items = items;
}

static void copy_node(struct fl_arena *arena, const struct fl_node *from, struct fl_node *to)
{
    *to = *from;
    to->cluster = fl_arena_strdup(arena, from->cluster);
    to->name = fl_arena_strdup(arena, from->name);
    to->message = from->message ? fl_arena_strdup(arena, from->message) : NULL;
    copy_map(arena, &to->labels);
    copy_list(arena, &to->platforms);
    copy_list(arena, &to->addons);
    copy_list(arena, &to->data_tags);
}

void fl_fake_world_put_node(struct fl_fake_world *world, const struct fl_node *node)
{
    FL_LOCKED(world->lock);
    struct fl_arena *arena = fl_arena_create();
    struct node *kept = fl_new(arena, struct node);

    kept->arena = arena;
    copy_node(arena, node, &kept->node);
    kept->node.requested = (struct fl_node_capacity){0};
    kept->node.runs = 0;
    kept->node.ready_changed_us = now_us(world);
    fl_map_put(world->nodes, node->name, kept);
    tell(world, NULL, NULL);
}

void fl_fake_world_set_ready(struct fl_fake_world *world, const char *name, bool ready)
{
    FL_LOCKED(world->lock);
    struct node *node = fl_map_get(world->nodes, name);

    assert(node);
    if (node->node.ready == ready)
        return;
    node->node.ready = ready;
    node->node.message = ready ? NULL : "does not answer";
    node->node.ready_changed_us = now_us(world);
    tell(world, NULL, NULL);
}

static void lose_run(struct fl_fake_world *world, const struct workload *workload, struct run *run)
{
    end_run(world, run, &(struct fl_run_exit){.reason = "Lost"});
    tell(world, workload->ns, workload->name);
}

void fl_fake_world_remove_node(struct fl_fake_world *world, const char *name)
{
    FL_LOCKED(world->lock);
    void *cursor = NULL, *value;

    (void)fl_map_remove(world->nodes, name);
    while (fl_map_next(world->workloads, &cursor, NULL, &value)) {
        const struct workload *workload = value;

        for (size_t i = 0; i < workload->count; i++)
            if (lives(workload->runs[i]) && fl_streq(workload->runs[i]->seen.node, name))
                lose_run(world, workload, workload->runs[i]);
    }
    tell(world, NULL, NULL);
}

void fl_fake_world_set_reachable(struct fl_fake_world *world, bool reachable)
{
    FL_LOCKED(world->lock);
    world->unreachable = !reachable;
    tell(world, NULL, NULL);
}

bool fl_fake_world_end_run(struct fl_fake_world *world, const struct fl_run_id *id,
                           const struct fl_run_exit *exit)
{
    FL_LOCKED(world->lock);
    const struct workload *workload = fl_map_get(world->workloads, id->workload_uid);
    struct run *run = find_run(world, id);

    if (!run || !lives(run))
        return false;
    end_run(world, run, exit);
    tell(world, workload->ns, workload->name);
    return true;
}

bool fl_fake_world_turn_run(struct fl_fake_world *world, const struct fl_run_id *id, bool ready)
{
    FL_LOCKED(world->lock);
    const struct workload *workload = fl_map_get(world->workloads, id->workload_uid);
    struct run *run = find_run(world, id);

    if (!run || run->seen.state != FL_RUN_RUNNING)
        return false;
    become_ready(world, run, ready);
    tell(world, workload->ns, workload->name);
    return true;
}

/* What oracles ask. */

struct fl_fake_counts fl_fake_world_count(const struct fl_fake_world *world, const char *uid)
{
    FL_LOCKED(world->lock);
    struct fl_fake_counts counts = {.starts = world->starts, .stops = world->stops};
    void *cursor = NULL, *value;
    const char *key;

    while (fl_map_next(world->workloads, &cursor, &key, &value)) {
        const struct workload *workload = value;

        for (size_t i = 0; (!uid || fl_streq(uid, key)) && i < workload->count; i++)
            if (lives(workload->runs[i]))
                counts.living++;
            else
                counts.ended++;
    }
    return counts;
}

void fl_fake_world_each(const struct fl_fake_world *world,
                        void (*each)(void *user, const struct fl_fake_item *item), void *user)
{
    FL_LOCKED(world->lock);
    void *cursor = NULL, *value;
    const char *uid;

    while (fl_map_next(world->workloads, &cursor, &uid, &value)) {
        const struct workload *workload = value;

        for (size_t i = 0; i < workload->count; i++) {
            const struct fl_run *run = &workload->runs[i]->seen;

            each(user, &(struct fl_fake_item){.uid = uid,
                                              .ns = workload->ns,
                                              .name = workload->name,
                                              .spec_hash = run->spec_hash,
                                              .node = run->node,
                                              .index = run->index,
                                              .number = run->number,
                                              .state = run->state,
                                              .ready = run->ready,
                                              .ports = run->ports,
                                              .port_count = run->port_count});
        }
    }
}

/* The driver: each call passes the owner's faults on its way in and out. */

static struct driver *driver_of(struct fl_orchestrator_driver *self)
{
    return (struct driver *)((char *)self - offsetof(struct driver, base));
}

static int unavailable(struct fl_error *err, const char *why)
{
    return fl_error_set(err, FL_E_UNAVAILABLE, "orchestrator: %s", why);
}

static enum fl_fake_fault fault_at(struct driver *driver, enum fl_fake_op op, bool is_after)
{
    const struct fl_fake_world *world = driver->world;
    enum fl_fake_fault fault =
        world->fault ? world->fault(world->fault_user, op, is_after) : FL_FAKE_GOOD;

    if (fault == FL_FAKE_CRASH)
        driver->crashed = true;
    return fault;
}

/* 0: go on; 1: forget it; < 0: failed. */
static int enter(struct driver *driver, enum fl_fake_op op, struct fl_error *err)
{
    bool is_read = op == FL_FAKE_NODES || op == FL_FAKE_OBSERVE || op == FL_FAKE_WORKLOADS;
    enum fl_fake_fault fault;

    if (driver->crashed)
        return unavailable(err, "crashed");
    if (driver->world->unreachable)
        return unavailable(err, "cannot be reached");
    fault = fault_at(driver, op, false);
    if (fault == FL_FAKE_FORGET && !is_read)
        return 1;
    return fault == FL_FAKE_GOOD ? 0 : unavailable(err, "does not answer");
}

static int leave(struct driver *driver, enum fl_fake_op op, struct fl_error *err)
{
    enum fl_fake_fault fault = fault_at(driver, op, true);

    return fault == FL_FAKE_ERROR || fault == FL_FAKE_CRASH ? unavailable(err, "answer was lost")
                                                            : 0;
}

static void leave_world(struct driver *driver)
{
    FL_LOCKED(driver->world->lock);

    if (driver->world->driver == driver)
        driver->world->driver = NULL;
}

static void destroy(struct fl_orchestrator_driver *self)
{
    struct driver *driver = driver_of(self);

    leave_world(driver);
    free(driver);
}

static int configure(struct fl_orchestrator_driver *self, const struct fl_orchestrator_spec *spec,
                     struct fl_error *err)
{
    int r = enter(driver_of(self), FL_FAKE_CONFIGURE, err);

    (void)spec; /* its nodes are put into the world */
    return r == 0 ? leave(driver_of(self), FL_FAKE_CONFIGURE, err) : r < 0 ? r : 0;
}

static void count_runs(const struct fl_fake_world *world, struct fl_node *node)
{
    void *cursor = NULL, *value;

    while (fl_map_next(world->workloads, &cursor, NULL, &value)) {
        const struct workload *workload = value;

        for (size_t i = 0; i < workload->count; i++) {
            const struct run *run = workload->runs[i];

            if (!lives(run) || !fl_streq(run->seen.node, node->name))
                continue;
            node->runs++;
            node->requested.cpu_milli += run->requested.cpu_milli;
            node->requested.memory_bytes += run->requested.memory_bytes;
            node->requested.storage_bytes += run->requested.storage_bytes;
            node->requested.gpus += run->requested.gpus;
        }
    }
}

static struct fl_node_list list_nodes(struct fl_fake_world *world, struct fl_arena *arena)
{
    FL_LOCKED(world->lock);
    struct fl_node_list list = {fl_new_array(arena, struct fl_node, fl_map_count(world->nodes)), 0};
    void *cursor = NULL, *value;

    while (fl_map_next(world->nodes, &cursor, NULL, &value)) {
        struct fl_node *node = &list.items[list.count++];

        copy_node(arena, &((struct node *)value)->node, node);
        count_runs(world, node);
    }
    return list;
}

static int nodes(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                 struct fl_node_list *ret_nodes, struct fl_error *err)
{
    struct fl_node_list list;
    int r;

    r = enter(driver_of(self), FL_FAKE_NODES, err);
    if (r < 0)
        return r;
    list = list_nodes(driver_of(self)->world, arena);
    r = leave(driver_of(self), FL_FAKE_NODES, err);
    if (r == 0)
        *ret_nodes = list;
    return r;
}

static struct fl_run copy_run(struct fl_arena *arena, const struct fl_run *run)
{
    struct fl_run copy = *run;

    copy.spec_hash = fl_arena_strdup(arena, run->spec_hash);
    copy.cluster = fl_arena_strdup(arena, run->cluster);
    copy.node = fl_arena_strdup(arena, run->node);
    copy.id = run->id ? fl_arena_strdup(arena, run->id) : NULL;
    copy.address = run->address ? fl_arena_strdup(arena, run->address) : NULL;
    copy.ports = fl_new_array(arena, struct fl_run_port, run->port_count);
    for (size_t i = 0; i < run->port_count; i++) {
        copy.ports[i] = run->ports[i];
        copy.ports[i].name = fl_arena_strdup(arena, run->ports[i].name);
    }
    copy.exit = copy_exit(arena, &run->exit);
    copy.last_exit = copy_exit(arena, &run->last_exit);
    return copy;
}

static struct fl_run_list list_runs(struct fl_fake_world *world, const char *uid,
                                    struct fl_arena *arena)
{
    FL_LOCKED(world->lock);
    const struct workload *workload = fl_map_get(world->workloads, uid);
    struct fl_run_list list = {NULL, 0};

    if (!workload)
        return list;
    list.items = fl_new_array(arena, struct fl_run, workload->count);
    for (; list.count < workload->count; list.count++)
        list.items[list.count] = copy_run(arena, &workload->runs[list.count]->seen);
    return list;
}

static int observe(struct fl_orchestrator_driver *self, const char *uid, struct fl_arena *arena,
                   struct fl_run_list *ret_runs, struct fl_error *err)
{
    struct fl_run_list list;
    int r;

    r = enter(driver_of(self), FL_FAKE_OBSERVE, err);
    if (r < 0)
        return r;
    list = list_runs(driver_of(self)->world, uid, arena);
    r = leave(driver_of(self), FL_FAKE_OBSERVE, err);
    if (r == 0)
        *ret_runs = list;
    return r;
}

/* Starting. */

static struct fl_fake_plan plan_run(const struct fl_fake_world *world,
                                    const struct fl_run_spec *spec)
{
    struct fl_fake_plan plan = {
        .start_ms = (int64_t)fl_random_below(world->env, 2000),
        .ready_ms = (int64_t)fl_random_below(world->env, 1000),
        .run_ms = -1,
        .stop_ms = (int64_t)fl_random_below(world->env, 3000),
        .exit = {.has_code = true, .reason = "Completed"},
    };

    if (world->plan)
        world->plan(world->plan_user, spec, &plan);
    return plan;
}

static void allot_ports(struct fl_fake_world *world, struct run *run,
                        const struct fl_workload_port_list *ports)
{
    run->seen.ports = fl_new_array(run->arena, struct fl_run_port, ports->count);
    run->seen.port_count = ports->count;
    for (size_t i = 0; i < ports->count; i++) {
        struct fl_run_port *port = &run->seen.ports[i];

        port->name = fl_arena_strdup(run->arena, ports->items[i].name);
        port->port = ports->items[i].port;
        if (port->port == 0)
            port->port = world->next_port++;
        port->host_port = port->port;
        if (world->next_port > LAST_PORT)
            world->next_port = FIRST_PORT;
    }
}

static void note_spec(struct run *run, const struct fl_run_spec *spec)
{
    run->seen.index = spec->id.index;
    run->seen.number = spec->number;
    run->seen.restarts = spec->restarts;
    run->seen.failures = spec->failures;
    run->seen.first_us = spec->first_us;
    run->seen.spec_hash = fl_arena_strdup(run->arena, spec->spec_hash);
    run->seen.cluster = fl_arena_strdup(run->arena, spec->cluster);
    run->seen.node = fl_arena_strdup(run->arena, spec->node);
    run->seen.id = fl_arena_printf(run->arena, "%s-%" PRId64 "-%" PRId64, spec->id.workload_uid,
                                   spec->id.index, spec->number);
    run->seen.address = "127.0.0.1";
    run->requested = fl_workload_needs(spec->spec);
}

static struct run *make_run(struct fl_fake_world *world, const struct fl_run_spec *spec,
                            const struct run *before)
{
    struct fl_fake_plan plan = plan_run(world, spec);
    struct fl_arena *arena = fl_arena_create();
    struct run *run = fl_new(arena, struct run);

    run->arena = arena;
    note_spec(run, spec);
    allot_ports(world, run, &spec->spec->ports);
    run->seen.state = FL_RUN_STARTING;
    run->seen.requested_us = now_us(world);
    run->up_ms = after(now_ms(world), plan.start_ms);
    run->ready_ms = run->end_ms = NEVER;
    run->ready_after_ms = plan.ready_ms;
    run->run_ms = plan.run_ms;
    run->stop_ms = plan.stop_ms;
    run->planned = copy_exit(arena, &plan.exit);
    if (before)
        run->seen.last_exit = copy_exit(arena, &before->seen.exit);
    return run;
}

static struct workload *ensure_workload(struct fl_fake_world *world, const struct fl_run_spec *spec)
{
    struct workload *workload = fl_map_get(world->workloads, spec->id.workload_uid);

    if (workload)
        return workload;
    workload = fl_calloc(1, sizeof(*workload));
    workload->ns = fl_strdup(spec->ns);
    workload->name = fl_strdup(spec->name);
    fl_map_put(world->workloads, spec->id.workload_uid, workload);
    return workload;
}

static void put_run(struct workload *workload, struct run *run)
{
    size_t at = place_of(workload, run->seen.index);

    if (at < workload->count && workload->runs[at]->seen.index == run->seen.index) {
        assert(!lives(workload->runs[at])); /* never two of one */
        destroy_run(workload->runs[at]);
        workload->runs[at] = run;
        return;
    }
    workload->runs = fl_realloc(workload->runs, (workload->count + 1) * sizeof(struct run *));
    memmove(workload->runs + at + 1, workload->runs + at,
            (workload->count - at) * sizeof(struct run *));
    workload->runs[at] = run;
    workload->count++;
}

static int begin(struct fl_fake_world *world, const struct fl_run_spec *spec, struct fl_error *err)
{
    FL_LOCKED(world->lock);
    const struct run *before = find_run(world, &spec->id);
    const struct node *node = fl_map_get(world->nodes, spec->node);

    if (before && before->seen.number == spec->number)
        return 0;
    if (before && (lives(before) || before->seen.number > spec->number))
        return fl_error_set(err, FL_E_CONFLICT, "instance %" PRId64 ": run %" PRId64 " %s",
                            spec->id.index, before->seen.number,
                            lives(before) ? "lives" : "was begun");
    if (!node)
        return unavailable(err, "the node is gone");
    if (spec->spec->image && !node->node.runs_images)
        return fl_error_set(err, FL_E_INVALID, "node %s runs no images", spec->node);
    world->starts++;
    put_run(ensure_workload(world, spec), make_run(world, spec, before));
    return 0;
}

static int start(struct fl_orchestrator_driver *self, const struct fl_run_spec *spec,
                 struct fl_error *err)
{
    int r = enter(driver_of(self), FL_FAKE_START, err);

    if (r == 0)
        r = begin(driver_of(self)->world, spec, err);
    else if (r > 0)
        return 0;
    return r < 0 ? r : leave(driver_of(self), FL_FAKE_START, err);
}

/* The end of a stopping run only ever comes nearer. */
static void begin_stop(struct fl_fake_world *world, struct run *run, int64_t grace_ms,
                       const char *reason)
{
    int64_t kill_ms = now_ms(world) + grace_ms;

    if (run->seen.state != FL_RUN_STOPPING) {
        world->stops++;
        run->stop_reason = fl_arena_strdup(run->arena, reason);
        run->end_ms = after(now_ms(world), run->stop_ms);
    }
    run->seen.state = FL_RUN_STOPPING;
    run->seen.ready = false;
    if (run->end_ms > kill_ms) {
        run->end_ms = kill_ms;
        run->has_stop_failed = true;
    }
}

static void stop_run(struct fl_fake_world *world, const struct fl_run_id *id, int64_t grace_ms,
                     const char *reason)
{
    FL_LOCKED(world->lock);
    struct run *run = find_run(world, id);

    if (run && lives(run))
        begin_stop(world, run, grace_ms, reason);
}

static int stop(struct fl_orchestrator_driver *self, const struct fl_run_id *id, int64_t grace_ms,
                const char *reason, struct fl_error *err)
{
    int r = enter(driver_of(self), FL_FAKE_STOP, err);

    if (r != 0)
        return r < 0 ? r : 0;
    stop_run(driver_of(self)->world, id, grace_ms, reason);
    return leave(driver_of(self), FL_FAKE_STOP, err);
}

static void forget(struct fl_fake_world *world, const struct fl_run_id *id)
{
    struct workload *workload = fl_map_get(world->workloads, id->workload_uid);
    size_t at = place_of(workload, id->index);

    destroy_run(workload->runs[at]);
    workload->count--;
    memmove(workload->runs + at, workload->runs + at + 1,
            (workload->count - at) * sizeof(struct run *));
    if (workload->count == 0)
        (void)fl_map_remove(world->workloads, id->workload_uid);
}

static int forget_ended(struct fl_fake_world *world, const struct fl_run_id *id,
                        struct fl_error *err)
{
    FL_LOCKED(world->lock);
    const struct run *run = find_run(world, id);

    if (run && lives(run))
        return fl_error_set(err, FL_E_CONFLICT, "instance %" PRId64 " lives", id->index);
    if (run)
        forget(world, id);
    return 0;
}

static int remove_run(struct fl_orchestrator_driver *self, const struct fl_run_id *id,
                      struct fl_error *err)
{
    int r = enter(driver_of(self), FL_FAKE_REMOVE, err);

    if (r != 0)
        return r < 0 ? r : 0;
    r = forget_ended(driver_of(self)->world, id, err);
    return r < 0 ? r : leave(driver_of(self), FL_FAKE_REMOVE, err);
}

static struct fl_string_list list_workloads(struct fl_fake_world *world, struct fl_arena *arena)
{
    FL_LOCKED(world->lock);
    struct fl_string_list list = {fl_new_array(arena, const char *, fl_map_count(world->workloads)),
                                  0};
    void *cursor = NULL;
    const char *uid;

    while (fl_map_next(world->workloads, &cursor, &uid, NULL))
        list.items[list.count++] = fl_arena_strdup(arena, uid);
    return list;
}

static int workloads(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                     struct fl_string_list *ret_uids, struct fl_error *err)
{
    struct fl_string_list list;
    int r;

    r = enter(driver_of(self), FL_FAKE_WORKLOADS, err);
    if (r < 0)
        return r;
    list = list_workloads(driver_of(self)->world, arena);
    r = leave(driver_of(self), FL_FAKE_WORKLOADS, err);
    if (r == 0)
        *ret_uids = list;
    return r;
}

static const struct fl_orchestrator_ops ops = {
    .type = "Local",
    .destroy = destroy,
    .configure = configure,
    .nodes = nodes,
    .observe = observe,
    .start = start,
    .stop = stop,
    .remove = remove_run,
    .workloads = workloads,
};

struct fl_orchestrator_driver *fl_fake_orchestrator_create(struct fl_fake_world *world,
                                                           fl_run_changed_fn *changed,
                                                           void *changed_user)
{
    FL_LOCKED(world->lock);
    struct driver *driver = fl_calloc(1, sizeof(*driver));

    assert(!world->driver || world->driver->crashed);
    *driver = (struct driver){{&ops}, world, changed, changed_user, false};
    world->driver = driver;
    return &driver->base;
}

int fl_fake_orchestrator_make(void *user, const char *name, fl_run_changed_fn *changed,
                              void *changed_user, struct fl_orchestrator_driver **ret_driver,
                              struct fl_error *err)
{
    (void)name;
    (void)err;
    *ret_driver = fl_fake_orchestrator_create(user, changed, changed_user);
    return 0;
}
