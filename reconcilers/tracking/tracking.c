#include "reconcilers/tracking/tracking.h"

#include "controller/queue/queue.h"
#include "controller/runtime/manager.h"
#include "lib/digest.h"
#include "lib/file.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/tracking/deliver.h"
#include "reconcilers/tracking/tracking_internal.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS       3
#define BASE_DELAY_MS 1000
#define MAX_DELAY_MS  60000
#define ANSWERS_MAX   3                         /* doublings of the delay, while it answers some */
#define GATHER_MS     100                       /* one pass for the changes of a moment */
#define MEMORY_MS     (INT64_C(10) * 60 * 1000) /* then the tracker is asked for all again */
#define SECRET_MS     10000                     /* nothing tells of a Secret that comes */
#define PAUSE_MS      2000                      /* of the others, while one asks a silent tracker */

/* A project that is tracked. The lock guards what stands first; the rest is the worker's that has
 * the key. */
struct entry {
    char *uid;
    struct fl_arena *shown; /* of state */
    struct fl_tracking_state state;
    int64_t generation;

    char server[FL_DIGEST_SIZE]; /* whom the session is with */
    struct fl_tracker *tracker;
    struct fl_track_memory *memory;
    int64_t since_ms; /* of the memory */

    /* Of one that failed: when its next try is, and why. */
    int64_t rests_until_ms;
    unsigned failures;
    struct fl_error why;
    int64_t done_rounds; /* as far as is known here */
};

/* A tracker that did not answer: one project asks it, the others wait for what comes of that. */
struct trouble {
    struct entry *asking; /* NULL: nobody just now */
    struct fl_error why;
};

struct fl_tracking {
    struct fl_tracking_options options;
    struct fl_track_caches caches;
    struct fl_queue *queue;
    struct fl_lock *lock;
    struct fl_map *entries;  /* by key */
    struct fl_map *troubles; /* by address */
    struct fl_thread *threads[WORKERS];
    atomic_bool stopping;
};

/* One pass. */
struct pass {
    struct fl_tracking *tracking;
    const char *key, *ns, *name;
    struct entry *entry;
    struct fl_arena *arena;
    struct fl_track_view view;
    struct fl_track_plan plan;
};

static void entry_free(void *value)
{
    struct entry *entry = value;

    free(entry->uid);
    fl_arena_destroy(entry->shown);
    fl_tracker_destroy(entry->tracker);
    fl_track_memory_destroy(entry->memory);
    free(entry);
}

/* What is shown. */

static bool is_same(const struct fl_tracking_state *a, const struct fl_tracking_state *b)
{
    return a->holds == b->holds && fl_streq(a->reason, b->reason) &&
           fl_streq(a->message, b->message) && fl_streq(a->url, b->url) &&
           fl_streq(a->experiment_id, b->experiment_id) && fl_streq(a->run_id, b->run_id) &&
           a->pending == b->pending;
}

static void copy_state(struct fl_arena *arena, const struct fl_tracking_state *from,
                       struct fl_tracking_state *to)
{
    *to = *from;
    to->reason = fl_arena_copy(arena, from->reason);
    to->message = fl_arena_copy(arena, from->message);
    to->url = fl_arena_copy(arena, from->url);
    to->experiment_id = fl_arena_copy(arena, from->experiment_id);
    to->run_id = fl_arena_copy(arena, from->run_id);
}

/* What was known of the run stays known while the tracker is gone. */
static void keep_names(const struct entry *entry, struct fl_tracking_state *state)
{
    if (state->holds || state->run_id || !entry->shown)
        return;
    state->url = entry->state.url;
    state->experiment_id = fl_str_or(state->experiment_id, entry->state.experiment_id);
    state->run_id = entry->state.run_id;
}

/* True: that is news. */
static bool set_state(struct pass *pass, struct fl_tracking_state *state)
{
    struct entry *entry = pass->entry;
    const char *uid = pass->view.project->meta.uid;
    struct fl_arena *arena;

    FL_LOCKED(pass->tracking->lock);
    entry->generation = pass->view.project->meta.generation;
    if (fl_streq(entry->uid, uid)) {
        keep_names(entry, state);
        if (entry->shown && is_same(&entry->state, state))
            return false;
    }
    arena = fl_arena_create();
    copy_state(arena, state, &entry->state);
    fl_arena_destroy(entry->shown);
    entry->shown = arena;
    free(entry->uid);
    entry->uid = fl_strdup(uid);
    return true;
}

