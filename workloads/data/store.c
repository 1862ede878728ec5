#include "workloads/data/store_manifest.h"

#include "lib/digest.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/str.h"
#include "workloads/data/dataset_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define MANIFEST   "manifest.json"
#define DATA       "data.safetensors"
#define ROWS       "rows.safetensors"
#define HASH_BYTES ((size_t)1024 * 1024)

/* A change under way: what will be there is made in `fresh`, with the lock held. */
struct change {
    struct fl_arena *arena;
    const struct fl_data_store *store;
    const char *name, *fresh, *gone, *final;
    int lock;
};

static void change_finish(struct change *change)
{
    fl_arena_destroy(change->arena);
    fl_file_unlockp(&change->lock);
}

/* --- files and their digests --- */

static int hash_fd(int fd, int64_t *ret_size, char digest[FL_DIGEST_SIZE], struct fl_error *err)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    FL_CLEANUP(fl_freep) char *piece = fl_malloc(HASH_BYTES);

    *ret_size = 0;
    for (;;) {
        ssize_t n = read(fd, piece, HASH_BYTES);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fl_error_errno(err, errno, "read");
        if (n == 0)
            break;
        fl_sha256_add(hash, piece, (size_t)n);
        *ret_size += n;
    }
    fl_sha256_end_text(hash, digest);
    return 0;
}

static int read_file_info(struct fl_arena *arena, const char *path, struct fl_data_file *ret_file,
                          struct fl_error *err)
{
    const char *slash = strrchr(path, '/');
    char digest[FL_DIGEST_SIZE];
    int64_t size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

    if (fd < 0)
        return fl_error_errno(err, errno, "%s", path);
    r = hash_fd(fd, &size, digest, err);
    (void)close(fd);
    if (r < 0)
        return fl_error_wrap(err, "%s", path);
    *ret_file = (struct fl_data_file){fl_arena_strdup(arena, slash ? slash + 1 : path), size,
                                      fl_arena_strdup(arena, digest)};
    return 0;
}

int fl_data_source_read(struct fl_arena *arena, const char *const *paths, size_t count,
                        const struct fl_data_file **ret_files, struct fl_error *err)
{
    struct fl_data_file *files = fl_new_array(arena, struct fl_data_file, count + 1);

    for (size_t i = 0; i < count; i++) {
        int r = read_file_info(arena, paths[i], &files[i], err);

        if (r < 0)
            return r;
    }
    *ret_files = files;
    return 0;
}

/* --- looking --- */

static const char *path_of(const struct fl_data_store *store, struct fl_arena *arena,
                           const char *name, const char *file)
{
    return fl_arena_printf(arena, "%s/%s%s%s", store->folder, name, file ? "/" : "",
                           fl_str_or(file, ""));
}

int fl_data_store_get(const struct fl_data_store *store, struct fl_arena *arena, const char *name,
                      struct fl_data_info *ret_info, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    const char *path = path_of(store, arena, name, MANIFEST);
    struct fl_data_info info = {0};
    int r;

    if (!fl_data_name_is_valid(name))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is no tag", name);
    r = fl_file_read(path, FL_DATA_MANIFEST_MAX, &text, err);
    if (r == FL_E_NOT_FOUND)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no data set \"%s\"", name);
    if (r < 0)
        return r;
    r = fl_data_manifest_read(arena, text->data, text->len, &info, err);
    if (r < 0)
        return fl_error_wrap(err, "%s", path);
    if (strcmp(info.name, name) != 0)
        return fl_error_set(err, FL_E_INVALID, "%s is of \"%s\"", path, info.name);
    *ret_info = info;
    return 0;
}

int fl_data_store_list(const struct fl_data_store *store, struct fl_arena *arena,
                       struct fl_data_list *ret_list, struct fl_error *err)
{
    struct fl_folder_list folders;
    struct fl_data_info *items;
    size_t count = 0;
    int r = fl_folder_list(arena, store->folder, true, FL_DATA_STORE_MAX, &folders, err);

    if (r < 0)
        return r;
    items = fl_new_array(arena, struct fl_data_info, folders.count + 1);
    for (size_t i = 0; i < folders.count; i++) {
        if (!fl_data_name_is_valid(folders.names[i])) /* somebody else's */
            continue;
        r = fl_data_store_get(store, arena, folders.names[i], &items[count], err);
        if (r < 0 && r != FL_E_NOT_FOUND) /* removed meanwhile */
            return r;
        count += r == 0;
    }
    *ret_list = (struct fl_data_list){items, count};
    return 0;
}

