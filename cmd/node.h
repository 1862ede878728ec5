/* What the programs of the data plane share on their command lines. */
#ifndef FL_CMD_NODE_H
#define FL_CMD_NODE_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/http_client.h"
#include "lib/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* "127.0.0.1:7070", "[::1]:7070", "7070" (then *ret_address stays). */
bool fl_node_parse_listen(struct fl_arena *arena, const char *text, const char **ret_address,
                          uint16_t *ret_port);
bool fl_node_is_loopback(const char *address);
/* The port that an orchestrator chose, in this environment variable; false: it holds none. */
bool fl_node_port_from(const char *variable, uint16_t *ret_port);
/* Where an orchestrator whose containers have a network of their own wants programs to listen:
 * $FLOPS_LISTEN, else `address`. */
const char *fl_node_address_from(const char *address);
/* Each peer is a connection: take what the system allows. */
void fl_node_raise_file_limit(void);
/* A secret from a file, without the line's end; NULL path: none. In the arena. */
int fl_node_read_secret(struct fl_arena *arena, const char *path, const char **ret_secret,
                        struct fl_error *err);

/* As whom to call another program. */
struct fl_node_flags {
    const char *ca, *cert, *key;
};
#define FL_NODE_OPTIONS(flags)                                                                     \
    {"ca", 0, FL_OPTION_TEXT, &(flags).ca}, {"cert", 0, FL_OPTION_TEXT, &(flags).cert},            \
    {                                                                                              \
        "key", 0, FL_OPTION_TEXT, &(flags).key                                                     \
    }
struct fl_http_client_options fl_node_http(const struct fl_node_flags *flags);

/* For tests of what a process loses when it is killed: --die-at STEP:N ends this one by SIGKILL
 * when it gets to that step (workloads/steps/steps.h) for the Nth time, --die-at list prints the
 * steps. */
struct fl_node_death {
    const char *step; /* NULL: of old age */
    atomic_long left;
};
#define FL_NODE_DEATH_HELP                                                                         \
    "\nFor tests: --die-at STEP:N ends it by SIGKILL when it comes to that step the Nth time;\n"   \
    "--die-at list prints the steps.\n"
/* < 0: go on, and env does it (from when it is given, with `death` in its place); otherwise the
 * exit status, all being said. `text` NULL: no such option was given. */
int fl_node_parse_death(const char *command, struct fl_arena *arena, const char *text,
                        struct fl_node_death *death, struct fl_env *env);

#endif
