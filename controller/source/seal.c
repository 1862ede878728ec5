#include "controller/source/seal.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/str.h"

#include <sodium.h>
#include <unistd.h>

#define VALUE_PREFIX "flops-sealed-v1:"
#define KEY_PREFIX   "flops-seal-key-v1:"
/* sealing.key: this line, then one of base64 for each secret key, the newest first. */
#define FILE_HEAD "flops-sealing-keys-v1\n"

#define PUBLIC_BYTES crypto_box_PUBLICKEYBYTES
#define SECRET_BYTES crypto_box_SECRETKEYBYTES
#define FILE_BYTES   ((size_t)64 * 1024)
#define BASE64_BYTES (sodium_base64_ENCODED_LEN(SECRET_BYTES, sodium_base64_VARIANT_ORIGINAL))

struct fl_seal_keys {
    size_t count;
    unsigned char public_keys[FL_SEAL_KEYS_MAX][PUBLIC_BYTES];
    unsigned char secret_keys[FL_SEAL_KEYS_MAX][SECRET_BYTES];
};

/* --- keys --- */

void fl_seal_keys_destroy(struct fl_seal_keys *keys)
{
    if (!keys)
        return;
    sodium_memzero(keys, sizeof(*keys));
    free(keys);
}

static int read_line(struct fl_seal_keys *keys, const char *line, size_t len, struct fl_error *err)
{
    size_t got = 0;

    if (keys->count == FL_SEAL_KEYS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d keys", FL_SEAL_KEYS_MAX);
    if (sodium_base642bin(keys->secret_keys[keys->count], SECRET_BYTES, line, len, NULL, &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        got != SECRET_BYTES ||
        crypto_scalarmult_base(keys->public_keys[keys->count], keys->secret_keys[keys->count]) != 0)
        return fl_error_set(err, FL_E_INVALID, "key %zu is damaged", keys->count + 1);
    keys->count++;
    return 0;
}

static int read_keys(struct fl_seal_keys *keys, const char *text, struct fl_error *err)
{
    int r = 0;

    if (!fl_str_has_prefix(text, FILE_HEAD))
        return fl_error_set(err, FL_E_INVALID, "it is no file of sealing keys");
    text += strlen(FILE_HEAD);
    while (r == 0 && *text) {
        size_t len = strcspn(text, "\n");

        r = read_line(keys, text, len, err);
        text += len + (text[len] == '\n');
    }
    if (r == 0 && keys->count == 0)
        return fl_error_set(err, FL_E_INVALID, "it has no key");
    return r;
}

static int load(const char *path, struct fl_seal_keys **ret_keys, struct fl_error *err)
{
    FL_CLEANUP(fl_seal_keys_destroyp) struct fl_seal_keys *keys = fl_calloc(1, sizeof(*keys));
    struct fl_bytes *text = NULL;
    int r = fl_file_read(path, FILE_BYTES, &text, err);

    if (r < 0)
        return r;
    r = read_keys(keys, text->data, err);
    sodium_memzero(text->data, text->len);
    fl_bytes_unref(text);
    if (r < 0)
        return fl_error_wrap(err, "%s", path);
    *ret_keys = FL_TAKE(keys);
    return 0;
}

static int save(const char *path, const struct fl_seal_keys *keys, struct fl_error *err)
{
    char text[sizeof(FILE_HEAD) + FL_SEAL_KEYS_MAX * BASE64_BYTES] = FILE_HEAD;
    size_t len = strlen(FILE_HEAD);
    int r;

    for (size_t i = 0; i < keys->count; i++) {
        (void)sodium_bin2base64(text + len, BASE64_BYTES, keys->secret_keys[i], SECRET_BYTES,
                                sodium_base64_VARIANT_ORIGINAL);
        len += BASE64_BYTES;
        text[len - 1] = '\n';
    }
    r = fl_file_write(path, text, len, 0600, err);
    sodium_memzero(text, sizeof(text));
    return r;
}

/* A fresh pair, in front. */
static void add_pair(struct fl_seal_keys *keys)
{
    size_t kept = keys->count < FL_SEAL_KEYS_MAX ? keys->count : FL_SEAL_KEYS_MAX - 1;

    memmove(keys->public_keys[1], keys->public_keys[0], kept * PUBLIC_BYTES);
    memmove(keys->secret_keys[1], keys->secret_keys[0], kept * SECRET_BYTES);
    (void)crypto_box_keypair(keys->public_keys[0], keys->secret_keys[0]);
    keys->count = kept + 1;
}

int fl_seal_keys_load(const char *data_dir, struct fl_seal_keys **ret_keys, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/sealing.key", data_dir);
    FL_CLEANUP(fl_seal_keys_destroyp) struct fl_seal_keys *keys = NULL;
    int r;

    if (sodium_init() < 0)
        return fl_error_set(err, FL_E_INTERNAL, "libsodium cannot be used");
    r = load(path, ret_keys, err);
    if (r != FL_E_NOT_FOUND)
        return r;
    keys = fl_calloc(1, sizeof(*keys));
    add_pair(keys);
    r = save(path, keys, err);
    if (r < 0)
        return r;
    *ret_keys = FL_TAKE(keys);
    return 0;
}

int fl_seal_keys_rotate(const char *data_dir, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/sealing.key", data_dir);
    FL_CLEANUP(fl_seal_keys_destroyp) struct fl_seal_keys *keys = NULL;
    int r = fl_seal_keys_load(data_dir, &keys, err);

    if (r < 0)
        return r;
    if (keys->count == FL_SEAL_KEYS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "%s: there are %d keys already; remove the last line once nothing "
                            "sealed to it is in use",
                            path, FL_SEAL_KEYS_MAX);
    add_pair(keys);
    return save(path, keys, err);
}

char *fl_seal_public_key(const struct fl_seal_keys *keys, struct fl_arena *arena)
{
    return fl_arena_printf(arena, KEY_PREFIX "%s",
                           fl_base64_encode(arena, keys->public_keys[0], PUBLIC_BYTES));
}

json_t *fl_seal_config_map(const struct fl_seal_keys *keys)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap",
                     "metadata", "name", FL_SEAL_CONFIG_MAP, "namespace", FL_SEAL_NAMESPACE, "data",
                     FL_SEAL_CONFIG_KEY, fl_seal_public_key(keys, arena));
}

