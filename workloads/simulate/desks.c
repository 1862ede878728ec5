/* Programs that train, a few of them, for many learners: each has a desk at which learners sit down
 * one after the other. */
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/simulate/simulate_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define CHANCE_ROUND 0 /* of a learner's seed: no round's own */

struct desk {
    struct fl_trainer *trainer; /* NULL: not started yet */
    bool taken;
};

struct desks {
    const struct population *population; /* lent */
    const struct fl_simulated_code *code;
    struct fl_lock *lock; /* of the desks: who sits there reads its trainer without */
    struct fl_signal *left;
    struct desk *items;
    size_t count;
    bool *written; /* whose data is in its file; the judge's is the last */
};

int desks_create(const struct population *population, size_t count, struct desks **ret_desks,
                 struct fl_error *err)
{
    const struct fl_simulated_code *code = population->simulation->code;
    struct desks *desks;

    if (population->simulation->trainer)
        return fl_error_set(err, FL_E_INVALID, "a native trainer and code of one's own");
    desks = fl_calloc(1, sizeof(*desks));
    desks->population = population;
    desks->code = code;
    desks->lock = fl_lock_create();
    desks->left = fl_signal_create();
    desks->items = fl_calloc(count, sizeof(*desks->items));
    desks->count = count;
    desks->written = fl_calloc(population->count + 1, sizeof(bool));
    *ret_desks = desks;
    return 0;
}

static void put_trainer(struct desks *desks, struct desk *desk, struct fl_trainer *trainer)
{
    FL_LOCKED(desks->lock);
    desk->trainer = trainer;
}

static void close_desk(struct desks *desks, struct desk *desk)
{
    struct fl_trainer *trainer = desk->trainer;

    put_trainer(desks, desk, NULL);
    if (trainer)
        trainer->ops->destroy(trainer);
}

void desks_destroy(struct desks *desks)
{
    if (!desks)
        return;
    for (size_t i = 0; i < desks->count; i++)
        close_desk(desks, &desks->items[i]);
    free(desks->items);
    free(desks->written);
    fl_signal_destroy(desks->left);
    fl_lock_destroy(desks->lock);
    free(desks);
}

/* --- who sits where --- */

static bool is_judge(const struct desks *desks, size_t learner)
{
    return learner == desks->population->count;
}

static bool keeps(const struct desks *desks, size_t learner)
{
    return desks->code->stateful || is_judge(desks, learner);
}

/* Who keeps something is always at the same desk; others are where one is free, at best where a
 * program runs already. NULL: none is free. */
static struct desk *free_desk(struct desks *desks, size_t learner)
{
    struct desk *found = NULL;

    if (keeps(desks, learner)) {
        found = &desks->items[is_judge(desks, learner) ? 0 : learner % desks->count];
        return found->taken ? NULL : found;
    }
    for (size_t i = desks->count; i > 0; i--) {
        struct desk *desk = &desks->items[i - 1];

        if (!desk->taken && (!found || desk->trainer || !found->trainer))
            found = desk;
    }
    return found;
}

static struct desk *sit_down(struct desks *desks, size_t learner)
{
    struct desk *desk;

    FL_LOCKED(desks->lock);
    while (!(desk = free_desk(desks, learner)))
        (void)fl_signal_wait(desks->left, desks->lock, -1);
    desk->taken = true;
    return desk;
}

static void get_up(struct desks *desks, struct desk *desk)
{
    FL_LOCKED(desks->lock);
    desk->taken = false;
    fl_signal_all(desks->left);
}

/* --- the turn of one --- */

static struct fl_dataset *data_of(const struct desks *desks, size_t learner)
{
    return is_judge(desks, learner) ? desks->population->simulation->test
                                    : desks->population->data[learner];
}

/* A learner's data is written when it is first needed: most may never be chosen. */
static int write_data(struct desks *desks, size_t learner, const char *path, struct fl_error *err)
{
    int r = desks->written[learner]
                ? 0
                : fl_dataset_write_safetensors(data_of(desks, learner), path, err);

    desks->written[learner] = desks->written[learner] || r == 0;
    return r;
}

static void learner_name(const struct desks *desks, size_t learner, char out[LEARNER_ID_SIZE])
{
    if (is_judge(desks, learner))
        (void)snprintf(out, LEARNER_ID_SIZE, "%s", JUDGE_ID);
    else
        learner_id(learner, out);
}

static int begin_turn(struct desks *desks, struct fl_trainer *trainer, size_t learner,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char name[LEARNER_ID_SIZE];
    struct fl_trainer_turn turn = {.learner = name, .keep = keeps(desks, learner)};
    const char *path;
    FL_JSON data = NULL;
    int r;

    learner_name(desks, learner, name);
    path = fl_arena_printf(arena, "%s/%s.safetensors", desks->code->folder, name);
    r = write_data(desks, learner, path, err);
    if (r < 0)
        return r;
    data = json_pack("[{s:s, s:s, s:I}]", "name", name, "file", path, "examples",
                     (json_int_t)data_of(desks, learner)->count);
    turn.data = data;
    turn.seed =
        (uint64_t)fl_protocol_seed(desks->population->simulation->spec.seed, CHANCE_ROUND, name);
    turn.part = is_judge(desks, learner) ? 0 : learner;
    turn.parts = is_judge(desks, learner) ? 1 : desks->population->count;
    return fl_trainer_turn(trainer, &turn, err);
}

/* One that has ended, by a crash of the code or by our patience, is replaced. */
static int open_desk(struct desks *desks, struct desk *desk, struct fl_error *err)
{
    struct fl_trainer_program program = desks->code->program;
    struct fl_trainer *trainer = NULL;
    int r;

    if (desk->trainer && fl_trainer_has_ended(desk->trainer))
        close_desk(desks, desk);
    if (desk->trainer)
        return 0;
    program.shared = true;
    program.data = NULL;
    r = fl_trainer_start(&program, desks->code->env, &trainer, err);
    if (r < 0)
        return r;
    put_trainer(desks, desk, trainer);
    if (fl_trainer_can(trainer, "learner"))
        return 0;
    close_desk(desks, desk);
    return fl_error_set(err, FL_E_NOT_ACCEPTABLE, "%s: the program serves one learner only",
                        FL_TRAINER_NOT_STARTED);
}

int desks_take(struct desks *desks, size_t learner, struct fl_trainer **ret_trainer,
               struct fl_error *err)
{
    struct desk *desk = sit_down(desks, learner);
    int r = open_desk(desks, desk, err);

    if (r == 0)
        r = begin_turn(desks, desk->trainer, learner, err);
    if (r < 0) {
        get_up(desks, desk);
        return r;
    }
    *ret_trainer = desk->trainer;
    return 0;
}

void desks_leave(struct desks *desks, const struct fl_trainer *trainer)
{
    FL_LOCKED(desks->lock);
    for (size_t i = 0; i < desks->count; i++)
        if (desks->items[i].trainer == trainer)
            desks->items[i].taken = false;
    fl_signal_all(desks->left);
}
