/* What an image says of itself. */
#include "reconcilers/imagebuild/compose/compose_internal.h"

#include "reconcilers/imagebuild/compose/program.h"

#include <string.h>
#include <time.h>

/* Documents. */

static const char *time_text(struct fl_arena *arena, int64_t epoch_s)
{
    time_t seconds = (time_t)epoch_s;
    struct tm parts;
    char text[32];

    if (!gmtime_r(&seconds, &parts) ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        return NULL;
    return fl_arena_strdup(arena, text);
}

static void set_command(const struct fl_compose *compose, struct fl_oci_config *config)
{
    static const char *program[] = {"/" FL_PROGRAM_PATH};
    static const char *learner[] = {"learner"}, *aggregator[] = {"aggregator"};
    static const char *serve[] = {"serve", "--model", ("/" FL_IMAGE_MODEL_FILE)};
    static const char *env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"};
    static const char *python_env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
                                       "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"};

    config->entrypoint = (struct fl_oci_texts){program, 1};
    config->env = (struct fl_oci_texts){env, FL_COUNT_OF(env)};
    switch (compose->target) {
    case FL_IMAGEBUILD_TARGET_AGGREGATOR:
        config->cmd = (struct fl_oci_texts){aggregator, 1};
        break;
    case FL_IMAGEBUILD_TARGET_INFERENCE_SERVER:
        config->cmd = (struct fl_oci_texts){serve, compose->model ? FL_COUNT_OF(serve) : 1};
        break;
    default:
        config->cmd = (struct fl_oci_texts){learner, 1};
        config->env = (struct fl_oci_texts){python_env, FL_COUNT_OF(python_env)};
        config->working_folder = "/" FL_IMAGE_CODE_FOLDER;
    }
}

static bool sets(const struct fl_oci_texts *env, const char *entry)
{
    size_t len = strcspn(entry, "=") + 1;

    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], entry, len) == 0)
            return true;
    return false;
}

/* What the base image says stays; what it does not say is as in our own. An entry point of its own
 * is one that knows what to do: else the program is. */
static void put_above(struct fl_arena *arena, const struct fl_oci_config *base,
                      struct fl_oci_config *config)
{
    struct fl_oci_texts env = {
        fl_new_array(arena, const char *, base->env.count + config->env.count + 1), 0};
    struct fl_oci_config above = *base;

    for (size_t i = 0; i < base->env.count; i++)
        env.items[env.count++] = base->env.items[i];
    for (size_t i = 0; i < config->env.count; i++)
        if (!sets(&base->env, config->env.items[i]))
            env.items[env.count++] = config->env.items[i];
    above.env = env;
    above.platform = config->platform;
    above.created = config->created;
    above.diff_ids = config->diff_ids;
    above.history = config->history;
    if (base->entrypoint.count == 0) {
        above.entrypoint = config->entrypoint;
        above.cmd = config->cmd;
        above.working_folder = config->working_folder;
    }
    *config = above;
}

static struct fl_oci_pairs annotations(const struct compose_work *work)
{
    const struct fl_compose *compose = work->compose;
    const struct fl_oci_pair all[] = {
        {"org.opencontainers.image.created", time_text(work->arena, compose->epoch_s)},
        {"org.opencontainers.image.revision", compose->revision},
        {"org.opencontainers.image.source", compose->url},
    };
    struct fl_oci_pairs pairs = {fl_new_array(work->arena, struct fl_oci_pair, FL_COUNT_OF(all)),
                                 0};

    for (size_t i = 0; i < FL_COUNT_OF(all); i++)
        if (all[i].value)
            pairs.items[pairs.count++] = all[i];
    return pairs;
}

static int put_document(struct compose_work *work, const char *media_type,
                        struct fl_bytes *document, struct fl_oci_descriptor *ret_descriptor,
                        struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];

    *ret_descriptor = fl_oci_describe(work->arena, media_type, document);
    return fl_blobs_put(work->compose->blobs, document->data, document->len, true, digest, err);
}

static int put_config(struct compose_image *image, struct fl_oci_descriptor *ret_config,
                      struct fl_error *err)
{
    struct compose_work *work = image->work;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = NULL;
    struct fl_oci_config config = {
        .platform = *image->platform,
        .created = time_text(work->arena, work->compose->epoch_s),
        .user = fl_arena_printf(work->arena, "%d:%d", FL_PROGRAM_USER, FL_PROGRAM_USER)};
    const char **diff_ids = fl_new_array(work->arena, const char *, COMPOSE_LAYERS_MAX);

    for (size_t i = 0; i < image->count; i++)
        diff_ids[i] = image->layers[i].diff_id;
    config.diff_ids = (struct fl_oci_texts){diff_ids, image->count};
    config.history = (struct fl_oci_texts){image->purposes, image->count};
    set_command(work->compose, &config);
    if (image->base.digest)
        put_above(work->arena, &image->base.config, &config);
    document = fl_oci_config_encode(&config);
    return put_document(work, FL_OCI_CONFIG, document, ret_config, err);
}

int compose_put_manifest(struct compose_image *image, struct fl_oci_descriptor *ret_manifest,
                         struct fl_error *err)
{
    struct compose_work *work = image->work;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = NULL;
    struct fl_oci_manifest manifest = {.media_type = FL_OCI_MANIFEST,
                                       .annotations = annotations(work)};
    struct fl_oci_descriptor *layers =
        fl_new_array(work->arena, struct fl_oci_descriptor, COMPOSE_LAYERS_MAX);
    int r = put_config(image, &manifest.config, err);

    for (size_t i = 0; i < image->count; i++)
        layers[i] = image->layers[i].descriptor;
    manifest.layers = (struct fl_oci_descriptors){layers, image->count};
    if (r < 0)
        return r;
    document = fl_oci_manifest_encode(&manifest);
    r = put_document(work, FL_OCI_MANIFEST, document, ret_manifest, err);
    ret_manifest->has_platform = true;
    ret_manifest->platform = *image->platform;
    return r;
}

/* Of several platforms' layers those that are the same count once. */
static int64_t size_of_all(struct compose_work *work, const struct fl_oci_descriptor *manifests)
{
    int64_t size = 0;

    for (size_t i = 0; i < work->compose->platform_count; i++)
        size += manifests[i].size + work->composed.platforms[i].size;
    return size;
}

int compose_put_index(struct compose_work *work, struct fl_oci_descriptor *manifests,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = NULL;
    const struct fl_oci_manifest index = {.is_index = true,
                                          .media_type = FL_OCI_INDEX,
                                          .layers = {manifests, work->compose->platform_count},
                                          .annotations = annotations(work)};

    document = fl_oci_manifest_encode(&index);
    work->composed.size = size_of_all(work, manifests);
    return put_document(work, FL_OCI_INDEX, document, &work->composed.root, err);
}
