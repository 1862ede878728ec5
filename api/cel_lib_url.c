#include "api/cel_internal.h"
#include "lib/str.h"

#include <ctype.h>

/* url(): an absolute URL, or a path that begins with '/', as Go's ParseRequestURI takes it. */

static bool valid_escapes(const char *text)
{
    for (; *text; text++) {
        if (*text != '%')
            continue;
        if (!isxdigit((unsigned char)text[1]) || !isxdigit((unsigned char)text[2]))
            return false;
        text += 2;
    }
    return true;
}

static bool valid_port(const char *port)
{
    return strspn(port, "0123456789") == strlen(port);
}

/* "user:pass@host:port" */
static bool split_authority(struct fl_arena *arena, const char *authority, struct cel_url *url)
{
    const char *at = strrchr(authority, '@'), *host = at ? at + 1 : authority, *colon;
    const char *bracket;

    if (at && strcspn(authority, " \"<>[]^`{|}\\#/?") < (size_t)(at - authority))
        return false;
    if (strpbrk(host, " \"<>^`{|}\\#") && *host != '[')
        return false;
    url->host = host;
    if (*host == '[') {
        bracket = strrchr(host, ']');
        if (!bracket || (bracket[1] && bracket[1] != ':') ||
            !valid_port(bracket[1] ? bracket + 2 : ""))
            return false;
        url->hostname = fl_arena_strndup(arena, host + 1, (size_t)(bracket - host - 1));
        url->port = bracket[1] ? bracket + 2 : "";
        return true;
    }
    colon = strrchr(host, ':');
    if (colon && (!valid_port(colon + 1) || strchr(host, ':') != colon))
        return false;
    url->hostname = colon ? fl_arena_strndup(arena, host, (size_t)(colon - host)) : host;
    url->port = colon ? colon + 1 : "";
    return valid_escapes(host);
}

static bool parse(struct fl_arena *arena, const char *text, struct cel_url *url)
{
    const char *rest = text, *colon = strchr(text, ':'), *query;
    size_t scheme =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

    *url = (struct cel_url){"", "", "", "", "", ""};
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 127)
            return false;
    }
    if (colon == text + scheme && isalpha((unsigned char)*text)) {
        char *lower = fl_arena_strndup(arena, text, scheme);

        for (char *c = lower; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        url->scheme = lower;
        rest = colon + 1;
    }
    if (strchr(rest, '#')) /* the fragment is nothing that can be asked for */
        rest = fl_arena_strndup(arena, rest, strcspn(rest, "#"));
    query = strchr(rest, '?');
    if (query) {
        url->query = query + 1;
        rest = fl_arena_strndup(arena, rest, (size_t)(query - rest));
    }
    if (*rest != '/')
        return *url->scheme; /* opaque */
    if ((*url->scheme || rest[2] != '/') && fl_str_has_prefix(rest, "//")) {
        size_t len = strcspn(rest + 2, "/");

        if (!split_authority(arena, fl_arena_strndup(arena, rest + 2, len), url))
            return false;
        rest += 2 + len;
    }
    url->path = rest;
    return valid_escapes(rest);
}

static struct cel_value url(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_url *parsed = fl_new(eval->arena, struct cel_url);
    const char *text;

    (void)count;
    if (args[0].kind != CEL_STRING)
        return fl_cel_no_overload();
    fl_cel_charge(eval, args[0].text.len / 10);
    text = fl_cel_strdup(eval, &args[0]);
    if (!parse(eval->arena, text, parsed))
        return fl_cel_error(eval,
                            "URL parse error during conversion from string: parse \"%.200s\""
                            ": invalid URI for request",
                            text);
    return (struct cel_value){.kind = CEL_URL, .url = parsed};
}

static struct cel_value is_url(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value value = url(eval, args, count);

    return args[0].kind == CEL_STRING ? cel_bool(value.kind == CEL_URL) : value;
}

/* Go's EscapedPath: what is not allowed in a path is escaped, what was escaped stays. */
static struct cel_value escaped_path(struct cel_eval *eval, const struct cel_value *args,
                                     size_t count)
{
    struct cel_value value;
    struct fl_buf out;

    (void)count;
    if (args[0].kind != CEL_URL)
        return fl_cel_no_overload();
    if (!fl_cel_charge(eval, strlen(args[0].url->path) / 10))
        return fl_cel_too_costly();
    fl_buf_init(&out, 0);
    for (const char *c = args[0].url->path; *c; c++) {
        if (isalnum((unsigned char)*c) || strchr("-_.~$&+,/:;=@!'()*[]%", *c))
            fl_buf_putc(&out, *c);
        else
            fl_buf_printf(&out, "%%%02X", (unsigned char)*c);
    }
    value = fl_cel_cstring(fl_arena_strdup(eval->arena, fl_buf_text(&out)));
    fl_buf_finish(&out);
    return value;
}

#define GETTER(name, field)                                                                        \
    static struct cel_value name(struct cel_eval *eval, const struct cel_value *args,              \
                                 size_t count)                                                     \
    {                                                                                              \
        (void)eval;                                                                                \
        (void)count;                                                                               \
        return args[0].kind == CEL_URL ? fl_cel_cstring(args[0].url->field)                        \
                                       : fl_cel_no_overload();                                     \
    }
GETTER(get_scheme, scheme)
GETTER(get_host, host)
GETTER(get_hostname, hostname)
GETTER(get_port, port)

/* A query's values by key, each a list, in order of first appearance. */
static struct cel_value get_query(struct cel_eval *eval, const struct cel_value *args, size_t count)
{
    struct cel_value value = {.kind = CEL_MAP};
    const char *rest, *part;
    struct cel_pair *pairs;
    size_t used = 0, max;

    (void)count;
    if (args[0].kind != CEL_URL)
        return fl_cel_no_overload();
    rest = args[0].url->query;
    max = strlen(rest) / 2 + 1;
    if (!fl_cel_charge(eval, max))
        return fl_cel_too_costly();
    pairs = fl_new_array(eval->arena, struct cel_pair, max + 1);
    while ((part = fl_str_next(eval->arena, &rest, '&')) && fl_cel_charge(eval, 1 + used / 10)) {
        size_t len = strcspn(part, "="), i = 0;
        char *key = fl_url_decode(eval->arena, part, len, true);
        const char *text =
            part[len] ? fl_url_decode(eval->arena, part + len + 1, strlen(part + len + 1), true)
                      : "";
        struct cel_items items = {0};
        struct cel_value item;

        if (!*part || !key || !text || strchr(part, ';'))
            continue;
        while (i < used && strcmp(pairs[i].key.text.data, key))
            i++;
        if (i < used) {
            for (size_t j = 0; j < pairs[i].value.many.count && fl_cel_charge(eval, 1); j++)
                fl_cel_push(eval, &items, &pairs[i].value.many.items[j]);
        } else {
            pairs[used++].key = fl_cel_cstring(key);
        }
        item = fl_cel_cstring(text);
        fl_cel_push(eval, &items, &item);
        pairs[i].value = cel_list(items.items, items.count);
    }
    value.many.pairs = pairs;
    value.many.count = used;
    return value;
}

const struct cel_function fl_cel_url_functions[] = {
    {"url", false, "s>U", url},
    {"isURL", false, "s>b", is_url},
    {"getScheme", true, "U>s", get_scheme},
    {"getHost", true, "U>s", get_host},
    {"getHostname", true, "U>s", get_hostname},
    {"getPort", true, "U>s", get_port},
    {"getEscapedPath", true, "U>s", escaped_path},
    {"getQuery", true, "U>Q", get_query},
    {0},
};
