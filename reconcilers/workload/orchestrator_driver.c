#include "reconcilers/workload/orchestrator_driver.h"

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
