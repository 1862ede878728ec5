/* The string formats that Kubernetes checks, as its Go libraries read them: net/mail, net/url,
 * net.ParseMAC, time.ParseDuration and the patterns documented with CustomResourceDefinitions. */
#include "api/schema_internal.h"
#include "lib/str.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

struct text {
    const char *at;
    size_t len;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Two digits at `at` make a number of at most `max`. */
static bool two_digits(const char *at, int max)
{
    return is_digit(at[0]) && is_digit(at[1]) && (at[0] - '0') * 10 + at[1] - '0' <= max;
}

static bool is_date(const char *text, size_t len)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;

    if (len != 10 || text[4] != '-' || text[7] != '-' || !two_digits(text, 99) ||
        !two_digits(text + 2, 99) || !two_digits(text + 5, 12) || !two_digits(text + 8, 31))
        return false;
    year = (text[0] - '0') * 1000 + (text[1] - '0') * 100 + (text[2] - '0') * 10 + text[3] - '0';
    month = (text[5] - '0') * 10 + text[6] - '0';
    day = (text[8] - '0') * 10 + text[9] - '0';
    if (month < 1 || day < 1)
        return false;
    if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
        return day <= 29;
    return day <= days[month - 1];
}

static bool is_date_time(const char *text, size_t len)
{
    size_t i = 19;

    if (len < 20 || !is_date(text, 10) || (text[10] != 't' && text[10] != 'T') ||
        !two_digits(text + 11, 23) || text[13] != ':' || !two_digits(text + 14, 59) ||
        text[16] != ':' || !two_digits(text + 17, 59))
        return false;
    if (i + 1 < len && is_digit(text[i + 1]) && text[i] != '+' && text[i] != '-') {
        for (i++; i < len && is_digit(text[i]);)
            i++;
    }
    if (i + 1 == len)
        return text[i] == 'z' || text[i] == 'Z';
    return i + 6 == len && (text[i] == '+' || text[i] == '-') && two_digits(text + i + 1, 99) &&
           text[i + 3] == ':' && two_digits(text + i + 4, 99);
}

/* "300ms", "-1.5h", "2h45m", "0". */
static bool is_go_duration(struct text t)
{
    static const char *const units[] = {"ns", "us", "\xc2\xb5s", "\xce\xbcs", "ms", "s", "m", "h"};

    if (t.len > 0 && (*t.at == '-' || *t.at == '+'))
        t.at++, t.len--;
    if (t.len == 1 && *t.at == '0')
        return true;
    if (t.len == 0)
        return false;
    while (t.len > 0) {
        size_t digits = 0, used = 0, unit_len = 0;

        for (; used < t.len && (is_digit(t.at[used]) || t.at[used] == '.'); used++)
            digits += t.at[used] != '.';
        if (digits == 0 || digits > 18 || used - digits > 1)
            return false;
        while (used + unit_len < t.len && t.at[used + unit_len] != '.' &&
               !is_digit(t.at[used + unit_len]))
            unit_len++;
        size_t i = 0;
        while (i < FL_COUNT_OF(units) &&
               (strlen(units[i]) != unit_len || memcmp(units[i], t.at + used, unit_len) != 0))
            i++;
        if (i == FL_COUNT_OF(units))
            return false;
        t.at += used + unit_len;
        t.len -= used + unit_len;
    }
    return true;
}

static bool is_unit(const char *at, size_t len)
{
    static const char *const exact[] = {"ns", "us", "\xc2\xb5s", "ms", "s", "m",
                                        "h",  "hr", "d",         "w",  "wk"};
    static const char *const prefixes[] = {"nano", "micro", "milli", "sec",
                                           "min",  "hour",  "day",   "week"};

    for (size_t i = 0; i < FL_COUNT_OF(exact); i++) {
        if (strlen(exact[i]) == len && strncasecmp(exact[i], at, len) == 0)
            return true;
    }
    for (size_t i = 0; i < FL_COUNT_OF(prefixes); i++) {
        if (len >= strlen(prefixes[i]) && strncasecmp(prefixes[i], at, strlen(prefixes[i])) == 0)
            return true;
    }
    return false;
}

