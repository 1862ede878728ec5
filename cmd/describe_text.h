/* An object as a page for people. Pure. */
#ifndef FL_CMD_DESCRIBE_TEXT_H
#define FL_CMD_DESCRIBE_TEXT_H

#include "lib/buf.h"
#include "lib/json.h"

#include <stdint.h>

/* `events` are sorted, or NULL where they could not be had. The values of a Secret appear as their
 * sizes only. */
void fl_describe_write(struct fl_buf *out, const json_t *object, const json_t *events,
                       int64_t now_us);

#endif
