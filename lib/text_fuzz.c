/* Text that a stranger chose, on its way to a terminal: whatever it is, what is shown has no
 * command in it, is UTF-8, and takes no more columns than there are. */
#include "lib/str.h"
#include "lib/text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void check_shown(const char *text, size_t columns, bool utf8)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf shown = {0};
    const size_t taken = fl_text_put(&shown, text, columns, utf8);
    const unsigned char *bytes = (const unsigned char *)fl_buf_text(&shown);

    check(taken <= columns);
    check(fl_text_columns(fl_buf_text(&shown)) == taken);
    check(fl_utf8_valid(fl_buf_text(&shown), shown.len));
    for (size_t i = 0; i < shown.len; i++) {
        check(bytes[i] >= ' ' && bytes[i] != 0x7F);
        check(utf8 || bytes[i] < 0x80);
        check(bytes[i] != 0xC2 || bytes[i + 1] >= 0xA0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_freep) char *text = NULL;

    if (size < 1)
        return 0;
    text = fl_strndup((const char *)data + 1, size - 1);
    check_shown(text, data[0], true);
    check_shown(text, data[0], false);
    check_shown(text, SIZE_MAX, true);
    return 0;
}
