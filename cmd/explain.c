/* `flops explain`: what a kind's fields mean, from the server's OpenAPI documents. */
#include "cmd/command.h"
#include "cmd/discovery.h"
#include "lib/str.h"

#include <stdio.h>

#define REF_PREFIX "#/components/schemas/"
#define REFS_MAX   16
#define DEPTH_MAX  24
#define WIDTH      80

static const char help[] =
    "Usage: flops explain TYPE[.FIELD…] [options]\n\n"
    "Says what a kind, or a field of it, is for, and which fields it has.\n\n"
    "      --recursive           the whole tree of fields, without their descriptions\n"
    "      --api-version G/V     of this group and version\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops explain flp\n"
    "  flops explain flp.spec.training.participation\n"
    "  flops explain inferenceserver.spec --recursive\n"
    "\nExit status: 0; 1 there is no such type or field; 2 wrong usage.\n";

struct explain {
    struct fl_client_flags flags;
    bool recursive;
    const char *api_version;

    struct fl_arena *arena;
    struct fl_client *client;
    json_t *schemas; /* of the document, by name */
    struct fl_buf out;
};

static void explain_finish(struct explain *explain)
{
    fl_buf_finish(&explain->out);
    fl_arena_destroy(explain->arena);
}

static int parse(struct explain *explain, int argc, char **argv, struct fl_words *words)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(explain->flags),
        {"recursive", 0, FL_OPTION_FLAG, &explain->recursive},
        {"api-version", 0, FL_OPTION_TEXT, &explain->api_version},
    };
    struct fl_options options = {"explain", help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, explain->arena, argc, argv, words);

    if (status >= 0)
        return status;
    return words->count == 1 ? -1 : fl_command_usage("explain", "say what: TYPE[.FIELD…]");
}

/* Schemas. */

static const char *ref_of(const json_t *schema)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));

    if (!ref && json_array_size(json_object_get(schema, "allOf")) == 1)
        ref = json_string_value(
            json_object_get(json_array_get(json_object_get(schema, "allOf"), 0), "$ref"));
    return ref && fl_str_has_prefix(ref, REF_PREFIX) ? ref + strlen(REF_PREFIX) : NULL;
}

/* What a schema refers to, in the end. */
static const json_t *resolve(const struct explain *explain, const json_t *schema)
{
    const char *ref;

    for (int i = 0; i < REFS_MAX && (ref = ref_of(schema)); i++) {
        const json_t *target = json_object_get(explain->schemas, ref);

        if (!target)
            return schema;
        schema = target;
    }
    return schema;
}

/* The schema whose properties a field's value has: of an array its items', of a map its values'. */
static const json_t *inner(const struct explain *explain, const json_t *schema)
{
    schema = resolve(explain, schema);
    for (int i = 0; i < REFS_MAX; i++) {
        const json_t *next = json_object_get(schema, "items");

        if (!next)
            next = json_object_get(schema, "additionalProperties");
        if (!json_is_object(next))
            return schema;
        schema = resolve(explain, next);
    }
    return schema;
}

static const char *type_of(const struct explain *explain, const json_t *schema, unsigned depth)
{
    const char *ref = ref_of(schema), *type, *dot;
    const json_t *items, *values;

    if (depth > DEPTH_MAX)
        return "...";
    if (ref) {
        const char *target = fl_json_str(resolve(explain, schema), "type");

        dot = strrchr(ref, '.');
        if (!target || strcmp(target, "object") == 0)
            return dot ? dot + 1 : ref;
        schema = resolve(explain, schema);
    }
    type = fl_json_str(schema, "type");
    items = json_object_get(schema, "items");
    values = json_object_get(schema, "additionalProperties");
    if (items)
        return fl_arena_printf(explain->arena, "[]%s", type_of(explain, items, depth + 1));
    if (json_is_object(values))
        return fl_arena_printf(explain->arena, "map[string]%s",
                               type_of(explain, values, depth + 1));
    if (json_is_true(json_object_get(schema, "x-kubernetes-int-or-string")))
        return "IntOrString";
    if (!type || strcmp(type, "object") == 0)
        return "Object";
    return type;
}

static bool is_required(const json_t *schema, const char *field)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(schema, "required"), i, item) {
        if (fl_streq(json_string_value(item), field))
            return true;
    }
    return false;
}

