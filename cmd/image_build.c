#include "cmd/command.h"

#include "lib/log.h"
#include "reconcilers/imagebuild/build_child.h"

#include <unistd.h>

static int run(int argc, char **argv)
{
    const struct fl_env env = fl_env_real(NULL);

    (void)argc, (void)argv;
    return fl_build_child_main(&env, STDIN_FILENO, STDOUT_FILENO);
}

/* Not for people: the control plane starts it (no summary, so help does not list it). */
const struct fl_command fl_command_image_build = {FL_BUILD_CHILD_COMMAND, NULL, run};
