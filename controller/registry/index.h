/* What the registry remembers: repositories, their blobs and manifests, what names what, and tags.
 *
 * One SQLite file with two connections: one that writes, by threads that may wait for the disk, one
 * at a time; and one that only reads, which never waits for a writer. What a function that writes
 * has returned from is on disk, all of it; what it failed at has not happened. Any thread. */
#ifndef FL_CONTROLLER_REGISTRY_INDEX_H
#define FL_CONTROLLER_REGISTRY_INDEX_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/oci/image.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_repos_index;

int fl_repos_index_open(const struct fl_env *env, const char *path,
                        struct fl_repos_index **ret_index, struct fl_error *err);
void fl_repos_index_close(struct fl_repos_index *index);
FL_DEFINE_CLEANUP(struct fl_repos_index, fl_repos_index_close)

/* Writing */

int fl_repos_index_add_blob(struct fl_repos_index *index, const char *repository,
                            const char *digest, int64_t size, struct fl_error *err);
/* NOT_FOUND; METHOD_NOT_ALLOWED where a manifest of the repository names it. */
int fl_repos_index_drop_blob(struct fl_repos_index *index, const char *repository,
                             const char *digest, struct fl_error *err);

struct fl_repos_manifest {
    const char *digest, *media_type;
    int64_t size;
    const char *artifact_type, *subject; /* NULL: none */
    const char *annotations;             /* JSON; NULL: none */
};
/* Whether it is a layer of a type that need not be distributed. */
bool fl_repos_may_be_missing(const struct fl_oci_descriptor *part);
/* With what it names, and the tag (NULL: none). NOT_FOUND where the repository lacks one of what it
 * names, INVALID where that has another size. */
int fl_repos_index_put(struct fl_repos_index *index, const char *repository,
                       const struct fl_repos_manifest *manifest,
                       const struct fl_oci_manifest *content, const char *tag,
                       struct fl_error *err);
/* With the tags that lead to it. NOT_FOUND; METHOD_NOT_ALLOWED where an index names it. */
int fl_repos_index_drop_manifest(struct fl_repos_index *index, const char *repository,
                                 const char *digest, struct fl_error *err);
int fl_repos_index_drop_tag(struct fl_repos_index *index, const char *repository, const char *tag,
                            struct fl_error *err); /* NOT_FOUND */

/* Reading; texts are in the arena. */

int fl_repos_index_blob(struct fl_repos_index *index, const char *repository, const char *digest,
                        int64_t *ret_size, struct fl_error *err);
/* `reference`: a digest or a tag. NOT_FOUND. */
int fl_repos_index_manifest(struct fl_repos_index *index, struct fl_arena *arena,
                            const char *repository, const char *reference,
                            struct fl_repos_manifest *ret_manifest, struct fl_error *err);

/* At most `max` of them, those after `after` ("": from the beginning). `more`: there are others. */
struct fl_repos_names {
    const char **items;
    size_t count;
    bool more;
};
int fl_repos_index_repositories(struct fl_repos_index *index, struct fl_arena *arena,
                                const char *after, size_t max, struct fl_repos_names *ret_names,
                                struct fl_error *err);
/* NOT_FOUND: no such repository. In alphabetical order, whatever the case. */
int fl_repos_index_tags(struct fl_repos_index *index, struct fl_arena *arena,
                        const char *repository, const char *after, size_t max,
                        struct fl_repos_names *ret_names, struct fl_error *err);

/* Manifests whose subject is `digest`, by digest. `artifact_type` NULL: of any type. */
struct fl_repos_referrers {
    struct fl_repos_manifest *items;
    size_t count;
    bool more;
};
int fl_repos_index_referrers(struct fl_repos_index *index, struct fl_arena *arena,
                             const char *repository, const char *digest, const char *artifact_type,
                             const char *after, size_t max,
                             struct fl_repos_referrers *ret_referrers, struct fl_error *err);

/* Forgetting. One transaction; in it nobody else writes. */

struct fl_repos_judge {
    /* Whether an object names it. */
    bool (*is_named)(void *user, const char *digest);
    /* Whether what nothing leads to may go by now. `key` says which one of which repository it is,
     * `time_us` when it was written last. */
    bool (*is_due)(void *user, const char *key, const char *digest, int64_t time_us);
    /* Told of all that stays. */
    void (*stays)(void *user, const char *repository, const char *digest);
    void *user;
};
int fl_repos_index_forget(struct fl_repos_index *index, const struct fl_repos_judge *judge,
                          size_t *ret_manifests, size_t *ret_blobs, size_t *ret_repositories,
                          struct fl_error *err);

#endif
