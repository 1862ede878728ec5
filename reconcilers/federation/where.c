#include "reconcilers/federation/where.h"

#include "controller/runtime/manager.h"
#include "lib/str.h"

#include <inttypes.h>
#include <string.h>

const char *fl_federation_name(struct fl_arena *arena, const struct fl_object_meta *project)
{
    return fl_child_name(arena, project->name, project->uid, "fl");
}

static const char *address_of(const struct fl_workload *root, struct fl_arena *arena)
{
    const struct fl_workload_status_instance_list *list = &root->status.instances;
    const struct fl_workload_status_instance *first = list->count > 0 ? &list->items[0] : NULL;
    const char *host = first ? first->address : NULL;

    if (host && strchr(host, ':'))
        host = fl_arena_printf(arena, "[%s]", host);
    for (size_t i = 0; host && i < first->ports.count; i++)
        if (fl_streq(first->ports.items[i].name, "http"))
            return fl_arena_printf(arena, "http://%s:%" PRId64, host, first->ports.items[i].port);
    return NULL;
}

static const char *read_token(struct fl_reconcile *rc, const struct fl_object_meta *project)
{
    const char *name = fl_child_name(rc->arena, project->name, project->uid, FL_FEDERATION_SECRET);
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object =
        fl_cache_get(fl_manager_cache(rc->manager, &fl_gvr_secrets), project->namespace, name);
    FL_JSON json = object ? fl_object_parse(object) : NULL;
    const char *text =
        json_string_value(json_object_get(json_object_get(json, "data"), FL_FEDERATION_TOKEN));
    char *token = NULL;
    size_t len;

    if (!text || !fl_base64_decode(rc->arena, text, strlen(text), &token, &len) || len == 0)
        return NULL;
    return token;
}

int fl_federation_where(struct fl_reconcile *rc, const struct fl_object_meta *project,
                        struct fl_federation_at *ret_at, const char **ret_why, struct fl_error *err)
{
    const char *name = fl_child_name(rc->arena, project->name, project->uid, FL_FEDERATION_ROOT);
    void *root = NULL;
    int r = fl_read_cached(rc, &fl_workload_type, project->namespace, name, &root, err);

    if (r == FL_E_NOT_FOUND) {
        *ret_why = "the root aggregator is not there yet";
        return 1;
    }
    if (r < 0)
        return r;
    *ret_at = (struct fl_federation_at){.project_uid = project->uid,
                                        .ns = project->namespace,
                                        .name = project->name,
                                        .address = address_of(root, rc->arena),
                                        .token = read_token(rc, project)};
    if (!ret_at->address || !ret_at->token) {
        *ret_why = ret_at->address ? "the token of the control interface is not there yet"
                                   : "the root aggregator has no address yet";
        return 1;
    }
    return 0;
}
