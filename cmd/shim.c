/* `flops shim`: not for people; what the local orchestrator starts for each run (lib/shim.h). */
#include "lib/shim.h"
#include "cmd/command.h"

static int run(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return fl_shim_main();
}

const struct fl_command fl_command_shim = {"shim", NULL, run};