static const char *description_of(const struct explain *explain, const json_t *schema)
{
    const char *text = fl_json_str(schema, "description");

    return fl_str_or(text ? text : fl_json_str(resolve(explain, schema), "description"),
                     "<no description>");
}

/* Text. */

static void put_wrapped(struct fl_buf *out, int indent, const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t space = strspn(text, " "), len;

        if (*text == '\n') {
            fl_buf_putc(out, '\n');
            column = 0;
            text++;
            continue;
        }
        text += space;
        len = strcspn(text, " \n");
        if (len == 0)
            continue;
        if (column > 0 && column + 1 + fl_utf8_count(text, len) > WIDTH) {
            fl_buf_putc(out, '\n');
            column = 0;
        }
        if (column == 0) {
            fl_buf_printf(out, "%*s", indent, "");
            column = (size_t)indent;
        } else {
            fl_buf_putc(out, ' ');
            column++;
        }
        fl_buf_append(out, text, len);
        column += fl_utf8_count(text, len);
        text += len;
    }
    fl_buf_putc(out, '\n');
}

static void put_values(struct fl_buf *out, int indent, const json_t *schema)
{
    const json_t *values = json_object_get(schema, "enum");
    const json_t *fallback = json_object_get(schema, "default");
    json_t *value;
    size_t i;

    if (values) {
        fl_buf_printf(out, "%*senum: ", indent, "");
        json_array_foreach((json_t *)values, i, value) {
            if (i)
                fl_buf_puts(out, ", ");
            if (json_is_string(value))
                fl_buf_puts(out, json_string_value(value));
            else
                fl_json_write(out, value);
        }
        fl_buf_putc(out, '\n');
    }
    if (fallback && !json_is_object(fallback)) { /* an object's is made of its fields' */
        fl_buf_printf(out, "%*sdefault: ", indent, "");
        if (json_is_string(fallback))
            fl_buf_puts(out, json_string_value(fallback));
        else
            fl_json_write(out, fallback);
        fl_buf_putc(out, '\n');
    }
}

/* `above` are the schemas we are in: one that contains itself is not entered again. */
static void put_fields(struct explain *explain, const json_t *schema, const json_t **above,
                       unsigned depth)
{
    const json_t *properties = json_object_get(schema, "properties");
    int indent = 2 + 2 * (int)depth;
    const char *name;
    json_t *field;

    above[depth] = schema;
    json_object_foreach((json_t *)properties, name, field) {
        const json_t *next = inner(explain, field);
        bool enter = explain->recursive && depth + 1 < DEPTH_MAX;

        fl_buf_printf(&explain->out, "%*s%s\t<%s>%s\n", indent, "", name,
                      type_of(explain, field, 0), is_required(schema, name) ? " -required-" : "");
        put_values(&explain->out, indent + 4, field);
        for (unsigned i = 0; i <= depth; i++)
            enter = enter && above[i] != next;
        if (enter) {
            put_fields(explain, next, above, depth + 1);
        } else if (!explain->recursive) {
            put_wrapped(&explain->out, indent + 2, description_of(explain, field));
            fl_buf_putc(&explain->out, '\n');
        }
    }
}

static void put_page(struct explain *explain, const struct fl_api_resource *resource,
                     const char *field, const json_t *schema)
{
    const json_t *above[DEPTH_MAX] = {0}, *object = inner(explain, schema);
    struct fl_buf *out = &explain->out;

    if (*resource->group)
        fl_buf_printf(out, "GROUP:      %s\n", resource->group);
    fl_buf_printf(out, "KIND:       %s\nVERSION:    %s\n\n", resource->kind, resource->version);
    if (field) {
        fl_buf_printf(out, "FIELD: %s <%s>\n", field, type_of(explain, schema, 0));
        put_values(out, 4, schema);
        fl_buf_putc(out, '\n');
    }
    fl_buf_puts(out, "DESCRIPTION:\n");
    put_wrapped(out, 4, description_of(explain, schema));
    if (json_object_size(json_object_get(object, "properties")) == 0)
        return;
    fl_buf_puts(out, "\nFIELDS:\n");
    put_fields(explain, object, above, 0);
}

/* The document, and the way into it. */

static int load_schemas(struct explain *explain, const struct fl_api_resource *resource,
                        struct fl_error *err)
{
    const char *group_version =
        *resource->group
            ? fl_arena_printf(explain->arena, "apis/%s/%s", resource->group, resource->version)
            : fl_arena_printf(explain->arena, "api/%s", resource->version);
    FL_JSON index = NULL;
    json_t *document = NULL;
    const char *target;
    int r = fl_client_get(explain->client, "/openapi/v3", NULL, &index, err);

