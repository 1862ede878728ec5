/* Requests' places, errors on the wire, and seeds. */
#include "workloads/protocol/protocol.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TARGET_MAX 2048

static const struct route {
    const char *method, *path; /* '*': a round's number */
    enum fl_route route;
    bool control_plane;
} routes[] = {
    {"POST", "/v1/join", FL_ROUTE_JOIN, false},
    {"GET", "/v1/task", FL_ROUTE_TASK, false},
    {"POST", "/v1/progress", FL_ROUTE_PROGRESS, false},
    {"POST", "/v1/updates", FL_ROUTE_OFFER, false},
    {"POST", "/v1/evaluations", FL_ROUTE_RESULT, false},
    {"POST", "/v1/leave", FL_ROUTE_LEAVE, false},
    {"PUT", "/v1/rounds/*", FL_ROUTE_START_ROUND, true},
    {"GET", "/v1/rounds/*", FL_ROUTE_WATCH_ROUND, true},
    {"POST", "/v1/rounds/*/abort", FL_ROUTE_ABORT_ROUND, true},
    {"PUT", "/v1/children", FL_ROUTE_CHILDREN, true},
    {"POST", "/v1/stop", FL_ROUTE_STOP, true},
    {"GET", "/v1/status", FL_ROUTE_STATUS, true},
};

bool fl_route_is_control_plane(enum fl_route route)
{
    for (size_t i = 0; i < FL_COUNT_OF(routes); i++)
        if (routes[i].route == route)
            return routes[i].control_plane;
    return false;
}

/* Does the path have the pattern's form; and its number, where there is one. */
static bool matches(const char *pattern, const char *path, int64_t *ret_round)
{
    const char *star = strchr(pattern, '*');
    size_t before = star ? (size_t)(star - pattern) : strlen(pattern);
    char digits[16];
    size_t len;

    if (strncmp(pattern, path, before) != 0)
        return false;
    if (!star)
        return path[before] == '\0';
    len = strcspn(path + before, "/");
    if (len == 0 || len >= sizeof(digits) || strcmp(path + before + len, star + 1) != 0)
        return false;
    memcpy(digits, path + before, len);
    digits[len] = '\0';
    return fl_str_to_int64(digits, 1, INT32_MAX, ret_round);
}

static const struct route *find_route(const char *method, const char *path, int64_t *ret_round,
                                      bool *ret_path_known)
{
    *ret_path_known = false;
    for (size_t i = 0; i < FL_COUNT_OF(routes); i++) {
        if (!matches(routes[i].path, path, ret_round))
            continue;
        *ret_path_known = true;
        if (fl_streq(routes[i].method, method))
            return &routes[i];
    }
    return NULL;
}

static int read_parameter(struct fl_arena *arena, const char *pair, struct fl_routed *routed,
                          struct fl_error *err)
{
    const char *equals = strchr(pair, '=');
    const char *value = equals ? fl_url_decode(arena, equals + 1, strlen(equals + 1), true) : NULL;
    size_t len = equals ? (size_t)(equals - pair) : 0;

    if (!value)
        return fl_error_set(err, FL_E_BAD_REQUEST, "a parameter without a value");
    if (len == 7 && strncmp(pair, "learner", len) == 0)
        routed->learner = value;
    else if (len == 4 && strncmp(pair, "join", len) == 0)
        routed->join = value;
    else if (len == 5 && strncmp(pair, "after", len) == 0 &&
             !fl_str_to_int64(value, 0, FL_PROTOCOL_NUMBER_MAX, &routed->after))
        return fl_error_set(err, FL_E_BAD_REQUEST, "after: is no number");
    return 0;
}

int fl_protocol_route(struct fl_arena *arena, const char *method, const char *target,
                      struct fl_routed *ret_routed, struct fl_error *err)
{
    const char *question = strchr(target, '?');
    const char *rest = question ? question + 1 : NULL, *pair;
    struct fl_routed routed = {0};
    const struct route *route;
    bool known;

    if (strlen(target) > TARGET_MAX)
        return fl_error_set(err, FL_E_BAD_REQUEST, "the target is too long");
    target = question ? fl_arena_strndup(arena, target, (size_t)(question - target)) : target;
    route = find_route(method, target, &routed.round, &known);
    if (!route && known)
        return fl_error_set(err, FL_E_METHOD_NOT_ALLOWED, "%.16s is not for this path", method);
    if (!route)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no such path");
    routed.route = route->route;
    routed.after = route->route == FL_ROUTE_STATUS ? -1 : 0;
    while (rest && (pair = fl_str_next(arena, &rest, '&')) != NULL)
        if (*pair && read_parameter(arena, pair, &routed, err) < 0)
            return err ? err->code : FL_E_BAD_REQUEST;
    if (routed.route == FL_ROUTE_TASK &&
        (!routed.learner || strlen(routed.learner) > FL_PROTOCOL_NAME_MAX))
        return fl_error_set(err, FL_E_BAD_REQUEST, "learner: is missing or too long");
    *ret_routed = routed;
    return 0;
}

struct fl_bytes *fl_protocol_error(const struct fl_error *err, const char *reason)
{
    FL_JSON value = json_object();
    json_t *error = fl_json_ensure_object(value, "error");

    fl_json_set_str(error, "reason", fl_str_or(reason, fl_error_reason(err->code)));
    fl_json_set_str(error, "message", err->msg);
    return fl_json_to_bytes(value);
}

int fl_protocol_read_error(int http_status, const void *text, size_t len, bool *ret_not_joined,
                           struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = 64 * 1024, .max_depth = 16};
    const char *reason, *message;
    FL_JSON value = NULL;

    *ret_not_joined = false;
    if (fl_json_parse(text, len, &limits, NULL, NULL, &value, NULL) < 0)
        return fl_error_set(err, fl_error_from_status(NULL, http_status), "HTTP status %d",
                            http_status);
    reason = fl_json_str(value, "error.reason");
    message = fl_json_str(value, "error.message");
    *ret_not_joined = fl_streq(reason, FL_REASON_NOT_JOINED);
    return fl_error_set(err, fl_error_from_status(reason, http_status), "%s",
                        fl_str_or(message, "without a message"));
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t fl_protocol_hash(int64_t seed, int64_t a, int64_t b, const char *id)
{
    uint64_t hash = mix((uint64_t)seed + 0x9e3779b97f4a7c15u);

    hash = mix(hash ^ (uint64_t)a);
    hash = mix(hash ^ (uint64_t)b);
    for (const char *c = id; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return mix(hash);
}

int64_t fl_protocol_seed(int64_t seed, int64_t round, const char *learner)
{
    return (int64_t)(fl_protocol_hash(seed, round, 1, learner) >> 11);
}
