/* Decimal numbers in text, fast. Any thread. */
#ifndef FL_WORKLOADS_NUMBER_H
#define FL_WORKLOADS_NUMBER_H

#include <stdbool.h>

/* Reads [-+]digits[.digits][e[-+]digits] at `text`, as strtod would round it; nothing else (no
 * infinity, NaN, hex, spaces). Returns what stands behind it, or NULL where there is no number or
 * one of more than 120 characters. */
const char *fl_number_read(const char *text, const char *end, double *ret_value);

#endif
