/* The manager: what its parts share, and their threads. */
#include "controller/runtime/internal.h"

#include <assert.h>
#include <stdio.h>

#define PUMP_LIMIT     1024
#define LAST_EVENTS_MS 2000

static const struct fl_metric_about leader_status = {
    "leader_election_master_status",
    "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 "
    "indicates master",
    FL_METRIC_GAUGE, NULL, 0};

/* Wake-ups come from any thread, also from within a write of our own. */

static void ring(struct fl_manager *manager, struct bell *bell)
{
    FL_LOCKED(manager->lock);

    bell->rung = true;
    fl_signal_one(bell->signal);
}

static void wake_pump(void *user)
{
    struct fl_manager *manager = user;

    ring(manager, &manager->pump_bell);
}

static void wake_office(void *user)
{
    struct fl_manager *manager = user;

    ring(manager, &manager->office_bell);
}

static void tell_all(struct fl_manager *manager)
{
    FL_LOCKED(manager->lock);

    fl_signal_all(manager->changed);
}

/* Making one. */

static int make_lease(struct fl_manager *manager, struct fl_error *err)
{
    const struct fl_manager_options *options = &manager->options;

    if (!options->identity)
        return 0;
    return fl_lease_create(&(struct fl_lease_options){.env = options->env,
                                                      .client = options->client,
                                                      .ns = options->lease_namespace,
                                                      .name = options->lease_name,
                                                      .identity = options->identity,
                                                      .lease_ms = options->lease_ms,
                                                      .renew_ms = options->renew_ms,
                                                      .retry_ms = options->retry_ms},
                           &manager->lease, err);
}

/* Of an fl_apiclient_left_fn. */
static int64_t left_ms(void *user)
{
    return fl_lease_left_ms(user);
}

int fl_manager_create(const struct fl_manager_options *options, struct fl_manager **ret_manager,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_manager_destroyp) struct fl_manager *manager = fl_calloc(1, sizeof(*manager));
    int r;

    manager->options = *options;
    manager->env = options->env;
    manager->lock = fl_lock_create();
    manager->changed = fl_signal_create();
    manager->pump_bell.signal = fl_signal_create();
    manager->office_bell.signal = fl_signal_create();
    manager->events = fl_events_create(&(struct fl_events_options){.env = options->env,
                                                                   .client = options->client,
                                                                   .metrics = options->metrics,
                                                                   .wake = wake_office,
                                                                   .wake_user = manager});
    r = make_lease(manager, err);
    if (r < 0)
        return fl_error_wrap(err, "manager");
    manager->client = manager->lease ? fl_apiclient_fenced(options->client, left_ms, manager->lease)
                                     : options->client;
    *ret_manager = FL_TAKE(manager);
    return 0;
}

void fl_manager_destroy(struct fl_manager *manager)
{
    if (!manager)
        return;
    assert(!manager->pump && !manager->office);
    for (size_t i = 0; i < manager->cache_count; i++)
        fl_cache_destroy(manager->caches[i].cache);
    for (size_t i = 0; i < manager->controller_count; i++)
        fl_controller_destroy(manager->controllers[i]);
    fl_events_destroy(manager->events);
    if (manager->client != manager->options.client)
        fl_apiclient_destroy(manager->client);
    fl_lease_destroy(manager->lease);
    fl_signal_destroy(manager->changed);
    fl_signal_destroy(manager->pump_bell.signal);
    fl_signal_destroy(manager->office_bell.signal);
    fl_lock_destroy(manager->lock);
    free(manager);
}

/* Caches. */

static struct fl_cache *find_cache(const struct fl_manager *manager, const struct fl_gvr *gvr)
{
    for (size_t i = 0; i < manager->cache_count; i++)
        if (fl_streq(manager->caches[i].gvr.group, gvr->group) &&
            fl_streq(manager->caches[i].gvr.plural, gvr->plural))
            return manager->caches[i].cache;
    return NULL;
}

static struct fl_cache *add_cache(struct fl_manager *manager, const struct fl_gvr *gvr,
                                  const struct fl_cache_index *indexes, size_t index_count)
{
    struct fl_cache *cache;

    assert(!manager->prepared && manager->cache_count < FL_CACHES_MAX);

    cache = fl_cache_create(&(struct fl_cache_options){.env = manager->env,
                                                       .client = manager->options.client,
                                                       .gvr = *gvr,
                                                       .resync_ms = manager->options.resync_ms,
                                                       .indexes = indexes,
                                                       .index_count = index_count,
                                                       .wake = wake_pump,
                                                       .wake_user = manager,
                                                       .metrics = manager->options.metrics});
    manager->caches[manager->cache_count].gvr = *gvr;
    manager->caches[manager->cache_count++].cache = cache;
    return cache;
}

struct fl_cache *fl_manager_cache(struct fl_manager *manager, const struct fl_gvr *gvr)
{
    struct fl_cache *cache = find_cache(manager, gvr);

    return cache ? cache : add_cache(manager, gvr, NULL, 0);
}

