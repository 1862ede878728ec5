#include "reconcilers/gitsync/gitsync_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define ERRORS_MAX      50
#define FILE_MAX        1024
#define OBJECT_MAX      512
#define MESSAGE_MAX     1024
#define RETRY_CAP_MS    600000
#define INTERVAL_MIN_MS 1000
#define RETRY_MIN_MS    100
#define TIMEOUT_MS      120000
#define TOLD_LATE_MS    5000
#define SUMMARY_FAULTS  1 /* told in the condition; the rest is in status.errors */

/* Texts from outside, as a status can hold them and a terminal can show them: names of files may
 * have line ends in them, and what a terminal obeys. */
const char *fl_sync_cut(struct fl_sync *sync, const char *text, size_t max)
{
    struct fl_buf buf;
    const char *end, *result;
    size_t len;

    if (!text)
        return NULL;
    fl_buf_init(&buf, 0);
    for (end = text + strlen(text); text < end;) {
        size_t width = fl_utf8_width(text, (size_t)(end - text));
        bool is_control = (unsigned char)*text < ' ' || *text == 0x7f;

        fl_buf_append(&buf, is_control ? " " : width ? text : "?", width ? width : 1);
        text += width ? width : 1;
    }
    len = fl_utf8_cut(fl_buf_text(&buf), buf.len, max);
    result = fl_arena_strndup(sync->rc->arena, fl_buf_text(&buf), len);
    fl_buf_finish(&buf);
    return result;
}

/* Inventory */

void fl_sync_set_inventory(struct fl_sync *sync, const struct fl_inventory *inventory)
{
    struct fl_gitsync_status_inventory_list *list = &sync->object->status.inventory;

    list->items =
        fl_new_array(sync->rc->arena, struct fl_gitsync_status_inventory, inventory->count);
    list->count = inventory->count;
    for (size_t i = 0; i < inventory->count; i++) {
        const struct fl_inventory_item *item = &inventory->items[i];

        list->items[i] = (struct fl_gitsync_status_inventory){
            item->group, item->version, item->kind, item->ns, item->name, item->file};
    }
}

void fl_sync_get_inventory(struct fl_sync *sync, struct fl_inventory *ret_inventory)
{
    const struct fl_gitsync_status_inventory_list *list = &sync->object->status.inventory;

    *ret_inventory = (struct fl_inventory){
        fl_new_array(sync->rc->arena, struct fl_inventory_item, list->count), list->count};
    for (size_t i = 0; i < list->count; i++) {
        const struct fl_gitsync_status_inventory *item = &list->items[i];

        ret_inventory->items[i] = (struct fl_inventory_item){
            item->group, item->version, item->kind, item->namespace, item->name, item->file};
    }
}

/* Results */

static void set_counts(struct fl_sync *sync, const struct fl_applyset_result *result)
{
    struct fl_gitsync_status *status = &sync->object->status;

    status->has_objects = true;
    status->objects = (struct fl_gitsync_status_objects){
        .total = (int64_t)result->total,
        .has_total = true,
        .created = (int64_t)result->created,
        .has_created = true,
        .changed = (int64_t)result->changed,
        .has_changed = true,
        .unchanged = (int64_t)result->unchanged,
        .has_unchanged = true,
        .pruned = (int64_t)result->pruned,
        .has_pruned = true,
        .failed = (int64_t)result->failed,
        .has_failed = true,
        .summary =
            fl_arena_printf(sync->rc->arena, "%zu/%zu",
                            result->created + result->changed + result->unchanged, result->total),
    };
}

