/* `flops rounds`: how a project's training went, round by round. */
#include "api/table.h"
#include "cmd/chart.h"
#include "cmd/client.h"
#include "cmd/command.h"
#include "cmd/discovery.h"
#include "cmd/options.h"
#include "lib/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHART_HEIGHT 8
#define CHART_WIDTH  100
#define MARGIN       14 /* of the scale */
#define CELLS        9

static const char help[] =
    "Usage: flops rounds PROJECT [options]\n\n"
    "The rounds of a project that are kept, with their metrics, and a curve of one of them.\n\n"
    "      --metric NAME       of the curve (default accuracy)\n"
    "  -o, --output FORMAT     table (the default), csv or json\n"
    "      --no-chart          the table only; as where the output is no terminal\n"
    "      --chart             the curve, wherever the output goes\n" FL_CLIENT_HELP
    "\nExit status: 0; 1 failed; 2 wrong usage.\n";

struct command {
    struct fl_client_flags flags;
    const char *project, *metric, *output;
    bool no_chart, chart;
    struct fl_arena *arena;
    struct fl_client *client;
    const json_t **rounds; /* by number */
    size_t count;
};

static const struct fl_api_resource resource = {.group = "flops.dev",
                                                .version = "v1alpha1",
                                                .plural = "flrounds",
                                                .singular = "flround",
                                                .kind = "FLRound",
                                                .type_name = "flround.flops.dev",
                                                .namespaced = true,
                                                .can_list = true};

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(command->flags),
        {"metric", 0, FL_OPTION_TEXT, &command->metric},
        {"output", 'o', FL_OPTION_TEXT, &command->output},
        {"no-chart", 0, FL_OPTION_FLAG, &command->no_chart},
        {"chart", 0, FL_OPTION_FLAG, &command->chart},
    };
    const struct fl_options options = {"rounds", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count != 1)
        return fl_command_usage("rounds", "the name of one project is needed");
    if (strcmp(command->output, "table") != 0 && strcmp(command->output, "csv") != 0 &&
        strcmp(command->output, "json") != 0)
        return fl_command_usage("rounds", "-o %s: must be table, csv or json", command->output);
    command->project = words.items[0];
    return -1;
}

/* Reading */

static int64_t number_of(const json_t *round)
{
    return fl_json_int(round, "status.index", fl_json_int(round, "spec.index", 0));
}

static int compare_rounds(const void *a, const void *b)
{
    const int64_t x = number_of(*(const json_t *const *)a),
                  y = number_of(*(const json_t *const *)b);

    return (x > y) - (x < y);
}

static int read_rounds(struct command *command, struct fl_error *err)
{
    const struct fl_list_query query = {
        .ns = command->client->ns,
        .field_selector = fl_arena_printf(command->arena, "spec.project.name=%s", command->project),
        .chunk_size = 500};
    json_t *list = NULL, *item;
    size_t i;
    int r = fl_client_list(command->client, &resource, &query, &list, err);

    if (r < 0)
        return r;
    (void)fl_json_in_arena(command->arena, list);
    command->rounds = fl_new_array(command->arena, const json_t *,
                                   json_array_size(json_object_get(list, "items")));
    json_array_foreach(json_object_get(list, "items"), i, item)
        command->rounds[command->count++] = item;
    if (command->count == 0)
        return fl_error_set(err, FL_E_NOT_FOUND, "project %s has no rounds", command->project);
    qsort(command->rounds, command->count, sizeof(const json_t *), compare_rounds);
    return 0;
}

static const char *metric_of(const json_t *round, const char *kind, const char *name)
{
    const json_t *metrics = json_object_get(fl_json_path(round, "status.metrics"), kind);

    return json_string_value(json_object_get(metrics, name));
}

static const char *condition_of(const json_t *round)
{
    const json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(round, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), "Ready"))
            return fl_json_str(condition, "reason");
    return NULL;
}

/* Showing */

static const char *const names[CELLS] = {"round", "attempt",  "learners", "examples", "loss",
                                         NULL,    "duration", "model",    "status"};

