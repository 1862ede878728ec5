#include "cmd/discovery.h"

#include "lib/str.h"

#include <ctype.h>
#include <strings.h>

#define RESOURCES_MAX 20000

#define ACCEPT_AGGREGATED                                                                          \
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"                        \
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,"                   \
    "application/json"

struct fl_discovery *fl_discovery_create(struct fl_arena *arena)
{
    struct fl_discovery *discovery = fl_new(arena, struct fl_discovery);

    discovery->arena = arena;
    return discovery;
}

static const char *copy(const struct fl_discovery *discovery, const char *text)
{
    return fl_arena_strdup(discovery->arena, fl_str_or(text, ""));
}

static struct fl_words words_of(const struct fl_discovery *discovery, const json_t *list)
{
    struct fl_words words = {
        .items = fl_new_array(discovery->arena, const char *, json_array_size(list) + 1)};
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item)
        words.items[words.count++] = copy(discovery, json_string_value(item));
    return words;
}

static bool has_verb(const json_t *verbs, const char *verb)
{
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)verbs, i, item) {
        if (fl_streq(json_string_value(item), verb))
            return true;
    }
    return false;
}

static const char *type_name(const struct fl_discovery *discovery, const char *kind,
                             const char *group)
{
    char *name = fl_arena_printf(discovery->arena, "%s%s%s", kind, *group ? "." : "", group);

    for (char *c = name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return name;
}

/* `plain` is an APIResource or an APIResourceDiscovery; they share these names. */
static void add(struct fl_discovery *discovery, const char *group, const char *version,
                const char *plural, const char *singular, const char *kind, bool namespaced,
                const json_t *from)
{
    struct fl_api_resource *resource;

    if (!*plural || !*kind || strchr(plural, '/') || discovery->count == RESOURCES_MAX)
        return;
    if (discovery->count == discovery->cap) {
        size_t cap = discovery->cap ? discovery->cap * 2 : 64;
        struct fl_api_resource *items = fl_new_array(discovery->arena, struct fl_api_resource, cap);

        if (discovery->count)
            memcpy(items, discovery->items, discovery->count * sizeof(*items));
        discovery->items = items;
        discovery->cap = cap;
    }
    resource = &discovery->items[discovery->count];
    *resource = (struct fl_api_resource){
        .group = group,
        .version = version,
        .plural = plural,
        .kind = kind,
        .singular = *singular ? singular : type_name(discovery, kind, ""),
        .type_name = type_name(discovery, kind, group),
        .namespaced = namespaced,
        .preferred = true,
        .can_list = has_verb(json_object_get(from, "verbs"), "list"),
        .short_names = words_of(discovery, json_object_get(from, "shortNames")),
        .categories = words_of(discovery, json_object_get(from, "categories")),
    };
    for (size_t i = 0; i < discovery->count; i++)
        if (fl_streq(discovery->items[i].group, group) &&
            fl_streq(discovery->items[i].plural, plural))
            resource->preferred = false;
    discovery->count++;
}

static void add_version(struct fl_discovery *discovery, const char *group, const json_t *version)
{
    const char *name = copy(discovery, fl_json_str(version, "version"));
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(version, "resources"), i, item) {
        add(discovery, group, name, copy(discovery, fl_json_str(item, "resource")),
            copy(discovery, fl_json_str(item, "singularResource")),
            copy(discovery, fl_json_str(item, "responseKind.kind")),
            fl_streq(fl_json_str(item, "scope"), "Namespaced"), item);
    }
}

void fl_discovery_add_aggregated(struct fl_discovery *discovery, const json_t *list)
{
    json_t *group, *version;
    size_t i, j;

    json_array_foreach(json_object_get(list, "items"), i, group) {
        const char *name = copy(discovery, fl_json_str(group, "metadata.name"));

        json_array_foreach(json_object_get(group, "versions"), j, version)
            add_version(discovery, name, version);
    }
}

void fl_discovery_add_plain(struct fl_discovery *discovery, const json_t *list)
{
    const char *whole = fl_str_or(fl_json_str(list, "groupVersion"), ""),
               *slash = strrchr(whole, '/');
    const char *group =
        fl_arena_strndup(discovery->arena, whole, slash ? (size_t)(slash - whole) : 0);
    const char *version = copy(discovery, slash ? slash + 1 : whole);
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(list, "resources"), i, item) {
        add(discovery, group, version, copy(discovery, fl_json_str(item, "name")),
            copy(discovery, fl_json_str(item, "singularName")),
            copy(discovery, fl_json_str(item, "kind")), fl_json_bool(item, "namespaced", false),
            item);
    }
}

/* Where the server does not aggregate: an APIVersions or APIGroupList, and then each version. */
static int load_plain(struct fl_client *client, const char *target, const json_t *index,
                      struct fl_error *err)
{
    json_t *group, *version;
    size_t i, j;

