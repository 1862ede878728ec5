/* From what a root answers to what is meant. */
#include "reconcilers/workload/oakestra/root.h"

#include "lib/net.h"
#include "lib/str.h"

#include <arpa/inet.h>

#define ANSWER_MAX    ((size_t)64 * 1024 * 1024)
#define CLUSTERS_MAX  10000
#define SERVICES_MAX  100000
#define INSTANCES_MAX 1000
#define WORDS_MAX     256
#define TEXT_MAX      ((size_t)64 * 1024)

int oak_read_answer(const char *text, size_t len, json_t **ret_value, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = ANSWER_MAX};
    FL_JSON outer = NULL;
    int r = fl_json_parse(text, len, &limits, NULL, NULL, &outer, err);

    if (r < 0)
        return fl_error_wrap(err, "answer of the root");
    if (json_is_string(outer)) {
        FL_JSON inner = NULL;

        r = fl_json_parse(json_string_value(outer), json_string_length(outer), &limits, NULL, NULL,
                          &inner, NULL);
        /* A plain word is an answer, too. */
        *ret_value = r < 0 ? FL_TAKE(outer) : FL_TAKE(inner);
        return 0;
    }
    *ret_value = FL_TAKE(outer);
    return 0;
}

/* Pieces */

static const char *bounded(struct fl_arena *arena, const char *text, size_t max)
{
    size_t len = text ? strlen(text) : 0;

    return fl_arena_strndup(arena, fl_str_or(text, ""), fl_utf8_cut(fl_str_or(text, ""), len, max));
}

static const char *text_at(struct fl_arena *arena, const json_t *object, const char *key)
{
    return bounded(arena, json_string_value(json_object_get(object, key)), TEXT_MAX);
}

/* The last of it: of output that is what matters. */
static const char *tail_at(struct fl_arena *arena, const json_t *object, const char *key)
{
    const char *text = fl_str_or(json_string_value(json_object_get(object, key)), "");
    size_t len = strlen(text);

    if (len <= TEXT_MAX)
        return fl_arena_strdup(arena, text);
    text += len - TEXT_MAX;
    while ((*text & 0xC0) == 0x80)
        text++;
    return fl_arena_strdup(arena, text);
}

static const char *id_of(struct fl_arena *arena, const json_t *value)
{
    if (json_is_object(value))
        value = json_object_get(value, "$oid");
    return json_is_string(value) ? bounded(arena, json_string_value(value), 256) : "";
}

static const char *id_at(struct fl_arena *arena, const json_t *object, const char *key)
{
    return id_of(arena, json_object_get(object, key));
}

/* An id becomes part of a path. */
static bool is_id(const char *id)
{
    size_t len = strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_");

    return len > 0 && !id[len];
}

/* Numbers come as numbers, as text and as {"$numberLong": "…"}. */
static int64_t number_of(const json_t *value, int64_t fallback)
{
    int64_t number = fallback;

    if (json_is_object(value))
        value = json_object_get(value, "$numberLong");
    if (json_is_integer(value))
        return json_integer_value(value);
    if (json_is_real(value) && json_real_value(value) > -1e15 && json_real_value(value) < 1e15)
        return (int64_t)json_real_value(value);
    if (json_is_string(value))
        (void)fl_str_to_int64(json_string_value(value), INT64_MIN, INT64_MAX, &number);
    return number;
}

static const json_t *either(const json_t *object, const char *key, const char *other)
{
    const json_t *value = json_object_get(object, key);

    return value && !json_is_null(value) ? value : json_object_get(object, other);
}

static const char *const *words_at(struct fl_arena *arena, const json_t *object, const char *key,
                                   size_t *ret_count)
{
    const json_t *list = json_object_get(object, key);
    size_t count = json_array_size(list);
    const char **words;

    if (count > WORDS_MAX)
        count = WORDS_MAX;
    words = fl_new_array(arena, const char *, count + 1);
    *ret_count = 0;
    for (size_t i = 0; i < count; i++)
        if (json_is_string(json_array_get(list, i)))
            words[(*ret_count)++] =
                bounded(arena, json_string_value(json_array_get(list, i)), TEXT_MAX);
    return words;
}

static int check_list(const json_t *answer, size_t max, const char *what, struct fl_error *err)
{
    if (!json_is_array(answer))
        return fl_error_set(err, FL_E_UNAVAILABLE, "the root answers no list of %s", what);
    if (json_array_size(answer) > max)
        return fl_error_set(err, FL_E_TOO_LARGE, "the root has more than %zu %s", max, what);
    return 0;
}

/* Clusters */

