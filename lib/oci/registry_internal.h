/* What the files of the registry client have in common: a call with its deadline, and one request
 * of it with all that may happen to it. */
#ifndef FL_LIB_OCI_REGISTRY_INTERNAL_H
#define FL_LIB_OCI_REGISTRY_INTERNAL_H

#include "lib/http_client.h"
#include "lib/oci/registry.h"
#include "lib/oci/registry_parse.h"
#include "lib/thread.h"

#define FL_REGISTRY_TOKENS_MAX  16
#define FL_REGISTRY_HEADERS_MAX 8
#define FL_REGISTRY_PAGES_MAX   256

struct fl_registry_cached_token {
    char *scope, *text; /* NULL: unused */
    int64_t until_ms;
};

struct fl_registry {
    const struct fl_env *env;
    struct fl_arena *arena; /* of what lasts as long as the registry; no secrets */
    const char *name;       /* "host:port", for messages */
    struct fl_registry_url base;
    struct fl_http_client_options http; /* for its own host */
    struct fl_http_client *own, *other;
    char other_origin[320]; /* where `other` leads */
    char *username, *password, *bearer;
    const char *token_host;
    bool wants_basic; /* it has asked for it */
    struct fl_registry_cached_token tokens[FL_REGISTRY_TOKENS_MAX];
    size_t next_token;
    int64_t total_ms, quiet_ms, chunk_bytes, backoff_ms;
    unsigned tries;
    struct fl_lock *lock; /* for waiting only */
    struct fl_signal *wake;
};

/* One call of registry.h. */
struct fl_registry_job {
    struct fl_registry *registry;
    struct fl_arena *arena; /* ends with the call */
    int64_t until_ms;
    const struct fl_registry_progress *progress; /* may be NULL */
    const char *what;
    int64_t done, total, sending; /* of the request under way: sent so far */
    bool broken_off;
};
struct fl_registry_job fl_registry_begin(struct fl_registry *registry,
                                         const struct fl_registry_progress *progress,
                                         struct fl_arena *arena);
/* Tells how far it is; false: break off. */
bool fl_registry_tell(struct fl_registry_job *job);

struct fl_registry_request {
    const char *method;
    struct fl_registry_url url;
    const char *scope; /* of the token: "repository:NAME:pull" */
    const char *headers[FL_REGISTRY_HEADERS_MAX];
    size_t header_count;
    const void *body;
    size_t body_len;
    bool from_file; /* instead of body */
    int file;
    int64_t file_offset;
    bool counted; /* what is sent counts as progress */
    bool once;    /* a failure is the caller's to mend */
    fl_http_headers_fn *begin;
    fl_http_piece_fn *piece;
    void *user;
};

struct fl_registry_answer {
    int status;
    struct fl_bytes *body;
    char *headers;
    struct fl_registry_url url; /* what was asked in the end, after redirects */
};
void fl_registry_answer_finish(struct fl_registry_answer *answer);

/* Asks, with credentials as they are needed, redirects and tries. Any status that will not change
 * by itself is a success here. *ret_answer must be empty, and is the caller's also after a failure
 * (where it may hold a status). */
int fl_registry_ask(struct fl_registry_job *job, const struct fl_registry_request *request,
                    struct fl_registry_answer *ret_answer, struct fl_error *err);
/* The error for an answer that is not what was hoped for. */
int fl_registry_refused(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                        struct fl_error *err);
/* Waits before try number `failures` + 1, at least `hint_ms`; TIMEOUT, with the words of `failed`,
 * where the deadline comes first. */
int fl_registry_wait(struct fl_registry_job *job, unsigned failures, int64_t hint_ms,
                     const struct fl_error *failed, struct fl_error *err);
/* How long an answer (of any status) asks to wait. */
int64_t fl_registry_hint_ms(const struct fl_registry_job *job,
                            const struct fl_registry_answer *answer);
/* Whether a failure may be gone the next time. */
bool fl_registry_may_pass(const struct fl_registry_job *job, int code);
bool fl_registry_status_may_pass(int status);
int64_t fl_registry_left_ms(const struct fl_registry_job *job);

