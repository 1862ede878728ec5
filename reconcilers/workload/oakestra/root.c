/* Calls to an Oakestra root. */
#include "reconcilers/workload/oakestra/root.h"

#include "lib/http_client.h"
#include "lib/str.h"

#include <inttypes.h>

#define TOKEN_RENEW_MS (INT64_C(9) * 60 * 1000) /* a root's tokens live ten minutes */
#define ANSWER_MAX     ((size_t)64 * 1024 * 1024)
#define SECRET_MAX     ((size_t)16 * 1024)

struct oak_root {
    const struct fl_env *env;
    struct oak_root_options options;
    char *endpoint, *network_endpoint;
    struct fl_http_client *http, *network; /* for questions, with the token */
    char *token;
    int64_t token_ms; /* monotonic, when it was given */
    bool has_token;
    char *username; /* who is logged in */
    char *user_id;  /* NULL: not known */
    bool not_admin; /* may not list everything */
    struct oak_root_counts counts;
};

int oak_root_create(const struct oak_root_options *options, struct oak_root **ret_root,
                    struct fl_error *err)
{
    FL_CLEANUP(oak_root_destroyp) struct oak_root *root = fl_calloc(1, sizeof(*root));
    struct fl_http_client *probe = NULL;
    struct fl_http_client_options http = {.base_url = options->endpoint};
    int r;

    root->env = options->env;
    root->options = *options;
    root->endpoint = fl_strdup(options->endpoint);
    root->network_endpoint = fl_strdup(options->network_endpoint);
    r = fl_http_client_create(&http, &probe, err); /* says what is wrong with a URL */
    fl_http_client_destroy(probe);
    if (r < 0)
        return r;
    *ret_root = FL_TAKE(root);
    return 0;
}

static void drop_token(struct oak_root *root)
{
    fl_http_client_destroy(FL_TAKE(root->http));
    fl_http_client_destroy(FL_TAKE(root->network));
    free(FL_TAKE(root->token));
    root->has_token = false;
}

void oak_root_destroy(struct oak_root *root)
{
    if (!root)
        return;
    drop_token(root);
    free(root->endpoint);
    free(root->network_endpoint);
    free(root->username);
    free(root->user_id);
    free(root);
}

struct oak_root_counts oak_root_counts(const struct oak_root *root)
{
    return root->counts;
}

const char *oak_root_user(const struct oak_root *root)
{
    return fl_str_or(root->username, "");
}

/* One request */

static int connect_to(struct oak_root *root, const char *url, const char *token,
                      struct fl_http_client **ret_http, struct fl_error *err)
{
    const struct fl_http_client_options options = {
        .base_url = url,
        .bearer_token = token,
        .user_agent = "flops",
        .insecure = root->options.insecure,
        .connect_timeout_ms = root->options.timeout_ms,
        .max_response_bytes = ANSWER_MAX,
    };

    return fl_http_client_create(&options, ret_http, err);
}

static int send_once(struct oak_root *root, struct fl_http_client *http, const char *method,
                     const char *target, const struct fl_bytes *body, int *ret_status,
                     struct fl_bytes **ret_body, struct fl_error *err)
{
    const struct fl_http_call call = {
        .method = method,
        .target = target,
        .content_type = body ? "application/json" : NULL,
        .accept = "application/json",
        .body = body ? body->data : NULL,
        .body_len = body ? body->len : 0,
        .timeout_ms = root->options.timeout_ms,
    };
    int r = fl_http_call(http, &call, ret_status, ret_body, NULL, err);

    if (r < 0)
        root->counts.failures++;
    return r;
}

/* What went wrong, in the root's words: {"message": …}, or text, a line of it. */
static int refused(const char *method, const char *target, int status, const struct fl_bytes *body,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON answer = NULL;
    const char *text = NULL;
    int code = fl_error_from_status(NULL, status);

    if (body && oak_read_answer(body->data, body->len, &answer, NULL) == 0)
        text = json_is_string(answer) ? json_string_value(answer) : fl_json_str(answer, "message");
    if (!text)
        text = "";
    text = fl_arena_strndup(arena, text, fl_utf8_cut(text, strlen(text), 200));
    return fl_error_set(err, code, "%s %s: %d%s%s", method, target, status, *text ? ": " : "",
                        text);
}

