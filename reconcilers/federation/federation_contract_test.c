/* What every driver of federations must do: `fake` in virtual time, and `http` against a real
 * aggregator with two learners, in this process on a loop of their own. */
#include "lib/file.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/federation/federation_fake.h"
#include "reconcilers/federation/federation_http.h"
#include "workloads/aggregator/aggregator.h"
#include "workloads/learner/learner.h"
#include "workloads/tensor/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define LEARNERS   2
#define PATIENCE_S 120
#define TOKEN      "secret"

/* A trainer that adds 1, and can be told to dawdle. */
struct trainer {
    struct fl_trainer base;
    struct fl_lock *lock;
    struct fl_signal *wake;
    bool slow;
};

/* The real thing. */
struct site {
    struct fl_loop *loop;
    struct fl_thread *thread;
    struct fl_aggregator *aggregator;
    struct fl_learner_node *learners[LEARNERS];
    struct trainer trainer;
    uint16_t port;
    char address[64];
    struct fl_lock *lock; /* of what is posted */
    struct fl_signal *done;
    bool is_done;
};

struct rig {
    bool fake;
    char folder[64];
    struct fl_arena *arena;
    struct fl_log *log;
    struct fl_fake_env fake_env;
    struct fl_env real_env;
    const struct fl_env *env;
    struct fl_blobs *content;
    struct fl_fake_roots *roots;
    struct site site;
    struct fl_federation_driver *driver;
    struct fl_federation_at at;
    struct fl_lock *lock; /* news */
    struct fl_signal *wake;
    unsigned news;
};

/* --- the real site -------------------------------------------------------------------------- */

static int init(struct fl_trainer *self, uint64_t seed, struct fl_model **ret_model,
                struct fl_error *err)
{
    const struct fl_tensor tensor = {.name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {3}};
    int r = fl_model_create(&tensor, 1, ret_model, err);

    (void)self;
    for (size_t i = 0; r == 0 && i < 3; i++)
        fl_tensor_set((struct fl_tensor *)fl_model_find(*ret_model, "w"), i, (double)(seed + i));
    return r;
}

static void dawdle(struct trainer *trainer, const struct fl_fit_options *options)
{
    FL_LOCKED(trainer->lock);
    while (trainer->slow && !options->cancelled(options->user))
        (void)fl_signal_wait(trainer->wake, trainer->lock, 10);
}

static int fit(struct fl_trainer *self, const struct fl_model *base,
               const struct fl_fit_options *options, struct fl_fit_result *ret_result,
               struct fl_error *err)
{
    struct fl_tensor *w;
    int r;

    dawdle((struct trainer *)self, options);
    if (options->cancelled(options->user))
        return fl_error_set(err, FL_E_UNAVAILABLE, "cancelled");
    r = fl_model_like(base, true, &ret_result->model, err);
    if (r < 0)
        return r;
    w = (struct fl_tensor *)fl_model_find(ret_result->model, "w");
    for (size_t i = 0; i < w->count; i++)
        fl_tensor_set(w, i, fl_tensor_get(w, i) + 1);
    ret_result->examples = 10;
    ret_result->steps = 1;
    ret_result->loss = ret_result->loss_before = 0.5;
    return 0;
}

static int evaluate(struct fl_trainer *self, const struct fl_model *model,
                    struct fl_evaluation *ret_evaluation, struct fl_error *err)
{
    (void)self;
    (void)model;
    (void)err;
    *ret_evaluation = (struct fl_evaluation){.examples = 10, .loss = 0.25, .accuracy = 0.75};
    return 0;
}

static const struct fl_trainer_ops trainer_ops = {
    .name = "Scripted", .init = init, .fit = fit, .evaluate = evaluate};

static void ended(void *user, const char *message)
{
    (void)user;
    (void)message;
}

static void stopped(void *user)
{
    (void)user;
}

static void open_aggregator(struct rig *rig)
{
    struct site *site = &rig->site;
    FL_CLEANUP(fl_freep) char *folder = fl_asprintf("%s/root", rig->folder);
    const struct fl_aggregator_program program = {.env = &rig->real_env,
                                                  .loop = site->loop,
                                                  .core = {.id = "root", .poll_ms = 2000},
                                                  .folder = folder,
                                                  .address = "127.0.0.1",
                                                  .port = site->port,
                                                  .token = TOKEN,
                                                  .stopped = stopped};
    struct fl_error err = {0};

    if (fl_dir_ensure(folder, 0700, &err) < 0 ||
        fl_aggregator_open(&program, &site->aggregator, &err) < 0)
        fail_msg("%s", err.msg);
    site->port = fl_aggregator_port(site->aggregator);
    (void)snprintf(site->address, sizeof(site->address), "http://127.0.0.1:%u", site->port);
}

