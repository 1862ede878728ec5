/* SSH signatures of Git commits and tags (the format of `ssh-keygen -Y sign`), checked against a
 * list of keys.
 *
 * Ed25519 only, namespace "git", sha256 or sha512. Reads what strangers sent; pure; any thread. */
#ifndef FL_CONTROLLER_SSHSIG_H
#define FL_CONTROLLER_SSHSIG_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stddef.h>

#define FL_SSHSIG_NAMESPACE "git"
#define FL_SSHSIG_BEGIN     "-----BEGIN SSH SIGNATURE-----"
#define FL_SSHSIG_TEXT_MAX  ((size_t)16 * 1024)

/* A signature taken apart; it points into the arena. */
struct fl_sshsig {
    unsigned char key[32], signature[64];
    const char *ns;
    const char *hash; /* "sha256" or "sha512" */
};

/* FORBIDDEN where the text is not such a signature; the message says what it is instead. */
int fl_sshsig_parse(const char *text, size_t len, struct fl_arena *arena,
                    struct fl_sshsig *ret_signature, struct fl_error *err);

/* FORBIDDEN unless `text` is a signature of `payload` by one of the `allowed` keys (lines of a .pub
 * file). *ret_signer is "SHA256:FINGERPRINT comment", the comment being that of the list. */
int fl_sshsig_verify(const char *text, size_t len, const void *payload, size_t payload_len,
                     const char *const *allowed, size_t allowed_count, struct fl_arena *arena,
                     const char **ret_signer, struct fl_error *err);

/* Whether a line is a key that may stand in such a list. */
int fl_sshsig_check_key(const char *line, struct fl_error *err);

#endif
