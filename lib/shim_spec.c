/* The spec as bytes: one field after another, each a tag, a length, the data and a NUL. */
#include "lib/shim.h"

#include "lib/buf.h"
#include "lib/str.h"

#include <string.h>

#define MAGIC     "flops shim 1\n"
#define LIST_MAX  4096
#define FILES_MAX 64

enum tag {
    TAG_END = 1, /* so that a cut one is seen */
    TAG_FOLDER,
    TAG_WORKING_FOLDER,
    TAG_COMMAND,
    TAG_ENV,
    TAG_MARK,
    TAG_FILE, /* path; its mode and data follow */
    TAG_FILE_MODE,
    TAG_FILE_DATA,
    TAG_CGROUP,
    TAG_USER,
    TAG_PRIVILEGED,
    TAG_LOG_MAX_BYTES,
    TAG_LOG_FILES,
    TAG_OWNED,
    TAG_PID_FILE,
    TAG_ERROR_LOG,
    TAG_REMOVE,
    TAG_MOUNTS,
    TAG_INIT,
    TAG_PROGRAM,
    TAG_ROOT,
    TAG_LAYERS_FOLDER,
    TAG_LAYER,
    TAG_CHANGES,
    TAG_LENT,
    TAG_CHECK /* and the following FL_SHIM_CHECKS - 1 */
};

static void put(struct fl_buf *out, unsigned tag, const void *data, size_t len)
{
    uint32_t head[2] = {tag, (uint32_t)len};

    fl_buf_append(out, head, sizeof(head));
    if (len > 0)
        fl_buf_append(out, data, len);
    fl_buf_putc(out, '\0');
}

static void put_text(struct fl_buf *out, unsigned tag, const char *text)
{
    put(out, tag, text, strlen(text));
}

static void put_int(struct fl_buf *out, unsigned tag, int64_t value)
{
    put(out, tag, &value, sizeof(value));
}

static void put_list(struct fl_buf *out, unsigned tag, const struct fl_shim_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        put_text(out, tag, list->items[i]);
}

static void put_files(struct fl_buf *out, const struct fl_shim_spec *spec)
{
    for (size_t i = 0; i < spec->file_count; i++) {
        put_text(out, TAG_FILE, spec->files[i].path);
        put_int(out, TAG_FILE_MODE, (int64_t)spec->files[i].mode);
        put(out, TAG_FILE_DATA, spec->files[i].data, spec->files[i].len);
    }
}

static void put_if(struct fl_buf *out, unsigned tag, const char *text)
{
    if (text)
        put_text(out, tag, text);
}

static void put_container(struct fl_buf *out, const struct fl_shim_container *container)
{
    put_if(out, TAG_PID_FILE, container->pid_file);
    put_if(out, TAG_ERROR_LOG, container->error_log);
    put_list(out, TAG_REMOVE, &container->remove);
    put_int(out, TAG_MOUNTS, container->mounts);
    put_int(out, TAG_INIT, container->init);
    put_if(out, TAG_PROGRAM, container->program);
    put_if(out, TAG_ROOT, container->root);
    put_if(out, TAG_LAYERS_FOLDER, container->layers_folder);
    put_list(out, TAG_LAYER, &container->layers);
    put_if(out, TAG_CHANGES, container->changes);
    put_list(out, TAG_LENT, &container->lent);
}

struct fl_bytes *fl_shim_spec_encode(const struct fl_shim_spec *spec)
{
    struct fl_bytes *bytes;
    struct fl_buf out;

    fl_buf_init(&out, 0);
    fl_buf_puts(&out, MAGIC);
    put_text(&out, TAG_FOLDER, spec->folder);
    put_text(&out, TAG_WORKING_FOLDER, spec->working_folder);
    put_list(&out, TAG_COMMAND, &spec->command);
    put_list(&out, TAG_ENV, &spec->env);
    if (spec->mark)
        put_text(&out, TAG_MARK, spec->mark);
    for (unsigned i = 0; i < FL_SHIM_CHECKS; i++)
        put_list(&out, TAG_CHECK + i, &spec->checks[i]);
    put_list(&out, TAG_OWNED, &spec->owned);
    put_files(&out, spec);
    for (size_t i = 0; i < spec->cgroup.count; i++)
        put_text(&out, TAG_CGROUP, spec->cgroup.folders[i]);
    put_int(&out, TAG_USER, spec->user);
    put_int(&out, TAG_PRIVILEGED, spec->privileged);
    put_int(&out, TAG_LOG_MAX_BYTES, spec->log_max_bytes);
    put_int(&out, TAG_LOG_FILES, spec->log_files);
    if (spec->container.pid_file)
        put_container(&out, &spec->container);
    put(&out, TAG_END, NULL, 0);
    bytes = fl_buf_to_bytes(&out);
    if (out.data) /* it held secrets */
        explicit_bzero(out.data, out.len);
    fl_buf_finish(&out);
    return bytes;
}

struct field {
    uint32_t tag, len;
    const char *data; /* with a NUL behind it */
};

static bool next_field(const char **at, const char *end, struct field *ret_field)
{
    uint32_t head[2];

    if ((size_t)(end - *at) < sizeof(head))
        return false;
    memcpy(head, *at, sizeof(head));
    if ((size_t)(end - *at) - sizeof(head) < (size_t)head[1] + 1)
        return false;
    *ret_field = (struct field){head[0], head[1], *at + sizeof(head)};
    *at += sizeof(head) + head[1] + 1;
    return ret_field->data[head[1]] == '\0';
}

static bool add(struct fl_arena *arena, struct fl_shim_list *list, const char *text)
{
    if (list->count == LIST_MAX)
        return false;
    if ((list->count & (list->count + 1)) == 0) { /* full: twice the room, with one for a NULL */
        const char **items = fl_new_array(arena, const char *, 2 * (list->count + 1));

        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof(*items));
        list->items = items;
    }
    list->items[list->count++] = text;
    return true;
}

