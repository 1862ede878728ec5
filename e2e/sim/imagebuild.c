/* ImageBuilds at a builder that fails, hangs and ends with its process: users make, suspend, edit
 * and delete them meanwhile. What a build comes to is its commit's: one that is wrong never does.
 *
 * Each build makes another digest, so who builds twice what was built is seen. */
#include "reconcilers/imagebuild/imagebuild.h"

#include "e2e/sim/sim.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/builder_fake.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NS        "default"
#define FINALIZER "flops.dev/imagebuild"
#define GOOD      "0123456789abcdef0123456789abcdef01234567"
#define WRONG     "ffffffffffffffffffffffffffffffffffffffff"
#define BUILDS    4
#define UIDS_MAX  64

static const struct fl_gvr imagebuilds = {"flops.dev", "v1alpha1", "imagebuilds", true};
static const struct fl_gvr *const caches[] = {&imagebuilds, NULL};
static const char *const names[BUILDS] = {"b-0", "b-1", "b-2", "b-3"};

/* What is known of an object for ever, by its uid. */
struct record {
    char uid[40];
    char digest[80];     /* once it was Ready; "" before */
    int64_t retry_limit; /* the largest it had */
    int64_t edits;       /* each is worth an attempt */
};

struct yard {
    struct fl_builder_fake *fake;
    struct record records[UIDS_MAX];
    size_t count;
    uint64_t looked_at; /* commits of the store */
    bool is_calm;
};

/* A process's door to the builder: with faults. */
struct door {
    struct fl_builder base;
    struct sim_process *process;
    struct fl_builder *inner;
};

struct kinds {
    struct door door;
    struct fl_build common;
    struct fl_imagebuild_controller *controller;
};

static struct record *record_of(struct yard *yard, const char *uid)
{
    for (size_t i = 0; i < yard->count; i++)
        if (strcmp(yard->records[i].uid, uid) == 0)
            return &yard->records[i];
    if (yard->count == UIDS_MAX)
        return NULL;
    (void)snprintf(yard->records[yard->count].uid, sizeof(yard->records[0].uid), "%s", uid);
    return &yard->records[yard->count++];
}

/* The door. */

static void uid_of(const char *key, char out[40])
{
    const char *dash = strrchr(key, '-');

    (void)snprintf(out, 40, "%.*s", (int)(dash - key), key);
}

static void check_alone(struct door *door, const char *uid)
{
    struct yard *yard = door->process->sim->world;
    size_t live;

    (void)fl_builder_fake_live(yard->fake, uid, &live);
    if (live > 1)
        sim_fail(door->process->sim, "two-attempts", "%zu builds of %s at a time", live, uid);
}

/* What the call came to, unless the fault says otherwise. */
static int answer(enum sim_fault fault, int r, struct fl_error *err)
{
    int fault_code = sim_fault_error(fault, err);

    return fault_code < 0 ? fault_code : r;
}

static int start(struct fl_builder *self, const char *key, const struct fl_build *build,
                 struct fl_error *err)
{
    struct door *door = (struct door *)self;
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_WRITE, "start");
    char uid[40];
    int r = 0;

    uid_of(key, uid);
    if (sim_takes_place(fault)) {
        sim_rule_effect(door->process, uid, FINALIZER);
        r = door->inner->ops->start(door->inner, key, build, err);
        check_alone(door, uid);
    }
    sim_call_done(door->process, fault);
    return answer(fault, r, err);
}

static int observe(struct fl_builder *self, const char *key, struct fl_arena *arena,
                   struct fl_builder_known *ret_known, struct fl_error *err)
{
    struct door *door = (struct door *)self;
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_READ, "observe");

    sim_call_done(door->process, fault);
    if (answer(fault, 0, err) < 0)
        return answer(fault, 0, err);
    return door->inner->ops->observe(door->inner, key, arena, ret_known, err);
}

static int forget(struct fl_builder *self, const char *key, struct fl_error *err)
{
    struct door *door = (struct door *)self;
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_READ, "forget");
    int r = 0;

    if (sim_takes_place(fault) && !sim_planted(door->process->sim, "build-left"))
        r = door->inner->ops->forget(door->inner, key, err);
    sim_call_done(door->process, fault);
    return answer(fault, r, err);
}

