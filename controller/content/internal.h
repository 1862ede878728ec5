/* What the parts of the content store share. */
#ifndef FL_CONTROLLER_CONTENT_INTERNAL_H
#define FL_CONTROLLER_CONTENT_INTERNAL_H

#include "controller/content/content.h"
#include "lib/json.h"
#include "lib/map.h"
#include "lib/thread.h"

#include <sys/queue.h>

struct fl_content_upload;
TAILQ_HEAD(fl_content_uploads, fl_content_upload);

struct fl_contents {
    const struct fl_env *env;
    struct fl_blobs *blobs;
    int64_t max_bytes, grace_ms;
    struct fl_content_uploads uploads; /* under way; loop thread */

    struct fl_lock *lock;    /* what follows */
    struct fl_marks *marks;  /* of the last sweep */
    struct fl_map *unmarked; /* digest -> struct fl_unmarked */
};

struct fl_unmarked {
    int64_t since_ms; /* monotonic */
    int64_t used_us;  /* as it was then */
    uint64_t sweep;   /* the last one that saw it */
};

/* serve.c: ends what is under way. Nobody is answered. */
void fl_content_uploads_end(struct fl_contents *contents);

#endif
