/* A Containerfile of a stranger's: what is accepted has a stage, and names no image of the machine
 * and mounts none of its folders in so many words. */
#include "reconcilers/imagebuild/buildah/containerfile.h"

#include "lib/str.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Lines that need no reading to see what they are. */
static bool is_plainly_bad(const char *line)
{
    return fl_str_has_prefix(line, "FROM oci:") || fl_str_has_prefix(line, "COPY --from=dir:") ||
           fl_str_has_prefix(line, "RUN --mount=type=bind");
}

static void check_lines(const char *text)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    bool continues = false;

    for (const char *rest = text; rest;) {
        const char *line = fl_str_next(arena, &rest, '\n');
        size_t len = strlen(line);

        if (!continues && is_plainly_bad(line))
            abort();
        /* Whether a line that is empty or a remark goes on is the reader's affair. */
        while (len > 0 && strchr(" \t\r\v\f", line[len - 1]))
            len--;
        continues = continues || (len > 0 && line[len - 1] == '\\');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fl_containerfile found = {0};
    FL_CLEANUP(fl_freep) char *text = fl_strndup((const char *)data, size);

    if (fl_containerfile_read((const char *)data, size, &found, NULL) < 0)
        return 0;
    if (found.stages == 0)
        abort();
    check_lines(text);
    return 0;
}
