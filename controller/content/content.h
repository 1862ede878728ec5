/* The control plane's content store: models and what else objects name by SHA-256.
 *
 * A folder of content by digest (lib/blobs.h), which whoever transfers content puts into and gets
 * from; what does not fit into its bound is refused, nothing goes by itself. What objects refer to
 * is told from outside, by whoever can list them (fl_marks), again and again; what nobody has
 * referred to, nor used, for the grace time is removed. So content may come before its object, and
 * nothing must be told when an object goes. What is referred to is not remembered over a restart,
 * and the grace time begins anew with it: content that was marked never goes for want of a mark.
 *
 * Served by the API server at /content/v1/ (fl_contents_raw), RBAC by nonResourceURLs (the cluster
 * roles flops:content-reader and flops:content-writer have them):
 *
 *   GET, HEAD /content/v1/blobs/sha256:…  with Range, If-None-Match
 *   PUT       /content/v1/blobs/sha256:…  201 once it is whole and on disk; 200: it was there
 *   GET       /content/v1/blobs           {"items":[{"digest","size","references":[…]}],…}
 *
 * Any thread, but for what raw does: the loop's. */
#ifndef FL_CONTROLLER_CONTENT_H
#define FL_CONTROLLER_CONTENT_H

#include "controller/apiserver/raw.h"
#include "lib/blobs.h"
#include "lib/json.h"

struct fl_contents;

struct fl_contents_options {
    const struct fl_env *env;
    const char *path;  /* made where it is not there */
    int64_t max_bytes; /* 0: no bound */
    int64_t grace_ms;  /* 0: 1 h */
};

#define FL_CONTENTS_PREFIX "/content/v1/"
#define FL_CONTENTS_BLOBS  FL_CONTENTS_PREFIX "blobs"

int fl_contents_open(const struct fl_contents_options *options, struct fl_contents **ret_contents,
                     struct fl_error *err);
/* Nobody is served any more: the API server has hung up. Waits for uploads that are being synced.
 */
void fl_contents_close(struct fl_contents *contents);
FL_DEFINE_CLEANUP(struct fl_contents, fl_contents_close)

/* Lent: putting and getting. */
struct fl_blobs *fl_contents_blobs(struct fl_contents *contents);
/* Bytes that may still be put; INT64_MAX where there is no bound. */
int64_t fl_contents_room(struct fl_contents *contents);
struct fl_apiserver_raw fl_contents_raw(struct fl_contents *contents);

/* Marks: who refers to what, as of one moment. One thread. */
struct fl_marks;
struct fl_marks *fl_marks_create(void);
void fl_marks_destroy(struct fl_marks *marks);
FL_DEFINE_CLEANUP(struct fl_marks, fl_marks_destroy)
/* `who`: for people: "ModelVersion default/mnist-model-3". What is no digest is nothing. */
void fl_marks_add(struct fl_marks *marks, const char *digest, const char *who);
/* Every text in it that is a digest, or ends in one after '@'. */
void fl_marks_add_object(struct fl_marks *marks, const json_t *object);

bool fl_marks_have(const struct fl_marks *marks, const char *digest);

/* Takes the marks, which say all that there is, and removes what has had none, and was not used,
 * for the grace time. Content that cannot be removed now is tried the next time. */
struct fl_swept {
    size_t removed, waiting; /* waiting: unmarked, and within the grace time */
    int64_t removed_bytes;
};
struct fl_swept fl_contents_sweep(struct fl_contents *contents, struct fl_marks *marks);
/* Who refers to it, as the last sweep was told; NULL-ended, in the arena. */
const char **fl_contents_references(struct fl_contents *contents, const char *digest,
                                    struct fl_arena *arena);

#endif
