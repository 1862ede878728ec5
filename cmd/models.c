/* `flops models`: what was trained. */
#include "cmd/models.h"

#include "api/table.h"
#include "cmd/command.h"
#include "cmd/output.h"
#include "lib/str.h"

#include <inttypes.h>
#include <stdio.h>

#define OPTIONS_MAX 12
#define TRIES       5
#define PAUSE_MS    200
#define VERSION_MAX INT32_MAX

static const char help[] =
    "Usage: flops models ls [PROJECT] | get MODEL | export MODEL | tag MODEL ALIAS |\n"
    "       untag MODEL ALIAS | push FILE [options]\n\n"
    "The models that projects have trained: ModelVersions, and their content.\n\n"
    "  ls      what there is\n"
    "  get     all that is known of one\n"
    "  export  bring one here, as safetensors, ONNX or an MLflow directory\n"
    "  tag     let one go by an alias, and no other of its project\n"
    "  untag   take the alias away\n"
    "  push    put a file into the content store, to start a project from it\n" //
    FL_MODELS_REFERENCE_HELP "\n`flops models export --help` and so on tell more of each.\n"
    "\nExit status: 0 done; 1 failed; 2 wrong usage.\n";

const struct fl_api_resource fl_models_resource = {.group = "flops.dev",
                                                   .version = "v1alpha1",
                                                   .plural = "modelversions",
                                                   .singular = "modelversion",
                                                   .kind = "ModelVersion",
                                                   .type_name = "modelversion.flops.dev",
                                                   .namespaced = true,
                                                   .can_list = true};

int fl_models_open(struct fl_models *models, const char *usage, const struct fl_option *more,
                   size_t more_count, int argc, char **argv)
{
    struct fl_option items[OPTIONS_MAX] = {FL_CLIENT_OPTIONS(models->flags)};
    struct fl_options options = {models->command, usage, items, 5};
    struct fl_error err = {0};
    int status;

    for (size_t i = 0; i < more_count; i++)
        items[options.count++] = more[i];
    status = fl_options_parse(&options, models->arena, argc, argv, &models->words);
    if (status >= 0)
        return status;
    if (fl_client_open(models->command, &models->flags, models->arena, &models->client, &err) < 0)
        return fl_command_fail(models->command, &err);
    return -1;
}

/* References. */

static bool goes_by(const json_t *version, const char *alias)
{
    json_t *item;
    size_t i;

    json_array_foreach(fl_json_path(version, "spec.aliases"), i, item)
        if (fl_streq(json_string_value(item), alias))
            return true;
    return false;
}

static int list_versions(struct fl_models *models, const char *project, const char *ns,
                         const char *accept, json_t **ret_list, struct fl_error *err)
{
    const struct fl_list_query query = {
        .ns = ns,
        .accept = accept,
        .include_object = accept ? "Object" : NULL,
        .field_selector =
            project ? fl_arena_printf(models->arena, "spec.project.name=%s", project) : NULL,
        .chunk_size = 500};

    return fl_client_list(models->client, &fl_models_resource, &query, ret_list, err);
}

/* Where an alias is on its way from one to another, the newer round is meant. */
static int find_in_project(struct fl_models *models, const char *project, const char *what,
                           json_t **ret_version, struct fl_error *err)
{
    json_t *list = NULL, *item, *found = NULL;
    int64_t round = -1;
    size_t i;
    int r = list_versions(models, project, models->client->ns, NULL, &list, err);

    if (r < 0)
        return r;
    fl_json_in_arena(models->arena, list);
    (void)fl_str_to_int64(*what == 'v' ? what + 1 : what, 0, VERSION_MAX, &round);
    json_array_foreach(json_object_get(list, "items"), i, item) {
        bool meant =
            round >= 0 ? fl_json_int(item, "spec.round", -1) == round : goes_by(item, what);

        if (meant &&
            (!found || fl_json_int(item, "spec.round", 0) > fl_json_int(found, "spec.round", 0)))
            found = item;
    }
    if (!found)
        return fl_error_set(
            err, FL_E_NOT_FOUND,
            "project %s has no model \"%s\"; `flops models ls %s` shows what it has", project, what,
            project);
    *ret_version = found;
    return 0;
}

int fl_models_find(struct fl_models *models, const char *reference, json_t **ret_version,
                   struct fl_error *err)
{
    const char *colon = strchr(reference, ':');
    json_t *version = NULL;
    int r;

