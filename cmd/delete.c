/* `flops delete`: and waiting until objects are gone, saying what holds them. */
#include "cmd/command.h"
#include "cmd/follow.h"
#include "cmd/manifest.h"
#include "cmd/target.h"
#include "cmd/write.h"
#include "lib/str.h"

#include <stdio.h>

static const char help[] =
    "Usage: flops delete TYPE NAME… | TYPE/NAME… | TYPE -l SELECTOR | TYPE --all | -f FILE…\n\n"
    "Deletes objects and waits until they are gone; says which finalizers hold one.\n\n"
    "  -f, --filename FILE       what files name (repeatable; - is standard input)\n"
    "  -R, --recursive           folders of folders too\n"
    "  -l, --selector SEL        by labels\n"
    "      --field-selector SEL  by fields\n"
    "      --all                 all of the type in the namespace\n"
    "  -A, --all-namespaces      with -l or --all\n"
    "      --cascade MODE        what becomes of the objects it owns: background (default:\n"
    "                            deleted soon), foreground (deleted before it), orphan (kept)\n"
    "      --wait=false          do not wait until it is gone\n"
    "      --timeout D           how long to wait, altogether (default 5m)\n"
    "      --ignore-not-found    what is not there is no failure\n"
    "      --dry-run[=server]    check and show only\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops delete flp fashion\n"
    "  flops delete -f project.yaml --ignore-not-found\n"
    "  flops delete flr -l flops.dev/project=fashion --cascade=foreground --timeout 30s\n"
    "\nExit status: 0; 1 something was not deleted or not gone in time; 2 wrong usage.\n";

struct victim {
    const struct fl_api_resource *resource;
    const char *ns, *name, *where;
    const char *uid; /* once it was asked for and is not gone */
};

struct delete
{
    struct fl_client_flags flags;
    struct fl_words files;
    bool recursive, all, all_namespaces, wait, ignore_not_found, dry_run;
    const char *selector, *field_selector, *cascade, *dry_run_text;
    int64_t timeout_ms;

    struct fl_arena *arena;
    struct fl_client *client;
    struct victim *victims;
    size_t count, cap;
    const char *held_by; /* what was said last */
    int status;
};

static void delete_finish(struct delete *delete)
{
    fl_arena_destroy(delete->arena);
}

static const char *propagation(const struct delete *delete)
{
    static const char *const modes[][2] = {{"background", "Background"},
                                           {"true", "Background"},
                                           {"foreground", "Foreground"},
                                           {"orphan", "Orphan"},
                                           {"false", "Orphan"}};

    for (size_t i = 0; i < FL_COUNT_OF(modes); i++)
        if (strcmp(delete->cascade, modes[i][0]) == 0)
            return modes[i][1];
    return NULL;
}

static int check(struct delete *delete, const struct fl_words *words)
{
    bool chosen = delete->selector || delete->field_selector || delete->all;

    if (!propagation(delete))
        return fl_command_usage("delete", "--cascade %s: background, foreground or orphan",
                                delete->cascade);
    if ((delete->files.count > 0) == (words->count > 0))
        return fl_command_usage("delete", "say what: TYPE NAME…, TYPE/NAME… or -f FILE");
    if (delete->files.count > 0 && chosen)
        return fl_command_usage("delete", "-f does not go with a selector or --all");
    if (delete->all && delete->selector)
        return fl_command_usage("delete", "--all and a selector do not go together");
    if (delete->all_namespaces && !chosen)
        return fl_command_usage("delete", "--all-namespaces needs a selector or --all");
    return fl_write_dry_run_parse("delete", delete->dry_run_text, &delete->dry_run);
}

static int parse(struct delete *delete, int argc, char **argv, struct fl_words *words)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(delete->flags),
        {"filename", 'f', FL_OPTION_LIST, &delete->files},
        {"recursive", 'R', FL_OPTION_FLAG, &delete->recursive},
        {"selector", 'l', FL_OPTION_TEXT, &delete->selector},
        {"field-selector", 0, FL_OPTION_TEXT, &delete->field_selector},
        {"all", 0, FL_OPTION_FLAG, &delete->all},
        {"all-namespaces", 'A', FL_OPTION_FLAG, &delete->all_namespaces},
        {"cascade", 0, FL_OPTION_TEXT, &delete->cascade},
        {"wait", 0, FL_OPTION_FLAG, &delete->wait},
        {"timeout", 0, FL_OPTION_DURATION, &delete->timeout_ms},
        {"ignore-not-found", 0, FL_OPTION_FLAG, &delete->ignore_not_found},
        {"dry-run", 0, FL_OPTION_CHOICE, &delete->dry_run_text},
    };
    struct fl_options options = {"delete", help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, delete->arena, argc, argv, words);

    return status >= 0 ? status : check(delete, words);
}

