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
    bool busy;                      /* with the worker */
    struct fl_http_request *waiter; /* the admin's; NULL: nobody waits, or it has gone */
    struct fl_servable_options options;
    struct fl_serve_cache *cache; /* may be NULL */
    const struct fl_env *env;
    /* The worker's. */
    struct fl_servable *served;
    struct fl_bytes *fetched; /* to be kept */
    struct fl_error err;
};

static void loading_free(struct loading *loading)
{
    fl_timer_destroy(loading->again);
    fl_servable_unref(loading->served);
    fl_serve_cache_unref(loading->cache);
    fl_bytes_unref(loading->fetched);
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

static int read_file(const struct loading *loading, struct fl_bytes **ret_data,
                     struct fl_error *err)
{
    const char *path = fl_str_has_prefix(loading->source, "file://")
                           ? loading->source + strlen("file://")
                           : loading->source;

    return fl_file_read(path, MODEL_MAX_BYTES, ret_data, err);
}

static int get(struct loading *loading, struct fl_servable **ret_servable, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *data = NULL;
    const bool may_be_kept = loading->cache && loading->digest && is_url(loading->source);
    int r;

    if (may_be_kept &&
        fl_serve_cache_load(loading->cache, &loading->options, ret_servable, NULL) == 0)
        return 0;
    r = is_url(loading->source) ? fetch(loading, &data, err) : read_file(loading, &data, err);
    if (r == 0)
        r = fl_servable_load(&loading->options, data->data, data->len, ret_servable, err);
    if (r == 0 && may_be_kept)
        loading->fetched = FL_TAKE(data);
    return r;
}

static void work(void *user)
{
    struct loading *loading = user;

    loading->err = (struct fl_error){0};
    (void)get(loading, &loading->served, &loading->err);
}

static void begin(void *user);

static void waiter_gone(void *user)
{
    ((struct loading *)user)->waiter = NULL;
}

/* It has ended, one way or the other. */
static void conclude(struct fl_serve *serve, struct loading *loading, const struct fl_error *err)
{
    struct fl_http_request *waiter = FL_TAKE(loading->waiter);

    if (serve->loading == loading)
        serve->loading = NULL;
    if (!waiter)
        return;
    fl_http_on_gone(waiter, NULL, NULL);
    fl_serve_answer_waiter(serve, waiter, err);
}

/* Once it serves: nobody waits for the disk. */
static void keep(void *user)
{
    struct loading *loading = user;

    loading->err = (struct fl_error){0};
    (void)fl_serve_cache_keep(loading->cache, loading->fetched, &loading->err);
}

static void kept(void *user)
{
    struct loading *loading = user;

    if (loading->err.code != 0)
        fl_log_warn(loading->env->log, "the model is not kept", FL_STR("error", loading->err.msg));
    loading_free(loading);
}

static void end(struct fl_loop *loop, struct loading *loading)
{
    loading->serve = NULL;
    if (!loading->fetched || fl_loop_offload(loop, keep, kept, loading, NULL) < 0)
        loading_free(loading);
}

static void take_over(struct fl_serve *serve, struct loading *loading)
{
    fl_log_info(serve->options.env->log, "model",
                FL_STR("digest", fl_servable_digest(loading->served)));
    fl_servable_unref(serve->served);
    serve->served = FL_TAKE(loading->served);
    serve->loads++;
    serve->load_error = (struct fl_error){0};
    conclude(serve, loading, &serve->load_error);
    end(serve->options.loop, loading);
}

static void give_up(struct fl_serve *serve, struct loading *loading)
{
    serve->load_error = loading->err;
    serve->load_failures++;
    fl_log_error(serve->options.env->log, "model", FL_STR("error", loading->err.msg));
    conclude(serve, loading, &serve->load_error);
    loading_free(loading);
    if (!serve->served && serve->options.failed)
        serve->options.failed(serve->options.user, &serve->load_error);
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
    struct loading *loading = serve->loading;
    struct fl_error err = {0};

    if (!loading)
        return;
    (void)fl_error_set(&err, FL_E_CONFLICT, "another model was asked for meanwhile");
    conclude(serve, loading, &err);
    loading->serve = NULL;
    if (!loading->busy)
        loading_free(loading);
}

const char *fl_serve_loading_source(const struct fl_serve *serve)
{
    return serve->loading ? serve->loading->source : NULL;
}

/* "https://host:port" of a URL; NULL of a path. The caller's. */
static char *origin_of(const char *source)
{
    const char *host;

    if (!is_url(source))
        return NULL;
    host = strstr(source, "://") + 3;
    return fl_strndup(source, (size_t)(host - source) + strcspn(host, "/?#"));
}

/* A token goes where the program's owner has sent it, not where a request says. */
static void choose_token(struct fl_serve *serve, struct loading *loading)
{
    FL_CLEANUP(fl_freep) char *origin = origin_of(loading->source);

    if (!loading->waiter && !serve->token_origin)
        serve->token_origin = FL_TAKE(origin);
    else if (!fl_streq(origin, serve->token_origin))
        loading->fetch.bearer_token = NULL;
}

void fl_serve_load_for(struct fl_serve *serve, const char *source, const char *digest,
                       struct fl_http_request *waiter)
{
    struct loading *loading = fl_calloc(1, sizeof(*loading));

    fl_serve_stop_loading(serve);
    loading->serve = serve;
    loading->fetch = serve->options.fetch;
    loading->source = fl_strdup(source);
    loading->digest = digest ? fl_strdup(digest) : NULL;
    loading->options = (struct fl_servable_options){.seats = fl_engine_seats(serve->engine),
                                                    .max_batch = serve->options.max_batch,
                                                    .expected_digest = loading->digest,
                                                    .program = serve->options.program,
                                                    .env = serve->options.env};
    loading->cache = fl_serve_cache_ref(serve->cache);
    loading->env = serve->options.env;
    loading->waiter = waiter;
    if (waiter)
        fl_http_on_gone(waiter, waiter_gone, loading);
    choose_token(serve, loading);
    loading->again = fl_timer_create(serve->options.loop, begin, loading);
    serve->loading = loading;
    begin(loading);
}

void fl_serve_load(struct fl_serve *serve, const char *source, const char *digest)
{
    fl_serve_load_for(serve, source, digest, NULL);
}
