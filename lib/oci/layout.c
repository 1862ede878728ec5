#include "lib/oci/layout.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYOUT_FILE_MAX ((size_t)4096)
#define REF_NAME        "org.opencontainers.image.ref.name"
#define NAMES_MAX       600
#define COPY_BYTES      ((size_t)256 * 1024)

static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

/* --- folders and files, no links --- */

struct layout {
    int root, blobs; /* `blobs`: blobs/sha256 */
};

static void layout_close(struct layout *layout)
{
    fl_fd_closep(&layout->root);
    fl_fd_closep(&layout->blobs);
}

static int open_folder(int at, const char *name, int *ret_fd, struct fl_error *err)
{
    *ret_fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd < 0 ? fl_error_errno(err, errno, "%s", name) : 0;
}

static int open_blobs(struct layout *layout, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int above = -1;
    int r = open_folder(layout->root, "blobs", &above, err);

    return r < 0 ? r : open_folder(above, "sha256", &layout->blobs, err);
}

/* The folder itself may be named by a link: that is the caller's choice. */
static int open_root(const char *path, struct layout *layout, struct fl_error *err)
{
    layout->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return layout->root < 0 ? fl_error_errno(err, errno, "open") : 0;
}

/* Neither a link nor a pipe that never answers. */
static int open_file(int at, const char *name, int64_t *ret_size, int *ret_fd, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep)
    int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0 && errno == ELOOP)
        return fl_error_set(err, FL_E_INVALID, "%s is a link", name);
    if (fd < 0 || fstat(fd, &st) != 0)
        return fl_error_errno(err, errno, "%s", name);
    if (!S_ISREG(st.st_mode))
        return fl_error_set(err, FL_E_INVALID, "%s is no file", name);
    *ret_size = st.st_size;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int read_file(int at, const char *name, size_t max, struct fl_bytes **ret_text,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int64_t size;
    int r = open_file(at, name, &size, &fd, err);

    if (r < 0)
        return r;
    r = fl_fd_read(fd, max, ret_text, err);
    return r == FL_E_TOO_LARGE
               ? fl_error_set(err, FL_E_TOO_LARGE, "%s has more than %zu bytes", name, max)
               : r;
}

static const char *name_of(const char *digest)
{
    return digest + 7;
}

/* --- what there is --- */

static int check_version(const struct layout *layout, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    FL_JSON value = NULL;
    const char *version;
    int r = read_file(layout->root, "oci-layout", LAYOUT_FILE_MAX, &text, err);

    if (r < 0)
        return r == FL_E_NOT_FOUND
                   ? fl_error_set(err, r, "it is no image layout: there is no oci-layout")
                   : r;
    if (fl_json_parse(text->data, text->len, NULL, NULL, NULL, &value, NULL) < 0)
        return fl_error_set(err, FL_E_INVALID, "oci-layout is not JSON");
    version = fl_json_str(value, "imageLayoutVersion");
    if (!version || !fl_str_has_prefix(version, "1."))
        return fl_error_set(err, FL_E_INVALID, "oci-layout has a version that is not known here");
    return 0;
}

static int read_index(const struct layout *layout, struct fl_arena *arena,
                      struct fl_oci_manifest *ret_index, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = check_version(layout, err);

    if (r == 0)
        r = read_file(layout->root, "index.json", FL_OCI_MANIFEST_MAX, &text, err);
    if (r < 0)
        return r;
    r = fl_oci_manifest_parse(arena, text->data, text->len, FL_OCI_INDEX, ret_index, err);
    if (r < 0)
        (void)fl_error_wrap(err, "index.json");
    return r;
}

int fl_layout_list(const char *path, struct fl_arena *arena, struct fl_oci_descriptors *ret_images,
                   struct fl_error *err)
{
    FL_CLEANUP(layout_close) struct layout layout = {-1, -1};
    struct fl_oci_manifest index = {0};
    int r = open_root(path, &layout, err);

    if (r == 0)
        r = read_index(&layout, arena, &index, err);
    if (r < 0) {
        (void)fl_error_wrap(err, "%s", path);
        return r;
    }
    *ret_images = index.layers;
    return 0;
}

static bool goes_by(const struct fl_oci_descriptor *image, const char *name)
{
    return fl_streq(image->digest, name) ||
           fl_streq(fl_oci_pair(&image->annotations, REF_NAME), name);
}

static const char *names_text(struct fl_arena *arena, const struct fl_oci_manifest *index)
{
    const char *text = "";

    for (size_t i = 0; i < index->layers.count && strlen(text) < NAMES_MAX; i++) {
        const struct fl_oci_descriptor *image = &index->layers.items[i];
        const char *name = fl_oci_pair(&image->annotations, REF_NAME);

        text = fl_arena_printf(arena, "%s%s%.200s", text, *text ? ", " : "",
                               fl_str_or(name, image->digest));
    }
    return *text ? text : "nothing";
}

