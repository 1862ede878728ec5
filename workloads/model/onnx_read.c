#include "workloads/model/onnx_internal.h"

#include "lib/str.h"
#include "workloads/trainer/native.h"

#include <inttypes.h>
#include <string.h>

#define NOTES_MAX  1024
#define NAME_BYTES 255
#define OP_SHOWN   32
#define DATA_MAX   FL_ONNX_BYTES_MAX

/* What a file holds, where it lies in it. */
struct reading {
    struct fl_arena *arena;
    struct fl_proto_span graph;
    struct fl_proto_span nodes[ONNX_NODES_MAX];
    size_t node_count;
    struct fl_tensor tensors[ONNX_TENSORS_MAX];
    size_t tensor_count;
    bool has_axes;
    struct fl_model_note *notes;
    size_t note_count;
    int64_t opset;
};

static void reading_finish(struct reading *reading)
{
    fl_arena_destroy(reading->arena);
}

static int text_of(struct reading *reading, struct fl_proto_span span, size_t max,
                   const char **ret_text, struct fl_error *err)
{
    size_t len = fl_proto_len(span);

    if (len > max || memchr(span.at, 0, len) || !fl_utf8_valid((const char *)span.at, len))
        return fl_error_set(err, FL_E_INVALID, "a text in it is too long, or no text");
    *ret_text = fl_arena_strndup(reading->arena, (const char *)span.at, len);
    return 0;
}

/* Properties */

static bool has_note(const struct reading *reading, const char *key)
{
    for (size_t i = 0; i < reading->note_count; i++)
        if (strcmp(reading->notes[i].key, key) == 0)
            return true;
    return false;
}

static int add_note(struct reading *reading, const char *key, const char *value,
                    struct fl_error *err)
{
    if (!key || !value)
        return fl_error_set(err, FL_E_INVALID, "a property without key or value");
    if (fl_str_has_prefix(key, FL_ONNX_LINEAGE))
        return 0; /* of the export, not of the model */
    if (has_note(reading, key))
        return fl_error_set(err, FL_E_INVALID, "property %.64s stands in it twice", key);
    if (reading->note_count == NOTES_MAX)
        return fl_error_set(err, FL_E_INVALID, "more than %d properties", NOTES_MAX);
    reading->notes[reading->note_count++] = (struct fl_model_note){key, value};
    return 0;
}