static void open_learner(struct rig *rig, int number)
{
    struct site *site = &rig->site;
    FL_CLEANUP(fl_freep) char *folder = fl_asprintf("%s/learner-%d", rig->folder, number);
    FL_CLEANUP(fl_freep) char *id = fl_asprintf("learner-%d", number);
    struct fl_learner_node_options options = {.env = &rig->real_env,
                                              .loop = site->loop,
                                              .aggregator = site->address,
                                              .folder = folder,
                                              .trainer = &site->trainer.base,
                                              .ended = ended};
    struct fl_error err = {0};

    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = options.join.name = id;
    options.join.examples = 10;
    if (fl_dir_ensure(folder, 0700, &err) < 0 ||
        fl_learner_node_create(&options, &site->learners[number], &err) < 0)
        fail_msg("%s", err.msg);
}

/* On the site's loop, and waited for. */
struct posted {
    struct rig *rig;
    void (*fn)(struct rig *rig);
};

static void run_posted(void *user)
{
    struct posted *posted = user;
    struct site *site = &posted->rig->site;

    posted->fn(posted->rig);
    FL_LOCKED(site->lock);
    site->is_done = true;
    fl_signal_all(site->done);
}

static void on_site(struct rig *rig, void (*fn)(struct rig *rig))
{
    struct site *site = &rig->site;
    struct posted posted = {rig, fn};
    FL_LOCKED(site->lock);

    site->is_done = false;
    fl_loop_post(site->loop, run_posted, &posted);
    while (!site->is_done)
        (void)fl_signal_wait(site->done, site->lock, -1);
}

static void open_all(struct rig *rig)
{
    open_aggregator(rig);
    for (int i = 0; i < LEARNERS; i++)
        open_learner(rig, i);
}

static void close_aggregator(struct rig *rig)
{
    fl_aggregator_close(FL_TAKE(rig->site.aggregator));
}

static void close_all(struct rig *rig)
{
    for (int i = 0; i < LEARNERS; i++)
        fl_learner_node_destroy(FL_TAKE(rig->site.learners[i]));
    close_aggregator(rig);
}

static void lose_disk(struct rig *rig)
{
    FL_CLEANUP(fl_freep) char *folder = fl_asprintf("%s/root", rig->folder);

    close_aggregator(rig);
    (void)fl_dir_remove(folder, NULL);
    open_aggregator(rig);
}

static void run_site(void *user)
{
    fl_loop_run(((struct site *)user)->loop);
}

static void open_site(struct rig *rig)
{
    struct site *site = &rig->site;
    struct fl_error err = {0};

    site->lock = fl_lock_create();
    site->done = fl_signal_create();
    site->trainer = (struct trainer){
        .base = {&trainer_ops}, .lock = fl_lock_create(), .wake = fl_signal_create()};
    if (fl_loop_create(&site->loop, &err) < 0 ||
        fl_thread_start("site", run_site, site, &site->thread, &err) < 0)
        fail_msg("%s", err.msg);
    on_site(rig, open_all);
}

static void close_site(struct rig *rig)
{
    struct site *site = &rig->site;

    on_site(rig, close_all);
    fl_loop_stop(site->loop);
    fl_thread_join(site->thread);
    fl_loop_destroy(site->loop);
    fl_signal_destroy(site->trainer.wake);
    fl_lock_destroy(site->trainer.lock);
    fl_signal_destroy(site->done);
    fl_lock_destroy(site->lock);
}

/* --- both ----------------------------------------------------------------------------------- */

static void on_changed(void *user, const char *ns, const char *project)
{
    struct rig *rig = user;

    assert_string_equal(ns, "default");
    assert_string_equal(project, "p");
    FL_LOCKED(rig->lock);
    rig->news++;
    fl_signal_all(rig->wake);
}

