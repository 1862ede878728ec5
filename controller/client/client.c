/* Paths, bodies and Status objects: what every driver's requests have in common. */
#include "controller/client/client.h"

#include "lib/str.h"

#include <assert.h>
#include <stdlib.h>

#define TIMEOUT_MS     30000
#define DEFAULT_USER   "system:flops:controller-manager"
#define DEFAULT_GROUP  "system:masters"
#define MESSAGE_SAMPLE 200                         /* of an answer that is no Status */
#define ANSWER_MAX     ((size_t)256 * 1024 * 1024) /* lists are larger than any one object */

struct fl_apiclient {
    const struct fl_env *env;
    const struct fl_apiclient_ops *ops;
    void *self;
    bool owns; /* self */
    struct fl_arena *arena;
    struct fl_api_user user;
    fl_apiclient_left_fn *left_ms; /* NULL: for ever */
    void *left_user;
};

struct fl_apiclient_watch {
    struct fl_apiclient *client;
    void *watch;
};

const struct fl_gvr fl_gvr_secrets = {"", "v1", "secrets", true};
const struct fl_gvr fl_gvr_configmaps = {"", "v1", "configmaps", true};
const struct fl_gvr fl_gvr_namespaces = {"", "v1", "namespaces", false};
const struct fl_gvr fl_gvr_events = {"", "v1", "events", true};
const struct fl_gvr fl_gvr_leases = {"coordination.k8s.io", "v1", "leases", true};
const struct fl_gvr fl_gvr_rolebindings = {"rbac.authorization.k8s.io", "v1", "rolebindings", true};

struct fl_gvr fl_gvr_of(const struct fl_kind_type *type)
{
    return (struct fl_gvr){type->group, type->version, type->plural, type->namespaced};
}

/* Clients. */

static struct fl_apiclient *new_client(const struct fl_env *env, const struct fl_apiclient_ops *ops,
                                       void *self, const struct fl_api_user *user)
{
    struct fl_apiclient *client = fl_calloc(1, sizeof(*client));
    const char **groups;

    client->env = env;
    client->ops = ops;
    client->self = self;
    client->arena = fl_arena_create();
    groups = fl_new_array(client->arena, const char *, user->group_count);
    for (size_t i = 0; i < user->group_count; i++)
        groups[i] = fl_arena_strdup(client->arena, user->groups[i]);
    client->user =
        (struct fl_api_user){fl_arena_strdup(client->arena, user->name), groups, user->group_count};
    return client;
}

struct fl_apiclient *fl_apiclient_create(const struct fl_env *env,
                                         const struct fl_apiclient_ops *ops, void *self)
{
    static const char *const groups[] = {DEFAULT_GROUP};
    struct fl_apiclient *client;

    assert(ops->destroy && ops->call && ops->list && ops->watch && ops->watch_next &&
           ops->watch_close);
    client = new_client(env, ops, self, &(struct fl_api_user){DEFAULT_USER, groups, 1});
    client->owns = true;
    return client;
}

struct fl_apiclient *fl_apiclient_as(struct fl_apiclient *client, const struct fl_api_user *user)
{
    struct fl_apiclient *other = new_client(client->env, client->ops, client->self, user);

    other->left_ms = client->left_ms;
    other->left_user = client->left_user;
    return other;
}

struct fl_apiclient *fl_apiclient_fenced(struct fl_apiclient *client, fl_apiclient_left_fn *left_ms,
                                         void *user)
{
    struct fl_apiclient *other = fl_apiclient_as(client, &client->user);

    other->left_ms = left_ms;
    other->left_user = user;
    return other;
}

const struct fl_apiclient_ops *fl_apiclient_driver(const struct fl_apiclient *client,
                                                   void **ret_self)
{
    *ret_self = client->self;
    return client->ops;
}

void fl_apiclient_destroy(struct fl_apiclient *client)
{
    if (!client)
        return;
    if (client->owns)
        client->ops->destroy(client->self);
    fl_arena_destroy(client->arena);
    free(client);
}

/* Paths. */

/* An empty name would make a path that means something else. */
static int check_name(const char *what, const char *name, struct fl_error *err)
{
    if (name && *name)
        return 0;
    return fl_error_set(err, FL_E_INVALID, "a request needs the %s", what);
}

