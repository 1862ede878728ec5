/* One pass of one key: the same for all kinds. */
#include "controller/runtime/internal.h"

#include "api/meta.h"

#include <assert.h>

#define LONG_PASS_MS 30000

static const struct fl_verdict ended_well = {FL_ENDED_WELL, -1};
static const struct fl_verdict ended_terminal = {FL_ENDED_TERMINAL, -1};
static const struct fl_verdict ended_conflict = {FL_ENDED_CONFLICT, -1};
static const struct fl_verdict ended_failed = {FL_ENDED_FAILED, -1};

void fl_requeue_after(struct fl_reconcile *rc, int64_t delay_ms)
{
    struct fl_pass *pass = rc->pass;

    if (delay_ms < 0)
        delay_ms = 0;
    if (pass->requeue_after_ms < 0 || delay_ms < pass->requeue_after_ms)
        pass->requeue_after_ms = delay_ms;
}

int fl_pass_take(struct fl_reconcile *rc, json_t *json, struct fl_error *err)
{
    struct fl_pass *pass = rc->pass;
    int r;

    pass->json = fl_json_in_arena(rc->arena, json);
    rc->json = pass->json;
    r = fl_object_decode(rc->type, json, rc->arena, &pass->object, err);
    if (r < 0)
        return r;
    pass->before = fl_object_clone(rc->type, pass->object, rc->arena);
    pass->meta = pass->before; /* begins with it; steps write to the other one */
    pass->revision = 0;
    (void)fl_str_to_uint64(fl_str_or(pass->meta->resource_version, ""), UINT64_MAX,
                           &pass->revision);
    return 0;
}

static void note_about(struct fl_reconcile *rc, enum fl_event_severity severity, const char *reason,
                       const char *message)
{
    const json_t *json = rc->pass->json;

    fl_events_note(rc->manager->events,
                   &(struct fl_event_about){
                       .api_version = fl_json_str(json, "apiVersion"),
                       .kind = fl_json_str(json, "kind"),
                       .ns = rc->pass->ns,
                       .name = rc->pass->name,
                       .uid = fl_json_str(json, "metadata.uid"),
                       .resource_version = fl_json_str(json, "metadata.resourceVersion"),
                       .component = rc->pass->controller->ops->controller,
                       .severity = severity,
                       .reason = reason,
                       .message = message,
                   });
}

void fl_event_note(struct fl_reconcile *rc, enum fl_event_severity severity, const char *reason,
                   const char *fmt, ...)
{
    FL_CLEANUP(fl_freep) char *text = NULL;
    va_list ap;
    int r;

    va_start(ap, fmt);
    r = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (r < 0)
        abort();
    note_about(rc, severity, reason, text);
}

/* What has become of Ready, told once it is written. */

static const struct fl_condition *ready_in(struct fl_reconcile *rc, void *object)
{
    return fl_condition_find(fl_pass_conditions(rc->pass->controller, object), FL_CONDITION_READY);
}

static bool is_trouble(enum fl_progress progress)
{
    return progress == FL_PROGRESS_STALLED || progress == FL_PROGRESS_RETRYING ||
           progress == FL_PROGRESS_FAILED || progress == FL_PROGRESS_DELETE_RETRYING;
}

static void tell_ready(struct fl_reconcile *rc, enum fl_progress progress)
{
    const struct fl_condition *old = ready_in(rc, rc->pass->before);
    const struct fl_condition *now = ready_in(rc, rc->pass->object);

    if (old && old->status == now->status && fl_streq(old->reason, now->reason))
        return;
    note_about(rc, is_trouble(progress) ? FL_WARNING : FL_NORMAL, now->reason, now->message);
    fl_log_info(rc->log, "ready changed", FL_BOOL("ready", now->status == FL_CONDITION_STATUS_TRUE),
                FL_STR("reason", now->reason), FL_STR("message", now->message));
}

/* Errors. */