static void open_driver(struct rig *rig)
{
    const struct fl_federation_http_options http = {.env = &rig->real_env,
                                                    .content = rig->content,
                                                    .files_everywhere = true,
                                                    .changed = on_changed,
                                                    .user = rig};
    struct fl_error err = {0};

    if (rig->fake)
        rig->driver = fl_federation_fake_create(rig->roots, rig->content, on_changed, rig);
    else if (fl_federation_http_create(&http, &rig->driver, &err) < 0)
        fail_msg("%s", err.msg);
}

static int setup(void **state, bool fake)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_blobs_options content = {0};
    struct fl_error err = {0};

    rig->fake = fake;
    rig->arena = fl_arena_create();
    rig->log = NULL;
    rig->lock = fl_lock_create();
    rig->wake = fl_signal_create();
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/federation-test.XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    fl_fake_env_init(&rig->fake_env, 1, rig->log);
    rig->real_env = fl_env_real(rig->log);
    rig->env = fake ? &rig->fake_env.env : &rig->real_env;
    content.env = rig->env;
    content.path = fl_arena_printf(rig->arena, "%s/content", rig->folder);
    if (fl_blobs_open(&content, &rig->content, &err) < 0)
        fail_msg("%s", err.msg);
    rig->roots = fl_fake_roots_create(&rig->fake_env.env);
    if (!fake)
        open_site(rig);
    rig->at = (struct fl_federation_at){.project_uid = "u",
                                        .ns = "default",
                                        .name = "p",
                                        .address = fake ? "http://root" : rig->site.address,
                                        .token = TOKEN};
    open_driver(rig);
    *state = rig;
    return 0;
}

static int setup_fake(void **state)
{
    return setup(state, true);
}

static int setup_http(void **state)
{
    return setup(state, false);
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    rig->driver->ops->destroy(rig->driver);
    if (!rig->fake)
        close_site(rig);
    fl_fake_roots_destroy(rig->roots);
    fl_blobs_close(rig->content);
    fl_signal_destroy(rig->wake);
    fl_lock_destroy(rig->lock);
    fl_arena_destroy(rig->arena);
    (void)fl_dir_remove(rig->folder, NULL);
    free(rig);
    return 0;
}

/* Something happens, or time passes. False: it took too long. */
static bool wait_some(struct rig *rig, unsigned seen, int64_t since_us)
{
    if (rig->fake) {
        fl_fake_env_advance(&rig->fake_env, 1);
        (void)fl_fake_roots_step(rig->roots);
        return rig->fake_env.monotonic_ms < INT64_C(1000) * PATIENCE_S * 10;
    }
    FL_LOCKED(rig->lock);
    if (rig->news == seen)
        (void)fl_signal_wait(rig->wake, rig->lock, 100);
    return fl_machine_monotonic_us() - since_us < INT64_C(1000000) * PATIENCE_S;
}

static unsigned news_of(struct rig *rig)
{
    FL_LOCKED(rig->lock);
    return rig->news;
}

