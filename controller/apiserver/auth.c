#include "controller/apiserver/auth_internal.h"

#include "api/meta.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <stdlib.h>
#include <strings.h>

#define GROUPS_MAX  64
#define FOLDERS_MAX 32 /* that a token may open a path by */

struct fl_user *fl_user_new(struct fl_arena *arena, const char *name, const char *uid,
                            const char *const *groups, size_t group_count)
{
    struct fl_user *user = fl_new(arena, struct fl_user);
    const char **copies = fl_new_array(arena, const char *, group_count);

    for (size_t i = 0; i < group_count; i++)
        copies[i] = fl_arena_strdup(arena, groups[i]);
    user->name = fl_arena_strdup(arena, name);
    user->uid = fl_arena_strdup(arena, uid);
    user->groups = copies;
    user->group_count = group_count;
    return user;
}

bool fl_user_in_group(const struct fl_user *user, const char *group)
{
    for (size_t i = 0; i < user->group_count; i++)
        if (strcmp(user->groups[i], group) == 0)
            return true;
    return false;
}

int fl_auth_create(const struct fl_env *env, struct fl_store *store, const char *token_file,
                   struct fl_auth **ret_auth, struct fl_error *err)
{
    struct fl_auth *auth = fl_calloc(1, sizeof(*auth));

    (void)err;
    auth->env = env;
    auth->store = store;
    auth->tokens = token_file ? fl_tokens_create(env, token_file) : NULL;
    auth->rbac = fl_rbac_create(store);
    *ret_auth = auth;
    return 0;
}

void fl_auth_destroy(struct fl_auth *auth)
{
    if (!auth)
        return;
    fl_tokens_destroy(auth->tokens);
    fl_rbac_destroy(auth->rbac);
    free(auth);
}

void fl_auth_invalidate(struct fl_auth *auth)
{
    fl_rbac_invalidate(auth->rbac);
}

/* Who */

static struct fl_user *with_authenticated(struct fl_arena *arena, const struct fl_user *user)
{
    const char *groups[GROUPS_MAX] = {0};
    size_t count = 0;

    while (count < user->group_count && count < GROUPS_MAX - 1) {
        groups[count] = user->groups[count];
        count++;
    }
    if (!fl_user_in_group(user, FL_GROUP_AUTHENTICATED))
        groups[count++] = FL_GROUP_AUTHENTICATED;
    return fl_user_new(arena, user->name, user->uid, groups, count);
}

static struct fl_user *user_of_certificate(struct fl_arena *arena, const struct fl_tls_peer *peer)
{
    const char *groups[FL_TLS_GROUPS_MAX] = {0};

    if (!peer->verified || !*peer->common_name)
        return NULL;
    for (size_t i = 0; i < peer->organization_count; i++)
        groups[i] = peer->organizations[i];
    return fl_user_new(arena, peer->common_name, "", groups, peer->organization_count);
}

static const char *bearer_token(const struct fl_http_request *request)
{
    const char *header = fl_http_header(request, "Authorization");

    if (!header || strncasecmp(header, "Bearer ", 7) != 0)
        return NULL;
    header += 7;
    while (*header == ' ')
        header++;
    return header;
}

/* The password of "Basic base64(user:password)"; what is malformed is a token that nobody has. */
static const char *basic_password(struct fl_http_request *request)
{
    const char *header = fl_http_header(request, "Authorization"), *colon;
    char *text;
    size_t len;

    if (!header || strncasecmp(header, "Basic ", 6) != 0)
        return NULL;
    header += 6 + strspn(header + 6, " ");
    if (!fl_base64_decode(fl_http_arena(request), header, strlen(header), &text, &len) ||
        strlen(text) != len)
        return "";
    colon = strchr(text, ':');
    return colon ? colon + 1 : "";
}

static bool may_impersonate(struct fl_auth *auth, const struct fl_user *user, const char *group,
                            const char *resource, const char *name, struct fl_error *err)
{
    struct fl_access access = {.user = user,
                               .verb = "impersonate",
                               .group = group,
                               .resource = resource,
                               .subresource = "",
                               .ns = "",
                               .name = name,
                               .path = ""};

    if (fl_auth_allows(auth, &access))
        return true;
    (void)fl_auth_forbid(&access, err);
    return false;
}