/* One exchange with one host, nothing more. */
int fl_registry_exchange(struct fl_registry_job *job, const struct fl_registry_request *request,
                         const char *authorization, struct fl_registry_answer *ret_answer,
                         struct fl_error *err);

/* Credentials: the Authorization header for a scope, or NULL: none is known. In the job's arena. */
const char *fl_registry_authorization(struct fl_registry_job *job, const char *scope);
/* Learns from a 401 what to send instead. UNAUTHORIZED where that is nothing. */
int fl_registry_learn(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                      const char *scope, struct fl_error *err);
void fl_registry_forget_tokens(struct fl_registry *registry);

/* Requests. */
struct fl_registry_request fl_registry_request_for(struct fl_registry_job *job, const char *method,
                                                   const char *target, const char *scope);
void fl_registry_add_header(struct fl_registry_request *request, const char *header);
const char *fl_registry_scope(struct fl_registry_job *job, const char *repository,
                              const char *actions);
/* A header's value in the job's arena; NULL: absent, or too long. */
const char *fl_registry_header(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                               const char *name);

/* A document (of any kind) with its own digest computed. `reference`: tag or digest. */
struct fl_registry_document {
    const char *media_type; /* NULL: not said */
    struct fl_bytes *text;  /* the caller's */
    char digest[FL_DIGEST_SIZE];
};
int fl_registry_get_manifest(struct fl_registry_job *job, const char *repository,
                             const char *reference, struct fl_registry_document *ret_document,
                             struct fl_error *err);
int fl_registry_put_manifest(struct fl_registry_job *job, const char *repository,
                             const char *reference, const char *media_type,
                             const struct fl_bytes *text, bool *ret_knows_subject,
                             struct fl_error *err);
/* > 0: it is there. `kind` "blobs" or "manifests". */
int fl_registry_is_there(struct fl_registry_job *job, const char *repository, const char *kind,
                         const char *digest, const char *scope, struct fl_error *err);

/* A list that comes in pages: `page` gets each (status 200). */
typedef int fl_registry_page_fn(void *user, struct fl_registry_job *job,
                                const struct fl_registry_answer *answer, struct fl_error *err);
int fl_registry_pages(struct fl_registry_job *job, struct fl_registry_request *request,
                      fl_registry_page_fn *page, void *user, struct fl_error *err);

/* Where content comes from that is pushed. */
struct fl_registry_source {
    fl_oci_load_fn *load; /* documents */
    /* A blob of which the registry has nothing; the caller closes the file and calls `close`. */
    int (*open)(void *user, const struct fl_oci_descriptor *blob, int *ret_file,
                struct fl_error *err);
    void (*close)(void *user, const struct fl_oci_descriptor *blob);   /* may be NULL */
    void (*skipped)(void *user, const struct fl_oci_descriptor *part); /* may be NULL */
    void *user;
};
struct fl_registry_target {
    const char *repository, *from;
    const char *const *tags;
    size_t tag_count;
};
int fl_registry_push_from(struct fl_registry_job *job, const struct fl_registry_source *source,
                          const struct fl_oci_descriptor *root,
                          const struct fl_registry_target *target,
                          struct fl_registry_pushed *ret_pushed, struct fl_error *err);

/* One blob. */
struct fl_registry_upload {
    const char *repository, *from; /* from: NULL: no mount */
    struct fl_oci_descriptor blob;
    const struct fl_registry_source *source;
};
/* > 0: it was mounted. */
int fl_registry_send_blob(struct fl_registry_job *job, const struct fl_registry_upload *upload,
                          struct fl_error *err);
/* One blob into `blobs`, with one pin. */
int fl_registry_fetch_blob(struct fl_registry_job *job, const char *repository,
                           const struct fl_oci_descriptor *blob, struct fl_blobs *blobs,
                           struct fl_error *err);
/* Adds a pushed manifest to the tag that lists who refers to its subject. */
int fl_registry_add_referrer(struct fl_registry_job *job, const char *repository,
                             const struct fl_oci_descriptor *descriptor,
                             const struct fl_oci_manifest *manifest, struct fl_error *err);

#endif
