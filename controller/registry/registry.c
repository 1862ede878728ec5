#include "controller/registry/registry.h"

#include "controller/registry/internal.h"
#include "lib/str.h"

/* As long as an upload may last: what came before the last blob of an image is not forgotten while
 * that one is on its way. */
#define GRACE_MS       FL_REPOS_UPLOAD_TOTAL_MS
#define UPLOAD_IDLE_MS (INT64_C(60) * 60 * 1000)
#define UPLOADS_MAX    256

int fl_repositories_open(const struct fl_repositories_options *options,
                         struct fl_repositories **ret_repositories, struct fl_error *err)
{
    FL_CLEANUP(fl_repositories_closep)
    struct fl_repositories *repositories = fl_calloc(1, sizeof(*repositories));
    int r;

    repositories->env = options->env;
    repositories->contents = options->contents;
    repositories->blobs = fl_contents_blobs(options->contents);
    repositories->grace_ms = options->grace_ms ? options->grace_ms : GRACE_MS;
    repositories->upload_idle_ms =
        options->upload_idle_ms ? options->upload_idle_ms : UPLOAD_IDLE_MS;
    repositories->max_uploads = options->max_uploads ? options->max_uploads : UPLOADS_MAX;
    TAILQ_INIT(&repositories->uploads);
    TAILQ_INIT(&repositories->jobs);
    repositories->unneeded = fl_map_create(free);
    r = fl_repos_index_open(options->env, options->path, &repositories->index, err);
    if (r < 0)
        return fl_error_wrap(err, "registry");
    *ret_repositories = FL_TAKE(repositories);
    return 0;
}

void fl_repositories_close(struct fl_repositories *repositories)
{
    if (!repositories)
        return;
    fl_repos_jobs_end(repositories);
    fl_repos_uploads_end(repositories);
    fl_repos_index_close(repositories->index);
    fl_map_destroy(repositories->unneeded);
    free(repositories);
}

bool fl_repos_is(const struct fl_repos_call *call, const char *method)
{
    return strcmp(fl_http_method(call->http), method) == 0;
}

bool fl_repos_reads(const struct fl_repos_call *call)
{
    return fl_repos_is(call, "GET") || fl_repos_is(call, "HEAD");
}

static int understand(struct fl_repositories *repositories, struct fl_raw_request *raw,
                      struct fl_repos_call *call, struct fl_error *err)
{
    *call = (struct fl_repos_call){.repositories = repositories, .raw = raw};
    call->http = fl_raw_http(raw);
    call->arena = fl_http_arena(call->http);
    return fl_repos_path_parse(call->arena, fl_http_path(call->http), &call->path, err);
}

static void begin(void *user, struct fl_raw_request *raw)
{
    struct fl_repos_call call;

    if (understand(user, raw, &call, NULL) < 0)
        return; /* `serve` says it */
    if (call.path.route == FL_REPOS_UPLOAD || call.path.route == FL_REPOS_UPLOADS)
        fl_repos_upload_begin(&call);
    else if (call.path.route == FL_REPOS_MANIFEST)
        fl_repos_manifest_begin(&call);
}

/* Whether this is a registry, and who asks is known to it. */
static void serve_base(struct fl_repos_call *call)
{
    FL_JSON nothing = json_object();

    if (fl_repos_reads(call))
        fl_repos_answer_json(call->raw, "application/json", nothing);
    else
        fl_repos_refuse_method(call->raw, "GET, HEAD");
}

static void serve(void *user, struct fl_raw_request *raw)
{
    static void (*const routes[])(struct fl_repos_call * call) = {
        [FL_REPOS_BASE] = serve_base,
        [FL_REPOS_CATALOG] = fl_repos_catalog_serve,
        [FL_REPOS_TAGS] = fl_repos_tags_serve,
        [FL_REPOS_MANIFEST] = fl_repos_manifest_serve,
        [FL_REPOS_BLOB] = fl_repos_blob_serve,
        [FL_REPOS_UPLOADS] = fl_repos_uploads_serve,
        [FL_REPOS_UPLOAD] = fl_repos_upload_serve,
        [FL_REPOS_REFERRERS] = fl_repos_referrers_serve,
    };
    struct fl_repos_call call;
    struct fl_error err = {0};

    fl_http_set_header(fl_raw_http(raw), "Docker-Distribution-Api-Version", "registry/2.0");
    if (understand(user, raw, &call, &err) < 0)
        fl_repos_refuse(raw, &err, &fl_repos_name_words);
    else
        routes[call.path.route](&call);
}

struct fl_apiserver_raw fl_repositories_raw(struct fl_repositories *repositories)
{
    return (struct fl_apiserver_raw){
        .prefix = FL_REPOSITORIES_PREFIX,
        .serve = serve,
        .begin = begin,
        .user = repositories,
        .basic_realm = "flops",
        .word = fl_repos_word,
    };
}
