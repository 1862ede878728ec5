#include "controller/source/git_internal.h"

#include "controller/source/select.h"
#include "lib/str.h"

#include <git2.h>

/* A tree may hold the same folder many times over, so that a small pack unfolds without end. */
#define ENTRIES_MAX 200000
#define DEPTH_MAX   64
#define PATH_MAX_   1024
#define LINK        "is a link, which is not followed; leave it out with exclude"

struct reader {
    git_repository *repository;
    git_odb *odb;
    const struct fl_source_request *request;
    struct fl_snapshot *snapshot;
    size_t cap, entries, bytes;
};

static int broken(const struct reader *reader, int code, const char *path, struct fl_error *err)
{
    return fl_git_error(reader->request, code, err, "reading %s", path);
}

static int too_large(struct fl_error *err, const char *path, const char *what, size_t max)
{
    return fl_error_set(err, FL_E_TOO_LARGE, "%s: %s %zu; leave out files with exclude", path, what,
                        max);
}

static int check_size(const struct reader *reader, const char *path, size_t len,
                      struct fl_error *err)
{
    if (len > FL_SOURCE_FILE_BYTES_MAX)
        return too_large(err, path, "a manifest's bytes are more than", FL_SOURCE_FILE_BYTES_MAX);
    if (reader->bytes + len > FL_SOURCE_BYTES_MAX)
        return too_large(err, path, "with it the manifests' bytes are more than",
                         FL_SOURCE_BYTES_MAX);
    if (reader->snapshot->file_count >= FL_SOURCE_FILES_MAX)
        return too_large(err, path, "with it the manifests are more than", FL_SOURCE_FILES_MAX);
    return 0;
}

static void add_file(struct reader *reader, const char *path, const void *data, size_t len,
                     const char *fault)
{
    struct fl_snapshot *snapshot = reader->snapshot;

    if (snapshot->file_count == reader->cap) {
        size_t cap = reader->cap ? 2 * reader->cap : 64;
        struct fl_source_file *files = fl_new_array(snapshot->arena, struct fl_source_file, cap);

        if (reader->cap > 0)
            memcpy(files, snapshot->files, reader->cap * sizeof(*files));
        snapshot->files = files;
        reader->cap = cap;
    }
    snapshot->files[snapshot->file_count++] =
        (struct fl_source_file){.path = path,
                                .data = fl_arena_strndup(snapshot->arena, data, len),
                                .len = len,
                                .fault = fault};
    reader->bytes += len;
}

/* The size is asked for first, so that nothing large is unpacked in vain. */
static int read_file(struct reader *reader, const git_oid *id, const char *path, const char *fault,
                     struct fl_error *err)
{
    git_odb_object *object = NULL;
    git_object_t type;
    size_t len;
    int r = git_odb_read_header(&len, &type, reader->odb, id);

    if (r < 0)
        return broken(reader, r, path, err);
    r = check_size(reader, path, len, err);
    if (r < 0)
        return r;
    r = git_odb_read(&object, reader->odb, id);
    if (r < 0)
        return broken(reader, r, path, err);
    add_file(reader, path, git_odb_object_data(object), git_odb_object_size(object), fault);
    git_odb_object_free(object);
    return 0;
}

static int read_tree(struct reader *reader, const git_oid *id, const char *path, size_t skip,
                     unsigned depth, struct fl_error *err);

/* Links and submodules are not followed: they are neither trees nor plain files. But a manifest
 * that has become a link must not seem to have gone; what it has is where it leads. */
static int read_entry(struct reader *reader, const git_tree_entry *entry, const char *path,
                      size_t skip, unsigned depth, struct fl_error *err)
{
    const git_oid *id = git_tree_entry_id(entry);
    git_filemode_t mode = git_tree_entry_filemode(entry);
    const struct fl_source_request *request = reader->request;

    if (++reader->entries > ENTRIES_MAX)
        return too_large(err, path, "with it the files and folders are more than", ENTRIES_MAX);
    if (fl_select_is_excluded(path + skip, request->exclude, request->exclude_count))
        return 0;
    if (mode == GIT_FILEMODE_TREE)
        return read_tree(reader, id, path, skip, depth + 1, err);
    if ((mode != GIT_FILEMODE_BLOB && mode != GIT_FILEMODE_BLOB_EXECUTABLE &&
         mode != GIT_FILEMODE_LINK) ||
        !fl_select_is_manifest(path))
        return 0;
    if (!fl_utf8_valid(path, strlen(path)))
        return fl_error_set(err, FL_E_INVALID, "a manifest's name is not UTF-8");
    return read_file(reader, id, path, mode == GIT_FILEMODE_LINK ? LINK : NULL, err);
}

