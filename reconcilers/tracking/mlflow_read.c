/* What MLflow answers. */
#include "lib/str.h"
#include "reconcilers/tracking/mlflow_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 300 /* bytes of the server's own words that are repeated */
#define ERROR_MAX ((size_t)64 * 1024)
#define PROXY     "mlflow-artifacts:"

static const struct {
    const char *name;
    enum fl_mlflow_code code;
} codes[] = {
    {"RESOURCE_DOES_NOT_EXIST", FL_MLFLOW_DOES_NOT_EXIST},
    {"RESOURCE_ALREADY_EXISTS", FL_MLFLOW_ALREADY_EXISTS},
    {"ENDPOINT_NOT_FOUND", FL_MLFLOW_NO_ENDPOINT},
    {"NOT_FOUND", FL_MLFLOW_DOES_NOT_EXIST},
};

static enum fl_mlflow_code code_of(const char *name, int status)
{
    for (size_t i = 0; name && i < FL_COUNT_OF(codes); i++)
        if (strcmp(codes[i].name, name) == 0)
            return codes[i].code;
    if (name)
        return FL_MLFLOW_OTHER;
    return status == 404 || status == 405 ? FL_MLFLOW_NO_ENDPOINT : FL_MLFLOW_NONE;
}

static int error_code(int status, enum fl_mlflow_code code)
{
    switch (status) {
    case 401:
        return FL_E_UNAUTHORIZED;
    case 403:
        return FL_E_FORBIDDEN;
    case 408:
        return FL_E_TIMEOUT;
    case 429:
        return FL_E_TOO_MANY_REQUESTS;
    case 404:
        return code == FL_MLFLOW_DOES_NOT_EXIST ? FL_E_NOT_FOUND : FL_E_INVALID;
    default:
        if (code == FL_MLFLOW_ALREADY_EXISTS)
            return FL_E_ALREADY_EXISTS;
        return status >= 500 ? FL_E_UNAVAILABLE : FL_E_INVALID;
    }
}

/* Printable, on one line. */
static void copy_words(const char *text, char out[WORDS_MAX + 1])
{
    size_t len = fl_utf8_cut(text, strlen(text), WORDS_MAX);

    memcpy(out, text, len);
    out[len] = '\0';
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)out[i] < ' ' || out[i] == 0x7f)
            out[i] = ' ';
}

int fl_mlflow_read_error(int status, const char *text, size_t len, enum fl_mlflow_code *ret_code,
                         struct fl_error *err)
{
    FL_JSON answer = NULL;
    const char *name = NULL, *message = NULL;
    char words[WORDS_MAX + 1] = "", called[WORDS_MAX + 1] = "";
    enum fl_mlflow_code code;

    if (len <= ERROR_MAX && fl_json_parse(text, len, NULL, NULL, NULL, &answer, NULL) == 0) {
        name = fl_json_str(answer, "error_code");
        message = fl_json_str(answer, "message");
    }
    code = code_of(name, status);
    if (ret_code)
        *ret_code = code;
    if (message)
        copy_words(message, words);
    if (name)
        copy_words(name, called);
    if (status >= 300 && status < 400)
        return fl_error_set(err, FL_E_INVALID,
                            "the server answers %d, a redirect, which is not followed: give the "
                            "address that it leads to",
                            status);
    return fl_error_set(err, error_code(status, code), "the server answers %d%s%s%s%s", status,
                        *called ? " " : "", called, *words ? ": " : "", words);
}

int fl_mlflow_proxy_path(const char *uri, struct fl_arena *arena, const char **ret_path,
                         struct fl_error *err)
{
    const char *path = uri + strlen(PROXY);

    if (!fl_str_has_prefix(uri, PROXY))
        return fl_error_set(err, FL_E_INVALID,
                            "models cannot be sent: the server keeps artifacts at an address of "
                            "its own (%.*s…); start it with --serve-artifacts, as is the default",
                            (int)fl_utf8_cut(uri, strlen(uri), 24), uri);
    if (fl_str_has_prefix(path, "//")) { /* with a host: mlflow-artifacts://host/path */
        path = strchr(path + 2, '/');
        if (!path)
            return fl_error_set(err, FL_E_INVALID, "an artifact address without a path");
    }
    while (*path == '/')
        path++;
    if (!*path || strstr(path, ".."))
        return fl_error_set(err, FL_E_INVALID, "an artifact address that leads nowhere");
    *ret_path = fl_arena_strdup(arena, path);
    return 0;
}

int64_t fl_mlflow_int(const json_t *value)
{
    int64_t number = 0;

    if (json_is_integer(value))
        return json_integer_value(value);
    if (json_is_string(value))
        (void)fl_str_to_int64(json_string_value(value), INT64_MIN, INT64_MAX, &number);
    return number;
}

int fl_mlflow_text(const json_t *answer, const char *path, struct fl_arena *arena,
                   const char **ret_text, struct fl_error *err)
{
    const char *text = fl_json_str(answer, path);

    if (!text || !*text)
        return fl_error_set(err, FL_E_INVALID, "the server's answer has no %s", path);
    *ret_text = fl_arena_strdup(arena, text);
    return 0;
}

static struct fl_string_map read_pairs(const json_t *list, struct fl_arena *arena)
{
    struct fl_string_map map = {
        .items = fl_new_array(arena, struct fl_string_pair, json_array_size(list) + 1)};
    json_t *item;
    size_t i;

    json_array_foreach((json_t *)list, i, item) {
        const char *key = fl_json_str(item, "key");

        if (key)
            map.items[map.count++] = (struct fl_string_pair){
                fl_arena_strdup(arena, key),
                fl_arena_strdup(arena, fl_str_or(fl_json_str(item, "value"), ""))};
    }
    return map;
}

static enum fl_tracked_status read_status(const char *text)
{
    static const char *const names[] = {
        [FL_TRACKED_RUNNING] = "RUNNING",
        [FL_TRACKED_FINISHED] = "FINISHED",
        [FL_TRACKED_FAILED] = "FAILED",
        [FL_TRACKED_KILLED] = "KILLED",
    };

    for (size_t i = 1; i < FL_COUNT_OF(names); i++)
        if (fl_streq(text, names[i]))
            return (enum fl_tracked_status)i;
    return 0;
}

int fl_mlflow_read_run(const json_t *run, struct fl_arena *arena, struct fl_tracked_run *ret_run,
                       struct fl_error *err)
{
    struct fl_tracked_run read = {.status = read_status(fl_json_str(run, "info.status")),
                                  .end_ms = fl_mlflow_int(fl_json_path(run, "info.end_time")),
                                  .tags = read_pairs(fl_json_path(run, "data.tags"), arena),
                                  .params = read_pairs(fl_json_path(run, "data.params"), arena)};
    int r = fl_mlflow_text(run, "info.run_id", arena, &read.id, err);

    if (r == 0)
        *ret_run = read;
    return r;
}

json_t *fl_mlflow_pairs(const struct fl_string_map *map)
{
    json_t *list = json_array();

    for (size_t i = 0; i < map->count; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "key", map->items[i].key, "value", map->items[i].value));
    return list;
}

/* As protobuf writes numbers in JSON. */
json_t *fl_mlflow_number(double value)
{
    if (isnan(value))
        return json_string("NaN");
    if (isinf(value))
        return json_string(value > 0 ? "Infinity" : "-Infinity");
    return json_real(value);
}
