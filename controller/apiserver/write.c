/* CREATE, UPDATE, PATCH and APPLY, of objects and their subresources.
 *
 * One path for all: the new content is made (from a body, a patch or an applied configuration),
 * cut to what the schema knows, completed, checked, given its owners, and handed to the store. The
 * answer follows when it is durable. */
#include "controller/apiserver/internal.h"

#include "api/managed_fields.h"
#include "controller/apiserver/options.h"
#include "controller/apiserver/scale.h"

#define OBJECT_MAX_BYTES ((size_t)3 * 1024 * 1024)

enum strictness { IGNORE, WARN, STRICT };

struct edit {
    struct fl_request *request;
    struct fl_apiserver *server;
    struct fl_resource *resource;
    enum fl_part part;
    const char *manager, *owner_part; /* owner_part: "", "status", "scale" */
    enum strictness strictness;
    bool dry_run;
    struct fl_object *live_object; /* NULL: it does not exist yet */
    json_t *live;                  /* its content */
    json_t *object;                /* the new content */
    bool applied;                  /* its managedFields are right already */
    bool patch_failed;
    struct fl_buf complaints; /* of strict decoding */
    struct fl_field_errors errors;
    struct fl_error err;
};

static void edit_finish(struct edit *edit)
{
    fl_object_unref(edit->live_object);
    json_decref(edit->live);
    json_decref(edit->object);
    fl_buf_finish(&edit->complaints);
}

/* The record of a creation says what was, or was to be, created. */
static void note_name(struct edit *edit)
{
    const char *name = fl_json_str(edit->object, "metadata.name");

    if (name && !*edit->request->access.name)
        edit->request->access.name = fl_arena_strdup(edit->request->arena, name);
}

static void respond_edit_failure(struct edit *edit)
{
    const char *name = fl_json_str(edit->object, "metadata.name");

    note_name(edit);
    if (!*edit->request->name && name)
        edit->request->name = fl_arena_strdup(edit->request->arena, name);
    if (edit->patch_failed) { /* about the patch, not about the object */
        fl_respond_error(edit->request, &edit->err,
                         &(struct fl_status_details){
                             .causes = edit->errors.count ? &edit->errors : NULL,
                         });
        return;
    }
    fl_respond_failure(edit->request, &edit->err, edit->errors.count ? &edit->errors : NULL);
}

/* What an error is about, where that is not the object. */
static void fail_about(struct edit *edit, const struct fl_status_details *details)
{
    struct fl_status_details *copy = fl_new(edit->request->arena, struct fl_status_details);

    *copy = *details;
    copy->name = details->name ? fl_arena_strdup(edit->request->arena, details->name) : NULL;
    edit->request->error_details = copy;
}

/* Options */

