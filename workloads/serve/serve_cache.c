/* Models that were fetched, kept on disk: who is started again serves at once, also while nobody
 * can be asked for the model. */
#include "lib/blobs.h"
#include "lib/log.h"
#include "workloads/serve/serve_internal.h"

#include <stdlib.h>

#define MODELS_MAX 2 /* the present one and the one before */

/* References are the loop's thread's; the folder itself is any thread's. */
struct fl_serve_cache {
    int refs;
    struct fl_blobs *blobs;
};

struct fl_serve_cache *fl_serve_cache_open(const struct fl_env *env, const char *folder)
{
    const struct fl_blobs_options options = {.env = env, .path = folder, .max_count = MODELS_MAX};
    struct fl_serve_cache *cache = fl_calloc(1, sizeof(*cache));
    struct fl_error err = {0};

    cache->refs = 1;
    if (fl_blobs_open(&options, &cache->blobs, &err) == 0)
        return cache;
    fl_log_warn(env->log, "models are not kept", FL_STR("folder", folder),
                FL_STR("error", err.msg));
    free(cache);
    return NULL;
}

struct fl_serve_cache *fl_serve_cache_ref(struct fl_serve_cache *cache)
{
    if (cache)
        cache->refs++;
    return cache;
}

void fl_serve_cache_unref(struct fl_serve_cache *cache)
{
    if (!cache || --cache->refs > 0)
        return;
    fl_blobs_close(cache->blobs);
    free(cache);
}

int fl_serve_cache_load(struct fl_serve_cache *cache, const struct fl_servable_options *options,
                        struct fl_servable **ret_servable, struct fl_error *err)
{
    struct fl_blob_map map;
    int r = fl_blobs_map(cache->blobs, options->expected_digest, &map, err);

    if (r < 0)
        return r;
    r = fl_servable_load(options, map.data, map.size, ret_servable, err);
    fl_blob_unmap(&map);
    if (r < 0) /* a disk forgets */
        (void)fl_blobs_remove(cache->blobs, options->expected_digest, NULL);
    return r;
}

int fl_serve_cache_keep(struct fl_serve_cache *cache, const struct fl_bytes *model,
                        struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];

    return fl_blobs_put(cache->blobs, model->data, model->len, false, digest, err);
}
