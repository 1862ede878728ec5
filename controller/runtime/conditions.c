/* Conditions of the object of a pass, and the three that sum them up. */
#include "controller/runtime/internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#define MESSAGE_MAX 32768 /* as the schema has it */

const struct fl_condition *fl_condition_find(const struct fl_condition_list *conditions,
                                             const char *type)
{
    for (size_t i = 0; i < conditions->count; i++)
        if (fl_streq(conditions->items[i].type, type))
            return &conditions->items[i];
    return NULL;
}

struct fl_condition_list *fl_pass_conditions(const struct fl_controller *controller, void *object)
{
    return (struct fl_condition_list *)((char *)object + controller->ops->conditions_offset);
}

static struct fl_condition_list *conditions_of(struct fl_reconcile *rc)
{
    return fl_pass_conditions(rc->pass->controller, rc->pass->object);
}

/* A list may have been decoded from elsewhere: it grows in the arena. */
static struct fl_condition *add_condition(struct fl_reconcile *rc, const char *type)
{
    struct fl_condition_list *list = conditions_of(rc);
    struct fl_condition *items = fl_new_array(rc->arena, struct fl_condition, list->count + 1);

    if (list->count > 0)
        memcpy(items, list->items, list->count * sizeof(*items));
    items[list->count].type = fl_arena_strdup(rc->arena, type);
    list->items = items;
    return &items[list->count++];
}

static const char *cut(struct fl_reconcile *rc, const char *message)
{
    size_t len = strlen(message);

    if (len <= MESSAGE_MAX)
        return fl_arena_strdup(rc->arena, message);
    return fl_arena_strndup(rc->arena, message, fl_utf8_cut(message, len, MESSAGE_MAX));
}

void fl_condition_set(struct fl_reconcile *rc, const char *type, enum fl_condition_status status,
                      const char *reason, const char *message)
{
    struct fl_condition *condition =
        (struct fl_condition *)fl_condition_find(conditions_of(rc), type);

    assert(reason && reason[0]);

    if (!condition)
        condition = add_condition(rc, type);
    if (condition->status != status || !condition->last_transition_time)
        condition->last_transition_time = rc->pass->now;
    condition->status = status;
    condition->reason = fl_arena_strdup(rc->arena, reason);
    condition->message = cut(rc, message);
    condition->observed_generation = rc->pass->meta->generation;
    condition->has_observed_generation = true;
}

void fl_condition_drop(struct fl_reconcile *rc, const char *type)
{
    struct fl_condition_list *list = conditions_of(rc);
    const struct fl_condition *found = fl_condition_find(list, type);
    size_t at;

    if (!found)
        return;
    at = (size_t)(found - list->items);
    memmove(&list->items[at], &list->items[at + 1], (list->count - at - 1) * sizeof(*list->items));
    list->count--;
}

static bool is_the_runners(const char *condition)
{
    return fl_streq(condition, FL_CONDITION_READY) ||
           fl_streq(condition, FL_CONDITION_RECONCILING) ||
           fl_streq(condition, FL_CONDITION_STALLED);
}

/* Returns the message. */
static const char *set_printed(struct fl_reconcile *rc, const char *condition,
                               enum fl_condition_status status, const char *reason, const char *fmt,
                               va_list ap)
{
    FL_CLEANUP(fl_freep) char *text = NULL;
    const char *message;

    assert(!condition || !is_the_runners(condition));

    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    message = cut(rc, text);
    if (condition)
        fl_condition_set(rc, condition, status, reason, message);
    return message;
}

static void set_cause(struct fl_reconcile *rc, const char *reason, const char *message)
{
    rc->pass->cause =
        (struct fl_cause){.reason = fl_arena_strdup(rc->arena, reason), .message = message};
}

void fl_true(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
             ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)set_printed(rc, condition, FL_CONDITION_STATUS_TRUE, reason, fmt, ap);
    va_end(ap);
}

void fl_false(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
              ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)set_printed(rc, condition, FL_CONDITION_STATUS_FALSE, reason, fmt, ap);
    va_end(ap);
}

int fl_not_yet(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
               ...)
{
    const char *message;
    va_list ap;

    va_start(ap, fmt);
    message = set_printed(rc, condition, FL_CONDITION_STATUS_FALSE, reason, fmt, ap);
    va_end(ap);
    set_cause(rc, reason, message);
    return FL_STEP_WAIT;
}

int fl_stalled(struct fl_reconcile *rc, const char *condition, const char *reason, const char *fmt,
               ...)
{
    const char *message;
    va_list ap;

    va_start(ap, fmt);
    message = set_printed(rc, condition, FL_CONDITION_STATUS_FALSE, reason, fmt, ap);
    va_end(ap);
    set_cause(rc, reason, message);
    return FL_STEP_STALLED;
}