static int impersonate(struct fl_auth *auth, struct fl_http_request *request,
                       const struct fl_user *real, const struct fl_user **ret_user,
                       struct fl_error *err)
{
    struct fl_arena *arena = fl_http_arena(request);
    const char *name = fl_http_header(request, "Impersonate-User");
    const char *uid = fl_http_header(request, "Impersonate-Uid");
    const char *rest = fl_http_header(request, "Impersonate-Group");
    const char *extra = fl_http_header_beginning(request, "Impersonate-Extra-");
    const char *groups[GROUPS_MAX] = {0};
    struct fl_user *user;
    size_t count = 0;
    char *group;

    if (!name && !rest && !uid && !extra)
        return 0;
    if (!name || !*name)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "impersonating groups, a uid or extras needs a user to impersonate");
    if (!may_impersonate(auth, real, "", "users", name, err) ||
        (uid && !may_impersonate(auth, real, "authentication.k8s.io", "uids", uid, err)))
        return err->code;
    if (extra) /* users have none here, and who restricts by them must not get more instead */
        return fl_error_set(err, FL_E_BAD_REQUEST, "%.100s: extras cannot be impersonated", extra);
    while (rest && (group = fl_str_next(arena, &rest, ',')) && count < GROUPS_MAX - 1) {
        while (*group == ' ')
            group++;
        if (!may_impersonate(auth, real, "", "groups", group, err))
            return err->code;
        groups[count++] = group;
    }
    user = fl_user_new(arena, name, fl_str_or(uid, ""), groups, count);
    user = with_authenticated(arena, user);
    user->impersonator = real->name;
    *ret_user = user;
    return 0;
}

/* A token for the path itself, or for one of the folders it is in. */
static bool opens(const struct fl_auth *auth, struct fl_arena *arena, const char *token,
                  const char *path)
{
    const char *slash = path;
    int tries = 0;

    if (fl_capability_opens(auth->capability_key, token, path))
        return true;
    while ((slash = strchr(slash, '/')) && tries++ < FOLDERS_MAX) {
        slash++;
        if (fl_capability_opens(auth->capability_key, token,
                                fl_arena_strndup(arena, path, (size_t)(slash - path))))
            return true;
    }
    return false;
}

/* Who shows a token for this path may read it, or also write it: no group, no impersonation,
 * nothing else. */
static int identify_capability(struct fl_auth *auth, struct fl_http_request *request,
                               const char *token, const struct fl_user **ret_user,
                               struct fl_error *err)
{
    const char *method = fl_http_method(request), *path = fl_http_path(request);
    const bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    if (!auth->has_capabilities || !(reads || fl_capability_writes(token)) ||
        !opens(auth, fl_http_arena(request), token, path))
        return fl_error_set(err, FL_E_UNAUTHORIZED, "Unauthorized");
    *ret_user = fl_user_new(fl_http_arena(request),
                            fl_capability_writes(token) ? FL_CAPABILITY_WRITER : FL_CAPABILITY_USER,
                            path, NULL, 0);
    return 0;
}

void fl_auth_take_capabilities(struct fl_auth *auth, const unsigned char *key)
{
    memcpy(auth->capability_key, key, sizeof(auth->capability_key));
    auth->has_capabilities = true;
}

int fl_auth_identify(struct fl_auth *auth, struct fl_http_request *request, bool takes_basic,
                     const struct fl_user **ret_user, struct fl_error *err)
{
    struct fl_arena *arena = fl_http_arena(request);
    const char *token = bearer_token(request);
    struct fl_user *user = user_of_certificate(arena, fl_http_peer(request));

    if (!token && takes_basic)
        token = basic_password(request);
    if (token && fl_capability_is(token))
        return identify_capability(auth, request, token, ret_user, err);
    /* A token that is shown must be right, whatever else is. */
    if (token && (!user || fl_http_header(request, "Authorization")))
        user = fl_tokens_find(auth->tokens, arena, token);
    if (!user)
        return fl_error_set(err, FL_E_UNAUTHORIZED, "Unauthorized");
    *ret_user = with_authenticated(arena, user);
    return impersonate(auth, request, *ret_user, ret_user, err);
}

/* What */

