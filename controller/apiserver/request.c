/* From bytes to a request that is understood, known and allowed. */
#include "controller/apiserver/internal.h"
#include "controller/apiserver/raw_internal.h"

#include "api/protobuf.h"
#include "lib/yaml.h"

#define SEGMENTS_MAX         12
#define WRITES_IN_FLIGHT_MAX 2000

const char *fl_request_param(const struct fl_request *request, const char *name)
{
    for (size_t i = 0; i < request->param_count; i++)
        if (strcmp(request->params[i].name, name) == 0)
            return request->params[i].value;
    return NULL;
}

bool fl_request_flag(const struct fl_request *request, const char *name)
{
    const char *value = fl_request_param(request, name);

    return value &&
           (strcmp(value, "true") == 0 || strcmp(value, "True") == 0 ||
            strcmp(value, "TRUE") == 0 || strcmp(value, "1") == 0 || strcmp(value, "t") == 0);
}

static int parse_params(struct fl_request *request, struct fl_error *err)
{
    const char *rest = fl_http_query(request->http);
    char *pair;

    if (!*rest)
        return 0;
    while ((pair = fl_str_next(request->arena, &rest, '&'))) {
        const char *equals = strchr(pair, '=');
        size_t name_len = equals ? (size_t)(equals - pair) : strlen(pair);
        const char *value = equals ? equals + 1 : "";
        struct fl_param *param;

        if (!*pair)
            continue;
        if (request->param_count == FL_PARAMS_MAX)
            return fl_error_set(err, FL_E_BAD_REQUEST, "more than %d query parameters",
                                FL_PARAMS_MAX);
        param = &request->params[request->param_count++];
        param->name = fl_url_decode(request->arena, pair, name_len, true);
        param->value = fl_url_decode(request->arena, value, strlen(value), true);
        if (!param->name || !param->value)
            return fl_error_set(err, FL_E_BAD_REQUEST, "malformed escape in the query");
    }
    return 0;
}

/* Segments of the path, decoded. */
struct segments {
    const char *items[SEGMENTS_MAX];
    size_t count;
};

static int split_path(struct fl_request *request, struct segments *segments, struct fl_error *err)
{
    const char *rest = fl_http_path(request->http);
    char *raw;

    while ((raw = fl_str_next(request->arena, &rest, '/'))) {
        const char *segment;

        if (!*raw)
            continue;
        segment = fl_url_decode(request->arena, raw, strlen(raw), false);
        if (!segment)
            return fl_error_set(err, FL_E_BAD_REQUEST, "malformed escape in the path");
        if (segments->count == SEGMENTS_MAX)
            return fl_error_set(err, FL_E_NOT_FOUND, "path too deep");
        segments->items[segments->count++] = segment;
    }
    return 0;
}

static const char *segment_at(const struct segments *segments, size_t i)
{
    return i < segments->count ? segments->items[i] : "";
}

/* /api/v1/namespaces/NAME and its subresources, rather than something in the namespace. */
static bool names_namespace(const struct segments *segments, size_t at)
{
    const char *next = segment_at(segments, at);

    return segments->count == at || strcmp(next, "status") == 0 || strcmp(next, "finalize") == 0;
}

/* Reads group, version and what follows; false where the path names no resource. */
static bool read_resource_path(struct fl_request *request, const struct segments *segments,
                               bool *ret_watch)
{
    bool core = strcmp(segment_at(segments, 0), "api") == 0;
    size_t at = core ? 2 : 3;

    *ret_watch = false;
    if ((!core && strcmp(segment_at(segments, 0), "apis") != 0) || segments->count <= at)
        return false;
    request->group = core ? "" : segment_at(segments, 1);
    request->version = segment_at(segments, at - 1);
    if (strcmp(segment_at(segments, at), "watch") == 0 && segments->count > at + 1) {
        *ret_watch = true; /* the old form of ?watch=true */
        at++;
    }
    if (strcmp(segment_at(segments, at), "namespaces") == 0 && segments->count > at + 1) {
        request->ns = segment_at(segments, at + 1);
        if (core && names_namespace(segments, at + 2)) {
            request->names_namespace = true;
            request->plural = "namespaces";
            request->name = request->ns;
            request->subresource = segment_at(segments, at + 2);
            return segments->count <= at + 3;
        }
        at += 2;
    }
    request->plural = segment_at(segments, at);
    request->name = segment_at(segments, at + 1);
    request->subresource = segment_at(segments, at + 2);
    return segments->count <= at + 3;
}

