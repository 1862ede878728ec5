/* What MLflow, or who calls itself so, may answer: errors, runs, addresses of artifacts. */
#include "lib/str.h"
#include "reconcilers/tracking/mlflow_internal.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_error(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 302, 400, 401, 403, 404, 429, 500, 503};
    enum fl_mlflow_code code;
    struct fl_error err = {0};

    for (size_t i = 0; i < FL_COUNT_OF(statuses); i++) {
        assert(fl_mlflow_read_error(statuses[i], (const char *)data, size, &code, &err) < 0);
        assert(!strpbrk(err.msg, "\n\r\t"));
    }
}

static void read_path(const uint8_t *data, size_t size, struct fl_arena *arena)
{
    const char *path = NULL;

    if (fl_mlflow_proxy_path(fl_arena_strndup(arena, (const char *)data, size), arena, &path,
                             NULL) == 0)
        assert(*path && *path != '/' && !strstr(path, ".."));
}

static void read_run(const uint8_t *data, size_t size, struct fl_arena *arena)
{
    struct fl_tracked_run run;
    FL_JSON answer = NULL;

    if (fl_json_parse((const char *)data, size, NULL, NULL, NULL, &answer, NULL) == 0 &&
        fl_mlflow_read_run(answer, arena, &run, NULL) == 0)
        assert(run.id && *run.id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    read_error(data, size);
    read_path(data, size, arena);
    read_run(data, size, arena);
    return 0;
}
