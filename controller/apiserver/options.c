#include "controller/apiserver/options.h"

int fl_option_error(struct fl_request *request, const struct fl_option_fault *fault,
                    struct fl_error *err)
{
    struct fl_status_details *details = fl_new(request->arena, struct fl_status_details);
    struct fl_field_errors *causes = fl_new(request->arena, struct fl_field_errors);

    fl_field_errors_init(causes, request->arena);
    fl_field_error_add_text(causes, fault->type, fault->field, fault->value, "%s", fault->detail);
    *details = (struct fl_status_details){
        .group = "meta.k8s.io",
        .kind = fault->kind,
        .causes = causes,
    };
    request->error_details = details;
    return fl_field_errors_to_error(causes, fault->kind, "meta.k8s.io", "", err);
}

int fl_option_forbid(struct fl_request *request, const char *field, const char *why,
                     struct fl_error *err)
{
    return fl_option_error(
        request, &(struct fl_option_fault){FL_FIELD_FORBIDDEN, "ListOptions", field, NULL, why},
        err);
}

int fl_option_dry_run(struct fl_request *request, const char *kind, const char *text,
                      struct fl_error *err)
{
    if (strcmp(text, "All") == 0)
        return 0;
    return fl_option_error(
        request,
        &(struct fl_option_fault){
            FL_FIELD_NOT_SUPPORTED, kind, "dryRun",
            fl_arena_printf(request->arena, "[]string{%s}", fl_option_quoted(request, text)),
            "supported values: \"All\""},
        err);
}

const char *fl_option_quoted(const struct fl_request *request, const char *text)
{
    FL_JSON value = json_string(text);
    const char *quoted;
    struct fl_buf buf;

    fl_buf_init(&buf, 0);
    fl_field_value_write(&buf, value);
    quoted = fl_arena_strdup(request->arena, fl_buf_text(&buf));
    fl_buf_finish(&buf);
    return quoted;
}

int fl_option_revision(const char *path, const char *text, uint64_t *ret_revision,
                       struct fl_error *err)
{
    *ret_revision = 0;
    if (!text || !*text || fl_str_to_uint64(text, INT64_MAX, ret_revision))
        return 0;
    return fl_error_set(err, FL_E_BAD_REQUEST,
                        "%s: Invalid value: \"%s\": must be a decimal number", path, text);
}
