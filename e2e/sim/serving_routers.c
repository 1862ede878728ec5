/* Routers in the simulation: each lives with a run of its Workload, has the real rules of choosing
 * and counting, and keeps its table on a disk that may be lost. Requests are under way at servers
 * for a while. The driver is as slow as a real one: what is handed over comes into force later, and
 * what is told is what was heard last. */
#include "e2e/sim/serving.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUESTS_MAX 12
#define RUNS_MAX     64
#define CALM_MS      1000

/* --- runs ----------------------------------------------------------------------------------- */

struct seen_run {
    char uid[48];
    int64_t number, http, admin;
    enum fl_run_state state;
    bool ready;
};

struct crowd {
    struct seen_run items[RUNS_MAX];
    size_t count;
};

static void note_run(void *user, const struct fl_fake_item *item)
{
    struct crowd *crowd = user;
    struct seen_run *run = &crowd->items[crowd->count];

    if (item->state == FL_RUN_ENDED || crowd->count == RUNS_MAX)
        return;
    *run = (struct seen_run){.number = item->number, .state = item->state, .ready = item->ready};
    (void)snprintf(run->uid, sizeof(run->uid), "%s", item->uid);
    for (size_t i = 0; i < item->port_count; i++) {
        if (fl_streq(item->ports[i].name, "http"))
            run->http = item->ports[i].host_port;
        else
            run->admin = item->ports[i].host_port;
    }
    crowd->count++;
}

static int64_t port_of_url(const char *url)
{
    const char *colon = strrchr(url, ':');

    return colon ? strtoll(colon + 1, NULL, 10) : 0;
}

static const struct seen_run *run_at(const struct crowd *crowd, const char *url)
{
    for (size_t i = 0; i < crowd->count; i++)
        if (crowd->items[i].http == port_of_url(url) && crowd->items[i].admin == 0)
            return &crowd->items[i];
    return NULL;
}

/* --- requests ------------------------------------------------------------------------------- */

struct serving_request {
    struct fl_route_backend *backend;
    int64_t due_ms, took_us;
};

static enum fl_route_result result_of(const struct serving *serving, const struct crowd *crowd,
                                      const struct fl_route_backend *backend)
{
    const struct seen_run *run = run_at(crowd, fl_route_url(backend));
    const json_t *workload = run ? sim_object_by_uid(serving->sim, run->uid) : NULL;

    if (!run || run->state == FL_RUN_STARTING)
        return FL_ROUTE_UNREACHABLE;
    if (run->state == FL_RUN_STOPPING)
        return FL_ROUTE_BUSY;
    return serving_is_bad(serving_model_of(workload)) ? FL_ROUTE_FAILED : FL_ROUTE_ANSWERED;
}

static void begin_request(struct serving_router *router, struct fl_route_backend *backend)
{
    struct sim *sim = router->serving->sim;
    const int64_t took_ms = (int64_t)sim_below(sim, sim_chance(sim, 10) ? 3000 : 50);
    int64_t due_ms = sim_now_ms(sim) + took_ms;

    if (!backend)
        return;
    if (!sim->busy) /* a few moments, for speed */
        due_ms += CALM_MS - due_ms % CALM_MS;
    router->requests[router->request_count++] =
        (struct serving_request){.backend = backend, .due_ms = due_ms, .took_us = took_ms * 1000};
}

static void begin_requests(struct serving_router *router)
{
    struct sim *sim = router->serving->sim;
    const int64_t now_ms = sim_now_ms(sim);
    struct fl_route_backend *copy = NULL;

    while (router->request_count + 1 < REQUESTS_MAX) {
        struct fl_route_backend *backend = fl_routes_choose(router->routes, now_ms, NULL, 0);

        begin_request(router, backend);
        if (fl_routes_mirrors(router->routes, now_ms, &copy, 1) == 1)
            begin_request(router, copy);
        if (!backend || sim_chance(sim, 30))
            return;
    }
}

