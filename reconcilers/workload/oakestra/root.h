/* What an Oakestra root says, and how it is asked.
 *
 * oak_read_… are pure: answers become structs in an arena, whatever their outer form: JSON, JSON in
 * a JSON string, ids as text or as {"$oid": …}, fields under their old and new names. They bound
 * what they take and refuse what is no answer.
 *
 * A struct oak_root is one login at one root. It is one thread's, makes one call at a time with a
 * deadline of its own, logs in when there is no token, when that is nine of its ten minutes old,
 * and once more after a 401. Passwords and tokens are in no message. */
#ifndef FL_RECONCILERS_OAKESTRA_ROOT_H
#define FL_RECONCILERS_OAKESTRA_ROOT_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>

/* Answers */

struct oak_cluster {
    const char *id, *name, *location;
    bool active;
    int64_t nodes; /* active ones; -1: not said */
    int64_t vcpus, memory_mb, vgpus;
    const char *const *virtualization, *const *addons, *const *csi_drivers;
    size_t virtualization_count, addon_count, csi_count;
    bool is_new; /* told in the words of roots since v0.4.410 */
};
struct oak_clusters {
    struct oak_cluster *items;
    size_t count;
};

enum oak_status {
    OAK_NO_STATUS = 0,
    /* Waiting, each with a deadline of its own. */
    OAK_REQUESTED,
    OAK_CLUSTER_SCHEDULED,
    OAK_NODE_SCHEDULED,
    OAK_CREATING,
    OAK_RUNNING,
    /* Ended. */
    OAK_FAILED,
    OAK_DEAD,      /* with 0, of what is no one-shot */
    OAK_COMPLETED, /* with 0, of a one-shot */
    OAK_UNDEPLOYED,
    OAK_REFUSED, /* by a scheduler: no cluster, no node, no room */
    OAK_STATUSES,
};
enum oak_status oak_status_of(const char *text);

struct oak_instance {
    int64_t number;
    enum oak_status status;
    const char *status_text, *detail; /* "" where nothing is said */
    const char *cluster_id, *public_ip, *logs;
};

struct oak_service {
    const char *id, *app_id, *app, *ns, *name; /* `app` and `name`: as the SLA had them */
    enum oak_status status;                    /* the job's: only good for refusals */
    const char *status_text, *detail;
    struct oak_instance *instances;
    size_t instance_count;
    const char *const *environment;
    size_t environment_count;
    const char *rr_ip, *cluster; /* as the SLA asked for; NULL */
};
struct oak_services {
    struct oak_service *items;
    size_t count;
};

struct oak_app {
    const char *id, *name, *ns, *desc;
};
struct oak_apps {
    struct oak_app *items;
    size_t count;
};

/* The value behind one or two layers of JSON. */
int oak_read_answer(const char *text, size_t len, json_t **ret_value, struct fl_error *err);
int oak_read_clusters(const json_t *answer, struct fl_arena *arena, struct oak_clusters *ret_list,
                      struct fl_error *err);
/* Only those whose application's name begins with the prefix. */
int oak_read_services(const json_t *answer, const char *prefix, struct fl_arena *arena,
                      struct oak_services *ret_list, struct fl_error *err);
int oak_read_apps(const json_t *answer, const char *prefix, struct fl_arena *arena,
                  struct oak_apps *ret_list, struct fl_error *err);
/* 200 with failed services is a failure: UNAVAILABLE. */
int oak_read_created(const json_t *answer, const char *name, struct fl_arena *arena,
                     const char **ret_id, struct fl_error *err);
/* The first free IPv4 service address. */
int oak_read_free_ip(const json_t *answer, struct fl_arena *arena, const char **ret_ip,
                     struct fl_error *err);

/* Calls */

struct oak_credentials {
    const char *username, *password, *organization;
};
struct oak_root_options {
    const struct fl_env *env;
    const char *endpoint, *network_endpoint;
    bool insecure;
    int64_t timeout_ms; /* of each call */
    int (*credentials)(void *user, struct fl_arena *arena, struct oak_credentials *ret,
                       struct fl_error *err);
    void *user;
};
struct oak_root_counts {
    int64_t logins, lists, clusters, changes, failures;
};

struct oak_root;
int oak_root_create(const struct oak_root_options *options, struct oak_root **ret_root,
                    struct fl_error *err);
void oak_root_destroy(struct oak_root *root);
FL_DEFINE_CLEANUP(struct oak_root, oak_root_destroy)
struct oak_root_counts oak_root_counts(const struct oak_root *root);

/* Who is logged in; "" before that. */
const char *oak_root_user(const struct oak_root *root);

int oak_root_clusters(struct oak_root *root, struct fl_arena *arena, struct oak_clusters *ret_list,
                      struct fl_error *err);
int oak_root_apps(struct oak_root *root, const char *prefix, struct fl_arena *arena,
                  struct oak_apps *ret_list, struct fl_error *err);
/* Of all applications in one request, where the user may; else one request an application. */
int oak_root_services(struct oak_root *root, const char *prefix, const struct oak_apps *apps,
                      struct fl_arena *arena, struct oak_services *ret_list, struct fl_error *err);
/* ALREADY_EXISTS: by that name and namespace. */
int oak_root_create_app(struct oak_root *root, const json_t *sla, struct fl_error *err);
int oak_root_create_service(struct oak_root *root, const json_t *sla, const char *name,
                            struct fl_arena *arena, const char **ret_id, struct fl_error *err);
int oak_root_deploy(struct oak_root *root, const char *service_id, struct fl_error *err);
int oak_root_undeploy(struct oak_root *root, const char *service_id, int64_t instance,
                      struct fl_error *err);
int oak_root_delete_service(struct oak_root *root, const char *service_id, struct fl_error *err);
int oak_root_delete_app(struct oak_root *root, const char *app_id, struct fl_error *err);
int oak_root_free_ip(struct oak_root *root, struct fl_arena *arena, const char **ret_ip,
                     struct fl_error *err);

#endif
