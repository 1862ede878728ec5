#include "workloads/aggregator/aggregator.h"

#include "lib/file.h"
#include "lib/log.h"
#include "lib/map.h"
#include "lib/process.h"
#include "lib/str.h"
#include "workloads/aggregator/folding.h"
#include "workloads/learner/uplink.h"
#include "workloads/transfer/bulk_server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#define JOURNAL_MAX ((size_t)1 << 30)
#define ID_SIZE     24

/* Who still needs a blob. */
enum { HELD_BY_CORE = 1, HELD_BY_UPLINK = 2 };

struct expected {
    uint64_t id;
    char *learner, *digest;
    int64_t size;
};

struct asked { /* a control request without an answer yet */
    struct fl_aggregator *aggregator;
    uint64_t id;
    struct fl_http_request *http;
};

struct fl_aggregator {
    struct fl_aggregator_program program;
    struct fl_blobs *blobs;
    char *uploads_dir, *spill_dir, *kept_path;
    int journal;
    bool syncing; /* the journal, on a worker: no action is taken until it is done */
    bool pumping, closed;
    int refs;               /* posted or offloaded, and not yet back */
    struct fl_error failed; /* of the journal: the end */

    struct fl_aggregator_core *core;
    struct fl_timer *timer;
    struct fl_http_server *http;
    struct fl_bulk_server *bulk;
    struct fl_folding *folding;
    struct fl_map *asked;    /* id -> struct asked */
    struct fl_map *expected; /* id -> struct expected */
    uint64_t next_id;

    /* below a parent */
    struct fl_learner_core *learner;
    struct fl_uplink *uplink;
    struct fl_map *held; /* digest -> bits of who holds it */
    uint64_t parent_ticket;
};

static void pump(struct fl_aggregator *aggregator);

static int64_t now_ms(const struct fl_aggregator *aggregator)
{
    return fl_monotonic_ms(aggregator->program.env);
}

static const char *id_text(uint64_t id, char text[ID_SIZE])
{
    (void)snprintf(text, ID_SIZE, "%" PRIu64, id);
    return text;
}

/* --- requests --- */

static bool is_token(const struct fl_aggregator *aggregator, const char *authorization)
{
    const char *token = aggregator->program.token;
    const char *given = authorization && fl_str_has_prefix(authorization, "Bearer ")
                            ? authorization + strlen("Bearer ")
                            : NULL;

    return token && given && strlen(token) == strlen(given) &&
           sodium_memcmp(token, given, strlen(token)) == 0;
}

static bool is_controller(const struct fl_aggregator *aggregator, const char *authorization,
                          const struct fl_tls_peer *peer)
{
    if (!aggregator->program.token && !aggregator->program.client_certificates)
        return true;
    for (size_t i = 0; peer->verified && i < peer->organization_count; i++)
        if (strcmp(peer->organizations[i], FL_AGGREGATOR_CONTROLLERS) == 0)
            return true;
    return is_token(aggregator, authorization);
}

static int check_peer(const struct fl_aggregator *aggregator, const struct fl_tls_peer *peer,
                      bool controller, struct fl_error *err)
{
    if (aggregator->program.client_certificates && !peer->verified && !controller)
        return fl_error_set(err, FL_E_UNAUTHORIZED, "a certificate is needed");
    return 0;
}

static void asked_destroy(void *user)
{
    struct asked *asked = user;

    if (asked->http)
        fl_http_on_gone(asked->http, NULL, NULL);
    free(asked);
}

static void asker_gone(void *user)
{
    struct asked *asked = user;
    struct fl_aggregator *aggregator = asked->aggregator;
    const uint64_t id = asked->id;
    char text[ID_SIZE];

    asked->http = NULL;
    (void)fl_map_remove(aggregator->asked, id_text(id, text));
    fl_aggregator_request_gone(aggregator->core, now_ms(aggregator), id);
    pump(aggregator);
}

