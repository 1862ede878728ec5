/* Debian packages: apt-get finds them, with a state of its own. */
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include "lib/file.h"
#include "lib/str.h"

#include <inttypes.h>
#include <string.h>

#define ARGUMENTS_MAX 512
#define NAMES_MAX     256
#define ANSWER_MAX    ((size_t)4 * 1024 * 1024)
#define LISTS_AGE_S   (24 * 60 * 60)

struct asking {
    struct fl_packages *packages;
    struct fl_arena *arena;
    const char *folder; /* of this architecture */
    const char *argv[ARGUMENTS_MAX + 1];
    size_t argc;
};

static void say(struct asking *asking, const char *argument)
{
    if (asking->argc < ARGUMENTS_MAX)
        asking->argv[asking->argc++] = argument;
}

static void set(struct asking *asking, const char *name, const char *value)
{
    say(asking, "-o");
    say(asking, fl_arena_printf(asking->arena, "%s=%s", name, value));
}

static const char *below(struct asking *asking, const char *name)
{
    return fl_arena_printf(asking->arena, "%s/%s", asking->folder, name);
}

/* Everything that is written goes below the folder; sources and keys are the machine's, unless
 * others were named. */
static int begin(struct asking *asking, const char *architecture, struct fl_error *err)
{
    static const char *const names[] = {"apt-get"};
    const struct fl_packages_options *options = &asking->packages->options;
    const char *program = fl_packages_program(asking->packages, names, 1);

    if (!program)
        return fl_error_set(err, FL_E_UNAVAILABLE,
                            "apt-get is not on this machine, and Debian packages are found by it");
    asking->argc = 0;
    say(asking, program);
    set(asking, "Dir::State", below(asking, "state"));
    set(asking, "Dir::State::status", below(asking, "status"));
    set(asking, "Dir::Cache", below(asking, "cache"));
    set(asking, "APT::Architecture", architecture);
    set(asking, "APT::Architectures::", architecture);
    set(asking, "APT::Sandbox::User", "root");
    set(asking, "APT::Install-Recommends", "0");
    set(asking, "APT::Install-Suggests", "0");
    set(asking, "Acquire::Languages", "none");
    set(asking, "Acquire::ForceHash", "SHA256");
    set(asking, "Acquire::Retries", "3");
    set(asking, "Acquire::http::Timeout", "60");
    set(asking, "Acquire::https::Timeout", "60");
    if (options->apt_sources) {
        set(asking, "Dir::Etc::sourcelist", options->apt_sources);
        set(asking, "Dir::Etc::sourceparts", "-");
    }
    return 0;
}

static int make_folders(struct asking *asking, struct fl_error *err)
{
    static const char *const folders[] = {"state/lists/partial", "cache/archives/partial"};
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(folders); i++)
        r = fl_dir_ensure(below(asking, folders[i]), 0755, err);
    return r == 0 ? fl_file_write(below(asking, "status"), "", 0, 0644, err) : r;
}

/* When the lists were fetched, and from where: another sources.list has other packages. */
static const char *stamp_of(struct asking *asking, int64_t now_s)
{
    return fl_arena_printf(asking->arena, "%" PRId64 " %s", now_s,
                           fl_str_or(asking->packages->options.apt_sources, "-"));
}

static bool are_lists_fresh(struct asking *asking, int64_t now_s)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *space;
    int64_t then_s;

    if (fl_file_read(below(asking, "fetched"), 8192, &text, NULL) < 0)
        return false;
    space = strchr(text->data, ' ');
    return space &&
           fl_str_to_int64(
               fl_arena_strndup(asking->arena, text->data, (size_t)(space - text->data)), 0,
               INT64_MAX, &then_s) &&
           fl_streq(space, strchr(stamp_of(asking, 0), ' ')) && now_s >= then_s &&
           now_s - then_s < LISTS_AGE_S;
}

static int unavailable(struct fl_error *err)
{
    (void)fl_error_wrap(err, "Debian's package lists");
    if (err)
        err->code = FL_E_UNAVAILABLE;
    return FL_E_UNAVAILABLE;
}

static int fetch_lists(struct asking *asking, const char *architecture, bool is_forced,
                       bool *ret_fetched, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *output = NULL;
    int64_t now_s = fl_realtime_us(asking->packages->options.env) / 1000000;
    const char *stamp = stamp_of(asking, now_s);
    int r;

    *ret_fetched = is_forced || !are_lists_fresh(asking, now_s);
    if (!*ret_fetched)
        return 0;
    (void)fl_packages_tell(asking->packages, "Debian's package lists", 0, 0);
    r = begin(asking, architecture, err);
    if (r < 0)
        return r;
    set(asking, "APT::Update::Error-Mode", "any");
    say(asking, "-q");
    say(asking, "update");
    say(asking, NULL);
    r = fl_packages_run(asking->packages, asking->argv, ANSWER_MAX, "E:", &output, err);
    if (r == FL_E_INVALID) /* what cannot be reached today may be tomorrow */
        r = unavailable(err);
    if (r == 0)
        r = fl_file_write(below(asking, "fetched"), stamp, strlen(stamp), 0600, err);
    return r;
}

