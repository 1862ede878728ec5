/* A terminal that a program takes over for a while, and gives back as it was, whatever happens.
 *
 * Between fl_terminal_open and fl_terminal_close the alternate screen is shown, keys come one by
 * one and unechoed, and the cursor is hidden. A crash (SIGSEGV, SIGABRT …) gives the terminal back
 * before it takes its course; SIGINT, SIGTERM and the like are the owner's to catch, who then
 * closes. For the sake of the crash there is one terminal a process. One thread. */
#ifndef FL_LIB_TERMINAL_H
#define FL_LIB_TERMINAL_H

#include "lib/buf.h"
#include "lib/error.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_terminal;

/* On descriptors 0 (keys; none where it is no terminal) and 1. UNAVAILABLE where 1 is no terminal
 * that can be drawn on (see below). */
int fl_terminal_open(struct fl_terminal **ret_terminal, struct fl_error *err);
void fl_terminal_close(struct fl_terminal *terminal); /* gives back; NULL is fine */
FL_DEFINE_CLEANUP(struct fl_terminal, fl_terminal_close)

/* Gives the terminal back and stops the process as Ctrl-Z does; on when it is continued. */
void fl_terminal_suspend(struct fl_terminal *terminal);

/* The screen becomes these lines, ended by newlines, of which only what differs from the last time
 * is written; `anew`: all of it. Lines are not longer than the screen is wide, nor more than it is
 * high. */
void fl_terminal_draw(struct fl_terminal *terminal, const struct fl_buf *lines, bool anew);

enum fl_terminal_key {
    FL_KEY_NONE = 0, /* a character is itself */
    FL_KEY_UP = 256,
    FL_KEY_DOWN,
    FL_KEY_PAGE_UP,
    FL_KEY_PAGE_DOWN,
    FL_KEY_HOME,
    FL_KEY_END,
};
/* Descriptor that is readable when keys are there; -1: there are none. */
int fl_terminal_keys_fd(const struct fl_terminal *terminal);
/* Reads what is there, without waiting. How many of `keys` were filled; < 0: no more will come. */
int fl_terminal_read_keys(struct fl_terminal *terminal, int *keys, size_t max);

/* Of a descriptor. False, and 80 x 24, where it is no terminal. */
bool fl_terminal_size(int fd, size_t *ret_columns, size_t *ret_rows);
/* A terminal that can be drawn on: it has a size, and is not "dumb". */
bool fl_terminal_can_draw(int fd);
/* Whether the locale's characters are UTF-8's. */
bool fl_terminal_is_utf8(void);

#endif
