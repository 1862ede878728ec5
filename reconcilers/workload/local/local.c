/* The table, and the driver's life. */
#include "reconcilers/workload/local/local.h"

#include "lib/file.h"

#include "reconcilers/workload/local/internal.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER  "local"
#define HUNG_MS 30000

/* Settings. */

static int check_settings(const struct fl_orchestrator_local *settings, struct fl_error *err)
{
    struct in6_addr scratch;

    if (settings->address && inet_pton(AF_INET, settings->address, &scratch) != 1 &&
        inet_pton(AF_INET6, settings->address, &scratch) != 1)
        return fl_error_set(err, FL_E_INVALID, "spec.local.address: %s is no IP address",
                            settings->address);
    if (settings->has_ports && (settings->ports.first < 1 || settings->ports.last > 65535 ||
                                settings->ports.first > settings->ports.last))
        return fl_error_set(err, FL_E_INVALID, "spec.local.ports: no range of ports");
    return 0;
}

static const struct fl_field *local_field(void)
{
    const struct fl_field *field = fl_orchestrator_type.fields;

    while (strcmp(field->name, "spec") != 0)
        field++;
    for (field = field->fields; strcmp(field->name, "local") != 0;)
        field++;
    return field;
}

static void take_settings(struct fl_local *local, const struct fl_orchestrator_local *settings)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_orchestrator_local copy = {0};

    if (settings)
        fl_fields_clone(local_field()->fields, sizeof(copy), settings, arena, &copy);
    if (!copy.address)
        copy.address = "127.0.0.1";
    if (!copy.has_ports)
        copy.ports.first = PORTS_FIRST, copy.ports.last = PORTS_LAST;
    fl_arena_destroy(local->settings_arena);
    local->settings_arena = arena;
    local->settings = copy;
}

/* Slow, so a worker asks, and people see it a moment later. */
struct version_question {
    struct fl_local *local;
    char *path, *text;
};

static void answer_version(void *user)
{
    struct version_question *question = user;
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    question->text = fl_strdup(runtime_version(question->path, arena));
}

static void keep_version(void *user)
{
    struct version_question *question = user;
    struct fl_local *local = question->local;

    {
        FL_LOCKED(local->lock);
        if (fl_streq(question->path, local->runtime.path)) {
            free(local->runtime_text);
            local->runtime_text = FL_TAKE(question->text);
        }
    }
    free(question->text);
    free(question->path);
    free(question);
    local_tell(local, NULL, NULL);
}

static void begin_question(void *user)
{
    struct version_question *question = user;

    if (fl_loop_offload(question->local->loop, answer_version, keep_version, question, NULL) == 0)
        return;
    free(question->path);
    free(question);
}

static void ask_version(struct fl_local *local)
{
    struct version_question *question;
    FL_LOCKED(local->lock);

    free(FL_TAKE(local->runtime_text));
    if (!local->runtime.path || !local->images)
        return;
    question = fl_calloc(1, sizeof(*question));
    question->local = local;
    question->path = fl_strdup(local->runtime.path);
    fl_loop_post(local->loop, begin_question, question);
}

static int configure(struct fl_orchestrator_driver *self, const struct fl_orchestrator_spec *spec,
                     struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    int r = spec->has_local ? check_settings(&spec->local, err) : 0;

    if (spec->type != FL_ORCHESTRATOR_TYPE_LOCAL)
        return fl_error_set(err, FL_E_INVALID, "spec.type: this is the orchestrator Local");
    if (r < 0)
        return r;
    {
        FL_LOCKED(local->lock);
        r = runtime_choose(
            local, spec->has_local ? spec->local.runtime : FL_ORCHESTRATOR_LOCAL_RUNTIME_AUTO, err);
        if (r == 0)
            take_settings(local, spec->has_local ? &spec->local : NULL);
    }
    if (r < 0)
        return r;
    ask_version(local);
    local_tell(local, NULL, NULL);
    return 0;
}

/* Observing. */

