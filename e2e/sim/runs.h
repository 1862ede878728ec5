/* Many runs, each in a process of its own, some at once. */
#ifndef FL_E2E_SIM_RUNS_H
#define FL_E2E_SIM_RUNS_H

#include "e2e/sim/sim.h"

#define SIM_JOBS_MAX 64

struct sim_tally {
    uint64_t passed, failed;
};

/* Seeds with faults by chance. */
void sim_seeds(const struct sim_scenario *scenario, uint64_t first_seed, uint64_t count,
               unsigned jobs, struct sim_tally *tally);
/* Each call of a run meets each of these faults in turn, a run each; seed after seed. */
struct sim_faults {
    const char *name;
    enum sim_fault items[SIM_FAULT_COUNT]; /* ended by SIM_FAULT_NONE */
};
extern const struct sim_faults sim_crashes, sim_refusals, sim_all_faults;
void sim_points(const struct sim_scenario *scenario, const struct sim_faults *faults,
                uint64_t first_seed, uint64_t count, unsigned jobs, struct sim_tally *tally);
/* Some seeds twice: the same trace. */
void sim_determinism(const struct sim_scenario *scenario, uint64_t first_seed, unsigned jobs,
                     struct sim_tally *tally);
/* Each planted bug (or only this one) is found, by a seed or a fault at some call. */
bool sim_proof(uint64_t first_seed, unsigned jobs, const char *only);

#endif
