#include "cmd/output.h"

#include "api/jsonpath.h"
#include "api/table.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void destroy_path(void *path)
{
    fl_jsonpath_destroy(path);
}

int fl_output_parse(struct fl_arena *arena, const char *text, struct fl_output *ret_output,
                    struct fl_error *err)
{
    static const char *const forms[] = {"", "wide", "json", "yaml", "name"};
    struct fl_jsonpath_options options = {.is_template = true, .allow_missing = true};
    const char *equals = text ? strchr(text, '=') : NULL;
    int r;

    if (equals && strncmp(text, "jsonpath=", 9) == 0) {
        struct fl_jsonpath *path;

        r = fl_jsonpath_compile(equals + 1, &options, &path, err);
        if (r < 0)
            return fl_error_wrap(err, "-o jsonpath");
        fl_arena_on_reset(arena, destroy_path, path);
        *ret_output = (struct fl_output){.form = FL_OUTPUT_JSONPATH, .path = path};
        return 0;
    }
    for (size_t i = 0; i < FL_COUNT_OF(forms); i++)
        if (strcmp(text ? text : "", forms[i]) == 0) {
            *ret_output = (struct fl_output){.form = (enum fl_output_form)i};
            return 0;
        }
    return fl_error_set(err, FL_E_BAD_REQUEST,
                        "-o %s: must be json, yaml, wide, name or jsonpath=TEMPLATE", text);
}

static void add_name(struct fl_buf *buf, const struct fl_discovery *discovery,
                     const struct fl_api_resource *resource, const json_t *object)
{
    const char *kind = fl_str_or(fl_json_str(object, "kind"), "");

    if (!resource)
        resource = fl_discovery_find_kind(discovery,
                                          fl_str_or(fl_json_str(object, "apiVersion"), ""), kind);
    fl_buf_printf(buf, "%s/%s\n", resource ? resource->type_name : kind,
                  fl_str_or(fl_json_str(object, "metadata.name"), ""));
}

int fl_output_object(const struct fl_output *output, const struct fl_discovery *discovery,
                     const struct fl_api_resource *resource, const json_t *object,
                     struct fl_error *err)
{
    const json_t *items = resource ? NULL : json_object_get(object, "items");
    struct fl_buf buf;
    json_t *item;
    size_t i;
    int r = 0;

    fl_buf_init(&buf, 0);
    if (output->form == FL_OUTPUT_JSON) {
        fl_json_write_pretty(&buf, object);
    } else if (output->form == FL_OUTPUT_YAML) {
        fl_yaml_write(&buf, object);
    } else if (output->form == FL_OUTPUT_JSONPATH) {
        r = fl_jsonpath_print(output->path, object, &buf, err);
    } else if (items) {
        json_array_foreach((json_t *)items, i, item)
            add_name(&buf, discovery, NULL, item);
    } else {
        add_name(&buf, discovery, resource, object);
    }
    if (r == 0)
        (void)fwrite(fl_buf_text(&buf), 1, buf.len, stdout);
    fl_buf_finish(&buf);
    return r;
}

json_t *fl_output_table(const char *const *columns, size_t count)
{
    json_t *table = json_object(), *definitions = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(definitions,
                                    json_pack("{s:s,s:i}", "name", columns[i], "priority", 0));
    (void)json_object_set_new(table, "columnDefinitions", definitions);
    (void)json_object_set_new(table, "rows", json_array());
    return table;
}

void fl_output_table_row(json_t *table, const char *const *cells, size_t count)
{
    json_t *row = json_object(), *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_string(fl_str_or(cells[i], "")));
    (void)json_object_set_new(row, "cells", list);
    (void)json_array_append_new(json_object_get(table, "rows"), row);
}

bool fl_output_has_colors(int fd)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fd) && !(no_color && *no_color) && !fl_streq(term, "dumb");
}
