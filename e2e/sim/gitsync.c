/* GitSyncs of a repository by script: commits, reverts, broken files and unsigned heads, remotes
 * that are slow or away; users who meddle with what was applied, and with the GitSync. */
#include "reconcilers/gitsync/gitsync.h"

#include "controller/source/source_fake.h"
#include "e2e/sim/sim.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

#define NS   "default"
#define NAME "live"
#define URL  "https://git.test/repo"
#define SIGNER                                                                                     \
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"                                                        \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA alice"
#define FOREIGN  "g-foreign"
#define MAPS     4
#define HISTORY  32
#define UIDS_MAX 32

static const struct fl_gvr gitsyncs = {"flops.dev", "v1alpha1", "gitsyncs", true};
static const struct fl_gvr *const caches[] = {&gitsyncs, NULL};

struct revision { /* by map: what it says; 0: it is not there */
    char commit[32];
    unsigned char says[MAPS];
    bool broken;
};

struct forge {
    struct sim *sim;
    struct fl_source_fake *fake;
    struct revision history[HISTORY];
    size_t count;
    struct revision head;
    bool is_signed;
    char uids[UIDS_MAX][40]; /* of the GitSyncs that there were */
    size_t uid_count;
};

/* A process's door to the source: with faults. */
struct door {
    struct fl_source base;
    struct sim_process *process;
    struct fl_source *inner;
};

struct kinds {
    struct fl_kind_ops ops;
    struct door door;
    struct fl_gitsyncs *syncs;
};

/* What the call came to, unless the fault says otherwise. */
static int answer(enum sim_fault fault, int r, struct fl_error *err)
{
    int fault_code = sim_fault_error(fault, err);

    return fault_code < 0 ? fault_code : r;
}

static int fetch(struct fl_source *self, const char *key, const struct fl_source_request *request,
                 uint64_t *ret_ticket, struct fl_error *err)
{
    struct door *door = (struct door *)self;
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_READ, "fetch");
    int r = 0;

    if (sim_takes_place(fault))
        r = door->inner->ops->fetch(door->inner, key, request, ret_ticket, err);
    sim_call_done(door->process, fault);
    return answer(fault, r, err);
}

static int observe(struct fl_source *self, const char *key, struct fl_arena *arena,
                   struct fl_fetch_result *ret_result, struct fl_error *err)
{
    struct door *door = (struct door *)self;
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_READ, "observe");

    sim_call_done(door->process, fault);
    if (answer(fault, 0, err) < 0)
        return answer(fault, 0, err);
    return door->inner->ops->observe(door->inner, key, arena, ret_result, err);
}

static int forget(struct fl_source *self, const char *key, struct fl_error *err)
{
    struct door *door = (struct door *)self;
    enum sim_fault fault = sim_call(door->process, SIM_CALL_DRIVER_READ, "forget");
    int r = 0;

    if (sim_takes_place(fault))
        r = door->inner->ops->forget(door->inner, key, err);
    sim_call_done(door->process, fault);
    return answer(fault, r, err);
}

static void leave_open(struct fl_source *self)
{
    (void)self;
}

static const struct fl_source_ops door_ops = {
    .name = "simulated",
    .destroy = leave_open,
    .fetch = fetch,
    .observe = observe,
    .forget = forget,
};

/* The repository. */

static void commit(struct forge *forge, const struct revision *revision)
{
    static const char *const words[] = {"", "one", "two", "three"};
    struct fl_source_fake_file files[MAPS + 2] = {{0}};
    char paths[MAPS][16], texts[MAPS][200];
    size_t count = 0;

    for (size_t i = 0; i < MAPS; i++) {
        if (!revision->says[i])
            continue;
        (void)snprintf(paths[i], sizeof(paths[i]), "g-%zu.yaml", i);
        (void)snprintf(texts[i], sizeof(texts[i]),
                       "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: g-%zu\ndata:\n"
                       "  says: %s\n",
                       i, words[revision->says[i]]);
        files[count++] = (struct fl_source_fake_file){paths[i], texts[i]};
    }
    if (revision->broken)
        files[count++] = (struct fl_source_fake_file){"zz.yaml", "kind: [\n"};
    forge->head = *revision;
    (void)snprintf(forge->head.commit, sizeof(forge->head.commit), "%s",
                   fl_source_fake_commit(forge->fake, URL, NULL, files));
    if (forge->count < HISTORY)
        forge->history[forge->count++] = forge->head;
    sim_trace(forge->sim, "user: pushes %s%s", forge->head.commit,
              revision->broken ? ", which is broken" : "");
}

