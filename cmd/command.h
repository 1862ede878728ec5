/* One file a subcommand of `flops`; this is what they share. */
#ifndef FL_CMD_COMMAND_H
#define FL_CMD_COMMAND_H

#include "lib/env.h"
#include "lib/error.h"

struct fl_command {
    const char *name;
    const char *summary; /* one line for `flops help`; NULL: it is not listed */
    /* Gets its own arguments, argv[0] being the subcommand. Returns the exit status. */
    int (*run)(int argc, char **argv);
};

extern const struct fl_command fl_command_up, fl_command_version, fl_command_kubeconfig;
extern const struct fl_command fl_command_apply, fl_command_get, fl_command_describe,
    fl_command_delete, fl_command_wait, fl_command_diff, fl_command_explain, fl_command_events,
    fl_command_logs;
extern const struct fl_command fl_command_shim;

/* "flops NAME: text" on standard error, and the exit status for it: 1. */
int fl_command_fail(const char *name, const struct fl_error *err);
/* The same for a wrong command line, with a hint at --help: 2. */
int fl_command_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Where state is kept when nobody says otherwise: $FLOPS_DATA_DIR, else ~/.flops. */
const char *fl_default_data_dir(struct fl_arena *arena);

const char *fl_version(void);

#endif
