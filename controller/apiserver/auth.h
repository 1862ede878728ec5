/* Who asks, and what they may do.
 *
 * Authentication: client certificates (CN is the user, O the groups) and bearer tokens from a file
 * that holds only hashes. There is no anonymous access but for liveness and version paths.
 * Authorization: Roles, ClusterRoles and their bindings, as on a cluster; system:masters may do
 * all. Roles admin, edit and view exist from the start and are bound per namespace by RoleBindings.
 *
 * Loop thread only. */
#ifndef FL_CONTROLLER_APISERVER_AUTH_H
#define FL_CONTROLLER_APISERVER_AUTH_H

#include "controller/store/store.h"
#include "lib/http_server.h"

#include <stdbool.h>
#include <stddef.h>

#define FL_GROUP_MASTERS       "system:masters"
#define FL_GROUP_AUTHENTICATED "system:authenticated"

struct fl_user {
    const char *name, *uid;
    const char *const *groups;
    size_t group_count;
    const char *impersonator; /* who really asks, or NULL */
};

/* One attempt to do something. For a resource, `resource` is set; else `path` is. */
struct fl_access {
    const struct fl_user *user;
    const char *verb;
    const char *group, *resource, *subresource, *ns, *name; /* "" where there is none */
    const char *path;
};

struct fl_auth;

int fl_auth_create(const struct fl_env *env, struct fl_store *store, const char *token_file,
                   struct fl_auth **ret_auth, struct fl_error *err);
/* Tokens made with this key (capability.h) are taken from now on. Copied. */
void fl_auth_take_capabilities(struct fl_auth *auth, const unsigned char *key);
void fl_auth_destroy(struct fl_auth *auth);
/* The default roles and bindings are written to the store where they are missing. */
int fl_auth_bootstrap(struct fl_auth *auth, struct fl_error *err);

/* The user behind a request, in its arena, with impersonation applied (which needs the right to
 * impersonate). `takes_basic`: a token may also be the password of Basic credentials. UNAUTHORIZED,
 * with no user; or FORBIDDEN or BAD_REQUEST for an impersonation that is refused, with the user who
 * tried. */
int fl_auth_identify(struct fl_auth *auth, struct fl_http_request *request, bool takes_basic,
                     const struct fl_user **ret_user, struct fl_error *err);

bool fl_auth_allows(struct fl_auth *auth, const struct fl_access *access);
/* FORBIDDEN in Kubernetes' words. */
int fl_auth_forbid(const struct fl_access *access, struct fl_error *err);

/* Fills in `status` of a review object (SelfSubjectAccessReview, SelfSubjectRulesReview,
 * SubjectAccessReview, SelfSubjectReview, TokenReview). */
int fl_auth_review(struct fl_auth *auth, const struct fl_user *user, const char *kind,
                   json_t *review, struct fl_error *err);

/* Whether `user` may write this Role, ClusterRole or binding: nobody grants more than they have.
 * `live` is what it replaces (NULL: nothing); what grants the same as before is always allowed.
 * FORBIDDEN; NOT_FOUND where a binding's role does not exist. */
int fl_auth_check_grant(struct fl_auth *auth, const struct fl_user *user, const char *kind,
                        const json_t *live, const json_t *object, struct fl_error *err);
/* What a binding's roleRef names: "roles" or "clusterroles". */
const char *fl_auth_role_resource(const json_t *binding);

/* RBAC objects changed: what is cached is read anew at the next question. */
void fl_auth_invalidate(struct fl_auth *auth);

#endif
