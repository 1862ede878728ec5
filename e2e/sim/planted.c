/* The bugs that are planted, one at a time, to see that each is found. */
#include "e2e/sim/sim.h"

const struct sim_bug sim_bugs[] = {
    {"unstable-names", "names of children have chance in them", &sim_toy},
    {"finalizer-early", "the finalizer goes before what it stands for", &sim_toy},
    {"finalizer-late", "the finalizer comes after the effect", &sim_toy},
    {"edge-triggered-prune", "pruned when a change is seen, not when a list says so", &sim_toy},
    {"generation-trusted", "an observed generation is taken for a right world", &sim_toy},
    {"ignored-delete-failure", "a deletion that failed is taken for done", &sim_toy},
    {"progress-in-status", "its own status is taken for the world", &sim_toy},
    {"progress-in-memory", "what it did is kept in memory", &sim_toy},
    {"stale-cache-sweep", "what an old cache does not know is swept away", &sim_toy},
    {"late-inventory", "the inventory is written after what it lists", &sim_toy},
    {"foreign-pruned", "pruned without a look at whose it is", &sim_toy},
    {"restarts-lost", "restarts are counted from nought at each start", &sim_toy},
    {"double-start", "a lost answer is taken for a failure", &sim_toy},
    {"status-every-pass", "status is written in each pass", &sim_toy},
    {"lease-by-clock", "another's time stamp is judged by the own clock", &sim_toy_pair},
    {"blind-status", "status is written whatever was read", &sim_workload},
    {"sync-finalizer-early", "the finalizer goes before what was applied", &sim_gitsync},
    {"round-model-not-kept", "a model is taken for kept that is not", &sim_flround},
    {"round-base-forgotten", "each round begins from nothing", &sim_flround},
    {"round-failure-lost", "a round that has failed is taken for running", &sim_flround},
    {"round-model-early", "a round is taken for committed before it is", &sim_flround},
};
const size_t sim_bug_count = FL_COUNT_OF(sim_bugs);
