/* From the user's Git link to the images that services run: the part of a project's decision that
 * is about code.
 *
 * The commit that a ref leads to is asked for once. Then it stands in an ImageBuild of the
 * project's, with the digest of the words that led to it, and is asked for anew only where those
 * words change: a branch that moves on moves nothing here. An ImageBuild's name follows from
 * commit and settings. Until the one that is wanted is built, services stay with the image that
 * they have. One without a builder's need (builtin, image) has no ImageBuild.
 *
 * Pure; everything is in the arena or lent by the input. Any thread. */
#ifndef FL_RECONCILERS_FLPROJECT_CODE_H
#define FL_RECONCILERS_FLPROJECT_CODE_H

#include "api/gen/flops_types.h"

/* Annotations of a learner's ImageBuild. */
#define FL_FLPROJECT_REQUEST "flops.dev/source" /* digest of what its commit was found by */
#define FL_FLPROJECT_SIGNER  "flops.dev/signer" /* who signed it, where that was asked for */

/* What the source says of fl_flproject_request's words. */
enum fl_flproject_fetch {
    FL_FLPROJECT_FETCH_NONE = 0, /* nobody has asked */
    FL_FLPROJECT_FETCH_RUNNING,
    FL_FLPROJECT_FETCH_DONE,
    FL_FLPROJECT_FETCH_FAILED,
};
struct fl_flproject_fetched {
    enum fl_flproject_fetch state;
    const char *commit, *signer;  /* DONE; signer may be NULL */
    const char *reason, *message; /* FAILED */
    bool final;                   /* FAILED: to ask again is of no use */
    int64_t asked_ms;             /* FAILED: when; monotonic */
};

struct fl_flproject_code_input {
    const json_t *json; /* the project */
    const struct fl_project *project;
    const struct fl_flproject_fetched *fetched;
    struct fl_imagebuild *const *builds; /* children */
    size_t build_count;
    struct fl_workload *const *workloads; /* children, for the images they have */
    size_t workload_count;
};

struct fl_flproject_code_build {
    const char *role;                    /* of the child; NULL: none is wanted (yet) */
    struct fl_imagebuild *make;          /* to be made; NULL: it is there */
    const struct fl_imagebuild *current; /* NULL: not there */
};

struct fl_flproject_code {
    bool is_needed; /* source.git: what follows counts */
    bool ask;       /* the commit is to be asked for */
    const char *commit, *ref, *signer;
    struct fl_flproject_code_build learner, aggregator, server; /* the last with spec.serve */
    /* "NAME@sha256:…" to run; NULL: none yet, or none is needed. */
    const char *learner_image, *aggregator_image, *server_image;
    bool is_current; /* those of learners and aggregators are the wanted ones, not those before */
};

/* Hex digest of the words that a commit is found by: url, ref, path, verify. NULL: no source.git.
 */
const char *fl_flproject_request(const struct fl_project *project, const json_t *json,
                                 struct fl_arena *arena);

void fl_flproject_code(const struct fl_flproject_code_input *input, struct fl_arena *arena,
                       struct fl_flproject_code *ret_code);

/* "NAME@DIGEST" of one that is done; NULL: it is not. */
const char *fl_flproject_built(const struct fl_imagebuild *build, struct fl_arena *arena);

#endif
