#include "workloads/model/description.h"

#include "lib/str.h"

#include <inttypes.h>

#define FORMAT         "1"
#define NOTE_FORMAT    "flops.format"
#define NOTE_TRAINER   "flops.trainer"
#define NOTE_OPTIONS   "flops.options"
#define NOTE_INPUT     "flops.input"
#define NOTE_OUTPUT    "flops.output"
#define NOTE_BYTES_MAX ((size_t)2 << 20)
#define NAME_MAX_BYTES 255

size_t fl_description_width(const struct fl_description *description)
{
    size_t width = 1;

    for (unsigned i = 0; i < description->rank; i++)
        width *= (size_t)description->shape[i];
    return width;
}

/* Writing */

static void note_json(struct fl_model *model, const char *key, const json_t *value)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_json_to_bytes(value);

    fl_model_note(model, key, text->data);
}

static json_t *shape_of(const struct fl_description *description)
{
    json_t *shape = json_array();

    for (unsigned i = 0; i < description->rank; i++)
        (void)json_array_append_new(shape, json_integer(description->shape[i]));
    return shape;
}

/* NULL where they are not known, or too long to be read again. */
static json_t *names_of(const struct fl_description *description)
{
    FL_JSON names = json_array();
    size_t size = 0;

    for (int64_t i = 0; description->class_names && i < description->classes; i++) {
        const char *name = description->class_names[i];

        size += 2 * strlen(name) + 3;
        if (strlen(name) > NAME_MAX_BYTES || size > NOTE_BYTES_MAX / 2 ||
            json_array_append_new(names, json_string(name)) < 0)
            return NULL;
    }
    return description->class_names ? FL_TAKE(names) : NULL;
}

void fl_description_write(const struct fl_description *description, struct fl_model *model)
{
    FL_JSON input =
        json_pack("{s:s, s:s, s:o}", "name", description->input_name, "dtype",
                  fl_dtype_name(description->input_dtype), "shape", shape_of(description));
    FL_JSON output = json_pack("{s:s, s:I}", "name", description->output_name, "classes",
                               (json_int_t)description->classes);
    json_t *names = names_of(description);

    if (names)
        (void)json_object_set_new(output, "names", names);
    fl_model_note(model, NOTE_FORMAT, FORMAT);
    fl_model_note(model, NOTE_TRAINER, description->trainer);
    note_json(model, NOTE_OPTIONS, description->options);
    note_json(model, NOTE_INPUT, input);
    note_json(model, NOTE_OUTPUT, output);
}

/* Reading */

static int read_note(const struct fl_model *model, const char *key, struct fl_arena *arena,
                     json_t **ret_value, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = NOTE_BYTES_MAX, .max_depth = 4};
    const char *text = fl_model_get_note(model, key);
    json_t *value = NULL;

    if (!text)
        return fl_error_set(err, FL_E_INVALID, "%s is missing", key);
    if (fl_json_parse(text, strlen(text), &limits, NULL, NULL, &value, err) < 0)
        return fl_error_set(err, FL_E_INVALID, "%s: %s", key, err ? err->msg : "");
    value = fl_json_in_arena(arena, value);
    if (!json_is_object(value))
        return fl_error_set(err, FL_E_INVALID, "%s: must be an object, not %s", key,
                            fl_json_type_name(value));
    *ret_value = value;
    return 0;
}

static int read_name(const json_t *note, const char *key, const char **ret_name,
                     struct fl_error *err)
{
    const char *name = fl_json_str(note, "name");

    if (!name || !*name || strlen(name) > NAME_MAX_BYTES)
        return fl_error_set(err, FL_E_INVALID, "%s: name must be a text of 1 to %d bytes", key,
                            NAME_MAX_BYTES);
    *ret_name = name;
    return 0;
}

static int read_shape(const json_t *shape, struct fl_description *out, struct fl_error *err)
{
    size_t width = 1;

    if (!json_is_array(shape) || json_array_size(shape) > FL_DATASET_RANK_MAX)
        return fl_error_set(err, FL_E_INVALID, "%s: shape must be a list of at most %d sizes",
                            NOTE_INPUT, FL_DATASET_RANK_MAX);
    out->rank = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < out->rank; i++) {
        const json_t *size = json_array_get(shape, i);

        out->shape[i] = json_integer_value(size);
        if (!json_is_integer(size) || out->shape[i] < 1 ||
            (size_t)out->shape[i] > FL_DATASET_WIDTH_MAX / width)
            return fl_error_set(err, FL_E_INVALID,
                                "%s: shape[%u] must be a size, and all together at most %zu",
                                NOTE_INPUT, i, FL_DATASET_WIDTH_MAX);
        width *= (size_t)out->shape[i];
    }
    return 0;
}

