/* Inside the API server: what its parts share. Loop thread only. */
#ifndef FL_CONTROLLER_APISERVER_INTERNAL_H
#define FL_CONTROLLER_APISERVER_INTERNAL_H

#include "api/resource.h"
#include "api/selector.h"
#include "api/status.h"
#include "api/table.h"
#include "controller/apiserver/apiserver.h"
#include "controller/apiserver/audit.h"
#include "controller/apiserver/auth.h"
#include "controller/apiserver/raw.h"
#include "controller/apiserver/subresource.h"
#include "lib/map.h"
#include "lib/str.h"

#include <sys/queue.h>

/* What the server serves (resources.c). */
struct fl_served {
    int refs;      /* fl_served_ref and fl_served_unref only; loop thread */
    bool replaced; /* its definition changed or went: no new requests, watches end */
    struct fl_resource *resource;
    const struct fl_table_columns *columns;
    struct fl_table_columns *own_columns; /* of a definition; NULL for built-in kinds */
    bool terminating;                     /* its definition is being deleted: no new objects */
    uint64_t revision;                    /* of its definition; 0 for built-in kinds */
};

struct fl_group_version {
    const char *group, *version;
    struct fl_served **items;
    size_t count;
};

struct fl_catalog; /* every served resource, for look-up and discovery */

struct fl_served *fl_served_ref(struct fl_served *served);
void fl_served_unref(struct fl_served *served);

struct fl_catalog *fl_catalog_create(void);
void fl_catalog_destroy(struct fl_catalog *catalog);
int fl_catalog_load_builtins(struct fl_catalog *catalog, struct fl_error *err);
/* Takes up, replaces or drops what a definition defines; NULL crd: the definition is gone. */
int fl_catalog_set_definition(struct fl_catalog *catalog, const char *name, const json_t *crd,
                              uint64_t revision, struct fl_error *err);
struct fl_served *fl_catalog_find(struct fl_catalog *catalog, const char *group,
                                  const char *version, const char *plural);
/* By kind, for owner references: any version of the group will do. */
struct fl_served *fl_catalog_find_kind(struct fl_catalog *catalog, const char *api_version,
                                       const char *kind);
/* The served version of a stored resource ("flprojects.flops.dev") that comes first. */
struct fl_served *fl_catalog_find_storage(struct fl_catalog *catalog, const char *storage);
/* Sorted as discovery lists them: core first, then by group and version. */
size_t fl_catalog_group_versions(struct fl_catalog *catalog, const struct fl_group_version **ret);
/* Changes whenever what is served changes. */
uint64_t fl_catalog_generation(const struct fl_catalog *catalog);
/* Whether the names of a definition are free (or its own already). */
bool fl_catalog_names_free(struct fl_catalog *catalog, const json_t *crd, struct fl_arena *arena,
                           const char **ret_reason, const char **ret_message);

struct fl_watcher;
struct fl_gc;
struct fl_metrics;
struct fl_documents; /* discovery and OpenAPI documents, made when first asked for */

struct fl_apiserver {
    const struct fl_env *env;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_http_server *http;
    struct fl_catalog *catalog;
    struct fl_auth *auth;
    struct fl_audit *audit;
    struct fl_metrics *metrics;
    struct fl_documents *documents;
    struct fl_gc *gc;
    struct fl_map *terminating_definitions; /* by name: struct fl_ending */
    struct fl_map *terminating_namespaces;
    int64_t definitions_ms, namespaces_ms; /* when their content was last looked at */
    uint64_t content_looks;                /* how often */
    char *version, *server_address;
    TAILQ_HEAD(fl_watchers, fl_watcher) watchers;
    TAILQ_HEAD(fl_streams, fl_api_stream) streams; /* of subresources */
    const struct fl_apiserver_subresource *subresources;
    size_t subresource_count;
    TAILQ_HEAD(fl_raw_requests, fl_raw_request) raw_requests; /* begun, and not answered */
    const struct fl_apiserver_raw *raws;
    size_t raw_count;
    void (*more_metrics)(void *user, struct fl_buf *text); /* may be NULL */
    void *more_metrics_user;
    struct fl_timer *chores; /* what time alone brings, and controllers' next run */
    int64_t chores_ms;
    uint64_t chores_done;
    int64_t wake_ms;    /* when `chores` is armed for; in the past: it is not */
    bool names_changed; /* of definitions: others may have waited for them */
    bool draining;
    size_t writes_in_flight;
};

