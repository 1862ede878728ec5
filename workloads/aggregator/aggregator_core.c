/* A life of the core, its actions, time. */
#include "workloads/aggregator/aggregator_core_internal.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- actions -------------------------------------------------------------------------------- */

struct fl_aggregator_action *act(struct fl_aggregator_core *core,
                                 enum fl_aggregator_action_kind kind)
{
    struct queued *queued = fl_calloc(1, sizeof(*queued));

    queued->action.kind = kind;
    TAILQ_INSERT_TAIL(&core->actions, queued, all);
    return &queued->action;
}

const char *act_text(struct fl_aggregator_core *core, const char *text)
{
    return text ? fl_arena_strdup(core->action_arena, text) : NULL;
}

static void queued_destroy(struct queued *queued)
{
    if (!queued)
        return;
    fl_bytes_unref(queued->action.body);
    free(queued);
}

/* What else is to be written goes with the first of it, so that one sync of a disk serves all that
 * has happened during the last. That is early for the actions between them, which does no harm: a
 * record tells what was decided, not what was carried out. */
static void gather_journal(struct fl_aggregator_core *core, struct fl_aggregator_action *first)
{
    struct queued *queued = TAILQ_FIRST(&core->actions);
    struct fl_buf lines;

    fl_buf_init(&lines, 0);
    fl_buf_append(&lines, first->body->data, first->body->len);
    while (queued && queued->action.kind != FL_AGGREGATOR_JOURNAL_REPLACE &&
           queued->action.kind != FL_AGGREGATOR_CUT) {
        struct queued *next = TAILQ_NEXT(queued, all);

        if (queued->action.kind == FL_AGGREGATOR_JOURNAL) {
            fl_buf_append(&lines, queued->action.body->data, queued->action.body->len);
            TAILQ_REMOVE(&core->actions, queued, all);
            queued_destroy(queued);
        }
        queued = next;
    }
    if (lines.len > first->body->len) {
        fl_bytes_unref(first->body);
        first->body = fl_buf_to_bytes(&lines);
    }
    fl_buf_finish(&lines);
}

const struct fl_aggregator_action *fl_aggregator_next(struct fl_aggregator_core *core)
{
    queued_destroy(FL_TAKE(core->lent));
    if (TAILQ_EMPTY(&core->actions) && answer_held(core))
        advance(core);
    flush_watchers(core);
    core->lent = TAILQ_FIRST(&core->actions);
    if (!core->lent) {
        fl_arena_reset(core->action_arena);
        return NULL;
    }
    TAILQ_REMOVE(&core->actions, core->lent, all);
    if (core->lent->action.kind == FL_AGGREGATOR_JOURNAL)
        gather_journal(core, &core->lent->action);
    return &core->lent->action;
}

void reply(struct fl_aggregator_core *core, uint64_t request, const struct fl_form *form,
           const void *message)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_REPLY);

    action->request = request;
    action->http_status = 200;
    action->body = fl_message_encode(form, message);
}

void reply_error(struct fl_aggregator_core *core, uint64_t request, const struct fl_error *err,
                 const char *reason)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_REPLY);

    action->request = request;
    action->http_status = fl_error_http_status(err->code);
    action->body = fl_protocol_error(err, reason);
}

void journal(struct fl_aggregator_core *core, const struct fl_record *record)
{
    struct fl_aggregator_action *action = act(core, FL_AGGREGATOR_JOURNAL);
    struct fl_buf line;

    fl_buf_init(&line, 0);
    fl_journal_write(&line, record);
    core->journal_len += line.len;
    action->record = (int)record->kind;
    action->body = fl_buf_to_bytes(&line);
    fl_buf_finish(&line);
}

static void replace_journal(struct fl_aggregator_core *core, const struct fl_journal_state *state)
{
    struct fl_buf text;

    fl_buf_init(&text, 0);
    fl_journal_compact(&text, state);
    core->journal_len = core->compact_len = text.len;
    act(core, FL_AGGREGATOR_JOURNAL_REPLACE)->body = fl_buf_to_bytes(&text);
    fl_buf_finish(&text);
}

