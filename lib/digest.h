/* SHA-256, piece by piece (OpenSSL), and digests as content is named by: "sha256:" and 64 hex
 * digits. One thread. */
#ifndef FL_LIB_DIGEST_H
#define FL_LIB_DIGEST_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>

#define FL_SHA256_SIZE 32
#define FL_DIGEST_SIZE 72 /* the text and its NUL */

struct fl_sha256;
struct fl_sha256 *fl_sha256_create(void);
void fl_sha256_destroy(struct fl_sha256 *hash);
FL_DEFINE_CLEANUP(struct fl_sha256, fl_sha256_destroy)
void fl_sha256_add(struct fl_sha256 *hash, const void *data, size_t len);
/* Ends it; then it begins anew. */
void fl_sha256_end(struct fl_sha256 *hash, unsigned char out[FL_SHA256_SIZE]);
void fl_sha256_end_text(struct fl_sha256 *hash, char out[FL_DIGEST_SIZE]);

void fl_digest_of(const void *data, size_t len, char out[FL_DIGEST_SIZE]);
bool fl_digest_is_valid(const char *text);

#endif