static void refuse(struct fl_http_request *http, const struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = fl_protocol_error(err, NULL);

    fl_http_respond_bytes(http, fl_error_http_status(err->code), "application/json", &body, 1);
}

static void take_request(struct fl_aggregator *aggregator, struct fl_http_request *http)
{
    const struct fl_tls_peer *peer = fl_http_peer(http);
    struct asked *asked = fl_calloc(1, sizeof(*asked));
    struct fl_aggregator_request request = {
        .request = ++aggregator->next_id,
        .method = fl_http_method(http),
        .target = fl_http_target(http),
        .control_plane = is_controller(aggregator, fl_http_header(http, "Authorization"), peer)};
    char text[ID_SIZE];

    *asked = (struct asked){aggregator, request.request, http};
    request.body = fl_http_body(http, &request.body_len);
    if (peer->verified && !request.control_plane)
        request.peer = peer->common_name;
    fl_http_on_gone(http, asker_gone, asked);
    fl_map_put(aggregator->asked, id_text(asked->id, text), asked);
    fl_aggregator_request(aggregator->core, now_ms(aggregator), &request);
    pump(aggregator);
}

static void handle(void *user, struct fl_http_request *http)
{
    struct fl_aggregator *aggregator = user;
    const struct fl_tls_peer *peer = fl_http_peer(http);
    struct fl_error err = {0};
    bool controller;

    if (fl_bulk_server_handle(aggregator->bulk, http))
        return;
    if (strcmp(fl_http_path(http), "/healthz") == 0) {
        fl_http_respond(http, 200, "text/plain", "ok\n", 3);
        return;
    }
    controller = is_controller(aggregator, fl_http_header(http, "Authorization"), peer);
    if (check_peer(aggregator, peer, controller, &err) < 0)
        refuse(http, &err);
    else
        take_request(aggregator, http);
}

static void begin(void *user, struct fl_http_request *http)
{
    struct fl_aggregator *aggregator = user;

    if (!fl_bulk_server_begin(aggregator->bulk, http))
        fl_http_limit_body(http, FL_PROTOCOL_BODY_MAX);
}

static void reply(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    char text[ID_SIZE];
    struct asked *asked = fl_map_take(aggregator->asked, id_text(action->request, text));
    struct fl_http_request *http;

    if (!asked)
        return; /* it went away meanwhile */
    http = FL_TAKE(asked->http);
    free(asked);
    fl_http_on_gone(http, NULL, NULL);
    fl_http_respond_bytes(http, action->http_status, "application/json", &action->body, 1);
}

/* --- bulk --- */

static void expected_destroy(void *user)
{
    struct expected *expected = user;

    free(expected->learner);
    free(expected->digest);
    free(expected);
}

static int allow_model(const struct fl_aggregator *aggregator, const struct fl_bulk_ask *ask,
                       bool controller, struct fl_error *err)
{
    if (controller)
        return 0;
    if (strcmp(ask->method, "GET") != 0)
        return fl_error_set(err, FL_E_FORBIDDEN, "models come from the control plane");
    if (!fl_aggregator_serves(aggregator->core, ask->model))
        return fl_error_set(err, FL_E_NOT_FOUND, "%s is not served", ask->model);
    return 0;
}

static int allow(void *user, const struct fl_bulk_ask *ask, struct fl_error *err)
{
    const struct fl_aggregator *aggregator = user;
    const bool controller = is_controller(aggregator, ask->authorization, ask->peer);
    const struct expected *expected;
    int r = check_peer(aggregator, ask->peer, controller, err);

    if (r < 0)
        return r;
    if (ask->model)
        return allow_model(aggregator, ask, controller, err);
    expected = fl_map_get(aggregator->expected, ask->key);
    if (!expected)
        return fl_error_set(err, FL_E_EXPIRED, "this update is not expected (any more)");
    if (ask->peer->verified && strcmp(ask->peer->common_name, expected->learner) != 0)
        return fl_error_set(err, FL_E_FORBIDDEN, "this update is somebody else's");
    if (ask->digest && (strcmp(ask->digest, expected->digest) != 0 || ask->size != expected->size))
        return fl_error_set(err, FL_E_FORBIDDEN, "another update was offered");
    return 0;
}

