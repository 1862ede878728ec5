#include "cmd/building.h"

#include "cmd/command.h"
#include "cmd/parts.h"
#include "lib/file.h"
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

int fl_building_prepare(const struct fl_env *env, const char *data_dir, struct fl_arena *arena,
                        struct fl_build *build, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *program = realpath("/proc/self/exe", NULL);
    struct fl_signing_key key;
    int r;

    if (!program)
        return fl_error_errno(err, errno, "the program's own path");
    r = fl_dir_ensure(data_dir, 0700, err);
    if (r == 0)
        r = fl_signing_key_ensure(data_dir, &key, err);
    if (r < 0)
        return fl_error_wrap(err, "the key that images are signed with");
    fl_signing_key_wipe(&key);
    build->env = env;
    build->data_dir = data_dir;
    build->folder = fl_arena_printf(arena, "%s/builds", data_dir);
    build->program = fl_arena_strdup(arena, program);
    build->programs = fl_part_programs(arena);
    build->adapter = fl_part_adapter(arena);
    build->version = fl_version();
    build->signing_key = fl_arena_printf(arena, "%s/signing.key", data_dir);
    build->packages_env = packages_env(arena);
    return 0;
}
