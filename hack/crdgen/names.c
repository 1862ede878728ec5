#include "hack/crdgen/crdgen.h"

#include <ctype.h>

static bool is_upper(char c)
{
    return isupper((unsigned char)c);
}

static char lower(char c)
{
    return (char)tolower((unsigned char)c);
}

/* Words break before a capital that follows a small letter or digit. Capitals in a row stay one
 * word: MLflow is mlflow, KServeV1 is kserve_v1. */
static void put_words(struct fl_buf *buf, const char *text)
{
    char previous = '\0';

    for (; *text; previous = *text++) {
        if (!isalnum((unsigned char)*text)) {
            fl_buf_putc(buf, '_');
            continue;
        }
        if (is_upper(*text) &&
            (islower((unsigned char)previous) || isdigit((unsigned char)previous)))
            fl_buf_putc(buf, '_');
        fl_buf_putc(buf, lower(*text));
    }
}

static char *finish_text(struct fl_arena *arena, struct fl_buf *buf)
{
    char *text = fl_arena_strdup(arena, fl_buf_text(buf));

    fl_buf_finish(buf);
    return text;
}

static bool is_keyword(const char *word)
{
    static const char *const keywords[] = {
        "auto",   "bool",     "break",  "case",   "char",     "const",    "continue", "default",
        "do",     "double",   "else",   "enum",   "extern",   "float",    "for",      "goto",
        "if",     "inline",   "int",    "long",   "register", "restrict", "return",   "short",
        "signed", "sizeof",   "static", "struct", "switch",   "typedef",  "union",    "unsigned",
        "void",   "volatile", "while",  "linux",  "unix"};

    for (size_t i = 0; i < FL_COUNT_OF(keywords); i++)
        if (strcmp(word, keywords[i]) == 0)
            return true;
    return false;
}

char *to_snake(struct fl_arena *arena, const char *camel)
{
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    put_words(&buf, camel);
    if (is_keyword(fl_buf_text(&buf)))
        fl_buf_putc(&buf, '_');
    return finish_text(arena, &buf);
}

/* A kind is one word, and loses the product's name. */
char *kind_to_c(struct fl_arena *arena, const char *kind)
{
    char *name;

    if (fl_str_has_prefix(kind, "FL") && is_upper(kind[2]))
        kind += 2;
    name = fl_arena_printf(arena, "fl_%s", kind);
    for (char *c = name; *c; c++)
        *c = lower(*c);
    return name;
}

char *to_constant(struct fl_arena *arena, const char *prefix, const char *value)
{
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_buf_puts(&buf, prefix);
    fl_buf_putc(&buf, '_');
    put_words(&buf, value);
    for (size_t i = 0; i < buf.len; i++)
        buf.data[i] = (char)toupper((unsigned char)buf.data[i]);
    return finish_text(arena, &buf);
}

char *to_singular(struct fl_arena *arena, const char *plural)
{
    size_t len = strlen(plural);

    if (fl_str_has_suffix(plural, "ies"))
        return fl_arena_printf(arena, "%.*sy", (int)len - 3, plural);
    if (fl_str_has_suffix(plural, "sses") || fl_str_has_suffix(plural, "ches"))
        return fl_arena_strndup(arena, plural, len - 2);
    if (fl_str_has_suffix(plural, "s") && !fl_str_has_suffix(plural, "ss"))
        return fl_arena_strndup(arena, plural, len - 1);
    return fl_arena_strdup(arena, plural);
}

const char *without_fl(const char *c_name)
{
    return c_name + strlen("fl_");
}
