/* The driver's table: what is asked and told, under one lock. worker.c does the rest. */
#include "reconcilers/workload/oakestra/oakestra.h"

#include "api/field.h"
#include "lib/file.h"
#include "lib/str.h"
#include "reconcilers/workload/oakestra/internal.h"

#define FOLDER           "oakestra"
#define NETWORK_PORT     10099
#define TIMEOUT_MS       10000
#define POLL_MS          5000
#define POLL_MIN_MS      1000
#define SCHEDULE_MS      60000
#define GRACE_MS         600000
#define FOLLOW_MS        250
#define CONFIG_NAMESPACE "flops"

void oak_tell(const struct fl_oakestra *oak, const char *ns, const char *name)
{
    if (oak->changed)
        oak->changed(oak->changed_user, ns, name);
}

void oak_poke(struct fl_oakestra *oak)
{
    oak->poked = true;
    fl_signal_all(oak->wake);
}

/* Settings */

void oak_config_free(struct oak_config *config)
{
    if (config)
        fl_arena_destroy(config->arena);
    free(config);
}

static int64_t duration(const char *text, int64_t fallback_ms)
{
    int64_t ms = fallback_ms;

    if (text)
        (void)fl_duration_parse(text, &ms);
    return ms > 0 ? ms : fallback_ms;
}

/* Port 10099 of the endpoint's host. */
static const char *beside(struct fl_arena *arena, const char *endpoint)
{
    const char *host = strstr(endpoint, "://"), *end;

    host = host ? host + 3 : endpoint;
    end = *host == '[' ? strchr(host, ']') : NULL;
    end = end ? end + 1 : host + strcspn(host, ":/");
    return fl_arena_printf(arena, "%.*s:%d", (int)(end - endpoint), endpoint, NETWORK_PORT);
}

static const char *without_slash(struct fl_arena *arena, const char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        len--;
    return fl_arena_strndup(arena, url, len);
}

static struct oak_config *make_config(const struct fl_orchestrator_spec *spec)
{
    struct oak_config *config = fl_calloc(1, sizeof(*config));
    const struct fl_orchestrator_oakestra *own = &spec->oakestra;
    struct fl_orchestrator from = {.spec = *spec}, *copy;

    config->arena = fl_arena_create();
    copy = fl_object_clone(&fl_orchestrator_type, &from, config->arena);
    config->spec = &copy->spec;
    config->endpoint = without_slash(config->arena, spec->endpoint);
    config->network_endpoint = own->network_endpoint
                                   ? without_slash(config->arena, own->network_endpoint)
                                   : beside(config->arena, config->endpoint);
    config->ns =
        fl_arena_strdup(config->arena, fl_str_or(own->application_namespace, CONFIG_NAMESPACE));
    config->program_image = fl_arena_copy(config->arena, own->program_image);
    config->constraints = own->constraints;
    config->timeout_ms = duration(spec->timeout, TIMEOUT_MS);
    config->poll_ms = duration(spec->poll_interval, POLL_MS);
    if (config->poll_ms < POLL_MIN_MS)
        config->poll_ms = POLL_MIN_MS;
    config->grace_ms = duration(spec->unreachable_grace_period, GRACE_MS);
    config->settings.schedule_ms = duration(own->schedule_deadline, SCHEDULE_MS);
    return config;
}

static int configure(struct fl_orchestrator_driver *self, const struct fl_orchestrator_spec *spec,
                     struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    struct oak_config *config;

    if (!spec->endpoint)
        return fl_error_set(err, FL_E_INVALID, "spec.endpoint: type Oakestra needs one");
    if (spec->oakestra.application_namespace &&
        !oak_name_is_valid(spec->oakestra.application_namespace))
        return fl_error_set(err, FL_E_INVALID,
                            "spec.oakestra.applicationNamespace: 1 to 30 letters and digits");
    config = make_config(spec);
    {
        FL_LOCKED(oak->lock);
        oak_config_free(oak->next);
        oak->next = config;
        oak_poke(oak);
    }
    return 0;
}

/* Questions */

static const char *address_of(const struct oak_record *record)
{
    for (size_t i = 0; i < record->port_count; i++)
        if (record->ports[i].host_port > 0)
            return record->public_ip; /* of the node, once it is known */
    return record->rr_ip;
}

static enum fl_run_state state_of(const struct oak_record *record)
{
    if (record->gone)
        return FL_RUN_ENDED;
    if (record->exit.reason)
        return FL_RUN_STOPPING;
    return record->started_us > 0 ? FL_RUN_RUNNING : FL_RUN_STARTING;
}