static void read_cluster(const json_t *from, struct fl_arena *arena, struct oak_cluster *cluster)
{
    const json_t *name = either(from, "candidate_name", "cluster_name");
    const json_t *location = either(from, "candidate_location", "cluster_location");

    *cluster = (struct oak_cluster){
        .id = id_at(arena, from, "_id"),
        .name = bounded(arena, json_string_value(name), 253),
        .location = bounded(arena, json_string_value(location), 253),
        .active = fl_json_bool(from, "active", false),
        .nodes = number_of(json_object_get(from, "active_nodes"), -1),
        .vcpus = number_of(either(from, "vcpus", "total_cpu_cores"), 0),
        .vgpus = number_of(either(from, "vgpus", "total_gpu_cores"), 0),
        .memory_mb = number_of(either(from, "memory", "memory_in_mb"), 0),
        .is_new = json_is_string(json_object_get(from, "candidate_name")) ||
                  json_is_array(json_object_get(from, "csi_drivers")),
    };
    cluster->virtualization =
        words_at(arena, from, "virtualization", &cluster->virtualization_count);
    cluster->addons = words_at(arena, from, "supported_addons", &cluster->addon_count);
    cluster->csi_drivers = words_at(arena, from, "csi_drivers", &cluster->csi_count);
}

int oak_read_clusters(const json_t *answer, struct fl_arena *arena, struct oak_clusters *ret_list,
                      struct fl_error *err)
{
    struct oak_clusters list = {NULL, 0};
    int r = check_list(answer, CLUSTERS_MAX, "clusters", err);

    if (r < 0)
        return r;
    list.items = fl_new_array(arena, struct oak_cluster, json_array_size(answer));
    for (size_t i = 0; i < json_array_size(answer); i++) {
        struct oak_cluster *cluster = &list.items[list.count];

        read_cluster(json_array_get(answer, i), arena, cluster);
        if (cluster->id[0] && cluster->name[0])
            list.count++;
    }
    *ret_list = list;
    return 0;
}

/* Services */

enum oak_status oak_status_of(const char *text)
{
    static const struct {
        const char *text;
        enum oak_status status;
    } rows[] = {
        {"REQUESTED", OAK_REQUESTED},
        {"CLUSTER_SCHEDULED", OAK_CLUSTER_SCHEDULED},
        {"NODE_SCHEDULED", OAK_NODE_SCHEDULED},
        {"INSTANTIATION", OAK_CREATING},
        {"CREATING", OAK_CREATING},
        {"CREATED", OAK_CREATING},
        {"RUNNING", OAK_RUNNING},
        {"FAILED", OAK_FAILED},
        {"DEAD", OAK_DEAD},
        {"COMPLETED", OAK_COMPLETED},
        {"UNDEPLOYED", OAK_UNDEPLOYED},
        {"TargetClusterNotFound", OAK_REFUSED},
        {"TargetClusterNotActive", OAK_REFUSED},
        {"TargetClusterNoCapacity", OAK_REFUSED},
        {"NoActiveClusterWithCapacity", OAK_REFUSED},
        {"NO_WORKER_CAPACITY", OAK_REFUSED},
        {"NoWorkerCapacity", OAK_REFUSED},
        {"NO_QUALIFIED_WORKER_FOUND", OAK_REFUSED},
        {"NoQualifiedWorkerFound", OAK_REFUSED},
        {"NO_NODE_FOUND", OAK_REFUSED},
        {"NoNodeFound", OAK_REFUSED},
    };

    for (size_t i = 0; text && i < FL_COUNT_OF(rows); i++)
        if (strcmp(rows[i].text, text) == 0)
            return rows[i].status;
    return OAK_NO_STATUS;
}

static void read_instance(const json_t *from, struct fl_arena *arena, struct oak_instance *instance)
{
    *instance = (struct oak_instance){
        .number = number_of(json_object_get(from, "instance_number"), 0),
        .status_text = text_at(arena, from, "status"),
        .detail = bounded(arena, json_string_value(json_object_get(from, "status_detail")), 512),
        .cluster_id = id_at(arena, from, "cluster_id"),
        .public_ip = text_at(arena, from, "publicip"),
        .logs = tail_at(arena, from, "logs"),
    };
    instance->status = oak_status_of(instance->status_text);
}

static void read_instances(const json_t *from, struct fl_arena *arena, struct oak_service *service)
{
    const json_t *list = json_object_get(from, "instance_list");
    size_t count = json_array_size(list);

    if (count > INSTANCES_MAX)
        count = INSTANCES_MAX;
    service->instances = fl_new_array(arena, struct oak_instance, count);
    for (size_t i = 0; i < count; i++)
        read_instance(json_array_get(list, i), arena,
                      &service->instances[service->instance_count++]);
}

