/* DELETE of one object and of a collection, by clients and by the server's own controllers. */
#include "controller/apiserver/options.h"

struct deletion {
    enum fl_propagation propagation;
    const char *uid, *revision; /* preconditions; NULL: none */
    bool dry_run;
};

/* Options: from the body (DeleteOptions) and the query, the query last. */

static int bad_policy(struct fl_request *request, enum fl_field_error_type type, const char *policy,
                      const char *detail, struct fl_error *err)
{
    return fl_option_error(request,
                           &(struct fl_option_fault){type, "DeleteOptions", "propagationPolicy",
                                                     fl_option_quoted(request, policy), detail},
                           err);
}

static int read_propagation(struct fl_request *request, const char *policy, const json_t *orphan,
                            struct deletion *deletion, struct fl_error *err)
{
    static const char *const names[] = {"", "Background", "Foreground", "Orphan"};

    if (policy && json_is_boolean(orphan))
        return bad_policy(request, FL_FIELD_INVALID, policy,
                          "orphanDependents and deletionPropagation cannot be both set", err);
    if (json_is_boolean(orphan))
        deletion->propagation =
            json_is_true(orphan) ? FL_PROPAGATION_ORPHAN : FL_PROPAGATION_BACKGROUND;
    for (size_t i = 1; policy && i < FL_COUNT_OF(names); i++) {
        if (strcmp(policy, names[i]) == 0) {
            deletion->propagation = (enum fl_propagation)i;
            return 0;
        }
    }
    if (policy)
        return bad_policy(request, FL_FIELD_NOT_SUPPORTED, policy,
                          "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
                          err);
    return 0;
}

static int read_dry_run(struct fl_request *request, const json_t *options,
                        struct deletion *deletion, struct fl_error *err)
{
    const json_t *list = json_object_get(options, "dryRun");
    const char *text = fl_request_param(request, "dryRun");

    if (json_array_size(list) > 0)
        text = fl_str_or(json_string_value(json_array_get(list, 0)), "");
    deletion->dry_run = text && *text;
    return deletion->dry_run ? fl_option_dry_run(request, "DeleteOptions", text, err) : 0;
}

static int read_options(struct fl_request *request, struct deletion *deletion, struct fl_error *err)
{
    const char *policy = fl_request_param(request, "propagationPolicy");
    json_t *options = NULL;
    size_t len;
    int r;

    *deletion = (struct deletion){0};
    (void)fl_http_body(request->http, &len);
    if (len > 0) {
        r = fl_request_body(request, NULL, NULL, &options, err);
        if (r < 0)
            return r;
        fl_json_in_arena(request->arena, options);
        if (!json_is_object(options))
            return fl_error_set(err, FL_E_BAD_REQUEST, "DeleteOptions must be an object");
    }
    if (!policy)
        policy = fl_json_str(options, "propagationPolicy");
    deletion->uid = fl_json_str(options, "preconditions.uid");
    deletion->revision = fl_json_str(options, "preconditions.resourceVersion");
    r = read_propagation(request, policy, json_object_get(options, "orphanDependents"), deletion,
                         err);
    return r < 0 ? r : read_dry_run(request, options, deletion, err);
}

/* Clusters speak of the kind here, and not of the resource as everywhere else. */
static int refuse_precondition(struct fl_request *request, const char *why, struct fl_error *err)
{
    const struct fl_resource *resource = request->resource;
    struct fl_status_details *details = fl_new(request->arena, struct fl_status_details);

    *details = (struct fl_status_details){
        .name = request->name,
        .group = request->group,
        .kind = resource->kind,
    };
    request->error_details = details;
    return fl_error_set(err, FL_E_CONFLICT, "Operation cannot be fulfilled on %s%s%s \"%s\": %s",
                        resource->kind, *resource->group ? "." : "", resource->group, request->name,
                        why);
}

static int check_preconditions(struct fl_request *request, const struct deletion *deletion,
                               const struct fl_object *live, struct fl_error *err)
{
    char have[32];

    if (deletion->uid && strcmp(deletion->uid, live->uid) != 0)
        return refuse_precondition(
            request,
            fl_arena_printf(request->arena,
                            "the UID in the precondition (%s) does not match the UID in record "
                            "(%s). The object might have been deleted and then recreated",
                            deletion->uid, live->uid),
            err);
    (void)snprintf(have, sizeof(have), "%llu", (unsigned long long)live->revision);
    if (deletion->revision && strcmp(deletion->revision, have) != 0)
        return refuse_precondition(
            request,
            fl_arena_printf(request->arena,
                            "the ResourceVersion in the precondition (%s) does not match the "
                            "ResourceVersion in record (%s). The object might have been modified",
                            deletion->revision, have),
            err);
    return 0;
}

