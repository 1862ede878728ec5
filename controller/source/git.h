/* `flops git-fetch`: one fetch of the Git source, in a process of its own (see git_internal.h).
 *
 * A program that uses fl_source_git_create answers to these arguments: the source starts the
 * program that it is part of again with them. Tests do so in main. */
#ifndef FL_CONTROLLER_GIT_H
#define FL_CONTROLLER_GIT_H

#include <stdbool.h>

#define FL_GIT_FETCH_COMMAND "git-fetch"

/* Reads a request from `in_fd`, fetches, writes the answer to `out_fd`; the exit status: 0 where an
 * answer was written, also one that tells of a failure. Confines the whole process. */
int fl_git_fetch_main(int in_fd, int out_fd);

static inline bool fl_git_is_fetch(int argc, char **argv)
{
    return argc == 2 && __builtin_strcmp(argv[1], FL_GIT_FETCH_COMMAND) == 0;
}

#endif
