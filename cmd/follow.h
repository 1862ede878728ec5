/* Following objects: a list, then a watch from it, over and over until someone has seen enough.
 *
 * A stream that ends is taken up where it ended; where that is too old (410) the list is given
 * anew; a lost connection is tried again for as long as the request timeout. */
#ifndef FL_CMD_FOLLOW_H
#define FL_CMD_FOLLOW_H

#include "cmd/client.h"

struct fl_follow {
    const struct fl_api_resource *resource;
    struct fl_list_query query;
    int64_t deadline_ms; /* of the monotonic clock; 0: none */
};

/* `event` is LIST (with a list or table: the whole state, maybe not for the first time), ADDED,
 * MODIFIED or DELETED (with an object, or a table of it). > 0 ends the following. */
typedef int fl_follow_fn(void *user, const char *event, json_t *object, struct fl_error *err);

/* Returns what `fn` returned to end it. TIMEOUT at the deadline, with no text worth showing. */
int fl_follow(struct fl_client *client, const struct fl_follow *follow, fl_follow_fn *fn,
              void *user, struct fl_error *err);

/* "metadata.name=NAME", and `more` (may be NULL) too. */
const char *fl_follow_name(struct fl_client *client, const char *name, const char *more);

#endif
