#include "lib/text.h"

#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

struct range {
    uint32_t first, last;
};

/* Blocks, rather than each character: what is not assigned there takes what its neighbours take. */
static const struct range wide[] = {
    {0x1100, 0x115F},   {0x231A, 0x231B},   {0x2329, 0x232A},   {0x23E9, 0x23EC},
    {0x23F0, 0x23F0},   {0x23F3, 0x23F3},   {0x25FD, 0x25FE},   {0x2614, 0x2615},
    {0x2648, 0x2653},   {0x267F, 0x267F},   {0x2693, 0x2693},   {0x26A1, 0x26A1},
    {0x26AA, 0x26AB},   {0x26BD, 0x26BE},   {0x26C4, 0x26C5},   {0x26CE, 0x26CE},
    {0x26D4, 0x26D4},   {0x26EA, 0x26EA},   {0x26F2, 0x26F3},   {0x26F5, 0x26F5},
    {0x26FA, 0x26FA},   {0x26FD, 0x26FD},   {0x2705, 0x2705},   {0x270A, 0x270B},
    {0x2728, 0x2728},   {0x274C, 0x274C},   {0x274E, 0x274E},   {0x2753, 0x2755},
    {0x2757, 0x2757},   {0x2795, 0x2797},   {0x27B0, 0x27B0},   {0x27BF, 0x27BF},
    {0x2B1B, 0x2B1C},   {0x2B50, 0x2B50},   {0x2B55, 0x2B55},   {0x2E80, 0x3029},
    {0x302E, 0x303E},   {0x3041, 0x3098},   {0x309B, 0x4DBF},   {0x4E00, 0xA4CF},
    {0xA960, 0xA97F},   {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE10, 0xFE19},
    {0xFE30, 0xFE6F},   {0xFF01, 0xFF60},   {0xFFE0, 0xFFE6},   {0x16FE0, 0x16FE3},
    {0x17000, 0x18D8F}, {0x1AFF0, 0x1B2FF}, {0x1F004, 0x1F004}, {0x1F0CF, 0x1F0CF},
    {0x1F18E, 0x1F18E}, {0x1F191, 0x1F19A}, {0x1F200, 0x1F320}, {0x1F32D, 0x1F335},
    {0x1F337, 0x1F37C}, {0x1F37E, 0x1F393}, {0x1F3A0, 0x1F3CA}, {0x1F3CF, 0x1F3D3},
    {0x1F3E0, 0x1F3F0}, {0x1F3F4, 0x1F3F4}, {0x1F3F8, 0x1F43E}, {0x1F440, 0x1F440},
    {0x1F442, 0x1F4FC}, {0x1F4FF, 0x1F53D}, {0x1F54B, 0x1F54E}, {0x1F550, 0x1F567},
    {0x1F57A, 0x1F57A}, {0x1F595, 0x1F596}, {0x1F5A4, 0x1F5A4}, {0x1F5FB, 0x1F64F},
    {0x1F680, 0x1F6C5}, {0x1F6CC, 0x1F6CC}, {0x1F6D0, 0x1F6D2}, {0x1F6D5, 0x1F6DF},
    {0x1F6EB, 0x1F6EC}, {0x1F6F4, 0x1F6FC}, {0x1F7E0, 0x1F7EB}, {0x1F7F0, 0x1F7F0},
    {0x1F90C, 0x1F93A}, {0x1F93C, 0x1F945}, {0x1F947, 0x1F9FF}, {0x1FA70, 0x1FAFF},
    {0x20000, 0x3FFFD},
};

