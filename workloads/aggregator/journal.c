#include "workloads/aggregator/journal.h"

#include "lib/map.h"
#include "lib/str.h"
#include "workloads/protocol/forms.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define LINE_MAX_BYTES ((size_t)16 * 1024 * 1024) /* contributors are bounded far below it */
#define CHECK_LEN      9                          /* of "xxxxxxxx " */

static const char *const kinds[] = {"Start", "Spec", "Attempt", "Accept", "Commit", "Evaluate",
                                    "Fail",  "Stop", "Counted", "Holds",  "Base",   NULL};

#define SELF       fl_record
#define AT(member) .offset = offsetof(struct SELF, member)
#define NAME(json, member)                                                                         \
    {                                                                                              \
        .name = (json), .type = FL_P_NAME, AT(member), .max = FL_PROTOCOL_NAME_MAX                 \
    }
#define DIGEST(json, member)                                                                       \
    {                                                                                              \
        .name = (json), .type = FL_P_DIGEST, AT(member)                                            \
    }
#define ANY_DIGEST(json, member)                                                                   \
    {                                                                                              \
        .name = (json), .type = FL_P_ANY_DIGEST, AT(member)                                        \
    }
#define COUNT(json, member)                                                                        \
    {                                                                                              \
        .name = (json), .type = FL_P_INT, AT(member), .max = FL_PROTOCOL_NUMBER_MAX                \
    }

/* spec, tier and status stand beside these, where the kind has them. */
static const struct fl_member record_members[] = {
    {.name = "kind", .type = FL_P_ENUM, AT(kind), .words = kinds, .required = true},
    COUNT("life", life),
    COUNT("round", round),
    COUNT("attempt", attempt),
    NAME("origin", origin),
    NAME("work", work),
    NAME("learner", learner),
    ANY_DIGEST("digest", digest),
    COUNT("workRound", work_round),
    COUNT("examples", examples),
    COUNT("steps", steps),
    {.name = "contributors",
     .type = FL_P_SORTED,
     AT(contributors),
     .max = FL_PROTOCOL_CONTRIBUTORS_MAX},
    ANY_DIGEST("model", model), /* a lower tier's is a partial sum, and no model */
    DIGEST("state", state),
    DIGEST("rule", rule),
    COUNT("modelSize", model_size),
    {0},
};
static const struct fl_form record_form = {
    .name = "record", .size = sizeof(struct fl_record), .members = record_members};

static bool has_status(enum fl_record_kind kind)
{
    return kind == FL_RECORD_COMMIT || kind == FL_RECORD_EVALUATE || kind == FL_RECORD_FAIL;
}

void fl_journal_write(struct fl_buf *buf, const struct fl_record *record)
{
    FL_JSON value = fl_message_to_json(&record_form, record);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    if (record->kind == FL_RECORD_SPEC)
        json_object_set_new(value, "spec", fl_message_to_json(&fl_form_round_order, &record->spec));
    if (record->kind == FL_RECORD_SPEC && record->tier.present)
        json_object_set_new(value, "tier", fl_message_to_json(&fl_form_tier, &record->tier));
    if (has_status(record->kind))
        json_object_set_new(value, "status",
                            fl_message_to_json(&fl_form_round_report, &record->status));
    text = fl_json_to_bytes(value);
    fl_buf_printf(buf, "%08lx ", crc32(0, (const unsigned char *)text->data, (unsigned)text->len));
    fl_buf_append(buf, text->data, text->len);
    fl_buf_putc(buf, '\n');
}

static int read_record(struct fl_arena *arena, const char *text, size_t len,
                       struct fl_record *ret_record, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = LINE_MAX_BYTES, .max_depth = 32};
    FL_JSON value = NULL;
    struct fl_record record = {0};
    int r = fl_json_parse(text, len, &limits, NULL, NULL, &value, err);

    if (r == 0)
        r = fl_message_from_json(arena, &record_form, value, &record, err);
    if (r == 0 && record.kind == FL_RECORD_SPEC)
        r = fl_message_from_json(arena, &fl_form_round_order, json_object_get(value, "spec"),
                                 &record.spec, err);
    if (r == 0 && record.kind == FL_RECORD_SPEC && json_object_get(value, "tier"))
        r = fl_message_from_json(arena, &fl_form_tier, json_object_get(value, "tier"), &record.tier,
                                 err);
    if (r == 0 && has_status(record.kind))
        r = fl_message_from_json(arena, &fl_form_round_report, json_object_get(value, "status"),
                                 &record.status, err);
    if (r == 0)
        *ret_record = record;
    return r;
}

