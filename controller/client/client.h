/* The controllers' side of the API: what reconcilers, caches and sources read and write with.
 *
 * A client is a driver (how a request gets there) and a user (who asks). The driver `local` hands
 * requests to the API server in the same process: no sockets, no TLS, the same admission,
 * validation, field ownership, RBAC and audit as for anybody else. Its lists and watches share the
 * store's objects, so that a cache costs no copies. Another driver may speak HTTP to any Kubernetes
 * API server; `faulty` (client_testing.h) wraps any for the simulation. One contract test runs on
 * every driver.
 *
 * Reads through a client are live; what a cache (controller/cache) says may be old.
 * Any thread; `call` blocks it until the answer or the deadline. Never on the loop's thread, but in
 * the simulation, whose driver turns the loop itself. Errors have the code of the Status that the
 * server answered with (NOT_FOUND, CONFLICT, INVALID …) and its message; TIMEOUT and UNAVAILABLE
 * leave open whether a write took place. */
#ifndef FL_CONTROLLER_CLIENT_H
#define FL_CONTROLLER_CLIENT_H

#include "api/field.h"
#include "controller/store/store.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_apiclient;

/* Which resource: as in a path, and the store's name of it. */
struct fl_gvr {
    const char *group, *version, *plural; /* group "" is the core group */
    bool namespaced;
};
struct fl_gvr fl_gvr_of(const struct fl_kind_type *type);

extern const struct fl_gvr fl_gvr_secrets, fl_gvr_configmaps, fl_gvr_namespaces, fl_gvr_events,
    fl_gvr_leases, fl_gvr_rolebindings;

struct fl_api_call {
    const char *method;       /* "GET" … */
    const char *target;       /* path and query */
    const char *content_type; /* of the body; NULL without one */
    const void *body;
    size_t body_len;
    int64_t timeout_ms; /* 0: 30 s */
};

struct fl_api_user {
    const char *name;
    const char *const *groups;
    size_t group_count;
};

/* A driver. */
struct fl_apiclient_ops {
    const char *name;
    void (*destroy)(void *self);
    /* must: one request as `user`, answered or TIMEOUT/UNAVAILABLE. Any HTTP status is a success.
     */
    int (*call)(void *self, const struct fl_api_user *user, const struct fl_api_call *call,
                int *ret_status, struct fl_bytes **ret_body, struct fl_error *err);
    /* must: all objects (ns NULL: of all namespaces) as of one revision. As the control plane. */
    int (*list)(void *self, const struct fl_gvr *gvr, const char *ns, struct fl_list *ret_list,
                struct fl_error *err);
    /* must: changes after `revision`; EXPIRED as for fl_store_watch. `wake(user)` is called, on any
     * thread, when there may be something to read and nothing was left at the last read (or nothing
     * was read yet); it must not block, nor call the client. */
    int (*watch)(void *self, const struct fl_gvr *gvr, const char *ns, uint64_t revision,
                 void (*wake)(void *user), void *user, void **ret_watch, struct fl_error *err);
    /* must: 1: the next change; 0: none now; EXPIRED: list anew. As fl_watch_next. */
    int (*watch_next)(void *self, void *watch, struct fl_event *ret_event, struct fl_error *err);
    /* must: after it, wake is not called any more. It waits for a `wake` that runs: not with a lock
     * that wake takes. */
    void (*watch_close)(void *self, void *watch);
};

/* The client owns `self` from then on; made for the control plane's own user,
 * "system:flops:controller-manager" in group system:masters. `env` is lent. */
struct fl_apiclient *fl_apiclient_create(const struct fl_env *env,
                                         const struct fl_apiclient_ops *ops, void *self);
void fl_apiclient_destroy(struct fl_apiclient *client);
FL_DEFINE_CLEANUP(struct fl_apiclient, fl_apiclient_destroy)
/* Its driver, for one that wraps it. Lent. */
const struct fl_apiclient_ops *fl_apiclient_driver(const struct fl_apiclient *client,
                                                   void **ret_self);
