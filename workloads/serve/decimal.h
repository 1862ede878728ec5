/* Numbers as JSON writes them, between text and bits, fast. Any thread.
 *
 * Reading rounds once, to the nearest double, as strtod does, for every text; what fits 19 digits
 * (all that programs print) takes one division at most. Writing a float gives the fewest digits,
 * nine at most, that read back as the same float. */
#ifndef FL_WORKLOADS_DECIMAL_H
#define FL_WORKLOADS_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

#define FL_DECIMAL_LONGEST 400 /* characters of a number; nobody needs more */

/* Reads one JSON number: -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][-+]?[0-9]+)?. What `end` points to is
 * readable and no part of a number (a NUL). Returns what stands behind the number; NULL where there
 * is none, or one that is too long. Out of a double's range it is infinite. */
const char *fl_decimal_read(const char *text, const char *end, double *ret_value);

#define FL_DECIMAL_TEXT_SIZE 32
/* A finite value, always with a point or an exponent; returns the length. Not NUL-terminated. */
size_t fl_decimal_write_float(float value, char out[FL_DECIMAL_TEXT_SIZE]);
size_t fl_decimal_write_double(double value, char out[FL_DECIMAL_TEXT_SIZE]);
size_t fl_decimal_write_int(int64_t value, char out[FL_DECIMAL_TEXT_SIZE]);

#endif