/* --- replay --------------------------------------------------------------------------------- */

struct replay {
    struct fl_arena *arena;
    struct fl_journal_state state;
    struct fl_counted *pending; /* accepted in the attempt that runs */
    size_t pending_count, pending_cap, counted_cap, holders_cap;
    struct fl_map *held; /* the holders */
};

static void *grown(struct fl_arena *arena, void *items, size_t count, size_t *cap, size_t size)
{
    void *more;

    if (count < *cap)
        return items;
    *cap = *cap ? *cap * 2 : 16;
    more = fl_alloc_array(arena, *cap, size);
    if (count > 0)
        memcpy(more, items, count * size);
    return more;
}

static void add_counted(struct replay *replay, const char *learner, int64_t work_round)
{
    struct fl_journal_state *state = &replay->state;

    state->counted = grown(replay->arena, state->counted, state->counted_count,
                           &replay->counted_cap, sizeof(*state->counted));
    state->counted[state->counted_count++] = (struct fl_counted){learner, work_round};
}

static void add_pending(struct replay *replay, const char *learner, int64_t work_round)
{
    replay->pending = grown(replay->arena, replay->pending, replay->pending_count,
                            &replay->pending_cap, sizeof(*replay->pending));
    replay->pending[replay->pending_count++] = (struct fl_counted){learner, work_round};
}

static void add_holder(struct replay *replay, const char *learner)
{
    struct fl_texts *holders = &replay->state.holders;

    if (fl_map_get(replay->held, learner))
        return;
    fl_map_put(replay->held, learner, replay);
    holders->items = grown(replay->arena, (void *)(uintptr_t)holders->items, holders->count,
                           &replay->holders_cap, sizeof(*holders->items));
    holders->items[holders->count++] = learner;
}

/* What late updates could still repeat is remembered, what is older is not. */
static void settle(struct replay *replay, const struct fl_record *commit)
{
    struct fl_journal_state *state = &replay->state;
    bool late = state->has_round && state->spec.mode != FL_MODE_SYNC;
    int64_t oldest = commit->round - state->spec.staleness.max_rounds;
    size_t kept = 0;

    for (size_t i = 0; i < replay->pending_count && late; i++)
        add_counted(replay, replay->pending[i].learner, replay->pending[i].work_round);
    replay->pending_count = 0;
    for (size_t i = 0; i < state->counted_count; i++)
        if (state->counted[i].work_round >= oldest)
            state->counted[kept++] = state->counted[i];
    state->counted_count = kept;
}

static void apply_spec(struct fl_journal_state *state, const struct fl_record *record)
{
    state->has_round = true;
    state->spec = record->spec;
    state->base = NULL;
    state->base_size = 0;
    state->tier = record->tier;
    state->origin = record->origin;
    state->work = record->work;
    state->attempt = record->attempt;
    state->done = state->evaluated = state->failed = false;
    state->status = (struct fl_round_report){0};
    state->holders.count = 0;
}

static void apply_commit(struct replay *replay, const struct fl_record *record)
{
    struct fl_journal_state *state = &replay->state;

    settle(replay, record);
    state->committed = record->round;
    state->model = record->model;
    state->state = record->state;
    state->rule = record->rule;
    state->model_size = record->model_size;
    state->contributors = record->contributors;
    if (state->has_round) {
        state->done = true;
        state->status = record->status;
        state->evaluated = record->status.phase == FL_ROUND_COMMITTED;
    }
}

