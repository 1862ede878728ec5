/* Role-based access control: what bindings give to whom. The store's objects are read when first
 * needed after a change. */
#include "controller/apiserver/auth_internal.h"

#include "lib/str.h"

#include <stdlib.h>

#define GROUP ".rbac.authorization.k8s.io"

struct fl_rbac {
    struct fl_store *store;
    bool loaded;
    json_t *cluster_roles; /* name → rules */
    json_t *roles;         /* "namespace/name" → rules */
    json_t *bindings;      /* namespace ("" for the cluster) → array of bindings */
};

struct fl_rbac *fl_rbac_create(struct fl_store *store)
{
    struct fl_rbac *rbac = fl_calloc(1, sizeof(*rbac));

    rbac->store = store;
    return rbac;
}

void fl_rbac_invalidate(struct fl_rbac *rbac)
{
    json_decref(rbac->cluster_roles);
    json_decref(rbac->roles);
    json_decref(rbac->bindings);
    rbac->cluster_roles = rbac->roles = rbac->bindings = NULL;
    rbac->loaded = false;
}

void fl_rbac_destroy(struct fl_rbac *rbac)
{
    if (!rbac)
        return;
    fl_rbac_invalidate(rbac);
    free(rbac);
}

typedef void take_fn(struct fl_rbac *rbac, const struct fl_object *object, const json_t *value);

static void each(struct fl_rbac *rbac, const char *resource, take_fn *take)
{
    struct fl_list list;

    if (fl_store_list(rbac->store, &(struct fl_list_query){.resource = resource}, &list, NULL) < 0)
        return;
    for (size_t i = 0; i < list.count; i++) {
        FL_JSON value = fl_object_parse(list.objects[i]);

        take(rbac, list.objects[i], value);
    }
    fl_list_finish(&list);
}

static json_t *rules_of(const json_t *role)
{
    json_t *rules = json_object_get(role, "rules");

    return json_is_array(rules) ? json_incref(rules) : json_array();
}

static void take_cluster_role(struct fl_rbac *rbac, const struct fl_object *object,
                              const json_t *value)
{
    (void)json_object_set_new(rbac->cluster_roles, object->name, rules_of(value));
}

static void take_role(struct fl_rbac *rbac, const struct fl_object *object, const json_t *value)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%s", object->ns, object->name);

    (void)json_object_set_new(rbac->roles, key, rules_of(value));
}

static void take_binding(struct fl_rbac *rbac, const struct fl_object *object, const json_t *value)
{
    json_t *list = json_object_get(rbac->bindings, object->ns);

    if (!list) {
        list = json_array();
        (void)json_object_set_new(rbac->bindings, object->ns, list);
    }
    (void)json_array_append(list, (json_t *)value);
}

static void load(struct fl_rbac *rbac)
{
    if (rbac->loaded)
        return;
    fl_rbac_invalidate(rbac);
    rbac->cluster_roles = json_object();
    rbac->roles = json_object();
    rbac->bindings = json_object();
    each(rbac, "clusterroles" GROUP, take_cluster_role);
    each(rbac, "roles" GROUP, take_role);
    each(rbac, "clusterrolebindings" GROUP, take_binding);
    each(rbac, "rolebindings" GROUP, take_binding);
    rbac->loaded = true;
}

/* Rules */

static bool list_has(const json_t *list, const char *word)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item)
        if (fl_streq(json_string_value(item), word))
            return true;
    return false;
}

static bool list_allows(const json_t *list, const char *word)
{
    return list_has(list, word) || list_has(list, "*");
}

static bool url_allows(const json_t *list, const char *path)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item) {
        const char *pattern = fl_str_or(json_string_value(item), "");
        size_t len = strlen(pattern);

        if (strcmp(pattern, path) == 0 ||
            (len > 0 && pattern[len - 1] == '*' && strncmp(pattern, path, len - 1) == 0))
            return true;
    }
    return false;
}

static bool resource_allows(const json_t *list, const struct fl_access *access)
{
    char both[512], any[300];

    if (!*access->subresource)
        return list_allows(list, access->resource);
    (void)snprintf(both, sizeof(both), "%s/%s", access->resource, access->subresource);
    (void)snprintf(any, sizeof(any), "*/%s", access->subresource);
    return list_allows(list, both) || list_allows(list, any);
}

static bool rule_allows(const json_t *rule, const struct fl_access *access)
{
    const json_t *names = json_object_get(rule, "resourceNames");

    if (!list_allows(json_object_get(rule, "verbs"), access->verb))
        return false;
    if (!*access->resource)
        return url_allows(json_object_get(rule, "nonResourceURLs"), fl_str_or(access->path, ""));
    return list_allows(json_object_get(rule, "apiGroups"), access->group) &&
           resource_allows(json_object_get(rule, "resources"), access) &&
           (json_array_size(names) == 0 ||
            (*access->name && list_has(names, access->name))); /* '*' is a name too */
}

static bool rules_allow(const json_t *rules, const struct fl_access *access)
{
    json_t *rule;
    size_t i;

    json_array_foreach((json_t *)rules, i, rule)
        if (rule_allows(rule, access))
            return true;
    return false;
}

/* Bindings */