/* Login */

static int post_login(struct oak_root *root, struct fl_arena *arena,
                      const struct oak_credentials *credentials, const char **ret_token,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *http = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL, *body = NULL;
    FL_JSON login =
        json_pack("{s:s, s:s, s:s*}", "username", credentials->username, "password",
                  credentials->password, "organization_name", credentials->organization);
    FL_JSON answer = NULL;
    const char *token;
    int status = 0;
    int r = connect_to(root, root->endpoint, NULL, &http, err);

    if (!login)
        return fl_error_set(err, FL_E_INVALID, "the credentials are not UTF-8");
    text = fl_json_to_bytes(login);
    root->counts.logins++;
    if (r == 0)
        r = send_once(root, http, "POST", "/api/auth/login", text, &status, &body, err);
    if (r < 0)
        return r;
    if (status == 401 || status == 403)
        return fl_error_set(err, FL_E_UNAUTHORIZED, "the root refuses the credentials");
    if (status != 200)
        return refused("POST", "/api/auth/login", status, NULL, err);
    r = oak_read_answer(body->data, body->len, &answer, err);
    if (r < 0)
        return r;
    token = fl_json_str(answer, "token");
    if (!token || strlen(token) > SECRET_MAX)
        return fl_error_set(err, FL_E_UNAVAILABLE, "the root's login answers no token");
    *ret_token = fl_arena_strdup(arena, token);
    return 0;
}

static void take_user(struct oak_root *root, const char *username)
{
    if (fl_streq(root->username, username))
        return;
    free(root->username);
    root->username = fl_strdup(username);
    free(FL_TAKE(root->user_id));
    root->not_admin = false;
}

static int log_in(struct oak_root *root, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct oak_credentials credentials = {NULL, NULL, NULL};
    const char *token = NULL;
    int r;

    drop_token(root);
    r = root->options.credentials(root->options.user, arena, &credentials, err);
    if (r == 0)
        r = post_login(root, arena, &credentials, &token, err);
    if (r == 0)
        r = connect_to(root, root->endpoint, token, &root->http, err);
    if (r == 0)
        r = connect_to(root, root->network_endpoint, token, &root->network, err);
    if (r < 0)
        return fl_error_wrap(err, "login");
    take_user(root, credentials.username);
    root->token = fl_strdup(token);
    root->has_token = true;
    root->token_ms = fl_monotonic_ms(root->env);
    return 0;
}

static int ensure_token(struct oak_root *root, struct fl_error *err)
{
    if (root->has_token && fl_monotonic_ms(root->env) - root->token_ms < TOKEN_RENEW_MS)
        return 0;
    return log_in(root, err);
}

/* A call: any 2xx is an answer. After a 401 one new login, and once again. */

struct call {
    const char *method, *target;
    const json_t *body;
    bool network;
};

/* Changes have a connection of their own: on one that was used before, and that the root closes at
 * that moment, a client sends again what may have been received. */
static int try_change(struct oak_root *root, const struct call *call, const struct fl_bytes *body,
                      int *ret_status, struct fl_bytes **ret_answer, struct fl_error *err)
{
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *http = NULL;
    int r = connect_to(root, root->endpoint, root->token, &http, err);

    return r < 0 ? r
                 : send_once(root, http, call->method, call->target, body, ret_status, ret_answer,
                             err);
}

static int try_call(struct oak_root *root, const struct call *call, const struct fl_bytes *body,
                    int *ret_status, struct fl_bytes **ret_answer, struct fl_error *err)
{
    int r = ensure_token(root, err);

    if (r < 0)
        return r;
    if (strcmp(call->method, "GET") != 0)
        return try_change(root, call, body, ret_status, ret_answer, err);
    return send_once(root, call->network ? root->network : root->http, call->method, call->target,
                     body, ret_status, ret_answer, err);
}

