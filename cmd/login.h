/* Where users of docker, podman and skopeo keep what they log in to registries with.
 *
 * Files are read, never written; programs that keep credentials are not asked: an error says so. */
#ifndef FL_CMD_LOGIN_H
#define FL_CMD_LOGIN_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stddef.h>

struct fl_login {
    const char *username, *password; /* both NULL: none is known; never printed */
};

/* The entry for "host/repository", or the longest part of it that has one. > 0: there is one.
 * `path` is for messages. */
int fl_login_parse(struct fl_arena *arena, const char *text, size_t len, const char *path,
                   const char *host, const char *repository, struct fl_login *ret_login,
                   struct fl_error *err);

/* $REGISTRY_AUTH_FILE alone where it is set; else $XDG_RUNTIME_DIR/containers/auth.json,
 * ~/.config/containers/auth.json, $DOCKER_CONFIG/config.json or ~/.docker/config.json. */
int fl_login_find(struct fl_arena *arena, const char *host, const char *repository,
                  struct fl_login *ret_login, struct fl_error *err);

#endif
