/* Drivers for Orchestrators of type Oakestra: each with its own login, from the Secret that the
 * object names. */
#ifndef FL_CMD_OAKESTRA_H
#define FL_CMD_OAKESTRA_H

#include "controller/client/client.h"
#include "reconcilers/orchestrator/orchestrators.h"

struct fl_oakestras;

/* `env`, `data_dir` and `identity` are lent. */
struct fl_oakestras *fl_oakestras_create(const struct fl_env *env, const char *data_dir,
                                         const char *identity);
/* After the drivers. */
void fl_oakestras_destroy(struct fl_oakestras *oakestras);

/* What Secrets are read with, from now on; lent. */
void fl_oakestras_attach(struct fl_oakestras *oakestras, struct fl_apiclient *client);
/* No Secret is read any more when this returns, so that the client's loop may end. Blocks while one
 * is being read: not on the loop's thread. */
void fl_oakestras_stop(struct fl_oakestras *oakestras);

/* A fl_orchestrator_make_fn; `user` is a struct fl_oakestras. */
int fl_oakestras_make(void *user, const char *name, fl_run_changed_fn *changed, void *changed_user,
                      struct fl_orchestrator_driver **ret_driver, struct fl_error *err);

#endif
