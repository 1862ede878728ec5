/* What of lib/str.h needs libsodium, apart: a program that does not encode does not link it. */
#include "lib/str.h"

#include <sodium.h>

void fl_hex_encode(const void *data, size_t len, char *out)
{
    sodium_bin2hex(out, len * 2 + 1, data, len);
}

char *fl_base64_encode(struct fl_arena *arena, const void *data, size_t len)
{
    size_t size = sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_ORIGINAL);
    char *text = fl_alloc(arena, size);

    sodium_bin2base64(text, size, data, len, sodium_base64_VARIANT_ORIGINAL);
    return text;
}

bool fl_base64_decode(struct fl_arena *arena, const char *text, size_t len, char **ret_data,
                      size_t *ret_len)
{
    size_t room = len / 4 * 3 + 3, used = 0;
    unsigned char *data = fl_alloc(arena, room + 1);

    if (sodium_base642bin(data, room, text, len, "\r\n", &used, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return false;
    data[used] = '\0';
    *ret_data = (char *)data;
    *ret_len = used;
    return true;
}