static void leave_open(struct fl_builder *self)
{
    (void)self;
}

static const struct fl_builder_ops door_ops = {
    .destroy = leave_open, .start = start, .observe = observe, .forget = forget};

/* The world. */

static void plan(void *user, const char *key, const struct fl_build *build,
                 struct fl_builder_fake_plan *ret_plan)
{
    struct sim *sim = user;
    const struct yard *yard = sim->world;
    uint64_t chance = sim_below(sim, 100);

    *ret_plan = (struct fl_builder_fake_plan){.run_ms = (int64_t)sim_below(sim, 60000)};
    if (fl_streq(build->commit, WRONG)) {
        ret_plan->code = FL_E_INVALID;
        ret_plan->stage = "Check";
    } else if (!yard->is_calm && chance < 35) {
        ret_plan->code = chance < 20 ? FL_E_UNAVAILABLE : FL_E_INTERNAL;
        ret_plan->stage = chance % 2 ? "Push" : "Fetch";
    } else if (!yard->is_calm && chance < 50) {
        ret_plan->run_ms = -1;
    }
    sim_trace(sim, "build %s begins: %d after %" PRId64 " ms", key, ret_plan->code,
              ret_plan->run_ms);
}

static void *create(struct sim *sim)
{
    struct yard *yard = fl_calloc(1, sizeof(*yard));

    yard->fake = fl_builder_fake_create(&sim->env);
    fl_builder_fake_on_plan(yard->fake, plan, sim);
    return yard;
}

static void destroy(void *world)
{
    struct yard *yard = world;

    fl_builder_fake_destroy(yard->fake);
    free(yard);
}

static int own_registry(void *user, const char *repository, struct fl_arena *arena,
                        struct fl_build *build, struct fl_error *err)
{
    (void)user, (void)repository, (void)arena, (void)err;
    build->registry = "own.test:5000";
    return 0;
}

static int join(struct sim_process *process, struct fl_error *err)
{
    struct yard *yard = process->sim->world;
    struct kinds *kinds = fl_calloc(1, sizeof(*kinds));
    const struct fl_imagebuild_options options = {.common = &kinds->common,
                                                  .own_registry = own_registry};

    process->kinds = kinds;
    kinds->door = (struct door){
        .base = {&door_ops}, .process = process, .inner = fl_builder_fake_builder(yard->fake)};
    kinds->controller = fl_imagebuild_controller_create(&options);
    fl_builder_fake_on_change(yard->fake, fl_imagebuild_changed, kinds->controller);
    return fl_imagebuild_controller_attach(kinds->controller, process->manager, &kinds->door.base,
                                           err);
}

/* Builds end with their process. */
static void leave(struct sim_process *process)
{
    struct yard *yard = process->sim->world;
    struct kinds *kinds = process->kinds;

    fl_builder_fake_on_change(yard->fake, NULL, NULL);
    fl_builder_fake_crash(yard->fake);
    fl_imagebuild_controller_destroy(kinds->controller);
    free(kinds);
}

/* Users. */

static void make(struct sim *sim, const char *name)
{
    bool is_learner = sim_chance(sim, 80);
    json_t *spec = json_pack("{s:i,s:s}", "retryLimit", (int)sim_below(sim, 3), "timeout", "2m");

    sim_trace(sim, "user: %s is made", name);
    if (is_learner)
        (void)json_object_set_new(spec, "source",
                                  json_pack("{s:s,s:s}", "url", "https://git.test/repo", "commit",
                                            sim_chance(sim, 25) ? WRONG : GOOD));
    else
        fl_json_set_str(spec, "target", "Aggregator");
    sim_create(sim, &imagebuilds,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:o}", "apiVersion", "flops.dev/v1alpha1", "kind",
                         "ImageBuild", "metadata", "name", name, "namespace", NS, "spec", spec));
}

