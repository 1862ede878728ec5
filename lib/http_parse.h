/* HTTP/1.1 as bytes: request heads and chunked bodies, without sockets, time or callbacks.
 *
 * Strict where leniency has been used to smuggle requests: lines end in CRLF (a bare LF or CR is an
 * error), no folded headers, no space before a colon, one Host, one Content-Length, never both
 * Content-Length and Transfer-Encoding, no coding but "chunked". Empty lines before a request line
 * are skipped, as RFC 9112 asks.
 *
 * An error is an HTTP status (400, 414, 431, 501, 505 …) and a constant text that says why. */
#ifndef FL_LIB_HTTP_PARSE_H
#define FL_LIB_HTTP_PARSE_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_http_field {
    const char *name, *value; /* without spaces around */
    size_t name_len;
};

struct fl_http_head {
    const char *method;
    const char *target; /* path and query; of an absolute-form target what follows the authority */
    const char *path;   /* the target without its query */
    const char *query;  /* "" if none */
    struct fl_http_field *fields;
    size_t field_count;
    int minor;              /* HTTP/1.<minor>, 0 or 1 */
    int64_t content_length; /* -1: not given */
    bool chunked, keep_alive, expect_continue;
};

struct fl_http_fault {
    int status;         /* 0 while there is none */
    const char *detail; /* constant */
};

/* Looks for the end of a head in what has come so far, which begins at a request's first byte.
 * `*scanned` (0 at first) remembers how far was looked. Returns the length of the head with its
 * blank line, or 0: not complete yet. Also where a fault is certain already. */
size_t fl_http_head_end(const char *data, size_t len, size_t *scanned,
                        struct fl_http_fault *ret_fault);

/* Bytes of empty lines in front of a request. */
size_t fl_http_blank_prefix(const char *data, size_t len);

/* Parses a complete head of `len` bytes in place: the strings of *ret_head point into `data`, which
 * is changed and must live as long as they do; the fields are in the arena. False: a fault. */
bool fl_http_head_parse(struct fl_arena *arena, char *data, size_t len, size_t max_fields,
                        struct fl_http_head *ret_head, struct fl_http_fault *ret_fault);

/* The first field of that name, from `*at` (0 at first) on; case does not matter. */
const char *fl_http_head_find(const struct fl_http_head *head, const char *name, size_t *at);

/* Is `token` among the comma-separated elements of `list`? Case does not matter. */
bool fl_http_list_has(const char *list, const char *token);

/* Decodes a chunked body as it comes. Chunk extensions and trailers are read and dropped, both are
 * bounded. */
struct fl_http_chunks {
    int state;
    uint64_t left; /* of the chunk */
    size_t digits, line_len, trailer_bytes;
};

enum fl_http_chunk_event {
    FL_HTTP_CHUNK_MORE,  /* all input was taken, the body goes on */
    FL_HTTP_CHUNK_DATA,  /* *ret_piece of *ret_piece_len bytes belongs to the body; call again */
    FL_HTTP_CHUNK_END,   /* the body is complete; *data is at what follows it */
    FL_HTTP_CHUNK_FAULT, /* *ret_fault is set */
};

/* Moves *data and *len past what was taken. Begin with a zeroed struct. */
enum fl_http_chunk_event fl_http_chunks_next(struct fl_http_chunks *chunks, const char **data,
                                             size_t *len, const char **ret_piece,
                                             size_t *ret_piece_len,
                                             struct fl_http_fault *ret_fault);

const char *fl_http_status_text(int status); /* "Not Found" */

#endif
