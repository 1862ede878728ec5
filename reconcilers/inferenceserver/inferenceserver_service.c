/* What the Workloads of an InferenceServer look like. */
#include "api/quantity.h"
#include "lib/digest.h"
#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver_internal.h"

#include <inttypes.h>
#include <math.h>

#define ARGS_MAX      48
#define FILES_MAX     6
#define REVISION_SIZE 10
#define STATE_FOLDER  "state"
#define IN_IMAGE      "/var/lib/flops" /* where an image of code has no files of its own */
#define PREDICTOR     "flops-trainer"

static void add_arg(struct fl_workload_spec *spec, const char *arg)
{
    if (spec->args.count < ARGS_MAX)
        spec->args.items[spec->args.count++] = arg;
}

static void add_option(struct fl_workload_spec *spec, const char *option, const char *value)
{
    if (!value)
        return;
    add_arg(spec, option);
    add_arg(spec, value);
}

static void add_number(struct fl_serving_view *view, struct fl_workload_spec *spec,
                       const char *option, int64_t number)
{
    add_option(spec, option, fl_arena_printf(view->rc->arena, "%" PRId64, number));
}

static void add_size(struct fl_serving_view *view, struct fl_workload_spec *spec,
                     const char *option, const char *quantity)
{
    int64_t bytes = 0;

    if (quantity && fl_quantity_parse(quantity, 1, &bytes) && bytes > 0)
        add_number(view, spec, option, bytes);
}

static void add_secret_file(struct fl_workload_spec *spec, const char *path, const char *secret,
                            const char *key)
{
    spec->files.items[spec->files.count++] =
        (struct fl_workload_file){.path = path,
                                  .has_secret_key_ref = true,
                                  .secret_key_ref = {.name = secret, .key = key},
                                  .mode = "0400"};
}

static void add_file(struct fl_workload_spec *spec, const char *path, const char *content)
{
    spec->files.items[spec->files.count++] =
        (struct fl_workload_file){.path = path, .content = content, .mode = "0400"};
}

static void add_port(struct fl_workload_spec *spec, const char *name, int64_t port,
                     enum fl_workload_port_expose expose)
{
    spec->ports.items[spec->ports.count++] = (struct fl_workload_port){
        .name = name, .port = port, .protocol = FL_WORKLOAD_PORT_PROTOCOL_TCP, .expose = expose};
}

static struct fl_workload *new_workload(struct fl_serving_view *view)
{
    struct fl_arena *arena = view->rc->arena;
    struct fl_workload *workload = fl_object_new(&fl_workload_type, arena);
    struct fl_workload_spec *spec = &workload->spec;

    spec->orchestrator = view->server->spec.orchestrator;
    spec->role = FL_WORKLOAD_ROLE_INFERENCE_SERVER;
    spec->args.items = fl_new_array(arena, const char *, ARGS_MAX);
    spec->files.items = fl_new_array(arena, struct fl_workload_file, FILES_MAX);
    spec->mounts.items = fl_new_array(arena, struct fl_workload_mount, 1);
    spec->ports.items = fl_new_array(arena, struct fl_workload_port, 2);
    spec->grace_period = view->server->spec.grace_period;
    spec->restart = (struct fl_workload_restart){
        .limit = 1000000, .initial_delay = "200ms", .max_delay = "10s", .reset_after = "1m"};
    spec->start_deadline = "30m"; /* the roll-out has a deadline of its own */
    return workload;
}

static struct fl_probe http_probe(const char *path, const char *port, bool tls)
{
    return (struct fl_probe){
        .has_http = true,
        .http = {.path = path,
                 .port = port,
                 .scheme = tls ? FL_PROBE_HTTP_SCHEME_HTTPS : FL_PROBE_HTTP_SCHEME_HTTP},
        .initial_delay = "0s",
        .period = "50ms",
        .timeout = "1s",
        .failure_threshold = 10000,
        .success_threshold = 1};
}