/* An edit by which what was given up is tried once more. */
static void nudge(struct sim *sim, const char *name, const json_t *object)
{
    struct record *record = record_of(sim->world, fl_json_str(object, "metadata.uid"));
    int64_t minutes = 2 + (int64_t)sim_below(sim, 20);
    char timeout[24];

    if (record)
        record->edits++;
    (void)snprintf(timeout, sizeof(timeout), "%" PRId64 "s", minutes * 60);
    sim_trace(sim, "user: %s may take %s", name, timeout);
    sim_patch(sim, &imagebuilds, NS, name, json_pack("{s:{s:s}}", "spec", "timeout", timeout));
}

static void suspend(struct sim *sim, const char *name, const json_t *object)
{
    struct record *record = record_of(sim->world, fl_json_str(object, "metadata.uid"));
    bool is_suspended = fl_json_bool(object, "spec.suspend", false);

    if (record)
        record->edits++;
    sim_trace(sim, "user: %s is %s", name, is_suspended ? "resumed" : "suspended");
    sim_patch(sim, &imagebuilds, NS, name,
              json_pack("{s:{s:b}}", "spec", "suspend", (int)!is_suspended));
}

static void edit(struct sim *sim)
{
    const char *name = names[sim_below(sim, BUILDS)];
    FL_JSON object = sim_get(sim, &imagebuilds, NS, name);

    if (!object) {
        make(sim, name);
    } else if (sim_chance(sim, 15)) {
        sim_trace(sim, "user: %s is deleted", name);
        sim_delete(sim, &imagebuilds, NS, name);
    } else if (sim_chance(sim, 50)) {
        suspend(sim, name, object);
    } else {
        nudge(sim, name, object);
    }
}

static bool is_wrong(const json_t *object)
{
    return fl_streq(fl_json_str(object, "spec.source.commit"), WRONG);
}

/* What was given up while things failed is tried again by its user when they do not any more. */
static bool nudge_what_could_be(struct sim *sim)
{
    bool did = false;

    for (size_t i = 0; i < BUILDS; i++) {
        FL_JSON object = sim_get(sim, &imagebuilds, NS, names[i]);

        if (!object || is_wrong(object) || !sim_is_condition(object, "Stalled", "True") ||
            fl_json_int(object, "status.observedGeneration", -1) !=
                fl_json_int(object, "metadata.generation", 0))
            continue;
        nudge(sim, names[i], object);
        did = true;
    }
    return did;
}

static bool happen(struct sim *sim, bool is_calm)
{
    const struct yard *yard = sim->world;
    size_t count = fl_builder_fake_step(yard->fake);

    if (count)
        sim_trace(sim, "%zu builds begin or end", count);
    return (is_calm && nudge_what_could_be(sim)) || count > 0;
}

static int64_t next_due_ms(struct sim *sim)
{
    return fl_builder_fake_next_due_ms(((struct yard *)sim->world)->fake);
}

static void calm(struct sim *sim)
{
    ((struct yard *)sim->world)->is_calm = true;
}

/* Oracles. */

static void check_digest(struct sim *sim, const json_t *object, struct record *record)
{
    const char *digest = fl_json_str(object, "status.image.digest");

    if (*record->digest && !fl_streq(digest, record->digest))
        sim_fail(sim, "digest", "%s was %s and is %s", fl_json_str(object, "metadata.name"),
                 record->digest, fl_str_or(digest, "nothing"));
    if (digest && sim_is_condition(object, "Ready", "True"))
        (void)snprintf(record->digest, sizeof(record->digest), "%s", digest);
}

static void check_attempts(struct sim *sim, const json_t *object, struct record *record)
{
    int64_t limit = fl_json_int(object, "spec.retryLimit", 0);
    int64_t attempts = fl_json_int(object, "status.attempts", 0);

    if (limit > record->retry_limit)
        record->retry_limit = limit;
    if (attempts > record->retry_limit + 1 + record->edits)
        sim_fail(sim, "attempts", "%s has %" PRId64 " attempts, with %" PRId64 " edits",
                 fl_json_str(object, "metadata.name"), attempts, record->edits);
    if (is_wrong(object) && attempts > 1 + record->edits)
        sim_fail(sim, "attempts", "%s was tried again, and is wrong",
                 fl_json_str(object, "metadata.name"));
}

