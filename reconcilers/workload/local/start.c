/* The start of a run. Until its record is on disk it was never begun; from then on whatever goes
 * wrong is how it ended. */
#include "lib/file.h"
#include "reconcilers/workload/local/internal.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static int signal_of(enum fl_workload_stop_signal signal)
{
    static const int numbers[] = {
        [FL_WORKLOAD_STOP_SIGNAL_SIGINT] = SIGINT,   [FL_WORKLOAD_STOP_SIGNAL_SIGQUIT] = SIGQUIT,
        [FL_WORKLOAD_STOP_SIGNAL_SIGHUP] = SIGHUP,   [FL_WORKLOAD_STOP_SIGNAL_SIGUSR1] = SIGUSR1,
        [FL_WORKLOAD_STOP_SIGNAL_SIGUSR2] = SIGUSR2,
    };

    return (size_t)signal < FL_COUNT_OF(numbers) && numbers[signal] ? numbers[signal] : SIGTERM;
}

/* The exit of the run before goes into the new run's arena. */
static struct fl_run_exit keep_exit(struct fl_arena *arena, const struct instance *instance)
{
    struct fl_run_exit exit = exit_of_status(&instance->status);

    if (instance->record.number == 0 || !instance->status.ended)
        return (struct fl_run_exit){0};
    exit.signal = fl_arena_copy(arena, exit.signal);
    exit.reason = fl_arena_copy(arena, exit.reason);
    exit.message = fl_arena_copy(arena, exit.message);
    exit.log_tail = fl_arena_copy(arena, exit.log_tail);
    return exit;
}

/* As the shim finds them in the working folder: a container's are mounted to where they belong. */
static void fill_files(struct plan *plan)
{
    const struct fl_run_spec *run = plan->run;
    struct fl_string_list *files = &plan->record.files;

    files->items = fl_new_array(plan->arena, const char *, run->file_count + 2);
    if (run->spec->image)
        files->items[files->count++] = "config.json";
    for (size_t i = 0; i < run->file_count; i++)
        files->items[files->count++] = run->spec->image
                                           ? fl_arena_printf(plan->arena, "files/%zu", i)
                                           : fl_arena_strdup(plan->arena, run->files[i].path);
}

/* Where the table of the probes is, is record.c's business: it reads what it wrote. */
static void fill_record(struct plan *plan)
{
    const struct fl_run_spec *run = plan->run;
    struct record *record = &plan->record;
    struct fl_arena *arena = plan->arena;

    record->number = run->number;
    record->restarts = run->restarts;
    record->failures = run->failures;
    record->first_us = run->first_us;
    record->requested_us = fl_realtime_us(plan->instance->local->env);
    record->spec_hash = fl_arena_strdup(arena, fl_str_or(run->spec_hash, ""));
    record->ns = fl_arena_strdup(arena, fl_str_or(run->ns, ""));
    record->name = fl_arena_strdup(arena, fl_str_or(run->name, ""));
    record->cluster = fl_arena_copy(arena, run->cluster);
    record->node = fl_arena_copy(arena, run->node);
    record->stop_signal = signal_of(run->spec->stop_signal);
    if (!run->spec->grace_period || !fl_duration_parse(run->spec->grace_period, &record->grace_ms))
        record->grace_ms = 30000;
    record->requested = fl_workload_needs(run->spec);
    record->address = fl_arena_strdup(arena, plan->instance->local->settings.address);
    record->previous = keep_exit(arena, plan->instance);
    record->has_probes = run->spec->has_probes;
    if (record->has_probes)
        record_clone_probes(arena, &run->spec->probes, &record->probes);
    fill_files(plan);
    if (!run->spec->image)
        return;
    record->image = fl_arena_copy(arena, run->spec->image);
    record->container = container_id(arena, run);
    record->runtime = fl_arena_copy(arena, plan->instance->local->runtime.path);
}

static void fill_folders(struct plan *plan)
{
    const char *given = plan->run->spec->process.working_dir;

    plan->folder = local_run_folder(plan->arena, plan->instance, plan->run->number);
    plan->temporary = fl_arena_printf(plan->arena, "%s/tmp", plan->folder);
    plan->own_folder = !given;
    /* Another user has to be able to walk through what leads to its own folders. */
    plan->mode =
        plan->run->spec->has_security && plan->run->spec->security.has_run_as_user ? 0711 : 0700;
    plan->shim.folder = plan->folder;
    plan->shim.working_folder = given ? fl_arena_strdup(plan->arena, given)
                                      : fl_arena_printf(plan->arena, "%s/work", plan->folder);
    if (plan->run->spec->image) {
        plan->mode = 0711;
        plan->shim.working_folder =
            fl_arena_printf(plan->arena, "%s/" CONTAINER_BUNDLE, plan->folder);
    }
    plan->record.working_folder = plan->shim.working_folder;
}

