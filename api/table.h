/* Tables as `kubectl get` shows them: meta.k8s.io Table objects, and their text.
 *
 * Columns are compiled once, from a CRD version's additionalPrinterColumns or for a built-in kind,
 * and are immutable and shared by threads. A table shares parts of the objects it was made of
 * (references, no copies): do not change them while it lives. */
#ifndef FL_API_TABLE_H
#define FL_API_TABLE_H

#include "lib/buf.h"
#include "lib/error.h"
#include "lib/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_table_columns;

/* `printer_columns` is the array of a CRD's version; NULL or empty gives Name and Age.
 * BAD_REQUEST where a path cannot be read. */
int fl_table_columns_create(const json_t *printer_columns, struct fl_table_columns **ret_columns,
                            struct fl_error *err);
/* A built-in kind ("" is the core group); a kind without columns of its own gets Name and
 * Created At. Static: never destroyed. */
const struct fl_table_columns *fl_table_columns_builtin(const char *group, const char *kind);
void fl_table_columns_destroy(struct fl_table_columns *columns);
FL_DEFINE_CLEANUP(struct fl_table_columns, fl_table_columns_destroy)

enum fl_table_include { FL_TABLE_METADATA, FL_TABLE_OBJECT, FL_TABLE_NONE };

/* Reads includeObject's value; "" is Metadata. False for what it cannot be. */
bool fl_table_include_parse(const char *text, enum fl_table_include *ret_include);

struct fl_table_options {
    enum fl_table_include include;
    bool no_headers;              /* columnDefinitions null: later frames of a watch */
    bool v1beta1;                 /* of meta.k8s.io, as old clients ask for */
    int64_t now_us;               /* for ages */
    const char *resource_version; /* NULL: none */
    const char *continue_token;   /* NULL: none */
    int64_t remaining;            /* remainingItemCount where > 0 */
};

/* The table is new and the caller's. */
json_t *fl_table_create(const struct fl_table_columns *columns, const json_t *const *objects,
                        size_t count, const struct fl_table_options *options);

/* "85s", "2m10s", "3h5m", "40d", "2y30d"; "<invalid>" of a negative one. */
#define FL_DURATION_TEXT_SIZE 32
void fl_duration_human(int64_t duration_us, char out[FL_DURATION_TEXT_SIZE]);

struct fl_table_print_options {
    bool wide; /* columns of priority > 0 too */
    bool no_headers;
    bool with_namespace;   /* as first column, from the rows' objects */
    bool show_labels;      /* as last column */
    const char *kind;      /* prefix of names, "flproject.flops.dev"; NULL: none */
    const char *event;     /* first column of a watch's output; NULL: none */
    const json_t *columns; /* of an earlier table, where this one has none; may be NULL */
    size_t *widths; /* FL_TABLE_WIDTHS_MAX of them, zeroed at first: columns never get narrower from
                       one table of a watch to the next; NULL: each table for itself */
};

#define FL_TABLE_WIDTHS_MAX 64

/* Appends the table as aligned text, a line a row, as kubectl prints it. */
void fl_table_print(const json_t *table, const struct fl_table_print_options *options,
                    struct fl_buf *out);

#endif