static int read_input(const json_t *note, struct fl_description *out, struct fl_error *err)
{
    const char *dtype = fl_str_or(fl_json_str(note, "dtype"), "none");
    int r = read_name(note, NOTE_INPUT, &out->input_name, err);

    if (r < 0)
        return r;
    out->input_dtype = fl_dtype_from_name(dtype);
    if (out->input_dtype != FL_DTYPE_F32)
        return fl_error_set(err, FL_E_INVALID, "%s: dtype %.16s where only F32 is known",
                            NOTE_INPUT, dtype);
    return read_shape(json_object_get(note, "shape"), out, err);
}

static int read_class_names(const json_t *names, struct fl_arena *arena, struct fl_description *out,
                            struct fl_error *err)
{
    const char **texts;

    if (!names)
        return 0;
    if (json_array_size(names) != (size_t)out->classes)
        return fl_error_set(err, FL_E_INVALID, "%s: names must be a list of %" PRId64 " texts",
                            NOTE_OUTPUT, out->classes);
    texts = fl_new_array(arena, const char *, (size_t)out->classes);
    for (size_t i = 0; i < (size_t)out->classes; i++) {
        texts[i] = json_string_value(json_array_get(names, i));
        if (!texts[i] || strlen(texts[i]) > NAME_MAX_BYTES)
            return fl_error_set(err, FL_E_INVALID,
                                "%s: names[%zu] must be a text of at most %d "
                                "bytes",
                                NOTE_OUTPUT, i, NAME_MAX_BYTES);
    }
    out->class_names = texts;
    return 0;
}

static int read_output(const json_t *note, struct fl_arena *arena, struct fl_description *out,
                       struct fl_error *err)
{
    int r = read_name(note, NOTE_OUTPUT, &out->output_name, err);

    if (r < 0)
        return r;
    out->classes = fl_json_int(note, "classes", 0);
    if (out->classes < 2 || out->classes > FL_DATASET_CLASSES_MAX)
        return fl_error_set(err, FL_E_INVALID, "%s: classes must be from 2 to %d", NOTE_OUTPUT,
                            FL_DATASET_CLASSES_MAX);
    return read_class_names(json_object_get(note, "names"), arena, out, err);
}

static int read_notes(const struct fl_model *model, struct fl_arena *arena,
                      struct fl_description *out, struct fl_error *err)
{
    json_t *options, *input, *output;
    int r;

    out->trainer = fl_model_get_note(model, NOTE_TRAINER);
    if (!out->trainer)
        return fl_error_set(err, FL_E_INVALID, "%s is missing", NOTE_TRAINER);
    out->trainer = fl_arena_strdup(arena, out->trainer);
    r = read_note(model, NOTE_OPTIONS, arena, &options, err);
    if (r == 0)
        r = read_note(model, NOTE_INPUT, arena, &input, err);
    if (r == 0)
        r = read_note(model, NOTE_OUTPUT, arena, &output, err);
    if (r == 0)
        r = read_input(input, out, err);
    if (r == 0)
        r = read_output(output, arena, out, err);
    if (r == 0)
        out->options = options;
    return r;
}

int fl_description_read(const struct fl_model *model, struct fl_arena *arena,
                        struct fl_description *ret_description, struct fl_error *err)
{
    const char *format = fl_model_get_note(model, NOTE_FORMAT);
    struct fl_description description = {0};
    int r;

    if (!format)
        return fl_error_set(err, FL_E_NOT_FOUND,
                            "the model does not say what it is (%s is not among its notes): it was "
                            "made by a foreign trainer or an older version",
                            NOTE_FORMAT);
    if (strcmp(format, FORMAT) != 0)
        return fl_error_set(err, FL_E_INVALID, "%s %.16s is not known, only " FORMAT, NOTE_FORMAT,
                            format);
    r = read_notes(model, arena, &description, err);
    if (r < 0)
        return fl_error_wrap(err, "the model's description");
    *ret_description = description;
    return 0;
}
