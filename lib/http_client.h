/* An HTTP client (libcurl): blocking, for the command line and tests; and streaming, for watches.
 *
 * Every call has a deadline and a bound on what it accepts. Large bodies are transferred: sent from
 * the caller's memory as they lie there or from a file, received piece by piece. Redirects are not
 * followed. One client is used by one thread; it keeps connections open between calls. */
#ifndef FL_LIB_HTTP_CLIENT_H
#define FL_LIB_HTTP_CLIENT_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_http_client;

struct fl_http_client_options {
    const char *base_url;                    /* "https://127.0.0.1:6443", no slash at the end */
    const char *ca_file;                     /* PEM; NULL: the system's */
    const char *cert_file, *key_file;        /* client certificate; may be NULL */
    const char *ca_pem, *cert_pem, *key_pem; /* the same as text; each wins over its file */
    const char *bearer_token;                /* may be NULL; never logged */
    const char *user_agent;
    bool insecure;              /* no certificate check */
    int64_t connect_timeout_ms; /* 0: 10 s */
    size_t max_response_bytes;  /* 0: 256 MiB */
};

int fl_http_client_create(const struct fl_http_client_options *options,
                          struct fl_http_client **ret_client, struct fl_error *err);
void fl_http_client_destroy(struct fl_http_client *client);
FL_DEFINE_CLEANUP(struct fl_http_client, fl_http_client_destroy)

struct fl_http_call {
    const char *method;
    const char *target;       /* path and query, beginning with '/' */
    const char *content_type; /* of the body; may be NULL */
    const char *accept;       /* may be NULL */
    const void *body;
    size_t body_len;
    int64_t timeout_ms; /* 0: 60 s; for a stream: without any byte, 0: none */
    int64_t total_ms;   /* of a stream, from its beginning to its end; 0: no bound */
    bool as_it_comes;   /* of a stream: pieces with their newlines in place of lines */
};

/* UNAVAILABLE where no connection can be made, TIMEOUT past the deadline. Any HTTP status is a
 * success here; `*ret_headers` (may be NULL) holds "Name: value" lines. */
int fl_http_call(struct fl_http_client *client, const struct fl_http_call *call, int *ret_status,
                 struct fl_bytes **ret_body, char **ret_headers, struct fl_error *err);

/* `line` gets each line of the answer without its newline, as it comes; a return != 0 ends the
 * call and is returned (> 0 ends well). An answer other than 200 is collected into *ret_body. */
typedef int fl_http_line_fn(void *user, const char *line, size_t len, struct fl_error *err);
int fl_http_stream(struct fl_http_client *client, const struct fl_http_call *call,
                   fl_http_line_fn *line, void *user, int *ret_status, struct fl_bytes **ret_body,
                   struct fl_error *err);

/* A large body, one way or the other. `begin` sees the status and the headers ("Name: value" lines)
 * of the answer before its body; `piece` gets the body of a 200 or 206 as it comes (other bodies
 * are collected into *ret_body). < 0 from either breaks off and is returned, with the error they
 * set. `beat` is called about every second and whenever something has moved; false breaks off
 * (UNAVAILABLE). Each may be NULL. */
typedef int fl_http_headers_fn(void *user, int status, const char *headers, struct fl_error *err);
typedef int fl_http_piece_fn(void *user, const void *data, size_t len, struct fl_error *err);
typedef bool fl_http_beat_fn(void *user, int64_t sent, int64_t received);
struct fl_http_transfer {
    const char *method, *target;
    const char *const *headers; /* "Name: value" */
    size_t header_count;
    const void *body; /* NULL: none */
    size_t body_len;
    /* Instead: `body_len` bytes of a file from `file_offset` on, which are there and stay. */
    bool from_file;
    int file;
    int64_t file_offset;
    fl_http_headers_fn *begin;
    fl_http_piece_fn *piece;
    fl_http_beat_fn *beat;
    void *user;
    int64_t quiet_ms; /* without a byte in either direction; 0: 60 s */
    int64_t total_ms; /* 0: no bound */
};
int fl_http_transfer(struct fl_http_client *client, const struct fl_http_transfer *transfer,
                     int *ret_status, struct fl_bytes **ret_body, char **ret_headers,
                     struct fl_error *err);

/* The value of the last such line, in `out`; false where it is absent or does not fit. */
bool fl_http_find_header(const char *headers, const char *name, char *out, size_t size);

/* How long Retry-After (seconds, or a date) asks to wait; `now_us` since 1970. 0 where it says
 * nothing; at most a day. */
int64_t fl_http_retry_after_ms(const char *headers, int64_t now_us);

#endif