/* --- changing --- */

static int change_begin(struct change *change, struct fl_error *err)
{
    const char *lock = path_of(change->store, change->arena, ".lock", NULL);
    int r = fl_dir_ensure(change->store->folder, 0700, err);

    if (r == 0)
        r = fl_file_lock(lock, &change->lock, err);
    if (r < 0)
        return r;
    change->fresh = path_of(change->store, change->arena, ".new", NULL);
    change->gone = path_of(change->store, change->arena, ".gone", NULL);
    change->final = path_of(change->store, change->arena, change->name, NULL);
    r = fl_dir_remove(change->fresh, err);
    if (r == 0)
        r = fl_dir_remove(change->gone, err);
    return r < 0 ? r : fl_dir_ensure(change->fresh, 0700, err);
}

static int write_manifest(struct change *change, const struct fl_data_info *info,
                          struct fl_error *err)
{
    FL_JSON object = fl_data_manifest_write(info);
    const char *path = fl_arena_printf(change->arena, "%s/" MANIFEST, change->fresh);
    struct fl_buf text;
    int r;

    fl_buf_init(&text, FL_DATA_MANIFEST_MAX);
    fl_json_write_pretty(&text, object);
    r = text.overflow ? fl_error_set(err, FL_E_TOO_LARGE, "the manifest")
                      : fl_file_write(path, text.data, text.len, 0600, err);
    fl_buf_finish(&text);
    return r;
}

/* The fresh folder takes its place; the one that was there goes. */
static int change_commit(struct change *change, struct fl_error *err)
{
    bool replaces = fl_path_exists(change->final);
    int r = replaces ? fl_folder_swap(change->fresh, change->final, err)
                     : fl_folder_move(change->fresh, change->final, err);

    if (r == 0)
        r = fl_folder_sync(change->store->folder, err);
    if (r == 0 && replaces)
        r = fl_dir_remove(change->fresh, err);
    return r;
}

static bool same_partition(const struct fl_partition *a, const struct fl_partition *b)
{
    return a->kind == b->kind && a->learners == b->learners && a->per_learner == b->per_learner &&
           a->min_examples == b->min_examples && a->alpha == b->alpha && a->seed == b->seed;
}

static bool is_same(const struct fl_data_info *a, const struct fl_data_info *b)
{
    if (a->file_count != b->file_count || !a->of != !b->of ||
        (a->of && !same_partition(&a->partition, &b->partition)))
        return false;
    for (size_t i = 0; i < a->file_count; i++)
        if (strcmp(a->files[i].digest, b->files[i].digest) != 0)
            return false;
    return true;
}

/* > 0: the same is there already. */
static int check_present(struct change *change, const struct fl_data_info *info, bool replace,
                         struct fl_error *err)
{
    struct fl_data_info present = {0};
    int r = fl_data_store_get(change->store, change->arena, change->name, &present, err);

    if (r == FL_E_NOT_FOUND)
        return 0;
    if (r == 0 && is_same(&present, info))
        return 1;
    if (replace) /* also what is damaged */
        return 0;
    if (r < 0)
        return r;
    return fl_error_set(err, FL_E_ALREADY_EXISTS, "\"%s\" is there already, with other data",
                        change->name);
}

static int finish_change(struct change *change, struct fl_data_info *info, bool replace,
                         struct fl_error *err)
{
    char now[FL_TIME_SIZE];
    int r = check_present(change, info, replace, err);

    if (r == 0) {
        fl_time_format(fl_realtime_us(change->store->env), now);
        info->name = change->name;
        info->created = fl_arena_strdup(change->arena, now);
        r = write_manifest(change, info, err);
        return r < 0 ? r : change_commit(change, err);
    }
    (void)fl_dir_remove(change->fresh, NULL);
    return r;
}

static void describe(const struct fl_dataset *dataset, struct fl_data_info *info)
{
    info->examples = (int64_t)dataset->count;
    info->classes = dataset->classes;
    info->rank = dataset->rank;
    memcpy(info->shape, dataset->shape, sizeof(info->shape));
}

