/* Stored objects. The text is canonical JSON that we wrote ourselves, so what the store needs of it
 * (where the revision stands, uid, labels) is found by skipping from member to member; building a
 * value tree for each of 100,000 objects at start would cost seconds. */
#include "controller/store/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REVISION_KEY "\"resourceVersion\""
/* What was stored must be readable again. */
#define DEPTH_MAX 1024

struct fl_object *fl_object_ref(struct fl_object *object)
{
    __atomic_add_fetch(&object->refs, 1, __ATOMIC_RELAXED);
    return object;
}

void fl_object_unref(struct fl_object *object)
{
    if (!object || __atomic_sub_fetch(&object->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    fl_bytes_unref(object->json);
    free(object);
}

json_t *fl_object_parse(const struct fl_object *object)
{
    /* Ours, and bounded when it was written: the limits for strangers' text do not apply. */
    const struct fl_json_limits limits = {.max_bytes = SIZE_MAX, .max_depth = 2 * DEPTH_MAX};
    json_t *value = NULL;

    if (fl_json_parse(object->json->data, object->json->len, &limits, NULL, NULL, &value, NULL) < 0)
        abort();
    return value;
}

/* Each skip_… returns what stands behind the value at `at`, or NULL where the text is cut off. */
static const char *skip_string(const char *at, const char *end)
{
    const char *quote = at + 1;

    while ((quote = memchr(quote, '"', (size_t)(end - quote)))) {
        const char *slash = quote;

        while (slash[-1] == '\\' && slash - 1 > at)
            slash--;
        quote++;
        if ((quote - 1 - slash) % 2 == 0)
            return quote;
    }
    return NULL;
}

static const char *skip_container(const char *at, const char *end)
{
    int depth = 0;

    while (at && at < end) {
        switch (*at) {
        case '"':
            at = skip_string(at, end);
            continue;
        case '{':
        case '[':
            if (++depth > DEPTH_MAX)
                return NULL;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return at + 1;
            break;
        default:
            break;
        }
        at++;
    }
    return NULL;
}

static const char *skip_value(const char *at, const char *end)
{
    if (at >= end)
        return NULL;
    if (*at == '"')
        return skip_string(at, end);
    if (*at == '{' || *at == '[')
        return skip_container(at, end);
    while (at < end && *at != ',' && *at != '}' && *at != ']')
        at++;
    return at;
}

struct member {
    const char *key, *key_end; /* with its quotes */
    const char *value, *value_end;
};

/* Steps through the object that begins at `object`; start with member zeroed. */
static bool next_member(const char *object, const char *end, struct member *member)
{
    const char *at = member->key ? member->value_end : object;

    if (at >= end || *at != (member->key ? ',' : '{') || at + 1 >= end || at[1] != '"')
        return false;
    member->key = at + 1;
    member->key_end = skip_string(member->key, end);
    if (!member->key_end || member->key_end >= end || *member->key_end != ':')
        return false;
    member->value = member->key_end + 1;
    member->value_end = skip_value(member->value, end);
    return member->value_end != NULL;
}

static int compare_key(const struct member *member, const char *quoted)
{
    size_t len = (size_t)(member->key_end - member->key), other = strlen(quoted);
    /* Without the closing quotes: '"' sorts behind nothing, and a prefix comes first. */
    int r = memcmp(member->key, quoted, (len < other ? len : other) - 1);

    return r ? r : (len > other) - (len < other);
}

static void cut_at(struct fl_content *content, const char *from, const char *to, const char *prefix,
                   const char *suffix)
{
    content->cut = (size_t)(from - content->text);
    content->resume = (size_t)(to - content->text);
    content->prefix = prefix;
    content->suffix = suffix;
}

static void scan_metadata(const char *metadata, struct fl_content *content)
{
    struct member member = {0};
    const char *last_end = NULL;
    bool placed = false;

    while (next_member(metadata, content->end, &member)) {
        int order = compare_key(&member, REVISION_KEY);

        if (order == 0)
            cut_at(content, member.value, member.value_end, "\"", "\"");
        else if (order > 0 && !placed)
            cut_at(content, member.key, member.key, REVISION_KEY ":\"", "\",");
        placed = placed || order >= 0;
        if (compare_key(&member, "\"labels\"") == 0 && *member.value == '{')
            content->labels = member.value;
        else if (compare_key(&member, "\"uid\"") == 0 && *member.value == '"')
            content->uid = member.value;
        last_end = member.value_end;
    }
    if (!placed && last_end)
        cut_at(content, last_end, last_end, "," REVISION_KEY ":\"", "\"");
    else if (!placed)
        cut_at(content, metadata + 1, metadata + 1, REVISION_KEY ":\"", "\"");
}

int fl_content_scan(const char *text, size_t len, struct fl_content *ret_content,
                    struct fl_error *err)
{
    struct fl_content content = {.text = text, .len = len, .end = text + len};
    struct member member = {0};

    if (len < 2 || skip_value(text, content.end) != content.end)
        return fl_error_set(err, FL_E_INVALID,
                            "content is not one JSON object of at most %d levels", DEPTH_MAX);
    while (next_member(text, content.end, &member)) {
        if (compare_key(&member, "\"metadata\"") != 0 || *member.value != '{')
            continue;
        scan_metadata(member.value, &content);
        *ret_content = content;
        return 0;
    }
    return fl_error_set(err, FL_E_INVALID, "content has no metadata");
}

static struct fl_bytes *with_revision(const struct fl_content *content, uint64_t revision)
{
    char text[64];
    size_t len = (size_t)snprintf(text, sizeof(text), "%s%" PRIu64 "%s", content->prefix, revision,
                                  content->suffix);
    size_t tail = content->len - content->resume;
    struct fl_bytes *bytes = fl_bytes_new(NULL, content->cut + len + tail);

    memcpy(bytes->data, content->text, content->cut);
    memcpy(bytes->data + content->cut, text, len);
    memcpy(bytes->data + content->cut + len, content->text + content->resume, tail);
    return bytes;
}

/* Copies the text of a JSON string (at most its own length) to *out and moves *out behind its NUL.
 * Labels and uids have no escapes in practice; jansson knows them all. */
static const char *put_string(const char *from, const char *to, char **out)
{
    char *start = *out;
    size_t len = (size_t)(to - from) - 2;

    if (memchr(from, '\\', (size_t)(to - from))) {
        FL_JSON value = json_loadb(from, (size_t)(to - from), JSON_DECODE_ANY, NULL);

        len = json_string_length(value);
        memcpy(start, value ? json_string_value(value) : "", len);
    } else {
        memcpy(start, from + 1, len);
    }
    start[len] = '\0';
    *out = start + len + 1;
    return start;
}

static const char *put_text(const char *text, char **out)
{
    size_t size = strlen(text) + 1;
    char *start = memcpy(*out, text, size);

    *out += size;
    return start;
}

/* Room for the strings of the labels; their quotes make up for the NULs. */
static size_t measure_labels(const struct fl_content *content, size_t *ret_count)
{
    struct member member = {0};
    size_t size = 0, count = 0;

    while (content->labels && next_member(content->labels, content->end, &member)) {
        if (*member.value != '"')
            continue;
        size += (size_t)(member.key_end - member.key) + (size_t)(member.value_end - member.value);
        count++;
    }
    *ret_count = count;
    return size;
}

static void put_labels(const struct fl_content *content, struct fl_label *labels, char **out)
{
    struct member member = {0};

    while (content->labels && next_member(content->labels, content->end, &member)) {
        if (*member.value != '"')
            continue;
        labels->key = put_string(member.key, member.key_end, out);
        labels->value = put_string(member.value, member.value_end, out);
        labels++;
    }
}

struct fl_object *fl_object_create(const struct fl_key *key, uint64_t revision,
                                   const struct fl_content *content)
{
    const char *uid_end = content->uid ? skip_string(content->uid, content->end) : NULL;
    const char *ns = key->ns ? key->ns : "";
    size_t label_count, strings = measure_labels(content, &label_count);
    struct fl_object *object;
    struct fl_label *labels;
    char *out;

    strings += strlen(key->resource) + strlen(ns) + strlen(key->name) + 3;
    strings += uid_end ? (size_t)(uid_end - content->uid) : 1;
    object = fl_malloc(sizeof(*object) + label_count * sizeof(*labels) + strings);
    labels = (struct fl_label *)(object + 1);
    out = (char *)(labels + label_count);
    *object = (struct fl_object){
        .refs = 1,
        .revision = revision,
        .resource = put_text(key->resource, &out),
        .ns = put_text(ns, &out),
        .name = put_text(key->name, &out),
        .uid = uid_end ? put_string(content->uid, uid_end, &out) : put_text("", &out),
        .json = with_revision(content, revision),
        .labels = labels,
        .label_count = label_count,
    };
    put_labels(content, labels, &out);
    return object;
}
