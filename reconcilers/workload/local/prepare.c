/* From a Workload's spec to what a shim runs: what cannot be is refused first, then ports, program,
 * environment, limits and folders are settled. */
#include "api/quantity.h"
#include "lib/file.h"
#include "lib/process.h"
#include "reconcilers/workload/local/internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DATA_FOLDER "data"

/* What cannot be. */

static int check_kind(const struct fl_workload_spec *spec, struct fl_error *err)
{
    const struct fl_workload_security *security = &spec->security;

    if (!spec->has_process || !spec->process.program || !*spec->process.program)
        return fl_error_set(err, FL_E_INVALID, "there is no program to run");
    if (spec->process.program[0] != '/' && strchr(spec->process.program, '/'))
        return fl_error_set(err, FL_E_INVALID, "program %s: neither absolute nor a plain name",
                            spec->process.program);
    if (spec->process.working_dir && spec->process.working_dir[0] != '/')
        return fl_error_set(err, FL_E_INVALID, "workingDir %s is not absolute",
                            spec->process.working_dir);
    if (!spec->has_security)
        return 0;
    if (security->network == FL_WORKLOAD_SECURITY_NETWORK_PRIVATE ||
        security->network == FL_WORKLOAD_SECURITY_NETWORK_NONE)
        return fl_error_set(err, FL_E_INVALID,
                            "a process has the network of the machine: security.network must be "
                            "Host");
    if (security->has_run_as_user && !fl_process_is_root())
        return fl_error_set(err, FL_E_INVALID, "runAsUser needs a control plane that runs as root");
    return 0;
}

static int check_image(const struct fl_local *local, const struct fl_workload_spec *spec,
                       struct fl_error *err)
{
    const struct fl_workload_security *security = &spec->security;

    if (!local->images || !local->runtime.path)
        return fl_error_set(err, FL_E_INVALID,
                            "images are not run on this machine: %s, or use process instead of "
                            "image",
                            fl_str_or(local->runtime.why_not, "install runc"));
    if (!spec->has_security)
        return 0;
    if (security->network == FL_WORKLOAD_SECURITY_NETWORK_PRIVATE)
        return fl_error_set(err, FL_E_INVALID,
                            "a container has the network of the machine or none: "
                            "security.network must be Host or None");
    if (security->privileged && !fl_process_is_root())
        return fl_error_set(err, FL_E_INVALID,
                            "privileged needs a control plane that runs as root");
    return 0;
}

/* In a container paths may be absolute, too. */
static bool is_good_path(const struct fl_workload_spec *spec, const char *path)
{
    return fl_path_is_below(spec->image && *path == '/' ? path + 1 : path);
}

/* Whether `path` is `folder` or below it. */
static bool is_within(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static int check_mounts(const struct fl_workload_spec *spec, struct fl_error *err)
{
    for (size_t i = 0; i < spec->mounts.count; i++) {
        const char *path = spec->mounts.items[i].path;

        if (!is_good_path(spec, path))
            return fl_error_set(err, FL_E_INVALID,
                                "mount %s: must be a path below the working folder", path);
        for (size_t other = 0; other < spec->mounts.count; other++)
            if (other != i && is_within(path, spec->mounts.items[other].path))
                return fl_error_set(err, FL_E_INVALID, "mount %s lies within mount %s", path,
                                    spec->mounts.items[other].path);
    }
    return 0;
}

static int check_files(const struct fl_run_spec *run, struct fl_error *err)
{
    const struct fl_workload_mount_list *mounts = &run->spec->mounts;

    if (run->file_count > RUN_FILES_MAX)
        return fl_error_set(err, FL_E_INVALID, "more than %d files", RUN_FILES_MAX);
    for (size_t i = 0; i < run->file_count; i++) {
        const char *path = run->files[i].path;

        if (!is_good_path(run->spec, path))
            return fl_error_set(err, FL_E_INVALID,
                                "file %s: must be a path below the working folder", path);
        for (size_t mount = 0; mount < mounts->count; mount++)
            if (is_within(path, mounts->items[mount].path))
                return fl_error_set(err, FL_E_INVALID, "file %s lies within mount %s", path,
                                    mounts->items[mount].path);
    }
    return 0;
}

int plan_check(const struct fl_local *local, const struct fl_run_spec *run, struct fl_error *err)
{
    int r;

    (void)local;
    if (!fl_path_is_below(run->id.workload_uid) || strchr(run->id.workload_uid, '/') ||
        run->id.workload_uid[0] == '.')
        return fl_error_set(err, FL_E_INVALID, "\"%s\" cannot be the name of a folder",
                            run->id.workload_uid);
    if (run->id.index < 0 || run->number < 1)
        return fl_error_set(err, FL_E_INVALID, "instances begin at 0 and runs at 1");
    if (run->spec->ports.count > RUN_PORTS_MAX)
        return fl_error_set(err, FL_E_INVALID, "more than %d ports", RUN_PORTS_MAX);
    r = run->spec->image ? check_image(local, run->spec, err) : check_kind(run->spec, err);
    if (r == 0)
        r = check_mounts(run->spec, err);
    return r < 0 ? r : check_files(run, err);
}

/* The program and what it is told. */

static const char *env_value(const struct fl_run_spec *run, const char *name)
{
    for (size_t i = 0; i < run->env_count; i++)
        if (strcmp(run->env[i].name, name) == 0)
            return run->env[i].value;
    return NULL;
}

static const char *find_program(struct plan *plan, const char *program)
{
    const char *rest = fl_str_or(env_value(plan->run, "PATH"), LOCAL_PATH), *folder;

    if (strcmp(program, "flops") == 0)
        return plan->instance->local->program;
    if (*program == '/')
        return program;
    while ((folder = fl_str_next(plan->arena, &rest, ':'))) {
        const char *path = fl_arena_printf(plan->arena, "%s/%s", folder, program);

        if (*folder == '/' && fl_path_is_executable(path))
            return path;
    }
    return NULL;
}

static void put_env(struct plan *plan, const char *name, const char *value)
{
    plan->env.items[plan->env.count++] = fl_arena_printf(plan->arena, "%s=%s", name, value);
}

/* "grpc-web" is told as PORT_GRPC_WEB. */
static void put_port(struct plan *plan, const struct run_port *port)
{
    char *name = fl_arena_printf(plan->arena, "PORT_%s", port->name);

    for (char *at = name; *at; at++)
        *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
    put_env(plan, name, fl_arena_printf(plan->arena, "%" PRId64, port->port));
}

static bool is_ours(const struct plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->env.count; i++) {
        const char *entry = plan->env.items[i];
        size_t len = strlen(name);

        if (strncmp(entry, name, len) == 0 && entry[len] == '=')
            return true;
    }
    return false;
}

