/* A controller: the queue of one kind, what wakes its keys, and the workers that process them. */
#include "controller/runtime/internal.h"

#include <assert.h>
#include <stdio.h>

static const double reconcile_seconds[] = {
    0.005, 0.01, 0.025, 0.05, 0.1,  0.15, 0.2,  0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6,
    0.7,   0.8,  0.9,   1.0,  1.25, 1.5,  1.75, 2.0,  2.5, 3.0,  3.5, 4.0,  4.5, 5,
    6,     7,    8,     9,    10,   15,   20,   25,   30,  40,   50,  60};

static const struct fl_metric_about
    reconcile_total = {"controller_runtime_reconcile_total",
                       "Total number of reconciliations per controller", FL_METRIC_COUNTER, NULL,
                       0},
    reconcile_errors = {"controller_runtime_reconcile_errors_total",
                        "Total number of reconciliation errors per controller", FL_METRIC_COUNTER,
                        NULL, 0},
    terminal_errors = {"controller_runtime_terminal_reconcile_errors_total",
                       "Total number of terminal reconciliation errors per controller",
                       FL_METRIC_COUNTER, NULL, 0},
    reconcile_time = {"controller_runtime_reconcile_time_seconds",
                      "Length of time per reconciliation per controller", FL_METRIC_HISTOGRAM,
                      reconcile_seconds, FL_COUNT_OF(reconcile_seconds)},
    max_concurrent = {"controller_runtime_max_concurrent_reconciles",
                      "Maximum number of concurrent reconciles per controller", FL_METRIC_GAUGE,
                      NULL, 0},
    active_workers = {"controller_runtime_active_workers",
                      "Number of currently used workers per controller", FL_METRIC_GAUGE, NULL, 0};

#define WORKERS_DEFAULT    2
#define BASE_DELAY_MS      5
#define MAX_DELAY_MS       300000
#define KEY_MAX            (253 + 1 + 253 + 1)
#define OWNERS_SCANNED_MAX 64
#define LABELS_MAX         160

/* Keys. */

static void enqueue(struct fl_controller *controller, const char *ns, const char *name,
                    int64_t delay_ms)
{
    char key[KEY_MAX];
    int len = ns && ns[0] ? snprintf(key, sizeof(key), "%s/%s", ns, name)
                          : snprintf(key, sizeof(key), "%s", name);

    if (len <= 0 || (size_t)len >= sizeof(key)) /* longer ones no object can have */
        return;
    if (delay_ms > 0)
        fl_queue_add_after(controller->queue, key, delay_ms);
    else
        fl_queue_add(controller->queue, key);
}

void fl_controller_enqueue(struct fl_controller *controller, const char *ns, const char *name)
{
    enqueue(controller, ns, name, 0);
}

static void enqueue_mapped(void *user, const char *ns, const char *name)
{
    const struct wake *wake = user;

    enqueue(wake->controller, ns, name, wake->rule->delay_ms);
}

/* The kind's own objects. All but our own writes wake. */
static void own_changed(void *user, struct fl_object *old, struct fl_object *object)
{
    struct fl_controller *controller = user;
    const struct fl_object *known = object ? object : old;
    char key[KEY_MAX];

    (void)snprintf(key, sizeof(key), "%s%s%s", known->ns, known->ns[0] ? "/" : "", known->name);
    if (!object)
        fl_own_writes_gone(controller->own_writes, key);
    else if (old != object && !fl_own_writes_seen(controller->own_writes, key, object->revision))
        return;
    fl_queue_add(controller->queue, key);
}

/* Other objects: who owns them, or whom the kind says. */

static bool is_of_kind(const json_t *owner, const struct fl_kind_type *type)
{
    const char *api_version = fl_str_or(fl_json_str(owner, "apiVersion"), "");
    size_t len = strlen(type->group);

    return fl_streq(fl_json_str(owner, "kind"), type->kind) &&
           strncmp(api_version, type->group, len) == 0 && api_version[len] == '/';
}

static void wake_owners(const struct wake *wake, const json_t *object)
{
    const struct fl_kind_type *type = wake->controller->ops->type;
    const char *ns = type->namespaced ? fl_json_str(object, "metadata.namespace") : NULL;
    json_t *owner;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.ownerReferences"), i, owner) {
        const char *name = fl_json_str(owner, "name");

        if (i >= OWNERS_SCANNED_MAX)
            return;
        if (name && is_of_kind(owner, type))
            enqueue_mapped((void *)wake, ns, name);
    }
}

static void wake_for(const struct wake *wake, const struct fl_object *changed)
{
    FL_JSON object = fl_object_parse(changed);

    if (wake->rule->map)
        wake->rule->map(wake->controller->cache, object, enqueue_mapped, (void *)wake);
    else
        wake_owners(wake, object);
}

