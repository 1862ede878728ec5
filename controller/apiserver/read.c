/* GET and LIST. */

#include "controller/apiserver/options.h"
#include "controller/apiserver/scale.h"

#define RV_WAIT_MS 3000

/* Selections */

static int check_field_keys(const struct fl_resource *resource, const struct fl_selector *fields,
                            struct fl_error *err)
{
    const char *const *keys;
    size_t count = fl_selector_keys(fields, &keys);

    for (size_t i = 0; i < count; i++) {
        bool known = strcmp(keys[i], "metadata.name") == 0 ||
                     (resource->traits.namespaced && strcmp(keys[i], "metadata.namespace") == 0);

        for (size_t k = 0; !known && k < resource->selectable.count; k++) {
            const char *path = resource->selectable.items[k];

            known = strcmp(keys[i], *path == '.' ? path + 1 : path) == 0;
        }
        if (!known)
            return fl_error_set(err, FL_E_BAD_REQUEST, "field label not supported: %s", keys[i]);
    }
    return 0;
}

int fl_selection_parse(struct fl_request *request, struct fl_selection *ret_selection,
                       struct fl_error *err)
{
    const char *labels = fl_request_param(request, "labelSelector");
    const char *fields = fl_request_param(request, "fieldSelector");
    struct fl_selection selection = {.resource = request->resource};
    int r = 0;

    if (labels)
        r = fl_label_selector_parse(request->arena, labels, &selection.labels, err);
    if (r == 0 && fields)
        r = fl_field_selector_parse(request->arena, fields, &selection.fields, err);
    if (r == 0)
        r = check_field_keys(request->resource, selection.fields, err);
    if (r < 0)
        return r;
    selection.name =
        *request->name ? request->name : fl_selector_exact(selection.fields, "metadata.name");
    *ret_selection = selection;
    return 0;
}

bool fl_selection_is_all(const struct fl_selection *selection)
{
    return !selection->labels && !selection->fields && !selection->name;
}

static const char *get_label(void *user, const char *key)
{
    const struct fl_object *object = user;

    for (size_t i = 0; i < object->label_count; i++)
        if (strcmp(object->labels[i].key, key) == 0)
            return object->labels[i].value;
    return NULL;
}

/* The content is read only when a selector asks for more than names. */
struct field_source {
    const struct fl_object *object;
    json_t *content;
    char number[32];
};

/* Field selectors of events, which are stored in the core group's form. */
static const char *stored_field(const char *key, char *buf, size_t size)
{
    if (strcmp(key, "source") == 0)
        return "source.component";
    if (strcmp(key, "reportingController") == 0)
        return "reportingComponent";
    if (!fl_str_has_prefix(key, "regarding."))
        return key;
    (void)snprintf(buf, size, "involvedObject.%s", key + strlen("regarding."));
    return buf;
}

static const char *get_field(void *user, const char *key)
{
    struct field_source *source = user;
    const json_t *value;
    char renamed[64];

    if (strcmp(key, "metadata.name") == 0)
        return source->object->name;
    if (strcmp(key, "metadata.namespace") == 0)
        return source->object->ns;
    if (!source->content)
        source->content = fl_object_parse(source->object);
    value = fl_json_path(source->content, stored_field(key, renamed, sizeof(renamed)));
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    if (json_is_integer(value)) {
        (void)snprintf(source->number, sizeof(source->number), "%lld",
                       (long long)json_integer_value(value));
        return source->number;
    }
    return json_string_value(value);
}

bool fl_selection_matches(const struct fl_selection *selection, const struct fl_object *object)
{
    struct field_source source = {.object = object};
    bool matches;

    if (selection->name && strcmp(selection->name, object->name) != 0)
        return false;
    if (!fl_selector_matches(selection->labels, get_label, (void *)object))
        return false;
    matches = fl_selector_matches(selection->fields, get_field, &source);
    json_decref(source.content);
    return matches;
}

static bool match_selection(void *user, const struct fl_object *object)
{
    return fl_selection_matches(user, object);
}

/* Revisions that readers ask for */

struct wait {
    struct fl_request *request;
    struct fl_timer *timer;
    uint64_t revision;
    int64_t deadline_ms;
    void (*then)(struct fl_request *request);
};