static void add_victim(struct delete *delete, const struct fl_api_resource *resource,
                       const char *ns, const char *name, const char *where)
{
    if (delete->count == delete->cap) {
        size_t cap = delete->cap ? delete->cap * 2 : 16;
        struct victim *victims = fl_new_array(delete->arena, struct victim, cap);

        if (delete->count)
            memcpy(victims, delete->victims, delete->count * sizeof(*victims));
        delete->victims = victims;
        delete->cap = cap;
    }
    delete->victims[delete->count++] = (struct victim){
        .resource = resource,
        .ns = resource->namespaced ? ns : NULL,
        .name = name,
        .where = where,
    };
}

/* Last first: what lives in a namespace before the namespace. */
static void find_in_files(struct delete *delete)
{
    struct fl_documents documents = {.arena = delete->arena};

    fl_documents_read(&documents, &delete->files, delete->recursive);
    fl_documents_sort(&documents);
    for (size_t i = documents.count; i > 0; i--) {
        const struct fl_document *document = &documents.items[i - 1];
        const struct fl_api_resource *resource = NULL;
        const char *ns = NULL;
        struct fl_error err = {0};
        int r = document->error ? fl_error_set(&err, FL_E_BAD_REQUEST, "%s", document->error)
                                : fl_write_resolve(delete->client, document, &resource, &ns, &err);

        if (r == 0)
            add_victim(delete, resource, ns, document->name, document->where);
        else if (r != FL_E_NOT_FOUND || !delete->ignore_not_found)
            delete->status = fl_client_report(delete->client, document->where, &err);
    }
}

static int find_all(struct delete *delete, const struct fl_api_resource *resource,
                    struct fl_error *err)
{
    struct fl_list_query query = {.ns = delete->all_namespaces ? NULL : delete->client->ns,
                                  .label_selector = delete->selector,
                                  .field_selector = delete->field_selector,
                                  .chunk_size = 500};
    FL_JSON list = NULL;
    json_t *item;
    size_t i;
    int r = fl_client_list(delete->client, resource, &query, &list, err);

    if (r < 0)
        return r;
    json_array_foreach(json_object_get(list, "items"), i, item) {
        const char *ns = fl_json_str(item, "metadata.namespace");

        add_victim(
            delete, resource, ns ? fl_arena_strdup(delete->arena, ns) : NULL,
            fl_arena_strdup(delete->arena, fl_str_or(fl_json_str(item, "metadata.name"), "")),
            NULL);
    }
    return 0;
}

static int find_named(struct delete *delete, const struct fl_words *words, struct fl_error *err)
{
    bool chosen = delete->selector || delete->field_selector || delete->all;
    struct fl_targets targets = {0};
    int r = fl_targets_parse(delete->client->discovery, words, &targets, err);

    for (size_t i = 0; r == 0 && i < targets.count; i++) {
        const struct fl_target *target = &targets.items[i];

        if (!target->name != chosen)
            return fl_error_set(err, FL_E_BAD_REQUEST,
                                "name the objects, or choose them with -l or --all");
        if (chosen)
            r = find_all(delete, target->resource, err);
        else
            add_victim(delete, target->resource, delete->client->ns, target->name, NULL);
    }
    if (r == 0 && delete->count == 0)
        (void)fprintf(stderr, "No resources found\n");
    return r;
}

/* What keeps an object that is being deleted. */
static const char *holders(struct fl_arena *arena, const json_t *object)
{
    const char *all = "";
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(object, "metadata.finalizers"), i, item)
        all = fl_arena_printf(arena, "%s%s%s", all, *all ? ", " : "",
                              fl_str_or(json_string_value(item), "?"));
    if (*all)
        return fl_arena_printf(arena, "its finalizers: %s", all);
    if (json_array_size(fl_json_path(object, "spec.finalizers")) > 0)
        return "the objects in it";
    return "the server";
}

static void say_deleted(const struct delete *delete, const struct victim *victim)
{
    (void)printf("%s \"%s\" deleted%s\n", victim->resource->type_name, victim->name,
                 delete->dry_run ? " (dry run)" : "");
    (void)fflush(stdout);
}

