/* What the parts of the registry share. Loop thread, where nothing else is said. */
#ifndef FL_CONTROLLER_REGISTRY_INTERNAL_H
#define FL_CONTROLLER_REGISTRY_INTERNAL_H

#include "controller/registry/index.h"
#include "controller/registry/path.h"
#include "controller/registry/registry.h"
#include "lib/map.h"
#include "lib/thread.h"

#include <sys/queue.h>

#define FL_REPOS_UPLOAD_TOTAL_MS (INT64_C(24) * 60 * 60 * 1000)

struct fl_repos_job;
struct fl_repos_upload;
TAILQ_HEAD(fl_repos_jobs, fl_repos_job);
TAILQ_HEAD(fl_repos_uploads, fl_repos_upload);

struct fl_repositories {
    const struct fl_env *env;
    struct fl_contents *contents;
    struct fl_blobs *blobs; /* the contents' */
    struct fl_repos_index *index;
    int64_t grace_ms, upload_idle_ms;
    size_t max_uploads;

    struct fl_repos_uploads uploads; /* that can be gone on with */
    struct fl_timer *expiry;         /* while there are some */
    struct fl_repos_jobs jobs;       /* first those that run, then those that wait */
    size_t running;

    struct fl_map *unneeded; /* key -> struct fl_repos_unneeded; of fl_repositories_collect */
};

/* One request, as far as it was understood. In its arena. */
struct fl_repos_call {
    struct fl_repositories *repositories;
    struct fl_raw_request *raw;
    struct fl_http_request *http;
    struct fl_arena *arena;
    struct fl_repos_path path;
};

/* How the specification calls what is not there, or not as it must be, in one place of the API. */
struct fl_repos_words {
    const char *unknown, *invalid;
};
extern const struct fl_repos_words fl_repos_blob_words, fl_repos_upload_words,
    fl_repos_manifest_words, fl_repos_push_words, fl_repos_name_words;

/* answer.c. Each ends the raw request. */
json_t *fl_repos_word(void *user, const struct fl_error *err);
void fl_repos_refuse(struct fl_raw_request *raw, const struct fl_error *err,
                     const struct fl_repos_words *words);
void fl_repos_refuse_method(struct fl_raw_request *raw, const char *allowed);
void fl_repos_answer(struct fl_raw_request *raw, int status);
void fl_repos_answer_json(struct fl_raw_request *raw, const char *media_type, const json_t *value);

/* jobs.c: what waits for the disk, in a thread of its own. `work` sets `result`; after it the loop
 * calls `answer` where it succeeded and somebody waits for it. */
struct fl_repos_job {
    TAILQ_ENTRY(fl_repos_job) link;
    struct fl_repositories *repositories;
    struct fl_loop *loop;
    struct fl_raw_request *raw; /* NULL: its client is gone */
    struct fl_arena *arena;     /* its own */
    const struct fl_repos_words *words;
    void (*work)(struct fl_repos_job *job);
    void (*answer)(struct fl_repos_job *job);
    struct fl_error result;
    struct fl_thread *thread;
    bool orphan; /* the registry is closed: the loop frees it when it hears of the end */

    /* What the work is about; texts in the job's arena. */
    const char *repository, *reference, *digest, *media_type;
    const char *subject;           /* of a manifest that was put */
    struct fl_blob_writer *writer; /* of an upload that ends */
    struct fl_bytes *body;         /* of a manifest */
};
/* With copies of the path's texts. */
struct fl_repos_job *fl_repos_job_new(const struct fl_repos_call *call,
                                      const struct fl_repos_words *words);
void fl_repos_job_start(struct fl_repos_job *job);
void fl_repos_jobs_end(struct fl_repositories *repositories); /* nobody is answered */

/* uploads.c, transfer.c */
void fl_repos_upload_begin(struct fl_repos_call *call);
void fl_repos_upload_serve(struct fl_repos_call *call);  /* …/uploads/ID */
void fl_repos_uploads_serve(struct fl_repos_call *call); /* …/uploads/ */
void fl_repos_uploads_end(struct fl_repositories *repositories);

/* The rest of the routes. */
void fl_repos_blob_serve(struct fl_repos_call *call);
bool fl_repos_mount(struct fl_repos_call *call); /* false: nothing was answered */
void fl_repos_manifest_begin(struct fl_repos_call *call);
void fl_repos_manifest_serve(struct fl_repos_call *call);
void fl_repos_tags_serve(struct fl_repos_call *call);
void fl_repos_catalog_serve(struct fl_repos_call *call);
void fl_repos_referrers_serve(struct fl_repos_call *call);

bool fl_repos_is(const struct fl_repos_call *call, const char *method);
bool fl_repos_reads(const struct fl_repos_call *call); /* GET or HEAD */

#endif
