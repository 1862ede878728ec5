#include "api/cel_internal.h"
#include "lib/str.h"

#include <errno.h>
#include <stdlib.h>

int fl_cel_syntax_error(const char *text, size_t position, struct fl_error *err, const char *fmt,
                        ...)
{
    size_t line = 1, start = 0;
    char message[512];
    va_list ap;

    for (size_t i = 0; i < position; i++) {
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    return fl_error_set(err, FL_E_BAD_REQUEST, "<input>:%zu:%zu: %s", line, position - start + 1,
                        message);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char peek(const struct cel_lexer *lexer, size_t ahead)
{
    return lexer->at + ahead < lexer->len ? lexer->text[lexer->at + ahead] : '\0';
}

static void skip_space(struct cel_lexer *lexer)
{
    while (lexer->at < lexer->len) {
        char c = peek(lexer, 0);

        if (c == '/' && peek(lexer, 1) == '/') {
            while (lexer->at < lexer->len && peek(lexer, 0) != '\n')
                lexer->at++;
        } else if (strchr(" \t\r\n\f", c) && c) {
            lexer->at++;
        } else {
            return;
        }
    }
}

static int lex_number(struct cel_lexer *lexer, struct cel_token *token, struct fl_error *err)
{
    size_t start = lexer->at;
    bool hex = peek(lexer, 0) == '0' && (peek(lexer, 1) == 'x' || peek(lexer, 1) == 'X');
    bool real = false;
    char *copy;

    if (hex)
        lexer->at += 2;
    for (;; lexer->at++) {
        char c = peek(lexer, 0);

        if (is_digit(c) || (hex && c && strchr("abcdefABCDEF", c)))
            continue;
        if (!hex && !real && c == '.' && is_digit(peek(lexer, 1))) {
            real = true;
            continue;
        }
        if (!hex && (c == 'e' || c == 'E')) {
            size_t sign = peek(lexer, 1) == '+' || peek(lexer, 1) == '-';

            if (!is_digit(peek(lexer, 1 + sign)))
                break;
            real = true;
            lexer->at += 1 + sign;
            while (is_digit(peek(lexer, 1)))
                lexer->at++;
            lexer->at++;
        }
        break;
    }
    if (lexer->at - start == (hex ? 2 : 0))
        return fl_cel_syntax_error(lexer->text, start, err, "not a number");
    copy = fl_arena_strndup(lexer->arena, lexer->text + start, lexer->at - start);

    token->text = "a number";
    errno = 0;
    if (real) {
        token->type = CEL_T_DOUBLE;
        token->real = strtod(copy, NULL);
    } else {
        token->type = CEL_T_INT;
        token->uinteger = strtoull(copy, NULL, hex ? 16 : 10);
        if (peek(lexer, 0) == 'u' || peek(lexer, 0) == 'U') {
            token->type = CEL_T_UINT;
            lexer->at++;
        }
    }
    if (errno == ERANGE && !(real && token->real < 1))
        return fl_cel_syntax_error(lexer->text, start, err, "number out of range");
    if (is_letter(peek(lexer, 0)))
        return fl_cel_syntax_error(lexer->text, start, err, "not a number");
    return 0;
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* `digits` digits in `base`; false where one is not. */
static bool read_code(struct cel_lexer *lexer, int digits, int base, uint32_t *ret_code)
{
    uint32_t code = 0;

    for (int i = 0; i < digits; i++, lexer->at++) {
        int value = hex_value(peek(lexer, 0));

        if (value < 0 || value >= base)
            return false;
        code = code * (uint32_t)base + (uint32_t)value;
    }
    *ret_code = code;
    return true;
}

/* The escape after a backslash; writes at most four bytes. */
static bool read_escape(struct cel_lexer *lexer, bool bytes, char *out, size_t *used)
{
    static const char from[] = "abfnrtv\\?\"'`", to[] = "\a\b\f\n\r\t\v\\?\"'`";
    char c = peek(lexer, 0);
    const char *simple = c ? strchr(from, c) : NULL;
    uint32_t code;

    if (simple) {
        lexer->at++;
        out[(*used)++] = to[simple - from];
        return true;
    }
    if (c >= '0' && c <= '3') {
        if (!read_code(lexer, 3, 8, &code))
            return false;
    } else {
        int digits = c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;

        lexer->at++;
        if (!digits || (bytes && digits > 2) || !read_code(lexer, digits, 16, &code))
            return false;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return false;
    if (bytes)
        out[(*used)++] = (char)code;
    else
        *used += put_utf8(out + *used, code);
    return true;
}

/* Where the closing quote is; false where there is none. */
static bool find_end(const struct cel_lexer *lexer, bool raw, bool triple, size_t *ret_end)
{
    char quote = peek(lexer, 0);

    for (size_t i = lexer->at + (triple ? 3 : 1); i < lexer->len; i++) {
        char c = lexer->text[i];

        if (c == '\\' && !raw) {
            i++;
        } else if (c == quote) {
            if (!triple || (i + 2 < lexer->len && lexer->text[i + 1] == quote &&
                            lexer->text[i + 2] == quote)) {
                *ret_end = i;
                return true;
            }
        } else if (!triple && (c == '\n' || c == '\r')) {
            return false;
        }
    }
    return false;
}

static int lex_string(struct cel_lexer *lexer, bool raw, bool bytes, struct cel_token *token,
                      struct fl_error *err)
{
    bool triple = peek(lexer, 1) == peek(lexer, 0) && peek(lexer, 2) == peek(lexer, 0);
    size_t start = token->position, used = 0, end;
    char *out;

    if (!find_end(lexer, raw, triple, &end))
        return fl_cel_syntax_error(lexer->text, start, err, "string without an end");
    lexer->at += triple ? 3 : 1;
    out = fl_alloc(lexer->arena, end - lexer->at + 1); /* an escape is longer than what it means */
    while (lexer->at < end) {
        char c = lexer->text[lexer->at++];

        if (c != '\\' || raw)
            out[used++] = c;
        else if (!read_escape(lexer, bytes, out, &used) || lexer->at > end)
            return fl_cel_syntax_error(lexer->text, lexer->at, err, "unknown escape");
    }
    lexer->at = end + (triple ? 3 : 1);
    if (!bytes && memchr(out, '\0', used))
        return fl_cel_syntax_error(lexer->text, start, err, "NUL in a string");
    out[used] = '\0';
    token->type = bytes ? CEL_T_BYTES : CEL_T_STRING;
    token->text = out;
    token->len = used;
    return 0;
}

/* Whether a string begins here, with its prefixes (r, b, rb …) which are skipped. */
static bool string_begins(struct cel_lexer *lexer, bool *raw, bool *bytes)
{
    size_t prefix = 0;

    *raw = *bytes = false;
    for (; prefix < 2; prefix++) {
        char c = peek(lexer, prefix);

        if ((c == 'r' || c == 'R') && !*raw)
            *raw = true;
        else if ((c == 'b' || c == 'B') && !*bytes)
            *bytes = true;
        else
            break;
    }
    if (peek(lexer, prefix) != '"' && peek(lexer, prefix) != '\'')
        return false;
    lexer->at += prefix;
    return true;
}

static int lex_punctuation(struct cel_lexer *lexer, struct cel_token *token, struct fl_error *err)
{
    static const char *const known[] = {"==", "!=", "<=", ">=", "&&", "||", "(", ")",
                                        "[",  "]",  "{",  "}",  ",",  ".",  "?", ":",
                                        "+",  "-",  "*",  "/",  "%",  "!",  "<", ">"};

    for (size_t i = 0; i < FL_COUNT_OF(known); i++) {
        size_t len = strlen(known[i]);

        if (lexer->len - lexer->at >= len && !memcmp(lexer->text + lexer->at, known[i], len)) {
            token->type = CEL_T_PUNCTUATION;
            token->text = known[i];
            token->len = len;
            lexer->at += len;
            return 0;
        }
    }
    return fl_cel_syntax_error(lexer->text, lexer->at, err, "unexpected character");
}

int fl_cel_lex(struct cel_lexer *lexer, struct cel_token *ret_token, struct fl_error *err)
{
    bool raw, bytes;
    char c;

    skip_space(lexer);
    *ret_token = (struct cel_token){
        .type = CEL_T_END, .position = (uint32_t)lexer->at, .text = "end of expression"};
    if (lexer->at >= lexer->len)
        return 0;
    c = peek(lexer, 0);
    if (is_digit(c))
        return lex_number(lexer, ret_token, err);
    if (c == '.' && is_digit(peek(lexer, 1)))
        return lex_number(lexer, ret_token, err);
    if (string_begins(lexer, &raw, &bytes))
        return lex_string(lexer, raw, bytes, ret_token, err);
    if (!is_letter(c))
        return lex_punctuation(lexer, ret_token, err);

    ret_token->type = CEL_T_NAME;
    while (is_letter(peek(lexer, 0)) || is_digit(peek(lexer, 0)))
        lexer->at++;
    ret_token->len = lexer->at - ret_token->position;
    ret_token->text =
        fl_arena_strndup(lexer->arena, lexer->text + ret_token->position, ret_token->len);
    return 0;
}
