/* An expression, a line "---", and the JSON it runs on: nothing it can be may crash, hang or leak,
 * and the cost limit holds; with types from a schema and without. */
#include "api/cel.h"
#include "api/schema.h"
#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 20000u

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"items\":{\"type\":\"object\","
    "\"properties\":{\"b\":{\"type\":\"integer\"},\"c\":{\"type\":\"string\",\"nullable\":true}}}},"
    "\"d\":{\"type\":\"string\",\"format\":\"date-time\"},\"n\":{\"type\":\"number\"},"
    "\"m\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}},"
    "\"s\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\"}},"
    "\"x\":{\"x-kubernetes-int-or-string\":true}}}";

/* Made once, and kept. */
static const struct fl_schema_node *schema_root(void)
{
    static struct fl_schema *schema;

    if (!schema) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_field_errors errors;
        FL_JSON openapi = NULL;

        fl_field_errors_init(&errors, arena);
        if (fl_json_parse(schema_text, strlen(schema_text), NULL, NULL, NULL, &openapi, NULL) < 0 ||
            fl_schema_compile(openapi, "s", &schema, &errors, NULL) < 0)
            abort();
    }
    return fl_schema_root(schema);
}

static void evaluate(const struct fl_cel *program, const json_t *value,
                     const struct fl_schema_node *node)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_cel_binding bindings[] = {
        {"self", value, node, false},
        {"oldSelf", value, node, true},
    };
    struct fl_cel_result result;
    struct fl_error err = {0};
    uint64_t cost = 0;
    int r = fl_cel_eval(program, bindings, 2, arena, &cost, LIMIT, &result, &err);

    if ((r < 0) != (err.code != 0) || (cost > LIMIT) != (r == FL_E_TOO_LARGE))
        abort();
}

static void run(const char *text, const json_t *value, const struct fl_schema_node *node)
{
    static const char *const names[] = {"self", "oldSelf"};
    const struct fl_schema_node *nodes[] = {node, node};
    const bool optional[] = {false, true};
    struct fl_cel_options options = {
        .variables = names, .variable_count = 2, .nodes = nodes, .optional = optional};
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *program = NULL;

    if (fl_cel_compile(text, &options, &program, NULL) == 0)
        evaluate(program, value, node);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_freep) char *text = fl_strndup((const char *)data, size);
    FL_JSON value = NULL;
    char *json = strstr(text, "\n---\n");

    if (json) {
        *json = '\0';
        json += 5;
        (void)fl_json_parse(json, strlen(json), NULL, NULL, NULL, &value, NULL);
    }
    run(text, value, NULL);
    run(text, value, schema_root());
    return 0;
}