static struct fl_run_exit copy_exit(struct fl_arena *arena, const struct fl_run_exit *from)
{
    struct fl_run_exit copy = *from;

    copy.reason = fl_arena_copy(arena, from->reason);
    copy.message = fl_arena_copy(arena, from->message);
    copy.log_tail = fl_arena_copy(arena, from->log_tail);
    return copy;
}

static void show_ports(struct fl_arena *arena, const struct oak_record *record, struct fl_run *run)
{
    run->ports = fl_new_array(arena, struct fl_run_port, record->port_count);
    for (; run->port_count < record->port_count; run->port_count++) {
        const struct oak_port *port = &record->ports[run->port_count];

        run->ports[run->port_count] = (struct fl_run_port){
            .name = fl_arena_strdup(arena, port->name),
            .port = port->port,
            .host_port = port->host_port,
        };
    }
}

static const char *message_of(struct fl_arena *arena, const struct oak_record *record)
{
    static const char *const waits[OAK_STATUSES] = {
        [OAK_REQUESTED] = "Oakestra has yet to schedule it",
        [OAK_CLUSTER_SCHEDULED] = "its cluster has yet to schedule it",
        [OAK_NODE_SCHEDULED] = "its node has yet to start it",
        [OAK_CREATING] = "its node is starting it",
    };

    if (record->trouble)
        return fl_arena_strdup(arena, record->trouble);
    return record->status < OAK_STATUSES && record->started_us == 0 ? waits[record->status] : NULL;
}

static void show(struct fl_arena *arena, const struct oak_record *record, struct fl_run *run)
{
    enum fl_run_state state = state_of(record);

    *run = (struct fl_run){
        .index = record->index,
        .number = record->number,
        .restarts = record->restarts,
        .failures = record->failures,
        .first_us = record->first_us,
        .spec_hash = fl_arena_strdup(arena, record->spec_hash),
        .cluster = fl_arena_copy(arena, record->cluster),
        .node = fl_arena_copy(arena, record->node),
        .state = state,
        .ready = state == FL_RUN_RUNNING,
        .message = message_of(arena, record),
        .requested_us = record->requested_us,
        .started_us = record->started_us,
        .ready_us = record->ready_us,
        .id = fl_arena_copy(arena, record->service_id),
        .address = fl_arena_copy(arena, address_of(record)),
        .last_exit = copy_exit(arena, &record->previous),
    };
    if (state == FL_RUN_ENDED)
        run->exit = copy_exit(arena, &record->exit);
    show_ports(arena, record, run);
}

static int by_index(const void *a, const void *b)
{
    const struct fl_run *one = a, *other = b;

    return (one->index > other->index) - (one->index < other->index);
}

static int observe(struct fl_orchestrator_driver *self, const char *workload_uid,
                   struct fl_arena *arena, struct fl_run_list *ret_runs, struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    struct fl_run_list list = {NULL, 0};
    void *cursor = NULL, *value;
    FL_LOCKED(oak->lock);

    (void)err;
    list.items = fl_new_array(arena, struct fl_run, fl_map_count(oak->runs));
    while (fl_map_next(oak->runs, &cursor, NULL, &value)) {
        const struct oak_run *run = value;

        if (strcmp(run->uid, workload_uid) == 0)
            show(arena, &run->record, &list.items[list.count++]);
    }
    qsort(list.items, list.count, sizeof(*list.items), by_index);
    *ret_runs = list;
    return 0;
}

static int workloads(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                     struct fl_string_list *ret_uids, struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    FL_CLEANUP(fl_map_destroyp) struct fl_map *seen = fl_map_create(NULL);
    struct fl_string_list list = {NULL, 0};
    void *cursor = NULL, *value;
    FL_LOCKED(oak->lock);

    (void)err;
    list.items = fl_new_array(arena, const char *, fl_map_count(oak->runs));
    while (fl_map_next(oak->runs, &cursor, NULL, &value)) {
        struct oak_run *run = value;

        if (fl_map_get(seen, run->uid))
            continue;
        fl_map_put(seen, run->uid, run);
        list.items[list.count++] = fl_arena_strdup(arena, run->uid);
    }
    *ret_uids = list;
    return 0;
}

