#include "reconcilers/imagebuild/compose/packages_internal.h"

#include "lib/folder.h"
#include "lib/run.h"
#include "lib/str.h"

#include <string.h>

#define ERRORS_MAX ((size_t)64 * 1024)
#define SAID_MAX   600

int64_t fl_packages_left_ms(const struct fl_packages *packages)
{
    return packages->options.deadline_ms - fl_monotonic_ms(packages->options.env);
}

bool fl_packages_tell(const struct fl_packages *packages, const char *what, int64_t done,
                      int64_t total)
{
    return !packages->options.progress ||
           packages->options.progress(packages->options.user, what, done, total);
}

/* What the program itself says went wrong: its errors have a mark in front. */
static const char *words_of(struct fl_arena *arena, const char *errors, const char *marker)
{
    const char *rest = errors, *line, *last = "", *said = "";

    while (rest && (line = fl_str_next(arena, &rest, '\n'))) {
        if (line[strspn(line, " \t\r")])
            last = line;
        if (!fl_str_has_prefix(line, marker) || strlen(said) > SAID_MAX)
            continue;
        line += strlen(marker);
        said =
            fl_arena_printf(arena, "%s%s%.400s", said, *said ? "; " : "", line + strspn(line, " "));
    }
    return *said ? said : last;
}

int fl_packages_run(struct fl_packages *packages, const char *const *argv, size_t output_max,
                    const char *marker, struct fl_bytes **ret_output, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_run_options options = {
        .program = argv[0],
        .argv = argv,
        .env = packages->env,
        .output_max = output_max,
        .errors_max = ERRORS_MAX,
        .timeout_ms = fl_packages_left_ms(packages),
    };
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    struct fl_run_result result;
    int r;

    if (options.timeout_ms <= 0)
        return fl_error_set(err, FL_E_TIMEOUT, "no time is left for %s", name);
    r = fl_run(&options, &result, err);
    if (r < 0)
        (void)fl_error_wrap(err, "%s", name);
    else if (result.status != 0)
        r = fl_error_set(
            err, fl_packages_is_offline(result.errors->data) ? FL_E_UNAVAILABLE : FL_E_INVALID,
            "%s: %.700s", name, words_of(arena, result.errors->data, marker));
    if (r == 0)
        *ret_output = fl_bytes_ref(result.output);
    fl_run_result_finish(&result);
    return r;
}

static const char *on_path(struct fl_packages *packages, const char *name)
{
    const char *rest = fl_str_or(packages->options.path, "/usr/local/bin:/usr/bin:/bin");

    while (rest) {
        const char *folder = fl_str_next(packages->arena, &rest, ':');
        const char *path = fl_arena_printf(packages->arena, "%s/%s", folder, name);

        if (*folder == '/' && fl_path_is_executable(path))
            return path;
    }
    return NULL;
}

const char *fl_packages_program(struct fl_packages *packages, const char *const *names,
                                size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *path = names[i];

        if (path && !strchr(path, '/'))
            path = on_path(packages, path);
        if (path && fl_path_is_executable(path))
            return path;
    }
    return NULL;
}
