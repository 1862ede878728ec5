#include "cmd/command.h"

#include <stdio.h>
#include <stdlib.h>

int fl_command_fail(const char *name, const struct fl_error *err)
{
    (void)fprintf(stderr, "flops %s: %s\n", name, err->msg);
    return 1;
}

int fl_command_usage(const char *name, const char *fmt, ...)
{
    va_list ap;

    (void)fprintf(stderr, "flops %s: ", name);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "\nTry: flops %s --help\n", name);
    return 2;
}

const char *fl_default_data_dir(struct fl_arena *arena)
{
    const char *dir = getenv("FLOPS_DATA_DIR"), *home = getenv("HOME");

    if (dir && *dir)
        return dir;
    return fl_arena_printf(arena, "%s/.flops", home && *home ? home : ".");
}