/* Everybody else is in system:authenticated at least. */
static bool is_capability(const struct fl_user *user)
{
    return user->group_count == 0 && (strcmp(user->name, FL_CAPABILITY_USER) == 0 ||
                                      strcmp(user->name, FL_CAPABILITY_WRITER) == 0);
}

/* Its path is what the token was found to open. */
static bool capability_allows(const struct fl_access *access)
{
    return !access->resource[0] && strcmp(access->path, access->user->uid) == 0 &&
           (strcmp(access->verb, "get") == 0 || strcmp(access->verb, "head") == 0 ||
            strcmp(access->user->name, FL_CAPABILITY_WRITER) == 0);
}

bool fl_auth_allows(struct fl_auth *auth, const struct fl_access *access)
{
    if (is_capability(access->user))
        return capability_allows(access);
    return fl_user_in_group(access->user, FL_GROUP_MASTERS) || fl_rbac_allows(auth->rbac, access);
}

int fl_auth_forbid(const struct fl_access *access, struct fl_error *err)
{
    const char *dot = *access->group ? "." : "";
    const char *slash = *access->subresource ? "/" : "";

    if (!*access->resource)
        return fl_error_set(err, FL_E_FORBIDDEN, "forbidden: User \"%s\" cannot %s path \"%s\"",
                            access->user->name, access->verb, access->path);
    return fl_error_set(err, FL_E_FORBIDDEN,
                        "%s%s%s%s%s%s is forbidden: User \"%s\" cannot %s resource \"%s%s%s\" in "
                        "API group \"%s\" %s%s%s",
                        access->resource, dot, access->group, *access->name ? " \"" : "",
                        access->name, *access->name ? "\"" : "", access->user->name, access->verb,
                        access->resource, slash, access->subresource, access->group,
                        *access->ns ? "in the namespace \"" : "at the cluster scope", access->ns,
                        *access->ns ? "\"" : "");
}

/* Granting */

static json_t *held_rules(struct fl_auth *auth, const struct fl_user *user, const char *ns)
{
    return fl_rbac_rules(auth->rbac, user, ns);
}

const char *fl_auth_role_resource(const json_t *binding)
{
    return fl_streq(fl_json_str(binding, "roleRef.kind"), "ClusterRole") ? "clusterroles" : "roles";
}

static int refuse_grant(const struct fl_user *user, const char *kind, const json_t *object,
                        struct fl_error *err)
{
    return fl_error_set(err, FL_E_FORBIDDEN,
                        "%s \"%s\" is forbidden: user \"%s\" is attempting to grant RBAC "
                        "permissions not currently held",
                        kind, fl_str_or(fl_json_str(object, "metadata.name"), ""), user->name);
}

static int check_bind(struct fl_auth *auth, const struct fl_user *user, const char *kind,
                      const json_t *object, struct fl_error *err)
{
    const json_t *ref = json_object_get(object, "roleRef");
    const char *ns = fl_str_or(fl_json_str(object, "metadata.namespace"), "");
    struct fl_access access = {.user = user,
                               .verb = "bind",
                               .group = "rbac.authorization.k8s.io",
                               .resource = fl_auth_role_resource(object),
                               .subresource = "",
                               .ns = ns,
                               .name = fl_str_or(fl_json_str(ref, "name"), ""),
                               .path = ""};
    FL_JSON wanted = NULL;
    FL_JSON held = NULL;

    if (fl_auth_allows(auth, &access))
        return 0;
    wanted = fl_rbac_role_rules(auth->rbac, ref, ns);
    if (!wanted)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s.%s \"%s\" not found", access.resource,
                            access.group, access.name);
    held = held_rules(auth, user, ns);
    return fl_rbac_covers(held, wanted) ? 0 : refuse_grant(user, kind, object, err);
}

static int check_define(struct fl_auth *auth, const struct fl_user *user, const char *kind,
                        const json_t *object, struct fl_error *err)
{
    const char *ns = fl_str_or(fl_json_str(object, "metadata.namespace"), "");
    struct fl_access access = {.user = user,
                               .verb = "escalate",
                               .group = "rbac.authorization.k8s.io",
                               .resource = strcmp(kind, "Role") == 0 ? "roles" : "clusterroles",
                               .subresource = "",
                               .ns = ns,
                               .name = fl_str_or(fl_json_str(object, "metadata.name"), ""),
                               .path = ""};
    FL_JSON held = NULL;

    if (fl_auth_allows(auth, &access))
        return 0;
    held = held_rules(auth, user, ns);
    return fl_rbac_covers(held, json_object_get(object, "rules"))
               ? 0
               : refuse_grant(user, kind, object, err);
}

