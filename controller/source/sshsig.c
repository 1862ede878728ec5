#include "controller/source/sshsig.h"

#include "lib/buf.h"
#include "lib/str.h"

#include <sodium.h>

#define END      "-----END SSH SIGNATURE-----"
#define MAGIC    "SSHSIG"
#define KEY_TYPE "ssh-ed25519"

/* A view of bytes that are still to be read: 32-bit lengths, big-endian, before each text. */
struct wire {
    const unsigned char *data;
    size_t len;
};

static bool take_uint32(struct wire *wire, uint32_t *ret_value)
{
    const unsigned char *d = wire->data;

    if (wire->len < 4)
        return false;
    *ret_value = (uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | (uint32_t)d[3];
    wire->data += 4;
    wire->len -= 4;
    return true;
}

static bool take_bytes(struct wire *wire, struct wire *ret_bytes)
{
    struct wire rest = *wire;
    uint32_t len;

    if (!take_uint32(&rest, &len) || len > rest.len)
        return false;
    *ret_bytes = (struct wire){rest.data, len};
    *wire = (struct wire){rest.data + len, rest.len - len};
    return true;
}

static bool is_text(const struct wire *wire, const char *text)
{
    return wire->len == strlen(text) && memcmp(wire->data, text, wire->len) == 0;
}

/* "ssh-ed25519" and as many bytes as `size`, nothing behind: a public key, or a signature. */
static bool take_ed25519(struct wire *wire, size_t size, unsigned char *ret_bytes, bool *ret_other)
{
    struct wire outer, type, bytes;

    *ret_other = false;
    if (!take_bytes(wire, &outer) || !take_bytes(&outer, &type))
        return false;
    *ret_other = !is_text(&type, KEY_TYPE);
    if (*ret_other || !take_bytes(&outer, &bytes) || bytes.len != size || outer.len != 0)
        return false;
    memcpy(ret_bytes, bytes.data, size);
    return true;
}

#define refuse(err, why) fl_error_set(err, FL_E_FORBIDDEN, "%s", why)

static int parse_blob(struct wire wire, struct fl_arena *arena, struct fl_sshsig *signature,
                      struct fl_error *err)
{
    struct wire ns, reserved, hash;
    uint32_t version;
    bool other;

    if (wire.len < strlen(MAGIC) || memcmp(wire.data, MAGIC, strlen(MAGIC)) != 0)
        return refuse(err, "the SSH signature is damaged");
    wire.data += strlen(MAGIC);
    wire.len -= strlen(MAGIC);
    if (!take_uint32(&wire, &version) || version != 1)
        return refuse(err, "the SSH signature is damaged, or of a version other than 1");
    if (!take_ed25519(&wire, sizeof(signature->key), signature->key, &other))
        return refuse(err, other ? "signed with a key that is not Ed25519"
                                 : "the SSH signature is damaged");
    if (!take_bytes(&wire, &ns) || !take_bytes(&wire, &reserved) || !take_bytes(&wire, &hash) ||
        !take_ed25519(&wire, sizeof(signature->signature), signature->signature, &other) ||
        wire.len != 0)
        return refuse(err, "the SSH signature is damaged");
    if (memchr(ns.data, '\0', ns.len) || (!is_text(&hash, "sha256") && !is_text(&hash, "sha512")))
        return refuse(err, "the SSH signature is damaged, or its hash is not sha256 or sha512");
    signature->ns = fl_arena_strndup(arena, (const char *)ns.data, ns.len);
    signature->hash = is_text(&hash, "sha256") ? "sha256" : "sha512";
    return 0;
}

/* What stands between the lines of begin and end, blanks around it aside. */
static int unwrap(const char *text, size_t len, const char **ret_base64, size_t *ret_len,
                  struct fl_error *err)
{
    const char *begin = text, *end;
    size_t head = strlen(FL_SSHSIG_BEGIN);

    if (len > FL_SSHSIG_TEXT_MAX)
        return refuse(err, "the signature is too long");
    if (memmem(text, len, "-----BEGIN PGP", 14))
        return refuse(err, "signed with GPG, which is not supported: sign with an SSH key");
    if (memmem(text, len, "-----BEGIN SIGNED MESSAGE", 25))
        return refuse(err, "signed with X.509, which is not supported: sign with an SSH key");
    if (len < head || memcmp(begin, FL_SSHSIG_BEGIN, head) != 0)
        return refuse(err, "the signature is not one of SSH");
    begin += head;
    end = memmem(begin, len - head, END, strlen(END));
    if (!end)
        return refuse(err, "the SSH signature is cut off");
    for (const char *c = end + strlen(END); c < text + len; c++)
        if (*c != '\n')
            return refuse(err, "something stands behind the SSH signature");
    *ret_base64 = begin;
    *ret_len = (size_t)(end - begin);
    return 0;
}

int fl_sshsig_parse(const char *text, size_t len, struct fl_arena *arena,
                    struct fl_sshsig *ret_signature, struct fl_error *err)
{
    struct fl_sshsig signature = {.ns = ""};
    const char *base64;
    size_t base64_len, blob_len;
    char *blob;
    int r = unwrap(text, len, &base64, &base64_len, err);

    if (r < 0)
        return r;
    if (!fl_base64_decode(arena, base64, base64_len, &blob, &blob_len))
        return refuse(err, "the SSH signature is damaged");
    r = parse_blob((struct wire){(const unsigned char *)blob, blob_len}, arena, &signature, err);
    if (r == 0)
        *ret_signature = signature;
    return r;
}

/* The key of a line of a .pub file, and what stands behind it. */
static bool parse_key(const char *line, struct fl_arena *arena, struct wire *ret_blob,
                      unsigned char ret_key[32], const char **ret_comment)
{
    const char *base64 = line + strlen(KEY_TYPE " ");
    size_t len;
    char *blob;
    struct wire wire, type, key;

    if (!fl_str_has_prefix(line, KEY_TYPE " "))
        return false;
    len = strcspn(base64, " \t");
    if (!fl_base64_decode(arena, base64, len, &blob, &len))
        return false;
    *ret_blob = wire = (struct wire){(const unsigned char *)blob, len};
    if (!take_bytes(&wire, &type) || !is_text(&type, KEY_TYPE) || !take_bytes(&wire, &key) ||
        key.len != 32 || wire.len != 0)
        return false;
    memcpy(ret_key, key.data, 32);
    base64 += strcspn(base64, " \t");
    *ret_comment = base64 + strspn(base64, " \t");
    return true;
}

int fl_sshsig_check_key(const char *line, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    unsigned char key[32];
    struct wire blob;
    const char *comment;

    if (!parse_key(line, arena, &blob, key, &comment))
        return fl_error_set(err, FL_E_INVALID,
                            "\"%.80s\" is no key of the form \"" KEY_TYPE " AAAA… comment\"", line);
    return 0;
}

/* "SHA256:" and base64 without padding, as ssh-keygen -l prints it. */
static char *fingerprint(struct fl_arena *arena, struct wire blob)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    char *text;

    (void)crypto_hash_sha256(digest, blob.data, blob.len);
    text = fl_base64_encode(arena, digest, sizeof(digest));
    text[strcspn(text, "=")] = '\0';
    return fl_arena_printf(arena, "SHA256:%s", text);
}

