/* What the commands of `flops image` share: where an image is, and how it is brought elsewhere.
 * All is in the arena. */
#ifndef FL_CMD_IMAGE_H
#define FL_CMD_IMAGE_H

#include "cmd/client.h"
#include "cmd/login.h"
#include "cmd/options.h"
#include "lib/oci/registry.h"

struct fl_image_command {
    const char *command; /* "image pull", for messages */
    struct fl_arena *arena;
    struct fl_client_flags flags;
    struct fl_words words;
    struct fl_env env;
    const char *ca_file, *token_host, *username;
    bool plain_http, insecure, password_stdin;
    int64_t timeout_ms;   /* 0: the registry client's own */
    const char *password; /* from standard input; never printed */
};

#define FL_IMAGE_HELP                                                                              \
    "\nIMAGE is [HOST[:PORT]/]NAME[:TAG][@DIGEST]. Without a host it is in the registry of the "   \
    "control\nplane; without a tag, :latest is meant.\n"                                           \
    "\n      --timeout D         for each way of an image (default 30m)\n"                         \
    "\nOther registries:\n"                                                                        \
    "      --plain-http        without encryption\n"                                               \
    "      --ca FILE           PEM of the authorities to trust, in place of the system's\n"        \
    "      --insecure          do not check its certificate\n"                                     \
    "      --username NAME     default: what docker, podman or skopeo logged in with\n"            \
    "      --password-stdin    read the password from standard input\n"                            \
    "      --token-host HOST   another host that may be given the password, where its tokens "     \
    "come\n                          from there\n"

/* < 0: go on; otherwise the exit status. */
int fl_image_parse(struct fl_image_command *image, const char *usage, const struct fl_option *more,
                   size_t more_count, int argc, char **argv);
/* A reference with a tag, if it has neither tag nor digest. */
int fl_image_reference(struct fl_image_command *image, const char *text,
                       struct fl_image_reference *ret_reference, struct fl_error *err);
/* The registry where it is, which ends with the arena. */
int fl_image_registry(struct fl_image_command *image, const struct fl_image_reference *reference,
                      struct fl_registry **ret_registry, struct fl_error *err);
int fl_image_fail(const struct fl_image_command *image, const struct fl_error *err);

int fl_image_pull(struct fl_image_command *image, int argc, char **argv);
int fl_image_push(struct fl_image_command *image, int argc, char **argv);
int fl_image_copy(struct fl_image_command *image, int argc, char **argv);
int fl_image_save(struct fl_image_command *image, int argc, char **argv);
int fl_image_load(struct fl_image_command *image, int argc, char **argv);
int fl_image_inspect(struct fl_image_command *image, int argc, char **argv);
int fl_image_verify(struct fl_image_command *image, int argc, char **argv);
int fl_image_list(struct fl_image_command *image, int argc, char **argv);

#endif
