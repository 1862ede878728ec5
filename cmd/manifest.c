#include "cmd/manifest.h"

#include "lib/file.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DOCUMENTS_MAX  100000
#define FOLDER_MAX     10000
#define FOLDER_DEPTH   32
#define FILE_MAX_BYTES ((size_t)64 * 1024 * 1024)

static struct fl_document *add(struct fl_documents *documents, const char *where)
{
    if (documents->count == documents->cap) {
        size_t cap = documents->cap ? documents->cap * 2 : 16;
        struct fl_document *items = fl_new_array(documents->arena, struct fl_document, cap);

        if (documents->count)
            memcpy(items, documents->items, documents->count * sizeof(*items));
        documents->items = items;
        documents->cap = cap;
    }
    documents->items[documents->count] = (struct fl_document){.where = where};
    return &documents->items[documents->count++];
}

static void add_error(struct fl_documents *documents, const char *where, const char *text)
{
    add(documents, where)->error = fl_arena_strdup(documents->arena, text);
}

static bool is_list(const json_t *object)
{
    return json_is_array(json_object_get(object, "items")) &&
           fl_str_has_suffix(fl_str_or(fl_json_str(object, "kind"), ""), "List");
}

static const char *what_is_missing(const struct fl_document *document)
{
    if (!json_is_object(document->object))
        return "is no object";
    if (!document->api_version || !*document->api_version)
        return "apiVersion is not set";
    if (!document->kind || !*document->kind)
        return "kind is not set";
    if (!document->name || !*document->name)
        return "metadata.name is not set";
    return NULL;
}

static void add_object(struct fl_documents *documents, json_t *object, const char *where)
{
    struct fl_document *document;
    json_t *item;
    size_t i;

    if (is_list(object)) {
        json_array_foreach(json_object_get(object, "items"), i, item) {
            if (documents->count < DOCUMENTS_MAX)
                add_object(documents, item,
                           fl_arena_printf(documents->arena, "%s: items[%zu]", where, i));
        }
        return;
    }
    document = add(documents, where);
    document->object = fl_json_in_arena(documents->arena, json_incref(object));
    document->api_version = fl_json_str(object, "apiVersion");
    document->kind = fl_json_str(object, "kind");
    document->name = fl_json_str(object, "metadata.name");
    document->ns = fl_json_str(object, "metadata.namespace");
    document->error = what_is_missing(document);
}

struct text_source {
    struct fl_documents *documents;
    const char *name;
};

static int on_document(void *user, json_t *value, size_t line, struct fl_error *err)
{
    struct text_source *source = user;
    struct fl_documents *documents = source->documents;

    if (documents->count >= DOCUMENTS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d objects", DOCUMENTS_MAX);
    if (!json_is_null(value))
        add_object(documents, value,
                   fl_arena_printf(documents->arena, "%s:%zu", source->name, line));
    return 0;
}

void fl_documents_add_text(struct fl_documents *documents, const char *name, const char *text,
                           size_t len)
{
    struct fl_yaml_limits limits = {.max_bytes = FILE_MAX_BYTES, .max_nodes = 10000000};
    struct text_source source = {.documents = documents, .name = name};
    struct fl_error err = {0};

    if (fl_yaml_parse_all(text, len, &limits, on_document, &source, &err) < 0)
        add_error(documents, name, err.msg);
}

static void add_file(struct fl_documents *documents, const char *path)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    bool standard = strcmp(path, "-") == 0;
    struct fl_error err = {0};
    int r = standard ? fl_fd_read(STDIN_FILENO, FILE_MAX_BYTES, &bytes, &err)
                     : fl_file_read(path, FILE_MAX_BYTES, &bytes, &err);

    if (r < 0)
        add_error(documents, standard ? "standard input" : path, err.msg);
    else
        fl_documents_add_text(documents, standard ? "standard input" : path, bytes->data,
                              bytes->len);
}

static bool is_manifest(const char *name)
{
    return fl_str_has_suffix(name, ".yaml") || fl_str_has_suffix(name, ".yml") ||
           fl_str_has_suffix(name, ".json");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_folder(struct fl_documents *documents, const char *path, bool recursive,
                       unsigned depth);

static void add_path(struct fl_documents *documents, const char *path, bool recursive,
                     unsigned depth, bool is_named)
{
    struct stat info;

    if (stat(path, &info) < 0) {
        struct fl_error err = {0};

        fl_error_errno(&err, errno, "cannot be read");
        add_error(documents, path, err.msg);
    } else if (S_ISDIR(info.st_mode)) {
        if (is_named || recursive)
            add_folder(documents, path, recursive, depth);
    } else if (is_named || is_manifest(path)) {
        add_file(documents, path);
    }
}

static void add_folder(struct fl_documents *documents, const char *path, bool recursive,
                       unsigned depth)
{
    const char **names = fl_new_array(documents->arena, const char *, FOLDER_MAX);
    DIR *folder = depth < FOLDER_DEPTH ? opendir(path) : NULL;
    struct dirent *entry;
    size_t count = 0;

    if (!folder) {
        add_error(documents, path, "the folder cannot be read, or is too deep");
        return;
    }
    while ((entry = readdir(folder)) && count < FOLDER_MAX)
        if (entry->d_name[0] != '.')
            names[count++] = fl_arena_strdup(documents->arena, entry->d_name);
    (void)closedir(folder);
    if (count == FOLDER_MAX) {
        add_error(documents, path, "the folder has too many entries");
        return;
    }
    qsort(names, count, sizeof(*names), by_name);
    for (size_t i = 0; i < count; i++)
        add_path(documents,
                 fl_arena_printf(documents->arena, "%s%s%s", path,
                                 fl_str_has_suffix(path, "/") ? "" : "/", names[i]),
                 recursive, depth + 1, false);
}

void fl_documents_read(struct fl_documents *documents, const struct fl_words *files, bool recursive)
{
    for (size_t i = 0; i < files->count; i++) {
        const char *path = files->items[i];
        size_t before = documents->count;

        if (strcmp(path, "-") == 0)
            add_file(documents, path);
        else
            add_path(documents, path, recursive, 0, true);
        if (documents->count == before)
            add_error(documents, path, "no objects in it");
    }
}

static int rank(const struct fl_document *document)
{
    if (fl_streq(document->kind, "Namespace"))
        return 0;
    return fl_streq(document->kind, "CustomResourceDefinition") ? 1 : 2;
}

void fl_documents_sort(struct fl_documents *documents)
{
    struct fl_document *sorted =
        fl_new_array(documents->arena, struct fl_document, documents->count + 1);
    size_t count = 0;

    for (int wanted = 0; wanted <= 2; wanted++)
        for (size_t i = 0; i < documents->count; i++)
            if (rank(&documents->items[i]) == wanted)
                sorted[count++] = documents->items[i];
    documents->items = sorted;
    documents->cap = documents->count + 1;
}
