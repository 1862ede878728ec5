/* A request as a stranger may send it: a head, and a body where the head says chunked. Whatever
 * comes, the parser stays within its input, and what it accepts keeps its promises. */
#include "lib/http_parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void check_head(const struct fl_http_head *head)
{
    check(*head->method && *head->path && head->query);
    check(head->path[0] == '/' || strcmp(head->path, "*") == 0);
    check(strlen(head->path) <= strlen(head->target));
    check(!(head->chunked && head->content_length >= 0));
    for (size_t i = 0; i < head->field_count; i++) {
        check(strlen(head->fields[i].name) == head->fields[i].name_len);
        check(!strpbrk(head->fields[i].value, "\r\n"));
    }
}

/* The body's bytes (summed up) must not depend on how they are cut. */
static uint64_t decode(const char *data, size_t len, size_t step)
{
    struct fl_http_chunks chunks = {0};
    struct fl_http_fault fault;
    uint64_t sum = 1;

    while (len > 0) {
        const char *at = data, *piece;
        size_t left = step < len ? step : len, piece_len, offered = left;
        enum fl_http_chunk_event event;

        while ((event = fl_http_chunks_next(&chunks, &at, &left, &piece, &piece_len, &fault)) ==
               FL_HTTP_CHUNK_DATA)
            for (size_t i = 0; i < piece_len; i++)
                sum = sum * 31 + (unsigned char)piece[i];
        if (event != FL_HTTP_CHUNK_MORE)
            return sum * 31 + (unsigned)event;
        check(left == 0);
        data += offered;
        len -= offered;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text = (const char *)data;
    size_t blank = fl_http_blank_prefix(text, size), scanned = 0, end;
    struct fl_http_fault fault;
    struct fl_http_head head;

    text += blank;
    size -= blank;
    end = fl_http_head_end(text, size, &scanned, &fault);
    if (end == 0) {
        (void)decode(text, size, size);
        return 0;
    }
    if (!fl_http_head_parse(arena, fl_arena_strndup(arena, text, end), end, 100, &head, &fault)) {
        check(fault.status >= 400 && fault.status <= 599 && fault.detail);
        return 0;
    }
    check_head(&head);
    if (head.chunked)
        check(decode(text + end, size - end, size) == decode(text + end, size - end, 1));
    return 0;
}