    if (colon)
        return find_in_project(
            models, fl_arena_strndup(models->arena, reference, (size_t)(colon - reference)),
            colon + 1, ret_version, err);
    r = fl_client_get(
        models->client,
        fl_client_path(models->client, &fl_models_resource, models->client->ns, reference), NULL,
        &version, err);
    if (r < 0)
        return r;
    *ret_version = fl_json_in_arena(models->arena, version);
    return 0;
}

/* --- ls --- */

static const char ls_help[] =
    "Usage: flops models ls [PROJECT] [options]\n\n"
    "  -A, --all-namespaces    of all namespaces\n"
    "  -o, --output FORM       wide, json, yaml or name, instead of a table\n" //
    FL_CLIENT_HELP;

static int compare_rows(const void *a, const void *b)
{
    const json_t *x = json_object_get(*(json_t *const *)a, "object");
    const json_t *y = json_object_get(*(json_t *const *)b, "object");
    int by_project = strcmp(fl_str_or(fl_json_str(x, "spec.project.name"), ""),
                            fl_str_or(fl_json_str(y, "spec.project.name"), ""));
    int64_t rounds = fl_json_int(x, "spec.round", 0) - fl_json_int(y, "spec.round", 0);

    return by_project ? by_project : rounds < 0 ? -1 : rounds > 0;
}

/* By project, and then as they were made. */
static void sort_rows(struct fl_models *models, json_t *table)
{
    json_t *rows = json_object_get(table, "rows"), *row;
    size_t count = json_array_size(rows), i;
    json_t **items = fl_new_array(models->arena, json_t *, count + 1);

    json_array_foreach(rows, i, row)
        items[i] = json_incref(row);
    if (count > 0)
        qsort(items, count, sizeof(*items), compare_rows);
    (void)json_array_clear(rows);
    for (i = 0; i < count; i++)
        (void)json_array_append_new(rows, items[i]);
}

static void print_table(struct fl_models *models, json_t *table, bool wide, bool all)
{
    const struct fl_table_print_options options = {.wide = wide, .with_namespace = all};
    struct fl_buf text;

    if (json_array_size(json_object_get(table, "rows")) == 0) {
        (void)fprintf(stderr, all ? "No models found.\n" : "No models found in %s namespace.\n",
                      models->client->ns);
        return;
    }
    sort_rows(models, table);
    fl_buf_init(&text, 0);
    fl_table_print(table, &options, &text);
    (void)fwrite(fl_buf_text(&text), 1, text.len, stdout);
    fl_buf_finish(&text);
}

static int list(struct fl_models *models, int argc, char **argv)
{
    const char *form = NULL, *project;
    bool all = false;
    const struct fl_option more[] = {{"output", 'o', FL_OPTION_TEXT, &form},
                                     {"all-namespaces", 'A', FL_OPTION_FLAG, &all}};
    FL_JSON answer = NULL;
    struct fl_output output;
    struct fl_error err = {0};
    int status = fl_models_open(models, ls_help, more, FL_COUNT_OF(more), argc, argv), r;
    bool table;

    if (status >= 0)
        return status;
    if (models->words.count > 1)
        return fl_command_usage(models->command, "one project, or none");
    project = models->words.count > 0 ? models->words.items[0] : NULL;
    r = fl_output_parse(models->arena, form, &output, &err);
    if (r < 0)
        return fl_command_usage(models->command, "%s", err.msg);
    table = fl_output_is_table(&output);
    r = list_versions(models, project, all ? NULL : models->client->ns,
                      table ? FL_ACCEPT_TABLE : NULL, &answer, &err);
    if (r < 0)
        return fl_client_report(models->client, NULL, &err);
    if (table)
        print_table(models, answer, output.form == FL_OUTPUT_WIDE, all);
    else if (fl_discovery_load(models->client, false, &err) < 0 ||
             fl_output_object(&output, models->client->discovery, NULL, answer, &err) < 0)
        return fl_client_report(models->client, NULL, &err);
    return 0;
}

/* --- get --- */

static const char get_help[] = "Usage: flops models get MODEL [options]\n\n"
                               "  -o, --output FORM       json, yaml or name, instead of text\n" //
    FL_CLIENT_HELP FL_MODELS_REFERENCE_HELP;

static void print_line(const char *name, const char *value)
{
    if (value && *value)
        (void)printf("%-14s %s\n", name, value);
}

static void print_number(const char *name, const json_t *version, const char *path)
{
    if (json_is_integer(fl_json_path(version, path)))
        (void)printf("%-14s %" PRId64 "\n", name, fl_json_int(version, path, 0));
}

