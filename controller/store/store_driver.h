/* For those who add a store driver: where records go. The rules of objects, history and watching
 * are in store.c, the same for all; a driver is a durable log that can be read back.
 *
 * A driver's functions are called by one thread at a time (load and close by the opener, the others
 * by the committer). Registration refuses a table that lacks a must. Drivers stack: a faulty one
 * may wrap any other. */
#ifndef FL_CONTROLLER_STORE_DRIVER_H
#define FL_CONTROLLER_STORE_DRIVER_H

#include "controller/store/store.h"

struct fl_store_driver;

struct fl_store_record {
    uint64_t revision;
    uint64_t previous; /* revision of the record this one supersedes; 0: none */
    enum fl_store_op op;
    const char *resource, *ns, *name;
    const void *data; /* content, sealed where the resource is; a DELETE carries the final state */
    size_t len;
    int64_t time_us; /* when it was accepted */
};

typedef int fl_store_load_fn(void *user, const struct fl_store_record *record,
                             struct fl_error *err);

struct fl_store_driver_ops {
    const char *name;
    bool blocking; /* commit may wait for a disk: it runs on a thread of the store's own. Otherwise
                      on a writer's, before its fl_store_write returns */
    int (*open)(const struct fl_store_options *options, struct fl_store_driver **ret_driver,
                struct fl_error *err);
    void (*close)(struct fl_store_driver *driver);
    /* must: every record that is live or younger than the compacted revision, by revision;
     * *ret_last is the last revision ever given out */
    int (*load)(struct fl_store_driver *driver, fl_store_load_fn *fn, void *user,
                uint64_t *ret_last, uint64_t *ret_compacted, struct fl_error *err);
    /* must: all or none, durable on return, revisions ascending. After a failure nothing of it is
     * there once a later commit has succeeded (a crash before that may bring it back, whole) */
    int (*commit)(struct fl_store_driver *driver, const struct fl_store_record *records,
                  size_t count, struct fl_error *err);
    /* must: drop records at or below `revision` that a later one at or below it supersedes, and
     * deletions at or below it; small steps; > 0: call again, there is more */
    int (*compact)(struct fl_store_driver *driver, uint64_t revision, struct fl_error *err);
};

struct fl_store_driver {
    const struct fl_store_driver_ops *ops;
};

extern const struct fl_store_driver_ops fl_store_memory_ops;
extern const struct fl_store_driver_ops fl_store_sqlite_ops;

/* By name; NULL if unknown. fl_store_driver_register adds one (tests: a faulty one); INVALID where
 * it lacks a must. Before any store is opened. */
const struct fl_store_driver_ops *fl_store_driver_find(const char *name);
int fl_store_driver_register(const struct fl_store_driver_ops *ops, struct fl_error *err);

#endif
