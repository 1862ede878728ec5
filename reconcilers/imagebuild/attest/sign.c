#include "reconcilers/imagebuild/attest/sign.h"

#include "lib/digest.h"
#include "lib/file.h"
#include "lib/str.h"

#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#define FILE_MAX    ((size_t)4096)
#define TEXT_MAX    256
#define SIMPLE_TYPE "cosign container image signature"

/* What stands before the bytes of a key in its DER form (RFC 8410): version, algorithm, lengths. */
static const unsigned char secret_head[] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                            0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};
static const unsigned char public_head[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                            0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

#define KEY_BYTES   ((size_t)32)
#define DER_MAX     (sizeof(secret_head) + KEY_BYTES)
#define BASE64_SIZE sodium_base64_ENCODED_LEN(DER_MAX, sodium_base64_VARIANT_ORIGINAL)

void fl_signing_key_wipe(struct fl_signing_key *key)
{
    sodium_memzero(key, sizeof(*key));
}

/* --- PEM --- */

static void write_pem(const char *label, const unsigned char *head, size_t head_len,
                      const unsigned char *bytes, char *text, size_t size)
{
    unsigned char der[DER_MAX];
    char base64[BASE64_SIZE];

    memcpy(der, head, head_len);
    memcpy(der + head_len, bytes, KEY_BYTES);
    (void)sodium_bin2base64(base64, sizeof(base64), der, head_len + KEY_BYTES,
                            sodium_base64_VARIANT_ORIGINAL);
    (void)snprintf(text, size, "-----BEGIN %s-----\n%s\n-----END %s-----\n", label, base64, label);
    sodium_memzero(der, sizeof(der));
    sodium_memzero(base64, sizeof(base64));
}

static int read_pem(const char *label, const unsigned char *head, size_t head_len, const char *text,
                    unsigned char bytes[KEY_BYTES], struct fl_error *err)
{
    char begin[64], end[64];
    unsigned char der[DER_MAX];
    const char *from, *to;
    size_t got = 0;
    int r = -1;

    (void)snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    (void)snprintf(end, sizeof(end), "-----END %s-----", label);
    from = strstr(text, begin);
    to = from ? strstr(from, end) : NULL;
    if (to) {
        from += strlen(begin);
        r = sodium_base642bin(der, head_len + KEY_BYTES, from, (size_t)(to - from), " \r\n", &got,
                              NULL, sodium_base64_VARIANT_ORIGINAL);
    }
    if (r == 0 && got == head_len + KEY_BYTES && memcmp(der, head, head_len) == 0)
        memcpy(bytes, der + head_len, KEY_BYTES);
    else
        r = fl_error_set(err, FL_E_INVALID, "it is no Ed25519 key in PEM (%s)", label);
    sodium_memzero(der, sizeof(der));
    return r;
}

void fl_public_key_text(const struct fl_public_key *key, char text[FL_PUBLIC_KEY_TEXT_SIZE])
{
    write_pem("PUBLIC KEY", public_head, sizeof(public_head), key->bytes, text,
              FL_PUBLIC_KEY_TEXT_SIZE);
}

int fl_public_key_parse(const char *text, struct fl_public_key *ret_key, struct fl_error *err)
{
    return read_pem("PUBLIC KEY", public_head, sizeof(public_head), text, ret_key->bytes, err);
}

const char *fl_public_key_id(const struct fl_public_key *key, struct fl_arena *arena)
{
    unsigned char der[sizeof(public_head) + KEY_BYTES];
    char digest[FL_DIGEST_SIZE];

    memcpy(der, public_head, sizeof(public_head));
    memcpy(der + sizeof(public_head), key->bytes, KEY_BYTES);
    fl_digest_of(der, sizeof(der), digest);
    return fl_arena_strdup(arena, digest);
}

/* --- the key's files --- */

static void from_seed(const unsigned char seed[KEY_BYTES], struct fl_signing_key *ret_key)
{
    (void)crypto_sign_seed_keypair(ret_key->public_key.bytes, ret_key->secret, seed);
}

int fl_signing_key_load(const char *path, struct fl_signing_key *ret_key, struct fl_error *err)
{
    struct fl_bytes *text = NULL;
    unsigned char seed[KEY_BYTES];
    int r = fl_file_read(path, FILE_MAX, &text, err);

    if (r < 0)
        return r;
    r = sodium_init() < 0
            ? fl_error_set(err, FL_E_INTERNAL, "libsodium cannot be used")
            : read_pem("PRIVATE KEY", secret_head, sizeof(secret_head), text->data, seed, err);
    sodium_memzero(text->data, text->len);
    fl_bytes_unref(text);
    if (r < 0)
        return fl_error_wrap(err, "%s", path);
    from_seed(seed, ret_key);
    sodium_memzero(seed, sizeof(seed));
    return 0;
}

static int make_key(const char *path, struct fl_signing_key *ret_key, struct fl_error *err)
{
    unsigned char seed[KEY_BYTES];
    char text[TEXT_MAX];
    int r;

    (void)crypto_sign_keypair(ret_key->public_key.bytes, ret_key->secret);
    (void)crypto_sign_ed25519_sk_to_seed(seed, ret_key->secret);
    write_pem("PRIVATE KEY", secret_head, sizeof(secret_head), seed, text, sizeof(text));
    r = fl_file_write(path, text, strlen(text), 0600, err);
    sodium_memzero(text, sizeof(text));
    sodium_memzero(seed, sizeof(seed));
    return r;
}

/* The public half is written again where it is missing: it follows from the secret one. */
static int write_public(const char *path, const struct fl_public_key *key, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *there = NULL;
    char text[FL_PUBLIC_KEY_TEXT_SIZE];

    fl_public_key_text(key, text);
    if (fl_file_read(path, FILE_MAX, &there, NULL) == 0 && fl_streq(there->data, text))
        return 0;
    return fl_file_write(path, text, strlen(text), 0644, err);
}

int fl_signing_key_ensure(const char *data_dir, struct fl_signing_key *ret_key,
                          struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/signing.key", data_dir);
    FL_CLEANUP(fl_freep) char *public_path = fl_asprintf("%s/signing.pub", data_dir);
    int r = fl_signing_key_load(path, ret_key, err);

    if (r == FL_E_NOT_FOUND)
        r = sodium_init() < 0 ? fl_error_set(err, FL_E_INTERNAL, "libsodium cannot be used")
                              : make_key(path, ret_key, err);
    return r < 0 ? r : write_public(public_path, &ret_key->public_key, err);
}

/* --- signatures --- */

const char *fl_sign_text(const struct fl_signing_key *key, const void *data, size_t len,
                         struct fl_arena *arena)
{
    unsigned char signature[FL_SIGNATURE_BYTES];

    (void)crypto_sign_detached(signature, NULL, data, len, key->secret);
    return fl_base64_encode(arena, signature, sizeof(signature));
}

bool fl_signature_is_good(const struct fl_public_key *key, const void *data, size_t len,
                          const char *base64)
{
    unsigned char signature[FL_SIGNATURE_BYTES];
    size_t got = 0;

    return base64 && strlen(base64) <= TEXT_MAX &&
           sodium_base642bin(signature, sizeof(signature), base64, strlen(base64), NULL, &got, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           got == sizeof(signature) &&
           crypto_sign_verify_detached(signature, data, len, key->bytes) == 0;
}

/* --- DSSE --- */

/* Length before each part: what is signed can be read in one way only. */
static void pre_auth(struct fl_buf *buf, const char *type, const void *payload, size_t len)
{
    fl_buf_printf(buf, "DSSEv1 %zu %s %zu ", strlen(type), type, len);
    fl_buf_append(buf, payload, len);
}

json_t *fl_dsse_sign(const struct fl_signing_key *key, const char *payload_type,
                     const struct fl_bytes *payload, struct fl_arena *arena)
{
    struct fl_buf words;
    json_t *envelope;

    fl_buf_init(&words, 0);
    pre_auth(&words, payload_type, payload->data, payload->len);
    envelope =
        json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "payload",
                  fl_base64_encode(arena, payload->data, payload->len), "payloadType", payload_type,
                  "signatures", "keyid", fl_public_key_id(&key->public_key, arena), "sig",
                  fl_sign_text(key, words.data, words.len, arena));
    fl_buf_finish(&words);
    return envelope;
}

static bool any_is_good(const struct fl_public_key *key, const json_t *signatures,
                        const struct fl_buf *words)
{
    const json_t *item;
    size_t i;

    json_array_foreach(signatures, i, item) {
        if (i == FL_ENVELOPE_SIGNATURES)
            return false;
        if (fl_signature_is_good(key, words->data, words->len, fl_json_str(item, "sig")))
            return true;
    }
    return false;
}

int fl_dsse_open(const struct fl_public_key *key, const char *payload_type, const char *text,
                 size_t len, struct fl_arena *arena, const char **ret_payload, size_t *ret_len,
                 struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_ENVELOPE_MAX, .max_depth = 8};
    FL_JSON value = NULL;
    const char *base64;
    struct fl_buf words;
    char *payload;
    bool good;
    int r = fl_json_parse(text, len, &limits, NULL, NULL, &value, err);

    if (r < 0)
        return fl_error_set(err, FL_E_INVALID, "the envelope is no JSON");
    base64 = fl_json_str(value, "payload");
    if (!base64 || !fl_streq(fl_json_str(value, "payloadType"), payload_type) ||
        !fl_base64_decode(arena, base64, strlen(base64), &payload, ret_len))
        return fl_error_set(err, FL_E_INVALID, "it is no envelope of %s", payload_type);
    fl_buf_init(&words, 0);
    pre_auth(&words, payload_type, payload, *ret_len);
    good = any_is_good(key, json_object_get(value, "signatures"), &words);
    fl_buf_finish(&words);
    if (!good)
        return fl_error_set(err, FL_E_INVALID, "the envelope is not signed with this key");
    *ret_payload = payload;
    return 0;
}

/* --- simple signing --- */

struct fl_bytes *fl_simple_signing(const char *name, const char *digest)
{
    FL_JSON value =
        json_pack("{s:{s:{s:s}, s:{s:s}, s:s}, s:n}", "critical", "identity", "docker-reference",
                  name, "image", "docker-manifest-digest", digest, "type", SIMPLE_TYPE, "optional");

    return fl_json_to_bytes(value);
}

int fl_simple_signing_check(const char *text, size_t len, const char *digest, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_ENVELOPE_MAX, .max_depth = 8};
    FL_JSON value = NULL;

    if (fl_json_parse(text, len, &limits, NULL, NULL, &value, NULL) < 0 ||
        !fl_streq(fl_json_str(value, "critical.type"), SIMPLE_TYPE))
        return fl_error_set(err, FL_E_INVALID, "it is no signature of an image");
    if (!fl_streq(fl_json_str(value, "critical.image.docker-manifest-digest"), digest))
        return fl_error_set(err, FL_E_INVALID, "it signs another image");
    return 0;
}