/* The mark comes first, where it is found soonest; what says who the program is cannot be changed
 * by the spec, the rest can. */
void plan_environment(struct plan *plan)
{
    const struct fl_run_spec *run = plan->run;

    plan->env.items = fl_new_array(plan->arena, const char *, run->env_count + RUN_PORTS_MAX + 16);
    plan->env.items[plan->env.count++] = local_mark(plan->arena, plan->instance);
    put_env(plan, "FLOPS_WORKLOAD", plan->record.name);
    put_env(plan, "FLOPS_NAMESPACE", plan->record.ns);
    put_env(plan, "FLOPS_INSTANCE", fl_arena_printf(plan->arena, "%" PRId64, run->id.index));
    put_env(plan, "FLOPS_NODE", fl_str_or(plan->record.node, ""));
    put_env(plan, "FLOPS_CLUSTER", fl_str_or(plan->record.cluster, ""));
    for (size_t i = 0; i < plan->record.port_count; i++)
        put_port(plan, &plan->record.ports[i]);
    for (size_t i = 0; i < run->env_count; i++)
        if (!is_ours(plan, run->env[i].name))
            put_env(plan, run->env[i].name, fl_str_or(run->env[i].value, ""));
}

static void put_environment(struct plan *plan)
{
    const char *const defaults[][2] = {{"PATH", LOCAL_PATH},
                                       {"HOME", plan->shim.working_folder},
                                       {"TMPDIR", plan->temporary},
                                       {"LANG", "C.UTF-8"}};

    plan_environment(plan);
    for (size_t i = 0; i < FL_COUNT_OF(defaults); i++)
        if (!is_ours(plan, defaults[i][0]))
            put_env(plan, defaults[i][0], defaults[i][1]);
    plan->shim.env = plan->env;
    plan->shim.mark = local_mark(plan->arena, plan->instance);
}

static void put_check(struct plan *plan, unsigned role, const struct fl_probe *probe, bool present)
{
    struct fl_shim_list *list = &plan->shim.checks[role];
    const char *program;

    if (!present || !probe->has_exec || probe->exec.command.count == 0)
        return;
    list->items = fl_new_array(plan->arena, const char *, probe->exec.command.count);
    for (; list->count < probe->exec.command.count; list->count++)
        list->items[list->count] = probe->exec.command.items[list->count];
    program = find_program(plan, list->items[0]);
    if (program)
        list->items[0] = program;
}

static void put_files(struct plan *plan)
{
    const struct fl_run_spec *run = plan->run;

    plan->shim.files = fl_new_array(plan->arena, struct fl_shim_file, run->file_count + 1);
    for (size_t i = 0; i < run->file_count; i++)
        plan->shim.files[plan->shim.file_count++] = (struct fl_shim_file){
            .path = run->files[i].path,
            .data = run->files[i].data,
            .len = run->files[i].len,
            .mode = run->files[i].mode,
        };
}

