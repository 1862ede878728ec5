#include "cmd/write.h"

#include "cmd/command.h"
#include "lib/str.h"

#include <stdio.h>

#define KIND_WAIT_MS  10000
#define KIND_PAUSE_MS 100

int fl_write_dry_run_parse(const char *command, const char *text, bool *ret_dry_run)
{
    if (!text || strcmp(text, "none") == 0 || strcmp(text, "false") == 0)
        *ret_dry_run = false;
    else if (!*text || strcmp(text, "server") == 0 || strcmp(text, "true") == 0)
        *ret_dry_run = true;
    else
        return fl_command_usage(command, "--dry-run=%s: must be none or server", text);
    return -1;
}

int fl_write_resolve(struct fl_client *client, const struct fl_document *document,
                     const struct fl_api_resource **ret_resource, const char **ret_ns,
                     struct fl_error *err)
{
    const struct fl_api_resource *resource =
        fl_discovery_find_kind(client->discovery, document->api_version, document->kind);

    client->status = NULL;
    if (!resource)
        return fl_error_set(err, FL_E_NOT_FOUND, "the server has no kind %s in %s", document->kind,
                            document->api_version);
    if (resource->namespaced && document->ns && client->ns_is_chosen &&
        !fl_streq(document->ns, client->ns))
        return fl_error_set(err, FL_E_BAD_REQUEST,
                            "the object's namespace \"%s\" is not the one chosen with -n, \"%s\"",
                            document->ns, client->ns);
    *ret_resource = resource;
    *ret_ns = resource->namespaced ? fl_str_or(document->ns, client->ns) : NULL;
    return 0;
}

/* A definition that was applied just now is served soon, not at once. */
static int resolve_soon(struct fl_client *client, const struct fl_document *document,
                        const struct fl_write_options *options,
                        const struct fl_api_resource **ret_resource, const char **ret_ns,
                        struct fl_error *err)
{
    int64_t until = fl_monotonic_ms(&client->env) + KIND_WAIT_MS;
    int r = fl_write_resolve(client, document, ret_resource, ret_ns, err);

    while (r == FL_E_NOT_FOUND && options->wait_for_kind && fl_monotonic_ms(&client->env) < until) {
        int loaded = fl_discovery_load(client, true, err);

        if (loaded < 0)
            return loaded;
        r = fl_write_resolve(client, document, ret_resource, ret_ns, err);
        if (r == FL_E_NOT_FOUND)
            fl_client_pause(KIND_PAUSE_MS);
    }
    return r;
}

/* Whether two states differ in what a user can mean: not in who owns what. */
static bool differs(const json_t *before, const json_t *after)
{
    static const char *const ours[] = {"managedFields", "resourceVersion", "generation"};
    FL_JSON a = json_deep_copy(before);
    FL_JSON b = json_deep_copy(after);

    for (size_t i = 0; i < FL_COUNT_OF(ours); i++) {
        (void)json_object_del(json_object_get(a, "metadata"), ours[i]);
        (void)json_object_del(json_object_get(b, "metadata"), ours[i]);
    }
    return !json_equal(a, b);
}

int fl_write_apply(struct fl_client *client, const struct fl_document *document,
                   const struct fl_write_options *options, struct fl_write_result *ret_result,
                   struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    FL_JSON before = NULL;
    const struct fl_api_resource *resource = NULL;
    struct fl_http_call call = {.method = "PATCH", .content_type = "application/apply-patch+yaml"};
    const char *ns = NULL, *path, *target;
    json_t *after = NULL;
    int http = 0, r = resolve_soon(client, document, options, &resource, &ns, err);

    if (r < 0)
        return r;
    path = fl_client_path(client, resource, ns, document->name);
    r = fl_client_get(client, path, NULL, &before, err);
    if (r < 0 && r != FL_E_NOT_FOUND && r != FL_E_FORBIDDEN) /* one may write without reading */
        return r;
    target = fl_client_query(client, path, "fieldManager", options->manager);
    target = fl_client_query(client, target, "fieldValidation", "Strict");
    target = fl_client_query(client, target, "force", options->force ? "true" : NULL);
    target = fl_client_query(client, target, "dryRun", options->dry_run ? "All" : NULL);
    body = fl_json_to_bytes(document->object);
    call.target = target;
    call.body = body->data;
    call.body_len = body->len;
    r = fl_client_call(client, &call, &http, &after, err);
    if (r < 0)
        return r;
    *ret_result = (struct fl_write_result){.resource = resource,
                                           .created = http == 201,
                                           .changed = !before || differs(before, after),
                                           .after = after};
    ret_result->before = FL_TAKE(before);
    return 0;
}

/* conflict with "kubectl" using flops.dev/v1: the part that says who. */
static const char *owner_of(struct fl_client *client, const char *message)
{
    const char *with = message ? strstr(message, "conflict with ") : NULL;

    return with ? with + strlen("conflict with ") : fl_arena_strdup(client->arena, "another");
}

static int report_conflicts(struct fl_client *client, const struct fl_document *document)
{
    const json_t *causes = fl_json_path(client->status, "details.causes");
    json_t *cause;
    size_t i;

    (void)fprintf(stderr, "flops %s: %s: %s \"%s\": others own fields that the file sets:\n",
                  client->command, document->where, document->kind, document->name);
    json_array_foreach((json_t *)causes, i, cause) {
        (void)fprintf(stderr, "  %-32s owned by %s\n", fl_str_or(fl_json_str(cause, "field"), "?"),
                      owner_of(client, fl_json_str(cause, "message")));
    }
    (void)fprintf(stderr,
                  "Take them over with --force-conflicts, or leave them out of the file.\n");
    return 1;
}

int fl_write_report(struct fl_client *client, const struct fl_document *document,
                    const struct fl_error *err)
{
    const json_t *causes = fl_json_path(client->status, "details.causes");

    if (err->code == FL_E_CONFLICT &&
        fl_streq(fl_json_str(json_array_get(causes, 0), "reason"), "FieldManagerConflict"))
        return report_conflicts(client, document);
    return fl_client_report(client, document->where, err);
}
