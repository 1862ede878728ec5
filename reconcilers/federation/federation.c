#include "reconcilers/federation/federation.h"

int fl_federation_check(const struct fl_federation_ops *ops, struct fl_error *err)
{
    if (!ops->name || !ops->destroy || !ops->status || !ops->start_round || !ops->observe_round ||
        !ops->abort_round || !ops->put_model || !ops->get_model || !ops->import_model ||
        !ops->children || !ops->forget)
        return fl_error_set(err, FL_E_INVALID,
                            "federation driver %s lacks a function that it must have",
                            ops->name ? ops->name : "without a name");
    return 0;
}