/* A few points of the curve are no keys: libsodium seals nothing to them. */
static int read_public_key(const char *text, unsigned char out[PUBLIC_BYTES], struct fl_error *err)
{
    const char *base64 = text + strlen(KEY_PREFIX);
    unsigned char trial[crypto_box_SEALBYTES];
    size_t got = 0;

    if (!fl_str_has_prefix(text, KEY_PREFIX) ||
        sodium_base642bin(out, PUBLIC_BYTES, base64, strcspn(base64, "\n"), NULL, &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        got != PUBLIC_BYTES || crypto_box_seal(trial, NULL, 0, out) != 0)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "this is no public key of the form \"" KEY_PREFIX "…\"");
    return 0;
}

/* --- values --- */

/* Where a value belongs, and it behind: each part ends with a NUL, which no name contains. The
 * value is secret, so whoever asked wipes what they got. */
struct plain {
    unsigned char *data;
    size_t len, head;
};

static void plain_finish(struct plain *plain)
{
    if (plain->data)
        sodium_memzero(plain->data, plain->len);
    free(plain->data);
    *plain = (struct plain){0};
}

static void plain_head(struct plain *plain, const char *ns, const char *name, const char *key,
                       size_t value_len)
{
    const char *parts[] = {ns, name, key};

    plain->len = value_len;
    for (size_t i = 0; i < FL_COUNT_OF(parts); i++)
        plain->len += strlen(parts[i]) + 1;
    plain->data = fl_malloc(plain->len);
    plain->head = 0;
    for (size_t i = 0; i < FL_COUNT_OF(parts); i++) {
        memcpy(plain->data + plain->head, parts[i], strlen(parts[i]) + 1);
        plain->head += strlen(parts[i]) + 1;
    }
}

static void wipe_text(json_t *text)
{
    if (json_is_string(text))
        sodium_memzero((char *)json_string_value(text), json_string_length(text));
}

/* Base64 through libsodium, so that nothing of it is left in an arena. */
static json_t *base64_text(const char *prefix, const unsigned char *data, size_t len)
{
    size_t head = strlen(prefix),
           size = head + sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_ORIGINAL);
    char *text = fl_malloc(size);
    json_t *value;

    memcpy(text, prefix, head + 1);
    (void)sodium_bin2base64(text + head, size - head, data, len, sodium_base64_VARIANT_ORIGINAL);
    value = json_string(text);
    sodium_memzero(text, size);
    free(text);
    return value;
}

struct place {
    const char *ns, *name;
};

