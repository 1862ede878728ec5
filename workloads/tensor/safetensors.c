#include "workloads/tensor/safetensors.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/str.h"
#include "workloads/tensor/tensor_internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are read in place, little-endian"
#endif

#define MAX_BYTES   ((size_t)8 << 30)
#define MAX_TENSORS 65536
#define NOTES_MAX   1024
#define PREFIX      sizeof(uint64_t)

/* A file being read: its header's tensors, with their places in the data. */
struct placed {
    struct fl_tensor tensor;
    size_t begin, end;
};

struct reading {
    struct fl_arena *arena;
    const unsigned char *data; /* behind the header */
    size_t size;
    json_t *header;
    struct placed *placed;
    size_t count;
    bool doubled;
    char doubled_path[256];
};

static void reading_finish(struct reading *reading)
{
    json_decref(reading->header);
    fl_arena_destroy(reading->arena);
}

static void on_duplicate(void *user, const char *path)
{
    struct reading *reading = user;

    reading->doubled = true;
    (void)snprintf(reading->doubled_path, sizeof(reading->doubled_path), "%s", path);
}

static int read_header(struct reading *reading, const unsigned char *file, size_t len,
                       struct fl_error *err)
{
    struct fl_json_limits limits = {.max_bytes = FL_SAFETENSORS_HEADER_MAX, .max_depth = 4};
    uint64_t size;
    int r;

    if (len < PREFIX)
        return fl_error_set(err, FL_E_INVALID, "%zu bytes are too few for safetensors", len);
    memcpy(&size, file, PREFIX);
    size = le64toh(size);
    if (size > FL_SAFETENSORS_HEADER_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "a header of %" PRIu64 " bytes", size);
    if (size > len - PREFIX)
        return fl_error_set(err, FL_E_INVALID, "the header is cut off");
    r = fl_json_parse((const char *)file + PREFIX, size, &limits, on_duplicate, reading,
                      &reading->header, err);
    if (r < 0)
        return fl_error_set(err, FL_E_INVALID, "header: %s", err ? err->msg : "");
    if (!json_is_object(reading->header))
        return fl_error_set(err, FL_E_INVALID, "the header is no object");
    if (reading->doubled)
        return fl_error_set(err, FL_E_INVALID, "\"%s\" stands twice in the header",
                            reading->doubled_path);
    reading->data = file + PREFIX + size;
    reading->size = len - PREFIX - size;
    return 0;
}

static int read_shape(struct fl_tensor *tensor, const json_t *shape, struct fl_error *err)
{
    size_t rank = json_array_size(shape);

    if (!json_is_array(shape) || rank > FL_TENSOR_RANK_MAX)
        return fl_error_set(err, FL_E_INVALID,
                            "tensor \"%s\": shape must be a list of at most %d sizes", tensor->name,
                            FL_TENSOR_RANK_MAX);
    tensor->rank = (unsigned)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *size = json_array_get(shape, i);

        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\": bad size in its shape",
                                tensor->name);
        tensor->shape[i] = json_integer_value(size);
    }
    return fl_tensor_measure(tensor, err);
}

static int read_offsets(const struct reading *reading, struct placed *placed, const json_t *offsets,
                        struct fl_error *err)
{
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);

    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin) ||
        (uint64_t)json_integer_value(end) > reading->size)
        return fl_error_set(err, FL_E_INVALID, "tensor \"%s\": bad data_offsets",
                            placed->tensor.name);
    placed->begin = (size_t)json_integer_value(begin);
    placed->end = (size_t)json_integer_value(end);
    if (placed->end - placed->begin != placed->tensor.size)
        return fl_error_set(err, FL_E_INVALID,
                            "tensor \"%s\" has %zu bytes where type and shape need %zu",
                            placed->tensor.name, placed->end - placed->begin, placed->tensor.size);
    return 0;
}

static int read_tensor(struct reading *reading, const char *name, const json_t *entry,
                       struct fl_error *err)
{
    struct placed *placed = &reading->placed[reading->count++];
    const char *type = fl_json_str(entry, "dtype");
    int r;