int fl_data_store_push(const struct fl_data_store *store, const char *tag,
                       const struct fl_dataset *dataset, const struct fl_data_info *info,
                       bool replace, struct fl_error *err)
{
    FL_CLEANUP(change_finish)
    struct change change = {fl_arena_create(), store, tag, .lock = -1};
    struct fl_data_info made = {
        .format = info->format, .source = info->source, .source_count = info->source_count};
    struct fl_data_file file = {0};
    const char *path;
    int r;

    if (!fl_data_tag_is_valid(tag))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is no tag", tag);
    r = change_begin(&change, err);
    if (r < 0)
        return r;
    path = fl_arena_printf(change.arena, "%s/" DATA, change.fresh);
    r = fl_dataset_write_safetensors(dataset, path, err);
    if (r < 0)
        return r;
    r = read_file_info(change.arena, path, &file, err);
    if (r < 0)
        return r;
    describe(dataset, &made);
    made.files = &file;
    made.file_count = 1;
    return finish_change(&change, &made, replace, err);
}

int fl_data_store_remove(const struct fl_data_store *store, const char *name, struct fl_error *err)
{
    FL_CLEANUP(change_finish)
    struct change change = {fl_arena_create(), store, name, .lock = -1};
    int r;

    if (!fl_data_name_is_valid(name))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is no tag", name);
    if (!fl_path_exists(path_of(store, change.arena, name, NULL)))
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no data set \"%s\"", name);
    r = change_begin(&change, err);
    if (r == 0)
        r = fl_dir_remove(change.fresh, err);
    if (r == 0)
        r = fl_folder_move(change.final, change.gone, err);
    if (r == 0)
        r = fl_folder_sync(store->folder, err);
    return r < 0 ? r : fl_dir_remove(change.gone, err);
}

/* --- opening --- */

static int check_size(const struct fl_data_store *store, struct fl_arena *arena,
                      const struct fl_data_info *info, size_t file, struct fl_model *model,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = NULL;
    size_t size = 0;

    header = fl_safetensors_header(model, &size);
    if ((uint64_t)info->files[file].size == size)
        return 0;
    return fl_error_set(err, FL_E_INVALID, "%s has %zu bytes, not %" PRId64 " as its manifest says",
                        path_of(store, arena, info->name, info->files[file].name), size,
                        info->files[file].size);
}

static int open_file(const struct fl_data_store *store, struct fl_arena *arena,
                     const struct fl_data_info *info, size_t file, struct fl_model **ret_model,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = fl_safetensors_open(path_of(store, arena, info->name, info->files[file].name), NULL,
                                &model, err);

    if (r == 0)
        r = check_size(store, arena, info, file, model, err);
    if (r < 0)
        return r;
    *ret_model = FL_TAKE(model);
    return 0;
}

static bool is_as_described(const struct fl_dataset *dataset, const struct fl_data_info *info)
{
    /* More classes: whoever opens it may ask for them. */
    return (int64_t)dataset->count == info->examples && dataset->classes >= info->classes &&
           (dataset->classes == 0) == (info->classes == 0) && dataset->rank == info->rank &&
           memcmp(dataset->shape, info->shape, info->rank * sizeof(*info->shape)) == 0;
}

static int open_whole(const struct fl_data_store *store, struct fl_arena *arena,
                      const struct fl_data_info *info, const struct fl_dataset_limits *limits,
                      bool trusted, struct fl_dataset **ret_dataset, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    int r = open_file(store, arena, info, 0, &model, err);

    if (r == 0)
        r = fl_dataset_from_model(model, limits, trusted, &dataset, err);
    if (r < 0)
        return fl_error_wrap(err, "data set \"%s\"", info->name);
    if (!is_as_described(dataset, info))
        return fl_error_set(err, FL_E_INVALID,
                            "data set \"%s\": manifest and data do not go together", info->name);
    *ret_dataset = FL_TAKE(dataset);
    return 0;
}

/* --- parts --- */

struct parts {
    struct fl_model *model;
    const uint32_t *rows;
    const uint64_t *starts;
};

static void parts_finish(struct parts *parts)
{
    fl_model_unref(parts->model);
}

static int open_parts(const struct fl_data_store *store, struct fl_arena *arena,
                      const struct fl_data_info *info, struct parts *parts, struct fl_error *err)
{
    const struct fl_tensor *rows, *starts;
    int r = open_file(store, arena, info, 1, &parts->model, err);

    if (r < 0)
        return r;
    rows = fl_model_find(parts->model, "rows");
    starts = fl_model_find(parts->model, "starts");
    if (!rows || !starts || rows->dtype != FL_DTYPE_U32 || starts->dtype != FL_DTYPE_U64 ||
        rows->count != (uint64_t)info->examples || starts->count != info->partition.learners + 1)
        return fl_error_set(err, FL_E_INVALID, "\"%s\": rows are not as its manifest says",
                            info->name);
    parts->rows = rows->data;
    parts->starts = starts->data;
    return 0;
}

