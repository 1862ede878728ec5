/* The driver's thread: lists, what follows from them, and the calls that are due, one at a time. */
#include "lib/str.h"
#include "reconcilers/workload/oakestra/internal.h"

#include <inttypes.h>

#define CLUSTERS_MS  INT64_C(15000)  /* clusters report every 15 s */
#define APPS_MS      INT64_C(600000) /* although we know which we made */
#define AGAIN_MAX_MS INT64_C(10000)  /* between tries while the root is out of reach */
#define ACTS_MAX     64              /* between two lists */
#define STRAYS_MS    INT64_C(2000)   /* before what had no effect is tried again */

/* One thing to do, with copies of what it needs. */
struct task {
    char *key; /* of the run; NULL: a stray service */
    int64_t number;
    struct oak_act act;
    const char *service_id, *uid; /* the pass's arena */
};

struct worker {
    struct fl_oakestra *oak;
    struct oak_root *root;
    struct fl_arena *arena; /* of a pass */
    int64_t turn;
    int64_t clusters_ms, apps_ms, strays_ms; /* monotonic, when they are due; 0: now */
    int64_t delay_ms;                        /* until the next list, while something is unsettled */
    bool acted, unsettled, has_strays, was_silent;
    int64_t again_us;
    struct oak_apps apps; /* in apps_arena */
    struct fl_arena *apps_arena;
    bool apps_known;
    struct task *tasks; /* of a pass */
    size_t task_count;
    struct fl_map *news; /* "ns/name" → itself: who is told after the pass */
    int64_t failures;    /* passes in a row */
};

/* Telling */

static void note_news(struct worker *w, const struct oak_record *record)
{
    static char present[] = "";

    fl_map_put(w->news, fl_arena_printf(w->arena, "%s/%s", record->ns, record->name), present);
}

static void spread_news(struct worker *w)
{
    void *cursor = NULL;
    const char *key;

    while (fl_map_next(w->news, &cursor, &key, NULL)) {
        const char *slash = strchr(key, '/');

        oak_tell(w->oak, fl_arena_strndup(w->arena, key, (size_t)(slash - key)), slash + 1);
    }
    fl_map_destroy(w->news);
    w->news = fl_map_create(NULL);
}

static void save(struct worker *w, struct oak_run *run)
{
    struct fl_error err = {0};

    if (oak_run_write(run, &err) < 0)
        fl_log_warn(w->oak->env->log, "a record cannot be written", FL_STR("error", err.msg));
}

/* Lists */

static int list_clusters(struct worker *w, bool *ret_changed, struct fl_error *err)
{
    struct oak_clusters list = {NULL, 0};
    int64_t now_ms = fl_monotonic_ms(w->oak->env), period_ms = 3 * w->oak->config->poll_ms;
    int r;

    *ret_changed = false;
    if (period_ms > CLUSTERS_MS)
        period_ms = CLUSTERS_MS;
    if (now_ms < w->clusters_ms)
        return 0;
    r = oak_root_clusters(w->root, w->arena, &list, err);
    if (r < 0)
        return r;
    w->clusters_ms = now_ms + period_ms;
    {
        FL_LOCKED(w->oak->lock);
        *ret_changed = oak_see_clusters(w->oak, &list);
    }
    return 0;
}

static int list_apps(struct worker *w, struct fl_error *err)
{
    struct fl_arena *arena = fl_arena_create();
    struct oak_apps apps = {NULL, 0};
    int r = oak_root_apps(w->root, w->oak->prefix, arena, &apps, err);

    if (r < 0) {
        fl_arena_destroy(arena);
        return r;
    }
    fl_arena_destroy(w->apps_arena);
    w->apps_arena = arena;
    w->apps = apps;
    w->apps_known = true;
    w->apps_ms = fl_monotonic_ms(w->oak->env) + APPS_MS;
    return 0;
}

static const struct oak_app *find_app(const struct worker *w, const char *name)
{
    for (size_t i = 0; i < w->apps.count; i++)
        if (fl_streq(w->apps.items[i].name, name))
            return &w->apps.items[i];
    return NULL;
}

/* What is due after a list */