/* Twice what cannot be shorter, so that it is not replaced for nothing again and again. */
static bool journal_is_long(const struct fl_aggregator_core *core)
{
    return (int64_t)core->journal_len > core->options.journal_bytes &&
           core->journal_len > 2 * core->compact_len;
}

static struct fl_texts keys_of(struct fl_arena *arena, const struct fl_map *map)
{
    struct fl_texts texts = {fl_new_array(arena, const char *, fl_map_count(map) + 1), 0};
    void *cursor = NULL, *value;

    while (fl_map_next(map, &cursor, &texts.items[texts.count], &value))
        texts.count++;
    return texts;
}

static void fill_counted(struct fl_arena *arena, const struct fl_map *counted,
                         struct fl_journal_state *state)
{
    void *cursor = NULL, *value;
    const char *key;

    state->counted = fl_new_array(arena, struct fl_counted, fl_map_count(counted) + 1);
    while (fl_map_next(counted, &cursor, &key, &value)) {
        char *end;
        int64_t round = strtoll(key, &end, 10);

        state->counted[state->counted_count++] = (struct fl_counted){end + 1, round};
    }
}

/* What the journal says, from what is known: for times when no attempt runs. */
static void fill_state(struct fl_arena *arena, const struct fl_aggregator_core *core,
                       struct fl_journal_state *state)
{
    enum fl_round_phase phase = core->status.phase;

    *state = (struct fl_journal_state){.life = core->life,
                                       .committed = core->committed,
                                       .model = text_or_null(core->model),
                                       .state = text_or_null(core->state),
                                       .rule = text_or_null(core->rule),
                                       .model_size = core->model_size,
                                       .contributors = core->contributors,
                                       .has_round = core->has_round,
                                       .stopped = core->stopped};
    fill_counted(arena, core->counted, state);
    if (!core->has_round)
        return;
    state->spec = core->spec;
    if (core->made_base) {
        state->base = core->spec.model;
        state->base_size = core->spec.model_size;
        state->spec.model = NULL;
        state->spec.model_size = 0;
    }
    state->tier = core->tier;
    state->origin = core->origin;
    state->work = core->work;
    state->attempt = core->attempt_number;
    state->done = phase == FL_ROUND_COMMITTED || phase == FL_ROUND_EVALUATING;
    state->evaluated = phase == FL_ROUND_COMMITTED;
    state->failed = phase == FL_ROUND_FAILED || phase == FL_ROUND_ABORTED;
    if (state->done || state->failed)
        state->status = core->status;
    state->holders = keys_of(arena, core->holders);
}

void shorten_journal(struct fl_aggregator_core *core)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = NULL;
    struct fl_journal_state state;

    if (!journal_is_long(core))
        return;
    arena = fl_arena_create();
    fill_state(arena, core, &state);
    replace_journal(core, &state);
}

void touch(struct fl_aggregator_core *core)
{
    core->status.version = ++core->version;
    core->status_changed = true;
}

/* --- a life --------------------------------------------------------------------------------- */

static void fill_options(struct fl_aggregator_options *options)
{
#define DEFAULT(member, value) options->member = options->member > 0 ? options->member : (value)
    DEFAULT(poll_ms, 30000);
    DEFAULT(silence_ms, 90000);
    DEFAULT(progress_ms, 10000);
    DEFAULT(chunk_bytes, (int64_t)4 << 20);
    DEFAULT(max_update_bytes, (int64_t)8 << 30);
    DEFAULT(max_members, 100000);
    DEFAULT(max_uploads, 16);
    DEFAULT(upload_ms, 600000);
    DEFAULT(stop_ms, 60000);
    DEFAULT(keep_models, 2);
    DEFAULT(journal_bytes, (int64_t)1 << 20);
#undef DEFAULT
}

static void recover_counted(struct fl_aggregator_core *core, const struct fl_journal_state *state)
{
    for (size_t i = 0; i < state->counted_count; i++) {
        FL_CLEANUP(fl_freep)
        char *key =
            fl_asprintf("%" PRId64 ":%s", state->counted[i].work_round, state->counted[i].learner);

        fl_map_put(core->counted, key, core);
    }
}

