/* An expression, a NUL (or newline-only line "---"), and the JSON it runs on: nothing it can be may
 * crash, hang or leak, and the cost limit holds. */
#include "api/cel.h"
#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 20000u

static void evaluate(const struct fl_cel *program, const json_t *value)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_cel_binding bindings[] = {
        {"self", value, NULL, false},
        {"oldSelf", value, NULL, true},
    };
    struct fl_cel_result result;
    struct fl_error err = {0};
    uint64_t cost = 0;
    int r = fl_cel_eval(program, bindings, 2, arena, &cost, LIMIT, &result, &err);

    if ((r < 0) != (err.code != 0) || (cost > LIMIT) != (r == FL_E_TOO_LARGE))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"self", "oldSelf"};
    struct fl_cel_options options = {.variables = names, .variable_count = 2};
    FL_CLEANUP(fl_freep) char *text = fl_strndup((const char *)data, size);
    FL_CLEANUP(fl_cel_destroyp) struct fl_cel *program = NULL;
    FL_JSON value = NULL;
    char *json = strstr(text, "\n---\n");

    if (json) {
        *json = '\0';
        json += 5;
        (void)fl_json_parse(json, strlen(json), NULL, NULL, NULL, &value, NULL);
    }
    if (fl_cel_compile(text, &options, &program, NULL) == 0)
        evaluate(program, value);
    return 0;
}