static int read_strictness(struct edit *edit, const char *options)
{
    const char *text = fl_request_param(edit->request, "fieldValidation");

    edit->strictness = WARN;
    if (!text || !*text || strcmp(text, "Warn") == 0)
        return 0;
    if (strcmp(text, "Strict") == 0)
        edit->strictness = STRICT;
    else if (strcmp(text, "Ignore") == 0)
        edit->strictness = IGNORE;
    else
        return fl_option_error(
            edit->request,
            &(struct fl_option_fault){FL_FIELD_NOT_SUPPORTED, options, "fieldValidation",
                                      fl_option_quoted(edit->request, text),
                                      "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""},
            &edit->err);
    return 0;
}

static int read_dry_run(struct edit *edit, const char *options)
{
    const char *text = fl_request_param(edit->request, "dryRun");

    edit->dry_run = text && *text;
    return edit->dry_run ? fl_option_dry_run(edit->request, options, text, &edit->err) : 0;
}

static int edit_begin(struct edit *edit, struct fl_request *request, const char *options)
{
    int r;

    *edit = (struct edit){
        .request = request,
        .server = request->server,
        .resource = request->resource,
        .manager = fl_request_manager(request),
        .owner_part = strcmp(request->subresource, "finalize") == 0 ? "" : request->subresource,
        .part = strcmp(request->subresource, "status") == 0 ? FL_PART_STATUS : FL_PART_MAIN,
    };
    fl_field_errors_init(&edit->errors, request->arena);
    fl_buf_init(&edit->complaints, 16 * 1024);
    r = read_strictness(edit, options);
    return r < 0 ? r : read_dry_run(edit, options);
}

static int load_live(struct edit *edit)
{
    struct fl_key key = {edit->resource->storage, edit->request->ns, edit->request->name};

    edit->live_object = fl_store_get_newest(edit->server->store, &key);
    if (edit->live_object)
        edit->live = fl_read_object(edit->resource, edit->live_object);
    return edit->live_object ? 0 : FL_E_NOT_FOUND;
}

static int not_found(struct edit *edit)
{
    return fl_error_set(&edit->err, FL_E_NOT_FOUND, "%s \"%s\" not found",
                        fl_resource_display(edit->resource), edit->request->name);
}

/* What strict decoding finds: doubled and unknown fields. */

static void complain(struct edit *edit, const char *what, const char *path)
{
    if (edit->strictness == IGNORE)
        return;
    if (edit->strictness == WARN) {
        fl_respond_warning(edit->request,
                           fl_arena_printf(edit->request->arena, "%s \"%s\"", what, path));
        return;
    }
    fl_buf_printf(&edit->complaints, "%s%s \"%s\"", edit->complaints.len ? ", " : "", what, path);
}

static void on_duplicate(void *user, const char *path)
{
    complain(user, "duplicate field", path);
}

static void on_unknown(void *user, const char *path)
{
    complain(user, "unknown field", path);
}

static int refuse_complaints(struct edit *edit, bool patch)
{
    if (!edit->complaints.len)
        return 0;
    if (patch) {
        edit->patch_failed = true;
        fl_field_error_add(&edit->errors, FL_FIELD_INVALID, "patch", edit->object,
                           "strict decoding error: %s", edit->complaints.data);
        return fl_field_errors_to_error(&edit->errors, "", "", "", &edit->err);
    }
    return fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                        "%s in version \"%s\" cannot be handled as a %s: strict decoding error: %s",
                        edit->resource->kind, edit->resource->version, edit->resource->kind,
                        edit->complaints.data);
}

/* The body of a create or update */

static int check_type(struct edit *edit)
{
    const struct fl_resource *resource = edit->resource;
    const char *version = fl_json_str(edit->object, "apiVersion");
    const char *kind = fl_json_str(edit->object, "kind");

    if (resource->builtin && !version)
        fl_json_set_str(edit->object, "apiVersion", version = resource->api_version);
    if (resource->builtin && !kind)
        fl_json_set_str(edit->object, "kind", kind = resource->kind);
    if (!kind)
        return fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                            "the object provided is unrecognized (must be of type %s): Object "
                            "'Kind' is missing",
                            resource->kind);
    if (!fl_streq(version, resource->api_version))
        return fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                            "the API version in the data (%s) does not match the expected API "
                            "version (%s)",
                            fl_str_or(version, ""), resource->api_version);
    if (strcmp(kind, resource->kind) != 0) {
        fl_field_error_add(&edit->errors, FL_FIELD_INVALID, "kind",
                           json_object_get(edit->object, "kind"), "must be %s", resource->kind);
        return fl_field_errors_to_error(&edit->errors, kind, resource->group,
                                        fl_json_str(edit->object, "metadata.name"), &edit->err);
    }
    return 0;
}

static int check_place(struct edit *edit)
{
    const struct fl_request *request = edit->request;
    const char *ns = fl_json_str(edit->object, "metadata.namespace");
    const char *name = fl_json_str(edit->object, "metadata.name");

    if (ns && *ns && strcmp(ns, request->ns) != 0 && edit->resource->traits.namespaced)
        return fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                            "the namespace of the provided object does not match the namespace "
                            "sent on the request");
    if (*request->name && name && *name && strcmp(name, request->name) != 0)
        return fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                            "the name of the object (%s) does not match the name on the URL (%s)",
                            name, request->name);
    if (*request->name && (!name || !*name))
        fl_json_set_str(fl_json_ensure_object(edit->object, "metadata"), "name", request->name);
    return 0;
}

