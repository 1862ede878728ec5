/* What compose has made and found out before, by a key of all that it follows from: layers (whose
 * bytes are in the content store) and locks. A file each, in a folder; what is damaged or of
 * another version is as if it were not there. Blocking; one thread. */
#ifndef FL_RECONCILERS_KEPT_H
#define FL_RECONCILERS_KEPT_H

#include "lib/blobs.h"
#include "lib/json.h"
#include "lib/oci/tree.h"
#include "reconcilers/imagebuild/compose/packages.h"

struct fl_kept {
    const char *folder;
    struct fl_blobs *blobs;
};

/* The key of a value: its canonical form's SHA-256, in hex; in the arena. */
const char *fl_kept_key(struct fl_arena *arena, const json_t *value);

/* One file, of whatever kind: NULL where it is not there. The caller owns what is read; what is
 * written gets a version. */
json_t *fl_kept_read(const struct fl_kept *kept, struct fl_arena *arena, const char *kind,
                     const char *key);
int fl_kept_write(const struct fl_kept *kept, const char *kind, const char *key, json_t *value,
                  struct fl_error *err);

/* Pinned where it is there. */
bool fl_kept_layer(const struct fl_kept *kept, const char *key, struct fl_arena *arena,
                   struct fl_layer *ret_layer);
int fl_kept_put_layer(const struct fl_kept *kept, const char *key, const struct fl_layer *layer,
                      struct fl_error *err);

/* Younger than `max_age_s` at `now_s` (max_age_s < 0: of any age). */
bool fl_kept_lock(const struct fl_kept *kept, const char *key, int64_t now_s, int64_t max_age_s,
                  struct fl_arena *arena, struct fl_package_lock *ret_lock);
int fl_kept_put_lock(const struct fl_kept *kept, const char *key, int64_t now_s,
                     const struct fl_package_lock *lock, struct fl_error *err);

#endif