static void show(struct pass *pass, struct fl_tracking_state state)
{
    const struct fl_tracking_options *options = &pass->tracking->options;

    if (set_state(pass, &state) && options->changed)
        options->changed(options->user, pass->ns, pass->name);
}

void fl_tracking_state(struct fl_tracking *tracking, const char *ns, const char *project,
                       const char *uid, struct fl_arena *arena, struct fl_tracking_state *ret_state)
{
    const char *key = fl_arena_printf(arena, "%s/%s", ns, project);
    const struct entry *entry;

    FL_LOCKED(tracking->lock);
    entry = fl_map_get(tracking->entries, key);
    *ret_state = (struct fl_tracking_state){.reason = "Pending",
                                            .message = "the tracking server is going to be asked"};
    if (entry && entry->shown && fl_streq(entry->uid, uid))
        copy_state(arena, &entry->state, ret_state);
}

/* Trackers that do not answer. */

static bool is_silence(int code)
{
    return code == FL_E_UNAVAILABLE || code == FL_E_TIMEOUT || code == FL_E_TOO_MANY_REQUESTS;
}

/* False: another project asks it just now, and has not heard anything. */
static bool may_ask(struct pass *pass, struct fl_error *ret_why)
{
    struct trouble *trouble;

    FL_LOCKED(pass->tracking->lock);
    trouble = fl_map_get(pass->tracking->troubles, pass->view.server.url);
    if (!trouble)
        return true;
    *ret_why = trouble->why;
    if (trouble->asking && trouble->asking != pass->entry)
        return false;
    trouble->asking = pass->entry;
    return true;
}

static void note_answer(struct pass *pass, int code, const struct fl_error *err)
{
    struct fl_map *troubles = pass->tracking->troubles;
    struct trouble *trouble;

    FL_LOCKED(pass->tracking->lock);
    trouble = fl_map_get(troubles, pass->view.server.url);
    if (!is_silence(code)) {
        if (trouble)
            (void)fl_map_remove(troubles, pass->view.server.url);
        return;
    }
    if (!trouble) {
        trouble = fl_calloc(1, sizeof(*trouble));
        fl_map_put(troubles, pass->view.server.url, trouble);
    }
    trouble->why = *err;
    trouble->asking = NULL;
}

/* A pass. */

static bool go_on(void *user)
{
    return !atomic_load(&((struct fl_tracking *)user)->stopping);
}

static void digest_server(const struct fl_tracker_server *server, char out[FL_DIGEST_SIZE])
{
    const char *parts[] = {server->url, server->username, server->password, server->token,
                           server->ca_pem};
    struct fl_sha256 *hash = fl_sha256_create();

    for (size_t i = 0; i < FL_COUNT_OF(parts); i++)
        fl_sha256_add(hash, fl_str_or(parts[i], ""), strlen(fl_str_or(parts[i], "")) + 1);
    fl_sha256_end_text(hash, out);
    fl_sha256_destroy(hash);
}

/* A session with whom the project names now. */
static int ensure_session(struct pass *pass, struct fl_error *err)
{
    const struct fl_tracking_options *options = &pass->tracking->options;
    const struct fl_tracker_options session = {
        .env = options->env, .server = &pass->view.server, .go_on = go_on, .user = pass->tracking};
    const int64_t now_ms = fl_monotonic_ms(options->env);
    struct entry *entry = pass->entry;
    char digest[FL_DIGEST_SIZE];

    digest_server(&pass->view.server, digest);
    if (strcmp(digest, entry->server) != 0 || now_ms - entry->since_ms > MEMORY_MS ||
        !fl_streq(entry->uid, pass->plan.owner)) {
        fl_track_memory_clear(entry->memory);
        entry->since_ms = now_ms;
        entry->done_rounds = 0;
    }
    if (entry->tracker && strcmp(digest, entry->server) == 0)
        return 0;
    fl_tracker_destroy(FL_TAKE(entry->tracker));
    memcpy(entry->server, digest, sizeof(digest));
    return options->open(options->open_user, &session, &entry->tracker, err);
}

