#include "workloads/transfer/crc32c.h"

#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

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
#define LANE ((size_t)1024)

/* The instruction takes three cycles and one can begin in each: so three pieces side by side. What
 * the first two have come to is then moved on over the bytes behind them: multiplied (without
 * carries) with x^(8 n - 33) modulo the polynomial, bits reversed; the instruction reduces the
 * product. */
#define OVER_ONE_LANE  UINT32_C(0x170076fa)
#define OVER_TWO_LANES UINT32_C(0xa51b6135)

__attribute__((target("sse4.2,pclmul"))) static uint64_t move_on(uint64_t crc, uint32_t over)
{
    const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)(uint32_t)crc),
                                                 _mm_cvtsi32_si128((int)over), 0);

    return __builtin_ia32_crc32di(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t by_lanes(uint32_t crc,
                                                                  const unsigned char *bytes)
{
    uint64_t first = crc, second = 0, third = 0, words[3];

    for (size_t i = 0; i < LANE; i += sizeof(words[0])) {
        memcpy(&words[0], bytes + i, sizeof(words[0]));
        memcpy(&words[1], bytes + LANE + i, sizeof(words[0]));
        memcpy(&words[2], bytes + 2 * LANE + i, sizeof(words[0]));
        first = __builtin_ia32_crc32di(first, words[0]);
        second = __builtin_ia32_crc32di(second, words[1]);
        third = __builtin_ia32_crc32di(third, words[2]);
    }
    return (uint32_t)(move_on(first, OVER_TWO_LANES) ^ move_on(second, OVER_ONE_LANE) ^ third);
}

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
    const unsigned char *bytes = data;

    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) {
        for (crc = ~crc; len >= 3 * LANE; len -= 3 * LANE, bytes += 3 * LANE)
            crc = by_lanes(crc, bytes);
        return by_instruction(~crc, bytes, len);
    }
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(crc, data, len);
#endif
    return fl_ref_crc32c(crc, data, len);
}