static int do_call(struct oak_root *root, const struct call *call, json_t **ret_answer,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL, *answer = NULL;
    int status = 0;
    int r;

    if (call->body)
        body = fl_json_to_bytes(call->body);
    r = try_call(root, call, body, &status, &answer, err);
    if (r == 0 && status == 401) {
        fl_bytes_unref(FL_TAKE(answer));
        root->has_token = false;
        r = try_call(root, call, body, &status, &answer, err);
    }
    if (r < 0)
        return fl_error_wrap(err, "%s %s", call->method, call->target);
    if (status < 200 || status > 299)
        return refused(call->method, call->target, status, answer, err);
    return ret_answer ? oak_read_answer(answer->data, answer->len, ret_answer, err) : 0;
}

/* Questions */

int oak_root_clusters(struct oak_root *root, struct fl_arena *arena, struct oak_clusters *ret_list,
                      struct fl_error *err)
{
    FL_JSON answer = NULL;
    int r;

    root->counts.clusters++;
    r = do_call(root, &(struct call){.method = "GET", .target = "/api/clusters/"}, &answer, err);
    return r < 0 ? r : oak_read_clusters(answer, arena, ret_list, err);
}

/* Whether a list of everything was refused to this user. */
static bool is_not_allowed(int r)
{
    return r == FL_E_FORBIDDEN || r == FL_E_UNAUTHORIZED || r == FL_E_NOT_FOUND ||
           r == FL_E_METHOD_NOT_ALLOWED;
}

static int ensure_user_id(struct oak_root *root, struct fl_arena *arena, struct fl_error *err)
{
    FL_JSON answer = NULL;
    const json_t *id;
    int r;

    if (root->user_id)
        return 0;
    r = do_call(root,
                &(struct call){.method = "GET",
                               .target = fl_arena_printf(arena, "/api/user/%s",
                                                         fl_url_encode(arena, root->username))},
                &answer, err);
    if (r < 0)
        return r;
    id = json_object_get(answer, "_id");
    id = json_is_object(id) ? json_object_get(id, "$oid") : id;
    if (!json_is_string(id))
        return fl_error_set(err, FL_E_UNAVAILABLE, "the root does not say the user's id");
    root->user_id = fl_strdup(json_string_value(id));
    return 0;
}

static int apps_of_user(struct oak_root *root, struct fl_arena *arena, json_t **ret_answer,
                        struct fl_error *err)
{
    int r = ensure_user_id(root, arena, err);

    return r < 0 ? r
                 : do_call(root,
                           &(struct call){.method = "GET",
                                          .target =
                                              fl_arena_printf(arena, "/api/applications/%s",
                                                              fl_url_encode(arena, root->user_id))},
                           ret_answer, err);
}

int oak_root_apps(struct oak_root *root, const char *prefix, struct fl_arena *arena,
                  struct oak_apps *ret_list, struct fl_error *err)
{
    const struct call all = {.method = "GET", .target = "/api/applications/"};
    FL_JSON answer = NULL;
    int r = 0;

    root->counts.lists++;
    if (!root->not_admin) {
        r = do_call(root, &all, &answer, err);
        root->not_admin = is_not_allowed(r) && root->has_token;
    }
    if (root->not_admin)
        r = apps_of_user(root, arena, &answer, err);
    return r < 0 ? r : oak_read_apps(answer, prefix, arena, ret_list, err);
}

static void join(struct fl_arena *arena, struct oak_services *all, const struct oak_services *more)
{
    struct oak_service *items = fl_new_array(arena, struct oak_service, all->count + more->count);

    if (all->count > 0)
        memcpy(items, all->items, all->count * sizeof(*items));
    if (more->count > 0)
        memcpy(items + all->count, more->items, more->count * sizeof(*items));
    *all = (struct oak_services){items, all->count + more->count};
}

static int services_by_app(struct oak_root *root, const char *prefix, const struct oak_apps *apps,
                           struct fl_arena *arena, struct oak_services *ret_list,
                           struct fl_error *err)
{
    struct oak_services all = {NULL, 0};

