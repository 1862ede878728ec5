/* Namespaces: the ones that always exist, and the deletion of one with all that is in it. */
#include "controller/apiserver/internal.h"

#include "api/managed_fields.h"

static const char *const always[] = {"default", "kube-system"};

static int create_namespace(struct fl_apiserver *server, const struct fl_resource *resource,
                            const char *name, struct fl_error *err)
{
    FL_JSON ns = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Namespace",
                           "metadata", "name", name);
    struct fl_store_write write = {
        .op = FL_STORE_CREATE, .key = {"namespaces", NULL, name}, .object = ns};
    int r;

    fl_meta_prepare_create(server->env, &resource->traits, "", ns);
    fl_kind_default(server, resource, ns, NULL);
    r = fl_store_write_wait(server->store, &write, NULL, err);
    return r == FL_E_ALREADY_EXISTS ? 0 : r;
}

static bool is_terminating(const struct fl_object *object)
{
    FL_JSON value = NULL;

    if (!strstr(object->json->data, "\"deletionTimestamp\""))
        return false;
    value = fl_object_parse(object);
    return fl_meta_is_deleting(value);
}

int fl_namespaces_bootstrap(struct fl_apiserver *server, struct fl_error *err)
{
    const struct fl_resource *resource =
        fl_catalog_find_storage(server->catalog, "namespaces")->resource;
    struct fl_list list = {0};
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(always); i++) {
        FL_CLEANUP(fl_object_unrefp) struct fl_object *have = fl_store_get_newest(
            server->store, &(struct fl_key){"namespaces", NULL, always[i]});

        if (!have)
            r = create_namespace(server, resource, always[i], err);
    }
    if (r == 0)
        r = fl_store_list(server->store, &(struct fl_list_query){.resource = "namespaces"}, &list,
                          err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < list.count; i++)
        if (is_terminating(list.objects[i]))
            fl_map_put(server->terminating_namespaces, list.objects[i]->name, server);
    fl_list_finish(&list);
    return 0;
}

void fl_namespaces_observe(struct fl_apiserver *server, const struct fl_event *event)
{
    if (strcmp(event->object->resource, "namespaces") != 0)
        return;
    if (event->type == FL_EVENT_DELETED)
        (void)fl_map_remove(server->terminating_namespaces, event->object->name);
    else if (is_terminating(event->object))
        fl_map_put(server->terminating_namespaces, event->object->name, server);
}

/* Starts the deletion of all objects of a kind in the namespace; how many are still there. */
static size_t delete_all(struct fl_apiserver *server, const struct fl_resource *resource,
                         const char *ns)
{
    struct fl_list_query query = {.resource = resource->storage, .ns = ns};
    struct fl_error err = {0};
    struct fl_list list;
    size_t left;

    if (fl_store_list(server->store, &query, &list, &err) < 0)
        return 1;
    left = list.count;
    for (size_t i = 0; i < list.count; i++)
        (void)fl_delete_object(server, resource, list.objects[i], FL_PROPAGATION_BACKGROUND, &err);
    fl_list_finish(&list);
    return left;
}

struct remains {
    struct fl_apiserver *server;
    struct fl_buf text;
};

/* Says in the status what still holds the namespace. */
static void describe_remains(void *user, json_t *object)
{
    struct remains *remains = user;
    json_t *status = fl_json_ensure_object(object, "status");
    json_t *conditions = json_object_get(status, "conditions"), *condition = NULL;
    char now[FL_TIME_SIZE];

    if (json_array_size(conditions) == 1) {
        condition = json_array_get(conditions, 0);
        if (!fl_streq(fl_json_str(condition, "message"), remains->text.data))
            fl_json_set_str(condition, "message", remains->text.data);
        return;
    }
    fl_time_format(fl_realtime_us(remains->server->env), now);
    (void)json_object_set_new(
        status, "conditions",
        json_pack("[{s:s, s:s, s:s, s:s, s:s}]", "type", "NamespaceContentRemaining", "status",
                  "True", "reason", "SomeResourcesRemain", "message", remains->text.data,
                  "lastTransitionTime", now));
}

static void drop_kubernetes(void *user, json_t *object)
{
    json_t *spec = json_object_get(object, "spec");
    json_t *list = json_object_get(spec, "finalizers");

    (void)user;
    for (size_t i = json_array_size(list); i-- > 0;)
        if (fl_streq(json_string_value(json_array_get(list, i)), "kubernetes"))
            (void)json_array_remove(list, i);
    if (json_array_size(list) == 0)
        (void)json_object_del(spec, "finalizers");
}

/* Once, in whichever version: a kind whose objects live in namespaces and can be deleted. */
static bool holds_content(struct fl_apiserver *server, const struct fl_served *served)
{
    const struct fl_resource *resource = served->resource;

    return resource->traits.namespaced && fl_resource_allows(resource, FL_VERB_DELETE) &&
           served == fl_catalog_find_storage(server->catalog, resource->storage);
}

static void finish_one(struct fl_apiserver *server, const char *name)
{
    const struct fl_resource *resource =
        fl_catalog_find_storage(server->catalog, "namespaces")->resource;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *ns =
        fl_store_get_newest(server->store, &(struct fl_key){"namespaces", NULL, name});
    struct remains remains = {.server = server};
    const struct fl_group_version *all;
    size_t versions = fl_catalog_group_versions(server->catalog, &all);
    struct fl_error err = {0};

    if (!ns)
        return;
    fl_buf_init(&remains.text, 1000);
    for (size_t i = 0; i < versions; i++) {
        for (size_t k = 0; k < all[i].count; k++) {
            const struct fl_resource *kind = all[i].items[k]->resource;
            size_t left =
                holds_content(server, all[i].items[k]) ? delete_all(server, kind, name) : 0;

            if (left)
                fl_buf_printf(&remains.text, "%s%s has %zu resource instances",
                              remains.text.len ? ", " : "Some resources are remaining: ",
                              kind->storage, left);
        }
    }
    if (remains.text.len)
        (void)fl_edit_object(server, resource, ns, describe_remains, &remains, &err);
    else
        (void)fl_edit_object(server, resource, ns, drop_kubernetes, NULL, &err);
    fl_buf_finish(&remains.text);
}

void fl_namespaces_run(struct fl_apiserver *server)
{
    void *cursor = NULL;
    const char *name;

    while (fl_map_next(server->terminating_namespaces, &cursor, &name, NULL))
        finish_one(server, name);
}
