/* One run: busy turns with edits and faults, then rest; is the world what the objects ask for, does
 * it stay so without a write, and is nothing left once all is deleted? */
#include "e2e/sim/sim.h"

#include <inttypes.h>

#define CHOICES_MAX         64
#define ROUND_MS            20 /* what a round takes: who does not rest meets its back-off's end */
#define CALM_ROUNDS_MAX     3000
#define PASSES_MAX          6000
#define BEATS_MAX           40 /* while nothing is to be done */
#define PLANTED_PATIENCE_MS (30 * 60 * 1000)
#define EVENTS_MAX          150 /* Event objects that a run may leave */

struct choice {
    unsigned weight;
    void (*take)(struct sim *sim, struct sim_process *process, size_t i);
    struct sim_process *process;
    size_t i;
};

struct choices {
    struct choice items[CHOICES_MAX];
    size_t count;
    unsigned weight;
};

/* Turns of a process. */

static size_t pump(struct sim_process *process)
{
    process->pumped = true;
    return fl_manager_pump(process->manager);
}

static void turn_pump(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)i;
    sim_trace(sim, "pump all caches of %u", process->number);
    (void)pump(process);
}

static void turn_pump_some(struct sim *sim, struct sim_process *process, size_t i)
{
    struct fl_cache *cache = fl_manager_cache(process->manager, sim->scenario->caches[i]);
    size_t limit = 1 + sim_below(sim, 3);

    sim_trace(sim, "pump %zu of %s of %u", limit, sim->scenario->caches[i]->plural,
              process->number);
    (void)fl_cache_pump(cache, limit);
}

static bool work(struct sim *sim, struct sim_process *process, size_t i)
{
    struct fl_controller *controller = fl_manager_controller(process->manager, i);
    bool did;

    sim->turned = process;
    did = fl_controller_process_next(controller);
    sim->turned = NULL;
    sim->passes += did;
    return did;
}

static void turn_work(struct sim *sim, struct sim_process *process, size_t i)
{
    sim_trace(sim, "a pass of %s by %u",
              fl_controller_name(fl_manager_controller(process->manager, i)), process->number);
    (void)work(sim, process, i);
}

static void turn_lead(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)i;
    sim_trace(sim, "%u looks after its lease", process->number);
    fl_manager_lead(process->manager);
}

static void turn_events(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)i;
    sim_trace(sim, "%u writes events", process->number);
    (void)fl_manager_write_events(process->manager);
}

static void turn_stir(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)i;
    sim_trace(sim, "something late comes to %u", process->number);
    (void)sim_watches_stir(process);
}

static void turn_kill(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)i;
    sim_trace(sim, "%u is killed", process->number);
    process->dead = true;
}

/* A machine that has all of it: API server and controllers go down together. */
static void turn_kill_all(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)i;
    sim_process_end(sim, process->slot);
    sim_world_restart_server(sim);
    sim_process_start(sim, 0);
}

/* Turns of the world. */

static void turn_loop(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)process;
    (void)i;
    sim_trace(sim, "the API server's loop");
    (void)fl_loop_step(sim->loop);
}

static void turn_happen(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)process;
    (void)i;
    (void)sim->scenario->happen(sim, false);
}

static void turn_edit(struct sim *sim, struct sim_process *process, size_t i)
{
    (void)process;
    (void)i;
    sim->edits_left--;
    sim->scenario->edit(sim);
}

static void turn_time(struct sim *sim, struct sim_process *process, size_t i)
{
    static const int64_t most_ms[] = {100, 3000, 20000, 15 * 60 * 1000};
    int64_t ms = (int64_t)sim_below(sim, (uint64_t)most_ms[sim_below(sim, 20) ? i : 3]);

    (void)process;
    sim_trace(sim, "%" PRId64 " ms pass", ms);
    sim_advance(sim, ms);
}

/* Somebody sets the clock; what is measured goes on. */
static void turn_world_clock(struct sim *sim, struct sim_process *process, size_t i)
{
    int64_t ms = (int64_t)sim_below(sim, 7200000) - 3600000;

    (void)process;
    (void)i;
    sim_trace(sim, "all clocks are set by %" PRId64 " ms", ms);
    sim->clock.realtime_us += ms * 1000;
}

static void turn_clock(struct sim *sim, struct sim_process *process, size_t i)
{
    int64_t ms = (int64_t)sim_below(sim, 7200000) - 3600000;

    (void)i;
    sim_trace(sim, "the clock of %u is set by %" PRId64 " ms", process->number, ms);
    process->realtime_skew_us += ms * 1000;
}

