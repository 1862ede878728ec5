/* Changes that the server's own controllers make to stored objects. */
#include "controller/apiserver/internal.h"

bool fl_is_durable(struct fl_apiserver *server, const struct fl_object *object)
{
    return object->revision <= fl_store_revision(server->store);
}

struct own_write {
    struct fl_apiserver *server;
    char *resource, *ns, *name;
};

static void own_write_destroy(struct own_write *own)
{
    free(own->resource);
    free(own->ns);
    free(own->name);
    free(own);
}

static void look_again(void *user)
{
    struct own_write *own = user;

    fl_gc_look_again(own->server->gc, own->resource, own->ns, own->name);
    fl_apiserver_run_later(own->server);
    own_write_destroy(own);
}

static void own_write_done(void *user, int code, struct fl_object *object,
                           const struct fl_error *err)
{
    struct own_write *own = user;

    (void)object, (void)err;
    if (code < 0)
        fl_loop_post(own->server->loop, look_again, own);
    else
        own_write_destroy(own);
}

int fl_write_own(struct fl_apiserver *server, const struct fl_store_write *write,
                 struct fl_error *err)
{
    struct own_write *own = fl_calloc(1, sizeof(*own));
    int r;

    *own = (struct own_write){server, fl_strdup(write->key.resource), fl_strdup(write->key.ns),
                              fl_strdup(write->key.name)};
    r = fl_store_write(server->store, write, own_write_done, own, err);
    if (r < 0)
        own_write_destroy(own);
    return r;
}

int fl_edit_object(struct fl_apiserver *server, const struct fl_resource *resource,
                   const struct fl_object *object, fl_edit_fn *edit, void *user,
                   struct fl_error *err)
{
    FL_JSON before = fl_object_parse(object);
    FL_JSON after = json_deep_copy(before);
    struct fl_store_write write = {
        .op = FL_STORE_UPDATE,
        .key = {resource->storage, object->ns, object->name},
        .object = after,
        .expect_revision = object->revision,
    };
    enum fl_outcome outcome;

    edit(user, after);
    outcome = fl_meta_finish_update(&resource->traits, before, after);
    if (outcome == FL_OUTCOME_UNCHANGED)
        return 0;
    if (outcome == FL_OUTCOME_REMOVED)
        write.op = FL_STORE_DELETE;
    return fl_write_own(server, &write, err);
}

static void remove_finalizer(void *user, json_t *object)
{
    json_t *meta = json_object_get(object, "metadata");
    json_t *list = json_object_get(meta, "finalizers");

    for (size_t i = 0; i < json_array_size(list);) {
        if (fl_streq(json_string_value(json_array_get(list, i)), user))
            (void)json_array_remove(list, i);
        else
            i++;
    }
    if (list && json_array_size(list) == 0)
        (void)json_object_del(meta, "finalizers");
}

int fl_drop_finalizer(struct fl_apiserver *server, const struct fl_resource *resource,
                      const struct fl_object *object, const char *finalizer, struct fl_error *err)
{
    return fl_edit_object(server, resource, object, remove_finalizer, (void *)finalizer, err);
}