#define WAIT_UNTIL(rig, condition)                                                                 \
    do {                                                                                           \
        const int64_t since_us = fl_machine_monotonic_us();                                        \
                                                                                                   \
        for (;;) {                                                                                 \
            const unsigned seen = news_of(rig);                                                    \
                                                                                                   \
            if (condition)                                                                         \
                break;                                                                             \
            if (!wait_some(rig, seen, since_us))                                                   \
                fail_msg("%s never comes", #condition);                                            \
        }                                                                                          \
    } while (0)

static struct fl_federation_status status_of(struct rig *rig)
{
    struct fl_federation_status status = {0};
    struct fl_error err = {0};

    if (rig->driver->ops->status(rig->driver, &rig->at, rig->arena, &status, &err) < 0)
        status.known = FL_FEDERATION_UNKNOWN;
    return status;
}

static struct fl_federation_round observe(struct rig *rig, int64_t number)
{
    struct fl_federation_round round = {0};
    struct fl_error err = {0};

    if (rig->driver->ops->observe_round(rig->driver, &rig->at, number, rig->arena, &round, &err) <
        0)
        round.known = FL_FEDERATION_UNKNOWN;
    return round;
}

static bool is_phase(struct rig *rig, int64_t number, enum fl_round_phase phase)
{
    const struct fl_federation_round round = observe(rig, number);

    return round.known == FL_FEDERATION_KNOWN && round.report.phase == phase;
}

static void start(struct rig *rig, int64_t number, int64_t run, const char *model, int64_t size)
{
    struct fl_round_order order;
    struct fl_error err = {0};

    fl_message_init(&fl_form_round_order, &order);
    order.project = "p";
    order.round = number;
    order.run = run;
    order.model = model;
    order.model_size = size;
    order.strategy.name = "FedAvg";
    order.participation.min_available = LEARNERS;
    order.participation.selection = FL_SELECTION_ALL;
    order.evaluation.enabled = true;
    if (rig->driver->ops->start_round(rig->driver, &rig->at, &order, &err) < 0)
        fail_msg("%s", err.msg);
}

static struct fl_round_report commit(struct rig *rig, int64_t number, int64_t run,
                                     const char *model, int64_t size)
{
    start(rig, number, run, model, size);
    WAIT_UNTIL(rig, is_phase(rig, number, FL_ROUND_COMMITTED));
    return observe(rig, number).report;
}

enum way { WAY_PUT, WAY_GET, WAY_IMPORT };

static struct fl_transfer ask_model(struct rig *rig, enum way way, const char *what)
{
    const struct fl_federation_ops *ops = rig->driver->ops;
    struct fl_transfer transfer = {0};
    struct fl_error err = {0};
    int r;

    if (way == WAY_PUT)
        r = ops->put_model(rig->driver, &rig->at, what, rig->arena, &transfer, &err);
    else if (way == WAY_GET)
        r = ops->get_model(rig->driver, &rig->at, what, 0, rig->arena, &transfer, &err);
    else
        r = ops->import_model(rig->driver, what, "default", "p", rig->arena, &transfer, &err);
    if (r < 0)
        fail_msg("%s", err.msg);
    return transfer;
}

static struct fl_transfer move_model(struct rig *rig, enum way way, const char *what)
{
    struct fl_transfer transfer;

    WAIT_UNTIL(rig, (transfer = ask_model(rig, way, what)).state != FL_TRANSFER_RUNNING);
    return transfer;
}

static void go_slow(struct rig *rig, bool slow)
{
    struct trainer *trainer = &rig->site.trainer;

    if (rig->fake)
        return;
    FL_LOCKED(trainer->lock);
    trainer->slow = slow;
    fl_signal_all(trainer->wake);
}

static void slow_plan(void *user, const struct fl_round_order *order, struct fl_fake_round *plan)
{
    (void)user;
    plan->train_ms = order->run == 0 ? INT64_C(1) << 40 : 10;
}

static void restart(struct rig *rig, bool lost)
{
    if (rig->fake) {
        fl_fake_roots_restart(rig->roots, "u", lost);
        return;
    }
    if (lost) {
        on_site(rig, lose_disk);
        return;
    }
    on_site(rig, close_aggregator);
    on_site(rig, open_aggregator);
}

/* --- the contract --------------------------------------------------------------------------- */

static void test_table(void **state)
{
    struct rig *rig = *state;
    struct fl_federation_ops broken = *rig->driver->ops;

    assert_int_equal(fl_federation_check(rig->driver->ops, NULL), 0);
    broken.get_model = NULL;
    assert_int_equal(fl_federation_check(&broken, NULL), FL_E_INVALID);
}

static void test_status(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(status_of(rig).known, FL_FEDERATION_UNKNOWN);
    WAIT_UNTIL(rig, status_of(rig).status.available >= LEARNERS);
    assert_int_equal(status_of(rig).known, FL_FEDERATION_KNOWN);
    assert_int_equal(status_of(rig).status.committed, 0);
}

static void test_rounds(void **state)
{
    struct rig *rig = *state;
    struct fl_round_report first, second;
    const char *base;
    int64_t size;

    WAIT_UNTIL(rig, observe(rig, 1).known == FL_FEDERATION_ABSENT);
    first = commit(rig, 1, 0, NULL, 0);
    assert_int_equal(first.round, 1);
    assert_non_null(first.base);
    assert_non_null(first.model);
    assert_true(first.base_size > 0);
    assert_true(first.evaluation.count > 0);
    start(rig, 1, 0, NULL, 0); /* the same again */
    assert_int_equal(observe(rig, 1).report.version, first.version);
    WAIT_UNTIL(rig, status_of(rig).status.committed == 1);
    assert_string_equal(status_of(rig).status.model, first.model);
    base = fl_arena_strdup(rig->arena, first.model);
    size = first.model_size;
    second = commit(rig, 2, 0, base, size);
    assert_string_equal(second.base, base);
    assert_string_not_equal(second.model, base);
    WAIT_UNTIL(rig, observe(rig, 3).known == FL_FEDERATION_ABSENT);
}

static void test_models(void **state)
{
    struct rig *rig = *state;
    struct fl_round_report report = commit(rig, 1, 0, NULL, 0);
    struct fl_transfer transfer = move_model(rig, WAY_GET, report.model);
    char unknown[FL_DIGEST_SIZE];

    assert_int_equal(transfer.state, FL_TRANSFER_DONE);
    assert_int_equal(transfer.all, report.model_size);
    assert_true(fl_blobs_has(rig->content, report.model));
    assert_int_equal(ask_model(rig, WAY_GET, report.model).state, FL_TRANSFER_DONE);
    assert_int_equal(move_model(rig, WAY_PUT, report.model).state, FL_TRANSFER_DONE);
    fl_digest_of("nobody", 6, unknown);
    transfer = move_model(rig, WAY_GET, unknown);
    assert_int_equal(transfer.state, FL_TRANSFER_FAILED);
    assert_int_equal(transfer.failed, FL_E_NOT_FOUND);
    assert_non_null(transfer.message);
    assert_int_equal(move_model(rig, WAY_PUT, unknown).failed, FL_E_NOT_FOUND);
}

static void test_imports(void **state)
{
    struct rig *rig = *state;
    struct fl_transfer transfer;
    const char *uri = fl_arena_printf(rig->arena, "file://%s/m.safetensors", rig->folder);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(move_model(rig, WAY_IMPORT, uri).failed, FL_E_NOT_FOUND);
    if (rig->fake) {
        fl_fake_roots_put_uri(rig->roots, uri, "a model");
        fl_digest_of("a model", 7, digest);
    } else {
        assert_int_equal(init(NULL, 7, &model, NULL), 0);
        assert_int_equal(fl_safetensors_write(model, uri + strlen("file://"), NULL), 0);
        fl_model_digest(model, digest);
    }
    transfer = move_model(rig, WAY_IMPORT, uri);
    assert_int_equal(transfer.state, FL_TRANSFER_DONE);
    assert_string_equal(transfer.digest, digest);
    assert_true(fl_blobs_has(rig->content, digest));
    assert_int_equal(move_model(rig, WAY_PUT, digest).state, FL_TRANSFER_DONE);
}

static void test_refusal(void **state)
{
    struct rig *rig = *state;
    struct fl_round_report first = commit(rig, 1, 0, NULL, 0);

    start(rig, 9, 0, first.model, first.model_size);
    WAIT_UNTIL(rig, observe(rig, 9).refused == FL_E_CONFLICT);
    assert_non_null(observe(rig, 9).message);
    (void)commit(rig, 2, 0, first.model, first.model_size);
}

static void test_past(void **state)
{
    struct rig *rig = *state;
    struct fl_round_report first = commit(rig, 1, 0, NULL, 0);

    (void)commit(rig, 2, 0, first.model, first.model_size);
    rig->driver->ops->forget(rig->driver, "u"); /* another life of the control plane */
    WAIT_UNTIL(rig, observe(rig, 1).known == FL_FEDERATION_PAST);
}

static void test_abort(void **state)
{
    struct rig *rig = *state;
    struct fl_error err = {0};

    fl_fake_roots_on_plan(rig->roots, slow_plan, NULL);
    go_slow(rig, true);
    start(rig, 1, 0, NULL, 0);
    WAIT_UNTIL(rig, is_phase(rig, 1, FL_ROUND_TRAINING));
    assert_int_equal(rig->driver->ops->abort_round(rig->driver, &rig->at, 1, &err), 0);
    WAIT_UNTIL(rig, is_phase(rig, 1, FL_ROUND_ABORTED));
    assert_int_equal(rig->driver->ops->abort_round(rig->driver, &rig->at, 1, &err), 0);
    go_slow(rig, false);
    assert_int_equal(commit(rig, 1, 1, NULL, 0).run, 1);
}

static void test_restart(void **state)
{
    struct rig *rig = *state;

    fl_fake_roots_on_plan(rig->roots, slow_plan, NULL);
    go_slow(rig, true);
    start(rig, 1, 1, NULL, 0);
    WAIT_UNTIL(rig, is_phase(rig, 1, FL_ROUND_TRAINING));
    restart(rig, false);
    go_slow(rig, false);
    WAIT_UNTIL(rig, is_phase(rig, 1, FL_ROUND_COMMITTED));
    assert_true(observe(rig, 1).report.attempt >= 2);
}

static void test_lost_disk(void **state)
{
    struct rig *rig = *state;
    struct fl_round_report first = commit(rig, 1, 0, NULL, 0);

    assert_int_equal(move_model(rig, WAY_GET, first.model).state, FL_TRANSFER_DONE);
    fl_fake_roots_on_plan(rig->roots, slow_plan, NULL);
    go_slow(rig, true);
    start(rig, 2, 0, first.model, first.model_size);
    WAIT_UNTIL(rig, is_phase(rig, 2, FL_ROUND_TRAINING));
    restart(rig, true);
    WAIT_UNTIL(rig, observe(rig, 2).known == FL_FEDERATION_ABSENT);
    go_slow(rig, false);
    fl_fake_roots_on_plan(rig->roots, NULL, NULL);
    assert_int_equal(move_model(rig, WAY_PUT, first.model).state, FL_TRANSFER_DONE);
    assert_string_equal(commit(rig, 2, 0, first.model, first.model_size).base, first.model);
}

static void test_unreachable(void **state)
{
    struct rig *rig = *state;

    WAIT_UNTIL(rig, status_of(rig).known == FL_FEDERATION_KNOWN);
    if (rig->fake)
        fl_fake_roots_set_reachable(rig->roots, false);
    else
        on_site(rig, close_aggregator);
    WAIT_UNTIL(rig, status_of(rig).known == FL_FEDERATION_UNREACHABLE);
    assert_non_null(status_of(rig).message);
    start(rig, 1, 0, NULL, 0); /* it goes on trying */
    if (rig->fake)
        fl_fake_roots_set_reachable(rig->roots, true);
    else
        on_site(rig, open_aggregator);
    WAIT_UNTIL(rig, is_phase(rig, 1, FL_ROUND_COMMITTED));
    WAIT_UNTIL(rig, status_of(rig).known == FL_FEDERATION_KNOWN);
}

static void test_another_life(void **state)
{
    struct rig *rig = *state;
    struct fl_round_report first = commit(rig, 1, 0, NULL, 0);

    rig->driver->ops->destroy(rig->driver);
    open_driver(rig);
    WAIT_UNTIL(rig, is_phase(rig, 1, FL_ROUND_COMMITTED));
    assert_string_equal(observe(rig, 1).report.model, first.model);
    rig->driver->ops->forget(rig->driver, "u");
    rig->driver->ops->forget(rig->driver, "u");
    WAIT_UNTIL(rig, is_phase(rig, 1, FL_ROUND_COMMITTED));
}

static void test_children(void **state)
{
    struct rig *rig = *state;
    struct fl_pair pair = {"edge", "http://127.0.0.1:1"};
    const struct fl_children children = {{&pair, 1}};
    struct fl_error err = {0};

    for (int i = 0; i < 2; i++)
        assert_int_equal(rig->driver->ops->children(rig->driver, &rig->at, &children, &err), 0);
    (void)commit(rig, 1, 0, NULL, 0);
}

static void test_bounds(void **state)
{
    struct rig *rig = *state;
    struct fl_round_order order;

    fl_message_init(&fl_form_round_order, &order);
    order.project = "p";
    order.round = -1;
    order.strategy.name = "FedAvg";
    assert_int_equal(rig->driver->ops->start_round(rig->driver, &rig->at, &order, NULL),
                     FL_E_INVALID);
}

int main(void)
{
#define BOTH(test)                                                                                 \
    {#test " (fake)", test, setup_fake, teardown, NULL},                                           \
    {                                                                                              \
#test " (http)", test, setup_http, teardown, NULL                                          \
    }
    const struct CMUnitTest tests[] = {
        BOTH(test_table),    BOTH(test_status),    BOTH(test_rounds),      BOTH(test_models),
        BOTH(test_imports),  BOTH(test_refusal),   BOTH(test_past),        BOTH(test_abort),
        BOTH(test_restart),  BOTH(test_lost_disk), BOTH(test_unreachable), BOTH(test_another_life),
        BOTH(test_children), BOTH(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
