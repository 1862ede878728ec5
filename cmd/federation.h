/* The driver of federations, for `flops up`: a file of its own, since what it includes and what the
 * control loops include call some things by the same names. */
#ifndef FL_CMD_FEDERATION_H
#define FL_CMD_FEDERATION_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/error.h"

struct fl_federation_driver;

/* `changed` is called on any thread. */
int fl_federation_open(const struct fl_env *env, struct fl_blobs *content,
                       void (*changed)(void *user, const char *ns, const char *project), void *user,
                       struct fl_federation_driver **ret_driver, struct fl_error *err);
void fl_federation_close(struct fl_federation_driver *driver);

#endif
