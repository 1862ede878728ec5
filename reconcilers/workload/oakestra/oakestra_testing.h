/* For tests of the orchestrator oakestra: a root in the test's own process, as the real one answers
 * (quoted JSON, ids as objects, 200 for everything), with its traps at hand. It has one user, one
 * or more clusters, and runs nothing: what a service's instance does follows from the last word of
 * its `cmd`, a step with each list. */
#ifndef FL_RECONCILERS_OAKESTRA_TESTING_H
#define FL_RECONCILERS_OAKESTRA_TESTING_H

#include "reconcilers/workload/oakestra/oakestra.h"
#include "reconcilers/workload/orchestrator_testing.h"

#include "lib/file.h"
#include "lib/http_server.h"
#include "lib/json.h"

#include <unistd.h>

struct fake_root {
    struct fl_env env;
    char folder[64], endpoint[64];
    struct fl_loop *loop;
    struct fl_http_server *server;
    struct fl_thread *thread;

    struct fl_lock *lock; /* the rest */
    json_t *apps, *services, *clusters;
    int next_id, next_ip, token;
    /* Traps: so many of the next calls. */
    int fail_services, lose_deploys, double_deploys, unauthorized, refuse_deploys, break_creates;
    bool down, wrong_cluster, not_admin, stuck, shy_clusters, no_addresses;
    /* What was asked. */
    int logins, lists, creates, deploys, undeploys, deletes, wiped, leaked, clusters_asked, late;
};

static inline json_t *oakroot_id(const char *id)
{
    return json_pack("{s:s}", "$oid", id);
}

static inline const char *oakroot_id_of(const json_t *object)
{
    return fl_json_str(object, "_id");
}

static inline json_t *oakroot_find(json_t *list, const char *id)
{
    size_t i;
    json_t *item;

    json_array_foreach(list, i, item) {
        if (fl_streq(oakroot_id_of(item), id))
            return item;
    }
    return NULL;
}

static inline void oakroot_remove(json_t *list, const json_t *item)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_array_get(list, i) == item) {
            (void)json_array_remove(list, i);
            return;
        }
}

/* Answers */

static inline void oakroot_answer(struct fl_http_request *request, int status, json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);

    fl_http_respond(request, status, "application/json", text, strlen(text));
    free(text);
    json_decref(body);
}

/* A string that holds JSON, with ids as objects. */
static inline void oakroot_answer_quoted(struct fl_http_request *request, const json_t *list)
{
    json_t *copy = json_deep_copy(list), *item;
    char *text;
    size_t i;

    json_array_foreach(copy, i, item) {
        json_t *id = oakroot_id(oakroot_id_of(item));

        (void)json_object_set_new(item, "_id", id);
    }
    text = json_dumps(copy, JSON_COMPACT);
    json_decref(copy);
    oakroot_answer(request, 200, json_string(text));
    free(text);
}

static inline void oakroot_message(struct fl_http_request *request, int status, const char *text)
{
    oakroot_answer(request, status, json_pack("{s:s}", "message", text));
}

/* What instances do */

static inline const char *oakroot_behaviour(const json_t *service)
{
    const json_t *cmd = json_object_get(service, "cmd");

    return json_string_value(json_array_get(cmd, json_array_size(cmd) - 1));
}

static inline void oakroot_set(json_t *instance, const char *status, const char *detail)
{
    fl_json_set_str(instance, "status", status);
    fl_json_set_str(instance, "status_detail", detail);
}

static inline void oakroot_finish(json_t *instance, enum behaviour behaviour)
{
    switch (behaviour) {
    case EXITS_0:
        oakroot_set(instance, "COMPLETED", "");
        return;
    case EXITS_7:
    case CRASHES:
        oakroot_set(instance, "FAILED", "");
        return;
    case CANNOT_BE:
        oakroot_set(instance, "FAILED", "Container failed to start: no such program");
        return;
    default:
        return;
    }
}

