/* The audit log: one JSON line for each write, with who, what, when and how it ended; never
 * content. Loop thread only. */
#ifndef FL_CONTROLLER_APISERVER_AUDIT_H
#define FL_CONTROLLER_APISERVER_AUDIT_H

#include "controller/apiserver/auth.h"

struct fl_audit;

int fl_audit_open(const struct fl_env *env, const char *path, struct fl_audit **ret_audit,
                  struct fl_error *err);
void fl_audit_close(struct fl_audit *audit);

struct fl_audit_entry {
    const char *id; /* the answer's Audit-Id */
    const struct fl_access *access;
    const char *source; /* the peer's address */
    const char *user_agent, *target;
    bool dry_run;
};

/* A line in two steps, for a write whose client may be gone when it is durable: begin takes down
 * all that is known (in memory of the caller's), end adds how it ended and takes the text. `audit`
 * and the text may be NULL. What strangers may make long is cut, so that no line is too long to be
 * written. Writes that the disk refuses are counted and logged, and do not fail the request. The
 * file is rotated at 100 MiB, five are kept. */
char *fl_audit_begin(struct fl_audit *audit, const struct fl_audit_entry *entry);
void fl_audit_end(struct fl_audit *audit, char *text, int status, const char *reason,
                  int64_t duration_ms);

#endif
