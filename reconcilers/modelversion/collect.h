/* Collecting content that no object names any more.
 *
 * What is named: the model of every ModelVersion; whatever an FLProject, InferenceServer, Workload
 * or ImageBuild names; what an FLRound names that has not ended; and what the registry's
 * repositories hold, whose own unneeded parts are forgotten first. All is listed, and only where
 * every list was had is anything taken for unnamed; registry and content store then wait for their
 * grace time (registry.h, content.h). */
#ifndef FL_RECONCILERS_MODELVERSION_COLLECT_H
#define FL_RECONCILERS_MODELVERSION_COLLECT_H

#include "controller/client/client.h"
#include "controller/content/content.h"
#include "controller/registry/registry.h"

/* One look. Any thread but the loop's; blocks for the lists. `repositories` NULL: there is no
 * registry. */
int fl_content_collect(struct fl_apiclient *client, struct fl_contents *contents,
                       struct fl_repositories *repositories, struct fl_swept *ret_swept,
                       struct fl_error *err);

/* A thread that looks every so often. All is lent. */
struct fl_collector;
struct fl_collector_options {
    const struct fl_env *env;
    struct fl_apiclient *client;
    struct fl_contents *contents;
    struct fl_repositories *repositories; /* may be NULL */
    int64_t every_ms;                     /* 0: 1 min */
};
int fl_collector_start(const struct fl_collector_options *options,
                       struct fl_collector **ret_collector, struct fl_error *err);
/* Waits for a look under way, which needs the loop to turn. */
void fl_collector_stop(struct fl_collector *collector);

#endif
