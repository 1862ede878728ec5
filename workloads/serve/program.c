#include "workloads/serve/program.h"

#include "lib/buf.h"
#include "lib/channel.h"
#include "lib/log.h"
#include "lib/thread.h"
#include "workloads/tensor/safetensors.h"
#include "workloads/trainer/host.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define FIRST_DELAY_MS 200
#define DELAY_MAX_MS   5000
#define TRIES          2 /* of a batch */

struct worker {
    struct program *program;
    struct fl_lock *lock;
    struct fl_trainer *trainer; /* NULL: could not be started */
    unsigned failures;          /* to start it, in a row */
    int64_t not_before_ms;
    /* While all are started. */
    struct fl_thread *thread;
    struct fl_trainer_form form;
    struct fl_error err;
};

struct program {
    struct fl_trainer_program how; /* its texts are lent for longer than this lives */
    struct fl_env env;
    struct fl_bytes *file;
    struct fl_trainer_form form;
    struct fl_signature signature;
    _Atomic uint64_t restarts;
    unsigned count;
    struct worker workers[];
};

/* Starting */

static void end_worker(struct worker *worker)
{
    if (worker->trainer)
        worker->trainer->ops->destroy(worker->trainer);
    worker->trainer = NULL;
}

static int start_worker(struct worker *worker, struct fl_trainer_form *ret_form,
                        struct fl_error *err)
{
    struct program *program = worker->program;
    int r = fl_trainer_start(&program->how, &program->env, &worker->trainer, err);

    if (r == 0)
        r = fl_trainer_load(worker->trainer, program->file->data, program->file->len, ret_form,
                            err);
    if (r < 0)
        end_worker(worker);
    return r;
}

static void start_on_thread(void *user)
{
    struct worker *worker = user;

    (void)start_worker(worker, &worker->form, &worker->err);
}

static bool same_form(const struct fl_trainer_form *a, const struct fl_trainer_form *b)
{
    return a->rank == b->rank && a->answer == b->answer &&
           memcmp(a->shape, b->shape, a->rank * sizeof(*a->shape)) == 0;
}

/* All at the same time: an interpreter takes seconds for what it imports. */
static int start_all(struct program *program, struct fl_error *err)
{
    int r = 0;

    for (unsigned i = 0; i < program->count && r == 0; i++)
        r = fl_thread_start("program", start_on_thread, &program->workers[i],
                            &program->workers[i].thread, err);
    for (unsigned i = 0; i < program->count; i++)
        fl_thread_join(FL_TAKE(program->workers[i].thread));
    for (unsigned i = 0; i < program->count && r == 0; i++) {
        const struct worker *worker = &program->workers[i];

        if (!worker->trainer)
            r = fl_error_set(err, worker->err.code, "%s", worker->err.msg);
        else if (!same_form(&worker->form, &program->workers[0].form))
            r = fl_error_set(err, FL_E_INVALID, "the program does not say the same form twice");
    }
    program->form = program->workers[0].form;
    return r;
}

static void describe(struct program *program)
{
    const struct fl_trainer_form *form = &program->form;
    struct fl_signature *signature = &program->signature;

    *signature = (struct fl_signature){.input = "input",
                                       .output = "output",
                                       .rank = form->rank,
                                       .width = form->width,
                                       .classes = form->answer};
    _Static_assert(sizeof(signature->shape) == sizeof(form->shape), "as many sizes");
    memcpy(signature->shape, form->shape, sizeof(form->shape));
}

static void program_destroy(void *state)
{
    struct program *program = state;

    if (!program)
        return;
    /* There is nothing to be saved, and nobody shall wait for one after the other. */
    for (unsigned i = 0; i < program->count; i++)
        if (program->workers[i].trainer)
            fl_trainer_kill(program->workers[i].trainer);
    for (unsigned i = 0; i < program->count; i++) {
        end_worker(&program->workers[i]);
        fl_lock_destroy(program->workers[i].lock);
    }
    fl_bytes_unref(program->file);
    free(program);
}

static void program_destroyp(struct program **program)
{
    program_destroy(*program);
}

static int program_load(const struct fl_predictor_source *source, void **ret_state,
                        struct fl_error *err)
{
    const unsigned count = source->seats > 1 ? source->seats - 1 : 1; /* seat 0 is the loop's */
    FL_CLEANUP(program_destroyp)
    struct program *program = fl_calloc(1, sizeof(*program) + count * sizeof(program->workers[0]));
    int r;