/* A step further; one that failed is started again by its cluster, for ever. */
static inline void oakroot_step(struct fake_root *root, const json_t *service, json_t *instance)
{
    const char *status = fl_json_str(instance, "status");
    enum behaviour behaviour = (enum behaviour)strtol(oakroot_behaviour(service), NULL, 10);

    if (root->stuck)
        return;
    if (fl_streq(status, "CLUSTER_SCHEDULED"))
        oakroot_set(instance, "NODE_SCHEDULED", NULL);
    else if (fl_streq(status, "NODE_SCHEDULED") && behaviour == CANNOT_BE)
        oakroot_finish(instance, behaviour);
    else if (fl_streq(status, "NODE_SCHEDULED"))
        oakroot_set(instance, "RUNNING", NULL);
    else if (fl_streq(status, "RUNNING"))
        oakroot_finish(instance, behaviour);
    else if (fl_streq(status, "FAILED"))
        oakroot_set(instance, "NODE_SCHEDULED", NULL);
}

static inline void oakroot_step_all(struct fake_root *root)
{
    json_t *service, *instance;
    size_t i, k;

    json_array_foreach(root->services, i, service) {
        json_array_foreach(json_object_get(service, "instance_list"), k, instance) {
            oakroot_step(root, service, instance);
        }
    }
}

/* Calls */

static inline void oakroot_create_app(struct fake_root *root, struct fl_http_request *request,
                                      const json_t *sla)
{
    const json_t *from = json_array_get(json_object_get(sla, "applications"), 0);
    json_t *app, *item;
    char id[32];
    size_t i;

    json_array_foreach(root->apps, i, item) {
        if (fl_streq(fl_json_str(item, "application_name"),
                     fl_json_str(from, "application_name"))) {
            oakroot_message(request, 409,
                            "An application with the same name and namespace exists already");
            return;
        }
    }
    (void)snprintf(id, sizeof(id), "a%d", ++root->next_id);
    app = json_deep_copy(from);
    fl_json_set_str(app, "_id", id);
    fl_json_set_str(app, "applicationID", id);
    (void)json_array_append_new(root->apps, app);
    oakroot_answer_quoted(request, root->apps);
}

/* The same name again is the same service, and its instances are forgotten. */
static inline json_t *oakroot_put_service(struct fake_root *root, const json_t *app,
                                          const json_t *from)
{
    json_t *service, *item;
    char id[32];
    size_t i;

    json_array_foreach(root->services, i, item) {
        if (fl_streq(fl_json_str(item, "applicationID"), oakroot_id_of(app)) &&
            fl_streq(fl_json_str(item, "microservice_name"),
                     fl_json_str(from, "microservice_name"))) {
            root->wiped++;
            root->leaked += (int)json_array_size(json_object_get(item, "instance_list"));
            (void)json_object_set_new(item, "instance_list", json_array());
            return item;
        }
    }
    (void)snprintf(id, sizeof(id), "s%d", ++root->next_id);
    service = json_deep_copy(from);
    fl_json_set_str(service, "_id", id);
    fl_json_set_str(service, "applicationID", oakroot_id_of(app));
    fl_json_set_str(service, "app_name", fl_json_str(app, "application_name"));
    fl_json_set_str(service, "app_ns", fl_json_str(app, "application_namespace"));
    (void)json_object_set_new(service, "instance_list", json_array());
    (void)json_object_set_new(service, "next_instance_progressive_number", json_integer(0));
    (void)json_array_append_new(root->services, service);
    return service;
}

static inline bool oakroot_trap(int *count)
{
    if (*count <= 0)
        return false;
    (*count)--;
    return true;
}