static json_t *seal_value(const unsigned char public_key[PUBLIC_BYTES], const struct place *place,
                          const char *key, const void *value, size_t len)
{
    struct plain plain = {0};
    unsigned char *box;
    json_t *text;

    plain_head(&plain, place->ns, place->name, key, len);
    if (len > 0)
        memcpy(plain.data + plain.head, value, len);
    box = fl_malloc(plain.len + crypto_box_SEALBYTES);
    (void)crypto_box_seal(box, plain.data, plain.len, public_key);
    text = base64_text(VALUE_PREFIX, box, plain.len + crypto_box_SEALBYTES);
    free(box);
    plain_finish(&plain);
    return text;
}

static bool is_sealed(const json_t *value)
{
    const char *text = json_string_value(value);

    return text && fl_str_has_prefix(text, VALUE_PREFIX);
}

/* --- a Secret --- */

/* What both ways ask of it. */
static int check_secret(const json_t *secret, struct place *place, const char *ns,
                        struct fl_error *err)
{
    const char *own = fl_json_str(secret, "metadata.namespace");

    if (!fl_streq(fl_json_str(secret, "kind"), "Secret") ||
        !fl_streq(fl_json_str(secret, "apiVersion"), "v1"))
        return fl_error_set(err, FL_E_INVALID, "this is no Secret of apiVersion v1");
    place->name = fl_json_str(secret, "metadata.name");
    if (!place->name || !*place->name)
        return fl_error_set(err, FL_E_INVALID, "the Secret has no name");
    if (own && ns && !fl_streq(own, ns))
        return fl_error_set(err, FL_E_INVALID, "Secret %s is in namespace %s, not in %s",
                            place->name, own, ns);
    place->ns = own ? own : ns;
    if (!place->ns || !*place->ns)
        return fl_error_set(err, FL_E_INVALID, "Secret %s: its namespace must be known",
                            place->name);
    return 0;
}

/* Texts only, and no more of them than a Secret may have. */
static int check_values(const json_t *values, const struct place *place, const char *field,
                        struct fl_error *err)
{
    const char *key;
    json_t *value;
    size_t bytes = 0;

    if (values && !json_is_object(values) && !json_is_null(values))
        return fl_error_set(err, FL_E_INVALID, "Secret %s: %s is no object", place->name, field);
    json_object_foreach((json_t *)values, key, value) {
        if (!json_is_string(value))
            return fl_error_set(err, FL_E_INVALID, "Secret %s: %s.%s is no text", place->name,
                                field, key);
        bytes += json_string_length(value);
    }
    if (bytes > FL_SEAL_BYTES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "Secret %s: more than %zu bytes in %s",
                            place->name, FL_SEAL_BYTES_MAX, field);
    return 0;
}

static int check(const json_t *secret, struct place *place, const char *ns, struct fl_error *err)
{
    int r = check_secret(secret, place, ns, err);

    if (r == 0)
        r = check_values(json_object_get(secret, "stringData"), place, "stringData", err);
    if (r == 0)
        r = check_values(json_object_get(secret, "data"), place, "data", err);
    return r;
}

static void seal_texts(const unsigned char public_key[PUBLIC_BYTES], const struct place *place,
                       json_t *texts)
{
    const char *key;
    json_t *value;
    void *next;

    json_object_foreach_safe(texts, next, key, value) {
        json_t *sealed;

        if (is_sealed(value))
            continue;
        sealed =
            seal_value(public_key, place, key, json_string_value(value), json_string_length(value));
        wipe_text(value);
        json_object_set_new(texts, key, sealed);
    }
}

/* Values of `data` move to stringData, where one of the same key wins, as on a server. */
static int seal_data(const unsigned char public_key[PUBLIC_BYTES], const struct place *place,
                     json_t *data, json_t *texts, struct fl_error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(data, key, value) {
        size_t len = json_string_length(value), got = 0;
        unsigned char *raw = fl_malloc(len + 1);
        bool good = sodium_base642bin(raw, len + 1, json_string_value(value), len, "\r\n", &got,
                                      NULL, sodium_base64_VARIANT_ORIGINAL) == 0;

        if (good && !json_object_get(texts, key))
            json_object_set_new(texts, key, seal_value(public_key, place, key, raw, got));
        sodium_memzero(raw, len + 1);
        free(raw);
        if (!good)
            return fl_error_set(err, FL_E_INVALID, "Secret %s: data.%s is no base64", place->name,
                                key);
    }
    json_object_foreach(data, key, value)
        wipe_text(value);
    return 0;
}

