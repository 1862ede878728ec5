/* A project's training followed to its end: `flops rounds --watch`. */
#ifndef FL_CMD_ROUNDS_FOLLOW_H
#define FL_CMD_ROUNDS_FOLLOW_H

#include "cmd/client.h"

enum {
    FL_ROUNDS_COMPLETE = 0,
    FL_ROUNDS_FAILED = 1, /* the project is stalled or gone, or the server refuses */
    FL_ROUNDS_LATE = 3,   /* not complete in time */
};

struct fl_rounds_follow {
    struct fl_client *client;
    const char *project, *metric;
    int64_t timeout_ms; /* 0: without end */
    bool chart;         /* live, where standard output is a terminal to draw on */
};

/* Returns one of the above, or 128 and a signal's number. `err` says why it is not COMPLETE;
 * without a code the user has seen enough. `*ret_drawn`: it was a live view, of which nothing is
 * left. */
int fl_rounds_follow(const struct fl_rounds_follow *follow, bool *ret_drawn, struct fl_error *err);

#endif
