/* docs/reference.md: what users can write, kind by kind. */
#include "hack/crdgen/crdgen.h"

struct page {
    const struct model *model;
    struct fl_buf *buf;
};

/* Text in a table's cell: one line, and no bar that ends it. */
static void put_cell(struct fl_buf *buf, const char *text)
{
    for (; *text; text++) {
        if (*text == '|' || *text == '<')
            fl_buf_putc(buf, '\\');
        fl_buf_putc(buf, (*text == '\n') ? ' ' : *text);
    }
}

static const char *type_word(enum fl_field_type type)
{
    switch (type) {
    case FL_F_DECIMAL:
        return "decimal";
    case FL_F_DURATION:
        return "duration";
    case FL_F_QUANTITY:
        return "quantity";
    case FL_F_TIME:
        return "time";
    case FL_F_INT:
        return "integer";
    case FL_F_BOOL:
        return "boolean";
    case FL_F_ENUM:
        return "one of";
    case FL_F_OBJECT:
        return "object";
    case FL_F_LIST:
        return "list of";
    case FL_F_MAP:
        return "map of text";
    case FL_F_JSON:
        return "anything";
    default:
        return "text";
    }
}

static void put_enum_values(const struct page *page, const json_t *values)
{
    const json_t *value;
    size_t i;

    json_array_foreach(values, i, value)
        fl_buf_printf(page->buf, "%s`%s`", i ? ", " : " ", json_string_value(value));
}

static void put_member_type(const struct page *page, const struct member *member)
{
    fl_buf_puts(page->buf, type_word(member->type));
    if (member->type == FL_F_LIST)
        fl_buf_printf(page->buf, " %s", type_word(member->element));
    if (member->values)
        put_enum_values(page, member->values);
    if (member->required)
        fl_buf_puts(page->buf, ", required");
}

static const json_t *bound(const struct member *member, const char *a, const char *b, const char *c)
{
    const json_t *value = json_object_get(member->schema, a);

    if (!value)
        value = json_object_get(member->schema, b);
    return value ? value : json_object_get(member->schema, c);
}

/* What 32 bits, or a double, can hold is no limit that tells anything. */
static bool is_width_of_type(int64_t value)
{
    return value == INT32_MAX || value == INT64_C(9007199254740991);
}

/* "1 to 16", "at least 1", "at most 64" of what the type counts. */
static void put_limits(const struct page *page, const struct member *member)
{
    const json_t *min = bound(member, "minimum", "minItems", "minLength");
    const json_t *max = bound(member, "maximum", "maxItems", "maxLength");
    const char *unit = member->type == FL_F_LIST  ? " items"
                       : member->type == FL_F_INT ? ""
                                                  : " characters";

    if (!max)
        max = json_object_get(member->schema, "maxProperties");
    if (is_width_of_type(json_integer_value(max)))
        max = NULL;
    if (member->type == FL_F_MAP || member->type == FL_F_JSON)
        unit = " members";
    if (member->type == FL_F_QUANTITY || member->type == FL_F_DECIMAL ||
        member->type == FL_F_DURATION || (!min && !max))
        return;
    if (min && max)
        fl_buf_printf(page->buf, "%lld to %lld%s", (long long)json_integer_value(min),
                      (long long)json_integer_value(max), unit);
    else
        fl_buf_printf(page->buf, "at %s %lld%s", min ? "least" : "most",
                      (long long)json_integer_value(min ? min : max), unit);
}

static void put_row(const struct page *page, const char *path, const struct member *member)
{
    const json_t *def = json_object_get(member->schema, "default");

    fl_buf_printf(page->buf, "| `%s` | ", path);
    put_member_type(page, member);
    fl_buf_puts(page->buf, " | ");
    if (def && member->type != FL_F_OBJECT) {
        fl_buf_putc(page->buf, '`');
        put_cell(page->buf, plain_value(page->model->arena, def));
        fl_buf_putc(page->buf, '`');
    }
    fl_buf_puts(page->buf, " | ");
    put_limits(page, member);
    fl_buf_puts(page->buf, " | ");
    put_cell(page->buf, description_of(member->schema));
    fl_buf_puts(page->buf, " |\n");
}

static void put_rows(const struct page *page, const char *path, const struct object *object)
{
    for (size_t i = 0; i < object->count; i++) {
        const struct member *member = &object->members[i];
        const char *own = fl_arena_printf(page->model->arena, "%s%s%s", path, *path ? "." : "",
                                          member->json_name);

        put_row(page, own, member);
        if (member->object)
            put_rows(page,
                     member->type == FL_F_LIST ? fl_arena_printf(page->model->arena, "%s[]", own)
                                               : own,
                     member->object);
    }
}

static void put_table(const struct page *page, const char *path, const struct object *object)
{
    fl_buf_puts(page->buf,
                "| field | type | default | limits | meaning |\n|---|---|---|---|---|\n");
    put_rows(page, path, object);
    fl_buf_putc(page->buf, '\n');
}