static int choose(struct fl_arena *arena, const struct fl_oci_manifest *index, const char *name,
                  const struct fl_oci_descriptor **ret_image, struct fl_error *err)
{
    const size_t count = index->layers.count;
    size_t found = count;

    for (size_t i = 0; i < count; i++)
        if (!name || goes_by(&index->layers.items[i], name))
            found = i;
    if (found == count)
        return fl_error_set(err, FL_E_NOT_FOUND, "it has no image %s, but %s", fl_str_or(name, ""),
                            names_text(arena, index));
    if (!name && count > 1)
        return fl_error_set(err, FL_E_BAD_REQUEST, "it has several images, say which: %s",
                            names_text(arena, index));
    *ret_image = &index->layers.items[found];
    return 0;
}

/* --- reading --- */

struct reading {
    struct layout layout;
    struct fl_blobs *blobs;
};

static void reading_finish(struct reading *reading)
{
    layout_close(&reading->layout);
}

static int load(void *user, const struct fl_oci_descriptor *descriptor,
                struct fl_bytes **ret_document, struct fl_error *err)
{
    const struct reading *reading = user;

    return read_file(reading->layout.blobs, name_of(descriptor->digest), FL_OCI_MANIFEST_MAX,
                     ret_document, err);
}

static int bring(void *user, const struct fl_oci_part *part, bool is_there, struct fl_error *err)
{
    const struct reading *reading = user;
    const struct fl_oci_descriptor *blob = &part->descriptor;
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    char digest[FL_DIGEST_SIZE];
    int64_t size;
    int r;

    if (is_there || part->document)
        return 0;
    r = open_file(reading->layout.blobs, name_of(blob->digest), &size, &fd, err);
    if (r == 0 && size != blob->size)
        r = fl_error_set(err, FL_E_INVALID, "it has %" PRId64 " bytes, not %" PRId64, size,
                         blob->size);
    return r < 0 ? r : fl_blobs_put_fd(reading->blobs, fd, blob->digest, true, digest, err);
}

static int read_image(struct reading *reading, const char *path, const char *tag,
                      struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *own = fl_arena_create();
    const struct fl_oci_closing closing = {.load = load, .user = reading};
    const struct fl_oci_descriptor *image = NULL;
    struct fl_oci_closure closure = {0};
    struct fl_oci_manifest index = {0};
    int r = open_root(path, &reading->layout, err);

    if (r == 0)
        r = read_index(&reading->layout, own, &index, err);
    if (r == 0)
        r = open_blobs(&reading->layout, err);
    if (r == 0)
        r = choose(own, &index, tag, &image, err);
    if (r == 0)
        r = fl_oci_closure(own, image, &closing, &closure, err);
    return r < 0 ? r : fl_oci_take(&closure, reading->blobs, bring, reading, arena, ret_taken, err);
}

int fl_layout_read(const char *path, const char *tag, struct fl_blobs *blobs,
                   struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    FL_CLEANUP(reading_finish) struct reading reading = {.layout = {-1, -1}, .blobs = blobs};
    int r = read_image(&reading, path, tag, arena, ret_taken, err);

    if (r < 0)
        (void)fl_error_wrap(err, "%s", path);
    return r;
}

/* --- writing --- */

static int make_folder(int at, const char *name, struct fl_error *err)
{
    if (mkdirat(at, name, 0755) != 0 && errno != EEXIST)
        return fl_error_errno(err, errno, "make %s", name);
    return 0;
}

static int make_blobs(struct layout *layout, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int above = -1;
    int r = make_folder(layout->root, "blobs", err);

    if (r == 0)
        r = open_folder(layout->root, "blobs", &above, err);
    if (r == 0)
        r = make_folder(above, "sha256", err);
    return r < 0 ? r : open_folder(above, "sha256", &layout->blobs, err);
}

static int write_all(int fd, const char *data, size_t len, struct fl_error *err)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fl_error_errno(err, errno, "write");
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int copy(int from, int to, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *piece = fl_malloc(COPY_BYTES);
    int r = 0;

    while (r == 0) {
        ssize_t n = read(from, piece, COPY_BYTES);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? 0 : fl_error_errno(err, errno, "read");
        r = write_all(to, piece, (size_t)n, err);
    }
    return r;
}

/* A new file in the place of whatever has the name, a link too: begun under another name. */
#define TEMPORARY ".flops.new"

