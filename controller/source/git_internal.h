/* The parts of the Git source among themselves.
 *
 * libgit2 1.5 blocks without time-outs and reads what strangers send, so nothing of it runs in the
 * control plane: a child process (`flops git-fetch`, this program again) gets a request as JSON on
 * its standard input, fetches into a bare repository that is kept, checks the signature, and leaves
 * the chosen files as one file beside it, the snapshot; its answer is one line of JSON. The parent
 * reads the snapshot, which is also what it begins with after a restart. */
#ifndef FL_CONTROLLER_GIT_INTERNAL_H
#define FL_CONTROLLER_GIT_INTERNAL_H

#include "controller/source/git.h"
#include "controller/source/source.h"
#include "lib/json.h"

#define FL_GIT_KEY_MAX     128
#define FL_GIT_REQUEST_MAX ((size_t)1024 * 1024)
#define FL_GIT_ANSWER_MAX  ((size_t)64 * 1024)
/* A repository with more than this has to be made smaller, or its manifests moved. */
#define FL_GIT_PACK_BYTES_MAX   ((size_t)1024 * 1024 * 1024)
#define FL_GIT_MEMORY_BYTES_MAX ((size_t)2 * 1024 * 1024 * 1024)

/* git_request.c: the request between the two processes. */
struct fl_git_request {
    struct fl_source_request source;
    const char *dir;      /* of this key: `repository`, `snapshot`, `home` are kept in it */
    const char *data_dir; /* no file:// URL may lead into it; NULL: none is kept */
    const char *checkout; /* the folder that gets all files, in place of a snapshot; NULL */
};
json_t *fl_git_request_encode(const struct fl_git_request *request);
void fl_git_request_wipe(json_t *value); /* overwrites the credentials in it */
/* Texts are of `value`, which must outlive the request; arrays are in the arena. */
int fl_git_request_decode(const json_t *value, struct fl_arena *arena,
                          struct fl_git_request *ret_request, struct fl_error *err);
/* What decides about a snapshot, credentials left out: hex. */
char *fl_git_request_digest(const struct fl_source_request *request, struct fl_arena *arena);

/* git_child.c: the child with one request, to its end. *ret_result is what it left, to be finished
 * in any case; where it gave no answer that is UNAVAILABLE (a signal) or INTERNAL. */
struct fl_run_cancel;
struct fl_run_result;
int fl_git_child_run(const struct fl_bytes *request, int64_t timeout_ms,
                     struct fl_run_cancel *cancel, json_t **ret_answer,
                     struct fl_run_result *ret_result, struct fl_error *err);

/* git_url.c */
enum fl_git_scheme { FL_GIT_HTTPS, FL_GIT_HTTP, FL_GIT_SSH, FL_GIT_PLAIN, FL_GIT_FILE };
struct fl_git_url {
    enum fl_git_scheme scheme;
    const char *user; /* NULL: none */
    const char *host; /* "" of a file */
    const char *path; /* of a file, decoded */
};
int fl_git_url_parse(const char *text, struct fl_arena *arena, struct fl_git_url *ret_url,
                     struct fl_error *err);
bool fl_git_url_is_loopback(const struct fl_git_url *url);
/* All that can be said against a request without asking the remote. */
int fl_git_request_check(const struct fl_git_request *request, struct fl_arena *arena,
                         struct fl_git_url *ret_url, struct fl_error *err);

/* git_snapshot.c: the file that is handed over: a line of JSON that tells revision, signer, digest
 * of the request and the files' paths and sizes, then their content one after the other. */
int fl_git_snapshot_write(const char *dir, const struct fl_snapshot *snapshot, const char *digest,
                          struct fl_error *err);
/* NOT_FOUND where there is none for this digest. Checks all it says; paths and sizes keep within
 * the bounds of source.h. The snapshot shares the bytes. */
int fl_git_snapshot_decode(struct fl_bytes *bytes, const char *digest,
                           struct fl_snapshot **ret_snapshot, struct fl_error *err);
int fl_git_snapshot_read(const char *dir, const char *digest, struct fl_snapshot **ret_snapshot,
                         struct fl_error *err);

/* git_tree.c: the files of a commit that a request chooses, into the snapshot's arena. */
struct git_repository;
struct git_commit;
struct git_tree;
int fl_git_tree_read(struct git_repository *repository, const struct git_commit *commit,
                     const struct fl_source_request *request, struct fl_snapshot *snapshot,
                     struct fl_error *err);

/* The folder of the commit that the request names; its path normalised: "" is the root. `revision`
 * is for people. */
int fl_git_tree_find(struct git_repository *repository, const struct git_commit *commit,
                     const struct fl_source_request *request, const char *revision,
                     struct fl_arena *arena, const char **ret_path, struct git_tree **ret_tree,
                     struct fl_error *err);
/* git_checkout.c: all files of it, onto the disk. */
int fl_git_tree_check_out(struct git_repository *repository, const struct git_commit *commit,
                          const struct fl_source_request *request, const char *revision,
                          const char *folder, struct fl_error *err);

/* git_remote.c: gets the commit that a request names into the repository. The caller frees it. */
struct fl_git_found {
    struct git_commit *commit;
    struct git_object *tag; /* an annotated one that was peeled, or NULL */
    const char *revision;   /* in the arena */
    bool missing;           /* of a failure: the remote answered, and has no such revision */
};
int fl_git_remote_fetch(struct git_repository *repository, const struct fl_git_request *request,
                        const struct fl_git_url *url, struct fl_arena *arena,
                        struct fl_git_found *ret_found, struct fl_error *err);
/* The error that libgit2 has just told, as ours; without what is secret in the request. */
int fl_git_error(const struct fl_source_request *request, int code, struct fl_error *err,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* git_tls.c: libgit2's https from now on. `ca_path` NULL: the machine's authorities. */
int fl_git_tls_set_up(const char *ca_path, struct fl_error *err);
void fl_git_tls_finish(void);

#endif
