/* What the driver's thread does: hear the shims, tell what changed, and clear away after one that
 * died. */

#include "lib/process.h"
#include "reconcilers/workload/local/internal.h"

#include "lib/file.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define PIDS_AT_ONCE   256
#define SWEEP_FIRST_MS 5
#define SWEEP_MAX_MS   1000
#define GRACE_MAX_MS   ((int64_t)365 * 24 * 3600 * 1000)

void news_note(struct news *news, const struct instance *instance)
{
    if (news->ns)
        return;
    news->ns = fl_strdup(fl_str_or(instance->record.ns, ""));
    news->name = fl_strdup(fl_str_or(instance->record.name, ""));
}

void news_spread(struct news *news)
{
    if (news->ns)
        local_tell(news->local, news->ns, news->name);
    free(news->ns);
    free(news->name);
}

bool local_is_ready(const struct instance *instance)
{
    return instance->alive && !instance->stopping && instance->status.started_us > 0 &&
           instance->record.started && instance->record.ready;
}

/* The end. */

static void let_go(struct instance *instance)
{
    probes_end(instance);
    fl_timer_destroy(FL_TAKE(instance->watchdog));
    fl_loop_unwatch_fd(FL_TAKE(instance->socket_watch));
    fl_loop_unwatch_fd(FL_TAKE(instance->pidfd_watch));
    fl_shim_close(&instance->shim);
}

static void settle(struct instance *instance)
{
    instance->alive = instance->stopping = instance->sweeping = false;
    instance->message[0] = '\0';
    ports_release(instance, &instance->record, true);
    (void)fl_cgroup_remove(&instance->record.cgroup);
    container_settle(instance);
    local_logs_ended(instance);
}

static void remove_files(const struct instance *instance)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_shim_spec spec = {.working_folder = instance->record.working_folder};

    if (!spec.working_folder)
        return;
    spec.files = fl_new_array(arena, struct fl_shim_file, instance->record.files.count + 1);
    for (; spec.file_count < instance->record.files.count; spec.file_count++)
        spec.files[spec.file_count].path = instance->record.files.items[spec.file_count];
    fl_shim_remove_files(&spec);
}

/* Without its shim a run has no exit code; its last words are in the log only. */
void local_record_end(struct instance *instance, const char *reason, const char *message)
{
    const char *folder = local_run_folder(instance->arena, instance, instance->record.number);
    struct fl_shim_status *status = &instance->status;
    struct fl_error err = {0};

    remove_files(instance);
    status->ended = true;
    status->ended_us = fl_realtime_us(instance->local->env);
    status->reason = fl_arena_strdup(instance->arena, reason);
    status->message = message ? fl_arena_strdup(instance->arena, message) : NULL;
    if (fl_dir_ensure(folder, 0700, &err) < 0 ||
        fl_shim_status_write(folder, status, true, &err) < 0)
        fl_log_error(instance->local->env->log, "how a run ended cannot be written",
                     FL_STR("error", err.msg)); /* a restart will find it lost */
    settle(instance);
}

/* What a shim that was killed left. With a control group that is exact; else by the mark that all
 * of the run began with. True while there is something. */
static bool kill_left(struct instance *instance)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *mark = local_mark(arena, instance);
    pid_t pids[PIDS_AT_ONCE];
    bool seen = fl_cgroup_kill(&instance->record.cgroup);
    size_t count = fl_process_marked(mark, pids, PIDS_AT_ONCE);

    for (size_t i = 0; i < count && i < PIDS_AT_ONCE; i++) {
        FL_CLEANUP(fl_fd_closep) int pidfd = -1;

        if (fl_process_open(pids[i], &pidfd, NULL) == 0)
            (void)fl_process_signal(pidfd, SIGKILL);
    }
    return seen || count > 0;
}

static void on_sweep(void *user)
{
    struct instance *instance = user;
    struct news news = {.local = instance->local};

    {
        FL_LOCKED(instance->local->lock);
        if (kill_left(instance) || container_remove(instance)) {
            int64_t wait_ms = SWEEP_FIRST_MS * ++instance->sweeps;

            fl_timer_arm(instance->watchdog, wait_ms < SWEEP_MAX_MS ? wait_ms : SWEEP_MAX_MS);
        } else {
            let_go(instance);
            local_record_end(instance, "Lost",
                             instance->record.image && !instance->record.image_digest
                                 ? "the control plane ended while the image was being fetched"
                                 : "what held the program was killed");
            news_note(&news, instance);
        }
    }
    news_spread(&news);
}

static void begin_sweep(struct instance *instance)
{
    probes_end(instance);
    fl_loop_unwatch_fd(FL_TAKE(instance->socket_watch));
    fl_loop_unwatch_fd(FL_TAKE(instance->pidfd_watch));
    fl_timer_destroy(instance->watchdog);
    instance->watchdog = fl_timer_create(instance->local->loop, on_sweep, instance);
    instance->sweeping = true;
    instance->sweeps = 0;
    fl_timer_arm(instance->watchdog, 0);
}

/* News of a shim. */

