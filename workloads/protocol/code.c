/* Encoding and decoding by the tables of forms.c. */
#include "workloads/protocol/forms.h"

#include "lib/str.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where in a message one is, for errors: "task.local.epochs". */
struct place {
    const struct place *up;
    const char *name;
    size_t index; /* of a list; SIZE_MAX: none */
};

static void write_place(struct fl_buf *buf, const struct place *place)
{
    if (place->up) {
        write_place(buf, place->up);
        fl_buf_putc(buf, '.');
    }
    fl_buf_puts(buf, place->name);
    if (place->index != SIZE_MAX)
        fl_buf_printf(buf, "[%zu]", place->index);
}

static int bad(const struct place *place, struct fl_error *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int bad(const struct place *place, struct fl_error *err, const char *fmt, ...)
{
    struct fl_buf path;
    va_list ap;
    int r;

    va_start(ap, fmt);
    r = fl_error_vset(err, FL_E_INVALID, fmt, ap);
    va_end(ap);
    fl_buf_init(&path, 512);
    write_place(&path, place);
    r = err ? fl_error_wrap(err, "%s", fl_buf_text(&path)) : r;
    fl_buf_finish(&path);
    return r;
}

static int wrong_type(const struct place *place, const json_t *value, const char *want,
                      struct fl_error *err)
{
    return bad(place, err, "is %s and must be %s", fl_json_type_name(value), want);
}

/* --- texts ---------------------------------------------------------------------------------- */

static bool is_name(const char *text)
{
    for (const char *c = text; *c; c++) {
        bool plain =
            (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');

        if (!plain && (c == text || !strchr("._-/:", *c)))
            return false;
    }
    return *text != '\0';
}

static int read_text(struct fl_arena *arena, const struct place *place, const json_t *value,
                     int64_t max, const char **ret_text, struct fl_error *err)
{
    size_t len = json_string_length(value);

    if (!json_is_string(value))
        return wrong_type(place, value, "a text", err);
    if ((int64_t)len > max)
        return bad(place, err, "is longer than %" PRId64 " bytes", max);
    *ret_text = fl_arena_strndup(arena, json_string_value(value), len);
    return 0;
}

static int read_name(struct fl_arena *arena, const struct place *place, const json_t *value,
                     const char **ret_text, struct fl_error *err)
{
    int r = read_text(arena, place, value, FL_PROTOCOL_NAME_MAX, ret_text, err);

    if (r == 0 && !is_name(*ret_text))
        return bad(place, err, "is no name: letters, digits and ._-/: are");
    return r;
}

static int read_digest(struct fl_arena *arena, const struct place *place, bool any,
                       const json_t *value, const char **ret_text, struct fl_error *err)
{
    int r = read_text(arena, place, value, FL_DIGEST_SIZE, ret_text, err);
    enum fl_digest_kind kind = r == 0 ? fl_digest_kind(*ret_text) : FL_DIGEST_NONE;

    if (r == 0 && kind != FL_DIGEST_SHA256 && !(any && kind == FL_DIGEST_XXH128))
        return bad(place, err, "is no digest (sha256:…%s)", any ? " or xxh128:…" : "");
    return r;
}

/* --- numbers -------------------------------------------------------------------------------- */

static int read_int(const struct place *place, const struct fl_member *member, const json_t *value,
                    int64_t *ret_int, struct fl_error *err)
{
    int64_t number = json_integer_value(value);

    if (!json_is_integer(value))
        return wrong_type(place, value, "a whole number", err);
    if (number < member->min || number > member->max)
        return bad(place, err, "%" PRId64 " is not from %" PRId64 " to %" PRId64, number,
                   member->min, member->max);
    *ret_int = number;
    return 0;
}

static int read_real(const struct place *place, double low, double high, const json_t *value,
                     double *ret_real, struct fl_error *err)
{
    double number = json_number_value(value);

    if (!json_is_number(value))
        return wrong_type(place, value, "a number", err);
    if (!(number >= low && number <= high))
        return bad(place, err, "%g is not from %g to %g", number, low, high);
    *ret_real = number;
    return 0;
}

static int read_word(const struct place *place, const struct fl_member *member, const json_t *value,
                     int *ret_word, struct fl_error *err)
{
    if (!json_is_string(value))
        return wrong_type(place, value, "a text", err);
    for (int i = 0; member->words[i]; i++)
        if (fl_streq(member->words[i], json_string_value(value))) {
            *ret_word = i + 1;
            return 0;
        }
    return bad(place, err, "there is no such word");
}

/* --- collections ---------------------------------------------------------------------------- */

static int check_count(const struct place *place, const json_t *value, size_t count, int64_t max,
                       bool array, struct fl_error *err)
{
    if (array ? !json_is_array(value) : !json_is_object(value))
        return wrong_type(place, value, array ? "a list" : "an object", err);
    if ((int64_t)count > max)
        return bad(place, err, "has %zu items and may have %" PRId64, count, max);
    return 0;
}

static int read_names(struct fl_arena *arena, const struct place *place,
                      const struct fl_member *member, const json_t *value, struct fl_texts *ret,
                      struct fl_error *err)
{
    size_t count = json_array_size(value);
    const char **items;
    int r = check_count(place, value, count, member->max, true, err);

    if (r < 0)
        return r;
    items = fl_new_array(arena, const char *, count);
    for (size_t i = 0; i < count; i++) {
        struct place here = {place->up, place->name, i};

        r = read_name(arena, &here, json_array_get(value, i), &items[i], err);
        if (r == 0 && member->type == FL_P_SORTED && i > 0 && strcmp(items[i - 1], items[i]) >= 0)
            r = bad(&here, err, "is not in rising order");
        if (r < 0)
            return r;
    }
    *ret = (struct fl_texts){items, count};
    return 0;
}

static int read_pairs(struct fl_arena *arena, const struct place *place,
                      const struct fl_member *member, json_t *value, struct fl_pairs *ret,
                      struct fl_error *err)
{
    size_t count = json_object_size(value), i = 0;
    struct fl_pair *items;
    const char *key;
    json_t *entry;
    int r = check_count(place, value, count, member->max, false, err);

    if (r < 0)
        return r;
    items = fl_new_array(arena, struct fl_pair, count);
    json_object_foreach(value, key, entry) {
        struct place here = {place, key, SIZE_MAX};

        if (strlen(key) > FL_PROTOCOL_TEXT_MAX)
            return bad(place, err, "has a key that is too long");
        items[i].key = fl_arena_strdup(arena, key);
        r = read_text(arena, &here, entry, FL_PROTOCOL_TEXT_MAX, &items[i++].value, err);
        if (r < 0)
            return r;
    }
    *ret = (struct fl_pairs){items, count};
    return 0;
}

static int read_metrics(struct fl_arena *arena, const struct place *place,
                        const struct fl_member *member, json_t *value, struct fl_metrics *ret,
                        struct fl_error *err)
{
    size_t count = json_object_size(value), i = 0;
    struct fl_metric *items;
    const char *key;
    json_t *entry;
    int r = check_count(place, value, count, member->max, false, err);

    if (r < 0)
        return r;
    items = fl_new_array(arena, struct fl_metric, count);
    json_object_foreach(value, key, entry) {
        struct place here = {place, key, SIZE_MAX};

        if (strlen(key) > FL_PROTOCOL_NAME_MAX)
            return bad(place, err, "has a key that is too long");
        items[i].name = fl_arena_strdup(arena, key);
        r = read_real(&here, -1e300, 1e300, entry, &items[i++].value, err);
        if (r < 0)
            return r;
    }
    *ret = (struct fl_metrics){items, count};
    return 0;
}

static int read_form(struct fl_arena *arena, const struct place *place, const struct fl_form *form,
                     json_t *value, void *message, struct fl_error *err);

struct any_list {
    void *items;
    size_t count;
};

static int read_list(struct fl_arena *arena, const struct place *place,
                     const struct fl_member *member, json_t *value, struct any_list *ret,
                     struct fl_error *err)
{
    size_t count = json_array_size(value);
    char *items;
    int r = check_count(place, value, count, member->max, true, err);

    if (r < 0)
        return r;
    items = fl_alloc_array(arena, count, member->form->size);
    for (size_t i = 0; i < count; i++) {
        struct place here = {place->up, place->name, i};

        r = read_form(arena, &here, member->form, json_array_get(value, i),
                      items + i * member->form->size, err);
        if (r < 0)
            return r;
    }
    *ret = (struct any_list){items, count};
    return 0;
}

static int read_json(struct fl_arena *arena, const struct place *place,
                     const struct fl_member *member, json_t *value, const json_t **ret,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    if (!json_is_object(value))
        return wrong_type(place, value, "an object", err);
    text = fl_json_to_bytes(value);
    if ((int64_t)text->len > member->max)
        return bad(place, err, "is longer than %" PRId64 " bytes", member->max);
    *ret = fl_json_in_arena(arena, json_incref(value));
    return 0;
}

/* --- a message ------------------------------------------------------------------------------ */

static void init_member(const struct fl_member *member, void *at)
{
    switch (member->type) {
    case FL_P_INT:
        *(int64_t *)at = member->def;
        break;
    case FL_P_REAL:
        *(double *)at = member->real;
        break;
    case FL_P_ENUM:
        *(int *)at = (int)member->def;
        break;
    case FL_P_OBJECT:
        fl_message_init(member->form, at);
        break;
    default: /* all zero */
        break;
    }
}

void fl_message_init(const struct fl_form *form, void *message)
{
    memset(message, 0, form->size);
    for (const struct fl_member *member = form->members; member->name; member++)
        init_member(member, (char *)message + member->offset);
}

static int read_member(struct fl_arena *arena, const struct place *place,
                       const struct fl_member *member, json_t *value, void *at,
                       struct fl_error *err)
{
    switch (member->type) {
    case FL_P_NAME:
        return read_name(arena, place, value, at, err);
    case FL_P_TEXT:
        return read_text(arena, place, value, member->max, at, err);
    case FL_P_DIGEST:
    case FL_P_ANY_DIGEST:
        return read_digest(arena, place, member->type == FL_P_ANY_DIGEST, value, at, err);
    case FL_P_INT:
        return read_int(place, member, value, at, err);
    case FL_P_REAL:
        return read_real(place, member->low, member->high, value, at, err);
    case FL_P_BOOL:
        if (!json_is_boolean(value))
            return wrong_type(place, value, "true or false", err);
        *(bool *)at = json_is_true(value);
        return 0;
    case FL_P_ENUM:
        return read_word(place, member, value, at, err);
    case FL_P_OBJECT:
        return read_form(arena, place, member->form, value, at, err);
    case FL_P_NAMES:
    case FL_P_SORTED:
        return read_names(arena, place, member, value, at, err);
    case FL_P_PAIRS:
        return read_pairs(arena, place, member, value, at, err);
    case FL_P_METRICS:
        return read_metrics(arena, place, member, value, at, err);
    case FL_P_LIST:
        return read_list(arena, place, member, value, at, err);
    case FL_P_JSON:
        return read_json(arena, place, member, value, at, err);
    }
    return 0;
}

static int read_form(struct fl_arena *arena, const struct place *place, const struct fl_form *form,
                     json_t *value, void *message, struct fl_error *err)
{
    int r;

    if (!value)
        return bad(place, err, "is missing");
    if (!json_is_object(value))
        return wrong_type(place, value, "an object", err);
    fl_message_init(form, message);
    for (const struct fl_member *member = form->members; member->name; member++) {
        struct place here = {place, member->name, SIZE_MAX};
        json_t *entry = json_object_get(value, member->name);

        if (!entry || json_is_null(entry)) {
            if (member->required)
                return bad(&here, err, "is missing");
            continue;
        }
        r = read_member(arena, &here, member, entry, (char *)message + member->offset, err);
        if (r < 0)
            return r;
    }
    if (form->present_offset)
        *((bool *)message + form->present_offset - 1) = true;
    r = form->check ? form->check(message, err) : 0;
    return r < 0 && err ? fl_error_wrap(err, "%s", form->name) : r;
}

int fl_message_from_json(struct fl_arena *arena, const struct fl_form *form, const json_t *value,
                         void *ret_message, struct fl_error *err)
{
    struct place top = {NULL, form->name, SIZE_MAX};
    void *message = fl_alloc(arena, form->size);
    /* jansson iterates over what is not const; nothing is changed. */
    int r = read_form(arena, &top, form, (json_t *)(uintptr_t)value, message, err);

    if (r == 0)
        memcpy(ret_message, message, form->size);
    return r;
}

int fl_message_decode(struct fl_arena *arena, const struct fl_form *form, const void *text,
                      size_t len, void *ret_message, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_PROTOCOL_BODY_MAX, .max_depth = 32};
    FL_JSON value = NULL;
    int r = fl_json_parse(text, len, &limits, NULL, NULL, &value, err);

    if (r < 0)
        return err ? fl_error_wrap(err, "%s", form->name) : r;
    return fl_message_from_json(arena, form, value, ret_message, err);
}

/* --- writing -------------------------------------------------------------------------------- */

static json_t *write_texts(const struct fl_texts *texts)
{
    json_t *list = texts->count ? json_array() : NULL;

    for (size_t i = 0; i < texts->count; i++)
        json_array_append_new(list, json_string(texts->items[i]));
    return list;
}

static json_t *write_pairs(const struct fl_pairs *pairs)
{
    json_t *object = pairs->count ? json_object() : NULL;

    for (size_t i = 0; i < pairs->count; i++)
        json_object_set_new(object, pairs->items[i].key, json_string(pairs->items[i].value));
    return object;
}

static json_t *write_metrics(const struct fl_metrics *metrics)
{
    json_t *object = metrics->count ? json_object() : NULL;

    for (size_t i = 0; i < metrics->count; i++)
        if (isfinite(metrics->items[i].value))
            json_object_set_new(object, metrics->items[i].name, json_real(metrics->items[i].value));
    return object;
}

static json_t *write_list(const struct fl_member *member, const struct any_list *list)
{
    json_t *array = list->count ? json_array() : NULL;

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, fl_message_to_json(member->form, (const char *)list->items +
                                                                          i * member->form->size));
    return array;
}

