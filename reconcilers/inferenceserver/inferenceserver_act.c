/* Making it so. */
#include "lib/str.h"
#include "reconcilers/inferenceserver/inferenceserver_internal.h"

#include <inttypes.h>
#include <math.h>

#define SECRET_PREFIX "model-"

/* The router, which is there before anything serves */

static int read_tokens(struct fl_serving_view *view, const char **ret_tokens, struct fl_error *err)
{
    const char *name = view->server->spec.tokens_secret.name, *key, *tokens = "";
    FL_JSON secret = NULL;
    json_t *value;
    int r = fl_apiclient_get(view->rc->client, &fl_gvr_secrets, view->server->meta.namespace, name,
                             &secret, err);

    if (r == FL_E_NOT_FOUND)
        return fl_not_yet(view->rc, "Available", "SecretNotFound", "there is no Secret %s", name);
    if (r < 0)
        return fl_error_wrap(err, "Secret %s", name);
    json_object_foreach(json_object_get(secret, "data"), key, value) {
        char *text = NULL;
        size_t len = 0;

        if (fl_base64_decode(view->rc->arena, json_string_value(value), json_string_length(value),
                             &text, &len))
            tokens = fl_arena_printf(view->rc->arena, "%s%.*s\n", tokens, (int)len, text);
    }
    *ret_tokens = tokens;
    return FL_STEP_DONE;
}

int fl_serving_ensure_router(struct fl_serving_view *view, struct fl_error *err)
{
    struct fl_secret_entry entries[] = {{"admin.token", NULL}, {"tokens", NULL}};
    const bool with_tokens = view->server->spec.has_tokens_secret;
    struct fl_workload *router;
    const char *secret = NULL;
    int r = with_tokens ? read_tokens(view, &entries[1].value, err) : FL_STEP_DONE;

    if (r != FL_STEP_DONE)
        return r;
    r = fl_ensure_secret(view->rc, "access", entries, with_tokens ? 2 : 1, &secret, err);
    if (r < 0)
        return r;
    view->admin_token = entries[0].value;
    router = fl_serving_new_router(view, secret);
    return fl_apply_child(view->rc, &fl_workload_type, "router", router, NULL, err);
}

/* Sets */

static const struct fl_workload *find_set(const struct fl_serving_view *view, const char *revision)
{
    for (size_t i = 0; i < view->set_count; i++)
        if (fl_streq(view->world.sets[i].revision, revision))
            return view->sets[i];
    return NULL;
}

static const char *secret_role(struct fl_serving_view *view, const char *revision)
{
    return fl_arena_printf(view->rc->arena, SECRET_PREFIX "%s", revision);
}

static const char *secret_name(struct fl_serving_view *view, const char *revision)
{
    const struct fl_object_meta *meta = &view->server->meta;

    return fl_child_name(view->rc->arena, meta->name, meta->uid, secret_role(view, revision));
}

/* What a set remembers of its model for as long as it is there. */
static void note_model(struct fl_serving_view *view, struct fl_workload *set)
{
    json_t *notes = json_object();
    char now[FL_TIME_SIZE];

    fl_time_format(view->world.now_us, now);
    fl_json_set_str(notes, "flops.dev/made-at", now);
    fl_json_set_str(notes, "flops.dev/model", view->model.digest);
    if (view->model.has_round)
        fl_json_set_str(notes, "flops.dev/round",
                        fl_arena_printf(view->rc->arena, "%" PRId64, view->model.round));
    if (!isnan(view->model.metric))
        fl_json_set_str(notes, "flops.dev/metric",
                        fl_arena_printf(view->rc->arena, "%.17g", view->model.metric));
    set->meta.annotations = fl_json_in_arena(view->rc->arena, notes);
}

static int grant(struct fl_serving_view *view, struct fl_content_grant *ret_grant,
                 struct fl_error *err)
{
    const struct fl_inferenceserver_options *options = &view->controller->options;

    *ret_grant = (struct fl_content_grant){.url = view->model.uri};
    if (view->model.uri || view->model.image)
        return 0;
    return options->grant(options->user, view->model.digest, view->rc->arena, ret_grant, err);
}

/* The capability to get a model: for as long as a set of it is there. *ret_secret NULL: it needs
 * none. */
static int ensure_capability(struct fl_serving_view *view, const char *revision,
                             const struct fl_content_grant *granted, const char **ret_secret,
                             struct fl_error *err)
{
    struct fl_secret_entry entry = {"token", granted->token};

    *ret_secret = NULL;
    if (!granted->token)
        return 0;
    return fl_ensure_secret(view->rc, secret_role(view, revision), &entry, 1, ret_secret, err);
}

static int make_set(struct fl_serving_view *view, const struct fl_serving_wish *wish,
                    struct fl_error *err)
{
    struct fl_content_grant granted;
    struct fl_workload *set;
    const char *secret = NULL;
    int r = grant(view, &granted, err);