static bool take_int(const struct field *field, int64_t min, int64_t max, int64_t *ret_value)
{
    int64_t value;

    if (field->len != sizeof(value))
        return false;
    memcpy(&value, field->data, sizeof(value));
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

static bool take_text(const struct field *field, const char **ret_text)
{
    *ret_text = field->data;
    return memchr(field->data, '\0', field->len) == NULL;
}

static bool take_file(struct fl_shim_spec *spec, const struct field *field)
{
    struct fl_shim_file *last;
    int64_t mode;

    if (field->tag == TAG_FILE) {
        if (spec->file_count == FILES_MAX)
            return false;
        return take_text(field, &spec->files[spec->file_count++].path);
    }
    if (spec->file_count == 0)
        return false;
    last = &spec->files[spec->file_count - 1];
    if (field->tag == TAG_FILE_DATA) {
        last->data = field->data;
        last->len = field->len;
        return true;
    }
    if (!take_int(field, 0, 07777, &mode))
        return false;
    last->mode = (mode_t)mode;
    return true;
}

static bool take_cgroup(struct fl_shim_spec *spec, const struct field *field)
{
    return spec->cgroup.count < FL_CGROUP_FOLDERS_MAX &&
           take_text(field, &spec->cgroup.folders[spec->cgroup.count++]);
}

static bool take_listed(struct fl_arena *arena, struct fl_shim_list *list,
                        const struct field *field)
{
    const char *text;

    return take_text(field, &text) && add(arena, list, text);
}

static bool take_container(struct fl_arena *arena, struct fl_shim_container *container,
                           const struct field *field)
{
    int64_t flag;

    switch (field->tag) {
    case TAG_PID_FILE:
        return take_text(field, &container->pid_file);
    case TAG_ERROR_LOG:
        return take_text(field, &container->error_log);
    case TAG_REMOVE:
        return take_listed(arena, &container->remove, field);
    case TAG_MOUNTS:
    case TAG_INIT:
        if (!take_int(field, 0, 1, &flag))
            return false;
        *(field->tag == TAG_INIT ? &container->init : &container->mounts) = flag;
        return true;
    case TAG_PROGRAM:
        return take_text(field, &container->program);
    case TAG_ROOT:
        return take_text(field, &container->root);
    case TAG_LAYERS_FOLDER:
        return take_text(field, &container->layers_folder);
    case TAG_LAYER:
        return take_listed(arena, &container->layers, field);
    case TAG_CHANGES:
        return take_text(field, &container->changes);
    case TAG_LENT:
        return take_listed(arena, &container->lent, field);
    default:
        return false;
    }
}

static bool take_field(struct fl_arena *arena, struct fl_shim_spec *spec, const struct field *field)
{
    int64_t flag;

    switch (field->tag) {
    case TAG_FOLDER:
        return take_text(field, &spec->folder);
    case TAG_WORKING_FOLDER:
        return take_text(field, &spec->working_folder);
    case TAG_COMMAND:
        return take_listed(arena, &spec->command, field);
    case TAG_ENV:
        return take_listed(arena, &spec->env, field);
    case TAG_OWNED:
        return take_listed(arena, &spec->owned, field);
    case TAG_MARK:
        return take_text(field, &spec->mark);
    case TAG_FILE:
    case TAG_FILE_MODE:
    case TAG_FILE_DATA:
        return take_file(spec, field);
    case TAG_CGROUP:
        return take_cgroup(spec, field);
    case TAG_USER:
        return take_int(field, -1, INT32_MAX, &spec->user);
    case TAG_PRIVILEGED:
        if (!take_int(field, 0, 1, &flag))
            return false;
        spec->privileged = flag;
        return true;
    case TAG_LOG_MAX_BYTES:
        return take_int(field, 0, INT64_MAX / 2, &spec->log_max_bytes);
    case TAG_LOG_FILES:
        return take_int(field, 0, 1000, &spec->log_files);
    default:
        if (field->tag >= TAG_CHECK && field->tag < TAG_CHECK + FL_SHIM_CHECKS)
            return take_listed(arena, &spec->checks[field->tag - TAG_CHECK], field);
        return take_container(arena, &spec->container, field);
    }
}

int fl_shim_spec_decode(struct fl_arena *arena, const void *data, size_t len,
                        struct fl_shim_spec *ret_spec, struct fl_error *err)
{
    const char *at = data, *end = at + len;
    struct fl_shim_spec spec = {.user = -1};
    struct field field = {0};

    if (len < strlen(MAGIC) || memcmp(at, MAGIC, strlen(MAGIC)) != 0)
        return fl_error_set(err, FL_E_INVALID, "this is no spec of a shim");
    spec.files = fl_new_array(arena, struct fl_shim_file, FILES_MAX);
    at += strlen(MAGIC);
    while (next_field(&at, end, &field) && field.tag != TAG_END)
        if (!take_field(arena, &spec, &field))
            return fl_error_set(err, FL_E_INVALID, "field %u of the shim's spec is damaged",
                                (unsigned)field.tag);
    if (field.tag != TAG_END || at != end)
        return fl_error_set(err, FL_E_INVALID, "the shim's spec is cut off");
    if (!spec.folder || !spec.working_folder || spec.command.count == 0)
        return fl_error_set(err, FL_E_INVALID, "the shim's spec lacks what to run");
    if (spec.container.mounts &&
        (!spec.container.root || !spec.container.layers_folder || spec.container.layers.count == 0))
        return fl_error_set(err, FL_E_INVALID, "the shim's spec lacks what to mount");
    *ret_spec = spec;
    return 0;
}
