/* A kubeconfig as a client reads it: one context with its cluster and user.
 *
 * What a context asks for that we do not do (exec plugins, auth providers, passwords) is an error
 * that says so. Strings belong to the arena. */
#ifndef FL_CMD_CONFIG_H
#define FL_CMD_CONFIG_H

#include "cmd/options.h"
#include "lib/error.h"

struct fl_config {
    const char *path; /* the file it was read from */
    const char *server, *ns;
    const char *ca_file, *ca_pem;
    const char *cert_file, *cert_pem, *key_file, *key_pem;
    const char *token; /* never printed */
    bool insecure;
};

/* `path` names the file in errors, and files it mentions are relative to its folder. `context`
 * NULL: the current one. */
int fl_config_parse(struct fl_arena *arena, const char *text, size_t len, const char *path,
                    const char *context, struct fl_config *ret_config, struct fl_error *err);

/* Finds the file: --kubeconfig; --data-dir; the first of $KUBECONFIG that is there; the default
 * data directory's; ~/.kube/config. */
int fl_config_load(struct fl_arena *arena, const struct fl_client_flags *flags,
                   struct fl_config *ret_config, struct fl_error *err);

#endif