static char *collection_path(struct fl_arena *arena, const struct fl_gvr *gvr, const char *ns)
{
    const char *base = *gvr->group ? fl_arena_printf(arena, "/apis/%s/%s", gvr->group, gvr->version)
                                   : fl_arena_printf(arena, "/api/%s", gvr->version);

    if (!gvr->namespaced || !ns)
        return fl_arena_printf(arena, "%s/%s", base, gvr->plural);
    return fl_arena_printf(arena, "%s/namespaces/%s/%s", base, fl_url_encode(arena, ns),
                           gvr->plural);
}

static int object_path(struct fl_arena *arena, const struct fl_gvr *gvr, const char *ns,
                       const char *name, char **ret_path, struct fl_error *err)
{
    int r = check_name("object's name", name, err);

    if (r == 0 && gvr->namespaced)
        r = check_name("object's namespace", ns, err);
    if (r < 0)
        return fl_error_wrap(err, "%s", gvr->plural);
    *ret_path = fl_arena_printf(arena, "%s/%s", collection_path(arena, gvr, ns),
                                fl_url_encode(arena, name));
    return 0;
}

/* Calls. */

/* What a Status says; its text is the server's, word for word. */
static int fail(int status, const struct fl_bytes *body, struct fl_error *err)
{
    FL_JSON value = NULL;
    const char *message;

    if (fl_json_parse(body->data, body->len, NULL, NULL, NULL, &value, NULL) < 0)
        value = NULL;
    message = fl_json_str(value, "message");
    if (message && *message)
        return fl_error_set(err, fl_error_from_status(fl_json_str(value, "reason"), status), "%s",
                            message);
    return fl_error_set(err, fl_error_from_status(NULL, status), "HTTP status %d: %.*s", status,
                        (int)fl_utf8_cut(body->data, body->len, MESSAGE_SAMPLE), body->data);
}

static int keep_to_fence(const struct fl_apiclient *client, struct fl_api_call *call,
                         struct fl_error *err)
{
    int64_t left_ms = client->left_ms ? client->left_ms(client->left_user) : INT64_MAX;

    if (left_ms <= 0)
        return fl_error_set(err, FL_E_CONFLICT, "this process does not lead any more");
    if (left_ms < call->timeout_ms)
        call->timeout_ms = left_ms;
    return 0;
}

int fl_apiclient_call(struct fl_apiclient *client, const struct fl_api_call *call,
                      json_t **ret_value, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = ANSWER_MAX};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_api_call own = *call;
    int status = 0, r;

    if (own.timeout_ms == 0)
        own.timeout_ms = TIMEOUT_MS;
    r = keep_to_fence(client, &own, err);
    if (r < 0)
        return r;
    r = client->ops->call(client->self, &client->user, &own, &status, &body, err);
    if (r < 0)
        return r;
    if (status >= 400)
        return fail(status, body, err);
    if (!ret_value)
        return 0;
    r = fl_json_parse(body->data, body->len, &limits, NULL, NULL, ret_value, err);
    return r < 0 ? fl_error_wrap(err, "the answer to %s %.200s", call->method, call->target) : 0;
}

/* One request with a JSON body (NULL: none). */
static int send(struct fl_apiclient *client, const char *method, const char *target,
                const char *content_type, const json_t *body, json_t **ret_value,
                struct fl_error *err)
{
    struct fl_api_call call = {.method = method, .target = target};
    struct fl_buf text;
    int r;

    fl_buf_init(&text, 0);
    if (body) {
        fl_json_write(&text, body);
        call.content_type = content_type;
        call.body = fl_buf_text(&text);
        call.body_len = text.len;
    }
    r = fl_apiclient_call(client, &call, ret_value, err);
    fl_buf_finish(&text);
    return r;
}

int fl_apiclient_get(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                     const char *name, json_t **ret_object, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char *path = NULL;
    int r = object_path(arena, gvr, ns, name, &path, err);

    return r < 0 ? r : send(client, "GET", path, NULL, NULL, ret_object, err);
}

int fl_apiclient_create_object(struct fl_apiclient *client, const struct fl_gvr *gvr,
                               const char *ns, const json_t *object, json_t **ret_object,
                               struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    if (gvr->namespaced && check_name("object's namespace", ns, err) < 0)
        return fl_error_wrap(err, "%s", gvr->plural);
    return send(client, "POST", collection_path(arena, gvr, ns), "application/json", object,
                ret_object, err);
}