static inline void oakroot_create_service(struct fake_root *root, struct fl_http_request *request,
                                          const json_t *sla)
{
    const json_t *from = json_array_get(json_object_get(sla, "applications"), 0);
    const json_t *app = oakroot_find(root->apps, fl_json_str(from, "applicationID"));
    const json_t *one = json_array_get(json_object_get(from, "microservices"), 0);
    const char *name = fl_json_str(one, "microservice_name");
    json_t *service;

    root->creates++;
    if (!app) {
        oakroot_message(request, 404, "application not found");
        return;
    }
    if (oakroot_trap(&root->fail_services)) {
        oakroot_answer(request, 200,
                       json_pack("{s:s, s:[], s:[{s:s, s:s, s:i}]}", "job_id", "s999",
                                 "deployed_services", "failed_services", "service_name", name,
                                 "message", "failed to deploy service", "status", 500));
        return;
    }
    service = oakroot_put_service(root, app, one);
    if (oakroot_trap(&root->break_creates)) {
        fl_http_abort(request); /* it was received */
        return;
    }
    oakroot_answer(request, 200,
                   json_pack("{s:s, s:[{s:s, s:i}], s:[]}", "job_id", oakroot_id_of(service),
                             "deployed_services", "service_name", name, "status", 200,
                             "failed_services"));
}

static inline const char *oakroot_cluster_for(struct fake_root *root, const json_t *service)
{
    const json_t *constraint = json_array_get(json_object_get(service, "constraints"), 0);
    const char *wanted = fl_json_str(constraint, "cluster");
    json_t *cluster;
    size_t i;

    json_array_foreach(root->clusters, i, cluster) {
        if (root->wrong_cluster !=
            (!wanted || fl_streq(fl_json_str(cluster, "cluster_name"), wanted)))
            return oakroot_id_of(cluster);
    }
    return NULL;
}

static inline void oakroot_add_instance(struct fake_root *root, json_t *service)
{
    int64_t number = fl_json_int(service, "next_instance_progressive_number", 0);
    const char *cluster = oakroot_cluster_for(root, service);

    if (!cluster || oakroot_trap(&root->refuse_deploys)) {
        fl_json_set_str(service, "status",
                        cluster ? "NoActiveClusterWithCapacity" : "TargetClusterNotActive");
        return;
    }
    (void)json_array_append_new(json_object_get(service, "instance_list"),
                                json_pack("{s:I, s:s, s:s, s:s, s:s}", "instance_number",
                                          (json_int_t)number, "cluster_id", cluster, "status",
                                          "CLUSTER_SCHEDULED", "publicip", "127.0.0.1", "logs",
                                          "line 19\nline 20\n"));
    (void)json_object_set_new(service, "next_instance_progressive_number",
                              json_integer(number + 1));
}

static inline void oakroot_deploy(struct fake_root *root, struct fl_http_request *request,
                                  const char *id)
{
    json_t *service = oakroot_find(root->services, id);

    root->deploys++;
    if (service && !oakroot_trap(&root->lose_deploys))
        oakroot_add_instance(root, service);
    if (service && oakroot_trap(&root->double_deploys))
        oakroot_add_instance(root, service);
    oakroot_message(request, 200, "ok");
}

static inline void oakroot_undeploy(struct fake_root *root, struct fl_http_request *request,
                                    const char *id, int64_t number)
{
    json_t *service = oakroot_find(root->services, id);
    json_t *list = json_object_get(service, "instance_list"), *instance;
    size_t i;

    root->undeploys++;
    json_array_foreach(list, i, instance) {
        if (fl_json_int(instance, "instance_number", -1) == number) {
            (void)json_array_remove(list, i);
            break;
        }
    }
    oakroot_message(request, 200, "ok");
}

static inline void oakroot_delete_service(struct fake_root *root, struct fl_http_request *request,
                                          const char *id)
{
    json_t *service = oakroot_find(root->services, id);

    root->deletes++;
    if (!service) {
        oakroot_message(request, 500, "Job not deleted");
        return;
    }
    root->leaked += (int)json_array_size(json_object_get(service, "instance_list"));
    oakroot_remove(root->services, service);
    oakroot_message(request, 200, "Job deleted");
}

static inline void oakroot_delete_app(struct fake_root *root, struct fl_http_request *request,
                                      const char *id)
{
    json_t *app = oakroot_find(root->apps, id);

    if (!app) {
        oakroot_message(request, 501, "User could not be deleted");
        return;
    }
    for (size_t i = json_array_size(root->services); i-- > 0;)
        if (fl_streq(fl_json_str(json_array_get(root->services, i), "applicationID"), id))
            (void)json_array_remove(root->services, i);
    oakroot_remove(root->apps, app);
    oakroot_message(request, 200, "Application Deleted");
}

