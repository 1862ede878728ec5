#include "lib/yaml.h"

#include "lib/str.h"
#include "lib/yaml_internal.h"

#include <math.h>
#include <stdlib.h>
#include <yaml.h>

/* libyaml's emitter lays the text out; which style a scalar gets, and in which order keys stand, is
 * decided here. An emitter can only fail where memory is out or our events make no sense. */

static void emit(yaml_emitter_t *emitter, int initialized, yaml_event_t *event)
{
    if (!initialized || !yaml_emitter_emit(emitter, event))
        abort();
}

static void emit_scalar(yaml_emitter_t *emitter, const char *text, size_t len,
                        yaml_scalar_style_t style)
{
    yaml_event_t event;
    int ok = yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)len,
                                          1, 1, style);

    emit(emitter, ok, &event);
}

/* Would it read as something else than text without quotes? */
static bool needs_quotes(const char *text, size_t len)
{
    enum fl_yaml_type type = fl_yaml_resolve(text, len).type;

    return (type != FL_YAML_STRING && type != FL_YAML_MERGE) || fl_yaml_is_base60(text);
}

/* A block cannot hold spaces before a line's end the way kubectl reads and prints them. */
static bool has_space_before_break(const char *text, size_t len)
{
    for (size_t i = 1; i < len; i++)
        if (text[i] == '\n' && text[i - 1] == ' ')
            return true;
    return false;
}

static void emit_text(yaml_emitter_t *emitter, const char *text, size_t len)
{
    yaml_scalar_style_t style = YAML_PLAIN_SCALAR_STYLE;

    if (memchr(text, '\n', len))
        style = has_space_before_break(text, len) ? YAML_DOUBLE_QUOTED_SCALAR_STYLE
                                                  : YAML_LITERAL_SCALAR_STYLE;
    else if (needs_quotes(text, len))
        style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    emit_scalar(emitter, text, len, style);
}

/* Text that is not UTF-8 cannot be YAML: what is wrong in it becomes U+FFFD. */
static void emit_broken_text(yaml_emitter_t *emitter, const char *text, size_t len)
{
    struct fl_buf fixed;

    fl_buf_init(&fixed, 0);
    for (size_t i = 0; i < len;) {
        size_t width = fl_utf8_width(text + i, len - i);

        if (width)
            fl_buf_append(&fixed, text + i, width);
        else
            fl_buf_puts(&fixed, "\xEF\xBF\xBD");
        i += width ? width : 1;
    }
    emit_text(emitter, fl_buf_text(&fixed), fixed.len);
    fl_buf_finish(&fixed);
}

static void emit_string(yaml_emitter_t *emitter, const char *text, size_t len)
{
    if (fl_utf8_valid(text, len))
        emit_text(emitter, text, len);
    else
        emit_broken_text(emitter, text, len);
}

static void emit_plain(yaml_emitter_t *emitter, const char *text)
{
    emit_scalar(emitter, text, strlen(text), YAML_PLAIN_SCALAR_STYLE);
}

static void emit_integer(yaml_emitter_t *emitter, json_int_t value)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%lld", (long long)value);
    emit_plain(emitter, text);
}

static void emit_real(yaml_emitter_t *emitter, double value)
{
    char text[FL_YAML_REAL_SIZE];

    if (value == floor(value) && fabs(value) < 9007199254740992.0) {
        emit_integer(emitter, (json_int_t)value);
        return;
    }
    fl_yaml_format_real(value, false, text);
    emit_plain(emitter, text);
}

/* Keys in kubectl's order: digits by value (a2 before a10), letters after everything else. */

static uint32_t take_character(const char **text)
{
    const unsigned char *u = (const unsigned char *)*text;
    size_t width = fl_utf8_width(*text, strlen(*text));
    uint32_t c = u[0];

    if (width > 1) {
        c &= 0x7Fu >> width;
        for (size_t i = 1; i < width; i++)
            c = c << 6 | (u[i] & 0x3F);
    }
    *text += width ? width : 1;
    return c;
}