/* Scala's form, "3 days": a number with a unit is somewhere in the text. */
static bool is_worded_duration(const char *text, size_t len)
{
    bool found = false;

    for (size_t i = 0; i < len;) {
        size_t digits = i, unit, end;

        if (!is_digit(text[i])) {
            i++;
            continue;
        }
        while (digits < len && is_digit(text[digits]))
            digits++;
        for (unit = digits; unit < len && is_space(text[unit]);)
            unit++;
        for (end = unit; end < len;) {
            if (is_letter(text[end]))
                end++;
            else if (end + 1 < len && memcmp(text + end, "\xc2\xb5", 2) == 0)
                end += 2;
            else
                break;
        }
        if (end > unit) {
            if (digits - i > 18)
                return false;
            found |= is_unit(text + unit, end - unit);
        }
        i = end > unit ? end : digits;
    }
    return found;
}

static bool is_duration(const char *text, size_t len)
{
    return is_go_duration((struct text){text, len}) || is_worded_duration(text, len);
}

/* Four numbers up to 255; leading zeros were always tolerated. */
static bool is_dotted_quad(const char *text, size_t len)
{
    unsigned parts = 0, value = 0, digits = 0;

    for (size_t i = 0; i <= len; i++) {
        if (i < len && is_digit(text[i])) {
            value = value * 10 + (unsigned)(text[i] - '0');
            digits++;
            if (value > 255)
                return false;
        } else if (digits > 0 && (i == len || text[i] == '.')) {
            parts++;
            value = digits = 0;
        } else {
            return false;
        }
    }
    return parts == 4;
}

static bool is_ipv6(const char *text, size_t len)
{
    char copy[INET6_ADDRSTRLEN + 1];
    struct in6_addr address;

    if (len >= sizeof(copy) || !memchr(text, ':', len))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return inet_pton(AF_INET6, copy, &address) == 1;
}

static bool is_ipv4(const char *text, size_t len)
{
    return is_dotted_quad(text, len) || (memchr(text, '.', len) && is_ipv6(text, len));
}

static bool is_cidr(const char *text, size_t len)
{
    const char *slash = memchr(text, '/', len);
    size_t address = slash ? (size_t)(slash - text) : 0, digits = slash ? len - address - 1 : 0;
    unsigned bits = 0;

    if (!slash || digits < 1 || digits > 3)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (!is_digit(slash[1 + i]))
            return false;
        bits = bits * 10 + (unsigned)(slash[1 + i] - '0');
    }
    return (bits <= 32 && is_dotted_quad(text, address)) || (bits <= 128 && is_ipv6(text, address));
}

/* 6, 8 or 20 bytes, in pairs with ':' or '-', or in fours with '.'. */
static bool is_mac(const char *text, size_t len)
{
    char separator = len > 4 && text[4] == '.' ? '.' : len > 2 ? text[2] : '\0';
    size_t group = separator == '.' ? 4 : 2, bytes = 0;

    if ((separator != ':' && separator != '-' && separator != '.') || len % (group + 1) != group)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (i % (group + 1) == group ? text[i] != separator : !is_hex(text[i]))
            return false;
    }
    bytes = (len + 1) / (group + 1) * group / 2;
    return bytes == 6 || bytes == 8 || bytes == 20;
}

static bool is_uuid_version(const char *text, size_t len, char version)
{
    static const size_t groups[] = {8, 4, 4, 4, 12};
    size_t at = 0;

    for (size_t g = 0; g < FL_COUNT_OF(groups); g++) {
        if (g > 0 && at < len && text[at] == '-')
            at++;
        if (g == 2 && version && at < len && text[at] != version)
            return false;
        if (g == 3 && version > '3' && at < len && !strchr("89abAB", text[at]))
            return false;
        for (size_t i = 0; i < groups[g]; i++, at++) {
            if (at >= len || !is_hex(text[at]))
                return false;
        }
    }
    return at == len;
}

static bool is_uuid(const char *text, size_t len)
{
    return is_uuid_version(text, len, 0);
}

static bool is_uuid3(const char *text, size_t len)
{
    return is_uuid_version(text, len, '3');
}

static bool is_uuid4(const char *text, size_t len)
{
    return is_uuid_version(text, len, '4');
}

