/* `flops predict`: asks a model that is served, and says how often it is right. */
#include "cmd/command.h"
#include "cmd/node.h"
#include "cmd/options.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/str.h"
#include "workloads/data/store.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 60000
#define NAME_TEXT  256

static const char help[] =
    "Usage: flops predict URL --data TAG [options]\n\n"
    "Sends the examples of a data set of this node to a model that is served, and prints how many "
    "it\n"
    "got right.\n\n"
    "      --data TAG          a data set, or a part of one\n"
    "      --protocol NAME     v2 (the default), mlflow, csv or v1\n"
    "      --model NAME        of the model in addresses (default: what the server says)\n"
    "      --count N           only the first N examples\n"
    "      --batch N           rows in one request (default 100)\n"
    "      --token-file FILE   a bearer token to show\n"
    "      --data-dir DIR      data sets are in DIR/data (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "      --ca FILE, --cert FILE, --key FILE   whom to trust, and as whom to call\n"
    "\nExit status: 0; 1 failed; 2 wrong usage.\n";

struct command {
    const char *url, *data, *protocol, *model, *token_file, *token, *data_dir;
    struct fl_node_flags flags;
    int64_t count, batch;

    struct fl_arena *arena;
    struct fl_env env;
    struct fl_dataset *dataset;
    struct fl_http_client *client;
    size_t asked, right;
};

static void command_finish(struct command *command)
{
    fl_http_client_destroy(command->client);
    fl_dataset_unref(command->dataset);
    fl_arena_destroy(command->arena);
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_NODE_OPTIONS(command->flags),
        {"data", 0, FL_OPTION_TEXT, &command->data},
        {"protocol", 0, FL_OPTION_TEXT, &command->protocol},
        {"model", 0, FL_OPTION_TEXT, &command->model},
        {"count", 0, FL_OPTION_INT, &command->count},
        {"batch", 0, FL_OPTION_INT, &command->batch},
        {"token-file", 0, FL_OPTION_TEXT, &command->token_file},
        {"data-dir", 0, FL_OPTION_TEXT, &command->data_dir},
    };
    const struct fl_options options = {"predict", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count != 1)
        return fl_command_usage("predict", "one URL is needed");
    if (!command->data)
        return fl_command_usage("predict", "--data is missing");
    if (command->batch < 1)
        return fl_command_usage("predict", "--batch: must be at least 1");
    command->url = words.items[0];
    if (!command->data_dir)
        command->data_dir = fl_default_data_dir(command->arena);
    return -1;
}

/* Bodies */

static void write_row(struct fl_buf *body, const float *row, size_t width)
{
    for (size_t i = 0; i < width; i++)
        fl_buf_printf(body, i > 0 ? ",%.9g" : "%.9g", (double)row[i]);
}

static void write_rows(const struct command *command, struct fl_buf *body, size_t from,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fl_buf_puts(body, i > 0 ? ",[" : "[");
        write_row(body, fl_dataset_example(command->dataset, from + i), command->dataset->width);
        fl_buf_putc(body, ']');
    }
}

static void write_csv(const struct command *command, struct fl_buf *body, size_t from, size_t count)
{
    for (size_t i = 0; i < command->dataset->width; i++)
        fl_buf_printf(body, i > 0 ? ",c%zu" : "c%zu", i);
    for (size_t i = 0; i < count; i++) {
        fl_buf_putc(body, '\n');
        write_row(body, fl_dataset_example(command->dataset, from + i), command->dataset->width);
    }
    fl_buf_putc(body, '\n');
}

static const char *make_body(const struct command *command, struct fl_buf *body, size_t from,
                             size_t count)
{
    if (strcmp(command->protocol, "csv") == 0) {
        write_csv(command, body, from, count);
        return "text/csv";
    }
    if (strcmp(command->protocol, "v2") == 0) {
        fl_buf_printf(body,
                      "{\"inputs\":[{\"name\":\"input\",\"datatype\":\"FP32\",\"shape\":[%zu,%zu],"
                      "\"data\":[",
                      count, command->dataset->width);
        write_rows(command, body, from, count);
        fl_buf_puts(body, "]}]}");
    } else {
        fl_buf_puts(body, "{\"instances\":[");
        write_rows(command, body, from, count);
        fl_buf_puts(body, "]}");
    }
    return "application/json";
}

/* Calls */

static int call(struct command *command, const char *method, const char *target, const char *type,
                const struct fl_buf *body, json_t **ret_answer, struct fl_error *err)
{
    const struct fl_http_call what = {.method = method,
                                      .target = target,
                                      .content_type = type,
                                      .body = body ? body->data : NULL,
                                      .body_len = body ? body->len : 0,
                                      .timeout_ms = TIMEOUT_MS};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *answer = NULL;
    int status = 0, r = fl_http_call(command->client, &what, &status, &answer, NULL, err);

    if (r < 0)
        return r;
    if (status != 200)
        return fl_error_set(err, fl_error_from_status(NULL, status), "status %d: %.*s", status,
                            (int)(answer->len < 300 ? answer->len : 300),
                            (const char *)answer->data);
    return fl_json_parse((const char *)answer->data, answer->len, NULL, NULL, NULL, ret_answer,
                         err);
}