static const char *folder_of(struct pass *pass)
{
    return fl_arena_printf(pass->arena, "%s/%s", pass->tracking->options.folder, pass->plan.owner);
}

static int export(void *user, const struct fl_track_model *model, const char **ret_folder,
                  struct fl_error *err)
{
    struct pass *pass = user;

    for (size_t i = 0; i < pass->view.input.model_count; i++)
        if (pass->view.input.models[i] == model->version)
            return fl_track_export(&pass->tracking->options, pass->view.models[i], folder_of(pass),
                                   pass->arena, ret_folder, err);
    return fl_error_set(err, FL_E_NOT_FOUND, "there is no such model");
}

static int deliver(struct pass *pass, struct fl_track_progress *progress, struct fl_error *err)
{
    const struct fl_track_delivery delivery = {.plan = &pass->plan,
                                               .memory = pass->entry->memory,
                                               .arena = pass->arena,
                                               .export = export,
                                               .user = pass};
    struct fl_track_delivery own = delivery;
    int r = ensure_session(pass, err);

    progress->owed_models = (int64_t)pass->plan.model_count;
    if (r < 0)
        return r;
    own.tracker = pass->entry->tracker;
    r = fl_track_deliver(&own, progress, err);
    (void)fl_dir_remove(folder_of(pass), NULL);
    if (r == 0)
        r = fl_track_note_versions(pass->tracking->options.client, &pass->plan, progress->versions,
                                   err);
    return r;
}

static const char *reason_of(int code)
{
    switch (code) {
    case FL_E_UNAUTHORIZED:
    case FL_E_FORBIDDEN:
        return "Unauthorized";
    case FL_E_UNAVAILABLE:
    case FL_E_TIMEOUT:
    case FL_E_TOO_MANY_REQUESTS:
    case FL_E_INTERNAL:
        return "Unreachable";
    default:
        return "Refused";
    }
}

static void show_success(struct pass *pass, const struct fl_track_progress *progress)
{
    struct fl_tracking_state state = {.holds = true,
                                      .reason = "Recorded",
                                      .url = progress->url,
                                      .experiment_id = progress->experiment_id,
                                      .run_id = progress->run_id};

    state.message = pass->plan.run_count > 0
                        ? fl_arena_printf(pass->arena, "all that has happened is recorded at %s",
                                          pass->view.server.url)
                        : fl_arena_printf(pass->arena, "%s is ready for the first round",
                                          pass->view.server.url);
    show(pass, state);
}

static const char *owed(struct pass *pass, int64_t rounds, int64_t models)
{
    if (rounds + models == 0)
        return "what is owed";
    return fl_arena_printf(pass->arena, "what is owed (rounds: %" PRId64 ", models: %" PRId64 ")",
                           rounds, models);
}

static void show_failure(struct pass *pass, const struct fl_track_progress *progress,
                         const struct fl_error *err)
{
    struct fl_tracking_state state = {.reason = reason_of(err->code),
                                      .url = progress->url,
                                      .experiment_id = progress->experiment_id,
                                      .run_id = progress->run_id,
                                      .pending = progress->owed_rounds + progress->owed_models};

    state.message = fl_arena_printf(
        pass->arena, "%s; training goes on; %s will be delivered when it takes them: %s",
        pass->view.server.url, owed(pass, progress->owed_rounds, progress->owed_models), err->msg);
    show(pass, state);
}

static void rest(struct pass *pass, int64_t delay_ms)
{
    pass->entry->rests_until_ms = fl_monotonic_ms(pass->tracking->options.env) + delay_ms;
    fl_queue_add_after(pass->tracking->queue, pass->key, delay_ms);
}

static int64_t back_off(struct pass *pass)
{
    const struct fl_tracking_options *options = &pass->tracking->options;
    int64_t delay_ms = options->base_delay_ms, most_ms = options->max_delay_ms;

    for (unsigned i = 0; i < pass->entry->failures && delay_ms < most_ms; i++)
        delay_ms *= 2;
    pass->entry->failures++;
    return delay_ms < most_ms ? delay_ms : most_ms;
}

/* Whoever wakes one that rests hears how much is owed by now, and does not hurry it. What the user
 * changed is tried at once. */