/* A namespace or definition that is being deleted. */
struct fl_ending {
    bool due; /* something in it changed, or its last look did not finish */
};

/* How the client wants an object or list shown. */
enum fl_view { FL_VIEW_OBJECT, FL_VIEW_TABLE, FL_VIEW_PARTIAL };

struct fl_param {
    const char *name, *value;
};

#define FL_PARAMS_MAX 64

struct fl_request {
    struct fl_apiserver *server;
    struct fl_http_request *http;
    struct fl_arena *arena;
    const struct fl_user *user;
    const char *audit_id;
    /* from the path */
    const char *group, *version, *plural, *ns, *name, *subresource; /* "" where there is none */
    bool names_namespace; /* the path is /api/v1/namespaces/NAME: ns and name are the same */
    const struct fl_apiserver_subresource *elsewhere; /* who serves the subresource; or NULL */
    struct fl_served *served;     /* of a resource request; held until it ends */
    struct fl_resource *resource; /* served->resource */
    const char *verb; /* "get", "list", "watch", "create" … or the lower-case method */
    struct fl_access access;
    struct fl_param params[FL_PARAMS_MAX];
    size_t param_count;
    /* from the headers */
    enum fl_view view;
    bool table_v1beta1; /* of meta.k8s.io: what old clients ask for */
    enum fl_table_include include;
    bool pretty, yaml;
    bool is_write;
    size_t warned_bytes;
    const char *failure; /* the reason of a failure, for the audit log */
    char *audit_text;    /* begun when the write was handed to the store; heap */
    /* What the error that ends it is about, where that is not its resource. Arena. */
    const struct fl_status_details *error_details;
};

/* apiserver.c: the controllers run again shortly. */
void fl_apiserver_run_soon(struct fl_apiserver *server);
/* In so many milliseconds at the latest. */
void fl_apiserver_run_within(struct fl_apiserver *server, int64_t ms);
/* The same after a pause, for what just failed. */
void fl_apiserver_run_later(struct fl_apiserver *server);

/* request.c: from bytes to a request that is understood, known and allowed. */
void fl_request_handle(void *user, struct fl_http_request *http);
/* Its header is complete, and a body is to come. */
void fl_request_begin(void *user, struct fl_http_request *http);
void fl_request_error_body(void *server, int status, const char *detail, struct fl_buf *body,
                           const char **ret_content_type);
const char *fl_request_param(const struct fl_request *request, const char *name); /* or NULL */
bool fl_request_flag(const struct fl_request *request, const char *name);
/* The body as JSON; YAML and protobuf (built-in kinds) are converted. `duplicates` may be NULL. */
int fl_request_body(struct fl_request *request, fl_json_duplicate_fn *duplicates, void *user,
                    json_t **ret_body, struct fl_error *err);
/* Writer of fields: the fieldManager parameter, else the user agent up to '/'. */
const char *fl_request_manager(const struct fl_request *request);

/* respond.c: answers. Each ends the request. */
void fl_respond_json(struct fl_request *request, int status, const json_t *value);
void fl_respond_text(struct fl_request *request, int status, const char *text);
void fl_respond_object(struct fl_request *request, int status, struct fl_object *object);
/* An object that is not stored so (dry run, subresource). */
void fl_respond_value(struct fl_request *request, int status, const json_t *object);
void fl_respond_error(struct fl_request *request, const struct fl_error *err,
                      const struct fl_status_details *details);
/* The same with details.{name,group,kind} of the request's resource. */
void fl_respond_failure(struct fl_request *request, const struct fl_error *err,
                        const struct fl_field_errors *causes);
void fl_respond_buf(struct fl_request *request, int status, const char *content_type,
                    struct fl_buf *buf);
void fl_respond_warning(struct fl_request *request, const char *text);
void fl_respond_done(struct fl_request *request,
                     int status); /* metrics and audit, before any end */
