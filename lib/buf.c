#include "lib/buf.h"

#include "lib/str.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fl_buf_init(struct fl_buf *buf, size_t max)
{
    *buf = (struct fl_buf){.max = max};
}

void fl_buf_finish(struct fl_buf *buf)
{
    size_t max = buf->max;

    free(buf->data);
    fl_buf_init(buf, max);
}

void fl_buf_clear(struct fl_buf *buf)
{
    buf->len = 0;
    buf->overflow = false;
    if (buf->data)
        buf->data[0] = '\0';
}

/* Makes room for `more` bytes and a NUL; false (and overflow) where the bound forbids it. */
static bool make_room(struct fl_buf *buf, size_t more)
{
    size_t need, cap;

    if (buf->overflow)
        return false;
    if (more > SIZE_MAX / 4 - buf->len || (buf->max && buf->len + more > buf->max)) {
        buf->overflow = true;
        return false;
    }
    need = buf->len + more + 1;
    if (need <= buf->cap)
        return true;
    cap = buf->cap ? buf->cap : 64;
    while (cap < need)
        cap *= 2;
    buf->data = fl_realloc(buf->data, cap);
    buf->cap = cap;
    return true;
}

void fl_buf_reserve(struct fl_buf *buf, size_t more)
{
    /* A hint: what the bound forbids is not reserved, and nothing overflowed yet. */
    if (buf->max && more > buf->max - buf->len)
        more = buf->max - buf->len;
    if (make_room(buf, more))
        buf->data[buf->len] = '\0';
}

void fl_buf_append(struct fl_buf *buf, const void *data, size_t len)
{
    if (!make_room(buf, len))
        return;
    if (len)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void fl_buf_puts(struct fl_buf *buf, const char *text)
{
    fl_buf_append(buf, text, strlen(text));
}

void fl_buf_printf(struct fl_buf *buf, const char *fmt, ...)
{
    va_list ap, again;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && make_room(buf, (size_t)n)) {
        (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

static void put_escaped(struct fl_buf *buf, unsigned char c)
{
    switch (c) {
    case '"':
        fl_buf_append(buf, "\\\"", 2);
        break;
    case '\\':
        fl_buf_append(buf, "\\\\", 2);
        break;
    case '\n':
        fl_buf_append(buf, "\\n", 2);
        break;
    case '\r':
        fl_buf_append(buf, "\\r", 2);
        break;
    case '\t':
        fl_buf_append(buf, "\\t", 2);
        break;
    default:
        fl_buf_printf(buf, "\\u%04x", c);
    }
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

void fl_buf_json_string(struct fl_buf *buf, const char *text, size_t len)
{
    size_t start = 0, i = 0;

    fl_buf_putc(buf, '"');
    while (i < len) {
        unsigned char c = (unsigned char)text[i];
        size_t width;

        if (is_plain(c)) {
            i++;
            continue;
        }
        width = fl_utf8_width(text + i, len - i);
        if (width > 1) {
            i += width;
            continue;
        }
        fl_buf_append(buf, text + start, i - start);
        if (width == 0)
            fl_buf_append(buf, "\xEF\xBF\xBD", 3);
        else
            put_escaped(buf, c);
        start = ++i;
    }
    fl_buf_append(buf, text + start, len - start);
    fl_buf_putc(buf, '"');
}

char *fl_buf_steal(struct fl_buf *buf)
{
    char *data = buf->data ? buf->data : fl_strdup("");

    buf->data = NULL;
    fl_buf_init(buf, buf->max);
    return data;
}

struct fl_bytes *fl_buf_to_bytes(const struct fl_buf *buf)
{
    return fl_bytes_new(fl_buf_text(buf), buf->len);
}

const char *fl_buf_text(const struct fl_buf *buf)
{
    return buf->data ? buf->data : "";
}