static int complete(void *user, const struct fl_bulk_upload *upload, struct fl_error *err)
{
    struct fl_aggregator *aggregator = user;
    const struct expected *expected = fl_map_get(aggregator->expected, upload->key);

    if (!expected)
        return fl_error_set(err, FL_E_EXPIRED, "this update is not expected any more");
    fl_aggregator_uploaded(aggregator->core, now_ms(aggregator), expected->id, NULL);
    pump(aggregator);
    return 0;
}

static void moved(void *user, const char *key, const char *model, int64_t bytes)
{
    struct fl_aggregator *aggregator = user;
    const struct expected *expected = key ? fl_map_get(aggregator->expected, key) : NULL;

    (void)model;
    if (expected || !key)
        fl_aggregator_moved_bytes(aggregator->core, now_ms(aggregator),
                                  expected ? expected->learner : "", expected ? expected->id : 0,
                                  bytes);
}

static void expect(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    struct expected *expected = fl_calloc(1, sizeof(*expected));
    char text[ID_SIZE];

    *expected = (struct expected){action->upload, fl_strdup(action->learner),
                                  fl_strdup(action->digest), action->size};
    fl_map_put(aggregator->expected, id_text(action->upload, text), expected);
}

static void discard(struct fl_aggregator *aggregator, uint64_t upload)
{
    char text[ID_SIZE];

    (void)fl_map_remove(aggregator->expected, id_text(upload, text));
    fl_bulk_server_forget(aggregator->bulk, text);
}

/* --- blobs that two cores need --- */

static void hold(struct fl_aggregator *aggregator, const char *digest, uintptr_t who)
{
    uintptr_t bits;

    if (!digest || !aggregator->learner)
        return;
    bits = (uintptr_t)fl_map_get(aggregator->held, digest) | who;
    fl_map_put(aggregator->held, digest, (void *)bits);
}

static void release(struct fl_aggregator *aggregator, const char *digest, uintptr_t who)
{
    const uintptr_t bits = (uintptr_t)fl_map_get(aggregator->held, digest) & ~who;
    struct fl_error err = {0};

    if (bits) {
        fl_map_put(aggregator->held, digest, (void *)bits);
        return;
    }
    (void)fl_map_remove(aggregator->held, digest);
    if (fl_blobs_remove(aggregator->blobs, digest, &err) < 0)
        fl_log_warn(aggregator->program.env->log, "a model stays", FL_STR("error", err.msg));
}

/* --- folding --- */

static void folded(void *user, const struct fl_fold_result *result)
{
    struct fl_aggregator *aggregator = user;
    const int64_t now = now_ms(aggregator);

    if (result->kind == FL_AGGREGATOR_BEGIN) {
        fl_aggregator_begun(aggregator->core, now, result->ticket, result->err);
    } else if (result->kind == FL_AGGREGATOR_FOLD) {
        discard(aggregator, result->upload);
        fl_aggregator_folded(aggregator->core, now, result->ticket, result->reason, result->err);
    } else {
        if (!result->err) {
            hold(aggregator, result->finished.model, HELD_BY_CORE);
            hold(aggregator, result->finished.state, HELD_BY_CORE);
        }
        fl_aggregator_finished(aggregator->core, now, result->ticket, &result->finished,
                               result->err);
    }
    pump(aggregator);
}

static void fold(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    struct fl_bulk_upload upload = {.path = ""};
    char text[ID_SIZE];

    (void)fl_bulk_server_find(aggregator->bulk, id_text(action->upload, text), &upload, NULL);
    fl_folding_do(aggregator->folding, action, upload.path);
}

