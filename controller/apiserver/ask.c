/* Requests of the process itself. They enter by the door that certificates use: whoever can call
 * this could issue one, too. */
#include "controller/apiserver/internal.h"

static int check_name(const char *name, struct fl_error *err)
{
    if (*name && strlen(name) < FL_TLS_NAME_MAX)
        return 0;
    return fl_error_set(err, FL_E_BAD_REQUEST,
                        "the name of a user or group has to have 1 to %d bytes: \"%.40s\"",
                        FL_TLS_NAME_MAX - 1, name);
}

static int make_peer(const struct fl_apiserver_ask *ask, struct fl_tls_peer *peer,
                     struct fl_error *err)
{
    int r = check_name(ask->user, err);

    if (r == 0 && ask->group_count > FL_TLS_GROUPS_MAX)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "a user is in at most %d groups",
                         FL_TLS_GROUPS_MAX);
    if (r < 0)
        return r;
    peer->verified = true;
    (void)snprintf(peer->common_name, sizeof(peer->common_name), "%s", ask->user);
    for (size_t i = 0; r == 0 && i < ask->group_count; i++) {
        r = check_name(ask->groups[i], err);
        (void)snprintf(peer->organizations[i], sizeof(peer->organizations[i]), "%s",
                       ask->groups[i]);
    }
    peer->organization_count = ask->group_count;
    return r;
}

struct fl_http_asked *fl_apiserver_ask(struct fl_apiserver *server,
                                       const struct fl_apiserver_ask *ask,
                                       fl_http_answered_fn *done, void *user)
{
    const struct fl_http_pair headers[] = {
        {"Content-Type", ask->content_type},
        {"Accept", fl_str_or(ask->accept, "application/json")},
        {"User-Agent", fl_str_or(ask->user_agent, "flops")},
    };
    struct fl_tls_peer peer = {0};
    struct fl_error err = {0};
    int r = make_peer(ask, &peer, &err);

    if (r == 0 && !server->http)
        r = fl_error_set(&err, FL_E_UNAVAILABLE, "the API server has ended");
    if (r < 0) {
        done(user, NULL, &err);
        return NULL;
    }
    return fl_http_server_ask(server->http,
                              &(struct fl_http_ask){
                                  .method = ask->method,
                                  .target = ask->target,
                                  .headers = headers,
                                  .header_count = FL_COUNT_OF(headers),
                                  .body = ask->body,
                                  .peer = &peer,
                                  .max_stream_bytes = ask->max_stream_bytes,
                              },
                              done, user);
}
