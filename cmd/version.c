#include "cmd/command.h"

#include <stdio.h>

const char *fl_version(void)
{
    return FL_VERSION;
}

static int run(int argc, char **argv)
{
    (void)argc, (void)argv;
    (void)printf("flops %s\n", fl_version());
    return 0;
}

const struct fl_command fl_command_version = {"version", "print the program's version", run};
