/* What `flops up` keeps in its data directory besides the store: a certificate authority, the
 * server's and the first administrator's certificates, the key that seals Secrets, and kubeconfigs.
 */
#ifndef FL_CMD_CREDENTIALS_H
#define FL_CMD_CREDENTIALS_H

#include "lib/env.h"
#include "lib/error.h"

#include <stddef.h>
#include <stdint.h>

struct fl_credentials {
    const char *data_dir;
    const char *ca_cert, *ca_key, *server_cert, *server_key, *token_file;
    unsigned char seal_key[32]; /* wipe after use */
};

#define FL_SANS_MAX 32

/* Makes what is missing. `names` are more DNS names and addresses for the server's certificate. */
int fl_credentials_ensure(const struct fl_env *env, struct fl_arena *arena, const char *data_dir,
                          const char *const *names, size_t name_count,
                          struct fl_credentials *ret_credentials, struct fl_error *err);

/* A kubeconfig with a new client certificate of the CA in the data directory, as text. */
int fl_kubeconfig_create(const struct fl_env *env, struct fl_arena *arena, const char *data_dir,
                         const char *server_url, const char *user, const char *const *groups,
                         size_t group_count, int64_t valid_seconds, char **ret_text,
                         struct fl_error *err);

/* A kubeconfig with a new bearer token, of which the hash is added to DATA_DIR/tokens: it holds
 * until that line is removed. */
int fl_kubeconfig_create_token(const struct fl_env *env, struct fl_arena *arena,
                               const char *data_dir, const char *server_url, const char *user,
                               const char *const *groups, size_t group_count, char **ret_text,
                               struct fl_error *err);

/* The administrator's kubeconfig in DATA_DIR/kubeconfig, renewed where its certificate is about to
 * end or the address changed. */
int fl_kubeconfig_ensure(const struct fl_env *env, struct fl_arena *arena, const char *data_dir,
                         const char *server_url, struct fl_error *err);

#endif
