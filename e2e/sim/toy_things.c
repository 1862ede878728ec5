#include "e2e/sim/toy_things.h"

#include "lib/str.h"

#include <stdio.h>

static struct toy_thing *find(struct toy_things *things, const char *name)
{
    for (size_t i = 0; i < things->count; i++) {
        if (fl_streq(things->items[i].name, name))
            return &things->items[i];
    }
    return NULL;
}

static struct toy_count *count_of(struct toy_things *things, const char *owner)
{
    struct toy_count *count;

    for (size_t i = 0; i < things->count_count; i++) {
        if (fl_streq(things->counts[i].owner, owner))
            return &things->counts[i];
    }
    if (things->count_count == TOY_OWNERS_MAX)
        abort();
    count = &things->counts[things->count_count++];
    (void)snprintf(count->owner, sizeof(count->owner), "%s", owner);
    return count;
}

int64_t toy_ends_of(const struct toy_things *things, const char *owner)
{
    for (size_t i = 0; i < things->count_count; i++) {
        if (fl_streq(things->counts[i].owner, owner))
            return things->counts[i].ends;
    }
    return 0;
}

size_t toy_living_of(const struct toy_things *things, const char *owner)
{
    size_t count = 0;

    for (size_t i = 0; i < things->count; i++)
        count += things->items[i].living && fl_streq(things->items[i].owner, owner);
    return count;
}

size_t toy_records_of(const struct toy_things *things, const char *owner)
{
    size_t count = 0;

    for (size_t i = 0; i < things->count; i++)
        count += fl_streq(things->items[i].owner, owner);
    return count;
}

struct toy_thing *toy_thing_of(struct toy_things *things, const char *owner)
{
    for (size_t i = 0; i < things->count; i++) {
        if (fl_streq(things->items[i].owner, owner))
            return &things->items[i];
    }
    return NULL;
}

/* A call that changes something: `take_place` is what it does. */
static int change(struct sim_process *process, struct toy_things *things, const char *verb,
                  const char *name, void (*take_place)(struct toy_things *things, void *user),
                  void *user, struct fl_error *err)
{
    char what[128];
    enum sim_fault fault;

    (void)snprintf(what, sizeof(what), "%s thing %s", verb, name);
    fault = sim_call(process, SIM_CALL_DRIVER_WRITE, what);
    if (sim_takes_place(fault)) {
        things->actions++;
        take_place(things, user);
    }
    sim_call_done(process, fault);
    return sim_fault_error(fault, err);
}

static void put(struct toy_things *things, void *user)
{
    const struct toy_thing *thing = user;

    if (things->count == TOY_THINGS_MAX)
        abort();
    things->items[things->count] = *thing;
    things->items[things->count++].living = true;
    (void)count_of(things, thing->owner);
}

int toy_thing_start(struct sim_process *process, struct toy_things *things,
                    const struct toy_thing *thing, struct fl_error *err)
{
    struct toy_thing copy = *thing;

    if (find(things, thing->name))
        return fl_error_set(err, FL_E_ALREADY_EXISTS, "%s exists", thing->name);
    if (!process->dead)
        sim_rule_effect(process, thing->owner, TOY_FINALIZER);
    return change(process, things, "start", thing->name, put, &copy, err);
}

static void end(struct toy_things *things, void *user)
{
    struct toy_thing *thing = find(things, user);

    if (thing && thing->living)
        thing->stopped = true;
    if (thing)
        thing->living = false;
}

/* Nobody may end what its owner wants just as it is. */
static void check_unwanted(struct sim_process *process, struct toy_things *things, const char *name)
{
    const struct toy_thing *thing = find(things, name);
    const json_t *owner = thing ? sim_object_by_uid(process->sim, thing->owner) : NULL;

    if (!process->dead && owner && thing->living &&
        !fl_json_str(owner, "metadata.deletionTimestamp") &&
        !fl_json_bool(owner, "spec.suspend", false) &&
        fl_streq(fl_json_str(owner, "spec.payload"), thing->payload))
        sim_fail(process->sim, "wanted-ended", "thing %s is ended, which %s wants", name,
                 fl_json_str(owner, "metadata.name"));
}

int toy_thing_stop(struct sim_process *process, struct toy_things *things, const char *name,
                   struct fl_error *err)
{
    check_unwanted(process, things, name);
    return change(process, things, "stop", name, end, (void *)name, err);
}

/* With the last of an owner its record goes, so that counting begins anew. */
static void take_away(struct toy_things *things, void *user)
{
    struct toy_thing *thing = find(things, user);
    char owner[40];

    if (!thing)
        return;
    (void)snprintf(owner, sizeof(owner), "%s", thing->owner);
    *thing = things->items[--things->count];
    if (!toy_thing_of(things, owner))
        count_of(things, owner)->ends = 0;
}

int toy_thing_remove(struct sim_process *process, struct toy_things *things, const char *name,
                     struct fl_error *err)
{
    return change(process, things, "remove", name, take_away, (void *)name, err);
}

static int by_number(const void *a, const void *b)
{
    const struct toy_thing *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

int toy_thing_list(struct sim_process *process, struct toy_things *things, const char *owner,
                   struct fl_arena *arena, struct toy_thing **ret_items, size_t *ret_count,
                   struct fl_error *err)
{
    enum sim_fault fault = sim_call(process, SIM_CALL_DRIVER_READ, "list things");
    struct toy_thing *items = fl_new_array(arena, struct toy_thing, things->count + 1);
    size_t count = 0;
    int r = sim_fault_error(fault, err);

    sim_call_done(process, fault);
    if (r < 0)
        return r;
    for (size_t i = 0; i < things->count; i++) {
        if (!owner || fl_streq(things->items[i].owner, owner))
            items[count++] = things->items[i];
    }
    qsort(items, count, sizeof(*items), by_number);
    *ret_items = items;
    *ret_count = count;
    return 0;
}

bool toy_thing_ends(struct sim *sim, struct toy_things *things)
{
    struct toy_thing *thing;

    if (things->count == 0)
        return false;
    thing = &things->items[sim_below(sim, things->count)];
    if (!thing->living)
        return false;
    sim_trace(sim, "thing %s ends by itself", thing->name);
    thing->living = false;
    count_of(things, thing->owner)->ends++;
    return true;
}