/* What is said of a round is said of the one that was started last. */
static const char *out_of_place(const struct fl_journal_state *state,
                                const struct fl_record *record)
{
    bool ours = state->has_round && record->round == state->spec.round;
    bool open = ours && !state->done && !state->failed;

    switch (record->kind) {
    case FL_RECORD_START:
        return record->life > state->life ? NULL : "a life that is over begins again";
    case FL_RECORD_SPEC:
        return record->round == record->spec.round ? NULL : "a round with two numbers";
    case FL_RECORD_ATTEMPT:
        return open && record->attempt > 0 ? NULL : "an attempt without its round";
    case FL_RECORD_ACCEPT:
        return open && record->learner ? NULL : "an update without its round";
    case FL_RECORD_COMMIT: /* in a compacted journal: that of the round before */
        if (!record->model || record->round < 1)
            return "a commit without a model";
        return open || !state->has_round ? NULL : "a commit without its round";
    case FL_RECORD_EVALUATE:
        return ours && state->done ? NULL : "an evaluation without its model";
    case FL_RECORD_FAIL:
        return open ? NULL : "an end without its round";
    case FL_RECORD_COUNTED:
    case FL_RECORD_HOLDS:
        return record->learner ? NULL : "nobody's update";
    case FL_RECORD_BASE:
        if (!record->model || record->model_size < 1)
            return "a base without a model";
        return open && !state->spec.model ? NULL : "a base without its round";
    case FL_RECORD_STOP:
        break;
    }
    return NULL;
}

static void apply(struct replay *replay, const struct fl_record *record)
{
    struct fl_journal_state *state = &replay->state;

    switch (record->kind) {
    case FL_RECORD_START:
        state->life = record->life;
        replay->pending_count = 0;
        break;
    case FL_RECORD_SPEC:
        apply_spec(state, record);
        fl_map_destroy(replay->held);
        replay->held = fl_map_create(NULL);
        break;
    case FL_RECORD_ATTEMPT:
        state->attempt = record->attempt;
        replay->pending_count = 0;
        break;
    case FL_RECORD_ACCEPT:
        for (size_t i = 0; i < record->contributors.count; i++)
            add_pending(replay, record->contributors.items[i], record->work_round);
        if (record->contributors.count == 0)
            add_pending(replay, record->learner, record->work_round);
        add_holder(replay, record->learner);
        break;
    case FL_RECORD_COMMIT:
        apply_commit(replay, record);
        break;
    case FL_RECORD_EVALUATE:
        state->evaluated = true;
        state->status = record->status;
        break;
    case FL_RECORD_FAIL:
        state->failed = true;
        state->status = record->status;
        replay->pending_count = 0;
        break;
    case FL_RECORD_STOP:
        state->stopped = true;
        break;
    case FL_RECORD_COUNTED:
        add_counted(replay, record->learner, record->work_round);
        break;
    case FL_RECORD_HOLDS:
        add_holder(replay, record->learner);
        break;
    case FL_RECORD_BASE:
        state->base = record->model;
        state->base_size = record->model_size;
        break;
    }
}

/* A whole line with the right check? */
static bool line_is_good(const char *line, size_t len)
{
    char want[CHECK_LEN + 1];

    if (len < CHECK_LEN || len > LINE_MAX_BYTES)
        return false;
    (void)snprintf(want, sizeof(want), "%08lx ",
                   crc32(0, (const unsigned char *)line + CHECK_LEN, (unsigned)(len - CHECK_LEN)));
    return memcmp(want, line, CHECK_LEN) == 0;
}

/* Is there a good line anywhere behind? Then what is before it was no torn write. */
static bool good_line_follows(const char *text, const char *end)
{
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));

        if (!newline)
            return false;
        if (line_is_good(text, (size_t)(newline - text)))
            return true;
        text = newline + 1;
    }
    return false;
}

static int replay_line(struct replay *replay, const char *line, size_t len, struct fl_error *err)
{
    struct fl_record record = {0};
    const char *wrong;
    int r = read_record(replay->arena, line + CHECK_LEN, len - CHECK_LEN, &record, err);

    if (r < 0)
        return r;
    wrong = out_of_place(&replay->state, &record);
    if (wrong)
        return fl_error_set(err, FL_E_INVALID, "%s", wrong);
    apply(replay, &record);
    return 0;
}

