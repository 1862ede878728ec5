#include "hack/crdgen/crdgen.h"

#include "lib/str.h"
#include "lib/yaml.h"

#include <stdio.h>
#include <stdlib.h>

/* Objects that several kinds have under several names: one C type, so that a reconciler can hand
 * one on by assignment. A schema belongs to an entry if it has exactly these properties and agrees
 * with the first that did; otherwise it gets a type of its own. */
static const struct {
    const char *c_name;
    const char *properties; /* sorted */
    const char *suffix;     /* of the field's name, or NULL */
} shared_types[] = {
    {"fl_condition", "lastTransitionTime,message,observedGeneration,reason,status,type", NULL},
    {"fl_secret_ref", "name", "Secret"},
    {"fl_secret_key_ref", "key,name,optional", NULL},
    {"fl_env_source", "secretKeyRef", NULL},
    {"fl_env_var", "name,value,valueFrom", NULL},
    {"fl_resources", "cpu,gpus,memory,pids,storage", NULL},
    {"fl_capacity", "cpu,gpus,memory,storage", NULL},
    {"fl_node_counts", "ready,summary,total", NULL},
    {"fl_model", "digest,round,size,uri,version", NULL},
    {"fl_round_metrics", "round,values", NULL},
    {"fl_git_ref", "branch,commit,tag", NULL},
    {"fl_git_verify", "allowedSigners", NULL},
    {"fl_registry_ref", "credentialsSecret,insecure,url", NULL},
    {"fl_rollout_metric", "direction,name,tolerance", NULL},
    {"fl_rollout",
     "interval,maxErrorRate,maxLatency,maxUnavailable,metric,minRequests,progressDeadline,steps,"
     "strategy",
     NULL},
    {"fl_autoscale", "maxReplicas,metric,minReplicas,scaleDownDelay,target,window", NULL},
    {"fl_batching", "maxDelay,maxSize", NULL},
    {"fl_serve_limits", "maxConcurrency,maxRequestSize,timeout", NULL},
    {"fl_probe_exec", "command", "exec"},
    {"fl_probe_http", "path,port,scheme", NULL},
    {"fl_probe_tcp", "port", "tcp"},
    {"fl_probe", "exec,failureThreshold,http,initialDelay,period,successThreshold,tcp,timeout",
     NULL},
};

const char *description_of(const json_t *schema)
{
    const char *text = json_string_value(json_object_get(schema, "description"));

    return text ? text : "";
}

static const char *type_of(const json_t *schema)
{
    return fl_str_or(json_string_value(json_object_get(schema, "type")), "");
}

static bool has_property(const json_t *schema, const char *key)
{
    return json_object_get(schema, key) != NULL;
}

/* The schema without what does not reach the C side. */
static json_t *essence(const json_t *schema)
{
    static const char *const dropped[] = {"description",
                                          "pattern",
                                          "x-kubernetes-validations",
                                          "x-kubernetes-map-type",
                                          "x-kubernetes-list-type",
                                          "x-kubernetes-list-map-keys"};
    json_t *copy = json_copy((json_t *)schema), *properties = json_object(), *member;
    const char *key;

    for (size_t i = 0; i < FL_COUNT_OF(dropped); i++)
        (void)json_object_del(copy, dropped[i]);
    json_object_foreach(json_object_get(schema, "properties"), key, member)
        json_object_set_new(properties, key, essence(member));
    if (json_object_size(properties))
        json_object_set(copy, "properties", properties);
    json_decref(properties);
    if (has_property(schema, "items"))
        json_object_set_new(copy, "items", essence(json_object_get(schema, "items")));
    return copy;
}

/* An object's own default belongs to the field, not to its struct. */
static const char *signature_of(struct fl_arena *arena, const json_t *schema)
{
    FL_JSON copy = essence(schema);

    (void)json_object_del(copy, "default");
    return fl_json_to_string(arena, copy);
}

static bool has_exactly(const json_t *schema, const char *properties)
{
    const json_t *have = json_object_get(schema, "properties");
    size_t count = 0;

    while (*properties) {
        size_t len = strcspn(properties, ",");

        if (!json_object_getn(have, properties, len))
            return false;
        properties += len + (properties[len] == ',');
        count++;
    }
    return count == json_object_size(have);
}

