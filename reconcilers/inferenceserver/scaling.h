/* How many servers an InferenceServer with `autoscale` should have: a pure function of what it asks
 * for, how many are meant to run now, and the load at its router (workloads/route/load.h).
 *
 * The wish is average / target, rounded up. It follows rules that others have found good:
 * - within a tenth of what the present servers are meant for nothing changes, so steady load makes
 *   steady numbers (tolerance; Kubernetes' HorizontalPodAutoscaler);
 * - a rush of at least twice what they are meant for is followed at once by its own average over a
 *   tenth of the window, and not gone back on within the window (panic mode; Knative's Pod
 *   Autoscaler, with its defaults of 200 % and 10 %);
 * - fewer only when load was measured for as long as `scaleDownDelay`, and no fewer than the
 *   highest load of that time asks for (stabilisation; both of them).
 * The number stays between the bounds. What the router does not tell changes nothing. */
#ifndef FL_RECONCILERS_SERVING_SCALING_H
#define FL_RECONCILERS_SERVING_SCALING_H

#include "api/gen/flops_types.h"
#include "lib/json.h"
#include "reconcilers/inferenceserver/router_driver.h"

/* `current`: how many are meant to run; below 1: not decided yet. `ret_why` (may be NULL): for
 * people, in the arena, where the number is another one. */
int64_t fl_scaling_decide(const struct fl_autoscale *autoscale, int64_t current,
                          const struct fl_router_load *load, struct fl_arena *arena,
                          const char **ret_why);
/* What the router has to measure for it. */
struct fl_router_load fl_scaling_terms(const struct fl_autoscale *autoscale);
/* How often to look. */
int64_t fl_scaling_look_ms(const struct fl_autoscale *autoscale);

#endif