static bool is_worth_a_retry(int code)
{
    return fl_error_is_retryable(code) || code == FL_E_NOT_FOUND || code == FL_E_FORBIDDEN ||
           code == FL_E_UNAUTHORIZED || code == FL_E_EXPIRED;
}

static struct fl_verdict write_failed(struct fl_reconcile *rc, const struct fl_error *err)
{
    if (err->code == FL_E_NOT_FOUND) /* it is gone; the cache will say so */
        return ended_well;
    if (err->code == FL_E_CONFLICT) {
        fl_log_debug(rc->log, "somebody else wrote first", FL_STR("error", err->msg));
        return ended_conflict;
    }
    fl_log_error(rc->log, "cannot write", FL_STR("error", err->msg));
    if (!is_worth_a_retry(err->code)) /* there is no status to say it in */
        note_about(rc, FL_WARNING, "WriteRefused", err->msg);
    return ended_failed;
}

/* The pass ends in `verdict`, once its status is written. */
static struct fl_verdict conclude(struct fl_reconcile *rc, enum fl_progress progress,
                                  struct fl_verdict verdict)
{
    struct fl_error err = {0};
    int r;

    fl_summarize(rc, progress);
    r = fl_patch_status(rc, &err);
    if (r < 0)
        return write_failed(rc, &err);
    if (r > 0)
        tell_ready(rc, progress);
    if (verdict.ending == FL_ENDED_WELL || verdict.ending == FL_ENDED_TERMINAL)
        verdict.delay_ms = rc->pass->requeue_after_ms;
    return verdict;
}

/* The cause that an error has where the step named none. */
static void blame(struct fl_reconcile *rc, const struct fl_error *err)
{
    struct fl_cause *cause = &rc->pass->cause;

    if (!cause->reason)
        cause->reason = fl_error_reason(err->code);
    cause->message = fl_arena_strdup(rc->arena, err->msg);
}

/* One failure may be chance: a status that flickers helps nobody. */
static bool failed_before(struct fl_reconcile *rc)
{
    return fl_queue_failures(rc->pass->controller->queue, rc->pass->key) > 0;
}

static struct fl_verdict retry(struct fl_reconcile *rc, enum fl_progress shown,
                               const struct fl_error *err)
{
    if (err->code == FL_E_CONFLICT) {
        fl_log_debug(rc->log, "somebody else wrote first", FL_STR("error", err->msg));
        return ended_conflict;
    }
    fl_log_warn(rc->log, "pass failed", FL_STR("reason", rc->pass->cause.reason),
                FL_STR("error", err->msg));
    return failed_before(rc) ? conclude(rc, shown, ended_failed) : ended_failed;
}

static struct fl_verdict step_failed(struct fl_reconcile *rc, const struct fl_error *err)
{
    blame(rc, err);
    if (is_worth_a_retry(err->code))
        return retry(rc, FL_PROGRESS_RETRYING, err);
    fl_log_error(rc->log, "pass failed for good", FL_STR("reason", rc->pass->cause.reason),
                 FL_STR("error", err->msg));
    return conclude(rc, FL_PROGRESS_FAILED, ended_terminal);
}

/* Leadership may have ended since the last one. */
static int run_step(struct fl_reconcile *rc, fl_step_fn *step, struct fl_error *err)
{
    int r;

    rc->pass->cause = (struct fl_cause){0};
    if (!fl_manager_may_work(rc->manager))
        return fl_error_set(err, FL_E_CONFLICT, "this process does not lead any more");
    r = step(rc, rc->pass->object, err);
    assert(r <= FL_STEP_STALLED);
    return r;
}

/* Deletion. */

/* Whether there is something to finalize, judged by what the server has now: an old state, or
 * another object under the name, must not make the world of a living one go. */
