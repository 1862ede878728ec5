#include "lib/machine.h"

#include "lib/file.h"
#include "lib/mem.h"

#include <ctype.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char *const architectures[][2] = {
    {"x86_64", "amd64"},  {"aarch64", "arm64"}, {"i686", "386"},        {"i386", "386"},
    {"armv7l", "arm/v7"}, {"armv6l", "arm/v6"}, {"armv5tel", "arm/v5"},
};

static const char *architecture(const char *machine)
{
    for (size_t i = 0; i < FL_COUNT_OF(architectures); i++)
        if (strcmp(machine, architectures[i][0]) == 0)
            return architectures[i][1];
    return machine; /* ppc64le, riscv64, s390x are called the same */
}

void fl_machine_label(const char *name, char out[64])
{
    size_t len = 0;

    for (; *name && *name != '.' && len < 63; name++) {
        bool good = isalnum((unsigned char)*name);

        if (good || len > 0)
            out[len++] = good ? (char)tolower((unsigned char)*name) : '-';
    }
    while (len > 0 && out[len - 1] == '-')
        len--;
    out[len] = '\0';
    if (len == 0)
        (void)snprintf(out, 64, "node");
}

static int64_t count_cpus(void)
{
    cpu_set_t set;
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

struct fl_machine fl_machine_get(const char *path)
{
    struct fl_machine machine = {.cpus = count_cpus()};
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    struct utsname names;
    struct statvfs space;

    if (uname(&names) == 0) {
        fl_machine_label(names.nodename, machine.name);
        (void)snprintf(machine.platform, sizeof(machine.platform), "linux/%.20s",
                       architecture(names.machine));
    }
    if (pages > 0 && size > 0)
        machine.memory_bytes = (int64_t)pages * size;
    if (statvfs(path, &space) == 0)
        machine.storage_bytes = (int64_t)(space.f_blocks * space.f_frsize);
    return machine;
}

static const char *const emulators[][2] = {
    {"qemu-aarch64", "linux/arm64"},   {"qemu-x86_64", "linux/amd64"},
    {"qemu-arm", "linux/arm/v7"},      {"qemu-i386", "linux/386"},
    {"qemu-riscv64", "linux/riscv64"}, {"qemu-ppc64le", "linux/ppc64le"},
    {"qemu-s390x", "linux/s390x"},
};

/* "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\n…" */
static bool is_registered(const char *folder, const char *name)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/%s", folder, name);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *flags;
    size_t len;

    if (fl_file_read(path, 4096, &text, NULL) < 0 || strncmp(text->data, "enabled", 7) != 0)
        return false;
    flags = strstr(text->data, "\nflags:");
    if (!flags)
        return false;
    len = strcspn(flags + 1, "\n");
    return memchr(flags + strlen("\nflags:"), 'F', len + 1 - strlen("\nflags:")) != NULL;
}

size_t fl_machine_foreign(const char *folder, const char **out, size_t max)
{
    const char *from = folder ? folder : "/proc/sys/fs/binfmt_misc";
    size_t count = 0;

    for (size_t i = 0; i < FL_COUNT_OF(emulators) && count < max; i++)
        if (is_registered(from, emulators[i][0]))
            out[count++] = emulators[i][1];
    return count;
}
