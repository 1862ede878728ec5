#include "lib/str.h"
#include "workloads/aggregator/folding.h"
#include "workloads/simulate/simulate_internal.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define LEARNERS_MAX   100000 /* as many members as an aggregator takes */
#define JOBS_MAX       256
#define CHUNK_EXAMPLES 512 /* of the test data, at least: one chore */
#define CHUNKS_MAX     32

/* --- evaluation ----------------------------------------------------------------------------- */

struct chunk {
    struct fl_chore chore;
    const struct population *population;
    struct fl_dataset *data;
    const struct fl_model *model;
    struct fl_evaluation evaluation;
    struct fl_error err;
    int result;
};

struct judge {
    struct chunk chunks[CHUNKS_MAX];
    size_t count;
};

/* A trainer of its own, for as long as it takes: its space may be large. */
static void evaluate_chunk(struct fl_chore *chore)
{
    struct chunk *chunk = (struct chunk *)chore;
    const struct fl_simulation *simulation = chunk->population->simulation;
    struct fl_trainer *trainer;

    chunk->result =
        chunk->population->desks
            ? desks_take(chunk->population->desks, chunk->population->count, &trainer, &chunk->err)
            : simulation->trainer->create(simulation->trainer_options, chunk->data, &trainer,
                                          &chunk->err);
    if (chunk->result < 0)
        return;
    chunk->result = trainer->ops->evaluate(trainer, chunk->model, &chunk->evaluation, &chunk->err);
    json_decref(FL_TAKE(chunk->evaluation.metrics));
    population_leave_trainer(chunk->population, trainer);
}

static void judge_finish(struct judge *judge)
{
    for (size_t i = 0; i < judge->count; i++)
        fl_dataset_unref(judge->chunks[i].data);
}

/* In chunks that depend on the data only: the sums of losses are the same for all numbers of
 * threads. Code of one's own has all of the test data, and may keep a part of it back. */
static int judge_init(struct judge *judge, const struct population *population,
                      struct fl_error *err)
{
    const struct fl_simulation *simulation = population->simulation;
    size_t count = simulation->test->count, chunks = count / CHUNK_EXAMPLES;
    FL_CLEANUP(fl_freep) uint32_t *rows = fl_calloc(count, sizeof(*rows));
    int r = 0;

    chunks = chunks < 1 || population->desks ? 1 : chunks > CHUNKS_MAX ? CHUNKS_MAX : chunks;
    for (size_t i = 0; i < count; i++)
        rows[i] = (uint32_t)i;
    for (size_t i = 0; i < chunks && r == 0; i++) {
        size_t from = count * i / chunks, to = count * (i + 1) / chunks;
        struct chunk *chunk = &judge->chunks[judge->count++];

        chunk->chore.run = evaluate_chunk;
        chunk->population = population;
        r = fl_dataset_view(simulation->test, rows + from, to - from, &chunk->data, err);
    }
    return r;
}

static int judge_model(struct judge *judge, struct fl_crew *crew, const struct fl_model *model,
                       struct fl_simulated_round *round, struct fl_error *err)
{
    double loss = 0, hits = 0, examples = 0;
    int r = 0;

    for (size_t i = 0; i < judge->count; i++) {
        judge->chunks[i].model = model;
        fl_crew_submit(crew, &judge->chunks[i].chore);
    }
    for (size_t i = 0; i < judge->count; i++) {
        const struct chunk *chunk = &judge->chunks[i];
        double count;

        fl_crew_wait(crew, &judge->chunks[i].chore);
        count = (double)chunk->evaluation.examples;
        loss += chunk->evaluation.loss * count;
        hits += chunk->population->desks ? chunk->evaluation.accuracy * count
                                         : rint(chunk->evaluation.accuracy * count);
        examples += count;
        if (chunk->result < 0 && r == 0)
            r = fl_error_set(err, chunk->err.code, "evaluation: %s", chunk->err.msg);
    }
    round->evaluated = true;
    round->loss = loss / examples;
    round->accuracy = hits / examples;
    return r;
}

/* --- the course of a training --------------------------------------------------------------- */

struct fl_round_order course_spec(const struct course *course, int64_t round)
{
    const struct fl_simulation *simulation = course->simulation;
    struct fl_round_order spec = simulation->spec;

    spec.project = "simulation";
    spec.round = round;
    spec.model = course->digest;
    spec.model_size = 1;
    spec.participation.min_available = (int64_t)simulation->partition.learners;
    spec.participation.retry_limit = 0;
    spec.evaluation.enabled = false;
    if (simulation->learning_rate_decay > 0)
        spec.local.learning_rate *= pow(simulation->learning_rate_decay, (double)(round - 1));
    return spec;
}

int course_use_strategy(struct course *course, const struct fl_round_order *spec,
                        struct fl_error *err)
{
    struct fl_strategy_options options;
    double rate = spec->local.learning_rate;