static int recheck_live(struct fl_reconcile *rc, bool *ret_ours, struct fl_error *err)
{
    struct fl_pass *pass = rc->pass;
    struct fl_gvr gvr = fl_gvr_of(rc->type);
    const char *uid = pass->meta->uid;
    json_t *live = NULL;
    int r;

    *ret_ours = false;
    r = fl_apiclient_get(rc->client, &gvr, pass->ns, pass->name, &live, err);
    if (r == FL_E_NOT_FOUND)
        return 0;
    if (r < 0)
        return fl_error_wrap(err, "look at it before the end");
    r = fl_pass_take(rc, live, err);
    if (r < 0)
        return r;
    *ret_ours = fl_streq(pass->meta->uid, uid) && fl_meta_is_deleting(pass->json) &&
                fl_meta_has_finalizer(pass->json, pass->controller->ops->finalizer);
    return 0;
}

/* What cannot be removed is tried again, whatever the error: giving up would leave it behind. */
static struct fl_verdict finalize_failed(struct fl_reconcile *rc, const struct fl_error *err)
{
    blame(rc, err);
    return retry(rc, FL_PROGRESS_DELETE_RETRYING, err);
}

static struct fl_verdict drop_finalizer(struct fl_reconcile *rc)
{
    struct fl_error err = {0};

    if (fl_pass_drop_finalizer(rc, &err) < 0)
        return write_failed(rc, &err);
    fl_log_info(rc->log, "finalized");
    return ended_well;
}

static struct fl_verdict finalize(struct fl_reconcile *rc)
{
    const struct fl_kind_ops *ops = rc->pass->controller->ops;
    struct fl_error err = {0};
    bool ours;
    int r;

    if (!ops->finalizer || !fl_meta_has_finalizer(rc->json, ops->finalizer))
        return ended_well;
    if (recheck_live(rc, &ours, &err) < 0)
        return finalize_failed(rc, &err);
    if (!ours)
        return ended_well;
    r = run_step(rc, ops->finalize, &err);
    if (r < 0)
        return finalize_failed(rc, &err);
    if (r == FL_STEP_DONE)
        return drop_finalizer(rc);
    return conclude(rc, r == FL_STEP_STALLED ? FL_PROGRESS_DELETE_STALLED : FL_PROGRESS_DELETING,
                    ended_well);
}

/* Life. */

/* 0: all are done; > 0: one of them said so; < 0. */
static int run_steps(struct fl_reconcile *rc, struct fl_error *err)
{
    fl_step_fn *const *steps = rc->pass->controller->ops->steps;
    int r = FL_STEP_DONE;

    for (size_t i = 0; i < FL_STEPS_MAX && steps[i] && r == FL_STEP_DONE; i++)
        r = run_step(rc, steps[i], err);
    return r;
}

static struct fl_verdict suspend(struct fl_reconcile *rc)
{
    static const enum fl_progress progress[] = {
        [FL_STEP_DONE] = FL_PROGRESS_SUSPENDED,
        [FL_STEP_WAIT] = FL_PROGRESS_SUSPENDING,
        [FL_STEP_STALLED] = FL_PROGRESS_STALLED,
    };
    fl_step_fn *step = rc->pass->controller->ops->suspend;
    struct fl_error err = {0};
    int r = step ? run_step(rc, step, &err) : FL_STEP_DONE;

    if (r < 0)
        return step_failed(rc, &err);
    return conclude(rc, progress[r], ended_well);
}

static struct fl_verdict advance(struct fl_reconcile *rc)
{
    static const enum fl_progress progress[] = {
        [FL_STEP_DONE] = FL_PROGRESS_DONE,
        [FL_STEP_WAIT] = FL_PROGRESS_WAIT,
        [FL_STEP_STALLED] = FL_PROGRESS_STALLED,
    };
    struct fl_error err = {0};
    int r = run_steps(rc, &err);

    if (r < 0)
        return step_failed(rc, &err);
    return conclude(rc, progress[r], ended_well);
}

static struct fl_verdict live(struct fl_reconcile *rc)
{
    const struct fl_kind_ops *ops = rc->pass->controller->ops;
    struct fl_error err = {0};

