/* CEL and JSONPath as a filter for the oracle: a JSON request a line in, a JSON answer a line out.
 *
 * {"kind": "cel", "text", "self", "oldSelf"} or {"kind": "jsonpath", "text", "lax", "self"} is
 * answered by {"value": …} or {"failed": "compile"|"eval", "why": …}. */
#include "api/cel.h"
#include "api/jsonpath.h"
#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *failure(const char *stage, const struct fl_error *err)
{
    return json_pack("{s:s, s:s}", "failed", stage, "why", err->msg);
}

static json_t *answer_cel(const json_t *request)
{
    static const char *const names[] = {"self", "oldSelf"};
    const struct fl_cel_options options = {.variables = names, .variable_count = 2};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *program = NULL;
    const struct fl_cel_binding bindings[] = {
        {.name = "self", .value = json_object_get(request, "self")},
        {.name = "oldSelf", .value = json_object_get(request, "oldSelf")},
    };
    struct fl_cel_result result;
    struct fl_error err = {0};
    uint64_t cost = 0;

    if (fl_cel_compile(fl_json_str(request, "text"), &options, &program, &err) < 0)
        return failure("compile", &err);
    if (fl_cel_eval(program, bindings, 2, arena, &cost, 1000000, &result, &err) < 0)
        return failure("eval", &err);
    if (result.type == FL_CEL_BOOL)
        return json_pack("{s:b}", "value", result.boolean);
    return json_pack("{s:s}", "value", result.type == FL_CEL_STRING ? result.string : "other");
}

static json_t *answer_jsonpath(const json_t *request)
{
    const struct fl_jsonpath_options options = {
        .is_template = true, .allow_missing = fl_json_bool(request, "lax", false)};
    FL_CLEANUP(fl_jsonpath_destroyp) struct fl_jsonpath *path = NULL;
    struct fl_error err = {0};
    struct fl_buf out;
    json_t *answer;

    if (fl_jsonpath_compile(fl_json_str(request, "text"), &options, &path, &err) < 0)
        return failure("compile", &err);
    fl_buf_init(&out, 0);
    if (fl_jsonpath_print(path, json_object_get(request, "self"), &out, &err) < 0)
        answer = failure("eval", &err);
    else
        answer = json_pack("{s:s}", "value", fl_buf_text(&out));
    fl_buf_finish(&out);
    return answer;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    while ((len = getline(&line, &cap, stdin)) > 0) {
        FL_JSON request = NULL;
        FL_JSON answer = NULL;
        struct fl_error err = {0};
        struct fl_buf out;

        if (fl_json_parse(line, (size_t)len, NULL, NULL, NULL, &request, &err) < 0) {
            (void)fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
        answer = fl_streq(fl_json_str(request, "kind"), "cel") ? answer_cel(request)
                                                               : answer_jsonpath(request);
        fl_buf_init(&out, 0);
        fl_json_write(&out, answer);
        (void)puts(fl_buf_text(&out));
        (void)fflush(stdout);
        fl_buf_finish(&out);
    }
    free(line);
    return 0;
}