static bool rests_still(struct pass *pass)
{
    const struct entry *entry = pass->entry;

    return fl_monotonic_ms(pass->tracking->options.env) < entry->rests_until_ms &&
           entry->generation == pass->view.project->meta.generation &&
           fl_streq(entry->uid, pass->view.project->meta.uid);
}

static void fail(struct pass *pass, const struct fl_track_progress *progress,
                 const struct fl_error *err)
{
    fl_log_debug(pass->tracking->options.env->log, "tracking", FL_STR("project", pass->key),
                 FL_STR("error", err->msg));
    pass->entry->why = *err;
    show_failure(pass, progress, err);
    /* One that told which run it is was not gone: each pass comes further. */
    if (err->code == FL_E_UNAVAILABLE && progress->run_id && pass->entry->failures > ANSWERS_MAX)
        pass->entry->failures = ANSWERS_MAX;
    rest(pass, back_off(pass));
}

/* What is owed, as far as is known here. */
static void count_all(const struct pass *pass, struct fl_track_progress *progress)
{
    if (pass->plan.run_count > 0)
        progress->rounds = (int64_t)pass->plan.runs[0].round_count;
    progress->owed_rounds = progress->rounds > pass->entry->done_rounds
                                ? progress->rounds - pass->entry->done_rounds
                                : 0;
    progress->owed_models = (int64_t)pass->plan.model_count;
}

static void succeed(struct pass *pass, const struct fl_track_progress *progress)
{
    pass->entry->failures = 0;
    pass->entry->rests_until_ms = 0;
    pass->entry->done_rounds = progress->rounds;
    show_success(pass, progress);
}

static void track(struct pass *pass)
{
    struct fl_track_progress progress = {0};
    struct fl_error err = {0};
    int r;

    r = deliver(pass, &progress, &err);
    if (!go_on(pass->tracking))
        return;
    note_answer(pass, r, &err);
    if (r == 0) {
        succeed(pass, &progress);
        return;
    }
    if (!progress.run_id)
        count_all(pass, &progress);
    fail(pass, &progress, &err);
}

static void track_in_turn(struct pass *pass)
{
    struct fl_track_progress progress = {0};
    struct fl_error err = {0};

    fl_track_plan(&pass->view.input, pass->arena, &pass->plan);
    count_all(pass, &progress);
    if (rests_still(pass)) {
        show_failure(pass, &progress, &pass->entry->why);
        rest(pass, pass->entry->rests_until_ms - fl_monotonic_ms(pass->tracking->options.env));
    } else if (!may_ask(pass, &err)) {
        pass->entry->why = err;
        show_failure(pass, &progress, &err);
        rest(pass, PAUSE_MS);
    } else {
        track(pass);
    }
}

static void tell_missing(struct pass *pass)
{
    const struct fl_tracking_state state = {.reason = "CredentialsMissing",
                                            .message = pass->view.missing};

    show(pass, state);
    fl_queue_add_after(pass->tracking->queue, pass->key, SECRET_MS);
}

static struct entry *find_entry(struct fl_tracking *tracking, const char *key)
{
    struct entry *entry;

    FL_LOCKED(tracking->lock);
    entry = fl_map_get(tracking->entries, key);
    if (!entry) {
        entry = fl_calloc(1, sizeof(*entry));
        entry->memory = fl_track_memory_create();
        fl_map_put(tracking->entries, key, entry);
    }
    return entry;
}

static void drop_entry(struct pass *pass)
{
    const char *url = NULL;
    void *cursor = NULL, *value;

    FL_LOCKED(pass->tracking->lock);
    while (fl_map_next(pass->tracking->troubles, &cursor, &url, &value))
        if (((struct trouble *)value)->asking == pass->entry)
            ((struct trouble *)value)->asking = NULL;
    (void)fl_map_remove(pass->tracking->entries, pass->key);
}

static void process(struct fl_tracking *tracking, const char *key)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *slash = strchr(key, '/');
    struct pass pass = {.tracking = tracking,
                        .key = key,
                        .ns = fl_arena_strndup(arena, key, (size_t)(slash - key)),
                        .name = slash + 1,
                        .entry = find_entry(tracking, key),
                        .arena = arena};
    struct fl_error err = {0};
    int r = fl_track_look(&tracking->caches, pass.ns, pass.name, arena, &pass.view, &err);

    if (r < 0) {
        fl_log_error(tracking->options.env->log, "tracking", FL_STR("project", key),
                     FL_STR("error", err.msg));
        fl_queue_add_rate_limited(tracking->queue, key);
    } else if (!pass.view.wanted) {
        drop_entry(&pass);
    } else if (pass.view.missing) {
        tell_missing(&pass);
    } else {
        track_in_turn(&pass);
    }
}

