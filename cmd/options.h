/* Command lines of the subcommands that talk to a server: options are a table, and what is left
 * over are words. "--name=value", "--name value", "-n value", "-nvalue"; flags also "--name=false";
 * "--" ends the options. */
#ifndef FL_CMD_OPTIONS_H
#define FL_CMD_OPTIONS_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_words {
    const char **items;
    size_t count;
};

enum fl_option_type {
    FL_OPTION_FLAG,     /* bool */
    FL_OPTION_TEXT,     /* const char * */
    FL_OPTION_CHOICE,   /* const char *; its value only after '=', "" without one */
    FL_OPTION_LIST,     /* struct fl_words: may be given several times */
    FL_OPTION_INT,      /* int64_t, not negative */
    FL_OPTION_REAL,     /* double, not negative */
    FL_OPTION_DURATION, /* int64_t of milliseconds */
};

struct fl_option {
    const char *name;
    char letter; /* 0: none */
    enum fl_option_type type;
    void *value;
};

struct fl_options {
    const char *command; /* "get" */
    const char *help;
    const struct fl_option *items;
    size_t count;
};

/* < 0: go on; otherwise the exit status, all being said: 0 after --help, 2 for a mistake. */
int fl_options_parse(const struct fl_options *options, struct fl_arena *arena, int argc,
                     char **argv, struct fl_words *ret_words);

/* "30s", "1h30m", "500ms"; a bare number is seconds. False where it is none or above a year. */
bool fl_option_duration(const char *text, int64_t *ret_ms);

/* What every such subcommand takes. */
struct fl_client_flags {
    const char *kubeconfig, *context, *data_dir, *ns;
    int64_t request_timeout_ms;
};

#define FL_CLIENT_OPTIONS(flags)                                                                   \
    {"kubeconfig", 0, FL_OPTION_TEXT, &(flags).kubeconfig},                                        \
        {"context", 0, FL_OPTION_TEXT, &(flags).context},                                          \
        {"data-dir", 0, FL_OPTION_TEXT, &(flags).data_dir},                                        \
        {"namespace", 'n', FL_OPTION_TEXT, &(flags).ns},                                           \
    {                                                                                              \
        "request-timeout", 0, FL_OPTION_DURATION, &(flags).request_timeout_ms                      \
    }

#define FL_CLIENT_HELP                                                                             \
    "\nWhere to:\n"                                                                                \
    "  -n, --namespace NS      default: the context's, else \"default\"\n"                         \
    "      --kubeconfig FILE   default: the first file of $KUBECONFIG, the data\n"                 \
    "                          directory's, ~/.kube/config\n"                                      \
    "      --context NAME      of the kubeconfig; default: its current one\n"                      \
    "      --data-dir DIR      of `flops up` (default $FLOPS_DATA_DIR, ~/.flops)\n"                \
    "      --request-timeout D no single request takes longer (default 30s)\n"

#endif
