/* What a builder's child has said so far (build_child.h), as far as it is believed: the child reads
 * strangers' archives, so everything has a bound, and what is no line of the protocol is left out.
 * The answer is apart until the child has ended: it is not over before. One thread at a time. */
#ifndef FL_RECONCILERS_BUILDER_HEARD_H
#define FL_RECONCILERS_BUILDER_HEARD_H

#include "lib/buf.h"
#include "reconcilers/imagebuild/builder.h"

struct fl_builder_heard {
    struct fl_arena *arena; /* of all texts */
    struct fl_builder_stage stages[FL_BUILD_STAGES_MAX];
    size_t stage_count;
    struct fl_buf tail; /* the newest lines of the log */
    struct fl_buf line; /* what has come of the next line */

    enum fl_builder_state answer;    /* NONE, DONE or FAILED; the first counts */
    struct fl_error err;             /* FAILED */
    const char *failed_stage;        /* FAILED; may be NULL */
    struct fl_builder_result result; /* DONE */
};

void fl_builder_heard_init(struct fl_builder_heard *heard);
void fl_builder_heard_finish(struct fl_builder_heard *heard);
void fl_builder_heard_take(struct fl_builder_heard *heard, const char *data, size_t len,
                           int64_t now_us);

#endif