static void add_task(struct worker *w, const struct oak_run *run, const char *service_id,
                     const struct oak_act *act)
{
    if (w->task_count == ACTS_MAX) {
        w->unsettled = true;
        return;
    }
    w->tasks[w->task_count++] = (struct task){
        .key = run ? fl_arena_strdup(w->arena, run->key) : NULL,
        .number = run ? run->record.number : 0,
        .act = *act,
        .service_id = fl_arena_copy(w->arena, service_id),
        .uid = run ? fl_arena_strdup(w->arena, run->uid) : NULL,
    };
}

static void look_again(struct worker *w, int64_t at_us)
{
    if (at_us > 0 && (w->again_us == 0 || at_us < w->again_us))
        w->again_us = at_us;
}

static void keep_logs(struct oak_run *run, const struct oak_service *service)
{
    for (size_t i = 0; service && i < service->instance_count; i++)
        if (service->instances[i].number == run->record.instance && service->instances[i].logs[0] &&
            !fl_streq(run->logs, service->instances[i].logs)) {
            free(run->logs);
            run->logs = fl_strdup(service->instances[i].logs);
        }
}

/* Who is told what: a record changes oftener than anybody could see. */
static void judge_run(struct worker *w, struct oak_run *run, struct oak_sight *sight)
{
    const struct oak_config *config = w->oak->config;
    struct oak_act act = {.type = OAK_NOTHING};

    sight->has_sla = run->service != NULL;
    oak_judge(&run->record, run->arena, sight, &config->settings, &act);
    keep_logs(run, sight->service);
    if (run->record.service_id || run->record.gone) {
        json_decref(run->service); /* with its secrets */
        run->service = NULL;
    }
    if (act.changed) {
        save(w, run);
        note_news(w, &run->record);
    }
    look_again(w, act.again_us);
    w->unsettled = w->unsettled || !oak_is_settled(&run->record);
    if (act.type != OAK_NOTHING)
        add_task(w, run, run->record.service_id, &act);
}

static const char *env_of(const struct oak_service *service, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < service->environment_count; i++)
        if (strncmp(service->environment[i], name, len) == 0 && service->environment[i][len] == '=')
            return service->environment[i] + len + 1;
    return NULL;
}

/* Whose a service is: by its mark, which must lead to its names. */
static bool is_marked(const struct worker *w, const struct oak_service *service,
                      struct oak_mark *ret_mark)
{
    char app[OAK_NAME_SIZE], name[OAK_NAME_SIZE];
    const char *text = env_of(service, OAK_MARK);

    if (!text || !oak_mark_read(w->arena, text, ret_mark))
        return false;
    oak_app_name(w->oak->prefix, ret_mark->uid, app);
    oak_service_name(ret_mark->index, ret_mark->number, name);
    return fl_streq(app, service->app) && fl_streq(name, service->name);
}

static const char *place_of(const struct worker *w, const struct oak_service *service)
{
    return service->cluster ? oak_safe_name(w->arena, service->cluster) : NULL;
}

/* What nobody remembers: its record was lost with the disk, or its Workload with its finalizer. It
 * becomes a run like any other, and is stopped by who looks for orphans, or goes on. One that
 * has ports is replaced: how they are reached is not known any more. */
static struct oak_run *adopt(struct worker *w, const struct oak_service *service,
                             const struct oak_mark *mark)
{
    bool has_ports = false;
    struct oak_record record = {
        .uid = mark->uid,
        .index = mark->index,
        .number = mark->number,
        .restarts = mark->restarts,
        .failures = mark->failures,
        .first_us = mark->first_us,
        .requested_us = fl_realtime_us(w->oak->env),
        .ns = fl_str_or(env_of(service, "FLOPS_NAMESPACE"), ""),
        .name = fl_str_or(env_of(service, "FLOPS_WORKLOAD"), ""),
        .cluster = place_of(w, service),
        .node = place_of(w, service),
        .service_id = service->id,
        .rr_ip = service->rr_ip,
        .instance = -1,
        .creates = 1,
        .deploys = service->instance_count > 0,
    };
    struct oak_run *run;

    for (size_t i = 0; i < service->environment_count; i++)
        has_ports = has_ports || fl_str_has_prefix(service->environment[i], "PORT_");
    record.spec_hash = has_ports ? "" : mark->spec_hash;
    run = oak_run_put(w->oak, &record);
    fl_log_warn(w->oak->env->log, "a service at the root is adopted", FL_STR("uid", mark->uid),
                FL_INT("index", mark->index), FL_INT("run", mark->number));
    save(w, run);
    note_news(w, &run->record);
    return run;
}

