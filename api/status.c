#include "api/status.h"

#include "lib/str.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one cause may quote of the value it complains about. */
#define VALUE_TEXT_MAX ((size_t)1024)

static const struct {
    const char *reason, *words;
} types[] = {
#define FL_FIELD_ERROR_ROW_(name, reason, words) {reason, words},
    FL_FIELD_ERRORS(FL_FIELD_ERROR_ROW_)
#undef FL_FIELD_ERROR_ROW_
};

const char *fl_field_error_reason(enum fl_field_error_type type)
{
    assert((size_t)type < FL_COUNT_OF(types));
    return types[type].reason;
}

void fl_field_errors_init(struct fl_field_errors *errors, struct fl_arena *arena)
{
    errors->arena = arena;
    errors->count = errors->dropped = 0;
}

/* Values, as Go prints them with %v and %q. */

static bool is_printable(const unsigned char *c, size_t width)
{
    if (width == 1)
        return c[0] >= 0x20 && c[0] != 0x7f;
    if (width == 2)
        return !(c[0] == 0xc2 && (c[1] <= 0xa0 || c[1] == 0xad));
    if (width == 3 && c[0] == 0xe2 && c[1] == 0x80)
        return !(c[2] <= 0x8f || (c[2] >= 0xa8 && c[2] <= 0xaf));
    if (width == 3 && c[0] == 0xe2 && c[1] == 0x81)
        return c[2] < 0x9f;
    if (width == 3 && c[0] == 0xe3 && c[1] == 0x80)
        return c[2] != 0x80;
    if (width == 3)
        return !(c[0] == 0xee || (c[0] == 0xef && c[1] <= 0xa3) ||
                 (c[0] == 0xef && c[1] == 0xbb && c[2] == 0xbf) ||
                 (c[0] == 0xef && c[1] == 0xbf && c[2] >= 0xb0 && c[2] < 0xbc));
    return true;
}

static uint32_t code_point(const unsigned char *c, size_t width)
{
    uint32_t point = width == 1 ? c[0] : c[0] & (0xffu >> (width + 1));

    for (size_t i = 1; i < width; i++)
        point = point << 6 | (c[i] & 0x3fu);
    return point;
}

static void quote_char(struct fl_buf *buf, const char *text, size_t width)
{
    static const char plain[] = "\a\b\f\n\r\t\v\"\\", letters[] = "abfnrtv\"\\";
    const unsigned char *c = (const unsigned char *)text;
    const char *known = width <= 1 && *c ? strchr(plain, *c) : NULL;

    if (known)
        fl_buf_printf(buf, "\\%c", letters[known - plain]);
    else if (width == 0 || (width == 1 && !is_printable(c, 1)))
        fl_buf_printf(buf, "\\x%02x", *c);
    else if (is_printable(c, width))
        fl_buf_append(buf, text, width);
    else
        fl_buf_printf(buf, width < 4 ? "\\u%04x" : "\\U%08x", (unsigned)code_point(c, width));
}

static void quote(struct fl_buf *buf, const char *text, size_t len)
{
    size_t width;

    fl_buf_putc(buf, '"');
    for (size_t i = 0; i < len; i += width ? width : 1) {
        if (i >= VALUE_TEXT_MAX) {
            fl_buf_puts(buf, "...");
            break;
        }
        width = fl_utf8_width(text + i, len - i);
        quote_char(buf, text + i, width);
    }
    fl_buf_putc(buf, '"');
}