static void too_large(struct fl_request *request, uint64_t revision)
{
    struct fl_error err = {0};
    struct fl_field_errors causes;
    FL_JSON status = NULL;
    FL_JSON cause = NULL;

    fl_field_errors_init(&causes, request->arena);
    (void)fl_error_set(&err, FL_E_TIMEOUT,
                       "Timeout: Too large resource version: %llu, current: %llu",
                       (unsigned long long)revision,
                       (unsigned long long)fl_store_revision(request->server->store));
    status = fl_status_failure(&err, &(struct fl_status_details){.retry_after_seconds = 1});
    cause = json_pack("[{s:s, s:s}]", "reason", "ResourceVersionTooLarge", "message",
                      "Too large resource version");
    (void)json_object_set(json_object_get(status, "details"), "causes", cause);
    fl_http_set_header(request->http, "Retry-After", "1");
    fl_respond_json(request, 504, status);
}

static void forget_wait(void *user)
{
    struct wait *wait = user;

    fl_timer_destroy(wait->timer);
}

static void look_again(void *user)
{
    struct wait *wait = user;
    struct fl_request *request = wait->request;

    if (fl_store_revision(request->server->store) >= wait->revision) {
        forget_wait(wait);
        fl_http_on_gone(request->http, NULL, NULL);
        wait->then(request);
    } else if (fl_monotonic_ms(request->server->env) >= wait->deadline_ms) {
        forget_wait(wait);
        fl_http_on_gone(request->http, NULL, NULL);
        too_large(request, wait->revision);
    } else {
        fl_timer_arm(wait->timer, 50);
    }
}

/* A revision that is not there yet is waited for, up to three seconds. */
static bool wait_for_revision(struct fl_request *request, uint64_t revision,
                              void (*then)(struct fl_request *request))
{
    struct wait *wait;

    if (fl_store_revision(request->server->store) >= revision)
        return false;
    wait = fl_new(request->arena, struct wait);
    *wait = (struct wait){.request = request, .revision = revision, .then = then};
    wait->deadline_ms = fl_monotonic_ms(request->server->env) + RV_WAIT_MS;
    wait->timer = fl_timer_create(request->server->loop, look_again, wait);
    fl_timer_arm(wait->timer, 20);
    fl_http_on_gone(request->http, forget_wait, wait);
    return true;
}

static int parse_revision(struct fl_request *request, uint64_t *ret_revision, struct fl_error *err)
{
    return fl_option_revision("resourceVersion", fl_request_param(request, "resourceVersion"),
                              ret_revision, err);
}

/* GET */

static void respond_scale(struct fl_request *request, const struct fl_object *object)
{
    FL_JSON value = fl_read_object(request->resource, object);
    FL_JSON scale = fl_scale_from_object(request->resource, value);

    fl_respond_json(request, 200, scale);
}

void fl_handle_get(struct fl_request *request)
{
    struct fl_key key = {request->resource->storage, request->ns, request->name};
    FL_CLEANUP(fl_object_unrefp) struct fl_object *object = NULL;
    struct fl_error err = {0};
    uint64_t revision;

    if (parse_revision(request, &revision, &err) < 0) {
        fl_respond_failure(request, &err, NULL);
        return;
    }
    if (wait_for_revision(request, revision, fl_handle_get))
        return;
    object = fl_store_get(request->server->store, &key);
    if (!object) {
        (void)fl_error_set(&err, FL_E_NOT_FOUND, "%s \"%s\" not found",
                           fl_resource_display(request->resource), request->name);
        fl_respond_failure(request, &err, NULL);
    } else if (strcmp(request->subresource, "scale") == 0) {
        respond_scale(request, object);
    } else {
        fl_respond_object(request, 200, object);
    }
}

/* LIST */

struct list_options {
    struct fl_selection selection;
    struct fl_list_query query;
    uint64_t at_least;
};

static int parse_limit(struct fl_request *request, size_t *ret_limit, struct fl_error *err)
{
    const char *text = fl_request_param(request, "limit");
    int64_t limit = 0;

    if (text && *text && !fl_str_to_int64(text, 0, INT64_MAX, &limit))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "strconv.ParseInt: parsing \"%s\": invalid syntax", text);
    *ret_limit = (size_t)limit;
    return 0;
}

/* {"v":"meta.k8s.io/v1","rv":641,"start":"name\u0000"}, unpadded base64 for URLs; over all
 * namespaces the start is "namespace/name\0". */
