/* Safetensors files: an 8-byte little-endian header size, a JSON header, the tensors' bytes.
 *
 * Read strictly: offsets must cover the data exactly and without overlap, sizes must follow from
 * type and shape, names are unique; what breaks that is INVALID with the tensor's name. Written
 * canonically (alignment falling, then names; header keys in that order, padded with spaces to 8),
 * so that equal models are equal bytes and have one digest. Source: the format's own description
 * (huggingface/safetensors, README). Any thread. */
#ifndef FL_WORKLOADS_SAFETENSORS_H
#define FL_WORKLOADS_SAFETENSORS_H

#include "lib/blobs.h"
#include "lib/crew.h"
#include "workloads/tensor/tensor.h"

#define FL_SAFETENSORS_HEADER_MAX ((size_t)16 * 1024 * 1024)

struct fl_model_limits {
    size_t max_bytes;   /* of the data; 0: 8 GiB */
    size_t max_tensors; /* 0: 65,536 */
};

/* Whether it begins like one: a small header size, and an object. */
bool fl_safetensors_seems(const void *data, size_t len);
/* From memory; copies the data. */
int fl_safetensors_read(const void *data, size_t len, const struct fl_model_limits *limits,
                        struct fl_model **ret_model, struct fl_error *err);
/* Maps the file (private, read-only pages): nothing is read until it is used. */
int fl_safetensors_open(const char *path, const struct fl_model_limits *limits,
                        struct fl_model **ret_model, struct fl_error *err);
/* The same of a descriptor, which may be closed afterwards. Its content must not change. */
int fl_safetensors_open_fd(int fd, const struct fl_model_limits *limits,
                           struct fl_model **ret_model, struct fl_error *err);
/* The header as it would be written, and the size of the whole file. */
struct fl_bytes *fl_safetensors_header(const struct fl_model *model, size_t *ret_file_size);
/* Atomically and durably, as fl_file_write. */
int fl_safetensors_write(const struct fl_model *model, const char *path, struct fl_error *err);
/* Among the blobs, named by that kind of digest. `crew` (NULL: none) makes a sha256 meanwhile. */
int fl_safetensors_put(const struct fl_model *model, struct fl_blobs *blobs,
                       enum fl_digest_kind kind, struct fl_crew *crew, char digest[FL_DIGEST_SIZE],
                       int64_t *ret_size, struct fl_error *err);
/* Of the file it would be: sha256, or of that kind. */
void fl_model_digest(const struct fl_model *model, char out[FL_DIGEST_SIZE]);
void fl_model_digest_by(const struct fl_model *model, enum fl_digest_kind kind,
                        char out[FL_DIGEST_SIZE]);

#endif
