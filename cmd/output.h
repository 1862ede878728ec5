/* The forms in which `-o` prints objects. */
#ifndef FL_CMD_OUTPUT_H
#define FL_CMD_OUTPUT_H

#include "cmd/discovery.h"

struct fl_jsonpath;

enum fl_output_form {
    FL_OUTPUT_TABLE,
    FL_OUTPUT_WIDE,
    FL_OUTPUT_JSON,
    FL_OUTPUT_YAML,
    FL_OUTPUT_NAME,
    FL_OUTPUT_JSONPATH,
};

struct fl_output {
    enum fl_output_form form;
    struct fl_jsonpath *path; /* ends with the arena */
};

/* `text` NULL is the table. BAD_REQUEST for what is no form. */
int fl_output_parse(struct fl_arena *arena, const char *text, struct fl_output *ret_output,
                    struct fl_error *err);
static inline bool fl_output_is_table(const struct fl_output *output)
{
    return output->form == FL_OUTPUT_TABLE || output->form == FL_OUTPUT_WIDE;
}

/* One object (or List) on standard output, in a form that is no table. `resource` gives NAME its
 * type; NULL for a List, whose items tell theirs. */
int fl_output_object(const struct fl_output *output, const struct fl_discovery *discovery,
                     const struct fl_api_resource *resource, const json_t *object,
                     struct fl_error *err);

/* A table of our own making: column names, then rows of as many texts. */
json_t *fl_output_table(const char *const *columns, size_t count);
void fl_output_table_row(json_t *table, const char *const *cells, size_t count);

/* On a terminal whose user did not say NO_COLOR. */
bool fl_output_has_colors(int fd);

#endif