/* --- the journal --- */

static void unref(struct fl_aggregator *aggregator)
{
    if (--aggregator->refs > 0)
        return;
    fl_fd_closep(&aggregator->journal);
    free(aggregator);
}

static void sync_journal(void *user)
{
    struct fl_aggregator *aggregator = user;

    if (fdatasync(aggregator->journal) != 0)
        (void)fl_error_errno(&aggregator->failed, errno, "sync the journal");
}

/* What cannot be written down must not be told: nothing more is, and the program ends. */
static void journal_failed(struct fl_aggregator *aggregator)
{
    fl_log_error(aggregator->program.env->log, "the journal cannot be written",
                 FL_STR("error", aggregator->failed.msg));
    aggregator->program.stopped(aggregator->program.user);
}

static void journal_synced(void *user)
{
    struct fl_aggregator *aggregator = user;

    if (!aggregator->closed) {
        aggregator->syncing = false;
        if (aggregator->failed.code)
            journal_failed(aggregator);
        else
            pump(aggregator);
    }
    unref(aggregator);
}

static int append(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static void write_journal(struct fl_aggregator *aggregator, const struct fl_bytes *lines)
{
    int r = append(aggregator->journal, lines->data, lines->len);

    if (r < 0)
        (void)fl_error_errno(&aggregator->failed, -r, "append to the journal");
    aggregator->syncing = true;
    aggregator->refs++;
    if (!aggregator->failed.code &&
        fl_loop_offload(aggregator->program.loop, sync_journal, journal_synced, aggregator,
                        &aggregator->failed) == 0)
        return;
    aggregator->refs--;
    journal_failed(aggregator); /* syncing stays: no further action */
}

static void cut_journal(struct fl_aggregator *aggregator, int64_t size)
{
    if (ftruncate(aggregator->journal, size) != 0) {
        (void)fl_error_errno(&aggregator->failed, errno, "cut the journal");
        aggregator->syncing = true;
        journal_failed(aggregator);
    }
}

/* --- the parent --- */

static void parent_result(struct fl_aggregator *aggregator, const struct fl_parent_result *result)
{
    const int64_t now = now_ms(aggregator);
    struct fl_error err = {0};

    if (!aggregator->learner)
        return;
    if (!result->ok) {
        (void)fl_error_set(&err, FL_E_UNAVAILABLE, "%s", fl_str_or(result->message, "it failed"));
        fl_learner_failed(aggregator->learner, now, aggregator->parent_ticket,
                          fl_str_or(result->reason, "RoundFailed"), &err);
    } else if (result->evaluation) {
        fl_learner_evaluated(aggregator->learner, now, aggregator->parent_ticket, &result->result);
    } else {
        hold(aggregator, result->offer.digest, HELD_BY_UPLINK);
        fl_learner_trained(aggregator->learner, now, aggregator->parent_ticket, &result->offer);
    }
    fl_uplink_pump(aggregator->uplink);
}

static void keep(struct fl_aggregator *aggregator, const struct fl_kept *kept)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_kept_encode(kept);
    struct fl_error err = {0};

    if (fl_file_write(aggregator->kept_path, text->data, text->len, 0600, &err) < 0)
        fl_log_warn(aggregator->program.env->log, "a partial sum would be lost in a restart",
                    FL_STR("error", err.msg));
}

static void parent_task(struct fl_aggregator *aggregator, const struct fl_learner_action *action)
{
    aggregator->parent_ticket = action->ticket;
    hold(aggregator, action->task->model, HELD_BY_CORE | HELD_BY_UPLINK);
    if (action->kind == FL_LEARNER_TRAIN)
        fl_aggregator_parent_fit(aggregator->core, now_ms(aggregator), action->task);
    else
        fl_aggregator_parent_evaluate(aggregator->core, now_ms(aggregator), action->task);
}

