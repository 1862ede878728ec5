/* The lines of `flops top`: what is known of the world in, text out. Pure: neither terminal nor
 * clock; no line has more columns than there are. */
#ifndef FL_CMD_TOP_LAYOUT_H
#define FL_CMD_TOP_LAYOUT_H

#include "cmd/top_state.h"

struct fl_top_view {
    size_t width;        /* columns; 0: as many as it takes */
    bool utf8, colors;   /* what the terminal shows */
    bool workloads;      /* each of them; otherwise only those that have trouble */
    bool with_namespace; /* objects are of several */
    const char *where;   /* "default at https://…" */
    int64_t now_us;      /* of the world's clock */
};

/* The lines at the top, which always stay, and below them those of the objects. */
void fl_top_header(const struct fl_top *top, const struct fl_top_view *view, struct fl_buf *out);
void fl_top_body(const struct fl_top *top, const struct fl_top_view *view, struct fl_buf *out);

/* One object in one line without its newline, for who reads changes one by one. */
void fl_top_line(enum fl_top_kind kind, const json_t *object, bool with_namespace,
                 struct fl_buf *out);

#endif
