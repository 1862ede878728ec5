#include "lib/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct code_row {
    int code;
    const char *reason;
    int http;
    bool retry;
};

static const struct code_row rows[] = {
#define ROW(name, reason, http, retry) {FL_E_##name, reason, http, retry},
    FL_ERROR_CODES(ROW)
#undef ROW
};

static const struct code_row *find_row(int code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == code)
            return &rows[i];
    return NULL;
}

/* A text cut in the middle of a multi-byte character would be invalid UTF-8, and invalid JSON. */
static void mark_cut(char *msg, size_t size)
{
    size_t end = size - 4;

    while (end > 0 && ((unsigned char)msg[end] & 0xC0) == 0x80)
        end--;
    memcpy(msg + end, "...", 4);
}

int(fl_error_vset)(struct fl_error *err, int code, const char *fmt, va_list ap)
{
    int n;

    if (code >= 0)
        code = FL_E_INTERNAL;
    if (!err)
        return code;
    n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    if (n < 0)
        err->msg[0] = '\0';
    else if ((size_t)n >= sizeof(err->msg))
        mark_cut(err->msg, sizeof(err->msg));
    err->code = code;
    return code;
}

int(fl_error_set)(struct fl_error *err, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    code = fl_error_vset(err, code, fmt, ap);
    va_end(ap);
    return code;
}

int(fl_error_wrap)(struct fl_error *err, const char *fmt, ...)
{
    char old[FL_ERROR_TEXT_MAX];
    va_list ap;
    size_t used;
    int n;

    if (!err)
        return FL_E_INTERNAL;
    if (err->code >= 0)
        err->code = FL_E_INTERNAL;
    memcpy(old, err->msg, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    used = n < 0 ? 0 : (size_t)n;
    if (used >= sizeof(err->msg)) {
        mark_cut(err->msg, sizeof(err->msg));
        return err->code;
    }
    n = snprintf(err->msg + used, sizeof(err->msg) - used, ": %s", old);
    if (n < 0 || used + (size_t)n >= sizeof(err->msg))
        mark_cut(err->msg, sizeof(err->msg));
    return err->code;
}

static int code_for_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return FL_E_NOT_FOUND;
    case EEXIST:
        return FL_E_ALREADY_EXISTS;
    case EACCES:
    case EPERM:
        return FL_E_FORBIDDEN;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
        return FL_E_UNAVAILABLE;
    case ETIMEDOUT:
        return FL_E_TIMEOUT;
    default:
        return FL_E_INTERNAL;
    }
}

int(fl_error_errno)(struct fl_error *err, int errnum, const char *fmt, ...)
{
    char text[128];
    va_list ap;
    size_t used;
    int n;

    if (!err)
        return code_for_errno(errnum);
    va_start(ap, fmt);
    fl_error_vset(err, code_for_errno(errnum), fmt, ap);
    va_end(ap);
    used = strlen(err->msg);
    /* The GNU form returns the text, not necessarily in the buffer. */
    n = snprintf(err->msg + used, sizeof(err->msg) - used, ": %s",
                 strerror_r(errnum, text, sizeof(text)));
    if (n < 0 || used + (size_t)n >= sizeof(err->msg))
        mark_cut(err->msg, sizeof(err->msg));
    return err->code;
}

const char *fl_error_reason(int code)
{
    const struct code_row *row = find_row(code);

    return row ? row->reason : "Unknown";
}

int fl_error_http_status(int code)
{
    const struct code_row *row = find_row(code);

    return row ? row->http : 500;
}

bool fl_error_is_retryable(int code)
{
    const struct code_row *row = find_row(code);

    return row && row->retry;
}

int fl_error_from_status(const char *reason, int http_status)
{
    for (size_t i = 0; reason && i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(rows[i].reason, reason) == 0)
            return rows[i].code;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].http == http_status)
            return rows[i].code;
    return FL_E_INTERNAL;
}
