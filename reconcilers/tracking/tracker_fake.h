/* A tracker in memory, for tests and simulations: what was recorded can be looked at, and each call
 * made to fail before or after it took place. One thread; sessions of one server share it, as
 * restarts of the control plane do. */
#ifndef FL_RECONCILERS_TRACKING_TRACKER_FAKE_H
#define FL_RECONCILERS_TRACKING_TRACKER_FAKE_H

#include "lib/json.h"
#include "reconcilers/tracking/tracker.h"

struct fl_fake_tracker;
struct fl_fake_tracker *fl_fake_tracker_create(void);
void fl_fake_tracker_destroy(struct fl_fake_tracker *fake); /* after its sessions */
FL_DEFINE_CLEANUP(struct fl_fake_tracker, fl_fake_tracker_destroy)

/* A fl_tracker_open_fn; `user` is the server. */
int fl_tracker_fake_open(void *user, const struct fl_tracker_options *options,
                         struct fl_tracker **ret_tracker, struct fl_error *err);

/* The call that is so many calls ahead (1: the next) fails with this code; after what it asks for
 * has taken place, or before. 0: none. With `for_good` all after it fail, too. */
void fl_fake_tracker_fail(struct fl_fake_tracker *fake, int64_t ahead, int code, bool after,
                          bool for_good);
int64_t fl_fake_tracker_calls(const struct fl_fake_tracker *fake);

/* {"experiments":{NAME:ID}, "runs":[{"id","experiment","name","start","status","end","tags":{},
 * "params":{},"metrics":[[key, step, time, value]],"inputs":{name: digest}}],
 * "models":[{"id","run","digest","files"}],
 * "versions":[{"name","version","model","tags":{}}],"aliases":{"NAME/ALIAS":VERSION}}. Lent. */
json_t *fl_fake_tracker_state(struct fl_fake_tracker *fake);
/* The run of this name; NULL: none. */
json_t *fl_fake_tracker_run(struct fl_fake_tracker *fake, const char *name);
/* How often the run has a point of this metric at this step. */
size_t fl_fake_tracker_points(const json_t *run, const char *metric, int64_t step);

#endif
