/* What the Workloads of a federation look like. */
#include "reconcilers/flproject/flproject_internal.h"

#include "controller/runtime/reconcile.h"
#include "lib/str.h"
#include "reconcilers/federation/where.h"

#include <inttypes.h>
#include <stdarg.h>

#define STATE_FOLDER "state"
#define DATA_FOLDER  "data"
#define IN_IMAGE     "/var/lib/flops" /* where an image's own files are not */
#define TRAINER      "/usr/bin/flops-trainer"
#define ARGS_MAX     (30 + 2 * 64)

struct dress {
    const struct fl_flproject_plan_input *input;
    const struct fl_project *project;
    struct fl_arena *arena;
};

struct fl_workload *fl_flproject_new_workload(const struct fl_flproject_plan_input *input,
                                              struct fl_arena *arena)
{
    struct fl_workload *workload = fl_object_new(&fl_workload_type, arena);

    workload->spec.orchestrator = input->project->spec.orchestrator;
    return workload;
}

static struct fl_workload *find_current(const struct dress *dress, const char *role)
{
    const char *name =
        fl_child_name(dress->arena, dress->project->meta.name, dress->project->meta.uid, role);

    for (size_t i = 0; i < dress->input->workload_count; i++)
        if (fl_streq(dress->input->workloads[i]->meta.name, name))
            return dress->input->workloads[i];
    return NULL;
}

/* Arguments */

static void add_arg(struct fl_workload_spec *spec, const char *arg)
{
    if (spec->args.count < ARGS_MAX)
        spec->args.items[spec->args.count++] = arg;
}

static void add_option(struct fl_workload_spec *spec, const char *option, const char *value)
{
    add_arg(spec, option);
    add_arg(spec, value);
}

static const char *option_of(const struct fl_workload *workload, const char *option)
{
    const struct fl_string_list *args = &workload->spec.args;

    for (size_t i = 0; i + 1 < args->count; i++)
        if (strcmp(args->items[i], option) == 0)
            return args->items[i + 1];
    return NULL;
}

/* Where the one above is: as it says now, or as this one was told before. NULL: not known yet. */
static const char *address_above(const struct fl_flproject_service *service, const char *option)
{
    if (service->parent && service->parent->address)
        return service->parent->address;
    return service->current ? option_of(service->current, option) : NULL;
}

/* What all have */

/* An image's entry point is this program. */
static void put_program(struct dress *dress, struct fl_workload_spec *spec)
{
    spec->args.items = fl_new_array(dress->arena, const char *, ARGS_MAX);
    spec->image = spec->role == FL_WORKLOAD_ROLE_LEARNER ? dress->input->learner_image
                                                         : dress->input->aggregator_image;
    if (spec->image) {
        if (dress->project->spec.build.has_registry &&
            dress->project->spec.build.registry.has_credentials_secret) {
            spec->has_image_pull_secret = true;
            spec->image_pull_secret = dress->project->spec.build.registry.credentials_secret;
        }
        return;
    }
    spec->has_process = true;
    spec->process.program = "flops";
}

/* A file or folder of the run's: below its working folder, which in an image holds the code. */
static const char *place(struct dress *dress, const struct fl_workload_spec *spec, const char *name)
{
    return spec->image ? fl_arena_printf(dress->arena, IN_IMAGE "/%s", name) : name;
}

static void add_mount(struct dress *dress, struct fl_workload_spec *spec, const char *path,
                      enum fl_workload_mount_type type)
{
    if (!spec->mounts.items)
        spec->mounts.items = fl_new_array(dress->arena, struct fl_workload_mount, 2);
    spec->mounts.items[spec->mounts.count++] =
        (struct fl_workload_mount){.path = path, .type = type};
}

/* Aggregators */

static void put_token(struct dress *dress, struct fl_workload_spec *spec)
{
    spec->files.items = fl_new_array(dress->arena, struct fl_workload_file, 1);
    spec->files.items[spec->files.count++] = (struct fl_workload_file){
        .path = place(dress, spec, FL_FLPROJECT_TOKEN),
        .has_secret_key_ref = true,
        .secret_key_ref = {.name = fl_child_name(dress->arena, dress->project->meta.name,
                                                 dress->project->meta.uid, FL_FLPROJECT_SECRET),
                           .key = FL_FLPROJECT_TOKEN},
        .mode = "0400",
    };
}

