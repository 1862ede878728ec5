/* The command line's side of the HTTP API: one client a command, made from the flags.
 *
 * A client, its answers and all strings here live in the arena it was opened with; objects that a
 * call returns are the caller's (json_t references), so that a watch does not grow. Every call has
 * a deadline. One thread. */
#ifndef FL_CMD_CLIENT_H
#define FL_CMD_CLIENT_H

#include "cmd/config.h"
#include "lib/env.h"
#include "lib/http_client.h"
#include "lib/json.h"

struct fl_discovery;
struct fl_api_resource;

struct fl_client {
    const char *command; /* "get", for messages */
    struct fl_arena *arena;
    struct fl_env env;
    struct fl_config config;
    struct fl_http_client *http;
    struct fl_discovery *discovery;
    const char *ns;    /* -n, else the context's */
    bool ns_is_chosen; /* with -n */
    int64_t request_timeout_ms;
    json_t *status; /* of the last call that was refused, or NULL; borrowed */
};

#define FL_ACCEPT_TABLE                                                                            \
    "application/json;as=Table;v=v1;g=meta.k8s.io,"                                                \
    "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
#define FL_ANSWER_MAX_BYTES ((size_t)256 * 1024 * 1024)

/* Reads the kubeconfig; nothing is sent yet. Ends with the arena. */
int fl_client_open(const char *command, const struct fl_client_flags *flags, struct fl_arena *arena,
                   struct fl_client **ret_client, struct fl_error *err);

/* The call's deadline is the client's. An answer of 400 and above is an error with the server's
 * message, and its Status is kept in client->status. `*ret_http` and `*ret_value` may be NULL; the
 * value is the caller's. Warnings of the server go to standard error. */
int fl_client_call(struct fl_client *client, const struct fl_http_call *call, int *ret_http,
                   json_t **ret_value, struct fl_error *err);
int fl_client_get(struct fl_client *client, const char *target, const char *accept,
                  json_t **ret_value, struct fl_error *err);
/* The error for an answer of 400 and above, from its body. */
int fl_client_refused(struct fl_client *client, int http_status, const struct fl_bytes *body,
                      struct fl_error *err);

struct fl_list_query {
    const char *ns; /* NULL: all namespaces */
    const char *label_selector, *field_selector;
    const char *accept;         /* NULL: the objects */
    const char *include_object; /* of a table */
    int64_t chunk_size;         /* 0: all at once */
};

/* A whole list (or table), its pages put together. */
int fl_client_list(struct fl_client *client, const struct fl_api_resource *resource,
                   const struct fl_list_query *query, json_t **ret_list, struct fl_error *err);

/* "/apis/flops.dev/v1alpha1/namespaces/default/flprojects/x"; ns and name may be NULL. */
char *fl_client_path(struct fl_client *client, const struct fl_api_resource *resource,
                     const char *ns, const char *name);
/* Appends "?key=value" or "&key=value"; a NULL value appends nothing. */
char *fl_client_query(struct fl_client *client, const char *target, const char *key,
                      const char *value);

/* "flops get: WHERE: message" on standard error, a line for each cause where the server named
 * several. `where` may be NULL. Returns 1, an exit status. */
int fl_client_report(struct fl_client *client, const char *where, const struct fl_error *err);

/* Waits a little before another try. */
void fl_client_pause(int64_t ms);

#endif