static bool is_subject(const json_t *subject, const struct fl_user *user, const char *binding_ns)
{
    const char *kind = fl_str_or(fl_json_str(subject, "kind"), "");
    const char *name = fl_str_or(fl_json_str(subject, "name"), "");
    const char *ns = fl_json_str(subject, "namespace");
    char account[600];

    if (strcmp(kind, "User") == 0)
        return strcmp(name, user->name) == 0;
    if (strcmp(kind, "Group") == 0)
        return fl_user_in_group(user, name);
    (void)snprintf(account, sizeof(account), "system:serviceaccount:%s:%s",
                   ns && *ns ? ns : binding_ns, name);
    return strcmp(kind, "ServiceAccount") == 0 && strcmp(account, user->name) == 0;
}

static bool binds(const json_t *binding, const struct fl_user *user, const char *ns)
{
    json_t *subject;
    size_t i;

    json_array_foreach(json_object_get(binding, "subjects"), i, subject)
        if (is_subject(subject, user, ns))
            return true;
    return false;
}

/* Borrowed. */
static const json_t *role_rules(const struct fl_rbac *rbac, const json_t *ref, const char *ns)
{
    const char *name = fl_str_or(fl_json_str(ref, "name"), "");
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%s", ns, name);

    if (fl_streq(fl_json_str(ref, "kind"), "ClusterRole"))
        return json_object_get(rbac->cluster_roles, name);
    return *ns ? json_object_get(rbac->roles, key) : NULL;
}

json_t *fl_rbac_role_rules(struct fl_rbac *rbac, const json_t *ref, const char *ns)
{
    load(rbac);
    return json_incref((json_t *)role_rules(rbac, ref, ns));
}

static bool bindings_allow(const struct fl_rbac *rbac, const char *ns,
                           const struct fl_access *access)
{
    json_t *binding;
    size_t i;

    json_array_foreach(json_object_get(rbac->bindings, ns), i, binding)
        if (binds(binding, access->user, ns) &&
            rules_allow(role_rules(rbac, json_object_get(binding, "roleRef"), ns), access))
            return true;
    return false;
}

bool fl_rbac_allows(struct fl_rbac *rbac, const struct fl_access *access)
{
    load(rbac);
    return bindings_allow(rbac, "", access) ||
           (*access->ns && bindings_allow(rbac, access->ns, access));
}

static void add_rules(const struct fl_rbac *rbac, const struct fl_user *user, const char *ns,
                      json_t *rules)
{
    json_t *binding;
    size_t i;

    json_array_foreach(json_object_get(rbac->bindings, ns), i, binding) {
        const json_t *more = role_rules(rbac, json_object_get(binding, "roleRef"), ns);

        if (more && binds(binding, user, ns))
            (void)json_array_extend(rules, (json_t *)more);
    }
}

json_t *fl_rbac_rules(struct fl_rbac *rbac, const struct fl_user *user, const char *ns)
{
    json_t *rules = json_array();

    load(rbac);
    add_rules(rbac, user, "", rules);
    if (*ns)
        add_rules(rbac, user, ns, rules);
    return rules;
}

/* Granting: every single permission of `wanted` must be allowed by a rule that is held. */

static bool one_allowed(const json_t *held, const char *verb, const char *group,
                        const char *resource, const char *name)
{
    const char *slash = strchr(resource, '/');
    char bare[300];
    struct fl_access access = {.verb = verb,
                               .group = group,
                               .resource = resource,
                               .subresource = "",
                               .ns = "",
                               .name = name};

    if (slash && (size_t)(slash - resource) < sizeof(bare)) {
        memcpy(bare, resource, (size_t)(slash - resource));
        bare[slash - resource] = '\0';
        access.resource = bare;
        access.subresource = slash + 1;
    }
    return rules_allow(held, &access);
}

static const char *word_at(const json_t *list, size_t i)
{
    return fl_str_or(json_string_value(json_array_get(list, i)), "");
}

static bool rule_covered(const json_t *held, const json_t *rule)
{
    const json_t *verbs = json_object_get(rule, "verbs"), *urls, *groups, *resources, *names;
    size_t name_count;

    urls = json_object_get(rule, "nonResourceURLs");
    groups = json_object_get(rule, "apiGroups");
    resources = json_object_get(rule, "resources");
    names = json_object_get(rule, "resourceNames");
    name_count = json_array_size(names) ? json_array_size(names) : 1;
    for (size_t v = 0; v < json_array_size(verbs); v++) {
        for (size_t u = 0; u < json_array_size(urls); u++) {
            struct fl_access access = {.verb = word_at(verbs, v),
                                       .resource = "",
                                       .group = "",
                                       .subresource = "",
                                       .ns = "",
                                       .name = "",
                                       .path = word_at(urls, u)};

            if (!rules_allow(held, &access))
                return false;
        }
        for (size_t g = 0; g < json_array_size(groups); g++)
            for (size_t r = 0; r < json_array_size(resources); r++)
                for (size_t n = 0; n < name_count; n++)
                    if (!one_allowed(held, word_at(verbs, v), word_at(groups, g),
                                     word_at(resources, r), word_at(names, n)))
                        return false;
    }
    return true;
}

bool fl_rbac_covers(const json_t *held, const json_t *wanted)
{
    json_t *rule;
    size_t i;

    json_array_foreach((json_t *)wanted, i, rule)
        if (!rule_covered(held, rule))
            return false;
    return true;
}