static void put_port(struct dress *dress, struct fl_workload_spec *spec)
{
    spec->ports.items = fl_new_array(dress->arena, struct fl_workload_port, 1);
    spec->ports.items[spec->ports.count++] =
        (struct fl_workload_port){.name = "http",
                                  .protocol = FL_WORKLOAD_PORT_PROTOCOL_TCP,
                                  .expose = FL_WORKLOAD_PORT_EXPOSE_LOCAL};
}

/* Often until it is up, since others wait for it; seldom then. */
static void put_probes(struct fl_workload_spec *spec)
{
    const struct fl_probe probe = {
        .has_tcp = true,
        .tcp = {.port = "http"},
        .initial_delay = "0s",
        .period = "50ms",
        .timeout = "1s",
        .failure_threshold = 1200,
        .success_threshold = 1,
    };

    spec->has_probes = true;
    spec->probes.has_startup = spec->probes.has_readiness = true;
    spec->probes.startup = spec->probes.readiness = probe;
    spec->probes.readiness.period = "5s";
    spec->probes.readiness.failure_threshold = 3;
}

/* An aggregator holds the training: it is started again for as long as the project wants it. */
static void put_patience(struct fl_workload_spec *spec)
{
    spec->restart.limit = 1000000;
    spec->restart.initial_delay = "200ms";
    spec->restart.max_delay = "10s";
    spec->restart.reset_after = "1m";
}

static void dress_aggregator(struct dress *dress, struct fl_flproject_service *service)
{
    const struct fl_project_spec *project = &dress->project->spec;
    struct fl_workload_spec *spec = &service->workload->spec;
    const char *parent = address_above(service, "--parent");

    if (service->parent && !parent) {
        service->workload = NULL;
        return;
    }
    spec->role = FL_WORKLOAD_ROLE_AGGREGATOR;
    put_program(dress, spec);
    add_arg(spec, "aggregator");
    add_option(spec, "--folder", place(dress, spec, STATE_FOLDER));
    add_option(spec, "--name", service->id);
    add_option(spec, "--project", fl_federation_name(dress->arena, &dress->project->meta));
    add_option(spec, "--port-env", "PORT_HTTP");
    add_option(spec, "--token-file", place(dress, spec, FL_FLPROJECT_TOKEN));
    if (parent)
        add_option(spec, "--parent", parent);
    add_mount(dress, spec, place(dress, spec, STATE_FOLDER), FL_WORKLOAD_MOUNT_TYPE_STATE);
    put_token(dress, spec);
    put_port(dress, spec);
    put_probes(spec);
    put_patience(spec);
    spec->has_resources = project->has_resources && project->resources.has_aggregator;
    spec->resources = project->resources.aggregator;
}

/* Learners */

static const char *builtin_options(struct dress *dress)
{
    const json_t *options = fl_json_path(dress->input->json, "spec.source.builtin.options");

    return options ? fl_json_to_string(dress->arena, options) : NULL;
}

static const char *trainer_name(const struct fl_project *project)
{
    static const char *const names[] = {
        [FL_PROJECT_SOURCE_BUILTIN_TRAINER_SOFTMAX_REGRESSION] = "SoftmaxRegression",
        [FL_PROJECT_SOURCE_BUILTIN_TRAINER_MLP] = "MLP",
        [FL_PROJECT_SOURCE_BUILTIN_TRAINER_CNN] = "CNN",
    };

    return names[project->spec.source.builtin.trainer];
}

static void put_training(struct dress *dress, struct fl_workload_spec *spec)
{
    const struct fl_project_spec *project = &dress->project->spec;
    const char *options = builtin_options(dress);

    for (size_t i = 0; i < project->data.tags.count; i++)
        add_option(spec, "--data", project->data.tags.items[i]);
    if (!project->source.has_builtin)
        return;
    add_option(spec, "--holdout", fl_str_or(project->data.holdout, "0"));
    add_option(spec, "--trainer", trainer_name(dress->project));
    if (options)
        add_option(spec, "--options", options);
}

/* What trains in an image is a program of its own. It comes last. */
static void put_trainer(struct dress *dress, struct fl_workload_spec *spec)
{
    const struct fl_project_source *source = &dress->project->spec.source;

    if (source->has_builtin)
        return;
    add_arg(spec, "--");
    add_arg(spec, TRAINER);
    if (source->has_git && source->git.entrypoint)
        add_option(spec, "--entrypoint", source->git.entrypoint);
}

