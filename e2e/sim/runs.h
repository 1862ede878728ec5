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
/* Each call of a run, with a crash before it, and one after it; seed after seed. */
void sim_crash_points(const struct sim_scenario *scenario, uint64_t first_seed, uint64_t count,
                      unsigned jobs, struct sim_tally *tally);
/* Some seeds twice: the same trace. */
void sim_determinism(const struct sim_scenario *scenario, uint64_t first_seed, unsigned jobs,
                     struct sim_tally *tally);
/* Each planted bug is found, by a seed or a crash point. */
bool sim_proof(uint64_t first_seed, unsigned jobs);

#endif