static void add(struct choices *choices, unsigned weight,
                void (*take)(struct sim *sim, struct sim_process *process, size_t i),
                struct sim_process *process, size_t i)
{
    if (weight == 0 || choices->count == CHOICES_MAX)
        return;
    choices->items[choices->count++] =
        (struct choice){.weight = weight, .take = take, .process = process, .i = i};
    choices->weight += weight;
}

static void add_of_process(struct sim *sim, struct choices *choices, struct sim_process *process)
{
    size_t controllers = fl_manager_controller_count(process->manager);

    add(choices, 6, turn_pump, process, 0);
    for (size_t i = 0; process->pumped && sim->scenario->caches[i]; i++)
        add(choices, 3, turn_pump_some, process, i);
    for (size_t i = 0; i < controllers; i++)
        add(choices, fl_controller_depth(fl_manager_controller(process->manager, i)) ? 20 : 3,
            turn_work, process, i);
    add(choices, sim->scenario->processes > 1 ? 6 : 1, turn_lead, process, 0);
    add(choices, 2, turn_events, process, 0);
    add(choices, process->watches ? 3 : 0, turn_stir, process, 0);
    add(choices, sim_is_odd(sim) ? 2 : 0, turn_kill, process, 0);
    add(choices, sim_is_odd(sim) && sim->scenario->processes == 1 ? 1 : 0, turn_kill_all, process,
        0);
    add(choices, !sim->scenario->one_clock, turn_clock, process, 0);
}

static void take_turn(struct sim *sim)
{
    struct choices choices = {.count = 0};
    uint64_t n;
    size_t i = 0;

    for (unsigned slot = 0; slot < sim->scenario->processes; slot++)
        add_of_process(sim, &choices, sim->processes[slot]);
    add(&choices, 6, turn_loop, NULL, 0);
    add(&choices, 1, turn_world_clock, NULL, 0);
    add(&choices, 8, turn_happen, NULL, 0);
    add(&choices, sim->edits_left ? 8 : 0, turn_edit, NULL, 0);
    for (size_t how = 0; how < 3; how++)
        add(&choices, 3, turn_time, NULL, how);
    n = sim_below(sim, choices.weight);
    while (n >= choices.items[i].weight)
        n -= choices.items[i++].weight;
    choices.items[i].take(sim, choices.items[i].process, choices.items[i].i);
}

static void after_turn(struct sim *sim)
{
    for (unsigned slot = 0; slot < sim->scenario->processes; slot++)
        sim->processes[slot]->slow_calls = 0;
    if (!sim->result.failed)
        sim_process_bury(sim);
    if (sim->scenario->watchful)
        (void)sim->scenario->watchful(sim);
}

static void be_busy(struct sim *sim, unsigned turns, unsigned edits)
{
    sim->busy = true;
    sim->edits_left = edits;
    for (unsigned i = 0; i < turns && !sim->result.failed; i++) {
        sim->turn++;
        take_turn(sim);
        after_turn(sim);
    }
    sim->busy = false;
}

/* Rest. */

static bool calm_turn_of(struct sim *sim, struct sim_process *process)
{
    size_t controllers = fl_manager_controller_count(process->manager);
    bool did;

    sim_watches_settle(process);
    fl_manager_lead(process->manager);
    did = !process->dead && pump(process) > 0;
    for (size_t i = 0; i < controllers; i++)
        did |= !process->dead && work(sim, process, i);
    did |= !process->dead && fl_manager_write_events(process->manager) > 0;
    return did || process->dead;
}

/* Everybody does what there is to do now; false: nothing. */
static bool calm_round(struct sim *sim)
{
    bool did = false;

    sim->turn++;
    for (unsigned slot = 0; slot < sim->scenario->processes; slot++) {
        did |= calm_turn_of(sim, sim->processes[slot]);
        after_turn(sim);
    }
    did |= fl_loop_step(sim->loop) > 0;
    did |= sim->scenario->happen(sim, true);
    after_turn(sim);
    return did && !sim->result.failed;
}