/* Of the learner core above. */
static void act_above(void *user, const struct fl_learner_action *action)
{
    struct fl_aggregator *aggregator = user;

    switch (action->kind) {
    case FL_LEARNER_TRAIN:
    case FL_LEARNER_EVALUATE:
        parent_task(aggregator, action);
        break;
    case FL_LEARNER_CANCEL:
        fl_aggregator_parent_cancel(aggregator->core, now_ms(aggregator));
        break;
    case FL_LEARNER_KEEP:
        keep(aggregator, action->kept);
        break;
    case FL_LEARNER_RELEASE:
        release(aggregator, action->digest, HELD_BY_UPLINK);
        break;
    case FL_LEARNER_ENDED:
        fl_aggregator_stop(aggregator->core, now_ms(aggregator), action->message);
        break;
    default:
        break; /* the uplink's */
    }
    pump(aggregator);
}

static void members_changed(struct fl_aggregator *aggregator,
                            const struct fl_aggregator_action *action)
{
    if (!aggregator->learner)
        return;
    fl_learner_declare(aggregator->learner, now_ms(aggregator), action->examples, action->learners);
    fl_uplink_pump(aggregator->uplink);
}

/* --- actions --- */

static void take(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    switch (action->kind) {
    case FL_AGGREGATOR_REPLY:
        reply(aggregator, action);
        break;
    case FL_AGGREGATOR_JOURNAL:
        write_journal(aggregator, action->body);
        break;
    case FL_AGGREGATOR_CUT:
        cut_journal(aggregator, action->size);
        break;
    case FL_AGGREGATOR_EXPECT:
        expect(aggregator, action);
        break;
    case FL_AGGREGATOR_DISCARD:
        discard(aggregator, action->upload);
        break;
    case FL_AGGREGATOR_FOLD:
        fold(aggregator, action);
        break;
    case FL_AGGREGATOR_RESTORE:
    case FL_AGGREGATOR_BEGIN:
    case FL_AGGREGATOR_FINISH:
    case FL_AGGREGATOR_PARTIAL:
    case FL_AGGREGATOR_ABANDON:
        fl_folding_do(aggregator->folding, action, NULL);
        break;
    case FL_AGGREGATOR_RELEASE:
        release(aggregator, action->model, HELD_BY_CORE);
        break;
    case FL_AGGREGATOR_PARENT_RESULT:
        parent_result(aggregator, &action->parent);
        break;
    case FL_AGGREGATOR_MEMBERS:
        members_changed(aggregator, action);
        break;
    case FL_AGGREGATOR_STOPPED:
        aggregator->program.stopped(aggregator->program.user);
    }
}

/* Events that come from within (an upload that is forgotten, a task from above) only add actions;
 * the outer call takes them in their order. */
static void pump(struct fl_aggregator *aggregator)
{
    const struct fl_aggregator_action *action;
    int64_t due, now;

    if (aggregator->pumping || aggregator->closed)
        return;
    aggregator->pumping = true;
    while (!aggregator->syncing && (action = fl_aggregator_next(aggregator->core)))
        take(aggregator, action);
    aggregator->pumping = false;
    due = fl_aggregator_deadline(aggregator->core);
    now = now_ms(aggregator);
    if (due == INT64_MAX)
        fl_timer_cancel(aggregator->timer);
    else
        fl_timer_arm(aggregator->timer, due > now ? due - now : 0);
}

static void on_timer(void *user)
{
    struct fl_aggregator *aggregator = user;

    fl_aggregator_tick(aggregator->core, now_ms(aggregator));
    pump(aggregator);
}

/* --- opening --- */

