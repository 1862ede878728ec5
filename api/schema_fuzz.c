/* The first byte chooses a schema, the rest is a document. Nothing may crash, and doing it all a
 * second time must change and say nothing new. Input that begins with '{' is a schema itself, and
 * behind a '!' stands a CustomResourceDefinition. */
#include "api/crd.h"
#include "api/schema.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const documents[] = {
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":1,\"default\":2},"
    "\"b\":{\"type\":\"string\",\"pattern\":\"^[a-z]([-a-z0-9]*[a-z0-9])?$\",\"maxLength\":5},"
    "\"c\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\","
    "\"format\":\"date-time\"}},\"d\":{\"type\":\"object\",\"additionalProperties\":"
    "{\"type\":\"number\",\"multipleOf\":0.5,\"nullable\":true}}}}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"x-kubernetes-list-type\":"
    "\"map\",\"x-kubernetes-list-map-keys\":[\"k\"],\"items\":{\"type\":\"object\",\"required\":"
    "[\"k\"],\"properties\":{\"k\":{\"x-kubernetes-int-or-string\":true},\"v\":{\"type\":"
    "\"object\",\"default\":{},\"properties\":{\"w\":{\"type\":\"boolean\",\"default\":true}}}}}},"
    "\"b\":{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true,"
    "\"x-kubernetes-preserve-unknown-fields\":true}}}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"object\",\"properties\":{\"x\":{"
    "\"type\":"
    "\"string\"},\"y\":{\"type\":\"integer\"}},\"oneOf\":[{\"required\":[\"x\"]},{\"required\":"
    "[\"y\"],\"properties\":{\"y\":{\"maximum\":5}}}],\"anyOf\":[{\"maxProperties\":1},{\"not\":"
    "{\"required\":[\"x\",\"y\"]}}]},\"b\":{\"x-kubernetes-preserve-unknown-fields\":true}},"
    "\"x-kubernetes-validations\":[{\"rule\":\"!has(self.a) || !has(self.a.y) || self.a.y > 0\"}]}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"format\":\"duration\"},"
    "\"b\":{\"type\":\"string\",\"format\":\"email\"},\"c\":{\"type\":\"string\",\"format\":"
    "\"uri\"},\"d\":{\"type\":\"string\",\"format\":\"cidr\"},\"e\":{\"type\":\"string\","
    "\"format\":\"hostname\"},\"f\":{\"type\":\"string\",\"format\":\"mac\"},\"g\":{\"type\":"
    "\"string\",\"format\":\"uuid4\"},\"h\":{\"type\":\"string\",\"format\":\"creditcard\"},"
    "\"i\":{\"type\":\"string\",\"format\":\"rgbcolor\"},\"j\":{\"type\":\"string\",\"format\":"
    "\"isbn\"},\"k\":{\"type\":\"string\",\"format\":\"date\"},\"l\":{\"type\":\"string\","
    "\"format\":\"ipv6\"},\"m\":{\"type\":\"string\",\"format\":\"ipv4\"},\"n\":{\"type\":"
    "\"string\",\"format\":\"ssn\"},\"o\":{\"type\":\"string\",\"format\":\"hexcolor\"}}}",
};
#define DOCUMENTS (sizeof(documents) / sizeof(documents[0]))

static struct fl_schema *schemas[DOCUMENTS];

static struct fl_schema *compile(const char *text, size_t len)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);
    struct fl_schema *schema = NULL;
    json_t *document = NULL;

    fl_field_errors_init(errors, arena);
    if (fl_json_parse(text, len, NULL, NULL, NULL, &document, NULL) == 0)
        (void)fl_schema_compile(document, "schema", &schema, errors, NULL);
    json_decref(document);
    fl_arena_destroy(arena);
    return schema;
}

static void drop_schemas(void)
{
    for (size_t i = 0; i < DOCUMENTS; i++)
        fl_schema_unref(schemas[i]);
}

static void compile_schemas(void)
{
    for (size_t i = 0; i < DOCUMENTS; i++) {
        schemas[i] = compile(documents[i], strlen(documents[i]));
        if (!schemas[i])
            abort();
    }
    (void)atexit(drop_schemas);
}

static void must_not_be_called(void *user, const char *path)
{
    (void)user;
    (void)path;
    abort();
}

static void check(const struct fl_schema *schema, json_t *object)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_field_errors *first = fl_new(arena, struct fl_field_errors);
    struct fl_field_errors *second = fl_new(arena, struct fl_field_errors);
    json_t *before;

    fl_field_errors_init(first, arena);
    fl_field_errors_init(second, arena);
    fl_schema_prune(schema, object, NULL, NULL);
    fl_schema_default(schema, object);
    fl_schema_normalize(schema, object);
    fl_schema_validate(schema, object, NULL, first);
    before = json_deep_copy(object);
    fl_schema_prune(schema, object, must_not_be_called, NULL);
    fl_schema_default(schema, object);
    fl_schema_normalize(schema, object);
    fl_schema_validate(schema, object, NULL, second);
    if (!json_equal(before, object) || first->count != second->count)
        abort();
    fl_schema_validate(schema, object, before, second);
    (void)fl_field_errors_text(second);
    json_decref(before);
    fl_arena_destroy(arena);
}

static void check_definition(json_t *crd)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_field_errors *errors = fl_new(arena, struct fl_field_errors);

    fl_field_errors_init(errors, arena);
    fl_crd_prune(crd, NULL, NULL);
    fl_crd_prune(crd, must_not_be_called, NULL);
    fl_crd_default(crd);
    fl_crd_validate(crd, NULL, errors);
    fl_crd_validate(crd, crd, errors);
    (void)fl_field_errors_text(errors);
    fl_crd_set_status(crd, true, NULL, NULL, "now");
    if (!fl_crd_is_established(crd))
        abort();
    fl_arena_destroy(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *object = NULL;

    if (size == 0)
        return 0;
    if (data[0] == '{') {
        fl_schema_unref(compile((const char *)data, size));
        return 0;
    }
    if (!schemas[0])
        compile_schemas();
    if (fl_json_parse((const char *)data + 1, size - 1, NULL, NULL, NULL, &object, NULL) == 0) {
        if (data[0] == '!' && json_is_object(object))
            check_definition(object);
        else
            check(schemas[data[0] % DOCUMENTS], object);
    }
    json_decref(object);
    return 0;
}