static int view_part(const struct parts *parts, const struct fl_data_info *info, size_t part,
                     struct fl_dataset *whole, struct fl_dataset **ret_view, struct fl_error *err)
{
    uint64_t begin = parts->starts[part], end = parts->starts[part + 1];

    if (begin > end || end > (uint64_t)info->examples)
        return fl_error_set(err, FL_E_INVALID, "\"%s\": part %zu lies outside", info->name, part);
    return fl_dataset_view(whole, parts->rows + begin, end - begin, ret_view, err);
}

static int open_part(const struct fl_data_store *store, struct fl_arena *arena, const char *tag,
                     size_t part, const struct fl_dataset_limits *limits,
                     struct fl_dataset **ret_dataset, struct fl_error *err)
{
    const char *name = fl_arena_printf(arena, "%s" FL_DATA_PARTS_SUFFIX, tag);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *whole = NULL;
    FL_CLEANUP(parts_finish) struct parts parts = {0};
    struct fl_data_info info = {0};
    int r = fl_data_store_get(store, arena, name, &info, err);

    if (r < 0)
        return r;
    if (part >= info.partition.learners)
        return fl_error_set(err, FL_E_NOT_FOUND, "\"%s\" has parts 0 to %zu, not %zu", tag,
                            info.partition.learners - 1, part);
    r = open_parts(store, arena, &info, &parts, err);
    if (r == 0)
        r = open_whole(store, arena, &info, limits, true, &whole, err);
    return r < 0 ? r : view_part(&parts, &info, part, whole, ret_dataset, err);
}

int fl_data_store_open(const struct fl_data_store *store, const char *tag,
                       const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *dot = strchr(tag, '.');
    struct fl_data_info info = {0};
    uint64_t part = 0;
    int r;

    if (dot && fl_str_to_uint64(dot + 1, FL_PARTITION_LEARNERS_MAX, &part))
        return open_part(store, arena, fl_arena_strndup(arena, tag, (size_t)(dot - tag)), part,
                         limits, ret_dataset, err);
    if (!fl_data_tag_is_valid(tag))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is no tag of a data set or a part", tag);
    r = fl_data_store_get(store, arena, tag, &info, err);
    return r < 0 ? r : open_whole(store, arena, &info, limits, true, ret_dataset, err);
}

int fl_data_store_find(const struct fl_data_store *store, struct fl_arena *arena, const char *tag,
                       struct fl_data_place *ret_place, struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    const char *dot = strchr(tag, '.'), *name = tag;
    uint64_t part = 0;
    int r = fl_data_store_open(store, tag, NULL, &dataset, err); /* so it can be read, too */

    if (r < 0)
        return r;
    if (dot) {
        (void)fl_str_to_uint64(dot + 1, FL_PARTITION_LEARNERS_MAX, &part);
        name = fl_arena_printf(arena, "%.*s" FL_DATA_PARTS_SUFFIX, (int)(dot - tag), tag);
    }
    *ret_place = (struct fl_data_place){.file = path_of(store, arena, name, DATA),
                                        .rows = dot ? path_of(store, arena, name, ROWS) : NULL,
                                        .part = (size_t)part,
                                        .examples = (int64_t)dataset->count};
    return 0;
}

static int write_rows(const struct fl_partition_rows *rows, const char *path, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    size_t count = rows->starts[rows->learners];
    const struct fl_tensor tensors[] = {
        {.name = "rows", .dtype = FL_DTYPE_U32, .rank = 1, .shape = {(int64_t)count}},
        {.name = "starts",
         .dtype = FL_DTYPE_U64,
         .rank = 1,
         .shape = {(int64_t)rows->learners + 1}},
    };
    int r = fl_model_create(tensors, FL_COUNT_OF(tensors), &model, err);

    if (r < 0)
        return r;
    memcpy(fl_model_find(model, "rows")->data, rows->items, count * sizeof(*rows->items));
    for (size_t k = 0; k <= rows->learners; k++)
        ((uint64_t *)fl_model_find(model, "starts")->data)[k] = rows->starts[k];
    return fl_safetensors_write(model, path, err);
}

/* One file under two names; a copy where the file system has no such thing. */
static int share_data(struct change *change, const char *tag, const struct fl_dataset *dataset,
                      struct fl_error *err)
{
    const char *to = fl_arena_printf(change->arena, "%s/" DATA, change->fresh);