/* The bytes that were good, or an error. */
static int64_t replay_lines(struct replay *replay, const char *text, size_t len,
                            struct fl_error *err)
{
    const char *begin = text, *end = text + len;

    for (size_t number = 1; text < end; number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t line = newline ? (size_t)(newline - text) : 0;

        if (!newline || !line_is_good(text, line)) {
            if (newline && good_line_follows(newline + 1, end))
                return fl_error_set(err, FL_E_INVALID, "journal: line %zu is damaged", number);
            break;
        }
        if (replay_line(replay, text, line, err) < 0)
            return fl_error_wrap(err, "journal: line %zu", number);
        text = newline + 1;
    }
    return text - begin;
}

int fl_journal_replay(struct fl_arena *arena, const void *data, size_t len,
                      struct fl_journal_state *ret_state, struct fl_error *err)
{
    struct replay replay = {.arena = arena, .held = fl_map_create(NULL)};
    int64_t good = replay_lines(&replay, len > 0 ? data : "", len, err);

    fl_map_destroy(replay.held);
    if (good < 0)
        return (int)good;
    replay.state.good_bytes = (size_t)good;
    *ret_state = replay.state;
    return 0;
}

/* --- compaction ----------------------------------------------------------------------------- */

static void write_round(struct fl_buf *buf, const struct fl_journal_state *state)
{
    struct fl_record record = {.round = state->spec.round};

    record.kind = FL_RECORD_SPEC;
    record.spec = state->spec;
    record.tier = state->tier;
    record.origin = state->origin;
    record.work = state->work;
    fl_journal_write(buf, &record);
    record.origin = record.work = NULL;
    if (state->base)
        fl_journal_write(buf, &(struct fl_record){.kind = FL_RECORD_BASE,
                                                  .round = state->spec.round,
                                                  .model = state->base,
                                                  .model_size = state->base_size});
    for (size_t i = 0; i < state->holders.count; i++) {
        record.kind = FL_RECORD_HOLDS;
        record.learner = state->holders.items[i];
        fl_journal_write(buf, &record);
    }
    record.learner = NULL;
    record.kind = FL_RECORD_ATTEMPT;
    record.attempt = state->attempt;
    if (state->attempt > 0)
        fl_journal_write(buf, &record);
}

static void write_commit(struct fl_buf *buf, const struct fl_journal_state *state)
{
    struct fl_record record = {.kind = FL_RECORD_COMMIT,
                               .round = state->committed,
                               .model = state->model,
                               .state = state->state,
                               .rule = state->rule,
                               .model_size = state->model_size,
                               .contributors = state->contributors};

    fl_message_init(&fl_form_round_report, &record.status);
    if (state->done) {
        record.attempt = state->attempt;
        record.status = state->status;
    }
    fl_journal_write(buf, &record);
}

/* How the round ended; a COMMIT with that phase has said so itself. */
static void write_end(struct fl_buf *buf, const struct fl_journal_state *state)
{
    struct fl_record record = {.round = state->spec.round, .attempt = state->attempt};

    record.kind = state->failed ? FL_RECORD_FAIL : FL_RECORD_EVALUATE;
    record.status = state->status;
    if (state->failed || state->evaluated)
        fl_journal_write(buf, &record);
}

void fl_journal_compact(struct fl_buf *buf, const struct fl_journal_state *state)
{
    struct fl_record record = {.kind = FL_RECORD_START, .life = state->life};

    if (state->life > 0)
        fl_journal_write(buf, &record);
    if (state->committed > 0 && !state->done)
        write_commit(buf, state);
    if (state->has_round)
        write_round(buf, state);
    if (state->done)
        write_commit(buf, state);
    for (size_t i = 0; i < state->counted_count; i++)
        fl_journal_write(buf, &(struct fl_record){.kind = FL_RECORD_COUNTED,
                                                  .learner = state->counted[i].learner,
                                                  .work_round = state->counted[i].work_round});
    write_end(buf, state);
    if (state->stopped)
        fl_journal_write(buf, &(struct fl_record){.kind = FL_RECORD_STOP});
}
