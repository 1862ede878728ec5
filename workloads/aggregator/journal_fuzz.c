/* Journals: any bytes; what can be read, compacts to what reads the same. */
#include "workloads/aggregator/journal.h"

#include "lib/str.h"

#include <stdio.h>
#include <string.h>
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

static bool same_text(const struct fl_buf *a, const struct fl_buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* Whatever can be read, compacts to what means the same: it compacts to the same bytes again. */
static void check(const void *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_journal_state state, again;
    struct fl_buf compact, twice;

    if (fl_journal_replay(arena, data, size, &state, NULL) < 0)
        return;
    if (state.good_bytes > size)
        __builtin_trap();
    fl_buf_init(&compact, 0);
    fl_buf_init(&twice, 0);
    fl_journal_compact(&compact, &state);
    if (fl_journal_replay(arena, compact.data, compact.len, &again, NULL) < 0 ||
        again.good_bytes != compact.len)
        __builtin_trap();
    fl_journal_compact(&twice, &again);
    if (again.life != state.life || again.committed != state.committed ||
        again.has_round != state.has_round || again.attempt != state.attempt ||
        again.done != state.done || again.evaluated != state.evaluated ||
        again.failed != state.failed || again.stopped != state.stopped ||
        again.counted_count != state.counted_count || again.holders.count != state.holders.count ||
        again.contributors.count != state.contributors.count ||
        again.status.version != state.status.version || !fl_streq(again.model, state.model) ||
        !fl_streq(again.state, state.state) || !fl_streq(again.origin, state.origin) ||
        !fl_streq(again.work, state.work) || !same_text(&compact, &twice))
        __builtin_trap();
    fl_buf_finish(&compact);
    fl_buf_finish(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fl_buf repaired;

    check(data, size);
    fl_buf_init(&repaired, 0);
    repair(&repaired, (const char *)data, size);
    check(repaired.data, repaired.len);
    fl_buf_finish(&repaired);
    return 0;
}
