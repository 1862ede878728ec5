/* Between jsonpath_parse.c and jsonpath.c only. */
#ifndef FL_API_JSONPATH_INTERNAL_H
#define FL_API_JSONPATH_INTERNAL_H

#include "api/jsonpath.h"

enum jsonpath_step_type {
    JSONPATH_FIELD,
    JSONPATH_SLICE,
    JSONPATH_WILDCARD,
    JSONPATH_RECURSIVE,
    JSONPATH_FILTER,
    JSONPATH_UNION,
    JSONPATH_LITERAL,
};

enum jsonpath_compare {
    JSONPATH_EXISTS,
    JSONPATH_EQUAL,
    JSONPATH_NOT_EQUAL,
    JSONPATH_LESS,
    JSONPATH_LESS_EQUAL,
    JSONPATH_GREATER,
    JSONPATH_GREATER_EQUAL,
};

struct jsonpath_bound {
    bool known;
    bool derived; /* one more than the start: [n] */
    int64_t value;
};

struct jsonpath_steps {
    struct jsonpath_step *items;
    size_t count, cap;
};

struct jsonpath_step {
    enum jsonpath_step_type type;
    const char *name;
    struct jsonpath_bound bounds[3]; /* start, end, step */
    enum jsonpath_compare compare;
    struct jsonpath_steps left, right; /* of a filter */
    struct jsonpath_steps *branches;   /* of a union */
    size_t branch_count;
    const json_t *literal;
};

enum jsonpath_part_type { JSONPATH_TEXT, JSONPATH_ACTION, JSONPATH_RANGE, JSONPATH_END };

struct jsonpath_part {
    enum jsonpath_part_type type;
    const char *text;
    size_t end; /* of a range: the index behind its {end} */
    struct jsonpath_steps steps;
};

struct fl_jsonpath {
    struct fl_arena *arena;
    bool allow_missing;
    struct jsonpath_part *parts;
    size_t part_count, part_cap;
};

#define JSONPATH_MAX_BYTES   ((size_t)8 * 1024)
#define JSONPATH_MAX_NESTING 16u
#define JSONPATH_MAX_RESULTS ((size_t)100000)

int fl_jsonpath_parse(struct fl_jsonpath *path, const char *text, bool is_template,
                      struct fl_error *err);

#endif
