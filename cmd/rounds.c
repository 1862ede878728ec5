/* `flops rounds`: how a project's training went, round by round. */
#include "cmd/client.h"
#include "cmd/command.h"
#include "cmd/discovery.h"
#include "cmd/options.h"
#include "cmd/rounds_compare.h"
#include "cmd/rounds_follow.h"
#include "cmd/rounds_history.h"
#include "cmd/rounds_show.h"
#include "lib/terminal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHART_WIDTH 114 /* where the output has no width */

static const char help[] =
    "Usage: flops rounds PROJECT [PROJECT…] [options]\n\n"
    "The rounds of a project with their metrics, and a curve of one of them; also of rounds whose\n"
    "FLRounds are gone. Of several projects: one metric, beside each other.\n\n"
    "      --metric NAME       of the curve, or compared (default accuracy)\n"
    "  -o, --output FORMAT     table (the default), csv or json\n"
    "      --no-chart          the table only; as where the output is no terminal\n"
    "      --chart             the curve, wherever the output goes\n"
    "  -w, --watch             follow it live until the project is complete or stalled; where the\n"
    "                          output is no terminal, a line for each round\n"
    "      --timeout D         of --watch: not longer than this\n" FL_CLIENT_HELP
    "\nExit status: 0 (with --watch: it is complete); 1 failed, stalled or deleted; 2 wrong "
    "usage;\n"
    "3 not complete in time; 130 after Ctrl-C.\n";

struct command {
    struct fl_client_flags flags;
    const char *project, *output;
    const char *projects[FL_ROUNDS_COMPARED_MAX];
    size_t project_count;
    bool no_chart, chart, watch;
    int64_t timeout_ms;
    struct fl_arena *arena;
    struct fl_client *client;
    struct fl_rounds rounds;
};

static const struct fl_api_resource resource = {.group = "flops.dev",
                                                .version = "v1alpha1",
                                                .plural = "flrounds",
                                                .singular = "flround",
                                                .kind = "FLRound",
                                                .type_name = "flround.flops.dev",
                                                .namespaced = true,
                                                .can_list = true};
static const struct fl_api_resource history_resource = {.group = "flops.dev",
                                                        .version = "v1alpha1",
                                                        .plural = "flhistories",
                                                        .singular = "flhistory",
                                                        .kind = "FLHistory",
                                                        .type_name = "flhistory.flops.dev",
                                                        .namespaced = true,
                                                        .can_list = true};

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(command->flags),
        {"metric", 0, FL_OPTION_TEXT, &command->rounds.metric},
        {"output", 'o', FL_OPTION_TEXT, &command->output},
        {"no-chart", 0, FL_OPTION_FLAG, &command->no_chart},
        {"chart", 0, FL_OPTION_FLAG, &command->chart},
        {"watch", 'w', FL_OPTION_FLAG, &command->watch},
        {"timeout", 0, FL_OPTION_DURATION, &command->timeout_ms},
    };
    const struct fl_options options = {"rounds", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count < 1 || words.count > FL_ROUNDS_COMPARED_MAX)
        return fl_command_usage("rounds", "the names of one to %d projects are needed",
                                FL_ROUNDS_COMPARED_MAX);
    if (words.count > 1 && (command->watch || command->chart))
        return fl_command_usage("rounds", "--watch and --chart are for one project");
    if (strcmp(command->output, "table") != 0 && strcmp(command->output, "csv") != 0 &&
        strcmp(command->output, "json") != 0)
        return fl_command_usage("rounds", "-o %s: must be table, csv or json", command->output);
    if (command->watch && strcmp(command->output, "table") != 0)
        return fl_command_usage("rounds", "--watch shows a table: -o %s does not go with it",
                                command->output);
    if (command->timeout_ms > 0 && !command->watch)
        return fl_command_usage("rounds", "--timeout is for --watch");
    command->project_count = words.count;
    for (size_t i = 0; i < words.count; i++)
        command->projects[i] = words.items[i];
    command->project = command->projects[0];
    return -1;
}

/* Reading */

static int list_named(struct command *command, const struct fl_api_resource *kind,
                      const char *project, const json_t **ret_items, struct fl_error *err)
{
    const struct fl_list_query query = {
        .ns = command->client->ns,
        .field_selector = fl_arena_printf(command->arena, "spec.project.name=%s", project),
        .chunk_size = 500};
    json_t *list = NULL;
    int r = fl_client_list(command->client, kind, &query, &list, err);

    if (r < 0)
        return r;
    *ret_items = json_object_get(fl_json_in_arena(command->arena, list), "items");
    return 0;
}