static bool is_uuid5(const char *text, size_t len)
{
    return is_uuid_version(text, len, '5');
}

static bool is_base64(const char *text, size_t len)
{
    size_t padding = 0;

    if (len == 0 || len % 4 != 0)
        return false;
    while (padding < 2 && text[len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < len - padding; i++) {
        if (!is_letter(text[i]) && !is_digit(text[i]) && text[i] != '+' && text[i] != '/')
            return false;
    }
    return true;
}

static bool escapes_are_whole(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%' && (i + 2 >= len || !is_hex(text[i + 1]) || !is_hex(text[i + 2])))
            return false;
    }
    return true;
}

static bool is_authority(const char *text, size_t len)
{
    const char *at = memrchr(text, '@', len), *host = at ? at + 1 : text, *end = text + len, *port;

    for (const char *c = text; at && c < at; c++) {
        if (!is_letter(*c) && !is_digit(*c) && !strchr("-._:~!$&'()*+,;=%@", *c))
            return false;
    }
    if (host < end && *host == '[') {
        port = memchr(host, ']', (size_t)(end - host));
        if (!port)
            return false;
        port++;
        if (port < end && *port != ':')
            return false;
    } else {
        port = memrchr(host, ':', (size_t)(end - host));
        if (!port)
            port = end;
    }
    for (const char *c = port + (port < end); c < end; c++) {
        if (!is_digit(*c))
            return false;
    }
    for (const char *c = host; c < port; c++) {
        if (!((unsigned char)*c >= 0x80 || is_letter(*c) || is_digit(*c) ||
              strchr("-_.~$&+,/:;=?@!'()*[]<>\"%", *c)))
            return false;
    }
    return escapes_are_whole(text, len);
}

/* What a request line may carry: an absolute URI, or a path from the root. */
static bool is_uri(const char *text, size_t len)
{
    size_t scheme = 0, path_len;

    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    if (len == 0)
        return false;
    if (len == 1 && *text == '*')
        return true;
    if (is_letter(*text)) {
        while (scheme < len &&
               (is_letter(text[scheme]) || is_digit(text[scheme]) || strchr("+-.", text[scheme])))
            scheme++;
        scheme = scheme < len && text[scheme] == ':' ? scheme + 1 : 0;
    } else if (*text == ':') {
        return false;
    }
    text += scheme;
    len -= scheme;
    for (path_len = 0; path_len < len && text[path_len] != '?';)
        path_len++;
    if (path_len == 0 || *text != '/')
        return scheme > 0;
    if (scheme > 0 && path_len >= 2 && text[1] == '/') {
        const char *slash = memchr(text + 2, '/', path_len - 2);
        size_t authority = slash ? (size_t)(slash - text - 2) : path_len - 2;

        if (!is_authority(text + 2, authority))
            return false;
        text += 2 + authority;
        path_len -= 2 + authority;
    }
    return escapes_are_whole(text, path_len);
}

static bool is_atom_char(char c)
{
    return (unsigned char)c >= 0x80 || is_letter(c) || is_digit(c) ||
           (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static bool is_dot_atom(const char *text, size_t len)
{
    bool after_dot = true;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '.' ? after_dot : !is_atom_char(text[i]))
            return false;
        after_dot = text[i] == '.';
    }
    return !after_dot;
}

static bool is_quoted(const char *text, size_t len)
{
    if (len < 2 || text[0] != '"' || text[len - 1] != '"')
        return false;
    for (size_t i = 1; i + 1 < len; i++) {
        if (text[i] == '\\' && i + 2 < len)
            i++;
        else if (text[i] == '"' || text[i] == '\\' || (unsigned char)text[i] < 0x20)
            return false;
    }
    return true;
}

static bool is_address(const char *text, size_t len)
{
    const char *at = memrchr(text, '@', len);
    size_t local = at ? (size_t)(at - text) : 0, domain = at ? len - local - 1 : 0;

    if (!at || local == 0 || domain == 0)
        return false;
    if (!is_dot_atom(text, local) && !is_quoted(text, local))
        return false;
    return is_dot_atom(at + 1, domain);
}