static void recover_commit(struct fl_aggregator_core *core, const struct fl_journal_state *state)
{
    core->committed = state->committed;
    core->model_size = state->model_size;
    (void)snprintf(core->model, sizeof(core->model), "%s", fl_str_or(state->model, ""));
    (void)snprintf(core->state, sizeof(core->state), "%s", fl_str_or(state->state, ""));
    core->committed_arena = fl_arena_create();
    core->contributors.count = state->contributors.count;
    core->contributors.items =
        fl_new_array(core->committed_arena, const char *, state->contributors.count + 1);
    for (size_t i = 0; i < state->contributors.count; i++)
        core->contributors.items[i] =
            fl_arena_strdup(core->committed_arena, state->contributors.items[i]);
    if (state->model)
        keep_model(core, state->model);
    (void)snprintf(core->rule, sizeof(core->rule), "%s", fl_str_or(state->rule, ""));
}

/* A round that was not committed goes on with its next attempt; one that was, with its evaluation.
 */
static void recover_round(struct fl_aggregator_core *core, const struct fl_journal_state *state)
{
    bool committed = state->done;
    struct fl_round_report *status = &core->status;

    if (state->spec.model || state->base)
        keep_model(core, state->spec.model ? state->spec.model : state->base);
    install_round(core, &state->spec, &state->tier, state->origin, state->work, state->attempt);
    if (state->base)
        set_base(core, state->base, state->base_size);
    for (size_t i = 0; i < state->holders.count; i++)
        fl_map_put(core->holders, state->holders.items[i], core);
    core->wait_until_ms = core->now_ms + core->spec.participation.available_within_ms;
    status->phase = FL_ROUND_WAITING;
    if (committed || state->failed) {
        fl_message_copy(core->round_arena, &fl_form_round_report, &state->status, status);
        status->project = core->project;
        if (status->excluded.count > 0)
            memcpy(core->excluded, status->excluded.items,
                   status->excluded.count * sizeof(*core->excluded));
    }
    touch(core);
    if (committed && !state->evaluated && !state->failed)
        start_evaluation(core, core->model, core->model_size, core->spec.round,
                         core->spec.evaluation.deadline_ms, false);
}

static void begin_life(struct fl_aggregator_core *core, const struct fl_journal_state *state,
                       size_t written)
{
    struct fl_record record = {.kind = FL_RECORD_START};

    core->life = record.life = state->life + 1;
    core->seq = core->version = core->life << 32;
    core->journal_len = state->good_bytes;
    if (journal_is_long(core))
        replace_journal(core, state);
    else if (state->good_bytes < written)
        act(core, FL_AGGREGATOR_CUT)->size = (int64_t)state->good_bytes;
    journal(core, &record);
    recover_commit(core, state);
    recover_counted(core, state);
    if (state->has_round)
        recover_round(core, state);
    core->stopped = state->stopped;
    if (core->stopped)
        core->stop_until_ms = core->now_ms + core->options.stop_ms;
}

int fl_aggregator_create(const struct fl_aggregator_options *options, int64_t now_ms,
                         const void *journal_text, size_t len, struct fl_aggregator_core **ret_core,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_aggregator_destroyp)
    struct fl_aggregator_core *core = fl_calloc(1, sizeof(*core));
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state state;

    core->options = *options;
    fill_options(&core->options);
    core->id = fl_strdup(options->id);
    core->project = options->project ? fl_strdup(options->project) : NULL;
    core->parent = options->parent ? fl_strdup(options->parent) : NULL;
    core->now_ms = now_ms;
    core->members = fl_map_create(member_destroy);
    core->children = fl_map_create(free);
    core->counted = fl_map_create(NULL);
    core->action_arena = fl_arena_create();
    TAILQ_INIT(&core->polls);
    TAILQ_INIT(&core->uploads);
    TAILQ_INIT(&core->held_for_place);
    TAILQ_INIT(&core->held_for_fold);
    TAILQ_INIT(&core->watchers);
    TAILQ_INIT(&core->actions);
    fl_oort_init(&core->oort);
    if (fl_journal_replay(arena, journal_text, len, &state, err) < 0)
        return fl_error_wrap(err, "aggregator %s", core->id);
    begin_life(core, &state, len);
    *ret_core = FL_TAKE(core);
    return 0;
}

