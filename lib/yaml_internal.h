/* What a YAML scalar means; shared by the reader and the writer of lib/yaml.h.
 *
 * The meaning is that of YAML 1.1 as Kubernetes' Go library reads it, quirks included, because the
 * same manifest must mean the same to kubectl and to us. */
#ifndef FL_LIB_YAML_INTERNAL_H
#define FL_LIB_YAML_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

#endif