static void set_errors(struct fl_sync *sync, const struct fl_applyset_result *result)
{
    size_t count = result->fault_count < ERRORS_MAX ? result->fault_count : ERRORS_MAX;
    struct fl_gitsync_status_error *items =
        fl_new_array(sync->rc->arena, struct fl_gitsync_status_error, count);

    for (size_t i = 0; i < count; i++) {
        const struct fl_fault *fault = &result->faults[i];

        items[i] = (struct fl_gitsync_status_error){
            .file = fl_sync_cut(sync, fault->file, FILE_MAX),
            .line = (int64_t)fault->line,
            .has_line = fault->line > 0 && fault->line <= INT32_MAX,
            .object = fl_sync_cut(sync, fault->object, OBJECT_MAX),
            .message = fl_sync_cut(sync, fault->message, MESSAGE_MAX),
        };
    }
    sync->object->status.errors =
        (struct fl_gitsync_status_error_list){count ? items : NULL, count};
}

void fl_sync_set_result(struct fl_sync *sync, const struct fl_applyset_result *result)
{
    set_counts(sync, result);
    set_errors(sync, result);
    fl_sync_set_inventory(sync, &result->inventory);
}

static const char *tell_fault(struct fl_sync *sync, const struct fl_fault *fault)
{
    const char *place = "";

    if (fault->file && fault->line)
        place = fl_arena_printf(sync->rc->arena, "%s, line %zu: ", fault->file, fault->line);
    else if (fault->file)
        place = fl_arena_printf(sync->rc->arena, "%s: ", fault->file);
    return fl_sync_cut(sync,
                       fl_arena_printf(sync->rc->arena, "%s%s%s%s", place,
                                       fl_str_or(fault->object, ""), fault->object ? ": " : "",
                                       fault->message),
                       2 * MESSAGE_MAX);
}

/* The first one, and how many more. */
const char *fl_sync_tell_faults(struct fl_sync *sync, const struct fl_applyset_result *result)
{
    const char *first = result->fault_count ? tell_fault(sync, &result->faults[0]) : "";

    if (result->fault_count <= SUMMARY_FAULTS)
        return first;
    return fl_arena_printf(sync->rc->arena, "%s (and %zu more)", first,
                           result->fault_count - SUMMARY_FAULTS);
}

/* Time */

int64_t fl_sync_duration_ms(const char *text, int64_t least_ms, int64_t fallback_ms)
{
    int64_t ms;

    if (!text || !fl_duration_parse(text, &ms))
        return fallback_ms;
    return ms < least_ms ? least_ms : ms;
}

int64_t fl_sync_interval_ms(const struct fl_sync *sync)
{
    return fl_sync_duration_ms(sync->object->spec.interval, INTERVAL_MIN_MS, 60000);
}

static int64_t with_jitter(const struct fl_sync *sync, int64_t ms)
{
    return ms + (int64_t)fl_random_below(sync->rc->env, (uint64_t)ms / 10 + 1);
}

/* Doubles from retryInterval up to the longer of interval and ten minutes. */
static int64_t back_off_ms(const struct fl_sync *sync, int64_t failures)
{
    int64_t interval = fl_sync_interval_ms(sync);
    int64_t cap = interval > RETRY_CAP_MS ? interval : RETRY_CAP_MS;
    int64_t ms = fl_sync_duration_ms(sync->object->spec.retry_interval, RETRY_MIN_MS, 10000);

    for (int64_t i = 1; i < failures && ms < cap; i++)
        ms *= 2;
    return ms < cap ? ms : cap;
}

static const char *time_after(struct fl_sync *sync, int64_t delay_ms)
{
    char text[FL_TIME_SIZE];

    fl_time_format(fl_realtime_us(sync->rc->env) + delay_ms * 1000, text);
    return fl_arena_strdup(sync->rc->arena, text);
}

/* When all is well status says nothing of the next time: it would be written each time. */
void fl_sync_end_try(struct fl_sync *sync, bool good)
{
    struct fl_gitsync_status *status = &sync->object->status;
    struct fl_sync_memory *memory = sync->memory;
    int64_t now_ms = fl_monotonic_ms(sync->rc->env), delay_ms;

    status->failures = good ? 0 : status->failures < INT32_MAX ? status->failures + 1 : INT32_MAX;
    status->has_failures = true;
    delay_ms =
        good ? with_jitter(sync, fl_sync_interval_ms(sync)) : back_off_ms(sync, status->failures);
    status->next_attempt_time = good ? NULL : time_after(sync, delay_ms);
    if (memory->asked_for)
        status->last_handled_reconcile_at = fl_arena_strdup(sync->rc->arena, memory->asked_for);
    memory->try_open = false;
    memory->fetch_due_ms = now_ms + delay_ms;
    memory->apply_due_ms = now_ms + with_jitter(sync, fl_sync_interval_ms(sync));
}

