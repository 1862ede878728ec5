#include "workloads/aggregator/folding.h"

#include "lib/machine.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "workloads/strategy/strategy.h"
#include "workloads/tensor/safetensors.h"

#include <assert.h>
#include <stdio.h>
#include <sys/queue.h>

#define FOLD_JOBS_MAX 4

/* One thing to do; a copy of the action, and what came of it. */
struct job {
    STAILQ_ENTRY(job) link;
    struct fl_folding *folding;
    struct fl_arena *arena;
    enum fl_aggregator_action_kind kind;
    uint64_t ticket, upload;
    const char *path, *digest;
    struct fl_aggregator_begin begin;
    struct fl_strategy_spec strategy;
    struct fl_aggregator_fold fold;

    int result;
    struct fl_error err;
    const char *reason;
    char made[FL_DIGEST_SIZE], state[FL_DIGEST_SIZE];
    int64_t size;
};

struct fl_folding {
    struct fl_folding_options options;
    struct fl_thread *thread;
    struct fl_lock *lock;
    struct fl_signal *wake;
    STAILQ_HEAD(, job) jobs;
    bool ending;
    int posted;  /* not yet delivered; with the lock */
    bool closed; /* nothing more is delivered; with the lock */
    /* the thread's own */
    struct fl_crew *crew;
    struct fl_strategy *strategy;
    struct fl_strategy_spec spec; /* that it was made of; `name` is owned */
    double local_learning_rate;
    char state[FL_DIGEST_SIZE]; /* of the strategy; "": none; "?": what no BEGIN will name */
    struct fl_model *base;      /* NULL: no round is open */
    char base_digest[FL_DIGEST_SIZE];
};

static void job_destroy(struct job *job)
{
    if (!job)
        return;
    fl_arena_destroy(job->arena);
    free(job);
}

/* --- on the thread --- */

static int open_blob(struct job *job, const char *digest, struct fl_model **ret_model)
{
    const char *path;
    int r = fl_blobs_path(job->folding->options.blobs, digest, job->arena, &path, &job->err);

    return r < 0 ? r : fl_safetensors_open(path, NULL, ret_model, &job->err);
}

/* A partial sum goes up as an update: it is nobody's model. */
static int put_model(struct job *job, const struct fl_model *model, char digest[FL_DIGEST_SIZE],
                     int64_t *ret_size)
{
    return fl_safetensors_put(model, job->folding->options.blobs,
                              job->kind == FL_AGGREGATOR_PARTIAL ? FL_DIGEST_XXH128
                                                                 : FL_DIGEST_SHA256,
                              job->folding->crew, digest, ret_size, &job->err);
}

static void forget_strategy(struct fl_folding *folding)
{
    fl_strategy_destroy(FL_TAKE(folding->strategy));
    folding->state[0] = '\0';
    free((char *)FL_TAKE(folding->spec.name));
    fl_model_unref(FL_TAKE(folding->base));
}

void fl_strategy_spec_options(const struct fl_strategy_spec *spec, double local_learning_rate,
                              struct fl_strategy_options *ret_options)
{
    fl_strategy_options_init(ret_options, spec->name);
    ret_options->server_learning_rate = spec->server_learning_rate;
    ret_options->server_momentum = spec->server_momentum;
    ret_options->beta1 = spec->beta1;
    ret_options->beta2 = spec->beta2;
    ret_options->tau = spec->tau;
    ret_options->q = spec->q;
    ret_options->trim_fraction = spec->trim_fraction;
    ret_options->norm_bound = spec->norm_bound;
    ret_options->byzantine_learners = spec->byzantine_learners;
    ret_options->select_updates = spec->select_updates;
    ret_options->max_iterations = spec->max_iterations;
    ret_options->buffer_size = spec->buffer_size;
    ret_options->local_learning_rate = local_learning_rate;
}

static bool same_number(double a, double b)
{
    return a == b || (a != a && b != b);
}