static const char *resource_verb(const struct fl_request *request, bool watch)
{
    const char *method = fl_http_method(request->http);
    bool item = *request->name != '\0';

    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        if (watch && !*request->subresource && strcmp(method, "GET") == 0)
            return "watch"; /* a HEAD would wait for what is never sent */
        return item ? "get" : "list";
    }
    if (strcmp(method, "POST") == 0)
        return "create";
    if (strcmp(method, "PUT") == 0)
        return "update";
    if (strcmp(method, "PATCH") == 0)
        return "patch";
    if (strcmp(method, "DELETE") == 0)
        return item ? "delete" : "deletecollection";
    return NULL;
}

static const char *lower_method(struct fl_request *request)
{
    char *verb = fl_arena_strdup(request->arena, fl_http_method(request->http));

    for (char *c = verb; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return verb;
}

/* Accept: the first clause that can be served. */

static const char *clause_option(const char *clause, const char *name, size_t *ret_len)
{
    size_t name_len = strlen(name);

    for (const char *at = strchr(clause, ';'); at; at = strchr(at, ';')) {
        at++;
        while (*at == ' ')
            at++;
        if (strncmp(at, name, name_len) == 0 && at[name_len] == '=') {
            *ret_len = strcspn(at + name_len + 1, "; \t");
            return at + name_len + 1;
        }
    }
    *ret_len = 0;
    return "";
}

static bool take_clause(struct fl_request *request, const char *clause)
{
    size_t type_len = strcspn(clause, "; \t"), as_len, version_len;
    const char *as = clause_option(clause, "as", &as_len);
    const char *version = clause_option(clause, "v", &version_len);
    bool yaml = type_len == 16 && strncmp(clause, "application/yaml", 16) == 0;

    if (!yaml && !(type_len == 16 && strncmp(clause, "application/json", 16) == 0) &&
        !(type_len == 3 && strncmp(clause, "*/*", 3) == 0) &&
        !(type_len == 13 && strncmp(clause, "application/*", 13) == 0))
        return false;
    request->yaml = yaml;
    if (as_len == 0) {
        request->view = FL_VIEW_OBJECT;
    } else if (as_len == 5 && strncmp(as, "Table", 5) == 0) {
        request->view = FL_VIEW_TABLE;
        if (version_len == 7 && strncmp(version, "v1beta1", 7) == 0)
            request->table_v1beta1 = true;
    } else if (strncmp(as, "PartialObjectMetadata", 21) == 0) {
        request->view = FL_VIEW_PARTIAL;
    } else {
        return strncmp(as, "APIGroupDiscoveryList", 21) == 0; /* discovery.c looks again */
    }
    return true;
}

static int negotiate(struct fl_request *request, struct fl_error *err)
{
    const char *rest = fl_http_header(request->http, "Accept");
    char *clause;

    if (!rest || !*rest)
        return 0;
    while ((clause = fl_str_next(request->arena, &rest, ','))) {
        while (*clause == ' ' || *clause == '\t')
            clause++;
        if (take_clause(request, clause))
            return 0;
    }
    return fl_error_set(err, FL_E_NOT_ACCEPTABLE,
                        "only the following media types are accepted: application/json, "
                        "application/yaml");
}

/* People with curl, wget or a browser get indented text, as from a cluster. */
static bool wants_pretty(const struct fl_request *request)
{
    const char *agent = fl_str_or(fl_http_header(request->http, "User-Agent"), "");

    if (fl_request_param(request, "pretty"))
        return fl_request_flag(request, "pretty");
    return fl_str_has_prefix(agent, "curl/") || fl_str_has_prefix(agent, "Wget/") ||
           fl_str_has_prefix(agent, "Mozilla/");
}

const char *fl_request_manager(const struct fl_request *request)
{
    const char *manager = fl_request_param(request, "fieldManager");
    const char *agent = fl_http_header(request->http, "User-Agent");
    size_t len;

    if (manager && *manager)
        return manager;
    if (!agent || !*agent)
        return "unknown";
    len = strcspn(agent, "/");
    return fl_arena_strndup(request->arena, agent, len < 128 ? len : 128);
}

static bool is_type(const char *header, const char *type)
{
    size_t len = strlen(type);

    return strncasecmp(header, type, len) == 0 &&
           (header[len] == '\0' || header[len] == ';' || header[len] == ' ');
}

int fl_request_body(struct fl_request *request, fl_json_duplicate_fn *duplicates, void *user,
                    json_t **ret_body, struct fl_error *err)
{
    const char *type = fl_http_header(request->http, "Content-Type");
    size_t len;
    const char *body = fl_http_body(request->http, &len);
    bool patch = fl_streq(request->verb, "patch");
    int r;

    if (!type || !*type || is_type(type, "application/json") || is_type(type, "*/*") ||
        (patch && (is_type(type, "application/merge-patch+json") ||
                   is_type(type, "application/json-patch+json") ||
                   is_type(type, "application/strategic-merge-patch+json"))))
        r = fl_json_parse(body, len, NULL, duplicates, user, ret_body, err);
    else if (is_type(type, "application/yaml") ||
             (patch && is_type(type, "application/apply-patch+yaml")))
        r = fl_yaml_parse(body, len, NULL, ret_body, err);
    else if (is_type(type, "application/vnd.kubernetes.protobuf"))
        r = fl_protobuf_decode(body, len, ret_body, err);
    else
        return fl_error_set(err, FL_E_UNSUPPORTED_MEDIA,
                            "the body of the request was in an unknown format - accepted media "
                            "types include: application/json, application/yaml, "
                            "application/vnd.kubernetes.protobuf");
    if (r < 0)
        return fl_error_wrap(err, "the body of the request cannot be read");
    return 0;
}

/* Errors that the HTTP layer finds before there is a request. */
void fl_request_error_body(void *server, int status, const char *detail, struct fl_buf *body,
                           const char **ret_content_type)
{
    struct fl_error err = {0};
    FL_JSON value = NULL;

    (void)server;
    (void)fl_error_set(&err, fl_error_from_status(NULL, status), "%s", detail);
    value = fl_status_failure(&err, NULL);
    (void)json_object_set_new(value, "code", json_integer(status));
    if (fl_error_http_status(err.code) != status)
        (void)json_object_set_new(value, "reason",
                                  json_string(status < 500 ? "BadRequest" : "InternalError"));
    fl_json_write(body, value);
    *ret_content_type = "application/json";
}

static void release(void *user)
{
    fl_served_unref(user);
}

static struct fl_request *request_create(struct fl_apiserver *server, struct fl_http_request *http)
{
    struct fl_arena *arena = fl_http_arena(http);
    struct fl_request *request = fl_new(arena, struct fl_request);
    char *id = fl_alloc(arena, FL_UUID_SIZE);

    fl_uuid_v4(server->env, id);
    request->server = server;
    request->http = http;
    request->arena = arena;
    request->audit_id = id;
    request->group = request->version = request->plural = "";
    request->ns = request->name = request->subresource = "";
    fl_http_set_header(http, "Audit-Id", id);
    fl_http_set_header(http, "Cache-Control", "no-cache, private");
    return request;
}

static bool is_public(const char *path)
{
    return strcmp(path, "/healthz") == 0 || strcmp(path, "/livez") == 0 ||
           strcmp(path, "/readyz") == 0;
}

/* What a selector restricts; a creation would only be called by its name. */
static bool is_about_many(const char *verb)
{
    return strcmp(verb, "list") == 0 || strcmp(verb, "watch") == 0 ||
           strcmp(verb, "deletecollection") == 0;
}

/* The object that a list or watch is confined to by metadata.name: rights may be for it alone. */
static const char *selected_name(struct fl_request *request)
{
    const char *text = fl_request_param(request, "fieldSelector");
    struct fl_selector *fields = NULL;
    struct fl_error err = {0};

    if (*request->name || !*request->plural || !text || !is_about_many(request->verb) ||
        fl_field_selector_parse(request->arena, text, &fields, &err) < 0)
        return request->name;
    return fl_str_or(fl_selector_exact(fields, "metadata.name"), "");
}

static int identify(struct fl_request *request, const char *path, struct fl_error *err)
{
    const struct fl_apiserver_raw *owner = fl_raw_find(request->server, path);

    return fl_auth_identify(request->server->auth, request->http, owner && owner->basic_realm,
                            &request->user, err);
}

static int check_access(struct fl_request *request, const char *path, struct fl_error *err)
{
    int r;

    request->access = (struct fl_access){
        .verb = request->verb,
        .group = request->group,
        .resource = request->plural,
        .subresource = request->subresource,
        .ns = request->ns,
        .name = selected_name(request),
        .path = path,
    };
    if (!*request->plural && is_public(path))
        return 0;
    r = identify(request, path, err);
    request->access.user = request->user; /* who tries to be another is known, too */
    if (r < 0)
        return r;
    if (!fl_auth_allows(request->server->auth, &request->access))
        return fl_auth_forbid(&request->access, err);
    return 0;
}

static int find_resource(struct fl_request *request)
{
    request->served = fl_catalog_find(request->server->catalog, request->group, request->version,
                                      request->plural);
    if (!request->served)
        return FL_E_NOT_FOUND;
    fl_arena_on_reset(request->arena, release, fl_served_ref(request->served));
    request->resource = request->served->resource;
    if (!request->resource->traits.namespaced) {
        if (*request->ns && !request->names_namespace)
            return FL_E_NOT_FOUND; /* access was checked for a namespace it is not in */
        request->ns = "";
    } else if (!*request->ns && *request->name) {
        return FL_E_NOT_FOUND;
    }
    return 0;
}

static bool knows_subresource(const struct fl_request *request)
{
    const struct fl_resource *resource = request->resource;
    const char *sub = request->subresource;

    return !*sub || (resource->traits.has_status && strcmp(sub, "status") == 0) ||
           (resource->has_scale && strcmp(sub, "scale") == 0) ||
           (resource->has_finalize && strcmp(sub, "finalize") == 0) || request->elsewhere;
}

static int verb_number(const char *verb)
{
    for (int i = 0; i < FL_VERB_COUNT; i++)
        if (strcmp(fl_verb_name((enum fl_verb)i), verb) == 0)
            return i;
    return -1;
}

typedef void handler_fn(struct fl_request *request);

static handler_fn *const handlers[FL_VERB_COUNT] = {
    [FL_VERB_GET] = fl_handle_get,       [FL_VERB_LIST] = fl_handle_list,
    [FL_VERB_WATCH] = fl_handle_watch,   [FL_VERB_CREATE] = fl_handle_create,
    [FL_VERB_UPDATE] = fl_handle_update, [FL_VERB_PATCH] = fl_handle_patch,
    [FL_VERB_DELETE] = fl_handle_delete, [FL_VERB_DELETE_COLLECTION] = fl_handle_delete_collection,
};

static bool verb_fits(const struct fl_request *request, int verb)
{
    if (verb < 0 || !fl_resource_allows(request->resource, (enum fl_verb)verb))
        return false;
    if (request->elsewhere) /* a HEAD would wait for what is never sent */
        return strcmp(fl_http_method(request->http), "GET") == 0;
    if (*request->subresource)
        return verb == FL_VERB_GET || verb == FL_VERB_UPDATE || verb == FL_VERB_PATCH;
    if (*request->name)
        return verb != FL_VERB_CREATE;
    return verb != FL_VERB_UPDATE && verb != FL_VERB_PATCH;
}

static void dispatch(struct fl_request *request)
{
    struct fl_error err = {0};
    int verb = verb_number(request->verb);

    if (!verb_fits(request, verb)) {
        (void)fl_error_set(&err, FL_E_METHOD_NOT_ALLOWED,
                           "the server does not allow this method on the requested resource");
        fl_respond_failure(request, &err, NULL);
        return;
    }
    if (request->is_write && request->server->writes_in_flight >= WRITES_IN_FLIGHT_MAX) {
        (void)fl_error_set(&err, FL_E_TOO_MANY_REQUESTS,
                           "the server has too many writes under way, please try again later");
        fl_respond_error(request, &err, &(struct fl_status_details){.retry_after_seconds = 1});
        return;
    }
    if (request->resource->deprecated)
        fl_respond_warning(request, request->resource->deprecation_warning);
    if (request->resource->builtin && request->resource->verbs == 1u << FL_VERB_CREATE)
        fl_handle_review(request);
    else if (request->elsewhere)
        fl_handle_subresource(request);
    else
        handlers[verb](request);
}

static void respond_not_found(struct fl_request *request)
{
    fl_respond_text(request, 404, "404 page not found\n");
}

static int understand(struct fl_request *request, bool *ret_is_resource, struct fl_error *err)
{
    struct segments segments = {0};
    bool watch;
    int r;

    r = parse_params(request, err);
    if (r == 0 && !fl_raw_find(request->server, fl_http_path(request->http)))
        r = split_path(request, &segments, err);
    if (r < 0)
        return r;
    if (!fl_table_include_parse(fl_str_or(fl_request_param(request, "includeObject"), ""),
                                &request->include))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "includeObject must be one of None, Metadata, Object");
    request->pretty = wants_pretty(request);
    *ret_is_resource = read_resource_path(request, &segments, &watch);
    if (*ret_is_resource && *request->subresource)
        request->elsewhere = fl_subresource_find(request->server, request->group, request->plural,
                                                 request->subresource);
    if (*ret_is_resource && !request->elsewhere) /* others have types of their own */
        r = negotiate(request, err);
    if (r < 0)
        return r;
    request->verb = *ret_is_resource
                        ? resource_verb(request, watch || fl_request_flag(request, "watch"))
                        : lower_method(request);
    if (!*ret_is_resource)
        request->plural = request->group = request->version = request->ns = request->name =
            request->subresource = "";
    if (!request->verb)
        return fl_error_set(err, FL_E_METHOD_NOT_ALLOWED,
                            "the server does not allow this method on the requested resource");
    request->is_write = *ret_is_resource && verb_number(request->verb) >= FL_VERB_CREATE;
    return 0;
}