static void print_list(const char *name, const json_t *list)
{
    struct fl_buf text;
    json_t *item;
    size_t i;

    fl_buf_init(&text, 0);
    json_array_foreach((json_t *)list, i, item)
        fl_buf_printf(&text, i > 0 ? ", %s" : "%s", fl_str_or(json_string_value(item), "?"));
    print_line(name, fl_buf_text(&text));
    fl_buf_finish(&text);
}

static void print_metrics(const json_t *version)
{
    const char *name;
    json_t *value;

    json_object_foreach(fl_json_path(version, "spec.metrics"), name, value)
        (void)printf("%-14s %s = %s\n", "Metric", name, fl_str_or(json_string_value(value), "?"));
}

static const char *ready_of(struct fl_models *models, const json_t *version)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(version, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), "Ready"))
            return fl_arena_printf(models->arena, "%s: %s",
                                   fl_str_or(fl_json_str(condition, "reason"), "?"),
                                   fl_str_or(fl_json_str(condition, "message"), ""));
    return "not looked at yet";
}

static void print_version(struct fl_models *models, const json_t *version)
{
    print_line("Name", fl_json_str(version, "metadata.name"));
    print_line("Project", fl_json_str(version, "spec.project.name"));
    print_number("Round", version, "spec.round");
    print_list("Aliases", fl_json_path(version, "spec.aliases"));
    print_line("Digest", fl_json_str(version, "spec.digest"));
    print_line("Size", fl_json_str(version, "status.sizeSummary"));
    print_line("Format", fl_json_str(version, "spec.format"));
    print_metrics(version);
    print_line("Trainer", fl_json_str(version, "spec.lineage.source.builtin"));
    print_line("Repository", fl_json_str(version, "spec.lineage.source.url"));
    print_line("Commit", fl_json_str(version, "spec.lineage.source.commit"));
    print_line("Image", fl_json_str(version, "spec.lineage.imageDigest"));
    print_list("Data", fl_json_path(version, "spec.lineage.dataTags"));
    print_number("Contributors", version, "spec.lineage.contributors");
    print_number("Examples", version, "spec.lineage.examples");
    print_line("Strategy", fl_json_str(version, "spec.lineage.strategy"));
    print_line("Base model", fl_json_str(version, "spec.lineage.baseModel"));
    print_line("Privacy spent", fl_json_str(version, "spec.lineage.epsilon"));
    print_line("Committed", fl_json_str(version, "spec.lineage.time"));
    print_line("Status", ready_of(models, version));
}

static int get(struct fl_models *models, int argc, char **argv)
{
    const char *form = NULL;
    const struct fl_option more[] = {{"output", 'o', FL_OPTION_TEXT, &form}};
    struct fl_output output;
    struct fl_error err = {0};
    json_t *version;
    int status = fl_models_open(models, get_help, more, FL_COUNT_OF(more), argc, argv);

    if (status >= 0)
        return status;
    if (models->words.count != 1)
        return fl_command_usage(models->command, "say which: NAME, PROJECT:ALIAS or PROJECT:ROUND");
    if (fl_output_parse(models->arena, form, &output, &err) < 0)
        return fl_command_usage(models->command, "%s", err.msg);
    if (fl_models_find(models, models->words.items[0], &version, &err) < 0)
        return fl_client_report(models->client, NULL, &err);
    if (fl_output_is_table(&output))
        print_version(models, version);
    else if (fl_discovery_load(models->client, false, &err) < 0 ||
             fl_output_object(&output, models->client->discovery, &fl_models_resource, version,
                              &err) < 0)
        return fl_client_report(models->client, NULL, &err);
    return 0;
}

/* --- tag, untag --- */

static const char tag_help[] = "Usage: flops models tag MODEL ALIAS [options]\n"
                               "       flops models untag MODEL ALIAS [options]\n\n"
                               "An alias is one model's of a project: another one that had it "
                               "loses it. A model with an alias\n"
                               "is kept. The project moves `best` and `latest` by itself.\n" //
    FL_CLIENT_HELP FL_MODELS_REFERENCE_HELP;

static json_t *aliases_with(const json_t *version, const char *alias, bool with)
{
    json_t *aliases = json_array(), *item;
    size_t i;

    json_array_foreach(fl_json_path(version, "spec.aliases"), i, item)
        if (!fl_streq(json_string_value(item), alias))
            (void)json_array_append(aliases, item);
    if (with)
        (void)json_array_append_new(aliases, json_string(alias));
    return aliases;
}

static int set_alias(struct fl_models *models, const json_t *version, const char *alias, bool with,
                     struct fl_error *err)
{
    FL_JSON patch = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    const char *target;