/* Absent, null and empty are the same. */
static bool same_member(const json_t *a, const json_t *b, const char *key)
{
    const json_t *left = json_object_get(a, key), *right = json_object_get(b, key);

    return (json_array_size(left) == 0 && json_array_size(right) == 0 && !json_is_object(left) &&
            !json_is_object(right)) ||
           json_equal(left, right);
}

int fl_auth_check_grant(struct fl_auth *auth, const struct fl_user *user, const char *kind,
                        const json_t *live, const json_t *object, struct fl_error *err)
{
    bool binding = fl_str_has_suffix(kind, "Binding");

    if (fl_user_in_group(user, FL_GROUP_MASTERS))
        return 0;
    if (live &&
        (binding
             ? same_member(live, object, "roleRef") && same_member(live, object, "subjects")
             : same_member(live, object, "rules") && same_member(live, object, "aggregationRule")))
        return 0;
    return binding ? check_bind(auth, user, kind, object, err)
                   : check_define(auth, user, kind, object, err);
}

/* Reviews */

static const char *text_at(const json_t *value, const char *path)
{
    return fl_str_or(fl_json_str(value, path), "");
}

static int access_of_review(const json_t *review, struct fl_access *access, struct fl_error *err)
{
    const json_t *resource = fl_json_path(review, "spec.resourceAttributes");
    const json_t *path = fl_json_path(review, "spec.nonResourceAttributes");

    if (json_is_object(resource) == json_is_object(path))
        return fl_error_set(err, FL_E_INVALID,
                            ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes: "
                            "Invalid value: \"null\": exactly one of nonResourceAttributes or "
                            "resourceAttributes must be specified");
    *access = (struct fl_access){
        .verb = text_at(resource ? resource : path, "verb"),
        .group = text_at(resource, "group"),
        .resource = text_at(resource, "resource"),
        .subresource = text_at(resource, "subresource"),
        .ns = text_at(resource, "namespace"),
        .name = text_at(resource, "name"),
        .path = text_at(path, "path"),
    };
    return 0;
}

static int review_access(struct fl_auth *auth, const struct fl_user *user, json_t *review,
                         struct fl_error *err)
{
    struct fl_access access;
    int r = access_of_review(review, &access, err);

    if (r < 0)
        return r;
    access.user = user;
    (void)json_object_set_new(review, "status",
                              json_pack("{s:b}", "allowed", fl_auth_allows(auth, &access)));
    return 0;
}

static int review_other_access(struct fl_auth *auth, json_t *review, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *groups[GROUPS_MAX] = {0};
    size_t count = 0, i;
    json_t *item;

    json_array_foreach(fl_json_path(review, "spec.groups"), i, item)
        if (json_is_string(item) && count < GROUPS_MAX)
            groups[count++] = json_string_value(item);
    return review_access(auth,
                         fl_user_new(arena, text_at(review, "spec.user"),
                                     text_at(review, "spec.uid"), groups, count),
                         review, err);
}

static void review_rules(struct fl_auth *auth, const struct fl_user *user, json_t *review)
{
    FL_JSON rules = fl_rbac_rules(auth->rbac, user, text_at(review, "spec.namespace"));
    json_t *resources = json_array(), *urls = json_array(), *rule;
    size_t i;

    if (fl_user_in_group(user, FL_GROUP_MASTERS))
        (void)json_array_append_new(rules, json_pack("{s:[s], s:[s], s:[s], s:[s]}", "verbs", "*",
                                                     "apiGroups", "*", "resources", "*",
                                                     "nonResourceURLs", "*"));
    json_array_foreach(rules, i, rule) {
        if (json_object_get(rule, "nonResourceURLs"))
            (void)json_array_append_new(
                urls, json_pack("{s:O, s:O}", "verbs", json_object_get(rule, "verbs"),
                                "nonResourceURLs", json_object_get(rule, "nonResourceURLs")));
        if (json_object_get(rule, "resources")) {
            json_t *copy = json_copy(rule);

            (void)json_object_del(copy, "nonResourceURLs");
            (void)json_array_append_new(resources, copy);
        }
    }
    (void)json_object_set_new(review, "status",
                              json_pack("{s:o, s:o, s:b}", "resourceRules", resources,
                                        "nonResourceRules", urls, "incomplete", 0));
}