static int about(struct fl_orchestrator_driver *self, struct fl_arena *arena,
                 struct fl_orchestrator_about *ret_about, struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    bool is_new = false;
    FL_LOCKED(oak->lock);

    (void)err;
    for (size_t i = 0; i < oak->place_count; i++)
        is_new = is_new || oak->places[i].cluster.is_new;
    /* A root does not say its version; its answers show how old it is. */
    if (oak->place_count > 0)
        ret_about->version = fl_arena_strdup(arena, is_new ? "Oakestra v0.4.410 or later"
                                                           : "Oakestra before v0.4.410");
    return 0;
}

/* Changes */

static int check_number(const struct oak_run *run, const struct fl_run_spec *spec,
                        struct fl_error *err)
{
    if (run && spec->number < run->record.number)
        return fl_error_set(err, FL_E_CONFLICT, "run %lld was begun already",
                            (long long)run->record.number);
    if (run && spec->number > run->record.number && !run->record.gone)
        return fl_error_set(err, FL_E_CONFLICT, "run %lld is not yet gone from the root",
                            (long long)run->record.number);
    return 0;
}

/* Roots before v0.4.410 look at `addons`, but accept only if every cluster has them. */
static bool addons_do_no_harm(const struct fl_oakestra *oak, const struct fl_workload_spec *spec)
{
    for (size_t i = 0; i < oak->place_count; i++) {
        const struct oak_cluster *cluster = &oak->places[i].cluster;

        if (cluster->is_new)
            return false;
        for (size_t wanted = 0; cluster->active && wanted < spec->placement.addons.count;
             wanted++) {
            bool has = false;

            for (size_t at = 0; at < cluster->addon_count && !has; at++)
                has = fl_streq(cluster->addons[at], spec->placement.addons.items[wanted]);
            if (!has)
                return false;
        }
    }
    return oak->place_count > 0;
}

static int make_sla(struct fl_oakestra *oak, const struct fl_run_spec *spec, struct fl_arena *arena,
                    const struct oak_place **ret_place, struct oak_sla *ret_sla,
                    struct fl_error *err)
{
    const struct oak_config *config = oak_config_of(oak);
    const struct oak_place *place = spec->cluster ? oak_place_find(oak, spec->cluster) : NULL;
    struct oak_sla_input input = {.run = spec};

    if (!config)
        return fl_error_set(err, FL_E_UNAVAILABLE, "not configured yet");
    if (spec->cluster && !place)
        return fl_error_set(err, FL_E_UNAVAILABLE, "cluster %s is not known to the root now",
                            spec->cluster);
    input.ns = config->ns;
    input.program_image = config->program_image;
    input.cluster = place ? &place->cluster : NULL;
    input.legacy = config->constraints == FL_ORCHESTRATOR_OAKESTRA_CONSTRAINTS_LEGACY;
    input.addons = config->constraints != FL_ORCHESTRATOR_OAKESTRA_CONSTRAINTS_DIRECT &&
                   addons_do_no_harm(oak, spec->spec);
    *ret_place = place;
    return oak_sla_make(&input, arena, ret_sla, err);
}

static struct oak_record new_record(const struct fl_oakestra *oak, const struct fl_run_spec *spec,
                                    const struct oak_place *place, const struct oak_sla *sla,
                                    const struct oak_run *before)
{
    struct oak_record record = {
        .uid = spec->id.workload_uid,
        .index = spec->id.index,
        .number = spec->number,
        .restarts = spec->restarts,
        .failures = spec->failures,
        .first_us = spec->first_us,
        .requested_us = fl_realtime_us(oak->env),
        .spec_hash = fl_str_or(spec->spec_hash, ""),
        .ns = fl_str_or(spec->ns, ""),
        .name = fl_str_or(spec->name, ""),
        .cluster = spec->cluster,
        .node = spec->node,
        .port_count = sla->port_count,
        .requested = sla->requested,
        .image = fl_json_str(sla->service, "code"),
        .cluster_id = place ? place->cluster.id : NULL,
        .instance = -1,
    };

    memcpy(record.ports, sla->ports, sizeof(record.ports));
    if (before)
        record.previous = before->record.exit;
    return record;
}

