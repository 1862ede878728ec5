/* YAML as Kubernetes reads it: libyaml events into jansson values, with YAML 1.1 meaning.
 *
 * Plain yes/no/on/off/true/false are booleans, 0777 is octal, keys become strings, "<<" merges,
 * duplicate keys are errors, several documents are separated by "---". Anchors are allowed within
 * a bound on what they expand to (billion laughs). JSON is YAML, so this reads both. */
#ifndef FL_LIB_YAML_H
#define FL_LIB_YAML_H

#include "lib/buf.h"
#include "lib/error.h"
#include "lib/json.h"

struct fl_yaml_limits {
    size_t max_bytes;     /* 0: 3 MiB */
    unsigned max_depth;   /* 0: 128 */
    size_t max_nodes;     /* values after expansion of anchors; 0: 1,000,000 */
    size_t max_documents; /* 0: 10,000 */
};

/* One document: its value (borrowed for the call; json_incref to keep it) and the line it begins
 * on, counted from 1. Empty documents are skipped. A return < 0 stops and is passed on. */
typedef int fl_yaml_document_fn(void *user, json_t *value, size_t line, struct fl_error *err);

/* Errors name line and column and are BAD_REQUEST (TOO_LARGE above a limit). Documents before a
 * broken one have been delivered by then. `limits` may be NULL. */
int fl_yaml_parse_all(const char *text, size_t len, const struct fl_yaml_limits *limits,
                      fl_yaml_document_fn *document, void *user, struct fl_error *err);

/* Exactly one document; the caller owns *ret_value. */
int fl_yaml_parse(const char *text, size_t len, const struct fl_yaml_limits *limits,
                  json_t **ret_value, struct fl_error *err);

/* Block style as kubectl prints it: two spaces, sorted keys, "- " at the parent's column, strings
 * quoted only where they would read as something else, multi-line text as |. Ends in a newline. */
void fl_yaml_write(struct fl_buf *buf, const json_t *value);

#endif
