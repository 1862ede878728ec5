/* The world of the fake: roots and their rounds. */
#include "reconcilers/federation/federation_fake_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- models --------------------------------------------------------------------------------- */

void fl_fake_model_free(void *value)
{
    struct model *model = value;

    fl_bytes_unref(model->bytes);
    free(model);
}

static const char *keep_model(struct root *root, const char *text)
{
    struct model *model = fl_calloc(1, sizeof(*model));
    char digest[FL_DIGEST_SIZE];

    model->bytes = fl_bytes_new(text, strlen(text));
    fl_digest_of(text, strlen(text), digest);
    memcpy(model->digest, digest, sizeof(digest));
    fl_map_put(root->models, digest, model);
    return model->digest;
}

/* --- roots ---------------------------------------------------------------------------------- */

static struct root *find_root(const struct fl_fake_roots *roots, const char *uid)
{
    struct root *root;

    TAILQ_FOREACH(root, &roots->all, all)
        if (fl_streq(root->uid, uid))
            return root;
    return NULL;
}

struct root *fl_fake_root_of(struct fl_fake_roots *roots, const char *uid)
{
    struct root *root = find_root(roots, uid);

    if (root)
        return root;
    root = fl_calloc(1, sizeof(*root));
    root->roots = roots;
    root->uid = fl_strdup(uid);
    root->life = 1;
    root->members = 4;
    root->due_ms = INT64_MAX;
    root->version = root->status_version = INT64_C(1) << 32;
    root->models = fl_map_create(fl_fake_model_free);
    TAILQ_INSERT_TAIL(&roots->all, root, all);
    return root;
}

static void drop_round(struct root *root)
{
    fl_arena_destroy(FL_TAKE(root->arena));
    fl_bytes_unref(FL_TAKE(root->order_text));
    root->due_ms = INT64_MAX;
}

static void root_free(struct root *root)
{
    TAILQ_REMOVE(&root->roots->all, root, all);
    drop_round(root);
    fl_map_destroy(root->models);
    free(root->uid);
    free(root);
}

static void enter(struct root *root, enum fl_round_phase phase, int64_t span_ms)
{
    root->report.phase = phase;
    root->report.version = ++root->version;
    root->status_version++;
    root->due_ms = span_ms < 0 ? INT64_MAX : fl_fake_now_ms(root->roots) + span_ms;
    fl_fake_driver_follow(root);
}

static void fail(struct root *root, enum fl_round_phase phase, const char *reason,
                 const char *message)
{
    root->report.reason = fl_arena_strdup(root->arena, reason);
    root->report.message = fl_arena_strdup(root->arena, message);
    enter(root, phase, -1);
}

/* Nobody is ever committed twice, but by a root that lost what it knew. */
static void commit(struct root *root)
{
    struct committed *committed = fl_calloc(1, sizeof(*committed));
    FL_CLEANUP(fl_freep)
    char *text = fl_asprintf("model of %s round %" PRId64 " from %s", root->uid, root->order.round,
                             root->report.base);

    assert(root->committed < root->order.round);

    root->report.model = keep_model(root, text);
    root->report.model_size = (int64_t)strlen(text);
    root->report.reason = root->report.message = NULL;
    root->committed = root->order.round;
    (void)snprintf(root->model, sizeof(root->model), "%s", root->report.model);
    committed->uid = fl_strdup(root->uid);
    (void)snprintf(committed->base, sizeof(committed->base), "%s", root->report.base);
    (void)snprintf(committed->model, sizeof(committed->model), "%s", root->report.model);
    committed->round = root->order.round;
    committed->run = root->order.run;
    TAILQ_INSERT_TAIL(&root->roots->committed, committed, all);
}

static void add_evaluation(struct root *root)
{
    struct fl_metric *items = fl_new_array(root->arena, struct fl_metric, 1);

    items[0] = (struct fl_metric){"accuracy", 1.0 - 1.0 / (double)(1 + root->order.round)};
    root->report.evaluation = (struct fl_metrics){items, 1};
}

static void begin_attempt(struct root *root)
{
    struct fl_round_report *report = &root->report;

    if (!report->base) {
        FL_CLEANUP(fl_freep)
        char *text = fl_asprintf("initial model of %s", root->uid);

        report->base = fl_arena_strdup(root->arena, keep_model(root, text));
        report->base_size = (int64_t)strlen(text);
    }
    if (!fl_map_get(root->models, report->base)) {
        fail(root, FL_ROUND_FAILED, "BaseModelNotFound", "the base model is not there");
        return;
    }
    report->attempt++;
    report->selected = root->members;
    if (!root->plan.terse)
        report->asked = 2 * report->selected; /* each is an aggregator of two learners */
    enter(root, FL_ROUND_TRAINING, root->plan.train_ms);
}