/* True: others may want to know. */
static bool end_requests(struct serving_router *router, const struct crowd *crowd)
{
    const int64_t now_ms = sim_now_ms(router->serving->sim);
    size_t kept = 0, count = router->request_count;
    bool news = false;

    for (size_t i = 0; i < count; i++) {
        const struct serving_request request = router->requests[i];

        if (request.due_ms > now_ms)
            router->requests[kept++] = request;
        else
            news |= fl_routes_ended(router->routes, request.backend,
                                    result_of(router->serving, crowd, request.backend),
                                    request.took_us, now_ms);
    }
    router->request_count = kept;
    return news;
}

/* --- routers -------------------------------------------------------------------------------- */

static void router_dies(struct serving_router *router)
{
    fl_routes_destroy(FL_TAKE(router->routes));
    router->request_count = 0;
    router->port = 0;
}

void serving_router_free(void *value)
{
    struct serving_router *router = value;

    router_dies(router);
    json_decref(router->kept);
    free(router->requests);
    free(router);
}

static struct serving_router *router_of(struct serving *serving, const char *uid)
{
    struct serving_router *router = fl_map_get(serving->routers, uid);

    if (!router) {
        router = fl_calloc(1, sizeof(*router));
        router->serving = serving;
        router->requests = fl_calloc(REQUESTS_MAX, sizeof(*router->requests));
        fl_map_put(serving->routers, uid, router);
    }
    return router;
}

static void router_begins(struct serving_router *router, const struct seen_run *run)
{
    struct sim *sim = router->serving->sim;
    const bool loses = router->kept && sim->busy && sim_chance(sim, 50);

    router_dies(router);
    if (loses)
        json_decref(FL_TAKE(router->kept));
    sim_trace(sim, "a router begins%s", loses ? ", and has lost its table" : "");
    router->routes = fl_routes_create();
    router->number = run->number;
    router->port = run->admin;
    if (router->kept && fl_routes_apply(router->routes, router->kept, sim_now_ms(sim), NULL) < 0)
        sim_fail(sim, "table", "a router does not take its own table again");
}

static bool follow_runs(struct serving *serving, const struct crowd *crowd)
{
    void *cursor = NULL, *value;
    const char *uid;
    bool news = false;

    for (size_t i = 0; i < crowd->count; i++) {
        const struct seen_run *run = &crowd->items[i];
        struct serving_router *router;

        if (run->admin == 0 || run->state != FL_RUN_RUNNING)
            continue;
        router = router_of(serving, run->uid);
        if (router->routes && router->number == run->number)
            continue;
        router_begins(router, run);
        news = true;
    }
    while (fl_map_next(serving->routers, &cursor, &uid, &value)) {
        struct serving_router *router = value;
        bool lives = false;

        for (size_t i = 0; i < crowd->count; i++)
            lives |= crowd->items[i].admin == router->port && fl_streq(crowd->items[i].uid, uid) &&
                     crowd->items[i].state == FL_RUN_RUNNING;
        if (!lives && router->routes)
            router_dies(router);
    }
    return news;
}

static struct serving_router *router_at(const struct serving *serving, const char *address)
{
    void *cursor = NULL, *value;

    while (fl_map_next(serving->routers, &cursor, NULL, &value)) {
        struct serving_router *router = value;

        if (router->routes && router->port == port_of_url(address) && !serving->cut)
            return router;
    }
    return NULL;
}

bool serving_is_called(const struct serving *serving, int64_t port)
{
    void *cursor = NULL, *value;

    while (fl_map_next(serving->routers, &cursor, NULL, &value)) {
        const struct serving_router *router = value;
        FL_JSON status = router->routes ? fl_routes_status(router->routes, 0) : NULL;
        const json_t *backend;
        size_t i;

        json_array_foreach(json_object_get(status, "backends"), i, backend)
            if (port_of_url(fl_json_str(backend, "url")) == port)
                return true;
    }
    return false;
}

/* --- the driver ----------------------------------------------------------------------------- */

struct line {
    char *ns, *name, *address;
    json_t *wanted, *status; /* status NULL: nothing was heard */
    int64_t fresh_ms;        /* when it is asked anew; 0: it need not be */
    bool sent;
};

struct driver {
    struct fl_router_driver base;
    struct serving *serving;
    struct sim_process *process;
    fl_router_changed_fn *changed;
    void *user;
    struct fl_map *lines; /* uid → struct line */
};

