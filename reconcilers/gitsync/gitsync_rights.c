#include "controller/source/access.h"
#include "reconcilers/gitsync/gitsync_internal.h"

#define MANAGED_BY "app.kubernetes.io/managed-by"

static bool is_trusted(const struct fl_sync *sync)
{
    return strcmp(sync->ns, FL_SYSTEM_NAMESPACE) == 0;
}

static const char *user_of(struct fl_sync *sync)
{
    return fl_arena_printf(sync->rc->arena, "system:gitsync:%s:%s", sync->ns, sync->name);
}

static const char *group_of(struct fl_sync *sync)
{
    return fl_arena_printf(sync->rc->arena, "system:gitsyncs:%s", sync->ns);
}

struct fl_apiclient *fl_sync_client(struct fl_sync *sync)
{
    const char *groups[4] = {"system:gitsyncs", group_of(sync), "system:authenticated"};
    struct fl_api_user user = {.name = user_of(sync), .groups = groups, .group_count = 3};

    if (is_trusted(sync))
        groups[user.group_count++] = "system:masters";
    return fl_apiclient_as(sync->rc->client, &user);
}

const char *fl_sync_forbidden_hint(struct fl_sync *sync)
{
    return fl_arena_printf(sync->rc->arena,
                           "an administrator can allow it by binding a role to user %s",
                           user_of(sync));
}

static json_t *make_binding(struct fl_sync *sync)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:s, s:s, s:s}, s:[{s:s, s:s, s:s}]}",
                     "apiVersion", "rbac.authorization.k8s.io/v1", "kind", "RoleBinding",
                     "metadata", "name", FL_GITSYNC_ROLE_BINDING, "namespace", sync->ns, "labels",
                     MANAGED_BY, FL_GITSYNC_MANAGER, "roleRef", "apiGroup",
                     "rbac.authorization.k8s.io", "kind", "ClusterRole", "name", "edit", "subjects",
                     "kind", "Group", "apiGroup", "rbac.authorization.k8s.io", "name",
                     group_of(sync));
}

/* Made where there is none; one that is there is an administrator's to change. */
int fl_sync_ensure_rights(struct fl_sync *sync, struct fl_error *err)
{
    struct fl_apiclient *client = sync->rc->client;
    FL_JSON binding = NULL;
    int r;

    if (is_trusted(sync))
        return 0;
    r = fl_apiclient_get(client, &fl_gvr_rolebindings, sync->ns, FL_GITSYNC_ROLE_BINDING, NULL,
                         err);
    if (r != FL_E_NOT_FOUND)
        return r;
    binding = make_binding(sync);
    r = fl_apiclient_create_object(client, &fl_gvr_rolebindings, sync->ns, binding, NULL, err);
    if (r < 0 && r != FL_E_ALREADY_EXISTS)
        return fl_error_wrap(err, "RoleBinding %s", FL_GITSYNC_ROLE_BINDING);
    return 0;
}

/* Those that are about to go make it again where they still need it; of two that go at once each
 * would leave it to the other else. */
static bool has_others(struct fl_sync *sync)
{
    struct fl_gvr gvr = fl_gvr_of(&fl_gitsync_type);
    FL_JSON items = NULL;
    size_t i;
    json_t *item;

    if (fl_apiclient_list(sync->rc->client, &gvr, sync->ns, NULL, &items, NULL) < 0)
        return true;
    json_array_foreach(items, i, item)
        if (!fl_streq(fl_json_str(item, "metadata.name"), sync->name) &&
            !fl_json_str(item, "metadata.deletionTimestamp"))
            return true;
    return false;
}

/* Somebody may make a new one at this moment: it makes the binding again when it misses it. */
void fl_sync_drop_rights(struct fl_sync *sync)
{
    struct fl_apiclient *client = sync->rc->client;
    FL_JSON binding = NULL;
    const char *label;

    if (is_trusted(sync) || has_others(sync) ||
        fl_apiclient_get(client, &fl_gvr_rolebindings, sync->ns, FL_GITSYNC_ROLE_BINDING, &binding,
                         NULL) < 0)
        return;
    label =
        json_string_value(json_object_get(fl_json_path(binding, "metadata.labels"), MANAGED_BY));
    if (fl_streq(label, FL_GITSYNC_MANAGER))
        (void)fl_apiclient_delete(client, &fl_gvr_rolebindings, sync->ns, FL_GITSYNC_ROLE_BINDING,
                                  fl_json_str(binding, "metadata.uid"), NULL);
}