static void put_learner_policy(struct dress *dress, struct fl_workload_spec *spec)
{
    static const enum fl_workload_restart_policy policies[] = {
        [FL_PROJECT_LEARNERS_RESTART_POLICY_UNSET] = FL_WORKLOAD_RESTART_POLICY_ALWAYS,
        [FL_PROJECT_LEARNERS_RESTART_POLICY_ALWAYS] = FL_WORKLOAD_RESTART_POLICY_ALWAYS,
        [FL_PROJECT_LEARNERS_RESTART_POLICY_ON_FAILURE] = FL_WORKLOAD_RESTART_POLICY_ON_FAILURE,
        [FL_PROJECT_LEARNERS_RESTART_POLICY_NEVER] = FL_WORKLOAD_RESTART_POLICY_NEVER,
    };
    const struct fl_project_spec *project = &dress->project->spec;

    spec->restart_policy = policies[project->learners.restart_policy];
    spec->restart.limit = project->learners.restart_limit;
    spec->restart.initial_delay = "500ms";
    spec->restart.max_delay = "30s";
    spec->restart.reset_after = "10m";
    spec->grace_period = project->learners.grace_period;
    spec->env = project->learners.env;
    spec->has_resources = project->has_resources && project->resources.has_learner;
    spec->resources = project->resources.learner;
}

static void dress_learners(struct dress *dress, struct fl_flproject_service *service)
{
    struct fl_workload_spec *spec = &service->workload->spec;
    const char *above = address_above(service, "--aggregator");

    if (!above) {
        service->workload = NULL;
        return;
    }
    spec->role = FL_WORKLOAD_ROLE_LEARNER;
    put_program(dress, spec);
    add_arg(spec, "learner");
    add_option(spec, "--aggregator", above);
    add_option(spec, "--project", fl_federation_name(dress->arena, &dress->project->meta));
    add_option(spec, "--first", fl_arena_printf(dress->arena, "%" PRId64, service->first));
    put_training(dress, spec);
    add_option(spec, "--data-dir", spec->image ? IN_IMAGE : ".");
    add_option(spec, "--folder", place(dress, spec, STATE_FOLDER));
    add_mount(dress, spec, place(dress, spec, DATA_FOLDER), FL_WORKLOAD_MOUNT_TYPE_DATA);
    add_mount(dress, spec, place(dress, spec, STATE_FOLDER), FL_WORKLOAD_MOUNT_TYPE_STATE);
    put_trainer(dress, spec);
    spec->instances = service->desired;
    put_learner_policy(dress, spec);
}

/* What runs */

const char *fl_flproject_address(const struct fl_workload *workload, struct fl_arena *arena)
{
    const struct fl_workload_status_instance_list *list = &workload->status.instances;
    const struct fl_workload_status_instance *first = list->count > 0 ? &list->items[0] : NULL;

    if (!first || !first->address || first->ports.count == 0)
        return NULL;
    if (strchr(first->address, ':'))
        return fl_arena_printf(arena, "http://[%s]:%" PRId64, first->address,
                               first->ports.items[0].port);
    return fl_arena_printf(arena, "http://%s:%" PRId64, first->address, first->ports.items[0].port);
}

static void look_at(struct dress *dress, struct fl_flproject_service *service)
{
    const struct fl_workload *workload = find_current(dress, service->role);

    service->current = workload;
    if (!workload)
        return;
    service->ready = workload->status.has_replicas ? workload->status.replicas.ready : 0;
    if (service->id)
        service->address = fl_flproject_address(workload, dress->arena);
}

/* Learners go first, while those they say goodbye to are there. */
static bool learners_live(const struct fl_flproject_plan_input *input)
{
    for (size_t i = 0; i < input->workload_count; i++)
        if (input->workloads[i]->spec.role == FL_WORKLOAD_ROLE_LEARNER &&
            input->workloads[i]->status.has_replicas &&
            input->workloads[i]->status.replicas.current > 0)
            return true;
    return false;
}

void fl_flproject_dress(const struct fl_flproject_plan_input *input, struct fl_arena *arena,
                        struct fl_flproject_services *services)
{
    struct dress dress = {.input = input, .project = input->project, .arena = arena};
    bool waits = learners_live(input);

    for (size_t i = 0; i < services->count; i++) {
        struct fl_flproject_service *service = &services->items[i];

        look_at(&dress, service);
        service->workload->spec.suspend = input->pause && !(service->id && waits);
        if (service->id)
            dress_aggregator(&dress, service);
        else
            dress_learners(&dress, service);
    }
}
