/* What `flops top` knows of the world: of each object the few fields that it shows. Pure; one
 * thread.
 *
 * Its memory is bounded: so many objects of a kind, of which each is cut to a known size. That
 * there are more is known, too. */
#ifndef FL_CMD_TOP_STATE_H
#define FL_CMD_TOP_STATE_H

#include "cmd/watcher.h"

enum fl_top_kind {
    FL_TOP_PROJECTS,
    FL_TOP_ROUNDS,
    FL_TOP_WORKLOADS,
    FL_TOP_SERVERS,
    FL_TOP_KINDS,
};

#define FL_TOP_OBJECTS_MAX 5000 /* of each kind */

struct fl_top;
struct fl_top *fl_top_create(void);
void fl_top_destroy(struct fl_top *top);
FL_DEFINE_CLEANUP(struct fl_top, fl_top_destroy)

/* What a watcher tells (see cmd/watcher.h). */
void fl_top_begin(struct fl_top *top, enum fl_top_kind kind);
/* What is kept of the object, lent until it changes; NULL: there was no room. */
const json_t *fl_top_put(struct fl_top *top, enum fl_top_kind kind, const json_t *object);
/* `gone` (may be NULL) gets each that was not in the list, for the last time. */
void fl_top_end(struct fl_top *top, enum fl_top_kind kind,
                void (*gone)(void *user, const json_t *object), void *user);
void fl_top_remove(struct fl_top *top, enum fl_top_kind kind, const json_t *object);
void fl_top_set_state(struct fl_top *top, enum fl_top_kind kind, enum fl_watcher_state state,
                      const char *why);

enum fl_watcher_state fl_top_state(const struct fl_top *top, enum fl_top_kind kind,
                                   const char **ret_why);
/* Whether there are more than are kept. */
bool fl_top_is_full(const struct fl_top *top, enum fl_top_kind kind);
/* By namespace, within it by group (rounds: their project's name, workloads: their owner's uid),
 * then rounds by number, all else by name. In the arena; lent as each of them is. */
const json_t **fl_top_sorted(const struct fl_top *top, enum fl_top_kind kind,
                             struct fl_arena *arena, size_t *ret_count);
/* Those of one group, of all that are sorted. */
const json_t **fl_top_group(const json_t **sorted, size_t count, const char *ns, const char *group,
                            size_t *ret_count);

/* Of an object that is kept. The uid of who owns it; "" without. */
const char *fl_top_owner(const json_t *object);
/* Its place within its owner ("root", "learners-edge-north"); else its name. */
const char *fl_top_role(const json_t *object);
int64_t fl_top_number(const json_t *round); /* of a round */

/* Rounds a second: how many of the last (ten at least, of twenty seconds at least) came to their
 * end between the start of the first of them and the end of the last, which is at least what they
 * took one after the other. NAN where nothing can be said. Rounds are one project's, by number. */
double fl_top_rate(const json_t *const *rounds, size_t count);

#endif
