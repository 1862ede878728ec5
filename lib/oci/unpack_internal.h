/* Within fl_unpack. */
#ifndef FL_LIB_OCI_UNPACK_INTERNAL_H
#define FL_LIB_OCI_UNPACK_INTERNAL_H

#include "lib/digest.h"
#include "lib/oci/unpack.h"

#include <stddef.h>
#include <sys/stat.h>

/* unpack_stream.c: a descriptor's bytes, what compresses them taken away, counted and hashed. */
struct fl_unpack_stream;
struct fl_unpack_limits {
    int64_t in_bytes;  /* < 0: not known */
    int64_t max_bytes; /* of what comes out */
};
struct fl_unpack_stream *fl_unpack_stream_open(int fd, const struct fl_unpack_limits *limits);
void fl_unpack_stream_close(struct fl_unpack_stream *stream);
FL_DEFINE_CLEANUP(struct fl_unpack_stream, fl_unpack_stream_close)
/* Bytes at *ret_data, good until the next call; 0: the end. */
int64_t fl_unpack_stream_read(struct fl_unpack_stream *stream, const void **ret_data,
                              struct fl_error *err);
/* As they come, without taking anything away. */
int64_t fl_unpack_stream_read_raw(struct fl_unpack_stream *stream, const void **ret_data,
                                  struct fl_error *err);
/* The end was reached: INVALID where it has other bytes than it should. */
int fl_unpack_stream_check(const struct fl_unpack_stream *stream, struct fl_error *err);
int64_t fl_unpack_stream_in(const struct fl_unpack_stream *stream);
/* Behind the last byte that is not 0, of what came out. */
int64_t fl_unpack_stream_last(const struct fl_unpack_stream *stream);
void fl_unpack_stream_digest(struct fl_unpack_stream *stream, char out[FL_DIGEST_SIZE]);

/* unpack_place.c: things in the folder. Paths are relative and clean (fl_path_is_below without the
 * rule for control characters). INVALID for what may not be. */
struct fl_place;
int fl_place_open(const char *folder, bool keep_owners, struct fl_place **ret_place,
                  struct fl_error *err);
void fl_place_close(struct fl_place *place);
FL_DEFINE_CLEANUP(struct fl_place, fl_place_close)

struct fl_place_meta {
    mode_t mode;
    int64_t user, group;
    struct timespec changed;
};
int fl_place_folder(struct fl_place *place, const char *path, const struct fl_place_meta *meta,
                    struct fl_error *err);
/* An empty one, open for writing. */
int fl_place_file(struct fl_place *place, const char *path, int *ret_fd, struct fl_error *err);
int fl_place_finish_file(struct fl_place *place, int fd, const struct fl_place_meta *meta,
                         struct fl_error *err);
int fl_place_link(struct fl_place *place, const char *path, const char *target,
                  const struct fl_place_meta *meta, struct fl_error *err);
int fl_place_hard_link(struct fl_place *place, const char *path, const char *target,
                       struct fl_error *err);
/* What lower layers have under that path, or in that folder, is not there any more. */
int fl_place_whiteout(struct fl_place *place, const char *path, bool for_overlay,
                      struct fl_error *err);
int fl_place_opaque(struct fl_place *place, const char *folder, bool for_overlay,
                    struct fl_error *err);

#endif