    /* Only QFedAvg looks at the rate, and has no state that would be lost. */
    if (course->strategy &&
        (course->strategy_rate == rate || strcmp(spec->strategy.name, "QFedAvg") != 0))
        return 0;
    fl_strategy_spec_options(&spec->strategy, rate, &options);
    options.spill_dir = course->simulation->spill_dir;
    fl_strategy_destroy(FL_TAKE(course->strategy));
    course->strategy_rate = rate;
    return fl_strategy_create(&options, &course->strategy, err);
}

void course_take_model(struct course *course, struct fl_model *model)
{
    fl_model_unref(course->model);
    course->model = model;
    fl_model_digest(model, course->digest);
}

int course_check_interrupt(const struct course *course, struct fl_error *err)
{
    const struct fl_simulation *simulation = course->simulation;

    if (simulation->interrupted && simulation->interrupted(simulation->user))
        return fl_error_set(err, FL_E_UNAVAILABLE, "interrupted");
    return 0;
}

void course_note_failure(struct course *course, const char *learner, const struct fl_error *why)
{
    struct fl_simulated_failure *failure;
    size_t at = 0;

    if (!course->failures)
        course->failures = fl_calloc(FL_SIMULATED_FAILURES_MAX, sizeof(*course->failures));
    while (at < course->failure_count && !fl_streq(course->failures[at].learner, learner))
        at++;
    if (at == FL_SIMULATED_FAILURES_MAX)
        return;
    if (at == course->failure_count)
        course->failure_count++;
    failure = &course->failures[at];
    (void)snprintf(failure->learner, sizeof(failure->learner), "%s", learner);
    (void)snprintf(failure->error, sizeof(failure->error), "%.*s",
                   (int)fl_utf8_cut(why->msg, strlen(why->msg), sizeof(failure->error) - 1),
                   why->msg);
}

static int check(const struct fl_simulation *simulation, struct fl_error *err)
{
    const struct fl_attack *attack = &simulation->attack;
    const struct fl_delays *delays = &simulation->delays;
    size_t learners = simulation->partition.learners;

    if (learners < 1 || learners > LEARNERS_MAX)
        return fl_error_set(err, FL_E_INVALID, "%zu learners: must be 1 to %d", learners,
                            LEARNERS_MAX);
    if (simulation->rounds < 1 || simulation->rounds > 1000000)
        return fl_error_set(err, FL_E_INVALID, "%" PRId64 " rounds: must be 1 to 1000000",
                            simulation->rounds);
    if (simulation->jobs > JOBS_MAX)
        return fl_error_set(err, FL_E_INVALID, "%zu threads: must be at most %d", simulation->jobs,
                            JOBS_MAX);
    if (attack->learners > learners)
        return fl_error_set(err, FL_E_INVALID, "%zu attackers of %zu learners", attack->learners,
                            learners);
    if (!(attack->scale >= 0 && attack->scale <= 1e6))
        return fl_error_set(err, FL_E_INVALID, "scale %g of the attack: must be 0 to 1e6",
                            attack->scale);
    if (!(delays->dropout >= 0 && delays->dropout <= 1))
        return fl_error_set(err, FL_E_INVALID, "dropout %g: must be 0 to 1", delays->dropout);
    if (!(delays->spread >= 0 && delays->spread <= 10 && delays->jitter >= 0 &&
          delays->jitter <= 10))
        return fl_error_set(err, FL_E_INVALID, "spread and jitter of delays: must be 0 to 10");
    if (simulation->spec.mode != FL_MODE_SYNC && !simulation->protocol)
        return fl_error_set(err, FL_E_INVALID, "mode %s needs the protocol",
                            fl_modes[simulation->spec.mode - 1]);
    if (!(simulation->learning_rate_decay >= 0 && simulation->learning_rate_decay <= 10))
        return fl_error_set(err, FL_E_INVALID, "decay %g: must be 0 to 10",
                            simulation->learning_rate_decay);
    return 0;
}

/* The ranges of what the protocol carries are the protocol's to know. */
static int check_spec(const struct course *course, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_round_order spec = course_spec(course, 1);
    FL_JSON value = fl_message_to_json(&fl_form_round_order, &spec);
    struct fl_round_order decoded;

    return fl_message_from_json(arena, &fl_form_round_order, value, &decoded, err);
}

static int first_model(struct course *course, struct fl_error *err)
{
    const struct fl_simulation *simulation = course->simulation;
    struct fl_trainer *trainer = NULL;
    struct fl_model *model;
    int r;

    if (simulation->initial) {
        course_take_model(course, fl_model_ref(simulation->initial));
        return 0;
    }
    r = population_take_trainer(course->population, 0, &trainer, err);
    if (r < 0)
        return r;
    r = trainer->ops->init(trainer, (uint64_t)simulation->spec.seed, &model, err);
    population_leave_trainer(course->population, trainer);
    if (r == 0)
        course_take_model(course, model);
    return r;
}

