#include "cmd/command.h"

#include "lib/str.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static const struct fl_command *const commands[] = {
#define FL_COMMAND_ROW_(name) &fl_command_##name,
    FL_COMMANDS(FL_COMMAND_ROW_)
#undef FL_COMMAND_ROW_
};

static void print_help(FILE *out)
{
    (void)fprintf(out,
                  "flops: federated learning that is declared.\n\nUsage: flops COMMAND [...]\n\n");
    for (size_t i = 0; i < FL_COUNT_OF(commands); i++)
        if (commands[i]->summary)
            (void)fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    (void)fprintf(out, "\n`flops COMMAND --help` tells more of each.\n");
}

/* What was printed must have arrived: a full disk is a failure. A reader that left (`| head`) knows
 * that it did. */
static int finish(const struct fl_command *command, int status)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (poll(&out, 1, 0) <= 0 || !(out.revents & POLLERR))
        (void)fprintf(stderr, "flops %s: standard output cannot be written\n", command->name);
    return status ? status : 1;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error of that write only */
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    for (size_t i = 0; i < FL_COUNT_OF(commands); i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return finish(commands[i], commands[i]->run(argc - 1, argv + 1));
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    (void)fprintf(stderr, "flops: there is no command \"%s\"; `flops help` lists them\n", argv[1]);
    return 2;
}
