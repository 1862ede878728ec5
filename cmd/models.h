/* What the commands of `flops models` share. All is in the arena. */
#ifndef FL_CMD_MODELS_H
#define FL_CMD_MODELS_H

#include "cmd/discovery.h"
#include "lib/digest.h"

struct fl_models {
    const char *command; /* "models export", for messages */
    struct fl_arena *arena;
    struct fl_client_flags flags;
    struct fl_client *client;
    struct fl_words words;
};

#define FL_MODELS_REFERENCE_HELP                                                                   \
    "\nMODEL is the name of a ModelVersion, or PROJECT:ALIAS (mnist:best), or PROJECT:ROUND "      \
    "(mnist:3).\n"

extern const struct fl_api_resource fl_models_resource;

/* < 0: go on, connected; otherwise the exit status. */
int fl_models_open(struct fl_models *models, const char *usage, const struct fl_option *more,
                   size_t more_count, int argc, char **argv);
/* The ModelVersion that a reference means; in the arena. */
int fl_models_find(struct fl_models *models, const char *reference, json_t **ret_version,
                   struct fl_error *err);

/* Content. Brings it into a new file, checked, which is gone where that fails; a connection that
 * breaks is taken up again. `size` < 0: not known. Tells how far it is on standard error. */
int fl_models_fetch(struct fl_models *models, const char *digest, int64_t size, const char *path,
                    struct fl_error *err);
/* And the other way. `digest` receives its name. */
int fl_models_send(struct fl_models *models, const char *path, char digest[FL_DIGEST_SIZE],
                   struct fl_error *err);

int fl_models_export(struct fl_models *models, int argc, char **argv);

#endif