static void ask(struct delete *delete, struct victim *victim)
{
    const char *target = fl_client_path(delete->client, victim->resource, victim->ns, victim->name);
    struct fl_http_call call = {.method = "DELETE"};
    struct fl_error err = {0};
    FL_JSON answer = NULL;
    const char *uid;

    target = fl_client_query(delete->client, target, "propagationPolicy", propagation(delete));
    call.target = fl_client_query(delete->client, target, "dryRun", delete->dry_run ? "All" : NULL);
    if (fl_client_call(delete->client, &call, NULL, &answer, &err) < 0) {
        if (err.code != FL_E_NOT_FOUND || !delete->ignore_not_found)
            delete->status = fl_client_report(delete->client, victim->where, &err);
        return;
    }
    uid = fl_json_str(answer, "metadata.uid");
    if (delete->dry_run || !uid || !fl_json_str(answer, "metadata.deletionTimestamp") ||
        fl_streq(fl_json_str(answer, "kind"), "Status")) {
        say_deleted(delete, victim);
        return;
    }
    victim->uid = fl_arena_strdup(delete->arena, uid);
    if (!delete->wait)
        (void)printf("%s \"%s\" is being deleted, held by %s\n", victim->resource->type_name,
                     victim->name, holders(delete->arena, answer));
}

/* Waiting. */

struct watched {
    struct delete *delete;
    const struct victim *victim;
};

static void say_held(struct delete *delete, const struct victim *victim, const json_t *object)
{
    const char *held_by = holders(delete->arena, object);

    if (fl_streq(held_by, delete->held_by))
        return;
    delete->held_by = held_by;
    (void)fprintf(stderr, "%s \"%s\" waits for %s\n", victim->resource->type_name, victim->name,
                  held_by);
}

static int on_change(void *user, const char *event, json_t *object, struct fl_error *err)
{
    struct watched *watched = user;

    (void)err;
    if (strcmp(event, "LIST") == 0)
        object = json_array_get(json_object_get(object, "items"), 0);
    if (!object || strcmp(event, "DELETED") == 0 ||
        !fl_streq(fl_json_str(object, "metadata.uid"), watched->victim->uid))
        return 1;
    say_held(watched->delete, watched->victim, object);
    return 0;
}

static void wait_for(struct delete *delete, const struct victim *victim, int64_t deadline_ms)
{
    struct watched watched = {delete, victim};
    struct fl_follow follow = {
        .resource = victim->resource,
        .query = {.ns = victim->ns,
                  .field_selector = fl_follow_name(delete->client, victim->name, NULL)},
        .deadline_ms = deadline_ms,
    };
    struct fl_error err = {0};
    int r;

    delete->held_by = NULL;
    r = fl_follow(delete->client, &follow, on_change, &watched, &err);
    if (r > 0) {
        say_deleted(delete, victim);
        return;
    }
    if (r == FL_E_TIMEOUT) {
        delete->client->status = NULL;
        (void)fl_error_set(&err, r, "not gone in time, held by %s",
                           fl_str_or(delete->held_by, "the server"));
    }
    delete->status = fl_client_report(
        delete->client, fl_target_text(delete->arena, victim->resource, victim->name), &err);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(delete_finish)
    struct delete delete = {.arena = fl_arena_create(),
                            .wait = true,
                            .cascade = "background",
                            .timeout_ms = INT64_C(5) * 60 * 1000};
    struct fl_words words = {0};
    struct fl_error err = {0};
    int64_t deadline_ms;
    int status = parse(&delete, argc, argv, &words);

    if (status >= 0)
        return status;
    if (fl_client_open("delete", &delete.flags, delete.arena, &delete.client, &err) < 0)
        return fl_command_fail("delete", &err);
    if (fl_discovery_load(delete.client, false, &err) < 0)
        return fl_client_report(delete.client, NULL, &err);
    deadline_ms = fl_monotonic_ms(&delete.client->env) + delete.timeout_ms;
    if (delete.files.count > 0)
        find_in_files(&delete);
    else if (find_named(&delete, &words, &err) < 0)
        return fl_client_report(delete.client, NULL, &err);
    for (size_t i = 0; i < delete.count; i++)
        ask(&delete, &delete.victims[i]);
    for (size_t i = 0; delete.wait && i < delete.count; i++)
        if (delete.victims[i].uid)
            wait_for(&delete, &delete.victims[i], deadline_ms);
    return delete.status;
}

const struct fl_command fl_command_delete = {"delete", "delete objects", run};
