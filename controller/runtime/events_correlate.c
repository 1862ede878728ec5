/* client-go's event correlation: combine what is similar, count what is the same, hold back what is
 * too much. Each of the three memories keeps the 4,096 entries that were used last. */
#include "controller/runtime/events_internal.h"

#include "lib/map.h"
#include "lib/str.h"

#define ENTRIES_MAX         4096
#define SIMILAR_MAX         10
#define SIMILAR_INTERVAL_MS 600000
#define BUDGET_BURST        25
#define BUDGET_INTERVAL_MS  300000 /* for one more */
#define COMBINED            "(combined from similar events): "

struct similar { /* of one (object, type, reason) */
    struct fl_map *messages;
    int64_t last_ms;
};

struct observed { /* an Event that was written */
    char *name;
    int64_t count, first_us;
};

struct budget { /* of an object, in events times BUDGET_INTERVAL_MS */
    int64_t left, last_ms;
};

struct fl_correlator {
    struct fl_map *similar, *observed, *budgets;
};

static void free_similar(void *value)
{
    fl_map_destroy(((struct similar *)value)->messages);
    free(value);
}

static void free_observed(void *value)
{
    free(((struct observed *)value)->name);
    free(value);
}

struct fl_correlator *fl_correlator_create(void)
{
    struct fl_correlator *correlator = fl_calloc(1, sizeof(*correlator));

    correlator->similar = fl_map_create(free_similar);
    correlator->observed = fl_map_create(free_observed);
    correlator->budgets = fl_map_create(free);
    return correlator;
}

void fl_correlator_destroy(struct fl_correlator *correlator)
{
    if (!correlator)
        return;
    fl_map_destroy(correlator->similar);
    fl_map_destroy(correlator->observed);
    fl_map_destroy(correlator->budgets);
    free(correlator);
}

/* The entry, which is then the one used last; NULL: there is none. Maps keep their order. */
static void *touch(struct fl_map *map, const char *key)
{
    void *value = fl_map_take(map, key);

    if (value)
        fl_map_put(map, key, value);
    return value;
}

static void *remember(struct fl_map *map, const char *key, void *value)
{
    const char *oldest;
    void *cursor = NULL, *unused;

    if (fl_map_count(map) >= ENTRIES_MAX && fl_map_next(map, &cursor, &oldest, &unused))
        (void)fl_map_remove(map, oldest);
    fl_map_put(map, key, value);
    return value;
}

/* Keys. None of the parts but the message, the last, can hold a line's end. */

static const char *object_key(const struct fl_event_note *note)
{
    const struct fl_event_about *about = &note->about;

    return fl_arena_printf(note->arena, "%s\n%s\n%s\n%s\n%s\n%s", about->component, about->kind,
                           about->ns, about->name, about->uid, about->api_version);
}

static const char *similar_key(const struct fl_event_note *note)
{
    return fl_arena_printf(note->arena, "%s\n%d\n%s", object_key(note), (int)note->about.severity,
                           note->about.reason);
}

static const char *same_key(const struct fl_event_note *note)
{
    return fl_arena_printf(note->arena, "%s\n%s", similar_key(note), note->about.message);
}

/* Combining. */

static struct similar *find_similar(struct fl_correlator *correlator,
                                    const struct fl_event_note *note)
{
    const char *key = similar_key(note);
    struct similar *similar = touch(correlator->similar, key);

    if (similar && note->monotonic_ms - similar->last_ms > SIMILAR_INTERVAL_MS) {
        (void)fl_map_remove(correlator->similar, key);
        similar = NULL;
    }
    if (!similar) {
        similar = fl_calloc(1, sizeof(*similar));
        similar->messages = fl_map_create(NULL);
        remember(correlator->similar, key, similar);
    }
    return similar;
}

/* Forgets any one, so that a message that comes again may be told by itself later. */
static void forget_one(struct fl_map *messages)
{
    const char *message;
    void *cursor = NULL, *unused;

    if (fl_map_next(messages, &cursor, &message, &unused))
        (void)fl_map_remove(messages, message);
}

/* Sets the message, and returns the key under which it is counted. */
static const char *combine(struct fl_correlator *correlator, struct fl_event_note *note)
{
    struct similar *similar = find_similar(correlator, note);

    if (!fl_map_get(similar->messages, note->about.message))
        fl_map_put(similar->messages, note->about.message, similar); /* a set */
    similar->last_ms = note->monotonic_ms;
    note->write.message = note->about.message;
    if (fl_map_count(similar->messages) < SIMILAR_MAX)
        return same_key(note);
    forget_one(similar->messages);
    note->write.message = fl_arena_printf(note->arena, COMBINED "%s", note->about.message);
    return similar_key(note);
}

/* Counting. */
static void observe(struct fl_correlator *correlator, struct fl_event_note *note, const char *key)
{
    struct observed *observed = touch(correlator->observed, key);

    if (!observed) {
        observed = fl_calloc(1, sizeof(*observed));
        observed->name = fl_strdup(note->name);
        observed->first_us = note->time_us;
        remember(correlator->observed, key, observed);
    }
    observed->count++;
    note->write.name = fl_arena_strdup(note->arena, observed->name);
    note->write.count = observed->count;
    note->write.first_us = observed->first_us;
}

/* Holding back. */

static struct budget *find_budget(struct fl_correlator *correlator,
                                  const struct fl_event_note *note)
{
    const char *key = object_key(note);
    struct budget *budget = touch(correlator->budgets, key);

    if (!budget) {
        budget = fl_calloc(1, sizeof(*budget));
        budget->left = (int64_t)BUDGET_BURST * BUDGET_INTERVAL_MS;
        budget->last_ms = note->monotonic_ms;
        remember(correlator->budgets, key, budget);
    }
    return budget;
}

static bool spend(struct fl_correlator *correlator, const struct fl_event_note *note)
{
    const int64_t full = (int64_t)BUDGET_BURST * BUDGET_INTERVAL_MS;
    struct budget *budget = find_budget(correlator, note);

    budget->left += note->monotonic_ms - budget->last_ms;
    budget->last_ms = note->monotonic_ms;
    if (budget->left > full)
        budget->left = full;
    if (budget->left < BUDGET_INTERVAL_MS)
        return false;
    budget->left -= BUDGET_INTERVAL_MS;
    return true;
}

bool fl_correlate(struct fl_correlator *correlator, struct fl_event_note *note)
{
    const char *key = combine(correlator, note);

    observe(correlator, note, key);
    return spend(correlator, note);
}
