#include "cmd/target.h"

#include "lib/str.h"

#define TARGETS_MAX 10000

static int add(const struct fl_discovery *discovery, struct fl_targets *targets,
               const struct fl_api_resource *resource, const char *name, struct fl_error *err)
{
    if (targets->count == TARGETS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d objects named", TARGETS_MAX);
    if (name && (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is no name of an object", name);
    if ((targets->count & (targets->count - 1)) == 0) { /* 0, 1, 2, 4, …: full */
        struct fl_target *items = fl_new_array(discovery->arena, struct fl_target,
                                               targets->count ? targets->count * 2 : 1);

        if (targets->count)
            memcpy(items, targets->items, targets->count * sizeof(*items));
        targets->items = items;
    }
    if (targets->count && targets->items[0].resource != resource)
        targets->many_types = true;
    targets->items[targets->count++] = (struct fl_target){.resource = resource, .name = name};
    return 0;
}

static int unknown_type(const char *type, struct fl_error *err)
{
    return fl_error_set(err, FL_E_NOT_FOUND, "the server has no type \"%s\"", type);
}

/* One type, or a category of them, with each of the names. */
static int add_type(const struct fl_discovery *discovery, struct fl_targets *targets,
                    const char *type, const char *const *names, size_t count, struct fl_error *err)
{
    const struct fl_api_resource *one = fl_discovery_find(discovery, type), **resources = &one;
    size_t resource_count = 1;
    int r = 0;

    if (!one) {
        resource_count = fl_discovery_category(discovery, type, &resources);
        if (resource_count == 0)
            return unknown_type(type, err);
        targets->many_types = true;
        if (count > 0)
            return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is several types: it takes no names",
                                type);
    }
    for (size_t i = 0; r == 0 && i < resource_count; i++) {
        if (count == 0)
            r = add(discovery, targets, resources[i], NULL, err);
        for (size_t j = 0; r == 0 && j < count; j++)
            r = add(discovery, targets, resources[i], names[j], err);
    }
    return r;
}

static int parse_pair(const struct fl_discovery *discovery, struct fl_targets *targets,
                      const char *text, struct fl_error *err)
{
    const char *slash = strchr(text, '/');
    const struct fl_api_resource *resource;
    const char *type;

    if (!slash)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "\"%s\" is no TYPE/NAME; give all arguments in this form or none",
                            text);
    type = fl_arena_strndup(discovery->arena, text, (size_t)(slash - text));
    resource = fl_discovery_find(discovery, type);
    if (!resource)
        return unknown_type(type, err);
    return add(discovery, targets, resource, slash + 1, err);
}

int fl_targets_parse(const struct fl_discovery *discovery, const struct fl_words *words,
                     struct fl_targets *ret_targets, struct fl_error *err)
{
    struct fl_targets targets = {0};
    const char *types;
    int r = 0;

    if (words->count == 0)
        return fl_error_set(err, FL_E_BAD_REQUEST, "say what: TYPE [NAME…] or TYPE/NAME…");
    types = words->items[0];
    if (strchr(types, '/')) {
        for (size_t i = 0; r == 0 && i < words->count; i++)
            r = parse_pair(discovery, &targets, words->items[i], err);
    } else {
        while (r == 0 && types)
            r = add_type(discovery, &targets, fl_str_next(discovery->arena, &types, ','),
                         words->items + 1, words->count - 1, err);
    }
    if (r == 0)
        *ret_targets = targets;
    return r;
}

char *fl_target_text(struct fl_arena *arena, const struct fl_api_resource *resource,
                     const char *name)
{
    return fl_arena_printf(arena, "%s/%s", resource->type_name, name);
}
