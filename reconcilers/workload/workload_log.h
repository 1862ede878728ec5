/* GET …/workloads/NAME/log: the output of an instance, as a stream of text.
 *
 * Parameters, as of a Pod's log: follow, previous, tailLines, timestamps; and instance (0). A
 * follower is woken by the driver, not by a clock, and never gets more than it can take. Loop
 * thread. */
#ifndef FL_RECONCILERS_WORKLOAD_LOG_H
#define FL_RECONCILERS_WORKLOAD_LOG_H

#include "controller/apiserver/subresource.h"
#include "reconcilers/orchestrator/orchestrators.h"

struct fl_workload_logs;

/* All is lent, and outlives the server. */
struct fl_workload_logs *fl_workload_logs_create(struct fl_loop *loop,
                                                 struct fl_orchestrators *orchestrators);
/* After the server has hung up and the loop has run once more. */
void fl_workload_logs_destroy(struct fl_workload_logs *logs);
struct fl_apiserver_subresource fl_workload_logs_subresource(struct fl_workload_logs *logs);

#endif
