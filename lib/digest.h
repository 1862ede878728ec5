/* Digests as content is named by, made piece by piece. One thread.
 *
 * "sha256:" and 64 hex digits (OpenSSL) names content for good: nobody can make other content of
 * that name. "xxh128:" and 32 (XXH3 with 128 bits, https://xxhash.com) is some ten times as fast
 * and tells apart what nobody forges: it finds damage, and names what passes between two of whom
 * the one takes the other's word for it. */
#ifndef FL_LIB_DIGEST_H
#define FL_LIB_DIGEST_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>

#define FL_SHA256_SIZE 32
#define FL_XXH128_SIZE 16
#define FL_DIGEST_SIZE 72 /* the longest text and its NUL */

struct fl_sha256;
struct fl_sha256 *fl_sha256_create(void);
void fl_sha256_destroy(struct fl_sha256 *hash);
FL_DEFINE_CLEANUP(struct fl_sha256, fl_sha256_destroy)
void fl_sha256_add(struct fl_sha256 *hash, const void *data, size_t len);
/* Ends it; then it begins anew. */
void fl_sha256_end(struct fl_sha256 *hash, unsigned char out[FL_SHA256_SIZE]);
void fl_sha256_end_text(struct fl_sha256 *hash, char out[FL_DIGEST_SIZE]);

void fl_digest_of(const void *data, size_t len, char out[FL_DIGEST_SIZE]); /* sha256 */
bool fl_digest_is_valid(const char *text);                                 /* sha256 */

/* Either kind. */
enum fl_digest_kind { FL_DIGEST_NONE, FL_DIGEST_SHA256, FL_DIGEST_XXH128 };
enum fl_digest_kind fl_digest_kind(const char *text); /* NONE: it is no digest */
const char *fl_digest_hex(const char *digest);        /* its digits */

struct fl_hash;
struct fl_hash *fl_hash_create(enum fl_digest_kind kind);
void fl_hash_destroy(struct fl_hash *hash);
FL_DEFINE_CLEANUP(struct fl_hash, fl_hash_destroy)
void fl_hash_add(struct fl_hash *hash, const void *data, size_t len);
void fl_hash_end(struct fl_hash *hash, char out[FL_DIGEST_SIZE]); /* then it begins anew */

/* An xxh128 as the bytes that it stands for, the highest first; false: it is none. */
bool fl_xxh128_bytes(const char *digest, unsigned char out[FL_XXH128_SIZE]);
void fl_xxh128_text(const unsigned char bytes[FL_XXH128_SIZE], char out[FL_DIGEST_SIZE]);

#endif
