/* What a controller remembers of its own writes, so that none of them wakes it, and no key is
 * processed from a state older than what it wrote itself.
 *
 * Only an optimisation: with all of it lost, a pass too many runs, or one that a precondition
 * refuses. An entry lives from a write until the cache has shown it, or for
 * FL_OWN_WRITE_WAIT_MS where the change got lost. Any thread, one lock inside. */
#ifndef FL_CONTROLLER_OWN_WRITES_H
#define FL_CONTROLLER_OWN_WRITES_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_OWN_WRITE_WAIT_MS 5000

struct fl_own_writes;

struct fl_own_writes *fl_own_writes_create(void);
void fl_own_writes_destroy(struct fl_own_writes *writes);

/* Around a write that has what was read as its precondition. end: `revision` is what the write
 * made, 0 where it failed or nobody knows; true: another change came meanwhile, look again. */
void fl_own_writes_begin(struct fl_own_writes *writes, const char *key);
bool fl_own_writes_end(struct fl_own_writes *writes, const char *key, uint64_t read,
                       uint64_t revision, int64_t now_ms);

/* The cache showed this revision of the key's object: whether that is news. */
bool fl_own_writes_seen(struct fl_own_writes *writes, const char *key, uint64_t revision);
void fl_own_writes_gone(struct fl_own_writes *writes, const char *key);

/* How long to wait for the cache, which has this revision; 0: go on. Whoever waits is woken by
 * _seen. */
int64_t fl_own_writes_wait_ms(struct fl_own_writes *writes, const char *key, uint64_t cached,
                              int64_t now_ms);
size_t fl_own_writes_count(struct fl_own_writes *writes);

#endif
