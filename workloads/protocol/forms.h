/* The forms of messages: tables that say where each member of the JSON lies in the struct.
 * Within this folder; see code.c for what walks them. */
#ifndef FL_WORKLOADS_PROTOCOL_FORMS_H
#define FL_WORKLOADS_PROTOCOL_FORMS_H

#include "workloads/protocol/protocol.h"

enum fl_member_type {
    FL_P_NAME = 1,   /* const char *: an identifier, [A-Za-z0-9] and ._-/ within */
    FL_P_TEXT,       /* const char *: up to `max` bytes */
    FL_P_DIGEST,     /* const char *: of a model: sha256 */
    FL_P_ANY_DIGEST, /* const char *: of either kind, see lib/digest.h */
    FL_P_INT,        /* int64_t from min to max, `def` where absent */
    FL_P_REAL,       /* double from low to high, `real` where absent (NAN: not said) */
    FL_P_BOOL,       /* bool, false where absent */
    FL_P_ENUM,       /* an enum whose value n is words[n - 1], `def` where absent */
    FL_P_OBJECT,     /* a struct of `form`; absent: its defaults. */
    FL_P_NAMES,      /* struct fl_texts of identifiers */
    FL_P_SORTED,     /* the same, strictly rising */
    FL_P_PAIRS,      /* struct fl_pairs, an object of texts */
    FL_P_METRICS,    /* struct fl_metrics, an object of numbers */
    FL_P_LIST,       /* a list of structs of `form`, as {items, count} */
    FL_P_JSON,       /* const json_t *: an object of at most `max` bytes as text */
};

struct fl_member {
    const char *name; /* NULL ends the table */
    enum fl_member_type type;
    size_t offset;
    bool required;
    int64_t min, max, def;
    double low, high, real;
    const char *const *words;
    const struct fl_form *form;
};

struct fl_form {
    const char *name; /* as errors call it */
    size_t size;
    const struct fl_member *members;
    size_t present_offset; /* of a bool that says whether the object was there; 0: none */
    /* What must hold between members; may be NULL. */
    int (*check)(const void *message, struct fl_error *err);
};

#endif