static const char *shared_name(const json_t *schema, const char *field)
{
    for (size_t i = 0; i < FL_COUNT_OF(shared_types); i++)
        if (has_exactly(schema, shared_types[i].properties) &&
            (!shared_types[i].suffix || fl_str_has_suffix(field, shared_types[i].suffix)))
            return shared_types[i].c_name;
    return NULL;
}

static struct object *find_object(const struct model *model, const char *c_name)
{
    for (size_t i = 0; i < model->object_count; i++)
        if (strcmp(model->objects[i]->c_name, c_name) == 0)
            return model->objects[i];
    return NULL;
}

static struct object *build_object(struct model *model, const json_t *schema, const char *c_name,
                                   const char *prefix, const char *path, bool is_kind);

static struct object *nested_object(struct model *model, const struct object *parent,
                                    const char *field, const char *c_field, const json_t *schema)
{
    const char *path = fl_arena_printf(model->arena, "%s.%s", parent->path, field);
    const char *shared = shared_name(schema, field);
    const char *own = fl_arena_printf(model->arena, "%s_%s", parent->prefix, c_field);
    struct object *known = shared ? find_object(model, shared) : NULL;

    if (known && strcmp(known->signature, signature_of(model->arena, schema)) == 0) {
        known->is_shared = true;
        return known;
    }
    if (shared && !known)
        return build_object(model, schema, shared, shared, path, false);
    if (parent->is_kind) /* spec and status: what is in the spec does not repeat the word */
        return build_object(model, schema, own, strcmp(field, "spec") ? own : parent->prefix, path,
                            false);
    return build_object(model, schema, own, own, path, false);
}

/* Which text a string holds shows in its pattern. */
static enum fl_field_type string_type(const json_t *schema)
{
    const char *pattern = fl_str_or(json_string_value(json_object_get(schema, "pattern")), "");

    if (has_property(schema, "enum"))
        return FL_F_ENUM;
    if (fl_streq(json_string_value(json_object_get(schema, "format")), "date-time"))
        return FL_F_TIME;
    if (strstr(pattern, "(ms|s|m|h)"))
        return FL_F_DURATION;
    if (fl_str_has_prefix(pattern, "^(0|[1-9]") || fl_str_has_prefix(pattern, "^-?(0|[1-9]"))
        return FL_F_DECIMAL;
    return FL_F_STRING;
}

static enum fl_field_type object_type(const json_t *schema)
{
    if (has_property(schema, "properties"))
        return FL_F_OBJECT;
    if (strcmp(type_of(json_object_get(schema, "additionalProperties")), "string") == 0)
        return FL_F_MAP;
    return FL_F_JSON;
}

static enum fl_field_type field_type(const json_t *schema, const char *path)
{
    const char *type = type_of(schema);

    if (json_is_true(json_object_get(schema, "x-kubernetes-int-or-string")))
        return FL_F_QUANTITY;
    if (strcmp(type, "string") == 0)
        return string_type(schema);
    if (strcmp(type, "integer") == 0)
        return FL_F_INT;
    if (strcmp(type, "boolean") == 0)
        return FL_F_BOOL;
    if (strcmp(type, "object") == 0)
        return object_type(schema);
    if (strcmp(type, "array") == 0)
        return FL_F_LIST;
    if (json_is_true(json_object_get(schema, "x-kubernetes-preserve-unknown-fields")))
        return FL_F_JSON;
    die("%s: no C type for \"%s\"", path, type);
}

static void check_element(const struct member *member, const char *path)
{
    switch (member->element) {
    case FL_F_BOOL:
    case FL_F_LIST:
    case FL_F_MAP:
    case FL_F_JSON:
        die("%s.%s: no list of this type", path, member->json_name);
    default:
        break;
    }
}

static bool is_required(const json_t *schema, const char *field)
{
    const json_t *name;
    size_t i;

    json_array_foreach(json_object_get(schema, "required"), i, name)
        if (fl_streq(json_string_value(name), field))
            return true;
    return false;
}

static bool needs_flag(const struct member *member)
{
    return (member->type == FL_F_INT || member->type == FL_F_BOOL || member->type == FL_F_OBJECT) &&
           !member->required && !has_property(member->schema, "default");
}