static const char *direct_cluster(const json_t *from, struct fl_arena *arena)
{
    const json_t *list = json_object_get(from, "constraints");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *constraint = json_array_get(list, i);
        const char *type = fl_json_str(constraint, "type");

        if (fl_streq(type, "direct"))
            return fl_arena_copy(arena, fl_json_str(constraint, "cluster"));
        if (fl_streq(type, "clusters"))
            return fl_arena_copy(arena, json_string_value(json_array_get(
                                            json_object_get(constraint, "allowed"), 0)));
    }
    return NULL;
}

static bool read_service(const json_t *from, const char *prefix, struct fl_arena *arena,
                         struct oak_service *service)
{
    const char *app = json_string_value(either(from, "app_name", "application_name"));
    const char *ip = fl_json_str(from, "addresses.rr_ip");

    if (!app || !fl_str_has_prefix(app, prefix))
        return false;
    *service = (struct oak_service){
        .id = id_at(arena, from, "_id"),
        .app_id = id_at(arena, from, "applicationID"),
        .app = bounded(arena, app, 64),
        .ns = text_at(arena, from, "app_ns"),
        .name = bounded(arena, json_string_value(either(from, "microservice_name", "service_name")),
                        64),
        .status_text = text_at(arena, from, "status"),
        .detail = bounded(arena, json_string_value(json_object_get(from, "status_detail")), 512),
        .rr_ip = fl_arena_copy(arena, ip ? ip : fl_json_str(from, "RR_ip")),
        .cluster = direct_cluster(from, arena),
    };
    service->status = oak_status_of(service->status_text);
    service->environment = words_at(arena, from, "environment", &service->environment_count);
    read_instances(from, arena, service);
    return is_id(service->id);
}

int oak_read_services(const json_t *answer, const char *prefix, struct fl_arena *arena,
                      struct oak_services *ret_list, struct fl_error *err)
{
    struct oak_services list = {NULL, 0};
    int r = check_list(answer, SERVICES_MAX, "services", err);

    if (r < 0)
        return r;
    list.items = fl_new_array(arena, struct oak_service, json_array_size(answer));
    for (size_t i = 0; i < json_array_size(answer); i++)
        list.count +=
            read_service(json_array_get(answer, i), prefix, arena, &list.items[list.count]);
    *ret_list = list;
    return 0;
}

/* Applications */

int oak_read_apps(const json_t *answer, const char *prefix, struct fl_arena *arena,
                  struct oak_apps *ret_list, struct fl_error *err)
{
    struct oak_apps list = {NULL, 0};
    int r = check_list(answer, SERVICES_MAX, "applications", err);

    if (r < 0)
        return r;
    list.items = fl_new_array(arena, struct oak_app, json_array_size(answer));
    for (size_t i = 0; i < json_array_size(answer); i++) {
        const json_t *from = json_array_get(answer, i);
        const char *name = fl_json_str(from, "application_name"), *id;

        if (!name || !fl_str_has_prefix(name, prefix))
            continue;
        id = id_at(arena, from, "applicationID");
        if (!is_id(id))
            id = id_at(arena, from, "_id");
        if (is_id(id))
            list.items[list.count++] = (struct oak_app){
                .id = id,
                .name = bounded(arena, name, 64),
                .ns = text_at(arena, from, "application_namespace"),
                .desc = text_at(arena, from, "application_desc"),
            };
    }
    *ret_list = list;
    return 0;
}

int oak_read_created(const json_t *answer, const char *name, struct fl_arena *arena,
                     const char **ret_id, struct fl_error *err)
{
    const json_t *failed = json_object_get(answer, "failed_services"), *one;
    const char *id = id_at(arena, answer, "job_id"), *message;
    size_t i;

    json_array_foreach((json_t *)failed, i, one) {
        message = fl_json_str(one, "message");
        if (fl_streq(fl_json_str(one, "service_name"), name) || json_array_size(failed) == 1)
            return fl_error_set(err, FL_E_UNAVAILABLE, "the root lists it as failed: %s",
                                bounded(arena, fl_str_or(message, "no reason given"), 256));
    }
    if (!is_id(id) || strcmp(id, "None") == 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the root answers no id of the service");
    *ret_id = id;
    return 0;
}

int oak_read_free_ip(const json_t *answer, struct fl_arena *arena, const char **ret_ip,
                     struct fl_error *err)
{
    const json_t *list = json_object_get(answer, "available_service_ips"), *one;
    size_t i;

    json_array_foreach((json_t *)list, i, one) {
        const char *ip = json_string_value(either(one, "Address", "address"));
        struct in_addr parsed;

        if (ip && inet_pton(AF_INET, ip, &parsed) == 1) {
            *ret_ip = fl_arena_strdup(arena, ip);
            return 0;
        }
    }
    return fl_error_set(err, FL_E_UNAVAILABLE,
                        "the network component names no free service address");
}
