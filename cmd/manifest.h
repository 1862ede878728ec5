/* Objects in files: YAML and JSON, several documents each, folders of them, Lists. */
#ifndef FL_CMD_MANIFEST_H
#define FL_CMD_MANIFEST_H

#include "cmd/options.h"
#include "lib/error.h"
#include "lib/json.h"

struct fl_document {
    const char *where; /* "file.yaml:12" */
    json_t *object;    /* the arena's; NULL where `error` says why there is none */
    const char *error;
    const char *api_version, *kind, *name, *ns; /* of the object; ns may be NULL */
};

struct fl_documents {
    struct fl_arena *arena;
    struct fl_document *items;
    size_t count, cap;
};

/* Reads all that -f names ("-" is standard input), in order; what cannot be read becomes a document
 * with an error, and the rest is read. */
void fl_documents_read(struct fl_documents *documents, const struct fl_words *files,
                       bool recursive);
/* The documents of one text; `name` is the file's. */
void fl_documents_add_text(struct fl_documents *documents, const char *name, const char *text,
                           size_t len);
/* Namespaces first, then definitions, then the rest, otherwise as they came. */
void fl_documents_sort(struct fl_documents *documents);

#endif
