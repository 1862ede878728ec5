/* A folder tree to be: what a layer shall hold, put together from packages, files and texts, and
 * then written as an OCI layer that has the same bytes whenever it holds the same.
 *
 * Entries are named by paths without '/' in front ("usr/bin/python3"). Folders above an entry are
 * made where they are missing (0755). All belong to user and group 0; modes are 0755 where anybody
 * may execute, else 0644, folders 0755, unless fl_tree_set_mode said otherwise; times are
 * one time for all. The layer is a pax tar, folders before what is in them, in
 * bytewise order of the names. What is
 * put again under one path takes the place of what was there (a folder stays a folder).
 *
 * The tree holds paths of files, not their bytes: they must stay as they are until it was written.
 * Symbolic links are kept as they are and never followed here: an entry below a path that is a link
 * in the tree goes where the link leads within the tree (so that "lib" -> "usr/lib" works), and a
 * link out of it is INVALID. One thread. */
#ifndef FL_LIB_OCI_TREE_H
#define FL_LIB_OCI_TREE_H

#include "lib/blobs.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/oci/image.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fl_tree;
struct fl_tree *fl_tree_create(void);
void fl_tree_destroy(struct fl_tree *tree);
FL_DEFINE_CLEANUP(struct fl_tree, fl_tree_destroy)

/* INVALID for paths that are none: absolute, with "..", empty parts, control characters. */
int fl_tree_add_folder(struct fl_tree *tree, const char *path, struct fl_error *err);
int fl_tree_add_file(struct fl_tree *tree, const char *path, const char *source, bool executable,
                     struct fl_error *err); /* `source`: where the bytes are */
int fl_tree_add_text(struct fl_tree *tree, const char *path, const void *data, size_t len,
                     bool executable, struct fl_error *err); /* copied */
int fl_tree_add_link(struct fl_tree *tree, const char *path, const char *target,
                     struct fl_error *err);
/* What is below the folder `source` of the disk, at `path` ("": the root). Hard links become files
 * of their own; devices, sockets and pipes are INVALID. `skip(user, path)` may be NULL. */
int fl_tree_add_tree(struct fl_tree *tree, const char *path, const char *source,
                     bool (*skip)(void *user, const char *path), void *user, struct fl_error *err);
bool fl_tree_has(const struct fl_tree *tree, const char *path); /* links on the way are followed */
void fl_tree_remove(struct fl_tree *tree, const char *path);    /* with all below; gone is fine */
/* 07777; of what is there, else nothing. Kept as it is, setuid too. */
void fl_tree_set_mode(struct fl_tree *tree, const char *path, mode_t mode);

enum fl_tree_type { FL_TREE_FOLDER = 1, FL_TREE_FILE, FL_TREE_LINK };
struct fl_tree_entry {
    const char *path;
    enum fl_tree_type type;
    const char *target; /* of a link */
    const char *source; /* of a file on disk; NULL: its bytes are in memory */
    const void *data;
    size_t len; /* of bytes in memory */
    mode_t mode;
};
/* What is there, a link itself and not what it leads to; links on the way are followed. `path` is
 * the caller's, the rest the tree's, until it changes. */
bool fl_tree_get(const struct fl_tree *tree, const char *path, struct fl_tree_entry *ret_entry);
/* In the order of the layer. Start with `*cursor` NULL; false at the end. `path` is the tree's,
 * until the next call. */
bool fl_tree_next(const struct fl_tree *tree, void **cursor, struct fl_tree_entry *ret_entry);
size_t fl_tree_count(const struct fl_tree *tree);

/* What the tree holds, and nothing else (no times, no place of the files): trees with the same
 * digest are the same layer. Reads all files. */
int fl_tree_digest(const struct fl_tree *tree, char digest[FL_DIGEST_SIZE], struct fl_error *err);

enum fl_layer_compression { FL_LAYER_PLAIN, FL_LAYER_GZIP, FL_LAYER_ZSTD };
struct fl_layer {
    struct fl_oci_descriptor descriptor; /* texts in the arena */
    const char *diff_id;                 /* digest of the tar */
    int64_t unpacked_bytes;
};
/* Writes the tree as a layer into `blobs`, pinned. `epoch_s`: the time of every entry.
 * `keep_going` (may be NULL) is asked now and then; false breaks off (UNAVAILABLE). */
int fl_tree_write_layer(const struct fl_tree *tree, enum fl_layer_compression compression,
                        int64_t epoch_s, struct fl_blobs *blobs, bool (*keep_going)(void *user),
                        void *user, struct fl_arena *arena, struct fl_layer *ret_layer,
                        struct fl_error *err);

#endif
