/* Sealed Secrets: values that only the controller can read, so that they can live in Git.
 *
 * `flops seal` takes a Secret manifest and writes it back with each value in stringData replaced by
 * "flops-sealed-v1:" and base64 of a libsodium sealed box (X25519, XSalsa20-Poly1305) to the
 * controller's public key, around namespace, name, key and value, so that a sealed value cannot be
 * moved to another place. Sources open them when they apply. Old key pairs stay readable. Any
 * thread. */
#ifndef FL_CONTROLLER_SEAL_H
#define FL_CONTROLLER_SEAL_H

#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>

#define FL_SEAL_KEYS_MAX  64
#define FL_SEAL_BYTES_MAX ((size_t)2 * 1024 * 1024) /* of a Secret's values, sealed or not */

/* Where a control plane shows its public key to everybody who may ask. */
#define FL_SEAL_NAMESPACE  "kube-public"
#define FL_SEAL_CONFIG_MAP "flops-sealing-key"
#define FL_SEAL_CONFIG_KEY "public-key"

struct fl_seal_keys; /* key pairs, the newest first; wiped when destroyed */

/* Reads DIR/sealing.key, making it (0600) with a fresh pair where it is missing. */
int fl_seal_keys_load(const char *data_dir, struct fl_seal_keys **ret_keys, struct fl_error *err);
void fl_seal_keys_destroy(struct fl_seal_keys *keys);
FL_DEFINE_CLEANUP(struct fl_seal_keys, fl_seal_keys_destroy)
/* Puts a fresh pair in front of those in the file; takes effect where they are loaded again. */
int fl_seal_keys_rotate(const char *data_dir, struct fl_error *err);
/* "flops-seal-key-v1:BASE64" of the newest. */
char *fl_seal_public_key(const struct fl_seal_keys *keys, struct fl_arena *arena);
/* The ConfigMap that shows it; the caller's. */
json_t *fl_seal_config_map(const struct fl_seal_keys *keys);

/* Seals all values (data and stringData) of a Secret that names itself; values that are sealed
 * already stay. `ns` is where it will be; NULL: it says so itself. INVALID for what is no Secret,
 * BAD_REQUEST for a bad key. In place; plain values are wiped. */
int fl_seal_secret(const char *public_key, json_t *secret, const char *ns, struct fl_error *err);
bool fl_seal_is_sealed(const json_t *secret);
/* Opens them, in place: they move to `data`, which binary values need. FORBIDDEN where one was not
 * made for this place or key, and all is as it was; the message names the key, never a value. `ns`
 * is where the Secret will be. */
int fl_seal_open(const struct fl_seal_keys *keys, json_t *secret, const char *ns,
                 struct fl_error *err);

#endif
