#include "lib/yaml_internal.h"

#include "lib/str.h"

#include <stdio.h>
#include <stdlib.h>

int fl_yaml_fail_at(struct fl_yaml_reader *reader, yaml_mark_t mark, int code, const char *what)
{
    return fl_error_set(reader->err, code, "line %zu, column %zu: %s", mark.line + 1,
                        mark.column + 1, what);
}

static yaml_mark_t mark_of_offset(const struct fl_yaml_reader *reader, size_t offset)
{
    yaml_mark_t mark = {.index = offset};

    for (size_t i = 0; i < offset && i < reader->len; i++) {
        mark.column = reader->text[i] == '\n' ? 0 : mark.column + 1;
        mark.line += reader->text[i] == '\n';
    }
    return mark;
}

static int fail_parser(struct fl_yaml_reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = fl_str_or(parser->problem, "not YAML");
    char what[256];

    if (parser->error == YAML_MEMORY_ERROR)
        abort();
    if (parser->error == YAML_READER_ERROR)
        return fl_yaml_fail_at(reader, mark_of_offset(reader, parser->problem_offset),
                               FL_E_BAD_REQUEST, problem);
    (void)snprintf(what, sizeof(what), "%s%s%s", problem, parser->context ? ", " : "",
                   fl_str_or(parser->context, ""));
    return fl_yaml_fail_at(reader, parser->problem_mark, FL_E_BAD_REQUEST, what);
}

int fl_yaml_next_event(struct fl_yaml_reader *reader, yaml_event_t *event)
{
    if (yaml_parser_parse(&reader->parser, event))
        return 0;
    *event = (yaml_event_t){0};
    return fail_parser(reader);
}

/* Documents. */

static bool is_empty_root(const yaml_event_t *event)
{
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.length == 0 &&
           event->data.scalar.plain_implicit && !event->data.scalar.anchor;
}

/* From the root's event to the end of the document. */
static int read_document(struct fl_yaml_reader *reader, fl_yaml_document_fn *document, void *user)
{
    FL_YAML_EVENT root = {0}, end = {0};
    FL_JSON value = NULL;
    bool empty;

    if (fl_yaml_next_event(reader, &root) < 0)
        return reader->err->code;
    empty = is_empty_root(&root);
    value = fl_yaml_read_root(reader, &root);
    if (!value || fl_yaml_next_event(reader, &end) < 0)
        return reader->err->code;
    return empty ? 0 : document(user, value, root.start_mark.line + 1, reader->err);
}

static int read_stream(struct fl_yaml_reader *reader, fl_yaml_document_fn *document, void *user)
{
    size_t documents = 0;

    for (;;) {
        FL_YAML_EVENT event = {0};
        int r = fl_yaml_next_event(reader, &event);

        if (r < 0 || event.type == YAML_STREAM_END_EVENT)
            return r;
        if (event.type != YAML_DOCUMENT_START_EVENT)
            continue;
        if (documents++ == reader->limits.max_documents)
            return fl_error_set(reader->err, FL_E_TOO_LARGE, "more than %zu documents",
                                reader->limits.max_documents);
        r = read_document(reader, document, user);
        if (r < 0)
            return r;
    }
}

static struct fl_yaml_limits with_defaults(const struct fl_yaml_limits *limits)
{
    struct fl_yaml_limits all = limits ? *limits : (struct fl_yaml_limits){0};

    all.max_bytes = all.max_bytes ? all.max_bytes : (size_t)3 * 1024 * 1024;
    all.max_depth = all.max_depth ? all.max_depth : 128;
    all.max_nodes = all.max_nodes ? all.max_nodes : 1000000;
    all.max_documents = all.max_documents ? all.max_documents : 10000;
    return all;
}

/* libyaml compares each %TAG directive with all before it. */
#define DIRECTIVES_MAX 100

static bool has_many_directives(const char *text, size_t len)
{
    const char *end = text + len;

    for (int count = 0; count <= DIRECTIVES_MAX; count++) {
        text = memmem(text, (size_t)(end - text), "%TAG", 4);
        if (!text)
            return false;
        text += 4;
    }
    return true;
}

static void note_duplicate(void *user, const char *path)
{
    (void)path;
    *(bool *)user = true;
}

/* Text in braces is tried as JSON first: that is faster, and JSON has escapes that YAML lacks. NULL
 * where it is something else, or where an error with a YAML reader's words is due. */
static json_t *try_json(const char *text, size_t len, const struct fl_yaml_limits *limits)
{
    struct fl_json_limits json_limits = {limits->max_bytes, limits->max_depth};
    size_t start = 0;
    bool duplicate = false;
    json_t *value = NULL;

    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a NUL is no space */
    while (start < len && memchr(" \t\r\n", text[start], 4))
        start++;
    if (start == len || text[start] != '{')
        return NULL;
    if (fl_json_parse(text, len, &json_limits, note_duplicate, &duplicate, &value, NULL) == 0 &&
        duplicate) {
        json_decref(value);
        return NULL;
    }
    return value;
}

static size_t first_line(const char *text)
{
    size_t line = 1;

    for (; *text != '{'; text++)
        line += *text == '\n';
    return line;
}

int fl_yaml_parse_all(const char *text, size_t len, const struct fl_yaml_limits *limits,
                      fl_yaml_document_fn *document, void *user, struct fl_error *err)
{
    struct fl_error own = {0};
    struct fl_yaml_reader reader = {
        .text = text, .len = len, .limits = with_defaults(limits), .err = err ? err : &own};
    FL_JSON json = NULL;
    int r;

    if (len > reader.limits.max_bytes)
        return fl_error_set(err, FL_E_TOO_LARGE, "YAML of %zu bytes, the limit is %zu", len,
                            reader.limits.max_bytes);
    json = try_json(text, len, &reader.limits);
    if (json)
        return document(user, json, first_line(text), err);
    if (has_many_directives(text, len))
        return fl_error_set(err, FL_E_TOO_LARGE, "more than %d %%TAG directives", DIRECTIVES_MAX);
    if (!yaml_parser_initialize(&reader.parser))
        abort();
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, len);
    r = read_stream(&reader, document, user);
    yaml_parser_delete(&reader.parser);
    return r;
}

struct single {
    json_t *value;
    size_t line;
};

static int keep_single(void *user, json_t *value, size_t line, struct fl_error *err)
{
    struct single *single = user;

    if (single->value)
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "line %zu: a second document, where one is expected", line);
    *single = (struct single){json_incref(value), line};
    return 0;
}

int fl_yaml_parse(const char *text, size_t len, const struct fl_yaml_limits *limits,
                  json_t **ret_value, struct fl_error *err)
{
    struct single single = {0};
    int r = fl_yaml_parse_all(text, len, limits, keep_single, &single, err);

    if (r >= 0 && !single.value)
        r = fl_error_set(err, FL_E_BAD_REQUEST, "no document, where one is expected");
    if (r < 0) {
        json_decref(single.value);
        return r;
    }
    *ret_value = single.value;
    return 0;
}
