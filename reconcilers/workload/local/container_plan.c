/* From an image and a Workload's spec to what a shim runs: the runtime's commands, and config.json
 * and the run's files in a working folder that the shim keeps in memory where it can. */
#include "api/quantity.h"
#include "lib/file.h"
#include "lib/oci/bundle.h"
#include "lib/oci/overlay.h"
#include "lib/process.h"
#include "reconcilers/workload/local/internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_PATH "/.flops-init"
#define IDS_MAX    65536

struct container {
    struct plan *plan;
    const struct fl_image *image;
    const struct fl_workload_spec *spec;
    struct fl_bundle bundle;
    struct fl_bundle_mount *mounts;
    const char *root, *bundle_folder;
};

const char *container_id(struct fl_arena *arena, const struct fl_run_spec *run)
{
    char *id = fl_arena_printf(arena, "flops-%s-%" PRId64 "-%" PRId64, run->id.workload_uid,
                               run->id.index, run->number);

    for (char *at = id; *at; at++)
        if (!isalnum((unsigned char)*at) && *at != '-')
            *at = '_';
    return id;
}

bool container_is_read_only(const struct fl_workload_spec *spec)
{
    return !spec->has_security || spec->security.read_only_root;
}

/* Who it is. */

/* "name:100000:65536" or "1000:100000:65536". */
static bool find_ids(struct fl_arena *arena, const char *path, const char *name, const char *number,
                     struct fl_bundle_ids *ret_ids)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *rest, *line;

    if (fl_file_read(path, 1024 * 1024, &text, NULL) < 0)
        return false;
    rest = text->data;
    while ((line = fl_str_next(arena, &rest, '\n'))) {
        const char *at = line, *who = fl_str_next(arena, &at, ':');
        const char *first = at ? fl_str_next(arena, &at, ':') : NULL;
        int64_t outside, count;

        if ((!fl_streq(who, name) && strcmp(who, number) != 0) || !first || !at ||
            !fl_str_to_int64(first, 1, INT32_MAX, &outside) ||
            !fl_str_to_int64(at, 1, INT32_MAX, &count))
            continue;
        *ret_ids = (struct fl_bundle_ids){1, outside, count < IDS_MAX ? count : IDS_MAX};
        return true;
    }
    return false;
}

static const char *own_name(struct fl_arena *arena, const char *number)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *rest, *line;

    if (fl_file_read("/etc/passwd", 1024 * 1024, &text, NULL) < 0)
        return NULL;
    rest = text->data;
    while ((line = fl_str_next(arena, &rest, '\n'))) {
        const char *at = line, *name = fl_str_next(arena, &at, ':');

        if (at)
            (void)fl_str_next(arena, &at, ':');
        if (at && strcmp(fl_str_next(arena, &at, ':'), number) == 0)
            return name;
    }
    return NULL;
}

/* Root in the container is the control plane's user outside; others where the machine gives it
 * subordinate ids and what sets them up. */
static void use_namespace(struct container *c)
{
    struct fl_arena *arena = c->plan->arena;
    struct fl_bundle *bundle = &c->bundle;
    const char *number = fl_arena_printf(arena, "%u", (unsigned)geteuid());
    const char *name = own_name(arena, number);

    bundle->rootless = true;
    bundle->users[0] = (struct fl_bundle_ids){0, geteuid(), 1};
    bundle->groups[0] = (struct fl_bundle_ids){0, getegid(), 1};
    bundle->user_count = bundle->group_count = 1;
    if (fl_path_is_executable("/usr/bin/newuidmap") &&
        fl_path_is_executable("/usr/bin/newgidmap") &&
        find_ids(arena, "/etc/subuid", name, number, &bundle->users[1]) &&
        find_ids(arena, "/etc/subgid", name, number, &bundle->groups[1]))
        bundle->user_count = bundle->group_count = 2;
}