static void build_member(struct model *model, struct object *object, struct member *member)
{
    const char *path = fl_arena_printf(model->arena, "%s.%s", object->path, member->json_name);
    const json_t *schema = member->schema;
    const char *c_name = to_snake(model->arena, member->json_name);
    enum fl_field_type type = member->type = field_type(schema, path);

    member->c_name = c_name;
    member->required = is_required(object->schema, member->json_name);
    member->has_flag = needs_flag(member);
    if (type == FL_F_LIST) {
        schema = json_object_get(schema, "items");
        c_name = to_singular(model->arena, c_name);
        type = member->element = field_type(schema, path);
        check_element(member, object->path);
    }
    if (type == FL_F_ENUM) {
        member->values = json_object_get(schema, "enum");
        member->enum_name = fl_arena_printf(model->arena, "%s_%s", object->prefix, c_name);
    } else if (type == FL_F_OBJECT) {
        member->object = nested_object(model, object, member->json_name, c_name, schema);
        member->object->in_list |= member->type == FL_F_LIST;
    }
}

static bool is_of_every_kind(const char *name)
{
    return strcmp(name, "apiVersion") == 0 || strcmp(name, "kind") == 0 ||
           strcmp(name, "metadata") == 0;
}

static struct object *build_object(struct model *model, const json_t *schema, const char *c_name,
                                   const char *prefix, const char *path, bool is_kind)
{
    struct object *object = fl_new(model->arena, struct object);
    json_t *properties = json_object_get(schema, "properties"), *member;
    const char *name;

    *object = (struct object){.c_name = c_name,
                              .prefix = prefix,
                              .path = path,
                              .schema = schema,
                              .is_kind = is_kind,
                              .signature = signature_of(model->arena, schema)};
    object->members = fl_new_array(model->arena, struct member, json_object_size(properties));
    json_object_foreach(properties, name, member) {
        if (is_kind && is_of_every_kind(name))
            continue;
        object->members[object->count] = (struct member){.json_name = name, .schema = member};
        build_member(model, object, &object->members[object->count++]);
    }
    if (find_object(model, c_name))
        die("%s: two structs would be called %s", path, c_name);
    if (model->object_count == OBJECTS_MAX)
        die("more than %d objects", OBJECTS_MAX);
    model->objects[model->object_count++] = object;
    return object;
}

static json_t *read_yaml(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct fl_error err;
    struct fl_buf text;
    json_t *value;
    char chunk[8192];
    size_t n;

    if (!file)
        die("%s: cannot open", path);
    fl_buf_init(&text, (size_t)16 * 1024 * 1024);
    while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
        fl_buf_append(&text, chunk, n);
    (void)fclose(file);
    if (text.overflow || fl_yaml_parse(fl_buf_text(&text), text.len, NULL, &value, &err) < 0)
        die("%s: %s", path, text.overflow ? "too long" : err.msg);
    fl_buf_finish(&text);
    return value;
}

static const char *must_str(const struct kind *kind, const json_t *value, const char *path)
{
    const char *text = fl_json_str(value, path);

    if (!text)
        die("%s: %s is missing", kind->file, path);
    return text;
}

void model_add_file(struct model *model, const char *path)
{
    struct kind *kind = &model->kinds[model->kind_count];

    if (model->kind_count++ == KINDS_MAX)
        die("more than %d kinds", KINDS_MAX);
    kind->file = path;
    kind->crd = fl_json_in_arena(model->arena, read_yaml(path));
    kind->version = json_array_get(fl_json_path(kind->crd, "spec.versions"), 0);
    kind->schema = fl_json_path(kind->version, "schema.openAPIV3Schema");
    kind->group = must_str(kind, kind->crd, "spec.group");
    kind->name = must_str(kind, kind->crd, "spec.names.kind");
    kind->plural = must_str(kind, kind->crd, "spec.names.plural");
    kind->version_name = must_str(kind, kind->version, "name");
    kind->c_name = kind_to_c(model->arena, kind->name);
    kind->object = build_object(model, kind->schema, kind->c_name, kind->c_name, kind->name, true);
}
