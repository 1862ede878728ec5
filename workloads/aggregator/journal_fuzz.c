/* Journals: any bytes; what can be read, compacts to what reads the same. */
#include "workloads/aggregator/journal.h"

#include "lib/str.h"

#include <stdio.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The checks are put right, so that what is behind them is reached. */
static void repair(struct fl_buf *buf, const char *text, size_t size)
{
    const char *end = text + size;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t len = (size_t)((newline ? newline : end) - text);

        fl_buf_printf(buf, "%08lx ", crc32(0, (const unsigned char *)text, (unsigned)len));
        fl_buf_append(buf, text, len);
        fl_buf_putc(buf, '\n');
        text += len + (newline != NULL);
    }
}

static void check(const void *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state state, again;
    struct fl_buf compact;

    if (fl_journal_replay(arena, data, size, &state, NULL) < 0)
        return;
    if (state.good_bytes > size)
        __builtin_trap();
    fl_buf_init(&compact, 0);
    fl_journal_compact(&compact, &state);
    if (fl_journal_replay(arena, compact.data, compact.len, &again, NULL) < 0 ||
        again.good_bytes != compact.len || again.committed != state.committed ||
        again.attempt != state.attempt || !fl_streq(again.model, state.model))
        __builtin_trap();
    fl_buf_finish(&compact);
}

/* Lines that no aggregator writes may mean little, and compacting them may lose that; reading them
 * must not go wrong. */
static void replay(const void *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state state;

    if (fl_journal_replay(arena, data, size, &state, NULL) == 0 && state.good_bytes > size)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fl_buf repaired;

    check(data, size);
    fl_buf_init(&repaired, 0);
    repair(&repaired, (const char *)data, size);
    replay(repaired.data, repaired.len);
    fl_buf_finish(&repaired);
    return 0;
}
