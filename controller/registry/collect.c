/* Forgetting what nobody needs. As in the content store, the grace time begins when it is first
 * seen that nothing leads to something, begins anew when that is used, and with each start: so no
 * clock that is set can shorten it. */
#include "controller/registry/internal.h"

#include "lib/log.h"

struct fl_repos_unneeded {
    int64_t since_ms; /* monotonic */
    int64_t used_us;  /* as it was then */
};

struct collection {
    struct fl_repositories *repositories;
    struct fl_marks *marks;
    struct fl_map *used;     /* digest -> struct fl_blob_entry, of all content */
    struct fl_map *unneeded; /* of this time */
    int64_t now_ms;
};

static bool is_named(void *user, const char *digest)
{
    const struct collection *collection = user;

    return fl_marks_have(collection->marks, digest);
}

/* What was needed meanwhile is not in the map of the last time. */
static bool is_due(void *user, const char *key, const char *digest, int64_t time_us)
{
    struct collection *collection = user;
    const struct fl_repos_unneeded *before = fl_map_get(collection->repositories->unneeded, key);
    const struct fl_blob_entry *entry = fl_map_get(collection->used, digest);
    struct fl_repos_unneeded *unneeded = fl_calloc(1, sizeof(*unneeded));

    unneeded->used_us = entry && entry->used_us > time_us ? entry->used_us : time_us;
    unneeded->since_ms =
        before && before->used_us == unneeded->used_us ? before->since_ms : collection->now_ms;
    fl_map_put(collection->unneeded, key, unneeded);
    return collection->now_ms - unneeded->since_ms >= collection->repositories->grace_ms;
}

static void stays(void *user, const char *repository, const char *digest)
{
    struct collection *collection = user;
    char who[300];

    (void)snprintf(who, sizeof(who), "repository %s", repository);
    fl_marks_add(collection->marks, digest, who);
}

static struct fl_map *list_content(struct fl_blobs *blobs, struct fl_arena *arena)
{
    struct fl_map *map = fl_map_create(NULL);
    struct fl_blob_entry *entries;
    size_t count = fl_blobs_list(blobs, arena, &entries);

    for (size_t i = 0; i < count; i++)
        fl_map_put(map, entries[i].digest, &entries[i]);
    return map;
}

int fl_repositories_collect(struct fl_repositories *repositories, struct fl_marks *marks,
                            struct fl_forgotten *ret_forgotten, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_map_destroyp) struct fl_map *used = list_content(repositories->blobs, arena);
    FL_CLEANUP(fl_map_destroyp) struct fl_map *unneeded = fl_map_create(free);
    struct collection collection = {repositories, marks, used, unneeded,
                                    fl_monotonic_ms(repositories->env)};
    const struct fl_repos_judge judge = {is_named, is_due, stays, &collection};
    struct fl_forgotten forgotten = {0};
    int r;

    r = fl_repos_index_forget(repositories->index, &judge, &forgotten.manifests, &forgotten.blobs,
                              &forgotten.repositories, err);
    if (r < 0)
        return fl_error_wrap(err, "registry");
    fl_map_destroy(repositories->unneeded);
    repositories->unneeded = FL_TAKE(unneeded);
    if (forgotten.manifests + forgotten.blobs > 0)
        fl_log_info(repositories->env->log, "the registry forgot what nothing leads to",
                    FL_INT("manifests", (int64_t)forgotten.manifests),
                    FL_INT("blobs", (int64_t)forgotten.blobs));
    *ret_forgotten = forgotten;
    return 0;
}
