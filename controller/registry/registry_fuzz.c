/* What strangers write into paths, queries and headers of a registry. */
#include "controller/registry/path.h"

#include "lib/oci/reference.h"
#include "lib/str.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A repository is a name by the grammar, and stands in the path as it is. */
static void try_path(struct fl_arena *arena, const char *text)
{
    struct fl_repos_path path = {0};

    if (fl_repos_path_parse(arena, text, &path, NULL) < 0)
        return;
    if (path.route < FL_REPOS_BASE || path.route > FL_REPOS_REFERRERS)
        abort();
    if (!path.repository)
        return;
    if (!fl_oci_repository_is_valid(path.repository) ||
        strncmp(text + strlen("/v2/"), path.repository, strlen(path.repository)) != 0 ||
        strstr(path.repository, ".."))
        abort();
}

static void try_range(const char *text)
{
    int64_t first = -1, last = -1;

    if (fl_repos_range_parse(text, &first, &last) &&
        (first < 0 || last < first || last == INT64_MAX))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text = fl_arena_strndup(arena, (const char *)data, size);

    try_path(arena, text);
    try_path(arena, fl_arena_printf(arena, "/v2/%s", text));
    try_range(text);
    (void)fl_repos_param(arena, text, "digest");
    (void)fl_repos_accepts(text, "application/vnd.oci.image.index.v1+json");
    return 0;
}
