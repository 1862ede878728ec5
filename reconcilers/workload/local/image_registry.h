/* Images from registries: the control plane's own one, and any other.
 *
 * A reference without a registry, or with the control plane's address, is its own one's, which is
 * asked with a token that opens that repository and nothing else. Others are asked with what a pull
 * secret says for them; without TLS only where the registry is on loopback. Any thread. */
#ifndef FL_RECONCILERS_IMAGE_REGISTRY_H
#define FL_RECONCILERS_IMAGE_REGISTRY_H

#include "reconcilers/workload/local/images.h"

struct fl_image_registries {
    const struct fl_env *env;
    const char *url; /* of the control plane: "https://127.0.0.1:6443"; NULL: it has no registry */
    const char *ca_pem; /* by which it is checked */
    /* A token for a repository of it, in the arena. */
    const char *(*token)(void *user, const char *repository, struct fl_arena *arena);
    void *user;
};
/* Lends them. */
struct fl_image_source fl_image_registries_source(struct fl_image_registries *registries);

#endif
