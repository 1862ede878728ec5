/* `flops apply`: server-side apply of what files say. */
#include "cmd/command.h"
#include "cmd/manifest.h"
#include "cmd/write.h"
#include "lib/str.h"

#include <stdio.h>

static const char help[] =
    "Usage: flops apply -f FILE… [options]\n\n"
    "Makes objects as files say, by server-side apply: fields that a file names become ours, all\n"
    "others keep their owners. A file that cannot be applied does not stop the others.\n\n"
    "  -f, --filename FILE     file, folder or - for standard input (repeatable)\n"
    "  -R, --recursive         folders of folders too\n"
    "      --field-manager M   whose the fields become (default flops)\n"
    "      --force-conflicts   take over fields that others own\n"
    "      --dry-run[=server]  check and show only; nothing is stored\n"
    "      --server-side       always the case; accepted\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops apply -f project.yaml\n"
    "  flops apply -R -f deploy/ -n team-a --dry-run=server\n"
    "  flops get flp/fashion -o yaml | sed s/10/20/ | flops apply -f - --force-conflicts\n"
    "\nExit status: 0; 1 something was not applied; 2 wrong usage.\n";

struct apply {
    struct fl_client_flags flags;
    struct fl_words files;
    bool recursive, force, server_side;
    const char *manager, *dry_run_text;
    bool dry_run;

    struct fl_arena *arena;
    struct fl_client *client;
    bool defined; /* a CustomResourceDefinition was applied in this run */
};

static void apply_finish(struct apply *apply)
{
    fl_arena_destroy(apply->arena);
}

static int parse(struct apply *apply, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(apply->flags),
        {"filename", 'f', FL_OPTION_LIST, &apply->files},
        {"recursive", 'R', FL_OPTION_FLAG, &apply->recursive},
        {"field-manager", 0, FL_OPTION_TEXT, &apply->manager},
        {"force-conflicts", 0, FL_OPTION_FLAG, &apply->force},
        {"server-side", 0, FL_OPTION_FLAG, &apply->server_side},
        {"dry-run", 0, FL_OPTION_CHOICE, &apply->dry_run_text},
    };
    struct fl_options options = {"apply", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, apply->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("apply", "unexpected argument \"%s\"", words.items[0]);
    if (apply->files.count == 0)
        return fl_command_usage("apply", "say what: -f FILE");
    return fl_write_dry_run_parse("apply", apply->dry_run_text, &apply->dry_run);
}

static const char *outcome(const struct fl_write_result *result)
{
    if (result->created)
        return "created";
    return result->changed ? "configured" : "unchanged";
}

static int apply_one(struct apply *apply, const struct fl_document *document)
{
    struct fl_write_options options = {.manager = apply->manager,
                                       .force = apply->force,
                                       .dry_run = apply->dry_run,
                                       .wait_for_kind = apply->defined && !apply->dry_run};
    struct fl_write_result result = {0};
    struct fl_error err = {0};

    if (document->error) {
        apply->client->status = NULL;
        (void)fl_error_set(&err, FL_E_BAD_REQUEST, "%s", document->error);
        return fl_client_report(apply->client, document->where, &err);
    }
    if (fl_write_apply(apply->client, document, &options, &result, &err) < 0)
        return fl_write_report(apply->client, document, &err);
    (void)printf("%s/%s %s%s\n", result.resource->type_name, document->name, outcome(&result),
                 apply->dry_run ? " (dry run)" : "");
    (void)fflush(stdout);
    if (fl_streq(document->kind, "CustomResourceDefinition"))
        apply->defined = true;
    json_decref(result.before);
    json_decref(result.after);
    return 0;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(apply_finish)
    struct apply apply = {.arena = fl_arena_create(), .manager = "flops"};
    struct fl_documents documents = {.arena = apply.arena};
    struct fl_error err = {0};
    int status = parse(&apply, argc, argv);

    if (status >= 0)
        return status;
    if (fl_client_open("apply", &apply.flags, apply.arena, &apply.client, &err) < 0)
        return fl_command_fail("apply", &err);
    fl_documents_read(&documents, &apply.files, apply.recursive);
    fl_documents_sort(&documents);
    if (fl_discovery_load(apply.client, false, &err) < 0)
        return fl_client_report(apply.client, NULL, &err);
    status = 0;
    for (size_t i = 0; i < documents.count; i++)
        if (apply_one(&apply, &documents.items[i]) != 0)
            status = 1;
    return status;
}

const struct fl_command fl_command_apply = {"apply", "make objects as files say", run};