/* %v of a float64: the shortest digits that read back, an exponent below 1e-4 and from 1e6 on. */
static void go_real(struct fl_buf *buf, double value)
{
    char text[64];
    int digits, exponent;

    if (value == 0 || !isfinite(value)) {
        fl_buf_puts(buf, value == 0 ? "0" : isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
        return;
    }
    for (digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*e", digits - 1, value);
        if (strtod(text, NULL) == value)
            break;
    }
    exponent = atoi(strchr(text, 'e') + 1);
    if (exponent < -4 || exponent >= 6)
        fl_buf_puts(buf, text);
    else
        fl_buf_printf(buf, "%.*f", digits - 1 > exponent ? digits - 1 - exponent : 0, value);
}

/* %#v: the value as Go source, which is how an API server of today writes maps and lists. */
static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void go_source(struct fl_buf *buf, const json_t *value, unsigned depth);

static void go_map(struct fl_buf *buf, const json_t *object, unsigned depth)
{
    size_t count = json_object_size(object), i = 0;
    const char **keys = fl_calloc(count, sizeof(*keys)), *key;
    json_t *member;

    json_object_foreach((json_t *)object, key, member)
        keys[i++] = key;
    qsort(keys, count, sizeof(*keys), compare_keys);
    fl_buf_puts(buf, "map[string]interface {}{");
    for (i = 0; i < count && !buf->overflow; i++) {
        if (i)
            fl_buf_puts(buf, ", ");
        quote(buf, keys[i], strlen(keys[i]));
        fl_buf_putc(buf, ':');
        go_source(buf, json_object_get(object, keys[i]), depth + 1);
    }
    fl_buf_putc(buf, '}');
    free(keys);
}

static void go_source(struct fl_buf *buf, const json_t *value, unsigned depth)
{
    size_t i;

    if (depth > FL_JSON_MAX_DEPTH || buf->overflow)
        return;
    if (json_is_object(value)) {
        go_map(buf, value, depth);
    } else if (json_is_array(value)) {
        fl_buf_puts(buf, "[]interface {}{");
        for (i = 0; i < json_array_size(value) && !buf->overflow; i++) {
            if (i)
                fl_buf_puts(buf, ", ");
            go_source(buf, json_array_get(value, i), depth + 1);
        }
        fl_buf_putc(buf, '}');
    } else if (json_is_null(value)) {
        fl_buf_puts(buf, "interface {}(nil)");
    } else {
        fl_field_value_write(buf, value);
    }
}

/* Cut where it grows too long; what is cut ends at a character. */
static void put_source(struct fl_buf *buf, const json_t *value)
{
    struct fl_buf text;
    size_t cut;

    fl_buf_init(&text, 2 * VALUE_TEXT_MAX);
    go_source(&text, value, 0);
    cut = text.len < VALUE_TEXT_MAX ? text.len : VALUE_TEXT_MAX;
    while (cut < text.len && cut > 0 && ((unsigned char)text.data[cut] & 0xc0) == 0x80)
        cut--;
    fl_buf_append(buf, fl_buf_text(&text), cut);
    if (text.overflow || cut < text.len)
        fl_buf_puts(buf, "...");
    fl_buf_finish(&text);
}

void fl_field_value_write(struct fl_buf *buf, const json_t *value)
{
    if (!value || json_is_null(value)) /* Go turns nil into this string, and quotes it */
        fl_buf_puts(buf, "\"null\"");
    else if (json_is_string(value))
        quote(buf, json_string_value(value), json_string_length(value));
    else if (json_is_real(value))
        go_real(buf, json_real_value(value));
    else if (json_is_object(value) || json_is_array(value))
        put_source(buf, value);
    else
        fl_json_write(buf, value);
}

/* Messages. */

static bool omits_value(enum fl_field_error_type type)
{
    return type == FL_FIELD_REQUIRED || type == FL_FIELD_FORBIDDEN || type == FL_FIELD_TOO_LONG ||
           type == FL_FIELD_CONFLICT;
}

static void put_detail(struct fl_buf *buf, enum fl_field_error_type type, const char *detail)
{
    static const char supported[] = "supported values: ";

    if (!*detail)
        return;
    if (buf->len > 0)
        fl_buf_puts(buf, ": ");
    if (type == FL_FIELD_NOT_SUPPORTED && !fl_str_has_prefix(detail, supported))
        fl_buf_puts(buf, supported);
    fl_buf_puts(buf, detail);
}

static void add(struct fl_field_errors *errors, enum fl_field_error_type type, const char *path,
                struct fl_buf *message, const char *fmt, va_list ap)
{
    struct fl_field_error *error;
    char *detail = NULL;

    if (vasprintf(&detail, fmt, ap) < 0)
        abort();
    put_detail(message, type, detail);
    free(detail);
    error = &errors->items[errors->count++];
    error->type = type;
    error->path = fl_arena_strdup(errors->arena, path && *path ? path : "<nil>");
    error->message = fl_arena_strndup(errors->arena, fl_buf_text(message), message->len);
}

/* A conflict's words are its detail alone; every other message begins with the type's. */
static void begin(struct fl_buf *message, enum fl_field_error_type type)
{
    fl_buf_init(message, 0);
    if (type != FL_FIELD_CONFLICT)
        fl_buf_puts(message, types[type].words);
}

static bool is_full(struct fl_field_errors *errors)
{
    if (errors->count < FL_FIELD_ERRORS_MAX)
        return false;
    errors->dropped++;
    return true;
}

void fl_field_error_add(struct fl_field_errors *errors, enum fl_field_error_type type,
                        const char *path, const json_t *value, const char *fmt, ...)
{
    struct fl_buf message;
    va_list ap;

    if (is_full(errors))
        return;
    begin(&message, type);
    if (!omits_value(type) && !(type == FL_FIELD_TOO_MANY && !value)) {
        fl_buf_puts(&message, ": ");
        fl_field_value_write(&message, value);
    }
    va_start(ap, fmt);
    add(errors, type, path, &message, fmt, ap);
    va_end(ap);
    fl_buf_finish(&message);
}

void fl_field_error_add_text(struct fl_field_errors *errors, enum fl_field_error_type type,
                             const char *path, const char *value_text, const char *fmt, ...)
{
    struct fl_buf message;
    va_list ap;

    if (is_full(errors))
        return;
    begin(&message, type);
    if (!omits_value(type) && value_text)
        fl_buf_printf(&message, ": %s", value_text);
    va_start(ap, fmt);
    add(errors, type, path, &message, fmt, ap);
    va_end(ap);
    fl_buf_finish(&message);
}

void fl_field_error_add_whole(struct fl_field_errors *errors, enum fl_field_error_type type,
                              const char *path, const char *message)
{
    if (is_full(errors))
        return;
    errors->items[errors->count++] = (struct fl_field_error){
        type, fl_arena_strdup(errors->arena, path), fl_arena_strdup(errors->arena, message)};
}

static bool is_repeated(const struct fl_field_errors *errors, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (fl_streq(errors->items[i].path, errors->items[at].path) &&
            fl_streq(errors->items[i].message, errors->items[at].message))
            return true;
    }
    return false;
}

