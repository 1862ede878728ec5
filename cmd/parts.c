#include "cmd/parts.h"

#include "lib/folder.h"

#include <stdlib.h>
#include <string.h>

static const char *part(struct fl_arena *arena, const char *installed, const char *built)
{
    FL_CLEANUP(fl_freep) char *program = realpath("/proc/self/exe", NULL);
    const char *slash = program ? strrchr(program, '/') : NULL;
    int len = slash ? (int)(slash - program) : 0;
    const char *paths[] = {
        fl_arena_printf(arena, "%.*s/../lib/flops/%s", len, program ? program : "", installed),
        fl_arena_printf(arena, "%.*s/../../%s", len, program ? program : "", built),
    };

    for (size_t i = 0; i < FL_COUNT_OF(paths); i++)
        if (fl_path_exists(paths[i]))
            return paths[i];
    return NULL;
}

const char *fl_part_programs(struct fl_arena *arena)
{
    return part(arena, "programs", "build/cross");
}

const char *fl_part_adapter(struct fl_arena *arena)
{
    return part(arena, "python", "workloads/trainer/python/image");
}

const char *fl_part_modules(struct fl_arena *arena)
{
    const char *adapter = fl_part_adapter(arena);

    return adapter ? fl_arena_printf(arena, "%s/usr/lib/flops/python", adapter) : NULL;
}

const char *fl_part_template(struct fl_arena *arena)
{
    return part(arena, "template", "examples/code/native");
}
