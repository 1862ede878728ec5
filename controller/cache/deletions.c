#include "controller/cache/cache_internal.h"

#include <assert.h>
#include <stdlib.h>

#define DELETIONS_MAX 1024

void fl_cache_deletions_init(struct fl_cache_deletions *deletions)
{
    *deletions = (struct fl_cache_deletions){.revisions = fl_map_create(free)};
}

void fl_cache_deletions_finish(struct fl_cache_deletions *deletions)
{
    fl_map_destroy(FL_TAKE(deletions->revisions));
}

static void raise_floor(struct fl_cache_deletions *deletions, uint64_t revision)
{
    if (deletions->floor < revision)
        deletions->floor = revision;
}

static void forget_oldest(struct fl_cache_deletions *deletions)
{
    const char *key;
    void *cursor = NULL, *revision;
    bool found = fl_map_next(deletions->revisions, &cursor, &key, &revision);

    assert(found);
    raise_floor(deletions, *(uint64_t *)revision);
    (void)fl_map_remove(deletions->revisions, key);
}

void fl_cache_deletions_note(struct fl_cache_deletions *deletions, const char *ns, const char *name,
                             uint64_t revision)
{
    FL_CLEANUP(fl_freep) char *key = fl_asprintf("%s/%s", ns, name);
    uint64_t *kept = fl_malloc(sizeof(*kept));

    *kept = revision;
    (void)fl_map_remove(deletions->revisions, key); /* so that it comes last */
    fl_map_put(deletions->revisions, key, kept);
    if (fl_map_count(deletions->revisions) > DELETIONS_MAX)
        forget_oldest(deletions);
}

void fl_cache_deletions_listed(struct fl_cache_deletions *deletions, uint64_t revision)
{
    const char *key;
    void *cursor = NULL, *value;

    raise_floor(deletions, revision);
    while (fl_map_next(deletions->revisions, &cursor, &key, &value))
        if (*(uint64_t *)value <= deletions->floor)
            (void)fl_map_remove(deletions->revisions, key);
}

uint64_t fl_cache_deletions_known(const struct fl_cache_deletions *deletions, const char *ns,
                                  const char *name)
{
    FL_CLEANUP(fl_freep) char *key = NULL;
    const uint64_t *revision;

    if (fl_map_count(deletions->revisions) == 0)
        return deletions->floor;
    key = fl_asprintf("%s/%s", ns, name);
    revision = fl_map_get(deletions->revisions, key);
    return revision && *revision > deletions->floor ? *revision : deletions->floor;
}
