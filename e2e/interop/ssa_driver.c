/* Field ownership as a filter for the oracle: a JSON request a line in, a JSON answer a line out.
 *
 * {"schema": OPENAPI} sets the schema for what follows; otherwise {"op": "update"|"apply",
 * "manager", "subresource", "time", "hasStatus", "force", "live", "object"} is answered by
 * {"object": …} or {"code": …, "message": …}. */
#include "api/managed_fields.h"
#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *answer(const struct fl_schema *schema, const json_t *request)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_managed_write write = {
        .schema = schema,
        .manager = fl_json_str(request, "manager"),
        .api_version = fl_json_str(request, "object.apiVersion"),
        .subresource = fl_str_or(fl_json_str(request, "subresource"), ""),
        .time = fl_json_str(request, "time"),
        .has_status = fl_json_bool(request, "hasStatus", false),
    };
    const json_t *live = json_object_get(request, "live");
    FL_JSON object = json_deep_copy(json_object_get(request, "object"));
    struct fl_error err = {0};
    int r;

    if (json_is_null(live))
        live = NULL;
    if (fl_streq(fl_json_str(request, "op"), "apply")) {
        struct fl_managed_conflict *conflicts;
        size_t count;
        json_t *applied = NULL;

        r = fl_managed_apply(&write, live, object, fl_json_bool(request, "force", false), arena,
                             &applied, &conflicts, &count, &err);
        json_decref(object);
        object = applied;
    } else {
        r = fl_managed_update(&write, live, object, &err);
    }
    if (r < 0)
        return json_pack("{siss}", "code", fl_error_http_status(err.code), "message", err.msg);
    return json_pack("{sO}", "object", object);
}

static struct fl_schema *compile(const json_t *openapi)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_schema *schema = NULL;
    struct fl_field_errors errors;
    struct fl_error err = {0};

    if (json_is_null(openapi))
        return NULL;
    fl_field_errors_init(&errors, arena);
    if (fl_schema_compile(openapi, "schema", &schema, &errors, &err) < 0) {
        (void)fprintf(stderr, "%s\n%s\n", err.msg, fl_field_errors_text(&errors));
        exit(1);
    }
    return schema;
}

int main(void)
{
    FL_CLEANUP(fl_freep) char *line = NULL;
    struct fl_schema *schema = NULL;
    size_t capacity = 0;
    ssize_t len;

    while ((len = getline(&line, &capacity, stdin)) > 0) {
        struct fl_error err = {0};
        FL_JSON request = NULL;
        FL_JSON reply = NULL;
        const json_t *openapi;

        if (fl_json_parse(line, (size_t)len, NULL, NULL, NULL, &request, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        openapi = json_object_get(request, "schema");
        if (openapi) {
            fl_schema_unref(schema);
            schema = compile(openapi);
            continue;
        }
        reply = answer(schema, request);
        (void)json_dumpf(reply, stdout, JSON_COMPACT);
        (void)fputc('\n', stdout);
        (void)fflush(stdout);
    }
    fl_schema_unref(schema);
    return 0;
}
