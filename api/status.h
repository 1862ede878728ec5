/* What the API says when something is wrong: field errors, and Kubernetes' Status object.
 *
 * A validator collects field errors in a list (arena-owned, bounded); the list becomes one error
 * text and the causes of a Status. Pure functions; any thread. */
#ifndef FL_API_STATUS_H
#define FL_API_STATUS_H

#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stddef.h>

/* reason as in metav1.Cause, and the words that begin its message */
#define FL_FIELD_ERRORS(X)                                                                         \
    X(INVALID, "FieldValueInvalid", "Invalid value")                                               \
    X(REQUIRED, "FieldValueRequired", "Required value")                                            \
    X(NOT_SUPPORTED, "FieldValueNotSupported", "Unsupported value")                                \
    X(FORBIDDEN, "FieldValueForbidden", "Forbidden")                                               \
    X(DUPLICATE, "FieldValueDuplicate", "Duplicate value")                                         \
    X(TOO_LONG, "FieldValueTooLong", "Too long")                                                   \
    X(TOO_MANY, "FieldValueTooMany", "Too many")                                                   \
    X(TYPE_INVALID, "FieldValueTypeInvalid", "Invalid value")                                      \
    X(NOT_FOUND, "FieldValueNotFound", "Not found")                                                \
    X(CONFLICT, "FieldManagerConflict", "conflict")

enum fl_field_error_type {
#define FL_FIELD_ERROR_ENUM_(name, reason, words) FL_FIELD_##name,
    FL_FIELD_ERRORS(FL_FIELD_ERROR_ENUM_)
#undef FL_FIELD_ERROR_ENUM_
};

struct fl_field_error {
    enum fl_field_error_type type;
    const char *path;    /* "spec.tiers[0].name"; "<nil>" for the whole object */
    const char *message; /* whole, as in the cause: "Invalid value: 0: should be …" */
};

/* More than this are counted and not kept; one object cannot make an answer of megabytes. */
#define FL_FIELD_ERRORS_MAX 64

struct fl_field_errors {
    struct fl_arena *arena;
    struct fl_field_error items[FL_FIELD_ERRORS_MAX];
    size_t count, dropped;
};

void fl_field_errors_init(struct fl_field_errors *errors, struct fl_arena *arena);

/* Adds an error whose message is made as Go's field.Error makes it: for INVALID, DUPLICATE and
 * TYPE_INVALID "Invalid value: VALUE: detail" (strings quoted, objects and arrays as Go source,
 * `map[string]interface {}{"name":"a"}`, values cut at 1 KiB), for NOT_SUPPORTED "Unsupported
 * value: VALUE: supported values: …" with the detail giving the list, otherwise "Words: detail" or
 * just the words; for CONFLICT the detail alone. `value` may be NULL (quoted as "null"). */
void fl_field_error_add(struct fl_field_errors *errors, enum fl_field_error_type type,
                        const char *path, const json_t *value, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* With the value's text given: VALUE is printed as it is. */
void fl_field_error_add_text(struct fl_field_errors *errors, enum fl_field_error_type type,
                             const char *path, const char *value_text, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* With the whole message given, as another list has it. */
void fl_field_error_add_whole(struct fl_field_errors *errors, enum fl_field_error_type type,
                              const char *path, const char *message);
const char *fl_field_error_reason(enum fl_field_error_type type);
/* Appends a value as such a message quotes it; NULL is "null". */
void fl_field_value_write(struct fl_buf *buf, const json_t *value);

/* "path: message", or "[a, b]" for several. Arena. */
char *fl_field_errors_text(const struct fl_field_errors *errors);

/* Sets err to INVALID: `KIND.group "name" is invalid: TEXT`. */
int fl_field_errors_to_error(const struct fl_field_errors *errors, const char *kind,
                             const char *group, const char *name, struct fl_error *err);

/* What a Status says besides its error. All may be NULL. */
struct fl_status_details {
    const char *name, *group, *kind, *uid;
    const struct fl_field_errors *causes;
    int retry_after_seconds;
};

/* A Status of failure; owned by the caller. */
json_t *fl_status_failure(const struct fl_error *err, const struct fl_status_details *details);
/* A Status of success, as a DELETE answers. */
json_t *fl_status_success(const struct fl_status_details *details);

#endif
