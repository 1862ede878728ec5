/* Oracles that know no kind: what must hold for each change of any object, and for who acts. */
#include "e2e/sim/sim.h"
#include "lib/str.h"

#include <inttypes.h>
#include <string.h>

#define OBJECTS_MAX 400 /* a world has some hundred, of which most are the server's own */

static void drop_json(void *value)
{
    json_decref(value);
}

static bool is_unwatched(const char *resource)
{
    return fl_streq(resource, "events") || fl_streq(resource, "leases.coordination.k8s.io");
}

static bool without_revision_equal(const json_t *a, const json_t *b)
{
    FL_JSON x = json_deep_copy(a);
    FL_JSON y = json_deep_copy(b);

    (void)json_object_del(json_object_get(x, "metadata"), "resourceVersion");
    (void)json_object_del(json_object_get(y, "metadata"), "resourceVersion");
    return json_equal(x, y);
}

static void check_generation(struct sim *sim, const struct fl_object *object, const json_t *was,
                             const json_t *is)
{
    int64_t before = fl_json_int(was, "metadata.generation", 0);
    int64_t after = fl_json_int(is, "metadata.generation", 0);
    bool same_spec = json_equal(json_object_get(was, "spec"), json_object_get(is, "spec"));
    bool marked = !fl_json_str(was, "metadata.deletionTimestamp") &&
                  fl_json_str(is, "metadata.deletionTimestamp");

    if (before == 0 && after == 0)
        return;
    if (after - before != (!same_spec || marked))
        sim_fail(sim, "generation", "%s/%s: from %" PRId64 " to %" PRId64 ", spec %s",
                 object->resource, object->name, before, after, same_spec ? "the same" : "changed");
}

static void check_deletion(struct sim *sim, const struct fl_object *object, const json_t *was,
                           const json_t *is)
{
    const json_t *had = fl_json_path(was, "metadata.finalizers");
    const json_t *has = fl_json_path(is, "metadata.finalizers");

    if (!fl_json_str(was, "metadata.deletionTimestamp"))
        return;
    if (!fl_json_str(is, "metadata.deletionTimestamp"))
        sim_fail(sim, "deletion", "%s/%s lives again", object->resource, object->name);
    if (json_array_size(has) > json_array_size(had))
        sim_fail(sim, "deletion", "%s/%s got a finalizer while being deleted", object->resource,
                 object->name);
}

/* The time of a condition moves only when its status does. */
static void check_conditions(struct sim *sim, const struct fl_object *object, const json_t *was,
                             const json_t *is)
{
    const json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(is, "status.conditions"), i, condition) {
        const json_t *before = sim_condition(was, fl_json_str(condition, "type"));

        if (!before)
            continue;
        if (fl_streq(fl_json_str(before, "status"), fl_json_str(condition, "status")) &&
            !fl_streq(fl_json_str(before, "lastTransitionTime"),
                      fl_json_str(condition, "lastTransitionTime")))
            sim_fail(sim, "transition", "%s/%s: %s was %s already", object->resource, object->name,
                     fl_json_str(condition, "type"), fl_json_str(condition, "status"));
    }
}

static void check_observed(struct sim *sim, const struct fl_object *object, const json_t *is)
{
    int64_t observed = fl_json_int(is, "status.observedGeneration", -1);
    int64_t generation = fl_json_int(is, "metadata.generation", 0);

    if (observed > generation)
        sim_fail(sim, "observedGeneration", "%s/%s: %" PRId64 " of %" PRId64, object->resource,
                 object->name, observed, generation);
}

static void check_change(struct sim *sim, const struct fl_object *object, const json_t *was,
                         const json_t *is)
{
    if (without_revision_equal(was, is))
        sim_fail(sim, "empty-write", "%s/%s: revision %" PRIu64 " changes nothing",
                 object->resource, object->name, object->revision);
    check_generation(sim, object, was, is);
    check_deletion(sim, object, was, is);
    check_conditions(sim, object, was, is);
    check_observed(sim, object, is);
}

static void note_lease(struct sim *sim, const struct fl_event *event, json_t *is)
{
    if (!fl_streq(event->object->resource, "leases.coordination.k8s.io"))
        return;
    json_decref(sim->lease);
    sim->lease = event->type == FL_EVENT_DELETED ? NULL : json_incref(is);
}

static bool is_beat(const struct sim *sim, const char *resource)
{
    const char *const *beats = sim->scenario->beats;

    for (; beats && *beats; beats++) {
        if (fl_streq(*beats, resource))
            return true;
    }
    return false;
}

static void on_event(struct sim *sim, const struct fl_event *event)
{
    const struct fl_object *object = event->object;
    FL_JSON is = fl_object_parse(object);
    const json_t *was = fl_map_get(sim->known, object->uid);

    if (event->revision <= sim->last_revision)
        sim_fail(sim, "revision", "%" PRIu64 " after %" PRIu64, event->revision,
                 sim->last_revision);
    sim->last_revision = event->revision;
    sim_trace(sim, "  %s %s/%s %" PRIu64,
              event->type == FL_EVENT_ADDED     ? "new"
              : event->type == FL_EVENT_DELETED ? "gone"
                                                : "changed",
              object->resource, object->name, event->revision);
    note_lease(sim, event, is);
    if (is_unwatched(object->resource))
        return;
    if (sim->idle && is_beat(sim, object->resource))
        sim->beats++;
    else if (sim->idle)
        sim_fail(sim, "idle-write", "%s/%s is written by a pass that has nothing to do",
                 object->resource, object->name);
    if (event->type == FL_EVENT_MODIFIED && was)
        check_change(sim, object, was, is);
    if (event->type == FL_EVENT_DELETED)
        (void)fl_map_remove(sim->known, object->uid);
    else
        fl_map_put(sim->known, object->uid, json_incref(is));
}

static void check_growth(struct sim *sim)
{
    if (fl_map_count(sim->known) > OBJECTS_MAX)
        sim_fail(sim, "growth", "there are %zu objects", fl_map_count(sim->known));
}

static void on_commit(void *user, const struct fl_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        on_event(user, &events[i]);
    check_growth(user);
}

void sim_rules_begin(struct sim *sim)
{
    sim->known = fl_map_create(drop_json);
    fl_store_on_commit(sim->store, on_commit, sim);
}

const json_t *sim_object_by_uid(struct sim *sim, const char *uid)
{
    return fl_map_get(sim->known, uid);
}

void sim_rule_effect(struct sim_process *process, const char *uid, const char *finalizer)
{
    const json_t *owner = sim_object_by_uid(process->sim, uid), *item;
    size_t i;

    sim_rule_leader(process, "an effect");
    if (!owner)
        return; /* what is left of it is seen at the end */
    json_array_foreach(fl_json_path(owner, "metadata.finalizers"), i, item) {
        if (fl_streq(json_string_value(item), finalizer))
            return;
    }
    sim_fail(process->sim, "finalizer", "something is caused for %s, which has no finalizer",
             fl_str_or(fl_json_str(owner, "metadata.name"), "?"));
}

void sim_rule_leader(struct sim_process *process, const char *what)
{
    struct sim *sim = process->sim;
    const char *holder = fl_str_or(fl_json_str(sim->lease, "spec.holderIdentity"), "nobody");

    if (sim->scenario->processes < 2 || strstr(what, "/events"))
        return;
    if (!fl_streq(holder, process->identity))
        sim_fail(sim, "leader", "%s acts (%s) while %s leads", process->identity, what, holder);
}