/* 'URL' name_version_arch.deb size SHA256:hex */
static int parse_line(struct fl_arena *arena, const char *line, struct fl_package *package,
                      struct fl_error *err)
{
    const char *end = *line == '\'' ? strchr(line + 1, '\'') : NULL;
    const char *rest = end && end[1] == ' ' ? end + 2 : NULL;
    const char *file = rest ? fl_str_next(arena, &rest, ' ') : NULL;
    const char *size = rest ? fl_str_next(arena, &rest, ' ') : NULL;
    const char *hash = rest ? fl_str_next(arena, &rest, ' ') : NULL;
    const char *parts = file, *version;

    *package = (struct fl_package){.kind = FL_PACKAGE_DEBIAN, .file = file};
    if (!file || !size || !hash || !fl_str_has_prefix(hash, "SHA256:") ||
        !fl_str_to_int64(size, 1, INT64_MAX, &package->size))
        return fl_error_set(err, FL_E_INTERNAL, "apt-get's answer is not understood: %.200s", line);
    package->url = fl_arena_strndup(arena, line + 1, (size_t)(end - line - 1));
    package->digest = fl_arena_printf(arena, "sha256:%s", hash + strlen("SHA256:"));
    package->name = fl_str_next(arena, &parts, '_');
    version = parts ? fl_str_next(arena, &parts, '_') : NULL;
    package->version = version ? fl_url_decode(arena, version, strlen(version), false) : NULL;
    package->architecture = parts && fl_str_has_suffix(parts, ".deb")
                                ? fl_arena_strndup(arena, parts, strlen(parts) - strlen(".deb"))
                                : NULL;
    if (!package->architecture || !fl_package_is_sound(package))
        return fl_error_set(err, FL_E_INTERNAL, "apt-get names a file %.200s", file);
    return 0;
}

int fl_apt_answer_parse(struct fl_arena *arena, const char *text, struct fl_package_lock *ret_lock,
                        struct fl_error *err)
{
    struct fl_package_lock lock = {fl_new_array(arena, struct fl_package, LOCK_MAX), 0};
    int r = 0;

    while (r == 0 && text) {
        const char *line = fl_str_next(arena, &text, '\n');

        if (!*line)
            continue;
        if (lock.count == LOCK_MAX)
            return fl_error_set(err, FL_E_TOO_LARGE, "more than %d packages", LOCK_MAX);
        r = parse_line(arena, line, &lock.items[lock.count++], err);
    }
    if (r < 0)
        return r;
    fl_package_lock_sort(&lock);
    *ret_lock = lock;
    return 0;
}

/* "name", "name=version": what apt-get would take for a pattern, an option or a removal is none. */
static bool is_name(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+.-");

    return *text && strchr(plain, *text) && len > 1 &&
           (strchr(plain, text[len - 1]) || text[len - 1] == '+') &&
           (!text[len] ||
            (text[len] == '=' && text[len + 1] &&
             !text[len + 1 +
                   strspn(text + len + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "abcdefghijklmnopqrstuvwxyz0123456789+.~:-")]));
}

static int check_names(const char *const *names, size_t count, struct fl_error *err)
{
    if (count == 0 || count > NAMES_MAX)
        return fl_error_set(err, FL_E_INVALID, "%zu packages: one to %d can be asked for", count,
                            NAMES_MAX);
    for (size_t i = 0; i < count; i++)
        if (!is_name(names[i]))
            return fl_error_set(err, FL_E_INVALID, "\"%.80s\" is no name of a Debian package",
                                names[i]);
    return 0;
}

static int ask(struct asking *asking, const char *architecture, const char *const *names,
               size_t count, struct fl_package_lock *ret_lock, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *output = NULL;
    int r = begin(asking, architecture, err);

    if (r < 0)
        return r;
    say(asking, "-qq");
    say(asking, "--print-uris");
    say(asking, "-y");
    say(asking, "install");
    say(asking, "--");
    for (size_t i = 0; i < count; i++)
        say(asking, names[i]);
    say(asking, NULL);
    r = fl_packages_run(asking->packages, asking->argv, ANSWER_MAX, "E:", &output, err);
    return r < 0 ? r : fl_apt_answer_parse(asking->arena, output->data, ret_lock, err);
}

int fl_packages_resolve_debian(struct fl_packages *packages, const struct fl_platform *platform,
                               const char *const *names, size_t count, struct fl_arena *arena,
                               struct fl_package_lock *ret_lock, struct fl_error *err)
{
    const char *architecture = fl_platform_debian(platform);
    struct asking asking = {.packages = packages, .arena = arena};
    bool is_new = false;
    int r;

    if (!architecture)
        return fl_error_set(err, FL_E_INVALID, "Debian has no packages for %s",
                            fl_platform_text(arena, platform));
    asking.folder = fl_arena_printf(arena, "%s/apt-%s", packages->options.folder, architecture);
    r = check_names(names, count, err);
    if (r == 0)
        r = make_folders(&asking, err);
    if (r == 0)
        r = fetch_lists(&asking, architecture, false, &is_new, err);
    if (r < 0)
        return r;
    r = ask(&asking, architecture, names, count, ret_lock, err);
    /* The sources may have other packages by now, or be other ones. */
    if (r == FL_E_INVALID && !is_new) {
        r = fetch_lists(&asking, architecture, true, &is_new, err);
        if (r == 0)
            r = ask(&asking, architecture, names, count, ret_lock, err);
    }
    return r;
}
