#include "controller/source/access.h"
#include "reconcilers/gitsync/gitsync_internal.h"

#define REVISION_MAX   400
#define ANNOTATION_MAX 128
#define URL_SHOWN_MAX  1024

/* Credentials, read as the GitSync's own user: who may not read the Secret may not use it. */

static int read_credentials(struct fl_sync *sync, struct fl_source_request *request,
                            struct fl_error *err)
{
    const struct fl_gitsync_spec *spec = &sync->object->spec;
    FL_CLEANUP(fl_apiclient_destroyp) struct fl_apiclient *client = NULL;
    FL_JSON secret = NULL;
    int r;

    if (!spec->has_credentials_secret)
        return 0;
    client = fl_sync_client(sync);
    r = fl_apiclient_get(client, &fl_gvr_secrets, sync->ns, spec->credentials_secret.name, &secret,
                         err);
    if (r < 0)
        return fl_error_wrap(err, "credentialsSecret %s", spec->credentials_secret.name);
    fl_source_take_credentials(request, secret, sync->rc->arena);
    return 0;
}

static struct fl_source_request make_request(const struct fl_sync *sync)
{
    const struct fl_gitsync_spec *spec = &sync->object->spec;
    struct fl_source_request request = {
        .url = spec->url,
        .path = fl_str_or(spec->path, "."),
        .exclude = spec->exclude.items,
        .exclude_count = spec->exclude.count,
        .timeout_ms = fl_sync_duration_ms(spec->timeout, 1, 120000),
    };

    if (spec->has_ref) {
        request.branch = spec->ref.branch;
        request.tag = spec->ref.tag;
        request.commit = spec->ref.commit;
    }
    if (spec->has_verify) {
        request.allowed_signers = spec->verify.allowed_signers.items;
        request.allowed_signer_count = spec->verify.allowed_signers.count;
    }
    return request;
}

static bool may_be_asked(const struct fl_sync *sync)
{
    return sync->syncs->options.local_everywhere ||
           fl_source_may_be_read(sync->object->spec.url, sync->ns);
}

/* Beginning */

static const char *wanted_annotation(struct fl_sync *sync)
{
    const char *value =
        json_string_value(json_object_get(sync->object->meta.annotations, FL_GITSYNC_ANNOTATION));

    return value ? fl_sync_cut(sync, value, ANNOTATION_MAX) : NULL;
}

/* As the cache has it, whose news wake the GitSync; 0: there is none. */
static uint64_t credentials_revision(const struct fl_sync *sync)
{
    const struct fl_gitsync_spec *spec = &sync->object->spec;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *secret = NULL;

    if (!spec->has_credentials_secret)
        return 0;
    secret = fl_cache_get(fl_manager_cache(sync->rc->manager, &fl_gvr_secrets), sync->ns,
                          spec->credentials_secret.name);
    return secret ? secret->revision : 0;
}

bool fl_sync_is_asked_for(struct fl_sync *sync)
{
    const char *wanted = wanted_annotation(sync);

    if (credentials_revision(sync) > sync->memory->asked_with)
        return true;
    return wanted && !fl_streq(wanted, sync->memory->asked_for) &&
           !fl_streq(wanted, sync->object->status.last_handled_reconcile_at);
}

static bool is_due(struct fl_sync *sync, const struct fl_fetch_result *result)
{
    const struct fl_sync_memory *memory = sync->memory;

    if (memory->waiting) /* and the source knows of none: it was lost */
        return result->state == FL_FETCH_NONE ||
               memory->asked_generation != sync->object->meta.generation;
    return memory->asked_generation != sync->object->meta.generation ||
           fl_sync_is_asked_for(sync) || sync->now_ms >= memory->fetch_due_ms;
}

/* Whatever it is that the newest fetch answers. */
static void note_asked(struct fl_sync *sync)
{
    struct fl_sync_memory *memory = sync->memory;
    const char *wanted = wanted_annotation(sync);

    memory->asked_generation = sync->object->meta.generation;
    free(memory->asked_for);
    memory->asked_for = wanted ? fl_strdup(wanted) : NULL;
    memory->try_open = false;
}

/* Not for one that is gone since it was read: nobody would forget what is fetched for it. */
static int start_fetch(struct fl_sync *sync, struct fl_error *err)
{
    struct fl_source *source = sync->syncs->source;
    struct fl_source_request request = make_request(sync);
    uint64_t ticket = 0;
    int r = fl_sync_check_newest(sync, err);

    sync->memory->asked_with = credentials_revision(sync); /* what is read next is not older */
    if (r == 0)
        r = fl_sync_ensure_rights(sync, err);
    if (r == 0)
        r = read_credentials(sync, &request, err);
    if (r == 0)
        r = source->ops->fetch(source, sync->uid, &request, &ticket, err);
    if (r < 0)
        return r;
    if (ticket != sync->memory->asked_ticket)
        note_asked(sync);
    sync->memory->asked_ticket = ticket;
    sync->memory->waiting = true;
    return 0;
}