static int open_folders(struct fl_aggregator *aggregator, struct fl_error *err)
{
    const char *folder = aggregator->program.folder;
    FL_CLEANUP(fl_freep) char *models = fl_asprintf("%s/models", folder);
    const struct fl_blobs_options blobs = {.env = aggregator->program.env, .path = models};
    int r;

    aggregator->uploads_dir = fl_asprintf("%s/uploads", folder);
    aggregator->spill_dir = fl_asprintf("%s/spill", folder);
    aggregator->kept_path = fl_asprintf("%s/kept.json", folder);
    r = fl_blobs_open(&blobs, &aggregator->blobs, err); /* and so locks the folder */
    if (r == 0)
        r = fl_dir_remove(aggregator->spill_dir, err);
    if (r == 0)
        r = fl_dir_remove(aggregator->uploads_dir, err); /* their offers come again */
    return r < 0 ? r : fl_dir_ensure(aggregator->spill_dir, 0700, err);
}

static int open_journal(struct fl_aggregator *aggregator, struct fl_bytes **ret_text,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/journal", aggregator->program.folder);
    int r;

    /* Made so that its name is durable too. */
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        r = fl_file_write(path, "", 0, 0600, err);
        if (r < 0)
            return r;
    }
    r = fl_file_read(path, JOURNAL_MAX, ret_text, err);
    if (r < 0)
        return r;
    aggregator->journal = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    return aggregator->journal < 0 ? fl_error_errno(err, errno, "open %s", path) : 0;
}

static int make_core(struct fl_aggregator *aggregator, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_aggregator_options options = aggregator->program.core;
    int r = open_journal(aggregator, &text, err);

    options.has_parent = aggregator->program.parent != NULL;
    options.parent = aggregator->program.parent;
    if (r == 0)
        r = fl_aggregator_create(&options, now_ms(aggregator), text->data, text->len,
                                 &aggregator->core, err);
    return r;
}

static const struct fl_kept *load_kept(struct fl_aggregator *aggregator, struct fl_arena *arena)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_kept *kept = fl_new(arena, struct fl_kept);

    if (fl_file_read(aggregator->kept_path, FL_PROTOCOL_BODY_MAX, &text, NULL) < 0 ||
        fl_kept_decode(arena, text->data, text->len, kept, NULL) < 0 ||
        !fl_blobs_has(aggregator->blobs, kept->offer.digest))
        return NULL;
    hold(aggregator, kept->offer.digest, HELD_BY_UPLINK);
    return kept;
}

static int make_learner(struct fl_aggregator *aggregator, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_aggregator_program *program = &aggregator->program;
    struct fl_learner_options options = {.address = program->parent};

    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = options.join.name = program->core.id;
    options.join.project = program->core.project;
    options.join.aggregator = true;
    options.kept = load_kept(aggregator, arena);
    program->env->random(program->env->user, &options.seed, sizeof(options.seed));
    return fl_learner_create(&options, now_ms(aggregator), &aggregator->learner, err);
}

static int open_parent(struct fl_aggregator *aggregator, struct fl_error *err)
{
    struct fl_uplink_options options = {.env = aggregator->program.env,
                                        .loop = aggregator->program.loop,
                                        .http = aggregator->program.parent_http,
                                        .blobs = aggregator->blobs,
                                        .act = act_above,
                                        .user = aggregator};
    int r;

    if (!aggregator->program.parent)
        return 0;
    r = make_learner(aggregator, err);
    options.core = aggregator->learner;
    return r < 0 ? r : fl_uplink_create(&options, &aggregator->uplink, err);
}

static int open_folding(struct fl_aggregator *aggregator, struct fl_error *err)
{
    const struct fl_folding_options options = {.env = aggregator->program.env,
                                               .loop = aggregator->program.loop,
                                               .blobs = aggregator->blobs,
                                               .spill_dir = aggregator->spill_dir,
                                               .folded = folded,
                                               .user = aggregator};

    return fl_folding_create(&options, &aggregator->folding, err);
}

