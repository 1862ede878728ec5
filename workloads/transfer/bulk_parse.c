#include "workloads/transfer/bulk_parse.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DIGITS "0123456789"

/* A number of digits only, moving `*at` behind it. False where there is none, or it is too large.
 */
static bool take_number(const char **at, uint64_t *ret_number)
{
    size_t len = strspn(*at, DIGITS);
    char text[20];

    if (len == 0 || len >= sizeof(text))
        return false;
    memcpy(text, *at, len);
    text[len] = '\0';
    *at += len;
    return fl_str_to_uint64(text, INT64_MAX, ret_number);
}

/* --- digests of chunks --- */

/* Exactly `size` bytes as base64 with padding, of `len` characters. */
static bool decode(const char *text, size_t len, unsigned char *out, size_t size)
{
    size_t used = 0;

    return sodium_base642bin(out, size, text, len, NULL, &used, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           used == size;
}

/* "name=:base64:" */
static void format_member(const char *name, const unsigned char *bytes, size_t size,
                          char out[FL_BULK_CHECK_TEXT_SIZE])
{
    char text[sodium_base64_ENCODED_LEN(FL_SHA256_SIZE, sodium_base64_VARIANT_ORIGINAL)];

    assert(size <= FL_SHA256_SIZE);

    sodium_bin2base64(text, sizeof(text), bytes, size, sodium_base64_VARIANT_ORIGINAL);
    (void)snprintf(out, FL_BULK_CHECK_TEXT_SIZE, "%s=:%s:", name, text);
}

/* One member of the list: name=:base64: */
static int take_member(const char *at, size_t len, struct fl_bulk_check *check)
{
    static const struct {
        const char *prefix;
        enum fl_bulk_check_kind kind;
        size_t size;
    } known[] = {{"crc32c=:", FL_BULK_CHECK_CRC32C, 4},
                 {"sha-256=:", FL_BULK_CHECK_SHA256, FL_SHA256_SIZE}};

    for (size_t i = 0; i < FL_COUNT_OF(known); i++) {
        size_t prefix = strlen(known[i].prefix);
        unsigned char value[FL_SHA256_SIZE];

        if (len <= prefix || memcmp(at, known[i].prefix, prefix) != 0)
            continue;
        if (at[len - 1] != ':' || !decode(at + prefix, len - prefix - 1, value, known[i].size))
            return -1;
        if (known[i].kind > check->kind) {
            check->kind = known[i].kind;
            memcpy(check->value, value, known[i].size);
        }
    }
    return 0;
}

int fl_bulk_check_parse(const char *header, struct fl_bulk_check *ret_check, struct fl_error *err)
{
    struct fl_bulk_check check = {.kind = FL_BULK_CHECK_NONE};

    for (const char *at = fl_str_or(header, ""); *at; at += strcspn(at, ",")) {
        size_t len;

        at += strspn(at, " \t,");
        len = strcspn(at, ", \t");
        if (take_member(at, len, &check) < 0)
            return fl_error_set(err, FL_E_BAD_REQUEST, "Content-Digest is malformed");
    }
    if (check.kind == FL_BULK_CHECK_NONE)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "a chunk needs Content-Digest with crc32c or sha-256");
    *ret_check = check;
    return 0;
}

void fl_bulk_check_crc32c_text(uint32_t crc, char out[FL_BULK_CHECK_TEXT_SIZE])
{
    const unsigned char bytes[] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                   (unsigned char)(crc >> 8), (unsigned char)crc};

    format_member("crc32c", bytes, sizeof(bytes), out);
}

/* --- the digest of the whole, beside a model --- */

#define XXH128 "xxh128"

bool fl_bulk_whole_parse(const char *header, char out[FL_DIGEST_SIZE])
{
    const size_t prefix = strlen(XXH128 "=:");
    unsigned char bytes[FL_XXH128_SIZE];

    for (const char *at = header; *at; at += strcspn(at, ",")) {
        size_t len;

        at += strspn(at, " \t,");
        len = strcspn(at, ", \t");
        if (len <= prefix || memcmp(at, XXH128 "=:", prefix) != 0)
            continue;
        if (at[len - 1] != ':' || !decode(at + prefix, len - prefix - 1, bytes, sizeof(bytes)))
            return false;
        fl_xxh128_text(bytes, out);
        return true;
    }
    return false;
}

