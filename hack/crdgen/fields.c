/* api/gen/flops_fields.c: the descriptor tables. */
#include "hack/crdgen/crdgen.h"

static const char *const type_names[] = {
    [FL_F_STRING] = "STRING",     [FL_F_DECIMAL] = "DECIMAL", [FL_F_DURATION] = "DURATION",
    [FL_F_QUANTITY] = "QUANTITY", [FL_F_TIME] = "TIME",       [FL_F_INT] = "INT",
    [FL_F_BOOL] = "BOOL",         [FL_F_ENUM] = "ENUM",       [FL_F_OBJECT] = "OBJECT",
    [FL_F_LIST] = "LIST",         [FL_F_MAP] = "MAP",         [FL_F_JSON] = "JSON",
};

static void put_values(struct fl_buf *buf, const struct member *member)
{
    const json_t *value;
    size_t i;

    fl_buf_printf(buf, "static const char *const %s_values[] = {\n", without_fl(member->enum_name));
    json_array_foreach(member->values, i, value) {
        fl_buf_puts(buf, "    ");
        put_c_string(buf, json_string_value(value), json_string_length(value));
        fl_buf_puts(buf, ",\n");
    }
    fl_buf_puts(buf, "    NULL,\n};\n\n");
}

static void put_bound(struct fl_buf *buf, const struct member *member, const char *field,
                      const char *keyword)
{
    const json_t *value = json_object_get(member->schema, keyword);

    if (json_integer_value(value))
        fl_buf_printf(buf, ", .%s = %lld", field, (long long)json_integer_value(value));
}

static void put_bounds(struct fl_buf *buf, const struct member *member)
{
    switch (member->type) {
    case FL_F_INT:
        if (!json_object_get(member->schema, "minimum"))
            fl_buf_puts(buf, ", .min = INT64_MIN");
        put_bound(buf, member, "min", "minimum");
        put_bound(buf, member, "max", "maximum");
        break;
    case FL_F_LIST:
        put_bound(buf, member, "min", "minItems");
        put_bound(buf, member, "max", "maxItems");
        break;
    case FL_F_MAP:
        put_bound(buf, member, "min", "minProperties");
        put_bound(buf, member, "max", "maxProperties");
        break;
    default:
        put_bound(buf, member, "min", "minLength");
        put_bound(buf, member, "max", "maxLength");
    }
}

static void put_default(const struct model *model, struct fl_buf *buf, const struct member *member)
{
    const json_t *value = json_object_get(member->schema, "default");
    const char *text;

    if (!value)
        return;
    text = plain_value(model->arena, value);
    fl_buf_puts(buf, ", .def = ");
    put_c_string(buf, text, strlen(text));
}

/* What repeats in each row. */
static const char macros[] =
    "#define AT(type, member) .offset = offsetof(struct type, member)\n"
    "#define FLAG(type, member) .has_offset = offsetof(struct type, member)\n"
    "#define OF(name) .fields = name##_fields, .size = sizeof(struct fl_##name)\n\n";

static void put_field(const struct model *model, struct fl_buf *buf, const struct object *object,
                      const struct member *member)
{
    fl_buf_printf(buf, "    {\"%s\", FL_F_%s, AT(%s, %s)", member->json_name,
                  type_names[member->type], object->c_name, member->c_name);
    if (member->has_flag)
        fl_buf_printf(buf, ", FLAG(%s, has_%s)", object->c_name, member->c_name);
    if (member->required)
        fl_buf_puts(buf, ", .required = true");
    put_bounds(buf, member);
    put_default(model, buf, member);
    if (member->type == FL_F_LIST)
        fl_buf_printf(buf, ", .element = FL_F_%s", type_names[member->element]);
    if (member->enum_name)
        fl_buf_printf(buf, ", .values = %s_values", without_fl(member->enum_name));
    if (member->object)
        fl_buf_printf(buf, ", OF(%s)", without_fl(member->object->c_name));
    fl_buf_puts(buf, "},\n");
}

static void put_table(const struct model *model, struct fl_buf *buf, const struct object *object)
{
    for (size_t i = 0; i < object->count; i++)
        if (object->members[i].enum_name)
            put_values(buf, &object->members[i]);
    fl_buf_printf(buf, "static const struct fl_field %s_fields[] = {\n",
                  without_fl(object->c_name));
    for (size_t i = 0; i < object->count; i++)
        put_field(model, buf, object, &object->members[i]);
    fl_buf_puts(buf, "    {.name = NULL},\n};\n\n");
}

static void put_kind(struct fl_buf *buf, const struct kind *kind)
{
    const json_t *names = fl_json_path(kind->crd, "spec.names"), *name;
    const char *c_name = kind->c_name;
    size_t i;

    fl_buf_printf(buf, "static const char *const %s_short_names[] = {", without_fl(c_name));
    json_array_foreach(json_object_get(names, "shortNames"), i, name)
        fl_buf_printf(buf, "\"%s\", ", json_string_value(name));
    fl_buf_puts(buf, "NULL};\n\n");
    fl_buf_printf(buf, "const struct fl_kind_type %s_type = {\n", c_name);
    fl_buf_printf(buf, "    .group = \"%s\",\n    .version = \"%s\",\n    .kind = \"%s\",\n",
                  kind->group, kind->version_name, kind->name);
    fl_buf_printf(buf, "    .list_kind = \"%s\",\n    .plural = \"%s\",\n    .singular = \"%s\",\n",
                  fl_json_str(names, "listKind"), kind->plural, fl_json_str(names, "singular"));
    fl_buf_printf(
        buf, "    .short_names = %s_short_names,\n    .namespaced = %s,\n", without_fl(c_name),
        strcmp(fl_json_str(kind->crd, "spec.scope"), "Namespaced") == 0 ? "true" : "false");
    fl_buf_printf(buf, "    .fields = %s_fields,\n    .size = sizeof(struct %s),\n};\n\n",
                  without_fl(c_name), c_name);
}

void write_fields(const struct model *model, struct fl_buf *buf)
{
    fl_buf_puts(buf, "/* " GENERATED " */\n#include \"api/gen/flops_types.h\"\n\n"
                     "#include <string.h>\n\n");
    fl_buf_puts(buf, macros);
    for (size_t i = 0; i < model->object_count; i++)
        put_table(model, buf, model->objects[i]);
    for (size_t i = 0; i < model->kind_count; i++)
        put_kind(buf, &model->kinds[i]);
    fl_buf_puts(buf, "const struct fl_kind_type *const fl_kind_types[] = {\n");
    for (size_t i = 0; i < model->kind_count; i++)
        fl_buf_printf(buf, "    &%s_type,\n", model->kinds[i].c_name);
    fl_buf_puts(buf, "    NULL,\n};\n\n"
                     "const struct fl_kind_type *fl_kind_type_find(const char *kind)\n{\n"
                     "    for (size_t i = 0; fl_kind_types[i]; i++)\n"
                     "        if (strcmp(fl_kind_types[i]->kind, kind) == 0)\n"
                     "            return fl_kind_types[i];\n"
                     "    return NULL;\n}\n");
}