static int choose_user(struct container *c, struct fl_error *err)
{
    const struct fl_workload_spec *spec = c->spec;
    struct fl_arena *arena = c->plan->arena;
    size_t count = c->image->layer_count;
    const char **folders = fl_new_array(arena, const char *, count + 1);
    const char *text = c->image->config.user;
    int r;

    for (size_t i = 0; i < count; i++)
        folders[i] = fl_arena_printf(arena, "%s/%s",
                                     fl_images_layers_folder(c->plan->instance->local->images),
                                     c->image->layers[i]);
    if (count == 0)
        folders[count++] = c->root;
    if (spec->has_security && spec->security.has_run_as_user)
        text = fl_arena_printf(arena, "%" PRId64, spec->security.run_as_user);
    r = fl_bundle_find_user(arena, folders, count, text, &c->bundle.user, err);
    if (r < 0 || fl_process_is_root())
        return r;
    use_namespace(c);
    if (c->bundle.user_count == 1) /* there is no other one */
        c->bundle.user = (struct fl_bundle_user){.home = c->bundle.user.home};
    return 0;
}

/* Files and folders. */

static void add_mount(struct container *c, const char *path, const char *source, bool read_only)
{
    c->mounts[c->bundle.mount_count++] =
        (struct fl_bundle_mount){path, fl_arena_strdup(c->plan->arena, source), read_only};
}

static bool is_given(const struct container *c, const char *path)
{
    for (size_t i = 0; i < c->bundle.mount_count; i++)
        if (strcmp(fl_bundle_path(c->plan->arena, &c->bundle, c->mounts[i].path), path) == 0)
            return true;
    return false;
}

/* The node's data are its owner's alone: the container's user sees them as its own. */
static const char *lend(struct container *c, const char *folder)
{
    struct plan *plan = c->plan;
    struct fl_shim_list *lent = &plan->shim.container.lent;

    if (!plan->shim.container.mounts)
        return folder;
    if (!lent->items)
        lent->items = fl_new_array(plan->arena, const char *, c->spec->mounts.count);
    lent->items[lent->count] = folder;
    return fl_arena_printf(plan->arena, "%s/" FL_SHIM_LENT "%zu", c->bundle_folder, lent->count++);
}

static int add_folders(struct container *c, struct fl_error *err)
{
    const struct fl_workload_mount_list *list = &c->spec->mounts;
    struct plan *plan = c->plan;
    int r = 0;

    plan->shim.owned.items = fl_new_array(plan->arena, const char *, list->count + 1);
    for (size_t i = 0; r == 0 && i < list->count; i++) {
        bool is_data = list->items[i].type == FL_WORKLOAD_MOUNT_TYPE_DATA;
        const char *behind = plan_folder_behind(plan, &list->items[i], i);

        r = fl_dir_ensure(behind, 0711, err);
        if (!is_data)
            plan->shim.owned.items[plan->shim.owned.count++] = behind;
        add_mount(c, list->items[i].path, is_data ? lend(c, behind) : behind, is_data);
    }
    return r;
}

/* Each file is a mount of its own, so that it can be anywhere in the image. */
static void add_files(struct container *c)
{
    struct plan *plan = c->plan;
    const struct fl_run_spec *run = plan->run;

    plan->shim.files = fl_new_array(plan->arena, struct fl_shim_file, run->file_count + 2);
    for (size_t i = 0; i < run->file_count; i++) {
        const char *name = plan->record.files.items[i + 1];
        mode_t mode = run->files[i].mode;

        if (c->bundle.user_count == 2) /* it cannot be given to who it is for */
            mode |= 0444;
        plan->shim.files[i + 1] = (struct fl_shim_file){
            .path = name, .data = run->files[i].data, .len = run->files[i].len, .mode = mode};
        add_mount(c, run->files[i].path,
                  fl_arena_printf(plan->arena, "%s/%s", c->bundle_folder, name), true);
    }
}

/* With the machine's network go its names. */
static void add_names(struct container *c)
{
    static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts"};

    for (size_t i = 0; !c->bundle.no_network && i < FL_COUNT_OF(files); i++)
        if (!is_given(c, files[i]) && fl_path_exists(files[i]))
            add_mount(c, files[i], files[i], true);
}

static void add_first(struct container *c)
{
    const char *program = c->plan->instance->local->first;

    if (!program)
        return;
    add_mount(c, FIRST_PATH, program, true);
    c->bundle.first = FIRST_PATH;
    c->plan->shim.container.init = true;
}

/* The text. */

