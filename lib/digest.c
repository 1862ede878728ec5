#include "lib/digest.h"

#include "lib/str.h"

#include <assert.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <xxhash.h>

struct fl_sha256 {
    EVP_MD_CTX *context;
};

struct fl_hash {
    struct fl_sha256 *sha256; /* or */
    XXH3_state_t *xxh128;
};

#define PREFIX_LEN 7 /* of "sha256:" and "xxh128:" */

/* OpenSSL fails here for lack of memory only. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

struct fl_sha256 *fl_sha256_create(void)
{
    struct fl_sha256 *hash = fl_calloc(1, sizeof(*hash));

    hash->context = EVP_MD_CTX_new();
    must(hash->context != NULL);
    must(EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL));
    return hash;
}

void fl_sha256_destroy(struct fl_sha256 *hash)
{
    if (!hash)
        return;
    EVP_MD_CTX_free(hash->context);
    free(hash);
}

void fl_sha256_add(struct fl_sha256 *hash, const void *data, size_t len)
{
    must(EVP_DigestUpdate(hash->context, data, len));
}

void fl_sha256_end(struct fl_sha256 *hash, unsigned char out[FL_SHA256_SIZE])
{
    must(EVP_DigestFinal_ex(hash->context, out, NULL));
    must(EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL));
}

void fl_sha256_end_text(struct fl_sha256 *hash, char out[FL_DIGEST_SIZE])
{
    unsigned char bytes[FL_SHA256_SIZE];

    fl_sha256_end(hash, bytes);
    memcpy(out, "sha256:", sizeof("sha256:")); /* the NUL is written over */
    fl_hex_encode(bytes, sizeof(bytes), out + PREFIX_LEN);
}

void fl_digest_of(const void *data, size_t len, char out[FL_DIGEST_SIZE])
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();

    fl_sha256_add(hash, data, len);
    fl_sha256_end_text(hash, out);
}

static bool is_digest(const char *text, const char *prefix, size_t digits)
{
    return text && strncmp(text, prefix, PREFIX_LEN) == 0 &&
           strspn(text + PREFIX_LEN, "0123456789abcdef") == digits &&
           text[PREFIX_LEN + digits] == '\0';
}

bool fl_digest_is_valid(const char *text)
{
    return is_digest(text, "sha256:", (size_t)2 * FL_SHA256_SIZE);
}

enum fl_digest_kind fl_digest_kind(const char *text)
{
    if (fl_digest_is_valid(text))
        return FL_DIGEST_SHA256;
    return is_digest(text, "xxh128:", (size_t)2 * FL_XXH128_SIZE) ? FL_DIGEST_XXH128
                                                                  : FL_DIGEST_NONE;
}

const char *fl_digest_hex(const char *digest)
{
    return digest + PREFIX_LEN;
}

/* --- either kind --- */

struct fl_hash *fl_hash_create(enum fl_digest_kind kind)
{
    struct fl_hash *hash = fl_calloc(1, sizeof(*hash));

    assert(kind != FL_DIGEST_NONE);

    if (kind == FL_DIGEST_SHA256) {
        hash->sha256 = fl_sha256_create();
        return hash;
    }
    hash->xxh128 = XXH3_createState();
    must(hash->xxh128 != NULL);
    XXH3_128bits_reset(hash->xxh128);
    return hash;
}

void fl_hash_destroy(struct fl_hash *hash)
{
    if (!hash)
        return;
    fl_sha256_destroy(hash->sha256);
    XXH3_freeState(hash->xxh128);
    free(hash);
}

void fl_hash_add(struct fl_hash *hash, const void *data, size_t len)
{
    if (hash->sha256)
        fl_sha256_add(hash->sha256, data, len);
    else
        XXH3_128bits_update(hash->xxh128, data, len);
}

void fl_hash_end(struct fl_hash *hash, char out[FL_DIGEST_SIZE])
{
    XXH128_canonical_t bytes;

    if (hash->sha256) {
        fl_sha256_end_text(hash->sha256, out);
        return;
    }
    XXH128_canonicalFromHash(&bytes, XXH3_128bits_digest(hash->xxh128));
    XXH3_128bits_reset(hash->xxh128);
    fl_xxh128_text(bytes.digest, out);
}

void fl_xxh128_text(const unsigned char bytes[FL_XXH128_SIZE], char out[FL_DIGEST_SIZE])
{
    memcpy(out, "xxh128:", sizeof("xxh128:"));
    fl_hex_encode(bytes, FL_XXH128_SIZE, out + PREFIX_LEN);
}

bool fl_xxh128_bytes(const char *digest, unsigned char out[FL_XXH128_SIZE])
{
    return fl_digest_kind(digest) == FL_DIGEST_XXH128 &&
           sodium_hex2bin(out, FL_XXH128_SIZE, fl_digest_hex(digest), (size_t)2 * FL_XXH128_SIZE,
                          NULL, NULL, NULL) == 0;
}