static int read_entries(struct reader *reader, const git_tree *tree, const char *path, size_t skip,
                        unsigned depth, struct fl_error *err)
{
    size_t count = git_tree_entrycount(tree);
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++) {
        const git_tree_entry *entry = git_tree_entry_byindex(tree, i);
        const char *child = fl_arena_printf(reader->snapshot->arena, "%s%s%s", path,
                                            *path ? "/" : "", git_tree_entry_name(entry));

        if (strlen(child) > PATH_MAX_)
            return fl_error_set(err, FL_E_TOO_LARGE, "%.200s…: the path is longer than %d", child,
                                PATH_MAX_);
        r = read_entry(reader, entry, child, skip, depth, err);
    }
    return r;
}

/* `skip` bytes of a path are in front of what exclude patterns are about. */
static int read_tree(struct reader *reader, const git_oid *id, const char *path, size_t skip,
                     unsigned depth, struct fl_error *err)
{
    git_tree *tree = NULL;
    int r;

    if (depth > DEPTH_MAX)
        return too_large(err, path, "folders in folders are more than", DEPTH_MAX);
    r = git_tree_lookup(&tree, reader->repository, id);
    if (r < 0)
        return broken(reader, r, *path ? path : "the root folder", err);
    r = read_entries(reader, tree, path, skip, depth, err);
    git_tree_free(tree);
    return r;
}

/* "./a//b/" is "a/b"; "" the root. */
static char *normal_path(struct fl_arena *arena, const char *path)
{
    char *normal = fl_alloc(arena, strlen(path) + 1);
    size_t len = 0;

    while (*path) {
        size_t n = strcspn(path, "/");

        if (n > 0 && !(n == 1 && *path == '.')) {
            if (len > 0)
                normal[len++] = '/';
            memcpy(normal + len, path, n);
            len += n;
        }
        path += n + (path[n] == '/');
    }
    normal[len] = '\0';
    return normal;
}

/* The folder below the root; `revision` is for people. */
static int look_up(git_repository *repository, const struct fl_source_request *request,
                   const git_tree *root, const char *revision, const char *path,
                   git_tree **ret_tree, struct fl_error *err)
{
    git_tree_entry *entry = NULL;
    int r = git_tree_entry_bypath(&entry, root, path);

    if (r == GIT_ENOTFOUND)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s has no folder %s", revision, path);
    if (r < 0)
        return fl_git_error(request, r, err, "reading %s", path);
    if (git_tree_entry_filemode(entry) != GIT_FILEMODE_TREE)
        r = fl_error_set(err, FL_E_INVALID, "%s: %s is no folder", revision, path);
    else if ((r = git_tree_lookup(ret_tree, repository, git_tree_entry_id(entry))) < 0)
        r = fl_git_error(request, r, err, "reading %s", path);
    git_tree_entry_free(entry);
    return r;
}

int fl_git_tree_find(git_repository *repository, const git_commit *commit,
                     const struct fl_source_request *request, const char *revision,
                     struct fl_arena *arena, const char **ret_path, git_tree **ret_tree,
                     struct fl_error *err)
{
    const char *path = normal_path(arena, fl_str_or(request->path, ""));
    git_tree *root = NULL;
    int r = git_commit_tree(&root, commit);

    if (r < 0)
        return fl_git_error(request, r, err, "reading the commit's root folder");
    *ret_path = path;
    if (!*path) {
        *ret_tree = root;
        return 0;
    }
    r = look_up(repository, request, root, revision, path, ret_tree, err);
    git_tree_free(root);
    return r;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct fl_source_file *)a)->path,
                  ((const struct fl_source_file *)b)->path);
}

int fl_git_tree_read(git_repository *repository, const git_commit *commit,
                     const struct fl_source_request *request, struct fl_snapshot *snapshot,
                     struct fl_error *err)
{
    struct reader reader = {.repository = repository, .request = request, .snapshot = snapshot};
    git_tree *folder = NULL;
    const char *path = "";
    int r = git_repository_odb(&reader.odb, repository);

    if (r < 0)
        return fl_git_error(request, r, err, "reading the repository");
    r = fl_git_tree_find(repository, commit, request, snapshot->revision, snapshot->arena, &path,
                         &folder, err);
    if (r == 0)
        r = read_entries(&reader, folder, path, *path ? strlen(path) + 1 : 0, 0, err);
    if (r == 0 && snapshot->file_count > 0)
        qsort(snapshot->files, snapshot->file_count, sizeof(*snapshot->files), by_path);
    git_tree_free(folder);
    git_odb_free(reader.odb);
    return r;
}
