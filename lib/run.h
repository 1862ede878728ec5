/* Runs another program to its end: text in, text out, a deadline, and nothing left behind.
 *
 * The program is the leader of a process group of its own, has only the three standard streams and
 * the environment it is given, and is killed with its whole group at the deadline, when it is
 * cancelled, or when it says more than it may. Blocks; any thread. What a program is given and says
 * may be secret: nothing of it is logged. */
#ifndef FL_LIB_RUN_H
#define FL_LIB_RUN_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ends a run from another thread; may be used once, and before the run has begun. */
struct fl_run_cancel;
int fl_run_cancel_create(struct fl_run_cancel **ret_cancel, struct fl_error *err);
void fl_run_cancel_destroy(struct fl_run_cancel *cancel);
void fl_run_cancel(struct fl_run_cancel *cancel);
FL_DEFINE_CLEANUP(struct fl_run_cancel, fl_run_cancel_destroy)

struct fl_run_options {
    const char *program;                  /* a path, or FL_RUN_SELF */
    const char *const *argv, *const *env; /* end in NULL; env NULL: an empty one */
    const void *input;
    size_t input_len;
    size_t output_max, errors_max; /* beyond: output is TOO_LARGE, errors are cut */
    /* Gets the output as it comes, which is then not in the result; the bound is on all of it. May
     * be NULL. */
    void (*heard)(void *user, const char *data, size_t len);
    bool together; /* errors come with the output, in the order in which they were written */
    bool (*keep_going)(void *user); /* asked every second; false cancels. May be NULL. */
    void *user;
    int64_t timeout_ms;
    struct fl_run_cancel *cancel; /* may be NULL */
};
#define FL_RUN_SELF "/proc/self/exe" /* this program, also where its file was replaced since */

struct fl_run_result {
    struct fl_bytes *output, *errors;
    int status; /* of exit; -1: a signal */
    int signum; /* 0: exited */
};
void fl_run_result_finish(struct fl_run_result *result);

/* TIMEOUT at the deadline, CONFLICT where cancelled, UNAVAILABLE where it cannot be started; then
 * *ret_result holds the errors it wrote. A program that fails is no error: look at status. Finish
 * the result in any case. */
int fl_run(const struct fl_run_options *options, struct fl_run_result *ret_result,
           struct fl_error *err);

/* For a program that reads what strangers sent: bounds on what it can use up, set by itself when it
 * begins. It dies with its parent, leaves no core, gains no privileges, and has no environment but
 * HOME, which is `home`. */
struct fl_run_confinement {
    const char *home;
    size_t memory_bytes, file_bytes; /* address space; largest file it may write. 0: no bound */
    int64_t timeout_ms;              /* then it ends by itself, whoever has forgotten it */
};
int fl_run_confine(const struct fl_run_confinement *confinement, struct fl_error *err);

#endif