static struct revision some_revision(struct sim *sim)
{
    struct revision revision = {.broken = sim_chance(sim, 15)};

    for (size_t i = 0; i < MAPS; i++)
        revision.says[i] = (unsigned char)sim_below(sim, 4);
    return revision;
}

static void set_signed(struct forge *forge, bool is_signed)
{
    forge->is_signed = is_signed;
    fl_source_fake_sign(forge->fake, URL, is_signed ? SIGNER : NULL);
}

/* A push makes a head that is signed, or not; going back is a force push. */
static void push(struct sim *sim, struct forge *forge)
{
    struct revision revision = some_revision(sim);

    if (forge->count > 0 && sim_chance(sim, 25)) {
        forge->head = forge->history[sim_below(sim, forge->count)];
        (void)fl_source_fake_commit(forge->fake, URL, forge->head.commit, NULL);
        sim_trace(sim, "user: goes back to %s", forge->head.commit);
    } else {
        commit(forge, &revision);
    }
    set_signed(forge, sim_chance(sim, 85));
}

static void *create(struct sim *sim)
{
    struct forge *forge = fl_calloc(1, sizeof(*forge));
    struct revision first = some_revision(sim);

    forge->sim = sim;
    forge->fake = fl_source_fake_create(&sim->env);
    commit(forge, &first);
    set_signed(forge, true);
    sim_create(sim, &fl_gvr_configmaps,
               json_pack("{s:s,s:s,s:{s:s,s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                         "metadata", "name", FOREIGN, "namespace", NS));
    return forge;
}

static void destroy(void *world)
{
    struct forge *forge = world;

    fl_source_fake_destroy(forge->fake);
    free(forge);
}

/* Planted. */
static int end_at_once(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    (void)rc;
    (void)object;
    (void)err;
    return FL_STEP_DONE;
}

static int join(struct sim_process *process, struct fl_error *err)
{
    static const struct fl_gitsync_options options = {.local_everywhere = false};
    struct forge *forge = process->sim->world;
    struct kinds *kinds = fl_calloc(1, sizeof(*kinds));

    process->kinds = kinds;
    kinds->door = (struct door){
        .base = {&door_ops}, .process = process, .inner = fl_source_fake_source(forge->fake)};
    kinds->syncs = fl_gitsyncs_create(&options);
    fl_source_fake_on_change(forge->fake, fl_gitsync_source_changed, kinds->syncs);
    fl_gitsyncs_attach(kinds->syncs, process->manager, &kinds->door.base);
    kinds->ops = fl_gitsync_ops;
    if (sim_planted(process->sim, "sync-finalizer-early"))
        kinds->ops.finalize = end_at_once;
    return fl_manager_add(process->manager, &kinds->ops, kinds->syncs, err);
}

static void leave(struct sim_process *process)
{
    struct forge *forge = process->sim->world;
    struct kinds *kinds = process->kinds;

    fl_source_fake_crash(forge->fake);
    fl_source_fake_on_change(forge->fake, NULL, NULL);
    fl_gitsyncs_destroy(kinds->syncs);
    free(kinds);
}

/* Users. */

static void note_uid(struct sim *sim)
{
    struct forge *forge = sim->world;
    FL_JSON sync = sim_get(sim, &gitsyncs, NS, NAME);

    if (sync && forge->uid_count < UIDS_MAX)
        (void)snprintf(forge->uids[forge->uid_count++], sizeof(forge->uids[0]), "%s",
                       fl_json_str(sync, "metadata.uid"));
}

static void make(struct sim *sim)
{
    sim_trace(sim, "user: %s is made", NAME);
    sim_create(sim, &gitsyncs,
               json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:s,s:s,s:s,s:{s:[s]}}}", "apiVersion",
                         "flops.dev/v1alpha1", "kind", "GitSync", "metadata", "name", NAME,
                         "namespace", NS, "spec", "url", URL, "interval", "1m", "onError",
                         sim_chance(sim, 50) ? "ApplyRest" : "ApplyNothing", "verify",
                         "allowedSigners", SIGNER));
    note_uid(sim);
}

