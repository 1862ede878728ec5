/* A path or template, and the JSON it runs on, separated by a line "---". */
#include "api/jsonpath.h"
#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const char *text, const json_t *value, bool is_template)
{
    const struct fl_jsonpath_options options = {is_template, *text == 'x'};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_jsonpath_destroyp) struct fl_jsonpath *path = NULL;
    const json_t *const *values;
    struct fl_buf out;
    size_t count;

    if (fl_jsonpath_compile(text, &options, &path, NULL) < 0)
        return;
    (void)fl_jsonpath_eval(path, value, arena, &values, &count, NULL);
    fl_buf_init(&out, 65536);
    (void)fl_jsonpath_print(path, value, &out, NULL);
    fl_buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_freep) char *text = fl_strndup((const char *)data, size);
    FL_JSON value = NULL;
    char *json = strstr(text, "\n---\n");

    if (!json)
        return 0;
    *json = '\0';
    json += 5;
    if (fl_json_parse(json, strlen(json), NULL, NULL, NULL, &value, NULL) < 0)
        return 0;
    run(text, value, true);
    run(text, value, false);
    return 0;
}