static int begin(struct course *course, struct fl_error *err)
{
    const struct fl_simulation *simulation = course->simulation;
    size_t jobs = simulation->jobs ? simulation->jobs : 1;
    int r = population_create(simulation, &course->population, err);

    if (r == 0 && simulation->code)
        r = desks_create(course->population, jobs, &course->population->desks, err);
    if (r == 0)
        r = first_model(course, err);
    if (r == 0)
        r = check_spec(course, err);
    if (r == 0)
        r = fl_crew_create("learn", jobs, &course->crew, err);
    course->schedule.crew = course->crew;
    return r;
}

struct driver {
    struct memory_rounds *memory;
    struct virtual_world *world;
};

/* Code that fails at it leaves the round without figures, and is told as a failure. */
static int evaluate(struct course *course, struct judge *judge, struct fl_simulated_round *round,
                    struct fl_error *err)
{
    struct fl_error why = {0};
    int r = judge_model(judge, course->crew, course->model, round, &why);

    if (r == 0)
        return 0;
    if (!course->population->desks)
        return fl_error_set(err, why.code, "%s", why.msg);
    round->evaluated = false;
    round->loss = round->accuracy = (double)NAN;
    course_note_failure(course, JUDGE_ID, &why);
    return 0;
}

static int add_reason(const struct fl_simulated_failure *failure, struct fl_error *err)
{
    const struct fl_error whole = *err;

    return fl_error_set(err, whole.code, "%s (%s: %s)", whole.msg, failure->learner,
                        failure->error);
}

static int one_round(struct course *course, struct driver *driver, struct judge *judge,
                     struct fl_simulated_round *round, struct fl_error *err)
{
    const struct fl_simulation *simulation = course->simulation;
    const struct fl_round_order spec = course_spec(course, round->round);
    int64_t every = simulation->evaluate_every;
    int r;

    course->failure_count = 0;
    r = driver->world ? virtual_round(driver->world, &spec, round, err)
                      : memory_round(driver->memory, &spec, round, err);

    round->virtual_ms = course->now_ms;
    round->model = course->digest;
    if (r == 0 && (round->round == simulation->rounds || (every > 0 && round->round % every == 0)))
        r = evaluate(course, judge, round, err);
    if (r == 0)
        r = course_check_interrupt(course, err);
    round->failures = course->failures;
    round->failure_count = course->failure_count;
    if (r < 0 && course->failure_count > 0)
        r = add_reason(&course->failures[0], err);
    return r < 0 ? fl_error_wrap(err, "round %" PRId64, round->round) : 0;
}

static int all_rounds(struct course *course, struct driver *driver, struct judge *judge,
                      struct fl_error *err)
{
    const struct fl_simulation *simulation = course->simulation;

    for (int64_t i = 1; i <= simulation->rounds; i++) {
        struct fl_simulated_round round = {
            .round = i, .train_loss = NAN, .loss = NAN, .accuracy = NAN};
        int r = one_round(course, driver, judge, &round, err);

        if (r < 0)
            return r;
        if (simulation->round_done)
            simulation->round_done(simulation->user, &round);
        if (round.evaluated && round.accuracy >= simulation->target_accuracy)
            break;
    }
    return 0;
}

static void course_finish(struct course *course)
{
    schedule_finish(&course->schedule);
    fl_crew_destroy(course->crew);
    free(course->failures);
    fl_strategy_destroy(course->strategy);
    fl_model_unref(course->model);
    population_destroy(course->population);
}

static int run(struct course *course, struct judge *judge, struct fl_error *err)
{
    const struct fl_simulation *simulation = course->simulation;
    struct driver driver = {0};
    int r = begin(course, err);

    if (r == 0)
        r = judge_init(judge, course->population, err);
    if (r == 0)
        r = simulation->protocol ? virtual_world_create(course, &driver.world, err)
                                 : memory_rounds_create(course, &driver.memory, err);
    if (r == 0)
        r = all_rounds(course, &driver, judge, err);
    virtual_world_destroy(driver.world);
    memory_rounds_destroy(driver.memory);
    return r;
}

void fl_simulation_init(struct fl_simulation *simulation)
{
    *simulation = (struct fl_simulation){
        .partition = {.kind = FL_PARTITION_IID, .learners = 10},
        .rounds = 10,
        .evaluate_every = 1,
        .target_accuracy = NAN,
        .jobs = 1,
    };
    fl_message_init(&fl_form_round_order, &simulation->spec);
    simulation->spec.strategy.name = "FedAvg";
}

int fl_simulate(const struct fl_simulation *simulation, struct fl_model **ret_model,
                struct fl_error *err)
{
    FL_CLEANUP(course_finish) struct course course = {.simulation = simulation};
    FL_CLEANUP(fl_freep) struct judge *judge = fl_calloc(1, sizeof(*judge));
    int r = check(simulation, err);

    if (r == 0)
        r = run(&course, judge, err);
    judge_finish(judge);
    if (r == 0 && ret_model)
        *ret_model = FL_TAKE(course.model);
    return r;
}
