#include "cmd/command.h"

#include "controller/source/git.h"

#include <unistd.h>

static int run(int argc, char **argv)
{
    (void)argc, (void)argv;
    return fl_git_fetch_main(STDIN_FILENO, STDOUT_FILENO);
}

/* Not for people: the control plane starts it (no summary, so help does not list it). */
const struct fl_command fl_command_git_fetch = {FL_GIT_FETCH_COMMAND, NULL, run};
