/* The orchestrators that exist now, by the names of their Orchestrator objects.
 *
 * The orchestrator reconciler puts drivers in and takes them out; the workload reconciler, logs and
 * placement look them up. A driver that was looked up stays alive until it is given back. Any
 * thread. */
#ifndef FL_RECONCILERS_ORCHESTRATORS_H
#define FL_RECONCILERS_ORCHESTRATORS_H

#include "reconcilers/workload/orchestrator_driver.h"

struct fl_orchestrators;

struct fl_orchestrators *fl_orchestrators_create(void);
/* Destroys the drivers that are in it; all must have been given back. */
void fl_orchestrators_destroy(struct fl_orchestrators *orchestrators);

/* Makes a driver for an Orchestrator of this type; `changed` as in orchestrator_driver.h. */
typedef int fl_orchestrator_make_fn(void *user, const char *name, fl_run_changed_fn *changed,
                                    void *changed_user, struct fl_orchestrator_driver **ret_driver,
                                    struct fl_error *err);
void fl_orchestrators_register(struct fl_orchestrators *orchestrators, const char *type,
                               fl_orchestrator_make_fn *make, void *user);
/* Where drivers' changes go from then on. With `ns` NULL, `name` is that of an orchestrator whose
 * nodes changed. */
void fl_orchestrators_on_changed(struct fl_orchestrators *orchestrators, fl_run_changed_fn *changed,
                                 void *user);

/* The driver by name, made and configured when the object is first seen, configured anew when the
 * spec is another; `changed` is told of both. INVALID: no driver of the type. ensure and drop
 * of one name are one thread's at a time. */
int fl_orchestrators_ensure(struct fl_orchestrators *orchestrators, const char *name,
                            const char *type, const struct fl_orchestrator_spec *spec,
                            struct fl_error *err);
/* What runs on it goes on; who has the driver may finish. */
void fl_orchestrators_drop(struct fl_orchestrators *orchestrators, const char *name);
/* NULL: none by this name. */
struct fl_orchestrator_driver *fl_orchestrators_get(struct fl_orchestrators *orchestrators,
                                                    const char *name);
/* NULL is fine. */
void fl_orchestrators_put(struct fl_orchestrators *orchestrators,
                          struct fl_orchestrator_driver *driver);

/* What the EdgeNode of the i-th node is called: as the node, or CLUSTER.NODE where nodes of several
 * clusters have the same name. Arena or lent. */
const char *fl_edgenode_name(struct fl_arena *arena, const struct fl_node_list *nodes, size_t i);

#endif
