#include "reconcilers/workload/oakestra/names.h"

#include "lib/digest.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

#define OURS      "fl"
#define DESC      "FLOps Workload "
#define WHO_CHARS 6
#define UID_CHARS (OAK_NAME_MAX - 2 - WHO_CHARS)

static bool is_letter_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool oak_name_is_valid(const char *name)
{
    size_t len = 0;

    if (!name)
        return false;
    for (; name[len]; len++)
        if (!is_letter_or_digit(name[len]) || len == OAK_NAME_MAX)
            return false;
    return len > 0;
}

/* Base 62 of a text's SHA-256: `count` characters carry count * 5.95 of its bits. */
static void spell(const char *text, size_t count, char *out)
{
    static const char alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    unsigned char digest[FL_SHA256_SIZE];

    fl_sha256_add(hash, text, strlen(text));
    fl_sha256_end(hash, digest);
    for (size_t at = 0; at < count; at++) {
        unsigned rest = 0;

        for (size_t i = 0; i < sizeof(digest); i++) {
            unsigned value = (rest << 8) | digest[i];

            digest[i] = (unsigned char)(value / 62);
            rest = value % 62;
        }
        out[at] = alphabet[rest];
    }
    out[count] = '\0';
}

void oak_prefix(const char *identity, const char *orchestrator, char out[OAK_PREFIX_SIZE])
{
    FL_CLEANUP(fl_freep) char *who = fl_asprintf("%s/%s", identity, orchestrator);
    char text[WHO_CHARS + 1];

    spell(who, WHO_CHARS, text);
    (void)snprintf(out, OAK_PREFIX_SIZE, OURS "%s", text);
}

void oak_app_name(const char *prefix, const char *uid, char out[OAK_NAME_SIZE])
{
    char text[UID_CHARS + 1];

    spell(uid, UID_CHARS, text);
    (void)snprintf(out, OAK_NAME_SIZE, "%.8s%s", prefix, text);
}

const char *oak_app_desc(struct fl_arena *arena, const char *uid)
{
    return fl_arena_printf(arena, DESC "%s", uid);
}

const char *oak_app_uid(struct fl_arena *arena, const char *prefix, const char *name,
                        const char *desc)
{
    char expected[OAK_NAME_SIZE];
    const char *uid;

    if (!name || !fl_str_has_prefix(name, prefix) || !desc || !fl_str_has_prefix(desc, DESC))
        return NULL;
    uid = desc + strlen(DESC);
    oak_app_name(prefix, uid, expected);
    return strcmp(name, expected) == 0 ? fl_arena_strdup(arena, uid) : NULL;
}

void oak_service_name(int64_t index, int64_t number, char out[OAK_NAME_SIZE])
{
    (void)snprintf(out, OAK_NAME_SIZE, "i%" PRId64 "r%" PRId64, index, number);
}

bool oak_service_parse(const char *name, int64_t *ret_index, int64_t *ret_number)
{
    char again[OAK_NAME_SIZE], digits[OAK_NAME_SIZE];
    const char *r = name && *name == 'i' ? strchr(name, 'r') : NULL;

    if (!r || !oak_name_is_valid(name))
        return false;
    (void)snprintf(digits, sizeof(digits), "%.*s", (int)(r - name - 1), name + 1);
    if (!fl_str_to_int64(digits, 0, INT64_MAX, ret_index) ||
        !fl_str_to_int64(r + 1, 1, INT64_MAX, ret_number))
        return false;
    oak_service_name(*ret_index, *ret_number, again);
    return strcmp(again, name) == 0;
}

const char *oak_safe_name(struct fl_arena *arena, const char *name)
{
    static const char fine[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    char hash[WHO_CHARS + 1], *safe;
    size_t len = strlen(name);

    if (len > 0 && len <= 63 && strspn(name, fine) == len && name[0] != '-' && name[len - 1] != '-')
        return fl_arena_strdup(arena, name);
    spell(name, WHO_CHARS, hash);
    safe = fl_arena_printf(arena, "c-%.50s-%s", name, hash);
    for (char *at = safe; *at; at++) {
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at - 'A' + 'a');
        else if (!strchr(fine, *at))
            *at = '-';
    }
    return safe;
}
