/* The control loops of `flops up`: the manager with all reconcilers, their drivers and sources, and
 * the objects that exist by themselves.
 *
 * Made once the API server is there; begun while its loop turns, because everything here goes
 * through it. Loop thread, but for what it does on threads of its own. */
#ifndef FL_CMD_CONTROLLERS_H
#define FL_CMD_CONTROLLERS_H

#include "controller/apiserver/apiserver.h"
#include "controller/runtime/metrics.h"

struct fl_controllers;

struct fl_controllers_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_apiserver *server;
    struct fl_metric_registry *metrics;
    const char *data_dir;
    const char *identity;  /* of this store's only process, for the lease */
    const char *manifests; /* a folder to watch; NULL */
    const char *git_url;   /* a repository to follow; NULL */
    const char *git_branch; /* NULL: its default */
    const char *git_path;
    /* The loops cannot go on (leadership lost, or they could not begin): loop thread. */
    void (*failed)(void *user, const struct fl_error *err);
    void *user;
};

int fl_controllers_create(const struct fl_controllers_options *options,
                          struct fl_controllers **ret_controllers, struct fl_error *err);
/* Returns at once. */
int fl_controllers_start(struct fl_controllers *controllers, struct fl_error *err);
/* Lets passes under way finish, while the loop turns, then calls `done` on it. What runs on the
 * orchestrators goes on running. */
void fl_controllers_stop(struct fl_controllers *controllers, fl_loop_fn *done, void *user);
/* After the stop, or where it was never started. */
void fl_controllers_destroy(struct fl_controllers *controllers);

/* Handlers of the API server that need the loops: output of Workloads. */
struct fl_orchestrators *fl_controllers_orchestrators(struct fl_controllers *controllers);

#endif
