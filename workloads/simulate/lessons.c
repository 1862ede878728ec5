#include "workloads/simulate/simulate_internal.h"
#include "workloads/tensor/safetensors.h"

#include <string.h>

/* How many are computed ahead, for each thread: the next ones may be cancelled, and each holds an
 * update. */
#define AHEAD 2

/* --- one ------------------------------------------------------------------------------------ */

static bool is_cancelled(void *user)
{
    const struct lesson *lesson = user;
    const struct fl_simulation *simulation = lesson->population->simulation;

    return __atomic_load_n(&lesson->chore.cancelled, __ATOMIC_RELAXED) ||
           (simulation->interrupted && simulation->interrupted(simulation->user));
}

static int fit(struct lesson *lesson, struct fl_trainer *trainer)
{
    const struct fl_simulation *simulation = lesson->population->simulation;
    const struct fl_local_options *local = &lesson->local;
    const struct fl_fit_options options = {
        .epochs = local->epochs,
        .batch_size = local->batch_size,
        .learning_rate = local->learning_rate,
        .momentum = local->momentum,
        .proximal_mu = local->proximal_mu,
        .weight_decay = local->weight_decay,
        .without_loss_before = strcmp(simulation->spec.strategy.name, "QFedAvg") != 0,
        .seed = lesson->seed,
        .config = simulation->spec.local.config,
        .cancelled = is_cancelled,
        .user = lesson,
    };

    return trainer->ops->fit(trainer, lesson->base, &options, &lesson->fit, &lesson->err);
}

static void run(struct fl_chore *chore)
{
    struct lesson *lesson = (struct lesson *)chore;
    const struct population *population = lesson->population;
    struct fl_trainer *trainer = NULL;

    lesson->result = population_take_trainer(population, lesson->learner, &trainer, &lesson->err);
    if (lesson->result < 0)
        return;
    lesson->result = fit(lesson, trainer);
    population_leave_trainer(population, trainer);
    if (lesson->result < 0)
        return;
    population_attack(population, lesson->learner, lesson->seed, lesson->base, lesson->fit.model);
    if (lesson->digest)
        fl_model_digest_by(lesson->fit.model, FL_DIGEST_XXH128, lesson->name);
}

struct lesson *lesson_create(const struct population *population, size_t learner, int64_t round,
                             struct fl_model *base)
{
    struct lesson *lesson = fl_calloc(1, sizeof(*lesson));

    lesson->chore.run = run;
    lesson->population = population;
    lesson->learner = learner;
    lesson->round = round;
    lesson->base = fl_model_ref(base);
    lesson->drops = population_drops(population, learner, round);
    return lesson;
}

void lesson_destroy(struct lesson *lesson)
{
    if (!lesson)
        return;
    fl_model_unref(lesson->base);
    fl_model_unref(lesson->fit.model);
    json_decref(lesson->fit.metrics);
    free(lesson);
}

int lesson_check(const struct lesson *lesson, struct fl_error *err)
{
    if (lesson->drops || lesson->result == 0 || lesson->population->desks ||
        !fl_error_is_retryable(lesson->err.code))
        return 0;
    return fl_error_set(err, lesson->err.code, "learner %zu: %s", lesson->learner, lesson->err.msg);
}

/* --- those under way ------------------------------------------------------------------------ */

static bool is_later(const struct lesson *a, const struct lesson *b)
{
    return a->finish_ms != b->finish_ms ? a->finish_ms > b->finish_ms : a->order > b->order;
}

void schedule_add(struct schedule *schedule, struct lesson *lesson)
{
    size_t low = 0, high = schedule->count;

    lesson->order = ++schedule->added;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (is_later(schedule->items[middle], lesson))
            low = middle + 1;
        else
            high = middle;
    }
    if (schedule->count == schedule->cap) {
        schedule->cap = schedule->cap ? schedule->cap * 2 : 64;
        schedule->items = fl_realloc(schedule->items, schedule->cap * sizeof(struct lesson *));
    }
    memmove(schedule->items + low + 1, schedule->items + low,
            (schedule->count - low) * sizeof(struct lesson *));
    schedule->items[low] = lesson;
    schedule->count++;
}

const struct lesson *schedule_next(const struct schedule *schedule)
{
    return schedule->count > 0 ? schedule->items[schedule->count - 1] : NULL;
}

static void compute_ahead(struct schedule *schedule)
{
    size_t jobs = fl_crew_jobs(schedule->crew), ahead = jobs > 1 ? AHEAD * jobs : 1;

    for (size_t i = schedule->count; i > 0 && ahead > 0; i--) {
        struct lesson *lesson = schedule->items[i - 1];

        if (lesson->drops)
            continue;
        if (!lesson->begun)
            fl_crew_submit(schedule->crew, &lesson->chore);
        lesson->begun = true;
        ahead--;
    }
}

struct lesson *schedule_take(struct schedule *schedule)
{
    struct lesson *lesson;

    compute_ahead(schedule);
    lesson = schedule->items[--schedule->count];
    if (!lesson->drops)
        fl_crew_wait(schedule->crew, &lesson->chore);
    return lesson;
}

static void give_up(struct schedule *schedule, struct lesson *lesson)
{
    if (lesson->begun)
        fl_crew_cancel(schedule->crew, &lesson->chore);
    lesson_destroy(lesson);
}

void schedule_cancel(struct schedule *schedule, size_t learner, uint64_t ticket)
{
    for (size_t i = 0; i < schedule->count; i++) {
        if (schedule->items[i]->learner != learner || schedule->items[i]->ticket != ticket)
            continue;
        give_up(schedule, schedule->items[i]);
        schedule->count--;
        memmove(schedule->items + i, schedule->items + i + 1,
                (schedule->count - i) * sizeof(struct lesson *));
        return;
    }
}

void schedule_clear(struct schedule *schedule)
{
    while (schedule->count > 0)
        give_up(schedule, schedule->items[--schedule->count]);
}

void schedule_finish(struct schedule *schedule)
{
    schedule_clear(schedule);
    free(schedule->items);
    schedule->items = NULL;
    schedule->cap = 0;
}
