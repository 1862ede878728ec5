/* Who may read which source, and with what: the same for all kinds that name a repository. Any
 * thread. */
#ifndef FL_CONTROLLER_SOURCE_ACCESS_H
#define FL_CONTROLLER_SOURCE_ACCESS_H

#include "controller/source/source.h"
#include "lib/json.h"

/* Namespace of those who run the control plane. */
#define FL_SYSTEM_NAMESPACE "flops-system"

/* Whether it names what the control plane's machine has: dir:// and file://. That is not for
 * everybody who may write an object, but for the system namespace only. */
bool fl_source_is_local(const char *url);
bool fl_source_may_be_read(const char *url, const char *ns);

/* The username, password, identity, known_hosts and ca.crt of a Secret; texts in the arena. */
void fl_source_take_credentials(struct fl_source_request *request, const json_t *secret,
                                struct fl_arena *arena);

#endif
