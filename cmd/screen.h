/* A live view in a terminal: what its owner paints, whenever something has changed, but not more
 * than four times a second; keys, scrolling, another size of the window, Ctrl-Z and Ctrl-C.
 *
 * The terminal is given back on every way out (lib/terminal.h). Loop thread. */
#ifndef FL_CMD_SCREEN_H
#define FL_CMD_SCREEN_H

#include "lib/env.h"
#include "lib/error.h"
#include "lib/loop.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_buf;

struct fl_screen_options {
    struct fl_loop *loop;
    const struct fl_env *env;
    /* Lines, ended by newlines, none of more than `columns`: the header stays, the body can be
     * scrolled. */
    void (*paint)(void *user, size_t columns, struct fl_buf *header, struct fl_buf *body);
    /* A key that is none of the screen's own; false: nothing has changed. NULL: there are none. */
    bool (*key)(void *user, int key);
    /* It shall end: 0, the user has seen enough; else 128 and the signal's number. */
    void (*end)(void *user, int status);
    void *user;
    const char *hint; /* at the bottom: which keys there are */
    bool utf8, colors;
};

struct fl_screen;
/* UNAVAILABLE where standard output is no terminal to draw on. */
int fl_screen_create(const struct fl_screen_options *options, struct fl_screen **ret_screen,
                     struct fl_error *err);
/* Gives the terminal back. Before the loop; NULL is fine. */
void fl_screen_destroy(struct fl_screen *screen);
FL_DEFINE_CLEANUP(struct fl_screen, fl_screen_destroy)

void fl_screen_changed(struct fl_screen *screen); /* it is drawn anew soon */

/* Which part of `lines` is shown where `window` fit and the user moved to `first`. */
size_t fl_screen_first(size_t first, size_t lines, size_t window);

#endif
