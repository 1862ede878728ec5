/* The data sets of a node, by tag, in a folder.
 *
 *   FOLDER/TAG/manifest.json       what it is and where it came from
 *              data.safetensors    features and labels, as dataset.h writes them
 *   FOLDER/TAG.parts/manifest.json
 *                    data.safetensors   another name of the same file, where the file system can
 *                    rows.safetensors   which rows are whose: "rows", "starts"
 *   FOLDER/.lock, .new, .gone      of who changes something; leftovers go with the next change
 *
 * Whatever was pushed is checked then and kept in one form, so that opening it maps a file and
 * reads no features: a thousand learners of one machine share one copy, in the page cache. Parts
 * are opened as TAG.0, TAG.1, …; they outlive the data set they were made of. A change is there as
 * a whole or not at all, also after a loss of power; two processes that change something exclude
 * each other (CONFLICT); what is open stays whole while its tag is replaced or removed.
 *
 * A tag is [A-Za-z0-9][A-Za-z0-9_-]* of at most 63 characters, as FLProject.spec.data.tags has it.
 * The store is a value: it may be shared by threads and has nothing to destroy. */
#ifndef FL_WORKLOADS_STORE_H
#define FL_WORKLOADS_STORE_H

#include "lib/env.h"
#include "workloads/data/dataset.h"

#define FL_DATA_TAG_MAX      63
#define FL_DATA_PARTS_SUFFIX ".parts"

struct fl_data_store {
    const char *folder; /* made by the first push; lent */
    const struct fl_env *env;
};

struct fl_data_file {
    const char *name; /* without folders */
    int64_t size;
    const char *digest; /* "sha256:…" */
};

struct fl_data_info {
    const char *name;    /* "mnist", or "mnist.parts" */
    const char *created; /* RFC 3339 */
    int64_t examples, classes;
    int64_t shape[FL_DATASET_RANK_MAX];
    unsigned rank;
    const char *format;                /* of what was pushed: "idx" */
    const struct fl_data_file *source; /* what was pushed */
    size_t source_count;
    const struct fl_data_file *files; /* what is kept; the first is the data */
    size_t file_count;
    const char *of; /* the data set that it has parts of; NULL: it is one itself */
    struct fl_partition partition;
};

bool fl_data_tag_is_valid(const char *tag);

/* Where a data set comes from: the format's name, and the files, which are read for their digests.
 */
int fl_data_source_read(struct fl_arena *arena, const char *const *paths, size_t count,
                        const struct fl_data_file **ret_files, struct fl_error *err);

/* Keeps `dataset` as `tag`. The same data again is fine and changes nothing (> 0); other data is
 * ALREADY_EXISTS unless `replace`. Of `info` format and source are used. */
int fl_data_store_push(const struct fl_data_store *store, const char *tag,
                       const struct fl_dataset *dataset, const struct fl_data_info *info,
                       bool replace, struct fl_error *err);
/* Divides `tag` into parts that are opened as NAME.0 …; `name` NULL: as the tag. The rest as
 * above. */
int fl_data_store_partition(const struct fl_data_store *store, const char *tag, const char *name,
                            const struct fl_partition *partition, bool replace,
                            struct fl_error *err);
/* "mnist" or "mnist.parts"; NOT_FOUND. */
int fl_data_store_remove(const struct fl_data_store *store, const char *name, struct fl_error *err);

int fl_data_store_get(const struct fl_data_store *store, struct fl_arena *arena, const char *name,
                      struct fl_data_info *ret_info, struct fl_error *err);

#define FL_DATA_STORE_MAX 100000
struct fl_data_list {
    const struct fl_data_info *items; /* by name */
    size_t count;
};
/* A folder whose manifest cannot be read fails the whole: it is named. */
int fl_data_store_list(const struct fl_data_store *store, struct fl_arena *arena,
                       struct fl_data_list *ret_list, struct fl_error *err);

/* Reads everything: INVALID says which file is not what its digest says, or which row is bad. */
int fl_data_store_verify(const struct fl_data_store *store, const char *name, struct fl_error *err);

/* A data set ("mnist") or a part ("mnist.7"). Sizes are compared with the manifest, digests are not
 * (that is verify's). */
int fl_data_store_open(const struct fl_data_store *store, const char *tag,
                       const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                       struct fl_error *err);

/* The same for who reads the files itself: where the table is and, of a part, the file that says
 * which of its rows are meant ("rows" from "starts"[part] to "starts"[part + 1] - 1). */
struct fl_data_place {
    const char *file;
    const char *rows; /* NULL: all of it */
    size_t part;
    int64_t examples;
};
int fl_data_store_find(const struct fl_data_store *store, struct fl_arena *arena, const char *tag,
                       struct fl_data_place *ret_place, struct fl_error *err);

#endif