static char *make_continue(struct fl_request *request, const struct fl_object *last, uint64_t rv)
{
    bool all = request->resource->traits.namespaced && !*request->ns;
    const char *start =
        fl_arena_printf(request->arena, "%s%s%s", all ? last->ns : "", all ? "/" : "", last->name);
    struct fl_buf text;
    char *token;

    fl_buf_init(&text, 0);
    fl_buf_printf(&text,
                  "{\"v\":\"meta.k8s.io/v1\",\"rv\":%llu,\"start\":", (unsigned long long)rv);
    fl_buf_json_string(&text, start, strlen(start));
    text.len--; /* the quote that closes it follows the marker */
    fl_buf_puts(&text, "\\u0000\"}");
    token = fl_base64_encode(request->arena, text.data, text.len);
    fl_buf_finish(&text);
    for (char *c = token; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c == '=' ? '\0' : *c;
    return token;
}

static bool unpack_continue(struct fl_request *request, const char *token, char **ret_text,
                            size_t *ret_len)
{
    static const char *const padding[] = {"", "===", "==", "="};
    char *padded = fl_arena_printf(request->arena, "%s%s", token, padding[strcspn(token, "=") % 4]);

    for (char *c = padded; *c; c++)
        *c = *c == '-' ? '+' : *c == '_' ? '/' : *c;
    return fl_base64_decode(request->arena, padded, strlen(padded), ret_text, ret_len);
}

static char *last_marker(char *text)
{
    char *last = NULL;

    for (char *at = strstr(text, "\\u0000"); at; at = strstr(at + 1, "\\u0000"))
        last = at;
    return last;
}

static int read_continue(struct fl_request *request, const char *token, struct fl_list_query *query,
                         struct fl_error *err)
{
    struct fl_error why = {0};
    char *text, *slash, *nul;
    FL_JSON value = NULL;
    const char *start;
    size_t len;

    if (!unpack_continue(request, token, &text, &len))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "invalid continue token: continue key is not valid: not base64");
    /* The marker behind the name is a NUL, which our reader refuses: it is cut off as text. */
    nul = last_marker(text);
    if (!nul)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "invalid continue token: continue key is not valid: no start");
    memmove(nul, nul + 6, strlen(nul + 6) + 1);
    if (fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, &why) < 0)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "invalid continue token: continue key is not valid: %s", why.msg);
    start = fl_json_str(value, "start");
    query->revision = (uint64_t)fl_json_int(value, "rv", 0);
    if (!start || !query->revision || !fl_streq(fl_json_str(value, "v"), "meta.k8s.io/v1"))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "invalid continue token: continue key is not valid: incomplete");
    query->after_name = fl_arena_strdup(request->arena, start);
    query->after_ns = request->ns;
    if (request->resource->traits.namespaced && !*request->ns) {
        char *both = fl_arena_strdup(request->arena, start);

        slash = strchr(both, '/');
        if (!slash)
            return fl_error_set(err, FL_E_BAD_REQUEST,
                                "invalid continue token: continue key is not valid: no namespace");
        *slash = '\0';
        query->after_ns = both;
        query->after_name = slash + 1;
    }
    return 0;
}

static int read_match(struct fl_request *request, uint64_t revision, struct list_options *options,
                      struct fl_error *err)
{
    const char *match = fl_request_param(request, "resourceVersionMatch");
    const char *token = fl_request_param(request, "continue");

    options->at_least = revision;
    if (!match || !*match)
        return 0;
    if (token && *token)
        return fl_option_forbid(request, "resourceVersionMatch",
                                "resourceVersionMatch is forbidden for continue", err);
    if (!fl_request_param(request, "resourceVersion") ||
        !*fl_request_param(request, "resourceVersion"))
        return fl_option_forbid(
            request, "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided", err);
    if (strcmp(match, "Exact") == 0) {
        if (revision == 0)
            return fl_option_forbid(
                request, "resourceVersionMatch",
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"", err);
        options->query.revision = revision;
        return 0;
    }
    if (strcmp(match, "NotOlderThan") == 0)
        return 0;
    return fl_option_error(
        request,
        &(struct fl_option_fault){FL_FIELD_NOT_SUPPORTED, "ListOptions", "resourceVersionMatch",
                                  fl_option_quoted(request, match),
                                  "supported values: \"Exact\", \"NotOlderThan\", \"\""},
        err);
}

static int read_list_options(struct fl_request *request, struct list_options *options,
                             struct fl_error *err)
{
    const char *token = fl_request_param(request, "continue");
    struct fl_list_query *query = &options->query;
    uint64_t revision;
    int r;

    query->resource = request->resource->storage;
    query->ns = *request->ns ? request->ns : NULL;
    r = fl_selection_parse(request, &options->selection, err);
    if (r == 0)
        r = parse_limit(request, &query->limit, err);
    if (r == 0)
        r = parse_revision(request, &revision, err);
    if (r == 0)
        r = read_match(request, revision, options, err);
    if (r == 0 && token && *token)
        r = read_continue(request, token, query, err);
    if (r < 0)
        return r;
    if (!fl_selection_is_all(&options->selection)) {
        query->match = match_selection;
        query->user = &options->selection;
    }
    return 0;
}

static const char *page_continue(struct fl_request *request, const struct fl_list *list)
{
    return list->more ? make_continue(request, list->objects[list->count - 1], list->revision) : "";
}

