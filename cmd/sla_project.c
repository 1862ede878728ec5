#include "cmd/sla_project.h"

#include "api/field.h"
#include "controller/runtime/reconcile.h"
#include "lib/str.h"
#include "reconcilers/flproject/flproject_plan.h"

#define TURNS_MAX 16 /* tiers and learners, each a turn after those they connect to */

struct planning {
    struct fl_arena *arena;
    struct fl_project *project;
    struct fl_flproject_plan_input input;
    struct fl_workload **made;
    size_t count;
    fl_sla_each_fn *each;
    void *user;
};

static struct fl_flproject_node *make_nodes(struct planning *p, const struct fl_words *clusters)
{
    struct fl_flproject_node *nodes =
        fl_new_array(p->arena, struct fl_flproject_node, clusters->count + 1);

    for (size_t i = 0; i < clusters->count; i++) {
        struct fl_string_map labels = {fl_alloc_array(p->arena, 1, sizeof(*labels.items)), 1};

        labels.items[0].key = "flops.dev/cluster";
        labels.items[0].value = clusters->items[i];
        nodes[i] = (struct fl_flproject_node){.cluster = clusters->items[i],
                                              .name = clusters->items[i],
                                              .labels = labels,
                                              .data_tags = p->project->spec.data.tags,
                                              .ready = true};
    }
    return nodes;
}

static bool is_made(const struct planning *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (fl_streq(p->made[i]->meta.name, name))
            return true;
    return false;
}

/* As if it ran, so that those below it have somewhere to connect to. */
static void pretend(struct planning *p, struct fl_workload *workload, int64_t port)
{
    struct fl_workload_status_instance *instance =
        fl_new(p->arena, struct fl_workload_status_instance);

    instance->address = fl_arena_printf(p->arena, "<%s>", workload->meta.name);
    instance->ports.items = fl_alloc_array(p->arena, 1, sizeof(*instance->ports.items));
    instance->ports.items[0].port = port;
    instance->ports.count = 1;
    workload->status.instances.items = instance;
    workload->status.instances.count = 1;
    p->made[p->count++] = workload;
}

static int make_one(struct planning *p, const struct fl_flproject_service *service, bool *ret_more,
                    struct fl_error *err)
{
    const struct fl_object_meta *meta = &p->project->meta;
    const char *name = fl_child_name(p->arena, meta->name, meta->uid, service->role);
    struct fl_workload *workload = service->workload;
    int64_t port = 0;
    int r;

    if (!workload || is_made(p, name))
        return 0;
    workload->meta.name = name;
    workload->meta.namespace = meta->namespace;
    r = p->each(p->user, workload, &port, err);
    if (r < 0)
        return fl_error_wrap(err, "Workload %s", name);
    pretend(p, workload, port);
    *ret_more = true;
    return 0;
}

static int make_turn(struct planning *p, bool *ret_more, struct fl_error *err)
{
    struct fl_flproject_plan plan;
    struct fl_workload **made;
    int r = 0;

    *ret_more = false;
    p->input.workloads = p->made;
    p->input.workload_count = p->count;
    fl_flproject_plan(&p->input, p->arena, &plan);
    made = fl_new_array(p->arena, struct fl_workload *, p->count + plan.services.count);
    for (size_t i = 0; i < p->count; i++)
        made[i] = p->made[i];
    p->made = made;
    for (size_t i = 0; r == 0 && i < plan.services.count; i++)
        r = make_one(p, &plan.services.items[i], ret_more, err);
    return r;
}

int fl_sla_project(const json_t *object, const struct fl_words *clusters, struct fl_arena *arena,
                   fl_sla_each_fn *each, void *user, struct fl_error *err)
{
    struct planning p = {.arena = arena, .each = each, .user = user};
    void *decoded = NULL;
    bool more = true;
    int r = fl_object_decode(&fl_project_type, object, arena, &decoded, err);

    if (r < 0)
        return r;
    p.project = decoded;
    if (!p.project->meta.uid)
        p.project->meta.uid = p.project->meta.name;
    p.input = (struct fl_flproject_plan_input){
        .json = object,
        .project = p.project,
        .nodes = make_nodes(&p, clusters),
        .node_count = clusters->count,
        .learner_image = p.project->spec.source.image,
    };
    for (int turn = 0; r == 0 && more && turn < TURNS_MAX; turn++)
        r = make_turn(&p, &more, err);
    return r;
}