/* What is to be written, the same for all who delete: *ret_after is content for write->object. */
static enum fl_outcome prepare(struct fl_apiserver *server, const struct fl_resource *resource,
                               const struct fl_object *live, enum fl_propagation propagation,
                               json_t **ret_after, struct fl_store_write *ret_write)
{
    FL_JSON before = fl_object_parse(live);
    enum fl_outcome outcome =
        fl_meta_prepare_delete(server->env, &resource->traits, propagation, before, ret_after);

    if (outcome != FL_OUTCOME_UNCHANGED)
        fl_kind_deleting(server, resource, *ret_after);
    *ret_write = (struct fl_store_write){
        .op = outcome == FL_OUTCOME_REMOVED ? FL_STORE_DELETE : FL_STORE_UPDATE,
        .key = {resource->storage, live->ns, live->name},
        .object = *ret_after,
        .expect_revision = live->revision,
    };
    return outcome;
}

static int submit(struct fl_apiserver *server, const struct fl_resource *resource,
                  const struct fl_object *live, enum fl_propagation propagation,
                  enum fl_outcome *ret_outcome, fl_store_done_fn *done, void *user,
                  struct fl_error *err)
{
    struct fl_store_write write;
    FL_JSON after = NULL;

    *ret_outcome = prepare(server, resource, live, propagation, &after, &write);
    if (*ret_outcome == FL_OUTCOME_UNCHANGED && fl_is_durable(server, live))
        return 0;
    if (*ret_outcome == FL_OUTCOME_UNCHANGED)
        *ret_outcome = FL_OUTCOME_CHANGED;
    return fl_store_write(server->store, &write, done, user, err);
}

int fl_delete_object(struct fl_apiserver *server, const struct fl_resource *resource,
                     const struct fl_object *object, enum fl_propagation propagation,
                     struct fl_error *err)
{
    struct fl_store_write write;
    FL_JSON after = NULL;

    if (prepare(server, resource, object, propagation, &after, &write) == FL_OUTCOME_UNCHANGED)
        return 0;
    return fl_write_own(server, &write, err);
}

/* The answer to one DELETE */

struct pending {
    struct fl_owed owed;
    struct fl_object *object;
    bool removed;
    int code;
    struct fl_error err;
};

static void respond_removed(struct fl_request *request, const struct fl_object *object)
{
    FL_JSON status = fl_status_success(&(struct fl_status_details){
        .name = object->name,
        .group = request->group,
        .kind = request->plural,
        .uid = object->uid,
    });

    fl_respond_json(request, 200, status);
}

static void respond_deleted(struct pending *pending, struct fl_request *request)
{
    if (pending->code < 0)
        fl_respond_failure(request, &pending->err, NULL);
    else if (pending->removed)
        respond_removed(request, pending->object);
    else
        fl_respond_object(request, 200, pending->object);
}

static void complete(void *user)
{
    struct pending *pending = user;
    struct fl_request *request = fl_owed_settle(&pending->owed);

    if (request)
        respond_deleted(pending, request);
    fl_owed_end(&pending->owed, 200, pending->code < 0 ? &pending->err : NULL);
    fl_object_unref(pending->object);
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
    fl_loop_post(pending->owed.server->loop, complete, pending);
}

static int delete_live(struct fl_request *request, struct fl_object *live,
                       enum fl_propagation propagation, struct fl_error *err)
{
    struct pending *pending = fl_calloc(1, sizeof(*pending));
    enum fl_outcome outcome = FL_OUTCOME_UNCHANGED;
    int r;

    fl_owed_begin(&pending->owed, request); /* before the store can call back */
    r = submit(request->server, request->resource, live, propagation, &outcome, on_durable, pending,
               err);
    if (r == 0 && outcome != FL_OUTCOME_UNCHANGED) {
        /* The answer is made on this thread, so never before this line. */
        pending->removed = outcome == FL_OUTCOME_REMOVED;
        return 0;
    }
    (void)fl_owed_settle(&pending->owed);
    free(pending);
    if (r == 0)
        fl_respond_object(request, 200, live); /* it is being deleted already */
    return r;
}

static int check_protected(const struct fl_request *request, struct fl_error *err)
{
    if (strcmp(request->resource->storage, "namespaces") == 0 &&
        (strcmp(request->name, "default") == 0 || strcmp(request->name, "kube-system") == 0))
        return fl_error_set(err, FL_E_FORBIDDEN,
                            "namespaces \"%s\" is forbidden: this namespace may not be deleted",
                            request->name);
    return 0;
}

void fl_handle_delete(struct fl_request *request)
{
    struct fl_key key = {request->resource->storage, request->ns, request->name};
    FL_CLEANUP(fl_object_unrefp) struct fl_object *live = NULL;
    struct deletion deletion;
    struct fl_error err = {0};
    int r;

    r = read_options(request, &deletion, &err);
    if (r == 0)
        r = check_protected(request, &err);
    if (r == 0) {
        live = fl_store_get_newest(request->server->store, &key);
        if (!live)
            r = fl_error_set(&err, FL_E_NOT_FOUND, "%s \"%s\" not found",
                             fl_resource_display(request->resource), request->name);
    }
    if (r == 0)
        r = check_preconditions(request, &deletion, live, &err);
    if (r == 0 && deletion.dry_run) {
        respond_removed(request, live);
        return;
    }
    if (r == 0)
        r = delete_live(request, live, deletion.propagation, &err);
    if (r < 0)
        fl_respond_failure(request, &err, NULL);
}

