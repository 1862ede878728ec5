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
        FL_CLEANUP(fl_object_unrefp)
        struct fl_object *have =
            fl_store_get_newest(server->store, &(struct fl_key){"namespaces", NULL, always[i]});

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
            fl_ending_add(server->terminating_namespaces, list.objects[i]->name);
    fl_list_finish(&list);
    return 0;
}

void fl_namespaces_observe(struct fl_apiserver *server, const struct fl_event *event)
{
    const struct fl_object *object = event->object;

    if (strcmp(object->resource, "namespaces") == 0) {
        if (event->type == FL_EVENT_DELETED)
            (void)fl_map_remove(server->terminating_namespaces, object->name);
        else if (is_terminating(object))
            fl_ending_add(server->terminating_namespaces, object->name);
    } else if (*object->ns && fl_map_get(server->terminating_namespaces, object->ns)) {
        fl_ending_add(server->terminating_namespaces, object->ns);
    }
}

/* The content of what is being deleted */

void fl_ending_add(struct fl_map *endings, const char *name)
{
    struct fl_ending *ending = fl_map_get(endings, name);

    if (!ending) {
        ending = fl_calloc(1, sizeof(*ending));
        fl_map_put(endings, name, ending);
    }
    ending->due = true;
}

static bool any_due(const struct fl_map *endings)
{
    void *cursor = NULL, *value;

    while (fl_map_next(endings, &cursor, NULL, &value))
        if (((struct fl_ending *)value)->due)
            return true;
    return false;
}

void fl_endings_run(struct fl_apiserver *server, struct fl_map *endings, int64_t *last_ms,
                    fl_ending_fn *finish)
{
    int64_t wait_ms = *last_ms + FL_CONTENT_EVERY_MS - fl_monotonic_ms(server->env);
    size_t budget = FL_CONTENT_PER_RUN;
    void *cursor = NULL, *value;
    const char *name;

    if (!any_due(endings))
        return;
    if (*last_ms && wait_ms > 0) {
        fl_apiserver_run_within(server, wait_ms);
        return;
    }
    while (budget > 0 && fl_map_next(endings, &cursor, &name, &value)) {
        struct fl_ending *ending = value;

        if (ending->due)
            ending->due = finish(server, name, &budget);
    }
    *last_ms = fl_monotonic_ms(server->env);
    if (any_due(endings))
        fl_apiserver_run_within(server, FL_CONTENT_EVERY_MS);
}

const struct fl_resource *fl_resource_of_stored(struct fl_apiserver *server,
                                                const struct fl_object *object,
                                                struct fl_resource *buf)
{
    struct fl_served *served = fl_catalog_find_storage(server->catalog, object->resource);

    if (served)
        return served->resource;
    *buf = (struct fl_resource){
        .storage = object->resource,
        .traits = {.namespaced = *object->ns != '\0', .has_generation = true},
    };
    return buf;
}

/* Whether the text before `at` leads to a member of the object's metadata: two levels deep, below
 * the key "metadata". */
static bool is_in_metadata(const char *text, const char *at)
{
    const char *key = text;
    int depth = 0;

    for (const char *p = text; p < at; p++) {
        if (*p == '"') {
            if (depth == 1)
                key = p;
            for (p++; p < at && *p != '"'; p++)
                if (*p == '\\')
                    p++;
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            depth--;
        }
    }
    return depth == 2 && strncmp(key, "\"metadata\"", 10) == 0;
}

/* The same as parsing it and asking, and a hundred times faster. */
static bool is_marked(const struct fl_object *object)
{
    static const char word[] = "\"deletionTimestamp\":";
    const char *text = object->json->data;

    for (const char *at = text; (at = strstr(at, word)); at += sizeof(word) - 1)
        if (is_in_metadata(text, at))
            return true;
    return false;
}

static bool count_unmarked(void *user, const struct fl_object *object)
{
    struct fl_content *content = user;

    content->left++;
    if (is_marked(object))
        return false;
    content->unstarted++;
    return true;
}

int fl_content_delete(struct fl_apiserver *server, const char *storage, const char *ns,
                      size_t *budget, struct fl_content *ret_content)
{
    struct fl_list_query query = {
        .resource = storage,
        .ns = ns,
        .limit = *budget,
        .match = count_unmarked,
        .user = ret_content,
    };
    struct fl_error err = {0};
    struct fl_list list;
    int r;

    *ret_content = (struct fl_content){0};
    server->content_looks++;
    r = fl_store_list(server->store, &query, &list, &err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < list.count; i++) {
        struct fl_resource buf;

        /* What fails here is unstarted still at the next look. */
        (void)fl_delete_object(server, fl_resource_of_stored(server, list.objects[i], &buf),
                               list.objects[i], FL_PROPAGATION_BACKGROUND, &err);
    }
    *budget -= list.count;
    fl_list_finish(&list);
    return 0;
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
    (void)json_object_set_new(status, "conditions",
                              json_pack("[{s:s, s:s, s:s, s:s, s:s}]", "type",
                                        "NamespaceContentRemaining", "status", "True", "reason",
                                        "SomeResourcesRemain", "message", remains->text.data,
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

static bool is_held_by_kubernetes(const struct fl_object *ns)
{
    FL_JSON value = fl_object_parse(ns);
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(value, "spec.finalizers"), i, item)
        if (fl_streq(json_string_value(item), "kubernetes"))
            return true;
    return false;
}

/* Whether it must be looked at again, whatever happens. */
static bool finish_one(struct fl_apiserver *server, const char *name, size_t *budget)
{
    const struct fl_resource *resource =
        fl_catalog_find_storage(server->catalog, "namespaces")->resource;
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *ns =
        fl_store_get_newest(server->store, &(struct fl_key){"namespaces", NULL, name});
    struct remains remains = {.server = server};
    const struct fl_group_version *all;
    size_t versions = fl_catalog_group_versions(server->catalog, &all);
    struct fl_error err = {0};
    size_t unstarted = 0;
    int r = 0;

    if (!ns)
        return false;
    if (!is_held_by_kubernetes(ns))
        return !fl_is_durable(server, ns); /* others hold it, unless a write fails yet */
    fl_buf_init(&remains.text, 1000);
    for (size_t i = 0; i < versions; i++) {
        for (size_t k = 0; k < all[i].count && r == 0 && *budget > 0; k++) {
            const struct fl_resource *kind = all[i].items[k]->resource;
            struct fl_content content = {0};

            if (holds_content(server, all[i].items[k]))
                r = fl_content_delete(server, kind->storage, name, budget, &content);
            unstarted += content.unstarted;
            if (content.left)
                fl_buf_printf(&remains.text, "%s%s has %zu resource instances",
                              remains.text.len ? ", " : "Some resources are remaining: ",
                              kind->storage, content.left);
        }
    }
    /* What only waits to be stored is not worth a word. */
    if (r == 0 && *budget > 0 && !unstarted)
        (void)fl_edit_object(server, resource, ns,
                             remains.text.len ? describe_remains : drop_kubernetes, &remains, &err);
    unstarted += r < 0 || *budget == 0 || !remains.text.len;
    fl_buf_finish(&remains.text);
    return unstarted > 0;
}

void fl_namespaces_run(struct fl_apiserver *server)
{
    fl_endings_run(server, server->terminating_namespaces, &server->namespaces_ms, finish_one);
}