static void end_training(struct root *root)
{
    if (root->failures < root->plan.failing) {
        if (++root->failures > root->order.participation.retry_limit)
            fail(root, FL_ROUND_FAILED, fl_str_or(root->plan.reason, "QuorumNotReached"),
                 "0 of 2 updates until the deadline");
        else
            enter(root, FL_ROUND_WAITING, root->plan.wait_ms);
        return;
    }
    root->report.reported = root->report.selected;
    root->report.learners = root->report.asked;
    root->report.examples = root->plan.examples;
    enter(root, FL_ROUND_AGGREGATING, 10);
}

static void advance(struct root *root)
{
    switch (root->report.phase) {
    case FL_ROUND_WAITING:
        if (root->members >= root->order.participation.min_available)
            begin_attempt(root);
        else
            root->due_ms = INT64_MAX; /* until some come */
        break;
    case FL_ROUND_TRAINING:
        end_training(root);
        break;
    case FL_ROUND_AGGREGATING:
        commit(root);
        if (root->order.evaluation.enabled)
            enter(root, FL_ROUND_EVALUATING, root->plan.evaluate_ms);
        else
            enter(root, FL_ROUND_COMMITTED, -1);
        break;
    case FL_ROUND_EVALUATING:
        add_evaluation(root);
        root->report.total_ms = 1;
        enter(root, FL_ROUND_COMMITTED, -1);
        break;
    default:
        root->due_ms = INT64_MAX;
    }
}

static int check_order(const struct root *root, const struct fl_round_order *order,
                       struct fl_error *err)
{
    const struct fl_round_report *report = &root->report;

    if (root->arena && !fl_fake_is_over(report))
        return fl_error_set(err, FL_E_CONFLICT, "round %" PRId64 " is not over", report->round);
    if (root->arena && report->phase != FL_ROUND_COMMITTED && report->round == order->round &&
        order->run <= report->run)
        return fl_error_set(err, FL_E_CONFLICT, "round %" PRId64 " has failed", report->round);
    if (root->committed > 0 && order->round != root->committed + 1)
        return fl_error_set(err, FL_E_CONFLICT, "round %" PRId64 " is next", root->committed + 1);
    return 0;
}

static void install(struct root *root, const struct fl_round_order *order, struct fl_bytes *text)
{
    const int64_t attempt =
        root->arena && root->report.round == order->round ? root->report.attempt : 0;

    drop_round(root);
    root->arena = fl_arena_create();
    fl_message_copy(root->arena, &fl_form_round_order, order, &root->order);
    root->order_text = fl_bytes_ref(text);
    root->failures = 0;
    fl_message_init(&fl_form_round_report, &root->report);
    root->report.project = root->order.project;
    root->report.round = order->round;
    root->report.run = order->run;
    root->report.attempt = attempt;
    root->report.base = root->order.model;
    root->report.base_size = order->model_size;
    root->plan =
        (struct fl_fake_round){.wait_ms = 10, .train_ms = 100, .evaluate_ms = 20, .examples = 100};
    if (root->roots->plan)
        root->roots->plan(root->roots->plan_user, &root->order, &root->plan);
    root->roots->counts.starts++;
    enter(root, FL_ROUND_WAITING, root->plan.wait_ms);
}

int fl_fake_root_start(struct root *root, struct fl_bytes *text, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_round_order order;
    int r;

    if (root->order_text && root->order_text->len == text->len &&
        memcmp(root->order_text->data, text->data, text->len) == 0)
        return 0;
    r = fl_message_decode(arena, &fl_form_round_order, text->data, text->len, &order, err);
    if (r == 0)
        r = check_order(root, &order, err);
    if (r == 0)
        install(root, &order, text);
    return r;
}

void fl_fake_root_abort(struct root *root, int64_t round)
{
    if (!root->arena || root->report.round != round || fl_fake_is_over(&root->report))
        return;
    root->roots->counts.aborts++;
    if (root->report.phase == FL_ROUND_EVALUATING)
        enter(root, FL_ROUND_COMMITTED, -1);
    else
        fail(root, FL_ROUND_ABORTED, "Aborted", "aborted by request");
}

/* --- the world ------------------------------------------------------------------------------ */

static void free_bytes(void *bytes)
{
    fl_bytes_unref(bytes);
}

struct fl_fake_roots *fl_fake_roots_create(const struct fl_env *env)
{
    struct fl_fake_roots *roots = fl_calloc(1, sizeof(*roots));

    roots->env = env;
    roots->reachable = true;
    roots->uris = fl_map_create(free_bytes);
    TAILQ_INIT(&roots->all);
    TAILQ_INIT(&roots->committed);
    return roots;
}

