/* `flops diff`: what `flops apply` would change. */
#include "cmd/command.h"
#include "cmd/line_diff.h"
#include "cmd/manifest.h"
#include "cmd/output.h"
#include "cmd/write.h"
#include "lib/str.h"
#include "lib/yaml.h"

#include <stdio.h>
#include <unistd.h>

static const char help[] =
    "Usage: flops diff -f FILE… [options]\n\n"
    "Shows what `flops apply` would change, as the server sees it: defaults, and fields of "
    "others,\n"
    "included. Values of Secrets are not shown.\n\n"
    "  -f, --filename FILE     file, folder or - for standard input (repeatable)\n"
    "  -R, --recursive         folders of folders too\n"
    "      --field-manager M   as whom (default flops)\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops diff -f project.yaml\n"
    "  flops diff -f deploy/ -R && echo nothing to do\n"
    "\nExit status: 0 no difference; 1 differences; 2 failed, or wrong usage.\n";

struct diff {
    struct fl_client_flags flags;
    struct fl_words files;
    bool recursive;
    const char *manager;

    struct fl_arena *arena;
    struct fl_client *client;
};

static void diff_finish(struct diff *diff)
{
    fl_arena_destroy(diff->arena);
}

static int parse(struct diff *diff, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(diff->flags),
        {"filename", 'f', FL_OPTION_LIST, &diff->files},
        {"recursive", 'R', FL_OPTION_FLAG, &diff->recursive},
        {"field-manager", 0, FL_OPTION_TEXT, &diff->manager},
    };
    struct fl_options options = {"diff", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, diff->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("diff", "unexpected argument \"%s\"", words.items[0]);
    return diff->files.count > 0 ? -1 : fl_command_usage("diff", "say what: -f FILE");
}

/* What the server alone writes is no difference that a file could make. */
static void strip(json_t *object)
{
    static const char *const ours[] = {"managedFields", "resourceVersion", "uid", "generation",
                                       "creationTimestamp"};

    for (size_t i = 0; i < FL_COUNT_OF(ours); i++)
        (void)json_object_del(json_object_get(object, "metadata"), ours[i]);
}

/* Values of a Secret become stars that still tell whether they differ. */
static void mask(json_t *object, const json_t *other, const char *differing)
{
    json_t *data = json_object_get(object, "data");
    json_t *annotations = fl_json_path(object, "metadata.annotations"), *value;
    const char *key;
    void *next;

    (void)json_object_del(annotations, "kubectl.kubernetes.io/last-applied-configuration");
    json_object_foreach_safe(data, next, key, value) {
        const json_t *theirs = json_object_get(json_object_get(other, "data"), key);

        (void)json_object_set_new(
            data, key, json_string(theirs && !json_equal(theirs, value) ? differing : "***"));
    }
}

static bool is_secret(const struct fl_document *document)
{
    return strcmp(document->kind, "Secret") == 0 && strcmp(document->api_version, "v1") == 0;
}

static bool show(const struct diff *diff, const struct fl_document *document,
                 const struct fl_write_result *result)
{
    FL_JSON before = json_deep_copy(result->before);
    FL_JSON after = json_deep_copy(result->after);
    const char *ns = fl_json_str(result->after, "metadata.namespace");
    char *name = fl_arena_printf(diff->arena, "%s%s%s/%s", fl_str_or(ns, ""), ns ? "/" : "",
                                 result->resource->type_name, document->name);
    struct fl_line_diff_options options = {
        .old_name = fl_arena_printf(diff->arena, "live/%s", name),
        .new_name = fl_arena_printf(diff->arena, "applied/%s", name),
        .colors = fl_output_has_colors(STDOUT_FILENO),
    };
    struct fl_buf old_text, new_text, out;
    bool differs;

    strip(before);
    strip(after);
    if (is_secret(document)) {
        mask(before, result->after, "*** (before)");
        mask(after, result->before, "*** (after)");
    }
    fl_buf_init(&old_text, 0);
    fl_buf_init(&new_text, 0);
    fl_buf_init(&out, 0);
    if (before)
        fl_yaml_write(&old_text, before);
    fl_yaml_write(&new_text, after);
    differs = fl_line_diff(fl_buf_text(&old_text), fl_buf_text(&new_text), &options, &out);
    (void)fwrite(fl_buf_text(&out), 1, out.len, stdout);
    fl_buf_finish(&old_text);
    fl_buf_finish(&new_text);
    fl_buf_finish(&out);
    return differs;
}

/* 0 the same, 1 different, 2 failed */
static int diff_one(struct diff *diff, const struct fl_document *document)
{
    struct fl_write_options options = {.manager = diff->manager, .force = true, .dry_run = true};
    struct fl_write_result result = {0};
    struct fl_error err = {0};
    bool differs;

    if (document->error) {
        diff->client->status = NULL;
        (void)fl_error_set(&err, FL_E_BAD_REQUEST, "%s", document->error);
        (void)fl_client_report(diff->client, document->where, &err);
        return 2;
    }
    if (fl_write_apply(diff->client, document, &options, &result, &err) < 0) {
        (void)fl_write_report(diff->client, document, &err);
        return 2;
    }
    differs = show(diff, document, &result);
    json_decref(result.before);
    json_decref(result.after);
    return differs;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(diff_finish) struct diff diff = {.arena = fl_arena_create(), .manager = "flops"};
    struct fl_documents documents = {.arena = diff.arena};
    struct fl_error err = {0};
    int status = parse(&diff, argc, argv);

    if (status >= 0)
        return status;
    if (fl_client_open("diff", &diff.flags, diff.arena, &diff.client, &err) < 0)
        return fl_command_fail("diff", &err) + 1;
    fl_documents_read(&documents, &diff.files, diff.recursive);
    fl_documents_sort(&documents);
    if (fl_discovery_load(diff.client, false, &err) < 0)
        return fl_client_report(diff.client, NULL, &err) + 1;
    status = 0;
    for (size_t i = 0; i < documents.count; i++) {
        int one = diff_one(&diff, &documents.items[i]);

        status = one > status ? one : status;
    }
    return status;
}

const struct fl_command fl_command_diff = {"diff", "show what apply would change", run};