    placed->tensor.name = name;
    if (json_object_size(entry) != 3 || !type)
        return fl_error_set(err, FL_E_INVALID,
                            "tensor \"%s\": must have dtype, shape and data_offsets", name);
    placed->tensor.dtype = fl_dtype_from_name(type);
    if (placed->tensor.dtype == FL_DTYPE_NONE)
        return fl_error_set(err, FL_E_INVALID, "tensor \"%s\": unknown dtype", name);
    r = read_shape(&placed->tensor, json_object_get(entry, "shape"), err);
    if (r < 0)
        return r;
    return read_offsets(reading, placed, json_object_get(entry, "data_offsets"), err);
}

static int read_tensors(struct reading *reading, size_t max, struct fl_error *err)
{
    const char *name;
    json_t *entry;

    if (json_object_size(reading->header) > max + 1)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %zu tensors", max);
    reading->placed =
        fl_new_array(reading->arena, struct placed, json_object_size(reading->header) + 1);
    json_object_foreach(reading->header, name, entry) {
        int r;

        if (strcmp(name, "__metadata__") == 0)
            continue;
        r = read_tensor(reading, name, entry, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Every byte belongs to exactly one tensor: nothing hides in a gap, nothing is read twice. */
static int check_cover(struct reading *reading, struct fl_error *err)
{
    size_t at = 0;

    qsort(reading->placed, reading->count, sizeof(*reading->placed), compare_places);
    for (size_t i = 0; i < reading->count; i++) {
        if (reading->placed[i].begin != at)
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" begins at %zu instead of %zu",
                                reading->placed[i].tensor.name, reading->placed[i].begin, at);
        at = reading->placed[i].end;
    }
    if (at != reading->size)
        return fl_error_set(err, FL_E_INVALID, "%zu bytes belong to no tensor", reading->size - at);
    return 0;
}

static int read_notes(const struct reading *reading, struct fl_model *model, struct fl_error *err)
{
    const json_t *notes = json_object_get(reading->header, "__metadata__");
    const char *key;
    json_t *value;

    if (!notes)
        return 0;
    if (!json_is_object(notes) || json_object_size(notes) > NOTES_MAX)
        return fl_error_set(err, FL_E_INVALID, "__metadata__ must be an object of at most %d texts",
                            NOTES_MAX);
    json_object_foreach((json_t *)notes, key, value) {
        if (!json_is_string(value))
            return fl_error_set(err, FL_E_INVALID, "__metadata__: \"%s\" is no text", key);
        fl_model_note(model, key, json_string_value(value));
    }
    return 0;
}

static int read_form(struct reading *reading, const unsigned char *file, size_t len,
                     const struct fl_model_limits *limits, struct fl_model **ret_model,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    size_t max_tensors = limits && limits->max_tensors ? limits->max_tensors : MAX_TENSORS;
    size_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : MAX_BYTES;
    struct fl_tensor *tensors;
    int r;

    r = read_header(reading, file, len, err);
    if (r == 0 && reading->size > max_bytes)
        r = fl_error_set(err, FL_E_TOO_LARGE, "%zu bytes of tensors, more than %zu", reading->size,
                         max_bytes);
    if (r == 0)
        r = read_tensors(reading, max_tensors, err);
    if (r == 0)
        r = check_cover(reading, err);
    if (r < 0)
        return r;
    tensors = fl_new_array(reading->arena, struct fl_tensor, reading->count + 1);
    for (size_t i = 0; i < reading->count; i++)
        tensors[i] = reading->placed[i].tensor;
    r = fl_model_prepare(tensors, reading->count, &model, err);
    if (r == 0)
        r = read_notes(reading, model, err);
    if (r < 0)
        return r;
    *ret_model = FL_TAKE(model);
    return 0;
}

/* Whether the file's data is in our order, so that it can be used as it lies. */
static bool is_canonical(const struct reading *reading, const struct fl_model *model)
{
    for (size_t i = 0; i < model->count; i++)
        if (strcmp(model->tensors[i].name, reading->placed[i].tensor.name) != 0)
            return false;
    return true;
}

static void copy_data(const struct reading *reading, struct fl_model *model)
{
    if (is_canonical(reading, model)) {
        if (model->size > 0)
            memcpy(model->data, reading->data, model->size);
        return;
    }
    for (size_t i = 0; i < reading->count; i++) {
        const struct placed *placed = &reading->placed[i];
        struct fl_tensor *tensor = bsearch(&placed->tensor, model->tensors, model->count,
                                           sizeof(*model->tensors), fl_tensor_order);

        if (placed->tensor.size > 0)
            memcpy(tensor->data, reading->data + placed->begin, placed->tensor.size);
    }
}

bool fl_safetensors_seems(const void *data, size_t len)
{
    const unsigned char *bytes = data;

    return len > 9 && bytes[6] == 0 && bytes[7] == 0 && bytes[8] == '{';
}

int fl_safetensors_read(const void *data, size_t len, const struct fl_model_limits *limits,
                        struct fl_model **ret_model, struct fl_error *err)
{
    FL_CLEANUP(reading_finish) struct reading reading = {.arena = fl_arena_create()};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = read_form(&reading, data, len, limits, &model, err);

    if (r == 0)
        r = fl_model_allocate(model, err);
    if (r < 0)
        return r;
    copy_data(&reading, model);
    *ret_model = FL_TAKE(model);
    return 0;
}

/* The map becomes the model's block where the file is as we would write it, else it is copied. */
static int from_map(void *map, size_t len, const struct fl_model_limits *limits,
                    struct fl_model **ret_model, struct fl_error *err)
{
    FL_CLEANUP(reading_finish) struct reading reading = {.arena = fl_arena_create()};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_model_memory *memory;
    int r = read_form(&reading, map, len, limits, &model, err);

    if (r < 0) {
        (void)munmap(map, len);
        return r;
    }
    memory = model->memory;
    memory->map = map;
    memory->map_size = len;
    if (is_canonical(&reading, model) && (uintptr_t)reading.data % 8 == 0) {
        fl_model_place(model, (unsigned char *)map + (reading.data - (unsigned char *)map));
    } else {
        r = fl_model_allocate(model, err);
        if (r < 0)
            return r;
        copy_data(&reading, model);
    }
    *ret_model = FL_TAKE(model);
    return 0;
}

int fl_safetensors_open_fd(int fd, const struct fl_model_limits *limits,
                           struct fl_model **ret_model, struct fl_error *err)
{
    struct stat info;
    void *map;

    if (fstat(fd, &info) != 0)
        return fl_error_errno(err, errno, "stat");
    if (!S_ISREG(info.st_mode) || info.st_size <= 0)
        return fl_error_set(err, FL_E_INVALID, "no file, or an empty one");
    map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return fl_error_errno(err, errno, "map");
    return from_map(map, (size_t)info.st_size, limits, ret_model, err);
}

int fl_safetensors_open(const char *path, const struct fl_model_limits *limits,
                        struct fl_model **ret_model, struct fl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

    if (fd < 0)
        return fl_error_errno(err, errno, "%s", path);
    r = fl_safetensors_open_fd(fd, limits, ret_model, err);
    (void)close(fd);
    return r < 0 ? fl_error_wrap(err, "%s", path) : 0;
}

/* Writing */

static void write_string(struct fl_buf *buf, const char *text)
{
    fl_buf_json_string(buf, text, strlen(text));
}

static void write_notes(struct fl_buf *buf, const struct fl_model *model)
{
    if (model->note_count == 0)
        return;
    fl_buf_puts(buf, "\"__metadata__\":{");
    for (size_t i = 0; i < model->note_count; i++) {
        if (i > 0)
            fl_buf_putc(buf, ',');
        write_string(buf, model->notes[i].key);
        fl_buf_putc(buf, ':');
        write_string(buf, model->notes[i].value);
    }
    fl_buf_putc(buf, '}');
    if (model->count > 0)
        fl_buf_putc(buf, ',');
}

static void write_tensor(struct fl_buf *buf, const struct fl_tensor *tensor, size_t begin)
{
    write_string(buf, tensor->name);
    fl_buf_printf(buf, ":{\"dtype\":\"%s\",\"shape\":[", fl_dtype_name(tensor->dtype));
    for (unsigned i = 0; i < tensor->rank; i++)
        fl_buf_printf(buf, i > 0 ? ",%" PRId64 : "%" PRId64, tensor->shape[i]);
    fl_buf_printf(buf, "],\"data_offsets\":[%zu,%zu]}", begin, begin + tensor->size);
}

struct fl_bytes *fl_safetensors_header(const struct fl_model *model, size_t *ret_file_size)
{
    struct fl_bytes *bytes;
    struct fl_buf buf;
    uint64_t size = 0;
    size_t at = 0;

    fl_buf_init(&buf, 0);
    fl_buf_append(&buf, &size, PREFIX);
    fl_buf_putc(&buf, '{');
    write_notes(&buf, model);
    for (size_t i = 0; i < model->count; i++) {
        if (i > 0)
            fl_buf_putc(&buf, ',');
        write_tensor(&buf, &model->tensors[i], at);
        at += model->tensors[i].size;
    }
    fl_buf_putc(&buf, '}');
    while (buf.len % 8 != 0)
        fl_buf_putc(&buf, ' ');
    size = htole64(buf.len - PREFIX);
    memcpy(buf.data, &size, PREFIX);
    *ret_file_size = buf.len + model->size;
    bytes = fl_buf_to_bytes(&buf);
    fl_buf_finish(&buf);
    return bytes;
}

int fl_safetensors_write(const struct fl_model *model, const char *path, struct fl_error *err)
{
    size_t size;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = fl_safetensors_header(model, &size);
    const struct fl_file_part parts[] = {{header->data, header->len}, {model->data, model->size}};

    return fl_file_write_parts(path, parts, FL_COUNT_OF(parts), 0600, err);
}

/* A model's name, made while it is written. */
struct naming {
    struct fl_chore chore;
    const struct fl_model *model;
    char name[FL_DIGEST_SIZE];
};

static void make_name(struct fl_chore *chore)
{
    struct naming *naming = (struct naming *)chore;

    fl_model_digest(naming->model, naming->name);
}

static int add_model(struct fl_blob_writer *writer, const struct fl_model *model, int64_t *ret_size,
                     struct fl_error *err)
{
    size_t size;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = fl_safetensors_header(model, &size);
    int r = fl_blob_writer_add(writer, header->data, header->len, err);

    *ret_size = (int64_t)size;
    return r < 0 ? r : fl_blob_writer_add(writer, model->data, model->size, err);
}

int fl_safetensors_put(const struct fl_model *model, struct fl_blobs *blobs,
                       enum fl_digest_kind kind, struct fl_crew *crew, char digest[FL_DIGEST_SIZE],
                       int64_t *ret_size, struct fl_error *err)
{
    FL_CLEANUP(fl_blob_writer_closep) struct fl_blob_writer *writer = NULL;
    struct naming naming = {.chore = {.run = make_name}, .model = model};
    const bool apart = crew && kind == FL_DIGEST_SHA256;
    int r = fl_blob_writer_open(blobs, &writer, err);

    if (r < 0)
        return r;
    fl_blob_writer_hash_by(writer, apart ? FL_DIGEST_XXH128 : kind);
    if (apart)
        fl_crew_submit(crew, &naming.chore);
    r = add_model(writer, model, ret_size, err);
    if (apart)
        fl_crew_wait(crew, &naming.chore);
    if (r < 0)
        return r;
    if (!apart)
        return fl_blob_writer_finish(writer, NULL, false, digest, err);
    memcpy(digest, naming.name, FL_DIGEST_SIZE);
    return fl_blob_writer_finish_as(writer, NULL, digest, false, err);
}

void fl_model_digest_by(const struct fl_model *model, enum fl_digest_kind kind,
                        char out[FL_DIGEST_SIZE])
{
    FL_CLEANUP(fl_hash_destroyp) struct fl_hash *hash = fl_hash_create(kind);
    size_t size;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = fl_safetensors_header(model, &size);

    fl_hash_add(hash, header->data, header->len);
    fl_hash_add(hash, model->data, model->size);
    fl_hash_end(hash, out);
}

void fl_model_digest(const struct fl_model *model, char out[FL_DIGEST_SIZE])
{
    fl_model_digest_by(model, FL_DIGEST_SHA256, out);
}
