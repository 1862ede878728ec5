/* What registries say in headers: challenges, addresses, links, ranges, tokens.
 *
 * All of it comes from strangers: bounded, and what is malformed is as if it were not there.
 * Results are in the caller's arena. Pure functions; any thread. */
#ifndef FL_LIB_OCI_REGISTRY_PARSE_H
#define FL_LIB_OCI_REGISTRY_PARSE_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_CHALLENGES_MAX     8
#define FL_CHALLENGE_TEXT_MAX 2048

/* WWW-Authenticate (RFC 9110, 11.6.1): one challenge and the parameters that registries use. */
struct fl_challenge {
    const char *scheme;                          /* in lower case: "bearer", "basic" */
    const char *realm, *service, *scope, *error; /* NULL: not said */
};
struct fl_challenges {
    struct fl_challenge items[FL_CHALLENGES_MAX];
    size_t count;
};
/* Of a header's value: all up to what is malformed, at most FL_CHALLENGES_MAX. Adds to what there
 * is already, since the header may come several times. */
void fl_challenges_add(struct fl_arena *arena, const char *value, struct fl_challenges *challenges);
/* Of all such headers among "Name: value" lines. */
void fl_challenges_find(struct fl_arena *arena, const char *headers,
                        struct fl_challenges *ret_challenges);
const struct fl_challenge *fl_challenge_of(const struct fl_challenges *challenges,
                                           const char *scheme); /* NULL: none */

/* "https://Host:8443/path?query": no user, the fragment left out. */
struct fl_registry_url {
    bool https;
    const char *host; /* in lower case; IPv6 in brackets */
    uint16_t port;
    const char *target; /* path and query, as they came; begins with '/' */
};
bool fl_registry_url_parse(struct fl_arena *arena, const char *text,
                           struct fl_registry_url *ret_url);
/* What a Location, Link or realm means that came with the answer for `base` (RFC 3986, 5.2, without
 * removal of dots: a server that sends them gets them back). */
bool fl_registry_url_resolve(struct fl_arena *arena, const struct fl_registry_url *base,
                             const char *text, struct fl_registry_url *ret_url);
bool fl_registry_url_same_origin(const struct fl_registry_url *a, const struct fl_registry_url *b);
const char *fl_registry_url_origin(struct fl_arena *arena, const struct fl_registry_url *url);
/* The target with "key=value" more in its query; the value is escaped, but for ':' and '/'. */
const char *fl_registry_query(struct fl_arena *arena, const char *target, const char *key,
                              const char *value);

/* The address in `Link: <…>; rel="next"`; NULL: none. */
const char *fl_registry_next_link(struct fl_arena *arena, const char *value);

/* Range: "0-1023" (bytes 0 to 1023 are there, so 1024 are). */
bool fl_registry_kept_parse(const char *value, int64_t *ret_count);
/* Content-Range: "bytes 100-999/1000"; *ret_size < 0 for "*". */
bool fl_registry_content_range_parse(const char *value, int64_t *ret_first, int64_t *ret_last,
                                     int64_t *ret_size);

/* The answer of a token service. INVALID where it holds none. */
struct fl_registry_token {
    const char *text;
    int64_t valid_seconds; /* 60 where it does not say; at most a day */
};
int fl_registry_token_parse(struct fl_arena *arena, const char *text, size_t len,
                            struct fl_registry_token *ret_token, struct fl_error *err);

/* {"errors": [{"code", "message"}]}: the first one as a line for people, without control
 * characters, at most 300 bytes; NULL where it is something else. */
const char *fl_registry_error_text(struct fl_arena *arena, const char *text, size_t len);

#endif
