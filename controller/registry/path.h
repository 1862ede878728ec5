/* What requests to a registry say in their path, query and headers. Pure functions; any thread. */
#ifndef FL_CONTROLLER_REGISTRY_PATH_H
#define FL_CONTROLLER_REGISTRY_PATH_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum fl_repos_route {
    FL_REPOS_BASE = 1,  /* /v2/ */
    FL_REPOS_CATALOG,   /* /v2/_catalog */
    FL_REPOS_TAGS,      /* /v2/NAME/tags/list */
    FL_REPOS_MANIFEST,  /* /v2/NAME/manifests/TAG-OR-DIGEST */
    FL_REPOS_BLOB,      /* /v2/NAME/blobs/DIGEST */
    FL_REPOS_UPLOADS,   /* /v2/NAME/blobs/uploads/ */
    FL_REPOS_UPLOAD,    /* /v2/NAME/blobs/uploads/ID */
    FL_REPOS_REFERRERS, /* /v2/NAME/referrers/DIGEST */
};

struct fl_repos_path {
    enum fl_repos_route route;
    const char *repository; /* valid by the specification's grammar; NULL: the route has none */
    const char *reference;  /* decoded, not checked; NULL: the route has none */
};
/* NOT_FOUND where nothing is served; BAD_REQUEST where the repository's name is none. */
int fl_repos_path_parse(struct fl_arena *arena, const char *path, struct fl_repos_path *ret_path,
                        struct fl_error *err);

/* The first parameter of that name, decoded; NULL: there is none, or it is malformed. */
const char *fl_repos_param(struct fl_arena *arena, const char *query, const char *name);

/* The bytes of a chunk, "first-last" ("bytes first-last/…" is taken as well). */
bool fl_repos_range_parse(const char *header, int64_t *ret_first, int64_t *ret_last);

/* Whether an Accept header (NULL: none) takes this media type. */
bool fl_repos_accepts(const char *header, const char *media_type);

#endif
