/* Applying one document, for real or as a dry run: what `apply` and `diff` share, and how a refusal
 * is told. */
#ifndef FL_CMD_WRITE_H
#define FL_CMD_WRITE_H

#include "cmd/discovery.h"
#include "cmd/manifest.h"

struct fl_write_options {
    const char *manager;
    bool force, dry_run;
    bool wait_for_kind; /* a kind unknown yet may come within seconds */
};

struct fl_write_result {
    const struct fl_api_resource *resource;
    json_t *before; /* the caller's; NULL: there was none */
    json_t *after;  /* the caller's */
    bool created, changed;
};

int fl_write_apply(struct fl_client *client, const struct fl_document *document,
                   const struct fl_write_options *options, struct fl_write_result *ret_result,
                   struct fl_error *err);

/* The resource and namespace of a document; NOT_FOUND where the server has no such kind. `*ret_ns`
 * is NULL for what has none. */
int fl_write_resolve(struct fl_client *client, const struct fl_document *document,
                     const struct fl_api_resource **ret_resource, const char **ret_ns,
                     struct fl_error *err);

/* Tells what went wrong with a document; of conflicts, who owns which field. Returns 1. */
int fl_write_report(struct fl_client *client, const struct fl_document *document,
                    const struct fl_error *err);

/* "none", "server" (also "", as in a bare --dry-run), NULL: none. < 0 go on, or an exit status. */
int fl_write_dry_run_parse(const char *command, const char *text, bool *ret_dry_run);

#endif
