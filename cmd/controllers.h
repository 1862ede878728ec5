/* The control loops of `flops up`: the manager with all reconcilers, their drivers and sources, and
 * the objects that exist by themselves.
 *
 * Made before the API server (which serves the logs of what runs), begun once it is there and its
 * loop is about to turn, because everything here goes through it. Loop thread, but for what it does
 * on threads of its own. */
#ifndef FL_CMD_CONTROLLERS_H
#define FL_CMD_CONTROLLERS_H

#include "controller/apiserver/apiserver.h"
#include "controller/apiserver/subresource.h"
#include "controller/content/content.h"

struct fl_controllers;

struct fl_controllers_options {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_contents *contents;
    struct fl_repositories *repositories;
    const char *data_dir;
    const char *url;                     /* of the API server; set before the start */
    const char *ca_file;                 /* by which services check it */
    const unsigned char *capability_key; /* of tokens for content */
    const char *manifests;               /* a folder to watch; NULL */
    const char *git_url;                 /* a repository to follow; NULL */
    const char *git_branch;              /* NULL: its default one */
    const char *git_path;                /* NULL: all of it */
    /* The loops cannot go on (leadership is lost, or they could not begin). Loop thread. */
    void (*failed)(void *user, const struct fl_error *err);
    void *user;
};

/* Options are lent for its life. */
int fl_controllers_create(const struct fl_controllers_options *options,
                          struct fl_controllers **ret_controllers, struct fl_error *err);
/* What the API server needs of it. */
#define FL_CONTROLLERS_LOGS 2 /* of workloads, of builds */
void fl_controllers_logs(struct fl_controllers *controllers,
                         struct fl_apiserver_subresource ret_logs[FL_CONTROLLERS_LOGS]);
void fl_controllers_metrics(void *controllers, struct fl_buf *text);

int fl_controllers_start(struct fl_controllers *controllers, struct fl_apiserver *server,
                         struct fl_error *err);
/* Lets passes under way finish while the loop turns, then calls `done` on it. What runs on the
 * orchestrators goes on running. */
void fl_controllers_stop(struct fl_controllers *controllers, fl_loop_fn *done, void *user);
/* After the stop (or where it was never started), and after the server has hung up. */
void fl_controllers_destroy(struct fl_controllers *controllers);

#endif
