/* What a pass tells. */
#include "lib/str.h"
#include "reconcilers/workload/workload_internal.h"

#include <inttypes.h>

#define INSTANCES_SHOWN 256
#define ADDRESSES_SHOWN 16

/* Of each instance that has one, with the port where there is only one. */
static void fill_addresses(const struct fl_workload_view *view)
{
    const struct fl_workload_status_instance_list *instances = &view->decision.instances;
    struct fl_workload_status_address_list *list = &view->workload->status.addresses;

    *list = (struct fl_workload_status_address_list){
        fl_new_array(view->rc->arena, struct fl_workload_status_address, ADDRESSES_SHOWN), 0};
    for (size_t i = 0; i < instances->count && list->count < ADDRESSES_SHOWN; i++) {
        const struct fl_workload_status_instance *instance = &instances->items[i];
        bool one_port = instance->ports.count == 1;

        if (!instance->address)
            continue;
        list->items[list->count++] = (struct fl_workload_status_address){
            .type = FL_WORKLOAD_STATUS_ADDRESS_TYPE_INSTANCE,
            .address = instance->address,
            .port = one_port ? instance->ports.items[0].port : 0,
            .has_port = one_port,
        };
    }
    if (list->count == 0)
        list->items = NULL;
}

void fl_workload_fill_status(const struct fl_workload_view *view)
{
    struct fl_workload_status *status = &view->workload->status;

    status->has_replicas = true;
    status->replicas = view->decision.replicas;
    status->instances = view->decision.instances;
    if (status->instances.count > INSTANCES_SHOWN)
        status->instances.count = INSTANCES_SHOWN;
    fill_addresses(view);
}

static void tell_scheduled(const struct fl_workload_view *view)
{
    if (view->decision.no_place)
        fl_false(view->rc, "Scheduled", "NoPlace", "%s", view->decision.no_place);
    else
        fl_true(view->rc, "Scheduled", "Placed", "every instance has a place");
}

static void tell_complete(const struct fl_workload_view *view)
{
    if (view->workload->spec.restart_policy == FL_WORKLOAD_RESTART_POLICY_ALWAYS)
        fl_condition_remove(view->rc, "Complete");
    else if (fl_streq(view->decision.reason, "Completed"))
        fl_true(view->rc, "Complete", "Completed", "%s", view->decision.message);
    else
        fl_false(view->rc, "Complete", view->decision.reason,
                 "%" PRId64 " of %" PRId64 " instances ended well",
                 view->decision.replicas.succeeded, view->decision.replicas.desired);
}

static int tell_good(const struct fl_workload_view *view)
{
    const struct fl_decision *decision = &view->decision;

    if (fl_streq(decision->reason, "Completed"))
        fl_false(view->rc, "Available", decision->reason, "%s", decision->message);
    else
        fl_true(view->rc, "Available", decision->reason, "%s", decision->message);
    fl_ready_as(view->rc, decision->reason, "%s", decision->message);
    return FL_STEP_DONE;
}

int fl_workload_conclude(const struct fl_workload_view *view)
{
    const struct fl_decision *decision = &view->decision;

    tell_scheduled(view);
    tell_complete(view);
    if (decision->verdict == FL_VERDICT_READY)
        return tell_good(view);
    if (decision->verdict == FL_VERDICT_STALLED)
        return fl_stalled(view->rc, "Available", decision->reason, "%s", decision->message);
    if (fl_streq(decision->reason, "NoPlace"))
        fl_false(view->rc, "Available", "NoPlace", "%s instances are ready",
                 decision->replicas.summary);
    return fl_not_yet(view->rc, fl_streq(decision->reason, "NoPlace") ? "Scheduled" : "Available",
                      decision->reason, "%s", decision->message);
}
