#include "hack/crdgen/crdgen.h"

#define COLUMNS 100

static size_t word_length(const char *text)
{
    return strcspn(text, " \n");
}

/* What would end the comment is taken apart. */
static void put_word(struct fl_buf *buf, const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        fl_buf_putc(buf, word[i]);
        if (i + 1 < len &&
            ((word[i] == '*' && word[i + 1] == '/') || (word[i] == '/' && word[i + 1] == '*')))
            fl_buf_putc(buf, ' ');
    }
}

void put_comment(struct fl_buf *buf, int indent, const char *text)
{
    size_t column = (size_t)indent + 2;

    fl_buf_printf(buf, "%*s/*", indent, "");
    while (*(text += strspn(text, " \n"))) {
        size_t len = word_length(text);
        bool is_last = !text[len + strspn(text + len, " \n")];

        if (column + 1 + len + (is_last ? 3 : 0) > COLUMNS) {
            fl_buf_printf(buf, "\n%*s *", indent, "");
            column = (size_t)indent + 2;
        }
        fl_buf_putc(buf, ' ');
        put_word(buf, text, len);
        column += 1 + len;
        text += len;
    }
    fl_buf_puts(buf, " */\n");
}

void put_c_string(struct fl_buf *buf, const char *text, size_t len)
{
    fl_buf_putc(buf, '"');
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '\n') {
            fl_buf_puts(buf, "\\n");
            continue;
        }
        if (c == '"' || c == '\\' || (c == '?' && i > 0 && text[i - 1] == '?'))
            fl_buf_putc(buf, '\\');
        fl_buf_putc(buf, c);
    }
    fl_buf_putc(buf, '"');
}

char *plain_value(struct fl_arena *arena, const json_t *value)
{
    if (json_is_string(value))
        return fl_arena_strdup(arena, json_string_value(value));
    return fl_json_to_string(arena, value);
}
