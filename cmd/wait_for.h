/* What `flops wait --for` says, and whether an object is there. Pure. */
#ifndef FL_CMD_WAIT_FOR_H
#define FL_CMD_WAIT_FOR_H

#include "lib/error.h"
#include "lib/json.h"

struct fl_jsonpath;

enum fl_wait_kind { FL_WAIT_CONDITION, FL_WAIT_JSONPATH, FL_WAIT_DELETE, FL_WAIT_CREATE };

struct fl_wait_for {
    enum fl_wait_kind kind;
    const char *condition, *path_text;
    const char *value; /* NULL: any */
    struct fl_jsonpath *path;
};

#define FL_WAIT_TEXT_SIZE 512

/* BAD_REQUEST where it is none of the forms. Texts are in the arena. */
int fl_wait_for_parse(struct fl_arena *arena, const char *text, struct fl_wait_for *ret_goal,
                      struct fl_error *err);
void fl_wait_for_finish(struct fl_wait_for *goal);

/* `object` NULL: it does not exist. `text` becomes what was seen, for a message. A condition that
 * was observed of an older generation does not count. */
bool fl_wait_for_is_met(const struct fl_wait_for *goal, const json_t *object,
                        char text[FL_WAIT_TEXT_SIZE]);

#endif
