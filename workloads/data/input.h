/* A file (plain or gzip) or memory, read once from front to end. The caller's memory; one thread.
 */
#ifndef FL_WORKLOADS_INPUT_H
#define FL_WORKLOADS_INPUT_H

#include "lib/error.h"

#include <stddef.h>
#include <stdint.h>

struct fl_input {
    void *file; /* zlib's, which reads plain files too; NULL: memory */
    const unsigned char *data;
    size_t len;
    uint64_t at; /* bytes read so far, unpacked */
};

/* Regular files only. */
int fl_input_open(const char *path, struct fl_input *ret_input, struct fl_error *err);
struct fl_input fl_input_of(const void *data, size_t len); /* lent */
void fl_input_close(struct fl_input *input);

/* Up to `len` bytes, fewer only at the end; returns how many through `ret_len`. INVALID where a
 * gzip file is damaged. */
int fl_input_some(struct fl_input *input, void *out, size_t len, size_t *ret_len,
                  struct fl_error *err);
/* Exactly `len`; INVALID names the byte where the file ends. */
int fl_input_exactly(struct fl_input *input, void *out, size_t len, struct fl_error *err);
/* INVALID where something is left. */
int fl_input_end(struct fl_input *input, struct fl_error *err);

#endif
