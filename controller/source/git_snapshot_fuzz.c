/* The file that the child hands over, which has read what strangers sent: whatever is in it, what
 * comes out lies within it. */
#include "controller/source/git_internal.h"

#include "lib/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct fl_snapshot *snapshot, const struct fl_bytes *bytes)
{
    const char *end = bytes->data + bytes->len;

    if (!snapshot->revision || snapshot->file_count > FL_SOURCE_FILES_MAX)
        abort();
    for (size_t i = 0; i < snapshot->file_count; i++) {
        const struct fl_source_file *file = &snapshot->files[i];
        const char *begin = file->data;

        if (!file->path || begin < bytes->data || begin > end || file->len > (size_t)(end - begin))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = fl_bytes_new(data, size);
    FL_CLEANUP(fl_snapshot_unrefp) struct fl_snapshot *snapshot = NULL;

    if (fl_git_snapshot_decode(bytes, "d", &snapshot, NULL) == 0)
        check(snapshot, bytes);
    return 0;
}
