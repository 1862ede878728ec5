/* What the parts of the layout share. */
#ifndef FL_CMD_TOP_LAYOUT_INTERNAL_H
#define FL_CMD_TOP_LAYOUT_INTERNAL_H

#include "cmd/condition.h"
#include "cmd/paint.h"
#include "cmd/top_layout.h"
#include "lib/str.h"

#define FL_TOP_METRIC "accuracy"

/* All that a pass over the state needs. */
struct layout {
    const struct fl_top *top;
    const struct fl_top_view *view;
    struct fl_arena *arena;
    struct fl_paint paint;
    const json_t **of[FL_TOP_KINDS];
    size_t count[FL_TOP_KINDS];
    struct fl_map *owners; /* uids of all that have a place of their own */
};

static inline const char *text_of(const json_t *object, const char *path)
{
    return fl_str_or(fl_json_str(object, path), "");
}

/* Of its condition Ready. */
const char *reason_of(const json_t *object);
enum fl_paint_style style_of(const json_t *object);
const char *name_of(const struct layout *layout, const json_t *object);
/* Of the project's choice, and its value at the path. */
const char *metric_of(const json_t *project);
const char *value_of(const json_t *object, const char *path, const char *metric);
/* Signs for so many of which some are ready, where they fit. */
void show_dots(struct layout *layout, int64_t ready, int64_t desired);

void show_project(struct layout *layout, const json_t *project);
void show_server(struct layout *layout, const json_t *server);
/* Those of an owner: all that are to be shown. */
void show_workloads_of(struct layout *layout, const json_t *owner);
void show_other_workloads(struct layout *layout);

#endif