/* A service of ours that no record speaks of any more: of an earlier run, or one that came to be
 * after it had been given up. */
static void remove_stray(struct worker *w, const struct oak_service *service)
{
    struct oak_act act = {.type = service->instance_count > 0 ? OAK_UNDEPLOY : OAK_DELETE};

    if (service->instance_count > 0)
        act.instance = service->instances[0].number;
    w->unsettled = w->has_strays = true;
    if (fl_monotonic_ms(w->oak->env) >= w->strays_ms)
        add_task(w, NULL, service->id, &act);
}

/* By "UID/INDEX/NUMBER". */
static const char *full_key(struct fl_arena *arena, const char *uid, int64_t index, int64_t number)
{
    return fl_arena_printf(arena, "%s/%" PRId64 "/%" PRId64, uid, index, number);
}

/* Of two services of one name the one that is known already stays, or else the first. */
static void put_service(struct worker *w, struct fl_map *map, const struct oak_run *run,
                        struct oak_service *service)
{
    const struct oak_record *record = &run->record;
    const char *key = full_key(w->arena, run->uid, record->index, record->number);
    struct oak_service *other = fl_map_get(map, key);

    if (other && !fl_streq(record->service_id, service->id)) {
        remove_stray(w, service);
        return;
    }
    if (other)
        remove_stray(w, other);
    fl_map_put(map, key, service);
}

static struct fl_map *sort_services(struct worker *w, const struct oak_services *services)
{
    struct fl_map *map = fl_map_create(NULL);

    w->has_strays = false;

    for (size_t i = 0; i < services->count; i++) {
        struct oak_service *service = &services->items[i];
        struct oak_mark mark;
        struct oak_run *run;

        if (!is_marked(w, service, &mark))
            continue;
        run = oak_run_find(w->oak, mark.uid, mark.index);
        if (!run)
            run = adopt(w, service, &mark);
        if (run->record.number != mark.number || run->record.gone)
            remove_stray(w, service);
        else
            put_service(w, map, run, service);
    }
    if (w->has_strays && fl_monotonic_ms(w->oak->env) >= w->strays_ms)
        w->strays_ms = fl_monotonic_ms(w->oak->env) + STRAYS_MS;
    return map;
}

static void judge_all(struct worker *w, const struct oak_services *services, int64_t asked_us)
{
    struct fl_oakestra *oak = w->oak;
    FL_LOCKED(oak->lock);
    FL_CLEANUP(fl_map_destroyp) struct fl_map *map = sort_services(w, services);
    struct oak_sight sight = {
        .now_us = fl_realtime_us(oak->env),
        .asked_us = asked_us,
        .turn = w->turn,
        .silent_us = oak->silent_us,
    };
    void *cursor = NULL, *value;

    while (fl_map_next(oak->runs, &cursor, NULL, &value)) {
        struct oak_run *run = value;
        const struct oak_record *record = &run->record;

        sight.service =
            fl_map_get(map, full_key(w->arena, run->uid, record->index, record->number));
        judge_run(w, run, &sight);
    }
}

/* Applications of which there is no run and no service any more. */

static bool is_needed(const struct worker *w, const struct oak_app *app,
                      const struct oak_services *services)
{
    void *cursor = NULL, *value;

    for (size_t i = 0; i < services->count; i++)
        if (fl_streq(services->items[i].app, app->name))
            return true;
    while (fl_map_next(w->oak->runs, &cursor, NULL, &value)) {
        char name[OAK_NAME_SIZE];

        oak_app_name(w->oak->prefix, ((struct oak_run *)value)->uid, name);
        if (strcmp(name, app->name) == 0)
            return true;
    }
    return false;
}

