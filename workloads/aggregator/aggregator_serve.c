/* What comes in by HTTP: control requests, models, updates. */
#include "workloads/aggregator/aggregator_internal.h"

#include "lib/str.h"

#include <sodium.h>

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

void program_asked_destroy(void *user)
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
    (void)fl_map_remove(aggregator->asked, program_id_text(id, text));
    fl_aggregator_request_gone(aggregator->core, program_now_ms(aggregator), id);
    program_pump(aggregator);
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

    *asked = (struct asked){aggregator, request.request, http,
                            fl_steps_of_request(request.target).unanswered};
    request.body = fl_http_body(http, &request.body_len);
    if (peer->verified && !request.control_plane)
        request.peer = peer->common_name;
    fl_http_on_gone(http, asker_gone, asked);
    fl_map_put(aggregator->asked, program_id_text(asked->id, text), asked);
    fl_aggregator_request(aggregator->core, program_now_ms(aggregator), &request);
    program_pump(aggregator);
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

void program_reply(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    char text[ID_SIZE];
    struct asked *asked = fl_map_take(aggregator->asked, program_id_text(action->request, text));
    struct fl_http_request *http;

    if (!asked)
        return; /* it went away meanwhile */
    program_step(aggregator, asked->unanswered);
    http = FL_TAKE(asked->http);
    free(asked);
    fl_http_on_gone(http, NULL, NULL);
    fl_http_respond_bytes(http, action->http_status, "application/json", &action->body, 1);
}

/* --- bulk --- */

void program_expected_destroy(void *user)
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
    program_step(aggregator, FL_STEP_UPDATE_ARRIVED);
    fl_aggregator_uploaded(aggregator->core, program_now_ms(aggregator), expected->id, NULL);
    program_pump(aggregator);
    return 0;
}

static void moved(void *user, const char *key, const char *model, int64_t bytes)
{
    struct fl_aggregator *aggregator = user;
    const struct expected *expected = key ? fl_map_get(aggregator->expected, key) : NULL;

    (void)model;
    program_step(aggregator, key ? FL_STEP_UPDATE_ARRIVING : FL_STEP_MODEL_ASKED);
    if (expected || !key)
        fl_aggregator_moved_bytes(aggregator->core, program_now_ms(aggregator),
                                  expected ? expected->learner : "", expected ? expected->id : 0,
                                  bytes);
}

static void lacks(void *user, const struct fl_error *err)
{
    struct fl_aggregator *aggregator = user;

    fl_aggregator_lacks(aggregator->core, program_now_ms(aggregator), err->msg);
}

void program_expect(struct fl_aggregator *aggregator, const struct fl_aggregator_action *action)
{
    struct expected *expected = fl_calloc(1, sizeof(*expected));
    char text[ID_SIZE];

    *expected = (struct expected){action->upload, fl_strdup(action->learner),
                                  fl_strdup(action->digest), action->size};
    fl_map_put(aggregator->expected, program_id_text(action->upload, text), expected);
}

void program_discard(struct fl_aggregator *aggregator, uint64_t upload)
{
    char text[ID_SIZE];

    (void)fl_map_remove(aggregator->expected, program_id_text(upload, text));
    fl_bulk_server_forget(aggregator->bulk, text);
}

int program_open_bulk(struct fl_aggregator *aggregator, struct fl_error *err)
{
    const struct fl_bulk_server_options options = {.env = aggregator->program.env,
                                                   .loop = aggregator->program.loop,
                                                   .blobs = aggregator->blobs,
                                                   .fleeting = true, /* their offers come again */
                                                   .uploads_dir = aggregator->uploads_dir,
                                                   .max_upload_bytes =
                                                       aggregator->program.core.max_update_bytes,
                                                   .allow = allow,
                                                   .complete = complete,
                                                   .moved = moved,
                                                   .lacks = lacks,
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

int program_open_http(struct fl_aggregator *aggregator, struct fl_error *err)
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
