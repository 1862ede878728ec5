/* Files in parts: what a request says of the part it wants, and the answer with it.
 *
 * For content that never changes under its entity tag. Pure functions but for the answer; any
 * thread, the answer on the loop's. */
#ifndef FL_LIB_HTTP_RANGE_H
#define FL_LIB_HTTP_RANGE_H

#include "lib/http_server.h"

#include <stdbool.h>
#include <stdint.h>

/* The part of `size` bytes that a Range header asks for. */
enum fl_http_range { FL_HTTP_WHOLE, FL_HTTP_PART, FL_HTTP_UNSATISFIABLE };
struct fl_http_part {
    uint64_t offset, len;
};
/* What is malformed, of another unit or asks for several parts is as if it were not there (RFC
 * 9110, 14.2). `header` may be NULL. */
enum fl_http_range fl_http_range_parse(const char *header, uint64_t size,
                                       struct fl_http_part *ret_part);

/* Whether a list of entity tags (If-None-Match) names this one, or is "*". NULL: no. */
bool fl_http_etag_matches(const char *header, const char *etag);

/* 304 where the request has it already; else the file of `size` bytes or the part of it that the
 * request asks for (200, 206, 416), with ETag and Accept-Ranges. Takes the descriptor. */
void fl_http_respond_ranges(struct fl_http_request *request, const char *etag,
                            const char *content_type, int fd, uint64_t size);

#endif