void fl_sync_requeue(struct fl_sync *sync)
{
    const struct fl_sync_memory *memory = sync->memory;
    int64_t now_ms = fl_monotonic_ms(sync->rc->env), due_ms = memory->fetch_due_ms;

    if (memory->waiting) /* the source tells; should that be lost, it has ended by then */
        due_ms =
            now_ms + TOLD_LATE_MS + fl_sync_duration_ms(sync->object->spec.timeout, 1, TIMEOUT_MS);
    else if (fl_sync_is_asked_for(sync))
        due_ms = now_ms;
    if (memory->live && memory->apply_due_ms < due_ms)
        due_ms = memory->apply_due_ms;
    fl_requeue_after(sync->rc, due_ms - now_ms);
}

/* Conditions */

static int say_again(struct fl_sync *sync, const char *type)
{
    const struct fl_condition *found = fl_condition_find(&sync->object->status.conditions, type);

    if (!found || found->status != FL_CONDITION_STATUS_FALSE)
        return FL_STEP_DONE;
    return fl_not_yet(sync->rc, type, fl_arena_strdup(sync->rc->arena, found->reason), "%s",
                      fl_arena_strdup(sync->rc->arena, found->message));
}

static int say_fetching(struct fl_sync *sync)
{
    return fl_not_yet(sync->rc, "Fetched", "Fetching", "fetching %s",
                      fl_sync_cut(sync, sync->object->spec.url, MESSAGE_MAX));
}

/* The first that is false is what keeps it from being ready. */
static int say_first_false(struct fl_sync *sync)
{
    static const char *const types[] = {"Fetched", "Verified", "Applied"};
    int r = FL_STEP_DONE;

    for (size_t i = 0; i < FL_COUNT_OF(types) && r == FL_STEP_DONE; i++)
        r = say_again(sync, types[i]);
    return r;
}

int fl_sync_sum_up(struct fl_sync *sync)
{
    const struct fl_gitsync_status *status = &sync->object->status;
    int r = say_first_false(sync);

    if (r == FL_STEP_DONE)
        fl_ready_as(sync->rc, "Applied", "%s is live: %" PRId64 " objects",
                    fl_str_or(status->last_applied_revision, "nothing"), status->objects.total);
    return r;
}

int fl_sync_repeat(struct fl_sync *sync)
{
    const struct fl_condition_list *conditions = &sync->object->status.conditions;
    const struct fl_condition *fetched = fl_condition_find(conditions, "Fetched");
    const struct fl_condition *applied = fl_condition_find(conditions, "Applied");

    if (!fetched || fetched->observed_generation != sync->object->meta.generation ||
        (fetched->status == FL_CONDITION_STATUS_TRUE && !applied))
        return say_fetching(sync);
    return fl_sync_sum_up(sync);
}

static char *tell(struct fl_sync *sync)
{
    const struct fl_gitsync_status *status = &sync->object->status;

    return fl_arena_printf(sync->rc->arena, "%s %s %s %s %" PRId64 " %zu %zu",
                           fl_str_or(status->last_attempted_revision, "-"),
                           fl_str_or(status->last_applied_revision, "-"),
                           fl_str_or(status->last_handled_reconcile_at, "-"),
                           fl_str_or(status->objects.summary, "-"), status->failures,
                           status->inventory.count, status->errors.count);
}

void fl_sync_note_told(struct fl_sync *sync)
{
    free(sync->memory->told);
    sync->memory->told = fl_strdup(tell(sync));
}

bool fl_sync_was_told(struct fl_sync *sync)
{
    return !sync->memory->told || strcmp(sync->memory->told, tell(sync)) == 0;
}
