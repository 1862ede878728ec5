#include "controller/source/manifests.h"

#include "api/meta.h"
#include "lib/map.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <assert.h>
#include <stdio.h>

#define LISTS_IN_LISTS_MAX 4

/* Beyond these no server has such an object; an inventory holds what is within. */
#define GROUP_MAX   253
#define VERSION_MAX 63
#define KIND_MAX    63
#define NS_MAX      63
#define NAME_MAX_   253

struct reading {
    struct fl_arena *arena;
    struct fl_manifests *into;
    struct fl_map *seen; /* which item has this identity; lent */
    size_t item_room, fault_room, unread_room;
    const struct fl_source_file *source; /* the file that is being read */
    const char *file;
    bool too_many;
};

/* What an item of a typed list may leave out. */
struct inherited {
    const char *api_version, *kind;
    unsigned depth;
};

static void *grown(struct fl_arena *arena, void *items, size_t count, size_t *room, size_t size)
{
    void *more;

    if (count < *room)
        return items;
    *room = *room ? *room * 2 : 16;
    more = fl_alloc_array(arena, *room, size);
    if (count)
        memcpy(more, items, count * size);
    return more;
}

static void add_fault(struct reading *reading, size_t line, const char *object, const char *message)
{
    struct fl_manifests *into = reading->into;

    if (into->fault_count == FL_MANIFEST_FAULTS_MAX)
        return;
    into->faults = grown(reading->arena, into->faults, into->fault_count, &reading->fault_room,
                         sizeof(*into->faults));
    into->faults[into->fault_count++] = (struct fl_fault){
        .file = reading->file, .line = line, .object = object, .message = message};
}

static void note_unread(struct reading *reading)
{
    struct fl_manifests *into = reading->into;

    into->incomplete = true;
    if (into->unread_count && into->unread[into->unread_count - 1] == reading->source)
        return;
    into->unread = grown(reading->arena, into->unread, into->unread_count, &reading->unread_room,
                         sizeof(const struct fl_source_file *));
    into->unread[into->unread_count++] = reading->source;
}

/* Of what is not understood it is not known what it wants. */
static void add_unread(struct reading *reading, size_t line, const char *object,
                       const char *message)
{
    note_unread(reading);
    add_fault(reading, line, object, message);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text && *text ? text : NULL;
}

static void split_api_version(struct reading *reading, struct fl_manifest *manifest)
{
    const char *slash = strchr(manifest->api_version, '/');

    manifest->group = slash ? fl_arena_strndup(reading->arena, manifest->api_version,
                                               (size_t)(slash - manifest->api_version))
                            : "";
    manifest->version = slash ? slash + 1 : manifest->api_version;
}

static bool is_too_long(const struct fl_manifest *manifest)
{
    return strlen(manifest->group) > GROUP_MAX || strlen(manifest->version) > VERSION_MAX ||
           strlen(manifest->kind) > KIND_MAX || strlen(manifest->ns) > NS_MAX ||
           strlen(manifest->name) > NAME_MAX_;
}

/* Names go into paths of the API. */
static const char *check_names(struct reading *reading, const struct fl_manifest *manifest)
{
    const char *why;

    if (is_too_long(manifest))
        return "its names are longer than any API allows";
    if (!fl_name_is_path_segment(manifest->name, &why))
        return fl_arena_printf(reading->arena, "metadata.name %s", why);
    if (*manifest->ns && !fl_name_is_label(manifest->ns, &why))
        return fl_arena_printf(reading->arena, "metadata.namespace: %s", why);
    return NULL;
}

/* What is wrong with its identity, or NULL. */
static const char *check_identity(const struct fl_manifest *manifest, const json_t *metadata)
{
    const json_t *ns = json_object_get(metadata, "namespace");

    if (!manifest->api_version)
        return "apiVersion is missing";
    if (!manifest->kind)
        return "kind is missing";
    if (!json_is_object(metadata))
        return "metadata is missing";
    if (!manifest->name)
        return json_object_get(metadata, "generateName")
                   ? "metadata.generateName would make a new object each time: a name is needed"
                   : "metadata.name is missing";
    if (ns && !json_is_string(ns))
        return "metadata.namespace is not a text";
    return NULL;
}

