/* Small helpers on strings. Nothing here allocates unless it says so. Any thread. */
#ifndef FL_LIB_STR_H
#define FL_LIB_STR_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool fl_streq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static inline const char *fl_str_or(const char *text, const char *fallback)
{
    return text ? text : fallback;
}

bool fl_str_has_prefix(const char *text, const char *prefix);
bool fl_str_has_suffix(const char *text, const char *suffix);

/* Whole-string decimal integer within [min, max]; no sign but '-', no space. */
bool fl_str_to_int64(const char *text, int64_t min, int64_t max, int64_t *ret_value);
bool fl_str_to_uint64(const char *text, uint64_t max, uint64_t *ret_value);

/* Bytes of the valid UTF-8 character at `text`: 1 to 4, or 0 where it is invalid, overlong, a
 * surrogate, cut off by `len`, or `len` is 0. */
size_t fl_utf8_width(const char *text, size_t len);
bool fl_utf8_valid(const char *text, size_t len);
size_t fl_utf8_count(const char *text, size_t len); /* characters; a bad byte counts as one */
/* The most bytes, at most `max`, that do not cut a character. */
size_t fl_utf8_cut(const char *text, size_t len, size_t max);
/* The last line that is not empty, at most `max` bytes of it; "" where there is none. */
char *fl_str_last_line(struct fl_arena *arena, const char *text, size_t max);

/* The next piece of `*rest` up to `separator` (in the arena), or NULL when nothing is left; an
 * empty text has one empty piece. `*rest` becomes NULL after the last. */
char *fl_str_next(struct fl_arena *arena, const char **rest, char separator);

/* The fewest digits that read back the same, as Go's %v prints them: "1.5", "1e+06", "NaN". */
#define FL_DOUBLE_TEXT_SIZE 32
void fl_str_from_double(double value, char out[FL_DOUBLE_TEXT_SIZE]);

/* Bytes for people, in the arena: "999 B", "1.5 kB", "118 MB". */
char *fl_str_from_size(struct fl_arena *arena, int64_t bytes);

/* Lower-case hex of `len` bytes into `out` (2 * len + 1). */
void fl_hex_encode(const void *data, size_t len, char *out);

/* Standard base64 with padding. encode: in the arena. decode: the padding is required, line breaks
 * are skipped, spaces are not; false where invalid; `*ret_data` is in the arena and has a NUL
 * behind it. */
char *fl_base64_encode(struct fl_arena *arena, const void *data, size_t len);
bool fl_base64_decode(struct fl_arena *arena, const char *text, size_t len, char **ret_data,
                      size_t *ret_len);

/* Percent-decoding of one URL component into the arena; `plus_is_space` for queries. NULL where
 * an escape is malformed or decodes to NUL. */
char *fl_url_decode(struct fl_arena *arena, const char *text, size_t len, bool plus_is_space);
char *fl_url_encode(struct fl_arena *arena, const char *text); /* all but unreserved characters */

#endif