static const char *target_of(struct command *command)
{
    if (strcmp(command->protocol, "v2") == 0)
        return fl_arena_printf(command->arena, "/v2/models/%s/infer",
                               fl_url_encode(command->arena, command->model));
    if (strcmp(command->protocol, "v1") == 0)
        return fl_arena_printf(command->arena, "/v1/models/%s:predict",
                               fl_url_encode(command->arena, command->model));
    return "/invocations";
}

static int32_t largest(const json_t *numbers, size_t from, size_t count)
{
    double most = -INFINITY;
    int32_t place = -1;

    for (size_t i = 0; i < count; i++) {
        const double value = json_number_value(json_array_get(numbers, from + i));

        if (value > most) {
            most = value;
            place = (int32_t)i;
        }
    }
    return place;
}

static int judge(struct command *command, const json_t *answer, size_t from, size_t count,
                 struct fl_error *err)
{
    const json_t *output = json_array_get(json_object_get(answer, "outputs"), 0),
                 *flat = json_object_get(output, "data"),
                 *rows = json_object_get(answer, "predictions");
    const size_t classes =
        flat ? json_array_size(flat) / count : json_array_size(json_array_get(rows, 0));

    if (classes == 0 || (!flat && json_array_size(rows) != count))
        return fl_error_set(err, FL_E_INVALID, "the answer has not one row for each that was sent");
    for (size_t i = 0; i < count; i++) {
        const int32_t label = command->dataset->labels[fl_dataset_row(command->dataset, from + i)];
        const int32_t said = flat ? largest(flat, i * classes, classes)
                                  : largest(json_array_get(rows, i), 0, classes);

        command->right += said == label;
        command->asked++;
    }
    return 0;
}

static int ask(struct command *command, size_t from, size_t count, struct fl_error *err)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf body = {0};
    FL_JSON answer = NULL;
    const char *type = make_body(command, &body, from, count);
    int r = call(command, "POST", target_of(command), type, &body, &answer, err);

    return r < 0 ? r : judge(command, answer, from, count, err);
}

/* The server knows what it serves. */
static int find_model(struct command *command, struct fl_error *err)
{
    FL_JSON answer = NULL;
    const char *name;
    int r;

    if (command->model || strcmp(command->protocol, "mlflow") == 0 ||
        strcmp(command->protocol, "csv") == 0)
        return 0;
    r = call(command, "GET", "/v1/models", NULL, NULL, &answer, err);
    if (r < 0)
        return fl_error_wrap(err, "say --model NAME; the server's list");
    name = json_string_value(json_array_get(json_object_get(answer, "models"), 0));
    if (!name || strlen(name) > NAME_TEXT)
        return fl_error_set(err, FL_E_NOT_FOUND, "the server lists no model: say --model NAME");
    command->model = fl_arena_strdup(command->arena, name);
    return 0;
}

static int open_all(struct command *command, struct fl_error *err)
{
    const struct fl_data_store store = {
        fl_arena_printf(command->arena, "%s/data", command->data_dir), &command->env};
    struct fl_http_client_options options = fl_node_http(&command->flags);
    int r = fl_node_read_secret(command->arena, command->token_file, &command->token, err);

    options.base_url = command->url;
    options.bearer_token = command->token;
    if (r == 0)
        r = fl_data_store_open(&store, command->data, NULL, &command->dataset, err);
    if (r == 0 && !command->dataset->labels)
        r = fl_error_set(err, FL_E_INVALID, "data set %s has no classes", command->data);
    if (r == 0)
        r = fl_http_client_create(&options, &command->client, err);
    return r < 0 ? r : find_model(command, err);
}

static int ask_all(struct command *command, struct fl_error *err)
{
    const size_t batch = (size_t)command->batch;
    int r = open_all(command, err);
    size_t all;

    if (r < 0)
        return r;
    all = command->dataset->count;
    if (command->count > 0 && (size_t)command->count < all)
        all = (size_t)command->count;
    for (size_t at = 0; at < all && r == 0; at += batch)
        r = ask(command, at, all - at < batch ? all - at : batch, err);
    return r;
}

static bool knows(const char *protocol)
{
    static const char *const names[] = {"v2", "mlflow", "csv", "v1"};

    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        if (strcmp(names[i], protocol) == 0)
            return true;
    return false;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(command_finish)
    struct command command = {.protocol = "v2", .batch = 100, .arena = fl_arena_create()};
    struct fl_error err = {0};
    int status = parse(&command, argc, argv), r;

    if (status >= 0)
        return status;
    if (!knows(command.protocol))
        return fl_command_usage("predict", "--protocol %s: must be v2, mlflow, csv or v1",
                                command.protocol);
    command.env = fl_env_real(NULL);
    r = ask_all(&command, &err);
    if (r < 0)
        return fl_command_fail("predict", &err);
    (void)printf("%s: %zu of %zu right, accuracy %.4f\n", command.protocol, command.right,
                 command.asked, (double)command.right / (double)command.asked);
    return 0;
}

const struct fl_command fl_command_predict = {"predict", "ask a served model about a data set",
                                              run};