static void line_free(void *value)
{
    struct line *line = value;

    json_decref(line->wanted);
    json_decref(line->status);
    free(line->ns);
    free(line->name);
    free(line->address);
    free(line);
}

static struct line *line_of(struct driver *driver, const struct fl_router_at *at)
{
    struct line *line = fl_map_get(driver->lines, at->uid);

    if (!line) {
        line = fl_calloc(1, sizeof(*line));
        line->ns = fl_strdup(at->ns);
        line->name = fl_strdup(at->name);
        fl_map_put(driver->lines, at->uid, line);
    }
    if (!fl_streq(line->address, at->address)) {
        free(line->address);
        line->address = fl_strdup(at->address);
        json_decref(FL_TAKE(line->status));
        line->sent = false;
    }
    return line;
}

/* Planted: what a mistaken reader makes of what the router says. */
static void misread(const struct sim *sim, const struct line *line, struct fl_arena *arena,
                    struct fl_router_view *view)
{
    FL_JSON said = NULL;
    size_t kept = 0;

    if (sim_planted(sim, "server-undrained")) {
        for (size_t i = 0; i < view->backend_count; i++)
            if (!view->backends[i].removed)
                view->backends[kept++] = view->backends[i];
        view->backend_count = kept;
    }
    if (!sim_planted(sim, "server-table-trusted") || !line->wanted)
        return;
    said = json_deep_copy(line->wanted);
    (void)fl_router_view_read(arena, said, view, NULL);
}

/* Whoever calls, the driver itself cannot fail: what can is the process, and what is on the way to
 * the router. */
static int answer(struct driver *driver, enum sim_fault fault, struct fl_error *err)
{
    sim_call_done(driver->process, fault);
    return sim_fault_error(fault, err);
}

static int observe(struct fl_router_driver *self, const struct fl_router_at *at,
                   int64_t fresh_in_ms, struct fl_arena *arena, struct fl_router_view *ret_view,
                   struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    enum sim_fault fault = sim_call(driver->process, SIM_CALL_DRIVER_READ, "observe router");
    int r = 0;

    *ret_view = (struct fl_router_view){.message = "it was not heard of yet"};
    if (sim_takes_place(fault)) {
        struct line *line = line_of(driver, at);

        if (fresh_in_ms >= 0 && line->fresh_ms == 0) /* the first that was asked for */
            line->fresh_ms = sim_now_ms(driver->serving->sim) + fresh_in_ms;
        if (line->status)
            r = fl_router_view_read(arena, line->status, ret_view, err);
        if (line->status && r == 0)
            misread(driver->serving->sim, line, arena, ret_view);
    }
    return r < 0 ? r : answer(driver, fault, err);
}

static int put(struct fl_router_driver *self, const struct fl_router_at *at, const json_t *table,
               struct fl_error *err)
{
    struct driver *driver = (struct driver *)self;
    enum sim_fault fault = sim_call(driver->process, SIM_CALL_DRIVER_READ, "put table");

    if (sim_takes_place(fault)) {
        struct line *line = line_of(driver, at);

        serving_check_table(driver->serving, at, router_at(driver->serving, at->address), table);
        if (!json_equal(line->wanted, table)) {
            json_decref(line->wanted);
            line->wanted = json_deep_copy(table);
            line->sent = false;
        }
    }
    return answer(driver, fault, err);
}

static void forget(struct fl_router_driver *self, const char *uid)
{
    (void)fl_map_remove(((struct driver *)self)->lines, uid);
}

static void destroy(struct fl_router_driver *self)
{
    struct driver *driver = (struct driver *)self;

    if (driver->serving->driver == self)
        driver->serving->driver = NULL;
    fl_map_destroy(driver->lines);
    free(driver);
}

static const struct fl_router_ops ops = {
    .name = "simulated", .destroy = destroy, .observe = observe, .put = put, .forget = forget};

struct fl_router_driver *serving_driver_create(struct serving *serving, struct sim_process *process,
                                               fl_router_changed_fn *changed, void *user)
{
    struct driver *driver = fl_calloc(1, sizeof(*driver));

    *driver = (struct driver){
        .base.ops = &ops, .serving = serving, .process = process, .changed = changed, .user = user};
    driver->lines = fl_map_create(line_free);
    serving->driver = &driver->base;
    return &driver->base;
}

