/* Messages: the first byte says which form; what was read is written, and reads back the same. */
#include "workloads/protocol/protocol.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fl_form *const forms[] = {
#define FORM_(name, type) &fl_form_##name,
    FL_PROTOCOL_FORMS(FORM_)
#undef FORM_
};

union any {
#define MEMBER_(name, type) struct type name;
    FL_PROTOCOL_FORMS(MEMBER_)
#undef MEMBER_
};

static void check_route(struct fl_arena *arena, const uint8_t *data, size_t size)
{
    const char *target = fl_arena_strndup(arena, (const char *)data, size);
    struct fl_routed routed;

    if (fl_protocol_route(arena, "GET", target, &routed, NULL) == 0 &&
        routed.route == FL_ROUTE_TASK && strlen(routed.learner) > FL_PROTOCOL_NAME_MAX)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL, *again = NULL;
    const struct fl_form *form;
    union any message, back;
    bool not_joined;

    if (size == 0)
        return 0;
    form = forms[data[0] % FL_COUNT_OF(forms)];
    check_route(arena, data, size);
    (void)fl_protocol_read_error(500, data + 1, size - 1, &not_joined, NULL);
    if (fl_message_decode(arena, form, data + 1, size - 1, &message, NULL) < 0)
        return 0;
    text = fl_message_encode(form, &message);
    if (fl_message_decode(arena, form, text->data, text->len, &back, NULL) < 0)
        __builtin_trap();
    again = fl_message_encode(form, &back);
    if (again->len != text->len || memcmp(again->data, text->data, text->len) != 0)
        __builtin_trap();
    return 0;
}