char *fl_field_errors_text(const struct fl_field_errors *errors)
{
    struct fl_buf buf;
    size_t written = 0;
    char *text;

    fl_buf_init(&buf, 0);
    for (size_t i = 0; i < errors->count; i++) {
        const struct fl_field_error *error = &errors->items[i];

        if (is_repeated(errors, i))
            continue;
        fl_buf_printf(&buf, "%s%s: %s", written++ ? ", " : "", error->path, error->message);
    }
    if (errors->dropped > 0)
        fl_buf_printf(&buf, ", and %zu more", errors->dropped);
    text = written > 1 ? fl_arena_printf(errors->arena, "[%s]", fl_buf_text(&buf))
                       : fl_arena_strdup(errors->arena, fl_buf_text(&buf));
    fl_buf_finish(&buf);
    return text;
}

int fl_field_errors_to_error(const struct fl_field_errors *errors, const char *kind,
                             const char *group, const char *name, struct fl_error *err)
{
    struct fl_buf quoted;
    const char *text = fl_field_errors_text(errors);
    bool has_group = group && *group;

    fl_buf_init(&quoted, 0);
    name = fl_str_or(name, "");
    quote(&quoted, name, strlen(name));
    (void)fl_error_set(err, FL_E_INVALID, "%s%s%s %s is invalid%s%s", kind, has_group ? "." : "",
                       has_group ? group : "", fl_buf_text(&quoted), *text ? ": " : "", text);
    fl_buf_finish(&quoted);
    return FL_E_INVALID;
}

/* Status objects. */

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text && *text)
        fl_json_set_str(object, key, text);
}

static json_t *causes_json(const struct fl_field_errors *errors)
{
    json_t *causes = json_array();

    for (size_t i = 0; i < errors->count; i++) {
        const struct fl_field_error *error = &errors->items[i];
        json_t *cause = json_object();

        fl_json_set_str(cause, "reason", fl_field_error_reason(error->type));
        fl_json_set_str(cause, "message", error->message);
        fl_json_set_str(cause, "field", error->path);
        (void)json_array_append_new(causes, cause);
    }
    return causes;
}

static void set_details(json_t *status, const struct fl_status_details *details)
{
    json_t *object;

    if (!details)
        return;
    object = json_object();
    set_text(object, "name", details->name);
    set_text(object, "group", details->group);
    set_text(object, "kind", details->kind);
    set_text(object, "uid", details->uid);
    if (details->causes && details->causes->count > 0)
        (void)json_object_set_new_nocheck(object, "causes", causes_json(details->causes));
    if (details->retry_after_seconds > 0)
        (void)json_object_set_new_nocheck(object, "retryAfterSeconds",
                                          json_integer(details->retry_after_seconds));
    if (json_object_size(object) > 0)
        (void)json_object_set_new_nocheck(status, "details", object);
    else
        json_decref(object);
}

static json_t *new_status(const char *status)
{
    json_t *object = json_object();

    fl_json_set_str(object, "kind", "Status");
    fl_json_set_str(object, "apiVersion", "v1");
    (void)json_object_set_new_nocheck(object, "metadata", json_object());
    fl_json_set_str(object, "status", status);
    return object;
}

/* An fl_error has room for one sentence; where the causes say more, the message is made again from
 * them. */
static void set_message(json_t *status, const struct fl_error *err,
                        const struct fl_status_details *details)
{
    static const char words[] = " is invalid: ";
    const char *at = strstr(err->msg, words);
    char *whole;

    if (at && strlen(err->msg) + 1 >= sizeof(err->msg) - 4 && details && details->causes) {
        whole = fl_asprintf("%.*s%s", (int)(at - err->msg + (ptrdiff_t)strlen(words)), err->msg,
                            fl_field_errors_text(details->causes));
        fl_json_set_str(status, "message", whole);
        free(whole);
        return;
    }
    fl_json_set_str(status, "message", err->msg);
}

json_t *fl_status_failure(const struct fl_error *err, const struct fl_status_details *details)
{
    json_t *status = new_status("Failure");

    set_message(status, err, details);
    fl_json_set_str(status, "reason", fl_error_reason(err->code));
    set_details(status, details);
    (void)json_object_set_new_nocheck(status, "code",
                                      json_integer(fl_error_http_status(err->code)));
    return status;
}

json_t *fl_status_success(const struct fl_status_details *details)
{
    json_t *status = new_status("Success");

    set_details(status, details);
    return status;
}
