#include "workloads/steps/steps.h"

#include "lib/str.h"

const struct fl_step_info fl_steps[] = {
#define FL_STEP_(NAME, name, who, what) [FL_STEP_##NAME] = {name, what, who},
    FL_STEPS(FL_STEP_)
#undef FL_STEP_
};

struct fl_request_steps fl_steps_of_request(const char *target)
{
    static const struct {
        const char *path;
        struct fl_request_steps steps;
    } requests[] = {
        {"/v1/join", {FL_STEP_JOIN_UNANSWERED, FL_STEP_JOINING, FL_STEP_JOINED}},
        {"/v1/task", {FL_STEP_TASK_UNANSWERED, FL_STEP_POLLING, FL_STEP_TASK_GIVEN}},
        {"/v1/updates", {FL_STEP_OFFER_UNANSWERED, FL_STEP_OFFERING, FL_STEP_OFFERED}},
        {"/v1/evaluations", {FL_STEP_RESULT_UNANSWERED, FL_STEP_REPORTING, FL_STEP_REPORTED}},
        {"/v1/rounds/", {FL_STEP_ROUND_UNANSWERED, FL_STEP_NONE, FL_STEP_NONE}},
    };

    for (size_t i = 0; i < FL_COUNT_OF(requests); i++)
        if (fl_str_has_prefix(target, requests[i].path))
            return requests[i].steps;
    return (struct fl_request_steps){FL_STEP_NONE, FL_STEP_NONE, FL_STEP_NONE};
}