static void write_list_meta(struct fl_buf *buf, const struct fl_list *list, const char *token)
{
    fl_buf_printf(buf, "{\"continue\":\"%s\",", token);
    if (list->more && list->remaining)
        fl_buf_printf(buf, "\"remainingItemCount\":%zu,", list->remaining);
    fl_buf_printf(buf, "\"resourceVersion\":\"%llu\"}", (unsigned long long)list->revision);
}

static void respond_objects(struct fl_request *request, const struct fl_list *list)
{
    const struct fl_resource *resource = request->resource;
    size_t total = 1024;
    struct fl_buf buf;

    for (size_t i = 0; i < list->count; i++)
        total += list->objects[i]->json->len + 1;
    fl_buf_init(&buf, 0);
    fl_buf_reserve(&buf, total);
    fl_buf_printf(&buf, "{\"apiVersion\":\"%s\",\"items\":[", resource->api_version);
    for (size_t i = 0; i < list->count; i++) {
        if (i)
            fl_buf_putc(&buf, ',');
        fl_write_object(&buf, resource, list->objects[i]);
    }
    fl_buf_printf(&buf, "],\"kind\":\"%s\",\"metadata\":", resource->list_kind);
    write_list_meta(&buf, list, page_continue(request, list));
    fl_buf_puts(&buf, "}\n");
    fl_respond_buf(request, 200, "application/json", &buf);
}

static json_t *list_meta(struct fl_request *request, const struct fl_list *list)
{
    const char *token = page_continue(request, list);
    json_t *meta = json_object();
    char revision[32];

    (void)snprintf(revision, sizeof(revision), "%llu", (unsigned long long)list->revision);
    fl_json_set_str(meta, "resourceVersion", revision);
    if (*token)
        fl_json_set_str(meta, "continue", token);
    if (list->more && list->remaining)
        (void)json_object_set_new(meta, "remainingItemCount",
                                  json_integer((json_int_t)list->remaining));
    return meta;
}

static void respond_table(struct fl_request *request, const struct fl_list *list)
{
    const json_t **values = fl_new_array(request->arena, const json_t *, list->count);
    const char *token = page_continue(request, list);
    struct fl_table_options options = {
        .resource_version =
            fl_arena_printf(request->arena, "%llu", (unsigned long long)list->revision),
        .continue_token = *token ? token : NULL,
        .remaining = list->more ? (int64_t)list->remaining : 0,
    };
    FL_JSON table = NULL;

    for (size_t i = 0; i < list->count; i++)
        values[i] =
            fl_json_in_arena(request->arena, fl_read_object(request->resource, list->objects[i]));
    table = fl_make_table(request, values, list->count, &options);
    fl_respond_json(request, 200, table);
}

static void respond_items(struct fl_request *request, const struct fl_list *list, bool partial)
{
    FL_JSON items = json_array();
    FL_JSON answer = NULL;

    for (size_t i = 0; i < list->count; i++) {
        FL_JSON value = fl_read_object(request->resource, list->objects[i]);

        (void)json_array_append_new(items, partial ? fl_make_partial(value) : json_incref(value));
    }
    answer = json_pack("{s:s, s:s, s:o, s:O}", "apiVersion",
                       partial ? "meta.k8s.io/v1" : request->resource->api_version, "kind",
                       partial ? "PartialObjectMetadataList" : request->resource->list_kind,
                       "metadata", list_meta(request, list), "items", items);
    fl_respond_json(request, 200, answer);
}

static void respond_list(struct fl_request *request, const struct fl_list *list)
{
    if (request->view == FL_VIEW_TABLE)
        respond_table(request, list);
    else if (request->view == FL_VIEW_PARTIAL || request->pretty || request->yaml)
        respond_items(request, list, request->view == FL_VIEW_PARTIAL);
    else
        respond_objects(request, list);
}

void fl_handle_list(struct fl_request *request)
{
    struct list_options *options = fl_new(request->arena, struct list_options);
    struct fl_error err = {0};
    struct fl_list list = {0};
    int r;

    r = read_list_options(request, options, &err);
    if (r == 0 && fl_request_flag(request, "sendInitialEvents"))
        r = fl_option_forbid(request, "sendInitialEvents",
                             "sendInitialEvents is forbidden for list", &err);
    if (r == 0 && wait_for_revision(request, options->at_least, fl_handle_list))
        return;
    if (r == 0)
        r = fl_store_list(request->server->store, &options->query, &list, &err);
    if (r < 0) {
        fl_respond_failure(request, &err, NULL);
        return;
    }
    respond_list(request, &list);
    fl_list_finish(&list);
}
