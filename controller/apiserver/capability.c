#include "controller/apiserver/capability.h"

#include "lib/str.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PREFIX    "fc1."
#define MAC_BYTES 32

void fl_capability_make(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *path,
                        char out[FL_CAPABILITY_TOKEN_SIZE])
{
    unsigned char mac[MAC_BYTES];
    char text[2 * MAC_BYTES + 1];

    (void)crypto_generichash(mac, sizeof(mac), (const unsigned char *)path, strlen(path), key,
                             FL_CAPABILITY_KEY_SIZE);
    fl_hex_encode(mac, sizeof(mac), text);
    (void)snprintf(out, FL_CAPABILITY_TOKEN_SIZE, PREFIX "%s", text);
}

bool fl_capability_is(const char *token)
{
    return fl_str_has_prefix(token, PREFIX);
}

bool fl_capability_opens(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *token,
                         const char *path)
{
    char right[FL_CAPABILITY_TOKEN_SIZE];

    fl_capability_make(key, path, right);
    return strlen(token) == strlen(right) && sodium_memcmp(token, right, strlen(right)) == 0;
}
