#include "workloads/model/onnx_internal.h"

#include "workloads/model/predictor.h"

#include <assert.h>
#include <string.h>

#define PRODUCER "flops"

/* A tensor's message is a head and then its data as it lies in the model. */
struct part {
    struct fl_buf head;
    const void *data;
    size_t len;
};

struct writing {
    const struct fl_description *description;
    struct fl_onnx_nodes nodes;
    struct fl_buf model_head, graph_head, graph_tail, model_tail;
    struct part parts[ONNX_TENSORS_MAX];
    size_t part_count;
};

static void writing_finish(struct writing *writing)
{
    fl_onnx_nodes_finish(&writing->nodes);
    fl_buf_finish(&writing->model_head);
    fl_buf_finish(&writing->graph_head);
    fl_buf_finish(&writing->graph_tail);
    fl_buf_finish(&writing->model_tail);
    for (size_t i = 0; i < writing->part_count; i++)
        fl_buf_finish(&writing->parts[i].head);
}

/* Tensors */

static void add_tensor(struct writing *writing, const struct fl_tensor *tensor, int element)
{
    struct part *part = &writing->parts[writing->part_count++];
    struct fl_buf message;

    assert(writing->part_count <= ONNX_TENSORS_MAX);

    fl_buf_init(&message, 0);
    for (unsigned i = 0; i < tensor->rank; i++)
        fl_proto_put_int(&message, TENSOR_DIM, tensor->shape[i]);
    fl_proto_put_int(&message, TENSOR_TYPE, element);
    fl_proto_put_text(&message, TENSOR_NAME, tensor->name);
    fl_proto_put_head(&message, TENSOR_RAW, tensor->size);
    fl_buf_init(&part->head, 0);
    fl_proto_put_head(&part->head, GRAPH_TENSOR, message.len + tensor->size);
    fl_buf_append(&part->head, message.data, message.len);
    fl_buf_finish(&message);
    part->data = tensor->data;
    part->len = tensor->size;
}

static void add_tensors(struct writing *writing, const struct fl_model *model)
{
    static int64_t one = 1;
    const struct fl_tensor axes = {.name = ONNX_AXES,
                                   .dtype = FL_DTYPE_I64,
                                   .rank = 1,
                                   .shape = {1},
                                   .count = 1,
                                   .size = sizeof(one),
                                   .data = &one};

    for (size_t i = 0; i < model->count; i++)
        add_tensor(writing, &model->tensors[i], ELEMENT_FLOAT);
    if (writing->nodes.has_axes)
        add_tensor(writing, &axes, ELEMENT_INT64);
}

/* What goes in and out */

static void put_dim(struct fl_buf *shape, int64_t size)
{
    struct fl_buf dim;

    fl_buf_init(&dim, 0);
    if (size > 0)
        fl_proto_put_int(&dim, DIM_VALUE, size);
    else
        fl_proto_put_text(&dim, DIM_NAME, "N");
    fl_proto_put_message(shape, SHAPE_DIM, &dim);
}

static void put_value(struct fl_buf *graph, unsigned field, const char *name, const int64_t *sizes,
                      unsigned rank)
{
    struct fl_buf value, type, tensor, shape;

    fl_buf_init(&value, 0);
    fl_buf_init(&type, 0);
    fl_buf_init(&tensor, 0);
    fl_buf_init(&shape, 0);
    put_dim(&shape, 0); /* as many examples as one likes */
    for (unsigned i = 0; i < rank; i++)
        put_dim(&shape, sizes[i]);
    fl_proto_put_int(&tensor, TYPE_ELEMENT, ELEMENT_FLOAT);
    fl_proto_put_message(&tensor, TYPE_SHAPE, &shape);
    fl_proto_put_message(&type, TYPE_TENSOR, &tensor);
    fl_proto_put_text(&value, VALUE_NAME, name);
    fl_proto_put_message(&value, VALUE_TYPE, &type);
    fl_proto_put_message(graph, field, &value);
}