static bool watchful(struct sim *sim)
{
    struct yard *yard = sim->world;
    FL_JSON list = NULL;
    const json_t *object;
    size_t i;

    if (yard->looked_at == sim->writes)
        return true;
    yard->looked_at = sim->writes;
    list = sim_list(sim, &imagebuilds);
    json_array_foreach(list, i, object) {
        struct record *record = record_of(sim->world, fl_json_str(object, "metadata.uid"));

        if (!record)
            continue;
        check_digest(sim, object, record);
        check_attempts(sim, object, record);
    }
    return !sim->result.failed;
}

static bool is_right(struct sim *sim, const json_t *object, struct fl_buf *why)
{
    const struct yard *yard = sim->world;
    const char *name = fl_json_str(object, "metadata.name");
    size_t live;

    if (fl_json_str(object, "metadata.deletionTimestamp"))
        return sim_wrong(why, "%s is still being deleted", name);
    if (fl_json_int(object, "status.observedGeneration", -1) !=
        fl_json_int(object, "metadata.generation", 0))
        return sim_wrong(why, "%s: its last generation is not observed", name);
    (void)fl_builder_fake_live(yard->fake, fl_json_str(object, "metadata.uid"), &live);
    if (live > 0)
        return sim_wrong(why, "%s is being built", name);
    if (fl_json_bool(object, "spec.suspend", false))
        return sim_is_condition(object, "Ready", "False") || sim_wrong(why, "%s goes on", name);
    if (is_wrong(object))
        return (sim_is_condition(object, "Stalled", "True") &&
                fl_streq(fl_json_str(sim_condition(object, "Ready"), "reason"), "SourceInvalid")) ||
               sim_wrong(why, "%s is wrong, and does not say so", name);
    return sim_is_condition(object, "Ready", "True") ||
           sim_wrong(why, "%s is not built: %s", name,
                     fl_str_or(fl_json_str(sim_condition(object, "Ready"), "message"), "?"));
}

static bool converged(struct sim *sim, struct fl_buf *why)
{
    const struct yard *yard = sim->world;
    FL_JSON list = sim_list(sim, &imagebuilds);
    const json_t *object;
    size_t i, known = 0, live;

    json_array_foreach(list, i, object) {
        if (!is_right(sim, object, why))
            return false;
        known += fl_builder_fake_live(yard->fake, fl_json_str(object, "metadata.uid"), &live);
    }
    if (known != fl_builder_fake_known(yard->fake))
        return sim_wrong(why, "the builder knows of objects that are gone");
    return true;
}

static void touch(struct sim *sim, struct sim_process *process)
{
    (void)sim;
    for (size_t i = 0; i < BUILDS; i++)
        fl_manager_enqueue(process->manager, "imagebuild", NS, names[i]);
}

static uint64_t actions(struct sim *sim)
{
    return fl_builder_fake_begun(((struct yard *)sim->world)->fake);
}

static void remove_all(struct sim *sim)
{
    ((struct yard *)sim->world)->is_calm = false;
    for (size_t i = 0; i < BUILDS; i++) {
        FL_JSON object = sim_get(sim, &imagebuilds, NS, names[i]);

        if (object)
            sim_delete(sim, &imagebuilds, NS, names[i]);
    }
}

static bool nothing_left(struct sim *sim, struct fl_buf *why)
{
    const struct yard *yard = sim->world;

    if (fl_store_count(sim->store, "imagebuilds.flops.dev"))
        return sim_wrong(why, "an ImageBuild is left");
    if (fl_builder_fake_known(yard->fake))
        return sim_wrong(why, "a build of what is gone is left");
    return true;
}

const struct sim_scenario sim_imagebuild = {
    .name = "imagebuild",
    .processes = 1,
    .caches = caches,
    .turns = 200,
    .edits = 16,
    .weight = 2,
    .patience_ms = 3 * 60 * 60 * 1000,
    .idle_ms = 12 * 60 * 1000,
    .create = create,
    .destroy = destroy,
    .join = join,
    .leave = leave,
    .edit = edit,
    .happen = happen,
    .next_due_ms = next_due_ms,
    .calm = calm,
    .watchful = watchful,
    .converged = converged,
    .touch = touch,
    .actions = actions,
    .remove_all = remove_all,
    .nothing_left = nothing_left,
};
