/* A hash map from strings to pointers (uthash behind a door of ours). Keys are copied, values are
 * the caller's unless `destroy` was given. Iteration follows insertion. One thread at a time. */
#ifndef FL_LIB_MAP_H
#define FL_LIB_MAP_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_map;

struct fl_map *fl_map_create(void (*destroy)(void *value)); /* destroy may be NULL */
void fl_map_destroy(struct fl_map *map);
FL_DEFINE_CLEANUP(struct fl_map, fl_map_destroy)

void *fl_map_get(const struct fl_map *map, const char *key); /* NULL if absent */
void *fl_map_get_n(const struct fl_map *map, const char *key, size_t len);
/* Puts, and destroys the value that was there. */
void fl_map_put(struct fl_map *map, const char *key, void *value);
bool fl_map_remove(struct fl_map *map, const char *key); /* destroys the value */
void *fl_map_take(struct fl_map *map, const char *key);  /* removes, hands over */
size_t fl_map_count(const struct fl_map *map);

/* Iteration: start with `*cursor` NULL; false at the end. The entry just returned may be removed,
 * no other one. */
bool fl_map_next(const struct fl_map *map, void **cursor, const char **ret_key, void **ret_value);

#endif
