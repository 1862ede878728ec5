#include "controller/source/git_internal.h"

#include "lib/file.h"
#include "lib/str.h"

#define HEADER_MAX_BYTES ((size_t)16 * 1024 * 1024)
#define FORM             2

static json_t *header_of(const struct fl_snapshot *snapshot, const char *digest)
{
    json_t *header = json_object(), *files = json_array();

    json_object_set_new(header, "form", json_integer(FORM));
    fl_json_set_str(header, "request", digest);
    fl_json_set_str(header, "revision", snapshot->revision);
    fl_json_set_str(header, "signer", snapshot->signer);
    for (size_t i = 0; i < snapshot->file_count; i++) {
        json_t *file = json_object();

        fl_json_set_str(file, "path", snapshot->files[i].path);
        fl_json_set_str(file, "fault", snapshot->files[i].fault);
        json_object_set_new(file, "len", json_integer((json_int_t)snapshot->files[i].len));
        json_array_append_new(files, file);
    }
    json_object_set_new(header, "files", files);
    return header;
}

static char *path_in(struct fl_arena *arena, const char *dir)
{
    return fl_arena_printf(arena, "%s/snapshot", dir);
}

int fl_git_snapshot_write(const char *dir, const struct fl_snapshot *snapshot, const char *digest,
                          struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_JSON header = header_of(snapshot, digest);
    struct fl_buf buf;
    int r;

    fl_buf_init(&buf, HEADER_MAX_BYTES + FL_SOURCE_BYTES_MAX);
    fl_json_write(&buf, header);
    fl_buf_putc(&buf, '\n');
    if (buf.len > HEADER_MAX_BYTES)
        buf.overflow = true;
    for (size_t i = 0; i < snapshot->file_count; i++)
        fl_buf_append(&buf, snapshot->files[i].data, snapshot->files[i].len);
    if (buf.overflow)
        r = fl_error_set(err, FL_E_TOO_LARGE, "%s: the files and their names are too large",
                         snapshot->revision);
    else
        r = fl_file_write(path_in(arena, dir), buf.data, buf.len, 0600, err);
    fl_buf_finish(&buf);
    return r;
}

static int broken(struct fl_error *err, const char *what)
{
    return fl_error_set(err, FL_E_INTERNAL, "the kept snapshot is broken: %s", what);
}

/* Data points into `rest`, which the arena owns. */
static int read_files(const json_t *header, const char *rest, size_t len,
                      struct fl_snapshot *snapshot, struct fl_error *err)
{
    const json_t *files = json_object_get(header, "files"), *file;
    size_t i;

    if (json_array_size(files) > FL_SOURCE_FILES_MAX)
        return broken(err, "files");
    snapshot->files =
        fl_new_array(snapshot->arena, struct fl_source_file, json_array_size(files) + 1);
    json_array_foreach(files, i, file) {
        int64_t file_len = fl_json_int(file, "len", -1);
        const char *path = fl_json_str(file, "path"), *fault = fl_json_str(file, "fault");

        if (!path || file_len < 0 || (size_t)file_len > len)
            return broken(err, "a file");
        snapshot->files[i] = (struct fl_source_file){
            .path = fl_arena_strdup(snapshot->arena, path),
            .data = rest,
            .len = (size_t)file_len,
            .fault = fault ? fl_arena_strdup(snapshot->arena, fault) : NULL};
        rest += file_len;
        len -= (size_t)file_len;
    }
    snapshot->file_count = json_array_size(files);
    return len == 0 ? 0 : broken(err, "its length");
}

static int read_header(const json_t *header, const char *digest, struct fl_snapshot *snapshot,
                       struct fl_error *err)
{
    const char *revision = fl_json_str(header, "revision"), *signer = fl_json_str(header, "signer");

    if (fl_json_int(header, "form", 0) != FORM || !revision)
        return broken(err, "its form");
    if (!fl_streq(fl_json_str(header, "request"), digest))
        return fl_error_set(err, FL_E_NOT_FOUND, "the kept snapshot is of another request");
    snapshot->revision = fl_arena_strdup(snapshot->arena, revision);
    snapshot->signer = signer ? fl_arena_strdup(snapshot->arena, signer) : NULL;
    return 0;
}

static void drop_bytes(void *user)
{
    fl_bytes_unref(user);
}

int fl_git_snapshot_decode(struct fl_bytes *bytes, const char *digest,
                           struct fl_snapshot **ret_snapshot, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = HEADER_MAX_BYTES};
    FL_CLEANUP(fl_snapshot_unrefp) struct fl_snapshot *snapshot = fl_snapshot_create();
    const char *newline = memchr(bytes->data, '\n', bytes->len), *rest;
    FL_JSON header = NULL;
    int r;

    fl_arena_on_reset(snapshot->arena, drop_bytes, fl_bytes_ref(bytes));
    if (!newline)
        return broken(err, "no header");
    r = fl_json_parse(bytes->data, (size_t)(newline - bytes->data), &limits, NULL, NULL, &header,
                      err);
    if (r == 0)
        r = read_header(header, digest, snapshot, err);
    if (r < 0)
        return r;
    rest = newline + 1;
    r = read_files(header, rest, (size_t)(bytes->data + bytes->len - rest), snapshot, err);
    if (r == 0)
        *ret_snapshot = FL_TAKE(snapshot);
    return r;
}

int fl_git_snapshot_read(const char *dir, const char *digest, struct fl_snapshot **ret_snapshot,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    int r = fl_file_read(path_in(arena, dir), HEADER_MAX_BYTES + FL_SOURCE_BYTES_MAX, &bytes, err);

    return r == 0 ? fl_git_snapshot_decode(bytes, digest, ret_snapshot, err) : r;
}
