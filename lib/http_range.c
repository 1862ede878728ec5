#include "lib/http_range.h"

#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define DIGITS "0123456789"

/* A number of digits only, moving `*at` behind it. False where there is none, or it is too large.
 */
static bool take_number(const char **at, uint64_t *ret_number)
{
    size_t len = strspn(*at, DIGITS);
    char text[20];

    if (len == 0 || len >= sizeof(text))
        return false;
    memcpy(text, *at, len);
    text[len] = '\0';
    *at += len;
    return fl_str_to_uint64(text, INT64_MAX, ret_number);
}

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t");
}

static enum fl_http_range clip(uint64_t first, uint64_t last, uint64_t size,
                               struct fl_http_part *ret_part)
{
    if (first > last)
        return FL_HTTP_WHOLE; /* malformed */
    if (first >= size)
        return FL_HTTP_UNSATISFIABLE;
    if (last >= size)
        last = size - 1;
    *ret_part = (struct fl_http_part){first, last - first + 1};
    return FL_HTTP_PART;
}

static enum fl_http_range parse_suffix(const char *at, uint64_t size, struct fl_http_part *ret_part)
{
    uint64_t len;

    if (!take_number(&at, &len) || *skip_space(at))
        return FL_HTTP_WHOLE;
    if (len == 0 || size == 0)
        return FL_HTTP_UNSATISFIABLE;
    return clip(len < size ? size - len : 0, size - 1, size, ret_part);
}

enum fl_http_range fl_http_range_parse(const char *header, uint64_t size,
                                       struct fl_http_part *ret_part)
{
    uint64_t first, last = INT64_MAX;
    const char *at;

    if (!header || strncasecmp(header, "bytes=", 6) != 0)
        return FL_HTTP_WHOLE;
    at = skip_space(header + 6);
    if (*at == '-')
        return parse_suffix(at + 1, size, ret_part);
    if (!take_number(&at, &first) || *at++ != '-')
        return FL_HTTP_WHOLE;
    if (strspn(at, DIGITS) > 0 && !take_number(&at, &last))
        return FL_HTTP_WHOLE;
    if (*skip_space(at))
        return FL_HTTP_WHOLE;
    return clip(first, last, size, ret_part);
}

bool fl_http_etag_matches(const char *header, const char *etag)
{
    size_t len = strlen(etag);

    while (header && *header) {
        size_t item;

        header += strspn(header, " \t,");
        if (strncmp(header, "W/", 2) == 0)
            header += 2;
        item = strcspn(header, ",");
        while (item > 0 && strchr(" \t", header[item - 1]))
            item--;
        if ((item == 1 && *header == '*') || (item == len && memcmp(header, etag, len) == 0))
            return true;
        header += strcspn(header, ",");
    }
    return false;
}

/* Answering */

static enum fl_http_range range_of(const struct fl_http_request *request, const char *etag,
                                   uint64_t size, struct fl_http_part *ret_part)
{
    const char *if_range = fl_http_header(request, "If-Range");

    if (if_range && strcmp(if_range, etag) != 0)
        return FL_HTTP_WHOLE;
    return fl_http_range_parse(fl_http_header(request, "Range"), size, ret_part);
}

void fl_http_respond_ranges(struct fl_http_request *request, const char *etag,
                            const char *content_type, int fd, uint64_t size)
{
    struct fl_http_part part = {0, size};
    enum fl_http_range range = range_of(request, etag, size, &part);
    int status = 200;
    char text[80];

    fl_http_set_header(request, "ETag", etag);
    if (fl_http_etag_matches(fl_http_header(request, "If-None-Match"), etag)) {
        (void)close(fd);
        fl_http_respond(request, 304, NULL, "", 0);
        return;
    }
    fl_http_set_header(request, "Accept-Ranges", "bytes");
    if (range == FL_HTTP_PART) {
        (void)snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, part.offset,
                       part.offset + part.len - 1, size);
        fl_http_set_header(request, "Content-Range", text);
        status = 206;
    } else if (range == FL_HTTP_UNSATISFIABLE) {
        (void)snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
        fl_http_set_header(request, "Content-Range", text);
        part = (struct fl_http_part){0, 0};
        status = 416;
    }
    fl_http_respond_file(request, status, content_type, fd, part.offset, part.len);
}
