/* One file a subcommand of `flops`; this is what they share. */
#ifndef FL_CMD_COMMAND_H
#define FL_CMD_COMMAND_H

#include "lib/env.h"
#include "lib/error.h"

struct fl_command {
    const char *name;
    const char *summary; /* one line for `flops help`; NULL: not for people */
    /* Gets its own arguments, argv[0] being the subcommand. Returns the exit status. */
    int (*run)(int argc, char **argv);
};

/* All of them, in the order in which help lists them. */
#define FL_COMMANDS(X)                                                                             \
    X(demo)                                                                                        \
    X(up)                                                                                          \
    X(kubeconfig)                                                                                  \
    X(apply)                                                                                       \
    X(get)                                                                                         \
    X(describe)                                                                                    \
    X(delete)                                                                                      \
    X(wait)                                                                                        \
    X(diff)                                                                                        \
    X(explain)                                                                                     \
    X(doctor)                                                                                      \
    X(top)                                                                                         \
    X(rounds)                                                                                      \
    X(events)                                                                                      \
    X(logs)                                                                                        \
    X(models)                                                                                      \
    X(image)                                                                                       \
    X(init)                                                                                        \
    X(try)                                                                                         \
    X(build)                                                                                       \
    X(data)                                                                                        \
    X(aggregator)                                                                                  \
    X(learner)                                                                                     \
    X(serve)                                                                                       \
    X(router)                                                                                      \
    X(predict)                                                                                     \
    X(simulate)                                                                                    \
    X(sla)                                                                                         \
    X(seal)                                                                                        \
    X(version)                                                                                     \
    X(trainer)                                                                                     \
    X(image_build)                                                                                 \
    X(git_fetch)                                                                                   \
    X(shim)                                                                                        \
    X(unpack)

#define FL_COMMAND_DECLARE_(name) extern const struct fl_command fl_command_##name;
FL_COMMANDS(FL_COMMAND_DECLARE_)
#undef FL_COMMAND_DECLARE_

/* "flops NAME: text" on standard error, and the exit status for it: 1. */
int fl_command_fail(const char *name, const struct fl_error *err);
/* The same for a wrong command line, with a hint at --help: 2. */
int fl_command_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Where state is kept when nobody says otherwise: $FLOPS_DATA_DIR, else ~/.flops. */
const char *fl_default_data_dir(struct fl_arena *arena);

const char *fl_version(void);

#endif
