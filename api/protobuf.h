/* Kubernetes' protobuf envelope, read only: what recent kubectl sends for built-in kinds.
 *
 * "k8s\0" and an Unknown message around one of about twenty built-in kinds, decoded by tables of
 * field numbers into the JSON the same client would have sent. Unknown fields are skipped, of a
 * field sent twice the last counts. The caller bounds the body's size; what a small body may ask
 * for is bounded here, and nesting is that of the tables. Pure; any thread.
 * Source: the public generated.proto files of k8s.io/api and apimachinery. */
#ifndef FL_API_PROTOBUF_H
#define FL_API_PROTOBUF_H

#include "lib/error.h"
#include "lib/json.h"

#include <stddef.h>

/* BAD_REQUEST for what is no such message, UNSUPPORTED_MEDIA for a kind that has no table,
 * TOO_LARGE above 200,000 values. The value has apiVersion and kind from the envelope; the caller
 * owns it. */
int fl_protobuf_decode(const void *data, size_t len, json_t **ret_value, struct fl_error *err);

#endif
