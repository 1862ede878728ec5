/* The process that builds. */
#include "reconcilers/imagebuild/build_child.h"

#include "lib/cgroup.h"
#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/imagebuild/build_log.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct child {
    int out;
    struct fl_build_log *log; /* NULL: none is kept */
    bool broken;              /* nobody listens any more */
    const char *stage;        /* that runs */
    struct fl_cgroup group;   /* the build's */
};

static void say(struct child *child, const json_t *value)
{
    struct fl_buf line;

    fl_buf_init(&line, FL_BUILD_LINE_MAX);
    fl_json_write(&line, value);
    fl_buf_putc(&line, '\n');
    for (size_t done = 0; done < line.len && !child->broken;) {
        ssize_t n = write(child->out, line.data + done, line.len - done);

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            child->broken = true;
    }
    fl_buf_finish(&line);
}

/* What goes on within a stage is for those who watch; what is kept is when it began and ended. */
static void log_stage(struct child *child, const char *name, enum fl_stage_state state,
                      const char *message)
{
    struct fl_buf line;

    if (state == FL_STAGE_RUNNING && fl_streq(name, child->stage))
        return;
    child->stage = state == FL_STAGE_RUNNING ? name : NULL;
    fl_buf_init(&line, 0);
    fl_buf_printf(&line, "%s: %s%s%s", name, fl_stage_state_text(state), message ? ": " : "",
                  fl_str_or(message, ""));
    fl_build_log_line(child->log, fl_buf_text(&line));
    fl_buf_finish(&line);
}

static void on_stage(void *user, const char *name, enum fl_stage_state state, const char *message)
{
    FL_JSON value = json_object();

    log_stage(user, name, state, message);
    fl_json_set_str(value, "stage", name);
    fl_json_set_str(value, "state", fl_stage_state_text(state));
    fl_json_set_str(value, "message", message);
    say(user, value);
}

static void on_log(void *user, const char *line)
{
    struct child *child = user;
    FL_JSON value = json_object();

    fl_build_log_line(child->log, line);
    (void)json_object_set_new(
        value, "log", json_stringn(line, fl_utf8_cut(line, strlen(line), FL_BUILD_LOG_LINE_MAX)));
    say(user, value);
}

static bool keep_going(void *user)
{
    const struct child *child = user;

    return !child->broken;
}

/* All that is started from here on is in the group, too. */
static void enter_group(struct child *child, const struct fl_build *build, struct fl_arena *arena)
{
    const struct fl_cgroup_limits limits = {.cpu_milli = build->cpu_milli,
                                            .memory_bytes = build->memory_bytes};
    FL_CLEANUP(fl_cgroups_destroyp) struct fl_cgroups *cgroups = NULL;
    struct fl_cgroup *group = &child->group;
    unsigned missing = 0;
    int r;

    if (!build->group)
        return;
    cgroups = fl_cgroups_detect("", FL_BUILD_GROUPS);
    r = fl_cgroups_make(cgroups, build->group, &limits, arena, group, &missing, NULL);
    if (r == 0 && group->count > 0)
        r = fl_cgroup_enter(group);
    if ((r != 0 || group->count == 0 || missing) && (limits.cpu_milli || limits.memory_bytes))
        on_log(child, fl_arena_printf(arena, "resources: not all of the limits hold here (%s)",
                                      fl_cgroups_describe(cgroups)));
}

/* Whoever lost a process to the kernel says anything of it, or nothing. */
static void blame_memory(const struct child *child, const struct fl_build *build,
                         struct fl_error *err)
{
    if (build->memory_bytes > 0 && fl_cgroup_oom_kills(&child->group) > 0)
        (void)fl_error_wrap(err, "it needed more memory than the %" PRId64 " MiB it may have",
                            build->memory_bytes >> 20);
}

static struct fl_builder_result result_of(const struct fl_built *built, struct fl_arena *arena)
{
    const struct fl_composed *composed = &built->composed;
    struct fl_builder_result result = {
        .commit = built->commit,
        .backend = built->backend,
        .digest = composed->root.digest,
        .key = built->key,
        .sbom = built->attestations.sbom.digest,
        .provenance = built->attestations.provenance.digest,
        .signature = built->attestations.signature.digest,
        .size = composed->size,
        .cache_hits = (int64_t)composed->cache_hits,
        .cache_misses = (int64_t)composed->cache_misses,
        .bytes_fetched = composed->bytes_fetched,
        .bytes_pushed = built->pushed.bytes_sent,
        .platform_count = composed->platform_count,
    };

    for (size_t i = 0; i < composed->platform_count; i++) {
        const struct fl_composed_platform *item = &composed->platforms[i];

        result.platforms[i] = (struct fl_builder_platform){
            .platform = fl_platform_text(arena, &item->platform),
            .digest = item->digest,
            .size = item->size,
            .unpacked_size = item->unpacked_size,
            .layers = (int64_t)item->layers,
            .cached_layers = (int64_t)item->cached_layers,
        };
    }
    return result;
}

static json_t *failure_of(const struct fl_error *err, const char *stage)
{
    json_t *value = json_object(), *error = fl_json_ensure_object(value, "error");

    fl_json_set_str(error, "code", fl_error_reason(err->code));
    fl_json_set_str(error, "message", err->msg);
    fl_json_set_str(error, "stage", stage);
    return value;
}

static void open_log(struct child *child, const struct fl_build *build)
{
    struct fl_error err = {0};

    if (build->log_file && fl_build_log_open(build->env, build->log_file, &child->log, &err) < 0)
        on_log(child, err.msg);
    fl_build_log_line(child->log, "an attempt begins");
}

static void close_log(struct child *child, const struct fl_built *built, const struct fl_error *err)
{
    struct fl_buf line;

    fl_buf_init(&line, 0);
    if (built)
        fl_buf_printf(&line, "built %s", built->composed.root.digest);
    else
        fl_buf_printf(&line, "failed: %s", err->msg);
    fl_build_log_line(child->log, fl_buf_text(&line));
    fl_buf_finish(&line);
    fl_build_log_close(child->log);
}

static int read_request(int fd, struct fl_arena *arena, struct fl_build *ret_build,
                        struct fl_error *err)
{
    json_t *value = NULL;
    int r = fl_json_read_secret(fd, FL_BUILD_REQUEST_MAX, &value, err);

    return r < 0 ? r : fl_build_decode(fl_json_in_arena(arena, value), arena, ret_build, err);
}

int fl_build_child_main(const struct fl_env *env, int in_fd, int out_fd)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct child child = {.out = out_fd};
    struct fl_build build;
    struct fl_built built;
    struct fl_error err = {0};
    const char *stage = NULL;
    FL_JSON last = NULL;
    int r;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGPIPE, SIG_IGN);
    r = read_request(in_fd, arena, &build, &err);
    if (r == 0) {
        build.env = env;
        build.hooks = (struct fl_compose_hooks){on_stage, keep_going, &child};
        build.log = on_log;
        open_log(&child, &build);
        enter_group(&child, &build, arena);
        r = fl_build_run(&build, arena, &built, &stage, &err);
        if (r < 0)
            blame_memory(&child, &build, &err);
        close_log(&child, r == 0 ? &built : NULL, &err);
    }
    if (r == 0) {
        const struct fl_builder_result result = result_of(&built, arena);

        last = json_pack("{s:o}", "result", fl_builder_result_json(&result));
    } else {
        last = failure_of(&err, stage);
    }
    say(&child, last);
    return child.broken ? 1 : 0;
}