    for (size_t i = 0; i < apps->count; i++) {
        const char *target = fl_arena_printf(arena, "/api/services/%s", apps->items[i].id);
        FL_JSON answer = NULL;
        struct oak_services some = {NULL, 0};
        int r = do_call(root, &(struct call){.method = "GET", .target = target}, &answer, err);

        root->counts.lists++;
        if (r == FL_E_NOT_FOUND)
            continue; /* the application has gone */
        if (r == 0)
            r = oak_read_services(answer, prefix, arena, &some, err);
        if (r < 0)
            return r;
        join(arena, &all, &some);
    }
    *ret_list = all;
    return 0;
}

int oak_root_services(struct oak_root *root, const char *prefix, const struct oak_apps *apps,
                      struct fl_arena *arena, struct oak_services *ret_list, struct fl_error *err)
{
    const struct call all = {.method = "GET", .target = "/api/services/"};
    FL_JSON answer = NULL;
    int r;

    if (root->not_admin)
        return services_by_app(root, prefix, apps, arena, ret_list, err);
    root->counts.lists++;
    r = do_call(root, &all, &answer, err);
    if (r == 0)
        return oak_read_services(answer, prefix, arena, ret_list, err);
    if (!is_not_allowed(r) || !root->has_token)
        return r;
    root->not_admin = true;
    return services_by_app(root, prefix, apps, arena, ret_list, err);
}

/* Any one. Where a service has it, the root refuses ours, and the next attempt has another. */
static const char *some_ip(const struct fl_env *env, struct fl_arena *arena)
{
    unsigned high = (unsigned)fl_random_below(env, 256), low = (unsigned)fl_random_below(env, 254);

    return fl_arena_printf(arena, "10.30.%u.%u", high, low + 1);
}

int oak_root_free_ip(struct oak_root *root, struct fl_arena *arena, const char **ret_ip,
                     struct fl_error *err)
{
    FL_JSON answer = NULL;
    int r = do_call(root,
                    &(struct call){.method = "GET",
                                   .target = "/api/pubnet/service/netinfo/available-ip/?v=4",
                                   .network = true},
                    &answer, err);

    if (r == FL_E_NOT_FOUND) { /* roots up to v0.4.402: there is nobody to ask */
        *ret_ip = some_ip(root->env, arena);
        return 0;
    }
    if (r == 0)
        r = oak_read_free_ip(answer, arena, ret_ip, err);
    return r < 0 ? fl_error_wrap(err, "network component") : 0;
}

/* Changes */

static int change(struct oak_root *root, const char *method, const char *target, const json_t *body,
                  json_t **ret_answer, struct fl_error *err)
{
    root->counts.changes++;
    return do_call(root, &(struct call){.method = method, .target = target, .body = body},
                   ret_answer, err);
}

int oak_root_create_app(struct oak_root *root, const json_t *sla, struct fl_error *err)
{
    int r = change(root, "POST", "/api/application/", sla, NULL, err);

    if (r == FL_E_CONFLICT && err)
        err->code = FL_E_ALREADY_EXISTS;
    return r == FL_E_CONFLICT ? FL_E_ALREADY_EXISTS : r;
}

int oak_root_create_service(struct oak_root *root, const json_t *sla, const char *name,
                            struct fl_arena *arena, const char **ret_id, struct fl_error *err)
{
    FL_JSON answer = NULL;
    int r = change(root, "POST", "/api/service/", sla, &answer, err);

    return r < 0 ? r : oak_read_created(answer, name, arena, ret_id, err);
}

static int change_service(struct oak_root *root, const char *method, const char *service_id,
                          const char *below, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *target = fl_asprintf("/api/service/%s%s", service_id, below);

    return change(root, method, target, NULL, NULL, err);
}

int oak_root_deploy(struct oak_root *root, const char *service_id, struct fl_error *err)
{
    return change_service(root, "POST", service_id, "/instance", err);
}

int oak_root_undeploy(struct oak_root *root, const char *service_id, int64_t instance,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *below = fl_asprintf("/instance/%" PRId64, instance);

    return change_service(root, "DELETE", service_id, below, err);
}

int oak_root_delete_service(struct oak_root *root, const char *service_id, struct fl_error *err)
{
    return change_service(root, "DELETE", service_id, "", err);
}

int oak_root_delete_app(struct oak_root *root, const char *app_id, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *target = fl_asprintf("/api/application/%s", app_id);

    return change(root, "DELETE", target, NULL, NULL, err);
}