/* Both forms are asked: a change may have moved the object from one to another. */
static void other_changed(void *user, struct fl_object *old, struct fl_object *object)
{
    const struct wake *wake = user;

    if (old && old != object)
        wake_for(wake, old);
    if (object)
        wake_for(wake, object);
}

/* Measuring. */

static const char *result_name(struct fl_verdict verdict)
{
    switch (verdict.ending) {
    case FL_ENDED_FAILED:
    case FL_ENDED_TERMINAL:
        return "error";
    case FL_ENDED_CONFLICT:
        return "requeue";
    case FL_ENDED_LATER:
        return "requeue_after";
    default:
        return verdict.delay_ms >= 0 ? "requeue_after" : "success";
    }
}

static void print_labels(const struct fl_controller *controller, const char *result,
                         char out[LABELS_MAX])
{
    (void)snprintf(out, LABELS_MAX, "%s,result=\"%s\"", controller->labels, result);
}

static void measure(struct fl_controller *controller, struct fl_verdict verdict, int64_t took_us)
{
    struct fl_metric_registry *metrics = controller->manager->options.metrics;
    char labels[LABELS_MAX];

    print_labels(controller, result_name(verdict), labels);
    fl_metric_add(metrics, &reconcile_total, labels, 1);
    if (verdict.ending == FL_ENDED_FAILED || verdict.ending == FL_ENDED_TERMINAL)
        fl_metric_add(metrics, &reconcile_errors, controller->labels, 1);
    if (verdict.ending == FL_ENDED_TERMINAL)
        fl_metric_add(metrics, &terminal_errors, controller->labels, 1);
    fl_metric_observe(metrics, &reconcile_time, controller->labels, (double)took_us / 1e6);
}

/* All series are there from the start, so that rates are right from the first error on. */
static void begin_metrics(struct fl_controller *controller)
{
    static const char *const results[] = {"success", "error", "requeue", "requeue_after"};
    struct fl_metric_registry *metrics = controller->manager->options.metrics;
    char labels[LABELS_MAX];

    for (size_t i = 0; i < FL_COUNT_OF(results); i++) {
        print_labels(controller, results[i], labels);
        fl_metric_add(metrics, &reconcile_total, labels, 0);
    }
    fl_metric_add(metrics, &reconcile_errors, controller->labels, 0);
    fl_metric_add(metrics, &terminal_errors, controller->labels, 0);
    fl_metric_set(metrics, &max_concurrent, controller->labels, (double)controller->worker_count);
    fl_metric_set(metrics, &active_workers, controller->labels, 0);
}

/* Making one. */

static const struct fl_field *find_field(const struct fl_kind_type *type, const char *name)
{
    for (const struct fl_field *field = type->fields; field->name; field++)
        if (fl_streq(field->name, name))
            return field;
    return NULL;
}

static size_t step_count(const struct fl_kind_ops *ops)
{
    size_t count = 0;

    while (count < FL_STEPS_MAX && ops->steps[count])
        count++;
    return count;
}

static int check(const struct fl_kind_ops *ops, struct fl_error *err)
{
    const char *name = fl_str_or(ops->controller, "?");

    if (!ops->controller || !ops->type)
        return fl_error_set(err, FL_E_INVALID, "controller %s: it needs a name and a type", name);
    if (!find_field(ops->type, "status") || ops->conditions_offset == 0 ||
        ops->observed_generation_offset == 0 || ops->has_observed_generation_offset == 0)
        return fl_error_set(err, FL_E_INVALID, "controller %s: it needs a status", name);
    if (step_count(ops) == 0)
        return fl_error_set(err, FL_E_INVALID, "controller %s: it needs a step", name);
    if (!ops->finalizer != !ops->finalize)
        return fl_error_set(err, FL_E_INVALID,
                            "controller %s: finalizer and finalize need each other", name);
    if (ops->suspend && !ops->is_suspended)
        return fl_error_set(err, FL_E_INVALID, "controller %s: suspend needs is_suspended", name);
    if (ops->workers < 0 || ops->workers > FL_WORKERS_MAX)
        return fl_error_set(err, FL_E_INVALID, "controller %s: %d workers", name, ops->workers);
    return 0;
}

static struct fl_queue *make_queue(const struct fl_manager_options *options, const char *name)
{
    return fl_queue_create(&(struct fl_queue_options){
        .env = options->env,
        .name = name,
        .base_delay_ms = options->base_delay_ms > 0 ? options->base_delay_ms : BASE_DELAY_MS,
        .max_delay_ms = options->max_delay_ms > 0 ? options->max_delay_ms : MAX_DELAY_MS,
        .metrics = options->metrics,
    });
}

