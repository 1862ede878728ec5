#include "reconcilers/imagebuild/builder_heard.h"

#include "lib/str.h"
#include "reconcilers/imagebuild/build_child.h"

#include <string.h>

#define NAME_MAX_LEN    63
#define MESSAGE_MAX_LEN 1000

void fl_builder_heard_init(struct fl_builder_heard *heard)
{
    *heard = (struct fl_builder_heard){.arena = fl_arena_create()};
    fl_buf_init(&heard->line, FL_BUILD_LINE_MAX);
    fl_buf_init(&heard->tail, 0);
}

void fl_builder_heard_finish(struct fl_builder_heard *heard)
{
    fl_buf_finish(&heard->line);
    fl_buf_finish(&heard->tail);
    fl_arena_destroy(heard->arena);
}

static bool is_stage_name(const char *name)
{
    return name && *name && strlen(name) <= NAME_MAX_LEN;
}

static struct fl_builder_stage *stage_named(struct fl_builder_heard *heard, const char *name,
                                            int64_t now_us)
{
    struct fl_builder_stage *stage;

    for (size_t i = 0; i < heard->stage_count; i++)
        if (fl_streq(heard->stages[i].name, name))
            return &heard->stages[i];
    if (heard->stage_count == FL_BUILD_STAGES_MAX)
        return NULL;
    stage = &heard->stages[heard->stage_count++];
    *stage = (struct fl_builder_stage){.name = fl_arena_strdup(heard->arena, name),
                                       .started_us = now_us};
    return stage;
}

/* A stage may run several times, once a platform: it has begun with the first, and its state is the
 * last's, but that what was made once is not said to have been there. */
static void hear_stage(struct fl_builder_heard *heard, const json_t *value, int64_t now_us)
{
    enum fl_stage_state state = fl_stage_state_parse(fl_json_str(value, "state"));
    const char *name = fl_json_str(value, "stage"), *message = fl_json_str(value, "message");
    struct fl_builder_stage *stage =
        state != 0 && is_stage_name(name) ? stage_named(heard, name, now_us) : NULL;

    if (!stage)
        return;
    if (!(state == FL_STAGE_CACHED && stage->state == FL_STAGE_DONE))
        stage->state = state;
    stage->message = message
                         ? fl_arena_strndup(heard->arena, message,
                                            fl_utf8_cut(message, strlen(message), MESSAGE_MAX_LEN))
                         : NULL;
    if (state != FL_STAGE_RUNNING)
        stage->took_ms = now_us > stage->started_us ? (now_us - stage->started_us) / 1000 : 0;
}

/* The oldest lines go for the newest. */
static void hear_log(struct fl_builder_heard *heard, const char *line)
{
    size_t len = fl_utf8_cut(line, strlen(line), FL_BUILD_LOG_LINE_MAX), gone = 0;
    struct fl_buf *tail = &heard->tail;

    while (tail->len - gone + len + 1 > FL_BUILD_TAIL_MAX)
        gone += strcspn(tail->data + gone, "\n") + 1;
    if (gone > 0) {
        memmove(tail->data, tail->data + gone, tail->len - gone);
        tail->len -= gone;
    }
    fl_buf_append(tail, line, len);
    fl_buf_putc(tail, '\n');
}

static void hear_error(struct fl_builder_heard *heard, const json_t *error)
{
    const char *stage = fl_json_str(error, "stage");

    heard->answer = FL_BUILDER_FAILED;
    heard->failed_stage = is_stage_name(stage) ? fl_arena_strdup(heard->arena, stage) : NULL;
    (void)fl_error_set(&heard->err, fl_error_from_status(fl_json_str(error, "code"), 500), "%s",
                       fl_str_or(fl_json_str(error, "message"), "no message"));
}

static void hear_result(struct fl_builder_heard *heard, const json_t *result)
{
    heard->answer = fl_builder_result_parse(result, heard->arena, &heard->result, &heard->err) < 0
                        ? FL_BUILDER_FAILED
                        : FL_BUILDER_DONE;
}

static void hear_line(struct fl_builder_heard *heard, const char *text, size_t len, int64_t now_us)
{
    FL_JSON value = NULL;

    if (fl_json_parse(text, len, NULL, NULL, NULL, &value, NULL) < 0 || heard->answer != 0)
        return;
    if (fl_json_str(value, "stage"))
        hear_stage(heard, value, now_us);
    else if (fl_json_str(value, "log"))
        hear_log(heard, fl_json_str(value, "log"));
    else if (json_object_get(value, "error"))
        hear_error(heard, json_object_get(value, "error"));
    else if (json_object_get(value, "result"))
        hear_result(heard, json_object_get(value, "result"));
}

void fl_builder_heard_take(struct fl_builder_heard *heard, const char *data, size_t len,
                           int64_t now_us)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != '\n') {
            fl_buf_putc(&heard->line, data[i]);
            continue;
        }
        if (!heard->line.overflow)
            hear_line(heard, fl_buf_text(&heard->line), heard->line.len, now_us);
        fl_buf_clear(&heard->line);
    }
}