bool fl_tracking_step(struct fl_tracking *tracking)
{
    FL_CLEANUP(fl_freep) char *key = fl_queue_try_get(tracking->queue);

    if (!key)
        return false;
    process(tracking, key);
    fl_queue_done(tracking->queue, key);
    return true;
}

int64_t fl_tracking_next_due_ms(struct fl_tracking *tracking)
{
    return fl_queue_next_due_ms(tracking->queue);
}

/* Nothing is done for one that is neither tracked nor was. */
static bool is_known(struct fl_tracking *tracking, const char *key)
{
    FL_LOCKED(tracking->lock);
    return fl_map_get(tracking->entries, key) != NULL;
}

void fl_tracking_wake(struct fl_tracking *tracking, const struct fl_object_meta *project,
                      bool wanted)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%s", project->namespace, project->name);

    if (wanted || is_known(tracking, key))
        fl_queue_add_after(tracking->queue, key, GATHER_MS);
}

/* Life. */

static void work(void *user)
{
    struct fl_tracking *tracking = user;
    char *key;

    while ((key = fl_queue_get(tracking->queue))) {
        process(tracking, key);
        fl_queue_done(tracking->queue, key);
        free(key);
    }
}

static struct fl_cache *cache_of(struct fl_manager *manager, const struct fl_kind_type *type)
{
    struct fl_gvr gvr = fl_gvr_of(type);

    return fl_manager_cache(manager, &gvr);
}

int fl_tracking_create(const struct fl_tracking_options *options, struct fl_tracking **ret_tracking,
                       struct fl_error *err)
{
    const struct fl_queue_options queue = {.env = options->env, .name = "tracking"};
    struct fl_tracking *tracking;
    int r = fl_dir_ensure(options->folder, 0700, err);

    if (r == 0)
        r = fl_dir_empty(options->folder, err);
    if (r < 0)
        return fl_error_wrap(err, "folder of models that are being sent");
    tracking = fl_calloc(1, sizeof(*tracking));
    tracking->options = *options;
    if (tracking->options.base_delay_ms == 0)
        tracking->options.base_delay_ms = BASE_DELAY_MS;
    if (tracking->options.max_delay_ms == 0)
        tracking->options.max_delay_ms = MAX_DELAY_MS;
    tracking->caches =
        (struct fl_track_caches){.projects = cache_of(options->manager, &fl_project_type),
                                 .rounds = cache_of(options->manager, &fl_round_type),
                                 .histories = cache_of(options->manager, &fl_history_type),
                                 .models = cache_of(options->manager, &fl_modelversion_type),
                                 .secrets = fl_manager_cache(options->manager, &fl_gvr_secrets)};
    tracking->queue = fl_queue_create(&queue);
    tracking->lock = fl_lock_create();
    tracking->entries = fl_map_create(entry_free);
    tracking->troubles = fl_map_create(free);
    *ret_tracking = tracking;
    return 0;
}

int fl_tracking_start(struct fl_tracking *tracking, struct fl_error *err)
{
    int r = 0;

    for (size_t i = 0; i < WORKERS && r == 0; i++)
        r = fl_thread_start("flops-tracking", work, tracking, &tracking->threads[i], err);
    return r;
}

void fl_tracking_stop(struct fl_tracking *tracking)
{
    atomic_store(&tracking->stopping, true);
    fl_queue_shut_down(tracking->queue);
    for (size_t i = 0; i < WORKERS; i++)
        fl_thread_join(FL_TAKE(tracking->threads[i]));
}

void fl_tracking_destroy(struct fl_tracking *tracking)
{
    if (!tracking)
        return;
    fl_queue_destroy(tracking->queue);
    fl_map_destroy(tracking->entries);
    fl_map_destroy(tracking->troubles);
    fl_lock_destroy(tracking->lock);
    free(tracking);
}
