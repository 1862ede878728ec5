#include "cmd/building.h"

#include "cmd/command.h"
#include "lib/folder.h"
#include "lib/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES_MAX 64

/* Of the environment: proxies, and what the programs that find packages are configured by. */
static bool is_wanted(const char *entry)
{
    static const char *const prefixes[] = {
        "http_proxy=",    "https_proxy=",    "no_proxy=",   "HTTP_PROXY=",
        "HTTPS_PROXY=",   "NO_PROXY=",       "PIP_",        "UV_",
        "SSL_CERT_FILE=", "HOME=",           "APT_CONFIG=", "REQUESTS_CA_BUNDLE=",
        "SSL_CERT_DIR=",  "XDG_CONFIG_HOME="};

    for (size_t i = 0; i < FL_COUNT_OF(prefixes); i++)
        if (fl_str_has_prefix(entry, prefixes[i]))
            return true;
    return false;
}

static const char *const *packages_env(struct fl_arena *arena)
{
    const char **wanted = fl_new_array(arena, const char *, NAMES_MAX + 1);
    size_t count = 0;

    for (char **entry = environ; *entry && count < NAMES_MAX; entry++)
        if (is_wanted(*entry))
            wanted[count++] = *entry;
    return wanted;
}

/* Installed, a part is in ../lib/flops beside the folder of the program; in a build tree, where it
 * is made. NULL: nowhere. */
static const char *part(struct fl_arena *arena, const char *program, const char *installed,
                        const char *built)
{
    const char *slash = strrchr(program, '/');
    int len = slash ? (int)(slash - program) : 0;
    const char *paths[] = {
        fl_arena_printf(arena, "%.*s/../lib/flops/%s", len, program, installed),
        fl_arena_printf(arena, "%.*s/../../%s", len, program, built),
    };

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++)
        if (fl_path_exists(paths[i]))
            return paths[i];
    return NULL;
}

int fl_building_prepare(const struct fl_env *env, const char *data_dir, struct fl_arena *arena,
                        struct fl_build *build, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *program = realpath("/proc/self/exe", NULL);

    if (!program)
        return fl_error_errno(err, errno, "the program's own path");
    build->env = env;
    build->data_dir = data_dir;
    build->folder = fl_arena_printf(arena, "%s/builds", data_dir);
    build->program = fl_arena_strdup(arena, program);
    build->programs = part(arena, program, "programs", "build/cross");
    build->adapter = part(arena, program, "python", "workloads/trainer/python/image");
    build->version = fl_version();
    build->packages_env = packages_env(arena);
    return 0;
}