/* The messages of rules across fields, with the place they hold at. */
static void put_rules(const struct page *page, const char *path, const json_t *schema)
{
    const json_t *rule;
    json_t *member;
    const char *name;
    size_t i;

    json_array_foreach(json_object_get(schema, "x-kubernetes-validations"), i, rule) {
        fl_buf_printf(page->buf, "- `%s%s`: ", path, fl_str_or(fl_json_str(rule, "fieldPath"), ""));
        put_cell(page->buf, fl_str_or(fl_json_str(rule, "message"), fl_json_str(rule, "rule")));
        fl_buf_putc(page->buf, '\n');
    }
    json_object_foreach(json_object_get(schema, "properties"), name, member)
        put_rules(page, fl_arena_printf(page->model->arena, "%s%s%s", path, *path ? "." : "", name),
                  member);
    if (json_object_get(schema, "items"))
        put_rules(page, fl_arena_printf(page->model->arena, "%s[]", path),
                  json_object_get(schema, "items"));
}

static bool has_rules(const json_t *schema)
{
    const char *name;
    json_t *member;

    if (json_object_get(schema, "x-kubernetes-validations"))
        return true;
    json_object_foreach(json_object_get(schema, "properties"), name, member)
        if (has_rules(member))
            return true;
    return json_object_get(schema, "items") && has_rules(json_object_get(schema, "items"));
}

static void put_names(const struct page *page, const struct kind *kind)
{
    const json_t *names = fl_json_path(kind->crd, "spec.names"), *name;
    size_t i;

    fl_buf_printf(page->buf, "`apiVersion: %s/%s`, `kind: %s`. %s, `kubectl get %s`", kind->group,
                  kind->version_name, kind->name, fl_json_str(kind->crd, "spec.scope"),
                  kind->plural);
    json_array_foreach(json_object_get(names, "shortNames"), i, name)
        fl_buf_printf(page->buf, " or `%s`", json_string_value(name));
    fl_buf_puts(page->buf, ".\n\n");
}

static void put_columns(const struct page *page, const struct kind *kind)
{
    const json_t *column;
    size_t i;

    fl_buf_puts(page->buf, "Columns:");
    json_array_foreach(json_object_get(kind->version, "additionalPrinterColumns"), i, column)
        fl_buf_printf(page->buf, "%s %s%s", i ? "," : "", fl_json_str(column, "name"),
                      fl_json_int(column, "priority", 0) ? " (with `-o wide`)" : "");
    fl_buf_puts(page->buf, ".\n\n");
}

/* One table for each part of the spec that has parts itself, one for the rest. */
static void put_section(const struct page *page, const char *kind, const struct member *part)
{
    const struct object *object = part->object;
    struct object plain = *object;

    fl_buf_printf(page->buf, "### %s.%s\n\n%s\n\n", kind, part->json_name,
                  description_of(part->schema));
    plain.members = fl_new_array(page->model->arena, struct member, object->count);
    plain.count = 0;
    for (size_t i = 0; i < object->count; i++) {
        plain.members[plain.count] = object->members[i];
        plain.members[plain.count++].object = NULL;
    }
    put_table(page, "", &plain);
    for (size_t i = 0; i < object->count; i++) {
        const struct member *member = &object->members[i];
        const char *suffix = member->type == FL_F_LIST ? "[]" : "";

        if (!member->object)
            continue;
        fl_buf_printf(page->buf, "#### %s.%s.%s%s\n\n", kind, part->json_name, member->json_name,
                      suffix);
        put_table(page, "", member->object);
    }
}

static void put_kind(const struct page *page, const struct kind *kind)
{
    fl_buf_printf(page->buf, "## %s\n\n%s\n\n", kind->name, description_of(kind->schema));
    put_names(page, kind);
    put_columns(page, kind);
    for (size_t i = 0; i < kind->object->count; i++)
        if (kind->object->members[i].object)
            put_section(page, kind->name, &kind->object->members[i]);
    if (has_rules(kind->schema)) {
        fl_buf_printf(page->buf, "### %s: rules\n\n", kind->name);
        put_rules(page, "", kind->schema);
        fl_buf_putc(page->buf, '\n');
    }
}

void write_reference(const struct model *model, struct fl_buf *buf)
{
    const struct page page = {model, buf};

    fl_buf_puts(buf, "<!-- " GENERATED " -->\n\n# Reference\n\n"
                     "Every kind and every field. Decimals are texts such as `\"0.1\"`, durations "
                     "`30s` or `1h30m`, quantities\n`500m` or `256Mi`. `kubectl explain` shows the "
                     "same.\n\n");
    for (size_t i = 0; i < model->kind_count; i++)
        fl_buf_printf(buf, "- [%s](#%s)\n", model->kinds[i].name,
                      fl_json_str(model->kinds[i].crd, "spec.names.singular"));
    fl_buf_putc(buf, '\n');
    for (size_t i = 0; i < model->kind_count; i++)
        put_kind(&page, &model->kinds[i]);
}
