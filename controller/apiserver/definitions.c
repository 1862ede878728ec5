/* CustomResourceDefinitions: what is stored is served, and a deleted one takes its objects along. */
#include "controller/apiserver/internal.h"

#include "api/crd.h"
#include "api/managed_fields.h"
#include "lib/log.h"

#define STORAGE "customresourcedefinitions.apiextensions.k8s.io"
#define FINALIZER "customresourcecleanup.apiextensions.k8s.io"
#define MANAGER "flops"

static void add_finalizer(json_t *crd)
{
    json_t *meta = json_object_get(crd, "metadata");
    json_t *list = json_object_get(meta, "finalizers");

    if (fl_meta_has_finalizer(crd, FINALIZER))
        return;
    if (!list) {
        list = json_array();
        (void)json_object_set_new(meta, "finalizers", list);
    }
    (void)json_array_append_new(list, json_string(FINALIZER));
}

void fl_definition_default(struct fl_apiserver *server, json_t *crd, const json_t *old)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *reason, *message;
    char now[FL_TIME_SIZE];
    bool accepted;

    fl_crd_default(crd);
    if (fl_meta_is_deleting(crd))
        return;
    if (!old)
        add_finalizer(crd);
    accepted = fl_catalog_names_free(server->catalog, crd, arena, &reason, &message);
    fl_time_format(fl_realtime_us(server->env), now);
    fl_crd_set_status(crd, accepted, reason, message, now);
}

void fl_definition_terminating(struct fl_apiserver *server, json_t *crd)
{
    json_t *conditions = fl_json_path(crd, "status.conditions");
    char now[FL_TIME_SIZE];

    fl_time_format(fl_realtime_us(server->env), now);
    if (conditions)
        (void)json_array_append_new(
            conditions, json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "Terminating", "status",
                                  "True", "reason", "InstanceDeletionInProgress", "message",
                                  "CustomResource deletion is in progress", "lastTransitionTime",
                                  now));
}

static void take_up(struct fl_apiserver *server, const struct fl_object *object)
{
    FL_JSON crd = fl_object_parse(object);
    struct fl_error err = {0};

    if (fl_catalog_set_definition(server->catalog, object->name, crd, object->revision, &err) < 0)
        fl_log_warn(server->env->log, "definition not served", FL_STR("name", object->name),
                    FL_STR("error", err.msg));
    if (fl_meta_is_deleting(crd))
        fl_ending_add(server->terminating_definitions, object->name);
}

void fl_definitions_changed(struct fl_apiserver *server, const struct fl_event *event)
{
    struct fl_error err = {0};

    if (strcmp(event->object->resource, STORAGE) != 0) {
        if (fl_map_get(server->terminating_definitions, event->object->resource))
            fl_ending_add(server->terminating_definitions, event->object->resource);
        return;
    }
    server->names_changed = true;
    if (event->type != FL_EVENT_DELETED) {
        take_up(server, event->object);
        return;
    }
    (void)fl_catalog_set_definition(server->catalog, event->object->name, NULL, 0, &err);
    (void)fl_map_remove(server->terminating_definitions, event->object->name);
}

int fl_definitions_load(struct fl_apiserver *server, struct fl_error *err)
{
    struct fl_list list;
    int r = fl_store_list(server->store, &(struct fl_list_query){.resource = STORAGE}, &list, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < list.count; i++)
        take_up(server, list.objects[i]);
    fl_list_finish(&list);
    return 0;
}

/* A deleted definition's objects go first, served or not, then the definition. Whether it must be
 * looked at again, whatever happens. */
static bool finish_one(struct fl_apiserver *server, const char *name, size_t *budget)
{
    FL_CLEANUP(fl_object_unrefp) struct fl_object *crd =
        fl_store_get_newest(server->store, &(struct fl_key){STORAGE, NULL, name});
    struct fl_content content;
    struct fl_error err = {0};

    if (!crd)
        return false;
    if (!strstr(crd->json->data, "\"" FINALIZER "\""))
        return !fl_is_durable(server, crd); /* others hold it, unless a write fails yet */
    if (fl_content_delete(server, name, NULL, budget, &content) < 0)
        return true;
    if (content.left > 0)
        return content.unstarted > 0;
    (void)fl_drop_finalizer(server, fl_catalog_find_storage(server->catalog, STORAGE)->resource,
                            crd, FINALIZER, &err);
    return true;
}

