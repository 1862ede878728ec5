/* What a shim reads from others, and others from it: the first byte chooses spec, order, event or
 * status. What was read is written and read back. */
#include "lib/shim.h"

#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_spec(struct fl_arena *arena, const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *first = NULL, *second = NULL;
    struct fl_shim_spec spec;

    if (fl_shim_spec_decode(arena, data, size, &spec, NULL) < 0)
        return;
    if (spec.command.items[spec.command.count] != NULL)
        abort();
    first = fl_shim_spec_encode(&spec);
    if (fl_shim_spec_decode(arena, first->data, first->len, &spec, NULL) < 0)
        abort();
    second = fl_shim_spec_encode(&spec);
    if (first->len != second->len || memcmp(first->data, second->data, first->len) != 0)
        abort();
}

static void read_status(struct fl_arena *arena, const char *text, size_t size)
{
    struct fl_shim_status status;

    if (fl_shim_status_parse(arena, text, size, &status, NULL) < 0)
        return;
    if (status.ended && !status.reason)
        abort();
    if (status.log_tail && strlen(status.log_tail) > FL_SHIM_TAIL_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_shim_order order;
    struct fl_shim_event event;
    const char *text;

    if (size == 0)
        return 0;
    text = fl_arena_strndup(arena, (const char *)data + 1, size - 1);
    if (data[0] == 's') {
        read_spec(arena, data + 1, size - 1);
    } else if (data[0] == 'o') {
        if (fl_shim_order_parse(text, &order) && !order.is_check &&
            (order.signum < 1 || !*order.reason))
            abort();
    } else if (data[0] == 'e') {
        if (fl_shim_event_parse(text, &event) && event.type != FL_SHIM_CHANGED &&
            event.type != FL_SHIM_CHECKED)
            abort();
    } else {
        read_status(arena, text, size - 1);
    }
    return 0;
}
