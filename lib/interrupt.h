/* SIGINT and SIGTERM for programs without a loop: they are kept, and the work looks now and then
 * whether one has come, so that it ends in good order.
 *
 * Create it before any thread is started: they inherit that the signals wait. Looking is for any
 * thread, and cheap. Only one at a time; the owner destroys it, which gives the signals back. */
#ifndef FL_LIB_INTERRUPT_H
#define FL_LIB_INTERRUPT_H

#include "lib/error.h"

#include <stdbool.h>

struct fl_interrupt;
int fl_interrupt_create(struct fl_interrupt **ret_interrupt, struct fl_error *err);
void fl_interrupt_destroy(struct fl_interrupt *interrupt); /* NULL is fine */
/* From the first signal on. */
bool fl_interrupt_has_come(struct fl_interrupt *interrupt);

#endif