/* Controllers. */

static int own_cache(struct fl_manager *manager, const struct fl_kind_ops *ops,
                     struct fl_cache **ret_cache, struct fl_error *err)
{
    struct fl_gvr gvr = fl_gvr_of(ops->type);
    struct fl_cache *cache = find_cache(manager, &gvr);

    if (cache && ops->index_count > 0)
        return fl_error_set(err, FL_E_INVALID,
                            "controller %s: its cache was asked for before it was added, and so "
                            "lacks its indexes",
                            ops->controller);
    *ret_cache = cache ? cache : add_cache(manager, &gvr, ops->indexes, ops->index_count);
    return 0;
}

int fl_manager_add(struct fl_manager *manager, const struct fl_kind_ops *ops, void *user,
                   struct fl_error *err)
{
    struct fl_controller *controller = NULL;
    int r;

    assert(!manager->prepared);

    if (manager->controller_count == FL_CONTROLLERS_MAX)
        return fl_error_set(err, FL_E_INVALID, "more than %d controllers", FL_CONTROLLERS_MAX);
    r = fl_controller_create(manager, ops, user, &controller, err);
    if (r < 0)
        return r;
    r = own_cache(manager, ops, &controller->cache, err);
    if (r < 0) {
        fl_controller_destroy(controller);
        return r;
    }
    manager->controllers[manager->controller_count++] = controller;
    return 0;
}

/* Only now, so that the order in which kinds are added says nothing about indexes. */
static void prepare(struct fl_manager *manager)
{
    if (manager->prepared)
        return;
    for (size_t i = 0; i < manager->controller_count; i++)
        fl_controller_connect(manager->controllers[i]);
    manager->prepared = true;
}

void fl_manager_enqueue(struct fl_manager *manager, const char *controller, const char *ns,
                        const char *name)
{
    for (size_t i = 0; i < manager->controller_count; i++)
        if (fl_streq(manager->controllers[i]->ops->controller, controller))
            fl_controller_enqueue(manager->controllers[i], ns, name);
}

size_t fl_manager_controller_count(const struct fl_manager *manager)
{
    return manager->controller_count;
}

struct fl_controller *fl_manager_controller(struct fl_manager *manager, size_t i)
{
    return i < manager->controller_count ? manager->controllers[i] : NULL;
}

/* Whether there may be work. */

bool fl_manager_is_leader(struct fl_manager *manager)
{
    return !manager->lease || (atomic_load(&manager->leads) && fl_lease_holds(manager->lease));
}

bool fl_manager_synced(struct fl_manager *manager)
{
    return atomic_load(&manager->synced);
}

bool fl_manager_may_work(struct fl_manager *manager)
{
    return fl_manager_synced(manager) && fl_manager_is_leader(manager);
}

bool fl_manager_wait_for_work(struct fl_manager *manager)
{
    FL_LOCKED(manager->lock);

    while (!manager->stopping && !fl_manager_may_work(manager))
        (void)fl_signal_wait(manager->changed, manager->lock, -1);
    return !manager->stopping;
}

/* Steps. */

static void look_for_sync(struct fl_manager *manager)
{
    FL_LOCKED(manager->lock);

    if (fl_manager_synced(manager))
        return;
    for (size_t i = 0; i < manager->cache_count; i++)
        if (!fl_cache_synced(manager->caches[i].cache))
            return;
    atomic_store(&manager->synced, true);
    fl_signal_all(manager->changed);
}

/* What the leader before wrote may not have come yet. */
static void refresh_caches(struct fl_manager *manager)
{
    {
        FL_LOCKED(manager->lock);
        for (size_t i = 0; i < manager->cache_count; i++)
            fl_cache_refresh(manager->caches[i].cache);
        atomic_store(&manager->synced, false);
    }
    wake_pump(manager);
}

static size_t pump_some(struct fl_manager *manager, size_t limit)
{
    size_t changes = 0;

    for (size_t i = 0; i < manager->cache_count; i++)
        changes += fl_cache_pump(manager->caches[i].cache, limit);
    look_for_sync(manager);
    return changes;
}

size_t fl_manager_pump(struct fl_manager *manager)
{
    prepare(manager);
    return pump_some(manager, 0);
}

static void measure_leadership(struct fl_manager *manager, bool leads)
{
    char labels[320];

    (void)snprintf(labels, sizeof(labels), "name=\"%s\"", manager->options.lease_name);
    fl_metric_set(manager->options.metrics, &leader_status, labels, leads);
}

static void tell_leadership(struct fl_manager *manager, bool leads)
{
    if (leads)
        refresh_caches(manager);
    atomic_store(&manager->leads, leads);
    measure_leadership(manager, leads);
    fl_log_info(manager->env->log, leads ? "leading" : "leadership lost",
                FL_STR("lease", manager->options.lease_name),
                FL_STR("identity", manager->options.identity));
    tell_all(manager);
    if (!leads && manager->options.lost)
        manager->options.lost(manager->options.lost_user);
}