/* Whether the stored text is what this version of the resource shows, byte by byte. */
bool fl_stored_as(const struct fl_resource *resource, const struct fl_object *object);
/* An answer that is owed: the write is on its way to the disk, and the client may leave meanwhile.
 * Who owes it embeds this. */
struct fl_owed {
    struct fl_apiserver *server;
    struct fl_request *request; /* NULL once the client is gone */
    char *audit_text;
    int64_t started_ms;
};
void fl_owed_begin(struct fl_owed *owed, struct fl_request *request);
/* The request to answer now, or NULL. */
struct fl_request *fl_owed_settle(struct fl_owed *owed);
/* After the answer: without a client the write is recorded here. `err` NULL: it succeeded. */
void fl_owed_end(struct fl_owed *owed, int status, const struct fl_error *err);

/* The stored text as the requested version shows it: apiVersion as asked for. Appends. */
void fl_write_object(struct fl_buf *buf, const struct fl_resource *resource,
                     const struct fl_object *object);
json_t *fl_read_object(const struct fl_resource *resource, const struct fl_object *object);
/* The Table of some objects as the client wants it. New. */
json_t *fl_make_table(const struct fl_request *request, const json_t *const *objects, size_t count,
                      struct fl_table_options *options);
json_t *fl_make_partial(const json_t *object);

/* read.c */
void fl_handle_get(struct fl_request *request);
void fl_handle_list(struct fl_request *request);

/* A selection of objects, from the query's selectors. */
struct fl_selection {
    struct fl_selector *labels, *fields;
    const struct fl_resource *resource;
    const char *name; /* "metadata.name=x", or the object in the path; NULL: any */
};
int fl_selection_parse(struct fl_request *request, struct fl_selection *ret_selection,
                       struct fl_error *err);
bool fl_selection_matches(const struct fl_selection *selection, const struct fl_object *object);
bool fl_selection_is_all(const struct fl_selection *selection);

/* watch.c */
void fl_handle_watch(struct fl_request *request);
void fl_watchers_pump(struct fl_apiserver *server);
void fl_watchers_end(struct fl_apiserver *server);
size_t fl_watchers_count(const struct fl_apiserver *server);

/* subresource.c: those that somebody else serves. */
const struct fl_apiserver_subresource *fl_subresource_find(const struct fl_apiserver *server,
                                                           const char *group, const char *plural,
                                                           const char *name); /* or NULL */
void fl_handle_subresource(struct fl_request *request);
void fl_streams_end(struct fl_apiserver *server);

/* write.c */
void fl_handle_create(struct fl_request *request);
void fl_handle_update(struct fl_request *request);
void fl_handle_patch(struct fl_request *request);
/* delete.c */
void fl_handle_delete(struct fl_request *request);
void fl_handle_delete_collection(struct fl_request *request);
/* Starts the deletion of a stored object on behalf of the server itself (collector, namespaces). */
int fl_delete_object(struct fl_apiserver *server, const struct fl_resource *resource,
                     const struct fl_object *object, enum fl_propagation propagation,
                     struct fl_error *err);

/* kinds.c: what built-in kinds need beyond their schema. */
/* Before validation, on create and update (old NULL on create). */
void fl_kind_default(struct fl_apiserver *server, const struct fl_resource *resource,
                     json_t *object, const json_t *old);
/* Beyond the schema: members that only a kind's own code knows about. */
void fl_kind_prune(const struct fl_resource *resource, json_t *object, fl_schema_path_fn *unknown,
                   void *user);
/* Whether bytes in data are no base64, and where. */
bool fl_kind_bad_base64(const struct fl_resource *resource, const json_t *object, size_t *ret_at);
/* Beyond the schema. */
void fl_kind_validate(struct fl_apiserver *server, const struct fl_resource *resource,
                      const json_t *object, const json_t *old, struct fl_field_errors *errors);

/* When its deletion begins. */
void fl_kind_deleting(struct fl_apiserver *server, const struct fl_resource *resource,
                      json_t *object);

/* edit.c: changes that the server's own controllers make to stored objects. CONFLICT where the
 * object has changed meanwhile: the change is an event, and they look again. */