static void fill(struct command *command, const json_t *round, const char *cells[CELLS])
{
    const char *model = fl_json_str(round, "status.model.digest");

    cells[0] = fl_arena_printf(command->arena, "%" PRId64, number_of(round));
    cells[1] = fl_arena_printf(command->arena, "%" PRId64, fl_json_int(round, "status.attempt", 0));
    cells[2] = fl_json_str(round, "status.participants.summary");
    cells[3] =
        fl_arena_printf(command->arena, "%" PRId64, fl_json_int(round, "status.examples", 0));
    cells[4] = metric_of(round, "train", "loss");
    cells[5] = metric_of(round, "evaluation", command->metric);
    cells[6] = fl_json_str(round, "status.durations.total");
    cells[7] = model ? fl_arena_strndup(command->arena, model + strlen("sha256:"), 12) : NULL;
    cells[8] = condition_of(round);
    for (size_t i = 0; i < CELLS; i++)
        cells[i] = fl_str_or(cells[i], "");
}

static const char *name_of(const struct command *command, size_t i)
{
    return names[i] ? names[i] : command->metric;
}

static void show_csv(struct command *command)
{
    for (size_t c = 0; c < CELLS; c++)
        (void)printf("%s%s", c > 0 ? "," : "", name_of(command, c));
    for (size_t i = 0; i < command->count; i++) {
        const char *cells[CELLS];

        fill(command, command->rounds[i], cells);
        for (size_t c = 0; c < CELLS; c++)
            (void)printf("%s%s", c > 0 ? "," : "\n", cells[c]);
    }
    (void)printf("\n");
}

static void show_json(struct command *command)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    FL_JSON list = json_array();

    for (size_t i = 0; i < command->count; i++)
        (void)json_array_append(list, (json_t *)command->rounds[i]);
    fl_json_write_pretty(&text, list);
    (void)printf("%s\n", fl_buf_text(&text));
}

static void show_table(struct command *command)
{
    const char *(*rows)[CELLS] =
        (void *)fl_new_array(command->arena, const char *, (command->count + 1) * CELLS);
    size_t widths[CELLS] = {0};

    for (size_t c = 0; c < CELLS; c++)
        rows[0][c] = name_of(command, c);
    for (size_t i = 0; i < command->count; i++)
        fill(command, command->rounds[i], rows[i + 1]);
    for (size_t i = 0; i <= command->count; i++)
        for (size_t c = 0; c < CELLS; c++) {
            const size_t width = fl_utf8_width(rows[i][c], strlen(rows[i][c]));

            widths[c] = width > widths[c] ? width : widths[c];
        }
    for (size_t i = 0; i <= command->count; i++) {
        for (size_t c = 0; c + 1 < CELLS; c++)
            (void)printf("%-*s", (int)widths[c] + 3, rows[i][c]);
        (void)printf("%s\n", rows[i][CELLS - 1]);
    }
}

static size_t terminal_width(void)
{
    struct winsize size = {0};

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 2 * MARGIN)
        return size.ws_col - MARGIN;
    return CHART_WIDTH;
}

static void show_chart(struct command *command)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf text = {0};
    double *values = fl_new_array(command->arena, double, command->count);
    struct fl_chart chart = {.values = values,
                             .count = command->count,
                             .width = terminal_width(),
                             .height = CHART_HEIGHT};

    for (size_t i = 0; i < command->count; i++) {
        const char *value = metric_of(command->rounds[i], "evaluation", command->metric);

        values[i] = value ? strtod(value, NULL) : NAN;
    }
    chart.first = fl_arena_printf(command->arena, "round %" PRId64, number_of(command->rounds[0]));
    chart.last =
        fl_arena_printf(command->arena, "%" PRId64, number_of(command->rounds[command->count - 1]));
    fl_chart_draw(&text, &chart);
    if (text.len > 0)
        (void)printf("\n%s\n%s", command->metric, fl_buf_text(&text));
}

static void show(struct command *command)
{
    if (strcmp(command->output, "csv") == 0) {
        show_csv(command);
    } else if (strcmp(command->output, "json") == 0) {
        show_json(command);
    } else {
        show_table(command);
        if (command->chart || (!command->no_chart && isatty(STDOUT_FILENO)))
            show_chart(command);
    }
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct command command = {.metric = "accuracy", .output = "table", .arena = arena};
    struct fl_error err = {0};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (fl_client_open("rounds", &command.flags, arena, &command.client, &err) < 0)
        return fl_command_fail("rounds", &err);
    if (read_rounds(&command, &err) < 0)
        return fl_client_report(command.client, NULL, &err);
    show(&command);
    return 0;
}

const struct fl_command fl_command_rounds = {"rounds", "how a project's training went", run};
