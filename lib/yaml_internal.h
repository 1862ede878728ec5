/* Inside lib/yaml.h: yaml.c parses streams of documents, yaml_read.c makes a document's values,
 * yaml_scalar.c knows what a scalar means, yaml_write.c writes.
 *
 * Scalars mean what they mean to Kubernetes' Go library (YAML 1.1), quirks included, because the
 * same manifest must mean the same to kubectl and to us. */
#ifndef FL_LIB_YAML_INTERNAL_H
#define FL_LIB_YAML_INTERNAL_H

#include "lib/map.h"
#include "lib/yaml.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yaml.h>

enum fl_yaml_type {
    FL_YAML_STRING,
    FL_YAML_NULL,
    FL_YAML_BOOL,
    FL_YAML_INT,
    FL_YAML_BIG_INT, /* above 64 bits' signed range; its value is in `real` */
    FL_YAML_FLOAT,
    FL_YAML_TIMESTAMP, /* stays text in JSON */
    FL_YAML_MERGE,     /* "<<" */
};

struct fl_yaml_scalar {
    enum fl_yaml_type type;
    bool boolean;
    int64_t integer;
    double real; /* may be infinite or NaN */
};

/* What `text`, unquoted and without a tag, stands for. `text` is NUL-terminated at `len`. */
struct fl_yaml_scalar fl_yaml_resolve(const char *text, size_t len);

/* "7:30" reads as a number in other YAML 1.1 readers, so it is written in quotes. */
bool fl_yaml_is_base60(const char *text);

/* As Go's %g with the fewest digits that read back the same, as a double or a float. */
#define FL_YAML_REAL_SIZE 32
void fl_yaml_format_real(double value, bool single, char out[FL_YAML_REAL_SIZE]);

struct fl_yaml_reader {
    yaml_parser_t parser;
    const char *text;
    size_t len;
    struct fl_yaml_limits limits;
    size_t nodes;  /* values made so far, copies for aliases included */
    size_t copied; /* bytes of text that aliases added */
    struct fl_map *anchors;
    struct fl_error *err;
};

static inline void fl_yaml_delete_event(yaml_event_t *event)
{
    yaml_event_delete(event);
}
#define FL_YAML_EVENT FL_CLEANUP(fl_yaml_delete_event) yaml_event_t

/* All return or leave an error with the position; an event is empty after one. */
int fl_yaml_fail_at(struct fl_yaml_reader *reader, yaml_mark_t mark, int code, const char *what);
int fl_yaml_next_event(struct fl_yaml_reader *reader, yaml_event_t *event);
/* A document's value, which begins with `event`; the caller's. Anchors end with it. */
json_t *fl_yaml_read_root(struct fl_yaml_reader *reader, const yaml_event_t *event);

#endif
