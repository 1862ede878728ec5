/* api/gen/flops_types.h: a struct for each kind and object, with the schema's words as comments. */
#include "hack/crdgen/crdgen.h"

static void put_enum(const struct model *model, struct fl_buf *buf, const struct member *member)
{
    const json_t *value;
    size_t i;

    fl_buf_printf(buf, "enum %s {\n    %s = 0,\n", member->enum_name,
                  to_constant(model->arena, member->enum_name, "UNSET"));
    json_array_foreach(member->values, i, value)
        fl_buf_printf(buf, "    %s,\n",
                      to_constant(model->arena, member->enum_name, json_string_value(value)));
    fl_buf_puts(buf, "};\n\n");
    if (member->type == FL_F_LIST)
        fl_buf_printf(buf, "struct %s_list {\n    enum %s *items;\n    size_t count;\n};\n\n",
                      member->enum_name, member->enum_name);
}

static void put_list_type(struct fl_buf *buf, const struct member *member)
{
    if (member->element == FL_F_OBJECT)
        fl_buf_printf(buf, "struct %s_list ", member->object->c_name);
    else if (member->element == FL_F_ENUM)
        fl_buf_printf(buf, "struct %s_list ", member->enum_name);
    else if (member->element == FL_F_INT)
        fl_buf_puts(buf, "struct fl_int_list ");
    else
        fl_buf_puts(buf, "struct fl_string_list ");
}

static void put_type(struct fl_buf *buf, const struct member *member)
{
    switch (member->type) {
    case FL_F_INT:
        fl_buf_puts(buf, "int64_t ");
        break;
    case FL_F_BOOL:
        fl_buf_puts(buf, "bool ");
        break;
    case FL_F_ENUM:
        fl_buf_printf(buf, "enum %s ", member->enum_name);
        break;
    case FL_F_OBJECT:
        fl_buf_printf(buf, "struct %s ", member->object->c_name);
        break;
    case FL_F_LIST:
        put_list_type(buf, member);
        break;
    case FL_F_MAP:
        fl_buf_puts(buf, "struct fl_string_map ");
        break;
    case FL_F_JSON:
        fl_buf_puts(buf, "const json_t *");
        break;
    default:
        fl_buf_puts(buf, "const char *");
    }
}

static void put_member(struct fl_buf *buf, const struct member *member)
{
    const char *description = description_of(member->schema);

    if (*description)
        put_comment(buf, 4, description);
    fl_buf_puts(buf, "    ");
    put_type(buf, member);
    fl_buf_printf(buf, "%s;\n", member->c_name);
    /* Behind the value, so that no flag has offset 0. */
    if (member->has_flag)
        fl_buf_printf(buf, "    bool has_%s;\n", member->c_name);
}

static void put_object(const struct model *model, struct fl_buf *buf, const struct object *object)
{
    const char *description = description_of(object->schema);

    for (size_t i = 0; i < object->count; i++)
        if (object->members[i].enum_name)
            put_enum(model, buf, &object->members[i]);
    put_comment(buf, 0,
                fl_arena_printf(model->arena, "%s%s%s%s", object->path,
                                object->is_shared ? " and others" : "", *description ? ": " : "",
                                description));
    fl_buf_printf(buf, "struct %s {\n", object->c_name);
    if (object->is_kind)
        fl_buf_puts(buf, "    struct fl_object_meta meta;\n");
    for (size_t i = 0; i < object->count; i++)
        put_member(buf, &object->members[i]);
    fl_buf_puts(buf, "};\n\n");
    if (object->in_list)
        fl_buf_printf(buf, "struct %s_list {\n    struct %s *items;\n    size_t count;\n};\n\n",
                      object->c_name, object->c_name);
}

static void put_wrappers(struct fl_buf *buf, const struct kind *kind)
{
    const char *name = kind->c_name;

    fl_buf_printf(buf, "extern const struct fl_kind_type %s_type;\n\n", name);
    fl_buf_printf(buf,
                  "static inline int %s_decode(const json_t *object, struct fl_arena *arena,\n"
                  "    struct %s **ret_object, struct fl_error *err)\n"
                  "{\n"
                  "    void *decoded = NULL;\n"
                  "    int r = fl_object_decode(&%s_type, object, arena, &decoded, err);\n\n"
                  "    if (r >= 0)\n"
                  "        *ret_object = (struct %s *)decoded;\n"
                  "    return r;\n"
                  "}\n\n",
                  name, name, name, name);
    fl_buf_printf(buf,
                  "static inline struct %s *%s_new(struct fl_arena *arena)\n"
                  "{\n"
                  "    return (struct %s *)fl_object_new(&%s_type, arena);\n"
                  "}\n\n",
                  name, name, name, name);
    fl_buf_printf(buf,
                  "static inline json_t *%s_encode(const struct %s *object)\n"
                  "{\n"
                  "    return fl_object_encode(&%s_type, object);\n"
                  "}\n\n",
                  name, name, name);
}

void write_types(const struct model *model, struct fl_buf *buf)
{
    fl_buf_puts(buf,
                "/* " GENERATED "\n *\n"
                " * The kinds as C types. api/field.h says how absence is told, and what lives "
                "where. */\n"
                "#ifndef FL_API_GEN_FLOPS_TYPES_H\n#define FL_API_GEN_FLOPS_TYPES_H\n\n"
                "#include \"api/field.h\"\n\n");
    for (size_t i = 0; i < model->object_count; i++)
        put_object(model, buf, model->objects[i]);
    for (size_t i = 0; i < model->kind_count; i++)
        put_wrappers(buf, &model->kinds[i]);
    fl_buf_puts(buf, "/* All of them, ended by NULL; and the one of a name, or NULL. */\n"
                     "extern const struct fl_kind_type *const fl_kind_types[];\n"
                     "const struct fl_kind_type *fl_kind_type_find(const char *kind);\n\n"
                     "#endif\n");
}