    if (ops->finalizer && !fl_meta_has_finalizer(rc->json, ops->finalizer) &&
        fl_add_finalizer(rc, &err) < 0)
        return write_failed(rc, &err);
    if (ops->is_suspended && ops->is_suspended(rc->pass->object))
        return suspend(rc);
    return advance(rc);
}

/* It cannot even be read: there is no typed status to say it in. */
static struct fl_verdict unreadable(struct fl_reconcile *rc, const struct fl_error *err)
{
    fl_log_error(rc->log, "cannot be read", FL_STR("error", err->msg));
    note_about(rc, FL_WARNING, fl_error_reason(err->code), err->msg);
    return ended_terminal;
}

/* The pass itself. */

static void split_key(struct fl_pass *pass, struct fl_arena *arena)
{
    const char *slash = strchr(pass->key, '/');

    pass->ns = slash ? fl_arena_strndup(arena, pass->key, (size_t)(slash - pass->key)) : NULL;
    pass->name = slash ? slash + 1 : pass->key;
}

static struct fl_log *pass_log(const struct fl_reconcile *rc)
{
    const struct fl_pass *pass = rc->pass;
    char id[FL_UUID_SIZE];

    fl_uuid_v4(rc->env, id);
    return fl_log_child(pass->controller->log,
                        (struct fl_log_field[]){FL_STR("namespace", pass->ns),
                                                FL_STR("name", pass->name),
                                                FL_STR("reconcileID", id)},
                        3);
}

static struct fl_verdict run(struct fl_reconcile *rc, const struct fl_object *cached)
{
    struct fl_error err = {0};

    if (fl_pass_take(rc, fl_object_parse(cached), &err) < 0)
        return unreadable(rc, &err);
    return rc->pass->meta->deletion_timestamp ? finalize(rc) : live(rc);
}

static struct fl_verdict run_logged(struct fl_reconcile *rc, const struct fl_object *cached)
{
    FL_CLEANUP(fl_log_destroyp) struct fl_log *log = pass_log(rc);
    int64_t start_ms = fl_monotonic_ms(rc->env), took_ms;
    struct fl_verdict verdict;

    rc->log = log;
    verdict = run(rc, cached);
    took_ms = fl_monotonic_ms(rc->env) - start_ms;
    if (took_ms > LONG_PASS_MS)
        fl_log_warn(log, "a pass took long", FL_INT("ms", took_ms));
    return verdict;
}

static struct fl_verdict run_cached(struct fl_reconcile *rc, const struct fl_object *cached)
{
    struct fl_controller *controller = rc->pass->controller;
    int64_t wait_ms;

    if (!cached) {
        fl_own_writes_gone(controller->own_writes, rc->pass->key);
        return ended_well;
    }
    wait_ms = fl_own_writes_wait_ms(controller->own_writes, rc->pass->key, cached->revision,
                                    fl_monotonic_ms(rc->env));
    if (wait_ms > 0)
        return (struct fl_verdict){FL_ENDED_LATER, wait_ms};
    return run_logged(rc, cached);
}

struct fl_verdict fl_run_pass(struct fl_controller *controller, const char *key)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_object_unrefp) struct fl_object *cached = NULL;
    struct fl_manager *manager = controller->manager;
    char now[FL_TIME_SIZE];
    struct fl_pass pass = {
        .controller = controller,
        .key = key,
        .now = now,
        .ready = {.reason = "Ready"},
        .requeue_after_ms = -1,
    };
    struct fl_reconcile rc = {
        .arena = arena,
        .env = manager->env,
        .client = manager->client,
        .manager = manager,
        .user = controller->user,
        .type = controller->ops->type,
        .manager_name = controller->manager_name,
        .pass = &pass,
    };

    fl_time_format(fl_realtime_us(manager->env), now);
    split_key(&pass, arena);
    cached = fl_cache_get(controller->cache, pass.ns, pass.name);
    return run_cached(&rc, cached);
}