int fl_apiclient_apply(struct fl_apiclient *client, const struct fl_gvr *gvr, const json_t *object,
                       const struct fl_apply_options *options, json_t **ret_object,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char *path = NULL, *target;
    int r;

    assert(options->manager && *options->manager);
    r = object_path(arena, gvr, fl_json_str(object, "metadata.namespace"),
                    fl_json_str(object, "metadata.name"), &path, err);
    if (r < 0)
        return r;
    target = fl_arena_printf(
        arena, "%s?fieldManager=%s%s%s", path, fl_url_encode(arena, options->manager),
        options->force ? "&force=true" : "", options->dry_run ? "&dryRun=All" : "");
    return send(client, "PATCH", target, "application/apply-patch+yaml", object, ret_object, err);
}

int fl_apiclient_patch(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                       const char *name, const char *subresource, const json_t *patch,
                       json_t **ret_object, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char *path = NULL;
    int r = object_path(arena, gvr, ns, name, &path, err);

    if (r < 0)
        return r;
    if (subresource)
        path = fl_arena_printf(arena, "%s/%s", path, subresource);
    return send(client, "PATCH", path, "application/merge-patch+json", patch, ret_object, err);
}

/* After a conflict: the object under the name is another one, or none. */
static bool is_another(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                       const char *name, const char *uid)
{
    struct fl_error err = {0};
    FL_JSON object = NULL;
    int r = fl_apiclient_get(client, gvr, ns, name, &object, &err);

    return r == FL_E_NOT_FOUND || (r == 0 && !fl_streq(fl_json_str(object, "metadata.uid"), uid));
}

int fl_apiclient_delete(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                        const char *name, const char *uid, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON options = json_pack("{s:s, s:s, s:s}", "apiVersion", "v1", "kind", "DeleteOptions",
                                "propagationPolicy", "Background");
    struct fl_error failure = {0};
    char *path = NULL;
    int r = object_path(arena, gvr, ns, name, &path, err);

    if (r < 0)
        return r;
    if (uid)
        (void)json_object_set_new(options, "preconditions", json_pack("{s:s}", "uid", uid));
    r = send(client, "DELETE", path, "application/json", options, NULL, &failure);
    if (r >= 0 || r == FL_E_NOT_FOUND ||
        (r == FL_E_CONFLICT && uid && is_another(client, gvr, ns, name, uid)))
        return 0;
    return fl_error_set(err, r, "%s", failure.msg);
}

int fl_apiclient_list(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                      const char *selector, json_t **ret_items, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char *target = collection_path(arena, gvr, ns);
    FL_JSON list = NULL;
    json_t *items;
    int r;

    if (selector && *selector)
        target =
            fl_arena_printf(arena, "%s?labelSelector=%s", target, fl_url_encode(arena, selector));
    r = send(client, "GET", target, NULL, NULL, &list, err);
    if (r < 0)
        return r;
    items = json_object_get(list, "items");
    *ret_items = json_is_array(items) ? json_incref(items) : json_array();
    return 0;
}

/* For caches. */

int fl_apiclient_list_objects(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                              struct fl_list *ret_list, struct fl_error *err)
{
    return client->ops->list(client->self, gvr, ns, ret_list, err);
}

int fl_apiclient_watch(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                       uint64_t revision, void (*wake)(void *user), void *user,
                       struct fl_apiclient_watch **ret_watch, struct fl_error *err)
{
    void *watch = NULL;
    int r = client->ops->watch(client->self, gvr, ns, revision, wake, user, &watch, err);

    if (r < 0)
        return r;
    *ret_watch = fl_malloc(sizeof(**ret_watch));
    **ret_watch = (struct fl_apiclient_watch){client, watch};
    return 0;
}

int fl_apiclient_watch_next(struct fl_apiclient_watch *watch, struct fl_event *ret_event,
                            struct fl_error *err)
{
    return watch->client->ops->watch_next(watch->client->self, watch->watch, ret_event, err);
}

void fl_apiclient_watch_close(struct fl_apiclient_watch *watch)
{
    if (!watch)
        return;
    watch->client->ops->watch_close(watch->client->self, watch->watch);
    free(watch);
}