/* The same driver, asking as somebody else. The first client must outlive it; names are copied. */
struct fl_apiclient *fl_apiclient_as(struct fl_apiclient *client, const struct fl_api_user *user);
/* The same driver and user, for as long as `left_ms` says: no call begins where nothing is left
 * (CONFLICT), and none waits longer for its answer. So a leader's writes end with its leadership.
 * Clients made of it by fl_apiclient_as keep to it, too; caches do not. Any thread calls it. */
typedef int64_t fl_apiclient_left_fn(void *user);
struct fl_apiclient *fl_apiclient_fenced(struct fl_apiclient *client, fl_apiclient_left_fn *left_ms,
                                         void *user);

/* The driver of the process that has the API server (client_local.c). What it is given outlives it;
 * it is destroyed when no call and no watch of it is left. A call blocks its thread and the loop
 * must be running meanwhile (so nobody joins such a thread on the loop's); on a simulated loop the
 * call steps the loop until it has its answer, and is a TIMEOUT at once where only time could bring
 * it. Answers that are streams are collected up to 4 MiB. */
struct fl_apiserver;
struct fl_loop;
struct fl_apiclient *fl_apiclient_create_local(const struct fl_env *env, struct fl_loop *loop,
                                               struct fl_store *store, struct fl_apiserver *server);

/* The JSON answer to a call; statuses of 400 and above are errors. `*ret_value` may be NULL. */
int fl_apiclient_call(struct fl_apiclient *client, const struct fl_api_call *call,
                      json_t **ret_value, struct fl_error *err);

/* Objects. `ret_…` are the caller's and may be NULL. `ns` is NULL for cluster-scoped ones. */
int fl_apiclient_get(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                     const char *name, json_t **ret_object, struct fl_error *err);
int fl_apiclient_create_object(struct fl_apiclient *client, const struct fl_gvr *gvr,
                               const char *ns, const json_t *object, json_t **ret_object,
                               struct fl_error *err);
/* Server-side apply of `object` (it names itself). Where nothing changed, metadata.resourceVersion
 * of what comes back is the one that was known before. */
struct fl_apply_options {
    const char *manager;
    bool force;
    bool dry_run;
};
int fl_apiclient_apply(struct fl_apiclient *client, const struct fl_gvr *gvr, const json_t *object,
                       const struct fl_apply_options *options, json_t **ret_object,
                       struct fl_error *err);
/* A JSON merge patch; `subresource` NULL or "status". metadata.resourceVersion and metadata.uid in
 * it are preconditions (CONFLICT). */
int fl_apiclient_patch(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                       const char *name, const char *subresource, const json_t *patch,
                       json_t **ret_object, struct fl_error *err);
/* An object that is gone already is a success. `uid` (may be NULL): only that one; another object
 * under the name is a success, too. Background propagation. */
int fl_apiclient_delete(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                        const char *name, const char *uid, struct fl_error *err);
/* Live list through the API, with the user's rights. `selector` may be NULL. *ret_items: an array
 */
int fl_apiclient_list(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                      const char *selector, json_t **ret_items, struct fl_error *err);

/* Calls of the driver, for caches. */
int fl_apiclient_list_objects(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                              struct fl_list *ret_list, struct fl_error *err);
struct fl_apiclient_watch;
int fl_apiclient_watch(struct fl_apiclient *client, const struct fl_gvr *gvr, const char *ns,
                       uint64_t revision, void (*wake)(void *user), void *user,
                       struct fl_apiclient_watch **ret_watch, struct fl_error *err);
int fl_apiclient_watch_next(struct fl_apiclient_watch *watch, struct fl_event *ret_event,
                            struct fl_error *err);
void fl_apiclient_watch_close(struct fl_apiclient_watch *watch);

#endif
