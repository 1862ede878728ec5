/* Encryption at rest: XChaCha20-Poly1305 with a random nonce, bound to what the record is (its
 * operation, key and revision), so that neither another object's nor an older content passes as
 * this one.
 *
 *     byte 0: 1, the form; 24 bytes nonce; ciphertext; 16 bytes tag
 *
 * No JSON begins with byte 1, so a sealed record is told from a plain one. */
#include "controller/store/store_internal.h"

#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#define FORM        1
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES   crypto_aead_xchacha20poly1305_ietf_ABYTES
#define HEAD_BYTES  (1 + NONCE_BYTES)

bool fl_seal_applies(const struct fl_store *store, const char *resource)
{
    return store->options.sealed && store->options.sealed(resource);
}

/* Each part ends with a NUL, which none contains. */
static struct fl_bytes *bound_to(const struct fl_store_record *record)
{
    struct fl_buf buf;
    struct fl_bytes *bytes;

    fl_buf_init(&buf, 0);
    fl_buf_printf(&buf, "%d %" PRIu64, (int)record->op, record->revision);
    fl_buf_putc(&buf, '\0');
    fl_buf_append(&buf, record->resource, strlen(record->resource) + 1);
    fl_buf_append(&buf, record->ns, strlen(record->ns) + 1);
    fl_buf_append(&buf, record->name, strlen(record->name) + 1);
    bytes = fl_buf_to_bytes(&buf);
    fl_buf_finish(&buf);
    return bytes;
}

struct fl_bytes *fl_seal(const struct fl_store *store, const struct fl_store_record *plain)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bound = bound_to(plain);
    struct fl_bytes *sealed = fl_bytes_new(NULL, HEAD_BYTES + plain->len + TAG_BYTES);
    unsigned char *out = (unsigned char *)sealed->data;

    out[0] = FORM;
    store->options.env->random(store->options.env->user, out + 1, NONCE_BYTES);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(out + HEAD_BYTES, NULL, plain->data,
                                                     plain->len, (const unsigned char *)bound->data,
                                                     bound->len, NULL, out + 1, store->seal_key);
    return sealed;
}

static int decrypt(const struct fl_store *store, const struct fl_store_record *sealed,
                   struct fl_bytes **ret_plain)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bound = bound_to(sealed);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *plain = NULL;
    const unsigned char *in = sealed->data;

    if (sealed->len < HEAD_BYTES + TAG_BYTES)
        return -1;
    plain = fl_bytes_new(NULL, sealed->len - HEAD_BYTES - TAG_BYTES);
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(
            (unsigned char *)plain->data, NULL, NULL, in + HEAD_BYTES, sealed->len - HEAD_BYTES,
            (const unsigned char *)bound->data, bound->len, in + 1, store->seal_key) != 0)
        return -1;
    *ret_plain = FL_TAKE(plain);
    return 0;
}

/* A plain record where a sealed one belongs is refused: whoever can write the file could put it
 * there. A sealed one of a resource that no longer is so is read, where there is a key. */
int fl_unseal(const struct fl_store *store, const struct fl_store_record *record,
              struct fl_bytes **ret_plain, struct fl_error *err)
{
    bool is_sealed = record->len > 0 && *(const unsigned char *)record->data == FORM;

    if (!is_sealed && !fl_seal_applies(store, record->resource)) {
        *ret_plain = fl_bytes_new(record->data, record->len);
        return 0;
    }
    if (!is_sealed)
        return fl_error_set(err, FL_E_INTERNAL, "%s %s/%s is not encrypted", record->resource,
                            record->ns, record->name);
    if (!store->seal_key)
        return fl_error_set(err, FL_E_INTERNAL, "%s %s/%s is encrypted and there is no key",
                            record->resource, record->ns, record->name);
    if (decrypt(store, record, ret_plain) < 0)
        return fl_error_set(err, FL_E_INTERNAL,
                            "%s %s/%s cannot be decrypted: another key, or changed content",
                            record->resource, record->ns, record->name);
    return 0;
}