int fl_failed(struct fl_reconcile *rc, const char *condition, const char *reason,
              struct fl_error *err)
{
    const char *message = cut(rc, err->msg);

    assert(!is_the_runners(condition));

    fl_condition_set(rc, condition, FL_CONDITION_STATUS_FALSE, reason, message);
    set_cause(rc, reason, message);
    return fl_error_negative(err->code);
}

void fl_condition_remove(struct fl_reconcile *rc, const char *condition)
{
    assert(!is_the_runners(condition));

    fl_condition_drop(rc, condition);
}

void fl_ready_as(struct fl_reconcile *rc, const char *reason, const char *fmt, ...)
{
    FL_CLEANUP(fl_freep) char *text = NULL;
    va_list ap;
    int r;

    va_start(ap, fmt);
    r = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (r < 0)
        abort();
    rc->pass->ready =
        (struct fl_cause){.reason = fl_arena_strdup(rc->arena, reason), .message = cut(rc, text)};
}

/* What each kind of progress says; a reason or message of NULL is the cause's. */
static const struct summary {
    enum fl_condition_status ready;
    const char *ready_reason, *ready_message;
    const char *reconciling; /* reason; NULL: it is not */
    bool stalled;
} summaries[] = {
    [FL_PROGRESS_DONE] = {.ready = FL_CONDITION_STATUS_TRUE},
    [FL_PROGRESS_WAIT] = {.ready = FL_CONDITION_STATUS_FALSE, .reconciling = "Progressing"},
    [FL_PROGRESS_STALLED] = {.ready = FL_CONDITION_STATUS_FALSE, .stalled = true},
    [FL_PROGRESS_RETRYING] = {.ready = FL_CONDITION_STATUS_FALSE,
                              .reconciling = "ProgressingWithRetry"},
    [FL_PROGRESS_FAILED] = {.ready = FL_CONDITION_STATUS_FALSE, .stalled = true},
    [FL_PROGRESS_SUSPENDED] = {.ready = FL_CONDITION_STATUS_FALSE,
                               .ready_reason = "Suspended",
                               .ready_message = "spec.suspend is set"},
    [FL_PROGRESS_SUSPENDING] = {.ready = FL_CONDITION_STATUS_FALSE,
                                .ready_reason = "Suspended",
                                .reconciling = "Suspending"},
    [FL_PROGRESS_DELETING] = {.ready = FL_CONDITION_STATUS_FALSE,
                              .ready_reason = "Deleting",
                              .reconciling = "Deleting"},
    [FL_PROGRESS_DELETE_RETRYING] = {.ready = FL_CONDITION_STATUS_FALSE,
                                     .ready_reason = "Deleting",
                                     .reconciling = "ProgressingWithRetry"},
    [FL_PROGRESS_DELETE_STALLED] = {.ready = FL_CONDITION_STATUS_FALSE,
                                    .ready_reason = "Deleting",
                                    .stalled = true},
};

static void set_observed_generation(struct fl_reconcile *rc)
{
    const struct fl_kind_ops *ops = rc->pass->controller->ops;
    char *object = rc->pass->object;

    *(int64_t *)(void *)(object + ops->observed_generation_offset) = rc->pass->meta->generation;
    *(bool *)(object + ops->has_observed_generation_offset) = true;
}

static void set_or_drop(struct fl_reconcile *rc, const char *condition, const char *reason,
                        const char *message)
{
    if (reason)
        fl_condition_set(rc, condition, FL_CONDITION_STATUS_TRUE, reason, message);
    else
        fl_condition_drop(rc, condition);
}

void fl_summarize(struct fl_reconcile *rc, enum fl_progress progress)
{
    const struct summary *summary = &summaries[progress];
    struct fl_cause cause = progress == FL_PROGRESS_DONE ? rc->pass->ready : rc->pass->cause;
    const char *reason = fl_str_or(summary->ready_reason, cause.reason);
    const char *message = fl_str_or(fl_str_or(summary->ready_message, cause.message), "");
    const char *stalled = summary->stalled ? fl_str_or(cause.reason, reason) : NULL;

    assert(reason); /* whoever says "not yet" says why */

    set_observed_generation(rc);
    fl_condition_set(rc, FL_CONDITION_READY, summary->ready, reason, message);
    set_or_drop(rc, FL_CONDITION_RECONCILING, summary->reconciling, message);
    set_or_drop(rc, FL_CONDITION_STALLED, stalled, message);
}
