/* requirements.txt and conda's files, the first byte says which: whatever pip would be given is
 * lines of plain letters that are neither option, address nor path, and is the same when it is
 * cleaned again. */
#include "reconcilers/imagebuild/compose/requirements.h"

#include "lib/str.h"
#include "reconcilers/imagebuild/recipe.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const char *line)
{
    const char *option = strstr(line, " -");

    if (*line == '-' || *line == '.' || strpbrk(line, "/\\@${}#`&|"))
        abort();
    for (; option; option = strstr(option + 1, " -"))
        if (!fl_str_has_prefix(option, " --hash"))
            abort();
    for (; *line; line++)
        if ((unsigned char)*line >= 0x7f || ((unsigned char)*line < 0x20 && *line != '\t'))
            abort();
}

static void check_clean(struct fl_arena *arena, const char *clean)
{
    const char *again;

    for (const char *rest = clean; rest;)
        check_line(fl_str_next(arena, &rest, '\n'));
    if (fl_requirements_clean(arena, clean, strlen(clean), &again, NULL) < 0 ||
        strncmp(clean, again, strlen(clean)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = NULL;
    const char *text = (const char *)data + 1, *clean = "", *python;
    size_t len = size - 1;

    if (size < 1)
        return 0;
    arena = fl_arena_create();
    if (data[0] == 'c') {
        if (fl_recipe_from_conda(text, len, arena, &text, &python, NULL) < 0)
            return 0;
        len = strlen(text);
    }
    if (fl_requirements_clean(arena, text, len, &clean, NULL) == 0)
        check_clean(arena, clean);
    return 0;
}
