/* Uploads as sessions (uploads.c), and the requests that bring their data (transfer.c). Loop
 * thread.
 */
#ifndef FL_CONTROLLER_REGISTRY_UPLOADS_H
#define FL_CONTROLLER_REGISTRY_UPLOADS_H

#include "controller/registry/internal.h"

/* A request that brings data. In its arena. */
struct fl_repos_transfer {
    struct fl_repos_call call;
    struct fl_repos_upload *upload; /* NULL: it is refused */
    int64_t left;                   /* bytes that are still to come; < 0: nobody said */
    int64_t granted;                /* bytes that may come before room is looked for again */
    bool out_of_order;              /* refused for that: told where to go on */
    const struct fl_repos_words *words;
    struct fl_error refusal;
};

struct fl_repos_upload {
    TAILQ_ENTRY(fl_repos_upload) link;
    struct fl_repositories *repositories;
    char id[FL_UUID_SIZE];
    char *repository;
    struct fl_blob_writer *writer;
    struct fl_repos_transfer *transfer; /* that brings data now, or NULL */
    int64_t started_ms, used_ms;
    bool single; /* of one request, which tells nobody where it could go on */
};

/* TOO_MANY_REQUESTS; NOT_FOUND. */
int fl_repos_upload_create(const struct fl_repos_call *call, struct fl_repos_upload **ret_upload,
                           struct fl_error *err);
int fl_repos_upload_find(const struct fl_repos_call *call, struct fl_repos_upload **ret_upload,
                         struct fl_error *err);
void fl_repos_upload_destroy(struct fl_repos_upload *upload); /* nobody brings data */
/* Headers: where to go on, and how far it came. */
void fl_repos_upload_describe(const struct fl_repos_upload *upload,
                              const struct fl_repos_call *call);
/* Bytes that may still be put, beside what uploads have on the disk already. */
int64_t fl_repos_upload_room(const struct fl_repositories *repositories);

bool fl_repos_transfer_is_one(const struct fl_repos_call *call); /* whether it brings data */
void fl_repos_transfer_serve(struct fl_repos_call *call);        /* all of it is here */
/* The request is not let near its upload any more; its next bytes find that out. */
void fl_repos_transfer_part(struct fl_repos_transfer *transfer);

#endif
