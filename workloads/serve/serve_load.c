/* Models on their way in: read or fetched by a worker of the loop, so that requests go on. */
#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"
#include "workloads/serve/serve_internal.h"

#include <stdlib.h>
#include <string.h>

#define MODEL_MAX_BYTES ((size_t)4 * 1024 * 1024 * 1024)
#define TRIES           8
#define FIRST_PAUSE_MS  100
#define FETCH_MS        300000

struct loading {
    struct fl_serve *serve; /* NULL: another one took its place, or the server has ended */
    struct fl_http_client_options fetch;
    char *source, *digest;
    int tries;
    struct fl_timer *again;
    bool busy; /* with the worker */
    /* The worker's. */
    struct fl_servable *served;
    struct fl_error err;
};

static void loading_free(struct loading *loading)
{
    fl_timer_destroy(loading->again);
    fl_servable_unref(loading->served);
    free(loading->source);
    free(loading->digest);
    free(loading);
}

static bool is_url(const char *source)
{
    return fl_str_has_prefix(source, "http://") || fl_str_has_prefix(source, "https://");
}

static int fetch(const struct loading *loading, struct fl_bytes **ret_data, struct fl_error *err)
{
    FL_CLEANUP(fl_http_client_destroyp) struct fl_http_client *client = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    const char *path = strchr(strstr(loading->source, "://") + 3, '/');
    FL_CLEANUP(fl_freep)
    char *base = path ? fl_asprintf("%.*s", (int)(path - loading->source), loading->source)
                      : fl_strdup(loading->source);
    struct fl_http_client_options options = loading->fetch;
    const struct fl_http_call call = {
        .method = "GET", .target = fl_str_or(path, "/"), .timeout_ms = FETCH_MS};
    int status = 0, r;

    options.base_url = base;
    options.max_response_bytes = MODEL_MAX_BYTES;
    r = fl_http_client_create(&options, &client, err);
    if (r == 0)
        r = fl_http_call(client, &call, &status, &body, NULL, err);
    if (r < 0)
        return r;
    if (status != 200)
        return fl_error_set(err, fl_error_from_status(NULL, status), "%s answers with status %d",
                            loading->source, status);
    *ret_data = FL_TAKE(body);
    return 0;
}

static int get(const struct loading *loading, struct fl_servable **ret_servable,
               struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *data = NULL;
    char digest[FL_DIGEST_SIZE];
    int r = is_url(loading->source) ? fetch(loading, &data, err)
                                    : fl_file_read(fl_str_has_prefix(loading->source, "file://")
                                                       ? loading->source + strlen("file://")
                                                       : loading->source,
                                                   MODEL_MAX_BYTES, &data, err);

    if (r < 0)
        return r;
    fl_digest_of(data->data, data->len, digest);
    if (loading->digest && strcmp(digest, loading->digest) != 0)
        return fl_error_set(err, FL_E_INVALID, "%s has the digest %s; %s is wanted",
                            loading->source, digest, loading->digest);
    return fl_servable_load(data->data, data->len, ret_servable, err);
}

static void work(void *user)
{
    struct loading *loading = user;

    loading->err = (struct fl_error){0};
    (void)get(loading, &loading->served, &loading->err);
}

static void begin(void *user);

static void take_over(struct fl_serve *serve, struct loading *loading)
{
    fl_log_info(serve->options.env->log, "model",
                FL_STR("digest", fl_servable_digest(loading->served)));
    fl_servable_unref(serve->served);
    serve->served = FL_TAKE(loading->served);
    serve->loads++;
    serve->loading = NULL;
    loading_free(loading);
}

static void give_up(struct fl_serve *serve, struct loading *loading)
{
    const struct fl_error err = loading->err;

    fl_log_error(serve->options.env->log, "model", FL_STR("error", err.msg));
    serve->load_failures++;
    serve->loading = NULL;
    loading_free(loading);
    if (serve->options.failed)
        serve->options.failed(serve->options.user, &err);
}

static void worked(void *user)
{
    struct loading *loading = user;
    struct fl_serve *serve = loading->serve;

    loading->busy = false;
    if (!serve) {
        loading_free(loading);
    } else if (loading->served) {
        take_over(serve, loading);
    } else if (fl_error_is_retryable(loading->err.code) && ++loading->tries < TRIES) {
        fl_log_warn(serve->options.env->log, "model is not there yet",
                    FL_STR("error", loading->err.msg));
        fl_timer_arm(loading->again, FIRST_PAUSE_MS << loading->tries);
    } else {
        give_up(serve, loading);
    }
}

static void begin(void *user)
{
    struct loading *loading = user;

    loading->busy = true;
    if (fl_loop_offload(loading->serve->options.loop, work, worked, loading, &loading->err) < 0)
        worked(loading);
}

void fl_serve_stop_loading(struct fl_serve *serve)
{
    struct loading *loading = FL_TAKE(serve->loading);

    if (!loading)
        return;
    loading->serve = NULL;
    if (!loading->busy)
        loading_free(loading);
}

void fl_serve_load(struct fl_serve *serve, const char *source, const char *digest)
{
    struct loading *loading = fl_calloc(1, sizeof(*loading));

    fl_serve_stop_loading(serve);
    loading->serve = serve;
    loading->fetch = serve->options.fetch;
    loading->source = fl_strdup(source);
    loading->digest = digest ? fl_strdup(digest) : NULL;
    loading->again = fl_timer_create(serve->options.loop, begin, loading);
    serve->loading = loading;
    begin(loading);
}