/* Then it can go on as it is. */
static bool is_same(const struct fl_folding *folding, const struct job *job)
{
    const struct fl_strategy_spec *a = &folding->spec, *b = &job->strategy;

    return folding->strategy && strcmp(a->name, b->name) == 0 &&
           strcmp(folding->state, fl_str_or(job->begin.state, "")) == 0 &&
           same_number(a->server_learning_rate, b->server_learning_rate) &&
           same_number(a->server_momentum, b->server_momentum) && same_number(a->beta1, b->beta1) &&
           same_number(a->beta2, b->beta2) && same_number(a->tau, b->tau) &&
           same_number(a->q, b->q) && same_number(a->trim_fraction, b->trim_fraction) &&
           same_number(a->norm_bound, b->norm_bound) &&
           same_number(folding->local_learning_rate, job->begin.local_learning_rate) &&
           a->byzantine_learners == b->byzantine_learners &&
           a->select_updates == b->select_updates && a->max_iterations == b->max_iterations &&
           a->buffer_size == b->buffer_size;
}

static int restore_state(struct job *job)
{
    struct fl_folding *folding = job->folding;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *state = NULL;
    int r;

    if (!job->begin.state)
        return 0;
    r = open_blob(job, job->begin.state, &state);
    if (r == 0)
        r = fl_strategy_restore(folding->strategy, state, &job->err);
    if (r == 0)
        memcpy(folding->state, job->begin.state, FL_DIGEST_SIZE);
    return r;
}

static int make_strategy(struct job *job)
{
    struct fl_folding *folding = job->folding;
    struct fl_strategy_options options;
    int r;

    fl_strategy_spec_options(&job->strategy, job->begin.local_learning_rate, &options);
    options.spill_dir = folding->options.spill_dir;
    options.crew = folding->crew;
    forget_strategy(folding);
    r = fl_strategy_create(&options, &folding->strategy, &job->err);
    if (r < 0)
        return r;
    folding->spec = job->strategy;
    folding->spec.name = fl_strdup(job->strategy.name);
    folding->local_learning_rate = job->begin.local_learning_rate;
    return restore_state(job);
}

static int begin(struct job *job)
{
    struct fl_folding *folding = job->folding;
    const struct fl_exact_precision precision = {
        .range_bits = (unsigned)job->begin.precision.range_bits,
        .bits = (unsigned)job->begin.precision.bits,
        .max_weight = job->begin.precision.max_weight,
    };
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    int r = 0;

    if (!is_same(folding, job))
        r = make_strategy(job);
    else
        fl_strategy_abandon(folding->strategy);
    if (r == 0)
        r = open_blob(job, job->begin.base, &base);
    if (r == 0)
        r = fl_strategy_begin(folding->strategy, base, &precision, job->begin.max_examples,
                              &job->err);
    if (r < 0)
        return r;
    fl_model_unref(folding->base);
    folding->base = FL_TAKE(base);
    memcpy(folding->base_digest, job->begin.base, FL_DIGEST_SIZE);
    return 0;
}

/* One word for what people look at; the error says more. */
static const char *reason_of(const struct job *job, const struct fl_model *update)
{
    if (job->fold.partial || job->result != FL_E_INVALID)
        return NULL;
    if (fl_model_check_like(job->folding->base, update, NULL) < 0)
        return "WrongShape";
    return fl_model_check_finite(update, NULL) < 0 ? "NotFinite" : NULL;
}

/* An update on its way into the strategy. */
struct entry {
    struct fl_model *update, *base; /* base NULL: the round's */
    struct fl_update_facts facts;
};

static int open_update(struct job *job, struct entry *entry)
{
    struct fl_folding *folding = job->folding;
    int r;

    if (!folding->base)
        return fl_error_set(&job->err, FL_E_CONFLICT, "no round is open");
    r = fl_safetensors_open(job->path, NULL, &entry->update, &job->err);
    if (r < 0) {
        job->reason = r == FL_E_INVALID ? "Malformed" : NULL;
        return r;
    }
    if (!job->fold.partial && job->fold.base && strcmp(job->fold.base, folding->base_digest) != 0)
        r = open_blob(job, job->fold.base, &entry->base);
    entry->facts = (struct fl_update_facts){.learner = job->fold.learner,
                                            .examples = job->fold.examples,
                                            .steps = job->fold.steps,
                                            .loss = job->fold.loss_before,
                                            .staleness = job->fold.staleness,
                                            .base = entry->base};
    return r;
}

static void close_update(struct job *job, struct entry *entry)
{
    if (job->result < 0 && !job->reason && entry->update)
        job->reason = reason_of(job, entry->update);
    fl_model_unref(entry->update);
    fl_model_unref(entry->base);
}

static void fold_partial(struct job *job)
{
    struct entry entry = {0};

    job->result = open_update(job, &entry);
    if (job->result == 0)
        job->result = fl_strategy_add_partial(job->folding->strategy, entry.update, &job->err);
    close_update(job, &entry);
}

