/* ONNX: models of the native trainers in a form that any runtime takes, and back.
 *
 * The graph has one input, float [N, shape of an example…] with N free, and one output, the
 * probabilities, float [N, classes]; opset 17, IR version 8. What the model says of itself and
 * where it came from are the file's metadata_props. Equal models are equal files.
 *
 * Read are files that were written here, and no others: the graph must be the one that the
 * description asks for, node by node. An operator that is never written is refused by its name.
 * A model that was exported and read has the digest it had before. Any thread. Source: the format's
 * own description (onnx/onnx, docs/IR.md, Operators.md, onnx.proto). */
#ifndef FL_WORKLOADS_MODEL_ONNX_H
#define FL_WORKLOADS_MODEL_ONNX_H

#include "workloads/model/description.h"
#include "workloads/tensor/safetensors.h"

#define FL_ONNX_OPSET      17
#define FL_ONNX_IR_VERSION 8
#define FL_ONNX_BYTES_MAX  (((size_t)1 << 31) - 1) /* of any protocol buffer */
#define FL_ONNX_LINEAGE    "lineage." /* how keys begin that are not the model's own notes */

/* `lineage`: more properties, whose keys begin with FL_ONNX_LINEAGE; may be NULL. NOT_FOUND where
 * the model does not say what it is, INVALID where it is not what it says, TOO_LARGE. */
int fl_onnx_encode(struct fl_model *model, const struct fl_model_note *lineage,
                   size_t lineage_count, struct fl_bytes **ret_file, struct fl_error *err);

/* Copies the data. Notes are those that the model had. Without `limits` as for safetensors. */
int fl_onnx_read(const void *data, size_t len, const struct fl_model_limits *limits,
                 struct fl_model **ret_model, struct fl_error *err);

#endif
