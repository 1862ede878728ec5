/* From what a round begins with to the order at the root. */
#include "reconcilers/flround/flround_internal.h"

#include "lib/str.h"
#include "reconcilers/flround/flround_order.h"

#include <inttypes.h>

#define AGAIN_MS   2000  /* what somebody refused, or could not be moved, is tried again */
#define MISSING_MS 10000 /* and what was not there, */
#define REFUSED_MS 10000 /* or not to be begun yet */

int fl_flround_refused(struct fl_flround_view *view)
{
    if (view->seen.refused == FL_E_INVALID || view->seen.refused == FL_E_BAD_REQUEST)
        return fl_stalled(view->rc, "Selected", "Invalid", "the root refuses the round: %s",
                          view->seen.message);
    fl_requeue_after(view->rc, REFUSED_MS);
    return fl_not_yet(view->rc, "Selected", "WaitingForTurn", "the root does not begin it yet: %s",
                      view->seen.message);
}

static int wait_for(struct fl_flround_view *view, const char *what,
                    const struct fl_transfer *transfer)
{
    const struct fl_condition *was = fl_condition_find(&view->round->status.conditions, "Selected");

    if (view->seen.refused) /* all is done once more: nothing new to tell until it is answered */
        return fl_flround_refused(view);
    if (was && fl_streq(was->reason, "BaseModelNotFound") && transfer->done == 0)
        return fl_not_yet(view->rc, "Selected", was->reason, "%s", was->message); /* looked again */
    if (was && fl_str_has_prefix(was->message, fl_arena_printf(view->rc->arena, "%s: ", what)) &&
        transfer->done == 0)
        return fl_not_yet(view->rc, "Selected", "Selecting", "%s", was->message); /* tried again */
    if (transfer->all > 0)
        return fl_not_yet(view->rc, "Selected", "Selecting", "%s: %" PRId64 " of %" PRId64 " bytes",
                          what, transfer->done * 10 / transfer->all * transfer->all / 10,
                          transfer->all);
    return fl_not_yet(view->rc, "Selected", "Selecting", "%s", what);
}

static bool is_for_good(int code)
{
    return code == FL_E_NOT_FOUND || code == FL_E_INVALID || code == FL_E_FORBIDDEN ||
           code == FL_E_TOO_LARGE || code == FL_E_BAD_REQUEST;
}

static int transfer_failed(struct fl_flround_view *view, const char *what,
                           const struct fl_transfer *transfer)
{
    fl_requeue_after(view->rc, is_for_good(transfer->failed) ? MISSING_MS : AGAIN_MS);
    if (is_for_good(transfer->failed))
        return fl_not_yet(view->rc, "Selected", "BaseModelNotFound", "%s: %s", what,
                          transfer->message);
    return fl_not_yet(view->rc, "Selected", "Selecting", "%s: %s", what, transfer->message);
}

/* --- the base ------------------------------------------------------------------------------- */

static int find_source(struct fl_flround_view *view, struct fl_project **ret_source,
                       struct fl_error *err)
{
    const struct fl_project_training *training = &view->world.project->spec.training;
    void *object = NULL;
    int r;

    if (!training->has_initial_model || !training->initial_model.has_project)
        return 0;
    r = fl_read_cached(view->rc, &fl_project_type, view->round->meta.namespace,
                       training->initial_model.project.name, &object, err);
    *ret_source = object;
    return r == FL_E_NOT_FOUND ? 0 : r;
}

/* What comes from elsewhere is the project's model 0 from then on. */
static int import(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_transfer transfer = {0};
    const char *name;
    int r = driver->ops->import_model(driver, view->base.uri, view->at.ns, view->at.name,
                                      view->rc->arena, &transfer, err);

    if (r < 0)
        return r;
    if (transfer.state == FL_TRANSFER_RUNNING)
        return wait_for(view, "fetching the initial model", &transfer);
    if (transfer.state == FL_TRANSFER_FAILED)
        return transfer_failed(view, view->base.uri, &transfer);
    view->base.kind = FL_FLROUND_BASE_MODEL;
    view->base.digest = transfer.digest;
    view->base.size = transfer.all;
    return fl_flround_make_version(view, 0, transfer.digest, transfer.all, &name, err);
}

/* Into the content store, where it is kept, and to the root, which needs it. */
static int bring(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_transfer transfer = {0};
    int r = driver->ops->get_model(driver, &view->at, view->base.digest, 0, view->rc->arena,
                                   &transfer, err);

    if (r < 0)
        return r;
    if (transfer.state == FL_TRANSFER_RUNNING)
        return wait_for(view, "fetching the base model", &transfer);
    if (transfer.state == FL_TRANSFER_FAILED)
        return transfer_failed(view, "the base model", &transfer);
    view->base.size = transfer.all;
    r = driver->ops->put_model(driver, &view->at, view->base.digest, view->rc->arena, &transfer,
                               err);
    if (r < 0)
        return r;
    if (transfer.state == FL_TRANSFER_RUNNING)
        return wait_for(view, "bringing the base model to the root", &transfer);
    if (transfer.state == FL_TRANSFER_FAILED)
        return transfer_failed(view, "bringing the base model to the root", &transfer);
    return 0;
}

/* The root's word on what the round before has made weighs more than a cache. */
static int ask_root_for_base(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_federation_status status = {0};
    int r = driver->ops->status(driver, &view->at, view->rc->arena, &status, err);

    if (r < 0 || view->round->spec.has_base_model)
        return r;
    if (status.known == FL_FEDERATION_UNKNOWN)
        return fl_flround_repeat(view, "Selecting", "asking the root aggregator");
    if (status.known == FL_FEDERATION_KNOWN && status.status.committed == view->number - 1 &&
        status.status.model && !fl_streq(view->base.digest, status.status.model))
        view->base =
            (struct fl_flround_base){.kind = FL_FLROUND_BASE_MODEL, .digest = status.status.model};
    return 0;
}

static int prepare_base(struct fl_flround_view *view, struct fl_error *err)
{
    struct fl_project *source = NULL;
    int r = find_source(view, &source, err);

    if (r < 0)
        return r;
    fl_flround_base(&view->world, view->number, source, view->rc->arena, &view->base);
    r = ask_root_for_base(view, err);
    if (r == 0 && view->base.kind == FL_FLROUND_BASE_IMPORT)
        r = import(view, err);
    if (r == 0 && view->base.kind == FL_FLROUND_BASE_MISSING)
        return fl_not_yet(view->rc, "Selected", "BaseModelNotFound", "%s", view->base.message);
    if (r == 0 && view->base.kind == FL_FLROUND_BASE_MODEL)
        r = bring(view, err);
    return r;
}

/* --- the order ------------------------------------------------------------------------------ */

int fl_flround_begin(struct fl_flround_view *view, int64_t run, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_flround_plan plan = {
        .project = view->world.project, .round = view->round, .number = view->number, .run = run};
    struct fl_round_order order;
    int r = prepare_base(view, err);

    if (r != 0)
        return r;
    plan.base = view->base.kind == FL_FLROUND_BASE_MODEL ? view->base.digest : NULL;
    plan.base_size = view->base.size;
    r = fl_flround_order(&plan, view->rc->arena, &order, err);
    if (r < 0)
        return fl_failed(view->rc, "Selected", "NotSupported", err);
    r = driver->ops->start_round(driver, &view->at, &order, err);
    if (r < 0)
        return fl_failed(view->rc, "Selected", "Invalid", err);
    if (view->seen.refused)
        return fl_flround_refused(view);
    return fl_not_yet(view->rc, "Selected", "Selecting", "the root aggregator begins the round");
}