/* The end of a fetch */

static void open_try(struct fl_sync *sync, bool failed)
{
    sync->memory->waiting = false;
    sync->memory->try_open = true;
    sync->memory->fetch_failed = failed;
}

static void say_not_fetched(struct fl_sync *sync, const char *reason, const char *message)
{
    struct fl_reconcile *rc = sync->rc;

    if (fl_streq(reason, "NotSigned")) {
        fl_true(rc, "Fetched", "Fetched", "%s",
                fl_str_or(sync->object->status.last_attempted_revision, "fetched"));
        fl_false(rc, "Verified", "NotSigned", "%s", message);
        return;
    }
    fl_false(rc, "Fetched", reason, "%s", message);
    if (!sync->object->spec.has_verify)
        fl_condition_remove(rc, "Verified");
}

static void take_failure(struct fl_sync *sync, const char *reason, const char *message)
{
    open_try(sync, true);
    say_not_fetched(sync, reason, fl_arena_strdup(sync->rc->arena, message));
}

static void take_snapshot(struct fl_sync *sync, struct fl_snapshot *snapshot)
{
    struct fl_reconcile *rc = sync->rc;

    open_try(sync, false);
    fl_snapshot_unref(sync->memory->head);
    sync->memory->head = fl_snapshot_ref(snapshot);
    fl_true(rc, "Fetched", "Fetched", "%s", fl_sync_cut(sync, snapshot->revision, REVISION_MAX));
    if (sync->object->spec.has_verify)
        fl_true(rc, "Verified", "Signed", "by %s",
                fl_sync_cut(sync, fl_str_or(snapshot->signer, "an allowed key"), REVISION_MAX));
    else
        fl_condition_remove(rc, "Verified");
}

static const char *reason_of(const struct fl_fetch_result *result)
{
    static const char *const known[] = {"FetchFailed", "RevisionNotFound", "NotSigned"};

    for (size_t i = 0; i < FL_COUNT_OF(known); i++)
        if (fl_streq(result->reason, known[i]))
            return known[i];
    return known[0];
}

/* A result of a request that is not the newest spec's says nothing of it. */
static bool is_news(const struct fl_sync *sync, const struct fl_fetch_result *result)
{
    const struct fl_sync_memory *memory = sync->memory;

    return (result->state == FL_FETCH_DONE || result->state == FL_FETCH_FAILED) &&
           result->ticket != memory->seen_ticket &&
           memory->asked_generation == sync->object->meta.generation;
}

static void take_result(struct fl_sync *sync, const struct fl_fetch_result *result)
{
    sync->memory->seen_ticket = result->ticket;
    if (result->attempted)
        sync->object->status.last_attempted_revision =
            fl_sync_cut(sync, result->attempted, REVISION_MAX);
    if (result->state == FL_FETCH_FAILED && !sync->memory->live)
        sync->memory->live = fl_snapshot_ref(result->snapshot); /* kept since before a restart */
    if (result->state == FL_FETCH_FAILED)
        take_failure(sync, reason_of(result), result->err.msg);
    else
        take_snapshot(sync, result->snapshot);
}

/* It could not even begin: the same as one that failed. */
static void begin_or_fail(struct fl_sync *sync)
{
    struct fl_error failure = {0};

    if (start_fetch(sync, &failure) < 0) {
        note_asked(sync);
        take_failure(sync, "FetchFailed",
                     failure.code == FL_E_FORBIDDEN
                         ? fl_arena_printf(sync->rc->arena, "%s; %s", failure.msg,
                                           fl_sync_forbidden_hint(sync))
                         : failure.msg);
    }
}

static int look(struct fl_sync *sync, struct fl_error *err)
{
    struct fl_source *source = sync->syncs->source;
    struct fl_fetch_result result = {0};
    int r = source->ops->observe(source, sync->uid, sync->rc->arena, &result, err);

    if (r < 0)
        return r;
    if (is_news(sync, &result))
        take_result(sync, &result);
    else if (result.state != FL_FETCH_RUNNING && is_due(sync, &result))
        begin_or_fail(sync);
    fl_fetch_result_finish(&result);
    return 0;
}

int fl_sync_fetch(struct fl_reconcile *rc, void *object, struct fl_error *err)
{
    struct fl_sync sync;
    int r;

    fl_sync_begin(&sync, rc, object);
    if (!may_be_asked(&sync))
        return fl_stalled(
            rc, "Fetched", "FetchFailed",
            "%s is on the control plane's machine, which is for GitSyncs of namespace "
            "%s only",
            fl_sync_cut(&sync, sync.object->spec.url, URL_SHOWN_MAX), FL_SYSTEM_NAMESPACE);
    /* What was found before is dealt with first: its apply may be what is going on. */
    if (sync.memory->try_open && sync.memory->asked_generation == sync.object->meta.generation)
        return FL_STEP_DONE;
    r = look(&sync, err);
    return r < 0 ? fl_failed(rc, "Fetched", "FetchFailed", err) : FL_STEP_DONE;
}
