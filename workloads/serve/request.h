/* What clients ask, in the three protocols: from bodies to rows of numbers.
 *
 * Each reader checks against the signature and says what is wrong with a path and what was
 * expected: BAD_REQUEST for bytes that are not what they claim to be, INVALID for what does not fit
 * the signature, TOO_LARGE for more rows than allowed. Texts are in the arena. Any thread. */
#ifndef FL_WORKLOADS_SERVE_REQUEST_H
#define FL_WORKLOADS_SERVE_REQUEST_H

#include "workloads/serve/scan.h"

/* What a model takes and gives: one tensor each, of FP32. */
struct fl_signature {
    const char *input, *output;
    int64_t shape[FL_SCAN_RANK_MAX]; /* of one row */
    unsigned rank;
    size_t width;   /* numbers of a row */
    size_t classes; /* numbers of an answer */
};

struct fl_ask {
    struct fl_numbers rows; /* fl_numbers_finish */
    size_t count;           /* of rows */
    const char *id;         /* v2: to be told in the answer; NULL */
    bool binary;            /* v2: the answer's tensor comes as bytes */
};

/* Open Inference Protocol, version 2. `header_len`: Inference-Header-Content-Length, the JSON at
 * the body's beginning; < 0: all of it is JSON; 0: nothing is, the body is the tensor. */
int fl_ask_read_v2(struct fl_arena *arena, const struct fl_signature *signature, const char *body,
                   size_t len, int64_t header_len, struct fl_ask *ask, struct fl_error *err);
/* MLflow's /invocations. */
int fl_ask_read_invocations(struct fl_arena *arena, const struct fl_signature *signature,
                            const char *body, size_t len, struct fl_ask *ask, struct fl_error *err);
int fl_ask_read_csv(struct fl_arena *arena, const struct fl_signature *signature, const char *body,
                    size_t len, struct fl_ask *ask, struct fl_error *err);
/* KServe's version 1: {"instances": […]}. */
int fl_ask_read_instances(struct fl_arena *arena, const struct fl_signature *signature,
                          const char *body, size_t len, struct fl_ask *ask, struct fl_error *err);

#endif
