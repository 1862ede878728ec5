/* Ed25519 signatures (libsodium) over what is attached to images, in the two forms that others
 * check: DSSE envelopes, and cosign's "simple signing" payloads.
 *
 * The control plane's key is DATA/signing.key (PKCS #8 PEM, 0600), made at the first start as the
 * other keys in that folder are; DATA/signing.pub is its public half (PEM), which is for everybody.
 * Keys are the caller's structs: a secret one is wiped with fl_signing_key_wipe. What is verified
 * comes from strangers, and is bounded and read strictly. Any thread. */
#ifndef FL_RECONCILERS_SIGN_H
#define FL_RECONCILERS_SIGN_H

#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#define FL_SIGNATURE_BYTES      64
#define FL_SIGNING_CONFIG_MAP   "flops-signing-key" /* in namespace flops-system */
#define FL_SIGNING_CONFIG_KEY   "public.pem"
#define FL_ENVELOPE_MAX         ((size_t)4 * 1024 * 1024)
#define FL_ENVELOPE_SIGNATURES  16
#define FL_PUBLIC_KEY_TEXT_SIZE 128

struct fl_public_key {
    unsigned char bytes[32];
};
struct fl_signing_key {
    unsigned char secret[64];
    struct fl_public_key public_key;
};
void fl_signing_key_wipe(struct fl_signing_key *key);

/* Reads DATA/signing.key, making both files where it is missing. */
int fl_signing_key_ensure(const char *data_dir, struct fl_signing_key *ret_key,
                          struct fl_error *err);
int fl_signing_key_load(const char *path, struct fl_signing_key *ret_key, struct fl_error *err);
/* PEM. INVALID where it is no Ed25519 key. */
void fl_public_key_text(const struct fl_public_key *key, char text[FL_PUBLIC_KEY_TEXT_SIZE]);
int fl_public_key_parse(const char *text, struct fl_public_key *ret_key, struct fl_error *err);
/* "sha256:…" of the key as others count it (its DER form). In the arena. */
const char *fl_public_key_id(const struct fl_public_key *key, struct fl_arena *arena);

/* base64, in the arena. */
const char *fl_sign_text(const struct fl_signing_key *key, const void *data, size_t len,
                         struct fl_arena *arena);
bool fl_signature_is_good(const struct fl_public_key *key, const void *data, size_t len,
                          const char *base64);

/* {"payload", "payloadType", "signatures": [{"keyid", "sig"}]} over "DSSEv1 LEN TYPE LEN PAYLOAD".
 */
json_t *fl_dsse_sign(const struct fl_signing_key *key, const char *payload_type,
                     const struct fl_bytes *payload, struct fl_arena *arena);
/* The payload, when the key has signed it as `payload_type`. INVALID otherwise. In the arena. */
int fl_dsse_open(const struct fl_public_key *key, const char *payload_type, const char *text,
                 size_t len, struct fl_arena *arena, const char **ret_payload, size_t *ret_len,
                 struct fl_error *err);

/* {"critical": {"identity", "image", "type"}, "optional": null}. The caller owns it. */
struct fl_bytes *fl_simple_signing(const char *name, const char *digest);
/* Whether it is such a text, over `digest`. INVALID. */
int fl_simple_signing_check(const char *text, size_t len, const char *digest, struct fl_error *err);

#endif