/* Those that wait, in one go. */
static void fold_updates(struct job **jobs, size_t count)
{
    struct entry entries[FL_FOLDS_MAX] = {0};
    struct fl_strategy_addend addends[FL_FOLDS_MAX];
    struct job *who[FL_FOLDS_MAX];
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        jobs[i]->result = open_update(jobs[i], &entries[i]);
        if (jobs[i]->result < 0)
            continue;
        addends[used] =
            (struct fl_strategy_addend){.update = entries[i].update, .facts = &entries[i].facts};
        who[used++] = jobs[i];
    }
    if (used > 0)
        fl_strategy_add_all(jobs[0]->folding->strategy, addends, used);
    for (size_t i = 0; i < used; i++) {
        who[i]->result = addends[i].result;
        who[i]->err = addends[i].err;
    }
    for (size_t i = 0; i < count; i++)
        close_update(jobs[i], &entries[i]);
}

static int save_state(struct job *job)
{
    FL_CLEANUP(fl_model_unrefp)
    struct fl_model *state = fl_strategy_state(job->folding->strategy);
    int64_t size;
    int r = state ? put_model(job, state, job->state, &size) : 0;

    if (r == 0)
        memcpy(job->folding->state, job->state, FL_DIGEST_SIZE);
    return r;
}

static int finish(struct job *job)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_strategy *strategy = job->folding->strategy;
    int r;

    if (!job->folding->base)
        return fl_error_set(&job->err, FL_E_CONFLICT, "no round is open");
    if (job->kind == FL_AGGREGATOR_PARTIAL) {
        r = fl_strategy_partial(strategy, &model, &job->err);
    } else {
        (void)snprintf(job->folding->state, FL_DIGEST_SIZE, "?");
        r = fl_strategy_finish(strategy, &model, &job->err);
    }
    if (r == 0)
        r = put_model(job, model, job->made, &job->size);
    if (r == 0 && job->kind == FL_AGGREGATOR_FINISH)
        r = save_state(job);
    if (r == 0)
        fl_model_unref(FL_TAKE(job->folding->base));
    return r;
}

static int adopt(struct job *job)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = fl_safetensors_open(job->path, NULL, &model, &job->err);

    (void)snprintf(job->made, sizeof(job->made), "%s", fl_str_or(job->digest, ""));
    return r < 0 ? r
                 : fl_blobs_adopt(job->folding->options.blobs, job->path, job->made, false,
                                  &job->err);
}

static int abandon(struct job *job)
{
    if (job->folding->strategy)
        fl_strategy_abandon(job->folding->strategy);
    fl_model_unref(FL_TAKE(job->folding->base));
    return 0;
}

static void carry_out(struct job *job)
{
    switch (job->kind) {
    case FL_AGGREGATOR_BEGIN:
        job->result = begin(job);
        break;
    case FL_AGGREGATOR_FOLD:
        fold_partial(job);
        break;
    case FL_AGGREGATOR_ADOPT:
        job->result = adopt(job);
        break;
    case FL_AGGREGATOR_ABANDON:
        job->result = abandon(job);
        break;
    default:
        job->result = finish(job);
    }
}

/* --- between the threads --- */

static void folding_free(struct fl_folding *folding)
{
    fl_signal_destroy(folding->wake);
    fl_lock_destroy(folding->lock);
    free(folding);
}

static void deliver(void *user)
{
    struct job *job = user;
    struct fl_folding *folding = job->folding;
    const struct fl_fold_result result = {
        .kind = job->kind,
        .ticket = job->ticket,
        .upload = job->upload,
        .reason = job->reason,
        .finished = {job->made, *job->state ? job->state : NULL, job->size},
        .err = job->result < 0 ? &job->err : NULL};
    bool last;

    if (!folding->closed && job->kind != FL_AGGREGATOR_ABANDON)
        folding->options.folded(folding->options.user, &result);
    job_destroy(job);
    fl_lock_take(folding->lock);
    last = --folding->posted == 0 && folding->closed;
    fl_lock_release(folding->lock);
    if (last)
        folding_free(folding);
}

static bool is_update(const struct job *job)
{
    return job->kind == FL_AGGREGATOR_FOLD && !job->fold.partial;
}

/* With the lock. */
static struct job *take_job(struct fl_folding *folding)
{
    struct job *job = STAILQ_FIRST(&folding->jobs);