static int read_object_body(struct edit *edit)
{
    int r = fl_request_body(edit->request, edit->strictness == IGNORE ? NULL : on_duplicate, edit,
                            &edit->object, &edit->err);

    if (r < 0)
        return r;
    if (!json_is_object(edit->object))
        return fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                            "the object provided is unrecognized (must be of type %s): not a JSON "
                            "object",
                            edit->resource->kind);
    r = check_type(edit);
    return r < 0 ? r : check_place(edit);
}

/* Checks */

static int field_failure(struct edit *edit)
{
    if (!edit->errors.count)
        return 0;
    return fl_field_errors_to_error(
        &edit->errors, edit->resource->kind, edit->resource->group,
        fl_str_or(fl_json_str(edit->object, "metadata.name"), edit->request->name), &edit->err);
}

/* What a typed client could not even have decoded. */
static int check_decodable(struct edit *edit)
{
    size_t at;

    if (!edit->resource->builtin || !fl_kind_bad_base64(edit->resource, edit->object, &at))
        return 0;
    return fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                        "%s in version \"%s\" cannot be handled as a %s: illegal base64 data at "
                        "input byte %zu",
                        edit->resource->kind, edit->resource->version, edit->resource->kind, at);
}

/* Cut to what is known; what is not is complained about. */
static void cut_to_schema(struct edit *edit)
{
    fl_schema_path_fn *unknown = edit->strictness == IGNORE ? NULL : on_unknown;

    fl_meta_validate(&edit->resource->traits, edit->object, unknown, edit, &edit->errors);
    if (!edit->resource->schema)
        return;
    fl_schema_normalize(edit->resource->schema, edit->object);
    fl_schema_prune(edit->resource->schema, edit->object, unknown, edit);
    fl_kind_prune(edit->resource, edit->object, unknown, edit);
}

static int validate(struct edit *edit)
{
    const struct fl_resource *resource = edit->resource;

    fl_kind_default(edit->server, resource, edit->object, edit->live);
    if (resource->schema) {
        fl_schema_default(resource->schema, edit->object);
        fl_schema_validate(resource->schema, edit->object, edit->live, &edit->errors);
    }
    fl_kind_validate(edit->server, resource, edit->object, edit->live, &edit->errors);
    return field_failure(edit);
}

static int own_fields(struct edit *edit)
{
    char now[FL_TIME_SIZE];
    struct fl_managed_write write = {
        .schema = edit->resource->schema,
        .manager = edit->manager,
        .api_version = edit->resource->api_version,
        .subresource = edit->owner_part,
        .time = now,
        .has_status = edit->resource->traits.has_status,
    };

    if (edit->applied)
        return 0;
    fl_time_format(fl_realtime_us(edit->server->env), now);
    return fl_managed_update(&write, edit->live, edit->object, &edit->err);
}

static int check_grant(struct edit *edit)
{
    int r;

    if (strcmp(edit->resource->group, "rbac.authorization.k8s.io") != 0)
        return 0;
    r = fl_auth_check_grant(edit->server->auth, edit->request->user, edit->resource->kind,
                            edit->live, edit->object, &edit->err);
    if (r == FL_E_NOT_FOUND) /* the role it would bind */
        fail_about(edit, &(struct fl_status_details){
                             .name = fl_json_str(edit->object, "roleRef.name"),
                             .group = edit->resource->group,
                             .kind = fl_auth_role_resource(edit->object),
                         });
    return r;
}

/* The answer, when the write is durable */

struct pending {
    struct fl_owed owed;
    struct fl_resource *resource;
    struct fl_object *object;
    int status, code;
    struct fl_error err;
};

static void respond_written(struct pending *pending, struct fl_request *request)
{
    if (pending->code < 0) {
        fl_respond_failure(request, &pending->err, NULL);
    } else if (strcmp(request->subresource, "scale") == 0) {
        FL_JSON value = fl_read_object(pending->resource, pending->object);
        FL_JSON scale = fl_scale_from_object(pending->resource, value);

        fl_respond_json(request, pending->status, scale);
    } else {
        fl_respond_object(request, pending->status, pending->object);
    }
}

