#include "e2e/sim/runs.h"

#include "lib/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_SECONDS_MAX   60 /* of the machine's time: a run that hangs is a failure */
#define REPORT_BYTES_MAX  60000
#define FAILURES_SHOWN    3
#define FAILURES_MAX      20 /* then it is enough */
#define DETERMINISM_SEEDS 5
#define PROOF_SEEDS       600
#define PROOF_POINTS      600

/* What a run says to its parent: the result, then a report where it failed. It fits in a pipe. */
struct slot {
    pid_t pid; /* 0: free */
    int fd;
    struct sim_options options;
};

typedef void ended_fn(void *user, const struct sim_options *options,
                      const struct sim_result *result, const char *report);

struct pool {
    struct sim world; /* set up, never run in */
    struct slot slots[SIM_JOBS_MAX];
    unsigned jobs;
    ended_fn *ended;
    void *user;
    bool enough; /* set by `ended`: start no more */
};

static void write_all(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno != EINTR)
            _exit(3);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
}

static void run_in_child(struct pool *pool, const struct sim_options *options, int fd)
{
    struct fl_buf report;

    (void)alarm(RUN_SECONDS_MAX);
    fl_buf_init(&report, REPORT_BYTES_MAX);
    sim_run(&pool->world, options);
    if (pool->world.result.failed)
        sim_report(&pool->world, &report);
    write_all(fd, &pool->world.result, sizeof(pool->world.result));
    write_all(fd, fl_buf_text(&report), report.len);
    _exit(0); /* the world ends with the process */
}

static size_t read_all(int fd, char *out, size_t size)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = read(fd, out + len, size - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    return len;
}

