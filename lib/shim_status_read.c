#include "lib/file.h"
#include "lib/json.h"
#include "lib/shim.h"
#include "lib/str.h"

#include <string.h>

#define STATUS_MAX ((size_t)64 * 1024)

static const char *text_of(struct fl_arena *arena, const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text ? fl_arena_strdup(arena, text) : NULL;
}

/* The end of a text counts; it begins with a whole character. */
static const char *tail_of(struct fl_arena *arena, const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    size_t len = text ? strlen(text) : 0,
           from = len > FL_SHIM_TAIL_MAX ? len - FL_SHIM_TAIL_MAX : 0;

    while (from < len && ((unsigned char)text[from] & 0xC0) == 0x80)
        from++;
    return text ? fl_arena_strdup(arena, text + from) : NULL;
}

static bool take_end(struct fl_arena *arena, const json_t *json, struct fl_shim_status *status)
{
    const json_t *code = json_object_get(json, "code");

    status->ended = json_is_integer(json_object_get(json, "endedUs"));
    if (!status->ended)
        return true;
    status->ended_us = json_integer_value(json_object_get(json, "endedUs"));
    status->has_code = json_is_integer(code);
    status->code = json_integer_value(code);
    status->oom_killed = json_is_true(json_object_get(json, "oomKilled"));
    status->signal = text_of(arena, json, "signal");
    status->reason = text_of(arena, json, "reason");
    status->message = text_of(arena, json, "message");
    status->log_tail = tail_of(arena, json, "logTail");
    return status->reason && status->code >= 0 && status->code <= 255;
}

int fl_shim_status_parse(struct fl_arena *arena, const char *text, size_t len,
                         struct fl_shim_status *ret_status, struct fl_error *err)
{
    struct fl_shim_status status = {0};
    FL_JSON json = NULL;

    struct fl_error why = {0};

    if (fl_json_parse(text, len, NULL, NULL, NULL, &json, &why) < 0)
        return fl_error_set(err, FL_E_INVALID, "status of a run: %s", why.msg);
    if (!json_is_object(json) || fl_json_int(json, "version", 0) != 1)
        return fl_error_set(err, FL_E_INVALID, "status of a run: not of version 1");
    status.pid = fl_json_int(json, "pid", 0);
    status.started_us = fl_json_int(json, "startedUs", 0);
    if (status.pid < 0 || status.pid > INT32_MAX || !take_end(arena, json, &status))
        return fl_error_set(err, FL_E_INVALID, "status of a run: damaged");
    *ret_status = status;
    return 0;
}

int fl_shim_status_read(struct fl_arena *arena, const char *folder,
                        struct fl_shim_status *ret_status, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/" FL_SHIM_STATUS, folder);
    int r = fl_file_read(path, STATUS_MAX, &bytes, err);

    return r < 0 ? r : fl_shim_status_parse(arena, bytes->data, bytes->len, ret_status, err);
}