static struct fl_run_exit copy_exit(struct fl_arena *arena, struct fl_run_exit exit)
{
    exit.signal = fl_arena_copy(arena, exit.signal);
    exit.reason = fl_arena_copy(arena, exit.reason);
    exit.message = fl_arena_copy(arena, exit.message);
    exit.log_tail = fl_arena_copy(arena, exit.log_tail);
    return exit;
}

static enum fl_run_state state_of(const struct instance *instance)
{
    if (!instance->alive)
        return FL_RUN_ENDED;
    if (instance->stopping)
        return FL_RUN_STOPPING;
    return instance->status.started_us > 0 && instance->record.started ? FL_RUN_RUNNING
                                                                       : FL_RUN_STARTING;
}

static void copy_ports(struct fl_arena *arena, const struct record *record, struct fl_run *run)
{
    run->ports = fl_new_array(arena, struct fl_run_port, record->port_count + 1);
    for (; run->port_count < record->port_count; run->port_count++) {
        const struct run_port *from = &record->ports[run->port_count];

        run->ports[run->port_count] =
            (struct fl_run_port){fl_arena_copy(arena, from->name), from->port, from->port};
    }
}

static const char *message_of(struct fl_arena *arena, const struct instance *instance)
{
    const char *note = instance->record.note;
    char text[512];

    if (instance->pending) {
        fl_image_job_describe(instance->pending->job, text, sizeof(text));
        return fl_arena_strdup(arena, text);
    }
    if (!instance->alive || !*instance->message)
        return fl_arena_copy(arena, note);
    return note ? fl_arena_printf(arena, "%s; %s", instance->message, note)
                : fl_arena_strdup(arena, instance->message);
}

static void describe(struct fl_arena *arena, const struct instance *instance, struct fl_run *run)
{
    const struct record *record = &instance->record;
    const struct fl_shim_status *status = &instance->status;

    *run = (struct fl_run){
        .index = instance->index,
        .number = record->number,
        .restarts = record->restarts,
        .failures = record->failures,
        .first_us = record->first_us,
        .spec_hash = fl_arena_copy(arena, record->spec_hash),
        .cluster = fl_arena_copy(arena, record->cluster),
        .node = fl_arena_copy(arena, record->node),
        .state = state_of(instance),
        .ready = local_is_ready(instance),
        .message = message_of(arena, instance),
        .requested_us = record->requested_us,
        .started_us = status->started_us,
        .ready_us = record->ready_us,
        .address = fl_arena_copy(arena, record->address),
        .image_digest = fl_arena_copy(arena, record->image_digest),
        .last_exit = copy_exit(arena, record->previous),
    };
    if (status->pid > 0)
        run->id = fl_arena_printf(arena, "%" PRId64, status->pid);
    if (!instance->alive)
        run->exit = copy_exit(arena, exit_of_status(status));
    copy_ports(arena, record, run);
}

static int observe(struct fl_orchestrator_driver *self, const char *workload_uid,
                   struct fl_arena *arena, struct fl_run_list *ret_runs, struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    FL_LOCKED(local->lock);
    const struct workload *workload = local_workload(local, workload_uid);
    struct fl_run_list list = {0};

    (void)err;
    if (workload) {
        list.items = fl_new_array(arena, struct fl_run, workload->count);
        for (; list.count < workload->count; list.count++)
            describe(arena, workload->instances[list.count], &list.items[list.count]);
    }
    *ret_runs = list;
    return 0;
}

static int workloads(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                     struct fl_string_list *ret_uids, struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    FL_LOCKED(local->lock);
    struct fl_string_list list = {0};
    void *cursor = NULL;
    const char *uid;

    (void)err;
    list.items = fl_new_array(arena, const char *, fl_map_count(local->workloads) + 1);
    while (fl_map_next(local->workloads, &cursor, &uid, NULL))
        list.items[list.count++] = fl_arena_strdup(arena, uid);
    *ret_uids = list;
    return 0;
}