static const char *cut(struct reading *reading, const char *text, size_t max)
{
    return text ? fl_arena_strndup(reading->arena, text, fl_utf8_cut(text, strlen(text), max))
                : "?";
}

static const char *title_of(struct reading *reading, const struct fl_manifest *manifest)
{
    return fl_arena_printf(reading->arena, "%s/%s", cut(reading, manifest->kind, KIND_MAX),
                           cut(reading, manifest->name, NAME_MAX_));
}

static void add_doubled(struct reading *reading, const struct fl_manifest *manifest,
                        const struct fl_manifest *first)
{
    add_fault(reading, manifest->line, title_of(reading, manifest),
              fl_arena_printf(reading->arena, "is in %s, line %zu, already; that one counts",
                              first->file, first->line));
}

static const char *identity_of(struct reading *reading, const struct fl_manifest *manifest)
{
    return fl_arena_printf(reading->arena, "%s/%s/%s/%s", manifest->group, manifest->kind,
                           manifest->ns, manifest->name);
}

static void add_item(struct reading *reading, const struct fl_manifest *manifest)
{
    struct fl_manifests *into = reading->into;
    const char *identity = identity_of(reading, manifest);
    const size_t *first = fl_map_get(reading->seen, identity);
    size_t *place;

    if (first) {
        add_doubled(reading, manifest, &into->items[*first]);
        return;
    }
    if (into->count == FL_MANIFESTS_MAX) {
        reading->too_many = true;
        return;
    }
    into->items =
        grown(reading->arena, into->items, into->count, &reading->item_room, sizeof(*into->items));
    place = fl_new(reading->arena, size_t);
    *place = into->count;
    fl_map_put(reading->seen, identity, place);
    into->items[into->count++] = *manifest;
}

static void inherit(json_t *object, const struct inherited *from)
{
    if (from->kind && !json_object_get(object, "kind"))
        fl_json_set_str(object, "kind", from->kind);
    if (from->api_version && !json_object_get(object, "apiVersion"))
        fl_json_set_str(object, "apiVersion", from->api_version);
}

static void read_one(struct reading *reading, json_t *object, size_t line)
{
    const json_t *metadata = json_object_get(object, "metadata");
    struct fl_manifest manifest = {
        .file = reading->file,
        .line = line,
        .object = object,
        .api_version = text_of(object, "apiVersion"),
        .kind = text_of(object, "kind"),
        .ns = fl_str_or(text_of(metadata, "namespace"), ""),
        .name = text_of(metadata, "name"),
    };
    const char *wrong = check_identity(&manifest, metadata);

    if (!wrong) {
        assert(manifest.api_version && manifest.kind && manifest.name);
        split_api_version(reading, &manifest);
        wrong = check_names(reading, &manifest);
    }
    if (wrong)
        add_unread(reading, line, manifest.kind ? title_of(reading, &manifest) : NULL, wrong);
    else
        add_item(reading, &manifest);
}

static void read_value(struct reading *reading, json_t *value, size_t line,
                       const struct inherited *from);

static void read_list(struct reading *reading, const json_t *list, size_t line, unsigned depth)
{
    const char *kind = text_of(list, "kind");
    size_t len = strlen(kind) - strlen("List");
    struct inherited inherited = {.depth = depth + 1};
    size_t i;
    json_t *item;

    if (len > 0) {
        inherited.kind = fl_arena_strndup(reading->arena, kind, len);
        inherited.api_version = text_of(list, "apiVersion");
    }
    json_array_foreach(json_object_get(list, "items"), i, item)
        read_value(reading, item, line, &inherited);
}

static bool is_list(const json_t *value)
{
    const char *kind = text_of(value, "kind");

    return kind && fl_str_has_suffix(kind, "List") &&
           json_is_array(json_object_get(value, "items"));
}