bool fl_bulk_whole_text(const char *digest, char out[FL_BULK_CHECK_TEXT_SIZE])
{
    unsigned char bytes[FL_XXH128_SIZE];

    if (!fl_xxh128_bytes(digest, bytes))
        return false;
    format_member(XXH128, bytes, sizeof(bytes), out);
    return true;
}

/* --- parameters --- */

static bool take_parameter(const char *name, const char *value, struct fl_bulk_put *put)
{
    int64_t *number = strcmp(name, "offset") == 0 ? &put->offset
                      : strcmp(name, "size") == 0 ? &put->size
                                                  : NULL;

    if (number)
        return *number < 0 && fl_str_to_int64(value, 0, INT64_MAX, number);
    if (strcmp(name, "digest") != 0 || *put->digest || fl_digest_kind(value) == FL_DIGEST_NONE)
        return false;
    memcpy(put->digest, value, strlen(value) + 1);
    return true;
}

int fl_bulk_put_parse(const char *query, struct fl_bulk_put *ret_put, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_bulk_put put = {.offset = -1, .size = -1};
    const char *rest = query;
    const char *item;

    while ((item = fl_str_next(arena, &rest, '&'))) {
        const char *equals = strchr(item, '=');
        char *name = equals ? fl_arena_strndup(arena, item, (size_t)(equals - item)) : NULL;
        char *value = equals ? fl_url_decode(arena, equals + 1, strlen(equals + 1), true) : NULL;

        if (!name || !value || !take_parameter(name, value, &put))
            return fl_error_set(err, FL_E_BAD_REQUEST, "parameter \"%.80s\" is wrong", item);
    }
    if (put.offset < 0 || put.size < 0 || !*put.digest)
        return fl_error_set(err, FL_E_BAD_REQUEST, "offset, size and digest are required");
    if (put.offset > put.size)
        return fl_error_set(err, FL_E_BAD_REQUEST, "the offset is beyond the size");
    *ret_put = put;
    return 0;
}

static bool key_is_valid(const char *key)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char)key[i] < ' ' || key[i] == 0x7F)
            return false;
    return len > 0 && len <= FL_BULK_KEY_MAX && fl_utf8_valid(key, len);
}

int fl_bulk_key_parse(struct fl_arena *arena, const char *text, const char **ret_key,
                      struct fl_error *err)
{
    const char *key = strlen(text) <= (size_t)3 * FL_BULK_KEY_MAX && !strchr(text, '/')
                          ? fl_url_decode(arena, text, strlen(text), false)
                          : NULL;

    if (!key || !key_is_valid(key))
        return fl_error_set(err, FL_E_BAD_REQUEST, "the name of the upload is malformed");
    *ret_key = key;
    return 0;
}

/* --- state files --- */

void fl_bulk_state_format(const struct fl_bulk_state *state, char out[FL_BULK_STATE_MAX + 1])
{
    (void)snprintf(out, FL_BULK_STATE_MAX + 1, "%019" PRId64 " %c %019" PRId64 " %s %s\n",
                   state->safe, state->complete ? 'C' : '-', state->size, state->digest,
                   state->key);
}

static bool take_fixed(const char **at, int64_t *ret_number)
{
    uint64_t number;

    if (strspn(*at, DIGITS) != 19 || !take_number(at, &number) || *(*at)++ != ' ')
        return false;
    *ret_number = (int64_t)number;
    return true;
}

bool fl_bulk_state_parse(const char *text, size_t len, struct fl_bulk_state *ret_state)
{
    struct fl_bulk_state state = {0};
    char line[FL_BULK_STATE_MAX + 1];
    const char *at = line;
    size_t digest;

    if (len == 0 || len > FL_BULK_STATE_MAX || text[len - 1] != '\n' || memchr(text, '\0', len))
        return false;
    memcpy(line, text, len);
    line[len - 1] = '\0';
    if (!take_fixed(&at, &state.safe) || (*at != 'C' && *at != '-') || at[1] != ' ')
        return false;
    state.complete = *at == 'C';
    at += 2;
    if (!take_fixed(&at, &state.size) || state.safe > state.size)
        return false;
    digest = strcspn(at, " ");
    if (digest >= FL_DIGEST_SIZE || at[digest] == '\0')
        return false;
    memcpy(state.digest, at, digest);
    at += digest + 1;
    if (fl_digest_kind(state.digest) == FL_DIGEST_NONE || !key_is_valid(at))
        return false;
    memcpy(state.key, at, strlen(at) + 1);
    *ret_state = state;
    return true;
}