static int about(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                 struct fl_orchestrator_about *ret_about, struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    FL_LOCKED(local->lock);

    (void)err;
    *ret_about = (struct fl_orchestrator_about){
        .version = fl_arena_copy(arena, local->version),
        .runtime = local->images
                       ? fl_arena_copy(arena, fl_str_or(local->runtime_text, local->runtime.path))
                       : NULL,
    };
    return 0;
}

/* Ending and forgetting. */

static int stop(struct fl_orchestrator_driver *self, const struct fl_run_id *id, int64_t grace_ms,
                const char *reason, struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    FL_LOCKED(local->lock);
    struct instance *instance = local_instance(local, id);

    return instance ? local_stop(instance, grace_ms, reason, NULL, err) : 0;
}

static int remove_instance(struct fl_orchestrator_driver *self, const struct fl_run_id *id,
                           struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_LOCKED(local->lock);
    struct instance *instance = local_instance(local, id);
    const char *workload_folder;
    bool last;

    if (!instance)
        return 0;
    if (instance->alive)
        return fl_error_set(err, FL_E_CONFLICT, "run %" PRId64 " lives", instance->record.number);
    last = instance->workload->count == 1;
    workload_folder = fl_arena_printf(arena, "%s/%s", local->folder, id->workload_uid);
    local_trash(local, local_instance_folder(arena, instance));
    (void)fl_cgroup_remove(&instance->record.cgroup);
    local_instance_drop(instance);
    if (last)
        local_trash(local, workload_folder);
    return 0;
}

/* Life. */

static void run_loop(void *user)
{
    struct fl_local *local = user;

    fl_loop_run(local->loop);
}

static void destroy(struct fl_orchestrator_driver *self)
{
    struct fl_local *local = local_of(self);

    if (!local)
        return;
    if (local->thread) {
        fl_loop_stop(local->loop);
        fl_thread_join(local->thread);
    }
    local->closing = true;
    if (local->images)
        fl_images_stop(local->images);
    local->changed = NULL;
    if (local->loop)
        fl_loop_run_for(local->loop, 0); /* what was posted speaks of instances that still are */
    local_logs_end(local);
    fl_map_destroy(local->workloads);
    if (local->loop)
        fl_loop_run_for(local->loop, 0); /* connections of probes end there */
    fl_map_destroy(local->ports);
    fl_loop_destroy(local->loop);
    fl_images_close(local->images);
    runtime_finish(&local->runtime);
    fl_cgroups_destroy(local->cgroups);
    fl_arena_destroy(local->settings_arena);
    fl_lock_destroy(local->lock);
    free(local->data_dir);
    free(local->folder);
    free(local->program);
    free(local->shim);
    free(local->first);
    free(local->state_folder);
    free(local->runtime_text);
    free(local->version);
    free(local);
}

static const struct fl_orchestrator_ops ops = {
    .type = "Local",
    .destroy = destroy,
    .configure = configure,
    .nodes = local_nodes,
    .observe = observe,
    .start = local_start,
    .stop = stop,
    .remove = remove_instance,
    .workloads = workloads,
    .about = about,
    .log_open = local_log_open,
    .log_read = local_log_read,
    .log_close = local_log_close,
};

/* Two control planes on one machine must not share groups: the folder says whose they are. */
static struct fl_cgroups *detect_cgroups(struct fl_local *local, const char *root)
{
    unsigned char hash[8];
    char hex[2 * sizeof(hash) + 1], base[sizeof(hex) + 8];

    if (fl_streq(root, "-"))
        return NULL;
    (void)crypto_generichash(hash, sizeof(hash), (const unsigned char *)local->folder,
                             strlen(local->folder), NULL, 0);
    fl_hex_encode(hash, sizeof(hash), hex);
    (void)snprintf(base, sizeof(base), "flops-%s", hex);
    return fl_cgroups_detect(fl_str_or(root, ""), base);
}

/* A program beside `flops`, where there is one. */
static char *find_beside(const struct fl_local_options *options, const char *given,
                         const char *name)
{
    const char *slash = strrchr(options->program, '/');
    char *beside;

    if (given)
        return fl_strdup(given);
    beside =
        fl_asprintf("%.*s/%s", slash ? (int)(slash - options->program) : 0, options->program, name);
    if (!fl_path_is_executable(beside))
        free(FL_TAKE(beside));
    return beside;
}

