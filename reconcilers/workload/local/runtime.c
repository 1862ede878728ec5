/* What runs images here. */
#include "lib/machine.h"
#include "lib/oci/overlay.h"
#include "lib/process.h"
#include "lib/run.h"
#include "reconcilers/workload/local/internal.h"

#include <stdlib.h>

#define VERSION_MS  10000
#define VERSION_MAX 4096
#define NONE_FOUND  "no crun or runc is installed: install runc"

static const char *find(struct fl_arena *arena, const char *name)
{
    const char *rest = LOCAL_PATH, *folder;

    while ((folder = fl_str_next(arena, &rest, ':'))) {
        const char *path = fl_arena_printf(arena, "%s/%s", folder, name);

        if (fl_path_is_executable(path))
            return path;
    }
    return NULL;
}

/* crun wants one version of control groups, and paths that are the same in each hierarchy. */
static const char *crun_refuses(const struct fl_local *local, struct fl_arena *arena)
{
    bool relative = false;

    if (!local->cgroups)
        return NULL;
    if (fl_cgroups_hybrid(local->cgroups))
        return "control groups of both versions are mounted, which crun refuses";
    if (fl_cgroups_path(local->cgroups, "x", arena, &relative) && relative)
        return "control groups have no path that is the same in each hierarchy, which crun needs";
    return NULL;
}

/* NULL, and why. */
static const char *look(const struct fl_local *local, struct fl_arena *arena, bool crun, bool runc,
                        const char **ret_why)
{
    const char *path = crun ? find(arena, "crun") : NULL;
    const char *refusal = path ? crun_refuses(local, arena) : NULL;

    *ret_why = crun && !runc   ? "crun is not installed"
               : runc && !crun ? "runc is not installed: install runc"
                               : NONE_FOUND;
    if (path && !refusal)
        return path;
    if (refusal)
        *ret_why = refusal;
    path = runc ? find(arena, "runc") : NULL;
    return path;
}

static void use(struct container_runtime *runtime, const char *path, const char *why)
{
    runtime_finish(runtime);
    runtime->path = path ? fl_strdup(path) : NULL;
    runtime->why_not = fl_strdup(why);
    runtime->crun = path && fl_str_has_suffix(path, "/crun");
}

void runtime_finish(struct container_runtime *runtime)
{
    free(FL_TAKE(runtime->path));
    free(FL_TAKE(runtime->why_not));
}

int runtime_choose(struct fl_local *local, enum fl_orchestrator_local_runtime wanted,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    bool crun = wanted != FL_ORCHESTRATOR_LOCAL_RUNTIME_RUNC;
    bool runc = wanted != FL_ORCHESTRATOR_LOCAL_RUNTIME_CRUN;
    const char *why = "", *path = NULL;

    if (local->no_images)
        why = "containers are switched off";
    else if (wanted == FL_ORCHESTRATOR_LOCAL_RUNTIME_PROCESS)
        why = "the orchestrator runs processes only (spec.local.runtime)";
    else
        path = look(local, arena, crun, runc, &why);
    if (!path && (wanted == FL_ORCHESTRATOR_LOCAL_RUNTIME_CRUN ||
                  wanted == FL_ORCHESTRATOR_LOCAL_RUNTIME_RUNC))
        return fl_error_set(err, FL_E_INVALID, "spec.local.runtime: %s", why);
    use(&local->runtime, path, why);
    return 0;
}

/* "runc version 1.1.5+ds1\n…" without "version". */
static const char *first_words(struct fl_arena *arena, const char *text)
{
    const char *name = fl_arena_strndup(arena, text, strcspn(text, " \n"));
    const char *rest = text + strlen(name);

    if (fl_str_has_prefix(rest, " version "))
        rest += strlen(" version ");
    return fl_arena_printf(arena, "%s %.*s", name, (int)strcspn(rest, " \n"), rest);
}

const char *runtime_version(const char *path, struct fl_arena *arena)
{
    const char *argv[] = {path, "--version", NULL}, *version = path;
    struct fl_run_options options = {.program = path,
                                     .argv = argv,
                                     .output_max = VERSION_MAX,
                                     .errors_max = VERSION_MAX,
                                     .timeout_ms = VERSION_MS};
    struct fl_run_result result = {0};

    if (fl_run(&options, &result, NULL) == 0 && result.status == 0 && result.output)
        version = first_words(arena, result.output->data);
    fl_run_result_finish(&result);
    return version;
}

/* Where the state of containers of this folder is: on disk without what is secret, but crun keeps a
 * copy of their environment there. */
static char *choose_state_folder(const struct fl_local *local)
{
    return fl_asprintf("%s/.runtime", local->folder);
}

int runtime_set_up(struct fl_local *local, const struct fl_image_source *source,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *folder = fl_asprintf("%s/.images", local->folder);
    FL_CLEANUP(fl_freep) char *probe = fl_asprintf("%s/.probe", local->folder);
    struct fl_images_options options = {
        .env = local->env,
        .path = folder,
        .source = source,
        .keep_owners = fl_process_is_root(),
    };

    (void)runtime_choose(local, FL_ORCHESTRATOR_LOCAL_RUNTIME_AUTO, NULL);
    if (!local->runtime.path)
        return 0;
    local->overlays = fl_process_is_root() ? fl_overlay_probe(probe) : 0;
    if (local->no_overlay)
        local->overlays = 0;
    options.overlay = local->overlays & FL_OVERLAY_IN_MEMORY;
    local->state_folder = choose_state_folder(local);
    return fl_images_open(&options, &local->images, err);
}