/* What strangers send is not discussed with them. */
static int refuse_strangers(struct fl_request *request, const char *path, struct fl_error *err)
{
    struct fl_error why = {0};

    if (!is_public(path) && identify(request, path, &why) == FL_E_UNAUTHORIZED)
        *err = why;
    return err->code;
}

static bool has_body(const struct fl_http_request *http)
{
    const char *method = fl_http_method(http);

    return strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0 ||
           strcmp(method, "PATCH") == 0;
}

void fl_request_begin(void *user, struct fl_http_request *http)
{
    const char *path = fl_http_path(http);
    const struct fl_apiserver_raw *owner = fl_raw_find(user, path);
    struct fl_request *request;
    struct fl_error err = {0};
    bool is_resource = false;
    int r;

    if (!owner || !owner->begin || !has_body(http))
        return;
    request = request_create(user, http);
    r = understand(request, &is_resource, &err);
    r = r == 0 ? check_access(request, path, &err) : refuse_strangers(request, path, &err);
    fl_raw_begin(request, owner, r < 0 ? &err : NULL);
}

void fl_request_handle(void *user, struct fl_http_request *http)
{
    const char *path = fl_http_path(http);
    struct fl_request *request;
    struct fl_error err = {0};
    bool is_resource = false;
    int r;

    if (fl_raw_resume(user, http))
        return;
    request = request_create(user, http);
    r = understand(request, &is_resource, &err);
    r = r == 0 ? check_access(request, path, &err) : refuse_strangers(request, path, &err);
    if (r < 0) {
        fl_raw_refuse(request, fl_raw_find(user, path), &err);
        return;
    }
    if (!is_resource) {
        if (!fl_handle_raw(request, path) && !fl_handle_document(request, path))
            respond_not_found(request);
        return;
    }
    if (find_resource(request) < 0 || !knows_subresource(request)) {
        if (!fl_handle_document(request, path))
            respond_not_found(request);
        return;
    }
    dispatch(request);
}
