/* Inside authentication and authorization. */
#ifndef FL_CONTROLLER_APISERVER_AUTH_INTERNAL_H
#define FL_CONTROLLER_APISERVER_AUTH_INTERNAL_H

#include "controller/apiserver/auth.h"
#include "controller/apiserver/capability.h"
#include "lib/map.h"

/* tokens.c: bearer tokens, of which the file holds only hashes:
 * hex of SHA-256(token),user,uid,"group1,group2" — one a line, '#' begins a comment. */
struct fl_tokens;
struct fl_tokens *fl_tokens_create(const struct fl_env *env, const char *path);
void fl_tokens_destroy(struct fl_tokens *tokens);
/* The user of a token, in the arena; NULL if there is none. The file is read again when it changes.
 */
struct fl_user *fl_tokens_find(struct fl_tokens *tokens, struct fl_arena *arena, const char *token);

/* rbac.c: roles and bindings as they are in the store. */
struct fl_rbac;
struct fl_rbac *fl_rbac_create(struct fl_store *store);
void fl_rbac_destroy(struct fl_rbac *rbac);
void fl_rbac_invalidate(struct fl_rbac *rbac);
bool fl_rbac_allows(struct fl_rbac *rbac, const struct fl_access *access);
/* The rules that hold for a user in a namespace ("" for those of all namespaces), as JSON. New. */
json_t *fl_rbac_rules(struct fl_rbac *rbac, const struct fl_user *user, const char *ns);
/* The rules a roleRef names, seen from a namespace. New; NULL if there is no such role. */
json_t *fl_rbac_role_rules(struct fl_rbac *rbac, const json_t *role_ref, const char *ns);
/* Whether the rules in `held` together allow all that `wanted` allows. */
bool fl_rbac_covers(const json_t *held, const json_t *wanted);

struct fl_auth {
    const struct fl_env *env;
    struct fl_store *store;
    struct fl_tokens *tokens; /* NULL: none */
    struct fl_rbac *rbac;
    unsigned char capability_key[FL_CAPABILITY_KEY_SIZE];
    bool has_capabilities;
};

bool fl_user_in_group(const struct fl_user *user, const char *group);
struct fl_user *fl_user_new(struct fl_arena *arena, const char *name, const char *uid,
                            const char *const *groups, size_t group_count);

#endif
