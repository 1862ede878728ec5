/* Asking which commit a ref leads to. The source is asked for no files: the builder fetches them.
 * A key holds the words that are asked for, so an answer is always to those. */
#include "controller/runtime/manager.h"
#include "controller/source/access.h"
#include "lib/str.h"
#include "reconcilers/flproject/flproject_internal.h"

#include <string.h>

#define TIMEOUT_MS   120000
#define RETRY_MS     30000
#define REQUEST_SHOW 16

static const char *key_of(struct fl_flproject_view *view)
{
    const char *request = fl_flproject_request(view->project, view->rc->json, view->rc->arena);

    return request ? fl_arena_printf(view->rc->arena, "%s-%.*s", view->project->meta.uid,
                                     REQUEST_SHOW, request)
                   : NULL;
}

/* "main@sha1:COMMIT" */
static const char *commit_of(const struct fl_snapshot *snapshot)
{
    const char *at = strrchr(snapshot->revision, ':');

    return at ? at + 1 : strrchr(snapshot->revision, '@') + 1;
}

static void take_result(struct fl_flproject_view *view, const struct fl_fetch_result *result)
{
    struct fl_flproject_fetched *fetched = &view->input.fetched;
    struct fl_arena *arena = view->rc->arena;

    switch (result->state) {
    case FL_FETCH_RUNNING:
        fetched->state = FL_FLPROJECT_FETCH_RUNNING;
        break;
    case FL_FETCH_DONE:
        fetched->state = FL_FLPROJECT_FETCH_DONE;
        fetched->commit = fl_arena_strdup(arena, commit_of(result->snapshot));
        if (result->snapshot->signer)
            fetched->signer = fl_arena_strdup(arena, result->snapshot->signer);
        break;
    case FL_FETCH_FAILED:
        fetched->state = FL_FLPROJECT_FETCH_FAILED;
        fetched->reason = fl_arena_strdup(arena, fl_str_or(result->reason, "FetchFailed"));
        fetched->message = fl_arena_strdup(arena, result->err.msg);
        fetched->asked_ms = result->finished_ms;
        break;
    default:
        break;
    }
}

static void refuse(struct fl_flproject_view *view, const char *reason, const char *message)
{
    view->input.fetched = (struct fl_flproject_fetched){
        .state = FL_FLPROJECT_FETCH_FAILED, .reason = reason, .message = message, .final = true};
}

int fl_flproject_look_at_fetch(struct fl_flproject_view *view, struct fl_error *err)
{
    struct fl_source *source = view->controller->source;
    const char *url = view->project->spec.source.git.url;
    const char *key = key_of(view);
    struct fl_fetch_result result = {0};
    int r;

    if (!key)
        return 0;
    if (!source) {
        refuse(view, "NotSupported", "source.git: this control plane builds no images");
        return 0;
    }
    if (!fl_source_may_be_read(url, view->project->meta.namespace)) {
        refuse(view, "SourceInvalid",
               fl_arena_printf(view->rc->arena,
                               "%.200s is on the control plane's machine, which is for FLProjects "
                               "of namespace " FL_SYSTEM_NAMESPACE " only",
                               url));
        return 0;
    }
    r = source->ops->observe(source, key, view->rc->arena, &result, err);
    if (r == 0)
        take_result(view, &result);
    fl_fetch_result_finish(&result);
    return r;
}

static int read_credentials(struct fl_flproject_view *view, struct fl_source_request *request,
                            struct fl_error *err)
{
    const struct fl_project_source_git *git = &view->project->spec.source.git;
    json_t *secret = NULL;
    int r;

    if (!git->has_credentials_secret)
        return 0;
    r = fl_apiclient_get(view->rc->client, &fl_gvr_secrets, view->project->meta.namespace,
                         git->credentials_secret.name, &secret, err);
    if (r < 0)
        return fl_error_wrap(err, "credentialsSecret %s", git->credentials_secret.name);
    fl_source_take_credentials(request, fl_json_in_arena(view->rc->arena, secret), view->rc->arena);
    return 0;
}

static int64_t timeout_of(const struct fl_project_source_git *git)
{
    int64_t ms;

    return git->timeout && fl_duration_parse(git->timeout, &ms) && ms > 0 ? ms : TIMEOUT_MS;
}