/* DELETE of a collection: each object on its own; the answer lists what was there, when the last
 * is done. */

#define SWEEP_OPEN_MAX 500 /* writes of one sweep under way: others want to write too */

struct sweep {
    struct fl_owed owed;
    struct fl_resource *resource;
    struct fl_list list;
    size_t next, open;
    enum fl_propagation propagation;
    int code;
    struct fl_error err;
};

struct sweep_step {
    struct sweep *sweep;
    int code;
    struct fl_error err;
};

static void respond_sweep(struct sweep *sweep, struct fl_request *request)
{
    FL_JSON items = json_array();
    FL_JSON answer = NULL;
    char revision[32];

    if (sweep->code < 0) {
        fl_respond_failure(request, &sweep->err, NULL);
        return;
    }
    for (size_t i = 0; i < sweep->list.count; i++)
        (void)json_array_append_new(items, fl_read_object(sweep->resource, sweep->list.objects[i]));
    (void)snprintf(revision, sizeof(revision), "%llu",
                   (unsigned long long)fl_store_revision(request->server->store));
    answer = json_pack("{s:s, s:s, s:{s:s, s:s}, s:O}", "apiVersion", sweep->resource->api_version,
                       "kind", sweep->resource->list_kind, "metadata", "continue", "",
                       "resourceVersion", revision, "items", items);
    fl_respond_json(request, 200, answer);
}

static void sweep_finish(struct sweep *sweep)
{
    struct fl_request *request = fl_owed_settle(&sweep->owed);

    if (request)
        respond_sweep(sweep, request);
    fl_owed_end(&sweep->owed, 200, sweep->code < 0 ? &sweep->err : NULL);
    fl_list_finish(&sweep->list);
    fl_resource_unref(sweep->resource);
    free(sweep);
}

static void sweep_note(struct sweep *sweep, int code, const struct fl_error *err)
{
    if (code >= 0 || code == FL_E_NOT_FOUND) /* somebody else was faster */
        return;
    sweep->code = code;
    sweep->err = *err;
}

static void sweep_continue(struct sweep *sweep);

static void step_complete(void *user)
{
    struct sweep_step *step = user;
    struct sweep *sweep = step->sweep;

    sweep->open--;
    sweep_note(sweep, step->code, &step->err);
    free(step);
    sweep_continue(sweep);
}

static void step_durable(void *user, int code, struct fl_object *object, const struct fl_error *err)
{
    struct sweep_step *step = user;

    (void)object;
    step->code = code;
    if (code < 0)
        step->err = *err;
    fl_loop_post(step->sweep->owed.server->loop, step_complete, step);
}

static void sweep_one(struct sweep *sweep, const struct fl_object *object)
{
    struct fl_apiserver *server = sweep->owed.server;
    struct fl_key key = {sweep->resource->storage, object->ns, object->name};
    FL_CLEANUP(fl_object_unrefp) struct fl_object *live = fl_store_get_newest(server->store, &key);
    enum fl_outcome outcome = FL_OUTCOME_UNCHANGED;
    struct sweep_step *step;
    int r;

    if (!live)
        return;
    step = fl_calloc(1, sizeof(*step));
    step->sweep = sweep;
    sweep->open++;
    r = submit(server, sweep->resource, live, sweep->propagation, &outcome, step_durable, step,
               &step->err);
    if (r == 0 && outcome != FL_OUTCOME_UNCHANGED)
        return;
    sweep->open--;
    sweep_note(sweep, r, &step->err);
    free(step);
}

static void sweep_continue(struct sweep *sweep)
{
    while (sweep->next < sweep->list.count && sweep->open < SWEEP_OPEN_MAX && sweep->code >= 0)
        sweep_one(sweep, sweep->list.objects[sweep->next++]);
    if (sweep->open == 0)
        sweep_finish(sweep);
}

static bool match_selection(void *user, const struct fl_object *object)
{
    return fl_selection_matches(user, object);
}

void fl_handle_delete_collection(struct fl_request *request)
{
    struct sweep *sweep = fl_calloc(1, sizeof(*sweep));
    struct fl_selection selection;
    struct fl_list_query query = {
        .resource = request->resource->storage,
        .ns = *request->ns ? request->ns : NULL,
        .match = match_selection,
        .user = &selection,
    };
    struct deletion deletion;
    int r;

    fl_owed_begin(&sweep->owed, request);
    sweep->resource = fl_resource_ref(request->resource);
    r = read_options(request, &deletion, &sweep->err);
    if (r == 0)
        r = fl_selection_parse(request, &selection, &sweep->err);
    if (r == 0)
        r = fl_store_list(request->server->store, &query, &sweep->list, &sweep->err);
    sweep->code = r;
    sweep->propagation = r == 0 ? deletion.propagation : FL_PROPAGATION_DEFAULT;
    if (r == 0 && deletion.dry_run)
        sweep->next = sweep->list.count;
    sweep_continue(sweep);
}
