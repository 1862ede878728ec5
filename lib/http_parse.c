#include "lib/http_parse.h"

#include "lib/str.h"

#include <string.h>
#include <strings.h>

#define CHUNK_LINE_MAX    256 /* size and extension of one chunk */
#define CHUNK_DIGITS_MAX  15  /* 60 bits: no overflow, and more than anybody has */
#define TRAILER_MAX_BYTES 8192

enum {
    IS_TOKEN = 1,  /* RFC 9110 tchar */
    IS_TARGET = 2, /* what may stand in a request target; raw UTF-8 is let through */
    IS_VALUE = 4,  /* what may stand in a field value */
};

static const unsigned char kinds[256] = {
    ['\t'] = IS_VALUE,
    [' '] = IS_VALUE,
    ['!'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    ['"'] = IS_TARGET | IS_VALUE,
    ['#' ... '\''] = IS_TOKEN | IS_TARGET | IS_VALUE,
    ['(' ... ')'] = IS_TARGET | IS_VALUE,
    ['*' ... '+'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    [','] = IS_TARGET | IS_VALUE,
    ['-' ... '.'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    ['/'] = IS_TARGET | IS_VALUE,
    ['0' ... '9'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    [':' ... '@'] = IS_TARGET | IS_VALUE,
    ['A' ... 'Z'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    ['[' ... ']'] = IS_TARGET | IS_VALUE,
    ['^' ... 'z'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    ['{'] = IS_TARGET | IS_VALUE,
    ['|'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    ['}'] = IS_TARGET | IS_VALUE,
    ['~'] = IS_TOKEN | IS_TARGET | IS_VALUE,
    [0x80 ... 0xFF] = IS_TARGET | IS_VALUE,
};

static size_t span(const char *text, const char *end, int kind)
{
    const char *at = text;

    while (at < end && (kinds[(unsigned char)*at] & kind))
        at++;
    return (size_t)(at - text);
}

static bool fault(struct fl_http_fault *ret_fault, int status, const char *detail)
{
    *ret_fault = (struct fl_http_fault){status, detail};
    return false;
}

/* Finding the end. */

size_t fl_http_blank_prefix(const char *data, size_t len)
{
    size_t at = 0;

    while (len - at >= 2 && data[at] == '\r' && data[at + 1] == '\n')
        at += 2;
    return at;
}

/* Bytes that no head may have are refused when they come, not when the head ends: whoever talks
 * another protocol to us would wait for the time-out otherwise. */
static bool has_control(const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];

        if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 0x7F)
            return true;
    }
    return false;
}

size_t fl_http_head_end(const char *data, size_t len, size_t *scanned,
                        struct fl_http_fault *ret_fault)
{
    const char *end = data + len, *at = data + *scanned;

    *ret_fault = (struct fl_http_fault){0};
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));

        if (!newline)
            break;
        if (newline == data || newline[-1] != '\r') {
            fault(ret_fault, 400, "lines end in CR LF");
            return 0;
        }
        if (newline >= data + 3 && newline[-2] == '\n')
            return (size_t)(newline + 1 - data);
        at = newline + 1;
    }
    if (has_control(data + *scanned, len - *scanned))
        fault(ret_fault, 400, "control character");
    else if (!memchr(data, '\n', len) && len > 0 && !(kinds[(unsigned char)data[0]] & IS_TOKEN) &&
             data[0] != '\r')
        fault(ret_fault, 400, "not a request line");
    *scanned = len;
    return 0;
}

/* The request line. */

static bool parse_version(const char *text, size_t len, struct fl_http_head *head,
                          struct fl_http_fault *ret_fault)
{
    if (len != 8 || memcmp(text, "HTTP/", 5) != 0 || text[5] < '0' || text[5] > '9' ||
        text[6] != '.' || text[7] < '0' || text[7] > '9')
        return fault(ret_fault, 400, "malformed request line");
    if (text[5] != '1')
        return fault(ret_fault, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    head->minor = text[7] == '0' ? 0 : 1;
    return true;
}

/* "http://host:1/path" becomes "/path": the authority is ours whatever it says. */
static bool strip_authority(char **target, struct fl_http_fault *ret_fault)
{
    size_t scheme = strncasecmp(*target, "http://", 7) == 0    ? 7
                    : strncasecmp(*target, "https://", 8) == 0 ? 8
                                                               : 0;
    char *authority = *target + scheme, *path = authority + strcspn(authority, "/?#");

    if (scheme == 0 || path == authority)
        return fault(ret_fault, 400, "malformed request target");
    if (*path == '/') {
        *target = path;
    } else { /* "http://host" and "http://host?q": the path is "/", put where the host was */
        path[-1] = '/';
        *target = path - 1;
    }
    return true;
}

static bool parse_target(struct fl_arena *arena, char *target, struct fl_http_head *head,
                         struct fl_http_fault *ret_fault)
{
    const char *question;

    if (strcmp(head->method, "CONNECT") == 0)
        return fault(ret_fault, 501, "CONNECT is not served here");
    if (strcmp(target, "*") == 0) {
        if (strcmp(head->method, "OPTIONS") != 0)
            return fault(ret_fault, 400, "malformed request target");
    } else if (*target != '/' && !strip_authority(&target, ret_fault)) {
        return false;
    }
    if (strchr(target, '#'))
        return fault(ret_fault, 400, "a request target has no fragment");
    question = strchr(target, '?');
    head->target = head->path = target;
    head->query = "";
    if (question) {
        head->path = fl_arena_strndup(arena, target, (size_t)(question - target));
        head->query = question + 1;
    }
    return true;
}

static bool parse_request_line(struct fl_arena *arena, char *line, char *end,
                               struct fl_http_head *head, struct fl_http_fault *ret_fault)
{
    size_t method_len = span(line, end, IS_TOKEN), target_len;
    char *target = line + method_len + 1;

    if (method_len == 0 || line + method_len >= end || line[method_len] != ' ')
        return fault(ret_fault, 400, "malformed request line");
    target_len = span(target, end, IS_TARGET);
    if (target_len == 0 || target + target_len >= end || target[target_len] != ' ')
        return fault(ret_fault, 400, "malformed request line");
    if (!parse_version(target + target_len + 1, (size_t)(end - target - target_len - 1), head,
                       ret_fault))
        return false;
    line[method_len] = target[target_len] = '\0';
    head->method = line;
    return parse_target(arena, target, head, ret_fault);
}

/* The fields. */

static bool parse_field(char *line, char *end, struct fl_http_field *field,
                        struct fl_http_fault *ret_fault)
{
    size_t name_len = span(line, end, IS_TOKEN);
    char *value = line + name_len + 1;

    if (*line == ' ' || *line == '\t')
        return fault(ret_fault, 400, "folded header");
    if (name_len == 0 || line + name_len >= end || line[name_len] != ':')
        return fault(ret_fault, 400, "malformed header");
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (span(value, end, IS_VALUE) != (size_t)(end - value))
        return fault(ret_fault, 400, "control character in a header");
    line[name_len] = *end = '\0'; /* *end is a space or the CR */
    *field = (struct fl_http_field){line, value, name_len};
    return true;
}

static size_t count_lines(const char *data, const char *end)
{
    size_t count = 0;

    while (data < end && (data = memchr(data, '\n', (size_t)(end - data)))) {
        data++;
        count++;
    }
    return count;
}

static bool parse_fields(struct fl_arena *arena, char *data, char *end, size_t max_fields,
                         struct fl_http_head *head, struct fl_http_fault *ret_fault)
{
    size_t count = count_lines(data, end);

    if (count > max_fields)
        return fault(ret_fault, 431, "too many headers");
    head->fields = fl_new_array(arena, struct fl_http_field, count);
    while (data < end) {
        char *newline = memchr(data, '\n', (size_t)(end - data));

        if (!newline || newline == data || newline[-1] != '\r')
            return fault(ret_fault, 400, "lines end in CR LF");
        if (!parse_field(data, newline - 1, &head->fields[head->field_count], ret_fault))
            return false;
        head->field_count++;
        data = newline + 1;
    }
    return true;
}

const char *fl_http_head_find(const struct fl_http_head *head, const char *name, size_t *at)
{
    size_t len = strlen(name);

    for (; *at < head->field_count; (*at)++)
        if (head->fields[*at].name_len == len &&
            strncasecmp(head->fields[*at].name, name, len) == 0)
            return head->fields[(*at)++].value;
    return NULL;
}

bool fl_http_list_has(const char *list, const char *token)
{
    size_t len = strlen(token);

    while (*list) {
        size_t element, used;

        list += strspn(list, ", \t");
        element = used = strcspn(list, ",");
        while (used > 0 && (list[used - 1] == ' ' || list[used - 1] == '\t'))
            used--;
        if (used == len && strncasecmp(list, token, len) == 0)
            return true;
        list += element;
    }
    return false;
}

/* What the fields mean for the connection and the body. */

static bool read_length(const char *value, struct fl_http_head *head,
                        struct fl_http_fault *ret_fault)
{
    if (head->content_length >= 0)
        return fault(ret_fault, 400, "more than one Content-Length");
    if (*value == '-' || !fl_str_to_int64(value, 0, INT64_MAX, &head->content_length))
        return fault(ret_fault, 400, "malformed Content-Length");
    return true;
}

static bool read_coding(const char *value, struct fl_http_head *head,
                        struct fl_http_fault *ret_fault)
{
    if (head->chunked)
        return fault(ret_fault, 400, "more than one Transfer-Encoding");
    if (head->minor == 0)
        return fault(ret_fault, 400, "Transfer-Encoding in HTTP/1.0");
    if (strcasecmp(value, "chunked") != 0)
        return fault(ret_fault, 501, "no Transfer-Encoding but chunked is known");
    head->chunked = true;
    return true;
}

static bool read_expectation(const char *value, struct fl_http_head *head,
                             struct fl_http_fault *ret_fault)
{
    if (head->minor == 0)
        return true;
    if (strcasecmp(value, "100-continue") != 0)
        return fault(ret_fault, 417, "no expectation but 100-continue is known");
    head->expect_continue = true;
    return true;
}

static bool read_connection(const char *value, struct fl_http_head *head,
                            struct fl_http_fault *ret_fault)
{
    (void)ret_fault;
    if (fl_http_list_has(value, "close"))
        head->keep_alive = false;
    else if (head->minor == 0 && fl_http_list_has(value, "keep-alive"))
        head->keep_alive = true;
    return true;
}

static const struct {
    const char *name;
    size_t len;
    bool (*read)(const char *value, struct fl_http_head *head, struct fl_http_fault *ret_fault);
} meanings[] = {
    {"Content-Length", 14, read_length},
    {"Transfer-Encoding", 17, read_coding},
    {"Expect", 6, read_expectation},
    {"Connection", 10, read_connection},
};

static bool read_meaning(struct fl_http_head *head, struct fl_http_fault *ret_fault)
{
    size_t hosts = 0;

    head->content_length = -1;
    head->keep_alive = head->minor == 1;
    for (size_t i = 0; i < head->field_count; i++) {
        const struct fl_http_field *field = &head->fields[i];

        hosts += field->name_len == 4 && strcasecmp(field->name, "Host") == 0;
        for (size_t k = 0; k < FL_COUNT_OF(meanings); k++)
            if (field->name_len == meanings[k].len &&
                strcasecmp(field->name, meanings[k].name) == 0 &&
                !meanings[k].read(field->value, head, ret_fault))
                return false;
    }
    if (hosts > 1 || (hosts == 0 && head->minor == 1))
        return fault(ret_fault, 400, "a request has one Host header");
    if (head->chunked && head->content_length >= 0)
        return fault(ret_fault, 400, "both Content-Length and Transfer-Encoding");
    return true;
}

bool fl_http_head_parse(struct fl_arena *arena, char *data, size_t len, size_t max_fields,
                        struct fl_http_head *ret_head, struct fl_http_fault *ret_fault)
{
    char *end = data + len, *newline = memchr(data, '\n', len);

    *ret_head = (struct fl_http_head){0};
    *ret_fault = (struct fl_http_fault){0};
    if (len < 4 || memcmp(end - 4, "\r\n\r\n", 4) != 0 || !newline || newline == data ||
        newline[-1] != '\r')
        return fault(ret_fault, 400, "malformed request line");
    return parse_request_line(arena, data, newline - 1, ret_head, ret_fault) &&
           parse_fields(arena, newline + 1, end - 2, max_fields, ret_head, ret_fault) &&
           read_meaning(ret_head, ret_fault);
}

/* Chunks. */

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF, DONE };

static enum fl_http_chunk_event chunk_fault(struct fl_http_fault *ret_fault, const char *detail)
{
    *ret_fault = (struct fl_http_fault){400, detail};
    return FL_HTTP_CHUNK_FAULT;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static const char *size_byte(struct fl_http_chunks *chunks, char c)
{
    int digit = hex_value(c);

    if (digit >= 0) {
        chunks->left = chunks->left * 16 + (unsigned)digit;
        return ++chunks->digits > CHUNK_DIGITS_MAX ? "chunk size too large" : NULL;
    }
    if (chunks->digits == 0)
        return "malformed chunk size";
    if (c != '\r' && c != ';' && c != ' ' && c != '\t')
        return "malformed chunk size";
    chunks->state = c == '\r' ? SIZE_LF : EXTENSION;
    return NULL;
}

static const char *extension_byte(struct fl_http_chunks *chunks, char c)
{
    if (c == '\r')
        chunks->state = SIZE_LF;
    else if (!(kinds[(unsigned char)c] & IS_VALUE))
        return "control character in a chunk extension";
    return NULL;
}

static const char *end_size_line(struct fl_http_chunks *chunks, char c)
{
    if (c != '\n')
        return "lines end in CR LF";
    chunks->state = chunks->left > 0 ? DATA : TRAILER;
    chunks->digits = chunks->line_len = 0;
    return NULL;
}

/* A trailer line is dropped, an empty one ends the body. */
static const char *trailer_byte(struct fl_http_chunks *chunks, char c)
{
    if (++chunks->trailer_bytes > TRAILER_MAX_BYTES)
        return "trailers too long";
    if (c == '\r') {
        chunks->state = TRAILER_LF;
        return NULL;
    }
    chunks->line_len++;
    return kinds[(unsigned char)c] & IS_VALUE ? NULL : "control character in a trailer";
}

static const char *end_trailer(struct fl_http_chunks *chunks, char c)
{
    if (c != '\n')
        return "lines end in CR LF";
    chunks->state = chunks->line_len > 0 ? TRAILER : DONE;
    chunks->line_len = 0;
    return NULL;
}

static const char *frame_byte(struct fl_http_chunks *chunks, char c)
{
    switch (chunks->state) {
    case SIZE:
    case EXTENSION:
        if (++chunks->line_len > CHUNK_LINE_MAX)
            return "chunk extension too long";
        return chunks->state == SIZE ? size_byte(chunks, c) : extension_byte(chunks, c);
    case SIZE_LF:
        return end_size_line(chunks, c);
    case DATA_CR:
        chunks->state = DATA_LF;
        return c == '\r' ? NULL : "chunk longer than its size";
    case DATA_LF:
        chunks->state = SIZE;
        return c == '\n' ? NULL : "chunk longer than its size";
    case TRAILER:
        return trailer_byte(chunks, c);
    default:
        return end_trailer(chunks, c);
    }
}

static void take_data(struct fl_http_chunks *chunks, const char **data, size_t *len,
                      const char **ret_piece, size_t *ret_piece_len)
{
    size_t take = *len < chunks->left ? *len : (size_t)chunks->left;

    *ret_piece = *data;
    *ret_piece_len = take;
    *data += take;
    *len -= take;
    chunks->left -= take;
    if (chunks->left == 0)
        chunks->state = DATA_CR;
}

enum fl_http_chunk_event fl_http_chunks_next(struct fl_http_chunks *chunks, const char **data,
                                             size_t *len, const char **ret_piece,
                                             size_t *ret_piece_len, struct fl_http_fault *ret_fault)
{
    while (chunks->state != DONE && *len > 0) {
        const char *wrong;

        if (chunks->state == DATA) {
            take_data(chunks, data, len, ret_piece, ret_piece_len);
            return FL_HTTP_CHUNK_DATA;
        }
        wrong = frame_byte(chunks, **data);
        if (wrong)
            return chunk_fault(ret_fault, wrong);
        (*data)++;
        (*len)--;
    }
    return chunks->state == DONE ? FL_HTTP_CHUNK_END : FL_HTTP_CHUNK_MORE;
}

/* Status texts. */

const char *fl_http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {100, "Continue"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Request Entity Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Entity"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Unknown";
}
