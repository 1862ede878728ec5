/* `flops logs`: what an instance of a Workload has printed. */
#include "cmd/command.h"
#include "cmd/target.h"
#include "lib/str.h"

#include <stdio.h>

#define QUIET_MS ((int64_t)24 * 3600 * 1000) /* a program may be silent for long */

static const char help[] =
    "Usage: flops logs [TYPE/]NAME [options]\n\n"
    "Prints the output of a Workload's instance, or the log of an ImageBuild.\n\n"
    "  -f, --follow           go on as it comes, until the instance ends\n"
    "      --tail N           the last N lines only\n"
    "  -p, --previous         of the run before the last\n"
    "      --instance N       which instance (default 0)\n"
    "      --timestamps       begin each line with its time\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops logs trainer\n"
    "  flops logs -f --tail 20 workload/trainer --instance 2\n"
    "  flops logs -f imagebuild/mnist\n"
    "\nExit status: 0; 1 there is none, or refused; 2 wrong usage.\n";

struct logs {
    struct fl_client_flags flags;
    bool follow, previous, timestamps;
    int64_t tail, instance;

    struct fl_arena *arena;
    struct fl_client *client;
};

static void logs_finish(struct logs *logs)
{
    fl_arena_destroy(logs->arena);
}

static int parse(struct logs *logs, int argc, char **argv, struct fl_words *words)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(logs->flags),
        {"follow", 'f', FL_OPTION_FLAG, &logs->follow},
        {"tail", 0, FL_OPTION_INT, &logs->tail},
        {"previous", 'p', FL_OPTION_FLAG, &logs->previous},
        {"instance", 0, FL_OPTION_INT, &logs->instance},
        {"timestamps", 0, FL_OPTION_FLAG, &logs->timestamps},
    };
    struct fl_options options = {"logs", help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, logs->arena, argc, argv, words);

    if (status >= 0)
        return status;
    if (words->count != 1)
        return fl_command_usage("logs", "say which: [TYPE/]NAME");
    if (logs->follow && logs->previous)
        return fl_command_usage("logs", "--follow and --previous exclude each other");
    return -1;
}

/* "NAME" is a Workload's; "TYPE/NAME" must have logs. */
static int find(struct logs *logs, const char *word, struct fl_target *ret_target,
                struct fl_error *err)
{
    const char *text =
        strchr(word, '/') ? word : fl_arena_printf(logs->arena, "workloads.flops.dev/%s", word);
    struct fl_words words = {.items = &text, .count = 1};
    struct fl_targets targets = {0};
    int r = fl_discovery_load(logs->client, false, err);

    if (r == 0)
        r = fl_targets_parse(logs->client->discovery, &words, &targets, err);
    if (r < 0)
        return r;
    if (targets.count != 1 || !targets.items[0].name)
        return fl_error_set(err, FL_E_BAD_REQUEST, "%s: must be NAME or TYPE/NAME", word);
    *ret_target = targets.items[0];
    return 0;
}

static const char *number(struct logs *logs, int64_t value)
{
    return value < 0 ? NULL : fl_arena_printf(logs->arena, "%lld", (long long)value);
}

static const char *target_of(struct logs *logs, const struct fl_target *target)
{
    struct fl_client *client = logs->client;
    const char *path = fl_client_path(
        client, target->resource, target->resource->namespaced ? client->ns : NULL, target->name);

    path = fl_arena_printf(logs->arena, "%s/log", path);
    path = fl_client_query(client, path, "follow", logs->follow ? "true" : NULL);
    path = fl_client_query(client, path, "previous", logs->previous ? "true" : NULL);
    path = fl_client_query(client, path, "timestamps", logs->timestamps ? "true" : NULL);
    path = fl_client_query(client, path, "tailLines", number(logs, logs->tail));
    return fl_client_query(client, path, "instance", number(logs, logs->instance));
}

static int print(void *user, const char *data, size_t len, struct fl_error *err)
{
    const struct logs *logs = user;

    (void)fwrite(data, 1, len, stdout);
    if (logs->follow)
        (void)fflush(stdout);
    return ferror(stdout) ? fl_error_set(err, FL_E_UNAVAILABLE, "standard output is gone") : 0;
}

static int print_log(struct logs *logs, const struct fl_target *target, struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    struct fl_http_call call = {
        .method = "GET",
        .target = target_of(logs, target),
        .accept = "text/plain, application/json",
        .as_it_comes = true,
        .timeout_ms = logs->follow ? QUIET_MS : logs->client->request_timeout_ms,
    };
    int http = 0, r;

    r = fl_http_stream(logs->client->http, &call, print, logs, &http, &body, err);
    if (r < 0)
        return r;
    return http >= 300 ? fl_client_refused(logs->client, http, body, err) : 0;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(logs_finish)
    struct logs logs = {.arena = fl_arena_create(), .tail = -1, .instance = -1};
    struct fl_words words = {0};
    struct fl_target target = {0};
    struct fl_error err = {0};
    int status = parse(&logs, argc, argv, &words);

    if (status >= 0)
        return status;
    if (fl_client_open("logs", &logs.flags, logs.arena, &logs.client, &err) < 0)
        return fl_command_fail("logs", &err);
    if (find(&logs, words.items[0], &target, &err) < 0 || print_log(&logs, &target, &err) < 0)
        return fl_client_report(logs.client, NULL, &err);
    return 0;
}

const struct fl_command fl_command_logs = {"logs", "print what a workload or a build has printed",
                                           run};