void plan_note(struct plan *plan, const char *what)
{
    plan->record.note = plan->record.note
                            ? fl_arena_printf(plan->arena, "%s, %s", plan->record.note, what)
                            : fl_arena_printf(plan->arena, "not enforced here: %s", what);
}

/* A limit that is not held must not be believed in: the run's message says so. */
static void fill_limits(struct plan *plan)
{
    static const char *const names[] = {"cpu limit", "memory limit", "pids limit"};
    const struct fl_workload_spec *spec = plan->run->spec;
    struct fl_local *local = plan->instance->local;
    struct fl_cgroup_limits limits = {
        plan->record.requested.cpu_milli, plan->record.requested.memory_bytes,
        spec->has_resources && spec->resources.has_pids ? spec->resources.pids : 0};
    unsigned missing = (limits.cpu_milli ? FL_LIMIT_CPU : 0U) |
                       (limits.memory_bytes ? FL_LIMIT_MEMORY : 0U) |
                       (limits.pids ? FL_LIMIT_PIDS : 0U);
    const char *name = fl_arena_printf(plan->arena, "%s-%" PRId64, plan->run->id.workload_uid,
                                       plan->run->id.index);
    struct fl_error err = {0};

    if (local->cgroups && fl_cgroups_make(local->cgroups, name, &limits, plan->arena,
                                          &plan->record.cgroup, &missing, &err) < 0)
        fl_log_warn(local->env->log, "a control group cannot be made", FL_STR("error", err.msg));
    plan->shim.cgroup = plan->record.cgroup;
    plan->limits = (struct fl_cgroup_limits){missing & FL_LIMIT_CPU ? 0 : limits.cpu_milli,
                                             missing & FL_LIMIT_MEMORY ? 0 : limits.memory_bytes,
                                             missing & FL_LIMIT_PIDS ? 0 : limits.pids};
    for (unsigned bit = 0; bit < FL_COUNT_OF(names); bit++)
        if (missing & 1U << bit)
            plan_note(plan, names[bit]);
    if (plan->record.requested.gpus > 0)
        plan_note(plan, "gpus");
    if (plan->record.requested.storage_bytes > 0)
        plan_note(plan, "storage limit");
    for (size_t i = 0; i < spec->mounts.count; i++)
        if (spec->mounts.items[i].size)
            plan_note(plan,
                      fl_arena_printf(plan->arena, "size of mount %s", spec->mounts.items[i].path));
}

/* The run before keeps its logs and its end, those before it nothing. */
static void tidy_earlier_runs(struct plan *plan)
{
    static const char *const parts[] = {
        "work", "tmp", "scratch", CONTAINER_ROOT, CONTAINER_BUNDLE, CONTAINER_CHANGES};
    const char *folder = local_instance_folder(plan->arena, plan->instance);
    struct fl_folder_list list = {0};
    int64_t number;

    (void)fl_folder_list(plan->arena, folder, true, INSTANCES_MAX, &list, NULL);
    for (size_t i = 0; i < list.count; i++) {
        const char *path = fl_arena_printf(plan->arena, "%s/%s", folder, list.names[i]);

        if (!fl_str_has_prefix(list.names[i], "run-") ||
            !fl_str_to_int64(list.names[i] + 4, 1, INT64_MAX, &number))
            continue;
        if (number != plan->record.number - 1) {
            local_trash(plan->instance->local, path);
            continue;
        }
        for (size_t part = 0; part < FL_COUNT_OF(parts); part++)
            local_trash(plan->instance->local,
                        fl_arena_printf(plan->arena, "%s/%s", path, parts[part]));
    }
}

/* From here on the instance is what the plan says. */
static void adopt_plan(struct plan *plan)
{
    struct instance *instance = plan->instance;

    fl_arena_destroy(instance->arena);
    instance->arena = plan->arena;
    instance->record = plan->record;
    instance->status = (struct fl_shim_status){0};
    instance->stopping = false;
    instance->message[0] = '\0';
    instance->removing = 0;
}