static void write_graph(struct writing *writing)
{
    const struct fl_description *description = writing->description;

    for (size_t i = 0; i < writing->nodes.count; i++)
        fl_proto_put_bytes(&writing->graph_head, GRAPH_NODE, writing->nodes.items[i].data,
                           writing->nodes.items[i].len);
    fl_proto_put_text(&writing->graph_head, GRAPH_NAME, description->trainer);
    put_value(&writing->graph_tail, GRAPH_INPUT, description->input_name, description->shape,
              description->rank);
    put_value(&writing->graph_tail, GRAPH_OUTPUT, description->output_name, &description->classes,
              1);
}

/* The rest */

static void put_props(struct fl_buf *buf, const struct fl_model_note *notes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct fl_buf prop;

        fl_buf_init(&prop, 0);
        fl_proto_put_text(&prop, PROP_KEY, notes[i].key);
        fl_proto_put_text(&prop, PROP_VALUE, notes[i].value);
        fl_proto_put_message(buf, MODEL_PROP, &prop);
    }
}

static size_t graph_size(const struct writing *writing)
{
    size_t size = writing->graph_head.len + writing->graph_tail.len;

    for (size_t i = 0; i < writing->part_count; i++)
        size += writing->parts[i].head.len + writing->parts[i].len;
    return size;
}

static void write_model(struct writing *writing)
{
    struct fl_buf opset;

    fl_proto_put_int(&writing->model_head, MODEL_IR, FL_ONNX_IR_VERSION);
    fl_proto_put_text(&writing->model_head, MODEL_PRODUCER, PRODUCER);
    fl_proto_put_head(&writing->model_head, MODEL_GRAPH, graph_size(writing));
    fl_buf_init(&opset, 0);
    fl_proto_put_text(&opset, OPSET_DOMAIN, "");
    fl_proto_put_int(&opset, OPSET_VERSION, FL_ONNX_OPSET);
    fl_proto_put_message(&writing->model_tail, MODEL_OPSET, &opset);
}

static char *append(char *at, const void *data, size_t len)
{
    if (len > 0)
        memcpy(at, data, len);
    return at + len;
}

static int put_together(const struct writing *writing, struct fl_bytes **ret_file,
                        struct fl_error *err)
{
    size_t len = writing->model_head.len + graph_size(writing) + writing->model_tail.len;
    char *at;

    if (len > FL_ONNX_BYTES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE,
                            "as ONNX it would have %zu bytes, and no file may have more than %zu",
                            len, FL_ONNX_BYTES_MAX);
    *ret_file = fl_bytes_new(NULL, len);
    at = append((*ret_file)->data, writing->model_head.data, writing->model_head.len);
    at = append(at, writing->graph_head.data, writing->graph_head.len);
    for (size_t i = 0; i < writing->part_count; i++) {
        at = append(at, writing->parts[i].head.data, writing->parts[i].head.len);
        at = append(at, writing->parts[i].data, writing->parts[i].len);
    }
    at = append(at, writing->graph_tail.data, writing->graph_tail.len);
    at = append(at, writing->model_tail.data, writing->model_tail.len);
    assert(at == (*ret_file)->data + len);
    *at = '\0';
    return 0;
}

/* Making a predictor of it is the check that it is what it says. */
int fl_onnx_encode(struct fl_model *model, const struct fl_model_note *lineage,
                   size_t lineage_count, struct fl_bytes **ret_file, struct fl_error *err)
{
    FL_CLEANUP(fl_predictor_destroyp) struct fl_predictor *predictor = NULL;
    FL_CLEANUP(writing_finish) struct writing writing = {0};
    int r = fl_predictor_create(model, 1, &predictor, err);

    if (r < 0)
        return r;
    writing.description = fl_predictor_description(predictor);
    fl_onnx_nodes_make(writing.description, fl_predictor_shape(predictor), &writing.nodes);
    add_tensors(&writing, model);
    write_graph(&writing);
    write_model(&writing);
    put_props(&writing.model_tail, model->notes, model->note_count);
    put_props(&writing.model_tail, lineage, lineage_count);
    return put_together(&writing, ret_file, err);
}
