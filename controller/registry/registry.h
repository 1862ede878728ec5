/* A registry: images, models and artifacts by name, in the one content store.
 *
 * Clients push and pull by the OCI distribution API (distribution-spec 1.1), which the API server
 * serves at /v2/ (fl_repositories_raw): skopeo, buildah, podman, containerd and our own. Content is
 * the content store's; what is remembered here, in one SQLite file, is which repository has which
 * blobs and manifests, what names what, and the tags. A blob is seen through the repositories that
 * have it, and through no other.
 *
 *   - What was acknowledged is on disk. A manifest is taken when all that it names is here (its
 *     subject may be missing); a tag moves at once, or not. An upload that nobody goes on with ends
 *     after a while; one that broke off goes on from where it was, as long as this process lives.
 *   - Nothing that a manifest names can be deleted while the manifest is there.
 *   - What no tag, no object (fl_marks) and nothing that is kept leads to, and nobody used for the
 *     grace time, is forgotten by fl_repositories_collect. Rows go first, content later by the
 *     sweep of the content store: nobody finds a manifest whose blobs are gone.
 *
 * Rights are for paths (nonResourceURLs; the cluster roles flops:image-reader and
 * flops:image-writer have all of /v2/), tokens come as passwords, too. What costs waiting for the
 * disk is done by threads of its own; everything else is the loop's. */
#ifndef FL_CONTROLLER_REGISTRY_H
#define FL_CONTROLLER_REGISTRY_H

#include "controller/apiserver/raw.h"
#include "controller/content/content.h"

struct fl_repositories;

struct fl_repositories_options {
    const struct fl_env *env;
    struct fl_contents *contents; /* lent */
    const char *path;             /* of the file; made where it is not there */
    int64_t grace_ms;             /* 0: 24 h, which is also what an upload may last */
    int64_t upload_idle_ms;       /* after which an upload is given up; 0: 1 h */
    size_t max_uploads;           /* at once; 0: 256 */
};

#define FL_REPOSITORIES_PREFIX "/v2/"

int fl_repositories_open(const struct fl_repositories_options *options,
                         struct fl_repositories **ret_repositories, struct fl_error *err);
/* Nobody is served any more: the API server has hung up. Waits for what is being written. */
void fl_repositories_close(struct fl_repositories *repositories);
FL_DEFINE_CLEANUP(struct fl_repositories, fl_repositories_close)

struct fl_apiserver_raw fl_repositories_raw(struct fl_repositories *repositories);

/* `marks` says what objects name. Forgets what is not needed any more, and marks all that stays.
 * Any thread but the loop's; where it fails, the content store must not be swept. */
struct fl_forgotten {
    size_t manifests, blobs, repositories;
};
int fl_repositories_collect(struct fl_repositories *repositories, struct fl_marks *marks,
                            struct fl_forgotten *ret_forgotten, struct fl_error *err);

#endif