/* Often until it is up, since others wait for it; seldom then. */
static void put_probes(struct fl_workload_spec *spec, const char *path, const char *port)
{
    spec->has_probes = spec->probes.has_startup = spec->probes.has_readiness = true;
    spec->probes.startup = spec->probes.readiness = http_probe(path, port, false);
    spec->probes.readiness.period = "2s";
    spec->probes.readiness.failure_threshold = 3;
}

static const char *program_image(const struct fl_serving_view *view)
{
    return json_string_value(
        json_object_get(view->server->meta.annotations, FL_SERVING_PROGRAM_IMAGE));
}

/* A file or folder of the run's: below its working folder, which in some images holds the code. */
static const char *place(const struct fl_serving_view *view, const char *name)
{
    return view->model.code_image ? fl_arena_printf(view->rc->arena, IN_IMAGE "/%s", name) : name;
}

/* An image's entry point is this program. */
static void put_program(struct fl_serving_view *view, struct fl_workload_spec *spec)
{
    spec->image = program_image(view);
    spec->has_process = !spec->image;
    spec->process.program = spec->image ? NULL : "flops";
}

/* A list that is told empty is owned by nobody, and would be told again in each pass. */
static void drop_empty_lists(struct fl_workload_spec *spec)
{
    if (spec->args.count == 0)
        spec->args.items = NULL;
    if (spec->files.count == 0)
        spec->files.items = NULL;
    if (spec->mounts.count == 0)
        spec->mounts.items = NULL;
}

/* Servers */

const char *fl_serving_set_role(struct fl_arena *arena, const char *revision)
{
    return fl_arena_printf(arena, "servers-%s", revision);
}

/* Model and settings: whatever of the spec makes other servers. */
const char *fl_serving_revision(struct fl_serving_view *view)
{
    static const char *const parts[] = {"protocols", "batching",     "limits",       "env",
                                        "resources", "nodeSelector", "orchestrator", "gracePeriod"};
    const json_t *spec = json_object_get(view->rc->json, "spec");
    FL_JSON of = json_object();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    char digest[FL_DIGEST_SIZE];

    for (size_t i = 0; i < FL_COUNT_OF(parts); i++)
        if (json_object_get(spec, parts[i]))
            (void)json_object_set(of, parts[i], json_object_get(spec, parts[i]));
    fl_json_set_str(of, "name", view->model.name);
    fl_json_set_str(of, "digest", view->model.digest);
    fl_json_set_str(of, "uri", view->model.uri);
    fl_json_set_str(of, "image", view->model.image);
    fl_json_set_str(of, "program", program_image(view));
    fl_json_set_str(of, "code", view->model.code_image);
    fl_json_set_str(of, "entrypoint", view->model.entrypoint);
    text = fl_json_to_bytes(of);
    fl_digest_of(text->data, text->len, digest);
    return fl_arena_strndup(view->rc->arena, digest + strlen("sha256:"), REVISION_SIZE);
}

static const char *protocols_of(struct fl_serving_view *view)
{
    static const char *const names[] = {
        [FL_INFERENCESERVER_PROTOCOL_UNSET] = "",
        [FL_INFERENCESERVER_PROTOCOL_OPEN_INFERENCE] = "OpenInference",
        [FL_INFERENCESERVER_PROTOCOL_MLFLOW] = "MLflow",
        [FL_INFERENCESERVER_PROTOCOL_KSERVE_V1] = "KServeV1",
    };
    const struct fl_inferenceserver_protocol_list *list = &view->server->spec.protocols;
    const char *text = "";

    for (size_t i = 0; i < list->count; i++)
        text = fl_arena_printf(view->rc->arena, "%s%s%s", text, i > 0 ? "," : "",
                               names[list->items[i]]);
    return *text ? text : NULL;
}

