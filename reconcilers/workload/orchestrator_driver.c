#include "reconcilers/workload/orchestrator_driver.h"

#include "api/quantity.h"

static bool lacks_a_must(const struct fl_orchestrator_ops *ops)
{
    return !ops->type || !ops->destroy || !ops->configure || !ops->nodes || !ops->observe ||
           !ops->start || !ops->stop || !ops->remove || !ops->workloads;
}

int fl_orchestrator_check(const struct fl_orchestrator_ops *ops, struct fl_error *err)
{
    if (lacks_a_must(ops))
        return fl_error_set(err, FL_E_INVALID, "orchestrator %s lacks a function that it must have",
                            ops->type ? ops->type : "without a type");
    if (!ops->log_open != !ops->log_read || !ops->log_open != !ops->log_close)
        return fl_error_set(err, FL_E_INVALID, "orchestrator %s has a part of the log functions",
                            ops->type);
    return 0;
}

static int64_t amount(const char *quantity, int64_t scale)
{
    int64_t value = 0;

    return quantity && fl_quantity_parse(quantity, scale, &value) ? value : 0;
}

struct fl_node_capacity fl_workload_needs(const struct fl_workload_spec *spec)
{
    if (!spec->has_resources)
        return (struct fl_node_capacity){0};
    return (struct fl_node_capacity){
        .cpu_milli = amount(spec->resources.cpu, 1000),
        .memory_bytes = amount(spec->resources.memory, 1),
        .storage_bytes = amount(spec->resources.storage, 1),
        .gpus = spec->resources.has_gpus ? spec->resources.gpus : 0,
    };
}