static void fill_bundle(struct container *c)
{
    const struct fl_local *local = c->plan->instance->local;
    const struct fl_workload_security *security = &c->spec->security;
    struct fl_bundle *bundle = &c->bundle;
    const char *name = fl_arena_printf(c->plan->arena, "%s-%" PRId64, c->plan->run->id.workload_uid,
                                       c->plan->run->id.index);
    bool relative;

    bundle->image = &c->image->config;
    bundle->root = c->root;
    bundle->command = (struct fl_oci_texts){c->spec->command.items, c->spec->command.count};
    bundle->args = (struct fl_oci_texts){c->spec->args.items, c->spec->args.count};
    bundle->env = (struct fl_oci_texts){c->plan->env.items, c->plan->env.count};
    bundle->hostname = fl_arena_printf(c->plan->arena, "%.50s-%" PRId64, c->plan->record.name,
                                       c->plan->run->id.index);
    bundle->mounts = c->mounts;
    bundle->read_only_root = container_is_read_only(c->spec);
    bundle->privileged = c->spec->has_security && security->privileged;
    bundle->capabilities = fl_process_capabilities();
    bundle->no_network =
        c->spec->has_security && security->network == FL_WORKLOAD_SECURITY_NETWORK_NONE;
    bundle->architecture = fl_platform_of_machine().architecture;
    bundle->limits = c->plan->limits;
    if (local->cgroups && c->plan->record.cgroup.count > 0)
        bundle->cgroup_path = fl_cgroups_path(local->cgroups, name, c->plan->arena, &relative);
}

static int put_config(struct container *c, struct fl_error *err)
{
    struct fl_bytes *text;
    int r = fl_bundle_encode(&c->bundle, &text, err);

    if (r < 0)
        return r;
    c->plan->shim.files[0] = (struct fl_shim_file){
        .path = c->plan->record.files.items[0],
        .data = fl_arena_strndup(c->plan->arena, text->data, text->len),
        .len = text->len,
        .mode = 0600,
    };
    c->plan->shim.file_count = c->plan->run->file_count + 1;
    explicit_bzero(text->data, text->len);
    fl_bytes_unref(text);
    return 0;
}

/* Commands. */

static void add(struct container *c, struct fl_shim_list *list, const char *word)
{
    list->items[list->count++] = fl_arena_strdup(c->plan->arena, word);
}

static struct fl_shim_list begin_command(struct container *c, size_t more)
{
    const struct fl_local *local = c->plan->instance->local;
    struct fl_shim_list list = {fl_new_array(c->plan->arena, const char *, more + 20), 0};

    add(c, &list, c->plan->record.runtime);
    add(c, &list, "--root");
    add(c, &list, local->state_folder);
    if (local->runtime.crun && !c->bundle.cgroup_path)
        add(c, &list, "--cgroup-manager=disabled");
    return list;
}

static void put_run(struct container *c)
{
    struct fl_shim_spec *shim = &c->plan->shim;
    struct fl_shim_list list = begin_command(c, 0);

    add(c, &list, "--log");
    add(c, &list, shim->container.error_log);
    add(c, &list, "--log-format");
    add(c, &list, "json");
    add(c, &list, "run");
    add(c, &list, "--detach");
    add(c, &list, "--bundle");
    add(c, &list, c->bundle_folder);
    add(c, &list, "--pid-file");
    add(c, &list, shim->container.pid_file);
    if (shim->container.init) {
        add(c, &list, "--preserve-fds");
        add(c, &list, "1");
    }
    add(c, &list, c->plan->record.container);
    shim->command = list;
}

static void put_remove(struct container *c)
{
    struct fl_shim_list list = begin_command(c, 0);

    add(c, &list, "delete");
    add(c, &list, "--force");
    add(c, &list, c->plan->record.container);
    c->plan->shim.container.remove = list;
}

static void put_check(struct container *c, unsigned role, const struct fl_probe *probe,
                      bool present)
{
    struct fl_shim_list list;

    if (!present || !probe->has_exec || probe->exec.command.count == 0)
        return;
    list = begin_command(c, probe->exec.command.count);
    add(c, &list, "exec");
    add(c, &list, c->plan->record.container);
    for (size_t i = 0; i < probe->exec.command.count; i++)
        add(c, &list, probe->exec.command.items[i]);
    c->plan->shim.checks[role] = list;
}

