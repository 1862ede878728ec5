/* JSONPath as Kubernetes has it: printer columns, `wait --for=jsonpath`, and the templates of
 * `-o jsonpath`.
 *
 * .field, ['field'], [n], [a:b:step], [*], ..field, [?(@.type=="Ready")], unions [0,2], and in
 * templates text, {"quoted"}, {range …}{end}. A backslash takes a dot into a field's name
 * ({.metadata.labels.app\.kubernetes\.io/name}).
 * A compiled path is immutable and shared by threads; results are borrowed from the data (or from
 * the path, for literals). Bounded: the text, its nesting, the number of results. */
#ifndef FL_API_JSONPATH_H
#define FL_API_JSONPATH_H

#include "lib/buf.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_jsonpath;

struct fl_jsonpath_options {
    bool is_template;   /* text with {actions}; otherwise the text is one action, with or without
                           its braces, and a missing leading dot is forgiven */
    bool allow_missing; /* a field that is not there is an empty result, not an error */
};

/* BAD_REQUEST where it cannot be read. */
int fl_jsonpath_compile(const char *text, const struct fl_jsonpath_options *options,
                        struct fl_jsonpath **ret_path, struct fl_error *err);
void fl_jsonpath_destroy(struct fl_jsonpath *path);
FL_DEFINE_CLEANUP(struct fl_jsonpath, fl_jsonpath_destroy)

/* The values of the first action, in order; the array is the arena's, the values are borrowed.
 * NOT_FOUND for a missing field, INVALID for what does not fit the data (an index out of bounds, a
 * filter on what is no list), TOO_LARGE above 100,000 results. */
int fl_jsonpath_eval(const struct fl_jsonpath *path, const json_t *data, struct fl_arena *arena,
                     const json_t *const **ret_values, size_t *ret_count, struct fl_error *err);

/* Appends what the template prints for `data`: results separated by a space. */
int fl_jsonpath_print(const struct fl_jsonpath *path, const json_t *data, struct fl_buf *out,
                      struct fl_error *err);

/* One value as a template prints it: texts as they are, objects and arrays as JSON. */
void fl_jsonpath_print_value(struct fl_buf *out, const json_t *value);

#endif
