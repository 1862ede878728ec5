/* Offers that cannot be answered yet: they wait here for a place, for the round to begin, or for
 * their update to be folded, so that nobody has to guess when to ask again. Who has waited for long
 * is told to offer again at once, which shows that it is still there. */
#include "workloads/aggregator/aggregator_core_internal.h"

#define HOLD_MS 8000 /* well below the time after which learners take a request for lost */

struct held {
    uint64_t request, upload; /* upload 0: waits for a place */
    int64_t until_ms;
    struct fl_arena *arena;
    struct fl_offer offer;
    TAILQ_ENTRY(held) all;
};

static void held_destroy(struct held *held)
{
    fl_arena_destroy(held->arena);
    free(held);
}

void hold_offer(struct fl_aggregator_core *core, uint64_t request, const struct fl_offer *offer,
                uint64_t upload)
{
    struct held *held = fl_calloc(1, sizeof(*held));
    const int64_t poll_ms = core->options.poll_ms;

    held->request = request;
    held->upload = upload;
    held->until_ms = core->now_ms + (poll_ms < HOLD_MS ? poll_ms : HOLD_MS);
    held->arena = fl_arena_create();
    fl_message_copy(held->arena, &fl_form_offer, offer, &held->offer);
    if (upload)
        TAILQ_INSERT_TAIL(&core->held_for_fold, held, all);
    else
        TAILQ_INSERT_TAIL(&core->held_for_place, held, all);
}

/* Takes it off its list; it may come back to the end. */
static void answer_one(struct fl_aggregator_core *core, struct held_list *list, struct held *held)
{
    const struct fl_answer again = {.verdict = FL_VERDICT_WAIT};

    TAILQ_REMOVE(list, held, all);
    core->answered++;
    if (core->now_ms >= held->until_ms)
        reply(core, held->request, &fl_form_answer, &again);
    else
        handle_offer(core, held->request, &held->offer);
    held_destroy(held);
}

/* All that are there now. */
static void answer_all(struct fl_aggregator_core *core, struct held_list *list)
{
    const struct held *last = TAILQ_LAST(list, held_list);
    struct held *held;
    bool more = last != NULL;

    while (more) {
        held = TAILQ_FIRST(list);
        more = held != last;
        answer_one(core, list, held);
    }
}

static void answer_folded(struct fl_aggregator_core *core)
{
    struct held *held = TAILQ_FIRST(&core->held_for_fold);

    while (held) {
        struct held *next = TAILQ_NEXT(held, all);

        if (core->now_ms >= held->until_ms || !find_upload(core, held->upload))
            answer_one(core, &core->held_for_fold, held);
        held = next;
    }
}

static bool is_due(const struct fl_aggregator_core *core, const struct held *held)
{
    return held && (core->now_ms >= held->until_ms || has_place(core));
}

/* Where the attempt stands: what an offer is answered depends on nothing else. */
static bool has_moved_on(struct fl_aggregator_core *core)
{
    const struct held_stamp now = {.round = core->spec.round,
                                   .attempt = core->attempt_number,
                                   .phase = core->status.phase,
                                   .begun = core->attempt.begun,
                                   .closed = core->attempt.closed,
                                   .stopped = core->stopped};
    const struct held_stamp before = core->held_stamp;

    core->held_stamp = now;
    return now.round != before.round || now.attempt != before.attempt ||
           now.phase != before.phase || now.begun != before.begun || now.closed != before.closed ||
           now.stopped != before.stopped;
}

bool answer_held(struct fl_aggregator_core *core)
{
    const uint64_t before = core->answered;

    if (has_moved_on(core)) {
        answer_all(core, &core->held_for_fold);
        answer_all(core, &core->held_for_place);
    }
    answer_folded(core);
    while (is_due(core, TAILQ_FIRST(&core->held_for_place)))
        answer_one(core, &core->held_for_place, TAILQ_FIRST(&core->held_for_place));
    return core->answered != before;
}

static bool drop_from(struct held_list *list, uint64_t request)
{
    struct held *held;

    TAILQ_FOREACH(held, list, all)
        if (held->request == request) {
            TAILQ_REMOVE(list, held, all);
            held_destroy(held);
            return true;
        }
    return false;
}

bool drop_held(struct fl_aggregator_core *core, uint64_t request)
{
    return drop_from(&core->held_for_fold, request) || drop_from(&core->held_for_place, request);
}

static void destroy_list(struct held_list *list)
{
    struct held *held;

    while ((held = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, held, all);
        held_destroy(held);
    }
}

void destroy_held(struct fl_aggregator_core *core)
{
    destroy_list(&core->held_for_fold);
    destroy_list(&core->held_for_place);
}

int64_t held_deadline(const struct fl_aggregator_core *core)
{
    const struct held *fold = TAILQ_FIRST(&core->held_for_fold);
    const struct held *place = TAILQ_FIRST(&core->held_for_place);
    const int64_t soonest = fold ? fold->until_ms : INT64_MAX;

    return place && place->until_ms < soonest ? place->until_ms : soonest;
}
