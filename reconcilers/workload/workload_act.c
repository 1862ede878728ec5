/* What a pass does. */
#include "lib/str.h"
#include "reconcilers/workload/workload_internal.h"

#include <inttypes.h>

#define ROUNDS_MAX      4    /* of looking and acting in one pass */
#define VERIFY_AGAIN_MS 1000 /* after acts that had no effect that could be seen */

static bool has_starts(const struct fl_decision *decision)
{
    for (size_t i = 0; i < decision->action_count; i++)
        if (decision->actions[i].type == FL_ACTION_START)
            return true;
    return false;
}

/* No retry will help, or somebody was quicker; else the orchestrator is in trouble. */
static int start_failed(struct fl_workload_view *view, const struct fl_action *action,
                        struct fl_error *err)
{
    int code = err->code;

    (void)fl_error_wrap(err, "start instance %" PRId64 " on %s", action->index, action->node);
    if (code == FL_E_CONFLICT)
        return err->code;
    return fl_failed(view->rc, "Available",
                     code == FL_E_INVALID ? "StartFailed" : "OrchestratorNotReady", err);
}

static int start(struct fl_workload_view *view, const struct fl_workload_material *material,
                 const struct fl_action *action, struct fl_error *err)
{
    const struct fl_object_meta *meta = &view->workload->meta;
    struct fl_run_spec spec = {
        .id = {meta->uid, action->index},
        .number = action->number,
        .restarts = action->restarts,
        .failures = action->failures,
        .first_us = action->first_us,
        .spec_hash = view->spec_hash,
        .ns = meta->namespace,
        .name = meta->name,
        .cluster = action->cluster,
        .node = action->node,
        .spec = &view->spec,
        .env = material->env,
        .env_count = material->env_count,
        .files = material->files,
        .file_count = material->file_count,
        .pull_secret = material->pull_secret,
    };

    if (view->driver->ops->start(view->driver, &spec, err) < 0)
        return start_failed(view, action, err);
    fl_log_info(view->rc->log, "instance started", FL_INT("index", action->index),
                FL_INT("run", action->number), FL_STR("node", action->node));
    if (action->restarts > 0)
        fl_event_note(view->rc, FL_WARNING, "Restarted", "instance %" PRId64 " was restarted",
                      action->index);
    return 0;
}

static int stop(struct fl_workload_view *view, const struct fl_action *action, struct fl_error *err)
{
    struct fl_run_id id = {view->workload->meta.uid, action->index};

    if (view->driver->ops->stop(view->driver, &id, action->grace_ms, action->reason, err) < 0) {
        (void)fl_error_wrap(err, "stop instance %" PRId64, action->index);
        return fl_failed(view->rc, "Available", "OrchestratorNotReady", err);
    }
    fl_log_info(view->rc->log, "instance is stopped", FL_INT("index", action->index),
                FL_STR("reason", action->reason));
    return 0;
}

static int remove_record(struct fl_workload_view *view, const struct fl_action *action,
                         struct fl_error *err)
{
    struct fl_run_id id = {view->workload->meta.uid, action->index};

    if (view->driver->ops->remove(view->driver, &id, err) < 0) {
        (void)fl_error_wrap(err, "remove instance %" PRId64, action->index);
        return fl_failed(view->rc, "Available", "OrchestratorNotReady", err);
    }
    return 0;
}

/* `material` NULL: nothing may be started. The first failure ends it: the next pass goes on. */
static int do_actions(struct fl_workload_view *view, const struct fl_workload_material *material,
                      struct fl_error *err)
{
    const struct fl_decision *decision = &view->decision;
    int r = 0;

    for (size_t i = 0; r == 0 && i < decision->action_count; i++) {
        const struct fl_action *action = &decision->actions[i];

        if (action->type == FL_ACTION_STOP)
            r = stop(view, action, err);
        else if (action->type == FL_ACTION_REMOVE)
            r = remove_record(view, action, err);
        else if (material)
            r = start(view, material, action, err);
    }
    return r;
}

/* Places are given away under a lock, and by a look that is made under it. */
static int do_placed(struct fl_workload_view *view, const struct fl_workload_material *material,
                     struct fl_error *err)
{
    FL_LOCKED(view->controller->placing);
    int r = fl_workload_look(view, err);

    return r < 0 ? r : do_actions(view, material, err);
}

static int do_round(struct fl_workload_view *view, struct fl_error *err)
{
    struct fl_workload_material material;
    struct fl_error later;
    int r;

    if (!has_starts(&view->decision))
        return do_actions(view, NULL, err);
    r = fl_workload_material_read(view, &material, err);
    if (r == 0)
        return do_placed(view, &material, err);
    (void)do_actions(view, NULL, &later); /* what needs no Secret is not held up */
    return r;
}

int fl_workload_act(struct fl_workload_view *view, struct fl_error *err)
{
    int r = 0;

    for (int round = 0; r == 0 && round < ROUNDS_MAX; round++) {
        if (view->decision.action_count == 0)
            return 0;
        r = do_round(view, err);
        if (r >= 0 && fl_workload_look(view, err) < 0)
            return err->code;
    }
    if (r == 0 && view->decision.action_count > 0)
        fl_requeue_after(view->rc, VERIFY_AGAIN_MS);
    return r;
}
