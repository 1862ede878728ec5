/* For tests and the simulation: routers are records in memory, by their addresses, with the real
 * rules of workloads/route/routes.h; a table is in force at once. They are the world's: they stay
 * when a reconciler dies. The test says what they count by choosing and ending requests. */
#ifndef FL_RECONCILERS_ROUTER_FAKE_H
#define FL_RECONCILERS_ROUTER_FAKE_H

#include "reconcilers/inferenceserver/router_driver.h"
#include "workloads/route/routes.h"

struct fl_router_driver *fl_router_fake_create(fl_router_changed_fn *changed, void *user);
/* The router at this address, made when first asked for. */
struct fl_routes *fl_router_fake_routes(struct fl_router_driver *driver, const char *address);
/* It was started anew, without its table. */
void fl_router_fake_lose(struct fl_router_driver *driver, const char *address);
void fl_router_fake_reach(struct fl_router_driver *driver, bool reachable); /* all of them */

#endif