static int remove_apps(struct worker *w, const struct oak_services *services, struct fl_error *err)
{
    bool removed = false;

    for (size_t i = 0; i < w->apps.count; i++) {
        const struct oak_app *app = &w->apps.items[i];
        int r;

        fl_lock_take(w->oak->lock);
        r = is_needed(w, app, services);
        fl_lock_release(w->oak->lock);
        if (r || !oak_app_uid(w->arena, w->oak->prefix, app->name, app->desc))
            continue;
        r = oak_root_delete_app(w->root, app->id, err);
        if (r == FL_E_UNAVAILABLE || r == FL_E_TIMEOUT || r == FL_E_UNAUTHORIZED)
            return r;
        removed = true;
    }
    return removed ? list_apps(w, err) : 0;
}

/* Calls */

static int ensure_app(struct worker *w, const char *uid, const struct oak_app **ret_app,
                      struct fl_error *err)
{
    const struct oak_config *config = w->oak->config;
    char name[OAK_NAME_SIZE];
    struct oak_sla_frame frame = {
        .customer = oak_root_user(w->root), .app = name, .ns = config->ns};
    FL_JSON sla = NULL;
    int r;

    oak_app_name(w->oak->prefix, uid, name);
    *ret_app = find_app(w, name);
    if (*ret_app)
        return 0;
    frame.desc = oak_app_desc(w->arena, uid);
    sla = oak_sla_wrap(&frame, NULL);
    r = oak_sla_check(sla, err);
    if (r == 0)
        r = oak_root_create_app(w->root, sla, err);
    if (r < 0 && r != FL_E_ALREADY_EXISTS)
        return fl_error_wrap(err, "application");
    r = list_apps(w, err); /* created is what is there */
    if (r < 0)
        return r;
    *ret_app = find_app(w, name);
    return *ret_app ? 0
                    : fl_error_set(err, FL_E_UNAVAILABLE,
                                   "application %s does not appear at the root", name);
}

static int create(struct worker *w, const struct task *task, json_t *service, bool has_ports,
                  const char **ret_ip, struct fl_error *err)
{
    const struct oak_config *config = w->oak->config;
    const struct oak_app *app = NULL;
    struct oak_sla_frame frame = {.customer = oak_root_user(w->root), .ns = config->ns};
    FL_JSON sla = NULL;
    const char *id = NULL;
    int r = ensure_app(w, task->uid, &app, err);

    *ret_ip = NULL;
    if (r == 0 && has_ports)
        r = oak_root_free_ip(w->root, w->arena, ret_ip, err);
    if (r < 0)
        return r;
    if (*ret_ip)
        oak_sla_put_address(service, *ret_ip);
    frame.app_id = app->id;
    frame.app = app->name;
    frame.desc = app->desc;
    sla = oak_sla_wrap(&frame, json_pack("[O]", service));
    r = oak_sla_check(sla, err);
    if (r == 0)
        r = oak_root_create_service(w->root, sla, fl_json_str(service, "microservice_name"),
                                    w->arena, &id, err);
    if (r == FL_E_NOT_FOUND)
        w->apps_ms = 0; /* the application has gone */
    return r;
}

static int call(struct worker *w, const struct task *task, json_t *service, bool has_ports,
                const char **ret_ip, struct fl_error *err)
{
    switch (task->act.type) {
    case OAK_CREATE:
        return create(w, task, service, has_ports, ret_ip, err);
    case OAK_DEPLOY:
        return oak_root_deploy(w->root, task->service_id, err);
    case OAK_UNDEPLOY:
        return oak_root_undeploy(w->root, task->service_id, task->act.instance, err);
    case OAK_DELETE:
        return oak_root_delete_service(w->root, task->service_id, err);
    case OAK_NOTHING:
        break;
    }
    return 0;
}

/* The run, if it is still the same. With the lock. */
static struct oak_run *run_of(struct worker *w, const struct task *task)
{
    struct oak_run *run = task->key ? fl_map_get(w->oak->runs, task->key) : NULL;

    return run && run->record.number == task->number && !run->record.gone ? run : NULL;
}