static void pending_complete(void *user)
{
    struct pending *pending = user;
    struct fl_request *request = fl_owed_settle(&pending->owed);

    if (request)
        respond_written(pending, request);
    fl_owed_end(&pending->owed, pending->status, pending->code < 0 ? &pending->err : NULL);
    fl_object_unref(pending->object);
    fl_resource_unref(pending->resource);
    free(pending);
}

static void on_durable(void *user, int code, struct fl_object *object, const struct fl_error *err)
{
    struct pending *pending = user;

    pending->code = code;
    if (code < 0)
        pending->err = *err;
    else
        pending->object = fl_object_ref(object);
    fl_loop_post(pending->owed.server->loop, pending_complete, pending);
}

static int word_store_failure(struct edit *edit)
{
    const char *display = fl_resource_display(edit->resource);
    const char *name = fl_json_str(edit->object, "metadata.name");

    switch (edit->err.code) {
    case FL_E_ALREADY_EXISTS: {
        struct fl_key key = {edit->resource->storage, edit->request->ns, name};
        FL_CLEANUP(fl_object_unrefp)
        struct fl_object *other = fl_store_get_newest(edit->server->store, &key);
        FL_JSON value = other ? fl_object_parse(other) : NULL;

        edit->request->name = fl_arena_strdup(edit->request->arena, name);
        return fl_error_set(&edit->err, FL_E_ALREADY_EXISTS, "%s%s \"%s\" already exists",
                            value && fl_meta_is_deleting(value) ? "object is being deleted: " : "",
                            display, name);
    }
    case FL_E_CONFLICT:
        return fl_resource_stale(edit->resource, name, &edit->err);
    case FL_E_NOT_FOUND:
        return not_found(edit);
    default:
        return edit->err.code;
    }
}

static int hand_to_store(struct edit *edit, const struct fl_store_write *write, int status)
{
    struct pending *pending = fl_calloc(1, sizeof(*pending));
    int r;

    fl_owed_begin(&pending->owed, edit->request);
    pending->resource = fl_resource_ref(edit->resource);
    pending->status = status;
    if (write->object)
        fl_resource_to_stored(edit->resource, write->object);
    r = fl_store_write(edit->server->store, write, on_durable, pending, &edit->err);
    if (r == 0)
        return 0;
    (void)fl_owed_settle(&pending->owed);
    fl_resource_unref(pending->resource);
    free(pending);
    return word_store_failure(edit);
}

static void respond_unwritten(struct edit *edit, int status)
{
    if (strcmp(edit->request->subresource, "scale") == 0) {
        FL_JSON scale = fl_scale_from_object(edit->resource, edit->object);

        fl_respond_json(edit->request, status, scale);
    } else {
        fl_respond_value(edit->request, status, edit->object);
    }
}

/* CREATE */

static int check_namespace(struct edit *edit)
{
    struct fl_key key = {"namespaces", NULL, edit->request->ns};
    FL_CLEANUP(fl_object_unrefp) struct fl_object *ns = NULL;
    FL_JSON value = NULL;

    if (!edit->resource->traits.namespaced)
        return 0;
    ns = fl_store_get_newest(edit->server->store, &key);
    if (!ns) {
        edit->request->name = edit->request->ns;
        edit->request->plural = "namespaces";
        edit->request->group = "";
        return fl_error_set(&edit->err, FL_E_NOT_FOUND, "namespaces \"%s\" not found",
                            edit->request->ns);
    }
    value = fl_object_parse(ns);
    if (fl_meta_is_deleting(value))
        return fl_error_set(&edit->err, FL_E_FORBIDDEN,
                            "%s \"%s\" is forbidden: unable to create new content in namespace %s "
                            "because it is being terminated",
                            fl_resource_display(edit->resource),
                            fl_str_or(fl_json_str(edit->object, "metadata.name"), ""),
                            edit->request->ns);
    return 0;
}