static json_t *user_info(const struct fl_user *user)
{
    json_t *info = json_pack("{s:s}", "username", user->name), *groups = json_array();

    for (size_t i = 0; i < user->group_count; i++)
        (void)json_array_append_new(groups, json_string(user->groups[i]));
    if (*user->uid)
        fl_json_set_str(info, "uid", user->uid);
    (void)json_object_set_new(info, "groups", groups);
    return info;
}

static void review_token(struct fl_auth *auth, json_t *review)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_user *user = fl_tokens_find(auth->tokens, arena, text_at(review, "spec.token"));
    json_t *status;

    if (user)
        status = json_pack("{s:b, s:o}", "authenticated", 1, "user",
                           user_info(with_authenticated(arena, user)));
    else
        status = json_pack("{s:{}, s:s}", "user", "error", "invalid bearer token");
    (void)json_object_set_new(review, "status", status);
}

int fl_auth_review(struct fl_auth *auth, const struct fl_user *user, const char *kind,
                   json_t *review, struct fl_error *err)
{
    if (strcmp(kind, "SelfSubjectAccessReview") == 0)
        return review_access(auth, user, review, err);
    if (strcmp(kind, "SubjectAccessReview") == 0)
        return review_other_access(auth, review, err);
    if (strcmp(kind, "SelfSubjectRulesReview") == 0)
        review_rules(auth, user, review);
    else if (strcmp(kind, "SelfSubjectReview") == 0)
        (void)json_object_set_new(review, "status",
                                  json_pack("{s:o}", "userInfo", user_info(user)));
    else
        review_token(auth, review);
    return 0;
}

/* Default roles */

static const char defaults[] =
    "- {kind: ClusterRole, name: cluster-admin, rules: [{verbs: ['*'], apiGroups: ['*'], "
    "resources: "
    "['*']}, {verbs: ['*'], nonResourceURLs: ['*']}]}\n"
    "- kind: ClusterRole\n"
    "  name: view\n"
    "  rules:\n"
    "  - {verbs: [get, list, watch], apiGroups: [flops.dev], resources: ['*']}\n"
    "  - {verbs: [get, list, watch], apiGroups: [''], resources: [configmaps, events, services, "
    "serviceaccounts]}\n"
    "  - {verbs: [get, list, watch], apiGroups: [events.k8s.io], resources: [events]}\n"
    "  - {verbs: [get, list, watch], apiGroups: [coordination.k8s.io], resources: [leases]}\n"
    "- kind: ClusterRole\n"
    "  name: edit\n"
    "  rules: &edit\n"
    "  - {verbs: [get, list, watch, create, update, patch, delete, deletecollection], apiGroups: "
    "[flops.dev], resources: ['*']}\n"
    "  - {verbs: [get, list, watch, create, update, patch, delete, deletecollection], apiGroups: "
    "[''], resources: [configmaps, secrets, serviceaccounts, events]}\n"
    "  - {verbs: [get, list, watch, create, update, patch, delete, deletecollection], apiGroups: "
    "[events.k8s.io], resources: [events]}\n"
    "  - {verbs: [get, list, watch, create, update, patch, delete, deletecollection], apiGroups: "
    "[coordination.k8s.io], resources: [leases]}\n"
    "  - {verbs: [get, list, watch], apiGroups: [''], resources: [services]}\n"
    "- kind: ClusterRole\n"
    "  name: admin\n"
    "  rules: *edit\n"
    "  more:\n"
    "  - {verbs: [get, list, watch, create, update, patch, delete, deletecollection], apiGroups: "
    "[rbac.authorization.k8s.io], resources: [roles, rolebindings]}\n"
    "  - {verbs: [get], apiGroups: [''], resources: [namespaces]}\n"
    "- kind: ClusterRole\n"
    "  name: system:basic-user\n"
    "  rules:\n"
    "  - {verbs: [create], apiGroups: [authorization.k8s.io], resources: "
    "[selfsubjectaccessreviews, selfsubjectrulesreviews]}\n"
    "  - {verbs: [create], apiGroups: [authentication.k8s.io], resources: [selfsubjectreviews]}\n"
    "- kind: ClusterRole\n"
    "  name: system:discovery\n"
    "  rules:\n"
    "  - {verbs: [get, head], nonResourceURLs: [/, /api, /api/*, /apis, /apis/*, /openapi, "
    "/openapi/*, /version, /version/, /v2/, '/healthz*', '/livez*', '/readyz*']}\n"
    "- kind: ClusterRole\n"
    "  name: flops:content-reader\n"
    "  rules:\n"
    "  - {verbs: [get, head], nonResourceURLs: ['/content/*']}\n"
    "- kind: ClusterRole\n"
    "  name: flops:content-writer\n"
    "  rules:\n"
    "  - {verbs: [get, head, put], nonResourceURLs: ['/content/*']}\n"
    "- kind: ClusterRole\n"
    "  name: flops:image-reader\n"
    "  rules:\n"
    "  - {verbs: [get, head], nonResourceURLs: ['/v2/*']}\n"
    "- kind: ClusterRole\n"
    "  name: flops:image-writer\n"
    "  rules:\n"
    "  - {verbs: [get, head, post, put, patch, delete], nonResourceURLs: ['/v2/*']}\n"
    "- {kind: ClusterRoleBinding, name: cluster-admin, role: cluster-admin, group: "
    "'system:masters'}\n"
    "- {kind: ClusterRoleBinding, name: 'system:basic-user', role: 'system:basic-user', group: "
    "'system:authenticated'}\n"
    "- {kind: ClusterRoleBinding, name: 'system:discovery', role: 'system:discovery', group: "
    "'system:authenticated'}\n";