static inline void oakroot_list_services(struct fake_root *root, struct fl_http_request *request,
                                         const char *app)
{
    FL_JSON some = json_array();
    json_t *service;
    size_t i;

    root->lists++;
    oakroot_step_all(root);
    json_array_foreach(root->services, i, service) {
        if (!app || fl_streq(fl_json_str(service, "applicationID"), app))
            (void)json_array_append(some, service);
    }
    oakroot_answer_quoted(request, some);
}

static inline void oakroot_list_clusters(struct fake_root *root, struct fl_http_request *request)
{
    FL_JSON none = json_array();

    root->clusters_asked++;
    oakroot_answer_quoted(request, root->shy_clusters ? none : root->clusters);
}

static inline bool oakroot_is_logged_in(struct fake_root *root, struct fl_http_request *request)
{
    char expected[64];

    (void)snprintf(expected, sizeof(expected), "Bearer token-%d", root->token);
    return fl_streq(fl_http_header(request, "Authorization"), expected) &&
           !oakroot_trap(&root->unauthorized);
}

static inline void oakroot_log_in(struct fake_root *root, struct fl_http_request *request,
                                  const json_t *body)
{
    char token[32];

    root->logins++;
    if (!fl_streq(fl_json_str(body, "username"), "Admin") ||
        !fl_streq(fl_json_str(body, "password"), "secret-password")) {
        oakroot_message(request, 401, "invalid username or password");
        return;
    }
    (void)snprintf(token, sizeof(token), "token-%d", ++root->token);
    oakroot_answer(request, 200, json_pack("{s:s, s:s}", "token", token, "refresh_token", "r"));
}

static inline void oakroot_service_call(struct fake_root *root, struct fl_http_request *request,
                                        const char *rest)
{
    bool deletes = strcmp(fl_http_method(request), "DELETE") == 0;
    size_t len = strcspn(rest, "/");
    char id[64];

    (void)snprintf(id, sizeof(id), "%.*s", (int)len, rest);
    if (fl_str_has_prefix(rest + len, "/instance/"))
        oakroot_undeploy(root, request, id, strtol(rest + len + 10, NULL, 10));
    else if (fl_streq(rest + len, "/instance"))
        oakroot_deploy(root, request, id);
    else if (deletes)
        oakroot_delete_service(root, request, id);
    else
        oakroot_message(request, 501, "Not implemented");
}

static inline void oakroot_free_ip(struct fake_root *root, struct fl_http_request *request)
{
    char ip[32];

    (void)snprintf(ip, sizeof(ip), "10.30.0.%d", 1 + ++root->next_ip % 250);
    oakroot_answer(
        request, 200,
        json_pack("{s:[{s:s, s:s}]}", "available_service_ips", "Address", ip, "IpType", "RR"));
}

static inline void oakroot_route(struct fake_root *root, struct fl_http_request *request,
                                 const json_t *body)
{
    const char *path = fl_http_path(request);
    bool posts = strcmp(fl_http_method(request), "POST") == 0;

    if (fl_streq(path, "/api/auth/login"))
        oakroot_log_in(root, request, body);
    else if (fl_streq(path, "/api/clusters/"))
        oakroot_list_clusters(root, request);
    else if (!oakroot_is_logged_in(root, request))
        oakroot_message(request, 401, "token expired");
    else if (fl_streq(path, "/api/applications/") || fl_streq(path, "/api/services/")) {
        if (root->not_admin)
            oakroot_message(request, 403, "not allowed");
        else if (fl_streq(path, "/api/services/"))
            oakroot_list_services(root, request, NULL);
        else
            oakroot_answer_quoted(request, root->apps);
    } else if (fl_streq(path, "/api/user/Admin"))
        oakroot_answer(request, 200, json_pack("{s:{s:s}}", "_id", "$oid", "u1"));
    else if (fl_streq(path, "/api/applications/u1"))
        oakroot_answer_quoted(request, root->apps);
    else if (fl_str_has_prefix(path, "/api/services/"))
        oakroot_list_services(root, request, path + strlen("/api/services/"));
    else if (fl_streq(path, "/api/application/") && posts)
        oakroot_create_app(root, request, body);
    else if (fl_streq(path, "/api/service/") && posts)
        oakroot_create_service(root, request, body);
    else if (fl_str_has_prefix(path, "/api/application/"))
        oakroot_delete_app(root, request, path + strlen("/api/application/"));
    else if (fl_str_has_prefix(path, "/api/service/"))
        oakroot_service_call(root, request, path + strlen("/api/service/"));
    else if (!root->no_addresses &&
             fl_str_has_prefix(path, "/api/pubnet/service/netinfo/available-ip/"))
        oakroot_free_ip(root, request);
    else
        oakroot_message(request, 404, "no such path");
}

