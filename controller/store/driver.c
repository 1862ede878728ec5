/* The drivers by name. */
#include "controller/store/store_driver.h"

#include "lib/str.h"

#define DRIVERS_MAX 16

static const struct fl_store_driver_ops *drivers[DRIVERS_MAX] = {
    &fl_store_memory_ops,
    &fl_store_sqlite_ops,
};

const struct fl_store_driver_ops *fl_store_driver_find(const char *name)
{
    for (size_t i = 0; i < DRIVERS_MAX && drivers[i]; i++)
        if (fl_streq(drivers[i]->name, name))
            return drivers[i];
    return NULL;
}

int fl_store_driver_register(const struct fl_store_driver_ops *ops, struct fl_error *err)
{
    if (!ops->name || !ops->open || !ops->close || !ops->load || !ops->commit || !ops->compact)
        return fl_error_set(err, FL_E_INVALID, "store driver %s lacks a function it must have",
                            fl_str_or(ops->name, "without a name"));
    if (fl_store_driver_find(ops->name))
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "store driver %s is registered", ops->name);
    for (size_t i = 0; i < DRIVERS_MAX; i++) {
        if (!drivers[i]) {
            drivers[i] = ops;
            return 0;
        }
    }
    return fl_error_set(err, FL_E_UNAVAILABLE, "more than %d store drivers", DRIVERS_MAX);
}