/* Written down before it is sent. False: not to be done any more. */
static bool begin_task(struct worker *w, const struct task *task, json_t **ret_service,
                       bool *ret_has_ports)
{
    FL_LOCKED(w->oak->lock);
    struct oak_run *run = run_of(w, task);
    bool ending;

    if (!run)
        return !task->key;
    ending = run->record.exit.reason != NULL;
    if (ending && (task->act.type == OAK_CREATE || task->act.type == OAK_DEPLOY))
        return false;
    oak_acting(&run->record, &task->act, fl_realtime_us(w->oak->env));
    *ret_service = json_deep_copy(run->service);
    *ret_has_ports = run->record.port_count > 0;
    save(w, run);
    return true;
}

static void end_task(struct worker *w, const struct task *task, const char *ip,
                     const struct fl_error *err)
{
    FL_LOCKED(w->oak->lock);
    struct oak_run *run = run_of(w, task);

    w->turn++;
    if (err->code < 0)
        fl_log_warn(w->oak->env->log, "a call to the root failed", FL_STR("error", err->msg));
    if (!run)
        return;
    oak_acted(&run->record, run->arena, err->code < 0 ? err->msg : NULL,
              fl_realtime_us(w->oak->env), w->turn);
    if (ip)
        run->record.rr_ip = fl_arena_strdup(run->arena, ip);
    save(w, run);
    note_news(w, &run->record);
}

static bool is_stopping(struct worker *w)
{
    FL_LOCKED(w->oak->lock);
    return w->oak->stopping;
}

/* A root that cannot be asked is not asked for the rest. */
static int do_tasks(struct worker *w, struct fl_error *err)
{
    for (size_t i = 0; i < w->task_count && !is_stopping(w); i++) {
        const struct task *task = &w->tasks[i];
        FL_JSON service = NULL;
        const char *ip = NULL;
        bool has_ports = false;
        struct fl_error problem = {0};

        if (!begin_task(w, task, &service, &has_ports))
            continue;
        if (call(w, task, service, has_ports, &ip, &problem) == 0)
            problem.code = 0;
        end_task(w, task, ip, &problem);
        w->acted = true;
        if (problem.code == FL_E_TIMEOUT || problem.code == FL_E_UNAUTHORIZED) {
            *err = problem;
            return problem.code;
        }
    }
    return 0;
}

/* A pass */

static int follow(struct worker *w, struct fl_error *err)
{
    struct oak_services services = {NULL, 0};
    int64_t asked_us = fl_realtime_us(w->oak->env);
    int r = 0;

    if (!w->apps_known || fl_monotonic_ms(w->oak->env) >= w->apps_ms)
        r = list_apps(w, err);
    w->turn++;
    if (r == 0)
        r = oak_root_services(w->root, w->oak->prefix, &w->apps, w->arena, &services, err);
    if (r < 0)
        return r;
    if (w->was_silent) {
        FL_LOCKED(w->oak->lock);
        w->oak->silent_us = fl_realtime_us(w->oak->env);
        w->was_silent = false;
    }
    w->tasks = fl_new_array(w->arena, struct task, ACTS_MAX);
    judge_all(w, &services, asked_us);
    r = do_tasks(w, err);
    return r < 0 || is_stopping(w) ? r : remove_apps(w, &services, err);
}

static int ask_password(void *user, struct fl_arena *arena, struct oak_credentials *ret,
                        struct fl_error *err)
{
    struct worker *w = user;
    struct fl_oakestra_credentials from = {NULL, NULL, NULL};
    int r = w->oak->credentials(w->oak->credentials_user, w->oak->config->spec, arena, &from, err);

    *ret = (struct oak_credentials){from.username, from.password, from.organization};
    return r;
}

static int ensure_root(struct worker *w, struct fl_error *err)
{
    const struct oak_config *config = w->oak->config;
    const struct oak_root_options options = {
        .env = w->oak->env,
        .endpoint = config->endpoint,
        .network_endpoint = config->network_endpoint,
        .insecure = config->spec->insecure_skip_verify,
        .timeout_ms = config->timeout_ms,
        .credentials = ask_password,
        .user = w,
    };

    return w->root ? 0 : oak_root_create(&options, &w->root, err);
}

/* New settings: a new login, and everything is looked at anew. */
static bool take_config(struct worker *w)
{
    struct fl_oakestra *oak = w->oak;
    FL_LOCKED(oak->lock);

    if (!oak->next)
        return oak->config != NULL;
    oak_config_free(oak->config);
    oak->config = FL_TAKE(oak->next);
    oak_root_destroy(FL_TAKE(w->root));
    w->apps_known = false;
    w->clusters_ms = 0;
    return true;
}

