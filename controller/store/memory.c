/* The driver that keeps nothing: what the store itself holds is all there is. */
#include "controller/store/store_driver.h"

#include <stdlib.h>

static int memory_open(const struct fl_store_options *options, struct fl_store_driver **ret_driver,
                       struct fl_error *err)
{
    struct fl_store_driver *driver = fl_calloc(1, sizeof(*driver));

    (void)options;
    (void)err;
    driver->ops = &fl_store_memory_ops;
    *ret_driver = driver;
    return 0;
}

static void memory_close(struct fl_store_driver *driver)
{
    free(driver);
}

static int memory_load(struct fl_store_driver *driver, fl_store_load_fn *fn, void *user,
                       uint64_t *ret_last, uint64_t *ret_compacted, struct fl_error *err)
{
    (void)driver;
    (void)fn;
    (void)user;
    (void)err;
    *ret_last = 0;
    *ret_compacted = 0;
    return 0;
}

static int memory_commit(struct fl_store_driver *driver, const struct fl_store_record *records,
                         size_t count, struct fl_error *err)
{
    (void)driver;
    (void)records;
    (void)count;
    (void)err;
    return 0;
}

static int memory_compact(struct fl_store_driver *driver, uint64_t revision, struct fl_error *err)
{
    (void)driver;
    (void)revision;
    (void)err;
    return 0;
}

const struct fl_store_driver_ops fl_store_memory_ops = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .load = memory_load,
    .commit = memory_commit,
    .compact = memory_compact,
};