static void judge_names(void *user, json_t *crd)
{
    fl_definition_default(user, crd, crd);
}

/* Definitions that were refused their names look whether they are free now. */
static void retry_names(struct fl_apiserver *server)
{
    const struct fl_resource *resource = fl_catalog_find_storage(server->catalog, STORAGE)->resource;
    struct fl_error err = {0};
    struct fl_list list;

    server->names_changed = false;
    if (fl_store_list(server->store, &(struct fl_list_query){.resource = STORAGE}, &list, &err) < 0)
        return;
    for (size_t i = 0; i < list.count; i++)
        if (strstr(list.objects[i]->json->data, "\"NotAccepted\""))
            (void)fl_edit_object(server, resource, list.objects[i], judge_names, server, &err);
    fl_list_finish(&list);
}

void fl_definitions_run(struct fl_apiserver *server)
{
    if (server->names_changed)
        retry_names(server);
    fl_endings_run(server, server->terminating_definitions, &server->definitions_ms, finish_one);
}

/* Installation of the program's own definitions */

static bool same_spec(const json_t *a, const json_t *b)
{
    return json_equal(json_object_get(a, "spec"), json_object_get(b, "spec"));
}

static int check(const json_t *crd, const json_t *old, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_field_errors errors;

    fl_field_errors_init(&errors, arena);
    fl_crd_validate(crd, old, &errors);
    if (!errors.count)
        return 0;
    return fl_field_errors_to_error(&errors, "CustomResourceDefinition", "apiextensions.k8s.io",
                                    fl_str_or(fl_json_str(crd, "metadata.name"), ""), err);
}

static int write_definition(struct fl_apiserver *server, const struct fl_resource *resource,
                            json_t *crd, const struct fl_object *old_object, const json_t *old,
                            struct fl_error *err)
{
    char now[FL_TIME_SIZE];
    struct fl_managed_write managed = {
        .schema = resource->schema,
        .manager = MANAGER,
        .api_version = resource->api_version,
        .subresource = "",
        .time = now,
        .has_status = resource->traits.has_status,
    };
    struct fl_store_write write = {
        .op = old ? FL_STORE_UPDATE : FL_STORE_CREATE,
        .key = {STORAGE, NULL, fl_json_str(crd, "metadata.name")},
        .object = crd,
        .expect_revision = old_object ? old_object->revision : 0,
    };
    int r;

    fl_time_format(fl_realtime_us(server->env), now);
    r = fl_managed_update(&managed, old, crd, err);
    if (r < 0)
        return r;
    if (old)
        (void)fl_meta_finish_update(&resource->traits, old, crd);
    return fl_store_write_wait(server->store, &write, NULL, err);
}

static int install(struct fl_apiserver *server, const char *text, struct fl_error *err)
{
    const struct fl_resource *resource = fl_catalog_find_storage(server->catalog, STORAGE)->resource;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *old_object = NULL;
    FL_JSON crd = NULL;
    FL_JSON old = NULL;
    struct fl_key key = {.resource = STORAGE};
    int r = fl_json_parse(text, strlen(text), NULL, NULL, NULL, &crd, err);

    if (r < 0)
        return r;
    key.name = fl_str_or(fl_json_str(crd, "metadata.name"), "");
    old_object = fl_store_get_newest(server->store, &key);
    fl_crd_default(crd);
    if (old_object) {
        old = fl_object_parse(old_object);
        if (same_spec(crd, old))
            return 0;
        /* Only the spec is ours: labels and annotations that others set stay. */
        (void)json_object_set_new(crd, "metadata",
                                  json_deep_copy(json_object_get(old, "metadata")));
        (void)json_object_set_new(crd, "status", json_deep_copy(json_object_get(old, "status")));
    } else {
        fl_meta_prepare_create(server->env, &resource->traits, "", crd);
    }
    fl_definition_default(server, crd, old);
    r = check(crd, old, err);
    return r < 0 ? r : write_definition(server, resource, crd, old_object, old, err);
}

int fl_definitions_install(struct fl_apiserver *server, const char *const *texts, size_t count,
                           struct fl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        int r = install(server, texts[i], err);

        if (r < 0)
            return fl_error_wrap(err, "install definition %zu", i);
    }
    return 0;
}
