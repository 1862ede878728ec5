/* What a builder's child says, and what it is told: whatever is believed is what an object's status
 * can hold. */
#include "reconcilers/imagebuild/build_child.h"
#include "reconcilers/imagebuild/builder_heard.h"

#include "lib/str.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_stages(const struct fl_builder_heard *heard)
{
    for (size_t i = 0; i < heard->stage_count; i++) {
        const struct fl_builder_stage *stage = &heard->stages[i];

        if (!*stage->name || strlen(stage->name) > 63 || stage->took_ms < 0 || stage->state == 0 ||
            (stage->message && strlen(stage->message) > 1024))
            abort();
        for (size_t k = 0; k < i; k++)
            if (fl_streq(heard->stages[k].name, stage->name))
                abort();
    }
}

static void check_result(struct fl_arena *arena, const struct fl_builder_result *result)
{
    FL_JSON value = fl_builder_result_json(result);
    struct fl_builder_result again;

    if (!fl_digest_is_valid(result->digest) || result->size < 0 || result->cache_hits < 0 ||
        fl_builder_result_parse(value, arena, &again, NULL) < 0 ||
        again.platform_count != result->platform_count || again.size != result->size)
        abort();
}

static void try_child(const char *data, size_t size)
{
    struct fl_builder_heard heard;

    fl_builder_heard_init(&heard);
    fl_builder_heard_take(&heard, data, size, 1000);
    check_stages(&heard);
    if (heard.tail.len > FL_BUILD_TAIL_MAX ||
        !fl_utf8_valid(fl_buf_text(&heard.tail), heard.tail.len))
        abort();
    if (heard.answer == FL_BUILDER_DONE)
        check_result(heard.arena, &heard.result);
    if (heard.answer == FL_BUILDER_FAILED && heard.err.code >= 0)
        abort();
    fl_builder_heard_finish(&heard);
}

/* A request is the same when it is read and written again. */
static void try_request(const char *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON value = NULL;
    FL_JSON first = NULL;
    FL_JSON second = NULL;
    struct fl_build build, again;

    if (fl_json_parse(data, size, NULL, NULL, NULL, &value, NULL) < 0 ||
        fl_build_decode(value, arena, &build, NULL) < 0)
        return;
    first = fl_build_encode(&build);
    if (fl_build_decode(first, arena, &again, NULL) < 0)
        abort();
    second = fl_build_encode(&again);
    if (!json_equal(first, second))
        abort();
    fl_build_wipe(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] == 'r')
        try_request((const char *)data + 1, size - 1);
    else
        try_child((const char *)data, size);
    return 0;
}