    if (fl_file_link(path_of(change->store, change->arena, tag, DATA), to, NULL) == 0)
        return 0;
    return fl_dataset_write_safetensors(dataset, to, err);
}

static int make_parts(struct change *change, const char *tag, const struct fl_data_info *whole,
                      const struct fl_partition *partition, bool replace, struct fl_error *err)
{
    FL_CLEANUP(fl_partition_rows_finish) struct fl_partition_rows rows = {0};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    const char *path = fl_arena_printf(change->arena, "%s/" ROWS, change->fresh);
    struct fl_data_info made = *whole;
    struct fl_data_file files[2] = {whole->files[0]};
    int r = open_whole(change->store, change->arena, whole, NULL, true, &dataset, err);

    made.of = tag;
    made.partition = fl_partition_with_defaults(partition);
    made.files = files;
    made.file_count = FL_COUNT_OF(files);
    if (r == 0)
        r = fl_partition_divide(dataset, partition, &rows, err);
    if (r == 0)
        r = share_data(change, tag, dataset, err);
    if (r == 0)
        r = write_rows(&rows, path, err);
    if (r == 0)
        r = read_file_info(change->arena, path, &files[1], err);
    return r < 0 ? r : finish_change(change, &made, replace, err);
}

int fl_data_store_partition(const struct fl_data_store *store, const char *tag, const char *name,
                            const struct fl_partition *partition, bool replace,
                            struct fl_error *err)
{
    FL_CLEANUP(change_finish) struct change change = {fl_arena_create(), store, .lock = -1};
    struct fl_data_info whole = {0};
    int r;

    if (!fl_data_tag_is_valid(tag) || (name && !fl_data_tag_is_valid(name)))
        return fl_error_set(err, FL_E_BAD_REQUEST, "\"%s\" is no tag", name ? name : tag);
    change.name = fl_arena_printf(change.arena, "%s" FL_DATA_PARTS_SUFFIX, name ? name : tag);
    r = change_begin(&change, err);
    if (r < 0)
        return r;
    r = fl_data_store_get(store, change.arena, tag, &whole, err);
    return r < 0 ? r : make_parts(&change, tag, &whole, partition, replace, err);
}

/* --- verifying --- */

static int verify_files(const struct fl_data_store *store, struct fl_arena *arena,
                        const struct fl_data_info *info, struct fl_error *err)
{
    for (size_t i = 0; i < info->file_count; i++) {
        const char *path = path_of(store, arena, info->name, info->files[i].name);
        struct fl_data_file file = {0};
        int r = read_file_info(arena, path, &file, err);

        if (r < 0)
            return r;
        if (strcmp(file.digest, info->files[i].digest) != 0)
            return fl_error_set(err, FL_E_INVALID, "%s is %s, not %s", path, file.digest,
                                info->files[i].digest);
    }
    return 0;
}

/* Every row belongs to one part. */
static int verify_rows(const struct parts *parts, const struct fl_data_info *info,
                       struct fl_error *err)
{
    FL_CLEANUP(fl_freep) unsigned char *seen = fl_calloc((size_t)info->examples, 1);
    uint64_t at = 0;

    for (size_t k = 0; k < info->partition.learners; k++) {
        if (parts->starts[k] != at || parts->starts[k + 1] < at)
            return fl_error_set(err, FL_E_INVALID, "\"%s\": part %zu lies wrong", info->name, k);
        at = parts->starts[k + 1];
    }
    if (at != (uint64_t)info->examples)
        return fl_error_set(err, FL_E_INVALID, "\"%s\": some rows are nobody's", info->name);
    for (size_t i = 0; i < at; i++)
        if (parts->rows[i] >= at || seen[parts->rows[i]]++)
            return fl_error_set(err, FL_E_INVALID,
                                "\"%s\": row %" PRIu32 " stands twice or is none", info->name,
                                parts->rows[i]);
    return 0;
}

int fl_data_store_verify(const struct fl_data_store *store, const char *name, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;
    FL_CLEANUP(parts_finish) struct parts parts = {0};
    struct fl_data_info info = {0};
    int r = fl_data_store_get(store, arena, name, &info, err);

    if (r == 0)
        r = verify_files(store, arena, &info, err);
    if (r == 0)
        r = open_whole(store, arena, &info, NULL, false, &dataset, err);
    if (r == 0 && info.of)
        r = open_parts(store, arena, &info, &parts, err);
    if (r == 0 && info.of)
        r = verify_rows(&parts, &info, err);
    return r;
}
