#include "controller/store/store_faulty.h"

#include <stdlib.h>
#include <time.h>

struct fl_store_faults fl_store_faults;

struct faulty_driver {
    struct fl_store_driver base;
    struct fl_store_driver *inner;
};

static struct fl_store_driver *inner_of(struct fl_store_driver *driver)
{
    return ((struct faulty_driver *)driver)->inner;
}

static int open_over(const struct fl_store_driver_ops *ops, const struct fl_store_driver_ops *over,
                     const struct fl_store_options *options, struct fl_store_driver **ret_driver,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_freep) struct faulty_driver *driver = fl_calloc(1, sizeof(*driver));
    int r;

    driver->base.ops = ops;
    r = over->open(options, &driver->inner, err);
    if (r < 0)
        return r;
    *ret_driver = &FL_TAKE(driver)->base;
    return 0;
}

static void faulty_close(struct fl_store_driver *driver)
{
    inner_of(driver)->ops->close(inner_of(driver));
    free(driver);
}

static int faulty_load(struct fl_store_driver *driver, fl_store_load_fn *fn, void *user,
                       uint64_t *ret_last, uint64_t *ret_compacted, struct fl_error *err)
{
    return inner_of(driver)->ops->load(inner_of(driver), fn, user, ret_last, ret_compacted, err);
}

static void pause_ms(long ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* Counts one failure off; a negative count stays. */
static bool shall_fail(atomic_int *count)
{
    int left = atomic_load(count);

    while (left > 0 && !atomic_compare_exchange_weak(count, &left, left - 1))
        ;
    return left != 0;
}

static int faulty_commit(struct fl_store_driver *driver, const struct fl_store_record *records,
                         size_t count, struct fl_error *err)
{
    atomic_fetch_add(&fl_store_faults.held, 1);
    while (atomic_load(&fl_store_faults.hold_commits))
        pause_ms(1);
    atomic_fetch_sub(&fl_store_faults.held, 1);
    pause_ms(atomic_load(&fl_store_faults.commit_delay_ms));
    if (shall_fail(&fl_store_faults.fail_commits))
        return fl_error_set(err, FL_E_UNAVAILABLE, "the disk refuses, as it was told");
    return inner_of(driver)->ops->commit(inner_of(driver), records, count, err);
}

static int faulty_compact(struct fl_store_driver *driver, uint64_t revision, struct fl_error *err)
{
    if (shall_fail(&fl_store_faults.fail_compacts))
        return fl_error_set(err, FL_E_UNAVAILABLE, "the disk refuses, as it was told");
    return inner_of(driver)->ops->compact(inner_of(driver), revision, err);
}

static const struct fl_store_driver_ops over_memory, over_sqlite;

static int open_over_memory(const struct fl_store_options *options,
                            struct fl_store_driver **ret_driver, struct fl_error *err)
{
    return open_over(&over_memory, &fl_store_memory_ops, options, ret_driver, err);
}

static int open_over_sqlite(const struct fl_store_options *options,
                            struct fl_store_driver **ret_driver, struct fl_error *err)
{
    return open_over(&over_sqlite, &fl_store_sqlite_ops, options, ret_driver, err);
}

static const struct fl_store_driver_ops over_memory = {
    .name = "faulty-memory",
    .blocking = true,
    .open = open_over_memory,
    .close = faulty_close,
    .load = faulty_load,
    .commit = faulty_commit,
    .compact = faulty_compact,
};

static const struct fl_store_driver_ops over_sqlite = {
    .name = "faulty-sqlite",
    .blocking = true,
    .open = open_over_sqlite,
    .close = faulty_close,
    .load = faulty_load,
    .commit = faulty_commit,
    .compact = faulty_compact,
};

int fl_store_faulty_register(struct fl_error *err)
{
    int r = fl_store_driver_register(&over_memory, err);

    return r < 0 ? r : fl_store_driver_register(&over_sqlite, err);
}
