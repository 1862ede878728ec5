/* JSON: jansson's values behind bounded, exact reading and canonical writing.
 *
 * Code uses json_t and jansson's accessors directly; what comes from outside enters through
 * fl_json_parse only, which bounds size and nesting, refuses bad UTF-8 and NUL in strings, and can
 * name duplicate keys.
 * Canonical form is compact with sorted keys, so equal values are equal bytes.
 * A json_t is owned by reference count; names say `new`/steal (`json_object_set_new`) or borrow.
 * A value is used by one thread at a time. */
#ifndef FL_LIB_JSON_H
#define FL_LIB_JSON_H

#include "lib/buf.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void fl_json_decrefp(json_t **json)
{
    json_decref(*json);
}
#define FL_JSON FL_CLEANUP(fl_json_decrefp) json_t *

struct fl_json_limits {
    size_t max_bytes;   /* 0: FL_JSON_MAX_BYTES */
    unsigned max_depth; /* nested objects and arrays; 0: FL_JSON_MAX_DEPTH */
};
#define FL_JSON_MAX_BYTES ((size_t)3 * 1024 * 1024)
#define FL_JSON_MAX_DEPTH 128u

/* Called for each key that an object has twice, with the path of the doubled field in Kubernetes'
 * form ("spec.rounds", "spec.tiers[0].name"), without its end where it has more than 4 KiB. The
 * last value wins, as in Go. */
typedef void fl_json_duplicate_fn(void *user, const char *path);

/* Parses one JSON value that fills the text. BAD_REQUEST (with line and column) where it is not
 * JSON or nests too deep, TOO_LARGE above the size limit. Integers that do not fit 64 bits become
 * reals. `limits` and `duplicate` may be NULL. The caller owns *ret_value. */
int fl_json_parse(const char *text, size_t len, const struct fl_json_limits *limits,
                  fl_json_duplicate_fn *duplicate, void *user, json_t **ret_value,
                  struct fl_error *err);

/* One value of at most `max_bytes` from a pipe or file to its end. Its text may hold secrets, and
 * is overwritten. */
int fl_json_read_secret(int fd, size_t max_bytes, json_t **ret_value, struct fl_error *err);

/* Canonical text, appended. Reals print as the shortest text that reads back the same; integral
 * reals below 2^53 print as integers. */
void fl_json_write(struct fl_buf *buf, const json_t *value);
struct fl_bytes *fl_json_to_bytes(const json_t *value);
char *fl_json_to_string(struct fl_arena *arena, const json_t *value);
/* For people: two-space indentation, sorted keys, a newline at the end. */
void fl_json_write_pretty(struct fl_buf *buf, const json_t *value);

/* Borrowed look-ups by a path of keys separated by '.' ("metadata.name"); keys with dots in them
 * need json_object_get. NULL (or the fallback) where absent or of another type. */
json_t *fl_json_path(const json_t *value, const char *path);
const char *fl_json_str(const json_t *value, const char *path);
int64_t fl_json_int(const json_t *value, const char *path, int64_t fallback);
bool fl_json_bool(const json_t *value, const char *path, bool fallback);

/* "object", "array", "string", "integer", "number", "boolean" or "null". */
const char *fl_json_type_name(const json_t *value);

/* The object at `key`, made where it is absent or null. Borrowed. */
json_t *fl_json_ensure_object(json_t *object, const char *key);
/* Sets text at a key; NULL text removes the key. */
void fl_json_set_str(json_t *object, const char *key, const char *text);

/* Ends with the arena. Returns `value` (ownership moves to the arena). */
json_t *fl_json_in_arena(struct fl_arena *arena, json_t *value);

#endif
