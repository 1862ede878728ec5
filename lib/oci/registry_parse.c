#include "lib/oci/registry_parse.h"

#include "lib/json.h"
#include "lib/str.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define ERROR_TEXT_MAX    300
#define URL_MAX           4096
#define TOKEN_MAX         ((size_t)64 * 1024)
#define TOKEN_SECONDS     60
#define TOKEN_SECONDS_MAX 86400

/* Challenges. */

static bool is_token_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t");
}

static const char *take_token(struct fl_arena *arena, const char *at, const char **ret_token)
{
    size_t len = 0;

    while (is_token_char(at[len]))
        len++;
    if (len == 0 || len > FL_CHALLENGE_TEXT_MAX)
        return NULL;
    *ret_token = fl_arena_strndup(arena, at, len);
    return at + len;
}

/* Behind the opening quote. */
static const char *take_quoted(struct fl_arena *arena, const char *at, const char **ret_text)
{
    char *text = fl_alloc(arena, FL_CHALLENGE_TEXT_MAX + 1);
    size_t len = 0;

    for (; *at != '"'; at++) {
        if (*at == '\\')
            at++;
        if (!*at || len == FL_CHALLENGE_TEXT_MAX)
            return NULL;
        text[len++] = *at;
    }
    *ret_text = text;
    return at + 1;
}

/* After a scheme may stand credentials in one piece ("Negotiate YWJj=="), which say nothing here.
 */
static const char *skip_token68(const char *at)
{
    const char *end = at;

    while (isalnum((unsigned char)*end) || (*end && strchr("-._~+/", *end)))
        end++;
    if (end == at)
        return at;
    end = skip_space(end + strspn(end, "="));
    return *end == ',' || *end == '\0' ? end : at;
}

static void note_parameter(struct fl_challenge *challenge, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {{"realm", &challenge->realm},
                 {"service", &challenge->service},
                 {"scope", &challenge->scope},
                 {"error", &challenge->error}};

    for (size_t i = 0; i < FL_COUNT_OF(known); i++)
        if (strcasecmp(name, known[i].name) == 0 && !*known[i].value)
            *known[i].value = value;
}

/* Behind the '='. */
static const char *take_value(struct fl_arena *arena, const char *at, const char **ret_value)
{
    at = skip_space(at);
    return *at == '"' ? take_quoted(arena, at + 1, ret_value) : take_token(arena, at, ret_value);
}

static const char *lower(struct fl_arena *arena, const char *text)
{
    char *copy = fl_arena_strdup(arena, text);

    for (char *c = copy; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

/* A scheme, or a parameter of the scheme before it. NULL: malformed, or too many. */
static const char *take_item(struct fl_arena *arena, const char *at,
                             struct fl_challenges *challenges, bool *open)
{
    const char *name = NULL, *value = NULL, *end = take_token(arena, at, &name), *next;

    if (!end)
        return NULL;
    next = skip_space(end);
    if (*next == '=' && *open) {
        next = take_value(arena, next + 1, &value);
        if (next)
            note_parameter(&challenges->items[challenges->count - 1], name, value);
        return next;
    }
    if (*next == '=' || challenges->count == FL_CHALLENGES_MAX)
        return NULL;
    challenges->items[challenges->count++] = (struct fl_challenge){.scheme = lower(arena, name)};
    *open = true;
    return skip_token68(next);
}

void fl_challenges_add(struct fl_arena *arena, const char *value, struct fl_challenges *challenges)
{
    bool open = false;

    while (value && *(value = value + strspn(value, " \t,")))
        value = take_item(arena, value, challenges, &open);
}

void fl_challenges_find(struct fl_arena *arena, const char *headers,
                        struct fl_challenges *ret_challenges)
{
    static const char name[] = "WWW-Authenticate:";

    *ret_challenges = (struct fl_challenges){0};
    while (headers && *headers) {
        size_t len = strcspn(headers, "\n");

        if (len > sizeof(name) - 1 && strncasecmp(headers, name, sizeof(name) - 1) == 0)
            fl_challenges_add(
                arena,
                fl_arena_strndup(arena, headers + sizeof(name) - 1, len - (sizeof(name) - 1)),
                ret_challenges);
        headers += len + (headers[len] == '\n');
    }
}

const struct fl_challenge *fl_challenge_of(const struct fl_challenges *challenges,
                                           const char *scheme)
{
    for (size_t i = 0; i < challenges->count; i++)
        if (fl_streq(challenges->items[i].scheme, scheme))
            return &challenges->items[i];
    return NULL;
}

/* Addresses. */

/* Visible ASCII: what else is in an address must be escaped. */
static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text >= 0x7F || *text == '\\' || *text == '"')
            return false;
    return true;
}

