#include "controller/apiserver/capability.h"

#include "lib/str.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define READER    "fc1."
#define WRITER    "fw1."
#define MAC_BYTES 32

/* A reader's is over the path alone, as it always was; a path begins with '/', so no writer's can
 * be taken for one. */
static void make(const unsigned char *key, const char *prefix, const char *path,
                 char out[FL_CAPABILITY_TOKEN_SIZE])
{
    crypto_generichash_state state;
    unsigned char mac[MAC_BYTES];
    char text[2 * MAC_BYTES + 1];

    (void)crypto_generichash_init(&state, key, FL_CAPABILITY_KEY_SIZE, sizeof(mac));
    if (strcmp(prefix, WRITER) == 0)
        (void)crypto_generichash_update(&state, (const unsigned char *)prefix, strlen(prefix));
    (void)crypto_generichash_update(&state, (const unsigned char *)path, strlen(path));
    (void)crypto_generichash_final(&state, mac, sizeof(mac));
    fl_hex_encode(mac, sizeof(mac), text);
    (void)snprintf(out, FL_CAPABILITY_TOKEN_SIZE, "%s%s", prefix, text);
}

void fl_capability_make(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *path,
                        char out[FL_CAPABILITY_TOKEN_SIZE])
{
    make(key, READER, path, out);
}

void fl_capability_make_writer(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *path,
                               char out[FL_CAPABILITY_TOKEN_SIZE])
{
    make(key, WRITER, path, out);
}

bool fl_capability_writes(const char *token)
{
    return fl_str_has_prefix(token, WRITER);
}

bool fl_capability_is(const char *token)
{
    return fl_str_has_prefix(token, READER) || fl_capability_writes(token);
}

bool fl_capability_opens(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *token,
                         const char *path)
{
    char right[FL_CAPABILITY_TOKEN_SIZE];

    make(key, fl_capability_writes(token) ? WRITER : READER, path, right);
    return strlen(token) == strlen(right) && sodium_memcmp(token, right, strlen(right)) == 0;
}