static void do_what_is_due(struct sim *sim)
{
    int rounds = 0;

    while (calm_round(sim)) {
        sim_advance(sim, ROUND_MS);
        if (++rounds > CALM_ROUNDS_MAX || sim->passes > PASSES_MAX)
            sim_fail(sim, "livelock", "after %d rounds without rest and %" PRIu64 " passes", rounds,
                     sim->passes);
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t next_due_ms(struct sim *sim)
{
    int64_t due_ms = fl_loop_next_due_ms(sim->loop);

    if (sim->scenario->next_due_ms)
        due_ms = earlier(due_ms, sim->scenario->next_due_ms(sim));
    for (unsigned slot = 0; slot < sim->scenario->processes; slot++) {
        const struct sim_process *process = sim->processes[slot];
        int64_t own_ms = fl_manager_next_due_ms(process->manager);

        if (own_ms != INT64_MAX)
            due_ms = earlier(due_ms, own_ms - process->monotonic_offset_ms);
    }
    return due_ms;
}

/* To the next time at which something is due, at most to `end_ms`; false: that is reached. */
static bool wait_for_next(struct sim *sim, int64_t end_ms)
{
    int64_t now_ms = sim_now_ms(sim), due_ms = next_due_ms(sim);

    if (now_ms >= end_ms)
        return false;
    if (due_ms <= now_ms)
        due_ms = now_ms + 100; /* who does not lead has work it must not do */
    sim_advance(sim, earlier(due_ms, end_ms) - now_ms);
    return true;
}

/* With a planted bug many runs do not come to rest: they are not waited for as long. */
static int64_t patience_ms(const struct sim *sim)
{
    return sim->options.planted ? earlier(sim->scenario->patience_ms, PLANTED_PATIENCE_MS)
                                : sim->scenario->patience_ms;
}

static bool come_to_rest(struct sim *sim, bool (*is_right)(struct sim *sim, struct fl_buf *why),
                         const char *oracle)
{
    int64_t end_ms = sim_now_ms(sim) + patience_ms(sim);
    struct fl_buf why;
    bool right = false;

    fl_buf_init(&why, 0);
    while (!right && !sim->result.failed) {
        do_what_is_due(sim);
        fl_buf_clear(&why);
        right = is_right(sim, &why);
        if (!right && !wait_for_next(sim, end_ms))
            sim_fail(sim, oracle, "%s", fl_buf_text(&why));
    }
    fl_buf_finish(&why);
    return right && !sim->result.failed;
}

static void stay_for(struct sim *sim, int64_t ms)
{
    int64_t end_ms = sim_now_ms(sim) + ms;

    do
        do_what_is_due(sim);
    while (!sim->result.failed && wait_for_next(sim, end_ms));
}

/* All passes run once more, by hand and by a resync, and must find nothing to do. */
static void stay_at_rest(struct sim *sim)
{
    uint64_t actions = sim->scenario->actions(sim);

    sim->idle = true;
    sim_trace(sim, "nothing is to be done from here");
    for (unsigned slot = 0; slot < sim->scenario->processes; slot++)
        sim->scenario->touch(sim, sim->processes[slot]);
    stay_for(sim, sim->scenario->idle_ms);
    sim->idle = false;
    if (sim->beats > BEATS_MAX)
        sim_fail(sim, "idle-write", "%u writes only to tell that somebody is there", sim->beats);
    if (sim->scenario->actions(sim) != actions)
        sim_fail(sim, "idle-actions", "drivers did something in passes that had nothing to do");
}

static void check_events(struct sim *sim)
{
    size_t count = fl_store_count(sim->store, "events");

    if (count > EVENTS_MAX)
        sim_fail(sim, "events", "%zu events were written", count);
}

static void begin(struct sim *sim, const struct sim_options *options)
{
    sim->options = *options;
    sim->random = options->seed * 0x2545f4914f6cdd1du;
    sim->clock.state = options->seed;
    sim->trace_hash = 0xcbf29ce484222325u;
    sim->world = sim->scenario->create(sim);
    for (unsigned slot = 0; slot < sim->scenario->processes; slot++)
        sim_process_start(sim, slot);
}

static void end(struct sim *sim)
{
    for (unsigned slot = 0; slot < sim->scenario->processes; slot++)
        sim_process_end(sim, slot);
    sim->scenario->destroy(sim->world);
    sim->result.calls = sim->calls;
    sim->result.turns = sim->turn;
    sim->result.passes = sim->passes;
    sim->result.trace_hash = sim->trace_hash;
    sim->result.virtual_ms = sim_now_ms(sim) - sim->began_ms;
}

static void calm(struct sim *sim)
{
    sim_trace(sim, "edits and faults are over");
    if (sim->scenario->calm)
        sim->scenario->calm(sim);
}

void sim_run(struct sim *sim, const struct sim_options *options)
{
    const struct sim_scenario *scenario = sim->scenario;

    begin(sim, options);
    be_busy(sim, scenario->turns, scenario->edits);
    calm(sim);
    if (come_to_rest(sim, scenario->converged, "converged")) {
        stay_for(sim, scenario->settle_ms);
        stay_at_rest(sim);
        (void)come_to_rest(sim, scenario->converged, "stays");
    }
    if (!sim->result.failed) {
        sim_trace(sim, "everything is deleted");
        scenario->remove_all(sim);
        be_busy(sim, scenario->turns / 4, 0);
        calm(sim);
        (void)come_to_rest(sim, scenario->nothing_left, "nothing-left");
        check_events(sim);
    }
    end(sim);
}