static bool read_status(struct instance *instance)
{
    const char *folder = local_run_folder(instance->arena, instance, instance->record.number);
    struct fl_shim_status status;

    if (fl_shim_status_read(instance->arena, folder, &status, NULL) < 0)
        return false;
    instance->status = status;
    return true;
}

static void came_up(struct instance *instance)
{
    if (instance->status.started_us == 0 || instance->probes[0].timer)
        return;
    probes_begin(instance);
}

static void on_pidfd(void *user, unsigned what)
{
    struct instance *instance = user;
    struct news news = {.local = instance->local};

    (void)what;
    {
        FL_LOCKED(instance->local->lock);
        (void)fl_process_reap(instance->shim.pidfd);
        if (read_status(instance) && instance->status.ended) {
            probes_restore(instance); /* it may have been up for less than a look */
            let_go(instance);
            settle(instance);
            news_note(&news, instance);
        } else {
            begin_sweep(instance);
        }
    }
    news_spread(&news);
}

static void on_socket(void *user, unsigned what)
{
    struct instance *instance = user;
    struct news news = {.local = instance->local};
    struct fl_shim_event event;

    (void)what;
    {
        FL_LOCKED(instance->local->lock);
        while ((event = fl_shim_next(&instance->shim)).type != FL_SHIM_NOTHING) {
            if (event.type == FL_SHIM_GONE) { /* its end shows at the other descriptor */
                fl_loop_unwatch_fd(FL_TAKE(instance->socket_watch));
                break;
            }
            if (event.type == FL_SHIM_CHECKED) {
                if (probes_checked(instance, event.ticket, event.code))
                    news_note(&news, instance);
            } else if (read_status(instance) && !instance->status.ended) {
                came_up(instance);
                news_note(&news, instance);
            }
        }
    }
    news_spread(&news);
}

/* A shim that cannot be heard is as good as dead. */
static int watch(struct instance *instance)
{
    struct fl_loop *loop = instance->local->loop;
    struct fl_error err = {0};
    int r = fl_loop_watch_fd(loop, instance->shim.pidfd, FL_LOOP_READ, on_pidfd, instance,
                             &instance->pidfd_watch, &err);

    if (r == 0)
        r = fl_loop_watch_fd(loop, instance->shim.socket, FL_LOOP_READ, on_socket, instance,
                             &instance->socket_watch, &err);
    if (r < 0)
        fl_log_error(instance->local->env->log, "a run cannot be watched",
                     FL_STR("error", err.msg));
    return r;
}

static void begin_on_loop(void *user)
{
    struct instance *instance = user;
    FL_LOCKED(instance->local->lock);

    if (instance->gone || !instance->alive)
        return;
    if (instance->shim.pidfd < 0) {
        begin_sweep(instance);
        return;
    }
    if (watch(instance) < 0) {
        (void)fl_process_signal(instance->shim.pidfd, SIGKILL);
        begin_sweep(instance);
    } else if (instance->status.started_us > 0) {
        came_up(instance);
    }
}

void local_supervise(struct instance *instance)
{
    fl_loop_post(instance->local->loop, begin_on_loop, instance);
}

/* Stopping. */

/* Orders were not followed: the shim hangs, and its run is ended without it. */
static void on_hung(void *user)
{
    struct instance *instance = user;
    FL_LOCKED(instance->local->lock);

    if (!instance->alive)
        return;
    fl_log_warn(instance->local->env->log, "a run does not end, its shim is killed",
                FL_STR("namespace", instance->record.ns), FL_STR("name", instance->record.name),
                FL_INT("instance", instance->index));
    (void)fl_cgroup_kill(&instance->record.cgroup);
    (void)fl_process_signal(instance->shim.pidfd, SIGKILL);
}

struct stop_watch {
    struct instance *instance;
    int64_t number, delay_ms;
};

static void watch_stop(void *user)
{
    struct stop_watch *stop = user;
    struct instance *instance = stop->instance;
    FL_LOCKED(instance->local->lock);

    if (!instance->gone && instance->alive && instance->record.number == stop->number &&
        instance->shim.pidfd >= 0 && !instance->sweeping) {
        if (!instance->watchdog)
            instance->watchdog = fl_timer_create(instance->local->loop, on_hung, instance);
        fl_timer_arm(instance->watchdog, stop->delay_ms);
    }
    free(stop);
}

int local_stop(struct instance *instance, int64_t grace_ms, const char *reason, const char *message,
               struct fl_error *err)
{
    struct stop_watch *stop;
    int r;

    if (instance->pending) {
        container_stop(instance, reason, message);
        instance->stopping = true;
        return 0;
    }
    if (!instance->alive || instance->shim.socket < 0)
        return 0; /* ended, or ending without its shim */
    r = fl_shim_stop(&instance->shim, (int)instance->record.stop_signal, grace_ms, reason, message,
                     err);
    if (r < 0)
        return r;
    instance->stopping = true;
    stop = fl_calloc(1, sizeof(*stop));
    *stop = (struct stop_watch){instance, instance->record.number,
                                (grace_ms < GRACE_MAX_MS ? grace_ms : GRACE_MAX_MS) +
                                    instance->local->hung_ms};
    fl_loop_post(instance->local->loop, watch_stop, stop);
    return 0;
}
