/* What the readers of request.h share. */
#ifndef FL_WORKLOADS_SERVE_REQUEST_INTERNAL_H
#define FL_WORKLOADS_SERVE_REQUEST_INTERNAL_H

#include "workloads/serve/request.h"

/* One request on its way in. */
struct fl_reading {
    const struct fl_signature *signature;
    struct fl_scan scan;
    struct fl_ask *ask;
};

struct fl_reading fl_reading_begin(struct fl_arena *arena, const struct fl_signature *signature,
                                   const char *text, size_t len, struct fl_ask *ask);
/* What the reader returns: an error where `good` is false, or there are no rows. */
int fl_reading_end(struct fl_reading *reading, bool good, struct fl_error *err);

/* All these return false. */
bool fl_reading_wrong_shape(struct fl_reading *reading, const char *path, const int64_t *shape,
                            unsigned rank);
bool fl_reading_too_many(struct fl_reading *reading);
bool fl_reading_at(struct fl_reading *reading, const char *path); /* names the place of an error */

/* Rows of this shape, or one row: how many; < 0: neither. */
int64_t fl_reading_rows_in(const struct fl_signature *signature, const int64_t *shape,
                           unsigned rank);
/* What stands next is rows, or one row: reads and counts them. */
bool fl_reading_take_rows(struct fl_reading *reading, const char *path);

#endif
