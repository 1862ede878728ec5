/* What a pass sees of the project. */
#include "reconcilers/flround/flround_internal.h"

#include "lib/str.h"

/* Canonical text: a prefix of a name ends before the quote. */
static bool is_named(struct fl_arena *arena, const struct fl_object *object, const char *project)
{
    const char *mark = fl_arena_printf(arena, "\"project\":{\"name\":\"%s\"", project);

    return memmem(object->json->data, object->json->len, mark, strlen(mark)) != NULL;
}

/* The mark may stand elsewhere, too: in free-form settings. */
static bool is_of(const struct fl_kind_type *type, const void *object, const char *project)
{
    const char *name = type == &fl_round_type
                           ? ((const struct fl_round *)object)->spec.project.name
                           : ((const struct fl_modelversion *)object)->spec.project.name;

    return fl_streq(name, project);
}

static int list_named(struct fl_flround_view *view, const struct fl_list *list,
                      const struct fl_kind_type *type, const char *project, void ***ret_items,
                      size_t *ret_count, struct fl_error *err)
{
    struct fl_arena *arena = view->rc->arena;
    void **items = fl_new_array(arena, void *, list->count + 1);
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++) {
        int r;

        if (!is_named(arena, list->objects[i], project))
            continue;
        r = fl_object_decode(type, fl_json_in_arena(arena, fl_object_parse(list->objects[i])),
                             arena, &items[count], err);
        if (r < 0)
            return fl_error_wrap(err, "%s %s", type->kind, list->objects[i]->name);
        count += is_of(type, items[count], project);
    }
    *ret_items = items;
    *ret_count = count;
    return 0;
}

static int look_at(struct fl_flround_view *view, const struct fl_list *rounds,
                   const struct fl_list *models, struct fl_error *err)
{
    const char *project = view->round->spec.project.name;
    void **items = NULL;
    int r =
        list_named(view, rounds, &fl_round_type, project, &items, &view->world.round_count, err);

    view->world.rounds = (struct fl_round *const *)items;
    if (r == 0)
        r = list_named(view, models, &fl_modelversion_type, project, &items,
                       &view->world.model_count, err);
    view->world.models = (struct fl_modelversion *const *)items;
    return r;
}

static int look_at_project(struct fl_flround_view *view, struct fl_error *err)
{
    const char *name = view->round->spec.project.name;
    void *object = NULL;
    int r =
        fl_read_cached(view->rc, &fl_project_type, view->round->meta.namespace, name, &object, err);

    if (r == FL_E_NOT_FOUND)
        return fl_not_yet(view->rc, "Selected", "ProjectNotFound",
                          "there is no FLProject %s in this namespace", name);
    if (r < 0)
        return r;
    view->world.project = object;
    if (view->world.project->meta.deletion_timestamp)
        return fl_not_yet(view->rc, "Selected", "ProjectNotFound", "FLProject %s is being deleted",
                          name);
    return 0;
}

int fl_flround_look(struct fl_flround_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list rounds = {0};
    FL_CLEANUP(fl_list_finish) struct fl_list models = {0};
    int r = look_at_project(view, err);

    view->world.round = view->round;
    view->world.reconcile_at =
        json_string_value(json_object_get(view->round->meta.annotations, FL_FLROUND_RECONCILE));
    if (r != 0)
        return r;
    fl_cache_list(view->controller->rounds, view->round->meta.namespace, &rounds);
    fl_cache_list(view->controller->models, view->round->meta.namespace, &models);
    return look_at(view, &rounds, &models, err);
}

int fl_flround_look_live(struct fl_flround_view *view, struct fl_error *err)
{
    const struct fl_gvr rounds_gvr = fl_gvr_of(&fl_round_type);
    const struct fl_gvr models_gvr = fl_gvr_of(&fl_modelversion_type);
    FL_CLEANUP(fl_list_finish) struct fl_list rounds = {0};
    FL_CLEANUP(fl_list_finish) struct fl_list models = {0};
    const char *ns = view->round->meta.namespace;
    int r = fl_apiclient_list_objects(view->rc->client, &rounds_gvr, ns, &rounds, err);

    if (r == 0)
        r = fl_apiclient_list_objects(view->rc->client, &models_gvr, ns, &models, err);
    return r < 0 ? r : look_at(view, &rounds, &models, err);
}
