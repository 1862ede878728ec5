/* What a pass tells. */
#include "lib/str.h"
#include "reconcilers/flproject/flproject_internal.h"

static const char *const types[] = {"SourceReady", "ImageReady", "TiersReady",  "LearnersReady",
                                    "Training",    "Complete",   "ModelServed", "Tracked"};

static const struct fl_flproject_told *find_told(const struct fl_flproject_decision *decision,
                                                 const char *type)
{
    for (size_t i = 0; i < decision->told_count; i++)
        if (fl_streq(decision->told[i].type, type))
            return &decision->told[i];
    return NULL;
}

/* What is not told holds no more; whether it is complete is always said. */
static void tell(struct fl_flproject_view *view, const char *type)
{
    const struct fl_flproject_decision *decision = &view->decision;
    const struct fl_flproject_told *told = find_told(decision, type);

    if (told && told->holds)
        fl_true(view->rc, type, told->reason, "%s", told->message);
    else if (told)
        fl_false(view->rc, type, told->reason, "%s", told->message);
    else if (strcmp(type, "Complete") == 0 && decision->verdict != FL_FLPROJECT_DONE)
        fl_false(view->rc, type, decision->cause.reason, "%s", decision->cause.message);
    else
        fl_condition_remove(view->rc, type);
}

static void fill_status(struct fl_flproject_view *view)
{
    struct fl_project_status *status = &view->project->status;
    struct fl_project_status before = *status;

    *status = view->decision.status;
    status->conditions = before.conditions;
    status->observed_generation = before.observed_generation;
    status->has_observed_generation = before.has_observed_generation;
}

int fl_flproject_report(struct fl_flproject_view *view)
{
    const struct fl_flproject_decision *decision = &view->decision;
    const struct fl_flproject_told *cause = &decision->cause;

    fill_status(view);
    for (size_t i = 0; i < FL_COUNT_OF(types); i++)
        if (decision->verdict == FL_FLPROJECT_DONE || !fl_streq(types[i], cause->type) ||
            find_told(decision, types[i]))
            tell(view, types[i]);
    switch (decision->verdict) {
    case FL_FLPROJECT_DONE:
        fl_ready_as(view->rc, "Complete", "training is complete after %s rounds",
                    decision->status.rounds.summary);
        return FL_STEP_DONE;
    case FL_FLPROJECT_NOT_YET:
        return fl_not_yet(view->rc, cause->type, cause->reason, "%s", cause->message);
    default:
        return fl_stalled(view->rc, cause->type, cause->reason, "%s", cause->message);
    }
}
