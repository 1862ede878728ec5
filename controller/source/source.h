/* Where manifests come from: a snapshot of files under a revision.
 *
 * A source is fetched in the background, under a key (the GitSync's uid), and observed; a fetch is
 * bounded by its deadline and never blocks who asks. Drivers: `git` (libgit2; file, https, ssh), in
 * a process of its own that can be killed, and `dir` (a watched directory). The simulation has one
 * of its own. One contract test runs on all. Any thread. */
#ifndef FL_CONTROLLER_SOURCE_H
#define FL_CONTROLLER_SOURCE_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_source_file {
    const char *path; /* relative to the repository, '/' between */
    const void *data;
    size_t len;
    /* Why it could not be read. Then there is no data, and what it wants is not known; or, of a
     * link in a repository, where that leads. */
    const char *fault;
    bool unfinished; /* of a folder: somebody is still writing it */
};

/* Immutable; reference counted. */
struct fl_snapshot {
    int refs;
    struct fl_arena *arena; /* owns all of it */
    const char *revision;   /* "main@sha1:COMMIT", "sha256:DIGEST" for a directory */
    const char *signer;     /* the key that signed it ("SHA256:… comment"), NULL: not verified */
    struct fl_source_file
        *files; /* .yaml, .yml, .json under path, less what is excluded; by path */
    size_t file_count;
    /* Of a folder: why nothing may be pruned, though all was read; or NULL. */
    const char *hold;
};
/* For drivers: an empty one of one reference, with its arena. */
struct fl_snapshot *fl_snapshot_create(void);
struct fl_snapshot *fl_snapshot_ref(struct fl_snapshot *snapshot);
void fl_snapshot_unref(struct fl_snapshot *snapshot);
FL_DEFINE_CLEANUP(struct fl_snapshot, fl_snapshot_unref)

/* What of a repository counts, whatever its form; beyond these it is TOO_LARGE, by name. */
#define FL_SOURCE_FILES_MAX      10000
#define FL_SOURCE_FILE_BYTES_MAX ((size_t)3 * 1024 * 1024)
#define FL_SOURCE_BYTES_MAX      ((size_t)64 * 1024 * 1024)

struct fl_source_request {
    /* https://, ssh://, user@host:path, file:// (not into data_dir), dir:// (a watched directory);
     * http:// and git:// to this machine, or with allowed signers and no password: what is not
     * encrypted must be vouched for. Redirects stay on the host. */
    const char *url;
    const char *branch, *tag, *commit; /* at most one; none: the remote's HEAD */
    const char *path;                  /* folder within */
    const char *const *exclude;        /* patterns relative to path */
    size_t exclude_count;
    const char *username, *password;    /* https; from a Secret: never logged */
    const char *identity, *known_hosts; /* ssh */
    const char *ca_pem;                 /* https: a private authority */
    /* "ssh-ed25519 AAAA… comment"; none: not verified. The commit must be signed, or the annotated
     * tag that is asked for. */
    const char *const *allowed_signers;
    size_t allowed_signer_count;
    int64_t timeout_ms;
};

enum fl_fetch_state {
    FL_FETCH_NONE = 0, /* nothing known under this key */
    FL_FETCH_RUNNING,
    FL_FETCH_DONE,   /* snapshot is set */
    FL_FETCH_FAILED, /* err is set */
};

struct fl_fetch_result {
    enum fl_fetch_state state;
    uint64_t ticket; /* of the fetch that this is the result of */
    /* A reference of the caller's: what was fetched; while one runs and after a failure the last
     * good one of the same request (credentials aside), also after a restart; or NULL. */
    struct fl_snapshot *snapshot;
    const char *attempted; /* revision that was found, also where it was refused; or NULL */
    const char *reason;    /* of a failure: FetchFailed, RevisionNotFound, NotSigned */
    struct fl_error err;
    int64_t finished_ms; /* monotonic */
};

/* Something about the key changed: a fetch ended, or a watched directory has news. Any thread; must
 * not call back. */
typedef void fl_source_changed_fn(void *user, const char *key);

struct fl_source;
struct fl_source_ops {
    const char *name;
    void (*destroy)(struct fl_source *self);
    /* must: begin to fetch; while one runs for the key nothing new begins, and its ticket is
     * returned. Results of tickets before are forgotten. */
    int (*fetch)(struct fl_source *self, const char *key, const struct fl_source_request *request,
                 uint64_t *ret_ticket, struct fl_error *err);
    /* must: the newest result. *ret_result's texts are in the arena. */
    int (*observe)(struct fl_source *self, const char *key, struct fl_arena *arena,
                   struct fl_fetch_result *ret_result, struct fl_error *err);
    /* must: stop and forget all about the key, with what is on disk. Also after a restart. */
    int (*forget)(struct fl_source *self, const char *key, struct fl_error *err);
};
struct fl_source {
    const struct fl_source_ops *ops;
};
void fl_fetch_result_finish(struct fl_fetch_result *result); /* gives the snapshot back */

/* Folders of the machine that `dir://` may name; none: it may not be used. */
struct fl_source_options {
    const struct fl_env *env;
    const char *data_dir; /* bare repositories are kept below it … */
    const char *folder;   /* … in this folder; NULL: "git". Two sources have two */
    const char *const *directories;
    size_t directory_count;
    fl_source_changed_fn *changed;
    void *user;
};
int fl_source_dir_create(const struct fl_source_options *options, struct fl_source **ret_source,
                         struct fl_error *err);
int fl_source_git_create(const struct fl_source_options *options, struct fl_source **ret_source,
                         struct fl_error *err);
/* `dir://` goes to the first, the rest to the second; owns both. */
struct fl_source *fl_source_create_routed(struct fl_source *dir, struct fl_source *git);

#endif
