#include "reconcilers/imagebuild/compose/requirements.h"

#include "lib/buf.h"
#include "lib/str.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define CLEAN_MAX ((size_t)8 * 1024 * 1024)

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

struct cleaning {
    struct fl_arena *arena;
    struct fl_buf out, line; /* `line`: with those that go on in the next */
    size_t number, begun;    /* lines read; where `line` began */
};

static int refuse(const struct cleaning *cleaning, const char *what, const char *line,
                  struct fl_error *err)
{
    return fl_error_set(err, FL_E_INVALID, "line %zu: %s: %.60s", cleaning->begun, what,
                        line + strspn(line, " \t"));
}

/* What can be in no requirement: it would be another line, or another text, for who reads it. */
static bool is_plain(const char *line)
{
    for (; *line; line++)
        if ((unsigned char)*line >= 0x7f || ((unsigned char)*line < 0x20 && *line != '\t'))
            return false;
    return true;
}

/* A comment begins at the line's begin or after white space, and is nobody's business. */
static void drop_comment(char *line)
{
    for (char *at = line; *at; at++) {
        if (*at == '#' && (at == line || strchr(" \t", at[-1]))) {
            *at = '\0';
            return;
        }
    }
}

static void trim_end(char *line)
{
    size_t len = strlen(line);

    while (len > 0 && strchr(" \t\r", line[len - 1]))
        line[--len] = '\0';
}

/* The parts of a requirement; each goes past what it takes. */

static const char *past_space(const char *at)
{
    return at + strspn(at, " \t");
}

static const char *past_name(const char *at)
{
    size_t len = strspn(at, ALNUM "-_.");

    return len > 0 && isalnum((unsigned char)*at) && isalnum((unsigned char)at[len - 1]) ? at + len
                                                                                         : NULL;
}

static const char *past_extras(const char *at)
{
    size_t len;

    if (*at != '[')
        return at;
    len = strspn(at + 1, ALNUM "-_., \t");
    return at[len + 1] == ']' ? at + len + 2 : NULL;
}

static const char *past_versions(const char *at)
{
    size_t len = strspn(at, ALNUM " \t()<>=!~,.*+-_");

    /* An option is no version, whatever it is made of. */
    for (size_t i = 0; i < len; i++)
        if (at[i] == '-' && (i == 0 || strchr(" \t", at[i - 1])))
            len = i;
    return !*past_space(at) || strchr("<>=!~(;-", *past_space(at)) ? at + len : NULL;
}

static const char *past_marker(const char *at)
{
    size_t len;

    if (*at != ';')
        return at;
    len = 1 + strspn(at + 1, ALNUM " \t()<>=!~,.*+-_'\"");
    for (size_t i = 1; i < len; i++)
        if (at[i] == '-' && strchr(" \t;", at[i - 1]))
            len = i;
    return at + len;
}

static const char *past_hashes(const char *at)
{
    static const char word[] = "--hash";

    while (at && *(at = past_space(at))) {
        size_t name, hex;

        if (!fl_str_has_prefix(at, word) || !at[sizeof(word) - 1] ||
            !strchr("= \t", at[sizeof(word) - 1]))
            return NULL;
        at = past_space(at + sizeof(word));
        name = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789");
        hex = at[name] == ':' ? strspn(at + name + 1, "0123456789abcdefABCDEF") : 0;
        at = name > 0 && hex > 0 && strchr(" \t", at[name + 1 + hex]) ? at + name + 1 + hex : NULL;
    }
    return at;
}

/* A name that is a file's for pip, where there is such a file. */
static bool is_archive(const char *line, size_t len)
{
    static const char *const ends[] = {".whl", ".zip", ".tar", ".gz",  ".bz2", ".xz",
                                       ".tgz", ".tbz", ".lz",  ".tlz", ".lzma"};

    for (size_t i = 0; i < FL_COUNT_OF(ends); i++) {
        size_t end = strlen(ends[i]);

        if (len >= end && strncasecmp(line + len - end, ends[i], end) == 0)
            return true;
    }
    return false;
}

static bool is_requirement(const char *line)
{
    const char *name = past_name(line), *at = name ? past_extras(past_space(name)) : NULL, *end;

    at = at ? past_versions(at) : NULL;
    end = at;
    while (end && end > line && strchr(" \t", end[-1]))
        end--;
    if (!at || is_archive(line, (size_t)(end - line)))
        return false;
    at = past_marker(at);
    at = past_hashes(at);
    return at && !*at;
}

static int check_line(const struct cleaning *cleaning, const char *line, struct fl_error *err)
{
    if (*line == '-')
        return refuse(cleaning, "options are not obeyed here", line, err);
    if (strstr(line, "://") || strchr(line, '@'))
        return refuse(cleaning, "addresses are not followed here", line, err);
    if (*line == '.' || strpbrk(line, "/\\"))
        return refuse(cleaning, "folders are not built here", line, err);
    if (!is_requirement(line))
        return refuse(cleaning, "that is no requirement", line, err);
    return 0;
}

/* A line that is whole: what there was of it, then empty ones for those that it went on in. */
static int end_line(struct cleaning *cleaning, struct fl_error *err)
{
    const char *whole = past_space(fl_buf_text(&cleaning->line));
    char *line = fl_arena_strdup(cleaning->arena, whole);
    int r;

    trim_end(line);
    r = *line ? check_line(cleaning, line, err) : 0;
    if (r < 0)
        return r;
    fl_buf_puts(&cleaning->out, line);
    for (; cleaning->begun <= cleaning->number; cleaning->begun++)
        fl_buf_putc(&cleaning->out, '\n');
    fl_buf_clear(&cleaning->line);
    return cleaning->out.overflow ? fl_error_set(err, FL_E_TOO_LARGE, "it is too long") : 0;
}

static int take_line(struct cleaning *cleaning, char *line, bool is_last, struct fl_error *err)
{
    size_t len;

    cleaning->number++;
    drop_comment(line);
    trim_end(line);
    if (!is_plain(line))
        return refuse(cleaning, "a requirement is of plain letters", "", err);
    len = strlen(line);
    if (len > 0 && line[len - 1] == '\\' && !is_last) {
        line[len - 1] = ' ';
        fl_buf_puts(&cleaning->line, line);
        return 0;
    }
    fl_buf_puts(&cleaning->line, line);
    return end_line(cleaning, err);
}

static int take_lines(struct cleaning *cleaning, const char *rest, struct fl_error *err)
{
    int r = 0;

    while (r == 0 && rest) {
        char *line = fl_str_next(cleaning->arena, &rest, '\n');

        r = take_line(cleaning, line, !rest, err);
    }
    return r;
}

int fl_requirements_clean(struct fl_arena *arena, const char *text, size_t len,
                          const char **ret_clean, struct fl_error *err)
{
    struct cleaning cleaning = {.arena = arena, .begun = 1};
    const char *copy = fl_arena_strndup(arena, text, len);
    int r;

    if (strlen(copy) != len)
        return fl_error_set(err, FL_E_INVALID, "it is no text");
    fl_buf_init(&cleaning.out, CLEAN_MAX);
    fl_buf_init(&cleaning.line, CLEAN_MAX);
    r = take_lines(&cleaning, fl_str_has_prefix(copy, "\xef\xbb\xbf") ? copy + 3 : copy, err);
    if (r == 0)
        *ret_clean = fl_arena_strdup(arena, fl_buf_text(&cleaning.out));
    fl_buf_finish(&cleaning.out);
    fl_buf_finish(&cleaning.line);
    return r;
}
