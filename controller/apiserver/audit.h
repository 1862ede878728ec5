/* The audit log: one JSON line for each write, with who, what, when and how it ended; never content.
 * Loop thread only. */
#ifndef FL_CONTROLLER_APISERVER_AUDIT_H
#define FL_CONTROLLER_APISERVER_AUDIT_H

#include "controller/apiserver/auth.h"

struct fl_audit;

int fl_audit_open(const struct fl_env *env, const char *path, struct fl_audit **ret_audit,
                  struct fl_error *err);
void fl_audit_close(struct fl_audit *audit);

struct fl_audit_entry {
    const char *id;            /* the answer's Audit-Id */
    const struct fl_access *access;
    const char *source;        /* the peer's address */
    const char *user_agent, *target;
    int status;
    const char *reason;        /* of a failure, or NULL */
    int64_t duration_ms;
    bool dry_run;
};

/* `audit` may be NULL. Writes that the disk refuses are counted and logged, and do not fail the
 * request. The file is rotated at 100 MiB, five are kept. */
void fl_audit_write(struct fl_audit *audit, const struct fl_audit_entry *entry);

#endif
