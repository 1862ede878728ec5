/* What a request's options say, and how an answer speaks of those that are wrong. */
#ifndef FL_CONTROLLER_APISERVER_OPTIONS_H
#define FL_CONTROLLER_APISERVER_OPTIONS_H

#include "controller/apiserver/internal.h"

/* One wrong field of "ListOptions", "CreateOptions" and so on. */
struct fl_option_fault {
    enum fl_field_error_type type;
    const char *kind, *field;
    const char *value; /* as the message quotes it: "\"Odd\""; NULL where it names none */
    const char *detail;
};

/* INVALID; the answer is then about the options and not about an object. */
int fl_option_error(struct fl_request *request, const struct fl_option_fault *fault,
                    struct fl_error *err);
/* FORBIDDEN as a field, of ListOptions. */
int fl_option_forbid(struct fl_request *request, const char *field, const char *why,
                     struct fl_error *err);
/* Refuses every text but "All". */
int fl_option_dry_run(struct fl_request *request, const char *kind, const char *text,
                      struct fl_error *err);
/* The text of a query in quotes, for `value`. Arena. */
const char *fl_option_quoted(const struct fl_request *request, const char *text);

/* A resourceVersion; BAD_REQUEST where it is no number, which no second attempt would change.
 * Absent and empty are 0. `path` is what the message calls it. */
int fl_option_revision(const char *path, const char *text, uint64_t *ret_revision,
                       struct fl_error *err);

#endif