static void put_model(struct fl_serving_view *view, struct fl_workload_spec *spec,
                      const char *secret, const struct fl_content_grant *grant)
{
    add_option(spec, "--name", view->model.name);
    add_option(spec, "--model-url", grant->url);
    add_option(spec, "--digest", view->model.digest);
    if (grant->token) {
        add_secret_file(spec, place(view, FL_SERVING_TOKEN_FILE), secret, "token");
        add_option(spec, "--token-file", place(view, FL_SERVING_TOKEN_FILE));
    }
    if (grant->ca_pem) {
        add_file(spec, place(view, "ca.crt"), grant->ca_pem);
        add_option(spec, "--ca", place(view, "ca.crt"));
    }
}

/* What predicts in an image of code is a program of its own. It comes last. */
static void put_code(struct fl_serving_view *view, struct fl_workload_spec *spec)
{
    const struct fl_serving_model *model = &view->model;

    if (!model->code_image)
        return;
    spec->image = model->code_image;
    spec->has_process = false;
    spec->process.program = NULL;
    spec->has_image_pull_secret = model->pull_secret != NULL;
    spec->image_pull_secret.name = model->pull_secret;
    add_arg(spec, "--");
    add_arg(spec, PREDICTOR);
    add_option(spec, "--entrypoint", model->entrypoint);
}

static void put_limits(struct fl_serving_view *view, struct fl_workload_spec *spec)
{
    const struct fl_inferenceserver_spec *server = &view->server->spec;

    add_option(spec, "--protocols", protocols_of(view));
    add_size(view, spec, "--max-body", server->limits.max_request_size);
    add_number(view, spec, "--max-concurrency", server->limits.max_concurrency);
    add_option(spec, "--timeout", server->limits.timeout);
    if (server->has_batching) {
        add_number(view, spec, "--batch-size", server->batching.max_size);
        add_option(spec, "--batch-delay", server->batching.max_delay);
    }
}

struct fl_workload *fl_serving_new_set(struct fl_serving_view *view, const char *revision,
                                       const char *secret, const struct fl_content_grant *grant)
{
    struct fl_workload *workload = new_workload(view);
    struct fl_workload_spec *spec = &workload->spec;

    (void)revision;
    add_port(spec, "http", 0, FL_WORKLOAD_PORT_EXPOSE_LOCAL);
    put_probes(spec, "/v2/health/ready", "http");
    if (view->model.image) {
        spec->image = view->model.image;
    } else {
        put_program(view, spec);
        add_arg(spec, "serve");
        add_option(spec, "--port-env", "PORT_HTTP");
        add_option(spec, "--folder", place(view, STATE_FOLDER));
        spec->mounts.items[spec->mounts.count++] = (struct fl_workload_mount){
            .path = place(view, STATE_FOLDER), .type = FL_WORKLOAD_MOUNT_TYPE_STATE};
        put_model(view, spec, secret, grant);
        put_limits(view, spec);
        put_code(view, spec);
    }
    spec->env = view->server->spec.env;
    spec->has_resources = view->server->spec.has_resources;
    spec->resources = view->server->spec.resources;
    spec->has_placement = view->server->spec.node_selector.count > 0;
    spec->placement.node_selector = view->server->spec.node_selector;
    drop_empty_lists(spec);
    return workload;
}

void fl_serving_mark_set(struct fl_serving_view *view, struct fl_workload *set,
                         const struct fl_serving_wish *wish)
{
    json_t *labels = json_pack("{s:s}", FL_SERVING_REVISION_LABEL, wish->revision),
           *notes =
               set->meta.annotations ? json_copy((json_t *)set->meta.annotations) : json_object();
    static const char *const passing[] = {"flops.dev/stable", "flops.dev/rejected",
                                          "flops.dev/rejected-why", "flops.dev/replicas"};

    for (size_t i = 0; i < FL_COUNT_OF(passing); i++)
        (void)json_object_del(notes, passing[i]);
    if (wish->stable)
        fl_json_set_str(notes, "flops.dev/stable", "true");
    if (view->world.autoscale)
        fl_json_set_str(notes, "flops.dev/replicas",
                        fl_arena_printf(view->rc->arena, "%" PRId64, view->world.replicas));
    fl_json_set_str(notes, "flops.dev/rejected", wish->rejected);
    fl_json_set_str(notes, "flops.dev/rejected-why", wish->rejected_why);
    set->meta.labels = fl_json_in_arena(view->rc->arena, labels);
    set->meta.annotations = fl_json_in_arena(view->rc->arena, notes);
    set->spec.instances = wish->instances;
    set->spec.suspend = false;
}

