/* sim: runs seeds, crash points, or the proof that planted bugs are found.
 *
 * Each run is a process of its own, forked from a world that was set up once, so that nothing is
 * shared and whatever a run does to itself is seen. Exit: 0 all good, 1 not, 2 usage. */
#include "e2e/sim/runs.h"

#include "lib/str.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct sim_scenario *const scenarios[] = {&sim_toy,     &sim_toy_pair,  &sim_workload,
                                                       &sim_gitsync, &sim_flround,   &sim_project,
                                                       &sim_serving, &sim_imagebuild};

enum {
    OPT_SEED = 256,
    OPT_RUNS,
    OPT_POINTS,
    OPT_FAULTS,
    OPT_SCENARIO,
    OPT_AT,
    OPT_FAULT,
    OPT_FAULTLESS,
    OPT_PLANTED,
    OPT_PROOF,
    OPT_JOBS,
    OPT_FIRST
};

static const struct option long_options[] = {
    {"seed", required_argument, NULL, OPT_SEED},
    {"first-seed", required_argument, NULL, OPT_FIRST},
    {"runs", required_argument, NULL, OPT_RUNS},
    {"crash-points", required_argument, NULL, OPT_POINTS},
    {"fault-points", required_argument, NULL, OPT_FAULTS},
    {"scenario", required_argument, NULL, OPT_SCENARIO},
    {"at", required_argument, NULL, OPT_AT},
    {"fault", required_argument, NULL, OPT_FAULT},
    {"faultless", no_argument, NULL, OPT_FAULTLESS},
    {"planted", required_argument, NULL, OPT_PLANTED},
    {"proof", no_argument, NULL, OPT_PROOF},
    {"jobs", required_argument, NULL, OPT_JOBS},
    {0},
};

struct arguments {
    struct sim_options replay; /* seed 0: none */
    const struct sim_scenario *scenario;
    uint64_t first_seed, runs, points, faults;
    unsigned jobs;
    bool proof;
};

static int usage(const char *what, const char *value)
{
    (void)fprintf(stderr, "sim: %s%s%s\n", what, value ? ": " : "", fl_str_or(value, ""));
    return 2;
}

static const struct sim_scenario *scenario_by_name(const char *name)
{
    for (size_t i = 0; i < FL_COUNT_OF(scenarios); i++) {
        if (fl_streq(scenarios[i]->name, name))
            return scenarios[i];
    }
    return NULL;
}

static bool take_option(struct arguments *arguments, int option)
{
    uint64_t number = 0;

    switch (option) {
    case OPT_SEED:
        return fl_str_to_uint64(optarg, UINT64_MAX, &arguments->replay.seed);
    case OPT_FIRST:
        return fl_str_to_uint64(optarg, UINT64_MAX, &arguments->first_seed);
    case OPT_RUNS:
        return fl_str_to_uint64(optarg, UINT64_MAX, &arguments->runs);
    case OPT_POINTS:
        return fl_str_to_uint64(optarg, UINT64_MAX, &arguments->points);
    case OPT_FAULTS:
        return fl_str_to_uint64(optarg, UINT64_MAX, &arguments->faults);
    case OPT_AT:
        return fl_str_to_uint64(optarg, UINT64_MAX, &arguments->replay.fault_at);
    case OPT_FAULT:
        return sim_fault_from_name(optarg, &arguments->replay.fault);
    case OPT_FAULTLESS:
        return arguments->replay.faultless = true;
    case OPT_PLANTED:
        arguments->replay.planted = optarg;
        return true;
    case OPT_PROOF:
        return arguments->proof = true;
    case OPT_JOBS:
        if (!fl_str_to_uint64(optarg, SIM_JOBS_MAX, &number) || number == 0)
            return false;
        arguments->jobs = (unsigned)number;
        return true;
    case OPT_SCENARIO:
        arguments->scenario = scenario_by_name(optarg);
        return arguments->scenario != NULL;
    default:
        return false;
    }
}

/* In this process, with each turn on stderr. */
static int replay(const struct arguments *arguments)
{
    struct sim_options options = arguments->replay;
    struct fl_error err = {0};
    struct sim sim;
    struct fl_buf report;
    int r;

    options.trace = true;
    r = sim_world_create(&sim, arguments->scenario, &err);
    if (r < 0)
        return usage(err.msg, NULL);
    sim_run(&sim, &options);
    fl_buf_init(&report, 0);
    if (sim.result.failed)
        sim_report(&sim, &report);
    printf("%sseed %" PRIu64 ": %s, %" PRIu64 " turns, %" PRIu64 " passes, %" PRIu64
           " calls, %" PRId64 " s of virtual time, trace %016" PRIx64 "\n",
           fl_buf_text(&report), options.seed, sim.result.failed ? "FAILED" : "passed",
           sim.result.turns, sim.result.passes, sim.result.calls, sim.result.virtual_ms / 1000,
           sim.result.trace_hash);
    fl_buf_finish(&report);
    r = sim.result.failed;
    sim_world_destroy(&sim);
    return r;
}

/* Of so many runs of all scenarios; one that is asked for alone gets all. */
static uint64_t share(const struct arguments *arguments, const struct sim_scenario *scenario,
                      uint64_t all)
{
    const uint64_t weight = scenario->weight > 0 ? scenario->weight : 1;
    const uint64_t part = all / FL_COUNT_OF(scenarios) / weight;

    if (arguments->scenario || all == 0)
        return all;
    return part > 0 ? part : 1;
}

static bool run_all(const struct arguments *arguments)
{
    struct sim_tally tally = {0};
    size_t count = arguments->scenario ? 1 : FL_COUNT_OF(scenarios);

    for (size_t i = 0; i < count; i++) {
        const struct sim_scenario *scenario =
            arguments->scenario ? arguments->scenario : scenarios[i];

        sim_seeds(scenario, arguments->first_seed, share(arguments, scenario, arguments->runs),
                  arguments->jobs, &tally);
        sim_points(scenario, &sim_crashes, arguments->first_seed,
                   share(arguments, scenario, arguments->points), arguments->jobs, &tally);
        sim_points(scenario, &sim_refusals, arguments->first_seed,
                   share(arguments, scenario, arguments->faults), arguments->jobs, &tally);
        sim_determinism(scenario, arguments->first_seed, arguments->jobs, &tally);
    }
    printf("sim: %" PRIu64 " passed, %" PRIu64 " failed\n", tally.passed, tally.failed);
    return tally.failed == 0 && tally.passed > 0;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {
        .first_seed = 1, .runs = 1000, .points = 5000, .faults = 1000, .jobs = 2};
    int option;

    json_object_seed(1); /* the order of iteration is no chance */
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == '?' || !take_option(&arguments, option))
            return usage("wrong option or value", optarg);
    }
    if (optind < argc)
        return usage("unknown argument", argv[optind]);
    if (arguments.proof)
        return !sim_proof(arguments.first_seed, arguments.jobs, arguments.replay.planted);
    if (arguments.replay.seed && !arguments.scenario)
        return usage("--seed needs --scenario", NULL);
    if (arguments.replay.seed)
        return replay(&arguments);
    return !run_all(&arguments);
}