/* The newest definition counts, even where its deletion is still on its way to the disk: what is
 * created behind that would be left over. */
static bool is_definition_terminating(struct edit *edit)
{
    const struct fl_served *served = edit->request->served;
    struct fl_key key = {"customresourcedefinitions.apiextensions.k8s.io", NULL,
                         served->resource->storage};
    FL_CLEANUP(fl_object_unrefp) struct fl_object *newest = NULL;
    FL_JSON value = NULL;

    if (served->terminating || served->resource->builtin)
        return served->terminating;
    newest = fl_store_get_newest(edit->server->store, &key);
    if (!newest || newest->revision == served->revision)
        return !newest;
    value = fl_object_parse(newest);
    return fl_meta_is_deleting(value);
}

static int check_definition(struct edit *edit)
{
    if (!is_definition_terminating(edit))
        return 0;
    return fl_error_set(&edit->err, FL_E_METHOD_NOT_ALLOWED,
                        "create not allowed while custom resource definition is terminating");
}

/* What the store would refuse is refused in a dry run too. */
static int create_dry(struct edit *edit)
{
    struct fl_key key = {edit->resource->storage, edit->request->ns,
                         fl_json_str(edit->object, "metadata.name")};
    FL_CLEANUP(fl_object_unrefp)
    struct fl_object *other = fl_store_get_newest(edit->server->store, &key);

    if (other) {
        (void)fl_error_set(&edit->err, FL_E_ALREADY_EXISTS, "it is there already");
        return word_store_failure(edit);
    }
    respond_unwritten(edit, 201);
    return 0;
}

/* From content that is typed and placed to the store. */
static int create_object(struct edit *edit)
{
    struct fl_request *request = edit->request;
    struct fl_store_write write = {.op = FL_STORE_CREATE};
    int r;

    cut_to_schema(edit);
    r = refuse_complaints(edit, false);
    if (r == 0)
        r = check_decodable(edit);
    if (r == 0)
        r = check_namespace(edit);
    if (r == 0)
        r = check_definition(edit);
    if (r == 0)
        r = field_failure(edit);
    if (r < 0)
        return r;
    fl_meta_prepare_create(edit->server->env, &edit->resource->traits, request->ns, edit->object);
    note_name(edit);
    r = validate(edit);
    if (r == 0)
        r = check_grant(edit);
    if (r == 0)
        r = own_fields(edit);
    if (r < 0)
        return r;
    if (edit->dry_run)
        return create_dry(edit);
    write.key = (struct fl_key){edit->resource->storage, request->ns,
                                fl_json_str(edit->object, "metadata.name")};
    write.object = edit->object;
    return hand_to_store(edit, &write, 201);
}

void fl_handle_create(struct fl_request *request)
{
    struct edit edit;
    int r;

    r = edit_begin(&edit, request, "CreateOptions");
    if (r == 0)
        r = read_object_body(&edit);
    if (r == 0)
        r = create_object(&edit);
    if (r < 0)
        respond_edit_failure(&edit);
    edit_finish(&edit);
}

/* UPDATE */

static int check_revision(struct edit *edit)
{
    const char *sent = fl_json_str(edit->object, "metadata.resourceVersion");
    const char *have = fl_json_str(edit->live, "metadata.resourceVersion");
    uint64_t number;

    if (!sent || !*sent || fl_streq(sent, have))
        return 0;
    if (fl_option_revision("metadata.resourceVersion", sent, &number, &edit->err) < 0)
        return edit->err.code;
    (void)fl_error_set(&edit->err, FL_E_CONFLICT, "stale");
    return word_store_failure(edit);
}

static int remove_object(struct edit *edit)
{
    struct fl_store_write write = {
        .op = FL_STORE_DELETE,
        .key = {edit->resource->storage, edit->request->ns, edit->request->name},
        .object = edit->object,
        .expect_revision = edit->live_object->revision,
    };

    return hand_to_store(edit, &write, 200);
}