static int open_bulk(struct fl_aggregator *aggregator, struct fl_error *err)
{
    const struct fl_bulk_server_options options = {.env = aggregator->program.env,
                                                   .loop = aggregator->program.loop,
                                                   .blobs = aggregator->blobs,
                                                   .uploads_dir = aggregator->uploads_dir,
                                                   .max_upload_bytes =
                                                       aggregator->program.core.max_update_bytes,
                                                   .allow = allow,
                                                   .complete = complete,
                                                   .moved = moved,
                                                   .user = aggregator};

    return fl_bulk_server_create(&options, &aggregator->bulk, err);
}

static void error_body(void *user, int status, const char *detail, struct fl_buf *body,
                       const char **ret_content_type)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_error err = {0};

    (void)user;
    (void)fl_error_set(&err, fl_error_from_status(NULL, status), "%s", detail);
    text = fl_protocol_error(&err, NULL);
    fl_buf_append(body, text->data, text->len);
    *ret_content_type = "application/json";
}

static int open_http(struct fl_aggregator *aggregator, struct fl_error *err)
{
    const struct fl_http_server_options options = {.env = aggregator->program.env,
                                                   .loop = aggregator->program.loop,
                                                   .tls = aggregator->program.tls,
                                                   .address = aggregator->program.address,
                                                   .port = aggregator->program.port,
                                                   .handler = handle,
                                                   .begin = begin,
                                                   .error_body = error_body,
                                                   .user = aggregator,
                                                   .max_connections =
                                                       aggregator->program.max_connections};

    return fl_http_server_create(&options, &aggregator->http, err);
}

static int open_all(struct fl_aggregator *aggregator, struct fl_error *err)
{
    int r = open_folders(aggregator, err);

    if (r == 0)
        r = make_core(aggregator, err);
    if (r == 0)
        r = open_folding(aggregator, err);
    if (r == 0)
        r = open_bulk(aggregator, err);
    if (r == 0)
        r = open_parent(aggregator, err);
    return r < 0 ? r : open_http(aggregator, err);
}

int fl_aggregator_open(const struct fl_aggregator_program *program,
                       struct fl_aggregator **ret_aggregator, struct fl_error *err)
{
    FL_CLEANUP(fl_aggregator_closep)
    struct fl_aggregator *aggregator = fl_calloc(1, sizeof(*aggregator));
    int r;

    assert(program->env && program->loop && program->folder && program->stopped);

    aggregator->program = *program;
    aggregator->refs = 1;
    aggregator->journal = -1;
    aggregator->asked = fl_map_create(asked_destroy);
    aggregator->expected = fl_map_create(expected_destroy);
    aggregator->held = fl_map_create(NULL);
    aggregator->timer = fl_timer_create(program->loop, on_timer, aggregator);
    r = open_all(aggregator, err);
    if (r < 0)
        return r;
    pump(aggregator);
    if (aggregator->uplink)
        fl_uplink_pump(aggregator->uplink);
    *ret_aggregator = FL_TAKE(aggregator);
    return 0;
}

/* The journal's descriptor may be with a worker just now: it is closed with the last reference. */
void fl_aggregator_close(struct fl_aggregator *aggregator)
{
    if (!aggregator)
        return;
    aggregator->pumping = true; /* nothing is taken any more */
    fl_map_destroy(aggregator->asked);
    fl_uplink_destroy(aggregator->uplink);
    fl_http_server_destroy(aggregator->http);
    fl_bulk_server_destroy(aggregator->bulk);
    fl_folding_destroy(aggregator->folding);
    fl_timer_destroy(aggregator->timer);
    fl_learner_destroy(aggregator->learner);
    fl_aggregator_destroy(aggregator->core);
    fl_blobs_close(aggregator->blobs);
    fl_map_destroy(aggregator->expected);
    fl_map_destroy(aggregator->held);
    free(aggregator->uploads_dir);
    free(aggregator->spill_dir);
    free(aggregator->kept_path);
    aggregator->closed = true;
    unref(aggregator);
}

uint16_t fl_aggregator_port(const struct fl_aggregator *aggregator)
{
    return fl_http_server_port(aggregator->http);
}
