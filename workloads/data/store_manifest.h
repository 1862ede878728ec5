/* Manifests of the store: JSON, and what it says. */
#ifndef FL_WORKLOADS_STORE_MANIFEST_H
#define FL_WORKLOADS_STORE_MANIFEST_H

#include "lib/json.h"
#include "workloads/data/store.h"

#define FL_DATA_MANIFEST_MAX ((size_t)1024 * 1024)

/* Strict: unknown versions, bad digests, names with folders and numbers out of range are INVALID.
 * What is returned is in the arena. */
int fl_data_manifest_read(struct fl_arena *arena, const char *text, size_t len,
                          struct fl_data_info *ret_info, struct fl_error *err);
/* New, and the caller's; for people and programs. */
json_t *fl_data_manifest_write(const struct fl_data_info *info);

bool fl_data_name_is_valid(const char *name); /* a tag, or one with .parts */

#endif