void plan_log(struct plan *plan)
{
    const struct fl_workload_log *log = &plan->run->spec->log;

    if (!log->max_size || !fl_quantity_parse(log->max_size, 1, &plan->shim.log_max_bytes) ||
        plan->shim.log_max_bytes > INT64_MAX / 2)
        plan->shim.log_max_bytes = 10 * 1024 * 1024;
    plan->shim.log_files = log->max_files > 0 && log->max_files <= 100 ? log->max_files : 3;
}

int plan_program(struct plan *plan, struct fl_error *err)
{
    const struct fl_workload_spec *spec = plan->run->spec;
    const char *program = find_program(plan, spec->process.program);

    if (!program)
        return fl_error_set(err, FL_E_NOT_FOUND, "program %s is not in PATH (%s)",
                            spec->process.program,
                            fl_str_or(env_value(plan->run, "PATH"), LOCAL_PATH));
    plan->shim.command.items = fl_new_array(plan->arena, const char *, spec->args.count + 1);
    plan->shim.command.items[plan->shim.command.count++] = program;
    for (size_t i = 0; i < spec->args.count; i++)
        plan->shim.command.items[plan->shim.command.count++] = spec->args.items[i];
    put_environment(plan);
    put_check(plan, PROBE_STARTUP, &spec->probes.startup,
              spec->has_probes && spec->probes.has_startup);
    put_check(plan, PROBE_READINESS, &spec->probes.readiness,
              spec->has_probes && spec->probes.has_readiness);
    put_check(plan, PROBE_LIVENESS, &spec->probes.liveness,
              spec->has_probes && spec->probes.has_liveness);
    put_files(plan);
    plan_log(plan);
    plan->shim.user =
        spec->has_security && spec->security.has_run_as_user ? spec->security.run_as_user : -1;
    plan->shim.privileged = spec->has_security && spec->security.privileged;
    return 0;
}

/* Folders. */

/* The folder behind a mount; State has a name that says where it appears. */
const char *plan_folder_behind(struct plan *plan, const struct fl_workload_mount *mount,
                               size_t number)
{
    const struct instance *instance = plan->instance;
    const char *name;

    switch (mount->type) {
    case FL_WORKLOAD_MOUNT_TYPE_DATA:
        return fl_arena_printf(plan->arena, "%s/" DATA_FOLDER, instance->local->data_dir);
    case FL_WORKLOAD_MOUNT_TYPE_STATE:
        name = fl_url_encode(plan->arena, mount->path);
        return fl_arena_printf(plan->arena, "%s/state/%s",
                               local_instance_folder(plan->arena, instance), name);
    default:
        return fl_arena_printf(plan->arena, "%s/scratch/%zu", plan->folder, number);
    }
}

static void own(struct plan *plan, const char *folder)
{
    plan->shim.owned.items[plan->shim.owned.count++] = folder;
}

static int put_mount(struct plan *plan, size_t number, struct fl_error *err)
{
    const struct fl_workload_mount *mount = &plan->run->spec->mounts.items[number];
    const char *behind = plan_folder_behind(plan, mount, number);
    char *path = fl_arena_printf(plan->arena, "%s/%s", plan->shim.working_folder, mount->path);
    char *slash = strrchr(path, '/');
    int r = fl_dir_ensure(behind, plan->mode, err);

    if (r < 0)
        return r;
    if (mount->type != FL_WORKLOAD_MOUNT_TYPE_DATA)
        own(plan, behind);
    *slash = '\0';
    r = fl_dir_ensure(path, plan->mode, err);
    *slash = '/';
    return r < 0 ? r : fl_folder_link(path, behind, err);
}

int plan_folders(struct plan *plan, struct fl_error *err)
{
    const struct fl_workload_spec *spec = plan->run->spec;
    int r = fl_dir_ensure(plan->folder, plan->mode, err);

    plan->shim.owned.items = fl_new_array(plan->arena, const char *, spec->mounts.count + 2);
    if (r == 0)
        r = fl_dir_ensure(plan->temporary, 0700, err);
    if (r == 0 && plan->own_folder)
        r = fl_dir_ensure(plan->shim.working_folder, plan->mode, err);
    if (r < 0)
        return r;
    own(plan, plan->temporary);
    if (plan->own_folder)
        own(plan, plan->shim.working_folder);
    for (size_t i = 0; i < spec->mounts.count; i++) {
        r = put_mount(plan, i, err);
        if (r < 0)
            return fl_error_wrap(err, "mount %s", spec->mounts.items[i].path);
    }
    return 0;
}