    if (r < 0)
        return r;
    target = json_string_value(json_object_get(
        json_object_get(json_object_get(index, "paths"), group_version), "serverRelativeURL"));
    if (!target || *target != '/')
        return fl_error_set(err, FL_E_NOT_FOUND, "the server describes no fields of %s",
                            resource->kind);
    r = fl_client_get(explain->client, target, NULL, &document, err);
    if (r < 0)
        return r;
    fl_json_in_arena(explain->arena, document);
    explain->schemas = fl_json_path(document, "components.schemas");
    return 0;
}

static const json_t *schema_of(const struct explain *explain,
                               const struct fl_api_resource *resource)
{
    const char *name;
    json_t *schema, *kind;
    size_t i;

    json_object_foreach(explain->schemas, name, schema) {
        json_array_foreach(json_object_get(schema, "x-kubernetes-group-version-kind"), i, kind) {
            if (fl_streq(fl_json_str(kind, "group"), resource->group) &&
                fl_streq(fl_json_str(kind, "version"), resource->version) &&
                fl_streq(fl_json_str(kind, "kind"), resource->kind))
                return schema;
        }
    }
    return NULL;
}

static int descend(const struct explain *explain, const char *path, const char **ret_field,
                   const json_t **schema, struct fl_error *err)
{
    while (path && *path) {
        const char *name = fl_str_next(explain->arena, &path, '.');
        const json_t *object = inner(explain, *schema), *next;

        next = json_object_get(json_object_get(object, "properties"), name);
        if (!next)
            return fl_error_set(err, FL_E_NOT_FOUND, "there is no field \"%s\" in %s", name,
                                *ret_field ? *ret_field : "the object");
        *schema = next;
        *ret_field = name;
    }
    return 0;
}

/* "type.field.path"; a type with its group ("leases.coordination.k8s.io.spec") has the longest
 * beginning that is a type. */
static const struct fl_api_resource *find(const struct explain *explain, const char *text,
                                          const char **ret_path)
{
    const struct fl_discovery *discovery = explain->client->discovery;

    for (size_t len = strlen(text); len > 0; len--) {
        const struct fl_api_resource *resource;

        if (text[len] && text[len] != '.')
            continue;
        resource = fl_discovery_find(discovery, fl_arena_strndup(explain->arena, text, len));
        if (resource) {
            *ret_path = text[len] ? text + len + 1 : NULL;
            return resource;
        }
    }
    return NULL;
}

static int show(struct explain *explain, const char *text, struct fl_error *err)
{
    const char *path = NULL, *field = NULL;
    const struct fl_api_resource *resource = find(explain, text, &path);
    const json_t *schema;
    int r;

    if (resource && explain->api_version)
        resource = fl_discovery_find_kind(explain->client->discovery, explain->api_version,
                                          resource->kind);
    if (!resource)
        return fl_error_set(err, FL_E_NOT_FOUND, "the server has no type \"%.*s\"%s%s",
                            (int)strcspn(text, "."), text, explain->api_version ? " in " : "",
                            fl_str_or(explain->api_version, ""));
    r = load_schemas(explain, resource, err);
    if (r < 0)
        return r;
    schema = schema_of(explain, resource);
    if (!schema)
        return fl_error_set(err, FL_E_NOT_FOUND, "the server describes no fields of %s",
                            resource->kind);
    r = descend(explain, path, &field, &schema, err);
    if (r < 0)
        return r;
    put_page(explain, resource, field, schema);
    (void)fwrite(fl_buf_text(&explain->out), 1, explain->out.len, stdout);
    return 0;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(explain_finish) struct explain explain = {.arena = fl_arena_create()};
    struct fl_words words = {0};
    struct fl_error err = {0};
    int status = parse(&explain, argc, argv, &words);

    if (status >= 0)
        return status;
    if (fl_client_open("explain", &explain.flags, explain.arena, &explain.client, &err) < 0)
        return fl_command_fail("explain", &err);
    if (fl_discovery_load(explain.client, false, &err) < 0 ||
        show(&explain, words.items[0], &err) < 0)
        return fl_client_report(explain.client, NULL, &err);
    return 0;
}

const struct fl_command fl_command_explain = {"explain", "say what fields mean", run};
