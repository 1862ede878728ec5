/* `flops events`: what happened, the newest last. */
#include "api/table.h"
#include "cmd/command.h"
#include "cmd/event_list.h"
#include "cmd/follow.h"
#include "cmd/output.h"
#include "cmd/target.h"
#include "lib/str.h"

#include <stdio.h>

static const char help[] =
    "Usage: flops events [options]\n\n"
    "Shows what happened to the objects of a namespace, the newest last.\n\n"
    "  -A, --all-namespaces\n"
    "      --for TYPE/NAME    of one object\n"
    "      --types LIST       Normal, Warning or both (default)\n"
    "  -o, --output FORM      json, yaml, name, jsonpath=TEMPLATE\n"
    "  -w, --watch            then shows more as they come, until it is stopped\n"
    "      --no-headers\n" //
    FL_CLIENT_HELP "\nExamples:\n"
    "  flops events --for flp/fashion -w\n"
    "  flops events -A --types Warning\n"
    "\nExit status: 0; 1 refused; 2 wrong usage.\n";

struct events {
    struct fl_client_flags flags;
    bool all_namespaces, watch, no_headers;
    const char *object, *types, *output_text;

    struct fl_arena *arena;
    struct fl_client *client;
    struct fl_output output;
    const char *selector;
    size_t widths[FL_TABLE_WIDTHS_MAX];
};

static void events_finish(struct events *events)
{
    fl_arena_destroy(events->arena);
}

static int parse(struct events *events, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_CLIENT_OPTIONS(events->flags),
        {"all-namespaces", 'A', FL_OPTION_FLAG, &events->all_namespaces},
        {"for", 0, FL_OPTION_TEXT, &events->object},
        {"types", 0, FL_OPTION_TEXT, &events->types},
        {"output", 'o', FL_OPTION_TEXT, &events->output_text},
        {"watch", 'w', FL_OPTION_FLAG, &events->watch},
        {"no-headers", 0, FL_OPTION_FLAG, &events->no_headers},
    };
    struct fl_options options = {"events", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    struct fl_error err = {0};
    int status = fl_options_parse(&options, events->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("events", "unexpected argument \"%s\"", words.items[0]);
    if (fl_output_parse(events->arena, events->output_text, &events->output, &err) < 0)
        return fl_command_usage("events", "%s", err.msg);
    if (events->watch && !fl_output_is_table(&events->output))
        return fl_command_usage("events", "--watch shows tables only");
    return -1;
}

/* Whether the list "Normal,Warning" has a type. */
static bool has_type(const char *types, const char *type)
{
    size_t len = strlen(type);

    for (const char *at = types; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, type, len) == 0 && (!at[len] || at[len] == ','))
            return true;
    }
    return false;
}

static void keep_types(const struct events *events, json_t *list)
{
    for (size_t i = json_array_size(list); events->types && i > 0; i--) {
        const char *type = fl_json_str(json_array_get(list, i - 1), "type");

        if (!has_type(events->types, fl_str_or(type, "")))
            (void)json_array_remove(list, i - 1);
    }
}

static void print(struct events *events, const json_t *list)
{
    FL_JSON table =
        fl_events_table(list, events->all_namespaces, true, fl_realtime_us(&events->client->env));
    struct fl_table_print_options options = {.no_headers = events->no_headers,
                                             .widths = events->widths};
    struct fl_buf buf;

    if (json_array_size(list) == 0)
        return;
    fl_buf_init(&buf, 0);
    fl_table_print(table, &options, &buf);
    (void)fwrite(fl_buf_text(&buf), 1, buf.len, stdout);
    (void)fflush(stdout);
    fl_buf_finish(&buf);
    events->no_headers = true;
}

static int on_change(void *user, const char *event, json_t *object, struct fl_error *err)
{
    struct events *events = user;
    FL_JSON list = NULL;

    if (ferror(stdout))
        return fl_error_set(err, FL_E_UNAVAILABLE, "standard output is gone");
    if (strcmp(event, "DELETED") == 0)
        return 0;
    if (strcmp(event, "LIST") == 0) {
        list = json_copy(json_object_get(object, "items"));
        fl_events_sort(list);
    } else {
        list = json_pack("[O]", object);
    }
    keep_types(events, list);
    print(events, list);
    return 0;
}

static int find_object(struct events *events, struct fl_error *err)
{
    struct fl_words words = {.items = &events->object, .count = 1};
    struct fl_targets targets = {0};
    int r = fl_discovery_load(events->client, false, err);

    if (r == 0)
        r = fl_targets_parse(events->client->discovery, &words, &targets, err);
    if (r < 0)
        return r;
    if (targets.count != 1 || !targets.items[0].name)
        return fl_error_set(err, FL_E_BAD_REQUEST, "--for %s: must be TYPE/NAME", events->object);
    if (!targets.items[0].resource->namespaced)
        events->all_namespaces = true; /* its events are wherever their writer put them */
    events->selector = fl_events_selector(events->arena, targets.items[0].resource->kind,
                                          targets.items[0].name, NULL);
    return 0;
}

static int show(struct events *events, struct fl_error *err)
{
    FL_JSON list = NULL;
    FL_JSON whole = NULL;
    int r = fl_events_get(events->client, events->all_namespaces ? NULL : events->client->ns,
                          events->selector, &list, err);

    if (r < 0)
        return r;
    keep_types(events, list);
    if (fl_output_is_table(&events->output)) {
        print(events, list);
        if (json_array_size(list) == 0)
            (void)fprintf(stderr, "No events found\n");
        return 0;
    }
    whole = json_pack("{s:s,s:s,s:{},s:O}", "apiVersion", "v1", "kind", "List", "metadata", "items",
                      list);
    return fl_output_object(&events->output, events->client->discovery, NULL, whole, err);
}

static int follow(struct events *events, struct fl_error *err)
{
    const struct fl_api_resource resource = {
        .group = "", .version = "v1", .plural = "events", .namespaced = true};
    struct fl_follow follow = {
        .resource = &resource,
        .query = {.ns = events->all_namespaces ? NULL : events->client->ns,
                  .field_selector = events->selector,
                  .chunk_size = 500},
    };

    return fl_follow(events->client, &follow, on_change, events, err);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(events_finish) struct events events = {.arena = fl_arena_create()};
    struct fl_error err = {0};
    int status = parse(&events, argc, argv), r;

    if (status >= 0)
        return status;
    if (fl_client_open("events", &events.flags, events.arena, &events.client, &err) < 0)
        return fl_command_fail("events", &err);
    if (events.output.form == FL_OUTPUT_NAME && fl_discovery_load(events.client, false, &err) < 0)
        return fl_client_report(events.client, NULL, &err);
    r = events.object ? find_object(&events, &err) : 0;
    if (r == 0)
        r = events.watch ? follow(&events, &err) : show(&events, &err);
    return r < 0 ? fl_client_report(events.client, NULL, &err) : 0;
}

const struct fl_command fl_command_events = {"events", "show what happened", run};
