/* All files of a commit onto the disk, in the child; and who starts the child for it. */
#include "controller/source/checkout.h"

#include "controller/source/git_internal.h"
#include "controller/source/select.h"
#include "lib/file.h"
#include "lib/process.h"
#include "lib/run.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <inttypes.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64
#define PATH_MAX_ 1024

struct writer {
    git_repository *repository;
    git_odb *odb;
    const struct fl_source_request *request;
    struct fl_arena *arena;
    size_t skip; /* of a path, what is in front of the request's folder */
    int64_t files, bytes;
};

static int broken(const struct writer *writer, int code, const char *path, struct fl_error *err)
{
    return fl_git_error(writer->request, code, err, "reading %s", path);
}

/* Names that would lead elsewhere, or into Git's own folder, are in no repository of good will. */
static int check_name(const char *name, const char *path, struct fl_error *err)
{
    if (strlen(path) > PATH_MAX_)
        return fl_error_set(err, FL_E_TOO_LARGE, "%.200s…: the path is longer than %d", path,
                            PATH_MAX_);
    if (!*name || strchr(name, '/') || fl_streq(name, ".") || fl_streq(name, "..") ||
        fl_streq(name, ".git"))
        return fl_error_set(err, FL_E_INVALID, "%.200s: a file cannot have this name", path);
    return 0;
}

static int count_file(struct writer *writer, const char *path, size_t len, struct fl_error *err)
{
    writer->bytes += (int64_t)len;
    if (++writer->files > FL_CHECKOUT_FILES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "%s: with it the files are more than %d", path,
                            FL_CHECKOUT_FILES_MAX);
    if (len > FL_GIT_PACK_BYTES_MAX || writer->bytes > FL_CHECKOUT_BYTES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "%s: with it the files' bytes are more than %" PRId64, path,
                            FL_CHECKOUT_BYTES_MAX);
    return 0;
}

static int write_bytes(int folder, const char *name, const char *path, const char *data, size_t len,
                       mode_t mode, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep)
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    ssize_t n = 0;

    if (fd < 0)
        return fl_error_errno(err, errno, "%s", path);
    for (size_t done = 0; done < len; done += (size_t)n) {
        n = write(fd, data + done, len - done);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n <= 0)
            return fl_error_errno(err, n < 0 ? errno : EIO, "%s", path);
    }
    return 0;
}

static int write_link(struct writer *writer, int folder, const char *name, const char *path,
                      const char *data, size_t len, struct fl_error *err)
{
    const char *target = fl_arena_strndup(writer->arena, data, len);

    if (len == 0 || strlen(target) != len || len > PATH_MAX_)
        return fl_error_set(err, FL_E_INVALID, "%s is a link to nowhere", path);
    return symlinkat(target, folder, name) == 0 ? 0 : fl_error_errno(err, errno, "%s", path);
}

static int write_file(struct writer *writer, int folder, const git_tree_entry *entry,
                      const char *path, struct fl_error *err)
{
    git_filemode_t mode = git_tree_entry_filemode(entry);
    const char *name = git_tree_entry_name(entry);
    git_odb_object *object = NULL;
    git_object_t type;
    size_t len;
    int r = git_odb_read_header(&len, &type, writer->odb, git_tree_entry_id(entry));

    if (r < 0)
        return broken(writer, r, path, err);
    r = count_file(writer, path, len, err);
    if (r < 0)
        return r;
    r = git_odb_read(&object, writer->odb, git_tree_entry_id(entry));
    if (r < 0)
        return broken(writer, r, path, err);
    if (mode == GIT_FILEMODE_LINK)
        r = write_link(writer, folder, name, path, git_odb_object_data(object),
                       git_odb_object_size(object), err);
    else
        r = write_bytes(folder, name, path, git_odb_object_data(object),
                        git_odb_object_size(object),
                        mode == GIT_FILEMODE_BLOB_EXECUTABLE ? 0755 : 0644, err);
    git_odb_object_free(object);
    return r;
}

static int write_tree(struct writer *writer, const git_tree *tree, int folder, const char *path,
                      unsigned depth, struct fl_error *err);

static int write_folder(struct writer *writer, int folder, const git_tree_entry *entry,
                        const char *path, unsigned depth, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int child = -1;
    const char *name = git_tree_entry_name(entry);
    git_tree *tree = NULL;
    int r;

    if (depth > DEPTH_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "%s: folders are nested deeper than %d", path,
                            DEPTH_MAX);
    if (mkdirat(folder, name, 0755) != 0)
        return fl_error_errno(err, errno, "%s", path);
    child = openat(folder, name, O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC);
    if (child < 0)
        return fl_error_errno(err, errno, "%s", path);
    r = git_tree_lookup(&tree, writer->repository, git_tree_entry_id(entry));
    if (r < 0)
        return broken(writer, r, path, err);
    r = write_tree(writer, tree, child, path, depth, err);
    git_tree_free(tree);
    return r;
}

