/* A folder of content by digest: models, and whatever else is named by its SHA-256, or its XXH3-128
 * where nobody else is to go by the name.
 *
 * What is there under a name is whole: content is written under a temporary name, synced, and moved
 * to its own; temporary files of an earlier life are removed when the folder is opened. Content is
 * immutable: whoever has it open or mapped keeps it, also after it was removed. With a bound on the
 * size, what is not pinned goes when room is needed, what was used longest ago first, unless the
 * folder is one that keeps; pins are
 * counted and end with the process. One process has a folder open at a time (UNAVAILABLE
 * otherwise). Any thread; the lock is never held while content is read or written. */
#ifndef FL_LIB_BLOBS_H
#define FL_LIB_BLOBS_H

#include "lib/digest.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_blobs;

struct fl_blobs_options {
    const struct fl_env *env;
    const char *path;  /* made where it is not there */
    int64_t max_bytes; /* 0: no bound */
    size_t max_count;  /* 0: 65,536 */
    bool keeps;        /* nothing goes by itself: what does not fit is refused */
    bool fleeting;     /* a cache: nothing is synced, and the folder is emptied when it is opened */
    bool checks;       /* the xxh128 of what is written is made as well, see fl_blobs_check */
};
int fl_blobs_open(const struct fl_blobs_options *options, struct fl_blobs **ret_blobs,
                  struct fl_error *err);
void fl_blobs_close(struct fl_blobs *blobs); /* its writers and maps must be gone */
FL_DEFINE_CLEANUP(struct fl_blobs, fl_blobs_close)

/* Putting. Content that is there already stays as it is. TOO_LARGE where it does not fit beside
 * what is pinned. `digest` receives the name. `pin`: one pin from the moment it is there. */
int fl_blobs_put(struct fl_blobs *blobs, const void *data, size_t len, bool pin,
                 char digest[FL_DIGEST_SIZE], struct fl_error *err);
/* Copies what the descriptor has from its beginning. `expected` (may be NULL): INVALID where it has
 * another digest. */
int fl_blobs_put_fd(struct fl_blobs *blobs, int fd, const char *expected, bool pin,
                    char digest[FL_DIGEST_SIZE], struct fl_error *err);

/* Moves a file of the same file system in, whose digest the caller has checked. */
int fl_blobs_adopt(struct fl_blobs *blobs, const char *path, const char *digest, bool pin,
                   struct fl_error *err);

/* Piece by piece; a writer has one thread at a time. */
struct fl_blob_writer;
int fl_blob_writer_open(struct fl_blobs *blobs, struct fl_blob_writer **ret_writer,
                        struct fl_error *err);
void fl_blob_writer_close(struct fl_blob_writer *writer); /* what was not finished is gone */
FL_DEFINE_CLEANUP(struct fl_blob_writer, fl_blob_writer_close)
/* All of it, or nothing: then what was added before can be gone on with. */
int fl_blob_writer_add(struct fl_blob_writer *writer, const void *data, size_t len,
                       struct fl_error *err);
int64_t fl_blob_writer_size(const struct fl_blob_writer *writer);
int fl_blob_writer_restart(struct fl_blob_writer *writer, struct fl_error *err); /* from 0 */
/* How what is added is hashed, before the first byte of it; SHA-256 unless this was called. */
void fl_blob_writer_hash_by(struct fl_blob_writer *writer, enum fl_digest_kind kind);
/* INVALID, and nothing is put, where `expected` (may be NULL) is another digest. The writer begins
 * anew after that, and has ended after success. */
int fl_blob_writer_finish(struct fl_blob_writer *writer, const char *expected, bool pin,
                          char digest[FL_DIGEST_SIZE], struct fl_error *err);
/* The same under a name that somebody is believed: what was added must be `expected`, where that is
 * not NULL. */
int fl_blob_writer_finish_as(struct fl_blob_writer *writer, const char *expected, const char *name,
                             bool pin, struct fl_error *err);

/* Using. Each counts as a use. NOT_FOUND; BAD_REQUEST where it is no digest. */
bool fl_blobs_has(struct fl_blobs *blobs, const char *digest);
int fl_blobs_get(struct fl_blobs *blobs, const char *digest, int *ret_fd, int64_t *ret_size,
                 struct fl_error *err); /* the caller closes it */
/* Where it is: good as long as it is pinned, or until it is removed. */
int fl_blobs_path(struct fl_blobs *blobs, const char *digest, struct fl_arena *arena,
                  const char **ret_path, struct fl_error *err);
struct fl_blob_map {
    const void *data; /* NULL where it is empty */
    size_t size;
};
int fl_blobs_map(struct fl_blobs *blobs, const char *digest, struct fl_blob_map *ret_map,
                 struct fl_error *err);
void fl_blob_unmap(struct fl_blob_map *map);

int fl_blobs_pin(struct fl_blobs *blobs, const char *digest, struct fl_error *err);
void fl_blobs_unpin(struct fl_blobs *blobs, const char *digest);

/* The xxh128 of what has another name. False: not known, as it was not written in this life, or
 * nobody makes it here. */
bool fl_blobs_check(struct fl_blobs *blobs, const char *digest, char out[FL_DIGEST_SIZE]);

/* Reads it all: INVALID where it is not what its name says, and then it is removed. */
int fl_blobs_verify(struct fl_blobs *blobs, const char *digest, struct fl_error *err);
/* CONFLICT where it is pinned; gone already is fine. */
int fl_blobs_remove(struct fl_blobs *blobs, const char *digest, struct fl_error *err);

/* Removes what was there when the folder was opened, unless it is pinned or `needs` says so (which
 * is called with the lock held, and calls nothing here). Stops at the first that cannot go. */
int fl_blobs_sweep(struct fl_blobs *blobs, bool (*needs)(void *user, const char *digest),
                   void *user, struct fl_error *err);

/* Gone already is fine; CONFLICT where it is pinned, or was used since `used_us`. */
int fl_blobs_remove_unused(struct fl_blobs *blobs, const char *digest, int64_t used_us,
                           struct fl_error *err);

/* All that is there, in the arena, by digest. */
struct fl_blob_entry {
    const char *digest;
    int64_t size;
    int64_t used_us; /* since 1970 */
};
size_t fl_blobs_list(struct fl_blobs *blobs, struct fl_arena *arena,
                     struct fl_blob_entry **ret_entries);

struct fl_blobs_stats {
    size_t count, pinned;
    int64_t bytes, pinned_bytes;
};
int64_t fl_blobs_bytes(struct fl_blobs *blobs); /* of all; cheap, where stats look at each */
struct fl_blobs_stats fl_blobs_stats(struct fl_blobs *blobs);

#endif
