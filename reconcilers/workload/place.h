/* Where an instance may run: part of decide.h, which is the front door.
 *
 * Nodes are numbered as in the input's list. A place that was given counts for the next. */
#ifndef FL_RECONCILERS_PLACE_H
#define FL_RECONCILERS_PLACE_H

#include "reconcilers/workload/decide.h"

#define FL_NOWHERE SIZE_MAX

struct fl_places {
    const struct fl_decide_input *input;
    struct fl_node_capacity need;   /* of one instance */
    struct fl_node_capacity *taken; /* by node: what living runs and places given ask for */
    int64_t *own;                   /* by node: instances of this Workload */
    int64_t *all;                   /* by node: instances of all */
    int64_t max_per_node;           /* INT64_MAX: no bound */
};

void fl_places_init(struct fl_places *places, const struct fl_decide_input *input,
                    struct fl_arena *arena);
/* The node by name, or FL_NOWHERE. */
size_t fl_places_find(const struct fl_places *places, const char *cluster, const char *name);
/* Whether the spec allows it there at all, whatever else is on it. */
bool fl_places_match(const struct fl_places *places, size_t node);
bool fl_places_is_cordoned(const struct fl_places *places, size_t node);
/* Not ready, and longer than the grace. *ret_left_ms: what is left of the grace; < 0: it is ready.
 */
bool fl_places_is_lost(const struct fl_places *places, size_t node, int64_t *ret_left_ms);
/* An instance has its place there already; what it asks for is in the node's `requested`. */
void fl_places_occupy(struct fl_places *places, size_t node);
/* Gives an instance a place: where it was before if that still fits, else on the node with the
 * fewest of its kind, then of any kind. FL_NOWHERE: none fits. */
size_t fl_places_take(struct fl_places *places, size_t before);
/* That node or none. */
size_t fl_places_take_at(struct fl_places *places, size_t node);
/* Why no node fits: "none of 3 nodes fits: 1 is not ready, 2 have too little memory". */
const char *fl_places_why_not(const struct fl_places *places, struct fl_arena *arena);

#endif
