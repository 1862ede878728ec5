/* One commit of a repository as a folder on disk: what images are built from.
 *
 * Fetched and written by a child process (see git_internal.h), into a folder that is empty or not
 * there. All files of the request's path come, with their executable bits and links as they are
 * (links are never followed); `exclude` is obeyed. Refused by name: submodules, which are not
 * fetched, and what passes the bounds. The bare repository in `dir` is kept, so that the next
 * commit is fetched fast. */
#ifndef FL_CONTROLLER_CHECKOUT_H
#define FL_CONTROLLER_CHECKOUT_H

#include "controller/source/source.h"

#define FL_CHECKOUT_FILES_MAX 100000
#define FL_CHECKOUT_BYTES_MAX ((int64_t)2 * 1024 * 1024 * 1024)

struct fl_run_cancel;

struct fl_checkout {
    const struct fl_source_request *request;
    const char *dir;              /* kept; made where it is not there; one checkout at a time */
    const char *data_dir;         /* as fl_source_options' */
    const char *folder;           /* absolute; receives the files */
    struct fl_run_cancel *cancel; /* may be NULL */
};
struct fl_checked_out {
    const char *revision; /* "main@sha1:COMMIT" */
    const char *commit;   /* its digits */
    int64_t committed_s;  /* when the committer says it was made; since 1970 */
    const char *signer;   /* NULL: not verified */
    const char *reason;   /* of a failure, as in fl_fetch_result; NULL */
};
/* Blocks, at most for the request's time-out. Texts are in the arena, those of failures too. */
int fl_git_checkout(const struct fl_checkout *checkout, struct fl_arena *arena,
                    struct fl_checked_out *ret_out, struct fl_error *err);

#endif