static int begin(struct fl_flproject_view *view, struct fl_error *err)
{
    static const char *const nothing[] = {"**"};
    const struct fl_project_source_git *git = &view->project->spec.source.git;
    struct fl_source *source = view->controller->source;
    struct fl_source_request request = {
        .url = git->url,
        .path = fl_str_or(git->path, "."),
        .exclude = nothing,
        .exclude_count = FL_COUNT_OF(nothing),
        .timeout_ms = timeout_of(git),
    };
    uint64_t ticket;
    int r;

    if (git->has_ref) {
        request.branch = git->ref.branch;
        request.tag = git->ref.tag;
        request.commit = git->ref.commit;
    }
    if (git->has_verify) {
        request.allowed_signers = git->verify.allowed_signers.items;
        request.allowed_signer_count = git->verify.allowed_signers.count;
    }
    r = read_credentials(view, &request, err);
    return r < 0 ? r : source->ops->fetch(source, key_of(view), &request, &ticket, err);
}

/* Asked once; after a failure again, from time to time: what stands in the way may go. */
static int ask(struct fl_flproject_view *view, struct fl_error *err)
{
    const struct fl_flproject_fetched *fetched = &view->input.fetched;
    int64_t left_ms = fetched->asked_ms + RETRY_MS - fl_monotonic_ms(view->rc->env);

    if (fetched->final || fetched->state == FL_FLPROJECT_FETCH_RUNNING)
        return 0;
    if (fetched->state == FL_FLPROJECT_FETCH_FAILED && left_ms > 0) {
        fl_requeue_after(view->rc, left_ms);
        return 0;
    }
    if (begin(view, err) < 0)
        return fl_failed(view->rc, "SourceReady", "SourceNotReady", err);
    return 0;
}

/* What stands in an ImageBuild need not be kept. */
int fl_flproject_act_on_fetch(struct fl_flproject_view *view, struct fl_error *err)
{
    const struct fl_flproject_code *code = &view->decision.code;
    struct fl_source *source = view->controller->source;

    if (!code->is_needed || !source)
        return 0;
    if (code->ask)
        return ask(view, err);
    return code->learner.current && view->input.fetched.state != FL_FLPROJECT_FETCH_NONE
               ? source->ops->forget(source, key_of(view), err)
               : 0;
}

void fl_flproject_forget_fetch(struct fl_flproject_view *view)
{
    struct fl_source *source = view->controller->source;
    const char *key = key_of(view);
    struct fl_error err = {0};

    if (source && key && source->ops->forget(source, key, &err) < 0)
        fl_log_warn(view->rc->log, "a fetch is not forgotten", FL_STR("error", err.msg));
}

/* ImageBuilds: made once, and left when another is in use. */

static int make(struct fl_flproject_view *view, const struct fl_flproject_code_build *build,
                struct fl_error *err)
{
    return build->make
               ? fl_apply_child(view->rc, &fl_imagebuild_type, build->role, build->make, NULL, err)
               : 0;
}

static bool is_wanted(void *user, const void *child)
{
    const struct fl_flproject_view *view = user;
    const struct fl_flproject_code *code = &view->decision.code;
    const char *const roles[] = {code->learner.role, code->aggregator.role, code->server.role};
    const struct fl_object_meta *owner = &view->project->meta;
    const char *name = ((const struct fl_imagebuild *)child)->meta.name;

    for (size_t i = 0; i < FL_COUNT_OF(roles); i++)
        if (roles[i] &&
            fl_streq(name, fl_child_name(view->rc->arena, owner->name, owner->uid, roles[i])))
            return true;
    return false;
}

int fl_flproject_act_on_builds(struct fl_flproject_view *view, struct fl_error *err)
{
    const struct fl_flproject_code *code = &view->decision.code;
    int r;

    if (!code->learner.role)
        return 0;
    r = make(view, &code->learner, err);
    if (r == 0)
        r = make(view, &code->aggregator, err);
    if (r == 0)
        r = make(view, &code->server, err);
    if (r == 0 && code->is_current && (!code->server.role || code->server_image))
        r = fl_prune_children(view->rc, &fl_imagebuild_type, is_wanted, view, err);
    return r < 0 ? r : 0;
}