static void destroy_queues(struct fl_aggregator_core *core)
{
    struct queued *queued;
    struct upload *upload;
    struct watcher *watcher;

    while ((queued = TAILQ_FIRST(&core->actions)) != NULL) {
        TAILQ_REMOVE(&core->actions, queued, all);
        queued_destroy(queued);
    }
    while ((upload = TAILQ_FIRST(&core->uploads)) != NULL) {
        TAILQ_REMOVE(&core->uploads, upload, all);
        upload_destroy(upload);
    }
    destroy_held(core);
    while ((watcher = TAILQ_FIRST(&core->watchers)) != NULL) {
        TAILQ_REMOVE(&core->watchers, watcher, all);
        free(watcher);
    }
    queued_destroy(core->lent);
}

void fl_aggregator_destroy(struct fl_aggregator_core *core)
{
    if (!core)
        return;
    if (core->actions.tqh_last)
        destroy_queues(core);
    attempt_finish(&core->attempt);
    fl_map_destroy(core->members);
    fl_map_destroy(core->children);
    fl_map_destroy(core->counted);
    fl_map_destroy(core->holders);
    fl_map_destroy(core->train_metrics);
    fl_map_destroy(core->evaluation_metrics);
    fl_bytes_unref(core->spec_text);
    fl_bytes_unref(core->status_was);
    fl_arena_destroy(core->round_arena);
    fl_arena_destroy(core->committed_arena);
    fl_arena_destroy(core->action_arena);
    fl_arena_destroy(core->parent_arena);
    free(core->kept);
    free(core->stop_message);
    free(core->parent);
    free(core->project);
    free(core->id);
    free(core);
}

/* --- time ----------------------------------------------------------------------------------- */

static void check_stopped(struct fl_aggregator_core *core)
{
    bool all = true;
    void *cursor = NULL, *value;

    if (!core->stopped || core->stop_told)
        return;
    while (fl_map_next(core->members, &cursor, NULL, &value))
        all = all && ((struct member *)value)->told_end;
    if (core->now_ms < core->stop_until_ms && (!all || fl_map_count(core->members) == 0))
        return;
    core->stop_told = true;
    act(core, FL_AGGREGATOR_STOPPED);
}

void fl_aggregator_tick(struct fl_aggregator_core *core, int64_t now_ms)
{
    struct member *member;

    core->now_ms = now_ms;
    while ((member = TAILQ_FIRST(&core->polls)) != NULL && member->poll_until_ms <= now_ms)
        answer_poll(core, member);
    advance(core);
    check_stopped(core);
}

int64_t fl_aggregator_deadline(const struct fl_aggregator_core *core)
{
    int64_t soonest = round_deadline(core);
    const struct member *member = TAILQ_FIRST(&core->polls);
    const struct upload *upload;

#define SOONER(condition, time) soonest = (condition) && (time) < soonest ? (time) : soonest
    SOONER(member, member->poll_until_ms);
    SOONER(true, held_deadline(core));
    SOONER(true, watch_deadline(core));
    TAILQ_FOREACH(upload, &core->uploads, all)
        SOONER(upload->state == UPLOAD_EXPECTED, upload->until_ms);
    SOONER(core->stopped && !core->stop_told, core->stop_until_ms);
#undef SOONER
    return soonest;
}

bool fl_aggregator_serves(const struct fl_aggregator_core *core, const char *digest)
{
    if (fl_streq(digest, text_or_null(core->model)) ||
        (core->has_round && fl_streq(digest, core->spec.model)) ||
        (core->evaluation.deadline_ms > 0 && fl_streq(digest, core->evaluation.model)))
        return true;
    return is_kept(core, digest);
}

bool fl_aggregator_needs(const struct fl_aggregator_core *core, const char *digest)
{
    return fl_aggregator_serves(core, digest) || fl_streq(digest, text_or_null(core->state));
}
