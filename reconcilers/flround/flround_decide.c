#include "reconcilers/flround/flround_decide.h"

#include "lib/str.h"

#include <string.h>

static bool is_true(const struct fl_round *round, const char *type)
{
    const struct fl_condition_list *list = &round->status.conditions;

    for (size_t i = 0; i < list->count; i++)
        if (fl_streq(list->items[i].type, type))
            return list->items[i].status == FL_CONDITION_STATUS_TRUE;
    return false;
}

static bool is_same(const struct fl_round *a, const struct fl_round *b)
{
    return fl_streq(a->meta.uid, b->meta.uid);
}

/* --- numbers -------------------------------------------------------------------------------- */

int64_t fl_flround_number_of(const struct fl_round *round)
{
    if (round->spec.has_index)
        return round->spec.index;
    return round->status.has_index ? round->status.index : 0;
}

int64_t fl_flround_free_number(const struct fl_flround_world *world)
{
    int64_t last = 0;

    for (size_t i = 0; i < world->round_count; i++) {
        const int64_t number =
            is_same(world->rounds[i], world->round) ? 0 : fl_flround_number_of(world->rounds[i]);

        last = number > last ? number : last;
    }
    for (size_t i = 0; i < world->model_count; i++)
        if (world->models[i]->spec.round > last)
            last = world->models[i]->spec.round;
    return last + 1;
}

/* Of two with one number: who is done, has begun, was given the number, in this order. */
static bool comes_before(const struct fl_round *a, const struct fl_round *b)
{
    const bool done = is_true(a, "Succeeded"), other_done = is_true(b, "Succeeded");
    const bool begun = a->status.start_time, other_begun = b->status.start_time;

    if (done != other_done)
        return done;
    if (begun != other_begun)
        return begun;
    if (a->spec.has_index != b->spec.has_index)
        return a->spec.has_index;
    return strcmp(a->meta.uid, b->meta.uid) < 0;
}

enum fl_flround_turn fl_flround_turn(const struct fl_flround_world *world, int64_t number,
                                     const struct fl_round **ret_other)
{
    const struct fl_round *lowest = NULL;
    int64_t least = number;

    for (size_t i = 0; i < world->round_count; i++) {
        const struct fl_round *other = world->rounds[i];
        const int64_t at = fl_flround_number_of(other);

        if (is_same(other, world->round) || at == 0)
            continue;
        if (at == number && comes_before(other, world->round)) {
            *ret_other = other;
            return FL_FLROUND_TAKEN;
        }
        if (at < least && !is_true(other, "Succeeded")) {
            least = at;
            lowest = other;
        }
    }
    *ret_other = lowest;
    return lowest ? FL_FLROUND_LATER : FL_FLROUND_OURS;
}

const struct fl_modelversion *fl_flround_committed(const struct fl_flround_world *world,
                                                   int64_t number)
{
    for (size_t i = 0; i < world->model_count; i++)
        if (world->models[i]->spec.round == number)
            return world->models[i];
    return NULL;
}

/* --- the base ------------------------------------------------------------------------------- */

static void take(struct fl_flround_base *base, const char *digest, bool has_size, int64_t size)
{
    *base = (struct fl_flround_base){
        .kind = FL_FLROUND_BASE_MODEL, .digest = digest, .size = has_size ? size : 0};
}

/* The last model before this round, as models and rounds tell. */
static bool find_last(const struct fl_flround_world *world, int64_t number,
                      struct fl_flround_base *base)
{
    int64_t last = -1;

    for (size_t i = 0; i < world->model_count; i++) {
        const struct fl_modelversion_spec *model = &world->models[i]->spec;

        if (model->round >= number || model->round <= last)
            continue;
        last = model->round;
        take(base, model->digest, model->has_size, model->size);
    }
    for (size_t i = 0; i < world->round_count; i++) {
        const struct fl_round *round = world->rounds[i];
        const int64_t at = fl_flround_number_of(round);

        if (at >= number || at <= last || !is_true(round, "Succeeded") ||
            !round->status.model.digest)
            continue;
        last = at;
        take(base, round->status.model.digest, round->status.model.has_size,
             round->status.model.size);
    }
    return last >= 0;
}

static void take_other_projects(const struct fl_project_training_initial_model_project *from,
                                const struct fl_project *source, struct fl_arena *arena,
                                struct fl_flround_base *base)
{
    const bool latest = from->select == FL_PROJECT_TRAINING_INITIAL_MODEL_PROJECT_SELECT_LATEST;
    const struct fl_model *model = NULL;

    if (source)
        model = latest ? &source->status.model : &source->status.best_model;
    if (model && model->digest)
        take(base, model->digest, model->has_size, model->size);
    else
        *base = (struct fl_flround_base){
            .kind = FL_FLROUND_BASE_MISSING,
            .message = fl_arena_printf(arena, "project %s has no %s model yet", from->name,
                                       latest ? "latest" : "best")};
}

void fl_flround_base(const struct fl_flround_world *world, int64_t number,
                     const struct fl_project *source, struct fl_arena *arena,
                     struct fl_flround_base *ret_base)
{
    const struct fl_project_training *training = &world->project->spec.training;
    const struct fl_project_training_initial_model *initial = &training->initial_model;

    *ret_base = (struct fl_flround_base){.kind = FL_FLROUND_BASE_SEED};
    if (world->round->spec.has_base_model) {
        take(ret_base, world->round->spec.base_model.digest, false, 0);
        return;
    }
    if (find_last(world, number, ret_base) || !training->has_initial_model)
        return;
    if (initial->has_project)
        take_other_projects(&initial->project, source, arena, ret_base);
    else if (initial->digest)
        take(ret_base, initial->digest, false, 0);
    else if (initial->uri)
        *ret_base = (struct fl_flround_base){.kind = FL_FLROUND_BASE_IMPORT, .uri = initial->uri};
}

/* --- runs ----------------------------------------------------------------------------------- */

static bool is_same_request(const char *a, const char *b)
{
    a = fl_str_or(a, "");
    b = fl_str_or(b, "");
    return strncmp(a, b, FL_FLROUND_RECONCILE_MAX) == 0;
}

bool fl_flround_is_asked_anew(const struct fl_flround_world *world)
{
    const struct fl_round_status *status = &world->round->status;

    return status->has_project_generation &&
           (status->project_generation != world->project->meta.generation ||
            !is_same_request(status->last_handled_reconcile_at, world->reconcile_at));
}

static bool has_failed(const struct fl_round_report *report)
{
    return report->phase == FL_ROUND_FAILED || report->phase == FL_ROUND_ABORTED;
}

enum fl_flround_run fl_flround_run(const struct fl_flround_world *world,
                                   const struct fl_round_report *report, int64_t *ret_run)
{
    const struct fl_round_status *status = &world->round->status;
    const int64_t wanted = status->has_run ? status->run : 0;

    *ret_run = report->run;
    if (!has_failed(report))
        return FL_FLROUND_RUN_GOES_ON;
    if (wanted > report->run) {
        *ret_run = wanted;
        return FL_FLROUND_RUN_START;
    }
    *ret_run = report->run + 1;
    if (!status->start_time) /* it was another object's: this one has not begun yet */
        return FL_FLROUND_RUN_RECORD;
    if (fl_streq(report->reason, FL_FLROUND_LOST_BASE) && report->run < FL_FLROUND_LOST_BASE_MAX)
        return FL_FLROUND_RUN_RECORD;
    return fl_flround_is_asked_anew(world) ? FL_FLROUND_RUN_RECORD : FL_FLROUND_RUN_FAILED;
}
