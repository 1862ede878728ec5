/* What a call of a process to the world meets: nothing, the one fault that was set for this call,
 * or something by chance. */
#include "e2e/sim/sim.h"
#include "lib/str.h"

static const char *const names[SIM_FAULT_COUNT] = {
    [SIM_FAULT_NONE] = "none",
    [SIM_CRASH_BEFORE] = "crash-before",
    [SIM_CRASH_AFTER] = "crash-after",
    [SIM_ERROR] = "error",
    [SIM_CONFLICT] = "conflict",
    [SIM_LOST_ANSWER] = "lost-answer",
    [SIM_SLOW] = "slow",
    [SIM_FORGET] = "forget",
};

const char *sim_fault_name(enum sim_fault fault)
{
    return names[fault];
}

bool sim_fault_from_name(const char *name, enum sim_fault *ret_fault)
{
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        if (fl_streq(names[i], name)) {
            *ret_fault = (enum sim_fault)i;
            return true;
        }
    }
    return false;
}

/* A fault that a call of this kind cannot meet is none. */
static enum sim_fault fitting(enum sim_fault fault, enum sim_call_kind kind)
{
    bool is_write = kind == SIM_CALL_WRITE || kind == SIM_CALL_DRIVER_WRITE;

    if (fault == SIM_CONFLICT && kind != SIM_CALL_WRITE)
        return SIM_ERROR;
    if (fault == SIM_LOST_ANSWER && !is_write)
        return SIM_ERROR;
    if (fault == SIM_FORGET && kind != SIM_CALL_DRIVER_WRITE)
        return SIM_FAULT_NONE;
    return fault;
}

static enum sim_fault by_chance(struct sim *sim)
{
    static const enum sim_fault some[] = {
        SIM_CRASH_BEFORE, SIM_CRASH_AFTER, SIM_ERROR,       SIM_ERROR, SIM_CONFLICT,
        SIM_CONFLICT,     SIM_LOST_ANSWER, SIM_LOST_ANSWER, SIM_SLOW,  SIM_FORGET,
    };

    if (!sim_chance(sim, 7))
        return SIM_FAULT_NONE;
    return some[sim_below(sim, FL_COUNT_OF(some))];
}

static enum sim_fault choose(struct sim *sim)
{
    if (!sim->busy && sim->options.fault_at == 0)
        return SIM_FAULT_NONE;
    if (sim->options.fault_at > 0)
        return sim->calls == sim->options.fault_at ? sim->options.fault : SIM_FAULT_NONE;
    return sim->options.faultless ? SIM_FAULT_NONE : by_chance(sim);
}

/* Where one call is to fail, what comes before is as in the run that counted the calls. */
bool sim_is_odd(const struct sim *sim)
{
    const struct sim_options *options = &sim->options;

    return sim->busy && (options->fault_at ? sim->calls > options->fault_at : !options->faultless);
}

/* Time passes during a slow call; a pass has at most two, as nothing could keep a lease else. */
static void be_slow(struct sim_process *process)
{
    if (process->slow_calls++ < 2)
        sim_advance(process->sim, 1000);
}

enum sim_fault sim_call(struct sim_process *process, enum sim_call_kind kind, const char *what)
{
    struct sim *sim = process->sim;
    enum sim_fault fault;

    if (process->dead)
        return SIM_CRASH_BEFORE;
    sim->calls++;
    fault = fitting(choose(sim), kind);
    sim_trace(sim, "  call %llu of %u: %s%s%s", (unsigned long long)sim->calls, process->number,
              what, fault ? " !" : "", fault ? names[fault] : "");
    if (fault == SIM_CRASH_BEFORE)
        process->dead = true;
    if (fault == SIM_SLOW)
        be_slow(process);
    return fault;
}

void sim_call_done(struct sim_process *process, enum sim_fault fault)
{
    if (fault == SIM_CRASH_AFTER)
        process->dead = true;
}

int sim_fault_error(enum sim_fault fault, struct fl_error *err)
{
    switch (fault) {
    case SIM_CRASH_BEFORE:
    case SIM_CRASH_AFTER:
        return fl_error_set(err, FL_E_UNAVAILABLE, "this process is dead");
    case SIM_ERROR:
        return fl_error_set(err, FL_E_UNAVAILABLE, "out of order for a moment");
    case SIM_CONFLICT:
        return fl_error_set(err, FL_E_CONFLICT, "the object has been modified");
    case SIM_LOST_ANSWER:
        return fl_error_set(err, FL_E_TIMEOUT, "no answer in time");
    default:
        return 0;
    }
}
