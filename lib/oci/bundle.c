/* The parts of a config.json. */
#include "lib/oci/bundle.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CPU_PERIOD   100000
#define CPU_MINIMUM  1000
#define OOM_SCORE    500 /* it goes before what holds it does */

static const char *const capability_names[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

static const char *const masked[] = {
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
};
static const char *const read_only[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static json_t *list_of(const char *const *items, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_string(items[i]));
    return list;
}

static void add_texts(json_t *list, const struct fl_oci_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        (void)json_array_append_new(list, json_string(texts->items[i]));
}

/* The process. */

static json_t *args_of(const struct fl_bundle *bundle)
{
    const struct fl_oci_config *image = bundle->image;
    json_t *list = json_array();

    add_texts(list, bundle->command.count > 0 ? &bundle->command : &image->entrypoint);
    if (bundle->args.count > 0)
        add_texts(list, &bundle->args);
    else if (bundle->command.count == 0)
        add_texts(list, &image->cmd);
    return list;
}

static bool has_name(const json_t *list, const char *entry, size_t len)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        const char *text = json_string_value(item);

        if (strncmp(text, entry, len) == 0 && text[len] == '=')
            return true;
    }
    return false;
}

static void add_env(json_t *list, const char *entry)
{
    size_t len = strcspn(entry, "=");

    if (len > 0 && entry[len] == '=' && !has_name(list, entry, len))
        (void)json_array_append_new(list, json_string(entry));
}

/* The first of a name counts: the caller's, the image's, then what a program may expect. */
static json_t *env_of(const struct fl_bundle *bundle)
{
    FL_CLEANUP(fl_freep)
    char *home = fl_asprintf("HOME=%s", fl_str_or(bundle->user.home, "/"));
    FL_CLEANUP(fl_freep)
    char *hostname = fl_asprintf("HOSTNAME=%s", fl_str_or(bundle->hostname, "localhost"));
    json_t *list = json_array();

    for (size_t i = 0; i < bundle->env.count; i++)
        add_env(list, bundle->env.items[i]);
    for (size_t i = 0; i < bundle->image->env.count; i++)
        add_env(list, bundle->image->env.items[i]);
    add_env(list, "PATH=" DEFAULT_PATH);
    add_env(list, home);
    add_env(list, hostname);
    return list;
}

static const char *folder_of(const struct fl_bundle *bundle)
{
    const char *folder =
        bundle->working_folder ? bundle->working_folder : bundle->image->working_folder;

    return folder && *folder ? folder : "/";
}

static json_t *user_of(const struct fl_bundle *bundle)
{
    const struct fl_bundle_user *user = &bundle->user;
    json_t *value =
        json_pack("{s:I, s:I}", "uid", (json_int_t)user->user, "gid", (json_int_t)user->group);
    json_t *groups;

    if (user->group_count == 0)
        return value;
    groups = json_array();
    for (size_t i = 0; i < user->group_count; i++)
        (void)json_array_append_new(groups, json_integer(user->groups[i]));
    (void)json_object_set_new(value, "additionalGids", groups);
    return value;
}

static json_t *capabilities_of(const struct fl_bundle *bundle)
{
    static const char *const sets[] = {"bounding", "effective", "permitted"};
    json_t *value = json_object();

    for (size_t s = 0; s < FL_COUNT_OF(sets); s++) {
        json_t *list = json_array();

        for (size_t i = 0; bundle->privileged && i < FL_COUNT_OF(capability_names); i++)
            if (bundle->capabilities & (uint64_t)1 << i)
                (void)json_array_append_new(list, json_string(capability_names[i]));
        (void)json_object_set_new(value, sets[s], list);
    }
    return value;
}

static json_t *process_of(const struct fl_bundle *bundle)
{
    return json_pack("{s:b, s:o, s:o, s:o, s:s, s:o, s:b, s:i, s:[{s:s, s:i, s:i}]}", "terminal", 0,
                     "user", user_of(bundle), "args", args_of(bundle), "env", env_of(bundle), "cwd",
                     folder_of(bundle), "capabilities", capabilities_of(bundle), "noNewPrivileges",
                     !bundle->privileged, "oomScoreAdj", OOM_SCORE, "rlimits", "type",
                     "RLIMIT_CORE", "hard", 0, "soft", 0);
}

/* Mounts. */

static void add_mount(json_t *list, const char *to, const char *type, const char *source,
                      const char *const *options, size_t count)
{
    (void)json_array_append_new(list,
                                json_pack("{s:s, s:s, s:s, s:o}", "destination", to, "type", type,
                                          "source", source, "options", list_of(options, count)));
}
#define ADD_MOUNT(list, to, type, source, ...)                                                     \
    add_mount(list, to, type, source, (const char *const[]){__VA_ARGS__},                          \
              FL_COUNT_OF(((const char *const[]){__VA_ARGS__})))

static void add_devices(const struct fl_bundle *bundle, json_t *list)
{
    if (bundle->privileged) {
        ADD_MOUNT(list, "/dev", "bind", "/dev", "rbind", "rw");
        return;
    }
    ADD_MOUNT(list, "/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k");
    ADD_MOUNT(list, "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance",
              "ptmxmode=0666", "mode=0620");
    ADD_MOUNT(list, "/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777",
              "size=256m");
    ADD_MOUNT(list, "/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev");
}