    json_array_foreach(json_object_get(index, "versions"), j, version) {
        FL_JSON list = NULL;
        int r = fl_client_get(client,
                              fl_arena_printf(client->arena, "%s/%s", target,
                                              fl_str_or(json_string_value(version), "")),
                              NULL, &list, err);

        if (r < 0)
            return r;
        fl_discovery_add_plain(client->discovery, list);
    }
    json_array_foreach(json_object_get(index, "groups"), i, group) {
        json_array_foreach(json_object_get(group, "versions"), j, version) {
            FL_JSON list = NULL;
            int r =
                fl_client_get(client,
                              fl_arena_printf(client->arena, "%s/%s", target,
                                              fl_str_or(fl_json_str(version, "groupVersion"), "")),
                              NULL, &list, err);

            if (r < 0 && r != FL_E_NOT_FOUND && r != FL_E_UNAVAILABLE)
                return r;
            if (list)
                fl_discovery_add_plain(client->discovery, list);
        }
    }
    return 0;
}

int fl_discovery_load(struct fl_client *client, bool anew, struct fl_error *err)
{
    static const char *const roots[] = {"/api", "/apis"};

    if (client->discovery && !anew)
        return 0;
    client->discovery = fl_discovery_create(client->arena);
    for (size_t i = 0; i < FL_COUNT_OF(roots); i++) {
        FL_JSON index = NULL;
        int r = fl_client_get(client, roots[i], ACCEPT_AGGREGATED, &index, err);

        if (r < 0)
            return r == FL_E_UNAVAILABLE
                       ? fl_error_wrap(err, "no answer (is `flops up` running? Asked as %s says)",
                                       client->config.path)
                       : r;
        if (fl_streq(fl_json_str(index, "kind"), "APIGroupDiscoveryList"))
            fl_discovery_add_aggregated(client->discovery, index);
        else
            r = load_plain(client, roots[i], index, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_called(const struct fl_api_resource *resource, const char *name, size_t len)
{
    const char *names[] = {resource->plural, resource->singular, resource->kind};

    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        if (strlen(names[i]) == len && strncasecmp(names[i], name, len) == 0)
            return true;
    return false;
}

static bool is_called_short(const struct fl_api_resource *resource, const char *name, size_t len)
{
    for (size_t i = 0; i < resource->short_names.count; i++)
        if (strlen(resource->short_names.items[i]) == len &&
            strncasecmp(resource->short_names.items[i], name, len) == 0)
            return true;
    return false;
}

/* "" any; "group"; "version.group"; "version" of the core group */
static bool is_in(const struct fl_api_resource *resource, const char *suffix)
{
    size_t len = strlen(resource->version);

    if (!*suffix)
        return resource->preferred;
    if (*resource->group && strcasecmp(suffix, resource->group) == 0)
        return resource->preferred;
    if (strncmp(suffix, resource->version, len) != 0)
        return false;
    return suffix[len] == '.' ? strcasecmp(suffix + len + 1, resource->group) == 0
                              : !suffix[len] && !*resource->group;
}

const struct fl_api_resource *fl_discovery_find(const struct fl_discovery *discovery,
                                                const char *type)
{
    size_t len = strcspn(type, ".");
    const char *suffix = type[len] ? type + len + 1 : "";

    for (int shortly = 0; shortly < 2; shortly++)
        for (size_t i = 0; i < discovery->count; i++) {
            const struct fl_api_resource *resource = &discovery->items[i];

            if (is_in(resource, suffix) &&
                (shortly ? is_called_short(resource, type, len) : is_called(resource, type, len)))
                return resource;
        }
    return NULL;
}

const struct fl_api_resource *fl_discovery_find_kind(const struct fl_discovery *discovery,
                                                     const char *api_version, const char *kind)
{
    for (size_t i = 0; i < discovery->count; i++) {
        const struct fl_api_resource *resource = &discovery->items[i];
        size_t len = strlen(resource->group);
        const char *version = api_version;

        if (len > 0) {
            if (strncmp(api_version, resource->group, len) != 0 || api_version[len] != '/')
                continue;
            version = api_version + len + 1;
        }
        if (fl_streq(version, resource->version) && fl_streq(kind, resource->kind))
            return resource;
    }
    return NULL;
}

void fl_discovery_complete(const struct fl_api_resource *resource, json_t *object)
{
    if (!json_object_get(object, "kind"))
        fl_json_set_str(object, "kind", resource->kind);
    if (!json_object_get(object, "apiVersion"))
        (void)json_object_set_new(object, "apiVersion",
                                  *resource->group
                                      ? json_sprintf("%s/%s", resource->group, resource->version)
                                      : json_string(resource->version));
}

size_t fl_discovery_category(const struct fl_discovery *discovery, const char *category,
                             const struct fl_api_resource ***ret_resources)
{
    const struct fl_api_resource **found =
        fl_new_array(discovery->arena, const struct fl_api_resource *, discovery->count + 1);
    size_t count = 0;

    for (size_t i = 0; i < discovery->count; i++) {
        const struct fl_api_resource *resource = &discovery->items[i];

        for (size_t j = 0; j < resource->categories.count; j++)
            if (resource->preferred && resource->can_list &&
                strcasecmp(resource->categories.items[j], category) == 0) {
                found[count++] = resource;
                break;
            }
    }
    *ret_resources = found;
    return count;
}