static void collect(struct pool *pool, struct slot *slot, int status)
{
    static char text[sizeof(struct sim_result) + REPORT_BYTES_MAX + 1];
    struct sim_result result = {.failed = true, .is_no_oracle = true};
    size_t len = read_all(slot->fd, text, sizeof(text) - 1);
    char broke[160];

    (void)close(slot->fd);
    slot->pid = 0;
    text[len] = '\0';
    if (status == 0 && len >= sizeof(result)) {
        memcpy(&result, text, sizeof(result));
        pool->ended(pool->user, &slot->options, &result, text + sizeof(result));
        return;
    }
    (void)snprintf(result.oracle, sizeof(result.oracle), "%s",
                   WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hangs" : "breaks");
    (void)snprintf(broke, sizeof(broke),
                   "FAILED scenario %s, seed %" PRIu64 ", fault %s at call %" PRIu64
                   ": the run ended with status %#x\n",
                   pool->world.scenario->name, slot->options.seed,
                   sim_fault_name(slot->options.fault), slot->options.fault_at, (unsigned)status);
    pool->ended(pool->user, &slot->options, &result, broke);
}

static void wait_for_one(struct pool *pool)
{
    int status;
    pid_t pid = wait(&status);

    for (unsigned i = 0; i < pool->jobs; i++) {
        if (pool->slots[i].pid == pid && pid > 0)
            collect(pool, &pool->slots[i], status);
    }
}

static struct slot *free_slot(struct pool *pool)
{
    for (;;) {
        for (unsigned i = 0; i < pool->jobs; i++) {
            if (pool->slots[i].pid == 0)
                return &pool->slots[i];
        }
        wait_for_one(pool);
    }
}

static void pool_start(struct pool *pool, const struct sim_options *options)
{
    struct slot *slot = free_slot(pool);
    int fds[2];

    if (pool->enough || pipe(fds) != 0)
        return;
    (void)fflush(NULL);
    slot->options = *options;
    slot->pid = fork();
    if (slot->pid == 0) {
        (void)close(fds[0]);
        run_in_child(pool, options, fds[1]);
    }
    (void)close(fds[1]);
    slot->fd = fds[0];
    if (slot->pid < 0) {
        perror("fork");
        exit(3);
    }
}

static void pool_drain(struct pool *pool)
{
    for (unsigned i = 0; i < pool->jobs; i++) {
        while (pool->slots[i].pid != 0)
            wait_for_one(pool);
    }
}

static void pool_open(struct pool *pool, const struct sim_scenario *scenario, unsigned jobs,
                      ended_fn *ended, void *user)
{
    struct fl_error err = {0};

    memset(pool, 0, sizeof(*pool));
    pool->jobs = jobs;
    pool->ended = ended;
    pool->user = user;
    if (sim_world_create(&pool->world, scenario, &err) < 0) {
        (void)fprintf(stderr, "sim: %s\n", err.msg);
        exit(3);
    }
}

static void pool_close(struct pool *pool)
{
    pool_drain(pool);
    sim_world_destroy(&pool->world);
}

/* Counting. */

struct count {
    struct pool *pool;
    uint64_t passed, failed, calls, passes;
    int64_t virtual_ms, began_us;
};

static void count_run(void *user, const struct sim_options *options,
                      const struct sim_result *result, const char *report)
{
    struct count *count = user;

    (void)options;
    count->calls += result->calls;
    count->passes += result->passes;
    count->virtual_ms += result->virtual_ms;
    if (!result->failed) {
        count->passed++;
        return;
    }
    if (count->failed++ < FAILURES_SHOWN)
        printf("%s", report);
    count->pool->enough = count->failed >= FAILURES_MAX;
}

static void count_end(const struct count *count, const char *what, struct sim_tally *tally)
{
    int64_t took_ms = (fl_machine_monotonic_us() - count->began_us) / 1000;

    printf("%-9s %-13s %6" PRIu64 " passed, %" PRIu64 " failed: %" PRIu64 " passes, %" PRIu64
           " calls, %" PRId64 " h of virtual time in %" PRId64 ".%" PRId64 " s\n",
           count->pool->world.scenario->name, what, count->passed, count->failed, count->passes,
           count->calls, count->virtual_ms / 3600000, took_ms / 1000, took_ms % 1000 / 100);
    (void)fflush(stdout);
    tally->passed += count->passed;
    tally->failed += count->failed;
}

void sim_seeds(const struct sim_scenario *scenario, uint64_t first_seed, uint64_t count,
               unsigned jobs, struct sim_tally *tally)
{
    struct pool pool;
    struct count counted = {.pool = &pool, .began_us = fl_machine_monotonic_us()};

    pool_open(&pool, scenario, jobs, count_run, &counted);
    for (uint64_t i = 0; i < count && !pool.enough; i++)
        pool_start(&pool, &(struct sim_options){.seed = first_seed + i, .scenario = scenario});
    pool_drain(&pool);
    count_end(&counted, "seeds", tally);
    pool_close(&pool);
}

/* Fault points. */

const struct sim_faults sim_crashes = {"crash points", {SIM_CRASH_BEFORE, SIM_CRASH_AFTER}};
const struct sim_faults sim_refusals = {"fault points",
                                        {SIM_ERROR, SIM_CONFLICT, SIM_LOST_ANSWER, SIM_FORGET}};
const struct sim_faults sim_all_faults = {
    "all faults",
    {SIM_CRASH_BEFORE, SIM_CRASH_AFTER, SIM_ERROR, SIM_LOST_ANSWER, SIM_FORGET, SIM_CONFLICT}};

struct points {
    struct pool *pool;
    const struct sim_faults *faults;
    uint64_t left, calls;
    const char *planted;
};

static void note_calls(void *user, const struct sim_options *options,
                       const struct sim_result *result, const char *report)
{
    (void)options;
    (void)report;
    *(uint64_t *)user = result->calls;
}

/* How many calls a run without faults makes. */
static uint64_t count_calls(struct pool *pool, uint64_t seed, const char *planted)
{
    ended_fn *ended = pool->ended;
    void *user = pool->user;
    uint64_t calls = 0;

    pool_drain(pool);
    pool->ended = note_calls;
    pool->user = &calls;
    pool_start(pool, &(struct sim_options){.seed = seed,
                                           .scenario = pool->world.scenario,
                                           .planted = planted,
                                           .faultless = true});
    pool_drain(pool);
    pool->ended = ended;
    pool->user = user;
    return calls;
}

static void fail_at(struct points *points, uint64_t seed, uint64_t at)
{
    const enum sim_fault *fault = points->faults->items;

    for (; *fault && points->left > 0; fault++, points->left--)
        pool_start(points->pool, &(struct sim_options){.seed = seed,
                                                       .scenario = points->pool->world.scenario,
                                                       .planted = points->planted,
                                                       .fault_at = at,
                                                       .fault = *fault});
}

static void fail_everywhere(struct points *points, uint64_t seed)
{
    uint64_t calls = count_calls(points->pool, seed, points->planted);

    for (uint64_t at = 1; at <= calls && !points->pool->enough; at++)
        fail_at(points, seed, at);
}

void sim_points(const struct sim_scenario *scenario, const struct sim_faults *faults,
                uint64_t first_seed, uint64_t count, unsigned jobs, struct sim_tally *tally)
{
    struct pool pool;
    struct count counted = {.pool = &pool, .began_us = fl_machine_monotonic_us()};
    struct points points = {.pool = &pool, .faults = faults, .left = count};

    pool_open(&pool, scenario, jobs, count_run, &counted);
    for (uint64_t seed = first_seed; points.left > 0 && !pool.enough; seed++)
        fail_everywhere(&points, seed);
    pool_drain(&pool);
    count_end(&counted, faults->name, tally);
    pool_close(&pool);
}

/* The same seed is the same run. */

struct twice {
    struct pool *pool;
    uint64_t hashes[DETERMINISM_SEEDS][2];
    unsigned seen[DETERMINISM_SEEDS];
    uint64_t first_seed;
};

static void note_hash(void *user, const struct sim_options *options,
                      const struct sim_result *result, const char *report)
{
    struct twice *twice = user;
    uint64_t i = options->seed - twice->first_seed;

    (void)report;
    twice->hashes[i][twice->seen[i]++] = result->trace_hash;
}

void sim_determinism(const struct sim_scenario *scenario, uint64_t first_seed, unsigned jobs,
                     struct sim_tally *tally)
{
    struct pool pool;
    struct twice twice = {.pool = &pool, .first_seed = first_seed};

    for (int time = 0; time < 2; time++) {
        pool_open(&pool, scenario, jobs, note_hash, &twice);
        for (uint64_t i = 0; i < DETERMINISM_SEEDS; i++)
            pool_start(&pool, &(struct sim_options){.seed = first_seed + i, .scenario = scenario});
        pool_close(&pool);
    }
    for (uint64_t i = 0; i < DETERMINISM_SEEDS; i++) {
        bool same = twice.seen[i] == 2 && twice.hashes[i][0] == twice.hashes[i][1];

        if (!same)
            printf("FAILED scenario %s: seed %" PRIu64 " is not the same run twice\n",
                   scenario->name, first_seed + i);
        tally->passed += same;
        tally->failed += !same;
    }
}

/* The proof. */

struct search {
    struct pool *pool;
    bool found;
    struct sim_options at;
    struct sim_result result;
    uint64_t runs;
};

static void note_found(void *user, const struct sim_options *options,
                       const struct sim_result *result, const char *report)
{
    struct search *search = user;

    (void)report;
    search->runs++;
    if (!result->failed || search->found || result->is_no_oracle)
        return;
    search->found = search->pool->enough = true;
    search->at = *options;
    search->result = *result;
}

static void search_seeds(struct search *search, const struct sim_bug *bug, uint64_t first_seed)
{
    for (uint64_t i = 0; i < PROOF_SEEDS && !search->found; i++)
        pool_start(search->pool, &(struct sim_options){.seed = first_seed + i,
                                                       .scenario = bug->scenario,
                                                       .planted = bug->name});
    pool_drain(search->pool);
}

static void search_points(struct search *search, const struct sim_bug *bug, uint64_t first_seed)
{
    struct points points = {.pool = search->pool,
                            .faults = &sim_all_faults,
                            .left = PROOF_POINTS,
                            .planted = bug->name};

    for (uint64_t seed = first_seed; points.left > 0 && !search->found; seed++)
        fail_everywhere(&points, seed);
    pool_drain(search->pool);
}

static void tell_found(const struct search *search, const char *by)
{
    if (!search->found) {
        printf("  %-12s NOT FOUND in %" PRIu64 " runs\n", by, search->runs);
        return;
    }
    printf("  %-12s seed %" PRIu64, by, search->at.seed);
    if (search->at.fault_at)
        printf(", %s at call %" PRIu64, sim_fault_name(search->at.fault), search->at.fault_at);
    printf(" (run %" PRIu64 "): %s\n", search->runs, search->result.oracle);
}

static bool find_by(const struct sim_bug *bug, uint64_t first_seed, unsigned jobs, const char *by,
                    void (*how)(struct search *search, const struct sim_bug *bug,
                                uint64_t first_seed))
{
    struct pool pool;
    struct search search = {.pool = &pool};

    pool_open(&pool, bug->scenario, jobs, note_found, &search);
    how(&search, bug, first_seed);
    tell_found(&search, by);
    (void)fflush(stdout);
    pool_close(&pool);
    return search.found;
}

bool sim_proof(uint64_t first_seed, unsigned jobs, const char *only)
{
    size_t found = 0, count = 0;

    for (size_t i = 0; i < sim_bug_count; i++) {
        const struct sim_bug *bug = &sim_bugs[i];

        if (only && !fl_streq(only, bug->name))
            continue;
        count++;
        printf("%s (%s): %s\n", bug->name, bug->scenario->name, bug->what);
        /* What seeds find need not be looked for at each call. */
        found += find_by(bug, first_seed, jobs, "seeds", search_seeds) ||
                 find_by(bug, first_seed, jobs, "each call", search_points);
    }
    printf("sim-proof: %zu passed, %zu failed\n", found, count - found);
    return count > 0 && found == count;
}
