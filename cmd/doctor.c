/* `flops doctor`: what this machine lacks, and the command that mends it. */
#include "cmd/command.h"
#include "cmd/options.h"
#include "lib/buf.h"
#include "lib/cgroup.h"
#include "lib/json.h"
#include "lib/machine.h"
#include "lib/str.h"
#include "workloads/tensor/kernels.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define FILES_WANTED 4096
#define DISK_WANTED  ((uint64_t)1024 * 1024 * 1024)
#define YEAR_BUILT   2024 /* a clock before that is not set */

static const char help[] =
    "Usage: flops doctor [options]\n\n"
    "Looks at what a control plane and its services need of this machine. Each line says ok, warn "
    "(it\n"
    "works, with less) or missing, and how to mend it.\n\n"
    "      --data-dir DIR      where state will be (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "  -o, --output FORMAT     text (the default) or json\n"
    "\nExit status: 0 nothing is missing; 1 something is; 2 wrong usage.\n";

enum verdict { OK, WARN, MISSING };

struct finding {
    enum verdict verdict;
    const char *text, *mend; /* mend NULL: nothing to do */
};

struct doctor {
    struct fl_arena *arena;
    const char *data_dir, *output;
};

typedef struct finding check_fn(const struct doctor *doctor);

static struct finding check_blas(const struct doctor *doctor)
{
    struct fl_error err = {0};

    if (fl_kernels_init(&err) == 0)
        return (struct finding){OK, "matrices are multiplied by OpenBLAS", NULL};
    return (struct finding){MISSING, fl_arena_strdup(doctor->arena, err.msg),
                            "apt-get install -y libopenblas0-pthread"};
}

static struct finding check_groups(const struct doctor *doctor)
{
    FL_CLEANUP(fl_cgroups_destroyp)
    struct fl_cgroups *groups = fl_cgroups_detect("", "flops-doctor");
    const char *what = fl_arena_strdup(doctor->arena, fl_cgroups_describe(groups));

    if (fl_cgroups_usable(groups))
        return (struct finding){OK, what, NULL};
    return (struct finding){
        WARN,
        fl_arena_printf(doctor->arena, "%s: limits of services are kept by watching them", what),
        "run as root, or: systemctl edit user@.service, [Service] Delegate=yes"};
}

static struct finding check_files(const struct doctor *doctor)
{
    struct rlimit limit = {0};

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max >= FILES_WANTED)
        return (struct finding){OK,
                                fl_arena_printf(doctor->arena, "%" PRIu64 " open files are allowed",
                                                (uint64_t)limit.rlim_max),
                                NULL};
    return (struct finding){WARN,
                            fl_arena_printf(doctor->arena,
                                            "only %" PRIu64 " open files are allowed: each learner "
                                            "needs some at its aggregator",
                                            (uint64_t)limit.rlim_max),
                            "ulimit -Hn 65536 (as root), or LimitNOFILE=65536 in the service"};
}

/* The folder itself, or the first above it that is there. */
static const char *existing(const struct doctor *doctor)
{
    char *path = fl_arena_strdup(doctor->arena, doctor->data_dir), *slash;

    while (access(path, F_OK) != 0 && (slash = strrchr(path, '/')) && slash != path)
        *slash = '\0';
    return access(path, F_OK) == 0 ? path : "/";
}

static struct finding check_folder(const struct doctor *doctor)
{
    const char *path = existing(doctor);

    if (access(path, W_OK | X_OK) == 0)
        return (struct finding){OK, fl_arena_printf(doctor->arena, "%s can be written", path),
                                NULL};
    return (struct finding){
        MISSING, fl_arena_printf(doctor->arena, "%s cannot be written: %s", path, strerror(errno)),
        "use another --data-dir, or: chown $(id -u) that folder"};
}

static struct finding check_disk(const struct doctor *doctor)
{
    struct statvfs disk = {0};
    uint64_t room;

    (void)statvfs(existing(doctor), &disk);
    room = (uint64_t)disk.f_bavail * disk.f_frsize;
    return (struct finding){room >= DISK_WANTED ? OK : WARN,
                            fl_arena_printf(doctor->arena, "%" PRIu64 " MiB are free below %s",
                                            room >> 20, doctor->data_dir),
                            room >= DISK_WANTED ? NULL
                                                : "make room, or use --data-dir on a larger disk"};
}

static struct finding check_clock(const struct doctor *doctor)
{
    const time_t now = time(NULL);
    struct tm utc = {0};

