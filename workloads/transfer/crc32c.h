/* CRC-32C (Castagnoli), piece by piece: what guards each chunk of an upload on its way. The
 * processor's own instruction where it has one. Any thread. */
#ifndef FL_WORKLOADS_CRC32C_H
#define FL_WORKLOADS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Begin with 0; give the result back for the next piece. */
uint32_t fl_crc32c(uint32_t crc, const void *data, size_t len);
/* The plain one, which tests compare with. */
uint32_t fl_ref_crc32c(uint32_t crc, const void *data, size_t len);

#endif