static void meddle(struct sim *sim)
{
    char name[16];
    FL_JSON map = NULL;

    (void)snprintf(name, sizeof(name), "g-%" PRIu64, sim_below(sim, MAPS));
    map = sim_get(sim, &fl_gvr_configmaps, NS, name);
    if (!map)
        return;
    sim_trace(sim, "user: deletes %s", name);
    sim_delete(sim, &fl_gvr_configmaps, NS, name);
}

static void change(struct sim *sim)
{
    char value[24];

    switch (sim_below(sim, 3)) {
    case 0:
        sim_trace(sim, "user: suspends or resumes");
        sim_patch(sim, &gitsyncs, NS, NAME,
                  json_pack("{s:{s:b}}", "spec", "suspend", (int)sim_below(sim, 2)));
        break;
    case 1:
        sim_trace(sim, "user: asks for it now");
        (void)snprintf(value, sizeof(value), "%" PRIu64, sim_random(sim));
        sim_patch(
            sim, &gitsyncs, NS, NAME,
            json_pack("{s:{s:{s:s}}}", "metadata", "annotations", FL_GITSYNC_ANNOTATION, value));
        break;
    default:
        meddle(sim);
        break;
    }
}

static void edit(struct sim *sim)
{
    struct forge *forge = sim->world;
    FL_JSON sync = sim_get(sim, &gitsyncs, NS, NAME);

    if (!sync) {
        make(sim);
    } else if (sim_chance(sim, 12)) {
        sim_trace(sim, "user: %s is deleted", NAME);
        sim_delete(sim, &gitsyncs, NS, NAME);
    } else if (sim_chance(sim, 60)) {
        push(sim, forge);
    } else {
        change(sim);
    }
}

static bool happen(struct sim *sim, bool is_calm)
{
    struct forge *forge = sim->world;
    size_t count = fl_source_fake_step(forge->fake);
    bool reachable;

    if (count)
        sim_trace(sim, "%zu fetches end", count);
    if (is_calm || !sim_chance(sim, 20))
        return count > 0;
    reachable = sim_chance(sim, 60);
    sim_trace(sim, "the remote is %s", reachable ? "reachable" : "away");
    fl_source_fake_reach(forge->fake, URL, reachable);
    fl_source_fake_slow(forge->fake, URL, (int64_t)sim_below(sim, 3000));
    return count > 0;
}

static int64_t next_due_ms(struct sim *sim)
{
    return fl_source_fake_next_due_ms(((struct forge *)sim->world)->fake);
}

/* The last head is a good one, so that there is one right end. */
static void calm(struct sim *sim)
{
    struct forge *forge = sim->world;
    struct revision revision = forge->head;

    fl_source_fake_reach(forge->fake, URL, true);
    if (!forge->is_signed)
        set_signed(forge, true);
    if (!revision.broken)
        return;
    revision.broken = false;
    commit(forge, &revision);
    set_signed(forge, true);
}

/* Oracles. */

static bool map_right(struct sim *sim, size_t i, unsigned says, struct fl_buf *why)
{
    static const char *const words[] = {"", "one", "two", "three"};
    char name[16];
    FL_JSON map = NULL;

    (void)snprintf(name, sizeof(name), "g-%zu", i);
    map = sim_get(sim, &fl_gvr_configmaps, NS, name);
    if (!says != !map)
        return sim_wrong(why, "map %s is %s", name, map ? "left over" : "missing");
    if (map && !fl_streq(fl_json_str(map, "data.says"), words[says]))
        return sim_wrong(why, "map %s says %s, not %s", name,
                         fl_str_or(fl_json_str(map, "data.says"), "?"), words[says]);
    return true;
}