/* On the wire. */

static bool send_table(struct serving *serving, struct line *line, struct serving_router *router)
{
    if (!line->wanted || line->sent)
        return false;
    line->sent = true;
    if (fl_routes_apply(router->routes, line->wanted, sim_now_ms(serving->sim), NULL) < 0)
        return true; /* a higher one is in force */
    json_decref(router->kept);
    router->kept = json_incref(line->wanted);
    serving->puts++;
    sim_trace(serving->sim, "table %" PRId64 " of %s comes into force",
              fl_json_int(router->kept, "version", 0), line->name);
    return true;
}

static json_t *without_counts(const json_t *status)
{
    static const char *const counts[] = {"requests", "errors", "p50Us", "p99Us", "inFlight"};
    static const char *const lists[] = {"groups", "backends"};
    json_t *copy = json_deep_copy(status), *item;
    size_t i;

    for (size_t l = 0; copy && l < FL_COUNT_OF(lists); l++)
        json_array_foreach(json_object_get(copy, lists[l]), i, item)
            for (size_t c = 0; c < FL_COUNT_OF(counts); c++)
                (void)json_object_del(item, counts[c]);
    return copy;
}

/* True: it is news. */
static bool hear(struct serving *serving, struct line *line, struct serving_router *router)
{
    FL_JSON status = router ? fl_routes_status(router->routes, sim_now_ms(serving->sim)) : NULL;
    FL_JSON before = without_counts(line->status);
    FL_JSON now = without_counts(status);
    const bool fresh = line->fresh_ms > 0 && sim_now_ms(serving->sim) >= line->fresh_ms;
    const bool news =
        (router && fresh) || (!now != !before) || (now && before && !json_equal(now, before));

    if (!news && router)
        return false; /* a real one would answer later */
    if (router && fresh)
        line->fresh_ms = 0;
    json_decref(line->status);
    line->status = json_incref(status);
    return news;
}

static bool attend(struct driver *driver, struct line *line, bool calm)
{
    struct serving *serving = driver->serving;
    struct serving_router *router = router_at(serving, line->address);
    bool sent = false, news;

    if (!calm && sim_chance(serving->sim, 30))
        return false;
    if (router)
        sent = send_table(serving, line, router);
    if (!calm && sent && sim_chance(serving->sim, 50))
        return true; /* heard of later */
    news = hear(serving, line, router);
    if (news)
        driver->changed(driver->user, line->ns, line->name);
    return news || sent;
}

/* In the end only those who are judged by requests need any. */
static bool is_on_trial(const struct serving_router *router)
{
    const json_t *group;
    size_t i;

    json_array_foreach(json_object_get(fl_routes_table(router->routes), "groups"), i, group)
        if (fl_json_bool(group, "trial", false))
            return true;
    return false;
}

bool serving_routers_step(struct serving *serving, bool calm)
{
    struct driver *driver = (struct driver *)serving->driver;
    struct crowd crowd = {.count = 0};
    void *cursor = NULL, *value;
    bool news;

    fl_fake_world_each(serving->world, note_run, &crowd);
    news = follow_runs(serving, &crowd);
    while (fl_map_next(serving->routers, &cursor, NULL, &value)) {
        struct serving_router *router = value;

        if (!router->routes)
            continue;
        news |= end_requests(router, &crowd);
        if (!calm || is_on_trial(router))
            begin_requests(router);
    }
    cursor = NULL;
    while (driver && !driver->process->dead && fl_map_next(driver->lines, &cursor, NULL, &value))
        news |= attend(driver, value, calm);
    return news;
}

int64_t serving_routers_due_ms(const struct serving *serving)
{
    int64_t due_ms = INT64_MAX;
    void *cursor = NULL, *value;

    while (fl_map_next(serving->routers, &cursor, NULL, &value)) {
        const struct serving_router *router = value;

        for (size_t i = 0; i < router->request_count; i++)
            if (router->requests[i].due_ms < due_ms)
                due_ms = router->requests[i].due_ms;
    }
    return due_ms;
}