static inline void oakroot_handle(void *user, struct fl_http_request *request)
{
    struct fake_root *root = user;
    FL_JSON body = NULL;
    size_t len = 0;
    const char *text = fl_http_body(request, &len);
    FL_LOCKED(root->lock);

    if (root->down) {
        fl_http_abort(request);
        return;
    }
    if (len > 0)
        assert_int_equal(fl_json_parse(text, len, NULL, NULL, NULL, &body, NULL), 0);
    oakroot_route(root, request, body);
}

/* Life */

static inline void oakroot_run(void *user)
{
    fl_loop_run(((struct fake_root *)user)->loop);
}

static inline void oakroot_add_cluster(struct fake_root *root, const char *name)
{
    char id[64];

    (void)snprintf(id, sizeof(id), "c-%s", name);
    (void)json_array_append_new(
        root->clusters,
        json_pack("{s:s, s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:[s], s:[s], s:[]}", "_id", id,
                  "candidate_name", name, "cluster_name", name, "cluster_location", "Garching",
                  "active", 1, "active_nodes", 2, "vcpus", 8, "memory", 16000, "virtualization",
                  "container", "supported_addons", "FLOps-learner", "csi_drivers"));
}

static inline struct fake_root *oakroot_begin(void)
{
    struct fake_root *root = test_calloc(1, sizeof(*root));
    struct fl_http_server_options options = {
        .address = "127.0.0.1", .handler = oakroot_handle, .user = root};

    root->env = fl_env_real(NULL);
    root->lock = fl_lock_create();
    root->apps = json_array();
    root->services = json_array();
    root->clusters = json_array();
    oakroot_add_cluster(root, "local");
    (void)snprintf(root->folder, sizeof(root->folder), "/tmp/flops-oakestra-XXXXXX");
    assert_non_null(mkdtemp(root->folder));
    assert_int_equal(fl_loop_create(&root->loop, NULL), 0);
    options.env = &root->env;
    options.loop = root->loop;
    assert_int_equal(fl_http_server_create(&options, &root->server, NULL), 0);
    (void)snprintf(root->endpoint, sizeof(root->endpoint), "http://127.0.0.1:%d",
                   fl_http_server_port(root->server));
    assert_int_equal(fl_thread_start("fake-root", oakroot_run, root, &root->thread, NULL), 0);
    return root;
}

static inline void oakroot_end(struct fake_root *root)
{
    fl_loop_stop(root->loop);
    fl_thread_join(root->thread);
    fl_http_server_destroy(root->server);
    fl_loop_destroy(root->loop);
    json_decref(root->apps);
    json_decref(root->services);
    json_decref(root->clusters);
    fl_lock_destroy(root->lock);
    assert_int_equal(fl_dir_remove(root->folder, NULL), 0);
    test_free(root);
}

/* The driver before it */

static inline int oakroot_credentials(void *user, const struct fl_orchestrator_spec *spec,
                                      struct fl_arena *arena, struct fl_oakestra_credentials *ret,
                                      struct fl_error *err)
{
    (void)user;
    (void)spec;
    (void)arena;
    (void)err;
    *ret = (struct fl_oakestra_credentials){.username = "Admin", .password = "secret-password"};
    return 0;
}