/* The machine's network shows in /sys: a user namespace may not mount it then, but may see it. */
static void add_kernel(const struct fl_bundle *bundle, json_t *list)
{
    const char *access = bundle->privileged ? "rw" : "ro";

    ADD_MOUNT(list, "/proc", "proc", "proc", "nosuid", "noexec", "nodev");
    if (bundle->rootless)
        ADD_MOUNT(list, "/sys", "bind", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro");
    else
        ADD_MOUNT(list, "/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access);
}

static json_t *mounts_of(const struct fl_bundle *bundle, struct fl_arena *arena)
{
    json_t *list = json_array();

    add_kernel(bundle, list);
    add_devices(bundle, list);
    if (bundle->read_only_root) {
        ADD_MOUNT(list, "/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777", "size=512m");
        ADD_MOUNT(list, "/run", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=755", "size=64m");
    }
    for (size_t i = 0; i < bundle->mount_count; i++) {
        const struct fl_bundle_mount *mount = &bundle->mounts[i];

        ADD_MOUNT(list, fl_bundle_path(arena, bundle, mount->path), "bind", mount->source, "rbind",
                  "nosuid", "nodev", mount->read_only ? "ro" : "rw");
    }
    return list;
}

/* The kernel's side. */

static json_t *namespaces_of(const struct fl_bundle *bundle)
{
    static const char *const always[] = {"pid", "ipc", "uts", "mount", "cgroup"};
    json_t *list = json_array();

    for (size_t i = 0; i < FL_COUNT_OF(always); i++)
        (void)json_array_append_new(list, json_pack("{s:s}", "type", always[i]));
    if (bundle->no_network)
        (void)json_array_append_new(list, json_pack("{s:s}", "type", "network"));
    if (bundle->rootless)
        (void)json_array_append_new(list, json_pack("{s:s}", "type", "user"));
    return list;
}

static json_t *ids_of(const struct fl_bundle_ids *ids, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(
            list, json_pack("{s:I, s:I, s:I}", "containerID", (json_int_t)ids[i].inside, "hostID",
                            (json_int_t)ids[i].outside, "size", (json_int_t)ids[i].count));
    return list;
}

static int64_t quota_of(int64_t milli)
{
    int64_t quota = milli > INT64_MAX / CPU_PERIOD ? INT64_MAX / 2 : milli * CPU_PERIOD / 1000;

    return quota < CPU_MINIMUM ? CPU_MINIMUM : quota;
}

/* In the words of version 1; runtimes translate them where the machine has version 2. */
static json_t *resources_of(const struct fl_bundle *bundle)
{
    const struct fl_cgroup_limits *limits = &bundle->limits;
    json_t *value = json_object();

    if (!bundle->rootless)
        (void)json_object_set_new(
            value, "devices",
            json_pack("[{s:b, s:s}]", "allow", bundle->privileged, "access", "rwm"));
    if (limits->memory_bytes > 0)
        (void)json_object_set_new(value, "memory",
                                  json_pack("{s:I}", "limit", (json_int_t)limits->memory_bytes));
    if (limits->cpu_milli > 0)
        (void)json_object_set_new(value, "cpu",
                                  json_pack("{s:I, s:i}", "quota",
                                            (json_int_t)quota_of(limits->cpu_milli), "period",
                                            CPU_PERIOD));
    if (limits->pids > 0)
        (void)json_object_set_new(value, "pids",
                                  json_pack("{s:I}", "limit", (json_int_t)limits->pids));
    return value;
}

static json_t *linux_of(const struct fl_bundle *bundle)
{
    json_t *value = json_pack("{s:o, s:o}", "namespaces", namespaces_of(bundle), "resources",
                              resources_of(bundle));

    fl_json_set_str(value, "cgroupsPath", bundle->cgroup_path);
    if (bundle->rootless) {
        (void)json_object_set_new(value, "uidMappings", ids_of(bundle->users, bundle->user_count));
        (void)json_object_set_new(value, "gidMappings",
                                  ids_of(bundle->groups, bundle->group_count));
    }
    if (bundle->privileged)
        return value;
    (void)json_object_set_new(value, "seccomp", fl_bundle_seccomp(bundle->architecture));
    (void)json_object_set_new(value, "maskedPaths", list_of(masked, FL_COUNT_OF(masked)));
    (void)json_object_set_new(value, "readonlyPaths", list_of(read_only, FL_COUNT_OF(read_only)));
    return value;
}

const char *fl_bundle_path(struct fl_arena *arena, const struct fl_bundle *bundle, const char *path)
{
    const char *folder = folder_of(bundle);

    if (*path == '/')
        return path;
    return fl_arena_printf(arena, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path);
}

int fl_bundle_encode(const struct fl_bundle *bundle, struct fl_bytes **ret_text,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON process = NULL;
    FL_JSON config = NULL;

    if (folder_of(bundle)[0] != '/')
        return fl_error_set(err, FL_E_INVALID, "the working folder %s is not absolute",
                            folder_of(bundle));
    process = process_of(bundle);
    if (json_array_size(json_object_get(process, "args")) == 0)
        return fl_error_set(err, FL_E_INVALID, "the image does not say what to run: set command");
    if (bundle->first)
        (void)json_array_insert_new(json_object_get(process, "args"), 0,
                                    json_string(bundle->first));
    config = json_pack("{s:s, s:O, s:{s:s, s:b}, s:o, s:o}", "ociVersion", "1.0.2", "process",
                       process, "root", "path", bundle->root, "readonly", bundle->read_only_root,
                       "mounts", mounts_of(bundle, arena), "linux", linux_of(bundle));
    if (!config) /* a text that is not UTF-8 */
        return fl_error_set(err, FL_E_INVALID, "a text of the image or the spec is not UTF-8");
    fl_json_set_str(config, "hostname", bundle->hostname);
    *ret_text = fl_json_to_bytes(config);
    return 0;
}