static void report(struct worker *w, int r, const struct fl_error *err, bool news)
{
    struct fl_oakestra *oak = w->oak;
    bool was_well;

    fl_lock_take(oak->lock);
    was_well = oak->problem.code == 0 && oak->seen_us > 0;
    oak->problem = *err;
    if (r == 0) {
        oak->problem.code = 0;
        oak->seen_us = fl_realtime_us(oak->env);
        oak->seen_ms = fl_monotonic_ms(oak->env);
    }
    if (w->root) {
        struct oak_root_counts counts = oak_root_counts(w->root);

        oak->counts = (struct fl_oakestra_counts){counts.logins, counts.lists, counts.clusters,
                                                  counts.changes, counts.failures};
    }
    fl_lock_release(oak->lock);
    if (r < 0 && was_well)
        fl_log_warn(oak->env->log, "the root is out of reach", FL_STR("orchestrator", oak->name),
                    FL_STR("error", err->msg));
    if (was_well != (r == 0) || news)
        oak_tell(oak, NULL, NULL);
}

static void do_pass(struct worker *w)
{
    struct fl_error err = {0};
    bool news = false;
    int r;

    fl_arena_reset(w->arena);
    w->task_count = 0;
    w->acted = w->unsettled = false;
    w->again_us = 0;
    r = ensure_root(w, &err);
    if (r == 0)
        r = list_clusters(w, &news, &err);
    if (r == 0)
        r = follow(w, &err);
    w->failures = r < 0 ? w->failures + 1 : 0;
    w->was_silent = w->was_silent || r < 0;
    report(w, r, &err, news);
    spread_news(w);
}

/* When to look again. What is under way is looked for soon, and then ever seldomer. */
static int64_t pause_ms(struct worker *w)
{
    struct fl_oakestra *oak = w->oak;
    int64_t poll_ms = oak->config->poll_ms, ms = poll_ms, until_ms;

    for (int64_t i = 1; i < w->failures && ms < AGAIN_MAX_MS; i++)
        ms *= 2;
    if (w->failures > 0)
        return ms < AGAIN_MAX_MS ? ms : AGAIN_MAX_MS;
    if (w->acted)
        w->delay_ms = oak->follow_ms;
    else if (w->unsettled)
        w->delay_ms *= 2;
    else
        w->delay_ms = poll_ms;
    if (w->delay_ms < oak->follow_ms)
        w->delay_ms = oak->follow_ms;
    if (w->delay_ms > poll_ms)
        w->delay_ms = poll_ms;
    ms = w->delay_ms;
    until_ms = w->again_us > 0 ? (w->again_us - fl_realtime_us(oak->env)) / 1000 + 1 : ms;
    if (until_ms < oak->follow_ms)
        until_ms = oak->follow_ms;
    return until_ms < ms ? until_ms : ms;
}

/* Until it is time, or somebody wants something. While the root is out of reach nobody hurries. */
static bool rest(struct worker *w, int64_t ms)
{
    struct fl_oakestra *oak = w->oak;
    int64_t until_ms = fl_machine_monotonic_us() / 1000 + ms, left_ms = ms;
    FL_LOCKED(oak->lock);

    while (!oak->stopping && left_ms > 0 && !oak->next && !(oak->poked && w->failures == 0)) {
        (void)fl_signal_wait(oak->wake, oak->lock, left_ms);
        left_ms = until_ms - fl_machine_monotonic_us() / 1000;
    }
    oak->poked = false;
    return !oak->stopping;
}

void oak_work(void *user)
{
    struct worker w = {
        .oak = user,
        .arena = fl_arena_create(),
        .news = fl_map_create(NULL),
        .was_silent = true,
    };
    bool going = true;

    while (going) {
        if (take_config(&w)) {
            do_pass(&w);
            going = rest(&w, pause_ms(&w));
        } else {
            going = rest(&w, AGAIN_MAX_MS);
        }
    }
    oak_root_destroy(w.root);
    fl_map_destroy(w.news);
    fl_arena_destroy(w.apps_arena);
    fl_arena_destroy(w.arena);
}
