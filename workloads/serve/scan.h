/* Reading JSON in one go, without building values: for bodies that are mostly numbers.
 *
 * A scanner moves over the text; what it reads it hands out, what nobody wants it skips. The first
 * thing that is wrong stops it: every function then says no, and `err` has the place. Depth is
 * bounded. Texts are the caller's, with a NUL behind them (and none within a value). One thread. */
#ifndef FL_WORKLOADS_SERVE_SCAN_H
#define FL_WORKLOADS_SERVE_SCAN_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_SCAN_DEPTH_MAX 32
#define FL_SCAN_RANK_MAX  8

struct fl_scan {
    struct fl_arena *arena; /* of texts that are handed out */
    const char *begin, *at, *end;
    unsigned depth;
    struct fl_error err; /* BAD_REQUEST or INVALID; code 0 while all is well */
};
void fl_scan_init(struct fl_scan *scan, struct fl_arena *arena, const char *text, size_t len);

/* The next byte that is no space; 0 at the end. */
char fl_scan_peek(struct fl_scan *scan);
/* '{' or '['. */
bool fl_scan_open(struct fl_scan *scan, char bracket);
/* Whether another member follows; at the end the closing bracket is taken. `*first` begins true. */
bool fl_scan_more(struct fl_scan *scan, char closing, bool *first);
/* A member's name with its colon; not NUL-terminated. */
bool fl_scan_name(struct fl_scan *scan, const char **ret_name, size_t *ret_len);
bool fl_scan_is(const char *name, size_t len, const char *wanted);
bool fl_scan_text(struct fl_scan *scan, const char **ret_text);
bool fl_scan_int(struct fl_scan *scan, int64_t *ret_value);
bool fl_scan_number(struct fl_scan *scan, float *ret_value); /* true and false too */
bool fl_scan_bool(struct fl_scan *scan, bool *ret_value);
bool fl_scan_skip(struct fl_scan *scan); /* any value */
bool fl_scan_end(struct fl_scan *scan);  /* nothing but spaces are left */
/* Stops it with an error of the caller's; returns false. */
bool fl_scan_fail(struct fl_scan *scan, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Numbers in any nesting of arrays, all rows of a level being equally long; booleans count as 1 and
 * 0. Appends; `shape` is that of the value just read (rank 0: a bare number). */
struct fl_numbers {
    float *items; /* on the heap */
    size_t count, room, max;
    int64_t shape[FL_SCAN_RANK_MAX];
    unsigned rank;
};
void fl_numbers_finish(struct fl_numbers *numbers);
bool fl_scan_numbers(struct fl_scan *scan, struct fl_numbers *numbers);
void fl_numbers_reserve(struct fl_numbers *numbers, size_t count); /* within `max` */
bool fl_numbers_add(struct fl_numbers *numbers, float number);     /* false: more than `max` */

#endif
