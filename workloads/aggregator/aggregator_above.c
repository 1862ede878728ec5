/* Below a parent: the learner core beside ours, and the blobs that both need. */
#include "workloads/aggregator/aggregator_internal.h"

#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"

/* --- blobs that two cores need --- */

void program_hold(struct fl_aggregator *aggregator, const char *digest, uintptr_t who)
{
    uintptr_t bits;

    if (!digest || !aggregator->learner)
        return;
    bits = (uintptr_t)fl_map_get(aggregator->held, digest) | who;
    fl_map_put(aggregator->held, digest, (void *)bits);
}

void program_release(struct fl_aggregator *aggregator, const char *digest, uintptr_t who)
{
    const uintptr_t bits = (uintptr_t)fl_map_get(aggregator->held, digest) & ~who;
    struct fl_error err = {0};

    if (bits) {
        fl_map_put(aggregator->held, digest, (void *)bits);
        return;
    }
    (void)fl_map_remove(aggregator->held, digest);
    if (who == HELD_BY_UPLINK && fl_aggregator_needs(aggregator->core, digest))
        return; /* from an earlier life; the core releases it in its turn */
    if (fl_blobs_remove(aggregator->blobs, digest, &err) < 0)
        fl_log_warn(aggregator->program.env->log, "a model stays", FL_STR("error", err.msg));
}

static bool is_needed(void *user, const char *digest)
{
    const struct fl_aggregator *aggregator = user;

    return fl_map_get(aggregator->held, digest) || fl_aggregator_needs(aggregator->core, digest);
}

void program_sweep(struct fl_aggregator *aggregator)
{
    struct fl_error err = {0};

    if (fl_blobs_sweep(aggregator->blobs, is_needed, aggregator, &err) < 0)
        fl_log_warn(aggregator->program.env->log, "models of an earlier life stay",
                    FL_STR("error", err.msg));
}

/* --- the parent --- */

void program_parent_result(struct fl_aggregator *aggregator, const struct fl_parent_result *result)
{
    const int64_t now = program_now_ms(aggregator);
    struct fl_error err = {0};

    if (!aggregator->learner)
        return;
    if (result->ok)
        program_step(aggregator, result->evaluation ? FL_STEP_SCORE_READY : FL_STEP_SUM_READY);
    if (!result->ok) {
        (void)fl_error_set(&err, FL_E_UNAVAILABLE, "%s", fl_str_or(result->message, "it failed"));
        fl_learner_failed(aggregator->learner, now, aggregator->parent_ticket,
                          fl_str_or(result->reason, "RoundFailed"), &err);
    } else if (result->evaluation) {
        fl_learner_evaluated(aggregator->learner, now, aggregator->parent_ticket, &result->result);
    } else {
        program_hold(aggregator, result->offer.digest, HELD_BY_UPLINK);
        fl_learner_trained(aggregator->learner, now, aggregator->parent_ticket, &result->offer);
    }
    fl_uplink_pump(aggregator->uplink);
}

static void keep(struct fl_aggregator *aggregator, const struct fl_kept *kept)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_kept_encode(kept);
    struct fl_error err = {0};

    program_step(aggregator, FL_STEP_KEEPING);
    if (fl_file_write(aggregator->kept_path, text->data, text->len, 0600, &err) < 0)
        fl_log_warn(aggregator->program.env->log, "a partial sum would be lost in a restart",
                    FL_STR("error", err.msg));
    program_step(aggregator, FL_STEP_KEPT);
}

static void parent_task(struct fl_aggregator *aggregator, const struct fl_learner_action *action)
{
    program_step(aggregator, FL_STEP_ORDERED);
    aggregator->parent_ticket = action->ticket;
    program_hold(aggregator, action->task->model, HELD_BY_CORE | HELD_BY_UPLINK);
    if (action->task->kind == FL_TASK_INIT)
        fl_aggregator_parent_init(aggregator->core, program_now_ms(aggregator), action->task);
    else if (action->kind == FL_LEARNER_TRAIN)
        fl_aggregator_parent_fit(aggregator->core, program_now_ms(aggregator), action->task);
    else
        fl_aggregator_parent_evaluate(aggregator->core, program_now_ms(aggregator), action->task);
}

/* Of the learner core above. */
static void act_above(void *user, const struct fl_learner_action *action)
{
    struct fl_aggregator *aggregator = user;

    switch (action->kind) {
    case FL_LEARNER_TRAIN:
    case FL_LEARNER_EVALUATE:
        parent_task(aggregator, action);
        break;
    case FL_LEARNER_CANCEL:
        fl_aggregator_parent_cancel(aggregator->core, program_now_ms(aggregator));
        break;
    case FL_LEARNER_KEEP:
        keep(aggregator, action->kept);
        break;
    case FL_LEARNER_RELEASE:
        program_release(aggregator, action->digest, HELD_BY_UPLINK);
        break;
    case FL_LEARNER_ENDED:
        if (aggregator->leaving)
            aggregator->program.stopped(aggregator->program.user);
        else
            fl_aggregator_stop(aggregator->core, program_now_ms(aggregator), action->message);
        break;
    default:
        break; /* the uplink's */
    }
    program_pump(aggregator);
}

void fl_aggregator_leave(struct fl_aggregator *aggregator, const char *message)
{
    aggregator->leaving = true;
    if (!aggregator->learner) {
        aggregator->program.stopped(aggregator->program.user);
        return;
    }
    fl_learner_leave(aggregator->learner, program_now_ms(aggregator), message);
    fl_uplink_pump(aggregator->uplink);
}

static const struct fl_kept *load_kept(struct fl_aggregator *aggregator, struct fl_arena *arena)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_kept *kept = fl_new(arena, struct fl_kept);

    if (fl_file_read(aggregator->kept_path, FL_PROTOCOL_BODY_MAX, &text, NULL) < 0 ||
        fl_kept_decode(arena, text->data, text->len, kept, NULL) < 0 ||
        !fl_blobs_has(aggregator->blobs, kept->offer.digest))
        return NULL;
    program_hold(aggregator, kept->offer.digest, HELD_BY_UPLINK);
    return kept;
}

static int make_learner(struct fl_aggregator *aggregator, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_aggregator_program *program = &aggregator->program;
    struct fl_learner_options options = {.address = program->parent};

    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = options.join.name = program->core.id;
    options.join.project = program->core.project;
    options.join.aggregator = true;
    options.kept = load_kept(aggregator, arena);
    program->env->random(program->env->user, &options.seed, sizeof(options.seed));
    return fl_learner_create(&options, program_now_ms(aggregator), &aggregator->learner, err);
}

int program_open_parent(struct fl_aggregator *aggregator, struct fl_error *err)
{
    struct fl_uplink_options options = {.env = aggregator->program.env,
                                        .loop = aggregator->program.loop,
                                        .http = aggregator->program.parent_http,
                                        .blobs = aggregator->blobs,
                                        .act = act_above,
                                        .user = aggregator};
    int r;

    if (!aggregator->program.parent)
        return 0;
    r = make_learner(aggregator, err);
    options.core = aggregator->learner;
    return r < 0 ? r : fl_uplink_create(&options, &aggregator->uplink, err);
}
