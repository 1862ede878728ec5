#include "controller/source/git_internal.h"

#include "lib/run.h"

#include <inttypes.h>
#include <signal.h>

/* A child ends by itself at its deadline; it is killed where it does not. */
#define GRACE_MS       2000
#define COMPLAINTS_MAX 4096

static int no_answer(const struct fl_run_result *result, struct fl_error *err)
{
    if (result->signum > 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the fetch was ended by signal %d",
                            result->signum);
    return fl_error_set(err, FL_E_INTERNAL, "the fetch ended with status %d and no answer",
                        result->status);
}

int fl_git_child_run(const struct fl_bytes *request, int64_t timeout_ms,
                     struct fl_run_cancel *cancel, json_t **ret_answer,
                     struct fl_run_result *ret_result, struct fl_error *err)
{
    static const char *const argv[] = {"flops", FL_GIT_FETCH_COMMAND, NULL};
    const struct fl_run_options options = {
        .program = FL_RUN_SELF,
        .argv = argv,
        .input = request->data,
        .input_len = request->len,
        .output_max = FL_GIT_ANSWER_MAX,
        .errors_max = COMPLAINTS_MAX,
        .timeout_ms = timeout_ms + GRACE_MS,
        .cancel = cancel,
    };
    int r = fl_run(&options, ret_result, err);

    if (r == FL_E_TIMEOUT || (r == 0 && ret_result->signum == SIGALRM))
        return fl_error_set(err, FL_E_TIMEOUT, "the remote did not answer within %" PRId64 " ms",
                            timeout_ms);
    if (r < 0)
        return r;
    if (ret_result->status != 0 || ret_result->output->len == 0)
        return no_answer(ret_result, err);
    return fl_json_parse(ret_result->output->data, ret_result->output->len, NULL, NULL, NULL,
                         ret_answer, err);
}