static bool host_is_valid(const char *host)
{
    size_t len = strlen(host);

    if (len > 2 && host[0] == '[' && host[len - 1] == ']')
        return strspn(host + 1, "0123456789abcdef:.") == len - 2;
    return len > 0 && len <= 253 && *host != '-' && *host != '.' &&
           strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") == len;
}

/* "host", "host:port", "[::1]:port" */
static bool split_authority(struct fl_arena *arena, const char *authority,
                            struct fl_registry_url *url)
{
    const char *bracket = strrchr(authority, ']');
    const char *colon = strchr(bracket ? bracket : authority, ':');
    int64_t port = url->https ? 443 : 80;

    if (colon && !fl_str_to_int64(colon + 1, 1, 65535, &port))
        return false;
    url->port = (uint16_t)port;
    url->host =
        lower(arena, fl_arena_strndup(arena, authority,
                                      colon ? (size_t)(colon - authority) : strlen(authority)));
    return host_is_valid(url->host);
}

bool fl_registry_url_parse(struct fl_arena *arena, const char *text,
                           struct fl_registry_url *ret_url)
{
    struct fl_registry_url url = {0};
    size_t authority_len, target_len;

    if (strlen(text) > URL_MAX || !is_plain(text))
        return false;
    if (strncasecmp(text, "https://", 8) == 0)
        url.https = true;
    else if (strncasecmp(text, "http://", 7) != 0)
        return false;
    text += url.https ? 8 : 7;
    authority_len = strcspn(text, "/?#");
    if (!split_authority(arena, fl_arena_strndup(arena, text, authority_len), &url))
        return false;
    text += authority_len;
    target_len = strcspn(text, "#");
    url.target = fl_arena_printf(arena, "%s%.*s", *text == '/' ? "" : "/", (int)target_len, text);
    *ret_url = url;
    return true;
}

const char *fl_registry_url_origin(struct fl_arena *arena, const struct fl_registry_url *url)
{
    return fl_arena_printf(arena, "%s://%s:%u", url->https ? "https" : "http", url->host,
                           (unsigned)url->port);
}

/* A scheme stands before the first of "/?#". */
static bool has_scheme(const char *text)
{
    size_t len = strcspn(text, ":/?#");

    return text[len] == ':' && len > 0;
}

bool fl_registry_url_resolve(struct fl_arena *arena, const struct fl_registry_url *base,
                             const char *text, struct fl_registry_url *ret_url)
{
    const char *origin = fl_registry_url_origin(arena, base);
    size_t path_len = strcspn(base->target, "?");

    if (strlen(text) > URL_MAX || !*text)
        return false;
    if (has_scheme(text))
        return fl_registry_url_parse(arena, text, ret_url);
    if (fl_str_has_prefix(text, "//"))
        text = fl_arena_printf(arena, "%s%s", base->https ? "https:" : "http:", text);
    else if (*text == '/')
        text = fl_arena_printf(arena, "%s%s", origin, text);
    else if (*text == '?' || *text == '#')
        text = fl_arena_printf(arena, "%s%.*s%s", origin, (int)path_len, base->target, text);
    else {
        while (path_len > 0 && base->target[path_len - 1] != '/')
            path_len--;
        text = fl_arena_printf(arena, "%s%.*s%s", origin, (int)path_len, base->target, text);
    }
    return fl_registry_url_parse(arena, text, ret_url);
}

bool fl_registry_url_same_origin(const struct fl_registry_url *a, const struct fl_registry_url *b)
{
    return a->https == b->https && a->port == b->port && fl_streq(a->host, b->host);
}

const char *fl_registry_query(struct fl_arena *arena, const char *target, const char *key,
                              const char *value)
{
    static const char hex[] = "0123456789ABCDEF";
    char *escaped = fl_alloc(arena, 3 * strlen(value) + 1), *out = escaped;

    for (; *value; value++) {
        if (isalnum((unsigned char)*value) || strchr("-._~:/", *value)) {
            *out++ = *value;
            continue;
        }
        *out++ = '%';
        *out++ = hex[(unsigned char)*value >> 4];
        *out++ = hex[(unsigned char)*value & 15];
    }
    return fl_arena_printf(arena, "%s%c%s=%s", target, strchr(target, '?') ? '&' : '?', key,
                           escaped);
}

/* Links and ranges. */