static void put(struct fl_buf *buf, const void *data, size_t len)
{
    unsigned char head[4] = {(unsigned char)(len >> 24), (unsigned char)(len >> 16),
                             (unsigned char)(len >> 8), (unsigned char)len};

    fl_buf_append(buf, head, sizeof(head));
    fl_buf_append(buf, data, len);
}

/* What the key has really signed: the payload's hash among its circumstances. */
static bool is_signed(const struct fl_sshsig *signature, const void *payload, size_t len)
{
    unsigned char digest[crypto_hash_sha512_BYTES];
    bool short_hash = fl_streq(signature->hash, "sha256"), good;
    struct fl_buf buf;

    if (short_hash)
        (void)crypto_hash_sha256(digest, payload, len);
    else
        (void)crypto_hash_sha512(digest, payload, len);
    fl_buf_init(&buf, 0);
    fl_buf_append(&buf, MAGIC, strlen(MAGIC));
    put(&buf, signature->ns, strlen(signature->ns));
    put(&buf, "", 0);
    put(&buf, signature->hash, strlen(signature->hash));
    put(&buf, digest, short_hash ? crypto_hash_sha256_BYTES : crypto_hash_sha512_BYTES);
    good = crypto_sign_verify_detached(signature->signature, (const unsigned char *)buf.data,
                                       buf.len, signature->key) == 0;
    fl_buf_finish(&buf);
    return good;
}

/* The signer where the list has the key, or NULL. */
static const char *find_signer(const struct fl_sshsig *signature, const char *const *allowed,
                               size_t count, struct fl_arena *arena)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char key[32];
        struct wire blob;
        const char *comment, *print;

        if (!parse_key(allowed[i], arena, &blob, key, &comment) ||
            memcmp(key, signature->key, sizeof(key)) != 0)
            continue;
        print = fingerprint(arena, blob);
        return *comment ? fl_arena_printf(arena, "%s %s", print, comment) : print;
    }
    return NULL;
}

/* The fingerprint of a key that nobody has listed. */
static char *stranger(const struct fl_sshsig *signature, struct fl_arena *arena)
{
    struct fl_buf buf;
    char *print;

    fl_buf_init(&buf, 0);
    put(&buf, KEY_TYPE, strlen(KEY_TYPE));
    put(&buf, signature->key, sizeof(signature->key));
    print = fingerprint(arena, (struct wire){(const unsigned char *)buf.data, buf.len});
    fl_buf_finish(&buf);
    return print;
}

int fl_sshsig_verify(const char *text, size_t len, const void *payload, size_t payload_len,
                     const char *const *allowed, size_t allowed_count, struct fl_arena *arena,
                     const char **ret_signer, struct fl_error *err)
{
    struct fl_sshsig signature;
    const char *signer;
    int r = fl_sshsig_parse(text, len, arena, &signature, err);

    if (r < 0)
        return r;
    signer = find_signer(&signature, allowed, allowed_count, arena);
    if (!signer)
        return fl_error_set(err, FL_E_FORBIDDEN, "signed with %s, which is not an allowed signer",
                            stranger(&signature, arena));
    if (!fl_streq(signature.ns, FL_SSHSIG_NAMESPACE))
        return fl_error_set(err, FL_E_FORBIDDEN,
                            "signed for the namespace \"%.64s\", not for \"" FL_SSHSIG_NAMESPACE
                            "\"",
                            signature.ns);
    if (!is_signed(&signature, payload, payload_len))
        return fl_error_set(err, FL_E_FORBIDDEN, "the signature of %s is of other content", signer);
    *ret_signer = signer;
    return 0;
}