static int start(struct fl_orchestrator_driver *self, const struct fl_run_spec *spec,
                 struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_oakestra *oak = oak_of(self);
    const struct oak_place *place = NULL;
    struct oak_record record;
    struct oak_sla sla;
    struct oak_run *run;
    FL_LOCKED(oak->lock);
    int r;

    run = oak_run_find(oak, spec->id.workload_uid, spec->id.index);
    r = check_number(run, spec, err);
    if (r < 0 || (run && run->record.number == spec->number))
        return r;
    r = make_sla(oak, spec, arena, &place, &sla, err);
    if (r < 0)
        return r;
    record = new_record(oak, spec, place, &sla, run);
    run = oak_run_put(oak, &record);
    run->service = json_deep_copy(sla.service);
    r = oak_run_write(run, err);
    if (r < 0) {
        oak_run_drop(run);
        return fl_error_wrap(err, "record");
    }
    oak_poke(oak);
    return 0;
}

static int stop(struct fl_orchestrator_driver *self, const struct fl_run_id *id, int64_t grace_ms,
                const char *reason, struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    struct oak_run *run;
    FL_LOCKED(oak->lock);

    (void)grace_ms; /* nodes of Oakestra have one of their own */
    run = oak_run_find(oak, id->workload_uid, id->index);
    if (!run || run->record.exit.reason)
        return 0;
    oak_call_back(&run->record, run->arena, reason, fl_realtime_us(oak->env));
    oak_poke(oak);
    return oak_run_write(run, err);
}

static int remove_run(struct fl_orchestrator_driver *self, const struct fl_run_id *id,
                      struct fl_error *err)
{
    struct fl_oakestra *oak = oak_of(self);
    struct oak_run *run;
    FL_LOCKED(oak->lock);

    run = oak_run_find(oak, id->workload_uid, id->index);
    if (!run)
        return 0;
    if (!run->record.gone)
        return fl_error_set(err, FL_E_CONFLICT, "its run is not yet gone from the root");
    oak_run_drop(run);
    oak_poke(oak);
    return 0;
}

/* Life */

static void destroy(struct fl_orchestrator_driver *self)
{
    struct fl_oakestra *oak = oak_of(self);

    if (!oak)
        return;
    if (oak->thread) {
        fl_lock_take(oak->lock);
        oak->stopping = true;
        fl_signal_all(oak->wake);
        fl_lock_release(oak->lock);
        fl_thread_join(oak->thread);
    }
    oak_config_free(oak->config);
    oak_config_free(oak->next);
    fl_map_destroy(oak->runs);
    fl_arena_destroy(oak->seen_arena);
    fl_signal_destroy(oak->wake);
    fl_lock_destroy(oak->lock);
    free(oak->folder);
    free(oak->name);
    free(oak);
}

static const struct fl_orchestrator_ops ops = {
    .type = "Oakestra",
    .destroy = destroy,
    .configure = configure,
    .nodes = oak_nodes,
    .observe = observe,
    .start = start,
    .stop = stop,
    .remove = remove_run,
    .workloads = workloads,
    .about = about,
    .log_open = oak_log_open,
    .log_read = oak_log_read,
    .log_close = oak_log_close,
};

int fl_oakestra_create(const struct fl_oakestra_options *options,
                       struct fl_orchestrator_driver **ret_driver, struct fl_error *err)
{
    struct fl_oakestra *oak = fl_calloc(1, sizeof(*oak));
    int r;

    oak->base.ops = &ops;
    oak->env = options->env;
    oak->folder = fl_asprintf("%s/" FOLDER "/%s", options->data_dir, options->name);
    oak->name = fl_strdup(options->name);
    oak_prefix(options->identity, options->name, oak->prefix);
    oak->credentials = options->credentials;
    oak->credentials_user = options->credentials_user;
    oak->changed = options->changed;
    oak->changed_user = options->changed_user;
    oak->follow_ms = options->follow_ms > 0 ? options->follow_ms : FOLLOW_MS;
    oak->lock = fl_lock_create();
    oak->wake = fl_signal_create();
    oak->runs = fl_map_create(oak_run_free);
    r = fl_dir_ensure(oak->folder, 0700, err);
    if (r == 0)
        r = oak_runs_read(oak, err);
    if (r == 0)
        r = fl_thread_start("oakestra", oak_work, oak, &oak->thread, err);
    if (r < 0) {
        destroy(&oak->base);
        return fl_error_wrap(err, "orchestrator oakestra");
    }
    *ret_driver = &oak->base;
    return 0;
}

struct fl_oakestra_counts fl_oakestra_counts(struct fl_orchestrator_driver *driver)
{
    struct fl_oakestra *oak = oak_of(driver);
    FL_LOCKED(oak->lock);

    return oak->counts;
}