    (void)doctor;
    if (gmtime_r(&now, &utc) && utc.tm_year + 1900 >= YEAR_BUILT)
        return (struct finding){OK, "the clock is set", NULL};
    return (struct finding){MISSING, "the clock is not set: certificates would not be valid",
                            "timedatectl set-ntp true"};
}

static struct finding check_processors(const struct doctor *doctor)
{
    const struct fl_machine machine = fl_machine_get("/");

    return (struct finding){
        OK,
        fl_arena_printf(doctor->arena, "%s, %" PRId64 " cores, %" PRId64 " MiB of memory",
                        machine.platform, machine.cpus, machine.memory_bytes >> 20),
        NULL};
}

static const char *find_program(const struct doctor *doctor, const char *name)
{
    const char *rest = getenv("PATH"), *folder;

    while (rest && (folder = fl_str_next(doctor->arena, &rest, ':'))) {
        const char *path = fl_arena_printf(doctor->arena, "%s/%s", folder, name);

        if (access(path, X_OK) == 0)
            return path;
    }
    return NULL;
}

static struct finding check_kubectl(const struct doctor *doctor)
{
    const char *path = find_program(doctor, "kubectl");

    if (path)
        return (struct finding){OK, path, NULL};
    return (struct finding){WARN, "kubectl is not in PATH; flops get, apply, wait do without it",
                            "hack/get-kubectl.sh, or your distribution's package"};
}

static struct finding check_runtime(const struct doctor *doctor)
{
    const char *path = find_program(doctor, "runc");

    if (!path)
        path = find_program(doctor, "crun");
    if (path)
        return (struct finding){OK, path, NULL};
    return (struct finding){WARN, "neither runc nor crun is there: services run as processes",
                            "apt-get install -y runc"};
}

static const struct check {
    const char *name;
    check_fn *run;
} checks[] = {
    {"machine", check_processors}, {"matrices", check_blas},    {"data folder", check_folder},
    {"disk", check_disk},          {"open files", check_files}, {"control groups", check_groups},
    {"clock", check_clock},        {"kubectl", check_kubectl},  {"containers", check_runtime},
};

static const char *const verdicts[] = {[OK] = "ok", [WARN] = "warn", [MISSING] = "missing"};

static void show_text(const struct finding *findings)
{
    for (size_t i = 0; i < FL_COUNT_OF(checks); i++) {
        (void)printf("%-8s %-15s %s\n", verdicts[findings[i].verdict], checks[i].name,
                     findings[i].text);
        if (findings[i].mend)
            (void)printf("%-24s mend: %s\n", "", findings[i].mend);
    }
}

static void show_json(const struct finding *findings)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON list = json_array();

    for (size_t i = 0; i < FL_COUNT_OF(checks); i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s, s:s, s:s*}", "name", checks[i].name,
                                              "verdict", verdicts[findings[i].verdict], "message",
                                              findings[i].text, "mend", findings[i].mend));
    fl_json_write_pretty(&text, list);
    (void)printf("%s\n", fl_buf_text(&text));
}

static int parse(struct doctor *doctor, int argc, char **argv)
{
    const struct fl_option items[] = {
        {"data-dir", 0, FL_OPTION_TEXT, &doctor->data_dir},
        {"output", 'o', FL_OPTION_TEXT, &doctor->output},
    };
    const struct fl_options options = {"doctor", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, doctor->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("doctor", "unexpected argument \"%s\"", words.items[0]);
    if (strcmp(doctor->output, "text") != 0 && strcmp(doctor->output, "json") != 0)
        return fl_command_usage("doctor", "-o %s: must be text or json", doctor->output);
    if (!doctor->data_dir)
        doctor->data_dir = fl_default_data_dir(doctor->arena);
    return -1;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct doctor doctor = {.arena = arena, .output = "text"};
    struct finding findings[FL_COUNT_OF(checks)];
    int status = parse(&doctor, argc, argv);
    bool missing = false;

    if (status >= 0)
        return status;
    for (size_t i = 0; i < FL_COUNT_OF(checks); i++) {
        findings[i] = checks[i].run(&doctor);
        missing |= findings[i].verdict == MISSING;
    }
    if (strcmp(doctor.output, "json") == 0)
        show_json(findings);
    else
        show_text(findings);
    return missing ? 1 : 0;
}

const struct fl_command fl_command_doctor = {"doctor",
                                             "what this machine lacks, and how to mend it", run};