static inline struct fl_orchestrator_driver *oakroot_open(void *world, fl_run_changed_fn *changed,
                                                          void *user)
{
    struct fake_root *root = world;
    const struct fl_oakestra_options options = {
        .env = &root->env,
        .data_dir = root->folder,
        .name = "edge",
        .identity = "test",
        .credentials = oakroot_credentials,
        .changed = changed,
        .changed_user = user,
        .follow_ms = 5,
    };
    struct fl_orchestrator_driver *driver = NULL;
    struct fl_error err = {0};

    if (fl_oakestra_create(&options, &driver, &err) < 0)
        fail_msg("%s", err.msg);
    return driver;
}

static inline void oakroot_settings(void *world, struct fl_orchestrator_spec *spec)
{
    struct fake_root *root = world;

    spec->type = FL_ORCHESTRATOR_TYPE_OAKESTRA;
    spec->endpoint = root->endpoint;
    spec->poll_interval = "1s";
    spec->has_oakestra = true;
    spec->oakestra.network_endpoint = root->endpoint;
}

static inline void oakroot_behave(void *world, struct fl_arena *arena, enum behaviour behaviour,
                                  struct fl_workload_spec *spec)
{
    (void)world;
    spec->image = "example.org/test:1";
    spec->command.items = fl_new_array(arena, const char *, 2);
    spec->command.items[spec->command.count++] = "program";
    spec->command.items[spec->command.count++] = fl_arena_printf(arena, "%d", (int)behaviour);
}

static inline void *oakroot_world_begin(void)
{
    return oakroot_begin();
}

/* Asks for the end of all there is; false when there is nothing any more. */
static inline bool oakroot_clear(struct fl_orchestrator_driver *driver)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_string_list uids = {0};

    assert_int_equal(driver->ops->workloads(driver, arena, &uids, NULL), 0);
    for (size_t w = 0; w < uids.count; w++) {
        struct fl_run_list runs = {0};

        assert_int_equal(driver->ops->observe(driver, uids.items[w], arena, &runs, NULL), 0);
        for (size_t r = 0; r < runs.count; r++) {
            struct fl_run_id id = {uids.items[w], runs.items[r].index};

            assert_int_equal(driver->ops->stop(driver, &id, 0, "Stopped", NULL), 0);
            (void)driver->ops->remove(driver, &id, NULL);
        }
    }
    return uids.count > 0;
}

static inline bool oakroot_is_empty(struct fake_root *root)
{
    FL_LOCKED(root->lock);

    return json_array_size(root->services) == 0 && json_array_size(root->apps) == 0;
}

/* Whatever happened before: it can all be removed, and then nothing of it is left at the root nor,
 * forgotten by it, on a node. */
static inline void oakroot_world_end(void *world)
{
    struct fake_root *root = world;
    struct fl_orchestrator_driver *driver = oakroot_open(world, NULL, NULL);
    struct fl_orchestrator_spec spec = {0};
    unsigned i;

    oakroot_settings(world, &spec);
    assert_int_equal(driver->ops->configure(driver, &spec, NULL), 0);
    for (i = 0; (oakroot_clear(driver) || !oakroot_is_empty(root)) && i < 6000; i++)
        (void)usleep(5000);
    assert_true(i < 6000);
    driver->ops->destroy(driver);
    assert_int_equal(root->wiped, 0);
    assert_int_equal(root->leaked, 0);
    oakroot_end(root);
}

static inline void oakroot_let_pass(void *world)
{
    (void)world;
    (void)usleep(5000);
}

static const struct harness oakestra_harness = {
    .name = "oakestra",
    .begin = oakroot_world_begin,
    .end = oakroot_world_end,
    .open = oakroot_open,
    .settle = oakroot_settings,
    .behave = oakroot_behave,
    .let_pass = oakroot_let_pass,
    .patience = 6000,
    .fetches = true,
    .tells_no_codes = true,
};

#endif