    if (goes_by(version, alias) == with)
        return 0;
    patch = json_pack("{s:{s:s, s:s}, s:{s:o}}", "metadata", "uid",
                      fl_str_or(fl_json_str(version, "metadata.uid"), ""), "resourceVersion",
                      fl_str_or(fl_json_str(version, "metadata.resourceVersion"), ""), "spec",
                      "aliases", aliases_with(version, alias, with));
    body = fl_json_to_bytes(patch);
    target = fl_client_path(models->client, &fl_models_resource, models->client->ns,
                            fl_json_str(version, "metadata.name"));
    return fl_client_call(
        models->client,
        &(struct fl_http_call){
            .method = "PATCH",
            .target = fl_client_query(models->client, target, "fieldManager", "flops-models"),
            .content_type = "application/merge-patch+json",
            .body = body->data,
            .body_len = body->len},
        NULL, NULL, err);
}

/* First it has the alias, then the others lose it: at no moment has nobody. */
static int move_alias(struct fl_models *models, const char *reference, const char *alias, bool with,
                      struct fl_error *err)
{
    json_t *version, *versions = NULL, *other;
    size_t i;
    int r = fl_models_find(models, reference, &version, err);

    if (r == 0)
        r = set_alias(models, version, alias, with, err);
    if (r < 0 || !with)
        return r;
    r = list_versions(models, fl_json_str(version, "spec.project.name"), models->client->ns, NULL,
                      &versions, err);
    fl_json_in_arena(models->arena, versions);
    json_array_foreach(json_object_get(versions, "items"), i, other)
        if (r == 0 &&
            !fl_streq(fl_json_str(other, "metadata.uid"), fl_json_str(version, "metadata.uid")))
            r = set_alias(models, other, alias, false, err);
    return r;
}

static int change_alias(struct fl_models *models, bool with, int argc, char **argv)
{
    struct fl_error err = {0};
    int status = fl_models_open(models, tag_help, NULL, 0, argc, argv), r;

    if (status >= 0)
        return status;
    if (models->words.count != 2)
        return fl_command_usage(models->command, "a model and an alias are needed");
    r = move_alias(models, models->words.items[0], models->words.items[1], with, &err);
    for (int i = 1; r == FL_E_CONFLICT && i < TRIES; i++) { /* somebody else wrote first */
        fl_client_pause(PAUSE_MS);
        r = move_alias(models, models->words.items[0], models->words.items[1], with, &err);
    }
    if (r < 0)
        return fl_client_report(models->client, NULL, &err);
    (void)printf(with ? "%s goes by %s\n" : "%s does not go by %s\n", models->words.items[0],
                 models->words.items[1]);
    return 0;
}

static int tag(struct fl_models *models, int argc, char **argv)
{
    return change_alias(models, true, argc, argv);
}

static int untag(struct fl_models *models, int argc, char **argv)
{
    return change_alias(models, false, argc, argv);
}

/* --- push --- */

static const char push_help[] =
    "Usage: flops models push FILE [options]\n\n"
    "Puts a file into the content store and prints its digest. What no object names goes again\n"
    "after an hour.\n" //
    FL_CLIENT_HELP;

static int push(struct fl_models *models, int argc, char **argv)
{
    char digest[FL_DIGEST_SIZE];
    struct fl_error err = {0};
    int status = fl_models_open(models, push_help, NULL, 0, argc, argv);

    if (status >= 0)
        return status;
    if (models->words.count != 1)
        return fl_command_usage(models->command, "one file is needed");
    if (fl_models_send(models, models->words.items[0], digest, &err) < 0)
        return fl_client_report(models->client, models->words.items[0], &err);
    (void)printf("%s\n", digest);
    return 0;
}

static int run(int argc, char **argv)
{
    static const struct {
        const char *name, *title;
        int (*run)(struct fl_models *models, int argc, char **argv);
    } commands[] = {
        {"ls", "models ls", list},
        {"get", "models get", get},
        {"export", "models export", fl_models_export},
        {"tag", "models tag", tag},
        {"untag", "models untag", untag},
        {"push", "models push", push},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_models models = {.arena = arena};

    if (argc < 2)
        return fl_command_usage("models", "ls, get, export, tag, untag or push");
    for (size_t i = 0; i < FL_COUNT_OF(commands); i++) {
        models.command = commands[i].title;
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(&models, argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        (void)fputs(help, stdout);
        return 0;
    }
    return fl_command_usage("models", "there is no \"%s\"", argv[1]);
}

const struct fl_command fl_command_models = {"models", "trained models: show, export, tag", run};