static bool is_phrase(const char *text, size_t len)
{
    if (is_quoted(text, len))
        return true;
    for (size_t i = 0; i < len; i++) {
        if (!is_atom_char(text[i]) && text[i] != ' ' && text[i] != '\t' && text[i] != '.')
            return false;
    }
    return true;
}

static bool is_email(const char *text, size_t len)
{
    const char *open;

    while (len > 0 && (*text == ' ' || *text == '\t'))
        text++, len--;
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    if (len == 0 || text[len - 1] != '>')
        return is_address(text, len);
    open = memrchr(text, '<', len);
    if (!open || !is_address(open + 1, (size_t)(text + len - open) - 2))
        return false;
    len = (size_t)(open - text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    return is_phrase(text, len);
}

static bool is_label_char(char c)
{
    return (unsigned char)c >= 0x80 || is_letter(c) || is_digit(c) || (c && strchr("$+<=>^`|~", c));
}

/* A single label may have one hyphen, behind its first character; a name with dots ends in letters
 * and may have hyphens inside its labels. */
static bool is_single_label(const char *text, size_t len)
{
    size_t first = len > 0 ? fl_utf8_width(text, len) : 0, rest = first;

    if (first == 0 || !is_label_char(*text))
        return false;
    if (rest < len && text[rest] == '-')
        rest++;
    for (size_t i = rest; i < len; i++) {
        if (!is_label_char(text[i]))
            return false;
    }
    return fl_utf8_count(text + rest, len - rest) <= 62;
}

static bool is_hostname(const char *text, size_t len)
{
    const char *dot = memrchr(text, '.', len), *end = text + len;
    size_t top, label = 0;

    if (len > 255 || len == 0)
        return false;
    if (!dot)
        return len <= 63 && is_single_label(text, len);
    top = fl_utf8_count(dot + 1, (size_t)(end - dot) - 1);
    if (top < 2 || end - dot > 64)
        return false;
    for (const char *c = dot + 1; c < end; c++) {
        if (!is_letter(*c) && (unsigned char)*c < 0x80)
            return false;
    }
    for (const char *c = text; c <= dot; c++) {
        if (*c == '.') {
            if (label == 0 || label > 63 || c[-1] == '-')
                return false;
            label = 0;
        } else if (is_label_char(*c) || (*c == '-' && label > 0)) {
            label++;
        } else {
            return false;
        }
    }
    return true;
}

/* The digits (and, for ISBN, a last X) without the separators; 0 where it is too long. */
static size_t strip(const char *text, size_t len, bool all_but_digits, char out[32])
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (all_but_digits ? !is_digit(text[i]) : is_space(text[i]) || text[i] == '-')
            continue;
        if (n == 31)
            return 0;
        out[n++] = text[i];
    }
    out[n] = '\0';
    return n;
}

static bool is_isbn10(const char *text, size_t len)
{
    char digits[32];
    int sum = 0;

    if (strip(text, len, false, digits) != 10)
        return false;
    for (int i = 0; i < 10; i++) {
        if (!is_digit(digits[i]) && !(i == 9 && digits[i] == 'X'))
            return false;
        sum += (i + 1) * (digits[i] == 'X' ? 10 : digits[i] - '0');
    }
    return sum % 11 == 0;
}

static bool is_isbn13(const char *text, size_t len)
{
    char digits[32];
    int sum = 0;

    if (strip(text, len, false, digits) != 13)
        return false;
    for (int i = 0; i < 13; i++) {
        if (!is_digit(digits[i]))
            return false;
        sum += (i % 2 ? 3 : 1) * (digits[i] - '0');
    }
    return sum % 10 == 0;
}

static bool is_isbn(const char *text, size_t len)
{
    return is_isbn10(text, len) || is_isbn13(text, len);
}

static bool is_card_brand(const char *d, size_t n)
{
    int two = (d[0] - '0') * 10 + d[1] - '0', three = two * 10 + d[2] - '0';
    int four = three * 10 + d[3] - '0';

    if (d[0] == '4')
        return n == 13 || n == 16;
    if ((two >= 51 && two <= 55) || four == 6011 || two == 65)
        return n == 16;
    if (two == 34 || two == 37 || four == 2131 || four == 1800)
        return n == 15;
    if (two == 35)
        return n == 16;
    return ((three >= 300 && three <= 305) || two == 36 || two == 38) && n == 14;
}

