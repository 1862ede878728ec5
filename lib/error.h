/* Errors by value.
 *
 * A function that can fail returns int: < 0 failed and `err` is set; 0 done; > 0 done, but (only
 * where its header says so). The error lives on the caller's stack and is never allocated, so it
 * cannot leak. Each layer adds its own words once with fl_error_wrap and never throws the text
 * below away. What the code means for HTTP, retries and condition reasons is data: the table here.
 * A message never contains a secret. `err` may be NULL where the caller does not want the text.
 * Any thread. */
#ifndef FL_LIB_ERROR_H
#define FL_LIB_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* code, Kubernetes status reason, HTTP status, worth a retry by the caller */
#define FL_ERROR_CODES(X)                                                                          \
    X(BAD_REQUEST, "BadRequest", 400, false)                                                       \
    X(UNAUTHORIZED, "Unauthorized", 401, false)                                                    \
    X(FORBIDDEN, "Forbidden", 403, false)                                                          \
    X(NOT_FOUND, "NotFound", 404, false)                                                           \
    X(METHOD_NOT_ALLOWED, "MethodNotAllowed", 405, false)                                          \
    X(NOT_ACCEPTABLE, "NotAcceptable", 406, false)                                                 \
    X(CONFLICT, "Conflict", 409, true)                                                             \
    X(ALREADY_EXISTS, "AlreadyExists", 409, false)                                                 \
    X(EXPIRED, "Expired", 410, false)                                                              \
    X(TOO_LARGE, "RequestEntityTooLarge", 413, false)                                              \
    X(UNSUPPORTED_MEDIA, "UnsupportedMediaType", 415, false)                                       \
    X(INVALID, "Invalid", 422, false)                                                              \
    X(TOO_MANY_REQUESTS, "TooManyRequests", 429, true)                                             \
    X(INTERNAL, "InternalError", 500, true)                                                        \
    X(UNAVAILABLE, "ServiceUnavailable", 503, true)                                                \
    X(TIMEOUT, "Timeout", 504, true)

enum fl_error_code {
    FL_OK = 0,
    FL_ERROR_BASE_ = -1000,
#define FL_ERROR_ENUM_(name, reason, http, retry) FL_E_##name,
    FL_ERROR_CODES(FL_ERROR_ENUM_)
#undef FL_ERROR_ENUM_
};

#define FL_ERROR_TEXT_MAX 1024

struct fl_error {
    int code; /* enum fl_error_code, 0 while nothing failed */
    char msg[FL_ERROR_TEXT_MAX];
};

/* These return < 0 always: `code`, or INTERNAL where that is no failure. Said in a form which
 * compilers and analysers see, so that none warns of outputs that are set wherever the result is
 * not negative. */
static inline int fl_error_negative(int code)
{
#ifdef __clang__
    __builtin_assume(code < 0); /* a branch is lost on its analyser where calls are deep */
#else
    if (code >= 0)
        __builtin_trap();
#endif
    return code;
}

/* Sets the error and returns `code`, so that `return fl_error_set(err, …)` is one line. Text that
 * does not fit is cut at a UTF-8 boundary and ends in "...". */
int fl_error_set(struct fl_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define fl_error_set(...) fl_error_negative((fl_error_set)(__VA_ARGS__))
int fl_error_vset(struct fl_error *err, int code, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
#define fl_error_vset(...) fl_error_negative((fl_error_vset)(__VA_ARGS__))

/* "prefix: old text"; returns the code that was set. */
int fl_error_wrap(struct fl_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define fl_error_wrap(...) fl_error_negative((fl_error_wrap)(__VA_ARGS__))

/* Translates errno: ENOENT is NOT_FOUND, EEXIST is ALREADY_EXISTS, EACCES is FORBIDDEN, ENOSPC and
 * the like are UNAVAILABLE. The text is "prefix: strerror". */
int fl_error_errno(struct fl_error *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define fl_error_errno(...) fl_error_negative((fl_error_errno)(__VA_ARGS__))

const char *fl_error_reason(int code); /* "NotFound"; "Unknown" for what is not a code */
int fl_error_http_status(int code);    /* 404; 500 for what is not a code */
bool fl_error_is_retryable(int code);

/* The inverse for clients: the code for a Status reason (or, where that is unknown, for the HTTP
 * status). Always an error: a peer's "success" is INTERNAL here. */
int fl_error_from_status(const char *reason, int http_status);

#endif