    STAILQ_REMOVE_HEAD(&folding->jobs, link);
    folding->posted++;
    return job;
}

/* The next one, or the updates that are next; how many. 0: the end. */
static size_t next_jobs(struct fl_folding *folding, struct job *jobs[FL_FOLDS_MAX])
{
    size_t count = 0;

    FL_LOCKED(folding->lock);
    while (!folding->ending && STAILQ_EMPTY(&folding->jobs))
        (void)fl_signal_wait(folding->wake, folding->lock, -1);
    if (folding->ending)
        return 0;
    jobs[count++] = take_job(folding);
    while (is_update(jobs[0]) && count < FL_FOLDS_MAX && !STAILQ_EMPTY(&folding->jobs) &&
           is_update(STAILQ_FIRST(&folding->jobs)))
        jobs[count++] = take_job(folding);
    return count;
}

static void fold_run(void *user)
{
    struct fl_folding *folding = user;
    struct job *jobs[FL_FOLDS_MAX];
    size_t count;

    while ((count = next_jobs(folding, jobs)) > 0) {
        if (is_update(jobs[0]))
            fold_updates(jobs, count);
        else
            carry_out(jobs[0]);
        for (size_t i = 0; i < count; i++)
            fl_loop_post(folding->options.loop, deliver, jobs[i]);
    }
}

void fl_folding_do(struct fl_folding *folding, const struct fl_aggregator_action *action,
                   const char *path)
{
    struct fl_arena *arena = fl_arena_create();
    struct job *job = fl_calloc(1, sizeof(*job));

    job->folding = folding;
    job->arena = arena;
    job->kind = action->kind;
    job->ticket = action->ticket;
    job->upload = action->upload;
    job->digest = fl_arena_copy(arena, action->digest);
    job->path = fl_arena_copy(arena, fl_str_or(path, ""));
    job->begin = action->begin;
    job->begin.base = fl_arena_copy(arena, action->begin.base);
    job->begin.state = fl_arena_copy(arena, action->begin.state);
    if (action->kind == FL_AGGREGATOR_BEGIN)
        job->strategy = *action->begin.strategy;
    job->strategy.name = fl_arena_copy(arena, fl_str_or(job->strategy.name, ""));
    job->begin.strategy = NULL;
    job->fold = action->fold;
    job->fold.learner = fl_arena_copy(arena, action->fold.learner);
    job->fold.base = fl_arena_copy(arena, action->fold.base);
    job->fold.digest = fl_arena_copy(arena, action->fold.digest);
    FL_LOCKED(folding->lock);
    STAILQ_INSERT_TAIL(&folding->jobs, job, link);
    fl_signal_one(folding->wake);
}

/* As many as there are processors; more than a few wait for memory only. */
static size_t fold_jobs(void)
{
    const int64_t cpus = fl_machine_get("/").cpus;

    return cpus < FOLD_JOBS_MAX ? (size_t)cpus : FOLD_JOBS_MAX;
}

int fl_folding_create(const struct fl_folding_options *options, struct fl_folding **ret_folding,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_folding_destroyp) struct fl_folding *folding = fl_calloc(1, sizeof(*folding));
    int r;

    assert(options->env && options->loop && options->blobs && options->folded);

    folding->options = *options;
    STAILQ_INIT(&folding->jobs);
    folding->lock = fl_lock_create();
    folding->wake = fl_signal_create();
    r = fl_crew_create("fold", fold_jobs(), &folding->crew, err);
    if (r == 0)
        r = fl_thread_start("fold", fold_run, folding, &folding->thread, err);
    if (r < 0)
        return r;
    *ret_folding = FL_TAKE(folding);
    return 0;
}

void fl_folding_destroy(struct fl_folding *folding)
{
    struct job *job;
    bool last;

    if (!folding)
        return;
    fl_lock_take(folding->lock);
    folding->ending = true;
    fl_signal_all(folding->wake);
    fl_lock_release(folding->lock);
    fl_thread_join(folding->thread);
    while ((job = STAILQ_FIRST(&folding->jobs))) {
        STAILQ_REMOVE_HEAD(&folding->jobs, link);
        job_destroy(job);
    }
    forget_strategy(folding);
    fl_crew_destroy(folding->crew);
    fl_lock_take(folding->lock);
    folding->closed = true;
    last = folding->posted == 0;
    fl_lock_release(folding->lock);
    if (last)
        folding_free(folding);
}
