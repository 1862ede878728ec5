/* What becomes of an ImageBuild that is not done: a pure function of what its status says, what the
 * builder knows, and the time. Nothing here can fail. */
#ifndef FL_RECONCILERS_IMAGEBUILD_DECIDE_H
#define FL_RECONCILERS_IMAGEBUILD_DECIDE_H

#include "reconcilers/imagebuild/builder.h"

enum fl_imagebuild_action {
    FL_IMAGEBUILD_BEGIN = 1, /* the attempt */
    FL_IMAGEBUILD_FOLLOW,    /* it waits for others, or runs */
    FL_IMAGEBUILD_SHOW,      /* it is built */
    FL_IMAGEBUILD_WAIT,      /* until the next attempt may begin */
    FL_IMAGEBUILD_GIVE_UP,
    FL_IMAGEBUILD_STAY, /* it was given up before, and nothing has changed since */
};

struct fl_imagebuild_facts {
    int64_t attempts; /* begun so far; the builder is asked for the last */
    int64_t retry_limit;
    bool given_up; /* as its status says */
    bool edited;   /* the spec is newer than the status */
    enum fl_builder_state state;
    int failure; /* FAILED: the error's code */
    int64_t ended_us, now_us;
};
struct fl_imagebuild_decision {
    enum fl_imagebuild_action action;
    int64_t attempt; /* BEGIN: this one; WAIT: the one that comes next */
    int64_t wait_ms; /* WAIT */
};
/* A control plane that begins anew begins the attempt anew that was under way; what was given up
 * stays so until somebody edits the object, who then has one more attempt, at least. */
struct fl_imagebuild_decision fl_imagebuild_decide(const struct fl_imagebuild_facts *facts);

#endif