int fl_controller_create(struct fl_manager *manager, const struct fl_kind_ops *ops, void *user,
                         struct fl_controller **ret_controller, struct fl_error *err)
{
    struct fl_controller *controller;
    int r;

    r = check(ops, err);
    if (r < 0)
        return r;
    controller = fl_calloc(1, sizeof(*controller));
    controller->manager = manager;
    controller->ops = ops;
    controller->user = user;
    controller->manager_name = fl_asprintf("flops-%s", ops->controller);
    controller->labels = fl_asprintf("controller=\"%s\"", ops->controller);
    controller->status = find_field(ops->type, "status");
    controller->worker_count = ops->workers > 0 ? (size_t)ops->workers : WORKERS_DEFAULT;
    controller->log = fl_log_child(
        manager->env->log, (struct fl_log_field[]){FL_STR("controller", ops->controller)}, 1);
    controller->queue = make_queue(&manager->options, ops->controller);
    controller->own_writes = fl_own_writes_create();
    begin_metrics(controller);
    *ret_controller = controller;
    return 0;
}

void fl_controller_destroy(struct fl_controller *controller)
{
    if (!controller)
        return;
    fl_queue_destroy(controller->queue);
    fl_own_writes_destroy(controller->own_writes);
    fl_log_destroy(controller->log);
    free(controller->manager_name);
    free(controller->labels);
    free(controller);
}

void fl_controller_connect(struct fl_controller *controller)
{
    const struct fl_wake *rules = controller->ops->wakes;

    fl_cache_on_change(controller->cache, own_changed, controller);
    for (size_t i = 0; i < FL_WAKES_MAX && rules[i].gvr.plural; i++) {
        controller->wakes[i] = (struct wake){controller, &rules[i]};
        fl_cache_on_change(fl_manager_cache(controller->manager, &rules[i].gvr), other_changed,
                           &controller->wakes[i]);
    }
}

/* Processing. */

static void requeue(struct fl_controller *controller, const char *key, struct fl_verdict verdict)
{
    switch (verdict.ending) {
    case FL_ENDED_FAILED:
    case FL_ENDED_CONFLICT:
        fl_queue_add_rate_limited(controller->queue, key);
        return;
    case FL_ENDED_LATER:
        break;
    default:
        fl_queue_forget(controller->queue, key);
    }
    if (verdict.delay_ms >= 0)
        fl_queue_add_after(controller->queue, key, verdict.delay_ms);
}

/* Takes the key. */
static void process(struct fl_controller *controller, char *key)
{
    FL_CLEANUP(fl_freep) char *owned = key;
    struct fl_metric_registry *metrics = controller->manager->options.metrics;
    int64_t start_us = fl_machine_monotonic_us();
    struct fl_verdict verdict;

    fl_metric_add(metrics, &active_workers, controller->labels, 1);
    verdict = fl_run_pass(controller, owned);
    measure(controller, verdict, fl_machine_monotonic_us() - start_us);
    fl_metric_add(metrics, &active_workers, controller->labels, -1);
    requeue(controller, owned, verdict);
    fl_queue_done(controller->queue, owned);
}

bool fl_controller_process_next(struct fl_controller *controller)
{
    char *key =
        fl_manager_may_work(controller->manager) ? fl_queue_try_get(controller->queue) : NULL;

    if (!key)
        return false;
    process(controller, key);
    return true;
}

/* Leadership may have gone while it waited for a key: that stays for whoever leads next. */
static void run_worker(void *user)
{
    struct fl_controller *controller = user;

    while (fl_manager_wait_for_work(controller->manager)) {
        char *key = fl_queue_get(controller->queue);

        if (!key)
            return;
        if (fl_manager_may_work(controller->manager)) {
            process(controller, key);
            continue;
        }
        fl_queue_add(controller->queue, key);
        fl_queue_done(controller->queue, key);
        free(key);
    }
}

int fl_controller_start(struct fl_controller *controller, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; i < controller->worker_count && r == 0; i++)
        r = fl_thread_start(controller->ops->controller, run_worker, controller,
                            &controller->workers[i], err);
    return r;
}

void fl_controller_join(struct fl_controller *controller)
{
    for (size_t i = 0; i < controller->worker_count; i++)
        fl_thread_join(FL_TAKE(controller->workers[i]));
}

const char *fl_controller_name(const struct fl_controller *controller)
{
    return controller->ops->controller;
}

size_t fl_controller_depth(struct fl_controller *controller)
{
    return fl_queue_depth(controller->queue);
}
