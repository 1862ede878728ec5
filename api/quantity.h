/* Quantities as Kubernetes writes them ("500m", "1.5", "256Mi") as plain numbers. Any thread. */
#ifndef FL_API_QUANTITY_H
#define FL_API_QUANTITY_H

#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

/* The amount times `scale` (1: bytes; 1000: thousandths of a core), rounded up and at most
 * INT64_MAX. False where it is none of the form that the CRDs allow. */
bool fl_quantity_parse(const char *text, int64_t scale, int64_t *ret_amount);

/* The shortest exact form: "2" or "1500m"; "512Mi" or "1000". Arena. */
char *fl_quantity_of_milli(struct fl_arena *arena, int64_t milli);
char *fl_quantity_of_bytes(struct fl_arena *arena, int64_t bytes);

#endif