    program->how = *source->program;
    program->how.predicts = true;
    program->env = *source->env;
    program->file = fl_bytes_new(source->data, source->len);
    program->count = count;
    for (unsigned i = 0; i < count; i++) {
        program->workers[i].program = program;
        program->workers[i].lock = fl_lock_create();
    }
    r = start_all(program, err);
    if (r < 0)
        return r;
    describe(program);
    *ret_state = FL_TAKE(program);
    return 0;
}

/* Predicting */

static void note_failure(struct worker *worker)
{
    const unsigned doublings = worker->failures < 10 ? worker->failures : 10;
    const int64_t delay_ms = (int64_t)FIRST_DELAY_MS << doublings;

    worker->failures++;
    worker->not_before_ms = fl_monotonic_ms(&worker->program->env) +
                            (delay_ms < DELAY_MAX_MS ? delay_ms : DELAY_MAX_MS);
}

/* Requests wait meanwhile, and the other threads take theirs. */
static void await_turn(const struct worker *worker)
{
    const int64_t left_ms = worker->not_before_ms - fl_monotonic_ms(&worker->program->env);

    if (worker->failures > 0 && left_ms > 0)
        (void)fl_channel_wait(NULL, 0, left_ms);
}

static int revive(struct worker *worker, struct fl_error *err)
{
    struct program *program = worker->program;
    struct fl_trainer_form form;
    struct fl_error why = {0};
    int r;

    if (worker->trainer && !fl_trainer_has_ended(worker->trainer))
        return 0;
    end_worker(worker);
    await_turn(worker);
    atomic_fetch_add(&program->restarts, 1);
    r = start_worker(worker, &form, &why);
    if (r == 0 && !same_form(&form, &program->form)) {
        end_worker(worker);
        r = fl_error_set(&why, FL_E_UNAVAILABLE, "the program says another form than before");
    }
    if (r == 0) {
        worker->failures = 0;
        return 0;
    }
    note_failure(worker);
    fl_log_error(program->env.log, "the program cannot be started again", FL_STR("error", why.msg));
    return fl_error_set(err, FL_E_UNAVAILABLE, "%s", why.msg);
}

static bool is_worth_another(const struct fl_trainer *trainer)
{
    const char *reason = fl_trainer_last_failure(trainer)->reason;

    return fl_trainer_has_ended(trainer) &&
           (strcmp(reason, FL_TRAINER_CRASHED) == 0 || strcmp(reason, FL_TRAINER_EXITED) == 0);
}

static int predict(struct worker *worker, const float *rows, size_t count, float *ret_answers,
                   struct fl_error *err)
{
    const struct program *program = worker->program;

    for (int tries = 1;; tries++) {
        struct fl_error why = {0};
        bool ended;
        int r = revive(worker, err);

        if (r < 0)
            return r;
        r = fl_trainer_predict(worker->trainer, &program->form, rows, count, ret_answers, &why);
        if (r == 0)
            return 0;
        ended = fl_trainer_has_ended(worker->trainer);
        if (ended)
            fl_log_warn(program->env.log, "the program has ended: it is started again",
                        FL_STR("error", why.msg));
        if (tries == TRIES || !is_worth_another(worker->trainer))
            return fl_error_set(err, ended ? FL_E_UNAVAILABLE : FL_E_INTERNAL, "%s", why.msg);
    }
}

static int program_predict(void *state, unsigned seat, const float *rows, size_t count,
                           float *ret_answers, struct fl_error *err)
{
    struct program *program = state;
    struct worker *worker = &program->workers[seat > 0 ? seat - 1 : 0];

    FL_LOCKED(worker->lock);
    return predict(worker, rows, count, ret_answers, err);
}

static const struct fl_signature *program_signature(const void *state)
{
    return &((const struct program *)state)->signature;
}

static const char *program_platform(const void *state)
{
    (void)state;
    return "flops_program";
}

static uint64_t program_restarts(const void *state)
{
    return atomic_load(&((const struct program *)state)->restarts);
}

const struct fl_predictor_ops fl_program_predictor = {.name = "program",
                                                      .waits = true,
                                                      .knows = fl_safetensors_seems,
                                                      .load = program_load,
                                                      .signature = program_signature,
                                                      .platform = program_platform,
                                                      .predict = program_predict,
                                                      .restarts = program_restarts,
                                                      .destroy = program_destroy};