/* Somewhere in the range: control planes beside each other on a machine, who see of one another
 * only what listens already, would else give out the same ports at the same time. */
static int64_t random_port(const struct fl_local *local, const struct fl_env *env)
{
    const struct fl_orchestrator_local *settings = &local->settings;
    uint32_t chance;

    env->random(env->user, &chance, sizeof(chance));
    return settings->ports.first +
           (int64_t)chance % (settings->ports.last - settings->ports.first + 1);
}

static struct fl_local *make(const struct fl_local_options *options)
{
    struct fl_local *local = fl_calloc(1, sizeof(*local));

    local->base.ops = &ops;
    local->env = options->env;
    local->data_dir = fl_strdup(options->data_dir);
    local->folder = fl_asprintf("%s/" FOLDER, options->data_dir);
    local->program = fl_strdup(options->program);
    local->shim = find_beside(options, options->shim, "flops-shim");
    local->first = find_beside(options, options->first, "flops-init");
    local->no_images = options->no_images;
    local->no_overlay = options->no_overlay;
    local->version = options->version ? fl_strdup(options->version) : NULL;
    local->changed = options->changed;
    local->changed_user = options->changed_user;
    local->hung_ms = options->hung_ms > 0 ? options->hung_ms : HUNG_MS;
    local->lock = fl_lock_create();
    local->logs_lock = fl_lock_create();
    local->log_watcher = -1;
    local->workloads = fl_map_create(local_workload_free);
    local->ports = fl_map_create(NULL);
    /* Not the same after each restart, and not what a clock that was set back would give again. */
    local->next_trash = fl_realtime_us(options->env);
    take_settings(local, NULL);
    local->next_port = random_port(local, options->env);
    return local;
}

static int set_up(struct fl_local *local, const struct fl_local_options *options,
                  struct fl_error *err)
{
    int r = fl_dir_ensure(local->folder, 0711, err);

    if (r == 0)
        r = fl_loop_create(&local->loop, err);
    if (r == 0)
        r = local_logs_begin(local, err);
    if (r < 0)
        return r;
    local->cgroups = detect_cgroups(local, options->cgroup_root);
    fl_log_info(local->env->log, "limits of processes",
                FL_STR("cgroups", fl_local_limits(&local->base)));
    r = runtime_set_up(local, options->images, err);
    if (r < 0)
        return r;
    fl_log_info(local->env->log, "containers",
                FL_STR("runtime", fl_str_or(local->runtime.path, local->runtime.why_not)),
                FL_STR("files", local->overlays ? "overlay" : "copies"));
    {
        FL_LOCKED(local->lock);
        r = local_adopt(local, err);
    }
    local_empty_trash(local);
    if (r == 0)
        r = fl_thread_start("local", run_loop, local, &local->thread, err);
    return r;
}

int fl_local_create(const struct fl_local_options *options,
                    struct fl_orchestrator_driver **ret_driver, struct fl_error *err)
{
    struct fl_local *local = make(options);
    int r = set_up(local, options, err);

    if (r < 0) {
        destroy(&local->base);
        return fl_error_wrap(err, "orchestrator local");
    }
    *ret_driver = &local->base;
    return 0;
}

struct fl_images *fl_local_images(const struct fl_orchestrator_driver *driver)
{
    return ((const struct fl_local *)driver)->images;
}

const char *fl_local_limits(const struct fl_orchestrator_driver *driver)
{
    const struct fl_local *local = (const struct fl_local *)driver;

    return local->cgroups ? fl_cgroups_describe(local->cgroups) : "none: switched off";
}

int fl_local_make(void *user, const char *name, fl_run_changed_fn *changed, void *changed_user,
                  struct fl_orchestrator_driver **ret_driver, struct fl_error *err)
{
    struct fl_local_options options = *(const struct fl_local_options *)user;

    (void)name;
    options.changed = changed;
    options.changed_user = changed_user;
    return fl_local_create(&options, ret_driver, err);
}