/* What holds a namespace is changed through its finalize endpoint only. */
static void keep_namespace_spec(struct edit *edit)
{
    json_t *spec = json_object_get(edit->live, "spec");

    if (edit->resource->has_finalize && strcmp(edit->request->subresource, "finalize") != 0 && spec)
        (void)json_object_set(edit->object, "spec", spec);
}

/* From new content (whole, of the requested version) to the store. */
static int update_object(struct edit *edit, bool patch)
{
    struct fl_store_write write = {.op = FL_STORE_UPDATE};
    enum fl_outcome outcome;
    int r;

    r = check_place(edit);
    if (r == 0)
        r = check_revision(edit);
    if (r < 0)
        return r;
    cut_to_schema(edit);
    r = refuse_complaints(edit, patch);
    if (r == 0)
        r = check_decodable(edit);
    if (r == 0)
        r = field_failure(edit);
    if (r == 0)
        r = fl_meta_prepare_update(&edit->resource->traits, edit->part, edit->live, edit->object,
                                   &edit->errors, &edit->err);
    keep_namespace_spec(edit);
    if (r == 0)
        r = validate(edit);
    if (r == 0)
        r = check_grant(edit);
    if (r == 0)
        r = own_fields(edit);
    if (r < 0)
        return r;
    outcome = fl_meta_finish_update(&edit->resource->traits, edit->live, edit->object);
    if (edit->dry_run ||
        (outcome == FL_OUTCOME_UNCHANGED && fl_is_durable(edit->server, edit->live_object))) {
        respond_unwritten(edit, 200);
        return 0;
    }
    if (outcome == FL_OUTCOME_REMOVED)
        return remove_object(edit);
    write.key = (struct fl_key){edit->resource->storage, edit->request->ns, edit->request->name};
    write.object = edit->object;
    write.expect_revision = edit->live_object->revision;
    return hand_to_store(edit, &write, 200);
}

static int require_revision(struct edit *edit)
{
    const char *sent = fl_json_str(edit->object, "metadata.resourceVersion");

    if (edit->resource->builtin || (sent && *sent))
        return 0;
    fl_field_error_add_text(&edit->errors, FL_FIELD_INVALID, "metadata.resourceVersion", "0x0",
                            "must be specified for an update");
    return fl_field_errors_to_error(&edit->errors, edit->request->plural, edit->resource->group,
                                    edit->request->name, &edit->err);
}

static int update_scale(struct edit *edit)
{
    FL_JSON scale = NULL;
    int r = fl_request_body(edit->request, NULL, NULL, &scale, &edit->err);

    if (r == 0)
        r = fl_scale_into_object(edit->resource, scale, edit->live, &edit->object, &edit->errors,
                                 &edit->err);
    if (r == 0)
        r = field_failure(edit);
    return r < 0 ? r : update_object(edit, false);
}

void fl_handle_update(struct fl_request *request)
{
    struct edit edit;
    int r;

    r = edit_begin(&edit, request, "UpdateOptions");
    if (r == 0 && load_live(&edit) < 0)
        r = not_found(&edit);
    if (r == 0 && strcmp(request->subresource, "scale") == 0) {
        r = update_scale(&edit);
    } else if (r == 0) {
        r = read_object_body(&edit);
        if (r == 0)
            r = require_revision(&edit);
        if (r == 0)
            r = update_object(&edit, false);
    }
    if (r < 0)
        respond_edit_failure(&edit);
    edit_finish(&edit);
}

/* PATCH */

enum patch_type { PATCH_JSON, PATCH_MERGE, PATCH_STRATEGIC, PATCH_APPLY };

static const char *const patch_types[] = {
    [PATCH_JSON] = "application/json-patch+json",
    [PATCH_MERGE] = "application/merge-patch+json",
    [PATCH_STRATEGIC] = "application/strategic-merge-patch+json",
    [PATCH_APPLY] = "application/apply-patch+yaml",
};