static bool foreign_there(struct sim *sim, struct fl_buf *why)
{
    FL_JSON map = sim_get(sim, &fl_gvr_configmaps, NS, FOREIGN);

    return map ? true : sim_wrong(why, "another's map is gone");
}

static bool maps_right(struct sim *sim, bool wanted, struct fl_buf *why)
{
    const struct forge *forge = sim->world;

    for (size_t i = 0; i < MAPS; i++) {
        if (!map_right(sim, i, wanted ? forge->head.says[i] : 0, why))
            return false;
    }
    return foreign_there(sim, why);
}

static bool status_right(struct sim *sim, const json_t *sync, struct fl_buf *why)
{
    const struct forge *forge = sim->world;
    const char *live = fl_json_str(sync, "status.lastAppliedRevision");
    size_t wanted = 0;

    for (size_t i = 0; i < MAPS; i++)
        wanted += forge->head.says[i] != 0;
    if (fl_json_int(sync, "status.observedGeneration", -1) !=
        fl_json_int(sync, "metadata.generation", 0))
        return sim_wrong(why, "its last generation is not observed");
    if (!sim_is_condition(sync, "Ready", "True"))
        return sim_wrong(why, "Ready is not True: %s",
                         fl_str_or(fl_json_str(sim_condition(sync, "Ready"), "message"), "?"));
    if (!live || !fl_str_has_suffix(live, forge->head.commit))
        return sim_wrong(why, "%s is live, not %s", fl_str_or(live, "nothing"), forge->head.commit);
    if (json_array_size(fl_json_path(sync, "status.inventory")) != wanted)
        return sim_wrong(why, "%zu objects in the inventory, not %zu",
                         json_array_size(fl_json_path(sync, "status.inventory")), wanted);
    return true;
}

static bool converged(struct sim *sim, struct fl_buf *why)
{
    FL_JSON sync = sim_get(sim, &gitsyncs, NS, NAME);

    if (!sync)
        return maps_right(sim, false, why);
    if (fl_json_str(sync, "metadata.deletionTimestamp"))
        return sim_wrong(why, "it is still being deleted");
    if (fl_json_bool(sync, "spec.suspend", false))
        return sim_is_condition(sync, "Ready", "False") ? foreign_there(sim, why)
                                                        : sim_wrong(why, "it is not suspended");
    return maps_right(sim, true, why) && status_right(sim, sync, why);
}

static void touch(struct sim *sim, struct sim_process *process)
{
    (void)sim;
    fl_manager_enqueue(process->manager, "gitsync", NS, NAME);
}

static uint64_t actions(struct sim *sim)
{
    (void)sim;
    return 0;
}

static void remove_all(struct sim *sim)
{
    sim_delete(sim, &gitsyncs, NS, NAME);
}

static bool nothing_left(struct sim *sim, struct fl_buf *why)
{
    const struct forge *forge = sim->world;

    if (fl_store_count(sim->store, "gitsyncs.flops.dev"))
        return sim_wrong(why, "the GitSync is left");
    for (size_t i = 0; i < forge->uid_count; i++) {
        if (fl_source_fake_knows(forge->fake, forge->uids[i]))
            return sim_wrong(why, "what was fetched for %s is left", forge->uids[i]);
    }
    return maps_right(sim, false, why);
}

const struct sim_scenario sim_gitsync = {
    .name = "gitsync",
    .processes = 1,
    .caches = caches,
    .turns = 150,
    .edits = 12,
    .patience_ms = 3 * 60 * 60 * 1000,
    .settle_ms = 3 * 60 * 1000, /* status.objects: the next try finds all unchanged */
    .idle_ms = 12 * 60 * 1000,
    .create = create,
    .destroy = destroy,
    .join = join,
    .leave = leave,
    .edit = edit,
    .happen = happen,
    .next_due_ms = next_due_ms,
    .calm = calm,
    .converged = converged,
    .touch = touch,
    .actions = actions,
    .remove_all = remove_all,
    .nothing_left = nothing_left,
};