static int read_prop(struct reading *reading, struct fl_proto_span span, struct fl_error *err)
{
    const char *key = NULL, *value = NULL;
    struct fl_proto_field field;
    int r;

    while ((r = fl_proto_next(&span, &field, err)) > 0) {
        if (field.wire != FL_PROTO_BYTES || field.number < PROP_KEY || field.number > PROP_VALUE)
            return fl_error_set(err, FL_E_INVALID, "a property has what is not known");
        r = text_of(reading, field.bytes,
                    field.number == PROP_KEY ? NAME_BYTES : FL_SAFETENSORS_HEADER_MAX,
                    field.number == PROP_KEY ? &key : &value, err);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : add_note(reading, key, value, err);
}

static int read_opset(struct reading *reading, struct fl_proto_span span, struct fl_error *err)
{
    struct fl_proto_field field;
    int r;

    while ((r = fl_proto_next(&span, &field, err)) > 0) {
        if (field.number == OPSET_VERSION && field.wire == FL_PROTO_VARINT)
            reading->opset = (int64_t)field.value;
        else if (field.number != OPSET_DOMAIN || field.wire != FL_PROTO_BYTES ||
                 fl_proto_len(field.bytes) > 0)
            return fl_error_set(err, FL_E_INVALID, "operators that are not ONNX's own");
    }
    return r;
}

static int read_file(struct reading *reading, struct fl_proto_span span, struct fl_error *err)
{
    struct fl_proto_field field;
    int r;

    while ((r = fl_proto_next(&span, &field, err)) > 0) {
        if (field.number == MODEL_PROP && field.wire == FL_PROTO_BYTES)
            r = read_prop(reading, field.bytes, err);
        else if (field.number == MODEL_OPSET && field.wire == FL_PROTO_BYTES)
            r = read_opset(reading, field.bytes, err);
        else if (field.number == MODEL_GRAPH && field.wire == FL_PROTO_BYTES && !reading->graph.at)
            reading->graph = field.bytes;
        else if (field.number != MODEL_IR && field.number != MODEL_PRODUCER)
            r = fl_error_set(err, FL_E_INVALID, "it has field %" PRIu64 ", which is never written",
                             field.number);
        if (r < 0)
            return r;
    }
    if (r == 0 && (!reading->graph.at || reading->opset != FL_ONNX_OPSET))
        return fl_error_set(err, FL_E_INVALID, "no graph of opset %d is in it", FL_ONNX_OPSET);
    return r;
}

/* The graph */

static int check_op(struct fl_proto_span node, struct fl_error *err)
{
    struct fl_proto_field field;
    int r;

    while ((r = fl_proto_next(&node, &field, err)) > 0) {
        size_t len;

        if (field.number != NODE_OP || field.wire != FL_PROTO_BYTES || fl_onnx_knows(field.bytes))
            continue;
        len = fl_proto_len(field.bytes);
        if (!fl_utf8_valid((const char *)field.bytes.at, len))
            return fl_error_set(err, FL_E_INVALID, "an operator's name is no text");
        return fl_error_set(err, FL_E_INVALID,
                            "operator %.*s is none that flops exports: only its own exports are "
                            "read",
                            (int)fl_utf8_cut((const char *)field.bytes.at, len, OP_SHOWN),
                            (const char *)field.bytes.at);
    }
    return r;
}

static int add_node(struct reading *reading, struct fl_proto_span span, struct fl_error *err)
{
    int r = check_op(span, err);

    if (r == 0 && reading->node_count == ONNX_NODES_MAX)
        r = fl_error_set(err, FL_E_INVALID, "more than %d nodes", ONNX_NODES_MAX);
    if (r == 0)
        reading->nodes[reading->node_count++] = span;
    return r;
}

static int take_tensor_field(struct reading *reading, const struct fl_proto_field *field,
                             struct fl_tensor *tensor, struct fl_error *err)
{
    if (field->number == TENSOR_DIM && field->wire == FL_PROTO_VARINT &&
        tensor->rank < FL_TENSOR_RANK_MAX) {
        tensor->shape[tensor->rank++] = (int64_t)field->value;
        return 0;
    }
    if (field->number == TENSOR_TYPE && field->wire == FL_PROTO_VARINT) {
        tensor->dtype = field->value == ELEMENT_FLOAT   ? FL_DTYPE_F32
                        : field->value == ELEMENT_INT64 ? FL_DTYPE_I64
                                                        : FL_DTYPE_NONE;
        return 0;
    }
    if (field->number == TENSOR_NAME && field->wire == FL_PROTO_BYTES)
        return text_of(reading, field->bytes, NAME_BYTES, &tensor->name, err);
    if (field->number == TENSOR_RAW && field->wire == FL_PROTO_BYTES) {
        tensor->data = (void *)field->bytes.at;
        tensor->size = fl_proto_len(field->bytes);
        return 0;
    }
    return fl_error_set(err, FL_E_INVALID, "a tensor has what is never written");
}

/* The tensor that only tells where the channels go. */
static int take_axes(struct reading *reading, const struct fl_tensor *tensor, struct fl_error *err)
{
    static const int64_t one = 1;

    if (strcmp(tensor->name, ONNX_AXES) != 0 || tensor->rank != 1 || tensor->shape[0] != 1 ||
        tensor->size != sizeof(one) || memcmp(tensor->data, &one, sizeof(one)) != 0)
        return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" is no weight", tensor->name);
    reading->has_axes = true;
    return 0;
}

static int add_tensor(struct reading *reading, struct fl_proto_span span, struct fl_error *err)
{
    struct fl_tensor tensor = {0};
    struct fl_proto_field field;
    int r;

    while ((r = fl_proto_next(&span, &field, err)) > 0) {
        r = take_tensor_field(reading, &field, &tensor, err);
        if (r < 0)
            return r;
    }
    if (r < 0)
        return r;
    if (!tensor.name || !tensor.data || tensor.dtype == FL_DTYPE_NONE)
        return fl_error_set(err, FL_E_INVALID, "a tensor without name, type or data");
    if (tensor.dtype == FL_DTYPE_I64)
        return take_axes(reading, &tensor, err);
    if (reading->tensor_count == ONNX_TENSORS_MAX)
        return fl_error_set(err, FL_E_INVALID, "more than %d tensors", ONNX_TENSORS_MAX);
    reading->tensors[reading->tensor_count++] = tensor;
    return 0;
}

static int read_graph(struct reading *reading, struct fl_error *err)
{
    struct fl_proto_span span = reading->graph;
    struct fl_proto_field field;
    int r;

    while ((r = fl_proto_next(&span, &field, err)) > 0) {
        if (field.wire != FL_PROTO_BYTES)
            return fl_error_set(err, FL_E_INVALID, "the graph has what is never written");
        if (field.number == GRAPH_NODE)
            r = add_node(reading, field.bytes, err);
        else if (field.number == GRAPH_TENSOR)
            r = add_tensor(reading, field.bytes, err);
        else if (field.number != GRAPH_NAME && field.number != GRAPH_INPUT &&
                 field.number != GRAPH_OUTPUT)
            r = fl_error_set(err, FL_E_INVALID, "the graph has what is never written");
        if (r < 0)
            return r;
    }
    return r;
}

