/* Between the parts of the plan. */
#ifndef FL_RECONCILERS_TRACKING_PLAN_INTERNAL_H
#define FL_RECONCILERS_TRACKING_PLAN_INTERNAL_H

#include "reconcilers/tracking/plan.h"

#define FL_TRACK_VALUE_MAX 500 /* bytes of a param or tag; older servers take no more */

/* Growing list of pairs in the arena; an empty value, and a key that is there already, add nothing.
 */
struct fl_track_pairs {
    struct fl_arena *arena;
    struct fl_string_map map;
    size_t room, max;
};
void fl_track_pairs_add(struct fl_track_pairs *pairs, const char *key, const char *value);

/* What the training is made of, by the names of the spec's fields. */
struct fl_string_map fl_track_params(const json_t *project, struct fl_arena *arena);
/* The rounds' metrics, ascending by number, each round once. */
void fl_track_rounds(const struct fl_track_input *input, struct fl_arena *arena,
                     struct fl_track_run *run);
void fl_track_models(const struct fl_track_input *input, struct fl_arena *arena,
                     struct fl_track_plan *plan);
/* Milliseconds since 1970; 0: it is no time. */
int64_t fl_track_time_ms(const char *text);
/* The name of an enumeration's value by its path in the object's JSON; NULL where it is not set. */
bool fl_track_is(const struct fl_condition_list *conditions, const char *type,
                 int64_t *ret_since_ms);

#endif