int local_launch(struct plan *plan, struct fl_error *err)
{
    struct instance *instance = plan->instance;
    struct fl_local *local = instance->local;
    const char *folder = local_instance_folder(plan->arena, instance);
    const char *id =
        fl_arena_printf(plan->arena, "%s/%" PRId64, instance->workload->uid, instance->index);
    const char *with_program[] = {local->program, "shim", id, NULL};
    const char *alone[] = {local->shim, id, NULL};
    int lock, r = fl_shim_lock(fl_arena_printf(plan->arena, "%s/lock", folder), &lock, err);

    return r < 0 ? r
                 : fl_shim_launch(local->shim ? alone : with_program, &plan->shim, lock,
                                  &instance->shim, err);
}

static int launch(struct plan *plan, struct fl_error *err)
{
    int r;

    if (plan->run->spec->image)
        return container_begin(plan, err);
    r = plan_folders(plan, err);
    if (r == 0)
        r = plan_program(plan, err);
    return r < 0 ? r : local_launch(plan, err);
}

/* What was taken for a run that is not begun is given back; what the run before holds stays. */
static void give_up(struct plan *plan)
{
    ports_release(plan->instance, &plan->record, false);
    ports_hold(plan->instance, &plan->instance->record, !plan->instance->alive);
    (void)fl_cgroup_remove(&plan->record.cgroup);
}

static int write_new_record(struct plan *plan, struct fl_error *err)
{
    struct instance copy = *plan->instance;
    const char *folder = local_instance_folder(plan->arena, plan->instance);
    struct fl_error why = {0};
    int r;

    copy.record = plan->record;
    r = fl_dir_ensure(folder, plan->mode, &why);
    if (r == 0)
        r = record_write(&copy, &why);
    return r < 0 ? fl_error_set(err, FL_E_UNAVAILABLE, "record the start: %s", why.msg) : 0;
}

static int begin(struct plan *plan, struct fl_error *err)
{
    struct instance *instance = plan->instance;
    struct fl_error why = {0};
    const char *failure = NULL;
    int r;

    fill_record(plan);
    fill_folders(plan);
    r = ports_take(instance, plan->arena, plan->run->spec, &instance->record, &plan->record, &why);
    if (r == FL_E_CONFLICT)
        failure = "PortTaken";
    else if (r < 0)
        return fl_error_set(err, r, "%s", why.msg);
    fill_limits(plan);
    r = record_check(&plan->record, err);
    if (r == 0)
        r = write_new_record(plan, err);
    if (r < 0) {
        give_up(plan);
        return r;
    }
    tidy_earlier_runs(plan);
    adopt_plan(plan);
    if (!failure && launch(plan, &why) < 0)
        failure = "StartFailed";
    if (failure) {
        local_record_end(instance, failure, why.msg);
        return 0;
    }
    instance->alive = true;
    if (!instance->pending)
        local_supervise(instance);
    return 0;
}

static int start_new(struct fl_local *local, const struct fl_run_spec *run,
                     struct instance *instance, struct fl_error *err)
{
    struct plan plan = {.arena = fl_arena_create(), .run = run};
    bool was_known = instance != NULL;
    int r;

    plan.instance =
        instance ? instance : local_instance_ensure(local, run->id.workload_uid, run->id.index);
    r = begin(&plan, err);
    if (r < 0) {
        fl_arena_destroy(plan.arena);
        if (!was_known)
            local_instance_drop(plan.instance);
    }
    return r;
}

static int start_locked(struct fl_local *local, const struct fl_run_spec *run, struct fl_error *err)
{
    struct instance *instance;
    int r = plan_check(local, run, err);

    if (r < 0)
        return r;
    instance = local_instance(local, &run->id);
    if (instance && instance->record.number == run->number)
        return 0;
    if (instance && instance->record.number > run->number)
        return fl_error_set(err, FL_E_CONFLICT, "run %" PRId64 " was begun already",
                            instance->record.number);
    if (instance && instance->alive)
        return fl_error_set(err, FL_E_CONFLICT, "run %" PRId64 " lives", instance->record.number);
    return start_new(local, run, instance, err);
}

int local_start(struct fl_orchestrator_driver *self, const struct fl_run_spec *spec,
                struct fl_error *err)
{
    struct fl_local *local = local_of(self);
    int r;

    {
        FL_LOCKED(local->lock);
        r = start_locked(local, spec, err);
    }
    if (r == 0)
        local_tell(local, spec->ns, spec->name);
    return r;
}
