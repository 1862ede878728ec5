/* Processes of the control plane: what is in memory begins and ends here. */
#include "e2e/sim/sim.h"

#include <stdio.h>
#include <string.h>

#define RESYNC_MS       (10 * 60 * 1000)
#define SKEW_MAX_MS     (120 * 1000)
#define LEASE_NAME      "flops-controller-manager"
#define LEASE_NAMESPACE "kube-system"

static int64_t realtime_us(void *user)
{
    struct sim_process *process = user;

    return process->sim->clock.realtime_us + process->realtime_skew_us;
}

static int64_t monotonic_ms(void *user)
{
    struct sim_process *process = user;

    return process->sim->clock.monotonic_ms + process->monotonic_offset_ms;
}

/* splitmix64, apart from the run's own: what a reconciler asks for moves no decision. */
static void random_bytes(void *user, void *out, size_t len)
{
    struct sim_process *process = user;
    unsigned char *bytes = out;

    for (size_t i = 0; i < len; i++) {
        uint64_t z = (process->random += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        bytes[i] = (unsigned char)((z ^ (z >> 31)) >> 24);
    }
}

/* The clocks of a machine stay wrong by the same amount over lives; monotonic begins with a life.
 */
static void set_clocks(struct sim_process *process)
{
    struct sim *sim = process->sim;

    process->realtime_skew_us =
        process->slot == 0
            ? 0
            : (int64_t)(sim->options.seed % (2 * SKEW_MAX_MS)) * 1000 - (int64_t)SKEW_MAX_MS * 1000;
    process->monotonic_offset_ms = (int64_t)sim_below(sim, 1000000) - sim->clock.monotonic_ms;
    process->random = sim_random(sim);
    process->env = (struct fl_env){
        .realtime_us = realtime_us,
        .monotonic_ms = monotonic_ms,
        .random = random_bytes,
        .user = process,
        .log = sim->env.log,
    };
}

static int make_manager(struct sim_process *process, struct fl_error *err)
{
    bool contends = process->sim->scenario->processes > 1;
    struct fl_manager_options options = {
        .env = &process->env,
        .client = process->client,
        .resync_ms = RESYNC_MS,
        .identity = contends ? process->identity : NULL,
        .lease_namespace = LEASE_NAMESPACE,
        .lease_name = LEASE_NAME,
    };

    return fl_manager_create(&options, &process->manager, err);
}

void sim_process_start(struct sim *sim, unsigned slot)
{
    struct sim_process *process = fl_calloc(1, sizeof(*process));
    struct fl_error err = {0};
    int r;

    process->sim = sim;
    process->slot = slot;
    process->number = sim->lives++;
    process->seen = fl_map_create(free);
    (void)snprintf(process->identity, sizeof(process->identity), "machine-%u-%u", slot,
                   process->number);
    set_clocks(process);
    sim_trace(sim, "process %u begins on machine %u", process->number, slot);
    sim->processes[slot] = process;
    process->client = sim_client_create(process);
    r = make_manager(process, &err);
    if (r == 0)
        r = sim->scenario->join(process, &err);
    if (r < 0)
        sim_fail(sim, "start", "process %u: %s", process->number, err.msg);
}

void sim_process_end(struct sim *sim, unsigned slot)
{
    struct sim_process *process = sim->processes[slot];

    sim->processes[slot] = NULL;
    if (!process)
        return;
    process->dead = true;
    sim_trace(sim, "process %u ends", process->number);
    fl_manager_destroy(process->manager);
    sim->scenario->leave(process);
    fl_apiclient_destroy(process->client);
    fl_map_destroy(process->seen);
    free(process);
}

void sim_process_bury(struct sim *sim)
{
    for (unsigned slot = 0; slot < sim->scenario->processes; slot++) {
        if (!sim->processes[slot]->dead)
            continue;
        sim_process_end(sim, slot);
        sim_process_start(sim, slot);
    }
}