void fl_fake_roots_destroy(struct fl_fake_roots *roots)
{
    struct root *root;
    struct committed *committed;

    if (!roots)
        return;
    while ((root = TAILQ_FIRST(&roots->all)))
        root_free(root);
    while ((committed = TAILQ_FIRST(&roots->committed))) {
        TAILQ_REMOVE(&roots->committed, committed, all);
        free(committed->uid);
        free(committed);
    }
    fl_map_destroy(roots->uris);
    free(roots);
}

void fl_fake_roots_on_plan(struct fl_fake_roots *roots, fl_fake_round_fn *plan, void *user)
{
    roots->plan = plan;
    roots->plan_user = user;
}

void fl_fake_roots_on_fault(struct fl_fake_roots *roots, fl_fake_federation_fault_fn *fault,
                            void *user)
{
    roots->fault = fault;
    roots->fault_user = user;
}

void fl_fake_roots_set_members(struct fl_fake_roots *roots, const char *uid, int64_t members)
{
    struct root *root = fl_fake_root_of(roots, uid);

    root->members = members;
    root->status_version++;
    if (root->arena && root->report.phase == FL_ROUND_WAITING && root->due_ms == INT64_MAX)
        root->due_ms = fl_fake_now_ms(roots);
    fl_fake_driver_follow(root);
}

void fl_fake_roots_set_reachable(struct fl_fake_roots *roots, bool reachable)
{
    struct root *root;

    roots->reachable = reachable;
    TAILQ_FOREACH(root, &roots->all, all)
        fl_fake_driver_follow(root);
}

void fl_fake_roots_restart(struct fl_fake_roots *roots, const char *uid, bool lost)
{
    struct root *root = find_root(roots, uid);

    if (!root)
        return;
    root->life++;
    root->version = root->status_version = root->life << 32;
    if (lost) {
        drop_round(root);
        root->committed = 0;
        *root->model = '\0';
        fl_map_destroy(root->models);
        root->models = fl_map_create(fl_fake_model_free);
    } else if (root->arena && !fl_fake_is_over(&root->report) &&
               root->report.phase != FL_ROUND_EVALUATING) {
        enter(root, FL_ROUND_WAITING, root->plan.wait_ms);
    }
    if (roots->driver && fl_map_get(roots->driver->statuses, uid))
        fl_fake_driver_doubt(roots->driver, uid);
}

void fl_fake_roots_remove(struct fl_fake_roots *roots, const char *uid)
{
    struct root *root = find_root(roots, uid);

    if (root)
        root_free(root);
}

void fl_fake_roots_put_uri(struct fl_fake_roots *roots, const char *uri, const char *text)
{
    (void)fl_map_remove(roots->uris, uri);
    if (text)
        fl_map_put(roots->uris, uri, fl_bytes_new(text, strlen(text)));
}

int64_t fl_fake_roots_next_due_ms(const struct fl_fake_roots *roots)
{
    int64_t due = INT64_MAX;
    const struct root *root;
    const struct errand *errand;

    TAILQ_FOREACH(root, &roots->all, all)
        due = root->due_ms < due ? root->due_ms : due;
    if (roots->driver && !roots->driver->dead)
        TAILQ_FOREACH(errand, &roots->driver->errands, all)
            due = errand->due_ms < due ? errand->due_ms : due;
    return due;
}

size_t fl_fake_roots_step(struct fl_fake_roots *roots)
{
    const int64_t now = fl_fake_now_ms(roots);
    struct root *root;
    size_t count = 0;

    TAILQ_FOREACH(root, &roots->all, all)
        if (root->due_ms <= now) {
            root->due_ms = INT64_MAX;
            advance(root);
            count++;
        }
    if (roots->driver)
        count += fl_fake_driver_run(roots->driver);
    return count;
}

void fl_fake_roots_each_commit(const struct fl_fake_roots *roots,
                               void (*each)(void *user, const struct fl_fake_committed *committed),
                               void *user)
{
    const struct committed *committed;

    TAILQ_FOREACH(committed, &roots->committed, all)
        each(user, &(struct fl_fake_committed){.uid = committed->uid,
                                               .base = committed->base,
                                               .model = committed->model,
                                               .round = committed->round,
                                               .run = committed->run});
}

int64_t fl_fake_roots_committed(const struct fl_fake_roots *roots, const char *uid)
{
    const struct root *root = find_root(roots, uid);

    return root ? root->committed : 0;
}

size_t fl_fake_roots_running(const struct fl_fake_roots *roots)
{
    const struct root *root;
    size_t count = 0;

    TAILQ_FOREACH(root, &roots->all, all)
        count += root->arena && !fl_fake_is_over(&root->report);
    return count;
}

struct fl_fake_roots_counts fl_fake_roots_count(const struct fl_fake_roots *roots)
{
    return roots->counts;
}