    if (r == 0)
        r = ensure_capability(view, wish->revision, &granted, &secret, err);
    if (r < 0)
        return r;
    set = fl_serving_new_set(view, wish->revision, secret, &granted);
    note_model(view, set);
    fl_serving_mark_set(view, set, wish);
    return fl_apply_child(view->rc, &fl_workload_type,
                          fl_serving_set_role(view->rc->arena, wish->revision), set, NULL, err);
}

static bool needs_capability(const struct fl_workload *set)
{
    for (size_t i = 0; i < set->spec.files.count; i++)
        if (fl_streq(set->spec.files.items[i].path, FL_SERVING_TOKEN_FILE))
            return true;
    return false;
}

static bool is_there(const struct fl_serving_view *view, const char *secret)
{
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *object =
        fl_cache_get(view->controller->secrets, view->server->meta.namespace, secret);

    return object != NULL;
}

/* Somebody may have taken it away, and new servers of the set would wait for it. */
static int mend_capability(struct fl_serving_view *view, const struct fl_workload *set,
                           const struct fl_serving_wish *wish, struct fl_error *err)
{
    const struct fl_inferenceserver_options *options = &view->controller->options;
    const char *digest =
        json_string_value(json_object_get(set->meta.annotations, "flops.dev/model"));
    struct fl_content_grant granted;
    const char *secret = secret_name(view, wish->revision);
    int r;

    if (!needs_capability(set) || !digest || is_there(view, secret))
        return 0;
    r = options->grant(options->user, digest, view->rc->arena, &granted, err);
    return r < 0 ? r : ensure_capability(view, wish->revision, &granted, &secret, err);
}

/* As it is, but for what the wish changes: its settings may not be those of the spec any more. */
static int change_set(struct fl_serving_view *view, const struct fl_workload *current,
                      const struct fl_serving_wish *wish, struct fl_error *err)
{
    struct fl_workload *set = fl_object_clone(&fl_workload_type, current, view->rc->arena);
    int r = mend_capability(view, current, wish, err);

    if (r < 0)
        return r;
    fl_serving_mark_set(view, set, wish);
    return fl_apply_child(view->rc, &fl_workload_type,
                          fl_serving_set_role(view->rc->arena, wish->revision), set, NULL, err);
}

/* Its Secret first: what is left when this is cut short is found by the Workload. */
static int remove_set(struct fl_serving_view *view, const struct fl_workload *current,
                      const struct fl_serving_wish *wish, struct fl_error *err)
{
    const struct fl_object_meta *meta = &view->server->meta;
    const struct fl_gvr workloads = fl_gvr_of(&fl_workload_type);
    int r = fl_apiclient_delete(view->rc->client, &fl_gvr_secrets, meta->namespace,
                                secret_name(view, wish->revision), NULL, err);

    if (r < 0)
        return r;
    return fl_apiclient_delete(view->rc->client, &workloads, meta->namespace, current->meta.name,
                               current->meta.uid, err);
}

static int fulfil(struct fl_serving_view *view, const struct fl_serving_wish *wish,
                  struct fl_error *err)
{
    const struct fl_workload *current = find_set(view, wish->revision);

    if (wish->remove)
        return current ? remove_set(view, current, wish, err) : 0;
    return current ? change_set(view, current, wish, err) : make_set(view, wish, err);
}

int fl_serving_act(struct fl_serving_view *view, struct fl_error *err)
{
    struct fl_router_driver *routers = view->controller->options.routers;
    int r = 0;

    if (view->plan.table && view->at.address)
        r = routers->ops->put(routers, &view->at, view->plan.table, err);
    for (size_t i = 0; i < view->plan.wish_count && r == 0; i++)
        r = fulfil(view, &view->plan.wishes[i], err);
    return r;
}

static bool is_secret_wanted(const struct fl_serving_view *view, const char *revision)
{
    for (size_t i = 0; i < view->plan.wish_count; i++)
        if (!view->plan.wishes[i].remove && fl_streq(view->plan.wishes[i].revision, revision))
            return true;
    return find_set(view, revision) != NULL; /* goes with its set */
}

static int tidy_secret(struct fl_serving_view *view, const struct fl_object *object,
                       struct fl_error *err)
{
    FL_JSON secret = fl_object_parse(object);
    const char *role = json_string_value(
        json_object_get(fl_json_path(secret, "metadata.labels"), "flops.dev/role"));

    if (!role || !fl_str_has_prefix(role, SECRET_PREFIX) ||
        is_secret_wanted(view, role + strlen(SECRET_PREFIX)))
        return 0;
    return fl_apiclient_delete(view->rc->client, &fl_gvr_secrets, object->ns, object->name,
                               object->uid, err);
}

int fl_serving_tidy(struct fl_serving_view *view, struct fl_error *err)
{
    FL_CLEANUP(fl_list_finish) struct fl_list list = {0};
    int r = 0;

    fl_cache_list_by(view->controller->secrets, FL_INDEX_OWNER, view->server->meta.uid, &list);
    for (size_t i = 0; i < list.count && r >= 0; i++)
        r = tidy_secret(view, list.objects[i], err);
    return r < 0 ? r : 0;
}