/* Leadership that ends is told once; one that ran out while nobody looked, too: somebody else may
 * have led meanwhile. */
void fl_manager_lead(struct fl_manager *manager)
{
    bool leads;

    if (!manager->lease)
        return;
    if (atomic_load(&manager->leads) && !fl_lease_holds(manager->lease))
        tell_leadership(manager, false);
    fl_lease_try(manager->lease);
    leads = fl_lease_holds(manager->lease);
    if (atomic_load(&manager->leads) != leads)
        tell_leadership(manager, leads);
}

size_t fl_manager_write_events(struct fl_manager *manager)
{
    size_t written = 0;

    while (fl_events_write_next(manager->events))
        written++;
    return written;
}

/* When there is something to do. */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t caches_due_ms(struct fl_manager *manager)
{
    int64_t due = INT64_MAX;

    for (size_t i = 0; i < manager->cache_count; i++)
        due = earlier(due, fl_cache_next_due_ms(manager->caches[i].cache));
    return due;
}

static int64_t queues_due_ms(struct fl_manager *manager)
{
    int64_t due = INT64_MAX;

    for (size_t i = 0; i < manager->controller_count; i++)
        due = earlier(due, fl_queue_next_due_ms(manager->controllers[i]->queue));
    return due;
}

static int64_t lease_due_ms(struct fl_manager *manager)
{
    return manager->lease ? fl_lease_next_due_ms(manager->lease) : INT64_MAX;
}

int64_t fl_manager_next_due_ms(struct fl_manager *manager)
{
    int64_t due = earlier(caches_due_ms(manager), lease_due_ms(manager));

    if (fl_manager_may_work(manager))
        due = earlier(due, queues_due_ms(manager));
    return due <= fl_monotonic_ms(manager->env) ? 0 : due;
}

/* Threads. */

/* Until the bell rings, or something is due, or the end, which is false. */
static bool wait_for(struct fl_manager *manager, struct bell *bell, int64_t due_ms)
{
    FL_LOCKED(manager->lock);

    while (!manager->stopping && !bell->rung) {
        int64_t left_ms = due_ms == INT64_MAX ? -1 : due_ms - fl_monotonic_ms(manager->env);

        if (due_ms != INT64_MAX && left_ms <= 0)
            break;
        (void)fl_signal_wait(bell->signal, manager->lock, left_ms);
    }
    bell->rung = false;
    return !manager->stopping;
}

static void run_pump(void *user)
{
    struct fl_manager *manager = user;
    int64_t due;

    do {
        due = pump_some(manager, PUMP_LIMIT) > 0 ? 0 : caches_due_ms(manager);
    } while (wait_for(manager, &manager->pump_bell, due));
}

/* Events one at a time, so that the lease is never late because of them. */
static void run_office(void *user)
{
    struct fl_manager *manager = user;
    int64_t due;

    do {
        fl_manager_lead(manager);
        due = fl_events_write_next(manager->events) ? 0 : fl_events_next_due_ms(manager->events);
    } while (wait_for(manager, &manager->office_bell, earlier(due, lease_due_ms(manager))));
}

static int start_threads(struct fl_manager *manager, struct fl_error *err)
{
    int r;

    r = fl_thread_start("flops-pump", run_pump, manager, &manager->pump, err);
    if (r == 0)
        r = fl_thread_start("flops-office", run_office, manager, &manager->office, err);
    for (size_t i = 0; i < manager->controller_count && r == 0; i++)
        r = fl_controller_start(manager->controllers[i], err);
    return r;
}

int fl_manager_start(struct fl_manager *manager, struct fl_error *err)
{
    int r;

    prepare(manager);
    r = start_threads(manager, err);
    if (r < 0) {
        fl_manager_stop(manager);
        return fl_error_wrap(err, "manager");
    }
    return 0;
}

static void begin_stop(struct fl_manager *manager)
{
    FL_LOCKED(manager->lock);

    manager->stopping = true;
    fl_signal_all(manager->changed);
    fl_signal_all(manager->pump_bell.signal);
    fl_signal_all(manager->office_bell.signal);
}

/* What is queued still, within bounds: an end that waits for a server that is gone is none. */
static void write_last_events(struct fl_manager *manager)
{
    int64_t deadline_ms = fl_monotonic_ms(manager->env) + LAST_EVENTS_MS;

    while (fl_monotonic_ms(manager->env) < deadline_ms && fl_events_write_next(manager->events))
        ;
}

void fl_manager_stop(struct fl_manager *manager)
{
    begin_stop(manager);
    for (size_t i = 0; i < manager->controller_count; i++)
        fl_queue_shut_down(manager->controllers[i]->queue);
    for (size_t i = 0; i < manager->controller_count; i++)
        fl_controller_join(manager->controllers[i]);
    fl_thread_join(FL_TAKE(manager->pump));
    fl_thread_join(FL_TAKE(manager->office));
    write_last_events(manager);
    if (manager->lease) {
        fl_lease_release(manager->lease);
        measure_leadership(manager, false);
    }
}