static int read_project(struct command *command, const char *project, struct fl_rounds *rounds,
                        struct fl_error *err)
{
    const json_t *items = NULL, *histories = NULL;
    json_t *item;
    size_t i;
    int r = list_named(command, &resource, project, &items, err);

    if (r < 0)
        return r;
    rounds->items = fl_new_array(command->arena, const json_t *, json_array_size(items) + 1);
    rounds->count = 0;
    json_array_foreach((json_t *)items, i, item)
        rounds->items[rounds->count++] = item;
    r = list_named(command, &history_resource, project, &histories, err);
    if (r < 0 && r != FL_E_NOT_FOUND) /* a server that keeps none */
        return r;
    fl_rounds_add_history(rounds, histories);
    if (rounds->count == 0)
        return fl_error_set(err, FL_E_NOT_FOUND, "project %s has no rounds", project);
    return 0;
}

static int read_rounds(struct command *command, struct fl_error *err)
{
    return read_project(command, command->project, &command->rounds, err);
}

/* Showing */

static void show_json(const struct fl_rounds *rounds, struct fl_buf *out)
{
    FL_JSON list = json_array();

    for (size_t i = 0; i < rounds->count; i++)
        (void)json_array_append(list, (json_t *)rounds->items[i]);
    fl_json_write_pretty(out, list);
    fl_buf_putc(out, '\n');
}

static void show_chart(struct command *command, struct fl_buf *out)
{
    size_t columns, rows;

    if (!fl_terminal_size(STDOUT_FILENO, &columns, &rows))
        columns = CHART_WIDTH;
    fl_buf_putc(out, '\n');
    fl_rounds_chart(&command->rounds, columns, fl_terminal_is_utf8(), out);
}

static void show(struct command *command)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};

    if (strcmp(command->output, "csv") == 0) {
        fl_rounds_csv(&command->rounds, &out);
    } else if (strcmp(command->output, "json") == 0) {
        show_json(&command->rounds, &out);
    } else {
        fl_rounds_table(&command->rounds, false, &out);
        if (command->chart || (!command->no_chart && isatty(STDOUT_FILENO)))
            show_chart(command, &out);
    }
    (void)fwrite(fl_buf_text(&out), 1, out.len, stdout);
}

static int compare(struct command *command, struct fl_error *err)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf out = {0};
    struct fl_rounds_compared items[FL_ROUNDS_COMPARED_MAX];
    FL_JSON json = NULL;

    for (size_t i = 0; i < command->project_count; i++) {
        int r;

        items[i] = (struct fl_rounds_compared){command->projects[i], command->rounds};
        r = read_project(command, command->projects[i], &items[i].rounds, err);
        if (r < 0)
            return r;
    }
    if (strcmp(command->output, "csv") == 0) {
        fl_rounds_compare_csv(items, command->project_count, &out);
    } else if (strcmp(command->output, "json") == 0) {
        json = fl_rounds_compare_json(items, command->project_count);
        fl_json_write_pretty(&out, json);
    } else {
        fl_rounds_compare_table(items, command->project_count, &out);
    }
    (void)fwrite(fl_buf_text(&out), 1, out.len, stdout);
    return 0;
}

/* To its end; then what a look without following shows, where the view of it is gone. */
static int follow(struct command *command)
{
    const struct fl_rounds_follow how = {.client = command->client,
                                         .project = command->project,
                                         .metric = command->rounds.metric,
                                         .timeout_ms = command->timeout_ms,
                                         .chart = !command->no_chart};
    struct fl_error err = {0}, ignored = {0};
    bool drawn = false;
    int status = fl_rounds_follow(&how, &drawn, &err);

    if (drawn && read_rounds(command, &ignored) == 0)
        show(command);
    (void)fflush(stdout);
    command->client->status = NULL;
    if (err.code)
        (void)fl_command_fail("rounds", &err);
    return status;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct command command = {
        .output = "table", .arena = arena, .rounds = {.arena = arena, .metric = "accuracy"}};
    struct fl_error err = {0};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (fl_client_open("rounds", &command.flags, arena, &command.client, &err) < 0)
        return fl_command_fail("rounds", &err);
    if (command.watch)
        return follow(&command);
    if (command.project_count > 1)
        return compare(&command, &err) < 0 ? fl_client_report(command.client, NULL, &err) : 0;
    if (read_rounds(&command, &err) < 0)
        return fl_client_report(command.client, NULL, &err);
    show(&command);
    return 0;
}

const struct fl_command fl_command_rounds = {"rounds", "how a project's training went", run};