static json_t *default_object(const json_t *entry)
{
    const char *kind = fl_json_str(entry, "kind"), *name = fl_json_str(entry, "name");
    json_t *object = json_pack("{s:s, s:s, s:{s:s, s:{s:s}}}", "apiVersion",
                               "rbac.authorization.k8s.io/v1", "kind", kind, "metadata", "name",
                               name, "labels", "kubernetes.io/bootstrapping", "rbac-defaults");
    json_t *more = json_object_get(entry, "more");

    if (strcmp(kind, "ClusterRole") == 0) {
        json_t *rules = json_deep_copy(json_object_get(entry, "rules"));

        if (more)
            (void)json_array_extend(rules, more);
        (void)json_object_set_new(object, "rules", rules);
        return object;
    }
    (void)json_object_set_new(object, "roleRef",
                              json_pack("{s:s, s:s, s:s}", "apiGroup", "rbac.authorization.k8s.io",
                                        "kind", "ClusterRole", "name", fl_json_str(entry, "role")));
    (void)json_object_set_new(object, "subjects",
                              json_pack("[{s:s, s:s, s:s}]", "apiGroup",
                                        "rbac.authorization.k8s.io", "kind", "Group", "name",
                                        fl_json_str(entry, "group")));
    return object;
}

static int write_default(struct fl_auth *auth, const json_t *entry, struct fl_error *err)
{
    const char *kind = fl_json_str(entry, "kind");
    struct fl_traits traits = {.loose_names = true};
    struct fl_store_write write = {
        .op = FL_STORE_CREATE,
        .key = {strcmp(kind, "ClusterRole") == 0 ? "clusterroles.rbac.authorization.k8s.io"
                                                 : "clusterrolebindings.rbac.authorization.k8s.io",
                NULL, fl_json_str(entry, "name")},
    };
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *have = fl_store_get_newest(auth->store, &write.key);
    FL_JSON object = NULL;

    if (have)
        return 0; /* what someone changed stays changed */
    object = default_object(entry);
    fl_meta_prepare_create(auth->env, &traits, "", object);
    write.object = object;
    return fl_store_write_wait(auth->store, &write, NULL, err);
}

int fl_auth_bootstrap(struct fl_auth *auth, struct fl_error *err)
{
    FL_JSON entries = NULL;
    json_t *entry;
    size_t i;
    int r = fl_yaml_parse(defaults, sizeof(defaults) - 1, NULL, &entries, err);

    json_array_foreach(entries, i, entry) {
        if (r == 0)
            r = write_default(auth, entry, err);
    }
    return r < 0 ? fl_error_wrap(err, "default roles") : 0;
}
