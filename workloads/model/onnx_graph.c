/* The nodes of a network's graph. */
#include "workloads/model/onnx_internal.h"

#include <stdio.h>
#include <string.h>

#define NAME_SIZE 48

bool fl_onnx_knows(struct fl_proto_span op)
{
    static const char *const ops[] = {"Unsqueeze", "Transpose", "Conv", "MaxPool", "Flatten",
                                      "Gemm",      "Relu",      "Tanh", "Sigmoid", "Softmax"};

    for (size_t i = 0; i < FL_COUNT_OF(ops); i++)
        if (fl_proto_is(op, ops[i]))
            return true;
    return false;
}

void fl_onnx_nodes_finish(struct fl_onnx_nodes *nodes)
{
    for (size_t i = 0; i < nodes->count; i++)
        fl_buf_finish(&nodes->items[i]);
}

/* A graph as it grows, one node taking what the one before it gave. */
struct growing {
    struct fl_onnx_nodes *nodes;
    const char *value; /* what the next node takes */
    char name[NAME_SIZE];
    unsigned values;
};

/* `also`: more inputs, up to the NULL. `output` NULL: a name of its own. Attributes may follow. */
static struct fl_buf *add(struct growing *growing, const char *op, const char *const *also,
                          const char *output)
{
    struct fl_buf *node = &growing->nodes->items[growing->nodes->count++];

    fl_buf_init(node, 0);
    fl_proto_put_text(node, NODE_INPUT, growing->value);
    for (; also && *also; also++)
        fl_proto_put_text(node, NODE_INPUT, *also);
    if (!output) {
        (void)snprintf(growing->name, sizeof(growing->name), "value%u", ++growing->values);
        output = growing->name;
    }
    growing->value = output;
    fl_proto_put_text(node, NODE_OUTPUT, output);
    fl_proto_put_text(node, NODE_OP, op);
    return node;
}

/* With a layer's weights. */
static struct fl_buf *add_layer(struct growing *growing, const char *op, const char *layer)
{
    char weight[NAME_SIZE], bias[NAME_SIZE];
    const char *const also[] = {weight, bias, NULL};

    (void)snprintf(weight, sizeof(weight), "%s.weight", layer);
    (void)snprintf(bias, sizeof(bias), "%s.bias", layer);
    return add(growing, op, also, NULL);
}

static void put_int(struct fl_buf *node, const char *name, int64_t value)
{
    struct fl_buf attribute;

    fl_buf_init(&attribute, 0);
    fl_proto_put_text(&attribute, ATTRIBUTE_NAME, name);
    fl_proto_put_int(&attribute, ATTRIBUTE_INT, value);
    fl_proto_put_int(&attribute, ATTRIBUTE_TYPE, KIND_INT);
    fl_proto_put_message(node, NODE_ATTRIBUTE, &attribute);
}

static void put_ints(struct fl_buf *node, const char *name, const int64_t *values, size_t count)
{
    struct fl_buf attribute;

    fl_buf_init(&attribute, 0);
    fl_proto_put_text(&attribute, ATTRIBUTE_NAME, name);
    for (size_t i = 0; i < count; i++)
        fl_proto_put_int(&attribute, ATTRIBUTE_INTS, values[i]);
    fl_proto_put_int(&attribute, ATTRIBUTE_TYPE, KIND_INTS);
    fl_proto_put_message(node, NODE_ATTRIBUTE, &attribute);
}

static void add_activation(struct growing *growing, enum fl_activation activation)
{
    static const char *const names[] = {
        [FL_RELU] = "Relu", [FL_TANH] = "Tanh", [FL_SIGMOID] = "Sigmoid"};

    (void)add(growing, names[activation], NULL, NULL);
}

/* Images come as height x width, or height x width x channels; runtimes want the channels first. */
static void add_channels(struct growing *growing, unsigned rank)
{
    static const int64_t order[] = {0, 3, 1, 2};
    static const char *const axes[] = {ONNX_AXES, NULL};

    if (rank == 2) {
        (void)add(growing, "Unsqueeze", axes, NULL);
        growing->nodes->has_axes = true;
    } else {
        put_ints(add(growing, "Transpose", NULL, NULL), "perm", order, FL_COUNT_OF(order));
    }
}

/* Same padding as ours; the pool stands before the activation, as it does in training. */
static void add_conv(struct growing *growing, const struct fl_network_shape *shape, size_t i)
{
    const int64_t kernel = (int64_t)shape->kernel, before = (kernel - 1) / 2;
    const int64_t window[] = {kernel, kernel}, two[] = {2, 2}, one[] = {1, 1};
    const int64_t pads[] = {before, before, kernel - 1 - before, kernel - 1 - before};
    struct fl_buf *node;
    char layer[32];

    (void)snprintf(layer, sizeof(layer), "conv%zu", i + 1);
    node = add_layer(growing, "Conv", layer);
    put_ints(node, "kernel_shape", window, 2);
    put_ints(node, "pads", pads, 4);
    put_ints(node, "strides", one, 2);
    node = add(growing, "MaxPool", NULL, NULL);
    put_int(node, "ceil_mode", 1);
    put_ints(node, "kernel_shape", two, 2);
    put_ints(node, "strides", two, 2);
    add_activation(growing, shape->activation);
}

static void add_dense(struct growing *growing, const char *layer)
{
    put_int(add_layer(growing, "Gemm", layer), "transB", 1);
}

void fl_onnx_nodes_make(const struct fl_description *description,
                        const struct fl_network_shape *shape, struct fl_onnx_nodes *ret_nodes)
{
    struct growing growing = {.nodes = ret_nodes, .value = description->input_name};
    char layer[32];

    *ret_nodes = (struct fl_onnx_nodes){0};
    if (shape->filters_count > 0)
        add_channels(&growing, description->rank);
    for (size_t i = 0; i < shape->filters_count; i++)
        add_conv(&growing, shape, i);
    put_int(add(&growing, "Flatten", NULL, NULL), "axis", 1);
    for (size_t i = 0; i < shape->hidden_count; i++) {
        (void)snprintf(layer, sizeof(layer), "dense%zu", i + 1);
        add_dense(&growing, layer);
        add_activation(&growing, shape->activation);
    }
    add_dense(&growing, "output");
    put_int(add(&growing, "Softmax", NULL, description->output_name), "axis", -1);
}