static int begin_file(int folder, const char *name, int *ret_fd, struct fl_error *err)
{
    (void)unlinkat(folder, TEMPORARY, 0);
    *ret_fd = openat(folder, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    return *ret_fd < 0 ? fl_error_errno(err, errno, "make %s", name) : 0;
}

/* `r`: whether its content came. */
static int end_file(int folder, const char *name, int fd, int r, struct fl_error *err)
{
    if (r == 0 && fsync(fd) != 0)
        r = fl_error_errno(err, errno, "sync %s", name);
    if (r == 0 && renameat(folder, TEMPORARY, folder, name) != 0)
        r = fl_error_errno(err, errno, "place %s", name);
    if (r < 0)
        (void)unlinkat(folder, TEMPORARY, 0);
    return r;
}

static int place_copy(int folder, const char *name, int from, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int r = begin_file(folder, name, &fd, err);

    return r < 0 ? r : end_file(folder, name, fd, copy(from, fd, err), err);
}

static int place_text(int folder, const char *name, const char *text, size_t len,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int fd = -1;
    int r = begin_file(folder, name, &fd, err);

    return r < 0 ? r : end_file(folder, name, fd, write_all(fd, text, len, err), err);
}

/* One that is there with the right size is taken as it is: names are digests. */
static int write_blob(const struct layout *layout, struct fl_blobs *blobs,
                      const struct fl_oci_descriptor *blob, struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int from = -1;
    FL_CLEANUP(fl_fd_closep) int there = -1;
    int64_t size;
    int r;

    if (open_file(layout->blobs, name_of(blob->digest), &size, &there, NULL) == 0 &&
        size == blob->size)
        return 0;
    r = fl_blobs_get(blobs, blob->digest, &from, &size, err);
    return r < 0 ? r : place_copy(layout->blobs, name_of(blob->digest), from, err);
}

static int write_index(const struct layout *layout, const struct fl_oci_manifest *index,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_oci_manifest_encode(index);
    int r = place_text(layout->root, "oci-layout", layout_text, sizeof(layout_text) - 1, err);

    if (r == 0 && fsync(layout->blobs) != 0)
        r = fl_error_errno(err, errno, "sync");
    if (r == 0)
        r = place_text(layout->root, "index.json", text->data, text->len, err);
    if (r == 0 && fsync(layout->root) != 0)
        r = fl_error_errno(err, errno, "sync");
    return r;
}

static bool is_empty(const char *path)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list;

    return fl_folder_list(arena, path, false, 64, &list, NULL) == 0 && list.count == 0;
}

/* A new layout, or one that is there with its images. A new one is one from the beginning, so that
 * whoever is interrupted can go on. */
static int open_for_writing(const char *path, struct layout *layout, struct fl_arena *arena,
                            struct fl_oci_manifest *ret_index, struct fl_error *err)
{
    int r = fl_dir_ensure(path, 0755, err);

    *ret_index = (struct fl_oci_manifest){.is_index = true, .media_type = FL_OCI_INDEX};
    if (r == 0)
        r = open_root(path, layout, err);
    if (r < 0)
        return r;
    if (is_empty(path)) {
        r = make_blobs(layout, err);
        return r < 0 ? r : write_index(layout, ret_index, err);
    }
    r = read_index(layout, arena, ret_index, err);
    if (r == FL_E_NOT_FOUND)
        return fl_error_set(err, FL_E_CONFLICT,
                            "there are other things in it, which are no image layout");
    return r < 0 ? r : make_blobs(layout, err);
}

static void name_image(struct fl_arena *arena, struct fl_oci_descriptor *image, const char *tag)
{
    image->annotations = (struct fl_oci_pairs){0};
    if (!tag)
        return;
    image->annotations.items = fl_new_array(arena, struct fl_oci_pair, 1);
    image->annotations.items[0] = (struct fl_oci_pair){REF_NAME, tag};
    image->annotations.count = 1;
}

/* Another one that had the tag loses it, and its place where it has no other name. */
static int add_image(struct fl_arena *arena, struct fl_oci_manifest *index,
                     const struct fl_oci_descriptor *root, const char *tag, struct fl_error *err)
{
    struct fl_oci_descriptors images = {
        fl_new_array(arena, struct fl_oci_descriptor, index->layers.count + 1), 0};

    for (size_t i = 0; i < index->layers.count; i++) {
        const struct fl_oci_descriptor *image = &index->layers.items[i];
        const char *name = fl_oci_pair(&image->annotations, REF_NAME);

        if ((tag && fl_streq(name, tag)) || (!name && fl_streq(image->digest, root->digest)))
            continue;
        if (!tag && fl_streq(image->digest, root->digest))
            return 0; /* it is there under a name */
        images.items[images.count++] = *image;
    }
    if (images.count == FL_OCI_MANIFESTS_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "it is full");
    images.items[images.count] = *root;
    name_image(arena, &images.items[images.count++], tag);
    index->layers = images;
    return 0;
}

static int write_image(struct layout *layout, const char *path, struct fl_blobs *blobs,
                       const struct fl_oci_descriptor *root, const char *tag, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_oci_closing closing = {.load = fl_oci_load_blob, .user = blobs};
    struct fl_oci_closure closure = {0};
    struct fl_oci_manifest index = {0};
    int r = fl_oci_closure(arena, root, &closing, &closure, err);

    if (r == 0)
        r = open_for_writing(path, layout, arena, &index, err);
    for (size_t i = 0; r == 0 && i < closure.count; i++)
        r = write_blob(layout, blobs, &closure.parts[i].descriptor, err);
    if (r == 0)
        r = add_image(arena, &index, root, tag, err);
    return r < 0 ? r : write_index(layout, &index, err);
}

int fl_layout_write(const char *path, struct fl_blobs *blobs, const struct fl_oci_descriptor *root,
                    const char *tag, struct fl_error *err)
{
    FL_CLEANUP(layout_close) struct layout layout = {-1, -1};
    int r = write_image(&layout, path, blobs, root, tag, err);

    if (r < 0)
        (void)fl_error_wrap(err, "%s", path);
    return r;
}
