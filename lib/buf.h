/* A growable byte buffer with an upper bound, for text and frames being built.
 *
 * Appending never fails loudly: what would pass `max` sets `overflow`, appends nothing more, and
 * the user of the result checks it once. `data` is NUL-terminated after each append. One thread. */
#ifndef FL_LIB_BUF_H
#define FL_LIB_BUF_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_buf {
    char *data; /* NULL while empty */
    size_t len, cap;
    size_t max; /* 0: no bound (for what we make ourselves) */
    bool overflow;
};

void fl_buf_init(struct fl_buf *buf, size_t max);
void fl_buf_finish(struct fl_buf *buf); /* frees; the buffer is empty and usable again */
void fl_buf_clear(struct fl_buf *buf);  /* empties and keeps the memory */

void fl_buf_append(struct fl_buf *buf, const void *data, size_t len);
void fl_buf_puts(struct fl_buf *buf, const char *text);
void fl_buf_printf(struct fl_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void fl_buf_reserve(struct fl_buf *buf, size_t more);
static inline void fl_buf_putc(struct fl_buf *buf, char c)
{
    if (buf->overflow || buf->len + 1 >= buf->cap || (buf->max && buf->len >= buf->max)) {
        fl_buf_append(buf, &c, 1);
        return;
    }
    buf->data[buf->len++] = c;
    buf->data[buf->len] = '\0';
}
/* Appends `text` as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void fl_buf_json_string(struct fl_buf *buf, const char *text, size_t len);

char *fl_buf_steal(struct fl_buf *buf); /* the caller frees; never NULL */
struct fl_bytes *fl_buf_to_bytes(const struct fl_buf *buf);
const char *fl_buf_text(const struct fl_buf *buf); /* lends; "" while empty */

#endif