static bool says_next(const char *parameters)
{
    const char *rel = strcasestr(parameters, "rel=");

    if (!rel)
        return false;
    rel += 4 + (rel[4] == '"');
    return strncasecmp(rel, "next", 4) == 0 && !is_token_char(rel[4]);
}

const char *fl_registry_next_link(struct fl_arena *arena, const char *value)
{
    while (value) {
        const char *open = strchr(value, '<'), *close = open ? strchr(open, '>') : NULL, *end;

        if (!close)
            return NULL;
        end = close + strcspn(close, ",");
        if (says_next(fl_arena_strndup(arena, close, (size_t)(end - close))))
            return fl_arena_strndup(arena, open + 1, (size_t)(close - open - 1));
        value = *end ? end + 1 : NULL;
    }
    return NULL;
}

/* Digits up to `stop`, and past it. */
static bool take_number(const char **at, char stop, int64_t *ret_value)
{
    size_t len = strspn(*at, "0123456789");
    char digits[20];

    if (len == 0 || len >= sizeof(digits) || (*at)[len] != stop)
        return false;
    memcpy(digits, *at, len);
    digits[len] = '\0';
    *at += len + (stop != '\0');
    return fl_str_to_int64(digits, 0, INT64_MAX / 2, ret_value);
}

bool fl_registry_kept_parse(const char *value, int64_t *ret_count)
{
    const char *at = fl_str_has_prefix(value, "bytes=") ? value + 6 : value;
    int64_t first, last;

    if (!take_number(&at, '-', &first) || !take_number(&at, '\0', &last) || first != 0)
        return false;
    *ret_count = last + 1;
    return true;
}

bool fl_registry_content_range_parse(const char *value, int64_t *ret_first, int64_t *ret_last,
                                     int64_t *ret_size)
{
    const char *at = value + 6;
    int64_t first, last, size = -1;

    if (strncasecmp(value, "bytes ", 6) != 0 || !take_number(&at, '-', &first) ||
        !take_number(&at, '/', &last) || last < first)
        return false;
    if (strcmp(at, "*") != 0 && (!take_number(&at, '\0', &size) || last >= size))
        return false;
    *ret_first = first;
    *ret_last = last;
    *ret_size = size;
    return true;
}

/* Documents. */

static bool is_header_text(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text >= 0x7F)
            return false;
    return true;
}

static int parse_object(const char *text, size_t len, json_t **ret_value, struct fl_error *err)
{
    static const struct fl_json_limits limits = {.max_bytes = TOKEN_MAX, .max_depth = 16};
    int r = fl_json_parse(text, len, &limits, NULL, NULL, ret_value, NULL);

    return r < 0 ? fl_error_set(err, FL_E_INVALID, "it is not JSON") : 0;
}

int fl_registry_token_parse(struct fl_arena *arena, const char *text, size_t len,
                            struct fl_registry_token *ret_token, struct fl_error *err)
{
    FL_JSON value = NULL;
    const char *token;
    int64_t seconds;
    int r = parse_object(text, len, &value, err);

    if (r < 0)
        return r;
    token = json_string_value(json_object_get(value, "token"));
    if (!token || !*token)
        token = json_string_value(json_object_get(value, "access_token"));
    if (!token || !*token || !is_header_text(token))
        return fl_error_set(err, FL_E_INVALID, "it holds no token");
    seconds = fl_json_int(value, "expires_in", TOKEN_SECONDS);
    if (seconds < 0 || seconds > TOKEN_SECONDS_MAX)
        seconds = seconds < 0 ? 0 : TOKEN_SECONDS_MAX;
    *ret_token = (struct fl_registry_token){fl_arena_strdup(arena, token), seconds};
    return 0;
}

const char *fl_registry_error_text(struct fl_arena *arena, const char *text, size_t len)
{
    FL_JSON value = NULL;
    const json_t *first;
    const char *code, *message;
    char *line;

    if (len == 0 || parse_object(text, len, &value, NULL) < 0)
        return NULL;
    first = json_array_get(json_object_get(value, "errors"), 0);
    code = json_string_value(json_object_get(first, "code"));
    message = json_string_value(json_object_get(first, "message"));
    if (!code && !message)
        return NULL;
    line = fl_arena_printf(arena, "%s%s%s", fl_str_or(message, ""), code && message ? ", " : "",
                           fl_str_or(code, ""));
    line[fl_utf8_cut(line, strlen(line), ERROR_TEXT_MAX)] = '\0';
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F)
            *c = ' ';
    return line;
}
