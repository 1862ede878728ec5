/* Programs and libraries of strangers: names are texts that end, and lead nowhere. */
#include "reconcilers/imagebuild/compose/elf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_elf elf;

    if (fl_elf_parse(arena, data, size, &elf, NULL) < 0)
        return 0;
    if (!elf.architecture)
        abort();
    for (size_t i = 0; i < elf.needed_count; i++)
        if (!*elf.needed[i] || strchr(elf.needed[i], '/'))
            abort();
    return 0;
}