/* The model */

static int copy_data(const struct reading *reading, struct fl_model *model, struct fl_error *err)
{
    for (size_t i = 0; i < reading->tensor_count; i++) {
        const struct fl_tensor *from = &reading->tensors[i];
        const struct fl_tensor *to = fl_model_find(model, from->name);

        if (to->size != from->size)
            return fl_error_set(err, FL_E_INVALID,
                                "tensor \"%s\" has %zu bytes where its shape needs %zu", from->name,
                                from->size, to->size);
        if (to->size > 0)
            memcpy(to->data, from->data, to->size);
    }
    return 0;
}

static int check_room(const struct reading *reading, const struct fl_model_limits *limits,
                      struct fl_error *err)
{
    size_t max = limits && limits->max_bytes ? limits->max_bytes : DATA_MAX, size = 0;

    if (limits && limits->max_tensors && reading->tensor_count > limits->max_tensors)
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %zu tensors", limits->max_tensors);
    for (size_t i = 0; i < reading->tensor_count; i++) {
        double count = 1;

        for (unsigned k = 0; k < reading->tensors[i].rank; k++)
            count *= (double)reading->tensors[i].shape[k];
        if (count * sizeof(float) != (double)reading->tensors[i].size)
            return fl_error_set(err, FL_E_INVALID, "tensor \"%s\" has not the bytes of its shape",
                                reading->tensors[i].name);
        size += reading->tensors[i].size; /* each lies in the file: it does not overflow */
    }
    if (size > max)
        return fl_error_set(err, FL_E_TOO_LARGE, "%zu bytes of tensors, more than %zu", size, max);
    return 0;
}

/* The graph in the file must be the one that would be written for this description. */
static int check_nodes(const struct reading *reading, const struct fl_onnx_nodes *nodes,
                       struct fl_error *err)
{
    if (reading->node_count != nodes->count || reading->has_axes != nodes->has_axes)
        return fl_error_set(err, FL_E_INVALID, "the graph is not what the description says");
    for (size_t i = 0; i < nodes->count; i++)
        if (fl_proto_len(reading->nodes[i]) != nodes->items[i].len ||
            memcmp(reading->nodes[i].at, nodes->items[i].data, nodes->items[i].len) != 0)
            return fl_error_set(err, FL_E_INVALID,
                                "node %zu of the graph is not what the description says", i + 1);
    return 0;
}

static int check_graph(const struct reading *reading, const struct fl_model *model,
                       struct fl_error *err)
{
    struct fl_description description;
    struct fl_network_shape shape;
    struct fl_onnx_nodes nodes;
    int r = fl_description_read(model, reading->arena, &description, err);

    if (r == 0 && !fl_trainer_find(description.trainer))
        r = fl_error_set(err, FL_E_INVALID, "there is no trainer \"%.64s\"", description.trainer);
    if (r == 0)
        r = fl_native_shape(description.trainer, description.options, &shape, err);
    if (r < 0)
        return r;
    fl_onnx_nodes_make(&description, &shape, &nodes);
    r = check_nodes(reading, &nodes, err);
    fl_onnx_nodes_finish(&nodes);
    return r;
}

static int make_model(const struct reading *reading, const struct fl_model_limits *limits,
                      struct fl_model **ret_model, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = check_room(reading, limits, err);

    if (r == 0)
        r = fl_model_create(reading->tensors, reading->tensor_count, &model, err);
    if (r == 0)
        r = copy_data(reading, model, err);
    for (size_t i = 0; r == 0 && i < reading->note_count; i++)
        fl_model_note(model, reading->notes[i].key, reading->notes[i].value);
    if (r == 0)
        r = check_graph(reading, model, err);
    if (r < 0)
        return r;
    *ret_model = FL_TAKE(model);
    return 0;
}

int fl_onnx_read(const void *data, size_t len, const struct fl_model_limits *limits,
                 struct fl_model **ret_model, struct fl_error *err)
{
    FL_CLEANUP(reading_finish) struct reading reading = {.arena = fl_arena_create()};
    const unsigned char *bytes = data;
    int r;

    reading.notes = fl_new_array(reading.arena, struct fl_model_note, NOTES_MAX);
    if (len > FL_ONNX_BYTES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "an ONNX file of %zu bytes", len);
    r = read_file(&reading, (struct fl_proto_span){bytes, bytes + len}, err);
    if (r == 0)
        r = read_graph(&reading, err);
    if (r == 0)
        r = make_model(&reading, limits, ret_model, err);
    return r < 0 ? fl_error_wrap(err, "ONNX file") : 0;
}
