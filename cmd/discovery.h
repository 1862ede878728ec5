/* What kinds a server has, and which one a user means: names, short names, categories. Owned by the
 * arena it was made in. */
#ifndef FL_CMD_DISCOVERY_H
#define FL_CMD_DISCOVERY_H

#include "cmd/client.h"
#include "cmd/options.h"

struct fl_api_resource {
    const char *group, *version; /* "" is the core group */
    const char *plural, *singular, *kind;
    const char *type_name; /* as objects are called: "configmap", "flproject.flops.dev" */
    bool namespaced;
    bool preferred; /* the group's first version that has it */
    bool can_list;
    struct fl_words short_names, categories;
};

/* Resources in the server's order, the core group first. */
struct fl_discovery {
    struct fl_arena *arena;
    struct fl_api_resource *items;
    size_t count, cap;
};

struct fl_discovery *fl_discovery_create(struct fl_arena *arena);
/* An APIGroupDiscoveryList; and an APIResourceList of one group and version. */
void fl_discovery_add_aggregated(struct fl_discovery *discovery, const json_t *list);
void fl_discovery_add_plain(struct fl_discovery *discovery, const json_t *list);

/* Asks the server once; again where `anew`. The result is client->discovery too. */
int fl_discovery_load(struct fl_client *client, bool anew, struct fl_error *err);

/* By plural, singular, kind or short name, in any case; "type.group" and "type.version.group" too.
 * NULL: there is none. */
const struct fl_api_resource *fl_discovery_find(const struct fl_discovery *discovery,
                                                const char *type);
const struct fl_api_resource *fl_discovery_find_kind(const struct fl_discovery *discovery,
                                                     const char *api_version, const char *kind);
/* Items of a list of a built-in kind do not say what they are: sets apiVersion and kind where they
 * are not. */
void fl_discovery_complete(const struct fl_api_resource *resource, json_t *object);
/* The resources of a category that can be listed. */
size_t fl_discovery_category(const struct fl_discovery *discovery, const char *category,
                             const struct fl_api_resource ***ret_resources);

#endif