static int write_entry(struct writer *writer, int folder, const git_tree_entry *entry,
                       const char *path, unsigned depth, struct fl_error *err)
{
    const struct fl_source_request *request = writer->request;
    int r = check_name(git_tree_entry_name(entry), path, err);

    if (r < 0)
        return r;
    if (fl_select_is_excluded(path + writer->skip, request->exclude, request->exclude_count))
        return 0;
    switch (git_tree_entry_filemode(entry)) {
    case GIT_FILEMODE_TREE:
        r = count_file(writer, path, 0, err); /* empty ones without end are refused, too */
        return r < 0 ? r : write_folder(writer, folder, entry, path, depth + 1, err);
    case GIT_FILEMODE_COMMIT:
        return fl_error_set(err, FL_E_INVALID,
                            "%s is a submodule, and submodules are not fetched: put its files into "
                            "the repository, or install it as a package",
                            path);
    default:
        return write_file(writer, folder, entry, path, err);
    }
}

static int write_tree(struct writer *writer, const git_tree *tree, int folder, const char *path,
                      unsigned depth, struct fl_error *err)
{
    size_t count = git_tree_entrycount(tree);
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++) {
        const git_tree_entry *entry = git_tree_entry_byindex(tree, i);
        const char *child = fl_arena_printf(writer->arena, "%s%s%s", path, *path ? "/" : "",
                                            git_tree_entry_name(entry));

        r = write_entry(writer, folder, entry, child, depth, err);
    }
    return r;
}

static int open_empty(const char *folder, int *ret_fd, struct fl_error *err)
{
    int r = fl_dir_ensure(folder, 0700, err);

    if (r == 0)
        r = fl_dir_empty(folder, err); /* what an attempt that broke off has left */
    if (r < 0)
        return r;
    *ret_fd = open(folder, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? fl_error_errno(err, errno, "%s", folder) : 0;
}

int fl_git_tree_check_out(git_repository *repository, const git_commit *commit,
                          const struct fl_source_request *request, const char *revision,
                          const char *folder, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    struct writer writer = {.repository = repository, .request = request, .arena = arena};
    git_tree *tree = NULL;
    const char *path = "";
    int r = open_empty(folder, &fd, err);

    if (r == 0 && git_repository_odb(&writer.odb, repository) < 0)
        r = fl_git_error(request, -1, err, "reading the repository");
    if (r == 0)
        r = fl_git_tree_find(repository, commit, request, revision, arena, &path, &tree, err);
    if (r == 0) {
        writer.skip = *path ? strlen(path) + 1 : 0;
        r = write_tree(&writer, tree, fd, path, 0, err);
    }
    git_tree_free(tree);
    git_odb_free(writer.odb);
    return r;
}

/* In the parent. */

static int run_child(const struct fl_checkout *checkout, const json_t *request, json_t **ret_answer,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(request);
    struct fl_run_result result;
    int r = fl_git_child_run(text, checkout->request->timeout_ms, checkout->cancel, ret_answer,
                             &result, err);

    sodium_memzero(text->data, text->len);
    fl_run_result_finish(&result);
    return r;
}

int fl_git_checkout(const struct fl_checkout *checkout, struct fl_arena *arena,
                    struct fl_checked_out *ret_out, struct fl_error *err)
{
    const struct fl_git_request request = {.source = *checkout->request,
                                           .dir = checkout->dir,
                                           .data_dir = checkout->data_dir,
                                           .checkout = checkout->folder};
    FL_JSON value = fl_git_request_encode(&request);
    FL_JSON answer = NULL;
    int r = fl_dir_ensure(checkout->dir, 0700, err);

    *ret_out = (struct fl_checked_out){0};
    if (r == 0)
        r = run_child(checkout, value, &answer, err);
    fl_git_request_wipe(value);
    if (r < 0)
        return r;
    *ret_out = (struct fl_checked_out){
        .revision = fl_arena_copy(arena, fl_json_str(answer, "revision")),
        .commit = fl_arena_copy(arena, fl_json_str(answer, "commit")),
        .committed_s = fl_json_int(answer, "committed", 0),
        .signer = fl_arena_copy(arena, fl_json_str(answer, "signer")),
        .reason = fl_arena_copy(arena, fl_json_str(answer, "reason")),
    };
    if (fl_json_bool(answer, "done", false))
        return 0;
    return fl_error_set(err, fl_error_from_status(fl_json_str(answer, "code"), 500), "%s",
                        fl_str_or(fl_json_str(answer, "message"), "no message"));
}