/* The router */

static void put_clients_terms(struct fl_serving_view *view, struct fl_workload_spec *spec,
                              const char *secret)
{
    const struct fl_inferenceserver_spec *server = &view->server->spec;

    if (server->has_tls_secret) {
        add_secret_file(spec, "tls.crt", server->tls_secret.name, "tls.crt");
        add_secret_file(spec, "tls.key", server->tls_secret.name, "tls.key");
        add_option(spec, "--tls-cert", "tls.crt");
        add_option(spec, "--tls-key", "tls.key");
    }
    if (server->has_tokens_secret) {
        add_secret_file(spec, "tokens", secret, "tokens");
        add_option(spec, "--tokens-file", "tokens");
    }
    add_size(view, spec, "--max-body", server->limits.max_request_size);
    add_option(spec, "--timeout", server->limits.timeout);
}

struct fl_workload *fl_serving_new_router(struct fl_serving_view *view, const char *secret)
{
    struct fl_workload *workload = new_workload(view);
    struct fl_workload_spec *spec = &workload->spec;
    const bool network = view->server->spec.expose == FL_INFERENCESERVER_EXPOSE_NETWORK;

    put_program(view, spec);
    add_arg(spec, "router");
    add_option(spec, "--listen", network ? "0.0.0.0:0" : "127.0.0.1:0");
    add_option(spec, "--port-env", "PORT_HTTP");
    add_option(spec, "--admin-port-env", "PORT_ADMIN");
    add_secret_file(spec, "admin.token", secret, "admin.token");
    add_option(spec, "--admin-token-file", "admin.token");
    add_option(spec, "--folder", STATE_FOLDER);
    put_clients_terms(view, spec, secret);
    spec->mounts.items[spec->mounts.count++] =
        (struct fl_workload_mount){.path = STATE_FOLDER, .type = FL_WORKLOAD_MOUNT_TYPE_STATE};
    add_port(spec, "http", view->server->spec.port,
             network ? FL_WORKLOAD_PORT_EXPOSE_NETWORK : FL_WORKLOAD_PORT_EXPOSE_LOCAL);
    add_port(spec, "admin", 0, FL_WORKLOAD_PORT_EXPOSE_LOCAL);
    put_probes(spec, "/healthz", "admin");
    spec->instances = 1;
    return workload;
}

/* Addresses */

static int64_t port_of(const struct fl_workload_status_instance *instance, const char *name)
{
    for (size_t i = 0; i < instance->ports.count; i++)
        if (fl_streq(instance->ports.items[i].name, name))
            return instance->ports.items[i].host_port > 0 ? instance->ports.items[i].host_port
                                                          : instance->ports.items[i].port;
    return 0;
}

const char *fl_serving_address(struct fl_arena *arena, const struct fl_workload *workload,
                               const char *port, const char *scheme)
{
    const struct fl_workload_status_instance_list *list = &workload->status.instances;

    for (size_t i = 0; i < list->count; i++) {
        const struct fl_workload_status_instance *instance = &list->items[i];
        const int64_t number = port_of(instance, port);

        if (instance->address && number > 0)
            return fl_arena_printf(
                arena, strchr(instance->address, ':') ? "%s://[%s]:%" PRId64 : "%s://%s:%" PRId64,
                scheme, instance->address, number);
    }
    return NULL;
}