/* Whether a stored object may be shown: nobody learns of what a crash could still take back. A
 * write that changes nothing but builds on such an object is written all the same, so that its
 * answer comes after it and fails with it. */
bool fl_is_durable(struct fl_apiserver *server, const struct fl_object *object);
/* Hands the store a write of the server's own. One that fails after it was accepted makes the
 * controllers look at the object again. */
int fl_write_own(struct fl_apiserver *server, const struct fl_store_write *write,
                 struct fl_error *err);
typedef void fl_edit_fn(void *user, json_t *object);
int fl_edit_object(struct fl_apiserver *server, const struct fl_resource *resource,
                   const struct fl_object *object, fl_edit_fn *edit, void *user,
                   struct fl_error *err);
int fl_drop_finalizer(struct fl_apiserver *server, const struct fl_resource *resource,
                      const struct fl_object *object, const char *finalizer, struct fl_error *err);

/* discovery.c, openapi.c, health.c, reviews.c: documents and questions. True if the path is theirs.
 */
bool fl_handle_document(struct fl_request *request, const char *path);
struct fl_documents *fl_documents_create(struct fl_apiserver *server);
void fl_documents_destroy(struct fl_documents *documents);
void fl_handle_review(struct fl_request *request);

/* definitions.c: CustomResourceDefinitions. */
/* Completes a definition being written: defaults, the finalizer that keeps it until its objects are
 * gone, and what its status says of its names. */
void fl_definition_default(struct fl_apiserver *server, json_t *crd, const json_t *old);
void fl_definition_terminating(struct fl_apiserver *server, json_t *crd);
int fl_definitions_load(struct fl_apiserver *server, struct fl_error *err);
int fl_definitions_install(struct fl_apiserver *server, const char *const *texts, size_t count,
                           struct fl_error *err);
void fl_definitions_changed(struct fl_apiserver *server, const struct fl_event *event);
void fl_definitions_run(struct fl_apiserver *server);

/* gc.c, namespaces.c: the generic controllers. They look at what changed and act step by step. */
struct fl_gc *fl_gc_create(struct fl_apiserver *server, struct fl_error *err);
void fl_gc_destroy(struct fl_gc *gc);
void fl_gc_observe(struct fl_gc *gc, const struct fl_event *event);
void fl_gc_look_again(struct fl_gc *gc, const char *resource, const char *ns, const char *name);
void fl_gc_run(struct fl_gc *gc);
int fl_namespaces_bootstrap(struct fl_apiserver *server, struct fl_error *err);
void fl_namespaces_observe(struct fl_apiserver *server, const struct fl_event *event);
void fl_namespaces_run(struct fl_apiserver *server);
/* The content of what is being deleted. */
struct fl_content {
    size_t left;      /* objects that are still there */
    size_t unstarted; /* of them those whose deletion is not stored yet */
};
#define FL_CONTENT_PER_RUN  500
#define FL_CONTENT_EVERY_MS 100
void fl_ending_add(struct fl_map *endings, const char *name);
/* Takes what is due a step further, if the last time is long enough ago; else later. */
typedef bool fl_ending_fn(struct fl_apiserver *server, const char *name, size_t *budget);
void fl_endings_run(struct fl_apiserver *server, struct fl_map *endings, int64_t *last_ms,
                    fl_ending_fn *finish);
/* Starts the deletion of at most *budget objects of a storage (in a namespace; NULL: in all). */
int fl_content_delete(struct fl_apiserver *server, const char *storage, const char *ns,
                      size_t *budget, struct fl_content *ret_content);
/* What is needed to change or delete an object: of its resource if any version of it is served,
 * else the least there is, in *buf. */
const struct fl_resource *fl_resource_of_stored(struct fl_apiserver *server,
                                                const struct fl_object *object,
                                                struct fl_resource *buf);

/* metrics.c */
struct fl_metrics *fl_metrics_create(void);
void fl_metrics_destroy(struct fl_metrics *metrics);
void fl_metrics_request(struct fl_metrics *metrics, const struct fl_request *request, int status,
                        int64_t duration_ms);
void fl_metrics_watch_event(struct fl_metrics *metrics, const struct fl_resource *resource);
void fl_metrics_write(struct fl_apiserver *server, struct fl_buf *buf);

#endif
