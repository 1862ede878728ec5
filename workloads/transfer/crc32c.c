#include "workloads/transfer/crc32c.h"

#include <string.h>

#define POLYNOMIAL UINT32_C(0x82F63B78) /* 0x1EDC6F41, bits reversed */

/* Bit by bit: slow and plain. */
static uint32_t step(uint32_t crc)
{
    for (int bit = 0; bit < 4; bit++)
        crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
    return crc;
}

uint32_t fl_ref_crc32c(uint32_t crc, const void *data, size_t len)
{
    const unsigned char *bytes = data;

    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        crc = step(step(crc ^ bytes[i]));
    return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const void *data,
                                                                 size_t len)
{
    const unsigned char *bytes = data;
    uint64_t wide = (uint32_t)~crc, word;

    for (; len >= sizeof(word); len -= sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; len > 0; len--, bytes++)
        crc = __builtin_ia32_crc32qi(crc, *bytes);
    return ~crc;
}
#endif

uint32_t fl_crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(crc, data, len);
#endif
    return fl_ref_crc32c(crc, data, len);
}