int fl_seal_secret(const char *public_key, json_t *secret, const char *ns, struct fl_error *err)
{
    unsigned char key[PUBLIC_BYTES];
    struct place place;
    json_t *texts;
    int r = read_public_key(public_key, key, err);

    if (r == 0)
        r = check(secret, &place, ns, err);
    if (r < 0)
        return r;
    texts = fl_json_ensure_object(secret, "stringData");
    r = seal_data(key, &place, json_object_get(secret, "data"), texts, err);
    if (r < 0)
        return r;
    (void)json_object_del(secret, "data");
    seal_texts(key, &place, texts);
    return 0;
}

bool fl_seal_is_sealed(const json_t *secret)
{
    const char *key;
    json_t *value;

    if (!fl_streq(fl_json_str(secret, "kind"), "Secret"))
        return false;
    json_object_foreach(json_object_get(secret, "stringData"), key, value)
        if (is_sealed(value))
            return true;
    return false;
}

/* --- opening --- */

static bool open_box(const struct fl_seal_keys *keys, const unsigned char *box, size_t len,
                     struct plain *plain)
{
    if (len < crypto_box_SEALBYTES)
        return false;
    plain->len = len - crypto_box_SEALBYTES;
    plain->data = fl_malloc(plain->len + 1);
    for (size_t i = 0; i < keys->count; i++)
        if (crypto_box_seal_open(plain->data, box, len, keys->public_keys[i],
                                 keys->secret_keys[i]) == 0)
            return true;
    return false;
}

static int open_value(const struct fl_seal_keys *keys, const struct place *place, const char *key,
                      const char *text, json_t **ret_value, struct fl_error *err)
{
    const char *base64 = text + strlen(VALUE_PREFIX);
    size_t len = strlen(base64), got = 0;
    FL_CLEANUP(fl_freep) unsigned char *box = fl_malloc(len + 1);
    FL_CLEANUP(plain_finish) struct plain plain = {0}, wanted = {0};
    bool belongs;

    if (sodium_base642bin(box, len + 1, base64, len, "\r\n ", &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        !open_box(keys, box, got, &plain))
        return fl_error_set(err, FL_E_FORBIDDEN,
                            "Secret %s/%s: %s was sealed to another key, or is damaged", place->ns,
                            place->name, key);
    plain_head(&wanted, place->ns, place->name, key, 0);
    belongs = plain.len >= wanted.len && memcmp(plain.data, wanted.data, wanted.len) == 0;
    if (belongs)
        *ret_value = base64_text("", plain.data + wanted.len, plain.len - wanted.len);
    if (!belongs)
        return fl_error_set(err, FL_E_FORBIDDEN,
                            "Secret %s/%s: %s was sealed for another namespace, name or key",
                            place->ns, place->name, key);
    return 0;
}

/* All are opened before any is put in place: a Secret is whole, or as it was. */
static int open_all(const struct fl_seal_keys *keys, const struct place *place, const json_t *texts,
                    json_t *opened, struct fl_error *err)
{
    const char *key;
    json_t *value, *plain = NULL;
    int r = 0;

    json_object_foreach((json_t *)texts, key, value) {
        if (!is_sealed(value))
            continue;
        r = open_value(keys, place, key, json_string_value(value), &plain, err);
        if (r < 0)
            return r;
        json_object_set_new(opened, key, plain);
    }
    return r;
}

static void wipe_all(json_t *values)
{
    const char *key;
    json_t *value;

    json_object_foreach(values, key, value)
        wipe_text(value);
}

int fl_seal_open(const struct fl_seal_keys *keys, json_t *secret, const char *ns,
                 struct fl_error *err)
{
    FL_JSON opened = json_object();
    json_t *texts = json_object_get(secret, "stringData"), *value;
    struct place place;
    const char *key;
    int r = check(secret, &place, ns, err);

    if (r == 0)
        r = open_all(keys, &place, texts, opened, err);
    if (r < 0) {
        wipe_all(opened);
        return r;
    }
    if (json_object_size(opened) == 0)
        return 0;
    json_object_foreach(opened, key, value) {
        (void)json_object_del(texts, key);
        (void)json_object_set(fl_json_ensure_object(secret, "data"), key, value);
    }
    if (json_object_size(texts) == 0)
        (void)json_object_del(secret, "stringData");
    return 0;
}
