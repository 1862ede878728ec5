#include "lib/digest.h"

#include "lib/str.h"

#include <openssl/evp.h>

struct fl_sha256 {
    EVP_MD_CTX *context;
};

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
    fl_hex_encode(bytes, sizeof(bytes), out + 7);
}

void fl_digest_of(const void *data, size_t len, char out[FL_DIGEST_SIZE])
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();

    fl_sha256_add(hash, data, len);
    fl_sha256_end_text(hash, out);
}

bool fl_digest_is_valid(const char *text)
{
    if (!text || strncmp(text, "sha256:", 7) != 0)
        return false;
    return strspn(text + 7, "0123456789abcdef") == 64 && text[71] == '\0';
}