static const struct range narrowest[] = {
    {0x0300, 0x036F},   {0x0483, 0x0489},   {0x0591, 0x05BD}, {0x05BF, 0x05BF}, {0x05C1, 0x05C2},
    {0x05C4, 0x05C5},   {0x05C7, 0x05C7},   {0x0610, 0x061A}, {0x064B, 0x065F}, {0x0670, 0x0670},
    {0x06D6, 0x06DC},   {0x06DF, 0x06E4},   {0x06E7, 0x06E8}, {0x06EA, 0x06ED}, {0x0E31, 0x0E31},
    {0x0E34, 0x0E3A},   {0x0E47, 0x0E4E},   {0x1160, 0x11FF}, {0x1AB0, 0x1ACE}, {0x1DC0, 0x1DFF},
    {0x200B, 0x200F},   {0x202A, 0x202E},   {0x2060, 0x206F}, {0x20D0, 0x20F0}, {0x302A, 0x302D},
    {0x3099, 0x309A},   {0xD7B0, 0xD7FF},   {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF},
    {0xE0001, 0xE007F}, {0xE0100, 0xE01EF},
};

static int compare(const void *key, const void *item)
{
    const uint32_t character = *(const uint32_t *)key;
    const struct range *range = item;

    return (character > range->last) - (character < range->first);
}

static bool is_in(uint32_t character, const struct range *ranges, size_t count)
{
    return bsearch(&character, ranges, count, sizeof(*ranges), compare) != NULL;
}

unsigned fl_text_columns_of(uint32_t character)
{
    if (character < wide[0].first && character < narrowest[0].first)
        return 1;
    if (is_in(character, narrowest, FL_COUNT_OF(narrowest)))
        return 0;
    return is_in(character, wide, FL_COUNT_OF(wide)) ? 2 : 1;
}

/* One character as it is shown: its bytes (NULL: left out), how many, and their columns. */
struct shown {
    const char *bytes;
    size_t len, columns;
};

static uint32_t decode(const char *text, size_t len)
{
    static const unsigned char masks[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t character = (unsigned char)*text & masks[len];

    for (size_t i = 1; i < len; i++)
        character = character << 6 | ((unsigned char)text[i] & 0x3F);
    return character;
}

static bool is_control(uint32_t character)
{
    return character < ' ' || (character >= 0x7F && character < 0xA0) || character == 0x2028 ||
           character == 0x2029;
}

static bool turns_direction(uint32_t character)
{
    return (character >= 0x200E && character <= 0x200F) ||
           (character >= 0x202A && character <= 0x202E) ||
           (character >= 0x2066 && character <= 0x2069) || character == 0x061C;
}

/* `*ret_len` are the bytes of the character in the text. */
static struct shown show(const char *text, size_t left, bool utf8, size_t *ret_len)
{
    const size_t len = fl_utf8_width(text, left);
    const uint32_t character = len > 0 ? decode(text, len) : 0;

    *ret_len = len > 0 ? len : 1;
    if (len == 0)
        return (struct shown){"?", 1, 1};
    if (is_control(character))
        return (struct shown){" ", 1, 1};
    if (turns_direction(character))
        return (struct shown){NULL, 0, 0};
    if (len > 1 && !utf8)
        return fl_text_columns_of(character) > 0 ? (struct shown){"?", 1, 1}
                                                 : (struct shown){NULL, 0, 0};
    return (struct shown){text, len, fl_text_columns_of(character)};
}

static size_t columns_of(const char *text, size_t len, bool utf8)
{
    size_t columns = 0, step;

    for (size_t at = 0; at < len; at += step)
        columns += show(text + at, len - at, utf8, &step).columns;
    return columns;
}

size_t fl_text_columns(const char *text)
{
    return columns_of(text, strlen(text), true);
}

size_t fl_text_put(struct fl_buf *out, const char *text, size_t columns, bool utf8)
{
    const size_t len = strlen(text);
    const bool cut = columns_of(text, len, utf8) > columns;
    const size_t room = cut && columns > 0 ? columns - 1 : columns;
    size_t taken = 0, step;

    for (size_t at = 0; at < len; at += step) {
        const struct shown shown = show(text + at, len - at, utf8, &step);

        if (taken + shown.columns > room)
            break;
        if (shown.len > 0)
            fl_buf_append(out, shown.bytes, shown.len);
        taken += shown.columns;
    }
    if (cut && columns > 0) {
        fl_buf_puts(out, utf8 ? "…" : "~");
        taken++;
    }
    return taken;
}