static int read_patch_type(struct edit *edit, enum patch_type *ret_type)
{
    const char *sent = fl_str_or(fl_http_header(edit->request->http, "Content-Type"), "");
    size_t len = strcspn(sent, "; ");

    for (size_t i = 0; i < FL_COUNT_OF(patch_types); i++) {
        if (i == PATCH_STRATEGIC && !edit->resource->builtin)
            continue;
        if (len == strlen(patch_types[i]) && strncasecmp(sent, patch_types[i], len) == 0) {
            *ret_type = (enum patch_type)i;
            return 0;
        }
    }
    return fl_error_set(&edit->err, FL_E_UNSUPPORTED_MEDIA,
                        "the body of the request was in an unknown format - accepted media types "
                        "include: application/json-patch+json, application/merge-patch+json, %s"
                        "application/apply-patch+yaml",
                        edit->resource->builtin ? "application/strategic-merge-patch+json, " : "");
}

static int patch_value(struct edit *edit, enum patch_type type, const json_t *original,
                       json_t **ret_value)
{
    FL_JSON patch = NULL;
    int r = fl_request_body(edit->request, edit->strictness == IGNORE ? NULL : on_duplicate, edit,
                            &patch, &edit->err);

    if (r < 0)
        return r;
    if (type == PATCH_JSON)
        r = fl_patch_json(original, patch, OBJECT_MAX_BYTES, ret_value, &edit->err);
    else if (type == PATCH_MERGE)
        r = fl_patch_merge(original, patch, ret_value, &edit->err);
    else
        r = fl_patch_strategic(original, patch, edit->resource->strategic_lists,
                               edit->resource->strategic_list_count, ret_value, &edit->err);
    edit->patch_failed = r < 0;
    return r;
}

static int patch_object(struct edit *edit, enum patch_type type)
{
    int r;

    if (load_live(edit) < 0)
        return not_found(edit);
    if (strcmp(edit->request->subresource, "scale") == 0) {
        FL_JSON before = fl_scale_from_object(edit->resource, edit->live);
        FL_JSON after = NULL;

        r = patch_value(edit, type, before, &after);
        if (r == 0)
            r = fl_scale_into_object(edit->resource, after, edit->live, &edit->object,
                                     &edit->errors, &edit->err);
        if (r == 0)
            r = field_failure(edit);
        return r < 0 ? r : update_object(edit, true);
    }
    r = patch_value(edit, type, edit->live, &edit->object);
    if (r == 0 && !json_is_object(edit->object))
        r = fl_error_set(&edit->err, FL_E_INVALID, "the patch leaves no object");
    if (r == 0)
        r = check_type(edit);
    return r < 0 ? r : update_object(edit, true);
}

/* APPLY */

static void on_undeclared(void *user, const char *path)
{
    struct edit *edit = user;

    if (edit->err.code == 0)
        (void)fl_error_set(&edit->err, FL_E_BAD_REQUEST,
                           "failed to create typed patch object (%s/%s; %s, Kind=%s): .%s: field "
                           "not declared in schema",
                           edit->request->ns, edit->request->name, edit->resource->api_version,
                           edit->resource->kind, path);
}

static int read_applied(struct edit *edit, json_t **ret_applied)
{
    const json_t *managed;
    int r = read_object_body(edit);

    if (r < 0)
        return r;
    managed = fl_json_path(edit->object, "metadata.managedFields");
    if (managed && !json_is_null(managed))
        return fl_error_set(&edit->err, FL_E_BAD_REQUEST, "metadata.managedFields must be nil");
    fl_meta_validate(&edit->resource->traits, edit->object, on_undeclared, edit, &edit->errors);
    if (edit->resource->schema) {
        fl_schema_normalize(edit->resource->schema, edit->object);
        fl_schema_prune(edit->resource->schema, edit->object, on_undeclared, edit);
    }
    if (edit->err.code)
        return edit->err.code;
    r = field_failure(edit);
    if (r == 0)
        *ret_applied = FL_TAKE(edit->object);
    return r;
}

static int check_apply_options(struct edit *edit)
{
    const char *manager = fl_request_param(edit->request, "fieldManager");

    if (!manager || !*manager)
        return fl_option_error(edit->request,
                               &(struct fl_option_fault){FL_FIELD_REQUIRED, "PatchOptions",
                                                         "fieldManager", NULL,
                                                         "is required for apply patch"},
                               &edit->err);
    return 0;
}

