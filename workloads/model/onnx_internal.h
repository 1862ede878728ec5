/* What writing and reading ONNX share: numbers of the fields, and the graph that a network is. */
#ifndef FL_WORKLOADS_MODEL_ONNX_INTERNAL_H
#define FL_WORKLOADS_MODEL_ONNX_INTERNAL_H

#include "workloads/model/onnx.h"
#include "workloads/model/proto.h"
#include "workloads/trainer/network.h"

enum { MODEL_IR = 1, MODEL_PRODUCER = 2, MODEL_GRAPH = 7, MODEL_OPSET = 8, MODEL_PROP = 14 };
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };
enum { PROP_KEY = 1, PROP_VALUE = 2 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_TENSOR = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_OP = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_INT = 3, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { TENSOR_DIM = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9 };
enum { VALUE_NAME = 1, VALUE_TYPE = 2 };
enum {
    TYPE_TENSOR = 1,
    TYPE_ELEMENT = 1,
    TYPE_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_NAME = 2
};
enum { ELEMENT_FLOAT = 1, ELEMENT_INT64 = 7 };
enum { KIND_INT = 2, KIND_INTS = 7 };

#define ONNX_NODES_MAX   (3 * FL_NETWORK_CONVS_MAX + 2 * FL_NETWORK_HIDDEN_MAX + 4)
#define ONNX_TENSORS_MAX (2 * (FL_NETWORK_CONVS_MAX + FL_NETWORK_HIDDEN_MAX + 1) + 1)
#define ONNX_AXES        "image.axes" /* of the Unsqueeze before the first convolution: [1] */

/* The graph's nodes, each a message as it is written. fl_onnx_nodes_finish. */
struct fl_onnx_nodes {
    struct fl_buf items[ONNX_NODES_MAX];
    size_t count;
    bool has_axes;
};
void fl_onnx_nodes_make(const struct fl_description *description,
                        const struct fl_network_shape *shape, struct fl_onnx_nodes *ret_nodes);
void fl_onnx_nodes_finish(struct fl_onnx_nodes *nodes);
/* Whether nodes of this kind are ever written. */
bool fl_onnx_knows(struct fl_proto_span op);

#endif