static void read_value(struct reading *reading, json_t *value, size_t line,
                       const struct inherited *from)
{
    if (!json_is_object(value)) {
        add_unread(reading, line, NULL,
                   fl_arena_printf(reading->arena, "is of type %s and no object",
                                   fl_json_type_name(value)));
        return;
    }
    inherit(value, from);
    if (!is_list(value))
        read_one(reading, value, line);
    else if (from->depth < LISTS_IN_LISTS_MAX)
        read_list(reading, value, line, from->depth);
    else
        add_unread(reading, line, NULL, "lists within lists within lists");
}

static int take_document(void *user, json_t *value, size_t line, struct fl_error *err)
{
    struct reading *reading = user;

    read_value(reading, fl_json_in_arena(reading->arena, json_incref(value)), line,
               &(struct inherited){0});
    return reading->too_many ? fl_error_set(err, FL_E_TOO_LARGE, "too many objects") : 0;
}

/* The YAML reader begins its errors with the place: "line 3, column 7: …". */
static size_t line_of(const struct fl_error *err)
{
    unsigned long line = 0;

    return sscanf(err->msg, "line %8lu,", &line) == 1 ? line
                                                      : 0; /* NOLINT(cert-err34-c): %8 bounds */
}

static void read_file(struct reading *reading, const struct fl_source_file *file)
{
    const struct fl_yaml_limits limits = {.max_bytes = FL_SOURCE_FILE_BYTES_MAX};
    struct fl_error err = {0};

    reading->source = file;
    reading->file = file->path;
    if (file->fault) {
        add_unread(reading, 0, NULL, file->fault);
        return;
    }
    if (file->unfinished)
        note_unread(reading);
    if (fl_yaml_parse_all(file->data, file->len, &limits, take_document, reading, &err) < 0 &&
        !reading->too_many)
        add_unread(reading, line_of(&err), NULL, fl_arena_strdup(reading->arena, err.msg));
}

static void refuse_whole(struct reading *reading)
{
    reading->into->items = NULL;
    reading->into->count = 0;
    reading->into->faults = NULL;
    reading->into->fault_count = reading->fault_room = 0;
    reading->into->unread_count = 0;
    reading->into->incomplete = true;
    reading->file = NULL;
    add_fault(reading, 0, NULL,
              fl_arena_printf(reading->arena,
                              "more than %d objects: split the repository among several "
                              "sources by path",
                              FL_MANIFESTS_MAX));
}

void fl_manifests_read(const struct fl_snapshot *snapshot, struct fl_arena *arena,
                       struct fl_manifests *ret_manifests)
{
    FL_CLEANUP(fl_map_destroyp) struct fl_map *seen = fl_map_create(NULL);
    struct reading reading = {.arena = arena, .into = ret_manifests, .seen = seen};

    *ret_manifests = (struct fl_manifests){.hold = snapshot->hold};
    for (size_t i = 0; i < snapshot->file_count && !reading.too_many; i++)
        read_file(&reading, &snapshot->files[i]);
    if (reading.too_many)
        refuse_whole(&reading);
}

/* A name can be hidden by escapes, or by an encoding that has zeros; what was not read at all, or
 * is half written, can have any. */
static bool may_mention(const struct fl_source_file *file, const char *name)
{
    return (file->fault && file->len == 0) || file->unfinished || !file->data ||
           memchr(file->data, '\\', file->len) || memchr(file->data, '\0', file->len) ||
           memmem(file->data, file->len, name, strlen(name));
}

bool fl_manifests_may_want(const struct fl_manifests *manifests, const char *file, const char *name)
{
    if (manifests->hold)
        return true;
    if (!manifests->incomplete)
        return false;
    for (size_t i = 0; file && i < manifests->unread_count; i++)
        if (strcmp(manifests->unread[i]->path, file) == 0 ||
            may_mention(manifests->unread[i], name))
            return true;
    return !file || manifests->unread_count == 0;
}