static bool is_credit_card(const char *text, size_t len)
{
    char digits[32];
    size_t n = strip(text, len, true, digits);
    int sum = 0;

    if (n < 13 || !is_card_brand(digits, n))
        return false;
    for (size_t i = 0; i < n; i++) {
        int value = digits[n - 1 - i] - '0';

        if (i % 2)
            value = value * 2 > 9 ? value * 2 - 9 : value * 2;
        sum += value;
    }
    return sum % 10 == 0;
}

static bool is_ssn(const char *text, size_t len)
{
    if (len != 11 || !strchr("- ", text[3]) || !strchr("- ", text[6]))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (i != 3 && i != 6 && !is_digit(text[i]))
            return false;
    }
    return true;
}

static bool is_hex_color(const char *text, size_t len)
{
    if (len > 0 && *text == '#')
        text++, len--;
    for (size_t i = 0; i < len; i++) {
        if (!is_hex(text[i]))
            return false;
    }
    return len == 3 || len == 6;
}

static size_t skip_spaces(const char *text, size_t len, size_t at)
{
    while (at < len && is_space(text[at]) && text[at] != '\v')
        at++;
    return at;
}

static bool is_rgb_color(const char *text, size_t len)
{
    size_t at = 4;

    if (len < 4 || memcmp(text, "rgb(", 4) != 0)
        return false;
    for (int part = 0; part < 3; part++) {
        size_t begin = skip_spaces(text, len, at);
        int value = 0;

        for (at = begin; at < len && is_digit(text[at]) && at - begin < 3; at++)
            value = value * 10 + text[at] - '0';
        if (at == begin || value > 255 || (text[begin] == '0' && at - begin > 1))
            return false;
        at = skip_spaces(text, len, at);
        if (at >= len || text[at] != (part < 2 ? ',' : ')'))
            return false;
        at++;
    }
    return at == len;
}

static bool is_object_id(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_hex(text[i]))
            return false;
    }
    return len == 24;
}

static bool is_anything(const char *text, size_t len)
{
    (void)text;
    (void)len;
    return true;
}

/* Names without hyphens: "date-time" is "datetime". */
static const struct {
    const char *name;
    bool (*matches)(const char *text, size_t len);
} formats[] = {
    {"", is_anything},
    {"bsonobjectid", is_object_id},
    {"uri", is_uri},
    {"email", is_email},
    {"hostname", is_hostname},
    {"ipv4", is_ipv4},
    {"ipv6", is_ipv6},
    {"cidr", is_cidr},
    {"mac", is_mac},
    {"uuid", is_uuid},
    {"uuid3", is_uuid3},
    {"uuid4", is_uuid4},
    {"uuid5", is_uuid5},
    {"isbn", is_isbn},
    {"isbn10", is_isbn10},
    {"isbn13", is_isbn13},
    {"creditcard", is_credit_card},
    {"ssn", is_ssn},
    {"hexcolor", is_hex_color},
    {"rgbcolor", is_rgb_color},
    {"byte", is_base64},
    {"password", is_anything},
    {"date", is_date},
    {"duration", is_duration},
    {"datetime", is_date_time},
};
_Static_assert(FL_COUNT_OF(formats) <= FL_FORMAT_COUNT_, "formats fit their numbers");

enum fl_schema_format fl_schema_format_find(const char *name)
{
    char plain[24];
    size_t n = 0;

    for (; *name && n + 1 < sizeof(plain); name++) {
        if (*name != '-')
            plain[n++] = *name;
    }
    plain[n] = '\0';
    for (size_t i = 1; !*name && i < FL_COUNT_OF(formats); i++) {
        if (fl_streq(formats[i].name, plain))
            return (enum fl_schema_format)i;
    }
    return FL_FORMAT_NONE;
}

bool fl_schema_format_matches(enum fl_schema_format format, const char *text, size_t len)
{
    return (size_t)format >= FL_COUNT_OF(formats) || formats[format].matches(text, len);
}