static bool is_letter(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0xAA;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A zero that stands behind another digit counts as one of its number's digits. */
static bool follows_number(const char *start, const char *at)
{
    while (at > start && is_digit(at[-1]))
        if (*--at != '0')
            return true;
    return false;
}

static int compare_sizes(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static const char *read_number(const char *text, uint64_t *value)
{
    for (; is_digit(*text); text++)
        *value = *value * 10 + (uint64_t)(*text - '0');
    return text;
}

static int compare_at_difference(const char *start, const char *a, const char *b, uint32_t ca,
                                 uint32_t cb)
{
    const char *end_a, *end_b;
    uint64_t na = 0, nb = 0;
    int r;

    if (is_letter(ca) && is_letter(cb))
        return compare_sizes(ca, cb);
    if (is_letter(ca) || is_letter(cb))
        return is_letter(cb) ? -1 : 1;
    if ((ca == '0' || cb == '0') && follows_number(start, a))
        na = nb = 1;
    end_a = read_number(a, &na);
    end_b = read_number(b, &nb);
    r = compare_sizes(na, nb);
    if (r == 0)
        r = compare_sizes((uint64_t)(end_a - a), (uint64_t)(end_b - b));
    return r ? r : compare_sizes(ca, cb);
}

static int compare_keys(const void *left, const void *right)
{
    const char *a = *(const char *const *)left, *b = *(const char *const *)right, *start = a;

    while (*a && *b) {
        const char *at_a = a, *at_b = b;
        uint32_t ca = take_character(&a), cb = take_character(&b);

        if (ca != cb)
            return compare_at_difference(start, at_a, at_b, ca, cb);
    }
    return (*a != '\0') - (*b != '\0');
}

/* Kubectl leaves "<<" bare even as a key, where it reads as a merge; we do not. */
static void emit_key(yaml_emitter_t *emitter, const char *key)
{
    if (strcmp(key, "<<") == 0)
        emit_scalar(emitter, key, 2, YAML_DOUBLE_QUOTED_SCALAR_STYLE);
    else
        emit_string(emitter, key, strlen(key));
}

static void emit_value(yaml_emitter_t *emitter, const json_t *value);

static void emit_object(yaml_emitter_t *emitter, const json_t *value)
{
    FL_CLEANUP(fl_freep) const char **keys = fl_calloc(json_object_size(value), sizeof(*keys));
    size_t count = 0;
    yaml_event_t event;
    const char *key;
    json_t *member;

    json_object_foreach((json_t *)value, key, member)
        keys[count++] = key;
    qsort(keys, count, sizeof(*keys), compare_keys);
    emit(emitter,
         yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE),
         &event);
    for (size_t i = 0; i < count; i++) {
        emit_key(emitter, keys[i]);
        emit_value(emitter, json_object_get(value, keys[i]));
    }
    emit(emitter, yaml_mapping_end_event_initialize(&event), &event);
}

static void emit_array(yaml_emitter_t *emitter, const json_t *value)
{
    yaml_event_t event;
    json_t *element;
    size_t i;

    emit(emitter,
         yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE),
         &event);
    json_array_foreach(value, i, element)
        emit_value(emitter, element);
    emit(emitter, yaml_sequence_end_event_initialize(&event), &event);
}

static void emit_value(yaml_emitter_t *emitter, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        emit_object(emitter, value);
        break;
    case JSON_ARRAY:
        emit_array(emitter, value);
        break;
    case JSON_STRING:
        emit_string(emitter, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        emit_integer(emitter, json_integer_value(value));
        break;
    case JSON_REAL:
        emit_real(emitter, json_real_value(value));
        break;
    case JSON_TRUE:
        emit_plain(emitter, "true");
        break;
    case JSON_FALSE:
        emit_plain(emitter, "false");
        break;
    default:
        emit_plain(emitter, "null");
    }
}

static int append_output(void *user, unsigned char *data, size_t len)
{
    fl_buf_append(user, data, len);
    return 1;
}

void fl_yaml_write(struct fl_buf *buf, const json_t *value)
{
    yaml_emitter_t emitter;
    yaml_event_t event;

    if (!yaml_emitter_initialize(&emitter))
        abort();
    yaml_emitter_set_output(&emitter, append_output, buf);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, 80);
    emit(&emitter, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING), &event);
    emit(&emitter, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1), &event);
    emit_value(&emitter, value);
    /* No "..." behind a last line that is open: kubectl prints none. */
    emitter.open_ended = 0;
    emit(&emitter, yaml_document_end_event_initialize(&event, 1), &event);
    emitter.open_ended = 0;
    emit(&emitter, yaml_stream_end_event_initialize(&event), &event);
    yaml_emitter_delete(&emitter);
}