static int merge_applied(struct edit *edit, const json_t *applied)
{
    struct fl_managed_conflict *conflicts = NULL;
    char now[FL_TIME_SIZE];
    size_t count = 0;
    struct fl_managed_write write = {
        .schema = edit->resource->schema,
        .manager = edit->manager,
        .api_version = edit->resource->api_version,
        .subresource = edit->owner_part,
        .time = now,
        .has_status = edit->resource->traits.has_status,
    };
    int r;

    fl_time_format(fl_realtime_us(edit->server->env), now);
    r = fl_managed_apply(&write, edit->live, applied, fl_request_flag(edit->request, "force"),
                         edit->request->arena, &edit->object, &conflicts, &count, &edit->err);
    if (r == FL_E_CONFLICT && count) {
        edit->patch_failed = true; /* its causes are all there is to say */
        return fl_managed_conflict_error(conflicts, count, &edit->errors, &edit->err);
    }
    edit->applied = r == 0;
    return r;
}

static int refuse_uid(struct edit *edit, const json_t *applied)
{
    const char *uid = fl_json_str(applied, "metadata.uid");

    if (!uid || !*uid)
        return 0;
    return fl_error_set(&edit->err, FL_E_CONFLICT,
                        "Operation cannot be fulfilled on %s \"%s\": uid mismatch: the provided "
                        "object specified uid %s, and no existing object was found",
                        fl_resource_display(edit->resource), edit->request->name, uid);
}

static int check_applied_revision(struct edit *edit, const json_t *applied)
{
    const char *sent = fl_json_str(applied, "metadata.resourceVersion");
    uint64_t number;

    if (!sent || !*sent || fl_streq(sent, fl_json_str(edit->live, "metadata.resourceVersion")))
        return 0;
    if (fl_option_revision("metadata.resourceVersion", sent, &number, &edit->err) < 0)
        return edit->err.code;
    return fl_resource_stale(edit->resource, edit->request->name, &edit->err);
}

/* Who applies what is not there creates it, which the right to patch does not cover. */
static int check_may_create(struct edit *edit)
{
    struct fl_access access = edit->request->access;

    access.verb = "create";
    if (fl_auth_allows(edit->server->auth, &access))
        return 0;
    return fl_auth_forbid(&access, &edit->err);
}

static int apply_object(struct edit *edit)
{
    FL_JSON applied = NULL;
    bool exists;
    int r;

    r = check_apply_options(edit);
    if (r == 0)
        r = read_applied(edit, &applied);
    if (r < 0)
        return r;
    exists = load_live(edit) == 0;
    if (!exists && *edit->request->subresource)
        return not_found(edit);
    r = exists ? check_applied_revision(edit, applied) : check_may_create(edit);
    if (r == 0 && !exists)
        r = refuse_uid(edit, applied);
    if (r == 0)
        r = merge_applied(edit, applied);
    if (r < 0)
        return r;
    return exists ? update_object(edit, true) : create_object(edit);
}

static int refuse_force(struct edit *edit)
{
    if (!fl_request_param(edit->request, "force"))
        return 0;
    return fl_option_error(edit->request,
                           &(struct fl_option_fault){FL_FIELD_FORBIDDEN, "PatchOptions", "force",
                                                     NULL,
                                                     "may not be specified for non-apply patch"},
                           &edit->err);
}

void fl_handle_patch(struct fl_request *request)
{
    enum patch_type type = PATCH_JSON;
    struct edit edit;
    int r;

    r = edit_begin(&edit, request, "PatchOptions");
    if (r == 0)
        r = read_patch_type(&edit, &type);
    if (r == 0 && type == PATCH_APPLY) {
        r = apply_object(&edit);
    } else if (r == 0) {
        r = refuse_force(&edit);
        if (r == 0)
            r = patch_object(&edit, type);
    }
    if (r < 0)
        respond_edit_failure(&edit);
    edit_finish(&edit);
}