static void put_commands(struct container *c)
{
    const struct fl_workload_probes *probes = &c->spec->probes;
    bool any = c->spec->has_probes;

    put_run(c);
    put_remove(c);
    put_check(c, PROBE_STARTUP, &probes->startup, any && probes->has_startup);
    put_check(c, PROBE_READINESS, &probes->readiness, any && probes->has_readiness);
    put_check(c, PROBE_LIVENESS, &probes->liveness, any && probes->has_liveness);
}

/* Where its files are. */

static int put_root(struct container *c, struct fl_error *err)
{
    struct plan *plan = c->plan;
    struct fl_local *local = plan->instance->local;
    struct fl_shim_container *container = &plan->shim.container;
    int r = fl_dir_ensure(c->root, 0755, err);

    if (r == 0)
        r = fl_dir_ensure(c->bundle_folder, 0700, err);
    if (r == 0)
        r = fl_dir_ensure(local->state_folder, 0700, err);
    if (r < 0 || c->image->layer_count == 0)
        return r;
    container->mounts = true;
    container->root = c->root;
    container->layers_folder = fl_images_layers_folder(local->images);
    container->layers = (struct fl_shim_list){c->image->layers, c->image->layer_count};
    if (container_is_read_only(c->spec))
        return 0;
    if (!(local->overlays & FL_OVERLAY_ON_DISK)) {
        plan_note(plan, "changes to the image's files on disk (they are in memory, up to 96 MiB)");
        return 0;
    }
    container->changes = fl_arena_printf(plan->arena, "%s/" CONTAINER_CHANGES, plan->folder);
    return fl_dir_ensure(container->changes, 0700, err);
}

static void fill_shim(struct container *c)
{
    struct plan *plan = c->plan;
    struct fl_shim_spec *shim = &plan->shim;
    const char *program = c->bundle.command.count > 0 ? c->bundle.command.items[0]
                          : c->image->config.entrypoint.count > 0
                              ? c->image->config.entrypoint.items[0]
                          : c->bundle.args.count > 0       ? c->bundle.args.items[0]
                          : c->image->config.cmd.count > 0 ? c->image->config.cmd.items[0]
                                                           : "?";

    shim->folder = plan->folder;
    shim->working_folder = c->bundle_folder;
    shim->cgroup = plan->record.cgroup;
    shim->user = c->bundle.rootless ? -1 : c->bundle.user.user;
    shim->mark = local_mark(plan->arena, plan->instance);
    shim->env.items = fl_new_array(plan->arena, const char *, 2);
    shim->env.items[shim->env.count++] = shim->mark;
    shim->env.items[shim->env.count++] = "PATH=" LOCAL_PATH;
    shim->container.pid_file = fl_arena_printf(plan->arena, "%s/pid", plan->folder);
    shim->container.error_log = fl_arena_printf(plan->arena, "%s/runtime.log", plan->folder);
    shim->container.program = program;
}

int plan_container(struct plan *plan, const struct fl_image *image, struct fl_error *err)
{
    const struct fl_workload_spec *spec = plan->run->spec;
    struct container c = {.plan = plan, .image = image, .spec = spec};
    int r;

    plan->folder = local_run_folder(plan->arena, plan->instance, plan->run->number);
    c.root = fl_arena_printf(plan->arena, "%s/" CONTAINER_ROOT, plan->folder);
    c.bundle_folder = plan->record.working_folder;
    c.mounts = fl_new_array(plan->arena, struct fl_bundle_mount,
                            spec->mounts.count + plan->run->file_count + 8);
    plan_environment(plan);
    plan_log(plan);
    r = choose_user(&c, err);
    if (r < 0)
        return r;
    fill_bundle(&c);
    r = put_root(&c, err);
    if (r == 0)
        r = add_folders(&c, err);
    if (r < 0)
        return r;
    add_files(&c);
    add_names(&c);
    add_first(&c);
    r = put_config(&c, err);
    if (r < 0)
        return r;
    fill_shim(&c);
    put_commands(&c);
    return 0;
}
