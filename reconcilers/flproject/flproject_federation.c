/* The root as its driver knows it. */
#include "lib/str.h"
#include "reconcilers/federation/federation.h"
#include "reconcilers/flproject/flproject_internal.h"

#define IMPORT_AGAIN_MS 30000

static struct fl_federation_at where(const struct fl_flproject_view *view)
{
    const struct fl_object_meta *meta = &view->project->meta;

    return (struct fl_federation_at){.project_uid = meta->uid,
                                     .ns = meta->namespace,
                                     .name = meta->name,
                                     .address = view->root,
                                     .token = view->token};
}

static bool can_be_asked(const struct fl_flproject_view *view)
{
    return view->root && view->token && view->controller->federation;
}

int fl_flproject_ask_root(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    struct fl_flproject_federation *to = &view->input.federation;
    struct fl_federation_status status = {0};
    struct fl_federation_at at = where(view);
    int r;

    to->known = FL_FLPROJECT_UNKNOWN;
    if (!can_be_asked(view))
        return 0;
    r = driver->ops->status(driver, &at, view->rc->arena, &status, err);
    if (r < 0)
        return fl_failed(view->rc, "TiersReady", "StartingAggregators", err);
    to->message = status.message;
    if (status.known == FL_FEDERATION_UNREACHABLE)
        to->known = FL_FLPROJECT_UNREACHABLE;
    if (status.known != FL_FEDERATION_KNOWN)
        return 0;
    to->known = FL_FLPROJECT_KNOWN;
    to->members = status.status.members;
    to->available = status.status.available;
    to->learners = status.status.learners;
    to->committed = status.status.committed;
    to->model = status.status.model;
    return 0;
}

int fl_flproject_tell_tiers(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    const struct fl_flproject_services *services = &view->decision.plan.services;
    struct fl_children children = {
        .children.items = fl_new_array(view->rc->arena, struct fl_pair, services->count)};
    struct fl_federation_at at = where(view);

    for (size_t i = 0; i < services->count; i++) {
        const struct fl_flproject_service *service = &services->items[i];

        if (service->id && service->parent && service->address &&
            children.children.count < FL_PROTOCOL_CHILDREN_MAX)
            children.children.items[children.children.count++] =
                (struct fl_pair){service->id, service->address};
    }
    if (children.children.count == 0 || !can_be_asked(view))
        return 0;
    if (driver->ops->children(driver, &at, &children, err) < 0)
        return fl_failed(view->rc, "TiersReady", "StartingAggregators", err);
    return 0;
}

/* A model from elsewhere comes into the content store first. */
int fl_flproject_import(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_federation_driver *driver = view->controller->federation;
    const struct fl_object_meta *meta = &view->project->meta;
    const char *uri = view->project->spec.training.initial_model.uri;
    struct fl_transfer transfer = {0};
    int r;

    if (!driver)
        return 0;
    r = driver->ops->import_model(driver, uri, meta->namespace, meta->name, view->rc->arena,
                                  &transfer, err);
    if (r < 0)
        return fl_failed(view->rc, "Training", "BaseModelNotFound", err);
    if (transfer.state == FL_TRANSFER_DONE)
        view->input.initial_model = transfer.digest;
    else
        view->input.initial_problem =
            transfer.state == FL_TRANSFER_FAILED
                ? fl_arena_printf(view->rc->arena, "training.initialModel.uri: %s",
                                  fl_str_or(transfer.message, "it cannot be had"))
                : "training.initialModel.uri is being fetched";
    if (transfer.state == FL_TRANSFER_FAILED)
        fl_requeue_after(view->rc, IMPORT_AGAIN_MS);
    return 0;
}

void fl_flproject_forget(struct fl_flproject_view *view)
{
    struct fl_federation_driver *driver = view->controller->federation;

    if (driver)
        driver->ops->forget(driver, view->project->meta.uid);
}