static json_t *write_real(const struct fl_member *member, double value)
{
    if (!isfinite(value) || (!member->required && value == member->real))
        return NULL;
    return json_real(value);
}

static json_t *write_int(const struct fl_member *member, int64_t value)
{
    return !member->required && value == member->def ? NULL : json_integer(value);
}

static json_t *write_object(const struct fl_member *member, const void *at)
{
    json_t *object;

    if (member->form->present_offset && !*((const bool *)at + member->form->present_offset - 1))
        return NULL;
    object = fl_message_to_json(member->form, at);
    if (json_object_size(object) > 0 || member->form->present_offset)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *write_member(const struct fl_member *member, const void *at)
{
    switch (member->type) {
    case FL_P_NAME:
    case FL_P_TEXT:
    case FL_P_DIGEST:
    case FL_P_ANY_DIGEST:
        return *(const char *const *)at ? json_string(*(const char *const *)at) : NULL;
    case FL_P_INT:
        return write_int(member, *(const int64_t *)at);
    case FL_P_REAL:
        return write_real(member, *(const double *)at);
    case FL_P_BOOL:
        return *(const bool *)at ? json_true() : NULL;
    case FL_P_ENUM:
        return *(const int *)at && (member->required || *(const int *)at != member->def)
                   ? json_string(member->words[*(const int *)at - 1])
                   : NULL;
    case FL_P_OBJECT:
        return write_object(member, at);
    case FL_P_NAMES:
    case FL_P_SORTED:
        return write_texts(at);
    case FL_P_PAIRS:
        return write_pairs(at);
    case FL_P_METRICS:
        return write_metrics(at);
    case FL_P_LIST:
        return write_list(member, at);
    case FL_P_JSON:
        return *(json_t *const *)at ? json_incref(*(json_t *const *)at) : NULL;
    }
    return NULL;
}

json_t *fl_message_to_json(const struct fl_form *form, const void *message)
{
    json_t *object = json_object();

    for (const struct fl_member *member = form->members; member->name; member++) {
        json_t *value = write_member(member, (const char *)message + member->offset);

        if (value)
            json_object_set_new(object, member->name, value);
    }
    return object;
}

struct fl_bytes *fl_message_encode(const struct fl_form *form, const void *message)
{
    FL_JSON value = fl_message_to_json(form, message);

    return fl_json_to_bytes(value);
}

void fl_message_copy(struct fl_arena *arena, const struct fl_form *form, const void *message,
                     void *ret_message)
{
    FL_JSON value = fl_message_to_json(form, message);
    int r = fl_message_from_json(arena, form, value, ret_message, NULL);

    assert(r == 0);
    (void)r;
}
