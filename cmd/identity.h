/* Who this control plane is: a name that stays with its data directory, so that a process that was
 * killed finds its own lease when it comes again. */
#ifndef FL_CMD_IDENTITY_H
#define FL_CMD_IDENTITY_H

#include "lib/env.h"
#include "lib/error.h"

/* "HOSTNAME_UUID" from DIR/identity, made where it is missing. Heap, the caller's. */
int fl_identity_ensure(const struct fl_env *env, const char *data_dir, char **ret_identity,
                       struct fl_error *err);

#endif
